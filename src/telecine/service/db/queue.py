"""The queue: jobs of tasks, leased to workers under epochs (docs/explain/architecture.md).

    submit → claim → heartbeat, advance … → commit | fail | release | replan
                                            └ or the lease runs out → sweep

The database is the truth; a doorbell only says that there may be work. Whoever holds a claim may
write only while the task's row still names its epoch: each statement of a worker has that *fence*
in its WHERE clause, and says False (or None) when the row was not there. The worker then stops at
once, and touches nothing more.

Transactions lock rows in one order, whoever they are: a job, its tasks, the tenant, the asset. Who
is at several jobs in one transaction locks all of them first, by ascending id. Counters and states
that follow from a change are changed in the same transaction. All that queues or ends a job changes
a counter of its tenant: of one user it happens one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import sqlalchemy as sa

from telecine.service.db.attempts import (
    Attempt,
    Garbage,
    Outcome,
    collectable,
    collected,
    discard,
    discarded,
    end_attempt,
    removed,
    unneed,
)
from telecine.service.db.claims import FILLING, LEASE_S, Claim, claim
from telecine.service.db.connection import Tx
from telecine.service.db.events import EventRow, events_after, tell
from telecine.service.db.tables import (
    assets,
    attempts,
    jobs,
    outputs,
    segments,
    task_needs,
    tasks,
)
from telecine.service.db.tenants import count, know
from telecine.service.domain import (
    FINAL_JOB_STATES,
    FINAL_TASK_STATES,
    SEALED_KEY,
    JobState,
    NotFound,
    new_id,
)

__all__ = [
    "FILLING",
    "LEASE_S",
    "Attempt",
    "Claim",
    "EventRow",
    "Garbage",
    "Heartbeat",
    "NewJob",
    "NewOutput",
    "NewSegment",
    "NewTask",
    "abort",
    "abort_all",
    "advance",
    "attended",
    "claim",
    "close",
    "collectable",
    "collected",
    "commit",
    "committed",
    "discard",
    "discarded",
    "events_after",
    "fail",
    "heartbeat",
    "make_with",
    "position_in_queue",
    "release",
    "removed",
    "replan",
    "request_cancel",
    "retry",
    "submit",
    "sweep",
    "tell",
]

MAX_RUNNING_JOBS = 5  # of one user, unless the settings say otherwise
MAX_CRASHES = 3  # leases of a task that may run out
MAX_ERRORS = 3  # failures of a task that may be told
BACKOFF_S = 5.0
MAX_BACKOFF_S = 900.0
JITTER = 0.25

# A database that stood still lets every lease run out at once; not all are taken back at once.
SWEEP_LIMIT = 100

WORKER_LOST = "worker_lost"

AT_IT_S = 1.0
AWAY_S = 10.0


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task of a job to be. `needs` are positions in the job's list, each before its own."""

    kind: str
    step_id: str | None
    opening: bool
    weight_s: float
    needs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be. `plan` is the engine's plan as JSON, or that of pictures (`image_plans`)."""

    id: str
    user_id: str
    asset_id: str
    priority: int
    preset: str | None
    outputs: list[dict[str, Any]]
    metadata: dict[str, Any]
    source_policy: str
    plan: str | None
    plan_summary: dict[str, Any]
    tasks: tuple[NewTask, ...]


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A finished, immutable segment in the storage; number `INIT` is the init segment."""

    rendition: str
    number: int
    storage_key: str
    size_bytes: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewOutput:
    """A finished output, `path` within the job's prefix."""

    kind: str
    path: str
    content_type: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The lease goes on."""

    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A job whose row this transaction has locked."""

    id: str
    user_id: str
    asset_id: str
    state: JobState
    pending_tasks: int


# --- fences -----------------------------------------------------------------------------------


def _held(held: Claim) -> sa.ColumnElement[bool]:
    """The fence: the task's row still says that this claim holds it."""
    return sa.and_(
        tasks.c.id == held.task_id, tasks.c.epoch == held.epoch, tasks.c.state == "running"
    )


def _wanted() -> sa.ColumnElement[bool]:
    """The fence against a cancelled job's tasks going on."""
    return ~tasks.c.cancel_requested


