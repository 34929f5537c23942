"""Pure: the shape of a sound: the least and greatest sample of each stretch, as JSON and as a PNG.

JSON is the second version of audiowaveform's data format, which wavesurfer.js and peaks.js read
(https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md). The picture is drawn from the
same numbers and written here: PNG (ISO/IEC 15948) needs no more than zlib.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Sequence

from telecine.engine.ladder import Size

Peaks = list[tuple[int, int]]  # least and greatest sample of 16 bits

PNG_SIZE = Size(1800, 280)
_COLOR = bytes((0x33, 0x66, 0xCC))  # reads on white and on black; the rest is transparent

# As short as a window may be: what audiowaveform takes unless told. Longer ones double, until the
# whole is short enough: JSON of 20,000 pixels is about 150 kB, whatever the film's length.
LEAST_SAMPLES = 256
MAX_LENGTH = 20_000


def samples_per_pixel(samples: int) -> int:
    """How many samples a pixel stands for in a sound of so many."""
    window = LEAST_SAMPLES
    while samples > window * MAX_LENGTH:
        window *= 2
    return window


class PeaksReader:
    """Takes what FFmpeg's `ametadata` prints of `astats`, window after window, as it arrives."""

    _LINE = re.compile(rb"lavfi\.astats\.Overall\.(Min|Max)_level=(-?[0-9]+)\.[0-9]+")

    def __init__(self) -> None:
        self.peaks: Peaks = []
        self._rest = b""
        self._least: int | None = None

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            found = self._LINE.fullmatch(line.strip())
            if found is None:
                continue
            value = max(-32768, min(32767, int(found[2])))
            if found[1] == b"Min":
                self._least = value
            elif self._least is not None:
                self.peaks.append((self._least, value))
                self._least = None


def eight_bits(sample: int) -> int:
    """A sample of 16 bits in 8, rounded towards 0 as audiowaveform does."""
    return int(sample / 256)


def peaks_json(peaks: Sequence[tuple[int, int]], sample_rate: int, samples_per_pixel: int) -> str:
    """audiowaveform's JSON, version 2: of one channel, in 8 bits."""
    return json.dumps(
        {
            "version": 2,
            "channels": 1,
            "sample_rate": sample_rate,
            "samples_per_pixel": samples_per_pixel,
            "bits": 8,
            "length": len(peaks),
            "data": [eight_bits(value) for pair in peaks for value in pair],
        },
        separators=(",", ":"),
    )


def peaks_png(peaks: Sequence[tuple[int, int]], size: Size = PNG_SIZE) -> bytes:
    """The peaks as a picture of two colours, one of them transparent. Every column shows all the
    peaks that fall into it, and silence as a line."""
    half = size.height / 2
    rows = [bytearray(size.width) for _ in range(size.height)]
    for x in range(size.width):
        first = x * len(peaks) // size.width
        last = max((x + 1) * len(peaks) // size.width, first + 1)
        column = peaks[first:last]
        if not column:
            continue
        top = half - max(high for _, high in column) / 32768 * half
        bottom = half - min(low for low, _ in column) / 32768 * half
        begin = min(int(top), size.height - 1)
        for y in range(begin, max(min(round(bottom), size.height), begin + 1)):
            rows[y][x] = 1
    return _png(size, rows)


def _png(size: Size, rows: Sequence[bytearray]) -> bytes:
    """Colour type 3 with one bit a pixel; index 0 is transparent."""
    packed = b"".join(b"\0" + _bits(row) for row in rows)  # filter 0: as it is
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", size.width, size.height, 1, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"\xff\xff\xff" + _COLOR),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(packed, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _bits(row: bytearray) -> bytes:
    """Eight pixels of 0 or 1 a byte, the leftmost first."""
    digits = row.translate(_DIGITS).decode().ljust(-(-len(row) // 8) * 8, "0")
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


_DIGITS = bytes((0x30, 0x31, *range(2, 256)))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
