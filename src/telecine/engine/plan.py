"""Pure: (MediaInfo, Profile) → Plan: the frozen timeline, chunks, steps and expected outputs.

The plan is a value. What `telecine plan --json` prints, what runs and what golden tests compare are
the same thing, and every decision stands in it with its reason. It names no path of the source, so
that any step can run from (plan, step id, source, folder) on any machine.

Time: presentation 0 is `timeline.origin_s` on the source's clock. Segment boundaries are ticks of
`timeline.timescale`; on a constant-rate timeline frame k stands at exactly `k * frame_ticks`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from telecine.engine.copying import (
    MAX_B_FRAME_OFFSET_S,
    SOUND_OVERHANG_S,
    audio_copy_refusals,
    copy_refusals,
    segment_loads,
    source_timeline,
)
from telecine.engine.encoders import AAC_BITRATE_BPS, AAC_FRAME_SAMPLES, X264
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.ladder import (
    DroppedRung,
    Ladder,
    Rung,
    Size,
    ceiling_bps,
    fit_short_side,
    make_ladder,
    output_rate,
    source_size,
)
from telecine.engine.media import AudioStream, MediaInfo, VideoStream
from telecine.engine.profile import (
    AUDIO_DEFAULT_BPS,
    AUDIO_KINDS,
    DEFAULT_OUTPUTS,
    Output,
    OutputKind,
    Profile,
    file_name,
)
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.timeline import (
    MAX_CHUNK_S,
    SEGMENT_S,
    Chunk,
    Timeline,
    constant_timeline,
    make_chunks,
)

PLAN_VERSION = 1

MAX_DURATION_S = Fraction(48 * 3600)

# x264's row-level VBV reads the sizes of frames still in flight: with frame threads eight runs gave
# eight outputs, with one thread one. Rungs and chunks fill the processors instead.
ENCODER_THREADS = 1
HEAD_RUNGS = 2
HEAD_SEGMENTS = 2
HEAD_SMALLEST_SHORT_SIDE = 360  # below it the first picture would not look like the film

WORK = ".telecine"  # inside DIR: the plan, the results of steps, working files

RenditionMode = Literal["copy", "encode"]
StepKind = Literal["video-copy", "encode", "audio", "poster", "mp4"]


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
class Span:
    """Segments [first, end) of one rendition: what a step makes of it."""

    rendition: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work: a function of (plan, step id, source, folder). `needs` names the steps
    whose output lies in the folder before it can run."""

    id: str
    kind: StepKind
    spans: tuple[Span, ...] = ()  # highest rendition first
    output: str | None = None
    needs: tuple[str, ...] = ()

    @property
    def renditions(self) -> tuple[str, ...]:
        return tuple(span.rendition for span in self.spans)

    @property
    def first(self) -> int:
        """The segment with which it begins: 0 where it makes none."""
        return min((span.first for span in self.spans), default=0)

    @property
    def end(self) -> int:
        return max((span.end for span in self.spans), default=0)


@dataclass(frozen=True)
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
    head_segments: int  # how many the head rungs get before the others start; 0: none have to wait
    renditions: tuple[VideoRendition, ...]  # highest first
    audio_rendition: AudioRendition | None
    files: tuple[FileOutput, ...]
    steps: tuple[Step, ...]  # in the order in which they are best started
    dropped: tuple[DroppedRung, ...]
    copy_refusals: tuple[str, ...]  # why the top rung is not a copy; empty where it is
    warnings: tuple[str, ...]

    @cached_property  # asked for with each step, and a plan may name 100 000 keyframes
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

    @property
    def opening(self) -> tuple[Step, ...]:
        """The steps whose first segments make it playable: a copy or the first encode, and
        sound."""
        picture = next((s for s in self.steps if s.kind in ("video-copy", "encode")), None)
        sound = next((s for s in self.steps if s.kind == "audio"), None)
        return tuple(step for step in (picture, sound) if step is not None)

    def reads_copy(self, step: Step) -> bool:
        """Whether this chunk is decoded from the working copy. The first needs no seek and reads
        the source itself, so that the first picture does not wait for a copy of everything; unless
        the source has decode times only, whose guessed times would not join those of the copy."""
        return self.working_copy and (step.first > 0 or _untimed(self.source))

    def rendition(self, name: str) -> VideoRendition:
        found = next((r for r in self.renditions if r.name == name), None)
        if found is None:
            raise UsageError(f"the plan has no rendition {name!r}", code="rendition_unknown")
        return found

    def folder_of(self, name: str) -> str:
        """Where a rendition's segments lie, picture or sound; relative to DIR."""
        audio = self.audio_rendition
        if audio is not None and audio.name == name:
            return audio.folder
        return self.rendition(name).folder

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


