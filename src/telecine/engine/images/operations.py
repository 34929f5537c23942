"""What can be done to a picture: one frozen class an operation, one record a field.

A field's record (`Number`, `Word`, …) is all that the grammar, the JSON Schema and the reference
page know of it: a new operation is a class here, its size in `geometry` and its pixels in `pixels`.
Distances are pixels of the picture as it is by then, in the order of the list; the first operation
sees it upright (the EXIF orientation is applied before). Angles are degrees clockwise.

The tone operations mean what the CSS filters of that name do (Filter Effects Module Level 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, get_args

MAX_SIDE = 16_384  # of what is made larger; what each format can hold `formats` says
MAX_OPERATIONS = 32

Fit = Literal["inside", "cover", "fill", "pad"]
Crop = Literal["attention", "entropy", "center", "focal"]
Axis = Literal["horizontal", "vertical", "both"]
Position = Literal[
    "center", "top", "bottom", "left", "right",
    "top-left", "top-right", "bottom-left", "bottom-right",
]  # fmt: skip
Frames = Literal["all", "first"]
Kept = Literal["icc", "exif", "gps", "xmp"]


# --- what a field may hold ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` to `high`, at most `places` digits after the point. `turn`: it is taken
    modulo this (an angle)."""

    low: float
    high: float
    places: int = 3
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """One of these words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Any of these words, each once, in this order; in text joined by `+`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false; in text 1 or 0."""


@dataclass(frozen=True, slots=True)
class Color:
    """Six or eight hexadecimal digits (the last two: alpha), lower case, without a sign before
    them; three or four are taken too, and `transparent`, which is 00000000."""


@dataclass(frozen=True, slots=True)
class Text:
    """Letters of any script, at most so many; no control characters."""

    longest: int


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of another picture: of an asset in jobs and URLs, of a file on the command line.
    Letters, digits, `-` and `_`, at most 64."""


@dataclass(frozen=True, slots=True)
class QualityOf:
    """`auto`, or a whole number from 1 to 100."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these whole numbers."""

    numbers: tuple[int, ...]


Kind: TypeAlias = Choice | Whole | Number | Word | Words | Flag | Color | Text | Ref | QualityOf


@dataclass(frozen=True, slots=True)
class Param:
    """A field: what it holds, what it is when it is not given (`required`: it must be), and one
    sentence for the reference."""

    kind: Kind
    about: str
    required: bool = False


def _of(kind: Kind, default: Any, about: str) -> Any:
    return field(default=default, metadata={"param": Param(kind, about)})


def _need(kind: Kind, about: str) -> Any:
    return field(metadata={"param": Param(kind, about, required=True)})


def params(operation: type[Operation] | Operation) -> Mapping[str, Param]:
    """An operation's fields by name, in the order of its canonical form."""
    return _PARAMS[operation.name]


_SIDE = Whole(1, MAX_SIDE)
_OFFSET = Whole(-MAX_SIDE, MAX_SIDE)
_POSITION = Word(get_args(Position))
_DPR = Number(0.1, 8)
_FACTOR = Number(0, 10)
_SHARE = Number(0, 1)
_ANGLE = Number(-360, 360, turn=360)
_FLAG, _COLOR, _NAME, _LINE = Flag(), Color(), Ref(), Text(200)
_FIT, _CROP, _AXIS, _FRAMES = (Word(get_args(words)) for words in (Fit, Crop, Axis, Frames))
_QUALITY, _BYTES, _DEPTH = QualityOf(), Whole(1_000, 1_000_000_000), Choice((8, 16))
_KEPT = Words(get_args(Kept))

# --- the operations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size. `inside` keeps all of the picture within w × h; `cover` fills w × h and cuts
    off what sticks out; `fill` forces w × h, whatever becomes of the aspect; `pad` puts all of it
    on a w × h ground. Without `enlarge` nothing is made larger than it is (`fill` always does):
    `cover` then gives the largest picture of that aspect."""

    name: ClassVar[str] = "resize"
    w: int | None = _of(_SIDE, None, "Width; without it, from the height.")
    h: int | None = _of(_SIDE, None, "Height; without it, from the width.")
    fit: Fit = _of(_FIT, "inside", "How the picture meets w × h.")
    enlarge: bool = _of(_FLAG, False, "Whether a smaller picture may be enlarged.")
    dpr: float = _of(_DPR, 1.0, "Device pixels a pixel: w and h are multiplied by it.")
    position: Position = _of(_POSITION, "center", "What `cover` keeps and where `pad` puts it.")
    background: str = _of(_COLOR, "00000000", "The ground of `pad`.")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of exactly this aspect that shows what matters: the crop is chosen by its content,
    or round a focal point."""

    name: ClassVar[str] = "thumbnail"
    w: int = _need(_SIDE, "Width.")
    h: int = _need(_SIDE, "Height.")
    crop: Crop = _of(_CROP, "attention", "What decides the crop.")
    x: float = _of(_SHARE, 0.5, "Focal point, from the left, as a share of the width.")
    y: float = _of(_SHARE, 0.5, "Focal point, from the top, as a share of the height.")
    enlarge: bool = _of(_FLAG, False, "Whether a smaller picture may be enlarged.")
    dpr: float = _of(_DPR, 1.0, "Device pixels a pixel: w and h are multiplied by it.")


@dataclass(frozen=True, slots=True)
class CropTo:
    """A part of the picture, all of which must lie inside it: at x, y, or where `position` says."""

    name: ClassVar[str] = "crop"
    w: int = _need(_SIDE, "Width.")
    h: int = _need(_SIDE, "Height.")
    x: int | None = _of(Whole(0, MAX_SIDE), None, "Left edge; with `y`.")
    y: int | None = _of(Whole(0, MAX_SIDE), None, "Upper edge; with `x`.")
    position: Position = _of(_POSITION, "center", "Which part, where x and y are not given.")


