"""Watermarks, round corners, and what lies behind: to the pixel, against Pillow and numpy."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont
from tests.media.images.apart import Pixels, done, one

import telecine
from telecine.engine.errors import UsageError
from telecine.engine.images.operations import Background, Position, Round, Watermark
from telecine.engine.process import Access, Limits, Sandbox, run

ROOT = Path(__file__).parents[3]
FONTS = Path(telecine.__file__).parent / "engine" / "images" / "fonts"


def shades(width: int, height: int, bands: int = 3) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    made = [x * 255 // width, y * 255 // height, (x + y) % 256, np.full_like(x, 255)]
    return np.stack(made[:bands], axis=2).astype(np.uint8)


def sticker(width: int = 20, height: int = 10) -> Pixels:
    """Red, its upper left pixel blue; the lower half is transparent green."""
    made = np.zeros((height, width, 4), np.uint8)
    made[:] = (255, 0, 0, 255)
    made[0, 0] = (0, 0, 255, 255)
    made[height // 2 :] = (0, 255, 0, 0)
    return made


def laid(under: Pixels, over: Pixels, left: int, top: int, opacity: float = 1.0) -> Pixels:
    """Source over (Porter and Duff) by numpy, on an opaque ground; what sticks out is cut off."""
    made = under.astype(float)
    for y in range(over.shape[0]):
        for x in range(over.shape[1]):
            at_y, at_x = top + y, left + x
            if 0 <= at_y < under.shape[0] and 0 <= at_x < under.shape[1]:
                share = over[y, x, 3] / 255 * opacity
                made[at_y, at_x, :3] = over[y, x, :3] * share + made[at_y, at_x, :3] * (1 - share)
    return made


def off(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(np.subtract(a, b, dtype=np.float64)).max())


# --- watermarks that are pictures -----------------------------------------------------------------

# A fifth of 100 wide: the sticker in its own size, 20 × 10 on 100 × 60.
PLACES: list[tuple[Position, int, int]] = [
    ("top-left", 3, 2),
    ("top", 43, 2),
    ("top-right", 77, 2),
    ("left", 3, 27),
    ("center", 43, 27),
    ("right", 77, 27),
    ("bottom-left", 3, 48),
    ("bottom", 43, 48),
    ("bottom-right", 77, 48),
]


@pytest.mark.parametrize(("position", "left", "top"), PLACES)
def test_a_watermark_lies_where_it_is_told(position: Position, left: int, top: int) -> None:
    under = shades(100, 60)
    operation = Watermark(image="logo", position=position, x=3, y=2, scale=0.2)
    made = one(under, operation, refs={"logo": sticker()})
    assert off(made, laid(under, sticker(), left, top)) == 0


@pytest.mark.parametrize(
    ("position", "x", "y", "left", "top"),
    [("top-left", -13, -4, -13, -4), ("bottom-right", -15, -7, 95, 57), ("center", 45, 0, 85, 25)],
)
def test_what_sticks_out_is_cut_off(
    position: Position, x: int, y: int, left: int, top: int
) -> None:
    under = shades(100, 60)
    operation = Watermark(image="logo", position=position, x=x, y=y, scale=0.2)
    made = one(under, operation, refs={"logo": sticker()})
    assert off(made, laid(under, sticker(), left, top)) == 0


def test_a_watermark_beyond_the_picture_changes_nothing() -> None:
    under = shades(100, 60)
    operation = Watermark(image="logo", position="right", x=-20, scale=0.2)
    assert off(one(under, operation, refs={"logo": sticker()}), under) == 0


def test_a_watermark_is_as_wide_as_its_share_and_keeps_its_aspect() -> None:
    logo = np.full((30, 90, 3), (0, 0, 255), np.uint8)
    under = np.full((200, 400, 3), 255, np.uint8)
    for scale, width, height in ((0.25, 100, 33), (0.05, 20, 7), (1, 400, 133), (2, 400, 200)):
        operation = Watermark(image="logo", position="center", scale=scale)
        made = one(under, operation, refs={"logo": logo})
        blue = (made == (0, 0, 255)).all(axis=2)
        assert (blue.any(axis=0).sum(), blue.any(axis=1).sum()) == (width, height)


@pytest.mark.parametrize("opacity", [0, 0.25, 0.5, 1])
def test_opacity_is_a_share_of_its_alpha(opacity: float) -> None:
    under = shades(100, 60)
    over = sticker()
    over[:5, 10:, 3] = 100
    operation = Watermark(image="logo", position="top-left", x=5, y=5, scale=0.2, opacity=opacity)
    made = one(under, operation, refs={"logo": over})
    assert off(made, laid(under, over, 5, 5, opacity)) <= 1


def test_a_watermark_on_a_transparent_picture() -> None:
    under = np.zeros((60, 100, 4), np.uint8)
    operation = Watermark(image="logo", position="top-left", scale=0.2, opacity=0.5)
    made = one(under, operation, refs={"logo": sticker()})
    assert (made[2, 2] == (255, 0, 0, 128)).all()
    assert (made[7:, :, 3] == 0).all()
    assert (made[:, 20:, 3] == 0).all()


@pytest.mark.parametrize(("under_scale", "over_scale"), [(257, 1), (1, 257), (257, 257)])
def test_8_and_16_bits_meet(under_scale: int, over_scale: int) -> None:
    under, over = shades(100, 60), sticker()
    operation = Watermark(image="logo", position="top-left", scale=0.2, opacity=0.5)
    wide = {1: np.uint8, 257: np.uint16}
    made = one(
        under.astype(wide[under_scale]) * wide[under_scale](under_scale),
        operation,
        refs={"logo": over.astype(wide[over_scale]) * wide[over_scale](over_scale)},
    )
    assert made.dtype == wide[under_scale]
    expected = laid(under, over, 0, 0, 0.5)
    assert off(made, expected * under_scale) <= (1 if under_scale == 1 else 3)


def test_a_watermark_is_turned_clockwise() -> None:
    under = shades(100, 60)
    operation = Watermark(image="logo", position="top-left", x=1, y=1, scale=0.2, angle=90)
    made = one(under, operation, refs={"logo": sticker()})
    assert off(made, laid(under, np.rot90(sticker(), 3), 1, 1)) == 0


def test_a_watermark_turned_by_any_angle_has_smooth_edges() -> None:
    under = np.full((100, 100, 3), 255, np.uint8)
    logo = np.full((50, 50, 3), 0, np.uint8)
    operation = Watermark(image="logo", position="center", scale=0.5, angle=45)
    made = one(under, operation, refs={"logo": logo})
    assert (made[50, 17:83] < 16).all()  # the diagonal of 70.7
    assert (made[:14] == 255).all()
    assert (255 - made[..., 0].astype(int)).sum() / 255 == pytest.approx(2500, rel=0.02)


@pytest.mark.parametrize("gap", [(0, 0), (7, 3), (90, 60), (300, 300)])
def test_tiles_repeat_over_the_whole_picture(gap: tuple[int, int]) -> None:
    under = shades(100, 60)
    x, y = gap
    operation = Watermark(image="logo", scale=0.2, tile=True, x=x, y=y)
    expected = under
    for top in range(0, 60, 10 + y):
        for left in range(0, 100, 20 + x):
            expected = laid(expected, sticker(), left, top)
    assert off(one(under, operation, refs={"logo": sticker()}), expected) == 0


def test_a_watermark_that_was_not_given() -> None:
    with pytest.raises(UsageError) as raised:
        one(shades(10, 10), Watermark(image="logo"))
    assert raised.value.code == "watermark_missing"


def test_every_frame_is_marked() -> None:
    frames = [np.full((60, 100, 3), value, np.uint8) for value in (0, 90, 180)]
    operation = Watermark(image="logo", position="top-left", scale=0.2)
    made = done(frames, operation, refs={"logo": sticker()})
    assert made.delays_ms == (10, 20, 30)
    for frame, source in zip(made.frames, frames, strict=True):
        assert off(frame, laid(source, sticker(), 0, 0)) == 0


# --- watermarks that are text ---------------------------------------------------------------------


def ink(made: Pixels, under: int = 0) -> tuple[int, int, int, int]:
    """Left, top, width and height of what differs from an even ground."""
    rows, columns = ((made != under).any(axis=2).any(axis=axis) for axis in (1, 0))
    left, top = int(columns.argmax()), int(rows.argmax())
    right, bottom = len(columns) - columns[::-1].argmax(), len(rows) - rows[::-1].argmax()
    return left, top, int(right) - left, int(bottom) - top


def drawn(text: str, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The letters of a text by Pillow, from the same font, in so large a picture; 0 to 1."""
    font = ImageFont.truetype(FONTS / "DejaVuSans.ttf", 200)
    image = Image.new("L", (4000, 600))
    ImageDraw.Draw(image).text((200, 100), text, 255, font)
    letters = image.crop(image.getbbox())
    return np.asarray(letters.resize(size, Image.Resampling.LANCZOS)) / 255


