"""Pure: (MediaInfo, Profile) → Plan: the frozen timeline, chunks, steps and expected outputs.

The plan is a value. What `telecine plan --json` prints, what runs and what golden tests compare are
the same thing, and every decision stands in it with its reason. It names no path of the source, so
that any step can run from (plan, step id, source, folder) on any machine.

Time: presentation 0 is `timeline.origin_s` on the source's clock. Segment boundaries are ticks of
`timeline.timescale`; on a constant-rate timeline frame k stands at exactly `k * frame_ticks`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from telecine.engine.encoders import AAC_BITRATE_BPS, AAC_FRAME_SAMPLES, X264
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.ladder import (
    DroppedRung,
    Ladder,
    Rung,
    Size,
    ceiling_bps,
    fit_short_side,
    gop_frames,
    make_ladder,
    output_rate,
    source_size,
)
from telecine.engine.media import AudioStream, FrameIndex, MediaInfo, VideoStream
from telecine.engine.profile import (
    AUDIO_DEFAULT_BPS,
    AUDIO_KINDS,
    Output,
    OutputKind,
    Profile,
    file_name,
)
from telecine.engine.serial import from_plain, to_plain

PLAN_VERSION = 1

SEGMENT_GOPS = 3  # 3 GOPs of 2 s: Apple's 6 s target (7.5)
SEGMENT_S = Fraction(6)
MAX_CHUNK_S = Fraction(30)  # 3–5 segments: small enough to lose, large enough to seek for
MAX_COPY_GAP_S = Fraction(21, 2)  # x264's default keyint of 250 at 24 fps is 10.42 s
MAX_DURATION_S = Fraction(48 * 3600)

# How far sound may outlast or precede the picture before the picture is held for it (DESIGN 5: the
# offset is kept within 40 ms; a longer tail of sound is content that nobody may lose).
SOUND_OVERHANG_S = Fraction(1, 10)
COPY_OVERHANG_S = Fraction(1, 2)
# Copied sound is laid frame behind frame: what is left out between two packets comes early.
COPY_AUDIO_GAP_S = Fraction(1, 100)

# x264's row-level VBV reads the sizes of frames still in flight: with frame threads eight runs gave
# eight outputs, with one thread one. Rungs and chunks fill the processors instead.
ENCODER_THREADS = 1
HEAD_RUNGS = 2
HEAD_SMALLEST_SHORT_SIDE = 360  # below it the first picture would not look like the film
MAX_B_FRAME_OFFSET_S = Fraction(1, 2)

WORK = ".telecine"  # inside DIR: the plan, the results of steps, working files

RenditionMode = Literal["copy", "encode"]
StepKind = Literal["video-copy", "encode", "audio", "poster", "mp4"]


@dataclass(frozen=True, slots=True)
class Timeline:
    origin_s: Fraction
    rate: Fraction  # frames a second: exact when constant, the mean under a copied top rung
    constant: bool
    timescale: int
    frame_ticks: int  # 0 where the source's own frame times are kept
    boundaries: tuple[int, ...]  # of segments, in ticks: the first is 0, the last the end
    frames: tuple[int, ...]  # pictures in each segment
    gop_frames: int | None
    target_duration_s: int  # every segment of every rendition is at most this, rounded

    @property
    def segments(self) -> int:
        return len(self.boundaries) - 1

    @property
    def duration_s(self) -> Fraction:
        return Fraction(self.boundaries[-1], self.timescale)

    def time_s(self, segment: int) -> Fraction:
        return Fraction(self.boundaries[segment], self.timescale)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Segments [first, end): what one process decodes once and encodes for every rung."""

    index: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class VideoRendition:
    name: str
    size: Size
    mode: RenditionMode
    folder: str  # relative to DIR
    listed: bool  # in the playlists; False: made only for a progressive file
    head: bool  # published first, while the others wait
    encoder: str
    crf: int
    ceiling_bps: int
    gop_frames: int | None
    b_frames: int
    threads: int
    edit_offset_ticks: int  # the init segment's edit list: B-frame delay (ADR 0003)
    reason: str


