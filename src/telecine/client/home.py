"""What the command keeps in its user's home: who is logged in where, and which uploads are
unfinished. The one module of the client that reads the environment.

`$XDG_CONFIG_HOME/telecine/credentials.json` (`~/.config`) is readable by its user alone;
`$XDG_STATE_HOME/telecine/uploads/` (`~/.local/state`) holds a small file for each unfinished
upload.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telecine.client.tokens import Tokens


def config_folder() -> Path:
    return _folder("XDG_CONFIG_HOME", ".config")


def state_folder() -> Path:
    return _folder("XDG_STATE_HOME", ".local/state")


def _folder(variable: str, otherwise: str) -> Path:
    # The XDG specification: a path that is not absolute is as good as none.
    given = os.environ.get(variable, "")  # noqa: TID251  # the client's one door to it
    base = Path(given) if given.startswith("/") else Path.home() / otherwise
    return base / "telecine"


# --- who is logged in -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the command is logged in, and as whom: by a session's tokens or by an API key."""

    url: str
    api_key: str | None = None
    tokens: Tokens | None = None


class CredentialsFile:
    """The file of credentials; also keeps a session's tokens for the client (`TokenKeeper`), one
    process at a time."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else config_folder() / "credentials.json"

    def load(self) -> Credentials | None:
        """None: nobody is logged in. Raises `OSError`; a file that is none of ours is as none."""
        try:
            plain = json.loads(self.path.read_text(encoding="utf-8"))
            tokens = plain.get("tokens")
            return Credentials(
                url=str(plain["url"]),
                api_key=plain.get("api_key"),
                tokens=None if tokens is None else Tokens(tokens["access"], tokens["refresh"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, credentials: Credentials | None) -> None:
        """Keep these; None: forget what was kept."""
        with self._locked():
            self._write(credentials)

    # --- a TokenKeeper

    def current(self) -> Tokens | None:
        found = self.load()
        return None if found is None else found.tokens

    def put(self, tokens: Tokens | None) -> None:
        with self._locked():
            found = self.load()
            if found is not None:
                self._write(Credentials(found.url, found.api_key, tokens))

    def renew(self, stale: str, exchange: Callable[[str], Tokens]) -> Tokens | None:
        with self._locked():
            found = self.load()
            if found is None or found.tokens is None:
                return None
            if found.tokens.access != stale:
                return found.tokens  # another process was here first
            fresh = exchange(found.tokens.refresh)
            self._write(Credentials(found.url, found.api_key, fresh))
            return fresh

    def _write(self, credentials: Credentials | None) -> None:
        if credentials is None:
            self.path.unlink(missing_ok=True)
            return
        tokens = credentials.tokens
        plain: dict[str, Any] = {"url": credentials.url}
        if credentials.api_key is not None:
            plain["api_key"] = credentials.api_key
        if tokens is not None:
            plain["tokens"] = {"access": tokens.access, "refresh": tokens.refresh}
        _write_private(self.path, json.dumps(plain, indent=1) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time: a refresh token that two exchange ends the session."""
        _make_private_folder(self.path.parent)
        lock = self.path.with_name(f".{self.path.name}.lock")
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # let go with the file
            yield
        finally:
            os.close(fd)


_PRIVATE = 0o600  # for its user alone


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- unfinished uploads -----------------------------------------------------------------------


class UnfinishedUploads:
    """Which upload a file on disk belongs to, from one run of the command to the next.

    A file is known by where it lies, its size and its time of change; the same file for another
    service, or with other wishes, is another upload.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else state_folder() / "uploads"

    def find(self, fingerprint: str) -> str | None:
        """The upload's id, if one was begun."""
        try:
            return str(json.loads(self._path(fingerprint).read_text(encoding="utf-8"))["upload_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, fingerprint: str, upload_id: str, path: Path) -> None:
        _make_private_folder(self.folder)
        plain = {"upload_id": upload_id, "file": os.fsdecode(path)}
        _write_private(self._path(fingerprint), json.dumps(plain, indent=1) + "\n")

    def forget(self, fingerprint: str) -> None:
        self._path(fingerprint).unlink(missing_ok=True)

    def _path(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.json"


def fingerprint(path: Path, *wishes: object) -> str:
    """Of a file as it is now, and of what is wanted of it. Raises `OSError`."""
    found = path.stat()
    words = [os.fsencode(path.resolve()).hex(), found.st_size, found.st_mtime_ns, found.st_ino]
    text = json.dumps([*words, *wishes], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
