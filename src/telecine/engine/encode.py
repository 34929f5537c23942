"""Runs one step of a plan: starts FFmpeg, takes what its pipes say, leaves finished files.

`run_step` is a function of (plan, step id, source, folder): it may run in any process, on any
machine, in any order that `needs` allows, and leaves the same bytes. What it leaves in `folder` is
the step's share of the output tree and, written last, `.telecine/steps/<step id>.json`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from telecine.engine import argv
from telecine.engine.disk import (
    disk_failure,
    open_lock,
    read_small,
    working_folder,
    write_whole,
)
from telecine.engine.encoders import AAC_FRAME_SAMPLES
from telecine.engine.errors import Interrupted, StepFailed
from telecine.engine.plan import WORK, FileOutput, Plan, Span, Step
from telecine.engine.process import Access, Cancel, Finished, Limits, limits_for, run
from telecine.engine.segments import (
    INIT_NAME,
    AudioSegments,
    Made,
    OnSegment,
    VideoSegments,
    segment_name,
)
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.timeline import Timeline
from telecine.engine.tools import Tools

# Chunks in bulk stand behind whoever shows what is there already: a browser, an API, a player.
BULK_NICENESS = 10

STALL_S = 60.0  # without a frame or a byte: a child that hangs is ended

# Seconds of the step's own span that are done: the most that was told counts. Work that is in no
# seconds of the span, such as copying a source that seeks badly, tells 0 whenever it moves.
OnProgress = Callable[[float], None]

LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class MadeFile:
    path: str  # relative to DIR
    size_bytes: int


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
    made_with: str = ""  # FFmpeg's version


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
) -> StepResult:
    """Run one step whose `needs` lie in `folder`. Blocks until it is done.

    `on_segment` hears of each segment once it is whole on disk. `shared` is a folder that the steps
    of this plan on this machine have in common, for the copy of a source that seeks badly; without
    one `folder` is taken to be shared. Raises `UsageError`
    (`step_unknown`), `StepFailed` and `Interrupted`; finished segments stay on disk then, nothing
    half-written does, and the step may simply run again.
    """
    step = plan.step(step_id)
    home = folder.resolve()
    common = home / WORK if shared is None else shared.resolve()
    work = _Work(plan, step, source.resolve(), home, common, tools, cancel, on_progress)
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
            made_with=tools.version,
        )
        write_whole(result_path(work.folder, step.id), json.dumps(to_plain(result)) + "\n")
    except OSError as error:
        raise disk_failure(error) from error
    return result


def _do(work: _Work, on_segment: OnSegment) -> tuple[tuple[Made, ...], tuple[MadeFile, ...]]:
    match work.step.kind:
        case "encode":
            return _encode(work, on_segment), ()
        case "video-copy":
            return _copy_video(work, on_segment), ()
        case "audio":
            return _audio(work, on_segment)
        case "poster":
            return (), _poster(work)
        case "mp4":
            return (), _mp4(work)


class _Work:
    """One step while it runs: what it works on and what it has cost."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        source: Path,
        folder: Path,
        shared: Path,
        tools: Tools,
        cancel: Cancel | None,
        on_progress: OnProgress,
    ) -> None:
        self.plan = plan
        self.step = step
        self.source = source
        self.folder = folder
        self.shared = shared
        self.tools = tools
        self.cpu_s = 0.0
        self.peak_rss_bytes = 0
        self.warnings: list[str] = []
        self._cancel = cancel
        self._on_progress = on_progress

    def go_on(self) -> None:
        """Raise `Interrupted` once the work is cancelled: between pieces that no child does."""
        if self._cancel is not None and self._cancel.is_set():
            raise Interrupted

    def moved(self, _done_s: float = 0.0) -> None:
        """Tell of work that is in no seconds of the step's span."""
        self._on_progress(0.0)

    def _where(self) -> str:
        """The part of the source that this step reads, for a warning."""
        if self.step.kind != "encode":
            return "sound" if self.step.kind == "audio" else "picture"
        start_s = self.plan.timeline.time_s(self.step.first)
        end_s = self.plan.timeline.time_s(self.step.end)
        return f"picture from {float(start_s):.1f} s to {float(end_s):.1f} s"

    def ffmpeg(
        self,
        command: list[str],
        sinks: dict[int, Callable[[bytes], object]],
        *,
        limits: Limits,
        read: tuple[Path, ...],
        write: Path | None = None,
        code: str = "encode_failed",
        on_progress: OnProgress | None = None,
    ) -> Finished:
        """Run FFmpeg to its end. Raises `StepFailed` with what it said last unless it succeeded."""
        progress = _ProgressReader(on_progress or self._on_progress)
        complaints: list[str] = []
        finished = run(
            command,
            sandbox=self.tools.sandbox,
            limits=limits,
            access=Access(read=read, write=write),
            sinks={argv.PROGRESS_FD: progress.feed, **sinks},
            cancel=self._cancel,
            on_line=lambda line: _note_damage(line, complaints),
        )
        if complaints:
            damage = f"{self._where()}: damaged, {_counted(complaints)}"
            self.warnings.append(damage + made_good(self.plan, self.step))
        self.cpu_s += finished.cpu_s
        self.peak_rss_bytes = max(self.peak_rss_bytes, finished.peak_rss_bytes)
        if finished.limit is not None:
            raise StepFailed(
                f"step {self.step.id}: FFmpeg reached its {finished.limit} limit",
                code=f"limit_{finished.limit}",
                argv=command,
                log_tail=finished.log_tail,
                retryable=finished.limit in ("wall", "stall"),
            )
        if finished.returncode != 0:
            if any("No space left on device" in line for line in finished.log_tail):
                raise disk_failure(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            raise StepFailed(
                f"step {self.step.id}: FFmpeg ended with {finished.returncode}",
                code=code,
                argv=command,
                log_tail=finished.log_tail,
                retryable=finished.signal is not None,
            )
        return finished


# What FFmpeg's decoders and demuxers say of broken input. Lines about timestamps are left out: odd
# clocks are common, and the timeline is ours.
_DAMAGE = re.compile(
    r"(?i)error while decoding|error submitting packet|concealing|corrupt|invalid data found"
    r"|invalid nal|decode_slice|non-existing pps|bitstream|truncated|partial file|damaged"
)
_MAX_COMPLAINTS = 1000


def _note_damage(line: str, complaints: list[str]) -> bool:
    """Keep a line that tells of broken input; whether it counts as progress: it does not."""
    if len(complaints) < _MAX_COMPLAINTS and _DAMAGE.search(line):
        complaints.append(re.sub(r"^(\[[^\]]*\] *)+", "", line))
    return False


def _counted(complaints: Sequence[str]) -> str:
    """How often the decoder complained, with its most frequent words."""
    words, _ = Counter(complaints).most_common(1)[0]
    times = f"{len(complaints)} times" if len(complaints) > 1 else "once"
    return f"the decoder complained {times} ({words[:80]})"


def made_good(plan: Plan, step: Step) -> str:
    """What a viewer gets where the source that `step` reads is damaged: the end of a warning."""
    match step.kind:
        case "encode" if plan.timeline.constant:
            return "; where pictures are missing the one before is held"
        case "encode":  # under a copied rung, on the source's own frame times
            return "; pictures that do not decode are left out, the one before is shown longer"
        case "video-copy":
            return "; copied as it is"
        case "audio" if plan.audio_rendition is not None and plan.audio_rendition.mode == "copy":
            return "; copied as it is"
        case "audio":
            return "; silence fills what is missing"
        case _:
            return ""


class _ProgressReader:
    """FFmpeg's `-progress` lines. Raises `StepFailed` (`stalled`) when time and frames stand still,
    which a limit on silence cannot see, since these lines keep coming."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._rest = b""
        self._state: tuple[bytes, ...] = ()
        self._moved = time.monotonic()

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        values = dict(line.split(b"=", 1) for line in lines if b"=" in line)
        state = tuple(values.get(key, b"") for key in (b"frame", b"out_time_us", b"total_size"))
        if state != self._state:
            self._state = state
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > STALL_S:
            raise StepFailed(
                f"FFmpeg made no frame for {STALL_S:.0f} s", code="stalled", retryable=True
            )
        done = values.get(b"out_time_us", b"")
        if done.isdigit():
            self._on_progress(int(done) / 1_000_000)


# --- pictures ----------------------------------------------------------------------------------


def _writers(work: _Work, on_segment: OnSegment) -> list[VideoSegments]:
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
        )
        for rendition, span in renditions
    ]


def _sinks(
    writers: Sequence[VideoSegments | AudioSegments],
) -> dict[int, Callable[[bytes], object]]:
    return {argv.FIRST_OUTPUT_FD + n: writer.feed for n, writer in enumerate(writers)}


def _picture_limits(plan: Plan, rungs: int, span_s: Fraction) -> Limits:
    assert plan.video is not None
    return limits_for(plan.video.width * plan.video.height, rungs, span_s)


def niceness(plan: Plan, step: Step) -> int:
    """How far a chunk's encoder stands back in line for the CPU."""
    return 0 if step in plan.opening else BULK_NICENESS


def _encode(work: _Work, on_segment: OnSegment) -> tuple[Made, ...]:
    plan, step = work.plan, work.step
    writers = _writers(work, on_segment)
    needs_copy = plan.reads_copy(step)
    source = _working_copy(work) if needs_copy else work.source
    command = argv.encode_chunk(work.tools.ffmpeg, plan, step, source, working_copy=needs_copy)
    span_s = plan.timeline.time_s(step.end) - plan.timeline.time_s(step.first)
    limits = _picture_limits(plan, len(writers), span_s + 60)
    limits = replace(limits, niceness=niceness(plan, step))
    work.ffmpeg(command, _sinks(writers), limits=limits, read=(source,))
    made = tuple(writer.finish() for writer in writers)
    work.warnings.extend(missing_pictures(plan.timeline, step.spans, made))
    return made


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


def _copy_video(work: _Work, on_segment: OnSegment) -> tuple[Made, ...]:
    plan = work.plan
    writers = _writers(work, on_segment)
    work.ffmpeg(
        argv.copy_video(work.tools.ffmpeg, plan, work.source),
        _sinks(writers),
        limits=_picture_limits(plan, 0, plan.timeline.duration_s),
        read=(work.source,),
        code="copy_failed",
    )
    return tuple(writer.finish() for writer in writers)


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
    (`stalled`) when the copy stands still."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._size_bytes = -1
        self._moved = time.monotonic()

    def wait(self) -> None:
        self._work.go_on()
        size_bytes = sum(_size(path) for path in self._work.shared.glob(".copy.*/working.mkv"))
        if size_bytes != self._size_bytes:
            self._size_bytes, self._moved = size_bytes, time.monotonic()
            self._work.moved()
        elif time.monotonic() - self._moved > STALL_S:
            raise StepFailed(
                f"the working copy did not grow for {STALL_S:.0f} s", code="stalled", retryable=True
            )
        time.sleep(LOCK_POLL_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # finished and gone while we looked


def _working_copy(work: _Work) -> Path:
    """The source's pictures in a container that seeks exactly; made once a shared folder."""
    copy = work.shared / "working.mkv"
    with _locked(copy.with_suffix(".lock"), _CopyWatch(work).wait):
        if copy.is_file():
            return copy
        with working_folder(work.shared, "copy") as scratch:
            output = scratch / "working.mkv"
            work.ffmpeg(
                argv.working_copy(work.tools.ffmpeg, work.plan, work.source, output),
                {},
                limits=_picture_limits(work.plan, 0, work.plan.timeline.duration_s),
                read=(work.source,),
                write=scratch,
                code="copy_failed",
                on_progress=work.moved,
            )
            output.replace(copy)
    return copy


# --- sound -------------------------------------------------------------------------------------


def _audio(work: _Work, on_segment: OnSegment) -> tuple[tuple[Made, ...], tuple[MadeFile, ...]]:
    plan = work.plan
    writers = [_audio_writer(work, on_segment)] if plan.audio_rendition is not None else []
    files = argv.audio_files(plan)
    limits = limits_for(0, 1 + len(files), plan.source.duration_s)
    with working_folder(work.folder / WORK, "audio") as scratch:
        work.ffmpeg(
            argv.audio(work.tools.ffmpeg, plan, work.source, scratch),
            _sinks(writers),
            limits=limits,
            read=(work.source,),
            write=scratch if files else None,
        )
        made = tuple(writer.finish() for writer in writers)
        return made, _put(work, scratch, [file.path for file in files])


def _audio_writer(work: _Work, on_segment: OnSegment) -> AudioSegments:
    plan = work.plan
    rendition = plan.audio_rendition
    assert rendition is not None
    assert plan.audio is not None
    if rendition.mode == "copy":
        assert plan.audio.start_s is not None
        offset_s = plan.audio.start_s - plan.timeline.origin_s
        start = round(offset_s * rendition.sample_rate)
    else:
        start = -AAC_FRAME_SAMPLES  # the encoder's priming frame stands before the first sound
    return AudioSegments(
        rendition.name,
        work.folder / rendition.folder,
        boundaries_s=_sound_boundaries(plan),
        sample_rate=rendition.sample_rate,
        frame_samples=AAC_FRAME_SAMPLES,
        start=start,
        on_segment=on_segment,
    )


def _sound_boundaries(plan: Plan) -> list[Fraction]:
    """The picture's boundaries, so that a player fetches both together."""
    return [plan.timeline.time_s(n) for n in range(plan.timeline.segments + 1)]


def _put(work: _Work, scratch: Path, names: Sequence[str]) -> tuple[MadeFile, ...]:
    """Finished files from the working folder to their places in DIR."""
    files = []
    for name in names:
        path = scratch / name
        if not path.is_file() or path.stat().st_size == 0:
            raise StepFailed(f"step {work.step.id}: {name} is empty", code="empty_output")
        path.replace(work.folder / name)
        files.append(MadeFile(name, (work.folder / name).stat().st_size))
    return tuple(files)


# --- files of their own ---------------------------------------------------------------------------


def _poster(work: _Work) -> tuple[MadeFile, ...]:
    plan = work.plan
    data = b""
    for time_s in dict.fromkeys((plan.poster_time_s, Fraction(0))):
        parts: list[bytes] = []
        command = argv.poster(work.tools.ffmpeg, plan, work.source, time_s=time_s)
        limits = replace(_picture_limits(plan, 1, Fraction(60)), wall_s=120.0)
        work.ffmpeg(
            command, {argv.FIRST_OUTPUT_FD: parts.append}, limits=limits, read=(work.source,)
        )
        data = b"".join(parts)
        if data:
            break
    assert work.step.output is not None
    if not data:
        raise StepFailed("no picture for the poster", code="empty_output")
    write_whole(work.folder / work.step.output, data)
    return (MadeFile(work.step.output, len(data)),)


def _mp4(work: _Work) -> tuple[MadeFile, ...]:
    plan = work.plan
    assert work.step.output is not None
    output: FileOutput = next(f for f in plan.files if f.path == work.step.output)
    assert output.rendition is not None
    with working_folder(work.folder / WORK, "mp4") as scratch:
        video = _whole_track(work, output.rendition, scratch / "video.mp4")
        sound = None
        if plan.audio_rendition is not None:
            sound = _whole_track(work, plan.audio_rendition.name, scratch / "sound.mp4")
        command = argv.join_mp4(work.tools.ffmpeg, video, sound, scratch / output.path)
        limits = limits_for(0, 1, plan.timeline.duration_s)
        work.ffmpeg(command, {}, limits=limits, read=(), write=scratch, code="join_failed")
        return _put(work, scratch, [output.path])


def _whole_track(work: _Work, rendition: str, path: Path) -> Path:
    """Init segment and all segments of a rendition as one fragmented file."""
    home = work.folder / work.plan.folder_of(rendition)
    with path.open("wb") as whole:
        for part in (home / INIT_NAME, *sorted(home.glob("*.m4s"))):
            work.go_on()
            work.moved()
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    return path
