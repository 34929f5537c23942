"""docs/reference/errors.md names every error code in the source and no other: those of the
engine and the command with their exit code and whether a retry can help, those of the service with
their status."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeGuard, get_args

from telecine.engine import errors
from telecine.engine.errors import MediaError
from telecine.engine.process import Limit
from telecine.service.api.errors import status_of
from telecine.service.api.routes import tus, uploads
from telecine.service.domain import ServiceError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/errors.md"
HEAD = "| code | meaning | {} | retry |"
ROW = re.compile(r"^\| `(\w+)` \| .+ \| (\d+) \| (yes|no|depends) \|$")

# What `api/errors.py` says of requests that reach no route of ours.
OF_REQUESTS = {
    "invalid_request": 422,
    "bad_request": 400,
    "no_such_route": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
}


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
def places() -> list[tuple[str, list[str], str | None]]:
    """(the class raised, the codes, whether a retry helps if it says so) of each error made."""
    return [place for _, tree in sources() for place in _places(tree)]


@functools.cache
def raised_in_source() -> dict[str, Raised]:
    """The engine's tree, which the command and the client's commands use too."""
    found: dict[str, Raised] = defaultdict(Raised)
    for function, codes, retry in places():
        error = getattr(errors, function, None)
        if isinstance(error, type) and issubclass(error, MediaError):
            for code in codes:
                found[code].exits.add(error.exit_code)
                found[code].retries.add(retry or ("yes" if error.retryable else "no"))
    return found


@functools.cache
def answered_by_the_service() -> dict[str, set[int]]:
    """The service's tree, whose classes are given a status in one place."""
    assert tus.router
    assert uploads.router  # both are imported: the classes of all doors are known
    classes = {error.__name__: error for error in _below(ServiceError)}
    found: dict[str, set[int]] = defaultdict(set)
    for function, codes, _retry in places():
        error = classes.get(function)
        if error is not None:
            for code in codes:
                made = error.__new__(error)
                made.code = code
                found[code].add(status_of(made))
    return found


def _below(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield error
    for kind in error.__subclasses__():
        yield from _below(kind)


def rows(kind: str) -> list[tuple[str, int, str]]:
    """(code, exit code or status, retry) of every table of this kind."""
    lines = PAGE.read_text().splitlines()
    starts = [n + 2 for n, line in enumerate(lines) if line == HEAD.format(kind)]
    tables = [list(takewhile(lambda line: line.startswith("|"), lines[n:])) for n in starts]
    found = [ROW.match(line) for table in tables for line in table]
    return [(row[1], int(row[2]), row[3]) for row in found if row]


def _places(tree: ast.Module) -> Iterator[tuple[str, list[str], str | None]]:
    for outer in ast.walk(tree):
        if isinstance(outer, ast.ClassDef):
            for call in ast.walk(outer):
                if _says_code(call) and ast.unparse(call.func) == "super().__init__":
                    yield from _place(call, outer.name)
        elif _says_code(outer) and ast.unparse(outer.func) != "super().__init__":
            yield from _place(outer, ast.unparse(outer.func))
        elif isinstance(outer, ast.FunctionDef):
            yield from _defaults(outer)


def _says_code(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and any(word.arg == "code" for word in node.keywords)


def _place(call: ast.Call, function: str) -> Iterator[tuple[str, list[str], str | None]]:
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    codes = _texts(words.get("code"))
    if not codes:
        return
    retry = words.get("retryable")
    if isinstance(retry, ast.Constant):
        yield function, codes, "yes" if retry.value else "no"
    elif function.split(".")[-1] in (
        "ffmpeg",
        "python",
    ):  # passes its code on, with its own judgement
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


def test_the_table_names_every_code_and_no_other() -> None:
    documented = [code for code, *_ in rows("exit")]
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == set(raised_in_source())


def test_the_table_states_each_codes_exit_code_and_retry() -> None:
    stated = {code: ({exit_code}, {retry}) for code, exit_code, retry in rows("exit")}
    assert stated == {code: (r.exits, r.retries) for code, r in raised_in_source().items()}


def test_the_tables_of_the_service_name_every_code_with_its_status() -> None:
    documented = [code for code, *_ in rows("status")]
    assert sorted(documented) == sorted(set(documented))
    # What the engine says, and what a route hands on of it, stands in the engine's table.
    engine = raised_in_source()
    answered = answered_by_the_service().items()
    raised = {code: sorted(found) for code, found in answered if code not in engine}
    of_requests = {code: [status] for code, status in OF_REQUESTS.items()}
    assert {code: [status] for code, status, _ in rows("status")} == raised | of_requests


def test_every_row_of_the_tables_is_read() -> None:
    lines = PAGE.read_text().splitlines()
    assert len(rows("exit") + rows("status")) == sum(line.startswith("| `") for line in lines)


def test_codes_are_made_nowhere_that_this_test_cannot_read() -> None:
    """A code that is put together or handed on would escape the tables."""
    passed_on = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code" and not _texts(node.value):
                passed_on.append(f"{name}: {ast.unparse(node.value)}")
    assert sorted(passed_on) == [
        "completion.py: upload.error['code']",  # of the first completion, told again
        "domain.py: code",  # hands on what its callers say
        "errors.py: error.code",  # in a line of the log
        "image_plans.py: code",  # the engine's, and three that others make too
        "image_refusals.py: told['code']",  # the engine's, told again
        "orders.py: error.code",  # the engine's
        "queue.py: WORKER_LOST",  # of a task, in an event
        "queue.py: code",
        "queue.py: code",
        "remote.py: code",  # the service's, as it came
        "remote.py: error.code",
        "remote.py: upload.error.code",
        "wire.py: code",  # of an image worker: one of `CODES`, which its modules name
        "work.py: code",  # Work.ffmpeg and Work.python, whose callers are read instead
    ]