def _run_out(tx: Tx) -> sa.ColumnElement[bool]:
    """The fence of the sweeper: who renewed the lease meanwhile keeps the task."""
    return tasks.c.lease_until < tx.now


# --- jobs begin -------------------------------------------------------------------------------


def submit(tx: Tx, job: NewJob, *, max_running_jobs: int = MAX_RUNNING_JOBS) -> None:
    """Queue a job with its tasks. Ring `TASKS` after the commit. `max_running_jobs` is the setting,
    which holds from now on where the user has no limit of their own.

    Raises `ValueError` when there is no task, or one needs a task that is not before it; `NotFound`
    (`asset_unknown`) when the asset was deleted meanwhile. Whether its source is still there has to
    be asked afterwards: from here on it stays, until the commit and beyond.
    """
    know(tx, job.user_id, max_running_jobs)
    count(tx, job.user_id, queued=1)
    asset = sa.select(assets.c.id).where(assets.c.id == job.asset_id)
    asset = asset.with_for_update(read=True, key_share=True)  # who deletes it waits, or has done so
    if tx.connection.execute(asset).first() is None:
        raise NotFound("no such asset", code="asset_unknown")
    tx.connection.execute(
        sa.insert(jobs).values(
            id=job.id,
            user_id=job.user_id,
            asset_id=job.asset_id,
            state="queued",
            priority=job.priority,
            preset=job.preset,
            outputs=job.outputs,
            metadata=job.metadata,
            source_policy=job.source_policy,
            plan=job.plan,
            plan_summary=job.plan_summary,
            pending_tasks=len(job.tasks),
            created_at=tx.now,
        )
    )
    _insert_tasks(tx, job.id, job.user_id, job.priority, job.tasks)
    tell(tx, job.id, "queued", {})


def retry(tx: Tx, job_id: str, *, only_failed: bool) -> bool:
    """Queue a failed or cancelled job again; False: it is neither. Ring `TASKS` after the commit.
    Ask afterwards whether the source is still there, as with `submit`.

    With `only_failed` what succeeded is kept, the finished files too if only the digest failed, as
    are the segments that were published; a cancelled job has nothing to keep. Epochs go on rising.
    Raises `NotFound` (`job_unknown`).
    """
    job = _lock(tx, job_id)
    if job is None:
        raise _no_such_job()
    if job.state not in ("failed", "cancelled"):
        return False
    whole = not only_failed or job.state == "cancelled"
    of_job = tasks.c.job_id == job_id
    again = of_job if whole else sa.and_(of_job, tasks.c.state != "succeeded")
    tx.connection.execute(
        sa.update(tasks)
        .where(again)
        .values(
            state="blocked",
            not_before=0.0,
            crashes=0,
            errors=0,
            cancel_requested=False,
            prefix=None,
            progress=None,
            result=None,
            error=None,
            started_at=None,
            finished_at=None,
        )
    )
    needed = tasks.alias("needed")
    unfinished = (
        sa.select(sa.func.count())
        .select_from(task_needs.join(needed, needed.c.id == task_needs.c.needs_id))
        .where(task_needs.c.task_id == tasks.c.id, needed.c.state != "succeeded")
        .scalar_subquery()
    )
    blocked = sa.and_(of_job, tasks.c.state == "blocked")
    tx.connection.execute(sa.update(tasks).where(blocked).values(waits_for=unfinished))
    pending = tx.connection.execute(
        sa.select(sa.func.count()).select_from(tasks).where(blocked)
    ).scalar_one()
    tx.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state="queued",
            pending_tasks=pending,
            retries=jobs.c.retries + 1,
            error=None,
            started_at=None,
            finished_at=None,
        )
    )
    tell(tx, job_id, "queued", {})
    count(tx, job.user_id, queued=1)
    if whole:
        _drop_made(tx, job)
        first_play = sa.update(jobs).where(jobs.c.id == job_id).values(time_to_first_play_s=None)
        tx.connection.execute(first_play)
    return True


