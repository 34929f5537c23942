"""Pure: EXIF and XMP without what shall not travel, EXIF of a TIFF, and EXIF in words.

EXIF (CIPA DC-008, EXIF 2.32) is a small TIFF. It is cleaned where it lies: entries are taken out of
their directories and their values overwritten with zeros, so that everything else keeps its place
and no offset goes wrong. Every offset is checked against the bytes that are there.

Gone in any case: the orientation (the pixels are upright), the size (it is another by then) and
the embedded thumbnail, which shows what may have been cut off. Without `gps` also the GPS
directory, and the maker's note, since nobody knows what stands in it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from telecine.engine.images.wire import Bytes

_PREFIX = b"Exif\0\0"
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_ENTRIES = 1000

_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_ORIENTATION, _MAKER_NOTE, _XMP = 0x0112, 0x927C, 0x02BC
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
# Of a TIFF's first directory (TIFF 6.0, section 8): what is said of it, beside what it consists of.
_OF_TIFF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_MOST_VALUE = 1 << 16  # bytes: as JPEG bounds all of EXIF


class _Broken(Exception):
    """A directory that does not lie where it is said to."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory's entry: `at` is its own place, `value` that of its `length` bytes of value."""

    tag: int
    kind: int
    count: int
    at: int
    value: int
    length: int


class _Tiff:
    """The TIFF inside EXIF, as it lies in `data` from `base` on."""

    def __init__(self, blob: Bytes) -> None:
        self.data = memoryview(blob)
        self.base = len(_PREFIX) if bytes(self.data[: len(_PREFIX)]) == _PREFIX else 0
        order = bytes(self.data[self.base : self.base + 4])
        if order not in (b"II*\0", b"MM\0*"):
            raise _Broken
        self.order = "<" if order[:1] == b"I" else ">"
        self.first = self.number("I", 4)

    def number(self, letter: str, at: int) -> int:
        if at < 0:
            raise _Broken
        try:
            (value,) = struct.unpack_from(self.order + letter, self.data, self.base + at)
        except struct.error:
            raise _Broken from None
        return int(value)

    def entries(self, at: int) -> list[_Entry]:
        """Of the directory at `at`; those whose values lie outside are left out."""
        count = self.number("H", at)
        if not at or count > _MOST_ENTRIES:
            raise _Broken
        return [entry for n in range(count) if (entry := self._entry(at + 2 + 12 * n))]

    def _entry(self, at: int) -> _Entry | None:
        tag, kind, count = (self.number(*x) for x in (("H", at), ("H", at + 2), ("I", at + 4)))
        length = _SIZES.get(kind, 1) * count
        value = at + 8 if length <= 4 else self.number("I", at + 8)
        if self.base + value + length > len(self.data):
            value = length = 0
        return _Entry(tag, kind, count, at, value, length)

    def under(self, at: int, tag: int) -> list[_Entry]:
        """The entries of the directory that an entry of this one points at; none if it does not."""
        found = [entry for entry in self.entries(at) if entry.tag == tag and entry.length == 4]
        try:
            return self.entries(self.number("I", found[0].value)) if found else []
        except _Broken:
            return []

    def remove(self, at: int, tags: frozenset[int]) -> None:
        """Takes entries out of the directory at `at`, and what they point at."""
        doomed = [entry for entry in self.entries(at) if entry.tag in tags]
        for entry in reversed(doomed):
            if entry.tag == _GPS_IFD:
                self._blank_directory(self.number("I", entry.value))
            self._blank(entry.value, entry.length)
            count = self.number("H", at)
            end = at + 2 + 12 * count + 4
            if end < entry.at + 12:  # what it pointed at was this very directory
                raise _Broken
            moved = self.data[self.base + entry.at + 12 : self.base + end]
            self.data[self.base + entry.at : self.base + end] = bytes(moved) + bytes(12)
            struct.pack_into(self.order + "H", self.data, self.base + at, count - 1)

    def cut_thumbnail(self) -> None:
        """The second directory and what it holds."""
        link = self.first + 2 + 12 * self.number("H", self.first)
        at = self.number("I", link)
        struct.pack_into(self.order + "I", self.data, self.base + link, 0)
        if not at:
            return
        numbers = {e.tag: self.number("I", e.value) for e in self.entries(at) if e.kind == 4}
        self._blank(numbers.get(0x0201, 0), numbers.get(0x0202, 0))
        self._blank_directory(at)

    def _blank_directory(self, at: int) -> None:
        try:
            entries = self.entries(at)
        except _Broken:
            return
        for entry in entries:
            self._blank(entry.value, entry.length)
        self._blank(at, 2 + 12 * len(entries) + 4)

    def _blank(self, at: int, length: int) -> None:
        start = self.base + at
        end = min(start + length, len(self.data))
        if at and start < end:
            self.data[start:end] = bytes(end - start)

    def raw(self, entry: _Entry) -> bytes:
        return bytes(self.data[self.base + entry.value :][: entry.length])

    def value(self, entry: _Entry) -> Fraction | None:
        """The first number of an entry, which may list millions; None of a text."""
        letters = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 5: "I", 10: "i"}
        if entry.kind not in letters or not entry.length:
            return None
        step = 2 if entry.kind in (5, 10) else 1
        layout = f"{self.order}{step}{letters[entry.kind]}"
        number, *divisor = struct.unpack_from(layout, self.data, self.base + entry.value)
        if not divisor:
            return Fraction(number)
        return Fraction(number, divisor[0]) if divisor[0] else Fraction(0)


