"""Pure: the picture size that coded video says in its sequence header: H.264 (ITU-T H.264,
7.3.2.1.1), HEVC (ITU-T H.265, 7.3.2.2) and AV1 (its bitstream specification, 5.5).

Sample entries repeat the size, and a copied stream's may lie; decoders obey the header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from telecine.engine.formats.bmff import malformed
from telecine.engine.ladder import Size

# Profiles whose SPS has a chroma format, bit depths and scaling lists.
HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)

# chroma_format_idc → luma samples a chroma sample spans, across and down (table 6-1)
_CHROMA = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}

_MAX_CYCLE = 255  # of offsets in a picture order count cycle


def payload(unit: bytes) -> bytes:
    """A NAL unit without its emulation prevention bytes."""
    return re.sub(rb"\x00\x00\x03", b"\x00\x00", unit)


class Bits:
    """Bits of a header, read one after another."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    @property
    def taken(self) -> int:
        """How many were read."""
        return self._at

    def u(self, count: int) -> int:
        """u(n): an unsigned number of `count` bits."""
        if self._at + count > len(self._bits):
            raise malformed("the SPS is cut off")
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def ue(self) -> int:
        """ue(v): Exp-Golomb, unsigned (9.1)."""
        one = self._bits.find("1", self._at)
        zeros = one - self._at
        if one < 0 or zeros > 32:
            raise malformed("the SPS has no such number")
        self._at = one
        return self.u(zeros + 1) - 1

    def se(self) -> int:
        """se(v): Exp-Golomb, signed (9.1.1)."""
        number = self.ue()
        return (number + 1) // 2 if number % 2 else -number // 2


def sps_size(sps: bytes) -> Size:
    """Width and height of the cropped picture of an SPS NAL unit, its header byte included.

    Raises:
        StepFailed: (code `malformed_media`) it is no SPS, or cut off.
    """
    if not sps or sps[0] & 0x1F != 7:
        raise malformed("not an SPS")
    bits = Bits(payload(sps[1:]))
    profile, _, _ = bits.u(8), bits.u(8), bits.u(8)
    bits.ue()  # seq_parameter_set_id
    chroma = 1
    if profile in HIGH_PROFILES:
        chroma = pass_high_profile(bits)
    bits.ue()  # log2_max_frame_num_minus4
    pass_order_count(bits)
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    width, height = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    frames_only = bits.u(1)
    if not frames_only:
        height *= 2
        bits.u(1)  # mb_adaptive_frame_field_flag
    bits.u(1)  # direct_8x8_inference_flag
    if bits.u(
        1
    ):  # frame_cropping_flag; offsets count chroma samples and, of fields, pairs of lines
        across, down = _CHROMA[chroma]
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= across * (left + right)
        height -= down * (2 - frames_only) * (top + bottom)
    if width <= 0 or height <= 0:
        raise malformed("the SPS crops the whole picture")
    return Size(width, height)


