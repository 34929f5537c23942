"""Pure: where the coded picture of an HEVC slice segment begins (ITU-T H.265, 7.3.6.1): behind its
header and the bits that fill its last byte.

Only of what is coded here: pictures of one layer in 4:2:0, by no extension of the standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from telecine.engine.formats.bmff import malformed
from telecine.engine.formats.slices import header_size, listed
from telecine.engine.formats.sps import Bits, payload, read_hevc_head

_SPS = 33
_IDR = (19, 20)
_RANDOM_ACCESS = range(16, 24)  # IRAP: what stands in a header of these alone
_B, _P, _I = range(3)  # slice_type
_HEAD_BYTES = 2  # of a NAL unit (7.3.1.2)
_MOST_SETS, _MOST_LONG, _MOST_PICTURES, _MOST_ENTRIES = 64, 32, 16, 440 * 20

# A picture that a set refers to: how far away it is in the order of output, and whether the picture
# itself refers to it, or a later one alone. In the order of the standard's lists (7.4.8): those
# before it, the nearest first, then those behind it.
_Set = tuple[tuple[int, bool], ...]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a slice header needs of its SPS (7.3.2.2.1)."""

    address_bits: int  # of a slice segment: how many can be told apart
    order_bits: int
    sets: tuple[_Set, ...]
    long_term: tuple[bool, ...] | None  # those the SPS names, and whether they are used
    motion: bool
    adaptive_offset: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    """What it needs of its PPS (7.3.2.3.1)."""

    sequence: int
    dependent: bool
    output: bool
    extra_bits: int
    cabac_init: bool
    references: tuple[int, int]
    chroma_offsets: bool
    weighted: tuple[bool, bool]  # of P, of B
    entries: bool
    across: bool
    override: bool
    deblocked: bool
    modification: bool
    extension: bool


def hevc_header_bytes(unit: bytes | memoryview, parameter_sets: tuple[bytes, ...]) -> int:
    """How many bytes of a slice segment's NAL unit its own header and the segment's take, emulation
    prevention counted. Its sets are SPS and PPS.

    Raises:
        StepFailed: (code `malformed_media`) the header is cut off, of sets that are not there, or
            of pictures that are not coded here.
    """
    sequences, pictures = _sets(parameter_sets)
    if len(unit) < _HEAD_BYTES or unit[0] & 1 or unit[1] >> 3:
        raise malformed("a slice of another layer than the first")
    kind = unit[0] >> 1 & 0x3F

    def taken(bits: Bits) -> int:
        return _header_bits(kind, bits, sequences, pictures)

    return header_size(unit, _HEAD_BYTES, taken)


# --- parameter sets -------------------------------------------------------------------------------


@lru_cache(maxsize=8)  # read once for a rendition, not for each of its slices
def _sets(units: tuple[bytes, ...]) -> tuple[dict[int, _Sequence], dict[int, _Picture]]:
    sequences, pictures = {}, {}
    for unit in units:
        bits = Bits(payload(unit[_HEAD_BYTES:]))
        if unit[0] >> 1 & 0x3F == _SPS:
            number, sequence = _read_sps(bits)
            sequences[number] = sequence
        else:
            number, picture = _read_pps(bits)
            pictures[number] = picture
    return sequences, pictures


