"""The order of steps, what runs beside what, and how the first failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.unit.sources import COMPLIANT, FILM, SILENT, SURROUND_ONLY, lasting

from telecine.engine.errors import InputRefused, Interrupted, MediaError, StepFailed
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import make_plan
from telecine.engine.process import Cancel
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.schedule import run_steps
from telecine.engine.steps.encode import StepResult

PLAN = make_plan(
    lasting(102),
    make_profile((parse_output("hls"), parse_output("mp4:720p"), parse_output("flac"))),
)
PATIENCE_S = 10.0  # a test that waits for this long has failed


def result(step: Step) -> StepResult:
    return StepResult(step.id, PLAN.id, (), (), 0.0, 0.0, 0, ())


class Stage:
    """Runs the steps of a plan and notes when each began and ended."""

    def __init__(self, plan: Plan = PLAN, *, jobs: int = 2, playable_after: str = "") -> None:
        self.plan = plan
        self.jobs = jobs
        self.playable_after = playable_after
        self.playable = threading.Event()
        self.cancel = Cancel()
        self.began: list[str] = []
        self.ended: list[str] = []
        self.most: dict[str, int] = {"encode": 0, "light": 0}
        self._now: dict[str, int] = {"encode": 0, "light": 0}
        self._lock = threading.Lock()

    def run(self, act: Callable[[Step], None] = lambda step: None) -> dict[str, StepResult]:
        def run_one(step: Step) -> StepResult:
            pool = "encode" if step.kind == "encode" else "light"
            with self._lock:
                self.began.append(step.id)
                self._now[pool] += 1
                self.most[pool] = max(self.most[pool], self._now[pool])
            try:
                act(step)
            finally:
                with self._lock:
                    self.ended.append(step.id)
                    self._now[pool] -= 1
            if step.id == self.playable_after:
                self.playable.set()
            return result(step)

        return run_steps(
            self.plan, run_one, jobs=self.jobs, playable=self.playable, cancel=self.cancel
        )


def test_every_step_runs_once_and_tells_its_result() -> None:
    stage = Stage()
    results = stage.run()
    assert results == {step.id: result(step) for step in PLAN.steps}
    assert sorted(stage.began) == sorted(step.id for step in PLAN.steps)
    assert not stage.cancel.is_set()


@pytest.mark.parametrize(
    ("plan", "opening"),
    [
        (PLAN, ["encode-0000-head", "audio"]),
        (make_plan(COMPLIANT, make_profile()), ["video-copy", "audio"]),
        (make_plan(SILENT, make_profile()), ["video-copy"]),
        (make_plan(SURROUND_ONLY, make_profile()), ["audio"]),
        (make_plan(FILM, make_profile((parse_output("poster"),))), []),
    ],
)
def test_what_makes_it_playable_runs_first_and_alone(plan: Plan, opening: list[str]) -> None:
    assert [step.id for step in plan.opening] == opening
    stage = Stage(plan)
    stage.run()
    assert sorted(stage.began[: len(opening)]) == sorted(opening)


def test_nothing_else_starts_before_it_plays() -> None:
    stage = Stage(playable_after="encode-0000-head")
    go_on = threading.Event()
    others: list[str] = []

    def act(step: Step) -> None:
        if step.id == "audio":  # goes on long after the picture plays
            assert go_on.wait(PATIENCE_S)
        elif step.id != "encode-0000-head":
            others.append(step.id)
            assert "encode-0000-head" in stage.ended
            go_on.set()

    stage.run(act)
    assert others


def test_a_step_starts_as_soon_as_what_it_needs_is_there() -> None:
    """How loud sound is can be measured while chunks are still encoded."""
    measured = threading.Event()

    def act(step: Step) -> None:
        if step.id == "loudness":
            assert "audio" in stage.ended
            measured.set()
        elif step.id == "encode-0003":
            assert measured.wait(PATIENCE_S)

    stage = Stage()
    stage.run(act)
    assert len(stage.ended) == len(PLAN.steps)


def test_chunks_do_not_wait_until_all_sound_was_listened_to() -> None:
    plan = make_plan(lasting(102), make_profile(loudness_lufs=-16.0))
    encoding = threading.Event()

    def act(step: Step) -> None:
        if step.id == "gain":
            assert encoding.wait(PATIENCE_S)
        elif step.id == "encode-0000":
            encoding.set()
        elif step.id == "audio":
            assert "gain" in stage.ended

    stage = Stage(plan)
    stage.run(act)
    assert len(stage.ended) == len(plan.steps)


def test_no_more_chunks_run_at_once_than_asked() -> None:
    together = threading.Barrier(2)

    def act(step: Step) -> None:
        if step.id in ("encode-0001", "encode-0002"):
            together.wait(PATIENCE_S)  # both run at the same time, or this breaks

    stage = Stage(jobs=2)
    stage.run(act)
    assert stage.most["encode"] == 2
    alone = Stage(jobs=1)
    alone.run()
    assert alone.most["encode"] == 1
    assert alone.most["light"] <= 3


def test_a_step_waits_for_all_that_it_needs() -> None:
    stage = Stage()

    def act(step: Step) -> None:
        assert set(step.needs) <= set(stage.ended)

    stage.run(act)
    assert stage.began[-1] == "mp4-720p"


def failing(step_id: str, error: MediaError, stage: Stage) -> Callable[[Step], None]:
    """This step fails; those that run meanwhile are interrupted by it, as real children are."""

    def act(step: Step) -> None:
        if step.id == step_id:
            raise error
        if step.kind == "encode" and step_id in stage.began:
            stage.cancel.wait(PATIENCE_S)
        if stage.cancel.is_set():
            raise Interrupted

    return act


@pytest.mark.parametrize(
    "step_id", ["encode-0000-head", "audio", "encode-0001", "encode-0003", "mp4-720p"]
)
def test_the_first_failure_ends_all_and_is_the_one_told(step_id: str) -> None:
    stage = Stage()
    error = InputRefused("no frame can be decoded", code="undecodable")
    with pytest.raises(InputRefused) as raised:
        stage.run(failing(step_id, error, stage))
    assert raised.value is error
    assert stage.cancel.is_set()
    assert stage.playable.is_set()  # nobody waits for what will not come
    assert sorted(stage.began) == sorted(stage.ended)


def test_interrupted_is_told_where_nothing_failed() -> None:
    stage = Stage()

    def act(step: Step) -> None:
        if step.id == "encode-0002":
            stage.cancel.set()
        if stage.cancel.is_set():
            raise Interrupted

    with pytest.raises(Interrupted):
        stage.run(act)
    assert "mp4-720p" not in stage.began


def test_a_step_that_a_retry_can_help_is_tried_twice() -> None:
    stage = Stage()
    failures = [StepFailed("the disk refused", code="disk_error", retryable=True)]

    def act(step: Step) -> None:
        if step.id == "encode-0001" and failures:
            raise failures.pop()

    assert set(stage.run(act)) == {step.id for step in PLAN.steps}
    assert stage.began.count("encode-0001") == 2


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StepFailed("again and again", code="disk_error", retryable=True), 2),
        (StepFailed("hopeless", code="encode_failed"), 1),
        (Interrupted(), 1),  # retryable, and nobody wants it now
    ],
)
def test_how_often_a_failing_step_is_tried(error: MediaError, tries: int) -> None:
    stage = Stage(jobs=1)

    def act(step: Step) -> None:
        if step.id == "audio":
            raise error

    with pytest.raises(type(error)):
        stage.run(act)
    assert stage.began.count("audio") == tries


def test_an_error_that_is_none_of_ours_ends_all_too() -> None:
    stage = Stage()

    def act(step: Step) -> None:
        if step.id == "encode-0000":
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        stage.run(act)
    assert stage.cancel.is_set()
