"""One step while it runs: what it works on, what it has cost, what it has to tell.

Whatever a step does, it starts its children here, so that damage, limits and a standstill are said
in the same words.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telecine.engine import argv
from telecine.engine.disk import disk_failure, write_whole
from telecine.engine.errors import Interrupted, StepFailed
from telecine.engine.formats.cmaf import clear_init, read_init
from telecine.engine.joining import film_paths
from telecine.engine.loudness import Level
from telecine.engine.plan import Plan, Step
from telecine.engine.process import Access, Cancel, Finished, Limits, run
from telecine.engine.protection import Lock, lock_of
from telecine.engine.searching import Choices, Score
from telecine.engine.segments import INIT_NAME, segment_name
from telecine.engine.tools import Tools
from telecine.engine.words.protection import ContentKey

STALL_S = 60.0  # without a frame or a byte: a child that hangs is ended

# Seconds of the step's own span that are done: the most that was told counts. Work that is in no
# seconds of the span, such as copying a source that seeks badly, tells 0 whenever it moves.
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class MadeFile:
    path: str  # relative to DIR
    size_bytes: int


# They read again what the chunks are made of, which tell of its damage.
_JUDGING = ("search", "measure")
_SOUND_STEPS = ("audio", "audio-others", "gain", "loudness", "waveform")


class Work:
    """One step while it runs: what it works on and what it has cost."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        source: Path,
        inputs: dict[str, Path],
        folder: Path,
        shared: Path,
        tools: Tools,
        cancel: Cancel | None,
        on_progress: OnProgress,
        key: ContentKey | None = None,
    ) -> None:
        self.plan = plan
        self.step = step
        self.source = source
        self.inputs = inputs  # the files beside the source that the step reads
        self.folder = folder
        self.shared = shared
        self.tools = tools
        self.cpu_s = 0.0
        self.peak_rss_bytes = 0
        self.warnings: list[str] = []
        self.levels: list[Level] = []  # of sound, as measured
        self._key = key
        self.choices: Choices | None = None  # of a search
        self.scores: list[Score] = []  # of pictures, as measured
        self._cancel = cancel
        self._on_progress = on_progress
        self._watched: Path | None = None
        self._counting = threading.Lock()  # a step may run several children at once

    @property
    def films(self) -> tuple[Path, ...]:
        """The source, or each of the films that are joined."""
        return film_paths(self.plan, self.source, self.inputs)

    def lock(self, rendition: str) -> Lock | None:
        """What encrypts a rendition, if anything does."""
        return lock_of(self.plan, rendition, self._key)

    def init(self, rendition: str) -> bytes:
        """The init segment of a rendition, of what is in its segments once they are decrypted."""
        data = (self.home(rendition) / INIT_NAME).read_bytes()
        return data if self.lock(rendition) is None else clear_init(data)

    def segment(self, rendition: str, number: int) -> bytes:
        """A segment file, decrypted."""
        data = (self.home(rendition) / segment_name(number)).read_bytes()
        lock = self.lock(rendition)
        if lock is None:
            return data
        track = read_init((self.home(rendition) / INIT_NAME).read_bytes())
        return lock.open_segment(number, data, track)

    def home(self, rendition: str) -> Path:
        return self.folder / self.plan.folder_of(rendition)

    def go_on(self) -> None:
        """Raise `Interrupted` once the work is cancelled: between pieces that no child does."""
        if self._cancel is not None and self._cancel.is_set():
            raise Interrupted

    def moved(self, _done_s: float = 0.0) -> None:
        """Tell of work that is in no seconds of the step's span."""
        self.told(0.0)

    def told(self, done_s: float) -> None:
        """Tell how much of the step's span is done by a child that does not tell it itself."""
        self._on_progress(max(0.0, done_s))
        if self._watched is not None:
            os.utime(self._watched)

    @contextmanager
    def watched(self, folder: Path) -> Iterator[None]:
        """Meanwhile the folder's time says to others when something moved last."""
        self._watched = folder
        try:
            yield
        finally:
            self._watched = None

    def _where(self) -> str:
        """The part of the source that this step reads, for a warning."""
        if self.step.kind != "encode":
            return "sound" if self.step.kind in _SOUND_STEPS else "picture"
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
        hear: Callable[[str], object] = lambda _: None,
    ) -> Finished:
        """Run FFmpeg to its end; `hear` gets each line that it says. Raises `StepFailed` with what
        it said last unless it succeeded."""
        progress = _ProgressReader(on_progress or self.told)
        complaints: list[str] = []

        def on_line(line: str) -> bool:
            hear(line)
            return _note_damage(line, complaints)

        finished = run(
            command,
            sandbox=self.tools.sandbox,
            limits=limits,
            access=Access(read=read, write=write),
            sinks={argv.PROGRESS_FD: progress.feed, **sinks},
            cancel=self._cancel,
            on_line=on_line,
        )
        if complaints and self.step.kind not in _JUDGING:
            damage = f"{self._where()}: damaged, {_counted(complaints)}"
            self.warnings.append(damage + made_good(self.plan, self.step))
        self._count(finished)
        self._see_success(finished, "FFmpeg", command, code)
        return finished

    def python(
        self,
        command: list[str],
        sinks: dict[int, Callable[[bytes], object]],
        *,
        limits: Limits,
        read: tuple[Path, ...],
        code: str,
    ) -> Finished:
        """Run a program of ours that reads foreign bytes. Raises as `ffmpeg` does."""
        finished = run(
            command,
            sandbox=self.tools.sandbox,
            limits=limits,
            access=Access(read=read),
            sinks=sinks,
            cancel=self._cancel,
        )
        self._count(finished)
        self._see_success(finished, "the reader", command, code)
        return finished

    def _count(self, finished: Finished) -> None:
        with self._counting:
            self.cpu_s += finished.cpu_s
            self.peak_rss_bytes = max(self.peak_rss_bytes, finished.peak_rss_bytes)

    def _see_success(self, finished: Finished, who: str, command: list[str], code: str) -> None:
        if finished.limit is not None:
            raise StepFailed(
                f"step {self.step.id}: {who} reached its {finished.limit} limit",
                code=f"limit_{finished.limit}",
                argv=command,
                log_tail=finished.log_tail,
                retryable=finished.limit in ("wall", "stall"),
            )
        if finished.returncode != 0:
            if any("No space left on device" in line for line in finished.log_tail):
                raise disk_failure(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            raise StepFailed(
                f"step {self.step.id}: {who} ended with {finished.returncode}",
                code=code,
                argv=command,
                log_tail=finished.log_tail,
                retryable=finished.signal is not None,
            )


# What FFmpeg's decoders and demuxers say of broken input. Lines about timestamps are left out: odd
# clocks are common, and the timeline is ours.
_DAMAGE = re.compile(
    r"(?i)error while decoding|error submitting packet|concealing|corrupt|invalid data found"
    r"|invalid nal|decode_slice|non-existing pps|bitstream|truncated|partial file|damaged"
)
_MAX_COMPLAINTS = 1000


def _note_damage(line: str, complaints: list[str]) -> bool:
    """Keep a line that tells of broken input; whether it counts as progress: it does not. Whoever
    complains says its name first: what FFmpeg shows of a file without one is its path and title."""
    if len(complaints) < _MAX_COMPLAINTS and line.startswith("[") and _DAMAGE.search(line):
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
        case "audio" | "audio-others":
            modes = {sound.mode for sound in plan.sounds if sound.name in step.renditions}
            if modes == {"copy"}:
                return "; copied as it is"
            return "; silence fills what is missing" + " in what is not copied" * ("copy" in modes)
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


# --- files in the folder -------------------------------------------------------------------------


def put(work: Work, scratch: Path, names: Sequence[str]) -> tuple[MadeFile, ...]:
    """Finished files from the working folder to their places in DIR. Raises `StepFailed`
    (`empty_output`)."""
    files = []
    for name in names:
        path = scratch / name
        if not path.is_file() or path.stat().st_size == 0:
            raise StepFailed(f"step {work.step.id}: {name} is empty", code="empty_output")
        path.replace(work.folder / name)
        files.append(MadeFile(name, (work.folder / name).stat().st_size))
    return tuple(files)


def put_bytes(work: Work, name: str, data: bytes) -> MadeFile:
    """A finished file at its place in DIR, whole or not there."""
    write_whole(work.folder / name, data)
    return MadeFile(name, len(data))


def whole_track(work: Work, rendition: str, path: Path) -> Path:
    """Init segment and all segments of a rendition, decrypted, as one fragmented file."""
    with path.open("wb") as whole:
        whole.write(work.init(rendition))
        for number in range(len(list(work.home(rendition).glob("*.m4s")))):
            work.go_on()
            work.moved()
            whole.write(work.segment(rendition, number))
    return path
