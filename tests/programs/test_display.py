"""What is shown of a run: live, as lines of JSON, and without a terminal."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from telecine.display import (
    EventLines,
    LiveDisplay,
    Quiet,
    State,
    advance,
    choose,
    clock,
    kilobits,
    megabytes,
    print_summary,
    render,
    summary_line,
)
from telecine.engine.events import Event
from telecine.engine.process import Cancel
from telecine.engine.report import FileReport, Report, RungReport

STORY = (
    Event("started", {"version": "1", "ffmpeg": "9", "sandbox": "s", "source": "a.mov", "jobs": 2}),
    Event("probed", {"summary": ["mov, 30.00 s", "h264"], "duration_s": 30.0, "container": "mov"}),
    Event(
        "planned",
        {
            "plan_id": "f00",
            "duration_s": 30.0,
            "rungs": [
                {"name": "720p", "width": 1280, "height": 720, "mode": "copy", "reason": "r"},
                {"name": "360p", "width": 640, "height": 360, "mode": "encode", "reason": "r"},
            ],
            "dropped": [],
            "chunks": 2,
            "steps": ["video-copy", "encode-0000", "audio"],
        },
    ),
    Event("warning", {"message": "2 audio streams"}),
    Event("step", {"id": "video-copy", "state": "reused"}),
    Event("step", {"id": "audio", "state": "started"}),
    Event("playable", {"playlist": "out/master.m3u8", "after_s": 0.84}),
    Event(
        "progress",
        {
            "stage": "encode",
            "fraction": 0.42,
            "speed": 3.14,
            "eta_s": 75.0,
            "rungs": {"720p": 1.0, "360p": 0.25, "aac": 0.5},
        },
    ),
)


def told(*events: Event) -> State:
    state = State()
    for event in events:
        state = advance(state, event)
    return state


def drawn(state: State, elapsed_s: float = 12.0, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(render(state, elapsed_s))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_live_shows_stage_percent_speed_eta_rungs_and_when_it_plays() -> None:
    lines = drawn(told(*STORY)).splitlines()
    assert "a.mov: mov, 30.00 s; h264" in lines[0]
    for part in ("encoding", "42%", "3.1×", "12.0 s, left 1:15"):
        assert part in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["720p", "360p", "aac"]
    assert all(part in lines[2] for part in ("100%", "1280×720", "copy"))
    assert all(part in lines[3] for part in ("25%", "640×360", "encode"))
    assert "50%" in lines[4]
    assert "1 of 3 steps done before" in lines[5]
    assert "playable after 0.8 s: out/master.m3u8" in lines[6]


def test_live_goes_through_the_stages() -> None:
    stages = [told(*STORY[:n]).stage for n in range(4)]
    assert stages == ["starting", "probing", "planning", "opening"]
    done = told(*STORY, Event("verified", {"rules": 40, "broken": []}))
    assert (done.stage, done.fraction) == ("verified", 1.0)
    assert told(*STORY, Event("done", {})) == told(*STORY)


def test_live_shows_what_is_not_known_yet_as_such() -> None:
    assert "left ?" in drawn(State())
    early = Event(
        "progress", {"stage": "audio", "fraction": 0.0, "speed": None, "eta_s": None, "rungs": {}}
    )
    state = told(*STORY[:3], early)
    assert state.stage == "sound"
    assert state.eta_s is None
    assert state.speed is None
    assert [rung.fraction for rung in state.rungs] == [0.0, 0.0]


def test_live_fits_a_narrow_terminal_and_takes_no_orders_from_a_file() -> None:
    hostile = Event("started", {**STORY[0].data, "source": "\x1b]0;owned\x07[bold]" + "x" * 200})
    picture = drawn(told(hostile, *STORY[1:]), width=40)
    assert max(map(len, picture.splitlines())) <= 40
    assert "\x1b" not in picture
    assert "\\x1b]0;owned\\x07[bold]xx" in picture


def test_live_draws_on_a_terminal_and_wipes_itself() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    with LiveDisplay(console) as show:
        for event in STORY:
            show.hear(event)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "encoding" in text
    assert text.endswith("\x1b[2K")  # the last thing said clears a line
    assert "\x1b[?25h" in text  # and the cursor is there again
    assert "warning" not in text  # the summary tells it


def test_live_tells_the_warnings_of_a_run_that_fails() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    show = LiveDisplay(console)
    show.__enter__()
    show.hear(STORY[3])
    show.__exit__(RuntimeError, RuntimeError(), None)
    assert isinstance(console.file, io.StringIO)
    assert "telecine: warning: 2 audio streams" in console.file.getvalue()


# --- the summary --------------------------------------------------------------------------------

REPORT = Report(
    state="succeeded",
    plan_id="f00",
    version="1",
    ffmpeg="9",
    sandbox="s",
    source=(),
    duration_s=30.0,
    frame_rate=24.0,
    playlist="master.m3u8",
    rungs=(
        RungReport("720p", 1280, 720, "copy", "r", 5, 7_500_000, 2_900_000, 2_000_000),
        RungReport("240p", 426, 240, "encode", "r", 0, 0, 0, 0),  # made for a file alone
        RungReport("aac", 0, 0, "encode", "r", 5, 480_000, 130_000, 128_000),
    ),
    dropped=(),
    top_not_copied=(),
    files=(FileReport("poster.jpg", 42_000),),
    steps=(),
    probe_s=0.3,
    total_s=74.6,
    time_to_first_play_s=0.84,
    cpu_s=100.0,
    verified_rules=40,
    warnings=("2 audio streams",),
)


def test_the_summary_has_the_rungs_with_size_and_measured_bitrate() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_summary(console, REPORT, Path("out"))
    assert isinstance(console.file, io.StringIO)
    head, video, sound, poster, warning, last = console.file.getvalue().splitlines()
    assert head.split() == ["rung", "size", "made", "by", "mean", "peak", "bytes"]
    assert " ".join(video.split()) == "720p 1280×720 copy 2000 kb/s 2900 kb/s 7.5 MB"
    assert " ".join(sound.split()) == "aac sound encode 128 kb/s 130 kb/s 0.5 MB"
    assert poster == "out/poster.jpg  42.0 kB"
    assert warning == "warning: 2 audio streams"
    assert last == summary_line(REPORT, Path("out"))


def test_one_line_says_what_was_made_and_where() -> None:
    assert summary_line(REPORT, Path("out")) == (
        "out/master.m3u8: 720p, aac, poster.jpg; 30.0 s of media, 8.0 MB, made in 1:15, "
        "playable after 0.8 s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1:00"), (125, "2:05"), (3725.4, "1:02:05")],
)
def test_times_read_easily(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_sizes_and_rates_read_easily() -> None:
    assert (megabytes(99_999), megabytes(100_000)) == ("100.0 kB", "0.1 MB")
    assert kilobits(1_234_567) == "1235 kb/s"


# --- without a terminal --------------------------------------------------------------------------


def test_quiet_says_warnings_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Quiet() as show:
        for event in STORY:
            show.hear(event)
        show.summary(REPORT, Path("out"))
    said = capsys.readouterr()
    assert said.err == "telecine: warning: 2 audio streams\n"
    assert said.out == summary_line(REPORT, Path("out")) + "\n"


def test_which_way_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(choose(json=False, cancel=Cancel()), Quiet)
    monkeypatch.setattr("sys.stderr", Screen())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose(json=False, cancel=Cancel()), LiveDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose(json=False, cancel=Cancel()), Quiet)


# --- lines of JSON ------------------------------------------------------------------------------


@contextmanager
def piped() -> Iterator[int]:
    """Standard output is a pipe while the block runs; its reading end."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stdout, redirect_stdout(stdout):
        yield reader
    try:
        os.close(reader)
    except OSError:
        pass  # the test closed it


