"""Pure: a picture that is laid over the film, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from telecine.engine.errors import UsageError

Position = Literal["top-left", "top-right", "bottom-left", "bottom-right", "center"]

INPUT = "watermark"  # what its file is called among the inputs of a run
SMALLEST_SCALE = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class Watermark:
    """`opacity` is from 0 to 1, on top of the picture's own; `scale` its share of the film's
    width."""

    position: Position
    opacity: Fraction
    scale: Fraction


_NUMBER = re.compile(r"\d{1,3}(\.\d{1,6})?|\.\d{1,6}", re.ASCII)


def parse_watermark(text: str) -> Watermark:
    """`top-right,0.5,0.1` → `Watermark`. Raises `UsageError` (`watermark_invalid`)."""
    words = text.split(",")
    if len(words) != 3 or not all(_NUMBER.fullmatch(word) for word in words[1:]):
        raise UsageError(
            f"watermark {text[:60]!r}: position,opacity,scale such as top-right,0.5,0.1",
            code="watermark_invalid",
        )
    return make_watermark(words[0], Fraction(words[1]), Fraction(words[2]))


def make_watermark(position: str, opacity: Fraction, scale: Fraction) -> Watermark:
    """Raises `UsageError` (`watermark_invalid`)."""
    known = {name: name for name in get_args(Position)}
    if position not in known or not 0 <= opacity <= 1 or not SMALLEST_SCALE <= scale <= 1:
        raise UsageError(
            f"watermark: a position of {', '.join(known)}, an opacity from 0 to 1, and as scale a "
            f"share of the film's width from {float(SMALLEST_SCALE):g} to 1",
            code="watermark_invalid",
        )
    return Watermark(known[position], opacity, scale)
