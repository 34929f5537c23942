"""Pure: how each coding of pictures stands in a file, and what its bytes say of themselves.

A coding is a sample entry, the box that configures its decoder, the codec string that follows from
the two, and how a picture is known that needs none before it. Sources: AVC and HEVC in MP4 are
ISO/IEC 14496-15, AV1 in MP4 is the Alliance's "AV1 Codec ISO Media File Format Binding"; what is
inside a sample is ITU-T H.264, H.265 and the AV1 bitstream specification.

What does not parse is a `StepFailed` with code `malformed_media`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from telecine.engine.formats.bmff import Box, SampleEntry, avc_config, malformed
from telecine.engine.formats.captions import SEI_MARK
from telecine.engine.formats.sps import av1_size, hevc_size, sps_size
from telecine.engine.ladder import Size


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a decoder must know before the first sample, as far as it is needed here."""

    length_size: int = 0  # bytes of the length before each NAL unit; 0 where there are none
    # AVC, HEVC: every SPS, then every PPS; else what says the size
    sets: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to code pictures.

    `entries` are its sample entries: with the first, parameter sets stand in the init segment
    alone, which is what players expect of CMAF. `key` tells of a sample and the length size whether
    it is a picture from which a player may start, with nothing after it referring to before it.
    """

    entries: tuple[str, ...]
    config: str  # the kind of the box inside the sample entry
    codec: Callable[[SampleEntry, Box], str]  # RFC 6381
    parameters: Callable[[Box], Parameters]
    key: Callable[[bytes | memoryview, int], bool]
    size: Callable[[bytes], Size]  # of the first of the parameters' sets
    # Where what is encrypted begins in a unit, by it and the parameters' sets; None of the unit:
    # all of it stays clear. None for a coding: it cannot be encrypted but as whole segments.
    clear: Callable[[bytes | memoryview, tuple[bytes, ...]], int | None] | None = None


_MOST_CLEAR = 0xFFFF  # what one entry can say

# Of a sample: bytes that are clear, then bytes under the pattern of what is encrypted, and so on.
Subsamples = tuple[tuple[int, int], ...]


def subsamples(coding: Coding, data: bytes | memoryview, parameters: Parameters) -> Subsamples:
    """Which bytes of a picture `cbcs` encrypts: every slice from behind its header on (CMAF,
    8.2.2.1). Of one that is encrypted already the same, since what says it is not.

    Raises:
        StepFailed: (code `malformed_media`) what is in it does not fill it, or cannot be encrypted.
    """
    if coding.clear is None:
        raise malformed(f"samples of {coding.entries[0]} cannot be encrypted")
    found: list[tuple[int, int | None]] = []
    length_size = parameters.length_size
    for unit in _nal_units(data, length_size):
        clear = coding.clear(unit, parameters.sets)
        found.append((length_size + len(unit), None if clear is None else length_size + clear))
    return subsamples_of(found)


def subsamples_of(units: Iterable[tuple[int, int | None]]) -> Subsamples:
    """The subsamples of a picture whose units have these (sizes, clear bytes at their start), in
    their order; None: all of the unit stays clear."""
    found: list[tuple[int, int]] = []
    waiting = 0  # clear bytes that no entry has yet
    for size, clear in units:
        waiting += size if clear is None else min(clear, size)
        if clear is not None and clear < size:
            found += _entries(waiting, size - clear)
            waiting = 0
    return (*found, *(_entries(waiting, 0) if waiting else ()))


def _entries(clear: int, protected: int) -> list[tuple[int, int]]:
    whole, rest = divmod(clear, _MOST_CLEAR)
    return [(_MOST_CLEAR, 0)] * whole + [(rest, protected)]


# --- units of a sample --------------------------------------------------------------------------


def _nal_units(data: bytes | memoryview, length_size: int) -> Iterator[bytes | memoryview]:
    """The NAL units that fill a sample, each behind its length (14496-15, 4.3.3)."""
    at = 0
    while at < len(data):
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data) or at <= start:
            raise malformed("a NAL unit does not fit its sample")
        yield data[start:at]


def _obus(data: bytes | memoryview) -> Iterator[tuple[int, bytes | memoryview]]:
    """(type, payload) of the open bitstream units that fill a sample (AV1, 5.3.2)."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 0x4 else 1
        end = len(data)  # the last unit may leave out its size (ISO binding, 2.4)
        if head & 0x2:
            size, at = _leb128(data, at)
            end = at + size
        if head & 0x80 or at > len(data) or end > len(data):
            raise malformed("an OBU does not fit its sample")
        yield head >> 3 & 0xF, data[at:end]
        at = end


