"""The tutorial's first two chapters as they are written: `make serve` in a folder without data, the
first account by the token that it prints, and the command. And `scripts/services`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from tests.conftest import ROOT
from tests.service.conftest import PASSWORD
from tests.service.films import Film
from tests.terminal import on_terminal
from tests.waiting import until

pytestmark = pytest.mark.thorough

TUTORIAL = ROOT / "docs" / "tutorial" / "first-video.md"
EMAIL = "you@example.org"


def blocks(heading: str) -> list[str]:
    """The commands under a heading."""
    text = TUTORIAL.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Begun:
    """What `make serve` said, and where it runs."""

    folder: Path
    url: str
    token: str


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """As in a fresh copy of the project, but with the environment that is there, so that nothing is
    fetched, and on a free port."""
    (make_serve,) = blocks("Start the service")[:1]
    assert make_serve == "make serve\n"
    folder = tmp_path_factory.mktemp("project")
    for name in ("Makefile", ".venv", "scripts", "requirements", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    out, log = folder / "out", folder / "log"
    with out.open("wb") as to, log.open("wb") as errors:
        process = subprocess.Popen(
            ["bash", "-c", make_serve],
            cwd=folder,
            env={**os.environ, "TELECINE_PORT": "0", "MAKEFLAGS": ""},
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=errors,
            start_new_session=True,  # a terminal's Ctrl-C reaches all of it
        )
        try:
            until(
                lambda: "telecine admin create" in out.read_text() or process.poll() is not None,
                120,
            )
            assert process.poll() is None, log.read_text()
            said = out.read_text()
            (url,) = re.findall(r"is at (http://127\.0\.0\.1:\d+) ", said)
            (token,) = re.findall(r'"token": "(tco_[^"]+)"', said)
            yield Begun(folder, url, token)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.needs("make", "bash", "curl")
def test_the_first_account_of_make_serve(begun: Begun) -> None:
    command = blocks("Start the service")[1]
    for word, ours in (
        ("http://127.0.0.1:8000", begun.url),
        ("a password of yours", PASSWORD),
        ("tco_…", begun.token),
    ):
        assert word in command
        command = command.replace(word, ours)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert '"role":"admin"' in done.stdout, done.stdout
    assert (begun.folder / "telecine-data" / "telecine.db").is_file()
    assert httpx2.get(f"{begun.url}/docs").status_code == 200


@pytest.mark.needs("make", "bash")
def test_the_commands_of_the_tutorial(begun: Begun, film: Film) -> None:
    person = {"email": EMAIL, "password": PASSWORD}
    httpx2.post(f"{begun.url}/v1/users", json={**person, "token": begun.token})
    shutil.copy(film.path, begun.folder / "talk.mov")
    first, more = blocks("With the command")
    assert "telecine login " in first
    script = first.replace("telecine login ", f"telecine login {begun.url} ")
    shown = at_terminal(begun, script, [("e-mail: ", EMAIL), ("password: ", PASSWORD)])
    assert f"{begun.url}/" in shown

    assert "mp4:720p" in more  # the clip has 360 lines
    more = more.replace("mp4:720p", "mp4:360p").replace("download JOB", "download $JOB")
    find = "JOB=$(telecine jobs | tail -1 | cut -d' ' -f1)\n"
    assert "\ntelecine download" in more
    at_terminal(begun, more.replace("\ntelecine download", f"\n{find}telecine download"), [])
    assert (begun.folder / "talk").is_dir()
    assert len(list((begun.folder / "talk").rglob("*"))) > 0


def at_terminal(begun: Begun, script: str, says: Sequence[tuple[str, str]]) -> str:
    """Run it as one who types it does, and answer what it asks; what was shown."""
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(begun.folder / "config"),
        "XDG_STATE_HOME": str(begun.folder / "state"),
        "PATH": f"{begun.folder}/.venv/bin:{os.environ['PATH']}",
    }
    words = ["bash", "-euc", f"cd {shlex.quote(str(begun.folder))}\n{script}"]
    code, shown = on_terminal(words, says, environment=environment)
    assert code == 0, shown
    return shown


def test_postgresql_is_started_found_running_and_stopped(postgres: sa.URL) -> None:
    """`postgres` says whether there is one to start. Not below pytest's folder, which the server's
    user may not enter."""
    with tempfile.TemporaryDirectory(prefix="telecine-", ignore_cleanup_errors=True) as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "postgres"

        def services(*words: str) -> str:
            command = [str(ROOT / "scripts" / "services"), *words, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        try:
            url = services("start", "postgres")
            assert services("start", "postgres") == url
            engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
            with engine.connect() as connection:
                assert "PostgreSQL" in connection.execute(sa.text("SELECT version()")).scalar_one()
            engine.dispose()
        finally:
            services("stop")
        assert not folder.exists()
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
