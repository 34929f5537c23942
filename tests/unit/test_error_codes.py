"""docs/reference/errors.md names every error code in the source, with its exit code and whether a
retry can help, and no other."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from telecine.engine import errors
from telecine.engine.errors import MediaError
from telecine.engine.process import Limit

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| .+ \| (\d+) \| (yes|no|depends) \|$", re.M)


@dataclass
class Raised:
    """How a code is raised, over all places."""

    exits: set[int] = field(default_factory=set)
    retries: set[str] = field(default_factory=set)


@functools.cache
def sources() -> list[tuple[str, ast.Module]]:
    """(name, syntax) of every module, parsed once for all tests."""
    paths = sorted((ROOT / "src").rglob("*.py"))
    return [(path.name, ast.parse(path.read_text())) for path in paths]


@functools.cache
def raised_in_source() -> dict[str, Raised]:
    found: dict[str, Raised] = defaultdict(Raised)
    for _, tree in sources():
        for function, codes, retry in _places(tree):
            error = _class_named(function)
            for code in codes:
                found[code].exits.add(error.exit_code)
                found[code].retries.add(retry or ("yes" if error.retryable else "no"))
    return found


def _places(tree: ast.Module) -> Iterator[tuple[str, list[str], str | None]]:
    """(the class raised, the codes, whether a retry helps if it says so) of each error made."""
    for outer in ast.walk(tree):
        if isinstance(outer, ast.ClassDef):
            for call in ast.walk(outer):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                    yield from _place(call, outer.name)
        elif isinstance(outer, ast.Call) and ast.unparse(outer.func) != "super().__init__":
            yield from _place(outer, ast.unparse(outer.func))
        elif isinstance(outer, ast.FunctionDef):
            yield from _defaults(outer)


def _place(call: ast.Call, function: str) -> Iterator[tuple[str, list[str], str | None]]:
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    codes = _texts(words.get("code"))
    if not codes:
        return
    retry = words.get("retryable")
    if isinstance(retry, ast.Constant):
        yield function, codes, "yes" if retry.value else "no"
    elif function.split(".")[-1] == "ffmpeg":  # passes its code on, with its own judgement
        yield "StepFailed", codes, "depends"
    else:
        yield function, codes, None if retry is None else "depends"


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, list[str], str | None]]:
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.arg == "code" and default is not None:
            yield "StepFailed", _texts(default), "depends"


def _texts(node: ast.expr | None) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return [*_texts(one), *_texts(other)]
        case ast.JoinedStr(values=[ast.Constant(value="limit_"), _]):
            return [f"limit_{limit}" for limit in get_args(Limit)]
        case _:
            return []


def _class_named(name: str) -> type[MediaError]:
    found = getattr(errors, name)
    assert isinstance(found, type)
    assert issubclass(found, MediaError)
    return found


def test_the_table_names_every_code_and_no_other() -> None:
    rows = ROW.findall((ROOT / "docs/reference/errors.md").read_text())
    documented = [code for code, *_ in rows]
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == set(raised_in_source())


def test_the_table_states_each_codes_exit_code_and_retry() -> None:
    rows = ROW.findall((ROOT / "docs/reference/errors.md").read_text())
    stated = {code: ({int(exit_code)}, {retry}) for code, exit_code, retry in rows}
    assert stated == {code: (r.exits, r.retries) for code, r in raised_in_source().items()}


def test_every_row_of_the_table_is_read() -> None:
    text = (ROOT / "docs/reference/errors.md").read_text()
    assert len(ROW.findall(text)) == sum(line.startswith("| `") for line in text.splitlines())


def test_codes_are_made_nowhere_that_this_test_cannot_read() -> None:
    """A code that is put together or handed on would escape the table."""
    passed_on = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code" and not _texts(node.value):
                passed_on.append(f"{name}: {ast.unparse(node.value)}")
    assert passed_on == ["encode.py: code"]  # _Work.ffmpeg, whose callers are read instead
