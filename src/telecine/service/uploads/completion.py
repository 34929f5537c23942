"""Completion: of an upload whose bytes are all there an asset, and the job that it carries.

What the file is, its first bytes say, and then who knows such files: a picture is inspected, all
else probed. An animation is both: a picture of several frames, and a film.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telecine.engine.errors import InputRefused, MediaError
from telecine.engine.formats.containers import LONGEST_JPEG, is_motion_jpeg
from telecine.engine.images.formats import FORMATS
from telecine.engine.images.sniff import HEAD_BYTES, sniff
from telecine.engine.images.transform import inspect
from telecine.engine.media import MediaInfo
from telecine.engine.probe import probe
from telecine.engine.report import describe
from telecine.engine.serial import to_plain
from telecine.engine.steps.subtitling import probe_side_car
from telecine.service import orders
from telecine.service.beside import plan_wish
from telecine.service.db import queue
from telecine.service.db import uploads as db
from telecine.service.db.connection import Tx
from telecine.service.db.uploads import UploadRow
from telecine.service.dispatch.bell import EVENTS, TASKS
from telecine.service.domain import (
    AssetKind,
    Conflict,
    Invalid,
    ServiceError,
    Unavailable,
    new_id,
)
from telecine.service.image_plans import describe_image, is_animated
from telecine.service.services import Services
from telecine.service.storage.store import Busy, Missing, as_file
from telecine.service.uploads.sessions import (
    MOST_PARTS,
    find,
    gone,
    owned,
    part_count,
    remove_bytes,
)
from telecine.service.uploads.words import title_of

# An upload that is being completed does not expire meanwhile.
COMPLETION_S = 3600.0


def finish(services: Services, user_id: str, upload_id: str) -> UploadRow:
    """Make an asset of an upload whose bytes are all there, and its job where it carries one. May
    run twice, also after a crash at any point: there is one asset. What cannot be planned as its
    `on_complete` wants leaves the asset without a job, and the upload says why (`error`).

    Raises `NotFound`, `Gone`, `Conflict` (`upload_incomplete`, `upload_busy`), the engine's
    `InputRefused` for what is no media or a picture beyond the limits, `Invalid`
    (`digest_mismatch`), `Unavailable` (`upload_unreadable`: a passing trouble of ours, after which
    all is as before).
    """
    # The asset's id and the object's key stand in the row before the object is there.
    with services.database.write() as tx:
        upload = _choose_asset(tx, owned(tx, user_id, upload_id))
        uploaded_at = tx.now_s()
    if upload.state != "open":
        return _ended(upload)
    assert upload.size_bytes is not None  # `_choose_asset` has counted them
    try:
        services.storage.finish(upload.id, upload.storage_key, upload.size_bytes)
        found = _look_into(services, upload)
    except Busy:
        raise Conflict("bytes are still being sent", code="upload_busy") from None
    except _WrongDigest as error:
        return _ended(_refuse(services, upload, "digest_mismatch", str(error)))
    except MediaError as error:
        if _for_good(error):
            return _ended(_refuse(services, upload, error.code, error.message))
        return _unreadable(services, upload, error)
    except Missing as error:
        return _unreadable(services, upload, error)
    with services.database.write() as tx:
        now = db.find_upload(tx, upload_id)
        if now is not None and now.state == "open":
            _add_asset_and_job(services, tx, now, found, uploaded_at)
            now = find(tx, upload_id)
    if now is None or now.state in ("cancelled", "expired"):
        # Ended while we looked, or its user has gone: nobody else knows of the object.
        remove_bytes(services.storage, upload)
        raise gone()
    upload = now
    if upload.job_id is not None:
        services.bell.ring(TASKS)
        services.bell.ring(EVENTS)
    return _ended(upload)


def _choose_asset(tx: Tx, upload: UploadRow) -> UploadRow:
    """The upload with an asset's id and an object's key, if all its bytes have come."""
    if upload.state != "open" or upload.asset_id is not None:
        return upload
    _check_complete(tx, upload)
    asset_id = new_id()
    db.change_open(
        tx,
        upload.id,
        expires_at=max(upload.expires_at, tx.now_s() + COMPLETION_S),
        asset_id=asset_id,
        storage_key=f"assets/{asset_id}/source",
    )
    return find(tx, upload.id)


def _check_complete(tx: Tx, upload: UploadRow) -> None:
    """Raises `Conflict` (`upload_incomplete`), which names some of what is missing."""
    if upload.door == "parts":
        there = db.part_sizes(tx, upload.id)
        missing = [n for n in range(1, (part_count(upload) or 0) + 1) if n not in there]
        if missing:
            raise Conflict(
                f"{len(missing)} parts are missing, the first is {missing[0]}",
                code="upload_incomplete",
                missing_parts=missing[:MOST_PARTS],
            )
    elif upload.size_bytes is None or upload.offset_bytes != upload.size_bytes:
        size = "an unknown number of" if upload.size_bytes is None else upload.size_bytes
        raise Conflict(
            f"{upload.offset_bytes} of {size} bytes are there",
            code="upload_incomplete",
            offset_bytes=upload.offset_bytes,
        )


# What the workers for pictures say of one that took too much, or killed two of them.
_TOO_MUCH = ("image_limit", "image_worker_died")


def _for_good(error: MediaError) -> bool:
    """Whether it is the file's own fault. That a file of ours is not there, or cannot be opened, is
    not, nor that the machine was too busy to look into it in time."""
    if error.code in _TOO_MUCH:
        return True
    own = isinstance(error, InputRefused) and error.code != "source_missing"
    return own and not error.retryable


def _unreadable(services: Services, upload: UploadRow, cause: Exception) -> UploadRow:
    """What has become of an upload whose file cannot be read. Raises as `_ended`, and `Unavailable`
    where it is as open as before."""
    with services.database.read() as tx:
        now = db.find_upload(tx, upload.id)
    if now is None:
        raise gone()
    if now.state == "open":
        raise Unavailable(
            "the file cannot be read just now: complete the upload again", code="upload_unreadable"
        ) from cause
    return _ended(now)


class _WrongDigest(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Found:
    """What an upload turned out to be: the file, its SHA-256 where it was made, and the job that it
    carries, or why there can be none."""

    source: orders.Found
    sha256: str | None
    job: queue.NewJob | None
    error: dict[str, Any] | None


def _look_into(services: Services, upload: UploadRow) -> _Found:
    """Look and plan; and make the SHA-256 of a picture, and where the client said one and no job
    waits to play. With a job of a film the digest is a task of it, which fails when it is wrong."""
    with as_file(services.storage, upload.storage_key) as path:
        source = _identify(services, path, upload.user_id)
        sha256 = None if source.image is None else _digest(path, upload)
        job, error = _plan_job(services, upload, source, sha256)
        if sha256 is None and upload.sha256 is not None and job is None:
            sha256 = _digest(path, upload)
    return _Found(source, sha256, job, error)


def _digest(path: Path, upload: UploadRow) -> str:
    """The file's SHA-256. Raises `_WrongDigest`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if upload.sha256 not in (None, sha256):
        raise _WrongDigest(f"the file's SHA-256 is {sha256}, not {upload.sha256}")
    return sha256


