"""Makes subtitles: text tracks and files → WebVTT segments on the picture's grid.

The reading happens in the sandbox (`cues`), once for all tracks of the source and once for each
file beside it; what comes out of it is text, which is cleaned, cut and written here.

    subtitles/NAME/00000.vtt …   a segment of the playlist, for HLS
    subtitles/NAME/index.m3u8    the playlist, as long as the film
    subtitles/NAME/whole.vtt     all cues in one file, for DASH and for whoever wants a file
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from telecine.engine.disk import write_whole
from telecine.engine.errors import InputRefused, StepFailed
from telecine.engine.events import warned
from telecine.engine.formats import ass, webvtt
from telecine.engine.formats.textfile import SubtitleFormat
from telecine.engine.formats.webvtt import Cue
from telecine.engine.joining import film_path, films_of
from telecine.engine.ladder import source_size
from telecine.engine.manifests import FINISHED, subtitle_media, subtitle_name
from telecine.engine.media import SubtitleFile
from telecine.engine.plan import (
    SUBTITLE_WHOLE,
    BurnedIn,
    Plan,
    SubtitleRendition,
    display_of,
)
from telecine.engine.process import Access, Cancel, Finished, Limits, run
from telecine.engine.steps.work import MadeFile, Work
from telecine.engine.timeline import Timeline
from telecine.engine.tools import Tools

MAX_TOLD_BYTES = 64 << 20  # of all tracks together
# A text without an end lasts to the next one, and never longer than this.
ENDLESS_S = Fraction(10)
# A container's clock may be as coarse as this; a time so near a picture's is that picture's.
CLOCK_S = Fraction(1, 1000)

# What texts are set in where they become part of pictures.
FONT = Path(__file__).parents[1] / "images" / "fonts" / "DejaVuSans.ttf"
# White of graphics in HDR: 203 cd/m² of PQ, 75 % of HLG (ITU-R BT.2408, 2.1).
_WHITES = {"smpte2084": 148, "arib-std-b67": 191}

PROBE_LIMITS = Limits(memory_bytes=1 << 30, cpu_s=8, wall_s=8, stall_s=None)
# What was read once is read again, however busy the machine is by then.
_AGAIN_LIMITS = replace(PROBE_LIMITS, cpu_s=60, wall_s=None, stall_s=300)


@dataclass(slots=True)
class _Told:
    """What the child told of one track: times in microseconds on the file's clock."""

    header: str = ""
    cues: list[tuple[int, int | None, str | None, str]] = field(default_factory=list)
    left: int = 0
    cut: int = 0


_Track = SubtitleRendition | BurnedIn


class _Listener:
    """Takes the lines of a child. Raises `StepFailed` (`subtitles_failed`) for what is none of
    them: a child that was taken over may say anything."""

    def __init__(
        self,
        on_read: Callable[[int], object] = lambda _: None,
        on_move: Callable[[], object] = lambda: None,
    ) -> None:
        self.tracks: dict[int, _Told] = {}
        self.format: tuple[SubtitleFormat, str, bool] | None = None
        self.refused: str | None = None
        self._on_read = on_read
        self._on_move = on_move
        self._rest = b""
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_TOLD_BYTES:
            raise StepFailed(
                f"subtitles of more than {MAX_TOLD_BYTES >> 20} MiB", code="subtitles_failed"
            )
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise StepFailed(
                    f"the reader of subtitles said something else: {error}",
                    code="subtitles_failed",
                ) from None

    def _take(self, words: list[Any]) -> None:
        match words:
            case [
                "cue",
                int(track),
                int(start),
                None | int() as end,
                None | str() as how,
                str(text),
            ]:
                self._track(track).cues.append((start, end, how, text))
            case ["header", int(track), str(text)]:
                self._track(track).header = text
            case ["left", int(track), int(number)]:
                self._track(track).left = number
            case ["cut", int(track), int(number)]:
                self._track(track).cut = number
            case ["read", int(time_us)]:
                self._on_read(time_us)
            case ["moved"]:
                self._on_move()
            case ["format", "webvtt" | "ass" | "srt" as kind, str(encoding), bool(guessed)]:
                self.format = kind, encoding, guessed
            case ["refused", str(why)]:
                self.refused = why
            case _:
                raise ValueError("an unknown line")

    def _track(self, number: int) -> _Told:
        return self.tracks.setdefault(number, _Told())


def _command(*words: str) -> list[str]:
    return [sys.executable, "-I", "-m", "telecine.engine.subtitle_reader", *words]


