"""300 MB through each door of a server of its own: its memory stays where it was.

`TELECINE_LONG=1` runs it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.conftest import PASSWORD
from tests.service.uploading import multipart, patch, tus

LONG = os.environ.get("TELECINE_LONG") == "1"
pytestmark = pytest.mark.skipif(not LONG, reason="TELECINE_LONG=1 runs it")

SIZE = 300_000_000
GROWTH = 60_000_000
PIECE = bytes(1 << 16)

SERVER = """
import sys
from pathlib import Path
import uvicorn
from telecine.service.api.app import make_app
from telecine.service.assembly import open_services
from telecine.service.db import tables
from telecine.service.settings import Settings

data, port = sys.argv[1:]
services = open_services(
    Settings(data=Path(data), port=int(port), signup="open", workers=0, max_upload_bytes=10**9)
)
tables.metadata.create_all(services.database.engine)
uvicorn.run(make_app(services), port=int(port), log_level="warning")
"""


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pieces(size: int) -> Iterator[bytes]:
    for start in range(0, size, len(PIECE)):
        yield PIECE[: size - start]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-c", SERVER, str(tmp_path / "data"), str(port)]
    with subprocess.Popen(words) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def by_tus(client: httpx2.Client, login: dict[str, str]) -> httpx2.Response:
    made = client.post("/v1/tus", headers=tus(login, upload_length=str(SIZE)))
    headers = {**patch(login, 0), "Content-Length": str(SIZE)}
    return client.patch(made.headers["location"], headers=headers, content=pieces(SIZE))


def by_parts(client: httpx2.Client, login: dict[str, str]) -> httpx2.Response:
    wish = {"filename": "film.mp4", "size_bytes": SIZE}
    upload = client.post("/v1/uploads", headers=login, json=wish).json()
    url = f"/v1/uploads/{upload['id']}"
    numbers = list(range(1, upload["part_count"] + 1))
    for part in client.post(f"{url}/parts", headers=login, json={"numbers": numbers}).json()[
        "data"
    ]:
        body = bytes(part["size_bytes"])
        put = client.put(part["url"], content=body)
        assert put.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    return client.post(f"{url}/complete", headers=login)


def by_form(client: httpx2.Client, login: dict[str, str]) -> httpx2.Response:
    return send_form(client, "/v1/uploads/form", {}, login)


def by_post(client: httpx2.Client, login: dict[str, str]) -> httpx2.Response:
    made = client.post(
        "/v1/uploads/presigned-post", headers=login, json={"content_type": "audio/*"}
    )
    return send_form(client, "/v1/uploads/post", made.json()["fields"], {})


def send_form(
    client: httpx2.Client, url: str, fields: dict[str, str], login: dict[str, str]
) -> httpx2.Response:
    before, _, after = multipart("XX", fields, "film.wav", b"|FILE|").partition(b"|FILE|")

    def body() -> Iterator[bytes]:
        yield before
        yield from pieces(SIZE)
        yield after

    kind = {**login, "Content-Type": "multipart/form-data; boundary=XX"}
    return client.post(url, headers=kind, content=body())


@pytest.mark.parametrize("door", [by_tus, by_parts, by_form, by_post])
def test_memory_stays_flat(door: Any, server: tuple[int, str]) -> None:
    pid, url = server
    with httpx2.Client(base_url=url, timeout=300) as client:
        user = {"email": "ada@example.org", "password": PASSWORD}
        assert client.post("/v1/users", json=user).status_code == 201
        token = client.post("/v1/sessions", json=user).json()["access_token"]
        login = {"Authorization": f"Bearer {token}"}
        warm = {"file": ("a.wav", bytes(100_000), "audio/wav")}
        client.post("/v1/uploads/form", headers=login, files=warm)  # what is loaded on first use
        before = resident(pid)
        peak, done = before, threading.Event()

        def weigh() -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, resident(pid))

        scale = threading.Thread(target=weigh)
        scale.start()
        try:
            answer = door(client, login)
        finally:
            done.set()
            scale.join()
    # Zeros are no media: all of them came, and were looked at.
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("not_media", "format_refused")
    assert peak - before < GROWTH, f"{(peak - before) / 1e6:.0f} MB more"
