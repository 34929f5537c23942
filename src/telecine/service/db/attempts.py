"""What attempts left in the storage, and what else has no row any more: the collector's lists.

Every claim records its prefix before the first byte is written, so that whatever a killed worker
left is found here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import attempts, garbage, jobs, segments
from telecine.service.db.tenants import serve
from telecine.service.domain import new_id

Outcome = Literal["succeeded", "failed", "lost", "cancelled", "released"]

# A worker that was paused may write after its prefix was deleted, so each is deleted twice.
AGAIN_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a task; what it wrote lies below `prefix`."""

    task_id: str
    epoch: int
    job_id: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """A key, or a prefix that ends with a slash, whose rows are gone."""

    id: str
    prefix: str


def end_attempt(tx: Tx, task_id: str, epoch: int, user_id: str, outcome: Outcome) -> None:
    """Note how an attempt ended, and count the time that it held a worker. What it wrote is needed
    where it succeeded, and as long as readers follow a segment of it."""
    this = sa.and_(attempts.c.task_id == task_id, attempts.c.epoch == epoch)
    held = sa.select(tx.now - attempts.c.claimed_at).where(this)
    held_s = tx.connection.execute(held).scalar_one()
    tx.connection.execute(sa.update(attempts).where(this).values(ended_at=tx.now, outcome=outcome))
    if outcome != "succeeded":
        followed = sa.exists().where(
            segments.c.job_id == attempts.c.job_id,
            segments.c.task_id == attempts.c.task_id,
            segments.c.epoch == attempts.c.epoch,
        )
        tx.connection.execute(sa.update(attempts).where(this, ~followed).values(unneeded_at=tx.now))
    serve(tx, user_id, held_s)


def unneed(tx: Tx, which: sa.ColumnElement[bool], *, kept: bool) -> None:
    """Leave to the collector what these jobs' attempts wrote, but (`kept`) the finished files."""
    of_jobs = sa.select(jobs.c.id).where(which)
    whole = sa.exists().where(jobs.c.id == attempts.c.job_id, jobs.c.prefix == attempts.c.prefix)
    changed = sa.update(attempts).where(
        attempts.c.job_id.in_(of_jobs),
        attempts.c.unneeded_at.is_(None),
        ~whole if kept else sa.true(),
    )
    tx.connection.execute(changed.values(unneeded_at=tx.now))


def collectable(
    tx: Tx, older_than_s: float, *, again_after_s: float = AGAIN_AFTER_S, limit: int = 500
) -> list[Attempt]:
    """Attempts whose bytes nobody needs, since so long ago. Each is listed twice: once more
    `again_after_s` after its first collection. What is kept costs nothing here."""
    now_s = tx.now_s()
    old = attempts.c.unneeded_at <= now_s - older_than_s
    found = (
        sa.select(attempts.c.task_id, attempts.c.epoch, attempts.c.job_id, attempts.c.prefix)
        .where(
            sa.or_(
                sa.and_(attempts.c.collected_at.is_(None), old),
                sa.and_(attempts.c.collected_at <= now_s - again_after_s, old),
            )
        )
        .order_by(attempts.c.claimed_at)
        .limit(limit)
    )
    return [Attempt(*row) for row in tx.connection.execute(found)]


def collected(tx: Tx, gone: Iterable[Attempt]) -> None:
    """Note that these attempts' bytes were deleted: the row goes with the second time."""
    for attempt in gone:
        this = sa.and_(attempts.c.task_id == attempt.task_id, attempts.c.epoch == attempt.epoch)
        second = sa.delete(attempts).where(this, attempts.c.collected_at.is_not(None))
        if tx.connection.execute(second).rowcount == 0:
            tx.connection.execute(sa.update(attempts).where(this).values(collected_at=tx.now))


def discard(tx: Tx, prefixes: Iterable[str], *, after_s: float = 0.0) -> None:
    """Have the collector delete these keys (or prefixes with a slash), not before `after_s`."""
    for prefix in prefixes:
        row = {"id": new_id(), "prefix": prefix, "not_before": tx.now + after_s}
        tx.connection.execute(sa.insert(garbage).values(row))


def discarded(tx: Tx, limit: int = 500) -> list[Garbage]:
    """What was discarded and is due."""
    due = sa.select(garbage.c.id, garbage.c.prefix).where(garbage.c.not_before <= tx.now)
    return [Garbage(*row) for row in tx.connection.execute(due.order_by(garbage.c.id).limit(limit))]


def removed(tx: Tx, gone: Iterable[Garbage]) -> None:
    """Note that these were deleted."""
    tx.connection.execute(sa.delete(garbage).where(garbage.c.id.in_([one.id for one in gone])))
