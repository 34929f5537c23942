"""What a picture is: the fields of `ImageInfo`, as plain values.

Most stands in the header. Colours and placeholders come from a picture of at most 100 pixels a side
of the first frame, upright and in sRGB.
"""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import blurhash
import pyvips

from telecine.engine.images import metadata
from telecine.engine.images.formats import FORMATS
from telecine.engine.images.geometry import Size
from telecine.engine.images.loading import Header
from telecine.engine.images.picture import Picture

SMALL = 100  # ThumbHash's own limit
_BLUR = 32  # BlurHash keeps a handful of waves: more pixels say nothing more

_COLORS = 5
_LEAST_SHARE = 0.01  # of the pixels; less is no colour that anybody would name
_APART = 48  # of 255, in RGB: nearer ones are shades of one colour

Pixel = tuple[int, int, int, int]


def small(size: Size) -> Size:
    """The size at which colours are looked at."""
    scale = min(1.0, SMALL / max(size.width, size.height))
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def describe(header: Header, picture: Picture) -> dict[str, Any]:
    """`picture` is the first frame, at `small` size or larger.

    Raises:
        pyvips.Error: it cannot be computed.
    """
    image = picture.frames[0].thumbnail_image(SMALL, height=SMALL, size="down").copy_memory()
    width, height, pixels = _rgba(image)
    return {
        "format": header.format,
        "content_type": FORMATS[header.format].content_type,
        "width": header.size.width,
        "height": header.size.height,
        "frames": header.frames,
        "duration_s": sum(header.delays_ms) / 1000 if header.animated else None,
        "alpha": header.alpha,
        "depth": header.depth,
        "color": _color(header),
        "icc": metadata.profile_name(header.profile),
        "orientation": header.orientation,
        "exif": metadata.words(header.exif),
        "gps": metadata.has_gps(header.exif) or metadata.xmp_has_gps(header.xmp),
        "dominant_colors": dominant(pixels),
        "thumbhash": base64.b64encode(thumbhash(width, height, pixels)).decode(),
        "blurhash": _blurhash(image),
    }


def _color(header: Header) -> str:
    if header.interpretation in ("b-w", "grey16"):
        return "grey"
    if header.interpretation == "cmyk":
        return "CMYK"
    if header.interpretation in ("lab", "labs"):
        return "Lab"
    if header.coding is not None and not header.coding.is_srgb:
        return header.coding.words + (" (HDR)" if header.coding.hdr else "")
    return metadata.profile_name(header.profile) or "sRGB"


def _rgba(image: pyvips.Image) -> tuple[int, int, list[Pixel]]:
    if image.format != "uchar":
        image = image.cast("uchar", shift=True)
    if image.bands == 3:
        image = image.bandjoin(255)
    data = image.write_to_memory()
    channels = (bytes(memoryview(data)[n::4]) for n in range(4))
    return image.width, image.height, list(zip(*channels, strict=True))


def dominant(pixels: list[Pixel]) -> list[str]:
    """Up to five colours, the one with the largest area first. What is transparent has none.

    Pixels are counted in cells of 32 levels a channel, and cells whose means are shades of one
    colour are joined, the fuller ones first.
    """
    cells: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for r, g, b, a in pixels:
        if a >= 128:
            cell = cells[r >> 5, g >> 5, b >> 5]
            for n, value in enumerate((1, r, g, b)):
                cell[n] += value
    joined: list[list[int]] = []
    for cell in sorted(cells.values(), reverse=True):
        near = next((each for each in joined if _distance(each, cell) < _APART), None)
        if near is None:
            joined.append(list(cell))
        else:
            near[:] = [x + y for x, y in zip(near, cell, strict=True)]
    total = sum(cell[0] for cell in joined)
    named = [cell for cell in sorted(joined, reverse=True) if cell[0] >= total * _LEAST_SHARE]
    return ["#" + "".join(f"{round(v / n):02x}" for v in rgb) for n, *rgb in named[:_COLORS]]


def _distance(a: list[int], b: list[int]) -> float:
    return float(sum((x / a[0] - y / b[0]) ** 2 for x, y in zip(a[1:], b[1:], strict=True)) ** 0.5)


