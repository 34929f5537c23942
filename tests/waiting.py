"""How a test waits for what happens elsewhere: by looking again, never by sleeping long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(holds: Callable[[], Found | None], timeout_s: float = 60) -> Found:
    """Wait until `holds` gives something true; that. Fails the test when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found
