"""Workers: what they make, and what they leave when they are killed, stopped, cancelled or fenced.

The clips' pictures carry numbers (`tests.media.framecode`); what a job must make is what the
command line's `transcode` makes of the same source, byte for byte.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.media.framecode import make
from tests.processes import tree as process_tree
from tests.service.conftest import PASSWORD
from tests.service.databases import fresh_database
from tests.service.running import Running
from tests.service.working import (
    SHORT,
    Submitted,
    add_asset,
    announce,
    digest_of,
    digests_below,
    one,
    rows,
    submit_noops,
    worker_process,
    working,
)
from tests.unit.sources import COMPLIANT, lasting
from tests.waiting import until

from telecine.client import Client, JobEvent
from telecine.engine import argv
from telecine.engine.errors import InputRefused, Interrupted, StepFailed, VerifyFailed
from telecine.engine.planning import make_plan
from telecine.engine.process import Cancel
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.segments import Segment, segment_name
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.service import assets
from telecine.service import tasks as task_module
from telecine.service import worker as worker_module
from telecine.service.assembly import open_services
from telecine.service.collector import collect, inspect_orphans, run_collector, sweep
from telecine.service.db import queue, tables, work
from telecine.service.db.connection import Tx
from telecine.service.domain import Principal, Unavailable
from telecine.service.orders import make_order
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.tasks import (
    Advancer,
    AnotherFFmpeg,
    Done,
    Fenced,
    Meter,
    Work,
    persist,
    playable,
)
from telecine.service.worker import (
    WATCH_S,
    Clocks,
    Keeper,
    attend,
    clocks_of,
    ending,
    failure,
    run_worker,
    settle,
)

X264 = ("-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-g", "48", "-crf", "26")
ENCODED: list[dict[str, Any]] = [
    {"type": "hls", "top": "encode", "rungs": [180, 120]},
    {"type": "mp4", "size": "120p"},
    {"type": "mp3"},
    {"type": "poster"},
]
COPIED: list[dict[str, Any]] = [{"type": "hls", "top": "copy"}, {"type": "mp4"}, {"type": "poster"}]
STREAM = ENCODED[:1]

# Long enough that a busy machine loses none of them, short enough to wait for.
PATIENT = replace(SHORT, lease_s=8.0, fence_s=6.0)


@pytest.fixture(scope="module")
def short_film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """12 s: one chunk."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    make(path, ffmpeg=ffmpeg, rate=Fraction(24), seconds=12, size=(320, 180), video=X264)
    return path


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """66 s: three chunks. Snow makes each take a while."""
    path = tmp_path_factory.mktemp("long") / "film.mp4"
    make(path, ffmpeg=ffmpeg, rate=Fraction(24), seconds=66, size=(426, 240), noise=25, video=X264)
    return path


Command = Callable[[Path, list[dict[str, Any]]], dict[str, str]]


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Command:
    """What `transcode` makes of a source: digests of all files but the report, which tells times.
    Made once for each source and wish."""
    made: dict[str, dict[str, str]] = {}

    def run(source: Path, outputs: list[dict[str, Any]]) -> dict[str, str]:
        name = f"{source} {outputs}"
        if name not in made:
            folder = tmp_path_factory.mktemp("command") / "out"
            profile = make_order(outputs=outputs).profile
            transcode(source, folder, profile, tools=tools, jobs=2)
            made[name] = digests_below(folder)
            del made[name]["report.json"]
        return made[name]

    return run


def made_by(job: Submitted) -> dict[str, str]:
    found = job.tree()
    del found["report.json"]
    return found


def finished(job: Submitted, timeout_s: float = 120) -> Any:
    """Wait for the job's end; its row."""
    until(lambda: job.row().state not in ("queued", "running"), timeout_s)
    return job.row()