def _insert_tasks(
    tx: Tx,
    job_id: str,
    user_id: str,
    priority: int,
    new: Sequence[NewTask],
    *,
    first_state: str = "blocked",
) -> None:
    if not new:
        raise ValueError("a job has at least one task")
    ids = [new_id() for _ in new]
    rows, needs = [], []
    for position, task in enumerate(new):
        needed = sorted(set(task.needs))
        if needed and not 0 <= needed[0] <= needed[-1] < position:
            raise ValueError(f"task {position} needs a task that is not before it")
        rows.append(
            {
                "id": ids[position],
                "job_id": job_id,
                "user_id": user_id,
                "kind": task.kind,
                "step_id": task.step_id,
                "position": position,
                "opening": task.opening,
                "priority": priority,
                "weight_s": task.weight_s,
                "state": "blocked" if needed else first_state,
                "waits_for": len(needed),
            }
        )
        needs += [{"task_id": ids[position], "needs_id": ids[need]} for need in needed]
    tx.connection.execute(sa.insert(tasks), rows)
    if needs:
        tx.connection.execute(sa.insert(task_needs), needs)


# --- what a worker says of its claim ----------------------------------------------------------


def heartbeat(
    tx: Tx, held: Claim, progress: Mapping[str, Any], *, lease_s: float = LEASE_S
) -> Heartbeat | None:
    """Extend the lease to `lease_s` from now and write the progress. None: fenced."""
    _lock(tx, held.job_id)
    extended = (
        sa.update(tasks)
        .where(_held(held))
        .values(lease_until=tx.now + lease_s, progress=dict(progress))
    )
    if tx.connection.execute(extended).rowcount == 0:
        return None
    stop = sa.select(tasks.c.cancel_requested).where(tasks.c.id == held.task_id)
    return Heartbeat(cancel_requested=tx.connection.execute(stop).scalar_one())


def advance(tx: Tx, held: Claim, new: Sequence[NewSegment]) -> bool:
    """Append finished segments to the job's timeline. False: fenced.

    A segment that is there already is an earlier attempt's with the same bytes, and stays.
    """
    _lock(tx, held.job_id)
    if tx.connection.execute(sa.select(tasks.c.id).where(_held(held))).first() is None:
        return False
    names = {segment.rendition for segment in new}
    there = {
        (row.rendition, row.number)
        for row in tx.connection.execute(
            sa.select(segments.c.rendition, segments.c.number).where(
                segments.c.job_id == held.job_id,
                segments.c.rendition.in_(names),
                segments.c.number.in_({segment.number for segment in new}),
            )
        )
    }
    rows = [
        {
            "job_id": held.job_id,
            "rendition": segment.rendition,
            "number": segment.number,
            "storage_key": segment.storage_key,
            "task_id": held.task_id,
            "epoch": held.epoch,
            "size_bytes": segment.size_bytes,
            "facts": segment.facts,
        }
        for segment in new
        if (segment.rendition, segment.number) not in there
    ]
    if rows:
        tx.connection.execute(sa.insert(segments), rows)
    return True


def make_with(tx: Tx, held: Claim, version: str) -> bool:
    """Have the steps of the job made with this version of FFmpeg: parts of two may not join. False:
    fenced, or they are made with another one."""
    _lock(tx, held.job_id)
    if tx.connection.execute(sa.select(tasks.c.id).where(_held(held))).first() is None:
        return False
    this = jobs.c.id == held.job_id
    first = sa.update(jobs).where(this, jobs.c.made_with.is_(None)).values(made_with=version)
    tx.connection.execute(first)
    return tx.connection.execute(sa.select(jobs.c.made_with).where(this)).scalar() == version


def attended(tx: Tx, held: Claim) -> bool:
    """Whether others are at the job of this claim, or were until `AWAY_S` ago. Who has only just
    begun, and may find that it has to give its task back, is not counted."""
    others = sa.or_(attempts.c.task_id != held.task_id, attempts.c.epoch != held.epoch)
    at_it = sa.or_(
        sa.and_(attempts.c.ended_at.is_(None), attempts.c.claimed_at < tx.now - AT_IT_S),
        sa.and_(attempts.c.ended_at > tx.now - AWAY_S, attempts.c.outcome != "released"),
    )
    found = sa.select(attempts.c.task_id).where(attempts.c.job_id == held.job_id, others, at_it)
    return tx.connection.execute(found.limit(1)).first() is not None


