"""Sizes in sequence parameter sets: real ones, and ones coded here bit by bit from the standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import StepFailed
from telecine.engine.ladder import Size
from telecine.engine.sps import sps_size

# From files of the media corpus; sizes as mediainfo tells them.
REAL = {
    "67640028acd940780227e5c044000003000400000300c03c60c658": Size(1920, 1080),  # High, of 1088
    "6742801696540601bd3506060640000003004000000661": Size(768, 432),  # Baseline
    "6764001facd9404405be5f011000003e90000ea600f1831960": Size(1080, 720),  # High, of 1088
    "6742001eab404814f2f35010101020": Size(568, 320),  # Baseline of a phone, of 576
    "677a001ebcd940a02ff89c0440000003004000000f03c58b6580": Size(640, 360),  # High 4:2:2
    "67f4000a919b2bf08421080000030008000003001078912cb0": Size(1, 1),  # High 4:4:4, of 16
}


@pytest.mark.parametrize(("text", "size"), REAL.items())
def test_real_parameter_sets(text: str, size: Size) -> None:
    assert sps_size(bytes.fromhex(text)) == size


def ue(number: int) -> str:
    binary = f"{number + 1:b}"
    return "0" * (len(binary) - 1) + binary


def se(number: int) -> str:
    return ue(2 * number - 1 if number > 0 else -2 * number)


def sps(*parts: str, profile: int = 66) -> bytes:
    """Header, profile, constraints, level, id 0, then these bits and the stop bit."""
    bits = f"{profile:08b}" + "0" * 8 + f"{40:08b}" + ue(0) + "".join(parts) + "1"
    bits += "0" * (-len(bits) % 8)
    data = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    for n in range(4):  # emulation prevention (7.4.1)
        data = data.replace(bytes([0, 0, n]), bytes([0, 0, 3, n])) if n != 3 else data
    return data


# log2_max_frame_num, order count of type 2, one reference frame, no gaps
PLAIN = ue(0) + ue(2) + ue(1) + "0"


def sized(columns: int, rows: int, *, crop: tuple[int, ...] = (), frames_only: int = 1) -> str:
    fields = "" if frames_only else "0"
    cropping = "1" + "".join(map(ue, crop)) if crop else "0"
    return ue(columns - 1) + ue(rows - 1) + str(frames_only) + fields + "1" + cropping + "0"


def test_sizes_count_macroblocks_less_the_crop() -> None:
    assert sps_size(sps(PLAIN, sized(20, 15))) == Size(320, 240)
    # 4:2:0: a crop of 1 is two luma samples; of fields four lines
    assert sps_size(sps(PLAIN, sized(20, 15, crop=(1, 2, 3, 4)))) == Size(314, 226)
    assert sps_size(sps(PLAIN, sized(120, 34, crop=(0, 0, 0, 2), frames_only=0))) == Size(
        1920, 1080
    )


@pytest.mark.parametrize(
    ("chroma", "size"),
    [(0, Size(319, 239)), (1, Size(318, 238)), (2, Size(318, 239)), (3, Size(319, 239))],
)
def test_crops_count_chroma_samples(chroma: int, size: Size) -> None:
    planes = "0" if chroma == 3 else ""
    high = ue(chroma) + planes + ue(0) + ue(0) + "0" + "0"
    assert sps_size(sps(high, PLAIN, sized(20, 15, crop=(0, 1, 0, 1)), profile=100)) == size


def test_scaling_lists_are_passed_over() -> None:
    # Of eight lists: a whole one of 16, one that ends at once (0 = 8 - 8), then none.
    lists = "1" + se(2) * 16 + "1" + se(-8) + "0" * 6
    high = ue(1) + ue(0) + ue(0) + "0" + "1" + lists
    assert sps_size(sps(high, PLAIN, sized(20, 15), profile=100)) == Size(320, 240)
    high = ue(3) + "1" + ue(0) + ue(0) + "0" + "1" + "0" * 6 + "1" + se(1) * 64 + "0" * 5
    assert sps_size(sps(high, PLAIN, sized(20, 15, crop=(0, 1, 0, 0)), profile=244)) == Size(
        319, 240
    )


def test_order_counts_of_every_type() -> None:
    rest = ue(1) + "0" + sized(20, 15)
    assert sps_size(sps(ue(0), ue(0) + ue(4), rest)) == Size(320, 240)
    cycle = "0" + se(-3) + se(5) + ue(2) + se(1) + se(-1)
    assert sps_size(sps(ue(0), ue(1) + cycle, rest)) == Size(320, 240)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x68\xee\x3c\x80",  # a PPS
        b"\x67\x42",
        sps(PLAIN, sized(20, 15))[:6],
        sps(PLAIN, sized(1, 1, crop=(8, 0, 0, 0))),
        sps(PLAIN, sized(1, 1, crop=(0, 0, 4, 4))),
        sps(ue(4), profile=100),
        sps(ue(0), ue(1) + "0" + se(0) + se(0) + ue(256)),
        sps("0" * 40 + "1"),
        b"\x67" + bytes(30),
    ],
)
def test_what_is_no_parameter_set_is_refused(data: bytes) -> None:
    with pytest.raises(StepFailed):
        sps_size(data)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        size = sps_size(b"\x67" + data)
    except StepFailed:
        return
    assert size.width > 0
    assert size.height > 0
