"""Chaos: a real `telecine serve` whose processes are killed and stopped while clients submit jobs.

    python -m tests.service.chaos --jobs 200 --seed 7

From the seed come the jobs, the faults, their order and their moments: each waits until so many
jobs have ended, and then for a task that runs. Jobs come until there were enough of both. What
happens then is up to the machine. A fault counts when it hit: a worker that was killed or stopped
held a task, and one that was stopped past its lease came back, spoke, and was not heard. A run in
which a planned fault did not hit is void.

At the end, `judge` looks at the database and the storage, and the driver at the processes: it is
the one that orphans are given to (PR_SET_CHILD_SUBREAPER), so whatever is left is below it.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from tests.processes import alive, tree, words_of
from tests.service.conftest import PASSWORD
from tests.service.running import Running
from tests.service.working import rows

from telecine.client import Client, ConnectionFailed
from telecine.engine.tools import Tools, find_tools
from telecine.engine.verify import verify
from telecine.service.assembly import open_services
from telecine.service.collector import collect, inspect_orphans, sweep
from telecine.service.db.tables import attempts, events, jobs, outputs, tasks, tenants
from telecine.service.domain import FINAL_JOB_STATES, FINAL_TASK_STATES
from telecine.service.scratch import scratch_folder
from telecine.service.services import Services
from telecine.service.settings import Settings

WORKERS = 3
LEASE_S = 4
STOPPED_S = 30.0  # a worker that stands still is given up as a fault after so long
HIT_S = 120.0  # so long is tried to hit something
AGAIN_S = 0.5
AT_ONCE = 6  # jobs that have not ended
JOBS_PER_FAULT = 5
LEAST_FAULTS = 8
TRIES = 3  # so many workers a task may lose, by the design

WORKER_KILLED = "worker killed in a task"
WORKER_STOPPED = "worker stopped past its lease"
REFUSED = "what it then said was refused"
API_KILLED = "API killed"
TREE_KILLED = "whole tree killed in a task"
CLIPS_S = (1, 2, 3)
KINDS = (WORKER_KILLED, WORKER_STOPPED, API_KILLED, TREE_KILLED)

ORDERS: tuple[list[dict[str, Any]], ...] = (
    [{"type": "hls"}],
    [{"type": "mp4", "size": "source"}],
    [{"type": "mp3", "bitrate_bps": 128_000}],
    [{"type": "hls"}, {"type": "opus"}, {"type": "poster"}],
)

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    after: int  # so many jobs have ended
    pause_s: float


def plan_faults(chance: random.Random, count: int) -> list[Fault]:
    """The faults of a run of so many jobs, each kind as often, while there is work."""
    number = max(LEAST_FAULTS, count // JOBS_PER_FAULT)
    kinds = [KINDS[n % len(KINDS)] for n in range(number)]
    chance.shuffle(kinds)
    moments = sorted(chance.randrange(max(1, count * 3 // 4)) for _ in kinds)
    pairs = zip(kinds, moments, strict=True)
    return [Fault(kind, after, chance.uniform(0, 0.5)) for kind, after in pairs]


def not_met(faults: list[Fault], seen: Counter[str]) -> list[str]:
    """The kinds of faults that hit less often than planned."""
    planned = Counter(fault.kind for fault in faults)
    planned[REFUSED] = planned[WORKER_STOPPED]
    return [
        f"{kind}: {seen[kind]} of {times}" for kind, times in planned.items() if seen[kind] < times
    ]


@dataclass(frozen=True, slots=True)
class Request:
    """To submit a job; not to be sent before."""

    key: str
    body: dict[str, Any]
    after_s: float


# --- what must hold -------------------------------------------------------------------------------


def judge(services: Services, acknowledged: set[str]) -> list[str]:
    """What is wrong with an installation at rest whose clients were told of these jobs. Sweeps and
    collects first."""
    sweep(services)
    collect(services, older_than_s=0.0)
    there = {row.id: row for row in rows(services, sa.select(jobs))}
    wrong = [f"job {job_id} was lost" for job_id in acknowledged - set(there)]
    wrong += [f"job {job_id} exists, and nobody was told" for job_id in set(there) - acknowledged]
    for row in there.values():
        wrong += [f"job {row.id}: {what}" for what in _judge_job(services, row)]
    wrong += [f"orphan {key}" for key in inspect_orphans(services)]
    folder = scratch_folder(services)
    wrong += (
        [f"left in scratch: {path.name}" for path in folder.iterdir()] if folder.is_dir() else []
    )
    open_ones = sa.select(attempts.c.task_id).where(attempts.c.ended_at.is_(None))
    wrong += [f"an attempt of {row.task_id} never ended" for row in rows(services, open_ones)]
    busy = sa.select(tenants).where((tenants.c.queued_jobs != 0) | (tenants.c.running_jobs != 0))
    wrong += [f"the counters of {row.user_id} say that jobs run" for row in rows(services, busy)]
    return wrong


def too_few(states: Counter[str]) -> list[str]:
    """The same task has to be hit by three faults for its job to be given up: that is rare."""
    good, count = states["succeeded"], states.total()
    return [] if good * 10 >= count * 9 else [f"{good} of {count} jobs succeeded"]


def _judge_job(services: Services, job: Any) -> list[str]:
    if job.state not in FINAL_JOB_STATES:
        return [f"is {job.state}"]
    wrong = []
    told = rows(
        services,
        sa.select(events.c.number, events.c.type)
        .where(events.c.job_id == job.id)
        .order_by(events.c.number),
    )
    if [row.number for row in told] != list(range(1, len(told) + 1)):
        wrong.append("its events have holes")
    ends = [row.type for row in told if row.type in FINAL_JOB_STATES]
    if ends != [job.state]:
        wrong.append(f"is {job.state}, and told of {ends}")
    unfinished = sa.select(tasks.c.id).where(
        tasks.c.job_id == job.id, tasks.c.state.not_in(FINAL_TASK_STATES)
    )
    wrong += [f"task {row.id} is not finished" for row in rows(services, unfinished)]
    if job.state == "succeeded":
        wrong += _judge_files(services, job)
    elif job.state != "failed" or (job.error or {}).get("code") != "worker_lost":
        wrong.append(f"is {job.state}: {job.error}")  # nobody cancels, and the clips are good
    else:
        lost = sa.select(attempts.c.task_id).where(
            attempts.c.job_id == job.id, attempts.c.outcome == "lost"
        )
        most = max(Counter(row.task_id for row in rows(services, lost)).values(), default=0)
        if most < TRIES:
            wrong.append(f"was given up after a task had lost {most} workers")
    return wrong


def _judge_files(services: Services, job: Any) -> list[str]:
    made = rows(services, sa.select(outputs).where(outputs.c.job_id == job.id))
    report = next((row for row in made if row.kind == "report"), None)
    if report is None:
        return ["has no report"]
    place = services.storage.local_path(f"{job.prefix}/{report.path}")
    if place is None or not place.is_file():
        return ["its report is gone"]
    folder = place.parent
    wrong = []
    for row in made:
        file = folder / row.path
        data = file.read_bytes() if file.is_file() else b""
        if (len(data), hashlib.sha256(data).hexdigest()) != (row.size_bytes, row.sha256):
            wrong.append(f"{row.path} is not what was committed")
    found = verify(folder)
    return wrong + [f"{rule.name}: {rule.figure}" for rule in found.rules if not rule.passed]


# --- processes ------------------------------------------------------------------------------------


def adopt_orphans() -> None:
    """From now on whoever loses its parent below this process becomes its child."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def living() -> list[int]:
    """All that this process started, at any remove, and that runs."""
    return [pid for pid in tree(os.getpid())[1:] if alive(pid)]


