"""SDR made of HDR10, beside what libplacebo makes of the same chart, by CIEDE2000.

The references are libplacebo's (`scripts/tone_mapping.py` makes them where there is a Vulkan): with
the curve that it takes by itself, and with that of BT.2390. Curves are a matter of taste; how far
its own two are apart says how much.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.media import hdrchart
from tests.media.hlsdir import read_output
from tests.media.images.colour import delta_e_2000, lab
from tests.media.running import telecine

REFERENCES = Path(__file__).parent / "references"
Colours = npt.NDArray[np.float64]


def seen(ffmpeg: str, film: Path) -> Colours:
    """CIELAB of the chart's patches on the first picture of a film, or on a PNG."""
    graph = "format=yuv444p,scale=in_range=tv:out_range=pc:in_color_matrix=bt709,format=rgb24"
    argv = [ffmpeg, "-v", "error", "-i", str(film), "-frames:v", "1"]
    argv += [] if film.suffix == ".png" else ["-vf", graph]
    argv += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    raw = subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(hdrchart.HEIGHT, hdrchart.WIDTH, 3)
    return lab(hdrchart.patches(pixels))


@pytest.fixture(scope="module")
def made(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Colours:
    folder = tmp_path_factory.mktemp("tone")
    film = hdrchart.write(folder / "chart.mp4", ffmpeg, 2)
    done = telecine(
        *("transcode", film, "-o", folder / "out", "--output", "hls", "--rung", "180"),
        timeout_s=120,
    )
    assert done.code == 0, done.err
    rung = folder / "rung.mp4"
    rung.write_bytes(read_output(folder / "out").video[0].joined)
    return seen(ffmpeg, rung)


def test_it_is_nearer_to_libplacebo_than_its_two_curves_are_to_each_other(
    made: Colours, ffmpeg: str
) -> None:
    reference = seen(ffmpeg, REFERENCES / "hdr10-chart-libplacebo.png")
    other = seen(ffmpeg, REFERENCES / "hdr10-chart-bt2390.png")
    ours, theirs = (delta_e_2000(one, reference) for one in (made, other))
    assert ours.mean() < 0.7 * theirs.mean()
    assert np.percentile(ours, 95) < np.percentile(theirs, 95)
    assert ours.mean() < 3.5
    assert ours.max() < 12


def test_brighter_stays_brighter_and_grey_stays_grey(made: Colours) -> None:
    """Nothing is cut off below 1000 cd/m², and no colour is laid over what has none."""
    light = made[:, 0].reshape(len(hdrchart.COLOURS), len(hdrchart.LIGHT))
    assert (np.diff(light, axis=1) > 3).all()
    grey = made[: len(hdrchart.LIGHT)]
    assert np.hypot(grey[:, 1], grey[:, 2]).max() < 2
    assert grey[-1][0] > 97
