"""Pure: one film of several that are joined, as a plan of its own.

A chunk lies within one film, so it is made as a chunk of that film's own plan would be, with its
own clock, grid and working copy; only what it becomes is the whole's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from telecine.engine.ladder import Size, even
from telecine.engine.media import VideoStream
from telecine.engine.plan import JoinedFilm, Plan, Span, Step
from telecine.engine.timeline import Timeline

# So near to the output's aspect (DESIGN 5: the same within 0.5 %) bars would be but a line.
_SAME_ASPECT = Fraction(1, 200)


def film_of(plan: Plan, step: Step) -> tuple[Plan, Step]:
    """The plan of the film that a chunk is of, and the step as that plan has it; both as they are
    where nothing is joined."""
    for part in plan.parts:
        if part.first <= step.first < part.end:
            spans = (
                Span(span.rendition, span.first - part.first, span.end - part.first)
                for span in step.spans
            )
            return alone(plan, part), replace(step, spans=tuple(spans))
    return plan, step


def decoded(plan: Plan, step: Step) -> VideoStream | None:
    """The stream of which a chunk's pictures are."""
    for part in plan.parts:
        if part.first <= step.first < part.end:
            return _video(plan, part)
    return plan.video


def _video(plan: Plan, part: JoinedFilm) -> VideoStream | None:
    return next((video for video in plan.film(part).video if video.index == part.video), None)


def films_of(plan: Plan) -> list[tuple[Plan, Fraction]]:
    """The plan of each film, and when it begins in the whole."""
    if not plan.parts:
        return [(plan, Fraction(0))]
    return [(alone(plan, part), plan.timeline.time_s(part.first)) for part in plan.parts]


def alone(plan: Plan, part: JoinedFilm) -> Plan:
    """The plan of one of the films, whose only part it is. Its renditions are the whole's, of sound
    and subtitles those that it has something for, by its own streams."""
    film = plan.film(part)
    streams = {taken.name: taken.stream for taken in part.taken}
    return replace(
        plan,
        source=film,
        video=_video(plan, part),
        audio=next((audio for audio in film.audio if audio.index == part.audio), None),
        deinterlace=part.deinterlace,
        tone_map=part.tone_map,
        working_copy=part.working_copy,
        timeline=part_timeline(plan.timeline, part.first, part.end, part.origin_s),
        sounds=tuple(
            replace(sound, stream=streams[sound.name])
            for sound in plan.sounds
            if sound.name in streams
        ),
        subtitles=tuple(
            replace(track, stream=streams[track.name])
            for track in plan.subtitles
            if track.name in streams
        ),
        parts=(part,),
        cut=part.cut,
    )


def part_timeline(whole: Timeline, first: int, end: int, origin_s: Fraction) -> Timeline:
    """A film's share of the timeline, from 0 on."""
    start = whole.boundaries[first]
    return replace(
        whole,
        origin_s=origin_s,
        boundaries=tuple(ticks - start for ticks in whole.boundaries[first : end + 1]),
        frames=whole.frames[first:end],
    )


def path_of(part: JoinedFilm, source: Path, inputs: Mapping[str, Path]) -> Path:
    return source if part.input is None else inputs[part.input]


def film_paths(plan: Plan, source: Path, inputs: Mapping[str, Path]) -> tuple[Path, ...]:
    """The source, or each of the films that are joined, in their order."""
    return tuple(path_of(part, source, inputs) for part in plan.parts) or (source,)


def film_path(plan: Plan, source: Path, inputs: Mapping[str, Path]) -> Path:
    """Where the source of a plan that `film_of` gave lies."""
    return path_of(plan.parts[0], source, inputs) if plan.parts else source


def working_name(plan: Plan) -> str:
    """What the working copy of such a plan's source is called: each film has one of its own."""
    film = plan.parts[0].input if plan.parts else None
    return "working.mkv" if film is None else f"working-{film}.mkv"


def samples(plan: Plan, part: JoinedFilm, rate: int) -> int:
    """How long the sound of a film is at so many samples a second: sums of them stay with the
    picture, wherever its joins fall between two samples."""
    begin, end = (round(plan.timeline.time_s(n) * rate) for n in (part.first, part.end))
    return end - begin


def fitted(display: tuple[Fraction, Fraction], frame: Size) -> Size:
    """The size in which pictures of this shape fill as much of `frame` as they can; even."""
    width, height = display
    aspect = (width / height) / Fraction(frame.width, frame.height)
    if abs(aspect - 1) <= _SAME_ASPECT:
        return frame
    if aspect > 1:
        return Size(frame.width, max(2, min(frame.height, even(frame.width * height / width))))
    return Size(max(2, min(frame.width, even(frame.height * width / height))), frame.height)
