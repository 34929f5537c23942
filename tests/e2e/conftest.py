"""Fixtures of the browser tests: one Chromium, and outputs made once by the command itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import chromium
from tests.e2e.command import TELECINE, Transcode

HERE = Path(__file__).parent
FIRST_PLAY = "first play"  # the property of a test that holds a row of the table at the end


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """From the start of the command to what a viewer sees, of the tests that measured it."""
    found = [
        str(row)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, row in report.user_properties
        if name == FIRST_PLAY and report.when == "call"
    ]
    if found:
        terminalreporter.section("time to first play")
        for line in (
            "| film | player | `master.m3u8` stands | first picture |",
            "|---|---|---|---|",
        ):
            terminalreporter.write_line(line)
        for row in found:
            terminalreporter.write_line(row)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not (HERE / "node_modules").is_dir():
        pytest.fail("the players are not installed: run `npm ci` in tests/e2e", pytrace=False)
    executable = shutil.which("chromium")
    assert executable is not None, 'a test that uses `browser` is marked `needs("chromium")`'
    with chromium(executable) as browser:
        yield browser


@pytest.fixture(scope="session")
def transcode(tmp_path_factory: pytest.TempPathFactory) -> Transcode:
    """Transcodes each named clip once a session: ``transcode(name, make_source, options)``."""
    made: dict[str, Path] = {}

    def run(name: str, make: Callable[[Path], Path], options: Sequence[str]) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source = make(folder)
            argv = [TELECINE, "transcode", str(source), "-o", str(folder / "out"), *options]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
            made[name] = folder / "out"
        return made[name]

    return run
