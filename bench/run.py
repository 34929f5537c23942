"""`make bench`: our ladder beside three other ways, interleaved, in one run on the same clips.

    python -m bench.run [--runs 5] [--clip bbb] [--way ours-copy …] [--seconds 5] [--markdown]

A finished measurement is bench/out/bench.json; `--markdown` prints it as the tables that stand in
docs/explain/performance.md and measures nothing. The exit code says whether everything could be
measured, not whether an aim was met: that is what the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import OUT, contestants, figures, outputs
from bench.contestants import CONTESTANTS, PER_RUNG, RUNGS, SHAKA, Contestant, Setting
from bench.corpus import CLIPS, all_there, film
from bench.figures import Result, Rung
from bench.measure import ContestantFailed, Request, end_on_sigterm, measure
from bench.playlists import read_variants
from telecine import find_tools, make_profile, probe
from telecine import plan as make_plan

RESULTS = OUT / "bench.json"

FILMS = ("bbb", "drone")  # large enough for every rung


@dataclass(frozen=True, slots=True)
class ClipResult:
    title: str
    frames: int
    results: list[Result]


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    end_on_sigterm()
    if options.markdown:
        print(markdown(json.loads(RESULTS.read_text())))
        return 0
    if not all_there(options.clip):
        return 2
    OUT.mkdir(exist_ok=True)
    tools = find_tools()
    shaka, shaka_failure = _shaka() if SHAKA.key in options.way else (None, "not asked for")
    record: dict[str, object] = {
        "runs": options.runs,
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "ffmpeg": tools.version,
        "sandbox": tools.sandbox.tier,
        "vmaf_every": outputs.VMAF_EVERY,
    }
    clips: list[ClipResult] = []
    for name in options.clip:
        title = CLIPS[name].title
        clip = _cut(film(name), options.seconds, tools.ffmpeg)
        if options.seconds is not None:
            title += f", its first {options.seconds:g} s"
        profile = make_profile((), RUNGS, "encode")
        plan = make_plan(probe(clip, tools), profile)
        setting = Setting(clip, plan, tools.ffmpeg, shaka)
        chosen = [c for c in CONTESTANTS if c.key in options.way]
        skipped = {SHAKA.key: shaka_failure} if shaka_failure else {}
        clips.append(_bench_clip(title, setting, chosen, skipped, options))
    record["clips"] = [asdict(clip) for clip in clips]
    RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for clip_result in clips:
        print(_text(clip_result))
    return 0 if all(r.ran for clip in clips for r in clip.results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each way")
    parser.add_argument("--clip", nargs="+", choices=FILMS, default=FILMS)
    keys = [contestant.key for contestant in CONTESTANTS]
    parser.add_argument("--way", nargs="+", choices=keys, default=keys)
    parser.add_argument("--seconds", type=float, help="only the clip's first seconds (for a try)")
    parser.add_argument(
        "--no-vmaf", action="store_true", help="leave the slow part out (for a try)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the last run's tables")
    return parser


def _bench_clip(
    title: str,
    setting: Setting,
    chosen: Sequence[Contestant],
    skipped: dict[str, str],
    options: argparse.Namespace,
) -> ClipResult:
    results = {c.key: Result(c.key, c.title, failure=skipped.get(c.key)) for c in chosen}
    masters: dict[str, Path] = {}
    for n in range(options.runs):
        for contestant in chosen:
            if results[contestant.key].failure is not None:
                continue
            folder = OUT / "work" / setting.clip.stem / contestant.key
            request = _fresh(contestant, setting, folder)
            try:
                _add(results[contestant.key], request)
            except ContestantFailed as failed:
                results[contestant.key] = Result(
                    contestant.key, contestant.title, failure=str(failed)
                )
                print(f"bench: {contestant.title}: {failed}", file=sys.stderr)
                continue
            masters[contestant.key] = Path(request.master)
            cpu_s = results[contestant.key].cpu_s[-1]
            print(
                f"bench: run {n + 1}/{options.runs} {contestant.key}: {cpu_s:.1f} CPU s", flush=True
            )
    for key, master in masters.items():
        if results[key].ran:
            results[key].rungs.extend(
                _rungs(key, master, setting, measure_vmaf=not options.no_vmaf)
            )
    return ClipResult(
        title, outputs.frame_count(setting.clip, setting.stream), list(results.values())
    )


def _fresh(contestant: Contestant, setting: Setting, folder: Path) -> Request:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return contestants.request(contestant, setting, folder)


def _add(result: Result, request: Request) -> None:
    measured = measure(request)
    result.cpu_s.append(measured.cpu_s)
    result.wall_s.append(measured.wall_s)
    result.peak_tree_bytes.append(measured.peak_tree_bytes)
    result.peak_process_bytes.append(measured.peak_process_bytes)
    if measured.first_play_s is not None:
        result.first_play_s.append(measured.first_play_s)


def _rungs(key: str, master: Path, setting: Setting, *, measure_vmaf: bool) -> list[Rung]:
    """The last run's output. Ours is the same bytes every time; x264 with several threads, in the
    other ways, differs by less than 0.1 % between runs."""
    scratch = OUT / "work" / "joined.mp4"
    rungs = []
    codec = next(contestant.codec for contestant in CONTESTANTS if contestant.key == key)
    # What says no codec at all is somebody's H.264.
    variants = [v for v in read_variants(master) if (v.codec or "avc1").startswith(codec)]
    weighed = outputs.weigh(variants, scratch)
    for variant, rung in zip(variants, weighed, strict=True):
        encoded = not (key == contestants.COPIED.key and rung.height == max(RUNGS))
        score = None
        if encoded and measure_vmaf:
            print(f"bench: VMAF of {key} {rung.height}p", flush=True)
            score = outputs.vmaf(setting.ffmpeg, variant, setting.clip, setting.stream, scratch)
        rungs.append(Rung(rung.height, encoded, rung.frames, rung.video_bytes, score))
    return sorted(rungs, key=lambda rung: -rung.height)


def _cut(clip: Path, seconds: float | None, ffmpeg: Path) -> Path:
    """The clip itself, or a copy of its first seconds."""
    if seconds is None:
        return clip
    short = OUT / f"{clip.stem}-{seconds:g}s.mp4"
    argv = [str(ffmpeg), "-v", "error", "-nostdin", "-y", "-t", str(seconds), "-i", str(clip)]
    subprocess.run([*argv, "-map", "0:v", "-map", "0:a", "-c", "copy", str(short)], check=True)
    return short


def _shaka() -> tuple[Path | None, str]:
    try:
        return contestants.install_shaka(OUT), ""
    except subprocess.CalledProcessError as error:
        return None, f"its packages cannot be installed (exit {error.returncode})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


# --- showing ----------------------------------------------------------------------------------


def _text(clip: ClipResult) -> str:
    return "\n\n".join(
        [
            f"\n{clip.title}",
            figures.text_table(figures.cost_rows(clip.results, PER_RUNG.key)),
            figures.text_table(figures.quality_rows(clip.results)),
            figures.text_table(figures.aim_rows(figures.aims(clip.results, clip.frames))),
        ]
    )


def markdown(record: dict[str, object]) -> str:
    """The tables of docs/explain/performance.md from a finished measurement."""
    clips = record["clips"]
    assert isinstance(clips, list)
    parts = [
        f"{record['runs']} run(s) of each way, interleaved; median (min–max). {record['cpus']} × "
        f"{record['processor']}, Linux {record['kernel']}, FFmpeg {record['ffmpeg']}, sandbox tier "
        f"`{record['sandbox']}`."
    ]
    for clip in clips:
        results = [
            Result(**{**result, "rungs": [Rung(**rung) for rung in result["rungs"]]})
            for result in clip["results"]
        ]
        parts += [
            f"### {clip['title']}",
            figures.markdown_table(figures.cost_rows(results, PER_RUNG.key)),
            figures.markdown_table(figures.quality_rows(results)),
            figures.markdown_table(figures.aim_rows(figures.aims(results, clip["frames"]))),
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
