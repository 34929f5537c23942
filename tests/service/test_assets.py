"""Assets over HTTP: list, search, gallery, read, edit, delete."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.service.films import Film, add_film, claim, run_to_end
from tests.service.jobs_made import add_asset, add_user
from tests.service.owners import Owner, owner_of

from telecine.service.db import assets as rows
from telecine.service.db import queue
from telecine.service.db.connection import Database
from telecine.service.db.tables import assets, attempts, garbage, jobs, outputs, tasks, tenants
from telecine.service.domain import Visibility, new_id
from telecine.service.services import Services


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def titles(page: Any) -> list[str]:
    return [asset["title"] for asset in page["data"]]


# --- lists ----------------------------------------------------------------------------------------


def test_lists_are_mine_newest_first_in_pages(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    eve = owner_of(client, "eve@example.org")
    add_film(services, eve.user_id, film, title="eve's", visibility="public", state="ready")
    for n in range(5):
        add_film(services, ada.user_id, film, title=f"film {n}")
    seen, after = [], None
    while True:
        page = ada.get("/v1/assets", params={"limit": 2, **({"after": after} if after else {})})
        seen += titles(page)
        after = page["next_cursor"]
        if not page["has_more"]:
            break
    assert seen == [f"film {n}" for n in (4, 3, 2, 1, 0)]
    assert titles(eve.get("/v1/assets")) == ["eve's"]
    assert client.get("/v1/assets").status_code == 401


def test_lists_are_filtered(ada: Owner, services: Services, film: Film) -> None:
    for state, visibility in (("ready", "public"), ("ready", "private"), ("failed", "public")):
        add_film(
            services, ada.user_id, film, title=f"{state} {visibility}", state=state,
            visibility=visibility,
        )  # fmt: skip

    def found(**params: str) -> list[str]:
        return titles(ada.get("/v1/assets", params=params))

    assert found(state="ready") == ["ready private", "ready public"]
    assert found(visibility="public") == ["failed public", "ready public"]
    assert found(state="failed", visibility="private") == []
    assert found(state="ready", q="PUBL") == ["ready public"]
    assert ada.get("/v1/assets", 422, params={"state": "lost"})["code"] == "invalid_request"


SEARCHED = {
    "Big Buck Bunny": ("about a rabbit", "bbb.mp4"),
    "100% Wool": ("sheep_in_the_field", "a.mov"),
    "Über den Wolken": ("ПОЛЁТ", "b.mkv"),
    r"back\slash": ("", "c.mp4"),
}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bunny", ["Big Buck Bunny"]),
        ("BIG b", ["Big Buck Bunny"]),
        ("rabbit", ["Big Buck Bunny"]),
        ("BBB.MP4", ["Big Buck Bunny"]),
        ("über", ["Über den Wolken"]),
        ("ÜBER", ["Über den Wolken"]),
        ("полёт", ["Über den Wolken"]),
        ("%", ["100% Wool"]),
        ("0%", ["100% Wool"]),
        ("_", ["100% Wool"]),
        ("p_i", ["100% Wool"]),
        ("\\", [r"back\slash"]),
        ("k%s", []),
        ("'; drop table assets; --", []),
        ("", list(reversed(SEARCHED))),
    ],
)
def test_search_finds_the_words_as_they_stand(
    database: Database, words: str, found: list[str]
) -> None:
    with database.write() as tx:
        user_id = new_id()
        add_user(tx, user_id)
        for title, (description, filename) in SEARCHED.items():
            add_asset(
                tx, new_id(), user_id, state="ready", visibility="public", title=title,
                description=description, filename=filename,
            )  # fmt: skip
    with database.read() as tx:
        for whose in (user_id, None):
            listed = rows.list_assets(
                tx, user_id=whose, visibility=None, state=None, words=words, after=None, limit=9
            )
            wanted = [] if whose is None and words == "BBB.MP4" else sorted(found)
            assert sorted(row.title for row in listed) == wanted


def test_the_gallery_shows_what_is_public_and_ready(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    for state in ("uploaded", "processing", "ready", "failed"):
        for visibility in ("private", "unlisted", "public"):
            add_film(
                services, ada.user_id, film, title=f"{state} {visibility}", state=state,
                visibility=visibility,
            )  # fmt: skip
    page = client.get("/v1/gallery").json()
    assert titles(page) == ["ready public"]
    assert titles(client.get("/v1/gallery", params={"q": "READY"}).json()) == ["ready public"]
    assert titles(client.get("/v1/gallery", params={"q": "failed"}).json()) == []
    assert {"filename", "summary", "source_sha256", "user_id"}.isdisjoint(page["data"][0])


def test_the_gallery_tells_no_file_name(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    """Not by a letter at a time either; its owner finds the asset by it."""
    add_film(services, ada.user_id, film, title="a day out", state="ready", visibility="public")
    found = ada.get("/v1/assets")["data"][0]["filename"]
    assert found not in ("", "a day out")
    for words in (found, found[:3], found.upper()):
        assert titles(client.get("/v1/gallery", params={"q": words}).json()) == []
        assert titles(ada.get("/v1/gallery", params={"q": words})) == []
        assert titles(ada.get("/v1/assets", params={"q": words})) == ["a day out"]
    assert titles(client.get("/v1/gallery", params={"q": "day"}).json()) == ["a day out"]


# --- one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["public", "unlisted", "private"])
def test_a_key_without_the_scope_sees_what_anybody_sees(
    ada: Owner, client: TestClient, services: Services, film: Film, visibility: Visibility
) -> None:
    """Of an asset as of where it plays; what nobody sees it is told that it may not."""
    asset_id = add_film(services, ada.user_id, film, state="ready", visibility=visibility)
    key = ada.post("/v1/api-keys", {"name": "k", "scopes": ["jobs:read"]}, 201)["secret"]
    for path in (f"/v1/assets/{asset_id}", f"/v1/assets/{asset_id}/playback"):
        seen = client.get(path, headers={"Authorization": f"Bearer {key}"})
        if visibility == "private":
            assert (seen.status_code, seen.json()["code"]) == (403, "scope_missing")
        else:
            assert (seen.status_code, seen.json()) == (200, client.get(path).json())


def test_the_owner_sees_what_the_probe_found(ada: Owner, services: Services, film: Film) -> None:
    asset_id = add_film(services, ada.user_id, film)
    found = ada.get(f"/v1/assets/{asset_id}")
    assert (found["id"], found["state"], found["visibility"]) == (asset_id, "uploaded", "private")
    assert found["filename"] == "film.mp4"
    assert found["source_size_bytes"] == film.path.stat().st_size
    assert found["source_kept"] is True
    assert found["duration_s"] == pytest.approx(3, abs=0.05)
    assert any("640×360" in line for line in found["summary"])
    assert found["created_at"].endswith("Z")
    media = found["media"]
    video, audio = media["video"][0], media["audio"][0]
    assert (video["codec"], video["width"], video["height"]) == ("h264", 640, 360)
    assert (video["frame_rate"], video["rotation"], video["hdr"]) == (25, 0, False)
    assert (audio["codec"], audio["channels"], audio["sample_rate"]) == ("aac", 2, 48_000)
    assert "index_table" not in str(media)


def test_who_may_see_an_asset(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    eve = owner_of(client, "eve@example.org")
    made = {
        visibility: add_film(services, ada.user_id, film, visibility=visibility)
        for visibility in ("private", "unlisted", "public")
    }
    for visibility, asset_id in made.items():
        mine = ada.get(f"/v1/assets/{asset_id}")
        assert mine["media"] is not None
        for other in (eve.headers, {}):
            answer = client.get(f"/v1/assets/{asset_id}", headers=other)
            if visibility == "private":
                assert (answer.status_code, answer.json()["code"]) == (404, "asset_unknown")
            else:
                assert answer.status_code == 200
                assert set(answer.json()) == {
                    *("id", "state", "visibility", "title", "description", "duration_s"),
                    *("poster_url", "created_at", "kind"),
                }
    assert client.get(f"/v1/assets/{new_id()}").status_code == 404


def test_somebody_elses_asset_is_out_of_reach(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    eve = owner_of(client, "eve@example.org")
    asset_id = add_film(services, ada.user_id, film, visibility="public", state="ready")
    path = f"/v1/assets/{asset_id}"
    for method, where, body in (
        ("PATCH", path, {"title": "mine"}),
        ("DELETE", path, None),
        ("GET", f"{path}/source", None),
    ):
        assert eve.ask(method, where, 404, json=body)["code"] == "asset_unknown"
        assert client.request(method, where, json=body).status_code == 401
    assert ada.get(path)["title"] == "A film"


def test_edit(ada: Owner, services: Services, film: Film) -> None:
    asset_id = add_film(services, ada.user_id, film)
    path = f"/v1/assets/{asset_id}"
    before = ada.get(path)
    changed = ada.ask("PATCH", path, json={"title": "Ünten", "visibility": "unlisted"})
    assert (changed["title"], changed["visibility"]) == ("Ünten", "unlisted")
    assert changed["updated_at"] > before["updated_at"]
    assert changed["description"] == ""
    assert ada.get(path) == changed
    changed = ada.ask("PATCH", path, json={"description": "Worte"})
    assert (changed["title"], changed["description"]) == ("Ünten", "Worte")
    assert ada.ask("PATCH", path, json={}) == changed
    for wrong in (
        {"title": ""},
        {"title": "x" * 301},
        {"title": "nul\0"},
        {"visibility": "secret"},
        {"state": "ready"},
        {"user_id": new_id()},
        {"id": new_id()},
    ):
        assert ada.ask("PATCH", path, 422, json=wrong)["code"] == "invalid_request"
    assert ada.get(path) == changed


def test_a_poster_has_a_url_that_plays(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    """The playback routes answer it: by its path for what is public, with a token for the rest."""
    asset_id = add_film(services, ada.user_id, film, title="t", visibility="public")
    job_id = ada.submit(asset_id, preset="poster")["id"]
    run_to_end(services, job_id, {"poster.jpg": b"\xff\xd8 a picture"})
    with services.database.write() as tx:
        prefix = tx.connection.execute(sa.select(jobs.c.prefix)).scalar_one()
        tx.connection.execute(sa.update(assets).values(poster_key=f"{prefix}/poster.jpg"))
    url = client.get("/v1/gallery").json()["data"][0]["poster_url"]
    assert url == f"http://127.0.0.1:8000/media/{asset_id}/{job_id}/poster.jpg"
    assert client.get(url).content == b"\xff\xd8 a picture"
    private = ada.ask("PATCH", f"/v1/assets/{asset_id}", json={"visibility": "private"})
    assert private["poster_url"].startswith("http://127.0.0.1:8000/p/")
    assert client.get(private["poster_url"]).content == b"\xff\xd8 a picture"
    assert client.get(url).status_code == 404


# --- delete ---------------------------------------------------------------------------------------


def test_deleting_leaves_no_row_and_no_byte(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    kept = add_film(services, ada.user_id, film, title="kept")
    asset_id = add_film(services, ada.user_id, film)
    done = ada.submit(asset_id, preset="mp3")["id"]
    run_to_end(services, done, {"audio.mp3": b"ID3"})
    running = ada.submit(asset_id, preset="mp3")["id"]
    held = claim(services)
    services.storage.put_bytes(f"{held.prefix}/half.bin", b"half")
    ada.submit(asset_id, preset="mp3")
    link = ada.get(f"/v1/jobs/{done}/outputs")["data"][0]["url"]
    source = ada.get(f"/v1/assets/{asset_id}/source")["url"]
    ada.ask("DELETE", f"/v1/assets/{asset_id}", 204)
    for path in (f"/v1/assets/{asset_id}", f"/v1/jobs/{done}", f"/v1/jobs/{running}"):
        ada.get(path, 404)
    assert [client.get(url).status_code for url in (link, source)] == [404, 404]
    with services.database.read() as tx:
        counted = [
            tx.connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (jobs, tasks, outputs)
        ]
        tenant = tx.connection.execute(sa.select(tenants)).one()
        left = tx.connection.execute(sa.select(garbage.c.prefix, garbage.c.not_before)).all()
        now_s = tx.now_s()
        known = set(tx.connection.execute(sa.select(attempts.c.prefix)).scalars())
    assert counted == [0, 0, 0]
    assert (tenant.queued_jobs, tenant.running_jobs) == (0, 0)
    assert known, "the collector still knows of every attempt"
    # What is due now covers every object but the kept asset's; what a late worker writes comes
    # under a prefix that is due once more, later.
    due = [prefix for prefix, at in left if at <= now_s]
    for prefix in due:
        services.storage.delete(prefix)
    assert list(services.storage.keys("")) == [f"sources/{kept}"]
    assert {prefix for prefix, at in left if at > now_s} >= {f"tasks/{running}/"}
    with services.database.write() as tx:
        assert queue.heartbeat(tx, held, {}) is None
        assert not queue.commit(tx, held, result={})
    assert titles(ada.get("/v1/assets")) == ["kept"]
