"""Users over HTTP: sign up, me, passwords, deletion; administrators and their one-time tokens."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, Clock, sign_up

from telecine.service import admin
from telecine.service.admin import UserChange
from telecine.service.api.app import make_app
from telecine.service.collector import collect, inspect_orphans
from telecine.service.db import tables as t
from telecine.service.db.accounts import User
from telecine.service.domain import Conflict, Invalid, NotFound, Role, new_id
from telecine.service.services import Services

ADA = {"email": "ada@example.org", "password": PASSWORD}
NEW = "another long password 8"

Mode = Callable[[str], TestClient]


@pytest.fixture
def mode(services: Services) -> Mode:
    """The API with another setting of who may sign up."""

    def make(signup: str) -> TestClient:
        settings = services.settings.model_copy(update={"signup": signup})
        other = dataclasses.replace(services, settings=settings)
        return TestClient(make_app(other), base_url="http://127.0.0.1:8000")

    return make


@pytest.fixture
def root(client: TestClient, services: Services) -> Mapping[str, Any]:
    """An administrator's session."""
    user = admin.create_user(
        services, email="root@example.org", password="a root's long password", role="admin"
    )
    return {**log_in(client, "root@example.org", "a root's long password"), "id": user.id}


def log_in(client: TestClient, email: str, password: str) -> dict[str, Any]:
    answer = client.post("/v1/sessions", json={"email": email, "password": password})
    assert answer.status_code == 201, answer.text
    token = answer.json()["access_token"]
    return {**answer.json(), "headers": {"Authorization": f"Bearer {token}"}}


def make_ada(services: Services, role: Role = "user") -> User:
    return admin.create_user(
        services, email="ada@example.org", password=PASSWORD, name="Ada", role=role
    )


def outcome(answer: httpx2.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("code") if answer.content else None


def delete_me(client: TestClient, headers: Mapping[str, str], password: str) -> httpx2.Response:
    return client.request(
        "DELETE", "/v1/users/me", json={"password": password}, headers=dict(headers)
    )


# --- sign up ------------------------------------------------------------------------------------


def test_sign_up(client: TestClient) -> None:
    answer = client.post("/v1/users", json={**ADA, "name": "  Ada Lovelace "})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"id", "email", "name", "role", "created_at"}
    assert (body["email"], body["name"], body["role"]) == (
        "ada@example.org",
        "Ada Lovelace",
        "user",
    )
    headers = log_in(client, **ADA)["headers"]
    assert client.get("/v1/users/me", headers=headers).json() == body


def test_there_is_no_default_account(services: Services) -> None:
    with services.database.read() as tx:
        assert tx.connection.execute(sa.select(t.users)).all() == []


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@example.org", " Ada@Example.org "])
def test_an_address_has_one_account(client: TestClient, email: str) -> None:
    sign_up(client)
    answer = client.post("/v1/users", json={"email": email, "password": PASSWORD})
    assert outcome(answer) == (409, "email_taken")


