"""Pure: how far a job is, from the seconds that each step has done.

A step weighs what it costs: pixels encoded for chunks, a little for copies and sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from telecine.engine.encoders import VIDEO_ENCODERS
from telecine.engine.joining import decoded
from telecine.engine.plan import Plan, Span, Step, StepKind
from telecine.engine.searching import MAX_TRIES, total_s

# Work of a second of these, in megapixels encoded a second: measured on Big Buck Bunny, 2 cores.
_DECODE_SHARE = 0.3
_LIGHT = 2.0
_VMAF_SHARE = 0.6  # of what it takes to encode as many pixels
_PREROLL = 4  # what is read of a film for a sample, in samples
_LIGHT_SHARES: dict[StepKind, float] = {
    "loudness": 0.3,
    "poster": 0.1,
    "mp4": 0.1,
    "storyboard": 0.1,
    "thumbnails": 0.1,
    "preview": 0.1,
    "waveform": 0.1,
    "chapters": 0.01,
}


@dataclass(slots=True)
class Progress:
    """Seconds done of each step, and what that means for the whole. Not safe for threads."""

    plan: Plan
    done_s: dict[str, float] = field(default_factory=dict)

    def advance(self, step: Step, done_s: float) -> None:
        so_far_s = self.done_s.get(step.id, 0.0)
        self.done_s[step.id] = min(max(done_s, so_far_s), step_span_s(self.plan, step))

    def finish(self, step: Step) -> None:
        self.done_s[step.id] = step_span_s(self.plan, step)

    def fraction(self) -> float:
        """0 to 1 of the job's work."""
        whole = sum(step_work(self.plan, step) for step in self.plan.steps)
        done = sum(_weight(self.plan, s) * self.done_s.get(s.id, 0.0) for s in self.plan.steps)
        return min(1.0, done / whole) if whole else 1.0

    def rungs(self) -> dict[str, float]:
        """0 to 1 of each rendition's duration."""
        whole = float(self.plan.timeline.duration_s)
        done: dict[str, float] = {}
        for step in self.plan.steps:
            if step.kind == "mp4":
                continue
            for span in step.spans:
                # A rung that begins later in the step than the others has nothing until then.
                late_s = _between_s(self.plan, step.first, span.first)
                made_s = max(0.0, self.done_s.get(step.id, 0.0) - late_s)
                done[span.rendition] = done.get(span.rendition, 0.0) + made_s
        return {name: min(1.0, seconds / whole) for name, seconds in done.items()}


def step_span_s(plan: Plan, step: Step) -> float:
    """Seconds of the film that a step works through: what `OnProgress` counts up to."""
    if step.kind != "encode":
        return float(plan.timeline.duration_s)
    return _between_s(plan, step.first, step.end)


def step_work(plan: Plan, step: Step) -> float:
    """What a step costs, in megapixels to encode; light steps as many as they weigh like."""
    return _weight(plan, step) * step_span_s(plan, step)


def _weight(plan: Plan, step: Step) -> float:
    """Work in a second of the step."""
    if step.kind in ("search", "measure"):
        return _judging(plan, step) / step_span_s(plan, step)
    if step.kind != "encode":
        sounds = {"audio-others": len(step.spans), "gain": len(plan.sounds)}
        several = max(1, sounds.get(step.kind, 1))
        return _LIGHT * _LIGHT_SHARES.get(step.kind, 1.0) * several
    rate = float(plan.timeline.rate)
    encoded = sum(_span_work(plan, span) for span in step.spans) / step_span_s(plan, step)
    video = decoded(plan, step)
    read = 0.0 if video is None else video.width * video.height * _DECODE_SHARE
    return (encoded + read) * rate / 1e6


def _judging(plan: Plan, step: Step) -> float:
    """What a search or a measurement costs, whatever the film's length."""
    seen = float(plan.timeline.rate) * total_s(plan.samples) / 1e6
    times = MAX_TRIES if step.kind == "search" else 0
    encoded = sum(r.size.pixels * VIDEO_ENCODERS[r.codec].cost for r in plan.judged)
    compared = sum(r.size.pixels for r in plan.judged) * _VMAF_SHARE
    decoded = 0 if plan.video is None else plan.video.width * plan.video.height * _DECODE_SHARE
    return seen * (times * encoded + (times + 1) * (compared + decoded * _PREROLL))


def _span_work(plan: Plan, span: Span) -> float:
    """Pixels to encode times seconds, as dear as the codec makes them."""
    rendition = plan.rendition(span.rendition)
    cost = VIDEO_ENCODERS[rendition.codec].cost
    return rendition.size.pixels * cost * _between_s(plan, span.first, span.end)


def _between_s(plan: Plan, first: int, end: int) -> float:
    """Seconds from the start of one segment to that of another."""
    return float(plan.timeline.time_s(end) - plan.timeline.time_s(first))


def pace(
    done: float, left: float, elapsed_s: float, duration_s: float
) -> tuple[float | None, float | None]:
    """(media seconds a wall second, wall seconds left) of a run that does its work evenly.

    `done` is the fraction of the job that this run itself did in `elapsed_s`, `left` what is still
    to do; what an earlier run left finished is in neither. Both are None until something is done.
    """
    if done <= 0 or elapsed_s <= 0:
        return None, None
    return done * duration_s / elapsed_s, left * elapsed_s / done
