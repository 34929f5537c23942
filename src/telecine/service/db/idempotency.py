"""Idempotency keys: the first answer to a creating request, kept for 24 hours.

A row without a status is a request in flight. Its time is the claim: who finds that of a request
which died takes it over, and the older request can no longer commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from telecine.service.db.connection import Tx
from telecine.service.db.tables import idempotency as table

KEPT_S = 24 * 3600.0
# A claim is no more than patience with who holds it: a request that was only slow does not commit
# once another has taken its claim over. So whoever asks again after a crash need not wait long.
FREE_AFTER_S = 10.0
# What was committed is never done again, and that its answer is lost is the last word about it.
LOST_AFTER_S = 60.0

COMMITTED = 0  # a status: what was asked for is done, and nobody wrote down the answer


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out the request of this key."""

    owner: str
    key: str
    claimed_at: float


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier request of the same key. `status`: None until it is carried out, `COMMITTED` until
    its answer is written down."""

    request_hash: str
    status: int | None
    age_s: float
    headers: Mapping[str, str]
    body: bytes


def claim(tx: Tx, owner: str, key: str, request_hash: str) -> Claim | Earlier:
    """Claim a key for a request, or what stands there already."""
    now = tx.now_s()
    mine = {
        "request_hash": request_hash,
        "status": None,
        "headers": None,
        "body": None,
        "created_at": now,
    }
    try:
        with tx.connection.begin_nested():
            tx.connection.execute(sa.insert(table).values(user_id=owner, key=key, **mine))
        return Claim(owner, key, now)
    except IntegrityError:
        pass  # there is a row
    row = tx.connection.execute(
        sa.select(table).where(table.c.user_id == owner, table.c.key == key).with_for_update()
    ).one_or_none()
    if row is None:  # its request failed meanwhile, and the key is free again
        return claim(tx, owner, key, request_hash)
    age_s = now - row.created_at
    if age_s > KEPT_S or (row.status is None and age_s > FREE_AFTER_S):
        taken = Claim(owner, key, row.created_at)
        tx.connection.execute(sa.update(table).where(_of(taken)).values(**mine))
        return Claim(owner, key, now)
    return Earlier(row.request_hash, row.status, age_s, row.headers or {}, row.body or b"")


def commit(tx: Tx, claim: Claim) -> bool:
    """Note, in the transaction that carries the request out, that it is done. False: another
    request took the claim over; this one must not commit."""
    done = tx.connection.execute(sa.update(table).where(_of(claim)).values(status=COMMITTED))
    return done.rowcount == 1


def keep(tx: Tx, claim: Claim, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Keep the answer."""
    tx.connection.execute(
        sa.update(table).where(_of(claim)).values(status=status, headers=dict(headers), body=body)
    )


def forget(tx: Tx, claim: Claim) -> None:
    """The request failed: the key is free again, unless something was committed."""
    tx.connection.execute(sa.delete(table).where(_of(claim), table.c.status.is_(None)))


def purge(tx: Tx) -> int:
    """Delete what was kept long enough; how many rows."""
    old = table.c.created_at < tx.now - KEPT_S
    return tx.connection.execute(sa.delete(table).where(old)).rowcount


def _of(claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.user_id == claim.owner,
        table.c.key == claim.key,
        table.c.created_at == claim.claimed_at,
    )
