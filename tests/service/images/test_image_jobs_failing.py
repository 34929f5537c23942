"""Jobs of pictures that wait, fail, are cancelled and tried again: workers run when a test says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.films import Film
from tests.service.owners import Owner, owner_of
from tests.service.pictures import animation, encoded, quarters
from tests.service.working import one, rows, working
from tests.waiting import until

from telecine.engine.images.values import ImageLimits
from telecine.service.collector import collect, inspect_orphans
from telecine.service.db.tables import assets, attempts, outputs, tasks
from telecine.service.services import Services
from telecine.service.worker import run_worker

Plain = dict[str, Any]


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def add(owner: Owner, data: bytes, **fields: str) -> Plain:
    files = {"file": ("picture", data, "image/png")}
    found: Plain = owner.ask("POST", "/v1/uploads/form", 201, files=files, data=fields)
    return found


@pytest.fixture
def photo(ada: Owner) -> str:
    return str(add(ada, encoded(quarters(), "PNG"))["asset_id"])


def wish(name: str, *ops: Plain, format: str = "webp") -> Plain:
    return {"type": "image", "name": name, "format": format, "ops": list(ops)}


def ended(services: Services, owner: Owner, job_id: str) -> Plain:
    with working(services):

        def final() -> Plain | None:
            job: Plain = owner.get(f"/v1/jobs/{job_id}")
            return job if job["state"] in ("succeeded", "failed", "cancelled") else None

        found: Plain = until(final)
    return found


def states(services: Services, job_id: str) -> dict[str, tuple[str, int]]:
    """Step, or kind → its state, and how often it was begun."""
    query = sa.select(tasks).where(tasks.c.job_id == job_id).order_by(tasks.c.position)
    return {row.step_id or row.kind: (row.state, row.epoch) for row in rows(services, query)}


def test_a_watermark_that_was_deleted_fails_the_job_with_its_cause(
    ada: Owner, services: Services, photo: str
) -> None:
    mark = add(ada, encoded(Image.new("RGB", (30, 30)), "PNG"))["asset_id"]
    marked = wish("marked", {"op": "watermark", "image": mark})
    job = ada.submit(photo, outputs=[wish("plain"), marked])
    ada.ask("DELETE", f"/v1/assets/{mark}", 204)
    failed = ended(services, ada, job["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "watermark_missing")
    assert mark in failed["error"]["message"]
    assert ada.get(f"/v1/jobs/{job['id']}/outputs")["data"] == []
    # What had succeeded is kept, if that is wanted.
    assert states(services, job["id"])["plain.webp"] == ("succeeded", 1)
    ada.post(f"/v1/jobs/{job['id']}/retry", {"only_failed": True}, 202)
    assert ended(services, ada, job["id"])["state"] == "failed"
    assert states(services, job["id"])["plain.webp"] == ("succeeded", 1)
    assert states(services, job["id"])["marked.webp"] == ("failed", 2)


def test_what_succeeded_is_not_made_again(ada: Owner, services: Services, photo: str) -> None:
    mark = str(add(ada, encoded(quarters(40, 30), "PNG"))["asset_id"])
    outputs = [wish("plain"), wish("marked", {"op": "watermark", "image": mark}), wish("third")]
    job = ada.post("/v1/jobs", {"asset_id": photo, "outputs": outputs}, 202)
    key = one(services, sa.select(assets.c.source_key).where(assets.c.id == mark))[0]
    path = services.storage.local_path(key)
    assert path is not None
    away = path.rename(path.with_name("away"))
    assert ended(services, ada, job["id"])["error"]["code"] == "watermark_missing"
    away.rename(path)
    collect(services, older_than_s=0.0)
    ada.post(f"/v1/jobs/{job['id']}/retry", {"only_failed": True}, 202)
    assert ended(services, ada, job["id"])["state"] == "succeeded"
    assert {name: begun for name, (_, begun) in states(services, job["id"]).items()} == {
        "plain.webp": 1,
        "marked.webp": 2,
        "third.webp": 1,
        "finish": 1,
    }
    made = ada.get(f"/v1/jobs/{job['id']}/outputs")["data"]
    for output in made:
        data = ada.client.get(output["url"]).content
        assert hashlib.sha256(data).hexdigest() == output["sha256"], output["path"]
    names = {output["path"] for output in made}
    assert names == {"plain.webp", "marked.webp", "third.webp", "report.json"}


def test_a_job_that_waits_is_cancelled_and_tried_again(
    ada: Owner, services: Services, photo: str
) -> None:
    job = ada.submit(photo, outputs=[wish("a"), wish("b")])
    assert ada.post(f"/v1/jobs/{job['id']}/cancel", None)["state"] == "cancelled"
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 0
    ada.post(f"/v1/jobs/{job['id']}/retry", None, 202)
    assert ended(services, ada, job["id"])["state"] == "succeeded"
    paths = [one["path"] for one in ada.get(f"/v1/jobs/{job['id']}/outputs")["data"]]
    assert paths == ["a.webp", "b.webp", "report.json"]


def test_two_jobs_of_one_picture_keep_to_themselves(
    ada: Owner, services: Services, photo: str
) -> None:
    first = ended(services, ada, ada.submit(photo, outputs=[wish("a")])["id"])
    poster = ada.get(f"/v1/assets/{photo}")["poster_url"]
    second = ended(services, ada, ada.submit(photo, outputs=[wish("a", format="tiff")])["id"])
    assert first["state"] == second["state"] == "succeeded"
    assert ada.get(f"/v1/assets/{photo}")["poster_url"] == poster  # a TIFF shows nowhere
    one_path = [one["path"] for one in ada.get(f"/v1/jobs/{first['id']}/outputs")["data"]]
    assert one_path == ["a.webp", "report.json"]


def test_an_animation_by_itself_may_be_a_film_in_another_job(
    ada: Owner, services: Services
) -> None:
    asset_id = add(ada, animation())["asset_id"]
    row = one(services, sa.select(assets).where(assets.c.id == asset_id))
    assert (row.kind, row.media is None, row.image is None) == ("image", False, False)
    mixed = [wish("a"), {"type": "poster"}]
    refused = ada.post("/v1/jobs", {"asset_id": asset_id, "outputs": mixed}, 422)
    assert refused["code"] == "outputs_mixed"
    job = ada.submit(asset_id, outputs=[{"type": "poster"}])
    assert [file["path"] for file in job["plan"]["files"]] == ["poster.jpg"]
    assert list(states(services, job["id"])) == ["poster", "finish"]  # its digest is known


def test_nothing_is_left_behind(ada: Owner, services: Services, photo: str) -> None:
    job = ada.submit(photo, outputs=[wish("a"), wish("b", format="png")])
    assert ended(services, ada, job["id"])["state"] == "succeeded"
    collect(services, older_than_s=-1)
    assert inspect_orphans(services) == []
    prefix = f"tasks/{job['id']}/"
    kept = sorted(key.rpartition("/")[2] for key in services.storage.keys(prefix))
    assert kept == ["a.webp", "b.png", "report.json"]
    ada.ask("DELETE", f"/v1/assets/{photo}", 204)
    collect(services, older_than_s=-1)
    assert list(services.storage.keys(prefix)) == []
    for table in (outputs, attempts):
        left = sa.select(sa.func.count()).select_from(table).where(table.c.job_id == job["id"])
        assert one(services, left)[0] == 0 or table is attempts


def test_a_film_that_calls_itself_a_drawing_is_not_handed_out_as_one(
    ada: Owner, film: Film
) -> None:
    files = {"file": ("film.svg", film.path.read_bytes(), "image/svg+xml")}
    added = ada.ask("POST", "/v1/uploads/form", 201, files=files)
    found = ada.get(f"/v1/assets/{added['asset_id']}")
    assert (found["kind"], found["content_type"]) == ("video", "application/octet-stream")


@pytest.fixture
def small_limits(services: Services) -> Iterator[Services]:
    before = services.images.limits
    services.images.limits = ImageLimits(source_bytes=2_000)
    yield services
    services.images.limits = before


def test_a_picture_with_too_many_bytes_is_refused_and_stays_so(
    ada: Owner, small_limits: Services
) -> None:
    noise = encoded(Image.effect_noise((100, 100), 90), "PNG")
    assert len(noise) > 2_000
    files = {"file": ("noise.png", noise, "image/png")}
    refused = ada.ask("POST", "/v1/uploads/form", 422, files=files)
    assert refused["code"] == "too_many_bytes"
    [upload] = ada.get("/v1/uploads")["data"]
    assert (upload["state"], upload["error"]["code"]) == ("refused", "too_many_bytes")