def commit(
    tx: Tx,
    held: Claim,
    *,
    result: Mapping[str, Any],
    outputs: Sequence[NewOutput] = (),
    job_prefix: str | None = None,
) -> bool:
    """The task succeeded. False: fenced, or its job is being cancelled.

    Tasks that waited for this one alone become ready; with the job's last task the job succeeds
    and its asset is ready. Ring `TASKS` after the commit. When the commit's answer is lost,
    `committed` says whether it took place.
    """
    job = _lock(tx, held.job_id)
    done = job is not None and _leave(
        tx,
        held,
        "succeeded",
        _held(held) & _wanted(),
        state="succeeded",
        prefix=held.prefix,
        result=dict(result),
        error=None,
        finished_at=tx.now,
    )
    if job is None or not done:
        _stop(tx, job, held)
        return False
    _unblock(tx, held.task_id)
    pending = job.pending_tasks - 1
    values: dict[str, Any] = {"pending_tasks": pending}
    if job_prefix is not None:
        values["prefix"] = job_prefix
    tx.connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
    _tell_task(tx, held, "succeeded")
    _insert_outputs(tx, held, outputs)
    if pending == 0:
        _end_job(tx, job, "succeeded")
    return True


def committed(tx: Tx, held: Claim) -> bool:
    """Whether this claim's commit took place: what to ask when its answer was lost."""
    done = sa.select(tasks.c.id).where(
        tasks.c.id == held.task_id, tasks.c.state == "succeeded", tasks.c.prefix == held.prefix
    )
    return tx.connection.execute(done).first() is not None


def fail(
    tx: Tx,
    held: Claim,
    *,
    code: str,
    message: str,
    retryable: bool,
    log_tail: Sequence[str] = (),
) -> bool:
    """The attempt failed. False: fenced.

    What another try may mend makes the task ready again after a pause, `MAX_ERRORS` times in all;
    anything else fails the job at once. A task whose job is being cancelled ends as cancelled.
    """
    job = _lock(tx, held.job_id)
    if job is None:
        return False
    if _stop(tx, job, held):
        return True
    so_far = sa.select(tasks.c.errors).where(tasks.c.id == held.task_id)
    errors = 1 + (tx.connection.execute(so_far).scalar() or 0)
    error = {"code": code, "message": message, "log_tail": list(log_tail)}
    if retryable and errors < MAX_ERRORS:
        pause_s = backoff_s(errors - 1, held.task_id)
        if not _leave(
            tx,
            held,
            "failed",
            _held(held),
            state="ready",
            errors=errors,
            error=error,
            not_before=tx.now + pause_s,
        ):
            return False
        _tell_task(tx, held, "ready", code=code, message=message, pause_s=round(pause_s, 3))
        return True
    if not _leave(
        tx,
        held,
        "failed",
        _held(held),
        state="failed",
        errors=errors,
        error=error,
        finished_at=tx.now,
    ):
        return False
    _fail_job(tx, job, held, code, message)
    return True


def release(tx: Tx, held: Claim) -> bool:
    """Give the task back unfinished, as a worker does that is told to stop: ready again, and no try
    is counted. False: fenced. Ring `TASKS` after the commit."""
    job = _lock(tx, held.job_id)
    if job is None:
        return False
    if _stop(tx, job, held):
        return True
    if not _leave(tx, held, "released", _held(held), state="ready", not_before=0.0):
        return False
    _tell_task(tx, held, "ready")
    return True


def replan(
    tx: Tx,
    held: Claim,
    plan: str,
    plan_summary: Mapping[str, Any],
    new: Sequence[NewTask],
) -> bool:
    """Go over to another plan: the one that a search led to, or one that encodes, where a copy
    showed that the film is not what its index says; or begin again by the same, with another
    FFmpeg. False: fenced. Ring `TASKS` after the commit.

    All tasks of the first plan go, the finished ones and this claim's too, and so do the published
    segments: they are of other bytes. What other workers are at is fenced.
    """
    job = _lock(tx, held.job_id)
    if job is None or not _leave(tx, held, "failed", _held(held) & _wanted(), state="failed"):
        _stop(tx, job, held)
        return False
    _cancel_tasks(tx, job)
    row = tx.connection.execute(sa.select(jobs.c.priority).where(jobs.c.id == job.id)).one()
    tx.connection.execute(sa.delete(tasks).where(tasks.c.job_id == job.id))
    _drop_made(tx, job)
    _insert_tasks(tx, job.id, job.user_id, row.priority, new, first_state="ready")
    tx.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job.id)
        .values(plan=plan, plan_summary=dict(plan_summary), pending_tasks=len(new))
    )
    return True


