"""What each kind of task does.

Nothing here knows of leases. Who runs a task says when to stop (`Work.cancel`), sees how far it is
(`Work.meter`) and commits what `perform` returns. The one thing that is written meanwhile is the
timeline: finished segments are advanced, fenced by the claim.

    step     one step of the job's plan, in a scratch folder of its own; every finished segment
             is put into storage and advanced at once, so that it plays
    image    one picture of the job's plan, made by this process's image workers
    finish   all that the steps made, joined by links: playlists, verify, report, outputs
    digest   the source's SHA-256
    noop     nothing: what the queue costs by itself is tested and measured with it
"""

from __future__ import annotations

import functools
import hashlib
import queue as queues
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from telecine.engine.errors import InputRefused, Interrupted, StepFailed, UsageError
from telecine.engine.images import grammar
from telecine.engine.images.transform import transform
from telecine.engine.images.values import Wanted
from telecine.engine.manifests import MASTER, OPENING_SEGMENTS, listed_now, started
from telecine.engine.plan import WORK, Plan, Step, plan_from_json
from telecine.engine.planning import chosen_plan, encoded_instead
from telecine.engine.process import Cancel
from telecine.engine.progress import step_span_s
from telecine.engine.searching import Choices
from telecine.engine.segments import INIT_NAME, Segment, segment_name
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.steps.encode import StepResult, run_step
from telecine.engine.transcode import join_steps
from telecine.engine.words.protection import ContentKey
from telecine.service import content_keys
from telecine.service.beside import find_keys
from telecine.service.db import assets as asset_rows
from telecine.service.db import queue, work
from telecine.service.db.connection import Tx
from telecine.service.db.queue import Claim, NewOutput, NewSegment, NewTask
from telecine.service.dispatch.bell import EVENTS
from telecine.service.domain import Unavailable
from telecine.service.image_plans import ImagePlan, image_plan_from_json, is_image_plan
from telecine.service.logs import get_logger
from telecine.service.orders import choose_digest, make_tasks
from telecine.service.outputs import (
    measure_image,
    measure_outputs,
    report_images,
    write_image_report,
)
from telecine.service.services import Services
from telecine.service.storage.store import Missing, Storage

ADVANCE_EVERY_S = 0.25
DATABASE_PAUSE_S = 0.5
PATIENCE_S = 25.0

# A plan may be megabytes; a worker runs many steps of one.
read_plan = functools.lru_cache(maxsize=4)(plan_from_json)
read_image_plan = functools.lru_cache(maxsize=4)(image_plan_from_json)


T = TypeVar("T")

log = get_logger("tasks")


class Fenced(Exception):
    """The task is no longer this claim's: another attempt has it, or nobody."""


class AnotherFFmpeg(Exception):
    """The job's steps are made with another FFmpeg than this worker has."""


class Meter:
    """How far a task is. Written by its threads, read by whoever keeps its lease."""

    def __init__(self, span_s: float = 0.0) -> None:
        self.moved_at = time.monotonic()
        self._began = self.moved_at
        self._span_s = span_s
        self._done_s = 0.0

    def expect(self, span_s: float) -> None:
        """How many seconds of the film there are to do; 1 where it is none of the film."""
        self._span_s = span_s

    def move(self, done_s: float = 0.0) -> None:
        """Something moved; so many seconds are done by now, as far as that can be told."""
        self.moved_at = time.monotonic()
        self._done_s = min(max(self._done_s, done_s), self._span_s)

    def progress(self) -> dict[str, float]:
        """`done_s` of the step's span; the same as a `fraction`; `speed` in seconds of film a
        second."""
        elapsed_s = max(time.monotonic() - self._began, 1e-3)
        return {
            "done_s": round(self._done_s, 3),
            "fraction": round(self._done_s / self._span_s, 4) if self._span_s else 0.0,
            "speed": round(self._done_s / elapsed_s, 3),
        }


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed task and what it works with. `scratch` is this attempt's own folder, `shared` that
    of all tasks of the job on this machine; both are the collector's once the claim has ended."""

    services: Services
    claim: Claim
    scratch: Path
    shared: Path
    cancel: Cancel
    meter: Meter

    @property
    def storage(self) -> Storage:
        return self.services.storage

    def go_on(self) -> None:
        if self.cancel.is_set():
            raise Interrupted

    def still_moving(self) -> None:
        """Between pieces of work that no child does."""
        self.go_on()
        self.meter.move()


