"""`make bench-service`: the service beside the bare engine, its first picture in a browser, and its
answers under load.

    python -m bench.service [--runs 3] [--only overhead --only first-play …] [--gigabytes 4]

Prints a table with medians and spreads, each beside its aim, as they stand in
docs/explain/performance.md. The exit code is 1 where a median misses its aim, 2 where something
that is needed is not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import sqlalchemy as sa
from playwright.sync_api import Browser
from tests.e2e.browser import Viewer, chromium
from tests.processes import tree
from tests.service.running import Running
from tests.service.uploading import multipart, song
from tests.service.working import rows, submit_noops

from bench import corpus
from bench.figures import ROW_HEAD, Row, markdown_row
from bench.measure import Request, end_on_sigterm, measure
from telecine.client import Client
from telecine.client.answers import FINAL_STATES
from telecine.engine.tools import Tools, find_tools
from telecine.service.assembly import open_services
from telecine.service.db.queue import NewJob, NewTask, submit
from telecine.service.db.tables import jobs, tasks, users
from telecine.service.domain import new_id
from telecine.service.services import Services
from telecine.service.settings import Settings

EMAIL, PASSWORD = "bench@example.org", "a long word that nobody guesses 7"
MB = 1_000_000
WORKERS = 2
NOOPS = 1000
# How often the clip of 30 s is looped.
FILMS = {"10 minutes": 20, "100 minutes": 200}
FINISHED, QUEUED = 100_000, 10_000
ASKED = 300
P99_MS = {"status": 50, "list": 50, "submit": 100}
ENCODES = 8
BATCHES, BUSY_WITHIN_S = 5, 120
FIRST = 10  # the encodes' priority, so that the workers stay with them
HLS = [{"type": "hls"}]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Here:
    """A running service, a user of it, and what lies behind it."""

    running: Running
    client: Client
    key: str
    services: Services

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def serving(
    folder: Path,
    tools: Tools,
    workers: int = WORKERS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Here]:
    folder.mkdir(exist_ok=True)
    usual = {"TELECINE_MAX_UPLOAD_BYTES": str(10**11), "TELECINE_LOG_LEVEL": "warning"}
    settings = {**usual, **(environment or {})}
    with Running(folder / "data", workers=workers, environment=settings) as running:
        with Client(running.base_url) as anyone:
            anyone.sign_up(EMAIL, PASSWORD)
            anyone.log_in(EMAIL, PASSWORD)
            key = anyone.create_api_key("bench").secret
        services = open_services(Settings(data=folder / "data"), tools)
        with Client(running.base_url, api_key=key) as client:
            yield Here(running, client, key, services)
        services.database.close()


# --- a job beside the bare engine -----------------------------------------------------------------


def measure_overhead(folder: Path, tools: Tools, runs: int) -> list[Row]:
    """The same film, the same plan, as many children at once; in turns. The job counts from the
    start of its upload, which probes as the command does, to its end, the digest among it."""
    film = corpus.film("bbb")
    bare_wall, bare_cpu, wall, cpu = [], [], [], []
    with serving(folder, tools) as here:
        for run in range(runs):
            out = folder / f"bare{run}"
            words = [sys.executable, "-m", "telecine", "transcode", str(film), "-o", str(out)]
            bare = measure(Request([words], {}, str(out / "master.m3u8"), str(folder / "bare.log")))
            bare_wall.append(bare.wall_s)
            bare_cpu.append(bare.cpu_s)
            before_s, began_s = cpu_of_tree(here.running.pid), time.monotonic()
            ended = wait_for_job(here, str(here.client.upload(film, outputs=HLS).job_id))
            wall.append(time.monotonic() - began_s)
            cpu.append(cpu_of_tree(here.running.pid) - before_s)
            if ended != "succeeded":
                raise RuntimeError(f"the job {ended}")
    return [
        Row("bare engine (its command, start included), wall", "s", bare_wall),
        Row("upload and job, wall", "s", wall),
        Row("job beyond the engine, wall", "%", beyond(wall, bare_wall), at_most=5),
        Row("bare engine (its command, start included), CPU", "s", bare_cpu),
        Row("upload and job, CPU", "s", cpu),
        Row("job beyond the engine, CPU", "%", beyond(cpu, bare_cpu), at_most=5),
    ]


def wait_for_job(here: Here, job_id: str) -> str:
    """The state that a job ends in, read from the database: asking the API twenty times a second
    would be work of the service that no job makes."""
    state = sa.select(jobs.c.state).where(jobs.c.id == job_id)
    while (found := str(rows(here.services, state)[0].state)) not in FINAL_STATES:
        time.sleep(0.05)
    return found


def beyond(ours: Sequence[float], bare: Sequence[float]) -> list[float]:
    """By how much each run took more than the bare one of its turn, in percent."""
    return [100 * (our / other - 1) for our, other in zip(ours, bare, strict=True)]


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process, its descendants and those that they have waited for."""
    total = 0.0
    for one in tree(pid):
        try:
            words = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended, and its parent has its time
        total += sum(map(int, words[11:15])) * _TICK_S
    return total


