"""Routes of signed links: finished files and sources, as downloads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from telecine.service import downloads
from telecine.service.api.deps import ServicesDep
from telecine.service.api.errors import responses
from telecine.service.api.objects import FILE_ANSWERS, send_object
from telecine.service.domain import NotFound
from telecine.service.downloads import Served
from telecine.service.services import Services
from telecine.service.storage.store import Missing

router = APIRouter(tags=["downloads"])

Signature = Annotated[str, Path(description="What the link carries.", max_length=80)]
FileName = Annotated[str, Path(description="For people: not looked at.", max_length=1000)]

# What a user uploaded is never a page of ours, whatever a browser thinks that it is.
_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}

_ANSWERS = {**FILE_ANSWERS, **responses(link_invalid=403, file_unknown=404)}


@router.get(
    "/d/{signature}/{output_id}/{filename}",
    operation_id="download_output",
    summary="Download a finished file by its link",
    response_class=Response,
    responses=_ANSWERS,
)
@router.head("/d/{signature}/{output_id}/{filename}", include_in_schema=False)
def download_output(
    request: Request,
    signature: Signature,
    output_id: Annotated[str, Path(description="The output's id.", max_length=26)],
    filename: FileName,  # noqa: ARG001  # part of the path
    services: ServicesDep,
) -> Response:
    """Whole, or one range of it. Until the link expires no log-in is asked for."""
    return _send(request, services, downloads.open_output(services, signature, output_id))


@router.get(
    "/d/{signature}/source/{asset_id}/{filename}",
    operation_id="download_source",
    summary="Download a source by its link",
    response_class=Response,
    responses=_ANSWERS,
)
@router.head("/d/{signature}/source/{asset_id}/{filename}", include_in_schema=False)
def download_source(
    request: Request,
    signature: Signature,
    asset_id: Annotated[str, Path(description="The asset's id.", max_length=26)],
    filename: FileName,  # noqa: ARG001  # part of the path
    services: ServicesDep,
) -> Response:
    """The bytes that were uploaded, whole or one range of them."""
    return _send(request, services, downloads.open_source(services, signature, asset_id))


def _send(request: Request, services: Services, served: Served) -> Response:
    headers = {**_HEADERS, "Content-Disposition": downloads.disposition(served.name)}
    try:
        return send_object(
            request,
            services.storage,
            served.key,
            content_type=served.content_type,
            headers=headers,
        )
    except Missing:
        raise NotFound("the file is gone", code="file_unknown") from None
