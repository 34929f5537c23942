"""Pure: films that are joined into one, in words."""

from __future__ import annotations

from collections.abc import Sequence

from telecine.engine.errors import UsageError

# The source and those that follow it: each is an open file and a decoder of the one process that
# makes the sound.
MAX_FILMS = 32


def film_names(count: int) -> list[str]:
    """What the films that follow the source are called among the inputs of a run."""
    return [f"film-{number}" for number in range(2, count + 2)]


def check_concat(count: int, beside: Sequence[str], *, pictures: bool) -> None:
    """`beside` are the wishes that cannot be met where films are joined, in words. Raises
    `UsageError` (`concat_too_many`, `concat_unsupported`)."""
    if count + 1 > MAX_FILMS:
        raise UsageError(
            f"{count + 1} films to be joined: at most {MAX_FILMS}", code="concat_too_many"
        )
    if beside:
        raise UsageError(
            f"{beside[0]} and films to be joined do not go together: do one, then the other",
            code="concat_unsupported",
        )
    if not pictures:
        raise UsageError(
            "files of sound alone are not joined: ask for pictures beside them",
            code="concat_unsupported",
        )
