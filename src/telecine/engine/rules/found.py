"""What `verify` found on disk: values, and what follows from them alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from telecine.engine.formats import webvtt
from telecine.engine.formats.cmaf import Track
from telecine.engine.formats.containers import Animation
from telecine.engine.formats.cues import Cue
from telecine.engine.formats.mpd import MPD
from telecine.engine.formats.playlist import KeyMethod, MediaPlaylist, MultivariantPlaylist
from telecine.engine.ladder import Size
from telecine.engine.loudness import Level
from telecine.engine.plan import AudioRendition, Plan, VideoRendition
from telecine.engine.rules.figures import sec
from telecine.engine.searching import Score


@dataclass(frozen=True, slots=True)
class Run:
    """One fragment: a moof with its mdat. Times are ticks of the track's timescale, places are
    bytes of the segment file."""

    sequence: int
    decode_ticks: int
    end_ticks: int
    key_pts: int  # of the first sample in decode order
    first_pts: int
    last_pts: int
    samples: int
    idr: bool  # the first sample is one, by its NAL units and not only by its flag
    later_keys: int  # IDR pictures behind the first sample
    shortest_ticks: int  # between neighbouring samples as shown; 0 where there is only one
    usual_ticks: int  # the median
    longest_ticks: int
    offset: int
    key_end: int
    end: int
    wrongly_sealed: int = 0  # samples of which not that is encrypted that should be


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """`path` is relative to DIR; there are no runs where the file cannot be read. Of one that is
    encrypted as a whole, `runs` are of what it decrypts to, and `lies_open` says of one that
    cannot be read that it is not encrypted, as it should be."""

    path: str
    size_bytes: int
    runs: tuple[Run, ...]
    shown_crc: int = 0  # of all presentation times, in order
    captions: int = 0  # messages of closed captions in its pictures
    lies_open: bool = False

    @property
    def start_ticks(self) -> int:
        return self.runs[0].decode_ticks

    @property
    def end_ticks(self) -> int:
        return self.runs[-1].end_ticks

    @property
    def duration_ticks(self) -> int:
        return self.end_ticks - self.start_ticks

    @property
    def samples(self) -> int:
        return sum(run.samples for run in self.runs)


@dataclass(frozen=True, slots=True)
class Rendition:
    """A media playlist that the multivariant playlist names, and all that it names. None is what is
    not there or cannot be read."""

    uri: str
    home: str  # its folder, relative to DIR
    listed_as: Literal["variant", "audio"]
    playlist: MediaPlaylist | None
    growing: MediaPlaylist | None
    iframes: MediaPlaylist | None
    track: Track | None
    brands: str
    protected: bool
    segments: tuple[SegmentFile, ...]

    @property
    def sample_keys(self) -> bool:
        """Whether its playlist says that samples are encrypted."""
        return self._has_keys("SAMPLE-AES")

    @property
    def whole_keys(self) -> bool:
        """Whether its playlist says that segments are encrypted as a whole."""
        return self._has_keys("AES-128")

    def _has_keys(self, method: KeyMethod) -> bool:
        entries = self.playlist.segments if self.playlist is not None else ()
        return any(key.method == method for entry in entries for key in entry.keys)

    @property
    def stream(self) -> Stream | None:
        """None unless everything of it can be read."""
        if self.playlist is None or self.track is None or not self.segments:
            return None
        if not all(segment.runs for segment in self.segments):
            return None
        return Stream(
            self.home,
            self.uri,
            self.playlist,
            self.growing,
            self.iframes,
            self.track,
            self.segments,
        )


@dataclass(frozen=True, slots=True)
class Stream:
    """A rendition of which everything could be read: what most rules judge."""

    home: str
    uri: str
    playlist: MediaPlaylist
    growing: MediaPlaylist | None
    iframes: MediaPlaylist | None
    track: Track
    segments: tuple[SegmentFile, ...]

    @property
    def name(self) -> str:
        return self.home.rpartition("/")[2]

    @property
    def video(self) -> bool:
        return self.track.handler == "vide"

    @property
    def runs(self) -> list[Run]:
        return [run for segment in self.segments for run in segment.runs]

    @property
    def samples(self) -> int:
        return sum(segment.samples for segment in self.segments)

    @property
    def start_s(self) -> Fraction:
        return self.seconds(self.segments[0].runs[0].first_pts)

    @property
    def end_s(self) -> Fraction:
        return self.seconds(self.segments[-1].end_ticks)

    @property
    def loads(self) -> list[tuple[int, int]]:
        """(duration in ticks, bytes) of each segment."""
        return [(segment.duration_ticks, segment.size_bytes) for segment in self.segments]

    def seconds(self, ticks: int) -> Fraction:
        return Fraction(ticks, self.track.timescale)


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A segment of subtitles. `text` is None where it is no WebVTT."""

    path: str
    size_bytes: int
    text: webvtt.File | None


@dataclass(frozen=True, slots=True)
class TextTrack:
    """Subtitles that the multivariant playlist names. `whole` are all cues, as the one file beside
    the segments has them. None is what is not there or cannot be read."""

    uri: str
    home: str
    playlist: MediaPlaylist | None
    segments: tuple[TextSegment, ...]
    whole: webvtt.File | None

    @property
    def loads(self) -> list[tuple[Fraction, int]]:
        """(duration in seconds, bytes) of each segment."""
        entries = self.playlist.segments if self.playlist is not None else ()
        return [
            (entry.duration_s, segment.size_bytes)
            for entry, segment in zip(entries, self.segments, strict=False)
        ]


