"""A worker: claims a task, keeps its lease while it runs, commits what came of it; then the next.

Three threads attend a task. One does it (`tasks.perform`), and with it live and die the children
that it starts. One keeps the lease (`Keeper`): it says how far the task is and hears whether it is
to be cancelled. The third, the loop itself, waits for both of the other's ends: it cancels the task
when the database was silent for too long, or when the worker has to stop and its grace is over.
Setting the task's `Cancel` kills the process groups at once.

Whatever happens, the database's fence decides: a worker that lost its task may go on for a moment,
and nothing that it does is followed by a reader.
"""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from telecine.engine.disk import disk_failure
from telecine.engine.errors import Interrupted, MediaError
from telecine.engine.plan import Plan
from telecine.engine.process import Cancel
from telecine.engine.transcode import copy_failed
from telecine.service.db import queue, work
from telecine.service.db.connection import Tx
from telecine.service.db.queue import LEASE_S, Claim
from telecine.service.dispatch.bell import EVENTS, POLL_S, TASKS
from telecine.service.domain import ServiceError, Unavailable
from telecine.service.logs import about, get_logger
from telecine.service.orders import summarize
from telecine.service.scratch import attempt_folder, job_folder, scratch_folder
from telecine.service.services import Services
from telecine.service.tasks import (
    AnotherFFmpeg,
    Done,
    Fenced,
    Instead,
    Meter,
    Work,
    again_with_this_ffmpeg,
    instead_of_copying,
    perform,
    persist,
    tell_if_playable,
)

# Below so many times the source's size of free disk no step of it is begun, and no picture: its
# outputs are seldom larger than the source, and other workers' tasks need room too.
ROOM_FACTOR = 2

WATCH_S = 0.2

log = get_logger("worker")


@dataclass(frozen=True, slots=True)
class Clocks:
    """A worker's times, in seconds. `fence_s` is shorter than `lease_s`, so that a worker without
    the database has stopped before another one begins."""

    lease_s: float = LEASE_S
    heartbeat_s: float = 5.0
    look_s: float = 1.0  # so often is asked whether to cancel, and progress written that moved
    quiet_s: float = 60.0  # a task in which nothing moved for so long does not keep its lease
    fence_s: float = 25.0  # the database may be silent for so long
    poll_s: float = POLL_S


def clocks_of(lease_s: float) -> Clocks:
    """The clocks of workers whose leases last so long: in the proportions of the usual ones."""
    usual = Clocks()
    share = lease_s / usual.lease_s
    return Clocks(
        lease_s=lease_s,
        heartbeat_s=usual.heartbeat_s * share,
        look_s=min(usual.look_s, usual.look_s * share * 2),
        fence_s=usual.fence_s * share,
    )


def run_worker(
    services: Services,
    name: str,
    *,
    once: bool,
    stop: threading.Event,
    clocks: Clocks | None = None,
) -> int:
    """Run tasks until `stop` is set; with `once` one task, if there is any. Returns how many ran.

    When `stop` is set, a task that runs has `settings.grace_s` to end, and is given back otherwise.
    """
    clocks = clocks or clocks_of(services.settings.lease_s)
    count, was_full = 0, False
    with closing(services.bell.listen(TASKS)) as ear:
        while not stop.is_set():
            held, full = _claim(services, name, clocks)
            if full and not was_full:
                log.warning("a source waits: the disk is too full to begin with it")
            was_full = full
            if held is not None:
                attend(services, held, stop=stop, clocks=clocks)
                count += 1
            if once:
                break
            if held is None:
                ear.wait(clocks.poll_s)
    return count


class _NoRoom(Exception):
    """The disk is too full to begin what was claimed: the claim is undone."""


def _claim(services: Services, name: str, clocks: Clocks) -> tuple[Claim | None, bool]:
    """The best task that the disk has room for, and whether it has none for a better one."""
    try:
        try:
            with services.database.write() as tx:
                held = queue.claim(tx, name, lease_s=clocks.lease_s)
                if held is not None and held.kind in queue.FILLING:
                    _see_room(services, tx, held)
                return held, False
        except _NoRoom:
            with services.database.write() as tx:
                room_bytes = _room_bytes(services)
                return queue.claim(tx, name, lease_s=clocks.lease_s, room_bytes=room_bytes), True
    except (Unavailable, sa.exc.DBAPIError) as error:
        log.warning("cannot claim", error=str(error))
        return None, False


def _see_room(services: Services, tx: Tx, held: Claim) -> None:
    if (work.source_size_bytes(tx, held.job_id) or 0) > _room_bytes(services):
        raise _NoRoom


def _room_bytes(services: Services) -> int:
    """The largest source whose steps may begin."""
    folder = scratch_folder(services)
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free // ROOM_FACTOR


# --- one task -----------------------------------------------------------------------------------


