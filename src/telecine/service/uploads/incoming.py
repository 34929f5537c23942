"""Bytes on their way into the store, by whatever door."""

from __future__ import annotations

from collections.abc import Callable

from telecine.service.domain import ServiceError, TooLarge
from telecine.service.services import Services
from telecine.service.storage.store import Busy, Missing, TooLong, Writer
from telecine.service.uploads.sessions import MIB, gone

# Bytes between two syncs: completing a large file has little left to write then, and what a kill
# costs is sent again in a moment.
SYNC_BYTES = 32 * MIB


class Locked(ServiceError):
    """Somebody else sends to this upload right now."""


class Incoming:
    """Bytes of one request on their way into the store: written as they come, made durable every
    32 MiB and at the end. Fed by one thread at a time."""

    def __init__(self, writer: Writer, offset: int) -> None:
        self.offset = offset
        self.on_synced: Callable[[int], None] | None = None
        self._writer = writer
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        """Raises `TooLarge` (`upload_too_large`), `Unavailable` (`storage_full`)."""
        try:
            self._writer.write(data)
        except TooLong:
            raise TooLarge(
                "more bytes than this upload may have", code="upload_too_large"
            ) from None
        self.offset += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        if self._unsynced:
            self._writer.sync()
            self._unsynced = 0
            if self.on_synced is not None:
                self.on_synced(self.offset)

    def close(self) -> None:
        self._writer.__exit__(None, None, None)


def open_incoming(services: Services, upload_id: str, start: int, end: int) -> Incoming:
    """Raises `Gone` (`upload_gone`), `Locked` (`upload_locked`)."""
    try:
        writer = services.storage.writer(upload_id, start, end)
    except Busy:
        raise Locked("another request sends these bytes just now", code="upload_locked") from None
    except Missing:
        raise gone() from None
    return Incoming(writer, start)
