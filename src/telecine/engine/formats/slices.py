"""Pure: where the coded picture of an H.264 slice begins (ITU-T H.264, 7.3.3): behind its header,
which stays readable when what follows is encrypted.

Only of what is coded or copied here: pictures in 4:2:0, without slice groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from telecine.engine.errors import StepFailed
from telecine.engine.formats.bmff import malformed
from telecine.engine.formats.sps import HIGH_PROFILES, Bits, pass_high_profile, payload

_SPS, _PPS, _IDR = 7, 8, 5
_P, _B, _I, _SP, _SI = range(5)  # slice_type, modulo 5

# Nearly every header ends within the first; none is longer than the second.
_HEAD_BYTES, _LONGEST_BYTES = 64, 8192
_MOST = 66  # entries of any list in a header; 32 fields are the most that can be referred to


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a slice header needs of its SPS (7.3.2.1.1)."""

    frame_num_bits: int
    order_type: int
    order_bits: int
    order_always_zero: bool
    frames_only: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    """What it needs of its PPS (7.3.2.2)."""

    sequence: int
    entropy_coding: bool
    bottom_order: bool
    references: tuple[int, int]
    weighted: bool
    weighted_b: int
    deblocking: bool
    redundant: bool


@lru_cache(maxsize=8)  # read once for a rendition, not for each of its slices
def _sets(units: tuple[bytes, ...]) -> tuple[dict[int, _Sequence], dict[int, _Picture]]:
    sequences, pictures = {}, {}
    for unit in units:
        bits = Bits(payload(unit[1:]))
        if unit[0] & 0x1F == _SPS:
            number, sequence = _read_sps(bits)
            sequences[number] = sequence
        elif unit[0] & 0x1F == _PPS:
            number, picture = _read_pps(bits)
            pictures[number] = picture
    return sequences, pictures


def _read_sps(bits: Bits) -> tuple[int, _Sequence]:
    profile, _ = bits.u(8), bits.u(16)
    number = bits.ue()
    if profile in HIGH_PROFILES and pass_high_profile(bits) != 1:
        raise malformed("slices of pictures that are not 4:2:0")
    frame_num_bits = bits.ue() + 4
    order_type, order_bits, always_zero = bits.ue(), 0, False
    if order_type == 0:
        order_bits = bits.ue() + 4
    elif order_type == 1:
        always_zero = bool(bits.u(1))
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        for _ in range(listed(bits.ue(), 255)):
            bits.se()  # offset_for_ref_frame
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    bits.ue()  # pic_width_in_mbs_minus1
    bits.ue()  # pic_height_in_map_units_minus1
    frames_only = bool(bits.u(1))
    return number, _Sequence(frame_num_bits, order_type, order_bits, always_zero, frames_only)


def _read_pps(bits: Bits) -> tuple[int, _Picture]:
    number, sequence = bits.ue(), bits.ue()
    entropy_coding, bottom_order = bool(bits.u(1)), bool(bits.u(1))
    if bits.ue():
        raise malformed("slices in groups")
    references = (bits.ue() + 1, bits.ue() + 1)
    weighted, weighted_b = bool(bits.u(1)), bits.u(2)
    for _ in range(3):
        bits.se()  # pic_init_qp_minus26, pic_init_qs_minus26, chroma_qp_index_offset
    deblocking = bool(bits.u(1))
    bits.u(1)  # constrained_intra_pred_flag
    redundant = bool(bits.u(1))
    return number, _Picture(
        sequence,
        entropy_coding,
        bottom_order,
        references,
        weighted,
        weighted_b,
        deblocking,
        redundant,
    )


def listed(count: int, most: int = _MOST) -> int:
    """How long a list says that it is. Raises `StepFailed` where it cannot be."""
    if count > most:
        raise malformed(f"a slice header with a list of {count}")
    return count


def header_bytes(unit: bytes | memoryview, parameter_sets: tuple[bytes, ...]) -> int:
    """How many bytes of a slice NAL unit its own header and the slice's take, emulation prevention
    counted; a byte that the slice's header shares with what follows is one of them.

    Raises:
        StepFailed: (code `malformed_media`) the header is cut off, or of sets that are not there.
    """
    sequences, pictures = _sets(parameter_sets)
    return header_size(unit, 1, lambda bits: _header_bits(unit[0], bits, sequences, pictures))