# --- what others say of a job -----------------------------------------------------------------


def request_cancel(tx: Tx, job_id: str) -> JobState:
    """Cancel a job; its state now. Raises `NotFound` (`job_unknown`).

    A queued job is cancelled at once. Of a running one nothing more is begun, its workers hear of
    it with their next heartbeat, and it is cancelled when the last of them has stopped.
    """
    job = _lock(tx, job_id)
    if job is None:
        raise _no_such_job()
    if job.state in FINAL_JOB_STATES:
        return job.state
    if job.state == "queued":
        _end_job(tx, job, "cancelled")
        return "cancelled"
    _cancel_waiting(tx, job_id)
    asked = tx.connection.execute(
        sa.update(tasks)
        .where(tasks.c.job_id == job_id, tasks.c.state == "running")
        .values(cancel_requested=True)
    )
    if asked.rowcount == 0:
        _end_job(tx, job, "cancelled")
        return "cancelled"
    return "running"


def abort(tx: Tx, job_id: str) -> None:
    """End a job as cancelled now, without waiting for its workers: they are fenced. A job that has
    ended, or is not there, is no error."""
    _abort(tx, jobs.c.id == job_id)


def abort_all(tx: Tx, user_id: str) -> None:
    """`abort` each job of a user, before the user's rows are deleted."""
    _abort(tx, sa.and_(jobs.c.user_id == user_id, jobs.c.state.not_in(FINAL_JOB_STATES)))
    unneed(tx, jobs.c.user_id == user_id, kept=False)


def close(tx: Tx, asset_id: str) -> list[str]:
    """`abort` each job of an asset, before its rows are deleted, so that the tenant's counters stay
    right; and let no other come. The ids of all its jobs, those that had ended too."""
    of_asset = jobs.c.asset_id == asset_id
    asset = sa.select(assets.c.id).where(assets.c.id == asset_id).with_for_update()
    while True:
        with tx.connection.begin_nested() as savepoint:
            ended = _abort(tx, of_asset)
            tx.connection.execute(asset)  # waits for who submits a job, and keeps others from it
            there = tx.connection.execute(sa.select(jobs.c.id).where(of_asset)).scalars().all()
            if set(there) == set(ended):
                unneed(tx, of_asset, kept=False)
                return ended
            # Another job came: it has to be locked before the asset is, as everywhere.
            savepoint.rollback()


def _abort(tx: Tx, which: sa.ColumnElement[bool]) -> list[str]:
    """End these jobs as cancelled; the ids of all, those that had ended too."""
    rows = tx.connection.execute(_jobs_to_lock().where(which).order_by(jobs.c.id))
    found = [_Job(*row) for row in rows]
    for job in found:
        if job.state not in FINAL_JOB_STATES:
            _end_job(tx, job, "cancelled")
    return [job.id for job in found]


def position_in_queue(tx: Tx, job_id: str) -> int | None:
    """The job's place among its user's queued jobs, from 1; None: it is not queued. Other users'
    jobs do not stand before it: users are served in turn."""
    this = tx.connection.execute(
        sa.select(jobs.c.user_id, jobs.c.priority, jobs.c.state).where(jobs.c.id == job_id)
    ).first()
    if this is None or this.state != "queued":
        return None
    ahead = sa.or_(
        jobs.c.priority > this.priority,
        sa.and_(jobs.c.priority == this.priority, jobs.c.id < job_id),
    )
    counted = (
        sa.select(sa.func.count())
        .select_from(jobs)
        .where(jobs.c.user_id == this.user_id, jobs.c.state == "queued", ahead)
    )
    return int(tx.connection.execute(counted).scalar_one()) + 1


