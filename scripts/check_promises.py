"""Holds docs/reference/promises.md against the tests that it names.

    python -m scripts.check_promises                        every named test and target exists
    python -m scripts.check_promises --ran unit.xml …       and those of these suites ran and passed
    … --ran unit.xml … --only quick                         but for those that are marked `thorough`
    … --ran thorough-images.xml … --only thorough           those alone, of every suite

A row of the table is a promise and the tests that fail without it: `tests/…/test_x.py::test_y`, or
a make target for what takes too long for `make test`. The JUnit reports are pytest's own. A promise
counts as shown when each of its tests has passed in at least one case and failed in none; of
several reports the last one that names a case counts. A test of which a case was not run for want
of something ("not run: needs …") is told, and counts as a failure when CI=true; a case that is
skipped with other words is none here.

A test is thorough when its function, class or module carries that mark in the source: each is then
asked for by `--only quick` or by `--only thorough`, whatever the reports hold. A mark on some cases
of a test leaves it a quick one, which a mark on all of them would let nobody run.
"""

from __future__ import annotations

import argparse
import ast
import functools
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference" / "promises.md"

Outcome = Literal["passed", "failed", "skipped", "wanting"]
Mark = Literal["quick", "thorough"]
WANTING = "not run:"  # how a skip's reason begins when something is wanting


@dataclass(frozen=True, slots=True)
class Promise:
    line: int
    text: str
    tests: tuple[str, ...]  # node ids without parameters
    targets: tuple[str, ...]  # names of make targets


def read_table(markdown: str) -> list[Promise]:
    """The rows of every table whose last column is headed "Fails without it"."""
    promises = []
    inside = False
    for number, line in enumerate(markdown.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[-1] == "Fails without it":
            inside = True
        elif inside and not set(line) <= set("|-: "):
            names = re.findall(r"`([^`]+)`", cells[-1])
            tests = tuple(name for name in names if "::" in name)
            targets = tuple(n.removeprefix("make ") for n in names if n.startswith("make "))
            promises.append(Promise(number, cells[0], tests, targets))
    return promises


def tests_in(path: Path) -> dict[str, Mark]:
    """The node ids of a test file, relative to it: `test_y`, `TestX::test_y`; none if absent."""
    if not path.is_file():
        return {}
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found = {}
    of_all = any(
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "pytestmark"
        and _thorough(node.value.elts if isinstance(node.value, ast.List) else [node.value])
        for node in body
    )
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = of_all or _thorough(node.decorator_list)
        elif isinstance(node, ast.ClassDef):
            of_class = of_all or _thorough(node.decorator_list)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    marked = of_class or _thorough(inner.decorator_list)
                    found[f"{node.name}::{inner.name}"] = marked
    return {
        name: "thorough" if marked else "quick"
        for name, marked in found.items()
        if name.rpartition("::")[2].startswith("test")
    }


def _thorough(marks: Iterable[ast.expr]) -> bool:
    named = (mark for mark in marks if isinstance(mark, ast.Attribute) and mark.attr == "thorough")
    return any(ast.unparse(mark) == "pytest.mark.thorough" for mark in named)


def targets_in(makefile: str) -> set[str]:
    """The targets that a Makefile defines by name."""
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))


def missing(promises: Iterable[Promise], root: Path) -> list[str]:
    """One line for each promise without a test, and for each named test or target not there."""
    targets = targets_in((root / "Makefile").read_text(encoding="utf-8"))
    tests = functools.cache(tests_in)  # one file holds the tests of many promises
    problems = []
    for promise in promises:
        where = f"{TABLE.name}:{promise.line}"
        if not promise.tests and not promise.targets:
            problems.append(f"{where}: no test: {promise.text}")
        for test in promise.tests:
            file, _, name = test.partition("::")
            if name not in tests(root / file):
                problems.append(f"{where}: no such test: {test}")
        for target in promise.targets:
            if target not in targets:
                problems.append(f"{where}: no such target: make {target}")
    return problems


