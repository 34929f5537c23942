"""Operations on arrays, in a process of their own.

libvips does not survive a fork of its process and leaves threads behind; other tests of the same
run fork. So no test imports pyvips here: one child process, started fresh, does all of it.
"""

from __future__ import annotations

import atexit
import functools
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from telecine.engine.images.operations import Operation

Pixels = npt.NDArray[Any]  # height × width × 3 or 4, uint8 or uint16
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done:
    """What a picture has become."""

    frames: tuple[Pixels, ...]
    depth: int
    delays_ms: tuple[int, ...]
    tags: tuple[str, ...]  # libvips' name of what the numbers mean, one a frame


def done(
    pixels: Pixels | Sequence[Pixels],
    *operations: Operation,
    refs: Mapping[str, Pixels] | None = None,
    full: tuple[int, int] | None = None,
) -> Done:
    """These frames after these operations. `full`: the size before it was shrunk while loading."""
    frames = [pixels] if isinstance(pixels, np.ndarray) else list(pixels)
    return _ask(_done, frames, operations, dict(refs or {}), full)


def one(pixels: Pixels, *operations: Operation, refs: Mapping[str, Pixels] | None = None) -> Pixels:
    """The only frame of what it has become."""
    (frame,) = done(pixels, *operations, refs=refs).frames
    return frame


def streamed(jpeg: bytes, *operations: Operation) -> Pixels:
    """From a JPEG that can be read but once, from top to bottom."""
    return _ask(_streamed, jpeg, operations)


def seconds(jpeg: bytes, width: int, operation: Operation) -> tuple[float, float]:
    """CPU of a resize to so many pixels of width: as libvips' own `thumbnail` does it, and by
    `operation` after a load by the largest factor of JPEG's that leaves enough. The best of several
    tries, each of all threads: what a busy machine makes them wait is not in it."""
    return _ask(_seconds, jpeg, width, operation)


def spread(rgb: Pixels) -> tuple[Pixels, Pixels]:
    """Colours as a GIF's quantiser sees them, and those made of them again."""
    return _ask(_spread, rgb)


# --- in the child ---------------------------------------------------------------------------------


def _done(
    frames: list[Pixels],
    operations: Sequence[Operation],
    refs: dict[str, Pixels],
    full: tuple[int, int] | None,
) -> Done:
    from telecine.engine.images import pixels
    from telecine.engine.images.geometry import Size

    size = None if full is None else Size(*full)
    given = {name: _picture([ref]) for name, ref in refs.items()}
    picture = _picture(frames)
    for operation in operations:
        picture = pixels.apply(picture, operation, given, size=size)
        size = None
    return Done(
        tuple(frame.numpy() for frame in picture.frames),
        picture.depth,
        picture.delays_ms,
        tuple(frame.interpretation for frame in picture.frames),
    )


def _picture(frames: list[Pixels]) -> Any:
    import pyvips

    from telecine.engine.images.picture import Picture

    depth = 16 if frames[0].dtype == np.uint16 else 8
    tag = "rgb16" if depth == 16 else "srgb"
    images = [pyvips.Image.new_from_array(frame).copy(interpretation=tag) for frame in frames]
    delays = tuple(range(10, 10 * len(frames) + 1, 10)) if len(frames) > 1 else ()
    return Picture(tuple(images), depth=depth, delays_ms=delays)


def _spread(rgb: Pixels) -> tuple[Pixels, Pixels]:
    import pyvips

    from telecine.engine.images import palettes

    image = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    codes = palettes.spread(image).numpy()
    again = np.frombuffer(palettes.true_colours(codes.tobytes()), np.uint8)
    return codes, again.reshape(codes.shape)


def _streamed(jpeg: bytes, operations: Sequence[Operation]) -> Pixels:
    import pyvips

    from telecine.engine.images import pixels
    from telecine.engine.images.picture import Picture

    picture = Picture((pyvips.Image.new_from_buffer(jpeg, "", access="sequential"),))
    for operation in operations:
        picture = pixels.apply(picture, operation, {})
    made: Pixels = picture.frames[0].numpy()
    return made


def _seconds(jpeg: bytes, width: int, operation: Operation) -> tuple[float, float]:
    import pyvips

    from telecine.engine.images import pixels
    from telecine.engine.images.geometry import Size
    from telecine.engine.images.picture import Picture

    head = pyvips.Image.new_from_buffer(jpeg, "")
    full = Size(head.width, head.height)
    shrink = max(n for n in (1, 2, 4, 8) if n == 1 or head.width // n >= width)

    def thumbnail() -> None:
        pyvips.Image.thumbnail_buffer(jpeg, width, height=full.height).write_to_memory()

    def ours() -> None:
        image = pyvips.Image.new_from_buffer(jpeg, "", access="sequential", shrink=shrink)
        made = pixels.apply(Picture((image,)), operation, {}, size=full)
        made.frames[0].write_to_memory()

    pairs = [(_timed(thumbnail), _timed(ours)) for _ in range(15)]
    return min(theirs for theirs, _ in pairs), min(own for _, own in pairs)


def _timed(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


# --- the child ------------------------------------------------------------------------------------


@functools.cache
def _child() -> ProcessPoolExecutor:
    fresh = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=fresh, initializer=_begin)
    atexit.register(pool.shutdown)
    return pool


def _begin() -> None:
    # As in the sandbox; before libvips is loaded.
    os.environ["VIPS_BLOCK_UNTRUSTED"] = "1"
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips

    pyvips.cache_set_max(0)


def _ask(work: Callable[..., Result], *given: Any) -> Result:
    return _child().submit(work, *given).result(timeout=120)


def jpeg_of(pixels: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
