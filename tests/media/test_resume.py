"""Killed at any moment and started again, `transcode` ends with the bytes of an undisturbed run.

`make test` kills at 2 moments, `make test-thorough` at 2 more, `make test-resume` at 20
(`TELECINE_LONG=1`), by turns in three ladders. A moment is drawn by a seed from its own slice of
the undisturbed run's length, so that together they reach from the start of the program to its end.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import make
from tests.processes import family, left_of
from tests.thorough import thorough_but
from tests.waiting import until

TELECINE = str(Path(sys.executable).with_name("telecine"))
MOMENTS = 20 if os.environ.get("TELECINE_LONG") == "1" else 4
SEED = 20_261_121
FILES = ("--output", "hls", "--output", "mp4:240p", "--output", "mp3", "--output", "poster")
X264 = ("-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-g", "72")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    name: str
    options: tuple[str, ...]
    recipe: dict[str, Any]
    ending: str = "mp4"


CASES = (
    # Snow drives the encoder to its ceiling, where x264's rate control shows whether it depends on
    # how its threads happen to be scheduled; below the ceiling it never does.
    Case(
        "encoded-at-the-ceiling",
        ("--top", "encode", "--rung", "240", "--rung", "144"),
        {"size": (320, 240), "noise": 25, "video": (*X264, "-crf", "26")},
    ),
    Case("copied-top", ("--top", "copy"), {"size": (480, 360), "video": (*X264, "-crf", "24")}),
    # Later chunks read a copy of the source that one of them makes first.
    Case("working-copy", ("--top", "encode"), {"size": (320, 240), "video": X264}, "ts"),
)


@dataclass(frozen=True, slots=True)
class Undisturbed:
    source: Path
    options: tuple[str, ...]
    seconds: float  # how long the run took
    digests: dict[str, str]

    def argv(self, folder: Path) -> list[str]:
        common = ["--jobs", "2", "--json", *FILES, *self.options]
        return [TELECINE, "transcode", str(self.source), "-o", str(folder), *common]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Callable[[Case], Undisturbed]:
    @functools.cache
    def run_once(case: Case) -> Undisturbed:
        folder = tmp_path_factory.mktemp("resume")
        recipe = {"rate": Fraction(24), "seconds": 33, **case.recipe}
        source = make(folder / f"source.{case.ending}", ffmpeg=ffmpeg, **recipe).path
        run = Undisturbed(source, case.options, 0.0, {})
        begin = time.monotonic()
        done = transcode(run, folder / "out")
        seconds = time.monotonic() - begin
        assert done.returncode == 0, done.stderr[-2000:]
        return replace(run, seconds=seconds, digests=digests(folder / "out"))

    return run_once


@pytest.fixture(
    params=thorough_but(CASES[:2], "encoded-at-the-ceiling"), ids=lambda case: case.name
)
def undisturbed(request: pytest.FixtureRequest, runs: Callable[[Case], Undisturbed]) -> Undisturbed:
    return runs(request.param)


def transcode(run: Undisturbed, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(run.argv(folder), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("undisturbed", "moment"),
    [
        pytest.param(
            CASES[moment % len(CASES)], moment, marks=() if moment < 2 else pytest.mark.thorough
        )
        for moment in range(MOMENTS)
    ],
    indirect=["undisturbed"],
    ids=lambda value: value.name if isinstance(value, Case) else f"moment-{value}",
)
def test_killed_and_started_again_gives_the_same_bytes(
    undisturbed: Undisturbed, moment: int, tmp_path: Path
) -> None:
    """Every third moment kills the second run as well."""
    out = tmp_path / "out"
    dice = random.Random(f"{SEED} {moment}")
    kept: dict[str, tuple[int, int]] = {}
    shown: dict[str, list[str]] = {}
    for again in range(2 if moment % 3 == 2 else 1):
        delay = undisturbed.seconds * (moment + dice.random()) / MOMENTS
        with subprocess.Popen(
            undisturbed.argv(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            time.sleep(delay / (1 + again))
            children = family(run.pid)
            run.kill()
        assert_gone(children, undisturbed.source, within_s=2)
        check_kept(out, kept, shown)
        kept, shown = finished(out), growing(out)

    last = transcode(undisturbed, out)
    assert last.returncode == 0, f"killed after {delay:.2f} s: {last.stderr[-2000:]}"
    assert digests(out) == undisturbed.digests, f"killed after {delay:.2f} s"
    check_kept(out, kept, shown)
    assert_gone({}, undisturbed.source, within_s=0)


def test_ctrl_c_stops_within_a_second_and_leaves_nothing_half_written(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        undisturbed.argv(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        children = wait_for_work(out, run)
        begin = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=10)
        took = time.monotonic() - begin
    assert run.returncode == 130, said[-2000:]
    assert took <= 1, f"took {took:.2f} s"
    assert "Traceback" not in said
    assert_gone(children, undisturbed.source, within_s=0)

    assert "interrupted" in json.dumps(json.loads((out / "report.json").read_text()))
    assert_nothing_half_written(out)

    again = transcode(undisturbed, out)
    assert again.returncode == 0, again.stderr[-2000:]
    assert digests(out) == undisturbed.digests


@pytest.mark.parametrize("undisturbed", CASES[:1], indirect=True, ids=lambda case: case.name)
@pytest.mark.parametrize("moment", range(MOMENTS // 2))
def test_ctrl_c_at_any_moment(undisturbed: Undisturbed, moment: int, tmp_path: Path) -> None:
    """From when the command says that it has started to after the last chunk: nothing half-written,
    no child, and the exit code says whether it was interrupted or already done."""
    out, events = tmp_path / "out", tmp_path / "events"
    part = (moment + random.Random(f"{SEED} {moment}").random()) / (MOMENTS // 2)
    begin = time.monotonic()
    with (
        events.open("wb") as told,
        subprocess.Popen(
            undisturbed.argv(out), stdout=told, stderr=subprocess.PIPE, text=True
        ) as run,
    ):
        until(lambda: events.stat().st_size)
        time.sleep(max(0, part * (undisturbed.seconds - (time.monotonic() - begin))))
        children = family(run.pid)
        run.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, said = run.communicate(timeout=10)
        took = time.monotonic() - begin
    assert run.returncode in (130, 0), said[-2000:]
    assert run.returncode == 130 or digests(out) == undisturbed.digests
    assert took <= 1, f"took {took:.2f} s"
    assert "Traceback" not in said
    assert_gone(children, undisturbed.source, within_s=0)
    assert_nothing_half_written(out)


@pytest.mark.parametrize("undisturbed", CASES[1:2], indirect=True, ids=lambda case: case.name)
def test_a_finished_folder_is_left_as_it_is(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The same arguments once more: every step is found done, no file is written again."""
    out, marks = tmp_path / "out", []
    for _ in range(2):
        done = transcode(undisturbed, out)
        assert done.returncode == 0, done.stderr[-2000:]
        marks.append(finished(out))
    assert marks[0] == marks[1]


