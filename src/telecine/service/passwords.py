"""Passwords: which are taken, and how they are kept (Argon2id).

Hashing is meant to be dear: at most two hashes are made at once (each takes 64 MiB and four
threads), a bounded number waits for its turn, and who comes on top of that is told to come again,
so that a flood of log-ins neither fills the memory nor takes every thread of the API.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from threading import BoundedSemaphore

from argon2 import extract_parameters
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from telecine.service.domain import Invalid, TooMany

MIN_CHARACTERS, MAX_CHARACTERS = 8, 256


def normalised_password(password: str) -> str:
    """The same text whatever keyboard composed it (NFC, as RFC 8265 has it); nothing is cut off."""
    return unicodedata.normalize("NFC", password)


def check_new_password(password: str, email: str) -> None:
    """Refuse what is too short, too long, or guessed first: a common password, the own address.

    No kind of character is asked for. Raises `Invalid` (`password_short`, `password_long`,
    `password_common`).
    """
    text = normalised_password(password)
    if len(text) < MIN_CHARACTERS:
        raise Invalid(f"a password has at least {MIN_CHARACTERS} characters", code="password_short")
    if len(text) > MAX_CHARACTERS:
        raise Invalid(f"a password has at most {MAX_CHARACTERS} characters", code="password_long")
    if text.casefold() in {*common_passwords(), email, email.partition("@")[0]}:
        raise Invalid("this password is among the first that are guessed", code="password_common")


@cache
def common_passwords() -> frozenset[str]:
    """The bundled list, in small letters."""
    text = files("telecine.service").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


class Hasher:
    """Makes and checks hashes with one set of parameters."""

    def __init__(self, time_cost: int, memory_kib: int, lanes: int) -> None:
        self._costs = (time_cost, memory_kib)
        self._argon2 = PasswordHash((Argon2Hasher(time_cost, memory_kib, lanes),))
        # No password has this hash; checking one against it takes as long as against any other.
        salt, digest = "A" * 22, "A" * 43  # 16 and 32 bytes, all zero
        self.decoy = f"$argon2id$v=19$m={memory_kib},t={time_cost},p={lanes}${salt}${digest}"

    def hash(self, password: str) -> str:
        """What is kept of a password: Argon2's own text, with its parameters and salt."""
        return self._argon2.hash(normalised_password(password))

    def fits(self, password: str, kept: str) -> bool:
        """Whether `kept` is of this password."""
        return self._argon2.verify(normalised_password(password), kept)

    def outdated(self, kept: str) -> bool:
        """Whether this hash was made with less work than is asked for today."""
        parameters = extract_parameters(kept)
        was = (parameters.time_cost, parameters.memory_cost)
        return any(old < new for old, new in zip(was, self._costs, strict=True))


class Passwords:
    """A process's hasher and the queue before it. The parameters are OWASP's and more; tests pass
    lower ones."""

    def __init__(
        self,
        *,
        time_cost: int = 3,
        memory_kib: int = 64 * 1024,
        lanes: int = 4,
        at_once: int = 2,
        waiting: int = 24,
    ) -> None:
        self._hasher = Hasher(time_cost, memory_kib, lanes)
        self._turns = BoundedSemaphore(at_once)
        self._room = BoundedSemaphore(at_once + waiting)

    @contextmanager
    def turn(self) -> Iterator[Hasher]:
        """The hasher, once it is this caller's turn. Raises `TooMany` (`logins_busy`) at once where
        too many wait already."""
        if not self._room.acquire(blocking=False):
            raise TooMany(
                "too many log-ins at this moment: try again", code="logins_busy", retry_after_s=1
            )
        try:
            with self._turns:
                yield self._hasher
        finally:
            self._room.release()
