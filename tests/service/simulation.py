"""A discrete-event simulation of workers, clients and sweepers around the real queue.

    python -m tests.service.simulation --seeds 1000
    python -m tests.service.simulation --seeds 100 --without commit

Everything that the queue does here is its own code, on SQLite in memory with a bound clock. What is
simulated is the world: workers that are killed, in the middle of a transaction too, or stand still
past their lease and then go on as if nothing had happened; doorbells lost and doubled; an API that
dies before its commit or between the commit and the answer; cancels, retries, other plans.

Three witnesses watch, none of which is the queue: triggers in the database refuse every transition
that the protocol does not know; an oracle knows which claims were given out and when their leases
end, and says whether a worker's word had to be heard; recounts compare every counter with the rows
that it counts. `MUTANTS` takes each fence away in turn: a simulation that does not notice is worth
nothing.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import random
import re
import sqlite3
import sys
import types
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.service.databases import StoppedClock
from tests.service.jobs_made import add_asset, add_user, make_job, task

from telecine.service.db import claims, queue
from telecine.service.db.connection import Database, Tx
from telecine.service.db.queue import Claim, NewJob, NewOutput, NewSegment
from telecine.service.db.tables import metadata

JOBS = 5
WORKERS = 3
FAULTS_END_S = 400.0
END_S = 4000.0
LEASE_S = 30.0  # what a lease lasts by the design, not by the code
BEAT_S = 8.0
POLL_S = 20.0
SWEEP_S = 10.0
LIMITS = {"A" * 26: 1, "B" * 26: 3}

# What a run of many seeds must have met, or it has shown nothing.
FAULTS = (
    *("killed", "killed in a transaction", "paused past the lease", "ring lost", "ring doubled"),
    *("api died before the commit", "api died after the commit", "commit's answer lost"),
    *(
        "cancel",
        "retry",
        "retry beside a finished film",
        "bad input",
        "error",
        "errors used up",
        "worker lost for good",
    ),
    *("replan", "release", "swept"),
)
REJECTS = (
    *("heartbeat refused", "advance refused", "commit refused", "fail refused"),
    *("release refused", "replan refused"),
    *("commit refused for a cancel", "replan refused for a cancel"),
)


class Violation(Exception):
    """The queue did what its protocol forbids."""


# --- the witnesses in the database ----------------------------------------------------------------

JOB_STEPS = (
    *("queued>running", "queued>cancelled", "running>succeeded", "running>failed"),
    *("running>cancelled", "failed>queued", "cancelled>queued"),
)
TASK_STEPS = (
    *("blocked>ready", "blocked>cancelled", "ready>running", "ready>cancelled"),
    *("running>succeeded", "running>ready", "running>failed", "running>cancelled"),
    *("succeeded>blocked", "failed>blocked", "cancelled>blocked"),
)


def _refusal(name: str, event: str, when: str) -> str:
    return (
        f"CREATE TRIGGER {name} AFTER {event} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, 'witness: {name}'); END"
    )


def _steps(known: Iterable[str]) -> str:
    listed = ", ".join(f"'{step}'" for step in known)
    return f"old.state || '>' || new.state NOT IN ({listed})"


TRIGGERS = (
    _refusal("job_step", "UPDATE OF state ON jobs", _steps(JOB_STEPS)),
    _refusal("task_step", "UPDATE OF state ON tasks", _steps(TASK_STEPS)),
    _refusal(
        "epoch_rises",
        "UPDATE ON tasks",
        "new.epoch <> old.epoch + (new.state = 'running' AND old.state = 'ready')",
    ),
    _refusal("one_end_of_an_attempt", "UPDATE OF outcome ON attempts", "old.outcome IS NOT NULL"),
    _refusal(
        "segment_of_the_holder",
        "INSERT ON segments",
        "NOT EXISTS (SELECT 1 FROM tasks WHERE id = new.task_id AND epoch = new.epoch"
        " AND state = 'running')",
    ),
    _refusal("fan_in", "UPDATE OF waits_for ON tasks", "new.waits_for < 0"),
    _refusal(
        "tenants_limits",
        "UPDATE ON tenants",
        "new.queued_jobs < 0 OR new.running_jobs < 0 OR new.running_jobs > new.max_running_jobs",
    ),
)

# Each query finds rows that must not be.
RECOUNTS = {
    "the tenant's counters are not what is there": """
        SELECT n.user_id FROM tenants n WHERE
        queued_jobs <> (SELECT count(*) FROM jobs j
                        WHERE j.user_id = n.user_id AND j.state = 'queued') OR
        running_jobs <> (SELECT count(*) FROM jobs j
                         WHERE j.user_id = n.user_id AND j.state = 'running')""",
    "pending_tasks is not what is left": """
        SELECT j.id FROM jobs j WHERE j.state IN ('queued', 'running', 'succeeded') AND
        pending_tasks <> (SELECT count(*) FROM tasks t
                          WHERE t.job_id = j.id AND t.state <> 'succeeded')""",
    "waits_for is not what a task waits for": """
        SELECT t.id FROM tasks t WHERE t.state IN ('blocked', 'ready', 'running') AND
        waits_for <> (SELECT count(*) FROM task_needs n JOIN tasks o ON o.id = n.needs_id
                      WHERE n.task_id = t.id AND o.state <> 'succeeded')""",
    "a task goes before what it needs": """
        SELECT id FROM tasks WHERE state IN ('ready', 'running', 'succeeded') AND waits_for > 0""",
    "a running job has nothing that will move it": """
        SELECT j.id FROM jobs j WHERE j.state = 'running' AND NOT EXISTS
        (SELECT 1 FROM tasks t WHERE t.job_id = j.id AND t.state IN ('ready', 'running'))""",
    "an ended job has unfinished tasks": """
        SELECT t.id FROM tasks t JOIN jobs j ON j.id = t.job_id
        WHERE j.state IN ('succeeded', 'failed', 'cancelled')
        AND t.state IN ('blocked', 'ready', 'running')""",
    "a task was tried too often": "SELECT id FROM tasks WHERE crashes > 3 OR errors > 3",
    "an ended attempt's task still runs": """
        SELECT t.id FROM tasks t JOIN attempts a ON a.task_id = t.id AND a.epoch = t.epoch
        WHERE (t.state = 'running') <> (a.outcome IS NULL)""",
    "an attempt is collected that somebody needs, or kept that nobody does": """
        SELECT a.task_id FROM attempts a WHERE (a.unneeded_at IS NULL) <> (
        EXISTS (SELECT 1 FROM tasks t JOIN jobs j ON j.id = t.job_id WHERE t.id = a.task_id AND (
            (t.epoch = a.epoch AND t.state = 'running') OR
            (t.prefix = a.prefix AND j.state IN ('queued', 'running', 'failed')))) OR
        EXISTS (SELECT 1 FROM segments s WHERE s.task_id = a.task_id AND s.epoch = a.epoch) OR
        EXISTS (SELECT 1 FROM jobs j WHERE j.id = a.job_id AND j.prefix = a.prefix))""",
    "events have a hole": """
        SELECT j.id FROM jobs j WHERE last_event <>
        (SELECT count(*) FROM events e WHERE e.job_id = j.id) OR last_event <>
        (SELECT coalesce(max(number), 0) FROM events e WHERE e.job_id = j.id)""",
}
AT_THE_END = {
    "a job was lost": """
        SELECT id FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')""",
    "a job did not end exactly once a run": """
        SELECT j.id FROM jobs j WHERE 1 + retries <>
        (SELECT count(*) FROM events e WHERE e.job_id = j.id
         AND e.type IN ('succeeded', 'failed', 'cancelled'))""",
    "outputs are not those of the one epoch that was published": """
        SELECT j.id FROM jobs j WHERE j.state = 'succeeded' AND (2 <>
        (SELECT count(*) FROM outputs o WHERE o.job_id = j.id) OR EXISTS
        (SELECT 1 FROM outputs o WHERE o.job_id = j.id AND o.path <> j.prefix) OR NOT EXISTS
        (SELECT 1 FROM tasks t WHERE t.job_id = j.id AND t.prefix = j.prefix))""",
    "a cancelled job has left something": """
        SELECT j.id FROM jobs j WHERE j.state = 'cancelled' AND (j.prefix IS NOT NULL OR
        EXISTS (SELECT 1 FROM outputs o WHERE o.job_id = j.id) OR
        EXISTS (SELECT 1 FROM segments s WHERE s.job_id = j.id))""",
    "an asset is not what its job made of it": """
        SELECT a.id FROM assets a JOIN jobs j ON j.asset_id = a.id WHERE a.state <>
        CASE j.state WHEN 'succeeded' THEN 'ready' WHEN 'failed' THEN 'failed' ELSE a.state END
        OR a.state = 'processing'""",
}


