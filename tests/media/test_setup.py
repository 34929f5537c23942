"""pip from a package index, as on a Python without ensurepip: a small index on loopback."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from scripts import bootstrap_pip as bootstrap

LOGIN = "me:p@ss"


def wheel() -> bytes:
    """A wheel of that name whose program writes down what it was asked to do."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        source = "import pathlib, sys; pathlib.Path('asked').write_text(' '.join(sys.argv[1:]))\n"
        archive.writestr("pip/__main__.py", source)
    return buffer.getvalue()


WHEEL = wheel()


class Index(BaseHTTPRequestHandler):
    """One project page, one file, and nothing without the login."""

    def do_GET(self) -> None:
        link = f'<a href="../../files/{bootstrap.WHEEL}">{bootstrap.WHEEL}</a>'
        pages = {
            "/simple/pip/": link.encode(),
            f"/files/{bootstrap.WHEEL}": WHEEL,
        }
        expected = "Basic " + base64.b64encode(LOGIN.encode()).decode()
        body = pages.get(self.path, b"")
        code = 200 if self.headers.get("Authorization") == expected else 401
        self.send_response(code if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No setting of this machine's own, and `tmp_path` to work in."""
    for name in ("PIP_INDEX_URL", "PIP_CERT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setattr(sys, "argv", ["bootstrap_pip.py"])
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_pip_installs_itself_from_the_configured_index(
    index: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setattr(bootstrap, "WHEEL_SHA256", hashlib.sha256(WHEEL).hexdigest())
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = http://me:p%40ss@{index}\n")
    assert bootstrap.main() == 0
    assert (tmp_path / "asked").read_text().startswith("install --quiet --no-index --no-deps ")


def test_another_wheel_is_not_run(
    index: str,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment.setenv("PIP_INDEX_URL", f"http://me:p%40ss@{index}")
    assert bootstrap.main() == 1
    assert f"has SHA-256 {hashlib.sha256(WHEEL).hexdigest()}" in capsys.readouterr().err
    assert not (tmp_path / "asked").exists()


def test_an_index_that_refuses_is_named_without_its_password(
    index: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PIP_INDEX_URL", f"http://me:wrong@{index}")
    assert bootstrap.main() == 1
    said = capsys.readouterr().err
    assert f"http://{index}/pip/" in said
    assert "401" in said
    assert "wrong" not in said


def test_an_environment_without_pip_is_made_by_any_python(tmp_path: Path) -> None:
    """What `make setup` starts from; `venv` alone would stop here where ensurepip is absent."""
    argv = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(argv, check=True, timeout=60)
    asked = [str(tmp_path / "venv/bin/python"), "-m", "pip", "--version"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode != 0
