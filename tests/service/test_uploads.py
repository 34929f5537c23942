"""Uploads by every door: what becomes of them, who may, how much, and what a crash leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from tests.service.conftest import sign_up
from tests.service.served import chunked, read_answer, send_raw, serving
from tests.service.uploading import OFFSET_TYPE, metadata, multipart, patch, song, tus
from tests.service.working import count
from tests.waiting import until

from telecine.engine.probe import probe as real_probe
from telecine.engine.tools import Tools
from telecine.service.api import bodies
from telecine.service.collector import collect
from telecine.service.db import queue
from telecine.service.db import tables as t
from telecine.service.db import uploads as db
from telecine.service.services import Services
from telecine.service.storage.local import LocalStorage
from telecine.service.uploads import completion, forms, incoming, sessions, words

MB = 1_000_000
SONG = song()
Login = dict[str, str]


@pytest.fixture
def ada(client: TestClient) -> Login:
    return dict(sign_up(client, "ada@example.org")["headers"])


@pytest.fixture
def bob(client: TestClient) -> Login:
    return dict(sign_up(client, "bob@example.org")["headers"])


@pytest.fixture(scope="session")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One second of a real film: H.264 and AAC in MP4."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    words = [ffmpeg, "-v", "error", *picture, *sound, *codecs, str(path)]
    subprocess.run(words, check=True, timeout=60)
    return path.read_bytes()


def one(services: Services, table: sa.Table, **where: Any) -> Any:
    """The only row with these values; None where there is none."""
    with services.database.read() as tx:
        wanted = [table.c[name] == value for name, value in where.items()]
        row = tx.connection.execute(sa.select(table).where(*wanted)).mappings().one_or_none()
    return None if row is None else dict(row)


def source(services: Services, asset_id: str) -> bytes:
    return b"".join(services.storage.read(f"assets/{asset_id}/source"))


def kept(services: Services) -> list[str]:
    """All that the store holds: objects, then incoming files."""
    return [*services.storage.keys(""), *services.storage.incoming()]


# --- the doors: (client, login, file, wish) → the last answer, and the upload's id ----------------

Door = Callable[..., tuple[Response, str]]


def by_tus(
    client: TestClient, login: Login, data: bytes, *, name: str = "song.wav", **wish: Any
) -> tuple[Response, str]:
    said = {"filename": name, **{key: _text(value) for key, value in wish.items()}}
    headers = tus(login, upload_length=str(len(data)), upload_metadata=metadata(**said))
    made = client.post("/v1/tus", headers=headers)
    if made.status_code != 201:
        return made, ""
    url, half = made.headers["location"], len(data) // 2
    first = client.patch(url, headers=patch(login, 0), content=data[:half])
    assert first.status_code == 204, first.text
    last = client.patch(url, headers=patch(login, half), content=data[half:])
    return last, url.rpartition("/")[2]


def by_parts(
    client: TestClient, login: Login, data: bytes, *, name: str = "song.wav", **wish: Any
) -> tuple[Response, str]:
    wish = {"filename": name, "size_bytes": len(data), "content_type": "audio/wav", **wish}
    made = client.post("/v1/uploads", headers=login, json=wish)
    if made.status_code != 201:
        return made, ""
    upload = made.json()
    numbers = list(range(1, upload["part_count"] + 1))
    url = f"/v1/uploads/{upload['id']}"
    signed = client.post(f"{url}/parts", headers=login, json={"numbers": numbers}).json()["data"]
    for part in reversed(signed):
        start = (part["number"] - 1) * upload["part_size_bytes"]
        body = data[start : start + part["size_bytes"]]
        put = client.put(part["url"], content=body)  # whoever has the URL needs no login
        assert put.status_code == 200, put.text
        assert put.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    return client.post(f"{url}/complete", headers=login), upload["id"]


def by_post(
    client: TestClient, login: Login, data: bytes, *, name: str = "song.wav", **wish: Any
) -> tuple[Response, str]:
    made = client.post(
        "/v1/uploads/presigned-post", headers=login, json={"content_type": "audio/*", **wish}
    )
    if made.status_code != 201:
        return made, ""
    form = made.json()
    sent = client.post(form["url"], data=form["fields"], files={"file": (name, data, "audio/wav")})
    return sent, form["upload"]["id"]


def by_form(
    client: TestClient, login: Login, data: bytes, *, name: str = "song.wav", **wish: Any
) -> tuple[Response, str]:
    sent = client.post(
        "/v1/uploads/form",
        headers=login,
        data={key: _text(value) for key, value in wish.items()},
        files={"file": (name, data, "audio/wav")},
    )
    listed = client.get("/v1/uploads", headers=login).json()["data"]
    return sent, listed[0]["id"] if listed else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


DOORS = {"tus": by_tus, "parts": by_parts, "post": by_post, "form": by_form}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())


# --- what becomes of an upload --------------------------------------------------------------------


@every_door
def test_an_upload_becomes_an_asset(
    door: Door, client: TestClient, services: Services, ada: Login
) -> None:
    answer, upload_id = door(client, ada, SONG, title="A song")
    assert answer.status_code in (200, 201, 204), answer.text
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    assert upload["state"] == "finished"
    assert upload["size_bytes"] == upload["offset_bytes"] == len(SONG)
    assert upload["error"] is upload["job_id"] is None
    asset = one(services, t.assets, id=upload["asset_id"])
    assert (asset["title"], asset["filename"], asset["state"]) == ("A song", "song.wav", "uploaded")
    assert asset["visibility"] == "private"
    assert asset["duration_s"] == pytest.approx(2.0)
    assert asset["source_size_bytes"] == len(SONG)
    assert asset["media"]["container"] == "wav"
    assert any("8 kHz" in line or "8000" in line or "mono" in line for line in asset["summary"])
    assert source(services, upload["asset_id"]) == SONG
    assert kept(services) == [f"assets/{upload['asset_id']}/source"]


@every_door
def test_a_film_too(
    door: Door, client: TestClient, services: Services, ada: Login, clip: bytes
) -> None:
    wish = {"content_type": "video/*"} if door is by_post else {}
    if door is by_post:
        made = client.post("/v1/uploads/presigned-post", headers=ada, json=wish).json()
        answer = client.post(
            made["url"], data=made["fields"], files={"file": ("clip.mp4", clip, "video/mp4")}
        )
        upload_id = made["upload"]["id"]
    else:
        answer, upload_id = door(client, ada, clip, name="clip.mp4")
    assert answer.status_code in (200, 201, 204), answer.text
    asset_id = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()["asset_id"]
    asset = one(services, t.assets, id=asset_id)
    assert asset["title"] == "clip"
    assert asset["duration_s"] == pytest.approx(1.0, abs=0.1)
    assert asset["media"]["video"][0]["codec"] == "h264"
    assert source(services, asset_id) == clip


@every_door
def test_a_job_begins_with_it(
    door: Door, client: TestClient, services: Services, ada: Login
) -> None:
    wish = {"on_complete": {"outputs": [{"type": "mp3", "bitrate_bps": 128000}], "priority": 3}}
    answer, upload_id = door(client, ada, SONG, **wish)
    assert answer.status_code in (200, 201, 204), answer.text
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    job = one(services, t.jobs, id=upload["job_id"])
    assert (job["state"], job["asset_id"]) == ("queued", upload["asset_id"])
    assert job["outputs"] == [{"type": "mp3", "bitrate_bps": 128000}]
    assert job["priority"] == 3
    assert one(services, t.assets, id=upload["asset_id"])["state"] == "processing"
    with services.database.read() as tx:
        kinds = tx.connection.execute(sa.select(t.tasks.c.kind).order_by(t.tasks.c.position))
        # The sound is made, and its loudness measured.
        assert list(kinds.scalars()) == ["step", "step", "finish", "digest"]


@every_door
def test_what_is_no_media_is_refused_with_the_engines_reason(
    door: Door, client: TestClient, services: Services, ada: Login
) -> None:
    answer, upload_id = door(client, ada, b"%PDF-1.7 a letter\n" * 50, name="letter.wav")
    assert answer.status_code == 422
    assert answer.json()["code"] == "not_media"
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    assert upload["state"] == "refused"
    assert upload["error"]["code"] == "not_media"
    assert upload["asset_id"] is None
    again = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (again.status_code, again.json()["code"]) == (422, "not_media")
    assert count(services, t.assets) == count(services, t.jobs) == 0
    assert kept(services) == []


def test_what_the_source_cannot_give_leaves_an_asset_without_a_job(
    client: TestClient, services: Services, ada: Login
) -> None:
    answer, _ = by_form(client, ada, SONG, on_complete={"outputs": [{"type": "mp4"}]})
    assert answer.status_code == 201
    upload = answer.json()
    assert (upload["state"], upload["job_id"]) == ("finished", None)
    assert upload["error"]["code"] == "no_video"
    assert one(services, t.assets, id=upload["asset_id"])["state"] == "uploaded"


# --- digests --------------------------------------------------------------------------------------


@every_door
def test_a_clients_digest_is_checked(
    door: Door, client: TestClient, services: Services, ada: Login
) -> None:
    right = hashlib.sha256(SONG).hexdigest()
    _, upload_id = door(client, ada, SONG, sha256=right.upper())
    asset_id = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()["asset_id"]
    assert one(services, t.assets, id=asset_id)["source_sha256"] == right
    answer, upload_id = door(client, ada, SONG, sha256="0" * 64)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    upload = client.get(f"/v1/uploads/{upload_id}", headers=ada).json()
    assert (upload["state"], upload["error"]["code"]) == ("refused", "digest_mismatch")
    assert count(services, t.assets) == 1
    assert kept(services) == [f"assets/{asset_id}/source"]


def test_a_digest_does_not_delay_a_job(client: TestClient, services: Services, ada: Login) -> None:
    """A wrong one is found by a task of the job, which needs no upload to wait for it."""
    answer, _ = by_form(client, ada, SONG, sha256="0" * 64, preset="mp3")
    assert answer.status_code == 201
    upload = answer.json()
    assert one(services, t.assets, id=upload["asset_id"])["source_sha256"] is None
    with services.database.read() as tx:
        needed = sa.select(t.tasks.c.kind).join(
            t.task_needs, t.task_needs.c.needs_id == t.tasks.c.id
        )
        assert "digest" in set(tx.connection.execute(needed).scalars()), "finish waits for it"


def test_a_digest_is_checked_at_once_where_there_is_no_job(
    client: TestClient, services: Services, ada: Login
) -> None:
    """A song has no picture, so that its wish makes no job that could check the digest."""
    wish: dict[str, Any] = {"on_complete": {"outputs": [{"type": "mp4"}]}}
    answer, _ = by_form(client, ada, SONG, sha256="0" * 64, **wish)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    right = hashlib.sha256(SONG).hexdigest()
    answer, _ = by_form(client, ada, SONG, sha256=right, **wish)
    asset = one(services, t.assets, id=answer.json()["asset_id"])
    assert (answer.status_code, asset["source_sha256"]) == (201, right)


@every_door
def test_a_digest_that_is_none_is_refused(door: Door, client: TestClient, ada: Login) -> None:
    answer, _ = door(client, ada, SONG, sha256="abc")
    assert (answer.status_code, answer.json()["code"]) == (422, "sha256_invalid")


# --- completion: twice, at once, after a crash ----------------------------------------------------


def filled(client: TestClient, login: Login, data: bytes = SONG, **wish: Any) -> str:
    """An upload whose bytes are all there, by parts, not completed."""
    wish = {"filename": "song.wav", "size_bytes": len(data), **wish}
    upload_id = str(client.post("/v1/uploads", headers=login, json=wish).json()["id"])
    signed = client.post(
        f"/v1/uploads/{upload_id}/parts", headers=login, json={"numbers": [1]}
    ).json()["data"][0]
    assert client.put(signed["url"], content=data).status_code == 200
    return upload_id


def test_completing_twice_gives_the_same_asset(
    client: TestClient, services: Services, ada: Login
) -> None:
    url = f"/v1/uploads/{filled(client, ada, on_complete={'preset': 'mp3'})}/complete"
    first, second = client.post(url, headers=ada).json(), client.post(url, headers=ada).json()
    assert first == second
    assert count(services, t.assets) == count(services, t.jobs) == 1


def test_completing_at_once_gives_one_asset(
    client: TestClient, services: Services, ada: Login
) -> None:
    upload_id = filled(client, ada, on_complete={"preset": "mp3"})
    user_id = one(services, t.users, email="ada@example.org")["id"]
    start = threading.Barrier(5)

    def complete(_: int) -> str | None:
        start.wait()
        return completion.finish(services, user_id, upload_id).asset_id

    with ThreadPoolExecutor(5) as pool:
        assert len(set(pool.map(complete, range(5)))) == 1
    assert count(services, t.assets) == count(services, t.jobs) == 1


class Crash(BaseException):
    """Stands for the end of the process."""


def _after(function: Callable[..., Any]) -> Callable[..., Any]:
    def crash(*args: Any, **more: Any) -> Any:
        function(*args, **more)
        raise Crash

    return crash


def _before(function: Callable[..., Any]) -> Callable[..., Any]:
    def crash(*args: Any, **more: Any) -> Any:
        raise Crash

    return crash


@pytest.mark.parametrize(
    ("place", "name", "when"),
    [
        (LocalStorage, "finish", _before),
        (LocalStorage, "finish", _after),
        (completion, "probe", _before),
        (completion, "probe", _after),
        (db, "add_asset", _after),
        (queue, "submit", _after),
    ],
)
def test_a_crash_while_completing_loses_nothing(
    place: Any,
    name: str,
    when: Callable[..., Any],
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload_id = filled(client, ada, on_complete={"preset": "mp3"})
    user_id = one(services, t.users, email="ada@example.org")["id"]
    with monkeypatch.context() as during:
        during.setattr(place, name, when(getattr(place, name)))
        with pytest.raises(Crash):
            completion.finish(services, user_id, upload_id)
    assert count(services, t.assets) == count(services, t.jobs) == 0
    chosen = one(services, t.uploads, id=upload_id)["asset_id"]
    upload = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada).json()
    assert upload["asset_id"] == chosen
    assert upload["job_id"] is not None
    assert source(services, chosen) == SONG
    assert kept(services) == [f"assets/{chosen}/source"]


def test_an_upload_that_was_cancelled_while_it_was_completed_leaves_nothing(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = filled(client, ada)

    def slow(*args: Any) -> Any:
        assert client.delete(f"/v1/uploads/{upload_id}", headers=ada).status_code == 204
        return real_probe(*args)

    monkeypatch.setattr(completion, "probe", slow)
    monkeypatch.setattr(sessions, "remove_bytes", _first_call_only(sessions.remove_bytes))
    answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert answer.status_code in (410, 422)
    assert count(services, t.assets) == 0
    assert kept(services) == []


def _file_away(path: Path, tools: Tools) -> Any:
    """As when a file system is not mounted just now."""
    path.rename(path.with_name("away"))
    try:
        return real_probe(path, tools)
    finally:
        path.with_name("away").rename(path)


def _no_time(path: Path, tools: Tools) -> Any:
    """As when the machine is so busy that the container's reader has hardly begun."""
    module = sys.modules["telecine.engine.probe"]
    with pytest.MonkeyPatch.context() as during:
        limits = dataclasses.replace(module.DEMUX_LIMITS, wall_s=0.001)
        during.setattr(module, "DEMUX_LIMITS", limits)
        return real_probe(path, tools)