def header_size(unit: bytes | memoryview, own: int, read: Callable[[Bits], int]) -> int:
    """How many bytes of a NAL unit its own header of `own` bytes takes with the slice's behind it,
    of which `read` tells the length in bits. Raises what `read` does, once it had all there is."""
    head = bytes(unit[:_HEAD_BYTES])
    try:
        taken = read(Bits(payload(head[own:])))
    except StepFailed:
        if len(unit) <= _HEAD_BYTES:
            raise
        head = bytes(unit[:_LONGEST_BYTES])
        taken = read(Bits(payload(head[own:])))
    return own + _with_prevention(head[own:], -(-taken // 8))


def _with_prevention(data: bytes, count: int) -> int:
    """How many bytes hold `count` of the payload."""
    zeros = at = 0
    while count:
        if zeros >= 2 and data[at] == 3:
            zeros = 0
        else:
            zeros = zeros + 1 if data[at] == 0 else 0
            count -= 1
        at += 1
    return at


def _header_bits(
    head: int, bits: Bits, sequences: dict[int, _Sequence], pictures: dict[int, _Picture]
) -> int:
    """The length of a slice header."""
    kind, reference = head & 0x1F, head >> 5 & 3
    bits.ue()  # first_mb_in_slice
    slice_type = bits.ue() % 5
    picture = pictures.get(bits.ue())
    sequence = sequences.get(picture.sequence) if picture is not None else None
    if picture is None or sequence is None:
        raise malformed("a slice of parameter sets that are not there")
    bits.u(sequence.frame_num_bits)
    field = not sequence.frames_only and bool(bits.u(1))
    if field:
        bits.u(1)  # bottom_field_flag
    if kind == _IDR:
        bits.ue()  # idr_pic_id
    both_orders = picture.bottom_order and not field
    if sequence.order_type == 0:
        bits.u(sequence.order_bits)
        if both_orders:
            bits.se()  # delta_pic_order_cnt_bottom
    if sequence.order_type == 1 and not sequence.order_always_zero:
        bits.se()  # delta_pic_order_cnt[0]
        if both_orders:
            bits.se()  # delta_pic_order_cnt[1]
    if picture.redundant:
        bits.ue()  # redundant_pic_cnt
    _pass_references(bits, slice_type, picture, reference=reference > 0, idr=kind == _IDR)
    if picture.entropy_coding and slice_type not in (_I, _SI):
        bits.ue()  # cabac_init_idc
    bits.se()  # slice_qp_delta
    if slice_type in (_SP, _SI):
        bits.u(1 if slice_type == _SP else 0)  # sp_for_switch_flag
        bits.se()  # slice_qs_delta
    if picture.deblocking and bits.ue() != 1:  # disable_deblocking_filter_idc
        bits.se()  # slice_alpha_c0_offset_div2
        bits.se()  # slice_beta_offset_div2
    return bits.taken


def _pass_references(
    bits: Bits, slice_type: int, picture: _Picture, *, reference: bool, idr: bool
) -> None:
    """What a slice says of the pictures that it refers to, and of those that are kept."""
    if slice_type == _B:
        bits.u(1)  # direct_spatial_mv_pred_flag
    lists = {_P: 1, _SP: 1, _B: 2}.get(slice_type, 0)
    counts = picture.references[:lists]
    if lists and bits.u(1):  # num_ref_idx_active_override_flag
        counts = tuple(listed(bits.ue() + 1) for _ in range(lists))
    for _ in range(lists):
        _pass_modification(bits)
    predicted = picture.weighted if lists == 1 else lists == 2 and picture.weighted_b == 1
    if predicted:
        _pass_weights(bits, counts)
    if reference:
        _pass_marking(bits, idr=idr)


def _pass_modification(bits: Bits) -> None:
    """7.3.3.1, of one list."""
    if not bits.u(1):  # ref_pic_list_modification_flag
        return
    for _ in range(_MOST):
        if bits.ue() == 3:  # modification_of_pic_nums_idc
            return
        bits.ue()
    raise malformed("a slice header with a list without an end")


def _pass_weights(bits: Bits, counts: tuple[int, ...]) -> None:
    """7.3.3.2, with chroma."""
    bits.ue()  # luma_log2_weight_denom
    bits.ue()  # chroma_log2_weight_denom
    for count in counts:
        for _ in range(count):
            for numbers in (2, 4):  # luma_weight and offset; the same of both chromas
                for _ in range(numbers * bits.u(1)):
                    bits.se()


def _pass_marking(bits: Bits, *, idr: bool) -> None:
    """7.3.3.3."""
    if idr:
        bits.u(2)  # no_output_of_prior_pics_flag, long_term_reference_flag
        return
    if not bits.u(1):  # adaptive_ref_pic_marking_mode_flag
        return
    for _ in range(_MOST):
        operation = bits.ue()  # memory_management_control_operation
        if operation == 0:
            return
        for _ in range({1: 1, 2: 1, 3: 2, 4: 1, 6: 1}.get(operation, 0)):
            bits.ue()
    raise malformed("a slice header with a list without an end")
