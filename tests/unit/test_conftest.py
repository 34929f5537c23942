"""What tests/conftest.py promises, shown on a small project with the same conftest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

NEEDS = """
    import pytest
    @pytest.mark.needs("no-such-program")
    def test_needs(): pass
    @pytest.mark.needs("sh")
    def test_has(): pass
"""

CONNECT = """
    import socket, pytest
    @pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
    def test_connect(host):
        with socket.socket() as s:
            s.settimeout(0.5)
            s.connect((host, 9))
    def test_resolve():
        socket.getaddrinfo("telecine.invalid", 80)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    (pytester.path / "tests").mkdir()
    shutil.copy(CONFTEST, pytester.path / "tests")
    pytester.makeini(
        "[pytest]\nmarkers = needs(program): …\naddopts = -ra --import-mode=importlib\n"
    )
    return pytester


def run(project: pytest.Pytester, suite: str, source: str) -> pytest.RunResult:
    file = project.makepyfile(test_it=source)
    (project.path / "tests" / suite).mkdir()
    file.rename(project.path / "tests" / suite / file.name)
    # A process of its own: the audit hook of this one stays out of it.
    return project.runpytest_subprocess()


def test_an_absent_program_is_reported(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = run(project, "media", NEEDS)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*not run: needs no-such-program*"])


def test_an_absent_program_fails_in_ci(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(project, "media", NEEDS)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR*not run: needs no-such-program*"])


def refused(result: pytest.RunResult) -> list[str]:
    """What the guard said, each once, from the failure reports."""
    said = [line for line in result.stdout.lines if line.startswith("E ")]
    return sorted({line.partition("PermissionError: ")[2] for line in said} - {""})


def test_unit_tests_reach_no_network(project: pytest.Pytester) -> None:
    assert refused(run(project, "unit", CONNECT)) == [
        "a test asked for the network: socket.connect '127.0.0.1'",
        "a test asked for the network: socket.connect '192.0.2.1'",
        "a test asked for the network: socket.getaddrinfo 'telecine.invalid'",
    ]


def test_other_tests_reach_only_loopback(project: pytest.Pytester) -> None:
    assert refused(run(project, "media", CONNECT)) == [
        "a test asked for the network: socket.connect '192.0.2.1'",
        "a test asked for the network: socket.getaddrinfo 'telecine.invalid'",
    ]
