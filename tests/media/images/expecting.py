"""What people wrote down about each picture of the corpus: expected.tsv beside this."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("expected.tsv")
LONG = os.environ.get("TELECINE_LONG") == "1"

LARGE = 4_000_000  # pixels of all frames
SLOW = ("libjxl-pq",)  # a reader that takes a quarter of a minute

# One of each format and peculiarity, of those that are quick to read; `make test-thorough` has all.
QUICK = {
    "image/exifo/Landscape_6.jpg",
    "image/filetype/fixture-yuv420-8bit.avif",
    "image/filetype/fixture.apng",
    "image/filetype/fixture.psd",
    "image/immich/denali.webp",
    "image/immich/portrait-orientation-6.jpg",
    "image/jxlt/R2020-sRGB-color-bars.png",
    "image/sharp/16-bit-grey-alpha.png",
    "image/sharp/Channel_digital_image_CMYK_color.jpg",
    "image/sharp/G31D_MULTI.TIF",
    "image/sharp/relax.jp2",
    "image/sharp/rotating-squares.webp",
    "image/vips/big-height.webp",
    "image/vips/dispose-background.gif",
    "image/vips/favicon.ico",
    "image/vips/indexed.png",
    "image/vips/looks-like-svg.webp",
    "image/vips/rgba.png",
    "image/vips/sample.jpg",
    "bad/vips/truncated.jpg",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """One row. Width and height are those of the upright picture as a viewer should see it."""

    path: str
    code: str  # of the refusal; empty: a picture
    cause: str  # pattern that the refusal's message must match
    width: int
    height: int
    orientation: int | None  # what the file's EXIF says
    frames: int
    delays_ms: tuple[int, ...]  # empty for a still picture
    alpha: bool  # whether something of it is transparent
    readers: tuple[str, ...]  # whose reading of it is right: names in `references.READERS`
    warnings: str  # pattern that some warning must match
    note: str

    @property
    def large(self) -> bool:
        return self.width * self.height * self.frames > LARGE

    @property
    def slow(self) -> bool:
        return bool(set(self.readers) & set(SLOW))


def read_expected(table: Path = TABLE) -> dict[str, Expected]:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"]: _expected(row) for row in rows}


def _expected(row: dict[str, str]) -> Expected:
    cell = {name: "" if value == "-" else value for name, value in row.items()}
    return Expected(
        path=cell["path"],
        code="" if cell["outcome"] == "ok" else cell["outcome"],
        cause=cell["cause"],
        width=int(cell["width"] or 0),
        height=int(cell["height"] or 0),
        orientation=int(cell["exif_orientation"]) if cell["exif_orientation"] else None,
        frames=int(cell["frames"] or 0),
        delays_ms=_delays(cell["delays_ms"]),
        alpha=cell["alpha"] == "yes",
        readers=tuple(part for part in cell["readers"].split("|") if part),
        warnings=cell["warnings"],
        note=cell["note"],
    )


def _delays(text: str) -> tuple[int, ...]:
    """`120*2,90` is 120, 120, 90."""
    runs = [part.partition("*") for part in text.split(",") if part]
    return tuple(int(delay) for delay, _, count in runs for _ in range(int(count or 1)))
