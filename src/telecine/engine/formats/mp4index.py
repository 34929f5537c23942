"""The sample tables of an ordinary MP4 or MOV file (ISO/IEC 14496-12, 8.5–8.7).

One read of `moov` tells the time, size, place and kind of every frame of a 4 GB film, which stays
unread. Whole columns are worked on at C speed (`array`, `itertools`): about a million samples a
second. The file is a stranger's: columns are as long as the bytes that are there, never as long as
a header claims, and a table that contradicts itself is refused, so that the caller falls back to
reading packets.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain, repeat
from typing import BinaryIO

from telecine.engine.errors import InputRefused, StepFailed
from telecine.engine.formats.bmff import (
    AvcConfig,
    Box,
    SampleEntry,
    avc_config,
    boxes,
    header,
    malformed,
    sample_entry,
)

# Two tracks of MAX_SAMPLES with every table at its widest.
MAX_MOOV_BYTES = 256 << 20

# 19 hours at 60 fps. Raw sound has more (each sample of a wave is one here): it has no frames
# that anyone would ask for.
MAX_SAMPLES = 1 << 22

_MAX_TOP_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit list entry. `media_ticks` is -1 for an empty edit, which shows nothing."""

    duration_ticks: int  # movie timescale; 0 in the last one: to the end
    media_ticks: int  # the track's timescale
    rate: Fraction


@dataclass(frozen=True, slots=True)
class Samples:
    """Every sample in decode order, as columns of equal length. Times are ticks of the track's
    timescale before its edit list is applied; offsets are bytes of the file."""

    dts: array[int]
    pts: array[int]
    sizes: array[int]
    offsets: array[int]
    sync: Sequence[int]  # positions of the sync samples, rising
    end_dts: int


@dataclass(frozen=True, slots=True)
class Span:
    """What a track lasts, in ticks as in `Samples`, whose columns it does without."""

    count: int  # samples
    first_pts: int
    end_dts: int
    longest_step: int  # between the decode times of two samples; 0 where there are not two


@dataclass(frozen=True, slots=True)
class TrackTable:
    """One trak box. FFmpeg numbers its streams in this order."""

    track_id: int
    handler: str  # "vide", "soun", "text" …
    timescale: int
    duration_ticks: int  # mdhd: what the header claims
    movie_timescale: int
    edits: tuple[Edit, ...]
    entries: tuple[SampleEntry, ...]
    tables: Box  # stbl

    @property
    def avc(self) -> tuple[AvcConfig, ...]:
        """The avcC of every sample entry that has one.

        Raises:
            InputRefused: one is malformed.
        """
        with _refusing():
            found = (entry.find("avcC") for entry in self.entries)
            return tuple(avc_config(config) for config in found if config is not None)

    @property
    def shift_ticks(self) -> Fraction | None:
        """What to add to a `pts` of `Samples` for the time at which a viewer sees it; None if the
        edit list does more than shift (several pieces, another speed), so that no one number says
        it. Fractional where an empty edit is not a whole number of the track's ticks."""
        shift = Fraction(0)
        edits = list(self.edits)
        while edits and edits[0].media_ticks == -1:
            shift += Fraction(edits.pop(0).duration_ticks * self.timescale, self.movie_timescale)
        if not edits:
            return shift
        (edit, *more) = edits
        if more or edit.rate != 1:
            return None
        return shift - edit.media_ticks

    def samples(self) -> Samples:
        """All samples.

        Raises:
            InputRefused: (code `bad_sample_table`) the tables contradict each other, or name more
                than `MAX_SAMPLES` samples.
        """
        with _refusing():
            return _samples(self.tables)

    def span(self) -> Span:
        """How long the track is: from the runs of its tables, in no time however many samples.

        Raises:
            InputRefused: as `samples`, for what it reads of the tables.
        """
        with _refusing():
            return _span(self.tables)


@dataclass(frozen=True, slots=True)
class Movie:
    """A moov box. A `fragmented` file has samples, mostly all of them, that no table names."""

    timescale: int
    fragmented: bool
    tracks: tuple[TrackTable, ...]


@contextmanager
def _refusing() -> Iterator[None]:
    """In a source, a malformed box is the source's fault: no step has failed."""
    try:
        yield
    except StepFailed as error:
        raise InputRefused(error.message, code="bad_sample_table") from None


