"""The queue's protocol, one suite on SQLite and on PostgreSQL; the doorbell of one machine."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.service.databases import StoppedClock, counted_steps
from tests.service.in_processes import ring, work_noops
from tests.service.jobs_made import DIAMOND, add_asset, add_user, make_job, queue_job, task
from tests.waiting import until

from telecine.service.db import queue
from telecine.service.db.assets import delete_asset, find_asset
from telecine.service.db.connection import Database, Tx
from telecine.service.db.queue import Claim, NewJob, NewOutput, NewSegment
from telecine.service.db.tables import (
    assets,
    attempts,
    jobs,
    outputs,
    segments,
    tasks,
    tenants,
)
from telecine.service.db.tenants import decayed
from telecine.service.db.work import change_asset, change_job, record_first_play
from telecine.service.dispatch.local import LocalBell, LocalListener
from telecine.service.domain import NotFound, Unavailable

ADA, BOB = "A" * 26, "B" * 26


def claim(database: Database, worker: str = "w1") -> Claim:
    found = try_claim(database, worker)
    assert found is not None
    return found


def try_claim(database: Database, worker: str = "w1") -> Claim | None:
    with database.write() as tx:
        return queue.claim(tx, worker)


def commit(database: Database, held: Claim, **more: Any) -> bool:
    with database.write() as tx:
        return queue.commit(tx, held, result={}, **more)


def fail(database: Database, held: Claim, *, retryable: bool, code: str = "disk_full") -> bool:
    with database.write() as tx:
        return queue.fail(tx, held, code=code, message="no", retryable=retryable)


def sweep(database: Database) -> int:
    with database.write() as tx:
        return queue.sweep(tx)


def row(database: Database, table: sa.Table, **where: Any) -> Any:
    return rows(database, table, **where)[0]


def rows(database: Database, table: sa.Table, **where: Any) -> list[Any]:
    found = sa.select(table)
    for name, value in where.items():
        found = found.where(table.c[name] == value)
    with database.read() as tx:
        return list(tx.connection.execute(found.order_by(*table.primary_key.columns)))


def task_states(database: Database, job_id: str) -> list[str]:
    found = rows(database, tasks, job_id=job_id)
    return [one.state for one in sorted(found, key=lambda one: one.position)]


def told(database: Database, job_id: str) -> list[tuple[str, str | None]]:
    with database.read() as tx:
        events = queue.events_after(tx, job_id, 0)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [(event.type, event.data.get("state")) for event in events]


def counters(database: Database, user_id: str = ADA) -> tuple[int, int]:
    found = row(database, tenants, user_id=user_id)
    return found.queued_jobs, found.running_jobs


def segment(number: int, key: str = "k", rendition: str = "720p") -> NewSegment:
    return NewSegment(rendition, number, key, 10, {})


def drain(database: Database) -> list[Claim]:
    """Run all there is."""
    done = []
    while (held := try_claim(database)) is not None:
        assert commit(database, held)
        done.append(held)
    return done


# --- a job's way --------------------------------------------------------------------------------


def test_a_job_goes_from_queued_to_succeeded(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    assert row(clocked, jobs, id=job.id).state == "queued"
    assert counters(clocked) == (1, 0)

    stopped.now_s += 3
    first = claim(clocked)
    assert (first.job_id, first.user_id, first.asset_id) == (job.id, ADA, job.asset_id)
    assert (first.kind, first.epoch, first.owner) == ("noop", 1, "w1")
    assert row(clocked, jobs, id=job.id).started_at == stopped.now_s
    assert counters(clocked) == (0, 1)
    assert row(clocked, assets, id=job.asset_id).state == "processing"
    assert row(clocked, assets, id=job.asset_id).job_id == job.id
    assert task_states(clocked, job.id) == ["running", "blocked", "blocked", "blocked"]

    assert commit(clocked, first)
    assert task_states(clocked, job.id) == ["succeeded", "ready", "ready", "blocked"]
    for _ in range(2):
        assert commit(clocked, claim(clocked))
    last = claim(clocked)
    assert last.kind == "finish"
    stopped.now_s += 5
    output = NewOutput("hls", "master.m3u8", "application/x", 7, "ab", {"a": 1})
    assert commit(clocked, last, outputs=[output], job_prefix=last.prefix)

    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.finished_at, ended.prefix) == (
        "succeeded",
        stopped.now_s,
        last.prefix,
    )
    assert counters(clocked) == (0, 0)
    assert row(clocked, assets, id=job.asset_id).state == "ready"
    done = ("task", "succeeded")
    assert told(clocked, job.id) == [
        *(("queued", None), ("started", None), done, done, done, done),
        *(("output", None), ("succeeded", None)),
    ]
    assert try_claim(clocked) is None


def test_the_prefix_is_recorded_with_the_claim(database: Database) -> None:
    job = queue_job(database, ADA)
    held = claim(database)
    start, _, last = held.prefix.rpartition("/")
    assert start == f"tasks/{job.id}/{held.task_id}"
    epoch, _, random = last.partition("-")
    assert epoch == "1"
    assert len(random) == 8
    assert int(random, 16) >= 0
    kept = row(database, attempts)
    assert (kept.prefix, kept.worker, kept.epoch) == (held.prefix, "w1", 1)


def test_a_claim_that_is_undone_leaves_nothing(database: Database) -> None:
    queue_job(database, ADA)

    def undone() -> None:
        with database.write() as tx:
            assert queue.claim(tx, "w1") is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    assert rows(database, attempts) == []
    assert counters(database) == (1, 0)


def test_a_graph_that_cannot_be_done_is_refused(database: Database) -> None:
    with database.write() as tx:
        add_user(tx, ADA)
        add_asset(tx, "X" * 26, ADA)
    for wrong in ((), (task(0),), (task(1), task()), (task(-1),)):
        with pytest.raises(ValueError, match="task"), database.write() as tx:
            queue.submit(tx, make_job(ADA, "X" * 26, wrong))
    assert rows(database, jobs) == []


# --- which is next ------------------------------------------------------------------------------


def test_priority_then_opening_then_age(database: Database) -> None:
    """Five jobs, and the order in which a person would serve their tasks by the rules."""
    two = (task(opening=True), task())
    old = queue_job(database, ADA, two)
    late = queue_job(database, ADA, two)
    urgent = queue_job(database, ADA, two, priority=5)
    low = queue_job(database, ADA, two, priority=-5)
    order = [(held.job_id, held.epoch) for held in drain(database)]
    names = {old.id: "old", late.id: "late", urgent.id: "urgent", low.id: "low"}
    assert [names[job_id] for job_id, _ in order] == [
        *("urgent", "urgent", "old", "late", "old", "late", "low", "low")
    ]


def test_who_was_served_least_lately_goes_first(clocked: Database, stopped: StoppedClock) -> None:
    for _ in range(3):
        queue_job(clocked, ADA, (task(), task()))
    queue_job(clocked, BOB, (task(), task()))
    held = claim(clocked)
    assert held.user_id == ADA
    stopped.now_s += 100
    assert commit(clocked, held)
    assert row(clocked, tenants, user_id=ADA).served_s == pytest.approx(100)
    # Bob's job starts before Ada's second; then both hold theirs to the end.
    assert [one.user_id for one in drain(clocked)][:2] == [BOB, ADA]


def test_what_was_served_counts_half_an_hour_later() -> None:
    assert decayed(100.0, 1000.0, 1000.0) == pytest.approx(100)
    assert decayed(100.0, 1000.0, 4600.0) == pytest.approx(50)
    assert decayed(100.0, 1000.0, 8200.0) == pytest.approx(25)
    assert decayed(100.0, 1000.0, 0.0) == pytest.approx(100)
    assert decayed(1e9, 0.0, 2e9) == 0


def test_long_ago_is_forgiven(clocked: Database, stopped: StoppedClock) -> None:
    """Ada was served 400 s four hours ago, Bob 40 s just now: hers weigh 25 s by now."""
    queue_job(clocked, ADA, (task(),))
    held = claim(clocked)
    stopped.now_s += 400
    assert commit(clocked, held)
    stopped.now_s += 4 * 3600
    queue_job(clocked, BOB, (task(),))
    held = claim(clocked)
    stopped.now_s += 40
    assert commit(clocked, held)
    queue_job(clocked, BOB, (task(),))
    queue_job(clocked, ADA, (task(),))
    assert [one.user_id for one in drain(clocked)] == [ADA, BOB]


def test_no_more_jobs_of_a_user_run_than_may(database: Database) -> None:
    with database.write() as tx:
        add_user(tx, ADA, max_running_jobs=2)
    for _ in range(3):
        queue_job(database, ADA, (task(),))
    queue_job(database, BOB, (task(),))
    taken = [claim(database) for _ in range(3)]
    assert Counter(held.user_id for held in taken) == {ADA: 2, BOB: 1}
    assert try_claim(database) is None
    assert commit(database, taken[0])
    assert claim(database).user_id == ADA


def test_the_limit_is_the_users_own_or_the_setting(database: Database) -> None:
    with database.write() as tx:
        add_user(tx, ADA, max_running_jobs=7)
        add_user(tx, BOB)
        for asset_id, user_id in (("X" * 26, ADA), ("Y" * 26, BOB)):
            add_asset(tx, asset_id, user_id)
            queue.submit(tx, make_job(user_id, asset_id), max_running_jobs=3)
    assert row(database, tenants, user_id=ADA).max_running_jobs == 7
    assert row(database, tenants, user_id=BOB).max_running_jobs == 3
    with database.write() as tx:
        queue.submit(tx, make_job(BOB, "Y" * 26), max_running_jobs=4)
    assert row(database, tenants, user_id=BOB).max_running_jobs == 4


def test_ten_thousand_queued_jobs_cost_a_claim_nothing(tmp_path: Path) -> None:
    """Not by the clock: SQLite's virtual machine takes as many steps as with ten of them."""
    database = Database(f"sqlite:///{tmp_path / 'many.db'}")
    jobs.metadata.create_all(database.engine)

    def steps_of_a_claim() -> int:
        with database.write() as tx:
            with counted_steps(tx) as steps:
                assert queue.claim(tx, "w1") is not None
            tx.connection.rollback()
            tx.connection.exec_driver_sql("BEGIN")
        return steps.taken

    first = queue_job(database, ADA, (task(),))
    for _ in range(9):
        queue_job(database, ADA, (task(),))
    few = steps_of_a_claim()
    with database.write() as tx:
        known = tx.connection.execute(sa.select(jobs).where(jobs.c.id == first.id)).one()._asdict()
        many = [{**known, "id": f"Z{number:025}"} for number in range(10_000)]
        tx.connection.execute(sa.insert(jobs), many)
        tx.connection.execute(sa.update(tenants).values(queued_jobs=10_010))
    assert steps_of_a_claim() < few * 1.5
    database.close()


