"""Pure: the rungs that fit this source. Arithmetic on sizes, rates and ceilings, nothing else.

Rules: DESIGN section 5 and Apple's HLS authoring specification (1.18, 1.19 natural rates up to
60 fps; 1.33 one aspect). All sizes are display sizes: square pixels, upright.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

STANDARD_SHORT_SIDES = (2160, 1440, 1080, 720, 480, 360, 240)
SMALLEST_LADDER_SHORT_SIDE = 240  # below it a source gets one rung
NEIGHBOUR_RATIO = Fraction(5, 4)  # default rungs nearer than this to the one above add nothing
ASPECT_TOLERANCE = Fraction(1, 200)
MAX_RATE = Fraction(60)

# (pixels, ceiling in bits a second at ≤ 30 fps): the capped-CRF maximum. Between Apple's H.264 set
# (360p 0.73–1.1, 540p 2, 720p 3–4.5, 1080p 6–7.8 Mb/s) and what x264 needs at CRF 23 on film.
_CEILINGS = (
    (426 * 240, 450_000),
    (640 * 360, 900_000),
    (854 * 480, 1_600_000),
    (1280 * 720, 3_500_000),
    (1920 * 1080, 6_000_000),
    (2560 * 1440, 10_000_000),
    (3840 * 2160, 18_000_000),
    (7680 * 4320, 48_000_000),
)

_STANDARD_RATES = tuple(
    Fraction(rate)
    for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)
# Where a variable-rate source runs below film: round rates whose GOP is a whole number of frames.
_SLOW_RATES = tuple(Fraction(rate) for rate in ("1", "2", "4", "5", "8", "10", "12.5", "15", "20"))


@dataclass(frozen=True, slots=True)
class Size:
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)

    def __str__(self) -> str:
        return f"{self.width}×{self.height}"


@dataclass(frozen=True, slots=True)
class Rung:
    """One wanted quality. `name` is its short side, `ceiling_bps` its capped-CRF maximum."""

    name: str
    size: Size
    ceiling_bps: int
    reason: str


@dataclass(frozen=True, slots=True)
class DroppedRung:
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ladder:
    rungs: tuple[Rung, ...]  # highest first
    dropped: tuple[DroppedRung, ...]
    warnings: tuple[str, ...]


def even(value: Fraction | int) -> int:
    """Nearest even number, ties downward: 4:2:0 needs even sizes and nothing is enlarged."""
    return 2 * math.ceil(Fraction(value) / 2 - Fraction(1, 2))


def source_size(display: tuple[Fraction, Fraction]) -> Size:
    """The source's own size as a rung: square pixels, upright, even (0 where under 2 pixels).

    The nearest even size; where its sides are rounded apart so that the aspect is off by 0.5 %, the
    even neighbour that keeps the aspect best.
    """
    width, height = display
    nearest = Size(even(width), even(height))
    if min(nearest.width, nearest.height) == 0:
        return nearest

    def error(size: Size) -> Fraction:
        return abs(Fraction(size.width, size.height) / (width / height) - 1)

    if error(nearest) < ASPECT_TOLERANCE:
        return nearest
    around = [Size(w, h) for w in _even_around(width) for h in _even_around(height)]
    return min((nearest, *around), key=error)


def _even_around(side: Fraction) -> list[int]:
    """The even number below, and the one above where it adds less than a pixel."""
    below = max(2, 2 * math.floor(side / 2))
    return [below, below + 2] if below + 2 < side + 1 else [below]


def fit_short_side(short_side: int, display: tuple[Fraction, Fraction]) -> Size:
    """The even size nearest to `short_side` whose aspect is within 0.5 % of the source's.

    Tries even neighbours below and above (never above the source); where the source is so narrow
    that no size fits, the nearest short side wins and the aspect is off by the rounding.
    """
    width, height = display
    short, long = min(width, height), max(width, height)
    aspect = long / short
    best: tuple[Fraction, int, int] | None = None
    for step in (0, -2, 2, -4, 4, -6, 6, -8, 8):
        candidate = even(short_side) + step
        if candidate < 2 or candidate > short:
            continue
        other = max(2, even(candidate * aspect))
        error = abs(Fraction(other, candidate) / aspect - 1)
        if error < ASPECT_TOLERANCE:
            best = (error, candidate, other)
            break
        if best is None or error < best[0]:
            best = (error, candidate, other)
    if best is None:  # short_side above the source: the caller asked for the source's own size
        return source_size(display)
    _, side, other = best
    return Size(other, side) if width >= height else Size(side, other)


def ceiling_bps(size: Size, rate: Fraction) -> int:
    """Maximum bits a second for a size: log-log between the table's points, + 50 % at 60 fps."""
    pixels = min(max(size.pixels, 1024), _CEILINGS[-1][0])
    points = _CEILINGS
    upper = next((i for i in range(1, len(points)) if points[i][0] >= pixels), len(points) - 1)
    (p0, b0), (p1, b1) = points[upper - 1], points[upper]
    slope = math.log(b1 / b0) / math.log(p1 / p0)
    base = b0 * (pixels / p0) ** slope
    fast = 1 + float(max(Fraction(0), min(rate, MAX_RATE) - 30)) / 60
    return int(max(64_000, round(base * fast / 10_000) * 10_000))


