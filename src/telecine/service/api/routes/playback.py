"""Routes of playback: where an asset plays, its playlists and segments, the embeddable player."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from telecine.service import playback, player
from telecine.service.api import deps
from telecine.service.api.deps import CredentialsDep, ServicesDep
from telecine.service.api.errors import responses, status_of
from telecine.service.api.objects import FILE_ANSWERS, send_object, send_text
from telecine.service.api.schemas import Answer, rfc3339
from telecine.service.domain import NotFound, Principal, ServiceError, Unauthenticated
from telecine.service.playback import Keeping, Kept, Playback, PlaybackState
from telecine.service.services import Services
from telecine.service.storage.store import Missing

router = APIRouter(tags=["playback"])

# A segment's row and its file may be replaced by the finished tree between two looks.
_TRIES = 3

_KEEPING: dict[Keeping, str] = {
    "fixed": "max-age=31536000, immutable",
    "hour": "max-age=3600",
    "changes": "no-cache",
}
# Any page may play what it has the URL of: no cookie is looked at here.
_OPEN = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Timing-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}

AssetId = Annotated[str, Path(description="The asset's id.", max_length=26)]
JobId = Annotated[str, Path(description="The id of the job that made it.", max_length=26)]
MediaPath = Annotated[str, Path(description="The file's name within the job.", max_length=200)]
Token = Annotated[str, Path(description="What the URL of a private asset carries.", max_length=80)]


# --- where it plays -----------------------------------------------------------------------------


class PlaybackAnswer(Answer):
    """Where an asset plays just now."""

    state: PlaybackState = Field(
        description="`waiting`: nothing plays yet; `growing`: a part plays while the rest is made; "
        "`ready`: all of it; `failed`: nothing will come.",
        examples=["ready"],
    )
    hls_url: str | None = Field(
        description="HLS; answers 404 while `waiting`. Null where no stream was asked for.",
        examples=["https://media.example/media/01KAJ9…/01KAJA…/master.m3u8"],
    )
    dash_url: str | None = Field(
        description="DASH; null until it is `ready`.",
        examples=["https://media.example/media/01KAJ9…/01KAJA…/manifest.mpd"],
    )
    file_url: str | None = Field(
        description="A file that plays by itself (MP4, or sound); null where none was made.",
        examples=[None],
    )
    poster_url: str | None = Field(
        description="A picture of it; null until there is one.",
        examples=["https://media.example/media/01KAJ9…/01KAJA…/poster.jpg"],
    )
    storyboard_url: str | None = Field(
        description="WebVTT that names a picture for each time, as players show above their bar; "
        "null unless one was asked for and it is `ready`.",
        examples=["https://media.example/media/01KAJ9…/01KAJA…/storyboard.vtt"],
    )
    chapters_url: str | None = Field(
        description="WebVTT with the chapters; null where there are none, or it is not `ready`.",
        examples=[None],
    )
    embed_url: str = Field(
        description="A page with a player, to be framed by any page.",
        examples=["https://media.example/embed/01KAJ9…"],
    )
    embed_html: str = Field(
        description="The same as HTML to be pasted.",
        examples=['<iframe src="https://media.example/embed/01KAJ9…" …></iframe>'],
    )
    expires_at: str | None = Field(
        description="When the URLs of a private asset end; null where they do not.",
        examples=[None],
    )


def viewer(services: ServicesDep, credentials: CredentialsDep) -> Principal | None:
    """Who asks, if anybody: what is public needs no log-in. Raises `Unauthenticated` for a token or
    key that is not good; a cookie that has run out is none."""
    try:
        return deps.principal(services, credentials)
    except Unauthenticated:
        if credentials.authorization is not None:
            raise
        return None


@router.get(
    "/v1/assets/{asset_id}/playback",
    operation_id="get_playback",
    summary="Where an asset plays",
    responses=responses(401, asset_unknown=404, scope_missing=403),
)
def get_playback(
    asset_id: AssetId,
    services: ServicesDep,
    who: Annotated[Principal | None, Depends(viewer)],
) -> PlaybackAnswer:
    """Public and unlisted assets: for anybody. Private ones: for their owner, by session or by an
    API key with `assets:read`; the URLs then carry a token and end after about twelve hours."""
    found = playback.look(services, asset_id, who)
    base = services.settings.base_url

    def url(path: str | None) -> str | None:
        return None if path is None else base + path

    return PlaybackAnswer(
        state=found.state,
        hls_url=url(found.hls),
        dash_url=url(found.dash),
        file_url=url(found.file),
        poster_url=url(found.poster),
        storyboard_url=url(found.storyboard),
        chapters_url=url(found.chapters),
        embed_url=base + found.embed,
        embed_html=embed_html(base + found.embed, found.asset.title),
        expires_at=rfc3339(found.expires_at),
    )


def embed_html(url: str, title: str) -> str:
    """HTML that shows the player in somebody's page."""
    return (
        f'<iframe src="{html.escape(url)}" title="{html.escape(title)}" width="640" height="360" '
        'style="border:0" loading="lazy" allow="autoplay; fullscreen; picture-in-picture" '
        "allowfullscreen></iframe>"
    )


# --- the player (its paths go before those of media, which would take them) ---------------------


_PAGE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page.", "content": {"text/html": {}}},
    404: {"description": "A page that says: not available.", "content": {"text/html": {}}},
}


