"""API keys over HTTP: made once shown, what each scope opens, when a key ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, Clock, sign_up

from telecine.service import accounts, admin
from telecine.service.admin import UserChange
from telecine.service.api import deps
from telecine.service.db import tables
from telecine.service.domain import Principal, Scope
from telecine.service.services import Services

SCOPES = ["assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write"]


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    """The API, and one more route for each scope that asks for nothing else."""

    @app.get("/probe/assets-read")
    def assets_read(who: deps.AssetsRead) -> str:
        return who.user_id

    @app.get("/probe/assets-write")
    def assets_write(who: deps.AssetsWrite) -> str:
        return who.user_id

    @app.get("/probe/jobs-read")
    def jobs_read(who: deps.JobsRead) -> str:
        return who.user_id

    @app.get("/probe/jobs-write")
    def jobs_write(who: deps.JobsWrite) -> str:
        return who.user_id

    @app.get("/probe/uploads-write")
    def uploads_write(who: deps.UploadsWrite) -> str:
        return who.user_id

    @app.get("/probe/role")
    def role(who: deps.PrincipalDep) -> str:
        return who.role

    return app


@pytest.fixture
def ada(client: TestClient) -> Mapping[str, Any]:
    return sign_up(client)


def make_key(
    client: TestClient, owner: Mapping[str, Any], *scopes: str, **more: Any
) -> dict[str, Any]:
    body = {"name": "a program", "scopes": scopes or SCOPES, **more}
    answer = client.post("/v1/api-keys", json=body, headers=owner["headers"])
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def use(client: TestClient, secret: str, path: str = "/probe/jobs-read") -> int:
    return client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_key_is_shown_once(client: TestClient, ada: Mapping[str, Any]) -> None:
    key = make_key(client, ada, "jobs:read")
    assert re.fullmatch(r"tck_[0-9a-f]{12}_[0-9a-f]{64}", key["secret"])
    assert key["secret"].startswith(key["prefix"] + "_")
    listed = client.get("/v1/api-keys", headers=ada["headers"])
    assert key["secret"] not in listed.text
    assert key["secret"].rpartition("_")[2] not in listed.text
    row = listed.json()["data"][0]
    assert row == {name: value for name, value in key.items() if name != "secret"}
    assert row["last_used_at"] is None
    assert row["expires_at"] is None


def test_many_keys_of_a_user(client: TestClient, ada: Mapping[str, Any]) -> None:
    made = [make_key(client, ada, name=f"key {i}") for i in range(25)]
    assert len({key["secret"] for key in made}) == 25
    assert len({key["prefix"] for key in made}) == 25
    found: list[str] = []
    query: dict[str, Any] = {"limit": 10}
    more = True
    while more:
        page = client.get("/v1/api-keys", headers=ada["headers"], params=query).json()
        found += [row["name"] for row in page["data"]]
        query["after"], more = page["next_cursor"], page["has_more"]
    assert found == [f"key {i}" for i in reversed(range(25))]
    assert all(use(client, key["secret"]) == 200 for key in made)


def test_the_scopes_are_those_of_the_documentation() -> None:
    assert sorted(get_args(Scope)) == SCOPES


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_does_what_its_scope_says(
    client: TestClient, ada: Mapping[str, Any], scope: str
) -> None:
    secret = make_key(client, ada, scope)["secret"]
    for other in SCOPES:
        path = f"/probe/{other.replace(':', '-')}"
        assert use(client, secret, path) == (200 if other == scope else 403), other
    path = next(s for s in SCOPES if s != scope).replace(":", "-")
    refused = client.get(f"/probe/{path}", headers={"Authorization": f"Bearer {secret}"})
    assert refused.json()["code"] == "scope_missing"


def test_a_session_does_all_of_it(client: TestClient, ada: Mapping[str, Any]) -> None:
    for scope in SCOPES:
        path = f"/probe/{scope.replace(':', '-')}"
        assert client.get(path, headers=ada["headers"]).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"name": "k", "scopes": []},
        {"name": "k", "scopes": ["admin"]},
        {"name": "k", "scopes": ["jobs:read", "*"]},
        {"name": "k", "scopes": "jobs:read"},
        {"name": "k"},
        {"scopes": ["jobs:read"]},
        {"name": "", "scopes": ["jobs:read"]},
        {"name": "   ", "scopes": ["jobs:read"]},
        {"name": "x" * 201, "scopes": ["jobs:read"]},
        {"name": "a\nb", "scopes": ["jobs:read"]},
        {"name": "a\x00b", "scopes": ["jobs:read"]},
        {"name": "k", "scopes": ["jobs:read"], "expires_in_s": 0},
        {"name": "k", "scopes": ["jobs:read"], "expires_in_s": 1e18},
        {"name": "k", "scopes": ["jobs:read"], "user_id": "x"},
        {"name": "k", "scopes": ["jobs:read"], "secret": "tck_mine"},
    ],
)
def test_what_cannot_be_a_key_is_refused(
    client: TestClient, ada: Mapping[str, Any], body: dict[str, Any]
) -> None:
    answer = client.post("/v1/api-keys", json=body, headers=ada["headers"])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


# --- ends ---------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_at_once(client: TestClient, ada: Mapping[str, Any]) -> None:
    key, other = make_key(client, ada), make_key(client, ada)
    assert use(client, key["secret"]) == 200
    path = f"/v1/api-keys/{key['id']}"
    assert client.delete(path, headers=ada["headers"]).status_code == 204
    answer = client.get("/probe/role", headers={"Authorization": f"Bearer {key['secret']}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
    assert use(client, other["secret"]) == 200
    listed = client.get("/v1/api-keys", headers=ada["headers"]).json()["data"]
    assert [row["id"] for row in listed] == [other["id"]]
    again = client.delete(path, headers=ada["headers"])
    assert (again.status_code, again.json()["code"]) == (404, "key_unknown")


def test_another_users_key_is_not_there(client: TestClient, ada: Mapping[str, Any]) -> None:
    key = make_key(client, ada)
    eve = sign_up(client, "eve@example.org")
    answer = client.delete(f"/v1/api-keys/{key['id']}", headers=eve["headers"])
    assert (answer.status_code, answer.json()["code"]) == (404, "key_unknown")
    assert client.get("/v1/api-keys", headers=eve["headers"]).json()["data"] == []
    assert use(client, key["secret"]) == 200


def test_a_key_expires(client: TestClient, ada: Mapping[str, Any], clock: Clock) -> None:
    key = make_key(client, ada, expires_in_s=3600)
    clock.forward(3590)
    assert use(client, key["secret"]) == 200
    clock.forward(11)
    assert use(client, key["secret"]) == 401


def test_a_key_without_expiry_stays(
    client: TestClient, ada: Mapping[str, Any], clock: Clock
) -> None:
    key = make_key(client, ada)
    clock.forward(5 * 365 * 86400)
    assert use(client, key["secret"]) == 200


def test_a_key_goes_with_its_user(client: TestClient, ada: Mapping[str, Any]) -> None:
    key = make_key(client, ada)
    gone = client.request(
        "DELETE", "/v1/users/me", json={"password": PASSWORD}, headers=ada["headers"]
    )
    assert gone.status_code == 204
    assert use(client, key["secret"]) == 401


def test_keys_rest_while_their_user_is_disabled(
    client: TestClient, services: Services, ada: Mapping[str, Any]
) -> None:
    key = make_key(client, ada)
    user_id = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    admin.change_user(services, user_id, UserChange(disabled=True))
    assert use(client, key["secret"]) == 401
    admin.change_user(services, user_id, UserChange(disabled=False))
    assert use(client, key["secret"]) == 200


def test_keys_outlive_sessions(client: TestClient, ada: Mapping[str, Any]) -> None:
    key = make_key(client, ada)
    client.delete("/v1/sessions", headers=ada["headers"])
    assert use(client, key["secret"]) == 200


def test_when_a_key_was_last_used_is_written_at_most_once_a_minute(
    client: TestClient, services: Services, ada: Mapping[str, Any], clock: Clock
) -> None:
    secret = make_key(client, ada)["secret"]

    def last_used() -> float | None:
        with services.database.read() as tx:
            query = sa.select(tables.api_keys.c.last_used_at)
            value = tx.connection.execute(query).scalar_one()
            return None if value is None else float(value)

    assert last_used() is None
    use(client, secret)
    first = last_used()
    assert first is not None
    clock.forward(50)
    use(client, secret)
    assert last_used() == first
    clock.forward(11)
    use(client, secret)
    assert (last_used() or 0) >= first + 60
    clock.forward(1000)
    use(client, secret[:-1] + ("0" if secret[-1] != "0" else "1"))
    assert (last_used() or 0) < first + 500  # a wrong key is no use


def test_a_key_that_is_used_can_be_asked_whether_it_is_still_good(
    client: TestClient, services: Services, ada: Mapping[str, Any]
) -> None:
    key = make_key(client, ada)
    user_id = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    who = Principal(user_id, "user", frozenset(get_args(Scope)), key_id=key["id"])
    assert accounts.still_good(services, who)
    client.delete(f"/v1/api-keys/{key['id']}", headers=ada["headers"])
    assert not accounts.still_good(services, who)


# --- forged keys --------------------------------------------------------------------------------


def forged(secret: str, other: str) -> Iterator[str]:
    tck, prefix, rest = secret.split("_")
    yield from (
        f"{tck}_{prefix}_{'0' * 64}",
        f"{tck}_{prefix}_{other.split('_')[2]}",
        f"{tck}_{other.split('_')[1]}_{rest}",
        f"{tck}_{'0' * 12}_{rest}",
        f"{tck}_{prefix}",
        f"{tck}_{prefix}_",
        f"{tck}_{rest}",
        f"{tck}__{rest}",
        secret[:-1],
        secret + "0",
        secret + "\x7f",
        secret.upper(),
        f"{tck}_{prefix}_{rest.upper()}",
        secret.replace("_", "-"),
        secret.replace("tck", "tcx"),
        f"{tck}_%_{rest}",
        f"{tck}_{prefix}' OR '1'='1_{rest}",
        "tck_",
        "tck_" + "a" * 100_000,
    )


def test_a_forged_key_is_refused(client: TestClient, ada: Mapping[str, Any]) -> None:
    secret, other = make_key(client, ada)["secret"], make_key(client, ada)["secret"]
    assert use(client, secret) == 200
    for text in forged(secret, other):
        assert use(client, text) == 401, text[:100]


def test_what_the_database_holds_is_no_key(
    client: TestClient, services: Services, ada: Mapping[str, Any]
) -> None:
    secret = make_key(client, ada)["secret"]
    with services.database.read() as tx:
        row = tx.connection.execute(sa.select(tables.api_keys)).one()
    assert use(client, f"{row.prefix}_{row.secret_hash}") == 401
    assert use(client, row.secret_hash) == 401
    assert use(client, secret) == 200


def test_a_key_is_nothing_as_a_cookie(client: TestClient, ada: Mapping[str, Any]) -> None:
    secret = make_key(client, ada)["secret"]
    answer = client.get("/probe/role", headers={"Cookie": f"__Host-telecine_access={secret}"})
    assert answer.status_code == 401


# --- keys and accounts --------------------------------------------------------------------------


def test_an_administrators_key_is_a_users_key(
    client: TestClient, services: Services, ada: Mapping[str, Any]
) -> None:
    user_id = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    admin.change_user(services, user_id, UserChange(role="admin"))
    key = make_key(client, ada)
    answer = client.get("/probe/role", headers={"Authorization": f"Bearer {key['secret']}"})
    assert answer.json() == "user"
    assert client.get("/probe/role", headers=ada["headers"]).json() == "admin"


def test_creating_a_key_again_with_an_idempotency_key_gives_the_first(
    client: TestClient, services: Services, ada: Mapping[str, Any]
) -> None:
    headers = {**ada["headers"], "Idempotency-Key": "the same"}
    body = {"name": "k", "scopes": ["jobs:read"]}
    first = client.post("/v1/api-keys", json=body, headers=headers)
    again = client.post("/v1/api-keys", json=body, headers=headers)
    assert first.json() == again.json()
    listed = client.get("/v1/api-keys", headers=ada["headers"]).json()["data"]
    assert len(listed) == 1
