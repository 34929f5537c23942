"""Filter graphs, part by part; whole ones stand in the golden command lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import goldens
from tests.unit.sources import (
    BROADCAST,
    COMPLIANT,
    HDR10,
    LATE_SOUND,
    LONG_SOUND,
    PICTURE,
    SHORT_SOUND,
    SOUND,
    SURROUND_ONLY,
    lasting,
    media,
)

from telecine.engine import filters
from telecine.engine.beside import Preview, Stills
from telecine.engine.ladder import Size
from telecine.engine.media import Color, VideoStream
from telecine.engine.plan import Plan, VideoRange
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output

ENCODED = make_profile(top="encode")
HD = Size(1920, 1080)
P1080, P720, P480, P360 = HD, Size(1280, 720), Size(854, 480), Size(640, 360)


def plan_of(video: VideoStream) -> Plan:
    return make_plan(media(replace(video, index_table=None), None), ENCODED)


def graph(plan: Plan, chunk: int, *sizes: Size) -> list[str]:
    span = plan.chunks[chunk]
    return parts(plan, [(size, span.first) for size in sizes], span.end)


def parts(plan: Plan, rungs: Sequence[tuple[Size, int]], end: int) -> list[str]:
    """Sizes, each with its first segment, to segment `end`."""
    wanted = [filters.Wanted(size, first) for size, first in rungs]
    return filters.chunk_graph(plan, wanted, end, origin_ticks=7, stream_index=3).split(";")


def test_frames_of_a_chunk_are_cut_on_the_global_grid() -> None:
    plan = make_plan(lasting(54), ENCODED)
    # 24 frames/s, 144 to a segment: segments 0–3 are frames 0–575, 4–8 are 576–1295.
    assert [chunk.first for chunk in plan.chunks] == [0, 4]
    for chunk, span in enumerate([(0, 576), (576, 1296)]):
        (made,) = graph(plan, chunk, HD)
        assert f"trim=start_pts={span[0]}:end_pts={span[1]},setpts=PTS-{span[0]}," in made
        assert made.startswith("[0:3]setpts=PTS-7,fps=24/1")
        # Only the first chunk may show a late first picture early.
        assert (":start_time=0" in made) == (chunk == 0)


def test_under_a_copy_the_sources_own_times_are_kept() -> None:
    plan = make_plan(COMPLIANT, make_profile())
    (made,) = graph(plan, 0, Size(1280, 720))
    assert "fps=" not in made
    assert "tpad" not in made
    assert "trim=start_pts=0:end_pts=368640,setpts=PTS-0," in made


def test_fields_become_pictures_before_anything_is_scaled() -> None:
    (made,) = graph(make_plan(BROADCAST, make_profile()), 0, HD)
    filters_in_order = [part.split("=")[0] for part in made.split("]", 1)[1].split(",")]
    assert filters_in_order.index("bwdif") < filters_in_order.index("fps")
    assert filters_in_order.index("bwdif") < filters_in_order.index("scale")


# FFmpeg's own filters for a display matrix (fftools/ffmpeg_filter.c); a flip comes after the turn.
@pytest.mark.parametrize(
    ("rotation", "mirrored", "turned"),
    [
        (90, False, ["transpose=clock"]),
        (90, True, ["transpose=cclock_flip"]),
        (180, False, ["hflip", "vflip"]),
        (180, True, ["vflip"]),
        (270, False, ["transpose=cclock"]),
        (270, True, ["transpose=clock_flip"]),
    ],
)
def test_fields_are_turned_after_they_became_pictures(
    rotation: int, mirrored: bool, turned: list[str]
) -> None:
    (video,) = BROADCAST.video
    lying = replace(video, rotation=rotation, mirrored=mirrored)
    plan = make_plan(replace(BROADCAST, video=(lying,)), make_profile())
    expected = ",".join([*turned, "sidedata=mode=delete:type=DISPLAYMATRIX", ""])
    (made,) = graph(plan, 0, P720)
    assert f",bwdif=mode=send_field:parity=auto:deint=interlaced,{expected}fps=" in made
    poster = filters.poster(plan, P720)
    assert poster.startswith(
        f"bwdif=mode=send_frame:parity=auto:deint=interlaced,{expected}thumbnail="
    )


def test_what_leaves_fields_whole_is_done_by_ffmpeg() -> None:
    (fields,) = BROADCAST.video
    flipped = make_plan(replace(BROADCAST, video=(replace(fields, mirrored=True),)), ENCODED)
    assert flipped.deinterlace
    assert filters.turning(flipped) == []
    assert filters.turning(plan_of(replace(PICTURE, rotation=90, mirrored=True))) == []
    assert filters.turning(make_plan(SURROUND_ONLY, make_profile())) == []


@pytest.mark.parametrize(
    ("pix_fmt", "scale"),
    [
        ("yuv420p", "scale=1920:1080:flags=bicubic:out_range=tv"),
        ("yuvj420p", "scale=1920:1080:flags=bicubic:out_range=tv"),
        ("yuv422p10le", "scale=1920:1080:flags=bicubic:out_range=tv"),
        (None, "scale=1920:1080:flags=bicubic:out_range=tv"),
        ("rgb24", "scale=1920:1080:flags=bicubic:out_color_matrix=bt709:out_range=tv"),
        ("gbrp", "scale=1920:1080:flags=bicubic:out_color_matrix=bt709:out_range=tv"),
        ("pal8", "scale=1920:1080:flags=bicubic:out_color_matrix=bt709:out_range=tv"),
    ],
)
def test_pictures_are_eight_bits_of_video_range_in_square_pixels(
    pix_fmt: str | None, scale: str
) -> None:
    plan = plan_of(replace(PICTURE, pix_fmt=pix_fmt))
    assert filters.picture(plan, HD) == [scale, "setsar=1", "format=yuv420p"]


UNSAID = Color("tv")


@pytest.mark.parametrize(
    ("video", "said"),
    [
        # From 720 lines on BT.709, else BT.601: Chromium's ffmpeg_common.cc.
        ({"height": 720}, "bt709"),
        ({"height": 718}, "smpte170m"),
        # Lines as they are coded: so a player of the source sees them, before it turns.
        ({"width": 1280, "height": 720, "rotation": 90}, "bt709"),
        ({"width": 1024, "height": 576, "rotation": 90}, "smpte170m"),
        ({"width": 576, "height": 1024}, "bt709"),
        ({"pix_fmt": None}, "bt709"),
    ],
)
def test_untagged_pictures_are_said_to_be_what_players_take_them_for(
    video: dict[str, Any], said: str
) -> None:
    plan = plan_of(replace(PICTURE, color=UNSAID, **video))
    for size in (HD, P360):
        first = f"setparams=colorspace={said}:color_primaries={said}:color_trc={said}"
        assert filters.picture(plan, size)[0] == first
        assert filters.poster(plan, size).startswith(f"thumbnail=n=12,{first},scale=")


def test_what_a_source_says_of_its_colour_stays() -> None:
    def first(color: Color, pix_fmt: str = "yuv420p") -> str:
        return filters.picture(plan_of(replace(PICTURE, color=color, pix_fmt=pix_fmt)), HD)[0]

    primaries = Color("tv", "smpte432", None, None)
    assert first(primaries) == "setparams=colorspace=bt709:color_trc=bt709"
    transfer = Color("tv", None, "smpte170m", None)
    assert first(transfer) == "setparams=colorspace=bt709:color_primaries=bt709"
    assert first(Color("tv", None, None, "bt470bg")).startswith("scale=")
    assert first(Color(transfer="smpte2084")).startswith("scale=")
    for rgb in ("rgb24", "0rgb", "x2rgb10le", "gbrp", "pal8"):
        assert "out_color_matrix=bt709" in first(UNSAID, rgb)


def test_below_hd_rungs_are_as_silent_as_the_copy_above_them() -> None:
    """Chromium takes what is not said whole for BT.709 in a Media Source: copy and rungs alike."""
    small = replace(PICTURE, width=854, height=480, color=UNSAID)
    copied = make_plan(media(small), make_profile())
    assert copied.copied is not None
    assert filters.picture(copied, P360)[0] == "setparams=colorspace=smpte170m"
    large = make_plan(media(replace(PICTURE, color=UNSAID)), make_profile())
    assert large.copied is not None
    assert filters.picture(large, P360)[0].endswith("color_primaries=bt709:color_trc=bt709")


@pytest.mark.parametrize(
    ("color", "stated"),
    [
        (
            Color("tv", "bt2020", "smpte2084", "bt2020nc"),
            "tin=smpte2084:pin=bt2020:min=bt2020nc:rin=limited",
        ),
        (
            Color("pc", "smpte432", "arib-std-b67", "bt709"),
            "tin=arib-std-b67:pin=smpte432:min=bt709:rin=full",
        ),
        # What a stream leaves out is what BT.2100 says.
        (
            Color(transfer="arib-std-b67"),
            "tin=arib-std-b67:pin=bt2020:min=bt2020nc:rin=limited",
        ),
    ],
)
def test_high_dynamic_range_goes_through_linear_light(color: Color, stated: str) -> None:
    chain = filters.picture(plan_of(replace(PICTURE, color=color)), HD)
    assert chain == [
        "scale=1920:1080:flags=bicubic",
        "setsar=1",
        f"zscale={stated}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=limited",
        "sidedata=mode=delete",
        "format=yuv420p",
    ]


# --- rungs -------------------------------------------------------------------------------------

ONCE = "flags=bicubic"
TWICE = "flags=bicubic:param0=0:param1=0.62"


def test_one_rung_is_scaled_and_nothing_split() -> None:
    (made,) = graph(plan_of(PICTURE), 0, P720)
    assert made.endswith("scale=1280:720:flags=bicubic:out_range=tv,setsar=1,format=yuv420p[v0]")
    assert "split" not in made


def test_two_head_rungs_are_each_scaled_from_the_source() -> None:
    parts = graph(plan_of(PICTURE), 0, P480, P360)
    tail = "flags=bicubic:out_range=tv,setsar=1,format=yuv420p"
    assert parts[0].endswith("setpts=PTS-0,split=2[s0][s1]")
    assert parts[1:] == [f"[s0]scale=854:480:{tail}[v0]", f"[s1]scale=640:360:{tail}[v1]"]


def test_below_the_sources_own_size_one_rung_is_the_base_of_all() -> None:
    parts = graph(plan_of(PICTURE), 0, P1080, P720, P480, P360)
    assert parts[0].endswith("format=yuv420p,split=2[v0][c]")
    assert parts[1:] == [
        f"[c]scale=1280:720:{ONCE},setsar=1,split=3[v1][b2][b3]",
        f"[b2]scale=854:480:{TWICE},setsar=1[v2]",
        f"[b3]scale=640:360:{TWICE},setsar=1[v3]",
    ]


def test_the_own_size_and_one_more() -> None:
    parts = graph(plan_of(PICTURE), 0, P1080, P480)
    assert parts[1:] == [f"[c]scale=854:480:{ONCE},setsar=1[v1]"]


def test_a_top_rung_below_the_source_is_itself_the_base() -> None:
    parts = graph(plan_of(PICTURE), 0, P720, P480, P360)
    assert parts[0].endswith("setsar=1,format=yuv420p,split=3[v0][b1][b2]")
    assert parts[1:] == [
        f"[b1]scale=854:480:{TWICE},setsar=1[v1]",
        f"[b2]scale=640:360:{TWICE},setsar=1[v2]",
    ]


def test_a_rung_that_was_begun_elsewhere_leaves_those_frames_out() -> None:
    plan = plan_of(PICTURE)  # 144 frames a segment
    made = parts(plan, [(P1080, 0), (P720, 0), (P480, 2), (P360, 2)], 5)
    assert "trim=start_pts=0:end_pts=720" in made[0]
    late = "trim=start_pts=288,setpts=PTS-288"
    assert made[1:] == [
        f"[c]scale=1280:720:{ONCE},setsar=1,split=3[v1][b2][b3]",
        f"[b2]{late},scale=854:480:{TWICE},setsar=1[v2]",
        f"[b3]{late},scale=640:360:{TWICE},setsar=1[v3]",
    ]


def test_rungs_begun_elsewhere_may_be_those_that_others_are_made_from() -> None:
    late = "trim=start_pts=144,setpts=PTS-144"
    own = parts(plan_of(PICTURE), [(P1080, 1), (P720, 1), (P480, 0)], 5)
    assert own[0].endswith("split=2[k0][c]")
    assert own[1:] == [
        f"[k0]{late}[v0]",
        f"[c]scale=1280:720:{ONCE},setsar=1,split=2[k1][b2]",
        f"[k1]{late}[v1]",
        f"[b2]scale=854:480:{TWICE},setsar=1[v2]",
    ]
    base = parts(plan_of(PICTURE), [(P720, 1), (P480, 1), (P360, 0)], 5)
    assert base[0].endswith("split=3[k0][b1][b2]")
    assert base[1:3] == [f"[k0]{late}[v0]", f"[b1]{late},scale=854:480:{TWICE},setsar=1[v1]"]
    two = parts(plan_of(PICTURE), [(P480, 1), (P360, 0)], 5)
    assert two[1].startswith(f"[s0]{late},scale=854:480:")
    assert two[2].startswith("[s1]scale=640:360:")


@given(
    case=st.sampled_from(sorted(goldens.CASES)),
    wanted=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from(["SDR", "PQ"])),
        min_size=1,
        max_size=9,
    ),
)
def test_any_graph_joins_every_label_once(
    case: str, wanted: list[tuple[int, int, VideoRange]]
) -> None:
    """Sizes in any order, any of them for several encoders, each from another segment on."""
    plan = make_plan(*goldens.CASES[case])
    sizes = [rendition.size for rendition in plan.renditions]
    if not sizes:
        return
    end = plan.chunks[0].end
    asked = [
        filters.Wanted(sizes[n % len(sizes)], min(first, end - 1), video_range)
        for n, first, video_range in wanted
    ]
    made = filters.chunk_graph(plan, asked, end, origin_ticks=0, stream_index=0)
    labels = re.findall(r"\[([a-z]+\d*)\]", made)
    outputs = {f"v{n}" for n in range(len(asked))}
    assert {label for label in labels if labels.count(label) == 1} == outputs
    assert all(labels.count(label) == 2 for label in labels if label not in outputs)
    # A deep cascade gets soft: no output lies behind more than two scalings.
    for part in made.split(";"):
        assert part.count("scale=") - part.count("zscale=") <= 1
    # A size is scaled once for each range; bicubic, which what is burnt in is not.
    pictures = {(each.size, each.video_range) for each in asked}
    assert made.count(":flags=bicubic") == len(pictures)


def test_a_size_that_several_encoders_take_is_scaled_once() -> None:
    plan = make_plan(lasting(30), ENCODED)
    wanted = [filters.Wanted(size, first) for first in (1, 0) for size in (P720, P480, P360)]
    made = filters.chunk_graph(plan, wanted, 5, origin_ticks=7, stream_index=3).split(";")
    late = "trim=start_pts=144,setpts=PTS-144"
    first = f"scale=1280:720:{ONCE}:out_range=tv,setsar=1,format=yuv420p"
    assert made[0].endswith(f"{first},split=4[k0][v3][b1][b2]")
    assert made[1] == f"[k0]{late}[v0]"
    assert made[2] == f"[b1]scale=854:480:{TWICE},setsar=1,split=2[k1][v4]"
    assert made[3] == f"[k1]{late}[v1]"
    # What none of them wants is left out before it is scaled.
    wanted = [filters.Wanted(P720, 0), *[filters.Wanted(P480, 1)] * 2, filters.Wanted(P360, 0)]
    lower = filters.chunk_graph(plan, wanted, 5, origin_ticks=7, stream_index=3).split(";")[1]
    assert lower == f"[b1]{late},scale=854:480:{TWICE},setsar=1,split=2[v1][v2]"


def test_hdr_and_sdr_part_before_anything_is_scaled() -> None:
    plan = make_plan(HDR10, make_profile(codecs=("h264", "av1"), hdr=True))
    wanted = [filters.Wanted(P720, 0), filters.Wanted(P720, 0, "PQ")]
    head, sdr, hdr = filters.chunk_graph(plan, wanted, 5, origin_ticks=0, stream_index=0).split(";")
    assert head.endswith("setpts=PTS-0,split=2[r0][r1]")
    assert sdr.startswith("[r0]scale=1280:720:flags=bicubic,setsar=1,zscale=tin=smpte2084")
    assert hdr == (
        "[r1]setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084,"
        "sidedata=mode=delete,scale=1280:720:flags=bicubic:out_range=tv,setsar=1,"
        "format=yuv420p10le[v1]"
    )


# --- sound -------------------------------------------------------------------------------------

START = "asetpts=PTS-0,aresample=48000:async=1:min_hard_comp=0.01:first_pts=0,"
STEREO = "aformat=sample_fmts=fltp:channel_layouts=stereo"


def default_sound(plan: Plan) -> str:
    return filters.stream_audio(plan, plan.sounds[0])


def test_sound_is_as_long_as_the_picture() -> None:
    late = default_sound(make_plan(LATE_SOUND, ENCODED))
    # The source's own sound ends at 30.016 s: that is no excess.
    assert late == f"{START}{STEREO},apad=whole_dur=30.000000,atrim=end=30.016000"
    short = default_sound(make_plan(SHORT_SOUND, ENCODED))
    assert short == f"{START}{STEREO},apad=whole_dur=30.000000,atrim=end=30.000000"
    long = default_sound(make_plan(LONG_SOUND, ENCODED))
    assert long == f"{START}{STEREO},apad=whole_dur=36.000000,atrim=end=36.000000"


def test_sound_counts_from_presentation_0() -> None:
    # The broadcast starts at 1.4 s; its sound is held to the picture's 40 s from there.
    made = default_sound(make_plan(BROADCAST, ENCODED))
    assert made.startswith("asetpts=PTS-67200,")
    assert made.endswith("apad=whole_dur=40.000000,atrim=end=40.000000")


def test_sound_whose_end_nobody_knows_is_held_to_the_picture() -> None:
    source = media(replace(PICTURE, index_table=None), replace(SOUND, end_s=None))
    made = default_sound(make_plan(source, ENCODED))
    assert made.endswith("apad=whole_dur=30.000000,atrim=end=30.000000")


def test_sound_alone_is_neither_padded_nor_cut() -> None:
    made = default_sound(make_plan(SURROUND_ONLY, make_profile()))
    # What mixing 5.1 down adds up is held at -1 dBFS: 10 ** (-1 / 20).
    limiter = "alimiter=limit=0.891251:level=disabled:attack=5:release=50:latency=1"
    assert made == f"{START}{STEREO},{limiter}"


def test_a_waveform_is_the_mean_of_all_channels_as_long_as_the_film() -> None:
    """The broadcast starts at 1.4 s, which is sample 67200 of 48000 a second, and lasts 40 s."""
    plan = make_plan(BROADCAST, make_profile((parse_output("waveform"),)))
    made = filters.waveform(plan, origin_samples=67_200, target="pipe:9").split(",")
    assert made[0] == "asetpts=PTS-67200"
    assert made[1].startswith("aresample=48000:async=1:")
    assert ":rematrix_maxval=1" in made[1]
    assert made[2:6] == [
        "aformat=sample_fmts=s16:channel_layouts=mono",
        "apad=whole_len=1920000",
        "atrim=end_sample=1920000",
        "asetnsamples=n=256:p=0",
    ]
    # Within quotes a colon is still the end of an option's value: it is escaped once more.
    assert made[-1] == r"ametadata=mode=print:file='pipe\:9'"


# --- pictures beside the film ------------------------------------------------------------------


def test_small_pictures_lie_on_sheets_or_are_files() -> None:
    sheets = Stills("storyboard", "240p", Fraction(2), 27, Size(240, 136), 5, 4, "")
    # JFIF: full range in the matrix of BT.601.
    jpeg = ":out_range=pc:out_color_matrix=bt601,format=yuvj420p"
    alone = f"scale=240:136:flags=area{jpeg}"
    assert filters.stills(sheets) == f"{alone},tile=5x4:color=black"
    assert filters.stills(replace(sheets, kind="thumbnails", columns=1, rows=1)) == alone


def test_of_each_piece_of_a_preview_as_many_pictures_as_it_lasts() -> None:
    preview = Preview("240p", (1, 3), Fraction(5, 2), 10, Size(320, 180), "")
    # Pieces begin every 20 s, 200 pictures; 25 of them are 2.5 s.
    assert filters.preview(preview) == (
        "fps=10:round=up:start_time=0,select='lt(mod(n,200),25)',setpts=N/(10*TB),"
        "scale=320:180:flags=area,format=yuv420p"
    )


# --- the poster --------------------------------------------------------------------------------


def test_a_poster_is_a_typical_picture_in_full_range() -> None:
    assert filters.poster(make_plan(COMPLIANT, make_profile()), HD) == (
        "thumbnail=n=12,scale=1920:1080:flags=bicubic:out_range=tv,setsar=1,"
        "scale=in_range=tv:out_range=pc:out_color_matrix=bt601,format=yuvj420p"
    )


def test_a_poster_of_fields_is_one_picture_a_frame() -> None:
    made = filters.poster(make_plan(BROADCAST, make_profile()), HD)
    assert made.startswith("bwdif=mode=send_frame:parity=auto:deint=interlaced,thumbnail=n=12,")
