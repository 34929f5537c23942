"""The doorbell's protocol: whoever commits work rings, whoever waits for work listens.

A ring carries nothing but the queue's name; it may be lost, doubled or late. Who listens looks into
the database when rung and every `POLL_S` anyway.
"""

from __future__ import annotations

from typing import Protocol

POLL_S = 1.0

TASKS = "tasks"  # there is a task to claim
EVENTS = "events"  # a job told something


class Bell(Protocol):
    """Rings everyone who listens to a queue. Never blocks, never raises."""

    def ring(self, queue: str) -> None: ...

    def listen(self, queue: str) -> Listener:
        """An ear for this queue, for one thread."""


class Listener(Protocol):
    """One listener's ear."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until rung, at most so long; whether it rang. Rings that came before count once."""

    def close(self) -> None: ...
