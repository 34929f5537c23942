"""The service's own player: it plays a film while its job runs, and on past the moment at which the
asset is ready, without a seek, a step back or a frame that is not the next one.

A real `telecine serve` with a worker; the page is driven as a viewer would, by its address and the
keyboard.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Viewer
from tests.media import framecode
from tests.service.conftest import PASSWORD
from tests.service.running import Running
from tests.service.uploading import song

from telecine.client import Client

pytestmark = pytest.mark.needs("chromium")

RATE = Fraction(24)
FILM_S = 48


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    data = tmp_path_factory.mktemp("service") / "data"
    with Running(data, workers=1) as running, Client(running.base_url) as client:
        client.sign_up("ada@example.org", PASSWORD)
        client.log_in("ada@example.org", PASSWORD)
        yield client


@pytest.mark.parametrize("kind", ["copied", "encoded"])
def test_the_player_goes_from_the_growing_film_to_the_whole_one(
    kind: str, client: Client, browser: Browser, ffmpeg: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    # Ten bits a sample are nothing that a browser plays, so they cannot be copied.
    shape = ("-g", "48") if kind == "copied" else ("-pix_fmt", "yuv420p10le")
    framecode.make(
        film,
        ffmpeg=ffmpeg,
        rate=RATE,
        seconds=FILM_S,
        size=(854, 480),
        video=("-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", *shape),
        noise=20,  # keeps the encoder at work for long enough to be watched
    )
    asset_id = client.upload(film, title=f"A film that is {kind}").asset_id
    assert asset_id is not None
    if kind == "copied":
        client.edit_asset(asset_id, visibility="public")
    # A private one is opened by its expiring address.
    page_url = client.playback(asset_id).embed_url
    assert ("/p/" in page_url) == (kind == "encoded")

    with Viewer(browser, page_url) as viewer:
        viewer.until("() => document.querySelector('#message').textContent", 10)
        assert "being prepared" in viewer.message()
        job = client.submit(asset_id, preset="stream")
        viewer.until("() => document.querySelector('video').readyState >= 2", 60)
        viewer.press("k")
        viewer.wait(lambda r: r.time > 0.5, 30)
        assert client.job(job.id).state == "running"
        assert viewer.asked("growing.m3u8") > 0
        assert viewer.asked("index.m3u8") == 0

        while client.playback(asset_id).state != "ready":
            assert client.job(job.id).state in ("running", "succeeded")
            if viewer.wait(lambda r: r.time > FILM_S / 2, 0.5).time > FILM_S / 2:
                viewer.pause()  # on a machine so busy that the job is slower than the film
        viewer.resume()
        assert not viewer.report().ended, "the film ended before its job did"
        viewer.until("() => 'switched' in document.documentElement.dataset", 15)
        at_switch = viewer.report()
        assert viewer.asked("index.m3u8") > 0
        ended = viewer.wait(lambda r: r.ended, 3 * FILM_S)

    assert ended.ended
    assert abs(ended.time - ended.duration) <= 1 / RATE
    assert abs(ended.duration - FILM_S) <= 0.1
    assert ended.errors == ()
    assert viewer.complaints == []
    assert viewer.refused() == []
    assert ended.frames[0].time < 2 / RATE
    times = [frame.time for frame in ended.frames]
    assert times == sorted(times)
    assert ended.misplaced(RATE) == []
    assert [event for event in ended.events if event.type == "seeking" and event.time > 0] == []
    if kind == "copied":  # an encoder may be slower than the film; a copy is all there at once
        assert ended.dry() == []
    else:
        assert [event for event in ended.dry() if event.at_ms > at_switch.events[-1].at_ms] == []


def test_the_keyboard_does_what_the_controls_do(
    client: Client, browser: Browser, ffmpeg: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    video = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "48")
    framecode.make(film, ffmpeg=ffmpeg, rate=RATE, seconds=20, size=(320, 180), video=video)
    upload = client.upload(film, title="Keys", preset="stream")
    assert upload.asset_id is not None
    assert upload.job_id is not None
    for _ in client.watch(upload.job_id):
        pass
    with Viewer(browser, client.playback(upload.asset_id).embed_url) as viewer:
        viewer.until("() => document.querySelector('video').readyState >= 2", 20)
        assert viewer.report().paused
        viewer.press(" ")
        viewer.wait(lambda r: r.time > 0.3, 20)
        viewer.press("m")
        assert viewer.until("() => document.querySelector('video').muted", 10)
        viewer.press("ArrowRight")
        assert viewer.wait(lambda r: r.time > 5, 10).time > 5
        viewer.press("k")
        assert viewer.wait(lambda r: r.paused, 5).paused
        viewer.press("ArrowLeft")
        assert viewer.wait(lambda r: r.time < 5, 5).time < 5
        assert viewer.complaints == []
        assert viewer.refused() == []


def test_a_page_that_waits_looks_often_at_first(
    client: Client, browser: Browser, tmp_path: Path
) -> None:
    film = tmp_path / "song.wav"
    film.write_bytes(song())
    asset_id = client.upload(film).asset_id
    assert asset_id is not None
    with Viewer(browser, client.playback(asset_id).embed_url) as viewer:
        until_s = (
            time.monotonic() + 1.8
        )  # once in two seconds would be too late for "in two seconds"
        while time.monotonic() < until_s:
            viewer.report()
            time.sleep(0.05)
        assert viewer.asked("/state") >= 3
        assert "being prepared" in viewer.message()


def test_a_viewer_reads_what_is_wrong(client: Client, browser: Browser) -> None:
    with Viewer(browser, f"{client.url}/embed/01ARZ3NDEKTSV4RRFFQ69G5FAV") as viewer:
        assert viewer.message() == "This video does not exist, or it is private."
