"""What real players make of our output: hls.js, Shaka Player and dash.js in a headless Chromium.

Every frame of the clips carries its number and the sound clicks at each full second, so that not
only the players' own word is checked but what a viewer sees and hears.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Frame, Player, PlayerName, Report, unstarved
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.media import framecode

pytestmark = pytest.mark.needs("chromium")

HLS, DASH = "master.m3u8", "manifest.mpd"
PLAYERS: tuple[tuple[PlayerName, str], ...] = (
    ("hlsjs", HLS),
    ("shaka", HLS),
    ("shaka", DASH),
    ("dashjs", DASH),
)
SYNC_S = 0.040  # the design's bound for sound against picture

# Keyframes as a careless encoder sets them: at most 10 s apart and never where we would.
IRREGULAR_S = (0, 2.5, 3.25, 12.75)


@dataclass(frozen=True, slots=True)
class Clip:
    """A source, how it is transcoded, and how fast it is watched (sound is timed at 1 only)."""

    name: str
    rate: Fraction
    seconds: int
    rungs: tuple[int, ...]
    options: tuple[str, ...]
    video: tuple[str, ...] = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20")
    sound: bool = True
    speed: float = 1.0

    @property
    def frames(self) -> int:
        return int(self.seconds * self.rate)

    @property
    def duration_s(self) -> float:
        return float(self.frames / self.rate)

    def make(self, ffmpeg: str, folder: Path) -> Path:
        path = folder / "source.mp4"
        audio = ("-c:a", "aac", "-b:a", "96k") if self.sound else None
        framecode.make(
            path,
            ffmpeg=ffmpeg,
            rate=self.rate,
            seconds=self.seconds,
            size=(1280, 720),
            video=self.video,
            audio=audio,
        )
        return path


CLIPS = (
    Clip("encoded", Fraction(24), 13, (720, 360), ("--top", "encode")),
    Clip(
        "copied",
        Fraction(25),
        14,
        (720, 360),
        ("--top", "copy"),
        video=(
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-bf", "3"),
            *("-g", "10000", "-sc_threshold", "0"),
            *("-force_key_frames", ",".join(map(str, IRREGULAR_S))),
        ),
        speed=2.0,
    ),
    Clip("film-rate", Fraction(24000, 1001), 9, (720, 360), ("--top", "encode"), speed=2.0),
    Clip("silent", Fraction(30), 7, (720, 360), ("--top", "encode"), sound=False),
)


@dataclass(frozen=True, slots=True)
class Watched:
    """One clip watched to its end by one player, then paused and sought."""

    clip: Clip
    rungs: tuple[int, ...]
    report: Report
    sought: tuple[tuple[float, Frame], ...]
    missing: tuple[str, ...]


def rung_options(clip: Clip) -> Sequence[str]:
    return (*clip.options, *(o for rung in clip.rungs for o in ("--rung", str(rung))))


def transcoded(clip: Clip, transcode: Transcode, ffmpeg: str) -> Path:
    return transcode(clip.name, partial(clip.make, ffmpeg), rung_options(clip))


def id_of(param: Clip | tuple[str, str]) -> str:
    return param.name if isinstance(param, Clip) else f"{param[0]}-{param[1].rpartition('.')[2]}"


@pytest.fixture(scope="module", params=CLIPS, ids=id_of)
def clip(request: pytest.FixtureRequest) -> Clip:
    chosen: Clip = request.param
    return chosen


@pytest.fixture(scope="module", params=PLAYERS, ids=id_of)
def watched(
    request: pytest.FixtureRequest,
    clip: Clip,
    browser: Browser,
    transcode: Transcode,
    ffmpeg: str,
) -> Watched:
    folder = transcoded(clip, transcode, ffmpeg)
    return unstarved(lambda: watch(clip, folder, request.param, browser), lambda w: w.report)


def watch(clip: Clip, folder: Path, way: tuple[PlayerName, str], browser: Browser) -> Watched:
    name, manifest = way
    with MediaServer(folder) as server, Player(browser, server) as player:
        player.open(name, manifest, rate=clip.speed, listen=clip.sound and clip.speed == 1)
        report = player.wait(lambda r: r.ended, clip.duration_s / clip.speed + 15)
        player.pause()
        # The middle of a frame's time, so that one frame is right and no other: in the first
        # segment, across the first join, near the end, and back.
        chosen = [clip.frames * 2 // 5, clip.frames - 2, 1, clip.frames // 2]
        times = [float((n + Fraction(1, 2)) / clip.rate) for n in chosen]
        sought = tuple((time, player.seek(time)) for time in times)
        return Watched(clip, tuple(player.rungs), report, sought, tuple(server.missing()))


class TestWatchedToTheEnd:
    def test_offers_every_rung(self, watched: Watched) -> None:
        assert sorted(watched.rungs, reverse=True) == list(watched.clip.rungs)

    def test_no_error(self, watched: Watched) -> None:
        assert watched.report.errors == ()
        assert watched.missing == ()

    def test_ends_at_its_duration(self, watched: Watched) -> None:
        report, frame_s = watched.report, float(1 / watched.clip.rate)
        assert report.ended
        assert abs(report.time - report.duration) <= frame_s
        assert report.duration == pytest.approx(watched.clip.duration_s, abs=frame_s)

    def test_no_stall(self, watched: Watched) -> None:
        assert watched.report.stalls() == []
        [(start, end)] = watched.report.buffered
        assert (start, end) == pytest.approx((0, watched.report.duration), abs=0.001)

    def test_drops_at_most_one_frame_in_a_hundred(self, watched: Watched) -> None:
        assert watched.report.height <= 720
        assert watched.report.total >= watched.clip.frames
        assert watched.report.dropped <= watched.report.total / 100

    def test_each_frame_at_its_time(self, watched: Watched) -> None:
        frames = watched.report.frames
        # The page reads up to ten a second; with half of them it saw enough to judge by.
        assert len(frames) > watched.clip.duration_s / watched.clip.speed * 5
        assert frames[0].time <= 2 / watched.clip.rate  # the page may miss the very first
        assert watched.report.misplaced(watched.clip.rate) == []

    def test_a_seek_shows_the_frame_of_that_time(self, watched: Watched) -> None:
        for time, frame in watched.sought:
            assert frame.number == int(time * watched.clip.rate), f"sought {time:.3f}: {frame}"

    @pytest.mark.parametrize("clip", CLIPS[:1], ids=id_of, scope="module")
    def test_sound_is_in_time(self, clip: Clip, watched: Watched) -> None:
        assert watched.clip is clip
        offsets = [time - round(time) for time in watched.report.clicks]
        assert len(offsets) >= watched.clip.seconds / 2
        assert abs(median(offsets)) <= SYNC_S


SMALL_BUFFERS: dict[PlayerName, dict[str, Any]] = {
    # A short clip would be loaded whole before anyone could choose: keep only what comes next.
    # hls.js replaces what it has in store from where a download at the estimated speed could end.
    "hlsjs": {
        "startLevel": 0,
        "maxBufferLength": 2,
        "maxMaxBufferLength": 2,
        "abrEwmaDefaultEstimate": 50_000_000,
    },
    "shaka": {"streaming": {"bufferingGoal": 2}, "abr": {"defaultBandwidthEstimate": 1}},
    "dashjs": {
        "streaming": {
            "buffer": {
                "bufferTimeDefault": 2,
                "bufferTimeAtTopQuality": 2,
                "bufferTimeAtTopQualityLongForm": 2,
            },
            "abr": {"initialBitrate": {"video": 1}},
        }
    },
}


@pytest.mark.parametrize("way", PLAYERS, ids=id_of)
@pytest.mark.parametrize("clip", CLIPS[:2], ids=id_of, scope="module")
def test_forced_switch_up_and_down(
    way: tuple[PlayerName, str], clip: Clip, browser: Browser, transcode: Transcode, ffmpeg: str
) -> None:
    name, manifest = way
    high, low = clip.rungs
    folder = transcoded(clip, transcode, ffmpeg)

    def watch_switching() -> Report:
        with MediaServer(folder) as server, Player(browser, server) as player:
            player.open(name, manifest, rate=2, config=SMALL_BUFFERS[name])
            player.select(low)
            player.wait(lambda r: r.time > 1 and r.height == low, 10)
            player.select(high)
            player.wait(lambda r: r.height == high, 10)
            player.select(low)
            # Until a picture of that size was seen, not only the element's size changed.
            report = player.wait(lambda r: r.heights()[-3:] == [low, high, low], 10)
            assert server.missing() == []
            return report

    report = unstarved(watch_switching, lambda report: report)
    assert report.errors == ()
    assert report.stalls() == []
    assert report.heights()[-3:] == [low, high, low]
    assert report.misplaced(clip.rate) == []


@pytest.fixture(scope="module")
def sound_only(transcode: Transcode, ffmpeg: str) -> Iterator[MediaServer]:
    def make(folder: Path) -> Path:
        path = folder / "source.m4a"
        click = "0.05*sin(2*PI*300*t)+0.8*sin(2*PI*3000*t)*lt(mod(t,1),0.01)"
        argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"aevalsrc='{click}':s=44100:d=5"]
        subprocess.run([*argv, "-ac", "2", "-c:a", "aac", str(path)], check=True)
        return path

    with MediaServer(transcode("sound-only", make, ())) as server:
        yield server


@pytest.mark.parametrize("way", PLAYERS, ids=id_of)
def test_sound_only(way: tuple[PlayerName, str], browser: Browser, sound_only: MediaServer) -> None:
    name, manifest = way

    def hear() -> Report:
        with Player(browser, sound_only) as player:
            player.open(name, manifest, numbered=False, listen=True)
            return player.wait(lambda r: r.ended, 20)

    report = unstarved(hear, lambda report: report)
    assert report.errors == ()
    assert sound_only.missing() == []
    assert report.ended
    assert report.stalls() == []
    assert report.duration == pytest.approx(5, abs=0.05)
    assert abs(report.time - report.duration) <= 0.05
    assert abs(median(time - round(time) for time in report.clicks)) <= SYNC_S
