"""Pure: measured runs → medians, ratios, aims and the tables that show them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Rung:
    height: int
    encoded: bool  # False: the source's own pictures
    frames: int
    video_bytes: int
    vmaf: float | None


@dataclass(frozen=True, slots=True)
class Ways:
    """Which contestant is which in the aims."""

    copied: str = "ours-copy"
    encoded: str = "ours-encode"
    av1: str = "ours-av1"
    per_rung: str = "per-rung"
    hand_written: str = "split"


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of one contestant on one clip. `failure` says why there are none."""

    key: str
    title: str
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_tree_bytes: list[float] = field(default_factory=list)
    peak_process_bytes: list[float] = field(default_factory=list)
    first_play_s: list[float] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)  # highest first
    failure: str | None = None

    @property
    def ran(self) -> bool:
        return self.failure is None and bool(self.cpu_s)


Verdict = Literal["met", "better", "not met"]


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    bar: str
    figure: str
    verdict: Verdict


CPU_COPIED = 0.55  # of one process per rung
CPU_ENCODED = 0.75
CPU_HAND_WRITTEN = 1.05  # of the hand-written command
CPU_AV1 = 1.0  # of one process per rung of H.264
BYTES_AV1 = 0.65  # of its bytes, at the same VMAF
VMAF_DIFFERENCE = 0.3
BYTES_DIFFERENCE = 0.05
FIRST_PLAY_COPIED_S = 2.0
FIRST_PLAY_ENCODED_S = 5.0


def aims(results: Sequence[Result], frames: int, ways: Ways | None = None) -> list[Aim]:
    """The aims of the project for one clip of `frames` pictures, with what was measured. An aim
    whose contestant did not run is not met; of one that nobody chose there is none."""
    ways = ways or Ways()
    by_key = {result.key: result for result in results}
    per_rung, hand_written = by_key.get(ways.per_rung), by_key.get(ways.hand_written)
    found: list[Aim] = []
    for key, name, cpu_bar, play_bar_s in (
        (ways.copied, "top copied", CPU_COPIED, FIRST_PLAY_COPIED_S),
        (ways.encoded, "top encoded", CPU_ENCODED, FIRST_PLAY_ENCODED_S),
    ):
        ours = by_key.get(key)
        if ours is None:
            continue
        if not ours.ran:
            found.append(Aim(f"{name}: it runs", "yes", "no", "not met"))
            continue
        if per_rung is not None:
            found.append(_cpu_aim(f"{name}: CPU, of one process per rung", ours, per_rung, cpu_bar))
        if key == ways.encoded and hand_written is not None:
            what = f"{name}: CPU, of the hand-written command"
            found.append(_cpu_aim(what, ours, hand_written, CPU_HAND_WRITTEN))
        found.append(_first_play_aim(name, ours, play_bar_s))
        if per_rung is not None and per_rung.ran:
            found.extend(_rung_aims(name, ours, per_rung, frames))
    av1 = by_key.get(ways.av1)
    if av1 is not None and not av1.ran:
        found.append(Aim("AV1 and H.264: it runs", "yes", "no", "not met"))
    elif av1 is not None and per_rung is not None:
        found.append(
            _cpu_aim("AV1 and H.264: CPU, of one process per rung of H.264", av1, per_rung, CPU_AV1)
        )
        found.append(_bytes_aim(av1, per_rung))
    return found


def _bytes_aim(ours: Result, other: Result) -> Aim:
    what, bar = "AV1: bytes at equal VMAF, of one process per rung of H.264", f"≤ {BYTES_AV1:.2f} ×"
    ratio = bytes_at_equal_vmaf(ours.rungs, other.rungs)
    if ratio is None:
        return Aim(what, bar, "not measured", "not met")
    return Aim(what, bar, f"{ratio:.3f} ×", _verdict(ratio <= BYTES_AV1))


def bytes_at_equal_vmaf(ours: Sequence[Rung], theirs: Sequence[Rung]) -> float | None:
    """How many times the bytes of `theirs` `ours` take, the geometric mean over all qualities that
    both reach; None where they have none in common.

    Bjøntegaard's delta rate (VCEG-M33) with straight lines from rung to rung instead of a cubic.
    """
    curves = [_curve(ours), _curve(theirs)]
    if not all(curves):
        return None
    least = max(curve[0][0] for curve in curves)
    most = min(curve[-1][0] for curve in curves)
    if most <= least:
        return None
    inner = {vmaf for curve in curves for vmaf, _ in curve if least < vmaf < most}
    knots = [least, *sorted(inner), most]
    change = [(v, _log_bytes(curves[0], v) - _log_bytes(curves[1], v)) for v in knots]
    area = sum((b - a) * (before + after) / 2 for (a, before), (b, after) in pairwise(change))
    return math.exp(area / (most - least))


