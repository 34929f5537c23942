"""Plans: golden files, timelines and refusals computed by hand, rules that hold for any source."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit import goldens
from tests.unit.sources import (
    BROADCAST,
    COMPLIANT,
    DEFAULT_KEYINT,
    EARLY_SOUND,
    FILM,
    LATE_SOUND,
    LONG_SOUND,
    NO_INDEX,
    ODD,
    PAL,
    PHONE,
    PICTURE,
    SEVERAL,
    SHORT_SOUND,
    SILENT,
    SONG,
    SOUND,
    SURROUND,
    SURROUND_ONLY,
    lasting,
    media,
    table,
)

from telecine.engine.copying import audio_copy_refusals
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.media import AudioStream, Color, FrameIndex, Keyframe, MediaInfo, VideoStream
from telecine.engine.plan import Plan, Span, Step, copied_load, display_of, plan_from_json
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.profile import Output, Profile, make_profile, parse_output

DEFAULT = make_profile()
HLS = Profile((Output("hls"),))


def asking(*words: str) -> Profile:
    return make_profile(tuple(parse_output(word) for word in words))


def step_ids(plan: Plan) -> list[str]:
    return [step.id for step in plan.steps]


@pytest.mark.parametrize("case", goldens.CASES)
def test_golden_plans(case: str) -> None:
    goldens.check(f"{case}.plan.json", make_plan(*goldens.CASES[case]).to_json())


@pytest.mark.parametrize("case", goldens.CASES)
def test_a_plan_travels_as_json(case: str) -> None:
    plan = make_plan(*goldens.CASES[case])
    again = plan_from_json(plan.to_json())
    assert again == plan
    assert again.id == plan.id


def test_another_source_or_profile_is_another_plan() -> None:
    ids = {make_plan(*case).id for case in goldens.CASES.values()}
    assert len(ids) == len(goldens.CASES)


# --- constant timelines ------------------------------------------------------------------------


# By hand: a GOP is round(2 × rate) frames, a segment three GOPs; what is left over is the last one.
@pytest.mark.parametrize(
    ("rate", "seconds", "timescale", "ticks", "frames"),
    [
        ("24", 30, 24_000, 1000, [144] * 5),
        ("24000/1001", 60, 24_000, 1001, [144] * 9 + [143]),  # 1438.56 → 1439 frames
        ("25", 13, 25_000, 1000, [150, 150, 25]),
        ("30000/1001", 10, 30_000, 1001, [180, 120]),  # 299.7 → 300
        ("50", 6, 50_000, 1000, [300]),
        ("60000/1001", 7, 60_000, 1001, [360, 60]),  # 419.58 → 420
        ("25/2", 7, 25_000, 2000, [75, 13]),  # 87.5 → 88, ties to the even one
        ("24", 0, 24_000, 1000, [1]),  # never without a picture
    ],
)
def test_constant_timelines(
    rate: str, seconds: int, timescale: int, ticks: int, frames: list[int]
) -> None:
    picture = replace(PICTURE, rate=Fraction(rate))
    timeline = make_plan(lasting(seconds, picture, None), Profile(top="encode")).timeline
    assert timeline.constant
    assert timeline.rate == Fraction(rate)
    assert (timeline.timescale, timeline.frame_ticks) == (timescale, ticks)
    assert list(timeline.frames) == frames
    assert timeline.segments == len(frames)
    assert list(timeline.boundaries) == [n * ticks for n in itertools.accumulate([0, *frames])]
    assert timeline.duration_s == Fraction(sum(frames)) / Fraction(rate)
    assert timeline.time_s(1) == Fraction(frames[0]) / Fraction(rate)
    assert timeline.target_duration_s == 6


@pytest.mark.parametrize(("rate", "target"), [("1/4", 12), ("1/2", 6), ("1", 6), ("2/5", 8)])
def test_the_target_duration_of_very_slow_sources(rate: str, target: int) -> None:
    # 0.4 frames/s: a GOP of round(0.8) = 1 frame, a segment of 3 frames is 7.5 s: rounds to 8.
    picture = replace(PICTURE, rate=Fraction(rate))
    plan = make_plan(lasting(60, picture, None), Profile(top="encode"))
    assert plan.timeline.target_duration_s == target


@pytest.mark.parametrize(
    ("seconds", "chunks"),
    [
        (6, [(0, 1)]),
        (30, [(0, 5)]),
        (31, [(0, 3), (3, 6)]),
        (54, [(0, 4), (4, 9)]),
        (60, [(0, 5), (5, 10)]),
        (90, [(0, 5), (5, 10), (10, 15)]),
    ],
)
def test_chunks_are_even_and_of_half_a_minute_at_most(
    seconds: int, chunks: list[tuple[int, int]]
) -> None:
    plan = make_plan(lasting(seconds), Profile(top="encode"))
    assert [(chunk.first, chunk.end) for chunk in plan.chunks] == chunks
    assert [chunk.index for chunk in plan.chunks] == list(range(len(chunks)))


def keyed(seconds: int, *keyframes_s: int) -> MediaInfo:
    """A film of 24 frames/s with keyframes at just these seconds."""
    gops = [24 * (end - start) for start, end in itertools.pairwise((*keyframes_s, seconds))]
    film = lasting(seconds)
    return replace(film, video=(replace(film.video[0], index_table=table(gops)),))


@pytest.mark.parametrize(
    ("keyframes_s", "edges"),
    [
        (range(0, 120, 10), [0, 30, 60, 90, 120]),
        # 15 s of decoding for nothing are borne, more are not: 30 s less 15 is the latest keyframe.
        ((0, 15, 45, 75), [0, 30, 60, 90, 120]),
        # At 30 s nothing nearer than 0; at 60 the keyframe is there, but a frame before is needed.
        ((0, 60), [0, 66, 120]),
        ((0,), [0, 120]),
    ],
)
def test_chunks_start_where_a_keyframe_is_near(
    keyframes_s: Sequence[int], edges: list[int]
) -> None:
    plan = make_plan(keyed(120, *keyframes_s), Profile(top="encode"))
    assert [6 * chunk.first for chunk in plan.chunks] == edges[:-1]
    assert 6 * plan.chunks[-1].end == edges[-1]


def test_a_film_that_cannot_be_cut_says_so() -> None:
    plan = make_plan(keyed(600, 0), Profile(top="encode"))
    assert "few keyframes: up to 600 s are encoded in one piece" in plan.warnings
    short = make_plan(keyed(60, 0), Profile(top="encode"))
    assert not any("keyframes" in warning for warning in short.warnings)


def test_where_the_segments_of_picture_and_sound_lie() -> None:
    plan = make_plan(COMPLIANT, DEFAULT)
    assert (plan.folder_of("360p"), plan.folder_of("aac")) == ("video/360p", "audio/aac")
    # Made only for a file: beside what is published.
    unlisted = make_plan(COMPLIANT, asking("mp4:360p"))
    assert unlisted.folder_of("360p") == ".telecine/video/360p"
    assert unlisted.folder_of("aac") == ".telecine/audio/aac"


def test_a_rendition_that_the_plan_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="no rendition '9p'") as raised:
        make_plan(COMPLIANT, DEFAULT).rendition("9p")
    assert raised.value.code == "rendition_unknown"


def test_a_plan_without_a_copy_to_go_over_to() -> None:
    copying = make_plan(COMPLIANT, DEFAULT)
    instead = encoded_instead(copying)
    assert instead is not None
    assert instead.copied is None
    assert [r.name for r in instead.renditions] == [r.name for r in copying.renditions]
    assert instead.warnings == ("the source is too damaged to be copied: it is encoded instead",)
    assert [sound.mode for sound in instead.sounds] == ["encode"]
    assert encoded_instead(instead) is None
    with_files = encoded_instead(make_plan(COMPLIANT, asking("hls", "aac")))
    assert with_files is not None
    assert [file.copy for file in with_files.files] == [False]
    assert encoded_instead(make_plan(COMPLIANT, make_profile(top="copy"))) is None


def spans_of(plan: Plan) -> dict[str, list[tuple[str, int, int]]]:
    return {
        step.id: [(span.rendition, span.first, span.end) for span in step.spans]
        for step in plan.steps
        if step.kind == "encode"
    }


def test_the_head_rungs_are_made_ahead_and_go_on_with_the_others() -> None:
    assert spans_of(make_plan(lasting(54), Profile(top="encode"))) == {
        "encode-0000-head": [("480p", 0, 2), ("360p", 0, 2)],
        "encode-0000": [
            *(("1080p", 0, 4), ("720p", 0, 4)),
            *(("480p", 2, 4), ("360p", 2, 4), ("240p", 0, 4)),
        ],
        "encode-0001": [(name, 4, 9) for name in ("1080p", "720p", "480p", "360p", "240p")],
    }


def test_of_a_short_film_one_segment_is_made_ahead() -> None:
    two = ["480p", "360p"]
    short = spans_of(make_plan(lasting(30), Profile(top="encode", rungs=(720, 480, 360))))
    assert short["encode-0000-head"] == [(name, 0, 1) for name in two]
    assert short["encode-0000"] == [("720p", 0, 5), ("480p", 1, 5), ("360p", 1, 5)]
    # Of a single segment the others follow by themselves.
    single = spans_of(make_plan(lasting(6), Profile(top="encode", rungs=(720, 480, 360))))
    assert single["encode-0000-head"] == [(name, 0, 1) for name in two]
    assert single["encode-0000"] == [("720p", 0, 1)]


def test_where_every_rung_is_a_head_rung_none_goes_ahead() -> None:
    plan = make_plan(lasting(54), Profile(top="encode", rungs=(480, 360)))
    assert plan.head_segments == 0
    assert list(spans_of(plan)) == ["encode-0000", "encode-0001"]


# --- the copied top rung -----------------------------------------------------------------------


def test_a_compliant_source_is_copied_on_its_own_keyframes() -> None:
    plan = make_plan(COMPLIANT, DEFAULT)
    assert plan.copied is not None
    assert plan.copied.name == "1080p"
    assert plan.copy_refusals == ()
    # A keyframe every 2 s of 512 × 48 ticks; a segment is three: 73728 ticks.
    assert plan.timeline.boundaries == (0, 73_728, 147_456, 221_184, 294_912, 368_640)
    assert plan.timeline.frames == (144,) * 5
    assert plan.timeline.timescale == 12_288
    assert not plan.timeline.constant
    # 144 frames of 10 kB.
    assert copied_load(plan) == [(Fraction(6), 1_440_000)] * 5
    assert [rendition.mode for rendition in plan.renditions] == ["copy", *["encode"] * 4]
    # The source's own reordering; one frame for ours.
    offsets = [rendition.edit_offset_ticks for rendition in plan.renditions]
    assert offsets == [1024, 512, 512, 512, 512]
    # Copied chunks need no head: 30 s is one chunk.
    assert [(chunk.first, chunk.end) for chunk in plan.chunks] == [(0, 5)]


def test_long_gops_make_long_segments() -> None:
    timeline = make_plan(DEFAULT_KEYINT, DEFAULT).timeline
    assert timeline.frames == (250, 250, 220)
    assert timeline.boundaries == (0, 128_000, 256_000, 368_640)
    assert timeline.target_duration_s == 10  # 10.42, and up to 32 ms of sound, rounded


def test_a_cut_lies_as_near_to_six_seconds_as_keyframes_allow() -> None:
    # 4 s GOPs: at 4 s it is 2 s short, at 8 s 2 s long: the earlier of equals.
    even_gops = media(replace(PICTURE, end_s=Fraction(16), index_table=table([96] * 4)), None)
    assert make_plan(even_gops, HLS).timeline.frames == (96, 96, 96, 96)
    # 3.5 s GOPs: 3.5 is 2.5 off, 7 only 1.
    gops = [84] * 4
    odd_gops = media(replace(PICTURE, end_s=Fraction(14), index_table=table(gops)), None)
    assert make_plan(odd_gops, HLS).timeline.frames == (168, 168)


def test_segments_start_at_idrs_and_never_at_recovery_points() -> None:
    index = table([48] * 6)
    keys = tuple(replace(key, idr=n in (0, 4)) for n, key in enumerate(index.keyframes))
    source = media(
        replace(PICTURE, end_s=Fraction(12), index_table=replace(index, keyframes=keys)), None
    )
    plan = make_plan(source, HLS)
    assert plan.copied is not None
    assert plan.timeline.frames == (192, 96)
    assert copied_load(plan) == [(Fraction(8), 1_920_000), (Fraction(4), 960_000)]


def indexed(**changes: Any) -> VideoStream:
    return replace(PICTURE, index_table=replace(table([48] * 15), **changes))


TURNED = "the picture needs cropping, rotating or even sizes"

# Each rule of DESIGN section 5 broken by one changed field of a source that keeps them all.
REFUSALS: dict[str, tuple[MediaInfo, tuple[str, ...]]] = {
    "codec": (media(replace(PICTURE, codec="hevc")), ("hevc is not H.264",)),
    "profile": (
        media(replace(PICTURE, codec_profile="High 10")),
        ("H.264 profile High 10 is not Baseline, Main or High",),
    ),
    "pixels": (
        media(replace(PICTURE, pix_fmt="yuv422p")),
        ("pixels are yuv422p, not 8-bit 4:2:0",),
    ),
    "clock": (
        media(replace(PICTURE, time_base=Fraction(2, 24577))),
        ("the container's clock has no whole number of ticks in a second",),
    ),
    "interlaced": (
        media(replace(PICTURE, field_order="tff")),
        ("field order is tff, not progressive",),
    ),
    "unknown field order": (
        media(replace(PICTURE, field_order="unknown")),
        ("field order is unknown, not progressive",),
    ),
    "pixel shape": (
        media(replace(PICTURE, sar=Fraction(4, 3))),
        (TURNED, "pixels are 4/3, not square"),
    ),
    "rotated": (media(replace(PICTURE, rotation=90)), (TURNED, "the picture must be turned")),
    "upside down": (media(replace(PICTURE, rotation=180)), ("the picture must be turned",)),
    "mirrored": (media(replace(PICTURE, mirrored=True)), ("the picture must be turned",)),
    "odd size": (media(replace(PICTURE, height=1079)), (TURNED,)),
    "HDR": (
        media(replace(PICTURE, color=Color(transfer="smpte2084"))),
        ("HDR must be tone-mapped",),
    ),
    "edits": (
        media(replace(PICTURE, open_edits=True)),
        ("an edit list starts inside a GOP or has several edits",),
    ),
    "two PPS": (
        media(replace(PICTURE, parameter_sets=3)),
        ("not exactly one SPS and one PPS",),
    ),
    "parameter sets in band": (
        media(replace(PICTURE, in_band_parameter_sets=True)),
        ("not exactly one SPS and one PPS",),
    ),
    "fast": (
        media(replace(PICTURE, rate=Fraction(6007, 100))),
        ("60.07 frames a second, more than 60",),
    ),
    "container": (
        media(container="mpegts", seekable=False),
        ("the container mpegts does not seek exactly",),
    ),
    "long sound": (
        media(audio=replace(SOUND, end_s=Fraction("30.51"))),
        ("the sound outlasts the picture by 0.5 s",),
    ),
    "early sound": (
        media(replace(PICTURE, start_s=Fraction("0.11")), replace(SOUND, start_s=Fraction(0))),
        ("the sound starts before the picture",),
    ),
    "no index": (
        NO_INDEX,
        ("the container has no index, and the file is too large to read twice",),
    ),
    "cut off": (media(indexed(damaged_bytes=1)), ("the file is cut off",)),
    "no keyframes": (media(indexed(keyframes=())), ("does not start with an IDR picture",)),
    "starts open": (
        media(indexed(keyframes=(Keyframe(0, 0, 1, idr=False), *table([48] * 15).keyframes[1:]))),
        ("does not start with an IDR picture",),
    ),
    "pictures before the first IDR": (
        media(indexed(keyframes=(Keyframe(512, 1, 1, idr=True),))),
        ("does not start with an IDR picture",),
    ),
    "long GOP": (
        # 253 frames are 10.54 s.
        media(replace(PICTURE, index_table=table([253, 253, 214]))),
        ("IDR pictures are up to 10.5 s apart, more than 10.5 s",),
    ),
    "peak": (
        # 62501 bytes × 24 × 8 = 12.0002 Mb/s; the 1080p ceiling is 6 Mb/s.
        media(replace(PICTURE, index_table=table([48] * 15, frame_bytes=62_501))),
        ("peaks at 12.0 Mb/s, more than twice the rung's 6.0 Mb/s",),
    ),
    "deep reordering": (
        media(indexed(reorder_ticks=6145)),
        ("pictures are sent more than half a second before they are shown",),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_every_rule_refuses_a_copy_with_its_reason(case: str) -> None:
    source, reasons = REFUSALS[case]
    plan = make_plan(source, DEFAULT)
    assert plan.copy_refusals == reasons
    assert plan.copied is None
    with pytest.raises(UsageError, match="cannot be copied") as refused:
        make_plan(source, make_profile(top="copy"))
    assert refused.value.code == "top_not_copyable"
    assert reasons[0] in refused.value.message


# Just inside each bound.
ALLOWED: dict[str, MediaInfo] = {
    "rate": media(replace(PICTURE, rate=Fraction(6006, 100))),
    "no rate": media(replace(PICTURE, rate=None)),
    "sound outlasts": media(audio=replace(SOUND, end_s=Fraction("30.5"))),
    "sound before": media(
        replace(PICTURE, start_s=Fraction("0.1")), replace(SOUND, start_s=Fraction(0))
    ),
    # 252 frames are 10.5 s.
    "gop": media(replace(PICTURE, index_table=table([252, 252, 216]))),
    # 62500 × 24 × 8 = 12 Mb/s.
    "peak": media(replace(PICTURE, index_table=table([48] * 15, frame_bytes=62_500))),
    "reordering": media(indexed(reorder_ticks=6144)),
    "full range": media(replace(PICTURE, pix_fmt="yuvj420p")),
    "baseline": media(replace(PICTURE, codec_profile="Constrained Baseline")),
    "main": media(replace(PICTURE, codec_profile="Main")),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_lies_just_within_a_bound_is_copied(case: str) -> None:
    plan = make_plan(ALLOWED[case], make_profile(top="copy"))
    assert plan.copied is not None


def test_a_source_that_could_be_copied_is_encoded_where_that_is_asked() -> None:
    plan = make_plan(COMPLIANT, make_profile(top="encode"))
    assert plan.copied is None
    assert plan.copy_refusals == ()
    assert plan.timeline.constant


def test_a_top_rung_below_the_source_is_no_copy() -> None:
    plan = make_plan(COMPLIANT, make_profile(rungs=(720,)))
    assert plan.copy_refusals == ("the top rung is 1280×720, the source 1920×1080",)


def test_a_steady_rate_with_frames_missing_is_that_rate_and_a_varying_one_its_mean() -> None:
    lossy = replace(PICTURE, rate=Fraction(2390, 100))
    assert make_plan(media(replace(lossy)), HLS).timeline.rate == Fraction(239, 10)
    varying = replace(indexed(regular=False), rate=Fraction(235, 10), variable_rate=True)
    assert make_plan(media(varying), HLS).timeline.rate == Fraction(235, 10)
    unknown = replace(indexed(regular=False), rate=None, nominal_rate=Fraction(24))
    assert make_plan(media(unknown), HLS).timeline.rate == 24


def test_sound_that_outlasts_a_copied_picture_holds_its_last_frame() -> None:
    plan = make_plan(media(audio=replace(SOUND, end_s=Fraction("30.5"))), HLS)
    assert plan.copied is not None
    assert plan.timeline.boundaries[-1] == 374_784  # 30.5 × 12288
    assert plan.timeline.frames == (144,) * 5


def test_frames_far_apart_are_encoded_without_b_frames_under_a_copy() -> None:
    # Half a second is 6144 ticks.
    at, beyond = (make_plan(media(indexed(max_gap_ticks=gap)), HLS) for gap in (6144, 6145))
    assert [(r.b_frames, r.edit_offset_ticks) for r in at.renditions[1:]] == [(3, 6144)] * 4
    assert [(r.b_frames, r.edit_offset_ticks) for r in beyond.renditions[1:]] == [(0, 0)] * 4
    assert beyond.renditions[0].edit_offset_ticks == 1024


# --- copied sound ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(SOUND, codec="mp3", codec_profile=None), "mp3 is not AAC-LC"),
        (replace(SOUND, codec_profile="HE-AAC"), "aac HE-AAC is not AAC-LC"),
        (
            replace(SOUND, configured=False),
            "ADTS frames, whose configuration is in no header",
        ),
        (replace(SOUND, channels=1), "1 channel(s), not stereo"),
        (replace(SOUND, sample_rate=32_000), "32000 Hz"),
        (replace(SOUND, frame_samples=960), "frames of unknown or odd length"),
        (replace(SOUND, gap_s=Fraction("0.011")), "a hole of 0.01 s"),
        (replace(SOUND, start_s=Fraction("0.101")), "starts later than the picture"),
        (replace(SOUND, start_s=None), "starts later than the picture"),
        (replace(SOUND, start_s=Fraction("-0.101")), "starts before the timeline"),
        (replace(SOUND, end_s=Fraction("29.899")), "ends before the picture"),
        (replace(SOUND, end_s=None), "ends before the picture"),
    ],
)
def test_every_rule_refuses_to_copy_sound_with_its_reason(
    changed: AudioStream, reason: str
) -> None:
    assert audio_copy_refusals(changed, Fraction(0), Fraction(30)) == (reason,)


@pytest.mark.parametrize(
    "changed",
    [
        SOUND,
        replace(SOUND, sample_rate=44_100),
        replace(SOUND, gap_s=Fraction("0.01")),
        replace(SOUND, start_s=Fraction("0.1")),
        replace(SOUND, start_s=Fraction("-0.1")),
        replace(SOUND, end_s=Fraction("29.9")),
    ],
)
def test_sound_just_within_the_bounds_is_copied(changed: AudioStream) -> None:
    assert audio_copy_refusals(changed, Fraction(0), Fraction(30)) == ()
    sound = make_plan(media(audio=changed), HLS).sound
    assert sound is not None
    assert (sound.mode, sound.sample_rate) == ("copy", changed.sample_rate)


def test_copied_sound_of_unknown_rate_is_promised_what_ours_would_take() -> None:
    sound = make_plan(media(audio=replace(SOUND, bitrate_bps=None)), HLS).sound
    assert sound is not None
    assert sound.bitrate_bps == 128_000


# --- spans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "origin", "duration"),
    [
        (LATE_SOUND, "0", "30"),
        (LONG_SOUND, "0", "36"),  # the last picture is held for it
        (SHORT_SOUND, "0", "30"),
        (EARLY_SOUND, "0", "30"),  # a second of sound comes first: the first picture is held
        (BROADCAST, "1.4", "40"),
        # 100 ms more or less are no content, one tick beyond is.
        (media(audio=replace(SOUND, end_s=Fraction("30.1"))), "0", "30"),
        (
            media(replace(NO_INDEX.video[0], start_s=Fraction("0.101"))),
            "0",
            "30",
        ),
        (media(replace(NO_INDEX.video[0], start_s=Fraction(1, 10))), "0.1", "29.9"),
        # Priming before 0 is played by nobody.
        (
            media(replace(NO_INDEX.video[0]), replace(SOUND, start_s=Fraction(-1))),
            "0",
            "30",
        ),
        # … nor is sound that is over before the picture starts.
        (
            media(
                replace(NO_INDEX.video[0], start_s=Fraction(5)),
                replace(SOUND, start_s=Fraction(-2), end_s=Fraction(-1)),
            ),
            "5",
            "25",
        ),
        (media(replace(NO_INDEX.video[0], start_s=None, end_s=None), None), "0", "30"),
        (media(replace(NO_INDEX.video[0]), replace(SOUND, start_s=None, end_s=None)), "0", "30"),
    ],
)
def test_what_the_timeline_spans(source: MediaInfo, origin: str, duration: str) -> None:
    timeline = make_plan(source, make_profile(top="encode")).timeline
    assert timeline.origin_s == Fraction(origin)
    rate = timeline.rate
    assert timeline.duration_s == round(Fraction(duration) * rate) / rate


# --- display size ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1920, 1080)),
        ({"rotation": 90}, (1080, 1920)),
        ({"rotation": 180}, (1920, 1080)),
        ({"rotation": 270}, (1080, 1920)),
        ({"width": 720, "height": 576, "sar": Fraction(16, 15)}, (768, 576)),
        ({"width": 720, "height": 576, "sar": Fraction(64, 45)}, (1024, 576)),
        ({"width": 1440, "sar": Fraction(2, 3)}, (960, 1080)),
        # Widened first, then turned: 704 × 64:45 = 1001.24…
        (
            {"width": 704, "height": 570, "sar": Fraction(64, 45), "rotation": 270},
            (570, Fraction(704 * 64, 45)),
        ),
    ],
)
def test_display_sizes(changes: dict[str, Any], expected: tuple[Fraction, Fraction]) -> None:
    assert display_of(replace(PICTURE, **changes)) == expected


# --- streams -----------------------------------------------------------------------------------


def test_the_largest_picture_and_the_default_sound_win_and_the_plan_says_so() -> None:
    plan = make_plan(SEVERAL, DEFAULT)
    assert plan.video is not None
    assert plan.audio is not None
    assert (plan.video.index, plan.audio.index) == (2, 3)
    assert plan.warnings == ("2 video streams: stream 2 (1280×720) taken as the largest",)
    files = make_plan(SEVERAL, asking("hls", "mp3"))
    assert files.warnings[1:] == ("2 audio streams: stream 3 (deu) taken for files as the default",)


def test_the_default_picture_wins_over_a_larger_one_and_the_first_sound_without_any() -> None:
    first, second = SEVERAL.video
    plan = make_plan(
        media(
            (replace(first, default=True), second),
            (replace(SOUND, index=3, default=False), replace(SURROUND, index=1, default=False)),
        ),
        asking("mp4:source"),
    )
    assert plan.video is not None
    assert plan.audio is not None
    assert (plan.video.index, plan.audio.index) == (0, 1)
    assert plan.warnings == (
        "2 video streams: stream 0 (640×360) taken as the default",
        "2 audio streams: stream 1 (eng) taken for files as the first",
    )


def test_equal_pictures_give_the_first() -> None:
    _, second = SEVERAL.video
    plan = make_plan(media((replace(second, index=5), second), None), DEFAULT)
    assert plan.video is not None
    assert plan.video.index == 2


def test_the_warnings_of_the_probe_come_first() -> None:
    plan = make_plan(replace(SEVERAL, warnings=("cut off",)), DEFAULT)
    assert plan.warnings[0] == "cut off"


# --- refusals ----------------------------------------------------------------------------------

EMPTY = media(None, None)
TOO_LONG = Fraction(48 * 3600 + 1)


@pytest.mark.parametrize(
    ("source", "profile", "code"),
    [
        (EMPTY, DEFAULT, "no_streams"),
        (EMPTY, asking("mp4:720p"), "no_video"),
        (SONG, asking("mp4:720p"), "no_video"),
        (SILENT, asking("mp3"), "no_audio"),
        (SILENT, asking("hls", "flac"), "no_audio"),
        (EMPTY, asking("mp3"), "no_audio"),
        (media(replace(PICTURE, width=1, height=100), None), DEFAULT, "too_small"),
        (media(replace(PICTURE, width=100, height=1), None), DEFAULT, "too_small"),
        (replace(COMPLIANT, duration_s=TOO_LONG), DEFAULT, "too_long"),
        (media(None, replace(SOUND, end_s=Fraction(0))), DEFAULT, "no_streams"),
    ],
)
def test_refused_sources(source: MediaInfo, profile: Profile, code: str) -> None:
    with pytest.raises(InputRefused) as refused:
        make_plan(source, profile)
    assert refused.value.code == code


def test_the_longest_and_the_smallest_that_are_taken() -> None:
    two_days = Fraction(48 * 3600)
    slow = replace(PICTURE, rate=Fraction(1))
    plan = make_plan(lasting(two_days, slow), make_profile(top="encode"))
    assert plan.timeline.duration_s == two_days
    dot = make_plan(media(replace(PICTURE, width=2, height=2), None), HLS)
    assert [str(rendition.size) for rendition in dot.renditions] == ["2×2"]


# --- outputs and steps -------------------------------------------------------------------------


def test_what_makes_it_playable_comes_first() -> None:
    assert step_ids(make_plan(COMPLIANT, DEFAULT)) == [
        *("video-copy", "encode-0000", "audio", "poster", "loudness"),
    ]
    assert step_ids(make_plan(lasting(54), make_profile(top="encode"))) == [
        *("encode-0000-head", "audio", "poster", "encode-0000", "encode-0001", "loudness"),
    ]


def test_the_two_lowest_useful_rungs_are_the_head() -> None:
    plan = make_plan(NO_INDEX, DEFAULT)
    assert [r.name for r in plan.renditions if r.head] == ["480p", "360p"]
    assert plan.step("encode-0000-head").renditions == ("480p", "360p")


@pytest.mark.parametrize(
    ("rungs", "head"),
    [
        ((1080, 720), ["1080p", "720p"]),
        ((1080,), ["1080p"]),
        ((1080, 240), ["1080p", "240p"]),  # one useful rung alone: the two lowest
        ((480, 240, 144), ["240p", "144p"]),
        ((720, 480, 240, 144), ["720p", "480p"]),
    ],
)
def test_the_head_of_other_ladders(rungs: tuple[int, ...], head: list[str]) -> None:
    plan = make_plan(NO_INDEX, make_profile(rungs=rungs))
    assert [r.name for r in plan.renditions if r.head] == head


def test_a_head_that_is_the_whole_ladder_needs_no_step_of_its_own() -> None:
    plan = make_plan(NO_INDEX, make_profile(rungs=(720, 480)))
    assert step_ids(plan) == ["encode-0000", "audio", "poster", "loudness"]


def test_a_progressive_file_joins_the_ladders_own_rung() -> None:
    plan = make_plan(NO_INDEX, asking("hls", "mp4:720p", "mp4:source"))
    assert [(file.path, file.rendition) for file in plan.files] == [
        ("720p.mp4", "720p"),
        ("source.mp4", "1080p"),
    ]
    assert [rendition.name for rendition in plan.listed] == [
        *("1080p", "720p", "480p", "360p", "240p"),
    ]
    join = plan.step("mp4-720p")
    assert (join.renditions, join.output) == (("720p",), "720p.mp4")
    # The head has 480p and 360p alone: nothing of it is needed.
    assert join.needs == ("audio", "encode-0000")


def test_a_progressive_file_of_a_size_that_the_ladder_lacks_is_made_unlisted() -> None:
    plan = make_plan(NO_INDEX, asking("hls", "mp4:540p", "mp4:2160p"))
    extra = plan.rendition("540p")
    assert not extra.listed
    assert extra.folder == ".telecine/video/540p"
    assert extra.reason == "asked as a file"
    assert [(file.path, file.rendition) for file in plan.files] == [
        ("540p.mp4", "540p"),
        ("2160p.mp4", "1080p"),  # nothing is enlarged
    ]
    assert [r.name for r in plan.renditions] == ["1080p", "720p", "540p", "480p", "360p", "240p"]


def test_a_copied_source_as_a_file_takes_the_copy() -> None:
    plan = make_plan(COMPLIANT, asking("mp4:source"))
    assert plan.copied is not None
    assert [rendition.name for rendition in plan.renditions] == ["1080p"]
    assert plan.listed == ()
    assert plan.sound is None
    assert plan.sounds
    assert step_ids(plan) == ["video-copy", "audio", "loudness", "mp4-source"]
    assert plan.steps[-1] == Step(
        "mp4-source",
        "mp4",
        (Span("1080p", 0, 5),),
        output="source.mp4",
        needs=("video-copy", "audio"),
    )


def test_a_poster_alone_encodes_nothing() -> None:
    plan = make_plan(FILM, asking("poster"))
    assert step_ids(plan) == ["poster"]
    assert plan.copy_refusals == ("no video output",)
    assert plan.renditions == ()
    assert not plan.sounds
    assert not plan.hls


def test_the_poster_comes_from_a_tenth_in_and_never_after_a_minute() -> None:
    assert make_plan(COMPLIANT, DEFAULT).poster_time_s == 3
    assert make_plan(lasting(7200), make_profile(top="encode")).poster_time_s == 60


def test_sound_alone_of_a_film_has_no_picture() -> None:
    plan = make_plan(COMPLIANT, asking("mp3", "aac", "opus@96k", "flac"))
    assert plan.video is None
    assert step_ids(plan) == ["audio", "loudness"]
    assert [(f.path, f.bitrate_bps, f.copy) for f in plan.files] == [
        ("audio.mp3", 192_000, False),
        ("audio.m4a", 160_000, True),  # AAC already, and no rate was asked
        ("audio.opus", 96_000, False),
        ("audio.flac", None, False),
    ]


@pytest.mark.parametrize(
    ("audio", "word", "copied"),
    [
        (SOUND, "aac", True),
        (SOUND, "aac@160k", False),
        (replace(SOUND, configured=False), "aac", False),
        (SURROUND, "aac", False),
    ],
)
def test_when_an_audio_file_is_the_sources_own_frames(
    audio: AudioStream, word: str, copied: bool
) -> None:
    (file,) = make_plan(media(audio=audio), asking(word)).files
    assert file.copy is copied


def test_sound_only_streams_have_a_grid_of_six_seconds() -> None:
    plan = make_plan(SURROUND_ONLY, DEFAULT)
    assert plan.timeline.boundaries == (0, 288_000, 576_000, 864_000, 960_000)
    assert plan.timeline.timescale == 48_000
    assert plan.timeline.origin_s == 0
    assert plan.warnings == ()  # nobody asked for a poster by name
    assert make_plan(SURROUND_ONLY, asking("hls", "mp3", "poster")).warnings == (
        "no video: no poster",
    )
    assert plan.chunks == ()
    song = make_plan(SONG, DEFAULT)
    # 600 × 1024 samples are 13.93 s: 614400 samples at 44.1 kHz.
    assert song.timeline.boundaries == (0, 264_600, 529_200, 614_400)
    assert song.sound is not None
    assert song.sound.mode == "copy"


def test_sound_only_that_starts_late_or_whose_end_is_unknown() -> None:
    late = make_plan(media(None, replace(SOUND, start_s=Fraction(2), end_s=Fraction(10))), HLS)
    assert late.timeline.origin_s == 2
    assert late.timeline.duration_s == 8
    open_end = make_plan(media(None, replace(SOUND, start_s=None, end_s=None)), HLS)
    assert open_end.timeline.duration_s == 30
    primed = make_plan(media(None, replace(SOUND, start_s=Fraction(-1, 20))), HLS)
    assert primed.timeline.origin_s == 0


def test_a_working_copy_is_made_where_chunks_must_be_entered_in_the_middle() -> None:
    assert make_plan(BROADCAST, DEFAULT).working_copy
    one_segment = replace(BROADCAST, video=(replace(BROADCAST.video[0], end_s=Fraction(5)),))
    assert not make_plan(replace(one_segment, audio=()), DEFAULT).working_copy
    assert not make_plan(FILM, DEFAULT).working_copy


def test_fields_and_high_dynamic_range_are_seen() -> None:
    broadcast, phone = make_plan(BROADCAST, DEFAULT), make_plan(PHONE, DEFAULT)
    assert (broadcast.deinterlace, broadcast.tone_map) == (True, False)
    assert broadcast.timeline.rate == 50
    assert (phone.deinterlace, phone.tone_map) == (False, True)
    assert phone.timeline.rate == Fraction(30000, 1001)  # 29.7 varying: nearest within 2 %
    assert phone.renditions[0].size.width == 1080


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (PAL, ["768×576", "480×360", "320×240"]),
        (ODD, ["160×120"]),
        # 720 × 1.25 = 900 > 800; the aspect is 2.4.
        (FILM, ["1920×800", "1152×480", "864×360", "576×240"]),
    ],
)
def test_sizes_of_odd_sources(source: MediaInfo, sizes: list[str]) -> None:
    assert [str(rendition.size) for rendition in make_plan(source, DEFAULT).renditions] == sizes


def test_a_rate_that_only_the_header_knows_or_nobody() -> None:
    header = replace(PICTURE, rate=None, nominal_rate=Fraction(50))
    assert make_plan(lasting(6, header), make_profile(top="encode")).timeline.rate == 50
    nobody = replace(PICTURE, rate=None, nominal_rate=None)
    assert make_plan(lasting(6, nobody), make_profile(top="encode")).timeline.rate == 25


def test_a_table_of_a_coarse_clock_is_read_as_such() -> None:
    # Milliseconds: gaps of 33 and 34 mean 30 frames a second, not 30.03.
    coarse = replace(indexed(usual_gap_ticks=Fraction(333, 10)), rate=Fraction(10_000, 333))
    assert make_plan(media(coarse), make_profile(top="encode")).timeline.rate == 30


def test_a_plan_knows_its_steps_and_no_others() -> None:
    plan = make_plan(COMPLIANT, DEFAULT)
    assert plan.step("audio").kind == "audio"
    with pytest.raises(UsageError) as refused:
        plan.step("encode-9999")
    assert refused.value.code == "step_unknown"


# --- damaged plans -----------------------------------------------------------------------------


def damaged(change: Callable[[dict[str, Any]], object]) -> str:
    plain = json.loads(make_plan(COMPLIANT, DEFAULT).to_json())
    change(plain)
    return json.dumps(plain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        damaged(lambda p: p.update(version=1)),
        damaged(lambda p: p.pop("steps")),
        damaged(lambda p: p.update(more=1)),
        damaged(lambda p: p.update(chunks=None)),
        damaged(lambda p: p["timeline"].update(rate="fast")),
        damaged(lambda p: p["timeline"].update(rate="1/0")),
        damaged(lambda p: p["timeline"].update(rate="1e9")),
        damaged(lambda p: p["timeline"].update(rate=24)),
        damaged(lambda p: p["timeline"].update(boundaries=["0"])),
        damaged(lambda p: p["steps"][0].update(kind="shell")),
        damaged(lambda p: p["steps"][0].update(kind=["encode"])),
        damaged(lambda p: p["profile"].update(top={})),
        damaged(lambda p: p["renditions"][0]["size"].update(width=True)),
        damaged(lambda p: p["timeline"].update(origin_s=None)),
    ],
)
def test_a_damaged_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan_from_json(text)
    assert refused.value.code == "plan_unreadable"


# The characters of st.text(), which finds them by asking UTF-8 for each one there is: a second.
short_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | short_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_texts, inner),
    max_leaves=4,
)
PLAIN: dict[str, Any] = json.loads(make_plan(DEFAULT_KEYINT, DEFAULT).to_json())


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


@given(place=st.sampled_from(_places(PLAIN)[1:]), wrong=plain_values)
def test_any_damage_is_refused_or_another_valid_plan(
    place: tuple[str | int, ...], wrong: object
) -> None:
    plain: Any = json.loads(json.dumps(PLAIN))
    home = plain
    for key in place[:-1]:
        home = home[key]
    home[place[-1]] = wrong
    try:
        plan = plan_from_json(json.dumps(plain))
    except UsageError:
        return
    assert plan_from_json(plan.to_json()) == plan


# --- rules that hold for any source --------------------------------------------------------------


def _keeps_the_rules_of_a_grid(plan: Plan) -> None:
    timeline = plan.timeline
    assert timeline.boundaries[0] == 0
    lengths = [b - a for a, b in itertools.pairwise(timeline.boundaries)]
    assert min(lengths) > 0
    # Apple 8.2 and RFC 8216 4.3.3.1: each duration, rounded, is at most the target duration.
    assert all(
        Fraction(n, timeline.timescale) < timeline.target_duration_s + Fraction(1, 2)
        for n in lengths
    )
    assert len(timeline.frames) == timeline.segments == len(lengths)
    covered = [n for chunk in plan.chunks for n in range(chunk.first, chunk.end)]
    assert covered == list(range(timeline.segments))
    assert all(chunk.first < chunk.end for chunk in plan.chunks)
    assert [chunk.index for chunk in plan.chunks] == list(range(len(plan.chunks)))
    assert plan_from_json(plan.to_json()) == plan


some_rates = st.sampled_from(
    [Fraction(text) for text in ("24000/1001", "24", "25", "30000/1001", "50", "60000/1001", "60")]
) | st.fractions(min_value=1, max_value=240, max_denominator=1001)


@given(
    rate=some_rates,
    duration_s=st.fractions(min_value=0, max_value=4000, max_denominator=90_000),
    start_s=st.fractions(min_value=-5, max_value=100_000, max_denominator=90_000),
    interlaced=st.booleans(),
    variable=st.booleans(),
)
@example(Fraction(24), Fraction(0), Fraction(0), False, False)
def test_any_timeline_keeps_its_rules(
    rate: Fraction, duration_s: Fraction, start_s: Fraction, interlaced: bool, variable: bool
) -> None:
    picture = replace(
        NO_INDEX.video[0],
        rate=rate,
        variable_rate=variable,
        field_order="tff" if interlaced else "progressive",
        start_s=start_s,
        end_s=start_s + duration_s,
    )
    plan = make_plan(media(picture, None), HLS)
    timeline = plan.timeline
    _keeps_the_rules_of_a_grid(plan)
    assert timeline.origin_s == start_s
    assert 0 < timeline.rate <= 60
    assert sum(timeline.frames) == max(1, round(duration_s * timeline.rate))
    assert Fraction(timeline.frame_ticks, timeline.timescale) == 1 / timeline.rate
    counted = itertools.accumulate(timeline.frames, initial=0)
    assert list(timeline.boundaries) == [n * timeline.frame_ticks for n in counted]
    assert timeline.gop_frames is not None
    assert all(frames == 3 * timeline.gop_frames for frames in timeline.frames[:-1])
    assert all(r.gop_frames == timeline.gop_frames for r in plan.renditions)


@st.composite
def keyframe_tables(draw: st.DrawFn) -> FrameIndex:
    """Frames of uneven lengths, of which some are keyframes and most of those IDR."""
    lengths = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=80))
    first = draw(st.integers(-5000, 5000))
    ticks = list(itertools.accumulate(lengths, initial=first))
    marks = draw(st.lists(st.sampled_from("-ki"), min_size=len(lengths), max_size=len(lengths)))
    marks[0] = "i"
    keys = [n for n, mark in enumerate(marks) if mark != "-"]
    sizes = draw(st.lists(st.integers(1, 5000), min_size=len(keys), max_size=len(keys)))
    return FrameIndex(
        frame_count=len(lengths),
        first_ticks=first,
        end_ticks=ticks[-1],
        usual_gap_ticks=Fraction(sum(lengths), len(lengths)),
        regular=False,
        max_gap_ticks=max(lengths),
        reorder_ticks=draw(st.integers(0, 600)),
        keyframes=tuple(
            Keyframe(ticks[n], n, size, idr=marks[n] == "i")
            for n, size in zip(keys, sizes, strict=True)
        ),
    )


@given(index=keyframe_tables())
def test_any_copied_timeline_keeps_its_rules(index: FrameIndex) -> None:
    clock = 600  # ticks a second: gaps of up to 1.7 s
    start_s, end_s = Fraction(index.first_ticks, clock), Fraction(index.end_ticks, clock)
    picture = replace(
        PICTURE,
        rate=Fraction(index.frame_count) / (end_s - start_s),
        variable_rate=True,
        time_base=Fraction(1, clock),
        start_s=start_s,
        end_s=end_s,
        index_table=index,
    )
    plan = make_plan(media(picture, None), HLS)
    idrs = {key.ticks - index.first_ticks for key in index.keyframes if key.idr}
    span = index.end_ticks - index.first_ticks
    gap = max(b - a for a, b in itertools.pairwise([*sorted(idrs), span]))
    _keeps_the_rules_of_a_grid(plan)
    if plan.copied is None:
        assert plan.copy_refusals
        return
    assert gap <= 10.5 * clock
    timeline = plan.timeline
    assert set(timeline.boundaries[:-1]) <= idrs
    assert timeline.boundaries[-1] == span
    assert sum(timeline.frames) == index.frame_count
    lengths = [b - a for a, b in itertools.pairwise(timeline.boundaries)]
    assert max(lengths) <= 10.5 * clock
    assert sum(size for _, size in copied_load(plan)) == sum(k.size_bytes for k in index.keyframes)
    assert [seconds * clock for seconds, _ in copied_load(plan)] == lengths


profiles = st.lists(
    st.sampled_from(
        [
            *(Output("hls"), Output("mp4", 720), Output("mp4"), Output("mp4", 2160), Output("mp3")),
            *(Output("aac"), Output("opus", None, 96_000), Output("flac"), Output("poster")),
        ]
    ),
    max_size=5,
    unique=True,
).map(tuple)


@given(
    source=st.sampled_from([source for source, _ in goldens.CASES.values()]),
    outputs=profiles,
    rungs=st.lists(st.integers(16, 4000), max_size=3).map(tuple),
    top=st.sampled_from(["auto", "encode"]),
)
def test_any_plan_has_steps_for_all_it_promises(
    source: MediaInfo, outputs: tuple[Output, ...], rungs: tuple[int, ...], top: Any
) -> None:
    try:
        plan = make_plan(source, make_profile(outputs, rungs, top))
    except InputRefused:  # silent, or without a picture
        assert not source.audio or not source.video
        return
    ids = step_ids(plan)
    assert len(set(ids)) == len(ids)
    for n, step in enumerate(plan.steps):
        assert set(step.needs) <= set(ids[:n])
    # Every segment of every encoded rendition is made once; what is copied is not encoded.
    made = [
        (span.rendition, n)
        for step in plan.steps
        if step.kind == "encode"
        for span in step.spans
        for n in range(span.first, span.end)
    ]
    encoded = [r.name for r in plan.renditions if r.mode == "encode"]
    segments = range(plan.timeline.segments)
    assert sorted(made) == sorted((name, n) for name in encoded for n in segments)
    joined = {step.output for step in plan.steps if step.kind == "mp4"}
    assert joined == {file.path for file in plan.files if file.kind == "mp4"}
    folders = [rendition.folder for rendition in plan.renditions]
    assert len(set(folders)) == len(folders)
    assert plan_from_json(plan.to_json()) == plan