@pytest.mark.parametrize("trouble", [_file_away, _no_time])
def test_a_passing_trouble_of_ours_costs_no_upload(
    trouble: Callable[..., Any],
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload_id = filled(client, ada)
    with monkeypatch.context() as during:
        during.setattr(completion, "probe", trouble)
        answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (503, "upload_unreadable")
    assert str(services.settings.data) not in answer.text
    assert client.get(f"/v1/uploads/{upload_id}", headers=ada).json()["state"] == "open"
    upload = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada).json()
    assert source(services, upload["asset_id"]) == SONG


def test_an_upload_that_was_cancelled_before_its_file_was_taken_has_ended(
    client: TestClient, ada: Login, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = filled(client, ada)
    finish = LocalStorage.finish

    def slow(*args: Any) -> Any:
        assert client.delete(f"/v1/uploads/{upload_id}", headers=ada).status_code == 204
        return finish(*args)

    monkeypatch.setattr(LocalStorage, "finish", slow)
    answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (410, "upload_gone")
    assert kept(services) == []


@pytest.mark.parametrize(("left_s", "at_least_s"), [(86_400, 86_399), (60, 3599)])
def test_completing_shortens_no_uploads_life(
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
    left_s: float,
    at_least_s: float,
) -> None:
    """It lives for an hour from then on, and not less than it would have anyway."""
    upload_id = filled(client, ada)
    with services.database.write() as tx:
        began_s = tx.now_s()
        tx.connection.execute(sa.update(t.uploads).values(expires_at=began_s + left_s))
    monkeypatch.setattr(completion, "probe", _file_away)
    assert client.post(f"/v1/uploads/{upload_id}/complete", headers=ada).status_code == 503
    assert one(services, t.uploads, id=upload_id)["expires_at"] >= began_s + at_least_s


def _first_call_only(function: Callable[..., None]) -> Callable[..., None]:
    """The cancelling request dies before it removes anything: the completing one does it."""
    calls = iter([False])

    def call(*args: Any) -> None:
        if next(calls, True):
            function(*args)

    return call


def test_bytes_of_a_finished_upload_cannot_be_changed(
    client: TestClient, services: Services, ada: Login
) -> None:
    wish = {"filename": "song.wav", "size_bytes": len(SONG)}
    upload = client.post("/v1/uploads", headers=ada, json=wish).json()
    url = f"/v1/uploads/{upload['id']}"
    signed = client.post(f"{url}/parts", headers=ada, json={"numbers": [1]}).json()["data"][0]
    assert client.put(signed["url"], content=SONG).status_code == 200
    asset_id = client.post(f"{url}/complete", headers=ada).json()["asset_id"]
    swapped = client.put(signed["url"], content=bytes(len(SONG)))
    assert (swapped.status_code, swapped.json()["code"]) == (410, "upload_gone")
    headers = patch(ada, 0)
    assert client.patch(upload["tus_url"], headers=headers, content=b"x").status_code == 410
    assert source(services, asset_id) == SONG


def test_what_is_not_all_there_is_not_completed(client: TestClient, ada: Login) -> None:
    wish = {"filename": "film.mp4", "size_bytes": 20 * 1024 * 1024}
    upload = client.post("/v1/uploads", headers=ada, json=wish).json()
    assert (upload["part_size_bytes"], upload["part_count"]) == (8 * 1024 * 1024, 3)
    url = f"/v1/uploads/{upload['id']}"
    signed = client.post(f"{url}/parts", headers=ada, json={"numbers": [3]}).json()["data"][0]
    assert signed["size_bytes"] == 4 * 1024 * 1024
    assert client.post(f"{url}/complete", headers=ada).json()["code"] == "upload_incomplete"
    assert client.put(signed["url"], content=bytes(signed["size_bytes"])).status_code == 200
    answer = client.post(f"{url}/complete", headers=ada)
    assert answer.status_code == 409
    assert answer.json()["missing_parts"] == [1, 2]


# --- whose ----------------------------------------------------------------------------------------


def test_an_upload_is_its_owners_alone(client: TestClient, ada: Login, bob: Login) -> None:
    upload_id = filled(client, ada)
    url, at_tus = f"/v1/uploads/{upload_id}", f"/v1/tus/{upload_id}"
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", url, {"headers": bob}),
        ("DELETE", url, {"headers": bob}),
        ("POST", f"{url}/complete", {"headers": bob}),
        ("POST", f"{url}/parts", {"headers": bob, "json": {"numbers": [1]}}),
        ("HEAD", at_tus, {"headers": tus(bob)}),
        ("PATCH", at_tus, {"headers": patch(bob, 0), "content": b"x"}),
        ("DELETE", at_tus, {"headers": tus(bob)}),
    ]
    for method, path, more in asked:
        assert client.request(method, path, **more).status_code == 404, (method, path)
        more = {**more, "headers": {k: v for k, v in more["headers"].items() if k in tus({})}}
        assert client.request(method, path, **more).status_code == 401, (method, path)
    assert client.get("/v1/uploads", headers=bob).json()["data"] == []
    assert client.get(url, headers=ada).json()["state"] == "open"


