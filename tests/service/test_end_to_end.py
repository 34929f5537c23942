"""The service from outside, by its public API alone: an account, a key, real files through each of
the four doors, a job for every kind of output, its events to the end, and every byte that comes
back held against its digest."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.conftest import CORPUS, ROOT
from tests.service.conftest import PASSWORD
from tests.service.running import Running

from telecine import client
from telecine.client import ApiError, Client, Job, JobEvent, Output, Progress

TUTORIAL = ROOT / "docs" / "tutorial" / "first-video.md"
REFERENCE = ROOT / "docs" / "reference" / "client.md"
EMAIL = "ada@example.org"

# One small real film a door; the parts' one is long enough for three parts.
REAL = {
    "tus": "video/autoed/h264-png.mp4",
    "parts": "video/bbb/bbb_1080p24_30s.mp4",
    "post": "video/phpff/portrait.MOV",
    "form": "video/mpy/no_duration.webm",
}
STREAMS = {"hls", "dash"}  # which play where they are: their playlists alone are no use elsewhere

EVERYTHING: list[dict[str, Any]] = [
    {"type": "hls"},
    {"type": "mp4", "size": "source"},
    {"type": "mp4", "size": "240p"},
    {"type": "mp3", "bitrate_bps": 128_000},
    {"type": "aac"},
    {"type": "opus"},
    {"type": "flac"},
    {"type": "poster"},
]
# What each output begins with, by the specification of its format.
MAGIC = {
    "hls": (0, b"#EXTM3U"),
    "dash": (0, b"<?xml"),
    "mp4": (4, b"ftyp"),
    "aac": (4, b"ftyp"),
    "opus": (0, b"OggS"),
    "flac": (0, b"fLaC"),
    "poster": (0, b"\xff\xd8\xff"),
    "report": (0, b"{"),
}


@dataclass(frozen=True, slots=True)
class Here:
    """A running service, and a user of it by an API key."""

    url: str
    client: Client
    key: str
    films: dict[str, Path]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="module")
def films(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real films; where the corpus is absent, clips made on the spot."""
    if (CORPUS / "manifest.tsv").is_file():
        return {door: CORPUS / path for door, path in REAL.items()}
    made = tmp_path_factory.mktemp("films") / "clip.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=2")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=2")
    shape = ("-pix_fmt", "yuv420p", "-g", "60", "-c:a", "aac", "-ac", "2")
    subprocess.run([ffmpeg, "-v", "error", *picture, *sound, *shape, made], check=True)
    longer = made.with_name("longer.mp4")
    shutil.copy(made, longer)
    with longer.open("ab") as file:  # a `free` box, so that it takes three parts
        size = 18 << 20
        file.write(size.to_bytes(4, "big") + b"free" + bytes(size - 8))
    return {"tus": made, "parts": longer, "post": made, "form": made}


