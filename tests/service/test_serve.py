"""`telecine serve`, `worker` and `admin` as processes."""

from __future__ import annotations

import asyncio
import datetime
import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.processes import alive, resident_bytes, tree, words_of, workers_of
from tests.service.conftest import PASSWORD
from tests.service.jobs_made import add_asset, make_job
from tests.service.running import Running
from tests.waiting import until

from telecine.cli import main
from telecine.service.db.connection import Database
from telecine.service.db.queue import submit
from telecine.service.domain import new_id
from telecine.service.serve import (
    Supervisor,
    _bound,
    greeting,
    place_of,
    restart_delay_s,
    warnings_of,
)
from telecine.service.settings import Settings

API_RSS_BYTES = 200_000_000
CANARY = "cAnArY-of-the-database"  # in its URL, where another's has a password


def log_of(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.read_text().splitlines()]


def command(*words: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "telecine", *words[:1], "--data", str(data), *words[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- one run, looked at from all sides ----------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serve")
    database = {"TELECINE_DATABASE": f"sqlite:///{folder}/{CANARY}.db"}
    with Running(folder / "data", workers=2, signup="invite", environment=database) as found:
        yield found


def test_it_is_ready_and_says_where(running: Running) -> None:
    said = running.out.read_text()
    assert f"is at {running.base_url}" in said
    assert httpx2.get(f"{running.base_url}/readyz").json()["status"] == "ready"
    assert httpx2.get(f"{running.base_url}/docs").status_code == 200


def test_every_line_of_its_log_is_json(running: Running) -> None:
    httpx2.get(f"{running.base_url}/v1/nothing?token=sPaRrOw")
    lines = log_of(running)
    assert {line["logger"] for line in lines} >= {"telecine.serve", "telecine.api", "uvicorn.error"}
    (begun,) = [line for line in lines if line["event"] == "starting"]
    assert begun["sandbox"] in ("bwrap", "landlock", "seccomp")
    assert "sPaRrOw" not in running.log.read_text()


def test_the_first_admin_is_made_by_the_token_and_only_once(running: Running) -> None:
    (token,) = re.findall(r'"token": "([^"]+)"', running.out.read_text())
    assert token not in running.log.read_text()
    body = {"email": "root@example.org", "password": PASSWORD, "token": token}
    url = f"{running.base_url}/v1/users"
    assert httpx2.post(url, json={**body, "token": token[:-1]}).status_code == 403
    made = httpx2.post(url, json=body)
    assert (made.status_code, made.json()["role"]) == (201, "admin")
    again = httpx2.post(url, json={**body, "email": "other@example.org"})
    assert again.status_code == 403


def test_the_api_process_is_small(running: Running) -> None:
    with httpx2.Client(base_url=running.base_url) as client:
        for _ in range(20):
            client.get("/openapi.json")
            client.get("/docs/swagger-ui-bundle.js")
    assert resident_bytes(running.pid) < API_RSS_BYTES


def test_workers_run_in_groups_of_their_own(running: Running) -> None:
    until(lambda: len(workers_of(running.pid)) == 2)
    groups = {os.getpgid(pid) for pid in workers_of(running.pid)}
    assert len(groups) == 2
    assert os.getpgid(running.pid) not in groups


def test_no_password_is_in_a_command_line(running: Running) -> None:
    until(lambda: len(workers_of(running.pid)) == 2)
    everyone = tree(running.pid)
    assert len(everyone) >= 3
    assert CANARY not in str([words_of(pid) for pid in everyone])
    for worker in workers_of(running.pid):  # and yet they know it
        assert CANARY.encode() in Path(f"/proc/{worker}/environ").read_bytes()


def test_a_worker_that_dies_is_started_again(running: Running) -> None:
    until(lambda: len(workers_of(running.pid)) == 2)
    before = set(workers_of(running.pid))
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(workers_of(running.pid)) - {victim}) == 2)
    (told,) = [line for line in log_of(running) if line["event"] == "a worker died"]
    assert told["exit_code"] == -signal.SIGKILL
    assert httpx2.get(f"{running.base_url}/healthz").status_code == 200