def make_ladder(
    display: tuple[Fraction, Fraction], rate: Fraction, asked: Sequence[int] = ()
) -> Ladder:
    """The rungs for a source of this display size, highest first, each with its reason.

    `asked` are short sides; empty means the default ladder. Never upscales: what is asked above the
    source becomes the source's size, with a warning.
    """
    own = source_size(display)
    if asked:
        return _asked_ladder(display, own, rate, asked)
    rungs = [_rung(own, rate, "the source's own size")]
    dropped: list[DroppedRung] = []
    for side in STANDARD_SHORT_SIDES:
        above = rungs[-1].size.short_side
        if side > own.short_side:
            dropped.append(DroppedRung(f"{side}p", "above the source: nothing is enlarged"))
        elif side == own.short_side or own.short_side < SMALLEST_LADDER_SHORT_SIDE:
            continue
        elif side * NEIGHBOUR_RATIO > above:
            dropped.append(DroppedRung(f"{side}p", f"too near to {above}p to be worth its bytes"))
        else:
            rungs.append(_rung(fit_short_side(side, display), rate, "standard rung"))
    return Ladder(tuple(rungs), tuple(dropped), ())


def _asked_ladder(
    display: tuple[Fraction, Fraction], own: Size, rate: Fraction, asked: Sequence[int]
) -> Ladder:
    rungs: list[Rung] = []
    warnings: list[str] = []
    for side in sorted(set(asked), reverse=True):
        if side >= own.short_side:
            if side > own.short_side:
                warnings.append(f"{side}p asked, made at the source's {own}: nothing is enlarged")
            size, reason = own, "asked: the source's own size"
        else:
            size, reason = fit_short_side(side, display), "asked"
        if all(rung.size.short_side != size.short_side for rung in rungs):  # it names the folder
            rungs.append(_rung(size, rate, reason))
    return Ladder(tuple(rungs), (), tuple(warnings))


def _rung(size: Size, rate: Fraction, reason: str) -> Rung:
    return Rung(f"{size.short_side}p", size, ceiling_bps(size, rate), reason)


# How near to a standard rate counts as that rate. Exact gaps mean what they say (29.833 is not
# 29.97); gaps that differ by a tick of a coarse clock only mean it to within that clock.
_EXACT = Fraction(1, 2000)
_ROUNDED = Fraction(1, 250)
_VARIABLE = Fraction(1, 50)


def output_rate(
    mean: Fraction, *, variable: bool = False, exact: bool = True, field_rate: bool = False
) -> Fraction:
    """The constant rate for an encoded ladder, ≤ 60 frames a second, as an exact fraction.

    A rate within 0.05 % of a standard one is that one (0.4 % where it is not `exact`). Variable
    rates take the nearest standard rate within 2 % (clocks drift), else the next above, which keeps
    their frames; constant odd rates stay. Interlaced sources count fields. Above 60 the rate is
    divided by the smallest whole number that fits.
    """
    rate = _snap(mean * 2 if field_rate else mean, variable=variable, exact=exact)
    if rate > MAX_RATE:
        parts = math.ceil(rate / (MAX_RATE * (1 + _VARIABLE)))
        rate = _snap(rate / parts, variable=variable, exact=exact)
    return min(rate, MAX_RATE)


def _snap(rate: Fraction, *, variable: bool, exact: bool) -> Fraction:
    standards = (*_SLOW_RATES, *_STANDARD_RATES) if variable else _STANDARD_RATES
    tolerance = _VARIABLE if variable else _EXACT if exact else _ROUNDED
    nearest = min(standards, key=lambda standard: abs(rate / standard - 1))
    if abs(rate / nearest - 1) <= tolerance:
        return nearest
    if variable:
        return next((standard for standard in standards if standard > rate), rate)
    return rate.limit_denominator(1001)


def gop_frames(rate: Fraction) -> int:
    """Frames in a GOP of about 2 s at the exact rate: 24 → 48, 29.97 → 60, 59.94 → 120."""
    return max(1, round(2 * rate))
