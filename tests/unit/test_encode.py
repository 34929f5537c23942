"""What a step says of a damaged source, in plain words; how steps wait for what they share."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.sources import COMPLIANT, SURROUND_ONLY, lasting
from tests.waiting import until

from telecine.engine import encode
from telecine.engine.encode import _made_once, _working_copy, missing_pictures
from telecine.engine.errors import Interrupted, StepFailed
from telecine.engine.media import MediaInfo
from telecine.engine.plan import Span
from telecine.engine.planning import make_plan
from telecine.engine.process import Cancel, Sandbox
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.segments import Made, Segment
from telecine.engine.tools import Tools
from telecine.engine.work import Work, made_good


@pytest.mark.parametrize(
    ("source", "step", "said"),
    [
        (lasting(54), "encode-0001", "; where pictures are missing the one before is held"),
        (COMPLIANT, "encode-0000", "; pictures that do not decode are left out, "),
        (COMPLIANT, "video-copy", "; copied as it is"),
        (COMPLIANT, "audio", "; copied as it is"),
        (SURROUND_ONLY, "audio", "; silence fills what is missing"),
        (COMPLIANT, "poster", ""),
    ],
)
def test_a_warning_of_damage_says_what_was_done(source: MediaInfo, step: str, said: str) -> None:
    plan = make_plan(source, make_profile())
    words = made_good(plan, plan.step(step))
    assert words.startswith(said)
    assert bool(words) is bool(said)


def test_all_chunks_but_the_one_that_opens_the_film_stand_back_for_who_shows_it() -> None:
    plan = make_plan(lasting(54), make_profile())
    chunks = [step for step in plan.steps if step.kind == "encode"]
    behind = [step.id for step in chunks if encode.niceness(plan, step) > 0]
    assert behind == [step.id for step in chunks if step.id != "encode-0000-head"]
    assert len(behind) > 1


def test_files_of_sound_alone_are_filled_with_silence() -> None:
    plan = make_plan(SURROUND_ONLY, make_profile((parse_output("mp3"),)))
    assert made_good(plan, plan.step("audio")) == "; silence fills what is missing"


def made(name: str, *frames: int) -> Made:
    parts = tuple(Segment(n, n * 60, 60, 1000, count, ()) for n, count in enumerate(frames))
    return Made(name, "", parts)


def test_pictures_that_are_missing_under_a_copied_rung_are_counted() -> None:
    plan = make_plan(COMPLIANT, make_profile())
    # 24 frames a second, five segments of 6 s: 144 pictures in each.
    whole = [144] * 5
    made_of = (made("720p", *whole), made("480p", 141, *whole[1:]), made("360p", 145, *whole[1:]))
    spans = [Span(one.rendition, 0, 5) for one in made_of]
    (said,) = missing_pictures(plan.timeline, spans, made_of)
    assert said == (
        "480p: from 0.0 s to 30.0 s 3 of 720 pictures are missing, since they do "
        "not decode; the one before each is shown longer"
    )


# --- the copy of a source that seeks badly, shared by steps of their own folders ----------------


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


@pytest.mark.programs
def test_who_waits_for_the_shared_copy_takes_it_once_it_is_there(tmp_path: Path) -> None:
    told: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        with locked_by_another(tmp_path):
            waiting = pool.submit(_working_copy, waiting_work(tmp_path, Cancel(), told))
            time.sleep(0.3)
            (tmp_path / "working.mkv").write_bytes(b"whole")
            assert not waiting.done()
        assert waiting.result(timeout=10) == tmp_path / "working.mkv"


@pytest.mark.programs
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


@pytest.mark.programs
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


@pytest.mark.programs
def test_a_shared_copy_that_does_not_grow_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "STALL_S", 0.3)
    with locked_by_another(tmp_path), pytest.raises(StepFailed) as raised:
        _working_copy(waiting_work(tmp_path, Cancel(), []))
    assert (raised.value.code, raised.value.retryable) == ("stalled", True)
