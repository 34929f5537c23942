"""Pure: one record per encoder. A new codec is one record here (DESIGN section 4, rule 4).

An encoder is a name in FFmpeg, what it must be told for a rung, and what its streams look like. The
flags every encoder shares (mapping, timing, container) are `argv`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What one rung asks of a video encoder. `gop_frames` is None under a copied top rung, whose
    own keyframes are forced instead."""

    ceiling_bps: int
    crf: int
    gop_frames: int | None
    b_frames: int
    threads: int


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    name: str  # as `plan` and `report` call it
    ffmpeg_name: str
    crf: int  # the fixed-quality level that stands for "good" with this encoder
    reorder_frames: int  # how many frames a picture may be sent ahead of being shown
    b_frames: int
    flags: Callable[[VideoSettings], list[str]]


@dataclass(frozen=True, slots=True)
class AudioEncoder:
    name: str
    ffmpeg_name: str
    flags: tuple[str, ...]


# Keyint for "only where forced": longer than any segment can be at 60 fps.
_ONLY_FORCED = 100_000


def _x264(settings: VideoSettings) -> list[str]:
    gop = settings.gop_frames or _ONLY_FORCED
    return [
        # veryfast: the knee of x264's speed/quality curve for a ladder on CPUs (DESIGN section 6).
        *("-preset", "veryfast"),
        # Constant quality, so easy scenes cost little …
        *("-crf", str(settings.crf)),
        # … capped by a VBV of two seconds, so that BANDWIDTH can be promised before measuring.
        *("-maxrate", str(settings.ceiling_bps), "-bufsize", str(2 * settings.ceiling_bps)),
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
        # Fixed, since x264's bytes depend on it: resume must reach the same bytes on any machine.
        *("-threads", str(settings.threads)),
    ]


X264 = VideoEncoder("h264", "libx264", crf=23, reorder_frames=1, b_frames=3, flags=_x264)

# Priming is cut by the segment writer; 1024 samples is AAC-LC's frame and FFmpeg's encoder delay.
AAC_FRAME_SAMPLES = 1024
AAC_BITRATE_BPS = 128_000

AUDIO_ENCODERS: dict[str, AudioEncoder] = {
    "aac": AudioEncoder("aac", "aac", ()),
    "mp3": AudioEncoder("mp3", "libmp3lame", ()),
    "opus": AudioEncoder("opus", "libopus", ("-vbr", "on")),
    # Level 5 is FLAC's own default: beyond it the bytes barely shrink.
    "flac": AudioEncoder("flac", "flac", ("-compression_level", "5")),
}
