"""A file on disk, sent by tus 1.0: always from the byte that the service says it wants next.

The file is read in pieces as they are sent. A connection that breaks costs what was under way; so
does a process that ends: whoever comes back with the upload's id goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from telecine.client.answers import Upload
from telecine.client.connection import TRIES, Connection, passes, pause_s
from telecine.client.errors import ApiError, ConnectionFailed, FileChanged, UnexpectedAnswer

PIECE_BYTES = 256 * 1024

# Another request still holds the upload, or the offset has moved on: asking anew settles both.
_ASK_ANEW = frozenset({409, 423})

OnSent = Callable[[int, int], None]  # bytes that have been sent, bytes in all


def send_file(connection: Connection, upload: Upload, file: BinaryIO, on_sent: OnSent) -> None:
    """Send what the service lacks of `file`; when this returns it has every byte.

    Raises `ApiError`, `ConnectionFailed` (after several tries without a byte of headway),
    `FileChanged`. Afterwards the upload can be gone on with, unless it was refused.
    """
    before = os.fstat(file.fileno())
    size = before.st_size
    if upload.size_bytes not in (None, size):
        raise FileChanged(f"the file has {size} bytes, and had {upload.size_bytes} at the start")
    failures, furthest = 0, -1
    while True:
        try:
            offset = _wanted_next(connection, upload)
            if offset > furthest:
                failures, furthest = 0, offset
            on_sent(offset, size)
            if offset >= size:
                return
            _send_from(connection, upload, file, offset, size, on_sent)
        except (ApiError, ConnectionFailed) as error:
            failures += 1
            again = passes(error) or (isinstance(error, ApiError) and error.status in _ASK_ANEW)
            if failures >= TRIES or not again:
                raise
            connection.sleep(pause_s(failures, getattr(error, "retry_after_s", None)))
        now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns) != (size, before.st_mtime_ns):
            raise FileChanged("the file was written to while it was being sent")


_TUS = {"Tus-Resumable": "1.0.0"}


def _path(upload: Upload) -> str:
    # Not `tus_url`: that names the service as its operator does, which need not be how we reach it.
    return f"/v1/tus/{upload.id}"


def _wanted_next(connection: Connection, upload: Upload) -> int:
    with connection.once("HEAD", _path(upload), headers=_TUS) as response:
        text = response.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit()):
        raise UnexpectedAnswer(f"the upload {upload.id} does not say how much of it is there")
    return int(text)


def _send_from(
    connection: Connection,
    upload: Upload,
    file: BinaryIO,
    offset: int,
    size: int,
    on_sent: OnSent,
) -> None:
    headers = {
        **_TUS,
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
        "Content-Length": str(size - offset),  # known, so the body is not sent in HTTP's chunks
    }

    def body() -> Mapping[str, Any]:
        return {"content": _pieces(file, offset, size, on_sent)}

    with connection.once(
        "PATCH", _path(upload), headers=headers, renewed=body, **body()
    ) as response:
        response.read()


def _pieces(file: BinaryIO, offset: int, size: int, on_sent: OnSent) -> Iterator[bytes]:
    file.seek(offset)
    while offset < size:
        piece = file.read(min(PIECE_BYTES, size - offset))
        if not piece:
            raise FileChanged(f"the file ends at byte {offset}, not {size}")
        yield piece
        offset += len(piece)
        on_sent(offset, size)