@pytest.mark.parametrize("text", ["Telecine", "Größe 42", "Жук Ωμέγα", "<b>&amp;\"'"])
def test_a_text_is_drawn_in_its_font_as_wide_as_its_share(text: str) -> None:
    under = np.zeros((300, 800, 3), np.uint8)
    operation = Watermark(text=text, position="top-left", x=10, y=20, scale=0.5, color="ff8000")
    made = one(under, operation)
    left, top, width, height = ink(made)
    assert abs(left - 10) <= 2
    assert abs(width - 400) <= 4
    assert abs(top - 20) <= 2
    expected = drawn(text, (width, height))
    got = made[top : top + height, left : left + width]
    assert np.corrcoef(got[..., 0].ravel() / 255, expected.ravel())[0, 1] > 0.93
    assert off(got[..., 1], got[..., 0] * (128 / 255)) <= 1.5  # one colour, more or less of it
    assert got[..., 2].max() == 0
    assert got.max() == 255


def test_the_color_of_a_text_may_let_through() -> None:
    under = np.zeros((100, 400, 3), np.uint8)
    made = one(under, Watermark(text="I", scale=0.1, color="ffffff80", opacity=0.5))
    assert abs(int(made.max()) - 64) <= 1


@pytest.mark.parametrize("text", [" ", "\u200b"])
def test_a_text_without_letters_changes_nothing(text: str) -> None:
    under = shades(100, 60)
    assert off(one(under, Watermark(text=text)), under) == 0


