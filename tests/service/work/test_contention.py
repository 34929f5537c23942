"""Four workers that commit as fast as they can, and fifty clients, on one SQLite file: whoever
waits for the database waits inside, and no client hears of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from tests.service.conftest import PASSWORD
from tests.service.running import Running
from tests.service.uploading import song
from tests.service.working import one, rows, submit_noops

from telecine.client import Client
from telecine.engine.tools import Tools
from telecine.service.assembly import open_services
from telecine.service.db.tables import attempts, tasks
from telecine.service.settings import Settings

WORKERS = 4
CLIENTS = 50
DURATION_S = 8.0
JOBS, NOOPS = 20, 200

# (method, path, status) → how often; the path without ids.
Answers = Counter[tuple[str, str, int]]


class Visitor:
    """One of the clients, with a connection of its own: it reads, and writes in every round."""

    def __init__(self, url: str, key: str, asset_id: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=60)
        self._asset_id = asset_id
        self.answers: Answers = Counter()
        self.told: list[str] = []

    def stay(self, begin: threading.Barrier) -> None:
        """Ask until the time is over, and at least one round."""
        with self._client:
            begin.wait()
            until_s = time.monotonic() + DURATION_S
            while not self.answers or time.monotonic() < until_s:
                self._round()

    def _round(self) -> None:
        order = {"asset_id": self._asset_id, "outputs": [{"type": "mp3"}]}
        job_id = self._ask("POST", "/v1/jobs", "", json=order)["id"]
        self._ask("GET", "/v1/jobs", f"/{job_id}")
        self._ask("POST", "/v1/jobs", f"/{job_id}/cancel")
        self._ask("GET", "/v1/jobs", "?limit=10")
        announced = {"filename": "film.mp4", "size_bytes": 1000}
        upload_id = self._ask("POST", "/v1/uploads", "", json=announced)["id"]
        self._ask("PATCH", "/v1/assets", f"/{self._asset_id}", json={"title": upload_id})
        self._ask("DELETE", "/v1/uploads", f"/{upload_id}")

    def _ask(self, method: str, path: str, rest: str, **more: object) -> dict[str, str]:
        answer = self._client.request(method, path + rest, **more)  # type: ignore[arg-type]
        self.answers[method, path, answer.status_code] += 1
        ended = answer.status_code == 409 and rest.endswith("/cancel")  # a worker was quicker
        if (answer.status_code >= 400 and not ended) or "locked" in answer.text:
            self.told.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else {}


@pytest.mark.thorough
def test_no_client_hears_of_a_locked_database(tmp_path: Path, tools: Tools) -> None:
    data = tmp_path / "data"
    with Running(data, workers=WORKERS) as running:
        film = tmp_path / "song.wav"
        film.write_bytes(song())
        with Client(running.base_url) as anyone:
            anyone.sign_up("ada@example.org", PASSWORD)
            anyone.log_in("ada@example.org", PASSWORD)
            key = anyone.create_api_key("fifty").secret
            asset_id = anyone.upload(film).asset_id
        assert asset_id is not None
        services = open_services(Settings(data=data), tools)
        noops = [submit_noops(services, NOOPS) for _ in range(JOBS)]
        services.bell.ring("tasks")
        done = sa.select(sa.func.count()).where(
            tasks.c.job_id.in_(noops), tasks.c.state == "succeeded"
        )
        begin = threading.Barrier(CLIENTS + 1)
        visitors = [Visitor(running.base_url, key, asset_id) for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            stays = [pool.submit(visitor.stay, begin) for visitor in visitors]
            begin.wait()
            before = one(services, done)[0]
        for stay in stays:
            stay.result()
        after = one(services, done)[0]
        workers = {
            row.worker
            for row in rows(
                services,
                sa.select(attempts.c.worker).where(attempts.c.job_id.in_(noops)).distinct(),
            )
        }
        services.database.close()
    told = [line for visitor in visitors for line in visitor.told]
    answers = sum((visitor.answers for visitor in visitors), Answers())
    print(f"{sum(answers.values())} answers, {after - before} tasks meanwhile, by {workers}")
    assert told == []
    assert after > before  # or nothing contended
    assert len(workers) == WORKERS
    assert "database is locked" not in running.log.read_text()