@dataclass(frozen=True, slots=True)
class AudioRendition:
    name: str
    mode: RenditionMode
    folder: str
    listed: bool
    sample_rate: int
    channels: int
    bitrate_bps: int
    language: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class FileOutput:
    """A file of its own beside the segments. `path` is relative to DIR."""

    kind: OutputKind
    path: str
    rendition: str | None = None  # mp4: the video rendition it is joined from
    bitrate_bps: int | None = None
    copy: bool = False  # aac: the source's own frames


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work: a function of (plan, step id, source, folder). `needs` names the steps
    whose output lies in the folder before it can run."""

    id: str
    kind: StepKind
    renditions: tuple[str, ...] = ()
    chunk: int | None = None
    output: str | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    version: int
    source: MediaInfo
    profile: Profile
    video: VideoStream | None  # the stream chosen
    audio: AudioStream | None
    deinterlace: bool
    tone_map: bool
    working_copy: bool  # the container seeks badly: chunks read a stream copy made once
    timeline: Timeline
    chunks: tuple[Chunk, ...]
    renditions: tuple[VideoRendition, ...]  # highest first
    audio_rendition: AudioRendition | None
    files: tuple[FileOutput, ...]
    steps: tuple[Step, ...]  # in the order in which they are best started
    dropped: tuple[DroppedRung, ...]
    copy_refusals: tuple[str, ...]  # why the top rung is not a copy; empty where it is
    warnings: tuple[str, ...]

    @property
    def id(self) -> str:
        """Names this plan for this source: the same inputs give the same id, nothing else does."""
        text = json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def hls(self) -> bool:
        return self.profile.has("hls")

    @property
    def copied(self) -> VideoRendition | None:
        return next((r for r in self.renditions if r.mode == "copy"), None)

    @property
    def poster_time_s(self) -> Fraction:
        """Where the poster is looked for, from presentation 0: a tenth in, past titles and black,
        and early enough to be cheap in any container."""
        return min(self.timeline.duration_s / 10, Fraction(60))

    @property
    def listed(self) -> tuple[VideoRendition, ...]:
        """The video renditions in the playlists, highest first."""
        return tuple(r for r in self.renditions if r.listed)

    @property
    def sound(self) -> AudioRendition | None:
        """The audio rendition in the playlists."""
        audio = self.audio_rendition
        return audio if audio is not None and audio.listed else None

    def rendition(self, name: str) -> VideoRendition:
        return next(r for r in self.renditions if r.name == name)

    def step(self, step_id: str) -> Step:
        found = next((step for step in self.steps if step.id == step_id), None)
        if found is None:
            raise UsageError(f"the plan has no step {step_id!r}", code="step_unknown")
        return found

    def to_json(self) -> str:
        return json.dumps(to_plain(self), indent=1, ensure_ascii=False) + "\n"


def plan_from_json(text: str) -> Plan:
    """The plan that `Plan.to_json` wrote. Raises `UsageError` (`plan_unreadable`)."""
    try:
        plain = json.loads(text)
        if plain.get("version") != PLAN_VERSION:
            raise ValueError(f"version {plain.get('version')}, this program reads {PLAN_VERSION}")
        return from_plain(Plan, plain)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"not a plan of this program: {error}", code="plan_unreadable") from error


def make_plan(source: MediaInfo, profile: Profile) -> Plan:
    """Decide everything about one source and one profile.

    Raises `InputRefused` (`no_streams`, `no_video`, `no_audio`, `too_small`, `too_long`) and
    `UsageError` (`top_not_copyable` for `--top copy` where a rule forbids it).
    """
    warnings = list(source.warnings)
    video = _choose_video(source, profile, warnings)
    audio = _choose_audio(source, profile, warnings)
    if source.duration_s > MAX_DURATION_S:
        raise InputRefused(
            f"too long: {float(source.duration_s) / 3600:.1f} h, at most "
            f"{MAX_DURATION_S // 3600} h in one job",
            code="too_long",
        )
    if video is None:
        return _plan_audio_only(source, profile, audio, warnings)
    return _plan_video(source, profile, video, audio, warnings)


# --- choosing streams ------------------------------------------------------------------------


def _wants_video(profile: Profile) -> bool:
    return any(output.kind not in AUDIO_KINDS for output in profile.outputs)


def _choose_video(source: MediaInfo, profile: Profile, warnings: list[str]) -> VideoStream | None:
    if not _wants_video(profile):
        return None
    if not source.video:
        if profile.has("mp4"):
            raise InputRefused("no video stream, and mp4 was asked", code="no_video")
        return None
    chosen = max(source.video, key=lambda v: (v.default, v.width * v.height, -v.index))
    if len(source.video) > 1:
        why = "the default" if chosen.default else "the largest"
        warnings.append(
            f"{len(source.video)} video streams: stream {chosen.index} "
            f"({chosen.width}×{chosen.height}) taken as {why}"
        )
    return chosen


def _choose_audio(source: MediaInfo, profile: Profile, warnings: list[str]) -> AudioStream | None:
    if not source.audio:
        if any(output.kind in AUDIO_KINDS for output in profile.outputs):
            raise InputRefused("no audio stream, and audio was asked", code="no_audio")
        return None
    chosen = max(source.audio, key=lambda a: (a.default, -a.index))
    if len(source.audio) > 1:
        why = "the default" if chosen.default else "the first"
        warnings.append(
            f"{len(source.audio)} audio streams: stream {chosen.index} "
            f"({chosen.language or chosen.codec}) taken as {why}"
        )
    return chosen


# --- audio only ------------------------------------------------------------------------------


def _plan_audio_only(
    source: MediaInfo, profile: Profile, audio: AudioStream | None, warnings: list[str]
) -> Plan:
    if audio is None:
        raise InputRefused("no video or audio stream that can be decoded", code="no_streams")
    origin_s = max(audio.start_s or Fraction(0), Fraction(0))
    end_s = audio.end_s if audio.end_s is not None else origin_s + source.duration_s
    duration_s = end_s - origin_s
    if duration_s <= 0:
        raise InputRefused("the audio stream is empty", code="no_streams")
    copy_reasons = audio_copy_refusals(audio, origin_s, None)
    rate = 48_000 if copy_reasons else audio.sample_rate
    count = max(1, math.ceil(duration_s / SEGMENT_S))
    boundaries = [int(n * SEGMENT_S * rate) for n in range(count)]
    timeline = Timeline(
        origin_s=origin_s,
        rate=Fraction(rate, AAC_FRAME_SAMPLES),
        constant=True,
        timescale=rate,
        frame_ticks=AAC_FRAME_SAMPLES,
        boundaries=(*boundaries, max(boundaries[-1] + 1, round(duration_s * rate))),
        frames=(0,) * count,
        gop_frames=None,
        target_duration_s=int(SEGMENT_S),
    )
    rendition = _audio_rendition(audio, copy_reasons, listed=profile.has("hls"))
    if profile.has("poster"):
        warnings.append("no video: no poster")
    return _with_steps(
        Plan(
            version=PLAN_VERSION,
            source=source,
            profile=profile,
            video=None,
            audio=audio,
            deinterlace=False,
            tone_map=False,
            working_copy=False,
            timeline=timeline,
            chunks=(),
            renditions=(),
            audio_rendition=rendition if profile.has("hls") else None,
            files=_audio_files(profile, audio),
            steps=(),
            dropped=(),
            copy_refusals=(),
            warnings=tuple(warnings),
        )
    )


def audio_copy_refusals(
    audio: AudioStream, origin_s: Fraction, end_s: Fraction | None
) -> tuple[str, ...]:
    """Why this audio cannot be copied into the stream; empty where it can (DESIGN section 5)."""
    reasons = []
    if audio.codec != "aac" or audio.codec_profile != "LC":
        reasons.append(f"{audio.codec} {audio.codec_profile or ''}".strip() + " is not AAC-LC")
    elif not audio.configured:
        reasons.append("ADTS frames, whose configuration is in no header")
    if audio.channels != 2:
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
    return tuple(reasons)


def _audio_rendition(
    audio: AudioStream, copy_reasons: tuple[str, ...], *, listed: bool
) -> AudioRendition:
    copy = not copy_reasons
    return AudioRendition(
        name="aac",
        mode="copy" if copy else "encode",
        folder="audio/aac" if listed else f"{WORK}/audio/aac",
        listed=listed,
        sample_rate=audio.sample_rate if copy else 48_000,
        channels=2,
        bitrate_bps=(audio.bitrate_bps or AAC_BITRATE_BPS) if copy else AAC_BITRATE_BPS,
        language=audio.language,
        reason="AAC-LC stereo: copied" if copy else "encoded: " + "; ".join(copy_reasons),
    )


def _audio_files(profile: Profile, audio: AudioStream | None) -> tuple[FileOutput, ...]:
    """Files of sound alone. AAC is copied where no rate was asked and the source has it already."""
    copyable = audio is not None and audio.codec == "aac" and audio.configured
    return tuple(
        FileOutput(
            output.kind,
            file_name(output),
            bitrate_bps=output.bitrate_bps or AUDIO_DEFAULT_BPS.get(output.kind),
            copy=output.kind == "aac" and output.bitrate_bps is None and copyable,
        )
        for output in profile.outputs
        if output.kind in AUDIO_KINDS
    )


# --- video -----------------------------------------------------------------------------------


def display_of(video: VideoStream) -> tuple[Fraction, Fraction]:
    """Display size before rounding: clean aperture, then square pixels, then upright."""
    left, top, right, bottom = video.crop
    width = Fraction(video.width - left - right) * video.sar
    height = Fraction(video.height - top - bottom)
    return (height, width) if video.rotation in (90, 270) else (width, height)


def _plan_video(
    source: MediaInfo,
    profile: Profile,
    video: VideoStream,
    audio: AudioStream | None,
    warnings: list[str],
) -> Plan:
    display = display_of(video)
    own = source_size(display)
    if own.width < 2 or own.height < 2:
        raise InputRefused(
            f"too small: {float(display[0]):g}×{float(display[1]):g} pixels, "
            "H.264 4:2:0 needs at least 2×2",
            code="too_small",
        )
    interlaced = video.field_order in ("tff", "bff")
    mean = video.rate or video.nominal_rate or Fraction(25)
    table = video.index_table
    rate = output_rate(
        mean,
        variable=video.variable_rate,
        exact=table is None or table.usual_gap_ticks.denominator == 1,
        field_rate=interlaced,
    )
    ladder = _ladder_for(profile, display, rate)
    warnings.extend(ladder.warnings)

    origin_s, end_s = _span(source, video, audio)
    refusals = _copy_refusals(source, video, audio, ladder, own, origin_s)
    if profile.top == "copy" and refusals:
        raise UsageError(
            "the top rung cannot be copied: " + "; ".join(refusals), code="top_not_copyable"
        )
    copied = not refusals and profile.top != "encode"
    if copied:
        assert video.index_table is not None
        timeline = _source_timeline(video, video.index_table, rate, origin_s, end_s)
        if audio is not None and audio.end_s is not None:
            end_s = origin_s + timeline.duration_s
    else:
        timeline = _constant_timeline(rate, origin_s, end_s)
    renditions = _renditions(ladder, profile, video, timeline, copied=copied)
    rendition = None
    if audio is not None and (profile.has("hls") or profile.has("mp4")):
        reasons = audio_copy_refusals(audio, origin_s, end_s)
        rendition = _audio_rendition(audio, reasons, listed=profile.has("hls"))
    return _with_steps(
        Plan(
            version=PLAN_VERSION,
            source=source,
            profile=profile,
            video=video,
            audio=audio,
            deinterlace=interlaced,
            tone_map=video.color.hdr,
            working_copy=not source.seekable and timeline.segments > 1,
            timeline=timeline,
            chunks=make_chunks(timeline, head=not copied),
            renditions=renditions,
            audio_rendition=rendition,
            files=_files(profile, audio, ladder, display, rate),
            steps=(),
            dropped=ladder.dropped,
            copy_refusals=refusals,
            warnings=tuple(warnings),
        )
    )


def _span(
    source: MediaInfo, video: VideoStream, audio: AudioStream | None
) -> tuple[Fraction, Fraction]:
    """Presentation 0 and the end, on the source's clock.

    The picture rules; sound that starts or ends well outside it is kept, and the first or last
    picture is held for it.
    """
    start_s = video.start_s if video.start_s is not None else source.start_s
    end_s = video.end_s if video.end_s is not None else source.start_s + source.duration_s
    if audio is not None and audio.start_s is not None and audio.end_s is not None:
        # What lies before 0 is an encoder's priming, which no player plays.
        first_s = max(audio.start_s, min(Fraction(0), start_s))
        if audio.end_s > first_s and start_s - first_s > SOUND_OVERHANG_S:
            start_s = first_s
        if audio.end_s - end_s > SOUND_OVERHANG_S:
            end_s = audio.end_s
    return start_s, max(end_s, start_s)


def _ladder_for(profile: Profile, display: tuple[Fraction, Fraction], rate: Fraction) -> Ladder:
    """The rungs to encode: the ladder where HLS is wanted, else just what files ask for."""
    if profile.has("hls"):
        return make_ladder(display, rate, profile.rungs)
    asked = [_mp4_side(output, display) for output in profile.outputs if output.kind == "mp4"]
    if not asked:
        return Ladder((), (), ())
    return make_ladder(display, rate, asked)


def _mp4_side(output: Output, display: tuple[Fraction, Fraction]) -> int:
    return output.short_side or source_size(display).short_side


def _files(
    profile: Profile,
    audio: AudioStream | None,
    ladder: Ladder,
    display: tuple[Fraction, Fraction],
    rate: Fraction,
) -> tuple[FileOutput, ...]:
    files = list(_audio_files(profile, audio))
    for output in profile.outputs:
        if output.kind == "mp4":
            rung = _rung_for(_mp4_side(output, display), ladder, display, rate)
            files.append(FileOutput("mp4", file_name(output), rung.name))
        elif output.kind == "poster":
            files.append(FileOutput("poster", file_name(output)))
    return tuple(files)


def _rung_for(
    side: int, ladder: Ladder, display: tuple[Fraction, Fraction], rate: Fraction
) -> Rung:
    """The ladder's rung of this short side, or one of its own where the ladder has none."""
    own = source_size(display)
    size = own if side >= own.short_side else fit_short_side(side, display)
    for rung in ladder.rungs:
        if rung.size == size:
            return rung
    return Rung(f"{size.short_side}p", size, ceiling_bps(size, rate), "asked as a file")


