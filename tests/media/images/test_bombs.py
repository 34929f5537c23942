"""Pictures made to hurt: each is refused within a second, in under 300 MB, with its cause.

Each runs in a small process of its own: the kernel then tells the largest of that process's
children (worker, FFmpeg, and bubblewrap around them) whatever else this suite holds.
"""

from __future__ import annotations

import functools
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tests import pngs

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from telecine.engine.errors import MediaError
from telecine.engine.images.grammar import parse_text
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import inspect, transform
from telecine.engine.images.values import ImageLimits, Wanted
from telecine.engine.tools import find_tools
small, *bombs = map(Path, sys.argv[1:])
wanted = Wanted(parse_text("resize:w=100"), "webp")
told = {}
with ImageWorkers(find_tools(), count=1, limits=ImageLimits()) as workers:
    transform(workers, small, wanted)  # warm
    for bomb in bombs:
        codes = []
        seconds = []
        for act in (lambda: transform(workers, bomb, wanted), lambda: inspect(workers, bomb)):
            took = []
            for _ in range(2):  # the slower one may have waited for a busy machine
                started = time.monotonic()
                try:
                    done = act()
                    code = f"{done.width}x{done.height}"
                except MediaError as error:
                    code = error.code
                took.append(time.monotonic() - started)
            codes.append(code)
            seconds.append(min(took))
        told[bomb.name] = codes, seconds
        transform(workers, small, wanted)  # nothing is left of it
print(json.dumps([told, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""

MOST_BYTES = 300_000_000


@dataclass
class Told:
    """Of each bomb what `transform` and `inspect` said and how long they took; of all of them the
    largest process."""

    bombs: dict[str, tuple[list[str], list[float]]]
    peak_bytes: int


def set_off(bombs: list[Path], folder: Path) -> Told:
    small = folder / "small.png"
    Image.new("RGB", (20, 20)).save(small)
    argv = [sys.executable, "-c", MEASURE, str(small), *map(str, bombs)]
    told = Told(*json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout))
    assert told.bombs.keys() == {bomb.name for bomb in bombs}
    return told


def png(width: int, height: int, *chunks: tuple[bytes, bytes], color: int = 2) -> bytes:
    """A PNG of these chunks (PNG, Third Edition, 5): the rest of its header is right."""
    made = (pngs.chunk(name, body) for name, body in chunks)
    return pngs.png(width, height, *made, colour=color)


@functools.cache
def many(count: int) -> bytes:
    """`count` zeros, compressed some hundred times smaller."""
    packer = zlib.compressobj(1)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.flush()])


def gif(frames: int) -> bytes:
    """GIF89a: one frame of a pixel, again and again, on a screen of 300 × 300."""
    frame = b"\x21\xf9\x04\x00\x01\x00\x00\x00\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\x2c\1\x2c\1\xf0\0\0\0\0\0\xff\xff\xff" + frame * frames + b"\x3b"


def apng(frames: int, side: int) -> bytes:
    """PNG, Third Edition, 11.3.6: every frame repeats the picture."""
    picture = zlib.compress(bytes((3 * side + 1) * side))
    chunks = [(b"acTL", struct.pack(">II", frames, 0))]
    for number in range(frames):
        sequence = 2 * number - 1 if number else 0
        place = struct.pack(">IIIII", sequence, side, side, 0, 0) + struct.pack(
            ">HHBB", 1, 100, 0, 0
        )
        body = struct.pack(">I", sequence + 1) + picture if number else picture
        chunks += [(b"fcTL", place), (b"fdAT" if number else b"IDAT", body)]
    return png(side, side, *chunks)


def tiff(**tags: tuple[int, int, int]) -> bytes:
    """TIFF 6.0: a header and one directory. Each tag: its number, how many values, their value."""
    entries = sorted(tags.values())
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    for number, count, value in entries:
        data += struct.pack("<HHII", number, 4, count, value)
    return data + bytes(4) + bytes(1000)


def webp(width: int, height: int) -> bytes:
    """RFC 9649, 3.4: a lossless picture of this size, of which only the first bytes are there."""
    picture = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(59)
    body = b"WEBPVP8L" + struct.pack("<I", len(picture)) + picture
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int) -> bytes:
    """Microsoft: BITMAPFILEHEADER and BITMAPINFOHEADER, run-length coded."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 100, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + info + bytes(1024) + b"\0\1" * 50


def psd(width: int, height: int) -> bytes:
    """Adobe: the file header, three empty sections, run-length coded planes."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, height, width, 16, 3)
    return header + bytes(12) + b"\0\1" + bytes(5000)


