"""A colour chart in HDR10 of our own making: six colours at eight brightnesses, up to 1000 cd/m².

Colours are ratios of linear light in BT.709; they are carried, as HDR10 is, in BT.2020 primaries
(ITU-R BT.2087, the inverse of its 2020 → 709 matrix), PQ (SMPTE ST 2084) and ten bits of Y'CbCr in
video range (BT.2100, tables 6 and 9). Nothing of Telecine is used.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIZE = WIDTH, HEIGHT = 320, 180
# What the largest of R, G and B is in each column, in cd/m².
LIGHT = (2.0, 10.0, 26.0, 60.0, 100.0, 203.0, 450.0, 1000.0)
# Grey, skin, foliage, sky, brick, marigold: as on charts for cameras, none beyond BT.709.
COLOURS = (
    (1.0, 1.0, 1.0), (1.0, 0.58, 0.44), (0.55, 1.0, 0.28),
    (0.35, 0.62, 1.0), (1.0, 0.16, 0.12), (1.0, 0.55, 0.08),
)  # fmt: skip
PATCH = WIDTH // len(LIGHT), HEIGHT // len(COLOURS)

_TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


def _pq(light: Floats) -> Floats:
    """cd/m² → the signal from 0 to 1 (ST 2084, 5.3)."""
    y = (np.clip(light, 0, 10_000) / 10_000) ** (2610 / 16384)
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    signal: Floats = ((c1 + c2 * y) / (1 + c3 * y)) ** (2523 / 4096 * 128)
    return signal


def frame() -> bytes:
    """The chart as one frame of yuv420p10le."""
    columns = np.repeat(np.array(LIGHT), PATCH[0])
    rows = np.repeat(np.array(COLOURS), PATCH[1], axis=0)
    red, green, blue = _pq((rows[:, None, :] * columns[None, :, None]) @ _TO_2020.T).transpose(
        2, 0, 1
    )
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = [
        64 + 876 * luma,
        512 + 896 * ((blue - luma) / 1.8814)[::2, ::2],
        512 + 896 * ((red - luma) / 1.4746)[::2, ::2],
    ]
    return b"".join(np.rint(plane).astype("<u2").tobytes() for plane in planes)


def write(film: Path, ffmpeg: str, seconds: int) -> Path:
    """The chart as a film in HEVC that says all that HDR10 has to say."""
    argv = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p10le"]
    argv += ["-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", "24", "-i", "pipe:0"]
    argv += ["-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
             ":range=tv", "-c:v", "libx265", "-preset", "ultrafast", "-crf", "4"]  # fmt: skip
    light = f"master-display={MASTERING}:max-cll=1000,203"
    argv += ["-x265-params", f"log-level=error:{light}", "-tag:v", "hvc1", str(film)]
    subprocess.run(argv, input=frame() * (24 * seconds), check=True, timeout=60)
    return film


def patches(rgb: npt.NDArray[np.uint8]) -> Floats:
    """The colour in the middle of each patch, row by row: 48 × 3."""
    wide, high = PATCH
    return np.array(
        [
            np.median(
                rgb[y + high // 4 : y + 3 * high // 4, x + wide // 4 : x + 3 * wide // 4],
                axis=(0, 1),
            )
            for y in range(0, HEIGHT, high)
            for x in range(0, WIDTH, wide)
        ]
    )
