"""Pure: what stands beside the film: small pictures of it, its sound as a line, its chapters.

Pictures come from a rendition's own segments: what was encoded once need not be read from the
source again, and its key pictures are decoded without any other (a storyboard of two hours takes
400 pictures of 172,800).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from telecine.engine.ladder import Size

StillsKind = Literal["storyboard", "thumbnails"]


@dataclass(frozen=True, slots=True)
class Stills:
    """Key pictures of a rendition: `count` in all, one from each `every_s` of the film, in the
    order of their times.

    Each is shown `size` large; `columns` × `rows` of them lie on a sheet, row by row, and where
    both are 1 each is a file of its own.
    """

    kind: StillsKind
    rendition: str
    every_s: Fraction
    count: int
    size: Size
    columns: int
    rows: int
    reason: str

    @property
    def per_picture(self) -> int:
        return self.columns * self.rows

    @property
    def pictures(self) -> tuple[str, ...]:
        """The JPEGs, relative to DIR: a folder of their own, since there may be a thousand."""
        files = -(-self.count // self.per_picture)
        return tuple(picture_path(self.kind, n) for n in range(files))

    @property
    def picture_size(self) -> Size:
        """Of each of the JPEGs; on the last sheet some places may be empty."""
        return Size(self.columns * self.size.width, self.rows * self.size.height)

    def place(self, number: int) -> tuple[str, int, int]:
        """Where picture `number` lies: the JPEG, and its left and top edge there in pixels."""
        file, within = divmod(number, self.per_picture)
        row, column = divmod(within, self.columns)
        path = picture_path(self.kind, file)
        return path, column * self.size.width, row * self.size.height


def picture_path(kind: str, number: int) -> str:
    return f"{kind}/{number:05d}.jpg"


# Of all files that stand beside the film, by their endings.
CONTENT_TYPES = {
    "vtt": "text/vtt",
    "json": "application/json",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}


def content_type(path: str) -> str:
    return CONTENT_TYPES[path.rpartition(".")[2]]


@dataclass(frozen=True, slots=True)
class Preview:
    """An animation of a few seconds: from the start of each of these segments of a rendition, as
    long as the others, `rate` pictures a second."""

    rendition: str
    segments: tuple[int, ...]
    each_s: Fraction
    rate: int
    size: Size
    reason: str


@dataclass(frozen=True, slots=True)
class Waveform:
    """The least and the greatest sample of each `samples_per_pixel`, `length` times."""

    sample_rate: int  # Hz
    samples_per_pixel: int
    length: int
    reason: str
