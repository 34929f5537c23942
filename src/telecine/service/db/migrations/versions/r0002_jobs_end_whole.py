"""Which FFmpeg makes a job's steps; which attempts nobody needs; no table of doorbells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


# Needed is what writes, what readers follow, what a job may yet go on from, and finished files.
UNNEED = """
UPDATE attempts SET unneeded_at = coalesce(ended_at, claimed_at) WHERE NOT (
EXISTS (SELECT 1 FROM tasks t JOIN jobs j ON j.id = t.job_id WHERE t.id = attempts.task_id AND (
    (t.epoch = attempts.epoch AND t.state = 'running') OR
    (t.prefix = attempts.prefix AND j.state IN ('queued', 'running', 'failed'))))
OR EXISTS (SELECT 1 FROM segments s WHERE s.job_id = attempts.job_id
    AND s.task_id = attempts.task_id AND s.epoch = attempts.epoch)
OR EXISTS (SELECT 1 FROM jobs j WHERE j.id = attempts.job_id AND j.prefix = attempts.prefix))
"""


def upgrade() -> None:
    op.drop_table("outbox")
    made_with = sa.Column("made_with", sa.String(length=200), nullable=True)
    unneeded_at: sa.Column[float] = sa.Column("unneeded_at", sa.Double(), nullable=True)
    op.drop_index("ix_attempts_collected_at", table_name="attempts")
    if op.get_bind().dialect.name == "sqlite":
        # It would stand last, behind the long plan, through which SQLite walks to reach it.
        with op.batch_alter_table("jobs", recreate="always") as jobs:
            jobs.add_column(made_with, insert_after="retries")
        with op.batch_alter_table("attempts", recreate="always") as attempts:
            attempts.add_column(unneeded_at)
    else:
        op.add_column("jobs", made_with)
        op.add_column("attempts", unneeded_at)
    op.execute(UNNEED)
    op.create_index(
        "ix_attempts_collected_at_unneeded_at", "attempts", ["collected_at", "unneeded_at"]
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_collected_at_unneeded_at", table_name="attempts")
    with op.batch_alter_table("attempts") as attempts:
        attempts.drop_column("unneeded_at")
    op.create_index("ix_attempts_collected_at", "attempts", ["collected_at", "claimed_at"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("made_with")
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
