"""Bytes → `Picture`: upright, RGB or RGBA, sRGB, with nothing decoded before its size was judged.

The loader is pinned by the sniffed format: libvips never guesses. `read_header` opens the file,
which decodes nothing, and holds it against the limits; `load` then makes the picture, in one of two
ways: `strict`, which fails at the first damage, and not, which shows what could be read. libvips
computes lazily, so damage may come to light only when the result is written; who loads strictly
and meets a `pyvips.Error` tries again (see `child`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyvips

from telecine.engine.errors import InputRefused
from telecine.engine.images import colors, metadata, svg
from telecine.engine.images.geometry import Size
from telecine.engine.images.lettering import FONT, FONT_FILE
from telecine.engine.images.operations import Kept
from telecine.engine.images.picture import Picture
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Bytes, Source

_LOADERS = {
    "jpeg": "jpegload_buffer",
    "png": "pngload_buffer",
    "webp": "webpload_buffer",
    "gif": "gifload_buffer",
    "tiff": "tiffload_buffer",
    "avif": "heifload_buffer",
    "heic": "heifload_buffer",  # the header alone: the wheel has no HEVC decoder
}
_ANIMATED = ("gif", "webp")
# libjpeg tells of wrong bits by warnings alone; PNG's warnings are about harmless matters.
_FAIL_ON = {"jpeg": "warning"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says before anything is decoded. `size` is of the upright picture; `frames` of
    an animation (1 for a still), `pages` of a document or collection of which the first is taken.
    `profile` says whether there is an ICC profile, `coding` what stands for one."""

    source: Source
    blobs: tuple[Bytes, ...]
    format: str
    size: Size
    frames: int
    pages: int
    depth: int
    bands: int
    alpha: bool
    interpretation: str
    orientation: int
    delays_ms: tuple[int, ...]
    loop: int
    profile: bytes | None
    coding: colors.Coding | None
    exif: bytes | None
    xmp: bytes | None
    warnings: tuple[str, ...] = ()

    @property
    def animated(self) -> bool:
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A picture and what is to be told of it."""

    picture: Picture
    removed: tuple[str, ...] = ()  # kinds of metadata that were there and are not in the picture
    warnings: tuple[str, ...] = ()


def _open(format: str, data: Bytes, **options: Any) -> pyvips.Image:
    if format == "svg":
        return _open_drawing(bytes(data), **options)
    return pyvips.Operation.call(_LOADERS[format], data, access="sequential", **options)


def _open_drawing(data: bytes, *, scale: float = 1.0) -> pyvips.Image:
    """A sanitised drawing. Its loader is blocked in libvips as too little fuzzed, and let in for
    this one call."""
    pyvips.operation_block_set("VipsForeignLoadSvg", False)
    try:
        return pyvips.Operation.call("svgload_buffer", data, scale=scale)
    finally:
        pyvips.operation_block_set("VipsForeignLoadSvg", True)


def read_header(
    source: Source, blobs: Sequence[Bytes], limits: ImageLimits, *, first_only: bool = False
) -> Header:
    """Opens a file and judges its size; nothing is decoded. A drawing (SVG) is sanitised.

    `first_only`: only the first frame will be asked for, so only that counts.

    Raises:
        InputRefused: `image_damaged` (its header cannot be read), `image_format_refused`,
            `too_many_pixels`, `too_many_frames`, `svg_refused`.
    """
    warnings: list[str] = []
    pictures = blobs[: len(blobs) - 1] if source.header else blobs
    if source.format == "svg":
        pictures = [_sanitised(pictures[0], limits, warnings)]
    elif source.format not in _LOADERS:
        raise InputRefused(f"{source.format} is not decoded here", code="image_format_refused")
    try:
        image = _open(source.format, pictures[0])
        # libvips reads ICC and EXIF of a HEIC, but not its pixels.
        told = _open(source.was, blobs[-1]) if source.header and source.was in _LOADERS else image
    except pyvips.Error as error:
        raise InputRefused(
            f"the file's header cannot be read: {reason(error)}", code="image_damaged"
        ) from None
    if _in_floats(image):
        warnings.append(
            "the pixels are floating-point numbers: 0 was taken for black and 1 for white, in "
            "linear light"
        )
    elif image.interpretation not in _MEASURED and image.format not in ("uchar", "ushort"):
        raise InputRefused(
            f"the pixels are {_NUMBERS.get(image.format, 'numbers')}, of which nobody says what is "
            "white: save them as 8 or 16 bits without a sign",
            code="image_format_refused",
        )
    told_orientation = _int(told, "orientation", 1)
    # What FFmpeg decoded is upright already.
    orientation = 1 if source.was else told_orientation
    pages = max(len(pictures), _int(image, "n-pages", 1))
    frames = pages if source.format in _ANIMATED or len(pictures) > 1 else 1
    upright = (image.width, image.height) if orientation < 5 else (image.height, image.width)
    size = Size(*upright)
    _judge(size, 1 if first_only else frames, limits)
    delays = source.delays_ms or tuple(_get(image, "delay") or ())
    profile = _blob(told, "icc-profile-data") or _blob(image, "icc-profile-data")
    return Header(
        source=source,
        blobs=tuple(pictures),
        format=source.was or source.format,
        size=size,
        frames=frames,
        pages=pages if frames == 1 else 1,
        depth=32 if _in_floats(image) else 8 if image.format == "uchar" else 16,
        bands=image.bands,
        alpha=bool(image.hasalpha()),
        interpretation=image.interpretation,
        orientation=told_orientation if 1 <= told_orientation <= 8 else 1,
        delays_ms=(delays + (100,) * frames)[:frames] if frames > 1 else (),
        loop=source.loop if source.was else _int(image, "loop", 0),
        profile=profile,
        coding=_coding(source, pictures[0], profile),
        exif=_exif(told, source, pictures[0]),
        xmp=_blob(told, "xmp-data"),
        warnings=tuple(warnings),
    )


# Colours whose numbers say by themselves what they are; and in words what pixels else consist of.
_MEASURED = ("lab", "labs", "xyz", "scrgb")
_NUMBERS = {
    "char": "signed 8-bit numbers", "short": "signed 16-bit numbers",
    "int": "signed 32-bit numbers", "uint": "32-bit numbers",
}  # fmt: skip


def _in_floats(image: pyvips.Image) -> bool:
    """TIFF alone has them; libvips tells those of RGB from bytes, and those of grey not."""
    grey = image.interpretation == "b-w" and image.bands <= 2
    return bool(image.format == "float" and (grey or image.interpretation == "scrgb"))


def _sanitised(data: Bytes, limits: ImageLimits, warnings: list[str]) -> bytes:
    if not limits.svg:
        raise InputRefused("drawings (SVG) are not taken here", code="svg_refused")
    drawing = svg.sanitise(data)
    if drawing.left_out:
        warnings.append(
            f"{drawing.left_out} parts of the drawing were left out: scripts, references to other "
            "files, or what is no part of a picture"
        )
    return drawing.data


def _judge(size: Size, frames: int, limits: ImageLimits) -> None:
    if frames > limits.frames:
        raise InputRefused(
            f"{frames} frames, at most {limits.frames} are taken", code="too_many_frames"
        )
    if size.width * size.height * frames > limits.pixels:
        times = f" × {frames} frames" if frames > 1 else ""
        raise InputRefused(
            f"{size.width} × {size.height}{times} pixels, at most {limits.pixels:,} are taken",
            code="too_many_pixels",
        )


def _coding(source: Source, data: Bytes, profile: bytes | None) -> colors.Coding | None:
    """What says the colours in place of a profile. HDR goes before one: ICC profiles cannot say it
    (those that stand beside are for programs that know nothing better)."""
    if source.was:
        coding: colors.Coding | None = colors.from_names(source.primaries, source.transfer)
    elif source.format == "png":
        return colors.of_png(data)
    elif source.format == "avif":
        coding = colors.of_avif(data)
    else:
        return None
    return None if coding and profile and not coding.hdr else coding


def _exif(told: pyvips.Image, source: Source, data: Bytes) -> bytes | None:
    if source.format == "tiff":  # of which libvips reads none
        return metadata.exif_of_tiff(data)
    return _blob(told, "exif-data")


def _get(image: pyvips.Image, name: str) -> Any:
    return image.get(name) if image.get_typeof(name) else None


def _blob(image: pyvips.Image, name: str) -> bytes | None:
    value = _get(image, name)
    return value if isinstance(value, bytes) else None


def _int(image: pyvips.Image, name: str, default: int) -> int:
    value = _get(image, name)
    return value if isinstance(value, int) else default


def reason(error: pyvips.Error) -> str:
    """The first line of what libvips says that is no heading, without its own names."""
    lines = [line.strip() for line in str(error.detail or error).splitlines()]
    said = next((line for line in lines if line), "no reason was given")
    head, _, tail = said.partition(": ")
    return tail if tail and " " not in head else said


# --- the picture ----------------------------------------------------------------------------------


def load(
    header: Header,
    *,
    target: Size | None = None,
    keep: Sequence[Kept] = (),
    depth: int = 8,
    first_only: bool = False,
    strict: bool = True,
) -> Loaded:
    """The picture of a header.

    `target`: the first operation makes this size of it, which then may be had from the decoder. The
    picture is that size then, or its own. A still's pixels may be asked for once, from top to
    bottom; frames are in memory.

    Raises:
        pyvips.Error: it cannot be decoded.
    """
    frames = 1 if first_only else header.frames
    if header.interpretation == "cmyk":
        target = None  # a mean of inks is not the mean of their colours
    images = _frames(header, frames, target, strict)
    upright = [_upright(_smaller(image, header, target), header) for image in images]
    shown = [_shown(image, header, "icc" in keep, depth) for image in upright]
    warnings = list(header.warnings)
    if header.pages > 1:
        warnings.append(f"the file has {header.pages} pages; this is the first")
    if header.source.format == "gif" and not _ends(header.blobs[0]):
        warnings.append("the file is cut off: frames may be missing")
    warnings += [warning for each in shown[:1] for warning in each.warnings]
    picture = Picture(
        frames=tuple(each.image for each in shown),
        depth=depth,
        delays_ms=header.delays_ms if frames > 1 else (),
        loop=header.loop if frames > 1 else 0,
        icc=header.profile if shown[0].profile else None,
        metadata=_kept(header, keep),
    )
    return Loaded(picture, _removed(header, picture, keep), tuple(warnings))


def _kept(header: Header, keep: Sequence[Kept]) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    for name, blob, clean in (
        ("exif", header.exif, metadata.clean_exif),
        ("xmp", header.xmp, metadata.clean_xmp),
    ):
        cleaned = clean(blob, gps="gps" in keep) if blob and name in keep else None
        if cleaned is not None:
            kept[name] = cleaned
    return kept


def _removed(header: Header, picture: Picture, keep: Sequence[Kept]) -> tuple[str, ...]:
    places = {
        "exif": metadata.has_gps(header.exif),
        "xmp": metadata.xmp_has_gps(header.xmp),
    }
    found = {
        "icc": header.profile is not None and picture.icc is None,
        "exif": header.exif is not None and "exif" not in picture.metadata,
        "gps": any(
            there and not ("gps" in keep and kind in picture.metadata)
            for kind, there in places.items()
        ),
        "xmp": header.xmp is not None and "xmp" not in picture.metadata,
    }
    return tuple(name for name, gone in found.items() if gone)


def _ends(gif: Bytes) -> bool:
    """Whether a GIF has its trailer; of one that has none libvips shows what there is."""
    return bytes(memoryview(gif)[-1024:]).rstrip(b"\0").endswith(b";")


def _frames(header: Header, frames: int, target: Size | None, strict: bool) -> list[pyvips.Image]:
    fmt = header.source.format
    if fmt == "svg":
        return [_drawn(header, target)]
    options: dict[str, Any] = {"fail_on": _FAIL_ON.get(fmt, "error") if strict else "none"}
    if frames > 1 and len(header.blobs) == 1:
        strip = _open(fmt, header.blobs[0], n=frames, **options).copy_memory()
        height = strip.height // frames
        return [strip.crop(0, n * height, strip.width, height) for n in range(frames)]
    blobs = header.blobs[:frames]
    if fmt == "jpeg" and not strict:
        blobs = tuple(_whole_segments(bytes(blob)) for blob in blobs)
    if fmt == "jpeg" and target:
        options["shrink"] = _shrink(header.size, target)
    return [_open(fmt, blob, **options) for blob in blobs]


def _whole_segments(jpeg: bytes) -> bytes:
    """A JPEG that was cut within a segment's header (of a progressive one's next scan, say) ends
    before it: libjpeg gives up on half a header, but fills up half a scan."""
    at = len(jpeg) - 1
    while (at := jpeg.rfind(b"\xff", 0, at)) >= 0:
        kind = jpeg[at + 1]
        if kind in (0x00, 0xFF) or 0xD0 <= kind <= 0xD7:
            continue  # a coded byte, a filler, a restart
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        cut = kind != 0xD9 and (at + 4 > len(jpeg) or at + 2 + length > len(jpeg))
        return jpeg[:at] + b"\xff\xd9" if cut else jpeg
    return jpeg


_DRAWN_PIXELS = 100_000_000


@functools.cache
def _know_font() -> None:
    """Texts of drawings are set in our font, the only one in the sandbox: libvips tells of it when
    it sets a text itself."""
    pyvips.Image.text("a", font=FONT, fontfile=str(FONT_FILE))


def _drawn(header: Header, target: Size | None) -> pyvips.Image:
    """A drawing at exactly this size, whichever it is: its lines stay sharp. Where it is squeezed
    so much that it would have to be drawn larger than any result, as sharp as that size allows."""
    _know_font()
    if target is None or target == header.size:
        return _open("svg", header.blobs[0])
    across, down = target.width / header.size.width, target.height / header.size.height
    most = math.sqrt(_DRAWN_PIXELS / (header.size.width * header.size.height))
    drawn = _open("svg", header.blobs[0], scale=min(max(across, down), most))
    return drawn.thumbnail_image(target.width, height=target.height, size="force")


def _shrink(size: Size, target: Size) -> int:
    """What JPEG's decoder divides by, which then has less to do. At least a factor of two is left:
    it averages blocks, and what follows does better. (WebP's decoder saves nothing by it, and
    libvips' `thumbnail_buffer`, which would choose as we do, overlooks damage.)"""
    factor = min(size.width / target.width, size.height / target.height)
    return max(n for n in (1, 2, 4, 8) if n == 1 or factor >= 2 * n)


def _smaller(image: pyvips.Image, header: Header, target: Size | None) -> pyvips.Image:
    """Scaled before it is turned and its colours are converted, which costs more the more pixels
    there are. Not where alpha has to be multiplied in first, as `pixels` does."""
    if target is None or header.animated or image.hasalpha():
        return image
    stored, wanted, shrink = header.size, target, 1
    if header.source.format == "jpeg":
        shrink = _shrink(stored, wanted)
    if not header.source.was and _int(image, "orientation", 1) >= 5:
        stored, wanted = (Size(each.height, each.width) for each in (stored, wanted))
    if wanted.width > image.width or wanted.height > image.height or stored == wanted:
        return image
    # By the file's own size: what JPEG's decoder divided has a part of a pixel too much, by which
    # the picture would be drawn out.
    across, down = (
        shrink * side / whole
        for side, whole in ((wanted.width, stored.width), (wanted.height, stored.height))
    )
    return image.resize(across, vscale=down).crop(0, 0, wanted.width, wanted.height)


def _upright(image: pyvips.Image, header: Header) -> pyvips.Image:
    """Turned and mirrored as EXIF says, and the tag gone."""
    turned = _int(image, "orientation", 1)
    if header.source.was or turned == 1:
        return image
    # The quarter turns, and what is upside down, need their last row first.
    return (image.copy_memory() if turned > 2 else image).autorot()


# --- colours --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    image: pyvips.Image
    profile: bool = False  # whether the pixels are still in the file's profile
    warnings: tuple[str, ...] = ()


def _shown(image: pyvips.Image, header: Header, keep_icc: bool, depth: int) -> _Shown:
    """RGB or RGBA of `depth` bits; sRGB, or in the file's profile where that is kept."""
    bits = _int(image, "bits-per-sample", 16)
    if image.format == "ushort" and 8 < bits < 16 and header.source.format == "avif":
        # libheif's 10 and 12 bits lie at the upper end: white is 65,472 or 65,520 there.
        image = (image + (image >> bits)).cast("ushort").copy(interpretation=image.interpretation)
    if _in_floats(image) and image.bands <= 2:
        image = image[0].bandjoin([image[n] for n in (0, 0, 1)[: image.bands + 1]])
        image = image.copy(interpretation="scrgb")
    rgb = image.interpretation in ("srgb", "rgb16", "rgb")
    coding = header.coding
    if coding is not None and rgb and not coding.is_srgb:
        made = colors.from_coding(_bands(image), coding, depth)
        return _Shown(made, warnings=(_bent(coding),) if coding.hdr else ())
    if keep_icc and header.profile:
        if rgb:
            return _Shown(_bands(_as_rgb(image, depth)), profile=True)
        why = f"the colour profile is for {image.interpretation}: the colours became sRGB"
        return replace(_shown(image, header, False, depth), warnings=(why,))
    bad: list[str] = []
    if header.profile:
        image = image.copy()
        # Of what FFmpeg decoded, the profile may stand in the file's own header alone.
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", header.profile)
        try:
            return _Shown(_bands(colors.from_profile(image, depth)))
        except pyvips.Error:
            bad = ["the colour profile cannot be used: the colours are taken for the usual ones"]
    if image.interpretation == "cmyk":
        return _Shown(_bands(colors.from_profile(image, depth, "cmyk")), warnings=tuple(bad))
    return _Shown(_bands(_as_rgb(image, depth)), warnings=tuple(bad))


def _as_rgb(image: pyvips.Image, depth: int) -> pyvips.Image:
    """What has no profile, by libvips' own idea of it."""
    if depth == 8:
        return image.colourspace("srgb")
    if image.format == "uchar":
        return colors.widened(image.colourspace("srgb"))
    return image.colourspace("rgb16")


def _bent(coding: colors.Coding) -> str:
    return (
        f"the picture is HDR ({coding.words}) and became SDR: what is brighter than white was bent "
        "towards it (ITU-R BT.2390)"
    )


def _bands(image: pyvips.Image) -> pyvips.Image:
    """Three bands, or four: more than one channel beside the colours is none that we know."""
    return image[0:4] if image.bands > 4 else image
