"""Pictures made by hand or by Pillow, and what our own workers make of them.

Foreign bytes are read by Pillow and numpy alone: nothing here imports libvips.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tests import pngs
from tests.pngs import chunk

from telecine.engine.images.grammar import parse_text
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import transform
from telecine.engine.images.values import ImageLimits, Made, Wanted
from telecine.engine.process import Sandbox
from telecine.engine.tools import Tools

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@contextmanager
def one_worker(**limits: Any) -> Iterator[ImageWorkers]:
    """A real worker in the real sandbox; without FFmpeg, which nothing here needs."""
    tools = Tools(Path("/nonexistent"), "none", Sandbox.detect())
    with ImageWorkers(tools, count=1, limits=ImageLimits(**limits)) as workers:
        yield workers


def made(
    workers: ImageWorkers, folder: Path, data: bytes, operations: str = "", to: str = "png"
) -> Made:
    """What becomes of a file with these bytes."""
    source = folder / "source"
    source.write_bytes(data)
    return transform(workers, source, Wanted(parse_text(operations), to))


def opened(result: Made) -> Image.Image:
    return Image.open(io.BytesIO(result.data))


def pixels(result: Made, mode: str = "RGB") -> Pixels:
    return np.asarray(opened(result).convert(mode))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(width: int, height: int) -> Pixels:
    """Shades and edges with no symmetry: every turn and mirror of it is another picture."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 255 * x / width
    green = 128 + 100 * np.sin(x / 9) * np.cos(y / 13)
    blue = np.where((x // 12 + y // 12) % 2, 220, 40)
    rgb = np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)
    rgb[: height // 3, : width // 4] = (250, 10, 10)
    return rgb


def photo(width: int, height: int) -> Pixels:
    """Soft shades, as in a photo, with no symmetry: JPEG and WebP lose little of it."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    x, y = x / width, y / height
    shades = (
        230 * x + 20 * np.sin(9 * y),
        128 + 100 * np.sin(5 * x + 1) * np.cos(7 * y),
        60 + 150 * y * (1 - x),
    )
    return np.stack(shades, axis=2).clip(0, 255).astype(np.uint8)


# --- PNG: what Pillow does not write --------------------------------------------------------------


def png(array: Pixels, *extra: bytes) -> bytes:
    """8 or 16 bits; grey, grey and alpha, RGB or RGBA. `extra`: chunks before the pixels."""
    height, width, bands = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    bits = array.dtype.itemsize * 8
    rows = array.astype(f">u{array.dtype.itemsize}").tobytes()
    stride = len(rows) // height
    packed = b"".join(b"\0" + rows[n * stride : (n + 1) * stride] for n in range(height))
    image = chunk(b"IDAT", zlib.compress(packed))
    return pngs.png(width, height, *extra, image, bits=bits, colour=colour)


def cicp(primaries: int, transfer: int) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"made\0\0" + zlib.compress(profile))


def read_png16(data: bytes) -> Pixels:
    """The pixels of a 16-bit RGB or RGBA PNG; Pillow would give them back in 8."""
    at, width, height, bands, packed = 8, 0, 0, 0, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, bits, colour, *_ = struct.unpack(">2I5B", body)
            assert bits == 16
            bands = {2: 3, 6: 4}[colour]
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    step, stride = 2 * bands, width * bands * 2
    rows = zlib.decompress(packed)
    above = np.zeros(stride, np.uint8)
    result = []
    for n in range(height):
        line = rows[n * (stride + 1) : (n + 1) * (stride + 1)]
        above = _unfiltered(line[0], np.frombuffer(line[1:], np.uint8), above, step)
        result.append(above)
    return np.stack(result).view(">u2").astype(np.uint16).reshape(height, width, bands)


def _unfiltered(kind: int, line: Pixels, above: Pixels, step: int) -> Pixels:
    """PNG, third edition, 9.2."""
    out = [0] * len(line)
    for i, value in enumerate(line.tolist()):
        a = out[i - step] if i >= step else 0
        b = int(above[i])
        c = int(above[i - step]) if i >= step else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out[i] = (value + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
    return np.array(out, np.uint8)


# --- colours, by the formulas ---------------------------------------------------------------------

# Chromaticities of H.273, table 2.
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = (0.3127, 0.3290)


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> Floats:
    """Linear RGB → XYZ (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - _D65[0] - _D65[1]) / _D65[1]])
    return columns * np.linalg.solve(columns, white)


def srgb_light(v: Floats) -> Floats:
    """IEC 61966-2-1."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def srgb_code(light: Floats) -> Floats:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def between(light: Floats, primaries: tuple[tuple[float, float], ...]) -> Floats:
    """Linear light of these primaries → of sRGB's."""
    matrix = np.linalg.inv(to_xyz(BT709)) @ to_xyz(primaries)
    result: Floats = light @ matrix.T
    return result


def pq_nits(v: Floats) -> Floats:
    """SMPTE ST 2084."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = v ** (1 / m2)
    result: Floats = 10_000 * ((root - c1).clip(0) / (c2 - c3 * root)) ** (1 / m1)
    return result


def profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """A matrix profile of ICC.1:2001 (v2) with one gamma for all three."""
    # The profile connection space has D50 as its white (Bradford).
    bradford = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    d65 = np.array([0.95047, 1, 1.08883])
    d50 = np.array([0.9642, 1, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ d65)) @ bradford
    columns = (adapt @ to_xyz(primaries)).T

    def xyz(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    name = b"hand-made\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(80)
    tags = [
        (b"desc", text), (b"wtpt", xyz(d50)), (b"cprt", b"text\0\0\0\0none\0\0\0\0"),
        *((kind, xyz(column)) for kind, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns,
                                                        strict=True)),
        *((kind, curve) for kind in (b"rTRC", b"gTRC", b"bTRC")),
    ]  # fmt: skip
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for kind, data in tags:
        data += bytes(-len(data) % 4)
        table += kind + struct.pack(">2I", start + len(body), len(data))
        body += data
    whole = struct.pack(">I", len(tags)) + table + body
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s3i48s", 128 + len(whole), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ",
        bytes(12), b"acsp", bytes(28), *(round(v * 65536) for v in d50), bytes(48),
    )  # fmt: skip
    return header + whole
