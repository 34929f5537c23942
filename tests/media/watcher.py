"""An outside watcher: looks at an output folder while it is written, as any reader may.

It reads every version of every playlist that it can see and judges each with a parser that is not
ours (`m3u8`) and with the rules that a reader of a growing stream relies on.
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import m3u8

MASTER = "master.m3u8"
GROWING = "growing.m3u8"
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Version:
    """One seen state of a playlist."""

    at_s: float  # the wall clock, as time.time()
    text: str
    playlist: m3u8.M3U8


class Row(NamedTuple):
    """One segment as a media playlist lists it."""

    uri: str
    duration_s: float
    byte_range: str | None


@dataclass(slots=True)
class Watcher:
    """Polls *folder* from its own thread between ``__enter__`` and ``__exit__``.

    ``problems`` holds one sentence for every broken rule.
    """

    folder: Path
    duration_s: float
    problems: list[str] = field(default_factory=list)
    versions: dict[str, list[Version]] = field(default_factory=dict)
    playable: threading.Event = field(default_factory=threading.Event)
    _stamps: dict[Path, tuple[int, int, int]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watcher:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.look()  # the last state is judged whatever the poll's luck

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.look()
            except Exception as error:  # a watcher that dies must not look like a clean folder
                self.problems.append(f"the watcher failed: {error!r}")
                return
            # At most a tenth of one processor, so that watching does not slow what is watched.
            self._stop.wait(max(POLL_S, 9 * (time.monotonic() - began)))

    def look(self) -> None:
        """Reads and judges every playlist that changed since the last look."""
        # Not in the working folder: what comes and goes there is gone while it is listed.
        names = [self.folder / MASTER, *sorted(self.folder.glob("[!.]*/*/*.m3u8"))]
        for path in names:
            try:
                stat = path.stat()
                stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if self._stamps.get(path) == stamp:
                    continue
                text = path.read_text()
            except FileNotFoundError:
                if path in self._stamps:
                    self._blame(path, "has vanished")
                    del self._stamps[path]
                continue
            self._stamps[path] = stamp
            self._judge(path, text)
        self._judge_together()
        if (self.folder / MASTER) in self._stamps:
            self.playable.set()

    def _blame(self, path: Path, what: str) -> None:
        self.problems.append(f"{path.relative_to(self.folder)} {what}")

    def _judge(self, path: Path, text: str) -> None:
        seen = self.versions.setdefault(str(path.relative_to(self.folder)), [])
        if seen and seen[-1].text == text:
            return  # written again, and the same to every reader
        if not (text.startswith("#EXTM3U\n") and text.endswith("\n")):
            self._blame(path, f"is cut or is no playlist: {text[-60:]!r}")
            return
        try:
            playlist = m3u8.M3U8(text, strict=True)
        except Exception as error:
            self._blame(path, f"does not parse: {error!r}")
            return
        if playlist.is_variant:
            self._judge_multivariant(path, playlist)
        else:
            self._judge_media(path, playlist, [v.playlist for v in seen])
        seen.append(Version(time.time(), text, playlist))

    def _judge_together(self) -> None:
        """No growing playlist ends before all that a viewer may be given are complete.

        Shaka Player takes the whole presentation for finished when any part of it says so.
        """
        master = self.versions.get(MASTER)
        growing = [u for u in listed(master[0].playlist) if u.endswith(GROWING)] if master else []
        ended = [
            u for u in growing if u in self.versions and self.versions[u][-1].playlist.is_endlist
        ]
        for uri in growing if ended else ():
            # Read again: it may have been written since this look passed it.
            now = m3u8.M3U8((self.folder / uri).read_text())
            if length_s(now) < self.duration_s - 0.1:
                problem = f"{ended[0]} ends while {uri} still grows"
                if problem not in self.problems:
                    self.problems.append(problem)

    def _judge_multivariant(self, path: Path, playlist: m3u8.M3U8) -> None:
        if not playlist.playlists:
            self._blame(path, "lists no variant")
        for uri in listed(playlist):
            media = path.parent / uri
            if not media.is_file():
                self._blame(path, f"lists {uri}, which is not there")
            elif not m3u8.M3U8(media.read_text()).segments:
                self._blame(path, f"lists {uri}, which has no segment yet")

    def _judge_media(self, path: Path, playlist: m3u8.M3U8, before: list[m3u8.M3U8]) -> None:
        growing = path.name == GROWING
        if not playlist.target_duration:
            self._blame(path, "has no EXT-X-TARGETDURATION")
            return
        if not growing and not playlist.is_endlist:
            self._blame(path, "is not complete, though its name says so")
        if growing:
            if (playlist.playlist_type or "").upper() != "EVENT":
                self._blame(path, f"has type {playlist.playlist_type}, not EVENT")
            # Not exactly 0, which Shaka Player takes for "not said"; but within the first frame.
            # An offset from the end that is longer than the film means its beginning.
            if playlist.start is None or playlist.start.time_offset > -self.duration_s:
                self._blame(path, "does not ask players to start at its beginning")
        short_s = self.duration_s - length_s(playlist)
        if playlist.is_endlist and not playlist.is_i_frames_only and abs(short_s) > 0.1:
            self._blame(path, f"ends {short_s:.3f} s before the film does")
        known: list[Row] = []
        if before:
            last = before[-1]
            known = rows(last)
            if last.is_endlist:
                self._blame(path, "changed after its end")
            if playlist.target_duration != last.target_duration:
                self._blame(path, "changed its EXT-X-TARGETDURATION")
            if playlist.media_sequence != last.media_sequence:
                self._blame(path, "changed its EXT-X-MEDIA-SEQUENCE")
            if rows(playlist)[: len(known)] != known:
                self._blame(path, "changed or lost a segment that it had listed")
        else:
            self._judge_init(path, playlist)
        for row in rows(playlist)[len(known) :]:
            if round(row.duration_s) > playlist.target_duration:
                self._blame(path, f"{row.uri} is longer than EXT-X-TARGETDURATION")
            self._judge_segment(path, row)

    def _judge_init(self, path: Path, playlist: m3u8.M3U8) -> None:
        uri = playlist.segment_map[0].uri if playlist.segment_map else None
        if not uri:
            self._blame(path, "has no EXT-X-MAP")
            return
        boxes = box_types(path.parent / uri)
        if boxes is None or boxes[0] != "ftyp" or "moov" not in boxes:
            self._blame(path, f"has an initialisation segment that is not whole: {boxes}")

    def _judge_segment(self, path: Path, row: Row) -> None:
        file = path.parent / row.uri
        if row.byte_range:
            length, _, offset = row.byte_range.partition("@")
            if int(offset or 0) + int(length) > file.stat().st_size:
                self._blame(path, f"names bytes {row.byte_range} of {row.uri}, which is shorter")
            return
        boxes = box_types(file)
        if boxes is None or boxes.count("moof") != boxes.count("mdat") or "moof" not in boxes:
            self._blame(path, f"lists {row.uri}, which is not whole: {boxes}")


def rows(playlist: m3u8.M3U8) -> list[Row]:
    """What a media playlist says of its segments."""
    return [Row(s.uri or "", s.duration or 0.0, s.byterange) for s in playlist.segments]


def length_s(playlist: m3u8.M3U8) -> float:
    """How long the listed segments play, in seconds."""
    return sum(row.duration_s for row in rows(playlist))


def listed(playlist: m3u8.M3U8) -> list[str]:
    """The media playlists that a multivariant playlist names."""
    every = [*playlist.playlists, *playlist.media, *playlist.iframe_playlists]
    return [entry.uri for entry in every if entry.uri]


def box_types(file: Path) -> list[str] | None:
    """The types of a file's top-level boxes; None where it is absent, empty or ends in a box."""
    try:
        size = file.stat().st_size
        with file.open("rb") as data:
            types: list[str] = []
            at = 0
            while at < size:
                data.seek(at)
                header = data.read(16)
                if len(header) < 8:
                    return None
                length, name = struct.unpack(">I4s", header[:8])
                if length == 1:
                    length = int.from_bytes(header[8:16], "big")
                if length < 8:
                    return None
                types.append(name.decode("latin-1"))
                at += length
    except FileNotFoundError:
        return None
    return types if types and at == size else None
