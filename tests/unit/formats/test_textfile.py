"""Encodings and formats of files of subtitles."""

from __future__ import annotations

import pytest

from telecine.engine.formats.textfile import decode, sniff

TEXT = "1\n00:00:01,000 --> 00:00:02,000\nÇa va, garçon? “Oui”\n"


@pytest.mark.parametrize(
    ("data", "encoding", "guessed"),
    [
        (TEXT.encode(), "utf-8", False),
        (TEXT.encode("utf-8-sig"), "utf-8", False),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16-le", False),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16-be", False),
        (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "utf-32-le", False),
        (TEXT.encode("utf-16-le"), "utf-16-le", True),
        (TEXT.encode("utf-16-be"), "utf-16-be", True),
        (TEXT.encode("cp1252"), "cp1252", True),
    ],
)
def test_every_encoding_gives_the_same_text(data: bytes, encoding: str, guessed: bool) -> None:
    assert decode(data) == (TEXT, encoding, guessed)


def test_what_is_in_no_encoding_is_marked() -> None:
    assert decode(b"caf\xe9 \x81")[0] == "café \ufffd"
    assert decode(b"\xff\xfea\0\0") == ("a\ufffd", "utf-16-le", False)
    assert decode(b"") == ("", "utf-8", False)


def test_utf_8_stays_so_where_a_few_bytes_are_damaged() -> None:
    """Four accents, a dash and a byte that is none of it; and cut off within a letter."""
    assert decode("äöüß – ".encode() + b"\xff.") == ("äöüß – \ufffd.", "utf-8", True)
    assert decode("Ça va, garçon? “Oui” –".encode()[:-1])[1:] == ("utf-8", True)
    # By chance two letters of CP1252 are one of UTF-8.
    assert decode("Ã¤ café né là".encode("cp1252")) == ("Ã¤ café né là", "cp1252", True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TEXT, "srt"),
        ("\n\n12\n1:02:03.4 --> 1:02:04.5\nx", "srt"),
        ("1\r00:00:01,000 --> 00:00:02,000\rof an old Mac\r", "srt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nx", "webvtt"),
        ("[Script Info]\nTitle: x\n", "ass"),
        ("\n[V4+ Styles]\n", "ass"),
        ("a letter --> to you", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_formats_by_what_they_say(text: str, kind: str | None) -> None:
    assert sniff(text) == kind
