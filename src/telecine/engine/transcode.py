"""START HERE: probe → plan → encode → package → verify.

`transcode` decides with pure functions (`make_plan`), runs the plan's steps (`run_steps`, each a
`run_step`), publishes what is finished while the rest is made (`Publisher`), and ends with
`verify`. Whatever stops it is a `MediaError`; starting again with the same arguments goes on.
"""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from telecine.engine.disk import disk_failure, read_small, remove, write_whole
from telecine.engine.errors import Interrupted, MediaError, StepFailed, VerifyFailed
from telecine.engine.events import JSON, Event, EventName
from telecine.engine.inputs import NO_INPUTS
from telecine.engine.manifests import MASTER, Measured
from telecine.engine.output import PLAN, REPORT, STEPS, claimed, read_plan, start_over, tidy
from telecine.engine.package import Publisher
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import chosen_plan, encoded_instead, make_plan
from telecine.engine.probe import probe, probe_inputs
from telecine.engine.process import Cancel
from telecine.engine.profile import Profile
from telecine.engine.progress import Progress, pace
from telecine.engine.report import Report, State, describe, make_report
from telecine.engine.schedule import run_steps
from telecine.engine.serial import from_plain, to_plain
from telecine.engine.steps.encode import (
    StepResult,
    finished_step,
    left_whole,
    result_path,
    run_step,
)
from telecine.engine.tools import Tools, see_able
from telecine.engine.verify import RuleResult, verify
from telecine.engine.words.protection import ContentKey, see_key

PROGRESS_EVERY_S = 0.25

# What comes of copying pictures that are not what their index says: times that do not fit the grid,
# pictures missing, an output that breaks a rule. A plan that encodes them mends it.
COPY_FAULTS = frozenset(
    {
        *("copy_failed", "fragment_timing", "frame_count", "grid_mismatch", "init_mismatch"),
        *("malformed_media", "verify_failed"),
    }
)

OnEvent = Callable[[Event], None]


def transcode(
    source: Path,
    folder: Path,
    profile: Profile,
    *,
    tools: Tools,
    jobs: int,
    force: bool = False,
    on_event: OnEvent = lambda _: None,
    cancel: Cancel | None = None,
    inputs: Mapping[str, Path] = NO_INPUTS,
    key: ContentKey | None = None,
) -> Report:
    """Make everything `profile` asks of `source` in `folder`, `jobs` chunks at once.

    `inputs` says where the files beside the source lie, by the names of `Profile.inputs`; `key` is
    that of `Profile.protection`, and stands in nothing that is written or told.
    Segments and playlists appear as they are made. Raises `InputRefused` and `ToolMissing`
    (nothing is written), `UsageError` (`output_exists`, `output_busy`, `key_missing` …),
    `StepFailed`, `VerifyFailed`, `Interrupted`: finished steps stay in `folder` and are used again,
    growing playlists stay valid, and `report.json` says how it ended.
    """
    see_key(profile.protection, key)
    run = _Run(folder, tools, jobs, on_event, cancel or Cancel(), key)
    run.tell("started", version=version("telecine"), ffmpeg=tools.version,
             sandbox=str(tools.sandbox), source=source.name, jobs=jobs)  # fmt: skip
    info = probe(source, tools, cancel=run.cancel)
    run.tell("probed", summary=list(describe(info)), duration_s=round(float(info.duration_s), 3),
             container=info.container)  # fmt: skip
    beside = probe_inputs(profile, inputs, tools, cancel=run.cancel)
    plan = make_plan(info, profile, inputs=beside)
    see_able(tools, plan)
    run.probed_s = run.age_s()
    plan = _taken_up(plan, folder, force=force)
    files = (source, *inputs.values())
    with claimed(folder, plan, files, force=force):
        try:
            report = run.carry_out(plan, source, inputs)
        except StepFailed as failure:
            instead = encoded_instead(run.plan)
            if instead is None or not run.blames_the_copy(failure):
                raise
            start_over(folder, instead, files)
            report = run.carry_out(instead, source, inputs)
    playlist = None if report.playlist is None else str(folder / report.playlist)
    run.tell("done", playlist=playlist, report=str(folder / REPORT), wall_s=run.age_s(),
             time_to_first_play_s=report.time_to_first_play_s)  # fmt: skip
    return report


