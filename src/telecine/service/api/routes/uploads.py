"""Upload sessions, and three of their doors: signed parts, forms with a signed policy, plain forms.
The fourth is `tus`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from telecine.service import orders
from telecine.service.api.bodies import FORM_BYTES, BodyRoute, blocking, pump, told_length
from telecine.service.api.deps import ServicesDep, UploadsWrite
from telecine.service.api.errors import responses
from telecine.service.api.idempotency import UploadsWriteOnce
from telecine.service.api.outputs import OrderAsked
from telecine.service.api.schemas import After, Answer, Asked, Limit, Page, make_page, rfc3339
from telecine.service.db.uploads import UploadRow
from telecine.service.domain import (
    Invalid,
    ServiceError,
    TooLarge,
    UploadState,
)
from telecine.service.multipart import FilePart, FormReader, Sink
from telecine.service.services import Services
from telecine.service.uploads import completion, forms, parts, sessions, words
from telecine.service.uploads.forms import IncomingFile
from telecine.service.uploads.sessions import Opening

MAX_SIGNED_PARTS = 1000
MAX_SIZE = 2**53 - 1

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"])
bodies = APIRouter(tags=["Uploads"], route_class=BodyRoute)

UploadId = Annotated[str, Path(max_length=64, examples=["01KAJ9XK6B2T3W4Y5Z6A7B8C9D"])]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]


class LengthRequired(ServiceError):
    """A body that does not say how long it is."""


# --- what is asked and answered -------------------------------------------------------------------


class _Opening(Asked):
    filename: str = Field(min_length=1, max_length=1000, examples=["film.mp4"])
    sha256: str | None = Field(
        None, description="Of the whole file, in hexadecimal: another file is refused."
    )
    title: str = Field("", max_length=300, description="Of the asset; empty: the file's name.")
    on_complete: OrderAsked | None = Field(
        None, description="The job that begins when the upload is complete."
    )


class NewUpload(_Opening):
    size_bytes: Size = Field(examples=[73400320])
    content_type: str = Field("", max_length=200, examples=["video/mp4"])


class NewPost(_Opening):
    filename: str = Field("", max_length=1000, description="Empty: the one that the form names.")
    content_type: str = Field(
        "video/*",
        max_length=120,
        description="One type of video, audio or image, or all: `video/*`, `image/*`.",
    )
    min_size_bytes: Size = 1
    max_size_bytes: Size | None = Field(None, description="Null: your limit.")


class PartNumbers(Asked):
    numbers: list[Annotated[int, Field(ge=1, le=sessions.MOST_PARTS)]] = Field(
        min_length=1, max_length=MAX_SIGNED_PARTS, examples=[[1, 2, 3]]
    )


class UploadError(Answer):
    code: str = Field(examples=["not_media"])
    message: str


class Upload(Answer):
    """An upload session. `asset_id` stands when it is finished, `job_id` where one began; `error`
    says why it was refused, or why `on_complete` could not be done."""

    id: str = Field(examples=["01KAJ9XK6B2T3W4Y5Z6A7B8C9D"])
    state: UploadState
    filename: str
    content_type: str
    title: str
    size_bytes: int | None = Field(description="Null: the client has not said yet.")
    offset_bytes: int = Field(description="Bytes that came in order, and are safe.")
    sha256: str | None
    tus_url: str
    part_size_bytes: int | None
    part_count: int | None
    asset_id: str | None
    job_id: str | None
    error: UploadError | None
    created_at: str
    expires_at: str


class SignedPart(Answer):
    number: int
    method: str = Field(examples=["PUT"])
    url: str
    size_bytes: int = Field(description="The only length that this URL takes.")
    expires_at: str


class SignedParts(Answer):
    data: list[SignedPart]


class PartStored(Answer):
    number: int
    size_bytes: int
    etag: str = Field(description="The SHA-256 of the part.")


class Post(Answer):
    """A form that may be sent once: all `fields` as they are, then the file as `file`, last."""

    upload: Upload
    url: str
    fields: dict[str, str]
    min_size_bytes: int
    max_size_bytes: int
    expires_at: str


def show(services: Services, upload: UploadRow) -> Upload:
    """A session as its owner sees it."""
    finished = upload.state == "finished"
    return Upload(
        id=upload.id,
        state=upload.state,
        filename=upload.filename,
        content_type=upload.content_type,
        title=upload.title,
        size_bytes=upload.size_bytes,
        offset_bytes=upload.offset_bytes,
        sha256=upload.sha256,
        tus_url=f"{services.settings.base_url}/v1/tus/{upload.id}",
        part_size_bytes=upload.part_size_bytes,
        part_count=sessions.part_count(upload),
        asset_id=upload.asset_id if finished else None,
        job_id=upload.job_id,
        error=None if upload.error is None else UploadError(**upload.error),
        created_at=rfc3339(upload.created_at),
        expires_at=rfc3339(upload.expires_at),
    )


# --- sessions -------------------------------------------------------------------------------------


@router.post(
    "",
    operation_id="create_upload",
    summary="Open an upload session",
    status_code=201,
    response_model=Upload,
    responses=responses(403, upload_too_large=413, preset_unknown=422),
)
def create_upload(asked: NewUpload, services: ServicesDep, who: UploadsWriteOnce) -> Upload:
    opening = Opening(
        filename=asked.filename,
        size_bytes=asked.size_bytes,
        content_type=asked.content_type,
        sha256=asked.sha256,
        title=asked.title,
        on_complete=None if asked.on_complete is None else asked.on_complete.order(),
    )
    return show(services, sessions.create(services, who.user_id, opening))


@router.get("", operation_id="list_uploads", summary="My uploads, the newest first")
def list_uploads(
    services: ServicesDep,
    who: UploadsWrite,
    state: Annotated[UploadState | None, Query()] = None,
    limit: Limit = 20,
    after: After = None,
) -> Page[Upload]:
    rows = sessions.page(services, who.user_id, state=state, after=after, limit=limit)
    return make_page(rows, limit, partial(show, services), lambda row: row.id)


@router.post(
    "/presigned-post",
    operation_id="create_presigned_post",
    summary="Sign a form that somebody may send a file with, once and without an account",
    status_code=201,
    responses=responses(403, upload_too_large=413, policy_invalid=422),
)
def create_presigned_post(asked: NewPost, services: ServicesDep, who: UploadsWriteOnce) -> Post:
    opening = Opening(
        filename=asked.filename,
        size_bytes=None,
        sha256=asked.sha256,
        title=asked.title,
        on_complete=None if asked.on_complete is None else asked.on_complete.order(),
    )
    signed = forms.create_post(
        services,
        who.user_id,
        opening,
        smallest=asked.min_size_bytes,
        largest=asked.max_size_bytes,
        content_type=asked.content_type.lower(),
    )
    return Post(
        upload=show(services, signed.upload),
        url=f"{services.settings.base_url}/v1/uploads/post",
        fields=signed.fields,
        min_size_bytes=signed.policy.smallest,
        max_size_bytes=signed.policy.largest,
        expires_at=rfc3339(signed.policy.expires_at),
    )


@router.get(
    "/{upload_id}",
    operation_id="read_upload",
    summary="One upload of mine",
    responses=responses(404),
)
def read_upload(upload_id: UploadId, services: ServicesDep, who: UploadsWrite) -> Upload:
    return show(services, sessions.read(services, who.user_id, upload_id))


@router.delete(
    "/{upload_id}",
    operation_id="cancel_upload",
    summary="Give an unfinished upload up",
    status_code=204,
    responses=responses(404, upload_finished=409),
)
def cancel_upload(upload_id: UploadId, services: ServicesDep, who: UploadsWrite) -> None:
    sessions.cancel(services, who.user_id, upload_id)


@router.post(
    "/{upload_id}/complete",
    operation_id="complete_upload",
    summary="All bytes are there: make an asset of them",
    responses=responses(404, upload_incomplete=409, upload_gone=410, not_media=422),
)
def complete_upload(upload_id: UploadId, services: ServicesDep, who: UploadsWrite) -> Upload:
    return show(services, completion.finish(services, who.user_id, upload_id))


# --- signed parts ---------------------------------------------------------------------------------


@router.post(
    "/{upload_id}/parts",
    operation_id="sign_upload_parts",
    summary="Sign URLs that take parts of an upload",
    responses=responses(404, upload_gone=410, part_unknown=422),
)
def sign_upload_parts(
    upload_id: UploadId, asked: PartNumbers, services: ServicesDep, who: UploadsWrite
) -> SignedParts:
    signed = parts.sign_parts(services, who.user_id, upload_id, asked.numbers)
    base = services.settings.base_url
    return SignedParts(
        data=[
            SignedPart(
                number=part.number,
                method="PUT",
                url=base + part.path,
                size_bytes=part.size_bytes,
                expires_at=rfc3339(part.expires_at),
            )
            for part in signed
        ]
    )


@bodies.put(
    "/{upload_id}/parts/{number}",
    operation_id="put_upload_part",
    summary="Send a part to its signed URL",
    responses=responses(
        part_refused=403,
        upload_other_door=409,
        upload_gone=410,
        length_required=411,
        upload_locked=423,
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        },
        "security": [],
    },
)
async def put_upload_part(
    upload_id: UploadId,
    number: Annotated[int, Path(ge=1, le=sessions.MOST_PARTS)],
    signature: Annotated[str, Query(max_length=100)],
    request: Request,
    response: Response,
    services: ServicesDep,
) -> PartStored:
    size_bytes = told_length(request)
    if size_bytes is None:
        raise LengthRequired("a part says its length: Content-Length", code="length_required")
    part = await blocking(
        partial(parts.open_part, services, upload_id, number, signature, size_bytes)
    )
    try:
        await pump(request, part.feed, limit_bytes=size_bytes)
        etag = await blocking(part.finish)
    finally:
        part.close()
    response.headers["ETag"] = f'"{etag}"'
    return PartStored(number=number, size_bytes=size_bytes, etag=etag)


# --- forms ----------------------------------------------------------------------------------------

_FILE = {"type": "string", "format": "binary", "description": "The file, last."}
_TEXT = {"type": "string"}


def _form(**fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "properties": {**fields, "file": _FILE}}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema}},
        }
    }


class _FormUpload:
    """One form on its way in: its first file goes to `open_file`, a second one is refused."""

    def __init__(self, request: Request) -> None:
        self.file: IncomingFile | None = None
        self.part: FilePart | None = None
        self._reader = FormReader(request.headers.get("content-type", ""), self._begin)

    @property
    def fields(self) -> dict[str, str]:
        return self._reader.fields

    def open_file(self, part: FilePart, fields: dict[str, str]) -> IncomingFile:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)

    def finish(self) -> UploadRow:
        raise NotImplementedError

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def whole_file(self) -> IncomingFile:
        """The file, when all of the form is there. Raises `Invalid` (`form_invalid`)."""
        self._reader.finish()
        if self.file is None:
            raise Invalid("a form has a file, in the field `file`", code="form_invalid")
        return self.file

    def _begin(self, part: FilePart, fields: dict[str, str]) -> Sink:
        if self.file is not None or part.name != "file":
            raise Invalid("a form has one file, in the field `file`", code="form_invalid")
        self.part = part
        self.file = self.open_file(part, fields)
        return self.file


class _PlainForm(_FormUpload):
    """Of a logged-in user. Its fields may come before or after the file."""

    def __init__(self, request: Request, services: Services, user_id: str) -> None:
        super().__init__(request)
        self._services = services
        self._user_id = user_id
        self._upload: UploadRow | None = None

    def open_file(self, part: FilePart, fields: dict[str, str]) -> IncomingFile:
        self._read(fields)  # what is wrong in them is said before the file has come
        opening = Opening(part.filename, None, content_type=part.content_type)
        self._upload = sessions.create(self._services, self._user_id, opening, door="form")
        largest = self._upload.max_bytes
        return forms.open_file(self._services, self._upload, "form", largest=largest)

    def finish(self) -> UploadRow:
        file = self.whole_file()
        file.finish(**self._read(self.fields))
        return file.upload

    def cancel(self) -> None:
        if self._upload is not None:
            sessions.cancel(self._services, self._user_id, self._upload.id)

    @staticmethod
    def _read(fields: dict[str, str]) -> dict[str, Any]:
        unknown = sorted(fields.keys() - {"title", "sha256", "preset", "on_complete"})
        if unknown:
            raise Invalid(f"no field {unknown[0][:40]!r}", code="form_invalid")
        wish = words.read_wish(fields.get("on_complete"), fields.get("preset"))
        return {
            "title": words.clean_title(fields.get("title", "")),
            "sha256": words.check_digest(fields.get("sha256") or None),
            "on_complete": None if wish is None else orders.write_order(wish),
        }


class _SignedForm(_FormUpload):
    """Of whoever holds the fields of a signed policy. What comes after the file does not count."""

    def __init__(self, request: Request, services: Services) -> None:
        super().__init__(request)
        self._services = services
        self._room = FORM_BYTES

    def feed(self, data: bytes) -> None:
        self._room -= len(data)
        super().feed(data)  # which makes room when the file begins
        if self._room < 0:
            raise TooLarge("a longer form than its policy allows", code="upload_too_large")

    def open_file(self, part: FilePart, fields: dict[str, str]) -> IncomingFile:
        file = forms.open_post(
            self._services, fields, filename=part.filename, content_type=part.content_type
        )
        self._room += file.largest
        return file

    def finish(self) -> UploadRow:
        file = self.whole_file()
        file.finish()
        return file.upload


@bodies.post(
    "/form",
    operation_id="upload_form",
    summary="Upload a file by one plain form, as `curl -F` sends it",
    status_code=201,
    responses=responses(403, upload_too_large=413, not_media=422),
    openapi_extra=_form(title=_TEXT, sha256=_TEXT, preset=_TEXT, on_complete=_TEXT),
)
async def upload_form(request: Request, services: ServicesDep, who: UploadsWrite) -> Upload:
    limit = await blocking(partial(sessions.limit_of, services, who.user_id))
    form = _PlainForm(request, services, who.user_id)
    try:
        upload = await _take(request, form, limit)
    except BaseException:
        await blocking(form.cancel)  # nobody else can go on with it
        raise
    return await _finish(services, upload)


@bodies.post(
    "/post",
    operation_id="upload_signed_form",
    summary="Send a form with a signed policy",
    status_code=201,
    responses=responses(
        policy_refused=403, upload_gone=410, upload_too_large=413, upload_locked=423, not_media=422
    ),
    openapi_extra={
        **_form(**dict.fromkeys(("upload_id", "Content-Type", "policy", "signature"), _TEXT)),
        "security": [],
    },
)
async def upload_signed_form(request: Request, services: ServicesDep) -> Upload:
    form = _SignedForm(request, services)
    upload = await _take(request, form, MAX_SIZE)  # the form knows its limit when it is read
    return await _finish(services, upload)


async def _take(request: Request, form: _FormUpload, limit: int) -> UploadRow:
    try:
        await pump(request, form.feed, limit_bytes=limit + FORM_BYTES)
        upload = await blocking(form.finish)
    finally:
        form.close()
    return upload


async def _finish(services: Services, upload: UploadRow) -> Upload:
    done = await blocking(partial(completion.finish, services, upload.user_id, upload.id))
    return show(services, done)


router.include_router(bodies)
