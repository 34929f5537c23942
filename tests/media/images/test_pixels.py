"""Size and place: resize, thumbnail, crop, rotate, flip, trim, to the pixel.

Held against Pillow, numpy and patterns that are painted into the picture.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.media.images import apart
from tests.media.images.apart import Pixels, done, one

from telecine.engine.errors import UsageError
from telecine.engine.images.operations import (
    Background,
    Blur,
    Brightness,
    CropTo,
    Flip,
    Grayscale,
    Resize,
    Rotate,
    Round,
    Sharpen,
    Thumbnail,
    Trim,
    Watermark,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def plain(width: int, height: int, color: tuple[int, ...]) -> Pixels:
    return np.full((height, width, len(color)), color, np.uint8)


def noise(width: int, height: int, bands: int = 3, dtype: Any = np.uint8) -> Pixels:
    random = np.random.default_rng(width * height)
    return random.integers(0, np.iinfo(dtype).max + 1, (height, width, bands)).astype(dtype)


def scene(width: int, height: int) -> Pixels:
    """Smooth shades with a few hard edges, as in a photo."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 128 + 90 * np.sin(x / width * 7) * np.cos(y / height * 5)
    green = 255 * x / width
    blue = np.where((x // (width / 8) + y // (height / 8)) % 2, 200, 60)
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)


def thirds() -> Pixels:
    """Red, green and blue, each 30 × 30, side by side."""
    return np.concatenate([plain(30, 30, each) for each in (RED, GREEN, BLUE)], axis=1)


def size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def off(a: Pixels, b: Pixels) -> npt.NDArray[np.float64]:
    return np.abs(np.subtract(a, b, dtype=np.float64))


# --- resize ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Resize(w=60), (60, 40)),
        (Resize(h=50), (75, 50)),
        (Resize(w=60, h=60), (60, 40)),
        (Resize(w=600), (150, 100)),
        (Resize(w=600, enlarge=True), (600, 400)),
        (Resize(w=60, h=60, fit="cover"), (60, 60)),
        (Resize(w=300, h=300, fit="cover"), (100, 100)),
        (Resize(w=300, h=300, fit="cover", enlarge=True), (300, 300)),
        (Resize(w=60, h=90, fit="fill"), (60, 90)),
        (Resize(w=300, h=7, fit="fill"), (300, 7)),
        (Resize(w=60, h=90, fit="pad"), (60, 90)),
        (Resize(w=20, dpr=1.5), (30, 20)),
        (Resize(w=1, h=1), (1, 1)),
        (Resize(w=1, h=16_000, fit="fill"), (1, 16_000)),
    ],
)
@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_resize_has_exactly_its_size(
    operation: Resize, expected: tuple[int, int], bands: int, dtype: Any
) -> None:
    made = one(noise(150, 100, bands, dtype), operation)
    assert size(made) == expected
    assert made.dtype == dtype


@pytest.mark.parametrize("width", [1, 2, 3, 7, 99, 333, 500, 997, 1000])
def test_any_width_is_met_exactly(width: int) -> None:
    assert size(one(noise(1000, 3), Resize(w=width, h=3, fit="fill"))) == (width, 3)


@pytest.mark.parametrize("wanted", [(400, 267), (200, 133), (77, 51), (700, 20)])
def test_a_smaller_picture_is_what_pillow_makes_of_it(wanted: tuple[int, int]) -> None:
    source = scene(900, 600)
    made = one(source, Resize(w=wanted[0], h=wanted[1], fit="fill"))
    pillow = np.asarray(Image.fromarray(source).resize(wanted, Image.Resampling.LANCZOS))
    assert off(made, pillow).mean() < 0.8
    assert off(made, pillow).max() < 12  # at the hard edges


