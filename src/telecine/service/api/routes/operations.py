"""Health, readiness, and what the API says of itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field

from telecine.service import logs
from telecine.service.api import documents
from telecine.service.api.deps import ServicesDep
from telecine.service.api.schemas import Answer
from telecine.service.db.migrate import is_current
from telecine.service.domain import NotFound
from telecine.service.services import Services

router = APIRouter(tags=["operations"])
log = logs.get_logger("api")

State = Literal["ok", "missing"]


class Health(Answer):
    """This process answers."""

    status: Literal["alive"] = "alive"
    version: str = Field(examples=["0.1.0"])


class Sandbox(Answer):
    """In what uploads are decoded."""

    status: State
    tier: str = Field(examples=["landlock"], description="bwrap, landlock, seccomp or none.")


class Readiness(Answer):
    """What this process needs, and whether it is there."""

    status: Literal["ready", "not_ready"]
    database: State
    storage: State
    sandbox: Sandbox


@router.get("/healthz", operation_id="get_health", summary="Whether the process is alive")
def get_health() -> Health:
    return Health(version=version("telecine"))


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Whether database, storage and sandbox are there",
    responses={503: {"model": Readiness, "description": "Something is missing."}},
)
def get_readiness(doors: ServicesDep, response: Response) -> Readiness:
    found = look(doors)
    response.status_code = 200 if found.status == "ready" else 503
    response.headers["Cache-Control"] = "no-store"
    return found


def look(doors: Services) -> Readiness:
    """What is there just now. What is missing is told to the log; the answer is public."""
    database = _try_database(doors)
    storage = _try_storage(doors)
    tier = doors.tools.sandbox.tier
    confined = tier != "none" or doors.settings.allow_unsandboxed
    return Readiness(
        status="ready" if database == storage == "ok" and confined else "not_ready",
        database=database,
        storage=storage,
        sandbox=Sandbox(status="ok" if confined else "missing", tier=tier),
    )


def _try_database(doors: Services) -> State:
    try:
        if is_current(doors.database):
            return "ok"
        log.error("the database is of another version of Telecine")
    except Exception:  # whatever keeps it from answering
        log.exception("the database does not answer")
    return "missing"


def _try_storage(doors: Services) -> State:
    try:
        doors.storage.check()
    except Exception:
        log.exception("the storage does not answer")
        return "missing"
    return "ok"


@router.get("/openapi.json", include_in_schema=False)
def get_openapi(request: Request) -> Response:
    return Response(documents.document_bytes(request.app), media_type="application/json")


@router.get("/", include_in_schema=False)
def get_front() -> Response:
    """Whoever opens the address that `telecine serve` prints is shown what there is."""
    return Response(status_code=307, headers={"Location": "docs"})


@router.get("/docs", include_in_schema=False)
def get_docs() -> Response:
    headers = {"Content-Security-Policy": documents.PAGE_POLICY, "Cache-Control": "no-cache"}
    return Response(documents.PAGE, media_type="text/html", headers=headers)


@router.get("/docs/{name}", include_in_schema=False)
def get_docs_file(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    found = documents.page_file(name)
    if found is None:
        raise NotFound("there is no such file", code="no_such_route")
    data, kind, etag = found
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
