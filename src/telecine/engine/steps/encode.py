"""Runs one step of a plan: starts FFmpeg, takes what its pipes say, leaves finished files.

`run_step` is a function of (plan, step id, source, folder): it may run in any process, on any
machine, in any order that `needs` allows, and leaves the same bytes. What it leaves in `folder` is
the step's share of the output tree and, written last, `.telecine/steps/<step id>.json`.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from telecine.engine import argv
from telecine.engine.chapters import (
    CHAPTERS_JSON,
    CHAPTERS_VTT,
    chapters_json,
    chapters_vtt,
)
from telecine.engine.disk import (
    disk_failure,
    open_lock,
    read_small,
    working_folder,
    write_whole,
)
from telecine.engine.errors import StepFailed
from telecine.engine.events import warned
from telecine.engine.filters import BURN_TEXT
from telecine.engine.inputs import NO_INPUTS, planned_inputs
from telecine.engine.joining import film_of, film_path, working_name
from telecine.engine.loudness import Level
from telecine.engine.plan import WORK, FileOutput, Plan, Span, Step
from telecine.engine.process import Cancel, Limits, limits_for
from telecine.engine.searching import Choices, Score
from telecine.engine.segments import (
    INIT_NAME,
    Made,
    OnSegment,
    VideoSegments,
    segment_name,
)
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.steps import quality, sounding, storyboard, waveform
from telecine.engine.steps.subtitling import FONT, burn_text, make_subtitles
from telecine.engine.steps.work import (
    STALL_S,
    MadeFile,
    OnProgress,
    Work,
    put,
    put_bytes,
    whole_track,
)
from telecine.engine.timeline import Timeline
from telecine.engine.tools import Tools, see_able
from telecine.engine.words.protection import ContentKey, see_key
from telecine.engine.words.watermark import INPUT

# Chunks in bulk stand behind whoever shows what is there already: a browser, an API, a player.
BULK_NICENESS = 10

LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a finished step left behind, and what it cost."""

    step: str
    plan_id: str
    made: tuple[Made, ...]
    files: tuple[MadeFile, ...]
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    warnings: tuple[str, ...]
    levels: tuple[Level, ...] = ()  # how loud sounds are
    made_with: str = ""  # FFmpeg's version
    choices: Choices | None = None  # of a search
    scores: tuple[Score, ...] = ()  # how good renditions are


def result_path(folder: Path, step_id: str) -> Path:
    return folder / WORK / "steps" / f"{step_id}.json"


def finished_step(plan: Plan, step_id: str, folder: Path, tools: Tools) -> StepResult | None:
    """The result of a step that this plan and this FFmpeg finished in `folder` before, with all
    its files there: another encoder's chunks may not join."""
    try:
        result = from_plain(StepResult, json.loads(read_small(result_path(folder, step_id))))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if result.plan_id != plan.id or result.made_with != tools.version:
        return None
    return result if left_whole(plan, result, folder) else None


def left_whole(plan: Plan, result: StepResult, folder: Path) -> bool:
    """Whether all files that the step left lie in `folder`, by their sizes."""
    for made in result.made:
        home = folder / plan.folder_of(made.rendition)
        wanted = [(segment_name(s.number), s.size_bytes) for s in made.segments]
        if not (home / INIT_NAME).is_file() or not _sizes_match(home, wanted):
            return False
    return _sizes_match(folder, [(file.path, file.size_bytes) for file in result.files])


def _sizes_match(home: Path, wanted: Sequence[tuple[str, int]]) -> bool:
    try:
        return all((home / name).stat().st_size == size for name, size in wanted)
    except OSError:
        return False


def _unheard(*_: object) -> None:
    """Nobody listens."""


