"""A picture while it is worked on: the value between loading, the operations and saving.

Its pixels are libvips images, which are recipes: nothing is computed before somebody asks for
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyvips


@dataclass(frozen=True, slots=True)
class Picture:
    """Frames, upright and all of one size; of a still picture one.

    A frame has three bands (RGB) or four (RGBA, not premultiplied), all frames the same number:
    unsigned bytes ("srgb"), or 16 bit words ("rgb16") where `depth` is 16.
    """

    frames: tuple[pyvips.Image, ...]
    depth: int = 8
    delays_ms: tuple[int, ...] = ()  # one a frame for an animation, else empty
    loop: int = 0  # how often an animation is shown; 0: for ever
    icc: bytes | None = None  # a profile that is kept; without it the pixels are sRGB
    metadata: Mapping[str, bytes] = field(default_factory=dict)  # kept blobs: "exif", "xmp"

    @property
    def width(self) -> int:
        return int(self.frames[0].width)

    @property
    def height(self) -> int:
        return int(self.frames[0].height)

    @property
    def has_alpha(self) -> bool:
        return bool(self.frames[0].bands == 4)

    @property
    def animated(self) -> bool:
        return bool(self.delays_ms)

    @property
    def most(self) -> int:
        """The largest value of a channel: 255 or 65,535."""
        return (1 << self.depth) - 1

    def each(self, change: Callable[[pyvips.Image], pyvips.Image]) -> Picture:
        """This picture with every frame changed in the same way."""
        return replace(self, frames=tuple(change(frame) for frame in self.frames))
