"""Init segments and fragments that are encrypted sample by sample, and what makes them clear again.

What is encrypted is held against AES of the package `cryptography`, block by block by the rule of
`cbcs` (ISO/IEC 23001-7, 10.4.2): one block in ten of a picture from behind its slice header on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.unit.boxes import atom
from tests.unit.formats.test_cenc import Writer, pps, sps
from tests.unit.formats.test_cmaf import FFMPEG_SOUND_INIT, init_segment, visual
from tests.unit.test_protection import KEY, plan_by

from telecine.engine.errors import StepFailed
from telecine.engine.formats import cmaf
from telecine.engine.formats.cenc import PICTURE_PATTERN, WHOLE, Encryption
from telecine.engine.formats.cmaf import Sample, Track, read_init
from telecine.engine.protection import Lock

IV = bytes(range(16, 32))
PICTURES = Encryption(bytes(range(16)), IV, PICTURE_PATTERN)
SOUND = Encryption(bytes(range(16)), IV, WHOLE)

SETS = (sps(), pps())
BODY = bytes(n * 7 % 251 for n in range(400))
# frame_num, idr_pic_id, marking of an IDR picture, quantiser, deblocking: the header that `sps` and
# `pps` ask for.
HEAD = Writer(0x65).ue(0, 7, 0).u(4, 0).ue(0).u(1, 0).u(1, 0).ue(0, 1)
SLICE = HEAD.unit(BODY)
SEI = bytes.fromhex("0605ffff80")


def unit(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def avcc() -> bytes:
    counted = [len(one).to_bytes(2, "big") + one for one in SETS]
    return bytes.fromhex("01 4d001e ff e1") + counted[0] + b"\1" + counted[1]


INIT = init_segment(visual("avc1", atom("avcC", avcc())))
CLEAR = read_init(cmaf.write_init(INIT, edit_offset_ticks=0))


def by_hand(data: bytes, clear: int) -> bytes:
    """One block in ten from `clear` on, in one chain of AES-CBC."""
    places = range(clear, len(data) - 15, 160)
    encryptor = Cipher(algorithms.AES128(KEY.data), modes.CBC(IV)).encryptor()
    found = bytearray(data)
    for place in places:
        found[place : place + 16] = encryptor.update(data[place : place + 16])
    return bytes(found)


def test_a_picture_is_encrypted_behind_its_slice_header_and_comes_back() -> None:
    stored = cmaf.write_init(INIT, edit_offset_ticks=0, encryption=PICTURES)
    clear, track = CLEAR, read_init(stored)
    assert b"encv" in stored
    assert track.encryption == PICTURES
    assert (track.codec, track.parameter_sets) == (clear.codec, clear.parameter_sets)

    picture = unit(SEI) + unit(SLICE)
    samples = [Sample(n * 1000, 1000, picture, sync=n == 0) for n in range(2)]
    sealed = cmaf.sealed(samples, clear, PICTURES, KEY.data)
    assert [bytes(each.data) for each in sealed] == [
        by_hand(picture, len(unit(SEI)) + 4 + HEAD.size)
    ] * 2

    times = {"sequence": 1, "base_ticks": 0, "end_ticks": 2000, "edit_offset_ticks": 0}
    segment = cmaf.SEGMENT_TYPE + cmaf.write_fragment(sealed, **times)
    (fragment,) = cmaf.read_segment(segment, track)
    assert [each.subsamples for each in fragment.samples] == [each.subsamples for each in sealed]
    whole = cmaf.SEGMENT_TYPE + cmaf.write_fragment(samples, **times)
    assert cmaf.clear_segment(segment, track, KEY.data) == whole
    assert read_init(cmaf.clear_init(stored)) == clear


@pytest.mark.parametrize("by", [-16, 16])
def test_a_fragment_that_tells_of_other_bytes_is_refused(by: int) -> None:
    stored = cmaf.write_init(INIT, edit_offset_ticks=0, encryption=PICTURES)
    (sealed,) = cmaf.sealed([Sample(0, 1000, unit(SLICE), sync=True)], CLEAR, PICTURES, KEY.data)
    ((clear, protected),) = sealed.subsamples or ()
    wrong = replace(sealed, subsamples=((clear, protected + by),))
    times = {"sequence": 1, "base_ticks": 0, "end_ticks": 1000, "edit_offset_ticks": 0}
    segment = cmaf.SEGMENT_TYPE + cmaf.write_fragment([wrong], **times)
    with pytest.raises(StepFailed, match="senc"):
        cmaf.clear_segment(segment, read_init(stored), KEY.data)


def test_of_sound_every_whole_block_is_encrypted() -> None:
    stored = cmaf.write_init(FFMPEG_SOUND_INIT, edit_offset_ticks=0, encryption=SOUND)
    track = read_init(stored)
    assert b"enca" in stored
    frame = BODY[:37]
    (sealed,) = cmaf.sealed([Sample(0, 1024, frame, sync=True)], track, SOUND, KEY.data)
    cipher = Cipher(algorithms.AES128(KEY.data), modes.CBC(IV)).encryptor()
    assert bytes(sealed.data) == cipher.update(frame[:32]) + frame[32:]
    assert sealed.subsamples == ()


@pytest.mark.parametrize(
    ("picture", "track"),
    [
        (unit(b"\x62" + BODY), CLEAR),
        (unit(SLICE) + unit(b"\x74" + BODY), CLEAR),
        (unit(SLICE), replace(CLEAR, parameter_sets=())),
        (unit(SLICE), replace(CLEAR, codec="av01.0.04M.08")),
    ],
    ids=["a partition", "another view too", "of sets that are missing", "of another codec"],
)
def test_a_picture_that_cannot_be_encrypted_is_refused(picture: bytes, track: Track) -> None:
    with pytest.raises(StepFailed) as caught:
        cmaf.sealed([Sample(0, 1000, picture, sync=True)], track, PICTURES, KEY.data)
    assert caught.value.code == "malformed_media"


def test_an_entry_that_does_not_say_how_it_is_encrypted_is_refused() -> None:
    stored = cmaf.write_init(INIT, edit_offset_ticks=0, encryption=PICTURES)
    with pytest.raises(StepFailed, match="sinf"):
        read_init(stored.replace(b"sinf", b"free"))


@pytest.mark.parametrize("scheme", ["aes-128", "cbcs"])
def test_a_lock_opens_what_it_sealed(scheme: str) -> None:
    lock = Lock(plan_by(scheme), "360p", KEY)
    stored = cmaf.write_init(INIT, edit_offset_ticks=0, encryption=lock.encryption)
    track = read_init(stored)
    samples = [Sample(0, 1000, unit(SLICE), sync=True)]
    kept = samples
    if lock.encryption is not None:
        kept = cmaf.sealed(samples, track, lock.encryption, KEY.data)
    times = {"sequence": 1, "base_ticks": 0, "end_ticks": 1000, "edit_offset_ticks": 0}
    whole = cmaf.SEGMENT_TYPE + cmaf.write_fragment(samples, **times)
    sealed = lock.seal_segment(3, cmaf.SEGMENT_TYPE + cmaf.write_fragment(kept, **times))
    assert sealed != whole
    assert lock.open_segment(3, sealed, track) == whole
