"""Jobs without an API: a user, an asset and a job by the use cases' own functions, and workers in
this process or in others."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.service import jobs_made

from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.probe import probe
from telecine.engine.serial import to_plain
from telecine.service.db import queue
from telecine.service.db.queue import NewJob, NewTask
from telecine.service.db.tables import assets, events, jobs, segments, tasks, uploads
from telecine.service.domain import new_id
from telecine.service.orders import Digest, Order, make_order, new_job
from telecine.service.services import Services
from telecine.service.worker import Clocks, run_worker

# Of a lease that runs out within a test.
SHORT = Clocks(lease_s=3.0, heartbeat_s=0.5, look_s=0.2, quiet_s=60.0, fence_s=2.5, poll_s=0.2)

WORKER = """
import json, signal, sys, threading
from pathlib import Path

from telecine.service.assembly import open_services
from telecine.service.settings import Settings
from telecine.service.worker import Clocks, run_worker

data, name, clocks = sys.argv[1:]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
services = open_services(Settings(data=Path(data)))
print("ready", flush=True)
run_worker(services, name, once=False, stop=stop, clocks=Clocks(**json.loads(clocks)))
"""


def add_user(services: Services) -> str:
    user_id = new_id()
    with services.database.write() as tx:
        jobs_made.add_user(tx, user_id)
    return user_id


def add_asset(services: Services, source: Path, user_id: str | None = None) -> str:
    """An asset whose upload is complete now."""
    asset_id = new_id()
    key = f"sources/{asset_id}/0"
    stored = services.storage.put_file(key, source)
    owner = user_id or add_user(services)
    with services.database.write() as tx:
        jobs_made.add_asset(
            tx, asset_id, owner, filename=source.name, source_key=key,
            source_size_bytes=stored.size_bytes,
        )  # fmt: skip
    return asset_id


def announce(services: Services, asset_id: str, sha256: str) -> None:
    """The upload that an asset came of, and what its client said that it is."""
    with services.database.write() as tx:
        owner = sa.select(assets.c.user_id).where(assets.c.id == asset_id)
        tx.connection.execute(
            sa.insert(uploads).values(
                id=new_id(),
                user_id=tx.connection.execute(owner).scalar_one(),
                state="finished",
                door="tus",
                filename="film.mp4",
                content_type="video/mp4",
                max_bytes=1,
                sha256=sha256,
                storage_key="incoming/x",
                asset_id=asset_id,
                created_at=tx.now,
                expires_at=tx.now,
            )
        )


class Submitted:
    """A job of an asset's, submitted, and what can be read of it."""

    def __init__(
        self,
        services: Services,
        source: Path,
        outputs: Sequence[Mapping[str, Any]],
        *,
        asset_id: str | None = None,
        digest: Digest = "beside",
        **order: Any,
    ) -> None:
        self.services = services
        self.order: Order = make_order(outputs=outputs, **order)
        self.plan: Plan = make_plan(probe(source, services.tools), self.order.profile)
        self.asset_id = asset_id or add_asset(services, source)
        self.id = new_id()
        with services.database.write() as tx:
            owner = tx.connection.execute(
                sa.select(assets.c.user_id).where(assets.c.id == self.asset_id)
            ).scalar_one()
            media = to_plain(self.plan.source)
            tx.connection.execute(
                sa.update(assets).where(assets.c.id == self.asset_id).values(media=media)
            )
            job = new_job(
                self.order,
                self.plan,
                job_id=self.id,
                user_id=owner,
                asset_id=self.asset_id,
                digest=digest,
            )
            queue.submit(tx, job)
        services.bell.ring("tasks")

    def row(self) -> Any:
        return one(self.services, sa.select(jobs).where(jobs.c.id == self.id))

    def asset(self) -> Any:
        return one(self.services, sa.select(assets).where(assets.c.id == self.asset_id))

    def tasks(self) -> list[Any]:
        return rows(
            self.services,
            sa.select(tasks).where(tasks.c.job_id == self.id).order_by(tasks.c.position),
        )

    def segments(self) -> list[Any]:
        return rows(self.services, sa.select(segments).where(segments.c.job_id == self.id))

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        found = rows(
            self.services,
            sa.select(events).where(events.c.job_id == self.id).order_by(events.c.number),
        )
        return [(row.type, row.data) for row in found]

    def tree(self) -> dict[str, str]:
        """SHA-256 of every file of the finished job."""
        prefix = f"{self.row().prefix}/"
        return {
            key.removeprefix(prefix): digest_of(self.services, key)
            for key in self.services.storage.keys(prefix)
        }


def submit_noops(services: Services, count: int, kind: str = "noop") -> str:
    """A job of tasks that do nothing, or of a kind that there may be one day."""
    user_id, asset_id, job_id = add_user(services), new_id(), new_id()
    with services.database.write() as tx:
        jobs_made.add_asset(tx, asset_id, user_id, source_key=None, source_size_bytes=0)
        task = NewTask(kind, None, False, 1.0, ())
        job = NewJob(job_id, user_id, asset_id, 0, None, [], {}, "keep", None, {}, (task,) * count)
        queue.submit(tx, job)
    return job_id


def rows(services: Services, query: sa.Select[Any]) -> list[Any]:
    with services.database.read() as tx:
        return list(tx.connection.execute(query).all())


def one(services: Services, query: sa.Select[Any]) -> Any:
    (found,) = rows(services, query)
    return found


def count(services: Services, table: sa.Table) -> int:
    """Of its rows."""
    return int(one(services, sa.select(sa.func.count()).select_from(table))[0])


def digest_of(services: Services, key: str) -> str:
    return hashlib.sha256(b"".join(services.storage.read(key))).hexdigest()


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a command-line run left for others to use."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".telecine" not in path.parts
    }


@contextmanager
def working(
    services: Services, name: str = "here", clocks: Clocks = SHORT
) -> Iterator[threading.Event]:
    """A worker in a thread of this process; setting the event stops it."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker,
        args=(services, name),
        kwargs={"once": False, "stop": stop, "clocks": clocks},
    )
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


@contextmanager
def worker_process(
    services: Services, name: str = "other", clocks: Clocks = SHORT
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, killed at the end of the block if it still lives."""
    data = str(services.settings.data)
    argv = [sys.executable, "-c", WORKER, data, name, json.dumps(asdict(clocks))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()