def sweep(tx: Tx) -> int:
    """Take back tasks whose lease ran out; how many. When there were any, ring `TASKS` after the
    commit. Of what was never rung for the workers learn by asking themselves (`POLL_S`).

    A task whose leases ran out `MAX_CRASHES` times fails its job as `worker_lost`.
    """
    lost = _expired(tx)
    # Jobs that somebody is at just now are left for the next sweep: to wait for one while holding
    # another could wait for ever.
    free = _lock_free(tx, sorted({held.job_id for held in lost}))
    return sum(_take_back(tx, free[held.job_id], held) for held in lost if held.job_id in free)


def _expired(tx: Tx) -> list[Claim]:
    """The claims whose lease ran out, by user and job: two sweepers lock in the same order."""
    found = (
        sa.select(
            tasks.c.id,
            tasks.c.job_id,
            tasks.c.user_id,
            jobs.c.asset_id,
            tasks.c.kind,
            tasks.c.step_id,
            tasks.c.epoch,
            attempts.c.prefix,
            tasks.c.lease_owner,
        )
        .join_from(tasks, jobs, jobs.c.id == tasks.c.job_id)
        .join(
            attempts,
            sa.and_(attempts.c.task_id == tasks.c.id, attempts.c.epoch == tasks.c.epoch),
        )
        .where(tasks.c.state == "running", _run_out(tx))
        .order_by(tasks.c.lease_until)
        .limit(SWEEP_LIMIT)
    )
    claims = [Claim(*row) for row in tx.connection.execute(found)]
    return sorted(claims, key=lambda held: (held.user_id, held.job_id, held.task_id))


def _take_back(tx: Tx, job: _Job, held: Claim) -> bool:
    lost = _held(held) & _run_out(tx)
    row = tx.connection.execute(
        sa.select(tasks.c.crashes, tasks.c.cancel_requested).where(lost)
    ).first()
    if row is None:
        return False
    if row.cancel_requested:
        return _stop(tx, job, held, "lost")
    crashes = row.crashes + 1
    if crashes < MAX_CRASHES:
        _leave(tx, held, "lost", lost, state="ready", crashes=crashes, not_before=0.0)
        _tell_task(tx, held, "ready", code=WORKER_LOST)
        return True
    message = f"the worker was lost {crashes} times while it ran this task"
    error = {"code": WORKER_LOST, "message": message, "log_tail": []}
    _leave(
        tx,
        held,
        "lost",
        lost,
        state="failed",
        crashes=crashes,
        error=error,
        finished_at=tx.now,
    )
    _fail_job(tx, job, held, WORKER_LOST, message)
    return True


def backoff_s(failures: int, task_id: str) -> float:
    """How long a task waits after so many earlier failures. Doubles each time; tasks that failed
    together do not come back together."""
    spread = crc32(f"{task_id}/{failures}".encode()) / 0xFFFFFFFF  # 0 to 1, the same each time
    pause_s = BACKOFF_S * 2.0 ** min(failures, 20) * (1 - JITTER + 2 * JITTER * spread)
    return min(pause_s, MAX_BACKOFF_S)


# --- what follows from it ---------------------------------------------------------------------


def _no_such_job() -> NotFound:
    return NotFound("no such job", code="job_unknown")


def _jobs_to_lock() -> sa.Select[Any]:
    return sa.select(
        jobs.c.id, jobs.c.user_id, jobs.c.asset_id, jobs.c.state, jobs.c.pending_tasks
    ).with_for_update(key_share=True)


def _lock(tx: Tx, job_id: str) -> _Job | None:
    row = tx.connection.execute(_jobs_to_lock().where(jobs.c.id == job_id)).first()
    return None if row is None else _Job(*row)


def _lock_free(tx: Tx, job_ids: Sequence[str]) -> dict[str, _Job]:
    if not job_ids:
        return {}
    free = _jobs_to_lock().where(jobs.c.id.in_(job_ids))
    rows = tx.connection.execute(free.with_for_update(key_share=True, skip_locked=True))
    return {row.id: _Job(*row) for row in rows}


