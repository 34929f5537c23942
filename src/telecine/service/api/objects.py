"""Stored objects and texts as answers: whole, a part, or "you have it already" (RFC 9110)."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from telecine.service.storage.store import Storage

# What `send_object` answers, for OpenAPI.
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file, of its own type.", "content": {"*/*": {}}},
    206: {"description": "The part of it that was asked for."},
    304: {"description": "It is what `If-None-Match` names."},
    416: {"description": "It has no such part."},
}

_GZIP_LEVEL = 5
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))", re.IGNORECASE)


def send_object(
    request: Request,
    storage: Storage,
    key: str,
    *,
    content_type: str,
    headers: Mapping[str, str],
    etag: str | None = None,
) -> Response:
    """The object at `key`, to GET or HEAD, or one range of its bytes. `etag` without quotes, where
    something better is known than the store's own.

    Raises `Missing`: now, and not while the body is sent.
    """
    stored = storage.stat(key)
    wanted, sent = _decide(
        request, stored.size_bytes, etag or stored.etag, content_type=content_type, headers=headers
    )
    if wanted.start == wanted.end or request.method == "HEAD":
        return Response(status_code=wanted.status, headers=sent)
    pieces = storage.read(key, wanted.start, wanted.end)
    return StreamingResponse(pieces, status_code=wanted.status, headers=sent)


def send_bytes(
    request: Request, data: bytes, *, content_type: str, headers: Mapping[str, str], etag: str
) -> Response:
    """As `send_object`, of an object whose bytes are at hand."""
    wanted, sent = _decide(request, len(data), etag, content_type=content_type, headers=headers)
    part = b"" if request.method == "HEAD" else data[wanted.start : wanted.end]
    return Response(part, status_code=wanted.status, headers=sent)


def _decide(
    request: Request, size_bytes: int, etag: str, *, content_type: str, headers: Mapping[str, str]
) -> tuple[Wanted, dict[str, str]]:
    """Which bytes are sent, and the headers before them. `etag` without quotes."""
    quoted = f'"{etag}"'
    wanted = choose(
        size_bytes,
        quoted,
        # Of GET alone: a HEAD says what the whole would be (RFC 9110, 14.2).
        range_header=request.headers.get("range") if request.method == "GET" else None,
        if_none_match=request.headers.get("if-none-match"),
        if_range=request.headers.get("if-range"),
    )
    sent = {**headers, "ETag": quoted, "Accept-Ranges": "bytes"}
    if wanted.status == 416:
        # What a cache may keep is the object, not that somebody asked beyond its end.
        sent |= {"Content-Range": f"bytes */{size_bytes}", "Cache-Control": "no-store"}
    if wanted.status == 206:
        sent["Content-Range"] = f"bytes {wanted.start}-{wanted.end - 1}/{size_bytes}"
    if wanted.status in (200, 206):
        sent |= {"Content-Length": str(wanted.end - wanted.start), "Content-Type": content_type}
    return wanted, sent


def send_text(
    request: Request, data: bytes, *, content_type: str, headers: Mapping[str, str]
) -> Response:
    """A text, compressed where that is accepted. Each form has an ETag of its own."""
    zipped = accepts_gzip(request.headers.get("accept-encoding", ""))
    digest = hashlib.sha256(data).hexdigest()[:32]
    etag = f'"{digest}-gzip"' if zipped else f'"{digest}"'
    sent = {**headers, "ETag": etag, "Vary": "Accept-Encoding"}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=sent)
    if zipped:
        data = gzip.compress(data, _GZIP_LEVEL, mtime=0)
        sent["Content-Encoding"] = "gzip"
    sent |= {"Content-Length": str(len(data)), "Content-Type": content_type}
    return Response(b"" if request.method == "HEAD" else data, headers=sent)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answer's status, and the bytes [start, end) that are its body."""

    status: Literal[200, 206, 304, 416]
    start: int = 0
    end: int = 0


def choose(
    size_bytes: int,
    etag: str,
    *,
    range_header: str | None,
    if_none_match: str | None,
    if_range: str | None,
) -> Wanted:
    """Decide which bytes a request wants. `etag` is quoted and strong.

    One range is served. Several are answered by the whole, as the RFC allows: nobody who plays asks
    for them, and many tiny ones are a known attack. What is no range of bytes is passed over.
    """
    if if_none_match is not None and _names(if_none_match, etag):
        return Wanted(304)
    whole = Wanted(200, 0, size_bytes)
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return whole
    found = _RANGE.fullmatch("".join(range_header.split()))
    if found is None:
        return whole
    first, last, of_the_end = found.groups()
    if of_the_end is not None:
        start, end = max(0, size_bytes - int(of_the_end)), size_bytes
    else:
        start, end = int(first), size_bytes if last is None else min(size_bytes, int(last) + 1)
        if last is not None and int(last) < start:
            return whole
    return Wanted(206, start, end) if start < end else Wanted(416)


def _names(if_none_match: str, etag: str) -> bool:
    """Whether `If-None-Match` names this ETag; `W/` does not count here (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header allows gzip (RFC 9110, 12.5.3)."""
    weights: dict[str, bool] = {}
    for word in accept_encoding.lower().split(","):
        name, _, parameter = word.partition(";")
        weight = parameter.replace(" ", "").removeprefix("q=")
        weights[name.strip()] = weight == "" or weight.strip("0.") != ""
    return weights.get("gzip", weights.get("*", False))
