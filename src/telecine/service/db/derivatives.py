"""Pictures that were made for a URL: found in one read, noted, used, forgotten.

A derivative is named by what it was made of and how, so that two assets of the same bytes share it.
It stays as long as all of its assets do: whichever is deleted takes it along, since it is made anew
in a moment for the other, and what somebody deleted is to be on no disk because of another row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from telecine.service.db.connection import Tx
from telecine.service.db.tables import assets, derivative_uses, derivatives, image_keys, users

TOUCH_S = 3600.0  # when one was last used is written at most so often
MOST_EVICTED = 1000  # in one transaction
NEW_S = 60.0  # so long nobody evicts what was noted
_AT_ONCE = 500  # names in one statement


@dataclass(frozen=True, slots=True)
class Derivative:
    """`digest` names what it was made of and how, `sha256` its bytes."""

    digest: str
    storage_key: str
    content_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An asset as the source of a derivative. `image` is the engine's ImageInfo as plain JSON."""

    id: str
    kind: str
    source_key: str | None
    sha256: str | None
    image: Any


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands behind a signed URL. `source` is null where the key's user has no such asset;
    `stale`: that the derivative is used has to be noted again."""

    now_s: float
    user_id: str
    source: Picture | None
    derivative: Derivative | None
    stale: bool


_COLUMNS = (
    derivatives.c.digest,
    derivatives.c.storage_key,
    derivatives.c.content_type,
    derivatives.c.size_bytes,
    derivatives.c.sha256,
)
_NAMES = tuple(column.name for column in _COLUMNS)
# These are asked for nearly every picture, and are made once: to make one takes as long as to ask.
_FIND = sa.select(*_COLUMNS).where(derivatives.c.digest == sa.bindparam("digest"))
_SOURCE = (
    assets.c.id,
    assets.c.kind,
    assets.c.source_key,
    assets.c.source_sha256,
    assets.c.image,
)
_PICTURES = sa.select(*_SOURCE).where(
    assets.c.id.in_(sa.bindparam("assets", expanding=True)),
    assets.c.user_id == sa.bindparam("user"),
)
_STAY = (  # until this is committed
    sa.select(assets.c.id)
    .where(assets.c.id.in_(sa.bindparam("assets", expanding=True)))
    .with_for_update(read=True, key_share=True)
)
# One statement, its rows by three primary keys and a unique pair. A key that is revoked, or whose
# user is disabled, finds nothing.
_LOOK = (
    sa.select(image_keys.c.user_id, derivatives.c.used_at, *_SOURCE, *_COLUMNS)
    .select_from(
        image_keys.join(users, users.c.id == image_keys.c.user_id)
        .outerjoin(
            assets,
            sa.and_(assets.c.id == sa.bindparam("asset"), assets.c.user_id == users.c.id),
        )
        .outerjoin(
            derivative_uses,
            sa.and_(
                derivative_uses.c.asset_id == assets.c.id,
                derivative_uses.c.request == sa.bindparam("request"),
            ),
        )
        .outerjoin(derivatives, derivatives.c.digest == derivative_uses.c.digest)
    )
    .where(
        image_keys.c.id == sa.bindparam("key"),
        image_keys.c.revoked_at.is_(None),
        users.c.disabled.is_(sa.false()),
    )
)


@lru_cache(maxsize=8)
def _look(now: sa.ColumnElement[float]) -> sa.Select[Any]:
    """The statement, made once a database."""
    return _LOOK.add_columns(now)


@lru_cache(maxsize=8)
def _noting(of_sqlite: bool, now: sa.ColumnElement[float]) -> tuple[sa.Insert, sa.Insert]:
    """The statements, made once a database, that note a derivative, or that it was made anew, and
    what asks for it, unless that is noted."""
    insert = sqlite.insert if of_sqlite else postgresql.insert
    noted = insert(derivatives).values(
        **{name: sa.bindparam(name) for name in _NAMES}, created_at=now, used_at=now
    )
    anew = {name: noted.excluded[name] for name in (*_NAMES, "used_at") if name != "digest"}
    return (
        noted.on_conflict_do_update(index_elements=["digest"], set_=anew),
        insert(derivative_uses).on_conflict_do_nothing(),
    )


def look(tx: Tx, key_id: str, asset_id: str, request: str) -> Looked | None:
    """What a key reaches; None: the key is revoked, or rests with its user."""
    row = tx.connection.execute(
        _look(tx.now), {"key": key_id, "asset": asset_id, "request": request}
    ).one_or_none()
    if row is None:
        return None
    user_id, used_at, *columns, now_s = row
    of_source = columns[: len(_SOURCE)]
    source = None if of_source[0] is None else Picture(*of_source)
    found = None if used_at is None else Derivative(*columns[len(_SOURCE) :])
    stale = used_at is not None and now_s - used_at >= TOUCH_S
    return Looked(float(now_s), user_id, source, found, stale)


def pictures_of(tx: Tx, user_id: str, asset_ids: Iterable[str]) -> dict[str, Picture]:
    """Those of these assets that are this user's, by id."""
    rows = tx.connection.execute(_PICTURES, {"assets": list(asset_ids), "user": user_id})
    return {row[0]: Picture(*row) for row in rows}