# --- the copied top rung ---------------------------------------------------------------------


def _copy_refusals(
    source: MediaInfo,
    video: VideoStream,
    audio: AudioStream | None,
    ladder: Ladder,
    own: Size,
    origin_s: Fraction,
) -> tuple[str, ...]:
    """Every rule of DESIGN section 5 that forbids copying the picture; empty where none does."""
    if not ladder.rungs:
        return ("no video output",)
    reasons = []
    if ladder.rungs[0].size != own:
        reasons.append(f"the top rung is {ladder.rungs[0].size}, the source {own}")
    if (own.width, own.height) != (video.width, video.height):
        reasons.append("the picture needs cropping, rotating or even sizes")
    if video.codec != "h264":
        reasons.append(f"{video.codec} is not H.264")
    elif video.codec_profile not in ("Constrained Baseline", "Baseline", "Main", "High"):
        reasons.append(f"H.264 profile {video.codec_profile} is not Baseline, Main or High")
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
    if video.codec == "h264" and (video.parameter_sets != 2 or video.in_band_parameter_sets):
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
        (size * 8 / float(duration) for size, duration in _segment_loads(video, index)), default=0
    )
    if peak > 2 * top_ceiling_bps:
        reasons.append(
            f"peaks at {peak / 1e6:.1f} Mb/s, more than twice the rung's "
            f"{top_ceiling_bps / 1e6:.1f} Mb/s"
        )
    if index.reorder_ticks * video.time_base > MAX_B_FRAME_OFFSET_S:
        reasons.append("pictures are sent more than half a second before they are shown")
    return reasons


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


