"""Rules on subtitles: they are there for the whole film, at the times of its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import accumulate

from telecine.engine.formats.webvtt import MAX_CUES_IN_SEGMENT, MAX_WRITTEN_CUES, Cue
from telecine.engine.plan import SUBTITLE_WHOLE
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, TextTrack
from telecine.engine.rules.table import Problems, rule

_GRID_MS = 1  # the rounding of two playlists


def _has(found: Found) -> bool:
    return bool(found.texts) or (found.plan is not None and bool(found.plan.subtitles))


@rule("subtitle-group", "RFC 8216 4.3.4.1, 4.3.4.2.1, Apple 9.5", _has)
def _subtitle_group(found: Found) -> tuple[Problems, str]:
    """Every variant names the group of subtitles, which has what the plan says with its language,
    name, and whether it is forced, for the deaf, and shown unasked; the MPD has each too."""
    if found.master is None:
        return [], "no multivariant playlist"
    members = [item for item in found.master.renditions if item.type == "SUBTITLES"]
    groups = {item.group_id for item in members}
    problems = [
        f"{variant.uri} has no group of subtitles"
        for variant in found.master.variants
        if variant.resolution is not None and {variant.subtitles} != groups
    ]
    for track in found.plan.subtitles if found.plan is not None else ():
        item = next((m for m in members if m.uri == f"{track.folder}/index.m3u8"), None)
        if item is None:
            problems.append(f"{track.folder} is not listed")
            continue
        deaf = any("describes-music" in trait for trait in item.characteristics)
        said = (item.name, item.language, item.forced, item.default, deaf)
        wanted = (
            *(track.title, track.language, track.forced, track.default),
            track.hearing_impaired,
        )
        if said != wanted:
            problems.append(f"{track.folder}: {said}, planned {wanted}")
    problems += [f"{uri} is not in the MPD" for uri in _not_in_mpd(found)]
    return problems, ", ".join(item.name for item in members)


def _not_in_mpd(found: Found) -> Iterator[str]:
    sets = found.manifest.adaptation_sets if found.manifest is not None else ()
    urls = {file.url for adaptation in sets for file in adaptation.files}
    for track in found.texts:
        if found.manifest is not None and f"{track.home}/{SUBTITLE_WHOLE}" not in urls:
            yield track.uri


@rule("subtitle-duration", "RFC 8216 3.5, Apple 8.3", _has)
def _subtitle_duration(found: Found) -> tuple[Problems, str]:
    """Subtitles have a finished playlist over the whole film, whose segments begin and end with the
    pictures', whether there is a cue in them or not."""
    problems = []
    grid = _grid(found)
    for track in found.texts:
        if track.playlist is None:
            continue
        if track.playlist.playlist_type != "VOD" or not track.playlist.ended:
            problems.append(f"{track.uri} is no finished playlist")
        ends = _ends(track.playlist.segments)
        if len(ends) != len(grid):
            problems.append(f"{track.uri}: {len(ends)} segments, the pictures have {len(grid)}")
        problems += [
            f"{track.uri}: segment {n} ends at {sec(end)}, the picture's at {sec(wanted)}"
            for n, (end, wanted) in enumerate(zip(ends, grid, strict=False))
            if abs(end - wanted) > Fraction(_GRID_MS, 1000)
        ][:1]
    return problems, f"{len(found.texts)} tracks of {sec(grid[-1]) if grid else 'nothing'}"


def _grid(found: Found) -> list[Fraction]:
    """When each segment ends: by the plan, or as most pictures have it."""
    if found.plan is not None:
        timeline = found.plan.timeline
        return [timeline.time_s(n + 1) for n in range(timeline.segments)]
    return max((_ends(s.playlist.segments) for s in found.pictures), key=len, default=[])


def _ends(segments: tuple[object, ...]) -> list[Fraction]:
    return list(accumulate(segment.duration_s for segment in segments))  # type: ignore[attr-defined]


@rule("subtitle-timestamps", "RFC 8216 3.5", _has)
def _subtitle_timestamps(found: Found) -> tuple[Problems, str]:
    """Every segment of subtitles maps its cues' time 0 to that of the pictures, where they
    begin."""
    problems = []
    count = 0
    for track in found.texts:
        for segment in track.segments:
            if segment.text is None:
                continue
            count += 1
            mapped = segment.text.timestamp_map
            if mapped is None:
                problems.append(f"{segment.path} has no X-TIMESTAMP-MAP")
            elif mapped.offset_s:
                problems.append(f"{segment.path} shifts its cues by {sec(mapped.offset_s)}")
    return problems, f"{count} segments"


@rule("subtitle-cues", "WebVTT 4.1, RFC 8216 3.5", _has)
def _subtitle_cues(found: Found) -> tuple[Problems, str]:
    """Segments of subtitles are WebVTT with nothing broken; each cue lies in its segment, and each
    cue of the whole file stands in every segment in which it is shown."""
    problems: list[str] = []
    for track in found.texts:
        for part in track.segments:
            if part.text is not None and part.text.broken:
                problems.append(f"{part.path}: {part.text.broken} broken cues")
        problems += _misplaced(track)
    cues = sum(len(track.whole.cues) for track in found.texts if track.whole is not None)
    return problems, f"{cues} cues"


def _misplaced(track: TextTrack) -> Iterator[str]:
    """Cues that stand in a segment in which they are not shown, and of each segment the first that
    is not there. What lasts is looked at in each of its segments, so never more than a few."""
    ends_ms = [end_s * 1000 for end_s in _ends(track.playlist.segments if track.playlist else ())]
    whole = sorted(track.whole.cues if track.whole is not None else (), key=lambda c: c.start_ms)
    written = sum(len(part.text.cues) for part in track.segments if part.text is not None)
    # So near to the most of all, whoever cut them may have left out any.
    complete = written + len(track.segments) <= MAX_WRITTEN_CUES
    shown: list[tuple[int, int]] = []  # those that have begun, by their ends
    begun = 0
    for part, start_ms, end_ms in zip(
        track.segments, [Fraction(0), *ends_ms], ends_ms, strict=False
    ):
        while begun < len(whole) and whole[begun].start_ms < end_ms - _GRID_MS:
            heappush(shown, (whole[begun].end_ms, begun))
            begun += 1
        while shown and shown[0][0] <= start_ms + _GRID_MS:
            heappop(shown)
        inside = part.text.cues if part.text is not None else ()
        for cue in inside:
            if cue.start_ms >= end_ms + _GRID_MS or cue.end_ms <= start_ms - _GRID_MS:
                yield f"{part.path}: a cue at {_at(cue)} is not in it"
        if part.text is not None and complete and len(inside) < MAX_CUES_IN_SEGMENT:
            there = set(inside)
            missing = next((whole[n] for _, n in shown if whole[n] not in there), None)
            if missing is not None:
                yield f"{part.path}: the cue at {_at(missing)} is missing"


def _at(cue: Cue) -> str:
    return sec(Fraction(cue.start_ms, 1000))
