"""Errors as RFC 9457 problem details. The one place where an error gets its HTTP status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from telecine.engine.errors import InputRefused, MediaError, UsageError
from telecine.service import logs
from telecine.service.domain import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Rate,
    ServiceError,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)

PROBLEM_JSON = "application/problem+json"

log = logs.get_logger("api")

STATUS: dict[type[Exception], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InputRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    MediaError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

# Where a protocol has a status of its own for one code: tus 1.0, and bodies that stream in.
STATUS_OF_CODE = {
    "tus_header_invalid": 400,
    "body_timeout": 408,
    "upload_gone": 410,
    "length_required": 411,
    "tus_version": 412,
    "tus_content_type": 415,
    "images_busy": 429,
    # The picture's own doing, and asking again will not help: the second worker that died of it was
    # a new one.
    "image_limit": 422,
    "image_worker_died": 422,
    # This server's FFmpeg is a build without it: something else may be asked for.
    "ffmpeg_lacks": 422,
    "upload_locked": 423,
    "checksum_mismatch": 460,
}


def status_of(error: Exception) -> int:
    """The status of an error: its code's own, else that of the nearest of its classes."""
    own = STATUS_OF_CODE.get(getattr(error, "code", ""))
    if own is not None:
        return own
    found = (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return int(next(found, HTTPStatus.INTERNAL_SERVER_ERROR))


def phrase(status: int) -> str:
    """The status in words: 460 is tus's own, which HTTP's list lacks."""
    return "Checksum Mismatch" if status == 460 else HTTPStatus(status).phrase


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """A problem document: `type` is stable and ends in the code."""
    body = {
        "type": f"urn:telecine:problem:{code}",
        "title": phrase(status),
        "status": int(status),
        "code": code,
        "detail": detail,
        "request_id": getattr(request.state, "request_id", None),
        **extra,
    }
    return JSONResponse(body, status_code=status, headers=headers, media_type=PROBLEM_JSON)


def responses(*statuses: int, **codes: int) -> dict[int | str, dict[str, Any]]:
    """What a route says in OpenAPI about its errors: `responses(404, asset_busy=409)` are a 404 and
    a 409 whose example has the code `asset_busy`. What every route may answer (401, 422, 500 …) is
    added by `documents`."""
    examples: dict[int, dict[str, Any]] = {status: {} for status in (*statuses, *codes.values())}
    for status in statuses:
        code = GENERAL_CODES.get(status, f"http_{status}")
        examples[status][code] = {"value": _example(status, code)}
    for code, status in codes.items():
        examples[status][code] = {"value": _example(status, code)}
    return {
        status: {
            "description": phrase(status),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": found,
                }
            },
        }
        for status, found in sorted(examples.items())
    }


GENERAL_CODES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "login_needed",
    HTTPStatus.FORBIDDEN: "scope_missing",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid_request",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}


def _example(status: int, code: str) -> dict[str, Any]:
    return {
        "type": f"urn:telecine:problem:{code}",
        "title": phrase(status),
        "status": status,
        "code": code,
        "detail": "One line that says what went wrong.",
        "request_id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    }


def install(app: FastAPI) -> None:
    """Answer every error that a route raises by a problem document."""

    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> JSONResponse:
        headers = {}
        if isinstance(error, TooMany):
            headers["Retry-After"] = str(error.retry_after_s)
            headers |= _rate_headers(error.rate)
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        _log_ours(error)
        return problem(
            request, status_of(error), error.code, error.message, headers=headers, **error.extra
        )

    @app.exception_handler(MediaError)
    async def media_error(request: Request, error: MediaError) -> JSONResponse:
        _log_ours(error)
        return problem(request, status_of(error), error.code, error.message)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Not the input itself: it may hold a password.
        wrong = [
            {"where": ".".join(map(str, item["loc"])), "what": item["msg"]}
            for item in error.errors()
        ]
        detail = "; ".join(f"{item['where']}: {item['what']}" for item in wrong[:5])
        return problem(request, 422, "invalid_request", detail, errors=wrong)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
        headers = dict(error.headers or {})
        return problem(request, error.status_code, code, str(error.detail), headers=headers)


def _rate_headers(rate: Rate | None) -> dict[str, str]:
    """A quota that was used up, as draft-ietf-httpapi-ratelimit-headers-10 says it."""
    if rate is None:
        return {}
    return {
        "RateLimit-Policy": f'"{rate.name}";q={rate.quota};w={rate.window_s}',
        "RateLimit": f'"{rate.name}";r=0;t={rate.reset_s}',
    }


def _log_ours(error: ServiceError | MediaError) -> None:
    """What a fault of ours was: the answer names its code alone, and nobody else would know."""
    if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        tail = list(error.log_tail) if isinstance(error, MediaError) else []
        cause = None if error.__cause__ is None else repr(error.__cause__)
        log.error("request failed", code=error.code, message=error.message, cause=cause, tail=tail)


# Of errors that the framework itself finds.
_HTTP_CODES = {
    400: "bad_request",
    404: "no_such_route",
    405: "method_not_allowed",
    413: "body_too_large",
}


def internal(request: Request) -> JSONResponse:
    """The answer to an error that nobody expected: what it was stands in the log alone."""
    detail = "something went wrong here; the log says more under this request's id"
    return problem(request, 500, "internal", detail)
