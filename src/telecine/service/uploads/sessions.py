"""Upload sessions: open, list, end; and who may send bytes to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from telecine.service import orders
from telecine.service.db import uploads as db
from telecine.service.db.connection import Tx
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import (
    Conflict,
    Invalid,
    NotFound,
    ServiceError,
    TooLarge,
    UploadState,
    new_id,
)
from telecine.service.orders import Order
from telecine.service.services import Services
from telecine.service.storage.store import Storage
from telecine.service.uploads.words import check_digest, clean_name, clean_title, clean_type

MIB = 1 << 20
SMALLEST_PART_BYTES = 8 * MIB
MOST_PARTS = 1000

# Rows of sessions that came to nothing are kept so long, for who asks what became of them.
ENDED_TTL_S = 7 * 24 * 3600.0
COLLECTED_AT_ONCE = 100

Door = Literal["", "tus", "parts", "post", "form"]


class Gone(ServiceError):
    """There was such an upload."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client says when it opens a session. `size_bytes` None: it will be known later."""

    filename: str
    size_bytes: int | None
    content_type: str = ""
    sha256: str | None = None
    title: str = ""
    on_complete: Order | None = None
    tus_metadata: str | None = None


def create(services: Services, user_id: str, opening: Opening, *, door: Door = "") -> UploadRow:
    """Open a session. Raises `TooLarge` (`upload_too_large`), `Invalid` (`sha256_invalid`,
    `upload_empty`)."""
    sha256 = check_digest(opening.sha256)
    if opening.size_bytes == 0:
        raise Invalid("an upload of 0 bytes", code="upload_empty")
    with services.database.write() as tx:
        limit = db.user_limit(tx, user_id) or services.settings.max_upload_bytes
        if opening.size_bytes is not None and opening.size_bytes > limit:
            raise too_large(limit)
        upload_id = new_id()
        new = db.NewUpload(
            id=upload_id,
            user_id=user_id,
            door=door,
            filename=clean_name(opening.filename),
            content_type=clean_type(opening.content_type),
            size_bytes=opening.size_bytes,
            part_size_bytes=None if opening.size_bytes is None else part_size(opening.size_bytes),
            max_bytes=limit,
            sha256=sha256,
            on_complete=None
            if opening.on_complete is None
            else orders.write_order(opening.on_complete),
            title=clean_title(opening.title),
            tus_metadata=opening.tus_metadata,
            storage_key=upload_id,
        )
        db.add_upload(tx, new, ttl_s=services.settings.upload_ttl_s)
        made = find(tx, upload_id)
    # Row first: a file without an open row is what the collector removes.
    services.storage.begin(upload_id)
    return made


def limit_of(services: Services, user_id: str) -> int:
    """Bytes that one upload of this user may have."""
    with services.database.read() as tx:
        return db.user_limit(tx, user_id) or services.settings.max_upload_bytes


def read(services: Services, user_id: str, upload_id: str) -> UploadRow:
    """Raises `NotFound` (`upload_unknown`)."""
    with services.database.read() as tx:
        return owned(tx, user_id, upload_id)


def page(
    services: Services, user_id: str, *, state: UploadState | None, after: str | None, limit: int
) -> list[UploadRow]:
    """The newest first; one more than `limit` where more follow."""
    with services.database.read() as tx:
        return db.list_uploads(tx, user_id, state=state, after=after, limit=limit + 1)


def part_size(size_bytes: int) -> int:
    """At least 8 MiB, whole MiB, and at most a thousand of them."""
    least = -(-size_bytes // MOST_PARTS)
    return max(SMALLEST_PART_BYTES, -(-least // MIB) * MIB)


def part_count(upload: UploadRow) -> int | None:
    if upload.size_bytes is None or upload.part_size_bytes is None:
        return None
    return -(-upload.size_bytes // upload.part_size_bytes)


def take_door(tx: Tx, upload: UploadRow, door: Door, **values: Any) -> None:
    """The upload's bytes come by this door from now on. Raises `Gone`, `Conflict`
    (`upload_other_door`, `upload_completing`)."""
    if upload.state != "open":
        raise gone()
    if upload.asset_id is not None:
        raise Conflict("the upload is being completed", code="upload_completing")
    if upload.door not in ("", door):
        raise Conflict(
            f"bytes of this upload have come by another door: {upload.door}",
            code="upload_other_door",
        )
    if not db.change_open(tx, upload.id, door=door, **values):
        raise gone()


# --- one session ----------------------------------------------------------------------------------


def find(tx: Tx, upload_id: str) -> UploadRow:
    upload = db.find_upload(tx, upload_id)
    if upload is None:
        raise NotFound("no such upload", code="upload_unknown")
    return upload


def owned(tx: Tx, user_id: str, upload_id: str) -> UploadRow:
    upload = find(tx, upload_id)
    if upload.user_id != user_id:
        raise NotFound("no such upload", code="upload_unknown")
    return upload


def gone() -> Gone:
    return Gone("this upload has ended", code="upload_gone")


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"an upload has at most {limit} bytes", code="upload_too_large", max_bytes=limit
    )


# --- ends -----------------------------------------------------------------------------------------


def cancel(services: Services, user_id: str, upload_id: str) -> None:
    """End an unfinished upload and remove its bytes; one that has ended stays as it is. Raises
    `NotFound`, `Conflict` (`upload_finished`)."""
    with services.database.write() as tx:
        upload = owned(tx, user_id, upload_id)
        if upload.state == "finished":
            raise Conflict(
                "the upload is finished: delete its asset",
                code="upload_finished",
                asset_id=upload.asset_id,
            )
        ended = _end(tx, upload, "cancelled")
    if ended:
        remove_bytes(services.storage, upload)


def collect_expired(services: Services) -> int:
    """End open uploads whose time is over, and remove incoming files that belong to no open one:
    those of ended uploads, of deleted users, of crashes. Run now and then by any process; how many
    files and uploads went."""
    with services.database.write() as tx:
        late = db.expired(tx, COLLECTED_AT_ONCE)
        ended = [upload for upload in late if _end(tx, upload, "expired")]
        db.forget_ended(tx, ENDED_TTL_S)
    for upload in ended:
        remove_bytes(services.storage, upload)
    orphans = _orphans(services)
    for key in orphans:
        services.storage.abandon(key)
    return len(ended) + len(orphans)


def _orphans(services: Services) -> list[str]:
    keys = list(services.storage.incoming())
    found: list[str] = []
    for start in range(0, len(keys), COLLECTED_AT_ONCE):
        some = keys[start : start + COLLECTED_AT_ONCE]
        with services.database.read() as tx:
            alive = db.open_among(tx, some)
        found += [key for key in some if key not in alive]
    return found


def _end(tx: Tx, upload: UploadRow, state: UploadState) -> bool:
    ended = db.change_open(tx, upload.id, state=state)
    if ended and upload.asset_id is not None:
        db.throw_away(tx, upload.storage_key)  # should we die before it is removed below
    return ended


def remove_bytes(storage: Storage, upload: UploadRow) -> None:
    storage.abandon(upload.id)
    if upload.asset_id is not None:
        storage.delete(upload.storage_key)
