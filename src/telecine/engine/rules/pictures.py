"""Rules on pictures: where GOPs and segments begin, and when each picture is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, zip_longest

from telecine.engine.copying import MAX_COPY_GAP_S
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, Stream, frame_ticks, uneven
from telecine.engine.rules.measures import gops
from telecine.engine.rules.table import Problems, rule, shows

GOP_S = 2


@rule("idr-at-segment-start", "Apple 7.4", shows)
def _idr_at_segment_start(found: Found) -> tuple[Problems, str]:
    """The first picture of every video segment is an IDR, or for AV1 a shown key frame behind a
    sequence header: by what is in it (NAL unit type 5 of H.264, 19 or 20 of HEVC) and by its
    flag."""
    problems = [
        f"{segment.path} does not start with an IDR picture"
        for stream in found.pictures
        for segment in stream.segments
        if not segment.runs[0].idr
    ]
    return problems, f"{sum(len(stream.segments) for stream in found.pictures)} segments"


@rule("closed-gops", "Apple 1.13, CMAF", shows)
def _closed_gops(found: Found) -> tuple[Problems, str]:
    """No picture of a GOP is shown before its IDR picture, and none at or after the next one."""
    problems = []
    for stream in found.pictures:
        for run in stream.runs:
            if run.idr and run.first_pts < run.key_pts:
                when = sec(stream.seconds(run.first_pts))
                problems.append(f"{stream.home}: a picture at {when} is shown before its IDR")
        for run, following in pairwise(stream.runs):
            if following.idr and run.last_pts >= following.key_pts:
                when = sec(stream.seconds(run.last_pts))
                problems.append(f"{stream.home}: a picture at {when} is shown behind the next IDR")
    return problems, f"{sum(len(gops(stream)) for stream in found.pictures)} GOPs"


@rule("gop-length", "Apple 1.13", shows)
def _gop_length(found: Found) -> tuple[Problems, str]:
    """At a constant rate every GOP but a film's last has round(2 s × rate) pictures; under a copied
    top rung a GOP lasts at most 3 s and one picture, the copied ones at most 10.5 s."""
    problems: list[str] = []
    longest = Fraction(0)
    for stream in found.pictures:
        lengths = [stream.seconds(gop.end_ticks - gop.start_ticks) for gop in gops(stream)]
        longest = max(longest, *lengths)
        if found.constant:
            problems += _wrong_counts(stream, _film_ends(found, stream))
            continue
        most = MAX_COPY_GAP_S
        planned = found.planned(stream)
        if planned is not None and planned.mode == "encode":
            # Where the source has no picture there is none to make an IDR of.
            gap = max(max(r.longest_ticks, r.end_ticks - r.last_pts) for r in stream.runs)
            most = Fraction(3 * GOP_S, 2) + stream.seconds(gap)
        problems += [
            f"{stream.home}: a GOP of {sec(length)}, at most {sec(most)}"
            for length in lengths
            if length > most
        ]
    return problems, f"longest {sec(longest)}"


def _measured(found: Found) -> bool:
    return found.plan is not None and found.plan.profile.measure and bool(found.plan.samples)


@rule("quality-measured", "plan", _measured)
def _quality_measured(found: Found) -> tuple[Problems, str]:
    """Where VMAF was to be measured, every rendition that is encoded in SDR has one, from 0 to
    100."""
    assert found.plan is not None
    scores = {score.rendition: score.vmaf for score in found.scores}
    names = [rendition.name for rendition in found.plan.judged]
    problems = [f"{name} was not measured" for name in names if name not in scores]
    problems += [f"{name}: VMAF {vmaf}" for name, vmaf in scores.items() if not 0 <= vmaf <= 100]
    return problems, ", ".join(f"{name} {vmaf:.1f}" for name, vmaf in scores.items())


def _film_ends(found: Found, stream: Stream) -> set[Fraction]:
    """When the film ends; of several that are joined, when each does."""
    ends = {stream.seconds(stream.segments[-1].end_ticks)}
    if found.plan is not None:
        ends |= {found.plan.timeline.time_s(part.end) for part in found.plan.parts}
    return ends


def _wrong_counts(stream: Stream, ends_s: set[Fraction]) -> Iterator[str]:
    wanted = max(1, round(GOP_S * Fraction(stream.track.timescale, frame_ticks(stream))))
    for gop in gops(stream):
        last = stream.seconds(gop.end_ticks) in ends_s
        if gop.samples > wanted or (gop.samples < wanted and not last):
            when = sec(stream.seconds(gop.start_ticks))
            yield f"{stream.home}: a GOP of {gop.samples} pictures at {when}, not {wanted}"


@rule("segment-boundaries", "Apple 8.22, DASH 5.3.3.2", shows)
def _segment_boundaries(found: Found) -> tuple[Problems, str]:
    """Segments start and end at the same ticks on every video rendition, and those are the
    plan's."""
    edges = {
        stream.home: [
            *(stream.seconds(segment.start_ticks) for segment in stream.segments),
            stream.end_s,
        ]
        for stream in found.pictures
    }
    whose, wanted = next(iter(edges.items()))
    if found.plan is not None:
        timeline = found.plan.timeline
        whose = "the plan"
        wanted = [Fraction(ticks, timeline.timescale) for ticks in timeline.boundaries]
    problems = []
    for home, cuts in edges.items():
        for n, (cut, there) in enumerate(zip_longest(cuts, wanted)):
            if cut != there:
                here = "nothing" if cut is None else sec(cut)
                other = "nothing" if there is None else sec(there)
                problems.append(f"{home}: boundary {n} at {here}, {whose} has {other}")
                break
    return problems, f"{len(wanted) - 1} segments on {len(edges)} renditions"


