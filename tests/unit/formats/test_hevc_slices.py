"""Where HEVC slices begin.

`hevc_slice_headers.tsv` has parameter sets, the slice's first bytes, and how many of them its
headers take, of x265's output: with weights, B-pyramids, temporal layers, wavefronts, several
slices, sets of references in the SPS, CRA pictures, ten bits. That number is what Shaka Packager
3.8.0 leaves clear, but of `no-filters`, where FFmpeg's bit stream filter `trace_headers` says it:
there the packager forgets that the PPS has turned deblocking off, and leaves a byte more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.formats.test_cenc import Writer

from telecine.engine.errors import StepFailed
from telecine.engine.formats.coding import HEVC, Parameters, subsamples
from telecine.engine.formats.hevc_slices import hevc_header_bytes

TRAIL, IDR, CRA, SPS, PPS = 1, 19, 21, 33, 34
B, P, I = range(3)  # noqa: E741 # slice types, as the standard calls them


def _headers() -> list[tuple[str, tuple[bytes, ...], bytes, int]]:
    rows = []
    for line in Path(__file__).with_name("hevc_slice_headers.tsv").read_text().splitlines():
        name, sets, head, clear = line.split("\t")
        units = tuple(bytes.fromhex(unit) for unit in sets.split("+"))
        rows.append((name, units, bytes.fromhex(head), int(clear)))
    return rows


@pytest.mark.parametrize("row", _headers(), ids=lambda row: f"{row[0]}-{row[3]}")
def test_a_slice_begins_where_other_programs_say(
    row: tuple[str, tuple[bytes, ...], bytes, int],
) -> None:
    _, sets, head, clear = row
    assert hevc_header_bytes(head, sets) == clear
    assert hevc_header_bytes(head + bytes(range(256)) * 40, sets) == clear


# --- by hand --------------------------------------------------------------------------------------


class Unit(Writer):
    """A NAL unit of the first layer (H.265, 7.3.1)."""

    def __init__(self, kind: int) -> None:
        super().__init__(1)
        self._kind = kind

    def unit(self, tail: bytes = b"") -> bytes:
        return bytes([self._kind << 1]) + super().unit(tail)

    @property
    def size(self) -> int:
        """With the bits that fill the last byte: a one at least (7.3.2.12)."""
        return 2 + len(self._bits) // 8 + 1


def sps(
    *,
    layers: int = 0,
    chroma: int = 1,
    every: int = 0,
    lists: bool = False,
    pcm: bool = False,
    sets: Writer | None = None,
    long_term: tuple[int, ...] | None = None,
    offset: int = 0,
    motion: int = 0,
) -> bytes:
    """640 × 360 in blocks of 64: 60 of them, so an address has 6 bits."""
    bits = Unit(SPS).u(4, 0).u(3, layers).u(1, 1).u(88, 0).u(8, 93)
    if layers:
        bits.u(2 * 8, 0)
    bits.ue(0, chroma).ue(640, 360).u(1, 0).ue(0, 0).ue(0)  # 4 bits of picture order
    bits.u(1, every)
    for _ in range(layers + 1 if every else 1):
        bits.ue(4, 2, 0)
    bits.ue(0, 3).ue(0, 3, 0, 0).u(1, int(lists))
    if lists:
        bits.u(1, 1)
        scaling_lists(bits)
    bits.u(1, 0).u(1, offset).u(1, int(pcm))
    if pcm:
        bits.u(8, 0x77).ue(0, 0).u(1, 0)
    if sets is None:
        bits.ue(0)
    else:
        bits._bits += sets._bits
    bits.u(1, int(long_term is not None))
    if long_term is not None:
        bits.ue(len(long_term))
        for used in long_term:
            bits.u(4, 5).u(1, used)
    return bits.u(1, motion).unit()


def scaling_lists(bits: Writer) -> None:
    """Those of the first size refer to others, the last are told in numbers."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if size < 3:
                bits.u(1, 0).ue(0)
            else:
                bits.u(1, 1).ue(*range(65))


def pps(
    *,
    dependent: int = 0,
    output: int = 0,
    extra: int = 0,
    cabac: int = 0,
    delta: bool = False,
    offsets: int = 0,
    weighted: int = 0,
    tiles: bool = False,
    uniform: int = 0,
    across: int = 0,
    deblocking: tuple[int, int] | None = None,
    lists: bool = False,
    modification: int = 0,
    header: int = 0,
    extension: int = 0,
) -> bytes:
    bits = Unit(PPS).ue(0, 0).u(1, dependent).u(1, output).u(3, extra).u(1, 0).u(1, cabac)
    bits.ue(1, 0, 0).u(2, 0).u(1, int(delta))
    if delta:
        bits.ue(1)
    bits.ue(0, 0).u(1, offsets).u(1, weighted).u(1, weighted).u(1, 0).u(1, int(tiles)).u(1, 0)
    if tiles:
        bits.ue(1, 2).u(1, uniform)
        if not uniform:
            bits.ue(3, 1, 1)
        bits.u(1, 1)
    bits.u(1, across).u(1, int(deblocking is not None))
    if deblocking is not None:
        override, disabled = deblocking
        bits.u(1, override).u(1, disabled)
        if not disabled:
            bits.ue(0, 0)
    bits.u(1, int(lists))
    if lists:
        scaling_lists(bits)
    return bits.u(1, modification).ue(0).u(1, header).u(1, extension).unit()