def pass_high_profile(bits: Bits) -> int:
    """ChromaArrayType, which cropping needs; the rest is passed over."""
    chroma = bits.ue()
    if chroma not in _CHROMA:
        raise malformed(f"the SPS has a chroma format {chroma}")
    planes = chroma == 3 and bits.u(1)
    bits.ue()  # bit_depth_luma_minus8
    bits.ue()  # bit_depth_chroma_minus8
    bits.u(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.u(1):  # seq_scaling_matrix_present_flag
        for n in range(12 if chroma == 3 else 8):
            if bits.u(1):
                _pass_scaling_list(bits, 16 if n < 6 else 64)
    return 0 if planes else chroma


def _pass_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def pass_order_count(bits: Bits) -> None:
    kind = bits.ue()  # pic_order_cnt_type
    if kind == 0:
        bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.u(1)  # delta_pic_order_always_zero_flag
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        cycle = bits.ue()
        if cycle > _MAX_CYCLE:
            raise malformed(f"the SPS has a cycle of {cycle} pictures")
        for _ in range(cycle):
            bits.se()


# --- HEVC ----------------------------------------------------------------------------------------


def hevc_size(sps: bytes) -> Size:
    """Width and height of the cropped picture of an HEVC SPS NAL unit, its header included.

    Raises:
        StepFailed: (code `malformed_media`) it is no SPS, or cut off.
    """
    if len(sps) < 2 or sps[0] >> 1 & 0x3F != 33:
        raise malformed("not an SPS")
    return read_hevc_head(Bits(payload(sps[2:]))).size


@dataclass(frozen=True, slots=True)
class HevcHead:
    """How an HEVC SPS begins. `coded` is the picture as it is coded, `size` what is shown of it."""

    layers: int  # sps_max_sub_layers_minus1
    number: int
    chroma: int
    coded: Size
    size: Size


def read_hevc_head(bits: Bits) -> HevcHead:
    """An SPS up to its picture's size. Raises `StepFailed` (`malformed_media`)."""
    bits.u(4)  # sps_video_parameter_set_id
    layers = bits.u(3)
    bits.u(1)  # sps_temporal_id_nesting_flag
    _pass_profile_tier_level(bits, layers)
    number = bits.ue()
    chroma = bits.ue()
    if chroma not in _CHROMA:
        raise malformed(f"the SPS has a chroma format {chroma}")
    if chroma == 3:
        bits.u(1)  # separate_colour_plane_flag
    coded = Size(bits.ue(), bits.ue())
    width, height = coded.width, coded.height
    if bits.u(1):  # conformance_window_flag; offsets count chroma samples
        across, down = _CHROMA[chroma]
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= across * (left + right)
        height -= down * (top + bottom)
    if width <= 0 or height <= 0:
        raise malformed("the SPS crops the whole picture")
    return HevcHead(layers, number, chroma, coded, Size(width, height))


def _pass_profile_tier_level(bits: Bits, layers: int) -> None:
    """7.3.3: 88 bits of profile and 8 of level, and as many of each layer that says it has them."""
    bits.u(96)
    said = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    if layers:
        bits.u(2 * (8 - layers))  # reserved_zero_2bits
    for profile, level in said:
        bits.u(88 * profile + 8 * level)


# --- AV1 -----------------------------------------------------------------------------------------


def av1_size(sequence_header: bytes) -> Size:
    """The largest width and height of the payload of an AV1 sequence header OBU.

    Raises:
        StepFailed: (code `malformed_media`) it is cut off.
    """
    bits = Bits(sequence_header)
    bits.u(4)  # seq_profile, still_picture
    if bits.u(1):  # reduced_still_picture_header
        bits.u(5)  # seq_level_idx
    else:
        _pass_operating_points(bits)
    wide, high = bits.u(4) + 1, bits.u(4) + 1
    return Size(bits.u(wide) + 1, bits.u(high) + 1)


def _pass_operating_points(bits: Bits) -> None:
    delay_bits = 0
    if bits.u(1):  # timing_info_present_flag
        bits.u(64)  # num_units_in_display_tick, time_scale
        if bits.u(1):  # equal_picture_interval
            bits.ue()  # num_ticks_per_picture_minus_1, in uvlc(), which counts like ue(v)
        if bits.u(1):  # decoder_model_info_present_flag
            delay_bits = bits.u(5) + 1
            bits.u(42)  # num_units_in_decoding_tick and two lengths
    displays = bits.u(1)  # initial_display_delay_present_flag
    for _ in range(bits.u(5) + 1):
        bits.u(12)  # operating_point_idc
        if bits.u(5) > 7:  # seq_level_idx
            bits.u(1)  # seq_tier
        if delay_bits and bits.u(1):  # decoder_model_present_for_this_op
            bits.u(2 * delay_bits + 1)
        if displays and bits.u(1):  # initial_display_delay_present_for_this_op
            bits.u(4)