@rule("presentation-times", "plan")
def _presentation_times(found: Found) -> tuple[Problems, str]:
    """The presentation starts at 0 and no picture is lost or doubled: at a constant rate each
    follows the one before by one frame, else times rise and are the same on every rendition. Every
    frame of sound is as long as the others."""
    problems = []
    for stream in found.streams:
        if stream.video and stream.start_s != 0:
            problems.append(f"{stream.home}: starts at {sec(stream.start_s)}")
        exact = not stream.video or found.constant
        problems += uneven(stream) if exact else _standing(stream)
    if not found.constant:
        problems += _differing_times(found.pictures)
    count = sum(stream.samples for stream in found.streams)
    return problems, f"{count} samples, {'all' if found.constant else 'pictures not'} evenly spaced"


def _standing(stream: Stream) -> Iterator[str]:
    before: int | None = None
    for run in stream.runs:
        if before is not None and run.first_pts <= before:
            yield f"{stream.home}: {sec(stream.seconds(run.first_pts))} is shown after a later time"
        if run.samples > 1 and run.shortest_ticks == 0:
            when = sec(stream.seconds(run.first_pts))
            yield f"{stream.home}: two pictures at one time, from {when} on"
        before = run.last_pts


def _differing_times(streams: Sequence[Stream]) -> Iterator[str]:
    for stream in streams[1:]:
        for segment, first in zip(stream.segments, streams[0].segments, strict=False):
            # Where a damaged source lost pictures `frame-count` has its say.
            if segment.samples == first.samples and segment.shown_crc != first.shown_crc:
                yield f"{segment.path}: other times than {first.path}"


@rule("frame-count", "plan", shows)
def _frame_count(found: Found) -> tuple[Problems, str]:
    """Every video segment has as many pictures as the plan says, or without a plan as the other
    renditions have; fewer only where a step warned that the source does not decode."""
    wanted = [segment.samples for segment in found.pictures[0].segments]
    if found.plan is not None:
        wanted = list(found.plan.timeline.frames)
    problems = []
    missing = 0
    for stream in found.pictures:
        warned = any(line.startswith(f"{stream.name}: ") for line in found.told)
        for segment, count in zip(stream.segments, wanted, strict=False):
            missing += count - segment.samples
            if segment.samples != count and not (warned and segment.samples < count):
                problems.append(f"{segment.path}: {segment.samples} pictures, not {count}")
    lost = f", {missing} of them lost with the source's" if missing else ""
    return problems, f"{sum(wanted)} pictures on {len(found.pictures)} renditions{lost}"