def test_json_is_an_event_a_line_and_unsandboxed_is_told_after_the_start() -> None:
    with piped() as reader:
        show = choose(json=True, cancel=Cancel(), before=("no sandbox",))
        with show:
            for event in STORY:
                show.hear(event)
            show.summary(REPORT, Path("out"))
        lines = os.read(reader, 100_000).decode().splitlines()
    said = [json.loads(line) for line in lines]
    assert [one["event"] for one in said] == ["started", "warning", *[e.name for e in STORY[1:]]]
    assert said[1] == {"event": "warning", "message": "no sandbox"}
    assert said[-1] == {"event": "progress", **STORY[-1].data}


def test_json_keeps_names_that_are_no_text() -> None:
    with piped() as reader:
        EventLines().hear(Event("started", {"source": "caf\udce9 – \x1b\n"}))
        line = os.read(reader, 1000)
    assert line.count(b"\n") == 1
    assert json.loads(line)["source"] == "caf\udce9 – \x1b\n"


def test_a_reader_that_goes_ends_the_run() -> None:
    cancel = Cancel()
    with piped() as reader:
        os.close(reader)
        show = EventLines(cancel)
        show.hear(STORY[0])
        assert cancel.is_set()
        show.hear(STORY[1])  # silently
    assert show.broken == "nobody reads the events any more"


def test_a_full_disk_ends_the_run() -> None:
    cancel = Cancel()
    with Path("/dev/full").open("w") as full, redirect_stdout(full):
        show = EventLines(cancel)
        show.hear(STORY[0])
    assert cancel.is_set()
    assert show.broken == "cannot write to standard output: No space left on device"


def test_a_reader_that_sleeps_cannot_keep_a_cancelled_run_alive() -> None:
    cancel = Cancel()
    big = Event("warning", {"message": "x" * 200_000})  # more than a pipe holds
    with piped():
        show = EventLines(cancel)
        thread = threading.Thread(target=show.hear, args=(big,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        cancel.set()
        thread.join(1)
        assert not thread.is_alive()
    assert show.broken == "nobody reads the events"
