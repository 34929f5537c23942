"""The FastAPI application: routes, middleware, the OpenAPI document."""

from __future__ import annotations

from importlib import import_module

from fastapi import FastAPI

from telecine.service.api import errors
from telecine.service.services import Services

ROUTES = ("accounts", "sessions", "api_keys", "admin", "uploads", "tus", "assets", "jobs",
          "playback", "operations")  # fmt: skip


def make_app(services: Services) -> FastAPI:
    """The whole API over these services."""
    app = FastAPI(title="Telecine", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    errors.install(app)
    for name in ROUTES:
        app.include_router(import_module(f"telecine.service.api.routes.{name}").router)
    return app
