"""Uploads: one session, four doors, and what finishing one makes.

A session is a row and an incoming file of the store. The doors differ in how bytes come to the
file: in order with an offset (tus), in parts by signed URLs, in one form with a signed policy, in
one form of a logged-in user. What happens then is the same: `finish`.

Nothing here is async: a door's route feeds pieces to `Incoming` from a thread. There is no total
quota, so nothing is reserved: the limit is one file's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from telecine.engine.errors import InputRefused, MediaError
from telecine.engine.media import MediaInfo
from telecine.engine.plan import make_plan
from telecine.engine.probe import probe
from telecine.engine.report import describe
from telecine.engine.serial import to_plain
from telecine.service import orders
from telecine.service.db import queue
from telecine.service.db import uploads as db
from telecine.service.db.connection import Tx
from telecine.service.db.uploads import UploadRow
from telecine.service.dispatch.bell import EVENTS, TASKS
from telecine.service.domain import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServiceError,
    TooLarge,
    Unavailable,
    UploadState,
    new_id,
)
from telecine.service.orders import Order
from telecine.service.services import Services
from telecine.service.storage.store import Busy, Missing, Storage, TooLong, Writer

MIB = 1 << 20
SMALLEST_PART_BYTES = 8 * MIB
MOST_PARTS = 1000
PART_TTL_S = 900
PART_PURPOSE = "upload-part"
POST_TTL_S = 900
POST_PURPOSE = "upload-post"
NAMELESS = "upload"

# Bytes between two syncs: completing a large file has little left to write then, and what a kill
# costs is sent again in a moment.
SYNC_BYTES = 32 * MIB

# An upload that is being completed does not expire meanwhile.
COMPLETION_S = 3600.0
# Rows of sessions that came to nothing are kept so long, for who asks what became of them.
ENDED_TTL_S = 7 * 24 * 3600.0
COLLECTED_AT_ONCE = 100

Door = Literal["", "tus", "parts", "post", "form"]

_TYPE = re.compile(r"(video|audio)/[A-Za-z0-9][A-Za-z0-9.+_-]{0,100}")
_ACCEPTED = re.compile(r"(video|audio)/(\*|[a-z0-9][a-z0-9.+_-]{0,100})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class Gone(ServiceError):
    """There was such an upload."""


class Locked(ServiceError):
    """Somebody else sends to this upload right now."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client says when it opens a session. `size_bytes` None: it will be known later."""

    filename: str
    size_bytes: int | None
    content_type: str = ""
    sha256: str | None = None
    title: str = ""
    on_complete: Order | None = None
    tus_metadata: str | None = None


@dataclass(frozen=True, slots=True)
class SignedPart:
    number: int
    size_bytes: int
    path: str  # of the URL, with its query
    expires_at: int


# --- sessions -------------------------------------------------------------------------------------


def create(services: Services, user_id: str, opening: Opening, *, door: Door = "") -> UploadRow:
    """Open a session. Raises `TooLarge` (`upload_too_large`), `Invalid` (`sha256_invalid`,
    `upload_empty`)."""
    sha256 = check_digest(opening.sha256)
    if opening.size_bytes == 0:
        raise Invalid("an upload of 0 bytes", code="upload_empty")
    with services.database.write() as tx:
        limit = db.user_limit(tx, user_id) or services.settings.max_upload_bytes
        if opening.size_bytes is not None and opening.size_bytes > limit:
            raise too_large(limit)
        upload_id = new_id()
        new = db.NewUpload(
            id=upload_id,
            user_id=user_id,
            door=door,
            filename=clean_name(opening.filename),
            content_type=clean_type(opening.content_type),
            size_bytes=opening.size_bytes,
            part_size_bytes=None if opening.size_bytes is None else part_size(opening.size_bytes),
            max_bytes=limit,
            sha256=sha256,
            on_complete=None
            if opening.on_complete is None
            else orders.write_order(opening.on_complete),
            title=clean_title(opening.title),
            tus_metadata=opening.tus_metadata,
            storage_key=upload_id,
        )
        db.add_upload(tx, new, ttl_s=services.settings.upload_ttl_s)
        made = _find(tx, upload_id)
    # Row first: a file without an open row is what the collector removes.
    services.storage.begin(upload_id)
    return made


def limit_of(services: Services, user_id: str) -> int:
    """Bytes that one upload of this user may have."""
    with services.database.read() as tx:
        return db.user_limit(tx, user_id) or services.settings.max_upload_bytes