@pytest.mark.parametrize("wanted", [(180, 120), (450, 300), (137, 91), (60, 200), (300, 40)])
def test_a_larger_picture_is_what_pillow_makes_of_it(wanted: tuple[int, int]) -> None:
    source = scene(90, 60)
    made = one(source, Resize(w=wanted[0], h=wanted[1], fit="fill", enlarge=True))
    # Bicubic where it grows, Lanczos where it shrinks; one side after the other.
    pillow = Image.fromarray(source)
    for size in ((wanted[0], 60), wanted):
        grows = size[0] > pillow.width or size[1] > pillow.height
        kind = Image.Resampling.BICUBIC if grows else Image.Resampling.LANCZOS
        pillow = pillow.resize(size, kind)
    assert off(made, np.asarray(pillow)).mean() < 0.8
    assert off(made, np.asarray(pillow)).max() < 25  # the hard edges, not half a pixel of them


def test_16_bits_stay_16_bits() -> None:
    ramp = np.linspace(0, 65_535, 1024).round().astype(np.uint16)
    source = np.repeat(np.repeat(ramp[None, :, None], 64, axis=0), 3, axis=2)
    made = done(source, Resize(w=512))
    assert made.tags == ("rgb16",)
    expected = ramp.astype(float).reshape(512, 2).mean(axis=1)
    assert off(made.frames[0][16, 8:-8, 0], expected[8:-8]).max() <= 2


@pytest.mark.parametrize(
    ("position", "color"), [("left", RED), ("center", GREEN), ("right", BLUE), ("top", GREEN)]
)
def test_cover_keeps_what_its_position_says(position: Any, color: tuple[int, ...]) -> None:
    made = one(thirds(), Resize(w=30, h=30, fit="cover", position=position))
    assert (made == color).all()


@pytest.mark.parametrize(
    ("position", "left", "top"),
    [
        ("top-left", 0, 0),
        ("top", 25, 0),
        ("right", 50, 45),
        ("bottom-right", 50, 90),
        ("center", 25, 45),
    ],
)
def test_pad_puts_it_to_the_pixel(position: Any, left: int, top: int) -> None:
    source = noise(50, 10)
    wanted = Resize(w=100, h=100, fit="pad", position=position, background="0a141e")
    made = one(source, wanted)
    expected = plain(100, 100, (10, 20, 30))
    expected[top : top + 10, left : left + 50] = source
    assert (made == expected).all()


def test_the_ground_of_pad_is_transparent_by_itself() -> None:
    made = one(plain(50, 10, RED), Resize(w=50, h=50, fit="pad"))
    assert (made[20:30] == (*RED, 255)).all()
    assert (made[:20] == 0).all()
    assert (made[30:] == 0).all()


def test_the_ground_of_pad_shows_through() -> None:
    made = one(plain(50, 10, (*RED, 0)), Resize(w=50, h=50, fit="pad", background="0000ff"))
    assert (made == BLUE).all()


def test_sizes_come_from_the_size_before_it_was_shrunk_while_loading() -> None:
    # 1000 × 667 → 35 × 23.3; of the eighth that a JPEG decoder makes of it, 125 × 84, 23.5.
    made = done(noise(125, 84), Resize(w=35), full=(1000, 667))
    assert size(made.frames[0]) == (35, 23)


# --- alpha ----------------------------------------------------------------------------------------


def spot() -> Pixels:
    """A white disc on transparent black: black is there, but nobody may see it."""
    y, x = np.mgrid[0:200, 0:200]
    inside = (x - 99.5) ** 2 + (y - 99.5) ** 2 < 70**2
    made = np.zeros((200, 200, 4), np.uint8)
    made[inside] = 255
    return made


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    "operation",
    [
        Resize(w=61),
        Resize(w=450, enlarge=True),
        Resize(w=50, h=170, fit="fill"),
        Thumbnail(w=60, h=33),
        Rotate(angle=33),
        Blur(sigma=3),
        Blur(sigma=20),
    ],
)
def test_no_dark_fringe_at_transparent_edges(operation: Any, depth: int) -> None:
    source = spot() if depth == 8 else spot().astype(np.uint16) * 257
    made = one(source, operation)
    most = 255 if depth == 8 else 65_535
    seen = made[..., 3] > most / 16
    soft = seen & (made[..., 3] < most * 0.9)
    assert soft.any()
    # A colour of so little alpha has but few steps: 16 of 255.
    assert made[seen][:, :3].min() >= most * 0.93
    assert made[soft & (made[..., 3] > most / 4)][:, :3].min() >= most * 0.98


