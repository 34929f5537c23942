"""What a running task reads of its job, and what it changes beside the queue's own rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import INIT as INIT
from telecine.service.db.tables import assets, events, jobs, segments, tasks, uploads


@dataclass(frozen=True, slots=True)
class Subject:
    """What a task works on. `age_s` is how long its job has run, `made_with` the version of the
    FFmpeg that makes its steps; None: there is none yet."""

    plan: str
    asset_id: str
    source_key: str | None
    source_size_bytes: int
    source_sha256: str | None
    age_s: float
    time_to_first_play_s: float | None
    made_with: str | None
    outputs: Sequence[Mapping[str, Any]]  # as they were asked for


@dataclass(frozen=True, slots=True)
class Lease:
    """Whether a claim still holds its task, and whether it should go on."""

    epoch: int
    running: bool
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that succeeded: its result as its task wrote it, and where its files lie."""

    step_id: str
    result: Mapping[str, Any]
    prefix: str


def find_subject(tx: Tx, job_id: str) -> Subject | None:
    row = tx.connection.execute(
        sa.select(
            jobs.c.plan,
            jobs.c.asset_id,
            assets.c.source_key,
            assets.c.source_size_bytes,
            assets.c.source_sha256,
            tx.now - sa.func.coalesce(jobs.c.started_at, jobs.c.created_at),
            jobs.c.time_to_first_play_s,
            jobs.c.made_with,
            jobs.c.outputs,
        )
        .join(assets, assets.c.id == jobs.c.asset_id)
        .where(jobs.c.id == job_id)
    ).one_or_none()
    return None if row is None else Subject(*row)


def source_size_bytes(tx: Tx, job_id: str) -> int | None:
    """The size of a job's source; None where there is no such job any more."""
    return tx.connection.execute(
        sa.select(assets.c.source_size_bytes)
        .join(jobs, jobs.c.asset_id == assets.c.id)
        .where(jobs.c.id == job_id)
    ).scalar_one_or_none()


def read_lease(tx: Tx, task_id: str) -> Lease | None:
    row = tx.connection.execute(
        sa.select(tasks.c.epoch, tasks.c.state == "running", tasks.c.cancel_requested).where(
            tasks.c.id == task_id
        )
    ).one_or_none()
    return None if row is None else Lease(row[0], bool(row[1]), bool(row[2]))


def finished_steps(tx: Tx, job_id: str, step_ids: Collection[str] | None = None) -> list[StepRow]:
    """The steps of a job that succeeded, be they of a film or pictures; those of `step_ids` where
    they are named."""
    query = sa.select(tasks.c.step_id, tasks.c.result, tasks.c.prefix).where(
        tasks.c.job_id == job_id, tasks.c.step_id.is_not(None), tasks.c.state == "succeeded"
    )
    if step_ids is not None:
        query = query.where(tasks.c.step_id.in_(step_ids))
    return [StepRow(*row) for row in tx.connection.execute(query.order_by(tasks.c.position))]


def segment_keys(tx: Tx, job_id: str) -> dict[tuple[str, int], str]:
    """Where each advanced segment of a job lies, by rendition and number."""
    rows = tx.connection.execute(
        sa.select(segments.c.rendition, segments.c.number, segments.c.storage_key).where(
            segments.c.job_id == job_id
        )
    )
    return {(rendition, number): key for rendition, number, key in rows}


def unbroken_runs(tx: Tx, job_id: str) -> dict[str, int]:
    """How many segments, from the first, each rendition of a job has without a hole; nothing where
    its init segment is missing."""
    numbers: dict[str, set[int]] = defaultdict(set)
    rows = tx.connection.execute(
        sa.select(segments.c.rendition, segments.c.number).where(segments.c.job_id == job_id)
    )
    for rendition, number in rows:
        numbers[rendition].add(number)
    return {rendition: _run(found) for rendition, found in numbers.items()}


def _run(numbers: Collection[int]) -> int:
    if INIT not in numbers:
        return 0
    count = 0
    while count in numbers:
        count += 1
    return count


def succeeded_steps(tx: Tx, job_id: str) -> set[str]:
    return set(
        tx.connection.execute(
            sa.select(tasks.c.step_id).where(
                tasks.c.job_id == job_id, tasks.c.kind == "step", tasks.c.state == "succeeded"
            )
        ).scalars()
    )


def first_play_known(tx: Tx, job_id: str) -> bool:
    """Whether a job has become playable, or is gone."""
    row = tx.connection.execute(
        sa.select(jobs.c.time_to_first_play_s).where(jobs.c.id == job_id)
    ).one_or_none()
    return row is None or row[0] is not None


def record_first_play(tx: Tx, job_id: str) -> float | None:
    """Note that a job plays from now on: seconds since it was queued, the last time, and for its
    asset from the end of its upload. The first to do so gets the job's seconds, all others None."""
    queued_at = (
        sa.select(sa.func.max(events.c.at))
        .where(events.c.job_id == job_id, events.c.type == "queued")
        .scalar_subquery()
    )
    done = tx.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.time_to_first_play_s.is_(None))
        .values(time_to_first_play_s=tx.now - sa.func.coalesce(queued_at, jobs.c.created_at))
    )
    if done.rowcount != 1:
        return None
    of_job = sa.select(jobs.c.asset_id).where(jobs.c.id == job_id).scalar_subquery()
    tx.connection.execute(
        sa.update(assets)
        .where(assets.c.id == of_job, assets.c.time_to_first_play_s.is_(None))
        .values(time_to_first_play_s=tx.now - assets.c.uploaded_at)
    )
    seconds = tx.connection.execute(
        sa.select(jobs.c.time_to_first_play_s).where(jobs.c.id == job_id)
    ).scalar_one()
    return float(seconds)


def forget_first_play(tx: Tx, job_id: str) -> None:
    """What played is void: the job begins again, by another plan."""
    change_job(tx, job_id, {"time_to_first_play_s": None})
    of_job = sa.select(jobs.c.asset_id).where(jobs.c.id == job_id).scalar_subquery()
    tx.connection.execute(
        sa.update(assets)
        .where(assets.c.id == of_job, assets.c.state == "processing")
        .values(time_to_first_play_s=None)
    )


def expected_sha256(tx: Tx, asset_id: str) -> str | None:
    """What the client said that the upload's digest is."""
    return tx.connection.execute(
        sa.select(uploads.c.sha256).where(uploads.c.asset_id == asset_id).limit(1)
    ).scalar_one_or_none()


def change_asset(tx: Tx, asset_id: str, changes: Mapping[str, object]) -> None:
    tx.connection.execute(
        sa.update(assets).where(assets.c.id == asset_id).values(**changes, updated_at=tx.now)
    )


def change_job(tx: Tx, job_id: str, changes: Mapping[str, object]) -> None:
    tx.connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**changes))
