"""Pure: which encoding a file of text has, and which format of subtitles it is."""

from __future__ import annotations

import codecs
import re
from typing import Literal

from telecine.engine.formats.webvtt import is_webvtt

SubtitleFormat = Literal["webvtt", "ass", "srt"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What Windows programs of western Europe and America wrote before they wrote UTF-8; it has the
# letters of Latin-1, and is what the WHATWG's encoding standard reads that as.
_GUESS = "cp1252"


def decode(data: bytes) -> tuple[str, str, bool]:
    """(text, encoding, whether it was guessed). Bytes that are none of it become U+FFFD."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace"), encoding, False
    head = data[:2000]
    for zeros, encoding in ((head[1::2], "utf-16-le"), (head[::2], "utf-16-be")):
        if 2 * zeros.count(0) > len(zeros):  # of western text every other byte is zero
            return data.decode(encoding, errors="replace"), encoding, True
    try:
        return data.decode(), "utf-8", False
    except UnicodeDecodeError:
        damaged = data.decode(errors="replace")
        if _letters(damaged) > damaged.count("\ufffd"):  # or cut off
            return damaged, "utf-8", True
        return data.decode(_GUESS, errors="replace"), _GUESS, True


def _letters(text: str) -> int:
    """Characters of several bytes. Other encodings have next to none that pass for UTF-8's."""
    return len(text) - len(text.encode("ascii", errors="ignore")) - text.count("\ufffd")


_SRT_TIMES = re.compile(r"\s*\d{1,6}:\d{1,2}:\d{1,2}[,.:]\d{1,3}\s*-->\s*\d")
_ASS_HEAD = re.compile(r"\s*\[(script info|v4\+? styles\+?|events)\]", re.IGNORECASE)


def sniff(text: str) -> SubtitleFormat | None:
    """What a text is as a file of subtitles; None where it is none that is read."""
    if is_webvtt(text):
        return "webvtt"
    if _ASS_HEAD.match(text):
        return "ass"
    return "srt" if any(map(_SRT_TIMES.match, text.splitlines())) else None
