"""The Python client against what no running service can be made to show at will: connections that
break, services that are out of order, tokens that expire in the middle. The rest is shown against
a real service by test_end_to_end.py."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.in_processes import ask_together

from telecine.client import (
    ApiError,
    Client,
    ConnectionFailed,
    DigestMismatch,
    FileChanged,
    JobEvent,
    MemoryKeeper,
    Output,
    Progress,
    Tokens,
    UnexpectedAnswer,
    Upload,
)
from telecine.client.client import safe_path
from telecine.client.connection import LONGEST_PAUSE_S, TRIES, pause_s
from telecine.client.home import (
    Credentials,
    CredentialsFile,
    UnfinishedUploads,
    config_folder,
    fingerprint,
    state_folder,
)

URL = "http://telecine.test"
JOB_ID = "01KAJ00000000000000000000J"
UPLOAD_ID = "01KAJ00000000000000000000V"

JOB: dict[str, Any] = {
    "id": JOB_ID,
    "asset_id": "01KAJ00000000000000000000A",
    "state": "queued",
    "priority": 0,
    "preset": "stream",
    "outputs": [{"type": "hls"}],
    "metadata": {},
    "created_at": "2026-11-21T10:23:45.678Z",
    "of_a_newer_service": True,
}

Handler = Callable[[httpx2.Request], httpx2.Response]


@dataclass
class Fake:
    """Answers requests by a script, one answer each; the last one goes on. An answer that is an
    exception is a connection that breaks. What was asked is kept, its body read."""

    script: list[Handler | httpx2.Response | Exception]
    asked: list[httpx2.Request] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer(request)


class Wire(httpx2.BaseTransport):
    """Hands requests to `handler` with their bodies still to be read, unlike MockTransport."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handler(request)


def client_of(handler: Handler, **how: Any) -> Client:
    """A client whose requests go to `handler`, and that does not wait between tries."""
    client = Client(URL, transport=Wire(handler), **how)
    client._connection.sleep = lambda _: None
    return client


def answer(body: Any, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers=headers)


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"code": code, "detail": "so it is", "request_id": "r-1", "status": status}
    return httpx2.Response(
        status, json=body, headers={"Content-Type": "application/problem+json", **headers}
    )


# --- asking again -----------------------------------------------------------------------------

DROPPED = httpx2.RemoteProtocolError("Server disconnected without sending a response.")
REFUSED = httpx2.ConnectError("Connection refused")


