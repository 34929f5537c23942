"""Sessions over HTTP: log in, refresh, cookies and CSRF, lifetimes, ends, limits of failures."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import Morsel, SimpleCookie
from itertools import cycle
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, Clock, sign_up

from telecine.service import accounts, sessions
from telecine.service.admin import UserChange, change_user
from telecine.service.api import cookies
from telecine.service.api.app import make_app
from telecine.service.db import tables
from telecine.service.domain import SCOPES, Principal, TooMany
from telecine.service.login_limits import (
    LoginLimits,
    address_bucket,
    log_in_buckets,
    network_of,
)
from telecine.service.passwords import Hasher
from telecine.service.services import Services
from telecine.service.settings import Settings

ADA = {"email": "ada@example.org", "password": PASSWORD}
WRONG = {"email": "ada@example.org", "password": "not her password"}
HTTPS = "https://127.0.0.1:8000"


@pytest.fixture
def from_address(app: FastAPI) -> Callable[[str], TestClient]:
    """A client at another address."""
    return lambda address: TestClient(
        app, base_url="http://127.0.0.1:8000", client=(address, 50_000)
    )


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that failures are counted by, which the test may put forward."""
    clock, real = Clock(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + clock.ahead_s)
    return clock


def bearer(answer: httpx2.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def refresh(client: TestClient, token: str) -> httpx2.Response:
    return client.post("/v1/sessions/refresh", json={"refresh_token": token})


def works(client: TestClient, headers: dict[str, str]) -> bool:
    answer = client.get("/v1/users/me", headers=headers)
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


# --- log in -------------------------------------------------------------------------------------


def test_log_in_opens_a_session(client: TestClient) -> None:
    sign_up(client)
    answer = client.post("/v1/sessions", json=ADA, headers={"User-Agent": "curl/8"})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in_s"] == 900
    assert body["session"]["user_agent"] == "curl/8"
    assert body["session"]["address"] == "testclient"
    current = client.get("/v1/sessions/current", headers=bearer(answer)).json()
    assert current["id"] == body["session"]["id"]
    assert current["current"] is True


def test_the_address_is_found_however_it_is_written(client: TestClient) -> None:
    sign_up(client)
    for email in ("ADA@Example.ORG", " ada@example.org ", "ada＠example.org"):
        answer = client.post("/v1/sessions", json={**ADA, "email": email})
        assert answer.status_code == 201, email


@pytest.mark.parametrize(
    "body",
    [
        WRONG,
        {"email": "nobody@example.org", "password": PASSWORD},
        {"email": "no address at all", "password": PASSWORD},
        {"email": "ada@example.org", "password": ""},
        {"email": "ada@example.org", "password": PASSWORD + "x"},
        {"email": "ada@example.org", "password": PASSWORD[:-1]},
        {"email": "ada@example.org", "password": PASSWORD.upper()},
    ],
)
def test_a_failed_log_in_says_always_the_same(client: TestClient, body: dict[str, str]) -> None:
    sign_up(client)
    answer = client.post("/v1/sessions", json=body)
    assert answer.status_code == 401
    said = answer.json()
    del said["request_id"]
    assert said == {
        "type": "urn:telecine:problem:login_failed",
        "title": "Unauthorized",
        "status": 401,
        "code": "login_failed",
        "detail": "wrong e-mail or password",
    }


def test_a_failed_log_in_takes_always_the_same_work(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hash with the same parameters is checked, whoever is asked for."""
    sign_up(client)
    checked: list[str] = []
    fits = Hasher.fits

    def watched(self: Hasher, password: str, kept: str) -> bool:
        checked.append(kept.rsplit("$", 2)[0])
        return fits(self, password, kept)

    monkeypatch.setattr(Hasher, "fits", watched)
    with services.database.write() as tx:
        tx.connection.execute(
            sa.insert(tables.users).values(
                id="disabled", email="off@example.org", role="user", disabled=True, created_at=0,
                password_hash="$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$"
                "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
            )
        )  # fmt: skip
    for email in ("ada@example.org", "nobody@example.org", "off@example.org", "junk"):
        client.post("/v1/sessions", json={"email": email, "password": "wrong"})
    assert checked == ["$argon2id$v=19$m=64,t=1,p=1"] * 4


def test_a_disabled_account_is_told_to_its_owner_alone(
    client: TestClient, services: Services
) -> None:
    headers = sign_up(client)["headers"]
    user_id = client.get("/v1/users/me", headers=headers).json()["id"]
    change_user(services, user_id, UserChange(disabled=True))
    right = client.post("/v1/sessions", json=ADA)
    assert (right.status_code, right.json()["code"]) == (403, "account_disabled")
    assert client.post("/v1/sessions", json=WRONG).json()["code"] == "login_failed"


@pytest.mark.parametrize("extra", [{"role": "admin"}, {"user_id": "x"}, {"token": "x"}])
def test_unknown_fields_are_refused(client: TestClient, extra: dict[str, str]) -> None:
    sign_up(client)
    assert client.post("/v1/sessions", json={**ADA, **extra}).status_code == 422


def test_a_password_that_changes_while_it_is_checked_opens_no_session(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_up(client)
    fits = Hasher.fits

    def overtaken(self: Hasher, password: str, kept: str) -> bool:
        with services.database.write() as tx:
            tx.connection.execute(sa.update(tables.users).values(password_hash=kept + "A"))
        return fits(self, password, kept)

    monkeypatch.setattr(Hasher, "fits", overtaken)
    assert client.post("/v1/sessions", json=ADA).status_code == 401


def test_what_a_browser_says_of_itself_is_kept_as_one_short_line(client: TestClient) -> None:
    sign_up(client)
    name = ("x" * 400).encode() + b"\x01\x9b"
    answer = client.post("/v1/sessions", json=ADA, headers={b"User-Agent": name})
    assert answer.json()["session"]["user_agent"] == "x" * 300


# --- refresh ------------------------------------------------------------------------------------


def test_refresh_gives_new_tokens(client: TestClient, clock: Clock) -> None:
    first = sign_up(client)
    clock.forward(1)
    answer = refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    body = answer.json()
    assert body["refresh_token"] != first["refresh_token"]
    assert body["access_token"] != first["access_token"]
    assert body["session"]["id"] == first["session"]["id"]
    assert works(client, bearer(answer))
    assert refresh(client, body["refresh_token"]).status_code == 200


def test_a_session_outlives_its_access_tokens_by_refreshing(
    client: TestClient, services: Services, clock: Clock
) -> None:
    first = sign_up(client)
    clock.forward(services.settings.access_ttl_s + 1)
    expired = client.get("/v1/users/me", headers=first["headers"])
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")
    assert works(client, bearer(refresh(client, first["refresh_token"])))


def test_a_refresh_token_used_again_ends_the_session(client: TestClient, clock: Clock) -> None:
    """Whoever came second: the thief, or the owner after the thief."""
    first = sign_up(client)
    other = client.post("/v1/sessions", json=ADA)
    second = refresh(client, first["refresh_token"])
    clock.forward(11)
    answer = refresh(client, first["refresh_token"])
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_reused")
    assert not works(client, first["headers"])
    assert not works(client, bearer(second))
    last = refresh(client, second.json()["refresh_token"])
    assert (last.status_code, last.json()["code"]) == (401, "session_ended")
    assert works(client, bearer(other))  # another session of the same user goes on


def test_an_old_refresh_token_ends_the_session_too(client: TestClient, clock: Clock) -> None:
    """Not just the last one but any of the family."""
    first = sign_up(client)
    newest = first["refresh_token"]
    for _ in range(5):
        clock.forward(3600)
        newest = refresh(client, newest).json()["refresh_token"]
    assert refresh(client, first["refresh_token"]).json()["code"] == "refresh_reused"
    assert refresh(client, newest).json()["code"] == "session_ended"


def test_a_lost_answer_is_no_reuse(client: TestClient, clock: Clock) -> None:
    first = sign_up(client)
    lost = refresh(client, first["refresh_token"])
    clock.forward(8)
    second = refresh(client, first["refresh_token"])
    assert second.json()["refresh_token"] != lost.json()["refresh_token"]
    assert works(client, bearer(second))
    clock.forward(60)
    assert works(client, bearer(refresh(client, second.json()["refresh_token"])))


def test_refreshes_at_once_leave_one_family_of_tokens(
    client: TestClient, services: Services
) -> None:
    """Two pages of one browser, which keeps the cookies of whichever answer came last."""
    first = sign_up(client)
    start = threading.Barrier(8)

    def ask(_: int) -> httpx2.Response:
        start.wait()
        return refresh(client, first["refresh_token"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert [a.status_code for a in answers] == [200] * 8
    assert all(works(client, bearer(answer)) for answer in answers)
    going_on = refresh(client, answers[3].json()["refresh_token"])
    assert works(client, bearer(going_on))
    with services.database.read() as tx:
        unused = tables.refresh_tokens.c.used_at.is_(None)
        query = sa.select(sa.func.count()).select_from(tables.refresh_tokens).where(unused)
        assert tx.connection.execute(query).scalar_one() == 1


@pytest.mark.parametrize("token", ["tcr_" + "0" * 64, "x", "tcr_", "é"])
def test_an_unknown_refresh_token_is_refused(client: TestClient, token: str) -> None:
    sign_up(client)
    answer = refresh(client, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")


def test_an_access_token_is_no_refresh_token(client: TestClient) -> None:
    first = sign_up(client)
    assert refresh(client, first["access_token"]).status_code in (401, 422)


def test_refreshing_without_a_token_is_refused(client: TestClient) -> None:
    bodies: list[dict[str, Any]] = [{"json": {}}, {"json": {"refresh_token": None}}, {}]
    for body in bodies:
        answer = client.post("/v1/sessions/refresh", **body)
        assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")


def test_a_disabled_user_refreshes_nothing(client: TestClient, services: Services) -> None:
    first = sign_up(client)
    with services.database.write() as tx:
        tx.connection.execute(sa.update(tables.users).values(disabled=True))
    assert refresh(client, first["refresh_token"]).json()["code"] == "session_ended"


# --- lifetimes ----------------------------------------------------------------------------------


def test_an_unused_session_ends(client: TestClient, services: Services, clock: Clock) -> None:
    first = sign_up(client)
    clock.forward(services.settings.session_idle_s - 60)
    answer = refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    clock.forward(services.settings.session_idle_s + 1)
    assert refresh(client, answer.json()["refresh_token"]).json()["code"] == "session_ended"


def test_a_session_in_use_ends_when_it_is_too_old(
    client: TestClient, services: Services, clock: Clock
) -> None:
    token = sign_up(client)["refresh_token"]
    step = services.settings.session_idle_s - 60
    for _ in range(int(services.settings.session_ttl_s // step)):
        clock.forward(step)
        answer = refresh(client, token)
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]
    clock.forward(services.settings.session_ttl_s % step)
    assert refresh(client, token).json()["code"] == "session_ended"


def test_an_access_token_ends_with_its_session(
    client: TestClient, services: Services, clock: Clock
) -> None:
    token = sign_up(client)["refresh_token"]
    step = services.settings.session_idle_s - 60
    left = services.settings.session_ttl_s - 100
    while left > 0:
        clock.forward(min(step, left))
        left -= step
        answer = refresh(client, token)
        token = answer.json()["refresh_token"]
    assert 90 <= answer.json()["expires_in_s"] <= 100


def test_use_of_an_access_token_keeps_a_session_from_idling(
    client: TestClient, services: Services, clock: Clock
) -> None:
    first = sign_up(client)
    clock.forward(services.settings.access_ttl_s - 10)
    assert works(client, first["headers"])
    clock.forward(services.settings.session_idle_s - 60)
    assert refresh(client, first["refresh_token"]).status_code == 200


def test_when_a_session_was_last_used_is_written_at_most_once_a_minute(
    client: TestClient, services: Services, clock: Clock
) -> None:
    headers = sign_up(client)["headers"]

    def last_used() -> float:
        with services.database.read() as tx:
            return float(
                tx.connection.execute(sa.select(tables.sessions.c.last_used_at)).scalar_one()
            )

    opened = last_used()
    clock.forward(50)
    assert works(client, headers)
    assert last_used() == opened
    clock.forward(11)
    assert works(client, headers)
    assert last_used() >= opened + 60


# --- list and end -------------------------------------------------------------------------------


def test_list_mine_and_end_one(client: TestClient) -> None:
    first = sign_up(client)
    second = client.post("/v1/sessions", json=ADA)
    other = sign_up(client, "eve@example.org")
    listed = client.get("/v1/sessions", headers=first["headers"]).json()
    ids = [second.json()["session"]["id"], first["session"]["id"]]
    assert [row["id"] for row in listed["data"]] == ids
    assert [row["current"] for row in listed["data"]] == [False, True]
    assert client.delete(f"/v1/sessions/{ids[0]}", headers=first["headers"]).status_code == 204
    assert not works(client, bearer(second))
    assert works(client, first["headers"])
    again = client.delete(f"/v1/sessions/{ids[0]}", headers=first["headers"])
    assert (again.status_code, again.json()["code"]) == (404, "session_unknown")
    foreign = client.delete(f"/v1/sessions/{other['session']['id']}", headers=first["headers"])
    assert foreign.status_code == 404
    assert works(client, other["headers"])
    listed = client.get("/v1/sessions", headers=first["headers"]).json()
    assert [row["id"] for row in listed["data"]] == ids[1:]


def test_the_list_comes_in_pages(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    made = [client.post("/v1/sessions", json=ADA).json()["session"]["id"] for _ in range(4)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = client.get("/v1/sessions", headers=headers, params=query).json()
        found += [row["id"] for row in page["data"]]
        query["after"] = page["next_cursor"]
    assert page["has_more"] is False
    assert page["next_cursor"] is None
    assert len(found) == 5
    assert found[:4] == made[::-1]


def test_sessions_that_are_over_are_not_listed(
    client: TestClient, services: Services, clock: Clock
) -> None:
    sign_up(client)
    clock.forward(services.settings.session_idle_s + 1)
    now = client.post("/v1/sessions", json=ADA)
    listed = client.get("/v1/sessions", headers=bearer(now)).json()["data"]
    assert [row["id"] for row in listed] == [now.json()["session"]["id"]]


def test_log_out_ends_access_at_once(client: TestClient) -> None:
    first = sign_up(client)
    other = client.post("/v1/sessions", json=ADA)
    assert works(client, first["headers"])
    assert client.delete("/v1/sessions/current", headers=first["headers"]).status_code == 204
    ended = client.get("/v1/users/me", headers=first["headers"])
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")
    assert refresh(client, first["refresh_token"]).json()["code"] == "session_ended"
    assert works(client, bearer(other))


def test_log_out_everywhere(client: TestClient) -> None:
    first = sign_up(client)
    others = [client.post("/v1/sessions", json=ADA) for _ in range(3)]
    eve = sign_up(client, "eve@example.org")
    assert client.delete("/v1/sessions", headers=first["headers"]).status_code == 204
    assert not works(client, first["headers"])
    assert not any(works(client, bearer(one)) for one in others)
    assert works(client, eve["headers"])


def test_who_streams_can_ask_whether_it_is_still_good(
    client: TestClient, services: Services, clock: Clock
) -> None:
    first = sign_up(client)
    user_id = client.get("/v1/users/me", headers=first["headers"]).json()["id"]
    who = Principal(user_id, "user", frozenset(SCOPES), session_id=first["session"]["id"])
    assert accounts.still_good(services, who)
    client.delete("/v1/sessions/current", headers=first["headers"])
    assert not accounts.still_good(services, who)
    second = client.post("/v1/sessions", json=ADA).json()["session"]["id"]
    who = Principal(user_id, "user", frozenset(SCOPES), session_id=second)
    assert accounts.still_good(services, who)
    change_user(services, user_id, UserChange(disabled=True))
    assert not accounts.still_good(services, who)
    nobody = Principal("01ARZ3NDEKTSV4RRFFQ69G5FAV", "user", frozenset(SCOPES), session_id=second)
    assert not accounts.still_good(services, nobody)


def test_old_sessions_are_forgotten(client: TestClient, services: Services, clock: Clock) -> None:
    sign_up(client)

    def kept() -> int:
        with services.database.read() as tx:
            query = sa.select(sa.func.count()).select_from(tables.refresh_tokens)
            return int(tx.connection.execute(query).scalar_one())

    clock.forward(services.settings.session_ttl_s + 80 * 86400)
    client.post("/v1/sessions", json=ADA)
    assert kept() == 2
    clock.forward(11 * 86400)
    client.post("/v1/sessions", json=ADA)
    assert kept() == 2  # the first is gone


# --- cookies and CSRF ---------------------------------------------------------------------------


@pytest.fixture
def browser(app: FastAPI) -> Iterator[TestClient]:
    """A client that keeps cookies, as browsers do with Secure ones."""
    with TestClient(app, base_url=HTTPS) as found:
        yield found


def log_in_by_cookie(browser: TestClient) -> dict[str, str]:
    """What a page of ours sends with unsafe methods."""
    answer = browser.post("/v1/sessions", json={**ADA, "cookies": True})
    assert answer.status_code == 201, answer.text
    return {"Origin": HTTPS, "X-CSRF-Token": answer.json()["csrf_token"]}


def cookies_of(answer: httpx2.Response) -> dict[str, Morsel[str]]:
    found: dict[str, Morsel[str]] = {}
    for line in answer.headers.get_list("set-cookie"):
        found.update(SimpleCookie(line))
    return found


def test_a_session_in_cookies(client: TestClient, browser: TestClient) -> None:
    sign_up(client)
    answer = browser.post("/v1/sessions", json={**ADA, "cookies": True})
    body = answer.json()
    assert body["access_token"] is None
    assert body["refresh_token"] is None
    found = cookies_of(answer)
    assert set(found) == {
        "__Host-telecine_access",
        "__Host-telecine_refresh",
        "__Host-telecine_csrf",
    }
    for name, cookie in found.items():
        assert cookie["secure"] is True
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert cookie["samesite"].lower() == "lax"
        assert bool(cookie["httponly"]) == (name != "__Host-telecine_csrf")
        assert cookie.value not in answer.text or name == "__Host-telecine_csrf"
    assert found["__Host-telecine_csrf"].value == body["csrf_token"]
    assert browser.get("/v1/users/me").json()["email"] == "ada@example.org"
    current = browser.get("/v1/sessions/current").json()
    assert current["csrf_token"] == body["csrf_token"]


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://media.example", True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://192.168.1.5:8000", False),
        ("http://media.example", False),
        ("http://localhost.example", False),
    ],
)
def test_cookies_are_secure_wherever_browsers_take_such(url: str, secure: bool) -> None:
    settings = Settings(public_url=url)
    assert cookies.are_secure(settings) is secure
    name = cookies.name_of("access", settings)
    assert name == ("__Host-telecine_access" if secure else "telecine_access")


def test_without_tls_cookies_have_no_prefix(app_with: Callable[[Settings], FastAPI]) -> None:
    url = "http://192.168.1.5:8000"
    with TestClient(app_with(Settings(public_url=url)), base_url=url) as browser:
        sign_up(browser)
        answer = browser.post("/v1/sessions", json={**ADA, "cookies": True})
        found = cookies_of(answer)
        assert set(found) == {"telecine_access", "telecine_refresh", "telecine_csrf"}
        assert not any(cookie["secure"] for cookie in found.values())
        assert bool(found["telecine_access"]["httponly"])
        assert browser.get("/v1/users/me").status_code == 200


@pytest.fixture
def app_with(services: Services) -> Callable[[Settings], FastAPI]:
    """The API with other settings over the same data."""

    def make(settings: Settings) -> FastAPI:
        merged = settings.model_copy(update={"data": services.settings.data, "signup": "open"})
        return make_app(dataclasses.replace(services, settings=merged))

    return make


def test_an_unprefixed_cookie_is_nothing_where_ours_are_prefixed(client: TestClient) -> None:
    """Another host of the domain, or someone on the way, could have set it."""
    token = sign_up(client)["access_token"]
    answer = client.get("/v1/users/me", headers={"Cookie": f"telecine_access={token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "login_needed")


SAME = HTTPS
CSRF_TABLE: dict[str, tuple[str | None, str | None, int]] = {
    # name: (Origin, X-CSRF-Token: "own", another or none, status)
    "our page": (SAME, "own", 200),
    "no header": (SAME, None, 403),
    "empty header": (SAME, "", 403),
    "another's token": (SAME, "other", 403),
    "the session's id": (SAME, "sid", 403),
    "token cut": (SAME, "cut", 403),
    "token in other case": (SAME, "case", 403),
    "no origin": (None, "own", 403),
    "null origin": ("null", "own", 403),
    "foreign origin": ("https://evil.example", "own", 403),
    "our name, other scheme": ("http://127.0.0.1:8001", "own", 403),
    "our name, other port": ("https://127.0.0.1:9000", "own", 403),
    "our name as a part": ("https://127.0.0.1:8000.evil.example", "own", 403),
    "our name and a path": ("https://127.0.0.1:8000/", "own", 403),
    "nothing": (None, None, 403),
}


@pytest.mark.parametrize("name", CSRF_TABLE)
def test_unsafe_methods_by_cookie(client: TestClient, browser: TestClient, name: str) -> None:
    origin, token, status = CSRF_TABLE[name]
    sign_up(client)
    other = client.post("/v1/sessions", json=ADA)
    others = client.get("/v1/sessions/current", headers=bearer(other)).json()["csrf_token"]
    own = log_in_by_cookie(browser)["X-CSRF-Token"]
    sid = browser.get("/v1/sessions/current").json()["id"]
    values = {
        "own": own,
        "other": others,
        "sid": sid,
        "cut": own[:-1],
        "case": own.swapcase(),
        "": "",
    }
    headers = {} if origin is None else {"Origin": origin}
    if token is not None:
        headers["X-CSRF-Token"] = values[token]
    answer = browser.patch("/v1/users/me", json={"name": "changed"}, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "csrf_failed"
        assert browser.get("/v1/users/me").json()["name"] == ""


def test_every_unsafe_method_is_guarded(client: TestClient, browser: TestClient) -> None:
    sign_up(client)
    log_in_by_cookie(browser)
    password = {"current_password": PASSWORD, "password": "another long password"}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/api-keys", {"name": "k", "scopes": ["jobs:read"]}),
        ("PUT", "/v1/users/me/password", password),
        ("PATCH", "/v1/users/me", {"name": "x"}),
        ("DELETE", "/v1/users/me", {"password": PASSWORD}),
        ("DELETE", "/v1/sessions/current", None),
        ("DELETE", "/v1/sessions", None),
    ]
    for method, path, body in asked:
        answer = browser.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed"), path
    assert browser.get("/v1/users/me").status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"data": {"name": "k"}},
        {"content": b'{"name": "k"}', "headers": {"Content-Type": "text/plain"}},
        {"content": b'{"name": "k"}'},
    ],
)
def test_what_a_form_can_send_changes_nothing(
    client: TestClient, browser: TestClient, form: dict[str, Any]
) -> None:
    """A form of another site sends cookies of a plain-http installation's own site, no JSON."""
    sign_up(client)
    own = log_in_by_cookie(browser)
    form = {**form, "headers": {**own, **form.get("headers", {})}}
    assert browser.patch("/v1/users/me", **form).status_code == 422
    assert browser.get("/v1/users/me").json()["name"] == ""


def test_a_bearer_token_needs_no_csrf_token(client: TestClient) -> None:
    headers = sign_up(client)["headers"]
    answer = client.patch("/v1/users/me", json={"name": "x"}, headers=headers)
    assert answer.status_code == 200


def test_an_allowed_origin_may_act(
    client: TestClient, app_with: Callable[[Settings], FastAPI]
) -> None:
    sign_up(client)
    app = app_with(Settings(cors_origins=("https://app.example",)))
    with TestClient(app, base_url=HTTPS) as browser:
        own = log_in_by_cookie(browser)
        for origin, status in (("https://app.example", 200), ("https://app2.example", 403)):
            headers = {**own, "Origin": origin}
            answer = browser.patch("/v1/users/me", json={"name": "x"}, headers=headers)
            assert answer.status_code == status


def test_refreshing_by_cookie(client: TestClient, browser: TestClient, clock: Clock) -> None:
    sign_up(client)
    own = log_in_by_cookie(browser)
    before = dict(browser.cookies)
    clock.forward(1000)  # past the access token's life
    assert browser.get("/v1/users/me").json()["code"] == "token_expired"
    for headers in ({}, {"Origin": HTTPS}, {**own, "Origin": "https://evil.example"}):
        refused = browser.post("/v1/sessions/refresh", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    answer = browser.post("/v1/sessions/refresh", headers=own)
    assert answer.status_code == 200, answer.text
    assert answer.json()["access_token"] is None
    assert answer.json()["refresh_token"] is None
    assert browser.cookies["__Host-telecine_refresh"] != before["__Host-telecine_refresh"]
    assert browser.get("/v1/users/me").status_code == 200


def test_an_unknown_refresh_cookie_is_refused(client: TestClient) -> None:
    headers = {"Cookie": "__Host-telecine_refresh=x", "Origin": "http://127.0.0.1:8000"}
    answer = client.post("/v1/sessions/refresh", headers=headers)
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("path", ["/v1/sessions/current", "/v1/sessions"])
def test_logging_out_removes_the_cookies(
    client: TestClient, browser: TestClient, path: str
) -> None:
    sign_up(client)
    own = log_in_by_cookie(browser)
    stolen = dict(browser.cookies)
    answer = browser.delete(path, headers=own)
    assert answer.status_code == 204
    for cookie in cookies_of(answer).values():
        assert cookie["max-age"] == "0"
        assert cookie["secure"] is True
    assert not browser.cookies
    header = {"Cookie": f"__Host-telecine_access={stolen['__Host-telecine_access']}"}
    assert client.get("/v1/users/me", headers=header).status_code == 401


def test_logging_in_again_ends_the_browsers_earlier_session(
    client: TestClient, browser: TestClient
) -> None:
    sign_up(client)
    log_in_by_cookie(browser)
    old = browser.cookies["__Host-telecine_access"]
    log_in_by_cookie(browser)
    assert browser.cookies["__Host-telecine_access"] != old
    headers = {"Cookie": f"__Host-telecine_access={old}"}
    assert client.get("/v1/users/me", headers=headers).status_code == 401
    assert browser.get("/v1/users/me").status_code == 200


def test_a_foreign_page_logs_nobody_in(client: TestClient, browser: TestClient) -> None:
    sign_up(client)
    for origin in ("https://evil.example", "null"):
        answer = browser.post(
            "/v1/sessions", json={**ADA, "cookies": True}, headers={"Origin": origin}
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert not browser.cookies


# --- limits of failures -------------------------------------------------------------------------


def test_five_failures_a_minute_of_an_account(
    client: TestClient, from_address: Callable[[str], TestClient], wall: Clock
) -> None:
    sign_up(client)
    strangers = [from_address(f"198.51.100.{i}") for i in range(7)]
    answers = [stranger.post("/v1/sessions", json=WRONG) for stranger in strangers]
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 2
    assert answers[-1].json()["code"] == "login_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    # Not even the right password helps a stranger then …
    assert strangers[0].post("/v1/sessions", json=ADA).status_code == 429
    # … and the owner comes in from where they have been before.
    assert client.post("/v1/sessions", json=ADA).status_code == 201
    wall.forward(61)
    assert strangers[0].post("/v1/sessions", json=ADA).status_code == 201


def test_retry_after_is_true(
    client: TestClient, from_address: Callable[[str], TestClient], wall: Clock
) -> None:
    sign_up(client)
    stranger = from_address("198.51.100.1")
    for _ in range(5):
        stranger.post("/v1/sessions", json=WRONG)
        wall.forward(4)
    wait_s = int(stranger.post("/v1/sessions", json=ADA).headers["retry-after"])
    assert 35 <= wait_s <= 41  # 60 after the first, 20 of which have gone
    wall.forward(wait_s - 3)
    assert stranger.post("/v1/sessions", json=ADA).status_code == 429
    wall.forward(4)
    assert stranger.post("/v1/sessions", json=ADA).status_code == 201


def test_the_owner_is_limited_at_a_known_address_too(client: TestClient) -> None:
    sign_up(client)
    answers = [client.post("/v1/sessions", json=WRONG).status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]


def test_unknown_accounts_are_limited_alike(
    client: TestClient, from_address: Callable[[str], TestClient]
) -> None:
    """Else the limit would tell who has an account."""
    body = {"email": "nobody@example.org", "password": "x"}
    clients = [from_address(f"198.51.100.{i}") for i in range(6)]
    answers = [one.post("/v1/sessions", json=body) for one in clients]
    assert [a.status_code for a in answers] == [401] * 5 + [429]


def test_other_spellings_of_an_address_count_as_one(client: TestClient) -> None:
    names = ["a@example.org", "A@example.org", " a@example.org", "a@EXAMPLE.org", "a＠example.org"]
    for name in names:
        client.post("/v1/sessions", json={"email": name, "password": "x"})
    answer = client.post("/v1/sessions", json={"email": "a@example.org", "password": "x"})
    assert answer.status_code == 429


def test_twenty_failures_a_minute_of_an_address(
    client: TestClient, from_address: Callable[[str], TestClient], wall: Clock
) -> None:
    sign_up(client)
    guesser = from_address("203.0.113.9")
    statuses = [
        guesser.post("/v1/sessions", json={"email": f"u{i}@example.org", "password": "x"})
        for i in range(21)
    ]
    assert [a.status_code for a in statuses] == [401] * 20 + [429]
    assert guesser.post("/v1/sessions", json=ADA).status_code == 429
    assert from_address("203.0.113.10").post("/v1/sessions", json=ADA).status_code == 201
    wall.forward(61)
    assert guesser.post("/v1/sessions", json=ADA).status_code == 201


def test_success_is_not_counted(client: TestClient) -> None:
    sign_up(client)
    for _ in range(25):
        assert client.post("/v1/sessions", json=ADA).status_code == 201


def test_guesses_at_once_are_limited_as_in_turn(
    client: TestClient, from_address: Callable[[str], TestClient]
) -> None:
    sign_up(client)
    stranger = from_address("198.51.100.1")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: stranger.post("/v1/sessions", json=WRONG), range(16)))
    assert sorted(a.status_code for a in answers) == [401] * 5 + [429] * 11


def test_a_right_guess_beyond_the_limit_is_not_told(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may fail while a password is checked: what comes after the fifth tells nothing."""
    sign_up(client)
    known = frozenset({"testclient"})
    buckets = log_in_buckets("ada@example.org", "testclient", known)
    fits = Hasher.fits

    def overtaken(self: Hasher, password: str, kept: str) -> bool:
        for _ in range(5):
            services.login_limits.failed(buckets)
        return fits(self, password, kept)

    monkeypatch.setattr(Hasher, "fits", overtaken)
    assert client.post("/v1/sessions", json=ADA).status_code == 429
    with services.database.read() as tx:
        count = sa.select(sa.func.count()).select_from(tables.sessions)
        assert tx.connection.execute(count).scalar_one() == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_addresses_of_one_customer_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


def test_the_limits_forget(wall: Clock) -> None:
    """However many names were tried: what was kept of them goes, and names do not pile up."""
    limits = LoginLimits()
    buckets = [(address_bucket(f"10.{i >> 8}.{i & 255}.1"),) for i in range(10_050)]
    for one in buckets[:10_000]:
        limits.failed(one)
    wall.forward(61)
    deadline = time.monotonic() + 60  # the library's own thread takes its time
    others = cycle(buckets[10_000:])

    def kept() -> int:
        return sum(bool(entries) for entries in list(limits._storage.events.values()))

    while kept() > 50 and time.monotonic() < deadline:
        limits.failed(next(others))
        time.sleep(0.05)
    assert kept() <= 50
    limits.failed(next(others))  # the names go with the next failure
    assert len(limits._storage.events) <= 10_000


def test_a_full_bucket_says_when_to_come_again() -> None:
    limits = LoginLimits()
    buckets = log_in_buckets("a", "192.0.2.1", frozenset())
    for _ in range(5):
        limits.check(buckets)
        limits.failed(buckets)
    for act in (limits.check, limits.failed):
        with pytest.raises(TooMany) as told:
            act(buckets)
        assert 1 <= told.value.retry_after_s <= 60


def test_ending_the_session_of_a_dead_token_is_no_error(services: Services) -> None:
    sessions.replace(services, "no token")
