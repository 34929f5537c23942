"""An installation of its own for each test: a data folder, a migrated database, the API over it."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.datastructures import State
from tests.service.databases import (
    clocked,
    database,
    database_url,
    postgres,
    postgres_template,
    stopped,
)
from tests.service.films import film

from telecine.engine.tools import Tools
from telecine.service import logs
from telecine.service.api.app import make_app
from telecine.service.assembly import open_services
from telecine.service.db.connection import Database
from telecine.service.db.migrate import migrate
from telecine.service.passwords import Passwords
from telecine.service.services import Services
from telecine.service.settings import Settings

__all__ = [
    "clocked",
    "database",
    "database_url",
    "film",
    "postgres",
    "postgres_template",
    "stopped",
]

PASSWORD = "a long word that nobody guesses 7"


@pytest.fixture(autouse=True)
def quiet() -> None:
    """What is logged goes where pytest looks for it, not to the terminal."""
    logs.configure(stream=io.StringIO())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", signup="open", workers=0)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a migrated SQLite database: migrating takes longer than most tests."""
    folder = tmp_path_factory.mktemp("empty")
    database = Database(f"sqlite:///{folder / 'telecine.db'}")
    migrate(database)
    database.close()  # the last one out takes the log file along
    return folder


@pytest.fixture(scope="session")
def installed(empty: Path) -> Path:
    """The data folder that each test gets a copy of. A module whose tests begin with the same users
    and things has one of its own, with these in it."""
    return empty


class Clock:
    """The database's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        real = sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double)
        self.now = real + sa.bindparam("ahead_s", callable_=lambda: self.ahead_s, type_=sa.Double)

    def forward(self, seconds: float) -> None:
        self.ahead_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def services_of(
    settings: Settings, tools: Tools, installed: Path, clock: Clock
) -> Iterator[Services]:
    """One process's services over a copy of a data folder, with passwords that are hashed
    quickly."""
    shutil.copytree(installed, settings.data)
    opened = open_services(settings, tools)
    opened.database.close()
    found = dataclasses.replace(
        opened,
        database=Database(settings.database_url, now=clock.now),
        passwords=Passwords(time_cost=1, memory_kib=64, lanes=1),
    )
    try:
        yield found
    finally:
        found.close()


@contextmanager
def filling(data: Path, tools: Tools, empty: Path) -> Iterator[tuple[TestClient, Services]]:
    """A client and services with which a module fills the data folder that is its `installed`."""
    settings = Settings(data=data, signup="open", workers=0)
    with (
        services_of(settings, tools, empty, Clock()) as services,
        TestClient(make_app(services), base_url="http://127.0.0.1:8000") as client,
    ):
        yield client, services


@pytest.fixture
def services(settings: Settings, tools: Tools, installed: Path, clock: Clock) -> Iterator[Services]:
    with services_of(settings, tools, installed, clock) as found:
        yield found


@pytest.fixture(scope="session")
def apps() -> dict[str, FastAPI]:
    """Applications by the settings that they were made with, for one test after the other: what
    FastAPI works out when an application is first asked takes longer than most tests."""
    return {}


@pytest.fixture
def app(services: Services, apps: dict[str, FastAPI]) -> Iterator[FastAPI]:
    """The API over this test's services; routes that the test adds go with it."""
    settings = services.settings.model_dump_json(exclude={"data"})
    found = apps.get(settings) or apps.setdefault(settings, make_app(services))
    routes = list(found.routes)
    # Nothing else stays of the test before.
    found.state = State({"services": services, "streams": found.state.streams})
    yield found
    if found.routes != routes:
        found.routes[:] = routes
        found.openapi_schema = None


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:8000") as found:
        yield found


def sign_up(
    client: TestClient, email: str = "ada@example.org", password: str = PASSWORD, **more: Any
) -> Mapping[str, Any]:
    """A new user and a session of theirs: the answer to the log-in (`access_token`, …), and
    `headers` to send with what they ask."""
    made = client.post("/v1/users", json={"email": email, "password": password, **more})
    assert made.status_code == 201, made.text
    answer = client.post("/v1/sessions", json={"email": email, "password": password})
    assert answer.status_code == 201, answer.text
    tokens = answer.json()
    return {**tokens, "headers": {"Authorization": f"Bearer {tokens['access_token']}"}}
