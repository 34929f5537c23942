"""How a running transcode is shown: live on a terminal, as lines of JSON, or hardly at all.

Each way hears the engine's events (`engine/events.py`) from whatever thread they come, one at a
time. rich is imported only for the live one.
"""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from telecine.engine.events import JSON, Event
from telecine.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from telecine.engine.process import Cancel
    from telecine.engine.report import FileReport, Report

REFRESH_PER_S = 8
_BAR_CELLS = 30


class Show(Protocol):
    """A way of showing one run. `broken` says why nobody can be told any more."""

    broken: str | None

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def hear(self, event: Event) -> None: ...

    def summary(self, report: Report, folder: Path) -> None: ...


def choose(*, json: bool, cancel: Cancel, before: tuple[str, ...] = ()) -> Show:
    """The way that suits the request and the terminal. `before`: warnings that came before the
    engine's first event, where nobody has said them yet."""
    if json:
        return EventLines(cancel, before)
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        if not console.is_dumb_terminal:  # one that cannot move its cursor
            return LiveDisplay(console)
    return Quiet()


# --- lines of JSON ----------------------------------------------------------------------------


class EventLines:
    """One event a line on standard output, at once and whole.

    When the reader has gone, or stops reading while `cancel` is set, nothing more is written; a
    reader that has gone sets `cancel`, as SIGPIPE would.
    """

    def __init__(self, cancel: Cancel | None = None, before: tuple[str, ...] = ()) -> None:
        self.broken: str | None = None
        self._fd = sys.stdout.fileno()
        self._cancel = cancel
        self._before = before

    def __enter__(self) -> EventLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hear(self, event: Event) -> None:
        self._write(event)
        if event.name == "started":
            for message in self._before:
                self._write(Event("warning", {"message": message}))

    def summary(self, report: Report, folder: Path) -> None:
        """`done` has said it."""

    def _write(self, event: Event) -> None:
        # A byte of a file name that is not UTF-8 becomes \udcxx: an escape that JSON has, too.
        data = (event.line() + "\n").encode("utf-8", "backslashreplace")
        while data and self.broken is None and self._ready():
            try:
                # A pipe that is ready takes this much without blocking.
                data = data[os.write(self._fd, data[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                self._stop("nobody reads the events any more")
            except OSError as error:
                self._stop(f"cannot write to standard output: {error.strerror}")

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if self._cancel is not None:
            poll.register(self._cancel, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self._fd in ready:
            return True
        self.broken = "nobody reads the events"
        return False

    def _stop(self, why: str) -> None:
        self.broken = why
        if self._cancel is not None:
            self._cancel.set()


# --- without a terminal -------------------------------------------------------------------------


class Quiet:
    """Warnings on standard error, and one line when all is done."""

    broken: str | None = None

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hear(self, event: Event) -> None:
        if event.name == "warning":
            text = printable(str(event.data["message"]))
            print(f"telecine: warning: {text}", file=sys.stderr, flush=True)

    def summary(self, report: Report, folder: Path) -> None:
        print(summary_line(report, folder))


def summary_line(report: Report, folder: Path) -> str:
    """What was made, where, and how long it took, in one line."""
    rungs = [rung for rung in report.rungs if rung.segments]
    names = [rung.name for rung in rungs] + [file.path for file in _named(report)]
    main = report.playlist or (report.files[0].path if report.files else "")
    size = sum(rung.size_bytes for rung in rungs) + sum(file.size_bytes for file in report.files)
    play = report.time_to_first_play_s
    played = f", playable after {play:.1f} s" if play is not None else ""
    return printable(
        f"{folder / main}: {', '.join(names)}; {clock(report.duration_s)} of media, "
        f"{megabytes(size)}, made in {clock(report.total_s)}{played}"
    )


def _named(report: Report) -> list[FileReport]:
    """The files that are named: the pictures of a folder are named by its index."""
    return [file for file in report.files if "/" not in file.path]


# --- live -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RungLine:
    name: str
    size: str
    mode: str
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What the live display shows, as far as it is known."""

    source: str = ""
    summary: tuple[str, ...] = ()
    stage: str = "starting"
    fraction: float = 0.0
    speed: float | None = None
    eta_s: float | None = None
    rungs: tuple[RungLine, ...] = ()
    playable: str | None = None
    reused: int = 0
    steps: int = 0
    warnings: tuple[str, ...] = ()


_STAGES = {
    "encode": "encoding",
    "video-copy": "copying",
    "audio": "sound",
    "poster": "poster",
    "mp4": "joining",
    "storyboard": "pictures",
    "thumbnails": "pictures",
    "preview": "preview",
    "waveform": "waveform",
    "chapters": "chapters",
}


def advance(state: State, event: Event) -> State:
    """Pure: the state after an event."""
    data = event.data
    match event.name:
        case "started":
            return replace(state, source=str(data["source"]), stage="probing")
        case "probed":
            return replace(state, summary=tuple(map(str, _list(data["summary"]))), stage="planning")
        case "planned":
            return replace(
                state,
                rungs=tuple(_rung_line(rung) for rung in _list(data["rungs"])),
                steps=len(_list(data["steps"])),
                stage="opening",
            )
        case "step" if data["state"] == "reused":
            return replace(state, reused=state.reused + 1)
        case "playable":
            said = f"playable after {_number(data['after_s']) or 0:.1f} s: {data['playlist']}"
            return replace(state, playable=said)
        case "progress":
            return _progressed(state, data)
        case "warning":
            return replace(state, warnings=(*state.warnings, str(data["message"])))
        case "verified":
            return replace(state, stage="verified", fraction=1.0, eta_s=0.0)
        case _:
            return state


def _rung_line(rung: JSON) -> RungLine:
    assert isinstance(rung, dict)
    size = f"{rung['width']}×{rung['height']}"
    return RungLine(str(rung["name"]), size, str(rung["mode"]))


def _progressed(state: State, data: dict[str, JSON]) -> State:
    done = data["rungs"]
    assert isinstance(done, dict)
    fractions = {name: _number(value) or 0.0 for name, value in done.items()}
    known = {rung.name for rung in state.rungs}
    more = tuple(RungLine(name, "", "") for name in fractions if name not in known)
    stage = str(data["stage"])
    return replace(
        state,
        stage=_STAGES.get(stage, stage),
        fraction=_number(data["fraction"]) or 0.0,
        speed=_number(data["speed"]),
        eta_s=_number(data["eta_s"]),
        rungs=tuple(
            replace(rung, fraction=fractions.get(rung.name, rung.fraction))
            for rung in (*state.rungs, *more)
        ),
    )


def _list(value: JSON) -> list[JSON]:
    assert isinstance(value, list)
    return value


def _number(value: JSON) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def render(state: State, elapsed_s: float) -> RenderableType:
    """Pure: the state as a picture for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(printable(text), style, no_wrap=True, overflow="ellipsis")

    head = Table.grid(padding=(0, 1))
    head.add_row(
        line(state.stage.ljust(9), "bold"),
        ProgressBar(1.0, state.fraction, width=_BAR_CELLS),
        line(f"{state.fraction:4.0%}", "bold"),
        line("" if state.speed is None else f"{state.speed:.1f}×"),
        line(f"{clock(elapsed_s)}, left {'?' if state.eta_s is None else clock(state.eta_s)}"),
    )
    rungs = Table.grid(padding=(0, 1))
    for rung in state.rungs:
        rungs.add_row(
            line(f"  {rung.name:<7}", "cyan"),
            ProgressBar(1.0, rung.fraction, width=_BAR_CELLS),
            line(f"{rung.fraction:4.0%}"),
            line(rung.size),
            line(rung.mode, "dim"),
        )
    parts: list[RenderableType] = [
        line(f"{state.source}: {'; '.join(state.summary)}" if state.summary else state.source),
        head,
        rungs,
    ]
    if state.reused:
        parts.append(line(f"  {state.reused} of {state.steps} steps done before", "dim"))
    if state.playable is not None:
        parts.append(Text(printable(f"  {state.playable}"), "green", overflow="fold"))
    return Group(*parts)


class LiveDisplay:
    """Drawn on standard error while the run lasts, then wiped; the summary stays."""

    broken: str | None = None

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = State()
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> LiveDisplay:
        from rich.live import Live

        self._live = Live(
            console=self._console,
            # Frozen and replaced whole: the drawing thread reads it without a lock.
            get_renderable=lambda: render(self._state, time.monotonic() - self._started),
            refresh_per_second=REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._live is not None
        self._live.stop()
        if error[0] is not None:  # no summary will tell them
            for message in self._state.warnings:
                self._console.print(f"telecine: warning: {printable(message)}", markup=False)

    def hear(self, event: Event) -> None:
        self._state = advance(self._state, event)

    def summary(self, report: Report, folder: Path) -> None:
        from rich.console import Console

        print_summary(Console(highlight=False), report, folder)


def print_summary(console: Console, report: Report, folder: Path) -> None:
    """The rungs as they came out, files, warnings, and what to open."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("rung", "size", "made by", "mean", "peak", "bytes"):
        right = title in ("mean", "peak", "bytes")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for rung in report.rungs:
        if rung.segments:
            size = f"{rung.width}×{rung.height}" if rung.width else "sound"
            rates = (kilobits(rung.average_bps), kilobits(rung.peak_bps))
            table.add_row(rung.name, size, rung.mode, *rates, megabytes(rung.size_bytes))
    if table.row_count:
        console.print(table)
    for file in _named(report):
        console.print(Text(printable(f"{folder / file.path}  {megabytes(file.size_bytes)}")))
    for message in report.warnings:
        console.print(Text(printable(f"warning: {message}"), "yellow"))
    console.print(Text(summary_line(report, folder)), soft_wrap=True)


# --- figures ----------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    """Under a minute `8.3 s`, then `2:05`, then `1:02:05`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def kilobits(rate_bps: int) -> str:
    return f"{rate_bps / 1000:.0f} kb/s"
