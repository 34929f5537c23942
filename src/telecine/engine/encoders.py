"""Pure: one record per encoder. A new codec is one record here (DESIGN section 4, rule 4).

An encoder is a name in FFmpeg, what it must be told for a rung, and what its streams look like. The
flags every encoder shares (mapping, timing, container) are `argv`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from telecine.engine.formats.coding import AV1, AVC, HEVC, Coding

if TYPE_CHECKING:  # the command line reads the names of codecs at its start
    from telecine.engine.media import Light


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What one rung asks of a video encoder. `gop_frames` is None under a copied top rung, whose
    own keyframes are forced instead; `light` is what an HDR rung says of its mastering."""

    ceiling_bps: int
    crf: float
    gop_frames: int | None
    b_frames: int
    threads: int
    bit_depth: int = 8
    light: Light | None = None


@dataclass(frozen=True, slots=True)
class Levels:
    """The fixed-quality levels (CRF) among which a search chooses: from `finest` to `coarsest` in
    steps of `step`; one level more costs about `slope` points of VMAF near 90."""

    finest: float
    coarsest: float
    step: float
    slope: float


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    name: str  # as users, `plan` and `report` call it
    title: str  # as sentences call it
    ffmpeg_name: str
    coding: Coding
    prefix: str  # of the names of its rungs and their folders
    # The fixed-quality level that stands for "good", by the short side of the picture in pixels.
    usual_crf: Callable[[int], float]
    levels: Levels
    reorder_frames: int  # how many frames a picture may be sent ahead of being shown
    b_frames: int
    threads: int  # fixed, since bytes depend on it: resume must reach the same on any machine
    smallest_side: int  # pixels; below it the encoder, or a player's decoder, refuses
    ceiling_share: Fraction  # of H.264's ceiling for as good a picture
    cost: float  # CPU time of a pixel beside x264 veryfast's
    bit_depths: tuple[int, ...]
    # Profiles, in FFmpeg's words, with which a source of this codec may be copied as the top rung.
    copied_profiles: tuple[str, ...]
    flags: Callable[[VideoSettings], list[str]]


@dataclass(frozen=True, slots=True)
class AudioEncoder:
    name: str
    ffmpeg_name: str
    flags: tuple[str, ...]


# Keyint for "only where forced": longer than any segment can be at 60 fps.
_ONLY_FORCED = 100_000


def _capped(settings: VideoSettings) -> list[str]:
    return [
        # Constant quality, so easy scenes cost little …
        *("-crf", f"{settings.crf:g}"),
        # … capped by a buffer of two seconds, so that BANDWIDTH can be promised before measuring.
        *("-maxrate", str(settings.ceiling_bps), "-bufsize", str(2 * settings.ceiling_bps)),
    ]


def _x264(settings: VideoSettings) -> list[str]:
    gop = settings.gop_frames or _ONLY_FORCED
    return [
        # veryfast: the knee of x264's speed/quality curve for a ladder on CPUs (DESIGN section 6).
        *("-preset", "veryfast"),
        *_capped(settings),
        # High profile plays on everything made since 2010 and is what Apple 1.3 names.
        *("-profile:v", "high"),
        # A whole number of frames between IDRs, and no other IDR: same grid on every rung.
        *("-g", str(gop), "-keyint_min", str(settings.gop_frames or 1), "-sc_threshold", "0"),
        # A forced keyframe must be an IDR, not an I-frame: players join there (Apple 7.4).
        *("-forced-idr", "1"),
        *("-bf", str(settings.b_frames)),
        # No B-frame refers to another: one frame of reordering, known before anything is encoded,
        # and an edit list short enough for hls.js, which does not read it (ADR 0003).
        *("-b-pyramid", "none"),
        # No closed captions of the source inside the pictures: the playlist says that there are
        # none, and they stand beside them as WebVTT.
        *("-a53cc", "0"),
        # Fixed, since x264's bytes depend on it: resume must reach the same bytes on any machine.
        *("-threads", str(settings.threads)),
    ]


def _svt_av1(settings: VideoSettings) -> list[str]:
    own = [
        "scd=0",  # no keyframe of its own at a cut: same grid on every rung
        "irefresh-type=2",  # keyframes close their GOP; 1 would let pictures reach across
        # How far a GOP may be above the ceiling: with the usual 50 % noise takes 1.24 times what
        # was promised, with 10 % 0.95 times.
        "mbr-overshoot-pct=10",
        # Quantisation by how well a frequency is seen: 4 to 5 % fewer bytes at equal VMAF, for no
        # CPU (720p and 360p of film and of a drone's flight).
        "enable-qm=1",
        "qm-min=8",
        f"lp={settings.threads}",
    ]
    if settings.light is not None:
        own += _svt_light(settings.light)
    return [
        # 10: as good as x264 veryfast for less CPU and a third fewer bytes (DESIGN section 6). 11
        # takes a quarter less CPU for small pictures, and shows remnants of other ones: of painted
        # numbers one in sixteen could not be read.
        *("-preset", "10"),
        *_capped(settings),
        *("-g", str(settings.gop_frames or _ONLY_FORCED)),
        *("-svtav1-params", ":".join(own)),
    ]


def _svt_crf(short_side: int) -> float:
    """What makes a rung as good as its counterpart in H.264 (a drone's flight, within 0.7 of VMAF):
    at 35 small pictures came out 1 to 2.5 better, for up to a quarter more bytes."""
    if short_side >= 900:
        return 35.0
    return 37.0 if short_side >= 600 else 39.0


