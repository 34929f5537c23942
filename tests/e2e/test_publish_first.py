"""Publish first: a page plays the output while it is still being made.

The command runs as a child; an outside watcher judges every state of the folder; a page opens
`master.m3u8` as soon as it is there and stays with that session while the rest is made. How long
that took stands at the end of what pytest prints.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Player, PlayerName, Report
from tests.e2e.command import TELECINE
from tests.e2e.conftest import FIRST_PLAY
from tests.e2e.server import MediaServer
from tests.media import framecode
from tests.media.watcher import GROWING, MASTER, Watcher, listed

pytestmark = pytest.mark.needs("chromium")

Record = Callable[[str, object], None]

LONG = os.environ.get("TELECINE_LONG") == "1"
COMPLIANT_START_S = 2.0
ENCODED_START_S = 5.0

# The page stands open before the film comes: a browser that is still starting takes the processor
# from what is measured.
BROWSER_STARTS_S = 3.0

SETTLES_S = 60.0  # a start on a film just made took 1.5 s, the fifth after it 0.9 s

# 24 s are a whole number of frames at 24 fps and of AAC frames at 48 kHz, so a loop has no seam.
LOOP_S = 24
RATE = Fraction(24)
SETTLED_S = 15.0
LOOP_FRAMES = int(LOOP_S * RATE)


@dataclass(frozen=True, slots=True)
class Session:
    """One page's visit that began while the folder was growing."""

    start_s: float  # from the start of the command to the first frame on the screen
    playing: Report  # when the command ended, or when the test had seen enough
    ended: Report | None  # at the very end of the film, if it was watched until there


@dataclass(frozen=True, slots=True)
class Published:
    """A whole run: what its visitors saw while it grew, and one who came afterwards."""

    returncode: int
    log: str
    watcher: Watcher
    playable_s: float  # from the start of the command to a `master.m3u8` that can be played
    sessions: dict[PlayerName, Session]
    afterwards: Report
    rungs_afterwards: tuple[int, ...]
    missing: tuple[str, ...]
    speed: float


def publish(
    source: Path,
    out: Path,
    options: Sequence[str],
    browser: Browser,
    *,
    players: Sequence[PlayerName],
    finishing: Sequence[PlayerName],
    duration_s: float,
    play_s: float,
    speed: float = 1.0,
    numbered: bool = True,
) -> Published:
    """Transcodes *source* and visits the folder with each of *players* as soon as it plays.

    Each visitor plays from the start for *play_s* seconds; those who are *finishing* then watch,
    when the command has ended, the last seconds up to the end. The first of *players* is the one
    whose start counts: the others open the page after it.
    """
    with ExitStack() as stack:
        server = stack.enter_context(MediaServer(out))
        watcher = stack.enter_context(Watcher(out, duration_s))
        visitors = {name: stack.enter_context(Player(browser, server)) for name in players}
        for name, visitor in visitors.items():
            visitor.prepare(name)
        time.sleep(BROWSER_STARTS_S)
        # The film was just made: gigabytes are not to be written back meanwhile, and a machine that
        # still pays for minutes of encoding is not measured.
        os.sync()
        time.sleep(SETTLES_S if LONG else 0)
        log = stack.enter_context(out.with_suffix(".log").open("w+"))
        argv = [TELECINE, "transcode", str(source), "-o", str(out), "--json", *options]
        began = time.time()
        command = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(command.wait)
        stack.callback(command.kill)

        while not watcher.playable.wait(0.005) and command.poll() is None:
            pass
        assert watcher.playable.is_set(), f"{argv}\n{Path(log.name).read_text()[-3000:]}"
        starts: dict[PlayerName, float] = {}
        for name, visitor in visitors.items():
            opened = began if not starts else time.time()
            visitor.open(name, MASTER, numbered=numbered)
            first = visitor.wait(lambda r: r.first_frame_at_s is not None, 20)
            assert first.first_frame_at_s is not None, f"{name} shows nothing: {first.errors}"
            starts[name] = first.first_frame_at_s - opened
        if speed != 1:
            for visitor in visitors.values():
                # A player reloads once in a target duration and knows but the beginning till then.
                visitor.wait(lambda r: r.time > SETTLED_S, 120)
                visitor.resume(speed)
        near_end_s = duration_s - 6
        playing: dict[PlayerName, Report] = {}
        for name, visitor in visitors.items():
            playing[name] = visitor.wait(lambda r: r.time >= min(play_s, near_end_s), 4 * play_s)
        for visitor in visitors.values():
            visitor.pause()

        returncode = command.wait(3600 if LONG else 240)
        ended: dict[PlayerName, Report] = {}
        for name in finishing:
            visitor = visitors[name]
            if playing[name].time < near_end_s:
                # The player learns of the end when it next reloads its playlist.
                visitor.wait(lambda r: r.seekable[-1][1] > near_end_s, 20)
                visitor.seek(near_end_s)
            visitor.resume()
            ended[name] = visitor.wait(lambda r: r.ended, 20)
        sessions = {n: Session(starts[n], playing[n], ended.get(n)) for n in players}
        newcomer = stack.enter_context(Player(browser, server))
        newcomer.open("hlsjs", MASTER, numbered=numbered)
        afterwards = newcomer.wait(lambda r: r.time > 2, 20)
        log.seek(0)
        return Published(
            returncode,
            log.read(),
            watcher,
            watcher.versions[MASTER][0].at_s - began,
            sessions,
            afterwards,
            tuple(sorted(newcomer.rungs, reverse=True)),
            tuple(server.missing()),
            speed,
        )


