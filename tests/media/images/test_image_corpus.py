"""Every picture of the media corpus through the engine, held against what other programs make.

What must come out stands in expected.tsv, which people filled in from other programs and from
looking at the pictures. The bounds on colour are those that were promised: ΔE2000 at most 2 in the
mean and 6 for 99 of 100 pixels. A table of all that was made is written to out/image-corpus.tsv;
with TELECINE_LONG=1 (`make test-image-corpus`) every operation is tried in every format.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import ROOT
from tests.media.images import references
from tests.media.images.colour import Difference, Pixels, compare
from tests.media.images.expecting import LONG, QUICK, Expected, read_expected
from tests.media.images.references import Reading
from tests.thorough import thorough_but

from telecine.engine.errors import MediaError
from telecine.engine.images.operations import (
    Convert,
    CropTo,
    Flip,
    Frames,
    Grayscale,
    Operation,
    Resize,
    Rotate,
    Thumbnail,
    Watermark,
)
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import inspect, transform
from telecine.engine.images.values import ImageLimits, Made, Wanted
from telecine.engine.tools import Tools

pytestmark = [
    pytest.mark.needs("convert", "identify", "djxl", "heif-convert", "opj_decompress"),
    pytest.mark.needs("rsvg-convert", "ffmpeg", "ffprobe", "tone_map"),
]

TABLE = read_expected()
PICTURES = [one for one in TABLE.values() if not one.code and (LONG or not one.slow)]
DRAWINGS = [one for one in TABLE.values() if one.code == "svg_refused"]
REFUSED = [one for one in TABLE.values() if one.code]

REFUSAL_S = 1.0
REFUSAL_BYTES = 300 << 20
TIME_SLACK_MS = {"webp": 1, "gif": 10}  # a GIF counts hundredths of a second
STILL = ("jpeg", "png", "avif", "tiff")
MOVING = ("webp", "gif")

# ΔE2000, mean and p99, at most where 256 colours are too few for the plain bounds, or where a large
# picture's dithering counts: 50 of 363 GIFs, of 11 pictures; as measured, the worst are 2.59 and
# 8.35. Of the five worst pictures the best of Pillow's (each method, k-means), ImageMagick's (RGB
# and Lab) and libimagequant's own choices, without dither, comes to 2.3 to 2.9 and 7.8 to 11.1.
PALETTE = (2.6, 8.5)


@pytest.fixture(scope="module")
def workers(tools: Tools) -> Iterator[ImageWorkers]:
    with ImageWorkers(tools, count=1, limits=ImageLimits()) as workers:
        yield workers


# --- the matrix -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """An operation and the format that shows it in a short run. `make` gives the operations for a
    picture of this size; `reference` does the same to another program's reading of it, given the
    size that the result must have."""

    name: str
    format: str
    make: Callable[[int, int], Sequence[Operation]]
    reference: Callable[[Pixels, int, int], Pixels]
    size: Callable[[int, int], tuple[int, int]]


def rounded(number: float) -> int:
    return max(1, math.floor(number + 0.5))


def within(side: int) -> Callable[[int, int], tuple[int, int]]:
    def size(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, side / width, side / height)
        return rounded(width * scale), rounded(height * scale)

    return size


def around(angle: float) -> Callable[[int, int], tuple[int, int]]:
    """The bounding box of a picture that was brought within 200 pixels before."""

    def size(width: int, height: int) -> tuple[int, int]:
        width, height = within(200)(width, height)
        sine, cosine = (abs(f(math.radians(angle))) for f in (math.sin, math.cos))
        across, down = width * cosine + height * sine, width * sine + height * cosine
        return math.ceil(across - 1e-6), math.ceil(down - 1e-6)

    return size


def small(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return references.resized(pixels, *within(200)(width, height))


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    side = min(64, width, height)  # never enlarged
    return side, side


def covering(pixels: Pixels, width: int, height: int) -> Pixels:
    """Scaled so that it just covers width × height: which part is shown, the content decides."""
    rows, columns = pixels.shape[:2]
    scale = max(width / columns, height / rows)
    return references.resized(pixels, rounded(columns * scale), rounded(rows * scale))


INSIDE = Resize(w=200, h=200)
CELLS = (
    Cell(
        "as it is", "png",
        lambda w, h: (),
        lambda p, w, h: p,
        lambda w, h: (w, h),
    ),
    Cell(
        "resize inside", "jpeg",
        lambda w, h: (INSIDE,),
        references.resized,
        within(200),
    ),
    Cell(
        "resize fill", "avif",
        lambda w, h: (Resize(w=120, h=90, fit="fill"),),
        references.resized,
        lambda w, h: (120, 90),
    ),
    Cell(
        "thumbnail", "webp",
        lambda w, h: (Thumbnail(w=64, h=64),),
        covering,
        thumbnail_size,
    ),
    Cell(
        "resize inside", "gif",
        lambda w, h: (Resize(w=96, h=96),),
        references.resized,
        within(96),
    ),
    Cell(
        "crop", "tiff",
        lambda w, h: (CropTo(w=max(1, w // 2), h=max(1, h // 2), x=w // 4, y=h // 4),),
        lambda p, w, h: p[p.shape[0] // 4 :, p.shape[1] // 4 :][:h, :w],
        lambda w, h: (max(1, w // 2), max(1, h // 2)),
    ),
    Cell(
        "rotate 90", "png",
        lambda w, h: (INSIDE, Rotate(angle=90)),
        lambda p, w, h: np.rot90(small(p), -1),
        around(90),
    ),
    Cell(
        "rotate 30", "png",
        lambda w, h: (INSIDE, Rotate(angle=30)),
        lambda p, w, h: references.turned(small(p), 30, w, h),
        around(30),
    ),
    Cell(
        "flip", "webp",
        lambda w, h: (INSIDE, Flip()),
        lambda p, w, h: small(p)[:, ::-1],
        within(200),
    ),
    Cell(
        "grayscale", "png",
        lambda w, h: (INSIDE, Grayscale()),
        lambda p, w, h: references.gray(small(p)),
        within(200),
    ),
    Cell(
        "watermark", "png",
        lambda w, h: (
            INSIDE, Watermark(text="Telecine", position="top-left", scale=0.5, color="ff00ff"),
        ),
        lambda p, w, h: small(p),
        within(200),
    ),
)  # fmt: skip


def matrix(expected: Expected) -> list[Cell]:
    """Short: each operation in one format; of what takes long to decode two. Long: each in each,
    an operation's formats one after another: they share what they are held against."""
    if not LONG:
        few = [cell for cell in CELLS if (cell.format in MOVING) == bool(expected.delays_ms)]
        return few[:2] if expected.large else list(CELLS)
    operations = {cell.name: cell for cell in reversed(CELLS)}
    every = [
        replace(cell, format=format)
        for cell in operations.values()
        for format in (*STILL, *MOVING)
    ]  # fmt: skip
    cells = [*CELLS, *(cell for cell in every if cell not in CELLS)]
    return sorted(cells, key=lambda cell: [*operations].index(cell.name))


