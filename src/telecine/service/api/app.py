"""The FastAPI application: routes, middleware, the OpenAPI document."""

from __future__ import annotations

from importlib import import_module

from fastapi import Depends, FastAPI, HTTPException, Request

from telecine.service import logs
from telecine.service.api import documents, errors, idempotency
from telecine.service.api.middleware import BodyLimit, Cors, Requests
from telecine.service.domain import Invalid
from telecine.service.services import Services

# Pictures first: pages ask for them by the dozen, and each route before them is tried.
ROUTES = ("images", "accounts", "sessions", "api_keys", "image_keys", "admin", "uploads", "tus",
          "assets", "jobs", "downloads", "playback", "operations")  # fmt: skip

_IDS = ("asset_id", "job_id", "upload_id")


async def _bind_ids(request: Request) -> None:
    """What a route logs is about the things that its path names."""
    logs.bind(**{key: str(request.path_params[key]) for key in _IDS if key in request.path_params})


async def _refuse_nul(request: Request) -> None:
    """PostgreSQL takes no NUL in text: no id, name or cursor has one. Raises `Invalid`, or for a
    path 404, which it names nothing at."""
    if any("\x00" in str(part) for part in request.path_params.values()):
        raise HTTPException(404)
    if any("\x00" in text for pair in request.query_params.multi_items() for text in pair):
        raise Invalid("a parameter has a NUL in it", code="invalid_request")


def make_app(services: Services) -> FastAPI:
    """The whole API over these services."""
    app = FastAPI(
        title="Telecine",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_refuse_nul), Depends(_bind_ids)],
    )
    app.state.services = services
    app.state.streams = set()
    # The last one added is the outermost.
    app.add_middleware(idempotency.Recorder)
    app.add_middleware(BodyLimit)
    app.add_middleware(Cors, origins=services.settings.cors_origins)
    app.add_middleware(Requests, secure=services.settings.secure, streams=app.state.streams)
    errors.install(app)
    idempotency.install(app)
    documents.install(app)
    for name in ROUTES:
        app.include_router(import_module(f"telecine.service.api.routes.{name}").router)
    return app
