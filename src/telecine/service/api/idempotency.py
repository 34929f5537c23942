"""`Idempotency-Key`: the same creating request, sent again, gets the first answer again.

A route takes part by asking for who asks through `once` (`JobsWriteOnce` …; where nobody is logged
in, by `dependencies=[IdempotentByAddress]`): nobody gets an earlier answer who may not ask for it
now. Its key belongs to the user, its first answer is kept for 24 hours, encrypted, because it may
hold a new secret. The same key with another method, path or body is refused; while the first
request runs a second one is refused. Nothing is kept of a request that was not carried out
(invalid, not allowed, too much), nor of a failure of ours.

Carrying out and noting it are one transaction: a crash between them loses the answer at most, and
never does a thing twice.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Depends, FastAPI, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telecine.service import logs
from telecine.service.api.deps import ServicesDep, admin, allowed, by_session
from telecine.service.db import idempotency as rows
from telecine.service.db.connection import Tx, joining
from telecine.service.domain import Conflict, Invalid, Principal, Unavailable
from telecine.service.services import Services

MAX_KEY = 255
MAX_KEPT_BYTES = 1 << 20
KEPT_HEADERS = ("content-type", "location")

# Of these the request was not carried out, and the next one may go better.
_NOT_CARRIED_OUT = frozenset({400, 401, 403, 408, 411, 412, 413, 415, 422, 423, 425, 429})

_NONCE_BYTES = 12

log = logs.get_logger("api")

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        description="Any text of yours, a UUID for example: the same request with the same key is "
        "carried out once, and gets the first answer again for 24 hours.",
    ),
]


class Replayed(Exception):  # not an error: the way out of a dependency with an answer
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


@dataclass(frozen=True, slots=True)
class _Pending:
    """A claimed key, until its answer is there."""

    services: Services
    claim: rows.Claim


def once(check: Callable[..., Principal]) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the asker, as `check` lets them in, with the request's key claimed for them."""

    async def claimed(
        request: Request,
        doors: ServicesDep,
        who: Principal = Depends(check),  # noqa: B008 # an annotation cannot name `check`
        key: KeyHeader = None,
    ) -> Principal:
        if key is not None:
            await _claim(request, doors, who.user_id, key)
        return who

    return claimed


async def _by_address(request: Request, doors: ServicesDep, key: KeyHeader = None) -> None:
    if key is not None:
        address = request.client.host if request.client else ""
        digest = hashlib.sha256(address.encode()).hexdigest()
        await _claim(request, doors, f"ip{digest[:24]}", key)


SessionOnce = Annotated[Principal, Depends(once(by_session))]
AdminOnce = Annotated[Principal, Depends(once(admin))]
JobsWriteOnce = Annotated[Principal, Depends(once(allowed("jobs:write")))]
UploadsWriteOnce = Annotated[Principal, Depends(once(allowed("uploads:write")))]
IdempotentByAddress = Depends(_by_address)


async def _claim(request: Request, doors: Services, owner: str, key: str) -> None:
    body = await request.body()
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body
    # Keyed, because the body may hold a password, which a plain digest would let guess.
    digest = hmac.digest(doors.signer.key("idempotency"), asked, hashlib.sha256).hex()

    def claim() -> rows.Claim | rows.Earlier:
        with doors.database.write() as tx:
            return rows.claim(tx, owner, key, digest)

    found = await run_in_threadpool(claim)
    if isinstance(found, rows.Claim):
        request.state.idempotency = _Pending(doors, found)
        joining.set(lambda tx: _commit(tx, found))
        return
    if not hmac.compare_digest(found.request_hash, digest):
        raise Invalid(
            "this Idempotency-Key was used for another request", code="idempotency_mismatch"
        )
    answered = found.status not in (None, rows.COMMITTED)
    if not answered and found.age_s <= rows.LOST_AFTER_S:
        raise Conflict(
            "the first request with this Idempotency-Key is not done yet",
            code="idempotency_in_flight",
        )
    if found.status is None or not answered:
        raise Conflict(
            "the first request with this Idempotency-Key was carried out, but its answer is lost: "
            "look for what it made",
            code="idempotency_answer_lost",
        )
    raise Replayed(found.status, found.headers, _open(doors, found.body))


def _commit(tx: Tx, claim: rows.Claim) -> None:
    if not rows.commit(tx, claim):
        raise Conflict(
            "another request with this Idempotency-Key overtook this one",
            code="idempotency_in_flight",
        )


def _seal(doors: Services, body: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(doors.signer.key("idempotency-answer")).encrypt(nonce, body, None)


def _open(doors: Services, sealed: bytes) -> bytes:
    cipher = AESGCM(doors.signer.key("idempotency-answer"))
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)


def install(app: FastAPI) -> None:
    """Answer what was answered before."""

    @app.exception_handler(Replayed)
    async def replayed(_request: Request, found: Replayed) -> Response:
        headers = {**found.headers, "Idempotency-Replayed": "true"}
        return Response(found.body, found.status, headers)


class Recorder:
    """Keeps the answer of a request that claimed a key before anyone sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "idempotency-key" not in Headers(scope=scope):
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        held: list[Message] = []

        async def send_kept(message: Message) -> None:
            pending: _Pending | None = state.get("idempotency")
            if pending is None:
                await send(message)
                return
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await run_in_threadpool(_keep_if_possible, pending, held)
                for one in held:
                    await send(one)

        try:
            await self.app(scope, receive, send_kept)
        except Exception:
            pending: _Pending | None = state.get("idempotency")
            if pending is not None:
                await run_in_threadpool(_forget, pending)
            raise


def _keep_if_possible(pending: _Pending, answer: list[Message]) -> None:
    """What was asked for is done: who asked is told so, though a repetition cannot be."""
    try:
        _keep(pending, answer)
    except Unavailable as error:
        log.warning("the answer to an idempotent request is not kept", error=error.message)


def _keep(pending: _Pending, answer: list[Message]) -> None:
    status = answer[0]["status"]
    if status >= 500 or status in _NOT_CARRIED_OUT:
        _forget(pending)
        return
    headers = {
        name: value for name, value in Headers(raw=answer[0]["headers"]).items()
        if name in KEPT_HEADERS
    }  # fmt: skip
    body = b"".join(message.get("body", b"") for message in answer[1:])
    sealed = _seal(pending.services, body)
    joining.set(None)  # in this thread alone: the answer is no part of what was asked for
    with pending.services.database.write() as tx:
        rows.keep(tx, pending.claim, status, headers, sealed)


def _forget(pending: _Pending) -> None:
    joining.set(None)
    with pending.services.database.write() as tx:
        rows.forget(tx, pending.claim)