def _leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first (AV1, 4.10.5), and where it ends."""
    number = 0
    for n, byte in enumerate(data[at : at + 8]):
        number |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            return number, at + n + 1
    raise malformed("an OBU has no size")


# --- H.264 ----------------------------------------------------------------------------------------

_AVC_IDR = 5


def _avc_codec(entry: SampleEntry, config: Box) -> str:
    avc = avc_config(config)
    return f"{entry.kind}.{avc.profile:02x}{avc.compatibility:02x}{avc.level:02x}"


def _avc_parameters(config: Box) -> Parameters:
    avc = avc_config(config)
    return Parameters(avc.length_size, avc.sps + avc.pps)


def _avc_key(data: bytes | memoryview, length_size: int) -> bool:
    """An IDR slice; a recovery point, which is called sync too, is none."""
    kinds = [unit[0] & 0x1F for unit in _nal_units(data, length_size)]  # all of them: they must fit
    return _AVC_IDR in kinds


_AVC_SEI = 6


def avc_without_captions(data: bytes | memoryview, length_size: int) -> bytes:
    """A picture of H.264 without the SEI units that hold closed captions. Other messages in such a
    unit go with them: a container says their times, and no picture is decoded by them."""
    kept = [
        unit
        for unit in _nal_units(data, length_size)
        if unit[0] & 0x1F != _AVC_SEI or SEI_MARK not in bytes(unit)
    ]
    return b"".join(len(unit).to_bytes(length_size, "big") + bytes(unit) for unit in kept)


_AVC_SLICES = (1, 5)
# Partitions, auxiliary pictures, other layers and views: they show the film too, and nothing here
# knows their headers.
_AVC_OTHER_SLICES = (2, 3, 4, 19, 20, 21)


def _avc_clear(unit: bytes | memoryview, sets: tuple[bytes, ...]) -> int | None:
    kind = unit[0] & 0x1F
    if kind in _AVC_OTHER_SLICES:
        raise malformed(f"a slice that would stay clear (NAL unit type {kind})")
    if kind not in _AVC_SLICES:
        return None
    from telecine.engine.formats.slices import (
        header_bytes,  # the command line reads this at its start
    )

    return header_bytes(unit, sets)


AVC = Coding(("avc1", "avc3"), "avcC", _avc_codec, _avc_parameters, _avc_key, sps_size, _avc_clear)


# --- HEVC -----------------------------------------------------------------------------------------

_HEVC_SPS, _HEVC_PPS = 33, 34
_HEVC_IDR = (19, 20)  # IDR_W_RADL, IDR_N_LP; CRA (21) may have pictures that refer across it


def _hevc_codec(entry: SampleEntry, config: Box) -> str:
    """14496-15 annex E: profile space and number, reversed compatibility flags, tier and level,
    then the constraint bytes without the zeros at their end."""
    _, profile, compatibility = config.numbers("BBI")
    constraints = config.numbers("6B", 6)
    (level,) = config.numbers("B", 12)
    space = ("", "A", "B", "C")[profile >> 6]
    tier = "H" if profile & 0x20 else "L"
    flags = int(f"{compatibility:032b}"[::-1], 2)
    parts = [entry.kind, f"{space}{profile & 0x1F}", f"{flags:X}", f"{tier}{level}"]
    kept = len(bytes(constraints).rstrip(b"\0"))
    return ".".join([*parts, *(f"{byte:X}" for byte in constraints[:kept])])


def _hevc_parameters(config: Box) -> Parameters:
    """The length size, every SPS, and every PPS (14496-15, 8.3.3.1.2)."""
    lengths, arrays = config.numbers("2B", 21)
    at = 23
    found: dict[int, list[bytes]] = {_HEVC_SPS: [], _HEVC_PPS: []}
    for _ in range(arrays):
        kind, count = config.numbers("BH", at)
        at += 3
        for _ in range(count):
            (size,) = config.numbers("H", at)
            unit = bytes(config.body[at + 2 : at + 2 + size])
            if len(unit) < size:
                raise malformed("'hvcC' is too short")
            found.setdefault(kind & 0x3F, []).append(unit)
            at += 2 + size
    return Parameters((lengths & 3) + 1, (*found[_HEVC_SPS], *found[_HEVC_PPS]))


def _hevc_key(data: bytes | memoryview, length_size: int) -> bool:
    kinds = {unit[0] >> 1 & 0x3F for unit in _nal_units(data, length_size)}
    return not kinds.isdisjoint(_HEVC_IDR)


# Of the first 32 types, which are coded slice segments, those that have a meaning (H.265, 7.4.2.2).
_HEVC_SLICES = (*range(10), *range(16, 22))
_HEVC_SLICES_END = 32


def _hevc_clear(unit: bytes | memoryview, sets: tuple[bytes, ...]) -> int | None:
    kind = unit[0] >> 1 & 0x3F
    if kind >= _HEVC_SLICES_END:
        return None
    if kind not in _HEVC_SLICES:
        raise malformed(f"a slice that would stay clear (NAL unit type {kind})")
    from telecine.engine.formats.hevc_slices import hevc_header_bytes  # as of H.264

    return hevc_header_bytes(unit, sets)


HEVC = Coding(
    ("hvc1", "hev1"), "hvcC", _hevc_codec, _hevc_parameters, _hevc_key, hevc_size, _hevc_clear
)


# --- AV1 ------------------------------------------------------------------------------------------

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6

# What a codec string may leave out (ISO binding, 5): BT.709 in video range.
_USUAL_COLOR = (1, 1, 1, 0)


def _av1_codec(entry: SampleEntry, config: Box) -> str:
    """ISO binding, section 5: profile, level and tier, bit depth; and where the sample entry's
    `colr` says other colours than BT.709, chroma and colours too."""
    _, first, second = config.numbers("3B")
    profile, level = first >> 5, first & 0x1F
    tier = "H" if second & 0x80 else "M"
    high, twelve = second & 0x40, second & 0x20
    depth = 12 if profile == 2 and high and twelve else 10 if high else 8
    short = f"{entry.kind}.{profile}.{level:02d}{tier}.{depth:02d}"
    color = nclx(entry)
    if color in (None, _USUAL_COLOR):
        return short
    mono, across, down, place = second >> 4 & 1, second >> 3 & 1, second >> 2 & 1, second & 3
    chroma = f"{across}{down}{place if across and down else 0}"
    primaries, transfer, matrix, full = color
    return f"{short}.{mono}.{chroma}.{primaries:02d}.{transfer:02d}.{matrix:02d}.{full}"


def nclx(entry: SampleEntry) -> tuple[int, int, int, int] | None:
    """Primaries, transfer, matrix and full range of a `colr` of kind nclx (14496-12, 12.1.5)."""
    colr = entry.find("colr")
    if colr is None or bytes(colr.body[:4]) != b"nclx":
        return None
    primaries, transfer, matrix, full = colr.numbers("HHHB", 4)
    return primaries, transfer, matrix, full >> 7


def _av1_parameters(config: Box) -> Parameters:
    """The sequence header, which stands behind the four fixed bytes (ISO binding, 2.3)."""
    found = [bytes(payload) for kind, payload in _obus(config.body[4:]) if kind == _SEQUENCE_HEADER]
    return Parameters(sets=tuple(found))


def _av1_key(data: bytes | memoryview, _: int) -> bool:
    """A temporal unit that starts with a sequence header and shows a key frame (AV1, 7.6.1)."""
    kinds = list(_obus(data))
    for n, (kind, payload) in enumerate(kinds):
        if kind in (_FRAME, _FRAME_HEADER):
            # show_existing_frame 0, frame_type 0 (KEY_FRAME), show_frame 1 (5.9.2)
            shown = len(payload) > 0 and payload[0] >> 4 == 0b0001
            return shown and any(before == _SEQUENCE_HEADER for before, _ in kinds[:n])
    return False


AV1 = Coding(("av01",), "av1C", _av1_codec, _av1_parameters, _av1_key, av1_size)

# Sample entry → its coding, also of those that only a stranger writes.
CODINGS = {entry: coding for coding in (AVC, HEVC, AV1) for entry in coding.entries}
