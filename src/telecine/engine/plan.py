"""Pure: what is to be made of one source: the frozen timeline, chunks, steps and expected outputs.

The plan is a value. What `telecine plan --json` prints, what runs and what golden tests compare are
the same thing, and every decision stands in it with its reason. It names no path of the source, so
that any step can run from (plan, step id, source, folder) on any machine.

Time: presentation 0 is `timeline.origin_s` on the source's clock. Segment boundaries are ticks of
`timeline.timescale`; on a constant-rate timeline frame k stands at exactly `k * frame_ticks`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from telecine.engine.beside import Preview, Stills, Waveform
from telecine.engine.copying import segment_loads
from telecine.engine.errors import UsageError
from telecine.engine.ladder import DroppedRung, Size
from telecine.engine.media import (
    AudioStream,
    Chapter,
    Color,
    ExtraInput,
    Light,
    MediaInfo,
    PictureFile,
    VideoStream,
)
from telecine.engine.profile import OutputKind, Profile
from telecine.engine.searching import VMAF_LEAST_SIDE, Choices, Sample
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.timeline import PREROLL_S, Chunk, Timeline
from telecine.engine.words.watermark import Watermark

PLAN_VERSION = 2

MAX_DURATION_S = Fraction(48 * 3600)

WORK = ".telecine"  # inside DIR: the plan, the results of steps, working files

SUBTITLE_WHOLE = "whole.vtt"  # all cues of a track in one file, beside its segments

RenditionMode = Literal["copy", "encode"]
# Stereo, which everything plays, or 5.1; within a group the tracks are alternatives of each other.
SoundGroup = Literal["stereo", "surround"]
SoundKind = Literal["main", "commentary", "description"]
VideoRange = Literal["SDR", "PQ", "HLG"]  # as HLS calls them (VIDEO-RANGE)
# fmt: off
StepKind = Literal[
    "video-copy", "encode", "gain", "audio", "audio-others", "loudness", "poster", "mp4",
    "subtitles",
    "storyboard", "thumbnails", "preview", "waveform", "chapters",
    "search", "measure",
]
# fmt: on


@dataclass(frozen=True, slots=True)
class VideoRendition:
    name: str
    codec: str  # names a record of `encoders`
    size: Size
    mode: RenditionMode
    folder: str  # relative to DIR
    listed: bool  # in the playlists; False: made only for a progressive file
    head: bool  # published first, while the others wait
    bit_depth: int
    video_range: VideoRange
    crf: float
    ceiling_bps: int
    gop_frames: int | None
    b_frames: int
    threads: int
    edit_offset_ticks: int  # the init segment's edit list: B-frame delay (ADR 0003)
    reason: str


@dataclass(frozen=True, slots=True)
class AudioRendition:
    name: str
    stream: int  # its index in the file
    group: SoundGroup
    mode: RenditionMode
    folder: str
    listed: bool
    sample_rate: int
    channels: int
    bitrate_bps: int
    kind: SoundKind
    language: str | None  # a tag of RFC 5646
    title: str  # what a player's menu shows: no other track has it
    default: bool  # whether the track plays unless another is chosen
    reason: str


@dataclass(frozen=True, slots=True)
class SubtitleRendition:
    """Subtitles in the playlists, from a stream of the source or from a file beside it; the other
    of the two is None. Of `captions` the stream is that of the pictures."""

    name: str
    folder: str
    stream: int | None
    input: str | None
    captions: bool
    language: str | None
    title: str
    default: bool
    forced: bool
    hearing_impaired: bool
    zero_s: Fraction  # where its time 0 lies on the source's clock
    reason: str


@dataclass(frozen=True, slots=True)
class BurnedIn:
    """Subtitles that are part of the pictures: a stream of the source, which decodes to pictures or
    to text, or a file of text beside it."""

    kind: Literal["bitmap", "text"]
    stream: int | None
    input: str | None
    captions: bool
    zero_s: Fraction
    reason: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """A picture over the film's: the file `input` beside the source."""

    input: str
    picture: PictureFile
    watermark: Watermark
    reason: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of the film that is made, in seconds from where the whole begins to play."""

    start_s: Fraction
    end_s: Fraction
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Which stream of a film goes into the rendition `name` of all that is joined."""

    name: str
    stream: int


