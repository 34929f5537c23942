"""Sizes, rungs, rates and ceilings: tables computed by hand, and rules that hold for any source."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telecine.engine.ladder import (
    Ladder,
    Size,
    ceiling_bps,
    even,
    fit_short_side,
    gop_frames,
    make_ladder,
    output_rate,
    source_size,
)

Display = tuple[Fraction, Fraction]


def display(width: int | str, height: int | str) -> Display:
    return Fraction(width), Fraction(height)


def sizes(ladder: Ladder) -> list[tuple[int, int]]:
    return [(rung.size.width, rung.size.height) for rung in ladder.rungs]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (160, 160),
        (161, 160),  # as near to 160 as to 162: downward, nothing is enlarged
        (121, 120),
        (Fraction(1280, 3), 426),  # 426.67: nearer to 426 than to 428
        (Fraction(2560, 3), 854),  # 853.33
        (Fraction("500.6"), 500),
        (Fraction("501.4"), 502),
        (1, 0),
        (Fraction("1.01"), 2),
    ],
)
def test_even_is_the_nearest_and_ties_go_down(value: Fraction | int, expected: int) -> None:
    assert even(value) == expected


# Default ladders by hand: the source's own size, then each standard short side at least 1.25 times
# smaller than the one above it.
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (display(1920, 1080), [(1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240)]),
        (display(1080, 1920), [(1080, 1920), (720, 1280), (480, 854), (360, 640), (240, 426)]),
        (display(1280, 720), [(1280, 720), (854, 480), (640, 360), (426, 240)]),
        (
            display(3840, 2160),
            [
                *[(3840, 2160), (2560, 1440), (1920, 1080), (1280, 720)],
                *[(854, 480), (640, 360), (426, 240)],
            ],
        ),
        # 360 × 1.25 = 450 > 370: only 240 is far enough below.
        (display("657.78", 370), [(658, 370), (426, 240)]),
        # PAL with pixels 16:15 is 768×576; 480 × 1.25 = 600 > 576. At 4:3, 360 → 480, 240 → 320.
        (display(768, 576), [(768, 576), (480, 360), (320, 240)]),
        # PAL wide, 64:45: 1024×576.
        (display(1024, 576), [(1024, 576), (640, 360), (426, 240)]),
        # 1440×1080 with pixels 2:3 is 960×1080, taller than wide: its short side is the width.
        # 720 × 1.25 = 900 ≤ 960.  720 × 9/8 = 810, 480 → 540, 360 → 405, 240 → 270.
        (display(960, 1080), [(960, 1080), (720, 810), (480, 540), (360, 404), (240, 270)]),
        (display(240, 240), [(240, 240)]),
        (display(320, 238), [(320, 238)]),  # below 240p: one rung
        (display(161, 121), [(160, 120)]),
        (display(2, 2), [(2, 2)]),
    ],
)
def test_default_ladders(source: Display, expected: list[tuple[int, int]]) -> None:
    assert sizes(make_ladder(source, Fraction(24))) == expected


def test_rungs_are_named_by_their_short_side_upright_too() -> None:
    names = [rung.name for rung in make_ladder(display(1080, 1920), Fraction(30)).rungs]
    assert names == ["1080p", "720p", "480p", "360p", "240p"]


def test_every_standard_rung_is_kept_or_dropped_with_its_reason() -> None:
    ladder = make_ladder(display("657.78", 370), Fraction(24))
    assert [(rung.name, rung.reason) for rung in ladder.rungs] == [
        ("370p", "the source's own size"),
        ("240p", "standard rung"),
    ]
    too_big = "above the source: nothing is enlarged"
    assert [(rung.name, rung.reason) for rung in ladder.dropped] == [
        *[(name, too_big) for name in ("2160p", "1440p", "1080p", "720p", "480p")],
        ("360p", "too near to 370p to be worth its bytes"),
    ]


def test_a_rung_a_quarter_below_is_worth_its_bytes_and_one_nearer_is_not() -> None:
    assert [r.name for r in make_ladder(display(800, 450), Fraction(24)).rungs][1] == "360p"
    assert [r.name for r in make_ladder(display(796, 448), Fraction(24)).rungs][1] == "240p"


def test_what_is_asked_above_the_source_is_made_at_its_size_with_a_warning() -> None:
    ladder = make_ladder(display(1280, 720), Fraction(24), [360, 1080, 360])
    assert sizes(ladder) == [(1280, 720), (640, 360)]
    assert [rung.reason for rung in ladder.rungs] == ["asked: the source's own size", "asked"]
    assert ladder.warnings == ("1080p asked, made at the source's 1280×720: nothing is enlarged",)
    assert ladder.dropped == ()


def test_two_wishes_that_give_one_size_give_one_rung() -> None:
    ladder = make_ladder(display(1280, 720), Fraction(24), [1080, 720, 361, 360])
    assert sizes(ladder) == [(1280, 720), (640, 360)]


def test_the_own_size_asked_exactly_is_no_warning() -> None:
    assert make_ladder(display(1280, 720), Fraction(24), [720]).warnings == ()


@pytest.mark.parametrize(
    ("side", "source", "expected"),
    [
        (480, display(1920, 1080), (854, 480)),
        (480, display(1920, 804), (1146, 480)),  # 2.388: 1146.27
        # 3996×2160 (1.85): 240 → 444.
        (240, display(3996, 2160), (444, 240)),
        # 5:2 at 50: 125 lies between 124 and 126, 0.8 % off either way; 48 → 120 is exact.
        (50, display(500, 200), (120, 48)),
        (16, display(4000, 20), (3200, 16)),
        (30, display(40, 20), (40, 20)),  # above the source: its own size
        (2, display(10_000, 3), (6666, 2)),
    ],
)
def test_fit_short_side(side: int, source: Display, expected: tuple[int, int]) -> None:
    size = fit_short_side(side, source)
    assert (size.width, size.height) == expected


def test_a_source_of_a_few_pixels_takes_the_nearest_size_where_no_aspect_fits() -> None:
    # 7×5: of the even heights 2 and 4 only 4×6 (6.7 % off) and 2×2 (40 %) exist.
    assert fit_short_side(4, display(7, 5)) == Size(6, 4)


# Apple's H.264 set lies between; the table's own points are exact.
@pytest.mark.parametrize(
    ("size", "rate", "expected"),
    [
        (Size(426, 240), 24, 450_000),
        (Size(640, 360), 30, 900_000),
        (Size(854, 480), 24, 1_600_000),
        (Size(1280, 720), 24, 3_500_000),
        (Size(1920, 1080), 24, 6_000_000),
        (Size(1080, 1920), 24, 6_000_000),
        (Size(2560, 1440), 24, 10_000_000),
        (Size(3840, 2160), 24, 18_000_000),
        (Size(7680, 4320), 24, 48_000_000),
        (Size(8192, 8192), 24, 48_000_000),  # beyond the table nothing grows
        (Size(1920, 1080), 60, 9_000_000),  # + 50 % at 60
        (Size(1920, 1080), 45, 7_500_000),
        (Size(1920, 1080), 120, 9_000_000),
        (Size(2, 2), 24, 64_000),
    ],
)
def test_ceilings(size: Size, rate: int, expected: int) -> None:
    assert ceiling_bps(size, Fraction(rate)) == expected


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ("24000/1001", "24000/1001"),
        ("23.976", "24000/1001"),
        ("24", "24"),
        ("29.97", "30000/1001"),
        ("30", "30"),
        ("59.94", "60000/1001"),
        ("60", "60"),
        ("12.5", "25/2"),
        ("14.985", "2997/200"),  # odd and constant: stays
        ("179/6", "179/6"),  # 29.833 is not 29.97
        ("10", "10"),
        ("90", "45"),
        ("120", "60"),
        ("120000/1001", "60000/1001"),
        ("100", "50"),
        ("240", "60"),
        ("60.03", "60"),  # within 0.05 %: a clock's drift
        ("61", "60"),  # up to 2 % above: one frame in 61 is left out, not every second one
        ("62", "31"),
    ],
)
def test_constant_rates(mean: str, expected: str) -> None:
    assert output_rate(Fraction(mean)) == Fraction(expected)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ("29.7", "30000/1001"),  # 0.9 % from 29.97, 1 % from 30
        ("29.3", "30000/1001"),  # 2.2 % off: the next above keeps every frame
        ("26", "30000/1001"),
        ("17", "20"),
        ("14.9", "15"),
        ("0.3", "1"),
        ("55", "60000/1001"),
        ("59.99", "60"),
        ("90", "48"),  # 45 → the next above
        ("75", "48"),  # 37.5
    ],
)
def test_variable_rates_take_the_next_standard_one(mean: str, expected: str) -> None:
    assert output_rate(Fraction(mean), variable=True) == Fraction(expected)


def test_a_clock_of_milliseconds_means_its_rate_only_roughly() -> None:
    # Frames 33 or 34 ms apart by a millisecond clock: 1000/33.3 = 30.03 is 0.1 % from 30.
    mean = Fraction(1000) / Fraction("33.3")
    assert output_rate(mean, exact=False) == 30
    assert output_rate(mean, exact=True) not in (30, Fraction(30000, 1001))


@pytest.mark.parametrize(("frames", "fields"), [("25", "50"), ("30000/1001", "60000/1001")])
def test_interlaced_sources_count_fields(frames: str, fields: str) -> None:
    assert output_rate(Fraction(frames), field_rate=True) == Fraction(fields)


@pytest.mark.parametrize(
    ("rate", "frames"),
    [
        *[("24", 48), ("24000/1001", 48), ("25", 50), ("30000/1001", 60), ("30", 60)],
        *[("50", 100), ("60000/1001", 120), ("60", 120), ("12.5", 25), ("1", 2), ("1/10", 1)],
    ],
)
def test_a_gop_is_about_two_seconds(rate: str, frames: int) -> None:
    assert gop_frames(Fraction(rate)) == frames


def test_a_size_says_itself() -> None:
    assert str(Size(1080, 1920)) == "1080×1920"
    assert Size(1080, 1920).pixels == 2_073_600
    assert source_size(display("853.33", 480)) == Size(854, 480)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # 2.0249: 564×280, the nearest, is 0.52 % off, and 564×278 0.19 %.
        ((Fraction(565), Fraction(10882, 39)), Size(564, 278)),
        ((Fraction(10882, 39), Fraction(565)), Size(278, 564)),
        # 1.667: 4×2 is 20 % off; 6×4, 10 % off, would add a whole pixel each way.
        ((Fraction(5), Fraction(3)), Size(4, 2)),
    ],
)
def test_an_own_size_whose_sides_are_rounded_apart_keeps_the_aspect(
    source: Display, expected: Size
) -> None:
    assert source_size(source) == expected


edges = st.fractions(min_value=2, max_value=8192, max_denominator=64)
rates = st.fractions(min_value=1, max_value=240, max_denominator=1001)
asked = st.lists(st.integers(min_value=16, max_value=8192), max_size=5)


@given(width=edges, height=edges, rate=rates, wishes=asked)
@example(width=Fraction(8192), height=Fraction(2), rate=Fraction(24), wishes=[])
@example(width=Fraction(48), height=Fraction(373, 18), rate=Fraction(24), wishes=[16, 20])
@example(width=Fraction(565), height=Fraction(10882, 39), rate=Fraction(1), wishes=[])
@example(width=Fraction(3843), height=Fraction(2161), rate=Fraction(24), wishes=[2160, 240])
def test_any_ladder_keeps_its_rules(
    width: Fraction, height: Fraction, rate: Fraction, wishes: list[int]
) -> None:
    ladder = make_ladder((width, height), rate, wishes)
    made = [rung.size for rung in ladder.rungs]
    assert made
    for size in made:
        assert size.width % 2 == 0
        assert size.height % 2 == 0
        # An even size nearest to the source's may be rounded up by less than a pixel.
        assert 2 <= size.width < width + 1
        assert 2 <= size.height < height + 1
        if size.short_side >= 240:
            assert abs(Fraction(size.width, size.height) / (width / height) - 1) <= Fraction(1, 200)
    for above, below in itertools.pairwise(made):
        assert below.short_side <= above.short_side
        assert below.pixels < above.pixels
    assert [r.ceiling_bps for r in ladder.rungs] == sorted(
        (r.ceiling_bps for r in ladder.rungs), reverse=True
    )
    assert len({rung.name for rung in ladder.rungs}) == len(made)  # a name is a folder


@given(width=edges, height=edges)
def test_default_neighbours_are_a_quarter_apart(width: Fraction, height: Fraction) -> None:
    sides = [r.size.short_side for r in make_ladder((width, height), Fraction(24)).rungs]
    for above, below in itertools.pairwise(sides):
        assert above * 100 >= below * 124  # a step of even sizes may come in between


grids = st.integers(min_value=1, max_value=4096).map(lambda half: 2 * half)


@given(width=grids, height=grids, wider=grids, rate=rates, faster=rates)
def test_more_pixels_and_more_frames_never_lower_the_ceiling(
    width: int, height: int, wider: int, rate: Fraction, faster: Fraction
) -> None:
    slow, fast = sorted((rate, faster))
    small, large = sorted((width, wider))
    assert ceiling_bps(Size(small, height), slow) <= ceiling_bps(Size(large, height), slow)
    assert ceiling_bps(Size(small, height), slow) <= ceiling_bps(Size(small, height), fast)


@given(mean=rates, variable=st.booleans(), exact=st.booleans(), field_rate=st.booleans())
def test_any_rate_comes_out_between_one_and_sixty(
    mean: Fraction, variable: bool, exact: bool, field_rate: bool
) -> None:
    rate = output_rate(mean, variable=variable, exact=exact, field_rate=field_rate)
    assert 0 < rate <= 60
    counted = mean * 2 if field_rate else mean
    if counted <= 59 and not variable:
        # 0.4 % is the widest snap; above, the nearest fraction of a denominator ≤ 1001.
        assert abs(rate / counted - 1) <= Fraction(1, 250)
    if variable and counted <= 59:
        assert rate >= counted * Fraction(98, 100)