# --- the oracle -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Lease:
    """What the oracle knows of the latest claim of a task."""

    held: Claim
    until_s: float
    over: bool = False


@dataclass(slots=True)
class Process:
    """A worker, client or sweeper: goes on when its time has come."""

    name: str
    life: Generator[float]
    mortal: bool
    turn: int = 0
    idle: bool = False
    was_paused: bool = False


Word = Callable[[Tx], Any]


@dataclass
class World:
    """One seed."""

    database: Database
    clock: StoppedClock
    code: types.ModuleType
    seed: int
    sweeps: bool = True
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.agenda: list[tuple[float, int, Process, int]] = []
        self.order = itertools.count()
        self.names = itertools.count(1)
        self.workers: list[Process] = []
        self.leases: dict[str, Lease] = {}
        self.cancelling: set[str] = set()
        self.jobs: list[NewJob] = []
        self.fragile: set[str] = set()
        self.start_s = self.clock.now_s

    @property
    def age_s(self) -> float:
        return self.clock.now_s - self.start_s

    @property
    def faulty(self) -> bool:
        return self.age_s < FAULTS_END_S

    def chance(self, share: float) -> bool:
        return self.faulty and self.random.random() < share

    # --- the kernel

    def run(self) -> None:
        """Live through the seed. Raises `Violation`."""
        with self.database.write() as tx:
            for user_id, limit in LIMITS.items():
                add_user(tx, user_id, max_running_jobs=limit)
        for _ in range(WORKERS):
            self.spawn_worker()
        for _ in range(JOBS):
            self.spawn("client", self.client(), self.random.uniform(0, 200))
        self.spawn("meddler", self.meddler(), 20)
        if self.sweeps:
            self.spawn("sweeper", self.sweeper(), SWEEP_S)
        steps = 0
        while self.agenda and self.age_s < END_S:
            at_s, _, process, turn = heapq.heappop(self.agenda)
            if turn != process.turn:
                continue
            self.clock.now_s = at_s
            steps += 1
            if process.mortal and self.strike(process):
                continue
            process.idle = False
            delay_s = next(process.life, None)
            if delay_s is not None:
                self.schedule(process, delay_s)
            if steps % 8 == 0:
                self.recount(RECOUNTS)
            if not self.faulty and steps % 16 == 0 and self.all_ended():
                break
        self.recount(RECOUNTS)
        self.recount(AT_THE_END)

    def spawn(self, name: str, life: Generator[float], delay_s: float) -> None:
        self.schedule(Process(name, life, mortal=False), delay_s)

    def spawn_worker(self, delay_s: float = 0.0) -> None:
        worker = Process(f"w{next(self.names)}", iter_nothing(), mortal=True)
        worker.life = self.worker(worker)
        self.workers.append(worker)
        self.schedule(worker, delay_s)

    def schedule(self, process: Process, delay_s: float) -> None:
        process.turn += 1
        at_s = self.clock.now_s + delay_s
        heapq.heappush(self.agenda, (at_s, next(self.order), process, process.turn))

    def strike(self, worker: Process) -> bool:
        """Kill a worker, or stop it for longer than its lease."""
        if self.chance(0.02):
            self.seen["killed"] += 1
            self.bury(worker)
            return True
        if not worker.was_paused and not worker.idle and self.chance(0.06):
            self.seen["paused past the lease"] += 1
            worker.was_paused = True
            self.schedule(worker, self.random.uniform(LEASE_S + 1, 3 * LEASE_S))
            return True
        return False

    def bury(self, worker: Process) -> None:
        worker.turn += 1
        self.workers.remove(worker)
        self.spawn_worker(self.random.uniform(1, 15))

    def ring(self) -> None:
        """After a commit, as everyone does."""
        if self.chance(0.15):
            self.seen["ring lost"] += 1
            return
        rings = 1
        if self.chance(0.1):
            self.seen["ring doubled"] += 1
            rings = 2
        for worker in self.workers * rings:
            if worker.idle:
                self.schedule(worker, self.random.uniform(0.001, 0.1))

    def say(self, word: Word) -> Any:
        """One transaction. A witness that refuses makes it a violation."""
        try:
            with self.database.write() as tx:
                return word(tx)
        except sa.exc.IntegrityError as error:
            raise Violation(f"seed {self.seed}, {self.age_s:.1f} s: {error.orig}") from error

    def recount(self, queries: dict[str, str]) -> None:
        with self.database.read() as tx:
            for what, query in queries.items():
                wrong = tx.connection.exec_driver_sql(query).fetchone()
                if wrong is not None:
                    raise Violation(f"seed {self.seed}, {self.age_s:.1f} s: {what}: {wrong[0]}")

    def state_of(self, job_id: str) -> str:
        with self.database.read() as tx:
            query = "SELECT state FROM jobs WHERE id = ?"
            found = tx.connection.exec_driver_sql(query, (job_id,)).fetchone()
            return "absent" if found is None else str(found[0])

    def has_a_film(self, job_id: str) -> bool:
        query = "SELECT count(*) FROM outputs WHERE job_id = ?"
        with self.database.read() as tx:
            return bool(tx.connection.exec_driver_sql(query, (job_id,)).scalar_one())

    def all_ended(self) -> bool:
        query = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"
        with self.database.read() as tx:
            running = tx.connection.exec_driver_sql(query).scalar_one()
        return len(self.jobs) == JOBS and running == 0

    # --- clients and operators

    def client(self) -> Generator[float]:
        """Asks for a job until it has an answer, with the same id as an idempotent client does."""
        job = self.new_job()
        while True:
            if self.state_of(job.id) != "absent":
                break  # an earlier try was committed
            if self.chance(0.15):
                self.seen["api died before the commit"] += 1
                self.undone(lambda tx: self.submit(tx, job))
                yield 1.0
                continue
            self.say(lambda tx: self.submit(tx, job))
            if self.chance(0.2):
                self.seen["api died after the commit"] += 1
                yield 1.0  # no ring, and no answer
                continue
            self.ring()
            break
        self.jobs.append(job)

    def new_job(self) -> NewJob:
        user_id = self.random.choice(list(LIMITS))
        steps = self.random.randint(1, 3)
        chained = self.random.random() < 0.5
        graph = [task(opening=True)]
        graph += [task(0) if chained else task() for _ in range(steps - 1)]
        graph.append(task(*range(steps), kind="finish"))
        if self.random.random() < 0.5:
            graph.append(task(kind="digest"))  # may end before the film, or fail after it
        number = f"{next(self.names):025}"
        if self.random.random() < 0.15:
            self.fragile.add(f"J{number}")
        return make_job(
            user_id,
            f"X{number}",
            tuple(graph),
            job_id=f"J{number}",
            priority=self.random.choice((0, 0, 5)),
        )

    def submit(self, tx: Tx, job: NewJob) -> None:
        add_asset(tx, job.asset_id, job.user_id)
        self.code.submit(tx, job)

    def undone(self, word: Word) -> None:
        """A transaction whose process dies before the commit."""

        class Died(Exception):
            pass

        def die(tx: Tx) -> None:
            word(tx)
            raise Died

        try:
            self.say(die)
        except Died:
            pass

    def meddler(self) -> Generator[float]:
        """Cancels and retries."""
        while self.faulty:
            yield self.random.uniform(10, 60)
            if not self.jobs:
                continue
            job = self.random.choice(self.jobs)
            state = self.state_of(job.id)
            if state in ("queued", "running") and self.chance(0.4):
                self.seen["cancel"] += 1
                now = self.say(functools.partial(self.code.request_cancel, job_id=job.id))
                self.cancelling.add(job.id)
                if now == "cancelled":
                    self.job_ended(job.id)
            elif state in ("failed", "cancelled"):
                self.seen["retry"] += 1
                only_failed = self.random.random() < 0.7
                if only_failed and state == "failed" and self.has_a_film(job.id):
                    self.seen["retry beside a finished film"] += 1
                again = functools.partial(self.code.retry, job_id=job.id, only_failed=only_failed)
                if not self.say(again):
                    raise Violation(f"seed {self.seed}: a {state} job was not retried")
                self.cancelling.discard(job.id)
                self.ring()

    def sweeper(self) -> Generator[float]:
        while True:
            expired = [
                lease
                for lease in self.leases.values()
                if not lease.over and lease.until_s < self.clock.now_s
            ]
            if self.say(lambda tx: self.code.sweep(tx)):
                self.ring()
            for lease in expired:
                self.seen["swept"] += 1
                lease.over = True
                with self.database.read() as tx:
                    query = "SELECT crashes, state FROM tasks WHERE id = ?"
                    found = tx.connection.exec_driver_sql(query, (lease.held.task_id,)).fetchone()
                if found is not None and found[0] == 3:
                    self.seen["worker lost for good"] += 1
                if self.state_of(lease.held.job_id) not in ("queued", "running"):
                    self.job_ended(lease.held.job_id)
            self.collect()
            yield SWEEP_S

    def collect(self) -> None:
        """What the collector may delete is nobody's."""
        if not self.chance(0.1):
            return
        with self.database.read() as tx:
            listed = {found.prefix for found in self.code.collectable(tx, 0.0)}
            query = "SELECT storage_key FROM segments UNION SELECT prefix FROM jobs"
            needed = {row[0] for row in tx.connection.exec_driver_sql(query)}
        needed |= {lease.held.prefix for lease in self.leases.values() if not lease.over}
        if listed & needed:
            raise Violation(f"seed {self.seed}: would collect {listed & needed}")

    # --- workers

    def worker(self, me: Process) -> Generator[float]:
        while True:
            held = self.claim(me)
            if held is None:
                me.idle = True
                yield POLL_S
                continue
            yield from self.work(me, held)
            me.was_paused = False
            yield 0.01

    def claim(self, me: Process) -> Claim | None:
        if self.chance(0.01):
            self.seen["killed in a transaction"] += 1
            self.undone(lambda tx: self.code.claim(tx, me.name))
        held: Claim | None = self.say(lambda tx: self.code.claim(tx, me.name, lease_s=LEASE_S))
        if held is None:
            return None
        before = self.leases.get(held.task_id)
        if before is not None:
            if not before.over and before.until_s > self.clock.now_s:
                raise Violation(f"seed {self.seed}: {held.task_id} was claimed twice")
            if held.epoch <= before.held.epoch:
                raise Violation(f"seed {self.seed}: epoch {held.epoch} came again")
        if held.job_id in self.cancelling:
            raise Violation(f"seed {self.seed}: a task of a cancelled job was begun")
        self.leases[held.task_id] = Lease(held, self.clock.now_s + LEASE_S)
        return held

    def work(self, me: Process, held: Claim) -> Generator[float]:
        """What a worker does with a claim. One that stood still goes on with any word, without
        looking: that is what the fences are for."""
        longest_s = 45 if held.kind != "digest" else 120  # of a large source
        until_s = self.clock.now_s + self.random.uniform(2, longest_s)
        number = 0
        while self.clock.now_s < until_s:
            yield min(BEAT_S, max(until_s - self.clock.now_s, 0.01))
            if me.was_paused:
                me.was_paused = False
                for _ in range(self.random.randint(1, 2)):
                    self.last_word(held, self.random.choice(LAST_WORDS))
                return
            beat = self.heartbeat(held)
            if beat is None:
                return
            if beat.cancel_requested:
                self.release(held)
                return
            if self.random.random() < 0.4:
                number += 1
                if not self.advance(held, number):
                    return
        yield self.random.uniform(0.1, BEAT_S)  # in which a cancel may come
        if not self.faulty:
            self.commit(held)
            return
        weights = FRAGILE_WEIGHTS if held.job_id in self.fragile else FATE_WEIGHTS
        if held.kind == "digest":
            weights = DIGEST_WEIGHTS
        if held.job_id in self.cancelling:
            weights = CANCELLED_WEIGHTS
        (fate,) = self.random.choices(FATES, weights)
        self.last_word(held, fate)

    def last_word(self, held: Claim, fate: str) -> None:
        match fate:
            case "commit":
                self.commit(held)
            case "error":
                self.fail(held, retryable=True)
            case "bad input":
                self.fail(held, retryable=False)
            case "release":
                self.release(held)
            case "replan":
                self.replan(held)
            case "advance":
                self.advance(held, 99)
            case _:
                self.heartbeat(held)

    def heartbeat(self, held: Claim) -> Any:
        beat = self.say(lambda tx: self.code.heartbeat(tx, held, {}, lease_s=LEASE_S))
        if self.judge(held, "heartbeat", heard=beat is not None):
            self.leases[held.task_id].until_s = self.clock.now_s + LEASE_S
        return beat

    def advance(self, held: Claim, number: int) -> bool:
        made = NewSegment(held.task_id, number, held.prefix, 1, {})
        heard = self.say(lambda tx: self.code.advance(tx, held, [made]))
        return self.judge(held, "advance", heard=heard)

    def commit(self, held: Claim) -> None:
        last = held.kind == "finish"
        files = [NewOutput(kind, held.prefix, "x", 1, "0", {}) for kind in ("hls", "dash")]

        def word(tx: Tx) -> bool:
            heard: bool = self.code.commit(
                tx,
                held,
                result={},
                outputs=files if last else (),
                job_prefix=held.prefix if last else None,
            )
            return heard

        if self.chance(0.03):
            self.seen["killed in a transaction"] += 1
            self.undone(word)
            return  # the claim is left to its lease
        stopped = held.job_id in self.cancelling
        heard = self.say(word)
        if heard and self.chance(0.1):
            self.seen["commit's answer lost"] += 1
            with self.database.read() as tx:
                if not self.code.committed(tx, held):
                    raise Violation(f"seed {self.seed}: a commit was forgotten")
            if self.say(word):
                raise Violation(f"seed {self.seed}: a commit took place twice")
        if stopped and not heard and self.alive(held):
            self.seen["commit refused for a cancel"] += 1
            self.end(held)
            return
        if self.judge(held, "commit", heard=heard):
            self.end(held)
            self.ring()

    def fail(self, held: Claim, *, retryable: bool) -> None:
        heard = self.say(
            lambda tx: self.code.fail(tx, held, code="x", message="x", retryable=retryable)
        )
        if self.judge(held, "fail", heard=heard):
            self.seen["error" if retryable else "bad input"] += 1
            self.end(held)
            if retryable and self.state_of(held.job_id) == "failed":
                self.seen["errors used up"] += 1

    def release(self, held: Claim) -> None:
        heard = self.say(lambda tx: self.code.release(tx, held))
        if self.judge(held, "release", heard=heard):
            self.seen["release"] += 1
            self.end(held)
            self.ring()

    def replan(self, held: Claim) -> None:
        graph = (task(opening=True), task(0, kind="finish"))
        stopped = held.job_id in self.cancelling
        heard = self.say(lambda tx: self.code.replan(tx, held, "{}", {}, graph))
        if stopped and not heard and self.alive(held):
            self.seen["replan refused for a cancel"] += 1
            self.end(held)
            return
        if self.judge(held, "replan", heard=heard):
            self.seen["replan"] += 1
            self.job_ended(held.job_id)
            self.ring()

    # --- the oracle

    def alive(self, held: Claim) -> bool:
        lease = self.leases[held.task_id]
        return lease.held.epoch == held.epoch and not lease.over

    def judge(self, held: Claim, word: str, *, heard: bool) -> bool:
        """Whether the queue was right to hear a worker, or not to."""
        alive = self.alive(held)
        if heard and not alive:
            raise Violation(f"seed {self.seed}: {word} of a claim that was over")
        if not heard:
            self.seen[f"{word} refused"] += 1
            if alive:
                raise Violation(f"seed {self.seed}: {word} of a living claim was refused")
        return heard

    def end(self, held: Claim) -> None:
        self.leases[held.task_id].over = True
        if self.state_of(held.job_id) not in ("queued", "running"):
            self.job_ended(held.job_id)

    def job_ended(self, job_id: str) -> None:
        for lease in self.leases.values():
            if lease.held.job_id == job_id:
                lease.over = True


