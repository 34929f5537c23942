"""Checks outputs against the streaming rules: re-reads everything from disk, believes nothing.

`verify` only reads; what it found is a `Found`, and the rules over it are pure (`rules`). Of the
plan it takes what the plan alone can know: the expected duration, sizes, frames and A/V offset. A
folder without a plan is judged by its playlists alone.

Whatever lies on disk, `verify` does not raise for it: what cannot be read is the figure of the
rule that it breaks. One segment is in memory at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeVar

from telecine.engine import cmaf, mpd, playlist
from telecine.engine.bmff import boxes
from telecine.engine.errors import Interrupted, MediaError, StepFailed
from telecine.engine.output import PLAN
from telecine.engine.package import GROWING, IFRAMES, MANIFEST, MASTER
from telecine.engine.plan import Plan, plan_from_json
from telecine.engine.process import Cancel
from telecine.engine.rules import (
    RULES,
    Fault,
    Found,
    Rendition,
    RuleResult,
    Run,
    SegmentFile,
    Verification,
    judge,
)
from telecine.engine.tools import Tools

# A segment of 11 s at 200 Mb/s; what is larger is not read.
MAX_SEGMENT_BYTES = cmaf.MAX_BOX_BYTES
MAX_TEXT_BYTES = 64 << 20

__all__ = ["RuleResult", "Verification", "verify"]

_T = TypeVar("_T")


def verify(
    folder: Path,
    *,
    decode: bool = False,
    tools: Tools | None = None,
    cancel: Cancel | None = None,
) -> Verification:
    """Judge what `transcode` left in `folder` by every rule that applies to it.

    With `decode` every rendition and file is decoded too, in the sandbox of `tools`. Raises
    `Interrupted` when `cancel` is set, and nothing for what lies in the folder. Writes nothing.
    """
    found = _Reader(folder.resolve(), cancel).found()
    return Verification(tuple(judge(rule, found) for rule in RULES if rule.applies(found)))


class _Reader:
    def __init__(self, folder: Path, cancel: Cancel | None) -> None:
        self._folder = folder
        self._cancel = cancel
        self._faults: list[Fault] = []

    def found(self) -> Found:
        plan = self._plan()
        master = self._parsed(MASTER, playlist.parse_multivariant) if self._hls(plan) else None
        renditions = tuple(self._renditions(master))
        manifest = self._parsed(MANIFEST, mpd.parse_mpd) if self._hls(plan) else None
        return Found(
            plan=plan,
            streaming=self._hls(plan),
            master=master,
            master_version=self._version(MASTER),
            manifest=manifest,
            renditions=renditions,
            faults=tuple(self._faults),
        )

    def _hls(self, plan: Plan | None) -> bool:
        return plan is None or plan.hls

    # --- texts

    def _fault(self, rule: str, what: str) -> None:
        self._faults.append(Fault(rule, what))

    def _plan(self) -> Plan | None:
        try:
            return plan_from_json((self._folder / PLAN).read_text())
        except FileNotFoundError:
            return None
        except (MediaError, OSError, ValueError) as error:
            self._fault("plan-readable", f"{PLAN}: {error}")
            return None

    def _text(self, path: str) -> str | None:
        """The text of a file in the folder; None, and a fault, where there is none."""
        try:
            target = self._inside(path)
            if target.stat().st_size > MAX_TEXT_BYTES:
                raise OSError(f"larger than {MAX_TEXT_BYTES} bytes")
            return target.read_text()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._fault("files-exist", f"{path}: {reason}")
            return None

    def _inside(self, path: str) -> Path:
        target = (self._folder / path).resolve()
        if not target.is_relative_to(self._folder):
            raise ValueError("lies outside of the folder")
        return target

    def _parsed(self, path: str, parse: Callable[[str], _T]) -> _T | None:
        text = self._text(path)
        if text is None:
            return None
        try:
            return parse(text)
        except MediaError as error:
            rule = "mpd-parses" if path == MANIFEST else "playlists-parse"
            self._fault(rule, f"{path}: {error.message}")
            return None

    def _version(self, path: str) -> int | None:
        try:
            text = self._inside(path).read_text()
        except (OSError, ValueError):
            return None
        said = re.search(r"^#EXT-X-VERSION:(\d{1,9})\r?$", text, re.MULTILINE)
        return int(said[1]) if said else None

    # --- renditions

    def _renditions(self, master: playlist.MultivariantPlaylist | None) -> Iterator[Rendition]:
        if master is None:
            return
        pictures = [v.uri for v in master.variants]
        sounds = [r.uri for r in master.renditions if r.type == "AUDIO" and r.uri is not None]
        for uri in dict.fromkeys([*pictures, *sounds]):
            yield self._rendition(uri)

    def _rendition(self, uri: str) -> Rendition:
        home = str(PurePosixPath(uri).parent)
        media = self._parsed(uri, playlist.parse_media)
        track, brands = None, ""
        segments: tuple[SegmentFile, ...] = ()
        if media is not None:
            if media.map is not None:
                track, brands = self._init(f"{home}/{media.map.uri}")
            segments = tuple(
                self._segment(f"{home}/{name}", track)
                for name in dict.fromkeys(entry.uri for entry in media.segments)
            )
        return Rendition(
            uri=uri,
            home=home,
            playlist=media,
            version=self._version(uri),
            growing=self._optional(f"{home}/{GROWING}"),
            iframes=self._optional(f"{home}/{IFRAMES}"),
            track=track,
            brands=brands,
            segments=segments,
        )

    def _optional(self, path: str) -> playlist.MediaPlaylist | None:
        return self._parsed(path, playlist.parse_media) if (self._folder / path).exists() else None

    def _bytes(self, path: str) -> bytes | None:
        try:
            target = self._inside(path)
            size = target.stat().st_size
            if size > MAX_SEGMENT_BYTES:
                raise ValueError(f"{size} bytes: too large")
            return target.read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._fault("files-exist", f"{path}: {reason}")
            return None

    def _init(self, path: str) -> tuple[cmaf.Track | None, str]:
        data = self._bytes(path)
        if data is None:
            return None, ""
        try:
            top = {item.kind: item for item in boxes(memoryview(data))}
            return cmaf.read_init(data), bytes(top["ftyp"].body).decode("latin-1")
        except (MediaError, KeyError) as error:
            self._fault("init-segment", f"{path}: {error}")
            return None, ""

    def _segment(self, path: str, track: cmaf.Track | None) -> SegmentFile:
        if self._cancel is not None and self._cancel.is_set():
            raise Interrupted
        data = self._bytes(path)
        if data is None or track is None:
            return SegmentFile(path, 0 if data is None else len(data), ())
        try:
            runs = tuple(_run(fragment, track) for fragment in cmaf.read_segment(data, track))
            if not runs:
                raise StepFailed("no fragment", code="malformed_media")
            return SegmentFile(path, len(data), runs)
        except MediaError as error:
            self._fault("files-whole", f"{path}: {error.message}")
            return SegmentFile(path, len(data), ())


def _run(fragment: cmaf.Fragment, track: cmaf.Track) -> Run:
    samples = fragment.samples
    shown = sorted(sample.pts for sample in samples)
    steps = [after - before for before, after in pairwise(shown)]
    keys = [n for n, sample in enumerate(samples) if sample.sync]
    video = track.handler == "vide"
    first = samples[0]
    return Run(
        sequence=fragment.sequence,
        decode_ticks=fragment.decode_ticks,
        end_ticks=fragment.end_ticks,
        key_pts=first.pts,
        first_pts=shown[0],
        last_pts=shown[-1],
        samples=len(samples),
        idr=first.sync and (not video or _is_idr(first, track)),
        later_keys=sum(n > 0 for n in keys) if video else 0,
        shortest_ticks=min(steps, default=0),
        longest_ticks=max(steps, default=0),
        offset=fragment.offset,
        key_end=fragment.first_sample_end,
        end=fragment.offset + fragment.size_bytes,
    )


def _is_idr(sample: cmaf.Sample, track: cmaf.Track) -> bool:
    if not track.codec.startswith("avc"):
        return sample.sync
    return 5 in cmaf.nal_types(sample.data, track.nal_length_size)