# --- how it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_a_signal_stops_all_of_it_well(tmp_path: Path, number: int) -> None:
    with Running(tmp_path / "data", workers=1) as running:
        until(lambda: len(workers_of(running.pid)) == 1)
        everyone = tree(running.pid)
        assert running.stop(number) == 0
        assert [pid for pid in everyone if alive(pid)] == []
    assert log_of(running)[-1]["event"] == "stopped"


@contextmanager
def half_asked(running: Running, length: int) -> Iterator[socket.socket]:
    """A request to sign up that is being carried out and waits for its body of so many bytes."""
    with socket.create_connection(address_of(running), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        yield connection


def address_of(running: Running) -> tuple[str, int]:
    host, _, port = running.base_url.removeprefix("http://").partition(":")
    return host, int(port)


def refuses(running: Running) -> bool:
    """Whether it listens no more."""
    try:
        socket.create_connection(address_of(running), timeout=60).close()
    except ConnectionError:
        return True
    return False


def test_a_request_that_runs_is_answered(tmp_path: Path) -> None:
    """A stop lets it end: the body arrives after the signal."""
    body = json.dumps({"email": "ada@example.org", "password": PASSWORD}).encode()
    with Running(tmp_path / "data") as running:
        with half_asked(running, len(body)) as connection:
            assert running.process is not None
            running.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(running))
            connection.sendall(body)
            assert connection.recv(100).startswith(b"HTTP/1.1 201 ")
        assert running.process.wait(60) == 0


@pytest.mark.thorough
def test_the_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    """A request that never ends would hold the first one for the whole grace."""
    grace = {"TELECINE_GRACE_S": "600"}
    with Running(tmp_path / "data", workers=1, environment=grace) as running:
        until(lambda: len(workers_of(running.pid)) == 1)
        everyone = tree(running.pid)
        with half_asked(running, 9):
            assert running.process is not None
            running.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(running))
            with pytest.raises(subprocess.TimeoutExpired):
                running.process.wait(2)
            assert running.stop(signal.SIGTERM, timeout_s=10) == 130
        until(lambda: not any(map(alive, everyone)), 30)


@pytest.mark.thorough
def test_streams_of_events_do_not_hold_a_stop(tmp_path: Path) -> None:
    """Who watches a job is let go at once, with a whole answer, and comes back by itself."""
    grace = {"TELECINE_GRACE_S": "600"}
    person = {"email": "ada@example.org", "password": PASSWORD}
    with Running(tmp_path / "data", environment=grace) as running:
        with httpx2.Client(base_url=running.base_url, timeout=60) as client:
            user_id = client.post("/v1/users", json=person).json()["id"]
            token = client.post("/v1/sessions", json=person).json()["access_token"]
            database = Database(f"sqlite:///{running.data / 'telecine.db'}")
            with database.write() as tx:
                add_asset(tx, asset_id := new_id(), user_id)
                submit(tx, job := make_job(user_id, asset_id))
            database.close()
            headers = {"Authorization": f"Bearer {token}"}
            with client.stream("GET", f"/v1/jobs/{job.id}/events", headers=headers) as stream:
                lines = stream.iter_lines()
                next(lines)
                assert running.process is not None
                running.process.send_signal(signal.SIGTERM)
                assert len(list(lines)) > 0  # to the end, without an error of the protocol
        assert running.process.wait(60) == 0
    assert not [line for line in log_of(running) if line["level"] == "error"]


@pytest.mark.thorough
def test_workers_end_with_their_parent_however_it_went(tmp_path: Path) -> None:
    with Running(tmp_path / "data", workers=2) as running:
        until(lambda: len(workers_of(running.pid)) == 2)
        everyone = tree(running.pid)
        running.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, everyone)))


