"""Keys that sign URLs of pictures, and the pictures that were made for such URLs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "image_keys",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_image_keys_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_keys")),
    )
    op.create_index("ix_image_keys_user_id", "image_keys", ["user_id"], unique=False)
    op.create_table(
        "derivatives",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("storage_key", sa.String(length=300), nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_derivatives")),
    )
    op.create_index(
        "ix_derivatives_used_at", "derivatives", ["used_at", "size_bytes"], unique=False
    )
    op.create_table(
        "derivative_uses",
        sa.Column("asset_id", sa.String(length=26), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["assets.id"],
            name=op.f("fk_derivative_uses_asset_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["derivatives.digest"],
            name=op.f("fk_derivative_uses_digest"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", "request", name=op.f("pk_derivative_uses")),
    )
    op.create_index("ix_derivative_uses_digest", "derivative_uses", ["digest"], unique=False)


def downgrade() -> None:
    op.drop_table("derivative_uses")
    op.drop_table("derivatives")
    op.drop_table("image_keys")
