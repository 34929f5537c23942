"""EXIF, XMP and ICC of strangers: cleaned or given up on, never a fault."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.images.metadata import (
    clean_exif,
    clean_xmp,
    exif_of_tiff,
    has_gps,
    profile_name,
    words,
    xmp_has_gps,
)

MAKE, ORIENTATION, EXIF_IFD, GPS_IFD, TAKEN, NOTE = 0x010F, 0x0112, 0x8769, 0x8825, 0x9003, 0x927C


def entry(order: str, tag: int, kind: int, count: int, value: int) -> bytes:
    if kind == 3 and count == 1:
        return struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
    return struct.pack(f"{order}HHII", tag, kind, count, value)


def exif(order: str = "<") -> bytes:
    """By hand, as EXIF 2.32 lays it out: make, orientation, a time, a maker's note, a latitude and
    a thumbnail."""

    def table(*entries: bytes, after: int = 0) -> bytes:
        return struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(
            order + "I", after
        )  # fmt: skip

    text = {200: b"Maker\0", 210: b"2024:05:06 07:08:09\0", 240: b"secret note", 260: b"\xff\xd8T"}
    latitude = struct.pack(order + "6I", 52, 1, 31, 1, 12, 1)
    parts = {
        8: table(
            entry(order, MAKE, 2, 6, 200), entry(order, ORIENTATION, 3, 1, 6),
            entry(order, EXIF_IFD, 4, 1, 70), entry(order, GPS_IFD, 4, 1, 110), after=140,
        ),
        70: table(entry(order, TAKEN, 2, 20, 210), entry(order, NOTE, 7, 11, 240)),
        110: table(entry(order, 2, 5, 3, 280)),
        140: table(entry(order, 0x0201, 4, 1, 260), entry(order, 0x0202, 4, 1, 3)),
        280: latitude,
        **text,
    }  # fmt: skip
    data = bytearray(304)
    data[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    for at, part in parts.items():
        data[at : at + len(part)] = part
    return b"Exif\0\0" + bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_must_not_travel_is_overwritten(order: str) -> None:
    whole = exif(order)
    assert has_gps(whole)
    assert words(whole) == {"Make": "Maker", "DateTimeOriginal": "2024:05:06 07:08:09"}
    clean = clean_exif(whole)
    assert clean is not None
    assert len(clean) == len(whole)
    assert words(clean) == words(whole)
    assert not has_gps(clean)
    for gone in (b"secret", b"\xff\xd8T", struct.pack(order + "6I", 52, 1, 31, 1, 12, 1)):
        assert gone in whole
        assert gone not in clean
    # Two entries are left of four, and no second directory.
    (count,) = struct.unpack_from(order + "H", clean, 6 + 8)
    tags = [struct.unpack_from(order + "H", clean, 6 + 10 + 12 * n)[0] for n in range(count)]
    assert tags == [MAKE, EXIF_IFD]
    assert struct.unpack_from(order + "I", clean, 6 + 10 + 12 * count) == (0,)


def test_the_place_stays_on_request() -> None:
    clean = clean_exif(exif(), gps=True)
    assert clean is not None
    assert has_gps(clean)
    assert b"secret note" in clean
    assert b"\xff\xd8T" not in clean


@given(st.data())
def test_broken_exif_is_no_fault(data: st.DataObject) -> None:
    blob = bytearray(exif(data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    for each in (bytes(blob), cut):
        assert all(value.isprintable() for value in words(each).values())
        has_gps(each)
        cleaned = clean_exif(each)
        assert cleaned is None or len(cleaned) == len(each)
        taken = exif_of_tiff(each)
        assert taken is None or clean_exif(taken) is not None


def test_exif_whose_entry_points_at_its_own_directory_is_not_kept() -> None:
    blob = bytearray(exif("<"))
    blob[60] = 4
    assert clean_exif(bytes(blob)) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_exif_of_a_tiff_is_what_it_says_of_itself(order: str) -> None:
    """What stands in EXIF is a TIFF; here it is the file."""
    taken = exif_of_tiff(exif(order).removeprefix(b"Exif\0\0"))
    assert taken is not None
    assert words(taken) == {"Make": "Maker", "DateTimeOriginal": "2024:05:06 07:08:09"}
    assert has_gps(taken)
    assert struct.pack(order + "6I", 52, 1, 31, 1, 12, 1) in taken
    assert b"secret note" not in taken
    clean = clean_exif(taken)
    assert clean is not None
    assert words(clean) == words(taken)
    assert not has_gps(clean)


def test_a_tiff_that_says_nothing_has_no_exif() -> None:
    width = struct.pack("<H", 1) + entry("<", 256, 3, 1, 9) + bytes(4)
    assert exif_of_tiff(b"II*\0" + struct.pack("<I", 8) + width) is None


def test_a_number_given_a_million_times_costs_no_more_than_one() -> None:
    """A directory of entries that all list the same megabytes as one camera's sensitivity."""
    entries, count = 900, 4_000_000
    table = struct.pack("<H", entries) + entry("<", 0x8827, 3, count, 20_000) * entries
    blob = b"II*\0" + struct.pack("<I", 8) + table
    blob = blob.ljust(20_000, b"\0") + struct.pack("<H", 400) * count
    began = time.monotonic()
    assert words(blob) == {"ISOSpeed": "400"}
    assert time.monotonic() - began < 2


@given(st.binary(max_size=300))
def test_any_bytes_are_no_fault(blob: bytes) -> None:
    for exif_like in (blob, b"Exif\0\0II*\0" + blob, b"MM\0*" + blob):
        clean_exif(exif_like)
        words(exif_like)
        has_gps(exif_like)
    clean_xmp(blob)
    xmp_has_gps(blob)
    profile_name(bytes(128) + blob)


def test_xmp_that_is_a_bomb_or_no_xml_is_given_up_on() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    deep = b"<a>" * 5000 + b"</a>" * 5000
    for blob in (bomb, b"no xml", b"", b"<a><b></a>", deep):
        assert clean_xmp(blob) is None


@pytest.mark.parametrize(
    ("desc", "name"),
    [
        (b"desc\0\0\0\0\0\0\0\6sRGB!\0", "sRGB!"),
        (
            b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\x06\0\0\0\x1c"
            + "P3\u00e9".encode("utf-16-be"),
            "P3é",
        ),
        (b"desc\0\0\0\0\xff\xff\xff\xffA\x07B\0", "AB"),
        (b"odd!", None),
    ],
)
def test_the_name_of_a_profile(desc: bytes, name: str | None) -> None:
    """ICC.1:2001, 6.5.17 and ICC.1:2022, 10.15."""
    head = bytes(128) + struct.pack(">I4sII", 1, b"desc", 144, len(desc))
    assert profile_name(head + desc) == name
    assert profile_name(None) is None
    assert profile_name(bytes(132)) is None
