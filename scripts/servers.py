"""Servers for tests and development, each in a folder of its own and gone with it.

    scripts/services start postgres      starts it, or finds it running, and prints its URL
    scripts/services stop                stops what was started and removes all of it

PostgreSQL is Debian's; where it is absent and we are root, `start` installs it. It listens on a
free port of 127.0.0.1 and on a Unix socket in its folder, with a password of its own. It does not
wait for the disk: a killed server keeps what it committed, a machine without power does not.

Needs nothing but Python's standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "postgresql"
START_S = 60
TRIES = 3  # another process may take the free port that was found

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 300
fsync = off
full_page_writes = off
"""


class ServerFailed(Exception):
    """A server could not be started; the message says why."""


def default_folder() -> Path:
    """Where this copy of the project keeps its server. Short: a socket's path has 107 bytes."""
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"telecine-postgres-{os.getuid()}-{name}"


def postgres_binaries() -> Path | None:
    """The folder with Debian's newest `initdb`, or that of the one on the PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return None if there is None else Path(there).resolve().parent


def start_postgres(folder: Path) -> str:
    """Start a server in `folder`, unless one runs there; its URL. Raises `ServerFailed`."""
    url = folder / "url"
    if url.is_file() and _running(folder):
        return url.read_text(encoding="utf-8").strip()
    binaries = postgres_binaries()
    if binaries is None:
        raise ServerFailed("PostgreSQL is not installed")
    stop_postgres(folder)
    folder.mkdir(mode=0o700, parents=True)
    password = secrets.token_hex(16)
    (folder / "password").write_text(password, encoding="utf-8")
    for path in (folder, folder / "password"):
        shutil.chown(path, *_owner())
    data = folder / "data"
    words: list[str | Path] = [binaries / "initdb", "--pgdata", data, "--no-sync"]
    words += ["--username", "telecine", "--auth", "scram-sha-256"]
    words += ["--pwfile", folder / "password", "--encoding", "UTF8", "--locale", "C.UTF-8"]
    _as_owner(words, folder)
    defaults = (data / "postgresql.conf").read_text(encoding="utf-8")
    start: list[str | Path] = [binaries / "pg_ctl", "--pgdata", data, "--log", folder / "log"]
    start += ["--timeout", str(START_S), "--wait", "start"]
    for left in reversed(range(TRIES)):
        port = _free_port()
        settings = SETTINGS.format(port=port, folder=folder)
        (data / "postgresql.conf").write_text(defaults + settings, encoding="utf-8")
        try:
            _as_owner(start, folder)
            break
        except ServerFailed:
            if not left:
                raise
    url.touch(mode=0o600)
    url.write_text(f"postgresql://telecine:{password}@127.0.0.1:{port}/postgres\n", "utf-8")
    return start_postgres(folder)


def stop_postgres(folder: Path) -> None:
    """Stop the server in `folder`, if one runs, and remove the folder."""
    binaries = postgres_binaries()
    if binaries is not None and _running(folder):
        stop: list[str | Path] = [binaries / "pg_ctl", "--pgdata", folder / "data"]
        _as_owner([*stop, "--mode", "immediate", "--wait", "stop"], folder)
    shutil.rmtree(folder, ignore_errors=True)


def install_postgres() -> None:
    """Install Debian's package, without the cluster that it would make. Raises `ServerFailed`."""
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise ServerFailed(f"install PostgreSQL first: apt-get install {PACKAGE}")
    no_cluster = Path("/etc/postgresql-common/createcluster.conf")
    if not no_cluster.exists():
        no_cluster.parent.mkdir(parents=True, exist_ok=True)
        no_cluster.write_text("create_main_cluster = false\n", encoding="utf-8")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", PACKAGE]
    for words in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(words, env=environment, stdout=sys.stderr, check=False)
        if done.returncode:
            raise ServerFailed(f"{' '.join(words)} failed")


def _running(folder: Path) -> bool:
    """Whether the process that the folder's server wrote down lives."""
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("postgres")
    except (OSError, ValueError, IndexError):
        return False


def _owner() -> tuple[int, int]:
    """Who runs the server: PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise ServerFailed("there is no user that could run PostgreSQL")


def _as_owner(words: Sequence[str | Path], folder: Path) -> None:
    """Run a program as the server's user. Raises `ServerFailed` with what it said."""
    identity: dict[str, int | list[int]] = {}
    if os.getuid() == 0:
        user, group = _owner()
        identity = {"user": user, "group": group, "extra_groups": []}
    said = folder / "said"
    # Not through a pipe: the server would hold its other end.
    with said.open("wb") as out:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
            **identity,  # type: ignore[call-overload]
        )
    if done.returncode:
        log = folder / "log"
        lines = said.read_text(encoding="utf-8", errors="replace")
        if log.is_file():
            lines += log.read_text(encoding="utf-8", errors="replace")
        raise ServerFailed(f"{Path(words[0]).name} failed:\n{lines[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="scripts/services",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("server", nargs="?", default="postgres", choices=("postgres",))
    parser.add_argument("--folder", type=Path, default=default_folder())
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    try:
        if asked.action == "stop":
            stop_postgres(folder)
            return 0
        if postgres_binaries() is None:
            install_postgres()
        print(start_postgres(folder))
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
