"""A command on a terminal, and one who sits there and answers what it asks."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_SIZE = struct.pack("HHHH", 40, 100, 0, 0)  # lines and columns


def on_terminal(
    argv: Sequence[str | Path],
    says: Sequence[tuple[str, str]] = (),
    *,
    environment: Mapping[str, str] = os.environ,
    timeout_s: float = 120,
) -> tuple[int, str]:
    """Exit code and all that the terminal showed; it has 100 columns. `says`: what is waited for,
    and the line that is typed then. It is killed when the time is over."""
    words = [str(word) for word in argv]
    told = {**environment, "TERM": "xterm"}
    told.pop("COLUMNS", None)
    pid, terminal = pty.fork()  # passwords are asked for on the controlling terminal
    if pid == 0:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, _SIZE)
            os.execvpe(words[0], words, told)
        finally:
            os._exit(127)
    shown, left = b"", list(says)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if terminal not in select.select([terminal], [], [], 1)[0]:
            continue
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # how a terminal says that the other side is gone
            break
        if left and left[0][0].encode() in shown:
            os.write(terminal, left.pop(0)[1].encode() + b"\n")
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()
