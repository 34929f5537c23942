"""Pictures as other programs read and change them: upright, sRGB, RGBA, frame by frame.

Nothing of telecine is imported. Colours are brought to sRGB with LittleCMS (Pillow's), perceptual
as ImageMagick does by default; where a program gives a profile along with its pixels that is done
here, where it gives none its pixels are taken for sRGB.
"""

from __future__ import annotations

import functools
import io
import json
import math
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, ImageSequence
from tests.media.images.colour import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A picture as a program reads it. `delays_ms` is empty for a still picture. `partial`: what
    is transparent here the program does not know, or gets wrong. One is equal to itself alone."""

    frames: tuple[Pixels, ...]
    delays_ms: tuple[int, ...] = ()
    partial: bool = False


def to_rgba(image: Image.Image) -> Pixels:
    """One frame in sRGB, upright by its EXIF."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA", "1") or "transparency" in image.info:
        image = image.convert("RGBA")
    if profile:
        image = _to_srgb(image, profile)
    return np.asarray(image.convert("RGBA"))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    alpha = image.getchannel("A") if "A" in image.getbands() else None
    space = source.profile.xcolor_space.strip()
    image = image.convert({"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[space])
    changed = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        outputMode="RGB",
    )
    assert changed is not None
    if alpha is not None:
        changed.putalpha(alpha)
    return changed


# --- readers --------------------------------------------------------------------------------------


def pillow(source: Path | io.BytesIO) -> Reading:
    """Pillow: JPEG, PNG, WebP, GIF, TIFF, AVIF (libavif), JPEG 2000 (OpenJPEG), PSD, ICO. Of a
    TIFF its first page, of an icon its largest picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags: no concern of these tests
        with Image.open(source) as image:
            if image.format == "TIFF" or getattr(image, "n_frames", 1) <= 1:
                return Reading((to_rgba(image),))
            frames, delays = [], []
            for frame in ImageSequence.Iterator(image):
                frames.append(to_rgba(frame.copy()))
                delays.append(round(frame.info.get("duration", 0)))
            return Reading(tuple(frames), tuple(delays))


def pillow_truncated(source: Path) -> Reading:
    """Pillow, which takes what there is of a file that was cut off. Of a GIF it leaves the rows
    that are missing at the palette's first colour; nothing is known of them."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        reading = pillow(source)
        with Image.open(source) as image:
            if image.mode != "P":
                return reading
            there = np.flatnonzero(np.asarray(image).any(axis=1))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    known = reading.frames[0].copy()
    known[there[-1] :] = 0
    return Reading((known,), partial=True)


def magick(source: Path) -> Reading:
    """ImageMagick 6: of a still picture. It applies orientation and profiles itself."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "srgb.icc"
        target.write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        options = ["-auto-orient", "-profile", str(target), "-colorspace", "sRGB", "+profile", "*"]
        options += ["-define", "png:compression-level=1"]
        argv = ["convert", f"{source}[0]", *options, "-depth", "8", "PNG32:-"]
        made = subprocess.run(argv, capture_output=True, check=False)
    if not made.stdout:  # it also complains of what it can well read
        raise RuntimeError(f"convert cannot read {source.name}: {made.stderr!r}")
    return pillow(io.BytesIO(made.stdout))


def magick_animation(source: Path) -> Reading:
    """ImageMagick 6: all frames of an animated GIF, put together (`-coalesce`)."""
    asked = ["identify", "-format", "%W %H %T\n", str(source)]
    told = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.split("\n")
    words = [line.split() for line in told if line]
    width, height = int(words[0][0]), int(words[0][1])
    argv = ["convert", str(source), "-coalesce", "-depth", "8", "RGBA:-"]
    made = subprocess.run(argv, capture_output=True, check=True).stdout
    frames = np.frombuffer(made, np.uint8).reshape(-1, height, width, 4)
    return Reading(tuple(frames), tuple(10 * int(line[2]) for line in words))


def _by_png(*argv: str) -> Callable[[Path], Reading]:
    """A program that writes a PNG; IN and OUT stand for the files."""

    def read(source: Path) -> Reading:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.png"
            words = [{"IN": str(source), "OUT": str(made)}.get(word, word) for word in argv]
            subprocess.run(words, check=True, capture_output=True)
            return pillow(made)

    return read


djxl = _by_png("djxl", "IN", "OUT")
heif = _by_png("heif-convert", "IN", "OUT")
opj = _by_png("opj_decompress", "-i", "IN", "-o", "OUT")
rsvg = _by_png("rsvg-convert", "IN", "-o", "OUT")


def rsvg_at(source: Path, width: int, height: int) -> Reading:
    """A drawing, drawn at this size."""
    return _by_png("rsvg-convert", "-w", str(width), "-h", str(height), "IN", "-o", "OUT")(source)


def ffmpeg(source: Path, *, filters: str = "null") -> Reading:
    """Debian's FFmpeg, four major versions older than the one that telecine brings along."""
    asked = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    asked += ["-show_entries", "stream=width,height:packet=duration_time", str(source)]
    told = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    width, height = (told["streams"][0][side] for side in ("width", "height"))
    argv = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(source), "-map", "v:0", "-vf", filters]
    argv += ["-fps_mode", "passthrough", "-sws_flags", "bicubic+accurate_rnd+full_chroma_int"]
    argv += ["-pix_fmt", "rgba", "-f", "rawvideo", "-"]
    made = subprocess.run(argv, capture_output=True, check=True).stdout
    frames = np.frombuffer(made, np.uint8).reshape(-1, height, width, 4)
    delays = [round(1000 * float(packet["duration_time"])) for packet in told["packets"]]
    return Reading(tuple(frames), tuple(delays) if len(frames) > 1 else ())


