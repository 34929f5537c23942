"""The storage protocol: objects under keys, and incoming files that grow until they are one.

Keys are ours, never a user's words: `[A-Za-z0-9._/-]`, at most 300 characters, no part that is
empty, `.` or `..`; any other is a `ValueError`. No key is the folder of another. An object is whole
or absent, and never changes. Objects and incoming files are two spaces: the same key may stand in
both.

`tests/service/storage_conformance.py` says the same as tests; every store passes it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from telecine.service.domain import ServiceError

READ_BYTES = 1 << 20
MAX_KEY_LETTERS = 300

_KEY = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9._-]+(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)*")


class AlreadyThere(ServiceError):
    """An object stands at this key: objects never change."""


class Missing(ServiceError):
    """No object, or no incoming file, at this key."""


class TooLong(ServiceError):
    """More bytes than an incoming file may have: what was written before stays."""


class TooShort(ServiceError):
    """An incoming file that has not all of its bytes yet."""


class Busy(ServiceError):
    """Somebody writes to these bytes of an incoming file right now."""


def check_key(key: str) -> str:
    """The key itself. Raises `ValueError` where it is none."""
    if len(key) > MAX_KEY_LETTERS or not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:MAX_KEY_LETTERS]!r}")
    return key


@dataclass(frozen=True, slots=True)
class Stored:
    """An object. `etag` is strong, without quotes: other bytes under this key have another."""

    key: str
    size_bytes: int
    etag: str


class Writer(AbstractContextManager["Writer"], Protocol):
    """One run of bytes into an incoming file, by one thread at a time. The end of the block closes
    it: another may write then, and what was not synced may be lost with the machine."""

    def write(self, data: bytes) -> None:
        """Go on where the last piece ended. Raises `TooLong`, and nothing of this piece is kept;
        `Unavailable` (`storage_full`)."""

    def sync(self) -> int:
        """Make durable what was written; where the next byte will stand."""


class Storage(Protocol):
    """Safe to use from many threads and processes."""

    # --- objects

    def put_bytes(self, key: str, data: bytes, *, durable: bool = True) -> Stored:
        """Make an object. Not `durable`: it costs no wait for the disk, and may be absent, short or
        of other bytes once the machine's power has failed. Raises `AlreadyThere`."""

    def put_file(self, key: str, path: Path) -> Stored:
        """Make an object of a finished file, which the store may link: it must not change later.
        The file itself stays. Raises `AlreadyThere`."""

    def copy(self, source: str, key: str) -> Stored:
        """The same bytes under another key as well (a link where there are such). Raises `Missing`,
        `AlreadyThere`."""

    def copy_all(self, copies: Mapping[str, str]) -> list[Stored]:
        """`copy` to each of these keys, from its source: durable when all are made, which is far
        cheaper than one after the other. Raises as `copy` does; some may stand then."""

    def stat(self, key: str) -> Stored:
        """Raises `Missing`."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB; less where the object ends. Raises
        `Missing` at once. A reader that has begun sees all of it, also when it is deleted."""

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this machine, to be read in place; None: there is none, `fetch`
        it. Raises `Missing`."""

    def fetch(self, key: str, path: Path) -> None:
        """Put the object's bytes at `path`, where nothing is: a link, not to be written to, or a
        copy. Raises `Missing`."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every object's key that begins with `prefix`, which ends with a slash or is empty."""

    def delete(self, prefix: str) -> int:
        """Remove the object at this key, or with a slash at its end all below; what is absent is no
        error. How many there were."""

    # --- incoming files

    def begin(self, key: str) -> None:
        """Open an incoming file. May run twice: what is there stays."""

    def writer(self, key: str, offset: int, limit: int) -> Writer:
        """Write to the bytes [offset, limit) of the file, alone: others may write elsewhere in it
        at the same time. Raises `Missing`, `Busy` where somebody has some of these bytes."""

    def finish(self, key: str, object_key: str, size_bytes: int) -> Stored:
        """The first `size_bytes` of the incoming file become the object, without a copy; the file
        is gone afterwards, and nobody writes to it any more. May run twice.

        Raises `Missing`, `TooShort`, `Busy` while somebody writes, `AlreadyThere` where an object
        of another origin stands.
        """

    def abandon(self, key: str) -> None:
        """Remove an incoming file, also while somebody writes to it: their bytes are lost. What is
        absent is no error."""

    def incoming(self) -> Iterator[str]:
        """The keys of all incoming files."""

    # --- health

    def tidy(self, older_than_s: float) -> int:
        """Remove what killed writers left half-made, if it is so old. How many."""

    def check(self) -> None:
        """Raises `Unavailable` (`storage_unavailable`) unless a byte can be written and read."""


@contextmanager
def as_file(storage: Storage, key: str) -> Iterator[Path]:
    """The object as a file of this machine, while the block runs; of one that lies elsewhere a
    copy. Raises `Missing`."""
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="telecine-") as folder:
        path = Path(folder) / "object"
        storage.fetch(key, path)
        yield path
