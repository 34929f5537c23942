"""Image outputs as orders, plans, tasks and estimates: nothing here decodes a picture. Sizes and
names are written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.service.pictures import ANIMATION, PHOTO, encoded
from tests.unit.sources import COMPLIANT

from telecine.engine.images.values import ImageInfo, ImageLimits
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.service.domain import Invalid
from telecine.service.estimates import estimate
from telecine.service.image_plans import (
    ImagePlan,
    describe_image,
    image_plan_from_json,
    is_image_plan,
    watermarks,
)
from telecine.service.orders import (
    Found,
    Order,
    make_order,
    make_tasks,
    new_job,
    plan_order,
    read_order,
    summarize,
    write_order,
)
from telecine.service.playback import layout_of
from telecine.service.presets import PRESETS

Plain = dict[str, Any]

SMALL: Plain = {"type": "image", "ops": [{"op": "resize", "w": 800}], "format": "webp"}
IMAGE_PRESETS = ("thumbnail", "web-image", "responsive-images")


def wanted(*outputs: Plain) -> Order:
    return make_order(outputs=outputs)


def planned(order: Order, info: ImageInfo = PHOTO) -> ImagePlan:
    plan = plan_order(order, Found(media=None, image=info), ImageLimits())
    assert isinstance(plan, ImagePlan)
    return plan


def image(*ops: Plain, **more: Any) -> Plain:
    return {"type": "image", "ops": list(ops), **more}


# --- wishes ---------------------------------------------------------------------------------------


def test_names_are_given_where_nobody_gives_them() -> None:
    assert [wish.name for wish in wanted(image()).images] == ["image"]
    several = wanted(image(name="small"), image(), image())
    assert [wish.name for wish in several.images] == ["small", "image-2", "image-3"]


@pytest.mark.parametrize(
    ("outputs", "code", "number"),
    [
        ([image({"op": "explode"})], "operation_unknown", 1),
        ([SMALL, image({"op": "resize", "w": 0}, name="b")], "operation_invalid", 2),
        ([image({"op": "resize"})], "operation_invalid", 1),
        ([image(*[{"op": "flip"}] * 33)], "operations_too_many", 1),
        ([image({"op": "convert"}, {"op": "flip"})], "convert_not_last", 1),
        ([image(format="bmp")], "format_unknown", 1),
        ([image(format="auto")], "format_unknown", 1),
        ([image({"op": "convert", "quality": 80}, format="png")], "option_not_of_format", 1),
        ([image({"op": "watermark", "text": "© 映画"})], "letters_missing", 1),
        ([image(name="../etc")], "output_invalid", 1),
        ([image(name="a" * 49)], "output_invalid", 1),
        ([image(name=7)], "output_invalid", 1),
        ([image(size="720p")], "output_invalid", 1),
        ([{"type": "image", "ops": "resize"}], "output_invalid", 1),
        ([{"type": "image", "ops": ["resize"]}], "output_invalid", 1),
        ([image(name="a", format="webp"), image(name="A", format="webp")], "output_twice", 2),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    outputs: list[Plain], code: str, number: int
) -> None:
    with pytest.raises(Invalid) as raised:
        make_order(outputs=outputs)
    assert (raised.value.code, raised.value.extra) == (code, {"output": number})
    assert raised.value.message.startswith(f"output {number}: ")


def test_films_and_pictures_are_two_jobs() -> None:
    with pytest.raises(Invalid) as raised:
        make_order(outputs=[SMALL, {"type": "poster"}])
    assert raised.value.code == "outputs_mixed"


def test_at_most_32_pictures() -> None:
    assert len(wanted(*[image(name=f"n{n}") for n in range(32)]).images) == 32
    with pytest.raises(Invalid):
        wanted(*[image(name=f"n{n}") for n in range(33)])


def test_an_order_of_pictures_survives_json() -> None:
    order = make_order(outputs=[{**SMALL, "name": None}], priority=2)
    assert order.outputs == (SMALL,)
    assert read_order(json.loads(json.dumps(write_order(order)))) == order


@pytest.mark.parametrize("name", IMAGE_PRESETS)
def test_presets_of_pictures_can_be_planned(name: str) -> None:
    order = make_order(preset=name)
    assert order.outputs == tuple(dict(output) for output in PRESETS[name].outputs)
    assert planned(order).outputs


def test_what_the_presets_make() -> None:
    def made(name: str) -> list[tuple[str, int, int]]:
        plan = planned(make_order(preset=name))
        return [(one.path, one.width, one.height) for one in plan.outputs]

    assert made("thumbnail") == [("thumbnail.webp", 320, 320)]
    assert made("web-image") == [("web.webp", 1600, 1200)]
    assert made("responsive-images") == [
        ("320w.webp", 320, 240),
        ("640w.webp", 640, 480),
        ("1280w.webp", 1280, 960),
        ("1920w.webp", 1920, 1440),
        ("fallback.jpg", 1280, 960),
    ]


# --- plans ----------------------------------------------------------------------------------------


def test_a_plan_of_pictures_survives_json_and_is_told_from_a_films() -> None:
    plan = planned(wanted(SMALL, image({"op": "rotate", "angle": 90}, name="turned")))
    text = plan.to_json()
    assert image_plan_from_json(text) == plan
    assert is_image_plan(text)
    film = make_plan(COMPLIANT, make_order(preset="stream").profile)
    assert not is_image_plan(film.to_json())
    assert [(one.path, one.width, one.height, one.operations) for one in plan.outputs] == [
        ("image-1.webp", 800, 600, "resize:w=800"),
        ("turned.jpg", 3000, 4000, "rotate:angle=90"),
    ]


@pytest.mark.parametrize(
    ("info", "ops", "path"),
    [
        (PHOTO, [], "image.jpg"),
        (replace(PHOTO, format="png", alpha=True), [], "image.png"),
        (replace(PHOTO, format="avif"), [], "image.avif"),
        (replace(PHOTO, format="heic"), [], "image.jpg"),
        (replace(PHOTO, format="jp2", alpha=True), [], "image.png"),
        (replace(PHOTO, format="tiff", frames=4), [], "image.tiff"),
        (PHOTO, [{"op": "round", "radius": 50}], "image.png"),
        (replace(PHOTO, format="heic"), [{"op": "rotate", "angle": 30}], "image.png"),
        (PHOTO, [{"op": "round", "radius": 50}, {"op": "background"}], "image.jpg"),
        # PNG has no quality, and JPEG no pixels without loss: WebP has both.
        (PHOTO, [{"op": "round", "radius": 50}, {"op": "convert", "quality": 80}], "image.webp"),
        (
            replace(PHOTO, format="jp2", alpha=True),
            [{"op": "convert", "max_bytes": 50_000}],
            "image.webp",
        ),
        (replace(PHOTO, format="heic"), [{"op": "convert", "lossless": True}], "image.webp"),
        (replace(PHOTO, format="heic"), [{"op": "convert", "quality": 80}], "image.jpg"),
        (PHOTO, [{"op": "round", "radius": 50}, {"op": "convert", "depth": 16}], "image.png"),
        (ANIMATION, [], "image.gif"),
        (replace(ANIMATION, format="apng"), [], "image.webp"),
        (replace(ANIMATION, format="avif-sequence"), [], "image.webp"),
        (ANIMATION, [{"op": "convert", "frames": "first"}], "image.gif"),
        (
            replace(ANIMATION, format="apng"),
            [{"op": "convert", "frames": "first"}],
            "image.jpg",
        ),
    ],
)
def test_without_a_format_it_is_the_sources_own_or_one_that_loses_nothing(
    info: ImageInfo, ops: list[Plain], path: str
) -> None:
    [output] = planned(wanted(image(*ops)), info).outputs
    assert output.path == path
    assert output.reason


@pytest.mark.parametrize(
    ("outputs", "info", "code", "number"),
    [
        ([image({"op": "crop", "w": 5000, "h": 10})], PHOTO, "crop_outside", 1),
        (
            [SMALL, image({"op": "resize", "w": 16000, "h": 16000, "fit": "fill"}, name="b")],
            PHOTO,
            "result_too_large",
            2,
        ),
        ([image(format="jpeg")], ANIMATION, "animation_lost", 1),
        ([image(format="avif")], ANIMATION, "animation_lost", 1),
        ([image()], replace(ANIMATION, frames=301), "too_many_frames", 1),
        ([image({"op": "convert", "quality": 70})], ANIMATION, "option_not_of_format", 1),
        ([image(name="a", format="jpeg"), image(name="a")], PHOTO, "output_twice", 2),
    ],
)
def test_what_does_not_fit_the_source_is_refused(
    outputs: list[Plain], info: ImageInfo, code: str, number: int
) -> None:
    with pytest.raises(Invalid) as raised:
        planned(wanted(*outputs), info)
    assert (raised.value.code, raised.value.extra) == (code, {"output": number})


def test_outputs_want_a_source_of_their_kind() -> None:
    film, picture = Found(media=COMPLIANT, image=None), Found(media=None, image=PHOTO)
    both = Found(media=COMPLIANT, image=ANIMATION)
    for order, source in ((wanted(SMALL), film), (make_order(preset="stream"), picture)):
        with pytest.raises(Invalid) as raised:
            plan_order(order, source, ImageLimits())
        assert raised.value.code == "output_not_of_source"
    assert isinstance(plan_order(wanted(SMALL), both, ImageLimits()), ImagePlan)
    assert isinstance(plan_order(make_order(preset="stream"), both, ImageLimits()), Plan)


def test_watermarks_are_named_once() -> None:
    mark = {"op": "watermark", "image": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D"}
    order = wanted(image(mark, name="a"), image(mark, {"op": "watermark", "text": "x"}, name="b"))
    assert watermarks(order.images) == {"01KAJ9XK6B2T3W4Y5Z6A7B8C9D"}


# --- jobs -----------------------------------------------------------------------------------------


def test_a_task_for_each_picture_then_finish() -> None:
    plan = planned(wanted(SMALL, image(name="b")))
    assert [(task.kind, task.step_id, task.needs) for task in make_tasks(plan, digest="known")] == [
        ("image", "image-1.webp", ()),
        ("image", "b.jpg", ()),
        ("finish", None, (0, 1)),
    ]
    job = new_job(wanted(SMALL), plan, job_id="J", user_id="U", asset_id="A", digest="known")
    assert job.plan_summary == summarize(plan)
    assert json.loads(json.dumps(job.plan_summary)) == job.plan_summary
    assert image_plan_from_json(job.plan or "") == plan


def test_what_viewers_get_of_a_job_of_pictures() -> None:
    plan = planned(wanted(image(format="tiff", name="archive"), {**SMALL, "name": "small"}))
    layout = layout_of(json.loads(plan.to_json()))
    assert layout.files == {"archive.tiff": "image/tiff", "small.webp": "image/webp"}
    assert layout.poster == plan.poster == "small.webp"  # which browsers show
    assert layout.film is None
    found = layout.find("archive.tiff")
    assert found is not None
    assert found.content_type == "image/tiff"
    assert layout.find("report.json") is None
    assert layout.find("master.m3u8") is None


def test_an_estimate_says_how_large_it_gets() -> None:
    plan = planned(wanted(SMALL, image({"op": "convert", "max_bytes": 20_000}, name="b")))
    found = estimate(plan)
    small, bounded = found.outputs
    assert (small.name, small.type) == ("image-1.webp", "image")
    assert 10_000 < small.size_bytes < small.max_size_bytes
    assert bounded.max_size_bytes == 20_000
    assert found.size_bytes == small.size_bytes + bounded.size_bytes
    assert found.encoder_s > 0
    assert found.basis


@pytest.mark.parametrize("side", [1, 17, 300])
@pytest.mark.parametrize(
    ("format", "options"),
    [("jpeg", {"quality": 100, "subsampling": 0}), ("png", {}), ("webp", {"lossless": True})],
)
def test_no_picture_is_larger_than_its_estimate_says(
    format: str, options: Plain, side: int
) -> None:
    noise = np.random.default_rng(4).integers(0, 2, (side, side, 3), dtype=np.uint8) * 255
    info = replace(PHOTO, width=side, height=side)
    (most,) = estimate(planned(wanted(image(format=format)), info)).outputs
    assert len(encoded(Image.fromarray(noise), format, **options)) <= most.max_size_bytes


def test_a_picture_in_plain_words() -> None:
    taken = replace(
        PHOTO,
        width=3024,
        height=4032,
        orientation=6,
        exif={"DateTimeOriginal": "2023:07:05 10:11:12"},
        gps=True,
    )
    assert describe_image(taken) == (
        "JPEG 3024 × 4032, rotated 90°, taken 2023-07-05",
        "sRGB, 8 bits a channel",
        "GPS position in the file",
    )
    assert describe_image(replace(ANIMATION, alpha=True)) == (
        "GIF 80 × 60",
        "animation of 3 frames, 0.60 s",
        "sRGB, 8 bits a channel, with transparency",
    )
