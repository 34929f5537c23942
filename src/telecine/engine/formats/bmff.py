"""Pure: ISO base media file boxes and the sample entries inside them (ISO/IEC 14496-12, -14, -15).

What both readers of the format share: `cmaf` (segments, which we make) and `mp4index` (sources,
which strangers make). Sizes are checked against the bytes that are really there before anything is
read, so a lying header costs nothing; every violation is a `StepFailed` with code
`malformed_media`. Nothing here touches a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from telecine.engine.errors import StepFailed


def malformed(what: str) -> StepFailed:
    return StepFailed(f"malformed media: {what}", code="malformed_media")


@dataclass(frozen=True, slots=True)
class Box:
    """One box. `offset` is where its header starts in the buffer that was parsed."""

    kind: str
    body: memoryview
    offset: int

    def children(self) -> list[Box]:
        """The boxes inside a plain container box.

        Raises:
            StepFailed: a child is cut off or has no room for its own header.
        """
        return list(boxes(self.body))

    def child(self, kind: str) -> Box:
        """The first child of this kind.

        Raises:
            StepFailed: there is none, or the children are malformed.
        """
        found = self.find(kind)
        if found is None:
            raise malformed(f"'{self.kind}' has no '{kind}'")
        return found

    def find(self, kind: str) -> Box | None:
        """The first child of this kind, or None."""
        return next((item for item in boxes(self.body) if item.kind == kind), None)

    def numbers(self, layout: str, at: int = 0) -> tuple[int, ...]:
        """Big-endian integers (`struct` letters) at a byte position of the body.

        Raises:
            StepFailed: the body ends before them.
        """
        try:
            return struct.unpack_from(f">{layout}", self.body, at)
        except struct.error:
            raise malformed(f"'{self.kind}' is too short") from None

    def full(self) -> tuple[int, int]:
        """Version and flags of a full box."""
        (word,) = self.numbers("I")
        return word >> 24, word & 0xFFFFFF


def header(data: memoryview | bytes | bytearray, at: int = 0) -> tuple[str, int, int] | None:
    """Kind, header bytes and whole size of the box at `at`; None if its header is not all there.

    Raises:
        StepFailed: the size is smaller than the header, or "up to the end of the file" (size 0),
            which neither a stream nor a box inside a box may say.
    """
    if len(data) - at < 8:
        return None
    size, raw = struct.unpack_from(">I4s", data, at)
    kind = raw.decode("latin-1")
    length = 8
    if size == 1:
        if len(data) - at < 16:
            return None
        (size,) = struct.unpack_from(">Q", data, at + 8)
        length = 16
    if size < length:
        raise malformed(f"box {kind!r} claims {size} bytes")
    return kind, length, size


def boxes(data: memoryview) -> Iterator[Box]:
    """The boxes that fill a buffer.

    Fewer than eight zero bytes at the end are QuickTime's terminator and are passed over.

    Raises:
        StepFailed: a box reaches beyond the buffer, or other bytes are left over.
    """
    at = 0
    while at < len(data):
        head = header(data, at)
        if head is None:
            if any(data[at:]):
                raise malformed(f"{len(data) - at} bytes are left after the last box")
            return
        kind, length, size = head
        if size > len(data) - at:
            raise malformed(f"box {kind!r} claims {size} bytes of {len(data) - at}")
        yield Box(kind, data[at + length : at + size], at)
        at += size


def box(kind: str, *parts: bytes | memoryview) -> bytes:
    """A box with this body.

    Raises:
        StepFailed: it does not fit a 32-bit size.
    """
    size = 8 + sum(len(part) for part in parts)
    if size >= 1 << 32:
        raise malformed(f"box {kind!r} of {size} bytes does not fit 32 bits")
    return b"".join((struct.pack(">I4s", size, kind.encode("latin-1")), *parts))


def full_box(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    """A box that starts with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


@dataclass(frozen=True, slots=True)
class AvcConfig:
    """avcC (ISO/IEC 14496-15, 5.3.3.1): what a decoder must know before the first sample."""

    profile: int
    compatibility: int
    level: int
    length_size: int  # bytes of the length before each NAL unit
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


def avc_config(config: Box) -> AvcConfig:
    """Read an avcC box; its High-profile extension repeats what the SPS says and is passed over.

    Raises:
        StepFailed: a parameter set reaches beyond the box.
    """
    _, profile, compatibility, level, lengths, sps_count = config.numbers("6B")
    at = 6
    sets: list[list[bytes]] = []
    for count in (sps_count & 0x1F, None):
        if count is None:
            (count,) = config.numbers("B", at)
            at += 1
        units = []
        for _ in range(count):
            (size,) = config.numbers("H", at)
            unit = bytes(config.body[at + 2 : at + 2 + size])
            if len(unit) < size:
                raise malformed("'avcC' is too short")
            units.append(unit)
            at += 2 + size
        sets.append(units)
    return AvcConfig(
        profile, compatibility, level, (lengths & 3) + 1, tuple(sets[0]), tuple(sets[1])
    )


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One entry of stsd: how the samples are coded. Sizes are coded pixels."""

    kind: str
    width: int = 0
    height: int = 0
    sar: Fraction = Fraction(1)
    channels: int = 0
    sample_rate: int = 0  # Hz
    boxes: tuple[Box, ...] = ()

    def find(self, kind: str) -> Box | None:
        return next((item for item in self.boxes if item.kind == kind), None)


# QuickTime's sound description versions 1 and 2 put further fields before the boxes.
_SOUND_EXTENSION_BYTES = {0: 0, 1: 16, 2: 36}


def sample_entry(entry: Box, handler: str) -> SampleEntry:
    """Read a sample entry of a picture ("vide") or sound ("soun") track; of others only its kind.

    Raises:
        StepFailed: it is cut off.
    """
    if handler == "vide":
        width, height = entry.numbers("HH", 24)
        inner = tuple(boxes(entry.body[78:]))
        spacing = next((item for item in inner if item.kind == "pasp"), None)
        across, down = spacing.numbers("II") if spacing else (1, 1)
        # pasp 0:0 stands in real files and means that nothing is known
        sar = Fraction(across, down) if across and down else Fraction(1)
        return SampleEntry(entry.kind, width=width, height=height, sar=sar, boxes=inner)
    if handler == "soun":
        (version,) = entry.numbers("H", 8)
        channels, _, _, _, rate = entry.numbers("HHHHI", 16)
        # Beyond 65 535 Hz the 16.16 field is 0 or wrong and the codec's own configuration counts.
        extension = _SOUND_EXTENSION_BYTES.get(version)
        inner = tuple(boxes(entry.body[28 + extension :])) if extension is not None else ()
        return SampleEntry(entry.kind, channels=channels, sample_rate=rate >> 16, boxes=inner)
    return SampleEntry(entry.kind)
