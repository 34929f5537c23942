"""Pure: films that are joined into one, in words."""

from __future__ import annotations

from telecine.engine.errors import UsageError

# The source and those that follow it: each is an open file and a decoder of the one process that
# makes the sound.
MAX_FILMS = 32


def film_names(count: int) -> list[str]:
    """What the films that follow the source are called among the inputs of a run."""
    return [f"film-{number}" for number in range(2, count + 2)]


def check_concat(count: int, *, burn: bool, judge: bool) -> None:
    """`burn`: subtitles are to become part of the pictures; `judge`: a quality is aimed at, or is
    measured. Raises `UsageError` (`concat_too_many`, `concat_unsupported`, `quality_of_joined`)."""
    if count + 1 > MAX_FILMS:
        raise UsageError(
            f"{count + 1} films to be joined: at most {MAX_FILMS}", code="concat_too_many"
        )
    if burn:
        raise UsageError(
            "subtitles are not burnt into films that are joined: give them as text, or burn them "
            "into each film first",
            code="concat_unsupported",
        )
    if judge:
        raise UsageError(
            "films that are joined are not measured: aim at a quality with each alone",
            code="quality_of_joined",
        )
