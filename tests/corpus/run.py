"""Every file of the media corpus through `telecine`, judged by `verify` and by the oracle.

    python -m tests.corpus.run [--long] [--keep FOLDER] [PART-OF-A-PATH …]

The corpus is found by the environment variable TELECINE_MEDIA or else at ../shared/media next to
the checkout. Each file is transcoded in a child process that is watched from outside: wall time,
resident memory of its whole tree, what outlives it. A file fails on a crash, a hang, a process left
behind, an output that `verify --decode` or the oracle finds wrong, or a refusal that names no
cause, takes more than 10 s or 1 GB. The table is printed and written to out/corpus.tsv; the exit
status is 1 if any file failed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import imageio_ffmpeg
from tests.corpus.expected import Expected, read_expected
from tests.corpus.oracle import Findings, Programs, examine
from tests.corpus.reading import run_program
from tests.processes import family, left_of, name_of, resident_bytes

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "media" / "expected.tsv"

REFUSAL_WALL_S = 10.0  # issue: within 10 s and 1 GB of memory whatever the file claims
REFUSAL_BYTES = 1 << 30
REFUSED = 3
HANG_S = 240.0
HANG_PER_SOURCE_S = 15.0
LONG_S = 100.0  # longer ones are cut unless asked for
CUT_S = 20.0


def find_corpus() -> Path:
    return Path(os.environ.get("TELECINE_MEDIA") or ROOT.parent / "shared" / "media")


# --- a watched child ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watched:
    """How a command ended. `peak_bytes`: resident pages of its tree, added up every 20 ms, or what
    the kernel saw of its largest single process if that is more. `left`: processes that outlived
    it. `status` is None where it hung and was killed."""

    status: int | None
    stdout: str
    stderr: str
    wall_s: float
    peak_bytes: int
    left: tuple[str, ...]


def watch(argv: Sequence[str], limit_s: float) -> Watched:
    """Run a command to its end, or kill it and all it started after `limit_s`. Nothing of it is
    left running when this ends, whichever way."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        peak, members, status, hung = 0, family(child.pid), None, False
        try:
            while status is None:
                living = family(child.pid)
                members.update(living)
                peak = max(peak, sum(map(resident_bytes, living)))
                ended, code, usage = os.wait4(child.pid, os.WNOHANG)
                if ended:
                    status = os.waitstatus_to_exitcode(code)
                    peak = max(peak, usage.ru_maxrss * 1024)
                    child.returncode = status
                elif time.monotonic() - started > limit_s:
                    hung = True
                    _kill(members)
                time.sleep(0.02)
            wall_s = time.monotonic() - started
            left = [f"{name_of(pid)} ({pid})" for pid in _outliving(members)]
        finally:
            _kill(members)
        said, told = _text(stdout), _text(stderr)
    return Watched(None if hung else status, said, told, wall_s, peak, tuple(left))


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _outliving(members: dict[int, int]) -> list[int]:
    """Who is still there a moment after the command ended: killed processes take some ms to go."""
    for _ in range(25):
        if not (left := left_of(members)):
            break
        time.sleep(0.02)
    return left


def _kill(members: dict[int, int]) -> None:
    """Those that still live: a pid that was used again is another process."""
    for pid in left_of(members):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


# --- judging ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    path: str
    result: str  # "ok", "ok-damaged", "refused"; what is wrong stands in `wrong`
    seconds: float
    peak_mb: int
    what: str
    warnings: tuple[str, ...]
    wrong: tuple[str, ...]


def judge(source: Path, folder: Path, expected: Expected, telecine: str, programs: Programs) -> Row:
    """Transcode one file into `folder` (which must not exist) and say everything that is wrong."""
    limit_s = HANG_S + HANG_PER_SOURCE_S * expected.duration_s
    done = watch([telecine, "transcode", str(source), "-o", str(folder)], limit_s)
    found = Findings()
    found.check(not done.left, f"left behind: {', '.join(done.left)}")
    found.check("Traceback" not in done.stderr, "a traceback")
    result = "crashed"
    warnings: tuple[str, ...] = ()
    if done.status is None:
        found.wrong.append(f"hung: killed after {limit_s:.0f} s")
    elif done.status == REFUSED:
        result = "refused"
        _judge_refusal(done, folder, expected, found)
    elif done.status == 0 and not expected.kind:
        result = "ok"
    elif done.status == 0:
        warnings = _judge_output(source, folder, expected, telecine, programs, found)
        result = "ok-damaged" if "ok-damaged" in expected.outcomes else "ok"
    else:
        found.wrong.append(f"exit {done.status}: {done.stderr.strip()[-300:]}")
    if result != "crashed":
        found.check(
            result in expected.outcomes, f"{result}, expected {'|'.join(expected.outcomes)}"
        )
    what = done.stderr.strip() if result == "refused" else _what(found)
    return Row(
        expected.path,
        result,
        done.wall_s,
        done.peak_bytes >> 20,
        what,
        tuple(warnings),
        tuple(found.wrong),
    )


def _judge_refusal(done: Watched, folder: Path, expected: Expected, found: Findings) -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    found.check(len(lines) == 1, f"{len(lines)} lines instead of one: {lines[:3]}")
    told = " ".join(lines)
    cause = expected.cause or "."
    found.check(re.search(cause, told, re.I) is not None, f"cause not named: {told!r}")
    found.check(done.wall_s <= REFUSAL_WALL_S, f"refused after {done.wall_s:.1f} s")
    found.check(done.peak_bytes <= REFUSAL_BYTES, f"refused with {done.peak_bytes >> 20} MB")
    found.check(not folder.exists(), "a refused source left a folder")


