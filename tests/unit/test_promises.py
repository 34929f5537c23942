"""The checker of the promises sees it when one has no test, or one that did not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scripts import check_promises as promises

TABLE = """
| Something | Else |
|---|---|
| `not::read` | `nor::this` |

| Promise | Fails without it |
|---|---|
| It works | `tests/media/test_a.py::test_works`, `tests/media/test_a.py::TestB::test_c` |
| At any length | `make test-long` |
| Without a test | none yet |
"""

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.media.test_a" name="test_works[one]"/>
<testcase classname="tests.media.test_a" name="test_works[two]">
  <skipped type="pytest.skip" message="not run: needs PostgreSQL">…</skipped></testcase>
<testcase classname="tests.media.test_a" name="test_holds[one]"/>
<testcase classname="tests.media.test_a" name="test_holds[two]">
  <skipped type="pytest.skip" message="this one does not promise it">…</skipped></testcase>
<testcase classname="tests.media.test_a.TestB" name="test_c"><skipped/></testcase>
<testcase classname="tests.media.test_a" name="test_broken"><failure/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "tests" / "media"
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text(
        "def test_works(): ...\ndef helper(): ...\nclass TestB:\n    def test_c(self): ...\n"
    )
    (tmp_path / "Makefile").write_text("X := y\ntest-long: setup ## slow\n\techo\n")
    return tmp_path


def test_rows_are_read_with_their_tests_and_targets() -> None:
    works, length, without = promises.read_table(TABLE)
    assert works.tests == (
        "tests/media/test_a.py::test_works",
        "tests/media/test_a.py::TestB::test_c",
    )
    assert (length.tests, length.targets) == ((), ("test-long",))
    assert without.text == "Without a test"


def test_a_row_without_a_test_is_a_problem(project: Path) -> None:
    (problem,) = promises.missing(promises.read_table(TABLE), project)
    assert "no test: Without a test" in problem


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests/media/test_a.py::test_gone", "no such test"),
        ("tests/media/test_a.py::helper", "no such test"),
        ("tests/media/test_gone.py::test_works", "no such test"),
        ("make test-gone", "no such target"),
        ("make X", "no such target"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_problem(project: Path, name: str, problem: str) -> None:
    table = f"| Promise | Fails without it |\n|---|---|\n| It works | `{name}` |\n"
    (found,) = promises.missing(promises.read_table(table), project)
    assert problem in found


def test_outcomes_are_gathered_over_a_test_s_cases() -> None:
    assert promises.by_test(promises.cases_in(JUNIT)) == {
        "tests/media/test_a.py::test_works": {"passed", "wanting"},
        "tests/media/test_a.py::test_holds": {"passed", "skipped"},
        "tests/media/test_a.py::TestB::test_c": {"skipped"},
        "tests/media/test_a.py::test_broken": {"failed"},
    }


def test_a_promised_test_must_have_run_and_passed(project: Path) -> None:
    table = "| Promise | Fails without it |\n|---|---|\n"
    for name in ("test_works", "test_holds", "TestB::test_c", "test_broken", "test_left_out"):
        table += f"| It works | `tests/media/test_a.py::{name}` |\n"
    table += "| Elsewhere | `tests/e2e/test_b.py::test_of_a_suite_that_was_not_asked_for` |\n"
    outcomes = promises.by_test(promises.cases_in(JUNIT))
    tests = promises.asked_for(promises.read_table(table), outcomes, None, project)
    problems, absent = promises.not_shown(tests, outcomes)
    assert problems == [
        "failed: tests/media/test_a.py::test_broken",
        "did not run: tests/media/test_a.py::test_left_out",
    ]
    assert absent == [
        "not run here: tests/media/test_a.py::TestB::test_c",
        "partly run here: tests/media/test_a.py::test_works",
    ]


MARKED = """
import pytest
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_in_part(n): ...
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.thorough
def test_whole(n): ...
@pytest.mark.slow
async def test_other(): ...
class TestC:
    def test_quick(self): ...
    @pytest.mark.thorough
    def test_one(self): ...
@pytest.mark.thorough
class TestD:
    def test_one(self): ...
"""


def test_the_thorough_tests_of_a_file_are_known_by_their_mark(tmp_path: Path) -> None:
    file = tmp_path / "test_marked.py"
    file.write_text(MARKED)
    assert promises.tests_in(file) == {
        "test_in_part": "quick",
        "test_whole": "thorough",
        "test_other": "quick",
        "TestC::test_quick": "quick",
        "TestC::test_one": "thorough",
        "TestD::test_one": "thorough",
    }
    for all_of_it in ("pytest.mark.thorough", '[pytest.mark.needs("x"), pytest.mark.thorough]'):
        file.write_text(f"pytestmark = {all_of_it}\n{MARKED}")
        assert set(promises.tests_in(file).values()) == {"thorough"}
    file.write_text(f'pytestmark = pytest.mark.needs("x")\n{MARKED}')
    assert set(promises.tests_in(file).values()) == {"quick", "thorough"}


Main = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def main(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Main:
    """The checker over reports: each is a list of cases of tests/media/test_a.py, `-` if failed."""

    def over(reports: Sequence[Sequence[str]], *options: str) -> tuple[int, list[str]]:
        files = []
        for number, report in enumerate(reports):
            cases = "".join(
                f'<testcase classname="tests.media.test_a" name="{name.removeprefix("-")}">'
                f"{'<failure/>' if name.startswith('-') else ''}</testcase>"
                for name in report
            )
            files.append(str(project / f"{number}.xml"))
            Path(files[-1]).write_text(f"<testsuite>{cases}</testsuite>")
        code = promises.main(["--ran", *files, *options])
        return code, capsys.readouterr().err.splitlines()

    (project / "tests/media/test_a.py").write_text(MARKED)
    names = [f"`tests/media/test_a.py::{name}`" for name in ("test_in_part", "test_whole")]
    (project / "table.md").write_text(
        f"| Promise | Fails without it |\n|---|---|\n| It works | {', '.join(names)} |\n"
    )
    monkeypatch.setattr(promises, "TABLE", project / "table.md")
    monkeypatch.setattr(promises, "ROOT", project)
    return over


QUICK, THOROUGH = ["test_in_part[1]"], ["test_in_part[2]", "test_whole[1]", "test_whole[2]"]


def test_each_lane_is_asked_for_the_promised_tests_that_are_its_own(main: Main) -> None:
    """`make test` misses no thorough one; what neither ran is missed by one of the two."""
    assert main([QUICK], "--only", "quick") == (0, [])
    assert main([THOROUGH], "--only", "thorough") == (0, [])
    assert main([QUICK, THOROUGH]) == (0, [])
    whole = "did not run: tests/media/test_a.py::test_whole"
    assert main([QUICK]) == (1, [whole])
    assert main([["test_in_part[2]"]], "--only", "thorough") == (1, [whole])
    assert main([[]], "--only", "thorough") == (1, [whole])  # of a suite of which nothing ran
    part = "did not run: tests/media/test_a.py::test_in_part"
    assert main([["test_whole[1]"]], "--only", "quick") == (1, [part])
    assert main([[], ["test_whole[1]"]]) == (1, [part])


def test_of_several_reports_the_last_counts(main: Main) -> None:
    """What failed and was run again has passed; what did not is still told, case by case."""
    failed = "failed: tests/media/test_a.py::test_whole"
    broken = ["test_in_part[1]", "-test_whole[1]", "test_whole[2]"]
    assert main([broken]) == (1, [failed])
    assert main([broken, ["test_whole[1]"]]) == (0, [])
    assert main([broken, ["test_whole[2]"]]) == (1, [failed])
