"""Tone, blur and sharpening: against numpy, by the formulas of their specifications."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.media.images.apart import Pixels, done, one

from telecine.engine.images.operations import (
    Blur,
    Brightness,
    Contrast,
    Convert,
    Grayscale,
    Operation,
    Saturation,
    Sepia,
    Sharpen,
)

Floats = npt.NDArray[np.float64]


def colors(bands: int, dtype: Any) -> Pixels:
    """All corners of the colour cube, greys, and a thousand colours by chance."""
    random = np.random.default_rng(7)
    corners = [[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)]
    chance = random.random((1016, 3))
    rgb = np.concatenate([np.array(corners, float), chance])
    alpha = random.random((1024, 1))
    most = np.iinfo(dtype).max
    all_of_it = np.concatenate([rgb, alpha], axis=1)[:, :bands].reshape(32, 32, bands)
    return (all_of_it * most).round().astype(dtype)


# --- Filter Effects Module Level 1, section 9: the matrices as printed there ----------------------


def grayscale(amount: float) -> list[list[float]]:
    rest = 1 - amount
    return [
        [0.2126 + 0.7874 * rest, 0.7152 - 0.7152 * rest, 0.0722 - 0.0722 * rest],
        [0.2126 - 0.2126 * rest, 0.7152 + 0.2848 * rest, 0.0722 - 0.0722 * rest],
        [0.2126 - 0.2126 * rest, 0.7152 - 0.7152 * rest, 0.0722 + 0.9278 * rest],
    ]


def sepia(amount: float) -> list[list[float]]:
    rest = 1 - amount
    return [
        [0.393 + 0.607 * rest, 0.769 - 0.769 * rest, 0.189 - 0.189 * rest],
        [0.349 - 0.349 * rest, 0.686 + 0.314 * rest, 0.168 - 0.168 * rest],
        [0.272 - 0.272 * rest, 0.534 - 0.534 * rest, 0.131 + 0.869 * rest],
    ]


def saturate(s: float) -> list[list[float]]:
    return [
        [0.213 + 0.787 * s, 0.715 - 0.715 * s, 0.072 - 0.072 * s],
        [0.213 - 0.213 * s, 0.715 + 0.285 * s, 0.072 - 0.072 * s],
        [0.213 - 0.213 * s, 0.715 - 0.715 * s, 0.072 + 0.928 * s],
    ]


def scaled(slope: float) -> list[list[float]]:
    return [[slope, 0, 0], [0, slope, 0], [0, 0, slope]]


@pytest.mark.parametrize(
    ("operation", "matrix", "intercept"),
    [
        (Grayscale(), grayscale(1), 0),
        (Grayscale(amount=0.3), grayscale(0.3), 0),
        (Grayscale(amount=0), scaled(1), 0),
        (Sepia(), sepia(1), 0),
        (Sepia(amount=0.6), sepia(0.6), 0),
        (Saturation(amount=0), saturate(0), 0),
        (Saturation(amount=0.5), saturate(0.5), 0),
        (Saturation(amount=3), saturate(3), 0),
        (Brightness(amount=0), scaled(0), 0),
        (Brightness(amount=0.7), scaled(0.7), 0),
        (Brightness(amount=2.5), scaled(2.5), 0),
        (Contrast(amount=0), scaled(0), 0.5),
        (Contrast(amount=0.4), scaled(0.4), -(0.5 * 0.4) + 0.5),
        (Contrast(amount=3), scaled(3), -(0.5 * 3) + 0.5),
    ],
)
@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tones_are_those_of_css(
    operation: Operation, matrix: list[list[float]], intercept: float, bands: int, dtype: Any
) -> None:
    source = colors(bands, dtype)
    most = np.iinfo(dtype).max
    rgb = source[..., :3].astype(float) / most
    expected = (rgb @ np.array(matrix).T + intercept).clip(0, 1) * most
    made = done(source, operation)
    assert made.frames[0].dtype == dtype
    assert made.tags == ("rgb16" if dtype == np.uint16 else "srgb",)
    assert np.abs(made.frames[0][..., :3] - expected).max() <= 1
    assert (made.frames[0][..., 3:] == source[..., 3:]).all()


def test_how_it_is_written_changes_no_pixel() -> None:
    source = colors(4, np.uint8)
    assert (one(source, Convert(quality=1)) == source).all()


# --- blur -----------------------------------------------------------------------------------------


def gauss(pixels: npt.NDArray[Any], sigma: float) -> Floats:
    """By the definition; beyond the edge the picture goes on as it ends there."""
    reach = int(5 * sigma + 1)
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    weights /= weights.sum()
    made = pixels.astype(float)
    for axis in (0, 1):
        pad = [(0, 0)] * made.ndim
        pad[axis] = (reach, reach)
        wide = np.pad(made, pad, "edge")
        made = np.apply_along_axis(lambda line: np.convolve(line, weights, "valid"), axis, wide)
    return made


def blocks(dtype: Any = np.uint8) -> Pixels:
    made = np.zeros((160, 240, 3), dtype)
    most = np.iinfo(dtype).max
    made[40:120, 60:100] = (most, most // 2, 0)
    made[60:90, 150:230] = (0, most // 3, most)
    return made


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1, 2.5, 6, 12, 16, 30])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_blur_is_gaussian(sigma: float, dtype: Any) -> None:
    most = np.iinfo(dtype).max
    wrong = np.abs(one(blocks(dtype), Blur(sigma=sigma)) - gauss(blocks(dtype), sigma)) / most
    assert wrong.max() < 0.025  # in one pixel, at a corner
    assert wrong.mean() < 0.003


def test_the_largest_blur_leaves_one_shade() -> None:
    made = one(blocks(), Blur(sigma=250))
    assert (np.ptp(made.astype(int), axis=(0, 1)) < 40).all()
    assert np.abs(made.mean(axis=(0, 1)) - blocks().mean(axis=(0, 1))).max() < 25


def test_blur_of_a_plain_picture_changes_nothing() -> None:
    for value in (0, 1, 100, 254, 255):
        source = np.full((50, 50, 3), value, np.uint8)
        for sigma in (0.5, 3, 40):
            assert (one(source, Blur(sigma=sigma)) == source).all()


# --- sharpen --------------------------------------------------------------------------------------


def lightness(grey: Floats) -> Floats:
    """sRGB grey (0 to 1) → L* (IEC 61966-2-1, CIE 15)."""
    y = np.where(grey <= 0.04045, grey / 12.92, ((grey + 0.055) / 1.055) ** 2.4)
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def grey(light: Floats) -> Floats:
    light = light.clip(0, 100)
    y = np.where(light > 8, ((light + 16) / 116) ** 3, light * (3 / 29) ** 3)
    return np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("sigma", "amount"), [(0.5, 1), (1, 0.5), (2, 2), (5, 1), (1, 0)])
@pytest.mark.parametrize("scale", [1, 257])
def test_sharpen_is_an_unsharp_mask_on_the_lightness(
    sigma: float, amount: float, scale: int
) -> None:
    most = 255 * scale
    values = np.full((80, 120), 60)
    values[20:60, 30:90] = 150
    values[30:50, 60:] = 200
    dtype = np.uint16 if scale == 257 else np.uint8
    source = (np.repeat(values[..., None], 3, axis=2) * scale).astype(dtype)
    light = lightness(values / 255)
    expected = grey(light + amount * (light - gauss(light, sigma))) * most
    made = one(source, Sharpen(sigma=sigma, amount=amount))
    assert made.dtype == dtype
    assert np.abs(made - expected[..., None]).max() <= 1.6 * scale


def test_sharpening_keeps_the_hue() -> None:
    source = np.full((40, 40, 3), (150, 90, 60), np.uint8)
    source[:, 20:] = (100, 60, 40)  # two thirds of the same
    made = one(source, Sharpen(sigma=1, amount=1)).astype(float)
    assert made[20, 19].sum() > 305  # brighter at the edge
    assert made[20, 20].sum() < 195
    assert np.abs(made[20, 19] / made[20, 19].max() - source[20, 0] / 150).max() < 0.08


@pytest.mark.parametrize("hidden", [0, 255])
def test_sharpening_makes_no_edge_of_what_is_not_seen(hidden: int) -> None:
    source = np.full((40, 40, 4), (120, 120, 120, 255), np.uint8)
    source[:, 20:] = (hidden, hidden, hidden, 0)
    made = one(source, Sharpen(sigma=2, amount=3))
    assert np.abs(made[:, :20].astype(int) - source[:, :20]).max() <= 1
    assert (made[:, 20:, 3] == 0).all()


# --- animations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation", [Blur(sigma=2), Sharpen(), Grayscale(), Sepia(), Brightness(amount=1.0)]
)
def test_every_frame_gets_it_and_keeps_its_time(operation: Operation) -> None:
    frames = [np.full((20, 30, 3), value, np.uint8) for value in (10, 100, 200)]
    made = done(frames, operation)
    assert made.delays_ms == (10, 20, 30)
    means = [float(frame.mean()) for frame in made.frames]
    assert means == sorted(means)
    assert means[0] < 20
    assert means[2] > 180
