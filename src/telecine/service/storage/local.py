"""Objects as files of one folder: made under another name, synced, then linked to their place.

    kept/KEY         objects; hard links where the same bytes are wanted twice
    incoming/KEY     files that grow, written in place: parts that have not come yet are holes
    temporary/       objects in the making

A link never replaces anything, so that of two writers one wins and nobody sees half a file. Several
processes of one machine may share the folder; who writes to an incoming file holds a lock on their
range of it, which ends with their process. An ETag is made of size, modification time in
nanoseconds and inode: objects never change, so no reading is needed to tell two of them apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from telecine.service.domain import Unavailable
from telecine.service.storage.store import (
    READ_BYTES,
    AlreadyThere,
    Busy,
    Missing,
    Stored,
    TooLong,
    TooShort,
    check_key,
)

# Where a link cannot be made: another file system, one without links, too many, somebody else's.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)

# Whoever finishes waits so long for a writer or another finisher to let go.
FINISH_WAIT_S = 1.0
_POLL_S = 0.02


class LocalStorage:
    """A `Storage` in a folder, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._kept = folder.resolve() / "kept"
        self._incoming = folder.resolve() / "incoming"
        self._temporary = folder.resolve() / "temporary"
        for each in (self._kept, self._incoming, self._temporary):
            each.mkdir(parents=True, exist_ok=True)

    # --- objects

    def put_bytes(self, key: str, data: bytes, *, durable: bool = True) -> Stored:
        place = self._place(key)
        made = self._new_temporary()
        try:
            with _told_when_full(), made.open("xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            _name(made, place)
            if durable:
                _sync_names(place.parent)
            return _stored(key, made)
        finally:
            made.unlink(missing_ok=True)

    def put_file(self, key: str, path: Path) -> Stored:
        path, place = path.resolve(), self._place(key)
        _sync(path)
        try:
            _link(path, place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return self._put_copy(key, path, place)
        return _stored(key, path)

    def _put_copy(self, key: str, path: Path, place: Path) -> Stored:
        made = self._new_temporary()
        try:
            with _told_when_full():
                shutil.copyfile(path, made)
                _sync(made)
            _link(made, place)
            return _stored(key, made)
        finally:
            made.unlink(missing_ok=True)

    def copy(self, source: str, key: str) -> Stored:
        (made,) = self.copy_all({key: source})
        return made

    def copy_all(self, copies: Mapping[str, str]) -> list[Stored]:
        for key, source in copies.items():
            try:
                _name(self._existing(source), self._place(key))
            except FileNotFoundError:
                raise _missing(source) from None
        for folder in dict.fromkeys(self._place(key).parent for key in copies):
            _sync_names(folder)
        return [self.stat(key) for key in copies]

    def stat(self, key: str) -> Stored:
        try:
            return _stored(key, self._existing(key))
        except FileNotFoundError:  # gone between the two looks
            raise _missing(key) from None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            return _Pieces(self._existing(key), start, end)
        except FileNotFoundError:
            raise _missing(key) from None

    def local_path(self, key: str) -> Path | None:
        return self._existing(key)

    def fetch(self, key: str, path: Path) -> None:
        found = self._existing(key)
        try:
            path.hardlink_to(found)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(found, path)

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._kept / check_key(prefix.removesuffix("/")) if prefix else self._kept
        yield from _files(folder, self._kept)

    def delete(self, prefix: str) -> int:
        place = self._place(prefix.removesuffix("/"))
        found = _remove_all(place) if prefix.endswith("/") else _remove(place)
        _prune(place.parent, self._kept)
        return found

    # --- incoming files

    def begin(self, key: str) -> None:
        path = self._incoming / check_key(key)
        while not path.exists():
            _make_folder(path.parent)
            try:
                path.touch()
                _sync(path.parent)
            except FileNotFoundError:  # the empty folder has been pruned: once more
                pass

    def writer(self, key: str, offset: int, limit: int) -> LocalWriter:
        fd = _open_locked(self._incoming / check_key(key), offset, limit)
        if fd is None:
            raise _missing(key)
        return LocalWriter(fd, offset, limit)

    def finish(self, key: str, object_key: str, size_bytes: int) -> Stored:
        path, place = self._incoming / check_key(key), self._place(object_key)
        fd = _open_locked(path, wait_s=FINISH_WAIT_S)
        if fd is None:
            return self.stat(object_key)  # finished before, or never begun
        try:
            if not _same_file(fd, place):
                self._become(fd, path, place, size_bytes)
            path.unlink()
            _sync(path.parent)
        finally:
            os.close(fd)
        _prune(path.parent, self._incoming)
        return self.stat(object_key)

    def _become(self, fd: int, path: Path, place: Path, size_bytes: int) -> None:
        found = os.fstat(fd).st_size
        if found < size_bytes:
            raise TooShort(f"{found} of {size_bytes} bytes are there", code="incoming_too_short")
        # Longer: pieces that were refused after they had been written.
        os.truncate(fd, size_bytes)
        os.fsync(fd)
        _link(path, place)

    def abandon(self, key: str) -> None:
        path = self._incoming / check_key(key)
        _remove(path)
        _prune(path.parent, self._incoming)

    def incoming(self) -> Iterator[str]:
        yield from _files(self._incoming, self._incoming)

    # --- health

    def tidy(self, older_than_s: float) -> int:
        removed = 0
        for path in self._temporary.iterdir():
            try:
                old = path.stat().st_mtime < time.time() - older_than_s
            except FileNotFoundError:
                continue  # made whole meanwhile
            removed += _remove(path) if old else 0
        return removed

    def check(self) -> None:
        path = self._new_temporary()
        try:
            path.write_bytes(b"1")
            good = path.read_bytes() == b"1"
        except OSError as error:
            raise Unavailable(
                f"the storage folder: {error.strerror}", code="storage_unavailable"
            ) from error
        finally:
            _remove(path)
        if not good:
            raise Unavailable("the storage folder loses bytes", code="storage_unavailable")

    # --- places

    def _place(self, key: str) -> Path:
        return self._kept / check_key(key)

    def _existing(self, key: str) -> Path:
        path = self._place(key)
        if not path.is_file():
            raise _missing(key)
        return path

    def _new_temporary(self) -> Path:
        return self._temporary / secrets.token_hex(16)


class LocalWriter:
    """A `Writer` to a file; its open descriptor holds the lock."""

    def __init__(self, fd: int, offset: int, limit: int) -> None:
        self._fd = fd
        self._offset = offset
        self._limit = limit
        # A server that is stopped hard may close it while a thread still writes: its number must
        # not have become another file's then.
        self._using = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._using:
            os.close(self._fd)
            self._fd = -1

    def write(self, data: bytes) -> None:
        if self._offset + len(data) > self._limit:
            raise TooLong(f"more than {self._limit} bytes", code="incoming_too_long")
        rest = memoryview(data)
        with self._using, _told_when_full():
            while rest:
                written = os.pwrite(self._fd, rest, self._offset)
                self._offset += written
                rest = rest[written:]

    def sync(self) -> int:
        with self._using, _told_when_full():
            os.fdatasync(self._fd)  # the size too, where it has grown
        return self._offset


class _told_when_full:  # noqa: N801 - reads as what it does
    """Turns the operating system's "no space left" into `Unavailable`."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise Unavailable("the storage is full", code="storage_full") from error


def _stored(key: str, path: Path) -> Stored:
    """The object, by one of its names: what was just made may be deleted by now."""
    found = path.stat()
    return Stored(key, found.st_size, f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}")


def _missing(key: str) -> Missing:
    return Missing(f"nothing is at {key}", code="object_missing")


def _link(path: Path, place: Path) -> None:
    """`path` under the name `place` as well, durable. Raises `AlreadyThere`, `OSError`."""
    _name(path, place)
    _sync_names(place.parent)


def _sync_names(folder: Path) -> None:
    """Make what was linked into a folder durable, unless all of it was deleted meanwhile."""
    with suppress(FileNotFoundError):
        _sync(folder)


def _name(path: Path, place: Path) -> None:
    """As `_link`, and durable once the folder is synced."""
    while True:
        _make_folder(place.parent)
        try:
            place.hardlink_to(path)
            return
        except FileExistsError:
            _already_there(place)
        except FileNotFoundError:
            # Somebody removed the empty folder between the two calls; or the source is gone.
            if not path.exists():
                raise


def _already_there(place: Path) -> NoReturn:
    raise AlreadyThere(f"an object stands at {place.name}", code="object_exists") from None


def _make_folder(folder: Path) -> None:
    """A folder and its parents, durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)
    except FileNotFoundError:  # a parent was empty and has been pruned: once more
        _make_folder(folder)


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_locked(
    path: Path, start: int = 0, end: int | None = None, *, wait_s: float = 0.0
) -> int | None:
    """A descriptor of the file at `path` that alone has the bytes [start, end); None: there is no
    file. Raises `Busy` when another still has some of them after `wait_s`."""
    deadline = time.monotonic() + wait_s
    length = 0 if end is None else max(1, end - start)  # to the kernel 0 means: to the end
    # The kernel's struct flock. These locks belong to the open descriptor, not to the process:
    # threads exclude each other too, and whatever ends a process ends them.
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            os.close(fd)
            if time.monotonic() >= deadline:
                raise Busy("somebody writes to this file", code="incoming_busy") from None
            time.sleep(_POLL_S)
            continue
        except OSError:  # no locks on this file system, or none left
            os.close(fd)
            raise
        if _same_file(fd, path):
            return fd
        os.close(fd)  # finished or abandoned before we had the lock


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


class _Pieces(Iterator[bytes]):
    """The bytes [start, end) of an open file, which is closed at their end."""

    def __init__(self, path: Path, start: int, end: int | None) -> None:
        self._fd: int | None = None
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._start = start
        self._end = os.fstat(self._fd).st_size if end is None else end

    def __next__(self) -> bytes:
        wanted = min(READ_BYTES, self._end - self._start)
        piece = b""
        if self._fd is not None and wanted > 0:
            piece = os.pread(self._fd, wanted, self._start)
        if not piece:
            self.close()
            raise StopIteration
        self._start += len(piece)
        return piece

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _files(folder: Path, root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield str((Path(parent) / name).relative_to(root))


def _remove(path: Path) -> int:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return 0
    return 1


def _remove_all(folder: Path) -> int:
    removed = 0
    for parent, folders, names in os.walk(folder, topdown=False):
        removed += sum(_remove(Path(parent) / name) for name in names)
        for name in folders:
            _remove_empty(Path(parent) / name)
    _remove_empty(folder)
    return removed


def _prune(folder: Path, root: Path) -> None:
    """Remove a folder and its parents up to `root`, as far as they are empty."""
    while folder != root and _remove_empty(folder):
        folder = folder.parent


def _remove_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