@pytest.mark.parametrize(
    "trouble",
    [
        DROPPED,
        REFUSED,
        httpx2.ReadTimeout("timed out"),
        *(httpx2.Response(status) for status in (500, 502, 503, 504)),
        problem(429, "too_many_requests", **{"Retry-After": "1"}),
        problem(409, "idempotency_in_flight"),
    ],
    ids=str,
)
def test_a_creating_post_is_asked_again_with_the_same_key(
    trouble: Exception | httpx2.Response,
) -> None:
    fake = Fake([trouble, trouble, answer(JOB, 202)])
    with client_of(fake, api_key="tck_a_b") as client:
        job = client.submit(JOB["asset_id"], preset="stream")
    assert job.id == JOB_ID
    keys = [request.headers["Idempotency-Key"] for request in fake.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len({request.content for request in fake.asked}) == 1


def test_two_calls_have_two_keys() -> None:
    fake = Fake([answer(JOB, 202)])
    with client_of(fake, api_key="tck_a_b") as client:
        client.submit(JOB["asset_id"], preset="stream")
        client.submit(JOB["asset_id"], preset="stream")
    first, second = (request.headers["Idempotency-Key"] for request in fake.asked)
    assert first != second


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    fake = Fake([problem(status, "no_such_thing")])
    with client_of(fake, api_key="tck_a_b") as client, pytest.raises(ApiError) as caught:
        client.job(JOB_ID)
    assert len(fake.asked) == 1
    error = caught.value
    assert (error.status, error.code, error.message, error.request_id) == (
        *(status, "no_such_thing"),
        *("so it is", "r-1"),
    )


DELETIONS: list[tuple[Callable[[Client], None], int]] = [
    (lambda client: client.delete_asset("01KAJ00000000000000000000A"), 404),
    (lambda client: client.cancel_upload(UPLOAD_ID), 404),
    (lambda client: client.revoke_api_key("01KAJ00000000000000000000K"), 404),
    (lambda client: client.end_session("01KAJ00000000000000000000S"), 404),
]


@pytest.mark.parametrize("lost", [DROPPED, httpx2.ReadTimeout("timed out"), httpx2.Response(502)])
@pytest.mark.parametrize(("delete", "status"), DELETIONS)
def test_what_a_lost_try_removed_is_removed(
    delete: Callable[[Client], None], status: int, lost: Exception | httpx2.Response
) -> None:
    fake = Fake([lost, problem(status, "asset_unknown")])
    with client_of(fake, api_key="tck_a_b") as client:
        delete(client)
    assert [request.method for request in fake.asked] == ["DELETE", "DELETE"]


@pytest.mark.parametrize(("delete", "status"), DELETIONS)
def test_what_was_never_there_is_said(delete: Callable[[Client], None], status: int) -> None:
    busy = problem(429, "too_many_requests", **{"Retry-After": "1"})  # it was not carried out
    for script in ([problem(status, "asset_unknown")], [busy, problem(status, "asset_unknown")]):
        with client_of(Fake([*script]), api_key="tck_a_b") as client:
            with pytest.raises(ApiError) as caught:
                delete(client)
            assert caught.value.status == status


@pytest.mark.parametrize(
    "end",
    [
        lambda client: client.log_out(),
        lambda client: client.log_out_everywhere(),
        lambda client: client.delete_me("a password"),
    ],
    ids=["log_out", "log_out_everywhere", "delete_me"],
)
def test_a_session_that_a_lost_try_ended_is_forgotten(end: Callable[[Client], None]) -> None:
    alive = True
    me = {
        **{"id": "01KAJ00000000000000000000M", "email": "ada@example.org", "name": "Ada"},
        **{"role": "user", "created_at": "2026-11-21T10:23:45.678Z"},
    }

    def serve(request: httpx2.Request) -> httpx2.Response:
        nonlocal alive
        if request.url.path == "/v1/sessions/refresh" or not alive:
            return problem(401, "token_invalid")
        if request.method == "DELETE":
            alive = False
            raise DROPPED
        return answer(me)

    keeper = MemoryKeeper(Tokens("access-1", "refresh-1"))
    with client_of(serve, keeper=keeper) as client:
        end(client)
    assert keeper.current() is None


def test_an_account_is_not_taken_for_deleted_because_the_session_has_ended() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            raise DROPPED
        return problem(401, "token_invalid")

    with client_of(serve, keeper=MemoryKeeper(Tokens("access-1", "refresh-1"))) as client:
        with pytest.raises(ApiError) as caught:
            client.delete_me("a password")
        assert caught.value.status == 401


def test_a_change_of_password_is_asked_once() -> None:
    fake = Fake([DROPPED, problem(403, "password_wrong")])  # as it is, once it was changed
    keeper = MemoryKeeper(Tokens("access-1", "refresh-1"))
    with client_of(fake, keeper=keeper) as client, pytest.raises(ConnectionFailed):
        client.change_password("the old one", "the new one")
    assert len(fake.asked) == 1


def test_a_first_try_that_still_runs_is_waited_for() -> None:
    # After a kill the service finds out only after a while that the first try died.
    clock_s = 0.0

    def serve(request: httpx2.Request) -> httpx2.Response:
        if clock_s == 0:
            raise DROPPED
        return problem(409, "idempotency_in_flight") if clock_s < 60 else answer(JOB, 202)

    def sleep(seconds: float) -> None:
        nonlocal clock_s
        clock_s += seconds

    with client_of(serve, api_key="tck_a_b") as client:
        client._connection.sleep = sleep
        assert client.submit(JOB["asset_id"], preset="stream").id == JOB_ID
    assert clock_s < 60 + LONGEST_PAUSE_S + 0.25


def test_a_first_try_that_never_ends_is_given_up() -> None:
    slept_s: list[float] = []
    fake = Fake([problem(409, "idempotency_in_flight")])
    with client_of(fake, api_key="tck_a_b") as client:
        client._connection.sleep = slept_s.append
        with pytest.raises(ApiError, match="so it is"):
            client.submit(JOB["asset_id"], preset="stream")
    assert sum(slept_s) < 180


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/telecine", "http://example.org/?a=b", "http://example.org/#a"),
        *("example.org", "ftp://example.org", "http://", "http://example.org:port", "http://[::1"),
        *("http://ada:secret@example.org",),
    ],
)
def test_a_url_that_is_none_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)


