"""`Idempotency-Key`: a creating request that is sent again is not carried out again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import Body, Depends, FastAPI, Response
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, sign_up
from tests.service.databases import StoppedClock
from tests.service.owners import owner_of

from telecine.service import domain
from telecine.service.api import idempotency
from telecine.service.api.deps import ServicesDep, principal
from telecine.service.api.idempotency import IdempotentByAddress, once
from telecine.service.db import idempotency as rows
from telecine.service.db.connection import Database, joining
from telecine.service.db.tables import users
from telecine.service.services import Services

HASH = "0" * 64


# --- the routes that take part ------------------------------------------------------------------

# POSTs that create nothing, and those that stream: their own protocols say what a retry does.
WITHOUT = {
    "reset_password", "create_session", "refresh_session", "complete_upload", "sign_upload_parts",
    "upload_form", "upload_signed_form", "create_tus_upload", "estimate_job", "cancel_job",
}  # fmt: skip


def test_every_creating_post_takes_a_key(app: FastAPI) -> None:
    document = app.openapi()
    posts = [ops["post"] for ops in document["paths"].values() if "post" in ops]
    taking = {
        one["operationId"]
        for one in posts
        if any(p["name"] == "Idempotency-Key" for p in one.get("parameters", ()))
    }
    assert taking >= {"create_user", "create_api_key", "create_upload", "create_job"}
    assert {one["operationId"] for one in posts} - taking == WITHOUT
    assert len(list(iter_route_contexts(app.routes))) > len(posts)


# --- over HTTP ----------------------------------------------------------------------------------


class Made:
    """What the test's own routes did."""

    def __init__(self) -> None:
        self.count = 0
        self.enter = threading.Event()
        self.leave = threading.Event()


@pytest.fixture
def made(app: FastAPI) -> Made:
    """A route that makes something, as its body says; anybody may use it."""
    found = Made()

    @app.post("/v1/things/{name}", status_code=201, dependencies=[IdempotentByAddress])
    def make(
        name: str, doors: ServicesDep, response: Response, how: Annotated[str, Body(embed=True)]
    ) -> dict[str, Any]:
        if how in _RAISED:
            raise _RAISED[how]
        if how == "wait":
            found.enter.set()
            found.leave.wait(30)
        with doors.database.write() as tx:
            tx.connection.execute(
                sa.text("INSERT INTO garbage (id, prefix, not_before) VALUES (:id, 'x/', 0)"),
                {"id": domain.new_id()},
            )
        found.count += 1
        if how == "crash after":
            raise RuntimeError("after the commit")
        response.headers["Location"] = f"/v1/things/{found.count}"
        return {"number": found.count, "secret": "tck_s3cret_of_the_answer"}

    @app.post("/v1/mine", status_code=201)
    def mine(who: Annotated[domain.Principal, Depends(once(principal))]) -> dict[str, int]:
        found.count += 1
        return {"number": found.count}

    return found


_RAISED: dict[str, Exception] = {
    "invalid": domain.Invalid("no", code="preset_unknown"),
    "forbidden": domain.Forbidden("no", code="admin_needed"),
    "not_found": domain.NotFound("no", code="asset_not_found"),
    "conflict": domain.Conflict("no", code="asset_busy"),
    "too_many": domain.TooMany("no", code="too_many_logins", retry_after_s=1),
    "unavailable": domain.Unavailable("no", code="storage_unavailable"),
    "bug": RuntimeError("no"),
}


def post(client: TestClient, key: str | None, how: str = "well", name: str = "a") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"/v1/things/{name}", json={"how": how}, headers=headers)


def things(services: Services) -> int:
    with services.database.read() as tx:
        return int(tx.connection.execute(sa.text("SELECT count(*) FROM garbage")).scalar_one())


def test_the_first_answer_comes_again(client: TestClient, made: Made) -> None:
    first, again = post(client, "k"), post(client, "k")
    assert made.count == 1
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers["location"] == again.headers["location"] == "/v1/things/1"
    assert again.headers["content-type"] == "application/json"
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


def test_without_a_key_and_with_another_it_is_another_request(
    client: TestClient, made: Made
) -> None:
    for key in ("a", "b", None, None):
        assert post(client, key).status_code == 201
    assert made.count == 4


