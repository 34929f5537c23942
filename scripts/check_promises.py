"""Holds docs/reference/promises.md against the tests that it names.

    python -m scripts.check_promises                        every named test and target exists
    python -m scripts.check_promises --ran unit.xml …       and those of these suites ran and passed

A row of the table is a promise and the tests that fail without it: `tests/…/test_x.py::test_y`, or
a make target for what takes too long for `make test`. The JUnit reports are pytest's own. A promise
counts as shown when each of its tests has passed in at least one case and failed in none; of
several reports the last one that names a test counts. A test of which a case was not run for want
of something ("not run: needs …") is told, and counts as a failure when CI=true; a case that is
skipped with other words is none here.
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


def tests_in(path: Path) -> set[str]:
    """The node ids of a test file, relative to it: `test_y`, `TestX::test_y`; none if absent."""
    if not path.is_file():
        return set()
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{node.name}::{n.name}" for n in inner)
    return {name for name in found if name.rpartition("::")[2].startswith("test")}


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


def outcomes_in(report: str) -> dict[str, set[Outcome]]:
    """From a JUnit report: node id without parameters → how its cases ended."""
    found: dict[str, set[Outcome]] = {}
    for case in ET.fromstring(report).iter("testcase"):
        # "tests.media.test_x.TestY" + "test_z[case]"; a class's name is the one with a capital.
        parts = case.get("classname", "").split(".")
        modules = [part for part in parts if not part[:1].isupper()]
        classes = parts[len(modules) :]
        name = case.get("name", "").partition("[")[0]
        node = "::".join(["/".join(modules) + ".py", *classes, name])
        kinds = {child.tag: child.get("message", "") for child in case}
        outcome: Outcome = "passed"
        if kinds.keys() & {"failure", "error"}:
            outcome = "failed"
        elif "skipped" in kinds:
            outcome = "wanting" if kinds["skipped"].startswith(WANTING) else "skipped"
        found.setdefault(node, set()).add(outcome)
    return found


def not_shown(
    promises: Iterable[Promise], outcomes: Mapping[str, set[Outcome]]
) -> tuple[list[str], list[str]]:
    """(problems, not or partly run here) among the tests whose suite is one of those that were run.

    A suite is a folder, `tests/media`. A test that was only skipped lands in the second list, and
    one that passed with a case wanting: on SQLite, say, and PostgreSQL was not there.
    """
    suites = {node.rpartition("/")[0] for node in outcomes}
    problems, absent = [], []
    for test in sorted({test for promise in promises for test in promise.tests}):
        if test.partition("::")[0].rpartition("/")[0] not in suites:
            continue
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
    options = parser.parse_args(argv)
    promises = read_table(TABLE.read_text(encoding="utf-8"))
    problems = missing(promises, ROOT)
    absent: list[str] = []
    if options.ran:
        outcomes: dict[str, set[Outcome]] = {}
        for report in options.ran:
            outcomes |= outcomes_in(report.read_text(encoding="utf-8"))
        failed, absent = not_shown(promises, outcomes)
        problems += failed
    if os.environ.get("CI") == "true":
        problems, absent = problems + absent, []
    if not promises:
        problems.append(f"no promises in {TABLE}")
    for line in [*absent, *problems]:
        print(line, file=sys.stderr)
    how = "ran" if options.ran else "exist"
    print(f"promises: {len(promises)}, whose tests {how}; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
