"""`Picture` → the bytes of a file: format, quality, size, and the metadata that was to be kept.

Nothing is written beside what was asked for: sRGB carries no profile, the orientation is gone with
the turn that it asked for, and EXIF and XMP come only from `Picture.metadata`, as `loading` cleaned
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import pyvips

from telecine.engine.errors import InputRefused
from telecine.engine.images import palettes
from telecine.engine.images.formats import FORMATS
from telecine.engine.images.operations import Convert
from telecine.engine.images.picture import Picture

# VipsForeignKeep
_KEEP = {"exif": 1, "xmp": 2, "icc": 8}
_FIELDS = {"exif": "exif-data", "xmp": "xmp-data", "icc": "icc-profile-data"}

ENOUGH_SSIM = 0.98
_TRIES = 6  # encodes of a bisection


@dataclass(frozen=True, slots=True)
class Saved:
    """The file, and how it came to be: `report` has `quality`, `ssim` and `encodes` where they were
    decided here."""

    data: bytes = field(repr=False)
    report: dict[str, Any]
    warnings: tuple[str, ...] = ()


def save(picture: Picture, output: str, convert: Convert) -> Saved:
    """Writes a picture as `output`, one of `formats.WRITTEN`. An animation goes into GIF and WebP.

    Raises:
        InputRefused: `max_bytes_unreachable`.
        pyvips.Error: the picture cannot be computed, or not be written.
    """
    encode = _Encoder(picture, output, convert)
    quality = FORMATS[output].quality if convert.quality is None else convert.quality
    if quality is None or convert.lossless:
        return Saved(encode(None), {})  # the grammar lets nobody ask these for `max_bytes`
    if quality == "auto":
        chosen, saved = _alike(encode)
    else:
        chosen, saved = quality, Saved(encode(quality), {"quality": quality})
    return _within(encode, saved, convert.max_bytes, chosen)


def frames_of(saved: Saved, output: str, frames: int) -> int:
    """How many frames of so many the file has: libwebp joins neighbours that are alike to one that
    is shown as long as they were."""
    if output != "webp" or frames == 1:
        return frames
    image = pyvips.Image.webpload_buffer(saved.data)
    return int(image.get("n-pages")) if "n-pages" in image.get_fields() else 1


def _within(encode: _Encoder, saved: Saved, most: int | None, quality: int) -> Saved:
    """The best quality at which the file is no larger than `most`, below the one it has."""
    if most is None or len(saved.data) <= most:
        return saved
    low, high, fits, smallest = 1, quality - 1, None, saved
    for _ in range(_TRIES):
        if low > high:
            break
        middle = (low + high) // 2
        tried = Saved(encode(middle), {"quality": middle})
        smallest = min(smallest, tried, key=lambda each: len(each.data))
        if len(tried.data) <= most:
            fits, low = tried, middle + 1
        else:
            high = middle - 1
    if fits is None and smallest.report.get("quality") != 1:
        smallest = Saved(encode(1), {"quality": 1})
        fits = smallest if len(smallest.data) <= most else None
    if fits is None:
        raise InputRefused(
            f"at the lowest quality the file still has {len(smallest.data)} bytes, {most} were "
            "allowed: make it smaller, or choose another format",
            code="max_bytes_unreachable",
        )
    return fits


class _Encoder:
    """One picture, to be encoded as often as it takes. It is computed once: where only one file
    will be made, while that is written; else before the first."""

    def __init__(self, picture: Picture, output: str, convert: Convert) -> None:
        self.output, self.convert = output, convert
        if not FORMATS[output].alpha and picture.has_alpha:
            picture = _flat(picture)
        frames = picture.frames
        strip = frames[0] if len(frames) == 1 else pyvips.Image.arrayjoin(list(frames), across=1)
        if convert.quality == "auto" or convert.max_bytes is not None or output == "gif":
            strip = strip.copy_memory()
        self.strip, self.keep = _with_metadata(strip, picture, output)

    def __call__(self, quality: int | None, image: pyvips.Image | None = None) -> bytes:
        whole = self.strip.width * self.strip.height
        options = _options(self.output, self.convert, quality, whole)
        if self.output == "gif":
            return _gif(self.strip, options)
        target = self.strip if image is None else image
        keep = self.keep if image is None else 0
        name = f"{_SAVERS[self.output]}_buffer"
        return bytes(pyvips.Operation.call(name, target, keep=keep, **options))

    def decoded(self, data: bytes) -> pyvips.Image:
        """What a reader of the file sees, all frames one above the other."""
        options = {"n": -1} if FORMATS[self.output].animated else {}
        return pyvips.Operation.call(_LOADERS[self.output], data, **options)


def _flat(picture: Picture) -> Picture:
    """On white, for formats that know no transparency."""

    def flat(frame: pyvips.Image) -> pyvips.Image:
        white = frame.flatten(background=[picture.most] * 3, max_alpha=picture.most)
        return white.copy(interpretation=frame.interpretation)

    return picture.each(flat)


# --- quality=auto ---------------------------------------------------------------------------------

_LOWEST, _HIGHEST = 33, 95  # 63 qualities: six encodes find the lowest that is enough
_TILE, _TILES = 256, 3
_WHOLE_PIXELS = _TILES * _TILES * _TILE * _TILE


def _alike(encode: _Encoder) -> tuple[int, Saved]:
    """The lowest quality at which the picture is still alike (SSIM of its luma ≥ 0.98).

    Of a large picture nine parts are tried in its place, since AVIF takes seconds for a photo; then
    the whole is encoded and the same parts of that are held against it.
    """
    sample = _sample(encode.strip)
    plain = _luma(sample).copy_memory()
    whole = sample is encode.strip
    best, last, encodes = None, None, 0
    low, high = _LOWEST, _HIGHEST + 1
    while low < high:
        middle = (low + high) // 2
        data = encode(middle, None if whole else sample)
        encodes += 1
        last = (middle, data, ssim(plain, _luma(encode.decoded(data))))
        if last[2] >= ENOUGH_SSIM:
            best, high = last, middle
        else:
            low = middle + 1
    assert last is not None
    quality, data, likeness = best or last
    if not whole:
        for _ in range(3):
            data = encode(quality)
            encodes += 1
            likeness = ssim(plain, _luma(_sample(encode.decoded(data))))
            if likeness >= ENOUGH_SSIM or quality == _HIGHEST:
                break
            quality = min(quality + 3, _HIGHEST)
    report = {"quality": quality, "ssim": round(likeness, 4), "encodes": encodes}
    warnings = () if likeness >= ENOUGH_SSIM else (
        f"quality=auto: even at quality {quality} the SSIM is {likeness:.3f}, below {ENOUGH_SSIM}",
    )  # fmt: skip
    return quality, Saved(data, report, warnings)


def _sample(image: pyvips.Image) -> pyvips.Image:
    """Nine parts of a large picture, evenly spread, side by side; a smaller one as it is."""
    side = _TILE * _TILES
    if image.width * image.height <= _WHOLE_PIXELS or min(image.width, image.height) < side:
        return image
    lefts = [n * (image.width - _TILE) // (_TILES - 1) for n in range(_TILES)]
    tops = [n * (image.height - _TILE) // (_TILES - 1) for n in range(_TILES)]
    tiles = [image.crop(left, top, _TILE, _TILE) for top in tops for left in lefts]
    return pyvips.Image.arrayjoin(tiles, across=_TILES).copy_memory()


def _luma(image: pyvips.Image) -> pyvips.Image:
    """Y' of BT.601 in 0 to 255, on grey where it is transparent."""
    if image.format != "uchar":
        image = image.cast("uchar", shift=True)
    if image.hasalpha():
        image = image.flatten(background=[128])
    if image.bands == 1:
        return image.cast("float")
    return image[0:3].recomb(pyvips.Image.new_from_array([[0.299, 0.587, 0.114]])).cast("float")


