"""Transactions on SQLite or PostgreSQL, and the database's clock.

A `Tx` is what repository functions get: the connection and `now`, an SQL expression of the
database's own clock in seconds since 1970. A simulation binds another one.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from telecine.service.domain import Unavailable

BUSY_TIMEOUT_S = 30.0
# How long a writer of another process is waited for before asking again. SQLite's own waiting
# backs off to 100 ms; a transaction here takes a few.
BUSY_PAUSE_S = (0.0005, 0.004)


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction. `now` is the same wherever one statement uses it, and moves on from one to
    the next."""

    connection: sa.Connection
    now: sa.ColumnElement[float]

    @property
    def sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def now_s(self) -> float:
        """The database's time, read now."""
        return float(self.connection.execute(sa.select(self.now)).scalar_one())


# What else belongs to the request at hand: done in its transaction, just before the commit, and
# undoing all of it by raising (an idempotency key's row).
joining: ContextVar[Callable[[Tx], None] | None] = ContextVar("joining", default=None)


def _join(tx: Tx) -> None:
    join = joining.get()
    if join is not None:
        join(tx)


class Database:
    """A database by its URL. Safe to use from many threads, and from many processes that each
    opened it themselves."""

    def __init__(self, url: str, *, now: sa.ColumnElement[float] | None = None) -> None:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        self.sqlite = parsed.get_backend_name() == "sqlite"
        # SQLite has one writer at a time anyway: threads of one process queue here, in turn, where
        # SQLite itself would let them poll.
        self._writer = threading.Lock() if self.sqlite else None
        self.engine = _sqlite(parsed) if self.sqlite else _server(parsed)
        self._now = now if now is not None else _clock(self.sqlite)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that only reads: one consistent view. Raises `Unavailable`
        (`database_unavailable`), also where the database goes away meanwhile."""
        with self._connected() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield Tx(connection, self._now)
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """A transaction that writes: committed when the block ends, undone when it raises. Raises
        `Unavailable` (`database_unavailable`), also where the database goes away meanwhile: in the
        commit itself that leaves open whether it took place."""
        if self._writer is None:
            with self._connected() as connection, connection.begin():
                yield (tx := Tx(connection, self._now))
                _join(tx)
            return
        with self._writer, self._connected() as connection:
            _begin_immediate(connection)
            yield (tx := Tx(connection, self._now))
            _join(tx)
            connection.commit()

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            if _is_wrong_sql(error):
                raise
            raise _unavailable("the database is not there just now") from error


def _clock(sqlite: bool) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock, to the millisecond or better."""
    # Debian's SQLite has no sub-second `unixepoch`; a Julian day in double precision is exact to
    # 50 microseconds. PostgreSQL's clock_timestamp() moves within a statement, so that no index
    # can serve a comparison with it; its now() stands still while a transaction waits.
    text = (
        "((julianday('now') - 2440587.5) * 86400.0)"
        if sqlite
        else "cast(extract(epoch from statement_timestamp()) as double precision)"
    )
    return sa.literal_column(text, sa.Double)


def _begin_immediate(connection: sa.Connection) -> None:
    """Become SQLite's one writer, after whoever is it now."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except sa.exc.OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                if time.monotonic() > deadline:
                    raise _unavailable("another process keeps the database busy") from error
            time.sleep(random.uniform(*BUSY_PAUSE_S))  # noqa: S311 - spreads those who wait
    finally:
        # Whatever else may find the file busy, such as a checkpoint, waits as SQLite does.
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")


def _is_wrong_sql(error: sa.exc.SQLAlchemyError) -> bool:
    """SQLite counts a statement that makes no sense among the faults of its operation."""
    orig = getattr(error, "orig", None)
    return getattr(orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, code="database_unavailable")


def _server(url: sa.URL) -> sa.Engine:
    # A connection that a restarted server has forgotten is noticed before it is used.
    # An error's text goes to the log, and a statement's values may be secrets: they are hidden.
    return sa.create_engine(
        url, pool_size=16, max_overflow=16, pool_pre_ping=True, hide_parameters=True
    )


def _lower(text: object) -> object:
    return text.lower() if isinstance(text, str) else text


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=32, hide_parameters=True
        )
    else:  # in memory: the one connection is the database
        engine = sa.create_engine(
            url, connect_args={"check_same_thread": False}, poolclass=StaticPool
        )

    @sa.event.listens_for(engine, "connect")
    def on_connect(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # the driver opens no transactions of its own: we say BEGIN
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")
        # SQLite's own knows the letters A to Z alone: a search for "über" is to find "ÜBER".
        raw.create_function("lower", 1, _lower, deterministic=True)

    return engine
