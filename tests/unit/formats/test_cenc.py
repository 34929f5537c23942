"""Samples encrypted by `cbcs`, and the boxes that tell of them.

The vectors are what Shaka Packager 3.8.0 made of samples of x264 and of the AAC encoder; those of
AES are NIST's (SP 800-38A, F.2.1) and OpenSSL's. `slice_headers.tsv` has from the same packager how
many bytes of a slice it leaves clear: parameter sets, the slice's first bytes, their number, of
x264's output with weights, B-pyramids, fields, CAVLC, several slices.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from tests.unit.boxes import atom, words

from telecine.engine.errors import StepFailed
from telecine.engine.formats import aes, cenc
from telecine.engine.formats.bmff import Box, boxes
from telecine.engine.formats.cenc import PICTURE_PATTERN, WHOLE, Encryption
from telecine.engine.formats.coding import Subsamples, subsamples_of
from telecine.engine.formats.slices import header_bytes

KEY = bytes(range(0x10, 0x20))
IV = bytes(range(0x20, 0x30))
PICTURES = Encryption(bytes(range(16)), IV, PICTURE_PATTERN)
SOUND = replace(PICTURES, pattern=WHOLE)

SETS = ("6764000aacd94426c044000003000400000300c83c489658", "68ef839cb0")

# name, track, subsamples, clear, encrypted
VECTORS: tuple[tuple[str, Encryption, Subsamples, str, str], ...] = (
    (
        "a key picture",
        PICTURES,
        ((10, 308),),
        "0000013a6588840021ff110ae7a4bb18aa66e92ab2a619c49499fcd10cd2faa1307f3419fffffe75ffcf"
        "861acd5a7bbea2dee5e7ac13b3f570ac05b852eb5c7b0864126949d9f717062eb9b4e9b9de6b8e49c8d9"
        "0f7ccf06e7ab4f8477dea6b9cafaf2d9e4f94777078e28c1d6bff00a94232c79a6206c74062b832ca502"
        "252da8917febaf723561370d663f5ea28111e9c4d49d164f9a9409d018d2288ea8940ee8f75e117cbd15"
        "69f752e3318ed9ca6d7ec283ec195677ad0039dc257abd3997427314acd432e4dffbede7a8e87520bef1"
        "a219ad4030ed3a8860e12d7e53698e7b01ff329b3253e6cb89c779857e7f3079b40849b285ccb6b0793b"
        "482cac30c6d6bf4fde064166b056e24214733ff8f1adc2a77897c89d20bfcf3774f8cb55badb487c7f51"
        "95c84863841ca49cfb44b1114e4c00fe65c53876a3133781",
        "0000013a6588840021ff1d04aa656945f0ab6b8fe245a3ae6ea9fcd10cd2faa1307f3419fffffe75ffcf"
        "861acd5a7bbea2dee5e7ac13b3f570ac05b852eb5c7b0864126949d9f717062eb9b4e9b9de6b8e49c8d9"
        "0f7ccf06e7ab4f8477dea6b9cafaf2d9e4f94777078e28c1d6bff00a94232c79a6206c74062b832ca502"
        "252da8917febaf723561370d663f5ea28111e9c4d49d164f9a9409d018d2288ea8940ee8f75e117cbd15"
        "69f7834c02dcb5495a0d7cafc5a60a28ecc739dc257abd3997427314acd432e4dffbede7a8e87520bef1"
        "a219ad4030ed3a8860e12d7e53698e7b01ff329b3253e6cb89c779857e7f3079b40849b285ccb6b0793b"
        "482cac30c6d6bf4fde064166b056e24214733ff8f1adc2a77897c89d20bfcf3774f8cb55badb487c7f51"
        "95c84863841ca49cfb44b1114e4c00fe65c53876a3133781",
    ),
    (
        "a picture that refers",
        PICTURES,
        ((10, 87),),
        "0000005d419a221885bff43f86cf1dadd33827d64e175edb85a86cf2369e56773284ba8bec63a05c8a9f"
        "87d2d91aaac1d657ff45f7d496fffcec924a9c8604b00222cf87266ebf310f6de3963cb4930c1e74a579"
        "7bb5ba22db6decc7f3b4722bca",
        "0000005d419a221885bf306b28b1db6920386abf5c77d270f2006cf2369e56773284ba8bec63a05c8a9f"
        "87d2d91aaac1d657ff45f7d496fffcec924a9c8604b00222cf87266ebf310f6de3963cb4930c1e74a579"
        "7bb5ba22db6decc7f3b4722bca",
    ),
    (
        "less than ten blocks",
        PICTURES,
        ((10, 24),),
        "0000001e019e41442dfffef7eac86d5d80d873538f8d86be4150f3f7da71eebe80e3",
        "0000001e019e41442dffa235a689d2f6946762033c8038c29283f3f7da71eebe80e3",
    ),
    (
        "sound",
        SOUND,
        (),
        "0136f18afac64fe3fa7ebd71c79e1c4d4d3577237ee4b55a540ffc3697dcf8f8ccdbbefee07c66033e80"
        "327c019fdc0f8cc619fdc03f8b00e0",
        "667c9b63774999092bf6acf109b897e7ff9377bc73c34b4e78b1705cd724577ff7129905f7aee339b409"
        "54ff5fc45ff18cc619fdc03f8b00e0",
    ),
    (
        "sound with a rest",
        SOUND,
        (),
        "013494dac95d964bab25d414e9bfdfceadb5a97ff6f1fbf9d6b8d5ebffe2f5fbf9d6b8d5ebffec5fe3ce"
        "b5ad6ac6d4ecdbae79e60d65b2cf70a2f7fb28183740fa50afa503e9f4d6603e9f4fa5007d3e9f4d607d"
        "3e9f4d741801f4fa7d3599b006b9eb458b549fcdb748843133e5133e5133e5f288983e5f2e31307cbe5c"
        "4983e5f2f94511003e5f2f9718a2005973d67024242424242424242424242424e7",
        "a81ce23fa41f92968be9284a8b504407aae9ed3c5ec7156a9a7f7b44984a61214aae75bc2f59e9bc5aa3"
        "22f88897d386dda1e695b3b7f9bc96b378f9a53660501b794bb087997b221340a19b8e26d8bf130e7fa2"
        "ce9e9c7f6e409decbf0258d4457721589b750c5f4fb0b8ac61deb3b84b63d913aa2eb49b84a049086da2"
        "7230305c889672819a8eb4259a516fdd667f7024242424242424242424242424e7",
    ),
)


def test_aes_is_that_of_the_standard() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    iv = bytes(range(16))
    clear = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    sealed = bytes.fromhex(
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
        "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"
    )
    assert aes.encrypt_blocks(key, iv, clear) == sealed
    assert aes.decrypt_blocks(key, iv, sealed) == clear


@pytest.mark.parametrize(
    ("clear", "sealed"),
    [
        (b"abc", "f327e7290b9b923d29d949db2c9f75cc"),
        (b"0123456789abcdef", "64768548007aef9f3d258e5c34cdc21bde0a1268436e159434fc21de3696d928"),
    ],
)
def test_padding_is_that_of_openssl(clear: bytes, sealed: str) -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert aes.encrypt_padded(key, bytes(range(16)), clear).hex() == sealed
    assert aes.decrypt_padded(key, bytes(range(16)), bytes.fromhex(sealed)) == clear


@pytest.mark.parametrize("data", [b"", b"123", bytes(16), bytes(32)])
def test_what_does_not_decrypt_says_so(data: bytes) -> None:
    with pytest.raises(StepFailed) as caught:
        aes.decrypt_padded(KEY, IV, data)
    assert caught.value.code == "malformed_media"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
def test_samples_are_encrypted_as_the_packager_does(
    vector: tuple[str, Encryption, Subsamples, str, str],
) -> None:
    _, encryption, subsamples, clear, sealed = vector
    assert cenc.seal(KEY, encryption, bytes.fromhex(clear), subsamples).hex() == sealed
    assert cenc.unseal(KEY, encryption, bytes.fromhex(sealed), subsamples).hex() == clear


def test_clear_units_count_to_the_next_slice() -> None:
    sei, slice_, filler = (30, None), (500, 12), (70_000, None)
    assert subsamples_of([sei, slice_]) == ((42, 488),)
    assert subsamples_of([slice_, slice_]) == ((12, 488), (12, 488))
    assert subsamples_of([slice_, sei]) == ((12, 488), (30, 0))
    # An entry tells of 65 535 clear bytes at the most.
    assert subsamples_of([filler, slice_]) == ((65_535, 0), (4_477, 488))
    assert subsamples_of([(10, 12)]) == ((10, 0),)


# --- slice headers --------------------------------------------------------------------------------


def _headers() -> list[tuple[str, tuple[bytes, ...], bytes, int]]:
    rows = []
    for line in Path(__file__).with_name("slice_headers.tsv").read_text().splitlines():
        name, sets, head, clear = line.split("\t")
        units = tuple(bytes.fromhex(unit) for unit in sets.split("+"))
        rows.append((name, units, bytes.fromhex(head), int(clear)))
    return rows


@pytest.mark.parametrize("row", _headers(), ids=lambda row: f"{row[0]}-{row[3]}")
def test_a_slice_begins_where_the_packager_says(
    row: tuple[str, tuple[bytes, ...], bytes, int],
) -> None:
    _, sets, head, clear = row
    assert header_bytes(head, sets) == clear
    assert header_bytes(head + bytes(range(256)) * 40, sets) == clear


class Writer:
    """Bits of a header, by hand (ITU-T H.264, 7.2 and 9.1)."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._bits = ""

    def u(self, count: int, value: int) -> Self:
        self._bits += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> Self:
        for value in values:
            code = f"{value + 1:b}"
            self._bits += "0" * (len(code) - 1) + code
        return self

    def unit(self, tail: bytes = b"") -> bytes:
        bits = self._bits + "1" * (-len(self._bits) % 8)
        data = int(f"1{bits}", 2).to_bytes(len(bits) // 8 + 1, "big")[1:]
        return bytes([self._first]) + data + tail

    @property
    def size(self) -> int:
        return 1 + -(-len(self._bits) // 8)


def sps(order_type: int = 2, frames_only: int = 1, cycle: int = 0) -> bytes:
    bits = Writer(0x67).u(8, 77).u(16, 30).ue(0, 0, order_type)
    if order_type == 0:
        bits.ue(0)
    if order_type == 1:
        bits.u(1, 0).ue(0, 0, cycle, *[0] * cycle)
    return bits.ue(4).u(1, 0).ue(7, 7).u(1, frames_only).unit()


def pps(*, groups: int = 0, redundant: int = 0, weights: int = 0) -> bytes:
    bits = Writer(0x68).ue(0, 0).u(1, 0).u(1, 1).ue(groups, 0, 0).u(1, weights).u(2, weights)
    return bits.ue(0, 0, 0).u(1, 1).u(1, 0).u(1, redundant).unit()


def test_headers_that_x264_does_not_write() -> None:
    """Orders of both fields, redundant slices, switching slices, adaptive marking."""
    both = (sps(1, cycle=2), pps(redundant=1))
    # P, no IDR: frame_num, both orders, redundant_pic_cnt, no override, no modification, marking
    # 3 (two numbers), 5 and 0, slice_qp_delta, deblocking off.
    head = Writer(0x61).ue(0, 0, 0).u(4, 3).ue(1, 1, 2).u(1, 0).u(1, 0)
    head.u(1, 1).ue(3, 1, 1, 5, 0).ue(0, 1)
    assert header_bytes(head.unit(b"\xff" * 8), both) == head.size
    # SP and SI, of no reference, in one field.
    fields = (sps(0, frames_only=0), pps())
    for kind in (3, 4):
        head = Writer(0x01).ue(0, kind, 0).u(4, 0).u(1, 1).u(1, 1).u(4, 0)
        if kind == 3:
            head.u(1, 0).u(1, 0)
        head.ue(0)
        if kind == 3:
            head.u(1, 0)
        head.ue(0).ue(1)
        assert header_bytes(head.unit(b"\xff" * 8), fields) == head.size


def test_a_field_whose_order_is_told_once() -> None:
    """Order of kind 1, of one field: a second difference is told of frames alone. A unit that is
    neither kind of set (13: an extension) says nothing of it."""
    sets = (sps(1, frames_only=0), bytes.fromhex("6d40"), pps())
    head = Writer(0x41).ue(0, 2, 0).u(4, 1).u(1, 1).u(1, 0).ue(1).u(1, 0).ue(0, 1)
    assert header_bytes(head.unit(b"\xff" * 8), sets) == head.size


def test_bytes_that_prevent_a_start_code_count() -> None:
    """A number of 24 zeros and more has a byte of 3 behind two bytes of zeros (H.264, 7.4.1)."""
    head = Writer(0x41).ue(2**24 - 1 + 2**8, 2, 0).u(4, 1).u(1, 0).ue(0, 1)
    plain = head.unit()
    assert plain[1:4] == bytes(3)
    prevented = plain[:3] + b"\3" + plain[3:]
    assert header_bytes(prevented + b"\xff" * 8, (sps(), pps())) == head.size + 1


def test_a_long_header_is_read_to_its_end() -> None:
    """Explicit weights of 32 pictures in two lists, more than are looked at first."""
    sets = (sps(), pps(weights=1))
    head = Writer(0x01).ue(0, 1, 0).u(4, 0).u(1, 0).u(1, 1).ue(31, 31).u(1, 0).u(1, 0).ue(0, 0)
    for _ in range(64):
        head.u(1, 1).ue(9, 9).u(1, 1).ue(9, 9, 9, 9)
    head.ue(0, 1)
    assert head.size > 64
    assert header_bytes(head.unit(b"\xff" * 8), sets) == head.size


@pytest.mark.parametrize(
    ("sets", "head"),
    [
        ((sps(), pps(groups=1)), Writer(0x61).ue(0, 0, 0)),
        ((sps(),), Writer(0x61).ue(0, 0, 0)),
        ((pps(),), Writer(0x61).ue(0, 0, 0)),
        ((sps(), pps()), Writer(0x61).ue(0, 0)),
        ((sps(1, cycle=256), pps()), Writer(0x61).ue(0, 0, 0)),
        ((sps(), pps()), Writer(0x61).ue(0, 0, 0).u(4, 0).u(1, 1).ue(66)),
        ((sps(), pps()), Writer(0x61).ue(0, 0, 0).u(4, 0).u(1, 0).u(1, 1).ue(*[0] * 140)),
        (
            (sps(), pps()),
            Writer(0x61).ue(0, 0, 0).u(4, 0).u(1, 0).u(1, 0).u(1, 1).ue(*[1, 0] * 70),
        ),
        ((Writer(0x67).u(8, 244).u(16, 30).ue(0, 3).u(1, 0).ue(0, 0).u(2, 0).unit(), pps()),
         Writer(0x61).ue(0, 0, 0)),
    ],
)  # fmt: skip
def test_headers_that_are_none_are_refused(sets: tuple[bytes, ...], head: Writer) -> None:
    with pytest.raises(StepFailed) as caught:
        header_bytes(head.unit(), sets)
    assert caught.value.code == "malformed_media"


# --- boxes ----------------------------------------------------------------------------------------


def _box(data: bytes) -> Box:
    (found,) = boxes(memoryview(data))
    return found


def test_the_sample_entry_says_how_it_is_encrypted() -> None:
    data = cenc.sinf("avc1", PICTURES)
    tenc = words(0x0100_0000) + bytes([0, 0x19, 1, 0]) + PICTURES.key_id + bytes([16]) + IV
    assert data == atom(
        "sinf",
        atom("frma", b"avc1"),
        atom("schm", words(0) + b"cbcs" + words(0x10000)),
        atom("schi", atom("tenc", tenc)),
    )
    assert cenc.read_sinf(_box(data)) == ("avc1", PICTURES)
    assert cenc.read_sinf(_box(cenc.sinf("mp4a", SOUND))) == ("mp4a", SOUND)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"cbcs", b"cenc"), (b"\x00\x19\x01\x00", b"\x00\x11\x01\x00"),
     (b"\x00\x19\x01\x00", b"\x00\x19\x01\x08"), (b"\x10" + IV, b"\x08" + IV)],
)  # fmt: skip
def test_other_ways_to_encrypt_are_refused(old: bytes, new: bytes) -> None:
    data = cenc.sinf("avc1", PICTURES)
    assert old in data
    with pytest.raises(StepFailed):
        cenc.read_sinf(_box(data.replace(old, new)))


