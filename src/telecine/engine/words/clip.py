"""Pure: which part of a film is wanted, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from telecine.engine.errors import UsageError

MAX_TIME_S = Fraction(1_000_000)


@dataclass(frozen=True, slots=True)
class Clip:
    """From the first picture at or after `start_s` to the last one before `end_s` (None: to the
    end), on the film's own clock, whose 0 is where it begins to play."""

    start_s: Fraction
    end_s: Fraction | None


_TIME = r"(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,6}(?:\.\d{1,9})?)"
_CLIP = re.compile(rf"(?:{_TIME})?-(?:{_TIME})?", re.ASCII)


def parse_clip(text: str) -> Clip:
    """`00:10-00:40`, `10-40`, `1:02:03.5-` (to the end), `-30` → `Clip`. Times are hours, minutes
    and seconds, or seconds alone.

    Raises `UsageError` (`clip_invalid`).
    """
    match = _CLIP.fullmatch(text)
    if match is None or text == "-":
        raise UsageError(
            f"clip {text[:60]!r}: a start and an end, of which one may be left out, "
            "such as 00:10-00:40, 10-40, 1:02:03.5- or -30",
            code="clip_invalid",
        )
    start, end = match.groups()[:3], match.groups()[3:]
    return make_clip(
        Fraction(0) if start[2] is None else _seconds(text, *start),
        None if end[2] is None else _seconds(text, *end),
    )


def _seconds(text: str, hours: str | None, minutes: str | None, seconds: str) -> Fraction:
    """Beside a larger unit, minutes and seconds are below 60."""
    rest = Fraction(seconds)
    if (minutes is not None and rest >= 60) or (hours is not None and int(minutes or 0) >= 60):
        raise UsageError(
            f"clip {text[:60]!r}: minutes and seconds go up to 59", code="clip_invalid"
        )
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + rest


def make_clip(start_s: Fraction, end_s: Fraction | None) -> Clip:
    """Raises `UsageError` (`clip_invalid`) where nothing lies between the two."""
    if not 0 <= start_s <= MAX_TIME_S or (end_s is not None and not start_s < end_s <= MAX_TIME_S):
        raise UsageError(
            "clip: the start lies at or after 0 and before the end, both within "
            f"{int(MAX_TIME_S)} s",
            code="clip_invalid",
        )
    return Clip(start_s, end_s)
