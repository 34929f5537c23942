"""What a job tells its listeners: events, numbered without holes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import events, jobs
from telecine.service.domain import NotFound


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a job. `at` is in seconds since 1970."""

    number: int
    type: str
    data: dict[str, Any]
    at: float


def tell(tx: Tx, job_id: str, type: str, data: Mapping[str, Any]) -> int:
    """Append an event; its number. Raises `NotFound` (`job_unknown`).

    The job's row stays locked until the transaction ends, so that numbers become visible in order
    and a listener who has heard `n` misses nothing below.
    """
    counted = sa.update(jobs).where(jobs.c.id == job_id).values(last_event=jobs.c.last_event + 1)
    if tx.connection.execute(counted).rowcount == 0:
        raise NotFound("no such job", code="job_unknown")
    number: int = tx.connection.execute(
        sa.select(jobs.c.last_event).where(jobs.c.id == job_id)
    ).scalar_one()
    row = {"job_id": job_id, "number": number, "type": type, "data": dict(data), "at": tx.now}
    tx.connection.execute(sa.insert(events).values(row))
    return number


def events_after(tx: Tx, job_id: str, number: int, limit: int = 500) -> list[EventRow]:
    """The job's events above `number`, in order, at most so many."""
    found = sa.select(events.c.number, events.c.type, events.c.data, events.c.at)
    found = found.where(events.c.job_id == job_id, events.c.number > number)
    rows = tx.connection.execute(found.order_by(events.c.number).limit(limit))
    return [EventRow(row.number, row.type, row.data, row.at) for row in rows]
