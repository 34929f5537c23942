"""Checks outputs against the streaming rules: re-reads everything from disk, believes nothing.

`verify` only reads; what it found is a `Found`, and the rules over it are pure (`rules`). Of the
plan it takes what the plan alone can know: the expected duration, sizes, pictures and A/V offset. A
folder without a plan is judged by its playlists alone.

Whatever lies there, nothing is raised for it: what cannot be read is the figure of the rule that it
breaks. One segment is in memory at a time.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from telecine.engine.beside import Stills
from telecine.engine.chapters import CHAPTERS_JSON, CHAPTERS_VTT
from telecine.engine.disk import working_folder
from telecine.engine.errors import Interrupted, MediaError, StepFailed, UsageError
from telecine.engine.formats import aes, cmaf, containers, mp4index, mpd, playlist, webvtt
from telecine.engine.formats.bmff import boxes, header
from telecine.engine.formats.captions import SEI_MARK
from telecine.engine.formats.cues import parse_cues
from telecine.engine.ladder import Size
from telecine.engine.loudness import Level
from telecine.engine.manifests import (
    FINISHED,
    GROWING,
    IFRAMES,
    MANIFEST,
    MASTER,
)
from telecine.engine.output import PLAN, REPORT
from telecine.engine.plan import MAX_DURATION_S, SUBTITLE_WHOLE, WORK, Plan, plan_from_json
from telecine.engine.process import Access, Cancel, limits_for, run
from telecine.engine.profile import AUDIO_KINDS
from telecine.engine.rules import RuleResult, Verification, judge
from telecine.engine.rules.found import (
    ChaptersFound,
    Decoded,
    Fault,
    Found,
    Mp4File,
    Mp4Track,
    Rendition,
    Run,
    SegmentFile,
    SoundFile,
    StillsFound,
    Stream,
    TextSegment,
    TextTrack,
    WaveformFound,
)
from telecine.engine.sandbox import global_flags, input_flags
from telecine.engine.searching import Score
from telecine.engine.serial import from_plain
from telecine.engine.tools import Tools, find_tools
from telecine.engine.words.protection import ContentKey, see_key

__all__ = ["RuleResult", "Verification", "verify"]

MAX_SEGMENT_BYTES = cmaf.MAX_BOX_BYTES
MAX_TEXT_BYTES = 64 << 20  # a playlist of half a million segments
MAX_SUBTITLE_BYTES = 64 << 20
MAX_TOP_BOXES = 10_000
HEAD_BYTES = 1 << 16
TAIL_BYTES = 1 << 17  # two of the largest Ogg pages

_PROGRESS_FD = 10
_SOUND_ENDINGS = {"mp3": "mp3", "m4a": "aac", "opus": "opus", "flac": "flac"}
_PROTECTION = ("pssh", "sinf", "senc", "tenc")

_T = TypeVar("_T")


def verify(
    folder: Path,
    *,
    decode: bool = False,
    tools: Tools | None = None,
    cancel: Cancel | None = None,
    on_read: Callable[[], object] = lambda: None,
    key: ContentKey | None = None,
) -> Verification:
    """Judge what `transcode` left in `folder` by every rule that applies to it.

    With `decode` every rendition and file is also decoded, in the sandbox of `tools` (this
    machine's, where none are given); that needs room in `folder` for one rendition at a time, gone
    afterwards. `on_read` hears of each file before it is read. `key` is needed where whole segments
    are encrypted, and to decode what is in any way. Raises `UsageError` (`key_missing`,
    `key_mismatch`), `Interrupted` when `cancel` is set and what `find_tools` and `run` raise,
    nothing for what lies in `folder`.
    """
    reader = _Reader(folder.resolve(), cancel, on_read, key, needs_key=decode)
    found = reader.found()
    if decode:
        found = reader.decoded(found, tools or find_tools())
    return judge(found)


class _Unreadable(Exception):
    """Something in the folder that cannot be read; the message says what and why."""


class _Reader:
    """Reads a folder. What cannot be read becomes a `Fault` under the rule that it breaks."""

    def __init__(
        self,
        folder: Path,
        cancel: Cancel | None,
        on_read: Callable[[], object],
        key: ContentKey | None,
        *,
        needs_key: bool,
    ) -> None:
        self._folder = folder
        self._key = key
        self._needs_key = needs_key
        self._cancel = cancel
        self._on_read = on_read
        self._faults: list[Fault] = []

    def found(self) -> Found:
        plan = self._plan()
        if plan is not None and self._key is not None:
            see_key(plan.profile.protection, self._key)
        streaming = plan.hls if plan is not None else self._streams()
        master, version, manifest = None, None, None
        if streaming:
            master, version = self._playlist(MASTER, playlist.parse_multivariant)
        renditions = tuple(self._renditions(master)) if master is not None else ()
        if streaming and (_wants_mpd(plan, renditions) or (self._folder / MANIFEST).exists()):
            manifest = self._manifest()
        paths = self._file_paths(plan)
        return Found(
            plan=plan,
            streaming=streaming,
            master=master,
            master_version=version,
            manifest=manifest,
            on_disk=self._finished_playlists(),
            renditions=renditions,
            streams=tuple(s for r in renditions if (s := r.stream) is not None),
            texts=tuple(self._text_tracks(master)) if master is not None else (),
            mp4s=tuple(self._read("progressive-mp4", paths["mp4"], self._mp4)),
            sounds=tuple(self._read("audio-files", paths["sound"], self._sound)),
            poster=next(self._read("poster", paths["poster"], self._poster), None),
            report=self._report(),
            told=tuple(self._told()),
            levels=tuple(self._levels()),
            scores=tuple(self._scores()),
            decoded=None,
            **self._beside(plan),
            faults=tuple(self._faults),
        )

    # --- the folder

    def _streams(self) -> bool:
        """Without a plan: whether playlists are expected, that is unless only files lie here."""
        paths = self._file_paths(None)
        return (self._folder / MASTER).exists() or not any(paths.values())

    def _inside(self, path: str) -> Path:
        """A file of the folder, by its name there. Raises `_Unreadable` for one outside of it."""
        try:
            target = (self._folder / path).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a zero byte
            raise _Unreadable(f"{path}: {error}") from None
        if not target.is_relative_to(self._folder):
            raise _Unreadable(f"{path} lies outside of the folder")
        return target

    def _bytes(self, path: str, most: int) -> bytes:
        """A whole file. Raises `_Unreadable`."""
        if self._cancel is not None and self._cancel.is_set():
            raise Interrupted
        self._on_read()
        target = self._inside(path)
        try:
            size = target.stat().st_size
            if size > most:
                raise _Unreadable(f"{path}: {size} bytes, at most {most} are read")
            return target.read_bytes()
        except OSError as error:
            raise _Unreadable(f"{path}: {error.strerror or error}") from None

    def _fault(self, rule: str, what: str) -> None:
        self._faults.append(Fault(rule, what))

    def _finished_playlists(self) -> tuple[str, ...]:
        found = (path.relative_to(self._folder) for path in self._folder.rglob(FINISHED))
        return tuple(sorted(str(path) for path in found if path.parts[0] != WORK))

    def _file_paths(self, plan: Plan | None) -> dict[str, list[str]]:
        """The files beside the segments: those of the plan, else those that are there."""
        paths: dict[str, list[str]] = {"mp4": [], "sound": [], "poster": []}
        if plan is not None:
            for file in plan.files:
                kind = "sound" if file.kind in AUDIO_KINDS else file.kind
                paths.setdefault(kind, []).append(file.path)
            return paths
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if path.suffix == ".mp4":
                paths["mp4"].append(path.name)
            elif path.stem == "audio" and path.suffix[1:] in _SOUND_ENDINGS:
                paths["sound"].append(path.name)
            elif path.name == "poster.jpg":
                paths["poster"].append(path.name)
        return paths

    # --- texts

    def _plan(self) -> Plan | None:
        if not (self._folder / PLAN).exists():
            return None
        try:
            return plan_from_json(self._bytes(PLAN, MAX_TEXT_BYTES).decode())
        except (_Unreadable, MediaError, ValueError, RecursionError) as error:
            self._fault("plan-readable", str(error))
            return None

    def _report(self) -> dict[str, object] | None:
        if not (self._folder / REPORT).exists():
            return None
        try:
            plain = json.loads(self._bytes(REPORT, MAX_TEXT_BYTES))
            if not isinstance(plain, dict):
                raise _Unreadable(f"{REPORT} is no object")
            return plain
        except (_Unreadable, ValueError, RecursionError) as error:
            self._fault("report", str(error))
            return None

    def _told(self) -> Iterator[str]:
        """The warnings that steps left. A result that cannot be read warns of nothing."""
        for path in sorted((self._folder / WORK / "steps").glob("*.json")):
            try:
                plain = json.loads(path.read_bytes())
                yield from (line for line in plain["warnings"] if isinstance(line, str))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue

    def _levels(self) -> Iterator[Level]:
        """What the step that measures sound found."""
        path = self._folder / WORK / "steps" / "loudness.json"
        try:
            plain = json.loads(path.read_bytes())
            yield from [from_plain(Level, level) for level in plain["levels"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def _scores(self) -> Iterator[Score]:
        """What the step that measures pictures found."""
        path = self._folder / WORK / "steps" / "measure.json"
        try:
            plain = json.loads(path.read_bytes())
            yield from [from_plain(Score, score) for score in plain["scores"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def _playlist(self, path: str, parse: Callable[[str], _T]) -> tuple[_T | None, int | None]:
        """A parsed playlist and its EXT-X-VERSION."""
        try:
            text = self._bytes(path, MAX_TEXT_BYTES).decode()
        except _Unreadable as error:
            self._fault("files-exist", str(error))
            return None, None
        except UnicodeDecodeError:
            self._fault("playlists-parse", f"{path}: not UTF-8")
            return None, None
        try:
            parsed = parse(text)
        except MediaError as error:
            self._fault("playlists-parse", f"{path}: {error.message}")
            return None, None
        said = re.search(r"^#EXT-X-VERSION:([0-9]{1,9})\r?$", text, re.MULTILINE)
        return parsed, int(said[1]) if said else None

    def _manifest(self) -> mpd.MPD | None:
        try:
            manifest = mpd.parse_mpd(self._bytes(MANIFEST, MAX_TEXT_BYTES).decode())
            for adaptation in manifest.adaptation_sets:
                for item in adaptation.representations:  # a template that is none is seen here
                    item.template.initialization_uri(item)
                    item.template.uris(item)
            return manifest
        except _Unreadable as error:
            self._fault("files-exist", str(error))
        except UnicodeDecodeError:
            self._fault("mpd-parses", f"{MANIFEST}: not UTF-8")
        except MediaError as error:
            self._fault("mpd-parses", f"{MANIFEST}: {error.message}")
        return None

    # --- renditions

    def _renditions(self, master: playlist.MultivariantPlaylist) -> Iterator[Rendition]:
        listed: dict[str, Literal["variant", "audio"]] = {v.uri: "variant" for v in master.variants}
        for item in master.renditions:
            if item.type == "AUDIO" and item.uri is not None:
                listed.setdefault(item.uri, "audio")
        for uri, kind in listed.items():
            yield self._rendition(uri, kind)

    def _rendition(self, uri: str, listed_as: Literal["variant", "audio"]) -> Rendition:
        home = str(PurePosixPath(uri).parent)
        media, _ = self._playlist(uri, playlist.parse_media)
        track, brands, protected = None, "", False
        segments: tuple[SegmentFile, ...] = ()
        if media is not None:
            if media.map is not None:
                track, brands, protected = self._init(_beside(home, media.map.uri))
            keys = {entry.uri: entry.keys for entry in media.segments}
            self._see_key(media)
            segments = tuple(self._segment(_beside(home, n), track, keys[n]) for n in keys)
        return Rendition(
            uri=uri,
            home=home,
            listed_as=listed_as,
            playlist=media,
            growing=self._optional(_beside(home, GROWING)),
            iframes=self._optional(_beside(home, IFRAMES)),
            track=track,
            brands=brands,
            protected=protected,
            segments=segments,
        )

    def _text_tracks(self, master: playlist.MultivariantPlaylist) -> Iterator[TextTrack]:
        uris = (item.uri for item in master.renditions if item.type == "SUBTITLES")
        for uri in dict.fromkeys(uri for uri in uris if uri is not None):
            home = str(PurePosixPath(uri).parent)
            media, _ = self._playlist(uri, playlist.parse_media)
            names = () if media is None else dict.fromkeys(e.uri for e in media.segments)
            segments = tuple(self._text_segment(_beside(home, name)) for name in names)
            whole = self._text_segment(_beside(home, SUBTITLE_WHOLE)).text
            yield TextTrack(uri, home, media, segments, whole)

    def _text_segment(self, path: str) -> TextSegment:
        try:
            data = self._bytes(path, MAX_SUBTITLE_BYTES)
        except _Unreadable as error:
            self._fault("files-exist", str(error))
            return TextSegment(path, 0, None)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if not webvtt.is_webvtt(text):
            self._fault("subtitle-cues", f"{path}: no WebVTT in UTF-8")
            return TextSegment(path, len(data), None)
        return TextSegment(path, len(data), webvtt.parse(text))

    def _optional(self, path: str) -> playlist.MediaPlaylist | None:
        if not (self._folder / path).exists():
            return None
        return self._playlist(path, playlist.parse_media)[0]

    def _init(self, path: str) -> tuple[cmaf.Track | None, str, bool]:
        """The track, the brands, and whether anything speaks of encryption."""
        try:
            data = self._bytes(path, MAX_SEGMENT_BYTES)
            brands = "".join(
                bytes(item.body).decode("latin-1")
                for item in boxes(memoryview(data))
                if item.kind == "ftyp"
            )
            return cmaf.read_init(data), brands, any(kind.encode() in data for kind in _PROTECTION)
        except _Unreadable as error:
            self._fault("files-exist", str(error))
        except MediaError as error:
            self._fault("init-segment", f"{path}: {error.message}")
        return None, "", False

    def _see_key(self, media: playlist.MediaPlaylist) -> None:
        """Raise unless there is the key where it is needed."""
        methods = {key.method for entry in media.segments for key in entry.keys}
        if self._key is None and ("AES-128" in methods or (methods and self._needs_key)):
            raise UsageError("what streams is encrypted: its key is needed", code="key_missing")

    def _segment(
        self, path: str, track: cmaf.Track | None, keys: tuple[playlist.Key, ...]
    ) -> SegmentFile:
        try:
            data = self._bytes(path, MAX_SEGMENT_BYTES)
        except _Unreadable as error:
            self._fault("files-exist", str(error))
            return SegmentFile(path, 0, ())
        if track is None or not data:
            return SegmentFile(path, len(data), ())
        try:
            found = _segment_file(path, self._whole(data, keys), track)
        except MediaError as error:
            self._fault("files-whole", f"{path}: {error.message}")
            lies_open = _lies_open(data, track, keys)
            return SegmentFile(path, len(data), (), lies_open=lies_open)
        return replace(found, size_bytes=len(data))

    def _whole(self, data: bytes, keys: tuple[playlist.Key, ...]) -> bytes:
        """A segment file, decrypted where it is encrypted as a whole. Raises `StepFailed`."""
        for key in keys:
            if key.method == "AES-128":
                assert self._key is not None
                if key.iv is None:
                    raise StepFailed("EXT-X-KEY has no IV", code="malformed_media")
                return aes.decrypt_padded(self._key.data, key.iv, data)
        return data

    # --- files of their own

    def _read(self, rule: str, paths: Sequence[str], read: Callable[[str], _T]) -> Iterator[_T]:
        for path in paths:
            try:
                yield read(path)
            except _Unreadable as error:
                self._fault(rule, str(error))
            except MediaError as error:
                self._fault(rule, f"{path}: {error.message}")
            except OSError as error:
                self._fault(rule, f"{path}: {error.strerror or error}")

    def _mp4(self, path: str) -> Mp4File:
        target = self._inside(path)
        with target.open("rb") as file:
            kinds: list[str] = []
            at, size_bytes = 0, target.stat().st_size
            while at < size_bytes and len(kinds) < MAX_TOP_BOXES:
                file.seek(at)
                head = header(file.read(16))
                if head is None:
                    break
                kinds.append(head[0])
                at += head[2]
            moov = mp4index.read_moov(file)
        if moov is None:
            raise StepFailed("no moov", code="malformed_media")
        tracks = tuple(_mp4_track(track) for track in mp4index.read_movie(moov).tracks)
        return Mp4File(path, size_bytes, tuple(kinds), tracks)

    def _sound(self, path: str) -> SoundFile:
        kind = _SOUND_ENDINGS[PurePosixPath(path).suffix[1:]]
        target = self._inside(path)
        size_bytes = target.stat().st_size
        with target.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            tail = file.read()
        match kind:
            case "mp3":
                duration_s = containers.mp3_duration_s(head, size_bytes)
            case "opus":
                duration_s = containers.opus_duration_s(head, tail)
            case "flac":
                duration_s = containers.flac_duration_s(head, tail)
            case _:
                duration_s = self._m4a_duration_s(path)
        return SoundFile(path, kind, duration_s)

    def _m4a_duration_s(self, path: str) -> Fraction:
        file = self._mp4(path)
        track = file.tracks[0] if len(file.tracks) == 1 else None
        if track is None or track.start_s is None or track.end_s is None:
            raise StepFailed("not one track of sound on one edit", code="malformed_media")
        if track.handler != "soun" or track.data_end > file.size_bytes:
            raise StepFailed("no sound, or cut off", code="malformed_media")
        return track.end_s - max(track.start_s, Fraction(0))  # what an edit hides is not heard

    def _poster(self, path: str) -> Size:
        return containers.jpeg_size(self._bytes(path, MAX_SEGMENT_BYTES))

    # --- beside the film

    def _beside(self, plan: Plan | None) -> dict[str, Any]:
        """The fields of `Found` for what only a plan tells of."""
        if plan is None:
            return {}
        kinds: dict[str, Stills] = {one.kind: one for one in plan.stills}
        previews = ["preview.webp"] if plan.preview is not None else []
        peaks = ["waveform.json"] if plan.waveform is not None else []
        chapters = [CHAPTERS_VTT] if plan.chapters else []
        return {
            "stills": tuple(
                self._read("stills-whole", list(kinds), lambda kind: self._stills(kinds[kind]))
            ),
            "preview": next(self._read("preview", previews, self._preview), None),
            "waveform": next(self._read("waveform", peaks, self._waveform), None),
            "chapters": next(self._read("chapters", chapters, self._chapters), None),
        }

    def _stills(self, stills: Stills) -> StillsFound:
        cues = parse_cues(self._text(f"{stills.kind}.vtt"))
        listed = None
        if stills.kind == "thumbnails":
            listed = tuple(
                (one["path"], round(one["start_s"] * 1000), round(one["end_s"] * 1000))
                for one in self._json("thumbnails.json", lambda plain: plain["thumbnails"])
            )
        sizes = {path: self._poster(path) for path in stills.pictures}
        return StillsFound(stills.kind, cues, sizes, listed)

    def _preview(self, path: str) -> containers.Animation:
        return containers.webp_animation(self._bytes(path, MAX_SEGMENT_BYTES))

    def _waveform(self, path: str) -> WaveformFound:
        head, data = self._json(
            path, lambda plain: (plain, tuple(int(value) for value in plain.pop("data")))
        )
        picture = containers.png_size(self._bytes("waveform.png", MAX_SEGMENT_BYTES))
        return WaveformFound(head, data, picture)

    def _chapters(self, path: str) -> ChaptersFound:
        listed = self._json(CHAPTERS_JSON, lambda plain: tuple(map(_chapter, plain)))
        return ChaptersFound(parse_cues(self._text(path)), listed)

    def _text(self, path: str) -> str:
        return self._bytes(path, MAX_TEXT_BYTES).decode(errors="replace")

    def _json(self, path: str, read: Callable[[Any], _T]) -> _T:
        """What `read` makes of a JSON file. Raises `_Unreadable`."""
        try:
            return read(json.loads(self._bytes(path, MAX_TEXT_BYTES)))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            raise _Unreadable(f"{path} is not in its form") from None

    # --- decoding

    def decoded(self, found: Found, tools: Tools) -> Found:
        """`found` with what FFmpeg makes of every rendition and file."""
        items = [self._decode_stream(stream, tools) for stream in found.streams]
        for file in found.mp4s:
            pictures = [track for track in file.tracks if track.handler == "vide"]
            expected = sum(track.samples for track in pictures)
            pixels = max((track.width * track.height for track in pictures), default=0)
            items.append(self._decode_file(file.path, tools, expected, pixels))
        items += [self._decode_file(file.path, tools, None, 0) for file in found.sounds]
        items += [self._decode_stills(stills, tools) for stills in self._whole_stills(found)]
        if found.preview is not None:
            pixels = found.preview.size.pixels
            expected = found.preview.pictures
            items.append(self._decode_file("preview.webp", tools, expected, pixels))
        return replace(found, decoded=tuple(items))

    def _whole_stills(self, found: Found) -> list[Stills]:
        there = {one.kind for one in found.stills}
        planned = found.plan.stills if found.plan is not None else ()
        return [stills for stills in planned if stills.kind in there]

    def _decode_stills(self, stills: Stills, tools: Tools) -> Decoded:
        """All JPEGs one behind the other, as a film of pictures."""
        with working_folder(self._folder / WORK, "decode") as scratch:
            whole = scratch / "whole.mjpeg"
            with whole.open("wb") as joined:
                for path in stills.pictures:
                    joined.write(self._bytes(path, MAX_SEGMENT_BYTES))
            pixels = stills.picture_size.pixels
            count = len(stills.pictures)
            return self._decode(stills.kind, whole, tools, count, pixels, demuxer="mjpeg")

    def _decode_stream(self, stream: Stream, tools: Tools) -> Decoded:
        """Init segment and all segments as one file, which lies in the folder meanwhile."""
        assert stream.playlist.map is not None
        init = _beside(stream.home, stream.playlist.map.uri)
        expected = stream.samples if stream.video else None
        with working_folder(self._folder / WORK, "decode") as scratch:
            whole = scratch / "whole.mp4"
            try:
                with whole.open("wb") as joined:
                    for part in self._clear_parts(init, stream):
                        joined.write(part)
            except StepFailed as error:  # what no fragment of ours can say is not decrypted
                return Decoded(stream.home, expected, 0, (error.message,))
            pixels = stream.track.width * stream.track.height
            return self._decode(stream.home, whole, tools, expected, pixels)

    def _clear_parts(self, init: str, stream: Stream) -> Iterator[bytes]:
        """Init segment and segments, decrypted."""
        data = self._inside(init).read_bytes()
        sealed = stream.track.encryption is not None
        yield cmaf.clear_init(data) if sealed else data
        keys = {_beside(stream.home, entry.uri): entry.keys for entry in stream.playlist.segments}
        for segment in stream.segments:
            data = self._whole(self._inside(segment.path).read_bytes(), keys[segment.path])
            if sealed:
                assert self._key is not None
                data = cmaf.clear_segment(data, stream.track, self._key.data)
            yield data

    def _decode_file(self, path: str, tools: Tools, expected: int | None, pixels: int) -> Decoded:
        return self._decode(path, self._inside(path), tools, expected, pixels)

    def _decode(
        self,
        path: str,
        file: Path,
        tools: Tools,
        expected: int | None,
        pixels: int,
        *,
        demuxer: str | None = None,
    ) -> Decoded:
        errors: list[str] = []
        told: list[bytes] = []
        finished = run(
            decode_argv(tools.ffmpeg, file, demuxer=demuxer),
            sandbox=tools.sandbox,
            limits=limits_for(pixels, 0, MAX_DURATION_S),
            access=Access(read=(file,)),
            sinks={_PROGRESS_FD: told.append},
            cancel=self._cancel,
            on_line=errors.append,
        )
        if finished.returncode != 0 and not errors:
            errors.append(f"FFmpeg ended with {finished.returncode}")
        frames = re.findall(rb"^frame=\s*(\d+)", b"".join(told), re.MULTILINE)
        return Decoded(path, expected, int(frames[-1]) if frames else 0, tuple(errors))


def decode_argv(ffmpeg: Path, file: Path, *, demuxer: str | None = None) -> list[str]:
    """Decode everything in a file to nothing; every line on standard error is an error. One JPEG
    looks like a still picture, which no `demuxer` of ours takes, unless one is named."""
    return [
        *(str(ffmpeg), *global_flags()),
        *("-loglevel", "error"),
        *("-progress", f"pipe:{_PROGRESS_FD}", "-nostats"),  # tells how many pictures there were
        "-xerror",  # the first error ends it: damage is a broken rule, not something to conceal
        *input_flags(),
        *("-err_detect", "explode"),  # what decoders would conceal is an error too
        *(("-f", demuxer) if demuxer is not None else ()),
        *("-i", f"file:{file}"),
        *("-map", "0"),
        *("-fps_mode", "passthrough"),  # as many pictures as were decoded
        *("-enc_time_base", "demux"),  # or varying times round to the same tick of a mean rate
        *("-f", "null", "-"),
    ]


def _chapter(plain: dict[str, Any]) -> tuple[int, int, str]:
    start_ms = round(plain["start-time"] * 1000)
    end_ms = start_ms + round(plain["duration"] * 1000)
    return start_ms, end_ms, str(plain["titles"][0]["title"])


def _beside(home: str, name: str) -> str:
    return str(PurePosixPath(home) / name)


def _wants_mpd(plan: Plan | None, renditions: Sequence[Rendition]) -> bool:
    """Whether there has to be one: DASH cannot say of whole segments that they are encrypted."""
    return plan.dash if plan is not None else not any(r.whole_keys for r in renditions)


# What stands first in a segment that is not encrypted.
_OPENINGS = (b"styp", b"sidx", b"moof")


def _lies_open(data: bytes, track: cmaf.Track, keys: tuple[playlist.Key, ...]) -> bool:
    """Whether a segment that should be encrypted, and cannot be read as such, is not."""
    if track.encryption is not None:
        return b"senc" not in data
    return any(key.method == "AES-128" for key in keys) and data[4:8] in _OPENINGS


def _segment_file(path: str, data: bytes, track: cmaf.Track) -> SegmentFile:
    """Raises `StepFailed` for what is not fragments of `track` to the last byte."""
    crc = 0
    runs = []
    for fragment in cmaf.read_segment(data, track):
        shown = sorted(sample.pts for sample in fragment.samples)
        crc = zlib.crc32(struct.pack(f">{len(shown)}q", *shown), crc)
        runs.append(_run(fragment, track, shown))
    if not runs:
        raise StepFailed("no fragments", code="malformed_media")
    captions = data.count(SEI_MARK) if track.handler == "vide" else 0
    return SegmentFile(path, len(data), tuple(runs), crc, captions)


def _run(fragment: cmaf.Fragment, track: cmaf.Track, shown: Sequence[int]) -> Run:
    steps = [after - before for before, after in pairwise(shown)]
    first, *others = fragment.samples
    later_keys = 0
    if track.handler == "vide":
        idr = cmaf.starts_gop(first, track)
        later_keys = sum(cmaf.starts_gop(sample, track) for sample in others)
    else:
        idr = first.sync
    return Run(
        sequence=fragment.sequence,
        decode_ticks=fragment.decode_ticks,
        end_ticks=fragment.end_ticks,
        key_pts=first.pts,
        first_pts=shown[0],
        last_pts=shown[-1],
        samples=len(shown),
        idr=idr,
        later_keys=later_keys,
        shortest_ticks=min(steps, default=0),
        usual_ticks=sorted(steps)[len(steps) // 2] if steps else 0,
        longest_ticks=max(steps, default=0),
        offset=fragment.offset,
        key_end=fragment.first_sample_end,
        end=fragment.offset + fragment.size_bytes,
        wrongly_sealed=_wrongly_sealed(fragment, track),
    )


def _wrongly_sealed(fragment: cmaf.Fragment, track: cmaf.Track) -> int:
    if track.encryption is None:
        return 0
    samples = fragment.samples
    return sum(sample.subsamples != cmaf.subsamples_in(sample, track) for sample in samples)


def _mp4_track(table: mp4index.TrackTable) -> Mp4Track:
    samples = table.samples()
    shift = table.shift_ticks
    start_s = end_s = None
    if shift is not None and len(samples.pts):
        first = min(samples.pts)
        start_s = (first + shift) / table.timescale
        end_s = start_s + Fraction(samples.end_dts, table.timescale)
    entry = table.entries[0] if table.entries else None
    ends = map(int.__add__, samples.offsets, samples.sizes)
    return Mp4Track(
        handler=table.handler,
        codec=entry.kind if entry is not None else "",
        width=entry.width if entry is not None else 0,
        height=entry.height if entry is not None else 0,
        samples=len(samples.pts),
        start_s=start_s,
        end_s=end_s,
        data_end=max(ends, default=0),
    )
