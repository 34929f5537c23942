"""A watermark on the film: every pixel as arithmetic says, in every size, the poster and the
storyboard.

Film and watermark are of flat colours. What is expected follows from alpha compositing and the
matrices of BT.601 and BT.709 alone; numpy and Pillow paint and read, nothing of Telecine's does.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.media.framecode import frames, make
from tests.media.hlsdir import read_output
from tests.media.running import telecine

RGB = tuple[int, int, int]
YUV = tuple[float, float, float]

MARK = 80, 40
# Of the watermark's four bands: colour and alpha. What cannot be seen is white: it must not shine
# through at the edges.
BANDS: tuple[tuple[RGB, float], ...] = (
    ((220, 30, 30), 1.0),
    ((30, 60, 220), 0.5),
    ((255, 255, 255), 0.0),
    ((20, 200, 40), 0.25),
)
FILM: RGB = (96, 112, 144)
SECONDS = 7  # two segments, one chunk
TOLERANCE = 4  # of 219 steps: what lossy encoders leave of flat colours


def yuv(colour: RGB, red: float, blue: float) -> YUV:
    """BT.601 and BT.709 are the same but for the weights of red and blue; video range."""
    r, g, b = (part / 255 for part in colour)
    luma = red * r + (1 - red - blue) * g + blue * b
    return (
        16 + 219 * luma,
        128 + 224 * (b - luma) / (2 * (1 - blue)),
        128 + 224 * (r - luma) / (2 * (1 - red)),
    )


MATRICES = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114)}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    size: tuple[int, int]
    matrix: str
    encoder: Sequence[str]
    mark: str
    opacity: float
    place: tuple[int, int, int, int]  # of the watermark on the top rung: x, y, width, height
    options: Sequence[str] = ()
    rungs: int = 2
    tagged: bool = True
    rotation: int = 0
    width: int = 0  # of the top rung, where it is not that of `size`


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "6")
CASES = (
    # A quarter of 640 is 160 × 80; the margin is a fortieth of 360: 9, so 8.
    Case("top-right", (640, 360), "smpte170m", (*X264, "-pix_fmt", "yuv420p"),
         "top-right,0.8,0.25", 0.8, (640 - 160 - 8, 8, 160, 80)),
    # Untagged HD is taken for BT.709. The margin is a fortieth of 720: 18.
    Case("untagged-hd", (1280, 720), "bt709", (*X264, "-pix_fmt", "yuv420p"),
         "bottom-left,1,0.2", 1.0, (18, 720 - 128 - 18, 256, 128), tagged=False, rungs=4),
    Case("ten-bits-every-codec", (640, 360), "bt709", (*X264, "-pix_fmt", "yuv420p10le"),
         "center,.5,0.25", 0.5, (240, 140, 160, 80),
         options=("--codec", "h264,av1,hevc"), rungs=6),
    Case("444", (640, 360), "bt709", (*X264, "-pix_fmt", "yuv444p"),
         "top-left,1,0.25", 1.0, (8, 8, 160, 80)),
    # Pixels are 4:3: 480 of them are as wide as 640.
    Case("pixels-no-squares", (480, 360), "smpte170m",
         (*X264, "-pix_fmt", "yuv420p", "-aspect", "16:9"),
         "bottom-right,1,0.25", 1.0, (640 - 160 - 8, 360 - 80 - 8, 160, 80), width=640),
    Case("turned", (360, 640), "smpte170m", (*X264, "-pix_fmt", "yuv420p"),
         "top-left,0.6,0.25", 0.6, (8, 8, 160, 80), rotation=90, width=640),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    case: Case
    folder: Path


def paint_mark(path: Path) -> None:
    width, height = MARK
    pixels = np.zeros((height, width, 4), np.uint8)
    for n, (colour, alpha) in enumerate(BANDS):
        pixels[:, n * width // 4 : (n + 1) * width // 4] = (*colour, round(alpha * 255))
    Image.fromarray(pixels, "RGBA").save(path)


def paint_film(case: Case, path: Path, ffmpeg: str) -> None:
    red, blue = MATRICES[case.matrix]
    y, u, v = (round(part) for part in yuv(FILM, red, blue))
    width, height = case.size
    frame = np.concatenate(
        [np.full(width * height, y, np.uint8), np.full(width * height // 4, u, np.uint8),
         np.full(width * height // 4, v, np.uint8)]
    ).tobytes()  # fmt: skip
    argv = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    argv += ["-video_size", f"{width}x{height}", "-framerate", "10", "-i", "pipe:0"]
    if case.tagged:
        m = case.matrix
        said = f"setparams=colorspace={m}:color_primaries={m}:color_trc={m}:range=tv"
        argv += ["-vf", said]
    flat = path.with_name("flat.mp4")
    argv += [*case.encoder, str(flat)]
    subprocess.run(argv, input=frame * (10 * SECONDS), check=True, timeout=60)
    turned = ["-display_rotation", str(-case.rotation)] if case.rotation else []
    subprocess.run(
        [ffmpeg, "-v", "error", *turned, "-i", str(flat), "-c", "copy", str(path)],
        check=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Made:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("watermarks")
    paint_mark(folder / "mark: [v];x.png")
    paint_film(case, folder / "film.mp4", ffmpeg)
    run = telecine(
        *("transcode", folder / "film.mp4", "-o", folder / "out", "--output", "hls"),
        *("--output", "poster", "--output", "storyboard"),
        *("--watermark", f"{folder / 'mark: [v];x.png'}:{case.mark}", *case.options),
        timeout_s=180,
    )
    assert run.code == 0, run.out + run.err
    return Made(case, folder / "out")


def decoded(film: bytes, ffmpeg: str) -> tuple[NDArray[np.uint8], ...]:
    """The planes of a picture in the film's middle, as they are coded."""
    size = subprocess.run(
        [ffmpeg, "-v", "info", "-i", "pipe:0", "-vf", "showinfo", "-frames:v", "1", "-f", "null",
         "-"], input=film, capture_output=True, timeout=60, check=True,
    ).stderr.decode()  # fmt: skip
    width, height = (int(side) for side in size.split(" s:")[1].split()[0].split("x"))
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"],
        input=film, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    one = width * height * 3 // 2
    frames = np.frombuffer(raw, np.uint8).reshape(-1, one)
    assert len(frames) == 10 * SECONDS
    frame, luma = frames[len(frames) // 2], width * height
    return (
        frame[:luma].reshape(height, width),
        frame[luma : luma * 5 // 4].reshape(height // 2, width // 2),
        frame[luma * 5 // 4 :].reshape(height // 2, width // 2),
    )


def composited(case: Case) -> list[YUV]:
    """Of each band, and last of the film beside it."""
    red, blue = MATRICES[case.matrix]
    film = yuv(FILM, red, blue)
    found = []
    for colour, alpha in BANDS:
        over, share = yuv(colour, red, blue), alpha * case.opacity
        y, u, v = (share * a + (1 - share) * b for a, b in zip(over, film, strict=True))
        found.append((y, u, v))
    return [*found, film]


def seen(planes: Sequence[NDArray[np.uint8]], case: Case, scale: float) -> list[YUV]:
    """The means of each band's inner half, and of the film's corner that has no watermark."""
    x, y, width, height = (side * scale for side in case.place)
    found = []
    for n in range(len(BANDS)):
        left, right = x + width * (n + 0.25) / 4, x + width * (n + 0.75) / 4
        found.append(mean(planes, left, right, y + height / 4, y + height * 3 / 4))
    tall, wide = planes[0].shape
    away = 0.02 if x > wide / 3 or case.mark.startswith("center") else 0.8
    low = 0.1 if y > tall / 3 or case.mark.startswith("center") else 0.7
    return [*found, mean(planes, wide * away, wide * (away + 0.15), tall * low, tall * (low + 0.2))]


def mean(
    planes: Sequence[NDArray[np.uint8]], left: float, right: float, top: float, below: float
) -> YUV:
    parts = []
    for n, plane in enumerate(planes):
        by = 1 if n == 0 else planes[0].shape[0] / plane.shape[0]
        box = plane[int(top / by) : int(below / by), int(left / by) : int(right / by)]
        parts.append(float(box.mean()))
    y, u, v = parts
    return y, u, v


def assert_near(found: list[YUV], wanted: list[YUV], name: str) -> None:
    off = np.abs(np.array(found) - np.array(wanted))
    assert off.max() <= TOLERANCE, f"{name}: {np.round(found, 1)}, wanted {np.round(wanted, 1)}"


def test_every_size_shows_what_arithmetic_says(made: Made, ffmpeg: str) -> None:
    output = read_output(made.folder)
    assert len(output.video) == made.case.rungs
    for rung in output.video:
        planes = decoded(rung.joined, ffmpeg)
        scale = planes[0].shape[1] / (made.case.width or made.case.size[0])
        assert_near(seen(planes, made.case, scale), composited(made.case), rung.name)


def test_poster_and_storyboard_show_it(made: Made) -> None:
    """JPEG is BT.601 in full range, whatever the film is: compared as RGB."""
    case = made.case
    film = Image.open(made.folder / "poster.jpg").convert("RGB")
    sheet = Image.open(next((made.folder / "storyboard").glob("*.jpg"))).convert("RGB")
    tile = json.loads((made.folder / ".telecine" / "plan.json").read_text())["stills"][0]["size"]
    first = sheet.crop((0, 0, tile["width"], tile["height"]))
    for picture, allowed in ((film, 8), (first, 16)):
        pixels = np.asarray(picture).astype(float)
        scale = picture.width / (case.width or case.size[0])
        x, y, width, height = (side * scale for side in case.place)
        for n, (colour, alpha) in enumerate(BANDS):
            share = alpha * case.opacity
            wanted = share * np.array(colour) + (1 - share) * np.array(FILM)
            left, right = x + width * (n + 0.3) / 4, x + width * (n + 0.7) / 4
            box = pixels[int(y + height / 4) : int(y + height * 3 / 4), int(left) : int(right) + 1]
            assert np.abs(box.mean(axis=(0, 1)) - wanted).max() <= allowed, (n, picture.size)


def test_nothing_is_copied_and_the_report_says_why(made: Made) -> None:
    report = json.loads((made.folder / "report.json").read_text())
    assert {rung["mode"] for rung in report["rungs"]} == {"encode"}
    assert "a watermark is laid over it" in report["top_not_copied"]
    assert any(line.startswith("watermark laid over it: PNG of 80×40") for line in report["source"])


@pytest.mark.parametrize("kind", ["text", "svg", "cut"])
def test_what_is_no_picture_is_refused(kind: str, tmp_path: Path, ffmpeg: str) -> None:
    mark, film = tmp_path / "mark.png", tmp_path / "film.mp4"
    paint_mark(mark)
    paint_film(CASES[0], film, ffmpeg)
    data = {"text": b"no picture", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "cut": mark.read_bytes()[:40]}  # fmt: skip
    mark.write_bytes(data[kind])
    run = telecine("transcode", film, "-o", tmp_path / "out", "--watermark", f"{mark}:center,1,.5")
    assert run.code == 3
    assert "error[watermark_unreadable]" in run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("transfer", "white"), [("smpte2084", 573), ("arib-std-b67", 721)])
def test_in_hdr_it_is_as_bright_as_graphics_are(
    transfer: str, white: int, tmp_path: Path, ffmpeg: str
) -> None:
    """White of graphics is 203 cd/m²: 58 % of PQ, 75 % of HLG (ITU-R BT.2408, table 1), of 876
    steps above 64. In SDR, after tone-mapping, it is white."""
    Image.new("RGBA", (40, 40), (255, 255, 255, 255)).save(tmp_path / "mark.png")
    said = f"color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv"
    source = f"color=c=0x404040:s=640x360:r=10:d=2,format=yuv420p10le,setparams={said}"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx265", "-preset"]
    argv += ["ultrafast", "-crf", "4", "-x265-params", "log-level=error", "-tag:v", "hvc1"]
    subprocess.run([*argv, str(tmp_path / "film.mp4")], check=True, timeout=60)
    run = telecine(
        *("transcode", tmp_path / "film.mp4", "-o", tmp_path / "out", "--output", "hls"),
        *("--rung", "360", "--codec", "h264,av1,hevc", "--hdr", "keep"),
        *("--watermark", f"{tmp_path / 'mark.png'}:center,1,0.2"),
        timeout_s=120,
    )
    assert run.code == 0, run.err
    for rung in read_output(tmp_path / "out").video:
        raw = subprocess.run(
            [ffmpeg, "-v", "error", "-i", "pipe:0", "-frames:v", "1", "-vf",
             "crop=40:40:300:160", "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "pipe:1"],
            input=rung.joined, capture_output=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        values = np.frombuffer(raw, np.uint16)
        luma, chroma = values[:1600].mean(), values[1600:].mean()
        assert abs(luma - (940 if rung.name == "360p" else white)) <= 10, rung.name
        assert abs(chroma - 512) <= 6, rung.name


@pytest.mark.parametrize("fields", [None, pytest.param("tff", marks=pytest.mark.thorough)])
def test_it_stays_over_every_join_and_changes_no_picture_beside_it(
    fields: Literal["tff"] | None, tmp_path: Path, ffmpeg: str
) -> None:
    """32 s from a film of 36 make two chunks. The number of each picture stands above it."""
    video = (*X264, *(("-flags", "+ildct+ilme") if fields else ()))
    make(tmp_path / "film.mp4", ffmpeg=ffmpeg, rate=Fraction(50 if fields else 25), seconds=36,
         size=(320, 240), video=video, fields=fields)  # fmt: skip
    Image.new("RGBA", (80, 40), (255, 255, 255, 255)).save(tmp_path / "mark.png")
    run = telecine(
        *("transcode", tmp_path / "film.mp4", "-o", tmp_path / "out", "--output", "hls"),
        *("--clip", "3-35", "--watermark", f"{tmp_path / 'mark.png'}:bottom-right,1,0.25"),
        timeout_s=120,
    )
    assert run.code == 0, run.err
    plan = json.loads((tmp_path / "out" / ".telecine" / "plan.json").read_text())
    assert len(plan["chunks"]) == 2
    rate = 50 if fields else 25
    (rung,) = read_output(tmp_path / "out").video
    shown = frames(rung.joined, ffmpeg=ffmpeg)
    assert [one.number for one in shown] == list(range(3 * rate, 35 * rate))
    raw = subprocess.run(
        [ffmpeg, "-v", "error", "-i", "pipe:0", "-vf", "crop=64:24:244:204,scale=1:1:flags=area",
         "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"],
        input=rung.joined, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert len(raw) == 32 * rate
    assert min(raw) >= 228
