"""`engine.process.start`: what a caller is promised about a child that lives long.

The children are Python programs: each answers a request of eight bytes (how many more follow, and
how many it shall answer with, four bytes each)."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from telecine.engine.errors import Interrupted, ToolMissing
from telecine.engine.process import Access, Cancel, Conversation, Limits, Sandbox, start

ECHO = """
import os, struct, sys
def read(count):
    data = b""
    while len(data) < count:
        got = os.read(3, min(count - len(data), 1 << 20))
        if not got: sys.exit(7)
        data += got
    return data
while True:
    came, wanted = struct.unpack("<II", read(8))
    read(came)
    left = memoryview(bytes([came % 251]) * wanted)
    while left: left = left[os.write(4, left):]
"""


class Answer:
    """So many bytes."""

    def __init__(self, count: int) -> None:
        self.data = bytearray(count)
        self.got = 0

    @property
    def done(self) -> bool:
        return self.got == len(self.data)

    def room(self) -> memoryview:
        return memoryview(self.data)[self.got :]

    def took(self, count: int) -> None:
        self.got += count


def child(script: str, limits: Limits | None = None) -> Conversation:
    return start(
        [sys.executable, "-I", "-S", "-c", script],
        sandbox=Sandbox("none"),
        limits=limits or Limits(),
        access=Access(),
    )


def ask(talk: Conversation, came: int, wanted: int, wall_s: float = 20) -> bytes | None:
    answer = Answer(wanted)
    head = struct.pack("<II", came, wanted)
    request: list[bytes | bytearray | memoryview] = [head, b"", memoryview(bytes(came))]
    return bytes(answer.data) if talk.ask(request, answer, wall_s=wall_s) else None


def test_it_answers_again_and_again() -> None:
    talk = child(ECHO)
    for count in (1, 5_000_000, 0, 300):
        assert ask(talk, count, 2_000_000) == bytes([count % 251]) * 2_000_000
        assert talk.quiet()
    finished = talk.close()
    assert (finished.signal, finished.limit) == (signal.SIGKILL, None)


def test_a_child_that_answers_while_it_is_asked_blocks_nobody() -> None:
    """Both pipes are full of what the other side has not read yet."""
    talk = child(
        "import os\n"
        "while True:\n"
        "    data = os.read(3, 1 << 16)\n"
        "    while data: data = data[os.write(4, data):]\n"
    )
    sent = os.urandom(1 << 16) * 320
    answer = Answer(len(sent))
    assert talk.ask([sent], answer, wall_s=20)
    assert answer.data == sent
    talk.close()


def test_waiting_costs_nothing() -> None:
    talk = child("import time; time.sleep(30)")
    before = time.thread_time()
    assert ask(talk, 10, 10, wall_s=0.5) is None
    assert time.thread_time() - before < 0.1
    assert talk.close().limit == "wall"


@pytest.mark.parametrize(
    ("script", "came", "returncode"),
    [
        ("raise SystemExit(9)", 10, 9),
        ("import os; os.read(3, 8); os._exit(9)", 5_000_000, 9),
        ("import os; os.write(4, bytes(99)); os._exit(9)", 10, 9),
        ("import os, time; os.close(4); time.sleep(30)", 10, 137),
        ("import os, time; os.close(3); time.sleep(30)", 5_000_000, 137),
        # an answer to a request that it has not read
        ("import os, time; os.write(4, bytes(100)); time.sleep(30)", 5_000_000, 137),
    ],
)
def test_a_child_that_does_not_do_its_part_is_noticed_at_once(
    script: str, came: int, returncode: int
) -> None:
    talk = child(script)
    started = time.monotonic()
    assert ask(talk, came, 100) is None
    assert talk.close().returncode == returncode
    assert time.monotonic() - started < 5


def test_what_nobody_asked_for_is_noticed() -> None:
    talk = child("import os, time; os.write(4, b'x'); time.sleep(30)")
    deadline = time.monotonic() + 5
    while talk.quiet() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not talk.quiet()
    talk.close()
    gone = child("")
    deadline = time.monotonic() + 5
    while gone.quiet() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not gone.quiet()
    assert gone.close().returncode == 0


def test_any_of_the_switches_ends_it() -> None:
    for position in (0, 1):
        talk = child("import time; time.sleep(30)")
        switches = [Cancel(), Cancel()]
        timer = threading.Timer(0.1, switches[position].set)
        timer.start()
        with pytest.raises(Interrupted):
            talk.ask([b"x"], Answer(1), wall_s=20, cancel=switches)
        assert talk.close().signal == signal.SIGKILL
        timer.join()


def test_its_end_is_told_with_its_cause() -> None:
    talk = child("import sys; sys.stderr.write('x' * 3_000_000 + '\\nlast words\\n'); sys.exit(3)")
    assert ask(talk, 1, 1) is None
    finished = talk.close()
    assert (finished.returncode, finished.log_tail[-1]) == (3, "last words")
    spins = child("while True: pass", Limits(cpu_s=1))
    assert ask(spins, 1, 1) is None
    assert spins.close().limit == "cpu"
    eats = child("x = b'x' * (1 << 30)", Limits(memory_bytes=300 << 20))
    assert ask(eats, 1, 1) is None
    assert eats.close().limit == "memory"


def test_there_must_be_a_program() -> None:
    with pytest.raises(ToolMissing):
        start(["/no/such"], sandbox=Sandbox("none"), limits=Limits(), access=Access())


def open_now() -> set[int]:
    return {int(fd.name) for fd in Path("/proc/self/fd").iterdir()}


def test_nothing_is_left_open() -> None:
    before = open_now()
    for _ in range(3):
        talk = child(ECHO)
        ask(talk, 10, 10)
        talk.close()
    assert open_now() == before


def test_nothing_is_left_open_where_it_cannot_be_started() -> None:
    """Out of descriptors at each of those that a start needs, one after the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_now()
    failed = 0
    for most in range(len(before), max(before) + 30):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        talk = None
        try:
            talk = child(ECHO)
        except OSError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if talk is not None:
            talk.close()
            break
    assert failed > 3
    assert talk is not None
    assert open_now() == before


def test_a_child_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int) -> int:
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    pids: list[int] = []
    before = open_now()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", none_left)
        with pytest.raises(OSError, match="Too many"):
            child(ECHO)
    assert open_now() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], 0)


def test_it_dies_with_the_thread_that_started_it() -> None:
    pids = []

    def owner() -> None:
        talk = child(ECHO)
        ask(talk, 10, 10)
        pids.append(talk.pid)

    thread = threading.Thread(target=owner)
    thread.start()
    thread.join()
    _, status = os.waitpid(pids[0], 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
