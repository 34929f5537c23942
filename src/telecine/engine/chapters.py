"""Pure: the chapters of a film: clipped to it, their titles made harmless, and as files.

A title is a stranger's text. It goes into WebVTT, whose players know tags, into JSON and into
reports; into no playlist and no graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction

from telecine.engine.formats.cues import Cue, escaped, milliseconds, printed, write_cues
from telecine.engine.media import Chapter

# What a player looks for in EXT-X-SESSION-DATA, and the form of the JSON that it finds there:
# Apple, "Providing JavaScript Object Notation (JSON) chapters".
HLS_CHAPTERS = "com.apple.hls.chapters"
CHAPTERS_VTT = "chapters.vtt"
CHAPTERS_JSON = "chapters.json"

MAX_CHAPTERS = 1000  # an opera has a hundred
MAX_TITLE = 200


def film_chapters(
    found: Sequence[Chapter], origin_s: Fraction, duration_s: Fraction
) -> tuple[Chapter, ...]:
    """Chapters on the film's own clock, `origin_s` on the source's being its 0: those that lie in
    the film, one at a time, in order, each with a title.

    One that is still on when the next begins ends there; of several that begin in the same
    millisecond the first stays. One that states no end lasts until the next.
    """
    placed: list[Chapter] = []
    for chapter in sorted(found[:MAX_CHAPTERS], key=lambda chapter: chapter.start_s):
        start_s, end_s = chapter.start_s - origin_s, chapter.end_s - origin_s
        if end_s <= start_s:
            end_s = duration_s
        if placed and milliseconds(start_s) <= milliseconds(placed[-1].start_s):
            continue
        if milliseconds(end_s) > milliseconds(start_s):
            placed.append(Chapter(start_s, end_s, chapter.title))
    # Which of them is on is decided before they are clipped: of a clip it is the film's.
    following = [*(chapter.start_s for chapter in placed[1:]), duration_s]
    clipped = [
        Chapter(max(c.start_s, Fraction(0)), min(c.end_s, next_s, duration_s), c.title)
        for c, next_s in zip(placed, following, strict=False)
    ]
    inside = [c for c in clipped if milliseconds(c.end_s) > milliseconds(c.start_s)]
    return tuple(
        Chapter(c.start_s, c.end_s, _title(c.title, number))
        for number, c in enumerate(inside, start=1)
    )


def joined_chapters(
    films: Sequence[tuple[Sequence[Chapter], Fraction, Fraction]], duration_s: Fraction
) -> tuple[Chapter, ...]:
    """The chapters of films that are joined: of each its own, its clock's time where it begins, and
    when that is in the whole. A film without chapters is one."""
    ends_s = [*(at_s for _, _, at_s in films), duration_s][1:]
    found: list[Chapter] = []
    for number, ((own, origin_s, at_s), end_s) in enumerate(zip(films, ends_s, strict=True), 1):
        placed = film_chapters(own, origin_s, end_s - at_s) or (
            Chapter(Fraction(0), end_s - at_s, f"Part {number}"),
        )
        found += [Chapter(c.start_s + at_s, c.end_s + at_s, c.title) for c in placed]
    return tuple(found[:MAX_CHAPTERS])


def _title(text: str | None, number: int) -> str:
    line = " ".join(printed(text or "").split())
    return line[:MAX_TITLE].rstrip() or f"Chapter {number}"


def chapters_vtt(chapters: Sequence[Chapter]) -> str:
    """A WebVTT file of the kind `chapters`, as `<track>` takes it."""
    return write_cues(
        Cue(milliseconds(c.start_s), milliseconds(c.end_s), escaped(c.title or ""))
        for c in chapters
    )


def chapters_json(chapters: Sequence[Chapter]) -> str:
    """What EXT-X-SESSION-DATA points to. The language of titles is not known: FFmpeg tells none."""
    listed = [
        {
            "chapter": number,
            "start-time": milliseconds(chapter.start_s) / 1000,
            "duration": (milliseconds(chapter.end_s) - milliseconds(chapter.start_s)) / 1000,
            "titles": [{"language": "und", "title": chapter.title}],
        }
        for number, chapter in enumerate(chapters, start=1)
    ]
    return json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
