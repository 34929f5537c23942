"""How large a picture is after each operation, and where its parts lie.

Nothing else computes a size: `pixels` makes what is said here, the service refuses by it before
anything is decoded, and a caller may show it. Shares of pixels are exact fractions, rounded half up
and never to nothing.

After a `trim` the true size is known only when the pixels are: from there a size is the most that
each side can be (`exact` is False) until an operation forces one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from telecine.engine.errors import UsageError
from telecine.engine.images import formats
from telecine.engine.images.operations import (
    MAX_SIDE,
    CropTo,
    Operation,
    Position,
    Resize,
    Rotate,
    Round,
    Thumbnail,
    Trim,
    Watermark,
)

# A side that is a whole number of pixels but for the error of sine and cosine gets no pixel more.
_ALMOST = 1e-6


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels of an upright picture. Not `exact`: the most that each side can be."""

    width: int
    height: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.width}×{self.height}"


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in its pixels from the upper left."""

    left: int
    top: int
    width: int
    height: int


# --- sizes ----------------------------------------------------------------------------------------


def sizes(
    size: Size, operations: Iterable[Operation], *, frames: int = 1, pixels: int | None = None
) -> tuple[Size, ...]:
    """The size after each operation; raises as `after` does, at the first that cannot be."""
    made = []
    for operation in operations:
        size = after(size, operation, frames=frames, pixels=pixels)
        made.append(size)
    return tuple(made)


def after(size: Size, operation: Operation, *, frames: int = 1, pixels: int | None = None) -> Size:
    """The size of what an operation makes of a picture of this size.

    `pixels`: the most that all frames together may have, also before `cover` or `thumbnail` cuts.
    Raises `UsageError`: `crop_outside`, or `result_too_large` above that, or where a side grows
    beyond `MAX_SIDE`. What is not exact is refused only where no picture within it could do.
    """
    match operation:
        case Resize() | Thumbnail():
            made = _resized(size, operation)
            if size.exact:
                _few_enough(scaled(size, operation), operation, frames, pixels)
        case CropTo():
            box = _cropped(size, operation)
            made = Size(box.width, box.height)
        case Rotate():
            made = turned(size, operation.angle)
        case Trim():
            made = replace(size, exact=False)
        case _:
            made = size
    if made.exact:
        _short_enough(made, operation, max(MAX_SIDE, size.width, size.height))
        _few_enough(made, operation, frames, pixels)
    return made


def writable(size: Size, format: str) -> None:
    """That a result of this size can be written. Raises `UsageError` (`result_too_large`)."""
    side = formats.written(format).side
    if side is not None and max(size.width, size.height) > side:
        raise UsageError(
            f"a {format} picture has at most {side} pixels a side, not {size}",
            code="result_too_large",
        )


def _short_enough(made: Size, operation: Operation, side: int) -> None:
    if max(made.width, made.height) > side:
        raise UsageError(
            f"{operation.name} would make a picture of {made}: a side has at most {side} pixels",
            code="result_too_large",
        )


def _few_enough(made: Size, operation: Operation, frames: int, pixels: int | None) -> None:
    if pixels is not None and made.width * made.height * frames > pixels:
        of = f" in {frames} frames" if frames > 1 else ""
        raise UsageError(
            f"{operation.name} would make a picture of {made}{of}: "
            f"at most {pixels} pixels in all are made",
            code="result_too_large",
        )


def scaled(size: Size, operation: Resize | Thumbnail) -> Size:
    """The size that the picture itself is scaled to: before `cover` and `thumbnail` cut off what
    sticks out (see `cut`), before `pad` puts it on its ground (see `ground`)."""
    made = _resized(size, operation)
    match _fit(operation):
        case "pad":
            return _inside(size, *_wanted(operation), enlarge=operation.enlarge)
        case "cover":
            scale = max(Fraction(made.width, size.width), Fraction(made.height, size.height))
            return Size(_side(size.width * scale), _side(size.height * scale))
        case _:
            return made


def _resized(size: Size, operation: Resize | Thumbnail) -> Size:
    w, h = _wanted(operation)
    match _fit(operation):
        case "inside":
            if not size.exact:
                return _at_most(size, w, h, enlarge=operation.enlarge)
            return _inside(size, w, h, enlarge=operation.enlarge)
        case "cover" if not operation.enlarge:
            if not size.exact:
                return _at_most(size, w, h, enlarge=False)
            assert w is not None  # the grammar asks for both
            assert h is not None
            # The largest of this aspect that lies in the picture, and no more than was asked for.
            scale = min(Fraction(1), Fraction(size.width, w), Fraction(size.height, h))
            return Size(_side(w * scale), _side(h * scale))
        case _:
            assert w is not None  # the grammar asks for both
            assert h is not None
            return Size(w, h)


def _inside(size: Size, w: int | None, h: int | None, *, enlarge: bool) -> Size:
    scales = [
        Fraction(wanted, side)
        for wanted, side in ((w, size.width), (h, size.height))
        if wanted is not None
    ]
    scale = min(scales) if enlarge else min(*scales, Fraction(1))
    return Size(_side(size.width * scale), _side(size.height * scale))


def _at_most(size: Size, w: int | None, h: int | None, *, enlarge: bool) -> Size:
    """What a picture of no more than this size can become at most."""
    most = (MAX_SIDE, MAX_SIDE) if enlarge else (size.width, size.height)
    return Size(min(w or MAX_SIDE, most[0]), min(h or MAX_SIDE, most[1]), exact=False)


def turned(size: Size, angle: float) -> Size:
    """The bounding box of a picture turned by so many degrees; exact for quarter turns."""
    if angle % 180 == 0:
        return size
    if angle % 90 == 0:
        return replace(size, width=size.height, height=size.width)
    sine, cosine = (abs(f(math.radians(angle))) for f in (math.sin, math.cos))
    return replace(
        size,
        width=math.ceil(size.width * cosine + size.height * sine - _ALMOST),
        height=math.ceil(size.width * sine + size.height * cosine - _ALMOST),
    )


def _fit(operation: Resize | Thumbnail) -> str:
    return operation.fit if isinstance(operation, Resize) else "cover"


def _wanted(operation: Resize | Thumbnail) -> tuple[int | None, int | None]:
    """w and h in pixels of the device; `dpr` has three decimal places."""
    dpr = Fraction(round(operation.dpr * 1000), 1000)
    w, h = (None if side is None else _side(side * dpr) for side in (operation.w, operation.h))
    return w, h


def _side(share: Fraction) -> int:
    """Rounded half up, and at least one pixel."""
    return max(1, math.floor(share + Fraction(1, 2)))


# --- places ---------------------------------------------------------------------------------------


def place(outer: Size, inner: Size, position: Position, x: int = 0, y: int = 0) -> tuple[int, int]:
    """Left and top of `inner` in `outer`: at that edge, moved inwards from it by x and y, or from
    the center to the right and down. An odd pixel stays below and to the right. Negative where
    `inner` sticks out."""
    return (
        _along(outer.width - inner.width, x, "left" in position, "right" in position),
        _along(outer.height - inner.height, y, "top" in position, "bottom" in position),
    )


def _along(room: int, moved: int, at_start: bool, at_end: bool) -> int:
    if at_start:
        return moved
    if at_end:
        return room - moved
    return room // 2 + moved


def cut(size: Size, operation: Resize | Thumbnail | CropTo) -> Box | None:
    """The part that stays: of a picture of this size for `crop`, else of the `scaled` one. None
    where the content decides (`thumbnail` by attention or entropy). Raises `UsageError`
    (`crop_outside`)."""
    if isinstance(operation, CropTo):
        return _cropped(size, operation)
    whole = scaled(size, operation)
    if _fit(operation) != "cover":
        return Box(0, 0, whole.width, whole.height)
    made = _resized(size, operation)
    if isinstance(operation, Resize):
        left, top = place(whole, made, operation.position)
    elif operation.crop == "focal":
        left = _round_point(operation.x, whole.width, made.width)
        top = _round_point(operation.y, whole.height, made.height)
    elif operation.crop == "center":
        left, top = place(whole, made, "center")
    else:
        return None
    return Box(left, top, made.width, made.height)


def _round_point(share: float, whole: int, kept: int) -> int:
    """Where what is kept begins, so that the point is in its middle, as far as the picture goes."""
    middle = Fraction(round(share * 1000), 1000) * whole
    return min(max(0, math.floor(middle - Fraction(kept, 2) + Fraction(1, 2))), whole - kept)


def _cropped(size: Size, operation: CropTo) -> Box:
    wanted = Size(operation.w, operation.h)
    at = ""
    if operation.x is not None and operation.y is not None:
        left, top = operation.x, operation.y
        at = f" at {left},{top}"
    else:
        left, top = place(size, wanted, operation.position)
    if min(left, top) < 0 or left + wanted.width > size.width or top + wanted.height > size.height:
        raise UsageError(
            f"crop of {wanted}{at} reaches out of the picture, which is {size} by then",
            code="crop_outside",
        )
    return Box(left, top, wanted.width, wanted.height)


def ground(size: Size, operation: Resize) -> tuple[int, int]:
    """Left and top of the `scaled` picture on the ground of `pad`."""
    return place(_resized(size, operation), scaled(size, operation), operation.position)


def mark(size: Size, laid: Size, operation: Watermark) -> Size:
    """The size of a watermark that is `laid.width` × `laid.height` by itself, before it is turned.

    Raises `UsageError` (`result_too_large`) above `MAX_SIDE`.
    """
    width = _side(size.width * Fraction(round(operation.scale * 1000), 1000))
    made = Size(width, _side(Fraction(laid.height * width, laid.width)))
    _short_enough(made, operation, MAX_SIDE)
    return made


def mark_at(size: Size, laid: Size, operation: Watermark) -> tuple[int, int]:
    """Left and top of a watermark that has this size once it is scaled and `turned`."""
    return place(size, laid, operation.position, operation.x, operation.y)


def cell(laid: Size, operation: Watermark) -> Size:
    """What a tiled watermark repeats, from the picture's upper left: itself, then the gaps to its
    right and below."""
    return Size(laid.width + operation.x, laid.height + operation.y)


def radius(size: Size, operation: Round) -> float:
    """Of the corners, in pixels: no more than half of the short side."""
    return min(float(operation.radius), min(size.width, size.height) / 2)
