"""The 256 colours of a GIF: those that the eye tells apart, or those that there are.

Files are read by Pillow; colours are held against the source by CIEDE2000 (test_colour.py).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.media.images import apart, references
from tests.media.images.colour import compare, delta_e_2000, lab
from tests.media.images.making import Pixels, made, photo, png, saved

from telecine.engine.images.pool import ImageWorkers


def opaque(rgb: Pixels) -> Pixels:
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def read(data: bytes) -> tuple[Pixels, ...]:
    return references.pillow(io.BytesIO(data)).frames


def test_a_picture_of_many_colours_keeps_them_within_the_bounds(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    """Each pixel, not their mean. libvips' own choice loses ΔE2000 2.1 and 7.3 at p99 of it, or 2.4
    and 9.5 with the effort of an animation; Pillow's more."""
    source = opaque(photo(200, 150))
    (got,) = read(made(workers, tmp_path, png(source), "", "gif").data)
    assert not compare(got, source).beyond()
    pillows = np.asarray(Image.fromarray(source).convert("RGB").quantize(256).convert("RGBA"))
    assert compare(pillows, source).beyond()


def test_each_frame_keeps_them_too(workers: ImageWorkers, tmp_path: Path) -> None:
    whole = photo(120, 90)
    sources = [np.roll(whole, 20 * n, axis=1) for n in range(4)]
    images = [Image.fromarray(each) for each in sources]
    data = saved(
        images[0], "WEBP", save_all=True, append_images=images[1:], duration=100, lossless=True
    )
    frames = read(made(workers, tmp_path, data, "", "gif").data)
    assert len(frames) == 4
    for got, source in zip(frames, sources, strict=True):
        assert not compare(got, opaque(source)).beyond()


@pytest.mark.parametrize("colours", [2, 17, 140, 250])
def test_a_picture_of_few_colours_keeps_each_exactly(
    workers: ImageWorkers, tmp_path: Path, colours: int
) -> None:
    random = np.random.default_rng(colours)
    palette = random.integers(0, 256, (colours, 3)).astype(np.uint8)
    source = opaque(palette[random.integers(0, colours, (40, 60))])
    source[:10, :, 3] = 0
    (got,) = read(made(workers, tmp_path, png(source), "", "gif").data)
    assert (got[10:] == source[10:]).all()
    assert not got[:10, :, 3].any()


def test_what_is_transparent_stays_so_among_many_colours(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    source = opaque(photo(200, 150))
    source[40:70, 50:90, 3] = 0
    (got,) = read(made(workers, tmp_path, png(source), "", "gif").data)
    assert (got[..., 3] == source[..., 3]).all()
    assert not compare(got, source).beyond()


def test_every_colour_finds_back_from_where_the_quantiser_sees_it() -> None:
    """A grid over all of sRGB."""
    levels = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    codes, back = apart.spread(grid.astype(np.uint8))
    assert codes.any(axis=2).all()  # zeros mean that there is none
    far = delta_e_2000(lab(back.astype(float)), lab(grid.astype(float)))
    assert far.mean() < 0.2
    assert far.max() < 1