def read(services: Services, user_id: str, upload_id: str) -> UploadRow:
    """Raises `NotFound` (`upload_unknown`)."""
    with services.database.read() as tx:
        return _owned(tx, user_id, upload_id)


def page(
    services: Services, user_id: str, *, state: UploadState | None, after: str | None, limit: int
) -> list[UploadRow]:
    """The newest first; one more than `limit` where more follow."""
    with services.database.read() as tx:
        return db.list_uploads(tx, user_id, state=state, after=after, limit=limit + 1)


def cancel(services: Services, user_id: str, upload_id: str) -> None:
    """End an unfinished upload and remove its bytes; one that has ended stays as it is. Raises
    `NotFound`, `Conflict` (`upload_finished`)."""
    with services.database.write() as tx:
        upload = _owned(tx, user_id, upload_id)
        if upload.state == "finished":
            raise Conflict(
                "the upload is finished: delete its asset",
                code="upload_finished",
                asset_id=upload.asset_id,
            )
        ended = _end(tx, upload, "cancelled")
    if ended:
        _remove_bytes(services.storage, upload)


def part_size(size_bytes: int) -> int:
    """At least 8 MiB, whole MiB, and at most a thousand of them."""
    least = -(-size_bytes // MOST_PARTS)
    return max(SMALLEST_PART_BYTES, -(-least // MIB) * MIB)


def part_count(upload: UploadRow) -> int | None:
    if upload.size_bytes is None or upload.part_size_bytes is None:
        return None
    return -(-upload.size_bytes // upload.part_size_bytes)


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


# --- bytes ----------------------------------------------------------------------------------------


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


def take_door(tx: Tx, upload: UploadRow, door: Door, **values: Any) -> None:
    """The upload's bytes come by this door from now on. Raises `Gone`, `Conflict`
    (`upload_other_door`, `upload_completing`)."""
    if upload.state != "open":
        raise gone()
    if upload.asset_id is not None:
        raise Conflict("the upload is being completed", code="upload_completing")
    if upload.door not in ("", door):
        raise Conflict(
            f"bytes of this upload have come by another door: {upload.door}",
            code="upload_other_door",
        )
    if not db.change_open(tx, upload.id, door=door, **values):
        raise gone()


# --- parts ----------------------------------------------------------------------------------------


def sign_parts(
    services: Services, user_id: str, upload_id: str, numbers: Sequence[int]
) -> list[SignedPart]:
    """URLs that take these parts, each of its exact length. Raises `NotFound`, `Gone`, `Invalid`
    (`part_unknown`)."""
    with services.database.read() as tx:
        upload = _owned(tx, user_id, upload_id)
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
            take_door(tx, _find(tx, upload_id), "parts")
            db.drop_part(tx, upload_id, number)
    except BaseException:
        incoming.close()
        raise
    return IncomingPart(services, upload_id, number, end, incoming)


def _wrong_length(size_bytes: int) -> Forbidden:
    return Forbidden(f"this part has exactly {size_bytes} bytes", code="part_refused")


# --- in order, with an offset (tus) ---------------------------------------------------------------


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
            self.upload = _find(tx, self.upload.id)


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
        upload = _owned(tx, user_id, upload_id)
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
            before, upload = upload, _owned(tx, user_id, upload_id)
            if upload.size_bytes != before.size_bytes:
                raise Locked("another request has just said its length", code="upload_locked")
            if upload.offset_bytes != offset:
                raise _offset_mismatch(upload, offset)
            take_door(tx, upload, "tus", **known)
            upload = _find(tx, upload_id)
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


# --- one file in one request (forms) --------------------------------------------------------------


class IncomingFile:
    """A whole file, whose size is known when it has come."""

    def __init__(
        self, services: Services, upload: UploadRow, to: Incoming, smallest: int, largest: int
    ) -> None:
        self.upload = upload
        self.largest = largest
        self._services = services
        self._to = to
        self._smallest = smallest

    def write(self, data: bytes) -> None:
        self._to.write(data)

    def finish(self, **values: Any) -> None:
        """The file is there; `values` are columns of its session that the form told. Raises
        `Invalid` (`upload_empty`, `upload_too_small`), `Gone`."""
        size_bytes = self._to.offset
        if size_bytes == 0:
            raise Invalid("an upload of 0 bytes", code="upload_empty")
        if size_bytes < self._smallest:
            raise Invalid(
                f"{size_bytes} bytes, and the policy wants {self._smallest} at least",
                code="upload_too_small",
            )
        self._to.sync()
        with self._services.database.write() as tx:
            known = {"size_bytes": size_bytes, "offset_bytes": size_bytes}
            if not db.change_open(tx, self.upload.id, **known, **values):
                raise gone()

    def close(self) -> None:
        self._to.close()


def open_file(
    services: Services,
    upload: UploadRow,
    door: Door,
    *,
    smallest: int = 1,
    largest: int,
    **values: Any,
) -> IncomingFile:
    """Take a whole file for this session, from its first byte: what an earlier form brought does
    not count from now on. `values` are columns of its session that this one told. Raises as
    `open_incoming` and `take_door`."""
    incoming = open_incoming(services, upload.id, 0, largest)
    try:
        with services.database.write() as tx:
            values |= {"size_bytes": None, "offset_bytes": 0}
            take_door(tx, _find(tx, upload.id), door, **values)
    except BaseException:
        incoming.close()
        raise
    return IncomingFile(services, upload, incoming, smallest, largest)


# --- forms with a signed policy -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What a form may bring, and for whom. `content_type`: one type, or `video/*`."""

    upload_id: str
    user_id: str
    smallest: int
    largest: int
    content_type: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class SignedPost:
    upload: UploadRow
    fields: dict[str, str]
    policy: Policy


def create_post(
    services: Services,
    user_id: str,
    opening: Opening,
    *,
    smallest: int,
    largest: int | None,
    content_type: str,
) -> SignedPost:
    """Open a session whose bytes may come by one form, from whoever holds its fields. Raises
    `TooLarge`, `Invalid` (`policy_invalid`)."""
    limit = limit_of(services, user_id)
    most = limit if largest is None else largest
    if most > limit:
        raise too_large(limit)
    if not 1 <= smallest <= most or not _ACCEPTED.fullmatch(content_type):
        raise Invalid(
            "a policy has a size range and a content type such as video/mp4 or video/*",
            code="policy_invalid",
        )
    upload = create(services, user_id, opening, door="post")
    with services.database.read() as tx:
        expires_at = int(tx.now_s()) + POST_TTL_S
    policy = Policy(upload.id, user_id, smallest, most, content_type, expires_at)
    text = write_policy(policy)
    fields = {
        "upload_id": upload.id,
        "Content-Type": "" if content_type.endswith("*") else content_type,
        "policy": text,
        "signature": services.signer.sign(POST_PURPOSE, text, expires_at),
    }
    return SignedPost(upload, fields, policy)


def open_post(
    services: Services, fields: dict[str, str], *, filename: str, content_type: str
) -> IncomingFile:
    """Take the file of a form with these fields. Raises `Forbidden` (`policy_refused`), `Gone`,
    `Locked`, `Conflict`."""
    text = fields.get("policy", "")
    with services.database.read() as tx:
        now_s = tx.now_s()
    if not services.signer.valid(POST_PURPOSE, text, fields.get("signature", ""), now_s):
        raise _refused("its signature is none of ours, or it has expired")
    policy = read_policy(text)
    if fields.get("upload_id") != policy.upload_id:
        raise _refused("it is for another upload")
    told = fields.get("Content-Type") or content_type
    if not _accepted(told, policy.content_type):
        raise _refused(f"it wants a file of type {policy.content_type}")
    with services.database.read() as tx:
        upload = db.find_upload(tx, policy.upload_id)
    if upload is None or upload.user_id != policy.user_id:
        raise gone()
    return open_file(
        services,
        upload,
        "post",
        smallest=policy.smallest,
        largest=policy.largest,
        content_type=clean_type(told),
        filename=upload.filename if upload.filename != NAMELESS else clean_name(filename),
    )


def write_policy(policy: Policy) -> str:
    """The document as S3's browsers know it: JSON in base64."""
    anything = policy.content_type.endswith("*")
    document = {
        "expiration": datetime.fromtimestamp(policy.expires_at, UTC).isoformat(),
        "conditions": [
            ["content-length-range", policy.smallest, policy.largest],
            [
                "starts-with" if anything else "eq",
                "$Content-Type",
                policy.content_type.removesuffix("*"),
            ],
            {"upload_id": policy.upload_id},
            {"user_id": policy.user_id},
        ],
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def read_policy(text: str) -> Policy:
    """A policy that `write_policy` wrote: its signature has been checked."""
    document = json.loads(base64.b64decode(text))
    (_, smallest, largest), (rule, _, kind), upload, user = document["conditions"]
    return Policy(
        upload_id=upload["upload_id"],
        user_id=user["user_id"],
        smallest=smallest,
        largest=largest,
        content_type=kind + ("*" if rule == "starts-with" else ""),
        expires_at=int(datetime.fromisoformat(document["expiration"]).timestamp()),
    )


def _accepted(told: str, wanted: str) -> bool:
    kind = told.partition(";")[0].strip().lower()
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted


def _refused(why: str) -> Forbidden:
    return Forbidden(f"the form's policy does not allow this: {why}", code="policy_refused")


# --- completion -----------------------------------------------------------------------------------


def finish(services: Services, user_id: str, upload_id: str) -> UploadRow:
    """Make an asset of an upload whose bytes are all there, and its job where it carries one. May
    run twice, also after a crash at any point: there is one asset. What cannot be planned as its
    `on_complete` wants leaves the asset without a job, and the upload says why (`error`).

    Raises `NotFound`, `Gone`, `Conflict` (`upload_incomplete`, `upload_busy`), the engine's
    `InputRefused` for what is not media, `Invalid` (`digest_mismatch`), `Unavailable`
    (`upload_unreadable`: a passing trouble of ours, after which all is as before).
    """
    # The asset's id and the object's key stand in the row before the object is there.
    with services.database.write() as tx:
        upload = _choose_asset(tx, _owned(tx, user_id, upload_id))
        uploaded_at = tx.now_s()
    if upload.state != "open":
        return _ended(upload)
    assert upload.size_bytes is not None  # `_choose_asset` has counted them
    try:
        services.storage.finish(upload.id, upload.storage_key, upload.size_bytes)
        found = _look_into(services, upload)
    except Busy:
        raise Conflict("bytes are still being sent", code="upload_busy") from None
    except _WrongDigest as error:
        return _ended(_refuse(services, upload, "digest_mismatch", str(error)))
    except (InputRefused, Missing) as error:
        if isinstance(error, InputRefused) and _for_good(error):
            return _ended(_refuse(services, upload, error.code, error.message))
        return _unreadable(services, upload, error)
    with services.database.write() as tx:
        now = db.find_upload(tx, upload_id)
        if now is not None and now.state == "open":
            _add_asset_and_job(services, tx, now, found, uploaded_at)
            now = _find(tx, upload_id)
    if now is None or now.state in ("cancelled", "expired"):
        # Ended while we looked, or its user has gone: nobody else knows of the object.
        _remove_bytes(services.storage, upload)
        raise gone()
    upload = now
    if upload.job_id is not None:
        services.bell.ring(TASKS)
        services.bell.ring(EVENTS)
    return _ended(upload)


def _choose_asset(tx: Tx, upload: UploadRow) -> UploadRow:
    """The upload with an asset's id and an object's key, if all its bytes have come."""
    if upload.state != "open" or upload.asset_id is not None:
        return upload
    _check_complete(tx, upload)
    asset_id = new_id()
    db.change_open(
        tx,
        upload.id,
        expires_at=max(upload.expires_at, tx.now_s() + COMPLETION_S),
        asset_id=asset_id,
        storage_key=f"assets/{asset_id}/source",
    )
    return _find(tx, upload.id)


def _check_complete(tx: Tx, upload: UploadRow) -> None:
    """Raises `Conflict` (`upload_incomplete`), which names some of what is missing."""
    if upload.door == "parts":
        there = db.part_sizes(tx, upload.id)
        missing = [n for n in range(1, (part_count(upload) or 0) + 1) if n not in there]
        if missing:
            raise Conflict(
                f"{len(missing)} parts are missing, the first is {missing[0]}",
                code="upload_incomplete",
                missing_parts=missing[:MOST_PARTS],
            )
    elif upload.size_bytes is None or upload.offset_bytes != upload.size_bytes:
        size = "an unknown number of" if upload.size_bytes is None else upload.size_bytes
        raise Conflict(
            f"{upload.offset_bytes} of {size} bytes are there",
            code="upload_incomplete",
            offset_bytes=upload.offset_bytes,
        )


def _for_good(error: InputRefused) -> bool:
    """Whether it is the file's own fault. That a file of ours is not there, or cannot be opened, is
    not, nor that the machine was too busy to look into it in time."""
    return not error.retryable and error.code != "source_missing"


def _unreadable(services: Services, upload: UploadRow, cause: Exception) -> UploadRow:
    """What has become of an upload whose file cannot be read. Raises as `_ended`, and `Unavailable`
    where it is as open as before."""
    with services.database.read() as tx:
        now = db.find_upload(tx, upload.id)
    if now is None:
        raise gone()
    if now.state == "open":
        raise Unavailable(
            "the file cannot be read just now: complete the upload again", code="upload_unreadable"
        ) from cause
    return _ended(now)


class _WrongDigest(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Found:
    """What an upload turned out to be: the file, its SHA-256 where it was made, and the job that it
    carries, or why there can be none."""

    info: MediaInfo
    sha256: str | None
    job: queue.NewJob | None
    error: dict[str, Any] | None


def _look_into(services: Services, upload: UploadRow) -> _Found:
    """Probe and plan; and make the SHA-256 where the client said one and no job waits to play. With
    a job the digest is a task of it, which fails when it is wrong."""
    with _as_file(services.storage, upload.storage_key) as path:
        info = probe(path, services.tools)
        job, error = _plan_job(upload, info)
        if upload.sha256 is None or job is not None:
            return _Found(info, None, job, error)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != upload.sha256:
        raise _WrongDigest(f"the file's SHA-256 is {sha256}, not {upload.sha256}")
    return _Found(info, sha256, job, error)


@contextmanager
def _as_file(storage: Storage, key: str) -> Iterator[Path]:
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="telecine-") as folder:
        path = Path(folder) / "source"
        storage.fetch(key, path)
        yield path


def _add_asset_and_job(
    services: Services,
    tx: Tx,
    upload: UploadRow,
    found: _Found,
    uploaded_at: float,
) -> None:
    assert upload.asset_id is not None
    assert upload.size_bytes is not None
    info, job = found.info, found.job
    db.add_asset(
        tx,
        db.NewAsset(
            id=upload.asset_id,
            user_id=upload.user_id,
            processing=job is not None,
            title=upload.title or title_of(upload.filename),
            filename=upload.filename,
            content_type=upload.content_type,
            source_key=upload.storage_key,
            source_size_bytes=upload.size_bytes,
            source_sha256=found.sha256,
            media=to_plain(info),
            summary=describe(info),
            duration_s=float(info.duration_s),
            uploaded_at=uploaded_at,
        ),
    )
    if job is not None:
        queue.submit(tx, job, max_running_jobs=services.settings.max_running_jobs)
    db.change_open(
        tx,
        upload.id,
        state="finished",
        offset_bytes=upload.size_bytes,
        job_id=None if job is None else job.id,
        error=found.error,
    )


def _plan_job(
    upload: UploadRow, info: MediaInfo
) -> tuple[queue.NewJob | None, dict[str, Any] | None]:
    """The job that the upload carries; or why there can be none."""
    if upload.on_complete is None or upload.asset_id is None:
        return None, None
    try:
        order = orders.read_order(upload.on_complete)
        plan = make_plan(info, order.profile)
    except (MediaError, ServiceError) as error:
        return None, {"code": error.code, "message": error.message}
    job = orders.new_job(
        order,
        plan,
        job_id=new_id(),
        user_id=upload.user_id,
        asset_id=upload.asset_id,
        digest=orders.choose_digest(None, upload.sha256),
    )
    return job, None


def _refuse(services: Services, upload: UploadRow, code: str, message: str) -> UploadRow:
    with services.database.write() as tx:
        if db.change_open(tx, upload.id, state="refused", error={"code": code, "message": message}):
            db.throw_away(tx, upload.storage_key)
        ended = _find(tx, upload.id)
    if ended.state == "refused":
        _remove_bytes(services.storage, upload)
    return ended


def _ended(upload: UploadRow) -> UploadRow:
    """A finished upload. Raises `Gone`; a refused one's error again."""
    if upload.state == "finished":
        return upload
    if upload.state == "refused" and upload.error is not None:
        if upload.error["code"] == "digest_mismatch":
            raise Invalid(upload.error["message"], code="digest_mismatch")
        raise InputRefused(upload.error["message"], code=upload.error["code"])
    raise gone()


# --- ends -----------------------------------------------------------------------------------------


def collect_expired(services: Services) -> int:
    """End open uploads whose time is over, and remove incoming files that belong to no open one:
    those of ended uploads, of deleted users, of crashes. Run now and then by any process; how many
    files and uploads went."""
    with services.database.write() as tx:
        late = db.expired(tx, COLLECTED_AT_ONCE)
        ended = [upload for upload in late if _end(tx, upload, "expired")]
        db.forget_ended(tx, ENDED_TTL_S)
    for upload in ended:
        _remove_bytes(services.storage, upload)
    orphans = _orphans(services)
    for key in orphans:
        services.storage.abandon(key)
    return len(ended) + len(orphans)


def _orphans(services: Services) -> list[str]:
    keys = list(services.storage.incoming())
    found: list[str] = []
    for start in range(0, len(keys), COLLECTED_AT_ONCE):
        some = keys[start : start + COLLECTED_AT_ONCE]
        with services.database.read() as tx:
            alive = db.open_among(tx, some)
        found += [key for key in some if key not in alive]
    return found


def _end(tx: Tx, upload: UploadRow, state: UploadState) -> bool:
    ended = db.change_open(tx, upload.id, state=state)
    if ended and upload.asset_id is not None:
        db.throw_away(tx, upload.storage_key)  # should we die before it is removed below
    return ended


def _remove_bytes(storage: Storage, upload: UploadRow) -> None:
    storage.abandon(upload.id)
    if upload.asset_id is not None:
        storage.delete(upload.storage_key)


def gone() -> Gone:
    return Gone("this upload has ended", code="upload_gone")


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"an upload has at most {limit} bytes", code="upload_too_large", max_bytes=limit
    )


def _find(tx: Tx, upload_id: str) -> UploadRow:
    upload = db.find_upload(tx, upload_id)
    if upload is None:
        raise NotFound("no such upload", code="upload_unknown")
    return upload


def _owned(tx: Tx, user_id: str, upload_id: str) -> UploadRow:
    upload = _find(tx, upload_id)
    if upload.user_id != user_id:
        raise NotFound("no such upload", code="upload_unknown")
    return upload


# --- words of the client --------------------------------------------------------------------------


def clean_name(filename: str) -> str:
    """The last part of a path, without what does not print; it names nothing of ours."""
    name = PurePosixPath(_UNPRINTABLE.sub("", filename).replace("\\", "/")).name.strip()
    return name[-255:] if name.strip(".") else NAMELESS


def clean_title(title: str) -> str:
    return _UNPRINTABLE.sub(" ", title).strip()[:300]


def title_of(filename: str) -> str:
    """A file's name without its ending: what a title is when nobody gives one."""
    return PurePosixPath(filename).stem[:300] or filename[:300]


def clean_type(content_type: str) -> str:
    """The client's word, if it is a type of media; it is sent back with the source some day."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind if _TYPE.fullmatch(kind) else "application/octet-stream"


def read_wish(on_complete: str | None, preset: str | None) -> Order | None:
    """The order that a form's field or a tus header carries: JSON as of `create_upload`, or a
    preset's name. Raises as `orders.make_order`, and `Invalid` (`on_complete_invalid`)."""
    if not on_complete:
        return orders.make_order(preset=preset) if preset else None
    try:
        plain = json.loads(on_complete)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or not plain.keys() <= _WISH.keys() or preset:
        raise _wish_invalid()
    if any(not isinstance(plain[name], _WISH[name]) for name in plain):
        raise _wish_invalid()
    if any(not isinstance(output, dict) for output in plain.get("outputs") or ()):
        raise _wish_invalid()
    return orders.make_order(**plain)


_WISH: dict[str, tuple[type, ...]] = {
    "preset": (str, type(None)),
    "outputs": (list, type(None)),
    "priority": (int,),
    "metadata": (dict, type(None)),
    "source_policy": (str,),
}


def _wish_invalid() -> Invalid:
    return Invalid(
        'on_complete: JSON such as {"preset": "stream"} or {"outputs": [{"type": "hls"}]}, and '
        "no preset beside it",
        code="on_complete_invalid",
    )


def check_digest(sha256: str | None) -> str | None:
    """A SHA-256 in hexadecimal, small letters. Raises `Invalid` (`sha256_invalid`)."""
    if sha256 is None or _DIGEST.fullmatch(sha256.lower()):
        return None if sha256 is None else sha256.lower()
    raise Invalid("sha256: 64 hexadecimal digits", code="sha256_invalid")
