"""Sound and picture: the offset that the source has is the offset of every output, within 40 ms.

A click stands at each full second of the source's clock, and each picture tells its number and so
its own time on that clock. Where a click is heard, the picture of that second must be shown: in
the segments, by the boxes' times alone, and in the progressive file, as FFmpeg plays it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import Clip, Pace, Shown, clicks, frames, make
from tests.media.hlsdir import read_output, read_timing
from tests.thorough import thorough_but

TELECINE = str(Path(sys.executable).with_name("telecine"))
SYNC_S = Fraction(40, 1000)
SECONDS = 14  # three segments
B_FRAMES = ("-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-g", "50")
STEREO = ("-ac", "2")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    ending: str
    source: dict[str, Any] = field(default_factory=dict)
    clicks_s: Sequence[int] = range(1, SECONDS)
    options: Sequence[str] = ("--top", "encode")


CASES = (
    Case("aac-48k-copied", "mp4"),
    Case("aac-44.1k-copied", "mp4", {"audio": ("-c:a", "aac", "-ar", "44100", *STEREO)}),
    Case("aac-under-copied-top", "mp4", options=("--top", "copy")),
    Case("aac-mono-encoded", "mp4", {"audio": ("-c:a", "aac", "-ac", "1")}),
    # FFmpeg's first sound packet lasts until the picture starts: a hole of 59 ms.
    Case("fragmented-mp4", "mp4", {"mux": ("-movflags", "frag_keyframe+empty_moov")}),
    Case("opus-mkv", "mkv", {"audio": ("-c:a", "libopus", *STEREO)}),
    Case("mp3-avi", "avi", {"audio": ("-c:a", "mp3", *STEREO)}),
    Case("ac3-ts", "ts", {"audio": ("-c:a", "ac3", *STEREO)}),
    Case("aac-ts", "ts"),
    Case("pcm-22.05k-mov", "mov", {"audio": ("-c:a", "pcm_s16le", "-ar", "22050", *STEREO)}),
    Case("sound-2-s-late-mp4", "mp4", {"sound_late_s": 2}, clicks_s=range(3, SECONDS + 2)),
    Case("sound-2-s-late-ts", "ts", {"sound_late_s": 2}, clicks_s=range(3, SECONDS + 2)),
    Case(
        "sound-70-ms-late-mkv",
        "mkv",
        {"sound_late_s": 0.07, "sound": "adelay=930:all=1"},
        clicks_s=range(1, SECONDS + 1),
    ),
    Case(
        "picture-3-s-late",
        "mkv",
        {"paces": (Pace(0, 3000, 40),), "seconds": SECONDS - 3},
        clicks_s=range(4, SECONDS),
    ),
    Case(
        "hole-of-1.5-s-in-the-sound",
        "mkv",
        {"sound": "aselect='not(between(t,6.5,8))'"},
        clicks_s=(*range(1, 7), *range(9, SECONDS)),
    ),
    Case(
        "hole-of-70-ms-in-the-sound",
        "mkv",
        {"sound": "aselect='not(between(t,6.5,6.57))'"},
    ),
    Case(
        "sound-ends-early",
        "mp4",
        {"sound": "atrim=end=9.5"},
        clicks_s=range(1, 10),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    case: Case
    clip: Clip
    out: Path


@pytest.fixture(
    scope="module",
    params=thorough_but(
        CASES,
        "aac-48k-copied",
        "aac-under-copied-top",
        "fragmented-mp4",
        "sound-2-s-late-mp4",
        "picture-3-s-late",
        "hole-of-1.5-s-in-the-sound",
    ),
    ids=lambda case: case.name,
)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Made:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("sync")
    recipe = {"rate": Fraction(25), "seconds": SECONDS, "size": (320, 240), "video": B_FRAMES}
    clip = make(folder / f"source.{case.ending}", ffmpeg=ffmpeg, **{**recipe, **case.source})
    out = folder / "out"
    argv = [TELECINE, "transcode", str(clip.path), "-o", str(out), "--output", "hls"]
    argv += ["--output", "mp4:source", *case.options]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return Made(case, clip, out)


def test_segments_keep_the_offset(made: Made, ffmpeg: str) -> None:
    output = read_output(made.out)
    top = output.video[0]
    shown = frames(top.joined, ffmpeg=ffmpeg)
    by_boxes = read_timing(top).shown_s()
    assert [frame.time_s for frame in shown] == by_boxes
    (audio,) = output.audio
    assert_in_step(made, shown, clicks(audio.joined, ffmpeg=ffmpeg))


def test_the_progressive_file_keeps_the_offset(made: Made, ffmpeg: str) -> None:
    path = made.out / "source.mp4"
    assert_in_step(made, frames(path, ffmpeg=ffmpeg), clicks(path, ffmpeg=ffmpeg))


def assert_in_step(made: Made, shown: Sequence[Shown], heard: Sequence[Fraction]) -> None:
    # At a constant rate one picture tells how the clocks differ; an early one may be held.
    probe = next(frame for frame in shown if frame.number == 150)
    shift = probe.time_s - made.clip.times[150]
    # A click in the stream's first coded frame fades in and may be missed; see test_joins.
    first = made.case.clicks_s[0]
    on_source_clock = [float(time - shift) for time in heard if time - shift > first - 0.5]
    assert [round(time) for time in on_source_clock] == list(made.case.clicks_s)
    off = {s: t - s for s, t in zip(made.case.clicks_s, on_source_clock, strict=True)}
    assert max(map(abs, off.values())) <= SYNC_S, off