# --- thumbnail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "left", "top"), [(0.5, 0.5, 100, 0), (0, 0, 0, 0), (1, 1, 200, 0), (0.3, 0.9, 40, 0)]
)
def test_a_focal_point_is_in_the_middle_as_far_as_the_picture_goes(
    x: float, y: float, left: int, top: int
) -> None:
    source = noise(300, 100)
    made = one(source, Thumbnail(w=100, h=100, crop="focal", x=x, y=y))
    assert (made == source[top : top + 100, left : left + 100]).all()


def coordinates(width: int, height: int) -> Pixels:
    """Grey whose blue tells the column: where a crop began can be read from its first pixel."""
    made = plain(width, height, (120, 120, 0))
    made[..., 2] = np.arange(width) // 2
    return made


@pytest.mark.parametrize("crop", ["attention", "entropy"])
@pytest.mark.parametrize("at", [20, 380])
def test_a_smart_crop_keeps_what_there_is_to_see(crop: Any, at: int) -> None:
    source = plain(480, 100, (120, 120, 120))
    source[20:80, at : at + 60] = noise(60, 60)
    made = one(source, Thumbnail(w=100, h=100, crop=crop))
    busy = (made.astype(int).std(axis=2) > 10).mean()
    assert busy > 0.8 * (60 * 60) / (100 * 100)


@pytest.mark.parametrize("crop", ["attention", "entropy"])
def test_a_smart_crop_of_an_animation_stands_still(crop: Any) -> None:
    frames = []
    for at in (20, 200, 380):  # what there is to see wanders from left to right
        frame = coordinates(480, 100)
        frame[20:80, at : at + 60, :2] = noise(60, 60)[..., :2]
        frames.append(frame)
    made = done(frames, Thumbnail(w=100, h=100, crop=crop))
    begins = {int(frame[0, 0, 2]) for frame in made.frames}
    assert len(made.frames) == 3
    assert len(begins) == 1
    assert begins.pop() * 2 <= 22  # where the first frame has it


# --- crop, rotate, flip ---------------------------------------------------------------------------


def test_a_crop_is_that_part_of_the_picture() -> None:
    source = noise(150, 100, 4)
    assert (one(source, CropTo(w=31, h=17, x=100, y=3)) == source[3:20, 100:131]).all()
    assert (one(source, CropTo(w=50, h=100, position="right")) == source[:, 100:]).all()
    assert (one(source, CropTo(w=150, h=100)) == source).all()


def test_a_crop_outside_the_picture_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        one(noise(50, 50), CropTo(w=40, h=40, x=20, y=0))
    assert raised.value.code == "crop_outside"


@pytest.mark.parametrize(
    ("angle", "turns"), [(0, 0), (90, 3), (180, 2), (270, 1), (-90, 1), (360, 0)]
)
def test_quarter_turns_are_exact_and_clockwise(angle: float, turns: int) -> None:
    source = noise(7, 5)
    assert (one(source, Rotate(angle=angle)) == np.rot90(source, turns)).all()


@pytest.mark.parametrize("angle", [10, 45, 123.4, -20])
def test_any_other_angle_is_what_pillow_makes_of_it(angle: float) -> None:
    source = scene(301, 200)
    made = one(source, Rotate(angle=angle, background="00ff00"))
    pillow = Image.fromarray(source).rotate(  # counter-clockwise
        -angle, Image.Resampling.BICUBIC, expand=True, fillcolor=GREEN
    )
    # Both boxes hold the picture in their middle; Pillow rounds its box outwards.
    assert abs(made.shape[1] - pillow.width) <= 2
    assert abs(made.shape[0] - pillow.height) <= 2
    assert made.shape[2] == 3
    height, width = min(made.shape[0], pillow.height), min(made.shape[1], pillow.width)
    a, b = middle(made, width, height), middle(np.asarray(pillow), width, height)
    inside = (b != GREEN).any(axis=2) & (a != GREEN).any(axis=2)
    assert off(a, b)[inside].mean() < 3  # half a pixel of the odd box, at hard edges
    assert (made[0, 0] == GREEN).all()
    assert (made[-1, -1] == GREEN).all()


