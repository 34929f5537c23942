"""Pictures in the making: each once at a time, so many at once, so many a minute of one user; and
the small ones that were asked for last.

In memory: every API process has its own, which forgets when it ends.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from telecine.engine.images.waiting import WaitingRoom
from telecine.service import logs
from telecine.service.domain import Rate, TooMany

log = logs.get_logger("images")

_BUSY_RETRY_S = 1
_GATHER_S = 0.1  # so long what was made waits for more to be stored with it
_MOST_TOGETHER = 16
_MOST_UNSTORED = 64  # that are held in memory where the disk does not keep up
_REMEMBERED = 1000  # names of pictures that were stored last
WINDOW_S = 60

SMALL_BYTES = 256 << 10  # no larger one is kept in memory
MEMORY_BYTES = 64 << 20
# What a kept answer takes beside its picture: measured 1000 bytes, and its URL, in which every sign
# may take four. Without it 900,000 URLs of one tiny picture would fit, in 2.5 GB.
ENTRY_BYTES, SIGN_BYTES = 1000, 4
FRESH_S = 1.0  # so long a kept answer is good without a look at the rows


@dataclass(frozen=True, slots=True)
class Shown:
    """A finished picture: an object, and its bytes where they are at hand. `sha256` is of them."""

    key: str
    content_type: str
    size_bytes: int
    sha256: str
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Remembered:
    """`now_s` was the database's time when the rows were looked at, `looked_s` our own clock."""

    shown: Shown
    now_s: float
    looked_s: float

    def time_s(self) -> float:
        """The database's time by now."""
        return self.now_s + time.monotonic() - self.looked_s

    @property
    def fresh(self) -> bool:
        return time.monotonic() - self.looked_s < FRESH_S


class Memory:
    """The last small pictures, by the URL that asked for them; `most_bytes` with all they take."""

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Remembered] = OrderedDict()

    def get(self, name: str) -> Remembered | None:
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
            return found

    def put(self, name: str, found: Remembered) -> None:
        """Keep it, if it is small."""
        if found.shown.data is None or len(found.shown.data) > SMALL_BYTES:
            return
        with self._lock:
            self._drop(name)
            self._kept[name] = found
            self._bytes += _cost(name, found)
            while self._bytes > self._most:
                self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        gone = self._kept.pop(name, None)
        if gone is not None:
            self._bytes -= _cost(name, gone)


def _cost(name: str, found: Remembered) -> int:
    return found.shown.size_bytes + ENTRY_BYTES + SIGN_BYTES * len(name)


class Turns:
    """At most `most` for each user within any `WINDOW_S`: the times of those that were taken.

    Not by the library that limits log-ins: its store in memory starts a thread for nearly every
    turn, which took a twentieth of what a new picture costs this process.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: dict[str, deque[float]] = {}
        self._swept_s = -math.inf

    def take(self, user_id: str, now_s: float) -> float:
        """0: it is taken; else after how many seconds there will be one. For one thread at once,
        with times that never go back."""
        self._sweep(now_s)
        taken = self._taken.setdefault(user_id, deque())
        while taken and taken[0] <= now_s - WINDOW_S:
            taken.popleft()
        if len(taken) < self.most:
            taken.append(now_s)
            return 0
        return taken[0] + WINDOW_S - now_s

    def _sweep(self, now_s: float) -> None:
        """Once in a window, forget the users who rest."""
        if now_s < self._swept_s + WINDOW_S:
            return
        self._swept_s = now_s
        resting = [user for user, taken in self._taken.items() if taken[-1] <= now_s - WINDOW_S]
        for user_id in resting:
            del self._taken[user_id]


class Work(Protocol):
    """A picture that has to be made. `looked_s`: our clock when it was looked for in vain."""

    @property
    def name(self) -> str: ...

    @property
    def looked_s(self) -> float: ...

    def make(self, perhaps_there: bool) -> Shown:
        """`perhaps_there`: it may have been stored since it was looked for."""

    def keep(self, made: Sequence[tuple[Any, Shown]]) -> None:
        """Store these, each with its work, which is of one class; among them is this one."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Work that waits for a thread. `perhaps_there` as in `Work.make`."""

    work: Work
    made: Future[Shown]
    perhaps_there: bool