def make_plan(source: MediaInfo, profile: Profile, *, damaged: bool = False) -> Plan:
    """Decide everything about one source and one profile. What is known to be `damaged` is decoded
    and encoded throughout, since a copy would hand the damage on.

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
    return _plan_video(source, profile, video, audio, warnings, damaged=damaged)


def encoded_instead(plan: Plan) -> Plan | None:
    """The plan to go over to when the source turns out too damaged for a copied top rung, which no
    index tells; None where nothing is copied, or where the user insists on it."""
    if plan.copied is None or plan.profile.top != "auto":
        return None
    return make_plan(plan.source, plan.profile, damaged=True)


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
    if profile.has("poster") and profile.outputs != DEFAULT_OUTPUTS:  # else nobody asked for it
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
            head_segments=0,
            renditions=(),
            audio_rendition=rendition if profile.has("hls") else None,
            files=_audio_files(profile, audio),
            steps=(),
            dropped=(),
            copy_refusals=(),
            warnings=tuple(warnings),
        )
    )


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


def _audio_files(
    profile: Profile, audio: AudioStream | None, *, damaged: bool = False
) -> tuple[FileOutput, ...]:
    """Files of sound alone. AAC is copied where no rate was asked and the source has it already."""
    copyable = audio is not None and audio.codec == "aac" and audio.configured and not damaged
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
    """Display size before rounding: square pixels, then upright."""
    width, height = video.width * video.sar, Fraction(video.height)
    return (height, width) if video.rotation in (90, 270) else (width, height)


def _plan_video(
    source: MediaInfo,
    profile: Profile,
    video: VideoStream,
    audio: AudioStream | None,
    warnings: list[str],
    *,
    damaged: bool,
) -> Plan:
    distrust = ("the source is damaged",) if damaged else ()
    if damaged:
        warnings.append("the source is too damaged to be copied: it is encoded instead")
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
    refusals = distrust + copy_refusals(source, video, audio, ladder, own, origin_s)
    if profile.top == "copy" and refusals:
        raise UsageError(
            "the top rung cannot be copied: " + "; ".join(refusals), code="top_not_copyable"
        )
    copied = not refusals and profile.top != "encode"
    if copied:
        assert video.index_table is not None
        timeline = source_timeline(video, video.index_table, rate, origin_s, end_s)
        if audio is not None and audio.end_s is not None:
            end_s = origin_s + timeline.duration_s
    else:
        timeline = constant_timeline(rate, origin_s, end_s)
    renditions = _renditions(ladder, profile, video, timeline, copied=copied)
    chunks = make_chunks(timeline, _keyframes_s(video, origin_s))
    if any(rendition.mode == "encode" for rendition in renditions):
        warnings.extend(_long_chunk_warnings(timeline, chunks))
    rendition = None
    if audio is not None and (profile.has("hls") or profile.has("mp4")):
        reasons = distrust + audio_copy_refusals(audio, origin_s, end_s)
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
            working_copy=not source.seekable and (len(chunks) > 1 or _untimed(source)),
            timeline=timeline,
            chunks=chunks,
            head_segments=_head_segments(renditions, chunks),
            renditions=renditions,
            audio_rendition=rendition,
            files=_files(profile, audio, ladder, display, rate, damaged=damaged),
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
    *,
    damaged: bool,
) -> tuple[FileOutput, ...]:
    files = list(_audio_files(profile, audio, damaged=damaged))
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


def copied_load(plan: Plan) -> list[tuple[Fraction, int]]:
    """(seconds, bytes) of each segment of the copied rung: known before it is made."""
    assert plan.video is not None
    assert plan.video.index_table is not None
    loads = segment_loads(plan.video, plan.video.index_table)
    return [(seconds, size) for size, seconds in loads]


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


def _untimed(source: MediaInfo) -> bool:
    """AVI states no presentation times; FFmpeg guesses them, a frame or two apart by the way in
    which the file is read."""
    return source.container == "avi"


def _head_segments(renditions: Sequence[VideoRendition], chunks: Sequence[Chunk]) -> int:
    """How far ahead the head rungs are made. What follows takes all rungs of that part with it, and
    a viewer plays on meanwhile: 12 s last until then where a second of film takes 0.6 s. A film of
    one chunk is soon done anyway and spares the second decode."""
    encoded = [r for r in renditions if r.mode == "encode"]
    if not any(r.head for r in encoded) or all(r.head for r in encoded):
        return 0
    return 1 if len(chunks) == 1 else min(HEAD_SEGMENTS, chunks[0].end)


def _keyframes_s(video: VideoStream, origin_s: Fraction) -> tuple[Fraction, ...]:
    table = video.index_table
    if table is None:
        return ()
    return tuple(key.ticks * video.time_base - origin_s for key in table.keyframes)


def _long_chunk_warnings(timeline: Timeline, chunks: Sequence[Chunk]) -> list[str]:
    longest_s = max(timeline.time_s(chunk.end) - timeline.time_s(chunk.first) for chunk in chunks)
    if longest_s <= 2 * MAX_CHUNK_S:
        return []
    return [f"few keyframes: up to {float(longest_s):.0f} s are encoded in one piece"]


def _with_steps(plan: Plan) -> Plan:
    """Add the steps, in the order in which they are best started: what makes it playable first."""
    steps: list[Step] = []
    whole = plan.timeline.segments
    audio_files = [file.path for file in plan.files if file.kind in AUDIO_KINDS]
    if plan.copied is not None:
        steps.append(Step("video-copy", "video-copy", (Span(plan.copied.name, 0, whole),)))
    encoded = [r for r in plan.renditions if r.mode == "encode"]
    if plan.head_segments:
        head = tuple(Span(r.name, 0, plan.head_segments) for r in encoded if r.head)
        steps.append(Step("encode-0000-head", "encode", head))
    chunks = [_chunk_step(plan, chunk, encoded) for chunk in plan.chunks] if encoded else []
    if chunks and not plan.head_segments:
        steps.append(chunks.pop(0))
    if plan.audio is not None and (plan.audio_rendition or audio_files):
        sound = () if plan.audio_rendition is None else (plan.audio_rendition.name,)
        steps.append(Step("audio", "audio", tuple(Span(name, 0, whole) for name in sound)))
    if any(file.kind == "poster" for file in plan.files):
        steps.append(Step("poster", "poster", output="poster.jpg"))
    steps.extend(chunks)
    for file in plan.files:
        if file.kind == "mp4":
            steps.append(_mp4_step(file, steps, whole))
    return replace(plan, steps=tuple(steps))


def _chunk_step(plan: Plan, chunk: Chunk, encoded: Sequence[VideoRendition]) -> Step:
    """All rungs of a chunk from one decode; in the first, head rungs go on where the head ended."""
    spans = []
    for rendition in encoded:
        made = plan.head_segments if rendition.head else 0
        if max(chunk.first, made) < chunk.end:
            spans.append(Span(rendition.name, max(chunk.first, made), chunk.end))
    return Step(f"encode-{chunk.index:04d}", "encode", tuple(spans))


def _mp4_step(file: FileOutput, before: Sequence[Step], whole: int) -> Step:
    needs = tuple(
        step.id
        for step in before
        if step.kind == "audio" or (file.rendition in step.renditions and step.kind != "mp4")
    )
    assert file.rendition is not None
    spans = (Span(file.rendition, 0, whole),)
    return Step(f"mp4-{file.path[:-4]}", "mp4", spans, output=file.path, needs=needs)
