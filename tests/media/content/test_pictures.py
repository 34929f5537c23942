"""Pictures come out as a player would show the source: its colours, its fields, its position."""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from tests.media.framecode import make
from tests.media.running import telecine

from telecine import find_tools, make_profile, probe
from telecine.engine import filters
from telecine.engine.planning import make_plan

Grey = npt.NDArray[np.float64]

# H.273: the codes of colour primaries, transfer and matrix.
BT709, UNSPECIFIED, SMPTE170M = 1, 2, 6


def run(*argv: str | Path) -> bytes:
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=120).stdout


def rung(folder: Path, name: str) -> Path:
    """The first segment of a rung, as a file."""
    home = folder / "video" / name
    film = folder / f"{name}-first.mp4"
    film.write_bytes((home / "init.mp4").read_bytes() + (home / "00000.m4s").read_bytes())
    return film


# --- colours of untagged sources ---------------------------------------------------------------


def flat(path: Path, ffmpeg: str, size: str, colour: tuple[int, int, int]) -> Path:
    """Two seconds of one Y'CbCr colour, H.264, without a word on what it means. A keyframe a
    second: fit to be copied."""
    y, cb, cr = colour
    picture = f"color=s={size}:r=24:d=2,format=yuv420p,geq=lum={y}:cb={cb}:cr={cr}"
    made = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", picture, "-c:v", "libx264", "-g", "24"]
    run(*made, "-preset", "ultrafast", "-qp", "1", path)
    assert said(path) == (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)
    return path


def said(path: Path) -> tuple[int, int, int]:
    """Primaries, transfer and matrix as PyAV's decoder finds them in the first picture."""
    with av.open(str(path)) as media:
        picture: Any = next(media.decode(media.streams.video[0]))
        return picture.color_primaries, picture.color_trc, picture.colorspace


@pytest.mark.parametrize(
    ("size", "top", "rungs", "expected"),
    [
        # Chromium (ffmpeg_common.cc) and Firefox (DefaultColorSpace): BT.709 from 720 lines on.
        ("1280x720", "encode", {"720p": (BT709,) * 3, "360p": (BT709,) * 3}, "bt709"),
        ("1280x720", "copy", {"720p": (UNSPECIFIED,) * 3, "360p": (BT709,) * 3}, "bt709"),
        ("640x480", "encode", {"480p": (SMPTE170M,) * 3, "240p": (SMPTE170M,) * 3}, "bt601"),
        (
            "640x480",
            "copy",
            {"480p": (UNSPECIFIED,) * 3, "240p": (UNSPECIFIED, UNSPECIFIED, SMPTE170M)},
            "bt601",
        ),
    ],
)
def test_rungs_of_an_untagged_source_say_what_players_take_it_for(
    tmp_path: Path,
    ffmpeg: str,
    size: str,
    top: str,
    rungs: dict[str, tuple[int, int, int]],
    expected: str,
) -> None:
    colour = (120, 90, 170)
    source = flat(tmp_path / "source.mp4", ffmpeg, size, colour)
    words = [word for name in rungs for word in ("--rung", name[:-1])]
    out = tmp_path / "out"
    done = telecine(
        *("transcode", source, "-o", out, "--top", top),
        *("--output", "hls", "--output", "poster", *words),
    )
    assert done.code == 0, done.err
    for name, codes in rungs.items():
        film = rung(out, name)
        assert said(film) == codes
        planes = run(ffmpeg, "-v", "error", "-i", film, "-f", "rawvideo", "-frames:v", "1", "-")
        luma = len(planes) * 2 // 3
        for plane, value in zip(
            (planes[:luma], planes[luma : luma * 5 // 4], planes[luma * 5 // 4 :]),
            colour,
            strict=True,
        ):
            assert np.abs(np.frombuffer(plane, np.uint8).astype(int) - value).max() <= 1
    assert np.abs(jpeg_colour(out / "poster.jpg", ffmpeg) - shown(colour, expected)).max() <= 3


# ITU-R BT.709-6 item 3.2 and BT.601-7 item 2.5: the shares of red and blue in luma.
SHARES = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}


def shown(colour: tuple[int, int, int], matrix: str) -> Grey:
    """Y'CbCr of video range → R'G'B' 0–255."""
    y, cb, cr = colour
    return rgb((y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224, *SHARES[matrix])


def rgb(y: float, cb: float, cr: float, red: float, blue: float) -> Grey:
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return 255 * np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])


def jpeg_colour(path: Path, ffmpeg: str) -> Grey:
    """The colour in a JPEG's middle, by JFIF 1.02: BT.601 in full range."""
    picture = ("-v", "error", "-i", path, "-vf", "crop=2:2", "-f", "rawvideo")
    planes = run(ffmpeg, *picture, "-pix_fmt", "yuvj444p", "-")
    y, cb, cr = (float(value) for value in (planes[0], planes[4], planes[8]))
    return rgb(y / 255, (cb - 128) / 255, (cr - 128) / 255, *SHARES["bt601"])


@pytest.mark.parametrize("size", ["1280x720", "640x480"])
def test_saying_the_colour_changes_no_pixel(tmp_path: Path, ffmpeg: str, size: str) -> None:
    source = tmp_path / "source.mkv"
    run(ffmpeg, *("-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:d=0.4"), source)
    plan = make_plan(probe(source, find_tools()), make_profile(top="encode"))
    for rendition in plan.renditions:
        said, *silent = filters.picture(plan, rendition.size)
        assert said.startswith("setparams=")
        sums = [
            run(ffmpeg, "-v", "error", "-i", source, "-vf", ",".join(chain), "-f", "framemd5", "-")
            for chain in ([said, *silent], silent)
        ]
        assert sums[0] == sums[1]


