"""Tracks of sound: which renditions there are, what they are called, and what playlists say of
them, read by parsers that are not ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser  # type: ignore[import-untyped]
from tests.unit.sources import PICTURE, SONG, SOUND, SURROUND, TRACKS, media

from telecine.engine import manifests
from telecine.engine.formats import mpd, playlist
from telecine.engine.media import AudioStream
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.segments import Segment

DEFAULT = make_profile()
AAC_SURROUND = replace(SOUND, channels=6, channel_layout="5.1")


def planned(*tracks: AudioStream, words: Sequence[str] = ("hls",)) -> Plan:
    numbered = tuple(replace(track, index=n) for n, track in enumerate(tracks, start=1))
    return make_plan(media(audio=numbered), make_profile(tuple(map(parse_output, words))))


# --- which renditions ----------------------------------------------------------------------------


def test_every_track_is_there_in_stereo_and_5_1_beside_it() -> None:
    plan = make_plan(TRACKS, DEFAULT)
    assert [(s.name, s.stream, s.group, s.channels, s.mode, s.default) for s in plan.sounds] == [
        ("aac", 1, "stereo", 2, "encode", True),  # of 5.1 AAC, which the next but two is a copy of
        ("aac-2", 2, "stereo", 2, "encode", False),
        ("aac-3", 3, "stereo", 2, "copy", False),
        ("aac-4", 4, "stereo", 2, "encode", False),  # goes on after the film
        ("surround", 1, "surround", 6, "copy", True),
        ("surround-2", 2, "surround", 6, "encode", False),
    ]
    assert [sound.folder for sound in plan.sounds][::4] == ["audio/aac", "audio/surround"]
    assert plan.sound == plan.sounds[0]
    late = "the sound 'English (commentary)' goes on for 6.0 s after the film: cut there"
    assert plan.warnings == (late,)


def test_steps_of_sound_and_what_each_waits_for() -> None:
    steps = {step.id: step for step in make_plan(TRACKS, DEFAULT).steps}
    assert steps["audio"].renditions == ("aac",)
    assert steps["audio-others"].renditions == (
        *("aac-2", "aac-3", "aac-4"),
        *("surround", "surround-2"),
    )
    assert steps["loudness"] == Step("loudness", "loudness", needs=("audio", "audio-others"))
    assert "gain" not in steps
    alone = {step.id: step for step in planned(SOUND).steps}
    assert alone["loudness"].needs == ("audio",)
    assert "audio-others" not in alone


def test_a_loudness_is_measured_before_anything_is_made_and_nothing_is_copied() -> None:
    plan = make_plan(TRACKS, make_profile(loudness_lufs=-16.0))
    steps = {step.id: step for step in plan.steps}
    assert steps["audio"].needs == steps["audio-others"].needs == ("gain",)
    assert [step.id for step in plan.opening] == ["video-copy", "gain", "audio"]
    assert {sound.mode for sound in plan.sounds} == {"encode"}
    assert "its loudness is changed" in plan.sounds[2].reason
    with_file = make_plan(media(), make_profile((parse_output("aac"),), loudness_lufs=-16.0))
    assert [file.copy for file in with_file.files] == [False]


@pytest.mark.parametrize(
    ("track", "mode"),
    [
        (AAC_SURROUND, "copy"),
        (replace(AAC_SURROUND, sample_rate=44_100), "copy"),
        # Any other order stands in the stream itself, where players do not look.
        (replace(AAC_SURROUND, channel_layout="5.1(side)"), "encode"),
        (replace(AAC_SURROUND, channels=8, channel_layout="7.1"), "encode"),
        (replace(AAC_SURROUND, codec_profile="HE-AAC"), "encode"),
        (replace(AAC_SURROUND, end_s=Fraction(36)), "encode"),
        (SURROUND, "encode"),
    ],
)
def test_5_1_is_copied_where_it_is_plain_aac(track: AudioStream, mode: str) -> None:
    plan = planned(SOUND, replace(track, default=False))
    surround = plan.sounds[-1]
    assert (surround.name, surround.group, surround.mode) == ("surround-2", "surround", mode)
    assert surround.sample_rate == (track.sample_rate if mode == "copy" else 48_000)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_fewer_channels_than_six_are_stereo_alone(channels: int) -> None:
    assert [s.name for s in planned(replace(SOUND, channels=channels)).sounds] == ["aac"]


def test_files_alone_have_the_default_track() -> None:
    tracks = (replace(SOUND, default=False), replace(AAC_SURROUND, default=True))
    assert [(s.name, s.stream) for s in planned(*tracks, words=["mp4:source"]).sounds] == [
        ("aac", 2)
    ]
    assert planned(*tracks, words=["mp3"]).sounds == ()


def test_sound_alone_has_all_its_tracks_too() -> None:
    (song,) = SONG.audio
    other = replace(song, index=1, default=False, language="fra")
    longer = replace(other, index=2, end_s=(song.end_s or Fraction(0)) + 1)
    plan = make_plan(replace(SONG, audio=(song, other, longer)), DEFAULT)
    assert [(s.name, s.mode) for s in plan.sounds] == [
        ("aac", "copy"),
        ("aac-2", "copy"),
        ("aac-3", "encode"),
    ]
    assert len(plan.warnings) == 1


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tracks", "titles"),
    [
        ([{}], ["English"]),
        ([{"language": None}], ["Main"]),
        ([{"language": "und"}, {"language": None}], ["Main", "Track 2"]),
        ([{"language": "ger"}, {"language": "deu"}], ["German", "German 2"]),
        ([{"title": "Director's cut"}, {}], ["Director's cut", "English"]),
        ([{"title": 'a "b"\n\x07'}], ["a 'b'"]),
        ([{"title": " \t"}, {"title": "x" * 200}], ["English", "x" * 80]),
        ([{}, {"described": True}], ["English", "English (audio description)"]),
        ([{}, {"commentary": True, "language": None}], ["English", "Commentary"]),
        ([{"title": "A"}, {"title": "A"}, {"title": "A 2"}], ["A", "A 2", "A 2 2"]),
        ([{"language": "yue"}], ["yue"]),
    ],
)
def test_names_are_the_files_else_the_languages_and_never_the_same(
    tracks: list[dict[str, object]], titles: list[str]
) -> None:
    made = planned(*(replace(SOUND, **track) for track in tracks))  # type: ignore[arg-type]
    assert [sound.title for sound in made.sounds] == titles


@pytest.mark.parametrize(
    ("marks", "default"),
    [
        ([{"default": False}, {"default": True}], 2),
        ([{"default": False}, {"default": False}], 1),
        ([{"default": False, "commentary": True}, {"default": False}], 2),
        ([{"default": False, "described": True}, {"default": False}], 2),
        ([{"default": True, "commentary": True}, {"default": False}], 1),  # as the file says
        ([{"default": True}, {"default": True}], 1),
    ],
)
def test_what_plays_by_default(marks: list[dict[str, bool]], default: int) -> None:
    plan = planned(*(replace(SOUND, **mark) for mark in marks))  # type: ignore[arg-type]
    assert [s.stream for s in plan.sounds if s.default] == [default]
    assert plan.sounds[0].stream == default


# --- playlists -----------------------------------------------------------------------------------


def made_of(plan: Plan) -> dict[str, list[Segment]]:
    """Five segments of 6 s: 90 000 bytes of picture or 5.1, 30 000 of stereo."""
    made = {}
    for name in manifests.finished_names(plan):
        voice = plan.voice(name)
        scale = plan.timeline.timescale if voice is None else voice.sample_rate
        size = 30_000 if voice is not None and voice.group == "stereo" else 90_000
        made[name] = [
            Segment(n, 6 * scale * n, 6 * scale, size, 10, ((100, 9000, 6 * scale),))
            for n in range(5)
        ]
    return made


def codecs_of(plan: Plan) -> dict[str, str]:
    return {
        name: "avc1.64001f" if plan.voice(name) is None else "mp4a.40.2"
        for name in manifests.finished_names(plan)
    }


def final(plan: Plan) -> m3u8.M3U8:
    master = manifests.final_master(plan, made_of(plan), codecs_of(plan), {})
    return m3u8.M3U8(playlist.write_multivariant(master))


PLAN = make_plan(TRACKS, make_profile(rungs=(720, 360)))


def test_groups_have_the_same_members_and_each_picture_is_with_both() -> None:
    """RFC 8216, 4.3.4.1.1: identical but for URI and CHANNELS."""
    found = final(PLAN)
    assert [(m.group_id, m.name, m.uri, m.channels) for m in found.media] == [
        ("audio", "Original", "audio/aac/index.m3u8", "2"),
        ("audio", "German", "audio/aac-2/index.m3u8", "2"),
        ("audio", "German (audio description)", "audio/aac-3/index.m3u8", "2"),
        ("audio", "English (commentary)", "audio/aac-4/index.m3u8", "2"),
        ("surround", "Original", "audio/surround/index.m3u8", "6"),
        ("surround", "German", "audio/surround-2/index.m3u8", "6"),
        ("surround", "German (audio description)", "audio/aac-3/index.m3u8", "2"),
        ("surround", "English (commentary)", "audio/aac-4/index.m3u8", "2"),
    ]
    said = [(m.name, m.language, m.default, m.autoselect, m.characteristics) for m in found.media]
    assert said[:4] == said[4:]
    assert said[:4] == [
        ("Original", "en", "YES", "YES", None),
        ("German", "de", "NO", "YES", None),
        (
            *("German (audio description)", "de", "NO", "YES"),
            "public.accessibility.describes-video",
        ),
        ("English (commentary)", "en", "NO", "NO", None),
    ]
    variants = [(v.uri, v.stream_info.audio) for v in found.playlists]
    assert variants == [
        (f"video/{rung}/index.m3u8", group)
        for group in ("audio", "surround")
        for rung in ("720p", "360p")
    ]


def test_bandwidth_counts_the_largest_sound_of_the_group() -> None:
    # 90 000 bytes in 6 s are 120 kb/s, 30 000 are 40.
    rates = {(v.uri, v.stream_info.audio): v.stream_info.bandwidth for v in final(PLAN).playlists}
    assert rates["video/720p/index.m3u8", "audio"] == 160_000
    assert rates["video/720p/index.m3u8", "surround"] == 240_000


def test_a_growing_film_has_the_sound_that_plays_by_default() -> None:
    assert manifests.growing_names(PLAN) == ("720p", "360p", "aac")
    master = manifests.growing_master(PLAN, ("360p",), codecs_of(PLAN))
    found = m3u8.M3U8(playlist.write_multivariant(master))
    assert [(m.uri, m.name, m.default) for m in found.media] == [
        ("audio/aac/growing.m3u8", "Original", "YES")
    ]


def test_sound_alone_with_a_choice_names_a_group() -> None:
    (song,) = SONG.audio
    plan = make_plan(replace(SONG, audio=(song, replace(song, index=1, default=False))), DEFAULT)
    found = final(plan)
    assert [(v.uri, v.stream_info.audio) for v in found.playlists] == [
        ("audio/aac/index.m3u8", "audio")
    ]
    assert [(m.name, m.uri) for m in found.media] == [
        ("English", "audio/aac/index.m3u8"),
        ("English 2", "audio/aac-2/index.m3u8"),
    ]


def test_dash_has_a_set_for_each_sound() -> None:
    text = mpd.write_mpd(manifests.mpd(PLAN, made_of(PLAN), codecs_of(PLAN), {}))
    (period,) = MPEGDASHParser.parse(text).periods
    sounds = [s for s in period.adaptation_sets if s.content_type == "audio"]
    assert [(s.representations[0].id, s.lang, s.roles[0].value) for s in sounds] == [
        ("aac", "en", "main"),
        ("aac-2", "de", "alternate"),
        ("aac-3", "de", "description"),
        ("aac-4", "en", "commentary"),
        ("surround", "en", "main"),
        ("surround-2", "de", "alternate"),
    ]
    channels = [s.representations[0].audio_channel_configurations[0].value for s in sounds]
    assert channels == ["2", "2", "2", "2", "6", "6"]
    # The parser that is not ours knows neither element: by the text.
    assert text.count("<Label>Original</Label>") == 2
    assert text.count("<Accessibility ") == 1
    assert 'schemeIdUri="urn:tva:metadata:cs:AudioPurposeCS:2007" value="1"' in text
    assert mpd.parse_mpd(text) == manifests.mpd(PLAN, made_of(PLAN), codecs_of(PLAN), {})


def test_one_sound_has_no_label() -> None:
    plan = make_plan(media(PICTURE), DEFAULT)
    assert "<Label>" not in mpd.write_mpd(manifests.mpd(plan, made_of(plan), codecs_of(plan), {}))
