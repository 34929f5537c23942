"""Fragmented MP4 from FFmpeg's pipes → CMAF segments on disk, as they fill.

What FFmpeg's muxer wrote is taken apart and written again in one canonical form (`cmaf`), so that
bytes depend on the pictures alone, chunks join exactly, and the timeline is the plan's.

A *run* is what no reader needs anything else for: from one IDR picture to the next, or one stretch
of sound. Each run is one fragment; a segment file holds the runs between two boundaries.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from telecine.engine.disk import write_whole
from telecine.engine.errors import StepFailed
from telecine.engine.formats import cmaf
from telecine.engine.media import Light
from telecine.engine.protection import Lock

INIT_NAME = "init.mp4"
_SEQUENCES = 10_000  # fragment numbers of a segment; more runs than frames of 10.5 s at 60 fps


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished, immutable segment file. `keys`: (offset, length, ticks until the next) of each
    run's first picture, for the I-frame playlist; where the file is encrypted as a whole, they
    count in what it decrypts to (RFC 8216, 6.3.6)."""

    number: int
    start_ticks: int
    duration_ticks: int
    size_bytes: int
    frames: int
    keys: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made of one rendition."""

    rendition: str
    init_sha256: str
    segments: tuple[Segment, ...]


def segment_name(number: int) -> str:
    return f"{number:05d}.m4s"


OnSegment = Callable[[str, Segment], None]


class _Store:
    """The files of one rendition in its folder."""

    def __init__(
        self,
        name: str,
        folder: Path,
        on_segment: OnSegment,
        lock: Lock | None,
        light: Light | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.light = light
        self.track: cmaf.Track | None = None  # as it comes, before anything is encrypted
        self._lock = lock
        self._encryption = None if lock is None else lock.encryption
        self.init_sha256 = ""
        self.segments: list[Segment] = []
        self._on_segment = on_segment

    def init(self, init: cmaf.Init, edit_offset_ticks: int) -> None:
        """Write the canonical init segment, or see that it is the one that is there already."""
        self.track = init.track
        canonical = cmaf.write_init(
            init.data,
            edit_offset_ticks=edit_offset_ticks,
            light=self.light,
            encryption=self._encryption,
        )
        self.init_sha256 = hashlib.sha256(canonical).hexdigest()
        path = self.folder / INIT_NAME
        if path.is_file() and path.read_bytes() != canonical:
            raise StepFailed(
                f"the init segment of {self.name} differs from the one other chunks have: "
                "they cannot be joined",
                code="init_mismatch",
            )
        write_whole(path, canonical)

    def sealed(self, run: list[cmaf.Sample]) -> list[cmaf.Sample]:
        """A run as it is stored."""
        if self._lock is None or self._encryption is None:
            return run
        assert self.track is not None
        return cmaf.sealed(run, self.track, self._encryption, self._lock.key.data)

    def segment(
        self,
        number: int,
        fragments: Sequence[bytes],
        key_bytes: Sequence[int],
        starts: Sequence[int],
        end_ticks: int,
        frames: int,
    ) -> None:
        data = cmaf.SEGMENT_TYPE + b"".join(fragments)
        keys = []
        offset = len(cmaf.SEGMENT_TYPE)
        ends = [*starts[1:], end_ticks]
        for fragment, length, start, end in zip(fragments, key_bytes, starts, ends, strict=True):
            keys.append((offset, length, end - start))
            offset += len(fragment)
        if self._lock is not None:
            data = self._lock.seal_segment(number, data)
        made = Segment(number, starts[0], end_ticks - starts[0], len(data), frames, tuple(keys))
        write_whole(self.folder / segment_name(number), data)
        self.segments.append(made)
        self._on_segment(self.name, made)

    def made(self) -> Made:
        return Made(self.name, self.init_sha256, tuple(self.segments))


def _key_bytes(fragment: bytes, samples: Sequence[cmaf.Sample]) -> int:
    """Bytes of a fragment up to the end of its first sample (Apple 6.10: the moof is in range)."""
    return len(fragment) - sum(len(sample.data) for sample in samples[1:])


class VideoSegments:
    """Takes one rendition's stream for segments [first, end) and writes them.

    `boundaries` are the timeline's, in ticks; `frames` the pictures expected in each segment, or
    None where a damaged source may lack some; `light` is what an HDR rendition says of its own;
    `lock` encrypts what is written. Closed captions go out of pictures unless `captions` says that
    they stay; `freed` counts the pictures that had some. Raises `StepFailed` (`grid_mismatch`,
    `frame_count`, `fragment_timing`, `init_mismatch`); finished segments stay on disk.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        boundaries: Sequence[int],
        first: int,
        end: int,
        edit_offset_ticks: int,
        frames: Sequence[int] | None,
        on_segment: OnSegment,
        light: Light | None = None,
        lock: Lock | None = None,
        captions: bool = False,
    ) -> None:
        self._store = _Store(name, folder, on_segment, lock, light)
        self._reader = cmaf.FragmentReader()
        self._captions = captions
        self.freed = 0
        self._boundaries = boundaries
        self._next = first  # the segment that is being filled
        self._end = end
        self._offset = edit_offset_ticks
        self._frames = frames
        self._shift: int | None = None  # what makes the stream's ticks the timeline's
        self._run: list[cmaf.Sample] = []
        self._runs: list[tuple[bytes, int, int, int]] = []  # fragment, key bytes, start, frames

    def feed(self, data: bytes) -> None:
        for item in self._reader.feed(data):
            if isinstance(item, cmaf.Init):
                self._store.init(item, self._offset)
            else:
                self._take(item)

    def finish(self) -> Made:
        """The stream has ended; every segment is on disk."""
        self._reader.finish()
        if self._run:
            self._close_run(self._boundaries[self._end])
            self._close_segment(self._boundaries[self._end])
        if self._next != self._end:
            raise StepFailed(
                f"{self._store.name}: {self._end - self._next} segment(s) of pictures are missing",
                code="frame_count",
            )
        return self._store.made()

    def _without_captions(self, samples: Sequence[cmaf.Sample]) -> Sequence[cmaf.Sample]:
        assert self._store.track is not None
        freed = [cmaf.without_captions(sample, self._store.track) for sample in samples]
        self.freed += sum(a is not b for a, b in zip(freed, samples, strict=True))
        return freed

    def _take(self, fragment: cmaf.Fragment) -> None:
        samples: Sequence[cmaf.Sample] = fragment.samples
        assert self._store.track is not None
        if not self._captions:
            samples = self._without_captions(samples)
        if self._run and not cmaf.starts_gop(samples[0], self._store.track):
            self._run.extend(self._shifted(samples))
            return
        if self._shift is None:
            start = self._boundaries[self._next]
            self._shift = start - min(sample.pts for sample in samples)
        shifted = self._shifted(samples)
        if self._run:
            start = min(sample.pts for sample in shifted)
            self._close_run(start)
            if start >= self._boundaries[self._next + 1]:
                self._close_segment(start)
        self._run = shifted

    def _shifted(self, samples: Sequence[cmaf.Sample]) -> list[cmaf.Sample]:
        shift = self._shift or 0
        return [replace(sample, pts=sample.pts + shift) for sample in samples]

    def _close_run(self, end_ticks: int) -> None:
        base = min(sample.pts for sample in self._run)
        run = self._store.sealed(self._run)
        data = cmaf.write_fragment(
            run,
            sequence=self._next * _SEQUENCES + len(self._runs) + 1,
            base_ticks=base,
            end_ticks=end_ticks,
            edit_offset_ticks=self._offset,
        )
        self._runs.append((data, _key_bytes(data, self._run), base, len(self._run)))
        self._run = []

    def _close_segment(self, end_ticks: int) -> None:
        number = self._next
        expected = self._boundaries[number], self._boundaries[number + 1]
        if (self._runs[0][2], end_ticks) != expected:
            raise StepFailed(
                f"{self._store.name}: segment {number} holds [{self._runs[0][2]}, {end_ticks}), "
                f"the plan says [{expected[0]}, {expected[1]})",
                code="grid_mismatch",
            )
        count = sum(run[3] for run in self._runs)
        if self._frames is not None and count != self._frames[number]:
            raise StepFailed(
                f"{self._store.name}: segment {number} has {count} pictures, "
                f"the plan says {self._frames[number]}",
                code="frame_count",
            )
        fragments, key_bytes, starts, _ = zip(*self._runs, strict=True)
        self._store.segment(number, fragments, key_bytes, starts, end_ticks, count)
        self._runs = []
        self._next += 1


