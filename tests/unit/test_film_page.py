"""Every line of docs/howto/films.md means something: commands are parsed, fields are read."""

from __future__ import annotations

import json
import re
import shlex
from operator import attrgetter
from pathlib import Path

import pytest

from telecine.cli import joined_clip, parse, parser, spread_rungs
from telecine.ordering import read_order
from telecine.service.orders import make_order

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "films.md").read_text(encoding="utf-8")
SECTIONS = [section for section in PAGE.split("\n## ") if "```json" in section]

WISHES = attrgetter(
    "rungs", "top", "codecs", "hdr", "quality", "loudness_lufs", "burn", "clip", "watermark"
)


def lines(language: str, text: str = PAGE) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", lines("sh"))
def test_every_command_is_one(line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    assert name == "telecine"
    if words[0] == "submit":
        assert read_order(parser().parse_args(joined_clip(spread_rungs(words)))).wishes is None
    else:
        assert parse(words).path == Path("film.mkv")


@pytest.mark.parametrize("line", lines("json"))
def test_every_field_is_one(line: str) -> None:
    assert make_order(outputs=[json.loads(line)]).outputs == (json.loads(line),)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_words_and_fields_say_the_same(section: str) -> None:
    """What a section's commands wish for is what its fields do; files have names in one, ids in
    the other, and a page need not name as many of them."""
    here = [parse(shlex.split(line)[1:]).profile for line in lines("sh", section)]
    there = [make_order(outputs=[json.loads(line)]).profile for line in lines("json", section)]
    assert {WISHES(profile) for profile in there} <= {WISHES(profile) for profile in here}
    assert {one for profile in there for one in profile.outputs} <= {
        one for profile in here for one in profile.outputs
    }
