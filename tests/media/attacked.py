"""What an attacker meets in the sandbox: its tiers, a server, and another's process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from telecine.engine.errors import StepFailed
from telecine.engine.process import Sandbox

CI = os.environ.get("CI") == "true"

_found: dict[str, Sandbox | str] = {}


def tier(name: str) -> Sandbox:
    """The tier, or the test is reported as not run. A tier that leaks fails, and in CI one that is
    missing and should not be."""
    if name == "none":
        return Sandbox("none")
    if name not in _found:
        try:
            _found[name] = Sandbox.detect(tiers=(name,))  # type: ignore[arg-type]
        except StepFailed as error:
            _found[name] = error.message
    result = _found[name]
    if isinstance(result, Sandbox):
        return result
    # In a container bubblewrap may be installed and yet unable to make namespaces.
    if "forbidden acts succeed" in result or (
        CI and (name != "bwrap" or "not installed" in result)
    ):
        pytest.fail(result)
    pytest.skip(result)


class Listener:
    """A server on one socket that notes whether anyone came."""

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int] | str) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(address)
        self._socket.listen()
        self._socket.settimeout(0.05)
        self.name = self._socket.getsockname()
        self.visited = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                self.visited.set()
                try:
                    connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    pass  # it came, and did not wait for an answer

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


@contextmanager
def victim(environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing for a minute. It lets anyone trace it, so that Yama is not what
    stops the attack."""
    script = "import ctypes, time; ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)"
    script += "; print(flush=True); time.sleep(60)"
    argv = [sys.executable, "-I", "-S", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()
