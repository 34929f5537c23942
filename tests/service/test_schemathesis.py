"""The API asked as its OpenAPI document says, and as it does not: no request makes it stumble, and
what it answers is in the document."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks
from tests.service.conftest import filling
from tests.service.databases import fresh_database
from tests.service.films import Film, add_film, run_to_end
from tests.service.owners import owner_of
from tests.service.uploading import OFFSET_TYPE

from telecine.engine.tools import Tools
from telecine.service.db.connection import Database
from telecine.service.db.migrate import migrate
from telecine.service.db.tables import users
from telecine.service.services import Services

OPERATIONS: dict[str, str] = json.loads(Path(__file__).with_name("operations.json").read_text())
EXAMPLES = 10  # of each operation, some as the document says and some not

# What is not asked, and why.
LEFT_OUT = {
    "follow_job": "its answer is a stream that stays open while the job runs; test_jobs has it",
}

# A path whose part is empty, `.` or `..` is another path: perhaps no route, or not of this method.
OTHER_ROUTE = {"no_such_route": 404, "method_not_allowed": 405}

# For people: an error is a page, too.
PAGES = ("get_embed", "get_private_embed")

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


# What tus calls the bytes of a file.
schemathesis.serializer.alias(OFFSET_TYPE, "application/octet-stream")


@dataclass(frozen=True)
class World:
    """An installation with an administrator who has one of everything."""

    app: FastAPI
    headers: dict[str, str]
    ids: dict[str, str]


@pytest.fixture(scope="session")
def migrated_postgres(postgres: sa.URL) -> Iterator[tuple[sa.URL, str]]:
    """The server, and the name of a migrated database, to be copied."""
    with fresh_database(postgres) as made:
        database = Database(made.render_as_string(hide_password=False))
        migrate(database)
        database.close()
        assert made.database is not None
        yield postgres, made.database


@pytest.fixture
def services(request: pytest.FixtureRequest, services: Services) -> Iterator[Services]:
    """On SQLite, or where a test asks for it on PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield services
        return
    server, template = request.getfixturevalue("migrated_postgres")
    with fresh_database(server, template) as made:
        database = Database(made.render_as_string(hide_password=False))
        yield dataclasses.replace(services, database=database)
        database.close()


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, tools: Tools, empty: Path, film: Film
) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The installation that each test gets a copy of: its data folder; headers of its
    administrator; ids of what is there."""
    data = tmp_path_factory.mktemp("made") / "data"
    with filling(data, tools, empty) as (client, services):
        return data, *fill(client, services, film)


@pytest.fixture(scope="module")
def installed(made: tuple[Path, dict[str, str], dict[str, str]]) -> Path:
    return made[0]


@pytest.fixture
def world(
    app: FastAPI,
    client: TestClient,
    services: Services,
    film: Film,
    made: tuple[Path, dict[str, str], dict[str, str]],
) -> World:
    _, headers, ids = made
    if not services.database.sqlite:  # that one is empty
        headers, ids = fill(client, services, film)
    return World(app, headers, ids)


def fill(
    client: TestClient, services: Services, film: Film
) -> tuple[dict[str, str], dict[str, str]]:
    ada = owner_of(client)
    with services.database.write() as tx:
        tx.connection.execute(sa.update(users).values(role="admin"))
    asset_id = add_film(services, ada.user_id, film, visibility="public")
    job_id = ada.submit(asset_id)["id"]
    run_to_end(services, job_id, {"master.m3u8": b"#EXTM3U\n", "poster.jpg": b"\xff\xd8"})
    upload = ada.post("/v1/uploads", {"filename": "a.wav", "size_bytes": 9}, 201)
    key = ada.post("/v1/api-keys", {"name": "a key", "scopes": ["jobs:read"]}, 201)
    outputs = ada.get(f"/v1/jobs/{job_id}/outputs")["data"]
    bob = owner_of(client, "bob@example.org")
    client.cookies.clear()
    ids = {
        "asset_id": asset_id,
        "job_id": job_id,
        "upload_id": upload["id"],
        "key_id": key["id"],
        "output_id": outputs[0]["id"],
        "user_id": bob.user_id,
        "session_id": bob.get("/v1/sessions/current")["id"],
        "path": "master.m3u8",
    }
    return ada.headers, ids


def test_what_is_left_out_is_there() -> None:
    assert set(OPERATIONS) > set(LEFT_OUT)


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS.keys() - LEFT_OUT.keys()))
def test_no_request_makes_it_stumble(world: World, operation_id: str) -> None:
    method, _, path = OPERATIONS[operation_id].partition(" ")
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    schema.app = world.app
    operation = schema[path][method]
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if {"parameters", "requestBody"} & operation.definition.raw.keys():
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=st.booleans())
    def ask(case: Case[Any], known: bool) -> None:
        if known:  # or nothing behind the first look-up would ever be reached
            _put_ids(case, world.ids)
        answer = case.call(headers=world.headers)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and answer.content and operation_id not in PAGES:
            assert answer.headers["content-type"] == ["application/problem+json"]
            said = answer.json()
            assert said["status"] == answer.status_code
            if OTHER_ROUTE.get(said["code"]) == answer.status_code:
                return
        case.validate_response(answer, checks=CHECKS)

    ask()


def _put_ids(case: Case[Any], ids: dict[str, str]) -> None:
    for name in case.path_parameters or {}:
        if name in ids:
            case.path_parameters[name] = ids[name]
    if isinstance(case.body, dict) and "asset_id" in case.body:
        case.body["asset_id"] = ids["asset_id"]


# What one database keeps and another refuses, by hand: an example seldom draws it.
ODD_TEXT = ("\x00", "a\x00b", "\ud800", "'\"%_\\", "\U0010ffff")
ODD_NUMBERS = (2**31, 2**63, 10**30, -(2**63), 1e308)


@pytest.mark.thorough
@pytest.mark.parametrize("services", ["sqlite", "postgresql"], indirect=True)
def test_odd_text_and_numbers_make_nothing_stumble(world: World) -> None:
    """In each part of each path, in each query parameter, in each field of each body."""
    document = world.app.openapi()
    wrong = []
    with TestClient(
        world.app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False
    ) as client:
        for operation_id in sorted(OPERATIONS.keys() - LEFT_OUT.keys() - ENDING):
            method, _, path = OPERATIONS[operation_id].partition(" ")
            for what, url, body in _odd_requests(document, path, method.lower(), world.ids):
                headers = {**world.headers, "Content-Type": "application/json"}
                answer = client.request(
                    method, url, content=None if body is None else json.dumps(body), headers=headers
                )
                if answer.status_code >= 500:
                    wrong.append(f"{operation_id}: {what}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)


def test_a_nul_is_in_no_name(client: TestClient) -> None:
    """Whatever database is behind."""
    for path in ("/v1/gallery?after=%00", "/v1/gallery?limit=1&after=a%00b", "/v1/presets?%00=1"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    for path in ("/v1/assets/a%00b", "/media/a/b/%00", "/embed/%00"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")


# After these nobody is logged in; they take no odd text that others do not.
ENDING = {"delete_me", "end_current_session", "end_sessions"}


def _odd_requests(
    document: dict[str, Any], path: str, method: str, ids: dict[str, str]
) -> Iterator[tuple[str, str, Any]]:
    """What is odd, the URL, the JSON body."""
    operation = document["paths"][path][method]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = _example(document, content) if content else None
    parts = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
    asked = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]

    def url(**odd: str) -> str:
        filled = {name: ids.get(name, "1") for name in parts} | odd
        return path.format(**{name: quote(text, safe="") for name, text in filled.items()})

    for text in ODD_TEXT:
        raw = text.encode("utf-8", "surrogatepass")
        for name in parts:
            yield f"{name}={text!r}", url(**{name: "?"}).replace("%3F", quote(raw)), body
        for name in asked:
            yield f"?{name}={text!r}", f"{url()}?{name}={quote(raw)}", body
    for name in asked:
        for number in ODD_NUMBERS:
            yield f"?{name}={number}", f"{url()}?{name}={number}", body
    for where in _leaves(body):
        for odd in (*ODD_TEXT, *ODD_NUMBERS):
            yield f"{where}={odd!r}", url(), _replaced(body, where, odd)
    if isinstance(body, dict):
        for name in content["schema"].get("$ref", "") and _fields(document, content["schema"]):
            for value in (*ODD_TEXT, *ODD_NUMBERS, {"a\x00": "b\x00"}, [{"type": "\x00"}]):
                yield f"{name}={value!r}", url(), {**body, name: value}


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name]["properties"]
    return found


def _example(document: dict[str, Any], content: dict[str, Any]) -> Any:
    for example in content.get("examples", {}).values():
        return example["value"]
    fields = _fields(document, content["schema"])
    return {name: one["examples"][0] for name, one in fields.items() if "examples" in one}


def _leaves(value: Any, *where: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, *where, key)
    elif where:
        yield where


def _replaced(value: Any, where: tuple[Any, ...], odd: Any) -> Any:
    found = copy.deepcopy(value)
    at = found
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = odd
    return found
