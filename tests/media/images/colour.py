"""How far two pictures are apart as an eye sees it: CIEDE2000 over sRGB pixels, in numpy.

The formula is that of Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula: implementation
notes, supplementary test data, and mathematical observations" (Color Research and Application 30,
2005); test_colour.py holds it against the table of that paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]  # height × width × 4: RGBA, not premultiplied
Floats: TypeAlias = npt.NDArray[np.float64]

# Issue 4: of a result against a reference made by another program. What an error of alpha does
# before white and before black is in it; in the mean it is to be no more than as little of 255.
MEAN, P99 = 2.0, 6.0
ALPHA_MEAN = 2.0

SAMPLE = 60_000  # pixels that are compared of a large picture, on a grid over all of it

# IEC 61966-2-1: sRGB to XYZ, and its white point D65.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375],
     [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip
_WHITE = _TO_XYZ.sum(axis=1)


def lab(rgb: Floats) -> Floats:
    """CIELAB of sRGB values from 0 to 255, in the last axis."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e_2000(first: Floats, second: Floats) -> Floats:
    """ΔE of two arrays of CIELAB values, in the last axis; the numbers are those of the paper."""
    l1, a1, b1 = np.moveaxis(first, -1, 0)
    l2, a2, b2 = np.moveaxis(second, -1, 0)
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7  # (2), (3)
    g = 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))  # (4)
    a1, a2 = a1 * (1 + g), a2 * (1 + g)  # (5)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)  # (6)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))  # (7)
    grey = c1 * c2 == 0
    turn = (h2 - h1 + 180) % 360 - 180  # (10): from -180 to 180
    turn = np.where(grey, 0, np.where((turn == -180) & (h2 > h1), 180, turn))
    dl, dc = l2 - l1, c2 - c1  # (8), (9)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))  # (11)
    mean_l, mean_c, total = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2  # (12), (13)
    across = np.where(total < 360, total + 360, total - 360)
    mean_h = np.where(grey, total, np.where(np.abs(h1 - h2) > 180, across, total) / 2)  # (14)
    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )  # (15)
    theta = 30 * np.exp(-(((mean_h - 275) / 25) ** 2))  # (16)
    rc = 2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))  # (17)
    sl = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)  # (18)
    sc, sh = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t  # (19), (20)
    rt = -np.sin(np.radians(2 * theta)) * rc  # (21)
    light, chroma, hue = dl / sl, dc / sc, dh / sh
    squared: Floats = light**2 + chroma**2 + hue**2 + rt * chroma * hue
    return np.sqrt(np.maximum(squared, 0))  # (22)


@dataclass(frozen=True, slots=True)
class Difference:
    """ΔE2000 and the difference of alpha (from 0 to 255), over the pixels of two pictures."""

    mean: float
    p99: float
    alpha_mean: float
    alpha_p99: float

    def __str__(self) -> str:
        return f"ΔE {self.mean:.2f}/{self.p99:.2f} α {self.alpha_mean:.2f}/{self.alpha_p99:.0f}"

    def beyond(self) -> list[str]:
        """Which of the promised bounds it is beyond, in words."""
        wrong = []
        if self.mean > MEAN or self.p99 > P99:
            wrong.append(f"colour: {self}")
        if self.alpha_mean > ALPHA_MEAN:
            wrong.append(f"alpha: {self}")
        return wrong


def compare(first: Pixels, second: Pixels) -> Difference:
    """Two pictures of one size. Where one is transparent they are seen before white and before
    black, and the worse of the two counts: a colour that cannot be seen is no difference."""
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} cannot be compared")
    step = max(1, round((first.shape[0] * first.shape[1] / SAMPLE) ** 0.5))
    one, other = (
        each[::step, ::step].astype(np.float64).reshape(-1, 4) for each in (first, second)
    )
    opaque = bool((one[:, 3] == 255).all() and (other[:, 3] == 255).all())
    seen = [
        delta_e_2000(lab(over(one, ground)), lab(over(other, ground)))
        for ground in ([255.0] if opaque else [255.0, 0.0])
    ]
    alpha = np.abs(one[:, 3] - other[:, 3])
    return Difference(
        max(float(each.mean()) for each in seen),
        max(float(np.percentile(each, 99)) for each in seen),
        float(alpha.mean()),
        float(np.percentile(alpha, 99)),
    )


def over(rgba: Floats, ground: float) -> Floats:
    """RGB of RGBA values before a grey ground."""
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + ground * (1 - alpha)
