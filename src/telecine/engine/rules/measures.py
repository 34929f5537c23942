"""Pure: what several rules measure, each by its specification's own words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from telecine.engine.ladder import Size
from telecine.engine.plan import display_of
from telecine.engine.rules.found import Found, Run, Stream, frame_ticks

SMALLEST_EXACT_SIDE = 240  # below it even sizes alone may be off by more than the tolerance


@dataclass(frozen=True, slots=True)
class Gop:
    """From one IDR picture to the next, over fragments that do not start with one."""

    start_ticks: int
    end_ticks: int
    samples: int


def gops(stream: Stream) -> list[Gop]:
    found: list[Gop] = []
    for run in stream.runs:
        if run.idr or not found:
            found.append(Gop(run.key_pts, run.end_ticks, run.samples))
        else:
            last = found[-1]
            found[-1] = Gop(last.start_ticks, run.end_ticks, last.samples + run.samples)
    return found


def placed(stream: Stream) -> Iterator[tuple[str, Run]]:
    """Every fragment with the path of its segment file."""
    for segment in stream.segments:
        for run in segment.runs:
            yield segment.path, run


def rate_of(found: Found, stream: Stream) -> Fraction:
    """Pictures a second: exact where constant, else the mean."""
    if found.constant:
        return Fraction(stream.track.timescale, frame_ticks(stream))
    ticks = sum(segment.duration_ticks for segment in stream.segments)
    return Fraction(stream.samples * stream.track.timescale, max(ticks, 1))


def peak_bps(loads: Sequence[tuple[int, int]], timescale: int, target: int) -> Fraction:
    """Peak segment bit rate of (ticks, bytes): the largest of any run of segments that lasts from
    half to one and a half target durations (RFC 8216, 4.3.4.2); of all where none does."""
    ends = list(accumulate((ticks for ticks, _ in loads), initial=0))
    sizes = list(accumulate((size for _, size in loads), initial=0))
    most, lasts = 0, 0  # bytes and ticks of the peak; compared without fractions, which are slow
    for first, start in enumerate(ends[:-1]):
        shortest = bisect_left(ends, start + Fraction(target * timescale, 2), first + 1)
        beyond = bisect_right(ends, start + Fraction(3 * target * timescale, 2), first + 1)
        for last in range(shortest, beyond):
            size, ticks = sizes[last] - sizes[first], ends[last] - start
            if size * lasts >= most * ticks and ticks:
                most, lasts = size, ticks
    if not lasts:
        most, lasts = sizes[-1], max(ends[-1], 1)
    return Fraction(8 * most * timescale, lasts)


def peak_of(stream: Stream) -> Fraction:
    target = stream.playlist.target_duration
    return peak_bps(stream.loads, stream.track.timescale, target)


def average_of(stream: Stream) -> Fraction:
    ticks = sum(ticks for ticks, _ in stream.loads)
    size = sum(size for _, size in stream.loads)
    return Fraction(8 * size * stream.track.timescale, max(ticks, 1))


def display_size(found: Found) -> tuple[Fraction, Fraction] | None:
    """The source's display size."""
    if found.plan is None or found.plan.video is None:
        return None
    return display_of(found.plan.video)


def fits(size: Size, display: tuple[Fraction, Fraction]) -> bool:
    """Whether a size is the source's, rounded to even, or less."""
    width, height = (max(side + 1, Fraction(2)) for side in display)
    return size.width <= width and size.height <= height


def only_rounded(size: Size, display: tuple[Fraction, Fraction]) -> bool:
    """Whether even sizes alone explain the aspect: the source's own size rounded, or one so small
    that the short side is within a pixel of the ideal."""
    if abs(size.width - display[0]) <= 1 and abs(size.height - display[1]) <= 1:
        return True
    aspect = max(display) / min(display)
    long = max(size.width, size.height)
    slack = 1 + 1 / aspect
    return size.short_side < SMALLEST_EXACT_SIDE and abs(size.short_side - long / aspect) <= slack