@pytest.mark.parametrize("other", [{"how": "otherwise"}, {"name": "b"}])
def test_another_request_with_the_same_key_is_refused(
    client: TestClient, made: Made, other: Mapping[str, str]
) -> None:
    post(client, "k")
    answer = post(client, "k", **other)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert made.count == 1
    assert post(client, "k").json()["number"] == 1  # the first answer stands


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(client: TestClient, made: Made, key: str) -> None:
    answer = post(client, key)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert post(client, "x" * 255).status_code == 201


@pytest.mark.parametrize(
    ("how", "status"),
    [("invalid", 422), ("forbidden", 403), ("too_many", 429), ("unavailable", 503), ("bug", 500)],
)
def test_nothing_is_kept_of_what_was_not_carried_out(
    client: TestClient, made: Made, monkeypatch: pytest.MonkeyPatch, how: str, status: int
) -> None:
    assert post(client, "k", how).status_code == status
    monkeypatch.delitem(_RAISED, how)
    assert post(client, "k", how).status_code == 201
    assert made.count == 1


def test_nothing_is_kept_of_a_body_that_does_not_fit(client: TestClient, made: Made) -> None:
    headers = {"Idempotency-Key": "k"}
    assert client.post("/v1/things/a", json={}, headers=headers).status_code == 422
    assert post(client, "k").status_code == 201


@pytest.mark.parametrize(("how", "status"), [("not_found", 404), ("conflict", 409)])
def test_a_refusal_of_what_was_tried_is_an_answer(
    client: TestClient, made: Made, monkeypatch: pytest.MonkeyPatch, how: str, status: int
) -> None:
    first = post(client, "k", how)
    monkeypatch.delitem(_RAISED, how)
    again = post(client, "k", how)
    assert (first.status_code, first.content) == (status, again.content)
    assert made.count == 0


def test_while_the_first_runs_a_second_is_refused(client: TestClient, made: Made) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, "k", "wait")
        assert made.enter.wait(30)
        second = post(client, "k", "wait")
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_flight")
        made.leave.set()
        assert first.result().status_code == 201
    assert post(client, "k", "wait").content == first.result().content
    assert made.count == 1


@pytest.mark.parametrize("wave", range(3))
def test_equal_requests_at_once_are_carried_out_once(
    client: TestClient, services: Services, made: Made, wave: int
) -> None:
    together = threading.Barrier(12)

    def send(_: int) -> Any:
        together.wait(30)
        return post(client, f"k{wave}")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(send, range(12)))
    done = [one for one in answers if one.status_code == 201]
    refused = [one for one in answers if one.status_code != 201]
    assert made.count == 1
    assert things(services) == 1
    assert len({one.content for one in done}) == 1
    assert {(one.status_code, one.json()["code"]) for one in refused} <= {
        (409, "idempotency_in_flight")
    }


def test_users_do_not_share_keys(client: TestClient, made: Made) -> None:
    ada, bob = (sign_up(client, email) for email in ("ada@example.org", "bob@example.org"))
    numbers = [
        client.post("/v1/mine", headers={**who["headers"], "Idempotency-Key": "k"}).json()
        for who in (ada, bob, ada)
    ]
    assert numbers == [{"number": 1}, {"number": 2}, {"number": 1}]