def attend(services: Services, held: Claim, *, stop: threading.Event, clocks: Clocks) -> None:
    """Do a claimed task, keep its lease meanwhile, and end the claim as it turned out."""
    task = Work(
        services=services,
        claim=held,
        scratch=attempt_folder(services, held.task_id, held.epoch),
        shared=job_folder(services, held.job_id),
        cancel=Cancel(),
        meter=Meter(),
    )
    what = {"kind": held.kind, "step": held.step_id, "epoch": held.epoch}
    with about(job_id=held.job_id, asset_id=held.asset_id, task_id=held.task_id):
        log.info("task begins", **what)
        began = time.monotonic()
        keeper = Keeper(services, held, task.meter, task.cancel, clocks)
        keeper.start()
        try:
            outcome = _outcome(task, keeper, stop, services.settings.grace_s)
        finally:
            keeper.stop()
        end = ending(outcome, lost=keeper.lost)
        if end == "fail":
            _log_failure(outcome)
        left_s = 0.0
        try:
            if end == "begin again" and _is_attended(services, held):
                # In a fleet of two versions no job would end if each began again what the other
                # is at. Who would take the same task again waits, so that they get it.
                end, left_s = "release", queue.AWAY_S
            kept = settle(task, end, outcome)
        except (Interrupted, Unavailable, sa.exc.DBAPIError) as error:
            # The lease runs out, and another worker does it again.
            log.warning("the task's end cannot be told", error=str(error))
            kept = False
        shutil.rmtree(task.scratch, ignore_errors=True)
        wall_s = round(time.monotonic() - began, 3)
        log.info("task ends", **what, ending=end, kept=kept, wall_s=wall_s)
    services.bell.ring(TASKS)
    services.bell.ring(EVENTS)
    stop.wait(left_s)


def _is_attended(services: Services, held: Claim) -> bool:
    with services.database.read() as tx:
        return queue.attended(tx, held)


def _outcome(
    task: Work, keeper: Keeper, stop: threading.Event, grace_s: float
) -> Done | BaseException:
    """What came of the task, done in a thread of its own."""
    found: list[Done | BaseException] = []
    ended = threading.Event()

    def run() -> None:
        with about(job_id=task.claim.job_id, task_id=task.claim.task_id):
            try:
                found.append(perform(task))
            except BaseException as error:  # judged by `ending`
                found.append(error)
            finally:
                ended.set()

    thread = threading.Thread(target=run, name="task")
    thread.start()
    stopped_at: float | None = None
    while not ended.wait(WATCH_S):
        keeper.fence_if_silent()
        if stop.is_set() and stopped_at is None:
            stopped_at = time.monotonic()
        if stopped_at is not None and time.monotonic() - stopped_at >= grace_s:
            task.cancel.set()
    thread.join()
    return found[0]


class Keeper:
    """Keeps the lease of a task from a thread of its own, as long as the task moves. Sets `cancel`
    when the task is to be cancelled, and when it was lost."""

    def __init__(
        self, services: Services, held: Claim, meter: Meter, cancel: Cancel, clocks: Clocks
    ) -> None:
        self.lost = False
        self._services = services
        self._held = held
        self._meter = meter
        self._cancel = cancel
        self._clocks = clocks
        self._over = threading.Event()
        self._heard_at = time.monotonic()  # the database answered
        self._extended_at = self._heard_at
        self._told_s = 0.0
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further look is begun. One that hangs in a database that is away is not waited for."""
        self._over.set()
        self._thread.join(timeout=WATCH_S)

    def fence_if_silent(self) -> None:
        """Give the task up when the database has not answered for too long. Another thread calls
        this, since the keeper's own may hang in a call."""
        if time.monotonic() - self._heard_at > self._clocks.fence_s:
            self._give_up("the database was silent for too long")

    def _run(self) -> None:
        with about(job_id=self._held.job_id, task_id=self._held.task_id):
            while not self._over.wait(self._clocks.look_s):
                try:
                    cancelled = self._look()
                except (Unavailable, sa.exc.DBAPIError) as error:
                    log.warning("the lease cannot be kept", error=str(error))
                    continue
                self._heard_at = time.monotonic()
                if cancelled is None and not self._over.is_set():
                    self._give_up("another attempt has the task, or nobody")
                if cancelled:
                    self._cancel.set()

    def _give_up(self, why: str) -> None:
        if not self.lost:
            log.warning("the task is lost", why=why)
        self.lost = True
        self._cancel.set()

    def _look(self) -> bool | None:
        """Extend the lease, or ask; whether the task is to be cancelled, None when it is lost."""
        now = time.monotonic()
        progress = self._meter.progress()
        due = now - self._extended_at >= self._clocks.heartbeat_s
        moved = progress["done_s"] != self._told_s
        alive = now - self._meter.moved_at <= self._clocks.quiet_s
        if alive and (due or moved):
            with self._services.database.write() as tx:
                beat = queue.heartbeat(tx, self._held, progress, lease_s=self._clocks.lease_s)
            self._extended_at, self._told_s = now, progress["done_s"]
            return None if beat is None else beat.cancel_requested
        with self._services.database.read() as tx:
            lease = work.read_lease(tx, self._held.task_id)
        if lease is None or lease.epoch != self._held.epoch or not lease.running:
            return None
        return lease.cancel_requested