@router.get(
    "/embed/{asset_id}",
    operation_id="get_embed",
    summary="A page that plays a public or unlisted asset",
    response_class=Response,
    responses=_PAGE_ANSWERS,
)
def get_embed(services: ServicesDep, asset_id: AssetId) -> Response:
    """To be framed by any page. Says in plain words what it cannot play."""
    return _page(lambda: playback.look_by_url(services, asset_id, None))


@router.get(
    "/p/{token}/embed/{asset_id}",
    operation_id="get_private_embed",
    summary="A page that plays a private asset",
    response_class=Response,
    responses=_PAGE_ANSWERS
    | {403: {"description": "A page that says: expired.", "content": {"text/html": {}}}},
)
def get_private_embed(services: ServicesDep, token: Token, asset_id: AssetId) -> Response:
    """As `get_embed`, for who has a URL with a token."""
    return _page(lambda: playback.look_by_url(services, asset_id, token))


@router.get("/embed/{asset_id}/state", include_in_schema=False)
def get_embed_state(services: ServicesDep, asset_id: AssetId) -> JSONResponse:
    return _embed_state(playback.look_by_url(services, asset_id, None))


@router.get("/p/{token}/embed/{asset_id}/state", include_in_schema=False)
def get_private_embed_state(services: ServicesDep, token: Token, asset_id: AssetId) -> JSONResponse:
    return _embed_state(playback.look_by_url(services, asset_id, token))


@router.get("/player/{name}", include_in_schema=False)
def get_player_file(request: Request, name: str) -> Response:
    """The player's own script and style. Raises `NotFound` (`file_unknown`)."""
    found = player.FILES.get(name)
    if found is None:
        raise NotFound("the player has no such file", code="file_unknown")
    keeping: Keeping = "fixed" if name == player.HLS_JS else "changes"
    headers = {**_OPEN, "Cache-Control": f"public, {_KEEPING[keeping]}"}
    return send_text(request, found.data, content_type=found.content_type, headers=headers)


def _page(look: Callable[[], Playback]) -> Response:
    try:
        found = look()
    except ServiceError as error:
        words = {
            "link_expired": "This link has expired. Ask for a new one where you found it.",
            "asset_unknown": "This video does not exist, or it is private.",
        }.get(error.code, "This video cannot be played just now.")
        page = player.page(title="Not available", message=words)
        return Response(page, status_of(error), headers=_PAGE, media_type="text/html")
    page = player.page(title=found.asset.title, message="")
    return Response(page, headers=_PAGE, media_type="text/html")


_PAGE = {
    # No inline script or style, nothing from elsewhere; only here may others frame us. Media
    # Source Extensions hand the element a blob.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors *",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _embed_state(found: Playback) -> JSONResponse:
    """Paths without a host: the page's own policy lets it ask only where it came from."""
    return JSONResponse(
        {
            "state": found.state,
            "hls": found.hls,
            "file": found.file,
            "poster": found.poster,
        },
        headers={"Cache-Control": "no-store"},
    )


# --- playlists and segments ---------------------------------------------------------------------


@router.get(
    "/media/{asset_id}/{job_id}/{path:path}",
    operation_id="get_media",
    summary="Read a playlist or segment of a public or unlisted asset",
    response_class=Response,
    responses={**responses(media_unknown=404), **FILE_ANSWERS},
)
@router.head("/media/{asset_id}/{job_id}/{path:path}", include_in_schema=False)
def get_media(
    request: Request, services: ServicesDep, asset_id: AssetId, job_id: JobId, path: MediaPath
) -> Response:
    """HLS: `master.m3u8`; DASH: `manifest.mpd`. While the job runs the playlists grow."""
    return _media(request, services, asset_id, job_id, path, None)


@router.get(
    "/p/{token}/{asset_id}/{job_id}/{path:path}",
    operation_id="get_private_media",
    summary="Read a playlist or segment of a private asset",
    response_class=Response,
    responses={**responses(link_expired=403, media_unknown=404), **FILE_ANSWERS},
)
@router.head("/p/{token}/{asset_id}/{job_id}/{path:path}", include_in_schema=False)
def get_private_media(
    request: Request,
    services: ServicesDep,
    token: Token,
    asset_id: AssetId,
    job_id: JobId,
    path: MediaPath,
) -> Response:
    """As `get_media`, for who has a URL with a token."""
    return _media(request, services, asset_id, job_id, path, token)


def _media(
    request: Request,
    services: Services,
    asset_id: str,
    job_id: str,
    path: str,
    token: str | None,
) -> Response:
    """Raises what `playback.find_media` raises."""
    left = _TRIES
    while True:
        found = playback.find_media(services, asset_id, job_id, path, token)
        try:
            return _send(request, services, found, private=token is not None)
        except Missing:
            left -= 1
            if not left:
                raise NotFound("the file is gone", code="media_unknown") from None


def _send(
    request: Request, services: Services, found: playback.Text | Kept, *, private: bool
) -> Response:
    who = "private" if private else "public"
    headers = {**_OPEN, "Cache-Control": f"{who}, {_KEEPING[found.keeping]}"}
    if isinstance(found, Kept) and not found.small:
        return send_object(
            request,
            services.storage,
            found.key,
            content_type=found.content_type,
            headers=headers,
        )
    data = found.data if not isinstance(found, Kept) else _whole(services, found.key)
    return send_text(request, data, content_type=found.content_type, headers=headers)


def _whole(services: Services, key: str) -> bytes:
    return b"".join(services.storage.read(key))
