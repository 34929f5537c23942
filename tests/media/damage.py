"""Deliberate damage to a finished output folder: one fault each, as small as it can be made.

Boxes are found and patched by the words of ISO/IEC 14496-12 with nothing of Telecine's, except
that a whole fragment with other samples is written by `cmaf`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from telecine.engine.formats import cmaf

TOP, LOW, SOUND = "video/240p", "video/120p", "audio/aac"


def edit(path: Path, pattern: str, new: str, *, count: int = 1) -> None:
    """Replace what a regular expression finds; it must be there."""
    text, done = re.subn(pattern, new, path.read_text(), count=count, flags=re.MULTILINE)
    assert done, f"{pattern!r} is not in {path.name}"
    path.write_text(text)


def both(home: Path, pattern: str, new: str, *, count: int = 1) -> None:
    """The same edit in the finished and the growing playlist."""
    for name in ("index.m3u8", "growing.m3u8"):
        edit(home / name, pattern, new, count=count)


def scale(path: Path, name: str, factor: float) -> None:
    """Multiply the first whole number that an attribute has."""
    found = re.search(rf"\b{name}=\"?(\d+)", path.read_text())
    assert found
    edit(path, rf"(\b{name}=\"?)\d+", rf"\g<1>{int(int(found[1]) * factor)}")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


def put(path: Path, at: int, layout: str, *values: int | bytes) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{layout}", data, at, *values)
    path.write_bytes(data)


def boxes(data: bytes, kind: bytes) -> list[int]:
    """Where the bodies of the boxes of this kind start, in any moov or moof at the top."""
    found = []
    at = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name in (b"moof", b"moov"):
            inner = data[at : at + size]
            found += [at + hit.end() for hit in re.finditer(re.escape(kind), inner)]
        at += size
    return found


def init_box(home: Path, kind: bytes) -> int:
    (at,) = boxes((home / "init.mp4").read_bytes(), kind)
    return at


def add_to_time(path: Path, ticks: int, which: slice = slice(None)) -> None:
    """Move fragments in time: their decode times in tfdt (version 1)."""
    for at in boxes(path.read_bytes(), b"tfdt")[which]:
        (before,) = struct.unpack_from(">Q", path.read_bytes(), at + 4)
        put(path, at + 4, "Q", before + ticks)


def delay(home: Path, ticks: int) -> None:
    """A whole rendition later."""
    for segment in sorted(home.glob("*.m4s")):
        add_to_time(segment, ticks)


def not_idr(path: Path, fragment: int) -> None:
    """The first picture of a fragment becomes a non-IDR slice by its NAL type; flags stay."""
    data = path.read_bytes()
    at, _ = first_slice(data, fragment)
    put(path, at, "B", data[at] & 0xE0 | 1)


def first_slice(data: bytes, fragment: int = 0) -> tuple[int, int]:
    """Where the IDR slice of a fragment starts, with its NAL header, and how long it is."""
    mdats = [at for at in top(data) if data[at + 4 : at + 8] == b"mdat"]
    at = mdats[fragment] + 8
    while data[at + 4] & 0x1F != 5:
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return at + 4, int.from_bytes(data[at : at + 4], "big")


def top(data: bytes | bytearray) -> list[int]:
    """Where the boxes at the top start."""
    found = []
    at = 0
    while at < len(data):
        found.append(at)
        at += struct.unpack_from(">I", data, at)[0]
    return found


def reoffset(path: Path, fragment: int, change: Callable[[list[int]], list[int]]) -> None:
    """Change the composition offsets of a fragment, in decode order, where they stand in trun."""
    data = bytearray(path.read_bytes())
    at = boxes(bytes(data), b"trun")[fragment]
    flags, count = struct.unpack_from(">II", data, at)
    assert flags & 0x800, "the fragment has no composition offsets"
    columns = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
    start = at + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4) + 4 * columns.index(0x800)
    places = [start + 4 * len(columns) * n for n in range(count)]
    before = [struct.unpack_from(">i", data, place)[0] for place in places]
    for place, offset in zip(places, change(before), strict=True):
        struct.pack_into(">i", data, place, offset)
    path.write_bytes(data)


Change = Callable[[list[cmaf.Sample]], list[cmaf.Sample]]


def rewrite(home: Path, segment: str, fragment: int, change: Change) -> None:
    """Write one fragment again with other samples. The file keeps its size, if need be by a free
    box behind the fragment, so that byte ranges and bitrates stay what they are."""
    path = home / segment
    data = path.read_bytes()
    track = cmaf.read_init((home / "init.mp4").read_bytes())
    old = cmaf.read_segment(data, track)[fragment]
    samples = change(list(old.samples))
    new = cmaf.write_fragment(
        samples,
        sequence=old.sequence,
        base_ticks=old.decode_ticks,
        end_ticks=old.end_ticks,
        edit_offset_ticks=track.edit_offset_ticks,
    )
    room = old.size_bytes - len(new)
    assert room == 0 or room >= 8
    free = struct.pack(">I4s", room, b"free") + bytes(room - 8) if room else b""
    path.write_bytes(data[: old.offset] + new + free + data[old.offset + old.size_bytes :])


def swap(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def add_box(path: Path, kind: bytes, body: bytes) -> None:
    path.write_bytes(path.read_bytes() + struct.pack(">I4s", 8 + len(body), kind) + body)


def moov_last(path: Path) -> None:
    """A progressive file with its index behind the data. Offsets then point elsewhere, but inside
    the file."""
    data = path.read_bytes()
    edges = [*top(data), len(data)]
    parts = [data[start:end] for start, end in pairwise(edges)]
    parts.sort(key=lambda part: part[4:8] == b"moov")
    path.write_bytes(b"".join(parts))
