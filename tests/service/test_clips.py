"""Clips and watermarks in the service: what the command makes of the same words and files."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.films import Film, add_film
from tests.service.owners import Owner, owner_of
from tests.service.working import digests_below, working
from tests.waiting import until

from telecine.engine.profile import make_profile, parse_output
from telecine.engine.transcode import transcode
from telecine.engine.words.clip import Clip
from telecine.engine.words.watermark import Watermark
from telecine.service.services import Services


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def png() -> bytes:
    data = io.BytesIO()
    Image.new("RGBA", (80, 40), (250, 20, 20, 200)).save(data, "PNG")
    return data.getvalue()


def asset_of(owner: Owner) -> str:
    owner.ask("POST", "/v1/uploads/form", 201, files={"file": ("logo.png", png(), "image/png")})
    (listed,) = owner.get("/v1/assets?kind=image")["data"]
    return str(listed["id"])


def ended(owner: Owner, services: Services, job_id: str) -> Any:
    """The job once a worker has done with it."""
    with working(services):
        until(lambda: owner.get(f"/v1/jobs/{job_id}")["state"] in ("succeeded", "failed"), 60)
    return owner.get(f"/v1/jobs/{job_id}")


def test_a_job_makes_the_clip_and_the_watermark_that_the_command_makes(
    ada: Owner, services: Services, film: Film, tmp_path: Path
) -> None:
    logo, film_id = asset_of(ada), add_film(services, ada.user_id, film)
    mark = {"asset": logo, "position": "top-right", "opacity": 0.5, "scale": 0.2}
    clip = {"start_s": 0.5, "end_s": 1.5}
    outputs: list[dict[str, Any]] = [
        {"type": "hls", "rungs": [240], "clip": clip, "watermark": mark},
        {"type": "mp4"},
        {"type": "flac", "clip": clip},
        {"type": "poster"},
    ]
    made = ended(ada, services, ada.submit(film_id, outputs=outputs)["id"])
    assert made["state"] == "succeeded", made["error"]
    assert made["plan"]["duration_s"] == pytest.approx(1, abs=0.05)
    assert "a watermark is laid over it" in made["plan"]["top_not_copied"]
    (tmp_path / "logo.png").write_bytes(png())
    transcode(
        film.path,
        tmp_path / "out",
        make_profile(
            tuple(parse_output(word) for word in ("hls", "mp4:source", "flac", "poster")),
            (240,),
            clip=Clip(Fraction(1, 2), Fraction(3, 2)),
            watermark=Watermark("top-right", Fraction(1, 2), Fraction(1, 5)),
        ),
        tools=services.tools,
        jobs=1,
        inputs={"watermark": tmp_path / "logo.png"},
    )
    wanted = digests_below(tmp_path / "out")
    rows = ada.get(f"/v1/jobs/{made['id']}/outputs")["data"]
    found = {row["path"]: row["sha256"] for row in rows}
    for path in ("master.m3u8", "source.mp4", "audio.flac", "poster.jpg"):
        assert found[path] == wanted[path], path


def test_a_picture_of_somebody_else_is_unknown(
    ada: Owner, services: Services, client: TestClient, film: Film
) -> None:
    theirs = asset_of(owner_of(client, "bob@example.org"))
    film_id = add_film(services, ada.user_id, film)
    mark = {"asset": theirs, "position": "center"}
    asked = {"asset_id": film_id, "outputs": [{"type": "hls", "watermark": mark}]}
    assert ada.post("/v1/jobs", asked, 422)["code"] == "input_unknown"


def test_a_film_is_no_watermark(ada: Owner, services: Services, film: Film) -> None:
    film_id = add_film(services, ada.user_id, film)
    mark = {"asset": film_id, "position": "center"}
    asked = {"asset_id": film_id, "outputs": [{"type": "hls", "watermark": mark}]}
    assert ada.post("/v1/jobs", asked, 422)["code"] == "watermark_unreadable"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("clip", {"start_s": 40, "end_s": 10}, "clip_invalid"),
        ("clip", {"start_s": 100000}, "clip_outside"),
        ("clip", {"start_s": -1}, "invalid_request"),
        ("clip", {"start_s": "soon"}, "invalid_request"),
        ("clip", {"from": 1}, "invalid_request"),
        ("clip", "10-40", "invalid_request"),
        ("watermark", {"asset": "x"}, "invalid_request"),
        ("watermark", {"asset": "x", "position": "left"}, "invalid_request"),
        ("watermark", {"asset": "x", "position": "center", "opacity": 2}, "invalid_request"),
        ("watermark", {"asset": "x", "position": "center"}, "input_unknown"),
        ("watermark", {"asset": "x", "position": "center", "path": "/"}, "invalid_request"),
    ],
)
def test_what_is_wrong_with_a_wish_is_said(
    ada: Owner, services: Services, film: Film, field: str, value: Any, code: str
) -> None:
    film_id = add_film(services, ada.user_id, film)
    asked = {"asset_id": film_id, "outputs": [{"type": "hls", field: value}]}
    assert ada.post("/v1/jobs", asked, 422)["code"] == code
