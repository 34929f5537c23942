"""Which subtitles stand in the playlists, which in the pictures, which are left out and why."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from tests.unit.sources import FINGERPRINT, PICTURE, SONG, media

from telecine.engine.errors import UsageError
from telecine.engine.formats.webvtt import Cue
from telecine.engine.media import ExtraInput, MediaInfo, SubtitleFile, SubtitleStream
from telecine.engine.plan import Plan, SubtitleRendition, plan_from_json
from telecine.engine.planning import make_plan
from telecine.engine.planning.subtitles import MAX_TRACKS
from telecine.engine.profile import Profile, make_profile, parse_output
from telecine.engine.steps.subtitling import on_picture, track_cues
from telecine.engine.words.subtitles import (
    MAX_SIDE_CARS,
    Burn,
    SideCar,
    parse_burn,
    parse_side_car,
)

TRACKS = (
    SubtitleStream(2, "text", "subrip", "eng", "English for all", default=True),
    SubtitleStream(3, "text", "ass", "ger", default=True, forced=True),
    SubtitleStream(4, "text", "mov_text", "deu", hearing_impaired=True),
    SubtitleStream(5, "text", "webvtt", "eng"),
    SubtitleStream(6, "text", "subrip"),
    SubtitleStream(7, "bitmap", "hdmv_pgs_subtitle", "fra"),
    SubtitleStream(8, "unreadable", "dvb_teletext"),
    SubtitleStream(PICTURE.index, "captions", "eia_608", hearing_impaired=True),
    SubtitleStream(99, "captions", "eia_608"),
)
FILM = media(subtitles=TRACKS)


def beside(*side_cars: SideCar, guessed: bool = False, cues: int = 3) -> tuple[ExtraInput, ...]:
    facts = SubtitleFile("srt", "cp1252" if guessed else "utf-8", guessed, cues)
    return tuple(
        ExtraInput(each.name, "subtitles", FINGERPRINT, subtitles=facts) for each in side_cars
    )


def planned(source: MediaInfo = FILM, *side_cars: SideCar, burn: Burn | None = None) -> Plan:
    profile = make_profile(subtitles=side_cars, burn=burn)
    return make_plan(source, profile, inputs=beside(*side_cars))


def said(track: SubtitleRendition) -> tuple[object, ...]:
    marks = "D" * track.default + "F" * track.forced + "H" * track.hearing_impaired
    return track.name, track.stream, track.language, track.title, marks


def test_every_track_of_text_becomes_a_rendition_as_the_file_marks_it() -> None:
    assert [said(track) for track in planned().subtitles] == [
        ("en", 2, "en", "English for all", "D"),
        ("de-forced", 3, "de", "German (forced)", "F"),
        ("de-sdh", 4, "de", "German (SDH)", "H"),
        ("en-2", 5, "en", "English", ""),
        ("und", 6, None, "Subtitles", ""),
        ("und-sdh", PICTURE.index, None, "Subtitles (SDH)", "H"),
    ]
    assert [track.folder for track in planned().subtitles][:2] == [
        "subtitles/en",
        "subtitles/de-forced",
    ]
    assert [track.captions for track in planned().subtitles] == [False] * 5 + [True]


def test_what_is_left_out_is_said_with_its_reason() -> None:
    warnings = [line for line in planned().warnings if "subtitles" in line]
    assert warnings == [
        "subtitles of stream 7 (hdmv_pgs_subtitle, fra) are left out: they are pictures, not "
        "text; --burn-subtitle 7 makes them part of the film's",
        "subtitles of stream 8 (dvb_teletext) are left out: they cannot be decoded here",
    ]


def test_two_of_a_group_have_two_names() -> None:
    twins = tuple(SubtitleStream(n, "text", "subrip", "en", "Same") for n in (2, 3, 4))
    tracks = planned(media(subtitles=twins)).subtitles
    assert [track.title for track in tracks] == ["Same", "Same 2", "Same 3"]
    assert [track.name for track in tracks] == ["en", "en-2", "en-3"]


def test_files_beside_the_film_follow_its_own() -> None:
    plan = planned(
        FILM, SideCar("en"), SideCar("pt-br", forced=True), SideCar("fr", hearing_impaired=True)
    )
    assert [said(track) for track in plan.subtitles[6:]] == [
        ("en-3", None, "en", "English 2", ""),
        ("pt-br-forced", None, "pt-br", plan.subtitles[7].title, "F"),
        ("fr-sdh", None, "fr", "French (SDH)", "H"),
    ]
    assert [track.input for track in plan.subtitles[6:]] == [
        "subtitles-en",
        "subtitles-pt-br-forced",
        "subtitles-fr-sdh",
    ]
    step = plan.step("subtitles")
    assert step.inputs == ("subtitles-en", "subtitles-pt-br-forced", "subtitles-fr-sdh")
    assert plan_from_json(plan.to_json()) == plan


def test_one_step_makes_all_and_nobody_waits_for_it_to_play() -> None:
    plan = planned()
    assert [step.kind for step in plan.steps].count("subtitles") == 1
    assert plan.step("subtitles") not in plan.opening
    assert all("subtitles" not in step.needs for step in plan.steps)
    assert not any(step.kind == "subtitles" for step in planned(media()).steps)


def test_what_is_odd_of_a_file_is_said() -> None:
    profile = make_profile(subtitles=(SideCar("en"),))
    plan = make_plan(media(), profile, inputs=beside(SideCar("en"), guessed=True, cues=0))
    assert plan.warnings[-2:] == (
        "subtitles-en: the file does not say its encoding, cp1252 is guessed",
        "subtitles-en: the file has no cue",
    )


def test_a_file_that_was_not_read_is_named() -> None:
    with pytest.raises(UsageError) as raised:
        make_plan(media(), make_profile(subtitles=(SideCar("en"),)))
    assert raised.value.code == "input_missing"


def test_without_playlists_or_pictures_there_are_none() -> None:
    assert make_plan(FILM, make_profile((parse_output("mp4:480p"),))).subtitles == ()
    song = make_plan(replace(SONG, subtitles=TRACKS[:2]), make_profile())
    assert song.subtitles == ()
    assert "no video: 2 tracks of subtitles are left out" in song.warnings


def test_more_tracks_than_a_menu_shows_are_left_out() -> None:
    many = tuple(SubtitleStream(n, "text", "subrip", "en") for n in range(2, 42))
    plan = planned(media(subtitles=many))
    assert len(plan.subtitles) == MAX_TRACKS == 32
    assert "40 tracks of subtitles: the first 32 are kept" in plan.warnings


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found", "name"),
    [
        ("en", SideCar("en"), "subtitles-en"),
        ("eng", SideCar("en"), "subtitles-en"),
        ("de:forced", SideCar("de", forced=True), "subtitles-de-forced"),
        ("fr:sdh", SideCar("fr", hearing_impaired=True), "subtitles-fr-sdh"),
    ],
)
def test_a_side_car_in_words(text: str, found: SideCar, name: str) -> None:
    assert parse_side_car(text) == found
    assert found.name == name


@pytest.mark.parametrize("text", ["", "und", "en:", "en:loud", "../en", "e", "en fr", "x" * 40])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_side_car(text)
    assert raised.value.code == "subtitle_invalid"


def test_the_same_file_twice_and_too_many() -> None:
    with pytest.raises(UsageError) as raised:
        make_profile(subtitles=(SideCar("en"), SideCar("en")))
    assert raised.value.code == "subtitle_twice"
    codes = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    with pytest.raises(UsageError) as raised:
        make_profile(subtitles=tuple(SideCar(code) for code in codes[: MAX_SIDE_CARS + 1]))
    assert raised.value.code == "subtitle_invalid"


@pytest.mark.parametrize(
    ("text", "burn"), [("en", Burn("en", None)), ("ger", Burn("de", None)), ("12", Burn(None, 12))]
)
def test_what_to_burn_in_in_words(text: str, burn: Burn) -> None:
    assert parse_burn(text) == burn


@pytest.mark.parametrize("text", ["", "und", "-1", "1234", "movie=/etc/passwd"])
def test_other_words_for_what_to_burn_in(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_burn(text)
    assert raised.value.code == "subtitle_invalid"


# --- burnt in ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "kind", "stream"),
    [
        ("fr", "bitmap", 7),
        ("7", "bitmap", 7),
        ("en", "text", 2),
        ("de", "text", 3),
        ("5", "text", 5),
    ],
)
def test_what_becomes_part_of_the_pictures(word: str, kind: str, stream: int) -> None:
    burned = planned(burn=parse_burn(word)).burned_in
    assert burned is not None
    assert (burned.kind, burned.stream, burned.input) == (kind, stream, None)


def test_a_file_beside_the_film_can_be_burnt_in() -> None:
    plan = planned(media(), SideCar("it"), burn=Burn("it", None))
    assert plan.burned_in is not None
    assert (plan.burned_in.kind, plan.burned_in.input) == ("text", "subtitles-it")


def test_pictures_with_subtitles_in_them_are_no_copy() -> None:
    assert planned().copied is not None
    plan = planned(burn=Burn("en", None))
    assert plan.copied is None
    assert "subtitles are burnt into it" in plan.copy_refusals


@pytest.mark.parametrize("word", ["ja", "8", "42", "99"])
def test_subtitles_that_are_not_there_cannot_be_burnt_in(word: str) -> None:
    with pytest.raises(UsageError, match="was asked for") as raised:
        planned(burn=parse_burn(word))
    assert raised.value.code == "burn_unknown"


# --- times ---------------------------------------------------------------------------------------


def test_a_time_that_a_coarse_clock_rounded_is_that_of_its_picture() -> None:
    timeline = planned(media(replace(PICTURE, index_table=None))).timeline
    assert timeline.rate == 24
    # Picture 1 is shown from 41.667 ms; Matroska says 42.
    assert on_picture(timeline, Fraction(42, 1000)) == Fraction(1, 24)
    assert on_picture(timeline, Fraction(44, 1000)) == Fraction(44, 1000)
    kept = planned().timeline
    assert on_picture(kept, Fraction(42, 1000)) in (Fraction(42, 1000), Fraction(1, 24))


def cues(*told: tuple[int, int | None, str | None, str], track: int = 0) -> list[Cue]:
    plan = planned(media(replace(PICTURE, index_table=None), subtitles=TRACKS[:1]))
    return track_cues(plan, plan.subtitles[track], "", list(told))


def test_what_a_track_tells_becomes_cues_on_the_films_clock() -> None:
    event = "0,0,Default,,0,0,0,,{\\i1}a < b"
    assert cues(
        (2_000_000, 3_000_000, "line:0 region:x", "<script>s</script>"),
        (1_000_000, 2_000_000, None, event),
        (29_000_000, 99_000_000, None, event),
        (-5_000_000, -1, None, event),
    ) == [
        Cue(1000, 2000, "<i>a &lt; b</i>"),
        Cue(2000, 3000, "s", "line:0"),
        Cue(29_000, 30_000, "<i>a &lt; b</i>"),
    ]


def test_a_text_without_an_end_lasts_to_the_next_or_ten_seconds() -> None:
    assert [
        (cue.start_ms, cue.end_ms)
        for cue in cues(
            (1_000_000, None, "", "a"), (1_000_000, None, "", "b"), (4_000_000, None, "", "c")
        )
    ] == [(1000, 4000), (1000, 4000), (4000, 14_000)]


def test_times_of_a_file_count_from_the_films_start() -> None:
    late = replace(PICTURE, start_s=Fraction(5), end_s=Fraction(35), index_table=None)
    profile = Profile(subtitles=(SideCar("en"),))
    source = media(late, None, start_s=Fraction(5), subtitles=TRACKS[:1])
    plan = make_plan(source, profile, inputs=beside(SideCar("en")))
    assert plan.timeline.origin_s == 5
    own, file = plan.subtitles
    told: list[tuple[int, int | None, str | None, str]] = [(6_000_000, 7_000_000, "", "x")]
    assert track_cues(plan, own, "", told) == [Cue(1000, 2000, "x")]
    assert track_cues(plan, file, "", told) == [Cue(6000, 7000, "x")]
