"""One record a format: what it is called, who reads it, what it can hold; and which one to answer.

`sniff` gives the names. A sequence of pictures in a container of stills has a record of its own,
because something else reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from telecine.engine.errors import UsageError

# libvips as its wheel is built; FFmpeg, for what that lacks; or our allow-list and then libvips.
Reader: TypeAlias = Literal["vips", "ffmpeg", "svg"]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of picture file. What is below `written` says what of it we write: `quality` is what
    is used when none is asked for (None: it takes none), `kept` the metadata that may stay, `side`
    the longest side in pixels (None: longer than a picture can be)."""

    name: str
    content_type: str
    extensions: tuple[str, ...]
    reader: Reader
    written: bool = False
    animated: bool = False
    alpha: bool = False
    quality: int | None = None
    lossless: bool = False
    deep: bool = False
    progressive: bool = False
    kept: tuple[str, ...] = ()
    side: int | None = None


# The qualities are imgproxy's, which writes with the same encoders. Content types: IANA's registry.
# What may stay and how long a side may be is what libvips' savers do: those of GIF write no
# metadata, those of TIFF no EXIF.
FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "jpeg", "image/jpeg", ("jpg", "jpeg", "jpe", "jfif"), "vips",
            written=True, quality=80, progressive=True, kept=("icc", "exif", "gps", "xmp"),
            side=65_500,
        ),
        Format(
            "png", "image/png", ("png",), "vips",
            written=True, alpha=True, deep=True, kept=("icc", "exif", "gps", "xmp"),
        ),
        Format(
            "webp", "image/webp", ("webp",), "vips",
            written=True, animated=True, alpha=True, quality=79, lossless=True,
            kept=("icc", "exif", "gps", "xmp"), side=16_383,
        ),
        Format(
            "avif", "image/avif", ("avif",), "vips",
            written=True, alpha=True, quality=63, lossless=True,
            kept=("icc", "exif", "gps", "xmp"), side=16_384,
        ),
        Format(
            "gif", "image/gif", ("gif",), "vips",
            written=True, animated=True, alpha=True, side=65_535,
        ),
        Format(
            "tiff", "image/tiff", ("tiff", "tif"), "vips",
            written=True, alpha=True, deep=True, kept=("icc", "xmp"),
        ),
        Format("apng", "image/apng", ("apng",), "ffmpeg", animated=True, alpha=True),
        Format("avif-sequence", "image/avif", ("avifs",), "ffmpeg", animated=True, alpha=True),
        Format("heic", "image/heic", ("heic", "heif", "hif"), "ffmpeg", alpha=True),
        Format("heic-sequence", "image/heic-sequence", ("heics",), "ffmpeg", animated=True),
        Format("jxl", "image/jxl", ("jxl",), "ffmpeg", animated=True, alpha=True),
        Format("jp2", "image/jp2", ("jp2", "jpx", "jpf"), "ffmpeg", alpha=True),
        Format("j2k", "image/j2c", ("j2k", "j2c", "jpc"), "ffmpeg", alpha=True),
        Format("bmp", "image/bmp", ("bmp", "dib"), "ffmpeg", alpha=True),
        Format("ico", "image/vnd.microsoft.icon", ("ico",), "ffmpeg", alpha=True),
        Format("psd", "image/vnd.adobe.photoshop", ("psd",), "ffmpeg", alpha=True),
        Format("svg", "image/svg+xml", ("svg",), "svg", alpha=True),
    )
}  # fmt: skip

WRITTEN = tuple(each.name for each in FORMATS.values() if each.written)
_BY_EXTENSION = {ending: each for each in FORMATS.values() for ending in each.extensions}


def by_extension(extension: str) -> Format | None:
    """The format of a file's ending, with or without its point, in either case."""
    return _BY_EXTENSION.get(extension.lower().removeprefix("."))


def written(name: str) -> Format:
    """The format that a result is to have, by its name or its ending (`jpg`, `tif`).

    Raises `UsageError` (`format_unknown`) for what we do not write.
    """
    found = FORMATS.get(name) or by_extension(name)
    if found is None or not found.written:
        raise UsageError(
            f"unknown format {name[:40]!r}: choose from {', '.join(WRITTEN)}", code="format_unknown"
        )
    return found


# --- the answer to `Accept` -----------------------------------------------------------------------

# RFC 9110, 12.4.2: 0 to 1 with at most three decimal places.
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def negotiate(accept: str | None, *, animated: bool, alpha: bool) -> str:
    """The format that an `Accept` header (RFC 9110, 12.5.1) likes best, by its name.

    AVIF and WebP are answered only where they are named: `*/*` and `image/*` come from clients that
    cannot show them too. Else JPEG, PNG where there is transparency, GIF for an animation, also
    where none of it is accepted: that is better than no picture, and the RFC lets a server do so.
    """
    common = "gif" if animated else "png" if alpha else "jpeg"
    weights = _weights(accept or "")
    best, most = common, _weight_of(FORMATS[common].content_type, weights)
    for name in ("webp",) if animated else ("webp", "avif"):
        weight = weights.get(FORMATS[name].content_type, 0.0)
        if weight > 0 and weight >= most:
            best, most = name, weight
    return best


def _weight_of(content_type: str, weights: dict[str, float]) -> float:
    """The most specific range that holds it decides."""
    for media_range in (content_type, "image/*", "*/*"):
        if media_range in weights:
            return weights[media_range]
    return 0.0


def _weights(accept: str) -> dict[str, float]:
    """Media ranges and their weights; what cannot be read is left out. Of a range that is named
    twice (its other parameters mean nothing to pictures) the higher weight counts."""
    weights: dict[str, float] = {}
    for element in accept.lower().split(","):
        media_range, *parameters = (part.strip(" \t") for part in element.split(";"))
        given = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        weight = given[0] if given else "1"
        if _WEIGHT.fullmatch(weight):
            weights[media_range] = max(float(weight), weights.get(media_range, 0.0))
    return weights
