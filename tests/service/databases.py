"""A fresh database for each test, on SQLite and on PostgreSQL alike.

PostgreSQL is a server of the test run's own (`scripts/servers.py`), or the one that
`TELECINE_TEST_POSTGRESQL` names. A test that lacks it says so, and fails when CI=true.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from scripts.servers import postgres_binaries, start_postgres, stop_postgres

from telecine.service.db.connection import Database, Tx
from telecine.service.db.tables import metadata


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """A PostgreSQL server's database `postgres`, in which others can be made."""
    known = os.environ.get("TELECINE_TEST_POSTGRESQL")
    if known:
        yield _url(known)
        return
    if postgres_binaries() is None:
        why = "not run: needs PostgreSQL; `scripts/services start postgres` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    # Not below pytest's folder, which the server's user may not enter.
    with tempfile.TemporaryDirectory(prefix="telecine-", ignore_cleanup_errors=True) as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "postgres"
        try:
            yield _url(start_postgres(folder))
        finally:
            stop_postgres(folder)


@pytest.fixture(scope="session")
def postgres_template(postgres: sa.URL) -> Iterator[tuple[sa.URL, str]]:
    """The server, and the name of a database with every table and no rows, to be copied."""
    with fresh_database(postgres) as made:
        engine = sa.create_engine(made)
        metadata.create_all(engine)
        engine.dispose()
        assert made.database is not None
        yield postgres, made.database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database's URL, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'fresh.db'}"
        database = Database(url)
        metadata.create_all(database.engine)
        database.close()
        yield url
        return
    server, template = request.getfixturevalue("postgres_template")
    with fresh_database(server, template) as made:
        yield made.render_as_string(hide_password=False)


class StoppedClock:
    """A database's clock that stands still until it is told to go."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def expression(self) -> sa.ColumnElement[float]:
        return sa.bindparam("clock", callable_=lambda: self.now_s, type_=sa.Double)


@pytest.fixture
def stopped() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def clocked(database_url: str, stopped: StoppedClock) -> Iterator[Database]:
    """A fresh database with this test's clock, once on SQLite and once on PostgreSQL."""
    opened = Database(database_url, now=stopped.expression())
    yield opened
    opened.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh database, once on SQLite and once on PostgreSQL."""
    opened = Database(database_url)
    yield opened
    opened.close()


class Steps:
    """What SQLite's virtual machine has done: a cost that does not depend on the machine's load."""

    taken = 0

    def count(self) -> None:
        self.taken += 1


@contextmanager
def counted_steps(tx: Tx) -> Iterator[Steps]:
    """Of what the block does in this transaction."""
    steps = Steps()
    raw: Any = tx.connection.connection.driver_connection
    raw.set_progress_handler(steps.count, 1)
    try:
        yield steps
    finally:
        raw.set_progress_handler(None, 0)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a database was asked."""

    text: str
    parameters: Any
    thread: str


@contextmanager
def statements(database: Database) -> Iterator[list[Statement]]:
    """All that the database is asked meanwhile, by this process."""
    said: list[Statement] = []

    def note(_c: Any, _u: Any, text: str, parameters: Any, *_: Any) -> None:
        said.append(Statement(text, parameters, threading.current_thread().name))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)


def _url(text: str) -> sa.URL:
    return sa.make_url(text).set(drivername="postgresql+psycopg")


@contextmanager
def fresh_database(server: sa.URL, template: str = "template1") -> Iterator[sa.URL]:
    """A database on the server, dropped at the end, whoever is still connected."""
    name = f"telecine_{secrets.token_hex(6)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.set(database=name)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        engine.dispose()
