"""The files around the code: locks, README, the list of pure modules, the table of all modules."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: Path) -> list[tuple[str, str, str]]:
    """Name, the rest of its line, the indented lines below: the same name may have several pins."""
    text = lock.read_text(encoding="utf-8")
    return re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\n]*)\n((?:[ ]+.*\n)*)", text, re.MULTILINE)


def locked(name: str) -> set[str]:
    return {pin for pin, _, _ in pins(ROOT / "requirements" / name)}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower() for text in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_a_hash(lock: Path) -> None:
    found = pins(lock)
    starts = [line for line in lock.read_text().splitlines() if not line.startswith((" ", "#"))]
    assert len(found) == len(starts) > 0  # every requirement is a pin
    assert [name for name, _, below in found if "--hash=sha256:" not in below] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_an_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|(^|\s)@\s", text, re.MULTILINE)


@pytest.mark.parametrize("folder", ["tests/e2e", "tests/service/tus"])
def test_no_lock_of_npm_names_an_address(folder: str) -> None:
    text = (ROOT / folder / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    runtime, dev = pins(ROOT / "requirements/runtime.txt"), pins(ROOT / "requirements/dev.txt")
    assert {(name, version) for name, version, _ in runtime} <= {
        (name, version) for name, version, _ in dev
    }


def test_every_dependency_is_locked() -> None:
    assert names(PYPROJECT["project"]["dependencies"]) <= locked("runtime.txt")
    assert names(PYPROJECT["project"]["optional-dependencies"]["serve"]) <= locked("runtime.txt")
    assert names(PYPROJECT["dependency-groups"]["dev"]) <= locked("dev.txt")
    assert names(PYPROJECT["dependency-groups"]["thumbor"]) <= locked("thumbor.txt")
    assert names(PYPROJECT["build-system"]["requires"]) <= locked("dev.txt")


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = readme.split("\n## Start\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in block.splitlines()]
    assert commands == ["make serve", "make test"]


def test_contributing_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(targets) > 15
    assert [name for name in targets if not re.search(rf"make {name}\b(?!-)", text)] == []


def test_every_pure_module_that_is_measured_is_there() -> None:
    for module in PYPROJECT["tool"]["coverage"]["report"]["include"]:
        assert list(ROOT.glob(module)), module


ENGINE = ROOT / "src" / "telecine" / "engine"


def table_of_modules() -> list[tuple[int, str]]:
    """(row, module) of docs/explain/architecture.md, the engine's only."""
    text = (ROOT / "docs" / "explain" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `engine/")]
    named = [(n, name) for n, row in enumerate(rows) for name in re.findall("`(.+?)`", row)]
    return [(n, re.sub(r"^engine/|\.py$|/$", "", name)) for n, name in named]


IMPORT = re.compile(r"^ *from (telecine\.engine[.\w]*) import (\([^)]*\)|.+)", re.MULTILINE)

NAME = r"(\w+)(?: as \w+)?"


def imported(path: Path) -> set[str]:
    """The engine's modules that a file imports."""
    lines = IMPORT.findall(path.read_text(encoding="utf-8"))
    names = [f"{module}.{name}" for module, names in lines for name in re.findall(NAME, names)]
    return {name.split(".")[2] for name in names}


def test_the_map_names_every_module_of_the_engine_once_and_downhill() -> None:
    table = table_of_modules()
    files = {path.stem: [path] for path in ENGINE.glob("*.py") if path.stem != "__init__"}
    files |= {
        init.parent.name: list(init.parent.glob("*.py")) for init in ENGINE.glob("*/__init__.py")
    }
    assert sorted(name for _, name in table) == sorted(files)
    row = {name: n for n, name in table}
    assert [
        f"{name} imports {other}, which stands above it"
        for name, paths in files.items()
        for other in sorted(set().union(*map(imported, paths)))
        if row[other] < row[name]
    ] == []


def test_no_statement_returns_what_it_updated() -> None:
    """MariaDB knows no UPDATE … RETURNING."""
    for path in (ROOT / "src" / "telecine" / "service").rglob("*.py"):
        assert not re.search(r"\.returning\(|\bRETURNING\b", path.read_text("utf-8")), path