class AudioSegments:
    """Takes the whole sound and writes segments near the picture's boundaries, on its own frames.

    `start` is the time of the stream's first sample, in ticks of the timeline (one tick a sample);
    a frame that lies by half or more before 0, such as an encoder's priming, is dropped.
    `boundaries_s` are the timeline's, in seconds; `lock` encrypts what is written.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        boundaries_s: Sequence[Fraction],
        sample_rate: int,
        frame_samples: int,
        start: int,
        on_segment: OnSegment,
        lock: Lock | None = None,
    ) -> None:
        self._store = _Store(name, folder, on_segment, lock)
        self._reader = cmaf.FragmentReader()
        self._frame = frame_samples
        self._time = start
        self._ticks = [time_s * sample_rate for time_s in boundaries_s[:-1]]
        self._number = 0
        self._run: list[cmaf.Sample] = []

    def feed(self, data: bytes) -> None:
        for item in self._reader.feed(data):
            if isinstance(item, cmaf.Init):
                self._store.init(item, 0)
            else:
                for sample in item.samples:
                    self._take(sample)

    def finish(self) -> Made:
        """The stream has ended. Raises `StepFailed` (`no_sound`) when nothing came."""
        self._reader.finish()
        if self._run:
            self._close()
        if not self._store.segments:
            raise StepFailed("the sound decoded to nothing", code="no_sound")
        return self._store.made()

    def _take(self, sample: cmaf.Sample) -> None:
        if self._time + self._frame // 2 <= 0:
            self._time += self._frame  # priming, or sound from before the picture
            return
        # A frame that straddles 0 is shown at 0: 11 ms at the most, where 40 are allowed.
        self._time = max(0, self._time)
        number = bisect_right(self._ticks, self._time) - 1
        if self._run and number > self._number:
            self._close()
        if not self._run:
            self._number = max(self._number, number)
        self._run.append(cmaf.Sample(self._time, self._frame, sample.data, sync=True))
        self._time += self._frame

    def _close(self) -> None:
        start = self._run[0].pts
        number = len(self._store.segments)
        data = cmaf.write_fragment(
            self._store.sealed(self._run),
            sequence=number + 1,
            base_ticks=start,
            end_ticks=self._time,
            edit_offset_ticks=0,
        )
        key = _key_bytes(data, self._run)
        self._store.segment(number, [data], [key], [start], self._time, len(self._run))
        self._run = []
