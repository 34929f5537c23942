"""A file from the service to the disk: whole and right, or not there.

It grows under a hidden name beside its own, which tells the digest that it will have: a download
that was broken off goes on from where it stopped, and only with the same bytes. Where the digest is
not known, only the size can be checked, and nothing is kept for later. An expired link is asked for
anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from telecine.client.connection import TRIES, Connection, passes, pause_s
from telecine.client.errors import ApiError, ConnectionFailed, DigestMismatch, UnexpectedAnswer

LINK_INVALID = "link_invalid"

OnReceived = Callable[[int, int], None]  # bytes that have arrived, bytes in all


def fetch(
    connection: Connection,
    url: str,
    target: Path,
    *,
    renewed: Callable[[], str],
    size_bytes: int,
    sha256: str | None,
    on_received: OnReceived,
) -> None:
    """Make `target` the file at `url`, replacing what is there; nothing is fetched where `target`
    is that file already. `renewed` gives another URL of the file when this one has expired.

    Raises `ApiError`, `ConnectionFailed` (after several tries without a byte of headway),
    `DigestMismatch` (nothing is left), `OSError`. After the others, what arrived stays beside
    `target` for the next call.
    """
    if target.is_file() and _measure(target) == (size_bytes, sha256):
        on_received(size_bytes, size_bytes)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{sha256[:16] if sha256 else 'unknown'}.part")
    if sha256 is None:
        part.unlink(missing_ok=True)
    failures, furthest, expired = 0, -1, False
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > furthest:
            failures, furthest, expired = 0, have, False
        if have >= size_bytes and part.exists():
            break
        try:
            _append(connection, url, part, have, size_bytes, on_received)
        except (ApiError, ConnectionFailed) as error:
            if getattr(error, "code", None) == LINK_INVALID and not expired:
                url, expired = renewed(), True
                continue
            failures += 1
            if failures >= TRIES or not passes(error):
                raise
            connection.sleep(pause_s(failures, getattr(error, "retry_after_s", None)))
    _check(part, size_bytes, sha256, target)
    part.replace(target)


def _append(
    connection: Connection, url: str, part: Path, have: int, size: int, on_received: OnReceived
) -> None:
    # Compressed on the way, a range would be one of other bytes.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with connection.once("GET", url, headers=headers) as response:
        if have and response.status_code != 206:
            have = 0  # all of it comes again
        elif have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise UnexpectedAnswer("the service sent another range than the one asked for")
        with part.open("ab" if have else "wb") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                have += len(piece)
                on_received(have, size)
            file.flush()
            os.fsync(file.fileno())
        if have < size:
            raise ConnectionFailed(f"the connection ended after {have} of {size} bytes")


def _measure(path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, digest


def _check(part: Path, size: int, sha256: str | None, target: Path) -> None:
    found, digest = _measure(part)
    if (found, digest) != (size, sha256 or digest):
        part.unlink()
        raise DigestMismatch(
            f"{target.name}: {found} bytes with SHA-256 {digest}, not {size} with {sha256}"
        )
