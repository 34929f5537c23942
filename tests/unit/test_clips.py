"""Which part of a film a clip is, by arithmetic on the film's own pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.unit import sources

from telecine.cli import joined_clip, parse
from telecine.engine.argv import copy_video
from telecine.engine.errors import UsageError
from telecine.engine.media import MediaInfo
from telecine.engine.plan import Plan, within
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.profile import TopPolicy, make_profile, parse_output
from telecine.engine.words.clip import Clip, make_clip, parse_clip


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("00:10-00:40", "10", "40"),
        ("10-40", "10", "40"),
        ("00:00:10.5-", "10.5", None),
        ("-30", "0", "30"),
        ("1:02:03.25-1:02:04", "3723.25", "3724"),
        ("90.000000001-100", "90.000000001", "100"),
        ("0-0.04", "0", "0.04"),
    ],
)
def test_words(text: str, start: str, end: str | None) -> None:
    assert parse_clip(text) == Clip(Fraction(start), None if end is None else Fraction(end))


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "10", "40-10", "10-10", "a-b", "1:60-2:00", "1:60:00-2:00:00", "-0", "10-40-50"),
        *("10--40", "1e3-", "١-٢", "0-9999999", " 1-2", "0x1-2", "-1.0000000001"),
    ],
)
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_clip(text)
    assert caught.value.code == "clip_invalid"


def test_a_clip_of_numbers() -> None:
    assert make_clip(Fraction(3, 2), None) == Clip(Fraction(3, 2), None)
    for start, end in ((-1, 5), (5, 5), (0, 10**7), (10**7, None)):
        with pytest.raises(UsageError, match="clip"):
            make_clip(Fraction(start), None if end is None else Fraction(end))


def test_a_clip_that_begins_with_a_hyphen_is_no_option() -> None:
    assert joined_clip(["--clip", "-0:30", "a"]) == ["--clip=-0:30", "a"]
    assert joined_clip(["--clip", "-o", "--", "--clip", "-1"]) == [
        "--clip",
        "-o",
        "--",
        "--clip",
        "-1",
    ]
    asked = parse(["transcode", "--clip", "-0:30", "a.mp4", "-o", "x"])
    assert asked.profile.clip == Clip(Fraction(0), Fraction(30))


def plan_of(source: MediaInfo, clip: str, *, top: TopPolicy = "auto") -> Plan:
    return make_plan(source, make_profile(top=top, clip=parse_clip(clip)))


def test_the_first_picture_is_at_or_after_the_start() -> None:
    """24 frames a second: 10.01 s lies between pictures 240 and 241, 20 s is picture 480."""
    plan = plan_of(sources.COMPLIANT, "10.01-20", top="encode")
    assert (plan.lead_frames, sum(plan.timeline.frames)) == (241, 480 - 241)
    assert plan.timeline.origin_s == Fraction(241, 24)
    assert plan.film_s == plan.grid_s == 0


def test_a_clip_beyond_the_end_ends_there() -> None:
    plan = plan_of(sources.COMPLIANT, "29-40", top="encode")
    assert sum(plan.timeline.frames) == 24
    assert any("ends with the film" in line for line in plan.warnings)


@pytest.mark.parametrize("source", [sources.COMPLIANT, sources.SONG])
def test_a_clip_outside_of_the_film(source: MediaInfo) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(source, "1000-1010")
    assert caught.value.code == "clip_outside"


@pytest.mark.parametrize("clip", ["10.001-10.002", "29.99-"])
def test_a_clip_without_a_picture(clip: str) -> None:
    """The last picture of 30 s at 24 a second begins at 29.958 s."""
    with pytest.raises(UsageError, match="no picture begins") as caught:
        plan_of(sources.COMPLIANT, clip)
    assert caught.value.code == "clip_invalid"


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ("10-20", None),
        ("9.97-20", None),  # picture 240 is the first at or after it
        ("10-", None),
        ("-20", None),
        ("10-30", None),
        ("9.9-20", "does not begin with an IDR picture"),
        ("10-21", "does not end before an IDR picture"),
    ],
)
def test_what_is_copied_begins_and_ends_with_an_idr_picture(clip: str, reason: str | None) -> None:
    """An IDR picture every 2 s: every even second."""
    plan = plan_of(sources.COMPLIANT, clip)
    assert (plan.copied is None) == (reason is not None)
    assert [line for line in plan.copy_refusals if reason and reason in line] or reason is None
    if reason is None:
        asked = parse_clip(clip)
        start = max(0, round(asked.start_s))
        end = 30 if asked.end_s is None else asked.end_s
        assert plan.timeline.duration_s == end - start
        assert plan.timeline.origin_s == start
        assert sum(plan.timeline.frames) == 24 * (end - start)


def test_a_copy_needs_the_key_picture_before_to_lie_well_before() -> None:
    picture = replace(sources.PICTURE, index_table=sources.table([48] * 4 + [16] + [48] * 10))
    source = replace(sources.COMPLIANT, video=(picture,))
    refused = plan_of(source, "8.666-20.666")
    assert "the IDR picture of the clip comes too soon after another" in refused.copy_refusals


def test_a_film_that_begins_between_key_pictures_is_encoded() -> None:
    """Its first ten pictures refer to one that was cut off."""
    whole = sources.table([48] * 10)
    first = replace(whole.keyframes[0], frame=10, ticks=10 * 512)
    cut_off = replace(whole, keyframes=(first, *whole.keyframes[1:]))
    source = replace(sources.COMPLIANT, video=(replace(sources.PICTURE, index_table=cut_off),))
    refused = plan_of(source, "0.4-12")
    assert refused.copied is None
    assert refused.copy_refusals == ("does not start with an IDR picture",)


def test_a_clip_that_begins_with_the_first_picture_of_a_late_one_is_copied_without_a_seek() -> None:
    """Sound is there from 0, the picture from 1 s on: no key picture comes before the clip's."""
    late = replace(sources.table([48] * 14), first_ticks=12288, end_ticks=29 * 12288)
    keys = tuple(replace(key, ticks=key.ticks + 12288) for key in late.keyframes)
    picture = replace(
        sources.PICTURE,
        start_s=Fraction(1),
        end_s=Fraction(29),
        index_table=replace(late, keyframes=keys),
    )
    plan = plan_of(replace(sources.COMPLIANT, video=(picture,)), "1-5", top="copy")
    copied = copy_video(Path("ffmpeg"), plan, Path("film.mp4"))
    assert copied[copied.index("-frames:v") + 1] == str(4 * 24)
    assert "-ss" not in copied


