"""One file in one request: forms of a logged-in user, and forms with a signed policy."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from telecine.service.db import uploads as db
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import Forbidden, Invalid
from telecine.service.services import Services
from telecine.service.uploads.incoming import Incoming, open_incoming
from telecine.service.uploads.sessions import (
    Door,
    Opening,
    create,
    find,
    gone,
    limit_of,
    take_door,
    too_large,
)
from telecine.service.uploads.words import NAMELESS, clean_name, clean_type

POST_TTL_S = 900
POST_PURPOSE = "upload-post"

_ACCEPTED = re.compile(r"(video|audio|image)/(\*|[a-z0-9][a-z0-9.+_-]{0,100})")


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
            take_door(tx, find(tx, upload.id), door, **values)
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
