"""Killed at any moment and started again, `transcode` ends with the bytes of an undisturbed run.

`make test` kills at 4 moments, `make test-resume` at 20 (`TELECINE_RESUME_MOMENTS`). A moment is
drawn by a seed from its own slice of the undisturbed run's length, so that together they reach
from the start of the program to its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media.framecode import make

TELECINE = str(Path(sys.executable).with_name("telecine"))
MOMENTS = int(os.environ.get("TELECINE_RESUME_MOMENTS", "4"))
SEED = 20_261_121
ENCODED = ("--top", "encode", "--rung", "360", "--rung", "240")
COPIED = ("--top", "copy", "--rung", "360", "--rung", "240")
FILES = ("--output", "hls", "--output", "mp4:240p", "--output", "mp3", "--output", "poster")


@dataclass(frozen=True, slots=True)
class Undisturbed:
    source: Path
    options: tuple[str, ...]
    seconds: float  # how long the run took
    digests: dict[str, str]

    def argv(self, folder: Path) -> list[str]:
        common = ["--jobs", "2", "--json", *FILES, *self.options]
        return [TELECINE, "transcode", str(self.source), "-o", str(folder), *common]


@pytest.fixture(scope="module", params=[ENCODED, COPIED], ids=["encoded", "copied-top"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("resume")
    video = ("-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-g", "72")
    source = make(folder / "s.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=50, video=video).path
    run = Undisturbed(source, request.param, 0.0, {})
    begin = time.monotonic()
    done = subprocess.run(run.argv(folder / "out"), capture_output=True, text=True, timeout=120)
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stderr[-2000:]
    return Undisturbed(source, request.param, seconds, digests(folder / "out"))


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_started_again_gives_the_same_bytes(
    undisturbed: Undisturbed, moment: int, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    dice = random.Random(f"{SEED} {moment} {undisturbed.options}")
    delay = undisturbed.seconds * (moment + dice.random()) / MOMENTS

    with subprocess.Popen(
        undisturbed.argv(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        time.sleep(delay)
        children = family(run.pid) - {identity(run.pid)}
        run.kill()
    assert_gone(children, undisturbed.source, within_s=2)
    whole = finished(out)

    again = subprocess.run(undisturbed.argv(out), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, f"killed after {delay:.2f} s: {again.stderr[-2000:]}"
    assert digests(out) == undisturbed.digests, f"killed after {delay:.2f} s"
    redone = [name for name, mark in whole.items() if finished(out).get(name) != mark]
    assert not redone, f"killed after {delay:.2f} s: done before and made again: {redone}"
    assert_gone(set(), undisturbed.source, within_s=0)


def test_ctrl_c_stops_within_a_second_and_leaves_nothing_half_written(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        undisturbed.argv(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        wait_for_chunk(out, run)
        children = family(run.pid) - {identity(run.pid)}
        assert children, "nothing ran that could be stopped"
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

    again = subprocess.run(undisturbed.argv(out), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr[-2000:]
    assert digests(out) == undisturbed.digests


def test_a_finished_folder_is_left_as_it_is(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The same arguments once more: every step is found done, no file is written again."""
    out, marks = tmp_path / "out", []
    for _ in range(2):
        done = subprocess.run(undisturbed.argv(out), capture_output=True, text=True, timeout=120)
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


def wait_for_chunk(folder: Path, run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not list((folder / ".telecine" / "steps").glob("encode-*.json")):
        assert run.poll() is None, "ended before a chunk was done"
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    allowed = {".m4s", ".mp4", ".m3u8", ".mpd", ".json", ".jpg", ".mp3"}
    other = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in allowed]
    assert not other, f"left over: {other}"
    assert not list(folder.rglob(".*.*")), "a temporary name is left"


def boxes_are_whole(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += size if size >= 8 else len(data) + 1
    return at == len(data) > 0


# --- which processes live ----------------------------------------------------------------------


def processes() -> Iterator[tuple[int, int, int]]:
    """(pid, parent's pid, start time) of every process that is not a zombie."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            if stat[0] not in ("Z", "X"):
                yield int(entry.name), int(stat[1]), int(stat[19])


def identity(pid: int) -> tuple[int, int]:
    return next(((p, start) for p, _, start in processes() if p == pid), (pid, 0))


def family(pid: int) -> set[tuple[int, int]]:
    """(pid, start time) of a process and all that descend from it."""
    rows = list(processes())
    members = {pid}
    while more := {p for p, parent, _ in rows if parent in members} - members:
        members |= more
    return {(p, start) for p, _, start in rows if p in members}


def assert_gone(children: set[tuple[int, int]], source: Path, *, within_s: float) -> None:
    """None of these processes lives, nor any that names the source among its arguments."""
    deadline = time.monotonic() + within_s
    while True:
        alive = {(p, start) for p, _, start in processes()} & children
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
