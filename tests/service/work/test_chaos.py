"""Killed and stopped at random, the service loses no job; and who judges that can see."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import ROOT
from tests.service.chaos import KINDS, REFUSED, judge, make_clip, not_met, plan_faults, too_few
from tests.service.working import SHORT, Submitted, working
from tests.waiting import until

from telecine.engine.tools import Tools
from telecine.service.db import queue
from telecine.service.db.tables import events, jobs
from telecine.service.services import Services

JOBS = 30
SEED = 20


@pytest.mark.thorough
def test_thirty_jobs_survive_chaos() -> None:
    """In a process of its own, which its orphans are given to. Void is failed."""
    words = ["-m", "tests.service.chaos", "--jobs", str(JOBS), "--seed", str(SEED)]
    run = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=900
    )
    assert run.returncode == 0, run.stdout
    assert "0 wrong, 0 faults not met" in run.stdout


def test_every_kind_of_fault_is_planned_and_missed_when_it_did_not_hit() -> None:
    faults = plan_faults(random.Random(SEED), JOBS)
    hit = Counter(fault.kind for fault in faults)
    assert set(hit) == set(KINDS)
    assert all(fault.after < JOBS for fault in faults)
    assert not_met(faults, hit + Counter({REFUSED: 99})) == []
    for kind in KINDS:
        assert len(not_met(faults, hit + Counter({REFUSED: 99}) - Counter([kind]))) == 1
    assert len(not_met(faults, hit)) == 1  # nobody was refused


@pytest.fixture
def finished(services: Services, tmp_path: Path, clip: Path) -> Submitted:
    job = Submitted(services, clip, [{"type": "mp4", "size": "source"}])
    with working(services, clocks=SHORT):
        until(lambda: job.row().state == "succeeded")
    assert judge(services, {job.id}) == []
    return job


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 1, tools)


def test_the_judge_sees_what_is_wrong(finished: Submitted, services: Services) -> None:
    def sees(words: str) -> bool:
        return any(words in line for line in judge(services, {finished.id}))

    assert judge(services, {finished.id, "0" * 26}) == [f"job {'0' * 26} was lost"]
    assert judge(services, set()) == [f"job {finished.id} exists, and nobody was told"]
    services.storage.put_bytes("tasks/nobody", b"x")
    assert sees("orphan tasks/nobody")
    services.storage.delete("tasks/nobody")
    with services.database.write() as tx:
        queue.tell(tx, finished.id, "failed", {})
    assert sees("told of ['succeeded', 'failed']")
    with services.database.write() as tx:
        tx.connection.execute(sa.delete(events).where(events.c.number == 2))
    assert sees("holes")
    film = services.storage.local_path(f"{finished.row().prefix}/source.mp4")
    assert film is not None
    film.write_bytes(film.read_bytes()[:-100])
    assert sees("source.mp4 is not what was committed")
    with services.database.write() as tx:
        tx.connection.execute(sa.update(jobs).values(state="running"))
    assert sees("is running")
    with services.database.write() as tx:
        lost = {"code": "worker_lost"}
        tx.connection.execute(sa.update(jobs).values(state="failed", error=lost))
    assert sees("was given up after a task had lost 0 workers")


def test_hardly_a_job_may_be_given_up() -> None:
    assert too_few(Counter(succeeded=27, failed=3)) == []
    assert too_few(Counter(succeeded=26, failed=4)) == ["26 of 30 jobs succeeded"]
    assert too_few(Counter(failed=1)) == ["0 of 1 jobs succeeded"]
