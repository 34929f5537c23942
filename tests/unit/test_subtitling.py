"""A film whose subtitles cannot be read to their end. The reader is stood in for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.sources import FILM

from telecine.engine.errors import Interrupted, StepFailed
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile
from telecine.engine.subtitling import make_subtitles

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
