"""Films of JPEGs, and photos that carry others behind their end. Pillow writes the pictures."""

from __future__ import annotations

import io
import struct
import time
from typing import Any

import pytest
from PIL import Image

from telecine.engine.formats.containers import is_motion_jpeg
from telecine.engine.images.sniff import sniff


def jpeg(size: tuple[int, int] = (48, 32), shade: int = 90, **options: Any) -> bytes:
    out = io.BytesIO()
    noise = Image.effect_noise(size, 60).point(lambda value: (value + shade) % 256)
    Image.merge("RGB", (noise, noise, noise)).save(out, "JPEG", **options)
    return out.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """ITU-T T.81, B.1.1.4: a segment right behind SOI."""
    head = b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2)
    return data[:2] + head + content + data[2:]


FRAMES = [jpeg(shade=shade) for shade in (10, 90, 170)]
XMP = b"http://ns.adobe.com/xap/1.0/\0"

FILMS = {
    "in a row": b"".join(FRAMES),
    "two": FRAMES[0] + FRAMES[1],
    "padded with zeros": bytes(100).join(FRAMES),
    "filled before SOI": b"\xff\xff".join(FRAMES),
    "the last one cut off": (FRAMES[0] + FRAMES[1])[:-300],
    "progressive": jpeg(progressive=True) + jpeg(progressive=True, shade=5),
    "with restarts": b"".join(jpeg(restart_marker_blocks=1, shade=s) for s in (1, 2)),
    "each with EXIF": b"".join(with_segment(each, 0xE1, b"Exif\0\0") for each in FRAMES),
    "fill bytes before a marker": FRAMES[0][:2] + b"\xff\xff" + b"".join(FRAMES)[2:],
}

PHOTOS = {
    "alone": FRAMES[0],
    "cut off": FRAMES[0][:-100],
    "a smaller one behind it": FRAMES[0] + jpeg((24, 16)),
    "one of other sampling behind it": FRAMES[0]
    + FRAMES[0].replace(b"\x03\x01\x22", b"\x03\x01\x11"),
    "a preview in its EXIF": with_segment(FRAMES[0], 0xE1, b"Exif\0\0" + jpeg((16, 16))),
    "two in its EXIF": with_segment(FRAMES[0], 0xE1, b"Exif\0\0" + FRAMES[1] * 2),
    "two in its EXIF, and cut off": with_segment(FRAMES[0], 0xE1, FRAMES[1] * 2)[:-100],
    "Multi-Picture": with_segment(FRAMES[0], 0xE2, b"MPF\0II*\0") + FRAMES[1],
    "depth": with_segment(FRAMES[0], 0xE1, XMP + b"<Container:Directory>") + FRAMES[1],
    "text, then another": FRAMES[0] + b"SEFHe\0\0\0" + FRAMES[1],
    "a film behind it": FRAMES[0] + b"\0\0\0\x18ftypmp42",
    "zeros behind it": FRAMES[0] + bytes(5000),
    "the beginning of another": FRAMES[0] + FRAMES[1][:20],
    "no frame in either": b"\xff\xd8\xff\xd9\xff\xd8\xff\xd9",
}


@pytest.mark.parametrize("name", FILMS)
def test_jpegs_in_a_row_are_a_film(name: str) -> None:
    assert is_motion_jpeg(FILMS[name])
    assert sniff(FILMS[name]) is None


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_one_whatever_lies_behind_it(name: str) -> None:
    assert not is_motion_jpeg(PHOTOS[name])
    assert sniff(PHOTOS[name]) == "jpeg"


def test_nothing_is_said_before_the_second_header_is_there() -> None:
    film = FRAMES[0] + FRAMES[1]
    header = film.index(b"\xff\xc0", len(FRAMES[0]))
    whole = header + 2 + int.from_bytes(film[header + 2 : header + 4], "big")
    said = [is_motion_jpeg(film[:end]) for end in range(len(film))]
    assert said.index(True) == whole
    assert all(said[whole:])


@pytest.mark.parametrize(
    "piece", [b"\xff", b"\xff\xd9", b"\xff\xe0\0\2", b"\xff\xda\0\2", b"\xff\xd9\0", b"\xff\0"]
)
def test_what_is_made_to_take_long_does_not(piece: bytes) -> None:
    hostile = b"\xff\xd8" + piece * (8_000_000 // len(piece)) + b"\xff\xd9\xff\xd8\xff"
    began = time.process_time()
    is_motion_jpeg(hostile)
    assert time.process_time() - began < 2