def test_a_text_that_would_be_boxes_is_refused() -> None:
    with pytest.raises(UsageError, match="映画") as raised:
        one(shades(100, 60), Watermark(text="© 映画"))
    assert raised.value.code == "letters_missing"


def test_a_text_on_16_bits() -> None:
    under = np.zeros((100, 400, 3), np.uint16)
    made = one(under, Watermark(text="II", position="center", scale=0.25, color="ff0000"))
    assert made[..., 0].max() == 65_535
    assert made[..., 1:].max() == 0


def test_a_text_larger_than_it_is_drawn_is_enlarged() -> None:
    under = np.zeros((2000, 6000, 3), np.uint8)
    made = one(under, Watermark(text="M", position="center", scale=1.3))
    assert made.min() == 0
    assert made.max() == 255


def test_a_text_is_drawn_where_there_are_no_files(tmp_path: Path) -> None:
    # In the sandbox as a worker has it: no home, no fonts, no configuration, no folder to write.
    program = (
        "import os, sys\n"
        "os.environ['VIPS_BLOCK_UNTRUSTED'] = '1'\n"
        "import pyvips\n"
        "from telecine.engine.images import operations, picture, pixels\n"
        "ground = (pyvips.Image.black(400, 100) + [0, 0, 0]).cast('uchar')\n"
        "under = picture.Picture((ground.copy(interpretation='srgb'),))\n"
        "mark = operations.Watermark(text='Telecine', position='center', scale=0.5)\n"
        "made = pixels.apply(under, mark, {}).frames[0]\n"
        "os.write(1, made.write_to_memory())\n"
    )
    parts: list[bytes] = []
    finished = run(
        [sys.executable, "-c", program],
        sandbox=Sandbox.detect(),
        limits=Limits(wall_s=60),
        access=Access(),
        sinks={1: parts.append},
    )
    assert finished.returncode == 0, finished.log_tail
    made = np.frombuffer(b"".join(parts), np.uint8).reshape(100, 400, 3)
    left, top, width, height = ink(made)
    assert abs(width - 200) <= 4
    expected = drawn("Telecine", (width, height))
    got = made[top : top + height, left : left + width, 0] / 255
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.93