def middle(pixels: Pixels, width: int, height: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def test_a_turned_picture_is_in_the_middle_of_its_box() -> None:
    # 45° of a square of 100: a diamond in 142 × 142 (141.4, rounded up), alike from all sides.
    made = one(plain(100, 100, RED), Rotate(angle=45))
    alpha = made[..., 3].astype(int)
    assert size(made) == (142, 142)
    assert np.abs(alpha - alpha[::-1]).max() <= 2
    assert np.abs(alpha - alpha[:, ::-1]).max() <= 2
    assert np.abs(alpha - alpha.T).max() <= 2
    assert alpha.sum() / 255 == pytest.approx(100 * 100, rel=0.02)
    assert (made[alpha > 128][:, :3] == RED).all()
    assert alpha[0, 0] == 0


def test_half_transparent_corners() -> None:
    made = one(plain(100, 100, RED), Rotate(angle=45, background="20406080"))
    assert np.abs(made[0, 0].astype(int) - (32, 64, 96, 128)).max() <= 1
    assert (made[71, 71] == (*RED, 255)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flips(dtype: Any) -> None:
    source = noise(7, 5, 4, dtype)
    assert (one(source, Flip()) == source[:, ::-1]).all()
    assert (one(source, Flip(axis="vertical")) == source[::-1]).all()
    assert (one(source, Flip(axis="both")) == source[::-1, ::-1]).all()


# --- trim -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 257])
def test_trim_cuts_to_the_last_pixel_that_differs(scale: int) -> None:
    source = plain(80, 60, (200, 200, 200))
    source[10, 13] = RED  # a single pixel is no noise
    source[40, 70] = (200, 212, 200)
    source[5, 5] = (200, 209, 200)  # nearer than the threshold
    source = source if scale == 1 else source.astype(np.uint16) * 257
    made = one(source, Trim(threshold=10))
    assert (made == source[10:41, 13:71]).all()


def test_a_picture_of_one_colour_stays_whole() -> None:
    source = plain(20, 10, (1, 2, 3))
    assert (one(source, Trim()) == source).all()


def test_transparent_edges_are_alike_whatever_colour_lies_behind() -> None:
    source = noise(40, 30, 4)
    source[..., 3] = 0
    source[7:12, 8:20] = (*RED, 255)
    assert (one(source, Trim()) == source[7:12, 8:20]).all()


def test_nothing_of_any_frame_is_trimmed() -> None:
    frames = [plain(40, 30, WHITE) for _ in range(3)]
    frames[0][10:12, 10:12] = RED
    frames[2][20:22, 30:32] = RED  # the second frame is empty
    made = done(frames, Trim())
    for frame, source in zip(made.frames, frames, strict=True):
        assert (frame == source[10:22, 10:32]).all()


# --- sources that can be read but once ------------------------------------------------------------


@pytest.mark.parametrize(
    "operations",
    [
        (Resize(w=100),),
        (Resize(w=2000, enlarge=True),),
        (Resize(w=100, h=100, fit="cover"), Blur(sigma=2)),
        (CropTo(w=50, h=300, position="bottom"), Brightness(amount=1.1)),
        (Rotate(angle=90),),
        (Rotate(angle=12),),
        (Flip(axis="both"),),
        (Flip(axis="vertical"),),
        (Blur(sigma=50),),
        (Trim(),),
        (Sharpen(sigma=3), Round(radius=50), Background()),
        (Grayscale(), Watermark(text="Sample", tile=True, angle=20)),
        (Thumbnail(w=100, h=100), Rotate(angle=5)),
    ],
)
def test_a_source_that_is_read_but_once_is_enough(operations: tuple[Any, ...]) -> None:
    jpeg = apart.jpeg_of(scene(900, 1200))
    decoded = np.asarray(Image.open(io.BytesIO(jpeg)))
    streamed = apart.streamed(jpeg, *operations)
    assert off(streamed, one(decoded, *operations)).mean() < 1  # two JPEG decoders


def test_a_resize_costs_what_a_thumbnail_costs() -> None:
    jpeg = apart.jpeg_of(scene(2725, 2225))
    theirs, ours = apart.seconds(jpeg, 500, Resize(w=500))
    assert ours < 1.3 * theirs + 0.002
