"""What a job may be asked for, as types for those who check theirs. Everything is plain JSON: any
mapping will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict


class ImageOutput(TypedDict, total=False):
    """A picture made of a picture. `ops` are operations such as `{"op": "resize", "w": 800}`, in
    their order; without `format` it is what suits the source, without `name` it is `image`."""

    type: Required[Literal["image"]]
    ops: Sequence[Mapping[str, Any]]
    format: Literal["jpeg", "png", "webp", "avif", "gif", "tiff"]
    name: str
