"""Sizes in sequence parameter sets: real ones, and ones coded here bit by bit from the standard."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import StepFailed
from telecine.engine.formats.sps import av1_size, hevc_size, sps_size
from telecine.engine.ladder import Size

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


# --- HEVC: ITU-T H.265, 7.3.2.2 and 7.3.3 ---------------------------------------------------------

# From files of the media corpus and from x265; sizes as FFmpeg tells them.
REAL_HEVC = {
    "420101016000000300000300000300000300b7a000f008004385a2d2bb04bb9a8080808202faf08047868c0"
    "0": Size(7680, 4320),
    "42010102200000030000030000030000030099a003c0801107cada2d2bb04bb9a848904815c50a40": Size(
        1920, 1080
    ),  # of 1088
    "42010102200000030090000003000003003ca01920324d96566924caf0168080000003008000000f0420": Size(
        200, 200
    ),
    "42010101600000030090000003000003003fa00f080447d659116e4c2f016a0c0c0c0800000300080000030"
    "0c040": Size(480, 270),  # of 272
}


@pytest.mark.parametrize(("text", "size"), REAL_HEVC.items())
def test_real_parameter_sets_of_hevc(text: str, size: Size) -> None:
    assert hevc_size(bytes.fromhex(text)) == size


def hevc(*parts: str, layers: str = "") -> bytes:
    """NAL header of an SPS, these bits behind a profile and its layers, and the stop bit."""
    count = layers.count(",") + 1 if layers else 0
    said = layers.replace(",", "")
    body = "0000" + f"{count:03b}" + "1" + "01" * 48 + said
    if count:
        body += "00" * (8 - count)
        body += "".join(
            "1" * (88 * int(layer[0]) + 8 * int(layer[1])) for layer in layers.split(",")
        )
    bits = body + ue(0) + "".join(parts) + "1"
    bits += "0" * (-len(bits) % 8)
    return b"\x42\x01" + int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("layers", ["", "00", "11", "10,01", "01,11,00"])
def test_layers_of_hevc_are_passed_over(layers: str) -> None:
    assert hevc_size(hevc(ue(1), ue(320), ue(240), "0", layers=layers)) == Size(320, 240)


@pytest.mark.parametrize(
    ("chroma", "size"),
    [
        (ue(0), Size(313, 233)),
        (ue(1), Size(306, 226)),
        (ue(2), Size(306, 233)),
        (ue(3) + "0", Size(313, 233)),
    ],
)
def test_windows_of_hevc_count_chroma_samples(chroma: str, size: Size) -> None:
    window = "1" + ue(3) + ue(4) + ue(2) + ue(5)  # left, right, top, bottom
    assert hevc_size(hevc(chroma, ue(320), ue(240), window)) == size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x42",
        b"\x44\x01\xc0",  # a picture parameter set
        b"\x42\x01\x01\x60",
        hevc(ue(1), ue(320), ue(240), "0")[:-3],
        hevc(ue(4), ue(320), ue(240), "0"),
        hevc(ue(1), ue(8), ue(8), "1" + ue(4) + ue(0) + ue(0) + ue(0)),
    ],
)
def test_what_is_no_parameter_set_of_hevc_is_refused(data: bytes) -> None:
    with pytest.raises(StepFailed) as caught:
        hevc_size(data)
    assert caught.value.code == "malformed_media"


# --- AV1: bitstream specification, 5.5.1 ---------------------------------------------------------

# From files of the media corpus and from SVT-AV1; sizes as FFmpeg tells them.
REAL_AV1 = {
    "0000006aefbfe1bc02f80240": Size(3840, 2160),
    "0000002d4c37b3dfff9804": Size(1080, 720),
    "0000004aabbfc3776fe342440241": Size(1920, 1080),
    "0000000cc4ff673ffe6408080410": Size(640, 360),
    "02000005223bf0d00be041818181": Size(480, 270),
}


@pytest.mark.parametrize(("text", "size"), REAL_AV1.items())
def test_real_sequence_headers(text: str, size: Size) -> None:
    assert av1_size(bytes.fromhex(text)) == size


def packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


POINT = "0" * 12 + "00101"  # an operating point of level 5, which has no tier
HIGH_POINT = "0" * 12 + "01000" + "1"  # level 8 has one
SIZES = "1000" + "0111" + f"{319:09b}" + f"{199:08b}"  # 9 and 8 bits: 320×200


@pytest.mark.parametrize(
    "bits",
    [
        "0000" + "1" + "00101",  # a reduced still picture
        "0000" + "0" + "0" + "0" + "00000" + POINT,
        "0000" + "0" + "0" + "0" + "00001" + POINT + HIGH_POINT,
        # timing: two words, pictures not alike, no model
        "0000" + "0" + "1" + "01" * 32 + "0" + "0" + "0" + "00000" + POINT,
        # pictures of equal length, 5 in uvlc(): 00110
        "0000" + "0" + "1" + "01" * 32 + "1" + "00110" + "0" + "0" + "00000" + POINT,
        # a decoder model with delays of 10 bits, which the second point has not
        "0000" + "0" + "1" + "01" * 32 + "0" + "1" + "01001" + "01" * 21
        + "0" + "00001" + POINT + "1" + "1" * 21 + POINT + "0",
        # delays of display, which the second point has not
        "0000" + "0" + "0" + "1" + "00001" + POINT + "1" + "0110" + POINT + "0",
    ],
)  # fmt: skip
def test_sizes_behind_every_part_of_a_sequence_header(bits: str) -> None:
    assert av1_size(packed(bits + SIZES)) == Size(320, 200)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x2d", bytes.fromhex("0000002d4c37")])
def test_sequence_headers_that_are_cut_off_are_refused(data: bytes) -> None:
    with pytest.raises(StepFailed) as caught:
        av1_size(data)
    assert caught.value.code == "malformed_media"


@given(st.binary(max_size=40))
def test_any_bytes_have_a_size_or_are_refused_in_words(data: bytes) -> None:
    for read in (lambda found: hevc_size(b"\x42\x01" + found), av1_size):
        with suppress(StepFailed):
            size = read(data)
            assert size.width > 0
            assert size.height > 0