def copied_load(plan: Plan) -> list[tuple[Fraction, int]]:
    """(seconds, bytes) of each segment of the copied rung: known before it is made."""
    assert plan.video is not None
    assert plan.video.index_table is not None
    loads = _segment_loads(plan.video, plan.video.index_table)
    return [(seconds, size) for size, seconds in loads]


def _segment_loads(video: VideoStream, index: FrameIndex) -> list[tuple[int, Fraction]]:
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


# --- timeline and chunks ---------------------------------------------------------------------


def _source_timeline(
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
        target_duration_s=_target_duration(longest_s),
    )


def _constant_timeline(rate: Fraction, origin_s: Fraction, end_s: Fraction) -> Timeline:
    total = max(1, round((end_s - origin_s) * rate))
    gop = gop_frames(rate)
    step = SEGMENT_GOPS * gop
    starts = list(range(0, total, step))
    # 30000/1001 → timescale 30000, 1001 ticks a frame: exact. Small rates get finer ticks, since
    # players round badly below a millisecond.
    scale = 1 if rate.numerator >= 1000 else 1000
    ticks = rate.denominator * scale
    return Timeline(
        origin_s=origin_s,
        rate=rate,
        constant=True,
        timescale=rate.numerator * scale,
        frame_ticks=ticks,
        boundaries=tuple(start * ticks for start in (*starts, total)),
        frames=tuple(min(step, total - start) for start in starts),
        gop_frames=gop,
        target_duration_s=_target_duration(step / rate),
    )


