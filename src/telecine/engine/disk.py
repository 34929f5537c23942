"""Files that are whole or absent: written under a temporary name, then renamed.

A reader, a restart and a `kill -9` at any moment see the old file, the new one or none.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from telecine.engine.errors import StepFailed

TEMPORARY_SUFFIX = ".tmp"


def disk_failure(error: OSError) -> StepFailed:
    """What the disk answered (full, gone, read-only) as an engine error; a retry can help."""
    where = f" ({error.filename})" if error.filename else ""
    return StepFailed(
        f"the disk refused: {error.strerror or error}{where}", code="disk_error", retryable=True
    )


def write_whole(path: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Put `data` at `path` in one step, making its folder. Leaves no temporary file on an error
    that Python sees; after a `kill -9` one `*.tmp` may lie beside it (`sweep` removes it).
    `durable`: on the disk before it stands there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_beside(path: Path) -> Path:
    """A name of its own in the same folder, so that a rename cannot cross file systems."""
    return path.with_name(_temporary_name(path.name))


def _temporary_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}" + re.escape(TEMPORARY_SUFFIX))


def open_lock(path: Path) -> TextIO:
    """A file to lock, made if it is not there; never through a link. Raises `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "r+")


def read_small(path: Path) -> str:
    """The text of a regular file of ours; nothing else (a pipe, a link, a disk) is waited for.

    Raises `OSError`, and `ValueError` where it is no regular file or no text.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{path} is no regular file")
        return file.read().decode()


@contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder under `parent` that is gone afterwards, whatever happens."""
    folder = parent / _temporary_name(name)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed runs left half-written in `folder` itself, and nothing else there."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; a link itself, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
