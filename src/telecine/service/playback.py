"""Playback: what plays of an asset, who may see it, and what stands behind each URL of it.

While a job runs its playlists are answered from the segments that were advanced, by the same pure
functions that write the files at the end (`engine.manifests`); once it has succeeded everything
comes from the files of its prefix. The URLs are the same before and after, so a session that began
early plays on.

Public and unlisted assets play by their URL. A private one's begins with an expiring token, so that
playlists, whose URIs are relative, need no rewriting.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from telecine.engine import manifests
from telecine.engine.beside import content_type, picture_path
from telecine.engine.chapters import CHAPTERS_VTT
from telecine.engine.formats.cmaf import read_init
from telecine.engine.formats.playlist import write_multivariant
from telecine.engine.images.formats import FORMATS
from telecine.engine.manifests import FINISHED, GROWING, IFRAMES, MANIFEST, MASTER
from telecine.engine.plan import Plan, plan_from_json
from telecine.engine.planning import encoded_instead
from telecine.engine.segments import INIT_NAME, Segment, segment_name
from telecine.service.db import playback as rows
from telecine.service.db.connection import Tx
from telecine.service.db.playback import INIT, PlayedAsset, PlayedJob
from telecine.service.domain import Forbidden, NotFound, Principal, Visibility
from telecine.service.image_plans import SHOWN
from telecine.service.services import Services
from telecine.service.storage.store import Missing, Storage

PURPOSE = "playback"
PLAYBACK_TTL_S = 12 * 3600  # at least so long a private asset's URLs are good: a night of watching
TOKEN_STEP_S = 3600  # tokens made within an hour are the same: browsers keep what they have fetched

PLANS_KEPT = 256
GROWING_KEPT = 32

HLS = "application/vnd.apple.mpegurl"
DASH = "application/dash+xml"
FILE_TYPES = {
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "aac": "audio/mp4",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "poster": "image/jpeg",
}

# waiting: nothing can be played yet; growing: a part can, and more comes; ready: all of it;
# failed: nothing will come.
PlaybackState = Literal["waiting", "growing", "ready", "failed"]
# fixed: these bytes for ever; hour: as good as fixed, but small; changes: ask each time.
Keeping = Literal["fixed", "hour", "changes"]
Kind = Literal["master", "growing", "text", "init", "segment", "file", "poster"]


@dataclass(frozen=True, slots=True)
class Playback:
    """What plays of an asset now. Paths begin with a slash; `token` is part of them where the asset
    is private, and `expires_at` when it ends."""

    asset: PlayedAsset
    state: PlaybackState
    hls: str | None
    dash: str | None
    file: str | None
    poster: str | None
    storyboard: str | None
    chapters: str | None
    embed: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Text:
    """A playlist that was made for this answer."""

    data: bytes
    content_type: str
    keeping: Keeping


@dataclass(frozen=True, slots=True)
class Kept:
    """An object in storage; `small`: a text that is worth compressing."""

    key: str
    content_type: str
    keeping: Keeping
    small: bool = False


# --- who may see what ---------------------------------------------------------------------------


def look(services: Services, asset_id: str, who: Principal | None) -> Playback:
    """What plays of this asset, for who asks (None: anybody). The owner of a private asset gets
    URLs with a token.

    Raises `NotFound` (`asset_unknown`), `Forbidden` (`scope_missing`).
    """
    with services.database.read() as tx:
        asset = _visible(rows.find_asset(tx, asset_id), who)
        expiring = asset.visibility == "private"
        expires_at = _expiry(tx.now_s()) if expiring else None
        token = None if expires_at is None else services.signer.sign(PURPOSE, asset_id, expires_at)
        return _playback(services.storage, tx, asset, token, expires_at)


def look_by_url(services: Services, asset_id: str, token: str | None) -> Playback:
    """What plays of this asset, for who has its URL; `token` is what stood in it.

    Raises `NotFound` (`asset_unknown`), `Forbidden` (`link_expired`).
    """
    with services.database.read() as tx:
        asset = _by_url(services, tx, asset_id, token)
        expires_at = None if token is None else int(token.partition(".")[0])
        return _playback(services.storage, tx, asset, token, expires_at)


def poster_path(
    services: Services, asset_id: str, visibility: Visibility, poster_key: str, now_s: float
) -> str:
    """The path of an asset's poster at `now_s`: for lists, which need nothing else of playback. A
    private asset's expires."""
    token = None
    if visibility == "private":
        token = services.signer.sign(PURPOSE, asset_id, _expiry(now_s))
    return _poster_in(_media_of(asset_id, token), poster_key)