def _target_duration(longest_s: Fraction) -> int:
    """EXT-X-TARGETDURATION, fixed before any segment exists and the same for all (Apple 8.2).
    Sound ends up to a frame after the picture's boundary: 32 ms at 32 kHz."""
    return max(1, math.floor(longest_s + Fraction(1, 2) + Fraction(32, 1000)))


def make_chunks(timeline: Timeline, *, head: bool) -> tuple[Chunk, ...]:
    """Segments grouped into spans of 30 s at the most. With `head` the first segment is a chunk of
    its own: the first, short step that makes a source playable."""
    opening = 1 if head and timeline.segments > 1 else 0
    rest = timeline.segments - opening
    rest_s = timeline.duration_s - timeline.time_s(opening)
    count = min(rest, max(1, math.ceil(rest_s / MAX_CHUNK_S)))
    edges = [opening + round(Fraction(rest * n, count)) for n in range(count + 1)]
    if opening:
        edges.insert(0, 0)
    spans = itertools.pairwise(edges)
    return tuple(Chunk(n, first, end) for n, (first, end) in enumerate(spans))


# --- renditions and steps --------------------------------------------------------------------


def _renditions(
    ladder: Ladder, profile: Profile, video: VideoStream, timeline: Timeline, *, copied: bool
) -> tuple[VideoRendition, ...]:
    display = display_of(video)
    listed = list(ladder.rungs) if profile.has("hls") else []
    extra: list[Rung] = []
    for output in profile.outputs:
        if output.kind == "mp4":
            rung = _rung_for(_mp4_side(output, display), ladder, display, timeline.rate)
            if rung not in listed and rung not in extra:
                extra.append(rung)
    rungs = sorted([*listed, *extra], key=lambda rung: rung.size.pixels, reverse=True)
    head = _head_rungs([rung for rung in rungs if rung in listed], copied=copied)
    b_frames, offset = _b_frames(video, timeline)
    renditions = []
    for rung in rungs:
        copy = copied and rung is rungs[0]
        shown = rung in listed
        renditions.append(
            VideoRendition(
                name=rung.name,
                size=rung.size,
                mode="copy" if copy else "encode",
                folder=f"video/{rung.name}" if shown else f"{WORK}/video/{rung.name}",
                listed=shown,
                head=rung.name in head,
                encoder=X264.name,
                crf=X264.crf,
                ceiling_bps=rung.ceiling_bps,
                gop_frames=timeline.gop_frames,
                b_frames=b_frames,
                threads=ENCODER_THREADS,
                edit_offset_ticks=_index_offset(video) if copy else offset,
                reason="copied: the source keeps every rule" if copy else rung.reason,
            )
        )
    return tuple(renditions)