def _svt_light(light: Light) -> list[str]:
    found = []
    if light.mastering:
        x = [f"({a / 50_000:.5f},{b / 50_000:.5f})" for a, b in _pairs(light.mastering[:8])]
        most, least = light.mastering[8:]
        found.append(
            f"mastering-display=G{x[0]}B{x[1]}R{x[2]}WP{x[3]}"
            f"L({most / 10_000:.4f},{least / 10_000:.4f})"
        )
    if light.content:
        found.append(f"content-light={light.content[0]},{light.content[1]}")
    return found


def _x265(settings: VideoSettings) -> list[str]:
    gop = settings.gop_frames or _ONLY_FORCED
    own = [
        # Closed GOPs of a whole number of frames, and no other IDR: same grid on every rung.
        *("open-gop=0", "scenecut=0", f"keyint={gop}", f"min-keyint={settings.gop_frames or 1}"),
        # No B-frame refers to another: as for x264.
        *(f"bframes={settings.b_frames}", "b-pyramid=0"),
        # One thread, whose bytes are the same each time: rungs and chunks fill the processors.
        *("pools=none", f"frame-threads={settings.threads}", "wpp=0", "lookahead-slices=0"),
        "info=0",  # no name of the encoder and its options in the init segment
        "log-level=warning",
    ]
    if settings.light is not None:
        own += _x265_light(settings.light)
    return [
        # superfast at CRF 26: x264's VMAF for twice its CPU and 57 % of its bytes (1080p film);
        # ultrafast is 4 points worse, veryfast takes a third more time for more bytes.
        *("-preset", "superfast"),
        *_capped(settings),
        *("-profile:v", "main10" if settings.bit_depth > 8 else "main"),
        *("-forced-idr", "1"),
        # Parameter sets in the init segment alone, which Apple's players ask (1.10).
        *("-tag:v", "hvc1"),
        *("-x265-params", ":".join(own)),
    ]


def _x265_light(light: Light) -> list[str]:
    found = []
    if light.mastering:
        x = [f"({a},{b})" for a, b in _pairs(light.mastering[:8])]
        most, least = light.mastering[8:]
        found.append(f"master-display=G{x[0]}B{x[1]}R{x[2]}WP{x[3]}L({most},{least})")
    if light.content:
        found.append(f"max-cll={light.content[0]},{light.content[1]}")
    return found


def _pairs(numbers: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


# In the order in which playlists list them: what plays everywhere comes first.
VIDEO_ENCODERS: dict[str, VideoEncoder] = {
    encoder.name: encoder
    for encoder in (
        VideoEncoder(
            name="h264",
            title="H.264",
            ffmpeg_name="libx264",
            coding=AVC,
            prefix="",
            usual_crf=lambda _: 23.0,
            levels=Levels(finest=10.0, coarsest=45.0, step=0.5, slope=1.1),
            reorder_frames=1,
            b_frames=3,
            # x264's row-level VBV reads the sizes of frames still in flight: with frame threads
            # eight runs gave eight outputs, with one thread one. Rungs and chunks fill the
            # processors instead.
            threads=1,
            smallest_side=2,
            ceiling_share=Fraction(1),
            cost=1.0,
            bit_depths=(8,),
            copied_profiles=("Constrained Baseline", "Baseline", "Main", "High"),
            flags=_x264,
        ),
        VideoEncoder(
            name="av1",
            title="AV1",
            ffmpeg_name="libsvtav1",
            coding=AV1,
            prefix="av1-",
            usual_crf=_svt_crf,
            # Whole ones: FFmpeg takes no others of it.
            levels=Levels(finest=10.0, coarsest=62.0, step=1.0, slope=0.6),
            reorder_frames=0,  # a temporal unit shows one picture, and they come as they are shown
            b_frames=0,
            threads=1,
            smallest_side=4,  # 2×2 gives one picture of 72 and no error
            # Near its ceiling it holds back sooner than a VBV would: at 0.8 of H.264's film lost a
            # tenth of its bits at 360p, at the same 4 %.
            ceiling_share=Fraction(1),
            cost=0.9,
            bit_depths=(8, 10),
            copied_profiles=(),
            flags=_svt_av1,
        ),
        VideoEncoder(
            name="hevc",
            title="HEVC",
            ffmpeg_name="libx265",
            coding=HEVC,
            prefix="hevc-",
            usual_crf=lambda _: 26.0,
            levels=Levels(finest=10.0, coarsest=45.0, step=0.5, slope=1.1),
            reorder_frames=1,
            b_frames=3,
            threads=1,
            # It refuses 8×8; with ten bits it writes beyond its memory at widths from 34 to 38.
            # From 64 on none of 196 sizes fails.
            smallest_side=64,
            ceiling_share=Fraction(7, 10),
            cost=1.9,
            bit_depths=(8, 10),
            copied_profiles=(),
            flags=_x265,
        ),
    )
}

# What plays everywhere: what is made where nothing else was asked, and of files of their own.
FALLBACK = VIDEO_ENCODERS["h264"]

# Priming is cut by the segment writer; 1024 samples is AAC-LC's frame and FFmpeg's encoder delay.
AAC_FRAME_SAMPLES = 1024
AAC_BITRATE_BPS = 128_000
# 64 kb/s a channel, as in stereo; the LFE takes next to none.
AAC_SURROUND_BITRATE_BPS = 320_000

AUDIO_ENCODERS: dict[str, AudioEncoder] = {
    "aac": AudioEncoder("aac", "aac", ()),
    "mp3": AudioEncoder("mp3", "libmp3lame", ()),
    "opus": AudioEncoder("opus", "libopus", ("-vbr", "on")),
    # Level 5 is FLAC's own default: beyond it the bytes barely shrink.
    "flac": AudioEncoder("flac", "flac", ("-compression_level", "5")),
}
