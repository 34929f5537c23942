"""Pure: how far a job is, from the seconds that each step has done.

A step weighs what it costs: pixels encoded for chunks, a little for copies and sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from telecine.engine.plan import Plan, Step

# Work of a second of these, in megapixels encoded a second: measured on Big Buck Bunny, 2 cores.
_DECODE_SHARE = 0.3
_LIGHT = 2.0


@dataclass(slots=True)
class Progress:
    """Seconds done of each step, and what that means for the whole. Not safe for threads."""

    plan: Plan
    done_s: dict[str, float] = field(default_factory=dict)

    def advance(self, step: Step, done_s: float) -> None:
        self.done_s[step.id] = min(max(done_s, self.done_s.get(step.id, 0.0)), self._span_s(step))

    def finish(self, step: Step) -> None:
        self.done_s[step.id] = self._span_s(step)

    def fraction(self) -> float:
        """0 to 1 of the job's work."""
        whole = sum(self._weight(step) * self._span_s(step) for step in self.plan.steps)
        done = sum(self._weight(s) * self.done_s.get(s.id, 0.0) for s in self.plan.steps)
        return min(1.0, done / whole) if whole else 1.0

    def rungs(self) -> dict[str, float]:
        """0 to 1 of each rendition's duration."""
        whole = float(self.plan.timeline.duration_s)
        done: dict[str, float] = {}
        for step in self.plan.steps:
            if step.kind != "mp4":
                for name in step.renditions:
                    done[name] = done.get(name, 0.0) + self.done_s.get(step.id, 0.0)
        return {name: min(1.0, seconds / whole) for name, seconds in done.items()}

    def _span_s(self, step: Step) -> float:
        timeline = self.plan.timeline
        if step.chunk is None:
            return float(timeline.duration_s)
        chunk = self.plan.chunks[step.chunk]
        return float(timeline.time_s(chunk.end) - timeline.time_s(chunk.first))

    def _weight(self, step: Step) -> float:
        if step.kind != "encode":
            return _LIGHT * (0.1 if step.kind in ("poster", "mp4") else 1.0)
        rate = float(self.plan.timeline.rate)
        encoded = sum(self.plan.rendition(name).size.pixels for name in step.renditions)
        video = self.plan.video
        decoded = video.width * video.height * _DECODE_SHARE if video is not None else 0.0
        return (encoded + decoded) * rate / 1e6


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