def worker_called(name: str) -> int | None:
    return next((pid for pid in living() if {"worker", name} <= set(words_of(pid))), None)


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself


# --- the run --------------------------------------------------------------------------------------


class Chaos:
    """One run. `seen` counts the faults that hit and what else was met."""

    def __init__(self, folder: Path, count: int, seed: int, tools: Tools) -> None:
        self.chance = random.Random(seed)
        self.faults = plan_faults(self.chance, count)
        self.seen: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self._count = count
        self._orders = random.Random(seed)  # of another thread
        self._all_hit = threading.Event()
        self._submitting: Exception | None = None
        self._bugs: list[str] = []
        self._clips = [make_clip(folder / f"{n}.mp4", n, tools) for n in CLIPS_S]
        self._running = Running(
            folder / "data", workers=WORKERS, environment={"TELECINE_LEASE_S": str(LEASE_S)}
        )
        self._services = open_services(Settings(data=folder / "data"), tools)
        self._key = ""

    def run(self) -> list[str]:
        """Live through it; what is wrong at the end."""
        with self._running as running:
            with Client(running.base_url) as client:
                client.sign_up("chaos@example.org", PASSWORD)
                client.log_in("chaos@example.org", PASSWORD)
                self._key = client.create_api_key("chaos").secret
                assets = [str(client.upload(clip).asset_id) for clip in self._clips]
            submitting = threading.Thread(target=self._submit_all, args=(assets,))
            submitting.start()
            try:
                for fault in self.faults:
                    self._until_ended(fault.after)
                    time.sleep(fault.pause_s)
                    self._say(fault.kind)
                    self._inflict(fault.kind)
            finally:
                self._all_hit.set()
                submitting.join()
            if self._submitting is not None:
                raise self._submitting
            self._until_ended(len(self.acknowledged))
            code = running.stop()
        wrong = [] if code == 0 else [f"telecine serve ended with {code}"]
        self._wait(lambda: not living(), HIT_S)  # workers whose API was killed end by themselves
        wrong += [f"answered a client with a bug: {line}" for line in self._bugs]
        wrong += [f"still runs: {' '.join(words_of(pid))[:200]}" for pid in living()]
        wrong += judge(self._services, self.acknowledged)
        states = Counter(row.state for row in rows(self._services, sa.select(jobs.c.state)))
        wrong += too_few(states)
        self.seen += Counter({f"job {state}": number for state, number in states.items()})
        self.seen += Counter(
            f"attempt {row.outcome}" for row in rows(self._services, sa.select(attempts.c.outcome))
        )
        self._services.database.close()
        return wrong

    def _say(self, what: str) -> None:
        print(f"{self._ended():4} of {self._count} jobs: {what}", flush=True)

    # clients

    def _submit_all(self, assets: list[str]) -> None:
        """Some at once; as many as were asked for, and more while there are faults to come. Each
        is asked for until it is acknowledged, as a client with an Idempotency-Key does."""
        try:
            number = 0
            later: list[Request] = []
            while later or number < self._count or not self._all_hit.is_set():
                late = next((one for one in later if one.after_s <= time.monotonic()), None)
                if late is not None:
                    later.remove(late)
                    request = late
                elif (number < self._count or not self._all_hit.is_set()) and (
                    len(self.acknowledged) - self._ended() < AT_ONCE
                ):
                    asset_id, order = self._orders.choice(assets), self._orders.choice(ORDERS)
                    tag = {"chaos": str(number)}
                    body = {"asset_id": asset_id, "outputs": order, "metadata": tag}
                    request = Request(f"chaos-{number}", body, 0.0)
                    number += 1
                else:
                    time.sleep(0.05)
                    continue
                job_id = self._submit(request)
                if job_id is None:
                    later.append(replace(request, after_s=time.monotonic() + AGAIN_S))
                else:
                    self.acknowledged.add(job_id)
        except Exception as error:  # raised in the main thread
            self._submitting = error

    def _submit(self, request: Request) -> str | None:
        """The job's id; None: to be asked again."""
        headers = {"Authorization": f"Bearer {self._key}"}
        url = f"{self._running.base_url}/v1/jobs"
        try:
            answer = httpx2.post(
                url,
                json=request.body,
                headers={**headers, "Idempotency-Key": request.key},
                timeout=60,
            )
            said = answer.json()
            if answer.status_code == 202:
                return str(said["id"])
            self.seen[f"submit answered with {said['code']}"] += 1
            if said["code"] == "internal":
                self._bugs += self._logged(said["request_id"])
            if said["code"] == "idempotency_answer_lost":  # look for what it made
                with Client(self._running.base_url, api_key=self._key) as client:
                    (made,) = (
                        job.id for job in client.jobs() if job.metadata == request.body["metadata"]
                    )
                return str(made)
            if said["code"] != "idempotency_in_flight" and answer.status_code < 500:
                raise AssertionError(f"{answer.status_code} {answer.text}")
        except (httpx2.TransportError, ConnectionFailed):
            self.seen["submit not answered"] += 1
        return None

    # faults

    def _inflict(self, kind: str) -> None:
        """Do it until it hit."""
        how = {
            WORKER_KILLED: self._kill_worker,
            WORKER_STOPPED: self._stop_worker,
            API_KILLED: self._kill_api,
            TREE_KILLED: self._kill_tree,
        }[kind]
        if self._wait(how, HIT_S):
            self.seen[kind] += 1

    def _kill_worker(self) -> bool:
        held = self._some_task()
        pid = held and worker_called(held.lease_owner)
        if not pid:
            return False
        send(pid, signal.SIGKILL)
        return self._holds(held)

    def _stop_worker(self) -> bool:
        held = self._some_task()
        pid = held and worker_called(held.lease_owner)
        if not pid:
            return False
        send(pid, signal.SIGSTOP)
        try:
            # It may hold the database's write lock just then: nobody can take the task from it.
            lost = self._holds(held) and self._wait(lambda: not self._holds(held), STOPPED_S)
        finally:
            send(pid, signal.SIGCONT)
        refused = lost and self._wait(lambda: self._was_refused(held), STOPPED_S)
        self.seen[REFUSED] += refused
        return refused

    def _kill_api(self) -> bool:
        send(self._running.pid, signal.SIGKILL)
        return self._start_again()

    def _kill_tree(self) -> bool:
        held = self._some_task()
        if held is None:
            return False
        while pids := living():
            for pid in pids:
                send(pid, signal.SIGKILL)
            time.sleep(0.02)
        in_time = self._holds(held)  # nobody is left who could end it
        return self._start_again() and in_time

    def _start_again(self) -> bool:
        """Whether it was our signal that had ended it."""
        assert self._running.process is not None
        code = self._running.process.wait()
        self._running.start()
        return code == -signal.SIGKILL

    # what is seen from outside

    def _ended(self) -> int:
        query = sa.select(jobs.c.id).where(jobs.c.state.in_(FINAL_JOB_STATES))
        return len(rows(self._services, query))

    def _some_task(self) -> Any:
        """One that runs, with its worker's name."""
        query = (
            sa.select(tasks.c.id, tasks.c.epoch, tasks.c.lease_owner)
            .where(tasks.c.state == "running")
            .order_by(tasks.c.id)
        )
        found = rows(self._services, query)
        return self.chance.choice(found) if found else None

    def _holds(self, held: Any) -> bool:
        """Whether this attempt is the task's, still."""
        query = sa.select(tasks.c.id).where(
            tasks.c.id == held.id, tasks.c.epoch == held.epoch, tasks.c.state == "running"
        )
        return bool(rows(self._services, query))

    def _logged(self, request_id: str) -> list[str]:
        text = self._running.log.read_text(errors="replace")
        return [line for line in text.splitlines() if request_id in line]

    def _was_refused(self, held: Any) -> bool:
        for line in self._running.log.read_text(errors="replace").splitlines():
            if held.id not in line or not line.endswith("}"):
                continue
            said = json.loads(line)
            if said["event"] == "task ends" and said["epoch"] == held.epoch:
                return said["kept"] is False
        return False

    def _wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _until_ended(self, count: int) -> None:
        timeout_s = 120 + 10 * self._count
        if not self._wait(lambda: self._ended() >= count, timeout_s):
            raise AssertionError(f"{self._ended()} jobs ended within {timeout_s} s")


def make_clip(path: Path, duration_s: int, tools: Tools) -> Path:
    """160×90 with a tone."""
    made = [
        *(str(tools.ffmpeg), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", str(duration_s)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25"),
        *("-c:a", "aac", "-ac", "2", str(path)),
    ]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the service while it works.")
    parser.add_argument("--jobs", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=None, help="default: another each time")
    parser.add_argument("--keep", type=Path, help="a folder that is kept for looking at it")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(10**6)
    print(f"seed {seed}, {asked.jobs} jobs", flush=True)
    adopt_orphans()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = Chaos(folder, asked.jobs, seed, find_tools())
        try:
            wrong = run.run()
        finally:
            for pid in living():
                send(pid, signal.SIGKILL)
    void = not_met(run.faults, run.seen)
    for what, times in sorted(run.seen.items()):
        print(f"{times:6} {what}")
    for line in (*wrong, *(f"void: {line}" for line in void)):
        print(line)
    wall_s = time.monotonic() - began
    print(f"seed {seed}: {len(wrong)} wrong, {len(void)} faults not met, {wall_s:.0f} s")
    return int(bool(wrong or void))


if __name__ == "__main__":
    sys.exit(main())
