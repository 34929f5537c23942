"""What happened, in plain words and figures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from tests.unit.sources import (
    BROADCAST,
    COMPLIANT,
    FILM,
    HDR10,
    LONG_SOUND,
    NO_INDEX,
    PAL,
    PHONE,
    PICTURE,
    SHORT_SOUND,
    SILENT,
    SONG,
    SOUND,
    SURROUND_ONLY,
    UHD60,
    media,
)

from telecine.engine.manifests import Measured
from telecine.engine.media import (
    AudioStream,
    Color,
    MediaInfo,
    OtherStream,
    SubtitleStream,
    VideoStream,
)
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.report import changes, describe, make_report
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.steps.encode import StepResult
from telecine.engine.steps.work import MadeFile
from telecine.engine.words.clip import parse_clip


def test_a_source_in_plain_words() -> None:
    # 12,345,678 bytes.
    assert describe(COMPLIANT) == (
        "mov, 30.00 s, 12.3 MB",
        "h264 1920×1080, 24.000 frames/s",
        "aac stereo, 48 kHz, eng",
    )
    assert describe(PHONE) == (
        "mov, 12.50 s, 12.3 MB",
        "hevc 1920×1080, variable, mean 29.700 frames/s, rotated 90°, HDR (HLG)",
        "aac stereo, 44.1 kHz, eng",
        "1 data stream (bin_data), not transcoded",
    )
    assert describe(PAL)[1] == (
        "mpeg2video 720×576, 25.000 frames/s, pixels 16:15, interlaced, top field first"
    )
    assert describe(SONG)[2:] == ("1 cover picture (mjpeg), not transcoded",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (replace(PICTURE, mirrored=True), "mirrored"),
        (replace(PICTURE, field_order="bff"), "interlaced, bottom field first"),
        (replace(PICTURE, color=Color(transfer="smpte2084"), bit_depth=10), "HDR (PQ)"),
        (
            replace(PICTURE, color=Color(transfer="arib-std-b67"), dynamic=("Dolby Vision 8.4",)),
            "HDR (HLG, Dolby Vision 8.4)",
        ),
        (replace(PICTURE, bit_depth=10), "10 bits"),
    ],
)
def test_words_for_a_picture(changed: VideoStream, words: str) -> None:
    assert describe(media(changed))[1] == f"h264 1920×1080, 24.000 frames/s, {words}"


def test_a_picture_without_a_rate_and_sound_without_a_layout() -> None:
    source = media(
        replace(PICTURE, rate=None), replace(SOUND, channels=3, channel_layout="", language=None)
    )
    assert describe(source)[1:] == ("h264 1920×1080", "aac 3 channels, 48 kHz")


def test_several_of_a_kind_are_counted() -> None:
    others = (
        OtherStream(2, "data", "mebx"),
        OtherStream(3, "data", "bin_data"),
        OtherStream(4, "data", "mebx"),
        OtherStream(5, "attachment", "unknown"),
    )
    assert describe(media(other=others))[3:] == (
        "3 data streams (bin_data, mebx), not transcoded",
        "1 attachment, not transcoded",
    )


def test_each_track_of_subtitles_is_named() -> None:
    tracks = (
        SubtitleStream(2, "text", "subrip", "deu", forced=True),
        SubtitleStream(3, "bitmap", "dvd_subtitle", hearing_impaired=True),
        SubtitleStream(0, "captions", "eia_608"),
    )
    assert describe(media(subtitles=tracks))[3:] == (
        "subtitles: subrip, deu, forced",
        "subtitles: dvd_subtitle, pictures, for the hard of hearing",
        "subtitles: eia_608, inside the pictures",
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ("0", "0.00 s"),
        ("59.99", "59.99 s"),
        ("60", "0:01:00.00"),
        ("3599.5", "0:59:59.50"),
        ("3600", "1:00:00.00"),
        ("90061.25", "25:01:01.25"),
        ("119.999", "0:02:00.00"),  # rounded before it is split into minutes
        ("59.999", "0:01:00.00"),
    ],
)
def test_durations_are_read_like_a_clock(seconds: str, shown: str) -> None:
    assert describe(media(duration_s=Fraction(seconds)))[0] == f"mov, {shown}, 12.3 MB"


# --- what a viewer may notice ------------------------------------------------------------------

MIXED = "5.1(side) kept in 5.1, and beside it mixed down to stereo"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (COMPLIANT, ()),
        (SILENT, ()),
        (
            PHONE,
            ("turned upright", "HDR to SDR", "variable frame rate made constant 29.970"),
        ),
        (BROADCAST, ("deinterlaced to 50.000 frames/s", MIXED)),
        (PAL, ("made square pixels", "deinterlaced to 50.000 frames/s")),
        (FILM, (MIXED,)),
        (SURROUND_ONLY, (MIXED,)),
        (UHD60, ()),
        (media(replace(NO_INDEX.video[0], mirrored=True), None), ("turned upright",)),
        (
            media(replace(HDR10.video[0], dynamic=("Dolby Vision 8.1", "HDR10+")), None),
            ("HDR to SDR", "Dolby Vision 8.1 left out", "HDR10+ left out"),
        ),
        (media(replace(NO_INDEX.video[0], has_alpha=True), None), ("transparency dropped",)),
        (
            SHORT_SOUND,
            ("the sound is 10.0 s shorter than the picture: silence fills it",),
        ),
        (LONG_SOUND, ("the sound is 6.0 s longer than the picture",)),
        (media(audio=replace(SOUND, end_s=Fraction("29.9"))), ()),
        (media(audio=replace(SOUND, end_s=Fraction("30.1"))), ()),
        (media(audio=replace(SOUND, end_s=None)), ()),
        # Under a copy a varying rate stays as it is.
        (media(replace(PICTURE, variable_rate=True)), ()),
    ],
)
def test_what_a_viewer_may_notice(source: MediaInfo, said: tuple[str, ...]) -> None:
    assert changes(make_plan(source, make_profile())) == said


@pytest.mark.parametrize("clip", ["5-11", "6-12"])
def test_a_clip_has_no_other_sound_than_its_picture(clip: str) -> None:
    """Encoded, and copied from an IDR picture to another."""
    assert [line.partition(":")[0] for line in changes(clip_of(COMPLIANT, clip))] == [
        "cut to a clip"
    ]
    assert changes(clip_of(SHORT_SOUND, f"{clip[0]}-22"))[1:] == (
        "the sound is 2.0 s shorter than the picture: silence fills it",
    )


def clip_of(source: MediaInfo, words: str) -> Plan:
    return make_plan(source, make_profile(clip=parse_clip(words)))


def test_a_file_has_stereo_alone() -> None:
    plan = make_plan(FILM, make_profile((parse_output("mp4:source"),)))
    assert changes(plan) == ("5.1(side) mixed down to stereo",)


# --- figures -----------------------------------------------------------------------------------

PLAN = make_plan(COMPLIANT, make_profile((parse_output("hls"), parse_output("mp4:720p"))))
RESULTS = (
    StepResult("video-copy", PLAN.id, (), (), 0.25, 0.5, 1000, ("cut off", "odd")),
    StepResult("mp4-720p", PLAN.id, (), (MadeFile("720p.mp4", 77),), 1.5, 2.0, 2000, ("cut off",)),
)
MEASURED = (Measured("1080p", 5, 700, 300, 200), Measured("aac", 6, 70, 30, 20))
FIGURES: dict[str, Any] = {
    "state": "succeeded",
    "version": "1",
    "ffmpeg": "9",
    "sandbox": "landlock",
    "results": RESULTS,
    "measured": MEASURED,
    "probe_s": 0.12345,
    "total_s": 2.98765,
    "time_to_first_play_s": 0.98765,
    "own_cpu_s": 0.5,
}


def test_a_report_of_a_finished_job() -> None:
    report = make_report(PLAN, **FIGURES, verified_rules=23)
    assert report.plan_id == PLAN.id
    assert (report.duration_s, report.frame_rate) == (30.0, 24.0)
    assert report.playlist == "master.m3u8"
    assert (report.probe_s, report.total_s, report.time_to_first_play_s) == (0.123, 2.988, 0.988)
    assert report.cpu_s == 2.25  # 0.25 + 1.5 of children and 0.5 of our own
    assert report.verified_rules == 23
    assert report.error is None
    assert [(file.path, file.size_bytes) for file in report.files] == [("720p.mp4", 77)]
    assert [(s.id, s.wall_s, s.cpu_s, s.peak_rss_bytes) for s in report.steps] == [
        ("video-copy", 0.5, 0.25, 1000),
        ("mp4-720p", 2.0, 1.5, 2000),
    ]
    assert report.warnings == ("cut off", "odd")  # each once
    assert report.top_not_copied == ()
    assert [rung.name for rung in report.dropped] == ["2160p", "1440p"]
    top, *_, sound = report.rungs
    assert (top.name, top.width, top.height, top.mode) == ("1080p", 1920, 1080, "copy")
    assert (top.segments, top.size_bytes, top.peak_bps, top.average_bps) == (5, 700, 300, 200)
    assert (sound.name, sound.mode, sound.segments, sound.size_bytes) == ("aac", "copy", 6, 70)
    assert (sound.width, sound.height) == (0, 0)


def test_a_report_is_plain_json_and_comes_back() -> None:
    report = make_report(PLAN, **FIGURES)
    assert from_plain(type(report), to_plain(report)) == report


def test_an_interrupted_job_says_that_what_plays_stays_valid() -> None:
    figures = {**FIGURES, "state": "interrupted", "measured": ()}
    assert make_report(PLAN, **figures).warnings[-1] == (
        "interrupted: the growing playlists are valid and stop where work stopped"
    )
    early = make_report(PLAN, **{**figures, "time_to_first_play_s": None}, error="interrupted")
    assert early.warnings == ("cut off", "odd")
    assert early.time_to_first_play_s is None
    assert early.error == "interrupted"
    assert {(rung.segments, rung.size_bytes) for rung in early.rungs} == {(0, 0)}


def test_why_the_top_was_not_copied() -> None:
    report = make_report(make_plan(NO_INDEX, make_profile()), **FIGURES)
    assert report.top_not_copied == (
        "the container has no index, and the file is too large to read twice",
    )


def test_files_alone_have_no_playlist_and_sound_alone_no_frame_rate() -> None:
    files = make_report(make_plan(FILM, make_profile((parse_output("poster"),))), **FIGURES)
    assert files.playlist is None
    assert files.rungs == ()
    song = make_report(make_plan(SONG, make_profile()), **FIGURES)
    assert song.frame_rate == 0.0
    assert [rung.name for rung in song.rungs] == ["aac"]


def test_sound_with_unknown_bounds_is_no_difference() -> None:
    unknown: AudioStream = replace(SOUND, start_s=None)
    assert changes(make_plan(media(audio=unknown), make_profile())) == ()
