"""The route of pictures by signed URLs.

It is one of the few that are async: what is in memory is answered without a change of threads, and
a request that waits for its picture keeps none of the threads that answer others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from telecine.service import image_keys, image_urls, images
from telecine.service.api.errors import responses
from telecine.service.api.objects import FILE_ANSWERS, send_bytes, send_object
from telecine.service.image_desk import Remembered
from telecine.service.image_urls import AUTO, ImageUrl
from telecine.service.images import Order
from telecine.service.services import Services
from telecine.service.storage.store import Missing


class _Direct(APIRoute):
    """A route whose function gets its path as it is. FastAPI's own way, which checks each part and
    asks the application's dependencies, takes a third of the time of an answer from memory; here
    the signature says whether the path is one of ours (and a NUL is in none)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            found: Response = await self.endpoint(request, **request.path_params)
            return found

        return handle


router = APIRouter(tags=["pictures"], route_class=_Direct)

YEAR_S = 365 * 24 * 3600
MOST_ACCEPT = 1000  # signs of an `Accept` header that are looked at: browsers send 100
_TRIES = 3  # a picture may be evicted between the look at its row and at its bytes

# Any page may show what it has the URL of: no cookie is looked at here.
_OPEN = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Timing-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    **FILE_ANSWERS,
    200: {"description": "The picture.", "content": {"image/*": {}}},
    **responses(
        signature_invalid=403,
        link_expired=403,
        asset_unknown=404,
        ops_not_canonical=422,
        images_busy=429,
        images_limited=429,
    ),
}


@router.get(
    "/i/{link}/{ops}/{asset_id}.{ext}",
    operation_id="get_image",
    summary="A picture, made as its signed URL says",
    response_class=Response,
    responses=_ANSWERS,
)
@router.head("/i/{link}/{ops}/{asset_id}.{ext}", include_in_schema=False)
async def get_image(
    request: Request,
    link: Annotated[str, Path(description="`{kid}.{expiry}.{signature}`; expiry may be empty.")],
    ops: Annotated[
        str, Path(description="Operations in their canonical form, or `-`: resize:w=800,h=600")
    ],
    asset_id: Annotated[str, Path(description="An asset of the key's user.")],
    ext: Annotated[str, Path(description="jpg, png, webp, avif, gif, tiff; or auto, by `Accept`.")],
) -> Response:
    """It is made when it is first asked for, and kept. No log-in: the signature is the permission.
    The first look is at the signature; nothing else is done for a URL without a good one."""
    services: Services = request.app.state.services
    url = image_keys.check(services.signer, link, ops, asset_id, ext)
    accept = ", ".join(request.headers.getlist("accept"))[:MOST_ACCEPT] if ext == AUTO else ""
    memory = services.image_desk.memory
    name = f"{link}/{ops}/{asset_id}.{ext} {image_urls.choices(accept) if accept else ''}"
    known = memory.get(name)
    for _ in range(_TRIES):
        if known is not None and known.fresh:
            found = known
        else:
            found = await _find(services, url, accept, known)
            memory.put(name, found)
        if url.expires_at is not None and found.time_s() >= url.expires_at:
            raise images.expired()
        images.check(found.shown)
        try:
            return await _send(request, services, url, found)
        except Missing:
            continue
    raise images.unknown()


async def _find(
    services: Services, url: ImageUrl, accept: str, known: Remembered | None
) -> Remembered:
    shown = None if known is None else known.shown
    found = await run_in_threadpool(images.find, services, url, accept, shown)
    if not isinstance(found, Order):
        return found
    made = images.make(services, found)
    # Who goes away takes nothing along: others may wait for the same picture.
    shown = await asyncio.shield(asyncio.wrap_future(made))
    return Remembered(shown, found.now_s, found.looked_s)


async def _send(request: Request, services: Services, url: ImageUrl, found: Remembered) -> Response:
    shown = found.shown
    headers = {**_OPEN, "Cache-Control": cache_control(url.expires_at, found.time_s())}
    if url.extension == AUTO:
        headers["Vary"] = "Accept"
    if shown.data is not None:
        return send_bytes(
            request,
            shown.data,
            content_type=shown.content_type,
            headers=headers,
            etag=shown.sha256[:32],
        )
    return await run_in_threadpool(
        send_object,
        request,
        services.storage,
        shown.key,
        content_type=shown.content_type,
        headers=headers,
        etag=shown.sha256[:32],
    )


def cache_control(expires_at: int | None, now_s: float) -> str:
    """For ever, as the bytes behind a URL never change; but never beyond the URL's end."""
    if expires_at is None:
        return f"public, max-age={YEAR_S}, immutable"
    return f"public, max-age={max(0, min(YEAR_S, int(expires_at - now_s)))}"