@pytest.mark.parametrize("url", ["https://Example.org:8443", "http://[::1]:8000/"])
def test_a_url_of_a_service(url: str) -> None:
    with Client(url) as client:
        assert client.url == url.rstrip("/")


def test_who_is_told_to_come_back_much_later_hears_of_it() -> None:
    fake = Fake([problem(429, "too_many_requests", **{"Retry-After": "3600"})])
    with client_of(fake) as client, pytest.raises(ApiError) as caught:
        client.log_in("ada@example.org", "secret")
    assert caught.value.retry_after_s == 3600
    assert len(fake.asked) == 1


def test_it_gives_up_after_some_tries() -> None:
    fake = Fake([REFUSED])
    with client_of(fake) as client, pytest.raises(ConnectionFailed, match="Connection refused"):
        client.job(JOB_ID)
    assert len(fake.asked) == TRIES


def test_a_failure_without_a_problem_document_has_its_status() -> None:
    fake = Fake([httpx2.Response(413, text="<html>nginx</html>")])
    with client_of(fake) as client, pytest.raises(ApiError) as caught:
        client.me()
    assert (caught.value.status, caught.value.code) == (413, "http_413")


def test_pauses_double_up_to_a_bound() -> None:
    for failures, longest in ((1, 0.25), (2, 0.5), (3, 1.0), (6, 8.0), (60, LONGEST_PAUSE_S)):
        assert longest * 0.75 <= pause_s(failures) <= longest
    assert pause_s(1, asked_s=5.0) == 5.0


# --- who asks ---------------------------------------------------------------------------------