# --- fences -------------------------------------------------------------------------------------


def lose(database: Database, stopped: StoppedClock, held: Claim) -> None:
    """The claim's lease runs out, and the sweeper takes the task back."""
    stopped.now_s += 31
    assert sweep(database) >= 1


def test_a_heartbeat_extends_the_lease(clocked: Database, stopped: StoppedClock) -> None:
    queue_job(clocked, ADA)
    held = claim(clocked)
    for _ in range(4):
        stopped.now_s += 20
        with clocked.write() as tx:
            beat = queue.heartbeat(tx, held, {"done_s": 4.5})
        assert beat == queue.Heartbeat(cancel_requested=False)
        assert sweep(clocked) == 0
    kept = row(clocked, tasks, id=held.task_id)
    assert kept.progress == {"done_s": 4.5}
    assert kept.lease_until == pytest.approx(stopped.now_s + 30)


def test_who_lost_the_lease_changes_nothing(clocked: Database, stopped: StoppedClock) -> None:
    """Each statement of a worker is fenced: while nobody holds the task, and while another does."""
    job = queue_job(clocked, ADA)
    lost = claim(clocked)
    lose(clocked, stopped, lost)
    assert task_states(clocked, job.id)[0] == "ready"
    for holder in (None, "w2"):
        held = None if holder is None else claim(clocked, holder)
        assert held is None or held.epoch == 2
        before = row(clocked, tasks, id=lost.task_id), told(clocked, job.id)
        with clocked.write() as tx:
            assert queue.heartbeat(tx, lost, {}) is None
            assert not queue.advance(tx, lost, [segment(0)])
            assert not queue.commit(tx, lost, result={})
            assert not queue.fail(tx, lost, code="x", message="x", retryable=True)
            assert not queue.fail(tx, lost, code="x", message="x", retryable=False)
            assert not queue.release(tx, lost)
            assert not queue.replan(tx, lost, "{}", {}, DIAMOND)
        assert (row(clocked, tasks, id=lost.task_id), told(clocked, job.id)) == before
        assert rows(clocked, segments) == []
    assert row(clocked, attempts, epoch=1).outcome == "lost"


