"""What each tenant's jobs do just now, and how much service it had lately."""

from __future__ import annotations

import sqlalchemy as sa

from telecine.service.db.connection import Tx
from telecine.service.db.tables import tenants, users

HALF_LIFE_S = 3600.0


def decayed(served_s: float, served_at: float, now_s: float) -> float:
    """What service of `served_s` at `served_at` still counts: half of it an hour later."""
    # The exponent is bound: a clock set back must not make a tenant of long ago look greedy.
    return served_s * float(0.5 ** (max(now_s - served_at, 0.0) / HALF_LIFE_S))


def know(tx: Tx, user_id: str, max_running_jobs: int) -> None:
    """Have a row for the user, with the limit that holds now: the user's own, or this one."""
    limit = sa.func.coalesce(
        sa.select(users.c.max_running_jobs).where(users.c.id == user_id).scalar_subquery(),
        max_running_jobs,
    )
    limited = sa.update(tenants).where(tenants.c.user_id == user_id)
    limited = limited.values(max_running_jobs=limit)
    if tx.connection.execute(limited).rowcount:
        return
    # Of two first jobs one waits here, and then finds the other's row.
    user = sa.select(users.c.id).where(users.c.id == user_id).with_for_update(key_share=True)
    tx.connection.execute(user).one()
    if tx.connection.execute(limited).rowcount == 0:
        row = {"user_id": user_id, "max_running_jobs": limit}
        tx.connection.execute(sa.insert(tenants).values(row))


def serve(tx: Tx, user_id: str, held_s: float) -> None:
    """Count the seconds for which a worker was held."""
    now_s = tx.now_s()
    of_tenant = tenants.c.user_id == user_id
    row = tx.connection.execute(
        sa.select(tenants.c.served_s, tenants.c.served_at)
        .where(of_tenant)
        .with_for_update(key_share=True)
    ).first()
    if row is None:
        return  # the user was deleted meanwhile
    served_s = decayed(row.served_s, row.served_at, now_s) + max(held_s, 0.0)
    tx.connection.execute(
        sa.update(tenants).where(of_tenant).values(served_s=served_s, served_at=now_s)
    )


def count(tx: Tx, user_id: str, *, queued: int = 0, running: int = 0) -> None:
    """Correct the tenant's counters by so many jobs."""
    tx.connection.execute(
        sa.update(tenants)
        .where(tenants.c.user_id == user_id)
        .values(
            queued_jobs=tenants.c.queued_jobs + queued,
            running_jobs=tenants.c.running_jobs + running,
        )
    )


def take_slot(tx: Tx, user_id: str) -> bool:
    """One of the tenant's queued jobs starts, unless as many run as may."""
    return bool(
        tx.connection.execute(
            sa.update(tenants)
            .where(
                tenants.c.user_id == user_id,
                tenants.c.running_jobs < tenants.c.max_running_jobs,
            )
            .values(queued_jobs=tenants.c.queued_jobs - 1, running_jobs=tenants.c.running_jobs + 1)
        ).rowcount
    )