def _tone_mapped(source: Path, codes: Pixels, white: float) -> Reading:
    """An HDR picture by libjxl's `tone_map`: as ITU-R BT.2408 bends 1,000 cd/m² to a white of 203.
    Version 0.7 of it spoils what is brighter than that white (clouds and a sunlit floor have dark
    spots, looked at): unknown, where a code of the source is above `white`."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.png"
        argv = ["tone_map", "-m", "1000", "-t", "203", str(source), str(made)]
        subprocess.run(argv, check=True, capture_output=True)
        known = pillow(made).frames[0].copy()
    known[codes[..., :3].max(axis=2) >= white * 255] = 0
    return Reading((known,), partial=True)


def libjxl_pq(source: Path) -> Reading:
    """Of a picture that says Display P3, PQ and full range of itself (CICP 12/16/6), decoded by
    FFmpeg; `tone_map` takes a file that says nothing for BT.2020 and PQ."""
    coded = "zscale=min=smpte170m:rin=full:pin=smpte432:tin=smpte2084"
    wide = f"{coded}:m=gbr:r=full:p=bt2020:t=smpte2084,format=gbrp16le"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "wide.ppm"
        argv = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(source), "-vf", wide]
        argv += ["-pix_fmt", "rgb48be", "-c:v", "ppm", "-f", "image2", str(made)]
        subprocess.run(argv, check=True, capture_output=True)
        return _tone_mapped(made, pillow(source).frames[0], 0.58)  # PQ of 203 cd/m² (BT.2408)


def libjxl_hlg(source: Path) -> Reading:
    """Of a PNG that says BT.2020 and HLG of itself (CICP 9/18/0), which goes before its profile
    (PNG, third edition, 4.3)."""
    with Image.open(source) as image:
        codes = np.asarray(image.convert("RGB"))
    return _tone_mapped(source, codes, 0.75)  # HLG of 203 cd/m² (BT.2408)


READERS: dict[str, Callable[[Path], Reading]] = {
    "pillow": pillow,
    "pillow-truncated": pillow_truncated,
    "magick": magick,
    "magick-animation": magick_animation,
    "djxl": djxl,
    "heif": heif,
    "opj": opj,
    "rsvg": rsvg,
    "ffmpeg": ffmpeg,
    "libjxl-pq": libjxl_pq,
    "libjxl-hlg": libjxl_hlg,
}


@functools.lru_cache(maxsize=2)
def read(source: Path, reader: str) -> Reading:
    """What one of `READERS` makes of a file; the last two are kept, since they are used again."""
    return READERS[reader](source)


def known(reading: Reading, reference: Pixels, other: Pixels) -> tuple[Pixels, Pixels]:
    """Two pictures without what the first's reading does not know."""
    if not reading.partial:
        return reference, other
    unknown = reference[..., 3] < 255
    reference, other = reference.copy(), other.copy()
    reference[unknown] = other[unknown] = 0
    return reference, other


# --- operations -----------------------------------------------------------------------------------


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """By Pillow's Lanczos filter where it shrinks and its bicubic one where it grows, which weigh
    colours with their alpha."""
    image = Image.fromarray(pixels)
    for size in ((width, image.height), (width, height)):
        grows = size[0] > image.width or size[1] > image.height
        kernel = Image.Resampling.BICUBIC if grows else Image.Resampling.LANCZOS
        image = image.resize(size, kernel) if size != image.size else image
    return np.asarray(image)


def turned(pixels: Pixels, angle: float, width: int, height: int) -> Pixels:
    """Clockwise, its middle in the middle of a transparent width × height ground (bicubic, of
    colours weighed with their alpha; a border makes the edges as soft as they lie)."""
    bordered = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))
    rows, columns = bordered.shape[:2]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Where a pixel of the result comes from.
    across = columns / 2 - cosine * width / 2 - sine * height / 2
    down = rows / 2 + sine * width / 2 - cosine * height / 2
    image = (
        Image.fromarray(bordered)
        .convert("RGBa")
        .transform(
            (width, height),
            Image.Transform.AFFINE,
            (cosine, sine, across, -sine, cosine, down),
            Image.Resampling.BICUBIC,
        )
    )
    return np.asarray(image.convert("RGBA"))


def gray(pixels: Pixels) -> Pixels:
    """Filter Effects Module Level 1, 10.3 (`grayscale(1)`): the luminance coefficients on the sRGB
    values as they are."""
    luma = pixels[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    made = pixels.copy()
    made[..., :3] = np.rint(luma)[..., None]
    return made


def over_white(pixels: Pixels) -> Pixels:
    """What a format without transparency shows."""
    alpha = pixels[..., 3:].astype(np.float64) / 255
    made = np.full_like(pixels, 255)
    made[..., :3] = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha))
    return made


def averaged(pixels: Pixels, side: int) -> Pixels:
    """Each square of so many pixels as one: what an eye sees of dithering."""
    height, width = (max(1, length // side) for length in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def windows(pixels: Pixels, width: int, height: int) -> Iterable[Pixels]:
    """Every width × height part of a picture."""
    for top in range(pixels.shape[0] - height + 1):
        for left in range(pixels.shape[1] - width + 1):
            yield pixels[top : top + height, left : left + width]