def test_an_expired_lease_that_nobody_took_back_goes_on(
    clocked: Database, stopped: StoppedClock
) -> None:
    queue_job(clocked, ADA)
    held = claim(clocked)
    stopped.now_s += 45
    assert commit(clocked, held)


def test_an_answer_that_was_lost_can_be_asked_for(clocked: Database, stopped: StoppedClock) -> None:
    queue_job(clocked, ADA)
    held = claim(clocked)
    with clocked.read() as tx:
        assert not queue.committed(tx, held)
    assert commit(clocked, held)
    assert not commit(clocked, held)
    with clocked.read() as tx:
        assert queue.committed(tx, held)


def test_segments_that_are_there_stay(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    held = claim(clocked)
    with clocked.write() as tx:
        assert queue.advance(tx, held, [segment(-1, "init"), segment(0, "first")])
    lose(clocked, stopped, held)
    again = claim(clocked)
    with clocked.write() as tx:
        assert queue.advance(tx, again, [segment(-1, "x"), segment(0, "x"), segment(1, "second")])
        assert queue.advance(tx, again, [])
        assert queue.advance(tx, again, [segment(0, "other", "480p")])
    kept = {
        (one.rendition, one.number): (one.storage_key, one.epoch)
        for one in rows(clocked, segments, job_id=job.id)
    }
    assert kept == {
        ("720p", -1): ("init", 1),
        ("720p", 0): ("first", 1),
        ("720p", 1): ("second", 2),
        ("480p", 0): ("other", 2),
    }


# --- failures -----------------------------------------------------------------------------------


def test_bad_input_fails_the_job_at_once(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    assert commit(clocked, claim(clocked))
    held, other = claim(clocked, "w1"), claim(clocked, "w2")
    assert fail(clocked, held, retryable=False, code="not_media")
    assert task_states(clocked, job.id) == ["succeeded", "failed", "cancelled", "cancelled"]
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.error["code"]) == ("failed", "not_media")
    assert row(clocked, assets, id=job.asset_id).state == "failed"
    assert counters(clocked) == (0, 0)
    assert told(clocked, job.id)[-2:] == [("task", "failed"), ("failed", None)]
    assert not commit(clocked, other)
    assert row(clocked, attempts, task_id=other.task_id).outcome == "cancelled"


def test_what_may_go_better_is_tried_three_times(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    pauses_s = []
    for left in (2, 1, 0):
        held = claim(clocked)
        assert fail(clocked, held, retryable=True)
        if left:
            pause_s = row(clocked, tasks, id=held.task_id).not_before - stopped.now_s
            pauses_s.append(pause_s)
            stopped.now_s += pause_s - 0.1
            assert try_claim(clocked) is None
            stopped.now_s += 0.2
    # 5 s and 10 s, a quarter up or down.
    assert 3.75 <= pauses_s[0] <= 6.25
    assert 7.5 <= pauses_s[1] <= 12.5
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.error["code"]) == ("failed", "disk_full")


def test_the_pause_doubles_up_to_a_quarter_of_an_hour() -> None:
    for failures, middle_s in ((0, 5), (1, 10), (2, 20), (5, 160), (7, 640)):
        found = [queue.backoff_s(failures, f"task {number}") for number in range(200)]
        assert 0.75 * middle_s <= min(found) < 0.8 * middle_s
        assert max(found) <= min(1.25 * middle_s, 900)
        assert len(set(found)) > 50
    assert queue.backoff_s(1000, "task") == 900


def test_three_lost_workers_fail_the_job(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    for epoch in (1, 2, 3):
        held = claim(clocked)
        assert held.epoch == epoch
        lose(clocked, stopped, held)
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.error["code"]) == ("failed", "worker_lost")
    assert counters(clocked) == (0, 0)


def test_crashes_and_errors_are_counted_apart(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA, (task(),))
    for _ in range(2):
        lose(clocked, stopped, claim(clocked))
        assert fail(clocked, claim(clocked), retryable=True)
        stopped.now_s += 60
    assert commit(clocked, claim(clocked))
    assert row(clocked, jobs, id=job.id).state == "succeeded"


def test_a_release_counts_no_try(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA, (task(),))
    for _ in range(5):
        held = claim(clocked)
        with clocked.write() as tx:
            assert queue.release(tx, held)
    kept = row(clocked, tasks, job_id=job.id)
    assert (kept.state, kept.crashes, kept.errors, kept.epoch) == ("ready", 0, 0, 5)
    assert commit(clocked, claim(clocked))


# --- cancel, retry, replan ----------------------------------------------------------------------


def cancel(database: Database, job_id: str) -> str:
    with database.write() as tx:
        return queue.request_cancel(tx, job_id)


def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    job = queue_job(database, ADA)
    assert cancel(database, job.id) == "cancelled"
    assert counters(database) == (0, 0)
    assert set(task_states(database, job.id)) == {"cancelled"}
    assert row(database, assets, id=job.asset_id).state == "uploaded"
    assert told(database, job.id) == [("queued", None), ("cancelled", None)]
    assert try_claim(database) is None
    assert cancel(database, job.id) == "cancelled"
    assert len(told(database, job.id)) == 2


@pytest.mark.parametrize("last_word", ["commit", "fail", "release", "replan", "silence"])
def test_a_running_job_is_cancelled_when_its_workers_stopped(
    clocked: Database, stopped: StoppedClock, last_word: str
) -> None:
    job = queue_job(clocked, ADA, (task(), task(), task(), task(0, 1, 2)))
    held, other = claim(clocked, "w1"), claim(clocked, "w2")
    with clocked.write() as tx:
        assert queue.advance(tx, held, [segment(0)])
    assert cancel(clocked, job.id) == "running"
    assert task_states(clocked, job.id) == ["running", "running", "cancelled", "cancelled"]
    assert try_claim(clocked) is None
    with clocked.write() as tx:
        assert queue.heartbeat(tx, held, {}) == queue.Heartbeat(cancel_requested=True)
        assert queue.release(tx, other)
    assert row(clocked, jobs, id=job.id).state == "running"
    with clocked.write() as tx:
        if last_word == "commit":
            assert not queue.commit(tx, held, result={})
        elif last_word == "fail":
            assert queue.fail(tx, held, code="x", message="x", retryable=False)
        elif last_word == "release":
            assert queue.release(tx, held)
        elif last_word == "replan":
            assert not queue.replan(tx, held, "{}", {}, DIAMOND)
    if last_word == "silence":
        lose(clocked, stopped, held)
    assert row(clocked, jobs, id=job.id).state == "cancelled"
    assert set(task_states(clocked, job.id)) == {"cancelled"}
    assert counters(clocked) == (0, 0)
    assert rows(clocked, segments) == []
    assert told(clocked, job.id).count(("cancelled", None)) == 1


def test_a_job_between_two_tries_is_cancelled_at_once(database: Database) -> None:
    job = queue_job(database, ADA)
    assert fail(database, claim(database), retryable=True)
    assert cancel(database, job.id) == "cancelled"
    assert counters(database) == (0, 0)


def test_a_job_can_be_ended_over_its_workers(database: Database) -> None:
    job = queue_job(database, ADA)
    held = claim(database)
    with database.write() as tx:
        queue.abort(tx, job.id)
        queue.abort(tx, job.id)
        queue.abort(tx, "no such job")
    assert row(database, jobs, id=job.id).state == "cancelled"
    assert counters(database) == (0, 0)
    with database.write() as tx:
        assert queue.heartbeat(tx, held, {}) is None


def test_a_job_that_is_gone_is_said_to_be(database: Database) -> None:
    with database.write() as tx:
        for call in (
            lambda: queue.request_cancel(tx, "none"),
            lambda: queue.retry(tx, "none", only_failed=True),
            lambda: queue.tell(tx, "none", "warning", {}),
        ):
            with pytest.raises(NotFound):
                call()
        assert queue.position_in_queue(tx, "none") is None


def test_a_retry_of_what_failed_keeps_what_succeeded(
    clocked: Database, stopped: StoppedClock
) -> None:
    job = queue_job(clocked, ADA)
    first = claim(clocked)
    with clocked.write() as tx:
        assert queue.advance(tx, first, [segment(0)])
    assert commit(clocked, first)
    broken = claim(clocked)
    assert fail(clocked, broken, retryable=False)
    with clocked.write() as tx:
        assert queue.retry(tx, job.id, only_failed=True)
        assert not queue.retry(tx, job.id, only_failed=True)
    assert task_states(clocked, job.id) == ["succeeded", "blocked", "blocked", "blocked"]
    assert counters(clocked) == (1, 0)
    assert len(rows(clocked, segments)) == 1
    done = drain(clocked)
    assert len(done) == 3
    again = next(held for held in done if held.task_id == broken.task_id)
    assert again.epoch == broken.epoch + 1
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.retries, ended.pending_tasks) == ("succeeded", 1, 0)
    assert [kind for kind, _ in told(clocked, job.id)].count("queued") == 2


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_whole_retry_begins_again(clocked: Database, stopped: StoppedClock, end: str) -> None:
    job = queue_job(clocked, ADA)
    first = claim(clocked)
    with clocked.write() as tx:
        assert queue.advance(tx, first, [segment(0)])
    assert commit(clocked, first)
    if end == "failed":
        assert fail(clocked, claim(clocked), retryable=False)
    else:
        cancel(clocked, job.id)
    with clocked.write() as tx:
        # A cancelled job has nothing that could be kept.
        assert queue.retry(tx, job.id, only_failed=end == "cancelled")
    assert rows(clocked, segments) == []
    assert len(drain(clocked)) == 4
    assert row(clocked, jobs, id=job.id).state == "succeeded"
    assert counters(clocked) == (0, 0)