def copy_failed(failure: MediaError) -> bool:
    """Whether copying may be what failed, so that `encoded_instead` may do better. Not where trying
    again may."""
    return not failure.retryable and failure.code in COPY_FAULTS


def join_steps(
    plan: Plan,
    folder: Path,
    results: Sequence[StepResult],
    *,
    tools: Tools,
    probe_s: float = 0.0,
    earlier_s: float = 0.0,
    time_to_first_play_s: float | None = None,
    cancel: Cancel | None = None,
    on_move: Callable[[], object] = lambda: None,
    key: ContentKey | None = None,
) -> Report:
    """Finish what `run_step` made elsewhere, once all of it lies in `folder`: write the playlists,
    verify, report. With this a plan's steps and their end may each run on another machine, and
    leave what `transcode` leaves.

    `earlier_s` is how long the job took until now; `on_move` hears of each file. Raises
    `StepFailed` (`parts_missing`, `init_mismatch`, `disk_error`), `VerifyFailed` and `Interrupted`.
    """
    began, cpu_began_s = time.monotonic(), time.thread_time()
    cancel = cancel or Cancel()
    by_step = {result.step: result for result in results}
    ordered = tuple(by_step[step.id] for step in plan.steps if step.id in by_step)
    try:
        _see_parts(plan, folder, ordered)
        write_whole(folder / PLAN, plan.to_json())
        publisher = Publisher(plan, folder, lambda: None)
        for result in ordered:
            write_whole(result_path(folder, result.step), json.dumps(to_plain(result)) + "\n")
            for made in result.made:
                publisher.take(made.rendition, made.segments)
            on_move()
        measured = publisher.finish()
        found = verify(folder, cancel=cancel, on_read=on_move, key=key)
        if cancel.is_set():
            raise Interrupted
        broken = [rule for rule in found.rules if not rule.passed]
        if broken:
            raise _breaks(broken)
        tidy(folder, plan)
        report = make_report(
            plan,
            state="succeeded",
            version=version("telecine"),
            ffmpeg=tools.version,
            sandbox=str(tools.sandbox),
            results=ordered,
            measured=measured,
            probe_s=probe_s,
            total_s=earlier_s + time.monotonic() - began,
            time_to_first_play_s=time_to_first_play_s,
            own_cpu_s=time.thread_time() - cpu_began_s,
            verified_rules=len(found.rules),
        )
        write_whole(folder / REPORT, _report_text(report))
    except OSError as error:
        raise disk_failure(error) from error
    return report


def _see_parts(plan: Plan, folder: Path, results: Sequence[StepResult]) -> None:
    """Raise unless every step's parts lie in `folder`, and fit each other."""
    there = {result.step for result in results if left_whole(plan, result, folder)}
    missing = [step.id for step in plan.steps if step.id not in there]
    if missing:
        raise StepFailed(f"parts of {', '.join(missing)} are missing", code="parts_missing")
    inits: dict[str, str] = {}
    for result in results:
        for made in result.made:
            if inits.setdefault(made.rendition, made.init_sha256) != made.init_sha256:
                raise StepFailed(
                    f"the init segments of {made.rendition} differ: they cannot be joined",
                    code="init_mismatch",
                )


def _breaks(broken: Sequence[RuleResult]) -> VerifyFailed:
    said = "; ".join(f"{rule.name}: {rule.figure}" for rule in broken)
    return VerifyFailed(f"the output breaks {said}", broken=tuple(rule.name for rule in broken))


def _report_text(report: Report) -> str:
    return json.dumps(to_plain(report), indent=1, ensure_ascii=False) + "\n"


def _taken_up(plan: Plan, folder: Path, *, force: bool) -> Plan:
    """The plan to work on: the one that an earlier run went over to, where there is such."""
    earlier = None if force else read_plan(folder)
    if earlier is None or earlier.id == plan.id:
        return plan
    first = plan
    if plan.searching and earlier.choices is not None:
        first = chosen_plan(plan, earlier.choices)
    later = (first, encoded_instead(first))
    return next((each for each in later if each is not None and each.id == earlier.id), plan)