def compliant(
    folder: Path, ffmpeg: str, *, loops: int, size: tuple[int, int], video: Sequence[str]
) -> Path:
    """An H.264 + AAC film of *loops* × 24 s, made without encoding the picture more than once."""
    clip, sound, film = folder / "clip.mp4", folder / "sound.m4a", folder / "film.mp4"
    framecode.make(
        clip, ffmpeg=ffmpeg, rate=RATE, seconds=LOOP_S, size=size, video=video, audio=None
    )
    tone = f"aevalsrc='0.05*sin(2*PI*300*t)':s=48000:d={loops * LOOP_S}"
    quiet = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    make_sound = [*quiet, "-f", "lavfi", "-i", tone, "-ac", "2", "-c:a", "aac", str(sound)]
    subprocess.run(make_sound, check=True)
    looped = [*quiet, "-stream_loop", str(loops - 1), "-i", str(clip), "-i", str(sound)]
    subprocess.run([*looped, "-map", "0:v", "-map", "1:a", "-c", "copy", str(film)], check=True)
    return film


def tell(record: Record, film: str, run: Published) -> None:
    """The figures of a run, for the table at the end (see conftest.py)."""
    player, first = next(iter(run.sessions.items()))
    record(FIRST_PLAY, f"| {film} | {player} | {run.playable_s:.2f} s | {first.start_s:.2f} s |")


def judge(
    run: Published,
    *,
    start_s: float,
    rungs: tuple[int, ...],
    loop: int = LOOP_FRAMES,
    may_wait: bool = False,
) -> None:
    """What holds for every run, whatever the source.

    With *may_wait* a session may catch up with an encoder that is slower than the film.
    """
    assert run.returncode == 0, run.log[-3000:]
    assert run.watcher.problems == []
    assert run.missing == ()
    first = next(iter(run.sessions.values()))
    assert first.start_s <= start_s
    for name, session in run.sessions.items():
        assert session.playing.frames[0].time < 2 / RATE, f"{name} did not start at the beginning"
        if not may_wait:
            assert session.playing.dry() == [], name
        for report in filter(None, (session.playing, session.ended)):
            assert report.errors == (), name
            assert report.misplaced(RATE, loop, run.speed) == [], name
        if session.ended is not None:
            assert session.ended.ended, name
            assert abs(session.ended.time - session.ended.duration) <= 1 / RATE, name
    master = run.watcher.versions[MASTER]
    begun = {uri for uri in listed(master[0].playlist) if uri.endswith(GROWING)}
    assert begun, "the first multivariant playlist was already the finished one"
    assert not any(uri.endswith(GROWING) for uri in listed(master[-1].playlist))
    assert run.afterwards.errors == ()
    assert run.rungs_afterwards == rungs


def test_ten_minutes_of_a_compliant_source(
    tmp_path: Path, browser: Browser, ffmpeg: str, record_property: Record
) -> None:
    film = compliant(
        tmp_path,
        ffmpeg,
        loops=25,
        size=(640, 360),
        video=("-c:v", "libx264", "-preset", "veryfast", "-crf", "24", "-g", "48"),
    )
    run = publish(
        film,
        tmp_path / "out",
        ("--rung", "360", "--rung", "240", "--top", "copy"),
        browser,
        players=("hlsjs", "shaka"),
        # Shaka Player keeps the duration that it saw first, so a page cannot seek past it.
        finishing=("hlsjs",),
        duration_s=25 * LOOP_S,
        play_s=20,
    )
    tell(record_property, "10 minutes, copied", run)
    judge(run, start_s=COMPLIANT_START_S, rungs=(360, 240))


def test_a_source_that_must_be_encoded(
    tmp_path: Path, browser: Browser, ffmpeg: str, record_property: Record
) -> None:
    film = tmp_path / "film.mp4"
    framecode.make(
        film,
        ffmpeg=ffmpeg,
        rate=RATE,
        seconds=LOOP_S,
        size=(1920, 1080),
        # Ten bits a sample: H.264, yet nothing that a browser plays, so it cannot be copied.
        video=("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"),
    )
    run = publish(
        film,
        tmp_path / "out",
        (),
        browser,
        players=("hlsjs", "shaka"),
        finishing=("hlsjs", "shaka"),
        duration_s=LOOP_S,
        play_s=LOOP_S,
    )
    tell(record_property, "24 s of 1080p, encoded", run)
    judge(run, start_s=ENCODED_START_S, rungs=(1080, 720, 480, 360, 240), may_wait=True)


@pytest.mark.skipif(not LONG, reason="not run: the long form, `make test-publish`")
@pytest.mark.parametrize("player", ["hlsjs", "shaka"])
def test_four_gigabytes_to_the_end(
    tmp_path: Path,
    browser: Browser,
    ffmpeg: str,
    player: PlayerName,
    record_property: Record,
) -> None:
    # Constant bit rate with filler: 10 Mb/s of 1080p that costs next to nothing to make.
    rate = "10M"
    film = compliant(
        tmp_path,
        ffmpeg,
        loops=150,
        size=(1920, 1080),
        video=(
            *("-c:v", "libx264", "-preset", "ultrafast", "-g", "48", "-x264-params", "nal-hrd=cbr"),
            *("-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate),
        ),
    )
    assert film.stat().st_size >= 4 << 30
    duration_s = 150 * LOOP_S
    run = publish(
        film,
        tmp_path / "out",
        ("--rung", "1080", "--rung", "240", "--top", "copy"),
        browser,
        players=(player,),
        finishing=(player,),
        duration_s=duration_s,
        play_s=duration_s,
        speed=4,
    )
    tell(record_property, "1 hour, 4.5 GB, copied", run)
    judge(run, start_s=COMPLIANT_START_S, rungs=(1080, 240))
    film.unlink()