class Service:
    """Sessions with one good access token at a time. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generation = 1
        self.refreshed: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        with self.lock:
            if request.url.path == "/v1/sessions/refresh":
                token = json.loads(request.read())["refresh_token"]
                self.refreshed.append(token)
                if token != f"refresh-{self.generation}":
                    return problem(401, "refresh_reused")
                self.generation += 1
                return answer(
                    {
                        "access_token": f"access-{self.generation}",
                        "refresh_token": f"refresh-{self.generation}",
                    }
                )
            if request.headers.get("Authorization") != f"Bearer access-{self.generation}":
                return problem(401, "token_expired")
            return answer(JOB)


def test_an_expired_token_is_renewed_and_nobody_notices() -> None:
    service = Service()
    keeper = MemoryKeeper(Tokens("access-0", "refresh-1"))
    with client_of(service, keeper=keeper) as client:
        assert client.job(JOB_ID).id == JOB_ID
    assert keeper.current() == Tokens("access-2", "refresh-2")
    assert service.refreshed == ["refresh-1"]


def test_many_threads_renew_once() -> None:
    service = Service()
    with client_of(service, keeper=MemoryKeeper(Tokens("access-0", "refresh-1"))) as client:
        begin = threading.Barrier(16)
        found: list[str] = []

        def ask() -> None:
            begin.wait()
            found.append(client.job(JOB_ID).id)

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [JOB_ID] * 16
    assert service.refreshed == ["refresh-1"]


def test_a_refresh_token_that_is_refused_is_an_error_not_a_loop() -> None:
    service = Service()
    service.generation = 7
    with (
        client_of(service, keeper=MemoryKeeper(Tokens("access-0", "refresh-1"))) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.job(JOB_ID)
    assert (caught.value.status, caught.value.code) == (401, "refresh_reused")
    assert service.refreshed == ["refresh-1"]


def test_a_token_that_is_refused_even_when_new_is_an_error_not_a_loop() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/sessions/refresh":
            return answer({"access_token": "a", "refresh_token": "r"})
        return problem(401, "session_ended")

    fake = Fake([refuse])
    with (
        client_of(fake, keeper=MemoryKeeper(Tokens("access-0", "refresh-1"))) as client,
        pytest.raises(ApiError, match="so it is"),
    ):
        client.job(JOB_ID)
    assert len(fake.asked) == 3  # asked, renewed, asked


def test_a_key_is_shown_to_its_own_service_alone(tmp_path: Path) -> None:
    data = b"segment"
    fake = Fake([httpx2.Response(200, content=data)])
    output = output_of(data, url="https://store.elsewhere/film?signature=s")
    with client_of(fake, api_key="tck_a_b") as client:
        client.download(output, tmp_path / "film")
    assert "Authorization" not in fake.asked[0].headers
    assert fake.asked[0].url.host == "store.elsewhere"


# --- answers ----------------------------------------------------------------------------------


def test_answers_are_frozen_typed_and_pass_over_what_is_new() -> None:
    with client_of(Fake([answer(JOB)])) as client:
        job = client.job(JOB_ID)
    assert job.created_at == datetime(2026, 11, 21, 10, 23, 45, 678_000, tzinfo=UTC)
    assert not job.final
    with pytest.raises(FrozenInstanceError):
        job.state = "succeeded"  # type: ignore[misc]


@pytest.mark.parametrize("body", [{"id": JOB_ID}, [], None, {**JOB, "created_at": "yesterday"}])
def test_an_answer_that_is_none_says_so(body: Any) -> None:
    with client_of(Fake([answer(body)])) as client, pytest.raises(UnexpectedAnswer, match="Job"):
        client.job(JOB_ID)


def test_a_page_that_is_no_json_says_so() -> None:
    html = httpx2.Response(200, text="<html>hello</html>")
    with client_of(Fake([html])) as client, pytest.raises(UnexpectedAnswer, match="JSON"):
        client.job(JOB_ID)


def test_pages_are_asked_for_as_they_are_needed() -> None:
    pages = [
        answer({"data": [JOB, JOB], "has_more": True, "next_cursor": "c-2"}),
        answer({"data": [JOB], "has_more": False, "next_cursor": None}),
    ]
    fake = Fake([*pages])
    with client_of(fake) as client:
        jobs = client.jobs(state="queued")
        next(jobs), next(jobs)
        assert len(fake.asked) == 1
        assert len(list(jobs)) == 1
    first, second = (dict(request.url.params) for request in fake.asked)
    assert first == {"limit": "100", "state": "queued"}
    assert second == {"limit": "100", "state": "queued", "after": "c-2"}


# --- uploads ----------------------------------------------------------------------------------

UPLOAD: dict[str, Any] = {
    "id": UPLOAD_ID,
    "state": "open",
    "filename": "film.mp4",
    "size_bytes": 0,
    "offset_bytes": 0,
    "tus_url": f"{URL}/v1/tus/{UPLOAD_ID}",
    "expires_at": "2026-11-22T10:23:45.678Z",
}


class Tus:
    """A tus service that loses the connection after so many bytes of each PATCH."""

    def __init__(self, size: int, *, loses_after: list[int]) -> None:
        self.size = size
        self.have = bytearray()
        self.loses_after = loses_after
        self.offsets: list[int] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "HEAD":
            assert request.headers["Tus-Resumable"] == "1.0.0"
            return httpx2.Response(200, headers={"Upload-Offset": str(len(self.have))})
        if request.method == "PATCH":
            return self.patch(request)
        state = "finished" if len(self.have) == self.size else "open"
        return answer({**UPLOAD, "size_bytes": self.size, "state": state})

    def patch(self, request: httpx2.Request) -> httpx2.Response:
        offset = int(request.headers["Upload-Offset"])
        self.offsets.append(offset)
        assert offset == len(self.have)
        assert request.headers["Content-Type"] == "application/offset+octet-stream"
        assert int(request.headers["Content-Length"]) == self.size - offset
        assert "Transfer-Encoding" not in request.headers
        left = self.loses_after.pop(0) if self.loses_after else self.size
        for piece in body_of(request):
            assert len(piece) <= 1 << 20, "the file was read into memory"
            self.have += piece[:left]
            left -= len(piece)
            if left <= 0:
                raise httpx2.WriteError("Connection reset by peer")
        return httpx2.Response(204, headers={"Upload-Offset": str(len(self.have))})


def body_of(request: httpx2.Request) -> Iterator[bytes]:
    """A request's body as it is sent."""
    assert isinstance(request.stream, httpx2.SyncByteStream)
    return iter(request.stream)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(n * n % 251 for n in range(3_000_000)))
    return path


