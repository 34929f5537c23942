"""`make bench-quality`: `--quality 90` beside the fixed ladder, on real clips.

    python -m bench.quality [--quality 90] [--clip bbb …] [--codec h264] [--markdown]

Each clip is made twice, its top rung encoded: at the usual levels, and with a quality to aim at. Of
both, every rung is compared with the whole clip, scaled to its size, by a graph that is no part of
Telecine. A finished measurement is bench/out/quality.json; `--markdown` prints it as the tables of
docs/explain/performance.md and measures nothing. The exit code is 1 where a listed rung misses the
aim by more than 1.5 and its report does not say that its ceiling keeps it there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from bench import figures, outputs
from bench.measure import Request, end_on_sigterm, measure
from bench.outputs import VMAF_EVERY
from bench.playlists import Variant, read_variants
from bench.run import corpus
from telecine import find_tools

OUT = Path(__file__).parent / "out"
RESULTS = OUT / "quality.json"
TOLERANCE = 1.5

CLIPS = {
    "bbb": ("Big Buck Bunny 1080p24, 30 s", "video/bbb/bbb_1080p24_30s.mp4"),
    "drone": ("drone flight 1080p, 12.5 s", "video/sb6/drone_city_1080p_12s.mp4"),
    "screen": ("talk and screen 720p30, 42 s", "video/autoed/example.mp4"),
    "street": ("street from above 432p, 30 s", "video/intel/car-detection.mp4"),
    "cctv": ("CCTV 576p10, 80 s", "video/ocv/vtest.avi"),
    "bottles": ("bottles on a table 360p, 40 s", "video/intel/bottle-detection.mp4"),
    "chaplin": ("Chaplin 360p25, 9.6 s", "video/mpy/chaplin.mp4"),
    "nasa": ("NASA 270p, 13 s", "video/tcodec/nasa_13013.mp4"),
}


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
    if options.markdown:
        print(markdown(json.loads(RESULTS.read_text())))
        return 0
    missing = [CLIPS[name][1] for name in options.clip if not (corpus() / CLIPS[name][1]).exists()]
    if missing:
        print(f"bench: the media corpus lacks {', '.join(missing)} ({corpus()})", file=sys.stderr)
        return 2
    ffmpeg = find_tools().ffmpeg
    results = []
    for name in options.clip:
        title, path = CLIPS[name]
        words = ["--codec", options.codec, "--output", "hls", "--top", "encode"]
        fixed = _ladder(corpus() / path, words, ffmpeg)
        aimed = _ladder(corpus() / path, [*words, "--quality", f"{options.quality:g}"], ffmpeg)
        results.append(ClipResult(title, fixed, aimed))
        # Each time, so that what was measured stands if the next one fails.
        record = {"quality": options.quality, "clips": [asdict(result) for result in results]}
        RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(markdown({**record, "clips": record["clips"][-1:]}), flush=True)
    off = [
        rung
        for result in results
        for rung in result.aimed.rungs
        if abs(rung.vmaf - options.quality) > TOLERANCE and "ceiling" not in rung.reason
    ]
    return 1 if off else 0


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
    variants = read_variants(master)
    sizes = outputs.weigh(variants, scratch)
    rungs = []
    for variant, rung in zip(variants, sizes, strict=True):
        name = variant.playlist.parent.name
        score = own_size_vmaf(ffmpeg, variant, clip, plan["video"]["index"], scratch)
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


def own_size_vmaf(ffmpeg: Path, variant: Variant, clip: Path, stream: int, scratch: Path) -> float:
    """Mean VMAF (model v0.6.1) of every 7th picture beside the clip's, which is scaled (bicubic) to
    the rung's size. Pictures are paired by number. Uses `scratch` and removes it."""
    outputs.join(variant, scratch)
    try:
        with av.open(str(scratch)) as container:
            coded = container.streams.video[0].codec_context
            size = f"{coded.width}:{coded.height}"
        by_number = "settb=1/1000,setpts=N"
        said = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
        graph = (
            f"[0:v:0]{said},format=yuv420p,{by_number}[made];"
            f"[1:{stream}]{said},scale={size}:flags=bicubic,format=yuv420p,{by_number}[clip];"
            f"[made][clip]libvmaf=n_threads={os.cpu_count()}:n_subsample={VMAF_EVERY}"
        )
        command = [str(ffmpeg), "-hide_banner", "-nostdin", "-i", str(scratch), "-i", str(clip)]
        finished = subprocess.run(
            [*command, "-filter_complex", graph, "-f", "null", "-"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        scratch.unlink(missing_ok=True)
    score = re.search(r"VMAF score: ([0-9.]+)", finished.stderr)
    if score is None:
        raise RuntimeError(f"no VMAF score for {variant.playlist}: {finished.stderr[-500:]}")
    return float(score[1])


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
    parts = [figures.markdown_table(rows), figures.markdown_table(costs)]
    return "\n\n".join([*parts, *(f"- {note}" for note in notes)])


def _said(rung: dict[str, Any]) -> str:
    return f"{rung['crf']:g} · {rung['video_bytes'] / 1000:.0f} · {rung['vmaf']:.1f}"


def _beside(before: dict[str, Any], after: dict[str, Any] | None, quality: float) -> list[str]:
    if after is None:
        return ["left out", "", ""]
    bytes_share = after["video_bytes"] / before["video_bytes"]
    return [_said(after), f"{after['vmaf'] - quality:+.1f}", f"{bytes_share:.2f} ×"]


if __name__ == "__main__":
    sys.exit(main())
