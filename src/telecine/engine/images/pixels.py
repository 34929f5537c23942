"""What each operation does to the pixels of a picture: one small function an operation.

Sizes and places come from `geometry`, in every case. Colours are mixed with alpha multiplied in, so
that the colour behind transparent pixels, which nobody sees, never shows at an edge. All frames of
an animation get the same.

Nothing is computed here but what must be known at once (where to trim, what is interesting) and
what is read out of order (`_in_memory`); the rest is a recipe that runs while the result is
written, line by line, from a source that may be read but once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import pyvips

from telecine.engine.errors import UsageError
from telecine.engine.images import colors, geometry, lettering
from telecine.engine.images.geometry import Box, Size
from telecine.engine.images.lettering import FONT, FONT_FILE
from telecine.engine.images.operations import (
    Background,
    Blur,
    Brightness,
    Contrast,
    Convert,
    CropTo,
    Flip,
    Grayscale,
    Operation,
    Resize,
    Rotate,
    Round,
    Saturation,
    Sepia,
    Sharpen,
    Thumbnail,
    Trim,
    Watermark,
)
from telecine.engine.images.picture import Picture

_POINTS = 100
_FONT_DPI = 72  # at which a point is a pixel
_TEXT_PIXELS = 32_000_000  # the most that a text is drawn with; a larger one is enlarged

_CLEAR = "00000000"
# Blurs above twice this sigma are computed on a smaller picture: the larger the blur, the less is
# there to be seen, and the longer it would take.
_SIGMA = 8.0

Matrix = tuple[tuple[float, float, float], ...]
# Filter Effects Module Level 1, the matrices of its shorthands (section 9) at their full amount.
_SAME: Matrix = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_GRAY: Matrix = ((0.2126, 0.7152, 0.0722),) * 3
_SEPIA: Matrix = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_UNSATURATED: Matrix = ((0.213, 0.715, 0.072),) * 3


@dataclass(frozen=True, slots=True)
class _Given:
    """What an operation goes by beside its own fields."""

    size: Size
    refs: Mapping[str, Picture]


def apply(
    picture: Picture,
    operation: Operation,
    refs: Mapping[str, Picture],
    *,
    size: Size | None = None,
) -> Picture:
    """The picture after this operation.

    `refs`: the pictures of watermarks by name; their pixels are read more than once and in any
    order. `size`: the true size of a picture that was shrunk while it was loaded: all that is
    computed from a size is computed from this one, so that the result is what it would have been.
    It concerns the first operation, a `Resize` or `Thumbnail`.

    Raises `UsageError`: `crop_outside` and `result_too_large` as `geometry` does (after a `trim`
    nobody knew before), `watermark_missing`, `letters_missing`. May raise `pyvips.Error` of the
    source, where pixels must be known at once.
    """
    given = _Given(size or Size(picture.width, picture.height), refs)
    return _FUNCTIONS[type(operation)](picture, operation, given)


# --- size and place -------------------------------------------------------------------------------


def _resize(picture: Picture, operation: Resize, given: _Given) -> Picture:
    picture = picture.each(partial(_scaled, size=geometry.scaled(given.size, operation)))
    if operation.fit == "pad":
        ground = geometry.after(given.size, operation)
        left, top = geometry.ground(given.size, operation)
        return picture.each(lambda frame: _grounded(frame, left, top, ground, operation.background))
    box = geometry.cut(given.size, operation)
    assert box is not None
    return picture.each(partial(_cut, box=box))


def _thumbnail(picture: Picture, operation: Thumbnail, given: _Given) -> Picture:
    picture = picture.each(partial(_scaled, size=geometry.scaled(given.size, operation)))
    box = geometry.cut(given.size, operation)
    if box is None:  # the content decides: of the first frame for all, or the picture would jump
        picture = picture.each(_in_memory)
        made = geometry.after(given.size, operation)
        found = picture.frames[0].smartcrop(made.width, made.height, interesting=operation.crop)
        box = Box(-found.xoffset, -found.yoffset, made.width, made.height)
    return picture.each(partial(_cut, box=box))


def _crop(picture: Picture, operation: CropTo, given: _Given) -> Picture:
    box = geometry.cut(given.size, operation)
    assert box is not None
    return picture.each(partial(_cut, box=box))


def _rotate(picture: Picture, operation: Rotate, _: _Given) -> Picture:
    return picture.each(
        lambda frame: _turned(_in_memory(frame), operation.angle, operation.background)
    )


def _flip(picture: Picture, operation: Flip, _: _Given) -> Picture:
    if operation.axis == "horizontal":
        return picture.each(lambda frame: frame.fliphor())
    if operation.axis == "vertical":
        return picture.each(lambda frame: _in_memory(frame).flipver())
    return picture.each(lambda frame: _in_memory(frame).rot180())


def _trim(picture: Picture, operation: Trim, _: _Given) -> Picture:
    picture = picture.each(_in_memory)
    # Compared as they are seen: transparent pixels are alike, whatever colour lies behind them.
    seen = [_premultiply(frame) for frame in picture.frames]
    edge = seen[0](0, 0)
    far = operation.threshold * (257 if picture.depth == 16 else 1)
    boxes = [_where(((frame - edge).abs() > far).bandor()) for frame in seen]
    found = [box for box in boxes if box.width]
    if not found:
        return picture
    left, top = min(box.left for box in found), min(box.top for box in found)
    right = max(box.left + box.width for box in found)
    bottom = max(box.top + box.height for box in found)
    return picture.each(partial(_cut, box=Box(left, top, right - left, bottom - top)))


def _where(mask: pyvips.Image) -> Box:
    """What the set pixels of a mask (0 or 255) span; of none, a box without width. `line_art`:
    without the median filter, which would take single lines for noise."""
    return Box(*mask.find_trim(threshold=1, background=[0], line_art=True))


# --- laid over, and behind ------------------------------------------------------------------------


def _watermark(picture: Picture, operation: Watermark, given: _Given) -> Picture:
    if operation.text is not None:
        mark = _written(operation, operation.text, given.size, picture.depth)
        if mark is None:  # spaces alone: nothing to be seen
            return picture
    else:
        mark = _pictured(operation, given, picture.depth)
    mark = _turned(_faded(mark, operation.opacity), operation.angle, _CLEAR)
    if operation.tile:
        tiles = _tiled(mark, operation, given.size)
        return picture.each(lambda frame: _over(frame, tiles, 0, 0))
    left, top = geometry.mark_at(given.size, Size(mark.width, mark.height), operation)
    # What sticks out is cut off before anything of it is computed.
    x, y = max(left, 0), max(top, 0)
    width = min(left + mark.width, given.size.width) - x
    height = min(top + mark.height, given.size.height) - y
    if width <= 0 or height <= 0:
        return picture
    shown = _in_memory(mark.crop(x - left, y - top, width, height))
    return picture.each(lambda frame: _over(frame, shown, x, y))


def _pictured(operation: Watermark, given: _Given, depth: int) -> pyvips.Image:
    """The picture to lay over, in its size; of an animation the first frame."""
    ref = given.refs.get(operation.image or "")
    if ref is None:
        raise UsageError(
            f"the watermark {operation.image!r} was not given", code="watermark_missing"
        )
    image = _with_alpha(_in_depth(ref.frames[0], depth))
    size = geometry.mark(given.size, Size(ref.width, ref.height), operation)
    scaled = _scaled(image, size)
    # Turning reads in any order, so a shrunk one is kept; an enlarged one may be too large for it.
    return _in_memory(scaled) if size.width < ref.width else scaled


def _written(operation: Watermark, text: str, size: Size, depth: int) -> pyvips.Image | None:
    """The text to lay over, in its size and colour; None if there is nothing to be seen of it."""
    lettering.check(text)
    plain = _letters(text, _FONT_DPI)
    if plain is None:
        return None
    made = geometry.mark(size, Size(plain.width, plain.height), operation)
    # Twice as large and then made smaller: so no hinting bends what the font's maker drew.
    grown = min(
        2 * made.width / plain.width, math.sqrt(_TEXT_PIXELS / (plain.width * plain.height))
    )
    drawn = _letters(text, math.ceil(_FONT_DPI * grown))
    assert drawn is not None
    shape = _in_depth(_scaled(drawn.copy(interpretation="b-w"), made), depth)
    color = _color(operation.color, depth)
    alpha = _whole(shape * (color[3] / _most(depth)), shape)
    space = "rgb16" if depth == 16 else "srgb"
    return alpha.new_from_image(color[:3]).bandjoin(alpha).copy(interpretation=space)


def _letters(text: str, dpi: int) -> pyvips.Image | None:
    """How much of each pixel the text covers (0 to 255), no more than its letters span."""
    try:
        # The text goes through Pango's markup, in which nobody but us may speak.
        marked = escape(text, quote=False)
        return pyvips.Image.text(marked, font=f"{FONT} {_POINTS}", fontfile=str(FONT_FILE), dpi=dpi)
    except pyvips.Error as error:
        if "no text to render" in str(error):
            return None
        raise


def _tiled(mark: pyvips.Image, operation: Watermark, size: Size) -> pyvips.Image:
    """The mark again and again over so large a picture, from its upper left."""
    cell = geometry.cell(Size(mark.width, mark.height), operation)
    # Of a cell no more than the picture can show.
    width, height = min(cell.width, size.width), min(cell.height, size.height)
    one = _in_memory(mark.embed(0, 0, width, height))
    all_over = one.replicate(-(-size.width // width), -(-size.height // height))
    return all_over.crop(0, 0, size.width, size.height)


def _round(picture: Picture, operation: Round, given: _Given) -> Picture:
    radius = geometry.radius(given.size, operation)
    # The distance from the edge, negative inside. A pixel's middle lies on whole numbers and it
    # reaches half a pixel each way; one that the edge halves is half seen.
    right, bottom = picture.width - 0.5, picture.height - 0.5
    edge = pyvips.Image.sdf(
        picture.width,
        picture.height,
        "rounded-box",
        a=[-0.5, -0.5],
        b=[right, bottom],
        corners=[radius] * 4,
    )
    share = (0.5 - edge).clamp()
    return picture.each(lambda frame: _faded(_with_alpha(frame), share))


def _background(picture: Picture, operation: Background, _: _Given) -> Picture:
    return picture.each(partial(_behind, color=operation.color))


# --- tone -----------------------------------------------------------------------------------------


def _blur(picture: Picture, operation: Blur, _: _Given) -> Picture:
    return picture.each(
        lambda frame: _whole(_premultiplied(frame, partial(_soft, sigma=operation.sigma)), frame)
    )


def _soft(image: pyvips.Image, sigma: float) -> pyvips.Image:
    shrink = int(sigma // _SIGMA)
    if shrink < 2:
        return _gauss(image, sigma)
    size = Size(-(-image.width // shrink), -(-image.height // shrink))
    small = _gauss(_resized(image, size), sigma / shrink)
    return _resized(small, Size(image.width, image.height))


def _gauss(image: pyvips.Image, sigma: float) -> pyvips.Image:
    """Gaussian blur. For bytes in whole numbers, which takes a fifth of the time: libvips' own
    integer masks are 20 in the middle, which is too coarse for a small sigma."""
    if image.format != "uchar":
        return image.gaussblur(sigma, min_ampl=0.01, precision="float")
    fine = pyvips.Image.gaussmat(sigma, 0.01, separable=True, precision="float")
    weights = [round(64 * fine(x, 0)[0] / fine(fine.width // 2, 0)[0]) for x in range(fine.width)]
    mask = pyvips.Image.new_from_array([weights], scale=sum(weights))
    return image.convsep(mask, precision="integer")


def _sharpen(picture: Picture, operation: Sharpen, _: _Given) -> Picture:
    return picture.each(lambda frame: _sharpened(frame, operation.sigma, operation.amount))


def _sharpened(image: pyvips.Image, sigma: float, amount: float) -> pyvips.Image:
    lab = image.colourspace("lab")
    light = lab[0]
    if image.bands == 4:  # what is not seen weighs nothing, or edges would glow
        soft = _gauss(light * lab[3], sigma) / _gauss(lab[3], sigma)
    else:
        soft = _gauss(light, sigma)
    sharp = light + (light - soft) * amount
    back = sharp.bandjoin(lab[1:3]).copy(interpretation="lab").colourspace(image.interpretation)
    return back.bandjoin(image[3]) if image.bands == 4 else back


def _grayscale(picture: Picture, operation: Grayscale, _: _Given) -> Picture:
    return _mixed(picture, _GRAY, operation.amount)


def _sepia(picture: Picture, operation: Sepia, _: _Given) -> Picture:
    return _mixed(picture, _SEPIA, operation.amount)


def _saturation(picture: Picture, operation: Saturation, _: _Given) -> Picture:
    return _mixed(picture, _UNSATURATED, 1 - operation.amount)


def _mixed(picture: Picture, full: Matrix, amount: float) -> Picture:
    """Every colour times a matrix that is so far from the identity to `full`; alpha stays."""
    rows = [
        [s + (f - s) * amount for s, f in zip(same, row, strict=True)]
        for same, row in zip(_SAME, full, strict=True)
    ]
    if picture.has_alpha:
        rows = [[*row, 0.0] for row in rows] + [[0.0, 0.0, 0.0, 1.0]]
    matrix = pyvips.Image.new_from_array(rows)
    return picture.each(lambda frame: _whole(frame.recomb(matrix), frame))


def _brightness(picture: Picture, operation: Brightness, _: _Given) -> Picture:
    return _linear(picture, operation.amount, 0.0)


def _contrast(picture: Picture, operation: Contrast, _: _Given) -> Picture:
    return _linear(picture, operation.amount, (1 - operation.amount) / 2)


def _linear(picture: Picture, slope: float, intercept: float) -> Picture:
    """Every channel (0 to 1) times the slope, plus the intercept; alpha stays. By a table of all
    values, which is four times as fast as to compute each."""
    values = pyvips.Image.identity(ushort=picture.depth == 16)
    table = _whole(values * slope + intercept * picture.most, values)
    tables = [table, table, table] + ([values] if picture.has_alpha else [])
    joined = tables[0].bandjoin(tables[1:])
    return picture.each(
        lambda frame: frame.maplut(joined).copy(interpretation=frame.interpretation)
    )


def _convert(picture: Picture, _: Convert, __: _Given) -> Picture:
    """Says how the picture is written, which is no matter of its pixels."""
    return picture


_FUNCTIONS: dict[type[Operation], Callable[[Picture, Any, _Given], Picture]] = {
    Resize: _resize,
    Thumbnail: _thumbnail,
    CropTo: _crop,
    Rotate: _rotate,
    Flip: _flip,
    Watermark: _watermark,
    Blur: _blur,
    Sharpen: _sharpen,
    Grayscale: _grayscale,
    Sepia: _sepia,
    Brightness: _brightness,
    Contrast: _contrast,
    Saturation: _saturation,
    Round: _round,
    Background: _background,
    Trim: _trim,
    Convert: _convert,
}


# --- what they are made of ------------------------------------------------------------------------


def _in_memory(image: pyvips.Image) -> pyvips.Image:
    """The image with its pixels computed, for what reads them in another order than they come from
    a file, or more than once. Of an image that is in memory already nothing is copied."""
    kept = image.copy_memory()
    if kept.get_typeof("vips-sequential"):
        kept = kept.copy()
        kept.remove("vips-sequential")
    return kept


def _scaled(image: pyvips.Image, size: Size) -> pyvips.Image:
    """Exactly so large."""
    if (image.width, image.height) == (size.width, size.height):
        return image
    return _premultiplied(image, partial(_resized, size=size))


def _resized(image: pyvips.Image, size: Size) -> pyvips.Image:
    """Lanczos where it shrinks, bicubic where it grows: by `affine`, because libvips' own resize
    moves what it enlarges half a pixel down and to the right (libvips issue 943)."""
    across, down = size.width / image.width, size.height / image.height
    if across <= 1 or down <= 1:
        image = image.resize(min(across, 1), vscale=min(down, 1), kernel="lanczos3")
    if across <= 1 and down <= 1:
        return image
    return image.affine(
        [max(across, 1), 0, 0, max(down, 1)],
        interpolate=pyvips.Interpolate.new("bicubic"),
        idx=0.5, idy=0.5, odx=-0.5, ody=-0.5,  # the middle of a pixel is where its value is
        oarea=[0, 0, size.width, size.height],
        extend="copy",
        premultiplied=True,
    )  # fmt: skip


def _cut(image: pyvips.Image, box: Box) -> pyvips.Image:
    if (image.width, image.height) == (box.width, box.height):
        return image
    return image.crop(box.left, box.top, box.width, box.height)


def _turned(image: pyvips.Image, angle: float, background: str) -> pyvips.Image:
    """Turned clockwise about its middle, which becomes the middle of the bounding box."""
    angle %= 360
    if angle % 90 == 0:
        return image.rot(f"d{angle:.0f}")
    depth = _depth(image)
    size = geometry.turned(Size(image.width, image.height), angle)
    color = _color(background, depth)
    if color[3] < _most(depth):
        image = _with_alpha(image)
    share = color[3] / _most(depth)
    ground = [value * share for value in color[:3]] + [color[3]]
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))

    def turn(solid: pyvips.Image) -> pyvips.Image:
        return solid.affine(
            [cosine, -sine, sine, cosine],
            interpolate=pyvips.Interpolate.new("bicubic"),
            oarea=[0, 0, size.width, size.height],
            # A pixel's middle lies on whole numbers.
            idx=-(image.width - 1) / 2,
            idy=-(image.height - 1) / 2,
            odx=(size.width - 1) / 2,
            ody=(size.height - 1) / 2,
            extend="background",
            background=ground[: solid.bands],
            premultiplied=True,
        )

    return _premultiplied(image, turn)


def _grounded(
    image: pyvips.Image, left: int, top: int, size: Size, background: str
) -> pyvips.Image:
    """The image on a larger ground, which also shows through where the image is transparent."""
    color = _color(background, _depth(image))
    image = _behind(image, background)
    if (image.width, image.height) == (size.width, size.height):
        return image
    if color[3] < _most(_depth(image)):
        image = _with_alpha(image)
    return image.embed(
        left, top, size.width, size.height, extend="background", background=color[: image.bands]
    )


def _behind(image: pyvips.Image, color: str) -> pyvips.Image:
    """A colour behind what is transparent. No alpha is left when the colour is opaque."""
    values = _color(color, _depth(image))
    if image.bands == 3 or values[3] == 0:
        return image
    if values[3] == _most(_depth(image)):
        return image.flatten(background=values[:3], max_alpha=_most(_depth(image)))
    return _over(image.new_from_image(values), image, 0, 0)


def _over(image: pyvips.Image, overlay: pyvips.Image, left: int, top: int) -> pyvips.Image:
    """The overlay (RGBA) laid over the image; what was opaque stays so."""
    laid = image.composite2(overlay, "over", x=left, y=top)
    return laid if image.bands == 4 else laid[0:3]


def _faded(image: pyvips.Image, share: float | pyvips.Image) -> pyvips.Image:
    """RGBA with its alpha times a share."""
    alpha = _whole(image[3] * share, image)
    return image[0:3].bandjoin(alpha).copy(interpretation=image.interpretation)


def _premultiplied(
    image: pyvips.Image, change: Callable[[pyvips.Image], pyvips.Image]
) -> pyvips.Image:
    """Changed while its colours are multiplied by alpha.

    Whole numbers are exact enough: what they lose of a colour is less than half a step of what is
    seen of it, and with floating point it takes four times as long.
    """
    if image.bands != 4:
        return change(image)
    changed = change(_premultiply(image))
    return _whole(changed.unpremultiply(max_alpha=_most(_depth(image))), image)


def _premultiply(image: pyvips.Image) -> pyvips.Image:
    if image.bands != 4:
        return image
    return _whole(image.premultiply(max_alpha=_most(_depth(image))), image)


def _whole(image: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    """Rounded to values as this other one has them; what lies beyond becomes the nearest."""
    return image.rint().cast(like.format)


def _with_alpha(image: pyvips.Image) -> pyvips.Image:
    return image if image.bands == 4 else image.bandjoin(_most(_depth(image)))


def _in_depth(image: pyvips.Image, depth: int) -> pyvips.Image:
    """Eight bits as sixteen (times 257) or the other way round."""
    if _depth(image) == depth:
        return image
    if depth == 16:
        return colors.widened(image)
    return (image / 257).rint().cast("uchar").copy(interpretation="srgb")


def _depth(image: pyvips.Image) -> int:
    return 16 if image.format == "ushort" else 8


def _most(depth: int) -> int:
    return (1 << depth) - 1


def _color(digits: str, depth: int) -> list[float]:
    """Red, green, blue and alpha of six or eight hexadecimal digits, in the picture's values."""
    scale = 257.0 if depth == 16 else 1.0
    return [int(pair, 16) * scale for pair in (digits[i : i + 2] or "ff" for i in (0, 2, 4, 6))]
