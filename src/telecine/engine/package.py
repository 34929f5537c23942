"""Playlists on disk: growing while segments arrive, final when all are there.

Segments are written by the steps; this module only says which of them there are. While a job runs,
growing media playlists (EVENT, append-only) and `master.m3u8` make what is finished playable; at
the end VOD playlists under names of their own, the MPD, and last `master.m3u8` with measured
figures. Every file on disk is valid at every moment (DESIGN section 5).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from telecine.engine import mpd, playlist
from telecine.engine.cmaf import Track, read_init
from telecine.engine.disk import read_small, write_whole
from telecine.engine.errors import MediaError
from telecine.engine.plan import AudioRendition, Plan, copied_load
from telecine.engine.segments import INIT_NAME, Segment, segment_name

MASTER = "master.m3u8"
MANIFEST = "manifest.mpd"
GROWING = "growing.m3u8"
FINISHED = "index.m3u8"
IFRAMES = "iframes.m3u8"

AUDIO_GROUP = "audio"
GROWING_EVERY_S = 0.25
OPENING_SEGMENTS = 3  # of a copied film or sound alone; `_started` says why
# Players join a growing playlist near its end unless told where. An offset from the end that is
# longer than any film means its beginning (RFC 8216, 4.3.5.2). A plain 0 is "nothing said" to Shaka
# Player, and a hair above it costs hls.js a seek, half a second before the first picture.
GROWING_START_S = Fraction(-1_000_000)
MIN_BUFFER_S = Fraction(2)

# A capped-CRF segment holds at most maxrate for its length plus the VBV's two seconds.
_CAP = Fraction(4, 3)


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a finished rendition, from its files."""

    name: str
    segments: int
    size_bytes: int
    peak_bps: int
    average_bps: int


