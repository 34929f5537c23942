"""Steps that make pictures beside the film: sheets, thumbnails, an animated preview.

They read a rendition's segments, which lie in the folder, and not the source. What they need of
them is put into a film of its own, a few key pictures or a few GOPs long; FFmpeg decodes that in
the sandbox. So a storyboard costs what its pictures cost, however long the film is.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil
from pathlib import Path

from telecine.engine import argv, filters
from telecine.engine.beside import Preview, Stills
from telecine.engine.disk import working_folder
from telecine.engine.errors import StepFailed
from telecine.engine.formats import cmaf
from telecine.engine.formats.cmaf import Fragment, Sample
from telecine.engine.formats.containers import JpegReader
from telecine.engine.formats.cues import Cue, milliseconds, write_cues
from telecine.engine.plan import WORK
from telecine.engine.process import limits_for
from telecine.engine.steps.work import MadeFile, Work, put_bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key picture and when it is shown."""

    time_s: Fraction
    sample: Sample


# --- sheets and thumbnails ----------------------------------------------------------------------


def stills(work: Work) -> tuple[MadeFile, ...]:
    """The JPEGs of the step's `Stills`, then what says which time each belongs to.

    Raises `StepFailed` (`encode_failed`, `picture_count`, `malformed_media`) and `Interrupted`;
    pictures that are whole stay on disk.
    """
    wanted = next(one for one in work.plan.stills if one.kind == work.step.kind)
    made: list[MadeFile] = []
    reader = JpegReader()

    def take(data: bytes) -> None:
        for jpeg in reader.feed(data):
            if len(made) < len(wanted.pictures):
                made.append(put_bytes(work, wanted.pictures[len(made)], jpeg))

    with working_folder(work.folder / WORK, wanted.kind) as scratch:
        film = scratch / "keys.mp4"
        times_s = _key_film(work, wanted, film)
        size = work.plan.rendition(wanted.rendition).size
        work.ffmpeg(
            argv.stills(work.tools.ffmpeg, wanted, film),
            {argv.FIRST_OUTPUT_FD: take},
            limits=limits_for(size.pixels, wanted.per_picture, Fraction(wanted.count)),
            read=(film,),
            on_progress=work.moved,
        )
    if reader.finish() != len(wanted.pictures):
        raise StepFailed(
            f"{reader.count} pictures were made of {len(wanted.pictures)}", code="picture_count"
        )
    ends_s = [*times_s[1:], work.plan.timeline.duration_s]
    spans = [(milliseconds(a), milliseconds(b)) for a, b in zip(times_s, ends_s, strict=True)]
    texts = {f"{wanted.kind}.vtt": index_vtt(wanted, spans)}
    if wanted.kind == "thumbnails":
        texts["thumbnails.json"] = index_json(wanted, spans)
    return (*made, *(put_bytes(work, name, text.encode()) for name, text in texts.items()))


def index_vtt(stills: Stills, spans: list[tuple[int, int]]) -> str:
    """A cue for each picture, from its own time to the next one's; on a sheet its place stands in a
    media fragment (https://www.w3.org/TR/media-frags/, 4.2.2), as players read it."""
    cues = []
    for number, (start_ms, end_ms) in enumerate(spans):
        path, x, y = stills.place(number)
        if stills.per_picture > 1 or stills.kind == "storyboard":
            path += f"#xywh={x},{y},{stills.size.width},{stills.size.height}"
        cues.append(Cue(start_ms, end_ms, path))
    return write_cues(cues)


def index_json(stills: Stills, spans: list[tuple[int, int]]) -> str:
    """The same for programs: times in seconds."""
    listed = [
        {"path": stills.place(n)[0], "start_s": start_ms / 1000, "end_s": end_ms / 1000}
        for n, (start_ms, end_ms) in enumerate(spans)
    ]
    size = {"width": stills.size.width, "height": stills.size.height}
    return json.dumps({**size, "thumbnails": listed}, indent=1) + "\n"


def _key_film(work: Work, wanted: Stills, film: Path) -> list[Fraction]:
    """Write the key pictures as a film, one a second; when each is shown in the real one."""
    init = work.init(wanted.rendition)
    track = cmaf.read_init(init)
    step = track.timescale
    times_s = []
    with film.open("wb") as file:
        file.write(init)
        for number, key in enumerate(_chosen(work, wanted, track)):
            fragment = cmaf.write_fragment(
                [replace(key.sample, pts=number * step)],
                sequence=number + 1,
                base_ticks=number * step,
                end_ticks=(number + 1) * step,
                edit_offset_ticks=track.edit_offset_ticks,
            )
            file.write(fragment)
            times_s.append(key.time_s)
    return times_s


