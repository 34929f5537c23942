"""Orders: what a client asks for → the engine's profile and the queue's tasks. Expected values are
written by hand: from the engine's documented outputs, and for plans of hand-made sources."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from tests.unit.sources import BROADCAST, COMPLIANT, SONG, lasting

from telecine.engine.plan import plan_from_json
from telecine.engine.planning import make_plan
from telecine.engine.profile import Output, Profile
from telecine.engine.words.clip import Clip
from telecine.engine.words.watermark import Watermark
from telecine.service.domain import Invalid
from telecine.service.estimates import estimate
from telecine.service.orders import (
    MAX_METADATA_BYTES,
    Digest,
    input_assets,
    make_order,
    make_tasks,
    new_job,
    read_order,
    summarize,
    write_order,
)
from telecine.service.presets import PRESETS

Plain = dict[str, Any]

STREAM = make_order(preset="stream").profile


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "profile"),
    [
        ([{"type": "hls"}], Profile((Output("hls"),))),
        (
            [{"type": "hls", "rungs": [480, 1080], "top": "encode"}],
            Profile((Output("hls"),), (1080, 480), "encode"),
        ),
        (
            [{"type": "hls", "codecs": ["av1", "h264"], "hdr": "keep"}],
            Profile((Output("hls"),), codecs=("h264", "av1"), hdr=True),
        ),
        ([{"type": "mp4"}], Profile((Output("mp4", None),))),
        ([{"type": "mp4", "size": "source"}], Profile((Output("mp4", None),))),
        ([{"type": "mp4", "size": "720p"}], Profile((Output("mp4", 720),))),
        ([{"type": "mp4", "size": "720"}], Profile((Output("mp4", 720),))),
        ([{"type": "mp3"}], Profile((Output("mp3"),))),
        ([{"type": "mp3", "bitrate_bps": 192_000}], Profile((Output("mp3", None, 192_000),))),
        ([{"type": "aac", "bitrate_bps": 96_500}], Profile((Output("aac", None, 96_500),))),
        ([{"type": "opus", "bitrate_bps": None}], Profile((Output("opus"),))),
        ([{"type": "flac"}, {"type": "flac"}], Profile((Output("flac"),))),
        ([{"type": "poster"}], Profile((Output("poster"),))),
    ],
)
def test_typed_outputs_are_the_engines(outputs: list[Plain], profile: Profile) -> None:
    assert make_order(outputs=outputs).profile == profile


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "outputs_missing"),
        ({"outputs": []}, "outputs_missing"),
        ({"preset": "stream", "outputs": [{"type": "hls"}]}, "outputs_and_preset"),
        ({"preset": "Stream"}, "preset_unknown"),
        ({"outputs": [{}]}, "output_unknown"),
        ({"outputs": [{"type": "gif"}]}, "output_unknown"),
        ({"outputs": [{"type": ["hls"]}]}, "output_unknown"),
        ({"outputs": [{"type": "mp4:720p"}]}, "output_unknown"),
        ({"outputs": ["hls"]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "rungs": "720"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "rungs": [True]}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "rungs": [720.5]}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "rungs": list(range(100, 117))}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "rungs": [15]}]}, "rung_invalid"),
        ({"outputs": [{"type": "hls", "rungs": [8193]}]}, "rung_invalid"),
        ({"outputs": [{"type": "hls", "rungs": [-720]}]}, "rung_invalid"),
        ({"outputs": [{"type": "hls", "top": "best"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "codecs": []}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "codecs": "av1"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "codecs": [264]}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "codecs": ["av1"] * 4}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "codecs": ["vp9"]}]}, "codec_unknown"),
        ({"outputs": [{"type": "hls", "hdr": True}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "hdr": "sdr"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "hdr": "keep"}]}, "hdr_needs_ladders"),
        ({"outputs": [{"type": "hls"}, {"type": "hls", "rungs": [720]}]}, "output_twice"),
        ({"outputs": [{"type": "mp4", "size": 720}]}, "output_invalid"),
        ({"outputs": [{"type": "mp4", "size": "huge"}]}, "rung_invalid"),
        ({"outputs": [{"type": "mp4", "size": "720p@64k"}]}, "rung_invalid"),
        ({"outputs": [{"type": "mp4", "bitrate_bps": 64_000}]}, "output_invalid"),
        (
            {"outputs": [{"type": "mp3"}, {"type": "mp3", "bitrate_bps": 64_000}]},
            "output_twice",
        ),
        ({"outputs": [{"type": "mp3", "bitrate_bps": 15_999}]}, "bitrate_invalid"),
        ({"outputs": [{"type": "mp3", "bitrate_bps": 512_001}]}, "bitrate_invalid"),
        ({"outputs": [{"type": "opus", "bitrate_bps": "64k"}]}, "output_invalid"),
        ({"outputs": [{"type": "opus", "bitrate_bps": True}]}, "output_invalid"),
        ({"outputs": [{"type": "flac", "bitrate_bps": 64_000}]}, "output_invalid"),
        ({"outputs": [{"type": "poster", "size": "720p"}]}, "output_invalid"),
        ({"outputs": [{"type": "poster", "loudness_lufs": -16}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "loudness_lufs": "-16"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "loudness_lufs": True}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "loudness_lufs": -3}]}, "loudness_invalid"),
        ({"outputs": [{"type": "mp3", "loudness_lufs": 16}]}, "loudness_invalid"),
        (
            {
                "outputs": [
                    {"type": "hls", "loudness_lufs": -16},
                    {"type": "mp3", "loudness_lufs": -23},
                ]
            },
            "output_invalid",
        ),
        ({"outputs": [{"type": "hls"}] * 33}, "output_invalid"),
        ({"preset": "stream", "priority": 101}, "priority_invalid"),
        ({"preset": "stream", "priority": -101}, "priority_invalid"),
        ({"preset": "stream", "metadata": {"a": 1}}, "metadata_invalid"),
        ({"preset": "stream", "metadata": {"a": "x" * 16_384}}, "metadata_invalid"),
        # Half of a surrogate pair: JSON writes it, no answer in UTF-8 can.
        ({"preset": "stream", "metadata": {"a": "\ud800"}}, "metadata_invalid"),
        ({"preset": "stream", "metadata": {"\udfff": "a"}}, "metadata_invalid"),
        ({"preset": "stream", "source_policy": "burn"}, "source_policy_unknown"),
        ({"outputs": [{"type": "hls", "clip": "10-40"}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "clip": {"from_s": 1}}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "clip": {"start_s": True}}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "clip": {"start_s": float("nan")}}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "clip": {"start_s": 10**400}}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "clip": {"start_s": 4, "end_s": 2}}]}, "clip_invalid"),
        ({"outputs": [{"type": "poster", "clip": {"start_s": 4}}]}, "output_invalid"),
        (
            {
                "outputs": [
                    {"type": "hls", "clip": {"start_s": 4}},
                    {"type": "mp3", "clip": {"start_s": 5}},
                ]
            },
            "output_invalid",
        ),
        ({"outputs": [{"type": "mp3", "watermark": {}}]}, "output_invalid"),
        ({"outputs": [{"type": "hls", "watermark": {"asset": "a"}}]}, "output_invalid"),
        (
            {"outputs": [{"type": "hls", "watermark": {"asset": "a", "position": "left"}}]},
            "watermark_invalid",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(asked: Plain, code: str) -> None:
    with pytest.raises(Invalid) as raised:
        make_order(**asked)
    assert raised.value.code == code


def test_a_clip_and_a_watermark_are_those_of_the_whole_job() -> None:
    mark = {"asset": "a1", "position": "top-left"}
    order = make_order(
        outputs=[
            {"type": "hls", "watermark": mark},
            {"type": "mp3", "clip": {"start_s": 0.1, "end_s": None}},
        ]
    )
    assert order.profile.clip == Clip(Fraction(1, 10), None)
    assert order.profile.watermark == Watermark("top-left", Fraction(1), Fraction(1, 10))
    assert input_assets(order.outputs) == {"watermark": "a1"}
    assert read_order(write_order(order)) == order


def test_a_loudness_is_that_of_all_sound_of_the_job() -> None:
    asked: list[list[dict[str, object]]] = [
        [{"type": "hls"}, {"type": "mp3", "loudness_lufs": -16}],
        [{"type": "hls", "loudness_lufs": -16.0}, {"type": "flac"}],
        [{"type": "opus", "loudness_lufs": -16}, {"type": "aac", "loudness_lufs": -16.0}],
    ]
    for wanted in asked:
        order = make_order(outputs=wanted)
        assert order.profile.loudness_lufs == -16
        assert read_order(write_order(order)) == order
    assert make_order(preset="everything").profile.loudness_lufs is None


def test_metadata_is_measured_in_bytes() -> None:
    frame = len('{"a": ""}')
    most = {"a": "é" * ((MAX_METADATA_BYTES - frame) // 2)}  # two bytes each
    assert make_order(preset="mp3", metadata=most).metadata == most
    with pytest.raises(Invalid):
        make_order(preset="mp3", metadata={"a": most["a"] + "éé"})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_it_is_and_can_be_planned(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    assert len(preset.description) > 20
    order = make_order(preset=name)
    # Those of pictures are planned in test_image_jobs_orders.
    assert order.images or make_plan(COMPLIANT, order.profile).steps
    assert order.outputs == preset.outputs


def test_presets_make_what_their_names_say() -> None:
    assert make_order(preset="stream").profile == Profile((Output("hls"), Output("poster")))
    assert make_order(preset="web-mp4").profile == Profile((Output("mp4", 720), Output("poster")))
    assert make_order(preset="m4a").profile == Profile((Output("aac"),))
    kinds = {output.kind for output in make_order(preset="everything").profile.outputs}
    assert kinds == {"hls", "mp4", "mp3", "aac", "opus", "flac", "poster"}


@pytest.mark.parametrize(
    "asked",
    [
        {"preset": "stream"},
        {
            "outputs": [{"type": "hls", "rungs": [720]}, {"type": "mp3", "bitrate_bps": 64_000}],
            "priority": -7,
            "metadata": {"ä": "ö"},
            "source_policy": "delete_when_done",
        },
    ],
)
def test_an_order_survives_json(asked: Plain) -> None:
    order = make_order(**asked)
    assert read_order(json.loads(json.dumps(write_order(order)))) == order


def test_outputs_are_read_back_as_they_were_asked() -> None:
    order = make_order(outputs=[{"type": "mp3", "bitrate_bps": None}, {"type": "hls", "top": None}])
    assert order.outputs == ({"type": "mp3"}, {"type": "hls"})


# --- tasks ----------------------------------------------------------------------------------------


def test_a_task_for_each_step_then_finish_and_digest() -> None:
    """Everything of a compliant 30 s film: the top rung is copied, one chunk, two MP4 files."""
    plan = make_plan(COMPLIANT, make_order(preset="everything").profile)
    assert [(task.kind, task.step_id, task.opening, task.needs) for task in make_tasks(plan)] == [
        ("step", "video-copy", True, ()),
        ("step", "encode-0000", False, ()),
        ("step", "audio", True, ()),
        ("step", "poster", False, ()),
        ("step", "loudness", False, (2,)),  # of the sound
        ("step", "mp4-source", False, (0, 2)),  # of the copy and the sound
        ("step", "mp4-720p", False, (1, 2)),
        ("finish", None, False, (0, 1, 2, 3, 4, 5, 6)),
        ("digest", None, False, ()),
    ]


def test_the_head_of_an_encoded_film_opens_it() -> None:
    tasks = make_tasks(make_plan(lasting(95), STREAM))
    assert [task.step_id for task in tasks if task.opening] == ["encode-0000-head", "audio"]


def test_nothing_opens_what_is_no_stream() -> None:
    tasks = make_tasks(make_plan(COMPLIANT, make_order(preset="web-mp4").profile))
    assert not any(task.opening for task in tasks)


def test_finish_waits_for_a_digest_that_the_client_gave() -> None:
    plan = make_plan(SONG, make_order(preset="mp3").profile)

    def told(digest: Digest) -> list[tuple[str, tuple[int, ...]]]:
        return [(task.kind, task.needs) for task in make_tasks(plan, digest=digest)]

    # The sound, and how loud it is.
    steps = [("step", ()), ("step", (0,))]
    assert told("beside") == [*steps, ("finish", (0, 1)), ("digest", ())]
    assert told("first") == [*steps, ("digest", ()), ("finish", (0, 1, 2))]
    assert told("known") == [*steps, ("finish", (0, 1))]


def test_a_task_weighs_what_its_encoder_takes() -> None:
    """The four rungs of DESIGN's measurement: 30 s of 1080p24 to 1080, 720, 480, 360 took 36 CPU
    seconds in one decode. 30 s are one chunk."""
    order = make_order(outputs=[{"type": "hls", "rungs": [1080, 720, 480, 360], "top": "encode"}])
    tasks = make_tasks(make_plan(COMPLIANT, order.profile))
    encoding_s = sum(task.weight_s for task in tasks if str(task.step_id).startswith("encode"))
    # The head is decoded a second time, some seconds long.
    assert 34 < encoding_s < 42
    sound = next(task for task in tasks if task.step_id == "audio")
    assert 0 < sound.weight_s < encoding_s / 10


def test_a_job_carries_its_plan_and_its_order() -> None:
    order = make_order(preset="stream", priority=3, metadata={"k": "v"})
    plan = make_plan(COMPLIANT, order.profile)
    job = new_job(order, plan, job_id="J", user_id="U", asset_id="A")
    assert (job.id, job.user_id, job.asset_id) == ("J", "U", "A")
    assert (job.priority, job.preset, job.metadata) == (3, "stream", {"k": "v"})
    assert job.outputs == [{"type": "hls"}, {"type": "poster"}]
    assert plan_from_json(job.plan or "") == plan
    assert job.tasks == make_tasks(plan)
    assert job.plan_summary == summarize(plan)
    assert json.loads(json.dumps(job.plan_summary)) == job.plan_summary


# --- the summary of a plan ------------------------------------------------------------------------


def test_the_summary_says_what_and_why() -> None:
    summary = summarize(make_plan(COMPLIANT, STREAM))
    assert summary["duration_s"] == 30
    assert summary["frame_rate"] == 24
    rungs = [(r["name"], r["mode"], r["width"], r["height"]) for r in summary["rungs"]]
    assert rungs == [
        ("1080p", "copy", 1920, 1080),
        ("720p", "encode", 1280, 720),
        ("480p", "encode", 854, 480),
        ("360p", "encode", 640, 360),
        ("240p", "encode", 426, 240),
        ("aac", "copy", None, None),
    ]
    assert all(rung["reason"] for rung in summary["rungs"])
    assert {"name": "2160p", "reason": "above the source: nothing is enlarged"} in summary[
        "dropped"
    ]
    assert summary["files"] == [{"type": "poster", "path": "poster.jpg"}]
    assert any("1920×1080" in line for line in summary["source"])


def test_the_summary_of_an_interlaced_source_says_why_it_is_not_copied() -> None:
    summary = summarize(make_plan(BROADCAST, STREAM))
    assert summary["top_not_copied"]
    assert any("deinterlaced" in line for line in summary["changes"])


def test_a_steps_rungs_stand_in_its_own_seconds() -> None:
    """The head makes 12 s of two rungs; the first chunk goes on with them where the head ended."""
    steps = summarize(make_plan(lasting(95), STREAM))["steps"]
    assert steps["encode-0000-head"] == {
        "stage": "encode",
        "span_s": 12.0,
        "made": {"480p": [0.0, 12.0], "360p": [0.0, 12.0]},
    }
    assert steps["encode-0000"]["span_s"] == 24.0
    assert steps["encode-0000"]["made"]["480p"] == [12.0, 24.0]
    assert steps["encode-0000"]["made"]["1080p"] == [0.0, 24.0]
    assert steps["encode-0003"]["made"]["1080p"] == [0.0, 23.0]
    assert steps["audio"] == {"stage": "audio", "span_s": 95.0, "made": {"aac": [0.0, 95.0]}}


def test_the_summary_is_small_whatever_the_plan() -> None:
    """Two hours: the plan names every keyframe, its summary does not."""
    plan = make_plan(lasting(2 * 3600), STREAM)
    assert len(json.dumps(summarize(plan))) < 100_000


# --- estimates ------------------------------------------------------------------------------------


def test_an_estimate_of_a_copied_ladder() -> None:
    """By hand: 720 frames of 10 kB are copied; ceilings of 720p to 240p are 3.5, 1.6, 0.9 and 0.45
    Mb/s, of which film takes 55 %; AAC at 160 kb/s is copied."""
    found = estimate(make_plan(COMPLIANT, make_order(outputs=[{"type": "hls"}]).profile))
    sizes = {one.name: (one.size_bytes, one.max_size_bytes) for one in found.outputs}
    assert sizes == {
        "1080p": (7_200_000, 7_200_000),
        "720p": (7_218_750, 13_125_000),
        "480p": (3_300_000, 6_000_000),
        "360p": (1_856_250, 3_375_000),
        "240p": (928_125, 1_687_500),
        "aac": (600_000, 600_000),
    }
    assert found.size_bytes == sum(size for size, _ in sizes.values())
    assert found.max_size_bytes == sum(size for _, size in sizes.values())
    assert found.basis


def test_an_estimate_counts_each_codec_by_its_cost() -> None:
    """A minute of 1080p24 is 2986 megapixels: 35.1 s of H.264 at 85 a second; AV1 takes 0.9 times
    that, HEVC 1.9 times. What is decoded, once for all, is in each."""

    def seconds(*codecs: str) -> float:
        wish = {"type": "hls", "rungs": [1080], "top": "encode", "codecs": list(codecs)}
        return estimate(make_plan(lasting(60), make_order(outputs=[wish]).profile)).encoder_s

    assert seconds("av1") - seconds("h264") == pytest.approx(-3.51, abs=0.11)
    assert seconds("hevc") - seconds("h264") == pytest.approx(31.6, abs=0.11)
    # Two go ahead by twelve seconds of one of them, which are decoded twice: 0.3 of 7.0 s.
    assert seconds("av1", "hevc") - seconds("av1") == pytest.approx(66.7 + 2.1, abs=0.11)


def test_an_estimate_of_files() -> None:
    """30 s: an MP4 is a rung and the sound; MP3 192 kb/s, Opus 128 kb/s; FLAC at most 24 bits of
    stereo at 48 kHz."""
    found = estimate(make_plan(COMPLIANT, make_order(preset="everything").profile))
    sizes = {one.name: (one.type, one.size_bytes, one.max_size_bytes) for one in found.outputs}
    assert sizes["720p.mp4"] == ("mp4", 7_818_750, 13_725_000)
    assert sizes["source.mp4"] == ("mp4", 7_800_000, 7_800_000)
    assert sizes["audio.mp3"] == ("mp3", 720_000, 720_000)
    assert sizes["audio.opus"] == ("opus", 480_000, 480_000)
    assert sizes["audio.m4a"] == ("aac", 600_000, 600_000)
    assert sizes["audio.flac"][2] == 30 * 48_000 * 2 * 3
    assert sizes["audio.flac"][1] < sizes["audio.flac"][2]
    assert 0 < sizes["poster.jpg"][1] <= sizes["poster.jpg"][2]


def test_an_mp4_without_a_stream_leaves_no_segments() -> None:
    found = estimate(make_plan(COMPLIANT, make_order(preset="web-mp4").profile))
    assert [one.name for one in found.outputs] == ["720p.mp4", "poster.jpg"]


def test_twice_the_film_takes_twice_the_encoder() -> None:
    order = make_order(outputs=[{"type": "hls", "top": "encode"}])
    short = estimate(make_plan(lasting(Fraction(600)), order.profile))
    long = estimate(make_plan(lasting(Fraction(1200)), order.profile))
    assert long.encoder_s == pytest.approx(2 * short.encoder_s, rel=0.01)