def test_lists_are_pages_of_the_newest_first(client: TestClient, ada: Login) -> None:
    wish = {"filename": "film.mp4", "size_bytes": 5}
    made = [client.post("/v1/uploads", headers=ada, json=wish).json()["id"] for _ in range(5)]
    client.delete(f"/v1/uploads/{made[0]}", headers=ada)
    first = client.get("/v1/uploads?limit=3", headers=ada).json()
    assert [row["id"] for row in first["data"]] == made[:1:-1]
    assert first["has_more"]
    rest = client.get(f"/v1/uploads?limit=3&after={first['next_cursor']}", headers=ada).json()
    assert [row["id"] for row in rest["data"]] == made[1::-1]
    assert not rest["has_more"]
    ended = client.get("/v1/uploads?state=cancelled", headers=ada).json()["data"]
    assert [row["id"] for row in ended] == made[:1]


# --- signed parts ---------------------------------------------------------------------------------


def test_a_part_url_takes_this_part_of_this_length_until_it_expires(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 8 * 1024 * 1024
    wish = {"filename": "film.mp4", "size_bytes": 2 * size}
    one_, other = (client.post("/v1/uploads", headers=ada, json=wish).json() for _ in range(2))
    url = f"/v1/uploads/{one_['id']}/parts"
    signed = client.post(url, headers=ada, json={"numbers": [1, 2]}).json()["data"]
    first, second = (part["url"].partition("?signature=")[2] for part in signed)
    expired = services.signer.sign("upload-part", f"{one_['id']}/1/{size}", int(time.time()) - 1)
    foreign = services.signer.sign("link", f"{one_['id']}/1/{size}", int(time.time()) + 99)
    body = bytes(size)
    wrong = {
        "a byte less": (f"{url}/1?signature={first}", body[:-1]),
        "a byte more": (f"{url}/1?signature={first}", body + b"1"),
        "another part": (f"{url}/2?signature={first}", body),
        "another part's": (f"{url}/1?signature={second}", body),
        "no part": (f"{url}/3?signature={first}", body),
        "another upload": (f"/v1/uploads/{other['id']}/parts/1?signature={first}", body),
        "no upload": (f"/v1/uploads/{'0' * 26}/parts/1?signature={first}", body),
        "a letter changed": (
            f"{url}/1?signature={first[:-1]}{'A' if first[-1] != 'A' else 'B'}",
            body,
        ),
        "a later expiry": (
            f"{url}/1?signature={int(first.split('.')[0]) + 1}.{first.split('.')[1]}",
            body,
        ),
        "expired": (f"{url}/1?signature={expired}", body),
        "for another purpose": (f"{url}/1?signature={foreign}", body),
        "none": (f"{url}/1?signature=", body),
    }
    for what, (path, content) in wrong.items():
        answer = client.put(path, content=content)
        assert (answer.status_code, answer.json()["code"]) == (403, "part_refused"), what
    assert client.put(f"{url}/1?signature={first}", content=body).status_code == 200
    again = client.put(f"{url}/1?signature={first}", content=body)
    assert again.status_code == 200, "a part may be sent again"


def test_a_part_says_its_length(app: FastAPI, client: TestClient, ada: Login) -> None:
    wish = {"filename": "song.wav", "size_bytes": len(SONG)}
    upload = client.post("/v1/uploads", headers=ada, json=wish).json()
    url = f"/v1/uploads/{upload['id']}/parts"
    signed = client.post(url, headers=ada, json={"numbers": [1]}).json()["data"][0]["url"]
    path = signed.partition(":8000")[2]
    with serving(app) as served:
        head = f"PUT {path} HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n"
        answer = send_raw(served, head, chunked(len(SONG)))
        assert answer.status == 411
        # A length beside chunks that hold more: HTTP's framing believes the chunks.
        told = f"PUT {path} HTTP/1.1\nHost: x\nContent-Length: {len(SONG)}\n"
        answer = send_raw(served, f"{told}Transfer-Encoding: chunked\n\n", chunked(50 * MB))
        assert answer.status in (400, 413)
        assert answer.closed
        assert served.taken.get(path.partition("?")[0], 0) <= len(SONG) + MB
    complete = client.post(f"/v1/uploads/{upload['id']}/complete", headers=ada)
    assert complete.json()["code"] == "upload_incomplete"


def open_part(client: TestClient, login: Login) -> tuple[str, str]:
    """An upload of one part: its id, and the path of the part's URL."""
    wish = {"filename": "song.wav", "size_bytes": len(SONG)}
    upload_id = client.post("/v1/uploads", headers=login, json=wish).json()["id"]
    url = f"/v1/uploads/{upload_id}/parts"
    signed = client.post(url, headers=login, json={"numbers": [1]}).json()["data"][0]["url"]
    return upload_id, signed[signed.index("/v1/") :]


def test_a_part_that_breaks_off_when_sent_again_is_missing(
    app: FastAPI, client: TestClient, ada: Login
) -> None:
    """Its first bytes lie over those of the part that was there."""
    upload_id, path = open_part(client, ada)
    assert client.put(path, content=SONG).status_code == 200
    with serving(app) as served, served.connect() as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SONG)}\r\n\r\n"
        connection.sendall(head.encode() + bytes(20_000))
        until(lambda: served.taken.get(path.partition("?")[0]) == 20_000)
    answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_incomplete")
    assert client.put(path, content=SONG).status_code == 200
    assert client.post(f"/v1/uploads/{upload_id}/complete", headers=ada).status_code == 200


