"""`make bench-images`: pictures on the fly beside thumbor, a worker beside libvips alone; memory.

    python -m bench.images [--runs 5] [--only beside --only limit --only memory] [--requests 10000]

Prints a table with medians and spreads, each beside its aim, as they stand in
docs/explain/performance.md. The exit code is 1 where a median misses its aim, 2 where something
that is needed is not there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx2
from PIL import Image
from tests.processes import tree

from bench import OUT, thumbor
from bench.corpus import corpus
from bench.figures import (
    BESIDE_HEAD,
    ROW_HEAD,
    Beside,
    Cell,
    Row,
    Verdict,
    markdown_table,
    ratios,
)
from bench.limit import Batch
from bench.load import Order, Told
from bench.measure import end_on_sigterm
from bench.service import EMAIL, PASSWORD, Here, serving
from telecine.client import Client
from telecine.client.images import ImageUrls
from telecine.engine.images.operations import Convert, Resize
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import transform
from telecine.engine.images.values import ImageLimits, Wanted
from telecine.engine.tools import Tools, find_tools

MB = 1_000_000
# Photos as cameras and editors leave them: natural 6 MP, small, and progressive.
PHOTOS = {
    "photo.jpg": "image/sharp/2569067123_aca715a2ee_o.jpg",
    "landscape.jpg": "image/exifo/Landscape_1.jpg",
    "flower.jpg": "image/jxlt/flower_progressive.jpg",
}
SYNTHESISED = {"photo.jpg": (2725, 2225), "landscape.jpg": (1800, 1200), "flower.jpg": (2268, 1512)}
WIDTHS = (200, 500, 1000)
CONCURRENCY = (1, 4, 16)
QUALITY = 80
FORMATS = ("jpeg", "webp")
PROCESSES = len(os.sched_getaffinity(0))
WARM_TIMES = 10  # every URL so often
SAMPLE_S = 0.25
TIMES_COLD = 3  # aims: of thumbor's rate, at least
TIMES_LIMIT = 1.15  # of libvips' time, at most
GROWTH = 5  # percent, at most
PARTS = 50  # figures of the memory


def photos(folder: Path) -> Path:
    """A folder with the three photos: the corpus's, or made ones of the same sizes."""
    folder.mkdir()
    for name, path in PHOTOS.items():
        if (corpus() / path).exists():
            shutil.copyfile(corpus() / path, folder / name)
        else:
            synthesise(folder / name, *SYNTHESISED[name], progressive=name == "flower.jpg")
    return folder


