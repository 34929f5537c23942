"""`engine.images.pool` with children that do on purpose what a picture may do to a real one."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import alive
from tests.waiting import until

from telecine.engine.errors import InputRefused, Interrupted, StepFailed
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Answer, Request, Source
from telecine.engine.process import Cancel, Sandbox
from telecine.engine.tools import Tools

# Does what `operations` says; the one blob comes back.
CHILD = """
import os, sys, time
from telecine.engine.errors import InputRefused
from telecine.engine.images.wire import *
from telecine.engine.images.wire import Incoming
seen = 0
def say(pieces):
    for piece in pieces:
        left = memoryview(piece)
        while left: left = left[os.write(4, left):]
while True:
    incoming = Incoming(1 << 30)
    while not incoming.done:
        count = os.readv(3, [incoming.room()])
        if not count: sys.exit()
        incoming.took(count)
    request, blobs = decode_request(incoming.message())
    seen += 1
    do, _, word = request.operations.partition(" ")
    if do == "crash" or (do == "crash-if-used" and seen > 1):
        print("it hurts", file=sys.stderr, flush=True)
        os.abort()
    if do == "sleep-and-crash":
        time.sleep(float(word))
        os.abort()
    if do == "sleep": time.sleep(float(word))
    if do == "eat": kept = b"x" * int(word)
    if do == "spin":
        while True: pass
    if do == "garbage": os.write(4, b"\\xff" * 100)
    if do == "early": os.close(4); time.sleep(30)
    if do == "flood": say([(2).to_bytes(8, "little") + b"{}"] * 100_000)
    if do == "claim": say([(16).to_bytes(8, "little") + b'{"blobs":[1e30]}'])
    if do == "refuse": say(encode_error(InputRefused(word, code="image_damaged")))
    elif do == "no-memory": say(encode_error(StepFailed("no memory", code="image_limit")))
    else: say(encode_answer(Answer({"pid": os.getpid(), "seen": seen}, (), blobs[0])))
    if do == "after": os.write(4, b"x")
    if do == "leave": sys.exit()