@pytest.mark.parametrize(("only_failed", "told_s"), [(False, 4.0), (True, None)])
def test_the_first_play_is_told_anew_after_a_whole_retry(
    clocked: Database, stopped: StoppedClock, only_failed: bool, told_s: float | None
) -> None:
    """From the retry on. What plays already goes on playing where only the failed is tried."""
    job = queue_job(clocked, ADA)
    stopped.now_s += 2
    with clocked.write() as tx:
        assert record_first_play(tx, job.id) == 2.0
    assert fail(clocked, claim(clocked), retryable=False)
    stopped.now_s += 3600
    with clocked.write() as tx:
        assert queue.retry(tx, job.id, only_failed=only_failed)
    stopped.now_s += 4
    with clocked.write() as tx:
        assert record_first_play(tx, job.id) == told_s
    assert row(clocked, jobs, id=job.id).time_to_first_play_s == (told_s or 2.0)
    assert row(clocked, assets, id=job.asset_id).time_to_first_play_s == 2.0


# A film, and the source's digest beside it.
BESIDE = (task(opening=True), task(0, kind="finish"), task(kind="digest"))


def finish_beside_a_digest(database: Database) -> tuple[NewJob, Claim, Claim]:
    """A job whose film is finished while its digest is still counted: with both claims."""
    job = queue_job(database, ADA, BESIDE)
    assert commit(database, claim(database))
    held = {one.kind: one for one in (claim(database), claim(database))}
    finish, digest = held["finish"], held["digest"]
    film = NewOutput("hls", "master.m3u8", "application/x", 7, "ab", {})
    assert commit(database, finish, outputs=[film], job_prefix=finish.prefix)
    with database.write() as tx:
        change_job(tx, job.id, {"report": {"a": 1}, "warnings": ["w"]})
        change_asset(tx, job.asset_id, {"poster_key": f"{finish.prefix}/poster.jpg"})
    return job, finish, digest


