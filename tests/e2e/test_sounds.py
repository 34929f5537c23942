"""Choosing among tracks of sound in Chromium: a tone of its own in each language tells which plays.

The first track is in 5.1, so that players have two groups of sound to choose from as well.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import PITCH_STEP_HZ, Player, PlayerName
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.e2e.test_playback import PLAYERS, SMALL_BUFFERS, id_of

pytestmark = pytest.mark.needs("chromium")

SECONDS = 60
TONES_HZ = {"en": 500, "de": 1000, "fr": 2000}
TITLES = ["Original", "German", "French"]


@pytest.fixture(scope="module")
def film(transcode: Transcode, ffmpeg: str) -> Path:
    def make(folder: Path) -> Path:
        path = folder / "source.mkv"
        english, german, french = TONES_HZ.values()
        centre = f"0|0|0.4*sin(2*PI*{english}*t)|0|0|0"
        command = [
            *(ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s=320x180:r=25:d={SECONDS}"),
            *("-f", "lavfi", "-i", f"aevalsrc={centre}:c=5.1:s=48000:d={SECONDS}"),
            *("-f", "lavfi", "-i", f"sine={german}:r=48000:d={SECONDS}"),
            *("-f", "lavfi", "-i", f"sine={french}:r=48000:d={SECONDS}"),
            *("-map", "0", "-map", "1", "-map", "2", "-map", "3"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "0"),
            *("-c:a:0", "ac3", "-c:a:1", "aac", "-c:a:2", "libopus", "-ac:a:1", "2"),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:0", "title=Original"),
            *("-metadata:s:a:1", "language=ger", "-metadata:s:a:2", "language=fre"),
            *("-disposition:a:0", "default", str(path)),
        ]
        subprocess.run(command, check=True)
        return path

    return transcode("sounds", make, ("--rung", "180"))


@pytest.mark.parametrize("way", PLAYERS, ids=id_of)
def test_a_viewer_switches_the_language_of_the_sound(
    way: tuple[PlayerName, str], film: Path, browser: Browser
) -> None:
    name, manifest = way
    with MediaServer(film) as server, Player(browser, server) as player:
        player.open(name, manifest, numbered=False, listen=True, config=SMALL_BUFFERS[name])
        assert player.pitch(TONES_HZ["en"]) == pytest.approx(TONES_HZ["en"], abs=PITCH_STEP_HZ)
        for language in ("de", "fr", "en", "de"):
            names = player.choose_sound(language)
            assert list(dict.fromkeys(names)) == TITLES
            heard = player.pitch(TONES_HZ[language])
            assert heard == pytest.approx(TONES_HZ[language], abs=PITCH_STEP_HZ), language
        report = player.report()
        # hls.js tells of what it stops loading itself, of the track that is left.
        assert [error for error in report.errors if "aborted" not in error] == []
        assert server.missing() == []
        assert report.time < SECONDS, "it went on from where it was"
