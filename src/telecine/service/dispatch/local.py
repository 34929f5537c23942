"""The doorbell of one machine: each listener has a Unix datagram socket in a folder, and a ring is
an empty datagram to all that listen to its queue. It works across processes and threads.

Where sockets cannot be had (a foreign file system, too long a path) nothing rings, and whoever
waits polls.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".bell"


class LocalBell:
    """Rings every `LocalListener` of the same folder. Never blocks, never raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ring(self, queue: str) -> None:
        """Wake all who listen to `queue`. Sockets that nobody reads any more are removed."""
        try:
            with _opened(self._folder) as near, _datagram() as bell:
                for path in near.glob(f"{queue}-*{SUFFIX}"):
                    _send(bell, path)
        except OSError:
            return  # whoever waits polls as well

    def listen(self, queue: str) -> LocalListener:
        """An ear for this queue, for one thread."""
        return LocalListener(self._folder, queue)


class LocalListener:
    """One listener's ear, for one thread."""

    def __init__(self, folder: Path, queue: str) -> None:
        self._path: Path | None = None
        self._socket: socket.socket | None = None
        name = f"{queue}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _opened(folder) as near:
                self._socket = _datagram()
                self._socket.bind(str(near / name))
                self._path = folder / name
        except OSError:
            self.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until rung, at most so long; whether it rang. Rings that came before count once."""
        if self._socket is None:
            time.sleep(timeout_s)
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return False
        try:
            while True:
                self._socket.recv(1)
        except OSError:  # BlockingIOError: all rings are read
            return True

    def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None


def _datagram() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _send(bell: socket.socket, path: Path) -> None:
    try:
        try:
            bell.sendto(b"\0", str(path))
        except ConnectionRefusedError:  # its process was killed
            path.unlink()
    except OSError:  # gone meanwhile, or so many rings wait that one more says nothing
        return


@contextmanager
def _opened(folder: Path) -> Iterator[Path]:
    """The folder by a short name: a socket's path has 107 bytes, and a data folder may lie deep."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = Path(f"/proc/self/fd/{fd}")
        yield short if short.exists() else folder
    finally:
        os.close(fd)