class ImageDesk:
    """Has pictures made by threads of its own, so that a request that waits keeps none of those
    that answer others. `at_once` are in work, `waiting` more may wait; users share those places,
    and take turns (see `WaitingRoom`). One more thread stores what
    was made, after it was answered and several together: a transaction for each costs as much as
    all else of a request."""

    def __init__(self, *, at_once: int, waiting: int, per_minute: int) -> None:
        self.memory = Memory()
        self._free = at_once
        self._places = waiting
        self._waiting: WaitingRoom[_Asked] = WaitingRoom()
        self._turns = Turns(per_minute)
        self._lock = threading.Lock()
        self._making: dict[str, Future[Shown]] = {}  # until they are stored
        self._kept_s: OrderedDict[str, float] = OrderedDict()  # when the last ones were
        self._unstored = 0
        self._made: list[tuple[Work, Shown]] = []  # that nobody stores yet
        self._storing = False
        self._hurry = threading.Event()  # enough to be stored together, or no time to wait for more
        self._closing = False
        self._threads = ThreadPoolExecutor(at_once, "image-desk")
        self._keeper = ThreadPoolExecutor(1, "image-keeper")

    def ask(self, work: Work, user_id: str) -> Future[Shown]:
        """The picture, once it is made, unless it is in the making already. Who asked first may go
        away: it is made for all. It is stored when nobody waits for it any more; until then it is
        in the making.

        Raises `TooMany`: `images_busy` where too many wait to be made or stored (so does the future
        of what had to give its place to another user's), `images_limited` where this user had too
        many made within a minute.
        """
        with self._lock:
            found = self._making.get(work.name)
            if found is not None:
                return found
            most = self._places + self._free
            if self._unstored >= _MOST_UNSTORED or not self._waiting.has_room(user_id, most):
                raise _busy()
            self._count(user_id)
            perhaps_there = self._kept_s.get(work.name, -math.inf) >= work.looked_s
            made: Future[Shown] = Future()
            made.set_running_or_notify_cancel()  # who gives up cancels it for nobody else
            gone = self._waiting.put(user_id, _Asked(work, made, perhaps_there), most)
            self._making[work.name] = made
            if gone is not None:
                del self._making[gone.work.name]
        if gone is None:
            self._threads.submit(self._next)
        else:
            gone.made.set_exception(_busy())
        return made

    def close(self) -> None:
        """Wait for what is in work, and store it; what waits is given up. May be called again."""
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            self._closing = True
            self._hurry.set()
        self._keeper.shutdown()

    def _next(self) -> None:
        """Make what is next: there is one for each time that this was submitted."""
        with self._lock:
            asked = self._waiting.take()
            self._free -= 1
        try:
            shown = asked.work.make(asked.perhaps_there)
        except BaseException as error:
            with self._lock:
                self._free += 1
                del self._making[asked.work.name]
            asked.made.set_exception(error)  # for everyone who waits
            return
        asked.made.set_result(shown)
        with self._lock:
            self._free += 1
            self._unstored += 1
            self._made.append((asked.work, shown))
            wake, self._storing = not self._storing, True
            if len(self._made) >= _MOST_TOGETHER:
                self._hurry.set()
        if wake:
            self._keeper.submit(self._keep)

    def _keep(self) -> None:
        """Store what there is, until there is no more."""
        while True:
            self._hurry.wait(_GATHER_S)
            with self._lock:
                batch = self._made[:_MOST_TOGETHER]
                del self._made[:_MOST_TOGETHER]
                self._storing = bool(batch)
                if len(self._made) < _MOST_TOGETHER and not self._closing:
                    self._hurry.clear()
            if not batch:
                return
            try:
                batch[0][0].keep(batch)
            except Exception:
                log.exception("cannot keep pictures")
            self._stored([work.name for work, _ in batch])

    def _stored(self, names: Sequence[str]) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._unstored -= len(names)
            for name in names:
                del self._making[name]
                self._kept_s[name] = now_s
                self._kept_s.move_to_end(name)
            while len(self._kept_s) > _REMEMBERED:
                self._kept_s.popitem(last=False)

    def _count(self, user_id: str) -> None:
        wait_s = self._turns.take(user_id, time.monotonic())
        if wait_s == 0:
            return
        whole_s = math.ceil(wait_s)
        raise TooMany(
            "too many pictures of this user were made within a minute: ask again later",
            code="images_limited",
            retry_after_s=whole_s,
            rate=Rate("images", self._turns.most, WINDOW_S, whole_s),
        )


def _busy() -> TooMany:
    return TooMany(
        "too many pictures are waiting to be made: ask again",
        code="images_busy",
        retry_after_s=_BUSY_RETRY_S,
    )