class Publisher:
    """Hears of each finished segment, from any thread, and keeps the playlists true.

    `on_playable` is called once, when the first multivariant playlist stands on disk.
    """

    def __init__(self, plan: Plan, folder: Path, on_playable: Callable[[], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._on_playable = on_playable
        self._lock = threading.Lock()
        names = _names(plan)
        self._segments: dict[str, dict[int, Segment]] = {name: {} for name in names}
        self._whole = dict.fromkeys(names, 0)  # segments, from the first, without a hole
        before = {name: self._growing_before(name) for name in names}
        self._published = {name: len(p.segments) if p else 0 for name, p in before.items()}
        self._ended = {name for name, p in before.items() if p is not None and p.ended}
        self._written = dict.fromkeys(names, 0.0)  # when each growing playlist was, monotonic
        self._complete: set[str] = set()
        self._master: tuple[str, ...] | None = None  # the pictures that it lists; none for sound
        self._listed_before = self._folders_before()

    def add(self, rendition: str, segment: Segment) -> None:
        """A segment is whole on disk. Renditions that no playlist lists are passed over."""
        with self._lock:
            if rendition in self._segments:
                self._segments[rendition][segment.number] = segment
                self._grow()

    def complete(self, rendition: str) -> None:
        """No further segment of this rendition will come. When that holds for all that are shown
        while they grow, their growing playlists end."""
        with self._lock:
            if rendition in self._segments:
                self._complete.add(rendition)
                self._grow()
                if self._complete.issuperset(self._growing_names()):
                    self._end_growing()

    def finish(self) -> tuple[Measured, ...]:
        """Everything is there: final playlists, the MPD, `master.m3u8` last."""
        with self._lock:
            names = list(self._segments)
            self._complete.update(names)
            for name in names:
                write_whole(self._home(name) / FINISHED, self._finished(name))
            for rendition in self._plan.listed:
                write_whole(self._home(rendition.name) / IFRAMES, self._iframes(rendition.name))
            self._end_growing()
            if names:
                write_whole(self._folder / MANIFEST, mpd.write_mpd(self._mpd()))
                master = playlist.write_multivariant(self._final_master())
                write_whole(self._folder / MASTER, master)
            return tuple(self._measured(name) for name in names)

    # --- which renditions, how far

    def _growing_names(self) -> tuple[str, ...]:
        """The renditions that are ever shown while they grow: a copied rung runs far ahead of the
        encoded ones, which then wait for the end."""
        copied = self._plan.copied
        pictures = self._plan.listed if copied is None else (copied,)
        return (*(r.name for r in pictures), *self._sound_names())

    def _sound_names(self) -> tuple[str, ...]:
        return () if self._plan.sound is None else (self._plan.sound.name,)

    def _grow(self) -> None:
        now = time.monotonic()
        for name in self._growing_names():
            # A copied film yields hundreds of segments a second; players ask every few seconds.
            few = self._published[name] < OPENING_SEGMENTS
            due = few or name in self._complete or now - self._written[name] >= GROWING_EVERY_S
            if due and self._run(name) > self._published[name]:
                self._write_growing(name, ended=False)
        listed = self._listed_now()
        if listed != self._master and self._started(listed):
            first = self._master is None
            self._master = listed
            master = self._growing_master(listed)
            if not self._listed_before >= _folders(master):
                write_whole(self._folder / MASTER, playlist.write_multivariant(master))
            if first:
                self._on_playable()

    def _listed_now(self) -> tuple[str, ...]:
        """The video renditions that `master.m3u8` lists, highest first: the head rungs, and once
        the others have caught up with them, all, since they grow in step from there on."""
        plan = self._plan
        if plan.copied is not None:
            return (plan.copied.name,)
        everyone = tuple(r.name for r in plan.listed)
        if all(self._run(name) >= max(1, plan.head_segments) for name in everyone):
            return everyone
        return tuple(r.name for r in plan.listed if r.head)

    def _started(self, listed: Sequence[str]) -> bool:
        """Whether these playlists list enough to open with. What is copied or sound alone comes by
        the dozen, and a player that finds more than one segment need not ask again just in time."""
        encoded = self._plan.copied is None and bool(self._plan.listed)
        enough = 1 if encoded else OPENING_SEGMENTS
        return all(
            self._published[name] >= enough or (name in self._complete and self._published[name])
            for name in (*listed, *self._sound_names())
        )

    def _run(self, name: str) -> int:
        """How many segments, from the first, stand without a hole."""
        segments = self._segments[name]
        while self._whole[name] in segments:
            self._whole[name] += 1
        return self._whole[name]

    def _end_growing(self) -> None:
        """Every segment of all renditions first, then all ends: a player that sees sound end while
        the picture grows ends there (Shaka Player)."""
        growing = [name for name in self._growing_names() if name not in self._ended]
        for ended in (False, True):
            for name in growing:
                self._write_growing(name, ended=ended)
        self._ended.update(growing)

    def _growing_before(self, name: str) -> playlist.MediaPlaylist | None:
        """What an interrupted run published: a growing playlist never gets shorter. Its segments
        are on disk, and doing their step again makes the same bytes."""
        try:
            return playlist.parse_media(read_small(self._home(name) / GROWING))
        except (OSError, ValueError, MediaError):
            return None

    def _folders_before(self) -> set[str]:
        """What an interrupted run's `master.m3u8` lists: it is not replaced by one that lists less,
        since all of it is on disk."""
        try:
            return _folders(playlist.parse_multivariant(read_small(self._folder / MASTER)))
        except (OSError, ValueError, MediaError):
            return set()

    # --- files

    def _home(self, name: str) -> Path:
        return self._folder / self._plan.folder_of(name)

    def _ordered(self, name: str) -> list[Segment]:
        return [self._segments[name][n] for n in range(self._run(name))]

    def _timescale(self, name: str) -> int:
        audio = self._plan.sound
        if audio is not None and name == audio.name:
            return audio.sample_rate
        return self._plan.timeline.timescale

    def _entries(self, name: str) -> tuple[playlist.Segment, ...]:
        timescale = self._timescale(name)
        return tuple(
            playlist.Segment(Fraction(s.duration_ticks, timescale), segment_name(s.number))
            for s in self._ordered(name)
        )

    def _write_growing(self, name: str, *, ended: bool) -> None:
        entries = self._entries(name)
        self._written[name] = time.monotonic()
        self._published[name] = max(self._published[name], len(entries))
        media = playlist.MediaPlaylist(
            segments=entries,
            target_duration=self._plan.timeline.target_duration_s,
            map=playlist.Map(INIT_NAME),
            playlist_type="EVENT",
            ended=ended,
            start_offset_s=GROWING_START_S,
        )
        write_whole(self._home(name) / GROWING, playlist.write_media(media))

    def _finished(self, name: str) -> str:
        media = playlist.MediaPlaylist(
            segments=self._entries(name),
            target_duration=self._plan.timeline.target_duration_s,
            map=playlist.Map(INIT_NAME),
            playlist_type="VOD",
            ended=True,
        )
        return playlist.write_media(media)

    def _iframes(self, name: str) -> str:
        """Each run's first picture as a byte range (Apple 6.8, 6.10)."""
        timescale = self._timescale(name)
        entries = tuple(
            playlist.Segment(
                Fraction(ticks, timescale),
                segment_name(segment.number),
                playlist.ByteRange(length, offset),
            )
            for segment in self._ordered(name)
            for offset, length, ticks in segment.keys
        )
        media = playlist.MediaPlaylist(
            segments=entries,
            target_duration=playlist.target_duration(entry.duration_s for entry in entries),
            map=playlist.Map(INIT_NAME),
            playlist_type="VOD",
            ended=True,
            iframes_only=True,
        )
        return playlist.write_media(media)

    # --- multivariant playlists

    def _growing_master(self, listed: Sequence[str]) -> playlist.MultivariantPlaylist:
        """Before anything can be measured: the rates that the encoder is capped at, and exact ones
        for a copied rung, whose sample sizes are known."""
        sound_bps = self._plan.sound.bitrate_bps * 5 // 4 if self._plan.sound else 0
        rates = {}
        for name in listed:
            rendition = self._plan.rendition(name)
            if rendition.mode == "copy":
                load = copied_load(self._plan)
                target = self._plan.timeline.target_duration_s
                rates[name] = (
                    playlist.peak_bandwidth_bps(load, target),
                    playlist.average_bandwidth_bps(load),
                )
            else:
                rates[name] = (int(rendition.ceiling_bps * _CAP), rendition.ceiling_bps)
        return self._master_of(listed, rates, (sound_bps, sound_bps), GROWING)

    def _final_master(self) -> playlist.MultivariantPlaylist:
        rates = {name: self._rates(name) for name in self._segments}
        sound = rates[self._plan.sound.name] if self._plan.sound else (0, 0)
        return self._master_of([r.name for r in self._plan.listed], rates, sound, FINISHED)

    def _master_of(
        self,
        listed: Sequence[str],
        rates: dict[str, tuple[int, int]],
        sound: tuple[int, int],
        leaf: str,
    ) -> playlist.MultivariantPlaylist:
        audio = self._plan.sound
        codecs = () if audio is None else (self._track(audio.name).codec,)
        final = leaf == FINISHED
        if not listed:
            return _sound_only(audio, codecs, sound, leaf)
        return playlist.MultivariantPlaylist(
            variants=tuple(
                self._variant(name, rates[name], sound, codecs, leaf) for name in listed
            ),
            renditions=() if audio is None else (_audio_media(audio, leaf),),
            iframe_streams=tuple(self._iframe_stream(name) for name in listed) if final else (),
        )

    def _variant(
        self,
        name: str,
        rates: tuple[int, int],
        sound: tuple[int, int],
        sound_codecs: tuple[str, ...],
        leaf: str,
    ) -> playlist.Variant:
        rendition = self._plan.rendition(name)
        return playlist.Variant(
            uri=f"{rendition.folder}/{leaf}",
            bandwidth_bps=rates[0] + sound[0],
            average_bandwidth_bps=rates[1] + sound[1],
            codecs=(self._track(name).codec, *sound_codecs),
            resolution=(rendition.size.width, rendition.size.height),
            frame_rate=self._plan.timeline.rate,
            audio=AUDIO_GROUP if sound_codecs else None,
        )

    def _iframe_stream(self, name: str) -> playlist.IFrameStream:
        rendition = self._plan.rendition(name)
        timescale = self._timescale(name)
        keys = [
            (Fraction(ticks, timescale), length)
            for segment in self._ordered(name)
            for _, length, ticks in segment.keys
        ]
        return playlist.IFrameStream(
            uri=f"{rendition.folder}/{IFRAMES}",
            bandwidth_bps=max(int(8 * size / seconds) + 1 for seconds, size in keys),
            average_bandwidth_bps=playlist.average_bandwidth_bps(keys),
            codecs=(self._track(name).codec,),
            resolution=(rendition.size.width, rendition.size.height),
        )

    def _rates(self, name: str) -> tuple[int, int]:
        """Measured (peak, average) bits a second."""
        timescale = self._timescale(name)
        load = [(Fraction(s.duration_ticks, timescale), s.size_bytes) for s in self._ordered(name)]
        target = self._plan.timeline.target_duration_s
        return (
            playlist.peak_bandwidth_bps(load, target),
            playlist.average_bandwidth_bps(load),
        )

    def _measured(self, name: str) -> Measured:
        segments = self._ordered(name)
        peak, average = self._rates(name)
        size = sum(segment.size_bytes for segment in segments)
        return Measured(name, len(segments), size, peak, average)

    def _track(self, name: str) -> Track:
        return read_init((self._home(name) / INIT_NAME).read_bytes())

    # --- DASH

    def _mpd(self) -> mpd.MPD:
        plan = self._plan
        sets = []
        if plan.listed:
            pictures = tuple(self._representation(r.name) for r in plan.listed)
            sets.append(mpd.AdaptationSet("video", "video/mp4", pictures))
        if plan.sound is not None:
            voices = (self._representation(plan.sound.name),)
            sets.append(mpd.AdaptationSet("audio", "audio/mp4", voices, lang=plan.sound.language))
        ends = [sum((e.duration_s for e in self._entries(n)), Fraction(0)) for n in self._segments]
        return mpd.MPD(duration_s=max(ends), min_buffer_s=MIN_BUFFER_S, adaptation_sets=tuple(sets))

    def _representation(self, name: str) -> mpd.Representation:
        folder = self._plan.folder_of(name)
        segments = self._ordered(name)
        track = self._track(name)
        peak, _ = self._rates(name)
        template = mpd.SegmentTemplate(
            timescale=self._timescale(name),
            initialization=f"{folder}/{INIT_NAME}",
            media=f"{folder}/$Number%05d$.m4s",
            durations_ticks=tuple(segment.duration_ticks for segment in segments),
            start_ticks=segments[0].start_ticks,
            start_number=segments[0].number,
        )
        audio = self._plan.sound
        if audio is not None and name == audio.name:
            return mpd.Representation(
                id=name,
                bandwidth_bps=peak,
                codecs=track.codec,
                template=template,
                audio_sampling_rate=audio.sample_rate,
                channels=audio.channels,
            )
        rendition = self._plan.rendition(name)
        return mpd.Representation(
            id=name,
            bandwidth_bps=peak,
            codecs=track.codec,
            template=template,
            width=rendition.size.width,
            height=rendition.size.height,
            frame_rate=self._plan.timeline.rate,
            sar=Fraction(1),
        )


def _folders(master: playlist.MultivariantPlaylist) -> set[str]:
    return {variant.uri.rpartition("/")[0] for variant in master.variants}


def _names(plan: Plan) -> tuple[str, ...]:
    """Every rendition that the finished playlists list: pictures from the highest, then sound."""
    sound = () if plan.sound is None else (plan.sound.name,)
    return (*(rendition.name for rendition in plan.listed), *sound)


def _audio_media(audio: AudioRendition, leaf: str) -> playlist.Rendition:
    return playlist.Rendition(
        type="AUDIO",
        group_id=AUDIO_GROUP,
        name=audio.language or "main",
        uri=f"{audio.folder}/{leaf}",
        language=audio.language,
        default=True,
        autoselect=True,
        channels=str(audio.channels),
    )


def _sound_only(
    audio: AudioRendition | None, codecs: tuple[str, ...], sound: tuple[int, int], leaf: str
) -> playlist.MultivariantPlaylist:
    """Sound without a picture is a variant itself, not an alternative of one."""
    assert audio is not None
    variant = playlist.Variant(
        uri=f"{audio.folder}/{leaf}",
        bandwidth_bps=sound[0],
        average_bandwidth_bps=sound[1],
        codecs=codecs,
    )
    return playlist.MultivariantPlaylist(variants=(variant,))