# --- placeholders ---------------------------------------------------------------------------------


def thumbhash(width: int, height: int, pixels: list[Pixel]) -> bytes:
    """ThumbHash (Evan Wallace, evanw.github.io/thumbhash): the lowest waves of luminance, two
    colour differences and alpha. (The package of that name fails where there is transparency.)"""
    alphas = [pixel[3] / 255 for pixel in pixels]
    total = sum(alphas)
    mean = [
        sum(a * pixel[n] / 255 for a, pixel in zip(alphas, pixels, strict=True)) / (total or 1)
        for n in range(3)
    ]
    seen = [
        [m * (1 - a) + a * v / 255 for m, v in zip(mean, pixel, strict=False)]
        for a, pixel in zip(alphas, pixels, strict=True)
    ]
    has_alpha = total < width * height
    most = 5 if has_alpha else 7
    across, down = (max(1, round(most * side / max(width, height))) for side in (width, height))
    luma = _waves(
        [(r + g + b) / 3 for r, g, b in seen], width, height, max(3, across), max(3, down)
    )
    p = _waves([(r + g) / 2 - b for r, g, b in seen], width, height, 3, 3)
    q = _waves([r - g for r, g, _ in seen], width, height, 3, 3)
    head = (
        round(63 * luma.mean)
        | round(31.5 + 31.5 * p.mean) << 6
        | round(31.5 + 31.5 * q.mean) << 12
        | round(31 * luma.scale) << 18
        | has_alpha << 23
    )
    shape = (
        (down if width > height else across)
        | round(63 * p.scale) << 3
        | round(63 * q.scale) << 9
        | (width > height) << 15
    )
    made = head.to_bytes(3, "little") + shape.to_bytes(2, "little")
    channels = [luma, p, q]
    if has_alpha:
        a = _waves(alphas, width, height, 5, 5)
        made += bytes([round(15 * a.mean) | round(15 * a.scale) << 4])
        channels.append(a)
    nibbles = [round(15 * wave) for channel in channels for wave in channel.waves]
    pairs = zip(nibbles[::2], [*nibbles[1::2], 0], strict=False)
    return made + bytes(low | high << 4 for low, high in pairs)


@dataclass(frozen=True, slots=True)
class _Channel:
    """A channel's mean, and its waves from 0 to 1, which are -scale to scale."""

    mean: float
    scale: float
    waves: list[float]


def _waves(values: list[float], width: int, height: int, across: int, down: int) -> _Channel:
    """The waves of a channel in a triangle of frequencies (a discrete cosine transform)."""
    cosines = [
        [math.cos(math.pi / width * cx * (x + 0.5)) for x in range(width)] for cx in range(across)
    ]
    rows = [values[top : top + width] for top in range(0, width * height, width)]
    found: list[float] = []
    for cy in range(down):
        column = [math.cos(math.pi / height * cy * (y + 0.5)) for y in range(height)]
        summed = [
            sum(c * v for c, v in zip(column, strip, strict=True))
            for strip in zip(*rows, strict=True)
        ]
        cx = 0
        while cx * down < across * (down - cy):
            total = sum(c * v for c, v in zip(cosines[cx], summed, strict=True))
            found.append(total / (width * height))
            cx += 1
    mean, *waves = found
    scale = max((abs(wave) for wave in waves), default=0.0)
    if scale:
        waves = [0.5 + 0.5 / scale * wave for wave in waves]
    return _Channel(mean, scale, waves)


def _blurhash(image: pyvips.Image) -> str:
    """On white where it is transparent: BlurHash knows no alpha. Four waves along the longer side,
    three along the other, as its authors advise."""
    if image.hasalpha():
        most = 65535 if image.format == "ushort" else 255
        image = image.flatten(background=[most] * 3, max_alpha=most)
    width, height, pixels = _rgba(image.thumbnail_image(_BLUR, height=_BLUR, size="down"))
    rows = [
        [pixel[:3] for pixel in pixels[top : top + width]]
        for top in range(0, width * height, width)
    ]
    across, down = (4, 3) if width >= height else (3, 4)
    return str(blurhash.encode(rows, components_x=across, components_y=down))
