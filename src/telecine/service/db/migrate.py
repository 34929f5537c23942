"""Brings a database to the tables of this version: all of it or nothing, one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from telecine.service.db.connection import Database
from telecine.service.domain import Unavailable

FOLDER = Path(__file__).with_name("migrations")

_PG_LOCK = 0x7E1EC14E  # an advisory lock's name: any number that nobody else takes


def migrate(database: Database, to: str = "head") -> None:
    """Run the revisions up, or down, to `to` ("head", "base" or a revision), in one transaction.

    Waits for another process that does the same. Raises `Unavailable` (`database_newer`) where a
    newer version of Telecine made the database, and what the database raises; then nothing has
    changed.
    """
    with _locked(database) as connection:
        there = _revision(connection)
        if there is not None and there not in _known():
            raise Unavailable(
                f"the database is of a newer Telecine (revision {there}): start that one",
                code="database_newer",
            )
        config = _config()
        config.attributes["connection"] = connection
        run = command.downgrade if to == "base" or _is_below(to, there) else command.upgrade
        run(config, to)


def is_current(database: Database) -> bool:
    """Whether the database is what this version of Telecine works with."""
    with database.read() as tx:
        if not sa.inspect(tx.connection).has_table("alembic_version"):
            return False
        there = tx.connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return there == _head(FOLDER)


@contextmanager
def _locked(database: Database) -> Iterator[sa.Connection]:
    """One transaction for all revisions, alone in the world."""
    with _file_locked(database), database.engine.connect() as connection:
        if database.sqlite:
            # Making a table anew drops the old one, which must not take along what refers to it.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PG_LOCK)))
        try:
            yield connection
            connection.commit()
        finally:
            if database.sqlite:
                connection.rollback()
                connection.exec_driver_sql("PRAGMA foreign_keys=ON")


@contextmanager
def _file_locked(database: Database) -> Iterator[None]:
    """SQLite's own lock gives up after a while; a file's lock waits for as long as it takes."""
    if not database.sqlite or not database.url.database:
        yield
        return
    with Path(f"{database.url.database}.migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def _head(_folder: Path) -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _known() -> set[str]:
    return {one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()}


def _is_below(to: str, there: str | None) -> bool:
    if to == "head" or there is None:
        return False
    script = ScriptDirectory.from_config(_config())
    return to in {one.revision for one in script.iterate_revisions(there, "base")}
