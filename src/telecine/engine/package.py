"""Playlists on disk: growing while segments arrive, final when all are there.

Segments are written by the steps; this module only says which of them there are. While a job runs,
growing media playlists (EVENT, append-only) and `master.m3u8` make what is finished playable; at
the end VOD playlists under names of their own, the MPD, and last `master.m3u8` with measured
figures. Every file on disk is valid at every moment (DESIGN section 5).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from telecine.engine import manifests
from telecine.engine.disk import read_small, write_whole
from telecine.engine.errors import MediaError
from telecine.engine.formats import playlist
from telecine.engine.formats.cmaf import read_init
from telecine.engine.formats.mpd import write_mpd
from telecine.engine.manifests import (
    ENDS_AFTER_S,
    FINISHED,
    GROWING,
    IFRAMES,
    MANIFEST,
    MASTER,
    OPENING_SEGMENTS,
    Measured,
)
from telecine.engine.plan import Plan
from telecine.engine.segments import INIT_NAME, Segment

GROWING_EVERY_S = 0.25


class Publisher:
    """Hears of each finished segment, from any thread, and keeps the playlists true.

    `on_playable` is called once, when the first multivariant playlist stands on disk.
    """

    def __init__(self, plan: Plan, folder: Path, on_playable: Callable[[], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._on_playable = on_playable
        self._lock = threading.Lock()
        names = manifests.finished_names(plan)
        self._segments: dict[str, dict[int, Segment]] = {name: {} for name in names}
        self._whole = dict.fromkeys(names, 0)  # segments, from the first, without a hole
        before = {name: self._growing_before(name) for name in names}
        self._published = {name: len(p.segments) if p else 0 for name, p in before.items()}
        self._ended = {name for name, p in before.items() if p is not None and p.ended}
        self._written = dict.fromkeys(names, 0.0)  # when each growing playlist was, monotonic
        self._complete: set[str] = set()
        self._stands_since: float | None = None  # monotonic: when the last one became complete
        self._master: tuple[str, ...] | None = None  # the pictures that it lists; none for sound
        self._listed_before = self._folders_before()

    def add(self, rendition: str, segment: Segment) -> None:
        """A segment is whole on disk. Renditions that no playlist lists are passed over."""
        with self._lock:
            if rendition in self._segments:
                self._segments[rendition][segment.number] = segment
                self._grow()

    def take(self, rendition: str, segments: Iterable[Segment]) -> None:
        """Segments that are whole on disk, of a film that `finish` publishes: nothing grows."""
        with self._lock:
            if rendition in self._segments:
                self._segments[rendition].update((each.number, each) for each in segments)

    def complete(self, rendition: str) -> None:
        """No further segment of this rendition will come. When that holds for all that are shown
        while they grow, their growing playlists end: `ENDS_AFTER_S` later, with the next segment of
        any rendition, or when all is finished."""
        with self._lock:
            if rendition in self._segments:
                self._complete.add(rendition)
                self._grow()

    def finish(self) -> tuple[Measured, ...]:
        """Everything is there: final playlists, the MPD, `master.m3u8` last."""
        with self._lock:
            plan, names = self._plan, list(self._segments)
            self._complete.update(names)
            made = {name: self._ordered(name) for name in names}
            self._complete_growing()
            for name in names:
                write_whole(
                    self._home(name) / FINISHED, manifests.finished_media(plan, name, made[name])
                )
            for rendition in plan.listed:
                name = rendition.name
                write_whole(self._home(name) / IFRAMES, manifests.iframes(plan, name, made[name]))
            self._end_growing()
            if names:
                codecs, texts = self._codecs(names), self._texts()
                if plan.dash:
                    manifest = manifests.mpd(plan, made, codecs, texts)
                    write_whole(self._folder / MANIFEST, write_mpd(manifest))
                master = manifests.final_master(plan, made, codecs, texts)
                write_whole(self._folder / MASTER, playlist.write_multivariant(master))
            return tuple(manifests.measure(plan, name, made[name]) for name in names)

    # --- how far

    def _grow(self) -> None:
        now = time.monotonic()
        for name in manifests.growing_names(self._plan):
            # A copied film yields hundreds of segments a second; players ask every few seconds.
            few = self._published[name] < OPENING_SEGMENTS
            due = few or name in self._complete or now - self._written[name] >= GROWING_EVERY_S
            if due and self._run(name) > self._published[name]:
                self._write_growing(name, ended=False)
        runs = {name: self._run(name) for name in self._segments}
        listed = manifests.listed_now(self._plan, runs)
        if listed != self._master and manifests.started(
            self._plan, listed, self._published, self._complete
        ):
            first = self._master is None
            self._master = listed
            codecs = self._codecs(manifests.shown(self._plan, listed))
            master = manifests.growing_master(self._plan, listed, codecs)
            if not self._listed_before >= _folders(master):
                write_whole(self._folder / MASTER, playlist.write_multivariant(master))
            if first:
                self._on_playable()
        if self._stands_since is not None:
            if now - self._stands_since >= ENDS_AFTER_S:
                self._end_growing()
        elif self._complete.issuperset(manifests.growing_names(self._plan)):
            self._stands_since = now

    def _run(self, name: str) -> int:
        """How many segments, from the first, stand without a hole."""
        segments = self._segments[name]
        while self._whole[name] in segments:
            self._whole[name] += 1
        return self._whole[name]

    def _complete_growing(self) -> None:
        """Every segment of all renditions, before any of them ends."""
        for name in manifests.growing_names(self._plan):
            if self._run(name) > self._published[name]:
                self._write_growing(name, ended=False)

    def _end_growing(self) -> None:
        """Once, of what is complete on disk."""
        for name in manifests.growing_names(self._plan):
            if name not in self._ended:
                self._write_growing(name, ended=True)
                self._ended.add(name)

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

    def _codecs(self, names: Iterable[str]) -> dict[str, str]:
        return {
            name: read_init((self._home(name) / INIT_NAME).read_bytes()).codec for name in names
        }

    def _texts(self) -> dict[str, manifests.Rates]:
        """The rates of all subtitles, whose step wrote them whole."""
        names = [manifests.subtitle_name(n) for n in range(self._plan.timeline.segments)]
        return {
            track.name: manifests.subtitle_rates(
                self._plan,
                [(self._folder / track.folder / name).stat().st_size for name in names],
            )
            for track in self._plan.subtitles
        }

    def _write_growing(self, name: str, *, ended: bool) -> None:
        segments = self._ordered(name)
        self._written[name] = time.monotonic()
        self._published[name] = max(self._published[name], len(segments))
        text = manifests.growing_media(self._plan, name, segments, ended=ended)
        write_whole(self._home(name) / GROWING, text)


def _folders(master: playlist.MultivariantPlaylist) -> set[str]:
    return {variant.uri.rpartition("/")[0] for variant in master.variants}
