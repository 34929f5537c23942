"""Which FFmpeg makes a job's steps; doorbells are rung or not, and no table keeps them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_table("outbox")
    made_with = sa.Column("made_with", sa.String(length=200), nullable=True)
    if op.get_bind().dialect.name == "sqlite":
        # It would stand last, behind the long plan, through which SQLite walks to reach it.
        with op.batch_alter_table("jobs", recreate="always") as jobs:
            jobs.add_column(made_with, insert_after="retries")
    else:
        op.add_column("jobs", made_with)


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("made_with")
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
