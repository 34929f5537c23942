"""Every error is a problem document, and tells nobody what it should not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from telecine.engine.errors import InputRefused, StepFailed
from telecine.service import domain, logs
from telecine.service.api import errors


class Body(BaseModel):
    size: int


@pytest.fixture
def failing(app: FastAPI) -> Iterator[TestClient]:
    """A client, and routes that fail in every way there is."""
    raised = {
        "invalid": domain.Invalid("no such preset", code="preset_unknown", preset="x"),
        "unauthenticated": domain.Unauthenticated("log in", code="login_needed"),
        "forbidden": domain.Forbidden("no", code="admin_needed"),
        "not_found": domain.NotFound("no such job", code="job_not_found"),
        "conflict": domain.Conflict("busy", code="asset_busy"),
        "too_large": domain.TooLarge("too large", code="upload_too_large", limit=5),
        "too_many": domain.TooMany("slowly", code="too_many_logins", retry_after_s=17),
        "unavailable": domain.Unavailable("no disk", code="storage_unavailable"),
        "refused": InputRefused("not media", code="not_media"),
        "failed": StepFailed("FFmpeg", code="encode_failed", log_tail=["/srv/secret/path"]),
        "bug": RuntimeError("the password is hunter2"),
        "unmapped": domain.ServiceError("3 of 4 bytes", code="incoming_too_short"),
    }
    raised["unavailable"].__cause__ = OSError(28, "No space left on device")

    @app.get("/v1/fail/{how}")
    def fail(how: str) -> None:
        raise raised[how]

    @app.post("/v1/body")
    def take(body: Body) -> int:
        return body.size

    @app.get("/v1/late")
    def late() -> object:
        from starlette.responses import StreamingResponse

        def pieces() -> Iterator[bytes]:
            yield b"first"
            raise RuntimeError("too late")

        return StreamingResponse(pieces())

    with TestClient(app, raise_server_exceptions=True) as found:
        yield found


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("invalid", 422, "preset_unknown"),
        ("unauthenticated", 401, "login_needed"),
        ("forbidden", 403, "admin_needed"),
        ("not_found", 404, "job_not_found"),
        ("conflict", 409, "asset_busy"),
        ("too_large", 413, "upload_too_large"),
        ("too_many", 429, "too_many_logins"),
        ("unavailable", 503, "storage_unavailable"),
        ("refused", 422, "not_media"),
        ("failed", 500, "encode_failed"),
        ("bug", 500, "internal"),
    ],
)
def test_an_error_is_a_problem_document(
    failing: TestClient, how: str, status: int, code: str
) -> None:
    answer = failing.get(f"/v1/fail/{how}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:telecine:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_an_error_shows_what_belongs_to_it(failing: TestClient) -> None:
    assert failing.get("/v1/fail/invalid").json()["preset"] == "x"
    assert failing.get("/v1/fail/too_many").headers["retry-after"] == "17"
    assert failing.get("/v1/fail/unauthenticated").headers["www-authenticate"] == "Bearer"


def test_an_error_tells_no_path_and_no_trace(failing: TestClient) -> None:
    for how in ("failed", "bug"):
        text = failing.get(f"/v1/fail/{how}").text
        assert "hunter2" not in text
        assert "/srv" not in text
        assert "Traceback" not in text


def test_an_unexpected_error_is_in_the_log_under_its_request(failing: TestClient) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    asked = failing.get("/v1/fail/bug").headers["x-request-id"]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (trace,) = [line for line in lines if "exception" in line]
    assert trace["request_id"] == asked
    assert "RuntimeError" in trace["exception"]
    assert "raise raised[how]" in trace["exception"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("failed", {"code": "encode_failed", "message": "FFmpeg", "tail": ["/srv/secret/path"]}),
        ("unavailable", {"code": "storage_unavailable", "message": "no disk", "cause": "OSError"}),
        ("unmapped", {"code": "incoming_too_short", "message": "3 of 4 bytes"}),
        ("invalid", None),
        ("refused", None),
    ],
)
def test_the_cause_of_a_fault_of_ours_is_in_the_log(
    failing: TestClient, how: str, said: dict[str, Any] | None
) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    asked = failing.get(f"/v1/fail/{how}").headers["x-request-id"]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    failed = [line for line in lines if line["event"] == "request failed"]
    assert len(failed) == (said is not None)
    for line in failed:
        assert (line["level"], line["request_id"]) == ("error", asked)
        assert said is not None
        for key, value in said.items():
            assert value in line[key] if key == "cause" else line[key] == value


def test_what_fails_within_a_stream_is_cut_off(failing: TestClient) -> None:
    """No status can be changed any more: the client sees that the answer is not whole."""
    with pytest.raises(RuntimeError, match="too late"):
        failing.get("/v1/late")


def test_a_body_that_does_not_fit_says_where(failing: TestClient) -> None:
    answer = failing.post("/v1/body", json={"size": "hunter2"})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid_request"
    assert problem["errors"][0]["where"] == "body.size"
    assert "hunter2" not in answer.text  # it may be a password
    broken = failing.post("/v1/body", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (422, "invalid_request")


def test_a_route_that_is_not_there(failing: TestClient) -> None:
    answer = failing.get("/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
    assert failing.get("/healthz/").json()["code"] == "no_such_route"  # no redirect
    answer = failing.delete("/healthz")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_the_examples_of_errors_are_problem_documents() -> None:
    said = errors.responses(404, asset_busy=409, asset_gone=409)
    assert sorted(said, key=str) == [404, 409]
    content = said[409]["content"]["application/problem+json"]
    assert sorted(content["examples"]) == ["asset_busy", "asset_gone"]
    assert content["examples"]["asset_busy"]["value"]["status"] == 409
    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