def test_a_retry_of_a_digest_keeps_the_finished_film(
    clocked: Database, stopped: StoppedClock
) -> None:
    job, finish, digest = finish_beside_a_digest(clocked)
    assert fail(clocked, digest, retryable=False)
    with clocked.write() as tx:
        assert queue.retry(tx, job.id, only_failed=True)
    assert finish.prefix not in left(clocked)
    (again,) = drain(clocked)
    assert again.kind == "digest"
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.prefix) == ("succeeded", finish.prefix)
    assert (ended.report, ended.warnings) == ({"a": 1}, ["w"])
    assert len(rows(clocked, outputs, job_id=job.id)) == 1
    assert row(clocked, assets, id=job.asset_id).poster_key == f"{finish.prefix}/poster.jpg"
    stopped.now_s += 3600
    assert finish.prefix not in left(clocked)


@pytest.mark.parametrize("how", ["cancelled", "failed and retried"])
def test_what_was_finished_beside_a_digest_goes(
    clocked: Database, stopped: StoppedClock, how: str
) -> None:
    """With a cancel, and with a retry of the whole."""
    job, finish, digest = finish_beside_a_digest(clocked)
    if how == "cancelled":
        assert cancel(clocked, job.id) == "running"
        with clocked.write() as tx:
            assert queue.release(tx, digest)
        assert row(clocked, jobs, id=job.id).state == "cancelled"
    else:
        assert fail(clocked, digest, retryable=False)
        with clocked.write() as tx:
            assert queue.retry(tx, job.id, only_failed=False)
    ended = row(clocked, jobs, id=job.id)
    assert (ended.prefix, ended.report, ended.warnings) == (None, None, None)
    assert rows(clocked, outputs) == []
    assert row(clocked, assets, id=job.asset_id).poster_key is None
    assert finish.prefix in left(clocked)


def test_a_poster_of_another_job_stays(database: Database) -> None:
    job = queue_job(database, ADA)
    with database.write() as tx:
        change_asset(tx, job.asset_id, {"poster_key": "tasks/another/task/1-0/poster.jpg"})
    assert cancel(database, job.id) == "cancelled"
    found = row(database, assets, id=job.asset_id).poster_key
    assert found == "tasks/another/task/1-0/poster.jpg"


def test_a_job_that_did_not_fail_is_not_retried(database: Database) -> None:
    job = queue_job(database, ADA, (task(),))
    for _ in range(2):
        with database.write() as tx:
            assert not queue.retry(tx, job.id, only_failed=False)
        drain(database)


def test_another_plan_replaces_every_task(clocked: Database, stopped: StoppedClock) -> None:
    job = queue_job(clocked, ADA)
    assert commit(clocked, claim(clocked))
    held, other = claim(clocked, "w1"), claim(clocked, "w2")
    with clocked.write() as tx:
        assert queue.advance(tx, held, [segment(0)])
        assert queue.replan(tx, held, '{"b": 2}', {"b": 2}, (task(), task(0)))
    assert task_states(clocked, job.id) == ["ready", "blocked"]
    assert rows(clocked, segments) == []
    with clocked.write() as tx:
        assert queue.heartbeat(tx, other, {}) is None
    assert len(drain(clocked)) == 2
    ended = row(clocked, jobs, id=job.id)
    assert (ended.state, ended.plan, ended.plan_summary) == ("succeeded", '{"b": 2}', {"b": 2})
    assert {one.outcome for one in rows(clocked, attempts)} == {
        *("succeeded", "failed", "cancelled")
    }


# --- what a job tells ---------------------------------------------------------------------------


def test_events_are_read_from_where_one_stopped(database: Database) -> None:
    job = queue_job(database, ADA)
    with database.write() as tx:
        assert [queue.tell(tx, job.id, "warning", {"n": n}) for n in range(3)] == [2, 3, 4]
    with database.read() as tx:
        assert [event.number for event in queue.events_after(tx, job.id, 2)] == [3, 4]
        assert [event.number for event in queue.events_after(tx, job.id, 0, limit=2)] == [1, 2]
        assert queue.events_after(tx, job.id, 3)[0].data == {"n": 2}