def _head_rungs(listed: Sequence[Rung], *, copied: bool) -> frozenset[str]:
    """Which rungs are published first. A copied rung is there at once and needs no company."""
    if copied:
        return frozenset(rung.name for rung in listed[:1])
    useful = [rung for rung in listed if rung.size.short_side >= HEAD_SMALLEST_SHORT_SIDE]
    chosen = useful if len(useful) >= HEAD_RUNGS else listed
    return frozenset(rung.name for rung in chosen[-HEAD_RUNGS:])


def _index_offset(video: VideoStream) -> int:
    assert video.index_table is not None
    return video.index_table.reorder_ticks


def _b_frames(video: VideoStream, timeline: Timeline) -> tuple[int, int]:
    """(B-frames, edit-list offset in ticks) of encoded rungs. Where the source's frames lie so far
    apart that reordering would delay the stream by seconds, B-frames are left out."""
    if timeline.constant:
        return X264.b_frames, X264.reorder_frames * timeline.frame_ticks
    assert video.index_table is not None
    offset = X264.reorder_frames * video.index_table.max_gap_ticks
    if Fraction(offset, timeline.timescale) > MAX_B_FRAME_OFFSET_S:
        return 0, 0
    return X264.b_frames, offset


def _with_steps(plan: Plan) -> Plan:
    """Add the steps, in the order in which they are best started: what makes it playable first."""
    steps: list[Step] = []
    audio_files = [file.path for file in plan.files if file.kind in AUDIO_KINDS]
    if plan.copied is not None:
        steps.append(Step("video-copy", "video-copy", (plan.copied.name,)))
    encoded = [r for r in plan.renditions if r.mode == "encode"]
    head = [r.name for r in encoded if r.head]
    rest = [r.name for r in encoded if not r.head]
    if head and rest:
        steps.append(Step("encode-0000-head", "encode", tuple(head), 0))
    elif encoded:
        steps.append(Step("encode-0000", "encode", tuple(r.name for r in encoded), 0))
    if plan.audio is not None and (plan.audio_rendition or audio_files):
        steps.append(
            Step("audio", "audio", (plan.audio_rendition.name,) if plan.audio_rendition else ())
        )
    if any(file.kind == "poster" for file in plan.files):
        steps.append(Step("poster", "poster", output="poster.jpg"))
    if head and rest:
        steps.append(Step("encode-0000", "encode", tuple(rest), 0))
    if encoded:
        names = tuple(r.name for r in encoded)
        steps.extend(
            Step(f"encode-{chunk.index:04d}", "encode", names, chunk.index)
            for chunk in plan.chunks[1:]
        )
    for file in plan.files:
        if file.kind == "mp4":
            steps.append(_mp4_step(file, steps))
    return replace(plan, steps=tuple(steps))


def _mp4_step(file: FileOutput, before: Sequence[Step]) -> Step:
    needs = tuple(
        step.id
        for step in before
        if step.kind == "audio" or (file.rendition in step.renditions and step.kind != "mp4")
    )
    assert file.rendition is not None
    return Step(f"mp4-{file.path[:-4]}", "mp4", (file.rendition,), output=file.path, needs=needs)
