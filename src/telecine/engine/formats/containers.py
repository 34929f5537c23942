"""Pure: what the first and last bytes of a finished picture or sound file say of it.

For `verify`, which must know size or duration of what was made without asking the program that made
it. Every violation is a `StepFailed` with code `malformed_media`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from telecine.engine.formats.bmff import malformed
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


# Inside of coded pixels 0xFF stands before a zero, or is a restart marker (10918-1, B.1.1.2).
_ENDS_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class JpegReader:
    """JPEGs that follow each other in a stream → each of them whole."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; give the JPEGs that became whole with them."""
        self._rest += data
        whole = []
        while (end := _jpeg_end(self._rest)) is not None:
            whole.append(self._rest[:end])
            self._rest = self._rest[end:]
        self.count += len(whole)
        return whole

    def finish(self) -> int:
        """How many there were. Raises `StepFailed` where the stream ends inside one."""
        if self._rest:
            raise malformed("the JPEG is cut off")
        return self.count


def _jpeg_end(data: bytes) -> int | None:
    """Where the JPEG ends that `data` starts with; None while it is not whole."""
    if len(data) < 2:
        return None
    if data[:2] != b"\xff\xd8":
        raise malformed("not a JPEG")
    at = 2
    while at + 4 <= len(data) or data[at : at + 2] == b"\xff\xd9":
        if data[at] != 0xFF:
            raise malformed("the JPEG has no marker where one should be")
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
        if marker == 0xDA:
            found = _ENDS_SCAN.search(data, at)
            if found is None:
                return None
            at = found.start()
    return None


_EOI, _SOS, _APP1, _APP2 = 0xD9, 0xDA, 0xE1, 0xE2
_FILLED = re.compile(rb"\xff{1,16}[^\x00\xff]")  # a marker, and what may stand before it: B.1.1.2
MOTION_JPEG = "mjpeg"  # FFmpeg's name of a raw row of JPEGs: `MediaInfo.container`
# As much of a file as tells whether others follow its first JPEG: more than a film's frame has.
LONGEST_JPEG = 64 << 20
_MOST_SEGMENTS = 5000  # a photo has some hundred at most: profile, EXIF, tables, scans
_FOLLOWED = re.compile(rb"\xff\xd9\x00{0,4096}\xff{1,16}\xd8\xff")
_NEXT = re.compile(rb"\x00{0,4096}\xff{1,16}\xd8(?=\xff)")


def is_motion_jpeg(data: bytes) -> bool:
    """Whether a file that begins like a JPEG is a film of them, one after the other: behind the end
    of the first comes another with the same frame header (size, components, sampling).

    A photo may carry others behind its end: a preview or a map of depth, which is smaller, or of
    the same size what it says itself in a Multi-Picture index (CIPA DC-007, 5.2) or in a directory
    of its XMP (Dynamic Depth, Ultra HDR).
    """
    if _FOLLOWED.search(data) is None:  # of nearly all photos: this is quick
        return False
    first, end = b"", 0
    for marker, begin, end in _segments(data, 0):
        if marker == _APP2 and data.startswith(b"MPF\0", begin):
            return False
        if marker == _APP1 and data.find(b"Container", begin, end) >= 0:
            return False
        if marker in _SOF:
            first = data[begin - 4 : end]
    following = _NEXT.match(data, end)
    if following is None:
        return False
    second = _segments(data, following.end() - 2)
    return first == next((data[b - 4 : e] for marker, b, e in second if marker in _SOF), None)


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Of the JPEG at `at` each marker, and where its segment's content begins and ends (ITU-T T.81,
    B.1.1): up to EOI, or as far as it goes."""
    found = _FILLED.match(data, at + 2)
    for _ in range(_MOST_SEGMENTS):
        if found is None:
            return
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            yield marker, at, at
            return
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield marker, at + 2, end
        found = (_ENDS_SCAN.search if marker == _SOS else _FILLED.match)(data, end)


@dataclass(frozen=True, slots=True)
class Animation:
    """What a player makes of an animated picture; a still one lasts 0 ms."""

    size: Size
    pictures: int
    duration_ms: int


def webp_animation(data: bytes) -> Animation:
    """The frames of an animated WebP (RFC 9649, 2.7), or of a lossy one that stands still, which is
    what an encoder makes of frames that are all alike; the file must be whole."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise malformed("not a WebP")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end != len(data):
        raise malformed("the WebP is cut off")
    size, pictures, duration_ms = Size(0, 0), 0, 0
    at = 12
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        if len(body) != length:
            raise malformed("a chunk of the WebP is cut off")
        if kind == b"VP8X" and length >= 10:
            width, height = (int.from_bytes(body[n : n + 3], "little") + 1 for n in (4, 7))
            size = Size(width, height)
        elif kind == b"ANMF" and length >= 16:
            pictures += 1
            duration_ms += int.from_bytes(body[12:15], "little")
        elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and length >= 10:
            pictures += 1
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
            size = Size(width, height)
        at += 8 + length + length % 2
    if not pictures or not size.pixels:
        raise malformed("the WebP has no picture")
    return Animation(size, pictures, duration_ms)


def png_size(data: bytes) -> Size:
    """The size in a PNG's header (ISO/IEC 15948, 11.2.2); every chunk must have its checksum, and
    the end chunk must be last."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise malformed("not a PNG")
    at, kind, size = 8, b"", None
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 4 : at + 8 + length]
        if zlib.crc32(body) != int.from_bytes(data[at + 8 + length : at + 12 + length], "big"):
            raise malformed("the PNG is cut off or damaged")
        if kind == b"IHDR" and length >= 8:
            width, height = struct.unpack_from(">II", body, 4)
            size = Size(width, height)
        at += 12 + length
    if kind != b"IEND" or at != len(data) or size is None:
        raise malformed("the PNG is cut off or damaged")
    return size


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