def test_the_number_of_the_key_is_where_players_look() -> None:
    """The packager's box of the same key."""
    assert cenc.pssh(bytes(range(16))).hex() == (
        "00000034707373680100000010"
        "77efecc0b24d02ace33c1e52e2fb4b00000001000102030405060708090a0b0c0d0e0f00000000"
    )


def test_fragments_tell_of_each_sample() -> None:
    told: list[Subsamples] = [((10, 300),), ((20, 0), (5, 6))]
    data = cenc.sample_boxes(told, 100)
    saiz, saio, senc = boxes(memoryview(data))
    assert (saiz.kind, saio.kind, senc.kind) == ("saiz", "saio", "senc")
    assert bytes(saiz.body) == words(0) + bytes([0]) + words(2) + bytes([8, 14])
    (place,) = struct.unpack_from(">I", saio.body, 8)
    # What is counted from is the fragment's start, and these boxes lie 100 bytes behind it.
    assert data[place - 100 : place - 92] == struct.pack(">HHI", 1, 10, 300)
    assert cenc.read_senc(_box(atom("traf", data)), 2) == told
    alike = cenc.sample_boxes([told[0], told[0]], 0)
    assert bytes(next(boxes(memoryview(alike))).body) == words(0) + bytes([8]) + words(2)


def test_of_sound_nothing_is_told_but_how_many() -> None:
    data = cenc.sample_boxes([(), ()], 0)
    assert data == atom("senc", words(0, 2))
    assert cenc.read_senc(_box(atom("traf", data)), 2) == [(), ()]
    with pytest.raises(StepFailed, match="of 2 samples"):
        cenc.read_senc(_box(atom("traf", data)), 3)


def test_a_picture_of_too_many_slices_cannot_be_told_of() -> None:
    with pytest.raises(StepFailed, match="more slices"):
        cenc.sample_boxes([((1, 16),) * 43], 0)