def finish(format: str, frames: Frames) -> Convert:
    """How each format is written here: with as little loss of its own as it can, since what is
    judged is the way of the colours. At quality 95 the loss of JPEG alone is beyond the bounds in
    small pictures (Pillow's own: ΔE p99 6.3 to 7.1 at 200 pixels)."""
    match format:
        case "webp":
            return Convert(lossless=True, frames=frames)
        case "jpeg" | "avif":
            return Convert(quality=100, frames=frames)
        case _:
            return Convert(frames=frames)


# --- judging --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    path: str
    operation: str
    format: str
    result: str
    difference: str
    ms: int
    wrong: str


@pytest.fixture(scope="module")
def told() -> Iterator[list[Row]]:
    """The table of all that was tried: written where the corpus run of films writes its own."""
    rows: list[Row] = []
    yield rows
    target = ROOT / "out" / "image-corpus.tsv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writerow(["file", "operation", "format", "result", "difference", "ms", "wrong"])
        for row in rows:
            cells = (row.path, row.operation, row.format, row.result, row.difference, row.ms)
            writer.writerow([*cells, row.wrong.replace("\n", " ")])
    failed = sum(bool(row.wrong) for row in rows)
    print(f"image corpus: {len(rows) - failed} right, {failed} wrong of {len(rows)}")