def _curve(rungs: Sequence[Rung]) -> list[tuple[float, float]]:
    """(VMAF, logarithm of bytes), from the lowest quality."""
    return sorted((r.vmaf, math.log(r.video_bytes)) for r in rungs if r.vmaf is not None)


def _log_bytes(curve: Sequence[tuple[float, float]], vmaf: float) -> float:
    (left, low), (right, high) = next(
        (before, after)
        for before, after in pairwise(curve)
        if before[0] <= vmaf <= after[0] > before[0]
    )
    return low + (high - low) * (vmaf - left) / (right - left)


def _cpu_aim(what: str, ours: Result, other: Result, bar: float) -> Aim:
    if not other.ran:
        return Aim(what, f"≤ {bar:.2f} ×", "not run", "not met")
    ratio = statistics.median(ours.cpu_s) / statistics.median(other.cpu_s)
    return Aim(what, f"≤ {bar:.2f} ×", f"{ratio:.3f} ×", _verdict(ratio <= bar))


def _first_play_aim(name: str, ours: Result, bar_s: float) -> Aim:
    what = f"{name}: time to first play"
    if len(ours.first_play_s) < len(ours.cpu_s):
        return Aim(what, f"≤ {bar_s:.0f} s", "not in every run", "not met")
    first_s = statistics.median(ours.first_play_s)
    return Aim(what, f"≤ {bar_s:.0f} s", f"{first_s:.2f} s", _verdict(first_s <= bar_s))


def _rung_aims(name: str, ours: Result, other: Result, frames: int) -> list[Aim]:
    counterparts = {rung.height: rung for rung in other.rungs}
    bar = f"VMAF ± {VMAF_DIFFERENCE}, bytes ± {BYTES_DIFFERENCE:.0%}, {frames} pictures"
    found = []
    for rung in ours.rungs:
        if not rung.encoded:
            continue
        what = f"{name}: {rung.height}p beside its counterpart"
        counterpart = counterparts.get(rung.height)
        if counterpart is None or rung.vmaf is None or counterpart.vmaf is None:
            found.append(Aim(what, bar, "not measured", "not met"))
            continue
        vmaf_change = rung.vmaf - counterpart.vmaf
        bytes_change = rung.video_bytes / counterpart.video_bytes - 1
        figure = f"VMAF {vmaf_change:+.2f}, bytes {bytes_change:+.1%}, {rung.frames} pictures"
        verdict = rung_verdict(vmaf_change, bytes_change) if rung.frames == frames else "not met"
        found.append(Aim(what, bar, figure, verdict))
    return found


def rung_verdict(vmaf_change: float, bytes_change: float) -> Verdict:
    """`met` inside both bars; `better` outside them only on the good side, which is more quality
    or fewer bytes than its counterpart; else `not met`."""
    if vmaf_change < -VMAF_DIFFERENCE or bytes_change > BYTES_DIFFERENCE:
        return "not met"
    inside = vmaf_change <= VMAF_DIFFERENCE and bytes_change >= -BYTES_DIFFERENCE
    return "met" if inside else "better"


def _verdict(reached: bool) -> Verdict:
    return "met" if reached else "not met"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of the service for each run; its median is held against a bound, if it has one."""

    what: str
    unit: str
    figures: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def verdict(self) -> Verdict | None:
        """None: there is no bound. A figure that is no number meets none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.median >= self.at_least
        below = self.at_most is None or self.median <= self.at_most
        return _verdict(above and below)

    def cells(self) -> list[str]:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        aim = ", ".join(
            f"{sign} {bound:g} {self.unit}".rstrip() for sign, bound in bounds if bound is not None
        )
        return [
            self.what,
            f"{self.median:.4g} {self.unit}".rstrip(),
            f"{min(self.figures):.4g} to {max(self.figures):.4g}",
            aim,
            _told(self.verdict),
        ]


ROW_HEAD = ["what", "median", "spread", "aim", ""]


def _told(verdict: Verdict | None) -> str:
    return "**not met**" if verdict == "not met" else verdict or ""