# --- the queue ------------------------------------------------------------------------------------


def measure_queue(folder: Path, tools: Tools, runs: int) -> list[Row]:
    """Tasks that do nothing, claimed and committed by workers as any other."""
    rates, costs_ms = [], []
    with serving(folder, tools) as here:
        for _ in range(runs):
            before_s = cpu_of_tree(here.running.pid)
            job_id = submit_noops(here.services, NOOPS)
            here.services.bell.ring("tasks")
            wait_for_job(here, job_id)
            costs_ms.append((cpu_of_tree(here.running.pid) - before_s) * 1000 / NOOPS)
            times = sa.select(tasks.c.finished_at).where(tasks.c.job_id == job_id)
            ended = sorted(row.finished_at for row in rows(here.services, times))
            rates.append((len(ended) - 1) / (ended[-1] - ended[0]))
    return [
        Row(f"no-op tasks a second, {WORKERS} workers", "", rates, at_least=100),
        Row("CPU of a no-op task, of all processes", "ms", costs_ms),
    ]


# --- answers under load ---------------------------------------------------------------------------


def measure_answers(folder: Path, tools: Tools, runs: int) -> list[Row]:
    """With a full database, and both workers encoding all the time."""
    film = corpus.film("bbb")
    halves: dict[str, list[float]] = {kind: [] for kind in P99_MS}
    tails: dict[str, list[float]] = {kind: [] for kind in P99_MS}
    with serving(folder, tools) as here:
        asset_id = str(here.client.upload(film).asset_id)
        full = fill(here, asset_id)
        with httpx2.Client(base_url=here.running.base_url, headers=here.headers) as client:
            body = {"asset_id": asset_id, "outputs": [{"type": "mp3"}]}
            asks: dict[str, Callable[[int], httpx2.Response]] = {
                "status": lambda n: client.get(f"/v1/jobs/{full[n * 97 % len(full)]}"),
                "list": lambda _: client.get("/v1/jobs", params={"limit": 20}),
                "submit": lambda _: client.post("/v1/jobs", json=body),
            }
            for _ in range(runs):
                for kind, ask in asks.items():
                    taken = asked_under_load(here, asset_id, ask)
                    halves[kind].append(taken[len(taken) // 2])
                    tails[kind].append(taken[len(taken) * 99 // 100])
        here.running.stop(9)
    return [
        row
        for kind, bound_ms in P99_MS.items()
        for row in (
            Row(f"{kind}, p50", "ms", halves[kind]),
            Row(f"{kind}, p99", "ms", tails[kind], at_most=bound_ms),
        )
    ]


def asked_under_load(
    here: Here, asset_id: str, ask: Callable[[int], httpx2.Response]
) -> list[float]:
    """How long each of a batch took, in order of size. A batch at whose end a worker did not encode
    is none, and is asked for again."""
    for _ in range(BATCHES):
        keep_encoding(here, asset_id)
        taken = sorted(timed_ms(ask, n) for n in range(ASKED))
        if encoding(here) == WORKERS:
            return taken
    raise RuntimeError(f"in {BATCHES} batches the workers were not busy to the end")


def keep_encoding(here: Here, asset_id: str) -> None:
    """Have more encodes in the queue than a batch lasts, and wait until every worker is at one."""
    unfinished = sa.select(jobs.c.id).where(
        jobs.c.priority == FIRST, jobs.c.state.not_in(FINAL_STATES)
    )
    for _ in range(ENCODES - len(rows(here.services, unfinished))):
        outputs = [{"type": "hls", "top": "encode"}]
        here.client.submit(asset_id, outputs=outputs, priority=FIRST)
    until_s = time.monotonic() + BUSY_WITHIN_S
    while encoding(here) < WORKERS:
        if time.monotonic() > until_s:
            raise RuntimeError("the workers do not encode")
        time.sleep(0.2)


def encoding(here: Here) -> int:
    """How many workers are at a step of a job."""
    running = sa.select(tasks.c.id).where(tasks.c.state == "running", tasks.c.kind == "step")
    return len(rows(here.services, running))


def timed_ms(ask: Callable[[int], httpx2.Response], number: int) -> float:
    began_s = time.perf_counter()
    answer = ask(number)
    taken_ms = (time.perf_counter() - began_s) * 1000
    answer.raise_for_status()
    return taken_ms


def fill(here: Here, asset_id: str) -> list[str]:
    """Put finished jobs, and queued ones of one task, straight into the database; the ids of the
    finished."""
    task = NewTask("noop", None, False, 1.0, ())
    (user_id,) = rows(here.services, sa.select(users.c.id))[0]
    finished = [new_id() for _ in range(FINISHED)]
    with here.services.database.write() as tx:
        plain = {
            "user_id": user_id,
            "asset_id": asset_id,
            "state": "succeeded",
            "priority": 0,
            "outputs": HLS,
            "metadata": {},
            "source_policy": "keep",
            "plan_summary": {},
            "created_at": tx.now_s(),
            "started_at": tx.now_s(),
            "finished_at": tx.now_s(),
        }
        tx.connection.execute(sa.insert(jobs), [{"id": job_id, **plain} for job_id in finished])
    for _ in range(QUEUED // 500):
        with here.services.database.write() as tx:
            for _ in range(500):
                job = NewJob(
                    *(new_id(), user_id, asset_id, 0, None, HLS, {}, "keep", "{}", {}, (task,))
                )
                submit(tx, job)
    return finished


# --- the first picture ----------------------------------------------------------------------------


def measure_first_play(folder: Path, tools: Tools, runs: int) -> list[Row]:
    """From the last byte of an upload to the first frame in a browser that then plays on.

    As a user's program does it: the upload carries the preset; when it is complete, the asset's
    page is asked for, and opened in a blank one. Before that, nobody knows its address.
    """
    executable = shutil.which("chromium")
    assert executable is not None, "`main` looked for it"
    clip = corpus.film("bbb")
    found = []
    with chromium(executable) as browser, serving(folder, tools) as here:
        for name, loops in FILMS.items():
            film = folder / "film.mp4"
            loop(clip, film, tools.ffmpeg, loops)
            size = film.stat().st_size / 1000 / MB
            taken = [first_play_s(here, browser, film) for _ in range(runs)]
            what = f"upload complete to first picture, {name} ({size:.1f} GB)"
            found.append(Row(what, "s", taken, at_most=2))
            film.unlink()
    return found


def loop(clip: Path, film: Path, ffmpeg: Path, times: int) -> None:
    """The clip so many times over, its pictures as they are; its sound anew, so that it has no seam
    where one round of the clip ends inside a frame of AAC."""
    looped = [str(ffmpeg), "-v", "error", "-nostdin", "-y", "-stream_loop", str(times - 1)]
    streams = ["-i", str(clip), "-map", "0:v", "-map", "0:a", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([*looped, *streams, str(film)], check=True)


def first_play_s(here: Here, browser: Browser, film: Path) -> float:
    sent_at_s: list[float] = []

    def hear(done: int, size: int) -> None:
        if done == size:
            sent_at_s.append(time.time())

    os.sync()  # what earlier runs wrote is not to be written during this one
    with Viewer(browser) as viewer:
        upload = here.client.upload(film, preset="stream", on_sent=hear)
        asset_id, job_id = str(upload.asset_id), str(upload.job_id)
        viewer.visit(f"{here.client.playback(asset_id).embed_url}?autoplay")
        seen = viewer.wait(lambda report: report.time > 1, 30)
        if seen.first_frame_at_s is None or seen.time <= 1:
            raise RuntimeError(f"it does not play: {viewer.message()!r} {viewer.complaints}")
    here.client.cancel(job_id)
    wait_for_job(here, job_id)
    here.client.delete_asset(asset_id)
    return seen.first_frame_at_s - sent_at_s[0]


# --- memory ---------------------------------------------------------------------------------------


def measure_memory(folder: Path, tools: Tools, runs: int, gigabytes: float) -> list[Row]:
    """The largest resident memory of the API process while so much goes through each door."""
    size = int(gigabytes * 1000) * MB
    film = folder / "film.wav"
    sound = song(0.0, rate=48_000)  # a header, whose two sizes are then those of a long silence
    riff, data = (size - 8).to_bytes(4, "little"), (size - len(sound)).to_bytes(4, "little")
    film.write_bytes(sound[:4] + riff + sound[8:40] + data)
    os.truncate(film, size)
    peaks: dict[str, list[float]] = {name: [] for name in DOORS}
    for run in range(runs):
        with serving(folder / f"run{run}", tools, workers=0) as here:
            for name, send in DOORS.items():
                Path(f"/proc/{here.running.pid}/clear_refs").write_text("5")  # the peak begins anew
                send(here, film)
                status = Path(f"/proc/{here.running.pid}/status").read_text()
                peaks[name].append(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MB)
        shutil.rmtree(folder / f"run{run}")  # the next run needs the room
    return [
        Row(f"API process, {gigabytes:g} GB by {name}", "MB", figures, at_most=200)
        for name, figures in peaks.items()
    ]


def by_tus(here: Here, film: Path) -> None:
    here.client.upload(film)


def by_parts(here: Here, film: Path) -> None:
    upload = here.client.create_upload(film.name, film.stat().st_size)
    url = f"{here.running.base_url}/v1/uploads/{upload.id}"
    with httpx2.Client(timeout=600) as client, film.open("rb") as file:
        for number in range(1, (upload.part_count or 0) + 1):
            body = {"numbers": [number]}
            signed = client.post(f"{url}/parts", json=body, headers=here.headers).json()["data"][0]
            client.put(signed["url"], content=file.read(signed["size_bytes"])).raise_for_status()
        client.post(f"{url}/complete", headers=here.headers).raise_for_status()


def by_form(here: Here, film: Path) -> None:
    _send_form(f"{here.running.base_url}/v1/uploads/form", {}, film, here.headers)


def by_post(here: Here, film: Path) -> None:
    url = f"{here.running.base_url}/v1/uploads/presigned-post"
    signed = httpx2.post(url, json={"content_type": "audio/*"}, headers=here.headers).json()
    _send_form(signed["url"], signed["fields"], film, {})


def _send_form(url: str, fields: dict[str, str], film: Path, headers: dict[str, str]) -> None:
    before, _, after = multipart("XX", fields, film.name, b"|FILE|").partition(b"|FILE|")

    def body() -> Iterator[bytes]:
        yield before
        with film.open("rb") as file:
            while piece := file.read(1 << 16):
                yield piece
        yield after

    kind = {**headers, "Content-Type": "multipart/form-data; boundary=XX"}
    httpx2.post(url, content=body(), headers=kind, timeout=3600).raise_for_status()


DOORS = {"tus": by_tus, "parts": by_parts, "form": by_form, "presigned POST": by_post}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the service.")
    parser.add_argument("--runs", type=int, default=3)
    kinds = ("overhead", "first-play", "queue", "answers", "memory")
    parser.add_argument("--only", action="append", choices=kinds, help="default: all")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="through each door")
    asked = parser.parse_args(argv)
    end_on_sigterm()
    wanted = asked.only or kinds
    if lacking := list(missing(wanted)):
        print(f"bench-service: not there: {', '.join(lacking)}", file=sys.stderr)
        return 2
    tools = find_tools()
    measures: dict[str, Callable[[Path], list[Row]]] = {
        "overhead": lambda folder: measure_overhead(folder, tools, asked.runs),
        "first-play": lambda folder: measure_first_play(folder, tools, asked.runs),
        "queue": lambda folder: measure_queue(folder, tools, asked.runs),
        "answers": lambda folder: measure_answers(folder, tools, asked.runs),
        "memory": lambda folder: measure_memory(folder, tools, asked.runs, asked.gigabytes),
    }
    print(f"{asked.runs} runs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before\n")
    print(markdown_row(ROW_HEAD), markdown_row(["---"] * len(ROW_HEAD)), sep="\n", flush=True)
    missed = False
    for kind in wanted:
        with tempfile.TemporaryDirectory() as folder:
            for row in measures[kind](Path(folder)):
                print(markdown_row(row.cells()), flush=True)
                missed |= row.verdict == "not met"
    return 1 if missed else 0


def missing(wanted: Sequence[str]) -> Iterator[str]:
    """What these measures need and this machine does not have."""
    clip = corpus.film("bbb")
    if {"overhead", "first-play", "answers"} & set(wanted) and not clip.exists():
        yield str(clip)
    if "first-play" in wanted and shutil.which("chromium") is None:
        yield "chromium"


if __name__ == "__main__":
    sys.exit(main())
