"""Joins: a ladder encoded in chunks shows exactly the frames and times of a single pass.

Each source's pictures carry their number (`framecode`), so what is shown when is known three ways
that share nothing with the engine: by arithmetic from how the source was made, from one FFmpeg
process that reads the whole source in one go, and from the boxes of the segments. 33 s make two
chunks with a join at 18 s, 45 s two with one at 24 s, 66 s three with joins at 24 s and 42 s; head
rungs have one more at 12 s.
"""

from __future__ import annotations

import bisect
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import Clip, Pace, Shown, clicks, frames, make
from tests.media.hlsdir import Output, read_output, read_timing
from tests.thorough import thorough_but

TELECINE = str(Path(sys.executable).with_name("telecine"))
SYNC_S = Fraction(40, 1000)

X264 = ("-c:v", "libx264", "-preset", "superfast", "-crf", "24", "-bf", "3")
MPEG2_FIELDS = ("-c:v", "mpeg2video", "-q:v", "4", "-bf", "2", "-flags", "+ildct+ilme")
# x264's open GOPs: every I-frame but the first is a recovery point that B-frames reach across; 7 s
# long, so that none begins in the two seconds before the join at 18 s.
OPEN_GOP = (*X264, "-g", "175", "-x264-params", "open-gop=1:scenecut=0:keyint=175")
# Closed GOPs at irregular places, from half a second up to 10 s.
IRREGULAR = (*X264, "-g", "999", "-x264-params", "scenecut=0", "-force_key_frames")
IRREGULAR_KEYS = "0,0.5,6.75,16.75,17.5,22,31.9,32.4,39,44,54,55,63"


ENCODED_IN_ALL = ("--top", "encode", "--codec", "h264,av1,hevc")


@dataclass(frozen=True, slots=True)
class Case:
    """A source and the constant rate that its ladder must have (`None`: the source's own times,
    under a copied top rung)."""

    name: str
    ending: str
    rate: Fraction | None
    source: dict[str, Any]
    options: Sequence[str] = ("--top", "encode")
    rungs: int = 2
    seconds: int = 33
    head_segments: int = 0
    deinterlace: str | None = None


def film(numerator: int, denominator: int = 1) -> Fraction:
    return Fraction(numerator, denominator)


NTSC_FILM, NTSC, NTSC_FIELDS = film(24000, 1001), film(30000, 1001), film(60000, 1001)
SMALL = (320, 240)

