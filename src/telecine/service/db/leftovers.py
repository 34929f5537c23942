"""Which rows still know of what lies on disk: for the collector, and for the search for orphans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import (
    assets,
    attempts,
    derivatives,
    garbage,
    jobs,
    segments,
    tasks,
    uploads,
)
from telecine.service.domain import FINAL_JOB_STATES


@dataclass(frozen=True, slots=True)
class References:
    """Everything that rows say of the storage: keys of objects, prefixes (with a slash), and keys
    of incoming files."""

    keys: frozenset[str]
    prefixes: tuple[str, ...]
    incoming: frozenset[str]


def live_attempts(tx: Tx, task_ids: Iterable[str]) -> set[tuple[str, int]]:
    """Which of these tasks run, with the epoch of the claim that has them."""
    rows = tx.connection.execute(
        sa.select(tasks.c.id, tasks.c.epoch).where(
            tasks.c.id.in_(list(task_ids)), tasks.c.state == "running"
        )
    )
    return {(task_id, epoch) for task_id, epoch in rows}


def unfinished_jobs(tx: Tx, job_ids: Iterable[str]) -> set[str]:
    """Which of these jobs are there and have not ended."""
    return set(
        tx.connection.execute(
            sa.select(jobs.c.id).where(
                jobs.c.id.in_(list(job_ids)), jobs.c.state.not_in(FINAL_JOB_STATES)
            )
        ).scalars()
    )


def references(tx: Tx) -> References:
    """All of them: for an installation as small as a test's."""
    keys: set[str] = set()
    for column in (
        assets.c.source_key,
        assets.c.poster_key,
        segments.c.storage_key,
        derivatives.c.storage_key,
    ):
        keys.update(tx.connection.execute(sa.select(column).where(column.is_not(None))).scalars())
    prefixes: set[str] = set()
    for column in (jobs.c.prefix, tasks.c.prefix, attempts.c.prefix):
        found = tx.connection.execute(sa.select(column).where(column.is_not(None))).scalars()
        prefixes.update(f"{prefix}/" for prefix in found)
    for prefix in tx.connection.execute(sa.select(garbage.c.prefix)).scalars():
        (prefixes if prefix.endswith("/") else keys).add(prefix)
    incoming = tx.connection.execute(
        sa.select(uploads.c.id).where(uploads.c.state == "open")  # an incoming file's key
    ).scalars()
    return References(frozenset(keys), tuple(sorted(prefixes)), frozenset(incoming))
