"""Parts by signed URLs: in any order, at once, and again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from telecine.service.db import uploads as db
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import Forbidden, Invalid
from telecine.service.services import Services
from telecine.service.uploads.incoming import Incoming, open_incoming
from telecine.service.uploads.sessions import find, gone, owned, part_count, take_door

PART_TTL_S = 900
PART_PURPOSE = "upload-part"


@dataclass(frozen=True, slots=True)
class SignedPart:
    number: int
    size_bytes: int
    path: str  # of the URL, with its query
    expires_at: int


def sign_parts(
    services: Services, user_id: str, upload_id: str, numbers: Sequence[int]
) -> list[SignedPart]:
    """URLs that take these parts, each of its exact length. Raises `NotFound`, `Gone`, `Invalid`
    (`part_unknown`)."""
    with services.database.read() as tx:
        upload = owned(tx, user_id, upload_id)
        now_s = tx.now_s()
    if upload.state != "open":
        raise gone()
    expires_at = int(now_s) + PART_TTL_S
    signed = []
    for number in numbers:
        start, end = part_range(upload, number)
        text = _part_text(upload.id, number, end - start)
        signature = services.signer.sign(PART_PURPOSE, text, expires_at)
        path = f"/v1/uploads/{upload.id}/parts/{number}?signature={signature}"
        signed.append(SignedPart(number, end - start, path, expires_at))
    return signed


def _part_text(upload_id: str, number: int, size_bytes: int) -> str:
    return f"{upload_id}/{number}/{size_bytes}"


class IncomingPart:
    """One part on its way in: exactly as long as its URL says."""

    def __init__(self, services: Services, upload_id: str, number: int, end: int, to: Incoming):
        self._services = services
        self._upload_id = upload_id
        self._number = number
        self._end = end
        self._start = to.offset
        self._to = to
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        self._to.write(data)
        self._digest.update(data)

    def finish(self) -> str:
        """The part is there; its ETag, the SHA-256 of its bytes. Raises `Forbidden`
        (`part_refused`), `Gone`."""
        if self._to.offset != self._end:
            raise _wrong_length(self._end - self._start)
        self._to.sync()
        etag = self._digest.hexdigest()
        size_bytes = self._end - self._start
        with self._services.database.write() as tx:
            ttl_s = self._services.settings.upload_ttl_s
            if not db.change_open(tx, self._upload_id, ttl_s=ttl_s):
                raise gone()
            db.put_part(tx, self._upload_id, self._number, size_bytes=size_bytes, etag=etag)
        return etag

    def close(self) -> None:
        self._to.close()


def open_part(
    services: Services, upload_id: str, number: int, signature: str, size_bytes: int
) -> IncomingPart:
    """Take a part by its signed URL; a part that was there before is not, from now on. Raises
    `Forbidden` (`part_refused`), `Gone`, `Locked`, `Conflict`."""
    with services.database.read() as tx:
        upload = db.find_upload(tx, upload_id)
        now_s = tx.now_s()
    text = _part_text(upload_id, number, size_bytes)
    if upload is None or not services.signer.valid(PART_PURPOSE, text, signature, now_s):
        raise Forbidden(
            "this URL is none of ours for a part of this number and length, or it has expired",
            code="part_refused",
        )
    start, end = part_range(upload, number)
    if end - start != size_bytes:
        raise _wrong_length(end - start)
    incoming = open_incoming(services, upload_id, start, end)
    try:
        with services.database.write() as tx:
            take_door(tx, find(tx, upload_id), "parts")
            db.drop_part(tx, upload_id, number)
    except BaseException:
        incoming.close()
        raise
    return IncomingPart(services, upload_id, number, end, incoming)


def _wrong_length(size_bytes: int) -> Forbidden:
    return Forbidden(f"this part has exactly {size_bytes} bytes", code="part_refused")


def part_range(upload: UploadRow, number: int) -> tuple[int, int]:
    """The bytes [start, end) of part `number`, the first is 1. Raises `Invalid`
    (`part_unknown`)."""
    count = part_count(upload)
    if upload.size_bytes is None or upload.part_size_bytes is None or count is None:
        raise Invalid("parts need an upload whose size is known", code="part_unknown")
    if not 1 <= number <= count:
        raise Invalid(f"part {number}: there are parts 1 to {count}", code="part_unknown")
    start = (number - 1) * upload.part_size_bytes
    return start, min(start + upload.part_size_bytes, upload.size_bytes)
