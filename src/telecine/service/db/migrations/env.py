"""Alembic runs this file: it hands the revisions the connection that `db/migrate.py` opened."""

from __future__ import annotations

from alembic import context

from telecine.service.db.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite can undo DDL as well; it cannot alter a table, which is made anew instead.
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
