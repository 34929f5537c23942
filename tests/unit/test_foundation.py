"""The files around the code: locks, README, the list of pure modules."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: Path) -> dict[str, tuple[str, str]]:
    """Name → (the rest of its first line, the lines below it that are indented)."""
    text = lock.read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\n]*)\n((?:[ ]+.*\n)*)", text, re.MULTILINE)
    return {name: (first, below) for name, first, below in found}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower() for text in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_a_hash(lock: Path) -> None:
    found = pins(lock)
    starts = [line for line in lock.read_text().splitlines() if not line.startswith((" ", "#"))]
    assert len(found) == len(starts) > 0  # every requirement is a pin
    assert [name for name, (_, below) in found.items() if "--hash=sha256:" not in below] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_an_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|(^|\s)@\s", text, re.MULTILINE)


def test_no_lock_of_the_browser_tests_names_an_address() -> None:
    text = (ROOT / "tests" / "e2e" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    runtime = {name: first for name, (first, _) in pins(ROOT / "requirements/runtime.txt").items()}
    dev = {name: first for name, (first, _) in pins(ROOT / "requirements/dev.txt").items()}
    assert runtime.items() <= dev.items()


def test_every_dependency_is_locked() -> None:
    assert names(PYPROJECT["project"]["dependencies"]) <= set(
        pins(ROOT / "requirements/runtime.txt")
    )
    assert names(PYPROJECT["dependency-groups"]["dev"]) <= set(pins(ROOT / "requirements/dev.txt"))
    assert names(PYPROJECT["build-system"]["requires"]) <= set(pins(ROOT / "requirements/dev.txt"))


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = readme.split("\n## Start\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in block.splitlines()]
    assert commands == ["make demo", "make test"]


def test_every_pure_module_that_is_measured_is_there() -> None:
    for module in PYPROJECT["tool"]["coverage"]["run"]["source_pkgs"]:
        assert (ROOT / "src" / f"{module.replace('.', '/')}.py").is_file(), module
