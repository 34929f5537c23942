"""Puts pip into a virtual environment on a Python that ships none.

Debian splits `ensurepip` off into another package, so that `python3 -m venv` alone cannot make a
usable environment there (docs/adr/0006). This fetches one pinned pip wheel from the package index
that pip itself would use (`PIP_INDEX_URL`, else pip's configuration files, else pip's public
default) and lets that wheel install itself. Run with the environment's own Python and nothing but
the standard library:

    .venv/bin/python scripts/bootstrap_pip.py

Exit code 1 and one line on standard error when the index cannot be reached or serves other bytes
than the pinned ones; the environment then has no pip, and running it again is safe.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
WHEEL_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
PUBLIC_INDEX = "https://pypi.org/simple"  # pip's own default, used only where none is configured
TIMEOUT_S = 60.0


class BootstrapError(Exception):
    """One line that says why pip could not be installed."""


def config_files(environ: Mapping[str, str], home: Path, prefix: Path) -> list[Path]:
    """pip's configuration files on Linux, the strongest last (pip, "Configuration")."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    xdg_dirs = [d for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    xdg_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(d, "pip", "pip.conf") for d in reversed(xdg_dirs)]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", xdg_home / "pip" / "pip.conf"]
    files.append(prefix / "pip.conf")
    if named := environ.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    return files


def setting(key: str, environ: Mapping[str, str], files: Iterable[Path]) -> str | None:
    """What `pip install` would take for `key` (as in a file, `index-url`), or None where unset."""
    if value := environ.get("PIP_" + key.upper().replace("-", "_")):
        return value
    found = {}
    for file in files:
        parser = configparser.RawConfigParser()
        parser.read(file, encoding="utf-8")
        for section in ("global", "install"):
            if parser.has_option(section, key):
                found[section] = parser.get(section, key)
    return found.get("install", found.get("global"))


class _Links(HTMLParser):
    """Collects `file name → address` of a project page of the simple index (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            path = urllib.parse.urlsplit(href).path
            self.hrefs[urllib.parse.unquote(path.rsplit("/", 1)[-1])] = href


def wheel_url(page_url: str, page: str) -> str:
    """The address of the pinned wheel on its project page; raises BootstrapError if not there."""
    links = _Links()
    links.feed(page)
    if WHEEL not in links.hrefs:
        raise BootstrapError(f"{_without_password(page_url)} does not list {WHEEL}")
    return urllib.parse.urljoin(page_url, links.hrefs[WHEEL])


def checked(data: bytes) -> bytes:
    """`data`, if it is the pinned wheel; raises BootstrapError otherwise."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != WHEEL_SHA256:
        raise BootstrapError(f"{WHEEL} has SHA-256 {digest}, expected {WHEEL_SHA256}")
    return data


def request_for(url: str) -> urllib.request.Request:
    """A GET of `url`, whose `user:password@`, as private indexes use it, becomes a header."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    # Only http(s): a configured file:// index would make urllib read local files.
    if parts.scheme not in ("https", "http"):
        raise BootstrapError(f"the package index must be http or https, not {parts.scheme!r}")
    headers = {"Accept": "text/html, */*;q=0.1"}
    if login:
        plain = urllib.parse.unquote(login).encode()
        headers["Authorization"] = "Basic " + base64.b64encode(plain).decode()
    return urllib.request.Request(parts._replace(netloc=host).geturl(), headers=headers)


def _without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def fetch(url: str, certificates: str | None) -> bytes:
    """The body at `url`; raises BootstrapError when it cannot be had within TIMEOUT_S."""
    context = ssl.create_default_context(cafile=certificates)
    try:
        with urllib.request.urlopen(request_for(url), timeout=TIMEOUT_S, context=context) as reply:
            body: bytes = reply.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise BootstrapError(f"cannot fetch {_without_password(url)}: {error}") from error
    return body


def download_wheel(environ: Mapping[str, str], files: Iterable[Path]) -> bytes:
    """The pinned wheel's bytes from the configured index; raises BootstrapError."""
    files = list(files)
    index = setting("index-url", environ, files) or PUBLIC_INDEX
    certificates = setting("cert", environ, files)
    page_url = index.rstrip("/") + "/pip/"
    page = fetch(page_url, certificates).decode("utf-8", "replace")
    url = wheel_url(page_url, page)
    # A link inside the same host keeps the login that the index was configured with.
    login = urllib.parse.urlsplit(index).netloc.rpartition("@")[0]
    parts = urllib.parse.urlsplit(url)
    same_host = parts.netloc == urllib.parse.urlsplit(_without_password(index)).netloc
    if login and same_host:
        url = parts._replace(netloc=f"{login}@{parts.netloc}").geturl()
    return checked(fetch(url, certificates))


def main() -> int:
    files = config_files(os.environ, Path.home(), Path(sys.prefix))
    try:
        wheel = download_wheel(os.environ, files)
    except BootstrapError as error:
        print(f"cannot install pip: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, WHEEL)
        path.write_bytes(wheel)
        # A wheel is a zip that Python runs: pip installs itself, with no index and no resolver.
        argv = [sys.executable, f"{path}/pip", "install", "--quiet", "--no-index", "--no-deps"]
        return subprocess.run([*argv, str(path)], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