@pytest.mark.thorough
def test_it_starts_again_where_it_was(tmp_path: Path) -> None:
    body = {"email": "ada@example.org", "password": PASSWORD}
    with Running(tmp_path / "data") as running:
        assert httpx2.post(f"{running.base_url}/v1/users", json=body).status_code == 201
        running.stop(signal.SIGKILL)
        running.start()
        assert httpx2.post(f"{running.base_url}/v1/sessions", json=body).status_code == 201


# --- how it does not start ----------------------------------------------------------------------


def test_a_taken_address_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command("serve", "--port", str(taken.getsockname()[1]), data=tmp_path / "data")
    assert done.returncode == 4
    assert "error[system_error]: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_do_not_wait_for_acknowledgements() -> None:
    async def sent_at_once(listener: socket.socket) -> int:
        found: asyncio.Queue[int] = asyncio.Queue()

        async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            await found.put(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.close()
            return await asyncio.wait_for(found.get(), 10)

    with _bound(Settings(port=0)) as listener:
        assert asyncio.run(sent_at_once(listener)) != 0


def test_a_wrong_setting_is_one_clear_line(tmp_path: Path) -> None:
    done = command("serve", "--signup", "perhaps", data=tmp_path / "data")
    assert done.returncode == 2
    assert done.stderr.startswith("telecine: error[setting_invalid]: signup: ")
    assert done.stderr.count("\n") == 1


def test_a_worker_waits_for_no_migration(tmp_path: Path) -> None:
    done = command("worker", "--once", data=tmp_path / "data")
    assert done.returncode == 4
    assert "error[database_outdated]" in done.stderr


@pytest.mark.thorough
def test_a_worker_may_run_once(tmp_path: Path) -> None:
    assert command("admin", "migrate", data=tmp_path / "data").returncode == 0
    done = command("worker", "--once", "--name", "w1", data=tmp_path / "data")
    assert done.returncode == 0, done.stderr


# --- TLS and what is warned about ---------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


def test_it_serves_tls_itself(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = map(str, certificate)
    with Running(tmp_path / "data", "--tls-cert", cert, "--tls-key", key) as running:
        assert running.base_url.startswith("https://")
        answer = httpx2.get(f"{running.base_url}/healthz", verify=False)
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


@pytest.mark.thorough
def test_idle_connections_do_not_hold_a_stop(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """A client that keeps its connection for later reads nothing: no goodbye comes of it."""
    cert, key = map(str, certificate)
    service = Running(tmp_path / "data", "--tls-cert", cert, "--tls-key", key)
    with service as running, httpx2.Client(verify=False) as idle:
        assert idle.get(f"{running.base_url}/healthz").status_code == 200
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 15  # TLS alone would wait 30


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql+psycopg://ada:hunter2@db:5433/films", "postgresql://db:5433/films"),
        ("postgresql://db/films?user=ada&password=hunter2", "postgresql://db/films"),
        ("sqlite:////var/lib/telecine.db", "sqlite:////var/lib/telecine.db"),
    ],
)
def test_the_log_names_the_database_and_no_password(url: str, place: str) -> None:
    assert place_of(sa.make_url(url)) == place


def test_plain_http_beyond_this_machine_is_warned_about() -> None:
    def warned(**given: Any) -> bool:
        return any("plain http" in text for text in warnings_of(Settings(**given), "landlock"))

    assert warned(host="0.0.0.0")
    assert warned(host="192.168.1.5")
    assert not warned(host="127.0.0.1")
    assert not warned(host="::1")
    assert not warned(host="0.0.0.0", public_url="https://media.example")
    assert warned(host="127.0.0.1", public_url="http://media.example")  # a proxy without TLS
    assert any("sandbox" in text for text in warnings_of(Settings(), "none"))


def test_the_greeting_says_how_to_create_the_first_account() -> None:
    settings = Settings(public_url="https://media.example")
    said = "\n".join(greeting(settings, "tco_x"))
    assert "https://media.example/docs" in said
    assert "tco_x" in said
    assert "telecine admin create" in said
    assert "administrator" not in "\n".join(greeting(settings, None))


# --- the supervisor -----------------------------------------------------------------------------


def test_restarts_come_ever_later_up_to_half_a_minute() -> None:
    assert [restart_delay_s(n) for n in (0, 1, 2, 3, 7, 8, 1000)] == [0, 0.5, 1, 2, 30, 30, 30]


def test_a_worker_that_cannot_start_is_tried_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    script = f"open({str(marks)!r}, 'a').write('x'); raise SystemExit(3)"
    stop = threading.Event()
    settings = Settings(data=tmp_path, workers=1, grace_s=1)
    supervisor = Supervisor(settings, stop, (sys.executable, "-c", script))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: marks.exists() and len(marks.read_text()) >= 3)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_workers_come_back_when_descriptors_were_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, real, tries = tmp_path / "marks", os.pipe, 0

    def pipe() -> tuple[int, int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return real()

    monkeypatch.setattr(os, "pipe", pipe)
    stop = threading.Event()
    script = f"open({str(marks)!r}, 'a').write('x'); raise SystemExit(3)"
    settings = Settings(data=tmp_path, workers=1, grace_s=1)
    supervisor = Supervisor(settings, stop, (sys.executable, "-c", script))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        until(marks.exists)
    finally:
        stop.set()
        thread.join(30)
    assert tries >= 2


@pytest.mark.thorough
def test_a_worker_that_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\n"
        "time.sleep(1000)"
    )
    stop = threading.Event()
    settings = Settings(data=tmp_path, workers=1, grace_s=0)
    supervisor = Supervisor(settings, stop, (sys.executable, "-c", script))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    stop.set()
    thread.join(60)
    started = [int(pid) for pid in pids.read_text().split()]
    until(
        lambda: not any(map(alive, started))
    )  # a signal takes its time, and only one is waited for


