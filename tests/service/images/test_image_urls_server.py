"""Pictures by signed URL from a real `telecine serve`: what it keeps, what runs in which process,
clients that go away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from tests.processes import tree
from tests.service.images.signed_pictures import Key, key_of, upload
from tests.service.owners import owner_of
from tests.service.pictures import encoded, opened, quarters
from tests.service.running import Running
from tests.waiting import until

from telecine.service.db.connection import Database
from telecine.service.db.tables import derivatives

SLOW = "resize:w=3000,enlarge=1;blur:sigma=20;rotate:angle=33"


@dataclass(frozen=True)
class World:
    """A service with a picture, whose URLs a key signs."""

    service: Running
    client: httpx2.Client
    key: Key
    photo: str

    def path(self, ops: str, ext: str = "jpg") -> str:
        return self.key.path(self.photo, ops, ext)

    def kept(self) -> int:
        """How many pictures are noted and stored."""
        database = Database(f"sqlite:///{self.service.data / 'telecine.db'}")
        with database.read() as tx:
            found = tx.connection.execute(sa.select(derivatives.c.storage_key)).scalars().all()
        database.close()
        return sum((self.service.data / "objects" / "kept" / key).is_file() for key in found)

    def settle(self, kept: int) -> None:
        until(lambda: self.kept() == kept)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        Running(tmp_path_factory.mktemp("pictures") / "data") as service,
        httpx2.Client(base_url=service.base_url, timeout=60) as client,
    ):
        ada = owner_of(client)  # type: ignore[arg-type]
        photo = upload(ada, encoded(quarters(), "PNG"))
        yield World(service, client, key_of(ada), photo)


def ask_and_go_away(service: Running, path: str) -> None:
    host, _, port = service.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        time.sleep(0.3)  # it is in work by then


def libraries(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except FileNotFoundError:
        return ""  # it ended


def test_libvips_runs_in_the_workers_and_never_in_the_api(world: World) -> None:
    before = world.kept()
    assert world.client.get(world.path("blur:sigma=2")).status_code == 200
    assert "libvips" not in libraries(world.service.pid)
    assert any("libvips" in libraries(pid) for pid in tree(world.service.pid)[1:])
    world.settle(before + 1)


def test_a_client_that_goes_away_stops_nobodys_picture(world: World) -> None:
    before = world.kept()
    ask_and_go_away(world.service, world.path(SLOW))
    answer = world.client.get(world.path(SLOW))
    assert answer.status_code == 200
    assert opened(answer.content).format == "JPEG"
    ask_and_go_away(world.service, world.path(f"{SLOW};flip"))
    world.settle(before + 2)  # and it is kept for who comes back


@pytest.mark.thorough
def test_a_restart_keeps_what_was_made(world: World) -> None:
    kept = world.kept() + 1
    first = world.client.get(world.path("resize:w=100"))
    assert first.status_code == 200
    world.settle(kept)
    workers = tree(world.service.pid)[1:]
    assert world.service.stop() == 0
    assert not any(libraries(pid) for pid in workers)
    world.service.start()
    again = httpx2.get(world.service.base_url + world.path("resize:w=100"))
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["etag"] == first.headers["etag"]
    assert tree(world.service.pid)[1:] == []  # found, not made: no worker was started for it
    assert world.kept() == kept