def read_moov(file: BinaryIO) -> bytes | None:
    """The moov box of an open, seekable file, wherever it stands; None if it has none that can be
    reached from box to box. Reads the headers of the top boxes and moov itself, nothing else.

    Raises:
        InputRefused: moov is larger than `MAX_MOOV_BYTES` or cut off.
        OSError: the file cannot be read.
    """
    at = 0
    for _ in range(_MAX_TOP_BOXES):
        file.seek(at)
        try:
            head = header(file.read(16))
        except StepFailed:
            return None  # also "up to the end of the file": nothing can follow
        if head is None:
            return None
        kind, _, size = head
        if kind == "moov":
            if size > MAX_MOOV_BYTES:
                raise InputRefused(f"'moov' claims {size} bytes", code="bad_sample_table")
            file.seek(at)
            data = file.read(size)
            if len(data) < size:
                raise InputRefused("the file ends inside 'moov'", code="bad_sample_table")
            return data
        at += size
    return None


def read_movie(moov: bytes) -> Movie:
    """Every track of a moov box (its header included). Sample columns are made when asked for.

    Raises:
        InputRefused: (code `bad_sample_table`) a box that every track must have is missing, cut
            off or contradicts itself.
    """
    with _refusing():
        (outer,) = boxes(memoryview(moov))
        mvhd = outer.child("mvhd")
        (timescale,) = mvhd.numbers("I", 20 if mvhd.full()[0] == 1 else 12)
        if timescale == 0:
            raise malformed("a movie timescale of 0")
        inner = outer.children()
        return Movie(
            timescale=timescale,
            fragmented=any(item.kind == "mvex" for item in inner),
            tracks=tuple(_track(item, timescale) for item in inner if item.kind == "trak"),
        )


def _track(trak: Box, movie_timescale: int) -> TrackTable:
    tkhd = trak.child("tkhd")
    (track_id,) = tkhd.numbers("I", 20 if tkhd.full()[0] == 1 else 12)
    mdia = trak.child("mdia")
    mdhd = mdia.child("mdhd")
    timescale, duration = mdhd.numbers(*(("IQ", 20) if mdhd.full()[0] == 1 else ("II", 12)))
    if timescale == 0:
        raise malformed("a timescale of 0")
    handler = bytes(mdia.child("hdlr").body[8:12]).decode("latin-1")
    stbl = mdia.child("minf").child("stbl")
    entries = boxes(stbl.child("stsd").body[8:])
    return TrackTable(
        track_id=track_id,
        handler=handler,
        timescale=timescale,
        duration_ticks=duration,
        movie_timescale=movie_timescale,
        edits=_edits(trak),
        entries=tuple(sample_entry(entry, handler) for entry in entries),
        tables=stbl,
    )


def _edits(trak: Box) -> tuple[Edit, ...]:
    edts = trak.find("edts")
    elst = edts.find("elst") if edts is not None else None
    if elst is None:
        return ()
    version, _ = elst.full()
    layout, width = ("QqI", 20) if version == 1 else ("IiI", 12)
    (count,) = elst.numbers("I", 4)
    if count * width > len(elst.body) - 8:
        raise malformed(f"'elst' claims {count} entries")
    return tuple(
        Edit(duration, media, Fraction(rate, 0x10000))
        for duration, media, rate in (
            elst.numbers(layout, at) for at in range(8, 8 + count * width, width)
        )
    )


def _column(table: Box, letter: str, count: int, at: int) -> array[int]:
    """`count` big-endian integers of one `array` letter from a table's body."""
    column = array(letter)
    size = count * column.itemsize
    if size > len(table.body) - at:
        raise malformed(f"'{table.kind}' is too short for what it claims")
    column.frombytes(table.body[at : at + size])
    if sys.byteorder == "little":  # pragma: no branch - no big-endian machine runs the tests
        column.byteswap()
    return column


def _rows(stbl: Box, kind: str, width: int) -> list[array[int]]:
    """The columns of a table whose rows are `width` 32-bit integers."""
    table = stbl.child(kind)
    (count,) = table.numbers("I", 4)
    if count > MAX_SAMPLES:
        raise malformed(f"'{kind}' claims {count} rows; the limit is {MAX_SAMPLES}")
    flat = _column(table, "I", count * width, 8)
    return [flat[n::width] for n in range(width)]


