"""`engine.images.lettering`: against the coverage table that comes with the font."""

from __future__ import annotations

import pytest

from telecine.engine.images.lettering import FONT_FILE, lacking


# unicover.txt of DejaVu 2.37, column "Sans".
@pytest.mark.parametrize(
    ("block", "first", "last", "drawn"),
    [
        ("Basic Latin", 0x20, 0x7E, 95),
        ("Latin Extended-A", 0x100, 0x17F, 128),
        ("Greek and Coptic", 0x370, 0x3FF, 135),
        ("Cyrillic", 0x400, 0x4FF, 256),
        ("Armenian", 0x530, 0x58F, 86),
        ("Hebrew", 0x590, 0x5FF, 54),
        ("Devanagari", 0x900, 0x97F, 0),
        ("Currency Symbols", 0x20A0, 0x20CF, 26),
        ("Mathematical Operators", 0x2200, 0x22FF, 256),
        ("CJK Unified Ideographs", 0x4E00, 0x9FFF, 0),
        ("Mahjong Tiles", 0x1F000, 0x1F02F, 0),
    ],
)
def test_the_letters_of_the_font(block: str, first: int, last: int, drawn: int) -> None:
    assert sum(not lacking(chr(code)) for code in range(first, last + 1)) == drawn


def test_what_is_lacking_is_named_once() -> None:
    assert lacking("© 映画 映") == "映画"
    assert lacking("Größe, Жук\u00a0\u200b") == ""


def test_a_letter_with_an_accent_is_drawn_from_both() -> None:
    assert lacking("\u1e2f") == ""  # ḯ
    assert lacking("\u0958") == "\u0958"  # qa: neither as one nor as ka and nukta


def test_joiners_and_variations_are_not_drawn() -> None:
    assert lacking("\u2764\ufe0f\u200d") == ""


def test_the_font_is_small() -> None:
    assert FONT_FILE.stat().st_size < 800_000
