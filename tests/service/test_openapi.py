"""The OpenAPI document says what the API does; the page that shows it asks no other host."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import jsonschema_rs
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from tests.e2e.browser import chromium
from tests.service.running import Running

from telecine.service.api import documents

STATIC = Path(documents.__file__).with_name("static") / "swagger-ui"
MODES = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in MODES:
                yield f"{method.upper()} {path}", operation


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []


def test_every_operation_has_a_stable_name_of_its_own(document: dict[str, Any]) -> None:
    names = {where: one["operationId"] for where, one in operations(document)}
    assert len(set(names.values())) == len(names)
    wrong = {w: n for w, n in names.items() if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", n)}
    assert wrong == {}


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    assert [where for where, one in operations(document) if not one.get("summary")] == []


def test_operation_names_do_not_change(document: dict[str, Any]) -> None:
    """Generated clients call them. A new one is added here; none is ever changed or removed."""
    names = {one["operationId"]: where for where, one in operations(document)}
    assert names == json.loads(Path(__file__).with_name("operations.json").read_text())


def test_every_error_is_a_problem_document(document: dict[str, Any]) -> None:
    wrong = []
    for where, operation in operations(document):
        for status, answer in operation["responses"].items():
            if not status.startswith(("4", "5")) or operation["operationId"] == "get_readiness":
                continue
            content = answer.get("content", {})
            if set(content) == {"text/html"} and operation["operationId"].endswith("_embed"):
                continue  # a page that is framed says in words what it cannot play
            if status == "416" and not content:
                continue  # of a range, as files are: `Content-Range` says how long the file is
            if set(content) != {"application/problem+json"}:
                wrong.append(f"{where} {status}: {sorted(content)}")
                continue
            examples = content["application/problem+json"]["examples"]
            wrong += [
                f"{where} {status}: example {code}"
                for code, example in examples.items()
                if (example["value"]["status"], example["value"]["code"]) != (int(status), code)
            ]
    assert wrong == []


def test_every_operation_names_the_errors_that_any_route_may_answer(
    document: dict[str, Any],
) -> None:
    for where, operation in operations(document):
        answers = set(operation["responses"])
        assert answers >= {"500", "503"}, where
        if operation.get("security"):
            assert answers >= {"401", "403"}, where
        if "requestBody" in operation:
            assert answers >= {"400", "413", "422"}, where


def test_an_operation_needs_a_login_unless_it_is_one_of_these(document: dict[str, Any]) -> None:
    public = {one["operationId"] for _, one in operations(document) if not one.get("security")}
    assert public == {
        # accounts
        "create_user", "create_session", "refresh_session", "reset_password",
        # signed by what is in the path or the form
        "put_upload_part", "upload_signed_form", "download_output", "download_source",
        "get_private_media", "get_private_embed", "get_image",
        # public things, and private ones to their owner
        "list_gallery", "get_asset", "get_playback", "get_media", "get_embed",
        "list_presets", "read_tus_options", "get_health", "get_readiness",
    }  # fmt: skip


def test_every_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    missing, wrong = [], []
    for where, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            if kind != "application/json":
                continue
            examples = list(_examples(document, content))
            if not examples:
                missing.append(where)
            schema = {**content["schema"], "components": document["components"]}
            check = jsonschema_rs.Draft202012Validator(schema)
            wrong += [where for example in examples if not check.is_valid(example)]
    assert missing == []
    assert wrong == []


def _examples(document: dict[str, Any], content: dict[str, Any]) -> Iterator[Any]:
    """Whole examples, or one made of those of the fields."""
    yield from (one["value"] for one in content.get("examples", {}).values())
    if "example" in content:
        yield content["example"]
    schema = _resolved(document, content["schema"])
    yield from schema.get("examples", ())
    if not schema.get("examples"):
        fields = schema.get("properties", {})
        found = {
            name: field["examples"][0] for name, field in fields.items() if "examples" in field
        }
        if found and set(schema.get("required", ())) <= set(found):
            yield found


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in (schema, *schema.get("anyOf", ())):
        if "$ref" in option:
            name = option["$ref"].rpartition("/")[2]
            found: dict[str, Any] = document["components"]["schemas"][name]
            return found
    return schema


def test_every_name_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_document_is_the_same_each_time(client: TestClient, app: FastAPI) -> None:
    first = client.get("/openapi.json")
    assert first.headers["content-type"] == "application/json"
    assert client.get("/openapi.json").content == first.content
    assert documents.make_document(app) == first.json()


# --- the page -----------------------------------------------------------------------------------


class Links(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [link for name in ("src", "href") if (link := named.get(name))]
        self.inline += tag == "style" or (tag == "script" and "src" not in named)


def test_the_page_loads_only_what_we_serve(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(page.text)
    assert links.inline == 0  # the policy would refuse it
    loaded = [link for link in links.found if not link.startswith("data:")]
    assert len(loaded) == 3
    for link in loaded:
        url = urljoin("http://127.0.0.1:8000/docs", link)
        assert urlsplit(url).netloc == "127.0.0.1:8000"
        assert client.get(url).status_code == 200


def test_the_bare_address_leads_to_the_page(client: TestClient) -> None:
    found = client.get("/", follow_redirects=True)
    assert found.history[0].status_code == 307
    assert found.url.path == "/docs"
    assert "swagger-ui" in found.text


@pytest.mark.thorough
@pytest.mark.needs("chromium")
def test_a_browser_shows_the_page_and_asks_no_other_host(tmp_path: Path) -> None:
    asked, complaints = set(), []
    executable = shutil.which("chromium")
    assert executable is not None
    with Running(tmp_path / "data") as running, chromium(executable) as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.add(urlsplit(request.url)[:2]))
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{running.base_url}/docs")
        page.wait_for_selector("#operations-jobs-create_job", timeout=60_000)
        page.click("#operations-jobs-create_job .opblock-summary-control")
        page.wait_for_selector("text=Idempotency-Key", timeout=60_000)
        here = tuple(urlsplit(running.base_url)[:2])
    assert asked - {("data", "")} == {here}
    assert complaints == []  # nor did the page's policy refuse anything


def test_the_policy_of_the_page_names_no_other_host(client: TestClient) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"  # no inline script, no eval
    words = {word for rule in rules.values() for word in rule.split()}
    assert words <= {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "'unsafe-inline'" not in rules["script-src"]


def test_files_of_the_page_are_kept_by_their_hash(client: TestClient) -> None:
    first = client.get("/docs/swagger-ui-bundle.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get(
        "/docs/swagger-ui-bundle.js", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["SHA256SUMS", "LICENSE", "..%2f__init__.py", "%2e%2e/app.py", "nothing.js"]
)
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404


def test_vendored_files_are_what_their_sums_say() -> None:
    """The sums are those of the files in npm's package swagger-ui-dist 5.35.0."""
    lines = (STATIC / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {path.name for path in STATIC.iterdir()} - {"SHA256SUMS", "README.md"}
    assert there == set(sums)
    assert {"LICENSE", "swagger-ui-bundle.js", "swagger-ui.css"} <= there
    for name, digest in sums.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name
    assert "Apache License" in (STATIC / "LICENSE").read_text()


# --- health -------------------------------------------------------------------------------------


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "alive"
    ready = client.get("/readyz")
    assert ready.status_code == 200
    said = ready.json()
    assert (said["status"], said["database"], said["storage"]) == ("ready", "ok", "ok")
    assert said["sandbox"]["tier"] in ("bwrap", "landlock", "seccomp")
    assert ready.headers["cache-control"] == "no-store"


def test_a_job_is_ordered_in_one_form_everywhere(document: dict[str, Any]) -> None:
    """By a request of its own, and by an upload whose completion begins it."""
    schemas = document["components"]["schemas"]
    wanted = schemas["JobAsked"]["properties"]["outputs"]
    assert "discriminator" in str(wanted)
    for name in ("NewUpload", "NewPost"):
        (ref,) = [
            one["$ref"]
            for one in schemas[name]["properties"]["on_complete"]["anyOf"]
            if one != {"type": "null"}
        ]
        order = schemas[ref.rpartition("/")[2]]
        assert order["properties"]["outputs"] == wanted
