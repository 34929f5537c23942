"""Pure: what a job makes of a picture, as a value that travels: the counterpart of `engine.plan`.

A *wish* is an output of type `image`, checked; it knows no source yet. With what was found in the
source it becomes a part of an `ImagePlan`, each picture of which is a task of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from telecine.engine.errors import UsageError
from telecine.engine.images import formats, geometry, grammar, lettering
from telecine.engine.images.geometry import Size
from telecine.engine.images.operations import Operation
from telecine.engine.images.values import ImageInfo, ImageLimits
from telecine.engine.serial import from_plain, to_plain
from telecine.service.domain import Invalid

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")

# What `ImagePlan.to_json` begins with, and no plan of a film: those are long, and need not be read
# to be told apart.
_HEAD = '{"kind": "image", '
_VERSION = 1

_FIELDS = ("type", "ops", "format", "name")


@dataclass(frozen=True, slots=True)
class ImageWish:
    """A picture that is asked for. `format` None: what suits the source."""

    name: str
    format: str | None
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What of a picture decides how its results are made; `summary` is all of it in words."""

    format: str
    width: int
    height: int
    frames: int
    summary: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture to be made. `operations` is their canonical text; `width` and `height` are what
    comes of them, or not `exact` the most that it can be; `reason` says why it has its format."""

    path: str
    format: str
    reason: str
    operations: str
    width: int
    height: int
    exact: bool
    frames: int


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Everything that a job makes of one picture. Names each task's step by the picture's path."""

    kind: Literal["image"]
    version: int
    source: ImageSource
    outputs: tuple[PlannedImage, ...]

    def output(self, path: str) -> PlannedImage:
        return next(output for output in self.outputs if output.path == path)

    @property
    def poster(self) -> str | None:
        """The picture that lists show: the first that every browser can."""
        return next((one.path for one in self.outputs if one.format in SHOWN), None)

    def to_json(self) -> str:
        return json.dumps(to_plain(self), ensure_ascii=False)


# Formats that browsers show.
SHOWN = ("jpeg", "png", "webp", "avif", "gif")


def is_image_plan(text: str) -> bool:
    """Whether a job's plan is one of pictures; otherwise it is the engine's plan of a film."""
    return text.startswith(_HEAD)


def image_plan_from_json(text: str) -> ImagePlan:
    """The plan that `ImagePlan.to_json` wrote. Raises `UsageError` (`plan_unreadable`)."""
    try:
        plain = json.loads(text)
        if plain.get("version") != _VERSION:
            raise ValueError(f"version {plain.get('version')}, this program reads {_VERSION}")
        return from_plain(ImagePlan, plain)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"not a plan of this program: {error}", code="plan_unreadable") from error


# --- wishes ---------------------------------------------------------------------------------------


def read_wishes(outputs: Sequence[Mapping[str, Any]]) -> tuple[ImageWish, ...]:
    """Outputs of type `image`, checked as far as they can be without their source. One without a
    name is called `image`, or `image-2` where it is the second of several.

    Raises `Invalid`: `output_invalid`, `output_twice`, `format_unknown`, `letters_missing`, and the
    grammar's codes; `output` is the number of the one that is wrong, from 1.
    """
    wishes = tuple(
        _wish(plain, number, alone=len(outputs) == 1) for number, plain in enumerate(outputs, 1)
    )
    _each_once([(wish.name, wish.format or "") for wish in wishes])
    return wishes


