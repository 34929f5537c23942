"""A real film, probed once, and assets of it; jobs that end without an encoder: what the tests of
jobs, assets and downloads work on."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.service.jobs_made import add_asset

from telecine.engine.media import MediaInfo
from telecine.engine.probe import probe
from telecine.engine.report import describe
from telecine.engine.serial import to_plain
from telecine.engine.tools import Tools
from telecine.service.db import queue
from telecine.service.db.queue import Claim, NewOutput
from telecine.service.db.tables import tasks
from telecine.service.domain import new_id
from telecine.service.services import Services


@dataclass(frozen=True, slots=True)
class Film:
    path: Path
    info: MediaInfo


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Film:
    """3 s of 640×360 at 25 frames a second with a tone: H.264 and AAC in MP4."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    made = [
        *(str(tools.ffmpeg), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "3"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50"),
        *("-c:a", "aac", "-ac", "2", str(path)),
    ]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    return Film(path, probe(path, tools))


def add_film(services: Services, user_id: str, film: Film, **columns: Any) -> str:
    """An asset of this user with the film as its source, as an upload leaves it; its id."""
    asset_id = new_id()
    services.storage.put_file(f"sources/{asset_id}", film.path)
    values: dict[str, Any] = {
        "title": "A film",
        "filename": film.path.name,
        "source_size_bytes": film.path.stat().st_size,
        "media": to_plain(film.info),
        "summary": list(describe(film.info)),
        "duration_s": float(film.info.duration_s),
        **columns,
    }
    with services.database.write() as tx:
        add_asset(tx, asset_id, user_id, **values)
    return asset_id


def claim(services: Services) -> Claim:
    """The next task."""
    with services.database.write() as tx:
        found = queue.claim(tx, "a worker")
    assert found is not None
    return found


def commit(services: Services, held: Claim, files: Mapping[str, bytes] | None = None) -> None:
    """End a task well; `finish` leaves these files as outputs of the kind that their names say."""
    kinds = {".mp4": "mp4", ".jpg": "poster", ".mp3": "mp3", ".m3u8": "hls"}
    outputs = []
    for path, data in (files or {}).items():
        services.storage.put_bytes(f"{held.prefix}/{path}", data)
        kind = kinds[Path(path).suffix]
        digest = hashlib.sha256(data).hexdigest()
        outputs.append(NewOutput(kind, path, "video/mp4", len(data), digest, {"width": 640}))
    with services.database.write() as tx:
        prefix = held.prefix if held.kind == "finish" else None
        assert queue.commit(tx, held, result={}, outputs=outputs, job_prefix=prefix)


def fail(services: Services, held: Claim, code: str = "encode_failed") -> None:
    """End a task for good."""
    with services.database.write() as tx:
        assert queue.fail(tx, held, code=code, message="FFmpeg ended with 1", retryable=False)


def run_to_end(services: Services, job_id: str, files: Mapping[str, bytes]) -> None:
    """Do all tasks of the only job that there is work of, and leave these files."""
    while True:
        with services.database.write() as tx:
            held = queue.claim(tx, "a worker")
        if held is None:
            break
        assert held.job_id == job_id
        commit(services, held, files if held.kind == "finish" else None)


def set_progress(services: Services, held: Claim, done_s: float) -> None:
    """What a heartbeat says."""
    with services.database.write() as tx:
        assert queue.heartbeat(tx, held, {"done_s": done_s}) is not None


def task_states(services: Services, job_id: str) -> dict[str, str]:
    """Step, or kind → state."""
    with services.database.read() as tx:
        rows = tx.connection.execute(
            sa.select(tasks.c.step_id, tasks.c.kind, tasks.c.state)
            .where(tasks.c.job_id == job_id)
            .order_by(tasks.c.position)
        )
        return {step_id or kind: state for step_id, kind, state in rows}


def read_events(text: str) -> list[tuple[int | None, str, dict[str, Any]]]:
    """(number, name, data) of a stream of server-sent events, comments left out; read by the
    letter of the HTML standard, 9.2.6."""
    found = []
    for block in text.split("\n\n"):
        number, name, data = None, "message", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                number = int(value)
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
        if data:
            found.append((number, name, json.loads("\n".join(data))))
    return found
