"""How steps of their own folders wait for what they share, such as a copy of the source."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.sources import lasting
from tests.waiting import until

from telecine.engine.errors import Interrupted, StepFailed
from telecine.engine.planning import make_plan
from telecine.engine.process import Cancel, Sandbox
from telecine.engine.profile import make_profile
from telecine.engine.steps import encode
from telecine.engine.steps.encode import _made_once, _working_copy
from telecine.engine.steps.work import Work
from telecine.engine.tools import Tools


def waiting_work(shared: Path, cancel: Cancel, told: list[float]) -> Work:
    plan = make_plan(lasting(54), make_profile())
    tools = Tools(Path("ffmpeg"), "9.0.2", Sandbox("none"))
    step = plan.step("encode-0001")
    return Work(plan, step, shared, {}, shared, shared, tools, cancel, told.append)


@contextmanager
def locked_by_another(shared: Path) -> Iterator[None]:
    with (shared / "working.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_who_waits_for_the_shared_copy_takes_it_once_it_is_there(tmp_path: Path) -> None:
    told: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        with locked_by_another(tmp_path):
            waiting = pool.submit(_working_copy, waiting_work(tmp_path, Cancel(), told))
            time.sleep(0.3)
            (tmp_path / "working.mkv").write_bytes(b"whole")
            assert not waiting.done()
        assert waiting.result(timeout=10) == tmp_path / "working.mkv"


def test_who_waits_for_the_shared_copy_tells_that_it_grows_and_can_be_cancelled(
    tmp_path: Path,
) -> None:
    told: list[float] = []
    cancel = Cancel()
    growing = tmp_path / ".copy.01234567.tmp" / "working.mkv"
    growing.parent.mkdir()
    with locked_by_another(tmp_path), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_working_copy, waiting_work(tmp_path, cancel, told))
        for size in (10, 20):
            growing.write_bytes(bytes(size))
            time.sleep(0.4)
        cancel.set()
        with pytest.raises(Interrupted):
            waiting.result(timeout=10)
    assert len(told) >= 2
    assert set(told) == {0.0}


def test_who_waits_sees_that_what_does_not_grow_yet_moves(tmp_path: Path) -> None:
    """Text that is to be burnt in is written when all of the film has been read."""
    told: list[float] = []
    writing = threading.Event()

    def make(output: Path) -> None:
        while len(told) < 3 and not writing.wait(0.05):
            reading.told(1.0)
        output.write_bytes(b"whole")

    reading = waiting_work(tmp_path, Cancel(), [])
    cancel = Cancel()
    with ThreadPoolExecutor(2) as pool:
        making = pool.submit(_made_once, reading, "burn.ass", make)
        until(lambda: list(tmp_path.glob(".copy.*")))
        waiting = pool.submit(
            _made_once, waiting_work(tmp_path, cancel, told), "burn.ass", lambda _: None
        )
        try:
            until(lambda: len(told) >= 3, timeout_s=10)
        finally:
            writing.set()
        assert making.result(timeout=10) == waiting.result(timeout=10) == tmp_path / "burn.ass"


def test_a_shared_copy_that_does_not_grow_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "STALL_S", 0.3)
    with locked_by_another(tmp_path), pytest.raises(StepFailed) as raised:
        _working_copy(waiting_work(tmp_path, Cancel(), []))
    assert (raised.value.code, raised.value.retryable) == ("stalled", True)
