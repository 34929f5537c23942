"""What a contestant left on disk: pictures, bytes and VMAF of each rung."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from bench.playlists import Variant, read_media

# Every 7th frame: prime to the GOP (48) and to the B-frame pattern (4), so that the sample holds
# every kind of frame in its own share.
VMAF_EVERY = 7

_VMAF_SCORE = re.compile(r"VMAF score: ([0-9.]+)")


@dataclass(frozen=True, slots=True)
class RungBytes:
    height: int
    frames: int
    video_bytes: int  # the pictures' samples alone: no sound, no container


def weigh(variants: Sequence[Variant], scratch: Path) -> list[RungBytes]:
    """Rungs of a finished output; uses `scratch` (a file) and removes it."""
    rungs = []
    for variant in variants:
        join(variant, scratch)
        rungs.append(RungBytes(variant.height, *_weigh_one(scratch, 0)))
        scratch.unlink()
    return rungs


def join(variant: Variant, target: Path) -> None:
    """Init and segments one after the other: what a player's buffer holds in the end."""
    media = read_media(variant.playlist)
    assert media.init is not None
    with target.open("wb") as joined:
        for part in (media.init, *media.segments):
            joined.write(part.read_bytes())


def _weigh_one(file: Path, stream: int) -> tuple[int, int]:
    frames = size_bytes = 0
    with av.open(str(file)) as container:
        for packet in container.demux(container.streams[stream]):
            if packet.size:
                frames += 1
                size_bytes += packet.size
    return frames, size_bytes


def frame_count(source: Path, stream: int) -> int:
    frames, _ = _weigh_one(source, stream)
    return frames


def _size(file: Path, stream: int) -> str:
    with av.open(str(file)) as container:
        pictures = container.streams[stream]
        assert isinstance(pictures, av.VideoStream)
        return f"{pictures.width}:{pictures.height}"


def _as_stored(size: str) -> str:
    """Pictures of this size, counted. Both sides are said to be of one colour: a rung that says
    BT.709 would be converted to match a source that says nothing."""
    said = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    return f"{said},scale={size}:flags=bicubic,format=yuv420p,settb=1/1000,setpts=N"


def vmaf(
    ffmpeg: Path,
    variant: Variant,
    source: Path,
    stream: int,
    scratch: Path,
    *,
    own_size: bool = False,
) -> float:
    """Mean VMAF (model v0.6.1) of every 7th frame against a stream of the source, the rung scaled
    (bicubic) to its size; with `own_size` the source is scaled to the rung's.
    Frames are paired by number, so that neither rounded times nor an edit list can shift them; the
    caller compares the counts. Uses `scratch` and removes it."""
    join(variant, scratch)
    try:
        size = _size(scratch, 0) if own_size else _size(source, stream)
        graph = ";".join(
            (
                f"[0:v:0]{_as_stored(size)}[made]",
                f"[1:{stream}]{_as_stored(size)}[source]",
                f"[made][source]libvmaf=n_threads={os.cpu_count()}:n_subsample={VMAF_EVERY}",
            )
        )
        argv = [str(ffmpeg), "-hide_banner", "-nostdin", "-i", str(scratch), "-i", str(source)]
        finished = subprocess.run(
            [*argv, "-filter_complex", graph, "-f", "null", "-"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        scratch.unlink(missing_ok=True)
    score = _VMAF_SCORE.search(finished.stderr)
    if score is None:
        raise RuntimeError(f"no VMAF score for {variant.playlist}: {finished.stderr[-500:]}")
    return float(score[1])
