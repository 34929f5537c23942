"""What tests run in processes of their own. A module of its own, because a spawned
process imports it by its name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from telecine.client import Client
from telecine.client.home import CredentialsFile
from telecine.service.db import queue
from telecine.service.db.connection import Database
from telecine.service.db.migrate import is_current, migrate
from telecine.service.dispatch.local import LocalBell

IDLE_ROUNDS = 5


def work_noops(url: str, number: int, together: Any, results: Any) -> None:
    """When all are there, claim and commit until nothing comes. Puts (number, [(task, epoch) …],
    error or None)."""
    database = Database(url)
    done: list[tuple[str, int]] = []
    error = None
    try:
        together.wait(300)
        idle = 0
        while idle < IDLE_ROUNDS:
            with database.write() as tx:
                held = queue.claim(tx, f"w{number}")
            if held is None:
                idle += 1
                time.sleep(0.02)
                continue
            idle = 0
            with database.write() as tx:
                assert queue.commit(tx, held, result={})
            done.append((held.task_id, held.epoch))
    except BaseException as caught:
        error = repr(caught)
    finally:
        database.close()
    results.put((number, done, error))


def ring(folder: Path, queue_name: str) -> None:
    LocalBell(folder).ring(queue_name)


def migrate_together(url: str, together: Any, results: Any) -> None:
    """Puts whether the database is current then, or what went wrong."""
    database = Database(url)
    found: bool | str
    try:
        together.wait(60)
        migrate(database)
        found = is_current(database)
    except BaseException as caught:
        found = repr(caught)
    finally:
        database.close()
    results.put(found)


def ask_together(url: str, credentials: Path, job_id: str, together: Any, results: Any) -> None:
    """Puts the id of the job that a client found with this file, or what went wrong."""
    found: str
    try:
        with Client(url, keeper=CredentialsFile(credentials)) as client:
            together.wait(60)
            found = client.job(job_id).id
    except BaseException as caught:
        found = repr(caught)
    results.put(found)
