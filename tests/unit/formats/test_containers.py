"""Heads and tails of files, written by hand from their specifications."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import pytest
from PIL import Image

from telecine.engine.errors import StepFailed
from telecine.engine.formats import containers
from telecine.engine.ladder import Size

# A JPEG's skeleton: start, JFIF, a quantisation table's head, a frame header, a scan, the end.
SOF0 = bytes.fromhex("ffc0 0011 08 0438 0780 03 012200 021101 031101")
JPEG = bytes.fromhex("ffd8 ffe0 0010 4a46494600 0101 00 0001 0001 0000 ffdb 0004 0000")
END = bytes.fromhex("ffda 0002 1234 ffd9")


def test_jpeg_size_is_in_the_frame_header() -> None:
    assert containers.jpeg_size(JPEG + SOF0 + END) == Size(1920, 1080)
    progressive = SOF0.replace(b"\xff\xc0", b"\xff\xc2")
    assert containers.jpeg_size(JPEG + progressive + END) == Size(1920, 1080)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        JPEG + SOF0,
        JPEG + END,
        JPEG + SOF0.replace(b"\xff\xc0", b"\xff\xc4") + END,  # a Huffman table, no frame
        JPEG + b"\x00" + SOF0 + END,
    ],
)
def test_jpeg_without_a_frame_or_an_end_is_refused(data: bytes) -> None:
    with pytest.raises(StepFailed):
        containers.jpeg_size(data)


# --- pictures that follow each other --------------------------------------------------------------


def jpeg(color: int, size: tuple[int, int] = (40, 30), **how: object) -> bytes:
    made = io.BytesIO()
    noise = bytes((n * n * 31 + color) % 256 for n in range(3 * size[0] * size[1]))
    Image.frombytes("RGB", size, noise).save(made, "JPEG", **how)
    return made.getvalue()


PICTURES = [
    jpeg(1),
    jpeg(2, progressive=True),  # several scans
    jpeg(3, restart_marker_blocks=1),  # markers inside of a scan
    jpeg(4, exif=b"Exif\0\0\xff\xd9\xff\xd8", comment=b"\xff\xd9"),  # ends that are none
]


@pytest.mark.parametrize("size", [1, 2, 997, 1 << 20])
def test_jpegs_come_out_as_they_went_in(size: int) -> None:
    stream = b"".join(PICTURES)
    reader = containers.JpegReader()
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at:][:size])]
    assert found == PICTURES
    assert reader.finish() == 4


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a",
        PICTURES[0][:-1],
        PICTURES[0] + b"\xff",
        JPEG + b"\x00\x11\x22\x33",
        PICTURES[0][:9],
    ],
)
def test_a_stream_that_is_no_whole_jpegs_is_refused(data: bytes) -> None:
    def read() -> None:
        reader = containers.JpegReader()
        reader.feed(data)
        reader.finish()

    with pytest.raises(StepFailed):
        read()


def webp(frames: int, **how: object) -> bytes:
    made = io.BytesIO()
    first, *others = (Image.new("RGB", (32, 20), (n * 40, 99, 5)) for n in range(frames))
    first.save(made, "WEBP", save_all=frames > 1, append_images=others, **how)
    return made.getvalue()


def test_an_animated_webp_by_another_programs_hand() -> None:
    found = containers.webp_animation(webp(3, duration=[100, 250, 40]))
    assert found == containers.Animation(Size(32, 20), 3, 390)


def test_a_webp_that_stands_still_is_one_picture() -> None:
    assert containers.webp_animation(webp(1)) == containers.Animation(Size(32, 20), 1, 0)


ANIMATED = webp(2, duration=100)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\4\0\0\0WAVE",
        b"RIFF\4\0\0\0WEBP",
        ANIMATED[:-1],
        ANIMATED + b"\0",
        b"RIFF\x10\0\0\0WEBPANMF\xff\0\0\0abcd",
        b"RIFF\x10\0\0\0WEBPANMF\4\0\0\0abcd",
    ],
)
def test_what_is_no_whole_webp_is_refused(data: bytes) -> None:
    with pytest.raises(StepFailed):
        containers.webp_animation(data)


# --- sound ----------------------------------------------------------------------------------------


def flac(samples: int, rate: int = 44_100, block: int = 4096) -> bytes:
    """The marker and STREAMINFO: sizes, then 20 bits of rate, 3 of channels, 5 of depth, 36."""
    word = rate << 44 | 1 << 41 | 15 << 36 | samples
    info = struct.pack(">HH6x", block, block) + word.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80\x00\x00\x22" + info


# Frame 2 of fixed blocks whose own size less one follows in 16 bits (code 7): 1808 samples.
LAST = bytes.fromhex("fff8 79a8 02 070f")


def crc8(data: bytes) -> bytes:
    """Bit by bit as a polynomial division, unlike the code under test."""
    value = int.from_bytes(data + b"\0", "big")
    for bit in range(len(data) * 8 + 7, 7, -1):
        if value >> bit & 1:
            value ^= 0x107 << bit - 8
    return bytes([value])


def test_crc_of_the_standards_check_value() -> None:
    assert crc8(b"123456789") == b"\xf4"  # CRC-8/SMBUS


def test_flac_duration_needs_the_last_frame() -> None:
    tail = bytes(50) + LAST + crc8(LAST) + bytes(40)
    assert containers.flac_duration_s(flac(10_000), tail) == Fraction(10_000, 44_100)
    for wrong in (b"", bytes(90), LAST + b"\0" + bytes(40), LAST + crc8(LAST)):
        with pytest.raises(StepFailed, match="cut off"):
            containers.flac_duration_s(flac(10_000), wrong)
    with pytest.raises(StepFailed, match="cut off"):
        containers.flac_duration_s(flac(10_001), tail)


def test_flac_frame_numbers_are_coded_as_utf8_is() -> None:
    # Frame 1000 = U+03E8 = cf a8; 4096 samples (code 12) at 44.1 kHz (code 9).
    last = bytes.fromhex("fff8 c9a8 cfa8")
    tail = last + crc8(last) + bytes(20)
    samples = 1001 * 4096
    assert containers.flac_duration_s(flac(samples), tail) == Fraction(samples, 44_100)
    # 8-bit block size (code 6) and rate (code 12: kHz): 200 samples at 44 kHz.
    last = bytes.fromhex("fff8 6ca8 01 c7 2c")
    tail = b"\xff\xf8\xfe" + last + crc8(last) + bytes(20)
    assert containers.flac_duration_s(flac(4296), tail) == Fraction(4296, 44_100)
    # A first byte of 10xxxxxx or 11111111 codes no number.
    for number in (b"\x80", b"\xff"):
        last = b"\xff\xf8\xc9\xa8" + number
        with pytest.raises(StepFailed):
            containers.flac_duration_s(flac(4096), last + crc8(last) + bytes(20))


@pytest.mark.parametrize(
    "head",
    [b"", b"OggS" + bytes(40), flac(0), flac(9, rate=0), flac(9, block=0), flac(9)[:20],
     b"fLaC\x84" + bytes(40)],
)  # fmt: skip
def test_other_heads_are_no_flac(head: bytes) -> None:
    with pytest.raises(StepFailed):
        containers.flac_duration_s(head, bytes(40))


def page(granule: int, kind: int, body: bytes = b"") -> bytes:
    return b"OggS\0" + bytes([kind]) + struct.pack("<qIII", granule, 7, 0, 0) + b"\x01\xff" + body


def test_opus_duration_is_the_last_granule_less_the_pre_skip() -> None:
    head = page(0, 2, b"OpusHead\x01\x02" + struct.pack("<HI", 312, 44_100))
    tail = page(5000, 0) + page(48_312, 4, bytes(30))
    assert containers.opus_duration_s(head, tail) == 1
    assert containers.opus_duration_s(head, page(300, 4)) == 0
    for wrong in (b"", tail[:40], page(48_312, 0), page(48_312, 4)[:10]):
        with pytest.raises(StepFailed, match="no last page"):
            containers.opus_duration_s(head, wrong)
    for wrong in (b"", b"OggS" + bytes(300), head[4:]):
        with pytest.raises(StepFailed, match="not an Ogg Opus"):
            containers.opus_duration_s(wrong, tail)


def mp3(header: str, frames: int, size: int, *, name: bytes = b"Info", flags: int = 3) -> bytes:
    """A first frame: header, side information, then the encoder's header."""
    info = name + struct.pack(">III", flags, frames, size)
    return bytes.fromhex(header) + bytes(32) + info + bytes(300)


ID3 = b"ID3\x04\0\0\0\0\x01\x02" + bytes(130)


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        (mp3("fffb9064", 100, 400), Fraction(100 * 1152, 44_100)),  # MPEG-1, 44.1 kHz
        (mp3("fffb9464", 100, 400, name=b"Xing"), Fraction(100 * 1152, 48_000)),
        (mp3("fff39864", 100, 400), Fraction(100 * 576, 16_000)),  # MPEG-2, half of 32 kHz
        (ID3 + mp3("fffb9064", 7, 400), Fraction(7 * 1152, 44_100)),
    ],
)
def test_mp3_duration_is_the_number_of_frames(head: bytes, seconds: Fraction) -> None:
    assert containers.mp3_duration_s(head, 1000) == seconds


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"RIFF" + bytes(200),
        mp3("fffb9064", 100, 1001),  # names more bytes than there are
        mp3("fffb9c64", 100, 400),  # the reserved rate
        mp3("fffb9064", 100, 400, name=b"LAME"),
        mp3("fffb9064", 100, 400, flags=2),
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100),
    ],
)
def test_other_heads_are_no_mp3_with_a_length(head: bytes) -> None:
    with pytest.raises(StepFailed):
        containers.mp3_duration_s(head, 1000)