"""
ARGV = (sys.executable, "-I", "-c", CHILD)


@pytest.fixture(scope="module")
def tools() -> Tools:
    """No FFmpeg: no test here decodes."""
    return Tools(Path("/nonexistent"), "none", Sandbox.detect())


@pytest.fixture
def make(tools: Tools) -> Iterator[Callable[..., ImageWorkers]]:
    made = []

    def make(count: int = 1, limits: ImageLimits | None = None, **more: Any) -> ImageWorkers:
        more.setdefault("argv", ARGV)
        made.append(ImageWorkers(tools, count=count, limits=limits or ImageLimits(), **more))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def ask(workers: ImageWorkers, do: str = "", data: bytes = b"x", **more: Any) -> Answer:
    request = Request("inspect", Source("png"), ImageLimits(), operations=do)
    return workers.ask(request, [data], **more)


def until_gone(*pids: int) -> None:
    """Whoever reaps them may be slow, but not for five seconds."""
    until(lambda: not any(map(alive, pids)), 5)


def together(count: int, act: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_worker_answers_until_it_has_served_its_time(make: Callable[..., ImageWorkers]) -> None:
    workers = make(images_each=3)
    assert workers.pids == ()  # none before it is needed
    facts = [ask(workers).facts for _ in range(7)]
    assert [fact["seen"] for fact in facts] == [1, 2, 3, 1, 2, 3, 1]
    assert len({fact["pid"] for fact in facts}) == 3


def test_a_hundred_megabytes_go_and_come(make: Callable[..., ImageWorkers]) -> None:
    data = os.urandom(1 << 20) * 100
    assert ask(make(), data=data).data == data


def test_four_clients_of_two_workers_get_their_own_answers(
    make: Callable[..., ImageWorkers],
) -> None:
    workers = make(2)
    wrong: list[bytes] = []
    pids: set[int] = set()

    def client(number: int) -> None:
        for turn in range(50):
            data = bytes([number, turn]) * 100_000
            answer = ask(workers, data=data)
            pids.add(answer.facts["pid"])
            if answer.data != data:
                wrong.append(data)

    together(4, client)
    assert not wrong
    assert len(pids) == 2


def test_a_refusal_harms_no_worker(make: Callable[..., ImageWorkers]) -> None:
    workers = make()
    before = ask(workers).facts["pid"]
    for _ in range(3):
        with pytest.raises(InputRefused, match="cut off") as caught:
            ask(workers, "refuse cut off")
        assert caught.value.code == "image_damaged"
    assert ask(workers).facts == {"pid": before, "seen": 5}


def test_a_refused_pictures_bytes_are_held_by_nobody(make: Callable[..., ImageWorkers]) -> None:
    """Not until a garbage collector comes round, either: they may be hundreds of megabytes."""
    workers = make()
    data = os.urandom(1000)
    gc.disable()
    try:
        before = sys.getrefcount(data)
        for do in ("refuse so", "no-memory", "crash"):
            try:
                ask(workers, do, data)
            except (InputRefused, StepFailed):
                pass
            until(lambda: sys.getrefcount(data) <= before, 5)  # its thread is about to forget it
            assert sys.getrefcount(data) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("do", ["crash", "garbage", "early", "flood", "claim"])
def test_a_worker_that_fails_twice_is_told_and_the_next_request_works(
    make: Callable[..., ImageWorkers], do: str
) -> None:
    workers = make()
    first = ask(workers).facts["pid"]
    with pytest.raises(StepFailed) as caught:
        ask(workers, do, wall_s=10)
    if do == "early":  # seen at once, not when the time is over
        assert "exit" in caught.value.message or "signal" in caught.value.message
    assert caught.value.code == "image_worker_died"
    if do == "crash":
        assert caught.value.log_tail[-1] == "it hurts"
        assert "it hurts" in caught.value.message
    after = ask(workers).facts
    assert after["seen"] == 1
    until_gone(first)


def test_a_request_is_tried_once_more_when_its_worker_dies(
    make: Callable[..., ImageWorkers],
) -> None:
    workers = make()
    ask(workers)
    assert ask(workers, "crash-if-used", b"again").data == b"again"


def test_a_worker_killed_from_outside_costs_nobody_an_answer(
    make: Callable[..., ImageWorkers],
) -> None:
    workers = make()
    ask(workers)
    threading.Timer(0.3, lambda: os.kill(workers.pids[0], signal.SIGKILL)).start()
    assert ask(workers, "sleep 0.6").facts["seen"] == 1
    (pid,) = workers.pids
    os.kill(pid, signal.SIGKILL)  # idle
    until_gone(pid)  # in tier `bwrap` what it ran may live a moment longer
    assert ask(workers).facts["seen"] == 1


@pytest.mark.parametrize("do", ["after", "leave"])
def test_a_worker_that_speaks_or_goes_unasked_is_replaced(
    make: Callable[..., ImageWorkers], do: str
) -> None:
    workers = make()
    first = ask(workers, do).facts["pid"]
    time.sleep(0.2)
    second = ask(workers).facts
    assert second["seen"] == 1
    assert second["pid"] != first


def test_a_crash_does_not_harm_its_neighbours(make: Callable[..., ImageWorkers]) -> None:
    workers = make(3)
    outcomes: list[str] = []

    def client(number: int) -> None:
        for turn in range(10):
            try:
                data = bytes([number, turn]) * 1000
                assert ask(workers, "crash" if number == 0 else "sleep 0.01", data).data == data
                outcomes.append("answered")
            except StepFailed as error:
                outcomes.append(f"{number} {error.code}")

    together(4, client)
    assert outcomes.count("answered") == 30
    assert outcomes.count("0 image_worker_died") == 10


def test_time_is_a_limit(make: Callable[..., ImageWorkers]) -> None:
    workers = make()
    ask(workers)
    started = time.monotonic()
    with pytest.raises(StepFailed, match=r"more than 0\.5 s") as caught:
        ask(workers, "sleep 30", wall_s=0.5)
    assert caught.value.code == "image_limit"
    assert not caught.value.retryable
    assert time.monotonic() - started < 2  # once: it is not tried again
    assert ask(workers).facts["seen"] == 1


def test_both_tries_together_have_that_time(make: Callable[..., ImageWorkers]) -> None:
    workers = make()
    ask(workers)
    began = time.monotonic()
    with pytest.raises(StepFailed) as caught:
        ask(workers, "sleep-and-crash 2", wall_s=3)
    assert caught.value.code == "image_limit"
    assert time.monotonic() - began < 3.9
    ask(workers)


def test_memory_is_a_limit(make: Callable[..., ImageWorkers]) -> None:
    workers = make(limits=ImageLimits(memory_bytes=400 << 20))
    for used in (True, False):
        if used:
            ask(workers)
        with pytest.raises(StepFailed, match="memory") as caught:
            ask(workers, f"eat {1 << 30}")
        assert caught.value.code == "image_limit"
    assert ask(workers, f"eat {10 << 20}").data == b"x"


def test_a_worker_that_ran_short_of_memory_is_not_trusted_again(
    make: Callable[..., ImageWorkers],
) -> None:
    workers = make()
    ask(workers)
    with pytest.raises(StepFailed, match="no memory"):
        ask(workers, "no-memory")
    assert ask(workers).facts["seen"] == 1


def test_a_full_queue_says_so_at_once(make: Callable[..., ImageWorkers]) -> None:
    workers = make(2, waiting=3)
    threads = [threading.Thread(target=ask, args=(workers, "sleep 1")) for _ in range(5)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    started = time.monotonic()
    with pytest.raises(StepFailed, match="3 pictures are waiting") as caught:
        ask(workers)
    assert time.monotonic() - started < 0.1
    assert caught.value.code == "images_busy"
    assert caught.value.retryable
    for thread in threads:
        thread.join()
    assert ask(workers).data == b"x"


def test_as_many_decoders_run_at_once_as_workers(make: Callable[..., ImageWorkers]) -> None:
    workers = make(2, waiting=3)
    running: list[int] = []
    most: list[int] = []
    go_on = threading.Event()

    def client(number: int) -> None:
        with workers.place():
            running.append(number)
            most.append(len(running))
            go_on.wait(10)
            running.remove(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(running) >= 2, 5)
    time.sleep(0.2)
    with pytest.raises(StepFailed, match="3 pictures are waiting") as caught, workers.place():
        pass
    assert caught.value.code == "images_busy"
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(most) == 5
    assert max(most) == 2


def test_who_waits_for_a_place_can_be_interrupted(make: Callable[..., ImageWorkers]) -> None:
    workers = make(1)
    cancel = Cancel()
    with workers.place():
        threading.Timer(0.1, cancel.set).start()
        with pytest.raises(Interrupted), workers.place(cancel):
            pass
        threading.Timer(0.1, workers.close).start()
        with pytest.raises(Interrupted), workers.place():
            pass


def test_a_cancelled_request_ends_at_once_waiting_or_worked_on(
    make: Callable[..., ImageWorkers],
) -> None:
    workers = make()
    ask(workers)
    (pid,) = workers.pids
    switches = [Cancel(), Cancel()]
    ended: list[str] = []

    def client(number: int) -> None:
        time.sleep(number * 0.2)
        with pytest.raises(Interrupted):
            ask(workers, "sleep 30", cancel=switches[number])
        ended.append(f"client {number}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    switches[1].set()
    threads[1].join(2)
    assert ended == ["client 1"]
    assert workers.pids == (pid,)  # the other one's worker was not touched
    switches[0].set()
    threads[0].join(2)
    assert ended == ["client 1", "client 0"]
    until_gone(pid)
    assert ask(workers).facts["seen"] == 1


def test_closing_ends_everything_at_once(make: Callable[..., ImageWorkers]) -> None:
    workers = make(2)
    ended = []

    def client(_: int) -> None:
        try:
            ask(workers, "sleep 30")
        except Interrupted:
            ended.append(time.monotonic())

    threads = [threading.Thread(target=client, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    pids = workers.pids
    assert len(pids) == 2
    started = time.monotonic()
    workers.close()
    assert time.monotonic() - started < 1
    for thread in threads:
        thread.join(1)
    assert len(ended) == 5
    until_gone(*pids)
    workers.close()
    with pytest.raises(Interrupted, match="closed"):
        ask(workers)


def test_a_crash_storm_backs_off(make: Callable[..., ImageWorkers]) -> None:
    workers = make(argv=(sys.executable, "-I", "-S", "-c", "raise SystemExit('broken')"))
    starts = []
    for _ in range(3):
        starts.append(time.monotonic())
        with pytest.raises(StepFailed, match="broken") as caught:
            ask(workers)
        assert caught.value.code == "image_worker_died"
    # After the third crash in a row a start waits 100 ms, then 200, then 400.
    assert time.monotonic() - starts[0] > 0.7
    started = time.monotonic()
    workers.close()  # also while it rests
    assert time.monotonic() - started < 0.5


def test_each_who_asks_is_told_what_cannot_be_started(make: Callable[..., ImageWorkers]) -> None:
    workers = make(argv=("/no\0program",))  # a fault that nobody expects
    for _ in range(3):
        with pytest.raises(ValueError, match="null"):
            ask(workers)


def test_a_request_for_which_there_is_no_thread_is_not_kept(
    make: Callable[..., ImageWorkers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = make(waiting=0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError):
            ask(workers)
    assert ask(workers).facts["seen"] == 1


def test_what_cannot_be_shut_in_is_said(make: Callable[..., ImageWorkers]) -> None:
    workers = make(limits=ImageLimits(memory_bytes=1 << 20))
    with pytest.raises(StepFailed) as caught:
        ask(workers)
    assert caught.value.code in ("sandbox_failed", "image_worker_died", "image_limit")


PARENT = """
import os, sys, threading
from pathlib import Path
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Request, Source
from telecine.engine.process import Sandbox
from telecine.engine.tools import Tools
workers = ImageWorkers(Tools(Path("/"), "", Sandbox.detect()), count=2, limits=ImageLimits(),
                       argv=(sys.executable, "-I", "-c", sys.argv[1]))
