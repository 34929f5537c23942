"""Pure: WebVTT that names times: chapters, and pictures by when they are shown.

A page reads it beside the film. Subtitles are in `webvtt`, on which this stands; here a cue has one
line and no settings.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from fractions import Fraction
from math import ceil

from telecine.engine.errors import StepFailed
from telecine.engine.formats import webvtt
from telecine.engine.formats.webvtt import Cue as Cue

_JOINERS = "\u200c\u200d"  # not printed themselves, and Persian and Indic words need them


def milliseconds(time_s: Fraction) -> int:
    """What WebVTT counts in, rounded up: at that time the picture of the moment is shown."""
    return ceil(time_s * 1000)


def printed(text: str) -> str:
    """A stranger's text with a space for each character that is not printed."""
    return "".join(c if c.isprintable() or c in _JOINERS else " " for c in text)


def escaped(text: str) -> str:
    """A stranger's text as one line of a cue that shows it."""
    return html.escape(" ".join(printed(text).split()), quote=False)


def write_cues(cues: Iterable[Cue]) -> str:
    """The text of a file; of cues whose text is one line that is escaped."""
    return webvtt.write(cues)


def parse_cues(text: str) -> tuple[Cue, ...]:
    """The cues of what `write_cues` writes. Raises `StepFailed` (`malformed_media`) for all else,
    also where it is WebVTT of another kind."""
    cues = webvtt.parse(text).cues if webvtt.is_webvtt(text) else ()
    if write_cues(cues) != text or any("\n" in c.text or c.settings or not c.text for c in cues):
        raise StepFailed("no WebVTT of one line a cue", code="malformed_media")
    return cues