@dataclass(frozen=True, slots=True)
class Done:
    """What a task leaves to be committed: its result, and columns of its asset and job to set.
    `plan` is that of its job where the commit may let it play. With `instead` nothing of it is: the
    job goes over to that."""

    result: dict[str, Any]
    warnings: tuple[str, ...] = ()
    plan: Plan | None = None
    instead: Instead | None = None
    outputs: tuple[NewOutput, ...] = ()
    job_prefix: str | None = None
    asset: Mapping[str, object] = field(default_factory=dict)
    job: Mapping[str, object] = field(default_factory=dict)


def perform(task: Work) -> Done:
    """Do what a claimed task is for; blocks until it is done or `task.cancel` is set.

    Raises `MediaError` (the source, a tool, a check), `ServiceError` and `OSError` (storage,
    database), `Fenced`. Finished segments stay advanced then; all else that was written lies in the
    scratch folder and under the claim's prefix, where the collector finds it.
    """
    match task.claim.kind:
        case "step":
            return _step(task)
        case "image":
            return _image(task)
        case "finish":
            return _finish(task)
        case "digest":
            return _digest(task)
        case "noop":
            return Done({})
        case kind:
            # Of a newer version, whose workers may share this database: one of them may take it.
            raise Unavailable(f"this worker knows no task {kind!r}", code="task_unknown")


def persist(services: Services, cancel: Cancel, do: Callable[[Tx], T]) -> T:
    """`do` in a transaction, again and again while the database is away: an hour of encoding must
    not fail for a second without it. `do` may run twice. Raises `Interrupted` once `cancel` is set,
    and after `PATIENCE_S` what the database says."""
    return _patiently(services.database.write, cancel, do)


def consult(services: Services, cancel: Cancel, do: Callable[[Tx], T]) -> T:
    """`do` in a transaction that reads, as `persist` does it in one that writes."""
    return _patiently(services.database.read, cancel, do)


def _patiently(
    begin: Callable[[], AbstractContextManager[Tx]], cancel: Cancel, do: Callable[[Tx], T]
) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with begin() as tx:
                return do(tx)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the database is away", error=str(error))
            if cancel.wait(DATABASE_PAUSE_S):
                raise Interrupted from error


def _subject(services: Services, cancel: Cancel, job_id: str) -> work.Subject:
    found = consult(services, cancel, lambda tx: work.find_subject(tx, job_id))
    if found is None:
        raise Fenced
    return found


def _source_key(subject: work.Subject) -> str:
    if subject.source_key is None:
        raise InputRefused("the source was deleted", code="source_deleted")
    return subject.source_key


# --- steps --------------------------------------------------------------------------------------


def _step(task: Work) -> Done:
    assert task.claim.step_id is not None
    subject = _subject(task.services, task.cancel, task.claim.job_id)
    plan = read_plan(subject.plan)
    step = plan.step(task.claim.step_id)
    _agree(task, subject)
    task.scratch.mkdir(parents=True)
    task.shared.mkdir(parents=True, exist_ok=True)
    task.meter.expect(step_span_s(plan, step))
    source = _local(task, _source_key(subject), "source")
    if step.needs:
        gather(task, plan, step.needs, task.scratch)
    inputs = _inputs(task, subject, step)
    key = _key(task, subject, plan)
    with Advancer(task, plan, step) as advancer:
        result = run_step(
            plan,
            step.id,
            source,
            task.scratch,
            tools=task.services.tools,
            on_segment=advancer.add,
            on_progress=task.meter.move,
            cancel=advancer.cancel,
            shared=task.shared,
            inputs=inputs,
            key=key,
        )
    for file in result.files:
        task.storage.put_file(f"{task.claim.prefix}/{file.path}", task.scratch / file.path)
        task.meter.move()
    instead = None
    if result.choices is not None:
        instead = as_chosen(task.services, task.cancel, task.claim.job_id, result.choices)
    return Done(to_plain(result), warnings=result.warnings, plan=plan, instead=instead)


