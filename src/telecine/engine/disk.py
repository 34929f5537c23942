"""Files that are whole or absent: written under a temporary name, then renamed.

A reader, a restart and a `kill -9` at any moment see the old file, the new one or none.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def write_whole(path: Path, data: bytes | str) -> None:
    """Put `data` at `path` in one step, making its folder. Leaves no temporary file on an error
    that Python sees; after a `kill -9` one `*.tmp` may lie beside it (`sweep` removes it)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_beside(path: Path) -> Path:
    """A name of its own in the same folder, so that a rename cannot cross file systems."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


@contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder under `parent` that is gone afterwards, whatever happens."""
    folder = parent / f"{name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what killed runs left half-written below `root`."""
    for path in list(root.rglob(f"*{TEMPORARY_SUFFIX}")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
