"""Protection in the service: what the command makes with the same key, which is told to nobody."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.service.films import Film, add_film
from tests.service.owners import Owner, owner_of
from tests.service.working import digests_below, working
from tests.waiting import until

from telecine.engine.errors import StepFailed
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.transcode import transcode
from telecine.engine.words.protection import make_protection, parse_key
from telecine.service import content_keys
from telecine.service.db.tables import jobs
from telecine.service.domain import SEALED_KEY
from telecine.service.services import Services
from telecine.service.signing import Signer

SECRET = "a0b1c2d3e4f5061728394a5b6c7d8e9f"
KEY = parse_key(SECRET.encode())
URI = "https://keys.example.com/film"


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def asked(scheme: str, **more: Any) -> dict[str, Any]:
    protection = {"scheme": scheme, "key": SECRET, "key_uri": URI, **more}
    return {"type": "hls", "rungs": [240], "top": "encode", "protection": protection}


def told(text: str) -> bool:
    """Whether the key stands in a text, in any way in which it might."""
    forms = (SECRET, base64.b64encode(KEY.data).decode(), str(KEY.data)[2:-1])
    return any(form in text for form in forms)


def stored(services: Services, job_id: str) -> list[dict[str, Any]]:
    """What was asked for, as the job's row has it."""
    with services.database.read() as tx:
        wanted = sa.select(jobs.c.outputs).where(jobs.c.id == job_id)
        found: list[dict[str, Any]] = tx.connection.execute(wanted).scalar_one()
        return found


@pytest.mark.parametrize(
    ("scheme", "quality"),
    # With a quality there are two plans, one after the other.
    [("aes-128", None), ("cbcs", None), pytest.param("cbcs", 80.0, marks=pytest.mark.thorough)],
)
def test_a_job_encrypts_as_the_command_does_and_tells_no_key(
    scheme: str,
    quality: float | None,
    ada: Owner,
    services: Services,
    film: Film,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film_id = add_film(services, ada.user_id, film)
    wish = asked(scheme) if quality is None else {**asked(scheme), "quality": quality}
    answers = [ada.submit(film_id, outputs=[wish, {"type": "poster"}])]
    job_id = answers[0]["id"]
    assert SEALED_KEY in stored(services, job_id)[0]
    with working(services):
        until(lambda: ada.get(f"/v1/jobs/{job_id}")["state"] in ("succeeded", "failed"), 60)
    answers += [ada.get(f"/v1/jobs/{job_id}"), ada.get(f"/v1/jobs/{job_id}/outputs")]
    answers += [ada.get("/v1/jobs"), ada.get(f"/v1/assets/{film_id}/playback")]
    assert answers[1]["state"] == "succeeded", answers[1]["error"]
    protection = make_protection(scheme, URI, KEY)
    said = {"scheme": scheme, "key_id": protection.key_id, "key_uri": URI}
    assert answers[1]["outputs"][0]["protection"] == said
    assert SEALED_KEY not in json.dumps(answers)
    # Nothing will be made of this job again.
    assert stored(services, job_id) == answers[1]["outputs"]
    # DASH knows no whole segments.
    assert (answers[-1]["dash_url"] is None) == (scheme == "aes-128")

    wanted_outputs = tuple(map(parse_output, ("hls", "poster")))
    profile = make_profile(wanted_outputs, (240,), "encode", protection=protection, quality=quality)
    transcode(film.path, tmp_path / "out", profile, tools=services.tools, jobs=1, key=KEY)
    wanted = digests_below(tmp_path / "out")
    found = {row["path"]: row["sha256"] for row in answers[2]["data"]}
    names = {"master.m3u8", "manifest.mpd", "poster.jpg"} & wanted.keys()
    assert {name: found[name] for name in names} == {name: wanted[name] for name in names}

    out = capsys.readouterr()
    assert not told(json.dumps(answers) + out.out + out.err)
    for path in services.settings.data.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.data not in data
            assert not told(data.decode("latin-1")), path


def test_an_upload_takes_no_key(ada: Owner) -> None:
    wish = {"outputs": [asked("cbcs")]}
    body = {"filename": "a.mp4", "size_bytes": 10, "on_complete": wish}
    answer = ada.post("/v1/uploads", body, 422)
    assert answer["code"] == "protection_in_upload"
    assert not told(json.dumps(answer))


@pytest.mark.parametrize(
    ("outputs", "code"),
    [
        ([asked("cbcs"), {"type": "mp4"}], "protection_clear_file"),
        ([{**asked("cbcs"), "codecs": ["av1"]}], "protection_codec"),
        ([asked("cbcs", key=SECRET[:-1])], "content_key_invalid"),
        ([asked("cbcs", key_id="1")], "key_id_invalid"),
        ([asked("cbcs", key_uri="data:,")], "key_uri_invalid"),
        ([asked("cenc")], "invalid_request"),
        ([asked("cbcs", iv="00")], "invalid_request"),
    ],
)
def test_what_cannot_be_protected_is_refused_without_the_key(
    outputs: list[dict[str, Any]], code: str, ada: Owner, services: Services, film: Film
) -> None:
    film_id = add_film(services, ada.user_id, film)
    answer = ada.post("/v1/jobs", {"asset_id": film_id, "outputs": outputs}, 422)
    assert answer["code"] == code
    assert SECRET[:-1] not in json.dumps(answer)


def test_a_sealed_key_opens_for_its_user_in_its_installation_alone() -> None:
    signer, other = Signer(b"1" * 32), Signer(b"2" * 32)
    protection = make_protection("cbcs", URI, KEY)
    plain: list[dict[str, Any]] = [
        {"type": "hls", "protection": {"scheme": "cbcs"}},
        {"type": "poster"},
    ]
    kept = content_keys.kept(signer, "ada", protection, KEY, plain)
    assert content_keys.shown(kept) == plain
    assert not told(json.dumps(kept))
    assert content_keys.opened(signer, "ada", protection, kept) == KEY
    assert content_keys.opened(signer, "ada", None, plain) is None
    for who, by in (("bob", signer), ("ada", other)):
        with pytest.raises(StepFailed) as caught:
            content_keys.opened(by, who, protection, kept)
        assert caught.value.code == "key_unreadable"
