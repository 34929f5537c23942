"""tus 1.0.0 as its specification has it, against a model, and by the client that everybody uses."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.service.conftest import sign_up
from tests.service.served import Served, read_answer, serving
from tests.service.uploading import OFFSET_TYPE, metadata, patch, song, tus
from tests.waiting import until

from telecine.engine.tools import Tools
from telecine.service.api import app as api
from telecine.service.api.routes import tus as door
from telecine.service.assembly import open_services
from telecine.service.db import tables as t
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.uploads import completion, incoming

SONG = song()
Login = dict[str, str]
CLIENT = Path(__file__).parent / "tus"


@pytest.fixture
def ada(client: TestClient) -> Login:
    return dict(sign_up(client, "ada@example.org")["headers"])


def create(client: TestClient, login: Login, size: int | None = len(SONG), **more: str) -> str:
    """A new upload's URL."""
    length = {"upload_defer_length": "1"} if size is None else {"upload_length": str(size)}
    made = client.post("/v1/tus", headers=tus(login, **length, **more))
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


def standing(client: TestClient, login: Login, url: str) -> int:
    answer = client.head(url, headers=tus(login))
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def sha(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def code(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- the protocol ---------------------------------------------------------------------------------


def test_options_say_what_is_spoken(client: TestClient) -> None:
    """Without a login and without a version, as the specification wants it."""
    for url in ("/v1/tus", "/v1/tus/01KAJ9XK6B2T3W4Y5Z6A7B8C9D"):
        answer = client.options(url)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-max-size"] == "100000000"
        assert set(answer.headers["tus-extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "checksum",
            "termination",
        }
        assert set(answer.headers["tus-checksum-algorithm"].split(",")) == {"sha1", "sha256"}


def test_every_answer_names_the_version_and_another_one_is_refused(
    client: TestClient, ada: Login
) -> None:
    url = create(client, ada)
    for method, path in (("POST", "/v1/tus"), ("HEAD", url), ("PATCH", url), ("DELETE", url)):
        for version in ({}, {"Tus-Resumable": "0.2.2"}):
            answer = client.request(method, path, headers={**patch(ada, 0), **version})
            if version:
                assert answer.status_code == 412, method
                assert answer.headers["tus-version"] == "1.0.0"
            assert answer.headers["tus-resumable"] == "1.0.0", method
    assert client.head(url, headers=ada).status_code == 412
    unknown = client.head("/v1/tus/0", headers=tus(ada))
    assert (unknown.status_code, unknown.headers["tus-resumable"]) == (404, "1.0.0")


def test_a_creation_says_where_and_until_when(
    client: TestClient, services: Services, ada: Login
) -> None:
    said = metadata(filename="Träume.wav", filetype="audio/wav", title="Träume")
    headers = tus(ada, upload_length="1000", upload_metadata=said)
    made = client.post("/v1/tus", headers=headers)
    assert made.status_code == 201
    url = made.headers["location"]
    expires = parsedate_to_datetime(made.headers["upload-expires"]).timestamp()
    assert expires == pytest.approx(time.time() + services.settings.upload_ttl_s, abs=60)
    answer = client.head(url, headers=tus(ada))
    assert answer.headers["upload-offset"] == "0"
    assert answer.headers["upload-length"] == "1000"
    assert answer.headers["upload-metadata"] == said
    assert answer.headers["cache-control"] == "no-store"
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    assert (upload["filename"], upload["content_type"]) == ("Träume.wav", "audio/wav")
    assert upload["title"] == "Träume"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"upload_length": "-1"}, 400),
        ({"upload_length": "1e3"}, 400),
        ({"upload_length": "١٢"}, 400),
        ({"upload_length": "5", "upload_defer_length": "1"}, 400),
        ({"upload_defer_length": "2"}, 400),
        ({"upload_length": "5", "upload_metadata": "filename not-base64!"}, 400),
        ({"upload_length": "5", "upload_metadata": "a YQ==,a YQ=="}, 400),
        ({"upload_length": "5", "upload_metadata": "a YQ==,,b YQ=="}, 400),
        ({"upload_length": "5", "upload_metadata": "preset dmhz"}, 422),  # "vhs"
        ({"upload_length": "5", "upload_checksum": "md5 YQ=="}, 400),
        ({"upload_length": "5", "upload_checksum": "sha1 YQ=="}, 400),
        ({"upload_length": "0"}, 422),
        ({"upload_length": "100000001"}, 413),
        ({"upload_length": "9" * 30}, 400),
    ],
)
def test_creations_that_are_none_are_refused(
    headers: dict[str, str], status: int, client: TestClient, services: Services, ada: Login
) -> None:
    sent = {k: v.encode() for k, v in tus(ada, **headers).items()}
    answer = client.post("/v1/tus", headers=sent)  # type: ignore[arg-type]  # bytes: not ASCII
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert list(services.storage.incoming()) == []


