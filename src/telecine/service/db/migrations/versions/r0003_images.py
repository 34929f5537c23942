"""What an asset is (a film, sound, a picture), and what was found in a picture."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# What the probe found says whether there is a picture in it: no video stream, no film.
SOUND = {
    "sqlite": sa.text("json_array_length(media, '$.video') = 0"),
    "postgresql": sa.text("json_array_length(media -> 'video') = 0"),
}


def upgrade() -> None:
    kind = sa.Column("kind", sa.String(length=32), nullable=False, server_default="video")
    image = sa.Column("image", sa.JSON(), nullable=True)
    dialect = op.get_bind().dialect.name
    if dialect == "sqlite":
        # They would stand last, behind the long probe result, through which SQLite walks to them.
        with op.batch_alter_table("assets", recreate="always") as assets:
            assets.add_column(kind, insert_after="visibility")
            assets.add_column(image, insert_after="summary")
    else:
        op.add_column("assets", kind)
        op.add_column("assets", image)
    assets_now = sa.table("assets", sa.column("kind"))
    op.execute(sa.update(assets_now).where(SOUND[dialect]).values(kind="audio"))


def downgrade() -> None:
    with op.batch_alter_table("assets") as assets:
        assets.drop_column("image")
        assets.drop_column("kind")