def tell(told: list[Row], row: Row) -> None:
    told.append(row)
    print(
        f"{row.ms:6d} ms  {row.path}  {row.operation} {row.format}  {row.result}  {row.difference}"
    )
    if row.wrong:
        print(f"           WRONG: {row.wrong}")


def check(
    cell: Cell, expected: Expected, reading: Reading, made: Made, *, first: bool
) -> tuple[str, list[str]]:
    """How far the result is from the reference at most, and all that is wrong."""
    wrong: list[str] = []
    ours = references.pillow(io.BytesIO(made.data))
    with Image.open(io.BytesIO(made.data)) as image:
        named = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "AVIF": "avif", "GIF": "gif"}
        if named.get(image.format or "", "tiff") != cell.format:
            wrong.append(f"it is {image.format}")
        wrong += [f"{kind} is kept" for kind in ("exif", "xmp") if image.info.get(kind)]
    delays = () if first else expected.delays_ms
    shown, faults = timeline(ours, delays, cell.format)
    wrong += faults
    if made.frames != len(ours.frames):
        wrong.append(f"{made.frames} frames are told of, {len(ours.frames)} are there")
    width, height = cell.size(expected.width, expected.height)
    worst: Difference | None = None
    for number, at in shown.items():
        got = ours.frames[at]
        if got.shape[:2] != (height, width) or (made.width, made.height) != (width, height):
            return "", [f"{got.shape[1]}×{got.shape[0]} instead of {width}×{height}"]
        reference = referred(cell.reference, reading, number, width, height)
        far, faults = apart(cell, got, replace(reading, frames=(reference,)))
        wrong += [f"frame {number}: {fault}" for fault in faults]
        worst = far if worst is None or far.p99 > worst.p99 else worst
    return str(worst or ""), wrong


@functools.lru_cache(maxsize=4)
def referred(
    operation: Callable[[Pixels, int, int], Pixels],
    reading: Reading,
    number: int,
    width: int,
    height: int,
) -> Pixels:
    """What another program makes of a frame: once for all formats, which follow one another."""
    return operation(reading.frames[number], width, height)


