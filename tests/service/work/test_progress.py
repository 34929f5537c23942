"""How far a job is: by hand, for a film of 100 s in two chunks with a head of two rungs."""

from __future__ import annotations

from typing import Any

import pytest

from telecine.service.domain import JobState, TaskState
from telecine.service.progress import Progress, Stage, TaskRow, measure

# 100 s. The head makes 10 s of "low"; the first chunk goes on with it, and makes all of "high".
SUMMARY: dict[str, Any] = {
    "duration_s": 100.0,
    "steps": {
        "head": {"stage": "encode", "span_s": 10.0, "made": {"low": [0.0, 10.0]}},
        "audio": {"stage": "audio", "span_s": 100.0, "made": {"aac": [0.0, 100.0]}},
        "one": {
            "stage": "encode",
            "span_s": 50.0,
            "made": {"high": [0.0, 50.0], "low": [10.0, 50.0]},
        },
        "two": {
            "stage": "encode",
            "span_s": 50.0,
            "made": {"high": [0.0, 50.0], "low": [0.0, 50.0]},
        },
        "mp4": {"stage": "mp4", "span_s": 100.0, "made": {}},
    },
}
WEIGHTS = {"head": 10.0, "audio": 10.0, "one": 30.0, "two": 40.0, "mp4": 5.0, "": 5.0}


def job(*said: tuple[TaskState, float], start: float = 1000.0) -> list[TaskRow]:
    """Tasks head, audio, one, two, mp4, digest, finish in these states; seconds done of each."""
    names = ("head", "audio", "one", "two", "mp4", None, None)
    kinds = ("step", "step", "step", "step", "step", "digest", "finish")
    return [
        TaskRow(
            kind=kind,
            step_id=name,
            state=state,
            weight_s=1000.0 if kind == "digest" else WEIGHTS[name or ""],
            done_s=done_s,
            started_at=None if state in ("blocked", "ready") else start,
            finished_at=start + 5 if state in ("succeeded", "failed", "cancelled") else None,
        )
        for name, kind, (state, done_s) in zip(names, kinds, said, strict=True)
    ]


def look(tasks: list[TaskRow], state: JobState = "running", now_s: float = 1010.0) -> Progress:
    started_at = None if state == "queued" else 1000.0
    return measure(tasks, SUMMARY, state=state, started_at=started_at, now_s=now_s)


B: tuple[TaskState, float] = ("blocked", 0.0)
READY: tuple[TaskState, float] = ("ready", 0.0)
DONE: tuple[TaskState, float] = ("succeeded", 0.0)


def at(done_s: float) -> tuple[TaskState, float]:
    return ("running", done_s)


