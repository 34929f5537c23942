"""Run one contestant and weigh it, from outside and the same for all.

Run as a program of its own for every measurement (`python -m bench.measure`, a request as JSON on
stdin, a `Measurement` as JSON on stdout), since RUSAGE_CHILDREN counts every child that a process
ever had: in a fresh process it is exactly the contestant and whatever the contestant started.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.processes import resident_bytes, tree

from bench.playlists import playable

POLL_S = 0.010  # how often the watcher looks whether a player could start
MEMORY_POLL_S = 0.100  # how often resident memory is added up: a shorter peak is not seen


@dataclass(frozen=True, slots=True)
class Request:
    """`commands` run one after the other; `files` (path → text) are written when the last one is
    done, as part of what is measured; `master` is the multivariant playlist to watch for."""

    commands: list[list[str]]
    files: dict[str, str]
    master: str
    log: str


@dataclass(frozen=True, slots=True)
class Measurement:
    cpu_s: float  # user and system, of the whole tree
    wall_s: float
    peak_tree_bytes: int  # resident memory of the tree, shared pages counted in each process
    peak_process_bytes: int  # the largest single process, as the kernel kept it
    first_play_s: float | None


class ContestantFailed(Exception):
    pass


def run(request: Request) -> Measurement:
    """Run in this process; only right when it had no child before.

    Raises `ContestantFailed` when a command does not exit with 0; its output is in `request.log`.
    Interrupted, it kills what it started.
    """
    watch = _Watch(Path(request.master))
    with Path(request.log).open("wb") as log:
        for command in request.commands:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all of it can be killed at once
            )
            watch.until_exit(child)
            if child.returncode != 0:
                raise ContestantFailed(f"exit {child.returncode}: {command[0]} (see {request.log})")
    for path, text in request.files.items():
        Path(path).write_text(text)
    wall_s = time.monotonic() - watch.began_s
    watch.look()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measurement(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=wall_s,
        peak_tree_bytes=watch.peak_tree_bytes,
        peak_process_bytes=usage.ru_maxrss * 1024,
        first_play_s=watch.first_play_s,
    )


class _Watch:
    """What is seen from outside while the contestant runs."""

    def __init__(self, master: Path) -> None:
        self.began_s = time.monotonic()
        self.first_play_s: float | None = None
        self.peak_tree_bytes = 0
        self._master = master
        self._next_memory_s = self.began_s

    def until_exit(self, child: subprocess.Popen[bytes]) -> None:
        pidfd = os.pidfd_open(child.pid)  # readable when the child ends: no delay in `wall_s`
        try:
            while not select.select([pidfd], [], [], POLL_S)[0]:
                self.look()
                if time.monotonic() >= self._next_memory_s:
                    self._next_memory_s = time.monotonic() + MEMORY_POLL_S
                    tree_bytes = sum(map(resident_bytes, tree(child.pid)))
                    self.peak_tree_bytes = max(self.peak_tree_bytes, tree_bytes)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            os.close(pidfd)
            child.wait()

    def look(self) -> None:
        if self.first_play_s is None and playable(self._master):
            self.first_play_s = time.monotonic() - self.began_s


def measure(request: Request) -> Measurement:
    """Run `request` in a fresh measuring process. Raises `ContestantFailed`."""
    fresh = subprocess.Popen(
        [sys.executable, "-m", "bench.measure"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        out, err = fresh.communicate(json.dumps(asdict(request)))
    except BaseException:
        fresh.terminate()  # it kills the contestant first
        fresh.communicate()
        raise
    if fresh.returncode != 0:
        lines = err.strip().splitlines()
        raise ContestantFailed(lines[-1] if lines else f"exit {fresh.returncode}")
    return Measurement(**json.loads(out))


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that children are killed on the way out."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def main() -> int:
    end_on_sigterm()
    try:
        measurement = run(Request(**json.load(sys.stdin)))
    except ContestantFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    json.dump(asdict(measurement), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