def _chosen(work: Work, wanted: Stills, track: cmaf.Track) -> Iterator[Key]:
    """Of each stretch the first key picture. The plan's stretches all have one, unless pictures of
    a damaged source are missing: then the one before stands for the stretch from its start."""

    @lru_cache(maxsize=2)  # stretches are often shorter than segments
    def keys_in(segment: int) -> list[Key]:
        work.go_on()
        work.moved()
        return list(_keys_in(work.segment(wanted.rendition, segment), track))

    boundaries = work.plan.timeline.boundaries
    last = None
    for number in range(wanted.count):
        start_s = number * wanted.every_s
        segment = bisect_right(boundaries, ceil(start_s * track.timescale)) - 1
        candidates = keys_in(segment)
        if segment + 1 < work.plan.timeline.segments:
            candidates = [*candidates, *keys_in(segment + 1)[:1]]
        found = next((key for key in candidates if key.time_s >= start_s), None)
        if found is not None and found.time_s < start_s + wanted.every_s:
            last = found
        elif last is not None:
            last = replace(last, time_s=start_s)
        else:
            raise StepFailed("the film has no key picture at its start", code="picture_count")
        yield last


def _keys_in(data: bytes, track: cmaf.Track) -> Iterator[Key]:
    for fragment in cmaf.read_segment(data, track):
        first = fragment.samples[0]
        # A copy, so that not all of the segment stays in memory.
        own = replace(first, data=bytes(first.data))
        yield Key(Fraction(first.pts, track.timescale), own)


# --- preview ------------------------------------------------------------------------------------


def preview(work: Work) -> tuple[MadeFile, ...]:
    """The animation. Raises `StepFailed` and `Interrupted`; nothing of it stays then."""
    wanted = work.plan.preview
    assert wanted is not None
    assert work.step.output is not None
    parts: list[bytes] = []
    with working_folder(work.folder / WORK, "preview") as scratch:
        film = scratch / "pieces.mp4"
        film.write_bytes(_pieces_film(work, wanted))
        size = work.plan.rendition(wanted.rendition).size
        pictures_s = Fraction(len(wanted.segments) * filters.PIECE_S)
        work.ffmpeg(
            argv.preview(work.tools.ffmpeg, wanted, film),
            {argv.FIRST_OUTPUT_FD: parts.append},
            limits=limits_for(size.pixels, 1, pictures_s),
            read=(film,),
            on_progress=work.moved,
        )
    if not parts:
        raise StepFailed("no picture for the preview", code="empty_output")
    return (put_bytes(work, work.step.output, b"".join(parts)),)


def _pieces_film(work: Work, wanted: Preview) -> bytes:
    """The pieces as a film, each beginning at a multiple of `filters.PIECE_S`."""
    init = work.init(wanted.rendition)
    track = cmaf.read_init(init)
    runs: list[tuple[int, list[Sample]]] = []  # each with where its piece ends
    for number, segment in enumerate(wanted.segments):
        fragments = cmaf.read_segment(work.segment(wanted.rendition, segment), track)
        begin = fragments[0].samples[0].pts
        base = number * filters.PIECE_S * track.timescale
        end_ticks = begin + ceil(wanted.each_s * track.timescale)
        for samples in _until(fragments, end_ticks, track.edit_offset_ticks):
            moved = [replace(sample, pts=sample.pts - begin + base) for sample in samples]
            runs.append((base + filters.PIECE_S * track.timescale, moved))
    whole = [init]
    starts = [samples[0].pts for _, samples in runs]
    for n, (end_ticks, samples) in enumerate(runs):
        follows = starts[n + 1] if n + 1 < len(runs) else end_ticks
        whole.append(
            cmaf.write_fragment(
                samples,
                sequence=n + 1,
                base_ticks=samples[0].pts,
                end_ticks=follows,
                edit_offset_ticks=track.edit_offset_ticks,
            )
        )
    return b"".join(whole)


def _until(fragments: list[Fragment], end_ticks: int, reorder_ticks: int) -> Iterator[list[Sample]]:
    """The samples that are needed to show all before `end_ticks`: no picture needs a later one in
    decode order. A run is cut where what is left of it reorders no more than whole ones do."""
    for fragment in fragments:
        samples = list(fragment.samples)
        if samples[0].pts >= end_ticks:
            return
        count = 1 + max(n for n, sample in enumerate(samples) if sample.pts < end_ticks)
        while cmaf.reorder_ticks(sample.pts for sample in samples[:count]) > reorder_ticks:
            count += 1
        yield samples[:count]
