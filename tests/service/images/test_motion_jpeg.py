"""Raw Motion JPEG, as FFmpeg writes it, and the photos of the corpus: films and pictures."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.service.owners import owner_of
from tests.thorough import thorough_but

from telecine.engine.formats.containers import is_motion_jpeg
from telecine.engine.tools import Tools
from telecine.service.services import Services
from telecine.service.worker import run_worker

# The second one has a frame that is larger than what is looked at of a file at first.
SIZES = ["320x180", "1920x1080"]


@pytest.mark.parametrize("size", thorough_but(SIZES, "320x180"))
def test_a_raw_motion_jpeg_is_a_film(
    client: TestClient, services: Services, tools: Tools, tmp_path: Path, size: str
) -> None:
    path = tmp_path / "film.mjpeg"
    made = [
        *(str(tools.ffmpeg), "-v", "error", "-f", "lavfi"),
        *("-i", f"testsrc2=size={size}:rate=25,noise=alls=60:allf=t", "-frames:v", "5"),
        *("-c:v", "mjpeg", "-q:v", "2", "-f", "mjpeg", str(path)),
    ]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    assert (path.stat().st_size > 5 << 20) == (size == SIZES[1])
    ada = owner_of(client)
    files = {"file": ("film.mjpeg", path.read_bytes(), "video/x-motion-jpeg")}
    added = ada.ask("POST", "/v1/uploads/form", 201, files=files)
    found = ada.get(f"/v1/assets/{added['asset_id']}")
    assert (found["kind"], found["content_type"]) == ("video", "video/x-motion-jpeg")
    assert found["duration_s"] == pytest.approx(5 / 25, abs=0.01)
    job = ada.submit(added["asset_id"], outputs=[{"type": "hls"}, {"type": "poster"}])
    while run_worker(services, "w", once=True, stop=threading.Event()):
        pass
    done = ada.get(f"/v1/jobs/{job['id']}")
    assert (done["state"], done["error"]) == ("succeeded", None)


def test_every_jpeg_of_the_corpus_is_a_picture(corpus: Path) -> None:
    seen = 0
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                photo = file.read(3) == b"\xff\xd8\xff"
            if photo:
                seen += 1
                assert not is_motion_jpeg(path.read_bytes()), path
    assert seen >= 15
