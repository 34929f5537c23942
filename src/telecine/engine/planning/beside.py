"""Pure: what stands beside the film, and from what it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from telecine.engine import chapters as chapter_files
from telecine.engine import peaks
from telecine.engine.beside import Preview, Stills, StillsKind, Waveform
from telecine.engine.ladder import Size, even
from telecine.engine.media import Chapter, FrameIndex
from telecine.engine.plan import FileOutput, Plan, VideoRendition
from telecine.engine.profile import DEFAULT_EVERY_S, file_name
from telecine.engine.timeline import gops_in

# Long sides in pixels. A storyboard's picture is what a player shows above its bar, a thumbnail
# what a list shows, also on a screen of two pixels a point.
STORYBOARD_SIDE = 240
THUMBNAIL_SIDE = 640
PREVIEW_SIDE = 320

# A sheet of 25 is fetched while a finger moves on: 1200×675 pixels, some 150 kB.
SHEET_COLUMNS = 5
SHEET_ROWS = 5
MAX_TILES = 400  # a picture every 18 s in a film of two hours
MAX_THUMBNAILS = 1000

PREVIEW_S = Fraction(5)
PREVIEW_PLACES = 5
PREVIEW_RATE = 10

WAVEFORM_RATE = 48_000


def with_beside(plan: Plan) -> Plan:
    """Add what was asked for beside the film, and with playlists its chapters."""
    profile = plan.profile
    warnings = list(plan.warnings)
    stills = []
    for output in profile.outputs:
        if output.kind == "storyboard":
            stills.append(_storyboard(plan))
        elif output.kind == "thumbnails":
            stills.append(_thumbnails(plan, output.every_s or DEFAULT_EVERY_S, warnings))
    chapters: tuple[Chapter, ...] = ()
    if profile.has("hls") or profile.has("chapters"):
        chapters = _chapters(plan)
        if profile.has("chapters") and not chapters:
            warnings.append("no chapters: the file names none")
    made = replace(
        plan,
        stills=tuple(stills),
        preview=_preview(plan) if profile.has("preview") else None,
        waveform=_waveform(plan) if profile.has("waveform") else None,
        chapters=chapters,
        warnings=tuple(warnings),
    )
    return replace(made, files=(*plan.files, *_files(made)))


def _chapters(plan: Plan) -> tuple[Chapter, ...]:
    timeline = plan.timeline
    if not plan.parts:
        return chapter_files.film_chapters(
            plan.source.chapters, timeline.origin_s, timeline.duration_s
        )
    films = [(plan.film(part).chapters, part.origin_s, timeline.time_s(part.first))
             for part in plan.parts]  # fmt: skip
    return chapter_files.joined_chapters(films, timeline.duration_s)


def _files(plan: Plan) -> list[FileOutput]:
    """The files that are named; the pictures of `Stills` lie in folders beside them."""
    files = []
    for output in plan.profile.outputs:
        match output.kind:
            case "thumbnails":
                files.append(FileOutput("thumbnails", "thumbnails.vtt"))
                files.append(FileOutput("thumbnails", "thumbnails.json"))
            case "waveform":
                files.append(FileOutput("waveform", "waveform.json"))
                files.append(FileOutput("waveform", "waveform.png"))
            case "storyboard" | "preview":
                files.append(FileOutput(output.kind, file_name(output)))
            case _:
                pass
    if plan.chapters:
        files.append(FileOutput("chapters", chapter_files.CHAPTERS_VTT))
        files.append(FileOutput("chapters", chapter_files.CHAPTERS_JSON))
    return files


# --- pictures -----------------------------------------------------------------------------------


def rendition_for(renditions: Sequence[VideoRendition], long_side: int) -> VideoRendition:
    """The smallest that need not be enlarged, else the largest; what every screen shows alike."""
    known = [r for r in renditions if r.video_range == "SDR"] or list(renditions)
    known.sort(key=lambda r: (r.size.pixels, r.ceiling_bps))
    return next((r for r in known if max(r.size.width, r.size.height) >= long_side), known[-1])


def key_gap_s(plan: Plan, rendition: VideoRendition) -> Fraction:
    """The most that may lie between two key pictures of a rendition."""
    timeline, video = plan.timeline, plan.video
    assert video is not None
    if timeline.constant:
        assert timeline.gop_frames is not None
        return timeline.gop_frames / timeline.rate
    table = video.index_table
    assert table is not None
    if rendition.mode == "encode":
        # Forced about every 2 s, on the next picture that there is.
        lengths_s = [timeline.time_s(n + 1) - timeline.time_s(n) for n in range(timeline.segments)]
        late_s = table.max_gap_ticks * video.time_base
        return max(length_s / gops_in(length_s) for length_s in lengths_s) + late_s
    starts = _copied_keys(table)
    ends = [*starts[1:], timeline.boundaries[-1]]
    return max(end - start for start, end in zip(starts, ends, strict=True)) * video.time_base


def last_key_s(plan: Plan, rendition: VideoRendition) -> Fraction:
    """The latest moment at or after which there surely is a key picture."""
    timeline, video = plan.timeline, plan.video
    assert video is not None
    gap_s = key_gap_s(plan, rendition)
    if timeline.constant:
        begin_s = timeline.time_s(timeline.segments - 1)
        return begin_s + (math.ceil((timeline.duration_s - begin_s) / gap_s) - 1) * gap_s
    if rendition.mode == "encode":
        return timeline.duration_s - gap_s
    assert video.index_table is not None
    return _copied_keys(video.index_table)[-1] * video.time_base


def _copied_keys(table: FrameIndex) -> list[int]:
    """Ticks from the first picture of those that start a run in a copy."""
    return [key.ticks - table.first_ticks for key in table.keyframes if key.idr]


def _storyboard(plan: Plan) -> Stills:
    """As often as there are key pictures, or every second, third … of them in a long film."""
    rendition = rendition_for(plan.renditions, STORYBOARD_SIDE)
    gap_s = key_gap_s(plan, rendition)
    skip = max(1, math.ceil(plan.timeline.duration_s / (gap_s * MAX_TILES)))
    return _stills(plan, "storyboard", rendition, skip * gap_s)


def _thumbnails(plan: Plan, asked_s: int, warnings: list[str]) -> Stills:
    # Where a copied film has few key pictures, a smaller rung that is encoded may have more.
    often = [r for r in plan.renditions if key_gap_s(plan, r) <= asked_s]
    rendition = rendition_for(often or plan.renditions, THUMBNAIL_SIDE)
    gap_s = key_gap_s(plan, rendition)
    fewest_s = Fraction(math.ceil(plan.timeline.duration_s / MAX_THUMBNAILS))
    every_s = max(Fraction(asked_s), gap_s, fewest_s)
    if every_s > asked_s:
        why = (
            f"key pictures of {rendition.name} are up to {float(gap_s):.3g} s apart"
            if every_s == gap_s
            else f"at most {MAX_THUMBNAILS} are made"
        )
        warnings.append(f"thumbnails every {float(every_s):.4g} s, not every {asked_s} s: {why}")
    return _stills(plan, "thumbnails", rendition, every_s)


def _stills(plan: Plan, kind: StillsKind, rendition: VideoRendition, every_s: Fraction) -> Stills:
    count = stretches(plan.timeline.duration_s, every_s, last_key_s(plan, rendition))
    columns = rows = 1
    where = "each a file"
    if kind == "storyboard":
        columns = min(SHEET_COLUMNS, count)
        rows = min(SHEET_ROWS, -(-count // columns))
        where = f"{columns} × {rows} on a sheet"
    side = STORYBOARD_SIDE if kind == "storyboard" else THUMBNAIL_SIDE
    return Stills(
        kind=kind,
        rendition=rendition.name,
        every_s=every_s,
        count=count,
        size=within(rendition.size, side),
        columns=columns,
        rows=rows,
        reason=f"{count} key pictures of {rendition.name}, one every {float(every_s):.4g} s, "
        + where,
    )


def stretches(duration_s: Fraction, every_s: Fraction, last_key_s: Fraction) -> int:
    """How many stretches of `every_s` a film has that surely hold a key picture; no two keys lie
    further apart than that. A stretch that the end cuts short may have none: it then belongs
    to the one before."""
    whole = math.floor(duration_s / every_s)
    return max(1, whole + (whole * every_s <= last_key_s))


def within(size: Size, long_side: int) -> Size:
    """The size, made smaller where its long side is more than that; even, as 4:2:0 needs."""
    long = max(size.width, size.height)
    if long <= long_side:
        return size
    width, height = (
        max(2, even(Fraction(side * long_side, long))) for side in (size.width, size.height)
    )
    return Size(width, height)


def _preview(plan: Plan) -> Preview:
    """Pieces from places spread evenly, each from the start of a segment, which needs nothing
    before it. A film too short for five places has longer pieces."""
    rendition = rendition_for(plan.renditions, PREVIEW_SIDE)
    timeline = plan.timeline
    lengths_s = [timeline.time_s(n + 1) - timeline.time_s(n) for n in range(timeline.segments)]
    usual_s = PREVIEW_S / PREVIEW_PLACES
    usable = [n for n, length_s in enumerate(lengths_s) if length_s >= usual_s] or [0]
    places = min(PREVIEW_PLACES, len(usable))
    chosen = tuple(usable[(2 * n + 1) * len(usable) // (2 * places)] for n in range(places))
    most_s = min(PREVIEW_S / places, *(lengths_s[n] for n in chosen))
    each_s = Fraction(max(1, math.floor(most_s * PREVIEW_RATE)), PREVIEW_RATE)
    starts = ", ".join(f"{float(timeline.time_s(n)):.4g}" for n in chosen)
    return Preview(
        rendition=rendition.name,
        segments=chosen,
        each_s=each_s,
        rate=PREVIEW_RATE,
        size=within(rendition.size, PREVIEW_SIDE),
        reason=f"{float(each_s):.2g} s each of {rendition.name} from {starts} s",
    )


# --- sound --------------------------------------------------------------------------------------


def _waveform(plan: Plan) -> Waveform:
    samples = max(1, round(plan.timeline.duration_s * WAVEFORM_RATE))
    window = peaks.samples_per_pixel(samples)
    length = -(-samples // window)
    return Waveform(
        sample_rate=WAVEFORM_RATE,
        samples_per_pixel=window,
        length=length,
        reason=f"{length} peaks of {window} samples, at most {peaks.MAX_LENGTH}",
    )
