"""Pure: WebVTT, values to text and text to values, and cues cut onto a film's segments.

The rules and the words are those of the W3C's WebVTT (https://www.w3.org/TR/webvtt1/, "4.1" for the
file, "6.3" for settings, "6.4" for cue text) and, for segments, of RFC 8216, 3.5. What is read is
read as a player does, which passes over what it does not know; what is written holds only what is
known, so that no text of a stranger can be more than text.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

# Of one track: a talkative film of three hours has 4,000 cues. What exceeds these is left out.
MAX_CUES = 50_000
MAX_CUE_CHARS = 4_000
MAX_CUES_IN_SEGMENT = 200  # and no more are drawn at once
MAX_WRITTEN_CUES = 500_000  # in all segments together: cues that last stand in each

MPEGTS_HZ = 90_000
MPEGTS_WRAP = 1 << 33


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in whole milliseconds. `text` is cue text (6.4), of which one
    that `clean` gave is safe to write; `settings` are where it stands (6.3), "" for below."""

    start_ms: int
    end_ms: int
    text: str
    settings: str = ""


@dataclass(frozen=True, slots=True)
class TimestampMap:
    """X-TIMESTAMP-MAP (RFC 8216, 3.5): cue time `local_ms` is `mpegts` ticks of the pictures."""

    local_ms: int
    mpegts: int

    @property
    def offset_s(self) -> Fraction:
        """What is added to a cue's time for the time of the pictures, whose ticks begin again with
        0 after 26.5 h: the nearest."""
        ticks = self.mpegts - Fraction(self.local_ms * MPEGTS_HZ, 1000)
        return (ticks - round(ticks / MPEGTS_WRAP) * MPEGTS_WRAP) / MPEGTS_HZ


# The timeline of the pictures begins at 0, as that of the cues does.
FROM_THE_START = TimestampMap(0, 0)


def map_at(start_s: Fraction) -> TimestampMap:
    """The map of a segment that begins then. Behind the first turn of the 33 bits players count the
    turns by a segment's own start, so that it is mapped from there."""
    if start_s * MPEGTS_HZ < MPEGTS_WRAP:
        return FROM_THE_START
    local_ms = ceil(start_s * 1000)
    return TimestampMap(local_ms, local_ms * MPEGTS_HZ // 1000 % MPEGTS_WRAP)


@dataclass(frozen=True, slots=True)
class File:
    """A WebVTT file that was read. `broken` counts what stands where a cue should and is none,
    `left` the cues beyond `MAX_CUES`, which are not there, `cut` those whose text is longer than
    `MAX_CUE_CHARS`, of which the rest is not."""

    cues: tuple[Cue, ...]
    timestamp_map: TimestampMap | None
    broken: int
    left: int = 0
    cut: int = 0


# -- reading --------------------------------------------------------------------------------

_TIME = r"(?:([0-9]{1,6}):)?([0-5][0-9]):([0-5][0-9])\.([0-9]{3})"
_TIMES = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t]+(.*))?[ \t]*")
_MAP_LOCAL = re.compile(rf"LOCAL:{_TIME}")
_MAP_MPEGTS = re.compile(r"MPEGTS:([0-9]{1,19})")
_LINE_END = re.compile(r"\r\n|\r|\n")


def _milliseconds(parts: Sequence[str | None]) -> int:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def is_webvtt(text: str) -> bool:
    """Whether the text begins as WebVTT must (4.1)."""
    head = text.removeprefix("\ufeff")[:7]
    return head.startswith("WEBVTT") and head[6:] in ("", " ", "\t", "\r", "\n")


