"""Pure: what the first and last bytes of a finished picture or sound file say of it.

For `verify`, which must know size or duration of what was made without asking the program that made
it. Every violation is a `StepFailed` with code `malformed_media`.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from telecine.engine.bmff import malformed
from telecine.engine.ladder import Size

# Start of frame: every kind of JPEG frame header (ISO/IEC 10918-1, table B.1), not DHT, JPG, DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MP3_RATES = (44_100, 48_000, 32_000)  # Hz of MPEG-1; MPEG-2 has half of each
_OPUS_RATE = 48_000  # granule positions count at this rate whatever the sound has (RFC 7845, 4)


def jpeg_size(data: bytes) -> Size:
    """The size in a JPEG's frame header; the file must end with its end marker."""
    if data[:2] != b"\xff\xd8":
        raise malformed("not a JPEG")
    if data[-2:] != b"\xff\xd9":
        raise malformed("the JPEG is cut off")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Size(width, height)
        at += 2 + max(size, 2)
    raise malformed("the JPEG has no frame header")


def flac_duration_s(head: bytes, tail: bytes) -> Fraction:
    """STREAMINFO's number of samples over its rate (RFC 9639, 8.2); `tail` must hold the frame that
    ends with the last of these samples, or the file is cut off."""
    if head[:4] != b"fLaC" or len(head) < 26 or head[4] & 0x7F:
        raise malformed("not a FLAC file")
    (block,) = struct.unpack_from(">H", head, 8)
    word = int.from_bytes(head[18:26], "big")
    rate, samples = word >> 44, word & (1 << 36) - 1
    if not rate or not samples or not block:
        raise malformed("the FLAC header does not say how long it is")
    at = tail.find(b"\xff\xf8")
    while at >= 0:
        frame = _flac_frame(tail[at : at + 16])
        if frame is not None and frame[0] * block + frame[1] == samples:
            return Fraction(samples, rate)
        at = tail.find(b"\xff\xf8", at + 1)
    raise malformed("the FLAC file is cut off")


# Samples in a block by its code (RFC 9639, 9.1.1); codes 6 and 7 are followed by the number itself.
_FLAC_BLOCKS = {
    1: 192,
    **{code: 144 << code for code in range(2, 6)},
    **{code: 1 << code for code in range(8, 16)},
}


def _flac_frame(data: bytes) -> tuple[int, int] | None:
    """Number and size in samples of a frame in a stream of equal blocks but the last, by its header
    (RFC 9639, 9.1); None where these bytes are no header."""
    if len(data) < 16:
        return None
    size_code, rate_code = data[2] >> 4, data[2] & 0xF
    length = 8 - (data[4] ^ 0xFF).bit_length()  # leading ones: the bytes of the coded number
    if length in (1, 8):
        return None
    at = 4 + max(length, 1)
    number = data[4] & 0x7F >> length
    for byte in data[5:at]:
        number = number << 6 | byte & 0x3F
    width = {6: 1, 7: 2}.get(size_code, 0)
    size = _FLAC_BLOCKS.get(size_code) or int.from_bytes(data[at : at + width], "big") + 1
    at += width + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    return (number, size) if at < 16 and _crc8(data[:at]) == data[at] else None


def _crc8(data: bytes) -> int:
    """Of a frame header: polynomial x⁸ + x² + x + 1 (RFC 9639, 9.1.8)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc


def opus_duration_s(head: bytes, tail: bytes) -> Fraction:
    """The last page's granule position less the pre-skip (RFC 7845, 4); `tail` holds that page."""
    opus = head.find(b"OpusHead", 0, 256)
    if head[:4] != b"OggS" or opus < 0:
        raise malformed("not an Ogg Opus file")
    page = tail.rfind(b"OggS")
    if page < 0 or page + 14 > len(tail) or not tail[page + 5] & 4:
        raise malformed("the Ogg file has no last page")
    (skip,) = struct.unpack_from("<H", head, opus + 10)
    (granule,) = struct.unpack_from("<q", tail, page + 6)
    return Fraction(max(granule - skip, 0), _OPUS_RATE)


def mp3_duration_s(head: bytes, size_bytes: int) -> Fraction:
    """The number of frames in the Xing or Info header that stands in the first frame; the file must
    have the bytes that it says."""
    at = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        at = 10 + sum((byte & 0x7F) << 7 * (3 - n) for n, byte in enumerate(head[6:10]))
    if at + 4 > len(head) or head[at] != 0xFF or head[at + 1] & 0xE6 != 0xE2:
        raise malformed("not an MP3 file")
    mpeg1 = bool(head[at + 1] & 0x08)
    index = head[at + 2] >> 2 & 3
    if index == 3:
        raise malformed("an MP3 frame of no known rate")
    for name in (b"Xing", b"Info"):
        found = head.find(name, at, at + 64)
        if found >= 0 and found + 16 <= len(head) and head[found + 7] & 3 == 3:
            frames, stated = struct.unpack_from(">II", head, found + 8)
            if at + stated > size_bytes:
                raise malformed("the MP3 file is cut off")
            rate = _MP3_RATES[index] if mpeg1 else _MP3_RATES[index] // 2
            return Fraction(frames * (1152 if mpeg1 else 576), rate)
    raise malformed("the MP3 file has no Xing or Info header")