@pytest.mark.parametrize(
    ("said", "fraction", "rungs", "speed", "eta_s"),
    [
        # Nothing is known.
        (
            (READY, READY, READY, READY, B, READY, B),
            0.0,
            {"low": 0, "high": 0, "aac": 0},
            None,
            None,
        ),
        # Half the head, 5 of 100 s of work in 10 s: 190 s to go, half a second of film a second.
        (
            (at(5), READY, READY, READY, B, READY, B),
            0.05,
            {"low": 0.05, "high": 0, "aac": 0},
            0.5,
            190.0,
        ),
        # The head is done and the sound as far as 50 s: 15 of 100.
        (
            (DONE, at(50), READY, READY, B, READY, B),
            0.15,
            {"low": 0.1, "high": 0, "aac": 0.5},
            1.5,
            10 * 85 / 15,
        ),
        # 5 s into the first chunk: "low" began with second 10 there, and has the head's 10 alone.
        (
            (DONE, DONE, at(5), READY, B, READY, B),
            0.23,
            {"low": 0.1, "high": 0.05, "aac": 1},
            2.3,
            10 * 77 / 23,
        ),
        # Both chunks halfway: 25 s of "high" in each, of "low" 10 + 15 + 25.
        (
            (DONE, DONE, at(25), at(25), B, READY, B),
            0.55,
            {"low": 0.5, "high": 0.5, "aac": 1},
            5.5,
            10 * 45 / 55,
        ),
        # An encoder that says more than it has to do.
        (
            (DONE, DONE, at(70), at(-3), B, READY, B),
            0.5,
            {"low": 0.5, "high": 0.5, "aac": 1},
            5.0,
            10.0,
        ),
        # A chunk was lost and waits again: what it had done counts no more.
        (
            (DONE, DONE, ("ready", 25.0), DONE, B, READY, B),
            0.6,
            {"low": 0.6, "high": 0.5, "aac": 1},
            6.0,
            10 * 40 / 60,
        ),
        # All steps are done: only the finish is missing. The digest counts for nothing.
        (
            (DONE, DONE, DONE, DONE, DONE, at(0), READY),
            0.95,
            {"low": 1, "high": 1, "aac": 1},
            9.5,
            10 * 5 / 95,
        ),
    ],
)
def test_progress_by_hand(
    said: tuple[tuple[TaskState, float], ...],
    fraction: float,
    rungs: dict[str, float],
    speed: float | None,
    eta_s: float | None,
) -> None:
    found = look(job(*said))
    assert found.fraction == pytest.approx(fraction)
    assert found.rungs == pytest.approx(rungs)
    assert found.speed == (None if speed is None else pytest.approx(speed))
    assert found.eta_s == (None if eta_s is None else pytest.approx(eta_s))


def test_stages_are_weighed_and_counted() -> None:
    found = look(job(DONE, at(50), at(25), READY, B, READY, B))
    told = [(stage.name, stage.tasks, stage.tasks_done) for stage in found.stages]
    assert told == [("encode", 3, 1), ("audio", 1, 0), ("mp4", 1, 0), ("finish", 1, 0)]
    assert [stage.fraction for stage in found.stages] == pytest.approx([25 / 80, 0.5, 0.0, 0.0])


def test_a_job_that_waits_has_no_pace() -> None:
    found = look(job(*[READY] * 7), "queued")
    assert (found.fraction, found.speed, found.eta_s) == (0.0, None, None)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_ended_early_stays_where_it_was(state: JobState) -> None:
    found = look(job(DONE, DONE, ("cancelled", 25.0), B, B, B, B), state)
    assert found.fraction == pytest.approx(0.2)
    assert (found.speed, found.eta_s) == (None, None)


def test_a_succeeded_job_is_done() -> None:
    assert look(job(*[DONE] * 7), "succeeded").fraction == 1.0
    nothing = measure([], {}, state="succeeded", started_at=1000.0, now_s=1001.0)
    assert nothing == Progress(1.0, (), {}, None, None)


def test_a_retried_job_is_measured_by_what_it_does_itself() -> None:
    """Head and sound were done by the first try, at 500; this one began at 1000. In 10 s it has
    done 15 of the 80 that were left: 65 take 10 * 65 / 15."""
    before = job(*[DONE] * 7, start=500.0)[:2]
    now = job(DONE, DONE, at(25), READY, B, READY, B)[2:]
    found = look([*before, *now])
    assert found.fraction == pytest.approx(0.35)
    assert found.eta_s == pytest.approx(10 * 65 / 15)
    assert found.speed == pytest.approx(1.5)


def test_a_clock_that_stands_still_gives_no_pace() -> None:
    found = look(job(at(5), READY, READY, READY, B, READY, B), now_s=1000.0)
    assert (found.speed, found.eta_s) == (None, None)


def test_tasks_without_weight_count_when_they_are_done() -> None:
    noop = TaskRow("noop", None, "succeeded", 0.0, 0.0, 1.0, 2.0)
    waiting = TaskRow("noop", None, "ready", 0.0, 0.0, None, None)
    found = measure([noop, waiting], {}, state="running", started_at=0.0, now_s=3.0)
    assert found.fraction == 0.0
    assert found.stages == (Stage("noop", 0.0, tasks=2, tasks_done=1),)
