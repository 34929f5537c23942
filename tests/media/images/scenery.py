"""Small pictures of our own, drawn with Pillow: a landscape, a logo, a scan with white margins."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 320, 214
_TIMES = 4  # drawn larger, then made smaller: smooth edges


def landscape() -> Image.Image:
    """A lake before mountains, the sun to the left, a red boat to the right."""
    width, height = WIDTH * _TIMES, HEIGHT * _TIMES
    shore = int(height * 0.62)
    rows = np.linspace(0, 1, shore)[:, None]
    sky = (1 - rows) * np.array([58, 112, 190]) + rows * np.array([250, 214, 165])
    image = Image.new("RGB", (width, height))
    upper = np.repeat(sky[:, None, :], width, axis=1).astype(np.uint8)
    image.paste(Image.fromarray(upper), (0, 0))
    draw = ImageDraw.Draw(image)
    _disc(draw, width * 0.22, height * 0.3, height * 0.085, (255, 236, 170))
    _ridge(draw, shore, width, 0.34, (110, 118, 152), 1.3, 5.1)
    _ridge(draw, shore, width, 0.22, (70, 88, 110), 4.2, 8.3)
    _ridge(draw, shore, width, 0.09, (38, 74, 62), 2.2, 23)
    above = image.crop((0, 2 * shore - height, width, shore))
    mirrored = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    water = Image.blend(mirrored, Image.new("RGB", mirrored.size, (28, 70, 105)), 0.45)
    image.paste(water.filter(ImageFilter.GaussianBlur(6)), (0, shore))
    for n in range(60):  # waves
        y = shore + 8 + (height - shore) * ((n * 37) % 60) / 60
        x = width * ((n * 53) % 97) / 97
        long = 20 + (y - shore) * 0.4
        draw.line([(x, y), (x + long, y)], fill=(170, 190, 205), width=3)
    _boat(draw, width * 0.72, shore + (height - shore) * 0.42, height * 0.2)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def logo() -> Image.Image:
    """A blue play button on transparent ground."""
    side = 96 * _TIMES
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    _disc(draw, side / 2, side / 2, side * 0.48, (24, 99, 214, 255))
    points = [(side * x, side * y) for x, y in ((0.38, 0.28), (0.38, 0.72), (0.75, 0.5))]
    draw.polygon(points, fill=(255, 255, 255, 255))
    return image.resize((96, 96), Image.Resampling.LANCZOS)


def scan() -> Image.Image:
    """The landscape on a sheet of white paper."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), (252, 252, 252))
    sheet.paste(landscape().resize((190, 127), Image.Resampling.LANCZOS), (90, 30))
    return sheet


def _disc(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: tuple[int, ...]
) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _ridge(
    draw: ImageDraw.ImageDraw,
    shore: int,
    width: int,
    tall: float,
    color: tuple[int, int, int],
    phase: float,
    peaks: float,
) -> None:
    points = [(0.0, float(shore))]
    for x in range(0, width + 1, 4):
        at = x / width * peaks + phase
        bumps = 0.55 * abs(math.sin(at)) + 0.3 * abs(math.sin(2.3 * at)) + 0.15 * math.sin(7.1 * at)
        points.append((float(x), shore * (1 - tall * (0.5 + bumps))))
    draw.polygon([*points, (float(width), float(shore))], fill=color)


def _boat(draw: ImageDraw.ImageDraw, x: float, y: float, tall: float) -> None:
    draw.line([(x, y), (x, y - tall)], fill=(60, 40, 30), width=8)
    sail = [(x + 8, y - tall), (x + 8, y - tall * 0.12), (x + tall * 0.55, y - tall * 0.12)]
    draw.polygon(sail, fill=(250, 246, 235))
    draw.polygon(
        [(x - 10, y - tall * 0.8), (x - 10, y - tall * 0.12), (x - tall * 0.35, y - tall * 0.12)],
        fill=(236, 228, 210),
    )
    hull = [(-0.5, 0), (0.6, 0), (0.42, 0.2), (-0.36, 0.2)]
    draw.polygon([(x + tall * dx, y + tall * dy) for dx, dy in hull], fill=(196, 40, 34))
