"""Pictures as other programs read and change them: upright, sRGB, RGBA, frame by frame.

Nothing of telecine is imported. Colours are brought to sRGB with LittleCMS (Pillow's), perceptual
as ImageMagick does by default; where a program gives a profile along with its pixels that is done
here, where it gives none its pixels are taken for sRGB.
"""

from __future__ import annotations

import functools
import io
import json
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, ImageSequence
from tests.media.images.colour import Pixels


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture as a program reads it. `delays_ms` is empty for a still picture."""

    frames: tuple[Pixels, ...]
    delays_ms: tuple[int, ...] = ()


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
    """Pillow, which takes what there is of a file that was cut off."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return pillow(source)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


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


def ffmpeg_pq(source: Path) -> Reading:
    """A still picture in PQ and Display P3 (what it says of itself: CICP 12/16/6, full range), by
    Hable's curve at a reference white of 100 cd/m², which is how telecine shows HDR film."""
    to_light = "zscale=tin=smpte2084:pin=smpte432:min=smpte170m:rin=full:t=linear:npl=100"
    to_srgb = "zscale=t=iec61966-2-1:m=gbr:r=full"
    chain = [to_light, "format=gbrpf32le", "zscale=p=bt709", "tonemap=hable:desat=0", to_srgb]
    return ffmpeg(source, filters=",".join([*chain, "format=gbrp"]))


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
    "ffmpeg-pq": ffmpeg_pq,
}


@functools.lru_cache(maxsize=2)
def read(source: Path, reader: str) -> Reading:
    """What one of `READERS` makes of a file; the last two are kept, since they are used again."""
    return READERS[reader](source)


# --- operations -----------------------------------------------------------------------------------


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """By Pillow's Lanczos filter, which weighs colours with their alpha."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def turned(pixels: Pixels, angle: float, width: int, height: int) -> Pixels:
    """Clockwise, its middle in the middle of a transparent width × height ground (bicubic)."""
    rows, columns = pixels.shape[:2]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Where a pixel of the result comes from.
    across = columns / 2 - cosine * width / 2 - sine * height / 2
    down = rows / 2 + sine * width / 2 - cosine * height / 2
    image = Image.fromarray(pixels).transform(
        (width, height),
        Image.Transform.AFFINE,
        (cosine, sine, across, -sine, cosine, down),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(image)


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
