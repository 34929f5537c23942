"""Keys that sign URLs of pictures: rows without a secret."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import image_keys
from telecine.service.domain import new_id


@dataclass(frozen=True, slots=True)
class ImageKey:
    id: str
    name: str
    created_at: float


_KEY = (image_keys.c.id, image_keys.c.name, image_keys.c.created_at)


def add_image_key(tx: Tx, user_id: str, name: str) -> ImageKey:
    key_id = new_id()
    tx.connection.execute(
        sa.insert(image_keys).values(id=key_id, user_id=user_id, name=name, created_at=tx.now)
    )
    row = tx.connection.execute(sa.select(*_KEY).where(image_keys.c.id == key_id)).one()
    return ImageKey(*row)


def image_keys_page(tx: Tx, user_id: str, *, after: str | None, limit: int) -> list[ImageKey]:
    """A user's keys that are not revoked, the newest first."""
    query = sa.select(*_KEY).where(
        image_keys.c.user_id == user_id, image_keys.c.revoked_at.is_(None)
    )
    if after is not None:
        query = query.where(image_keys.c.id < after)
    rows = tx.connection.execute(query.order_by(image_keys.c.id.desc()).limit(limit))
    return [ImageKey(*row) for row in rows]


def revoke_image_key(tx: Tx, user_id: str, key_id: str) -> bool:
    """Whether there was such a key of this user that was not revoked."""
    changed = tx.connection.execute(
        sa.update(image_keys)
        .where(
            image_keys.c.id == key_id,
            image_keys.c.user_id == user_id,
            image_keys.c.revoked_at.is_(None),
        )
        .values(revoked_at=tx.now)
    )
    return changed.rowcount == 1