def begins(sets: tuple[bytes, ...], head: Unit) -> None:
    """The header ends where it was written to its end."""
    size = head.size
    assert hevc_header_bytes(head.u(1, 1).unit(b"\xff" * 8), sets) == size


def test_a_dependent_segment_takes_all_but_its_place_from_the_one_before() -> None:
    sets = (sps(), pps(dependent=1))
    begins(sets, Unit(TRAIL).u(1, 0).ue(0).u(1, 1).u(6, 17))
    # One that is not dependent has a header of its own: I, order, no set of the SPS, quantiser.
    begins(sets, Unit(TRAIL).u(1, 0).ue(0).u(1, 0).u(6, 17).ue(I).u(4, 3).u(1, 0).ue(0, 0, 7))


def test_an_idr_picture_refers_to_none() -> None:
    """pic_output_flag, two reserved bits, both offsets, an override with numbers of its own, and
    whether filters reach across slices."""
    given: dict[str, Any] = {
        "extra": 2,
        "output": 1,
        "offsets": 1,
        "across": 1,
        "deblocking": (1, 1),
    }
    sets = (sps(offset=1, every=1, layers=1), pps(**given))
    head = Unit(IDR).u(1, 1).u(1, 0).ue(0).u(2, 0).ue(I).u(1, 1).u(2, 0).ue(5, 1, 2)
    begins(sets, head.u(1, 1).u(1, 0).ue(3, 4).u(1, 1))
    # The PPS has turned deblocking off, and this one does not override it.
    head = Unit(IDR).u(1, 1).u(1, 0).ue(0).u(2, 0).ue(I).u(1, 1).u(2, 0).ue(5, 1, 2)
    begins(sets, head.u(1, 0))
    # Turned off once more; what was filtered otherwise may still reach across.
    head = Unit(IDR).u(1, 1).u(1, 0).ue(0).u(2, 0).ue(I).u(1, 1).u(2, 2).ue(5, 1, 2)
    begins(sets, head.u(1, 1).u(1, 1).u(1, 0))


def test_tiles_and_lists_of_numbers() -> None:
    given: dict[str, Any] = {
        "tiles": True,
        "lists": True,
        "delta": True,
        "header": 1,
        "deblocking": (0, 0),
    }
    sets = (sps(lists=True, pcm=True), pps(**given))
    head = Unit(IDR).u(1, 1).u(1, 0).ue(0).ue(I).ue(5)
    # Three entry points of 9 bits each, and two bytes of whatever comes later.
    begins(sets, head.ue(3, 8).u(27, 12345).ue(2).u(16, 0xABCD))
    begins(sets, Unit(IDR).u(1, 1).u(1, 0).ue(0).ue(I).ue(5).ue(0, 0))


def test_tiles_of_one_size() -> None:
    sets = (sps(), pps(tiles=True, uniform=1))
    begins(sets, Unit(IDR).u(1, 1).u(1, 0).ue(0).ue(I).ue(5).ue(2, 7).u(16, 12345))


def three_sets() -> Writer:
    """-1 and -2; by prediction -2 and -3 of which the latter for later pictures alone, and -1 that
    it moved by; and what became 0, which falls out, with +1."""
    bits = Writer(0).ue(3)
    bits.ue(2, 0).ue(0).u(1, 1).ue(0).u(1, 1)
    bits.u(1, 1).u(1, 1).ue(0).u(1, 1).u(1, 0).u(1, 1).u(1, 1)
    return bits.u(1, 1).u(1, 0).ue(1).u(1, 1).u(1, 1).u(1, 0).u(1, 0).u(1, 1)