def _inputs(task: Work, subject: work.Subject, step: Step) -> dict[str, Path]:
    """The files that a step reads beside the source. Raises `InputRefused` (`source_deleted`)."""
    if not step.inputs:
        return {}
    user_id = task.claim.user_id
    keys = consult(task.services, task.cancel, lambda tx: find_keys(tx, user_id, subject.outputs))
    found = {}
    for name in step.inputs:
        try:
            found[name] = _local(task, keys[name], name)
        except (KeyError, Missing):
            raise InputRefused(f"the file for {name} was deleted", code="source_deleted") from None
    return found


def _key(task: Work, subject: work.Subject, plan: Plan) -> ContentKey | None:
    """What the film is encrypted with, if it is."""
    protection, outputs = plan.profile.protection, subject.outputs
    return content_keys.opened(task.services.signer, task.claim.user_id, protection, outputs)


def _agree(task: Work, subject: work.Subject) -> None:
    """See to it that all steps of a job are made with one FFmpeg. Raises `AnotherFFmpeg`."""
    version, claim = task.services.tools.version, task.claim
    if subject.made_with == version:
        return
    if not persist(task.services, task.cancel, lambda tx: queue.make_with(tx, claim, version)):
        raise AnotherFFmpeg(subject.made_with)


def _local(task: Work, key: str, name: str) -> Path:
    """An object as a file, in the scratch folder if need be. A store elsewhere is read once an
    attempt."""
    found = task.storage.local_path(key)
    if found is None:
        found = task.scratch / name
        task.storage.fetch(key, found)
    return found


class Advancer:
    """Puts a step's finished segments into storage and advances them, beside the step.

    Those that let an opening step play go at once, the others in batches. Leaving the block waits
    for what is left and raises what went wrong: `Fenced`, `ServiceError`, `OSError`. `cancel` ends
    the step when the task is cancelled, or when nothing can be advanced any more.
    """

    def __init__(self, task: Work, plan: Plan, step: Step) -> None:
        self.cancel = Cancel(task.cancel)
        self._task = task
        self._plan = plan
        self._opening = plan.hls and step in plan.opening
        self._waiting: queues.SimpleQueue[tuple[str, Segment] | None] = queues.SimpleQueue()
        self._inits: set[str] = set()
        self._count: dict[str, int] = {}
        self._plays = False  # the job, as far as is known here
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="advance")

    def add(self, rendition: str, segment: Segment) -> None:
        """A segment is whole in the scratch folder."""
        self._waiting.put((rendition, segment))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        # The step was interrupted because of it, if it was.
        if self._failure is not None and (error is None or isinstance(error, Interrupted)):
            raise self._failure

    def _run(self) -> None:
        try:
            last = False
            while not last:
                batch, last = self._next_batch()
                if batch:
                    self._advance(batch)
        except Exception as error:  # told to the thread that leaves the block
            self._failure = error
            self.cancel.set()

    def _next_batch(self) -> tuple[list[tuple[str, Segment]], bool]:
        """What waits, and whether nothing comes after it. Blocks until there is something."""
        item = self._waiting.get()
        deadline = time.monotonic() + ADVANCE_EVERY_S
        batch = []
        while item is not None:
            batch.append(item)
            rendition = item[0]
            self._count[rendition] = self._count.get(rendition, 0) + 1
            if self._opening and self._count[rendition] <= OPENING_SEGMENTS:
                return batch, False
            try:
                item = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queues.Empty:
                return batch, False
        return batch, True

    def _advance(self, batch: Sequence[tuple[str, Segment]]) -> None:
        self._task.go_on()
        rows = []
        for rendition, segment in batch:
            if rendition not in self._inits:
                self._inits.add(rendition)
                rows.append(self._put(rendition, work.INIT, INIT_NAME))
            name = segment_name(segment.number)
            rows.append(self._put(rendition, segment.number, name, to_plain(segment)))
            self._task.meter.move()
        services, claim = self._task.services, self._task.claim
        if not persist(services, self._task.cancel, lambda tx: queue.advance(tx, claim, rows)):
            raise Fenced
        if not self._plays:
            self._plays = tell_if_playable(services, self._task.cancel, claim.job_id, self._plan)

    def _put(
        self, rendition: str, number: int, name: str, facts: dict[str, Any] | None = None
    ) -> NewSegment:
        path = f"{self._plan.folder_of(rendition)}/{name}"
        here = self._task.scratch / path
        stored = self._task.storage.put_file(f"{self._task.claim.prefix}/{path}", here)
        if facts is None:
            facts = {"sha256": hashlib.sha256(here.read_bytes()).hexdigest()}
        return NewSegment(
            rendition=rendition,
            number=number,
            storage_key=stored.key,
            size_bytes=stored.size_bytes,
            facts=facts,
        )


