"""Boxes, init segments and fragments: bytes written by hand from the standard's own tables, one
real init segment of FFmpeg's, and round trips."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.thorough import examples
from tests.unit.boxes import atom, words
from tests.unit.sources import HDR10

from telecine.engine.errors import StepFailed
from telecine.engine.formats import bmff, cmaf
from telecine.engine.formats.cmaf import Fragment, FragmentReader, Init, Sample, Track
from telecine.engine.media import Light

# What FFmpeg 9.0.2 wrote for: -f lavfi -i testsrc2=s=64x36:r=24 -c:v libx264 -pix_fmt yuv420p
# -frames:v 1 -movflags empty_moov+frag_keyframe+default_base_moof -video_track_timescale 24000
# (ftyp and moov).
FFMPEG_INIT = base64.b64decode(
    """
AAAAHGZ0eXBpc281AAACAGlzbzVpc282bXA0MQAAAu5tb292AAAAbG12aGQAAAAAAAAAAAAAAAAAAAPoAAAAAAAB
AAABAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAACAAAB8XRyYWsAAABcdGtoZAAAAAMAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAQAAAACQAAAAAAY1tZGlhAAAAIG1kaGQAAAAA
AAAAAAAAAAAAAF3AAAAAAFXEAAAAAAAtaGRscgAAAAAAAAAAdmlkZQAAAAAAAAAAAAAAAFZpZGVvSGFuZGxlcgAA
AAE4bWluZgAAABR2bWhkAAAAAQAAAAAAAAAAAAAAJGRpbmYAAAAcZHJlZgAAAAAAAAABAAAADHVybCAAAAABAAAA
+HN0YmwAAACsc3RzZAAAAAAAAAABAAAAnGF2YzEAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAQAAkAEgAAABIAAAA
AAAAAAEUTGF2YzYzLjEuMTAyIGxpYngyNjQAAAAAAAAAAAAAAAAY//8AAAA2YXZjQwFkAAr/4QAZZ2QACqzZRH+f
ARAAAAMAEAAAAwMA8SJZYAEABmjr48siwP34+AAAAAAQcGFzcAAAAAEAAAABAAAAEHN0dHMAAAAAAAAAAAAAABBz
dHNjAAAAAAAAAAAAAAAUc3RzegAAAAAAAAAAAAAAAAAAABBzdGNvAAAAAAAAAAAAAAAobXZleAAAACB0cmV4AAAA
AAAAAAEAAAABAAAAAAAAAAAAAAAAAAAAYXVkdGEAAABZbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAbWRpcmFwcGwA
AAAAAAAAAAAAAAAsaWxzdAAAACSpdG9vAAAAHGRhdGEAAAABAAAAAExhdmY2My4xLjEwMg==
"""
)
# The same for -f lavfi -i sine -c:a aac -ac 2 -ar 48000.
FFMPEG_SOUND_INIT = base64.b64decode(
    """
