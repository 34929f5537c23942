"""`telecine login`, `upload`, `submit`, `jobs`, `cancel`, `download` and `logout` as a user runs
them, against a running service."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.conftest import PASSWORD
from tests.service.running import Running
from tests.terminal import on_terminal

from telecine.client import Client, JobEvent
from telecine.client.home import Credentials, CredentialsFile, UnfinishedUploads, fingerprint

TELECINE = str(Path(sys.executable).with_name("telecine"))
EMAIL = "ada@example.org"


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class User:
    """Someone at a shell, with a home of their own."""

    url: str
    home: Path
    key: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    @property
    def credentials(self) -> CredentialsFile:
        return CredentialsFile(self.home / "config" / "telecine" / "credentials.json")

    @property
    def unfinished(self) -> UnfinishedUploads:
        return UnfinishedUploads(self.home / "state" / "telecine" / "uploads")

    def run(self, *words: str | Path, said: str = "") -> Ran:
        done = subprocess.run(
            [TELECINE, *words],
            input=said,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def on_terminal(self, *words: str | Path, says: Sequence[tuple[str, str]] = ()) -> Ran:
        """On a terminal, answering what it asks; `out` is all that the terminal got."""
        code, shown = on_terminal([TELECINE, *words], says, environment=self.environment)
        return Ran(code, shown, "")

    def client(self) -> Client:
        return Client(self.url, api_key=self.key)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("service") / "data"
    with Running(data, workers=1) as service:
        with Client(service.base_url) as anyone:
            anyone.sign_up(EMAIL, PASSWORD)
        yield service


@pytest.fixture(scope="module")
def key(running: Running) -> str:
    with Client(running.base_url) as client:
        client.log_in(EMAIL, PASSWORD)
        return client.create_api_key("commands").secret


@pytest.fixture
def nobody(running: Running, key: str, tmp_path: Path) -> User:
    return User(running.base_url, tmp_path / "home", key)


@pytest.fixture
def user(nobody: User) -> User:
    nobody.credentials.save(Credentials(nobody.url, api_key=nobody.key))
    return nobody


@pytest.fixture(scope="module")
def film(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a film.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=2")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=2")
    shape = ("-pix_fmt", "yuv420p", "-g", "60", "-c:a", "aac", "-ac", "2")
    subprocess.run([ffmpeg, "-v", "error", *picture, *sound, *shape, path], check=True)
    return path


# --- who is logged in -------------------------------------------------------------------------


def test_login_asks_on_the_terminal_and_keeps_no_password(nobody: User) -> None:
    ran = nobody.on_terminal(
        "login", nobody.url, says=[("e-mail: ", EMAIL), ("password: ", PASSWORD)]
    )
    assert ran.code == 0, ran.out
    assert f"logged in as {EMAIL}" in ran.out
    assert PASSWORD not in ran.out
    kept = nobody.credentials.path
    assert kept.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in kept.read_text()
    assert nobody.run("jobs", "--json").json is not None


def test_logout_ends_the_session(nobody: User) -> None:
    nobody.on_terminal("login", nobody.url, says=[("e-mail: ", EMAIL), ("password: ", PASSWORD)])
    tokens = nobody.credentials.current()
    assert tokens is not None
    headers = {"Authorization": f"Bearer {tokens.access}"}
    assert httpx2.get(f"{nobody.url}/v1/users/me", headers=headers).status_code == 200
    assert nobody.run("logout").code == 0
    assert httpx2.get(f"{nobody.url}/v1/users/me", headers=headers).status_code == 401
    assert nobody.credentials.load() is None
    assert nobody.run("logout") == Ran(0, "", "telecine: nobody was logged in\n")


def test_a_wrong_password_is_said_and_nothing_is_kept(nobody: User) -> None:
    ran = nobody.on_terminal(
        "login", nobody.url, says=[("e-mail: ", EMAIL), ("password: ", "something else")]
    )
    assert ran.code == 3
    assert "error[login_failed]: wrong e-mail or password (request " in ran.out
    assert nobody.credentials.load() is None


def test_login_takes_a_key_from_standard_input(nobody: User) -> None:
    assert nobody.run("login", "--key", nobody.url, said=nobody.key + "\n").code == 0
    assert nobody.credentials.load() == Credentials(nobody.url, api_key=nobody.key)
    assert nobody.run("jobs").code == 0


def test_login_takes_a_key_of_any_scope(nobody: User) -> None:
    with Client(nobody.url) as client:
        client.log_in(EMAIL, PASSWORD)
        key = client.create_api_key("sends only", ["uploads:write"]).secret
    ran = nobody.run("login", "--key", nobody.url, said=key + "\n")
    assert ran.code == 0, ran.err
    assert nobody.credentials.load() == Credentials(nobody.url, api_key=key)


def test_a_key_that_is_none_is_not_kept(nobody: User) -> None:
    ran = nobody.run("login", "--key", nobody.url, said="tck_0_0\n")
    assert ran.code == 3
    assert "error[key_invalid]" in ran.err
    assert nobody.credentials.load() is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["login"], "no_credentials"),  # no terminal to ask on
        (["login", "--key"], "no_credentials"),
        (["login", "--key", "example.org"], "url_invalid"),
        (["login", "http://ada:secret@example.org"], "url_invalid"),
        (["login", "--key", "http://example.org/telecine"], "url_invalid"),
        (["jobs"], "not_logged_in"),
        (["upload", "x.mp4"], "not_logged_in"),
    ],
    ids=" ".join,
)
def test_what_is_missing_is_a_matter_of_usage(nobody: User, words: list[str], code: str) -> None:
    ran = nobody.run(*words)
    assert ran.code == 2
    assert re.fullmatch(rf"telecine: error\[{code}\]: [^\n]+\n", ran.err)


@pytest.mark.thorough
def test_a_service_that_is_not_there_is_exit_4(user: User) -> None:
    user.credentials.save(Credentials("http://127.0.0.1:9", api_key=user.key))
    ran = user.run("jobs")
    assert ran.code == 4
    assert "error[service_unreachable]" in ran.err


# --- uploads ----------------------------------------------------------------------------------


def test_upload_prints_the_asset(user: User, film: Path) -> None:
    ran = user.run("upload", film, "--title", "A Film")
    assert ran.code == 0, ran.err
    with user.client() as client:
        asset = client.asset(ran.out.strip())
    assert (asset.title, asset.filename) == ("A Film", "a film.mp4")
    assert asset.source_size_bytes == film.stat().st_size
    assert not list(user.unfinished.folder.iterdir())


def test_an_upload_goes_on_where_an_earlier_run_stopped(
    user: User, film: Path, tmp_path: Path
) -> None:
    size = film.stat().st_size
    with user.client() as client:
        begun = client.create_upload(film.name, size)
    known_as = fingerprint(film, user.url, None, {})
    user.unfinished.keep(known_as, begun.id, film)
    half = film.read_bytes()[: size // 2]
    sent = httpx2.patch(
        f"{user.url}/v1/tus/{begun.id}",
        content=half,
        headers={
            "Authorization": f"Bearer {user.key}",
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    assert sent.headers["Upload-Offset"] == str(len(half))
    upload = user.run("upload", film, "--json").json
    assert (upload["id"], upload["state"]) == (begun.id, "finished")
    with user.client() as client:
        client.download_source(upload["asset_id"], tmp_path / "source")
    assert (tmp_path / "source").read_bytes() == film.read_bytes()
    assert user.unfinished.find(known_as) is None


def test_an_upload_that_is_gone_is_begun_anew(user: User, film: Path) -> None:
    with user.client() as client:
        begun = client.create_upload(film.name, film.stat().st_size)
        client.cancel_upload(begun.id)
    user.unfinished.keep(fingerprint(film, user.url, None, {}), begun.id, film)
    upload = user.run("upload", film, "--json").json
    assert upload["id"] != begun.id
    assert upload["state"] == "finished"


@pytest.mark.thorough
def test_what_is_no_film_is_exit_3(user: User, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes\n" * 100)
    ran = user.run("upload", text)
    assert ran.code == 3
    assert "error[not_media]" in ran.err
    assert user.run("upload", text).code == 3  # and not a resumption of something refused


def test_a_file_that_is_not_there_is_usage(user: User) -> None:
    ran = user.run("upload", "/no/such/film.mp4")
    assert (ran.code, ran.out) == (2, "")
    assert "error[file_missing]" in ran.err


# --- jobs -------------------------------------------------------------------------------------


def test_submit_a_file_watch_it_and_fetch_what_came(user: User, film: Path, tmp_path: Path) -> None:
    ran = user.run(
        "submit", film, "--output", "mp3@128k", "--output", "poster", "--watch", "--json"
    )
    assert ran.code == 0, ran.err
    told = [json.loads(line) for line in ran.out.splitlines()]
    numbers = [event["number"] for event in told if "number" in event]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [event["event"] for event in told if "number" in event][-1] == "succeeded"
    assert any(event["event"] == "progress" for event in told)

    [job] = user.run("jobs", "--limit", "1", "--json").json
    assert job["state"] == "succeeded"
    assert job["outputs"] == [{"type": "mp3", "bitrate_bps": 128_000}, {"type": "poster"}]
    assert re.search(rf"^{job['id']}  .*succeeded", user.run("jobs").out, re.M)

    folder = tmp_path / "out"
    made = user.run("download", job["id"], "-o", folder, "--json").json
    assert {one["kind"] for one in made} == {"mp3", "poster", "report"}
    for one in made:
        data = Path(one["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one["sha256"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = user.run("download", job["id"], "-o", folder)
    assert again.out.split() == [one["file"] for one in made]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_submit_an_asset(user: User, film: Path) -> None:
    asset_id = user.run("upload", film).out.strip()
    job = user.run("submit", asset_id, "--preset", "poster", "--priority", "7", "--json").json
    assert (job["asset_id"], job["preset"], job["priority"]) == (asset_id, "poster", 7)


def test_on_a_terminal_it_is_shown_live(user: User, film: Path) -> None:
    ran = user.on_terminal("submit", film, "--watch")
    assert ran.code == 0, ran.out
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ran.out)
    assert "sending" in shown
    assert "100%" in shown
    assert "360p" in shown
    assert re.search(r"[0-9A-Z]{26}: succeeded, playable after \d+\.\d s", shown)
    assert f"{user.url}/" in shown
    assert "telecine download " in shown


@pytest.mark.thorough
def test_a_stream_is_played_where_it_is(user: User, film: Path, tmp_path: Path) -> None:
    ran = user.run("submit", film, "--preset", "stream", "--watch")
    assert ran.code == 0, ran.err
    job_id = ran.out.partition(":")[0]
    fetched = user.run("download", job_id, "-o", tmp_path / "out")
    assert fetched.code == 0
    assert sorted(Path(line).name for line in fetched.out.splitlines()) == [
        *("poster.jpg", "report.json"),
    ]
    assert "/master.m3u8" in fetched.err


@pytest.mark.thorough
def test_cancel(user: User, film: Path) -> None:
    with user.client() as client:
        asset_id = client.upload(film).asset_id
        assert asset_id is not None
        # Nothing of this one runs before it is cancelled: the one worker has others to do first.
        jobs = [client.submit(asset_id, preset="stream", priority=-n) for n in range(3)]
    ran = user.run("cancel", jobs[-1].id)
    assert ran.code == 0
    assert "cancel" in ran.err
    with user.client() as client:
        *_, last = [e for e in client.watch(jobs[-1].id) if isinstance(e, JobEvent)]
    assert last.type == "cancelled"
    ended = user.run("submit", asset_id, "--preset", "poster", "--watch")
    assert ended.code == 0
    again = user.run("cancel", ended.out.partition(":")[0])
    assert again.code == 3
    assert "error[job_finished]" in again.err


def test_someone_elses_job_is_not_there(user: User) -> None:
    ran = user.run("download", "01KAJ00000000000000000000J")
    assert ran.code == 3
    assert "error[job_unknown]" in ran.err


def test_a_preset_and_outputs_do_not_go_together(user: User, film: Path) -> None:
    ran = user.run("submit", film, "--preset", "mp3", "--output", "flac")
    assert ran.code == 2
    assert "error[usage]" in ran.err


SECRET = "a0b1c2d3e4f5061728394a5b6c7d8e9f"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "film.key"
    path.write_text(SECRET)
    return path


def test_a_key_goes_with_the_job_and_is_told_by_nobody(
    user: User, film: Path, key_file: Path
) -> None:
    protect = ("--protect", "aes-128", "--key-uri", "key.bin", "--key-file", key_file)
    ran = user.run("submit", film, "--output", "hls", *protect, "--json")
    assert ran.code == 0, ran.err
    [output] = ran.json["outputs"]
    assert output["protection"]["scheme"] == "aes-128"
    assert output["protection"]["key_uri"] == "key.bin"
    assert ran.json["asset_id"] in ran.err
    assert SECRET not in ran.out + ran.err
    for path in user.home.rglob("*"):
        assert path.is_dir() or SECRET not in path.read_text()
    user.run("cancel", ran.json["id"])


def test_files_beside_the_film_become_assets_first(
    user: User, film: Path, ffmpeg: str, tmp_path: Path
) -> None:
    """The first try is refused by the service: what it has is not sent to it again."""
    texts, logo = tmp_path / "film.srt", tmp_path / "logo.png"
    texts.write_text("1\n00:00:00,500 --> 00:00:01,000\nGood evening.\n")
    picture = ("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1")
    subprocess.run([ffmpeg, "-v", "error", *picture, logo], check=True)
    further = user.run("upload", film, "--title", "the other").out.strip()
    asked = ("--output", "hls", "--rung", "240", "--subtitle", f"en={texts}", "--concat", further)
    refused = user.run("submit", film, *asked, "--clip", "100-")
    assert refused.code == 3, refused.err
    sent = dict(re.findall(r"uploaded: (.+) is the asset (\w+)", refused.err))
    assert set(sent) == {str(film), str(texts)}

    mark = ("--watermark", f"{logo}:center,1,0.2")
    ran = user.run("submit", film, *asked, *mark, "--json")
    assert ran.code == 0, ran.err
    again = dict(re.findall(r"uploaded: (.+) is the asset (\w+)", ran.err))
    assert again == {**sent, str(logo): again[str(logo)]}
    assert list((user.home / "state" / "telecine" / "uploads").iterdir()) == []
    job = ran.json
    assert job["asset_id"] == sent[str(film)]
    [output] = job["outputs"]
    assert [one["asset"] for one in output["subtitles"]] == [sent[str(texts)]]
    assert output["watermark"]["asset"] == again[str(logo)]
    assert output["concat"] == [further]
    with user.client() as client:
        for _ in client.watch(job["id"]):
            pass
        assert client.job(job["id"]).state == "succeeded"


def test_a_file_that_is_not_there_is_told_before_another_is_sent(
    user: User, film: Path, tmp_path: Path
) -> None:
    ran = user.run("submit", film, "--subtitle", f"en={tmp_path}/none.srt")
    assert ran.code == 2
    assert "error[file_missing]" in ran.err
    assert "uploaded" not in ran.err
