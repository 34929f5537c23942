"""`telecine serve` and `telecine worker`: the processes of one installation.

    telecine serve        the API (uvicorn, in this process), the collector, the supervisor
    ├── telecine worker   started, and started again, by the supervisor; ended with its parent
    └── …

A worker hangs on a pipe of its parent, its lifeline: when the parent is gone, however it went, the
pipe ends and the worker stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess  # noqa: TID251  # the supervisor: its children are our own workers, no decoders
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
import uvicorn

from telecine.service import logs
from telecine.service.admin import first_admin_token
from telecine.service.api import cookies
from telecine.service.api.app import make_app
from telecine.service.assembly import open_services
from telecine.service.collector import run_collector
from telecine.service.db import idempotency
from telecine.service.db.migrate import is_current, migrate
from telecine.service.domain import Unavailable
from telecine.service.services import Services
from telecine.service.settings import Settings, environment_of

EXIT_FORCED = 130
BACKLOG = 2048
KEEP_ALIVE_S = 30
LOOK_EVERY_S = 0.2
PURGE_EVERY_S = 600.0
GOODBYE_S = 1.0
TIDYING_S = 5  # a worker's own grace is `grace_s`; then it gives its task back

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_LIVED_WELL_S = 60.0

log = logs.get_logger("serve")


# --- the whole --------------------------------------------------------------------------------


def serve(settings: Settings, *, say: Callable[[str], None] = print) -> int:
    """Run the service until it is told to stop; the exit code. `say` gets what an administrator
    should read: the address, how to create the first account.

    The first SIGTERM, SIGINT or SIGHUP stops claims, lets requests and tasks end for `grace_s`, and
    then ends what is left. The second one ends everything at once.

    Raises `OSError` (the address is taken), `StepFailed` (`sandbox_unavailable`), `ToolMissing`,
    `Unavailable` (`database_newer`, `database_unavailable`).
    """
    logs.configure(json=settings.log_json, level=settings.log_level)
    with _bound(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        services = open_services(settings, image_workers=settings.image_processes)
        migrate(services.database)
        token = first_admin_token(services)

        def announce() -> None:
            for line in greeting(settings, token):
                say(line)

        log.info(
            "starting",
            version=version("telecine"),
            address=settings.base_url,
            database=place_of(services.database.url),
            ffmpeg=services.tools.version,
            sandbox=services.tools.sandbox.tier,
            workers=settings.workers,
        )
        for warning in warnings_of(settings, services.tools.sandbox.tier):
            log.warning(warning)
            say(f"warning: {warning}")
        stop = threading.Event()
        supervisor = Supervisor(settings, stop)
        server = Server(make_app(services), settings, announce)
        threads = [
            threading.Thread(target=supervisor.run, name="supervisor"),
            threading.Thread(target=run_collector, args=(services,), kwargs={"stop": stop}),
            threading.Thread(target=_purge, args=(services, stop), name="purge"),
        ]
        with _stopping(stop, server, supervisor):
            for thread in threads:
                thread.start()
            try:
                server.run(sockets=[listener])
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        services.close()
        log.info("stopped")
    return 0


def work(settings: Settings, *, name: str, once: bool = False, lifeline: int | None = None) -> int:
    """Run one worker until it is told to stop, or for one task; the exit code. `lifeline`: a pipe
    that ends with the parent.

    Raises as `serve` does, and `Unavailable` (`database_outdated`) where nobody has migrated.
    """
    from telecine.service.worker import run_worker

    logs.configure(json=settings.log_json, level=settings.log_level)
    if lifeline is not None:
        threading.Thread(target=_hang_on, args=(lifeline, settings.grace_s), daemon=True).start()
    services = open_services(settings)
    if not is_current(services.database):
        raise Unavailable(
            "the database is not of this version of Telecine: `telecine serve` or `telecine admin "
            "migrate` brings it up to date",
            code="database_outdated",
        )
    stop = threading.Event()

    def end(*_: object) -> None:
        if stop.is_set():
            os._exit(EXIT_FORCED)  # children end with their parent
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    with logs.about(worker=name):
        run_worker(services, name=name, stop=stop, once=once)
    services.close()
    return 0


def greeting(settings: Settings, token: str | None) -> list[str]:
    """What is said when the service is up. `token`: there is no administrator yet."""
    url = settings.base_url
    lines = [f"Telecine {version('telecine')} is at {url} (its API: {url}/docs)"]
    if token is not None:
        lines += [
            "There is no administrator yet. This token, good once and for a day, makes the first:",
            f"  curl {url}/v1/users -H 'Content-Type: application/json' \\",
            f'    -d \'{{"email": "you@example.org", "password": "…", "token": "{token}"}}\'',
            "or, on this machine: telecine admin create you@example.org --role admin",
        ]
    return lines


def place_of(url: sa.URL) -> str:
    """Where a database is, for the log: of its URL what is no secret. A password may stand among
    the options too, where SQLAlchemy hides none."""
    place = sa.URL.create(
        url.get_backend_name(), host=url.host, port=url.port, database=url.database
    )
    return place.render_as_string()


def warnings_of(settings: Settings, tier: str) -> list[str]:
    """What an administrator should know about these settings."""
    found = []
    if not cookies.are_secure(settings):
        found.append(
            f"plain http at {settings.base_url}: passwords and tokens can be read on the way, and "
            "browsers keep log-ins less safely; set --tls-cert and --tls-key, or --public-url "
            "https://… behind a proxy"
        )
    if tier == "none":
        found.append("there is no sandbox: a hostile upload can read what this service can read")
    return found


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named, because asyncio sends at once (TCP_NODELAY) only on sockets that say they are TCP.
    # On others the second part of an answer waits for the first one to be acknowledged: 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        yield listener


@contextmanager
def _stopping(stop: threading.Event, server: Server, supervisor: Supervisor) -> Iterator[None]:
    """Signals, while the block runs."""

    def end(*_: object) -> None:
        if stop.is_set():
            supervisor.kill()
            os._exit(EXIT_FORCED)
        stop.set()
        server.should_exit = True

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _purge(services: Services, stop: threading.Event) -> None:
    """Forget answers that were kept long enough."""
    while not stop.wait(PURGE_EVERY_S):
        try:
            with services.database.write() as tx:
                idempotency.purge(tx)
        except Exception:
            log.exception("cannot forget old answers")


# --- the API ----------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """uvicorn, whose signals are ours, and which ends streams when it stops."""

    def __init__(self, app: Any, settings: Settings, announce: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,  # logs.configure did it
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.grace_s,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )
        self._streams: set[asyncio.Task[object]] = app.state.streams
        self._announce = announce

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for stream in tuple(self._streams):
            stream.cancel()  # who watches a job comes back to the next process
        connections: set[Any] = set(self.server_state.connections)
        idle = [each for each in connections if each.cycle is None or each.cycle.response_complete]
        hanging_up = asyncio.create_task(self._hang_up(idle))
        try:
            await super().shutdown(sockets)
        finally:
            hanging_up.cancel()

    async def _hang_up(self, idle: Sequence[Any]) -> None:
        """End those of the connections that do not go by themselves. Over TLS closing waits half a
        minute for the client's goodbye, and a client that is idle does not listen."""
        await asyncio.sleep(GOODBYE_S)  # what was just answered is on its way
        for connection in idle:
            connection.transport.abort()