AAAAHGZ0eXBpc281AAACAGlzbzVpc282bXA0MQAAArxtb292AAAAbG12aGQAAAAAAAAAAAAAAAAAALuAAAAAAAAB
AAABAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAACAAABv3RyYWsAAABcdGtoZAAAAAMAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAQEA
AAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAVttZGlhAAAAIG1kaGQAAAAA
AAAAAAAAAAAAALuAAAAAAFXEAAAAAAAtaGRscgAAAAAAAAAAc291bgAAAAAAAAAAAAAAAFNvdW5kSGFuZGxlcgAA
AAEGbWluZgAAABBzbWhkAAAAAAAAAAAAAAAkZGluZgAAABxkcmVmAAAAAAAAAAEAAAAMdXJsIAAAAAEAAADKc3Ri
bAAAAH5zdHNkAAAAAAAAAAEAAABubXA0YQAAAAAAAAABAAAAAAAAAAAAAgAQAAAAALuAAAAAAAA2ZXNkcwAAAAAD
gICAJQABAASAgIAXQBUAAAAAAfQAAAH0AAWAgIAFEZBW5QAGgICAAQIAAAAUYnRydAAAAAAAAfQAAAH0AAAAABBz
dHRzAAAAAAAAAAAAAAAQc3RzYwAAAAAAAAAAAAAAFHN0c3oAAAAAAAAAAAAAAAAAAAAQc3RjbwAAAAAAAAAAAAAA
KG12ZXgAAAAgdHJleAAAAAAAAAABAAAAAQAAAAAAAAAAAAAAAAAAAGF1ZHRhAAAAWW1ldGEAAAAAAAAAIWhkbHIA
AAAAAAAAAG1kaXJhcHBsAAAAAAAAAAAAAAAALGlsc3QAAAAkqXRvbwAAABxkYXRhAAAAAQAAAABMYXZmNjMuMS4x
MDI=
"""
)

VIDEO = Track(track_id=1, handler="vide", timescale=24000, codec="avc1.64000a", language="und")


# -- init segments ---------------------------------------------------------------------------


def test_an_init_segment_of_ffmpeg_is_read() -> None:
    track = cmaf.read_init(FFMPEG_INIT)
    assert (track.track_id, track.handler, track.timescale) == (1, "vide", 24000)
    assert (track.width, track.height, track.sar) == (64, 36, Fraction(1))
    assert track.codec == "avc1.64000a"  # High, level 1.0: what mediainfo says of the file
    assert track.nal_length_size == 4
    assert [unit[0] & 0x1F for unit in track.parameter_sets] == [7, 8]  # SPS, PPS
    assert track.edit_offset_ticks == 0
    assert track.language == "und"


def test_a_sound_init_segment_is_read() -> None:
    track = cmaf.read_init(FFMPEG_SOUND_INIT)
    assert (track.handler, track.timescale, track.codec) == ("soun", 48000, "mp4a.40.2")
    assert (track.channels, track.sample_rate) == (2, 48000)
    assert track.parameter_sets == ()


@pytest.mark.parametrize("init", [FFMPEG_INIT, FFMPEG_SOUND_INIT])
def test_the_canonical_init_says_the_same(init: bytes) -> None:
    before = cmaf.read_init(init)
    assert cmaf.read_init(cmaf.write_init(init, edit_offset_ticks=0)) == before
    shifted = cmaf.read_init(cmaf.write_init(init, edit_offset_ticks=2000))
    assert shifted == replace(before, edit_offset_ticks=2000)


@pytest.mark.parametrize("init", [FFMPEG_INIT, FFMPEG_SOUND_INIT])
def test_the_canonical_init_is_a_fixed_point_without_tool_or_bitrate(init: bytes) -> None:
    canonical = cmaf.write_init(init, edit_offset_ticks=0)
    assert cmaf.write_init(canonical, edit_offset_ticks=0) == canonical
    assert b"Lav" not in canonical
    assert b"btrt" not in canonical
    assert b"edts" not in canonical
    assert canonical[:8] == words(24) + b"ftyp"
    assert canonical[8:24] == b"cmfc" + bytes(4) + b"cmfciso6"


def test_the_edit_list_is_one_offset_to_the_end() -> None:
    canonical = cmaf.write_init(FFMPEG_INIT, edit_offset_ticks=2000)
    at = canonical.index(b"edts")
    # one entry: segment_duration 0 (to the end), media_time 2000, rate 1.0
    assert canonical[at - 4 : at + 32] == words(36) + b"edts" + words(28) + b"elst" + words(
        0, 1, 0, 2000, 0x10000
    )


def test_an_edit_list_is_not_written_twice() -> None:
    canonical = cmaf.write_init(FFMPEG_INIT, edit_offset_ticks=2000)
    with pytest.raises(StepFailed, match="already has an edit list"):
        cmaf.write_init(canonical, edit_offset_ticks=2000)


def test_a_turned_picture_is_no_rung() -> None:
    turned = bytes(4) + words(0x10000) + bytes(4) + words(-0x10000)
    plain = words(0x10000) + bytes(12)
    at = FFMPEG_INIT.index(b"tkhd") + 4 + 40
    assert FFMPEG_INIT[at : at + 16] == plain
    init = FFMPEG_INIT[:at] + turned + FFMPEG_INIT[at + 16 :]
    with pytest.raises(StepFailed, match="rotation matrix"):
        cmaf.write_init(init, edit_offset_ticks=0)


# Fields in the order of ISO/IEC 14496-12, 12.1.6 and 12.1.7: green, blue, red, white, each x and
# y in 16 bits, then the luminances in 32; MaxCLL and MaxFALL in 16. By hand from sources.HDR10.
MDCV = bytes.fromhex("33c286c4 1d4c0bb8 84d03e80 3d134042 00989680 00000032")
CLLI = bytes.fromhex("03e8 0190")


@pytest.mark.parametrize(
    ("light", "boxes"),
    [
        (HDR10.video[0].light, atom("mdcv", MDCV) + atom("clli", CLLI)),
        (Light(content=(1000, 400)), atom("clli", CLLI)),
        (Light((13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50)),
         atom("mdcv", MDCV)),
        (None, b""),
    ],
)  # fmt: skip
def test_the_light_of_an_init_is_the_plans_and_not_the_chunks(
    light: Light | None, boxes: bytes
) -> None:
    of_a_chunk = atom("mdcv", bytes(24)) + atom("clli", bytes(4))
    entry = visual("avc1", atom("avcC", AVCC), of_a_chunk)
    canonical = cmaf.write_init(init_segment(entry), edit_offset_ticks=0, light=light)
    begin = canonical.index(b"avc1") - 4
    end = begin + int.from_bytes(canonical[begin : begin + 4], "big")
    # A visual sample entry is 86 bytes long without its boxes (14496-12, 12.1.3).
    assert canonical[begin + 86 : end] == atom("avcC", AVCC) + boxes
    assert cmaf.read_init(canonical).light == light


# -- an init segment of one's own making, to bend each part of it -----------------------------

AVCC = bytes.fromhex("01 64001f ff e1 0004 67640010 01 0003 68eb8f")


def visual(kind: str, *inner: bytes) -> bytes:
    size = bytes(16) + (1280).to_bytes(2, "big") + (720).to_bytes(2, "big")
    tail = words(0x480000, 0x480000, 0) + b"\0\1" + bytes(32) + b"\0\x18\xff\xff"
    return atom(kind, bytes(6), b"\0\1", size, tail, *inner)


def sound(kind: str, *inner: bytes, version: int = 0, extension: bytes = b"") -> bytes:
    fields = version.to_bytes(2, "big") + bytes(6) + b"\0\2\0\x10" + bytes(4) + words(48000 << 16)
    return atom(kind, bytes(6), b"\0\1", fields, extension, *inner)


def init_segment(
    entry: bytes,
    *,
    handler: str = "vide",
    entries: int = 1,
    tracks: int = 1,
    timescale: int = 24000,
    language: int = 0x55C4,
    edits: bytes = b"",
    trex_track: int = 7,
    long_times: bool = False,
) -> bytes:
    matrix = words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    two = bytes(16) if long_times else bytes(8)
    duration = bytes(8) if long_times else bytes(4)
    version = words(0x01000000 if long_times else 0)
    tkhd = atom("tkhd", version, two, words(7, 0), duration, bytes(16), matrix, bytes(8))
    mdhd = atom(
        "mdhd", version, two, words(timescale), duration, language.to_bytes(2, "big"), bytes(2)
    )
    hdlr = atom("hdlr", bytes(8), handler.encode(), bytes(13))
    stsd = atom("stsd", words(0, entries), entry)
    mdia = atom("mdia", mdhd, hdlr, atom("minf", atom("stbl", stsd)))
    trak = atom("trak", tkhd, edits, mdia)
    trex = atom("trex", words(0, trex_track, 1, 1000, 5, 0x10000))
    return atom("moov", trak * tracks, atom("mvex", trex))


def test_long_times_language_and_defaults_are_read() -> None:
    entry = visual("avc1", atom("avcC", AVCC), atom("pasp", words(4, 3)))
    track = cmaf.read_init(init_segment(entry, long_times=True, language=0x15C7))
    assert track == Track(
        track_id=7,
        handler="vide",
        timescale=24000,
        codec="avc1.64001f",
        language="eng",  # 5, 14, 7: letters of the alphabet
        width=1280,
        height=720,
        sar=Fraction(4, 3),
        config=AVCC,
        nal_length_size=4,
        parameter_sets=(bytes.fromhex("67640010"), bytes.fromhex("68eb8f")),
        default_duration=1000,
        default_size=5,
        default_flags=0x10000,
    )


def test_a_language_in_the_old_macintosh_code_is_unknown() -> None:
    entry = visual("avc1", atom("avcC", AVCC), atom("pasp", words(0, 0)))
    track = cmaf.read_init(init_segment(entry, language=0))
    assert (track.language, track.sar) == ("und", Fraction(1))


def esds(object_type: int, audio: bytes, *, es_flags: int = 0, tags: bytes = b"\3\4\5") -> bytes:
    specific = tags[2:3] + bytes([len(audio)]) + audio
    config = bytes([object_type, 0x15]) + bytes(11) + specific
    # a size of several bytes, as QuickTime and FFmpeg write it
    decoder = tags[1:2] + b"\x80\x80\x80" + bytes([len(config)]) + config
    stream = b"\0\1" + bytes([es_flags]) + decoder
    return atom("esds", bytes(4), tags[0:1], bytes([len(stream)]), stream)


HVCC_HEAD = "01 {profile} {flags} {constraints} {level} f000 fc fd f8 f8 0000 0f 00"


def hvcc(profile: str, flags: str, constraints: str, level: int) -> bytes:
    text = HVCC_HEAD.format(
        profile=profile, flags=flags, constraints=constraints, level=f"{level:02x}"
    )
    return atom("hvcC", bytes.fromhex(text))


@pytest.mark.parametrize(
    ("entry", "codec"),
    [
        # RFC 6381 section 3.3 and the files that Apple and DASH-IF publish
        (visual("avc1", atom("avcC", AVCC)), "avc1.64001f"),
        (visual("avc3", atom("avcC", b"\1\x42\xe0\x1e\xff\xe0\0")), "avc3.42e01e"),
        # ISO/IEC 14496-15 annex E: Main, level 3.1; Main 10, high tier, level 5
        (visual("hvc1", hvcc("01", "60000000", "b00000000000", 93)), "hvc1.1.6.L93.B0"),
        (visual("hev1", hvcc("22", "20000000", "900000000000", 150)), "hev1.2.4.H150.90"),
        (visual("hvc1", hvcc("41", "80000000", "000000000000", 30)), "hvc1.A1.1.L30"),
        # AV1 in ISOBMFF section 5: Main, level 3.0, 10 bits is av01.0.04M.10
        (visual("av01", atom("av1C", b"\x81\x04\x40\0")), "av01.0.04M.10"),
        (visual("av01", atom("av1C", b"\x81\x08\0\0")), "av01.0.08M.08"),
        (visual("av01", atom("av1C", b"\x81\x4d\xe0\0")), "av01.2.13H.12"),
        (visual("av01", atom("av1C", b"\x81\x4d\xc0\0")), "av01.2.13H.10"),
    ],
)
def test_codec_strings_of_pictures(entry: bytes, codec: str) -> None:
    assert cmaf.read_init(init_segment(entry)).codec == codec


@pytest.mark.parametrize(
    ("config", "codec"),
    [
        (esds(0x40, b"\x11\x90"), "mp4a.40.2"),
        (esds(0x40, b"\x2b\x11"), "mp4a.40.5"),
        (esds(0x40, b"\xf9\x40"), "mp4a.40.42"),  # escape 31, then 32 + 10: xHE-AAC
        (esds(0x6B, b"\0\0"), "mp4a.6B"),  # MP3
    ],
)
def test_codec_strings_of_sound(config: bytes, codec: str) -> None:
    init = init_segment(sound("mp4a", config), handler="soun")
    assert cmaf.read_init(init).codec == codec


def test_the_length_size_of_hevc_is_read() -> None:
    entry = visual("hvc1", hvcc("01", "60000000", "b00000000000", 93))
    assert cmaf.read_init(init_segment(entry)).nal_length_size == 4


AVC_ENTRY = visual("avc1", atom("avcC", AVCC))


def edit(*entries: bytes, version: int = 0) -> bytes:
    return atom("edts", atom("elst", words(version << 24, len(entries)), *entries))


def test_a_long_edit_list_is_read() -> None:
    edits = edit(bytes(8) + (3003).to_bytes(8, "big") + words(0x10000), version=1)
    assert cmaf.read_init(init_segment(AVC_ENTRY, edits=edits)).edit_offset_ticks == 3003


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (atom("free"), "0 'moov' boxes"),
        (atom("moov"), "0 tracks"),
        (init_segment(AVC_ENTRY, tracks=2), "2 tracks"),
        (init_segment(AVC_ENTRY, timescale=0), "timescale of 0"),
        (init_segment(AVC_ENTRY, handler="text"), "a track of kind 'text'"),
        (init_segment(AVC_ENTRY * 2, entries=2), "2 sample entries"),
        (init_segment(AVC_ENTRY * 2), "1 sample entries"),
        (init_segment(AVC_ENTRY, trex_track=8), "'trex' is of track 8"),
        (init_segment(visual("mp4v")), "'mp4v' has no CMAF codec string"),
        (init_segment(visual("avc1")), "'avc1' has no 'avcC'"),
        (init_segment(visual("avc1", atom("avcC", AVCC[:9]))), "'avcC' is too short"),
        (init_segment(visual("avc1", atom("avcC", AVCC[:-1]))), "'avcC' is too short"),
        (init_segment(atom("avc1", bytes(20))), "'avc1' is too short"),
        (init_segment(AVC_ENTRY, edits=atom("edts")), "'edts' has no 'elst'"),
        (init_segment(AVC_ENTRY, edits=edit()), "0 entries"),
        (init_segment(AVC_ENTRY, edits=edit(words(5, 0, 0x10000))), "more than an offset"),
        (init_segment(AVC_ENTRY, edits=edit(words(0, -1, 0x10000))), "more than an offset"),
        (init_segment(AVC_ENTRY, edits=edit(words(0, 0, 0x20000))), "more than an offset"),
        (init_segment(AVC_ENTRY)[:-1], "claims"),
        (init_segment(AVC_ENTRY) + b"\0\0\1", "3 bytes are left"),
    ],
)
def test_init_segments_that_are_refused(init: bytes, message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        cmaf.read_init(init)
    assert caught.value.code == "malformed_media"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (atom("esds", bytes(4)), "descriptor in 'esds' is cut off"),
        (atom("esds", bytes(4), b"\3\x20\0"), "descriptor in 'esds' is cut off"),
        (atom("esds", bytes(4), b"\3\x80\x80\x80\x80\0"), "descriptor in 'esds' is cut off"),
        (esds(0x40, b"\x11\x90", tags=b"\6\4\5"), "no elementary stream"),
        (esds(0x40, b"\x11\x90", es_flags=0x80), "no elementary stream"),
        (atom("esds", bytes(4), b"\3\1\0"), "no elementary stream"),
        (esds(0x40, b"\x11\x90", tags=b"\3\6\5"), "no decoder configuration"),
        (atom("esds", bytes(4), b"\3\6\0\1\0\4\1\x40"), "no decoder configuration"),
        (esds(0x40, b"\x11\x90", tags=b"\3\4\6"), "no audio configuration"),
        (esds(0x40, b"\x11"), "no audio configuration"),
    ],
)
def test_sound_configurations_that_are_refused(config: bytes, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        cmaf.read_init(init_segment(sound("mp4a", config), handler="soun"))


# -- boxes -----------------------------------------------------------------------------------


def test_a_long_box_size_is_read() -> None:
    data = memoryview(words(1) + b"mdat" + (20).to_bytes(8, "big") + b"abcd")
    (item,) = bmff.boxes(data)
    assert (item.kind, bytes(item.body), item.offset) == ("mdat", b"abcd", 0)
    assert bmff.header(data[:15]) is None


@pytest.mark.parametrize("size", [0, 7])
def test_a_size_smaller_than_the_header_is_refused(size: int) -> None:
    with pytest.raises(StepFailed, match=f"claims {size} bytes"):
        bmff.header(words(size) + b"mdat")


def test_the_terminator_of_quicktime_is_passed_over() -> None:
    assert [item.kind for item in bmff.boxes(memoryview(atom("free") + bytes(4)))] == ["free"]


def test_a_box_beyond_32_bits_is_not_written() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(StepFailed, match="does not fit 32 bits"):
        bmff.box("mdat", Huge())


@pytest.mark.parametrize(("version", "extension"), [(0, 0), (1, 16), (2, 36)])
def test_sound_entries_of_quicktime(version: int, extension: int) -> None:
    data = sound("mp4a", atom("esds"), version=version, extension=bytes(extension))
    (item,) = bmff.boxes(memoryview(data))
    entry = bmff.sample_entry(item, "soun")
    assert (entry.channels, entry.sample_rate) == (2, 48000)
    assert entry.find("esds") is not None


def test_a_sound_entry_of_an_unknown_version_has_no_boxes_that_we_could_find() -> None:
    (item,) = bmff.boxes(memoryview(sound("mp4a", atom("esds"), version=9)))
    assert bmff.sample_entry(item, "soun").boxes == ()


def test_an_entry_of_another_kind_of_track_is_only_named() -> None:
    (item,) = bmff.boxes(memoryview(atom("tx3g", b"abc")))
    assert bmff.sample_entry(item, "text") == bmff.SampleEntry("tx3g")


# -- fragments -------------------------------------------------------------------------------


def test_a_fragment_is_written_as_the_standard_has_it() -> None:
    """I P B in decode order, shown at 1000, 3000, 2000; the offset of one frame is 1000."""
    samples = [
        Sample(1000, 0, b"IIII", sync=True),
        Sample(3000, 0, b"PP", sync=False),
        Sample(2000, 0, memoryview(b"B"), sync=False),
    ]
    written = cmaf.write_fragment(
        samples, sequence=5, base_ticks=1000, end_ticks=4000, edit_offset_ticks=1000
    )
    trun = atom(
        "trun",
        words(0x000A05, 3, 124 + 8, 0x02000000),  # data offset, first flags, sizes, offsets
        words(4, 1000),  # dts 1000: 1000 - 1000 + 1000
        words(2, 2000),  # dts 2000: 3000 - 2000 + 1000
        words(1, 0),  # dts 3000: 2000 - 3000 + 1000
    )
    expected = atom(
        "moof",
        atom("mfhd", words(0, 5)),
        atom(
            "traf",
            atom("tfhd", words(0x020028, 1, 1000, 0x01010000)),
            atom("tfdt", words(0x01000000, 0, 1000)),
            trun,
        ),
    ) + atom("mdat", b"IIIIPPB")
    assert written == expected
    assert len(written) == 124 + 15

    (fragment,) = cmaf.read_segment(
        cmaf.SEGMENT_TYPE + written, replace(VIDEO, edit_offset_ticks=1000)
    )
    assert [(s.pts, s.duration, bytes(s.data), s.sync) for s in fragment.samples] == [
        (1000, 1000, b"IIII", True),
        (3000, 1000, b"PP", False),
        (2000, 1000, b"B", False),
    ]
    assert fragment.decode_times == [1000, 2000, 3000]
    assert (fragment.sequence, fragment.decode_ticks, fragment.end_ticks) == (5, 1000, 4000)
    assert (fragment.offset, fragment.size_bytes) == (len(cmaf.SEGMENT_TYPE), 139)
    assert fragment.key_range == (len(cmaf.SEGMENT_TYPE), 124 + 8 + 4)


def test_sound_is_all_sync_samples_of_one_duration() -> None:
    samples = [Sample(n * 1024, 1024, b"xy", sync=True) for n in range(2)]
    written = cmaf.write_fragment(
        samples, sequence=1, base_ticks=0, end_ticks=2048, edit_offset_ticks=0
    )
    assert atom("tfhd", words(0x020028, 1, 1024, 0x02000000)) in written
    assert b"trun" + words(0x000201, 2) in written


def test_uneven_durations_and_several_sync_samples_get_columns() -> None:
    samples = [
        Sample(0, 0, b"a", sync=True),
        Sample(10, 0, b"b", sync=False),
        Sample(30, 0, b"c", sync=True),
    ]
    written = cmaf.write_fragment(
        samples, sequence=1, base_ticks=0, end_ticks=60, edit_offset_ticks=0
    )
    rows = words(10, 1, 0x02000000, 20, 1, 0x01010000, 30, 1, 0x02000000)
    assert rows + words(8 + 3) + b"mdat" in written
    assert b"trun" + words(0x000701, 3) in written


def test_a_run_without_a_sync_sample_says_so() -> None:
    written = cmaf.write_fragment(
        [Sample(0, 0, b"a", sync=False)],
        sequence=1,
        base_ticks=0,
        end_ticks=1,
        edit_offset_ticks=0,
    )
    (fragment,) = cmaf.read_segment(written, VIDEO)
    assert not fragment.samples[0].sync


@pytest.mark.parametrize(
    ("times", "base", "end", "offset", "message"),
    [
        ([], 0, 1, 0, "no samples"),
        ([5, 6], 4, 7, 0, "starts at 5, expected 4"),
        ([-1, 0], -1, 1, 0, "starts at -1, expected -1"),
        ([0, 1, 1], 0, 2, 0, "the sample at 1 ends at 1"),
        ([0, 1], 0, 1, 0, "the sample at 1 ends at 1"),
        ([0, 5], 0, 3, 0, "the sample at 5 ends at 3"),
        ([0, 3, 1, 2], 0, 4, 0, "reorders by 1 ticks, expected 0"),
        ([0, 30, 20, 10], 0, 40, 5, "reorders by 20 ticks, expected 5"),
    ],
)
def test_runs_that_do_not_fit_the_timeline(
    times: list[int], base: int, end: int, offset: int, message: str
) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        cmaf.write_fragment(
            [Sample(time, 0, b"x", sync=True) for time in times],
            sequence=1,
            base_ticks=base,
            end_ticks=end,
            edit_offset_ticks=offset,
        )
    assert caught.value.code == "fragment_timing"


@pytest.mark.parametrize(
    ("pts", "expected"),
    [([], 0), ([0, 1, 2], 0), ([0, 3, 1, 2], 1), ([0, 4, 2, 1, 3], 2), ([7, 10, 8, 9], 1)],
)
def test_reordering(pts: list[int], expected: int) -> None:
    assert cmaf.reorder_ticks(pts) == expected


runs = st.lists(
    st.tuples(st.integers(1, 5000), st.binary(max_size=6), st.booleans()), min_size=1, max_size=12
)


@given(runs, st.integers(0, 1 << 40), st.randoms(use_true_random=False), st.integers(0, 99))
@examples(times=2)
def test_what_is_written_is_read_back(
    run: list[tuple[int, bytes, bool]], base: int, order: Random, spare: int
) -> None:
    samples = []
    time = base
    for duration, data, sync in run:
        samples.append(Sample(time, duration, data, sync))
        time += duration
    order.shuffle(samples)  # any decode order
    offset = cmaf.reorder_ticks([sample.pts for sample in samples]) + spare
    written = cmaf.write_fragment(
        samples, sequence=9, base_ticks=base, end_ticks=time, edit_offset_ticks=offset
    )
    track = replace(VIDEO, edit_offset_ticks=offset)
    (fragment,) = cmaf.read_segment(written, track)
    key = [(s.pts, bytes(s.data), s.sync) for s in fragment.samples]
    assert key == [(s.pts, s.data, s.sync) for s in samples]
    assert fragment.decode_times == sorted(s.pts for s in samples)
    assert fragment.end_ticks == time
    assert fragment.first_sample_end == written.index(b"mdat") + 4 + len(samples[0].data)


# -- fragments as other muxers write them ------------------------------------------------------


def foreign(
    *,
    tfhd: bytes = words(0x020000, 1),
    tfdt: bytes = words(0, 100),
    truns: tuple[bytes, ...] = (),
    trafs: int = 1,
    mdat: bytes = b"abcdef",
) -> bytes:
    traf = atom("traf", atom("tfhd", tfhd), atom("tfdt", tfdt), *(atom("trun", t) for t in truns))
    return atom("moof", atom("mfhd", words(0, 3)), traf * trafs) + atom("mdat", mdat)


def moof_size(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def test_signed_offsets_defaults_and_following_runs() -> None:
    """tfhd with an absolute base, a sample description and all defaults; the second run follows
    the first one; version 1 offsets are signed."""
    tfhd = words(0x00003B, 1, 0, 0, 1, 10, 2, 0x01010000)
    truns = (
        words(0x01000805, 2, 124 + 8, 0x02000000, 0, -10),
        words(0x01000100, 1, 20),
        words(0x01000000, 0),
    )
    data = foreign(tfhd=tfhd, truns=truns)
    size = moof_size(data)
    truns = (words(0x01000805, 2, size + 8, 0x02000000, 0, -10), *truns[1:])
    (fragment,) = cmaf.read_segment(foreign(tfhd=tfhd, truns=truns), VIDEO)
    assert [(s.pts, s.duration, bytes(s.data), s.sync) for s in fragment.samples] == [
        (100, 10, b"ab", True),
        (100, 10, b"cd", False),
        (120, 20, b"ef", False),
    ]
    assert fragment.first_sample_end == size + 8 + 2


def test_an_empty_run_with_first_flags_is_nothing() -> None:
    size = moof_size(foreign(truns=(words(0x5, 0, 0, 0), words(0x201, 1, 0, 6))))
    data = foreign(truns=(words(0x5, 0, 0, 0), words(0x201, 1, size + 8, 6)))
    (fragment,) = cmaf.read_segment(data, VIDEO)
    assert [bytes(s.data) for s in fragment.samples] == [b"abcdef"]


SIZE = moof_size(foreign(truns=(words(0x201, 1, 0, 6),)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (foreign(trafs=2), "a fragment of 2 tracks"),
        (foreign(trafs=0), "a fragment of 0 tracks"),
        (foreign(tfhd=words(0x020000, 2)), "a fragment of track 2, the track is 1"),
        (foreign(tfdt=words(0x01000000, 1 << 30, 0)), "a decode time of"),
        (foreign(truns=()), "without samples"),
        (foreign(truns=(words(0x200, 1, 6),)), "without a data offset"),
        (foreign(truns=(words(0x201, 1, SIZE + 8, 7),)), "outside of its fragment"),
        (foreign(truns=(words(0x201, 1, SIZE + 7, 6),)), "outside of its fragment"),
        (foreign(truns=(words(0x201, 1, -(1 << 31), 6),)), "outside of its fragment"),
        (foreign(truns=(words(0x201, 2, SIZE + 8, 6),)), "'trun' is too short"),
        (foreign(truns=(words(0x1, 0xFFFFFFFF, SIZE + 8),)), "claims 4294967295 samples"),
        (atom("mdat"), "'mdat' without"),
        (atom("moof") + atom("free"), "'moof' is followed by 'free'"),
        (atom("moof"), "ends inside"),
        (foreign(truns=(words(0x201, 1, SIZE + 8, 6),))[:-1], "ends inside"),
        (b"\0\0", "ends inside"),
        (init_segment(AVC_ENTRY), "a second 'moov'"),
    ],
)
def test_fragments_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        cmaf.read_segment(data, VIDEO)
    assert caught.value.code == "malformed_media"


def stream() -> tuple[bytes, bytes]:
    init = cmaf.write_init(FFMPEG_INIT, edit_offset_ticks=0)
    fragments = b"".join(
        cmaf.write_fragment(
            [Sample(n * 10, 0, bytes([n]) * 9, sync=True)],
            sequence=n + 1,
            base_ticks=n * 10,
            end_ticks=n * 10 + 10,
            edit_offset_ticks=0,
        )
        for n in range(3)
    )
    return init, fragments


def _is_read_in_pieces(cuts: Iterable[int]) -> None:
    init, fragments = stream()
    data = init + fragments + atom("mfra", bytes(30))
    reader = FragmentReader()
    items: list[Init | Fragment] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        items += reader.feed(memoryview(data)[start:end])
    reader.finish()
    first, *rest = items
    assert isinstance(first, Init)
    assert (first.data, first.track.codec) == (init, "avc1.64000a")
    frames = [item for item in rest if isinstance(item, Fragment)]
    assert [bytes(f.samples[0].data) for f in frames] == [bytes([n]) * 9 for n in range(3)]
    assert [f.offset for f in frames] == [len(init) + n * (len(fragments) // 3) for n in range(3)]


@pytest.mark.parametrize("cuts", [(), range(1200)], ids=["whole", "byte by byte"])
def test_a_stream_is_read_whole_and_byte_by_byte(cuts: Iterable[int]) -> None:
    _is_read_in_pieces(cuts)


@given(st.lists(st.integers(0, 1200), max_size=30))
def test_a_stream_is_read_the_same_in_any_pieces(cuts: list[int]) -> None:
    _is_read_in_pieces(cuts)


def test_a_box_above_the_limit_is_refused_before_it_is_stored() -> None:
    reader = FragmentReader(VIDEO, max_box_bytes=1000)
    with pytest.raises(StepFailed, match="'mdat' of 1001 bytes; the limit is 1000"):
        reader.feed(words(1001) + b"mdat")


def corrupt(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


@given(st.data())
@examples(times=3)
def test_a_damaged_stream_is_read_or_refused_in_words(draw: st.DataObject) -> None:
    init, fragments = stream()
    data = init + fragments
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = corrupt(data, at, draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])))
    reader = FragmentReader()
    with suppress(StepFailed):
        reader.feed(data)
        reader.finish()


# -- where players may start -----------------------------------------------------------------


def test_a_picture_is_a_start_by_what_is_in_it_and_by_its_flag() -> None:
    track = replace(VIDEO, nal_length_size=4)
    idr, other = words(3) + b"\x65\x88\x84", words(3) + b"\x41\x9a\x00"
    found = [
        cmaf.starts_gop(Sample(0, 1, data, sync), track)
        for data, sync in ((idr, True), (idr, False), (other, True), (other, False))
    ]
    assert found == [True, False, False, False]


def test_every_frame_of_sound_is_a_start() -> None:
    track = Track(track_id=1, handler="soun", timescale=48000, codec="mp4a.40.2", language="und")
    assert cmaf.starts_gop(Sample(0, 1024, b"\x21", True), track)