# --- a server beside another one ----------------------------------------------------------------


@dataclass(slots=True)
class Cell:
    """The figures of one server in one setting, a value for each round."""

    rate: list[float] = field(default_factory=list)  # requests a second
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def add(self, taken_s: Sequence[float], wall_s: float) -> None:
        """A round: how long each answer took, and all of them together."""
        taken = sorted(taken_s)
        self.rate.append(len(taken) / wall_s)
        self.p50_ms.append(taken[len(taken) // 2] * 1000)
        self.p99_ms.append(taken[len(taken) * 99 // 100] * 1000)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Of each round: both had the same machine then."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


@dataclass(frozen=True, slots=True)
class Beside:
    """One setting: both servers' figures, and ours as multiples of another's, for each round."""

    what: str
    ours: Cell
    theirs: Cell
    at_least: float | None = None  # of the rate

    @property
    def times(self) -> list[float]:
        return ratios(self.ours.rate, self.theirs.rate)

    @property
    def verdict(self) -> Verdict | None:
        if self.at_least is None:
            return None
        return _verdict(statistics.median(self.times) >= self.at_least)

    def cells(self) -> list[str]:
        aim = "" if self.at_least is None else f"≥ {self.at_least:g} ×"
        pairs = (
            (self.ours.rate, self.theirs.rate),
            (self.ours.p50_ms, self.theirs.p50_ms),
            (self.ours.p99_ms, self.theirs.p99_ms),
        )
        figures = [f"{statistics.median(each):.4g}" for pair in pairs for each in pair]
        return [
            *(self.what, *figures[:2], spread(self.times), *figures[2:]),
            *(aim, _told(self.verdict)),
        ]


BESIDE_HEAD = [
    *("pictures", "requests a second", "thumbor's", "×", "p50 ms", "thumbor's"),
    *("p99 ms", "thumbor's", "aim", ""),
]


# --- tables -----------------------------------------------------------------------------------


def cost_rows(results: Sequence[Result], base_key: str) -> list[list[str]]:
    """One row a contestant: CPU, wall, memory, time to first play; ratios to `base_key`."""
    head = ["way", "CPU s", "×", "wall s", "×", "peak memory MB (tree / largest)", "first play s"]
    base = next((r for r in results if r.key == base_key and r.ran), None)
    rows = [head]
    for result in results:
        if not result.ran:
            rows.append([result.title, f"not run: {result.failure}", *[""] * (len(head) - 2)])
            continue
        rows.append(
            [
                result.title,
                spread(result.cpu_s),
                _ratio(result.cpu_s, base.cpu_s if base else None),
                spread(result.wall_s),
                _ratio(result.wall_s, base.wall_s if base else None),
                f"{statistics.median(result.peak_tree_bytes) / MB:.0f} / "
                f"{statistics.median(result.peak_process_bytes) / MB:.0f}",
                spread(result.first_play_s) if result.first_play_s else "never",
            ]
        )
    return rows


def quality_rows(results: Sequence[Result]) -> list[list[str]]:
    """One row a contestant, one column a rung: bytes of its pictures and VMAF."""
    ran = [result for result in results if result.ran]
    heights = sorted({rung.height for result in ran for rung in result.rungs}, reverse=True)
    rows = [["way: kB of pictures · VMAF", *(f"{height}p" for height in heights)]]
    for result in ran:
        rungs: Mapping[int, Rung] = {rung.height: rung for rung in result.rungs}
        rows.append([result.title, *(_rung_cell(rungs.get(height)) for height in heights)])
    return rows


def _rung_cell(rung: Rung | None) -> str:
    if rung is None:
        return "–"
    size = f"{rung.video_bytes / 1000:.0f}"
    if not rung.encoded:
        return f"{size} · the source's"
    return f"{size} · {rung.vmaf:.2f}" if rung.vmaf is not None else size


def aim_rows(found: Sequence[Aim]) -> list[list[str]]:
    rows = [["aim", "bar", "measured", ""]]
    rows.extend([a.what, a.bar, a.figure, _told(a.verdict)] for a in found)
    return rows


def spread(values: Sequence[float]) -> str:
    """`median (min–max)`, or the value alone when there is one."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _ratio(values: Sequence[float], base: Sequence[float] | None) -> str:
    if base is None:
        return ""
    return f"{statistics.median(values) / statistics.median(base):.2f}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join(markdown_row(row) for row in (head, ["---"] * len(head), *body))


def markdown_row(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"