def cases_in(report: str) -> dict[str, set[Outcome]]:
    """From a JUnit report: node id → how it ended; one that fails twice is there twice."""
    found: dict[str, set[Outcome]] = {}
    for case in ET.fromstring(report).iter("testcase"):
        # "tests.media.test_x.TestY" + "test_z[case]"; a class's name is the one with a capital.
        parts = case.get("classname", "").split(".")
        modules = [part for part in parts if not part[:1].isupper()]
        classes = parts[len(modules) :]
        node = "::".join(["/".join(modules) + ".py", *classes, case.get("name", "")])
        kinds = {child.tag: child.get("message", "") for child in case}
        outcome: Outcome = "passed"
        if kinds.keys() & {"failure", "error"}:
            outcome = "failed"
        elif "skipped" in kinds:
            outcome = "wanting" if kinds["skipped"].startswith(WANTING) else "skipped"
        found.setdefault(node, set()).add(outcome)
    return found


def by_test(cases: Mapping[str, set[Outcome]]) -> dict[str, set[Outcome]]:
    """Node id without parameters → how its cases ended."""
    found: dict[str, set[Outcome]] = {}
    for case, outcomes in cases.items():
        found.setdefault(case.partition("[")[0], set()).update(outcomes)
    return found


def asked_for(
    promises: Iterable[Promise], ran: Iterable[str], only: Mark | None, root: Path
) -> list[str]:
    """The promised tests that should be among the node ids that ran, in order.

    A suite is a folder, `tests/media`: those of one of which nothing ran are not asked for. But the
    thorough ones are, of every suite, since few folders have many.
    """
    marks = functools.cache(tests_in)
    suites = {node.rpartition("/")[0] for node in ran}
    tests = sorted({test for promise in promises for test in promise.tests})
    return [
        test
        for test, (file, _, name) in ((test, test.partition("::")) for test in tests)
        if only == "thorough" or file.rpartition("/")[0] in suites
        if only is None or marks(root / file).get(name) == only
    ]


def not_shown(
    tests: Iterable[str], outcomes: Mapping[str, set[Outcome]]
) -> tuple[list[str], list[str]]:
    """(problems, not or partly run here) among these tests.

    A test that was only skipped lands in the second list, and one that passed with a case wanting:
    on SQLite, say, and PostgreSQL was not there.
    """
    problems, absent = [], []
    for test in tests:
        seen = outcomes.get(test, set())
        if not seen:
            problems.append(f"did not run: {test}")
        elif "failed" in seen:
            problems.append(f"failed: {test}")
        elif "passed" not in seen:
            absent.append(f"not run here: {test}")
        elif "wanting" in seen:
            absent.append(f"partly run here: {test}")
    return problems, absent


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="hold the promises against their tests")
    parser.add_argument("--ran", nargs="+", type=Path, default=[], metavar="JUNIT.xml")
    parser.add_argument("--only", choices=["quick", "thorough"])
    options = parser.parse_args(argv)
    promises = read_table(TABLE.read_text(encoding="utf-8"))
    problems = missing(promises, ROOT)
    absent: list[str] = []
    how = "exist"
    if options.ran:
        cases: dict[str, set[Outcome]] = {}
        for report in options.ran:
            cases |= cases_in(report.read_text(encoding="utf-8"))
        outcomes = by_test(cases)
        tests = asked_for(promises, outcomes, options.only, ROOT)
        failed, absent = not_shown(tests, outcomes)
        problems += failed
        how = f"ran ({len(tests)} of them{f', the {options.only} ones' if options.only else ''})"
    if os.environ.get("CI") == "true":
        problems, absent = problems + absent, []
    if not promises:
        problems.append(f"no promises in {TABLE}")
    for line in [*absent, *problems]:
        print(line, file=sys.stderr)
    print(f"promises: {len(promises)}, whose tests {how}; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
