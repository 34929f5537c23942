"""What coded pictures say of themselves: units written by hand from the specifications' tables."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.boxes import atom

from telecine.engine.errors import StepFailed
from telecine.engine.formats.bmff import Box, boxes, sample_entry
from telecine.engine.formats.coding import AV1, AVC, HEVC, Coding, Parameters


def nal(body: bytes, size: int = 4) -> bytes:
    return len(body).to_bytes(size, "big") + body


# --- H.264: ITU-T H.264, table 7-1 --------------------------------------------------------------

AUD, SPS, IDR, SLICE = b"\x09\xf0", b"\x67\x64", b"\x65\x88\x84", b"\x41\x9a"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_idr_slice_makes_a_start_of_h264(size: int) -> None:
    assert AVC.key(nal(AUD, size) + nal(SPS, size) + nal(IDR, size), size)
    assert not AVC.key(memoryview(nal(SLICE, size)), size)
    # A recovery point (SEI, type 6) before an I slice is none: what follows may refer across it.
    assert not AVC.key(nal(b"\x06\x06\x01\xc4\x80", size) + nal(SLICE, size), size)


# --- HEVC: ITU-T H.265, table 7-1; the type is the six bits behind the first ----------------------


@pytest.mark.parametrize(
    ("kind", "starts"),
    [(1, False), (16, False), (18, False), (19, True), (20, True), (21, False), (32, False)],
)
def test_idr_pictures_make_a_start_of_hevc(kind: int, starts: bool) -> None:
    unit = bytes([kind << 1, 1]) + b"\xaf\x08"
    assert HEVC.key(nal(bytes([35 << 1, 1, 0x50])) + nal(unit), 4) == starts


@pytest.mark.parametrize("coding", [AVC, HEVC])
@pytest.mark.parametrize("sample", [b"\0\0\0\5abcd", b"\0\0\0\0", b"\0\0"])
def test_nal_units_that_do_not_fit(coding: Coding, sample: bytes) -> None:
    with pytest.raises(StepFailed, match="NAL unit") as caught:
        coding.key(sample, 4)
    assert caught.value.code == "malformed_media"


def test_units_behind_a_start_have_to_fit_as_well() -> None:
    with pytest.raises(StepFailed, match="NAL unit"):
        AVC.key(nal(IDR) + b"\0\0\0\x09x", 4)


# --- AV1: section 5.3.2 (header: type << 3, extension 4, has_size 2), 5.9.2 for what a frame begins
# with: show_existing_frame, frame_type in two bits, show_frame -----------------------------------


def obu(kind: int, payload: bytes, *, extension: bytes = b"", sized: bool = True) -> bytes:
    head = kind << 3 | (4 if extension else 0) | (2 if sized else 0)
    return bytes([head]) + extension + (bytes([len(payload)]) if sized else b"") + payload


SEQUENCE, KEY, HIDDEN_KEY, INTER, REPEATED = (
    obu(1, b"\x00\x00\x00"),
    obu(6, b"\x10\x00"),  # 0 00 1: shown at once
    obu(6, b"\x00\x00"),  # 0 00 0
    obu(6, b"\x30\x00"),  # 0 01 1
    obu(3, b"\x88"),  # 1: shows what was decoded before
)


@pytest.mark.parametrize(
    ("sample", "starts"),
    [
        (SEQUENCE + KEY, True),
        (SEQUENCE + obu(3, b"\x10") + obu(4, b"\x00"), True),  # header and tiles apart
        (SEQUENCE + obu(5, b"\x01") + KEY, True),  # metadata between
        (SEQUENCE + obu(6, b"\x10\x00", sized=False), True),  # the last one fills the sample
        (obu(1, b"\x00", extension=b"\x08") + KEY, True),
        (KEY, False),
        (KEY + SEQUENCE, False),
        (SEQUENCE + INTER, False),
        (SEQUENCE + HIDDEN_KEY + INTER, False),
        (SEQUENCE + REPEATED, False),
        (SEQUENCE + obu(6, b""), False),
        (SEQUENCE, False),
        (b"", False),
    ],
)
def test_a_sequence_header_and_a_shown_key_frame_make_a_start_of_av1(
    sample: bytes, starts: bool
) -> None:
    assert AV1.key(sample, 0) == starts


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (obu(6, b"\x10\x00")[:-1], "does not fit"),
        (b"\x34", "does not fit"),  # the extension is cut off
        (b"\x92\x00", "does not fit"),  # the forbidden bit
        (b"\x32", "no size"),
        (b"\x32" + b"\x80" * 8 + b"\x00", "no size"),  # longer than eight bytes
    ],
)
def test_obus_that_do_not_fit(sample: bytes, message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        AV1.key(sample, 0)
    assert caught.value.code == "malformed_media"


def test_a_long_obu_says_its_size_in_two_bytes() -> None:
    payload = b"\x10" + bytes(299)  # 300 = 0b10_0101100: the lower seven bits first
    assert AV1.key(SEQUENCE + b"\x32\xac\x02" + payload, 0)


@given(st.binary(max_size=64), st.sampled_from([AVC, HEVC, AV1]))
def test_any_bytes_are_judged_or_refused_in_words(sample: bytes, coding: Coding) -> None:
    with suppress(StepFailed):
        coding.key(sample, 4)


# --- codec strings of HDR: the example of the AV1 binding, section 5 ------------------------------


def av01(config: bytes, *colr: bytes) -> str:
    size = bytes(16) + struct.pack(">HH", 1280, 720)
    head = bytes(6) + b"\0\1" + size + bytes(50)
    inner = atom("av1C", config) + b"".join(atom("colr", body) for body in colr)
    (box,) = boxes(memoryview(atom("av01", head, inner)))
    entry = sample_entry(box, "vide")
    config_box = entry.find("av1C")
    assert config_box is not None
    return AV1.codec(entry, config_box)


@pytest.mark.parametrize(
    ("colr", "codec"),
    [
        # Main profile, level 3.0, 10 bits, BT.2020 with PQ, chroma where it lies at the left top.
        (b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0), "av01.0.04M.10.0.112.09.16.09.0"),
        (b"nclx" + struct.pack(">HHHB", 9, 18, 9, 0x80), "av01.0.04M.10.0.112.09.18.09.1"),
        (b"nclx" + struct.pack(">HHHB", 1, 1, 1, 0), "av01.0.04M.10"),
        (b"prof" + bytes(12), "av01.0.04M.10"),
    ],
)
def test_colours_stand_in_the_codec_string_where_they_are_not_the_usual(
    colr: bytes, codec: str
) -> None:
    # 0x4e: high bit depth, both chroma directions halved, chroma_sample_position 2
    assert av01(b"\x81\x04\x4e\0", colr) == codec


def test_chroma_that_is_not_halved_both_ways_has_no_place() -> None:
    colr = b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0)
    # 4:4:4 of High profile; monochrome, which counts as halved
    assert av01(b"\x81\x24\x40\0", colr) == "av01.1.04M.10.0.000.09.16.09.0"
    assert av01(b"\x81\x04\x5c\0", colr) == "av01.0.04M.10.1.110.09.16.09.0"


def test_a_colour_box_that_is_cut_off_is_refused() -> None:
    with pytest.raises(StepFailed, match="'colr' is too short"):
        av01(b"\x81\x04\x4e\0", b"nclx\0")


# --- what the configuration boxes hold ------------------------------------------------------------


def config(kind: str, body: bytes) -> Box:
    (box,) = boxes(memoryview(atom(kind, body)))
    return box


def array(kind: int, *units: bytes) -> bytes:
    return (
        bytes([0x80 | kind])
        + struct.pack(">H", len(units))
        + b"".join(struct.pack(">H", len(unit)) + unit for unit in units)
    )


def hvcc(*arrays: bytes) -> bytes:
    """14496-15, 8.3.3.1.2: 21 bytes of profile and format, the length size, then the arrays."""
    return bytes(21) + b"\x0f" + bytes([len(arrays)]) + b"".join(arrays)


def test_hvcc_gives_its_sequence_and_picture_parameter_sets() -> None:
    body = hvcc(array(32, b"\x40\x01v"), array(34, b"\x44"), array(33, b"\x42\x01a", b"\x42\x01b"))
    found = HEVC.parameters(config("hvcC", body))
    assert found == Parameters(4, (b"\x42\x01a", b"\x42\x01b", b"\x44"))


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_hvcc_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(StepFailed, match="'hvcC' is too short"):
        HEVC.parameters(config("hvcC", hvcc(array(33, b"\x42\x01a"))[:-cut]))


def test_av1c_gives_its_sequence_header() -> None:
    body = b"\x81\x00\x0c\x00" + obu(1, b"\x00\x00\x01") + obu(5, b"\x01")
    assert AV1.parameters(config("av1C", body)) == Parameters(0, (b"\x00\x00\x01",))
    assert AV1.parameters(config("av1C", body[:4])) == Parameters()