def test_events_of_many_tellers_have_no_hole(database: Database) -> None:
    job = queue_job(database, ADA)

    def teller() -> None:
        for _ in range(20):
            with database.write() as tx:
                queue.tell(tx, job.id, "warning", {})

    threads = [threading.Thread(target=teller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told(database, job.id)) == 81


def test_the_place_in_the_queue_is_among_ones_own(database: Database) -> None:
    queue_job(database, BOB)
    made = [queue_job(database, ADA, job_id=f"J{n}".ljust(26, "0")) for n in range(3)]
    urgent = queue_job(database, ADA, priority=1)
    with database.read() as tx:
        places = [queue.position_in_queue(tx, job.id) for job in (urgent, *made)]
    assert places == [1, 2, 3, 4]
    assert claim(database).user_id in (ADA, BOB)
    cancel(database, urgent.id)
    with database.read() as tx:
        assert queue.position_in_queue(tx, urgent.id) is None


# --- what is left -------------------------------------------------------------------------------


def left(database: Database, older_than_s: float = 0.0, **more: Any) -> set[str]:
    with database.read() as tx:
        return {found.prefix for found in queue.collectable(tx, older_than_s, **more)}


def test_a_lost_attempt_is_collected_unless_its_segments_are_followed(
    clocked: Database, stopped: StoppedClock
) -> None:
    queue_job(clocked, ADA)
    followed = claim(clocked)
    with clocked.write() as tx:
        assert queue.advance(tx, followed, [segment(0)])
    assert left(clocked) == set()  # it runs
    lose(clocked, stopped, followed)
    forgotten = claim(clocked)
    lose(clocked, stopped, forgotten)
    assert left(clocked) == {forgotten.prefix}
    assert left(clocked, older_than_s=5) == set()
    stopped.now_s += 5
    assert left(clocked, older_than_s=5) == {forgotten.prefix}
    done = drain(clocked)
    assert row(clocked, jobs).state == "succeeded"
    # No job's prefix was set: all of it goes, the segments' too.
    assert left(clocked) == {followed.prefix, forgotten.prefix, *(held.prefix for held in done)}


def test_what_succeeded_is_kept_as_long_as_it_may_be_needed(database: Database) -> None:
    done = queue_job(database, ADA, (task(), task(0)))
    assert commit(database, claim(database))
    assert left(database) == set()
    last = claim(database)
    assert commit(database, last, job_prefix=last.prefix)
    assert last.prefix not in left(database)
    assert len(left(database)) == 1

    failed = queue_job(database, BOB, (task(), task(0)))
    kept, broken = claim(database), None
    assert commit(database, kept)
    broken = claim(database)
    assert fail(database, broken, retryable=False)
    assert left(database) & {kept.prefix, broken.prefix} == {broken.prefix}
    with database.write() as tx:
        assert queue.retry(tx, failed.id, only_failed=False)
    assert kept.prefix in left(database)
    with database.write() as tx:
        delete(tx, done.asset_id)
    assert last.prefix in left(database)


def test_what_was_collected_is_collected_once_more(
    clocked: Database, stopped: StoppedClock
) -> None:
    queue_job(clocked, ADA)
    lose(clocked, stopped, claim(clocked))
    for _ in range(2):
        with clocked.write() as tx:
            found = queue.collectable(tx, 0.0)
            assert len(found) == 1
            queue.collected(tx, found)
        assert left(clocked) == set()
        assert left(clocked, again_after_s=0.0) == {one.prefix for one in found} or not rows(
            clocked, attempts
        )
        stopped.now_s += 24 * 3600
    assert rows(clocked, attempts) == []


def test_a_thousand_kept_films_cost_the_collector_nothing(tmp_path: Path) -> None:
    """Not by the clock: SQLite's virtual machine takes as many steps as without them."""
    database = Database(f"sqlite:///{tmp_path / 'many.db'}")
    jobs.metadata.create_all(database.engine)

    def steps_of_a_look() -> int:
        with database.read() as tx, counted_steps(tx) as steps:
            assert len(queue.collectable(tx, 0.0)) == 1
        return steps.taken

    def finish() -> None:
        queue_job(database, ADA, (task(),))
        held = claim(database)
        assert commit(database, held, job_prefix=held.prefix)

    queue_job(database, ADA, (task(),))
    assert fail(database, claim(database), retryable=False)
    finish()
    few = steps_of_a_look()
    with database.write() as tx:
        known = sa.select(attempts).where(attempts.c.outcome == "succeeded")
        kept = tx.connection.execute(known).one()._asdict()
        early = {**kept, "unneeded_at": kept["ended_at"], "collected_at": kept["ended_at"]}
        many = [{**kept, "task_id": f"K{number:025}"} for number in range(1000)]
        many += [{**early, "task_id": f"C{number:025}"} for number in range(1000)]
        tx.connection.execute(sa.insert(attempts), many)
    assert steps_of_a_look() < few * 1.5
    database.close()


def test_what_was_discarded_is_listed_when_it_is_due(
    clocked: Database, stopped: StoppedClock
) -> None:
    with clocked.write() as tx:
        queue.discard(tx, ["sources/a", "tasks/x/"])
        queue.discard(tx, ["later"], after_s=60)
    with clocked.write() as tx:
        found = queue.discarded(tx)
        assert {one.prefix for one in found} == {"sources/a", "tasks/x/"}
        queue.removed(tx, found)
    stopped.now_s += 61
    with clocked.read() as tx:
        assert [one.prefix for one in queue.discarded(tx)] == ["later"]


def test_a_sweep_counts_what_was_lost_and_nothing_else(
    clocked: Database, stopped: StoppedClock
) -> None:
    queue_job(clocked, ADA)
    assert sweep(clocked) == 0
    claim(clocked)
    stopped.now_s += 31
    assert sweep(clocked) == 1
    assert sweep(clocked) == 0


# --- assets -------------------------------------------------------------------------------------


def test_an_asset_that_plays_goes_on_playing(database: Database) -> None:
    job = queue_job(database, ADA, (task(),))
    hls = NewOutput("hls", "master.m3u8", "application/x", 7, "ab", {})
    assert commit(database, claim(database), outputs=[hls])
    for kind, plays in (("mp3", job.id), ("hls", None)):
        second = make_job(ADA, job.asset_id, (task(),))
        with database.write() as tx:
            queue.submit(tx, second)
        held = claim(database)
        asset = row(database, assets, id=job.asset_id)
        assert (asset.state, asset.job_id) == ("ready", job.id)
        made = NewOutput(kind, "file", "application/x", 7, "ab", {})
        assert commit(database, held, outputs=[made])
        asset = row(database, assets, id=job.asset_id)
        assert (asset.state, asset.job_id) == ("ready", plays or second.id)


def test_an_asset_fails_when_no_other_job_of_it_runs(database: Database) -> None:
    one = queue_job(database, ADA, (task(),))
    two = make_job(ADA, one.asset_id, (task(),))
    with database.write() as tx:
        queue.submit(tx, two)
    first, second = claim(database), claim(database)
    assert fail(database, first, retryable=False)
    asset = row(database, assets, id=one.asset_id)
    assert (asset.state, asset.job_id) == ("processing", second.job_id)
    assert fail(database, second, retryable=False)
    assert row(database, assets, id=one.asset_id).state == "failed"


@pytest.mark.parametrize("last", ["commit", "cancel", "fail", "lost"])
def test_a_source_goes_with_the_last_job_that_needs_it(
    clocked: Database, stopped: StoppedClock, last: str
) -> None:
    """One job wants it deleted, and succeeds; another may read it yet, and ends anyhow."""
    first = queue_job(clocked, ADA, (task(),), source_policy="delete_when_done")
    other = make_job(ADA, first.asset_id, (task(),))
    with clocked.write() as tx:
        queue.submit(tx, other)
    held, kept = claim(clocked), claim(clocked)
    assert commit(clocked, held)
    assert row(clocked, assets, id=first.asset_id).source_key is not None
    if last == "commit":
        assert commit(clocked, kept)
    elif last == "fail":
        assert fail(clocked, kept, retryable=False)
    elif last == "lost":
        for _ in range(3):
            lose(clocked, stopped, kept)
            kept = try_claim(clocked) or kept
    else:
        assert cancel(clocked, other.id) == "running"
        with clocked.write() as tx:
            assert queue.release(tx, kept)
    assert row(clocked, assets, id=first.asset_id).source_key is None
    with clocked.read() as tx:
        assert [one.prefix for one in queue.discarded(tx)] == [f"sources/{first.asset_id}"]


# --- many at once -------------------------------------------------------------------------------


def waiting(database: Database) -> bool:
    """Whether somebody waits for a lock of somebody else's."""
    with database.read() as tx:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
        query += "datname = current_database()"
        return bool(tx.connection.exec_driver_sql(query).scalar_one())


def beside(database: Database, first: Callable[[Tx], Any], then: Callable[[], Any]) -> Any:
    """`then` in a thread, begun after `first` and before its commit, until it waits or has ended:
    what came of it."""
    found: list[Any] = []

    def act() -> None:
        try:
            found.append(then())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=act)
    with database.write() as tx:
        first(tx)
        thread.start()
        until(lambda: found or waiting(database))
    thread.join()
    return found[0]