def run_step(
    plan: Plan,
    step_id: str,
    source: Path,
    folder: Path,
    *,
    tools: Tools,
    on_segment: OnSegment = _unheard,
    on_progress: OnProgress = _unheard,
    cancel: Cancel | None = None,
    shared: Path | None = None,
    inputs: Mapping[str, Path] = NO_INPUTS,
    key: ContentKey | None = None,
) -> StepResult:
    """Run one step whose `needs` lie in `folder`. Blocks until it is done.

    `inputs` says where the files beside the source lie, by their names in `Plan.inputs`; those that
    the step does not read may be missing.
    `on_segment` hears of each segment once it is whole on disk. `shared` is a folder that the steps
    of this plan on this machine have in common, for the copy of a source that seeks badly; without
    one `folder` is taken to be shared. `key` is that of the profile's protection. Raises
    `UsageError` (`step_unknown`, `input_missing`, `key_missing`, `key_mismatch`), `InputRefused`
    (`input_changed`), `ToolMissing`, `StepFailed` and `Interrupted`; finished segments stay on disk
    then, nothing half-written does, and the step may simply run again.
    """
    see_able(tools, plan)  # it may have been made elsewhere
    step = plan.step(step_id)
    home = folder.resolve()
    common = home / WORK if shared is None else shared.resolve()
    beside = planned_inputs(plan, step, inputs)
    see_key(plan.profile.protection, key)
    work = Work(plan, step, source.resolve(), beside, home, common, tools, cancel, on_progress, key)
    started = time.monotonic()
    try:
        made, files = _do(work, on_segment)
        result = StepResult(
            step=step.id,
            plan_id=plan.id,
            made=made,
            files=files,
            cpu_s=round(work.cpu_s, 3),
            wall_s=round(time.monotonic() - started, 3),
            peak_rss_bytes=work.peak_rss_bytes,
            warnings=tuple(work.warnings),
            levels=tuple(work.levels),
            made_with=tools.version,
            choices=work.choices,
            scores=tuple(work.scores),
        )
        write_whole(result_path(work.folder, step.id), json.dumps(to_plain(result)) + "\n")
    except OSError as error:
        raise disk_failure(error) from error
    return result


def _do(work: Work, on_segment: OnSegment) -> tuple[tuple[Made, ...], tuple[MadeFile, ...]]:
    match work.step.kind:
        case "encode":
            return _encode(work, on_segment), ()
        case "video-copy":
            return _copy_video(work, on_segment), ()
        case "audio":
            return sounding.audio(work, on_segment)
        case "audio-others":
            return sounding.audio_others(work, on_segment), ()
        case "gain":
            return (), sounding.find_gains(work)
        case "loudness":
            sounding.measure(work)
            return (), ()
        case "poster":
            return (), _poster(work)
        case "subtitles":
            return (), make_subtitles(work)
        case "mp4":
            return (), _mp4(work)
        case "search":
            with _film(work, work.plan, needs_copy=work.plan.judges_copy) as film:
                work.choices = quality.search(work, film)
            return (), ()
        case "measure":
            with _film(work, work.plan, needs_copy=work.plan.judges_copy) as film:
                work.scores += quality.measure(work, film)
            return (), ()
        case "storyboard" | "thumbnails":
            return (), storyboard.stills(work)
        case "preview":
            return (), storyboard.preview(work)
        case "waveform":
            return (), waveform.draw(work)
        case "chapters":
            return (), _chapters(work)


# --- pictures ----------------------------------------------------------------------------------


def _writers(work: Work, on_segment: OnSegment) -> list[VideoSegments]:
    """A writer for each span of the step, in their order, as `argv` maps them."""
    plan = work.plan
    renditions = [(plan.rendition(span.rendition), span) for span in work.step.spans]
    return [
        VideoSegments(
            rendition.name,
            work.folder / rendition.folder,
            boundaries=plan.timeline.boundaries,
            first=span.first,
            end=span.end,
            edit_offset_ticks=rendition.edit_offset_ticks,
            # Under a copied rung the source's own frames count, and a damaged one may be lost.
            frames=plan.timeline.frames if plan.timeline.constant else None,
            on_segment=on_segment,
            light=plan.light_of(rendition),
            lock=work.lock(rendition.name),
            # The playlists say that there are none, and of what stands in them they are WebVTT; an
            # encoder is told to write none.
            captions=rendition.mode == "encode" or not rendition.listed,
        )
        for rendition, span in renditions
    ]


def _sinks(
    writers: Sequence[VideoSegments],
) -> dict[int, Callable[[bytes], object]]:
    return {argv.FIRST_OUTPUT_FD + n: writer.feed for n, writer in enumerate(writers)}


def _picture_limits(plan: Plan, rungs: int, span_s: Fraction) -> Limits:
    assert plan.video is not None
    pixels = plan.video.width * plan.video.height
    if plan.parts:  # a small film may be made larger
        pixels = max([pixels, *(rendition.size.pixels for rendition in plan.renditions)])
    return limits_for(pixels, rungs, span_s)


def niceness(plan: Plan, step: Step) -> int:
    """How far a chunk's encoder stands back in line for the CPU."""
    return 0 if step in plan.opening else BULK_NICENESS


