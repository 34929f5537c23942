"""Drives the page that plays: opens a player in Chromium and reads what a viewer would have seen.

Playwright (as a Python package) drives the system's own Chromium; it downloads no browser.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Error, Response, Route, sync_playwright
from tests.e2e.server import MediaServer
from tests.media import framecode

PlayerName = Literal["hlsjs", "shaka", "dashjs"]
Seen = TypeVar("Seen")
RECORDER = Path(__file__).with_name("page.js")
PITCH_STEP_HZ = 48_000 / 8192  # of the spectrum that the page takes
IN_STORE_S = 0.2  # players wait for more when they have less than a few frames

FLAGS = (
    "--no-sandbox",  # Chromium refuses to start its own sandbox as root; the media is ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


# All by which players learn what a browser can play.
_WITHOUT = """
{
  const known = MediaSource.isTypeSupported.bind(MediaSource);
  MediaSource.isTypeSupported = (type) => !type.includes("CODEC") && known(type);
  const can = HTMLMediaElement.prototype.canPlayType;
  HTMLMediaElement.prototype.canPlayType = function (type) {
    return type.includes("CODEC") ? "" : can.call(this, type);
  };
  const able = navigator.mediaCapabilities.decodingInfo.bind(navigator.mediaCapabilities);
  navigator.mediaCapabilities.decodingInfo = (asked) => JSON.stringify(asked).includes("CODEC")
    ? Promise.resolve({ supported: false, smooth: false, powerEfficient: false })
    : able(asked);
}
"""


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A headless Chromium with an empty profile, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=list(FLAGS)
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True, slots=True)
class Event:
    """One media element event; *ahead* is how many seconds of media lay in store just then."""

    type: str
    at_ms: float
    time: float
    seeking: bool
    ahead: float
    height: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One shown frame: its media time in seconds and the number read from its picture.

    *number* is None where the clip draws none or where it could not be read.
    """

    at_ms: float
    time: float
    height: int
    number: int | None


