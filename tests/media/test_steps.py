"""Every step is a function of (plan, step id, source, folder) and of nothing else.

Each step runs in a process of its own, in random order as far as `needs` allows, in an empty
folder that holds only what it needs, on a source of another name. The folders put together are
the bytes that `transcode` makes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import make
from tests.media.test_resume import digests, finished
from tests.thorough import thorough_but

TELECINE = str(Path(sys.executable).with_name("telecine"))
SEED = 20_261_122
FILES = ("--output", "hls", "--output", "mp4:240p", "--output", "mp3", "--output", "poster")

ONE_STEP = """
import sys
from pathlib import Path

from telecine.engine.steps.encode import run_step
from telecine.engine.plan import plan_from_json
from telecine.engine.tools import find_tools

plan, step, source, folder = sys.argv[1:]
run_step(
    plan_from_json(Path(plan).read_text()), step, Path(source), Path(folder), tools=find_tools()
)
"""

X264 = ("-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-g", "72", "-crf", "26")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    ending: str
    options: Sequence[str]
    noise: int = 0  # snow drives the encoder to its ceiling, where chance could show in the bytes


CASES = (
    Case("encoded-mp4", "mp4", ("--top", "encode"), noise=25),
    Case("copied-top-mp4", "mp4", ("--top", "copy")),
    Case("working-copy-ts", "ts", ("--top", "encode")),
)


@pytest.mark.parametrize("case", thorough_but(CASES, "encoded-mp4"), ids=lambda case: case.name)
def test_steps_run_anywhere_in_any_order_make_what_transcode_makes(
    case: Case, tmp_path: Path, ffmpeg: str
) -> None:
    source = make(
        tmp_path / f"source.{case.ending}",
        ffmpeg=ffmpeg,
        rate=Fraction(24),
        seconds=33,
        size=(480, 360) if "copy" in case.options else (320, 240),
        noise=case.noise,
        video=X264,
    ).path
    whole = tmp_path / "whole"
    options = [*FILES, *case.options]
    run(TELECINE, "transcode", str(source), "-o", str(whole), "--jobs", "2", *options)

    plan = json.loads(run(TELECINE, "plan", str(source), "--json", *options))["plan"]
    plan_path = tmp_path / "plan.json"
    plan_path.write_text(json.dumps(plan))
    steps = {step["id"]: step for step in plan["steps"]}
    assert len([step for step in steps.values() if step["kind"] == "encode"]) >= 2

    places: dict[str, Path] = {}
    for n, step_id in enumerate(random_order(steps, random.Random(f"{SEED} {case.name}"))):
        place = tmp_path / f"machine-{n}"
        place.mkdir()
        for need in steps[step_id]["needs"]:
            put_together(places[need], place / "dir")
        there = place / f"upload-{n}"
        os.link(source, there)
        run(sys.executable, "-c", ONE_STEP, str(plan_path), step_id, str(there), f"{place}/dir")
        there.unlink()
        places[step_id] = place / "dir"

    joined = tmp_path / "joined"
    for place in places.values():
        put_together(place, joined)
    shutil.copy(plan_path, joined / ".telecine" / "plan.json")
    segments = finished(joined)
    assert {name for name in segments if name.endswith(".json")} == {
        f".telecine/steps/{step_id}.json" for step_id in steps
    }
    # All that is left for `transcode` is to write the playlists and to verify.
    run(TELECINE, "transcode", str(source), "-o", str(joined), "--jobs", "2", *options)
    assert finished(joined) == segments, "a finished step was made again"
    assert digests(joined) == digests(whole)


def random_order(steps: dict[str, dict[str, Any]], dice: random.Random) -> list[str]:
    """An order drawn evenly step by step from those whose needs are met."""
    order: list[str] = []
    while len(order) < len(steps):
        ready = [s for s in steps if s not in order and set(steps[s]["needs"]) <= set(order)]
        order.append(dice.choice(ready))
    return order


def put_together(part: Path, folder: Path) -> None:
    """Copy the files of one folder into another; what is in both must be the same.

    A copy of the source made to be sought in is work, not output, and stays where it is.
    """
    for path in sorted(part.rglob("*")):
        target = folder / path.relative_to(part)
        if not path.is_file() or path.name.startswith("working."):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            assert target.read_bytes() == path.read_bytes(), f"two steps made {target.name}"
        else:
            shutil.copy2(path, target)


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout
