"""The sweeper and the collector: what is given back, what is deleted, and what must stay."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa
from tests.service.working import one, submit_noops
from tests.waiting import until

from telecine.service.collector import (
    collect,
    inspect_orphans,
    run_collector,
    sweep,
)
from telecine.service.db import queue, tables
from telecine.service.db.queue import Claim, NewSegment
from telecine.service.domain import Unavailable, new_id
from telecine.service.scratch import attempt_folder, job_folder, scratch_folder
from telecine.service.services import Services


def claimed(services: Services, *, lease_s: float = 30.0) -> Claim:
    """A task that runs, with a file of its attempt in storage."""
    with services.database.write() as tx:
        held = queue.claim(tx, "w", lease_s=lease_s)
    assert held is not None
    services.storage.put_bytes(f"{held.prefix}/video/00000.m4s", b"segment")
    return held


def advanced(services: Services, held: Claim) -> None:
    key = f"{held.prefix}/video/00000.m4s"
    segment = NewSegment("720p", 0, key, len(b"segment"), {})
    with services.database.write() as tx:
        assert queue.advance(tx, held, [segment])


def committed(services: Services, held: Claim, *, job_prefix: str | None = None) -> None:
    with services.database.write() as tx:
        assert queue.commit(tx, held, result={}, job_prefix=job_prefix)


def stored(services: Services) -> set[str]:
    return set(services.storage.keys(""))


def test_a_lease_that_ran_out_is_given_back_and_its_bytes_collected(services: Services) -> None:
    submit_noops(services, 1)
    held = claimed(services, lease_s=0.01)
    time.sleep(0.05)
    collect(services, older_than_s=0)
    assert len(stored(services)) == 1  # it still runs
    sweep(services)
    collect(services, older_than_s=0)
    assert stored(services) == set()
    again = claimed(services)
    assert (again.task_id, again.epoch) == (held.task_id, 2)


def test_segments_that_readers_follow_stay_until_the_job_is_done(services: Services) -> None:
    job_id = submit_noops(services, 1)
    lost = claimed(services, lease_s=0.01)
    advanced(services, lost)
    time.sleep(0.05)
    sweep(services)
    collect(services, older_than_s=0)
    assert stored(services) == {f"{lost.prefix}/video/00000.m4s"}
    heir = claimed(services)
    committed(services, heir, job_prefix=heir.prefix)
    collect(services, older_than_s=0)
    assert stored(services) == {f"{heir.prefix}/video/00000.m4s"}
    job = one(services, sa.select(tables.jobs).where(tables.jobs.c.id == job_id))
    assert (job.state, job.prefix) == ("succeeded", heir.prefix)
    assert inspect_orphans(services) == []


def test_an_attempt_is_left_alone_until_it_is_old(services: Services) -> None:
    submit_noops(services, 2)
    held = claimed(services)
    with services.database.write() as tx:
        queue.release(tx, held)
    collect(services, older_than_s=60)
    assert len(stored(services)) == 1
    collect(services, older_than_s=0)
    assert stored(services) == set()


def test_what_was_discarded_is_deleted_and_only_when_it_is_due(services: Services) -> None:
    services.storage.put_bytes("sources/a", b"1")
    services.storage.put_bytes("sources/b/c", b"2")
    services.storage.put_bytes("sources/bc", b"3")
    services.storage.put_bytes("later/d", b"4")
    with services.database.write() as tx:
        queue.discard(tx, ["sources/a", "sources/b/"])
        queue.discard(tx, ["later/"], after_s=3600)
    collect(services)
    assert stored(services) == {"sources/bc", "later/d"}
    assert one(services, sa.select(tables.garbage.c.prefix)).prefix == "later/"
    assert collect(services) == 0


def test_scratch_folders_of_what_is_over_go_and_no_others(services: Services) -> None:
    running = submit_noops(services, 2)
    over = submit_noops(services, 1)
    live = claimed(services)
    assert live.job_id == running
    other = claimed(services)
    while other.job_id != over:
        other = claimed(services)
    committed(services, other)
    keep = [attempt_folder(services, live.task_id, live.epoch), job_folder(services, running)]
    go = [
        attempt_folder(services, live.task_id, live.epoch - 1),
        attempt_folder(services, new_id(), 1),
        job_folder(services, over),
        job_folder(services, new_id()),
    ]
    stranger = scratch_folder(services) / "notes"
    for folder in (*keep, *go, stranger):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    collect(services)
    assert set(scratch_folder(services).iterdir()) == {*keep, stranger}


def test_a_worker_that_writes_after_its_bytes_were_collected_leaves_nothing(
    services: Services,
) -> None:
    submit_noops(services, 1)
    zombie = claimed(services, lease_s=0.01)
    time.sleep(0.05)
    sweep(services)
    collect(services, older_than_s=0)
    services.storage.put_bytes(f"{zombie.prefix}/video/00001.m4s", b"late")
    assert inspect_orphans(services) == []  # it is still known to be collected once more
    with services.database.write() as tx:  # a day goes by
        tx.connection.execute(sa.update(tables.attempts).values(collected_at=tx.now - 86_401))
    collect(services, older_than_s=0)
    assert stored(services) == set()


def test_what_cannot_be_deleted_holds_up_nothing_else(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_noops(services, 2)
    stuck, other = claimed(services), claimed(services)
    with services.database.write() as tx:
        assert queue.release(tx, stuck)
        assert queue.release(tx, other)
        queue.discard(tx, ["sources/stuck", "sources/x"])
    for key in ("sources/stuck", "sources/x"):
        services.storage.put_bytes(key, b"1")
    folder = attempt_folder(services, new_id(), 1)
    folder.mkdir(parents=True)
    real, undeletable = services.storage.delete, True

    def delete(prefix: str) -> int:
        if undeletable and prefix in (f"{stuck.prefix}/", "sources/stuck"):
            raise PermissionError(1, "Operation not permitted")
        return real(prefix)

    monkeypatch.setattr(services.storage, "delete", delete)
    collect(services, older_than_s=0)
    assert stored(services) == {f"{stuck.prefix}/video/00000.m4s", "sources/stuck"}
    assert not folder.exists()
    undeletable = False
    collect(services, older_than_s=0)
    assert stored(services) == set()


def test_no_deletion_delays_the_sweep(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    submit_noops(services, 1)
    held = claimed(services)
    with services.database.write() as tx:
        assert queue.release(tx, held)
    deleting, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def delete(_: str) -> int:
        deleting.set()
        go_on.wait(60)
        return 0

    monkeypatch.setattr(services.storage, "delete", delete)
    thread = threading.Thread(
        target=run_collector,
        args=(services,),
        kwargs={"stop": stop, "sweep_every_s": 0.05, "older_than_s": 0.0},
    )
    thread.start()
    try:
        assert deleting.wait(20)
        held = claimed(services, lease_s=0.01)
        of_task = sa.select(tables.tasks).where(tables.tasks.c.id == held.task_id)
        until(lambda: one(services, of_task).state == "ready", timeout_s=20)
        assert not go_on.is_set()
    finally:
        stop.set()
        go_on.set()
        thread.join()


def test_what_no_row_knows_is_an_orphan(services: Services) -> None:
    assert inspect_orphans(services) == []
    services.storage.put_bytes("sources/lost", b"1")
    services.storage.begin("incoming-lost")
    assert inspect_orphans(services) == ["sources/lost", "incoming-lost"]


def test_running_it_goes_on_after_the_database_was_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_noops(services, 1)
    held = claimed(services, lease_s=0.01)
    real, tries = queue.sweep, 0

    def unsteady(tx: object) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise [Unavailable("gone", code="database_unavailable"), RuntimeError("a bug")][
                tries - 1
            ]
        return real(tx)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "sweep", unsteady)
    stop = threading.Event()
    thread = threading.Thread(
        target=run_collector,
        args=(services,),
        kwargs={
            "stop": stop,
            "sweep_every_s": 0.05,
            "collect_every_s": 0.05,
            "older_than_s": 0.0,
        },
    )
    thread.start()
    try:
        until(lambda: not stored(services), timeout_s=20)
    finally:
        stop.set()
        thread.join()
    of_task = sa.select(tables.tasks).where(tables.tasks.c.id == held.task_id)
    assert one(services, of_task).state == "ready"
