"""The OpenAPI document, and the page that shows it without asking another host for anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from telecine.service.api import deps
from telecine.service.api.errors import PROBLEM_JSON, responses
from telecine.service.api.schemas import Problem

DESCRIPTION = """\
Uploads, transcoding jobs and playback.

Log in (`POST /v1/sessions`) and send `Authorization: Bearer <access token>`, or create an API key
and send that. Lists come in pages: `limit`, and `after` with the `next_cursor` of the page before.
Every error is a problem document (RFC 9457) with a stable `code` and the `request_id` that the
service's log has, too. A creating POST takes an `Idempotency-Key`.
"""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Whole bodies, where the examples of the single fields do not make one.
BODIES: dict[str, Any] = {
    "update_me": {"name": "Ada Lovelace"},
    "create_session": {"email": "ada@example.org", "password": "correct horse battery staple"},
    "refresh_session": {"refresh_token": "tcr_2b1e6f0c9a7d4e35"},
    "update_user": {"role": "admin", "max_upload_bytes": 5_000_000_000},
    "create_presigned_post": {"filename": "film.mp4", "on_complete": {"preset": "stream"}},
    "edit_asset": {"title": "A film", "visibility": "public"},
    "retry_job": {"only_failed": True},
}

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Telecine API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# The validator badge and the top bar's box would ask other hosts.
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""

_TYPES = {"js": "text/javascript", "css": "text/css"}
_VENDORED = ("swagger-ui-bundle.js", "swagger-ui.css")


@cache
def page_file(name: str) -> tuple[bytes, str, str] | None:
    """A file of the page: its bytes, content type and ETag. None: there is no such file."""
    if name == "start.js":
        data = START.encode()
    elif name in _VENDORED:
        data = (files("telecine.service.api") / "static" / "swagger-ui" / name).read_bytes()
    else:
        return None
    kind = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    return data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def install(app: FastAPI) -> None:
    """Let `app.openapi()` make our document, once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = make_document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def document_bytes(app: FastAPI) -> bytes:
    """The document as JSON, made once."""
    if not hasattr(app.state, "document"):
        text = json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":"))
        app.state.document = text.encode()
    found: bytes = app.state.document
    return found


def make_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes, with the errors that each may answer."""
    document = get_openapi(
        title="Telecine",
        version=version("telecine"),
        description=DESCRIPTION,
        routes=app.routes,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token of a session, or an API key.",
        }
    }
    asking = {operation_id for operation_id, route in _routes(app) if _asks_who(route)}
    for operation in _operations(document):
        _complete(operation, asks_who=operation.get("operationId") in asking)
    return document


def _complete(operation: dict[str, Any], *, asks_who: bool) -> None:
    """Add what any route may answer, where the route does not say it itself."""
    answers: dict[str, Any] = operation["responses"]
    if operation.get("operationId") in BODIES:
        body = operation["requestBody"]["content"]["application/json"]
        body["examples"] = {"usual": {"value": BODIES[operation["operationId"]]}}
    takes = "requestBody" in operation or bool(operation.get("parameters"))
    if answers.get("422", {}).get("description") == "Validation Error":  # FastAPI's own
        del answers["422"]
    general = [500, 503]
    if takes:
        general += [400, 422]
    if "requestBody" in operation:
        general += [413]
    if asks_who:
        general += [401, 403]
        operation["security"] = [{"bearer": []}]
    found = responses(*general)
    if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", ())):
        codes = {"idempotency_in_flight": 409, "idempotency_answer_lost": 409}
        found |= responses(*general, **codes, idempotency_mismatch=422)
    for status, answer in found.items():
        _merge(answers.setdefault(str(status), answer), answer)
    operation["responses"] = dict(sorted(answers.items()))


def _merge(answer: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the examples of `more` to those of a problem document."""
    mine = answer.get("content", {}).get(PROBLEM_JSON)
    if mine is not None and answer is not more:
        mine["examples"] = {**more["content"][PROBLEM_JSON]["examples"], **mine["examples"]}


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _routes(app: FastAPI) -> Iterator[tuple[str, Dependant]]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.route, APIRoute) and context.operation_id:
            yield context.operation_id, context.dependant


def _asks_who(dependant: Dependant) -> bool:
    return any(one.call is deps.principal for one in _all(dependant))


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _all(one)