def j2k(width: int, height: int) -> bytes:
    """ITU-T T.800, A.5.1: a SIZ of one tile as large as the picture, and no more."""
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, 3)
    size += b"\x07\1\1" * 3
    coding = b"\xff\x52" + struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 1, 5, 4, 4, 0, 1)
    quantity = b"\xff\x5c" + struct.pack(">HB", 19, 0x40) + bytes(16)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + coding + quantity


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "GIF of 10,000 frames": (lambda: gif(10_000), "too_many_frames"),
    "APNG of 5,000 frames": (lambda: apng(5_000, 100), "too_many_frames"),
    "APNG of 200 frames of 4 MP": (lambda: apng(200, 2_000), "too_many_pixels"),
    "PNG of 4,294 MP": (lambda: png(65_536, 65_536, (b"IDAT", many(1 << 20))), "too_many_pixels"),
    "BMP of 900 MP": (lambda: bmp(30_000, 30_000), "too_many_pixels"),
    "PSD of 900 MP": (lambda: psd(30_000, 30_000), "too_many_pixels"),
    "JPEG 2000 of 3,600 MP": (lambda: j2k(60_000, 60_000), "too_many_pixels"),
    "WebP of 268 MP": (lambda: webp(16_383, 16_383), "too_many_pixels"),
    "TIFF of 3,600 MP": (
        lambda: tiff(
            width=(256, 1, 60_000), height=(257, 1, 60_000), bits=(258, 1, 8),
            coding=(259, 1, 1), color=(262, 1, 1), strips=(273, 1, 8), rows=(278, 1, 60_000),
            counts=(279, 1, 100),
        ),
        "too_many_pixels",
    ),
    "TIFF of four thousand million strips": (
        lambda: tiff(
            width=(256, 1, 1000), height=(257, 1, 1000), bits=(258, 1, 8), coding=(259, 1, 1),
            color=(262, 1, 1), strips=(273, 0xFFFFFFF0, 8), rows=(278, 1, 1),
            counts=(279, 0xFFFFFFF0, 8),
        ),
        "image_damaged",
    ),
    "TIFF of a tile of 4 million MP": (
        lambda: tiff(
            width=(256, 1, 100), height=(257, 1, 100), bits=(258, 1, 8), coding=(259, 1, 1),
            color=(262, 1, 1), tile_w=(322, 1, 0x7FFFFFF0), tile_h=(323, 1, 0x7FFFFFF0),
            tiles=(324, 1, 8), counts=(325, 1, 8),
        ),
        "image_damaged",
    ),
}  # fmt: skip


# What unpacks to a thousand times its size, in a picture of a few pixels: it may be shown, but
# nothing more of it is unpacked than the picture needs.
PACKED: dict[str, Callable[[], bytes]] = {
    "PNG of endless pixels": lambda: png(8, 8, (b"IDAT", many(1 << 29))),
    "PNG of an endless profile": lambda: png(
        8, 8, (b"iCCP", b"p\0\0" + many(1 << 29)), (b"IDAT", zlib.compress(bytes(25 * 8)))
    ),
    "PNG of an endless text": lambda: png(
        8, 8, (b"zTXt", b"t\0\0" + many(1 << 29)), (b"IDAT", zlib.compress(bytes(25 * 8)))
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("bombs")
    bombs = []
    for name, make in (PACKED | {name: make for name, (make, _) in BOMBS.items()}).items():
        bombs.append(folder / name)
        bombs[-1].write_bytes(make())
    return set_off(bombs, folder)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once_with_its_cause(name: str, made: Told) -> None:
    codes, seconds = made.bombs[name]
    assert codes[0] == BOMBS[name][1]
    # An inspection looks at the first frame alone.
    assert codes[1] == ("300x300" if name.startswith("GIF") else codes[0])
    assert max(seconds) < 1


@pytest.mark.parametrize("name", PACKED)
def test_what_unpacks_without_end_is_not_unpacked(name: str, made: Told) -> None:
    codes, seconds = made.bombs[name]
    assert set(codes) <= {"8x8", "image_damaged"}
    assert max(seconds) < 1


def test_no_bomb_takes_much_memory(made: Told) -> None:
    assert 10_000_000 < made.peak_bytes < MOST_BYTES


CORPUS_BOMBS = {
    "image/vips/17000x17000.avif": "too_many_pixels",
    "image/sharp/65536-uint32-limit.png": "too_many_pixels",
    "image/sharp/giant-image.jpg": "too_many_pixels",
    "bad/sharp/corrupt-header.jpg": "image_damaged",
    "bad/filetype/fixture-corrupt.png": "image_damaged",
    "bad/filetype/fixture-json.webp": "not_an_image",
}


def test_the_bombs_of_the_corpus_cost_little(corpus: Path, tmp_path: Path) -> None:
    bombs = [corpus / name for name in CORPUS_BOMBS]
    told = set_off(bombs, tmp_path)
    for name, code in CORPUS_BOMBS.items():
        codes, seconds = told.bombs[Path(name).name]
        assert codes == [code, code]
        assert max(seconds) < 1
    assert told.peak_bytes < MOST_BYTES
