"""What real players make of several codecs: AV1 where the browser knows it, H.264 where not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Player, PlayerName, Report, unstarved
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.media import framecode

pytestmark = pytest.mark.needs("chromium")

RATE, SECONDS = Fraction(24), 9
PLAYERS: tuple[tuple[PlayerName, str], ...] = (
    ("hlsjs", "master.m3u8"),
    ("shaka", "master.m3u8"),
    ("shaka", "manifest.mpd"),
    ("dashjs", "manifest.mpd"),
)


def make(ffmpeg: str, folder: Path) -> Path:
    path = folder / "source.mp4"
    framecode.make(path, ffmpeg=ffmpeg, rate=RATE, seconds=SECONDS, size=(640, 360))
    return path


def watch(
    browser: Browser, folder: Path, way: tuple[PlayerName, str], without: str
) -> tuple[Report, set[str]]:
    """Watched to its end; the folders of pictures whose segments were fetched."""
    name, manifest = way
    with (
        MediaServer(folder) as server,
        Player(browser, server, without=without) as player,
    ):
        player.open(name, manifest)
        report = player.wait(lambda r: r.ended or r.errors != (), 60)
        found = (re.search(r"/video/([^/]+)/\d+\.m4s", url) for url in player.fetched)
        return report, {match[1] for match in found if match is not None}


@pytest.mark.parametrize("way", PLAYERS, ids=lambda way: f"{way[0]}-{way[1][-4:]}")
@pytest.mark.parametrize("without", ["", "av01"])
def test_av1_is_played_where_it_is_known_and_h264_where_not(
    way: tuple[PlayerName, str],
    without: str,
    browser: Browser,
    transcode: Transcode,
    ffmpeg: str,
) -> None:
    options: Sequence[str] = ("--codec", "h264,av1", "--top", "encode", "--output", "hls")
    folder = transcode("codecs", partial(make, ffmpeg), options)
    report, fetched = unstarved(lambda: watch(browser, folder, way, without), lambda seen: seen[0])
    assert report.errors == ()
    assert report.ended
    assert report.misplaced(RATE) == []
    assert fetched
    if without:
        assert not any(name.startswith("av1-") for name in fetched), fetched
    elif way[0] != "dashjs":  # which takes the first set that it can play
        assert any(name.startswith("av1-") for name in fetched), fetched
