"""Which task is next, and whose it is: a claim is a lease under a new epoch.

The next task is the best by priority; then tasks of first play go before others; then the tenant
who was served least lately; then the oldest job. A queued job stands for its first task, which is
one of first play, while its tenant runs fewer jobs than it may. Tasks of one job go in the order of
its plan.

Nothing here waits for a row that another claim holds. A claim of a ready task locks that task
alone; all else that changes tasks locks the job first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.events import tell
from telecine.service.db.tables import assets, attempts, jobs, tasks, tenants
from telecine.service.db.tenants import decayed, take_slot

LEASE_S = 30.0

# Kinds of tasks that put as much on a disk as their source has, or more.
FILLING = ("step", "image")

# Others may take every candidate that was seen; whoever is left without asks again, not for ever.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one attempt at a task. It writes below `prefix` only, and is over as soon
    as another epoch of the task begins or its job ends."""

    task_id: str
    job_id: str
    user_id: str
    asset_id: str
    kind: str
    step_id: str | None
    epoch: int
    prefix: str
    owner: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best task of one tenant in one class, or (`queued`) its best job that may start."""

    priority: int
    opening: bool
    served_s: float
    job_id: str
    user_id: str
    queued: bool

    @property
    def rank(self) -> tuple[int, bool, float, str]:
        """The lowest is served first. Ids of jobs sort by age."""
        return (-self.priority, not self.opening, self.served_s, self.job_id)


def claim(
    tx: Tx, worker: str, *, lease_s: float = LEASE_S, room_bytes: int | None = None
) -> Claim | None:
    """Take the best task there is, starting its job if that is queued; None: there is none. With
    `room_bytes` what makes files of larger sources is passed over; it takes longer then.

    Its attempt and prefix are recorded, and its lease runs `lease_s` from now. No event is told of
    it: that would make every claim wait for its job's row.
    """
    for _ in range(ROUNDS):
        asked = _Asked(_ALL if room_bytes is None else _IN_ROOM, tx.now_s(), room_bytes)
        candidates = [*_ready(tx, asked), *_queued(tx, asked)]
        for candidate in sorted(candidates, key=lambda one: one.rank):
            if candidate.queued and not _start(tx, candidate):
                continue
            found = _next_task(tx, candidate, asked)
            if found is not None:
                return _take(tx, found, worker, lease_s)
        if not candidates:
            return None
    return None


# The statements of a claim are built once: it is what the service says to its database most often.
_NOW = sa.bindparam("now_s", type_=sa.Double)
_ROOM = sa.bindparam("room_bytes", type_=sa.BigInteger)

_Condition = Callable[[sa.ColumnElement[str]], sa.ColumnElement[bool]]  # on the id of a job


def _any_source(_: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.true()


def _source_has_room(job_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    job, source = jobs.alias(), assets.alias()
    return (
        sa.select(job.c.id)
        .join(source, source.c.id == job.c.asset_id)
        .where(job.c.id == job_id, source.c.source_size_bytes <= _ROOM)
        .correlate_except(job, source)
        .exists()
    )


def _all_ready(fits: _Condition) -> sa.Select[Any]:
    groups = (
        sa.select(
            tasks.c.priority,
            tasks.c.opening,
            tasks.c.user_id,
            sa.func.min(tasks.c.job_id).label("job_id"),
        )
        .where(tasks.c.state == "ready", tasks.c.not_before <= _NOW)
        .where(sa.or_(tasks.c.kind.not_in(FILLING), fits(tasks.c.job_id)))
        .group_by(tasks.c.priority, tasks.c.opening, tasks.c.user_id)
        .subquery()
    )
    return sa.select(groups, tenants.c.served_s, tenants.c.served_at).join_from(
        groups, tenants, tenants.c.user_id == groups.c.user_id
    )


def _all_queued(fits: _Condition) -> sa.Select[Any]:
    # Two seeks in the index (user, state, priority, id) for each tenant, however long its queue is.
    first, same = jobs.alias("first"), jobs.alias("same")
    best = (
        sa.select(first.c.priority)
        .where(first.c.user_id == tenants.c.user_id, first.c.state == "queued")
        .where(fits(first.c.id))
        .order_by(first.c.priority.desc())
        .limit(1)
        .correlate(tenants)
        .scalar_subquery()
    )
    oldest = (
        sa.select(same.c.id)
        .where(same.c.user_id == tenants.c.user_id, same.c.state == "queued")
        .where(same.c.priority == best, fits(same.c.id))
        .order_by(same.c.id)
        .limit(1)
        .correlate(tenants)
        .scalar_subquery()
    )
    waiting = (
        sa.select(
            tenants.c.user_id, tenants.c.served_s, tenants.c.served_at, oldest.label("job_id")
        )
        .where(tenants.c.queued_jobs > 0, tenants.c.running_jobs < tenants.c.max_running_jobs)
        .subquery()
    )
    return sa.select(waiting, jobs.c.priority).join_from(
        waiting, jobs, jobs.c.id == waiting.c.job_id
    )


_NEXT_TASK = (
    sa.select(
        *(tasks.c.id, tasks.c.job_id, tasks.c.user_id, tasks.c.kind, tasks.c.step_id),
        tasks.c.epoch,
        sa.select(jobs.c.asset_id)
        .where(jobs.c.id == tasks.c.job_id)
        .scalar_subquery()
        .label("asset_id"),
    )
    .where(tasks.c.state == "ready", tasks.c.not_before <= _NOW)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_NEXT_OF_JOB = _NEXT_TASK.where(tasks.c.job_id == sa.bindparam("job_id")).order_by(
    tasks.c.opening.desc(), tasks.c.position
)


def _next_of_class(fits: _Condition) -> sa.Select[Any]:
    return _NEXT_TASK.where(
        tasks.c.priority == sa.bindparam("priority"),
        tasks.c.opening == sa.bindparam("opening"),
        tasks.c.user_id == sa.bindparam("user_id"),
        sa.or_(tasks.c.kind.not_in(FILLING), fits(tasks.c.job_id)),
    ).order_by(tasks.c.job_id, tasks.c.position)


class _Statements:
    """What to ask for those jobs alone that fit."""

    def __init__(self, fits: _Condition) -> None:
        self.ready = _all_ready(fits)
        self.queued = _all_queued(fits)
        self.next_of_class = _next_of_class(fits)


_ALL, _IN_ROOM = _Statements(_any_source), _Statements(_source_has_room)


class _Asked:
    """One look for a task: the statements, and what is bound to all of them."""

    def __init__(self, statements: _Statements, now_s: float, room_bytes: int | None) -> None:
        self.statements = statements
        self.now_s = now_s
        self.bound = {"now_s": now_s, **({} if room_bytes is None else {"room_bytes": room_bytes})}


def _ready(tx: Tx, asked: _Asked) -> list[Candidate]:
    return [
        Candidate(
            priority=row.priority,
            opening=row.opening,
            served_s=decayed(row.served_s, row.served_at, asked.now_s),
            job_id=row.job_id,
            user_id=row.user_id,
            queued=False,
        )
        for row in tx.connection.execute(asked.statements.ready, asked.bound)
    ]


def _queued(tx: Tx, asked: _Asked) -> list[Candidate]:
    return [
        Candidate(
            priority=row.priority,
            opening=True,
            served_s=decayed(row.served_s, row.served_at, asked.now_s),
            job_id=row.job_id,
            user_id=row.user_id,
            queued=True,
        )
        for row in tx.connection.execute(asked.statements.queued, asked.bound)
    ]


def _start(tx: Tx, candidate: Candidate) -> bool:
    """Set a queued job running; False when another claim was faster, or took the tenant's slot."""
    this = jobs.c.id == candidate.job_id
    job = tx.connection.execute(
        sa.select(jobs.c.asset_id)
        .where(this, jobs.c.state == "queued")
        .with_for_update(skip_locked=True)
    ).first()
    if job is None or not take_slot(tx, candidate.user_id):
        return False
    tx.connection.execute(sa.update(jobs).where(this).values(state="running", started_at=tx.now))
    tx.connection.execute(
        sa.update(tasks)
        .where(
            tasks.c.job_id == candidate.job_id,
            tasks.c.state == "blocked",
            tasks.c.waits_for == 0,
        )
        .values(state="ready")
    )
    # An asset that plays goes on playing what it has, be it another job's that runs.
    idle = sa.or_(assets.c.state.in_(("uploaded", "failed")), assets.c.job_id.is_(None))
    tx.connection.execute(
        sa.update(assets)
        .where(assets.c.id == job.asset_id, assets.c.state != "ready", idle)
        .values(state="processing", job_id=candidate.job_id, updated_at=tx.now)
    )
    tell(tx, candidate.job_id, "started", {})
    return True


