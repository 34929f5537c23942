"""Pure: at which fixed-quality level each rung is as good as was asked for, by a few short samples.

Quality is VMAF. A sample is about one GOP of the film, encoded as the rung will be and compared
with the source at the rung's own size. What is tried next, when the search is over, what it chose
and which rungs add nothing is decided here; `quality` runs the encoders.

The cost is bounded whatever the film's length: `MAX_SAMPLES` of about `SAMPLE_S` each, every rung
encoded at most `MAX_TRIES` times.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from telecine.engine.encoders import Levels
from telecine.engine.errors import StepFailed
from telecine.engine.ladder import DroppedRung, Size
from telecine.engine.media import VideoStream
from telecine.engine.timeline import Timeline, gops_in

MAX_SAMPLES = 8
SAMPLE_S = 2  # a GOP
MAX_TRIES = 5

# So near to what was asked for it is good enough: half of what one more level changes.
SETTLED = 0.5
TOLERANCE = 1.5  # what is promised of finished rungs
# Netflix takes six points of VMAF for what is just noticed. Below 3.3 nothing would be left out:
# what a rung at 90 loses, enlarged by half, where the larger picture has no more detail at all.
VISIBLE = 4.0
# A level finer that gains less than this a level gains nothing: the ceiling holds.
FLAT = 0.15
_FARTHEST = 12.0  # levels from what was tried, where nothing is known beyond it
_STEEPER = 2.5  # than an encoder's usual slope, or flatter, no two tries are believed to be

# Every third frame: prime to B-frames and hierarchies, which come in powers of two.
VMAF_EVERY = 3
# On either side: libvmaf 3 dies of a picture with fewer pixels.
VMAF_LEAST_SIDE = 18
_LARGE_LINES = 1440  # above: the model for pictures of 4K, which are looked at from nearer


@dataclass(frozen=True, slots=True)
class Sample:
    """About a GOP of the film: segment `number` of `fine_timeline`, in seconds from presentation 0.
    It stands for `share` of the film, the parts that are about as hard to encode."""

    number: int
    start_s: Fraction
    end_s: Fraction
    share: Fraction


@dataclass(frozen=True, slots=True)
class Try:
    """A rung's samples at one level. `bitrate_bps` is that of the film as they stand for it,
    `peak_bps` that of the hardest of them (`hardest_bps`)."""

    crf: float
    vmaf: float
    bitrate_bps: int
    peak_bps: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What the search found for one rendition."""

    rendition: str
    crf: float
    vmaf: float  # of the samples at this level
    bitrate_bps: int
    tries: tuple[Try, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Enlarged:
    """VMAF of a rung that a player enlarges to the size of one above it."""

    rendition: str
    above: str
    vmaf: float


@dataclass(frozen=True, slots=True)
class Choices:
    """The outcome of a search, and what it cost. `dropped` are renditions that add no visible
    quality to the ones below, by how these look `enlarged`."""

    target: float
    rungs: tuple[Choice, ...]
    enlarged: tuple[Enlarged, ...]
    dropped: tuple[DroppedRung, ...]
    cpu_s: float
    wall_s: float

    def of(self, rendition: str) -> Choice | None:
        return next((choice for choice in self.rungs if choice.rendition == rendition), None)


@dataclass(frozen=True, slots=True)
class Score:
    """A finished rendition beside the source, at its samples."""

    rendition: str
    vmaf: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Encoded pictures beside the source's, both at `size`. Of the encoded ones those from
    `begin_ticks` to `end_ticks` count, from the first of the input on; None: all."""

    size: Size
    begin_ticks: int = 0
    end_ticks: int | None = None


# --- places -------------------------------------------------------------------------------------


def fine_timeline(timeline: Timeline) -> Timeline:
    """The same time in segments of one GOP each. Under a copied rung, whose own pictures are not
    counted, `frames` are 0."""
    if timeline.constant:
        assert timeline.gop_frames is not None
        gop_ticks = timeline.gop_frames * timeline.frame_ticks
        starts = list(range(0, timeline.boundaries[-1], gop_ticks))
    else:
        starts = []
        for begin, end in itertools.pairwise(timeline.boundaries):
            gops = gops_in(Fraction(end - begin, timeline.timescale))
            starts += [begin + (end - begin) * n // gops for n in range(gops)]
    boundaries = (*starts, timeline.boundaries[-1])
    frames = [0] * len(starts)
    if timeline.constant:
        spans = itertools.pairwise(boundaries)
        frames = [(end - begin) // timeline.frame_ticks for begin, end in spans]
    return Timeline(
        origin_s=timeline.origin_s,
        rate=timeline.rate,
        constant=timeline.constant,
        timescale=timeline.timescale,
        frame_ticks=timeline.frame_ticks,
        boundaries=boundaries,
        frames=tuple(frames),
        gop_frames=timeline.gop_frames,
        target_duration_s=timeline.target_duration_s,
    )


def loads(video: VideoStream, timeline: Timeline) -> list[float]:
    """How many bytes a second the source has in each segment of a timeline: how hard that part is
    to encode. Between two key pictures they are taken for spread evenly; without an index all are
    alike."""
    table = video.index_table
    if table is None or not table.keyframes:
        return [0.0] * timeline.segments
    origin_s, tick_s = float(timeline.origin_s), float(video.time_base)
    starts = [key.ticks * tick_s - origin_s for key in table.keyframes]
    ends = [*starts[1:], max(table.end_ticks * tick_s - origin_s, starts[-1] + tick_s)]
    found = []
    for number in range(timeline.segments):
        begin_s, end_s = float(timeline.time_s(number)), float(timeline.time_s(number + 1))
        first = max(0, bisect.bisect_right(starts, begin_s) - 1)
        size = 0.0
        for n in range(first, len(starts)):
            if starts[n] >= end_s:
                break
            within_s = min(end_s, ends[n]) - max(begin_s, starts[n])
            size += table.keyframes[n].size_bytes * max(0.0, within_s) / (ends[n] - starts[n])
        found.append(size / (end_s - begin_s))
    return found


def choose_samples(
    timeline: Timeline, loads: Sequence[float], count: int = MAX_SAMPLES
) -> tuple[Sample, ...]:
    """At most `count` segments of a timeline that stand for all of it, in the order of time.

    The segments are sorted by how hard they are and parted into as many equal strata; of each the
    one nearest to its stratum's mean is taken. A last segment of less than half the usual length is
    left out where there are others.
    """
    lengths = [timeline.time_s(n + 1) - timeline.time_s(n) for n in range(timeline.segments)]
    longest = max(lengths)
    usable = [n for n, length in enumerate(lengths) if 2 * length >= longest]
    ranked = sorted(usable, key=lambda n: (loads[n], n))
    count = min(count, len(ranked))
    strata = [
        ranked[k * len(ranked) // count : (k + 1) * len(ranked) // count] for k in range(count)
    ]
    whole = sum((lengths[n] for n in usable), Fraction(0))
    samples = []
    for stratum in strata:
        mean = sum(loads[n] for n in stratum) / len(stratum)
        middle = stratum[len(stratum) // 2]
        chosen = min(stratum, key=lambda n: (abs(loads[n] - mean), abs(n - middle)))
        share = sum((lengths[n] for n in stratum), Fraction(0)) / whole
        start_s, end_s = timeline.time_s(chosen), timeline.time_s(chosen + 1)
        samples.append(Sample(chosen, start_s, end_s, share))
    return tuple(sorted(samples, key=lambda sample: sample.number))


def trial_name(sample: Sample, rendition: str, crf: float) -> str:
    """The file in which a sample lies that was encoded at a level."""
    return f"{sample.number}-{rendition}-{crf:g}.mp4"


def part_name(sample: Sample, rendition: str) -> str:
    """The file in which the segment of a finished rendition lies that has a sample."""
    return f"{sample.number}-{rendition}.mp4"


def part_of(timeline: Timeline, sample: Sample, size: Size) -> tuple[int, Compared]:
    """The segment of a finished rendition that has a sample, and where in it."""
    begin, end = (round(time_s * timeline.timescale) for time_s in (sample.start_s, sample.end_s))
    segment = bisect.bisect_right(timeline.boundaries, begin) - 1
    zero = timeline.boundaries[segment]
    return segment, Compared(size, begin - zero, end - zero)


def together(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """The mean over the film of what was found at each sample."""
    return sum(float(s.share) * value for s, value in zip(samples, values, strict=True))


def hardest_bps(samples: Sequence[Sample], rates: Sequence[int]) -> int:
    """The highest rate among samples. One that is shorter than a ceiling's buffer, as a film of a
    few pictures is, may be sent in as long as that lasts."""
    spread = (min(Fraction(1), (s.end_s - s.start_s) / SAMPLE_S) for s in samples)
    return max(round(rate * share) for rate, share in zip(rates, spread, strict=True))


def total_s(samples: Sequence[Sample]) -> float:
    """Seconds of film in all of them."""
    return float(sum((sample.end_s - sample.start_s for sample in samples), Fraction(0)))


# --- levels -------------------------------------------------------------------------------------


def next_crf(tries: Sequence[Try], target: float, usual: float, levels: Levels) -> float | None:
    """The level to try next: first the encoder's `usual` one, then what a line through the nearest
    tries says. None where the search is over: near enough, tried often enough, at the end of the
    levels, between two neighbours, or where finer ones gain nothing."""
    if not tries:
        return _snapped(usual, levels)
    nearest = _nearest(tries, target)
    if abs(nearest.vmaf - target) <= SETTLED or len(tries) >= MAX_TRIES or _held(tries, target):
        return None
    good = [one for one in tries if one.vmaf >= target]
    poor = [one for one in tries if one.vmaf < target]
    if good and poor:
        better = max(good, key=lambda one: one.crf)
        worse = min(poor, key=lambda one: one.crf)
        slope = (
            (better.vmaf - worse.vmaf) / (worse.crf - better.crf) if worse.crf > better.crf else 0
        )
        if slope <= 0:
            return None  # not as levels are: no line leads on
        wanted = better.crf + (better.vmaf - target) / slope
    else:
        # From the end of what was tried: the nearest, unless levels do not do as they should.
        last = max(good, key=lambda one: one.crf) if good else min(poor, key=lambda one: one.crf)
        away = (last.vmaf - target) / _slope(tries, levels)
        wanted = last.crf + min(max(away, -_FARTHEST), _FARTHEST)
    crf = _snapped(wanted, levels)
    return None if any(one.crf == crf for one in tries) else crf


def _snapped(crf: float, levels: Levels) -> float:
    steps = round((min(max(crf, levels.finest), levels.coarsest) - levels.finest) / levels.step)
    return levels.finest + steps * levels.step


def _nearest(tries: Sequence[Try], target: float) -> Try:
    """The try that comes nearest to the target; of several as near, as in black pictures, the
    coarsest."""
    return min(tries, key=lambda one: (abs(one.vmaf - target), -one.crf))


def _slope(tries: Sequence[Try], levels: Levels) -> float:
    """Points of VMAF that a level costs, by the two tries at the ends."""
    finest, coarsest = (end(tries, key=lambda one: one.crf) for end in (min, max))
    if finest.crf == coarsest.crf:
        return levels.slope
    found = (finest.vmaf - coarsest.vmaf) / (coarsest.crf - finest.crf)
    return min(max(found, levels.slope / _STEEPER), levels.slope * _STEEPER)


def _held(tries: Sequence[Try], target: float) -> bool:
    """Whether all tries are too poor, and the finest gains next to nothing."""
    if len(tries) < 2 or any(one.vmaf >= target for one in tries):
        return False
    finest, next_to_it = sorted(tries, key=lambda one: one.crf)[:2]
    return finest.vmaf - next_to_it.vmaf < FLAT * (next_to_it.crf - finest.crf)


def choose(
    rendition: str, tries: Sequence[Try], target: float, levels: Levels, ceiling_bps: int
) -> Choice:
    """The try that is nearest to the target. Where all are too poor and finer ones gain nothing,
    the coarsest of the best: what is encoded finer than its ceiling allows only starves."""
    chosen = _nearest(tries, target)
    if _held(tries, target):
        best = max(one.vmaf for one in tries)
        chosen = max((t for t in tries if best - t.vmaf <= SETTLED), key=lambda one: one.crf)
    said = f"VMAF {chosen.vmaf:.1f} at CRF {chosen.crf:g} in samples"
    off = chosen.vmaf - target
    at_ceiling = chosen.peak_bps > ceiling_bps
    if off < -2 * SETTLED and at_ceiling:
        said += f": {target:g} is out of reach, its ceiling of {ceiling_bps // 1000} kb/s holds"
    elif off < -2 * SETTLED:
        said += f": {target:g} is out of reach"
    elif off > 2 * SETTLED and chosen.crf >= levels.coarsest:
        said += ", the coarsest that is used"
    elif at_ceiling:
        said += f"; what is hardest is held down by its ceiling of {ceiling_bps // 1000} kb/s"
    return Choice(rendition, chosen.crf, chosen.vmaf, chosen.bitrate_bps, tuple(tries), said)


# --- rungs that add nothing ---------------------------------------------------------------------

# (a rung, one above it) → VMAF of the lower one, enlarged, at the size of the upper one.
Pairs = Mapping[tuple[str, str], float]


def pairs_to_compare(
    names: Sequence[str], known: Pairs, vmaf: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Which rungs of one codec, lowest first, are still to be compared with the one above that
    stays. Empty once `superfluous` can tell."""
    wanted = []
    lower = names[0]
    for upper in names[1:]:
        if (lower, upper) not in known:
            wanted.append((lower, upper))
            lower = upper  # which is what mostly comes of it
        elif vmaf[upper] - known[lower, upper] >= VISIBLE:
            lower = upper
    return wanted


def superfluous(names: Sequence[str], known: Pairs, vmaf: Mapping[str, float]) -> list[DroppedRung]:
    """The rungs of one codec, lowest first in `names`, that show nothing which the rung below,
    enlarged by the player, does not show as well."""
    dropped = []
    lower = names[0]
    for upper in names[1:]:
        gain = vmaf[upper] - known[lower, upper]
        if gain >= VISIBLE:
            lower = upper
            continue
        seen = f"VMAF {known[lower, upper]:.1f} beside {vmaf[upper]:.1f}"
        dropped.append(DroppedRung(upper, f"adds nothing visible to {lower}, enlarged: {seen}"))
    return dropped


# --- what FFmpeg says ---------------------------------------------------------------------------


def model_for(size: Size) -> str:
    """libvmaf's own models: that of a television, and of one of 4K."""
    return "vmaf_4k_v0.6.1" if size.short_side > _LARGE_LINES else "vmaf_v0.6.1"


_SCORE = re.compile(r"\[(?:Parsed_)?libvmaf@m(\d+)[^\]]*\] VMAF score: (\d+(?:\.\d+)?)")


class Scores:
    """What the filters `libvmaf@m0`, `libvmaf@m1` … say at their end, by those numbers."""

    def __init__(self) -> None:
        self._found: dict[int, float] = {}

    def take(self, line: str) -> None:
        """A line that FFmpeg says, of these filters or of anything else."""
        if found := _SCORE.search(line):
            self._found[int(found[1])] = float(found[2])

    def found(self, count: int) -> list[float]:
        """VMAF of so many comparisons, in their order. Raises `StepFailed` (`not_measured`) unless
        each has told it."""
        if self._found.keys() != set(range(count)):
            raise StepFailed(
                f"{len(self._found)} of {count} renditions were measured", code="not_measured"
            )
        return [self._found[n] for n in range(count)]