def test_a_part_of_an_upload_that_ended_meanwhile_is_gone(
    app: FastAPI, client: TestClient, services: Services, ada: Login
) -> None:
    upload_id, path = open_part(client, ada)
    with serving(app) as served, served.connect() as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SONG)}\r\n\r\n"
        connection.sendall(head.encode() + SONG[:20_000])
        until(lambda: served.taken.get(path.partition("?")[0]) == 20_000)
        assert client.delete(f"/v1/uploads/{upload_id}", headers=ada).status_code == 204
        connection.sendall(SONG[20_000:])
        assert read_answer(connection).status == 410
    assert kept(services) == []


def test_no_bytes_come_once_the_completion_has_begun(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, path = open_part(client, ada)
    assert client.put(path, content=SONG).status_code == 200
    user_id = one(services, t.users, email="ada@example.org")["id"]
    with monkeypatch.context() as during:
        during.setattr(LocalStorage, "finish", _before(LocalStorage.finish))
        with pytest.raises(Crash):
            completion.finish(services, user_id, upload_id)
    answer = client.put(path, content=bytes(len(SONG)))
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_completing")
    asset_id = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada).json()["asset_id"]
    assert source(services, asset_id) == SONG


def test_one_upload_has_one_door(client: TestClient, ada: Login) -> None:
    wish = {"filename": "film.mp4", "size_bytes": len(SONG)}
    upload = client.post("/v1/uploads", headers=ada, json=wish).json()
    url = f"/v1/uploads/{upload['id']}/parts"
    part = client.post(url, headers=ada, json={"numbers": [1]}).json()["data"][0]["url"]
    sent = client.patch(upload["tus_url"], headers=patch(ada, 0), content=SONG[:10])
    assert sent.status_code == 204
    answer = client.put(part, content=SONG)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_other_door")