def timeline(ours: Reading, delays: Sequence[int], format: str) -> tuple[dict[int, int], list[str]]:
    """Which of our frames shows each of the source's that is to be compared, and what is wrong
    with the times. libwebp joins frames that are alike: then all that were joined are compared."""
    if not delays:
        return {0: 0}, [f"{len(ours.frames)} frames"] if len(ours.frames) != 1 else []
    slack = TIME_SLACK_MS[format]
    starts, ends = ([0, *accumulate(each)] for each in (ours.delays_ms, delays))
    at = [bisect_right(starts[:-1], start + slack) - 1 for start in ends[:-1]]
    wrong = []
    if abs(starts[-1] - ends[-1]) > slack:
        wrong.append(f"{starts[-1]} ms instead of {ends[-1]}")
    if any(abs(starts[mine] - start) > slack for mine, start in zip(at, ends, strict=False)
           if at.count(mine) == 1):  # fmt: skip
        wrong.append(f"delays {ours.delays_ms[:9]}")
    if len(set(at)) != len(ours.frames) or (format == "gif" and len(at) != len(ours.frames)):
        wrong.append(f"{len(ours.frames)} frames instead of {len(at)}")
    looked = {0, len(at) // 2, len(at) - 1, *(n for n in range(len(at)) if at.count(at[n]) > 1)}
    return {number: at[number] for number in sorted(looked)}, wrong


def apart(cell: Cell, got: Pixels, reading: Reading) -> tuple[Difference, list[str]]:
    """How far a frame is from its reference, and what is wrong with it."""
    wrong, (reference,) = [], reading.frames
    if cell.name == "thumbnail":
        wanted = got.astype(np.int16)
        reference = min(
            references.windows(reference, *got.shape[1::-1]),
            key=lambda window: float(np.abs(window - wanted).mean()),
        )
    reference, got = references.known(reading, reference, got)
    if cell.format == "jpeg":  # it has no transparency; what it has instead is white
        reference, got = references.over_white(reference), references.over_white(got)
    if cell.format == "gif":  # a pixel is there or it is not
        some = (reference[..., 3] > 8) & (reference[..., 3] < 247)
        got, reference = got.copy(), reference.copy()
        got[some] = reference[some] = 0
    if cell.name == "watermark":
        middle = got.shape[1] * 2 // 3  # it may reach to half of the width
        written = compare(got[: len(got) // 2, :middle], reference[: len(got) // 2, :middle])
        if min(got.shape[:2]) >= 32 and written.p99 < 20:
            wrong.append("no watermark to be seen")
        got, reference = got[:, middle:], reference[:, middle:]
    far = compare(got, reference)
    if cell.format == "gif" and far.beyond() and far.mean <= PALETTE[0] and far.p99 <= PALETTE[1]:
        # What the eye sees from a little farther off holds the bounds all the same.
        seen = compare(*(references.averaged(each, 4) for each in (got, reference)))
        return far, wrong + seen.beyond()
    return far, wrong + far.beyond()


def refusal(workers: ImageWorkers, source: Path, wanted: Wanted) -> tuple[MediaError, float]:
    started = time.monotonic()
    with pytest.raises(MediaError) as caught:
        transform(workers, source, wanted)
    return caught.value, time.monotonic() - started


# --- the tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected", thorough_but(PICTURES, *QUICK, by="path"), ids=lambda one: one.path
)
def test_every_operation_on_every_picture(
    expected: Expected, corpus: Path, workers: ImageWorkers, told: list[Row]
) -> None:
    """Size, orientation, colour, alpha, frames and their times, in each cell of the matrix."""
    run(expected, corpus / expected.path, workers, told)


@pytest.mark.parametrize("expected", DRAWINGS, ids=lambda one: one.path)
def test_drawings_where_they_are_allowed(
    expected: Expected, corpus: Path, tools: Tools, told: list[Row]
) -> None:
    with ImageWorkers(tools, count=1, limits=ImageLimits(svg=True)) as workers:
        run(expected, corpus / expected.path, workers, told)


def drawn_size(first: Operation, expected: Expected) -> tuple[int, int]:
    """What scales a drawing first says how large it is drawn: it has no pixels of its own."""
    width, height = expected.width, expected.height
    match first:
        case Resize(w=int(across), h=int(down), fit="fill"):
            return across, down
        case Resize(w=int(side)):
            return within(side)(width, height)
        case Thumbnail(w=side):
            scale = max(side / width, side / height)
            return rounded(width * scale), rounded(height * scale)
        case _:
            return width, height


def run(expected: Expected, source: Path, workers: ImageWorkers, told: list[Row]) -> None:
    rows = []
    for cell in matrix(expected):
        first = bool(expected.delays_ms) and cell.format in STILL
        convert = finish(cell.format, "first" if first else "all")
        operations = (*cell.make(expected.width, expected.height), convert)
        wanted = Wanted(operations, cell.format)
        started = time.monotonic()
        try:
            made = transform(workers, source, wanted)
        except MediaError as error:
            spent = time.monotonic() - started
            outcome, far, wrong = error.code, "", [f"refused: {error}"]
        else:
            spent = time.monotonic() - started
            if expected in DRAWINGS:
                reading = references.rsvg_at(source, *drawn_size(operations[0], expected))
            else:
                reading = references.read(source, expected.readers[0])
            far, wrong = check(cell, expected, reading, made, first=first)
            outcome = f"{made.width}×{made.height}×{made.frames} {len(made.data)} B"
            if expected.warnings and not re.search(expected.warnings, " ".join(made.warnings)):
                wrong.append(f"no warning of /{expected.warnings}/ in {made.warnings}")
        row = (expected.path, cell.name, cell.format, outcome, far, round(1000 * spent))
        rows.append(Row(*row, "; ".join(wrong)))
        tell(told, rows[-1])
    assert not [f"{row.operation} {row.format}: {row.wrong}" for row in rows if row.wrong]


@pytest.mark.parametrize("expected", PICTURES, ids=lambda one: one.path)
def test_what_is_told_of_every_picture(
    expected: Expected, corpus: Path, workers: ImageWorkers
) -> None:
    info = inspect(workers, corpus / expected.path)
    assert (info.width, info.height) == (expected.width, expected.height)
    assert info.frames == expected.frames
    assert (info.orientation or None) == expected.orientation or expected.orientation in (None, 1)
    assert info.alpha or not expected.alpha
    if expected.delays_ms:
        assert info.duration_s == pytest.approx(sum(expected.delays_ms) / 1000, abs=0.011)
    else:
        assert info.duration_s is None


@pytest.mark.thorough
def test_all_eight_orientations_give_the_same_upright_picture(
    corpus: Path, workers: ImageWorkers
) -> None:
    sources = [corpus / "image" / "exifo" / f"Landscape_{number}.jpg" for number in range(1, 9)]
    made = [transform(workers, source, Wanted((), "png")) for source in sources]
    upright = [references.pillow(io.BytesIO(one.data)).frames[0] for one in made]
    # The eight are JPEGs that were turned and coded anew, which differ by that in each pixel.
    first, *others = (references.averaged(picture, 8) for picture in upright)
    ways = [np.rot90(first[:, ::step], turns) for step in (1, -1) for turns in (0, 2)]
    for number, picture in enumerate(others, 2):
        far = [compare(picture, way) for way in ways]
        assert not far[0].beyond(), f"Landscape_{number} is not as 1"
        assert min(each.mean for each in far[1:]) > 4 * far[0].mean  # and no other way is as near
    for number, picture in enumerate(upright):
        if LONG or number in (0, 5):  # ImageMagick takes a second for each
            judge = references.magick(sources[number]).frames[0]  # -auto-orient
            assert not compare(picture, judge).beyond(), sources[number].name


@pytest.mark.parametrize("expected", REFUSED, ids=lambda one: one.path)
def test_every_refusal_names_its_cause_at_once(
    expected: Expected, corpus: Path, workers: ImageWorkers, told: list[Row]
) -> None:
    source = corpus / expected.path
    error, spent = refusal(workers, source, Wanted((Resize(w=200),), "png"))
    tell(told, Row(expected.path, "refusal", "png", error.code, "", round(1000 * spent), ""))
    assert error.code == expected.code
    assert re.search(expected.cause, str(error)), error
    assert spent < REFUSAL_S


@pytest.mark.parametrize(
    "expected", [one for one in TABLE.values() if one.code == "too_many_pixels"],
    ids=lambda one: one.path,
)  # fmt: skip
def test_a_bomb_takes_no_memory(expected: Expected, corpus: Path, tools: Tools) -> None:
    with ImageWorkers(tools, count=1, limits=ImageLimits()) as workers:
        error, spent = refusal(workers, corpus / expected.path, Wanted((Resize(w=200),), "webp"))
        status = [Path(f"/proc/{pid}/status").read_text() for pid in workers.pids]
    assert error.code == expected.code
    assert spent < REFUSAL_S + 1  # the worker's start is in it
    peaks = [int(re.findall(r"VmHWM:\s+(\d+) kB", each)[0]) << 10 for each in status]
    assert all(peak < REFUSAL_BYTES for peak in peaks), peaks


@pytest.mark.parametrize("format", STILL)
@pytest.mark.parametrize(
    "expected", [one for one in PICTURES if one.delays_ms], ids=lambda one: one.path
)
def test_an_animation_is_never_one_frame_unasked(
    expected: Expected, format: str, corpus: Path, workers: ImageWorkers
) -> None:
    error, spent = refusal(workers, corpus / expected.path, Wanted((Resize(w=64),), format))
    assert error.code == "animation_lost"
    assert "moves" in str(error)
    assert spent < REFUSAL_S