def clean_exif(blob: bytes, *, gps: bool = False) -> bytes | None:
    """EXIF as it may be kept; None of what is no EXIF."""
    try:
        tiff = _Tiff(bytearray(blob))
        tiff.cut_thumbnail()
        for entry in tiff.entries(tiff.first):
            if entry.tag == _EXIF_IFD:
                doomed = {_PIXEL_X, _PIXEL_Y} | (set() if gps else {_MAKER_NOTE, _GPS_IFD})
                tiff.remove(tiff.number("I", entry.value), frozenset(doomed))
        gone = {_ORIENTATION, _XMP} | (set() if gps else {_GPS_IFD, _MAKER_NOTE})
        tiff.remove(tiff.first, frozenset(gone))
    except (_Broken, struct.error):
        return None
    return bytes(tiff.data)


def exif_of_tiff(data: Bytes) -> bytes | None:
    """EXIF of a TIFF file, which has no block of it: the tags of its own first directory, and the
    two directories below that. Without the maker's note, which no other place suits. None where
    nothing is said."""
    try:
        tiff = _Tiff(data)
        first = [e for e in tiff.entries(tiff.first) if e.tag in _OF_TIFF]
        below = {tag: tiff.under(tiff.first, tag) for tag in (_EXIF_IFD, _GPS_IFD)}
    except _Broken:
        return None
    top = _fields(tiff, first)
    fields = {tag: found for tag, entries in below.items() if (found := _fields(tiff, entries))}
    if not top and not fields:
        return None
    pointers = [_Field(tag, 4, 1, bytes(4)) for tag in fields]
    at, tables = 8 + len(_directory(tiff.order, [*top, *pointers], 8)), b""
    for number, (tag, found) in enumerate(fields.items()):
        pointers[number] = _Field(tag, 4, 1, struct.pack(tiff.order + "I", at + len(tables)))
        tables += _directory(tiff.order, found, at + len(tables))
    head = (b"II*\0" if tiff.order == "<" else b"MM\0*") + struct.pack(tiff.order + "I", 8)
    return _PREFIX + head + _directory(tiff.order, [*top, *pointers], 8) + tables


@dataclass(frozen=True, slots=True)
class _Field:
    """A directory's entry with its value, as it is written."""

    tag: int
    kind: int
    count: int
    raw: bytes


def _fields(tiff: _Tiff, entries: list[_Entry]) -> list[_Field]:
    """Those whose values are there and of a size that EXIF has, each tag once."""
    found = {
        e.tag: _Field(e.tag, e.kind, e.count, tiff.raw(e))
        for e in entries
        if 0 < e.length <= _MOST_VALUE and e.tag not in (_MAKER_NOTE, _INTEROP_IFD)
    }
    return sorted(found.values(), key=lambda each: each.tag)


def _directory(order: str, fields: list[_Field], at: int) -> bytes:
    """A directory that begins at `at`, and its values behind it (TIFF 6.0, section 2)."""
    behind = at + 2 + 12 * len(fields) + 4
    table, values = struct.pack(order + "H", len(fields)), b""
    for each in fields:
        place = each.raw.ljust(4, b"\0")
        if len(place) > 4:
            place = struct.pack(order + "I", behind + len(values))
            values += each.raw + bytes(len(each.raw) % 2)
        table += struct.pack(order + "HHI", each.tag, each.kind, each.count) + place
    return table + bytes(4) + values


def has_gps(blob: bytes | None) -> bool:
    """Whether EXIF holds a place: more than the directory's own version."""
    if blob is None:
        return False
    try:
        tiff = _Tiff(blob)
        return any(entry.tag != 0 for entry in tiff.under(tiff.first, _GPS_IFD))
    except _Broken:
        return False


# --- XMP ------------------------------------------------------------------------------------------

_PLACE = re.compile(r"\}(GPS\w*|LocationCreated|LocationShown|Location|SubLocation|City|State)$")


def clean_xmp(blob: bytes, *, gps: bool = False) -> bytes | None:
    """XMP without places and orientation; None of what is no XML, or has a DTD."""
    text = blob.decode("utf-8", "replace").strip("\0 \r\n\t\ufeff")
    try:
        root = fromstring(text, forbid_dtd=True)
        _without(root, lambda name: name.endswith(("}Orientation", "}Thumbnails")))
        if not gps:
            _without(root, lambda name: bool(_PLACE.search(name)))
        return bytes(tostring(root, encoding="utf-8"))
    except (ParseError, DefusedXmlException, ValueError, RecursionError):
        return None


