"""Steps that judge pictures: `search` finds the level at which each rung is as good as was asked
for, `measure` says how good finished renditions are.

Both look at the plan's samples, each about a GOP of the film. What was encoded of one is compared
with the source's own pictures, scaled to the rung's size.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from telecine.engine import argv
from telecine.engine.argv import Film
from telecine.engine.disk import working_folder
from telecine.engine.encoders import VIDEO_ENCODERS
from telecine.engine.errors import StepFailed
from telecine.engine.formats.bmff import boxes
from telecine.engine.ladder import DroppedRung
from telecine.engine.plan import WORK, Plan, VideoRendition
from telecine.engine.planning.qualities import ladders, missed
from telecine.engine.process import Limits, limits_for
from telecine.engine.searching import (
    MAX_TRIES,
    Choices,
    Compared,
    Enlarged,
    Sample,
    Score,
    Scores,
    Try,
    choose,
    hardest_bps,
    next_crf,
    pairs_to_compare,
    part_name,
    part_of,
    superfluous,
    together,
    trial_name,
)
from telecine.engine.steps.work import Work

T = TypeVar("T")

# Nobody waits for it, and it takes what chunks could use.
MEASURING_NICENESS = 10


def search(work: Work, film: Film) -> Choices:
    """Find the level of each judged rendition, and which of them add nothing. Leaves no file.

    Raises `StepFailed` (`not_measured`, and what FFmpeg's failures are) and `Interrupted`.
    """
    began, target = time.monotonic(), work.plan.profile.quality
    assert target is not None
    with working_folder(work.folder / WORK, "search") as scratch:
        trials = _Trials(work, film, scratch)
        names = [rendition.name for rendition in trials.renditions]
        tries: dict[str, list[Try]] = {name: [] for name in names}
        for done in range(MAX_TRIES):
            crfs = {
                r.name: crf
                for r in trials.renditions
                if (crf := _next(r, tries[r.name], target)) is not None
            }
            if not crfs:
                break
            for name, one in trials.run(crfs, done).items():
                tries[name].append(one)
        rungs = tuple(
            choose(r.name, tries[r.name], target, VIDEO_ENCODERS[r.codec].levels, r.ceiling_bps)
            for r in trials.renditions
        )
        chosen = {choice.rendition: choice.crf for choice in rungs}
        vmaf = {choice.rendition: choice.vmaf for choice in rungs}
        dropped: list[DroppedRung] = []
        enlarged: list[Enlarged] = []
        for ladder in ladders(work.plan):
            own = [rendition.name for rendition in ladder]
            known: dict[tuple[str, str], float] = {}
            while pairs := pairs_to_compare(own, known, vmaf):
                known |= trials.enlarge(pairs, chosen)
            enlarged += [Enlarged(*pair, vmaf=seen) for pair, seen in known.items()]
            dropped += superfluous(own, known, vmaf)
    return Choices(
        target=target,
        rungs=rungs,
        enlarged=tuple(enlarged),
        dropped=tuple(dropped),
        cpu_s=round(work.cpu_s, 3),
        wall_s=round(time.monotonic() - began, 3),
    )


def _next(rendition: VideoRendition, tries: Sequence[Try], target: float) -> float | None:
    levels = VIDEO_ENCODERS[rendition.codec].levels
    return next_crf(tries, target, rendition.crf, levels)


class _Trials:
    """Encodes samples, and compares them; what was encoded stays in `scratch`."""

    def __init__(self, work: Work, film: Film, scratch: Path) -> None:
        self._work = work
        self._film = film
        self._scratch = scratch
        self._plan = argv.fine(work.plan)
        self.renditions = work.plan.judged

    def run(self, crfs: dict[str, float], done: int) -> dict[str, Try]:
        """One try of the renditions in `crfs`, each at its level."""
        samples = self._work.plan.samples
        found = _at_once(samples, lambda sample: self._one(sample, crfs))
        # The enlarged rungs at the end take about as long as a try.
        share = (done + 1) / (MAX_TRIES + 1)
        self._work.told(float(self._work.plan.timeline.duration_s) * share)
        tries = {}
        for name, crf in crfs.items():
            rates = [one[name].bitrate_bps for one in found]
            vmaf = together(samples, [one[name].vmaf for one in found])
            peak = hardest_bps(samples, rates)
            tries[name] = Try(crf, round(vmaf, 2), round(together(samples, rates)), peak)
        return tries

    def enlarge(
        self, pairs: Sequence[tuple[str, str]], chosen: dict[str, float]
    ) -> dict[tuple[str, str], float]:
        """VMAF of lower rungs at the size of upper ones, of what `run` left of them."""
        samples = self._work.plan.samples
        sizes = {rendition.name: rendition.size for rendition in self.renditions}

        def one(sample: Sample) -> list[float]:
            made = [
                (self._path(sample, lower, chosen[lower]), Compared(sizes[upper]))
                for lower, upper in pairs
            ]
            return _compare(self._work, self._film, self._plan, sample.number, made)

        found = _at_once(samples, one)
        return {
            pair: round(together(samples, [scores[n] for scores in found]), 2)
            for n, pair in enumerate(pairs)
        }

    def _one(self, sample: Sample, crfs: dict[str, float]) -> dict[str, _Measured]:
        paths = {name: self._path(sample, name, crf) for name, crf in crfs.items()}
        sizes_bytes = self._encode(sample, crfs, paths)
        sizes = {rendition.name: rendition.size for rendition in self.renditions}
        made = [(path, Compared(sizes[name])) for name, path in paths.items()]
        scores = _compare(self._work, self._film, self._plan, sample.number, made)
        length_s = float(sample.end_s - sample.start_s)
        return {
            name: _Measured(vmaf, round(sizes_bytes[name] * 8 / length_s))
            for name, vmaf in zip(paths, scores, strict=True)
        }

    def _encode(
        self, sample: Sample, crfs: dict[str, float], paths: dict[str, Path]
    ) -> dict[str, int]:
        work, film = self._work, self._film
        command = argv.encode_sample(work.tools.ffmpeg, self._plan, sample, crfs, film)
        names = [rendition.name for rendition in self.renditions]
        made = {name: bytearray() for name in paths}
        sinks: dict[int, Callable[[bytes], object]] = {
            argv.FIRST_OUTPUT_FD + n: made[name].extend
            for n, name in enumerate(names)
            if name in made
        }
        work.ffmpeg(
            command,
            sinks,
            limits=_limits(self._plan, len(names), sample),
            read=film.read,
            write=film.texts,
            on_progress=work.moved,
        )
        return {name: self._keep(bytes(data), paths[name]) for name, data in made.items()}

    def _keep(self, data: bytes, path: Path) -> int:
        """Write the last GOP as a file of its own; how many bytes its pictures are."""
        parts = list(boxes(memoryview(data)))
        last = max((n for n, part in enumerate(parts) if part.kind == "moof"), default=None)
        if last is None:
            raise StepFailed("nothing was encoded of a sample", code="empty_output")
        head = next(part.offset for part in parts if part.kind == "moof")
        path.write_bytes(data[:head] + data[parts[last].offset :])
        return sum(len(part.body) for part in parts[last:] if part.kind == "mdat")

    def _path(self, sample: Sample, name: str, crf: float) -> Path:
        return self._scratch / trial_name(sample, name, crf)


@dataclass(frozen=True, slots=True)
class _Measured:
    vmaf: float
    bitrate_bps: int


def measure(work: Work, film: Film) -> tuple[Score, ...]:
    """VMAF of the finished renditions, at the plan's samples."""
    plan = work.plan
    fine = argv.fine(plan)
    with working_folder(work.folder / WORK, "measure") as scratch:

        def one(sample: Sample) -> list[float]:
            made = [_finished(work, sample, rendition, scratch) for rendition in plan.judged]
            return _compare(work, film, fine, sample.number, made)

        found = _at_once(plan.samples, one)
    scores = tuple(
        Score(r.name, round(together(plan.samples, [each[n] for each in found]), 2))
        for n, r in enumerate(plan.judged)
    )
    work.warnings += missed(plan, scores)
    return scores


def _finished(
    work: Work, sample: Sample, rendition: VideoRendition, scratch: Path
) -> tuple[Path, Compared]:
    """The segment in which a sample lies as a file, and where in it."""
    segment, where = part_of(work.plan.timeline, sample, rendition.size)
    path = scratch / part_name(sample, rendition.name)
    path.write_bytes(work.init(rendition.name) + work.segment(rendition.name, segment))
    return path, where


def _compare(
    work: Work, film: Film, fine: Plan, segment: int, made: Sequence[tuple[Path, Compared]]
) -> list[float]:
    """VMAF of files of encoded pictures beside the source's of a segment of `fine`."""
    command = argv.compare(work.tools.ffmpeg, fine, segment, film, made)
    scores = Scores()
    sample = next(each for each in fine.samples if each.number == segment)
    limits = _limits(fine, 2 * len(made), sample)
    if work.step.kind == "measure":
        limits = replace(limits, niceness=MEASURING_NICENESS)
    work.ffmpeg(
        command,
        {},
        limits=limits,
        read=(*film.read, *(path for path, _ in made)),
        write=film.texts,
        on_progress=work.moved,
        hear=scores.take,
    )
    return scores.found(len(made))


def _limits(plan: Plan, rungs: int, sample: Sample) -> Limits:
    assert plan.video is not None
    pixels = plan.video.width * plan.video.height
    return limits_for(pixels, rungs, sample.end_s - sample.start_s + 60)


def _at_once(samples: Sequence[Sample], do: Callable[[Sample], T]) -> list[T]:
    """`do` for each sample, several at once where there are processors for them, as chunks run.
    Raises the first failure, once all have ended."""
    workers = max(1, len(os.sched_getaffinity(0)) // 2)
    with ThreadPoolExecutor(workers, thread_name_prefix="sample") as pool:
        futures = [pool.submit(do, sample) for sample in samples]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
