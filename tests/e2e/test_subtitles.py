"""Subtitles in real players: each text stands on the very pictures that it was written for.

Every picture carries its number, so what is on the screen beside a text is read from the screen.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Player, PlayerName
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.media import framecode

pytestmark = pytest.mark.needs("chromium")

RATE = 24
SECONDS = 20

# From picture to picture; the second over the border of two segments at 6 s, the third in the last.
SHOWN = {"first": (30, 60), "over the border": (130, 160), "last": (450, 460)}

PLAYERS: tuple[tuple[PlayerName, str], ...] = (
    ("hlsjs", "master.m3u8"),
    ("shaka", "master.m3u8"),
    ("shaka", "manifest.mpd"),
)


# Shaka Player learns where text stands in HLS from the next picture that it stores: of what it has
# in store already it shows none. So it gets little in store, and the end is looked at first.
SHAKA = {"streaming": {"bufferingGoal": 4, "rebufferingGoal": 1}}


def stamp(frame: int) -> str:
    ms = frame * 1000 // RATE
    return f"00:00:{ms // 1000:02d},{ms % 1000:03d}"


def write_side_car(path: Path, word: str) -> Path:
    blocks = [
        f"{n}\n{stamp(start)} --> {stamp(end)}\n{word} {text} <i>& so on</i>\n"
        for n, (text, (start, end)) in enumerate(SHOWN.items(), start=1)
    ]
    path.write_text("\n".join(blocks))
    return path


def make_clip(ffmpeg: str, folder: Path) -> Path:
    clip = framecode.make(
        folder / "source.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(RATE),
        seconds=SECONDS,
        size=(640, 360),
    )
    return clip.path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, transcode: Transcode, ffmpeg: str) -> Path:
    home = tmp_path_factory.mktemp("texts")
    english = write_side_car(home / "en.srt", "english")
    german = write_side_car(home / "de.srt", "deutsch")
    options = ("--rung", "180", "--subtitle", f"en={english}", "--subtitle", f"de:sdh={german}")
    return transcode("subtitled", partial(make_clip, ffmpeg), options)


@pytest.mark.parametrize("way", PLAYERS, ids=lambda way: f"{way[0]}-{way[1].rpartition('.')[2]}")
def test_a_text_stands_on_its_own_pictures(
    way: tuple[PlayerName, str], browser: Browser, folder: Path
) -> None:
    name, manifest = way
    with MediaServer(folder) as server, Player(browser, server) as player:
        player.open(name, manifest, config=SHAKA if name == "shaka" else None)
        player.wait(lambda report: bool(report.frames), 20)
        player.pause()
        assert player.choose_text("de") == ["English", "German (SDH)"]
        for text, (start, end) in reversed(SHOWN.items()):
            for frame in (start - 1, start, end - 1, end):
                seen = player.seek((frame + 0.5) / RATE)
                assert seen.number == frame
                wanted = [f"deutsch {text} <i>&amp; so on</i>"] if start <= frame < end else []
                found = player.texts(len(wanted))
                assert [plain(line) for line in found] == [plain(line) for line in wanted], frame
        player.choose_text("en")
        player.seek((SHOWN["first"][0] + 0.5) / RATE)
        assert [plain(line) for line in player.texts(1)] == ["english first & so on"]
        # Whoever chooses another language does not wait for what was on its way of the first.
        errors = [error for error in player.report().errors if "aborted" not in error]
        assert errors == []


def plain(text: str) -> str:
    """Players differ in how they tell of markup: hls.js as it stands, Shaka Player without."""
    return text.replace("<i>", "").replace("</i>", "").replace("&amp;", "&")
