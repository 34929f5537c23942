"""Pure: how far a job is, from the rows of its tasks.

Each task weighs the encoder seconds that it is expected to take, so that a percent of the job is a
percent of its time. The source's digest is left out: nothing that is watched waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from telecine.service.domain import JobState, TaskState


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What progress needs of a task. `done_s`: seconds of its step's span that its attempt has
    done, as its last heartbeat told."""

    kind: str
    step_id: str | None
    state: TaskState
    weight_s: float
    done_s: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """All tasks of one kind of work: `encode`, `audio`, `finish` … `fraction` from 0 to 1."""

    name: str
    fraction: float
    tasks: int
    tasks_done: int


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` from 0 to 1 of the job's work; `rungs` of each rendition's duration. `speed` is
    seconds of film a second, `eta_s` seconds that are left: both None until something is known."""

    fraction: float
    stages: tuple[Stage, ...]
    rungs: dict[str, float]
    speed: float | None
    eta_s: float | None


def measure(
    tasks: Sequence[TaskRow],
    summary: Mapping[str, Any],
    *,
    state: JobState,
    started_at: float | None,
    now_s: float,
) -> Progress:
    """How far a job is at `now_s`. `summary` is the job's plan as `orders.summarize` wrote it."""
    steps = summary.get("steps", {})
    counted = [task for task in tasks if task.kind != "digest"]
    shares = [_share(task, steps) for task in counted]
    whole_s = sum(task.weight_s for task in counted)
    done_s = sum(task.weight_s * share for task, share in zip(counted, shares, strict=True))
    fraction = 1.0 if state == "succeeded" else done_s / whole_s if whole_s else 0.0
    own_s = sum(
        task.weight_s * share
        for task, share in zip(counted, shares, strict=True)
        if started_at is not None and (task.finished_at is None or task.finished_at >= started_at)
    )
    elapsed_s = now_s - started_at if started_at is not None and state == "running" else 0.0
    speed = eta_s = None
    if own_s > 0 and elapsed_s > 0:
        if "duration_s" in summary:
            speed = own_s / whole_s * float(summary["duration_s"]) / elapsed_s
        eta_s = (whole_s - done_s) * elapsed_s / own_s
    return Progress(
        fraction=fraction,
        stages=_stages(counted, shares, steps),
        rungs=_rungs(counted, shares, steps),
        speed=speed,
        eta_s=eta_s,
    )


def _share(task: TaskRow, steps: Mapping[str, Any]) -> float:
    """0 to 1 of a task."""
    if task.state == "succeeded":
        return 1.0
    span_s = steps.get(task.step_id or "", {}).get("span_s", 0.0)
    if task.state != "running" or not span_s:
        return 0.0
    return float(min(1.0, max(0.0, task.done_s / span_s)))


def _stages(
    tasks: Sequence[TaskRow], shares: Sequence[float], steps: Mapping[str, Any]
) -> tuple[Stage, ...]:
    """In the order in which they first appear."""
    found: dict[str, list[tuple[TaskRow, float]]] = {}
    for task, share in zip(tasks, shares, strict=True):
        name = steps.get(task.step_id or "", {}).get("stage", task.kind)
        found.setdefault(name, []).append((task, share))
    return tuple(
        Stage(
            name,
            _weighted([(task.weight_s, share) for task, share in members]),
            len(members),
            sum(task.state == "succeeded" for task, _ in members),
        )
        for name, members in found.items()
    )


def _weighted(parts: Sequence[tuple[float, float]]) -> float:
    whole = sum(weight for weight, _ in parts)
    if not whole:
        return min(share for _, share in parts)
    return sum(weight * share for weight, share in parts) / whole


def _rungs(
    tasks: Sequence[TaskRow], shares: Sequence[float], steps: Mapping[str, Any]
) -> dict[str, float]:
    """A rendition's seconds over the steps that make it; one that begins later in a step than
    others has nothing until then."""
    made_s: dict[str, float] = {}
    whole_s: dict[str, float] = {}
    for task, share in zip(tasks, shares, strict=True):
        step = steps.get(task.step_id or "", {})
        for name, (begin_s, end_s) in step.get("made", {}).items():
            reached_s = share * step["span_s"] - begin_s
            made_s[name] = made_s.get(name, 0.0) + min(max(0.0, reached_s), end_s - begin_s)
            whole_s[name] = whole_s.get(name, 0.0) + end_s - begin_s
    return {name: made_s[name] / whole_s[name] if whole_s[name] else 0.0 for name in made_s}
