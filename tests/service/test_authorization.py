"""Who may ask what: every route of the application stands in one of three tables, and is asked by
everyone who may not. What is refused changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, filling
from tests.service.films import Film, add_film, run_to_end
from tests.service.owners import Owner, owner_of
from tests.service.uploading import patch, tus

from telecine.engine.tools import Tools
from telecine.service.db.tables import metadata, users
from telecine.service.domain import SCOPES
from telecine.service.services import Services

Needs = Literal[
    "session", "admin",
    "assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write",
]  # fmt: skip


@dataclass(frozen=True)
class Guarded:
    """A route that asks who is there. `ours`: what its owner gets for the very same request, so
    that a refusal is about who asks and nothing else."""

    needs: Needs
    ours: int
    send: Mapping[str, Any] = field(default_factory=dict)  # {name} stands for an id of the owner's
    nobody: int = 401
    url: str | None = None  # where the path itself does not say which of the owner's things

    def names_a_thing(self, path: str) -> bool:
        return "{" in path + json.dumps(self.send.get("json", {})).strip("{}") + (self.url or "")

    def unknown(self, path: str) -> str:
        """The code of a 404: the thing that the path names, or the body, is not there."""
        named = re.search(r"\{(\w+)_id\}", path + json.dumps(self.send.get("json", {})))
        return f"{named[1]}_unknown" if named else ""


EDIT = {"json": {"name": "Somebody"}}
PASSWORDS = {"json": {"current_password": PASSWORD, "password": "another word of 9 letters"}}
OPEN = {"json": {"filename": "a.wav", "size_bytes": 9}}
WAV = {"files": {"file": ("a.wav", b"RIFF", "audio/wav")}}
JOB = {"json": {"asset_id": "{asset_id}", "preset": "mp3"}}
NINE = {"headers": patch({}, 0), "content": b"12345678"}

GUARDED = {
    "GET /v1/users/me": Guarded("session", 200),
    "PATCH /v1/users/me": Guarded("session", 200, EDIT),
    "DELETE /v1/users/me": Guarded("session", 204, {"json": {"password": PASSWORD}}),
    "PUT /v1/users/me/password": Guarded("session", 204, PASSWORDS),
    "GET /v1/sessions": Guarded("session", 200),
    "GET /v1/sessions/current": Guarded("session", 200),
    "DELETE /v1/sessions/current": Guarded("session", 204),
    "DELETE /v1/sessions/{session_id}": Guarded("session", 204),
    "DELETE /v1/sessions": Guarded("session", 204),
    "POST /v1/api-keys": Guarded("session", 201, {"json": {"name": "k", "scopes": ["jobs:read"]}}),
    "GET /v1/api-keys": Guarded("session", 200),
    "DELETE /v1/api-keys/{key_id}": Guarded("session", 204),
    "POST /v1/image-keys": Guarded("session", 201, {"json": {"name": "k"}}),
    "GET /v1/image-keys": Guarded("session", 200),
    "DELETE /v1/image-keys/{image_key_id}": Guarded("session", 204),
    "GET /v1/admin/users": Guarded("admin", 200),
    "PATCH /v1/admin/users/{user_id}": Guarded("admin", 200, {"json": {"role": "admin"}}),
    "DELETE /v1/admin/users/{user_id}": Guarded("admin", 204),
    "POST /v1/admin/users/{user_id}/password-reset": Guarded("admin", 201),
    "POST /v1/admin/invites": Guarded("admin", 201),
    "POST /v1/uploads": Guarded("uploads:write", 201, OPEN),
    "GET /v1/uploads": Guarded("uploads:write", 200),
    "POST /v1/uploads/presigned-post": Guarded("uploads:write", 201, {"json": {"title": "a"}}),
    "GET /v1/uploads/{upload_id}": Guarded("uploads:write", 200),
    "DELETE /v1/uploads/{upload_id}": Guarded("uploads:write", 204),
    "POST /v1/uploads/{upload_id}/complete": Guarded("uploads:write", 409),  # no bytes are there
    "POST /v1/uploads/{upload_id}/parts": Guarded("uploads:write", 200, {"json": {"numbers": [1]}}),
    "POST /v1/uploads/form": Guarded("uploads:write", 422, WAV),  # which is no sound
    "POST /v1/tus": Guarded("uploads:write", 201, {"headers": tus({}, upload_length="9")}),
    "HEAD /v1/tus/{upload_id}": Guarded("uploads:write", 200, {"headers": tus({})}),
    "PATCH /v1/tus/{upload_id}": Guarded("uploads:write", 204, NINE),
    "DELETE /v1/tus/{upload_id}": Guarded("uploads:write", 204, {"headers": tus({})}),
    "POST /v1/tus/{upload_id}": Guarded(
        "uploads:write", 204, {"headers": tus({}, x_http_method_override="DELETE")}
    ),
    "GET /v1/assets": Guarded("assets:read", 200),
    # What is public needs no log-in, so nobody is told that a private one is there.
    "GET /v1/assets/{asset_id}": Guarded("assets:read", 200, nobody=404),
    "GET /v1/assets/{asset_id}/playback": Guarded("assets:read", 200, nobody=404),
    "PATCH /v1/assets/{asset_id}": Guarded("assets:write", 200, {"json": {"title": "Theirs"}}),
    "DELETE /v1/assets/{asset_id}": Guarded("assets:write", 204),
    "GET /v1/assets/{asset_id}/source": Guarded("assets:read", 200),
    "POST /v1/jobs": Guarded("jobs:write", 202, JOB),
    "POST /v1/jobs/estimate": Guarded("jobs:read", 200, JOB),
    "GET /v1/jobs": Guarded("jobs:read", 200),
    "GET /v1/jobs/{job_id}": Guarded("jobs:read", 200),
    "POST /v1/jobs/{job_id}/cancel": Guarded("jobs:write", 200),
    "POST /v1/jobs/{job_id}/retry": Guarded("jobs:write", 409),  # it has not failed
    "GET /v1/jobs/{job_id}/outputs": Guarded("jobs:read", 200, url="/v1/jobs/{done_id}/outputs"),
    # Of a job that has ended: the stream ends too.
    "GET /v1/jobs/{job_id}/events": Guarded("jobs:read", 200, url="/v1/jobs/{done_id}/events"),
}


@dataclass(frozen=True)
class ByPath:
    """A route whose path or form is the permission: what somebody gets who names a private thing
    and has not got its signature, whoever they are."""

    refused: int
    why: str
    send: Mapping[str, Any] = field(default_factory=dict)


LINK = "a link is given on: its signature names the file and an end"
PICTURE = "pages send no log-in: the signature names key, end, operations and asset"
PAGE = "players and framed pages send no log-in: a private asset's URL carries a token"
PART = {"content": b"123456789"}
FORM = {
    "data": {"upload_id": "{upload_id}", "policy": "e30", "signature": "0" * 64},
    "files": {"file": ("a.wav", b"RIFF", "audio/wav")},
}

BY_PATH = {
    "GET /d/{signature}/{output_id}/{filename}": ByPath(403, LINK),
    "HEAD /d/{signature}/{output_id}/{filename}": ByPath(403, LINK),
    "GET /d/{signature}/source/{asset_id}/{filename}": ByPath(403, LINK),
    "HEAD /d/{signature}/source/{asset_id}/{filename}": ByPath(403, LINK),
    "GET /i/{link}/{ops}/{asset_id}.{ext}": ByPath(403, PICTURE),
    "HEAD /i/{link}/{ops}/{asset_id}.{ext}": ByPath(403, PICTURE),
    "PUT /v1/uploads/{upload_id}/parts/{number}": ByPath(
        403, "a signed URL takes one part, from whoever was given it", PART
    ),
    "POST /v1/uploads/post": ByPath(
        403, "a form with a signed policy takes one file, from whoever was given it", FORM
    ),
    "GET /embed/{asset_id}": ByPath(404, PAGE),
    "GET /embed/{asset_id}/state": ByPath(404, PAGE),
    "GET /p/{token}/embed/{asset_id}": ByPath(404, PAGE),
    "GET /p/{token}/embed/{asset_id}/state": ByPath(404, PAGE),
    "GET /media/{asset_id}/{done_id}/{path:path}": ByPath(404, PAGE),
    "HEAD /media/{asset_id}/{done_id}/{path:path}": ByPath(404, PAGE),
    "GET /p/{token}/{asset_id}/{done_id}/{path:path}": ByPath(404, PAGE),
    "HEAD /p/{token}/{asset_id}/{done_id}/{path:path}": ByPath(404, PAGE),
}

PUBLIC = {
    "POST /v1/users": "who signs up has no account yet",
    "POST /v1/sessions": "who logs in has no session yet; the password is the proof",
    "POST /v1/sessions/refresh": "an access token may have run out; the refresh token is the proof",
    "POST /v1/password-resets": "the password is forgotten; a one-time token is the proof",
    "GET /password-reset": "the page for that token, which stays in the browser",
    "GET /v1/gallery": "what its owners made public",
    "GET /v1/presets": "the same for everyone, and in the documentation",
    "OPTIONS /v1/tus": "what the server speaks; browsers ask before they log in",
    "OPTIONS /v1/tus/{upload_id}": "the same; looks at no upload",
    "GET /player/{name}": "the player's own script and style",
    "GET /healthz": "whether the process lives: who watches it has no account",
    "GET /readyz": "the same of database, storage and sandbox; names none of them",
    "GET /openapi.json": "the API's description",
    "GET /": "leads to the page that shows the API",
    "GET /docs": "the page that shows it",
    "GET /docs/{name}": "its script and style",
}


def test_every_route_is_in_a_table(app: FastAPI) -> None:
    """A new route is put into one of them."""
    there = {
        f"{method} {context.path}"
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ("",)
    }
    tables = [set(GUARDED), {one.replace("{done_id}", "{job_id}") for one in BY_PATH}, set(PUBLIC)]
    assert set.union(*tables) == there
    assert sum(map(len, tables)) == len(there)  # and in one only
    listed = json.loads(Path(__file__).with_name("operations.json").read_text()).values()
    assert {re.sub(r":path\}", "}", one) for one in there} >= set(listed)


# --- who asks -------------------------------------------------------------------------------------


def check_headers(route: str, headers: Mapping[str, str]) -> None:
    """What every answer says to a browser, whoever asks for what."""
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'" in policy
    assert ("frame-ancestors 'none'" in policy) or "embed" in route
    assert "server" not in headers


@dataclass(frozen=True)
class World:
    """Ada has one of everything, and all of it is private."""

    client: TestClient
    services: Services
    ids: dict[str, str]
    ada: Owner
    bob: Owner
    admin: Owner

    def ask(self, route: str, headers: Mapping[str, str], send: Mapping[str, Any]) -> Any:
        method, _, path = route.partition(" ")
        sent = {**send, "headers": {**send.get("headers", {}), **headers}}
        for name in ("json", "data"):
            if name in sent:
                sent[name] = json.loads(self.fill(json.dumps(sent[name])))
        answer = self.client.request(method, self.fill(path), **sent)
        check_headers(route, answer.headers)
        return answer

    def fill(self, text: str) -> str:
        return re.sub(r"\{(\w+)(:path)?\}", lambda found: self.ids[found[1]], text)

    def rows(self) -> dict[str, list[Any]]:
        """All that is kept, but when somebody was last seen."""
        with self.services.database.read() as tx:
            found = {
                table.name: [
                    {k: v for k, v in row._mapping.items() if k != "last_used_at"}
                    for row in tx.connection.execute(
                        sa.select(table).order_by(*table.primary_key.columns)
                    )
                ]
                for table in metadata.sorted_tables
            }
        return {**found, "files": sorted(self.services.storage.keys(""))}


@dataclass(frozen=True)
class Made:
    """What is in the installation that each test gets a copy of; users are headers and an id."""

    data: Path
    ids: dict[str, str]
    ada: tuple[dict[str, str], str]
    bob: tuple[dict[str, str], str]
    admin: tuple[dict[str, str], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tools: Tools, empty: Path, film: Film) -> Made:
    data = tmp_path_factory.mktemp("made") / "data"
    with filling(data, tools, empty) as (client, services):
        return fill(client, services, film)


def fill(client: TestClient, services: Services, film: Film) -> Made:
    ada = owner_of(client)
    asset_id = add_film(services, ada.user_id, film)
    done_id = ada.submit(asset_id)["id"]
    run_to_end(services, done_id, {"master.m3u8": b"#EXTM3U\n", "poster.jpg": b"\xff\xd8"})
    (output, *_) = ada.get(f"/v1/jobs/{done_id}/outputs")["data"]
    upload = ada.post("/v1/uploads", OPEN["json"], 201)
    client.post("/v1/sessions", json={"email": "ada@example.org", "password": PASSWORD})
    sessions = ada.get("/v1/sessions")["data"]
    far = "4102444800"  # in 2100: what fails is the signature, not the clock
    ids = {
        "asset_id": asset_id,
        "done_id": done_id,
        "job_id": ada.submit(asset_id)["id"],  # waits
        "output_id": output["id"],
        "upload_id": upload["id"],
        "key_id": ada.post("/v1/api-keys", {"name": "mine", "scopes": list(SCOPES)}, 201)["id"],
        "image_key_id": ada.post("/v1/image-keys", {"name": "mine"}, 201)["id"],
        "link": f"01KAJ9XK6B2T3W4Y5Z6A7B8C9D.{far}.{'A' * 43}",
        "ops": "-",
        "ext": "webp",
        "session_id": next(one["id"] for one in sessions if not one["current"]),
        "user_id": ada.user_id,
        "signature": f"{far}.{'A' * 43}",
        "token": f"{far}.{'A' * 43}",
        "number": f"1?signature={far}.{'A' * 43}",
        "filename": "film.mp4",
        "path": "master.m3u8",
    }
    bob, admin = owner_of(client, "bob@example.org"), owner_of(client, "root@example.org")
    with services.database.write() as tx:
        is_admin = users.c.id == admin.user_id
        tx.connection.execute(sa.update(users).where(is_admin).values(role="admin"))
    found = [(one.headers, one.user_id) for one in (ada, bob, admin)]
    return Made(services.settings.data, ids, *found)


@pytest.fixture(scope="module")
def installed(made: Made) -> Path:
    return made.data


@pytest.fixture
def world(client: TestClient, services: Services, made: Made) -> World:
    owners = (Owner(client, *one) for one in (made.ada, made.bob, made.admin))
    return World(client, services, dict(made.ids), *owners)


def key_of(owner: Owner, *scopes: str, revoked: bool = False) -> dict[str, str]:
    key = owner.post("/v1/api-keys", {"name": "a program", "scopes": list(scopes)}, 201)
    if revoked:
        owner.ask("DELETE", f"/v1/api-keys/{key['id']}", 204)
    return {"Authorization": f"Bearer {key['secret']}"}


def logged_out(owner: Owner, email: str) -> dict[str, str]:
    asked = {"email": email, "password": PASSWORD}
    token = owner.client.post("/v1/sessions", json=asked).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert owner.client.delete("/v1/sessions/current", headers=headers).status_code == 204
    return headers


Refused = tuple[str, dict[str, str], int, str]


def refused(world: World, path: str, row: Guarded) -> Iterator[Refused]:
    """Who is refused, what they bring, and the status and the code that they get."""
    mine, email = world.ada, "ada@example.org"
    if row.needs == "admin":
        mine, email = world.admin, "root@example.org"
    unknown = row.unknown(path)
    yield "nobody", {}, row.nobody, "login_needed" if row.nobody == 401 else unknown
    yield "a token that is none", {"Authorization": "Bearer tck_0_0"}, 401, "key_invalid"
    yield "my revoked key", key_of(mine, *SCOPES, revoked=True), 401, "key_invalid"
    yield "my session that is logged out", logged_out(mine, email), 401, "session_ended"
    if row.needs == "admin":
        yield "no administrator", world.bob.headers, 403, "admin_needed"
        yield "the user whom it is about", world.ada.headers, 403, "admin_needed"
        yield "no administrator's key", key_of(world.bob, *SCOPES), 403, "session_needed"
    if row.needs in ("session", "admin"):
        yield "my key with every scope", key_of(mine, *SCOPES), 403, "session_needed"
        yield "an administrator's key", key_of(world.admin, *SCOPES), 403, "session_needed"
        others = [("another user", world.bob.headers)]
    else:
        key = key_of(mine, *{*SCOPES} - {row.needs})
        yield "my key with every other scope", key, 403, "scope_missing"
        key = key_of(world.bob, *SCOPES)
        others = [("another user", world.bob.headers), ("another user's key", key)]
    if row.names_a_thing(path) and row.needs != "admin":
        yield from ((name, headers, 404, unknown) for name, headers in others)


@pytest.mark.parametrize("route", GUARDED)
def test_a_guarded_route_refuses_everyone_else(world: World, route: str) -> None:
    row = GUARDED[route]
    method, _, path = route.partition(" ")
    asked = f"{method} {row.url or path}"
    wrong = []
    askers = list(refused(world, path, row))
    before = world.rows()
    for name, headers, status, code in askers:
        answer = world.ask(asked, headers, row.send)
        said = code if method == "HEAD" else answer.json().get("code")  # HEAD has no body
        if (answer.status_code, said) != (status, code):
            wrong.append(f"{name}: {answer.status_code} instead of {status}, {code}: {answer.text}")
        assert not any(one in answer.text for one in ("A film", "ada@example.org")), name
    assert wrong == []
    assert world.rows() == before

    mine = world.admin if row.needs == "admin" else world.ada
    answer = world.ask(asked, mine.headers, row.send)
    assert answer.status_code == row.ours, answer.text


LISTS = [
    one
    for one, row in GUARDED.items()
    if one.startswith("GET") and "{" not in one and row.needs != "admin"
]


@pytest.mark.parametrize("route", LISTS)
def test_what_i_list_is_mine(world: World, route: str) -> None:
    theirs = [world.ids[n] for n in ("asset_id", "done_id", "job_id", "upload_id", "key_id",
                                     "image_key_id",
                                     "session_id", "user_id")]  # fmt: skip
    mine = world.ask(route, world.ada.headers, {}).text
    assert any(one in mine for one in theirs) or route == "GET /v1/sessions/current"
    answer = world.ask(route, world.bob.headers, {})
    assert answer.status_code == 200
    assert not any(one in answer.text for one in (*theirs, "A film", "ada@example.org"))


@pytest.mark.parametrize("route", BY_PATH)
def test_what_a_path_permits_needs_its_signature(world: World, route: str) -> None:
    row = BY_PATH[route]
    before = world.rows()
    for who in ({}, world.bob.headers, world.ada.headers, world.admin.headers):
        assert world.ask(route, who, row.send).status_code == row.refused
    assert world.rows() == before


def test_a_job_of_anothers_upload_is_refused(world: World) -> None:
    asked = {"json": {"upload_id": "{upload_id}", "preset": "mp3"}}
    before = world.rows()
    for route in ("POST /v1/jobs", "POST /v1/jobs/estimate"):
        assert world.ask(route, world.ada.headers, asked).status_code == 409
        assert world.ask(route, world.bob.headers, asked).status_code == 404
    assert world.rows() == before


@pytest.mark.parametrize("route", PUBLIC)
def test_a_public_route_asks_for_no_login(world: World, route: str) -> None:
    world.ids["name"] = "nothing.js"
    answer = world.ask(route, {}, {"json": {}} if route.startswith("POST") else {})
    if answer.status_code in (401, 404):  # no refresh token; no such file
        assert answer.json()["code"] in ("refresh_invalid", "file_unknown", "no_such_route")
    else:
        assert answer.status_code in (200, 204, 422)
    assert not any(one in answer.text for one in world.ids.values() if len(one) == 26)
