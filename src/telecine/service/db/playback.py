"""What playback reads: an asset, its jobs, and the segments that a running job has advanced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import INIT as INIT
from telecine.service.db.tables import assets, jobs, segments, tasks
from telecine.service.domain import AssetState, JobState, Visibility

MOST_JOBS = 50  # of an asset, newest first, of which one plays


@dataclass(frozen=True, slots=True)
class PlayedAsset:
    id: str
    user_id: str
    title: str
    state: AssetState
    visibility: Visibility
    poster_key: str | None


@dataclass(frozen=True, slots=True)
class PlayedJob:
    """`files` is the prefix of the finished files: of a job that has succeeded, or only counts the
    source's digest yet. `kinds` are the types of output that were asked for. `plan_mark` is another
    one whenever the job has another plan, or begins again: what was read of it before is void then.
    """

    id: str
    asset_id: str
    state: JobState
    files: str | None
    kinds: frozenset[str]
    plan_mark: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    rendition: str
    number: int
    storage_key: str
    facts: dict[str, Any]


def find_asset(tx: Tx, asset_id: str) -> PlayedAsset | None:
    row = tx.connection.execute(
        sa.select(
            assets.c.id,
            assets.c.user_id,
            assets.c.title,
            assets.c.state,
            assets.c.visibility,
            assets.c.poster_key,
        ).where(assets.c.id == asset_id)
    ).one_or_none()
    return None if row is None else PlayedAsset(*row)


def find_job(tx: Tx, asset_id: str, job_id: str) -> PlayedJob | None:
    found = _jobs(tx, sa.and_(jobs.c.asset_id == asset_id, jobs.c.id == job_id))
    return found[0] if found else None


def jobs_of(tx: Tx, asset_id: str) -> list[PlayedJob]:
    """An asset's jobs, newest first."""
    return _jobs(tx, jobs.c.asset_id == asset_id)


def _jobs(tx: Tx, which: sa.ColumnElement[bool]) -> list[PlayedJob]:
    # Another plan comes with other tasks, and the last of them is cheap to find.
    last_task = (
        sa.select(tasks.c.id)
        .where(tasks.c.job_id == jobs.c.id)
        .order_by(tasks.c.position.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = tx.connection.execute(
        sa.select(
            jobs.c.id,
            jobs.c.asset_id,
            jobs.c.state,
            jobs.c.prefix,
            jobs.c.outputs,
            jobs.c.retries,
            last_task,
        )
        .where(which)
        .order_by(jobs.c.id.desc())
        .limit(MOST_JOBS)
    )
    return [
        PlayedJob(
            id=job_id,
            asset_id=asset_id,
            state=state,
            files=prefix if state in ("running", "succeeded") else None,
            kinds=frozenset(output["type"] for output in outputs),
            plan_mark=f"{retries}:{task_id}",
        )
        for job_id, asset_id, state, prefix, outputs, retries, task_id in rows
    ]


def plan_of(tx: Tx, job_id: str) -> str | None:
    """A job's plan as JSON."""
    return tx.connection.execute(
        sa.select(jobs.c.plan).where(jobs.c.id == job_id)
    ).scalar_one_or_none()


def find_segment(tx: Tx, job_id: str, rendition: str, number: int) -> SegmentRow | None:
    """A segment of a job that runs; `INIT`: its init segment."""
    row = tx.connection.execute(
        _SEGMENT.where(
            segments.c.job_id == job_id,
            segments.c.rendition == rendition,
            segments.c.number == number,
        )
    ).one_or_none()
    return None if row is None else SegmentRow(*row)


def segments_from(tx: Tx, job_id: str, numbers: Mapping[str, int]) -> list[SegmentRow]:
    """The segments of each rendition from this number on, in their order."""
    wanted = [
        sa.and_(segments.c.rendition == rendition, segments.c.number >= number)
        for rendition, number in numbers.items()
    ]
    rows = tx.connection.execute(
        _SEGMENT.where(segments.c.job_id == job_id, sa.or_(sa.false(), *wanted)).order_by(
            segments.c.rendition, segments.c.number
        )
    )
    return [SegmentRow(*row) for row in rows]


def step_prefix(tx: Tx, job_id: str, step_id: str) -> str | None:
    """Where the files of a step of the job's plan lie, once it has succeeded."""
    return tx.connection.execute(
        sa.select(tasks.c.prefix)
        .where(tasks.c.job_id == job_id, tasks.c.step_id == step_id, tasks.c.state == "succeeded")
        .limit(1)
    ).scalar_one_or_none()


_SEGMENT = sa.select(
    segments.c.rendition, segments.c.number, segments.c.storage_key, segments.c.facts
)
