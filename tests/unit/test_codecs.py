"""Ladders of several codecs: which rungs each has, what stays HDR, and what is asked in words.

The sizes and bounds are those of DESIGN sections 5 and 6, worked out by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import goldens
from tests.unit.sources import COMPLIANT, FILM, HDR10, PHONE, PICTURE, lasting, media

from telecine.engine import encoders
from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS, VideoSettings
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.formats.coding import CODINGS
from telecine.engine.media import Light
from telecine.engine.plan import Plan
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.profile import Profile, make_profile, parse_codecs, parse_output
from telecine.engine.progress import step_work

ALL = ("h264", "av1", "hevc")
BOTH = ("h264", "av1")


def sides(plan: Plan, codec: str, *, listed: bool = True) -> list[int]:
    found = [r for r in plan.renditions if r.codec == codec and r.listed == listed]
    return [rendition.size.short_side for rendition in found]


def square(side: int, **changes: object) -> Plan:
    picture = replace(PICTURE, width=side * 16 // 9 // 2 * 2, height=side, index_table=None)
    profile = make_profile(**{"codecs": BOTH, "top": "encode", **changes})  # type: ignore[arg-type]
    return make_plan(media(picture, None), profile)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "codecs"),
    [
        ("h264", ("h264",)),
        ("av1,h264", ("h264", "av1")),
        ("hevc,av1,h264,av1", ("h264", "av1", "hevc")),
    ],
)
def test_codecs_are_asked_in_any_order(text: str, codecs: tuple[str, ...]) -> None:
    assert parse_codecs(text) == codecs


@pytest.mark.parametrize("text", ["", "vp9", "h264,", "H264", "h264 av1", "av1,x" + "y" * 90])
def test_words_that_are_no_codec(text: str) -> None:
    with pytest.raises(UsageError, match="one or several of h264, av1, hevc") as caught:
        parse_codecs(text)
    assert caught.value.code == "codec_unknown"
    assert len(caught.value.message) < 120


@pytest.mark.parametrize("codecs", [("h264",), ("av1",), ("av1", "hevc")])
def test_hdr_is_kept_beside_a_ladder_in_sdr_or_not_at_all(codecs: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="HDR is kept in av1 or hevc beside") as caught:
        make_profile(codecs=codecs, hdr=True)
    assert caught.value.code == "hdr_needs_ladders"


# --- rungs ---------------------------------------------------------------------------------------


def test_each_codec_alone_has_the_whole_ladder() -> None:
    for codec, encoder in VIDEO_ENCODERS.items():
        plan = make_plan(COMPLIANT, make_profile(codecs=(codec,), top="encode"))
        assert sides(plan, codec) == [1080, 720, 480, 360, 240]
        names = [rendition.name for rendition in plan.renditions]
        assert names == [f"{encoder.prefix}{side}p" for side in (1080, 720, 480, 360, 240)]
        assert [r.folder for r in plan.renditions] == [f"video/{name}" for name in names]
        assert [d.name for d in plan.dropped] == ["2160p", "1440p"]


def test_beside_others_h264_has_rungs_up_to_720p() -> None:
    plan = square(1080, codecs=ALL)
    assert sides(plan, "h264") == [720, 480, 360, 240]
    assert sides(plan, "av1") == sides(plan, "hevc") == [1080, 720, 480, 360, 240]
    (left_out,) = (rung for rung in plan.dropped if rung.name == "1080p")
    assert left_out.reason == "in H.264 only up to 720p beside other codecs"


def test_a_copied_top_rung_stays_beside_others() -> None:
    plan = make_plan(COMPLIANT, make_profile(codecs=BOTH))
    assert plan.copied is not None
    assert plan.copied.name == "1080p"
    assert sides(plan, "h264") == [1080, 720, 480, 360, 240]
    assert [rung.name for rung in plan.dropped] == ["2160p", "1440p"]
    # All others are forced onto its keyframes, and AV1 needs no delay for reordering.
    assert {(r.gop_frames, r.codec, r.edit_offset_ticks) for r in plan.renditions[1:]} == {
        (None, "h264", 512),
        (None, "av1", 0),
    }
    instead = encoded_instead(plan)
    assert instead is not None
    assert sides(instead, "h264") == [720, 480, 360, 240]


@pytest.mark.parametrize(
    ("source", "rungs", "h264"),
    [
        (720, (), [720, 480, 360, 240]),
        (800, (), [800, 480, 360, 240]),  # without it 480p would be the highest
        (900, (), [720, 480, 360, 240]),
        (1080, (1080,), [1080]),  # one has to be there
        (1080, (1080, 480), [1080, 480]),
        (1080, (1080, 576), [576]),  # 576 × 5/4 = 720: near enough
        (2160, (2160, 1080, 240), [1080, 240]),
    ],
)
def test_the_fallback_is_never_far_below_720p(
    source: int, rungs: tuple[int, ...], h264: Sequence[int]
) -> None:
    assert sides(square(source, rungs=rungs), "h264") == list(h264)


def test_what_a_file_is_joined_from_is_listed_too() -> None:
    asked = (parse_output("hls"), parse_output("mp4:source"))
    plan = square(1080, outputs=asked)
    assert sides(plan, "h264") == [1080, 720, 480, 360, 240]
    assert plan.files[0].rendition == "1080p"


def test_a_file_is_h264_also_where_no_ladder_is() -> None:
    asked = (parse_output("hls"), parse_output("mp4:720p"))
    plan = square(1080, outputs=asked, codecs=("av1",))
    assert sides(plan, "h264") == []
    assert sides(plan, "h264", listed=False) == [720]
    assert plan.files[0].rendition == "720p"
    assert plan.folder_of("720p") == ".telecine/video/720p"
    alone = square(1080, outputs=asked[1:], codecs=("av1",))
    assert [r.name for r in alone.renditions] == ["720p"]


def test_without_h264_nothing_is_copied_and_the_plan_says_why() -> None:
    plan = make_plan(COMPLIANT, make_profile(codecs=("av1",)))
    assert plan.copied is None
    assert plan.copy_refusals == ("no ladder of H.264 is made",)
    # What it lacks to be a copy is no matter where only files are wanted.
    files = make_plan(COMPLIANT, make_profile((parse_output("mp4:source"),), codecs=("av1",)))
    assert files.copied is not None


def test_what_is_published_first_is_h264_where_it_is_there() -> None:
    plan = square(1080, codecs=ALL)
    assert [r.name for r in plan.renditions if r.head] == ["480p", "360p"]
    assert plan.steps[0].renditions == ("480p", "360p")
    alone = square(1080, codecs=("av1", "hevc"))
    assert [r.name for r in alone.renditions if r.head] == ["av1-480p", "av1-360p"]


def test_a_chunk_makes_every_codec_from_one_decode() -> None:
    plan = make_plan(lasting(54), make_profile(codecs=ALL, top="encode"))
    chunks = [step for step in plan.steps if step.kind == "encode"][1:]
    assert len(chunks) == len(plan.chunks) == 2
    for step in chunks:
        assert list(step.renditions) == [r.name for r in plan.renditions]


def test_ceilings_are_shares_of_h264s() -> None:
    plan = make_plan(FILM, make_profile(codecs=ALL, rungs=(480,)))
    own = {r.codec: r.ceiling_bps for r in plan.renditions}
    # the same, and 0.7 of 2.14 Mb/s to the nearest ten kilobits
    assert own == {"h264": 2_140_000, "av1": 2_140_000, "hevc": 1_500_000}


# --- sizes that an encoder refuses ---------------------------------------------------------------


@pytest.mark.parametrize("codec", ["av1", "hevc"])
def test_a_rung_too_small_for_an_encoder_is_left_out_with_its_reason(codec: str) -> None:
    encoder = VIDEO_ENCODERS[codec]
    side = encoder.smallest_side
    plan = square(side - 2, codecs=("h264", codec))
    assert sides(plan, "h264") == [side - 2]
    assert sides(plan, codec) == []
    (left_out,) = (rung for rung in plan.dropped if rung.name.startswith(codec))
    assert left_out.reason == f"{encoder.title} needs at least {side}×{side}"
    assert sides(square(side, codecs=("h264", codec)), codec) == [side]


def test_a_source_too_small_for_every_encoder_is_refused() -> None:
    with pytest.raises(InputRefused, match="HEVC 4:2:0 needs at least 64×64") as caught:
        square(62, codecs=("hevc",))
    assert caught.value.code == "too_small"


# --- HDR -----------------------------------------------------------------------------------------

KEPT = make_profile(codecs=ALL, hdr=True)


def test_hdr_is_kept_in_the_codecs_that_hold_it_and_h264_is_the_whole_ladder_in_sdr() -> None:
    plan = make_plan(HDR10, KEPT)
    every = [2160, 1440, 1080, 720, 480, 360, 240]
    for codec, video_range, depth in (("h264", "SDR", 8), ("av1", "PQ", 10), ("hevc", "PQ", 10)):
        own = [r for r in plan.renditions if r.codec == codec]
        assert {(r.video_range, r.bit_depth) for r in own} == {(video_range, depth)}
        assert [r.size.short_side for r in own] == every
    assert {r.video_range for r in make_plan(PHONE, KEPT).renditions} == {"SDR", "HLG"}
    assert plan.tone_map  # of what is SDR, and of the poster


def test_light_is_said_of_hdr_alone() -> None:
    plan = make_plan(HDR10, KEPT)
    said = {r.codec: plan.light_of(r) for r in plan.renditions}
    assert said == {"h264": None, "av1": HDR10.video[0].light, "hevc": HDR10.video[0].light}


@pytest.mark.parametrize("hdr", [True, False])
def test_sdr_stays_as_it_is(hdr: bool) -> None:
    plan = make_plan(COMPLIANT, make_profile(codecs=ALL, hdr=hdr))
    assert {(r.video_range, r.bit_depth) for r in plan.renditions} == {("SDR", 8)}
    assert ("HDR was to be kept, and the source has none" in plan.warnings) == hdr


def test_hdr_that_is_not_to_be_kept_is_tone_mapped_in_every_codec() -> None:
    plan = make_plan(HDR10, make_profile(codecs=ALL))
    assert {(r.video_range, r.bit_depth) for r in plan.renditions} == {("SDR", 8)}
    assert sides(plan, "h264") == [720, 480, 360, 240]


# --- encoders ------------------------------------------------------------------------------------


def settings(**changes: object) -> VideoSettings:
    plain = VideoSettings(ceiling_bps=1_000_000, crf=30, gop_frames=48, b_frames=3, threads=1)
    return replace(plain, **changes)  # type: ignore[arg-type]


def parameters(codec: str, option: str, **changes: object) -> list[str]:
    flags = VIDEO_ENCODERS[codec].flags(settings(**changes))
    return flags[flags.index(option) + 1].split(":")


def test_x265_closes_its_gops_on_the_grid() -> None:
    own = parameters("hevc", "-x265-params")
    assert {"open-gop=0", "scenecut=0", "keyint=48", "min-keyint=48"} <= set(own)
    forced = parameters("hevc", "-x265-params", gop_frames=None)
    assert {"keyint=100000", "min-keyint=1"} <= set(forced)
    assert "hvc1" in VIDEO_ENCODERS["hevc"].flags(settings())


def test_svt_av1_makes_no_keyframe_of_its_own() -> None:
    assert {"scd=0", "lp=1"} <= set(parameters("av1", "-svtav1-params"))


def test_av1_is_coarser_where_pictures_are_small() -> None:
    """The levels at which a drone's flight and film came out as good as in H.264 at CRF 23, which
    has one level for all sizes (docs/explain/performance.md, "Several codecs")."""
    plan = make_plan(HDR10, make_profile(codecs=ALL))
    levels = {r.size.short_side: r.crf for r in plan.renditions if r.codec == "av1"}
    assert levels == {2160: 35, 1440: 35, 1080: 35, 720: 37, 480: 39, 360: 39, 240: 39}
    assert {r.crf for r in plan.renditions if r.codec == "h264"} == {23}
    assert {r.crf for r in plan.renditions if r.codec == "hevc"} == {26}


def test_profiles_follow_the_depth() -> None:
    for depth, profile in ((8, "main"), (10, "main10")):
        flags = VIDEO_ENCODERS["hevc"].flags(settings(bit_depth=depth))
        assert flags[flags.index("-profile:v") + 1] == profile


# A P3 display with a white of D65, as SMPTE ST 2086 and both encoders' manuals write it.
P3 = Light((13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50), (1000, 400))


def test_light_in_the_words_of_each_encoder() -> None:
    own = parameters("hevc", "-x265-params", light=P3)
    assert own[-2:] == [
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)",
        "max-cll=1000,400",
    ]
    own = parameters("av1", "-svtav1-params", light=P3)
    assert own[-2:] == [
        "mastering-display=G(0.26500,0.69000)B(0.15000,0.06000)R(0.68000,0.32000)"
        "WP(0.31270,0.32900)L(1000.0000,0.0050)",
        "content-light=1000,400",
    ]


@pytest.mark.parametrize(("codec", "option"), [("hevc", "-x265-params"), ("av1", "-svtav1-params")])
def test_light_of_which_one_half_is_known(codec: str, option: str) -> None:
    plain = parameters(codec, option)
    content = parameters(codec, option, light=replace(P3, mastering=()))
    mastering = parameters(codec, option, light=replace(P3, content=()))
    assert len(content) == len(mastering) == len(plain) + 1
    assert parameters(codec, option, light=Light()) == plain


def test_sample_entries_belong_to_one_codec_each() -> None:
    assert set(CODINGS) == {"avc1", "avc3", "hvc1", "hev1", "av01"}
    assert {encoder.coding for encoder in VIDEO_ENCODERS.values()} == set(CODINGS.values())
    assert encoders.FALLBACK is FALLBACK
    assert next(iter(VIDEO_ENCODERS)) == FALLBACK.name


# --- work ----------------------------------------------------------------------------------------


def test_work_counts_each_codec_by_its_cost() -> None:
    def work(codec: str) -> float:
        plan = make_plan(lasting(6), Profile(top="encode", rungs=(1080,), codecs=(codec,)))
        (step,) = (step for step in plan.steps if step.kind == "encode")
        return step_work(plan, step)

    decode = 0.3 * 1920 * 1080 * 24 * 6 / 1e6  # progress: three tenths of a picture encoded
    for codec, encoder in VIDEO_ENCODERS.items():
        encoded = 1920 * 1080 * 24 * 6 / 1e6 * encoder.cost
        assert work(codec) == pytest.approx(decode + encoded)


# --- whatever is asked ---------------------------------------------------------------------------


@given(
    case=st.sampled_from(sorted(goldens.CASES)),
    codecs=st.sets(st.sampled_from(ALL), min_size=1),
    hdr=st.booleans(),
)
def test_any_source_in_any_codecs_has_a_ladder_that_opens(
    case: str, codecs: set[str], hdr: bool
) -> None:
    source, profile = goldens.CASES[case]
    ordered = tuple(codec for codec in ALL if codec in codecs)
    hdr = hdr and FALLBACK.name in codecs and len(codecs) > 1
    plan = make_plan(source, replace(profile, codecs=ordered, hdr=hdr))
    names = [rendition.name for rendition in plan.renditions]
    assert len(set(names)) == len(names)
    assert len({r.folder for r in plan.renditions}) == len(names)
    if plan.listed:
        assert any(rendition.head for rendition in plan.listed)
        assert any(rendition.video_range == "SDR" for rendition in plan.listed)
        assert {r.codec for r in plan.listed} == codecs
    for codec in codecs:
        own = [r.size.pixels for r in plan.listed if r.codec == codec]
        assert own == sorted(set(own), reverse=True)
