"""Bodies that are files: read as they come, handed on in pieces to a thread, never held.

An `async def` route awaits `pump`; everything that blocks (parsing a form, writing, hashing) runs
in the thread that each piece is handed to. A route of this kind answers every error at once and
closes the connection: what the client still sends is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from telecine.engine.errors import MediaError
from telecine.service.domain import Invalid, ServiceError, TooLarge

PIECE_BYTES = 1 << 18
# What a form's fields and boundaries may take beside its file. With a piece, and the 320 kB that
# the server may hand over at once, less than 1 MB is read beyond a limit.
FORM_BYTES = 300_000
# A client that says nothing for so long has gone, whether or not its network told us.
SILENCE_S = 60.0

# Threads that write: a slow disk must not take the ones that all other routes run in.
WRITERS = 8
_writers: RunVar[anyio.CapacityLimiter] = RunVar("telecine_writers")

T = TypeVar("T")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def blocking(work: Callable[[], T]) -> T:
    """Run something that writes in a thread; once begun it is not broken off."""
    try:
        limiter = _writers.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(WRITERS)
        _writers.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def told_length(request: Request) -> int | None:
    """What `Content-Length` says; None where it says nothing, as in a chunked body."""
    told = request.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 20 else None


def refuse_long(request: Request, limit_bytes: int) -> None:
    """Refuse a body that says itself that it is too long, before its first byte. Raises
    `TooLarge`."""
    if (told_length(request) or 0) > limit_bytes:
        raise _too_large(limit_bytes)


class Reading:
    """One body being read: how long nothing has come, and a way to end it from outside. Belongs to
    the event loop's thread."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self._heard_at = anyio.current_time()
        self._waiting: anyio.CancelScope | None = None

    @property
    def silent_s(self) -> float:
        return anyio.current_time() - self._heard_at if self._waiting is not None else 0.0

    def stop(self) -> None:
        """End it as if the client had gone."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def next(self, request: Request) -> Any:
        """The next ASGI message; None: silent for too long, or stopped."""
        with anyio.move_on_after(SILENCE_S) as self._waiting:
            message = await request.receive()
            self._heard_at = anyio.current_time()
            self._waiting = None
            return message
        return None


async def pump(
    request: Request,
    feed: Callable[[bytes], object],
    *,
    limit_bytes: int,
    reading: Reading | None = None,
) -> None:
    """Hand the body to `feed`, piece by piece, each in a thread and in order.

    Raises `TooLarge` (`upload_too_large`) once more than `limit_bytes` came, whatever the headers
    said; `ClientDisconnect`; `Invalid` (`body_timeout`); and what `feed` raises. Unless `feed`
    raised, it has had every byte that came.
    """
    refuse_long(request, limit_bytes)
    held: list[bytes] = []
    held_bytes = total = 0
    more = True
    reading = reading or Reading()
    while more:
        message = await reading.next(request)
        if message is None or message["type"] == "http.disconnect":
            await _flush(held, feed)
            if message is None:
                raise Invalid(f"no byte came for {SILENCE_S:.0f} s", code="body_timeout")
            raise ClientDisconnect
        data = message.get("body", b"")
        more = message.get("more_body", False)
        total += len(data)
        if total > limit_bytes:
            await _flush(held, feed)
            raise _too_large(limit_bytes)
        if data:
            held.append(data)
            held_bytes += len(data)
        if held_bytes >= PIECE_BYTES:
            await _flush(held, feed)
            held_bytes = 0
    await _flush(held, feed)


async def _flush(held: list[bytes], feed: Callable[[bytes], object]) -> None:
    if held:
        piece = b"".join(held)
        held.clear()
        await blocking(lambda: feed(piece))


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"a body of more than {limit_bytes} bytes", code="upload_too_large")


class BodyRoute(APIRoute):
    """A route whose body is a file. Errors are answered here, because the connection is closed with
    them: the rest of the body, which may be long, is not read."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (ServiceError, MediaError, RequestValidationError, HTTPException) as error:
                response = await _answer(request, error)
            response.headers["Connection"] = "close"
            return response

        return handle


async def _answer(request: Request, error: Exception) -> Response:
    """What the application answers to this error."""
    handlers = request.app.exception_handlers
    found = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    response: Response = await found(request, error)
    return response