# --- workers ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Slot:
    """One worker's place."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    started_at: float = 0.0
    start_at: float = 0.0  # not before
    crashes: int = 0  # in a row


def restart_delay_s(crashes: int) -> float:
    """How long to wait after so many deaths in a row."""
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(crashes - 1, 16)) if crashes else 0.0


@dataclass
class Supervisor:
    """Keeps `settings.workers` workers alive until `stop` is set, then ends them."""

    settings: Settings
    stop: threading.Event
    command: tuple[str, ...] = (sys.executable, "-m", "telecine", "worker")
    _slots: list[_Slot] = field(default_factory=list)

    def run(self) -> None:
        """Until everything that it started has ended."""
        self._slots = [
            _Slot(f"{socket.gethostname()}-{os.getpid()}-{n}") for n in range(self.settings.workers)
        ]
        while not self.stop.is_set():
            for slot in self._slots:
                self._look_after(slot)
            self.stop.wait(LOOK_EVERY_S)
        self._end()

    def kill(self) -> None:
        """End all workers and what they run, at once."""
        for slot in self._slots:
            _signal(slot, signal.SIGKILL)

    def pids(self) -> list[int]:
        """Of the workers that live."""
        return [s.process.pid for s in self._slots if s.process and s.process.poll() is None]

    def _look_after(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.process is None:
            if now >= slot.start_at:
                self._start(slot, now)
            return
        code = slot.process.poll()
        if code is None:
            return
        os.close(slot.lifeline)
        slot.process = None
        slot.crashes = 1 if now - slot.started_at > _LIVED_WELL_S else slot.crashes + 1
        slot.start_at = now + restart_delay_s(slot.crashes)
        log.error("a worker died", worker=slot.name, exit_code=code, again_in_s=slot.start_at - now)

    def _start(self, slot: _Slot, now: float) -> None:
        try:
            slot.process, slot.lifeline = self._spawn(slot.name)
        except OSError:
            slot.crashes += 1
            slot.start_at = now + restart_delay_s(slot.crashes)
            log.exception("a worker does not start", worker=slot.name)
            return
        slot.started_at = now
        log.info("worker started", worker=slot.name, pid=slot.process.pid)

    def _spawn(self, name: str) -> tuple[subprocess.Popen[bytes], int]:
        """A worker, and our end of its lifeline. Raises `OSError`."""
        theirs, ours = os.pipe()
        try:
            process = subprocess.Popen(
                [*self.command, "--name", name, "--lifeline", str(theirs)],
                stdin=subprocess.DEVNULL,
                env=environment_of(self.settings),  # a password stays out of `ps`
                pass_fds=(theirs,),
                process_group=0,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return process, ours

    def _end(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()  # the worker alone: it stops its children itself
        deadline = time.monotonic() + self.settings.grace_s + TIDYING_S
        for slot in self._slots:
            if slot.process is None:
                continue
            try:
                slot.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("a worker did not stop in time", worker=slot.name)
                _signal(slot, signal.SIGKILL)
                slot.process.wait()
            os.close(slot.lifeline)


def _signal(slot: _Slot, number: int) -> None:
    if slot.process is not None and slot.process.poll() is None:
        try:
            os.killpg(slot.process.pid, number)
        except ProcessLookupError:
            return  # it ended by itself meanwhile


def _hang_on(lifeline: int, grace_s: float) -> None:
    """Wait for the parent's end; then stop as on SIGTERM, and soon by force."""
    os.set_inheritable(lifeline, False)
    os.read(lifeline, 1)  # nobody writes: it returns when the other end is gone
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s + TIDYING_S)
    os.killpg(0, signal.SIGKILL)
