"""Pure: the frozen timeline: where segments begin and end, and which of them are made together.

Presentation 0 is `origin_s` on the source's clock. Segment boundaries are ticks of `timescale`; on
a constant-rate timeline frame k stands at exactly `k * frame_ticks`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from telecine.engine.encoders import AAC_FRAME_SAMPLES
from telecine.engine.ladder import gop_frames

SEGMENT_GOPS = 3  # 3 GOPs of 2 s: Apple's 6 s target (7.5)
SEGMENT_S = Fraction(6)
MAX_CHUNK_S = Fraction(30)  # 3–5 segments: small enough to lose, large enough to seek for

# A chunk's own frames are trimmed on the global grid, so what is decoded before them only has to be
# enough: a frame to hold in variable-rate sources, fields for bwdif, leading pictures of open GOPs.
# Decoding starts at the keyframe before this point, and a chunk at a point where that is not far:
# x264's default keyint of 250 at 24 fps is 10.42 s.
PREROLL_S = Fraction(2)
MAX_PREROLL_S = Fraction(15)


@dataclass(frozen=True, slots=True)
class Timeline:
    origin_s: Fraction
    rate: Fraction  # frames a second: exact when constant, the mean under a copied top rung
    constant: bool
    timescale: int
    frame_ticks: int  # 0 where the source's own frame times are kept
    boundaries: tuple[int, ...]  # of segments, in ticks: the first is 0, the last the end
    frames: tuple[int, ...]  # pictures in each segment
    gop_frames: int | None
    target_duration_s: int  # every segment of every rendition is at most this, rounded

    @property
    def segments(self) -> int:
        return len(self.boundaries) - 1

    @property
    def duration_s(self) -> Fraction:
        return Fraction(self.boundaries[-1], self.timescale)

    def time_s(self, segment: int) -> Fraction:
        return Fraction(self.boundaries[segment], self.timescale)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Segments [first, end): what one process decodes once and encodes for every rung."""

    index: int
    first: int
    end: int


def constant_timeline(rate: Fraction, origin_s: Fraction, end_s: Fraction) -> Timeline:
    total = max(1, round((end_s - origin_s) * rate))
    gop = gop_frames(rate)
    step = SEGMENT_GOPS * gop
    starts = list(range(0, total, step))
    # 30000/1001 → timescale 30000, 1001 ticks a frame: exact. Small rates get finer ticks, since
    # players round badly below a millisecond.
    scale = 1 if rate.numerator >= 1000 else 1000
    ticks = rate.denominator * scale
    return Timeline(
        origin_s=origin_s,
        rate=rate,
        constant=True,
        timescale=rate.numerator * scale,
        frame_ticks=ticks,
        boundaries=tuple(start * ticks for start in (*starts, total)),
        frames=tuple(min(step, total - start) for start in starts),
        gop_frames=gop,
        target_duration_s=target_duration_s(step / rate),
    )


def sound_timeline(origin_s: Fraction, rate: int, boundaries: Sequence[int]) -> Timeline:
    """Segments of sound alone, between these samples."""
    return Timeline(
        origin_s=origin_s,
        rate=Fraction(rate, AAC_FRAME_SAMPLES),
        constant=True,
        timescale=rate,
        frame_ticks=AAC_FRAME_SAMPLES,
        boundaries=tuple(boundaries),
        frames=(0,) * (len(boundaries) - 1),
        gop_frames=None,
        target_duration_s=int(SEGMENT_S),
    )


def joined_timeline(
    rate: Fraction, spans: Sequence[tuple[Fraction, Fraction]]
) -> tuple[Timeline, tuple[int, ...]]:
    """Several films, each from one time to another on its own clock, behind each other; and the
    segments with which they begin, behind them their number. The origin is the first one's.

    No segment is shorter than a GOP, unless a film is: the pictures that are left over at a film's
    end go with the GOP before them.
    """
    whole = constant_timeline(rate, Fraction(0), sum((b - a for a, b in spans), Fraction(0)))
    gop = gop_frames(rate)
    step = SEGMENT_GOPS * gop
    starts: list[int] = []
    firsts = []
    total = 0
    for begin_s, end_s in spans:
        count = pictures_in((begin_s, end_s), rate)
        own = list(range(0, count, step))
        if len(own) > 1 and count - own[-1] < gop:
            own[-1] -= gop
        firsts.append(len(starts))
        starts += [total + start for start in own]
        total += count
    edges = (*starts, total)
    timeline = replace(
        whole,
        origin_s=spans[0][0],
        boundaries=tuple(edge * whole.frame_ticks for edge in edges),
        frames=tuple(after - edge for edge, after in itertools.pairwise(edges)),
    )
    return timeline, (*firsts, len(starts))


def pictures_in(span: tuple[Fraction, Fraction], rate: Fraction) -> int:
    """How many pictures a film has that lasts from one time to another; at least one."""
    return max(1, round((span[1] - span[0]) * rate))


def target_duration_s(longest_s: Fraction) -> int:
    """EXT-X-TARGETDURATION, fixed before any segment exists and the same for all (Apple 8.2).
    Sound ends up to a frame after the picture's boundary: 32 ms at 32 kHz."""
    return max(1, math.floor(longest_s + Fraction(1, 2) + Fraction(32, 1000)))


def make_chunks(timeline: Timeline, keyframes_s: Sequence[Fraction]) -> tuple[Chunk, ...]:
    """Segments grouped evenly into spans of about 30 s.

    A chunk decodes from the keyframe before its start, so one starts only where a keyframe is
    near: where keyframes are few, chunks grow. `keyframes_s` are sorted times from presentation 0;
    none means that nobody knows them.
    """
    count = min(timeline.segments, math.ceil(timeline.duration_s / MAX_CHUNK_S)) or 1
    ideal = [round(Fraction(timeline.segments * n, count)) for n in range(1, count)]
    edges = {0, timeline.segments}
    edge = 0
    for wanted in ideal:
        edge = max(edge, wanted)
        while edge < timeline.segments and not _enters(timeline.time_s(edge), keyframes_s):
            edge += 1
        edges.add(edge)
    spans = itertools.pairwise(sorted(edges))
    return tuple(Chunk(n, first, end) for n, (first, end) in enumerate(spans))


def gops_in(length_s: Fraction) -> int:
    """How many GOPs of about 2 s a segment of this length has where its borders are the source's
    own: they are spread evenly in it."""
    return max(1, round(length_s / 2))


def _enters(time_s: Fraction, keyframes_s: Sequence[Fraction]) -> bool:
    """Whether a chunk that starts here finds its keyframe soon."""
    if not keyframes_s:
        return True
    before = bisect.bisect_right(keyframes_s, time_s - PREROLL_S)
    return before > 0 and time_s - keyframes_s[before - 1] <= MAX_PREROLL_S