# --- accounts from the shell --------------------------------------------------------------------


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`telecine admin WORDS`: its exit code, and what it said."""

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(["admin", "--data", str(tmp_path / "data"), *words])
        return code, *capsys.readouterr()

    return run


def test_an_administrator_looks_after_the_accounts_from_the_shell(
    shell: Callable[..., tuple[int, str, str]],
) -> None:
    def admin(*words: str, stdin: str = "") -> str:
        code, out, err = shell(*words, stdin=stdin)
        assert code == 0, err
        return out

    assert admin("first-admin").startswith("tco_")
    made = admin("create", "root@example.org", "--role", "admin", stdin=PASSWORD + "\n").strip()
    admin("create", "ada@example.org", "--name", "Ada", stdin=PASSWORD + "\n")
    listed = {line.split()[2]: line.split() for line in admin("users").splitlines()}
    assert listed["root@example.org"][:2] == [made, "admin"]
    assert listed["ada@example.org"][1:] == ["user", "ada@example.org", "Ada"]
    admin("promote", "ada@example.org")
    admin("disable", "ada@example.org")
    assert admin("users").count("disabled") == 1
    admin("enable", "ada@example.org")
    admin("demote", made)
    token = admin("reset-password", "root@example.org").strip()
    invite = admin("invite").strip()
    admin("delete", "root@example.org")
    assert "root@example.org" not in admin("users")
    assert token.startswith("tco_")
    assert invite.startswith("tco_")


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("delete", "nobody@example.org"), "", "user_unknown"),
        (("create", "nonsense"), PASSWORD, "email_invalid"),
        (("create", "ada@example.org"), "short\n", "password_short"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    shell: Callable[..., tuple[int, str, str]], words: tuple[str, ...], stdin: str, said: str
) -> None:
    code, _, err = shell(*words, stdin=stdin)
    assert code == 4
    assert err.startswith(f"telecine: error[{said}]: ")
    assert err.count("\n") == 1