def test_as_many_entries_as_pictures_are_referred_to() -> None:
    """Lists are changed by entries of Ceil(Log2(NumPicTotalCurr)) bits: 2 pictures of the first set
    (1 bit), 2 of the second, and a long-term one makes 3 of them (2 bits)."""
    sets = (sps(sets=three_sets(), long_term=(1, 0), motion=1), pps(modification=1, cabac=1))
    # P, set 1 of 3: two references of its list, each by an entry.
    head = Unit(TRAIL).u(1, 1).ue(0, P).u(4, 1).u(1, 1).u(2, 1).ue(0, 0).u(1, 0).u(1, 0)
    begins(sets, head.u(1, 1).u(2, 2).u(1, 0).ue(2, 7))
    # As it is, in the order of the standard.
    head = Unit(TRAIL).u(1, 1).ue(0, P).u(4, 1).u(1, 1).u(2, 1).ue(0, 0).u(1, 0).u(1, 0)
    begins(sets, head.u(1, 0).u(1, 0).ue(2, 7))
    # The same, with the first of the SPS's long-term pictures and one of its own, unused, and with
    # another picture to take motion from.
    head = Unit(TRAIL).u(1, 1).ue(0, P).u(4, 1).u(1, 1).u(2, 1).ue(1, 1)
    head.u(1, 0).u(1, 1).ue(9).u(4, 3).u(1, 0).u(1, 0)
    begins(sets, head.u(1, 1).u(1, 0).u(1, 1).u(4, 9).u(1, 0).ue(1).ue(2, 7))
    # B, a set of its own that follows from the last one of the SPS, one reference a list.
    head = Unit(CRA).u(1, 1).u(1, 0).ue(0, B).u(4, 1).u(1, 0).u(1, 1).ue(0).u(1, 0).ue(0)
    head.u(1, 1).u(1, 1).u(1, 1).u(1, 1)
    begins(sets, head.ue(0, 0).u(1, 1).u(1, 1).ue(0, 0).u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0)
           .ue(2, 7))  # fmt: skip


def test_one_reference_is_not_put_in_order() -> None:
    one = Writer(0).ue(1).ue(1, 0).ue(0).u(1, 1)
    sets = (sps(sets=one, long_term=()), pps(modification=1, weighted=1))
    head = Unit(TRAIL).u(1, 1).ue(0, P).u(4, 1).u(1, 1).ue(0).u(1, 1).ue(1)
    # Weights of two references: the first of brightness, the second of colours.
    begins(sets, head.ue(6, 0).u(2, 2).u(2, 1).ue(3, 3).ue(1, 1, 1, 1).ue(2, 7))


BAD_HEADS = {
    "of sets that are missing": ((), Unit(TRAIL).u(1, 1).ue(0)),
    "of an SPS that is missing": ((pps(),), Unit(TRAIL).u(1, 1).ue(0)),
    "cut off": ((sps(), pps()), Unit(IDR).u(1, 1).u(1, 0).ue(0)),
    "without its last bits": (
        (sps(), pps(extra=1)),
        Unit(IDR).u(1, 1).u(1, 0).ue(0).u(1, 0).ue(I, 20),
    ),
    "of no type": ((sps(), pps()), Unit(IDR).u(1, 1).u(1, 0).ue(0, 3)),
    "4:2:2": ((sps(chroma=2), pps()), Unit(IDR).u(1, 1).u(1, 0).ue(0, I, 5)),
    "by an extension": ((sps(), pps(extension=1)), Unit(IDR).u(1, 1).u(1, 0).ue(0, I, 5)),
    "of a set that is missing": ((sps(), pps()), Unit(TRAIL).u(1, 1).ue(0, I).u(4, 0).u(1, 1)),
    "of a set from nowhere": (
        (sps(sets=three_sets()), pps()),
        Unit(TRAIL).u(1, 1).ue(0, I).u(4, 0).u(1, 0).u(1, 1).ue(3),
    ),
    "of a long-term picture that is missing": (
        (sps(sets=three_sets(), long_term=(1, 1, 1)), pps()),
        Unit(TRAIL).u(1, 1).ue(0, I).u(4, 0).u(1, 1).u(2, 0).ue(1, 0).u(2, 3),
    ),
    "too many references": (
        (sps(), pps()),
        Unit(TRAIL).u(1, 1).ue(0, P).u(4, 0).u(1, 0).ue(17),
    ),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_headers_that_are_none_are_refused(name: str) -> None:
    sets, head = BAD_HEADS[name]
    with pytest.raises(StepFailed) as caught:
        hevc_header_bytes(head.unit(), sets)
    assert caught.value.code == "malformed_media"


@pytest.mark.parametrize("head", [b"\x03\x01", b"\x02\x09", b"\x02"])
def test_another_layer_is_refused(head: bytes) -> None:
    with pytest.raises(StepFailed, match="another layer"):
        hevc_header_bytes(head, ())


def test_what_is_no_slice_stays_clear_and_what_may_be_one_is_refused() -> None:
    """An SEI message (39), a slice, and a type that is reserved for slices (22)."""
    sets = Parameters(4, (sps(), pps()))
    sei = bytes.fromhex("4e01ffff")
    head = Unit(IDR).u(1, 1).u(1, 0).ue(0, I, 5)
    clear = head.size
    slice_ = head.u(1, 1).unit(bytes(100))

    def sample(*units: bytes) -> bytes:
        return b"".join(len(one).to_bytes(4, "big") + one for one in units)

    found = subsamples(HEVC, sample(sei, slice_), sets)
    assert found == ((4 + len(sei) + 4 + clear, len(slice_) - clear),)
    with pytest.raises(StepFailed, match="stay clear"):
        subsamples(HEVC, sample(slice_, bytes([22 << 1, 1]) + bytes(9)), sets)