# The window of Wang et al. (2004): 11 × 11, Gaussian, σ = 1.5.
_WINDOW = [math.exp(-(n * n) / (2 * 1.5**2)) for n in range(-5, 6)]


def ssim(a: pyvips.Image, b: pyvips.Image) -> float:
    """Mean structural similarity of two pictures of one band, 0 to 255: Wang, Bovik, Sheikh and
    Simoncelli, "Image quality assessment: from error visibility to structural similarity" (2004),
    over all windows that lie inside. Of a picture smaller than a window it is taken over all."""
    window = pyvips.Image.new_from_array([_WINDOW], scale=sum(_WINDOW))

    def mean(image: pyvips.Image) -> pyvips.Image:
        return image.convsep(window, precision="float")

    a, b = a.copy_memory(), b.copy_memory()
    mean_a, mean_b = mean(a), mean(b)
    var_a = mean(a * a) - mean_a * mean_a
    var_b = mean(b * b) - mean_b * mean_b
    covar = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = ((mean_a * mean_b * 2 + c1) * (covar * 2 + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    )
    edge = len(_WINDOW) // 2
    if min(a.width, a.height) > 2 * edge:
        inner = (a.width - 2 * edge, a.height - 2 * edge)
        likeness = likeness.crop(edge, edge, *inner)
    return float(likeness.avg())


# --- the encoders ---------------------------------------------------------------------------------

_SAVERS = {
    "jpeg": "jpegsave",
    "png": "pngsave",
    "webp": "webpsave",
    "avif": "heifsave",
    "gif": "gifsave",
    "tiff": "tiffsave",
}
_LOADERS = {"jpeg": "jpegload_buffer", "webp": "webpload_buffer", "avif": "heifload_buffer"}


# Measured on a photo of 6 MP, one core: effort 1 takes 0.6 s and 363 kB, 2 takes 1.8 s and 380 kB,
# 3 takes 2.2 s and 351 kB, 4 takes 14 s and 337 kB.
_AVIF_EFFORT, _AVIF_EFFORT_LARGE = 3, 1
_LARGE_PIXELS = 2_000_000
# WebP of the same photo: effort 4 takes 0.5 s and 322 kB, 2 takes 0.2 s and 342 kB. An animation of
# hundreds of frames would not be ready in time.
_WEBP_EFFORT, _WEBP_EFFORT_LARGE = 4, 2
_LARGE_WEBP_PIXELS = 12_000_000


def _options(output: str, convert: Convert, quality: int | None, pixels: int) -> dict[str, Any]:
    """What each encoder is told, and why. `pixels`: of the whole picture."""
    match output:
        case "jpeg":
            # Chroma at half size up to Q 89, as libvips does by itself. mozjpeg's trellis would
            # make files 6 % smaller and take three times as long.
            return {"Q": quality, "interlace": convert.progressive, "optimize_coding": True}
        case "png":
            # Never a palette: libvips chooses one by its own taste, which is a loss. Filtered by
            # row a photo is half as large as unfiltered.
            return {"compression": 6, "filter": "all"}
        case "webp":
            effort = _WEBP_EFFORT_LARGE if pixels > _LARGE_WEBP_PIXELS else _WEBP_EFFORT
            return {**_quality(quality), "lossless": convert.lossless, "effort": effort}
        case "avif":
            large = pixels > _LARGE_PIXELS
            return {
                **_quality(quality),
                "lossless": convert.lossless,
                "compression": "av1",
                "bitdepth": 8,
                "effort": _AVIF_EFFORT_LARGE if large else _AVIF_EFFORT,
            }
        case "gif":
            # Frames that are alike stay frames: whoever asked for four gets four.
            return {"keep_duplicate_frames": True}
        case _:
            return {"compression": "deflate", "predictor": "horizontal"}


# Measured on photos of 200 pixels: effort 7 dithers only where it is smooth, and loses ΔE2000 p99
# 3.9 to 4.5 where 4 loses 4.9. It takes 0.12 s instead of 0.04 (at 800 pixels 1.0 instead of 0.3):
# an animation of hundreds would not be ready in time. Half the dither is p99 0.9 nearer in a photo
# of 3 MP, and its means of 4 × 4 pixels are as near as those of the whole.
_GIF_BEST = {"effort": 7, "dither": 0.5}
_GIF_QUICK = {"effort": 4, "dither": 0.5}
_LARGE_GIF_PIXELS = 12_000_000


def _gif(strip: pyvips.Image, options: Mapping[str, Any]) -> bytes:
    """Where there are more colours than a palette holds, those that the eye tells apart; where
    there are not, each as it is."""
    moving = "page-height" in strip.get_fields()
    quick = moving or strip.width * strip.height > _LARGE_GIF_PIXELS
    options = {**options, **(_GIF_QUICK if quick else _GIF_BEST), "keep": 0}
    spread = bytes(palettes.spread(strip).gifsave_buffer(**options))
    return palettes.restored(spread) or bytes(strip.gifsave_buffer(**options))


def _quality(quality: int | None) -> dict[str, int]:
    return {} if quality is None else {"Q": quality}


def _hundredths(delays_ms: Sequence[int]) -> list[int]:
    """The times of a GIF, which counts hundredths of a second: what one frame is rounded by, the
    next makes good, so that an animation stays as long as it was."""
    ends = [round(end / 10) * 10 for end in accumulate(delays_ms)]
    return [end - start for start, end in pairwise([0, *ends])]


def _with_metadata(strip: pyvips.Image, picture: Picture, output: str) -> tuple[pyvips.Image, int]:
    """The image with what is kept and nothing else, and libvips' flags for it."""
    strip = strip.copy()
    for name in strip.get_fields():
        if name in _FIELDS.values() or name in _STALE or name.startswith("exif-"):
            strip.remove(name)
    blobs = {**picture.metadata, **({"icc": picture.icc} if picture.icc else {})}
    for name, blob in blobs.items():
        strip.set_type(pyvips.GValue.blob_type, _FIELDS[name], blob)
    if picture.animated:
        strip.set_type(pyvips.GValue.gint_type, "page-height", picture.height)
        delays = _hundredths(picture.delays_ms) if output == "gif" else picture.delays_ms
        strip.set_type(pyvips.GValue.array_int_type, "delay", list(delays))
        strip.set_type(pyvips.GValue.gint_type, "loop", picture.loop)
    return strip, sum(_KEEP[name] for name in blobs)


# What the source's file was like says nothing about the result's.
_STALE = (
    "orientation", "page-height", "n-pages", "delay", "loop", "background", "palette",
    "gif-palette", "gif-delay", "gif-loop", "bits-per-sample", "iptc-data", "jpeg-thumbnail-data",
    "gainmap-data", "image-description",
)  # fmt: skip
