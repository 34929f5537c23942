"""Transactions on SQLite or PostgreSQL, and the database's clock.

A `Tx` is what repository functions get: the connection and `now`, an SQL expression of the
database's own clock in seconds since 1970. A simulation binds another one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

BUSY_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction. `now` is the same at each use within it on PostgreSQL, and moves on within
    it on SQLite; statements that compare times use it once."""

    connection: sa.Connection
    now: sa.ColumnElement[float]

    @property
    def sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def now_s(self) -> float:
        """The database's time, read now."""
        return float(self.connection.execute(sa.select(self.now)).scalar_one())


class Database:
    """A database by its URL. Safe to use from many threads."""

    def __init__(self, url: str, *, now: sa.ColumnElement[float] | None = None) -> None:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        self.sqlite = parsed.get_backend_name() == "sqlite"
        # SQLite has one writer at a time anyway: threads of one process queue here, in turn, where
        # SQLite itself would let them poll.
        self._writer = threading.Lock() if self.sqlite else None
        self.engine = _sqlite(parsed) if self.sqlite else sa.create_engine(parsed, pool_size=16)
        self._now = now if now is not None else _clock(self.sqlite)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that only reads: one consistent view."""
        with self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN")
            yield Tx(connection, self._now)
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """A transaction that writes: committed when the block ends, undone when it raises."""
        if self._writer is None:
            with self.engine.begin() as connection:
                yield Tx(connection, self._now)
            return
        with self._writer, self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield Tx(connection, self._now)
            connection.commit()

    def close(self) -> None:
        self.engine.dispose()


def _clock(sqlite: bool) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock, to the millisecond or better."""
    # Debian's SQLite has no sub-second `unixepoch`; a Julian day in double precision is exact to
    # 50 microseconds.
    text = (
        "(julianday('now') - 2440587.5) * 86400.0"
        if sqlite
        else "cast(extract(epoch from clock_timestamp()) as double precision)"
    )
    return sa.literal_column(text, sa.Double)


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=32)
    if not url.database:
        engine = sa.create_engine(url, poolclass=NullPool)

    @sa.event.listens_for(engine, "connect")
    def on_connect(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # the driver opens no transactions of its own: we say BEGIN
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")

    return engine
