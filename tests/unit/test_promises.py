"""The promises have their tests, and the checker of that sees it when they do not."""

from __future__ import annotations

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


def test_every_promise_names_tests_that_exist() -> None:
    rows = promises.read_table(promises.TABLE.read_text(encoding="utf-8"))
    assert len(rows) > 50
    assert promises.missing(rows, promises.ROOT) == []


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
    assert promises.outcomes_in(JUNIT) == {
        "tests/media/test_a.py::test_works": {"passed", "wanting"},
        "tests/media/test_a.py::test_holds": {"passed", "skipped"},
        "tests/media/test_a.py::TestB::test_c": {"skipped"},
        "tests/media/test_a.py::test_broken": {"failed"},
    }


def test_a_promised_test_must_have_run_and_passed() -> None:
    table = "| Promise | Fails without it |\n|---|---|\n"
    for name in ("test_works", "test_holds", "TestB::test_c", "test_broken", "test_left_out"):
        table += f"| It works | `tests/media/test_a.py::{name}` |\n"
    table += "| Elsewhere | `tests/e2e/test_b.py::test_of_a_suite_that_was_not_asked_for` |\n"
    problems, absent = promises.not_shown(promises.read_table(table), promises.outcomes_in(JUNIT))
    assert problems == [
        "failed: tests/media/test_a.py::test_broken",
        "did not run: tests/media/test_a.py::test_left_out",
    ]
    assert absent == [
        "not run here: tests/media/test_a.py::TestB::test_c",
        "partly run here: tests/media/test_a.py::test_works",
    ]


def test_of_several_reports_the_last_counts(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed and was run again has passed; what did not is still told."""
    name = "tests/media/test_a.py::test_works"
    (project / "table.md").write_text(
        f"| Promise | Fails without it |\n|---|---|\n| It works | `{name}` |\n"
    )
    monkeypatch.setattr(promises, "TABLE", project / "table.md")
    monkeypatch.setattr(promises, "ROOT", project)
    first, again = project / "media.xml", project / "again.xml"
    case = '<s><testcase classname="tests.media.test_a" name="test_works[one]">{}</testcase></s>'
    first.write_text(case.format("<failure/>"))
    again.write_text(case.format(""))
    assert promises.main(["--ran", str(first)]) == 1
    assert capsys.readouterr().err == f"failed: {name}\n"
    assert promises.main(["--ran", str(first), str(again)]) == 0