@dataclass(frozen=True, slots=True)
class Rotate:
    """Turned clockwise. Quarter turns are exact; other angles give the picture's bounding box, its
    corners filled with the background."""

    name: ClassVar[str] = "rotate"
    angle: float = _need(_ANGLE, "Degrees clockwise.")
    background: str = _of(_COLOR, "00000000", "What fills the corners.")


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirrored."""

    name: ClassVar[str] = "flip"
    axis: Axis = _of(_AXIS, "horizontal", "`horizontal` swaps left and right.")


@dataclass(frozen=True, slots=True)
class Watermark:
    """Another picture or a text laid over this one."""

    name: ClassVar[str] = "watermark"
    image: str | None = _of(_NAME, None, "The picture; this or `text`.")
    text: str | None = _of(_LINE, None, "The text; this or `image`.")
    position: Position = _of(_POSITION, "bottom-right", "Where it lies.")
    x: int = _of(_OFFSET, 0, "Moved inwards from the edge; from the center: to the right.")
    y: int = _of(_OFFSET, 0, "Moved inwards from the edge; from the center: down.")
    scale: float = _of(Number(0.01, 4), 0.25, "Its width as a share of the picture's width.")
    opacity: float = _of(_SHARE, 1.0, "0: cannot be seen; 1: as it is.")
    angle: float = _of(_ANGLE, 0.0, "Turned clockwise by so many degrees.")
    tile: bool = _of(_FLAG, False, "Repeated over the whole picture; x and y are the gaps.")
    color: str = _of(_COLOR, "ffffff", "Of the text.")


@dataclass(frozen=True, slots=True)
class Blur:
    """Gaussian blur."""

    name: ClassVar[str] = "blur"
    sigma: float = _need(Number(0.3, 250), "Standard deviation in pixels.")


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Unsharp mask on the lightness."""

    name: ClassVar[str] = "sharpen"
    sigma: float = _of(Number(0.3, 10), 0.5, "Standard deviation of the mask in pixels.")
    amount: float = _of(_FACTOR, 1.0, "How much of it is added; 0: unchanged.")


@dataclass(frozen=True, slots=True)
class Grayscale:
    """Colour taken away."""

    name: ClassVar[str] = "grayscale"
    amount: float = _of(_SHARE, 1.0, "0: unchanged; 1: grey.")


@dataclass(frozen=True, slots=True)
class Sepia:
    """The brown of old photographs."""

    name: ClassVar[str] = "sepia"
    amount: float = _of(_SHARE, 1.0, "0: unchanged; 1: all of it.")


@dataclass(frozen=True, slots=True)
class Brightness:
    """Every channel times a factor."""

    name: ClassVar[str] = "brightness"
    amount: float = _need(_FACTOR, "0: black; 1: unchanged.")


@dataclass(frozen=True, slots=True)
class Contrast:
    """Every channel's distance from middle grey times a factor."""

    name: ClassVar[str] = "contrast"
    amount: float = _need(_FACTOR, "0: grey; 1: unchanged.")


@dataclass(frozen=True, slots=True)
class Saturation:
    """Every colour's distance from its grey times a factor (CSS: saturate)."""

    name: ClassVar[str] = "saturation"
    amount: float = _need(_FACTOR, "0: grey; 1: unchanged.")


@dataclass(frozen=True, slots=True)
class Round:
    """Round corners, transparent outside. More than half of the short side gives half of it."""

    name: ClassVar[str] = "round"
    radius: int = _need(_SIDE, "In pixels.")


@dataclass(frozen=True, slots=True)
class Background:
    """What is transparent shows this colour instead."""

    name: ClassVar[str] = "background"
    color: str = _of(_COLOR, "ffffff", "The colour.")


@dataclass(frozen=True, slots=True)
class Trim:
    """Edges of one colour cut off; what they are is told by the upper left pixel. A picture of one
    colour alone stays whole."""

    name: ClassVar[str] = "trim"
    threshold: int = _of(Whole(1, 254), 10, "How far a pixel may be from that colour.")


@dataclass(frozen=True, slots=True)
class Convert:
    """How the result is written; at most once, at the end of the list. What a format cannot do
    (quality in PNG, 16 bits in JPEG) is refused where it was asked for."""

    name: ClassVar[str] = "convert"
    quality: int | Literal["auto"] | None = _of(
        QualityOf(),
        None,
        "`auto`: the smallest file above an SSIM of 0.98. None: the format's own.",
    )
    max_bytes: int | None = _of(_BYTES, None, "The quality is lowered until the file is so small.")
    lossless: bool = _of(_FLAG, False, "WebP and AVIF without loss.")
    progressive: bool = _of(_FLAG, True, "JPEG that appears coarse first.")
    depth: int = _of(_DEPTH, 8, "Bits a channel; 16 in PNG and TIFF.")
    frames: Frames = _of(_FRAMES, "all", "`first`: of an animation a still picture, on purpose.")
    keep: tuple[Kept, ...] = _of(
        _KEPT, (), "Metadata that stays; without `icc` colours become sRGB."
    )


Operation: TypeAlias = (
    Resize | Thumbnail | CropTo | Rotate | Flip | Watermark | Blur | Sharpen | Grayscale | Sepia
    | Brightness | Contrast | Saturation | Round | Background | Trim | Convert
)  # fmt: skip

OPERATIONS: dict[str, type[Operation]] = {each.name: each for each in get_args(Operation)}
_PARAMS = {
    name: MappingProxyType({each.name: each.metadata["param"] for each in fields(operation)})
    for name, operation in OPERATIONS.items()
}