# --- files beside the film -----------------------------------------------------------------------


def probe_side_car(path: Path, tools: Tools, cancel: Cancel | None = None) -> SubtitleFile:
    """What a file of subtitles is; read in the sandbox. Raises `InputRefused`
    (`subtitles_unreadable`) where it is none, `StepFailed` and `Interrupted`."""
    listener = _Listener()
    finished = run(
        _command("file", str(path)),
        sandbox=tools.sandbox,
        limits=PROBE_LIMITS,
        access=Access(read=(path,)),
        sinks={1: listener.feed},
        cancel=cancel,
    )
    _see_whole(listener, finished, path.name)
    assert listener.format is not None
    kind, encoding, guessed = listener.format
    cues = sum(len(told.cues) + told.left for told in listener.tracks.values())
    return SubtitleFile(kind, encoding, guessed, cues)


def _see_whole(listener: _Listener, finished: Finished, name: str) -> None:
    """Raise unless a file was read to its end."""
    why = listener.refused
    if finished.limit is not None:
        why = f"reading it took more than its {finished.limit} limit"
    elif finished.returncode != 0:
        why = "it cannot be read"
    if why is not None or listener.format is None:
        raise InputRefused(
            f"{name}: no subtitles that are read: {why or 'it cannot be read'}",
            code="subtitles_unreadable",
            log_tail=finished.log_tail,
            retryable=finished.limit == "wall",  # the machine may only have been busy
        )


# --- the step ------------------------------------------------------------------------------------


def make_subtitles(work: Work) -> tuple[MadeFile, ...]:
    """All subtitles of a plan. Finished files stay on disk when it fails."""
    plan = work.plan
    said: dict[str, list[_Said]] = {track.name: [] for track in plan.subtitles}
    for film, at_s in films_of(plan):
        tracks = [track for track in film.subtitles if track.stream is not None]
        read = _read_film(work, film, at_s, tracks)
        for track in tracks:
            said[track.name].append(_Said(film, at_s, track, _told_of(work, track, read)))
    files: list[MadeFile] = []
    for track in plan.subtitles:
        work.go_on()
        work.moved()
        if track.input is not None:
            said[track.name].append(_Said(plan, Fraction(0), track, _told_of(work, track, {})))
        cues = [
            cue
            for one in said[track.name]
            for cue in track_cues(
                one.film, one.track, one.told.header, one.told.cues, at_s=one.at_s
            )
        ]
        left = sum(one.told.left for one in said[track.name])
        if left:
            work.warnings.append(f"{track.title}: {left} cues too many are left out")
        work.warnings.extend(_cut_short(track.title, [one.told for one in said[track.name]]))
        if not cues and any(one.told.cues for one in said[track.name]):
            work.warnings.append(f"{track.title}: no cue lies within the film")
        files += _write(work, track, cues)
    return tuple(files)


def _cut_short(what: str, told: Sequence[_Told]) -> list[str]:
    cut = sum(one.cut for one in told)
    said = f"{what}: too long a text in {cut} cues, whose end is left out"
    return [warned("subtitles_cut", said)] if cut else []


@dataclass(frozen=True, slots=True)
class _Said:
    """What a track says in one film, which begins at `at_s`."""

    film: Plan
    at_s: Fraction
    track: SubtitleRendition
    told: _Told


def _told_of(work: Work, track: _Track, read: Mapping[int, _Told]) -> _Told:
    if track.input is not None:
        return _read_file(work, track.input)
    assert track.stream is not None
    return read.get(track.stream, _Told())


