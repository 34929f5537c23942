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
        rungs.append(_weigh_one(variant.height, scratch))
        scratch.unlink()
    return rungs


def join(variant: Variant, target: Path) -> None:
    """Init and segments one after the other: what a player's buffer holds in the end."""
    media = read_media(variant.playlist)
    assert media.init is not None
    with target.open("wb") as joined:
        for part in (media.init, *media.segments):
            joined.write(part.read_bytes())


def _weigh_one(height: int, joined: Path) -> RungBytes:
    frames = size_bytes = 0
    with av.open(str(joined)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                frames += 1
                size_bytes += packet.size
    return RungBytes(height, frames, size_bytes)


def frame_count(source: Path) -> int:
    return _weigh_one(0, source).frames


def vmaf(ffmpeg: Path, variant: Variant, source: Path, scratch: Path) -> float:
    """Mean VMAF (model v0.6.1) of every 7th frame against the source, the rung scaled to the
    source's size (bicubic). Frames are paired by number, so that neither rounded times nor an edit
    list can shift them; the caller compares the counts. Uses `scratch` and removes it."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        size = f"{stream.codec_context.width}:{stream.codec_context.height}"
    by_number = "settb=1/1000,setpts=N"
    # As stored: a rung that says BT.709 would be converted to match a source that says nothing.
    as_stored = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    graph = (
        f"[0:v:0]{as_stored},scale={size}:flags=bicubic,format=yuv420p,{by_number}[made];"
        f"[1:v:0]{as_stored},format=yuv420p,{by_number}[source];"
        f"[made][source]libvmaf=n_threads={os.cpu_count()}:n_subsample={VMAF_EVERY}"
    )
    join(variant, scratch)
    try:
        argv = [str(ffmpeg), "-hide_banner", "-nostdin", "-i", str(scratch), "-i", str(source)]
        finished = subprocess.run(
            [*argv, "-filter_complex", graph, "-f", "null", "-"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        scratch.unlink()
    score = _VMAF_SCORE.search(finished.stderr)
    if score is None:
        raise RuntimeError(f"no VMAF score for {variant.playlist}: {finished.stderr[-500:]}")
    return float(score[1])
