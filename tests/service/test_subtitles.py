"""Files of subtitles in the service: uploaded as assets, named in jobs, read by workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.service.films import Film, add_film
from tests.service.owners import Owner, owner_of
from tests.service.working import digests_below, working
from tests.waiting import until

from telecine.engine.profile import make_profile, parse_output
from telecine.engine.steps import subtitling
from telecine.engine.transcode import transcode
from telecine.engine.words.subtitles import SideCar
from telecine.service.services import Services

SRT = "1\n00:00:00,500 --> 00:00:01,500\n<i>Hello</i> & welcome\n"


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def upload(owner: Owner, text: str, name: str = "film.srt", status: int = 201) -> Any:
    return owner.ask(
        "POST", "/v1/uploads/form", status, files={"file": (name, text.encode(), "text/plain")}
    )


def asset_of(owner: Owner, text: str) -> str:
    upload(owner, text)
    (listed,) = owner.get("/v1/assets?kind=subtitles")["data"]
    assert listed["kind"] == "subtitles"
    return str(listed["id"])


def asking(asset_id: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "hls", "subtitles": [{"asset": asset_id, "language": "en", **more}]}]


def ended(owner: Owner, services: Services, job_id: str) -> Any:
    """The job once a worker has done with it."""
    with working(services):
        until(lambda: owner.get(f"/v1/jobs/{job_id}")["state"] in ("succeeded", "failed"), 60)
    return owner.get(f"/v1/jobs/{job_id}")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (SRT, "film.srt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nx\n", "film.vtt"),
        ("[Script Info]\n\n[Events]\nFormat: Start, End, Text\n", "film.ass"),
    ],
)
def test_a_file_of_subtitles_becomes_an_asset(ada: Owner, text: str, name: str) -> None:
    upload(ada, text, name)
    (asset,) = ada.get("/v1/assets")["data"]
    assert (asset["kind"], asset["filename"]) == ("subtitles", name)


def test_another_text_is_no_asset(ada: Owner) -> None:
    assert upload(ada, "a letter\n", status=422)["code"] in ("format_refused", "not_media")


def test_a_busy_machine_costs_no_upload_of_subtitles(
    ada: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has hardly begun when its time is over."""
    limits = replace(subtitling.PROBE_LIMITS, wall_s=0.001)
    monkeypatch.setattr(subtitling, "PROBE_LIMITS", limits)
    assert upload(ada, SRT, status=503)["code"] == "upload_unreadable"


def test_a_job_makes_what_the_command_makes_of_the_same_files(
    ada: Owner, services: Services, film: Film, tmp_path: Path
) -> None:
    subtitles, film_id = asset_of(ada, SRT), add_film(services, ada.user_id, film)
    outputs = asking(subtitles, hearing_impaired=True)
    outputs[0] |= {"rungs": [240]}
    job = ada.submit(film_id, outputs=outputs)
    made = ended(ada, services, job["id"])
    assert made["state"] == "succeeded", made["error"]
    (track,) = made["plan"]["subtitles"]
    assert (track["name"], track["title"]) == ("en-sdh", "English (SDH)")
    side_car = SideCar("en", hearing_impaired=True)
    profile = make_profile((parse_output("hls"),), (240,), subtitles=(side_car,))
    (tmp_path / "film.srt").write_text(SRT)
    transcode(
        film.path,
        tmp_path / "out",
        profile,
        tools=services.tools,
        jobs=1,
        inputs={side_car.name: tmp_path / "film.srt"},
    )
    wanted = digests_below(tmp_path / "out")
    assert "subtitles/en-sdh/00000.vtt" in wanted
    files = {p: d for p, d in wanted.items() if p != "report.json"}
    made_of = ada.get(f"/v1/jobs/{job['id']}/outputs")["data"]
    (row,) = [output for output in made_of if output["path"] == "master.m3u8"]
    assert row["sha256"] == files["master.m3u8"]


def test_subtitles_of_somebody_else_are_unknown(
    ada: Owner, services: Services, client: TestClient, film: Film
) -> None:
    theirs = asset_of(owner_of(client, "bob@example.org"), SRT)
    film_id = add_film(services, ada.user_id, film)
    refused = ada.post("/v1/jobs", {"asset_id": film_id, "outputs": asking(theirs)}, 422)
    assert refused["code"] == "input_unknown"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("subtitles", "en", "invalid_request"),
        ("subtitles", [{"asset": "x"}], "invalid_request"),
        ("subtitles", [{"asset": "x", "language": 1}], "invalid_request"),
        ("subtitles", [{"asset": "x", "language": "en", "path": "/etc/passwd"}], "invalid_request"),
        ("subtitles", [{"asset": "x", "language": "../en"}], "subtitle_invalid"),
        ("subtitles", [{"asset": "x", "language": "en:forced"}], "output_invalid"),
        ("subtitles", [{"asset": "x", "language": "en"}] * 2, "subtitle_twice"),
        ("burn_subtitle", "../en", "subtitle_invalid"),
        ("burn_subtitle", "ja", "burn_unknown"),
    ],
)
def test_what_is_wrong_with_a_wish_is_said(
    ada: Owner, services: Services, film: Film, field: str, value: Any, code: str
) -> None:
    film_id = add_film(services, ada.user_id, film)
    outputs = [{"type": "hls", field: value}]
    refused = ada.post("/v1/jobs", {"asset_id": film_id, "outputs": outputs}, 422)
    assert refused["code"] == code


def test_nothing_is_made_of_a_file_of_subtitles_alone(ada: Owner) -> None:
    asked = {"asset_id": asset_of(ada, SRT), "preset": "stream"}
    assert ada.post("/v1/jobs", asked, 422)["code"] == "output_not_of_source"


def test_a_file_that_was_deleted_since_fails_the_job(
    ada: Owner, services: Services, film: Film
) -> None:
    subtitles, film_id = asset_of(ada, SRT), add_film(services, ada.user_id, film)
    job = ada.submit(film_id, outputs=asking(subtitles))
    ada.ask("DELETE", f"/v1/assets/{subtitles}", 204)
    made = ended(ada, services, job["id"])
    assert (made["state"], made["error"]["code"]) == ("failed", "source_deleted")