def synthesise(path: Path, width: int, height: int, *, progressive: bool) -> None:
    """A picture with as much detail as a photo: noise on several scales, about 1.4 bits a pixel."""
    scales = (4, 16, 64, 256)
    layers = [
        Image.effect_noise((-(-width // scale), -(-height // scale)), 24 + scale / 4).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for scale in scales
    ]
    mixed = layers[0]
    for n, layer in enumerate(layers[1:], start=2):
        mixed = Image.blend(mixed, layer, 1 / n)
    bands = [mixed, mixed.transpose(Image.Transpose.FLIP_LEFT_RIGHT), layers[-1]]
    Image.merge("RGB", bands).save(path, quality=92, progressive=progressive)


# --- the two servers ------------------------------------------------------------------------------


class Shown(Protocol):
    """A row of a table."""

    @property
    def verdict(self) -> Verdict | None: ...

    def cells(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Shown]


class Server(Protocol):
    @property
    def pid(self) -> int: ...

    @property
    def port(self) -> int: ...

    def path(self, photo: str, width: int, format: str, quality: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Ours:
    """A service with an image key, and the photos uploaded to it."""

    here: Here
    urls: ImageUrls
    assets: dict[str, str]

    @property
    def pid(self) -> int:
        return self.here.running.pid

    @property
    def port(self) -> int:
        return int(self.here.running.base_url.rpartition(":")[2])

    def path(self, photo: str, width: int, format: str, quality: int) -> str:
        return self.signed(photo, f"resize:w={width};convert:quality={quality}", format)

    def signed(self, photo: str, ops: str, format: str) -> str:
        extension = "jpg" if format == "jpeg" else format
        url = self.urls.sign(self.assets[photo], ops, format=extension)
        return url.removeprefix(self.here.running.base_url)


@contextmanager
def our_service(folder: Path, tools: Tools, pictures: Path) -> Iterator[Ours]:
    """Without workers of jobs: nobody asks for one here, as nobody does of thumbor."""
    environment = {"TELECINE_IMAGE_RATE": "1000000", "TELECINE_IMAGE_WORKERS": str(PROCESSES)}
    with serving(folder, tools, workers=0, environment=environment) as here:
        assets = {name: str(here.client.upload(pictures / name).asset_id) for name in PHOTOS}
        with Client(here.running.base_url) as user:
            user.log_in(EMAIL, PASSWORD)  # an API key may not make keys
            made = user.create_image_key("bench")
        yield Ours(here, ImageUrls(here.running.base_url, made.key.id, made.secret), assets)


def load(server: Server, paths: list[str], concurrency: int) -> Told:
    """What the generator, in a process of its own, has to tell. An answer other than 200 is an
    error: `RuntimeError`."""
    order = Order(server.port, paths, concurrency)
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    told = Told(**json.loads(done.stdout))
    if set(told.statuses) != {"200"}:
        raise RuntimeError(f"answers other than 200: {told.statuses}")
    return told


class Scale:
    """Weighs a process tree all the time that it is in a block: proportional set size, in which
    what processes share counts once."""

    def __init__(self, pid: int) -> None:
        self.samples_mb: list[float] = []
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._weigh)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _weigh(self) -> None:
        while True:
            self.samples_mb.append(sum(map(_share_bytes, tree(self._pid))) / MB)
            if self._over.wait(SAMPLE_S):
                return


def _share_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended while we looked
    return int(text.partition("\nPss:")[2].split()[0]) * 1024


# --- beside thumbor -------------------------------------------------------------------------------


@dataclass(slots=True)
class Generator:
    """What the load generator itself took of the CPUs that it shares with the servers, and so how
    many requests a second it could make if all of one were its own: its ceiling."""

    share: dict[str, list[float]] = field(default_factory=dict)
    ceiling: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, told: Told) -> None:
        self.share.setdefault(kind, []).append(100 * told.cpu_s / told.wall_s)
        self.ceiling.setdefault(kind, []).append(len(told.taken_s) / told.cpu_s)

    def rows(self) -> list[Row]:
        rows = [
            Row(f"{kind}: the load generator's CPU", "%", each) for kind, each in self.share.items()
        ]
        rows += [
            Row(f"{kind}: the load generator's ceiling, requests a second", "", each)
            for kind, each in self.ceiling.items()
        ]
        return rows


def measure_beside(folder: Path, tools: Tools, asked: argparse.Namespace) -> Iterator[Table]:
    command = thumbor.install(OUT)
    pictures = photos(folder / "photos")
    with (
        our_service(folder / "ours", tools, pictures) as ours,
        thumbor.Thumbor(command, pictures, folder / "thumbor", PROCESSES) as theirs,
    ):
        servers: dict[str, Server] = {"Telecine": ours, f"thumbor {thumbor.version()}": theirs}
        yield from _beside(servers, asked)


def _beside(servers: dict[str, Server], asked: argparse.Namespace) -> Iterator[Table]:
    for server in servers.values():
        check_alike(server)
    cells = {
        key: Cell() for key in itertools.product(servers, FORMATS, ("cold", "warm"), CONCURRENCY)
    }
    peaks: dict[str, list[float]] = {name: [] for name in servers}
    generator = Generator()
    fresh = itertools.count()
    for run in range(asked.runs):
        peak = dict.fromkeys(servers, 0.0)
        for format, concurrency in itertools.product(FORMATS, CONCURRENCY):
            wanted = _never_asked(fresh, asked.variants, format)
            order = list(servers) if run % 2 == 0 else list(reversed(servers))
            for name in order:
                server = servers[name]
                cold = [server.path(*each, QUALITY) for each in wanted]
                warm = random.Random(run).sample(cold * WARM_TIMES, len(cold) * WARM_TIMES)
                with Scale(server.pid) as scale:
                    for kind, paths in (("cold", cold), ("warm", warm)):
                        told = load(server, paths, concurrency)
                        cells[name, format, kind, concurrency].add(told.taken_s, told.wall_s)
                        generator.add(kind, told)
                peak[name] = max(peak[name], *scale.samples_mb)
        for name, highest in peak.items():
            peaks[name].append(highest)
        print(f"bench-images: round {run + 1} of {asked.runs}", file=sys.stderr, flush=True)
    ours, theirs = servers
    settings = itertools.product(("cold", "warm"), FORMATS, CONCURRENCY)
    yield Table(
        BESIDE_HEAD,
        [
            Beside(
                f"{kind}, {format}, {concurrency} at once",
                cells[ours, format, kind, concurrency],
                cells[theirs, format, kind, concurrency],
                TIMES_COLD if kind == "cold" else None,
            )
            for kind, format, concurrency in settings
        ],
    )
    memory = [Row(f"peak memory, {name}", "MB", figures) for name, figures in peaks.items()]
    memory += [Row("peak memory, of thumbor's", "×", ratios(peaks[ours], peaks[theirs]))]
    yield Table(ROW_HEAD, [*memory, *generator.rows()])


def _never_asked(fresh: Iterator[int], variants: int, format: str) -> list[tuple[str, int, str]]:
    """Photo, width and format of pictures that nobody has asked for yet, in no order: widths close
    to the three, so that as much is to do for each."""
    steps = list(itertools.islice(fresh, variants))
    offsets = [(step + 1) // 2 * (-1 if step % 2 else 1) for step in steps]
    wanted = [
        (photo, width + offset, format)
        for photo, width, offset in itertools.product(PHOTOS, WIDTHS, offsets)
    ]
    return random.Random(steps[0]).sample(wanted, len(wanted))


def check_alike(server: Server) -> None:
    """Both make the same of the same photos: the format that was asked for, the width exactly and
    the height within a pixel. Raises `RuntimeError`."""
    for photo, format in itertools.product(PHOTOS, FORMATS):
        url = f"http://127.0.0.1:{server.port}{server.path(photo, 640, format, QUALITY)}"
        answer = httpx2.get(url, timeout=60).raise_for_status()
        made = Image.open(BytesIO(answer.content))
        size = (made.format, made.width, made.height)
        if size[:2] != (format.upper(), 640) or abs(made.height - _height(photo, 640)) > 1:
            raise RuntimeError(f"{url}: {size}")


def _height(photo: str, width: int) -> float:
    full_width, full_height = SYNTHESISED[photo]
    return width * full_height / full_width


# --- beside libvips alone -------------------------------------------------------------------------

SAVERS: dict[str, dict[str, Any]] = {
    "jpeg": {"Q": QUALITY, "interlace": True, "optimize_coding": True},
    "webp": {"Q": QUALITY, "effort": 4},
}


def measure_limit(folder: Path, tools: Tools, asked: argparse.Namespace) -> Iterator[Table]:
    """A warm worker and a bare process make the same thumbnails in turn: from a file to bytes, the
    pipe and everything else that is ours included."""
    pictures = photos(folder / "photos")
    settings = list(itertools.product(FORMATS, WIDTHS, PHOTOS))
    ratio: dict[tuple[str, int], list[float]] = {key[:2]: [] for key in settings}
    overall: list[float] = []
    bare = subprocess.Popen(
        [sys.executable, "-m", "bench.limit"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert bare.stdin is not None
    assert bare.stdout is not None
    with bare, ImageWorkers(tools, count=1, limits=ImageLimits()) as workers:
        for run in range(asked.runs + 1):
            spent: dict[tuple[str, int], list[float]] = {}
            for format, width, photo in settings:
                source = pictures / photo
                result = str(folder / f"limit.{format}")
                batch = Batch(str(source), result, width, SAVERS[format], asked.times)
                bare.stdin.write(json.dumps(asdict(batch)) + "\n")
                bare.stdin.flush()
                least_s = statistics.median(json.loads(bare.stdout.readline()))
                operations = (Resize(w=width), Convert(quality=QUALITY))
                wanted = Wanted(operations, format)
                our_s = statistics.median(
                    _timed_s(workers, source, wanted) for _ in range(asked.times)
                )
                so_far = spent.setdefault((format, width), [0.0, 0.0])
                so_far[0] += our_s
                so_far[1] += least_s
            if run == 0:
                continue  # both warm up
            for key, (our_s, least_s) in spent.items():
                ratio[key].append(our_s / least_s)
            ours, least = (sum(column) for column in zip(*spent.values(), strict=True))
            overall.append(ours / least)
        bare.stdin.close()
    rows = [
        Row(f"warm worker, {format} {width} wide, of libvips alone", "×", figures)
        for (format, width), figures in ratio.items()
    ]
    all_of_them = "warm worker, all of them, of libvips alone"
    yield Table(ROW_HEAD, [*rows, Row(all_of_them, "×", overall, at_most=TIMES_LIMIT)])


def _timed_s(workers: ImageWorkers, source: Path, wanted: Wanted) -> float:
    began_s = time.perf_counter()
    transform(workers, source, wanted)
    return time.perf_counter() - began_s


# --- memory ---------------------------------------------------------------------------------------


def measure_memory(folder: Path, tools: Tools, asked: argparse.Namespace) -> Iterator[Table]:
    """So many pictures that nobody asked for before, of all photos, sizes and formats."""
    pictures = photos(folder / "photos")
    with our_service(folder / "ours", tools, pictures) as ours:
        kinds = itertools.product(range(100, 700), PHOTOS, (*FORMATS, "png"), ("", ",fit=cover"))
        wanted = list(kinds)
        random.Random(0).shuffle(wanted)
        paths = [
            ours.signed(photo, f"resize:w={width},h={600 - width // 2}{fit}", format)
            for width, photo, format, fit in wanted[: asked.requests]
        ]
        part_length = max(1, len(paths) // PARTS)
        parts = [paths[n : n + part_length] for n in range(0, len(paths), part_length)]
        medians: list[float] = []
        for part in parts:
            with Scale(ours.pid) as scale:
                load(ours, part, 4)
            medians.append(statistics.median(scale.samples_mb))
    fifth = len(medians) // 5
    early, late = medians[fifth : 2 * fifth], medians[-fifth:]
    what = f"memory over {len(paths)} pictures"
    settled = medians[fifth:]
    slope = statistics.linear_regression(range(len(settled)), settled).slope
    growth = 100 * (statistics.median(late) / statistics.median(early) - 1)
    yield Table(
        ROW_HEAD,
        [
            Row(f"{what}, second fifth", "MB", early),
            Row(f"{what}, last fifth", "MB", late),
            Row(f"{what}, slope for each 1,000", "MB", [slope * 1000 / part_length]),
            Row(f"{what}, last fifth beyond the second", "%", [growth], at_most=GROWTH),
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure pictures on the fly.")
    kinds: dict[str, Callable[[Path, Tools, argparse.Namespace], Iterator[Table]]] = {
        "beside": measure_beside,
        "limit": measure_limit,
        "memory": measure_memory,
    }
    parser.add_argument("--runs", type=int, default=5, help="rounds, both in turn in each")
    parser.add_argument("--only", action="append", choices=kinds, help="default: all")
    parser.add_argument("--variants", type=int, default=8, help="sizes close to each width")
    parser.add_argument("--times", type=int, default=15, help="thumbnails of a kind in a round")
    parser.add_argument("--requests", type=int, default=10_000, help="pictures for the memory")
    asked = parser.parse_args(argv)
    if asked.requests < PARTS:
        parser.error(f"--requests: at least {PARTS}")
    end_on_sigterm()
    tools = find_tools()
    print(f"{asked.runs} runs, {PROCESSES} cores, load {os.getloadavg()[0]:.1f} before")
    missed = False
    for kind in asked.only or kinds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                for table in kinds[kind](Path(folder), tools, asked):
                    cells = [row.cells() for row in table.rows]
                    print(f"\n{markdown_table([table.head, *cells])}", flush=True)
                    missed |= any(row.verdict == "not met" for row in table.rows)
            except subprocess.CalledProcessError as error:
                print(f"bench-images: thumbor cannot be installed: {error}", file=sys.stderr)
                return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