def _encode(work: Work, on_segment: OnSegment) -> tuple[Made, ...]:
    writers = _writers(work, on_segment)
    plan, step = film_of(work.plan, work.step)
    span_s = plan.timeline.time_s(step.end) - plan.timeline.time_s(step.first)
    limits = _picture_limits(plan, len(writers), span_s + 60)
    limits = replace(limits, niceness=niceness(work.plan, work.step))
    with _film(work, plan, needs_copy=plan.reads_copy(step)) as film:
        command = argv.encode_chunk(work.tools.ffmpeg, plan, step, film)
        unknown: set[str] = set()
        work.ffmpeg(
            command,
            _sinks(writers),
            limits=limits,
            read=film.read,
            write=film.texts,
            hear=lambda line: unknown.update(_UNKNOWN_LETTER.findall(line)),
        )
    if unknown:
        letters = " ".join(sorted(chr(int(code, 16)) for code in unknown))[:60]
        work.warnings.append(f"the burnt-in subtitles have letters that the font lacks: {letters}")
    made = tuple(writer.finish() for writer in writers)
    work.warnings.extend(missing_pictures(work.plan.timeline, work.step.spans, made))
    return made


def _mark(work: Work) -> tuple[Path, ...]:
    """The watermark, where the step lays one over its pictures."""
    return (work.inputs[INPUT],) if INPUT in work.step.inputs else ()


_UNKNOWN_LETTER = re.compile(r"failed to find any fallback with glyph 0x([0-9A-Fa-f]{2,5}) ")


@contextmanager
def _film(work: Work, plan: Plan, *, needs_copy: bool) -> Iterator[argv.Film]:
    """What the pictures of a step are made of."""
    source = _working_copy(work) if needs_copy else film_path(plan, work.source, work.inputs)
    with _burning(work) as (pictures, texts):
        mark = next(iter(_mark(work)), None)
        yield argv.Film(source, needs_copy, pictures, texts, mark)


@contextmanager
def _burning(work: Work) -> Iterator[tuple[Path | None, Path | None]]:
    """What becomes part of this chunk's pictures: a file of pictures of text, or a folder with text
    and its font, in which the child runs; None is what there is not."""
    burned = work.plan.burned_in
    if burned is None:
        yield None, None
    elif burned.kind == "bitmap":
        plan, source = work.plan, work.source
        yield (
            _made_once(
                work, "burn.mkv", lambda out: _copied(work, plan, source, argv.burn_copy, out)
            ),
            None,
        )
    else:
        text = _made_once(work, BURN_TEXT, lambda out: write_whole(out, burn_text(work)))
        with working_folder(work.folder / WORK, "burn") as scratch:
            for file in (text, FONT):
                shutil.copyfile(file, scratch / file.name)
            yield None, scratch


def missing_pictures(timeline: Timeline, spans: Sequence[Span], made: Sequence[Made]) -> list[str]:
    """A warning for each rendition that has fewer pictures than the source's index: where the
    source's own frame times are kept, nothing stands in for one that does not decode.

    `verify` knows them by the rendition's name and a colon at their start.
    """
    warnings = []
    for span, one in zip(spans, made, strict=True):
        planned = sum(timeline.frames[span.first : span.end])
        count = sum(segment.frames for segment in one.segments)
        if count < planned:
            start_s, end_s = timeline.time_s(span.first), timeline.time_s(span.end)
            warnings.append(
                f"{one.rendition}: from {float(start_s):.1f} s to {float(end_s):.1f} s "
                f"{planned - count} of {planned} pictures are missing, since they do not decode; "
                "the one before each is shown longer"
            )
    return warnings


def _copy_video(work: Work, on_segment: OnSegment) -> tuple[Made, ...]:
    plan = work.plan
    writers = _writers(work, on_segment)
    work.ffmpeg(
        argv.copy_video(work.tools.ffmpeg, plan, work.source),
        _sinks(writers),
        limits=_picture_limits(plan, 0, plan.timeline.duration_s),
        read=(work.source,),
        code="copy_failed",
    )
    made = tuple(writer.finish() for writer in writers)
    if any(writer.freed for writer in writers) and not (plan.video and plan.video.captioned):
        work.warnings.append(
            warned(
                "captions_left_out",
                "closed captions begin later in the pictures than they are looked for: left out",
            )
        )
    return made