def _read_film(
    work: Work, film: Plan, at_s: Fraction, tracks: Sequence[_Track]
) -> Mapping[int, _Told]:
    """What tracks of a film say, from one reading of it."""
    if not tracks:
        return {}
    path = film_path(film, work.source, work.inputs)
    origin_s = film.timeline.origin_s - at_s
    texts = ",".join(str(track.stream) for track in tracks if not track.captions)
    captions = ",".join(str(track.stream) for track in tracks if track.captions)
    listener = _Listener(
        lambda time_us: work.told(float(Fraction(time_us, 10**6) - origin_s)), work.moved
    )
    duration_s = int(film.source.duration_s)
    try:
        work.python(
            _command("source", str(path), texts, captions),
            {1: listener.feed},
            # A film of many gigabytes is read whole where it is no MP4, and no faster than a disk.
            limits=Limits(memory_bytes=2 << 30, cpu_s=120 + duration_s // 4, stall_s=300),
            read=(path,),
            code="reader_failed",
        )
    except StepFailed as failure:
        # A film is not lost for its subtitles, which may be what a stranger broke it with.
        work.warnings.append(f"the subtitles were not read to their end: {failure.message}")
        if failure.code == "subtitles_failed":
            return {}
    return listener.tracks


def _read_file(work: Work, name: str) -> _Told:
    path = work.inputs[name]
    listener = _Listener()
    work.python(
        _command("file", str(path)),
        {1: listener.feed},
        limits=_AGAIN_LIMITS,
        read=(path,),
        code="reader_failed",
    )
    if listener.refused is not None:  # it was read when the plan was made
        raise StepFailed(f"{name}: {listener.refused}", code="subtitles_failed")
    return listener.tracks.get(0, _Told())


def track_cues(
    plan: Plan,
    track: _Track,
    header: str,
    told: list[tuple[int, int | None, str | None, str]],
    *,
    at_s: Fraction = Fraction(0),
) -> list[Cue]:
    """The cues of a track on the film's own clock, in order: from (start, end, settings, text) as
    the reader tells them. Of joined films the clock is the whole's, in which this one begins at
    `at_s`."""
    styles = ass.read_styles(header)
    shift_s, film_s = track.zero_s - plan.timeline.origin_s, plan.timeline.duration_s
    ordered = sorted(told, key=lambda each: each[0])
    starts_us = [start for start, *_ in ordered]
    cues = []
    for number, (start_us, end_us, settings, text) in enumerate(ordered):
        if end_us is None:
            later = next((us for us in starts_us[number + 1 : number + 50] if us > start_us), None)
            end_us = start_us + int(ENDLESS_S * 10**6)
            end_us = end_us if later is None else min(later, end_us)
        if settings is None:
            payload, where = ass.cue_text(text, styles, caption=track.captions)
        else:
            payload, where = webvtt.clean(text), webvtt.clean_settings(settings)
        start_s = max(on_picture(plan.timeline, Fraction(start_us, 10**6) + shift_s), Fraction(0))
        end_s = min(on_picture(plan.timeline, Fraction(end_us, 10**6) + shift_s), film_s)
        cues.append(webvtt.cue_at(at_s + start_s, at_s + end_s, payload, where))
    return webvtt.placed(cues, at_s + film_s)


def on_picture(timeline: Timeline, time_s: Fraction) -> Fraction:
    """The time of the picture that a time means which a coarse clock rounded; else itself."""
    if not timeline.constant or not timeline.frame_ticks:
        return time_s
    frame_s = Fraction(timeline.frame_ticks, timeline.timescale)
    nearest_s = round(time_s / frame_s) * frame_s
    return nearest_s if abs(nearest_s - time_s) <= CLOCK_S else time_s


def _write(work: Work, track: SubtitleRendition, cues: list[Cue]) -> list[MadeFile]:
    timeline = work.plan.timeline
    boundaries_s = [timeline.time_s(n) for n in range(timeline.segments + 1)]
    segments, left_out = webvtt.cut(cues, boundaries_s)
    if left_out:
        work.warnings.append(f"{track.title}: {left_out} cues are left out where too many meet")
    texts = {
        subtitle_name(number): webvtt.write(inside, webvtt.map_at(boundaries_s[number]))
        for number, inside in enumerate(segments)
    }
    texts[SUBTITLE_WHOLE] = webvtt.write(cues)
    texts[FINISHED] = subtitle_media(work.plan)
    files = []
    for name, text in texts.items():
        path = f"{track.folder}/{name}"
        write_whole(work.folder / path, text)
        files.append(MadeFile(path, len(text.encode())))
    return files


# --- burnt in ------------------------------------------------------------------------------------


def burn_text(work: Work) -> str:
    """The text that becomes part of the pictures, as a file of ASS that holds nothing but text."""
    plan, burned = work.plan, work.plan.burned_in
    assert burned is not None
    assert plan.video is not None
    read = _read_film(work, plan, Fraction(0), [burned] if burned.stream is not None else [])
    told = _told_of(work, burned, read)
    work.warnings.extend(_cut_short("the burnt-in subtitles", [told]))
    cues = track_cues(plan, burned, told.header, told.cues)
    if not cues:
        work.warnings.append("there is no text to burn in within the film")
    white = _WHITES.get(plan.video.color.transfer or "", 255)
    return ass.write_events(cues, source_size(display_of(plan.video)), plan.timeline.rate, white)