def _next_task(tx: Tx, candidate: Candidate, asked: _Asked) -> sa.Row[*tuple[Any, ...]] | None:
    """The task that the candidate stands for, locked; None when others have them all."""
    if candidate.queued:
        of_job = {"now_s": asked.now_s, "job_id": candidate.job_id}
        return tx.connection.execute(_NEXT_OF_JOB, of_job).first()
    of_class = {
        **asked.bound,
        "priority": candidate.priority,
        "opening": candidate.opening,
        "user_id": candidate.user_id,
    }
    return tx.connection.execute(asked.statements.next_of_class, of_class).first()


def _take(tx: Tx, row: sa.Row[*tuple[Any, ...]], worker: str, lease_s: float) -> Claim:
    epoch = row.epoch + 1
    taken = Claim(
        task_id=row.id,
        job_id=row.job_id,
        user_id=row.user_id,
        asset_id=row.asset_id,
        kind=row.kind,
        step_id=row.step_id,
        epoch=epoch,
        # The epoch makes it this attempt's. The random part keeps attempts apart even when a
        # database was set back and gives out an epoch twice.
        prefix=f"tasks/{row.job_id}/{row.id}/{epoch}-{secrets.token_hex(4)}",
        owner=worker,
    )
    tx.connection.execute(
        sa.update(tasks)
        .where(tasks.c.id == taken.task_id)
        .values(
            state="running",
            epoch=epoch,
            lease_owner=worker,
            lease_until=tx.now + lease_s,
            started_at=tx.now,
            progress=None,
        )
    )
    tx.connection.execute(
        sa.insert(attempts).values(
            task_id=taken.task_id,
            epoch=epoch,
            job_id=taken.job_id,
            prefix=taken.prefix,
            worker=worker,
            claimed_at=tx.now,
        )
    )
    return taken
