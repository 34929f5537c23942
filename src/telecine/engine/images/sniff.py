"""What bytes are: the name of a picture's format by its signature, never by a file's name.

Each function names the document that its signature stands in.
"""

from __future__ import annotations

import re
import struct

from telecine.engine.formats.containers import is_motion_jpeg

# As much of a file as `sniff` should be given: a PNG says that it is animated after its colour
# profile at the latest, an SVG has its root element after comments.
HEAD_BYTES = 1 << 20


def sniff(head: bytes) -> str | None:
    """The format of what begins with these bytes, by its name in `formats`; None for no picture
    that we know. `head` is the whole file or its first `HEAD_BYTES`.

    What has a binary signature is that, whatever its text looks like: SVG is looked for last.
    """
    for name, signature in _SIGNATURES:
        if head.startswith(signature):
            return None if name == "jpeg" and is_motion_jpeg(head) else name
    for look in (_png, _webp, _iso_bmff, _jp2, _bmp, _ico, _svg):
        found = look(head)
        if found is not None:
            return found
    return None


_SIGNATURES = (
    ("jpeg", b"\xff\xd8\xff"),  # ITU-T T.81, B.1.1.3: SOI, then another marker
    ("gif", b"GIF87a"),  # GIF89a specification, 17: signature and version
    ("gif", b"GIF89a"),
    ("tiff", b"II*\0"),  # TIFF 6.0, section 2: byte order, then 42
    ("tiff", b"MM\0*"),
    ("tiff", b"II+\0\x08\0\0\0"),  # BigTIFF: 43, then eight bytes an offset
    ("tiff", b"MM\0+\0\x08\0\0"),
    ("jxl", b"\xff\x0a"),  # ISO/IEC 18181-1, D.1: a bare codestream
    ("jxl", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"),  # ISO/IEC 18181-2: the signature box
    ("j2k", b"\xff\x4f\xff\x51"),  # ITU-T T.800, A.4 and A.5: SOC, then SIZ
    ("psd", b"8BPS\0\x01"),  # Adobe Photoshop file formats: header, version 1
)


def _png(head: bytes) -> str | None:
    """PNG (Third Edition), 5.2; animated when an `acTL` chunk comes before the first `IDAT`
    (11.3.6.1)."""
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    at = 8
    while at + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"acTL":
            return "apng"
        if kind == b"IDAT":
            break
        at += length + 12
    return "png"


def _webp(head: bytes) -> str | None:
    """RFC 9649, 2.4: a RIFF of the form `WEBP`, whose first chunk is one of three."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and head[12:15] == b"VP8":
        return "webp"
    return None


# ISO/IEC 23008-12, annex B: brands of HEVC pictures and of sequences of them. AV1 Image File
# Format, 6: `avif`, and `avis` for a sequence. `mif1` and `msf1` name the structure alone; what is
# inside stands among the compatible brands.
_HEVC = frozenset((b"heic", b"heix", b"heim", b"heis"))
_HEVC_SEQUENCE = frozenset((b"hevc", b"hevx", b"hevm", b"hevs"))
_STRUCTURE = frozenset((b"mif1", b"msf1", b"mif2", b"miaf"))


def _iso_bmff(head: bytes) -> str | None:
    """ISO/IEC 14496-12, 4.3: a `ftyp` box. The major brand tells a still picture from a sequence,
    since a file may hold both."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    major = head[8:12]
    brands = {head[at : at + 4] for at in range(16, end - 3, 4)}
    if major not in _STRUCTURE:
        brands = {major}
    if major == b"msf1":
        if b"avis" in brands:
            return "avif-sequence"
        return "heic-sequence" if brands & _HEVC_SEQUENCE else None
    if b"avif" in brands:
        return "avif"
    if brands & _HEVC:
        return "heic"
    if b"avis" in brands:
        return "avif-sequence"
    return "heic-sequence" if brands & _HEVC_SEQUENCE else None


def _jp2(head: bytes) -> str | None:
    """ITU-T T.800, I.5.1 and I.5.2: the signature box, then a `ftyp`; Motion JPEG 2000 (`mjp2`)
    and compound documents (`jpm `) begin alike and are no pictures."""
    if not head.startswith(b"\0\0\0\x0cjP  \r\n\x87\n") or head[16:20] != b"ftyp":
        return None
    return "jp2" if head[20:24] in (b"jp2 ", b"jpx ", b"jph ") else None


# The sizes of the headers that follow a bitmap's file header: OS/2 1 and 2, Windows 3, the two of
# Adobe, 4 and 5 (Microsoft: Bitmap Header Types).
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))


def _bmp(head: bytes) -> str | None:
    """Microsoft: BITMAPFILEHEADER. Two letters alone would make a bitmap of much text."""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return None


def _ico(head: bytes) -> str | None:
    """Microsoft: ICONDIR and its first ICONDIRENTRY, whose picture lies behind the directory."""
    if len(head) < 22:
        return None
    reserved, kind, count = struct.unpack_from("<HHH", head)
    size, offset = struct.unpack_from("<II", head, 14)
    if reserved == 0 and kind == 1 and count and size and offset >= 6 + 16 * count:
        return "ico"
    return None


# --- SVG: text, whose root element decides --------------------------------------------------------

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# Then the root element, or a document type that says what it will be, with a prefix or without.
# Nothing is tried twice (atomic groups), however many comments there are.
_PROLOG = re.compile(
    r"(?>[ \t\r\n]*(?:<\?.*?\?>|<!--.*?-->))*+[ \t\r\n]*"
    r"<(?:!DOCTYPE[ \t\r\n]+)?(?:[\w.-]+:)?svg[ \t\r\n/>\[]",
    re.DOTALL,
)


def _svg(head: bytes) -> str | None:
    """XML 1.0, 2.8 (the prolog) and appendix F.1 (byte order marks): comments and processing
    instructions may come before the document type and the root element."""
    coding = "utf-8"
    for mark, marked in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            head, coding = head.removeprefix(mark), marked
    return "svg" if _PROLOG.match(head.decode(coding, errors="replace")) else None
