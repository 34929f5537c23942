"""The colours of a GIF, chosen by what the eye tells apart.

libvips' quantiser measures in RGB, where a step between two dark reds counts like one between two
light greens. So it is shown a picture that is `spread`: CIELAB with lightness and chroma drawn
together as CIEDE2000 weighs them (S_L and S_C of Sharma, Wu and Dalal, 2005: about 1 + 0.015 |L* -
50| and 1 + 0.045 C*, of which these are the integrals), in eight bits. Of the file that comes of it
the colour tables alone are turned back. Photos of 200 pixels lose ΔE2000 1.3 to 1.6 in the mean and
3.9 to 4.5 at p99 this way, in RGB with the same effort 1.4 to 1.9 and 5.9 to 6.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyvips

_CHROMA, _LIGHT = 0.045, 0.015
# Black and white are drawn to 37.3 below and above the middle, no colour of sRGB lies farther out.
_STEPS, _MIDDLE = 3.4, 128

# libvips keeps one of 256 places free. One that is not used is written as zeros, which no spread
# colour is: black is 1, 128, 128.
_COLOURS = 255
_UNUSED = bytes(3)


def spread(image: pyvips.Image) -> pyvips.Image:
    """An sRGB picture of unsigned bytes for the quantiser; its alpha as it is."""
    lab = image[0:3].colourspace("lab")
    light, a, b = lab[0] - 50, lab[1], lab[2]
    chroma = (a * a + b * b) ** 0.5
    nearer = _drawn(chroma, _CHROMA)
    drawn = (light * _drawn(light.abs(), _LIGHT)).bandjoin([a * nearer, b * nearer])
    coded = (drawn * _STEPS + _MIDDLE).rint().cast("uchar")
    if image.hasalpha():
        coded = coded.bandjoin(image[3])
    return coded.copy(interpretation="srgb")


def _drawn(length: pyvips.Image, weight: float) -> pyvips.Image:
    """By how much a length is multiplied: ∫ 1 / (1 + weight · x) dx over its own, by that."""
    length = length + 1e-6  # of nothing the logarithm below would be divided by nothing
    return (length * weight + 1).log() / (length * weight)


def restored(gif: bytes) -> bytes | None:
    """The file that was made of a `spread` picture, in its true colours; None when no frame of it
    needs all colours: such a picture is better quantised as it is, which takes each exactly."""
    tables = list(colour_tables(gif))
    if not any(_is_full(gif, at, entries) for at, entries in tables):
        return None
    codes = b"".join(gif[at : at + 3 * entries] for at, entries in tables)
    colours = true_colours(codes)
    made, taken = bytearray(gif), 0
    for at, entries in tables:
        made[at : at + 3 * entries] = colours[taken : taken + 3 * entries]
        taken += 3 * entries
    return bytes(made)


def _is_full(gif: bytes, at: int, entries: int) -> bool:
    last = at + 3 * (_COLOURS - 1)
    return entries >= _COLOURS and gif[last : last + 3] != _UNUSED


def true_colours(codes: bytes) -> bytes:
    """Spread colours, three bytes each, as sRGB: what `spread` does, backwards."""
    places: list[float] = []
    for n in range(0, len(codes), 3):
        light, a, b = ((code - _MIDDLE) / _STEPS for code in codes[n : n + 3])
        near = math.hypot(a, b)
        farther = math.expm1(near * _CHROMA) / _CHROMA / near if near else 1
        lightness = math.copysign(math.expm1(abs(light) * _LIGHT) / _LIGHT, light)
        places += (50 + lightness, a * farther, b * farther)
    row = pyvips.Image.new_from_list([places]).bandfold(factor=3)
    return bytes(row.copy(interpretation="lab").colourspace("srgb").write_to_memory())


def colour_tables(gif: bytes) -> Iterator[tuple[int, int]]:
    """Where the colour tables of a well-formed GIF begin, and how many entries each has (GIF89a
    specification, 18 to 27)."""
    at = 13
    if gif[10] & 0x80:
        entries = 2 << (gif[10] & 7)
        yield at, entries
        at += 3 * entries
    while gif[at] != 0x3B:  # trailer
        if gif[at] == 0x2C:  # image descriptor
            packed = gif[at + 9]
            at += 10
            if packed & 0x80:
                entries = 2 << (packed & 7)
                yield at, entries
                at += 3 * entries
            at += 1  # LZW's first code size
        else:  # extension
            at += 2
        while gif[at]:  # sub-blocks
            at += 1 + gif[at]
        at += 1
