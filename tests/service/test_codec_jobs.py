"""Codecs and HDR by a job: asked for in the API's words, estimated, made by a worker, listed where
the film plays."""

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

pytestmark = pytest.mark.thorough

WANTED: list[dict[str, Any]] = [
    {"type": "hls", "rungs": [180], "codecs": ["hevc", "h264", "av1"], "hdr": "keep"}
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """7 s of HLG, 320×180."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    said = "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc:range=tv"
    made = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24:d=7"]
    made += ["-vf", f"format=yuv420p10le,{said}", "-c:v", "libx265", "-preset", "ultrafast"]
    subprocess.run([*made, "-x265-params", "log-level=error", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with working_for_ada(tmp_path_factory.mktemp("service") / "data") as client:
        yield client


@pytest.fixture(scope="module")
def job(ada: Client, film: Path) -> Job:
    return finished_job(ada, film, WANTED)


def test_the_plan_says_codec_and_range_of_each_rung(job: Job) -> None:
    assert job.plan is not None
    said = [(rung["name"], rung["codec"], rung["video_range"]) for rung in job.plan["rungs"]]
    assert said == [
        ("180p", "h264", "SDR"),
        ("av1-180p", "av1", "HLG"),
        ("hevc-180p", "hevc", "HLG"),
    ]
    assert "HDR kept, and beside it made SDR" in job.plan["changes"]


def test_it_plays_in_every_codec(ada: Client, job: Job) -> None:
    ada.edit_asset(job.asset_id, visibility="public")
    found = ada.playback(job.asset_id)
    assert found.hls_url is not None
    master = httpx2.get(found.hls_url).text
    streams = re.findall(r'#EXT-X-STREAM-INF:.*CODECS="(\w{4}).*VIDEO-RANGE=(\w+).*\n(.+)', master)
    assert [(codec, video_range) for codec, video_range, _ in streams] == [
        ("avc1", "SDR"),
        ("av01", "HLG"),
        ("hvc1", "HLG"),
    ]
    for *_, uri in streams:
        media = httpx2.URL(found.hls_url).join(uri)
        playlist = httpx2.get(media)
        assert playlist.text.count("#EXTINF") == 2
        assert httpx2.get(media.join("00001.m4s")).status_code == 200


def test_an_estimate_knows_what_each_codec_costs(ada: Client, job: Job) -> None:
    for codecs in (["h264"], ["av1"], ["h264", "hevc"]):
        wish = {"type": "hls", "rungs": [180], "codecs": codecs}
        found = ada.estimate(job.asset_id, outputs=[wish])
        assert {one["name"] for one in found["outputs"]} == {
            f"{'' if codec == 'h264' else f'{codec}-'}180p" for codec in codecs
        }
        assert "AV1 0.9 times as long, HEVC 1.9 times as long" in found["basis"][0]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"codecs": []}, "invalid_request"),
        ({"codecs": ["vp9"]}, "codec_unknown"),
        ({"hdr": "maybe"}, "invalid_request"),
        ({"hdr": "keep"}, "hdr_needs_ladders"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ada: Client, job: Job, fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        ada.submit(job.asset_id, outputs=[{"type": "hls", **fields}])
    assert refused.value.status == 422
    assert refused.value.code == code