CASES = (
    Case("cfr-24-b-frames-edit-list", "mp4", film(24), {"size": (640, 480)}, rungs=3, seconds=66,
         head_segments=2),
    Case("cfr-25-mkv", "mkv", film(25), {"size": SMALL}, rungs=1),
    Case("cfr-23.976-mkv-whole-ms", "mkv", NTSC_FILM, {}),
    Case("cfr-29.97", "mov", NTSC, {"size": SMALL}, rungs=1),
    Case("cfr-59.94", "mp4", NTSC_FIELDS, {"size": SMALL}, rungs=1),
    # No frame between 20.5 s and 27 s, or between 22.5 s and 25.5 s: nothing at the join.
    Case(
        "vfr-gap-at-joins-mp4",
        "mp4",
        film(20),
        {
            "rate": film(25),
            "paces": (Pace(0, 0, 40), Pace(100, 9500, 33), Pace(433, 27000, 39)),
            "seconds": 36,
        },
    ),
    Case(
        "vfr-gap-at-joins-mkv",
        "mkv",
        film(25),
        {
            "rate": film(25),
            "size": SMALL,
            "paces": (Pace(0, 0, 25), Pace(220, 7000, 36), Pace(650, 25500, 40)),
            "seconds": 46,
        },
        rungs=1,
    ),
    Case(
        "interlaced-tff-mpeg-ps",
        "mpg",
        film(50),
        {"video": MPEG2_FIELDS, "fields": "tff", "size": SMALL, "audio": ("-c:a", "mp2")},
        rungs=1,
        deinterlace="bwdif=mode=send_field",
    ),
    Case(
        "interlaced-bff-h264",
        "mp4",
        NTSC_FIELDS,
        {"video": (*X264, "-flags", "+ildct+ilme"), "fields": "bff", "size": SMALL},
        rungs=1,
        deinterlace="bwdif=mode=send_field",
    ),
    Case("open-gop-ts", "ts", film(25), {"video": OPEN_GOP, "size": SMALL}, rungs=1),
    Case("flv-b-frames", "flv", film(25), {"size": SMALL, "audio": ("-c:a", "aac", "-ar", "44100")},
         rungs=1),
    Case(
        "copied-top-irregular-keyframes",
        "mp4",
        None,
        {"rate": film(24), "video": (*IRREGULAR, IRREGULAR_KEYS)},
        options=("--top", "copy"),
        seconds=66,
    ),
    Case(
        "copied-top-vfr",
        "mp4",
        None,
        {
            "rate": film(25),
            "size": SMALL,
            "video": (*IRREGULAR, "0,4.4,9.5,15,25.01,33,38,47.9,52,61"),
            "paces": (Pace(0, 0, 40), Pace(120, 9500, 33), Pace(600, 33000, 41)),
            "seconds": 56,
        },
        options=("--top", "copy", "--rung", "240", "144"),
    ),
    # Two sizes in three codecs, all from one decode; H.264 has a head.
    Case("codecs-24", "mp4", film(24), {}, options=ENCODED_IN_ALL, rungs=6, head_segments=2),
    Case(
        "codecs-29.97-without-h264",
        "mov",
        NTSC,
        {"size": SMALL},
        options=("--top", "encode", "--codec", "av1,hevc"),
        rungs=2,
        head_segments=2,
    ),
    Case(
        "codecs-interlaced",
        "mp4",
        NTSC_FIELDS,
        {"video": (*X264, "-flags", "+ildct+ilme"), "fields": "tff", "size": SMALL},
        options=ENCODED_IN_ALL,
        rungs=3,
        head_segments=2,
        deinterlace="bwdif=mode=send_field",
    ),
    Case(
        "codecs-vfr-gap-at-joins",
        "mp4",
        film(20),
        {
            "rate": film(25),
            "size": SMALL,
            "paces": (Pace(0, 0, 40), Pace(100, 9500, 33), Pace(433, 27000, 39)),
            "seconds": 36,
        },
        options=ENCODED_IN_ALL,
        rungs=3,
        head_segments=2,
    ),
    Case(
        "codecs-under-a-copied-top",
        "mp4",
        None,
        {"rate": film(24), "video": (*IRREGULAR, IRREGULAR_KEYS)},
        options=("--top", "copy", "--codec", "h264,av1,hevc"),
        rungs=6,
        seconds=66,
    ),
    Case(
        "codecs-under-a-copied-top-vfr",
        "mp4",
        None,
        {
            "rate": film(25),
            "size": SMALL,
            "video": (*IRREGULAR, "0,4.4,9.5,15,25.01,33,38,47.9,52,61"),
            "paces": (Pace(0, 0, 40), Pace(120, 9500, 33), Pace(600, 33000, 41)),
            "seconds": 56,
        },
        options=("--top", "copy", "--codec", "h264,av1,hevc"),
        rungs=3,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    case: Case
    clip: Clip
    output: Output
    shown: dict[str, list[Shown]]  # rung → what FFmpeg decodes from its joined segments
    plan: dict[str, Any]


# One of each kind: constant and uneven rates, fields, open GOPs, under a copy, other codecs.
QUICK = (
    "cfr-25-mkv",
    "vfr-gap-at-joins-mkv",
    "interlaced-bff-h264",
    "open-gop-ts",
    "copied-top-vfr",
    "codecs-29.97-without-h264",
)


@pytest.fixture(scope="module", params=thorough_but(CASES, *QUICK), ids=lambda case: case.name)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Made:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("joins")
    recipe = {"rate": case.rate, "seconds": case.seconds, "video": X264, **case.source}
    clip = make(folder / f"source.{case.ending}", ffmpeg=ffmpeg, **recipe)
    out = folder / "out"
    argv = [TELECINE, "transcode", str(clip.path), "-o", str(out), "--output", "hls"]
    argv += ["--jobs", "2", *case.options]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    output = read_output(out)
    shown = {rung.name: frames(rung.joined, ffmpeg=ffmpeg) for rung in output.video}
    plan = json.loads((out / ".telecine" / "plan.json").read_text())
    return Made(case, clip, output, shown, plan)


def expected(made: Made) -> list[Shown]:
    """By arithmetic. At a constant rate each picture is moved to the nearest frame of the grid
    (halves upward) and stays until the next one; of two on the same frame the later one is shown.
    """
    times = made.clip.times
    if made.case.rate is None:
        return [Shown(n, time) for n, time in enumerate(times)]
    places = [int(time * made.case.rate + Fraction(1, 2)) for time in times]
    step = times[-1] - times[-2]
    count = int((times[-1] + step) * made.case.rate + Fraction(1, 2))
    return [Shown(bisect.bisect_right(places, k) - 1, k / made.case.rate) for k in range(count)]


def test_there_are_joins_to_look_at(made: Made) -> None:
    assert len(made.plan["chunks"]) >= (2 if made.case.seconds < 60 else 3)
    assert made.plan["head_segments"] == made.case.head_segments
    assert len(made.output.video) == made.case.rungs
    modes = [rendition["mode"] for rendition in made.plan["renditions"]]
    assert modes == (["encode"] if made.case.rate else ["copy"]) + ["encode"] * (
        made.case.rungs - 1
    )


def test_chunks_show_the_frames_that_arithmetic_says(made: Made) -> None:
    """Number and time of every frame of every rung, as FFmpeg decodes and times them."""
    for name, shown in made.shown.items():
        assert_same(shown, expected(made), name)


def test_chunks_show_the_frames_of_a_single_pass(made: Made, ffmpeg: str) -> None:
    """One plain FFmpeg process over the whole source, no seek, no trim, its own `fps` filter."""
    steps = [made.case.deinterlace] if made.case.deinterlace else []
    steps.append("setpts=PTS-STARTPTS")
    if made.case.rate:
        steps.append(f"fps={made.case.rate}")
    reference = frames(made.clip.path, ffmpeg=ffmpeg, before=",".join(steps))
    for name, shown in made.shown.items():
        assert_same(shown, reference, name)


def test_boxes_say_the_same_times_and_are_continuous(made: Made) -> None:
    """tfdt + composition offset − edit list, of every sample: a player that never asks FFmpeg."""
    for rung in made.output.video:
        timing = read_timing(rung)
        assert timing.shown_s() == [frame.time_s for frame in expected(made)], rung.name
        assert timing.decode[1:] == timing.ends[:-1], f"{rung.name}: decode times break"
        assert min(timing.shown) == 0


def test_playlists_say_how_long_the_segments_are(made: Made) -> None:
    """EXTINF of each segment is what its samples last, alike on every rung."""
    for rung in made.output.video:
        timing = read_timing(rung)
        total_s = Fraction(timing.ends[-1] - timing.decode[0], timing.timescale)
        assert abs(sum(rung.extinf_s) - total_s) < Fraction(1, 1000), rung.name
    assert len({rung.extinf_s for rung in made.output.video}) == 1


def test_sound_stays_with_the_picture(made: Made, ffmpeg: str) -> None:
    """A click stands at each full second of the picture's clock, before, on and after joins.

    That of second 0 is left out: it lies in the first AAC frame, which fades in where the priming
    frame before it is gone.
    """
    (audio,) = made.output.audio
    heard = [time for time in clicks(audio.joined, ffmpeg=ffmpeg) if time > Fraction(1, 2)]
    seconds = list(range(1, int(made.clip.times[-1]) + 1))
    assert [round(time) for time in heard] == seconds
    off = {second: float(t - second) for second, t in zip(seconds, heard, strict=True)}
    assert max(map(abs, off.values())) <= SYNC_S, off


def assert_same(shown: list[Shown], wanted: list[Shown], name: str) -> None:
    """Equal, or a failure that names the first frame that is wrong."""
    for k, (got, want) in enumerate(itertools.zip_longest(shown, wanted)):
        if got != want:
            wrong = sum(a != b for a, b in itertools.zip_longest(shown, wanted))
            pytest.fail(
                f"{name}: frame {k} is {got}, should be {want}; "
                f"{wrong} wrong of {len(wanted)}, {len(shown)} shown"
            )