# --- what is on disk ---------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """Every file that is the product: not the report (timings), nor the notes of the work."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.json" and ".telecine" not in path.parts
    }


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """(inode, time of change) of each finished step's result and of the segments it names."""
    files = list((folder / ".telecine" / "steps").glob("*.json"))
    for result in list(files):
        for made in json.loads(result.read_text())["made"]:
            (home,) = [f for f in folder.rglob(made["rendition"]) if (f / "init.mp4").exists()]
            files += [home / f"{segment['number']:05d}.m4s" for segment in made["segments"]]
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in files
    }


def growing(folder: Path) -> dict[str, list[str]]:
    """What each growing playlist lists."""
    return {
        str(path): [line for line in path.read_text().splitlines() if line.endswith(".m4s")]
        for path in folder.rglob("growing.m3u8")
    }


def check_kept(folder: Path, kept: dict[str, tuple[int, int]], shown: dict[str, list[str]]) -> None:
    """Finished work was not made again, and no growing playlist lost what it had shown."""
    now = finished(folder)
    assert not [name for name, mark in kept.items() if now.get(name) != mark], "made again"
    listed = growing(folder)
    for name, segments in shown.items():
        assert listed[name][: len(segments)] == segments, name


def wait_for_work(folder: Path, run: subprocess.Popen[str]) -> dict[int, int]:
    """Until a chunk is done and the next is being made: the processes that make it."""
    results = folder / ".telecine" / "steps"

    def at_work() -> dict[int, int]:
        assert run.poll() is None, "ended before a chunk was done"
        members = family(run.pid)
        return members if len(members) > 1 and list(results.glob("encode-*.json")) else {}

    return until(at_work, 30)


def assert_nothing_half_written(folder: Path) -> None:
    for playlist in folder.rglob("*.m3u8"):
        text = playlist.read_text()
        assert text.startswith("#EXTM3U\n"), playlist
        assert text.endswith("\n"), playlist
        named = [line for line in text.splitlines() if line and not line.startswith("#")]
        for uri in named:
            assert (playlist.parent / uri).stat().st_size > 0, f"{playlist}: {uri}"
    for segment in [*folder.rglob("*.m4s"), *folder.rglob("*.mp4")]:
        assert boxes_are_whole(segment.read_bytes()), segment
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {".m4s", ".mp4", ".m3u8", ".mpd", ".json", ".jpg", ".mp3"}
    product = [path for path in files if ".telecine" not in path.parts]
    assert not [path for path in product if path.suffix not in kinds]
    assert not [path for path in folder.rglob("*") if "tmp" in path.name], "temporary names left"
    for notes in [path for path in files if path.suffix == ".json"]:
        json.loads(notes.read_text())


def boxes_are_whole(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += size if size >= 8 else len(data) + 1
    return at == len(data) > 0


# --- which processes live ----------------------------------------------------------------------


def assert_gone(children: dict[int, int], source: Path, *, within_s: float) -> None:
    """None of these processes lives, nor any that names the source among its arguments."""
    deadline = time.monotonic() + within_s
    while True:
        alive = left_of(children)
        naming = [entry for entry in Path("/proc").iterdir() if names(entry, source)]
        if not alive and not naming:
            return
        if time.monotonic() >= deadline:
            pytest.fail(f"still alive: {alive} {naming}")
        time.sleep(0.02)


def names(entry: Path, source: Path) -> bool:
    try:
        return str(source).encode() in (entry / "cmdline").read_bytes()
    except OSError:
        return False