# --- fields that lie on their side ---------------------------------------------------------------

FIELDS_A_SECOND = Fraction(50)
SIZE = (480, 360)
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")
FIELDS = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-flags", "+ildct+ilme")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> tuple[Path, Path]:
    """The same pictures twice: as pictures, and as the fields of half as many frames."""
    home = tmp_path_factory.mktemp("fields")
    same: Any = {"ffmpeg": ffmpeg, "rate": FIELDS_A_SECOND, "seconds": 2, "size": SIZE}
    whole = make(home / "whole.mp4", **same, video=LOSSLESS, audio=None)
    woven = make(home / "woven.mp4", **same, video=FIELDS, audio=None, fields="tff")
    return whole.path, woven.path


def turned(source: Path, target: Path, ffmpeg: str, angle: int, flip: bool) -> Path:
    """A copy whose display matrix turns it counterclockwise, then flips it left to right."""
    matrix = ["-display_rotation", str(angle), *(["-display_hflip"] if flip else [])]
    run(ffmpeg, "-v", "error", *matrix, "-i", source, "-c", "copy", target)
    return target


def seen(path: Path, ffmpeg: str, shape: tuple[int, int]) -> Grey:
    """Luma of every picture as FFmpeg shows it, in video range; `shape` is its height and width."""
    luma = "showinfo=checksum=0,scale=out_range=tv,format=yuv420p,extractplanes=y"
    grey = ("-autorotate", "-i", path, "-vf", luma)
    done = subprocess.run(
        (ffmpeg, "-hide_banner", *grey, "-f", "rawvideo", "-"), capture_output=True, check=True
    )
    assert f" s:{shape[1]}x{shape[0]} ".encode() in done.stderr
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape).astype(float)


def psnr(a: Grey, b: Grey) -> float:
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def deinterlaced(
    home: Path, clips: tuple[Path, Path], ffmpeg: str, angle: int, flip: bool
) -> tuple[float, float]:
    """PSNR in dB of the rung and of the poster (its best) against the pictures that were woven."""
    whole, woven = (
        turned(clip, home / f"{clip.stem}-{angle}-{flip}.mp4", ffmpeg, angle, flip)
        for clip in clips
    )
    out = home / f"out-{angle}-{flip}"
    done = telecine(
        *("transcode", woven, "-o", out, "--rung", "360", "--output", "hls", "--output", "poster")
    )
    assert done.code == 0, done.err
    shape = SIZE if angle in (90, 270) else SIZE[::-1]
    wanted = seen(whole, ffmpeg, shape)
    shown = seen(rung(out, "360p"), ffmpeg, shape)
    assert shown.shape == wanted.shape
    (poster,) = seen(out / "poster.jpg", ffmpeg, shape)
    return psnr(shown, wanted), max(psnr(poster, picture) for picture in wanted)


@pytest.fixture(scope="module")
def upright(
    tmp_path_factory: pytest.TempPathFactory, clips: tuple[Path, Path], ffmpeg: str
) -> tuple[float, float]:
    return deinterlaced(tmp_path_factory.mktemp("upright"), clips, ffmpeg, 0, flip=False)


@pytest.mark.thorough
@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("flip", [False, True], ids=["turned", "flipped"])
def test_turned_fields_come_out_as_well_as_upright_ones(
    tmp_path: Path,
    clips: tuple[Path, Path],
    upright: tuple[float, float],
    ffmpeg: str,
    angle: int,
    flip: bool,
) -> None:
    # Deinterlaced after the turn they lose 5 dB and more.
    assert min(upright) > 35
    made = deinterlaced(tmp_path, clips, ffmpeg, angle, flip)
    assert all(value > control - 0.5 for value, control in zip(made, upright, strict=True))


def test_fields_flipped_left_to_right_are_flipped_back(
    tmp_path: Path, clips: tuple[Path, Path], upright: tuple[float, float], ffmpeg: str
) -> None:
    made = deinterlaced(tmp_path, clips, ffmpeg, 0, flip=True)
    assert all(value > control - 0.5 for value, control in zip(made, upright, strict=True))


# FFmpeg's option turns counterclockwise; ours are degrees clockwise.
@pytest.mark.parametrize(
    ("angle", "flip", "position"),
    [
        (90, False, (270, False)),
        (180, False, (180, False)),
        (270, False, (90, False)),
        (0, True, (0, True)),
        (90, True, (270, True)),
        (180, True, (180, True)),
        (270, True, (90, True)),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_mirror_is_told_from_a_turn(
    tmp_path: Path,
    clips: tuple[Path, Path],
    ffmpeg: str,
    ending: str,
    angle: int,
    flip: bool,
    position: tuple[int, bool],
) -> None:
    clip = turned(clips[0], tmp_path / f"clip.{ending}", ffmpeg, angle, flip)
    (video,) = probe(clip, find_tools()).video
    assert (video.rotation, video.mirrored) == position
    assert (video.width, video.height) == SIZE


@pytest.mark.parametrize("matrix", [(2, 0, 0, 1, 0), (1, 0, 0, 1, 10)], ids=["scaled", "shifted"])
def test_a_matrix_that_does_not_turn_ends_at_the_source(
    tmp_path: Path, clips: tuple[Path, Path], matrix: tuple[int, ...]
) -> None:
    data = bytearray(clips[0].read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d, x = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, x, 0, 1 << 30)
    source = tmp_path / "source.mp4"
    source.write_bytes(data)
    done = telecine("transcode", source, "-o", tmp_path / "out", "--rung", "360")
    assert done.code == 0, done.err
