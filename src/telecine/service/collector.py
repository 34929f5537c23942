"""Keeps the installation going and clean: sweeps leases that ran out, collects what nobody needs.

Any number of processes may run it at once, and all of it may run twice. A worker that was paused
may write after its bytes were collected; that is why collecting goes on for ever.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from telecine.service.db import attempts, derivatives, leftovers, queue
from telecine.service.dispatch.bell import EVENTS, TASKS
from telecine.service.domain import ServiceError
from telecine.service.logs import get_logger
from telecine.service.scratch import attempt_of, job_of, scratch_folder
from telecine.service.services import Services
from telecine.service.uploads.sessions import collect_expired

SWEEP_EVERY_S = 5.0
COLLECT_EVERY_S = 10.0
# An attempt that ended has written its last byte long before; one that was fenced soon notices.
OLDER_THAN_S = 60.0
HALF_MADE_S = 3600.0  # no single object takes so long to put

log = get_logger("collector")


def run_collector(
    services: Services,
    *,
    stop: threading.Event,
    sweep_every_s: float = SWEEP_EVERY_S,
    collect_every_s: float = COLLECT_EVERY_S,
    older_than_s: float = OLDER_THAN_S,
) -> None:
    """Sweep and collect until `stop` is set, in two threads: deleting may take long, and what
    workers lost must not wait for it. A database or a disk that is away is waited for."""
    sweeper = threading.Thread(
        target=_repeat, args=(lambda: sweep(services), sweep_every_s, stop), name="sweeper"
    )
    sweeper.start()
    _repeat(lambda: collect(services, older_than_s=older_than_s), collect_every_s, stop)
    sweeper.join()


def _repeat(do: Callable[[], object], every_s: float, stop: threading.Event) -> None:
    while True:
        with _going_on("cannot sweep"):
            do()
        if stop.wait(every_s):
            return


@contextmanager
def _going_on(what: str, **more: str) -> Iterator[None]:
    """Tells of an error in the block, and goes on behind it."""
    try:
        yield
    except ServiceError as error:
        log.warning(what, error_code=error.code, message=error.message, **more)
    except OSError as error:
        log.warning(what, error=str(error), **more)
    except Exception:
        log.exception(what, **more)


def sweep(services: Services) -> int:
    """Give back what workers lost. How many tasks there were."""
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
    uploads there were. What cannot be deleted is told in the log, and holds up nothing else."""
    parts: tuple[tuple[str, Callable[[], int]], ...] = (
        ("attempts", lambda: _collect_attempts(services, older_than_s)),
        ("pictures", lambda: _evict_pictures(services)),
        ("garbage", lambda: _collect_garbage(services)),
        ("scratch", lambda: _collect_scratch(services)),
        ("uploads", lambda: collect_expired(services)),
        ("storage", lambda: services.storage.tidy(HALF_MADE_S)),
    )
    found = 0
    for name, part in parts:
        with _going_on("cannot collect", part=name):
            found += part()
    return found


def _collect_attempts(services: Services, older_than_s: float) -> int:
    with services.database.read() as tx:
        found = attempts.collectable(tx, older_than_s)
    gone = []
    for attempt in found:
        with _going_on("cannot delete", prefix=attempt.prefix):
            services.storage.delete(f"{attempt.prefix}/")
            gone.append(attempt)
    if gone:
        with services.database.write() as tx:
            attempts.collected(tx, gone)
    return len(gone)


def _evict_pictures(services: Services) -> int:
    """Of the pictures made for URLs, what is over the bound: those that were not used for longest.
    Their objects go as garbage; whoever finds a row's object gone has it made again."""
    most_bytes = services.settings.image_cache_bytes
    with services.database.read() as tx:
        if derivatives.total_bytes(tx) <= most_bytes:
            return 0
    with services.database.write() as tx:
        gone = derivatives.evict(tx, most_bytes)
        attempts.discard(tx, gone)
    return len(gone)


def _collect_garbage(services: Services) -> int:
    with services.database.read() as tx:
        found = attempts.discarded(tx)
    gone = []
    for piece in found:
        with _going_on("cannot delete", prefix=piece.prefix):
            services.storage.delete(piece.prefix)
            if not piece.prefix.endswith("/"):  # of a deleted user's upload that was still growing
                services.storage.abandon(piece.prefix)
            gone.append(piece)
    if gone:
        with services.database.write() as tx:
            attempts.removed(tx, gone)
    return len(gone)


def _collect_scratch(services: Services) -> int:
    """Folders of attempts that are over and of jobs that have ended. A folder is made after its
    claim was committed, so whatever is seen here before the rows are read has a row."""
    folder = scratch_folder(services)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    tries = {path: attempt for path in there if (attempt := attempt_of(path))}
    jobs = {path: job_id for path in there if (job_id := job_of(path))}
    if not tries and not jobs:
        return 0
    with services.database.read() as tx:
        live = leftovers.live_attempts(tx, [task_id for task_id, _ in tries.values()])
        unfinished = leftovers.unfinished_jobs(tx, list(jobs.values()))
    dead = [path for path, attempt in tries.items() if attempt not in live]
    dead += [path for path, job_id in jobs.items() if job_id not in unfinished]
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
