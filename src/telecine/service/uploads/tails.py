"""In order, with an offset, as tus sends it: an upload goes on where it broke off."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from telecine.service.db import uploads as db
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import Conflict, Invalid
from telecine.service.services import Services
from telecine.service.uploads.incoming import Incoming, Locked, open_incoming
from telecine.service.uploads.sessions import find, gone, owned, part_size, take_door, too_large


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request have to be."""

    algorithm: Literal["sha1", "sha256"]
    digest: bytes


class IncomingTail:
    """Bytes that continue an upload. What has become durable counts, also when the connection
    breaks; under a checksum all of it counts or nothing."""

    def __init__(
        self, services: Services, upload: UploadRow, to: Incoming, checksum: Checksum | None
    ) -> None:
        self.upload = upload
        self._services = services
        self._to = to
        self._checksum = checksum
        self._digest = None if checksum is None else hashlib.new(checksum.algorithm)
        if checksum is None:
            to.on_synced = self._advance

    def feed(self, data: bytes) -> None:
        self._to.write(data)
        if self._digest is not None:
            self._digest.update(data)

    def finish(self) -> UploadRow:
        """All bytes of the request came. Raises `Invalid` (`checksum_mismatch`), `Gone`."""
        if self._checksum is not None and self._digest is not None:
            if self._digest.digest() != self._checksum.digest:
                raise Invalid(
                    f"the bytes have another {self._checksum.algorithm} than they should: they "
                    "do not count",
                    code="checksum_mismatch",
                )
            self._to.on_synced = self._advance
        self._to.sync()
        return self.upload

    def keep(self) -> None:
        """The request broke off: what came counts, unless it was to have a checksum."""
        if self._checksum is None:
            self._to.sync()

    def close(self) -> None:
        self._to.close()

    def _advance(self, offset: int) -> None:
        ttl_s = self._services.settings.upload_ttl_s
        with self._services.database.write() as tx:
            if not db.change_open(tx, self.upload.id, ttl_s=ttl_s, offset_bytes=offset):
                raise gone()
            self.upload = find(tx, self.upload.id)


def open_tail(
    services: Services,
    user_id: str,
    upload_id: str,
    offset: int,
    *,
    size_bytes: int | None = None,
    checksum: Checksum | None = None,
) -> IncomingTail:
    """Go on with an upload at `offset`; `size_bytes` where the client says now how long it will be.

    Raises `NotFound`, `Gone`, `Locked`, `Conflict` (`offset_mismatch`, `upload_other_door`,
    `upload_completing`, `size_known`), `TooLarge`.
    """
    with services.database.read() as tx:
        upload = owned(tx, user_id, upload_id)
    if upload.state != "open":
        raise gone()
    known = _new_size(upload, size_bytes)
    limit = size_bytes or upload.size_bytes or upload.max_bytes
    if offset > limit:
        raise _offset_mismatch(upload, offset)
    # Everything from here on is ours: nobody moves the offset after we have looked at it.
    incoming = open_incoming(services, upload_id, offset, limit)
    try:
        with services.database.write() as tx:
            before, upload = upload, owned(tx, user_id, upload_id)
            if upload.size_bytes != before.size_bytes:
                raise Locked("another request has just said its length", code="upload_locked")
            if upload.offset_bytes != offset:
                raise _offset_mismatch(upload, offset)
            take_door(tx, upload, "tus", **known)
            upload = find(tx, upload_id)
    except BaseException:
        incoming.close()
        raise
    return IncomingTail(services, upload, incoming, checksum)


def _offset_mismatch(upload: UploadRow, offset: int) -> Conflict:
    return Conflict(
        f"the upload stands at {upload.offset_bytes}, not at {offset}",
        code="offset_mismatch",
        offset_bytes=upload.offset_bytes,
    )


def _new_size(upload: UploadRow, size_bytes: int | None) -> dict[str, int]:
    if size_bytes is None or size_bytes == upload.size_bytes:
        return {}
    if upload.size_bytes is not None or size_bytes < max(1, upload.offset_bytes):
        raise Conflict("the length is known, or less than what is there", code="size_known")
    if size_bytes > upload.max_bytes:
        raise too_large(upload.max_bytes)
    return {"size_bytes": size_bytes, "part_size_bytes": part_size(size_bytes)}
