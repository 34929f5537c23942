"""Jobs over HTTP: submit, estimate, read, list, cancel, retry; events as they happen."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.service.databases import statements
from tests.service.films import (
    Film,
    add_film,
    claim,
    commit,
    fail,
    read_events,
    run_to_end,
    set_progress,
    task_states,
)
from tests.service.owners import Owner, owner_of
from tests.service.served import Served, serving
from tests.service.working import announce
from tests.waiting import until

from telecine.engine.serial import to_plain
from telecine.service.api.feed import Feed
from telecine.service.api.routes import jobs as routes
from telecine.service.db import queue
from telecine.service.db.tables import assets, jobs, task_needs, tasks, uploads
from telecine.service.db.tables import events as event_rows
from telecine.service.dispatch.bell import EVENTS
from telecine.service.domain import new_id
from telecine.service.services import Services

Plain = dict[str, Any]


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


@pytest.fixture
def asset_id(services: Services, ada: Owner, film: Film) -> str:
    return add_film(services, ada.user_id, film)


# --- submitting -----------------------------------------------------------------------------------


def test_a_job_is_queued_with_its_plan(ada: Owner, services: Services, asset_id: str) -> None:
    answer = ada.client.post(
        "/v1/jobs",
        headers=ada.headers,
        json={"asset_id": asset_id, "preset": "stream", "priority": 7, "metadata": {"k": "ä"}},
    )
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["priority"], job["metadata"]) == ("queued", 7, {"k": "ä"})
    assert (job["preset"], job["outputs"]) == ("stream", [{"type": "hls"}, {"type": "poster"}])
    assert job["progress"]["fraction"] == 0
    assert job["progress"]["queue_position"] == 1
    assert job["plan"]["duration_s"] == 3
    assert [rung["name"] for rung in job["plan"]["rungs"]] == ["360p", "240p", "aac"]
    assert all(rung["reason"] for rung in job["plan"]["rungs"])
    assert ada.get(f"/v1/jobs/{job['id']}") == job
    assert list(task_states(services, job["id"]))[-2:] == ["finish", "digest"]


def test_a_film_that_an_older_version_looked_into_is_still_a_film(
    ada: Owner, services: Services, film: Film
) -> None:
    """As it was kept when chapters were a number and subtitles were streams like any other."""
    media = to_plain(film.info)
    del media["subtitles"]
    media["chapters"] = 3
    media["other"] = [{"index": 2, "kind": "subtitle", "codec": "subrip", "language": "eng"}]
    for stream in media["video"]:
        del stream["light"]
    asset_id = add_film(services, ada.user_id, film, media=media)
    found = ada.get(f"/v1/assets/{asset_id}")["media"]
    assert (found["chapters"], len(found["video"])) == ([], 1)
    assert ada.submit(asset_id, preset="stream")["plan"]["duration_s"] == 3


def test_outputs_are_typed_objects(ada: Owner, asset_id: str) -> None:
    asked = [{"type": "mp3", "bitrate_bps": 64_000}, {"type": "mp4", "size": "240p"}]
    job = ada.submit(asset_id, outputs=asked)
    assert job["outputs"] == asked
    assert [file["path"] for file in job["plan"]["files"]] == ["audio.mp3", "240p.mp4"]


SENSELESS: list[tuple[Plain, str]] = [
    ({"preset": "stream", "asset_id": None}, "asset_or_upload"),
    ({"preset": "stream", "upload_id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D"}, "asset_or_upload"),
    ({}, "outputs_missing"),
    ({"preset": "nope"}, "preset_unknown"),
    ({"outputs": [{"type": "mp3", "bitrate_bps": 1}]}, "bitrate_invalid"),
    ({"outputs": [{"type": "gif"}]}, "invalid_request"),
    ({"outputs": [{"type": "hls", "speed": "fast"}]}, "invalid_request"),
    ({"outputs": [{"type": "mp4", "size": "9p"}]}, "invalid_request"),
    ({"preset": "stream", "priority": 101}, "invalid_request"),
    ({"preset": "stream", "user_id": "someone"}, "invalid_request"),
    ({"preset": "stream", "metadata": {"a": "x" * 17_000}}, "metadata_invalid"),
]


def test_a_wish_that_makes_no_sense_is_refused(ada: Owner, asset_id: str) -> None:
    for body, code in SENSELESS:
        problem = ada.post("/v1/jobs", {"asset_id": asset_id, **body}, 422)
        assert (body, problem["code"]) == (body, code)
    assert ada.get("/v1/jobs")["data"] == []


def test_the_engines_reason_reaches_the_client(ada: Owner, services: Services, film: Film) -> None:
    silent = add_film(
        services, ada.user_id, Film(film.path, replace(film.info, audio=())), title="silent"
    )
    problem = ada.post("/v1/jobs", {"asset_id": silent, "preset": "mp3"}, 422)
    assert problem["code"] == "no_audio"


def test_a_job_of_an_upload_is_one_of_its_asset(
    ada: Owner, services: Services, asset_id: str
) -> None:
    ids = {"open": new_id(), "finished": new_id()}
    with services.database.write() as tx:
        for state, upload_id in ids.items():
            tx.connection.execute(
                sa.insert(uploads).values(
                    id=upload_id,
                    user_id=ada.user_id,
                    state=state,
                    door="form",
                    filename="film.mp4",
                    content_type="video/mp4",
                    max_bytes=1,
                    storage_key="k",
                    asset_id=asset_id if state == "finished" else None,
                    created_at=tx.now,
                    expires_at=tx.now,
                )
            )
    asked = {"preset": "mp3", "upload_id": ids["finished"]}
    assert ada.post("/v1/jobs", asked, 202)["asset_id"] == asset_id
    asked = {"preset": "mp3", "upload_id": ids["open"]}
    assert ada.post("/v1/jobs", asked, 409)["code"] == "upload_unfinished"
    asked = {"preset": "mp3", "upload_id": new_id()}
    assert ada.post("/v1/jobs", asked, 404)["code"] == "upload_unknown"


def test_no_job_without_a_source(ada: Owner, services: Services, asset_id: str) -> None:
    with services.database.write() as tx:
        tx.connection.execute(sa.update(assets).values(source_key=None))
    problem = ada.post("/v1/jobs", {"asset_id": asset_id, "preset": "stream"}, 409)
    assert problem["code"] == "source_gone"


def test_a_known_digest_is_not_made_again(ada: Owner, services: Services, film: Film) -> None:
    known = add_film(services, ada.user_id, film, source_sha256="0" * 64)
    assert "digest" not in task_states(services, ada.submit(known)["id"])


def test_a_digest_that_was_announced_is_awaited(
    ada: Owner, services: Services, asset_id: str
) -> None:
    """Also by a job that is asked for after the upload: it does not succeed with other bytes."""
    announce(services, asset_id, "0" * 64)
    ada.submit(asset_id)
    with services.database.read() as tx:
        needed = sa.select(tasks.c.kind).join(task_needs, task_needs.c.needs_id == tasks.c.id)
        assert "digest" in set(tx.connection.execute(needed).scalars())


def test_a_repeated_key_makes_one_job(ada: Owner, asset_id: str) -> None:
    body = {"asset_id": asset_id, "preset": "stream"}
    keyed = {"Idempotency-Key": "once"}
    first = ada.post("/v1/jobs", body, 202, headers=keyed)
    assert ada.post("/v1/jobs", body, 202, headers=keyed)["id"] == first["id"]
    assert len(ada.get("/v1/jobs")["data"]) == 1


def test_an_estimate_queues_nothing(ada: Owner, asset_id: str, film: Film) -> None:
    asked = {"asset_id": asset_id, "preset": "web-mp4"}
    found = ada.post("/v1/jobs/estimate", asked)
    assert [one["name"] for one in found["outputs"]] == ["720p.mp4", "poster.jpg"]
    assert 0 < found["size_bytes"] <= found["max_size_bytes"]
    assert found["encoder_s"] > 0
    assert found["plan"]["duration_s"] == 3
    assert found["plan"]["chunks"] == 1
    assert any("enlarged" in line for line in found["plan"]["warnings"])
    assert len(found["basis"]) == 3
    assert ada.get("/v1/jobs")["data"] == []


def test_presets_are_for_anybody(client: TestClient) -> None:
    found = client.get("/v1/presets").json()["data"]
    named = {preset["name"]: preset for preset in found}
    assert named["web-mp4"]["outputs"] == [{"type": "mp4", "size": "720p"}, {"type": "poster"}]
    assert {"stream", "mp4-source", "mp3", "m4a", "opus", "flac", "poster"} < set(named)


# --- reading --------------------------------------------------------------------------------------


def test_progress_follows_the_tasks(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id, outputs=[{"type": "mp3"}, {"type": "poster"}])["id"]
    held = claim(services)
    assert held.step_id == "audio"
    set_progress(services, held, 1.5)
    job = ada.get(f"/v1/jobs/{job_id}")
    assert (job["state"], job["progress"]["queue_position"]) == ("running", None)
    stages = {stage["name"]: stage["fraction"] for stage in job["progress"]["stages"]}
    assert stages == {"audio": 0.5, "poster": 0.0, "loudness": 0.0, "finish": 0.0}
    assert job["progress"]["stage"] == "audio"
    assert 0 < job["progress"]["fraction"] < 1
    assert job["progress"]["eta_s"] is not None  # by hand in test_progress; here rounded to 0.0
    listed = ada.get("/v1/jobs")["data"][0]
    assert listed["progress"]["fraction"] == job["progress"]["fraction"]
    assert "plan" not in listed
    commit(services, held)
    run_to_end(services, job_id, {"audio.mp3": b"ID3"})
    job = ada.get(f"/v1/jobs/{job_id}")
    assert (job["state"], job["progress"]["fraction"]) == ("succeeded", 1)
    assert job["progress"]["stage"] == ""
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]


def test_positions_in_the_queue(ada: Owner, asset_id: str) -> None:
    usual = [ada.submit(asset_id)["id"] for _ in range(3)]
    urgent = ada.submit(asset_id, priority=1)["id"]
    places = [
        ada.get(f"/v1/jobs/{job_id}")["progress"]["queue_position"] for job_id in (urgent, *usual)
    ]
    assert places == [1, 2, 3, 4]


def test_a_list_is_newest_first_and_comes_in_pages(
    ada: Owner, services: Services, film: Film, asset_id: str
) -> None:
    made = [ada.submit(asset_id, preset="mp3")["id"] for _ in range(5)]
    other = add_film(services, ada.user_id, film)
    of_other = ada.submit(other, preset="mp3")["id"]
    ada.post(f"/v1/jobs/{made[1]}/cancel", None)
    newest_first = [of_other, *reversed(made)]
    seen, after, pages = [], None, 0
    while True:
        page = ada.get("/v1/jobs", params={"limit": 2, **({"after": after} if after else {})})
        seen += [job["id"] for job in page["data"]]
        pages += 1
        after = page["next_cursor"]
        if not page["has_more"]:
            break
    assert (seen, pages, after) == (newest_first, 3, None)
    listed = ada.get("/v1/jobs", params={"state": "cancelled"})["data"]
    assert [job["id"] for job in listed] == [made[1]]
    listed = ada.get("/v1/jobs", params={"asset_id": other, "state": "queued"})["data"]
    assert [job["id"] for job in listed] == [of_other]
    assert ada.get("/v1/jobs", params={"asset_id": new_id()})["data"] == []
    assert ada.get("/v1/jobs", 422, params={"state": "done"})["code"] == "invalid_request"


def test_somebody_elses_job_does_not_exist(
    ada: Owner, client: TestClient, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id)["id"]
    eve = owner_of(client, "eve@example.org")
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/outputs"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ):
        assert eve.ask(method, f"/v1/jobs/{job_id}{path}", 404)["code"] == "job_unknown"
        assert client.request(method, f"/v1/jobs/{job_id}{path}").status_code == 401
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        asked = {"asset_id": asset_id, "preset": "stream"}
        assert eve.post(path, asked, 404)["code"] == "asset_unknown"
    assert eve.get("/v1/jobs")["data"] == []
    assert ada.get(f"/v1/jobs/{job_id}")["state"] == "queued"


def test_lists_read_no_plan(services: Services, ada: Owner, asset_id: str) -> None:
    """A page of jobs must not read what may be megabytes each."""
    ada.submit(asset_id)
    with statements(services.database) as said:
        ada.get("/v1/jobs")
    assert any("FROM jobs" in one.text for one in said)
    assert not any("jobs.plan" in one.text for one in said)


@pytest.mark.parametrize("filters", [{}, {"state": "failed"}, {"asset_id": "A"}])
def test_a_page_costs_the_same_whatever_the_list(
    services: Services, ada: Owner, filters: dict[str, str]
) -> None:
    """SQLite's own plan of the query: it walks an index in the list's order, and sorts nothing."""
    with statements(services.database) as said:
        ada.get("/v1/jobs", params={**filters, "after": new_id()})
    query = next(one for one in said if "FROM jobs" in one.text)
    with services.database.read() as tx:
        explain = f"EXPLAIN QUERY PLAN {query.text}"
        plan = tx.connection.exec_driver_sql(explain, query.parameters).all()
    steps = [row[-1] for row in plan]
    assert all("USING INDEX ix_jobs_" in step for step in steps), steps


# --- cancel, retry --------------------------------------------------------------------------------


def test_cancel_what_waits_and_what_runs(ada: Owner, services: Services, asset_id: str) -> None:
    running = ada.submit(asset_id)["id"]
    held = claim(services)
    waiting = ada.submit(asset_id)["id"]
    assert ada.post(f"/v1/jobs/{waiting}/cancel", None)["state"] == "cancelled"
    assert ada.post(f"/v1/jobs/{waiting}/cancel", None)["state"] == "cancelled"
    assert ada.post(f"/v1/jobs/{running}/cancel", None)["state"] == "running"
    with services.database.write() as tx:
        beat = queue.heartbeat(tx, held, {})
        assert beat is not None
        assert beat.cancel_requested
        assert not queue.commit(tx, held, result={})
    assert ada.get(f"/v1/jobs/{running}")["state"] == "cancelled"


def test_what_has_ended_cannot_be_cancelled(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id)["id"]
    run_to_end(services, job_id, {})
    problem = ada.post(f"/v1/jobs/{job_id}/cancel", None, 409)
    assert (problem["code"], problem["state"]) == ("job_finished", "succeeded")
    assert ada.post(f"/v1/jobs/{job_id}/retry", None, 409)["code"] == "job_not_failed"


def test_retry_only_what_failed(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id, outputs=[{"type": "mp3"}, {"type": "poster"}])["id"]
    commit(services, claim(services))
    fail(services, claim(services))
    job = ada.get(f"/v1/jobs/{job_id}")
    assert (job["state"], job["error"]["code"]) == ("failed", "encode_failed")
    job = ada.post(f"/v1/jobs/{job_id}/retry", {"only_failed": True}, 202)
    assert (job["state"], job["retries"], job["error"]) == ("queued", 1, None)
    assert task_states(services, job_id)["audio"] == "succeeded"
    run_to_end(services, job_id, {"audio.mp3": b"ID3"})
    assert ada.get(f"/v1/jobs/{job_id}")["state"] == "succeeded"


def test_retry_the_whole(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id, outputs=[{"type": "mp3"}, {"type": "poster"}])["id"]
    commit(services, claim(services))
    fail(services, claim(services))
    ada.post(f"/v1/jobs/{job_id}/retry", None, 202)
    assert set(task_states(services, job_id).values()) == {"blocked"}


def test_no_retry_without_a_source(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id)["id"]
    fail(services, claim(services))
    with services.database.write() as tx:
        tx.connection.execute(sa.update(assets).values(source_key=None))
    assert ada.post(f"/v1/jobs/{job_id}/retry", None, 409)["code"] == "source_gone"


# --- events ---------------------------------------------------------------------------------------


def tell(services: Services, job_id: str, name: str, **data: Any) -> None:
    with services.database.write() as tx:
        queue.tell(tx, job_id, name, data)
    services.bell.ring(EVENTS)


def numbered(text: str) -> list[int]:
    return [number for number, _, _ in read_events(text) if number is not None]


def test_the_whole_story_of_a_job(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    run_to_end(services, job_id, {"audio.mp3": b"ID3"})
    answer = ada.client.get(f"/v1/jobs/{job_id}/events", headers=ada.headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    told = read_events(answer.text)
    with services.database.read() as tx:
        rows = tx.connection.execute(
            sa.select(event_rows.c.number, event_rows.c.type)
            .where(event_rows.c.job_id == job_id)
            .order_by(event_rows.c.number)
        ).all()
    assert [(number, name) for number, name, _ in told if number] == [tuple(row) for row in rows]
    assert told[0][1] == "queued"
    assert [name for number, name, _ in told if number][-1] == "succeeded"
    progress = [data for number, name, data in told if name == "progress"]
    assert progress[-1]["fraction"] == 1
    assert all("at" in data for number, _, data in told if number)


def test_who_comes_back_at_any_event_misses_nothing(
    ada: Owner, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    for n in range(30):
        tell(services, job_id, "warning", message=f"{n}\n\ndata: not a line of its own")
    run_to_end(services, job_id, {"audio.mp3": b"ID3"})
    path = f"/v1/jobs/{job_id}/events"
    every = numbered(ada.client.get(path, headers=ada.headers).text)
    assert every == list(range(1, len(every) + 1))
    for heard in range(len(every)):
        by_header = ada.client.get(
            path, headers={**ada.headers, "Last-Event-ID": str(heard)}, params={"after": 999}
        )
        by_query = ada.client.get(path, headers=ada.headers, params={"after": heard})
        assert numbered(by_header.text) == numbered(by_query.text) == every[heard:]
    done = ada.client.get(path, headers={**ada.headers, "Last-Event-ID": str(every[-1])})
    assert (done.status_code, done.content) == (204, b"")


def test_an_event_id_is_a_number(ada: Owner, asset_id: str) -> None:
    job_id = ada.submit(asset_id)["id"]
    for number in ("-1", "x", "1.5", "9" * 12):
        headers = {"Last-Event-ID": number}
        problem = ada.get(f"/v1/jobs/{job_id}/events", 422, headers=headers)
        assert problem["code"] == "event_id_invalid"


def test_more_events_than_one_look_takes(ada: Owner, services: Services, asset_id: str) -> None:
    job_id = ada.submit(asset_id)["id"]
    with services.database.write() as tx:
        for n in range(1200):
            queue.tell(tx, job_id, "warning", {"n": n})
    ada.post(f"/v1/jobs/{job_id}/cancel", None)
    text = ada.client.get(f"/v1/jobs/{job_id}/events", headers=ada.headers).text
    assert numbered(text) == list(range(1, 1203))


def test_a_retried_jobs_stream_goes_on_past_its_first_end(
    ada: Owner, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    fail(services, claim(services))
    ada.post(f"/v1/jobs/{job_id}/retry", None, 202)
    run_to_end(services, job_id, {"audio.mp3": b"ID3"})
    text = ada.client.get(f"/v1/jobs/{job_id}/events", headers=ada.headers).text
    names = [name for number, name, _ in read_events(text) if number]
    assert names.index("failed") < names.index("succeeded")
    assert names[-1] == "succeeded"


class Listener:
    """A client of the stream: what it heard, and how it ended."""

    def __init__(self, served: Served, job_id: str, headers: dict[str, str]) -> None:
        self._url = f"{served.base_url}/v1/jobs/{job_id}/events"
        self._headers = headers
        self.text = ""
        self.ended = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        with httpx2.stream("GET", self._url, headers=self._headers, timeout=60) as answer:
            for piece in answer.iter_text():
                self.text += piece
                if self._stop.is_set():
                    break
        self.ended.set()

    def heard(self) -> list[int]:
        return numbered(self.text[: self.text.rfind("\n\n") + 2])

    def progress(self) -> list[float]:
        whole = self.text[: self.text.rfind("\n\n") + 2]
        return [data["fraction"] for _, name, data in read_events(whole) if name == "progress"]

    def close(self) -> None:
        """Gone with the next thing that is heard."""
        self._stop.set()
        self._thread.join(30)


def test_events_and_progress_arrive_as_they_happen(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with (
        serving(app) as served,
        closing(Listener(served, job_id, ada.headers)) as one,
        closing(Listener(served, job_id, ada.headers)) as two,
    ):
        both = (one, two)
        until(lambda: all(1 in listener.heard() for listener in both))
        held = claim(services)
        set_progress(services, held, 1.5)
        services.bell.ring(EVENTS)
        until(lambda: all(0 < listener.progress()[-1] < 1 for listener in both))
        commit(services, held)
        run_to_end(services, job_id, {"audio.mp3": b"ID3"})
        services.bell.ring(EVENTS)
        until(lambda: all(listener.ended.is_set() for listener in both))
    assert one.heard() == two.heard() == list(range(1, len(one.heard()) + 1))
    assert one.progress() == sorted(one.progress())
    assert one.progress()[-1] == 1


def test_a_connection_that_is_killed_at_every_event_misses_nothing(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    """While things go on happening a client is cut off after each event, and comes back."""
    job_id = ada.submit(asset_id, preset="mp3")["id"]

    def happen() -> None:
        for n in range(40):
            tell(services, job_id, "warning", n=n)
            time.sleep(0.02)
        run_to_end(services, job_id, {"audio.mp3": b"ID3"})
        services.bell.ring(EVENTS)

    heard: list[int] = []
    connections = 0
    url = f"/v1/jobs/{job_id}/events"
    with serving(app) as served, httpx2.Client(base_url=served.base_url, timeout=60) as client:
        teller = threading.Thread(target=happen)
        teller.start()
        while True:
            last = heard[-1] if heard else 0
            headers = {**ada.headers, "Last-Event-ID": str(last)}
            with client.stream("GET", url, headers=headers) as answer:
                connections += 1
                if answer.status_code == 204:
                    break
                for line in answer.iter_lines():
                    if line.startswith("id:"):
                        heard.append(int(line.removeprefix("id:")))
                        break  # the connection is cut in the middle of the event
        teller.join()
    with services.database.read() as tx:
        count = tx.connection.execute(sa.select(jobs.c.last_event)).scalar_one()
    assert heard == list(range(1, count + 1))
    assert connections == count + 1


def test_a_burst_reaches_who_listens_and_holds_up_nobody(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    """1200 events in one transaction: more than one look takes, and than the feed remembers."""
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with serving(app) as served, closing(Listener(served, job_id, ada.headers)) as one:
        until(lambda: 1 in one.heard())
        time.sleep(0.5)  # the feed has had its first look
        with services.database.write() as tx:
            for n in range(1200):
                queue.tell(tx, job_id, "warning", {"n": n})
        services.bell.ring(EVENTS)
        until(lambda: len(one.heard()) >= 501)
        assert httpx2.get(f"{served.base_url}/v1/presets", timeout=10).status_code == 200
        ada.post(f"/v1/jobs/{job_id}/cancel", None)
        until(one.ended.is_set)
    assert one.heard() == list(range(1, 1203))


def test_what_the_feed_knows_leads_on_or_it_says_that_it_knows_nothing(
    ada: Owner, services: Services, asset_id: str
) -> None:
    """Else a connection would ask it again and again, and hold up all others of the process."""
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    feed = Feed(services)

    async def follow() -> None:
        with feed.watch(job_id) as watch:
            assert await watch.changed(20)
            first = feed.after(job_id, 1)
            assert first is not None
            assert (first.reached, first.last_event, list(first.events)) == (1, 1, [])
            assert feed.after(job_id, 0) is None  # before the feed began
            with services.database.write() as tx:
                for n in range(1200):
                    queue.tell(tx, job_id, "warning", {"n": n})
            services.bell.ring(EVENTS)
            caught_up = False
            while not caught_up:
                assert await watch.changed(20)
                for heard in (1, 300, 500, 501, 700, 1000, 1001, 1200):
                    seen = feed.after(job_id, heard)
                    if seen is None:
                        continue
                    numbers = [event.number for event in seen.events]
                    assert numbers == list(range(heard + 1, seen.reached + 1))
                    assert numbers
                    caught_up = caught_up or numbers == [1201]
            assert feed.after(job_id, 100) is None  # forgotten

    asyncio.run(follow())


def test_the_database_is_read_once_however_many_listen(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with serving(app) as served:
        listeners = [Listener(served, job_id, ada.headers) for _ in range(10)]
        until(lambda: all(1 in listener.heard() for listener in listeners))
        with statements(services.database) as said:

            def looks() -> list[str]:
                return [one.thread for one in said if "FROM jobs" in one.text]

            seen = -1
            while seen != (seen := len([name for name in looks() if name != "feed"])):
                time.sleep(0.5)  # until the looks of each at its beginning are over
            said.clear()
            for n in range(3):
                tell(services, job_id, "warning", n=n)
                expected = n + 2
                until(lambda: all(expected in one.heard() for one in listeners))  # noqa: B023
        ada.post(f"/v1/jobs/{job_id}/cancel", None)
        for listener in listeners:
            listener.close()
    readers = [name for name in looks() if name != threading.current_thread().name]
    assert set(readers) == {"feed"}
    assert len(readers) < 3 * 10  # not once for each listener and thing told


def test_a_stream_ends_with_the_session(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with serving(app) as served, closing(Listener(served, job_id, ada.headers)) as one:
        until(lambda: 1 in one.heard())
        ada.ask("DELETE", "/v1/sessions/current", 204)
        assert routes.CHECK_S <= 1  # log-out ends access within a second
        time.sleep(1.1)
        tell(services, job_id, "warning", secret="not for who has logged out")
        until(one.ended.is_set)
    assert "secret" not in one.text


def test_a_stream_says_that_it_is_there_and_ends_with_its_asset(
    ada: Owner,
    app: FastAPI,
    asset_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert routes.PING_S == 15
    monkeypatch.setattr(routes, "PING_S", 0.2)
    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with serving(app) as served, closing(Listener(served, job_id, ada.headers)) as one:
        until(lambda: one.text.count("\n: still here\n\n") >= 2)
        ada.ask("DELETE", f"/v1/assets/{asset_id}", 204)
        until(one.ended.is_set)


def test_the_feed_ends_when_nobody_listens(
    ada: Owner, app: FastAPI, services: Services, asset_id: str
) -> None:
    def feeding() -> bool:
        return any(thread.name == "feed" for thread in threading.enumerate())

    job_id = ada.submit(asset_id, preset="mp3")["id"]
    with serving(app) as served, closing(Listener(served, job_id, ada.headers)) as one:
        until(lambda: 1 in one.heard())
        assert feeding()
        ada.post(f"/v1/jobs/{job_id}/cancel", None)
        until(one.ended.is_set)
        until(lambda: not feeding())