def test_of_sign_ups_at_once_one_gets_the_address(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/users", json=ADA), range(8)))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 7


def test_who_asks_for_many_addresses_is_slowed_down(client: TestClient) -> None:
    sign_up(client)
    answers = [client.post("/v1/users", json=ADA) for _ in range(21)]
    assert [a.status_code for a in answers] == [409] * 20 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "extra",
    [
        {"role": "admin"},
        {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
        {"disabled": False},
        {"max_upload_bytes": 1 << 40},
        {"password_hash": "x"},
    ],
)
def test_nobody_gives_themselves_more(client: TestClient, extra: dict[str, Any]) -> None:
    answer = client.post("/v1/users", json={**ADA, **extra})
    assert outcome(answer) == (422, "invalid_request")


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.org",
        "a@b.co",
        "ada+films@example.org",
        "ada.lovelace@sub.example.co.uk",
        "o'brien@example.org",
        "日本@例え.jp",
        "root@localhost",
        "x" * 64 + "@example.org",
    ],
)
def test_addresses_that_are_taken(client: TestClient, email: str) -> None:
    answer = client.post("/v1/users", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    assert answer.json()["email"] == email


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "ada",
        "@example.org",
        "ada@",
        "ada@example",
        "ada@@example.org",
        "a@da@example.org",
        "ada @example.org",
        "ada@exam ple.org",
        ".ada@example.org",
        "ada.@example.org",
        "a..da@example.org",
        "ada@.org",
        "ada@example..org",
        "ada@example.org.",
        "ada@-example.org",
        "ada@example-.org",
        "ada@exa_mple.org"[:9] + "!mple.org",
        "ada@[127.0.0.1]",
        "<ada@example.org>",
        "ada@example.org\n",
        "ada\x00@example.org",
        "ada\u200b@example.org",
        "ada\u202e@example.org",
        "x" * 65 + "@example.org",
        "ada@" + "x" * 64 + ".org",
        "ada@" + "x." * 126 + "org",
        "ada,eve@example.org",
        '"ada"@example.org',
    ],
)
def test_what_is_no_address_is_refused(client: TestClient, email: str) -> None:
    answer = client.post("/v1/users", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in {"email_invalid", "invalid_request"}


def test_invitations(client: TestClient, mode: Mode, root: Mapping[str, Any]) -> None:
    invited = mode("invite")
    assert outcome(invited.post("/v1/users", json=ADA)) == (403, "invite_needed")
    made = client.post("/v1/admin/invites", headers=root["headers"])
    assert made.status_code == 201
    token = made.json()["token"]
    body = {**ADA, "token": token}
    # What fails for another reason does not use it up.
    assert outcome(invited.post("/v1/users", json={**body, "password": "short"}))[0] == 422
    taken = invited.post("/v1/users", json={**body, "email": "root@example.org"})
    assert outcome(taken) == (409, "email_taken")
    first = invited.post("/v1/users", json=body)
    assert first.status_code == 201
    assert first.json()["role"] == "user"
    again = invited.post("/v1/users", json={**body, "email": "eve@example.org"})
    assert outcome(again) == (403, "one_time_token_invalid")


def test_an_invitation_is_good_for_one_of_many_at_once(
    services: Services, mode: Mode, root: Mapping[str, Any]
) -> None:
    token = admin.mint_invite(services, by=root["id"]).text
    invited = mode("invite")

    def ask(number: int) -> int:
        body = {"email": f"u{number}@example.org", "password": PASSWORD, "token": token}
        return invited.post("/v1/users", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [201] + [403] * 7


def test_an_invitation_expires(services: Services, mode: Mode, clock: Clock) -> None:
    token = admin.mint_invite(services, by=None)
    clock.forward(admin.INVITE_TTL_S + 1)
    answer = mode("invite").post("/v1/users", json={**ADA, "token": token.text})
    assert outcome(answer) == (403, "one_time_token_invalid")


def test_closed_is_closed(services: Services, mode: Mode) -> None:
    closed = mode("closed")
    token = admin.mint_invite(services, by=None).text
    for body in (ADA, {**ADA, "token": token}):
        assert outcome(closed.post("/v1/users", json=body)) == (403, "signup_closed")


@pytest.mark.parametrize("signup", ["open", "invite", "closed"])
def test_a_token_that_is_none_is_refused(services: Services, mode: Mode, signup: str) -> None:
    root = admin.create_user(services, email="r@example.org", password=PASSWORD)
    reset = admin.mint_password_reset(services, root.id, by=None).text
    for token in ("tco_" + "0" * 64, "x", reset):
        answer = mode(signup).post("/v1/users", json={**ADA, "token": token})
        assert outcome(answer) == (403, "one_time_token_invalid")


def test_tokens_cannot_be_tried_out(client: TestClient) -> None:
    body = {**ADA, "token": "tco_" + "0" * 64}
    answers = [client.post("/v1/users", json=body).status_code for _ in range(21)]
    assert answers == [403] * 20 + [429]


# --- the first administrator --------------------------------------------------------------------


@pytest.mark.parametrize("signup", ["open", "invite", "closed"])
def test_the_first_administrator(services: Services, mode: Mode, signup: str) -> None:
    token = admin.first_admin_token(services)
    client = mode(signup)
    made = client.post("/v1/users", json={**ADA, "token": token})
    assert made.status_code == 201, made.text
    assert made.json()["role"] == "admin"
    headers = log_in(client, **ADA)["headers"]
    assert client.get("/v1/admin/users", headers=headers).status_code == 200
    assert admin.first_admin_token(services) is None
    again = client.post("/v1/users", json={**ADA, "email": "eve@example.org", "token": token})
    assert outcome(again) == (403, "one_time_token_invalid")


def test_only_the_newest_token_makes_an_administrator(
    client: TestClient, services: Services
) -> None:
    old, new = admin.first_admin_token(services), admin.first_admin_token(services)
    assert outcome(client.post("/v1/users", json={**ADA, "token": old}))[0] == 403
    assert client.post("/v1/users", json={**ADA, "token": new}).json()["role"] == "admin"


def test_the_first_administrators_token_is_nothing_once_there_is_one(
    client: TestClient, services: Services
) -> None:
    token = admin.first_admin_token(services)
    admin.create_user(services, email="r@example.org", password=PASSWORD, role="admin")
    answer = client.post("/v1/users", json={**ADA, "token": token})
    assert outcome(answer) == (403, "one_time_token_invalid")


def test_the_first_administrators_token_expires(
    client: TestClient, services: Services, clock: Clock
) -> None:
    token = admin.first_admin_token(services)
    clock.forward(admin.FIRST_ADMIN_TTL_S + 1)
    assert outcome(client.post("/v1/users", json={**ADA, "token": token}))[0] == 403


# --- me -----------------------------------------------------------------------------------------


def test_change_my_name(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    answer = client.patch("/v1/users/me", json={"name": "Ada L."}, headers=headers)
    assert answer.json()["name"] == "Ada L."
    assert client.get("/v1/users/me", headers=headers).json() == answer.json()
    assert client.patch("/v1/users/me", json={}, headers=headers).json() == answer.json()


@pytest.mark.parametrize(
    "body",
    [
        {"role": "admin"},
        {"disabled": False},
        {"id": "x"},
        {"max_running_jobs": 100},
        {"name": "x\x00"},
        {"name": "x\x1b[2J"},
        {"name": "x" * 201},
        {"name": 5},
    ],
)
def test_what_cannot_be_changed(client: TestClient, body: dict[str, Any]) -> None:
    headers = sign_up(client)["headers"]
    before = client.get("/v1/users/me", headers=headers).json()
    assert client.patch("/v1/users/me", json=body, headers=headers).status_code == 422
    assert client.get("/v1/users/me", headers=headers).json() == before


def test_change_my_address(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    sign_up(client, "eve@example.org")

    def change(email: str, password: str | None) -> tuple[int, str | None]:
        body = {"email": email, "password": password}
        return outcome(client.patch("/v1/users/me", json=body, headers=headers))

    assert change("countess@example.org", None) == (403, "password_wrong")
    assert change("countess@example.org", "wrong") == (403, "password_wrong")
    assert change("eve@example.org", PASSWORD) == (409, "email_taken")
    assert change("no address", PASSWORD) == (422, "email_invalid")
    assert change("Countess@Example.org", PASSWORD)[0] == 200
    assert log_in(client, "countess@example.org", PASSWORD)
    old = client.post("/v1/sessions", json=ADA)
    assert outcome(old) == (401, "login_failed")


def test_the_password_cannot_be_guessed_by_a_stolen_session(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    answers = [delete_me(client, headers, "wrong").status_code for _ in range(6)]
    assert answers == [403] * 5 + [429]
    assert outcome(delete_me(client, headers, PASSWORD)) == (429, "login_limited")


# --- passwords ----------------------------------------------------------------------------------


def change_password(client: TestClient, headers: Any, current: str, new: str) -> httpx2.Response:
    body = {"current_password": current, "password": new}
    return client.put("/v1/users/me/password", json=body, headers=headers)


def test_change_my_password(client: TestClient) -> None:
    first = sign_up(client)
    other = log_in(client, **ADA)
    assert outcome(change_password(client, first["headers"], "wrong", NEW)) == (
        403,
        "password_wrong",
    )
    assert change_password(client, first["headers"], PASSWORD, NEW).status_code == 204
    # This session goes on, all others are ended.
    assert client.get("/v1/users/me", headers=first["headers"]).status_code == 200
    assert client.get("/v1/users/me", headers=other["headers"]).status_code == 401
    refreshed = client.post("/v1/sessions/refresh", json={"refresh_token": other["refresh_token"]})
    assert refreshed.json()["code"] == "session_ended"
    assert client.post("/v1/sessions", json=ADA).status_code == 401
    assert log_in(client, "ada@example.org", NEW)


def test_a_new_password_is_checked_like_the_first(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    for bad, code in (("short", "password_short"), ("Password123", "password_common")):
        assert outcome(change_password(client, headers, PASSWORD, bad)) == (422, code)
    assert log_in(client, **ADA)


def test_changing_the_password_makes_a_reset_useless(
    client: TestClient, services: Services, root: Mapping[str, Any]
) -> None:
    headers = sign_up(client)["headers"]
    user_id = client.get("/v1/users/me", headers=headers).json()["id"]
    token = admin.mint_password_reset(services, user_id, by=root["id"]).text
    change_password(client, headers, PASSWORD, NEW)
    body = {"token": token, "password": "yet another password"}
    assert outcome(client.post("/v1/password-resets", json=body))[0] == 403


def test_a_forgotten_password(client: TestClient, root: Mapping[str, Any]) -> None:
    ada = sign_up(client)
    user_id = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    path = f"/v1/admin/users/{user_id}/password-reset"
    made = client.post(path, headers=root["headers"])
    assert made.status_code == 201
    second = client.post(path, headers=root["headers"]).json()["token"]
    body = {"token": made.json()["token"], "password": NEW}
    # What is refused for another reason leaves the token good.
    short = client.post("/v1/password-resets", json={**body, "password": "short"})
    assert outcome(short) == (422, "password_short")
    assert client.post("/v1/password-resets", json=body).status_code == 204
    assert client.get("/v1/users/me", headers=ada["headers"]).status_code == 401
    assert client.post("/v1/sessions", json=ADA).status_code == 401
    assert log_in(client, "ada@example.org", NEW)
    for token in (body["token"], second):
        again = client.post("/v1/password-resets", json={"token": token, "password": PASSWORD})
        assert outcome(again) == (403, "one_time_token_invalid")
    # Somebody else's session has nothing to do with it.
    assert client.get("/v1/users/me", headers=root["headers"]).status_code == 200


def test_the_link_opens_a_page(client: TestClient, root: Mapping[str, Any]) -> None:
    made = client.post(f"/v1/admin/users/{root['id']}/password-reset", headers=root["headers"])
    body = made.json()
    assert body["url"] == f"http://127.0.0.1:8000/password-reset#{body['token']}"
    page = client.get("/password-reset")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    for element in ("script", "style"):
        (text,) = re.findall(f"<{element}>(.*?)</{element}>", page.text, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"


def test_a_reset_expires(client: TestClient, services: Services, clock: Clock) -> None:
    user = make_ada(services)
    token = admin.mint_password_reset(services, user.id, by=None).text
    clock.forward(admin.RESET_TTL_S + 1)
    answer = client.post("/v1/password-resets", json={"token": token, "password": NEW})
    assert outcome(answer) == (403, "one_time_token_invalid")


def test_an_invitation_is_no_reset(client: TestClient, services: Services) -> None:
    token = admin.mint_invite(services, by=None).text
    answer = client.post("/v1/password-resets", json={"token": token, "password": NEW})
    assert outcome(answer) == (403, "one_time_token_invalid")


def test_of_resets_at_once_one_sets_the_password(client: TestClient, services: Services) -> None:
    user = make_ada(services)
    token = admin.mint_password_reset(services, user.id, by=None).text

    def ask(number: int) -> int:
        body = {"token": token, "password": f"a long password, number {number}"}
        return client.post("/v1/password-resets", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [204] + [403] * 7


# --- delete me ----------------------------------------------------------------------------------


def fill(services: Services, user_id: str) -> dict[str, str]:
    """A row in every table for this user; the ids."""
    ids = {name: new_id() for name in ("asset", "job", "task", "upload", "output")}
    facts: dict[str, Any] = {"facts": {}, "size_bytes": 1}
    asset = {
        **{"id": ids["asset"], "user_id": user_id, "state": "ready", "visibility": "public"},
        **{"title": "t", "filename": "f", "content_type": "video/mp4", "source_size_bytes": 1},
        **{"uploaded_at": 0, "created_at": 0, "updated_at": 0},
        **{"source_key": f"sources/{ids['asset']}", "poster_key": f"posters/{ids['asset']}.jpg"},
    }
    job = {
        **{"id": ids["job"], "user_id": user_id, "asset_id": ids["asset"], "state": "succeeded"},
        **{"priority": 0, "outputs": [], "metadata": {}, "source_policy": "keep"},
        **{"prefix": f"tasks/{ids['job']}/{ids['task']}/1-abcdef01", "created_at": 0},
    }
    task = {
        **{"id": ids["task"], "job_id": ids["job"], "user_id": user_id, "kind": "step"},
        **{"position": 0, "priority": 0, "weight_s": 1, "state": "succeeded"},
    }
    upload = {
        **{"id": ids["upload"], "user_id": user_id, "state": "open", "door": "tus"},
        **{"filename": "f", "content_type": "video/mp4", "max_bytes": 1},
        **{"storage_key": f"incoming/{ids['upload']}", "created_at": 0, "expires_at": 1e11},
    }
    segment = {"rendition": "r", "number": 0, "storage_key": "k", "task_id": ids["task"]}
    output = {"kind": "hls", "path": "p", "content_type": "c", "sha256": "s"}
    rows: list[tuple[sa.Table, dict[str, Any]]] = [
        (t.assets, asset),
        (t.jobs, job),
        (t.tasks, task),
        (t.task_needs, {"task_id": ids["task"], "needs_id": ids["task"]}),
        (t.uploads, upload),
        (t.upload_parts, {"upload_id": ids["upload"], "number": 1, "size_bytes": 1, "etag": ""}),
        (t.segments, {"job_id": ids["job"], "epoch": 1, **segment, **facts}),
        (t.outputs, {"id": ids["output"], "job_id": ids["job"], "asset_id": "", **output, **facts}),
        (t.events, {"job_id": ids["job"], "number": 1, "type": "queued", "data": {}, "at": 0}),
        (t.tenants, {"user_id": user_id, "max_running_jobs": 5}),
    ]
    with services.database.write() as tx:
        for table, row in rows:
            tx.connection.execute(sa.insert(table).values(row))
    return ids


def rows_that_name(services: Services, ids: Mapping[str, str]) -> dict[str, int]:
    """How many rows of each table hold one of these."""
    found, named = {}, list(ids.values())
    with services.database.read() as tx:
        for table in t.metadata.sorted_tables:
            rows = tx.connection.execute(sa.select(table)).all()
            found[table.name] = sum(any(value in named for value in row) for row in rows)
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("by", ["myself", "an administrator", "the shell"])
def test_deleting_a_user_removes_all_that_is_theirs(
    client: TestClient, services: Services, root: Mapping[str, Any], by: str
) -> None:
    ada, eve = sign_up(client), sign_up(client, "eve@example.org")
    ids = {}
    for name, session in (("ada", ada), ("eve", eve)):
        headers = {**session["headers"], "Idempotency-Key": name}
        body = {"name": "k", "scopes": ["jobs:read"]}
        assert client.post("/v1/api-keys", json=body, headers=headers).status_code == 201
        user_id = client.get("/v1/users/me", headers=session["headers"]).json()["id"]
        admin.mint_password_reset(services, user_id, by=None)
        admin.mint_invite(services, by=user_id)
        ids[name] = {"user": user_id, **fill(services, user_id)}
    before = rows_that_name(services, ids["eve"])
    assert len(before) >= 14
    assert set(rows_that_name(services, ids["ada"])) == set(before)

    if by == "myself":
        wrong = delete_me(client, ada["headers"], "wrong")
        assert outcome(wrong) == (403, "password_wrong")
        assert delete_me(client, ada["headers"], PASSWORD).status_code == 204
    elif by == "an administrator":
        path = f"/v1/admin/users/{ids['ada']['user']}"
        assert client.delete(path, headers=root["headers"]).status_code == 204
        assert client.delete(path, headers=root["headers"]).status_code == 404
    else:
        admin.delete_user(services, admin.find_user(services, "Ada@example.org").id)

    assert rows_that_name(services, ids["ada"]) == {}
    assert rows_that_name(services, ids["eve"]) == before
    with services.database.read() as tx:
        thrown = tx.connection.execute(sa.select(t.garbage)).all()
        now_s = tx.now_s()
    asset, upload, job = (ids["ada"][name] for name in ("asset", "upload", "job"))
    assert sorted(row.prefix for row in thrown) == sorted(
        [
            f"sources/{asset}",
            f"posters/{asset}.jpg",
            f"incoming/{upload}",
            f"tasks/{job}/",
        ]
    )
    assert all(now_s < row.not_before < now_s + 300 for row in thrown)
    assert client.get("/v1/users/me", headers=ada["headers"]).status_code == 401
    refreshed = client.post("/v1/sessions/refresh", json={"refresh_token": ada["refresh_token"]})
    assert refreshed.status_code == 401
    assert client.post("/v1/sessions", json=ADA).status_code == 401
    assert client.get("/v1/users/me", headers=eve["headers"]).status_code == 200
    assert sign_up(client)  # the address is free again


def test_a_deleted_users_bytes_are_collected(
    client: TestClient, services: Services, clock: Clock
) -> None:
    ada, eve = sign_up(client), sign_up(client, "eve@example.org")
    bytes_of: dict[str, set[str]] = {}
    ids_of: dict[str, Mapping[str, str]] = {}
    for name, session in (("ada", ada), ("eve", eve)):
        user_id = client.get("/v1/users/me", headers=session["headers"]).json()["id"]
        ids = ids_of[name] = fill(services, user_id)
        made = {
            f"sources/{ids['asset']}",
            f"posters/{ids['asset']}.jpg",
            f"tasks/{ids['job']}/{ids['task']}/1-abcdef01/master.m3u8",
            f"tasks/{ids['job']}/{ids['task']}/1-abcdef01/720p.mp4",
        }
        for key in made:
            services.storage.put_bytes(key, b"bytes")
        services.storage.begin(ids["upload"])
        bytes_of[name] = {*made, ids["upload"]}

    def there() -> set[str]:
        return {*services.storage.keys(""), *services.storage.incoming()}

    assert there() == bytes_of["ada"] | bytes_of["eve"]
    assert delete_me(client, ada["headers"], PASSWORD).status_code == 204
    collect(services)
    # Tasks may still be writing; what came in of an upload belongs to nobody any more.
    (growing,) = bytes_of["ada"] & set(ids_of["ada"].values())
    assert there() == (bytes_of["ada"] | bytes_of["eve"]) - {growing}
    assert inspect_orphans(services) == []
    clock.forward(61)
    collect(services)
    assert there() == bytes_of["eve"]


def test_the_last_administrator_stays(
    client: TestClient, services: Services, root: Mapping[str, Any]
) -> None:
    path = f"/v1/admin/users/{root['id']}"
    for answer in (
        delete_me(client, root["headers"], "a root's long password"),
        client.delete(path, headers=root["headers"]),
        client.patch(path, json={"role": "user"}, headers=root["headers"]),
        client.patch(path, json={"disabled": True}, headers=root["headers"]),
    ):
        assert outcome(answer) == (409, "last_admin")
    # A disabled administrator is none.
    other = make_ada(services, role="admin")
    admin.change_user(services, other.id, UserChange(disabled=True))
    assert outcome(client.delete(path, headers=root["headers"])) == (409, "last_admin")
    admin.change_user(services, other.id, UserChange(disabled=False))
    assert client.delete(path, headers=root["headers"]).status_code == 204


# --- administrators -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/admin/users/{id}", {"role": "admin"}),
        ("DELETE", "/v1/admin/users/{id}", None),
        ("POST", "/v1/admin/users/{id}/password-reset", None),
    ],
)
def test_nobody_is_told_so(
    client: TestClient, root: Mapping[str, Any], method: str, path: str, body: Any
) -> None:
    unknown = path.format(id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    answer = client.request(method, unknown, json=body, headers=root["headers"])
    assert outcome(answer) == (404, "user_unknown")
    odd = client.request(method, path.format(id="%00"), json=body, headers=root["headers"])
    assert odd.status_code == 404


def test_a_role_is_taken_away_at_once(
    client: TestClient, services: Services, root: Mapping[str, Any]
) -> None:
    user = make_ada(services, role="admin")
    headers = log_in(client, **ADA)["headers"]
    assert client.get("/v1/admin/users", headers=headers).status_code == 200
    path = f"/v1/admin/users/{user.id}"
    client.patch(path, json={"role": "user"}, headers=root["headers"])
    assert outcome(client.get("/v1/admin/users", headers=headers)) == (403, "admin_needed")


def test_disabling_ends_sessions_at_once(client: TestClient, root: Mapping[str, Any]) -> None:
    ada = sign_up(client)
    user_id = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    path = f"/v1/admin/users/{user_id}"
    answer = client.patch(path, json={"disabled": True}, headers=root["headers"])
    assert answer.json()["disabled"] is True
    assert client.get("/v1/users/me", headers=ada["headers"]).status_code == 401
    client.patch(path, json={"disabled": False}, headers=root["headers"])
    # Enabled again, they log in anew: the old sessions stay ended.
    assert client.get("/v1/users/me", headers=ada["headers"]).status_code == 401
    assert log_in(client, **ADA)


def test_limits_of_a_user(client: TestClient, services: Services, root: Mapping[str, Any]) -> None:
    headers = sign_up(client)["headers"]
    user_id = client.get("/v1/users/me", headers=headers).json()["id"]
    fill(services, user_id)
    path = f"/v1/admin/users/{user_id}"

    def tenant() -> int:
        with services.database.read() as tx:
            query = sa.select(t.tenants.c.max_running_jobs)
            return int(tx.connection.execute(query).scalar_one())

    body = {"max_upload_bytes": 5_000_000_000, "max_running_jobs": 2}
    changed = client.patch(path, json=body, headers=root["headers"]).json()
    assert {name: changed[name] for name in body} == body
    assert tenant() == 2
    # What is not named stays; null gives the setting's back.
    renamed = client.patch(path, json={"role": "user"}, headers=root["headers"]).json()
    assert renamed == changed
    back = client.patch(path, json={"max_running_jobs": None}, headers=root["headers"]).json()
    assert back["max_running_jobs"] is None
    assert back["max_upload_bytes"] == 5_000_000_000
    assert tenant() == services.settings.max_running_jobs


@pytest.mark.parametrize(
    "body",
    [
        {"role": "root"},
        {"role": None},
        {"disabled": None},
        {"max_upload_bytes": 0},
        {"max_running_jobs": 0},
        {"max_running_jobs": 10**30},
        {"email": "x@example.org"},
        {"password_hash": "x"},
    ],
)
def test_what_administrators_cannot_change(
    client: TestClient, root: Mapping[str, Any], body: dict[str, Any]
) -> None:
    headers = sign_up(client)["headers"]
    user_id = client.get("/v1/users/me", headers=headers).json()["id"]
    path = f"/v1/admin/users/{user_id}"
    assert client.patch(path, json=body, headers=root["headers"]).status_code == 422


def test_the_list_of_users(client: TestClient, services: Services, root: Mapping[str, Any]) -> None:
    for number in range(5):
        admin.create_user(services, email=f"u{number}@example.org", password=PASSWORD)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 4}
    more = True
    while more:
        answer = client.get("/v1/admin/users", headers=root["headers"], params=query)
        assert "$argon2" not in answer.text
        page = answer.json()
        found += [row["email"] for row in page["data"]]
        query["after"], more = page["next_cursor"], page["has_more"]
    assert found == [*(f"u{n}@example.org" for n in (4, 3, 2, 1, 0)), "root@example.org"]


# --- the shell ----------------------------------------------------------------------------------


def test_the_shell_makes_users_whatever_the_setting(services: Services, mode: Mode) -> None:
    user = make_ada(services, role="admin")
    assert (user.email, user.name, user.role) == ("ada@example.org", "Ada", "admin")
    assert log_in(mode("closed"), **ADA)
    with pytest.raises(Conflict, match="there is an account"):
        make_ada(services)
    with pytest.raises(Invalid):
        admin.create_user(services, email="eve@example.org", password="short")


def test_the_shell_finds_users_by_address_and_id(services: Services) -> None:
    user = make_ada(services)
    for name in (user.id, "ada@example.org", "ADA@example.org "):
        assert admin.find_user(services, name) == user
    with pytest.raises(NotFound):
        admin.find_user(services, "eve@example.org")
    with pytest.raises(NotFound):
        admin.mint_password_reset(services, "nobody", by=None)
    with pytest.raises(NotFound):
        admin.change_user(services, "nobody", UserChange(role="admin"))


def test_signing_up_is_refused_before_a_hash_is_made(
    mode: Mode, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not sign up costs little."""

    def fail(*_: object) -> str:
        raise AssertionError("a hash was made")

    monkeypatch.setattr("telecine.service.passwords.Hasher.hash", fail)
    assert outcome(mode("invite").post("/v1/users", json=ADA)) == (403, "invite_needed")
    assert outcome(mode("closed").post("/v1/users", json=ADA)) == (403, "signup_closed")


def test_the_routes_are_documented(app: FastAPI) -> None:
    """Each by a summary, and its errors by their codes."""
    paths = app.openapi()["paths"]
    create = paths["/v1/users"]["post"]
    assert create["operationId"] == "create_user"
    taken = create["responses"]["409"]["content"]["application/problem+json"]["examples"]
    assert "email_taken" in taken
    for path, method in (("/v1/sessions", "post"), ("/v1/api-keys", "post")):
        assert paths[path][method]["summary"]
    for name in ("NewUser", "LogIn", "NewApiKey", "ChangedByAdmin", "PasswordReset"):
        schema = app.openapi()["components"]["schemas"][name]
        assert schema["additionalProperties"] is False
