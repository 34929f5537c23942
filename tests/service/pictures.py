"""Painted pictures that tests upload, and what was made of them as Pillow reads it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, ImageDraw

from telecine.engine.images.values import ImageInfo

Rgb = tuple[int, int, int]

RED: Rgb = (200, 30, 40)
GREEN: Rgb = (20, 160, 60)
BLUE: Rgb = (30, 60, 200)
WHITE: Rgb = (240, 240, 240)
QUARTERS = {"top-left": RED, "top-right": GREEN, "bottom-left": BLUE, "bottom-right": WHITE}

PHOTO = ImageInfo(
    format="jpeg",
    content_type="image/jpeg",
    width=4000,
    height=3000,
    frames=1,
    duration_s=None,
    alpha=False,
    depth=8,
    color="sRGB",
    icc=None,
    orientation=1,
    exif={},
    gps=False,
    dominant_colors=("#c81e28",),
    thumbhash="",
    blurhash="",
)
ANIMATION = replace(
    PHOTO, format="gif", content_type="image/gif", width=80, height=60, frames=3, duration_s=0.6
)


def quarters(width: int = 400, height: int = 300) -> Image.Image:
    """A picture whose quarters are red and green, blue and white."""
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    x, y = width // 2, height // 2
    draw.rectangle((0, 0, x - 1, y - 1), RED)
    draw.rectangle((x, 0, width, y - 1), GREEN)
    draw.rectangle((0, y, x - 1, height), BLUE)
    draw.rectangle((x, y, width, height), WHITE)
    return picture


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def animation(colors: Sequence[Rgb] = (RED, GREEN, BLUE), each_ms: int = 200) -> bytes:
    """A GIF that shows one colour after the other."""
    frames = [Image.new("RGB", (80, 60), color) for color in colors]
    return encoded(
        frames[0],
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=each_ms,
        loop=0,
        optimize=False,
    )


def opened(data: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(data))
    found.load()
    return found


def corners(picture: Image.Image) -> dict[str, Rgb]:
    """What is seen in the middle of each quarter."""
    shown = picture.convert("RGB")
    w, h = shown.size
    places = {
        "top-left": (w // 4, h // 4),
        "top-right": (3 * w // 4, h // 4),
        "bottom-left": (w // 4, 3 * h // 4),
        "bottom-right": (3 * w // 4, 3 * h // 4),
    }
    return {name: pixel(shown, at) for name, at in places.items()}


def pixel(picture: Image.Image, at: tuple[int, int]) -> Rgb:
    found = picture.getpixel(at)
    assert isinstance(found, tuple)
    return (int(found[0]), int(found[1]), int(found[2]))


def alike(found: Rgb, wanted: Rgb, by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


def same_corners(picture: Image.Image, wanted: dict[str, Rgb], by: int = 12) -> None:
    found = corners(picture)
    wrong = {name: found[name] for name in wanted if not alike(found[name], wanted[name], by)}
    assert wrong == {}, (wrong, wanted)
