"""thumbor as a user would set it up to serve a folder of photos: its file loader, results kept on
disk, several processes, signed URLs only.

Installed from `requirements/thumbor.txt` into an environment of its own, kept between runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

LOCK = Path(__file__).resolve().parents[1] / "requirements" / "thumbor.txt"
START_S = 30


def install(folder: Path) -> Path:
    """Its command, below `folder`. Raises `subprocess.CalledProcessError` when the packages cannot
    be had."""
    venv = folder / "thumbor-venv"
    command, done = venv / "bin" / "thumbor", venv / ".installed"
    if not done.exists() or done.read_text() != LOCK.read_text():
        python = str(venv / "bin" / "python")
        # Without pip of its own: Debian's python3 has none to put there.
        _quietly([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        _quietly([*pip, "--no-deps", "--require-hashes", "-r", str(LOCK)])
        done.write_text(LOCK.read_text())
    return command


def version() -> str:
    pins = (line.split() for line in LOCK.read_text().splitlines() if line.startswith("thumbor=="))
    return next(pins)[0].removeprefix("thumbor==")


def _quietly(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)


class Thumbor:
    """Starts with the block and is stopped at its end; its results lie below `folder`."""

    def __init__(self, command: Path, photos: Path, folder: Path, processes: int) -> None:
        folder.mkdir()
        self.port = _free_port()
        self._key = secrets.token_hex(16)
        self._log = folder / "log"
        conf = folder / "thumbor.conf"
        conf.write_text(
            f'SECURITY_KEY = "{self._key}"\n'
            "ALLOW_UNSAFE_URL = False\n"
            'LOADER = "thumbor.loaders.file_loader"\n'
            f'FILE_LOADER_ROOT_PATH = "{photos}"\n'
            'STORAGE = "thumbor.storages.no_storage"\n'  # the loader's files are there already
            'RESULT_STORAGE = "thumbor.result_storages.file_storage"\n'
            f'RESULT_STORAGE_FILE_STORAGE_ROOT_PATH = "{folder / "results"}"\n'
        )
        self._words = [
            *(str(command), "--ip", "127.0.0.1", "--port", str(self.port), "--conf", str(conf)),
            *("--processes", str(processes), "--log-level", "error"),
        ]

    def path(self, photo: str, width: int, format: str, quality: int) -> str:
        """A signed URL's path (thumbor's docs: "Security"): HMAC-SHA1 of what follows it. `fit-in`:
        without it, a height that is rounded makes thumbor crop first, which takes twice as long."""
        rest = f"fit-in/{width}x0/filters:quality({quality}):format({format})/{photo}"
        digest = hmac.new(self._key.encode(), rest.encode(), hashlib.sha1).digest()
        return f"/{base64.urlsafe_b64encode(digest).decode()}/{rest}"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its processes do not end with the first one
            )
        deadline_s = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self._stop()
                raise RuntimeError(f"thumbor does not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/healthcheck"
            return httpx2.get(url, timeout=5).status_code == 200
        except httpx2.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