# --- forms with a signed policy -------------------------------------------------------------------


def policy_of(fields: dict[str, str]) -> Any:
    return json.loads(b64decode(fields["policy"]))


def test_the_policy_pins_size_type_owner_and_upload(
    client: TestClient, services: Services, ada: Login
) -> None:
    wish = {"content_type": "audio/wav", "min_size_bytes": 100, "max_size_bytes": 40_000}
    form = client.post("/v1/uploads/presigned-post", headers=ada, json=wish).json()
    user_id = one(services, t.users, email="ada@example.org")["id"]
    policy = policy_of(form["fields"])
    assert policy["conditions"] == [
        ["content-length-range", 100, 40_000],
        ["eq", "$Content-Type", "audio/wav"],
        {"upload_id": form["upload"]["id"]},
        {"user_id": user_id},
    ]
    other = client.post("/v1/uploads/presigned-post", headers=ada, json=wish).json()

    def edited(index: int, value: Any) -> str:
        changed = policy_of(form["fields"])
        changed["conditions"][index] = value
        return b64encode(json.dumps(changed).encode()).decode()

    fields = form["fields"]
    wrong = {
        "larger": {"policy": edited(0, ["content-length-range", 1, 10**9])},
        "any type": {"policy": edited(1, ["starts-with", "$Content-Type", ""])},
        "another upload's": {"policy": edited(2, {"upload_id": other["upload"]["id"]})},
        "another owner": {"policy": edited(3, {"user_id": "0" * 26})},
        "another upload": {"upload_id": other["upload"]["id"]},
        "another signature": {"signature": other["fields"]["signature"]},
        "another type": {"Content-Type": "video/mp4"},
        "no policy": {"policy": ""},
        "no signature": {"signature": ""},
        "expired": {
            "signature": services.signer.sign("upload-post", fields["policy"], int(time.time()) - 1)
        },
    }
    for what, change in wrong.items():
        files = {"file": ("song.wav", SONG, "audio/wav")}
        answer = client.post(form["url"], data={**fields, **change}, files=files)
        assert (answer.status_code, answer.json()["code"]) == (403, "policy_refused"), what
    small = client.post(form["url"], data=fields, files={"file": ("s.wav", SONG[:99], "audio/wav")})
    assert (small.status_code, small.json()["code"]) == (422, "upload_too_small")
    large = client.post(form["url"], data=fields, files={"file": ("s.wav", song(3), "audio/wav")})
    assert (large.status_code, large.json()["code"]) == (413, "upload_too_large")
    files = {"file": ("song.wav", SONG, "audio/wav")}
    assert client.post(form["url"], data=fields, files=files).status_code == 201
    again = client.post(form["url"], data=fields, files=files)
    assert (again.status_code, again.json()["code"]) == (410, "upload_gone")
    assert count(services, t.assets) == 1