def _leave(
    tx: Tx, held: Claim, outcome: Outcome, fence: sa.ColumnElement[bool], **values: Any
) -> bool:
    """The claim's end, in the task's row and the attempt's; False: the fence was closed."""
    left = sa.update(tasks).where(fence).values(lease_owner=None, lease_until=None, **values)
    if tx.connection.execute(left).rowcount == 0:
        return False
    end_attempt(tx, held.task_id, held.epoch, held.user_id, outcome)
    return True


def _stop(tx: Tx, job: _Job | None, held: Claim, outcome: Outcome = "cancelled") -> bool:
    """If the job is being cancelled, that is how this claim's task ends, whatever became of it."""
    asked = _held(held) & tasks.c.cancel_requested
    if job is None or not _leave(tx, held, outcome, asked, state="cancelled", finished_at=tx.now):
        return False
    _tell_task(tx, held, "cancelled")
    others = sa.select(tasks.c.id).where(tasks.c.job_id == job.id, tasks.c.state == "running")
    if tx.connection.execute(others.limit(1)).first() is None:
        _end_job(tx, job, "cancelled")
    return True


def _unblock(tx: Tx, task_id: str) -> None:
    dependants = sa.select(task_needs.c.task_id).where(task_needs.c.needs_id == task_id)
    waiting = sa.and_(tasks.c.id.in_(dependants), tasks.c.state == "blocked")
    tx.connection.execute(sa.update(tasks).where(waiting).values(waits_for=tasks.c.waits_for - 1))
    tx.connection.execute(
        sa.update(tasks).where(waiting, tasks.c.waits_for == 0).values(state="ready")
    )


def _tell_task(tx: Tx, held: Claim, state: str, **more: Any) -> None:
    what = {"task_id": held.task_id, "kind": held.kind, "step_id": held.step_id}
    tell(tx, held.job_id, "task", {**what, "attempt": held.epoch, "state": state, **more})


def _insert_outputs(tx: Tx, held: Claim, new: Sequence[NewOutput]) -> None:
    for one in new:
        output_id = new_id()
        tx.connection.execute(
            sa.insert(outputs).values(
                id=output_id,
                job_id=held.job_id,
                asset_id=held.asset_id,
                kind=one.kind,
                path=one.path,
                content_type=one.content_type,
                size_bytes=one.size_bytes,
                sha256=one.sha256,
                facts=one.facts,
            )
        )
        told = {"output_id": output_id, "kind": one.kind, "path": one.path}
        tell(tx, held.job_id, "output", {**told, "size_bytes": one.size_bytes})


def _fail_job(tx: Tx, job: _Job, held: Claim, code: str, message: str) -> None:
    _tell_task(tx, held, "failed", code=code, message=message)
    _end_job(tx, job, "failed", {"code": code, "message": message, "step_id": held.step_id})


def _end_job(tx: Tx, job: _Job, state: JobState, error: Mapping[str, Any] | None = None) -> None:
    """A job's one terminal transition, and all that follows from it."""
    tx.connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job.id)
        .values(state=state, error=error, finished_at=tx.now)
    )
    _cancel_tasks(tx, job)
    if job.state == "queued":
        count(tx, job.user_id, queued=-1)
    else:
        count(tx, job.user_id, running=-1)
    # The films of failed jobs end well, and a retry goes on from them.
    if state == "succeeded":
        _drop_segments(tx, job.id)
        _drop_key(tx, job.id)
    elif state == "cancelled":
        _drop_made(tx, job)
    _settle_asset(tx, job, state)
    _give_up_source(tx, job.asset_id)
    tell(tx, job.id, state, dict(error or {}))


def _cancel_waiting(tx: Tx, job_id: str) -> None:
    tx.connection.execute(
        sa.update(tasks)
        .where(tasks.c.job_id == job_id, tasks.c.state.in_(("blocked", "ready")))
        .values(state="cancelled", finished_at=tx.now)
    )


def _cancel_tasks(tx: Tx, job: _Job) -> None:
    """Cancel what is unfinished; who is at it is fenced."""
    # The waiting ones first: afterwards none can be claimed any more.
    _cancel_waiting(tx, job.id)
    running = sa.and_(tasks.c.job_id == job.id, tasks.c.state == "running")
    rows = tx.connection.execute(sa.select(tasks.c.id, tasks.c.epoch).where(running)).all()
    tx.connection.execute(
        sa.update(tasks)
        .where(running)
        .values(state="cancelled", lease_owner=None, lease_until=None, finished_at=tx.now)
    )
    for row in rows:
        end_attempt(tx, row.id, row.epoch, job.user_id, "cancelled")