@contextmanager
def collecting(services: Services) -> Iterator[None]:
    """Sweep, and collect late, as `telecine serve` does."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_collector, args=(services,), kwargs={"stop": stop, "sweep_every_s": 0.2}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# --- what is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [ENCODED, COPIED], ids=["encoded", "copied"])
def test_a_job_ends_with_the_bytes_that_the_command_makes(
    outputs: list[dict[str, Any]], short_film: Path, services: Services, by_command: Command
) -> None:
    job = Submitted(services, short_film, outputs)
    with working(services):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert made_by(job) == by_command(short_film, outputs)

    kinds = {"hls": "master.m3u8", "dash": "manifest.mpd", "report": "report.json"}
    kinds |= {"mp4": "120p.mp4" if outputs is ENCODED else "source.mp4", "poster": "poster.jpg"}
    kinds |= {"mp3": "audio.mp3"} if outputs is ENCODED else {}
    made = rows(services, sa.select(tables.outputs).where(tables.outputs.c.job_id == job.id))
    assert {output.kind for output in made} == set(kinds)
    for output in made:
        data = b"".join(services.storage.read(f"{row.prefix}/{output.path}"))
        assert output.size_bytes == len(data)
        assert output.sha256 == hashlib.sha256(data).hexdigest()
    (streams,) = [output.facts for output in made if output.kind == "hls"]
    files = {path for path in job.tree() if path.startswith(("video/", "audio/"))}
    sizes = sum(services.storage.stat(f"{row.prefix}/{path}").size_bytes for path in files)
    own = [o.size_bytes for o in made if o.kind in ("hls", "dash")]
    assert streams["total_bytes"] == sizes + sum(own)
    assert streams["duration_s"] == pytest.approx(12, abs=0.1)

    asset = job.asset()
    assert (asset.state, asset.job_id) == ("ready", job.id)
    assert asset.poster_key == f"{row.prefix}/poster.jpg"
    assert asset.source_sha256 == hashlib.sha256(short_film.read_bytes()).hexdigest()
    assert row.report["state"] == "succeeded"
    assert row.report["verified_rules"] > 0


@pytest.mark.thorough
def test_every_sound_of_a_film_is_brought_to_a_loudness_by_workers_too(
    ffmpeg: str, short_film: Path, services: Services, by_command: Command, tmp_path: Path
) -> None:
    """What the gains are is left by one task for others, which may run on another machine."""
    film = tmp_path / "film.mkv"
    command = [ffmpeg, "-v", "error", "-i", str(short_film), "-f", "lavfi", "-i"]
    command += ["sine=700:d=12,aformat=channel_layouts=5.1", "-map", "0", "-map", "1"]
    subprocess.run([*command, "-c:v", "copy", "-c:a", "flac", str(film)], check=True)
    outputs: list[dict[str, Any]] = [{"type": "hls", "top": "copy", "loudness_lufs": -20}]
    job = Submitted(services, film, outputs)
    with working(services):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert made_by(job) == by_command(film, outputs)
    sounds = {sound["name"]: sound for sound in row.report["sounds"]}
    assert list(sounds) == ["aac", "aac-2", "surround-2"]
    for name in ("aac-2", "surround-2"):
        assert sounds[name]["loudness"]["integrated_lufs"] == pytest.approx(-20, abs=0.5)


def test_a_quality_is_searched_for_first_and_then_the_job_is_planned_anew(
    short_film: Path, services: Services, by_command: Command
) -> None:
    outputs: list[dict[str, Any]] = [
        {"type": "hls", "rungs": [120], "top": "encode", "quality": 88, "measure": "vmaf"}
    ]
    job = Submitted(services, short_film, outputs)
    assert [step.kind for step in job.plan.steps] == ["search"]
    with working(services):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert made_by(job) == by_command(short_film, outputs)
    assert row.report["quality"]["target_vmaf"] == 88
    assert row.report["quality"]["cpu_s"] > 0
    (rung,) = (rung for rung in row.report["rungs"] if rung["codec"])
    assert rung["quality"]["searched_vmaf"] == pytest.approx(88, abs=1)
    assert rung["quality"]["measured_vmaf"] == pytest.approx(88, abs=1.5)
    assert "in samples" in row.plan_summary["rungs"][0]["reason"]
    assert row.time_to_first_play_s > 0


def test_the_first_play_is_told_once_and_before_the_end(
    short_film: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Submitted(services, short_film, STREAM)
    numbers: set[tuple[str, int]] = set()  # of the segments that there are when it is told
    real = queue.tell

    def tell(tx: Tx, job_id: str, name: str, *data: Any) -> Any:
        if name == "playable":
            there = sa.select(tables.segments.c.rendition, tables.segments.c.number)
            numbers.update((row.rendition, row.number) for row in tx.connection.execute(there))
        return real(tx, job_id, name, *data)

    monkeypatch.setattr(queue, "tell", tell)
    with working(services):
        row = finished(job)
    heads = [r.name for r in job.plan.listed if r.head]
    assert {(name, number) for name in (*heads, "aac") for number in (-1, 0)} <= numbers
    told = [name for name, _ in job.events()]
    assert told.count("playable") == 1
    assert told.index("playable") < told.index("output") < told.index("succeeded")
    since_start = row.finished_at - row.created_at
    assert 0 < row.time_to_first_play_s <= since_start
    assert job.asset().time_to_first_play_s == pytest.approx(
        row.time_to_first_play_s + row.created_at - job.asset().uploaded_at, abs=0.1
    )


@pytest.mark.thorough
def test_two_workers_share_one_film_and_end_with_the_same_bytes(
    long_film: Path, services: Services, by_command: Command
) -> None:
    job = Submitted(services, long_film, ENCODED)
    with (
        collecting(services),
        worker_process(services, "a", PATIENT),
        worker_process(services, "b", PATIENT),
    ):
        row = finished(job)
    assert row.state == "succeeded", row.error
    of_job = sa.select(tables.attempts.c.worker).where(tables.attempts.c.job_id == job.id)
    assert {attempt.worker for attempt in rows(services, of_job)} == {"a", "b"}
    assert made_by(job) == by_command(long_film, ENCODED)


@pytest.mark.thorough
def test_a_source_that_seeks_badly_is_copied_once_for_all_chunks(
    services: Services,
    by_command: Command,
    tmp_path: Path,
    ffmpeg: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "film.ts"
    make(source, ffmpeg=ffmpeg, rate=Fraction(24), seconds=66, size=(320, 180), video=X264)
    copies: list[object] = []
    real = argv.working_copy

    def counted(*given: Any) -> list[str]:
        copies.append(given)
        return real(*given)

    monkeypatch.setattr(argv, "working_copy", counted)
    job = Submitted(services, source, STREAM)
    assert len([step for step in job.plan.steps if job.plan.reads_copy(step)]) >= 2
    with working(services), working(services, "there"):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert len(copies) == 1
    assert made_by(job) == by_command(source, STREAM)
    collect(services, older_than_s=0)
    assert list((services.settings.data / "scratch").iterdir()) == []


@pytest.mark.thorough
def test_a_copy_that_turns_out_damaged_is_given_up_for_a_plan_that_encodes(
    services: Services, tmp_path: Path, ffmpeg: str
) -> None:
    source = tmp_path / "zeroed.mp4"
    make(source, ffmpeg=ffmpeg, rate=Fraction(24), seconds=20, size=(640, 360), noise=6, video=X264)
    data = bytearray(source.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 30_000] = bytes(30_000)
    source.write_bytes(data)
    job = Submitted(services, source, [{"type": "hls", "rungs": [360, 240]}])
    assert job.plan.copied is not None
    with working(services):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert {r["mode"] for r in row.report["rungs"] if r["width"]} == {"encode"}
    warnings = [data["message"] for name, data in job.events() if name == "warning"]
    assert any("encoded instead" in warning for warning in warnings)
    assert row.time_to_first_play_s is not None
    collect(services, older_than_s=0)
    assert inspect_orphans(services) == []
    assert set(services.storage.keys("tasks/")) == set(services.storage.keys(f"{row.prefix}/"))


@pytest.fixture
def anywhere(database_url: str, tmp_path: Path, tools: Tools) -> Iterator[Services]:
    """Services over SQLite and over PostgreSQL."""
    found = open_services(Settings(data=tmp_path / "data", database=database_url), tools)
    yield found
    found.database.close()


def test_workers_share_a_job_over_any_database(
    short_film: Path, anywhere: Services, by_command: Command
) -> None:
    job = Submitted(anywhere, short_film, ENCODED)
    with collecting(anywhere), working(anywhere, "a", PATIENT), working(anywhere, "b", PATIENT):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert made_by(job) == by_command(short_film, ENCODED)
    collect(anywhere, older_than_s=0)
    assert only_what_is_kept(anywhere, job)


@contextmanager
def worker_command(settings: Settings, name: str) -> Iterator[None]:
    """`telecine worker` as one starts it on another machine: it is told the folder and the
    database, and nothing else."""
    words = ["--data", str(settings.data), "--database", settings.database, "--name", name]
    with subprocess.Popen([sys.executable, "-m", "telecine", "worker", *words]) as process:
        try:
            yield
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.thorough
def test_two_worker_commands_share_a_film_of_a_service_over_postgresql(
    long_film: Path, by_command: Command, postgres: sa.URL, tools: Tools, tmp_path: Path
) -> None:
    """Four processes and a server: the folder and the database are all that they share."""
    with fresh_database(postgres) as url:
        database = url.set(drivername="postgresql").render_as_string(hide_password=False)
        settings = Settings(data=tmp_path / "data", database=database)
        with (
            Running(settings.data, "--database", database) as running,
            worker_command(settings, "a"),
            worker_command(settings, "b"),
            Client(running.base_url) as ada,
        ):
            until(lambda: len(list((settings.data / "bells").glob("tasks-*"))) == 2)  # both listen
            ada.sign_up("ada@example.org", PASSWORD)
            ada.log_in("ada@example.org", PASSWORD)
            upload = ada.upload(long_film, outputs=ENCODED)
            assert upload.job_id is not None
            *_, last = [told for told in ada.watch(upload.job_id) if isinstance(told, JobEvent)]
            assert last.type == "succeeded", last
        assert not (settings.data / "telecine.db").exists()
        services = open_services(settings, tools)
        of_job = sa.select(tables.attempts.c.worker).where(
            tables.attempts.c.job_id == upload.job_id
        )
        assert {attempt.worker for attempt in rows(services, of_job)} == {"a", "b"}
        job = one(services, sa.select(tables.jobs).where(tables.jobs.c.id == upload.job_id))
        made = {
            key.removeprefix(f"{job.prefix}/"): digest_of(services, key)
            for key in services.storage.keys(f"{job.prefix}/")
        }
        services.database.close()
    del made["report.json"]
    assert made == by_command(long_film, ENCODED)


# --- advancing ------------------------------------------------------------------------------------


class Timeline:
    """Stands in for `queue.advance`: keeps each batch with the time at which it came."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fenced: bool = False) -> None:
        self.batches: list[tuple[float, list[tuple[str, int]]]] = []
        self._fenced = fenced
        monkeypatch.setattr(queue, "advance", self._advance)

    def _advance(self, tx: object, held: object, new: list[queue.NewSegment]) -> bool:
        self.batches.append((time.monotonic(), [(one.rendition, one.number) for one in new]))
        return not self._fenced