def delete(tx: Tx, asset_id: str) -> None:
    found = find_asset(tx, asset_id)
    assert found is not None
    delete_asset(tx, found)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
@pytest.mark.parametrize("first", ["job", "deletion"])
def test_a_job_that_comes_while_its_asset_is_deleted(database: Database, first: str) -> None:
    """Whoever is first: the counters are right, and who comes too late is told so."""
    ended = queue_job(database, ADA, (task(),))
    drain(database)
    job = make_job(ADA, ended.asset_id)

    def submit(tx: Tx) -> None:
        queue.submit(tx, job)

    def submit_now() -> None:
        with database.write() as tx:
            submit(tx)

    def delete_now() -> None:
        with database.write() as tx:
            delete(tx, ended.asset_id)

    if first == "job":
        assert beside(database, submit, delete_now) is None
    else:
        late = beside(database, lambda tx: delete(tx, ended.asset_id), submit_now)
        assert isinstance(late, NotFound), late
        assert late.code == "asset_unknown"
    assert rows(database, assets) == rows(database, jobs) == []
    assert counters(database) == (0, 0)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_a_source_is_kept_for_a_job_that_is_just_coming(database: Database) -> None:
    first = queue_job(database, ADA, (task(),), source_policy="delete_when_done")
    held = claim(database)
    job = make_job(ADA, first.asset_id, (task(),))
    assert beside(database, lambda tx: queue.submit(tx, job), lambda: commit(database, held))
    assert row(database, assets, id=first.asset_id).source_key is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
@pytest.mark.parametrize("again", ["submit", "retry"])
def test_who_comes_after_the_source_has_gone_sees_it(database: Database, again: str) -> None:
    first = queue_job(database, ADA, (task(),), source_policy="delete_when_done")
    held = claim(database)
    other = make_job(ADA, first.asset_id, (task(),))
    with database.write() as tx:
        queue.submit(tx, other)
        queue.request_cancel(tx, other.id)

    def come() -> Any:
        with database.write() as tx:
            if again == "submit":
                queue.submit(tx, make_job(ADA, first.asset_id))
            else:
                queue.retry(tx, other.id, only_failed=False)
            found = find_asset(tx, first.asset_id)
            assert found is not None
            return found.source_key

    assert beside(database, lambda tx: queue.commit(tx, held, result={}), come) is None


@pytest.mark.thorough
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_deletions_submits_and_workers_at_once_do_not_lock_each_other_out(
    database: Database,
) -> None:
    """Several jobs an asset, from all sides: no deadlock, and the counters are right."""
    assets_made = [queue_job(database, ADA, DIAMOND).asset_id for _ in range(12)]
    errors: list[BaseException] = []
    over = threading.Event()

    def guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    def submit() -> None:
        for number in range(60):
            try:
                with database.write() as tx:
                    queue.submit(tx, make_job(ADA, assets_made[number % 12], DIAMOND))
            except NotFound:
                pass

    def work() -> None:
        while not over.is_set():
            held = try_claim(database)
            if held is not None:
                commit(database, held)

    def remove() -> None:
        for asset_id in assets_made:
            time.sleep(0.05)
            with database.write() as tx:
                delete(tx, asset_id)

    workers = [threading.Thread(target=guarded, args=(work,)) for _ in range(3)]
    others = [threading.Thread(target=guarded, args=(act,)) for act in (submit, submit, remove)]
    for thread in (*workers, *others):
        thread.start()
    for thread in others:
        thread.join()
    over.set()
    for thread in workers:
        thread.join()
    assert errors == []
    assert rows(database, assets) == rows(database, jobs) == []
    assert counters(database) == (0, 0)


PROCESSES = 4


