"""Clips: exactly the pictures between two times, and the sound that belongs to them.

Each source's pictures carry their number (`framecode`); which of them a clip has follows by
arithmetic from how the source was made, and sound is heard by its click at each full second of the
film's clock.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import Clip, Pace, Shown, clicks, frames, make
from tests.media.hlsdir import Output, read_output
from tests.media.running import telecine
from tests.thorough import thorough_but

SYNC_S = Fraction(40, 1000)

X264 = ("-c:v", "libx264", "-preset", "superfast", "-crf", "24", "-bf", "3")
GOPS_OF_48 = (*X264, "-g", "48", "-x264-params", "scenecut=0")
OPEN_GOP = (*X264, "-g", "175", "-x264-params", "open-gop=1:scenecut=0:keyint=175")
MPEG2_FIELDS = ("-c:v", "mpeg2video", "-q:v", "4", "-bf", "2", "-flags", "+ildct+ilme")
SMALL = (320, 240)
NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


@dataclass(frozen=True, slots=True)
class Case:
    """`rate` is that of the ladder, None where the source's own times are kept under a copy;
    `clip` the words, `start_s` and `end_s` what they say."""

    name: str
    ending: str
    rate: Fraction | None
    clip: str
    start_s: str
    end_s: str
    source: dict[str, Any]
    options: Sequence[str] = ("--top", "encode")
    rungs: int = 1
    seconds: int = 36


CASES = (
    # Begins 2 frames before the grid's keyframe; two chunks, so that there is a join in the clip.
    Case("from-the-middle", "mp4", Fraction(24), "00:09.92-0:46.5", "9.92", "46.5",
         {"size": SMALL}, seconds=50),
    Case("every-codec", "mov", NTSC_FILM, "0:0:11-22.5", "11", "22.5",
         {}, options=("--top", "encode", "--codec", "h264,av1,hevc"), rungs=6),
    # 20.02 s is picture 600 to the very tick.
    Case("on-a-picture", "mp4", NTSC, "20.02-30.03", "20.02", "30.03", {"size": SMALL}),
    Case("mkv-of-whole-ms", "mkv", NTSC_FILM, "13.37-19", "13.37", "19", {"size": SMALL}),
    Case("from-the-start", "mp4", Fraction(25), "-7.01", "0", "7.01", {"size": SMALL}),
    Case("soon-after-the-start", "mp4", Fraction(25), "1.5-4", "1.5", "4", {"size": SMALL}),
    Case("to-the-end", "mkv", Fraction(25), "28.5-", "28.5", "36", {"size": SMALL}),
    Case("open-gop-ts", "ts", Fraction(25), "24-33.5", "24", "33.5",
         {"video": OPEN_GOP, "size": SMALL}),
    Case("interlaced-mpeg-ps", "mpg", Fraction(50), "14.01-21", "14.01", "21",
         {"video": MPEG2_FIELDS, "fields": "tff", "size": SMALL, "audio": ("-c:a", "mp2")}),
    Case("interlaced-bff-h264", "mp4", Fraction(60000, 1001), "17-26", "17", "26",
         {"video": (*X264, "-flags", "+ildct+ilme"), "fields": "bff", "size": SMALL}),
    # Begins within a gap from 20.5 s to 27 s: the picture before it is still shown.
    Case("uneven-from-a-gap", "mp4", Fraction(20), "22-34", "22", "34",
         {"rate": Fraction(25), "size": SMALL, "seconds": 36,
          "paces": (Pace(0, 0, 40), Pace(100, 9500, 33), Pace(433, 27000, 39))},
         options=("--top", "encode", "--codec", "h264,av1"), rungs=2),
    Case("copied", "mp4", None, "12-24", "12", "24",
         {"rate": Fraction(24), "video": GOPS_OF_48}, options=("--top", "copy"), rungs=2),
    Case("copied-mkv-to-the-end", "mkv", None, "21.99-", "21.99", "36",
         {"rate": Fraction(24), "size": SMALL, "video": GOPS_OF_48}, options=("--top", "copy")),
    Case("copied-from-the-start", "mp4", None, "-8", "0", "8",
         {"rate": Fraction(25), "video": (*X264, "-g", "50")}, options=("--top", "copy"), rungs=2),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    case: Case
    clip: Clip
    folder: Path
    output: Output


@pytest.fixture(
    scope="module",
    params=thorough_but(
        CASES,
        "soon-after-the-start",
        "to-the-end",
        "interlaced-bff-h264",
        "uneven-from-a-gap",
        "copied",
    ),
    ids=lambda case: case.name,
)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Made:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("clips")
    recipe = {"rate": case.rate, "seconds": case.seconds, "video": X264, **case.source}
    clip = make(folder / f"source.{case.ending}", ffmpeg=ffmpeg, **recipe)
    out = folder / "out"
    run = telecine("transcode", clip.path, "-o", out, "--output", "hls", "--output", "poster",
                   "--output", "mp4:source", "--output", "flac", "--output", "aac", "--clip",
                   case.clip, *case.options, timeout_s=120)  # fmt: skip
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    return Made(case, clip, out, read_output(out))


def expected(made: Made) -> list[Shown]:
    """By arithmetic: what the whole film shows between the two times, counted from the first."""
    case, times = made.case, made.clip.times
    start_s, end_s = Fraction(case.start_s), Fraction(case.end_s)
    if case.rate is None:
        own = [Shown(n, time_s) for n, time_s in enumerate(times) if start_s <= time_s < end_s]
        return [Shown(shown.number, shown.time_s - own[0].time_s) for shown in own]
    places = [int(time_s * case.rate + Fraction(1, 2)) for time_s in times]
    first, end = math.ceil(start_s * case.rate), math.ceil(end_s * case.rate)
    return [
        Shown(bisect.bisect_right(places, k) - 1, (k - first) / case.rate)
        for k in range(first, end)
    ]


def begins_s(made: Made) -> Fraction:
    """The film's time at which the clip's presentation 0 lies."""
    start_s, rate = Fraction(made.case.start_s), made.case.rate
    if rate is None:
        return next(time_s for time_s in made.clip.times if time_s >= start_s)
    return math.ceil(start_s * rate) / rate


def test_the_pictures_between_the_two_times_are_shown(made: Made, ffmpeg: str) -> None:
    assert len(made.output.video) == made.case.rungs
    for rung in made.output.video:
        shown = frames(rung.joined, ffmpeg=ffmpeg)
        wanted = expected(made)
        assert [one.number for one in shown] == [one.number for one in wanted], rung.name
        # Matroska's clock is milliseconds, which a copy keeps.
        off_s = Fraction(1, 1000) if made.clip.path.suffix == ".mkv" and not made.case.rate else 0
        for one, other in zip(shown, wanted, strict=True):
            assert abs(one.time_s - other.time_s) <= off_s, rung.name


def test_the_file_has_the_same_pictures(made: Made, ffmpeg: str) -> None:
    shown = frames(made.folder / "source.mp4", ffmpeg=ffmpeg)
    assert [one.number for one in shown] == [one.number for one in expected(made)]


def test_the_top_rung_is_copied_where_the_clip_begins_and_ends_on_keyframes(made: Made) -> None:
    plan = json.loads((made.folder / ".telecine" / "plan.json").read_text())
    modes = {rendition["mode"] for rendition in plan["renditions"]}
    assert ("copy" in modes) == (made.case.rate is None)


def test_sound_stays_with_the_picture(made: Made, ffmpeg: str) -> None:
    """A click stands at each full second of the film's clock. That on the clip's first sample is
    left out, since an encoder fades it in."""
    zero_s, end_s = begins_s(made), Fraction(made.case.end_s)
    within = [s - zero_s for s in range(math.ceil(zero_s), math.ceil(end_s))]
    wanted = [at_s for at_s in within if Fraction(1, 10) < at_s < end_s - zero_s - SYNC_S]
    (audio,) = made.output.audio
    files = [made.folder / name for name in ("source.mp4", "audio.flac", "audio.m4a")]
    places: list[Path | bytes] = [audio.joined, *files]
    for where in places:
        heard = [at_s for at_s in clicks(where, ffmpeg=ffmpeg) if at_s > Fraction(1, 10)]
        heard = [at_s for at_s in heard if at_s < end_s - zero_s - SYNC_S]
        assert len(heard) == len(wanted)
        assert max(abs(a - b) for a, b in zip(heard, wanted, strict=True)) <= SYNC_S


def test_report_and_rules_know_the_clip(made: Made) -> None:
    report = json.loads((made.folder / "report.json").read_text())
    rate = made.case.rate or made.clip.rate
    assert abs(report["clip"]["start_s"] - float(made.case.start_s)) < 1 / rate
    assert abs(report["duration_s"] - len(expected(made)) / rate) < 0.0011
    assert any(line.startswith("cut to a clip: ") for line in report["source"])
    checked = telecine("verify", made.folder, "--decode", timeout_s=120)
    assert checked.code == 0, checked.out
    assert "ok      clip-span" in checked.out