def test_the_font_and_its_licence_are_in_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("DejaVuSans.ttf", "LICENSE"):
            held = archive.read(f"telecine/engine/images/fonts/{name}")
            assert held == (FONTS / name).read_bytes()


# --- round corners and grounds --------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 12, 30, 500])
@pytest.mark.parametrize(("width", "height"), [(120, 80), (81, 121)])
def test_corners_are_round_and_smooth(width: int, height: int, radius: int) -> None:
    made = one(shades(width, height), Round(radius=radius))
    # Drawn eight times as large and made smaller: the share of each pixel that is inside.
    times, round_by = 8, min(radius, width / 2, height / 2)
    y, x = (np.mgrid[0 : height * times, 0 : width * times] + 0.5) / times
    from_x = np.maximum(np.maximum(round_by - x, x - (width - round_by)), 0)
    from_y = np.maximum(np.maximum(round_by - y, y - (height - round_by)), 0)
    inside = np.hypot(from_x, from_y) <= round_by
    share = inside.reshape(height, times, width, times).mean(axis=(1, 3))
    assert off(made[..., 3] / 255, share) < 0.1
    assert (made[..., :3] == shades(width, height)).all()


def test_round_corners_of_what_lets_through_already() -> None:
    source = shades(50, 50, 4)
    source[..., 3] = 100
    made = one(source, Round(radius=10))
    assert made[25, 25, 3] == 100
    assert made[0, 0, 3] == 0
    assert made[0, 25, 3] == 100


@pytest.mark.parametrize("scale", [1, 257])
def test_a_ground_shows_where_the_picture_lets_through(scale: int) -> None:
    wide = np.uint16 if scale == 257 else np.uint8
    source: Pixels = (shades(64, 64, 4).astype(int) * scale).astype(wide)
    source[..., 3] = (np.arange(64) * 4 * scale)[None, :]
    made = one(source, Background(color="ff8000"))
    share = source[..., 3:].astype(float) / (255 * scale)
    expected = source[..., :3] * share + np.array([255, 128, 0]) * scale * (1 - share)
    assert made.shape == (64, 64, 3)
    assert off(made, expected) <= 1


def test_a_ground_that_lets_through_itself() -> None:
    source = np.array([[(255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)]], np.uint8)
    made = one(source, Background(color="0000ff80"))
    alpha = 128 / 255 + 128 / 255 * (1 - 128 / 255)
    red = 255 * (128 / 255) / alpha
    assert (made[0, 0] == (255, 0, 0, 255)).all()
    assert (made[0, 1] == (0, 0, 255, 128)).all()
    assert off(made[0, 2], np.array([red, 0, 255 - red, 255 * alpha])) <= 1


def test_a_ground_behind_what_is_opaque_changes_nothing() -> None:
    assert off(one(shades(9, 9), Background(color="ff000080")), shades(9, 9)) == 0