@dataclass(frozen=True, slots=True)
class Mp4Track:
    """A track of a progressive file; times in seconds as a viewer sees them."""

    handler: str
    codec: str
    width: int
    height: int
    samples: int
    start_s: Fraction | None  # None where the edit list is more than a shift
    end_s: Fraction | None
    data_end: int  # offset behind its last sample


@dataclass(frozen=True, slots=True)
class Mp4File:
    path: str
    size_bytes: int
    boxes: tuple[str, ...]  # kinds at the top, in order
    tracks: tuple[Mp4Track, ...]


@dataclass(frozen=True, slots=True)
class SoundFile:
    path: str
    kind: str
    duration_s: Fraction


@dataclass(frozen=True, slots=True)
class StillsFound:
    """Sheets or thumbnails: the cues of their WebVTT, of each planned JPEG its size, and what the
    JSON lists (path, start and end in milliseconds) where there is one."""

    kind: str
    cues: tuple[Cue, ...]
    sizes: dict[str, Size]
    listed: tuple[tuple[str, int, int], ...] | None


@dataclass(frozen=True, slots=True)
class WaveformFound:
    """`head` is what the JSON says beside its `data`."""

    head: dict[str, object]
    data: tuple[int, ...]
    picture: Size


@dataclass(frozen=True, slots=True)
class ChaptersFound:
    """The cues of the WebVTT; what the JSON lists: start and end in milliseconds, title."""

    cues: tuple[Cue, ...]
    listed: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What FFmpeg made of a rendition or file: `expected` and `frames` are pictures, or for sound
    alone nothing, since only errors count there."""

    path: str
    expected: int | None
    frames: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not even be read, and the rule that this breaks."""

    rule: str
    what: str


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that `verify` read."""

    plan: Plan | None
    streaming: bool  # playlists are expected
    master: MultivariantPlaylist | None
    master_version: int | None
    manifest: MPD | None
    on_disk: tuple[str, ...]  # finished media playlists, listed or not
    renditions: tuple[Rendition, ...]
    streams: tuple[Stream, ...]  # those of the renditions that can be judged
    mp4s: tuple[Mp4File, ...]
    sounds: tuple[SoundFile, ...]
    poster: Size | None
    report: dict[str, object] | None
    told: tuple[str, ...]  # warnings of the steps
    decoded: tuple[Decoded, ...] | None
    faults: tuple[Fault, ...]
    texts: tuple[TextTrack, ...] = ()
    levels: tuple[Level, ...] = ()  # how loud sounds are, as the steps measured what they made
    scores: tuple[Score, ...] = ()  # how good pictures are, the same
    stills: tuple[StillsFound, ...] = ()
    preview: Animation | None = None
    waveform: WaveformFound | None = None
    chapters: ChaptersFound | None = None

    @property
    def pictures(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.video]

    @property
    def voices(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.video]

    def stream(self, uri: str) -> Stream | None:
        return next((stream for stream in self.streams if stream.uri == uri), None)

    def planned(self, stream: Stream) -> VideoRendition | None:
        return self.planned_at(stream.home)

    def voice(self, home: str) -> AudioRendition | None:
        """The planned rendition of sound whose folder this is."""
        sounds = self.plan.sounds if self.plan is not None else ()
        return next((sound for sound in sounds if sound.folder == home), None)

    def planned_at(self, home: str) -> VideoRendition | None:
        renditions = self.plan.renditions if self.plan is not None else ()
        return next((r for r in renditions if r.folder == home), None)

    @property
    def constant(self) -> bool:
        """Whether every picture is shown for the same time. Without a plan: whether it is so on any
        rendition, since all have the source's times where those are kept."""
        if self.plan is not None:
            return self.plan.timeline.constant
        return any(not list(uneven(stream)) for stream in self.pictures)


def frame_ticks(stream: Stream) -> int:
    """How long most pictures, or frames of sound, are shown."""
    steps: Counter[int] = Counter()
    for run in stream.runs:
        steps[run.usual_ticks] += run.samples - 1
    step, times = steps.most_common(1)[0]
    return max(step if times else stream.segments[0].duration_ticks, 1)


def uneven(stream: Stream) -> Iterator[str]:
    """Where a frame does not follow the one before after the usual time."""
    step = frame_ticks(stream)
    before: int | None = None
    for run in stream.runs:
        if before is not None and run.first_pts - before != step:
            gap, where = run.first_pts - before, stream.seconds(before)
            yield f"{stream.home}: {gap} ticks between frames at {sec(where)}, not {step}"
        if run.samples > 1 and not run.shortest_ticks == run.longest_ticks == step:
            where, gaps = stream.seconds(run.first_pts), (run.shortest_ticks, run.longest_ticks)
            yield f"{stream.home}: {gaps[0]} to {gaps[1]} ticks from {sec(where)} on, not {step}"
        before = run.last_pts
    if before is not None and stream.segments[-1].end_ticks - before != step:
        yield f"{stream.home}: the last frame lasts {stream.segments[-1].end_ticks - before} ticks"
