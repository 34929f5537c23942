"""What surrounds every answer: the request's id, security headers, CORS, the limit of bodies."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Message

from telecine.engine.tools import Tools
from telecine.service import logs
from telecine.service.api.app import make_app
from telecine.service.api.middleware import Requests
from telecine.service.assembly import open_services
from telecine.service.settings import Settings

APP = "https://app.example"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", signup="open", cors_origins=(APP,))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    @app.post("/v1/echo")
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    @app.post("/v1/uploads/form-of-test/parts/1")
    async def part(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    @app.get("/media/of-test")
    def media() -> JSONResponse:
        return JSONResponse({}, headers={"Cache-Control": "public, immutable"})

    with TestClient(app) as found:
        yield found


# --- the request's id ---------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_own(client: TestClient) -> None:
    first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert len(first) == 26


def test_a_sane_id_of_the_client_is_kept(client: TestClient) -> None:
    said = client.get("/healthz", headers={"X-Request-Id": "edge-7f3a.0001"})
    assert said.headers["x-request-id"] == "edge-7f3a.0001"


@pytest.mark.parametrize(
    "wrong", ["short", "x" * 65, "with space in it", "new\tline-in-it", "é" * 9]
)
def test_another_id_is_not(client: TestClient, wrong: str) -> None:
    said = client.get("/healthz", headers={b"X-Request-Id": wrong.encode()})
    assert said.headers["x-request-id"] != wrong
    assert len(said.headers["x-request-id"]) == 26


def test_a_request_is_one_line_of_the_log(client: TestClient) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    said = client.get("/v1/jobs/01KAJ9XK6B2T3W4Y5Z6A7B8C9D?token=hunter2")
    lines = [json.loads(text) for text in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "telecine.api"]
    assert line["request_id"] == said.headers["x-request-id"]
    assert (line["method"], line["status"]) == ("GET", said.status_code)
    assert line["path"].startswith("/v1/jobs/01KAJ9XK6B2T3W4Y5Z6A7B8C9D?")
    assert "hunter2" not in stream.getvalue()
    assert line["wall_ms"] >= 0
    assert line["time"].endswith("Z")


# --- security headers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/healthz", "/v1/nothing", "/v1/users/me", "/docs", "/docs/start.js", "/openapi.json"]
)
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "server" not in headers


def test_no_answer_about_accounts_is_stored(client: TestClient) -> None:
    for path in ("/v1/users/me", "/v1/sessions/current", "/v1/nothing"):
        assert client.get(path).headers["cache-control"] == "no-store"


def test_a_route_may_say_how_its_answer_is_kept(client: TestClient) -> None:
    assert client.get("/media/of-test").headers["cache-control"] == "public, immutable"


@pytest.mark.parametrize(
    ("public_url", "said"),
    [
        ("", None),
        ("http://media.example", None),
        ("https://media.example", "max-age=31536000; includeSubDomains"),
    ],
)
def test_hsts_where_clients_come_by_tls(
    tmp_path: Path, tools: Tools, public_url: str, said: str | None
) -> None:
    services = open_services(Settings(data=tmp_path / "d", public_url=public_url), tools)
    answer = TestClient(make_app(services)).get("/healthz")
    assert answer.headers.get("strict-transport-security") == said
    services.database.close()


# --- CORS ---------------------------------------------------------------------------------------

STRANGERS = [
    "https://evil.example", "http://app.example", "https://app.example.evil.example",
    "https://app.example:8443", "https://xapp.example", "null", "https://APP.example", "file://",
    "http://127.0.0.1:8000", "https://app.example/",
]  # fmt: skip


def test_a_listed_origin_may_read_with_cookies(client: TestClient) -> None:
    headers = client.get("/healthz", headers={"Origin": APP}).headers
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-allow-credentials"] == "true"
    assert "Origin" in headers["vary"]
    exposed = {name.strip() for name in headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"ETag", "Location", "Upload-Offset", "Upload-Length", "Tus-Resumable"}
    assert exposed >= {"Retry-After", "RateLimit", "RateLimit-Policy"}


@pytest.mark.parametrize("origin", STRANGERS)
def test_no_other_origin_may(client: TestClient, origin: str) -> None:
    headers = client.get("/healthz", headers={"Origin": origin}).headers
    assert not [name for name in headers if name.startswith("access-control-allow")]
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    headers = client.options("/v1/jobs", headers=asked).headers
    assert not [name for name in headers if name.startswith("access-control-allow")]


def test_anyones_player_may_read_media_without_cookies(client: TestClient) -> None:
    headers = client.get("/media/of-test", headers={"Origin": "https://blog.example"}).headers
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


def test_a_listed_origin_may_ask_before(client: TestClient) -> None:
    answer = client.options(
        "/v1/tus",
        headers={
            "Origin": APP,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, upload-offset, tus-resumable",
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == APP
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "upload-offset" in answer.headers["access-control-allow-headers"]


# --- bodies -------------------------------------------------------------------------------------

MIB = 1 << 20


def _chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield bytes(1024)
    yield bytes(size % 1024)


@pytest.mark.parametrize("how", ["told", "chunked"])
def test_a_body_has_at_most_a_mebibyte(client: TestClient, how: str) -> None:
    def send(size: int) -> tuple[int, str]:
        body = bytes(size) if how == "told" else _chunked(size)
        answer = client.post("/v1/echo", content=body)
        return answer.status_code, answer.json().get("code", "")

    assert send(MIB) == (200, "")
    assert send(MIB + 1) == (413, "body_too_large")


def test_a_body_that_says_it_is_too_long_is_not_read(app: FastAPI, client: TestClient) -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    answer = client.post("/v1/echo", content=pieces(), headers={"Content-Length": str(MIB + 1)})
    assert answer.status_code == 413


def test_files_have_limits_of_their_own(client: TestClient) -> None:
    answer = client.post("/v1/uploads/form-of-test/parts/1", content=bytes(3 * MIB))
    assert answer.json() == {"bytes": 3 * MIB}


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_is_not_held_back_and_ends_well_when_told() -> None:
    """As `Server.shutdown` does with the streams of events that are open."""
    streams: set[asyncio.Task[object]] = set()
    sent: list[Message] = []
    first = asyncio.Event()

    async def events(scope: object, receive: object, send: object) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await asyncio.sleep(3600)

        answer = StreamingResponse(pieces(), media_type="text/event-stream")
        await answer(scope, receive, send)  # type: ignore[arg-type]

    async def receive() -> Message:
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body"):
            first.set()

    async def run() -> None:
        scope = {
            "type": "http", "method": "GET", "path": "/v1/x", "headers": [], "query_string": b"",
            "asgi": {"spec_version": "2.3"},
        }  # fmt: skip
        app = Requests(events, secure=False, streams=streams)
        task = asyncio.create_task(app(scope, receive, send))
        await asyncio.wait_for(first.wait(), 10)
        assert sent[-1]["body"] == b"data: 1\n\n"  # while the stream goes on
        (stream,) = streams
        stream.cancel()
        await asyncio.wait_for(task, 10)

    asyncio.run(run())
    assert sent[-1] == {"type": "http.response.body", "body": b""}
    assert not streams