def find(tx: Tx, digest: str) -> Derivative | None:
    found = tx.connection.execute(_FIND, {"digest": digest}).one_or_none()
    return None if found is None else Derivative(*found)


def note(tx: Tx, made: Derivative, uses: Mapping[str, str]) -> bool:
    """Note a derivative, which is stored or about to be, and what asks for it (asset → request). A
    row that is there already gets what this one says: it was made anew. False: one of these assets
    is gone, and nothing was noted."""
    there = tx.connection.execute(_STAY, {"assets": list(uses)}).all()
    if len(there) < len(uses):
        return False
    noted, used = _noting(tx.sqlite, tx.now)
    tx.connection.execute(noted, {name: getattr(made, name) for name in _NAMES})
    tx.connection.execute(
        used,
        [
            {"asset_id": asset_id, "request": request, "digest": made.digest}
            for asset_id, request in sorted(uses.items())  # in one order: nobody waits in a ring
        ],
    )
    return True


def touch(tx: Tx, digest: str) -> None:
    """Note that it is used."""
    tx.connection.execute(
        sa.update(derivatives).where(derivatives.c.digest == digest).values(used_at=tx.now)
    )


def remove_of_asset(tx: Tx, asset_id: str) -> list[str]:
    """Remove everything that was made of an asset or with it; the storage keys, which nobody needs
    any more."""
    rows = tx.connection.execute(
        sa.select(derivatives.c.digest, derivatives.c.storage_key)
        .join(derivative_uses, derivative_uses.c.digest == derivatives.c.digest)
        .where(derivative_uses.c.asset_id == asset_id)
        .distinct()
    ).all()
    return _remove(tx, rows)


def total_bytes(tx: Tx) -> int:
    """The size of all derivatives together."""
    total = sa.select(sa.func.coalesce(sa.func.sum(derivatives.c.size_bytes), 0))
    return int(tx.connection.execute(total).scalar_one())


def evict(tx: Tx, most_bytes: int) -> list[str]:
    """Remove those that were not used for longest until the rest has at most so many bytes; the
    storage keys, which nobody needs any more. A thousand at once: the next time goes on. The
    newest stay, whatever the bound: they may not be stored yet."""
    over = total_bytes(tx) - most_bytes
    oldest = tx.connection.execute(
        sa.select(derivatives.c.digest, derivatives.c.storage_key, derivatives.c.size_bytes)
        .where(derivatives.c.used_at <= tx.now_s() - NEW_S)
        .order_by(derivatives.c.used_at, derivatives.c.digest)
        .limit(MOST_EVICTED)
    )
    gone = []
    for digest, key, size_bytes in oldest:
        if over <= 0:
            break
        gone.append((digest, key))
        over -= size_bytes
    return _remove(tx, gone)


def _remove(tx: Tx, rows: Sequence[Any]) -> list[str]:
    for start in range(0, len(rows), _AT_ONCE):
        digests = [digest for digest, _ in rows[start : start + _AT_ONCE]]
        tx.connection.execute(sa.delete(derivatives).where(derivatives.c.digest.in_(digests)))
    return [key for _, key in rows]