def test_a_policy_stays_within_the_owners_limit(client: TestClient, ada: Login) -> None:
    url = "/v1/uploads/presigned-post"
    answer = client.post(url, headers=ada, json={"max_size_bytes": 100 * MB + 1})
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    for wrong in (
        {"content_type": "text/html"},
        {"content_type": "*/*"},
        {"min_size_bytes": 10**9},
    ):
        answer = client.post(url, headers=ada, json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "policy_invalid")


def test_a_signed_form_takes_what_its_policy_says_in_large_pieces(
    app: FastAPI, client: TestClient, ada: Login
) -> None:
    """A server hands over several hundred kilobytes at once: the fields and much of the file."""
    wish = {"content_type": "audio/*", "max_size_bytes": 3 * MB}
    form = client.post("/v1/uploads/presigned-post", headers=ada, json=wish).json()
    body = multipart("XX", form["fields"], "x.wav", bytes(3 * MB))
    head = "POST /v1/uploads/post HTTP/1.1\nHost: x\nConnection: close\n"
    head += "Content-Type: multipart/form-data; boundary=XX\n"
    with serving(app) as served:
        answer = send_raw(served, f"{head}Content-Length: {len(body)}\n\n", [body])
    assert (answer.status, json.loads(answer.body)["code"]) == (422, "not_media")


# --- plain forms ----------------------------------------------------------------------------------


def test_a_form_that_is_sent_again_is_never_mixed_with_the_one_before(
    client: TestClient, services: Services, ada: Login
) -> None:
    """The first came whole and its completion died; of the second only the beginning came."""
    form = client.post("/v1/uploads/presigned-post", headers=ada, json={"content_type": "audio/*"})
    fields, upload_id = form.json()["fields"], form.json()["upload"]["id"]
    first = forms.open_post(services, fields, filename="first.wav", content_type="audio/wav")
    first.write(SONG)
    with pytest.raises(incoming.Locked):
        forms.open_post(services, fields, filename="other.wav", content_type="audio/ogg")
    first.finish()
    first.close()
    row = one(services, t.uploads, id=upload_id)
    assert (row["filename"], row["content_type"]) == ("first.wav", "audio/wav")
    assert (row["size_bytes"], row["offset_bytes"]) == (len(SONG), len(SONG))
    second = forms.open_post(services, fields, filename="b.wav", content_type="audio/wav")
    second.write(b"RIFF, and then nothing more")
    second.close()
    answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_incomplete")
    sent = client.post(
        form.json()["url"], data=fields, files={"file": ("b.wav", SONG, "audio/wav")}
    )
    assert source(services, sent.json()["asset_id"]) == SONG