def claimed(services: Services, scratch: Path, *, kind: str = "noop") -> Work:
    """A task of a kind, claimed."""
    submit_noops(services, 1, kind)
    with services.database.write() as tx:
        held = queue.claim(tx, "w")
    assert held is not None
    return Work(services, held, scratch, scratch, Cancel(), Meter())


def advancing(services: Services, scratch: Path, step_id: str) -> tuple[Advancer, Path]:
    """An advancer for a step of a copied film, and where its segments are written."""
    plan = make_plan(COMPLIANT, make_profile())
    assert plan.copied is not None
    task = claimed(services, scratch)
    home = scratch / plan.folder_of(plan.copied.name)
    home.mkdir(parents=True)
    (home / "init.mp4").write_bytes(b"init")
    return Advancer(task, plan, plan.step(step_id)), home


def write_segment(home: Path, number: int) -> Segment:
    path = home / segment_name(number)
    path.write_bytes(b"segment")
    return Segment(number, number, 1, 7, 1, ())


def test_the_first_segments_of_an_opening_step_are_advanced_at_once(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = Timeline(monkeypatch)
    advancer, home = advancing(services, tmp_path / "scratch", "video-copy")
    name = home.name
    with advancer:
        for number in range(6):
            advancer.add(name, write_segment(home, number))
        added = time.monotonic()
    batches = [batch for _, batch in timeline.batches]
    assert batches[:3] == [[(name, -1), (name, 0)], [(name, 1)], [(name, 2)]]
    assert [one for batch in batches[3:] for one in batch] == [(name, n) for n in (3, 4, 5)]
    assert time.monotonic() - added < 10


def test_segments_that_keep_coming_are_advanced_meanwhile(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = Timeline(monkeypatch)
    advancer, home = advancing(services, tmp_path / "scratch", "encode-0000")
    with advancer:
        began = time.monotonic()
        for number in range(100):
            advancer.add(home.name, write_segment(home, number))
            time.sleep(0.02)
        last = time.monotonic()
    meanwhile = [batch for at, batch in timeline.batches if at < last]
    assert len(meanwhile) >= 3
    # In batches, not one by one.
    assert len(timeline.batches) <= (last - began) / task_module.ADVANCE_EVERY_S + 3
    told = [number for _, batch in timeline.batches for _, number in batch]
    assert told == list(range(-1, 100))


def test_a_step_goes_on_while_the_database_is_away_for_a_moment(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "DATABASE_PAUSE_S", 0.01)
    advancer, home = advancing(services, tmp_path / "scratch", "video-copy")
    real, times = work.first_play_known, 0

    def away(tx: Tx, job_id: str) -> bool:
        nonlocal times
        times += 1
        if times <= 3:
            raise sa.exc.OperationalError("SELECT 1", {}, Exception("the server restarts"))
        return real(tx, job_id)

    monkeypatch.setattr(work, "first_play_known", away)
    with advancer:
        advancer.add(home.name, write_segment(home, 0))
    assert not advancer.cancel.is_set()
    assert times == 4
    told = rows(services, sa.select(tables.segments.c.number).order_by(tables.segments.c.number))
    assert [row.number for row in told] == [-1, 0]


def test_a_first_play_that_is_known_is_not_asked_for_again(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Timeline(monkeypatch)
    asked = []

    def known(_: Tx, job_id: str) -> bool:
        asked.append(job_id)
        return True

    monkeypatch.setattr(work, "first_play_known", known)
    advancer, home = advancing(services, tmp_path / "scratch", "video-copy")
    with advancer:
        for number in range(3):  # of an opening step: three batches
            advancer.add(home.name, write_segment(home, number))
    assert len(asked) == 1


def test_a_step_ends_when_its_task_is_fenced(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Timeline(monkeypatch, fenced=True)
    advancer, home = advancing(services, tmp_path / "scratch", "video-copy")

    def step() -> None:
        with advancer:
            advancer.add(home.name, write_segment(home, 0))
            assert advancer.cancel.wait(10)
            raise Interrupted  # as the engine does then

    with pytest.raises(Fenced):
        step()


# --- what is left ---------------------------------------------------------------------------------


def encoding(job: Submitted, *, moved_s: float = 1.0) -> Any:
    """Wait for a later chunk that is being encoded; its task."""

    def look() -> Any:
        for task in job.tasks():
            going = task.state == "running" and (task.progress or {}).get("done_s", 0) >= moved_s
            if going and task.step_id and task.step_id.startswith("encode-000"):
                return task
        return None

    return until(look)


def only_what_is_kept(services: Services, *jobs: Submitted) -> bool:
    """Whether the storage holds these jobs' outputs and all sources, and nothing else."""
    kept = {key for key in services.storage.keys("") if not key.startswith("sources/")}
    wanted = {f"{job.row().prefix}/{path}" for job in jobs for path in job.tree()}
    return kept == wanted


def end_leases(services: Services) -> None:
    """As time does; a lease runs out by itself where a worker is stopped past it, below."""
    with services.database.write() as tx:
        held = sa.update(tables.tasks).where(tables.tasks.c.state == "running")
        tx.connection.execute(held.values(lease_until=tx.now - 1))


def test_a_killed_worker_costs_one_chunk(
    long_film: Path, services: Services, by_command: Command
) -> None:
    job = Submitted(services, long_film, ENCODED)
    with (
        collecting(services),
        worker_process(services, "doomed", PATIENT) as doomed,
    ):
        encoding(job)
        doomed.kill()
        doomed.wait()
        end_leases(services)
        with worker_process(services, "heir", PATIENT):
            row = finished(job)
    assert row.state == "succeeded", row.error
    attempts = rows(services, sa.select(tables.attempts).where(tables.attempts.c.job_id == job.id))
    assert [a.worker for a in attempts if a.outcome == "lost"] == ["doomed"]
    assert len(attempts) == len(job.tasks()) + 1
    assert made_by(job) == by_command(long_film, ENCODED)
    collect(services, older_than_s=0)
    assert only_what_is_kept(services, job)
    assert list((services.settings.data / "scratch").iterdir()) == []


def test_a_cancelled_job_kills_its_children_within_5_s_and_leaves_no_file(
    long_film: Path, services: Services
) -> None:
    job = Submitted(services, long_film, ENCODED)
    with worker_process(services, "w", PATIENT) as process:
        encoding(job)
        until(lambda: len(process_tree(process.pid)) > 1)  # not just between two steps
        with services.database.write() as tx:
            queue.request_cancel(tx, job.id)
        until(lambda: len(process_tree(process.pid)) == 1, timeout_s=5)
        until(lambda: job.row().state == "cancelled", timeout_s=5)
    collect(services, older_than_s=0)
    assert [key for key in services.storage.keys("") if not key.startswith("sources/")] == []
    assert list((services.settings.data / "scratch").iterdir()) == []
    assert job.asset().state == "uploaded"


def stop_between_writes(worker: subprocess.Popen[bytes], services: Services) -> None:
    """Stop it, though never as SQLite's one writer: then nobody could take its task from it."""
    database = services.settings.data / "telecine.db"
    while True:
        worker.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.send_signal(signal.SIGCONT)
            else:
                return


@pytest.mark.thorough
def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_that_readers_follow(
    long_film: Path, services: Services, by_command: Command
) -> None:
    job = Submitted(services, long_film, ENCODED)
    with worker_process(services, "paused", SHORT) as paused:
        task = encoding(job)
        stop_between_writes(paused, services)
        before = {(s.rendition, s.number, s.storage_key) for s in job.segments()}
        time.sleep(SHORT.lease_s + 0.5)
        assert sweep(services) >= 1
        paused.send_signal(signal.SIGTERM)  # heard on waking: it claims nothing more
        paused.send_signal(signal.SIGCONT)
        assert paused.wait(30) == 0
    assert {(s.rendition, s.number, s.storage_key) for s in job.segments()} == before
    (after,) = [t for t in job.tasks() if t.id == task.id]
    assert (after.state, after.epoch, after.crashes, after.errors) == ("ready", task.epoch, 1, 0)
    with working(services, clocks=PATIENT):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert made_by(job) == by_command(long_film, ENCODED)
    collect(services, older_than_s=0)
    assert only_what_is_kept(services, job)


def test_a_worker_lets_go_of_a_job_whose_asset_was_deleted(
    long_film: Path, services: Services
) -> None:
    job = Submitted(services, long_film, STREAM)
    with worker_process(services, "w", PATIENT) as process:
        encoding(job)
        owner = Principal(job.asset().user_id, "user", frozenset())
        assets.delete(services, owner, job.asset_id)
        until(lambda: len(process_tree(process.pid)) == 1, timeout_s=10)
        collect(services, older_than_s=0)
        assert list(services.storage.keys("")) == []
        noops = submit_noops(services, 1)  # it is still there for others
        of_job = sa.select(tables.jobs.c.state).where(tables.jobs.c.id == noops)
        until(lambda: one(services, of_job).state == "succeeded")
    assert inspect_orphans(services) == []


# --- stopping -------------------------------------------------------------------------------------


def with_grace(services: Services, grace_s: int) -> Services:
    return replace(services, settings=services.settings.model_copy(update={"grace_s": grace_s}))


def test_a_stopped_worker_gives_its_task_back_when_the_grace_is_over(
    long_film: Path, services: Services
) -> None:
    job = Submitted(services, long_film, STREAM)
    with working(with_grace(services, 0), clocks=PATIENT) as stop:
        task = encoding(job)
        stop.set()
    (after,) = [t for t in job.tasks() if t.id == task.id]
    assert (after.state, after.crashes, after.errors) == ("ready", 0, 0)
    of_task = sa.select(tables.attempts).where(tables.attempts.c.task_id == task.id)
    assert one(services, of_task).outcome == "released"


def test_a_stopped_worker_ends_what_it_is_at_and_claims_no_more(
    short_film: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Submitted(services, short_film, STREAM)
    stop = threading.Event()
    real = task_module.perform

    def perform(task: Work) -> Done:
        stop.set()
        return real(task)

    monkeypatch.setattr(worker_module, "perform", perform)
    patient = with_grace(services, 60)
    assert run_worker(patient, "w", once=False, stop=stop, clocks=PATIENT) == 1
    states = [task.state for task in job.tasks()]
    assert states.count("succeeded") == 1
    assert "running" not in states


# --- errors ---------------------------------------------------------------------------------------


def test_a_source_that_does_not_decode_fails_the_job_with_the_engines_code(
    short_film: Path, services: Services
) -> None:
    job = Submitted(services, short_film, STREAM)
    kept = services.storage.local_path(job.asset().source_key)
    assert kept is not None
    kept.chmod(0o644)
    data = bytearray(kept.read_bytes())
    kept.unlink()  # the film itself is another link to these bytes
    kept.write_bytes(bytes(len(data)))
    with working(services):
        row = finished(job)
    assert row.state == "failed"
    assert row.error["code"] == "encode_failed"
    assert job.asset().state == "failed"
    assert [task.errors for task in job.tasks()].count(1) == 1


def raises(error: Exception) -> Callable[[Work], Done]:
    def perform(_: Work) -> Done:
        raise error

    return perform


def test_what_the_disk_refused_is_tried_again_later(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit_noops(services, 1)
    monkeypatch.setattr(worker_module, "perform", raises(OSError(28, "No space left")))
    run_worker(services, "w", once=True, stop=threading.Event())
    task = one(services, sa.select(tables.tasks).where(tables.tasks.c.job_id == job_id))
    assert (task.state, task.errors, task.error["code"]) == ("ready", 1, "disk_error")
    assert task.not_before > task.started_at


@pytest.mark.parametrize(
    ("outcome", "lost", "end"),
    [
        (Done({}), False, "commit"),
        (Done({}), True, "drop"),
        (Fenced(), False, "drop"),
        (Interrupted(), False, "release"),
        (Interrupted(), True, "drop"),
        (AnotherFFmpeg(), False, "begin again"),
        (StepFailed("no", code="encode_failed"), False, "fail"),
        (StepFailed("no", code="copy_failed"), False, "replan"),
        (StepFailed("no", code="copy_failed", retryable=True), False, "fail"),
        (VerifyFailed("no", broken=("decode-times",)), False, "replan"),
        (VerifyFailed("no", broken=("decode-times",)), True, "drop"),
        (InputRefused("no", code="digest_mismatch"), False, "fail"),
        (OSError(5, "I/O error"), False, "fail"),
        (Unavailable("no", code="storage_full"), False, "fail"),
        (RuntimeError("a bug"), False, "fail"),
    ],
)
def test_how_a_claim_ends(outcome: Done | BaseException, lost: bool, end: str) -> None:
    assert ending(outcome, lost=lost) == end


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (InputRefused("no", code="too_small"), "too_small", False),
        (StepFailed("no", code="stalled", retryable=True), "stalled", True),
        (OSError(28, "full"), "disk_error", True),
        (Unavailable("no", code="storage_full"), "storage_full", True),
        (KeyError("x"), "internal", True),
    ],
)
def test_what_is_told_of_a_failure(error: BaseException, code: str, retryable: bool) -> None:
    said = failure(error)
    assert (said["code"], said["retryable"]) == (code, retryable)


def test_a_database_that_fails_is_told_without_its_statements() -> None:
    said = failure(sa.exc.IntegrityError("INSERT INTO users", {}, Exception("secret")))
    assert said["code"] == "internal"
    assert "users" not in str(said)
    assert "secret" not in str(said)


def test_a_task_of_a_newer_version_is_left_to_a_newer_worker(services: Services) -> None:
    job_id = submit_noops(services, 1, "thumbnails")
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 1
    task = one(services, sa.select(tables.tasks).where(tables.tasks.c.job_id == job_id))
    assert (task.state, task.error["code"]) == ("ready", "task_unknown")
    assert "thumbnails" in task.error["message"]


def test_a_commit_is_kept_whose_first_play_cannot_be_told(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is done: it must not be told as lost."""
    task = claimed(services, tmp_path)
    done = Done({}, plan=make_plan(COMPLIANT, make_profile()))

    def away(*_: object) -> bool:
        raise Unavailable("gone", code="database_unavailable")

    monkeypatch.setattr(work, "first_play_known", away)
    monkeypatch.setattr(task_module, "PATIENCE_S", 0.0)
    assert settle(task, "commit", done) is True


def test_a_film_that_cannot_be_encoded_instead_fails_with_the_reason(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit_noops(services, 1)

    def damaged(_: Work) -> Done:
        raise StepFailed("the copy is damaged", code="copy_failed")

    def no_plan(*_: object) -> None:
        raise InputRefused("too small for any rung", code="too_small")

    monkeypatch.setattr(worker_module, "perform", damaged)
    monkeypatch.setattr(worker_module, "instead_of_copying", no_plan)
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 1
    job = one(services, sa.select(tables.jobs).where(tables.jobs.c.id == job_id))
    assert (job.state, job.error["code"]) == ("failed", "too_small")


def with_ffmpeg(services: Services, version: str) -> Services:
    tools = replace(services.tools, version=version)
    return replace(services, tools=tools)


@pytest.mark.thorough
def test_a_job_is_made_with_one_ffmpeg(short_film: Path, services: Services) -> None:
    """Another one begins it again, once those with the first have been away; not before."""
    job = Submitted(services, short_film, STREAM)
    newer = with_ffmpeg(services, "10.0-static")
    none, stopped = threading.Event(), threading.Event()
    stopped.set()  # who leaves a task to others waits a while, unless it is told to stop
    assert run_worker(services, "old", once=True, stop=none) == 1
    assert job.row().made_with == services.tools.version
    first = [task.id for task in job.tasks()]
    assert job.segments()

    with services.database.write() as tx:
        held = queue.claim(tx, "new")
    assert held is not None
    attend(newer, held, stop=stopped, clocks=SHORT)
    assert [task.id for task in job.tasks()] == first
    assert {task.state for task in job.tasks()} == {"succeeded", "ready", "blocked"}

    with services.database.write() as tx:  # ten seconds go by
        ended = tables.attempts.c.ended_at
        tx.connection.execute(sa.update(tables.attempts).values(ended_at=ended - 10))
    with services.database.write() as tx:
        held = queue.claim(tx, "new")
    assert held is not None
    attend(newer, held, stop=stopped, clocks=SHORT)
    assert not {task.id for task in job.tasks()} & set(first)
    assert job.segments() == []
    said = [data["message"] for kind, data in job.events() if kind == "warning"]
    assert said == [f"begun again with FFmpeg 10.0-static, after {services.tools.version}"]
    with working(newer):
        until(lambda: job.row().state == "succeeded")
    assert job.row().made_with == "10.0-static"
    made_with = {task.result["made_with"] for task in job.tasks() if task.kind == "step"}
    assert made_with == {"10.0-static"}


@pytest.mark.thorough
def test_a_retry_with_another_ffmpeg_begins_again(
    short_film: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What succeeded with the first one is kept by a retry, and may not be joined."""
    job = Submitted(services, short_film, STREAM)
    assert run_worker(services, "old", once=True, stop=threading.Event()) == 1
    with services.database.write() as tx:
        held = queue.claim(tx, "old")
        assert held is not None
        queue.fail(tx, held, code="disk_full", message="no", retryable=False)
        assert queue.retry(tx, job.id, only_failed=True)
    monkeypatch.setattr(queue, "AWAY_S", 0.0)
    with working(with_ffmpeg(services, "10.0-static")):
        until(lambda: job.row().state == "succeeded")
    made_with = {task.result["made_with"] for task in job.tasks() if task.kind == "step"}
    assert made_with == {"10.0-static"}


def test_no_step_is_begun_on_a_disk_that_is_too_full(
    short_film: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Submitted(services, short_film, STREAM)
    free = 2 * short_film.stat().st_size - 1
    monkeypatch.setattr(
        worker_module,
        "shutil",
        SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=free), rmtree=shutil.rmtree),
    )
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 0
    assert [task.epoch for task in job.tasks()] == [0] * len(job.tasks())
    assert job.row().state == "queued"
    free += 1
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 1


def test_a_source_without_room_stops_nobody_else(
    short_film: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge upload waits, queued or begun; every other job goes on, as does what is no step."""
    huge = add_asset(services, short_film)
    waiting = [Submitted(services, short_film, STREAM, asset_id=huge) for _ in range(2)]
    with services.database.write() as tx:
        begun = queue.claim(tx, "w")  # the first is begun while there is room
        assert begun is not None
        assert begun.job_id == waiting[0].id
        assert queue.release(tx, begun)
        tx.connection.execute(
            sa.update(tables.assets)
            .where(tables.assets.c.id == huge)
            .values(source_size_bytes=10**9)
        )
    other = Submitted(services, short_film, [{"type": "poster"}])
    usage = SimpleNamespace(free=2 * 10**9 - 1)
    monkeypatch.setattr(
        worker_module,
        "shutil",
        SimpleNamespace(disk_usage=lambda _: usage, rmtree=shutil.rmtree),
    )
    while run_worker(services, "w", once=True, stop=threading.Event()):
        pass
    assert other.row().state == "succeeded"
    done = {(task.kind, task.state) for task in waiting[0].tasks()}
    assert ("digest", "succeeded") in done, "what is no step needs no room"
    assert ("step", "succeeded") not in done
    assert waiting[1].row().state == "queued", "it takes nobody's place meanwhile"
    usage.free += 1
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 1
    assert begun.step_id is not None
    (step,) = [task for task in waiting[0].tasks() if task.step_id == begun.step_id]
    assert step.state == "succeeded"


# --- leases ---------------------------------------------------------------------------------------


def until_cancelled(task: Work) -> Done:
    """A task that goes on and on."""
    while not task.cancel.wait(0.05):
        task.meter.move()
    raise Interrupted


def test_a_worker_fences_itself_when_the_database_is_silent(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit_noops(services, 1)
    with services.database.write() as tx:
        held = queue.claim(tx, "w")
    assert held is not None
    monkeypatch.setattr(worker_module, "perform", until_cancelled)

    def away() -> Any:
        raise Unavailable("gone", code="database_unavailable")

    silent = replace(services, database=SimpleNamespace(read=away, write=away))  # type: ignore[arg-type]
    began = time.monotonic()
    attend(silent, held, stop=threading.Event(), clocks=replace(SHORT, fence_s=1.0))
    assert 1.0 <= time.monotonic() - began < 10
    task = one(services, sa.select(tables.tasks).where(tables.tasks.c.job_id == job_id))
    assert (task.state, task.epoch) == ("running", 1)  # nothing was told: the sweeper will see


@pytest.mark.parametrize("lease_s", [3, 30, 3600])
def test_the_clocks_of_any_lease_fit_into_it(lease_s: int) -> None:
    """Several heartbeats before it ends, and an end by oneself before another begins."""
    clocks = clocks_of(lease_s)
    assert clocks.lease_s == lease_s
    assert clocks.look_s <= clocks.heartbeat_s <= lease_s / 5
    assert clocks.fence_s + clocks.look_s + WATCH_S < lease_s
    assert clocks_of(30) == Clocks()


@pytest.mark.parametrize("moves", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_a_lease_is_kept_as_long_as_something_moves(
    moves: bool, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_noops(services, 1)
    clocks = replace(SHORT, lease_s=3.0, heartbeat_s=0.2, look_s=0.1, quiet_s=1.0)
    with services.database.write() as tx:
        held = queue.claim(tx, "w", lease_s=clocks.lease_s)
    assert held is not None
    sweep(services)  # a doorbell that is swept counts too
    meter, cancel = Meter(), Cancel()
    keeper = Keeper(services, held, meter, cancel, clocks)
    keeper.start()
    for _ in range(60):  # longer than it is kept without: quiet_s, and the lease
        time.sleep(0.1)
        if moves:
            meter.move()
    assert sweep(services) == (0 if moves else 1)
    if not moves:
        assert cancel.wait(10)
    assert keeper.lost is not moves
    keeper.stop()


class Unsteady:
    """A database that is away for the first so many transactions that write."""

    def __init__(self, services: Services, failures: int) -> None:
        self._real = services.database
        self._left = failures

    @contextmanager
    def write(self) -> Iterator[Tx]:
        self._left -= 1
        if self._left >= 0:
            raise Unavailable("gone", code="database_unavailable")
        with self._real.write() as tx:
            yield tx


def unsteady(services: Services, failures: int) -> Services:
    return replace(services, database=Unsteady(services, failures))  # type: ignore[arg-type]


def test_what_must_be_written_waits_for_a_database_that_is_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "DATABASE_PAUSE_S", 0.05)
    assert persist(unsteady(services, 3), Cancel(), lambda tx: tx.now_s()) > 0
    cancelled = Cancel()
    cancelled.set()
    with pytest.raises(Interrupted):
        persist(unsteady(services, 1_000_000), cancelled, lambda tx: tx.now_s())
    monkeypatch.setattr(task_module, "PATIENCE_S", 0.2)
    with pytest.raises(Unavailable):
        persist(unsteady(services, 1_000_000), Cancel(), lambda tx: tx.now_s())


def test_a_commit_whose_answer_was_lost_is_kept(services: Services) -> None:
    submit_noops(services, 2)
    with services.database.write() as tx:
        held = queue.claim(tx, "w")
    assert held is not None
    for _ in range(2):
        with services.database.write() as tx:
            assert worker_module._commit(tx, held, Done({}))
    counted = sa.select(tables.jobs.c.pending_tasks).where(tables.jobs.c.id == held.job_id)
    assert one(services, counted).pending_tasks == 1


def test_progress_is_written_while_a_step_runs(long_film: Path, services: Services) -> None:
    job = Submitted(services, long_film, STREAM)
    with working(with_grace(services, 0), clocks=PATIENT):
        task = encoding(job, moved_s=2.0)
    assert 0 < task.progress["fraction"] < 1
    assert task.progress["speed"] > 0


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [True, False])
def test_a_digest_that_was_announced_is_checked(
    right: bool, short_film: Path, services: Services
) -> None:
    asset_id = add_asset(services, short_film)
    digest = hashlib.sha256(short_film.read_bytes()).hexdigest()
    announce(services, asset_id, digest if right else "0" * 64)
    outputs = [{"type": "poster"}]
    job = Submitted(services, short_film, outputs, asset_id=asset_id, digest="first")
    with working(services):
        row = finished(job)
    if right:
        assert row.state == "succeeded", row.error
        assert job.asset().source_sha256 == digest
    else:
        assert (row.state, row.error["code"]) == ("failed", "digest_mismatch")
        assert (job.asset().state, job.asset().source_sha256) == ("failed", None)


def test_a_source_is_deleted_when_its_job_is_done_and_not_before(
    short_film: Path, services: Services
) -> None:
    outputs = [{"type": "poster"}]
    job = Submitted(services, short_film, outputs, source_policy="delete_when_done")
    key = job.asset().source_key
    other = Submitted(
        services, short_film, STREAM, asset_id=job.asset_id, digest="known", priority=-1
    )
    with working(services):
        assert finished(job).state == "succeeded"
        collect(services, older_than_s=0)
        assert job.asset().source_key == key or other.row().state == "succeeded"
        assert finished(other).state == "succeeded"
    assert job.asset().source_key is None
    collect(services, older_than_s=0)
    assert list(services.storage.keys("sources/")) == []
    assert inspect_orphans(services) == []


class Elsewhere:
    """A store that has no files of this machine: objects are fetched."""

    def __init__(self, services: Services) -> None:
        self._real = services.storage

    def local_path(self, key: str) -> Path | None:
        self._real.stat(key)
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_source_that_lies_elsewhere_is_fetched(short_film: Path, services: Services) -> None:
    far = replace(services, storage=Elsewhere(services))
    job = Submitted(services, short_film, [{"type": "poster"}], digest="known")
    with working(far):
        row = finished(job)
    assert row.state == "succeeded", row.error
    assert set(job.tree()) == {"poster.jpg", "report.json"}


# --- first play, decided --------------------------------------------------------------------------


def test_when_a_growing_film_can_be_played() -> None:
    encoded = make_plan(lasting(54), make_profile(top="encode"))
    heads = [r.name for r in encoded.listed if r.head]
    begun = dict.fromkeys(heads, 1)
    assert not playable(encoded, {}, set())
    assert not playable(encoded, begun, set())  # no sound yet
    assert playable(encoded, begun | {"aac": 1}, set())
    assert not playable(encoded, {heads[0]: 1, "aac": 1}, set())

    copied = make_plan(COMPLIANT, make_profile())
    assert copied.copied is not None
    name = copied.copied.name
    assert not playable(copied, {name: 2, "aac": 3}, set())
    assert playable(copied, {name: 3, "aac": 3}, set())
    # A film of less than three segments is there as a whole.
    assert not playable(copied, {name: 2, "aac": 2}, {"video-copy"})
    assert playable(copied, {name: 2, "aac": 2}, {"video-copy", "audio"})

    files = make_plan(COMPLIANT, make_profile((parse_output("mp3"),)))
    assert not playable(files, {}, {"audio"})


# --- the loop -------------------------------------------------------------------------------------


def test_once_runs_one_task_and_none_where_there_is_none(services: Services) -> None:
    stop = threading.Event()
    assert run_worker(services, "w", once=True, stop=stop) == 0
    job_id = submit_noops(services, 2)
    assert run_worker(services, "w", once=True, stop=stop) == 1
    assert run_worker(services, "w", once=True, stop=stop) == 1
    assert one(services, sa.select(tables.jobs).where(tables.jobs.c.id == job_id)).state == (
        "succeeded"
    )


def test_a_worker_is_woken_by_the_bell(services: Services) -> None:
    with working(services, clocks=replace(SHORT, poll_s=60.0)) as stop:
        time.sleep(0.5)  # it found nothing and listens
        job_id = submit_noops(services, 1)
        services.bell.ring("tasks")
        of_job = sa.select(tables.jobs).where(tables.jobs.c.id == job_id)
        until(lambda: one(services, of_job).state == "succeeded", timeout_s=20)
        stop.set()
        services.bell.ring("tasks")


def test_a_worker_finds_work_that_nobody_rang_for(services: Services) -> None:
    with working(services):
        until(lambda: list((services.settings.data / "bells").glob("tasks-*")))  # it listens
        job_id = submit_noops(services, 1)  # rings nothing
        of_job = sa.select(tables.jobs).where(tables.jobs.c.id == job_id)
        until(lambda: one(services, of_job).state == "succeeded", timeout_s=20)


def test_a_worker_waits_for_a_database_that_is_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = queue.claim
    failures = iter([Unavailable("gone", code="database_unavailable")] * 3)

    def claim(*given: Any, **more: Any) -> Any:
        for error in failures:
            raise error
        return real(*given, **more)

    monkeypatch.setattr(queue, "claim", claim)
    job_id = submit_noops(services, 1)
    with working(services):
        of_job = sa.select(tables.jobs).where(tables.jobs.c.id == job_id)
        until(lambda: one(services, of_job).state == "succeeded", timeout_s=20)
