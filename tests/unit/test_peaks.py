"""Peaks: what FFmpeg prints of them, audiowaveform's JSON, and the picture as Pillow reads it."""

from __future__ import annotations

import io
import json
import struct

import pytest
from PIL import Image

from telecine.engine.errors import StepFailed
from telecine.engine.formats.containers import png_size
from telecine.engine.ladder import Size
from telecine.engine.peaks import (
    MAX_LENGTH,
    PeaksReader,
    eight_bits,
    peaks_json,
    peaks_png,
    samples_per_pixel,
)

PRINTED = b"""frame:0    pts:0       pts_time:0
lavfi.astats.Overall.Min_level=-32768.000000
lavfi.astats.Overall.Max_level=32767.000000
frame:1    pts:256     pts_time:0.00533333
lavfi.astats.Overall.Min_level=-0.000000
lavfi.astats.Overall.Max_level=0.000000
frame:2    pts:512     pts_time:0.0106667
lavfi.astats.Overall.Min_level=12.000000
lavfi.astats.Overall.Max_level=99999.000000
"""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_ffmpeg_prints_in_pieces(size: int) -> None:
    reader = PeaksReader()
    for at in range(0, len(PRINTED), size):
        reader.feed(PRINTED[at : at + size])
    assert reader.peaks == [(-32768, 32767), (0, 0), (12, 32767)]


def test_a_greatest_without_a_least_is_no_peak() -> None:
    reader = PeaksReader()
    reader.feed(b"lavfi.astats.Overall.Max_level=1.000000\nnoise\n")
    assert reader.peaks == []


@pytest.mark.parametrize(
    ("samples", "window"),
    [
        (1, 256),
        (256 * MAX_LENGTH, 256),
        (256 * MAX_LENGTH + 1, 512),
        (7200 * 48_000, 32_768),  # two hours: 345.6 million / 20,000 = 17,280, doubled from 256
    ],
)
def test_the_window_grows_with_the_sound(samples: int, window: int) -> None:
    assert samples_per_pixel(samples) == window


def test_eight_bits_are_rounded_towards_zero() -> None:
    assert [eight_bits(v) for v in (-32768, -256, -255, -1, 0, 255, 256, 32767)] == [
        *(-128, -1, 0, 0, 0, 0, 1, 127)
    ]


def test_audiowaveforms_json() -> None:
    text = peaks_json([(-32768, 32767), (-512, 256)], 48_000, 256)
    assert json.loads(text) == {
        "version": 2,
        "channels": 1,
        "sample_rate": 48_000,
        "samples_per_pixel": 256,
        "bits": 8,
        "length": 2,
        "data": [-128, 127, -2, 1],
    }


def drawn(peaks: list[tuple[int, int]], size: Size) -> list[list[bool]]:
    """Which pixels of each column are not transparent, by another program."""
    data = peaks_png(peaks, size)
    assert png_size(data) == size
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "PNG"
        alpha = opened.convert("RGBA").getchannel("A")
        return [
            [alpha.getpixel((x, y)) == 255 for y in range(size.height)] for x in range(size.width)
        ]


def test_the_picture_shows_each_peak_where_it_is() -> None:
    full, low_half, silence = drawn([(-32768, 32767), (-16384, 0), (0, 0)], Size(3, 8))
    assert full == [True] * 8
    assert low_half == [False] * 4 + [True] * 2 + [False] * 2
    assert silence == [False] * 4 + [True] + [False] * 3


def test_several_peaks_share_a_column_and_one_fills_several() -> None:
    (column,) = drawn([(-32768, -32768), (32767, 32767)], Size(1, 4))
    assert column == [True] * 4
    wide = drawn([(0, 32767)], Size(20, 4))
    assert wide == [[True, True, False, False]] * 20


def test_no_peaks_give_an_empty_picture() -> None:
    assert drawn([], Size(9, 2)) == [[False, False]] * 9


PNG = peaks_png([(0, 0)], Size(1, 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        PNG[:-1],
        PNG[:-12],  # no end
        PNG + b"\0",
        PNG[:20] + b"\xff" + PNG[21:],  # a width that its checksum does not know
        PNG[:8] + PNG[33:],  # no header
    ],
)
def test_a_png_that_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(StepFailed):
        png_size(data)


def test_a_header_is_read_as_it_stands() -> None:
    assert struct.unpack_from(">II", PNG, 16) == (1, 1)
