"""What stands beside the film, by a job: asked for in the API's words, estimated, made by a worker,
downloaded, and read where the film plays."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.running import finished_job, working_for_ada

from telecine.client import ApiError, Client, Job

WANTED: list[dict[str, Any]] = [
    {"type": "hls", "rungs": [360, 240]},
    {"type": "storyboard"},
    {"type": "thumbnails", "every_s": 4},
    {"type": "preview"},
    {"type": "waveform"},
]
CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=5000
title=One
[CHAPTER]
TIMEBASE=1/1000
START=5000
END=9000
title=Two & <b>
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """9 s of 640×360 with a tone and two chapters."""
    home = tmp_path_factory.mktemp("film")
    (home / "chapters.txt").write_text(CHAPTERS)
    made = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:d=9"]
    made += ["-f", "lavfi", "-i", "sine=d=9", "-i", str(home / "chapters.txt")]
    made += ["-map", "0", "-map", "1", "-map_chapters", "2", "-c:v", "mpeg4", "-q:v", "4"]
    subprocess.run([*made, str(home / "film.mkv")], check=True)
    return home / "film.mkv"


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with working_for_ada(tmp_path_factory.mktemp("service") / "data") as client:
        yield client


@pytest.fixture(scope="module")
def job(ada: Client, film: Path) -> Job:
    return finished_job(ada, film, WANTED)


def test_the_job_says_of_what_it_is_made(ada: Client, job: Job) -> None:
    assert job.plan is not None
    assert {file["path"] for file in job.plan["files"]} == {
        *("storyboard.vtt", "thumbnails.vtt", "thumbnails.json", "preview.webp"),
        *("waveform.json", "waveform.png", "chapters.vtt", "chapters.json"),
    }
    assert job.plan["beside"] == [
        {
            "output": "storyboard",
            "reason": "5 key pictures of 240p, one every 2 s, 5 × 1 on a sheet",
        },
        {"output": "thumbnails", "reason": "3 key pictures of 360p, one every 4 s, each a file"},
        {"output": "preview", "reason": "2.5 s each of 240p from 0, 6 s"},
        {"output": "waveform", "reason": "1688 peaks of 256 samples, at most 20000"},
        {"output": "chapters", "reason": "2 in the film"},
    ]
    asset = ada.asset(job.asset_id)
    assert asset.media is not None
    assert [chapter["title"] for chapter in asset.media["chapters"]] == ["One", "Two & <b>"]


def test_everything_comes_down_by_its_name(ada: Client, job: Job, tmp_path: Path) -> None:
    outputs = {output.path: output for output in ada.outputs(job.id)}
    types = {
        path: output.content_type
        for path, output in outputs.items()
        if "/" in path
        or output.kind in ("storyboard", "thumbnails", "preview", "waveform", "chapters")
    }
    assert types == {
        "storyboard.vtt": "text/vtt",
        "storyboard/00000.jpg": "image/jpeg",
        "thumbnails.vtt": "text/vtt",
        "thumbnails.json": "application/json",
        "thumbnails/00000.jpg": "image/jpeg",
        "thumbnails/00001.jpg": "image/jpeg",
        "thumbnails/00002.jpg": "image/jpeg",
        "preview.webp": "image/webp",
        "waveform.json": "application/json",
        "waveform.png": "image/png",
        "chapters.vtt": "text/vtt",
        "chapters.json": "application/json",
    }  # fmt: skip
    assert outputs["storyboard.vtt"].facts == {
        "pictures": 5, "every_s": 2.0, "width": 240, "height": 136, "columns": 5, "rows": 1,
    }  # fmt: skip
    assert outputs["preview.webp"].facts == {"width": 320, "height": 180, "duration_s": 5.0}
    ada.download_outputs(job.id, tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert types.keys() < found
    text = (tmp_path / "storyboard.vtt").read_text()
    for path in re.findall(r"^(.+)#xywh", text, re.MULTILINE):
        assert (tmp_path / path).is_file()
    assert "Two &amp; &lt;b&gt;" in (tmp_path / "chapters.vtt").read_text()


def test_it_stands_where_the_film_plays(ada: Client, job: Job) -> None:
    ada.edit_asset(job.asset_id, visibility="public")
    found = ada.playback(job.asset_id)
    assert found.storyboard_url is not None
    assert found.chapters_url is not None
    sheet = httpx2.get(found.storyboard_url)
    assert sheet.headers["Content-Type"].startswith("text/vtt")
    (path, *_) = re.findall(r"^(.+)#xywh", sheet.text, re.MULTILINE)
    picture = httpx2.get(httpx2.URL(found.storyboard_url).join(path))
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/jpeg")
    assert picture.content[:2] == b"\xff\xd8"
    beyond = httpx2.URL(found.storyboard_url).join("storyboard/00001.jpg")
    assert httpx2.get(beyond).status_code == 404
    assert found.hls_url is not None
    master = httpx2.get(found.hls_url).text
    (uri,) = re.findall(r'#EXT-X-SESSION-DATA:.*URI="(.*)"', master)
    chapters = httpx2.get(httpx2.URL(found.hls_url).join(uri)).json()
    assert [one["start-time"] for one in chapters] == [0.0, 5.0]


def test_nothing_is_larger_than_its_estimate_says(ada: Client, job: Job) -> None:
    estimate = ada.estimate(job.asset_id, outputs=WANTED)
    most = {one["name"]: one["max_size_bytes"] for one in estimate["outputs"]}
    made: dict[str, int] = {}
    for output in ada.outputs(job.id):
        made[output.kind] = made.get(output.kind, 0) + output.size_bytes
    assert made["storyboard"] <= most["storyboard.vtt"]
    assert made["thumbnails"] <= most["thumbnails.vtt"]
    assert made["preview"] <= most["preview.webp"]
    assert made["waveform"] <= most["waveform.json"]
    assert made["chapters"] == most["chapters.vtt"]


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"type": "thumbnails", "every_s": 0}, "invalid_request"),
        ({"type": "thumbnails", "every_s": 3601}, "invalid_request"),
        ({"type": "storyboard", "every_s": 10}, "invalid_request"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ada: Client, job: Job, output: dict[str, Any], code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        ada.submit(job.asset_id, outputs=[output])
    assert refused.value.status == 422
    assert refused.value.code == code