@pytest.mark.parametrize("noops", [200, pytest.param(2000, marks=pytest.mark.thorough)])
def test_four_processes_share_tasks(database_url: str, noops: int) -> None:
    """No error, none claimed twice, all counted."""
    database = Database(database_url)
    users = [letter * 26 for letter in "ABCD"]
    each = noops // 8
    for user_id in users:
        for _ in range(2):
            queue_job(database, user_id, tuple(task() for _ in range(each)))
    spawn = multiprocessing.get_context("spawn")
    results, together = spawn.Queue(), spawn.Barrier(PROCESSES)
    workers = [
        spawn.Process(target=work_noops, args=(database_url, number, together, results))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    said = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    assert [error for _, _, error in said] == [None] * PROCESSES
    done = [one for _, found, _ in said for one in found]
    assert len(done) == noops
    assert len({task_id for task_id, _ in done}) == noops
    assert {epoch for _, epoch in done} == {1}
    assert sum(bool(found) for _, found, _ in said) > 1
    assert {one.state for one in rows(database, jobs)} == {"succeeded"}
    assert {(one.queued_jobs, one.running_jobs) for one in rows(database, tenants)} == {(0, 0)}
    database.close()


@pytest.mark.thorough
def test_cancels_sweeps_and_commits_at_once_do_not_lock_each_other_out(database_url: str) -> None:
    """Threads that touch the same jobs from all sides, each transaction in the one order of locks:
    no deadlock, and the counters are right."""
    database = Database(database_url)
    made = [queue_job(database, (ADA, BOB)[n % 2], DIAMOND) for n in range(24)]
    errors: list[BaseException] = []
    left_to_do = threading.Event()

    def guarded(act: Any) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    def work() -> None:
        number = 0
        while (held := try_claim(database)) is not None or not left_to_do.is_set():
            if held is None:
                time.sleep(0.005)
                continue
            number += 1
            with database.write() as tx:
                queue.heartbeat(tx, held, {})
                queue.advance(tx, held, [segment(number, rendition=held.task_id)])
            if number % 7 == 0:
                with database.write() as tx:
                    queue.release(tx, held)
            elif number % 11 == 0:
                fail(database, held, retryable=False)
            else:
                commit(database, held)

    def meddle() -> None:
        for number, job in enumerate(made):
            if number % 3 == 0:
                cancel(database, job.id)
            if number % 6 == 0:
                with database.write() as tx:
                    queue.retry(tx, job.id, only_failed=False)
            sweep(database)
        left_to_do.set()

    threads = [threading.Thread(target=guarded, args=(act,)) for act in (work, work, work, meddle)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    states = Counter(one.state for one in rows(database, jobs))
    assert states["succeeded"] > 0
    assert set(states) <= {"succeeded", "failed", "cancelled"}
    assert counters(database, ADA) == (0, 0)
    assert counters(database, BOB) == (0, 0)
    database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_a_lease_that_was_renewed_meanwhile_is_kept(
    clocked: Database, stopped: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sweeper's look and its grip."""
    queue_job(clocked, ADA)
    held = claim(clocked)
    stopped.now_s += 31
    look = queue._expired

    def look_slowly(tx: Tx) -> list[Claim]:
        found = look(tx)
        with clocked.write() as other:
            assert queue.heartbeat(other, held, {}) is not None
        return found

    monkeypatch.setattr(queue, "_expired", look_slowly)
    with clocked.write() as tx:
        queue.sweep(tx)
    assert commit(clocked, held)


def test_claims_at_once_start_no_more_jobs_than_may_run(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as tx:
        add_user(tx, ADA, max_running_jobs=2)
    for _ in range(12):
        queue_job(database, ADA, (task(),))
    together = threading.Barrier(6)
    found: list[Claim | None] = []

    def one() -> None:
        together.wait()
        for _ in range(2):
            found.append(try_claim(database))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert sum(held is not None for held in found) == 2
    assert counters(database) == (10, 2)
    database.close()


# --- the database -------------------------------------------------------------------------------


def test_the_clock_is_the_databases_and_moves(database: Database) -> None:
    before = time.time()
    with database.read() as tx:
        first = tx.now_s()
        time.sleep(0.05)
        second = tx.now_s()
    assert abs(first - before) < 60
    assert 0.04 < second - first < 60


def test_a_reader_has_one_view(database: Database) -> None:
    job = queue_job(database, ADA)
    with database.read() as tx:
        assert len(queue.events_after(tx, job.id, 0)) == 1
        with database.write() as other:
            queue.tell(other, job.id, "warning", {})
        assert len(queue.events_after(tx, job.id, 0)) == 1


def test_a_database_that_is_not_there_is_said_to_be() -> None:
    unreachable = Database("postgresql://127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught, unreachable.write():
        pass
    assert caught.value.code == "database_unavailable"


@pytest.mark.parametrize("fault", [sa.exc.OperationalError, sa.exc.InterfaceError])
@pytest.mark.parametrize("begin", [Database.read, Database.write])
def test_a_database_that_goes_away_meanwhile_is_said_to_have_gone(
    database: Database, begin: Any, fault: Any
) -> None:
    with pytest.raises(Unavailable) as caught, begin(database):
        raise fault("SELECT secret FROM users", {}, Exception("the server restarts"))
    assert caught.value.code == "database_unavailable"
    assert "secret" not in caught.value.message
    with database.read() as tx:
        assert tx.now_s() > 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_its_server_ends_is_unavailable_and_then_made_anew(
    database: Database,
) -> None:
    with pytest.raises(Unavailable), database.write() as tx:
        tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    with database.write() as tx:
        assert tx.now_s() > 0


def test_a_statement_that_makes_no_sense_is_a_bug(database: Database) -> None:
    wrong = pytest.raises((sa.exc.OperationalError, sa.exc.ProgrammingError))
    with wrong, database.read() as tx:
        tx.connection.exec_driver_sql("SELECT nothing FROM nowhere")


def test_a_writer_that_never_ends_is_waited_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telecine.service.db.connection.BUSY_TIMEOUT_S", 0.05)
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    one, two = Database(url), Database(url)
    with one.write() as tx:
        tx.connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        with pytest.raises(Unavailable), two.write():
            pass
    with two.write() as tx:
        tx.connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    one.close()
    two.close()


# --- the doorbell -------------------------------------------------------------------------------


def test_a_ring_wakes_who_listens_to_that_queue(tmp_path: Path) -> None:
    folder = tmp_path / "bells"
    bell = LocalBell(folder)
    bell.ring("tasks")  # nobody there yet, no folder either
    one, two = LocalListener(folder, "tasks"), LocalListener(folder, "tasks")
    other = LocalListener(folder, "events")
    assert not one.wait(0)
    bell.ring("tasks")
    bell.ring("tasks")
    assert one.wait(5)
    assert not one.wait(0)  # rings that came before count once
    assert two.wait(5)
    assert not other.wait(0)
    for listener in (one, two, other):
        listener.close()
        listener.close()
    assert list(folder.iterdir()) == []


def test_a_ring_reaches_other_processes(tmp_path: Path) -> None:
    listener = LocalListener(tmp_path, "tasks")
    ringer = multiprocessing.get_context("spawn").Process(target=ring, args=(tmp_path, "tasks"))
    ringer.start()
    assert listener.wait(60)
    ringer.join()
    listener.close()


def test_sockets_of_the_dead_are_removed(tmp_path: Path) -> None:
    dead = tmp_path / "tasks-1-dead.bell"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(dead))
    alive = LocalListener(tmp_path, "tasks")
    LocalBell(tmp_path).ring("tasks")
    assert not dead.exists()
    assert alive.wait(5)
    alive.close()


def test_a_listener_that_sleeps_blocks_nobody(tmp_path: Path) -> None:
    """Its socket fills up; one more ring would tell it nothing."""
    asleep = LocalListener(tmp_path, "tasks")
    bell = LocalBell(tmp_path)
    for _ in range(2000):
        bell.ring("tasks")
    assert asleep.wait(5)
    assert not asleep.wait(0)
    asleep.close()


def test_a_data_folder_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    listener = LocalListener(deep, "tasks")
    LocalBell(deep).ring("tasks")
    assert listener.wait(5)
    listener.close()


def test_where_no_socket_can_be_had_nothing_breaks(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.touch()
    listener = LocalListener(nowhere, "tasks")
    LocalBell(nowhere).ring("tasks")
    assert not listener.wait(0.01)
    listener.close()