# --- pictures -----------------------------------------------------------------------------------


def _image(task: Work) -> Done:
    assert task.claim.step_id is not None
    subject = _subject(task.services, task.cancel, task.claim.job_id)
    image = read_image_plan(subject.plan).output(task.claim.step_id)
    task.scratch.mkdir(parents=True)
    source = _local(task, _source_key(subject), "source")
    operations = grammar.parse_text(image.operations)
    refs = _watermarks(task, grammar.refs(operations))
    task.go_on()
    wanted = Wanted(operations, image.format)
    made = transform(
        task.services.images,
        source,
        wanted,
        refs=refs,
        cancel=task.cancel,
        on_move=task.meter.move,
    )
    task.still_moving()
    output = measure_image(image, made)
    task.storage.put_bytes(f"{task.claim.prefix}/{image.path}", made.data)
    warnings = tuple(f"{image.path}: {warning}" for warning in made.warnings)
    return Done({"output": to_plain(output), "warnings": list(warnings)}, warnings=warnings)


def _watermarks(task: Work, asset_ids: Sequence[str]) -> dict[str, Path]:
    """The pictures that are laid over others, as files. Raises `UsageError` (`watermark_missing`)
    where one was deleted since it was asked for."""
    user_id = task.claim.user_id
    keys = consult(
        task.services, task.cancel, lambda tx: asset_rows.picture_keys(tx, user_id, asset_ids)
    )
    found = {}
    for asset_id in sorted(asset_ids):
        try:
            found[asset_id] = _local(task, keys[asset_id], f"watermark-{asset_id}")
        except (KeyError, Missing):
            raise UsageError(
                f"the watermark {asset_id} was deleted", code="watermark_missing"
            ) from None
    return found


def _finish_images(task: Work, plan: ImagePlan) -> Done:
    """Every picture under this claim's prefix, by links, and the report."""
    job_id, prefix = task.claim.job_id, task.claim.prefix
    rows = consult(task.services, task.cancel, lambda tx: work.finished_steps(tx, job_id))
    task.storage.copy_all(
        {f"{prefix}/{row.step_id}": f"{row.prefix}/{row.step_id}" for row in rows}
    )
    task.still_moving()
    outputs = [NewOutput(**row.result["output"]) for row in rows]
    warnings = list(plan.source.warnings)
    warnings += [warning for row in rows for warning in row.result["warnings"]]
    report = report_images(plan, outputs, warnings)
    data, written = write_image_report(report)
    task.storage.put_bytes(f"{prefix}/{written.path}", data)
    return Done(
        result={},
        outputs=(*outputs, written),
        job_prefix=prefix,
        asset={} if plan.poster is None else {"poster_key": f"{prefix}/{plan.poster}"},
        job={"report": report, "warnings": warnings},
    )


# --- another plan ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instead:
    """What a job goes over to."""

    plan: Plan
    tasks: tuple[NewTask, ...]
    warnings: tuple[str, ...]  # to be told: those of the first plan are known


