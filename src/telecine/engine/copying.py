"""Pure: what may be copied instead of encoded, and the timeline that a copied picture dictates.

Each function that forbids says why, in words for the report (DESIGN section 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from telecine.engine.encoders import AAC_FRAME_SAMPLES, FALLBACK, VideoEncoder
from telecine.engine.ladder import Ladder, Size
from telecine.engine.media import AudioStream, FrameIndex, Keyframe, MediaInfo, VideoStream
from telecine.engine.timeline import SEGMENT_S, Timeline, target_duration_s

MAX_COPY_GAP_S = Fraction(21, 2)  # x264's default keyint of 250 at 24 fps is 10.42 s

# How far sound may outlast or precede the picture before the picture is held for it (DESIGN 5: the
# offset is kept within 40 ms; a longer tail of sound is content that nobody may lose).
SOUND_OVERHANG_S = Fraction(1, 10)
COPY_OVERHANG_S = Fraction(1, 2)
# Copied sound is laid frame behind frame: what is left out between two packets comes early.
COPY_AUDIO_GAP_S = Fraction(1, 100)
MAX_B_FRAME_OFFSET_S = Fraction(1, 2)


def audio_copy_refusals(
    audio: AudioStream, origin_s: Fraction, end_s: Fraction | None, *, surround: bool = False
) -> tuple[str, ...]:
    """Why this audio cannot be copied into the stream, as stereo or as `surround`; empty where it
    can (DESIGN section 5)."""
    reasons = []
    if audio.codec != "aac" or audio.codec_profile != "LC":
        reasons.append(f"{audio.codec} {audio.codec_profile or ''}".strip() + " is not AAC-LC")
    elif not audio.configured:
        reasons.append("ADTS frames, whose configuration is in no header")
    if surround:
        # Any other order of six channels stands in a program_config_element, which players ignore.
        if audio.channel_layout != "5.1":
            reasons.append(f"channels {audio.channel_layout}, not 5.1")
    elif audio.channels != 2:
        reasons.append(f"{audio.channels} channel(s), not stereo")
    if audio.sample_rate not in (44_100, 48_000):
        reasons.append(f"{audio.sample_rate} Hz")
    if audio.frame_samples != AAC_FRAME_SAMPLES:
        reasons.append("frames of unknown or odd length")
    if audio.gap_s > COPY_AUDIO_GAP_S:
        reasons.append(f"a hole of {float(audio.gap_s):.2f} s")
    if audio.start_s is None or audio.start_s - origin_s > SOUND_OVERHANG_S:
        reasons.append("starts later than the picture")
    elif origin_s - audio.start_s > SOUND_OVERHANG_S:
        reasons.append("starts before the timeline")
    if end_s is not None and (audio.end_s is None or end_s - audio.end_s > SOUND_OVERHANG_S):
        reasons.append("ends before the picture")
    elif end_s is not None and audio.end_s is not None and audio.end_s - end_s > SOUND_OVERHANG_S:
        reasons.append("ends after the picture")
    return tuple(reasons)


def copy_refusals(
    source: MediaInfo,
    video: VideoStream,
    audio: AudioStream | None,
    ladder: Ladder,
    own: Size,
    origin_s: Fraction,
    *,
    codecs: Sequence[VideoEncoder] = (FALLBACK,),
) -> tuple[str, ...]:
    """Every rule of DESIGN section 5 that forbids copying the picture into a ladder of `codecs`;
    empty where none does."""
    if not ladder.rungs:
        return ("no video output",)
    reasons = []
    if FALLBACK not in codecs:
        reasons.append(f"no ladder of {FALLBACK.title} is made")
    if ladder.rungs[0].size != own:
        reasons.append(f"the top rung is {ladder.rungs[0].size}, the source {own}")
    if (own.width, own.height) != (video.width, video.height):
        reasons.append("the picture needs cropping, rotating or even sizes")
    if video.codec != FALLBACK.name:
        reasons.append(f"{video.codec} is not {FALLBACK.title}")
    elif video.codec_profile not in FALLBACK.copied_profiles:
        reasons.append(
            f"{FALLBACK.title} profile {video.codec_profile} is not Baseline, Main or High"
        )
    if video.pix_fmt not in ("yuv420p", "yuvj420p"):
        reasons.append(f"pixels are {video.pix_fmt}, not 8-bit 4:2:0")
    if video.field_order != "progressive":
        reasons.append(f"field order is {video.field_order}, not progressive")
    if video.sar != 1:
        reasons.append(f"pixels are {video.sar}, not square")
    if video.rotation or video.mirrored:
        reasons.append("the picture must be turned")
    if video.color.hdr:
        reasons.append("HDR must be tone-mapped")
    if video.open_edits:
        reasons.append("an edit list starts inside a GOP or has several edits")
    if video.codec == FALLBACK.name and (video.parameter_sets != 2 or video.in_band_parameter_sets):
        reasons.append("not exactly one SPS and one PPS")
    if video.rate is not None and video.rate > Fraction(6006, 100):
        reasons.append(f"{float(video.rate):.2f} frames a second, more than 60")
    if not source.seekable:
        reasons.append(f"the container {source.container.split(',')[0]} does not seek exactly")
    if audio is not None and audio.end_s is not None and video.end_s is not None:
        overhang = audio.end_s - video.end_s
        if overhang > COPY_OVERHANG_S:
            reasons.append(f"the sound outlasts the picture by {float(overhang):.1f} s")
    if video.start_s != origin_s:
        reasons.append("the sound starts before the picture")
    if (1 / video.time_base).denominator != 1:
        reasons.append("the container's clock has no whole number of ticks in a second")
    index = video.index_table
    if index is None:
        reasons.append("the container has no index, and the file is too large to read twice")
    else:
        reasons.extend(_index_refusals(video, index, ladder.rungs[0].ceiling_bps))
    return tuple(reasons)


def _index_refusals(video: VideoStream, index: FrameIndex, top_ceiling_bps: int) -> list[str]:
    reasons = []
    if index.damaged_bytes:
        reasons.append("the file is cut off")
    if not index.keyframes or not index.keyframes[0].idr or index.keyframes[0].frame:
        reasons.append("does not start with an IDR picture")
        return reasons
    cuts = [key for key in index.keyframes if key.idr]
    ends = [key.ticks for key in cuts[1:]] + [index.end_ticks]
    gap_s = max(e - key.ticks for key, e in zip(cuts, ends, strict=True)) * video.time_base
    if gap_s > MAX_COPY_GAP_S:
        reasons.append(
            f"IDR pictures are up to {float(gap_s):.1f} s apart, "
            f"more than {float(MAX_COPY_GAP_S):g} s"
        )
        return reasons
    peak = max(
        (size * 8 / float(duration) for size, duration in segment_loads(video, index)), default=0
    )
    if peak > 2 * top_ceiling_bps:
        reasons.append(
            f"peaks at {peak / 1e6:.1f} Mb/s, more than twice the rung's "
            f"{top_ceiling_bps / 1e6:.1f} Mb/s"
        )
    if index.reorder_ticks * video.time_base > MAX_B_FRAME_OFFSET_S:
        reasons.append("pictures are sent more than half a second before they are shown")
    return reasons


def source_timeline(
    video: VideoStream, index: FrameIndex, rate: Fraction, origin_s: Fraction, end_s: Fraction
) -> Timeline:
    """Segments on the source's own keyframes. Sound that outlasts the picture (by half a second at
    the most, else it is not copied) has the last picture held for it."""
    spans = _spans(video, index)
    base = index.first_ticks
    last = max(spans[-1][1], math.floor(end_s / video.time_base)) - base
    boundaries = (*(start - base for start, *_ in spans), last)
    longest_s = max(b - a for a, b in itertools.pairwise(boundaries)) * video.time_base
    timescale = 1 / video.time_base
    assert timescale.denominator == 1
    return Timeline(
        origin_s=origin_s,
        # A steady rate with frames missing is that rate; one that varies is told by its mean.
        rate=rate if index.regular else video.rate or rate,
        constant=False,
        timescale=int(timescale),
        frame_ticks=0,
        boundaries=boundaries,
        frames=tuple(frames for _, _, frames, _ in spans),
        gop_frames=None,
        target_duration_s=target_duration_s(longest_s),
    )


def key_before(index: FrameIndex, ticks: int) -> Keyframe | None:
    """The last key picture that is shown before this time; None where there is none."""
    return next((key for key in reversed(index.keyframes) if key.ticks < ticks), None)


def _segment_cuts(video: VideoStream, index: FrameIndex) -> list[int]:
    """Positions in the list of IDR pictures where segments start: as near to 6 s as they allow."""
    ticks = [key.ticks for key in index.keyframes if key.idr]
    cuts = [0]
    for position in range(1, len(ticks)):
        start = ticks[cuts[-1]]
        following = ticks[position + 1] if position + 1 < len(ticks) else index.end_ticks
        here_s = (ticks[position] - start) * video.time_base
        next_s = (following - start) * video.time_base
        if abs(here_s - SEGMENT_S) <= abs(next_s - SEGMENT_S):
            cuts.append(position)
    return cuts


def segment_loads(video: VideoStream, index: FrameIndex) -> list[tuple[int, Fraction]]:
    """(bytes, seconds) of each segment of a copied rung: exact, from the sample table."""
    return [(size, (end - start) * video.time_base) for start, end, _, size in _spans(video, index)]


def _spans(video: VideoStream, index: FrameIndex) -> list[tuple[int, int, int, int]]:
    """(start ticks, end ticks, frames, bytes) of each segment on the source's keyframes."""
    idrs = [n for n, key in enumerate(index.keyframes) if key.idr]
    starts = [idrs[cut] for cut in _segment_cuts(video, index)]
    spans = []
    for start, end in zip(starts, [*starts[1:], len(index.keyframes)], strict=True):
        last = end == len(index.keyframes)
        end_ticks = index.end_ticks if last else index.keyframes[end].ticks
        end_frame = index.frame_count if last else index.keyframes[end].frame
        size = sum(key.size_bytes for key in index.keyframes[start:end])
        first = index.keyframes[start]
        spans.append((first.ticks, end_ticks, end_frame - first.frame, size))
    return spans
