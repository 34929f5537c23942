"""What a step says of a damaged source, in plain words; who stands back for whom."""

from __future__ import annotations

import pytest
from tests.unit.sources import COMPLIANT, SURROUND_ONLY, lasting

from telecine.engine.media import MediaInfo
from telecine.engine.plan import Span
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.segments import Made, Segment
from telecine.engine.steps import encode
from telecine.engine.steps.encode import missing_pictures
from telecine.engine.steps.work import made_good


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