def parse(text: str) -> File:
    """Read a file, as a player does. Cues come in the file's order with their text as it stands
    there; notes, styles and regions are passed over. The caller sees to it that `is_webvtt`."""
    cues: list[Cue] = []
    broken = left = cut = 0
    header, *blocks = _blocks(_LINE_END.split(text.replace("\0", "\ufffd")))
    for block in blocks:
        cue = _cue(block)
        if cue is None:
            broken += not block[0].startswith(("NOTE", "STYLE", "REGION"))
        elif len(cues) < MAX_CUES:
            cut += len(cue.text) > MAX_CUE_CHARS
            cues.append(replace(cue, text=cue.text[:MAX_CUE_CHARS]))
        else:
            left += 1
    return File(tuple(cues), _timestamp_map(header), broken, left, cut)


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The header, then what may be a cue each ("6.1", "collect a WebVTT block"): a block ends with
    an empty line, and where an arrow tells of another cue."""
    block: list[str] = []
    header = True
    for line in lines:
        # Its own times stand in a cue's first line, or in the second behind a name.
        another = "-->" in line and (header or len(block) > 1 or "-->" in "".join(block))
        if block and (not line or another):
            yield block
            block, header = [], False
        if line:
            block.append(line)
    if block:
        yield block


def _timestamp_map(header: Sequence[str]) -> TimestampMap | None:
    line = next((line for line in header if line.startswith("X-TIMESTAMP-MAP=")), "")
    local, mpegts = _MAP_LOCAL.search(line), _MAP_MPEGTS.search(line)
    if local is None or mpegts is None:
        return None
    return TimestampMap(_milliseconds(local.groups()), int(mpegts[1]))


def _cue(block: Sequence[str]) -> Cue | None:
    """A block of lines as a cue: times in the first line, or in the second behind a name."""
    for at in range(min(2, len(block))):
        match = _TIMES.fullmatch(block[at])
        if match is not None:
            times = match.groups()
            start_ms, end_ms = _milliseconds(times[:4]), _milliseconds(times[4:8])
            text = "\n".join(block[at + 1 :])
            return Cue(start_ms, end_ms, text, times[8] or "") if end_ms > start_ms else None
    return None


# -- cleaning -------------------------------------------------------------------------------

_PERCENT = r"(?:100|\d{1,2})(?:\.\d{1,6})?%"
_SETTINGS = {
    "vertical": re.compile(r"rl|lr"),
    "line": re.compile(rf"(?:-?\d{{1,3}}|{_PERCENT})(?:,(?:start|center|end))?"),
    "position": re.compile(rf"{_PERCENT}(?:,(?:line-left|center|line-right))?"),
    "size": re.compile(_PERCENT),
    "align": re.compile(r"start|center|end|left|right"),
}
_TAG = re.compile(r"<(/?)([A-Za-z]+|\d[\d:]*)((?:\.[^\s.<>]*)*)(?:[ \t\n]([^<>]*))?>")
_CLASS = re.compile(r"[A-Za-z0-9_]{1,32}")
_SPANS = ("b", "i", "u", "c", "v", "lang", "ruby", "rt")
_ANNOTATED = ("v", "lang")
_MAX_DEPTH = 16
# Control characters, and those that turn or hide what stands around them beyond their own cue
# (Unicode's bidirectional overrides); WebVTT has lrm and rlm for the rest.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def clean_settings(text: str) -> str:
    """The settings that are known and well-formed, each once, in the file's order (6.3)."""
    found: dict[str, str] = {}
    for word in text[:200].split():
        name, colon, value = word.partition(":")
        pattern = _SETTINGS.get(name)
        if colon and pattern is not None and pattern.fullmatch(value):
            found[name] = value
    return " ".join(f"{name}:{value}" for name, value in found.items())


def escaped(text: str) -> str:
    """Text → cue text that shows it: nothing in it is markup. Its lines may be empty."""
    return html.escape(_UNSEEN.sub("", text), quote=False)