def upload_of(path: Path) -> Upload:
    return Upload(
        id=UPLOAD_ID,
        state="open",
        filename=path.name,
        size_bytes=path.stat().st_size,
        offset_bytes=0,
        tus_url=UPLOAD["tus_url"],
        expires_at=datetime.now(UTC),
    )


def test_an_upload_goes_on_from_the_byte_that_the_service_wants(film: Path) -> None:
    tus = Tus(3_000_000, loses_after=[1_000_000, 0, 1_500_000])
    told: list[int] = []
    with client_of(tus) as client:
        upload = client.send(upload_of(film), film, on_sent=lambda done, size: told.append(done))
    assert bytes(tus.have) == film.read_bytes()
    assert tus.offsets == [0, 1_000_000, 1_000_000, 2_500_000]
    assert upload.state == "finished"
    assert told[0] == 0
    assert told[-1] == 3_000_000


def test_an_upload_without_headway_is_given_up(film: Path) -> None:
    tus = Tus(3_000_000, loses_after=[0] * 100)
    with client_of(tus) as client, pytest.raises(ConnectionFailed, match="reset by peer"):
        client.send(upload_of(film), film)
    assert len(tus.offsets) == TRIES


def test_a_service_that_is_away_is_given_up_by_an_upload_as_by_all_else(film: Path) -> None:
    fake = Fake([REFUSED])
    with client_of(fake) as client, pytest.raises(ConnectionFailed):
        client.send(upload_of(film), film)
    assert len(fake.asked) == TRIES


def test_an_upload_that_gets_on_is_not_given_up(film: Path) -> None:
    tus = Tus(3_000_000, loses_after=[100_000] * 3 * TRIES)
    with client_of(tus) as client:
        client.send(upload_of(film), film)
    assert bytes(tus.have) == film.read_bytes()


def test_a_file_of_another_size_is_not_sent_on(film: Path) -> None:
    upload = upload_of(film)
    film.write_bytes(b"another film")
    tus = Tus(3_000_000, loses_after=[])
    with client_of(tus) as client, pytest.raises(FileChanged, match="12 bytes, and had 3000000"):
        client.send(upload, film)
    assert tus.offsets == []


def test_a_file_that_is_written_to_meanwhile_is_not_sent_on(film: Path) -> None:
    tus = Tus(3_000_000, loses_after=[1_000_000])

    def write(done: int, _: int) -> None:
        if done >= 1_000_000:
            with film.open("ab") as file:
                file.write(b"more")

    with client_of(tus) as client, pytest.raises(FileChanged, match="while it was being sent"):
        client.send(upload_of(film), film, on_sent=write)


