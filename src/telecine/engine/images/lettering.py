"""The font that texts on pictures are set in, and which letters it has.

It is ours, because a server may have no fonts at all, and so that a text looks alike everywhere. A
letter that it lacks would be drawn as a box; such a text is refused.
"""

from __future__ import annotations

import functools
import struct
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from telecine.engine.errors import UsageError
from telecine.engine.images.operations import Operation, Watermark

FONT_FILE = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FONT = "DejaVu Sans"

# Say how letters are joined or shown, and are not drawn: spaces, format characters.
_UNDRAWN = {"Cf", "Zs"}
_VARIATIONS = range(0xFE00, 0xFE10)


def lacking(text: str) -> str:
    """The letters of a text that the font does not have, each once, in their order."""
    return "".join(dict.fromkeys(letter for letter in text if not _drawn(letter)))


def check(text: str) -> None:
    """Raises `UsageError` (`letters_missing`) where the font lacks letters of a text."""
    if missing := lacking(text):
        raise UsageError(
            f"{FONT}, which texts are set in, has no letters for {missing[:10]!r}: use a picture",
            code="letters_missing",
        )


def check_texts(operations: Iterable[Operation]) -> None:
    """The same of all texts that are to be laid over a picture."""
    for operation in operations:
        if isinstance(operation, Watermark) and operation.text is not None:
            check(operation.text)


def _drawn(letter: str) -> bool:
    if unicodedata.category(letter) in _UNDRAWN or ord(letter) in _VARIATIONS:
        return True
    # What is missing as one is drawn as its parts: a letter, and an accent over it.
    parts = unicodedata.normalize("NFD", letter)
    return ord(letter) in _codes() or _codes().issuperset(map(ord, parts))


@functools.cache
def _codes() -> frozenset[int]:
    """The code points of the font (OpenType 1.9, `cmap`, format 12: its table of all Unicode)."""
    data = FONT_FILE.read_bytes()
    (tables,) = struct.unpack_from(">H", data, 4)
    at = next(
        offset
        for tag, _, offset, _ in struct.iter_unpack(">4sIII", data[12 : 12 + 16 * tables])
        if tag == b"cmap"
    )
    (encodings,) = struct.unpack_from(">H", data, at + 2)
    for n in range(encodings):
        _, _, offset = struct.unpack_from(">HHI", data, at + 4 + 8 * n)
        (format,) = struct.unpack_from(">H", data, at + offset)
        if format == 12:
            break
    (groups,) = struct.unpack_from(">I", data, at + offset + 12)
    start = at + offset + 16
    ranges = struct.iter_unpack(">III", data[start : start + 12 * groups])
    return frozenset(code for first, last, _ in ranges for code in range(first, last + 1))
