"""Uploads: sessions, their parts, and what finishing one makes. Who changes a session says in the
same statement that it is still open: the answer is whether it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import assets, garbage, upload_parts, uploads, users
from telecine.service.domain import AssetKind, UploadState, new_id


@dataclass(frozen=True, slots=True)
class UploadRow:
    """A session as it is kept. `storage_key`: of the incoming file; from completion on, of the
    object that it becomes. `asset_id` is chosen then, before there is an asset."""

    id: str
    user_id: str
    state: UploadState
    door: str
    filename: str
    content_type: str
    size_bytes: int | None
    offset_bytes: int
    part_size_bytes: int | None
    max_bytes: int
    sha256: str | None
    on_complete: dict[str, Any] | None
    title: str
    tus_metadata: str | None
    storage_key: str
    asset_id: str | None
    job_id: str | None
    error: dict[str, Any] | None
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What opens a session."""

    id: str
    user_id: str
    door: str
    filename: str
    content_type: str
    size_bytes: int | None
    part_size_bytes: int | None
    max_bytes: int
    sha256: str | None
    on_complete: dict[str, Any] | None
    title: str
    tus_metadata: str | None
    storage_key: str


@dataclass(frozen=True, slots=True)
class NewAsset:
    """What a finished upload becomes."""

    id: str
    user_id: str
    processing: bool  # a job begins with it
    kind: AssetKind
    title: str
    filename: str
    content_type: str
    source_key: str
    source_size_bytes: int
    source_sha256: str | None
    media: Any
    image: Any
    summary: Sequence[str]
    duration_s: float | None
    uploaded_at: float


_COLUMNS = [uploads.c[field.name] for field in fields(UploadRow)]


def user_limit(tx: Tx, user_id: str) -> int | None:
    """The user's own `max_upload_bytes`; None: they have none of their own."""
    query = sa.select(users.c.max_upload_bytes).where(users.c.id == user_id)
    return tx.connection.execute(query).scalar_one_or_none()


def add_upload(tx: Tx, new: NewUpload, *, ttl_s: float) -> None:
    values: dict[str, Any] = {field.name: getattr(new, field.name) for field in fields(new)}
    tx.connection.execute(
        sa.insert(uploads).values(
            **values, state="open", created_at=tx.now, expires_at=tx.now + ttl_s
        )
    )


def find_upload(tx: Tx, upload_id: str) -> UploadRow | None:
    query = sa.select(*_COLUMNS).where(uploads.c.id == upload_id)
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else UploadRow(*row)


def list_uploads(
    tx: Tx, user_id: str, *, state: UploadState | None, after: str | None, limit: int
) -> list[UploadRow]:
    """A user's, the newest first, from behind the id `after` on."""
    query = sa.select(*_COLUMNS).where(uploads.c.user_id == user_id)
    if state is not None:
        query = query.where(uploads.c.state == state)
    if after is not None:
        query = query.where(uploads.c.id < after)
    query = query.order_by(uploads.c.id.desc()).limit(limit)
    return [UploadRow(*row) for row in tx.connection.execute(query)]


def change_open(tx: Tx, upload_id: str, *, ttl_s: float | None = None, **values: Any) -> bool:
    """Change columns of an open session; `ttl_s`: it lives so long from now on. Whether it was
    open."""
    if ttl_s is not None:
        values["expires_at"] = tx.now + ttl_s
    changed = tx.connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "open")
        .values(**values)
    )
    return changed.rowcount == 1


def put_part(tx: Tx, upload_id: str, number: int, *, size_bytes: int, etag: str) -> None:
    """A part has come, for the first time or again."""
    mine = (upload_parts.c.upload_id == upload_id, upload_parts.c.number == number)
    changed = tx.connection.execute(
        sa.update(upload_parts).where(*mine).values(size_bytes=size_bytes, etag=etag)
    )
    if changed.rowcount == 0:
        tx.connection.execute(
            sa.insert(upload_parts).values(
                upload_id=upload_id, number=number, size_bytes=size_bytes, etag=etag
            )
        )


def drop_part(tx: Tx, upload_id: str, number: int) -> None:
    tx.connection.execute(
        sa.delete(upload_parts).where(
            upload_parts.c.upload_id == upload_id, upload_parts.c.number == number
        )
    )


def part_sizes(tx: Tx, upload_id: str) -> dict[int, int]:
    """The parts that have come: number → bytes."""
    query = sa.select(upload_parts.c.number, upload_parts.c.size_bytes).where(
        upload_parts.c.upload_id == upload_id
    )
    return {row[0]: row[1] for row in tx.connection.execute(query)}


def add_asset(tx: Tx, new: NewAsset) -> None:
    tx.connection.execute(
        sa.insert(assets).values(
            id=new.id,
            user_id=new.user_id,
            state="processing" if new.processing else "uploaded",
            visibility="private",
            kind=new.kind,
            title=new.title,
            filename=new.filename,
            content_type=new.content_type,
            source_key=new.source_key,
            source_size_bytes=new.source_size_bytes,
            source_sha256=new.source_sha256,
            media=new.media,
            image=new.image,
            summary=list(new.summary),
            duration_s=new.duration_s,
            uploaded_at=new.uploaded_at,
            created_at=tx.now,
            updated_at=tx.now,
        )
    )


def expired(tx: Tx, limit: int) -> list[UploadRow]:
    """Open sessions whose time is over, oldest first."""
    query = (
        sa.select(*_COLUMNS)
        .where(uploads.c.state == "open", uploads.c.expires_at < tx.now)
        .order_by(uploads.c.expires_at)
        .limit(limit)
    )
    return [UploadRow(*row) for row in tx.connection.execute(query)]


def open_among(tx: Tx, upload_ids: Sequence[str]) -> frozenset[str]:
    """Those of these ids whose sessions are open."""
    query = sa.select(uploads.c.id).where(uploads.c.id.in_(upload_ids), uploads.c.state == "open")
    return frozenset(tx.connection.execute(query).scalars())


def forget_ended(tx: Tx, older_than_s: float) -> int:
    """Remove the rows of sessions that came to nothing and ran out so long ago; how many."""
    old = uploads.c.state.in_(("refused", "cancelled", "expired"))
    gone = tx.connection.execute(
        sa.delete(uploads).where(old, uploads.c.expires_at < tx.now - older_than_s)
    )
    return gone.rowcount


def throw_away(tx: Tx, key: str) -> None:
    """Leave an object to the collector."""
    tx.connection.execute(sa.insert(garbage).values(id=new_id(), prefix=key, not_before=tx.now))
