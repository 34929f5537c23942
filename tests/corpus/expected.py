"""What people wrote down about each file of the media corpus: tests/media/expected.tsv."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Expected:
    """One row of expected.tsv. Width and height are square pixels as a viewer should see them."""

    path: str
    outcomes: tuple[str, ...]  # of "ok", "ok-damaged", "refused": each is right
    cause: str  # pattern that the one line of a refusal must match
    kind: str  # "video" | "audio" | "" (refused)
    stream: str  # the picture that must be taken, as FFmpeg's filter graphs name it
    width: int
    height: int
    rotation: int  # degrees clockwise that made the picture upright, as seen
    mirrored: bool
    rates: tuple[tuple[float, float], ...]  # each lowest and highest right rate of the output
    durations_s: tuple[
        float, ...
    ]  # each is right: where sound outlasts a copied picture there are two
    offset_s: float | None  # start of the sound minus start of the picture
    audio: bool
    cover: bool
    warnings: str  # pattern that some warning must match
    grid_at_s: float | None  # after the first picture
    grid: tuple[int, ...]  # 4 × 4 luma of the upright picture there, row by row
    note: str

    @property
    def duration_s(self) -> float:
        """The longest that is right."""
        return max(self.durations_s, default=0.0)


def read_expected(table: Path) -> dict[str, Expected]:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"]: _expected(row) for row in rows}


def _expected(row: dict[str, str]) -> Expected:
    cell = {name: "" if value == "-" else value for name, value in row.items()}
    return Expected(
        path=cell["path"],
        outcomes=tuple(cell["outcome"].split("|")),
        cause=cell["cause"],
        kind=cell["kind"],
        stream=cell["stream"] or "v:0",
        width=int(cell["width"] or 0),
        height=int(cell["height"] or 0),
        rotation=int(cell["rotation"] or 0),
        mirrored=cell["mirrored"] == "yes",
        rates=tuple(_rates(part) for part in cell["fps"].split("|") if part),
        durations_s=tuple(float(part) for part in cell["duration_s"].split("|") if part),
        offset_s=float(cell["av_offset_s"]) if cell["av_offset_s"] else None,
        audio=cell["audio"] == "yes",
        cover=cell["cover"] == "yes",
        warnings=cell["warnings"],
        grid_at_s=float(cell["grid_at_s"]) if cell["grid_at_s"] else None,
        grid=tuple(bytes.fromhex(cell["grid"])),
        note=cell["note"],
    )


def _rates(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return _exact_rate(low), _exact_rate(high or low)


def _exact_rate(text: str) -> float:
    """23.976, 29.97 and 59.94 are short for the NTSC fractions."""
    value = float(text)
    ntsc = round(value * 1.001) / 1.001
    return ntsc if abs(ntsc - value) < 0.002 and value != round(value) else value