def test_bytes_continue_at_the_offset_alone(client: TestClient, ada: Login) -> None:
    url = create(client, ada)
    answer = client.patch(url, headers=patch(ada, 0), content=SONG[:100])
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "100")
    assert "upload-expires" in answer.headers
    for offset in (0, 99, 101, len(SONG), 10**12):
        answer = client.patch(url, headers=patch(ada, offset), content=b"x")
        assert code(answer) == (409, "offset_mismatch"), offset
        assert answer.json()["offset_bytes"] == 100
    for wrong in ("", "-1", "x"):
        answer = client.patch(url, headers={**patch(ada, 0), "Upload-Offset": wrong}, content=b"x")
        assert code(answer) == (400, "tus_header_invalid")
    assert standing(client, ada, url) == 100


def test_the_body_has_tus_own_type(client: TestClient, ada: Login) -> None:
    url = create(client, ada)
    for kind in ("application/octet-stream", "", "text/plain"):
        headers = {**patch(ada, 0), "Content-Type": kind}
        assert code(client.patch(url, headers=headers, content=b"x")) == (415, "tus_content_type")
    assert standing(client, ada, url) == 0


def test_no_upload_grows_past_its_length(client: TestClient, ada: Login) -> None:
    url = create(client, ada, 100)
    answer = client.patch(url, headers=patch(ada, 0), content=bytes(101))
    assert code(answer) == (413, "upload_too_large")
    assert standing(client, ada, url) == 0


def test_the_first_bytes_may_come_with_the_creation(
    client: TestClient, services: Services, ada: Login
) -> None:
    headers = tus(ada, upload_length=str(len(SONG)), content_type=OFFSET_TYPE)
    made = client.post("/v1/tus", headers=headers, content=SONG[:1000])
    assert (made.status_code, made.headers["upload-offset"]) == (201, "1000")
    url = made.headers["location"]
    done = client.patch(url, headers=patch(ada, 1000), content=SONG[1000:])
    assert (done.status_code, done.headers["upload-offset"]) == (204, str(len(SONG)))
    whole = client.post("/v1/tus", headers=headers, content=SONG)
    assert (whole.status_code, whole.headers["upload-offset"]) == (201, str(len(SONG)))
    for upload in client.get("/v1/uploads", headers=ada).json()["data"]:
        assert upload["state"] == "finished"
    checked = {**headers, "Upload-Checksum": sha("sha1", b"other")}
    assert code(client.post("/v1/tus", headers=checked, content=SONG)) == (460, "checksum_mismatch")


