"""Users, assets and jobs of no-op tasks, straight into the tables: what the queue is tested on."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from telecine.service.db.connection import Database, Tx
from telecine.service.db.queue import NewJob, NewTask, submit
from telecine.service.db.tables import assets, users
from telecine.service.domain import new_id


def add_user(tx: Tx, user_id: str, *, max_running_jobs: int | None = None) -> None:
    tx.connection.execute(
        sa.insert(users).values(
            id=user_id,
            email=f"{user_id}@example.org",
            password_hash="none",
            role="user",
            max_running_jobs=max_running_jobs,
            created_at=tx.now,
        )
    )


def add_asset(tx: Tx, asset_id: str, user_id: str, **columns: Any) -> None:
    """As an upload that is complete now leaves it; but for `columns`."""
    values: dict[str, Any] = {
        "state": "uploaded",
        "visibility": "private",
        "title": "a film",
        "filename": "film.mp4",
        "content_type": "video/mp4",
        "source_key": f"sources/{asset_id}",
        "source_size_bytes": 1,
        "uploaded_at": tx.now,
        "created_at": tx.now,
        "updated_at": tx.now,
        **columns,
    }
    tx.connection.execute(sa.insert(assets).values(id=asset_id, user_id=user_id, **values))


def task(*needs: int, opening: bool = False, kind: str = "noop") -> NewTask:
    return NewTask(kind=kind, step_id=None, opening=opening, weight_s=1.0, needs=needs)


# A first step, two that need it, and the end that needs all.
DIAMOND = (task(opening=True), task(0), task(0), task(0, 1, 2, kind="finish"))


def make_job(
    user_id: str,
    asset_id: str,
    tasks: tuple[NewTask, ...] = DIAMOND,
    *,
    job_id: str | None = None,
    priority: int = 0,
    source_policy: str = "keep",
) -> NewJob:
    return NewJob(
        id=job_id or new_id(),
        user_id=user_id,
        asset_id=asset_id,
        priority=priority,
        preset="stream",
        outputs=[{"type": "hls"}],
        metadata={},
        source_policy=source_policy,
        plan="{}",
        plan_summary={},
        tasks=tasks,
    )


def queue_job(
    database: Database,
    user_id: str,
    tasks: tuple[NewTask, ...] = DIAMOND,
    *,
    priority: int = 0,
    job_id: str | None = None,
    source_policy: str = "keep",
) -> NewJob:
    """A queued job of a new asset of this user, who is made when absent."""
    asset_id = new_id()
    with database.write() as tx:
        known = tx.connection.execute(sa.select(users.c.id).where(users.c.id == user_id)).first()
        if known is None:
            add_user(tx, user_id)
        add_asset(tx, asset_id, user_id)
        job = make_job(
            user_id,
            asset_id,
            tasks,
            job_id=job_id,
            priority=priority,
            source_policy=source_policy,
        )
        submit(tx, job)
    return job
