"""`engine.process`: what a caller is promised about children. The children are Python programs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from telecine.engine.errors import Interrupted, StepFailed, ToolMissing
from telecine.engine.process import Access, Cancel, Finished, Limits, Sandbox, limits_for, run

OPEN = Sandbox("none")


def python(
    script: str,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    sinks: dict[int, Callable[[bytes], object]] | None = None,
    cancel: Cancel | None = None,
    on_line: Callable[[str], object] | None = None,
) -> Finished:
    return run(
        [sys.executable, "-I", "-S", "-c", script],
        sandbox=OPEN,
        limits=limits or Limits(),
        access=access or Access(),
        sinks=sinks,
        cancel=cancel,
        on_line=on_line,
    )


def test_bytes_reach_each_sink_in_order_and_whole() -> None:
    got: dict[int, list[bytes]] = {1: [], 10: [], 11: []}
    finished = python(
        "import os\n"
        "for i in range(50):\n"
        "    for fd in (1, 10, 11):\n"
        "        data = bytes([fd]) * 100_000\n"
        "        while data: data = data[os.write(fd, data):]\n",
        sinks={fd: pieces.append for fd, pieces in got.items()},
    )
    assert finished.returncode == 0
    for fd, pieces in got.items():
        assert b"".join(pieces) == bytes([fd]) * 5_000_000


def test_ends_as_the_child_ends() -> None:
    assert python("raise SystemExit(7)").returncode == 7
    killed = python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert (killed.signal, killed.returncode, killed.limit) == (15, 143, None)


def test_the_child_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TELECINE_SECRET", "s3cret")
    leak = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leak, True)
    said: list[bytes] = []
    try:
        python(
            "import os\n"
            "print(sorted(os.environ.items()), os.getcwd(), os.getpgid(0) == os.getpid())\n"
            "fds = []\n"
            "for fd in range(1024):\n"
            "    try: os.fstat(fd); fds.append(fd)\n"
            "    except OSError: pass\n"
            "print(fds, os.read(0, 1), os.getppid())",
            access=Access(write=tmp_path),
            sinks={1: said.append, 12: said.append},
        )
    finally:
        os.close(leak)
    first, second = b"".join(said).decode().splitlines()
    # Python sets LC_CTYPE for itself when the locale is C (PEP 538)
    assert first.replace("('LC_CTYPE', 'C.UTF-8'), ", "") == (
        f"[('LC_ALL', 'C'), ('MALLOC_ARENA_MAX', '4')] {tmp_path} True"
    )
    assert second == f"[0, 1, 2, 12] b'' {os.getpid()}"


def test_no_descriptor_and_no_zombie_is_left() -> None:
    python("pass")  # whatever is opened once and for all
    before = sorted(Path("/proc/self/fd").iterdir())

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    for _ in range(5):
        python("print(1)", sinks={1: lambda data: None, 10: lambda data: None})
        with pytest.raises(ZeroDivisionError):
            python("print(1, flush=True); import time; time.sleep(60)", sinks={1: fail})
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_cancel_ends_every_child_at_once() -> None:
    cancel = Cancel()
    ended: list[float] = []

    def work() -> None:
        with pytest.raises(Interrupted):
            python("import time; time.sleep(60)", cancel=cancel)
        ended.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    at = time.monotonic()
    cancel.set()
    for thread in threads:
        thread.join()
    assert len(ended) == 3
    assert max(ended) - at < 0.2
    with pytest.raises(Interrupted):
        python("pass", cancel=cancel)


@pytest.mark.parametrize(
    ("limits", "script", "expected"),
    [
        (Limits(wall_s=0.3, stall_s=None), "import time; time.sleep(60)", "wall"),
        (Limits(stall_s=0.3), "import time; time.sleep(60)", "stall"),
        (Limits(cpu_s=1), "while True: pass", "cpu"),
        (Limits(memory_bytes=200 << 20), "x = bytearray(1 << 30)", "memory"),
    ],
)
def test_a_limit_is_named(limits: Limits, script: str, expected: str) -> None:
    started = time.monotonic()
    finished = python(script, limits=limits)
    assert finished.limit == expected
    assert finished.returncode != 0
    assert time.monotonic() - started < 5


def test_a_nicer_child_is_nicer_in_all_its_threads() -> None:
    said: list[bytes] = []
    script = "import os, threading, time; time.sleep(0.3)\n"
    script += "tell = lambda: os.write(1, b'%d ' % os.getpriority(os.PRIO_PROCESS, 0))\n"
    script += "tell(); thread = threading.Thread(target=tell); thread.start(); thread.join()"
    assert python(script, limits=Limits(niceness=3), sinks={1: said.append}).returncode == 0
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert b"".join(said).split() == [b"%d" % min(own + 3, 19)] * 2


def test_a_nicer_child_stands_back_where_sessions_share_the_processors() -> None:
    said: list[bytes] = []
    groups = Path("/proc/self/autogroup")
    script = "import os, time; time.sleep(0.3)\n"
    script += f"if os.path.exists({str(groups)!r}): os.write(1, open({str(groups)!r}, 'rb').read())"
    assert python(script, limits=Limits(niceness=3), sinks={1: said.append}).returncode == 0
    nice = b" nice %d\n" % min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    assert b"".join(said).endswith(nice) == groups.exists()


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
def test_file_size_is_a_limit(handler: str, tmp_path: Path) -> None:
    script = f"import os, signal; signal.signal(signal.SIGXFSZ, signal.{handler})\n"
    script += "open('big', 'wb').write(bytes(1 << 22))"
    finished = python(script, limits=Limits(file_bytes=1 << 20), access=Access(write=tmp_path))
    assert finished.limit == "file_size"
    assert (tmp_path / "big").stat().st_size <= 1 << 20


def test_lines_that_are_no_progress_do_not_hide_a_stall() -> None:
    script = "import sys, time\n"
    script += "while True: print('frame=1', file=sys.stderr, flush=True); time.sleep(0.01)"
    assert python(script, limits=Limits(stall_s=0.4), on_line=lambda line: False).limit == "stall"
    moving = python(script, limits=Limits(stall_s=0.4, wall_s=1), on_line=lambda line: None)
    assert moving.limit == "wall"


def test_the_log_is_bounded_and_harmless() -> None:
    lines: list[str] = []
    script = "import sys\n"
    script += "for i in range(200): sys.stderr.write(f'line {i}\\r')\n"
    script += "sys.stderr.write('x' * 3_000_000 + '\\n\\x1b[31mred\\x07\\n')"
    finished = python(script, on_line=lines.append)
    assert finished.log_tail[-1] == "\ufffd[31mred\ufffd"
    assert finished.log_tail[-2] == "x" * 500
    assert finished.log_tail[0] == "line 152"
    assert len(finished.log_tail) == 50
    assert lines[:2] == ["line 0", "line 1"]
    assert len(lines) == 202


def test_what_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="no such program"):
        run([str(tmp_path / "none")], sandbox=OPEN, limits=Limits(), access=Access())
    text = tmp_path / "text"
    text.write_text("not a program")
    text.chmod(0o755)
    with pytest.raises(StepFailed, match="Exec format error"):
        run([str(text)], sandbox=OPEN, limits=Limits(), access=Access())


@pytest.mark.parametrize(
    ("pixels", "rungs", "threads", "measured_gib"),
    [
        # VmPeak of FFmpeg 9.0.2, x264 veryfast with look-ahead filled, malloc arenas as here
        (1920 * 1080, 5, 2, 1.31),
        (1920 * 1080, 5, 8, 1.82),
        (1920 * 1080, 5, 32, 4.49),
        (7680 * 4320, 4, 2, 6.11),
    ],
)
def test_memory_limit_clears_what_was_measured(
    pixels: int, rungs: int, threads: int, measured_gib: float
) -> None:
    limits = limits_for(pixels, rungs, Fraction(20), threads=threads)
    assert 1.3 * measured_gib < limits.memory_bytes / 2**30 < 4 * measured_gib


def test_cpu_limit_grows_with_the_work() -> None:
    # 33.7 CPU s for this ladder of 30 s at 1080p (measured); 1 s of a small one still gets a minute
    assert 33.7 * 20 < limits_for(1920 * 1080, 4, Fraction(30)).cpu_s < 33.7 * 200
    assert limits_for(320 * 180, 1, Fraction(1)).cpu_s >= 60


def test_a_switch_within_another_is_set_with_it_and_not_the_other_way_round() -> None:
    outer = Cancel()
    inner = Cancel(outer)
    inner.set()
    assert not outer.is_set()
    other = Cancel(outer)
    outer.set()
    assert other.wait(0)
    assert Cancel(outer).wait(0)  # made too late to hear of it