def test_the_length_may_be_said_later(client: TestClient, ada: Login) -> None:
    url = create(client, ada, None)
    client.patch(url, headers=patch(ada, 0), content=SONG[:1000])
    head = client.head(url, headers=tus(ada)).headers
    assert (head["upload-defer-length"], "upload-length" in head) == ("1", False)
    for wrong in ("999", "100000001"):
        answer = client.patch(url, headers=patch(ada, 1000, upload_length=wrong), content=b"")
        assert answer.status_code in (409, 413)
    said = patch(ada, 1000, upload_length=str(len(SONG)))
    assert client.patch(url, headers=said, content=SONG[1000:2000]).status_code == 204
    head = client.head(url, headers=tus(ada)).headers
    assert (head["upload-length"], "upload-defer-length" in head) == (str(len(SONG)), False)
    other = patch(ada, 2000, upload_length=str(len(SONG) + 1))
    assert code(client.patch(url, headers=other, content=SONG[2000:])) == (409, "size_known")
    assert client.patch(url, headers=patch(ada, 2000), content=SONG[2000:]).status_code == 204
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    assert upload["state"] == "finished"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_bytes_under_a_checksum_count_when_it_is_right(
    algorithm: str, client: TestClient, services: Services, ada: Login
) -> None:
    url = create(client, ada)
    good = patch(ada, 0, upload_checksum=sha(algorithm, SONG[:1000]))
    assert client.patch(url, headers=good, content=SONG[:1000]).status_code == 204
    bad = patch(ada, 1000, upload_checksum=sha(algorithm, SONG[1000:]))
    answer = client.patch(url, headers=bad, content=bytes(len(SONG) - 1000))
    assert code(answer) == (460, "checksum_mismatch")
    assert standing(client, ada, url) == 1000
    assert client.patch(url, headers=bad, content=SONG[1000:]).status_code == 204
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    stored = services.storage.read(f"assets/{upload['asset_id']}/source")
    assert b"".join(stored) == SONG, "the bytes that were refused have been written over"


def test_another_algorithm_is_refused(client: TestClient, ada: Login) -> None:
    url = create(client, ada)
    for wrong in ("md5 YQ==", "sha1", "sha1 YQ==", "sha256 !!"):
        headers = patch(ada, 0, upload_checksum=wrong)
        assert code(client.patch(url, headers=headers, content=b"x")) == (400, "tus_header_invalid")


def test_a_terminated_upload_is_gone(client: TestClient, services: Services, ada: Login) -> None:
    url = create(client, ada)
    client.patch(url, headers=patch(ada, 0), content=SONG[:100])
    assert client.delete(url, headers=tus(ada)).status_code == 204
    assert list(services.storage.incoming()) == []
    assert client.head(url, headers=tus(ada)).status_code == 410
    assert client.delete(url, headers=tus(ada)).status_code == 410
    assert code(client.patch(url, headers=patch(ada, 100), content=b"x")) == (410, "upload_gone")


def test_patch_and_delete_may_come_as_post(client: TestClient, ada: Login) -> None:
    url = create(client, ada)
    over = {"X-HTTP-Method-Override": "PATCH"}
    answer = client.post(url, headers={**patch(ada, 0), **over}, content=SONG[:9])
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "9")
    assert code(client.post(url, headers=tus(ada))) == (400, "tus_header_invalid")
    over = {"X-HTTP-Method-Override": "DELETE"}
    assert client.post(url, headers={**tus(ada), **over}).status_code == 204
    assert client.head(url, headers=tus(ada)).status_code == 410