def _wish(plain: Mapping[str, Any], number: int, *, alone: bool) -> ImageWish:
    unknown = sorted(set(plain) - set(_FIELDS))
    if unknown:
        raise _invalid(
            number,
            f"no field {str(unknown[0])[:40]!r}; it has {', '.join(_FIELDS)}",
            "output_invalid",
        )
    name = plain.get("name")
    if name is None:
        name = "image" if alone else f"image-{number}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        text = "name: 1 to 48 letters, digits, - and _, the first a letter or digit"
        raise _invalid(number, text, "output_invalid")
    ops = plain.get("ops")
    ops = [] if ops is None else ops
    if not isinstance(ops, list) or not all(isinstance(op, Mapping) for op in ops):
        text = 'ops: a list of operations such as {"op": "resize", "w": 800}'
        raise _invalid(number, text, "output_invalid")
    format = _format(plain.get("format"), number)
    try:
        operations = grammar.parse_json(ops)
        lettering.check_texts(operations)
        if format is not None:
            grammar.check_format(operations, format)
    except UsageError as error:
        raise _invalid(number, error.message, error.code) from error
    return ImageWish(name, format, operations)


def _format(asked: object, number: int) -> str | None:
    if asked is None:
        return None
    if asked == "auto":
        text = "format auto is for URLs, whose readers say what they accept; leave it out here"
        raise _invalid(number, text, "format_unknown")
    try:
        return formats.written(str(asked)).name
    except UsageError as error:
        raise _invalid(number, error.message, error.code) from error


def _each_once(names: Sequence[tuple[str, str]]) -> None:
    """Raises `Invalid` (`output_twice`) where two would write one file, on any file system."""
    seen: set[tuple[str, str]] = set()
    for number, (name, ending) in enumerate(names, 1):
        known = (name.lower(), ending)
        if known in seen:
            raise _invalid(number, f"a second one called {name}", "output_twice")
        seen.add(known)


def _invalid(number: int, text: str, code: str) -> Invalid:
    return Invalid(f"output {number}: {text}", code=code, output=number)


def watermarks(wishes: Sequence[ImageWish]) -> frozenset[str]:
    """The ids of the assets that are laid over others."""
    return frozenset(ref for wish in wishes for ref in grammar.refs(wish.operations))


def check_watermarks(wishes: Sequence[ImageWish], there: Collection[str]) -> None:
    """`there`: pictures of the asker's own. Raises `Invalid` (`watermark_missing`), of somebody
    else's in the same words."""
    missing = sorted(watermarks(wishes) - set(there))
    if missing:
        raise Invalid(
            f"no picture of yours has the id {missing[0]}, which is to be the watermark",
            code="watermark_missing",
        )


# --- plans ----------------------------------------------------------------------------------------


def plan_images(info: ImageInfo, wishes: Sequence[ImageWish], limits: ImageLimits) -> ImagePlan:
    """What is to be made of this picture. Raises `Invalid`: `output_twice`, `animation_lost`,
    `too_many_frames`, `option_not_of_format`, `crop_outside`, `result_too_large`, each with its
    `output`."""
    outputs = tuple(_planned(info, wish, n, limits) for n, wish in enumerate(wishes, 1))
    _each_once([(output.path, "") for output in outputs])
    source = ImageSource(
        format=info.format,
        width=info.width,
        height=info.height,
        frames=info.frames,
        summary=describe_image(info),
        warnings=info.warnings,
    )
    return ImagePlan("image", _VERSION, source, outputs)


def _planned(info: ImageInfo, wish: ImageWish, number: int, limits: ImageLimits) -> PlannedImage:
    format, reason = choose_format(info, wish)
    frames = info.frames if is_animated(info) and not takes_first(wish.operations) else 1
    if frames > 1 and not formats.FORMATS[format].animated:
        raise _invalid(
            number,
            f"{format} would lose {frames - 1} of {frames} frames: take webp or gif, or "
            'end with {"op": "convert", "frames": "first"}',
            "animation_lost",
        )
    if frames > limits.frames:
        raise _invalid(
            number,
            f"{frames} frames, and a picture may have {limits.frames}: end with "
            '{"op": "convert", "frames": "first"}, or make a film of it',
            "too_many_frames",
        )
    size = Size(info.width, info.height)
    try:
        grammar.check_format(wish.operations, format)
        made = geometry.sizes(size, wish.operations, frames=frames, pixels=limits.pixels)
    except UsageError as error:
        raise _invalid(number, error.message, error.code) from error
    last = made[-1] if made else size
    return PlannedImage(
        path=f"{wish.name}.{formats.FORMATS[format].extensions[0]}",
        format=format,
        reason=reason,
        operations=grammar.to_text(wish.operations),
        width=last.width,
        height=last.height,
        exact=last.exact,
        frames=frames,
    )


