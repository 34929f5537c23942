"""What jobs tell, for all who watch them: one reader of the database a process, however many
connections listen.

The reader is a thread that lives while anybody watches. It looks when the bell rings and every
second anyway, at most four times a second. It remembers the last events of each job; each
connection knows the number of the last one that it sent, and who is further behind than the
memory reads for itself. So a reader that is late, or begins anew, makes nobody miss anything.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from telecine.service import jobs, logs
from telecine.service.db.events import EventRow
from telecine.service.dispatch.bell import EVENTS, POLL_S
from telecine.service.jobs import Seen
from telecine.service.services import Services

LEAST_PAUSE_S = 0.25
REMEMBERED = 200  # events of a job

_NO_EVENTS = 1 << 31  # above every number: a first look learns where the job is

log = logs.get_logger("feed")


class Watch:
    """One connection's place in the feed, on the event loop that made it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._news = asyncio.Event()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for news, at most so long; whether there are any."""
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def tell(self) -> None:
        """There are news. From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop is closed, and with it the connection
            return


@dataclass(slots=True)
class _Watched:
    """A job that somebody watches. `seen.events` are the last ones, without holes."""

    watches: set[Watch] = field(default_factory=set)
    seen: Seen | None = None


class Feed:
    """The feed of one process. Safe to use from many threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._jobs: dict[str, _Watched] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Hear of this job while the block runs: at once, and whenever it has changed."""
        watch = Watch(asyncio.get_running_loop())
        with self._lock:
            self._jobs.setdefault(job_id, _Watched()).watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
        try:
            yield watch
        finally:
            with self._lock:
                watched = self._jobs[job_id]
                watched.watches.discard(watch)
                if not watched.watches:
                    del self._jobs[job_id]

    def after(self, job_id: str, number: int) -> Seen | None:
        """The job with its events after this one, as far as the feed remembers; None: read it."""
        with self._lock:
            watched = self._jobs.get(job_id)
            seen = None if watched is None else watched.seen
        if seen is None:
            return None
        first = seen.events[0].number if seen.events else seen.reached + 1
        exhausted = number >= seen.reached < seen.last_event  # one look did not take all
        if number < first - 1 or exhausted:
            return None
        return replace(seen, events=tuple(e for e in seen.events if e.number > number))

    def _run(self) -> None:
        listener = self._services.bell.listen(EVENTS)
        try:
            while self._look():
                began = time.monotonic()
                listener.wait(POLL_S)
                time.sleep(max(0.0, LEAST_PAUSE_S - (time.monotonic() - began)))
        finally:
            listener.close()

    def _look(self) -> bool:
        """Read all that is watched, and tell who watches what has changed. False: nobody does."""
        with self._lock:
            if not self._jobs:
                self._thread = None
                return False
            heard = {
                job_id: watched.seen.reached if watched.seen is not None else _NO_EVENTS
                for job_id, watched in self._jobs.items()
            }
        try:
            with self._services.database.read() as tx:
                found = jobs.glance(tx, heard)
        except Exception:  # the database may be back at the next look; who watches must not hang
            log.exception("the feed could not read")
            return True
        with self._lock:
            for job_id, watched in self._jobs.items():
                if job_id in heard:
                    _update(watched, found.get(job_id))
        return True


def _update(watched: _Watched, found: Seen | None) -> None:
    before = watched.seen
    if found is None or before is None or _differs(before, found):
        for watch in watched.watches:
            watch.tell()  # where it is gone, each finds that out by reading it
    if found is None:
        watched.seen = None
        return
    events: tuple[EventRow, ...] = (*(before.events if before is not None else ()), *found.events)
    watched.seen = replace(found, events=events[-REMEMBERED:])


def _differs(before: Seen, found: Seen) -> bool:
    """Whether there is something to tell: speed and time left change with the clock alone."""
    return bool(found.events) or _told(before) != _told(found)


def _told(seen: Seen) -> tuple[object, ...]:
    return (seen.state, seen.position, seen.progress.fraction, seen.progress.rungs)
