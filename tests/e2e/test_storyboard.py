"""The small picture above a player's bar is the one that the film shows at that time.

Shaka Player reads the WebVTT and finds the rectangle; every picture of the film carries its number,
so what it would show and what the film shows are both read from the screen.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Player
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.media import framecode

pytestmark = pytest.mark.needs("chromium")

RATE = 24
SECONDS = 20


def make_clip(ffmpeg: str, folder: Path) -> Path:
    clip = framecode.make(
        folder / "source.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(RATE),
        seconds=SECONDS,
        size=(640, 360),
    )
    return clip.path


@pytest.mark.parametrize("index", ["storyboard.vtt", "thumbnails.vtt"])
def test_the_picture_above_the_bar_is_that_of_its_time(
    index: str, browser: Browser, transcode: Transcode, ffmpeg: str
) -> None:
    outputs = ("hls", "storyboard", "thumbnails:every=4s")
    options = [word for output in outputs for word in ("--output", output)]
    folder = transcode("hovered", partial(make_clip, ffmpeg), ["--rung", "180", *options])
    with MediaServer(folder) as server, Player(browser, server) as player:
        player.open("shaka", "master.m3u8")
        player.wait(lambda report: bool(report.frames), 20)
        player.pause()
        for seconds in (0.0, 1.99, 2.0, 9.5, 13.0, 19.9):
            found = player.hover(index, seconds)
            assert found.start <= seconds < found.end
            assert found.end - found.start <= (2 if index == "storyboard.vtt" else 4)
            assert found.number == round(found.start * RATE)
            assert player.seek(found.start + 0.5 / RATE).number == found.number
        assert player.report().errors == ()
