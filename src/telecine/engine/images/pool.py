"""Workers: processes in the sandbox that live long and work on one picture after the other.

Starting one (interpreter, libvips) takes ten times as long as a thumbnail, so they are kept. Each
belongs to one thread of ours, which starts it, speaks with it and kills it: the kernel ends a child
with the thread that started it. A worker has no file, no network and no other process to reach; it
gets bytes through one pipe and gives bytes through another. After `images_each` pictures, or any
fault, it is replaced: what leaks in it, or took it over, ends with it.
"""

from __future__ import annotations

import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

from telecine.engine.errors import InputRefused, Interrupted, StepFailed, UsageError
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.waiting import WaitingRoom
from telecine.engine.images.wire import (
    Answer,
    Bytes,
    Incoming,
    Request,
    WireBroken,
    decode_answer,
    encode_request,
)
from telecine.engine.process import Access, Cancel, Conversation, Finished, Limits, start
from telecine.engine.tools import Tools

CHILD = (sys.executable, "-I", "-m", "telecine.engine.images.child")

_IMAGES_EACH = 500
_CPU_S = 1800  # of a worker's whole life: some twenty times what 500 pictures of a camera take
_ANSWER_BYTES = 64 << 20  # beside the pixels: for formats that make noise larger than it was
_LONGEST_REST_S = 1.0  # between a crash and the next start, when crashes are all that happens


@dataclass(slots=True, eq=False)
class _Job:
    """A request on its way. `over` is set when there is an outcome."""

    request: Request
    blobs: Sequence[Bytes]
    wall_s: float
    switches: tuple[Cancel, ...]  # any of them ends it
    over: Cancel = field(default_factory=Cancel)
    answer: Answer | None = None
    error: BaseException | None = None

    def end(self, outcome: Answer | BaseException) -> None:
        if isinstance(outcome, Answer):
            self.answer = outcome
        else:
            self.error = outcome
        self.over.set()

    def wait(self) -> None:
        """Until there is an outcome or a switch is set."""
        _wait_for_any(self.over, *self.switches)


