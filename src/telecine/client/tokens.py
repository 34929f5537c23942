"""Who keeps a session's tokens, and lets only one at a time exchange them.

An access token is good for minutes; a refresh token is good once, and gives the next pair. Two who
exchange the same one would look like a thief and end the session, so a keeper serves them in turn:
who comes second gets the pair that the first one fetched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tokens:
    """A session's pair."""

    access: str
    refresh: str


class TokenKeeper(Protocol):
    """Keeps at most one pair. Safe to use from many threads."""

    def current(self) -> Tokens | None:
        """The pair, if there is one."""

    def put(self, tokens: Tokens | None) -> None:
        """Keep this pair from now on; None: none."""

    def renew(self, stale: str, exchange: Callable[[str], Tokens]) -> Tokens | None:
        """A pair whose access token is not `stale`: the one kept, where another caller has renewed
        it already, else what `exchange` makes of the refresh token. None: there is no pair. What
        `exchange` raises comes through, and the pair stays."""


class MemoryKeeper:
    """Keeps the pair as long as the process lives."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._lock = threading.Lock()
        self._tokens = tokens

    def current(self) -> Tokens | None:
        return self._tokens

    def put(self, tokens: Tokens | None) -> None:
        with self._lock:
            self._tokens = tokens

    def renew(self, stale: str, exchange: Callable[[str], Tokens]) -> Tokens | None:
        with self._lock:
            if self._tokens is not None and self._tokens.access == stale:
                self._tokens = exchange(self._tokens.refresh)
            return self._tokens