def _media_of(asset_id: str, token: str | None) -> str:
    """Where the files of an asset's jobs are read."""
    return f"{'/media' if token is None else f'/p/{token}'}/{asset_id}"


def _poster_in(media: str, poster_key: str) -> str:
    _, job_id, *_, leaf = poster_key.split("/")  # tasks/<job>/<task>/<attempt>/poster.jpg
    return f"{media}/{job_id}/{leaf}"


def _visible(asset: PlayedAsset | None, who: Principal | None) -> PlayedAsset:
    if asset is None:
        raise _unknown()
    if asset.visibility == "private":
        if who is None or who.user_id != asset.user_id:
            raise _unknown()
        if "assets:read" not in who.scopes:
            raise Forbidden("this API key lacks the scope assets:read", code="scope_missing")
    return asset


def _by_url(services: Services, tx: Tx, asset_id: str, token: str | None) -> PlayedAsset:
    if token is not None:
        _check_token(services, tx, asset_id, token)
    asset = rows.find_asset(tx, asset_id)
    if asset is None or (token is None and asset.visibility == "private"):
        raise _unknown()
    return asset


def _check_token(services: Services, tx: Tx, asset_id: str, token: str) -> None:
    if services.signer.valid(PURPOSE, asset_id, token, tx.now_s()):
        return
    if services.signer.valid(PURPOSE, asset_id, token, 0):  # ours, but its time is over
        raise Forbidden("this link has expired: ask for a new one", code="link_expired")
    raise _unknown()


def _unknown() -> NotFound:
    return NotFound("there is no such asset, or it is private", code="asset_unknown")