def test_a_lost_last_answer_is_made_up_for(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server died between the last byte and the completion: the client asks where it stands,
    and the upload is complete."""

    def die(*_: object) -> None:
        raise RuntimeError("the process ends here")

    url = create(client, ada)
    with monkeypatch.context() as during:
        during.setattr(completion, "finish", die)
        assert client.patch(url, headers=patch(ada, 0), content=SONG).status_code == 500
    assert standing(client, ada, url) == len(SONG)
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    assert upload["state"] == "finished"


# --- broken and half-dead connections -------------------------------------------------------------


def begin_patch(served: Served, login: Login, url: str, offset: int, size: int) -> Any:
    """A connection on which a PATCH of `size` bytes has begun."""
    connection = served.connect()
    head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in patch(login, offset).items())
    connection.sendall(f"{head}\r\n".encode())
    return connection


def incoming_bytes(services: Services) -> int:
    folder = services.settings.data / "objects" / "incoming"
    return sum(path.stat().st_size for path in folder.iterdir())


def test_an_upload_goes_on_where_the_connection_broke(
    app: FastAPI, client: TestClient, services: Services, ada: Login
) -> None:
    url = create(client, ada)
    with serving(app) as served:
        with begin_patch(served, ada, url, 0, len(SONG)) as connection:
            connection.sendall(SONG[:20_000])
            until(lambda: served.taken.get(url) == 20_000)
        until(lambda: standing(client, ada, url) == 20_000)
        with begin_patch(served, ada, url, 20_000, len(SONG) - 20_000) as connection:
            connection.sendall(SONG[20_000:])
            assert read_answer(connection).status == 204
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    assert upload["state"] == "finished"
    assert b"".join(services.storage.read(f"assets/{upload['asset_id']}/source")) == SONG


def test_a_checksum_counts_for_all_or_nothing_when_the_connection_breaks(
    app: FastAPI, client: TestClient, services: Services, ada: Login
) -> None:
    url = create(client, ada)
    with serving(app) as served:
        login = {**ada, "Upload-Checksum": sha("sha1", SONG)}
        with begin_patch(served, login, url, 0, len(SONG)) as connection:
            connection.sendall(SONG[:20_000])
            until(lambda: served.taken.get(url) == 20_000)
        until(lambda: incoming_bytes(services) == 20_000)
        until(lambda: client.patch(url, headers=patch(ada, 0), content=b"").status_code == 204)
    assert standing(client, ada, url) == 0


def test_what_is_safe_counts_before_the_request_ends(
    app: FastAPI,
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a server that is killed loses the last 32 MiB at most."""
    monkeypatch.setattr(incoming, "SYNC_BYTES", 400_000)
    url = create(client, ada, 90_000_000)
    with serving(app) as served, begin_patch(served, ada, url, 0, 90_000_000) as connection:
        connection.sendall(bytes(1_000_000))
        until(lambda: standing(client, ada, url) >= 400_000)
        row_bytes = standing(client, ada, url)
        assert row_bytes <= incoming_bytes(services)


def test_two_requests_at_once_are_one_too_many(
    app: FastAPI, client: TestClient, services: Services, ada: Login
) -> None:
    url = create(client, ada)
    with serving(app) as served, begin_patch(served, ada, url, 0, len(SONG)) as first:
        first.sendall(SONG[:5000])
        until(lambda: served.taken.get(url) == 5000)  # so the first has its lock
        with begin_patch(served, ada, url, 0, len(SONG)) as second:
            answer = read_answer(second)
        assert (answer.status, json.loads(answer.body)["code"]) == (423, "upload_locked")
        first.sendall(SONG[5000:])
        assert read_answer(first).status == 204


def test_a_request_that_has_fallen_silent_gives_way(
    app: FastAPI,
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client changed its network: the server does not know that the old connection is dead."""
    monkeypatch.setattr(door, "SILENT_S", 0.3)
    url = create(client, ada)
    with serving(app) as served, begin_patch(served, ada, url, 0, len(SONG)) as half_dead:
        half_dead.sendall(SONG[:5000])
        until(lambda: served.taken.get(url) == 5000)
        time.sleep(1)  # longer than SILENT_S
        with begin_patch(served, ada, url, 0, len(SONG)) as other:
            # Its bytes counted first, so the client that has not asked is told where it stands.
            answer = read_answer(other)
            assert answer.status == 409
            assert json.loads(answer.body)["offset_bytes"] == 5000
        with begin_patch(served, ada, url, 5000, len(SONG) - 5000) as other:
            other.sendall(SONG[5000:])
            assert read_answer(other).status == 204
        assert read_answer(half_dead).status == 408
    upload = client.get(f"/v1/uploads/{url.rpartition('/')[2]}", headers=ada).json()
    assert b"".join(services.storage.read(f"assets/{upload['asset_id']}/source")) == SONG


def test_a_cancelled_upload_ends_who_still_sends(
    app: FastAPI,
    client: TestClient,
    services: Services,
    ada: Login,
) -> None:
    url = create(client, ada)
    with serving(app) as served, begin_patch(served, ada, url, 0, len(SONG)) as connection:
        connection.sendall(SONG[:5000])
        until(lambda: served.taken.get(url) == 5000)
        assert client.delete(url, headers=tus(ada)).status_code == 204
        connection.sendall(SONG[5000:])
        assert read_answer(connection).status == 410
    assert [*services.storage.keys(""), *services.storage.incoming()] == []


# --- against a model ------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """A handful of uploads, each a length, an offset and an end; every answer is foretold."""

    client: TestClient
    login: Login
    services: Services

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, dict[str, Any]] = {}

    @precondition(lambda self: len(self.uploads) < 3)
    @rule(size=st.integers(1, 5000), deferred=st.booleans())
    def create(self, size: int, deferred: bool) -> None:
        url = create(self.client, self.login, None if deferred else size)
        self.uploads[url] = {
            "length": None if deferred else size,
            "size": size,
            "bytes": b"",
            "ended": False,
        }

    def pick(self, data: st.DataObject) -> tuple[str, dict[str, Any]]:
        url = data.draw(st.sampled_from(sorted(self.uploads)))
        return url, self.uploads[url]

    @precondition(lambda self: self.uploads)
    @rule(
        data=st.data(),
        wrong_offset=st.sampled_from([0, 0, 0, 0, 1, -1, 1000]),
        checksum=st.sampled_from([None, None, "right", "wrong"]),
        say_length=st.booleans(),
    )
    def append(
        self, data: st.DataObject, wrong_offset: int, checksum: str | None, say_length: bool
    ) -> None:
        url, upload = self.pick(data)
        at = max(0, len(upload["bytes"]) + wrong_offset)
        # Never the last byte: what a complete upload becomes is not tus's.
        room = upload["size"] - len(upload["bytes"]) - 1
        piece = data.draw(st.binary(max_size=max(0, min(room, 300))))
        over = data.draw(st.sampled_from([0, 0, 0, 6000]))
        body = piece + bytes(over)
        more = {}
        if checksum is not None:
            more["upload_checksum"] = sha("sha1", body + (b"x" if checksum == "wrong" else b""))
        if say_length:
            more["upload_length"] = str(upload["size"])
        answer = self.client.patch(url, headers=patch(self.login, at, **more), content=body)

        length = upload["length"] or (upload["size"] if say_length else None)
        # Of several errors any may be told.
        errors = set()
        if upload["ended"]:
            errors.add(410)
        else:
            if at != len(upload["bytes"]):
                errors.add(409)
            if length is not None and at + len(body) > length:
                errors.add(413)
            if checksum == "wrong":
                errors.add(460)
        if errors:
            assert answer.status_code in errors, (answer.status_code, errors, answer.text)
            assert answer.headers["tus-resumable"] == "1.0.0"
            if not upload["ended"] and answer.status_code in (413, 460):
                upload["length"] = length  # it was said, and that part was right
            return
        assert answer.status_code == 204, answer.text
        assert int(answer.headers["upload-offset"]) == at + len(body)
        upload["bytes"] += body
        upload["length"] = length

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        url, upload = self.pick(data)
        answer = self.client.delete(url, headers=tus(self.login))
        assert answer.status_code == (410 if upload["ended"] else 204)
        upload["ended"] = True

    @invariant()
    def offsets_are_the_models(self) -> None:
        for url, upload in self.uploads.items():
            answer = self.client.head(url, headers=tus(self.login))
            if upload["ended"]:
                assert answer.status_code == 410
                continue
            assert int(answer.headers["upload-offset"]) == len(upload["bytes"])
            if upload["length"] is None:
                assert answer.headers["upload-defer-length"] == "1"
            else:
                assert int(answer.headers["upload-length"]) == upload["length"]
            path = self.services.settings.data / "objects" / "incoming" / url.rpartition("/")[2]
            assert path.read_bytes()[: len(upload["bytes"])] == upload["bytes"]


@pytest.mark.thorough
def test_it_behaves_like_its_model(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("model")
    services = open_services(Settings(data=data, signup="open", workers=0), tools)
    tables_of(services)
    with TestClient(api.make_app(services), base_url="http://127.0.0.1:8000") as client:
        Model.client, Model.services = client, services
        Model.login = dict(sign_up(client)["headers"])
        Model.TestCase.settings = settings(
            max_examples=12,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        Model.TestCase().runTest()
    services.database.close()


def tables_of(services: Services) -> None:
    t.metadata.create_all(services.database.engine)


# --- tus-js-client --------------------------------------------------------------------------------


@pytest.fixture
def served(app: FastAPI) -> Iterator[Served]:
    with serving(app) as found:
        yield found


def run_client(served: Served, login: Login, path: Path, **options: Any) -> dict[str, Any]:
    if not (CLIENT / "node_modules").is_dir():
        pytest.fail("tus-js-client is not installed: run `npm ci` in tests/service/tus")
    endpoint = f"{served.base_url}/v1/tus"
    words = ["node", "upload.js", endpoint, str(path), json.dumps({"headers": login, **options})]
    done = subprocess.run(words, cwd=CLIENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Some megabytes of media, so that it takes more than one packet."""
    path = tmp_path / "long.wav"
    path.write_bytes(song(60, 24_000))
    return path


@pytest.mark.needs("node")
@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(options, marks=pytest.mark.thorough)
            for options in (
                {"chunkSize": 500_000},
                {"withCreation": True},
                {"override": True, "chunkSize": 1_000_000},
                {"defer": True, "chunkSize": 700_000},
            )
        ),
    ],
    ids=["whole", "chunks", "with the creation", "without PATCH", "length unknown"],
)
def test_tus_js_client_uploads(
    options: dict[str, Any],
    served: Served,
    client: TestClient,
    services: Services,
    ada: Login,
    film: Path,
) -> None:
    said = run_client(
        served, ada, film, metadata={"filename": "long.wav", "preset": "mp3"}, **options
    )
    assert "error" not in said, said
    upload_id = said["url"].rpartition("/")[2]
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    assert (upload["state"], upload["filename"]) == ("finished", "long.wav")
    assert upload["job_id"] is not None
    stored = b"".join(services.storage.read(f"assets/{upload['asset_id']}/source"))
    assert stored == film.read_bytes()