def _judge_output(
    source: Path,
    folder: Path,
    expected: Expected,
    telecine: str,
    programs: Programs,
    found: Findings,
) -> tuple[str, ...]:
    """Both judges and the report; returns the report's warnings."""
    checked = watch([telecine, "verify", str(folder), "--decode"], HANG_S)
    said = (checked.stdout + checked.stderr).strip().splitlines()
    found.check(checked.status == 0, f"verify: exit {checked.status}: {' / '.join(said[-3:])}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    warnings = tuple(str(one) for one in report["warnings"])
    if expected.warnings:
        told = " ".join(warnings)
        named = re.search(expected.warnings, told, re.I) is not None
        found.check(named, f"no warning of /{expected.warnings}/ in {warnings}")
    if expected.cover:
        told = " ".join(report["source"])
        found.check("cover" in told, f"cover art is not reported: {told}")
    seen = examine(folder, source, expected, programs)
    found.wrong += seen.wrong
    found.figures |= seen.figures
    return warnings


def _what(found: Findings) -> str:
    names = ("rungs", "rate", "duration_s", "av_ms", "upright")
    return " ".join(f"{name}={found.figures[name]}" for name in names if name in found.figures)


# --- the run ------------------------------------------------------------------------------------


def prepare(
    source: Path, expected: Expected, scratch: Path, ffmpeg: str, *, whole: bool
) -> tuple[Path, Expected]:
    """The file itself, or its first 20 s by stream copy where it is a long one."""
    if whole or expected.duration_s <= LONG_S:
        return source, expected
    cut = scratch / f"cut{source.suffix}"
    argv = [ffmpeg, "-v", "error", "-nostdin", "-y", "-i", str(source), "-t", str(CUT_S)]
    _, said = run_program([*argv, "-c", "copy", str(cut)])
    if not cut.exists():
        raise RuntimeError(f"{source.name} cannot be cut: {said}")
    return cut, replace(expected, durations_s=(CUT_S,))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help="only files whose path contains one of these")
    long = os.environ.get("TELECINE_LONG") == "1"
    parser.add_argument("--long", action="store_true", default=long, help="the long files whole")
    parser.add_argument("--keep", type=Path, help="keep the outputs in this folder")
    beside = Path(sys.executable).parent / "telecine"
    parser.add_argument("--telecine", type=Path, default=beside, help="the command to try")
    chosen = parser.parse_args()
    corpus = find_corpus()
    if not corpus.is_dir():
        print(f"not run: no media corpus at {corpus}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    missing = [name for name in ("ffmpeg", "ffprobe", "mediainfo") if not shutil.which(name)]
    if missing:
        print(f"not run: the oracle needs {', '.join(missing)}", file=sys.stderr)
        return 1
    table = read_expected(TABLE)
    unknown = _files(corpus) ^ set(table)
    if unknown:
        print(f"expected.tsv and the corpus differ: {sorted(unknown)[:5]}", file=sys.stderr)
        return 1
    wanted = [
        one for path, one in table.items()
        if not chosen.parts or any(part in path for part in chosen.parts)
    ]  # fmt: skip
    rows = _judge_all(wanted, corpus, str(chosen.telecine), chosen.keep, whole=chosen.long)
    _write(rows, ROOT / "out" / "corpus.tsv")
    failed = sum(bool(row.wrong) for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or not rows else 0


def _files(corpus: Path) -> set[str]:
    """Every file of the three folders: one that the table forgets would never be tried."""
    return {
        path.relative_to(corpus).as_posix()
        for folder in ("video", "audio", "bad")
        for path in (corpus / folder).rglob("*")
        if path.is_file()
    }


def _judge_all(
    wanted: Sequence[Expected], corpus: Path, telecine: str, keep: Path | None, *, whole: bool
) -> list[Row]:
    packaged = imageio_ffmpeg.get_ffmpeg_exe()
    programs = Programs(source_ffmpeg=packaged)
    rows = []
    for number, expected in enumerate(wanted, 1):
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            source, adapted = prepare(
                corpus / expected.path, expected, scratch, packaged, whole=whole
            )
            folder = (keep / _label(expected.path)) if keep else scratch / "output"
            shutil.rmtree(folder, ignore_errors=True)
            row = judge(source, folder, adapted, telecine, programs)
        rows.append(row)
        _show(row, number, len(wanted))
    return rows


def _label(path: str) -> str:
    """A folder name for an output: names in the corpus hold quotes, spaces and glob characters."""
    digest = hashlib.sha256(path.encode()).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9.]+", "_", path) + "_" + digest


def _show(row: Row, number: int, count: int) -> None:
    state = "FAIL" if row.wrong else "pass"
    figures = f"{row.seconds:6.1f} s {row.peak_mb:5d} MB"
    print(f"{number:3d}/{count} {state} {row.result:10s} {figures}  {row.path}  {row.what}")
    for line in row.warnings:
        print(f"          warning: {line}")
    for line in row.wrong:
        print(f"          WRONG: {line}")
    sys.stdout.flush()


def _write(rows: Sequence[Row], table: Path) -> None:
    table.parent.mkdir(exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writerow(["file", "result", "seconds", "peak_mb", "warnings", "what", "wrong"])
        for row in rows:
            state = "FAIL" if row.wrong else row.result
            warnings, wrong = "; ".join(row.warnings), "; ".join(row.wrong)
            cells = [row.path, state, f"{row.seconds:.1f}", row.peak_mb, warnings, row.what, wrong]
            writer.writerow([str(cell).replace("\n", " ") for cell in cells])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    sys.exit(main())