def _without(element: Element, doomed: Callable[[str], bool]) -> None:
    for name in [name for name in element.attrib if doomed(name)]:
        del element.attrib[name]
    for child in list(element):
        if isinstance(child.tag, str) and doomed(child.tag):
            element.remove(child)
        else:
            _without(child, doomed)


def xmp_has_gps(blob: bytes | None) -> bool:
    """Whether XMP holds coordinates."""
    return blob is not None and re.search(rb"\bGPSL(at|ong)itude\b", blob) is not None


# --- EXIF in words --------------------------------------------------------------------------------


def words(blob: bytes | None) -> dict[str, str]:
    """What EXIF says of camera, time and exposure, by EXIF's names; without the place."""
    if blob is None:
        return {}
    found: dict[str, str] = {}
    try:
        tiff = _Tiff(blob)
        entries = [*tiff.entries(tiff.first), *tiff.under(tiff.first, _EXIF_IFD)]
        for entry in entries:
            if entry.tag in _WORDS and (said := _said(tiff, entry)):
                found[_WORDS[entry.tag][0]] = said
    except (_Broken, struct.error):
        return found
    return found


def _said(tiff: _Tiff, entry: _Entry) -> str:
    say = _WORDS[entry.tag][1]
    if say is None:
        if entry.kind not in (2, 7) or entry.length > 4096:
            return ""
        text = tiff.raw(entry).split(b"\0")[0].decode("utf-8", "replace").strip()
        return "".join(c if c.isprintable() else "\ufffd" for c in text)
    value = tiff.value(entry)
    return "" if value is None else say(value)


def _seconds(v: Fraction) -> str:
    return f"1/{round(1 / v)} s" if 0 < v < Fraction(3, 10) else f"{float(v):.4g} s"


def _signed(v: Fraction) -> str:
    return f"{float(v):+.2g} EV" if v else "0 EV"


def _choice(*names: str) -> Callable[[Fraction], str]:
    """By number; "" and what lies beyond say nothing."""
    return lambda v: names[int(v)] if 0 <= v < len(names) else ""


def _number(v: Fraction) -> str:
    return f"{float(v):.4g}" if v.denominator > 1 else str(v)


_WORDS: dict[int, tuple[str, Callable[[Fraction], str] | None]] = {
    0x010E: ("ImageDescription", None),
    0x010F: ("Make", None),
    0x0110: ("Model", None),
    0x0131: ("Software", None),
    0x0132: ("DateTime", None),
    0x013B: ("Artist", None),
    0x8298: ("Copyright", None),
    0x829A: ("ExposureTime", _seconds),
    0x829D: ("FNumber", lambda v: f"f/{float(v):.2g}" if v else ""),
    0x8822: (
        "ExposureProgram",
        _choice("", "manual", "normal", "aperture priority", "shutter priority", "creative",
                "action", "portrait", "landscape"),
    ),
    0x8827: ("ISOSpeed", _number),
    0x9003: ("DateTimeOriginal", None),
    0x9004: ("DateTimeDigitized", None),
    0x9010: ("OffsetTime", None),
    0x9011: ("OffsetTimeOriginal", None),
    0x9204: ("ExposureBiasValue", _signed),
    0x9207: (
        "MeteringMode",
        _choice("", "average", "center-weighted average", "spot", "multi-spot", "pattern",
                "partial"),
    ),
    0x9209: ("Flash", lambda v: "fired" if int(v) & 1 else "did not fire"),
    0x920A: ("FocalLength", lambda v: f"{float(v):.3g} mm"),
    0xA402: ("ExposureMode", _choice("auto", "manual", "auto bracket")),
    0xA403: ("WhiteBalance", _choice("auto", "manual")),
    0xA405: ("FocalLengthIn35mmFilm", lambda v: f"{_number(v)} mm" if v else ""),
    0xA433: ("LensMake", None),
    0xA434: ("LensModel", None),
}  # fmt: skip


# --- ICC ------------------------------------------------------------------------------------------


def profile_name(profile: bytes | None) -> str | None:
    """The description of an ICC profile (ICC.1:2022, 9.2.41; v2: 6.5.17), None if it has none."""
    if profile is None:
        return None
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for n in range(min(count, 200)):
            tag, at, length = struct.unpack_from(">4s2I", profile, 132 + 12 * n)
            if tag == b"desc":
                return _description(profile[at : at + length]) or None
    except struct.error:
        pass
    return None


def _description(data: bytes) -> str:
    if data[:4] == b"mluc":
        _, length, at = struct.unpack_from(">4s2I", data, 16)
        text = data[at : at + length].decode("utf-16-be", "replace")
    else:
        (length,) = struct.unpack_from(">I", data, 8)
        text = data[12 : 12 + length].decode("latin-1")
    return "".join(c for c in text.split("\0")[0] if c.isprintable()).strip()[:200]
