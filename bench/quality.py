"""`make bench-quality`: `--quality 90` beside the fixed ladder, on real clips.

    python -m bench.quality [--quality 90] [--clip bbb …] [--codec h264] [--markdown]

Each clip is made twice, its top rung encoded: at the usual levels, and with a quality to aim at. Of
both, every rung is compared with the whole clip, scaled to its size, by a graph that is no part of
Telecine. A finished measurement is bench/out/quality-CODEC.json; `--markdown` prints it as the
tables of docs/explain/performance.md and measures nothing. The exit code is 1 where a listed rung
misses the aim by more than 1.5, unless it is below and its report says that its ceiling keeps it
there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import OUT, figures, outputs
from bench.corpus import CLIPS, all_there, film
from bench.measure import Request, end_on_sigterm, measure
from bench.playlists import read_variants
from telecine import find_tools

TOLERANCE = 1.5


@dataclass(frozen=True, slots=True)
class Rung:
    name: str
    crf: float
    video_bytes: int
    vmaf: float
    reason: str


@dataclass(frozen=True, slots=True)
class Ladder:
    cpu_s: float
    wall_s: float
    first_play_s: float | None
    search_cpu_s: float
    rungs: tuple[Rung, ...]
    dropped: tuple[str, ...]  # by the search, each with its reason


@dataclass(frozen=True, slots=True)
class ClipResult:
    title: str
    fixed: Ladder
    aimed: Ladder


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    end_on_sigterm()
    finished = OUT / f"quality-{options.codec}.json"
    if options.markdown:
        print(markdown(json.loads(finished.read_text())))
        return 0
    if not all_there(options.clip):
        return 2
    ffmpeg = find_tools().ffmpeg
    results = []
    for name in options.clip:
        words = ["--codec", options.codec, "--output", "hls", "--top", "encode"]
        fixed = _ladder(film(name), words, ffmpeg)
        aimed = _ladder(film(name), [*words, "--quality", f"{options.quality:g}"], ffmpeg)
        results.append(ClipResult(CLIPS[name].title, fixed, aimed))
        # Each time, so that what was measured stands if the next one fails.
        record = {"quality": options.quality, "clips": [asdict(result) for result in results]}
        finished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(markdown({**record, "clips": record["clips"][-1:]}), flush=True)
    rungs = [rung for result in results for rung in result.aimed.rungs]
    return 1 if any(missed(rung, options.quality) for rung in rungs) else 0


def missed(rung: Rung, quality: float) -> bool:
    off = rung.vmaf - quality
    return off > TOLERANCE or (off < -TOLERANCE and "ceiling" not in rung.reason)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench-quality", description=__doc__.splitlines()[0])
    parser.add_argument("--quality", type=float, default=90)
    parser.add_argument("--clip", nargs="+", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--codec", default="h264", help="as the command takes it")
    parser.add_argument("--markdown", action="store_true", help="print the last run's tables")
    return parser


def _ladder(clip: Path, words: list[str], ffmpeg: Path) -> Ladder:
    folder = OUT / "work" / "quality"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "telecine", "transcode", str(clip), "-o", str(folder), *words]
    master = folder / "master.m3u8"
    measured = measure(Request([command], {}, str(master), str(folder.with_suffix(".log"))))
    report = json.loads((folder / "report.json").read_text())
    plan = json.loads((folder / ".telecine" / "plan.json").read_text())
    crfs = {rendition["name"]: rendition["crf"] for rendition in plan["renditions"]}
    reasons = {rung["name"]: rung["reason"] for rung in report["rungs"]}
    scratch = OUT / "work" / "quality.mp4"
    stream = plan["video"]["index"]
    frames = outputs.frame_count(clip, stream)
    variants = read_variants(master)
    sizes = outputs.weigh(variants, scratch)
    rungs = []
    for variant, rung in zip(variants, sizes, strict=True):
        name = variant.playlist.parent.name
        if rung.frames != frames:  # they could not be compared by number
            raise RuntimeError(f"{name} of {clip}: {rung.frames} pictures, not {frames}")
        score = outputs.vmaf(ffmpeg, variant, clip, stream, scratch, own_size=True)
        rungs.append(Rung(name, crfs[name], rung.video_bytes, score, reasons[name]))
    searched = report["quality"] or {"cpu_s": 0.0}
    dropped = plan["choices"]["dropped"] if plan["choices"] is not None else []
    return Ladder(
        cpu_s=measured.cpu_s,
        wall_s=measured.wall_s,
        first_play_s=measured.first_play_s,
        search_cpu_s=searched["cpu_s"],
        rungs=tuple(rungs),
        dropped=tuple(f"{rung['name']}: {rung['reason']}" for rung in dropped),
    )


# --- showing ------------------------------------------------------------------------------------


def markdown(record: dict[str, Any]) -> str:
    """The tables of docs/explain/performance.md from a finished measurement."""
    rows = [["clip", "rung", "fixed: CRF · kB · VMAF", "aimed: CRF · kB · VMAF", "off", "bytes"]]
    costs = [["clip", "fixed: CPU s", "aimed: CPU s", "of that the search", "kB", "bytes"]]
    notes = []
    for clip in record["clips"]:
        fixed = {rung["name"]: rung for rung in clip["fixed"]["rungs"]}
        aimed = {rung["name"]: rung for rung in clip["aimed"]["rungs"]}
        for name, before in fixed.items():
            rows.append([clip["title"], name, _said(before), *_beside(before, aimed.get(name),
                        record["quality"])])  # fmt: skip
        notes += [f"{clip['title']}, {one}" for one in clip["aimed"]["dropped"]]
        notes += [
            f"{clip['title']}, {name}: {rung['reason'].partition('; ')[2]}"
            for name, rung in aimed.items()
            if "ceiling" in rung["reason"]
        ]
        whole = [
            sum(rung["video_bytes"] for rung in clip[way]["rungs"]) for way in ("fixed", "aimed")
        ]
        costs.append([
            clip["title"],
            f"{clip['fixed']['cpu_s']:.1f}",
            f"{clip['aimed']['cpu_s']:.1f}",
            f"{clip['aimed']['search_cpu_s']:.1f}",
            f"{whole[0] / 1000:.0f} → {whole[1] / 1000:.0f}",
            f"{whole[1] / whole[0]:.2f} ×",
        ])  # fmt: skip
    parts = [_in_short(record), figures.markdown_table(rows), figures.markdown_table(costs)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)]).rstrip()


def _in_short(record: dict[str, Any]) -> str:
    off = [
        rung["vmaf"] - record["quality"]
        for clip in record["clips"]
        for rung in clip["aimed"]["rungs"]
    ]
    inside = sum(abs(one) <= TOLERANCE for one in off)
    farthest = max(off, key=abs)
    return (
        f"{inside} of {len(off)} listed rungs are within {TOLERANCE} of {record['quality']:g}; the "
        f"farthest is {farthest:+.1f} off."
    )


def _said(rung: dict[str, Any]) -> str:
    return f"{rung['crf']:g} · {rung['video_bytes'] / 1000:.0f} · {rung['vmaf']:.1f}"


def _beside(before: dict[str, Any], after: dict[str, Any] | None, quality: float) -> list[str]:
    if after is None:
        return ["left out", "", ""]
    bytes_share = after["video_bytes"] / before["video_bytes"]
    return [_said(after), f"{after['vmaf'] - quality:+.1f}", f"{bytes_share:.2f} ×"]


if __name__ == "__main__":
    sys.exit(main())