def _identify(services: Services, path: Path, user_id: str) -> orders.Found:
    """What a file is. Raises `InputRefused`, for a picture that moves what its inspection said."""
    format = _format(path)
    if format is None:
        return _film_or_subtitles(services, path)
    try:
        image = inspect(services.images, path, tenant=user_id)
    except MediaError as refused:
        # An animation that is too long for a picture is a film like any other.
        if not FORMATS[format].animated or not _for_good(refused):
            raise
        media = _moving(services, path)
        if media is None:
            raise
        return orders.Found(media=media, image=None)
    return orders.Found(_moving(services, path) if is_animated(image) else None, image)


def _film_or_subtitles(services: Services, path: Path) -> orders.Found:
    try:
        return orders.Found(media=probe(path, services.tools), image=None)
    except InputRefused as refused:
        if refused.code not in ("not_media", "format_refused"):
            raise
        try:
            probe_side_car(path, services.tools)
        except InputRefused as neither:
            raise refused if _for_good(neither) else neither from None
        return orders.Found(media=None, image=None, is_subtitles=True)


def _format(path: Path) -> str | None:
    """The format of a picture; None of all else."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        format = sniff(head)
        if format == "jpeg" and len(head) == HEAD_BYTES:
            head += file.read(LONGEST_JPEG - HEAD_BYTES)
            return None if is_motion_jpeg(head) else format
    return format


def _moving(services: Services, path: Path) -> MediaInfo | None:
    """An animation as a film; None where FFmpeg does not take it for one."""
    try:
        return probe(path, services.tools)
    except InputRefused as refused:
        if not _for_good(refused):
            raise
        return None


def _add_asset_and_job(
    services: Services,
    tx: Tx,
    upload: UploadRow,
    found: _Found,
    uploaded_at: float,
) -> None:
    assert upload.asset_id is not None
    assert upload.size_bytes is not None
    source, job = found.source, found.job
    db.add_asset(
        tx,
        db.NewAsset(
            id=upload.asset_id,
            user_id=upload.user_id,
            processing=job is not None,
            kind=_kind(source),
            title=upload.title or title_of(upload.filename),
            filename=upload.filename,
            content_type=_content_type(upload.content_type, source),
            source_key=upload.storage_key,
            source_size_bytes=upload.size_bytes,
            source_sha256=found.sha256,
            media=None if source.media is None else to_plain(source.media),
            image=None if source.image is None else to_plain(source.image),
            summary=_summary(source),
            duration_s=_duration_s(source),
            uploaded_at=uploaded_at,
        ),
    )
    if job is not None:
        queue.submit(tx, job, max_running_jobs=services.settings.max_running_jobs)
    db.change_open(
        tx,
        upload.id,
        state="finished",
        offset_bytes=upload.size_bytes,
        job_id=None if job is None else job.id,
        error=found.error,
    )


def _kind(source: orders.Found) -> AssetKind:
    if source.image is not None:
        return "image"
    if source.is_subtitles:
        return "subtitles"
    return "video" if source.media is not None and source.media.video else "audio"


# What is a film where it is too long for a picture.
_MOVING_TYPES = frozenset(one.content_type for one in FORMATS.values() if one.animated)


def _content_type(told: str, source: orders.Found) -> str:
    """A picture's own type; of all else what the client called it, unless that is a picture."""
    if source.image is not None:
        return source.image.content_type
    pictures = told.startswith("image/") and told not in _MOVING_TYPES
    return "application/octet-stream" if pictures else told


def _summary(source: orders.Found) -> tuple[str, ...]:
    if source.image is not None:
        return describe_image(source.image)
    return () if source.media is None else describe(source.media)


def _duration_s(source: orders.Found) -> float | None:
    if source.image is not None and source.image.duration_s is not None:
        return source.image.duration_s
    return None if source.media is None else float(source.media.duration_s)


def _plan_job(
    services: Services, upload: UploadRow, source: orders.Found, sha256: str | None
) -> tuple[queue.NewJob | None, dict[str, Any] | None]:
    """The job that the upload carries; or why there can be none."""
    if upload.on_complete is None or upload.asset_id is None:
        return None, None
    try:
        order = orders.read_order(upload.on_complete)
        plan = plan_wish(services, upload.user_id, order, source)
    except (MediaError, ServiceError) as error:
        return None, {"code": error.code, "message": error.message}
    job = orders.new_job(
        order,
        plan,
        job_id=new_id(),
        user_id=upload.user_id,
        asset_id=upload.asset_id,
        digest=orders.choose_digest(sha256, upload.sha256),
    )
    return job, None


def _refuse(services: Services, upload: UploadRow, code: str, message: str) -> UploadRow:
    with services.database.write() as tx:
        if db.change_open(tx, upload.id, state="refused", error={"code": code, "message": message}):
            db.throw_away(tx, upload.storage_key)
        ended = find(tx, upload.id)
    if ended.state == "refused":
        remove_bytes(services.storage, upload)
    return ended


def _ended(upload: UploadRow) -> UploadRow:
    """A finished upload. Raises `Gone`; a refused one's error again."""
    if upload.state == "finished":
        return upload
    if upload.state == "refused" and upload.error is not None:
        if upload.error["code"] == "digest_mismatch":
            raise Invalid(upload.error["message"], code="digest_mismatch")
        raise InputRefused(upload.error["message"], code=upload.error["code"])
    raise gone()
