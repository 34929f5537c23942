"""Runs the command as its user does, and measures what it and all its children take."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.processes import resident_bytes, tree

TELECINE = str(Path(sys.executable).with_name("telecine"))


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str
    wall_s: float
    peak_bytes: int  # resident memory of the whole tree, shared pages counted in each process


def telecine(*words: str | Path | bytes, cwd: Path | None = None, timeout_s: float = 60) -> Done:
    """Run `telecine WORDS` to its end, without a terminal."""
    begin = time.monotonic()
    with subprocess.Popen(
        [TELECINE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
    ) as run:
        scale = Scale(run.pid)
        try:
            out, err = run.communicate(timeout=timeout_s)
        finally:
            run.kill()
            peak = scale.stop()
    wall_s = time.monotonic() - begin
    return Done(run.returncode, out.decode(), err.decode(), wall_s, peak)


class Scale:
    """Weighs a process and its descendants every 10 ms, until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._weigh)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _weigh(self) -> None:
        while not self._stopped.wait(0.01):
            self._peak = max(self._peak, sum(resident_bytes(pid) for pid in tree(self._pid)))