@pytest.mark.needs("node")
def test_tus_js_client_resumes_after_its_end(
    served: Served, client: TestClient, services: Services, ada: Login, film: Path
) -> None:
    broken = run_client(
        served, ada, film, chunkSize=1_000_000, stopAt=1_500_000, metadata={"filename": "l.wav"}
    )
    upload_id = broken["url"].rpartition("/")[2]
    offset = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()["offset_bytes"]
    assert 0 < offset < film.stat().st_size
    resumed = run_client(served, ada, film, uploadUrl=broken["url"])
    assert resumed == {"url": broken["url"]}
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    stored = b"".join(services.storage.read(f"assets/{upload['asset_id']}/source"))
    assert stored == film.read_bytes()


@pytest.mark.needs("node")
def test_tus_js_client_is_told_why_a_file_is_refused(
    served: Served, ada: Login, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear reader\n" * 100)
    said = run_client(served, ada, tmp_path / "letter.txt")
    assert said["status"] == 422
    assert json.loads(said["body"])["code"] == "not_media"


@pytest.mark.needs("node")
def test_tus_js_client_terminates(
    served: Served, client: TestClient, services: Services, ada: Login, film: Path
) -> None:
    broken = run_client(served, ada, film, chunkSize=1_000_000, stopAt=1_500_000)
    run_client(served, ada, film, uploadUrl=broken["url"], terminate=True)
    assert (
        client.head(broken["url"].partition(str(served.port))[2], headers=tus(ada)).status_code
        == 410
    )
    until(lambda: list(services.storage.incoming()) == [])