def instead_of_copying(services: Services, cancel: Cancel, job_id: str) -> Instead | None:
    """What to do when a copy turned out damaged; None where nothing was copied, or must be. Raises
    `Fenced`, and what `make_plan` does."""
    subject = _subject(services, cancel, job_id)
    first = read_plan(subject.plan)
    plan = encoded_instead(first)
    if plan is None:
        return None
    said = tuple(warning for warning in plan.warnings if warning not in first.warnings)
    return _instead(services, cancel, subject, plan, said)


def as_chosen(services: Services, cancel: Cancel, job_id: str, choices: Choices) -> Instead:
    """What to do once a search has ended. Raises `Fenced`, and what `make_plan` does."""
    subject = _subject(services, cancel, job_id)
    first = read_plan(subject.plan)
    plan = chosen_plan(first, choices)
    said = tuple(warning for warning in plan.warnings if warning not in first.warnings)
    return _instead(services, cancel, subject, plan, said)


def again_with_this_ffmpeg(services: Services, cancel: Cancel, job_id: str) -> Instead:
    """The same plan from its beginning, when another FFmpeg made some of it: parts of two may not
    join. Raises `Fenced`."""
    subject = _subject(services, cancel, job_id)
    said = f"begun again with FFmpeg {services.tools.version}, after {subject.made_with}"
    return _instead(services, cancel, subject, read_plan(subject.plan), (said,))


def _instead(
    services: Services, cancel: Cancel, subject: work.Subject, plan: Plan, said: tuple[str, ...]
) -> Instead:
    expected = consult(services, cancel, lambda tx: work.expected_sha256(tx, subject.asset_id))
    digest = choose_digest(subject.source_sha256, expected)
    return Instead(plan, make_tasks(plan, digest=digest), said)


# --- first play -----------------------------------------------------------------------------------


def playable(plan: Plan, runs: Mapping[str, int], steps_done: set[str]) -> bool:
    """Whether a growing `master.m3u8` can be played: `runs` are how many segments each rendition
    has without a hole, `steps_done` the steps that have ended."""
    if not plan.hls:
        return False
    names = [rendition.name for rendition in plan.listed]
    if plan.sound is not None:
        names.append(plan.sound.name)
    known = {name: runs.get(name, 0) for name in names}
    # Of these one step makes all there is; who encodes in chunks has enough with the first.
    complete = {
        name
        for step in plan.steps
        if step.kind in ("video-copy", "audio") and step.id in steps_done
        for name in step.renditions
    }
    return started(plan, listed_now(plan, known), known, complete)


def tell_if_playable(services: Services, cancel: Cancel, job_id: str, plan: Plan) -> bool:
    """Record a job's first play, once, when its timeline has come that far. Whether it plays now,
    so that there is nothing left to tell. Raises as `persist` does."""
    if not plan.hls:
        return True
    # Not in the transaction that advanced: of two that advance at once neither would see both.
    how_far = consult(services, cancel, lambda tx: _how_far(tx, job_id))
    if how_far is None:
        return True
    if not playable(plan, *how_far):
        return False
    persist(services, cancel, lambda tx: _record_first_play(tx, job_id))
    services.bell.ring(EVENTS)
    return True


def _how_far(tx: Tx, job_id: str) -> tuple[dict[str, int], set[str]] | None:
    """What `playable` asks for; None where the first play is known."""
    if work.first_play_known(tx, job_id):
        return None
    return work.unbroken_runs(tx, job_id), work.succeeded_steps(tx, job_id)


def _record_first_play(tx: Tx, job_id: str) -> None:
    seconds = work.record_first_play(tx, job_id)
    if seconds is not None:
        data = {"playlist": MASTER, "time_to_first_play_s": round(seconds, 3)}
        queue.tell(tx, job_id, "playable", data)


# --- the end --------------------------------------------------------------------------------------


