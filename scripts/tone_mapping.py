"""HDR to SDR, Telecine's way beside libplacebo's: the references of test_tone_mapping.py and the
picture of docs/explain/hdr.md.

    python -m scripts.tone_mapping

libplacebo works on Vulkan; without a graphics card Debian's mesa-vulkan-drivers (llvmpipe) does it.
Because not every machine has one, what it makes of our chart is kept beside the test that needs it.
Frames of the media corpus are compared too where that is found (TELECINE_MEDIA); none is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyvips
from tests.media import hdrchart
from tests.media.images.colour import delta_e_2000, lab

from telecine.engine.filters import tone_map
from telecine.engine.media import Color

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("TELECINE_MEDIA", ROOT.parent / "shared" / "media"))
REFERENCES = ROOT / "tests" / "media" / "content" / "references"
PICTURE = ROOT / "docs" / "explain" / "hdr.jpg"

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SHOWN = f"scale={hdrchart.WIDTH}:{hdrchart.HEIGHT}:flags=bicubic:out_range=tv"
RGB = "format=yuv444p,scale=in_range=tv:out_range=pc:in_color_matrix=bt709,format=rgb24"

# Of the corpus, with the second of the frame.
FRAMES = (
    ("video/androidx/hdr10-video-with-sdr-container.mp4", "0.5", "smpte2084"),
    ("video/androidx/sample_with_colr_mdcv_and_clli.mp4", "0.5", "smpte2084"),
    ("video/androidx/hlg10-color-test.mp4", "0.1", "arib-std-b67"),
)


def ours(transfer: str) -> list[str]:
    return [*tone_map(Color("tv", "bt2020", transfer, "bt2020nc")), "format=yuv420p"]


def libplacebo(curve: str) -> list[str]:
    """Its own choice of a curve is "auto". A frame alone tells nothing of the scene's peak, so that
    what the film says of its light counts, as it does for us."""
    return [
        f"libplacebo=tonemapping={curve}:peak_detect=false:colorspace=bt709:color_primaries=bt709"
        ":color_trc=bt709:range=tv:format=yuv444p"
    ]


def frame(film: Path, at_s: str, chain: list[str], *options: str) -> pyvips.Image:
    """The frame at `at_s` as it is seen, through `chain`."""
    argv = [FFMPEG, "-v", "error", *options, "-ss", at_s, "-i", str(film), "-frames:v", "1"]
    argv += ["-vf", ",".join((SHOWN, *chain, RGB)), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    raw = subprocess.run(argv, capture_output=True, check=True, timeout=300).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(hdrchart.HEIGHT, hdrchart.WIDTH, 3)
    return pyvips.Image.new_from_array(pixels, interpretation="srgb")


def main() -> int:
    vulkan = ("-init_hw_device", "vulkan")
    REFERENCES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        chart = hdrchart.write(Path(folder, "chart.mp4"), FFMPEG, 1)
        films = [(chart, "0", "smpte2084")]
        films += [(CORPUS / name, at_s, transfer) for name, at_s, transfer in FRAMES]
        for film, at_s, transfer in films:
            if not film.is_file():
                print(f"not compared: {film.name} is not here", file=sys.stderr)
                continue
            own = frame(film, at_s, ours(transfer))
            auto, bt2390 = (
                frame(film, at_s, libplacebo(curve), *vulkan) for curve in ("auto", "bt.2390")
            )
            if film == chart:
                auto.pngsave(str(REFERENCES / "hdr10-chart-libplacebo.png"), strip=True)
                bt2390.pngsave(str(REFERENCES / "hdr10-chart-bt2390.png"), strip=True)
                picture = pyvips.Image.arrayjoin([own, auto, bt2390], shim=4, background=255)
                picture.jpegsave(str(PICTURE), Q=85, strip=True)
            wanted = lab(auto.numpy().astype(float))
            for name, made in (("ours", own), ("its BT.2390", bt2390)):
                far = delta_e_2000(lab(made.numpy().astype(float)), wanted)
                figures = f"mean {far.mean():.2f}, p95 {np.percentile(far, 95):.2f}"
                print(f"{film.name}: {name}: ΔE2000 {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
