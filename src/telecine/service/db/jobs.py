"""Reads of jobs, their tasks and outputs. What changes a job is in `queue`.

No list reads a plan: it may be megabytes, and a page has a hundred jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import assets, jobs, outputs, tasks, uploads
from telecine.service.domain import JobState, SourcePolicy
from telecine.service.progress import TaskRow


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job without its plan."""

    id: str
    user_id: str
    asset_id: str
    state: JobState
    priority: int
    preset: str | None
    outputs: list[dict[str, Any]]
    metadata: dict[str, str]
    source_policy: SourcePolicy
    prefix: str | None
    last_event: int
    retries: int
    error: dict[str, Any] | None
    warnings: list[str] | None
    time_to_first_play_s: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class OutputRow:
    """A finished file of a job. `path` is inside the job's prefix."""

    id: str
    job_id: str
    asset_id: str
    kind: str
    path: str
    content_type: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any]


_JOB = [jobs.c[field.name] for field in fields(JobRow)]
_OUTPUT = [outputs.c[field.name] for field in fields(OutputRow)]


def find_job(tx: Tx, job_id: str, *, user_id: str | None = None) -> JobRow | None:
    """A job; with `user_id` only if it is theirs."""
    query = sa.select(*_JOB).where(jobs.c.id == job_id)
    if user_id is not None:
        query = query.where(jobs.c.user_id == user_id)
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else JobRow(*row)


def list_jobs(
    tx: Tx,
    user_id: str,
    *,
    state: JobState | None,
    asset_id: str | None,
    after: str | None,
    limit: int,
) -> list[JobRow]:
    """A user's jobs, newest first, older than `after`."""
    query = sa.select(*_JOB).where(jobs.c.user_id == user_id)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if asset_id is not None:
        query = query.where(jobs.c.asset_id == asset_id)
    if after is not None:
        query = query.where(jobs.c.id < after)
    rows = tx.connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))
    return [JobRow(*row) for row in rows]


def find_jobs(tx: Tx, job_ids: Sequence[str]) -> list[JobRow]:
    """Of these jobs those that exist."""
    return [
        JobRow(*row)
        for row in tx.connection.execute(sa.select(*_JOB).where(jobs.c.id.in_(job_ids)))
    ]


def summaries(tx: Tx, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Job → the summary of its plan."""
    query = sa.select(jobs.c.id, jobs.c.plan_summary).where(jobs.c.id.in_(job_ids))
    return {job_id: summary or {} for job_id, summary in tx.connection.execute(query)}


def task_rows(tx: Tx, job_ids: Sequence[str]) -> dict[str, list[TaskRow]]:
    """Job → its tasks in the plan's order."""
    query = (
        sa.select(
            tasks.c.job_id,
            tasks.c.kind,
            tasks.c.step_id,
            tasks.c.state,
            tasks.c.weight_s,
            tasks.c.progress,
            tasks.c.started_at,
            tasks.c.finished_at,
        )
        .where(tasks.c.job_id.in_(job_ids))
        .order_by(tasks.c.job_id, tasks.c.position)
    )
    found: dict[str, list[TaskRow]] = {job_id: [] for job_id in job_ids}
    for (
        job_id,
        kind,
        step_id,
        state,
        weight_s,
        told,
        started_at,
        finished_at,
    ) in tx.connection.execute(query):
        done_s = float((told or {}).get("done_s", 0.0))
        found[job_id].append(
            TaskRow(kind, step_id, state, weight_s, done_s, started_at, finished_at)
        )
    return found


def list_outputs(tx: Tx, job_id: str, *, after: str | None, limit: int) -> list[OutputRow]:
    """A job's finished files in the order of their paths, those after path `after`."""
    query = sa.select(*_OUTPUT).where(outputs.c.job_id == job_id)
    if after is not None:
        query = query.where(outputs.c.path > after)
    rows = tx.connection.execute(query.order_by(outputs.c.path).limit(limit))
    return [OutputRow(*row) for row in rows]


def find_output(tx: Tx, output_id: str) -> tuple[OutputRow, str, str] | None:
    """An output, where its job's files lie, and the title of its asset."""
    query = (
        sa.select(*_OUTPUT, jobs.c.prefix, assets.c.title)
        .join(jobs, jobs.c.id == outputs.c.job_id)
        .join(assets, assets.c.id == jobs.c.asset_id)
        .where(outputs.c.id == output_id, jobs.c.prefix.is_not(None))
    )
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else (OutputRow(*row[:-2]), row[-2], row[-1])


def find_upload(tx: Tx, upload_id: str, *, user_id: str) -> tuple[str, str | None] | None:
    """The state of a user's upload, and the asset that it became."""
    query = sa.select(uploads.c.state, uploads.c.asset_id).where(
        uploads.c.id == upload_id, uploads.c.user_id == user_id
    )
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])
