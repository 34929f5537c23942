"""What tests/conftest.py promises, shown on a small project with the same conftest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

NEEDS = dedent("""
    import pytest
    @pytest.mark.needs("no-such-program")
    def test_needs(): pass
    @pytest.mark.needs("sh")
    def test_has(): pass
""")

CONNECT = dedent("""
    import socket, pytest
    @pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
    def test_connect(host):
        with socket.socket() as s:
            s.settimeout(0.5)
            s.connect((host, 9))
    def test_resolve():
        socket.getaddrinfo("telecine.invalid", 80)
""")

FILES = {"unit/test_net.py": CONNECT, "media/test_net.py": CONNECT, "media/test_needs.py": NEEDS}


def run(project: Path, *arguments: str, **environment: str) -> list[str]:
    """What pytest prints for `FILES`, in a process of its own: this one's audit hook stays out."""
    for name, source in FILES.items():
        (project / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "tests" / name).write_text(source)
    shutil.copy(CONFTEST, project / "tests")
    (project / "pytest.ini").write_text(
        "[pytest]\nmarkers = needs(program): …\naddopts = -rA --import-mode=importlib\n"
    )
    outside = {name: value for name, value in os.environ.items() if name != "CI"}
    shown = {"COLUMNS": "300", "PY_COLORS": "0"}  # the summary's lines whole
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project,
        env={**outside, **shown, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of one run outside CI: starting pytest takes longer than all that these tests ask."""
    return run(tmp_path_factory.mktemp("project"))


def test_an_absent_program_is_reported(said: list[str]) -> None:
    (skipped,) = [line for line in said if line.startswith("SKIPPED")]
    assert skipped.endswith("not run: needs no-such-program")
    assert "PASSED tests/media/test_needs.py::test_has" in said


def test_an_absent_program_fails_in_ci(tmp_path: Path) -> None:
    said = run(tmp_path, "tests/media/test_needs.py", CI="true")
    (error,) = [line for line in said if line.startswith("ERROR")]
    assert "test_needs" in error
    assert error.endswith("not run: needs no-such-program")
    assert "PASSED tests/media/test_needs.py::test_has" in said


def refused(said: list[str], suite: str) -> list[str]:
    """What the guard said to a suite, each once, from the summary of the failures."""
    failed = [line for line in said if line.startswith(f"FAILED tests/{suite}/")]
    return sorted({line.partition("PermissionError: ")[2] for line in failed} - {""})


def test_unit_tests_reach_no_network(said: list[str]) -> None:
    assert refused(said, "unit") == [
        "a test asked for the network: socket.connect '127.0.0.1'",
        "a test asked for the network: socket.connect '192.0.2.1'",
        "a test asked for the network: socket.getaddrinfo 'telecine.invalid'",
    ]


def test_other_tests_reach_only_loopback(said: list[str]) -> None:
    assert refused(said, "media") == [
        "a test asked for the network: socket.connect '192.0.2.1'",
        "a test asked for the network: socket.getaddrinfo 'telecine.invalid'",
    ]
