"""Pure: Common Encryption by the scheme `cbcs` (ISO/IEC 23001-7): which bytes of a sample are
encrypted, and the boxes that say so.

Of a picture one block in ten is encrypted, from behind each slice's header on; of sound every whole
block. Each such stretch begins with the track's one IV, which stands in `tenc`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telecine.engine.formats import aes
from telecine.engine.formats.bmff import Box, box, full_box, malformed
from telecine.engine.formats.coding import Subsamples

SCHEME = "cbcs"
ENTRIES = {"vide": "encv", "soun": "enca"}
PICTURE_PATTERN = (1, 9)  # blocks that are encrypted, then blocks that are not (23001-7, 10.4.2)
WHOLE = (0, 0)  # no pattern: all whole blocks (9.7)

# https://www.w3.org/TR/eme-initdata-cenc/: what any player finds the key's number in.
_COMMON_SYSTEM = bytes.fromhex("1077efecc0b24d02ace33c1e52e2fb4b")


@dataclass(frozen=True, slots=True)
class Encryption:
    """What `tenc` says of a track."""

    key_id: bytes
    iv: bytes
    pattern: tuple[int, int]


# --- samples --------------------------------------------------------------------------------------


def seal(key: bytes, encryption: Encryption, data: bytes, subsamples: Subsamples) -> bytes:
    """A sample, encrypted; without subsamples all of it is."""
    return _turned(aes.encrypt_blocks, key, encryption, data, subsamples)


def unseal(key: bytes, encryption: Encryption, data: bytes, subsamples: Subsamples) -> bytes:
    """What `seal` encrypted."""
    return _turned(aes.decrypt_blocks, key, encryption, data, subsamples)


def _turned(
    turn: Callable[[bytes, bytes, bytes], bytes],
    key: bytes,
    encryption: Encryption,
    data: bytes,
    subsamples: Subsamples,
) -> bytes:
    found = bytearray(data)
    at = 0
    for clear, protected in subsamples or ((0, len(data)),):
        start, end = at + clear, at + clear + protected
        at = end
        places = _places(start, end, *encryption.pattern)
        parts = [bytes(found[place : place + size]) for place, size in places]
        turned = turn(key, encryption.iv, b"".join(parts))
        read = 0
        for place, size in places:
            found[place : place + size] = turned[read : read + size]
            read += size
    return bytes(found)


def _places(start: int, end: int, taken: int, skipped: int) -> list[tuple[int, int]]:
    """Where in [start, end) encrypted bytes begin, and how many there are: of whole blocks alone
    (9.6, 9.7)."""
    if not taken:
        return [(start, (end - start) // aes.BLOCK * aes.BLOCK)]
    step = (taken + skipped) * aes.BLOCK
    return [
        (place, min((end - place) // aes.BLOCK, taken) * aes.BLOCK)
        for place in range(start, end - aes.BLOCK + 1, step)
    ]


# --- boxes ----------------------------------------------------------------------------------------


def sinf(original: str, encryption: Encryption) -> bytes:
    """What a sample entry has beside the coded format's own boxes (14496-12, 8.12)."""
    taken, skipped = encryption.pattern
    head = struct.pack(">BBBB", 0, taken << 4 | skipped, 1, 0)  # protected; no IV in the samples
    tenc = full_box(
        "tenc", 1, 0, head, encryption.key_id, bytes([len(encryption.iv)]), encryption.iv
    )
    return box(
        "sinf",
        box("frma", original.encode()),
        full_box("schm", 0, 0, SCHEME.encode(), struct.pack(">I", 0x10000)),
        box("schi", tenc),
    )


def read_sinf(item: Box) -> tuple[str, Encryption]:
    """The original format of a sample entry, and how it is encrypted.

    Raises:
        StepFailed: (code `malformed_media`) by another scheme, or otherwise than here.
    """
    original = bytes(item.child("frma").body).decode("latin-1")
    scheme = bytes(item.child("schm").body[4:8])
    if scheme != SCHEME.encode():
        raise malformed(f"encrypted by {scheme.decode('latin-1')!r}")
    tenc = item.child("schi").child("tenc")
    version, _ = tenc.full()
    _, pattern, protected, in_samples = tenc.numbers("4B", 4)
    (size,) = tenc.numbers("B", 24)
    iv = bytes(tenc.body[25 : 25 + size])
    if version != 1 or protected != 1 or in_samples or size != aes.BLOCK or len(iv) != size:
        raise malformed("'tenc' without one IV for all samples")
    blocks = (pattern >> 4, pattern & 0xF)
    if blocks not in (PICTURE_PATTERN, WHOLE):
        raise malformed(f"the pattern {blocks[0]}:{blocks[1]}")
    return original, Encryption(bytes(tenc.body[8:24]), iv, blocks)


def pssh(key_id: bytes) -> bytes:
    """The number of the key, for players that look for it in the init segment."""
    return full_box("pssh", 1, 0, _COMMON_SYSTEM, struct.pack(">I", 1), key_id, bytes(4))


def sample_boxes(subsamples: Sequence[Subsamples], offset: int) -> bytes:
    """What a fragment says of its samples (7.2, 14496-12 8.7.8, 8.7.9); `offset` is where these
    boxes begin, from that of 'moof'. Sound has nothing to say of a sample."""
    if not any(subsamples):
        return full_box("senc", 0, 0, struct.pack(">I", len(subsamples)))
    infos = [
        struct.pack(">H", len(one)) + b"".join(struct.pack(">HI", *entry) for entry in one)
        for one in subsamples
    ]
    sizes = [len(info) for info in infos]
    alike = len(set(sizes)) == 1
    if max(sizes) > 0xFF:
        raise malformed("a picture of more slices than 'saiz' can tell of")
    saiz = full_box(
        "saiz",
        0,
        0,
        struct.pack(">BI", sizes[0] if alike else 0, len(sizes)),
        b"" if alike else bytes(sizes),
    )
    first = offset + len(saiz) + 20 + 16  # behind 'saio' and the head of 'senc'
    saio = full_box("saio", 0, 0, struct.pack(">II", 1, first))
    return saiz + saio + full_box("senc", 0, 2, struct.pack(">I", len(infos)), *infos)


def read_senc(traf: Box, samples: int) -> list[Subsamples]:
    """The subsamples of each sample of a fragment.

    Raises:
        StepFailed: (code `malformed_media`) they are missing, cut off, or of another number.
    """
    senc = traf.child("senc")
    _, flags = senc.full()
    (count,) = senc.numbers("I", 4)
    if count != samples:
        raise malformed(f"'senc' is of {count} samples, the fragment has {samples}")
    if not flags & 0x2:
        return [()] * samples
    at = 8
    found: list[Subsamples] = []
    for _ in range(samples):
        (entries,) = senc.numbers("H", at)
        words = senc.numbers("HI" * entries, at + 2)
        found.append(tuple(zip(words[::2], words[1::2], strict=True)))
        at += 2 + 6 * entries
    return found
