"""A film whose subtitles cannot be read to their end. The reader is stood in for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.sources import COMPLIANT, FILM, FINGERPRINT

from telecine.engine.errors import InputRefused, Interrupted, StepFailed
from telecine.engine.media import ExtraInput, SubtitleFile
from telecine.engine.planning import make_plan
from telecine.engine.process import Finished, Limit, Limits
from telecine.engine.profile import make_profile
from telecine.engine.steps import subtitling
from telecine.engine.steps.subtitling import make_subtitles
from telecine.engine.words.subtitles import SideCar

HEARD = b'["cue",2,1000000,2000000,"","heard"]\n["read",5000000]\n'


def work(tmp_path: Path, failure: Exception, said: bytes = HEARD) -> Any:
    def python(_: Any, sinks: dict[int, Callable[[bytes], object]], **__: Any) -> None:
        sinks[1](said)
        raise failure

    return SimpleNamespace(
        plan=make_plan(FILM, make_profile()),
        source=tmp_path / "film.mkv",
        folder=tmp_path,
        inputs={},
        warnings=[],
        python=python,
        go_on=lambda: None,
        moved=lambda: None,
        told=lambda _: None,
    )


def test_what_was_read_before_the_reader_died_is_kept(tmp_path: Path) -> None:
    doing = work(tmp_path, StepFailed("the reader ended with 139", code="reader_failed"))
    files = make_subtitles(doing)
    assert "heard" in (tmp_path / "subtitles/de/whole.vtt").read_text()
    assert len(files) == doing.plan.timeline.segments + 2
    assert doing.warnings == ["the subtitles were not read to their end: the reader ended with 139"]


def test_a_reader_that_says_something_else_is_not_believed_at_all(tmp_path: Path) -> None:
    doing = work(tmp_path, AssertionError(), HEARD + b'["rm"]\n')
    make_subtitles(doing)
    assert (tmp_path / "subtitles/de/whole.vtt").read_text() == "WEBVTT\n"
    assert "said something else" in doing.warnings[0]


def test_who_cancels_is_obeyed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        make_subtitles(work(tmp_path, Interrupted()))


def test_a_file_that_was_read_once_may_take_its_time_on_a_busy_machine(tmp_path: Path) -> None:
    facts = SubtitleFile("srt", "utf-8", guessed=False, cues=1)
    beside = ExtraInput("subtitles-en", "subtitles", FINGERPRINT, subtitles=facts)
    doing = work(tmp_path, AssertionError())
    doing.plan = make_plan(COMPLIANT, make_profile(subtitles=(SideCar("en"),)), inputs=(beside,))
    doing.inputs = {"subtitles-en": tmp_path / "film.srt"}
    asked: list[Limits] = []

    def python(
        _: Any, sinks: dict[int, Callable[[bytes], object]], *, limits: Limits, **__: Any
    ) -> None:
        asked.append(limits)
        sinks[1](b'["format","srt","utf-8",false]\n["cue",0,1000000,2000000,"","heard"]\n')

    doing.python = python
    make_subtitles(doing)
    assert "heard" in (tmp_path / "subtitles/en/whole.vtt").read_text()
    assert [limits.wall_s for limits in asked] == [None]


@pytest.mark.parametrize("limit", ["wall", "cpu"])
def test_who_looks_into_a_file_on_a_busy_machine_may_try_again(
    monkeypatch: pytest.MonkeyPatch, limit: Limit
) -> None:
    killed = Finished(137, 9, limit, (), 1.0, 8.0, 1 << 20)
    monkeypatch.setattr(subtitling, "run", lambda *_, **__: killed)
    with pytest.raises(InputRefused) as caught:
        subtitling.probe_side_car(Path("film.srt"), SimpleNamespace(sandbox=None))  # type: ignore[arg-type]
    assert caught.value.code == "subtitles_unreadable"
    assert caught.value.retryable == (limit == "wall")