@contextmanager
def _locked(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """One process at a time; the lock goes with its process, however that ends. While another has
    it, `wait` is called again and again: it sleeps, or raises to give up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                wait()
        yield


class _CopyWatch:
    """Waits while another step makes the working copy. Raises `Interrupted`, and `StepFailed`
    (`stalled`) when whoever makes it stands still: no file of it grows, and nothing is told."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._seen: set[tuple[int, int]] = set()
        self._moved = time.monotonic()

    def wait(self) -> None:
        self._work.go_on()
        shared = self._work.shared
        seen = {_seen(path) for name in (".copy.*", ".copy.*/*") for path in shared.glob(name)}
        if seen != self._seen:
            self._seen, self._moved = seen, time.monotonic()
            self._work.moved()
        elif time.monotonic() - self._moved > STALL_S:
            raise StepFailed(
                f"the working copy did not grow for {STALL_S:.0f} s", code="stalled", retryable=True
            )
        time.sleep(LOCK_POLL_S)


def _seen(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0  # finished and gone while we looked
    return found.st_size, found.st_mtime_ns


def _working_copy(work: Work) -> Path:
    """The source's pictures in a container that seeks exactly; of joined films those of one."""
    copying = argv.working_copy
    plan, _ = film_of(work.plan, work.step)
    source = film_path(plan, work.source, work.inputs)
    return _made_once(
        work, working_name(plan), lambda output: _copied(work, plan, source, copying, output)
    )


def _copied(
    work: Work, plan: Plan, source: Path, command: Callable[..., list[str]], output: Path
) -> None:
    work.ffmpeg(
        command(work.tools.ffmpeg, plan, source, output),
        {},
        limits=_picture_limits(plan, 0, plan.lead_s + plan.timeline.duration_s),
        read=(source,),
        write=output.parent,
        code="copy_failed",
        on_progress=work.moved,
    )


def _made_once(work: Work, name: str, make: Callable[[Path], object]) -> Path:
    """What several chunks read beside the source; made once a shared folder."""
    copy = work.shared / name
    with _locked(copy.with_suffix(".lock"), _CopyWatch(work).wait):
        if copy.is_file():
            return copy
        with working_folder(work.shared, "copy") as scratch:
            output = scratch / name
            with work.watched(scratch):
                make(output)
            output.replace(copy)
    return copy


# --- files of their own ---------------------------------------------------------------------------


def _poster(work: Work) -> tuple[MadeFile, ...]:
    plan, _ = film_of(work.plan, work.step)  # the first of several films, as it has no segments
    source, size = film_path(plan, work.source, work.inputs), argv.poster_size(work.plan)
    data = b""
    for time_s in dict.fromkeys((plan.poster_time_s, Fraction(0))):
        parts: list[bytes] = []
        mark = work.inputs.get(INPUT)
        command = argv.poster(work.tools.ffmpeg, plan, source, size=size, time_s=time_s, mark=mark)
        limits = replace(_picture_limits(plan, 1, Fraction(60)), wall_s=120.0)
        work.ffmpeg(
            command,
            {argv.FIRST_OUTPUT_FD: parts.append},
            limits=limits,
            read=(source, *_mark(work)),
        )
        data = b"".join(parts)
        if data:
            break
    assert work.step.output is not None
    if not data:
        raise StepFailed("no picture for the poster", code="empty_output")
    write_whole(work.folder / work.step.output, data)
    return (MadeFile(work.step.output, len(data)),)


def _mp4(work: Work) -> tuple[MadeFile, ...]:
    plan = work.plan
    assert work.step.output is not None
    output: FileOutput = next(f for f in plan.files if f.path == work.step.output)
    assert output.rendition is not None
    with working_folder(work.folder / WORK, "mp4") as scratch:
        video = whole_track(work, output.rendition, scratch / "video.mp4")
        sound = None
        if plan.sounds:
            sound = whole_track(work, plan.sounds[0].name, scratch / "sound.mp4")
        command = argv.join_mp4(work.tools.ffmpeg, video, sound, scratch / output.path)
        limits = limits_for(0, 1, plan.timeline.duration_s)
        work.ffmpeg(command, {}, limits=limits, read=(), write=scratch, code="join_failed")
        return put(work, scratch, [output.path])


def _chapters(work: Work) -> tuple[MadeFile, ...]:
    texts = {
        CHAPTERS_VTT: chapters_vtt(work.plan.chapters),
        CHAPTERS_JSON: chapters_json(work.plan.chapters),
    }
    return tuple(put_bytes(work, name, text.encode()) for name, text in texts.items())