def test_an_expired_token_in_the_middle_of_an_upload_is_renewed(film: Path) -> None:
    tus = Tus(3_000_000, loses_after=[])
    sessions = Service()

    def guarded(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/sessions/refresh":
            return sessions(request)
        if request.method == "PATCH":
            assert sum(map(len, body_of(request))) == 3_000_000  # the first time for nothing
        refusal = sessions(request)
        return refusal if refusal.status_code == 401 else guarded_tus(request)

    def guarded_tus(request: httpx2.Request) -> httpx2.Response:
        if request.method == "PATCH":
            tus.have += film.read_bytes()
            return httpx2.Response(204)
        return tus(request)

    keeper = MemoryKeeper(Tokens("access-1", "refresh-1"))
    with client_of(guarded, keeper=keeper) as client:
        upload = upload_of(film)
        client.upload_state(upload.id)
        sessions.generation = 2  # the session's tokens are now other ones
        keeper.put(Tokens("access-1", "refresh-2"))
        client.send(upload, film)
    assert bytes(tus.have) == film.read_bytes()


# --- events -----------------------------------------------------------------------------------


def sse(*told: tuple[str, int | None, dict[str, Any]], cut: bool = False) -> Handler:
    """A stream of events; `cut`: the connection breaks after them."""

    def pieces() -> Iterator[bytes]:
        for kind, number, data in told:
            head = f"event: {kind}\n" + (f"id: {number}\n" if number is not None else "")
            yield f"{head}data: {json.dumps(data)}\n\n".encode()
        if cut:
            raise httpx2.ReadError("Connection reset by peer")

    return lambda _: httpx2.Response(
        200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=pieces()
    )


def test_events_go_on_after_the_last_one_that_was_heard() -> None:
    progress = {"fraction": 0.5, "stage": "encode", "rungs": {"720p": 0.5}}
    fake = Fake(
        [
            sse(("queued", 1, {}), ("started", 2, {}), ("progress", None, progress), cut=True),
            REFUSED,
            httpx2.Response(503),
            # The service may say again what it is not sure that we heard.
            sse(("started", 2, {}), ("playable", 3, {"after_s": 0.5}), cut=False),
            sse(("succeeded", 4, {})),
        ]
    )
    with client_of(fake) as client:
        told = list(client.watch(JOB_ID))
    numbered = [(event.number, event.type) for event in told if isinstance(event, JobEvent)]
    assert numbers(told) == [1, 2, 3, 4]
    assert numbered == [(1, "queued"), (2, "started"), (3, "playable"), (4, "succeeded")]
    [snapshot] = [event for event in told if isinstance(event, Progress)]
    assert (snapshot.fraction, snapshot.stage, snapshot.rungs) == (0.5, "encode", {"720p": 0.5})
    heard = [request.headers.get("Last-Event-ID") for request in fake.asked]
    assert heard == [None, "2", "2", "2", "3"]


def numbers(told: Iterable[JobEvent | Progress]) -> list[int]:
    return [event.number for event in told if isinstance(event, JobEvent)]


def test_a_job_that_was_tried_again_is_watched_to_its_last_end() -> None:
    fake = Fake(
        [sse(("failed", 2, {}), ("queued", 3, {}), ("started", 4, {}), ("succeeded", 5, {}))]
    )
    with client_of(fake) as client:
        assert numbers(client.watch(JOB_ID)) == [2, 3, 4, 5]


def test_a_connection_that_breaks_after_the_last_event_is_no_error() -> None:
    fake = Fake([sse(("succeeded", 5, {}), cut=True), httpx2.Response(204)])
    with client_of(fake) as client:
        assert numbers(client.watch(JOB_ID)) == [5]
    assert fake.asked[1].headers["Last-Event-ID"] == "5"


def test_watching_begins_where_one_wants() -> None:
    fake = Fake([sse(("succeeded", 9, {}))])
    with client_of(fake) as client:
        assert numbers(client.watch(JOB_ID, after=8)) == [9]
    assert fake.asked[0].headers["Last-Event-ID"] == "8"


def test_a_stream_that_never_tells_anything_is_given_up() -> None:
    fake = Fake([sse()])
    with client_of(fake) as client, pytest.raises(ConnectionFailed, match="ended"):
        list(client.watch(JOB_ID))
    assert len(fake.asked) == TRIES


def test_what_is_no_event_says_so() -> None:
    fake = Fake([sse(("started", None, {}))])
    with client_of(fake) as client, pytest.raises(UnexpectedAnswer, match="no event"):
        list(client.watch(JOB_ID))


# --- downloads --------------------------------------------------------------------------------


def output_of(data: bytes, url: str = "/d/s/01KAJ00000000000000000000F/film.mp4") -> Output:
    return Output(
        id="01KAJ00000000000000000000F",
        kind="mp4",
        path="720p.mp4",
        content_type="video/mp4",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        url=url,
    )


class Files:
    """A file that is served with ranges, whose connection breaks after so many bytes each time."""

    def __init__(self, data: bytes, *, breaks_after: list[int], ranges: bool = True) -> None:
        self.data = data
        self.breaks_after = breaks_after
        self.ranges = ranges
        self.asked: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        start = 0
        headers = {}
        if wanted is not None and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        length = self.breaks_after.pop(0) if self.breaks_after else None

        def pieces() -> Iterator[bytes]:
            data = self.data[start:]
            yield data[:length]
            if length is not None:
                raise httpx2.ReadError("Connection reset by peer")

        return httpx2.Response(206 if headers else 200, headers=headers, content=pieces())


DATA = bytes(n * 7 % 256 for n in range(1_000_000))


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    files = Files(DATA, breaks_after=[300_000, 0, 300_000])
    target = tmp_path / "new" / "film.mp4"
    told: list[int] = []
    with client_of(files) as client:
        client.download(output_of(DATA), target, on_received=lambda done, _: told.append(done))
    assert target.read_bytes() == DATA
    assert files.asked == [None, "bytes=300000-", "bytes=300000-", "bytes=600000-"]
    assert told[-1] == len(DATA)
    assert [path.name for path in target.parent.iterdir()] == ["film.mp4"]


def test_a_download_goes_on_in_another_process(tmp_path: Path) -> None:
    target = tmp_path / "film.mp4"
    files = Files(DATA, breaks_after=[400_000] + [0] * TRIES)
    with client_of(files) as client, pytest.raises(ConnectionFailed):
        client.download(output_of(DATA), target)
    assert not target.exists()
    again = Files(DATA, breaks_after=[])
    with client_of(again) as client:
        client.download(output_of(DATA), target)
    assert again.asked == ["bytes=400000-"]
    assert target.read_bytes() == DATA


class ExpiringLinks:
    """A job with one output, whose links are good for so many requests each."""

    def __init__(self, data: bytes, *, good_for: int, breaks_after: list[int]) -> None:
        self.files = Files(data, breaks_after=breaks_after)
        self.good_for = good_for
        self.signed = 0
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        if request.url.path == f"/v1/jobs/{JOB_ID}/outputs":
            self.signed += 1
            self.left = self.good_for
            output = output_of(self.files.data, f"{URL}/d/link-{self.signed}/720p.mp4")
            plain = {name: getattr(output, name) for name in output.__slots__ if name != "job_id"}
            return answer({"data": [plain], "has_more": False})
        if request.url.path != f"/d/link-{self.signed}/720p.mp4" or self.left == 0:
            return problem(403, "link_invalid")
        self.left -= 1
        return self.files(request)


def test_a_link_that_expires_is_asked_for_anew(tmp_path: Path) -> None:
    service = ExpiringLinks(DATA, good_for=1, breaks_after=[300_000, 300_000])
    with client_of(service, api_key="tck_a_b") as client:
        (output,) = client.outputs(JOB_ID)
        client.download(output, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == DATA
    assert service.files.asked == [None, "bytes=300000-", "bytes=600000-"]
    assert service.signed == 3


def test_a_link_that_is_no_better_when_new_is_an_error_not_a_loop(tmp_path: Path) -> None:
    service = ExpiringLinks(DATA, good_for=0, breaks_after=[])
    with client_of(service, api_key="tck_a_b") as client:
        (output,) = client.outputs(JOB_ID)
        with pytest.raises(ApiError) as caught:
            client.download(output, tmp_path / "film.mp4")
    assert caught.value.code == "link_invalid"
    assert service.signed == 2


def test_a_link_to_a_source_is_asked_for_anew(tmp_path: Path) -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/source"):
            link = {"url": f"{URL}/d/{len(asked)}/film.mp4", "size_bytes": len(DATA)}
            more = {"sha256": None, "content_type": "video/mp4"}
            return answer({**link, **more, "expires_at": "2026-11-21T10:23:45.678Z"})
        first = request.url.path == "/d/1/film.mp4"
        return problem(403, "link_invalid") if first else httpx2.Response(200, content=DATA)

    asked: list[str] = []
    with client_of(serve, api_key="tck_a_b") as client:
        client.download_source("01KAJ00000000000000000000A", tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == DATA
    source = "/v1/assets/01KAJ00000000000000000000A/source"
    assert asked == [source, "/d/1/film.mp4", source, "/d/3/film.mp4"]


def test_a_stream_is_not_among_the_files_of_a_job(tmp_path: Path) -> None:
    kinds = {"hls": "master.m3u8", "dash": "manifest.mpd", "poster": "poster.jpg"}

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == f"/v1/jobs/{JOB_ID}/outputs":
            plain = [
                {
                    **{"id": kind, "kind": kind, "path": path, "content_type": "x/y"},
                    **{"size_bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()},
                    **{"url": f"{URL}/d/{path}"},
                }
                for kind, path in kinds.items()
            ]
            return answer({"data": plain, "has_more": False})
        return httpx2.Response(200, content=DATA)

    with client_of(serve, api_key="tck_a_b") as client:
        assert len(client.outputs(JOB_ID)) == 3
        assert client.download_outputs(JOB_ID, tmp_path) == (tmp_path / "poster.jpg",)
    assert [path.name for path in tmp_path.iterdir()] == ["poster.jpg"]


def test_a_service_without_ranges_sends_it_all_again(tmp_path: Path) -> None:
    files = Files(DATA, breaks_after=[300_000], ranges=False)
    with client_of(files) as client:
        client.download(output_of(DATA), tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == DATA


def test_wrong_bytes_get_no_name(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"what was there before")
    files = Files(DATA[:-1] + b"!", breaks_after=[])
    with client_of(files) as client, pytest.raises(DigestMismatch, match=r"film\.mp4"):
        client.download(output_of(DATA), tmp_path / "film.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"what was there before"


def test_what_is_there_and_right_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(DATA)
    files = Files(DATA, breaks_after=[])
    with client_of(files) as client:
        client.download(output_of(DATA), tmp_path / "film.mp4")
    assert files.asked == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_an_output_stays_in_its_folder(path: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        safe_path(path)
    assert safe_path("video/720p.mp4") == Path("video/720p.mp4")


# --- what the command keeps -------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> CredentialsFile:
    return CredentialsFile(tmp_path / "config" / "telecine" / "credentials.json")


def test_credentials_are_for_their_user_alone(kept: CredentialsFile) -> None:
    assert kept.load() is None
    kept.save(Credentials(URL, api_key="tck_a_b"))
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.load() == Credentials(URL, api_key="tck_a_b")
    kept.save(None)
    assert kept.load() is None
    assert not kept.path.exists()


@contextmanager
def listening(handler: Handler) -> Iterator[str]:
    """The handler behind a socket; its address."""

    class Asked(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            url = f"http://{self.headers['Host']}{self.path}"
            body = self.rfile.read(length)
            said = handler(
                httpx2.Request(self.command, url, headers=dict(self.headers), content=body)
            )
            self.send_response(said.status_code)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *words: Any) -> None:
            """Said to nobody."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_two_processes_renew_once(kept: CredentialsFile) -> None:
    service = Service()
    spawn = multiprocessing.get_context("spawn")
    together, results = spawn.Barrier(2), spawn.Queue()
    with listening(service) as url:
        kept.save(Credentials(url, tokens=Tokens("access-0", "refresh-1")))
        processes = [
            spawn.Process(target=ask_together, args=(url, kept.path, JOB_ID, together, results))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        assert [results.get(timeout=120) for _ in processes] == [JOB_ID] * 2
        for process in processes:
            process.join()
    assert service.refreshed == ["refresh-1"]
    assert kept.current() == Tokens("access-2", "refresh-2")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1, "tokens": {}}', "null"])
def test_a_file_of_credentials_that_is_none_is_as_none(kept: CredentialsFile, text: str) -> None:
    kept.path.parent.mkdir(parents=True)
    kept.path.write_text(text)
    assert kept.load() is None


def test_unfinished_uploads_are_known_by_their_file(tmp_path: Path, film: Path) -> None:
    uploads = UnfinishedUploads(tmp_path / "state")
    known_as = fingerprint(film, URL, {"preset": "stream"})
    assert uploads.find(known_as) is None
    uploads.keep(known_as, UPLOAD_ID, film)
    assert uploads.find(fingerprint(film, URL, {"preset": "stream"})) == UPLOAD_ID
    assert uploads.find(fingerprint(film, URL, {"preset": "mp3"})) is None
    with film.open("ab") as file:
        file.write(b"!")
    assert uploads.find(fingerprint(film, URL, {"preset": "stream"})) is None
    uploads.forget(known_as)
    assert uploads.find(known_as) is None


def test_folders_are_those_of_the_xdg_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, found, otherwise in (
        ("XDG_CONFIG_HOME", config_folder, ".config"),
        ("XDG_STATE_HOME", state_folder, ".local/state"),
    ):
        monkeypatch.delenv(name, raising=False)
        assert found() == tmp_path / otherwise / "telecine"
        monkeypatch.setenv(name, "not/absolute")
        assert found() == tmp_path / otherwise / "telecine"
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
        assert found() == tmp_path / "elsewhere" / "telecine"
