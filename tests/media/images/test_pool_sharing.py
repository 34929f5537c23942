"""`engine.images.pool` among tenants: who has much to do waits for it, and holds up nobody."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import until

from telecine.engine.errors import StepFailed
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Request, Source
from telecine.engine.process import Sandbox
from telecine.engine.tools import Tools

# Rests as long as `operations` says, and tells how many requests it was given by then.
CHILD = """
import os, sys, time
from telecine.engine.images.wire import Answer, Incoming, decode_request, encode_answer
turn = 0
while True:
    incoming = Incoming(1 << 30)
    while not incoming.done:
        count = os.readv(3, [incoming.room()])
        if not count: sys.exit()
        incoming.took(count)
    request, _ = decode_request(incoming.message())
    turn += 1
    time.sleep(float(request.operations))
    for piece in encode_answer(Answer({"turn": turn})): os.write(4, piece)
"""


class Tenants:
    """Requests in threads of their own: what came of each, in the order in which they ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, act: Callable[[], object]) -> None:
        def run() -> None:
            try:
                act()
                self.ended.append(name)
            except StepFailed as error:
                self.ended.append(f"{name} {error.code}")

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join()
        return self.ended


@pytest.fixture(scope="module")
def tools() -> Tools:
    """No FFmpeg: no test here decodes."""
    return Tools(Path("/nonexistent"), "none", Sandbox.detect())


def test_requests_of_one_tenant_hold_up_no_other(tools: Tools) -> None:
    argv = (sys.executable, "-I", "-c", CHILD)
    tenants = Tenants()
    turns: dict[str, int] = {}
    with ImageWorkers(tools, count=1, limits=ImageLimits(), waiting=3, argv=argv) as workers:

        def work(name: str, rest_s: float) -> None:
            request = Request("inspect", Source("png"), ImageLimits(), operations=str(rest_s))
            turns[name] = workers.ask(request, [b"x"], tenant=name[0]).facts["turn"]

        def ask(name: str, rest_s: float = 0.0) -> None:
            tenants.begin(name, lambda: work(name, rest_s))

        ask("a0", 2)
        until(lambda: workers.pids)
        for number, name in enumerate(("a1", "a2", "a3"), 1):
            ask(name)
            until(lambda number=number: len(workers._jobs) == number)  # type: ignore[misc]
        ask("b0")
        assert tenants.join()[0] == "a3 images_busy"
        assert sorted(turns, key=turns.__getitem__) == ["a0", "a1", "b0", "a2"]


def test_places_to_decode_are_shared_alike(tools: Tools) -> None:
    tenants = Tenants()
    go = threading.Event()
    with ImageWorkers(tools, count=1, limits=ImageLimits(), waiting=3) as workers:
        begun: list[str] = []

        def decode(name: str) -> None:
            with workers.place(tenant=name[0]):
                begun.append(name)
                assert go.wait(10)

        def waiting() -> int:
            return len(workers._places._turns)

        tenants.begin("a0", lambda: decode("a0"))
        until(lambda: begun == ["a0"])
        for number, name in enumerate(("a1", "a2", "a3"), 1):
            tenants.begin(name, lambda name=name: decode(name))  # type: ignore[misc]
            until(lambda number=number: waiting() == number)  # type: ignore[misc]
        tenants.begin("b0", lambda: decode("b0"))
        until(lambda: tenants.ended == ["a3 images_busy"])
        go.set()
        tenants.join()
        assert begun == ["a0", "a1", "b0", "a2"]
        with workers.place():  # it is free again
            pass