def gather(
    task: Work, plan: Plan, step_ids: Sequence[str], folder: Path
) -> tuple[list[StepResult], dict[str, str]]:
    """Put what these steps made where the engine looks for it, by links. Returns their results,
    and of each file's path in `folder` its key. Raises `StepFailed` (`parts_missing`)."""
    job_id = task.claim.job_id
    rows, keys = consult(
        task.services,
        task.cancel,
        lambda tx: (work.finished_steps(tx, job_id, step_ids), work.segment_keys(tx, job_id)),
    )
    results = []
    parts: dict[str, str] = {}
    for row in rows:
        result = from_plain(StepResult, row.result)
        results.append(result)
        for path, rendition, number in _segments_of(plan, result):
            if (rendition, number) not in keys:
                raise StepFailed(f"{path} was not advanced", code="parts_missing")
            parts[path] = keys[rendition, number]
        for file in result.files:
            parts[file.path] = f"{row.prefix}/{file.path}"
    for path, key in parts.items():
        task.go_on()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        task.storage.fetch(key, folder / path)
        task.meter.move()
    return results, parts


def _segments_of(plan: Plan, result: StepResult) -> Iterator[tuple[str, str, int]]:
    """(path, rendition, number) of everything that a step made of renditions."""
    for made in result.made:
        home = plan.folder_of(made.rendition)
        yield f"{home}/{INIT_NAME}", made.rendition, work.INIT
        for segment in made.segments:
            yield f"{home}/{segment_name(segment.number)}", made.rendition, segment.number


def _finish(task: Work) -> Done:
    subject = _subject(task.services, task.cancel, task.claim.job_id)
    if is_image_plan(subject.plan):
        return _finish_images(task, read_image_plan(subject.plan))
    plan = read_plan(subject.plan)
    folder = task.scratch / "whole"
    folder.mkdir(parents=True)
    results, parts = gather(task, plan, [step.id for step in plan.steps], folder)
    report = join_steps(
        plan,
        folder,
        results,
        tools=task.services.tools,
        earlier_s=subject.age_s,
        time_to_first_play_s=subject.time_to_first_play_s,
        cancel=task.cancel,
        on_move=task.meter.move,
        key=_key(task, subject, plan),
    )
    sizes = _put_tree(task, folder, parts)
    outputs = measure_outputs(plan, report, folder, sizes, task.still_moving)
    poster = next((file.path for file in plan.files if file.kind == "poster"), None)
    plain = to_plain(report)
    return Done(
        result={"verified_rules": report.verified_rules},
        outputs=outputs,
        job_prefix=task.claim.prefix,
        asset={} if poster is None else {"poster_key": f"{task.claim.prefix}/{poster}"},
        job={"report": plain, "warnings": plain["warnings"]},
    )


def _put_tree(task: Work, folder: Path, parts: Mapping[str, str]) -> dict[str, int]:
    """The finished tree under the claim's prefix; path → bytes. What lies in storage already gets
    another name there."""
    prefix, sizes, copies = f"{task.claim.prefix}/", {}, {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if not file.is_file() or path.startswith(f"{WORK}/"):
            continue
        if path in parts:
            copies[prefix + path] = parts[path]
            continue
        task.go_on()
        sizes[path] = task.storage.put_file(prefix + path, file).size_bytes
        task.meter.move()
    for stored in task.storage.copy_all(copies):
        sizes[stored.key.removeprefix(prefix)] = stored.size_bytes
    task.still_moving()
    return sizes


# --- digests --------------------------------------------------------------------------------------


def _digest(task: Work) -> Done:
    subject = _subject(task.services, task.cancel, task.claim.job_id)
    task.meter.expect(1.0)
    found, done_bytes = hashlib.sha256(), 0
    for piece in task.storage.read(_source_key(subject)):
        found.update(piece)
        done_bytes += len(piece)
        task.go_on()
        task.meter.move(done_bytes / max(1, subject.source_size_bytes))
    expected = consult(
        task.services, task.cancel, lambda tx: work.expected_sha256(tx, subject.asset_id)
    )
    digest = found.hexdigest()
    if expected is not None and expected.lower() != digest:
        raise InputRefused(
            f"the upload was announced with SHA-256 {expected}, and has {digest}",
            code="digest_mismatch",
        )
    return Done({"sha256": digest}, asset={"source_sha256": digest})