class ImageWorkers:
    """`count` workers, started when they are first needed, and room for `waiting` requests, which
    their tenants share (see `waiting.WaitingRoom`).

    For any number of threads. No signal handler, no global state; the threads are daemons, and with
    them or with this process (also by `kill -9`) the workers end. Close it, or use it in `with`.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        count: int,
        limits: ImageLimits,
        waiting: int = 64,
        images_each: int = _IMAGES_EACH,
        argv: Sequence[str] = CHILD,
    ) -> None:
        self.tools = tools
        self.limits = limits
        self._count = count
        self._waiting = waiting
        self._images_each = images_each
        self._argv = argv
        self._jobs: WaitingRoom[_Job] = WaitingRoom()
        self._changed = threading.Condition()
        self._owners: list[_Owner] = []
        self._idle = 0  # owners that wait for a request
        self._places = _Places(count)
        self._closed = Cancel()

    def __enter__(self) -> ImageWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers that run now: for whoever measures them."""
        return tuple(owner.pid for owner in self._owners if owner.pid)

    def ask(
        self,
        request: Request,
        blobs: Sequence[Bytes],
        *,
        wall_s: float | None = None,
        cancel: Cancel | None = None,
        tenant: str = "",
    ) -> Answer:
        """A worker's answer; blocks until there is one. `wall_s` (default: the limits') is counted
        from when a worker takes the request, not while it waits in the queue; for both tries.
        `tenant`: whose request it is.

        A worker that dies is replaced, and the request asked once more, unless a limit ended a
        worker that had no other picture before. Raises StepFailed: `images_busy` (retryable) when
        too many wait, also when it had to give its place to another tenant's, `image_limit` when
        time, CPU or memory ran out, `image_worker_died` when a second worker died too; what the
        child refused (see `wire.CODES`); Interrupted when `cancel` is set or the workers are
        closed.
        """
        wall_s = self.limits.wall_s if wall_s is None else wall_s
        switches = (self._closed,) if cancel is None else (self._closed, cancel)
        job = _Job(request, blobs, wall_s, switches)
        self._enqueue(job, tenant)
        job.wait()
        if not job.over.is_set():  # its worker, where it has one already, is killed meanwhile
            with self._changed:
                self._jobs.remove(job)
            raise Interrupted
        error, job.error = job.error, None
        if error is not None:
            try:
                raise error
            finally:  # else this frame, its error and the picture's bytes would hold each other
                del error
        assert job.answer is not None
        return job.answer

    @contextmanager
    def place(self, cancel: Cancel | None = None, tenant: str = "") -> Iterator[None]:
        """One of `count` places for a program that decodes a picture for a worker: as many of them
        run at once as workers. Waits for one; raises StepFailed (`images_busy`) when too many wait,
        Interrupted when `cancel` is set or the workers are closed."""
        switches = (self._closed,) if cancel is None else (self._closed, cancel)
        with self._places.take(tenant, switches, self._waiting):
            yield

    def close(self) -> None:
        """Kill all workers and wait until they are gone. Requests that wait or run are
        interrupted. May be called again."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        for owner in self._owners:
            owner.join()

    def _enqueue(self, job: _Job, tenant: str) -> None:
        with self._changed:
            if self._closed.is_set():
                raise Interrupted("the image workers are closed")
            most = self._idle + self._count - len(self._owners) + self._waiting
            if not self._jobs.has_room(tenant, most):
                raise _busy(len(self._jobs))
            if len(self._jobs) >= self._idle and len(self._owners) < self._count:
                owner = _Owner(self._take, self._start, self.limits, self._images_each)
                owner.start()  # may fail: then nothing was enqueued
                self._owners.append(owner)
            gone = self._jobs.put(tenant, job, most)
            self._changed.notify()
        if gone is not None:
            gone.end(_busy(most))

    def _take(self) -> _Job | None:
        """The next request, once there is one; None when it is time to go."""
        with self._changed:
            self._idle += 1
            while not self._jobs and not self._closed.is_set():
                self._changed.wait()
            self._idle -= 1
            return None if self._closed.is_set() else self._jobs.take()

    def _start(self, rest_s: float) -> Conversation:
        """A new worker, after a rest. Raises Interrupted when the workers are closed."""
        if self._closed.wait(rest_s):
            raise Interrupted("the image workers are closed")
        return start(
            self._argv,
            sandbox=self.tools.sandbox,
            limits=Limits(
                memory_bytes=self.limits.memory_bytes,
                cpu_s=_CPU_S,
                file_bytes=0,  # it writes to its pipe only
                open_files=64,
            ),
            access=Access(),
        )


@dataclass(slots=True, eq=False)
class _Turn:
    """Somebody who waits for a place. `over` is set when they have it, or have to go."""

    over: Cancel = field(default_factory=Cancel)
    lost: bool = False


class _Places:
    """A semaphore that can be waited for together with switches, and whose turns go round."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._turns: WaitingRoom[_Turn] = WaitingRoom()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, tenant: str, switches: Sequence[Cancel], most_waiting: int) -> Iterator[None]:
        turn = self._ask(tenant, most_waiting)
        if turn is not None:
            self._wait(turn, switches)
        try:
            yield
        finally:
            self._pass_on()

    def _ask(self, tenant: str, most_waiting: int) -> _Turn | None:
        """None: there is a free place, which is taken now."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            if not self._turns.has_room(tenant, most_waiting):
                raise _busy(len(self._turns))
            turn = _Turn()
            gone = self._turns.put(tenant, turn, most_waiting)
        if gone is not None:
            gone.lost = True
            gone.over.set()
        return turn

    def _wait(self, turn: _Turn, switches: Sequence[Cancel]) -> None:
        _wait_for_any(turn.over, *switches)
        with self._lock:
            if self._turns.remove(turn):
                raise Interrupted
        turn.over.wait()  # it is about to be set, if it is not
        if turn.lost:
            raise _busy(len(self._turns))

    def _pass_on(self) -> None:
        with self._lock:
            if not self._turns:
                self._free += 1
                return
            turn = self._turns.take()
        turn.over.set()


def _wait_for_any(*switches: Cancel) -> None:
    poll = select.poll()
    for each in switches:
        poll.register(each, select.POLLIN)
    poll.poll()


def _busy(waiting: int) -> StepFailed:
    return StepFailed(f"{waiting} pictures are waiting already", code="images_busy", retryable=True)


class _Owner(threading.Thread):
    """The thread of one worker at a time."""

    def __init__(
        self,
        take: Callable[[], _Job | None],
        start: Callable[[float], Conversation],
        limits: ImageLimits,
        images_each: int,
    ) -> None:
        super().__init__(name="image-worker", daemon=True)
        self._take = take
        self._start = start
        self._images_each = images_each
        self._answer_bytes = limits.pixels * 8 + _ANSWER_BYTES
        self._talk: Conversation | None = None
        self._images = 0  # that this worker was given
        self._crashes = 0  # since the last answer

    @property
    def pid(self) -> int | None:
        talk = self._talk
        return None if talk is None else talk.pid

    def run(self) -> None:
        try:
            while (job := self._take()) is not None:
                try:
                    job.end(self._serve(job))
                except BaseException as error:
                    job.end(error)  # raised again where it was asked
                del job  # its bytes may be many
                self._renew()
        finally:
            with suppress(StepFailed):
                self._dismiss()

    def _serve(self, job: _Job) -> Answer:
        began = time.monotonic()
        answer = self._try(job, job.wall_s)
        if answer is None:
            answer = self._try(job, job.wall_s - (time.monotonic() - began), again=True)
        assert answer is not None
        return answer

    def _try(self, job: _Job, wall_s: float, *, again: bool = False) -> Answer | None:
        """None: the worker died of what may not come again."""
        talk = self._worker()
        fresh = self._images == 0
        self._images += 1
        incoming = Incoming(self._answer_bytes)
        broken = ""
        try:
            request = encode_request(job.request, job.blobs)
            if talk.ask(request, incoming, wall_s=wall_s, cancel=job.switches):
                answer = decode_answer(incoming.message())
                self._crashes = 0
                return answer
        except WireBroken as error:
            broken = str(error)
        except (InputRefused, UsageError):
            self._crashes = 0
            raise
        except BaseException:
            # In the midst of an answer; or short of memory, and who knows of what.
            self._dismiss()
            raise
        self._crashes += 1
        finished = self._dismiss()
        assert finished is not None
        if finished.limit == "wall" or (fresh and finished.limit is not None):
            raise _limit_error(finished, job.wall_s)
        if not again:
            return None
        words = broken or (finished.log_tail[-1] if finished.log_tail else "")
        how = f"signal {finished.signal}" if finished.signal else f"exit {finished.returncode}"
        raise StepFailed(
            f"an image worker died of this picture, and so did the next one ({words or how})",
            code="image_worker_died",
            log_tail=finished.log_tail,
        )

    def _worker(self) -> Conversation:
        if self._talk is not None and not self._talk.quiet():
            self._dismiss()  # it died idle, or said what nobody asked for
        if self._talk is None:
            # The second try of one bad picture does not wait; a storm doubles what it waits.
            rest_s = 0.05 * 2 ** (self._crashes - 2) if self._crashes > 2 else 0
            self._talk = self._start(min(rest_s, _LONGEST_REST_S))
            self._images = 0
        return self._talk

    def _renew(self) -> None:
        """After a request: a worker that has served its time goes, and a new one gets ready."""
        with suppress(Exception):  # told to whoever asks next, which needs this thread
            if self._images >= self._images_each:
                self._dismiss()
            self._worker()

    def _dismiss(self) -> Finished | None:
        talk, self._talk = self._talk, None
        return None if talk is None else talk.close()


def _limit_error(finished: Finished, wall_s: float) -> StepFailed:
    words = {"wall": f"took more than {wall_s:g} s", "cpu": "took too much CPU time"}
    said = words.get(finished.limit or "", "needs more memory than a worker may have")
    return StepFailed(f"the picture {said}", code="image_limit", log_tail=finished.log_tail)
