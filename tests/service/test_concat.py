"""Films that are joined in the service: what the command makes of the same files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.service.films import Film, add_film
from tests.service.owners import Owner, owner_of
from tests.service.working import digests_below, working
from tests.waiting import until

from telecine.engine.probe import probe
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.service.services import Services


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def made_film(tools: Tools, path: Path, *words: str) -> Film:
    argv = [str(tools.ffmpeg), "-v", "error", *words, "-t", "2", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return Film(path, probe(path, tools))


def narrow(tools: Tools, folder: Path) -> Film:
    """2 s of 240×240 at 30 frames a second in a transport stream, without sound."""
    words = ("-f", "lavfi", "-i", "testsrc2=size=240x240:rate=30", "-preset", "ultrafast")
    return made_film(tools, folder / "narrow.ts", *words)


def test_a_job_joins_the_films_that_the_command_joins(
    ada: Owner, services: Services, film: Film, tools: Tools, tmp_path: Path
) -> None:
    other = narrow(tools, tmp_path)
    first, second = (add_film(services, ada.user_id, each) for each in (film, other))
    outputs: list[dict[str, Any]] = [
        {"type": "hls", "rungs": [240], "concat": [second, first]},
        {"type": "mp4", "concat": [second, first]},
        {"type": "flac"},
    ]
    estimate = ada.post("/v1/jobs/estimate", {"asset_id": first, "outputs": outputs}, 200)
    assert estimate["plan"]["duration_s"] == 8
    job_id = ada.submit(first, outputs=outputs)["id"]
    with working(services):
        until(lambda: ada.get(f"/v1/jobs/{job_id}")["state"] in ("succeeded", "failed"), 60)
    made = ada.get(f"/v1/jobs/{job_id}")
    assert made["state"] == "succeeded", made["error"]
    assert "several films are joined" in made["plan"]["top_not_copied"]
    (said,) = [line for line in made["plan"]["changes"] if line.startswith("film-2 from 3 s on: ")]
    assert "bars at the sides; 30.000 frames/s made 25.000" in said
    assert said.endswith("no sound: silence")
    transcode(
        film.path,
        tmp_path / "out",
        make_profile(
            tuple(parse_output(word) for word in ("hls", "mp4:source", "flac")), (240,), concat=2
        ),
        tools=services.tools,
        jobs=1,
        inputs={"film-2": other.path, "film-3": film.path},
    )
    wanted = digests_below(tmp_path / "out")
    rows = ada.get(f"/v1/jobs/{made['id']}/outputs")["data"]
    found = {row["path"]: row["sha256"] for row in rows}
    for path in ("master.m3u8", "source.mp4", "audio.flac"):
        assert found[path] == wanted[path], path


def test_a_clip_of_a_job_is_one_of_the_whole(
    ada: Owner, services: Services, film: Film, tools: Tools, tmp_path: Path
) -> None:
    """1 s of the film of 3 s and 1.5 s of the one behind it."""
    other = narrow(tools, tmp_path)
    first, second = (add_film(services, ada.user_id, each) for each in (film, other))
    clip = {"start_s": 2, "end_s": 4.5}
    outputs = [{"type": "hls", "concat": [second], "clip": clip}]
    plan = ada.post("/v1/jobs/estimate", {"asset_id": first, "outputs": outputs}, 200)["plan"]
    assert plan["duration_s"] == pytest.approx(2.5, abs=0.04)
    assert any(line.startswith("film-2 from 1 s on: 0.000 s to 1.5") for line in plan["changes"])


def test_what_is_not_a_film_of_ones_own_is_not_joined(
    ada: Owner, services: Services, client: TestClient, film: Film, tools: Tools, tmp_path: Path
) -> None:
    mine = add_film(services, ada.user_id, film)
    theirs = add_film(services, owner_of(client, "bob@example.org").user_id, film)
    words = ("-f", "lavfi", "-i", "sine")
    song = add_film(services, ada.user_id, made_film(tools, tmp_path / "song.mp3", *words))
    for other, code in ((theirs, "input_unknown"), ("none", "input_unknown"),
                        (song, "film_no_picture")):  # fmt: skip
        asked = {"asset_id": mine, "outputs": [{"type": "hls", "concat": [other]}]}
        assert ada.post("/v1/jobs", asked, 422)["code"] == code


@pytest.mark.parametrize(
    ("outputs", "code"),
    [
        ([{"type": "hls", "concat": "x"}], "invalid_request"),
        ([{"type": "hls", "concat": [1]}], "invalid_request"),
        ([{"type": "hls", "concat": ["x"] * 32}], "invalid_request"),
        ([{"type": "flac", "concat": ["x"]}], "input_unknown"),
        ([{"type": "hls", "concat": ["x"]}, {"type": "mp4", "concat": ["y"]}], "output_invalid"),
        ([{"type": "hls", "concat": ["x"], "burn_subtitle": "en"}], "concat_unsupported"),
        ([{"type": "mp4", "concat": ["x"], "quality": 90}], "quality_of_joined"),
    ],
)
def test_what_is_wrong_with_a_wish_is_said(
    ada: Owner, services: Services, film: Film, outputs: list[dict[str, Any]], code: str
) -> None:
    film_id = add_film(services, ada.user_id, film)
    assert ada.post("/v1/jobs", {"asset_id": film_id, "outputs": outputs}, 422)["code"] == code
