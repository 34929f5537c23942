"""Languages: what files say → tags of RFC 5646, by the register that Debian has of ISO 639."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telecine.engine.languages import language_name, language_tag

REGISTER = Path("/usr/share/iso-codes/json/iso_639-2.json")


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("eng", "en"),
        ("ger", "de"),
        ("deu", "de"),
        ("fre", "fr"),
        ("chi", "zh"),
        ("de", "de"),
        ("English", "en"),
        ("pt_BR", "pt-BR"),
        ("por-br", "pt-BR"),
        ("zh-hans", "zh-Hans"),
        ("sr-latn-rs", "sr-Latn-RS"),
        ("en-US-x-foo", None),  # private use: nothing that a player could know
        ("yue", "yue"),  # Cantonese has no shorter code
        ("qaa", "qaa"),
        (" ENG ", "en"),
        ("und", None),
        ("mul", None),
        ("", None),
        (None, None),
        ('x",DEFAULT=YES', None),
        ("a" * 9, None),
        ("日本語", None),
    ],
)
def test_what_a_file_says_becomes_the_shortest_tag(said: str | None, tag: str | None) -> None:
    assert language_tag(said) == tag


@pytest.mark.parametrize(
    ("tag", "name"),
    [("en", "English"), ("de", "German"), ("pt-BR", "Portuguese (BR)"), ("yue", "yue")],
)
def test_names(tag: str, name: str) -> None:
    assert language_name(tag) == name


@pytest.mark.skipif(not REGISTER.is_file(), reason="Debian's iso-codes is not installed")
def test_every_code_of_two_letters_is_known_with_its_longer_ones() -> None:
    rows = [row for row in json.loads(REGISTER.read_text())["639-2"] if "alpha_2" in row]
    assert len(rows) > 180
    for row in rows:
        for code in (row["alpha_2"], row["alpha_3"], row.get("bibliographic", row["alpha_3"])):
            assert language_tag(code) == row["alpha_2"]
        assert row["name"].startswith(language_name(row["alpha_2"]))