@dataclass(frozen=True, slots=True)
class Hovered:
    """A small picture above the bar: the number read from it, and the times that it stands for."""

    number: int | None
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the page recorded up to now."""

    errors: tuple[str, ...]
    events: tuple[Event, ...]
    frames: tuple[Frame, ...]
    switches: tuple[tuple[float, int], ...]  # media time, height: what the player says it did
    clicks: tuple[float, ...]  # media times at which one was heard
    first_frame_at_s: float | None  # the wall clock, as time.time()
    ended: bool
    paused: bool
    time: float
    duration: float
    width: int
    height: int
    dropped: int
    total: int
    buffered: tuple[tuple[float, float], ...]
    seekable: tuple[tuple[float, float], ...]

    def stalls(self) -> list[Event]:
        """The moments after play began at which the player ran dry, seeks left out.

        A ``waiting`` that a seek caused is part of the seek: it ends with ``playing``.
        """
        stalls: list[Event] = []
        playing = False
        for event in self.events:
            if event.type == "playing":
                playing = True
            elif event.type == "seeking":
                playing = False
            elif event.type == "waiting" and playing and not event.seeking:
                stalls.append(event)
        return stalls

    def dry(self) -> list[Event]:
        """The stalls for want of media: there was none in store to play."""
        return [event for event in self.stalls() if event.ahead < IN_STORE_S]

    def starved(self) -> bool:
        """Did the machine fail to decode in time what was there? Then it was busy elsewhere."""
        return len(self.stalls()) > len(self.dry()) or self.dropped * 100 > self.total

    def misplaced(self, rate: Fraction, loop: int = 1 << 16, speed: float = 1.0) -> list[Frame]:
        """The shown frames whose number is not ``time · rate`` (modulo *loop* frames).

        The callback that reads the picture may run after the next frames have replaced the one
        it tells about, so a number may be up to 3 ahead, and 3 · *speed* where the film was played
        faster: the same lateness by the clock. It can never be behind.
        """
        return [
            frame
            for frame in self.frames
            if frame.number is None
            or (frame.number - round(frame.time * float(rate))) % loop > 3 * speed
        ]

    def heights(self) -> list[int]:
        """The heights of the shown rungs, in order, repetitions left out."""
        shown = [f.height for f in self.frames]
        return [h for i, h in enumerate(shown) if i == 0 or h != shown[i - 1]]


def unstarved(watch: Callable[[], Seen], report_of: Callable[[Seen], Report]) -> Seen:
    """Watches up to three times, until the machine has kept pace with what was in store.

    A machine busy with other work drops frames of any file. A defect of the output shows each
    time, so it still fails.
    """
    seen = watch()
    for _attempt in range(2):
        if not report_of(seen).starved():
            break
        seen = watch()
    return seen


class Player:
    """One page of its own, with one player on it; closed by ``close`` or at the end of a with."""

    def __init__(self, browser: Browser, server: MediaServer, *, without: str = "") -> None:
        """`without` is the beginning of codec strings that this browser shall not know."""
        self._page = browser.new_page()
        if without:
            self._page.add_init_script(_WITHOUT.replace("CODEC", without))
        self._server = server
        self.rungs: list[int] = []
        self.fetched: list[str] = []  # every URL that was asked for
        self._page.on("request", lambda request: self.fetched.append(request.url))
        self._page.goto(f"{server.address}/page.html")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._page.close()

    def prepare(self, player: PlayerName) -> None:
        """Loads the player's code ahead of time, as a page that waits for its video would."""
        self._page.evaluate("(player) => prepare(player)", player)

    def open(
        self,
        player: PlayerName,
        name: str,
        *,
        rate: float = 1.0,
        numbered: bool = True,
        listen: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Opens *name* below the server's folder and begins to play it.

        ``rungs`` holds the heights that the player then offers. With *listen* the clicks of the
        sound are noted; they tell the truth at normal speed only.
        """
        options = {"rate": rate, "numbered": numbered, "listen": listen, "config": config or {}}
        self.rungs = self._page.evaluate(
            "([player, url, options]) => openMedia(player, url, options)",
            [player, self._server.url(name), options],
        )

    def answer(self, urls: str, give: Callable[[Route], None]) -> None:
        """Answers requests whose URLs fit a glob, in the server's place."""
        self._page.route(urls, give)

    def watch(
        self, player: PlayerName, name: str, *, config: dict[str, Any], timeout_s: float
    ) -> Report:
        """Opens *name* and watches until it has ended or failed, or the time is up. A player that
        gives up before it could play has failed."""
        try:
            self.open(player, name, config=config)
        except Error:
            return self.report()
        return self.wait(lambda r: r.ended or r.errors != (), timeout_s)

    def last_number(self) -> int | None:
        """The number of the picture on the screen: scripts get none of what a key system shows."""
        shot = Image.open(io.BytesIO(self._page.locator("video").screenshot())).convert("L")
        size = (framecode.CANVAS_W, framecode.CANVAS_H)
        return framecode.read(shot.resize(size, Image.Resampling.BOX).tobytes())

    def select(self, height: int | None) -> None:
        """Forces the rung of this height; None gives the choice back to the player."""
        self._page.evaluate("(height) => select(height)", height)

    def pause(self) -> None:
        self._page.evaluate("() => pause()")

    def resume(self, rate: float = 1.0) -> None:
        self._page.evaluate("(rate) => resume(rate)", rate)

    def hover(self, index: str, seconds: float) -> Hovered:
        """The small picture that Shaka Player shows for a time; *index* is a WebVTT of pictures."""
        url = self._server.url(index)
        found = self._page.evaluate("([url, seconds]) => hover(url, seconds)", [url, seconds])
        return Hovered(**found)

    def seek(self, seconds: float) -> Frame:
        """Seeks the paused video and returns the frame that then stands there."""
        return Frame(**self._page.evaluate("(seconds) => seek(seconds)", seconds))

    def choose_text(self, language: str) -> list[str]:
        """Shows the subtitles of this language; what the player calls all that it has."""
        return list(self._page.evaluate("(language) => chooseText(language)", language))

    def texts(self, count: int, timeout_s: float = 5) -> list[str]:
        """What stands on the picture: once there are so many, or what there is when the time is
        up. A moment passes first, in which what is wrong could show."""
        self._page.wait_for_timeout(200)
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._page.evaluate("() => texts()")
            if len(found) == count or time.monotonic() > deadline:
                return list(found)
            self._page.wait_for_timeout(50)

    def choose_sound(self, language: str) -> list[str]:
        """Plays the sound of this language; what the player calls all that it has."""
        return list(self._page.evaluate("(language) => chooseSound(language)", language))

    def pitch(self, hz: float, timeout_s: float = 10) -> float:
        """The loudest tone that is heard: once it is this one, or what it is when the time is
        up."""
        deadline = time.monotonic() + timeout_s
        while True:
            heard = float(self._page.evaluate("() => pitch()"))
            if abs(heard - hz) < PITCH_STEP_HZ or time.monotonic() > deadline:
                return heard
            self._page.wait_for_timeout(100)

    def report(self) -> Report:
        raw = self._page.evaluate("() => report()")
        return Report(
            errors=tuple(f"{e['source']} at {e['time']:.2f}: {e['text']}" for e in raw["errors"]),
            events=tuple(Event(**e) for e in raw["events"]),
            frames=tuple(Frame(**f) for f in raw["frames"]),
            switches=tuple((s["time"], s["height"]) for s in raw["switches"]),
            clicks=tuple(raw["clicks"]),
            first_frame_at_s=raw["first_frame_at"] and raw["first_frame_at"] / 1000,
            ended=raw["ended"],
            paused=raw["paused"],
            time=raw["time"],
            duration=raw["duration"],
            width=raw["width"],
            height=raw["height"],
            dropped=raw["dropped"],
            total=raw["total"],
            buffered=tuple((a, b) for a, b in raw["buffered"]),
            seekable=tuple((a, b) for a, b in raw["seekable"]),
        )

    def wait(self, until: Callable[[Report], bool], timeout_s: float) -> Report:
        """The first report that satisfies *until*, or the last one when the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            report = self.report()
            if until(report) or time.monotonic() > deadline:
                return report
            self._page.wait_for_timeout(100)


class Viewer(Player):
    """A page that shows an embedded player, recorded by the script that records players here.

    The page's policy lets no script in; the recorder comes as what a debugger types.
    """

    def __init__(self, browser: Browser, url: str | None = None) -> None:
        """Without `url` a blank page, for `visit`."""
        self._page = browser.new_page(viewport={"width": 1280, "height": 720})
        self.rungs = []
        self.answers: list[tuple[str, int]] = []
        self.complaints: list[str] = []
        self._page.on("response", self._note)
        self._page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._page.on(
            "console",
            lambda said: (
                self.complaints.append(f"{said.text} {said.location['url']}")
                if said.type == "error"
                else None
            ),
        )
        if url is not None:
            self.visit(url)

    def visit(self, url: str) -> None:
        self._page.goto(url)
        debugger = self._page.context.new_cdp_session(self._page)
        debugger.send("Runtime.evaluate", {"expression": RECORDER.read_text()})
        debugger.send("Runtime.evaluate", {"expression": "numbered = true; watchFrames()"})

    def _note(self, response: Response) -> None:
        self.answers.append((urlsplit(response.url).path, response.status))

    def refused(self) -> list[tuple[str, int]]:
        """What was answered by an error."""
        return [each for each in self.answers if each[1] >= 400]

    def asked(self, ending: str) -> int:
        return sum(path.endswith(ending) for path, _ in self.answers)

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)

    def message(self) -> str:
        return self._page.inner_text("#message")

    def until(self, condition: str, timeout_s: float) -> Any:
        """Wait for a condition in the page, without `eval`, which its policy forbids."""
        deadline = time.monotonic() + timeout_s
        while not (found := self._page.evaluate(condition)):
            assert time.monotonic() < deadline, f"{condition}: {self.message()!r} {self.complaints}"
            self._page.wait_for_timeout(50)
        return found