def _expiry(now_s: float) -> int:
    return (int(now_s + PLAYBACK_TTL_S) // TOKEN_STEP_S + 1) * TOKEN_STEP_S


# --- what plays ---------------------------------------------------------------------------------


def choose_job(jobs: Sequence[PlayedJob]) -> PlayedJob | None:
    """Of an asset's jobs, newest first, the one that plays: a finished stream before one that
    grows, a stream before a file, a file before a picture that stands still."""
    done = [job for job in jobs if job.files is not None]
    coming = [job for job in jobs if job.files is None and job.state in ("queued", "running")]
    order = (
        *(job for job in done if "hls" in job.kinds),
        *(job for job in coming if "hls" in job.kinds),
        *(job for job in done if job.kinds & FILE_TYPES.keys() - {"poster"}),
        *(job for job in coming if "image" not in job.kinds),
        *(job for job in done if "image" in job.kinds),
        *coming,
    )
    return next(iter(order), None)


def _playback(
    storage: Storage, tx: Tx, asset: PlayedAsset, token: str | None, expires_at: int | None
) -> Playback:
    media = _media_of(asset.id, token)
    job = choose_job(rows.jobs_of(tx, asset.id))
    state = _state(storage, tx, asset, job)
    hls = dash = file = storyboard = chapters = None
    if job is not None:
        home = f"{media}/{job.id}"
        streams = "hls" in job.kinds
        hls = f"{home}/{MASTER}" if streams else None
        if state == "ready":
            layout = _layout(tx, job)
            dash = f"{home}/{MANIFEST}" if streams and layout.dash else None
            file = None if layout.film is None else f"{home}/{layout.film}"
            storyboard, chapters = (
                f"{home}/{name}" if name in layout.files else None
                for name in ("storyboard.vtt", CHAPTERS_VTT)
            )
    return Playback(
        asset=asset,
        state=state,
        hls=hls,
        dash=dash,
        file=file,
        poster=_poster(tx, media, asset, job),
        storyboard=storyboard,
        chapters=chapters,
        embed=f"{'' if token is None else f'/p/{token}'}/embed/{asset.id}",
        expires_at=expires_at,
    )


def _state(storage: Storage, tx: Tx, asset: PlayedAsset, job: PlayedJob | None) -> PlaybackState:
    if job is None:
        return "failed" if asset.state == "failed" else "waiting"
    if job.files is not None:
        return "ready"
    if "hls" not in job.kinds or _grown(tx, job).master(storage, tx, job) is None:
        return "waiting"
    return "growing"


def _poster(tx: Tx, media: str, asset: PlayedAsset, job: PlayedJob | None) -> str | None:
    """Where the poster is: with the job that made it, which need not be the one that plays."""
    if job is not None and job.kinds & {"poster", "image"}:
        there = job.files is not None or _done(tx, job, "poster") is not None
        path = _layout(tx, job).poster
        if there and path is not None:
            return f"{media}/{job.id}/{path}"
    if asset.poster_key is None:
        return None
    return _poster_in(media, asset.poster_key)


def _done(tx: Tx, job: PlayedJob, step_id: str) -> str | None:
    """Where the files of a step lie that has succeeded."""
    return rows.step_prefix(tx, job.id, step_id)


# --- a job's names ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """What a path of a job is."""

    kind: Kind
    content_type: str
    rendition: str = ""
    number: int = INIT


@dataclass(frozen=True, slots=True)
class Layout:
    """The names that a plan's output has; nothing else of a job is ever served. `film` is a file
    that plays by itself."""

    folders: dict[str, str]  # folder → rendition
    pictures: frozenset[str]  # of those renditions
    files: dict[str, str]  # path → content type
    poster: str | None
    film: str | None
    dash: bool = True

    def find(self, path: str) -> Name | None:
        """What this path names; None: nothing of ours."""
        if path in self.files:
            kind: Kind = "poster" if path == self.poster else "file"
            return Name(kind, self.files[path])
        if path == MASTER and self.folders:
            return Name("master", HLS)
        if path == MANIFEST and self.folders and self.dash:
            return Name("text", DASH)
        folder, _, leaf = path.rpartition("/")
        rendition = self.folders.get(folder)
        return None if rendition is None else self._leaf(rendition, leaf)

    def _leaf(self, rendition: str, leaf: str) -> Name | None:
        content_type = "video/mp4" if rendition in self.pictures else "audio/mp4"
        if leaf == GROWING:
            return Name("growing", HLS, rendition)
        if leaf == FINISHED or (leaf == IFRAMES and rendition in self.pictures):
            return Name("text", HLS, rendition)
        if leaf == INIT_NAME:
            return Name("init", content_type, rendition)
        if _SEGMENT_LEAF.fullmatch(leaf) and segment_name(int(leaf[:-4])) == leaf:
            return Name("segment", content_type, rendition, int(leaf[:-4]))
        return None


_SEGMENT_LEAF = re.compile(r"[0-9]{5,9}\.m4s")


def layout_of(plan: Mapping[str, Any]) -> Layout:
    """The names of the output of a plan, which is given as plain JSON: what an older version of
    this program planned and made still plays."""
    if plan.get("kind") == "image":
        return _layout_of_images(plan)
    pictures = [rendition for rendition in plan["renditions"] if rendition["listed"]]
    sounds = [sound for sound in _sounds_of(plan) if sound["listed"]]
    films = [file for file in plan["files"] if file["kind"] in FILE_TYPES.keys() - {"poster"}]
    films.sort(key=lambda file: str(file["kind"]) != "mp4")  # pictures before sound alone
    posters = [file["path"] for file in plan["files"] if file["kind"] == "poster"]
    return Layout(
        folders={rendition["folder"]: rendition["name"] for rendition in (*pictures, *sounds)},
        pictures=frozenset(rendition["name"] for rendition in pictures),
        files={**_files_of(plan), **_stills_of(plan)},
        poster=posters[0] if posters else None,
        film=films[0]["path"] if films else None,
        # Plans of version 1 knew no protection.
        dash=(plan["profile"].get("protection") or {}).get("scheme") != "aes-128",
    )


def _files_of(plan: Mapping[str, Any]) -> dict[str, str]:
    """Each file's content type."""
    return {
        file["path"]: FILE_TYPES.get(file["kind"]) or content_type(file["path"])
        for file in plan["files"]
    }


def _stills_of(plan: Mapping[str, Any]) -> dict[str, str]:
    """The pictures that lie in folders; plans of version 1 had none."""
    found: dict[str, str] = {}
    for stills in plan.get("stills", ()):
        files = -(-stills["count"] // (stills["columns"] * stills["rows"]))
        paths = [picture_path(stills["kind"], n) for n in range(files)]
        found |= {path: content_type(path) for path in paths}
    return found


def _sounds_of(plan: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Plans of version 1 knew one sound at the most."""
    if "sounds" not in plan:
        sound = plan["audio_rendition"]
        return () if sound is None else (sound,)
    sounds: Sequence[Mapping[str, Any]] = plan["sounds"]
    return sounds


def _layout_of_images(plan: Mapping[str, Any]) -> Layout:
    files = {one["path"]: FORMATS[one["format"]].content_type for one in plan["outputs"]}
    shown = (one["path"] for one in plan["outputs"] if one["format"] in SHOWN)
    return Layout({}, frozenset(), files, poster=next(shown, None), film=None)


# --- what is read once --------------------------------------------------------------------------

T = TypeVar("T")


class _Recent(Generic[T]):
    """The last so many of what is dear to make, by (job, plan mark)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], T] = OrderedDict()

    def get(self, job: PlayedJob, make: Callable[[], T]) -> T:
        """What is kept, or else made; two threads may make it at once, one is kept."""
        key = (job.id, job.plan_mark)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            kept = self._kept.setdefault(key, made)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return kept


def _plan(tx: Tx, job: PlayedJob) -> str:
    text = rows.plan_of(tx, job.id)
    if text is None:
        raise _no_media()
    return text


def _layout(tx: Tx, job: PlayedJob) -> Layout:
    return _layouts.get(job, lambda: layout_of(json.loads(_plan(tx, job))))


def _grown(tx: Tx, job: PlayedJob) -> Grown:
    return _growing.get(job, lambda: Grown(plan_from_json(_plan(tx, job))))


@dataclass(slots=True)
class Grown:
    """A running job's timeline as far as it was read: each request reads only what is new, since
    what was advanced once stays true. Safe to use from many threads.

    `replaceable`: the job may yet go over to another plan, which gives the same names to other
    bytes.
    """

    plan: Plan
    replaceable: bool = field(init=False)
    _segments: dict[str, list[Segment]] = field(init=False)
    _codecs: dict[str, str] = field(default_factory=dict)
    _texts: dict[str, tuple[tuple[object, ...], bytes]] = field(default_factory=dict)
    _sound_done: bool = False
    _stands_since: float | None = None  # monotonic: when all that grows was first seen complete
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.replaceable = encoded_instead(self.plan) is not None
        self._segments = {name: [] for name in manifests.finished_names(self.plan)}

    def master(self, storage: Storage, tx: Tx, job: PlayedJob) -> bytes | None:
        """`master.m3u8` now; None: there is too little to open with."""
        plan = self.plan
        with self._lock:
            self._read(tx, job)
            runs = {name: len(segments) for name, segments in self._segments.items()}
            listed = manifests.listed_now(plan, runs)
            if not manifests.started(plan, listed, runs, self._complete(tx, job)):
                return None
            names = manifests.shown(plan, listed)
            if not self._read_codecs(storage, tx, job, names):
                return None
            return self._text(
                MASTER,
                (listed,),
                lambda: write_multivariant(manifests.growing_master(plan, listed, self._codecs)),
            )

    def media(self, tx: Tx, job: PlayedJob, name: str) -> bytes | None:
        """A rendition's `growing.m3u8` now; None: there is nothing of it, or it is not shown before
        the end."""
        plan = self.plan
        if name not in manifests.growing_names(plan):
            return None
        with self._lock:
            self._read(tx, job)
            segments = self._segments[name]
            if not segments:
                return None
            # Where the job failed nothing more comes: who watches has what there is.
            ended = job.state == "failed" or self._stands(self._complete(tx, job))
            return self._text(
                name,
                (len(segments), ended),
                lambda: manifests.growing_media(plan, name, segments, ended=ended),
            )

    def _read(self, tx: Tx, job: PlayedJob) -> None:
        have = {name: len(segments) for name, segments in self._segments.items()}
        for row in rows.segments_from(tx, job.id, have):
            known = self._segments[row.rendition]
            if row.number == len(known):  # else there is a hole before it
                # Keys are for I-frame playlists, which a growing film has none of: half the time
                # and most of the memory of a long one.
                known.append(Segment(**{**row.facts, "keys": ()}))

    def _stands(self, complete: set[str]) -> bool:
        """Whether everybody may know by now that all is complete: see `ENDS_AFTER_S`."""
        if not complete.issuperset(manifests.growing_names(self.plan)):
            return False
        if self._stands_since is None:
            self._stands_since = time.monotonic()
        return time.monotonic() - self._stands_since >= manifests.ENDS_AFTER_S

    def _complete(self, tx: Tx, job: PlayedJob) -> set[str]:
        """The renditions of which nothing further will come."""
        whole = self.plan.timeline.segments
        complete = {r.name for r in self.plan.listed if len(self._segments[r.name]) == whole}
        sound = self.plan.sound
        if sound is not None:
            # How many segments sound gives is known when its step ends, not before.
            self._sound_done = self._sound_done or _done(tx, job, "audio") is not None
            if self._sound_done:
                complete.add(sound.name)
        return complete

    def _read_codecs(self, storage: Storage, tx: Tx, job: PlayedJob, names: Iterable[str]) -> bool:
        for name in names:
            if name not in self._codecs:
                init = rows.find_segment(tx, job.id, name, INIT)
                if init is None:
                    return False
                try:
                    data = b"".join(storage.read(init.storage_key))
                except Missing:  # the job ends just now
                    return False
                self._codecs[name] = read_init(data).codec
        return True

    def _text(self, name: str, state: tuple[object, ...], write: Callable[[], str]) -> bytes:
        kept = self._texts.get(name)
        if kept is None or kept[0] != state:
            kept = self._texts[name] = (state, write().encode())
        return kept[1]


_layouts: _Recent[Layout] = _Recent(PLANS_KEPT)
_growing: _Recent[Grown] = _Recent(GROWING_KEPT)


# --- the bytes behind a URL ---------------------------------------------------------------------


def find_media(
    services: Services, asset_id: str, job_id: str, path: str, token: str | None
) -> Text | Kept:
    """What `path` of a job is now. An object may be gone by the time it is read (`Missing`), if its
    job ends just then: ask again.

    Raises `NotFound` (`asset_unknown`, `media_unknown`, `not_playable_yet`), `Forbidden`
    (`link_expired`).
    """
    with services.database.read() as tx:
        _by_url(services, tx, asset_id, token)
        job = rows.find_job(tx, asset_id, job_id)
        name = None if job is None else _layout(tx, job).find(path)
        if job is None or name is None:
            raise _no_media()
        if job.files is not None:
            return _finished(job.files, path, name)
        if job.state == "cancelled":
            raise _no_media()
        try:
            return _running(services.storage, tx, job, path, name)
        except NotFound:
            # It may have ended between two statements, and its segments' rows with it.
            job = rows.find_job(tx, asset_id, job_id)
            if job is None or job.files is None:
                raise
            return _finished(job.files, path, name)


def _finished(prefix: str, path: str, name: Name) -> Kept:
    keeping: Keeping = "fixed"
    if name.kind in ("master", "growing"):
        keeping = "changes"  # it had another content while the job ran
    elif name.kind == "text":
        keeping = "hour"
    small = name.kind in ("master", "growing", "text")
    return Kept(f"{prefix}/{path}", name.content_type, keeping, small)


def _running(storage: Storage, tx: Tx, job: PlayedJob, path: str, name: Name) -> Text | Kept:
    text: bytes | None
    if name.kind == "master":
        text = _grown(tx, job).master(storage, tx, job)
    elif name.kind == "growing":
        text = _grown(tx, job).media(tx, job, name.rendition)
    elif name.kind in ("init", "segment"):
        row = rows.find_segment(tx, job.id, name.rendition, name.number)
        if row is None:
            raise _not_yet()
        keeping: Keeping = "changes" if _grown(tx, job).replaceable else "fixed"
        return Kept(row.storage_key, name.content_type, keeping)
    elif name.kind == "poster":
        prefix = _done(tx, job, "poster")
        if prefix is None:
            raise _not_yet()
        return Kept(f"{prefix}/{path}", name.content_type, "changes")
    else:
        text = None
    if text is None:
        raise _not_yet()
    return Text(text, name.content_type, "changes")


def _no_media() -> NotFound:
    return NotFound("this job has nothing under that name", code="media_unknown")


def _not_yet() -> NotFound:
    return NotFound("this is not playable yet: ask again soon", code="not_playable_yet")
