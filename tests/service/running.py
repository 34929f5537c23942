"""A real `telecine serve` in a process of its own, on a free port and with its own data folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from tests.service.conftest import PASSWORD

from telecine.client import Client, Job

START_S = 60


class Running:
    """Starts with the block and is stopped at its end.

    `workers` processes; `options` are more words of the command line. `base_url` is where it
    listens, `log` the file that its standard error goes to, `out` that of its standard output.
    """

    def __init__(
        self,
        data: Path,
        *options: str,
        workers: int = 0,
        signup: str = "open",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.base_url = ""
        self.log = data.with_name(data.name + ".log")
        self.out = data.with_name(data.name + ".out")
        self.environment = environment or {}
        self.words = [
            *(sys.executable, "-m", "telecine", "serve", "--data", str(data), "--port", "0"),
            *("--workers", str(workers), "--signup", signup, *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.out.write_bytes(b"")
        with self.log.open("ab") as log, self.out.open("ab") as out:
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + START_S
        while not self._ready():
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"telecine serve: {code}\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        told = re.search(r"https?://127\.0\.0\.1:\d+", self.out.read_text())
        if told is None:
            return False
        self.base_url = told[0]
        try:
            return httpx2.get(f"{told[0]}/readyz", verify=False, timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM, *, timeout_s: float = 60) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@contextmanager
def working_for_ada(data: Path) -> Iterator[Client]:
    """A service with a worker, and a user of it who has an API key."""
    with Running(data, workers=1) as running:
        with Client(running.base_url) as anyone:
            anyone.sign_up("ada@example.org", PASSWORD, name="Ada")
            anyone.log_in("ada@example.org", PASSWORD)
            key = anyone.create_api_key("tests").secret
        with Client(running.base_url, api_key=key) as client:
            yield client


def finished_job(client: Client, film: Path, outputs: list[dict[str, Any]]) -> Job:
    """The job that an upload of this film carries, once it has succeeded."""
    upload = client.upload(film, outputs=outputs)
    assert upload.job_id is not None
    for _ in client.watch(upload.job_id):
        pass
    done = client.job(upload.job_id)
    assert done.state == "succeeded", done.error
    return done
