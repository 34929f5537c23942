"""How far a job is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.sources import COMPLIANT, FINGERPRINT, PICTURE, SURROUND_ONLY, lasting, media

from telecine.engine.media import ExtraInput
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.progress import Progress, pace, step_work


def everything() -> Plan:
    words = ("hls", "mp4:720p", "poster")
    return make_plan(
        lasting(54), replace(make_profile(tuple(parse_output(word) for word in words)))
    )


def test_it_goes_from_nothing_to_all_and_never_back() -> None:
    plan = everything()
    progress = Progress(plan)
    seen = [progress.fraction()]
    for step in plan.steps:
        for seconds in (1.0, 3.0, 2.0):
            progress.advance(step, seconds)
            seen.append(progress.fraction())
        progress.finish(step)
        seen.append(progress.fraction())
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] == pytest.approx(1)


def test_a_step_counts_no_further_than_its_span() -> None:
    plan = everything()
    progress = Progress(plan)
    # The head is two segments, 12 s; the sound 54 s.
    progress.advance(plan.step("encode-0000-head"), 1e9)
    progress.advance(plan.step("audio"), 27.0)
    assert progress.done_s == {"encode-0000-head": 12.0, "audio": 27.0}


def test_rungs_count_what_was_made_of_each_and_not_the_joining() -> None:
    plan = everything()
    progress = Progress(plan)
    assert set(progress.rungs()) == {"1080p", "720p", "480p", "360p", "240p", "aac"}
    progress.finish(plan.step("encode-0000-head"))
    progress.finish(plan.step("encode-0001"))
    progress.finish(plan.step("mp4-720p"))
    done = progress.rungs()
    # The head is 12 s, chunk 1 is 30 s of 54.
    assert done["480p"] == pytest.approx(42 / 54)
    assert done["1080p"] == pytest.approx(30 / 54)
    assert done["aac"] == 0


def test_a_rung_that_begins_late_in_a_step_has_nothing_until_then() -> None:
    plan = everything()
    progress = Progress(plan)
    first = plan.step("encode-0000")  # 24 s; 480p from 12 s on
    progress.advance(first, 9.0)
    assert progress.rungs()["480p"] == 0
    assert progress.rungs()["1080p"] == pytest.approx(9 / 54)
    progress.advance(first, 18.0)
    assert progress.rungs()["480p"] == pytest.approx(6 / 54)


def test_encoding_weighs_by_its_pixels() -> None:
    plan = make_plan(lasting(54), make_profile())
    head, rest = Progress(plan), Progress(plan)
    head.finish(plan.step("encode-0000-head"))
    rest.finish(plan.step("encode-0000"))
    # 12 s of 480p and 360p beside the rest of the first 24 s.
    assert 0 < head.fraction() < rest.fraction()
    sound = Progress(plan)
    sound.finish(plan.step("audio"))
    whole = Progress(plan)
    whole.finish(plan.step("encode-0001"))
    assert sound.fraction() < whole.fraction() / 2


def test_a_film_that_is_joined_costs_what_its_own_pictures_cost_to_decode() -> None:
    """30 s at 24 frames/s of 3840 × 2160 where before there were 1920 × 1080."""
    large = media(replace(PICTURE, width=3840, height=2160))
    small, other = (
        make_plan(
            COMPLIANT,
            make_profile(concat=1),
            inputs=(ExtraInput("film-2", "film", FINGERPRINT, film=film),),
        )
        for film in (COMPLIANT, large)
    )
    first, second = (step.id for step in small.steps if step.id in ("encode-0000", "encode-0001"))
    assert step_work(other, other.step(first)) == step_work(small, small.step(first))
    more = step_work(other, other.step(second)) - step_work(small, small.step(second))
    assert more == pytest.approx(0.3 * (3840 * 2160 - 1920 * 1080) * 24 * 30 / 1e6)


def test_a_plan_of_sound_alone_and_one_without_steps() -> None:
    plan = make_plan(SURROUND_ONLY, make_profile())
    progress = Progress(plan)
    progress.advance(plan.step("audio"), 5.0)
    # Stereo, then 5.1, then both measured, which costs three tenths of a sound.
    assert progress.fraction() == pytest.approx(5 / (20 + 20 + 0.3 * 20))
    assert Progress(replace(plan, steps=())).fraction() == 1


def test_a_copied_rung_and_its_company_end_together() -> None:
    plan = make_plan(COMPLIANT, make_profile())
    progress = Progress(plan)
    for step in plan.steps:
        progress.finish(step)
    assert set(progress.rungs().values()) == {1.0}
    assert progress.fraction() == pytest.approx(1)


def test_pace_counts_only_what_this_run_did() -> None:
    # An hour, half of it done by an earlier run: a tenth of it, 6 min, in 60 s leaves 4 times that.
    assert pace(0.1, 0.4, 60.0, 3600.0) == pytest.approx((6.0, 240.0))
    assert pace(1.0, 0.0, 90.0, 180.0) == (2.0, 0.0)


@pytest.mark.parametrize(("done", "elapsed_s"), [(0.0, 5.0), (0.1, 0.0)])
def test_pace_is_unknown_until_something_is_done(done: float, elapsed_s: float) -> None:
    assert pace(done, 0.5, elapsed_s, 60.0) == (None, None)
