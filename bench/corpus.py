"""Real films to measure on: which there are, and where they lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    title: str
    path: str  # in the corpus


CLIPS = {
    "bbb": Clip("Big Buck Bunny 1080p24, 30 s", "video/bbb/bbb_1080p24_30s.mp4"),
    "drone": Clip("drone flight 1080p23.976, 12.5 s", "video/sb6/drone_city_1080p_12s.mp4"),
    "screen": Clip("talk and screen 720p30, 42 s", "video/autoed/example.mp4"),
    "street": Clip("street from above 432p, 30 s", "video/intel/car-detection.mp4"),
    "cctv": Clip("CCTV 576p10, 80 s", "video/ocv/vtest.avi"),
    "bottles": Clip("bottles on a table 360p, 40 s", "video/intel/bottle-detection.mp4"),
    "chaplin": Clip("Chaplin 360p25, 9.6 s", "video/mpy/chaplin.mp4"),
    "nasa": Clip("NASA 270p, 13 s", "video/tcodec/nasa_13013.mp4"),
}


def corpus() -> Path:
    """The media corpus: $TELECINE_MEDIA, or `../shared/media` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "media"
    return Path(os.environ.get("TELECINE_MEDIA", default))


def film(name: str) -> Path:
    return corpus() / CLIPS[name].path


def all_there(names: Iterable[str]) -> bool:
    """Whether these clips are in the corpus; says on stderr which are not."""
    missing = [CLIPS[name].path for name in names if not film(name).exists()]
    if missing:
        print(f"bench: the media corpus lacks {', '.join(missing)} ({corpus()})", file=sys.stderr)
    return not missing
