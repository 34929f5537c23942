"""Plans that aim at a quality: first the search, then what it chose; and plans that measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit import sources

from telecine.engine import argv
from telecine.engine.errors import UsageError
from telecine.engine.filters import compare_graph
from telecine.engine.ladder import DroppedRung
from telecine.engine.media import MediaInfo
from telecine.engine.plan import Plan, plan_from_json
from telecine.engine.planning import chosen_plan, encoded_instead, make_plan
from telecine.engine.planning.qualities import ladders, missed
from telecine.engine.profile import Profile, make_profile, parse_output
from telecine.engine.progress import Progress
from telecine.engine.report import make_report, quality_reason
from telecine.engine.searching import Choice, Choices, Compared, Score, Try

AIMED = make_profile(top="encode", quality=90.0)


def found(*levels: tuple[str, float], dropped: tuple[str, ...] = ()) -> Choices:
    rungs = tuple(
        Choice(name, crf, 90.0, 1, (Try(crf, 90.0, 1, 1),), f"VMAF 90.0 at CRF {crf:g} in samples")
        for name, crf in levels
    )
    return Choices(
        90.0, rungs, (), tuple(DroppedRung(n, "adds nothing") for n in dropped), 12.5, 7.0
    )


FIVE = found(("1080p", 24.0), ("720p", 23.5), ("480p", 22.0), ("360p", 21.0), ("240p", 20.5))


def names(plan: Plan) -> list[str]:
    return [rendition.name for rendition in plan.listed]


def crfs(plan: Plan) -> dict[str, float]:
    return {rendition.name: rendition.crf for rendition in plan.renditions}


def test_the_first_of_two_plans_only_searches() -> None:
    plan = make_plan(sources.COMPLIANT, AIMED)
    assert plan.searching
    assert [step.id for step in plan.steps] == ["search"]
    assert plan_from_json(plan.to_json()).id == plan.id
    # 30 s in 15 GOPs, of which eight are looked at.
    assert len(plan.samples) == 8
    assert quality_reason(plan) == (
        "VMAF 90 is searched for first, each rung encoded at most 5 times, in 8 samples, "
        "16.0 s of film"
    )


def test_the_second_plan_encodes_as_the_search_chose() -> None:
    first = make_plan(sources.COMPLIANT, AIMED)
    plan = chosen_plan(first, FIVE)
    assert not plan.searching
    assert crfs(plan) == {choice.rendition: choice.crf for choice in FIVE.rungs}
    assert plan.rendition("720p").reason == "standard rung; VMAF 90.0 at CRF 23.5 in samples"
    step = next(step for step in plan.steps if step.kind == "encode")
    line = argv.encode_chunk(Path("ffmpeg"), plan, step, argv.Film(Path("film"), False))
    assert [line[n + 1] for n, word in enumerate(line) if word == "-crf"] == [
        f"{plan.rendition(name).crf:g}" for name in step.renditions
    ]
    again = plan_from_json(plan.to_json())
    assert again.id == plan.id
    assert again.choices == FIVE
    assert quality_reason(plan) == "VMAF 90 was searched for in 8 samples, 16.0 s of film"


def test_a_rung_that_adds_nothing_is_left_out_before_any_is_listed() -> None:
    choices = found(*((c.rendition, c.crf) for c in FIVE.rungs), dropped=("1080p",))
    plan = chosen_plan(make_plan(sources.COMPLIANT, AIMED), choices)
    assert "1080p" not in names(plan)
    assert ("1080p", "adds nothing") in [(rung.name, rung.reason) for rung in plan.dropped]
    assert all("1080p" not in step.renditions for step in plan.steps)


def test_a_file_is_still_joined_from_a_rung_that_is_left_out() -> None:
    profile = make_profile(
        (parse_output("hls"), parse_output("mp4:1080p")), top="encode", quality=90.0
    )
    choices = found(*((c.rendition, c.crf) for c in FIVE.rungs), dropped=("1080p",))
    plan = chosen_plan(make_plan(sources.COMPLIANT, profile), choices)
    assert "1080p" not in names(plan)
    unlisted = plan.rendition("1080p")
    assert (unlisted.listed, unlisted.head, unlisted.crf) == (False, False, 24.0)
    assert unlisted.folder == ".telecine/video/1080p"


def test_a_copy_is_not_searched_and_where_it_fails_has_the_level_below() -> None:
    first = make_plan(sources.COMPLIANT, make_profile(quality=90.0))
    assert "1080p" not in [rendition.name for rendition in first.judged]
    plan = chosen_plan(first, found(("720p", 25.5), ("480p", 24.0), ("360p", 23.0)))
    assert plan.copied is not None
    assert plan.rendition("720p").crf == 25.5
    instead = encoded_instead(plan)
    assert instead is not None
    assert not instead.searching
    assert instead.rendition("1080p").crf == 25.5
    assert instead.rendition("1080p").reason.endswith("; not searched: CRF 25.5 as 720p")


def test_a_copy_that_fails_may_have_to_be_searched_then() -> None:
    """A film with the one rung that is copied has nothing to search, until it is encoded."""
    first = make_plan(sources.COMPLIANT, make_profile(rungs=(1080,), quality=90.0))
    assert (first.judged, first.searching) == ((), False)
    instead = encoded_instead(first)
    assert instead is not None
    assert instead.searching
    plan = chosen_plan(instead, found(("1080p", 25.0)))
    assert plan.copied is None
    assert plan.rendition("1080p").crf == 25.0


def test_choices_of_another_film_change_nothing() -> None:
    plan = chosen_plan(make_plan(sources.COMPLIANT, AIMED), found(("7p", 40.0)))
    assert set(crfs(plan).values()) == {23.0}


def test_rungs_in_hdr_keep_the_usual_level_and_go_with_those_in_sdr() -> None:
    profile = make_profile(codecs=("h264", "hevc"), hdr=True, quality=90.0)
    first = make_plan(sources.PHONE, profile)
    judged = [rendition.name for rendition in first.judged]
    assert judged
    assert all(not name.startswith("hevc-") for name in judged)
    top = judged[0]
    choices = found(*((name, 24.0) for name in judged), dropped=(top,))
    plan = chosen_plan(first, choices)
    reasons = {rung.name: rung.reason for rung in plan.dropped}
    assert reasons[f"hevc-{top}"] == f"as {top} in SDR"
    kept = next(r for r in plan.renditions if r.video_range != "SDR")
    assert kept.crf == 26.0
    assert kept.reason.endswith("; VMAF is made for SDR: at the usual CRF 26")


def test_rungs_are_compared_by_codec_and_those_that_were_asked_for_stay() -> None:
    plan = make_plan(sources.PAL, make_profile(codecs=("h264", "av1"), top="encode", quality=90.0))
    assert [[rendition.name for rendition in ladder] for ladder in ladders(plan)] == [
        ["240p", "360p", "576p"],
        ["av1-240p", "av1-360p", "av1-576p"],
    ]
    asked = make_plan(sources.COMPLIANT, make_profile(rungs=(720, 360), quality=90.0, top="encode"))
    assert ladders(asked) == []
    small = make_plan(sources.ODD, AIMED)
    assert ladders(small) == []


@pytest.mark.parametrize(
    ("source", "profile", "why"),
    [
        (sources.SONG, make_profile(quality=90.0), "no video: `quality` has nothing to measure"),
        (sources.SONG, make_profile(measure=True), "no video: `measure` has nothing to measure"),
        (
            sources.COMPLIANT,
            make_profile((parse_output("poster"),), quality=90.0),
            "nothing is encoded in SDR: `quality` has nothing to measure",
        ),
        (
            sources.media(replace(sources.PICTURE, width=64, height=17)),
            make_profile(top="encode", quality=90.0),
            "64×16 pixels are below 18×18: `quality` has nothing to measure",
        ),
    ],
)
def test_where_there_is_nothing_to_measure_it_is_said(
    source: MediaInfo, profile: Profile, why: str
) -> None:
    plan = make_plan(source, profile)
    assert why in plan.warnings
    assert not plan.searching
    assert (plan.samples, plan.choices) == ((), None)


@pytest.mark.parametrize("asked", [{"quality": 90.0}, {"measure": True}])
def test_films_that_are_joined_are_not_measured(asked: dict[str, Any]) -> None:
    """And that before any of them is read, or sent."""
    with pytest.raises(UsageError) as refused:
        make_profile(concat=1, **asked)
    assert refused.value.code == "quality_of_joined"


def test_measuring_comes_last_and_needs_all_that_was_encoded() -> None:
    plan = make_plan(sources.COMPLIANT, make_profile(top="encode", measure=True))
    last = plan.steps[-1]
    assert last.kind == "measure"
    assert list(last.needs) == [step.id for step in plan.steps if step.kind == "encode"]
    assert set(crfs(plan).values()) == {23.0}
    assert quality_reason(plan) == "VMAF is measured in 8 samples, 16.0 s of film"


def test_what_missed_its_aim_is_warned_of_with_the_reason() -> None:
    plan = chosen_plan(make_plan(sources.COMPLIANT, AIMED), FIVE)
    scores = [Score("720p", 88.6), Score("480p", 87.9), Score("other", 10.0)]
    assert missed(plan, scores) == [
        "480p: VMAF 87.9 is measured where 90 was aimed at: VMAF 90.0 at CRF 22 in samples"
    ]
    assert missed(make_plan(sources.COMPLIANT, make_profile(measure=True)), scores) == []


def test_a_search_counts_as_work_whatever_the_length_of_the_film() -> None:
    plan = make_plan(sources.COMPLIANT, AIMED)
    progress = Progress(plan)
    progress.advance(plan.step("search"), 15.0)
    assert progress.fraction() == pytest.approx(0.5)


def test_both_sides_are_compared_at_one_size_by_number() -> None:
    plan = argv.fine(make_plan(sources.COMPLIANT, AIMED))
    size = plan.rendition("360p").size
    graph = compare_graph(
        plan,
        [Compared(size), Compared(size, 0, 512)],
        3,
        origin_ticks=0,
        stream_index=0,
        first_input=1,
    )
    by_number = "settb=expr=1/1000,setpts=N"
    assert graph.count(by_number) == 4
    assert graph.count("setparams=range=tv:colorspace=bt709") == 4
    assert graph.count(f"scale={size.width}:{size.height}") == 4
    assert graph.startswith("[0:0]setpts=PTS-0,")
    # The fourth GOP of 48 pictures.
    assert "trim=start_pts=144:end_pts=192" in graph
    assert "[2:v:0]" in graph
    assert "trim=start_pts=0:end_pts=512" in graph
    assert graph.endswith(
        "[e1][r1]libvmaf@m1=model=version=vmaf_v0.6.1:n_threads=4:n_subsample=3[o1]"
    )


def test_the_report_has_target_samples_levels_and_cost() -> None:
    plan = chosen_plan(make_plan(sources.COMPLIANT, AIMED), FIVE)
    report = make_report(
        plan,
        state="succeeded",
        version="1",
        ffmpeg="9",
        sandbox="none",
        results=(),
        measured=(),
        probe_s=0.1,
        total_s=20.0,
        time_to_first_play_s=None,
        own_cpu_s=0.5,
    )
    assert report.cpu_s == 13.0  # the search's 12.5 and its own
    assert report.quality is not None
    assert (report.quality.target_vmaf, report.quality.cpu_s, report.quality.wall_s) == (
        90,
        12.5,
        7,
    )
    assert (report.quality.max_samples, report.quality.max_tries) == (8, 5)
    assert sum(sample.share for sample in report.quality.samples) == pytest.approx(1, abs=1e-3)
    rung = next(rung for rung in report.rungs if rung.name == "480p")
    assert rung.quality is not None
    assert (rung.quality.crf, rung.quality.searched_vmaf, rung.quality.tries) == (22.0, 90.0, 1)
    assert rung.quality.measured_vmaf is None
    assert next(rung for rung in report.rungs if rung.name == "aac").quality is None
