"""What surrounds every request: its id, its line in the log, headers, who may read it, its size.

Plain ASGI: a layer that takes a whole answer into its hands would hold back streams. From the
outside in: `Requests` → `Cors` → `BodyLimit` → `idempotency.Recorder` → the routes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telecine.service import logs
from telecine.service.api import errors
from telecine.service.domain import new_id

log = logs.get_logger("api")

MAX_JSON_BYTES = 1 << 20

# The routes whose bodies are files; they have limits of their own.
UPLOAD_DOORS = re.compile(r"/v1/(tus(/[^/]*)?|uploads/(post|form|[^/]+/parts/[^/]+))/?")

# What any page may show or play: no cookie is looked at there, and a path is the permission.
PLAYER_PATHS = re.compile(r"/(media|p|d|i)/")

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_HSTS_S = 365 * 24 * 3600
_CLIENT_WENT = 499  # nginx's number: nobody was there to be answered

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Requests:
    """The outermost layer: names the request, logs it, sets headers, answers what went wrong.

    `streams` holds the tasks that send events just now: one that is cancelled ends its answer well.
    """

    def __init__(self, app: ASGIApp, *, secure: bool, streams: set[asyncio.Task[object]]) -> None:
        self.app = app
        self.secure = secure
        self.streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _SANE_ID.fullmatch(asked) else new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        with logs.about(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.monotonic()
        status, sent = 0, 0
        task = asyncio.current_task()
        assert task is not None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                _set_headers(headers, scope["path"], request_id, self.secure)
                if status >= 400:  # what is not there yet may be there soon
                    headers.setdefault("Cache-Control", "no-store")
                if headers.get("content-type", "").startswith("text/event-stream"):
                    self.streams.add(task)
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if task not in self.streams:
                raise
            task.uncancel()
            await send({"type": "http.response.body", "body": b""})
        except ClientDisconnect:
            status = status or _CLIENT_WENT
        except Exception:
            log.exception("request failed")
            if status:
                raise  # too late for an answer: the server cuts the connection
            answer = errors.internal(Request(scope))
            await answer(scope, receive, send_with_headers)
        finally:
            self.streams.discard(task)
            _log_request(scope, status or _CLIENT_WENT, sent, time.monotonic() - began)


def _set_headers(headers: MutableHeaders, path: str, request_id: str, secure: bool) -> None:
    """Those that a route has set itself stay."""
    headers["X-Request-Id"] = request_id
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", API_POLICY)
    if path.startswith("/v1/"):
        headers.setdefault("Cache-Control", "no-store")
    if secure:
        headers["Strict-Transport-Security"] = f"max-age={_HSTS_S}; includeSubDomains"


def _log_request(scope: Scope, status: int, sent_bytes: int, wall_s: float) -> None:
    client = scope.get("client")
    found = scope.get("path_params", {})
    # A job's or an asset's id in a path is what the line is about.
    ids = {key: str(found[key]) for key in ("asset_id", "job_id", "upload_id") if key in found}
    query = scope.get("query_string", b"").decode("latin-1")
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"] + (f"?{query}" if query else ""),
        status=status,
        sent_bytes=sent_bytes,
        wall_ms=round(wall_s * 1000, 1),
        client=client[0] if client else None,
        **ids,
    )


class Cors:
    """Which web pages may read answers: those of listed origins, with cookies; the players' paths
    any page, without. No other origin is ever repeated."""

    METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    EXPOSED = (
        "ETag, Location, Content-Disposition, Content-Range, Accept-Ranges, Retry-After, "
        "RateLimit, RateLimit-Policy, X-Request-Id, Idempotency-Replayed, Upload-Offset, "
        "Upload-Length, Upload-Metadata, Upload-Expires, Upload-Defer-Length, Tus-Resumable, "
        "Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm"
    )
    MAX_AGE_S = 600
    _SANE_HEADERS = re.compile(r"[A-Za-z0-9, _-]{0,1000}")

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        if origin is None:
            await self.app(scope, receive, send)
            return
        allowed = self._allowed(origin, scope["path"])
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(send, allowed, headers)
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for key, value in allowed.items():
                    answer.setdefault(key, value)
                if allowed:
                    answer.setdefault("Access-Control-Expose-Headers", self.EXPOSED)
                answer.add_vary_header("Origin")
            await send(message)

        await self.app(scope, receive, send_allowed)

    def _allowed(self, origin: str, path: str) -> dict[str, str]:
        if origin in self.origins:
            return {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
            }
        if PLAYER_PATHS.match(path):
            return {"Access-Control-Allow-Origin": "*"}
        return {}

    async def _preflight(self, send: Send, allowed: dict[str, str], asked: Headers) -> None:
        wanted = asked.get("access-control-request-headers", "")
        answer = MutableHeaders({**allowed, "Vary": "Origin", "Content-Length": "0"})
        if allowed:
            answer["Access-Control-Allow-Methods"] = self.METHODS
            answer["Access-Control-Max-Age"] = str(self.MAX_AGE_S)
            if wanted and self._SANE_HEADERS.fullmatch(wanted):
                answer["Access-Control-Allow-Headers"] = wanted
        await send({"type": "http.response.start", "status": 204, "headers": answer.raw})
        await send({"type": "http.response.body", "body": b""})


class BodyLimit:
    """No body but a file's is longer than `MAX_JSON_BYTES`, whatever its headers say: who reads
    further gets a 413."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UPLOAD_DOORS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "0")
        received = int(told) if told.isdigit() and int(told) > MAX_JSON_BYTES else 0

        async def receive_limited() -> Message:
            nonlocal received
            if received > MAX_JSON_BYTES:
                raise HTTPException(413, f"a body has at most {MAX_JSON_BYTES} bytes")
            message = await receive()
            received += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if received > MAX_JSON_BYTES:
                raise HTTPException(413, f"a body has at most {MAX_JSON_BYTES} bytes")
            return message

        await self.app(scope, receive_limited, send)
