"""The storage protocol: objects under keys, and incoming files that grow until they are one.

Keys are ours, never a user's words: `[A-Za-z0-9._/-]`, no `..`, no empty part. An object is whole
or absent, and never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from telecine.service.domain import ServiceError


class AlreadyThere(ServiceError):
    """An object stands at this key: objects never change."""


class Missing(ServiceError):
    """No object, or no incoming file, at this key."""


class TooLong(ServiceError):
    """More bytes than an incoming file may have: what was written before stays."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object. `etag` is strong: other bytes have another."""

    key: str
    size_bytes: int
    etag: str


class Storage(Protocol):
    """Safe to use from many threads and processes."""

    # --- objects

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Make an object. Raises `AlreadyThere`."""

    def put_file(self, key: str, path: Path) -> Stored:
        """Make an object of a finished file, which the store may link: it must not change later.
        The file itself stays. Raises `AlreadyThere`."""

    def copy(self, source: str, key: str) -> Stored:
        """The same bytes under another key as well (a link where there are such). Raises `Missing`,
        `AlreadyThere`."""

    def stat(self, key: str) -> Stored:
        """Raises `Missing`."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB. Raises `Missing` at once."""

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this machine, to be read in place; None: there is none, `fetch`
        it. Raises `Missing`."""

    def fetch(self, key: str, path: Path) -> None:
        """Put the object's bytes at `path`: a link or a copy. Raises `Missing`."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every object's key that begins with `prefix`, which ends with a slash or is empty."""

    def delete(self, prefix: str) -> int:
        """Remove the object at this key, or with a slash at its end all below; what is absent is no
        error. How many there were."""

    # --- incoming files

    def begin(self, key: str, size_bytes: int | None) -> None:
        """Open an incoming file. `size_bytes` as far as the client has said. May run twice."""

    def write_at(self, key: str, offset: int, data: Iterable[bytes], *, limit: int) -> int:
        """Write from `offset` on; returns how many bytes were written, all of them durable. Raises
        `Missing`, and `TooLong` once the file would pass `limit` bytes."""

    def received(self, key: str) -> int:
        """Bytes from the start to the furthest end that was written. Raises `Missing`."""

    def finish(self, key: str, object_key: str) -> Stored:
        """The incoming file becomes the object, without a copy; it is gone afterwards. May run
        twice. Raises `Missing`, `AlreadyThere` (with other bytes)."""

    def abandon(self, key: str) -> None:
        """Remove an incoming file; what is absent is no error."""

    # --- health

    def check(self) -> None:
        """Raises `Unavailable` (`storage_unavailable`) unless a byte can be written and read."""