@dataclass(frozen=True, slots=True)
class JoinedFilm:
    """One of several films that become one: segments [first, end) are its. Times are seconds on its
    own clock. Of `taken`, what is not named has nothing in this film: silence, no subtitles."""

    input: str | None  # None: the source itself
    first: int
    end: int
    origin_s: Fraction
    end_s: Fraction
    video: int | None  # its stream; None: sound alone is joined
    audio: int | None  # its sound for files; None: it has none
    deinterlace: bool
    tone_map: bool
    working_copy: bool
    color: Color  # what all that is joined becomes in SDR
    taken: tuple[Taken, ...]
    reason: str
    cut: Cut | None = None  # of a clip: what it has of this film, where that is not all


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
    spans: tuple[Span, ...] = ()  # in the order of the plan's renditions
    output: str | None = None
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()  # names of `Plan.inputs` that it reads beside the source

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
    inputs: tuple[ExtraInput, ...]  # the files beside it, in the order of `Profile.inputs`
    profile: Profile
    video: VideoStream | None  # the stream chosen
    audio: AudioStream | None
    deinterlace: bool
    tone_map: bool
    working_copy: bool  # the container seeks badly: chunks read a stream copy made once
    timeline: Timeline
    chunks: tuple[Chunk, ...]
    head_segments: int  # how many the head rungs get before the others start; 0: none have to wait
    renditions: tuple[VideoRendition, ...]  # by codec, of each the highest first
    sounds: tuple[AudioRendition, ...]  # the first is what `audio` makes, and plays by default
    subtitles: tuple[SubtitleRendition, ...]
    burned_in: BurnedIn | None
    files: tuple[FileOutput, ...]
    steps: tuple[Step, ...]  # in the order in which they are best started
    dropped: tuple[DroppedRung, ...]
    copy_refusals: tuple[str, ...]  # why the top rung is not a copy; empty where it is
    warnings: tuple[str, ...]
    stills: tuple[Stills, ...] = ()  # pictures in folders of their own; `files` has their indexes
    preview: Preview | None = None
    waveform: Waveform | None = None
    chapters: tuple[Chapter, ...] = ()  # on the film's own clock, each with a title
    overlay: Overlay | None = None
    cut: Cut | None = None  # of a clip; `video` and `audio` are then what it has of them
    # Where several films are joined: the source and the others, of a clip those that lie in it.
    # `video` is the source's own, which decides what they become; `audio` and tracks are from the
    # first film that has any, as long as the whole.
    parts: tuple[JoinedFilm, ...] = ()
    samples: tuple[Sample, ...] = ()  # where quality is searched for, or measured
    choices: Choices | None = None  # what a search found; its renditions follow it

    @cached_property  # asked for with each step, and a plan may name 100 000 keyframes
    def id(self) -> str:
        """Names this plan for this source: the same inputs give the same id, nothing else does."""
        text = json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def hls(self) -> bool:
        return self.profile.has("hls")

    @property
    def dash(self) -> bool:
        """Whether there is a manifest for DASH, which knows no segments encrypted as a whole."""
        protection = self.profile.protection
        return self.hls and (protection is None or protection.scheme != "aes-128")

    @property
    def copied(self) -> VideoRendition | None:
        return next((r for r in self.renditions if r.mode == "copy"), None)

    @property
    def judged(self) -> tuple[VideoRendition, ...]:
        """The renditions whose quality is searched for or measured: those that are encoded for a
        viewer. A copy is the source, and VMAF knows SDR alone, of no very small size."""
        files = {file.rendition for file in self.files}
        return tuple(
            r
            for r in self.renditions
            if r.mode == "encode" and r.video_range == "SDR" and (r.listed or r.name in files)
            if r.size.short_side >= VMAF_LEAST_SIDE
        )

    @property
    def searching(self) -> bool:
        """Whether this is but the first of two plans: its only step finds the choices by which the
        one that makes the film is planned."""
        return self.profile.quality is not None and self.choices is None and bool(self.judged)

    @property
    def lead_s(self) -> Fraction:
        """How much of the film is left out before presentation 0."""
        return Fraction(0) if self.cut is None else self.cut.start_s

    @property
    def film_s(self) -> Fraction:
        """Where the whole film begins, on the source's clock."""
        return self.timeline.origin_s - self.lead_s

    @property
    def lead_frames(self) -> int:
        """How many pictures of the constant grid, which is that of the whole film, come before
        presentation 0."""
        return round(self.lead_s * self.timeline.rate) if self.timeline.constant else 0

    @property
    def grid_s(self) -> Fraction:
        """Where picture 0 of the grid lies on the source's clock."""
        return self.film_s if self.timeline.constant else self.timeline.origin_s

    def entry_s(self, segment: int) -> Fraction | None:
        """From where on, on the source's clock, it is read for this segment; None: from its start,
        where nothing is worth skipping."""
        entry_s = self.timeline.origin_s + self.timeline.time_s(segment) - PREROLL_S
        index = None if self.video is None else self.video.index
        starts = [
            v.start_s for v in self.source.video if v.index == index and v.start_s is not None
        ]
        return entry_s if entry_s > max((self.film_s, *starts)) else None

    @property
    def poster_time_s(self) -> Fraction:
        """Where the poster is looked for, from presentation 0: a tenth in, past titles and black,
        and early enough to be cheap in any container."""
        return min(self.timeline.duration_s / 10, Fraction(60))

    @property
    def listed(self) -> tuple[VideoRendition, ...]:
        """The video renditions in the playlists: by codec, of each the highest first."""
        return tuple(r for r in self.renditions if r.listed)

    @property
    def sound(self) -> AudioRendition | None:
        """The audio rendition in the playlists that plays unless another is chosen."""
        return next((sound for sound in self.sounds if sound.listed), None)

    @property
    def opening(self) -> tuple[Step, ...]:
        """The steps whose first segments make it playable: a copy or the first encode, and sound,
        with what that needs."""
        picture = next((s for s in self.steps if s.kind in ("video-copy", "encode")), None)
        sounds = (step for step in self.steps if step.kind in ("gain", "audio"))
        return (*sounds,) if picture is None else (picture, *sounds)

    def reads_copy(self, step: Step) -> bool:
        """Whether this chunk is decoded from the working copy. The first needs no seek and reads
        the source itself, so that the first picture does not wait for a copy of everything; unless
        the source has decode times only, whose guessed times would not join those of the copy."""
        enters = step.first > 0 or self.entry_s(step.first) is not None
        return self.working_copy and (enters or untimed(self.source))

    @property
    def judges_copy(self) -> bool:
        """Whether samples are taken from a working copy: they enter the film anywhere."""
        return not self.source.seekable

    def light_of(self, rendition: VideoRendition) -> Light | None:
        """What an HDR rendition says of its mastering: the source's own words."""
        if self.video is None or rendition.video_range == "SDR":
            return None
        return self.video.light

    def rendition(self, name: str) -> VideoRendition:
        found = next((r for r in self.renditions if r.name == name), None)
        if found is None:
            raise UsageError(f"the plan has no rendition {name!r}", code="rendition_unknown")
        return found

    def folder_of(self, name: str) -> str:
        """Where a rendition's segments lie, picture or sound; relative to DIR."""
        voice = self.voice(name)
        return self.rendition(name).folder if voice is None else voice.folder

    def voice(self, name: str) -> AudioRendition | None:
        """The audio rendition of this name; None for pictures."""
        return next((sound for sound in self.sounds if sound.name == name), None)

    def track(self, sound: AudioRendition) -> AudioStream:
        """The source's own of a rendition: of a clip what it has of it, of joined films the first
        that there is, as long as the whole."""
        for part in self.parts:
            for taken in part.taken:
                if taken.name == sound.name:
                    audio = self.film(part).audio
                    track = next(each for each in audio if each.index == taken.stream)
                    return lasting(track, self.timeline)
        found = next(stream for stream in self.source.audio if stream.index == sound.stream)
        if self.cut is None:
            return found
        return within(found, self.timeline.origin_s, self.film_s + self.cut.end_s)

    def step(self, step_id: str) -> Step:
        found = next((step for step in self.steps if step.id == step_id), None)
        if found is None:
            raise UsageError(f"the plan has no step {step_id!r}", code="step_unknown")
        return found

    def extra_input(self, name: str) -> ExtraInput:
        found = next((extra for extra in self.inputs if extra.name == name), None)
        if found is None:
            raise UsageError(f"the plan has no input {name!r}", code="input_unknown")
        return found

    def film(self, part: JoinedFilm) -> MediaInfo:
        """What one of the joined films is."""
        film = self.source if part.input is None else self.extra_input(part.input).film
        if film is None:
            raise UsageError(f"{part.input} is no film", code="input_unknown")
        return film

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


