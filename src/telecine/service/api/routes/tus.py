"""tus 1.0: uploads that go on where they broke off. https://tus.io/protocols/resumable-upload

The last byte completes the upload, so the answer to it comes when the asset is there.
"""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect

from telecine.service.api.bodies import BodyRoute, Handler, Reading, blocking, pump, refuse_long
from telecine.service.api.deps import ServicesDep, UploadsWrite
from telecine.service.api.errors import responses
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import Invalid, ServiceError
from telecine.service.services import Services
from telecine.service.uploads import completion, sessions, tails, words
from telecine.service.uploads.incoming import Locked
from telecine.service.uploads.sessions import Opening
from telecine.service.uploads.tails import Checksum, IncomingTail

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination"
OFFSET_TYPE = "application/offset+octet-stream"
ALGORITHMS = {"sha1": 20, "sha256": 32}  # and the bytes of a digest
MAX_METADATA_LETTERS = 16 * 1024

# A request that has been silent for so long gives way to a new one on the same upload.
SILENT_S = 5.0


class ProtocolError(ServiceError):
    """The request is no tus 1.0; its code has a status of its own."""


class TusRoute(BodyRoute):
    """Every answer names the version; a request of another one is refused (but OPTIONS asks)."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await handler(request)
            response.headers["Tus-Resumable"] = VERSION
            response.headers.setdefault("Cache-Control", "no-store")
            if response.status_code == 412:
                response.headers["Tus-Version"] = VERSION
            return response

        return handle


router = APIRouter(prefix="/v1/tus", tags=["Uploads: tus"], route_class=TusRoute)

Version = Annotated[
    str | None, Header(alias="Tus-Resumable", description="`1.0.0`.", examples=[VERSION])
]
Offset = Annotated[
    str | None, Header(alias="Upload-Offset", description="Where these bytes begin.")
]
Length = Annotated[
    str | None, Header(alias="Upload-Length", description="Bytes of the whole file.")
]
DeferLength = Annotated[
    str | None,
    Header(alias="Upload-Defer-Length", description="`1`: the length is said with a later PATCH."),
]
Metadata = Annotated[
    str | None,
    Header(
        alias="Upload-Metadata",
        description="Names with values in base64: `filename`, `filetype`, `title`, `sha256`, "
        "`preset`, or `on_complete` (JSON, as of `create_upload`).",
        examples=["filename ZmlsbS5tcDQ=,preset c3RyZWFt"],
    ),
]
ChecksumHeader = Annotated[
    str | None,
    Header(
        alias="Upload-Checksum",
        description="Of these bytes: `sha1` or `sha256`, and the digest in base64.",
    ),
]
ContentType = Annotated[str | None, Header(alias="Content-Type", examples=[OFFSET_TYPE])]

_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {OFFSET_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.options(
    "",
    operation_id="read_tus_options",
    summary="What this server speaks of tus",
    status_code=204,
)
@router.options("/{upload_id}", include_in_schema=False, status_code=204)
def read_tus_options(services: ServicesDep) -> Response:
    return Response(
        status_code=204,
        headers={
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(services.settings.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@router.post(
    "",
    operation_id="create_tus_upload",
    summary="Open an upload, with its first bytes or without",
    status_code=201,
    response_class=Response,
    responses=responses(
        403, tus_header_invalid=400, upload_too_large=413, tus_version=412, checksum_mismatch=460
    ),
    openapi_extra=_BODY,
)
async def create_tus_upload(
    request: Request,
    services: ServicesDep,
    who: UploadsWrite,
    version: Version = None,
    length: Length = None,
    defer_length: DeferLength = None,
    metadata: Metadata = None,
    checksum: ChecksumHeader = None,
) -> Response:
    _check_version(version)
    size_bytes = _read_length(length, defer_length)
    opening = _read_opening(metadata, size_bytes)
    proof = _read_checksum(checksum)
    with_bytes = request.headers.get("content-type") == OFFSET_TYPE
    if with_bytes:
        limit = await blocking(partial(sessions.limit_of, services, who.user_id))
        refuse_long(request, min(limit, size_bytes or limit))
    upload = await blocking(partial(sessions.create, services, who.user_id, opening, door="tus"))
    if with_bytes:
        tail = await blocking(
            partial(tails.open_tail, services, who.user_id, upload.id, 0, checksum=proof)
        )
        upload = await _take(request, services, tail)
    headers = {
        "Location": f"/v1/tus/{upload.id}",  # right behind any proxy
        **({"Upload-Offset": str(upload.offset_bytes)} if with_bytes else {}),
        **_expiry(upload),
    }
    return Response(status_code=201, headers=headers)


@router.head(
    "/{upload_id}",
    operation_id="read_tus_offset",
    summary="Where an upload stands",
    response_class=Response,
    responses=responses(404, tus_version=412, upload_gone=410),
)
def read_tus_offset(
    upload_id: str, services: ServicesDep, who: UploadsWrite, version: Version = None
) -> Response:
    _check_version(version)
    upload = sessions.read(services, who.user_id, upload_id)
    if upload.state == "open" and upload.offset_bytes == upload.size_bytes:
        # The answer to the last byte was lost on its way, and with it perhaps the completion.
        upload = completion.finish(services, who.user_id, upload_id)
    if upload.state not in ("open", "finished"):
        raise sessions.gone()
    known = upload.size_bytes is not None
    headers = {
        "Upload-Offset": str(upload.offset_bytes),
        **({"Upload-Length": str(upload.size_bytes)} if known else {"Upload-Defer-Length": "1"}),
        **({"Upload-Metadata": upload.tus_metadata} if upload.tus_metadata else {}),
        **_expiry(upload),
    }
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{upload_id}",
    operation_id="append_tus_bytes",
    summary="Send bytes; the last one completes the upload",
    status_code=204,
    responses=responses(
        404,
        tus_header_invalid=400,
        offset_mismatch=409,
        upload_gone=410,
        tus_version=412,
        upload_too_large=413,
        tus_content_type=415,
        not_media=422,
        upload_locked=423,
        checksum_mismatch=460,
    ),
    openapi_extra=_BODY,
)
async def append_tus_bytes(
    upload_id: str,
    request: Request,
    services: ServicesDep,
    who: UploadsWrite,
    version: Version = None,
    offset: Offset = None,
    length: Length = None,
    content_type: ContentType = None,
    checksum: ChecksumHeader = None,
) -> Response:
    _check_version(version)
    if content_type != OFFSET_TYPE:
        raise ProtocolError(f"Content-Type: {OFFSET_TYPE}", code="tus_content_type")
    proof = _read_checksum(checksum)
    begin = _read_number("Upload-Offset", offset)
    size_bytes = None if length is None else _read_number("Upload-Length", length)
    opening = partial(
        tails.open_tail,
        services,
        who.user_id,
        upload_id,
        begin,
        size_bytes=size_bytes,
        checksum=proof,
    )
    try:
        tail = await blocking(opening)
    except Locked:
        if not await _end_silent(upload_id):
            raise
        tail = await blocking(opening)
    upload = await _take(request, services, tail)
    headers = {"Upload-Offset": str(upload.offset_bytes), **_expiry(upload)}
    return Response(status_code=204, headers=headers)


@router.delete(
    "/{upload_id}",
    operation_id="terminate_tus_upload",
    summary="Give an upload up",
    status_code=204,
    responses=responses(404, tus_version=412, upload_finished=409),
)
def terminate_tus_upload(
    upload_id: str, services: ServicesDep, who: UploadsWrite, version: Version = None
) -> Response:
    _check_version(version)
    if sessions.read(services, who.user_id, upload_id).state in ("cancelled", "expired"):
        raise sessions.gone()
    sessions.cancel(services, who.user_id, upload_id)
    return Response(status_code=204)


@router.post("/{upload_id}", include_in_schema=False)
async def override_method(
    upload_id: str,
    request: Request,
    services: ServicesDep,
    who: UploadsWrite,
    version: Version = None,
    offset: Offset = None,
    length: Length = None,
    content_type: ContentType = None,
    checksum: ChecksumHeader = None,
) -> Response:
    """For networks that let no PATCH or DELETE through."""
    method = request.headers.get("x-http-method-override", "").upper()
    if method == "PATCH":
        return await append_tus_bytes(
            upload_id, request, services, who, version, offset, length, content_type, checksum
        )
    if method == "DELETE":
        return await blocking(partial(terminate_tus_upload, upload_id, services, who, version))
    raise ProtocolError(
        "POST to an upload means PATCH or DELETE by X-HTTP-Method-Override",
        code="tus_header_invalid",
    )


# --- bytes ----------------------------------------------------------------------------------------

# Who sends to which upload just now. A client that lost its connection comes back before the server
# has noticed: its old request must not lock it out.
_readings: dict[str, Reading] = {}


async def _end_silent(upload_id: str) -> bool:
    """End the request that sends to this upload, if it has been silent; whether it was."""
    reading = _readings.get(upload_id)
    if reading is None or reading.silent_s < SILENT_S:
        return False
    reading.stop()
    await reading.ended.wait()
    return True


async def _take(request: Request, services: Services, tail: IncomingTail) -> UploadRow:
    """Feed the body to the upload; completed when that was the last byte."""
    upload = tail.upload
    room = (upload.size_bytes or upload.max_bytes) - upload.offset_bytes
    reading = _readings[upload.id] = Reading()
    try:
        try:
            await pump(request, tail.feed, limit_bytes=room, reading=reading)
        except (ClientDisconnect, Invalid):
            await blocking(tail.keep)
            raise
        upload = await blocking(tail.finish)
    finally:
        tail.close()
        del _readings[upload.id]
        reading.ended.set()
    if upload.offset_bytes == upload.size_bytes:
        return await blocking(partial(completion.finish, services, upload.user_id, upload.id))
    return upload


# --- headers --------------------------------------------------------------------------------------


def _check_version(version: str | None) -> None:
    if version != VERSION:
        raise ProtocolError(f"Tus-Resumable: {VERSION}", code="tus_version")


def _read_number(name: str, text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProtocolError(f"{name}: a whole number", code="tus_header_invalid")
    return int(text)


def _read_length(length: str | None, defer_length: str | None) -> int | None:
    if (length is None) == (defer_length is None) or defer_length not in (None, "1"):
        raise ProtocolError(
            "either Upload-Length or Upload-Defer-Length: 1", code="tus_header_invalid"
        )
    return None if length is None else _read_number("Upload-Length", length)


def _read_checksum(text: str | None) -> Checksum | None:
    if text is None:
        return None
    algorithm, _, digest = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise ProtocolError(
            f"Upload-Checksum: one of {', '.join(ALGORITHMS)}", code="tus_header_invalid"
        )
    raw = _base64("Upload-Checksum", digest)
    if len(raw) != ALGORITHMS[algorithm]:
        raise ProtocolError(f"no digest of {algorithm}", code="tus_header_invalid")
    return Checksum("sha1" if algorithm == "sha1" else "sha256", raw)


def read_metadata(text: str | None) -> dict[str, str]:
    """`Upload-Metadata` → names and values. Raises `ProtocolError` (`tus_header_invalid`)."""
    if text is None or not text.strip():
        return {}
    if len(text) > MAX_METADATA_LETTERS:
        raise ProtocolError("Upload-Metadata is too long", code="tus_header_invalid")
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, _, value = pair.strip().partition(" ")
        if not (name.isascii() and name) or name in found:
            raise ProtocolError(
                "Upload-Metadata: names that are not empty, each once", code="tus_header_invalid"
            )
        found[name] = _base64("Upload-Metadata", value).decode("utf-8", "replace")
    return found


def _base64(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError(f"{name}: a value is no base64", code="tus_header_invalid") from None


def _read_opening(metadata: str | None, size_bytes: int | None) -> Opening:
    said = read_metadata(metadata)
    return Opening(
        filename=said.get("filename") or said.get("name", ""),
        size_bytes=size_bytes,
        content_type=said.get("filetype") or said.get("type", ""),
        sha256=said.get("sha256"),
        title=said.get("title", ""),
        on_complete=words.read_wish(said.get("on_complete"), said.get("preset")),
        tus_metadata=metadata,
    )


def _expiry(upload: UploadRow) -> dict[str, str]:
    if upload.state != "open":
        return {}
    return {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}
