"""docs/reference/image-operations.md says what the records of the operations say, and its examples
mean the same in every form."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from telecine.cli import parser
from telecine.engine.images import operations as ops
from telecine.engine.images.formats import FORMATS, WRITTEN
from telecine.engine.images.grammar import described, json_schema, parse_json, parse_text, to_text
from telecine.imaging import read_asked

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "image-operations.md"
_SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(_SECTION.findall(PAGE.read_text()))
_FENCE = re.compile(r"^```(\w+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def rows(section: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    lines = section.split(head + "\n")[1].splitlines()[1:]
    table = lines[: next((n for n, line in enumerate(lines) if not line.startswith("|")), None)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_operation_has_its_section_in_order() -> None:
    assert list(SECTIONS) == list(ops.OPERATIONS)


@pytest.mark.parametrize("name", ops.OPERATIONS)
def test_the_table_of_fields(name: str) -> None:
    operation = ops.OPERATIONS[name]
    defaults = {each.name: each.default for each in fields(operation)}

    def default(field: str) -> str:
        value = defaults[field]
        if ops.params(operation)[field].required:
            return "required"
        if value in (None, ()):
            return ""
        return f"`{value:g}`" if isinstance(value, int | float) else f"`{value}`"

    expected = [
        [f"`{field}`", described(param.kind), default(field), param.about]
        for field, param in ops.params(operation).items()
    ]
    assert rows(SECTIONS[name], "| field | holds | default | |") == expected


@pytest.mark.parametrize("name", ops.OPERATIONS)
def test_the_examples_mean_the_same(name: str) -> None:
    examples = dict(_FENCE.findall(SECTIONS[name]))
    asked = parse_json([json.loads(examples["json"])])
    assert [each.name for each in asked] == [name]
    assert to_text(asked) == examples["text"]
    assert parse_text(examples["text"]) == asked
    program, *words = shlex.split(examples["sh"])
    assert program == "telecine"
    assert read_asked(parser().parse_args(words)).operations == asked


def test_the_examples_at_the_top_mean_the_same() -> None:
    # The last of each kind before the first operation.
    examples = dict(_FENCE.findall(PAGE.read_text().split("\n## `")[0]))
    asked = parse_json(json.loads(examples["json"]))
    assert to_text(asked) == examples["text"]
    words = shlex.split(examples["sh"])[1:]
    assert read_asked(parser().parse_args(words)).operations == asked


def test_the_table_of_formats() -> None:
    def yes(value: bool) -> str:
        return "yes" if value else ""

    table = rows(SECTIONS["convert"], next(
        line for line in SECTIONS["convert"].splitlines() if line.startswith("| format |")
    ))  # fmt: skip
    assert table == [
        [
            f"`{name}`", str(how.quality or ""), yes(how.lossless), yes(how.deep),
            yes(how.progressive), yes(how.animated), yes(how.alpha), ", ".join(how.kept),
            str(how.side or ""),
        ]
        for name in WRITTEN
        for how in [FORMATS[name]]
    ]  # fmt: skip


def test_the_schema_beside_the_page_is_the_one_of_the_grammar() -> None:
    """`WRITE_SCHEMA=1 pytest tests/unit/images/test_reference.py` writes it anew."""
    file = PAGE.with_suffix(".schema.json")
    if os.environ.get("WRITE_SCHEMA"):
        file.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    assert json.loads(file.read_text()) == json_schema()


def test_the_page_names_the_limits() -> None:
    text = " ".join(PAGE.read_text().split())
    assert f"At most {ops.MAX_OPERATIONS} operations" in text
    assert f"longer than {ops.MAX_SIDE} pixels" in text