def ask(do):
    workers.ask(Request("inspect", Source("png"), ImageLimits(), operations=do), [b"x"])
threading.Thread(target=ask, args=("sleep 60",), daemon=True).start()
ask("sleep 0.2")
print(*workers.pids, flush=True)
if sys.argv[2] == "wait":
    threading.Event().wait()
"""


@pytest.mark.parametrize("ends", ["killed", "wait", "leaves"])
def test_no_worker_outlives_its_parent(ends: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, "leave" if ends == "leaves" else "wait"],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    if ends == "killed":
        parent.kill()
    elif ends == "wait":
        assert not gone_now(pids)
        parent.terminate()
    parent.wait(10)
    until_gone(*pids)


def gone_now(pids: list[int]) -> bool:
    return not all(Path(f"/proc/{pid}").exists() for pid in pids)


def test_threads_and_descriptors_go_with_the_workers(tools: Tools) -> None:
    def counted() -> tuple[int, int]:
        gc.collect()  # errors of earlier tests hold switches
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def live() -> None:
        with ImageWorkers(tools, count=2, limits=ImageLimits(), argv=ARGV) as workers:
            together(4, lambda number: (ask(workers), None)[1])
            with pytest.raises(StepFailed):
                ask(workers, "crash")

    before = counted()
    for _ in range(3):
        live()
    assert counted() == before