@pytest.mark.needs("curl")
def test_curl_sends_a_form(app: FastAPI, client: TestClient, ada: Login, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(SONG)
    with serving(app) as served:
        words = ["curl", "-sS", "--max-time", "30", "-F", f"file=@{tmp_path / 'song.wav'}"]
        words += ["-F", "title=By curl", "-H", f"Authorization: {ada['Authorization']}"]
        sent = subprocess.run(
            [*words, f"{served.base_url}/v1/uploads/form"], capture_output=True, check=True
        )
    upload = json.loads(sent.stdout)
    assert (upload["state"], upload["title"]) == ("finished", "By curl")


def test_forms_that_are_none_are_refused(
    client: TestClient, services: Services, ada: Login
) -> None:
    url = "/v1/uploads/form"
    kind = {**ada, "Content-Type": "multipart/form-data; boundary=XX"}
    file = ("song.wav", SONG, "audio/wav")
    good = multipart("XX", {}, "song.wav", SONG)
    wrong: dict[str, tuple[Response, str]] = {
        "JSON": (client.post(url, headers=ada, json={}), "form_invalid"),
        "no boundary": (
            client.post(url, headers={**ada, "Content-Type": "multipart/form-data"}, content=good),
            "form_invalid",
        ),
        "cut off": (client.post(url, headers=kind, content=good[:-10]), "form_invalid"),
        "no form": (client.post(url, headers=kind, content=b"hello" * 100), "form_invalid"),
        "no file": (
            client.post(
                url,
                headers=kind,
                content=good.replace(b'; filename="song.wav"', b""),
            ),
            "form_invalid",
        ),
        "two files": (
            client.post(url, headers=ada, files=[("file", file), ("file", file)]),
            "form_invalid",
        ),
        "another name": (client.post(url, headers=ada, files={"film": file}), "form_invalid"),
        "another field": (
            client.post(url, headers=ada, files={"file": file}, data={"owner_id": "x"}),
            "form_invalid",
        ),
        "a huge field": (
            client.post(url, headers=ada, files={"file": file}, data={"title": "x" * 70_000}),
            "form_too_large",
        ),
        "many fields": (
            client.post(
                url, headers=ada, files={"file": file}, data={f"f{n}": "x" for n in range(60)}
            ),
            "form_too_large",
        ),
        "no such preset": (
            client.post(url, headers=ada, files={"file": file}, data={"preset": "vhs"}),
            "preset_unknown",
        ),
        "no wish": (
            client.post(url, headers=ada, files={"file": file}, data={"on_complete": "[1]"}),
            "on_complete_invalid",
        ),
        "empty": (client.post(url, headers=ada, files={"file": ("a", b"")}), "upload_empty"),
    }
    for what, (answer, code) in wrong.items():
        assert (answer.status_code, answer.json()["code"]) == (422, code), (what, answer.text)
    assert kept(services) == []
    assert client.get("/v1/uploads?state=open", headers=ada).json()["data"] == []


def test_fields_may_follow_the_file_of_a_plain_form(client: TestClient, ada: Login) -> None:
    body = multipart("XX", {}, "song.wav", SONG).removesuffix(b"--XX--\r\n")
    body += b'--XX\r\nContent-Disposition: form-data; name="title"\r\n\r\nLate\r\n--XX--\r\n'
    kind = {**ada, "Content-Type": 'multipart/form-data; boundary="XX"'}
    answer = client.post("/v1/uploads/form", headers=kind, content=body)
    assert (answer.status_code, answer.json()["title"]) == (201, "Late")


@pytest.mark.parametrize(
    ("said", "kept_as"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a.mp4", "a.mp4"),
        ("a\x00b\n\u202egpj.mp4", "abgpj.mp4"),
        ("x" * 400 + ".mp4", "x" * 251 + ".mp4"),
        ("..", "upload"),
        ("Träume 夢.mp4", "Träume 夢.mp4"),
    ],
)
def test_a_filename_is_only_a_name(said: str, kept_as: str) -> None:
    assert words.clean_name(said) == kept_as


# --- limits, and clients that lie -----------------------------------------------------------------


@pytest.fixture
def small(services: Services, client: TestClient, ada: Login) -> int:
    """Ada's own limit: far below the setting."""
    with services.database.write() as tx:
        tx.connection.execute(sa.update(t.users).values(max_upload_bytes=200_000))
    return 200_000


@every_door
def test_a_users_limit_holds_to_the_byte(
    door: Door, client: TestClient, ada: Login, small: int
) -> None:
    exact = (SONG + bytes(small))[:small]
    answer, _ = door(client, ada, exact)
    assert answer.status_code in (200, 201, 204), answer.text
    answer, _ = door(client, ada, exact + b"1")
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


def _lies(client: TestClient, login: Login, small: int) -> dict[str, tuple[str, bytes]]:
    """For each door a request head without its framing, and the first bytes of a body."""
    authorization = f"Authorization: {login['Authorization']}\n"
    known = {"filename": "x.wav", "size_bytes": small}
    open_ = client.post("/v1/uploads", headers=login, json=known).json()
    headers = tus(login, upload_defer_length="1")
    deferred = client.post("/v1/tus", headers=headers).headers["location"]
    form = client.post(
        "/v1/uploads/presigned-post", headers=login, json={"content_type": "audio/*"}
    )
    fields = form.json()["fields"]
    of_tus = f"Host: x\n{authorization}Tus-Resumable: 1.0.0\nUpload-Offset: 0\n"
    of_tus += f"Content-Type: {OFFSET_TYPE}\n"
    of_form = "Host: x\nContent-Type: multipart/form-data; boundary=XX\n"
    begin = multipart("XX", {}, "x.wav", b"").partition(b"\r\n--XX--")[0]
    signed = multipart("XX", fields, "x.wav", b"").partition(b"\r\n--XX--")[0]
    return {
        "tus": (f"PATCH /v1/tus/{open_['id']} HTTP/1.1\n{of_tus}", b""),
        "tus, length unknown": (
            f"PATCH /v1/tus/{deferred.rpartition('/')[2]} HTTP/1.1\n{of_tus}",
            b"",
        ),
        "tus, with the creation": (f"POST /v1/tus HTTP/1.1\n{of_tus}Upload-Length: {small}\n", b""),
        "form": (f"POST /v1/uploads/form HTTP/1.1\n{authorization}{of_form}", begin),
        "form, endless after its end": (
            f"POST /v1/uploads/form HTTP/1.1\n{authorization}{of_form}",
            begin + b"x\r\n--XX--\r\n",
        ),
        "form, endless before its file": (
            f"POST /v1/uploads/form HTTP/1.1\n{authorization}{of_form}",
            b"\r\n",
        ),
        "signed form": (f"POST /v1/uploads/post HTTP/1.1\n{of_form}", signed),
        "signed form, endless after its end": (
            f"POST /v1/uploads/post HTTP/1.1\n{of_form}",
            signed + b"x\r\n--XX--\r\n",
        ),
        "signed form without a signature": (f"POST /v1/uploads/post HTTP/1.1\n{of_form}", begin),
    }


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(
    app: FastAPI, client: TestClient, ada: Login, small: int
) -> None:
    with serving(app) as served:
        for what, (head, _) in _lies(client, ada, small).items():
            if "signed" in what:
                continue  # nobody knows its limit before its fields have come
            told = f"{head}Content-Length: {small + 2 * MB}\nExpect: 100-continue\n\n"
            answer = send_raw(served, told)
            assert answer.status == 413, (what, answer)
            assert json.loads(answer.body)["code"] == "upload_too_large"
            assert answer.closed, what
            assert "100 Continue" not in answer.head
        assert sum(served.taken.values()) == 0


def test_a_client_that_lies_is_cut_off(
    app: FastAPI, client: TestClient, services: Services, ada: Login, small: int
) -> None:
    """Endless chunks by every door: what the routes are given ends at the limit + 1 MB, and so
    does what is on the disk."""
    with serving(app) as served:
        for what, (head, begin) in _lies(client, ada, small).items():
            served.taken.clear()

            def endless(begin: bytes = begin) -> Iterator[bytes]:
                if begin:
                    yield f"{len(begin):x}\r\n".encode() + begin + b"\r\n"
                yield from repeat(b"10000\r\n" + b"\r\n" * 0x8000 + b"\r\n", 3000)

            answer = send_raw(served, f"{head}Transfer-Encoding: chunked\n\n", endless())
            assert answer.closed, what
            assert answer.status in (0, 403, 413, 422), (what, answer)
            assert sum(served.taken.values()) <= small + MB, what
            sizes = [path.stat().st_size for path in incoming_files(services)]
            assert all(size <= small for size in sizes), what
        assert count(services, t.assets) == 0


def incoming_files(services: Services) -> list[Path]:
    folder = services.settings.data / "objects" / "incoming"
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_refusal_closes_the_connection(app: FastAPI, client: TestClient, ada: Login) -> None:
    """What a refused client goes on sending is not read."""
    heads = {
        "POST /v1/uploads/form": (401, "Content-Type: multipart/form-data; boundary=XX\n"),
        "POST /v1/tus": (401, "Tus-Resumable: 1.0.0\nUpload-Length: 5\n"),
        "PATCH /v1/tus/0": (401, "Tus-Resumable: 1.0.0\n"),
        "PUT /v1/uploads/0/parts/1?signature=x": (403, ""),
        "POST /v1/uploads/post": (422, "Content-Type: text/plain\n"),
    }
    with serving(app) as served:
        for request, (status, headers) in heads.items():
            head = f"{request} HTTP/1.1\nHost: x\n{headers}Content-Length: 90000000\n\n"
            answer = send_raw(served, head)
            assert (answer.status, answer.closed) == (status, True), (request, answer)
        assert sum(served.taken.values()) == 0


def test_a_silent_client_is_let_go(
    app: FastAPI,
    client: TestClient,
    services: Services,
    ada: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "SILENCE_S", 0.5)
    with serving(app) as served, served.connect() as connection:
        head = "POST /v1/uploads/form HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n"
        head += f"Authorization: {ada['Authorization']}\r\n"
        head += "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
        connection.sendall(head.encode() + multipart("XX", {}, "x.wav", SONG)[:5000])
        answer = read_answer(connection)
    assert (answer.status, json.loads(answer.body)["code"]) == (408, "body_timeout")
    assert answer.closed
    assert kept(services) == []


# --- ends -----------------------------------------------------------------------------------------


def test_unfinished_uploads_expire_and_are_collected(
    client: TestClient, services: Services, ada: Login
) -> None:
    late, alive = filled(client, ada), filled(client, ada)
    finished, _ = by_form(client, ada, SONG)
    assert sessions.collect_expired(services) == 0
    with services.database.write() as tx:
        tx.connection.execute(
            sa.update(t.uploads).where(t.uploads.c.id == late).values(expires_at=tx.now - 1)
        )
    assert collect(services) == 1  # as the service does every few seconds
    assert client.get(f"/v1/uploads/{late}", headers=ada).json()["state"] == "expired"
    assert kept(services) == [f"assets/{finished.json()['asset_id']}/source", alive]
    for answer in (
        client.post(f"/v1/uploads/{late}/complete", headers=ada),
        client.patch(f"/v1/tus/{late}", headers=patch(ada, 0), content=b"x"),
        client.head(f"/v1/tus/{late}", headers=tus(ada)),
    ):
        assert answer.status_code == 410
    assert client.post(f"/v1/uploads/{alive}/complete", headers=ada).status_code == 200


def test_an_upload_that_expires_after_a_crash_leaves_no_object(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = filled(client, ada)
    user_id = one(services, t.users, email="ada@example.org")["id"]
    with monkeypatch.context() as during:
        during.setattr(completion, "probe", _before(real_probe))
        with pytest.raises(Crash):
            completion.finish(services, user_id, upload_id)
    assert len(kept(services)) == 1
    with services.database.write() as tx:
        tx.connection.execute(sa.update(t.uploads).values(expires_at=tx.now - 1))
    assert sessions.collect_expired(services) == 1
    assert kept(services) == []


def test_bytes_come_and_the_time_begins_anew(
    client: TestClient, services: Services, ada: Login
) -> None:
    wish = {"filename": "song.wav", "size_bytes": len(SONG)}
    upload = client.post("/v1/uploads", headers=ada, json=wish).json()
    with services.database.write() as tx:
        tx.connection.execute(sa.update(t.uploads).values(expires_at=tx.now + 5))
    client.patch(upload["tus_url"], headers=patch(ada, 0), content=SONG[:100])
    row = one(services, t.uploads, id=upload["id"])
    assert row["expires_at"] > time.time() + services.settings.upload_ttl_s - 60


def test_incoming_files_without_an_upload_are_collected(
    client: TestClient, services: Services, ada: Login
) -> None:
    filled(client, ada)
    with services.database.write() as tx:
        tx.connection.execute(sa.delete(t.users))
    assert sessions.collect_expired(services) == 1
    assert kept(services) == []


def test_old_rows_of_ended_uploads_are_forgotten(
    client: TestClient, services: Services, ada: Login
) -> None:
    ended, finished = filled(client, ada), filled(client, ada)
    client.delete(f"/v1/uploads/{ended}", headers=ada)
    client.post(f"/v1/uploads/{finished}/complete", headers=ada)
    sessions.collect_expired(services)
    assert count(services, t.uploads) == 2
    with services.database.write() as tx:
        tx.connection.execute(sa.update(t.uploads).values(expires_at=tx.now - 8 * 24 * 3600))
    sessions.collect_expired(services)
    assert one(services, t.uploads, id=ended) is None
    assert one(services, t.uploads, id=finished) is not None


def test_an_upload_can_be_cancelled_until_it_is_finished(
    client: TestClient, services: Services, ada: Login
) -> None:
    upload_id = filled(client, ada)
    for _ in range(2):
        assert client.delete(f"/v1/uploads/{upload_id}", headers=ada).status_code == 204
    assert kept(services) == []
    assert client.get(f"/v1/uploads/{upload_id}", headers=ada).json()["state"] == "cancelled"
    answer = client.post(f"/v1/uploads/{upload_id}/complete", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (410, "upload_gone")
    finished, _ = by_form(client, ada, SONG)
    answer = client.delete(f"/v1/uploads/{finished.json()['id']}", headers=ada)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_finished")
    assert source(services, finished.json()["asset_id"]) == SONG


def test_a_store_without_local_files_is_probed_from_a_copy(
    client: TestClient, services: Services, ada: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStorage, "local_path", lambda self, key: None)
    answer, _ = by_form(client, ada, SONG)
    assert answer.status_code == 201
    assert answer.json()["state"] == "finished"
