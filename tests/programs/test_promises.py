"""The project's own promises have their tests: the checker itself is held by tests/unit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_tests_that_exist() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_promises"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.fullmatch(r"promises: (\d+), whose tests exist; 0 problems\n", done.stdout)
    assert rows is not None
    assert int(rows[1]) > 50
