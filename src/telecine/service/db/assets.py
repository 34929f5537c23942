"""Assets: reads, edits, and what deleting one leaves for the collector."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from telecine.service.db import derivatives, queue
from telecine.service.db.connection import Tx
from telecine.service.db.tables import assets
from telecine.service.domain import AssetKind, AssetState, Visibility

# A worker that lost its task may write for a while yet: what it writes is collected once more.
LATE_WRITES_S = 3600.0


@dataclass(frozen=True, slots=True)
class AssetRow:
    """An asset without its probe result."""

    id: str
    user_id: str
    state: AssetState
    visibility: Visibility
    kind: AssetKind
    title: str
    description: str
    filename: str
    content_type: str
    source_key: str | None
    source_size_bytes: int
    source_sha256: str | None
    summary: Any
    duration_s: float | None
    job_id: str | None
    poster_key: str | None
    uploaded_at: float
    time_to_first_play_s: float | None
    created_at: float
    updated_at: float


_ASSET = [assets.c[field.name] for field in fields(AssetRow)]


def find_asset(tx: Tx, asset_id: str) -> AssetRow | None:
    row = tx.connection.execute(sa.select(*_ASSET).where(assets.c.id == asset_id)).one_or_none()
    return None if row is None else AssetRow(*row)


def find_media(tx: Tx, asset_id: str) -> Any:
    """The probe result as the engine wrote it; None where there is none."""
    return tx.connection.execute(
        sa.select(assets.c.media).where(assets.c.id == asset_id)
    ).scalar_one_or_none()


def find_image(tx: Tx, asset_id: str) -> Any:
    """What was found in a picture, as the engine wrote it; None where it is none."""
    return tx.connection.execute(
        sa.select(assets.c.image).where(assets.c.id == asset_id)
    ).scalar_one_or_none()


def picture_keys(tx: Tx, user_id: str, asset_ids: Collection[str]) -> dict[str, str]:
    """Of these assets those that are pictures of this user's and have their source: id → key."""
    rows = tx.connection.execute(
        sa.select(assets.c.id, assets.c.source_key).where(
            assets.c.id.in_(asset_ids),
            assets.c.user_id == user_id,
            assets.c.kind == "image",
            assets.c.source_key.is_not(None),
        )
    )
    return {row.id: row.source_key for row in rows}


def source_keys(tx: Tx, user_id: str, asset_ids: Collection[str]) -> dict[str, str]:
    """Of these assets those that are this user's and have their source: id → key."""
    rows = tx.connection.execute(
        sa.select(assets.c.id, assets.c.source_key).where(
            assets.c.id.in_(asset_ids),
            assets.c.user_id == user_id,
            assets.c.source_key.is_not(None),
        )
    )
    return {row.id: row.source_key for row in rows}


def list_assets(
    tx: Tx,
    *,
    user_id: str | None,
    visibility: Visibility | None,
    state: AssetState | None,
    kind: AssetKind | None = None,
    words: str | None,
    after: str | None,
    limit: int,
) -> list[AssetRow]:
    """Assets, newest first, older than `after`; `words` stand in title or description, in capitals
    or not. Of one user's also in the file name: among everybody's it would be read letter by letter
    by who may not see it."""
    query = sa.select(*_ASSET)
    if user_id is not None:
        query = query.where(assets.c.user_id == user_id)
    if visibility is not None:
        query = query.where(assets.c.visibility == visibility)
    if state is not None:
        query = query.where(assets.c.state == state)
    if kind is not None:
        query = query.where(assets.c.kind == kind)
    if after is not None:
        query = query.where(assets.c.id < after)
    if words:
        wanted = sa.func.lower(sa.literal(f"%{_escaped(words)}%"))
        searched = [assets.c.title, assets.c.description]
        if user_id is not None:
            searched.append(assets.c.filename)
        query = query.where(
            sa.or_(*(sa.func.lower(column).like(wanted, escape="\\") for column in searched))
        )
    rows = tx.connection.execute(query.order_by(assets.c.id.desc()).limit(limit))
    return [AssetRow(*row) for row in rows]


def _escaped(words: str) -> str:
    """Words as LIKE finds them, sign by sign."""
    for sign in ("\\", "%", "_"):
        words = words.replace(sign, "\\" + sign)
    return words


def update_asset(tx: Tx, asset_id: str, changes: Mapping[str, str]) -> None:
    tx.connection.execute(
        sa.update(assets).where(assets.c.id == asset_id).values(**changes, updated_at=tx.now)
    )


def delete_asset(tx: Tx, row: AssetRow) -> None:
    """Remove an asset with its jobs, and leave every key and prefix of theirs to the collector.
    What runs for it is fenced."""
    made = queue.close(tx, row.id)
    prefixes = [f"tasks/{job_id}/" for job_id in made]  # everything of a job, its outputs too
    pictures = derivatives.remove_of_asset(tx, row.id)
    queue.discard(tx, pictures)
    queue.discard(tx, pictures, after_s=LATE_WRITES_S)
    queue.discard(tx, [key for key in (row.source_key, row.poster_key) if key is not None])
    queue.discard(tx, prefixes)
    queue.discard(tx, prefixes, after_s=LATE_WRITES_S)
    tx.connection.execute(sa.delete(assets).where(assets.c.id == row.id))