def without_empty_lines(text: str) -> str:
    """Cue text with no line that would end the cue."""
    lines = (line.strip(" \t") for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def clean(text: str) -> str:
    """Cue text → cue text of known tags that are nested and closed; the rest of it is text (6.4).

    What is clean stays as it is.
    """
    pieces: list[str] = []
    open_tags: list[str] = []
    at = 0
    text = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    for tag in _TAG.finditer(text):
        pieces.append(_said(text[at : tag.start()]))
        at = tag.end()
        closing, name, classes, annotation = tag.groups()
        if name not in _SPANS:
            continue  # times of karaoke, and what HTML has
        if closing:
            if name in open_tags:
                while open_tags[-1] != name:
                    pieces.append(f"</{open_tags.pop()}>")
                pieces.append(f"</{open_tags.pop()}>")
        elif len(open_tags) < _MAX_DEPTH and _fits(name, open_tags):
            open_tags.append(name)
            pieces.append(_start_tag(name, classes, annotation))
    pieces.append(_said(text[at:]))
    pieces += [f"</{name}>" for name in reversed(open_tags)]
    return without_empty_lines("".join(pieces))


def _fits(name: str, open_tags: Sequence[str]) -> bool:
    return name != "rt" or "ruby" in open_tags


def _said(text: str) -> str:
    """What stands between tags, character references read, as cue text."""
    return escaped(html.unescape(text))


def _start_tag(name: str, classes: str, annotation: str | None) -> str:
    kept = [word for word in classes.split(".") if _CLASS.fullmatch(word)]
    words = " ".join(_said(annotation or "").split())[:100].rstrip("- ")
    said = f" {words}" if name in _ANNOTATED and words else ""
    return f"<{'.'.join([name, *kept])}{said}>"


# -- onto the film --------------------------------------------------------------------------


def cue_at(start_s: Fraction, end_s: Fraction, text: str, settings: str = "") -> Cue:
    """A cue whose times are rounded down: it is there when the picture of its first moment is, and
    gone when that of its end comes."""
    return Cue(floor(start_s * 1000), floor(end_s * 1000), text, settings)


def placed(cues: Iterable[Cue], duration_s: Fraction) -> list[Cue]:
    """The cues in the order in which they are shown, what lies outside of the film cut off; of
    doubles one."""
    end_ms = floor(duration_s * 1000)
    inside = (
        replace(cue, start_ms=max(0, cue.start_ms), end_ms=min(end_ms, cue.end_ms)) for cue in cues
    )
    shown = dict.fromkeys(cue for cue in inside if cue.end_ms > cue.start_ms and cue.text)
    return sorted(shown, key=lambda cue: (cue.start_ms, cue.end_ms))


def cut(cues: Sequence[Cue], boundaries_s: Sequence[Fraction]) -> tuple[list[list[Cue]], int]:
    """The cues of each segment, and how many are left out somewhere because there are too many.

    A cue that is shown in several segments stands in each of them with the same times, which is how
    players know it again. `boundaries_s` are the segments' starts and the last one's end.
    """
    segments: list[list[Cue]] = [[] for _ in boundaries_s[:-1]]
    starts_ms = [start_s * 1000 for start_s in boundaries_s]
    written, left_out = 0, 0
    for cue in cues:
        first = max(0, bisect_right(starts_ms, cue.start_ms) - 1)
        end = min(bisect_left(starts_ms, cue.end_ms), len(segments))
        room = written + (end - first) <= MAX_WRITTEN_CUES
        whole = room
        for segment in segments[first:end] if room else ():
            if len(segment) < MAX_CUES_IN_SEGMENT:
                segment.append(cue)
                written += 1
            else:
                whole = False
        left_out += not whole
    return segments, left_out


# -- writing --------------------------------------------------------------------------------


def _time(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{thousandths:03d}"


def write(cues: Iterable[Cue], timestamp_map: TimestampMap | None = None) -> str:
    """The text of a file or a segment; of cues whose text is clean."""
    head = "WEBVTT"
    if timestamp_map is not None:
        local = _time(timestamp_map.local_ms)
        head += f"\nX-TIMESTAMP-MAP=MPEGTS:{timestamp_map.mpegts},LOCAL:{local}"
    blocks = [head]
    for cue in cues:
        times = f"{_time(cue.start_ms)} --> {_time(cue.end_ms)} {cue.settings}".rstrip()
        blocks.append(f"{times}\n{cue.text}")
    return "\n\n".join(blocks) + "\n"