def display_of(video: VideoStream) -> tuple[Fraction, Fraction]:
    """Display size before rounding: square pixels, then upright."""
    width, height = video.width * video.sar, Fraction(video.height)
    return (height, width) if video.rotation in (90, 270) else (width, height)


def within(track: AudioStream, start_s: Fraction, end_s: Fraction) -> AudioStream:
    """What lies of a track of sound between two times on the source's clock: of one that is not on
    then, nothing."""
    if track.start_s is None or track.end_s is None:
        return track
    first_s = min(max(track.start_s, start_s), end_s)
    return replace(track, start_s=first_s, end_s=max(min(track.end_s, end_s), first_s))


def lasting(track: AudioStream, timeline: Timeline) -> AudioStream:
    """A track of sound as one that is on all the time."""
    origin_s = timeline.origin_s
    return replace(track, start_s=origin_s, end_s=origin_s + timeline.duration_s)


def untimed(source: MediaInfo) -> bool:
    """AVI states no presentation times; FFmpeg guesses them, a frame or two apart by the way in
    which the file is read."""
    return source.container == "avi"


def copied_load(plan: Plan) -> list[tuple[Fraction, int]]:
    """(seconds, bytes) of each segment of the copied rung: known before it is made."""
    assert plan.video is not None
    assert plan.video.index_table is not None
    loads = segment_loads(plan.video, plan.video.index_table)
    return [(seconds, size) for size, seconds in loads]
