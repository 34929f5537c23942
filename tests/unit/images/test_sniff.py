"""What bytes are: signatures as their specifications print them, and what looks like others."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.pngs import chunk, png

from telecine.engine.images.formats import FORMATS
from telecine.engine.images.sniff import sniff

PNG = png(1, 1).removesuffix(chunk(b"IEND", b""))
PROFILE = chunk(b"iCCP", bytes(70_000))
ACTL = chunk(b"acTL", struct.pack(">II", 2, 0))
IDAT = chunk(b"IDAT", b"x")


def ftyp(major: str, *compatible: str) -> bytes:
    """ISO/IEC 14496-12, 4.3."""
    brands = major.encode() + bytes(4) + "".join(compatible).encode()
    return struct.pack(">I", len(brands) + 8) + b"ftyp" + brands + b"\0\0\0\x10meta"


def jp2(brand: bytes) -> bytes:
    signature = bytes.fromhex("0000000c 6a502020 0d0a870a")
    return signature + struct.pack(">I", 20) + b"ftyp" + brand + bytes(4) + brand


def bmp(header: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + struct.pack("<I", header) + bytes(36)


def ico(kind: int = 1, count: int = 1, size: int = 40, offset: int = 22) -> bytes:
    return struct.pack("<HHH", 0, kind, count) + struct.pack("<8xII", size, offset) + bytes(40)


KNOWN = [
    (bytes.fromhex("ffd8ffe0 00104a46 4946"), "jpeg"),
    (bytes.fromhex("ffd8ffdb"), "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0\x08\0\0\0", "tiff"),
    (b"MM\0*\0\0\0\x08", "tiff"),
    (b"II+\0\x08\0\0\0", "tiff"),
    (b"MM\0+\0\x08\0\0", "tiff"),
    (PNG + IDAT, "png"),
    (PNG, "png"),
    (PNG + b"\xff\xff\xff\xffiCCP", "png"),
    (PNG + ACTL + IDAT, "apng"),
    (PNG + PROFILE + ACTL + IDAT, "apng"),
    (PNG + IDAT + ACTL, "png"),  # too late: the standard says to take it for a still picture
    (b"RIFF\x24\0\0\0WEBPVP8 ", "webp"),
    (b"RIFF\x24\0\0\0WEBPVP8L", "webp"),
    (b"RIFF\x24\0\0\0WEBPVP8X", "webp"),
    (b"RIFF<svgWEBPVP8 <svg xmlns='http://www.w3.org/2000/svg'/>", "webp"),
    (ftyp("avif", "mif1", "miaf"), "avif"),
    (ftyp("mif1", "avif", "miaf"), "avif"),
    (ftyp("avif", "avis", "msf1"), "avif"),  # a still picture and a sequence: the first is meant
    (ftyp("avis", "avif", "msf1"), "avif-sequence"),
    (ftyp("msf1", "avis"), "avif-sequence"),
    (ftyp("heic", "mif1", "heic"), "heic"),
    (ftyp("heix"), "heic"),
    (ftyp("mif1", "heic"), "heic"),
    (ftyp("mif1", "avis"), "avif-sequence"),
    (ftyp("mif1", "hevc"), "heic-sequence"),
    (ftyp("hevc", "msf1"), "heic-sequence"),
    (ftyp("msf1", "hevc", "heic"), "heic-sequence"),
    (bytes.fromhex("ff0a fa1f"), "jxl"),
    (bytes.fromhex("0000000c 4a584c20 0d0a870a"), "jxl"),
    (jp2(b"jp2 "), "jp2"),
    (jp2(b"jpx "), "jp2"),
    (bytes.fromhex("ff4fff51 002f"), "j2k"),
    *((bmp(header), "bmp") for header in (12, 16, 40, 52, 56, 64, 108, 124)),
    (ico(), "ico"),
    (ico(count=3, offset=54), "ico"),
    (b"8BPS\0\x01", "psd"),
    (b"<svg/>", "svg"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'>", "svg"),
    (b"<s:svg xmlns:s='http://www.w3.org/2000/svg'>", "svg"),
    (b"\n <?xml version='1.0'?>\r\n<!-- a > b --><!-- c -->\t<?style?>\n<svg>", "svg"),
    (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' ''><svg>", "svg"),
    (b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>", "svg"),
    (b"\xef\xbb\xbf<svg>", "svg"),
    (b"\xff\xfe" + "<?xml version='1.0'?><svg>".encode("utf-16-le"), "svg"),
    (b"\xfe\xff" + "<svg>".encode("utf-16-be"), "svg"),
]

OTHERS = [
    b"",
    b"\xff\xd8",
    b"GIF88a",
    b"II*",
    b"II+\0\x04\0\0\0",
    b"\x89PNG\r\n\x1a",
    b"RIFF\x24\0\0\0WAVEfmt ",
    b"RIFF\x24\0\0\0WEBPJUNK",
    b"\x89PNG\n",
    ftyp("isom", "mp42", "avc1"),
    ftyp("isom", "avif"),  # a film that says what else reads it
    ftyp("mif1"),
    ftyp("mif1", "jpeg"),
    ftyp("msf1"),
    ftyp("msf1", "avc1"),
    b"\0\0\0\x08ftyp",
    jp2(b"mjp2"),
    jp2(b"jpm "),
    jp2(b"jp2 ")[:12],
    b"BMW, a maker of cars and motorcycles",
    bmp(41),
    b"BM",
    ico(kind=2),  # a cursor
    ico(count=0),
    ico(size=0),
    ico(offset=10),
    b"\0\0\1\0\1",
    b"\0\0\1\xba" + bytes(40),  # an MPEG program stream
    b"8BPS\0\x02",
    b"%PDF-1.7",
    b"\x1f\x8b\x08",
    b"<html><svg>",
    b"<!DOCTYPE html><svg>",
    b"<!-- <svg> ",
    b"<?xml <svg>",
    b"<svgx>",
    b"<SVG>",
    b"svg",
    b"text <svg>",
    b"\xff\xfe<svg>",
    b'{"svg": "<svg>"}',
]


@pytest.mark.parametrize(("head", "name"), KNOWN, ids=range(len(KNOWN)))
def test_signatures(head: bytes, name: str) -> None:
    assert sniff(head) == name
    assert name in FORMATS
    assert sniff(head + bytes(100)) == name


@pytest.mark.parametrize("head", OTHERS, ids=range(len(OTHERS)))
def test_what_is_no_picture(head: bytes) -> None:
    assert sniff(head) is None


def test_every_format_is_told() -> None:
    assert {name for _, name in KNOWN} == set(FORMATS)


@pytest.mark.parametrize(
    ("pillow", "name"),
    [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tiff"),
     ("BMP", "bmp"), ("ICO", "ico"), ("AVIF", "avif"), ("JPEG2000", "jp2")],
)  # fmt: skip
def test_what_pillow_writes(pillow: str, name: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, pillow)
    assert sniff(out.getvalue()) == name


@pytest.mark.parametrize(
    ("pillow", "name"), [("PNG", "apng"), ("WEBP", "webp"), ("AVIF", "avif-sequence")]
)
def test_animations_that_pillow_writes(pillow: str, name: str) -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    frames[0].save(out, pillow, save_all=True, append_images=frames[1:], duration=100)
    assert sniff(out.getvalue()) == name


def test_comments_without_end_cost_nothing() -> None:
    """Each would be scanned again from every other, if it were done the obvious way."""
    assert sniff(b"<!---->" * 20_000 + b"<!--") is None
    assert sniff(b"<!-- " * 20_000) is None
    assert sniff(b"<" + b"a" * 100_000) is None


@given(st.binary() | st.sampled_from(KNOWN).flatmap(lambda it: st.binary().map(it[0].__add__)))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    assert sniff(head) in {None, *FORMATS}
    for end in range(0, len(head), 7):
        sniff(head[:end])