def _read_sps(bits: Bits) -> tuple[int, _Sequence]:
    head = read_hevc_head(bits)
    if head.chroma != 1:
        raise malformed("slices of pictures that are not 4:2:0")
    bits.ue()  # bit_depth_luma_minus8
    bits.ue()  # bit_depth_chroma_minus8
    order_bits = bits.ue() + 4
    every = bits.u(1)  # sps_sub_layer_ordering_info_present_flag
    for _ in range(head.layers + 1 if every else 1):
        for _ in range(3):
            bits.ue()  # buffering, reordering, latency
    smallest = bits.ue() + 3  # log2_min_luma_coding_block_size_minus3
    block = 1 << listed(smallest + bits.ue(), 6)
    for _ in range(4):
        bits.ue()  # sizes and depths of transforms
    if bits.u(1) and bits.u(1):  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _pass_scaling_lists(bits)
    bits.u(1)  # amp_enabled_flag
    adaptive_offset = bool(bits.u(1))
    if bits.u(1):  # pcm_enabled_flag
        bits.u(8)  # pcm_sample_bit_depth_luma_minus1, _chroma_minus1
        bits.ue()  # log2_min_pcm_luma_coding_block_size_minus3
        bits.ue()  # log2_diff_max_min_pcm_luma_coding_block_size
        bits.u(1)  # pcm_loop_filter_disabled_flag
    sets: list[_Set] = []
    count = listed(bits.ue(), _MOST_SETS)
    for _ in range(count):
        sets.append(_read_set(bits, sets, count))
    long_term: tuple[bool, ...] | None = None
    if bits.u(1):  # long_term_ref_pics_present_flag
        named = range(listed(bits.ue(), _MOST_LONG))
        long_term = tuple(bool(bits.u(order_bits + 1) & 1) for _ in named)
    blocks = -(-head.coded.width // block) * -(-head.coded.height // block)
    sequence = _Sequence(
        _choice_bits(blocks), order_bits, tuple(sets), long_term, bool(bits.u(1)), adaptive_offset
    )
    return head.number, sequence


def _pass_scaling_lists(bits: Bits) -> None:
    """7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.u(1):  # scaling_list_pred_mode_flag
                bits.ue()  # scaling_list_pred_matrix_id_delta
                continue
            for _ in range(min(64, 1 << (4 + (size << 1))) + (size > 1)):
                bits.se()  # scaling_list_dc_coef_minus8, scaling_list_delta_coef


def _read_set(bits: Bits, sets: list[_Set], in_sps: int) -> _Set:
    """7.3.7, of the set behind those that are known; behind all those of the SPS it is a slice's
    own."""
    if sets and bits.u(1):  # inter_ref_pic_set_prediction_flag
        back = bits.ue() + 1 if len(sets) == in_sps else 1
        if back > len(sets):
            raise malformed("a set of references that follows from none")
        negative, away = bits.u(1), bits.ue() + 1
        moved = -away if negative else away
        found = []
        for delta, _ in (*sets[-back], (0, True)):
            used = bool(bits.u(1))
            if (used or bits.u(1)) and delta + moved:  # used_by_curr_pic_flag, use_delta_flag
                found.append((delta + moved, used))
        before = sorted((one for one in found if one[0] < 0), reverse=True)
        behind = sorted(one for one in found if one[0] > 0)
        return (*before[:_MOST_PICTURES], *behind[:_MOST_PICTURES])
    counts = [listed(bits.ue(), _MOST_PICTURES) for _ in range(2)]
    own: list[tuple[int, bool]] = []
    for count, sign in zip(counts, (-1, 1), strict=True):
        delta = 0
        for _ in range(count):
            delta += sign * (bits.ue() + 1)
            own.append((delta, bool(bits.u(1))))
    return tuple(own)


def _read_pps(bits: Bits) -> tuple[int, _Picture]:
    number, sequence = bits.ue(), bits.ue()
    dependent, output, extra_bits = bool(bits.u(1)), bool(bits.u(1)), bits.u(3)
    bits.u(1)  # sign_data_hiding_enabled_flag
    cabac_init = bool(bits.u(1))
    references = (bits.ue() + 1, bits.ue() + 1)
    bits.se()  # init_qp_minus26
    bits.u(2)  # constrained_intra_pred_flag, transform_skip_enabled_flag
    if bits.u(1):  # cu_qp_delta_enabled_flag
        bits.ue()  # diff_cu_qp_delta_depth
    bits.se()  # pps_cb_qp_offset
    bits.se()  # pps_cr_qp_offset
    chroma_offsets = bool(bits.u(1))
    weighted = (bool(bits.u(1)), bool(bits.u(1)))
    bits.u(1)  # transquant_bypass_enabled_flag
    tiles, rows = bits.u(1), bits.u(1)
    if tiles:
        counts = [listed(bits.ue(), 22) for _ in range(2)]
        if not bits.u(1):  # uniform_spacing_flag
            for _ in range(sum(counts)):
                bits.ue()  # column_width_minus1, row_height_minus1
        bits.u(1)  # loop_filter_across_tiles_enabled_flag
    across = bool(bits.u(1))
    override, deblocked = False, True
    if bits.u(1):  # deblocking_filter_control_present_flag
        override, deblocked = bool(bits.u(1)), not bits.u(1)
        if deblocked:
            bits.se()  # pps_beta_offset_div2
            bits.se()  # pps_tc_offset_div2
    if bits.u(1):  # pps_scaling_list_data_present_flag
        _pass_scaling_lists(bits)
    modification = bool(bits.u(1))
    bits.ue()  # log2_parallel_merge_level_minus2
    extension = bool(bits.u(1))
    if bits.u(1):  # pps_extension_present_flag
        raise malformed("slices by an extension of HEVC")
    return number, _Picture(
        sequence,
        dependent,
        output,
        extra_bits,
        cabac_init,
        references,
        chroma_offsets,
        weighted,
        bool(tiles or rows),
        across,
        override,
        deblocked,
        modification,
        extension,
    )


def _choice_bits(count: int) -> int:
    """Ceil(Log2(count)): in how many bits one of so many is told."""
    return (count - 1).bit_length()


# --- slice segments -------------------------------------------------------------------------------


def _header_bits(
    kind: int, bits: Bits, sequences: dict[int, _Sequence], pictures: dict[int, _Picture]
) -> int:
    """The length of a slice segment header, up to the byte that follows it."""
    first = bits.u(1)
    if kind in _RANDOM_ACCESS:
        bits.u(1)  # no_output_of_prior_pics_flag
    picture = pictures.get(bits.ue())
    sequence = sequences.get(picture.sequence) if picture is not None else None
    if picture is None or sequence is None:
        raise malformed("a slice of parameter sets that are not there")
    dependent = False
    if not first:
        dependent = picture.dependent and bool(bits.u(1))
        bits.u(sequence.address_bits)
    if not dependent:
        _pass_slice(bits, kind, sequence, picture)
    if picture.entries:
        count = listed(bits.ue(), _MOST_ENTRIES)
        if count:
            bits.u(count * (bits.ue() + 1))  # offset_len_minus1, entry_point_offset_minus1
    if picture.extension:
        bits.u(8 * bits.ue())  # slice_segment_header_extension_length
    bits.u(8 - bits.taken % 8)  # byte_alignment(): a one, then zeros
    return bits.taken


def _pass_slice(bits: Bits, kind: int, sequence: _Sequence, picture: _Picture) -> None:
    """All that a dependent slice segment takes from the one before it."""
    bits.u(picture.extra_bits)
    slice_type = bits.ue()
    if slice_type > _I:
        raise malformed(f"a slice of type {slice_type}")
    if picture.output:
        bits.u(1)  # pic_output_flag
    total, motion = 0, False
    if kind not in _IDR:
        total = _pass_references(bits, sequence)
        motion = sequence.motion and bool(bits.u(1))  # slice_temporal_mvp_enabled_flag
    offset = sequence.adaptive_offset and bits.u(2) > 0  # slice_sao_luma_flag, _chroma_flag
    if slice_type != _I:
        _pass_prediction(bits, slice_type, picture, total, motion=motion)
    bits.se()  # slice_qp_delta
    if picture.chroma_offsets:
        bits.se()  # slice_cb_qp_offset
        bits.se()  # slice_cr_qp_offset
    deblocked = picture.deblocked
    if picture.override and bits.u(1):  # deblocking_filter_override_flag
        deblocked = not bits.u(1)
        if deblocked:
            bits.se()  # slice_beta_offset_div2
            bits.se()  # slice_tc_offset_div2
    if picture.across and (offset or deblocked):
        bits.u(1)  # slice_loop_filter_across_slices_enabled_flag


def _pass_references(bits: Bits, sequence: _Sequence) -> int:
    """NumPicTotalCurr: to how many pictures this one refers (7.4.7.2)."""
    bits.u(sequence.order_bits)  # slice_pic_order_cnt_lsb
    if not bits.u(1):  # short_term_ref_pic_set_sps_flag
        short = _read_set(bits, list(sequence.sets), len(sequence.sets))
    else:
        chosen = bits.u(_choice_bits(len(sequence.sets))) if sequence.sets else 0
        if chosen >= len(sequence.sets):
            raise malformed("a slice of a set of references that is not there")
        short = sequence.sets[chosen]
    total = sum(used for _, used in short)
    if sequence.long_term is not None:
        named = listed(bits.ue(), _MOST_LONG) if sequence.long_term else 0
        for n in range(named + listed(bits.ue(), _MOST_LONG)):
            if n < named:
                which = bits.u(_choice_bits(len(sequence.long_term)))
                if which >= len(sequence.long_term):
                    raise malformed("a slice of a long-term reference that is not there")
                total += sequence.long_term[which]
            else:
                total += bits.u(sequence.order_bits + 1) & 1  # poc_lsb_lt, used_by_curr_pic_lt_flag
            if bits.u(1):  # delta_poc_msb_present_flag
                bits.ue()  # delta_poc_msb_cycle_lt
    return total


def _pass_prediction(
    bits: Bits, slice_type: int, picture: _Picture, total: int, *, motion: bool
) -> None:
    """What P and B slices say of the pictures that they refer to."""
    lists = 2 if slice_type == _B else 1
    counts = picture.references[:lists]
    if bits.u(1):  # num_ref_idx_active_override_flag
        counts = tuple(listed(bits.ue() + 1, _MOST_PICTURES) for _ in range(lists))
    if picture.modification and total > 1:
        for count in counts:
            if bits.u(1):  # ref_pic_list_modification_flag_l0, _l1
                bits.u(count * _choice_bits(total))  # list_entry_l0, _l1
    if slice_type == _B:
        bits.u(1)  # mvd_l1_zero_flag
    if picture.cabac_init:
        bits.u(1)  # cabac_init_flag
    if motion:
        from_second = slice_type == _B and not bits.u(1)  # collocated_from_l0_flag
        if counts[1 if from_second else 0] > 1:
            bits.ue()  # collocated_ref_idx
    if picture.weighted[0 if slice_type == _P else 1]:
        _pass_weights(bits, counts)
    bits.ue()  # five_minus_max_num_merge_cand


def _pass_weights(bits: Bits, counts: tuple[int, ...]) -> None:
    """7.3.6.3, with chroma."""
    bits.ue()  # luma_log2_weight_denom
    bits.se()  # delta_chroma_log2_weight_denom
    for count in counts:
        luma = [bits.u(1) for _ in range(count)]
        chroma = [bits.u(1) for _ in range(count)]
        for of_luma, of_chroma in zip(luma, chroma, strict=True):
            for _ in range(2 * of_luma + 4 * of_chroma):
                bits.se()  # weight and offset; the same of both chromas
