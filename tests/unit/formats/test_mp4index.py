"""Sample tables: built here box by box from the standard, expected columns written by hand."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.thorough import examples
from tests.unit.boxes import atom, words

from telecine.engine.errors import InputRefused
from telecine.engine.formats import mp4index


def table(kind: str, *rows: tuple[int, ...]) -> bytes:
    return atom(kind, words(0, len(rows)), *(words(*row) for row in rows))


AVCC = bytes.fromhex("01 64001f ff e1 0004 67640010 01 0003 68eb8f")
AVC = atom("avc1", bytes(6), b"\0\1", bytes(16), b"\5\0\2\xd0", bytes(50), atom("avcC", AVCC))

# Five samples: two chunks of two and one, one chunk of two. I P B B I in decode order.
STTS = table("stts", (4, 1000), (1, 500))
CTTS = table("ctts", (1, 0), (1, 2000), (2, -1000), (1, 0))
STSS = table("stss", (1,), (5,))
STSZ = atom("stsz", words(0, 0, 5, 90, 20, 11, 12, 80))
STSC = table("stsc", (1, 2, 1), (2, 1, 1), (3, 2, 1))
STCO = table("stco", (1000,), (5000,), (3000,))


def track(
    *tables: bytes,
    edits: bytes = b"",
    handler: bytes = b"vide",
    timescale: int = 24000,
    entries: bytes = AVC,
    long_times: bool = False,
) -> bytes:
    long = words(0x01000000) + bytes(16) if long_times else bytes(12)
    duration = bytes(4) + words(777) if long_times else words(777)
    mdhd = atom("mdhd", long, words(timescale), duration, bytes(4))
    hdlr = atom("hdlr", bytes(8), handler, bytes(13))
    stsd = atom("stsd", words(0, 1), entries)
    stbl = atom("stbl", stsd, *tables)
    tkhd = atom("tkhd", long, words(7, 0), bytes(60))
    return atom("trak", tkhd, edits, atom("mdia", mdhd, hdlr, atom("minf", stbl)))


def moov(*inner: bytes, timescale: int = 600, long_times: bool = False) -> bytes:
    long = words(0x01000000) + bytes(16) if long_times else bytes(12)
    return atom("moov", atom("mvhd", long, words(timescale), bytes(80)), *inner)


def elst(*entries: bytes, version: int = 0) -> bytes:
    return atom("edts", atom("elst", words(version << 24, len(entries)), *entries))


ORDINARY = track(STTS, CTTS, STSS, STSZ, STSC, STCO)


def only(data: bytes) -> mp4index.TrackTable:
    (found,) = mp4index.read_movie(data).tracks
    return found


@pytest.mark.parametrize("long_times", [False, True])
def test_a_track_is_read(long_times: bool) -> None:
    movie = mp4index.read_movie(
        moov(
            track(STTS, CTTS, STSS, STSZ, STSC, STCO, long_times=long_times), long_times=long_times
        )
    )
    (found,) = movie.tracks
    assert (movie.timescale, movie.fragmented) == (600, False)
    assert (found.track_id, found.handler, found.timescale) == (7, "vide", 24000)
    assert (found.duration_ticks, found.movie_timescale) == (777, 600)
    assert [(entry.kind, entry.width, entry.height) for entry in found.entries] == [
        ("avc1", 1280, 720)
    ]
    (avc,) = found.avc
    assert (avc.length_size, len(avc.sps), len(avc.pps)) == (4, 1, 1)


def test_every_sample_has_its_time_size_place_and_kind() -> None:
    samples = only(moov(ORDINARY)).samples()
    assert samples.dts.tolist() == [0, 1000, 2000, 3000, 4000]
    assert samples.pts.tolist() == [0, 3000, 1000, 2000, 4000]
    assert samples.end_dts == 4500
    assert samples.sizes.tolist() == [90, 20, 11, 12, 80]
    assert samples.offsets.tolist() == [1000, 1090, 5000, 3000, 3012]
    assert list(samples.sync) == [0, 4]


def test_a_track_lasts_what_its_samples_last_together() -> None:
    # 1000 1000 1000 1000 500, as ORDINARY: the last one leads to no other
    assert only(moov(ORDINARY)).span() == mp4index.Span(5, 0, 4500, 1000)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], (0, 0, 0, 0)),
        ([(1, 70)], (1, 0, 70, 0)),
        ([(3, 10), (1, 99)], (4, 0, 129, 10)),
        ([(3, 10), (2, 99)], (5, 0, 228, 99)),
        ([(2, 10), (0, 500)], (2, 0, 20, 10)),
    ],
)
def test_the_longest_step_lies_between_two_samples(
    runs: list[tuple[int, int]], expected: tuple[int, int, int, int]
) -> None:
    found = only(moov(track(table("stts", *runs)))).span()
    assert (found.count, found.first_pts, found.end_dts, found.longest_step) == expected


def test_a_track_that_is_shown_later_says_so() -> None:
    tables = (table("stts", (2, 10)), table("ctts", (1, 7), (1, 0)))
    assert only(moov(track(*tables))).span() == mp4index.Span(2, 7, 20, 10)


def test_without_ctts_and_stss_all_samples_are_sync_and_shown_in_order() -> None:
    co64 = atom("co64", words(0, 1, 1, 0))
    stsz = atom("stsz", words(0, 7, 3))
    samples = only(
        moov(track(table("stts", (3, 10)), stsz, table("stsc", (1, 3, 1)), co64))
    ).samples()
    assert samples.pts.tolist() == samples.dts.tolist() == [0, 10, 20]
    assert samples.sizes.tolist() == [7, 7, 7]
    assert samples.offsets.tolist() == [1 << 32, (1 << 32) + 7, (1 << 32) + 14]
    assert list(samples.sync) == [0, 1, 2]


def test_a_track_without_samples_is_empty() -> None:
    empty = (table("stts"), atom("stsz", bytes(12)), table("stsc"), table("stco"))
    movie = mp4index.read_movie(moov(track(*empty), atom("mvex")))
    assert movie.fragmented
    # 14496-12 wants stsc to start at chunk 1 only where there is a chunk
    samples = movie.tracks[0].samples()
    assert (len(samples.pts), samples.end_dts, list(samples.sync)) == (0, 0, [])


@pytest.mark.parametrize(
    ("edits", "shift"),
    [
        (b"", Fraction(0)),
        (atom("edts"), Fraction(0)),
        (elst(), Fraction(0)),
        (elst(words(0, 2000, 0x10000)), Fraction(-2000)),
        # half a second of nothing, then the track from its tick 1024 on
        (elst(words(300, -1, 0x10000), words(9, 1024, 0x10000)), Fraction(12000 - 1024)),
        (elst(words(1, -1, 0x10000)), Fraction(40)),
        (elst(words(9, 0, 0x8000)), None),
        (elst(words(9, 0, 0x10000), words(9, 500, 0x10000)), None),
        (elst(bytes(8) + words(0, 1001) + words(0x10000), version=1), Fraction(-1001)),
        (elst(bytes(8) + words(-1, -1) + words(0x10000), version=1), Fraction(0)),
    ],
)
def test_edit_lists(edits: bytes, shift: Fraction | None) -> None:
    assert only(moov(track(edits=edits))).shift_ticks == shift


def test_tracks_of_other_kinds_and_several_entries_are_listed() -> None:
    other = track(handler=b"text", entries=atom("tx3g", b"..."))
    two = track(entries=AVC + AVC)
    movie = mp4index.read_movie(moov(other, two))
    assert [found.handler for found in movie.tracks] == ["text", "vide"]
    assert [len(found.avc) for found in movie.tracks] == [0, 2]


HUGE = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ((STTS, STSC, STCO), "'stbl' has no 'stsz'"),
        ((atom("stsz", words(0, 0, HUGE)), STTS, STSC, STCO), "the limit is"),
        ((atom("stsz", words(0, 1, HUGE)), STTS, STSC, STCO), "the limit is"),
        ((atom("stsz", words(0, 0, 6, 1, 1)), STTS, STSC, STCO), "'stsz' is too short"),
        ((STSZ, table("stts", (4, 1000)), STSC, STCO), "'stts' is of 4 samples, 'stsz' of 5"),
        ((STSZ, table("stts", (HUGE, 1)), STSC, STCO), f"'stts' is of {HUGE} samples"),
        (
            (STSZ, atom("stts", words(0, HUGE, 5, 1)), STSC, STCO),
            "'stts' claims 4294967295 rows; the limit",
        ),
        ((STSZ, atom("stts", words(0, 2, 5, 1)), STSC, STCO), "'stts' is too short"),
        ((STSZ, table("stts", (5, 1 << 31)), STSC, STCO), "a negative sample duration"),
        ((STSZ, STTS, table("ctts", (6, 0)), STSC, STCO), "'ctts' is of 6 samples"),
        ((STSZ, STTS, STSC), "'stbl' has no 'stco'"),
        ((STSZ, STTS, STSC, atom("co64", words(0, 1, 1 << 30, 0))), "a chunk at byte"),
        ((STSZ, STTS, table("stsc", (2, 5, 1)), STCO), "does not name the chunks in order"),
        ((STSZ, STTS, table("stsc", (1, 5, 1), (5, 1, 1)), STCO), "does not name the chunks"),
        ((STSZ, STTS, table("stsc"), STCO), "does not name the chunks"),
        ((STSZ, STTS, table("stsc", (1, HUGE, 1)), STCO), "'stsc' is of"),
        ((STSZ, STTS, table("stss", (0,)), STSC, STCO), "'stss' does not name"),
        ((STSZ, STTS, table("stss", (6,)), STSC, STCO), "'stss' does not name"),
        ((STSZ, STTS, table("stss", (1,), (9,), (2,)), STSC, STCO), "'stss' does not name"),
        ((STSZ, STTS, table("stss", (2,), (2,)), STSC, STCO), "'stss' does not name"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    tables: tuple[bytes, ...], message: str
) -> None:
    found = only(moov(track(*tables)))
    with pytest.raises(InputRefused, match=message) as caught:
        found.samples()
    assert caught.value.code == "bad_sample_table"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (moov(ORDINARY, timescale=0), "movie timescale of 0"),
        (moov(track(timescale=0)), "a timescale of 0"),
        (moov(atom("trak")), "'trak' has no 'tkhd'"),
        (moov(track(edits=atom("edts", atom("elst", words(0, HUGE))))), "'elst' claims"),
        (moov(ORDINARY)[:-1], "claims"),
        (moov(track(entries=AVC[:40])), "claims"),
    ],
)
def test_movies_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputRefused, match=message) as caught:
        mp4index.read_movie(data)
    assert caught.value.code == "bad_sample_table"


def test_a_malformed_configuration_is_the_sources_fault() -> None:
    entry = atom("avc1", bytes(78), atom("avcC", AVCC[:7]))
    with pytest.raises(InputRefused, match="'avcC' is too short"):
        _ = only(moov(track(entries=entry))).avc


# -- finding moov ----------------------------------------------------------------------------


def test_moov_is_found_behind_the_media_which_is_not_read() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    data = moov(ORDINARY)
    wide = words(1) + b"mdat" + (1_000_016).to_bytes(8, "big") + bytes(1_000_000)
    file = Counting(atom("ftyp", b"isom") + wide + data + b"junk")
    assert mp4index.read_moov(file) == data
    assert file.taken <= 3 * 16 + len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        atom("ftyp"),
        words(0) + b"mdat" + bytes(50) + moov(ORDINARY),  # "up to the end of the file"
        atom("free") * 10_001 + moov(ORDINARY),
    ],
)
def test_a_file_may_have_no_moov_that_can_be_reached(data: bytes) -> None:
    assert mp4index.read_moov(io.BytesIO(data)) is None


def test_a_moov_that_is_cut_off_or_absurd_is_refused() -> None:
    with pytest.raises(InputRefused, match="ends inside 'moov'"):
        mp4index.read_moov(io.BytesIO(moov(ORDINARY)[:-1]))
    with pytest.raises(InputRefused, match="'moov' claims 4294967295 bytes"):
        mp4index.read_moov(io.BytesIO(words(0xFFFFFFFF) + b"moov" + bytes(8)))


# -- any table, and any damage ---------------------------------------------------------------


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 99), st.integers(0, 500)), min_size=1, max_size=5),
        min_size=1,
        max_size=8,
    )
)
@examples(times=2)
def test_any_chunks_come_back(chunks: list[list[tuple[int, int]]]) -> None:
    """Against the plainest way to say it: walk the chunks one by one."""
    flat = [sample for chunk in chunks for sample in chunk]
    starts = [1_000_000 - 10_000 * n for n in range(len(chunks))]
    expected = [
        start + before
        for start, chunk in zip(starts, chunks, strict=True)
        for before in list(accumulate((size for size, _ in chunk), initial=0))[:-1]
    ]
    tables = (
        table("stts", *((1, delta) for _, delta in flat)),
        atom("stsz", words(0, 0, len(flat), *(size for size, _ in flat))),
        table("stsc", *((n + 1, len(chunk), 1) for n, chunk in enumerate(chunks))),
        table("stco", *((start,) for start in starts)),
    )
    samples = only(moov(track(*tables))).samples()
    assert samples.offsets.tolist() == expected
    times = list(accumulate((d for _, d in flat), initial=0))
    assert [*samples.dts, samples.end_dts] == times
    span = only(moov(track(*tables))).span()
    steps = [b - a for a, b in pairwise(times[:-1])]
    assert span == mp4index.Span(len(flat), 0, times[-1], max(steps, default=0))


@given(st.data())
@examples(times=3)
def test_a_damaged_moov_is_read_or_refused_in_words(draw: st.DataObject) -> None:
    data = bytearray(moov(ORDINARY))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(8, len(data) - 1))
        data[at] = draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    with suppress(InputRefused):
        for found in mp4index.read_movie(bytes(data)).tracks:
            found.samples()
            found.span()


def test_half_a_million_samples_in_the_worst_layout_take_under_a_second() -> None:
    """Each sample has a chunk, a duration and an offset of its own: no run is longer than one."""
    count = 500_000
    row = words(1, 1000)
    tables = (
        atom("stts", words(0, count), row * count),
        atom("ctts", words(0, count), row * count),
        atom("stsz", words(0, 0, count), words(100) * count),
        table("stsc", (1, 1, 1)),
        atom("stco", words(0, count), words(4096) * count),
    )
    data = moov(track(*tables))
    begin = time.process_time()
    samples = only(data).samples()
    assert time.process_time() - begin < 1
    assert (len(samples.pts), samples.pts[-1], samples.offsets[-1]) == (count, count * 1000, 4096)