def choose_format(info: ImageInfo, wish: ImageWish) -> tuple[str, str]:
    """The format of a result, and why: the one that was asked for; the source's own where we write
    it and it can hold the result's transparency; else one that loses nothing, and can do what
    `convert` asks, if any can."""
    if wish.format is not None:
        return wish.format, "asked for"
    moving = is_animated(info) and not takes_first(wish.operations)
    own = formats.FORMATS[info.format]
    transparent = grammar.transparent_after(info.alpha, wish.operations)
    if own.written and (own.animated or not moving) and (own.alpha or not transparent):
        return info.format, "the source's own"
    if moving:
        return "webp", f"{info.format} is not written with several frames"
    usual, why = "jpeg", f"{info.format} is not written"
    if transparent:
        usual = "png"
        why = f"the result is transparent, and {info.format} is not, or is not written"
    if not _can(usual, wish.operations) and _can("webp", wish.operations):
        return "webp", f"{why}; {usual} cannot do what convert asks"
    return usual, why


def _can(format: str, operations: Sequence[Operation]) -> bool:
    try:
        grammar.check_format(operations, format)
    except UsageError:
        return False
    return True


def is_animated(info: ImageInfo) -> bool:
    """Whether a picture's frames follow each other in time; the pages of a TIFF do not."""
    return info.frames > 1 and formats.FORMATS[info.format].animated


def takes_first(operations: Sequence[Operation]) -> bool:
    """Whether one frame of an animation is asked for."""
    return grammar.conversion(operations).frames == "first"


# --- in words -------------------------------------------------------------------------------------


def describe_image(info: ImageInfo) -> tuple[str, ...]:
    """A picture in plain words, one sentence a fact."""
    called = _CALLED.get(info.format, info.format.upper().replace("-SEQUENCE", " sequence"))
    first = f"{called} {info.width} × {info.height}"
    if turn := _TURNED.get(info.orientation):
        first += f", {turn}"
    taken = info.exif.get("DateTimeOriginal", "")
    if day := _DAY.match(taken):
        first += f", taken {day[1]}-{day[2]}-{day[3]}"
    lines = [first]
    if is_animated(info):
        lasting = "" if info.duration_s is None else f", {info.duration_s:.2f} s"
        lines.append(f"animation of {info.frames} frames{lasting}")
    colors = f"{info.color}, {info.depth} bits a channel"
    lines.append(f"{colors}, with transparency" if info.alpha else colors)
    if info.gps:
        lines.append("GPS position in the file")
    return tuple(lines)


_CALLED = {"webp": "WebP", "jxl": "JPEG XL", "jp2": "JPEG 2000", "j2k": "JPEG 2000"}
# What sets the picture upright (EXIF 2.32, tag 274), clockwise.
_TURNED = {
    2: "mirrored",
    3: "rotated 180°",
    4: "mirrored and rotated 180°",
    5: "mirrored and rotated 270°",
    6: "rotated 90°",
    7: "mirrored and rotated 90°",
    8: "rotated 270°",
}
_DAY = re.compile(r"([0-9]{4}):([0-9]{2}):([0-9]{2})\b")


def summarize_images(plan: ImagePlan) -> dict[str, Any]:
    """What a reader of a job needs of its plan, as JSON."""
    return {
        "type": "image",
        "source": list(plan.source.summary),
        "outputs": [to_plain(output) for output in plan.outputs],
        "warnings": list(plan.source.warnings),
    }
