"""What an image transform is asked for, what it gives, and how much it may take.

Both sides of a worker's pipes speak of these, so they stand below the wire. Frozen; everything but
the bytes of a result goes through `engine.serial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from telecine.engine.images.operations import Operation


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one picture may take. Beyond it the picture is refused or the worker killed."""

    pixels: int = 100_000_000  # width × height × frames, of the source and of every result
    frames: int = 300
    source_bytes: int = 256 << 20
    wall_s: float = 30.0  # from the worker's first byte of a request to the last of its answer
    # Address space of a worker (RLIMIT_AS): itself 0.3 GB; the file; the largest picture at 16 bits
    # a channel (0.8 GB) before and after an operation that needs all of it at once.
    memory_bytes: int = 3 << 30
    svg: bool = False  # whether drawings are taken at all


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made: operations in their order, and the format of the result, one of "jpeg",
    "png", "webp", "avif", "gif", "tiff" (`auto` is resolved before: `formats.negotiate`)."""

    operations: tuple[Operation, ...]
    format: str


@dataclass(frozen=True, slots=True)
class Made:
    """A finished picture. `report`: what was decided on the way (quality used, its SSIM, metadata
    removed …), as plain values."""

    data: bytes = field(repr=False)
    format: str
    content_type: str
    width: int
    height: int
    frames: int
    warnings: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a picture is. Sizes are of the upright picture; `duration_s` of an animation, once
    through. `exif` holds names and values as EXIF 2.32 calls them, without the place: `gps` says
    only whether there is one."""

    format: str
    content_type: str
    width: int
    height: int
    frames: int
    duration_s: float | None
    alpha: bool
    depth: int  # bits a channel
    color: str  # in words: "sRGB", "grey", "CMYK" …
    icc: str | None  # the profile's own description
    orientation: int  # of EXIF, 1 to 8, as it was before the picture was set upright
    exif: dict[str, str]
    gps: bool
    dominant_colors: tuple[str, ...]  # "#rrggbb", the most frequent first
    thumbhash: str  # base64
    blurhash: str
    warnings: tuple[str, ...] = ()