@pytest.fixture(scope="module")
def here(films: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    data = tmp_path_factory.mktemp("service") / "data"
    with Running(data, workers=2) as running:
        with Client(running.base_url) as anyone:
            anyone.sign_up(EMAIL, PASSWORD, name="Ada")
            anyone.log_in(EMAIL, PASSWORD)
            assert anyone.me().email == EMAIL
            key = anyone.create_api_key("end to end").secret
        with Client(running.base_url, api_key=key) as client:
            yield Here(running.base_url, client, key, films)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def watched(here: Here, job_id: str) -> Job:
    """A job that was watched to its end: events without holes, progress that only grows."""
    told = list(here.client.watch(job_id))
    events = [event for event in told if isinstance(event, JobEvent)]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "queued"
    assert "started" in [event.type for event in events]
    fractions = [found.fraction for found in told if isinstance(found, Progress)]
    assert fractions == sorted(fractions)
    assert events[-1].type == "succeeded", events[-1]
    job = here.client.job(job_id)
    assert job.state == "succeeded"
    return job


def fetched(here: Here, job: Job, folder: Path) -> dict[str, list[Output]]:
    """What the job made, downloaded by bare GETs and held against its digest and size."""
    outputs: dict[str, list[Output]] = {}
    for output in here.client.outputs(job.id):
        answer = httpx2.get(output.url)  # the link is enough: no key
        assert answer.status_code == 200
        assert len(answer.content) == output.size_bytes
        assert hashlib.sha256(answer.content).hexdigest() == output.sha256
        outputs.setdefault(output.kind, []).append(output)
    paths = here.client.download_outputs(job.id, folder)
    assert sorted(map(sha256, paths)) == sorted(
        output.sha256 for kind in outputs.keys() - STREAMS for output in outputs[kind]
    )
    for output in (one for kind in outputs.keys() & STREAMS for one in outputs[kind]):
        here.client.download(output, folder / output.path)
    return outputs


def test_tus_and_every_output(here: Here, tmp_path: Path) -> None:
    film = here.films["tus"]
    upload = here.client.upload(film, title="By tus", outputs=EVERYTHING)
    assert upload.state == "finished"
    assert upload.job_id is not None
    job = watched(here, upload.job_id)
    outputs = fetched(here, job, tmp_path / "out")
    asked = {str(wanted["type"]) for wanted in EVERYTHING}
    assert set(outputs) == asked | {"dash", "report"}
    assert len(outputs["mp4"]) == 2
    for kind, (at, magic) in MAGIC.items():
        for output in outputs[kind]:
            data = (tmp_path / "out" / output.path).read_bytes()
            assert data[at : at + len(magic)] == magic, kind
    asset = here.client.asset(job.asset_id)
    assert (asset.state, asset.title) == ("ready", "By tus")
    here.client.download_source(asset.id, tmp_path / "source")
    assert sha256(tmp_path / "source") == sha256(film)
    plays(here, job.asset_id)


def plays(here: Here, asset_id: str) -> None:
    """Every playlist of the multivariant one answers, and every segment of those."""
    found = here.client.playback(asset_id)
    assert found.state == "ready"
    assert found.hls_url is not None
    assert found.dash_url is not None
    master = httpx2.get(found.hls_url)
    assert master.headers["Content-Type"].startswith("application/vnd.apple.mpegurl")
    media = [line for line in master.text.splitlines() if line and not line.startswith("#")]
    assert media
    for name in media:
        url = httpx2.URL(found.hls_url).join(name)
        lines = httpx2.get(url).text.splitlines()
        assert lines[-1] == "#EXT-X-ENDLIST"
        segments = [line for line in lines if line and not line.startswith("#")]
        assert segments
        assert all(httpx2.head(url.join(segment)).status_code == 200 for segment in segments)
    assert httpx2.get(found.dash_url).text.startswith("<?xml")
    assert httpx2.get(found.embed_url).status_code == 200


def test_signed_parts(here: Here, tmp_path: Path) -> None:
    film = here.films["parts"]
    size = film.stat().st_size
    upload = here.client.create_upload(film.name, size, preset="mp3", sha256=sha256(film))
    assert upload.part_count is not None
    assert upload.part_size_bytes is not None
    assert upload.part_count >= 3
    numbers = list(range(1, upload.part_count + 1))
    signed = httpx2.post(
        f"{here.url}/v1/uploads/{upload.id}/parts", json={"numbers": numbers}, headers=here.headers
    ).json()["data"]
    data = film.read_bytes()
    for part in reversed(signed):  # in any order, and by whoever has the URL
        begin = (part["number"] - 1) * upload.part_size_bytes
        body = data[begin : begin + upload.part_size_bytes]
        stored = httpx2.put(part["url"], content=body, timeout=60)
        assert stored.status_code == 200, stored.text
        assert stored.headers["ETag"].strip('"') == hashlib.sha256(body).hexdigest()
    done = httpx2.post(
        f"{here.url}/v1/uploads/{upload.id}/complete", headers=here.headers, timeout=60
    ).json()
    assert done["state"] == "finished"
    job = watched(here, done["job_id"])
    outputs = fetched(here, job, tmp_path)
    assert set(outputs) == {"mp3", "report"}
    here.client.download_source(job.asset_id, tmp_path / "source")
    assert sha256(tmp_path / "source") == sha256(film)


def test_presigned_post(here: Here, tmp_path: Path) -> None:
    film = here.films["post"]
    wish = {"on_complete": {"outputs": [{"type": "poster"}, {"type": "flac"}]}, "title": "A form"}
    signed = httpx2.post(
        f"{here.url}/v1/uploads/presigned-post", json=wish, headers=here.headers
    ).json()
    with film.open("rb") as file:
        sent = httpx2.post(
            signed["url"],
            data=signed["fields"],
            files={"file": (film.name, file, "video/quicktime")},
            timeout=60,
        )
    assert sent.status_code == 201, sent.text
    job = watched(here, sent.json()["job_id"])
    assert set(fetched(here, job, tmp_path)) == {"poster", "flac", "report"}
    assert here.client.asset(job.asset_id).title == "A form"


@pytest.mark.needs("curl")
def test_a_form_by_curl(here: Here, tmp_path: Path) -> None:
    film = here.films["form"]
    outputs = json.dumps({"outputs": [{"type": "mp4", "size": "source"}]})
    sent = subprocess.run(
        [
            *("curl", "--silent", "--show-error", f"{here.url}/v1/uploads/form"),
            *("-H", f"Authorization: Bearer {here.key}"),
            *("-F", f"file=@{film}", "-F", f"on_complete={outputs}"),
        ],
        capture_output=True,
        check=True,
    )
    upload = json.loads(sent.stdout)
    assert upload["state"] == "finished", upload
    job = watched(here, upload["job_id"])
    made = fetched(here, job, tmp_path)
    assert set(made) == {"mp4", "report"}
    here.client.download_source(job.asset_id, tmp_path / "source")
    assert sha256(tmp_path / "source") == sha256(film)


def test_a_download_is_part_by_part_and_named(here: Here, tmp_path: Path) -> None:
    upload = here.client.upload(here.films["tus"], title="Träume / 1", preset="mp3")
    assert upload.job_id is not None
    job = watched(here, upload.job_id)
    [sound] = [output for output in here.client.outputs(job.id) if output.kind == "mp3"]
    whole = httpx2.get(sound.url)
    part = httpx2.get(sound.url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{sound.size_bytes}"
    same = httpx2.get(sound.url, headers={"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304
    assert "attachment" in whole.headers["Content-Disposition"]
    assert ".mp3" in whole.headers["Content-Disposition"]
    assert whole.headers["X-Content-Type-Options"] == "nosniff"


def test_events_go_on_where_one_left(here: Here) -> None:
    upload = here.client.upload(here.films["tus"], preset="poster")
    assert upload.job_id is not None
    first = next(iter(here.client.watch(upload.job_id)))
    assert isinstance(first, JobEvent)
    rest = here.client.watch(upload.job_id, after=first.number)
    numbers = [event.number for event in rest if isinstance(event, JobEvent)]
    assert numbers == list(range(2, 2 + len(numbers)))


@pytest.mark.thorough
def test_an_upload_outlives_the_service(films: dict[str, Path], tmp_path: Path) -> None:
    film = films["parts"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Running(tmp_path / "data")
    running.words[running.words.index("--port") + 1] = str(port)
    killed: list[int] = []

    def kill(done: int, size: int) -> None:
        if not killed and done > size // 2:
            killed.append(done)
            running.stop(signal.SIGKILL)
            running.start()

    with running, Client(running.base_url) as telecine:
        telecine.sign_up(EMAIL, PASSWORD)
        telecine.log_in(EMAIL, PASSWORD)
        upload = telecine.upload(film, on_sent=kill)
        assert killed
        assert upload.asset_id is not None
        telecine.download_source(upload.asset_id, tmp_path / "source")
    assert sha256(tmp_path / "source") == sha256(film)


def test_what_is_no_media_is_refused_with_the_reason(here: Here, tmp_path: Path) -> None:
    text = tmp_path / "film.mp4"
    text.write_bytes(base64.b64encode(b"this is no film at all" * 1000))
    with pytest.raises(ApiError) as caught:
        here.client.upload(text, preset="stream")
    assert (caught.value.status, caught.value.code) == (422, "not_media")
    assert caught.value.request_id


def test_estimates_cost_nothing(here: Here) -> None:
    upload = here.client.upload(here.films["tus"])
    assert upload.asset_id is not None
    expected = here.client.estimate(upload.asset_id, preset="stream")
    assert expected["encoder_s"] > 0
    assert expected["plan"]["rungs"]
    assert list(here.client.jobs(asset_id=upload.asset_id)) == []


def test_a_job_is_cancelled_and_tried_again(here: Here) -> None:
    upload = here.client.upload(here.films["parts"], preset="stream")
    assert upload.job_id is not None
    here.client.cancel(upload.job_id)
    *_, last = [e for e in here.client.watch(upload.job_id) if isinstance(e, JobEvent)]
    assert last.type == "cancelled"
    assert here.client.outputs(upload.job_id) == ()
    again = here.client.retry(upload.job_id)
    assert again.state in ("queued", "running")
    assert here.client.cancel(upload.job_id).id == upload.job_id
    *_, last = [e for e in here.client.watch(upload.job_id) if isinstance(e, JobEvent)]
    assert last.type == "cancelled"


def test_the_whole_account_goes(here: Here) -> None:
    with Client(here.url) as client:
        client.sign_up("bob@example.org", PASSWORD)
        client.log_in("bob@example.org", PASSWORD)
        key = client.create_api_key("bob's", ["jobs:read"]).secret
        client.delete_me(PASSWORD)
    jobs: dict[str, Any] = {"headers": {"Authorization": f"Bearer {key}"}}
    assert httpx2.get(f"{here.url}/v1/jobs", **jobs).status_code == 401


# --- the tutorial -----------------------------------------------------------------------------


def tutorial(here: Here, heading: str, language: str) -> str:
    """The commands under a heading of the tutorial, for this service, user and film."""
    text = TUTORIAL.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    block = section.split(f"```{language}\n")[1].split("```")[0]
    for word, ours in (
        ("http://127.0.0.1:8000", here.url),
        ("you@example.org", EMAIL),
        ("a password of yours", PASSWORD),
        ("talk.mov", str(here.films["tus"])),
    ):
        assert word in block
        block = block.replace(word, ours)
    return block


@pytest.mark.needs("curl", "bash")
def test_the_tutorial_by_curl(here: Here) -> None:
    script = tutorial(here, "With curl", "sh")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "event: succeeded" in done.stdout
    page = httpx2.get(done.stdout.split()[-1])
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.status_code == 200


@pytest.mark.thorough
def test_the_tutorial_by_python(here: Here) -> None:
    script = tutorial(here, "With Python", "python")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert httpx2.get(done.stdout.split()[-1]).status_code == 200


def test_the_reference_names_every_call_and_error() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    calls = {name for name in vars(Client) if not name.startswith("_")} - {"close", "url"}
    assert calls == set(re.findall(r"`(\w+)\(", text))
    errors = {
        name
        for name in client.__all__
        if isinstance(found := getattr(client, name), type) and issubclass(found, Exception)
    }
    assert errors - {"ClientError"} == set(re.findall(r"^\| `([A-Z]\w+)` \|", text, re.M))