LAST_WORDS = ("heartbeat", "advance", "commit", "error", "bad input", "release", "replan")
FATES = ("commit", "error", "bad input", "release", "replan")
FATE_WEIGHTS = (80, 10, 2, 5, 3)
DIGEST_WEIGHTS = (50, 5, 40, 5, 0)  # another one than was announced
CANCELLED_WEIGHTS = (50, 5, 5, 10, 30)  # it was about to say this, and has not heard yet
FRAGILE_WEIGHTS = (25, 70, 0, 5, 0)  # of jobs whose disk is full, as it were


def iter_nothing() -> Generator[float]:
    yield from ()


# --- many seeds -----------------------------------------------------------------------------------


class Simulator:
    """Runs seeds, one after another on one database that is set back before each."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.database = Database("sqlite://", now=self.clock.expression())
        metadata.create_all(self.database.engine)
        with self.database.write() as tx:
            for trigger in TRIGGERS:
                tx.connection.exec_driver_sql(trigger)
        self.empty = sqlite3.connect(":memory:")
        self._raw().backup(self.empty)

    def _raw(self) -> sqlite3.Connection:
        with self.database.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return raw

    def run(
        self, seed: int, code: types.ModuleType = queue, *, sweeps: bool = True
    ) -> Counter[str]:
        """Live through one seed; what was met. Raises `Violation`."""
        self.empty.backup(self._raw())
        self.clock.now_s = StoppedClock().now_s
        # Ids decide who is first: they must be the same each time.
        ids = itertools.count(1)
        kept = code.__dict__["new_id"]
        code.__dict__["new_id"] = lambda: f"{next(ids):026}"
        try:
            world = World(self.database, self.clock, code, seed, sweeps)
            world.run()
        finally:
            code.__dict__["new_id"] = kept
        return world.seen

    def close(self) -> None:
        self.database.close()
        self.empty.close()


def not_met(seen: Counter[str]) -> list[str]:
    """The planned faults and rejections that never occurred: with one of them the run is void."""
    return [what for what in (*FAULTS, *REJECTS) if not seen[what]]


# --- mutants --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mutant:
    """The queue without one of its fences: in what `name` names every `old` becomes `new`."""

    module: types.ModuleType
    name: str
    old: str
    new: str


_OPEN = "(tasks.c.id == held.task_id)"
MUTANTS = {
    **{
        name: Mutant(queue, name, "_held(held)", _OPEN)
        for name in ("heartbeat", "advance", "commit", "fail", "release", "replan", "_stop")
    },
    "commit of a cancelled task": Mutant(queue, "commit", " & _wanted()", ""),
    "replan of a cancelled task": Mutant(queue, "replan", " & _wanted()", ""),
    "sweep of a living lease": Mutant(
        queue, "_run_out", "tasks.c.lease_until < tx.now", "sa.true()"
    ),
    "claim of a taken task": Mutant(
        claims, "_NEXT_TASK", 'tasks.c.state == "ready"', "tasks.c.waits_for == 0"
    ),
    "epoch": Mutant(claims, "_take", "row.epoch + 1", "row.epoch"),
}


def without(name: str) -> types.ModuleType:
    """The queue's module with one fence removed from its text."""
    mutant = MUTANTS[name]
    path = Path(mutant.module.__file__ or "")
    text = path.read_text(encoding="utf-8")
    start = rf"^(?:def {mutant.name}\(|{mutant.name} = ).*?"
    found = re.search(start + r"(?=^[^\s)]|\Z)", text, re.M | re.S)
    assert found is not None, mutant
    assert mutant.old in found[0], mutant
    text = text.replace(found[0], found[0].replace(mutant.old, mutant.new))
    made = types.ModuleType(f"{mutant.module.__name__}_without_{mutant.name}")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(text, str(path), "exec"), made.__dict__)
    if mutant.module is queue:
        return made
    whole = types.ModuleType(f"queue_on_{made.__name__}")
    whole.__dict__.update(queue.__dict__)
    whole.__dict__["claim"] = made.__dict__["claim"]
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate the queue's protocol.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--without", choices=sorted(MUTANTS), help="run without this fence")
    asked = parser.parse_args()
    code = queue if asked.without is None else without(asked.without)
    simulator = Simulator()
    seen: Counter[str] = Counter()
    failed = 0
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            seen += simulator.run(seed, code)
        except Violation as violation:
            failed += 1
            print(violation)
    simulator.close()
    for what in (*FAULTS, *REJECTS):
        print(f"{seen[what]:8} {what}")
    missing = not_met(seen)
    print(f"{asked.seeds} seeds, {failed} failed" + (f"; never met: {missing}" if missing else ""))
    return int(failed > 0 or bool(missing))


if __name__ == "__main__":
    sys.exit(main())
