"""Any list of operations on any small picture gives a picture of the predicted size, measured by
Pillow, or a refusal that says why."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from tests.unit.images.asked import objects

from telecine.engine.errors import InputRefused, MediaError, UsageError
from telecine.engine.images import geometry, grammar
from telecine.engine.images.formats import WRITTEN
from telecine.engine.images.geometry import Size
from telecine.engine.images.operations import Operation, Resize, Thumbnail, Watermark
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import transform
from telecine.engine.images.values import Made, Wanted

FRAME_MS = 100
ROTATED = 6  # EXIF: the picture lies on its side, and is upright turned by 90° clockwise


def painted(mode: str, width: int, height: int, shade: int = 0) -> Image.Image:
    """Something to see everywhere, in every channel."""
    picture = Image.new("RGBA", (width, height))
    picture.putdata(
        [
            ((x * 255) // width, (y * 255) // height, (x * y + shade) % 256, 255 - (x * 9) % 128)
            for y in range(height)
            for x in range(width)
        ]
    )
    return picture.convert(mode)


# name: (upright size, frames)
SOURCES = {
    "still.jpg": (Size(90, 60), 1),
    "turned.jpg": (Size(47, 80), 1),
    "large.jpg": (Size(1201, 803), 1),
    "alpha.png": (Size(37, 64), 1),
    "deep.png": (Size(33, 20), 1),
    "dot.png": (Size(1, 1), 1),
    "line.png": (Size(400, 1), 1),
    "plain.webp": (Size(50, 50), 1),
    "moving.gif": (Size(40, 30), 3),
    "moving.webp": (Size(31, 45), 4),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    painted("RGB", 90, 60).save(folder / "still.jpg")
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    painted("RGB", 80, 47).save(folder / "turned.jpg", exif=exif)
    painted("RGB", 1201, 803).save(folder / "large.jpg")
    painted("RGBA", 37, 64).save(folder / "alpha.png")
    painted("L", 33, 20).convert("I;16").save(folder / "deep.png")
    painted("RGB", 1, 1).save(folder / "dot.png")
    painted("RGB", 400, 1).save(folder / "line.png")
    Image.new("RGB", (50, 50), "teal").save(folder / "plain.webp")
    for name, mode in (("moving.gif", "RGB"), ("moving.webp", "RGBA")):
        size, count = SOURCES[name]
        frames = [painted(mode, size.width, size.height, 60 * n) for n in range(count)]
        frames[0].save(
            folder / name, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0
        )
    return folder


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return {"pixels": 4_000_000}


def duration_ms(picture: Image.Image) -> int:
    """Of all frames; Pillow knows a frame's time once it is decoded."""
    total = 0
    for frame in ImageSequence.Iterator(picture):
        frame.load()
        total += frame.info["duration"]
    return total


def refs(asked: tuple[Operation, ...], folder: Path) -> dict[str, Path]:
    """Every name that is asked for is the picture with alpha."""
    return {
        each.image: folder / "alpha.png"
        for each in asked
        if isinstance(each, Watermark) and each.image
    }


def answer(
    workers: ImageWorkers, folder: Path, name: str, wanted: Wanted
) -> Made | UsageError | InputRefused:
    try:
        return transform(workers, folder / name, wanted, refs=refs(wanted.operations, folder))
    except (UsageError, InputRefused) as error:
        return error


# What a refusal may be of a list that parses: anything else is a fault.
FROM_THE_START = {"crop_outside", "result_too_large", "option_not_of_format"}
OF_THE_PICTURE = {"animation_lost", "letters_missing", "max_bytes_unreachable"}


@settings(
    max_examples=250,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(
    st.sampled_from(sorted(SOURCES)),
    st.lists(objects(longest=90), max_size=5),
    st.sampled_from(WRITTEN),
)
# Shrunk while loading: 1201 × 803 scaled by 8, 4 or 2 has another aspect.
@example("large.jpg", [{"op": "resize", "w": 100}], "png")
@example("large.jpg", [{"op": "resize", "h": 77}], "webp")
@example("large.jpg", [{"op": "resize", "w": 64, "h": 64, "fit": "cover"}], "jpeg")
# Its frames become alike.
@pytest.mark.thorough
@example("moving.webp", [{"op": "resize", "w": 1, "h": 1}], "webp")
@example("moving.webp", [{"op": "brightness", "amount": 0}], "webp")
@example("moving.gif", [{"op": "resize", "w": 1, "h": 1}], "gif")
@example("line.png", [{"op": "thumbnail", "w": 9, "h": 9, "enlarge": True}], "png")
def test_any_operations_give_a_picture_of_the_predicted_size_or_a_refusal(
    pictures: Path, workers: ImageWorkers, name: str, plain: list[dict[str, Any]], format: str
) -> None:
    try:
        asked = grammar.parse_json(plain)
    except UsageError:
        assume(False)
    before, frames = SOURCES[name]
    limits = workers.limits
    if grammar.conversion(asked).frames == "first":
        frames = 1
    expected, refused = before, ""
    try:
        grammar.check_format(asked, format)
        expected = (before, *geometry.sizes(before, asked, frames=frames, pixels=limits.pixels))[-1]
    except UsageError as error:
        refused = error.code

    made = answer(workers, pictures, name, Wanted(asked, format))
    if isinstance(made, MediaError):
        assert made.message
        assert made.message.isprintable()
        # After a trim, and of a watermark, it is known only when the picture is.
        later = any(each.name in ("trim", "watermark") for each in asked)
        assert made.code == refused or made.code in OF_THE_PICTURE or later
        assert made.code in FROM_THE_START | OF_THE_PICTURE
        assert made.code != "animation_lost" or (frames > 1 and format not in ("gif", "webp"))
        return
    assert not refused
    with Image.open(io.BytesIO(made.data)) as picture:
        picture.load()
        assert (picture.format or "").lower() == format
        assert (made.width, made.height) == picture.size
        count = getattr(picture, "n_frames", 1)
        assert count == made.frames
        # libwebp joins neighbours that have become alike; what is shown, and how long, stays.
        assert count == frames or (format == "webp" and count < frames)
        assert count == 1 or duration_ms(picture) == frames * FRAME_MS
        if expected.exact:
            assert picture.size == (expected.width, expected.height)
        else:
            assert picture.size[0] <= expected.width
            assert picture.size[1] <= expected.height


@settings(max_examples=60)
@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.sampled_from(["inside", "cover", "thumbnail"]),
)
def test_a_photo_that_is_shrunk_on_loading_has_the_size_of_one_that_is_not(
    pictures: Path, workers: ImageWorkers, w: int, h: int, how: str
) -> None:
    """The JPEG decoder shrinks by 2, 4 or 8, which rounds by itself."""
    operation: Operation
    if how == "thumbnail":
        operation = Thumbnail(w=w, h=h)
    else:
        operation = Resize(w=w, h=h, fit="inside" if how == "inside" else "cover")
    made = transform(workers, pictures / "large.jpg", Wanted((operation,), "png"))
    with Image.open(io.BytesIO(made.data)) as picture:
        scale = min(w / 1201, h / 803)
        if how == "inside":
            # No half can lie so near to a float's error: both sides are below 2^11.
            assert picture.size == tuple(max(1, int(s * scale + 0.5 + 1e-9)) for s in (1201, 803))
        else:
            assert picture.size == (w, h)
