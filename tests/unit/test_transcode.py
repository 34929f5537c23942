"""What a run tells while it works, after an earlier one did a part. The steps are stood in for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.sources import lasting

from telecine.engine import transcode as module
from telecine.engine.errors import StepFailed, VerifyFailed
from telecine.engine.events import Event
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import make_plan
from telecine.engine.process import Cancel, Sandbox
from telecine.engine.profile import Output, Profile
from telecine.engine.steps.encode import StepResult
from telecine.engine.tools import Tools


class Stage:
    """A run whose last chunk tells how far it is; all before it are done already."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.told: list[Event] = []
        # One rung of 48 s, a file of its own: the last chunk has 24 s, the join weighs little.
        self.plan = make_plan(lasting(48, audio=None), Profile((Output("mp4", 240),)))
        self.last = next(step for step in reversed(self.plan.steps) if step.kind == "encode")
        assert self.plan.timeline.time_s(self.plan.chunks[-1].first) == 24
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(module, "run_steps", self._in_turn)
        monkeypatch.setattr(module, "finished_step", self._finished)
        tools = Tools(Path("ffmpeg"), "9.0.2", Sandbox("none"))
        self.run = module._Run(folder, tools, 1, self.told.append, Cancel())
        self.run.plan, self.run.probed_s = self.plan, 0.0
        self._folder, self._monkeypatch = folder, monkeypatch

    def _in_turn(self, plan: Plan, run_one: Callable[[Step], StepResult], **_: Any) -> None:
        for step in plan.steps:
            run_one(step)

    def _finished(self, plan: Plan, step_id: str, *_: object) -> StepResult | None:
        done = StepResult(step_id, plan.id, (), (), 0.0, 0.0, 0, ())
        return None if step_id == self.last.id else done

    def work(self, *steps: tuple[float, float]) -> list[dict[str, Any]]:
        """What is told of (wall seconds that pass, then seconds of the last chunk that are
        done), until that chunk fails."""

        def run_step(*_: object, on_progress: Callable[[float], None], **__: object) -> StepResult:
            for wall_s, done_s in steps:
                self.now += wall_s
                on_progress(done_s)
            raise StepFailed("enough", code="encode_failed")

        self._monkeypatch.setattr(module, "run_step", run_step)
        with pytest.raises(StepFailed, match="enough"):
            self.run.make(self._folder / "source", {})
        return [event.data for event in self.told if event.name == "progress"]


def test_what_an_earlier_run_did_makes_this_one_no_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    stage.now += 100  # for probing, and until the output was free
    (told,) = stage.work((10, 12.0))
    # 36 of 48 s are done, 12 of them in these 10 s; 12 s and the join are left.
    assert told["fraction"] == pytest.approx(36 / 48, rel=0.02)
    assert told["speed"] == pytest.approx(1.2, rel=0.02)
    assert told["eta_s"] == pytest.approx(10.0, rel=0.1)


def test_until_it_did_something_itself_a_run_knows_neither_speed_nor_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (told,) = Stage(tmp_path, monkeypatch).work((10, 0.0))
    assert told["fraction"] == pytest.approx(24 / 48, rel=0.02)
    assert told["speed"] is None
    assert told["eta_s"] is None


def test_progress_is_told_at_most_four_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Stage(tmp_path, monkeypatch).work((0.1, 1.0), (0.2, 2.0), (0.1, 3.0), (0.3, 4.0))
    # At 0.1, not at 0.3 and told again at 0.4, 0.7.
    done = [data["rungs"]["240p"] * 48 - 24 for data in told]
    assert done == pytest.approx([1.0, 3.0, 4.0], abs=0.01)


@pytest.mark.parametrize(
    ("failure", "reused", "blamed"),
    [
        (StepFailed("times do not fit", code="fragment_timing"), True, True),
        (StepFailed("killed", code="copy_failed", retryable=True), False, False),
        (StepFailed("an encoder failed", code="encode_failed"), False, False),
        (VerifyFailed("broken", broken=("decode-times",)), False, True),
        # What an earlier run left may be what is broken: it is made again first.
        (VerifyFailed("broken", broken=("decode-times",)), True, False),
    ],
)
def test_when_a_copy_is_to_blame(
    failure: StepFailed,
    reused: bool,
    blamed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Stage(tmp_path, monkeypatch).run
    run._reused = reused
    assert run.blames_the_copy(failure) is blamed
