"""Warnings that a program may look for: the page of codes names each of them and no other."""

from __future__ import annotations

import re
from pathlib import Path

from telecine.engine.events import warned

ROOT = Path(__file__).parents[2]


def test_a_code_stands_behind_its_warning() -> None:
    assert warned("subtitles_cut", "English: too long") == "English: too long [subtitles_cut]"


def test_the_page_names_each_code() -> None:
    sources = (path.read_text() for path in (ROOT / "src").rglob("*.py"))
    used = {code for text in sources for code in re.findall(r'\bwarned\(\s*"(\w+)"', text)}
    page = (ROOT / "docs/reference/warnings.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert used
    assert sorted(named) == sorted(used)