# --- how it ends ----------------------------------------------------------------------------------

Ending = Literal["commit", "drop", "release", "begin again", "replan", "fail"]


def ending(outcome: Done | BaseException, *, lost: bool) -> Ending:
    """What to tell the queue. What is lost is not spoken of; what was interrupted goes back (and is
    cancelled there, if that was the reason)."""
    if lost or isinstance(outcome, Fenced):
        return "drop"
    if isinstance(outcome, Done):
        return "commit"
    if isinstance(outcome, Interrupted):
        return "release"
    if isinstance(outcome, AnotherFFmpeg):
        return "begin again"
    if isinstance(outcome, MediaError) and copy_failed(outcome):
        return "replan"
    return "fail"


def failure(error: BaseException) -> dict[str, Any]:
    """A failure as `queue.fail` takes it: the engine's code, or ours, or that of a bug."""
    if isinstance(error, OSError):
        error = disk_failure(error)
    if isinstance(error, MediaError):
        return {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "log_tail": error.log_tail,
        }
    if isinstance(error, ServiceError):  # storage or database
        return {"code": error.code, "message": error.message, "retryable": True}
    # A database's own words hold statements of ours; the log has them.
    what = type(error).__name__ if isinstance(error, sa.exc.SQLAlchemyError) else repr(error)
    return {"code": "internal", "message": f"a bug in Telecine: {what}", "retryable": True}


def _log_failure(error: object) -> None:
    assert isinstance(error, BaseException)
    if isinstance(error, MediaError | ServiceError):
        log.warning("task failed", error_code=error.code, message=error.message)
    else:
        log.error("task failed", exc_info=error)


def settle(task: Work, end: Ending, outcome: Done | BaseException) -> bool:
    """End the claim. False: it was over before. Raises what `persist` does."""
    services, held = task.services, task.claim
    patient = Cancel()  # the task's own may be set, and its end is told all the same
    if isinstance(outcome, Done):
        if end != "commit":
            return False
        if outcome.instead is not None:
            instead = outcome.instead
            return persist(services, patient, lambda tx: _go_over(tx, held, instead))
        kept = persist(services, patient, lambda tx: _commit(tx, held, outcome))
        if kept and outcome.plan is not None:
            _let_play(services, patient, held, outcome.plan)
        return kept
    if end == "replan":
        return _replan(task, patient, outcome)
    if end == "begin again":
        return _begin_again(task, patient)
    if end == "release":
        return persist(services, patient, lambda tx: queue.release(tx, held))
    if end == "fail":
        said = failure(outcome)
        return persist(services, patient, lambda tx: queue.fail(tx, held, **said))
    return False


def _let_play(services: Services, patient: Cancel, held: Claim, plan: Plan) -> None:
    """The task is committed, whatever becomes of this: another's may tell it as well."""
    try:
        tell_if_playable(services, patient, held.job_id, plan)
    except (Interrupted, Unavailable, sa.exc.DBAPIError) as error:
        log.warning("the first play cannot be told", error=str(error))


def _commit(tx: Tx, held: Claim, done: Done) -> bool:
    committed = queue.commit(
        tx, held, result=done.result, outputs=done.outputs, job_prefix=done.job_prefix
    )
    if not committed:
        return queue.committed(tx, held)  # by an earlier try whose answer was lost
    for warning in done.warnings:
        queue.tell(tx, held.job_id, "warning", {"message": warning})
    if done.job:
        work.change_job(tx, held.job_id, done.job)
    if done.asset:
        work.change_asset(tx, held.asset_id, done.asset)
    return True


def _replan(task: Work, patient: Cancel, error: BaseException) -> bool:
    """Go over to the plan that encodes where copying failed; fail where there is none."""
    services, held = task.services, task.claim
    instead: Instead | None = None
    try:
        instead = instead_of_copying(services, patient, held.job_id)
    except Fenced:
        return False
    except MediaError as no_plan:
        _log_failure(no_plan)
        error = no_plan
    if instead is None:
        said = failure(error)
        return persist(services, patient, lambda tx: queue.fail(tx, held, **said))
    return persist(services, patient, lambda tx: _go_over(tx, held, instead))


def _begin_again(task: Work, patient: Cancel) -> bool:
    """Begin the job again with the FFmpeg of this worker."""
    services, held = task.services, task.claim
    try:
        instead = again_with_this_ffmpeg(services, patient, held.job_id)
    except Fenced:
        return False
    return persist(services, patient, lambda tx: _go_over(tx, held, instead))


def _go_over(tx: Tx, held: Claim, instead: Instead) -> bool:
    plan = instead.plan
    if not queue.replan(tx, held, plan.to_json(), summarize(plan), instead.tasks):
        return False
    work.forget_first_play(tx, held.job_id)
    for warning in instead.warnings:
        queue.tell(tx, held.job_id, "warning", {"message": warning})
    return True