def _drop_made(tx: Tx, job: _Job) -> None:
    """Forget all that a job has made; its finished files too, which may stand before its end while
    the digest is still counted."""
    tx.connection.execute(sa.delete(outputs).where(outputs.c.job_id == job.id))
    gone = {"prefix": None, "report": None, "warnings": None, "made_with": None}
    tx.connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(gone))
    _drop_segments(tx, job.id)
    poster = assets.c.poster_key.startswith(f"tasks/{job.id}/")
    tx.connection.execute(
        sa.update(assets).where(assets.c.id == job.asset_id, poster).values(poster_key=None)
    )


def _drop_segments(tx: Tx, job_id: str) -> None:
    """Nobody follows what attempts wrote any more: what is left are the finished files, if any."""
    tx.connection.execute(sa.delete(segments).where(segments.c.job_id == job_id))
    unneed(tx, jobs.c.id == job_id, kept=True)


def _drop_key(tx: Tx, job_id: str) -> None:
    """Forget the sealed key of what is encrypted: nothing will be made of this job again."""
    this = jobs.c.id == job_id
    wanted = tx.connection.execute(sa.select(jobs.c.outputs).where(this)).scalar_one()
    if any(SEALED_KEY in output for output in wanted):
        kept = [{name: one[name] for name in one if name != SEALED_KEY} for one in wanted]
        tx.connection.execute(sa.update(jobs).where(this).values(outputs=kept))


def _settle_asset(tx: Tx, job: _Job, state: JobState) -> None:
    """What the job's end means for its asset: which state it is in, and whose output plays."""
    this = assets.c.id == job.asset_id
    row = tx.connection.execute(
        sa.select(assets.c.state, assets.c.job_id).where(this).with_for_update(key_share=True)
    ).one()
    values: dict[str, Any] = {}
    if state == "succeeded":
        values["state"] = "ready"
        streams = sa.select(outputs.c.id).where(
            outputs.c.job_id == job.id, outputs.c.kind.in_(("hls", "dash"))
        )
        if row.state != "ready" or tx.connection.execute(streams.limit(1)).first() is not None:
            values["job_id"] = job.id
    elif row.state == "processing":
        other = sa.select(jobs.c.id).where(
            jobs.c.asset_id == job.asset_id, jobs.c.state == "running"
        )
        other_id = tx.connection.execute(other.order_by(jobs.c.id).limit(1)).scalar()
        if other_id is not None:
            values["job_id"] = other_id if row.job_id == job.id else row.job_id
        else:
            values["state"] = "failed" if state == "failed" else "uploaded"
    if values:
        tx.connection.execute(sa.update(assets).where(this).values(updated_at=tx.now, **values))


def _give_up_source(tx: Tx, asset_id: str) -> None:
    """Leave an asset's source to the collector, where a job that succeeded was to delete it and no
    task of any of its jobs is left that may read it: whichever job was the last to end."""
    wanted = sa.select(jobs.c.id).where(
        jobs.c.asset_id == asset_id,
        jobs.c.state == "succeeded",
        jobs.c.source_policy == "delete_when_done",
    )
    reading = (
        sa.select(tasks.c.id)
        .join(jobs, jobs.c.id == tasks.c.job_id)
        .where(jobs.c.asset_id == asset_id, tasks.c.state.not_in(FINAL_TASK_STATES))
    )
    this = assets.c.id == asset_id
    # No job can come in between: the tenant's row is locked by now.
    key = tx.connection.execute(
        sa.select(assets.c.source_key).where(
            this, assets.c.source_key.is_not(None), sa.exists(wanted), ~sa.exists(reading)
        )
    ).scalar_one_or_none()
    if key is not None:
        discard(tx, [key])
        tx.connection.execute(
            sa.update(assets).where(this).values(source_key=None, updated_at=tx.now)
        )
