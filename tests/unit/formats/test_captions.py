"""Caption data inside coded pictures, put together by hand from ATSC A/53 part 4, 6.2.3."""

from __future__ import annotations

import pytest

from telecine.engine.formats.captions import caption_bytes
from telecine.engine.formats.cmaf import Sample, Track, without_captions
from telecine.engine.formats.coding import avc_without_captions

PAIRS = bytes.fromhex("fc9420 fc94ae fc4845")
USER_DATA = b"GA94\x03" + bytes([0x40 | 3, 0xFF]) + PAIRS + b"\xff"
H264 = b"\x00\x00\x00\x20\x06\x04\x10\xb5\x00\x31" + USER_DATA + b"\x80"
MPEG2 = b"\x00\x00\x01\x00picture\x00\x00\x01\xb2" + USER_DATA + b"\x00\x00\x01\x01slice"


def sized(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def test_a_picture_without_its_captions() -> None:
    """Only SEI units with captions go: not those with other words, nor a slice with the same
    bytes."""
    captions, timing = H264[4:], b"\x06\x01\x01\x12\x80"
    other = captions.replace(b"GA94", b"DTG1")
    slice_ = b"\x65" + captions[1:]
    picture = sized(b"\x09\xf0", timing, captions, other, slice_, captions)
    assert avc_without_captions(picture, 4) == sized(b"\x09\xf0", timing, other, slice_)


def test_samples_without_captions_and_of_other_codecs_stay_as_they_are() -> None:
    slice_ = b"\x65" + bytes(20)
    with_, without = (
        Sample(0, 1, data, sync=True) for data in (sized(H264[4:], slice_), sized(slice_))
    )
    avc, hevc = (
        Track(1, "vide", 24, codec, "und", nal_length_size=4)
        for codec in ("avc1.64001f", "hvc1.2.4.L93.B0")
    )
    assert without_captions(with_, avc) == without
    assert without_captions(without, avc) is without
    assert without_captions(with_, hevc) is with_


@pytest.mark.parametrize("picture", [H264, MPEG2])
def test_the_pairs_of_a_picture(picture: bytes) -> None:
    assert caption_bytes(picture) == PAIRS


def test_several_messages_are_put_together() -> None:
    assert caption_bytes(H264 + H264) == PAIRS + PAIRS


def test_bytes_that_keep_start_codes_out_are_taken_off() -> None:
    # 00 00 03 01 in the stream is 00 00 01 of the message (H.264, 7.4.1).
    message = b"\xb5\x00\x31GA94\x03\x42\xfffc"[:-2] + b"\x00\x00\x03\x01\xfc\x94\x2c\xff"
    assert caption_bytes(message) == b"\x00\x00\x01\xfc\x94\x2c"


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"\x00\x00\x01\x65 a slice",
        H264.replace(b"\x43\xff", b"\x03\xff"),  # its flag says that there are none
        H264[: H264.index(b"GA94") + 5],  # cut off
        b"\xb5\x00\x31GA94\x06" + USER_DATA[5:],  # another kind of user data
    ],
)
def test_pictures_without_captions(picture: bytes) -> None:
    assert caption_bytes(picture) == b""