def test_a_file_of_sound_is_cut_too() -> None:
    outputs = (parse_output("hls"), parse_output("aac"))
    for source in (sources.COMPLIANT, sources.SONG):
        (whole,) = make_plan(source, make_profile(outputs)).files
        (cut,) = make_plan(source, make_profile(outputs, clip=parse_clip("4-8"))).files
        assert (whole.copy, cut.copy) == (True, False)


def test_an_uneven_source_is_copied_from_the_very_time_of_a_picture() -> None:
    assert sources.PICTURE.index_table is not None
    uneven = replace(sources.PICTURE.index_table, regular=False)
    picture = replace(sources.PICTURE, index_table=uneven, variable_rate=True)
    source = replace(sources.COMPLIANT, video=(picture,))
    assert plan_of(source, "10-20").copied is not None
    assert plan_of(source, "9.99-20").copied is None


def test_a_copied_clip_goes_over_to_an_encoded_one() -> None:
    plan = encoded_instead(plan_of(sources.COMPLIANT, "10-20"))
    assert plan is not None
    assert plan.copied is None
    assert plan.timeline.origin_s == 10


def test_sound_is_what_the_clip_has_of_it() -> None:
    plan = plan_of(sources.COMPLIANT, "10-20")
    assert plan.audio is not None
    assert [plan.audio.start_s, plan.audio.end_s] == [10, 20]
    assert [sound.mode for sound in plan.sounds] == ["encode"]
    assert plan.track(plan.sounds[0]).end_s == 20
    timeless = replace(sources.SOUND, start_s=None)
    assert within(timeless, Fraction(1), Fraction(2)) == timeless
    before = within(
        replace(sources.SOUND, start_s=Fraction(0), end_s=Fraction(5)), *map(Fraction, (10, 20))
    )
    assert [before.start_s, before.end_s] == [10, 10]


def test_a_clip_of_sound_alone() -> None:
    profile = make_profile((parse_output("mp3"), parse_output("hls")), clip=parse_clip("3-10"))
    plan = make_plan(sources.SONG, profile)
    assert plan.timeline.duration_s == 7
    assert [sound.mode for sound in plan.sounds] == ["encode"]


def test_a_clip_without_sound_is_silent_and_makes_no_file_of_it() -> None:
    sound = replace(sources.SOUND, end_s=Fraction(5))
    source = replace(sources.COMPLIANT, audio=(sound,))
    assert plan_of(source, "10-20").sounds
    outputs = (parse_output("mp3"), parse_output("hls"))
    assert make_plan(source, make_profile(outputs, clip=parse_clip("4-20"))).files
    with pytest.raises(UsageError) as caught:
        make_plan(source, make_profile(outputs, clip=parse_clip("10-20")))
    assert caught.value.code == "clip_outside"


def test_a_copy_that_seeks_badly_is_needed_for_one_chunk_too() -> None:
    """Entered in the middle, a transport stream loses pictures."""
    plan = plan_of(sources.BROADCAST, "11-15")
    assert len(plan.chunks) == 1
    assert plan.working_copy
    assert plan.reads_copy(plan.step("encode-0000"))
    assert not plan_of(sources.BROADCAST, "-15").working_copy