class _Run:
    """One run: its clock, its listener, and what its steps have done so far."""

    plan: Plan
    probed_s: float

    def __init__(
        self,
        folder: Path,
        tools: Tools,
        jobs: int,
        on_event: OnEvent,
        cancel: Cancel,
        key: ContentKey | None = None,
    ) -> None:
        self._key = key
        self.cancel = cancel
        self._callers_cancel = cancel
        self._folder = folder
        self._tools = tools
        self._jobs = jobs
        self._on_event = on_event
        self._started = time.monotonic()
        self._lock = threading.Lock()  # steps run in threads; events and progress are shared
        self._playable = threading.Event()
        self._first_play_s: float | None = None
        self._results: dict[str, StepResult] = {}
        self._reused = False  # whether an earlier run left steps that this one took over
        self._told = 0.0

    # --- telling

    def age_s(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def tell(self, name: EventName, **data: JSON) -> None:
        with self._lock:
            self._on_event(Event(name, data))

    def tell_plan(self) -> None:
        plan = self.plan
        rungs: list[JSON] = [
            {"name": r.name, "width": r.size.width, "height": r.size.height, "mode": r.mode,
             "reason": r.reason}
            for r in plan.listed
        ]  # fmt: skip
        dropped: list[JSON] = [{"name": d.name, "reason": d.reason} for d in plan.dropped]
        self.tell(
            "planned",
            plan_id=plan.id,
            duration_s=round(float(plan.timeline.duration_s), 3),
            rungs=rungs,
            dropped=dropped,
            chunks=len(plan.chunks),
            steps=[step.id for step in plan.steps],
        )
        for warning in plan.warnings:
            self.tell("warning", message=warning)

    def _tell_progress(self, step: Step) -> None:
        """At most four times a second. The lock is held, so that what is told never goes back."""
        now = time.monotonic()
        if now - self._told < PROGRESS_EVERY_S:
            return
        self._told = now
        fraction = self._progress.fraction()
        rungs: dict[str, JSON] = {n: round(f, 4) for n, f in self._progress.rungs().items()}
        speed, eta_s = pace(
            self._own.fraction(),
            1 - fraction,
            now - self._making,
            float(self.plan.timeline.duration_s),
        )
        data: dict[str, JSON] = {
            "stage": step.kind,
            "fraction": round(fraction, 4),
            "speed": None if speed is None else round(speed, 2),
            "eta_s": None if eta_s is None else round(eta_s, 1),
            "rungs": rungs,
        }
        self._on_event(Event("progress", data))

    # --- doing

    def carry_out(self, plan: Plan, source: Path, inputs: Mapping[str, Path]) -> Report:
        """Make what is missing of this plan in the folder, which is its own; of one that only
        searches also the plan that follows from what it found."""
        self._begin(plan)
        if plan.searching:
            self.make(source, inputs)
            (found,) = self._results.values()
            assert found.choices is not None
            plan = chosen_plan(plan, found.choices)
            start_over(self._folder, plan, (source, *inputs.values()))
            self._begin(plan)
        return self.finished_before() or self.make(source, inputs)

    def _begin(self, plan: Plan) -> None:
        self.plan = plan
        self.cancel = Cancel(self._callers_cancel)  # a failure ends this plan's children alone
        self._playable = threading.Event()
        self._first_play_s = None
        self._results = {}
        self._reused = False
        self.tell_plan()
        write_whole(self._folder / PLAN, plan.to_json())

    def finished_before(self) -> Report | None:
        """The report of an earlier run that succeeded with this very plan and still verifies."""
        try:
            report = from_plain(Report, json.loads(read_small(self._folder / REPORT)))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        if report.state != "succeeded" or report.plan_id != self.plan.id:
            return None
        if self._broken_rules():
            return None
        for step in self.plan.steps:
            self.tell("step", id=step.id, state="reused")
        return report

    def make(self, source: Path, inputs: Mapping[str, Path]) -> Report:
        """Run the steps, publish, verify, report. `report.json` is written whatever happens. A plan
        that only searches has nothing to publish, and is reported only where it fails."""
        self._making = time.monotonic()
        self._progress = Progress(self.plan)
        self._own = Progress(self.plan)  # of it, what this run does and no earlier one did
        self._publisher = Publisher(self.plan, self._folder, self._now_playable)
        measured: tuple[Measured, ...] = ()
        state: State = "failed"
        error: str | None = None
        rules = 0
        try:
            run_steps(
                self.plan,
                lambda step: self._one(step, source, inputs),
                jobs=self._jobs,
                playable=self._playable,
                cancel=self.cancel,
            )
            if not self.plan.searching:
                measured = self._publisher.finish()
                rules = self._verified()
                tidy(self._folder, self.plan)
            state = "succeeded"
        except (Interrupted, KeyboardInterrupt) as raised:
            state, error = "interrupted", str(raised) or "interrupted"
            raise
        except MediaError as raised:
            error = f"{raised.code}: {raised.message}"
            raise
        except OSError as raised:
            failure = disk_failure(raised)
            error = f"{failure.code}: {failure.message}"
            raise failure from raised
        finally:
            report = self._report(state, measured, rules, error)
            try:
                if error is not None or not self.plan.searching:  # else nothing has ended yet
                    write_whole(self._folder / REPORT, _report_text(report))
            except OSError as raised:
                if error is None:  # else what went wrong first is what the user must hear
                    raise disk_failure(raised) from raised
        return report

    def blames_the_copy(self, failure: StepFailed) -> bool:
        """Whether a plan that encodes may do better. Not where trying again may, nor where a part
        that an earlier run left may be what breaks a rule."""
        leftovers = failure.code == "verify_failed" and self._reused
        return copy_failed(failure) and not leftovers

    def _one(self, step: Step, source: Path, inputs: Mapping[str, Path]) -> StepResult:
        """A step, or what an earlier run left of it."""
        result = finished_step(self.plan, step.id, self._folder, self._tools)
        self._reused = self._reused or result is not None
        reused = result is not None
        if result is None:
            self.tell("step", id=step.id, state="started")
            result = run_step(
                self.plan,
                step.id,
                source,
                self._folder,
                tools=self._tools,
                on_segment=self._publisher.add,
                on_progress=lambda done_s: self._advance(step, done_s),
                cancel=self.cancel,
                inputs=inputs,
                key=self._key,
            )
            self.tell("step", id=step.id, state="finished", wall_s=result.wall_s)
        else:
            for made in result.made:
                for segment in made.segments:
                    self._publisher.add(made.rendition, segment)
            self.tell("step", id=step.id, state="reused")
        if step.kind in ("video-copy", "audio"):
            for made in result.made:
                self._publisher.complete(made.rendition)
        for warning in result.warnings:
            self.tell("warning", message=warning)
        with self._lock:
            self._results[step.id] = result
            self._progress.finish(step)
            if not reused:
                self._own.finish(step)
        return result

    def _advance(self, step: Step, done_s: float) -> None:
        with self._lock:
            self._progress.advance(step, done_s)
            self._own.advance(step, done_s)
            self._tell_progress(step)

    def _now_playable(self) -> None:
        self._first_play_s = self.age_s()
        self._playable.set()
        self.tell("playable", playlist=str(self._folder / MASTER), after_s=self._first_play_s)

    def _broken_rules(self) -> tuple[str, ...]:
        return tuple(
            rule.name
            for rule in verify(self._folder, cancel=self.cancel, key=self._key).rules
            if not rule.passed
        )

    def _verified(self) -> int:
        found = verify(self._folder, cancel=self.cancel, key=self._key)
        if self.cancel.is_set():
            raise Interrupted
        broken = [rule for rule in found.rules if not rule.passed]
        names: list[JSON] = [rule.name for rule in broken]
        self.tell("verified", rules=len(found.rules), broken=names)
        if broken:
            # Whatever was reused may be what is broken: the next run makes everything again.
            remove(self._folder / STEPS)
            raise _breaks(broken)
        return len(found.rules)

    def _report(
        self, state: State, measured: tuple[Measured, ...], rules: int, error: str | None
    ) -> Report:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        order = [step.id for step in self.plan.steps]
        return make_report(
            self.plan,
            state=state,
            version=version("telecine"),
            ffmpeg=self._tools.version,
            sandbox=str(self._tools.sandbox),
            results=tuple(self._results[name] for name in order if name in self._results),
            measured=measured,
            probe_s=self.probed_s,
            total_s=self.age_s(),
            time_to_first_play_s=self._first_play_s,
            own_cpu_s=usage.ru_utime + usage.ru_stime,
            verified_rules=rules,
            error=error,
        )
