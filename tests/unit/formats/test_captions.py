"""Caption data inside coded pictures, put together by hand from ATSC A/53 part 4, 6.2.3."""

from __future__ import annotations

import pytest

from telecine.engine.formats.captions import caption_bytes

PAIRS = bytes.fromhex("fc9420 fc94ae fc4845")
USER_DATA = b"GA94\x03" + bytes([0x40 | 3, 0xFF]) + PAIRS + b"\xff"
H264 = b"\x00\x00\x00\x20\x06\x04\x10\xb5\x00\x31" + USER_DATA + b"\x80"
MPEG2 = b"\x00\x00\x01\x00picture\x00\x00\x01\xb2" + USER_DATA + b"\x00\x00\x01\x01slice"


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
