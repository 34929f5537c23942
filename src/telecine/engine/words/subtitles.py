"""Pure: what a user may ask of subtitles, in words: files beside the film, and what is burnt in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from telecine.engine.errors import UsageError
from telecine.engine.languages import language_tag

MAX_SIDE_CARS = 32


@dataclass(frozen=True, slots=True)
class SideCar:
    """A file of subtitles beside the film. `language` is a tag of RFC 5646."""

    language: str
    forced: bool = False
    hearing_impaired: bool = False

    @property
    def name(self) -> str:
        """What the file is called among the inputs of a run."""
        kind = "-forced" * self.forced + "-sdh" * self.hearing_impaired
        return f"subtitles-{self.language}{kind}"


@dataclass(frozen=True, slots=True)
class Burn:
    """Subtitles that become part of the pictures: those of a language, or of a stream of the file.
    One of the two is None."""

    language: str | None
    stream: int | None


_SIDE_CAR = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,34})(?::(forced|sdh))?")


def parse_side_car(text: str) -> SideCar:
    """`en`, `en:forced` or `en:sdh` → `SideCar`. Raises `UsageError` (`subtitle_invalid`)."""
    match = _SIDE_CAR.fullmatch(text)
    language = language_tag(match[1]) if match is not None else None
    if match is None or language is None:
        raise UsageError(
            f"subtitles {text[:60]!r}: a language, and forced or sdh where they are so, "
            "such as en, pt-BR:forced or de:sdh",
            code="subtitle_invalid",
        )
    return SideCar(language, match[2] == "forced", match[2] == "sdh")


def check_side_cars(side_cars: tuple[SideCar, ...]) -> None:
    """Raises `UsageError` (`subtitle_twice`, `subtitle_invalid`)."""
    names = [side_car.name for side_car in side_cars]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UsageError(f"two files would both be {doubled[0]}", code="subtitle_twice")
    if len(names) > MAX_SIDE_CARS:
        raise UsageError(
            f"{len(names)} files of subtitles: at most {MAX_SIDE_CARS}", code="subtitle_invalid"
        )


def parse_burn(text: str) -> Burn:
    """`en` or `3` (the number of a stream) → `Burn`. Raises `UsageError` (`subtitle_invalid`)."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        return Burn(None, int(text))
    language = language_tag(text)
    if language is None:
        raise UsageError(
            f"subtitles to burn in {text[:60]!r}: a language or the number of a stream",
            code="subtitle_invalid",
        )
    return Burn(language, None)