def _sizes(stbl: Box) -> array[int]:
    stsz = stbl.child("stsz")
    size, count = stsz.numbers("II", 4)
    if count > MAX_SAMPLES:
        raise malformed(f"'stsz' claims {count} samples; the limit is {MAX_SAMPLES}")
    return array("I", [size]) * count if size else _column(stsz, "I", count, 12)


def _expand(kind: str, counts: array[int], values: array[int], count: int) -> chain[int]:
    """A run-length table as one value a sample."""
    if sum(counts) != count:
        raise malformed(f"'{kind}' is of {sum(counts)} samples, 'stsz' of {count}")
    return chain.from_iterable(map(repeat, values, counts))


def _offsets(stbl: Box, sizes: array[int]) -> array[int]:
    """Where each sample starts: chunk offset plus the sizes before it in its chunk."""
    if stbl.find("co64") is not None:
        table = stbl.child("co64")
        chunks = _column(table, "Q", table.numbers("I", 4)[0], 8)
    else:
        (chunks,) = _rows(stbl, "stco", 1)
    if chunks and max(chunks) >= 1 << 62:
        raise malformed(f"a chunk at byte {max(chunks)}")
    firsts, per_chunk, _ = _rows(stbl, "stsc", 3)
    # Runs of chunks: the first one starts at chunk 1, the last one reaches to the last chunk.
    edges = firsts + array("I", [len(chunks) + 1])
    spans = array("q", map(operator.sub, edges[1:], edges))
    if edges[0] != 1 or min(spans, default=0) < 0:
        raise malformed("'stsc' does not name the chunks in order")
    held = array("Q", chain.from_iterable(map(repeat, per_chunk, spans)))
    if sum(held) != len(sizes):
        raise malformed(f"'stsc' is of {sum(held)} samples, 'stsz' of {len(sizes)}")
    before = array("Q", accumulate(sizes, initial=0))
    starts = accumulate(held, initial=0)
    # offset(i) = chunk + before(i) - before(first of chunk), the last two terms once a chunk
    bases = map(operator.sub, chunks, map(before.__getitem__, starts))
    return array("Q", map(operator.add, chain.from_iterable(map(repeat, bases, held)), before))


def _durations(stbl: Box) -> tuple[array[int], array[int]]:
    """The runs of `stts`: how many samples last how long."""
    runs, deltas = _rows(stbl, "stts", 2)
    if deltas and max(deltas) >= 1 << 31:
        raise malformed("a negative sample duration")
    return runs, deltas


def _composition(stbl: Box) -> tuple[array[int], array[int]] | None:
    """The runs of `ctts`, where there is one: how many samples are shown how much later."""
    if stbl.find("ctts") is None:
        return None
    # Version 0 says unsigned and real files store negative offsets in it all the same.
    runs, unsigned = _rows(stbl, "ctts", 2)
    return runs, array("i", unsigned.tobytes())


def _span(stbl: Box) -> Span:
    runs, deltas = _durations(stbl)
    shifts = _composition(stbl)
    held = [(run, delta) for run, delta in zip(runs, deltas, strict=True) if run]
    steps = held
    if held:  # what the last sample lasts leads to no other
        (run, delta) = held[-1]
        steps = [*held[:-1], (run - 1, delta)]
    return Span(
        count=sum(runs),
        first_pts=shifts[1][0] if shifts is not None and shifts[1] else 0,
        end_dts=sum(run * delta for run, delta in held),
        longest_step=max((delta for run, delta in steps if run), default=0),
    )


def _samples(stbl: Box) -> Samples:
    sizes = _sizes(stbl)
    count = len(sizes)
    runs, deltas = _durations(stbl)
    dts = array("q", accumulate(_expand("stts", runs, deltas, count), initial=0))
    end = dts.pop()
    pts = dts
    shifts = _composition(stbl)
    if shifts is not None:
        pts = array("q", map(operator.add, dts, _expand("ctts", *shifts, count)))
    sync: Sequence[int] = range(count)
    if stbl.find("stss") is not None:
        (numbers,) = _rows(stbl, "stss", 1)
        in_range = not numbers or 0 < numbers[0] <= numbers[-1] <= count
        if not in_range or any(map(operator.ge, numbers, numbers[1:])):
            raise malformed("'stss' does not name samples in order")
        sync = array("I", map(operator.sub, numbers, repeat(1)))
    return Samples(dts, pts, sizes, _offsets(stbl, sizes), sync, end)
