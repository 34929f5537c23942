"""Keeps the installation going and clean: sweeps leases that ran out, collects what nobody needs.

Any number of processes may run it at once, and all of it may run twice. A worker that was paused
may write after its bytes were collected; that is why collecting goes on for ever.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path

from telecine.service import uploads
from telecine.service.db import attempts, leftovers, queue
from telecine.service.dispatch.bell import EVENTS, TASKS
from telecine.service.domain import Unavailable
from telecine.service.logs import get_logger
from telecine.service.services import Services

SWEEP_EVERY_S = 5.0
COLLECT_EVERY_S = 10.0
# An attempt that ended has written its last byte long before; one that was fenced soon notices.
OLDER_THAN_S = 60.0
HALF_MADE_S = 3600.0  # no single object takes so long to put

_ATTEMPT_FOLDER = re.compile(r"([0-9A-Z]{26})-([0-9]{1,9})")
_JOB_FOLDER = re.compile(r"job-([0-9A-Z]{26})")

log = get_logger("collector")


def scratch_folder(services: Services) -> Path:
    """Where tasks work, on the file system of the storage, so that files are linked into it."""
    return services.settings.data / "scratch"


def attempt_folder(services: Services, task_id: str, epoch: int) -> Path:
    """The scratch folder of one attempt."""
    return scratch_folder(services) / f"{task_id}-{epoch}"


def job_folder(services: Services, job_id: str) -> Path:
    """What the tasks of a job share on this machine."""
    return scratch_folder(services) / f"job-{job_id}"


def run_collector(
    services: Services,
    *,
    stop: threading.Event,
    sweep_every_s: float = SWEEP_EVERY_S,
    collect_every_s: float = COLLECT_EVERY_S,
    older_than_s: float = OLDER_THAN_S,
) -> None:
    """Sweep and collect until `stop` is set. A database or a disk that is away is waited for."""
    collected_at = -collect_every_s
    while True:
        try:
            sweep(services)
            if time.monotonic() - collected_at >= collect_every_s:
                collected_at = time.monotonic()
                collect(services, older_than_s=older_than_s)
        except Unavailable as error:
            log.warning("cannot sweep", error_code=error.code, message=error.message)
        except Exception:
            log.exception("cannot sweep")
        if stop.wait(sweep_every_s):
            return


def sweep(services: Services) -> int:
    """Give back what workers lost, and ring for what was not rung for. How many there were."""
    with services.database.write() as tx:
        found = queue.sweep(tx)
    if found:
        log.info("swept", tasks=found)
        services.bell.ring(TASKS)
        services.bell.ring(EVENTS)
    return found


def collect(services: Services, *, older_than_s: float = OLDER_THAN_S) -> int:
    """Delete what nobody needs any more: attempts that ended so long ago, what was discarded,
    scratch folders, unfinished uploads whose time is over. How many prefixes, keys, folders and
    uploads there were."""
    return (
        _collect_attempts(services, older_than_s)
        + _collect_garbage(services)
        + _collect_scratch(services)
        + uploads.collect_expired(services)
        + services.storage.tidy(HALF_MADE_S)
    )


def _collect_attempts(services: Services, older_than_s: float) -> int:
    with services.database.read() as tx:
        found = attempts.collectable(tx, older_than_s)
    for attempt in found:
        services.storage.delete(f"{attempt.prefix}/")
    if found:
        with services.database.write() as tx:
            attempts.collected(tx, found)
    return len(found)


def _collect_garbage(services: Services) -> int:
    with services.database.read() as tx:
        found = attempts.discarded(tx)
    for piece in found:
        services.storage.delete(piece.prefix)
        if not piece.prefix.endswith("/"):  # of a deleted user's upload that was still growing
            services.storage.abandon(piece.prefix)
    if found:
        with services.database.write() as tx:
            attempts.removed(tx, found)
    return len(found)


def _collect_scratch(services: Services) -> int:
    """Folders of attempts that are over and of jobs that have ended. A folder is made after its
    claim was committed, so whatever is seen here before the rows are read has a row."""
    folder = scratch_folder(services)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    tries = {path: match for path in there if (match := _ATTEMPT_FOLDER.fullmatch(path.name))}
    jobs = {path: match for path in there if (match := _JOB_FOLDER.fullmatch(path.name))}
    if not tries and not jobs:
        return 0
    with services.database.read() as tx:
        live = leftovers.live_attempts(tx, [match[1] for match in tries.values()])
        unfinished = leftovers.unfinished_jobs(tx, [match[1] for match in jobs.values()])
    dead = [path for path, match in tries.items() if (match[1], int(match[2])) not in live]
    dead += [path for path, match in jobs.items() if match[1] not in unfinished]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)
    return len(dead)


def inspect_orphans(services: Services) -> list[str]:
    """Keys of objects and incoming files that no row refers to and the collector would never find.
    There must be none, at any moment at which nobody writes."""
    kept = list(services.storage.keys(""))
    growing = list(services.storage.incoming())
    with services.database.read() as tx:
        known = leftovers.references(tx)
    lost = [key for key in kept if key not in known.keys and not key.startswith(known.prefixes)]
    expected = known.incoming | known.keys
    return [*lost, *(key for key in growing if key not in expected)]