def test_a_key_gives_nothing_to_who_is_not_logged_in(client: TestClient, made: Made) -> None:
    ada = sign_up(client)
    client.post("/v1/mine", headers={**ada["headers"], "Idempotency-Key": "k"})
    answer = client.post("/v1/mine", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 401


# What the routes that take a key are asked here, and who may. Refusals of what was tried are kept
# as well, so no asset or job needs to be there.
NOBODYS = "01KAJ9XK6B2T3W4Y5Z6A7B8C9D"
ASKED: dict[str, tuple[str, str, dict[str, Any] | None, int]] = {
    "create_api_key": (
        "session",
        "/v1/api-keys",
        {"name": "strong", "scopes": list(domain.SCOPES)},
        201,
    ),
    "create_image_key": ("session", "/v1/image-keys", {"name": "pages"}, 201),
    "create_password_reset": ("admin", "/v1/admin/users/{user_id}/password-reset", None, 201),
    "create_invite": ("admin", "/v1/admin/invites", None, 201),
    "create_upload": ("uploads:write", "/v1/uploads", {"filename": "a.mp4", "size_bytes": 9}, 201),
    "create_presigned_post": ("uploads:write", "/v1/uploads/presigned-post", {"title": "a"}, 201),
    "create_job": ("jobs:write", "/v1/jobs", {"asset_id": NOBODYS, "preset": "mp3"}, 404),
    "retry_job": ("jobs:write", f"/v1/jobs/{NOBODYS}/retry", None, 404),
}
BY_ADDRESS = {"create_user"}  # of nobody who is logged in: its body holds the password


@pytest.mark.parametrize("operation", sorted(ASKED))
def test_who_may_not_ask_gets_no_earlier_answer(
    client: TestClient, services: Services, operation: str
) -> None:
    """One user by a session, by keys that may do less, and by a session that may do less now."""
    needs, path, body, status = ASKED[operation]
    ada = owner_of(client)

    def role(name: domain.Role) -> None:
        with services.database.write() as tx:
            tx.connection.execute(sa.update(users).values(role=name))

    role("admin")
    weak: list[tuple[Mapping[str, str], str]] = []
    for scopes in [[one] for one in domain.SCOPES] + [list(domain.SCOPES)]:
        made = ada.post("/v1/api-keys", {"name": "weak", "scopes": scopes}, 201)
        if needs not in scopes:
            code = "session_needed" if needs in ("session", "admin") else "scope_missing"
            weak.append(({"Authorization": f"Bearer {made['secret']}"}, code))
    path = path.format(user_id=ada.user_id)

    def ask(headers: Mapping[str, str]) -> Any:
        return client.post(path, json=body, headers={**headers, "Idempotency-Key": "k"})

    first = ask(ada.headers)
    assert first.status_code == status
    for headers, code in weak:
        answer = ask(headers)
        assert (answer.status_code, answer.json()["code"]) == (403, code)
        assert "idempotency-replayed" not in answer.headers
    again = ask(ada.headers)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    if needs == "admin":
        role("user")
        answer = ask(ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_needed")


def test_every_route_that_takes_a_key_is_asked(app: FastAPI) -> None:
    posts = [ops["post"] for ops in app.openapi()["paths"].values() if "post" in ops]
    taking = {one["operationId"] for one in posts} - WITHOUT
    assert taking == ASKED.keys() | BY_ADDRESS


# --- what is kept -------------------------------------------------------------------------------


def test_the_database_holds_no_secret_of_request_or_answer(
    client: TestClient, services: Services, made: Made
) -> None:
    post(client, "k")
    body = {"email": "ada@example.org", "password": PASSWORD}
    client.post("/v1/users", json=body, headers={"Idempotency-Key": "k2"})
    with services.database.read() as tx:
        kept = tx.connection.execute(sa.text("SELECT * FROM idempotency")).all()
    assert len(kept) == 2
    assert "s3cret" not in repr(kept)
    assert PASSWORD not in repr(kept)


def test_what_was_done_is_told_where_its_answer_cannot_be_kept(
    client: TestClient, services: Services, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise domain.Unavailable("another process keeps it busy", code="database_unavailable")

    with monkeypatch.context() as without:
        without.setattr(rows, "keep", away)
        assert post(client, "k").status_code == 201
    _grow_old(services, rows.LOST_AFTER_S + 1)
    answer = post(client, "k")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_lost")
    assert things(services) == 1


def test_a_crash_after_the_commit_never_does_it_twice(
    client: TestClient, services: Services, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies when all is done and the answer is not written down."""

    def die(*_: object) -> None:
        raise SystemError("kill -9")

    with monkeypatch.context() as dying:
        dying.setattr(idempotency, "_keep", die)
        dying.setattr(idempotency, "_forget", lambda *_: None)
        assert post(client, "k").status_code == 500
    assert things(services) == 1
    _grow_old(services, rows.LOST_AFTER_S + 1)
    answer = post(client, "k")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_lost")
    assert things(services) == 1


def test_a_request_that_died_before_is_freed_after_ten_seconds(
    client: TestClient, services: Services, made: Made
) -> None:
    ours = post(client, "k")
    with services.database.write() as tx:  # as if it had died before its commit
        tx.connection.execute(sa.text("UPDATE idempotency SET status = NULL"))
    answer = post(client, "k")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    _grow_old(services, 10 + 1)
    again = post(client, "k")
    assert again.status_code == 201
    assert again.json()["number"] == ours.json()["number"] + 1


def test_one_that_was_only_slow_does_not_commit_after_another(
    client: TestClient, services: Services, made: Made
) -> None:
    """It was taken for dead, and another one has begun: one of the two is undone."""

    @contextmanager
    def claimed() -> Iterator[rows.Claim]:
        with services.database.write() as tx:
            found = rows.claim(tx, "U", "k", HASH)
        assert isinstance(found, rows.Claim)
        yield found

    with claimed() as slow:
        with services.database.write() as tx:
            tx.connection.execute(sa.text("UPDATE idempotency SET created_at = created_at - 61"))
        slow = rows.Claim(slow.owner, slow.key, slow.claimed_at - 61)
        with claimed() as quick:
            joining.set(lambda tx: idempotency._commit(tx, slow))
            with pytest.raises(domain.Conflict), services.database.write() as tx:
                tx.connection.execute(_ONE_THING)
            joining.set(None)
            assert things(services) == 0
            with services.database.write() as tx:
                assert rows.commit(tx, quick)


_ONE_THING = sa.text("INSERT INTO garbage (id, prefix, not_before) VALUES ('1', 'x/', 0)")


def test_a_failure_after_the_commit_never_does_it_twice(
    client: TestClient, services: Services, made: Made
) -> None:
    assert post(client, "k", "crash after").status_code == 500
    answer = post(client, "k", "crash after")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    _grow_old(services, rows.LOST_AFTER_S + 1)
    answer = post(client, "k", "crash after")
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_lost")
    assert things(services) == 1


def _grow_old(services: Services, by_s: float) -> None:
    with services.database.write() as tx:
        tx.connection.execute(
            sa.text("UPDATE idempotency SET created_at = created_at - :by"), {"by": by_s}
        )


# --- the rows, on both databases ----------------------------------------------------------------


def _claim(database: Database, key: str = "k", hash_: str = HASH) -> rows.Claim | rows.Earlier:
    with database.write() as tx:
        return rows.claim(tx, "U", key, hash_)


def test_a_key_is_kept_for_24_hours(clocked: Database, stopped: StoppedClock) -> None:
    first = _claim(clocked)
    assert isinstance(first, rows.Claim)
    with clocked.write() as tx:
        rows.keep(tx, first, 201, {"location": "/x"}, b"\x00answer")
    stopped.now_s += 24 * 3600 - 1
    again = _claim(clocked, hash_="1" * 64)
    assert again == rows.Earlier(HASH, 201, 24 * 3600 - 1, {"location": "/x"}, b"\x00answer")
    with clocked.write() as tx:
        assert rows.purge(tx) == 0
    stopped.now_s += 2
    assert isinstance(_claim(clocked, hash_="1" * 64), rows.Claim)
    stopped.now_s += 24 * 3600 + 1
    with clocked.write() as tx:
        assert rows.purge(tx) == 1


def test_a_claim_is_freed_after_ten_seconds(clocked: Database, stopped: StoppedClock) -> None:
    assert isinstance(_claim(clocked), rows.Claim)
    stopped.now_s += 9
    assert _claim(clocked) == rows.Earlier(HASH, None, 9, {}, b"")
    stopped.now_s += 2
    assert isinstance(_claim(clocked), rows.Claim)
    assert _claim(clocked) == rows.Earlier(HASH, None, 0, {}, b"")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_a_key_that_is_freed_while_it_is_asked_for(clocked: Database) -> None:
    """Between the statement that finds a row and the one that reads it."""
    first = _claim(clocked)
    assert isinstance(first, rows.Claim)

    def forget(_: object) -> None:
        with clocked.write() as tx:
            rows.forget(tx, first)

    sa.event.listen(clocked.engine, "handle_error", forget)
    assert isinstance(_claim(clocked), rows.Claim)


def test_a_forgotten_key_is_free(clocked: Database) -> None:
    first = _claim(clocked)
    assert isinstance(first, rows.Claim)
    with clocked.write() as tx:
        rows.forget(tx, first)
    assert isinstance(_claim(clocked), rows.Claim)


def test_of_many_claims_at_once_one_wins(database: Database) -> None:
    together = threading.Barrier(8)

    def run(_: int) -> rows.Claim | rows.Earlier:
        together.wait(30)
        found = _claim(database)
        time.sleep(0.01)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(8)))
    assert sum(isinstance(one, rows.Claim) for one in found) == 1
