"""How large pictures become and where their parts lie: by hand, and computed in another way."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import UsageError
from telecine.engine.images import geometry
from telecine.engine.images import operations as ops
from telecine.engine.images.geometry import Box, Size, after, cut, scaled, sizes
from telecine.engine.images.grammar import parse_text

# (operation, before, after): worked out by hand from what docs/reference/image-operations.md says.
SIZES = [
    # inside: the smaller of the two scales, half a pixel up.
    ("resize:w=800", "1600x1200", "800x600"),
    ("resize:w=800", "1000x333", "800x266"),  # 266.4
    ("resize:w=500", "1000x333", "500x167"),  # 166.5
    ("resize:h=1", "1000x10", "100x1"),
    ("resize:w=10", "1000x3", "10x1"),  # 0.03: at least one
    ("resize:w=800,h=600", "4000x1000", "800x200"),
    ("resize:w=800,h=600", "1000x4000", "150x600"),
    ("resize:w=800,h=600", "320x200", "320x200"),
    ("resize:w=800,h=600,enlarge=1", "320x200", "800x500"),
    ("resize:w=800,enlarge=1", "320x200", "800x500"),
    ("resize:w=400,dpr=1.5", "1600x1200", "600x450"),
    ("resize:w=33,dpr=1.5", "1600x1600", "50x50"),  # 49.5
    ("resize:w=1,dpr=0.1", "1600x800", "1x1"),
    # fill and pad: that size, always.
    ("resize:w=30,h=40,fit=fill", "1600x1200", "30x40"),
    ("resize:w=30,h=40,fit=fill", "3x4", "30x40"),
    ("resize:w=30,h=40,fit=pad", "1600x1200", "30x40"),
    ("resize:w=30,h=40,fit=pad", "3x3", "30x40"),
    ("resize:w=30,h=40,fit=pad,dpr=2", "3x3", "60x80"),
    # cover: that size, or the largest of that aspect.
    ("resize:w=300,h=200,fit=cover", "1600x1200", "300x200"),
    ("resize:w=300,h=200,fit=cover", "150x1200", "150x100"),
    ("resize:w=300,h=200,fit=cover", "600x50", "75x50"),
    ("resize:w=300,h=200,fit=cover", "100x100", "100x67"),  # 66.7
    ("resize:w=300,h=200,fit=cover,enlarge=1", "100x100", "300x200"),
    ("thumbnail:w=300,h=200", "100x100", "100x67"),
    ("thumbnail:w=300,h=200,enlarge=1,dpr=2", "100x100", "600x400"),
    # crop
    ("crop:w=100,h=50", "100x50", "100x50"),
    ("crop:w=10,h=20,x=90,y=30", "100x50", "10x20"),
    # rotate
    ("rotate:angle=0", "30x20", "30x20"),
    ("rotate:angle=90", "30x20", "20x30"),
    ("rotate:angle=180", "30x20", "30x20"),
    ("rotate:angle=-90", "30x20", "20x30"),
    ("rotate:angle=45", "100x100", "142x142"),  # 141.42
    ("rotate:angle=30", "100x200", "187x224"),  # 86.60 + 100, 50 + 173.21
    ("rotate:angle=60", "1x1", "2x2"),  # 0.87 + 0.5
    ("rotate:angle=0.001", "100x100", "101x101"),
    # The triangle of 3, 4, 5 has 53.1301°, and 3 + 4 = 7; just beside it are 7.0000018.
    ("rotate:angle=53.13", "5x5", "8x8"),
    # cos 75° is (√6 - √2) / 4: the width is 649.00000012, of which nobody sees the last part.
    ("rotate:angle=75", "1373x304", "649x1405"),
    # These leave the size as it is.
    ("flip", "30x20", "30x20"),
    ("blur:sigma=3", "30x20", "30x20"),
    ("watermark:text=a,scale=4", "30x20", "30x20"),
    ("round:radius=9;background;sepia", "30x20", "30x20"),
    ("convert:quality=3", "30x20", "30x20"),
    # A list
    ("resize:w=800;rotate:angle=90;crop:w=100,h=100", "1600x1200", "100x100"),
    # After a trim: what it can be at most.
    ("trim", "30x20", "≤30x20"),
    ("trim;rotate:angle=90", "30x20", "≤20x30"),
    ("trim;resize:h=10", "30x20", "≤30x10"),
    ("trim;resize:w=100,h=10", "30x20", "≤30x10"),
    ("trim;resize:w=10,h=10,enlarge=1", "30x20", "≤10x10"),
    ("trim;resize:h=10,enlarge=1", "30x20", "≤16384x10"),
    ("trim;resize:w=10,enlarge=1", "30x20", "≤10x16384"),
    ("trim;resize:w=100,h=10,fit=cover", "30x20", "≤30x10"),
    ("trim;thumbnail:w=10,h=10", "30x20", "≤10x10"),
    ("trim;resize:w=100,h=10,fit=cover,enlarge=1", "30x20", "100x10"),
    ("trim;resize:w=100,h=10,fit=pad", "30x20", "100x10"),
    ("trim;resize:w=100,h=10,fit=fill;trim", "30x20", "≤100x10"),
    ("trim;crop:w=10,h=10", "30x20", "10x10"),
]  # fmt: skip


def size(text: str) -> Size:
    width, height = text.removeprefix("≤").split("x")
    return Size(int(width), int(height), exact=not text.startswith("≤"))


@pytest.mark.parametrize(("text", "before", "expected"), SIZES)
def test_sizes(text: str, before: str, expected: str) -> None:
    assert sizes(size(before), parse_text(text))[-1] == size(expected)


def test_each_operation_has_its_size() -> None:
    asked = parse_text("resize:w=800;rotate:angle=90;crop:w=100,h=50")
    assert sizes(Size(1600, 1200), asked) == (Size(800, 600), Size(600, 800), Size(100, 50))
    assert sizes(Size(1600, 1200), ()) == ()


REFUSED = [
    ("crop:w=101,h=1", "100x50", "crop_outside", "crop of 101×1 reaches out of the picture, which"),
    ("crop:w=1,h=51", "100x50", "crop_outside", "is 100×50 by then"),
    ("crop:w=10,h=10,x=91,y=0", "100x50", "crop_outside", "crop of 10×10 at 91,0 reaches out"),
    ("crop:w=10,h=10,x=0,y=41", "100x50", "crop_outside", "at 0,41"),
    ("resize:w=50;crop:w=60,h=1", "100x50", "crop_outside", "which is 50×25 by then"),
    ("trim;crop:w=101,h=1", "100x50", "crop_outside", "crop of 101×1"),
    ("resize:h=16384,enlarge=1", "101x100", "result_too_large", "16548×16384: a side has at most"),
    ("resize:w=9000,h=9000,fit=fill,dpr=2", "1x1", "result_too_large", "18000×18000"),
    ("rotate:angle=45", "16384x16384", "result_too_large", "23171×23171: a side has at most 16384"),
    ("trim;resize:w=9000,h=1,fit=pad,dpr=2", "1x1", "result_too_large", "18000×2"),
]


@pytest.mark.parametrize(("text", "before", "code", "says"), REFUSED)
def test_refusals(text: str, before: str, code: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        sizes(size(before), parse_text(text))
    assert refused.value.code == code
    assert says in refused.value.message


def test_a_long_picture_may_be_turned_and_cut_but_not_grow() -> None:
    long = Size(40_000, 10)
    assert sizes(long, parse_text("flip;rotate:angle=90;crop:w=10,h=16384"))[-1] == Size(10, 16_384)
    with pytest.raises(UsageError, match="40001×17"):
        sizes(long, parse_text("rotate:angle=0.01"))


def test_pixels_count_over_all_frames_and_before_the_cut() -> None:
    fill = parse_text("resize:w=100,h=100,fit=fill")
    assert sizes(Size(1, 1), fill, frames=10, pixels=100_000) == (Size(100, 100),)
    with pytest.raises(UsageError, match="100×100 in 10 frames: at most 99999") as refused:
        sizes(Size(1, 1), fill, frames=10, pixels=99_999)
    assert refused.value.code == "result_too_large"
    # A line of 1000 × 1 covers 100 × 100 as 100,000 × 100.
    cover = parse_text("resize:w=100,h=100,fit=cover,enlarge=1")
    assert sizes(Size(1000, 1), cover, pixels=10_000_000) == (Size(100, 100),)
    with pytest.raises(UsageError, match="100000×100: at most 9999999"):
        sizes(Size(1000, 1), cover, pixels=9_999_999)
    # What a trim leaves is not known: it is judged when it is.
    assert sizes(Size(9, 9), parse_text("trim;resize:h=99,enlarge=1"), pixels=100)[1].width == 16384


@pytest.mark.parametrize(
    ("format", "most"),
    # RFC 9649, 2.7: 14 bits, less one for WebP; GIF89a: 16 bits; JPEG and AVIF: libvips' savers.
    [("webp", 16_383), ("jpeg", 65_500), ("gif", 65_535), ("avif", 16_384)],
)
def test_a_format_bounds_the_side(format: str, most: int) -> None:
    geometry.writable(Size(most, 1), format)
    geometry.writable(Size(1, most), format)
    with pytest.raises(UsageError, match=f"{format} picture has at most {most} pixels") as refused:
        geometry.writable(Size(1, most + 1), format)
    assert refused.value.code == "result_too_large"


def test_png_and_tiff_hold_any_picture() -> None:
    geometry.writable(Size(100_000_000, 1), "png")
    geometry.writable(Size(100_000_000, 1), "tiff")


# --- where things lie -----------------------------------------------------------------------------

CUTS = [
    # (operation, before, scaled to, kept of that)
    ("resize:w=100,h=100,fit=cover", "400x200", "200x100", Box(50, 0, 100, 100)),
    ("resize:w=100,h=100,fit=cover,position=left", "400x200", "200x100", Box(0, 0, 100, 100)),
    ("resize:w=100,h=100,fit=cover,position=right", "400x200", "200x100", Box(100, 0, 100, 100)),
    ("resize:w=100,h=100,fit=cover,position=top", "200x400", "100x200", Box(0, 0, 100, 100)),
    ("resize:w=100,h=100,fit=cover,position=bottom", "200x400", "100x200", Box(0, 100, 100, 100)),
    ("resize:w=100,h=100,fit=cover,position=bottom-right", "200x400", "100x200",
     Box(0, 100, 100, 100)),
    ("resize:w=10,h=10,fit=cover", "21x10", "21x10", Box(5, 0, 10, 10)),  # the odd one to the right
    ("resize:w=100,h=50,fit=cover", "80x400", "80x400", Box(0, 180, 80, 40)),
    ("resize:w=160,h=50,fit=cover,enlarge=1", "80x400", "160x800", Box(0, 375, 160, 50)),
    ("resize:w=100", "400x200", "100x50", Box(0, 0, 100, 50)),
    ("resize:w=100,h=70,fit=fill", "400x200", "100x70", Box(0, 0, 100, 70)),
    ("resize:w=100,h=70,fit=pad", "400x200", "100x50", Box(0, 0, 100, 50)),
    ("thumbnail:w=100,h=100,crop=center", "400x200", "200x100", Box(50, 0, 100, 100)),
    ("thumbnail:w=100,h=100,crop=focal", "400x200", "200x100", Box(50, 0, 100, 100)),
    ("thumbnail:w=100,h=100,crop=focal,x=0.3", "400x200", "200x100", Box(10, 0, 100, 100)),
    ("thumbnail:w=100,h=100,crop=focal,x=0,y=1", "400x200", "200x100", Box(0, 0, 100, 100)),
    ("thumbnail:w=100,h=100,crop=focal,x=0.9,y=0", "400x200", "200x100", Box(100, 0, 100, 100)),
    ("thumbnail:w=100,h=100,crop=focal,y=0.6", "100x200", "100x200", Box(0, 70, 100, 100)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "whole", "kept"), CUTS)
def test_what_is_kept(text: str, before: str, whole: str, kept: Box) -> None:
    (operation,) = parse_text(text)
    assert isinstance(operation, ops.Resize | ops.Thumbnail)
    assert scaled(size(before), operation) == size(whole)
    assert cut(size(before), operation) == kept


@pytest.mark.parametrize("crop", ["attention", "entropy"])
def test_content_decides_where_it_was_asked_to(crop: ops.Crop) -> None:
    assert cut(Size(400, 200), ops.Thumbnail(w=10, h=10, crop=crop)) is None


# 3 × 3 of 10 × 20: 7 and 17 are left over.
PLACES: list[tuple[ops.Position, tuple[int, int], tuple[int, int]]] = [
    ("center", (3, 8), (4, 10)),
    ("top", (3, 0), (4, 2)),
    ("bottom", (3, 17), (4, 15)),
    ("left", (0, 8), (1, 10)),
    ("right", (7, 8), (6, 10)),
    ("top-left", (0, 0), (1, 2)),
    ("top-right", (7, 0), (6, 2)),
    ("bottom-left", (0, 17), (1, 15)),
    ("bottom-right", (7, 17), (6, 15)),
]


@pytest.mark.parametrize(("position", "at", "moved"), PLACES)
def test_places(position: ops.Position, at: tuple[int, int], moved: tuple[int, int]) -> None:
    outer, inner = Size(10, 20), Size(3, 3)
    assert geometry.place(outer, inner, position) == at
    assert geometry.place(outer, inner, position, 1, 2) == moved
    cropped = ops.CropTo(w=3, h=3, position=position)
    assert cut(outer, cropped) == Box(*at, 3, 3)
    mark = ops.Watermark(text="a", position=position, x=1, y=2)
    assert geometry.mark_at(outer, inner, mark) == moved
    pad = ops.Resize(w=10, h=20, fit="pad", position=position)
    assert geometry.ground(inner, pad) == at


def test_a_crop_may_say_where() -> None:
    assert cut(Size(10, 20), ops.CropTo(w=3, h=4, x=5, y=6)) == Box(5, 6, 3, 4)


def test_a_padded_picture_is_made_no_larger_unless_asked() -> None:
    small = ops.Resize(w=100, h=60, fit="pad")
    assert geometry.ground(Size(10, 20), small) == (45, 20)
    large = ops.Resize(w=100, h=60, fit="pad", enlarge=True)
    assert scaled(Size(10, 20), large) == Size(30, 60)
    assert geometry.ground(Size(10, 20), large) == (35, 0)


def test_a_watermark_is_as_wide_as_its_share() -> None:
    mark = ops.Watermark(image="a", scale=0.25)
    assert geometry.mark(Size(1000, 10), Size(100, 50), mark) == Size(250, 125)
    assert geometry.mark(Size(1, 1), Size(100, 50), mark) == Size(1, 1)
    assert geometry.mark(Size(10, 10), Size(300, 100), mark) == Size(3, 1)  # 2.5, then 1
    with pytest.raises(UsageError, match="250×25000: a side has at most 16384") as refused:
        geometry.mark(Size(1000, 10), Size(1, 100), mark)
    assert refused.value.code == "result_too_large"


def test_tiles_have_gaps() -> None:
    tiled = ops.Watermark(image="a", tile=True, x=3, y=0)
    assert geometry.cell(Size(10, 20), tiled) == Size(13, 20)


def test_corners_are_no_rounder_than_half_the_short_side() -> None:
    assert geometry.radius(Size(100, 50), ops.Round(20)) == 20
    assert geometry.radius(Size(100, 51), ops.Round(26)) == 25.5


# --- properties -----------------------------------------------------------------------------------

SIDES = st.integers(1, 4000)
PICTURES = st.builds(Size, SIDES, SIDES)
DPRS = st.sampled_from(["1", "1.5", "2", "0.333", "2.625"])


def half_up(value: Decimal) -> int:
    """What school calls rounding, by the decimal module."""
    return max(1, int(value.quantize(Decimal(1), ROUND_HALF_UP)))


@given(PICTURES, SIDES, SIDES, DPRS, st.booleans())
def test_inside_by_decimal_arithmetic(
    before: Size, w: int, h: int, dpr: str, enlarge: bool
) -> None:
    """The same rule, written for decimals of 50 digits: no product of such sides comes so near to
    a half without being one."""
    made = after(before, ops.Resize(w=w, h=h, dpr=float(dpr), enlarge=enlarge))
    with localcontext(prec=50):
        box = [Decimal(half_up(Decimal(side) * Decimal(dpr))) for side in (w, h)]
        if not enlarge and box[0] >= before.width and box[1] >= before.height:
            expected = before
        elif box[0] * before.height <= box[1] * before.width:  # the width decides
            expected = Size(int(box[0]), half_up(before.height * box[0] / before.width))
        else:
            expected = Size(half_up(before.width * box[1] / before.height), int(box[1]))
    assert made == expected


@given(PICTURES, SIDES, SIDES, st.booleans())
def test_cover_is_the_largest_of_its_aspect(before: Size, w: int, h: int, enlarge: bool) -> None:
    operation = ops.Resize(w=w, h=h, fit="cover", enlarge=enlarge)
    made, whole, kept = after(before, operation), scaled(before, operation), cut(before, operation)
    assert kept is not None
    assert (kept.width, kept.height) == (made.width, made.height)
    assert kept.left + kept.width <= whole.width
    assert kept.top + kept.height <= whole.height
    # Nothing but the cut is lost: one side is used up.
    assert made.width == whole.width or made.height == whole.height
    if enlarge:
        assert made == Size(w, h)
    else:
        assert made.width <= min(w, before.width)
        assert made.height <= min(h, before.height)
        # The largest: a side is what was asked for or all there is, and the aspect is right.
        full = made.width in (w, before.width) or made.height in (h, before.height)
        assert full
        assert abs(made.width / w - made.height / h) <= max(0.5 / w, 0.5 / h) or 1 in (
            made.width,
            made.height,
        )


@given(PICTURES, st.integers(0, 359_999).map(lambda n: n / 1000))
def test_a_turned_picture_lies_in_its_box(before: Size, angle: float) -> None:
    """The box of the four corners, turned by complex multiplication."""
    made = geometry.turned(before, angle)
    turn = complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    corners = [
        turn * complex(x * before.width, y * before.height)
        for x, y in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    width = max(c.real for c in corners) - min(c.real for c in corners)
    height = max(c.imag for c in corners) - min(c.imag for c in corners)
    assert width - 1e-5 <= made.width < width + 1
    assert height - 1e-5 <= made.height < height + 1


@given(
    PICTURES,
    SIDES,
    SIDES,
    st.sampled_from(
        [
            "resize:w=100", "resize:h=100", "resize:w=100,h=30", "resize:w=100,h=30,enlarge=1",
            "resize:w=100,h=30,fit=cover", "thumbnail:w=90,h=90",
            "resize:w=9,h=9,fit=cover,enlarge=1", "rotate:angle=90",
            "rotate:angle=33", "resize:w=90,h=9,fit=pad;rotate:angle=10",
        ]
    ),
)  # fmt: skip
def test_what_a_trim_leaves_is_within_the_prediction(
    before: Size, width: int, height: int, text: str
) -> None:
    rest = parse_text(text)
    predicted = sizes(before, parse_text(f"trim;{text}"))[-1]
    left = Size(min(width, before.width), min(height, before.height))
    made = sizes(left, rest)[-1]
    assert made.width <= predicted.width
    assert made.height <= predicted.height
    assert not predicted.exact or predicted == made
