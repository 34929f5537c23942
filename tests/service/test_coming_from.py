"""Every row of docs/howto/coming-from.md that says "built", run. The row's id is the test's name;
`Site` is a service with a user and finished jobs, `Plain` one with settings of its own and without
workers, so that what waits stays waiting until a test runs a task."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import av
import httpx2
import pytest
from PIL import Image
from tests.processes import tree, workers_of
from tests.service.conftest import PASSWORD
from tests.service.pictures import (
    BLUE,
    QUARTERS,
    alike,
    encoded,
    opened,
    pixel,
    quarters,
    same_corners,
)
from tests.service.running import Running
from tests.service.working import working
from tests.waiting import until

from telecine.engine.tools import Tools
from telecine.service.assembly import open_services
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.worker import run_worker

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "coming-from.md"
TELECINE = str(Path(sys.executable).with_name("telecine"))
ROW = re.compile(r"^\| (?:`(\w+)`|–) \| .+ \| .+ \| (built|later|replaced|not ours) \|$")
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
FINAL = ("succeeded", "failed", "cancelled")
SCOPES = ["assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write"]
LIMIT = 1_000_000  # bytes of an upload to `plain`
ADA = "ada@example.org"
TUS = {"Tus-Resumable": "1.0.0"}
Json = dict[str, Any]

_numbers = count(1)


# --- the page (test_coming_from_rows.py holds the tests against it) ----------------------------


def rows() -> list[tuple[str, str]]:
    """(id, state) of each row."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not line.startswith(("| id |", "|---")):
            row = ROW.match(line)
            assert row is not None, f"not a row: {line}"
            found.append((row[1] or "", row[2]))
    return found


# --- two services -----------------------------------------------------------------------------


@dataclass
class Service:
    """A running service and Ada, who has a session and an API key there."""

    running: Running
    http: httpx2.Client
    tokens: Json = field(default_factory=dict)
    key: str = ""

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    @property
    def by_key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def call(self, method: str, path: str, status: int, **how: Any) -> Any:
        """The answer's JSON; by Ada's key, unless headers say otherwise."""
        answer = self.http.request(method, path, **{"headers": self.by_key, **how})
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def sign_up(self, email: str | None = None) -> Json:
        """A new user: `email`, and the `headers` of a session."""
        email = email or f"user{next(_numbers)}@example.org"
        body = {"email": email, "password": PASSWORD}
        self.call("POST", "/v1/users", 201, json=body, headers={})
        return self.log_in(email)

    def log_in(self, email: str = ADA) -> Json:
        """Another session of a user's: `email`, and its `headers`."""
        body = {"email": email, "password": PASSWORD}
        tokens = self.call("POST", "/v1/sessions", 201, json=body, headers={})
        return {
            **tokens,
            "email": email,
            "headers": {"Authorization": f"Bearer {tokens['access_token']}"},
        }

    def upload(self, film: Path, headers: dict[str, str] | None = None, **fields: str) -> Json:
        """By the form."""
        with film.open("rb") as file:
            found: Json = self.call(
                "POST",
                "/v1/uploads/form",
                201,
                data=fields,
                files={"file": (film.name, file, "video/mp4")},
                headers=headers or self.by_key,
                timeout=120,
            )
        return found

    def submit(self, asset_id: str, *outputs: Json, **more: Any) -> Json:
        body = {"asset_id": asset_id, "outputs": list(outputs), **more}
        found: Json = self.call("POST", "/v1/jobs", 202, json=body)
        return found

    def ended(self, job_id: str) -> Json:
        """The job when it has ended, by listening to it."""
        path = f"/v1/jobs/{job_id}/events"
        deadline = time.monotonic() + 120
        with self.http.stream("GET", path, headers=self.by_key, timeout=120) as stream:
            for _ in stream.iter_lines():
                assert time.monotonic() < deadline, "nobody works on it"
        job: Json = self.call("GET", f"/v1/jobs/{job_id}", 200)
        assert job["state"] in FINAL
        return job

    def outputs(self, job_id: str) -> dict[str, Json]:
        found = self.call("GET", f"/v1/jobs/{job_id}/outputs", 200)["data"]
        return {output["kind"]: output for output in found}

    def fetch(self, job_id: str, kind: str) -> bytes:
        return httpx2.get(self.outputs(job_id)[kind]["url"]).content

    def rungs(self, asset_id: str, *outputs: Json) -> tuple[list[str], dict[str, str]]:
        """The rungs of pictures that such a job would make, and why others are left out."""
        body = {"asset_id": asset_id, "outputs": list(outputs)}
        plan = self.call("POST", "/v1/jobs/estimate", 200, json=body)["plan"]
        made = [rung["name"] for rung in plan["rungs"] if rung["kind"] == "video"]
        return made, {rung["name"]: rung["reason"] for rung in plan["dropped"]}


@dataclass
class Films:
    """Clips of one or two seconds."""

    full_hd: Path
    hd: Path
    odd: Path
    tiny: Path
    long: Path
    song: Path


@pytest.fixture(scope="module")
def films(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")

    def make(name: str, size: str, seconds: int = 1, rate: int = 24) -> Path:
        sources = (f"testsrc2=size={size}:rate={rate}", "sine=frequency=440:sample_rate=48000")
        words = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
        shape = ("-pix_fmt", "yuv420p", "-preset", "ultrafast", "-g", "48", "-ac", "2")
        path = folder / name
        words += ["-t", str(seconds), *shape, "-c:a", "aac", str(path)]
        subprocess.run([ffmpeg, "-v", "error", *words], check=True)
        return path

    song = folder / "song.ogg"
    sine = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1")
    subprocess.run([ffmpeg, "-v", "error", *sine, "-c:a", "libopus", str(song)], check=True)
    return Films(
        full_hd=make("full hd.mp4", "1920x1080"),
        hd=make("hd.mp4", "1280x720"),
        odd=make("odd.mp4", "658x370"),
        tiny=make("tiny.mp4", "160x120"),
        long=make("long.mp4", "160x120", seconds=60, rate=10),
        song=song,
    )


@dataclass
class Site(Service):
    """With two workers. `asset` was made into a stream, files, sound and a poster by `job`.
    `stranger` has a session, and owns nothing."""

    asset: Json = field(default_factory=dict)
    job: Json = field(default_factory=dict)
    upload_id: str = ""
    stranger: Json = field(default_factory=dict)


EVERYTHING = [
    {"type": "hls", "rungs": [2160, 720, 480, 240]},
    {"type": "mp4", "size": "480p"},
    {"type": "mp3", "bitrate_bps": 128_000},
    {"type": "poster"},
]


@pytest.fixture(scope="module")
def site(films: Films, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        Running(tmp_path_factory.mktemp("site") / "data", workers=2) as running,
        httpx2.Client(base_url=running.base_url, timeout=60) as http,
    ):
        here = Site(running, http)
        here.tokens = here.sign_up(ADA)
        body = {"name": "Ada's", "scopes": SCOPES}
        made = here.call("POST", "/v1/api-keys", 201, json=body, headers=here.bearer)
        here.key = made["secret"]
        wish = json.dumps({"outputs": EVERYTHING, "metadata": {"order": "17"}})
        upload = here.upload(films.hd, on_complete=wish, title="A Film")
        here.upload_id = upload["id"]
        here.job = here.ended(upload["job_id"])
        assert here.job["state"] == "succeeded", here.job
        public = {"visibility": "public", "description": "About nothing."}
        here.asset = here.call("PATCH", f"/v1/assets/{upload['asset_id']}", 200, json=public)
        here.stranger = here.sign_up()
        yield here


@dataclass
class Plain(Service):
    """Over TLS, without workers, its database elsewhere, with small limits."""

    tools: Tools = field(kw_only=True)
    database: Path = Path()
    trusted: ssl.SSLContext | bool = True

    @contextmanager
    def services(self) -> Iterator[Services]:
        """What a worker of its own has: the same data folder, database and limit."""
        database = f"sqlite:///{self.database}"
        settings = Settings(data=self.running.data, database=database, max_running_jobs=1)
        found = open_services(settings, self.tools)
        yield found
        found.close()

    def work_once(self, tasks: int = 1) -> None:
        """Run so many tasks."""
        with self.services() as services:
            for _ in range(tasks):
                assert run_worker(services, "w", once=True, stop=threading.Event()) == 1

    def work_off(self, job_id: str) -> Json:
        """Work until the job has ended."""
        with self.services() as services, working(services):
            return self.ended(job_id)

    def drop(self, *job_ids: str) -> None:
        """Nothing is left to do for the next test."""
        for job_id in job_ids:
            self.call("POST", f"/v1/jobs/{job_id}/cancel", 200)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Iterator[Plain]:
    folder = tmp_path_factory.mktemp("plain")
    certificate, private = _certificate(folder)
    database = folder / "elsewhere" / "rows.db"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Running(
        folder / "data",
        *("--tls-cert", str(certificate), "--tls-key", str(private)),
        *("--database", f"sqlite:///{database}"),
        environment={
            "TELECINE_ACCESS_TTL_S": "77",
            "TELECINE_SESSION_TTL_S": "3600",
            "TELECINE_MAX_UPLOAD_BYTES": str(LIMIT),
            "TELECINE_MAX_RUNNING_JOBS": "1",
        },
    )
    at = running.words.index("--port") + 1
    running.words[at] = str(port)
    trusted = ssl.create_default_context(cafile=str(certificate))
    # No idle connections: over TLS a service that stops waits for those to say goodbye.
    how: Json = {"verify": trusted, "limits": httpx2.Limits(max_keepalive_connections=0)}
    with running, httpx2.Client(base_url=running.base_url, timeout=60, **how) as http:
        assert running.base_url == f"https://127.0.0.1:{port}"
        here = Plain(running, http, tools=tools, database=database, trusted=trusted)
        here.tokens = here.sign_up(ADA)
        body = {"name": "Ada's", "scopes": SCOPES}
        made = here.call("POST", "/v1/api-keys", 201, json=body, headers=here.bearer)
        here.key = made["secret"]
        yield here


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


# --- 1. a media API in Go on AWS: endpoints ---------------------------------------------------


def test_api_create_user(site: Site) -> None:
    body = {"email": "new@example.org", "password": PASSWORD, "name": "New"}
    made = site.call("POST", "/v1/users", 201, json=body, headers={})
    assert (made["email"], made["name"], made["role"]) == ("new@example.org", "New", "user")
    assert PASSWORD not in json.dumps(made)


def test_api_delete_user(site: Site, films: Films) -> None:
    who = site.sign_up()
    body = {"name": "k", "scopes": SCOPES}
    key = site.call("POST", "/v1/api-keys", 201, json=body, headers=who["headers"])["secret"]
    by_key = {"Authorization": f"Bearer {key}"}
    asset_id = site.upload(films.tiny, headers=by_key)["asset_id"]
    gone = {"json": {"password": PASSWORD}, "headers": who["headers"]}
    site.call("DELETE", "/v1/users/me", 204, **gone)
    site.call("GET", "/v1/users/me", 401, headers=who["headers"])
    site.call("GET", f"/v1/assets/{asset_id}", 401, headers=by_key)
    log_in = {"email": who["email"], "password": PASSWORD}
    site.call("POST", "/v1/sessions", 401, json=log_in, headers={})


def test_api_log_in(site: Site) -> None:
    assert site.log_in()["token_type"] == "Bearer"
    wrong = {"email": "ada@example.org", "password": "something else"}
    site.call("POST", "/v1/sessions", 401, json=wrong, headers={})


def test_api_current_session(site: Site) -> None:
    who = site.log_in()
    current = site.call("GET", "/v1/sessions/current", 200, headers=who["headers"])
    assert current["id"] == who["session"]["id"]
    assert current["current"] is True


def test_api_all_sessions(site: Site) -> None:
    who = site.sign_up()
    body = {"email": who["email"], "password": PASSWORD}
    other = site.call("POST", "/v1/sessions", 201, json=body, headers={})
    found = site.call("GET", "/v1/sessions", 200, headers=who["headers"])["data"]
    assert {session["id"]: session["current"] for session in found} == {
        who["session"]["id"]: True,
        other["session"]["id"]: False,
    }


def test_api_log_out(site: Site) -> None:
    who = site.log_in()
    site.call("DELETE", "/v1/sessions/current", 204, headers=who["headers"])
    site.call("GET", "/v1/users/me", 401, headers=who["headers"])


def test_api_log_out_everywhere(site: Site) -> None:
    who = site.sign_up()
    body = {"email": who["email"], "password": PASSWORD}
    other = site.call("POST", "/v1/sessions", 201, json=body, headers={})
    site.call("DELETE", "/v1/sessions", 204, headers=who["headers"])
    for token in (who["access_token"], other["access_token"]):
        site.call("GET", "/v1/users/me", 401, headers={"Authorization": f"Bearer {token}"})


def test_api_get_keys(site: Site) -> None:
    for name in ("one", "two"):
        body = {"name": name, "scopes": ["jobs:read"]}
        site.call("POST", "/v1/api-keys", 201, json=body, headers=site.stranger["headers"])
    found = site.call("GET", "/v1/api-keys", 200, headers=site.stranger["headers"])["data"]
    assert {key["name"] for key in found} == {"one", "two"}
    assert all("secret" not in key and key["scopes"] == ["jobs:read"] for key in found)


def test_api_create_key(site: Site) -> None:
    assert site.key.startswith("tck_")
    site.call("GET", "/v1/jobs", 200)


def test_api_revoke_key(site: Site) -> None:
    body = {"name": "short-lived", "scopes": ["jobs:read"]}
    made = site.call("POST", "/v1/api-keys", 201, json=body, headers=site.bearer)
    by_key = {"Authorization": f"Bearer {made['secret']}"}
    site.call("GET", "/v1/jobs", 200, headers=by_key)
    site.call("DELETE", f"/v1/api-keys/{made['id']}", 204, headers=site.bearer)
    site.call("GET", "/v1/jobs", 401, headers=by_key)


def open_upload(service: Service, film: Path, **more: Any) -> tuple[Json, str]:
    """An upload, and a signed URL for its only part."""
    body = {"filename": film.name, "size_bytes": film.stat().st_size, **more}
    upload = service.call("POST", "/v1/uploads", 201, json=body)
    numbers = {"numbers": [1]}
    signed = service.call("POST", f"/v1/uploads/{upload['id']}/parts", 200, json=numbers)
    return upload, signed["data"][0]["url"]


def test_api_create_upload(site: Site, films: Films) -> None:
    upload, url = open_upload(site, films.tiny)
    assert httpx2.put(url, content=films.tiny.read_bytes()).status_code == 200
    done = site.call("POST", f"/v1/uploads/{upload['id']}/complete", 200)
    assert done["state"] == "finished"
    assert ULID.fullmatch(done["asset_id"])


def test_api_create_job(site: Site) -> None:
    job = site.submit(site.asset["id"], {"type": "poster"})
    assert job["state"] in ("queued", "running")
    assert site.ended(job["id"])["state"] == "succeeded"


def test_api_job_status(site: Site) -> None:
    job = site.call("GET", f"/v1/jobs/{site.job['id']}", 200)
    assert job["state"] == "succeeded"
    progress = job["progress"]
    assert progress["fraction"] == 1
    assert set(progress["rungs"]) >= {"720p", "480p", "240p"}
    assert {"stages", "speed", "eta_s", "queue_position"} <= set(progress)


def test_api_download(site: Site) -> None:
    for output in site.outputs(site.job["id"]).values():
        data = httpx2.get(output["url"]).content
        assert "/d/" in output["url"]
        assert len(data) == output["size_bytes"]
        assert hashlib.sha256(data).hexdigest() == output["sha256"]


# --- 1: transformations -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_of_painting(site: Site) -> dict[str, Image.Image]:
    """One job with each of the six pieces of work, on a picture of four quarters."""

    def wish(name: str, *ops: Json, **more: str) -> Json:
        return {"type": "image", "name": name, "ops": list(ops), **more}

    def uploaded(name: str, picture: Image.Image) -> str:
        files = {"file": (name, encoded(picture, "PNG"), "image/png")}
        found = site.call("POST", "/v1/uploads/form", 201, files=files)
        return str(found["asset_id"])

    mark = uploaded("mark.png", Image.new("RGB", (30, 30), (0, 0, 0)))
    job = site.submit(
        uploaded("painting.png", quarters(400, 300)),
        wish("resize", {"op": "resize", "w": 200}),
        wish("force", {"op": "resize", "w": 500, "h": 500, "fit": "fill"}),
        wish("rotate", {"op": "rotate", "angle": 180}),
        wish("convert", format="gif"),
        wish("watermark", {"op": "watermark", "image": mark, "position": "center"}),
        wish("thumbnail", {"op": "thumbnail", "w": 90, "h": 90}),
    )
    assert site.ended(job["id"])["state"] == "succeeded"
    found = site.call("GET", f"/v1/jobs/{job['id']}/outputs", 200)["data"]
    return {
        one["path"].partition(".")[0]: opened(httpx2.get(one["url"]).content)
        for one in found
        if one["kind"] == "image"
    }


def test_api_image_resize(made_of_painting: dict[str, Image.Image]) -> None:
    assert made_of_painting["resize"].size == (200, 150)
    same_corners(made_of_painting["resize"], QUARTERS)


def test_api_image_force_resize(made_of_painting: dict[str, Image.Image]) -> None:
    assert made_of_painting["force"].size == (500, 500)
    same_corners(made_of_painting["force"], QUARTERS)


def test_api_image_rotate(made_of_painting: dict[str, Image.Image]) -> None:
    opposite = dict(zip(QUARTERS, reversed(QUARTERS.values()), strict=True))
    same_corners(made_of_painting["rotate"], opposite)


def test_api_image_convert_format(made_of_painting: dict[str, Image.Image]) -> None:
    assert made_of_painting["convert"].format == "GIF"
    same_corners(made_of_painting["convert"], QUARTERS, by=24)


def test_api_image_watermark(made_of_painting: dict[str, Image.Image]) -> None:
    marked = made_of_painting["watermark"].convert("RGB")
    assert alike(pixel(marked, (200, 150)), (0, 0, 0))
    assert alike(pixel(marked, (140, 150)), BLUE)
    same_corners(marked, QUARTERS)


def test_api_image_thumbnail(site: Site, made_of_painting: dict[str, Image.Image]) -> None:
    assert made_of_painting["thumbnail"].size == (90, 90)
    presets = site.call("GET", "/v1/presets", 200)["data"]
    assert "thumbnail" in [preset["name"] for preset in presets]


def test_api_thumbnail(site: Site) -> None:
    picture = site.fetch(site.job["id"], "poster")
    assert picture.startswith(b"\xff\xd8\xff")
    with av.open(BytesIO(picture)) as opened:
        assert opened.streams.video[0].width == 1280


def test_api_transcode(site: Site) -> None:
    wish = {"type": "hls", "rungs": [2160, 1080, 720, 480]}
    made, _ = site.rungs(site.asset["id"], wish)
    assert made == ["720p", "480p"]
    assert any(
        "2160p asked" in warning and "nothing is enlarged" in warning
        for warning in site.job["warnings"]
    )
    facts = site.outputs(site.job["id"])["hls"]["facts"]
    heights = [found["height"] for found in facts["renditions"] if "height" in found]
    assert heights == [720, 480, 240]


def test_api_transcode_resolution(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "480p.mp4"
    path.write_bytes(site.fetch(site.job["id"], "mp4"))
    with av.open(str(path)) as opened:
        video = opened.streams.video[0]
        assert video.codec_context.name == "h264"
        assert sorted((video.width, video.height)) == [480, 854]


def variants(site: Site) -> list[httpx2.URL]:
    """The media playlists of the shared film."""
    playback = site.call("GET", f"/v1/assets/{site.asset['id']}/playback", 200, headers={})
    url = httpx2.URL(playback["hls_url"])
    lines = httpx2.get(url).text.splitlines()
    return [url.join(line) for line in lines if line and not line.startswith("#")]


def test_api_streamable(site: Site) -> None:
    playlists = variants(site)
    assert len(playlists) == 3
    playback = site.call("GET", f"/v1/assets/{site.asset['id']}/playback", 200, headers={})
    names = set()
    for url in playlists:
        text = httpx2.get(url).text
        segments = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert httpx2.get(url.join(segments[0])).status_code == 200
        names |= {str(url.join(segment)) for segment in segments}
    manifest = httpx2.get(playback["dash_url"]).text
    assert "<MPD" in manifest
    assert "video/720p/" in manifest
    assert any("/video/720p/" in name for name in names)


# --- 1: workflow and promises -----------------------------------------------------------------


def test_api_account_then_key(site: Site, films: Films) -> None:
    who = site.sign_up()
    body = {"name": "k", "scopes": SCOPES}
    key = site.call("POST", "/v1/api-keys", 201, json=body, headers=who["headers"])["secret"]
    by_key = {"Authorization": f"Bearer {key}"}
    upload = site.upload(films.tiny, headers=by_key)
    job = {"asset_id": upload["asset_id"], "preset": "poster"}
    site.call("POST", "/v1/jobs", 202, json=job, headers=by_key)
    site.call("POST", "/v1/api-keys", 403, json=body, headers=by_key)  # a key makes no keys


def test_api_direct_upload(site: Site, films: Films) -> None:
    _, url = open_upload(site, films.tiny)
    data = films.tiny.read_bytes()
    expires = int(httpx2.URL(url).params["signature"].partition(".")[0])
    assert 0 < expires - datetime.now(UTC).timestamp() < 3600
    longer = url.replace(str(expires), str(expires + 3600))
    assert httpx2.put(longer, content=data).status_code == 403
    assert httpx2.put(url, content=data).status_code == 200


def test_api_upload_starts_job(site: Site, films: Films) -> None:
    upload, url = open_upload(site, films.tiny, on_complete={"preset": "poster"})
    httpx2.put(url, content=films.tiny.read_bytes())
    done = site.call("POST", f"/v1/uploads/{upload['id']}/complete", 200)
    again = site.call("POST", f"/v1/uploads/{upload['id']}/complete", 200)
    assert done["job_id"] == again["job_id"]
    job = site.ended(done["job_id"])
    assert (job["asset_id"], job["state"]) == (done["asset_id"], "succeeded")


def test_api_job_states(plain: Plain, films: Films) -> None:
    asset_id = plain.upload(films.tiny)["asset_id"]
    job = plain.submit(asset_id, {"type": "poster"})
    assert job["state"] == "queued"
    plain.work_once()
    assert plain.call("GET", f"/v1/jobs/{job['id']}", 200)["state"] == "running"
    assert plain.work_off(job["id"])["state"] == "succeeded"
    other = plain.submit(asset_id, {"type": "poster"})
    plain.drop(other["id"])
    assert plain.call("GET", f"/v1/jobs/{other['id']}", 200)["state"] == "cancelled"
    document = plain.call("GET", "/openapi.json", 200)
    states = document["components"]["schemas"]["JobShown"]["properties"]["state"]["enum"]
    assert set(states) == {"queued", "running", *FINAL}


def test_api_result_link(site: Site) -> None:
    output = site.outputs(site.job["id"])["mp3"]
    whole = httpx2.get(output["url"])
    part = httpx2.get(output["url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert whole.headers["ETag"]
    assert ".mp3" in whole.headers["Content-Disposition"]
    expires = datetime.fromisoformat(output["expires_at"])
    assert timedelta() < expires - datetime.now(UTC) <= timedelta(hours=1)
    changed = output["url"].replace("/d/", "/d/9")
    assert httpx2.get(changed).status_code == 403


def test_api_asynchronous(plain: Plain, films: Films) -> None:
    asset_id = plain.upload(films.tiny)["asset_id"]
    job = plain.submit(asset_id, {"type": "poster"})  # nobody works here: this waits for nothing
    path = f"/v1/jobs?state=queued&asset_id={asset_id}"
    assert [found["id"] for found in plain.call("GET", path, 200)["data"]] == [job["id"]]
    plain.drop(job["id"])


def heard(site: Site, job_id: str, **headers: str) -> list[tuple[str, str]]:
    """(id, event) of the numbered events that a stream tells."""
    path = f"/v1/jobs/{job_id}/events"
    told = []
    with site.http.stream("GET", path, headers={**site.by_key, **headers}, timeout=120) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        number = ""
        for line in stream.iter_lines():
            if line.startswith("id: "):
                number = line.removeprefix("id: ")
            elif line.startswith("event: ") and number:
                told.append((number, line.removeprefix("event: ")))
                number = ""
    return told


def test_api_told_at_the_end(site: Site) -> None:
    job = site.submit(site.asset["id"], {"type": "poster"})
    told = heard(site, job["id"])
    assert [number for number, _ in told] == [str(n) for n in range(1, len(told) + 1)]
    assert told[0][1] == "queued"
    assert told[-1][1] == "succeeded"
    assert heard(site, job["id"], **{"Last-Event-ID": "2"}) == told[2:]


def test_api_concurrency(site: Site, films: Films) -> None:
    asset_id = site.upload(films.long)["asset_id"]
    body = {"asset_id": asset_id, "outputs": [{"type": "hls", "top": "encode"}]}
    plan = site.call("POST", "/v1/jobs/estimate", 200, json=body)["plan"]
    assert plan["chunks"] >= 2
    job = site.submit(asset_id, {"type": "hls", "top": "encode"})
    assert site.ended(job["id"])["state"] == "succeeded"
    assert len(workers_of(site.running.pid)) >= 2
    begun = [line for line in logged(site) if line.get("event") == "task begins"]
    assert len({line["worker"] for line in begun if line["job_id"] == job["id"]}) >= 2


def test_api_isolation(site: Site) -> None:
    ready = site.call("GET", "/readyz", 200, headers={})
    assert ready["sandbox"]["status"] == "ok"
    assert ready["sandbox"]["tier"] in ("bwrap", "landlock", "seccomp")


def test_api_jwt_sessions(site: Site) -> None:
    who = site.log_in()
    head, body, _ = who["access_token"].split(".")
    padded = [part + "=" * (-len(part) % 4) for part in (head, body)]
    header, claims = (json.loads(base64.urlsafe_b64decode(part)) for part in padded)
    assert header["alg"] not in ("none", "")
    assert claims["exp"] > datetime.now(UTC).timestamp()
    site.call("DELETE", "/v1/sessions/current", 204, headers=who["headers"])
    site.call("GET", "/v1/users/me", 401, headers=who["headers"])  # long before it expires


def test_api_key_security(site: Site) -> None:
    body = {"name": "reader", "scopes": ["jobs:read"], "expires_in_s": 3600}
    made = site.call("POST", "/v1/api-keys", 201, json=body, headers=site.bearer)
    by_key = {"Authorization": f"Bearer {made['secret']}"}
    site.call("GET", "/v1/jobs", 200, headers=by_key)
    upload = {"filename": "f.mp4", "size_bytes": 1}
    refused = site.call("POST", "/v1/uploads", 403, json=upload, headers=by_key)
    assert refused["code"] == "scope_missing"
    found = site.call("GET", "/v1/api-keys", 200, headers=site.bearer)["data"]
    [listed] = [key for key in found if key["id"] == made["id"]]
    assert listed["expires_at"] is not None
    assert listed["last_used_at"] is not None
    kept = b"".join(path.read_bytes() for path in site.running.data.glob("telecine.db*"))
    assert made["prefix"].encode() in kept
    assert made["secret"].encode() not in kept


def test_api_https(plain: Plain) -> None:
    assert plain.http.get("/healthz").url.scheme == "https"
    with pytest.raises(httpx2.TransportError):
        httpx2.get(plain.running.base_url.replace("https", "http") + "/healthz")


# --- 1: parts ---------------------------------------------------------------------------------


def kept_files(site: Site) -> dict[str, bytes]:
    """Everything in the store, by its path."""
    folder = site.running.data / "objects" / "kept"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_api_buckets(site: Site, films: Films) -> None:
    source, poster = films.hd.read_bytes(), site.fetch(site.job["id"], "poster")
    found = kept_files(site).items()
    sources = {path.split("/")[0] for path, data in found if data == source}
    posters = {path.split("/")[0] for path, data in found if data == poster}
    assert sources
    assert posters
    assert sources.isdisjoint(posters)


def tables(database: Path) -> set[str]:
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = {str(name) for (name,) in found}
    connection.close()
    return names


def test_api_database(site: Site) -> None:
    assert tables(site.running.data / "telecine.db") >= {"users", "api_keys", "sessions", "jobs"}


def test_api_migrations(site: Site) -> None:
    assert "alembic_version" in tables(site.running.data / "telecine.db")
    words = [TELECINE, "admin", "--data", str(site.running.data), "migrate"]
    assert subprocess.run(words, timeout=60, check=False).returncode == 0  # nothing left to do
    assert site.call("GET", "/readyz", 200, headers={})["database"] == "ok"


def test_api_start(site: Site) -> None:
    assert site.call("GET", "/healthz", 200, headers={})["status"] == "alive"
    assert "serve" in site.running.words


def test_api_postman(site: Site) -> None:
    document = site.call("GET", "/openapi.json", 200, headers={})
    assert document["openapi"].startswith("3.1")
    operations = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post", "put", "patch", "delete", "head", "options")
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) > 40
    page = site.http.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)


# --- 1: settings ------------------------------------------------------------------------------


def test_api_setting_port(plain: Plain) -> None:
    words = plain.running.words
    port = words[words.index("--port") + 1]
    assert port != "0"
    assert plain.http.base_url.port == int(port)


def test_api_setting_database(plain: Plain) -> None:
    assert tables(plain.database) >= {"users", "api_keys", "sessions", "jobs"}
    assert not (plain.running.data / "telecine.db").exists()


def test_api_setting_secret(site: Site, plain: Plain) -> None:
    one, other = (service.running.data / "secret.key" for service in (site, plain))
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert len(one.read_text().strip()) >= 64
    assert one.read_text() != other.read_text()
    plain.call("GET", "/v1/users/me", 401, headers=site.bearer)


def test_api_setting_ttl(plain: Plain) -> None:
    assert plain.tokens["expires_in_s"] == 77
    expires = datetime.fromisoformat(plain.tokens["session"]["expires_at"])
    assert expires - datetime.now(UTC) <= timedelta(hours=1)


def test_api_setting_transformations(site: Site, films: Films, tmp_path: Path) -> None:
    misnamed = tmp_path / "song.mp3"
    misnamed.write_bytes(films.tiny.read_bytes())
    asset_id = site.upload(misnamed)["asset_id"]
    asset = site.call("GET", f"/v1/assets/{asset_id}", 200)
    assert asset["media"]["video"][0]["codec"] == "h264"
    assert site.job["outputs"][1] == {"type": "mp4", "size": "480p"}


# --- 2. a transcoding service in Go with Redis and MongoDB ------------------------------------


def test_queue_sign_up(site: Site) -> None:
    assert ULID.fullmatch(site.sign_up()["session"]["id"])


def test_queue_log_in(site: Site) -> None:
    who = site.log_in()
    site.call("GET", "/v1/users/me", 200, headers=who["headers"])


def test_queue_presigned_url(site: Site, films: Films) -> None:
    body = {"filename": "f.mp4", "size_bytes": films.tiny.stat().st_size}
    upload = site.call("POST", "/v1/uploads", 201, json=body, headers=site.bearer)
    path = f"/v1/uploads/{upload['id']}/parts"
    signed = site.call("POST", path, 200, json={"numbers": [1]}, headers=site.bearer)
    url = signed["data"][0]["url"]
    assert httpx2.put(url, content=films.tiny.read_bytes()).status_code == 200


def test_queue_session_needed(site: Site) -> None:
    body = {"filename": "f.mp4", "size_bytes": 1}
    assert site.call("POST", "/v1/uploads", 401, json=body, headers={})["code"] == "login_needed"


@contextmanager
def by_cookies(plain: Plain) -> Iterator[tuple[httpx2.Client, httpx2.Response]]:
    """A browser, logged in, and the answer to that. Over TLS, because the cookies are Secure."""
    body = {"email": ADA, "password": PASSWORD, "cookies": True}
    url = plain.running.base_url
    with httpx2.Client(base_url=url, verify=plain.trusted, timeout=60) as browser:
        yield browser, browser.post("/v1/sessions", json=body)


def test_queue_session_auth(plain: Plain) -> None:
    with by_cookies(plain) as (browser, answer):
        assert answer.json()["access_token"] is None
        assert browser.get("/v1/sessions/current").status_code == 200
        csrf = {"X-CSRF-Token": answer.json()["csrf_token"], "Origin": plain.running.base_url}
        assert browser.delete("/v1/sessions/current", headers=csrf).status_code == 204
        assert browser.get("/v1/sessions/current").status_code == 401


def test_queue_secure_upload(site: Site, films: Films) -> None:
    upload, _ = open_upload(site, films.tiny)
    _, other = open_upload(site, films.tiny)
    signature = httpx2.URL(other).params["signature"]
    forged = f"{site.running.base_url}/v1/uploads/{upload['id']}/parts/1?signature={signature}"
    assert httpx2.put(forged, content=films.tiny.read_bytes()).status_code == 403
    assert httpx2.put(other, content=b"another length").status_code == 403


def test_queue_event_driven(site: Site) -> None:
    asset = site.call("GET", f"/v1/assets/{site.asset['id']}", 200)
    video = asset["media"]["video"][0]
    assert (video["width"], video["height"], video["frame_rate"]) == (1280, 720, 24)
    assert asset["duration_s"] == pytest.approx(1, abs=0.1)


def test_queue_worker_polls(plain: Plain, films: Films) -> None:
    job = plain.submit(plain.upload(films.tiny)["asset_id"], {"type": "poster"})
    where = ("--data", plain.running.data, "--database", f"sqlite:///{plain.database}")
    environment = {**os.environ, **plain.running.environment}
    with subprocess.Popen([TELECINE, "worker", *where], env=environment) as worker:
        try:
            assert plain.ended(job["id"])["state"] == "succeeded"
        finally:
            worker.terminate()


def test_queue_five_at_once(plain: Plain, films: Films) -> None:
    assert Settings.model_fields["max_running_jobs"].default == 5
    asset_id = plain.upload(films.tiny)["asset_id"]
    jobs = [plain.submit(asset_id, {"type": "poster"})["id"] for _ in range(2)]
    plain.work_once(2)  # here the limit is one: the second task is of the same job
    first, second = (plain.call("GET", f"/v1/jobs/{job}", 200) for job in jobs)
    assert second["state"] == "queued"
    assert second["progress"]["queue_position"] == 1
    assert first["state"] == "running"
    plain.drop(*reversed(jobs))


def test_queue_three_formats(site: Site, films: Films) -> None:
    asset_id = site.upload(films.full_hd)["asset_id"]
    made, _ = site.rungs(asset_id, {"type": "hls", "rungs": [1080, 720, 360]})
    assert made == ["1080p", "720p", "360p"]
    files = [{"type": "mp4", "size": size} for size in ("1080p", "720p", "360p")]
    body = {"asset_id": asset_id, "outputs": files}
    plan = site.call("POST", "/v1/jobs/estimate", 200, json=body)["plan"]
    assert [file["path"] for file in plan["files"]] == ["1080p.mp4", "720p.mp4", "360p.mp4"]
    assert plan["chunks"] == 1


def test_queue_temporary_storage(site: Site, films: Films) -> None:
    upload, url = open_upload(site, films.tiny)
    httpx2.put(url, content=films.tiny.read_bytes())
    objects = site.running.data / "objects"

    def held() -> list[str]:
        return [str(path.relative_to(objects)) for path in objects.rglob(f"*{upload['id']}*")]

    assert held()
    assert all(path.startswith("incoming/") for path in held())
    assert datetime.fromisoformat(upload["expires_at"]) > datetime.now(UTC)
    site.call("DELETE", f"/v1/uploads/{upload['id']}", 204)
    assert held() == []


def test_queue_permanent_storage(site: Site) -> None:
    poster = site.fetch(site.job["id"], "poster")
    assert any(site.job["id"] in path and data == poster for path, data in kept_files(site).items())


def test_queue_access(site: Site) -> None:
    stranger = site.stranger["headers"]
    for path in (
        *(f"/v1/jobs/{site.job['id']}", f"/v1/jobs/{site.job['id']}/outputs"),
        *(f"/v1/jobs/{site.job['id']}/events", f"/v1/uploads/{site.upload_id}"),
        f"/v1/assets/{site.asset['id']}/source",
    ):
        site.call("GET", path, 404, headers=stranger)
        site.call("GET", path, 401, headers={})


def test_queue_retries(plain: Plain, films: Films) -> None:
    job = plain.submit(plain.upload(films.tiny)["asset_id"], {"type": "poster"})
    path = f"/v1/jobs/{job['id']}"
    plain.drop(job["id"])
    again = plain.call("POST", f"{path}/retry", 202)
    assert (again["state"], again["retries"]) == ("queued", 1)
    plain.drop(job["id"])


def test_queue_error_handling(site: Site) -> None:
    answer = site.http.get("/v1/jobs/01KAJ00000000000000000000J", headers=site.by_key)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (404, "job_unknown")
    # The line is written after the answer.
    until(lambda: problem["request_id"] in site.running.log.read_text(), 20)


def test_queue_run_server(site: Site) -> None:
    assert site.call("GET", "/readyz", 200, headers={})["status"] == "ready"


def test_queue_source_and_destinations(site: Site) -> None:
    paths = {output["path"] for output in site.outputs(site.job["id"]).values()}
    assert paths == {
        *("master.m3u8", "manifest.mpd", "480p.mp4", "audio.mp3", "poster.jpg", "report.json"),
    }


# --- 3. a video site with presigned POST and MediaConvert -------------------------------------


def test_site_sign_up_and_in(site: Site) -> None:
    who = site.sign_up()
    me = site.call("GET", "/v1/users/me", 200, headers=who["headers"])
    assert me["email"] == who["email"]


def test_site_token_in_cookie(plain: Plain) -> None:
    with by_cookies(plain) as (browser, answer):
        cookies = answer.headers.get_list("Set-Cookie")
        assert all("SameSite" in cookie and "Secure" in cookie for cookie in cookies)
        hidden = [cookie for cookie in cookies if "HttpOnly" in cookie]
        assert len(hidden) == 2  # the access and the refresh token
        refused = browser.delete("/v1/sessions/current")  # as another site's page would ask
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")


def test_site_owner(site: Site) -> None:
    site.call("POST", "/v1/uploads/presigned-post", 401, json={}, headers={})
    listed = site.call("GET", "/v1/assets", 200)["data"]
    assert site.asset["id"] in {asset["id"] for asset in listed}
    assert site.call("GET", "/v1/assets", 200, headers=site.stranger["headers"])["data"] == []


def send_form(signed: Json, film: Path, **changed: str) -> httpx2.Response:
    with film.open("rb") as file:
        return httpx2.post(
            signed["url"],
            data={**signed["fields"], **changed},
            files={"file": (film.name, file, "video/mp4")},
            timeout=60,
        )


def test_site_presigned_post(site: Site) -> None:
    signed = site.call("POST", "/v1/uploads/presigned-post", 201, json={})
    assert signed["url"].startswith(site.running.base_url)
    assert {"policy", "signature"} <= set(signed["fields"])


def test_site_ulid(site: Site) -> None:
    ids = (site.asset["id"], site.job["id"], site.upload_id)
    assert all(ULID.fullmatch(one) for one in ids)
    assert not any("hd" in path or "Film" in path for path in kept_files(site))


def test_site_owner_pinned(site: Site, films: Films) -> None:
    signed = site.call("POST", "/v1/uploads/presigned-post", 201, json={})
    policy = signed["fields"]["policy"]
    me = site.call("GET", "/v1/users/me", 200, headers=site.bearer)["id"]
    plain_policy = base64.urlsafe_b64decode(policy + "=" * (-len(policy) % 4)).decode()
    assert me in plain_policy
    her = site.call("GET", "/v1/users/me", 200, headers=site.stranger["headers"])["id"]
    forged = base64.urlsafe_b64encode(plain_policy.replace(me, her).encode()).decode()
    assert send_form(signed, films.tiny, policy=forged).status_code == 403
    path = f"/v1/uploads/{signed['upload']['id']}/complete"
    site.call("POST", path, 404, headers=site.stranger["headers"])


def test_site_size_limit(site: Site, plain: Plain, tmp_path: Path) -> None:
    body: Json = {"filename": "f.mp4", "size_bytes": 100_000_000}
    site.call("POST", "/v1/uploads", 201, json=body)
    body["size_bytes"] += 1
    assert site.call("POST", "/v1/uploads", 413, json=body)["code"] == "upload_too_large"
    too_long = tmp_path / "f.mp4"
    too_long.write_bytes(bytes(LIMIT + 1))
    tus = {**plain.by_key, **TUS, "Upload-Length": str(LIMIT + 1)}
    plain.call("POST", "/v1/tus", 413, headers=tus)
    body["size_bytes"] = LIMIT + 1
    plain.call("POST", "/v1/uploads", 413, json=body)
    wish = {"max_size_bytes": LIMIT + 1}
    plain.call("POST", "/v1/uploads/presigned-post", 413, json=wish)
    with too_long.open("rb") as file:
        form = {"files": {"file": ("f.mp4", file, "video/mp4")}}
        assert plain.call("POST", "/v1/uploads/form", 413, **form)["code"] == "upload_too_large"


def test_site_post_the_file(site: Site, films: Films) -> None:
    signed = site.call("POST", "/v1/uploads/presigned-post", 201, json={})
    sent = send_form(signed, films.tiny)
    assert sent.status_code == 201, sent.text
    assert ULID.fullmatch(sent.json()["asset_id"])


def test_site_owner_checked(site: Site, films: Films) -> None:
    upload, _ = open_upload(site, films.tiny)
    stranger = site.stranger["headers"]
    path = f"/v1/uploads/{upload['id']}"
    site.call("GET", path, 404, headers=stranger)
    site.call("POST", f"{path}/complete", 404, headers=stranger)
    site.call("DELETE", path, 404, headers=stranger)
    site.call("DELETE", path, 204)


def test_site_title_and_description(site: Site) -> None:
    asset = site.call("GET", f"/v1/assets/{site.asset['id']}", 200)
    assert (asset["title"], asset["description"]) == ("A Film", "About nothing.")
    changed = site.call("PATCH", f"/v1/assets/{asset['id']}", 200, json={"title": "The Film"})
    assert (changed["title"], changed["description"]) == ("The Film", "About nothing.")
    site.call("PATCH", f"/v1/assets/{asset['id']}", 200, json={"title": "A Film"})


def test_site_processing(plain: Plain, films: Films) -> None:
    asset_id = plain.upload(films.tiny)["asset_id"]
    job = plain.submit(asset_id, {"type": "poster"})
    plain.call("PATCH", f"/v1/assets/{asset_id}", 200, json={"visibility": "public"})
    plain.work_once()

    def in_gallery() -> bool:
        found = plain.call("GET", "/v1/gallery", 200, headers={})["data"]
        return asset_id in {asset["id"] for asset in found}

    assert plain.call("GET", f"/v1/assets/{asset_id}", 200)["state"] == "processing"
    assert not in_gallery()
    plain.work_off(job["id"])
    assert plain.call("GET", f"/v1/assets/{asset_id}", 200)["state"] == "ready"
    assert in_gallery()


def test_site_created_at(site: Site) -> None:
    made = datetime.fromisoformat(site.asset["created_at"])
    assert timedelta() < datetime.now(UTC) - made < timedelta(hours=1)


def test_site_home_page(site: Site) -> None:
    found = site.call("GET", "/v1/gallery", 200, headers={})["data"]
    [shown] = [asset for asset in found if asset["id"] == site.asset["id"]]
    assert shown["title"] == "A Film"
    assert httpx2.get(shown["poster_url"]).content.startswith(b"\xff\xd8\xff")


def test_site_ffprobe(site: Site) -> None:
    asset = site.call("GET", f"/v1/assets/{site.asset['id']}", 200)
    assert any("1280×720" in line for line in asset["summary"])


def test_site_ladder_720(site: Site) -> None:
    made, dropped = site.rungs(site.asset["id"], {"type": "hls"})
    assert made == ["720p", "480p", "360p", "240p"]
    assert set(dropped) >= {"1080p"}


def test_site_ladder_370(site: Site, films: Films) -> None:
    asset_id = site.upload(films.odd)["asset_id"]
    made, dropped = site.rungs(asset_id, {"type": "hls"})
    assert made == ["370p", "240p"]
    assert dropped["360p"]


def test_site_hls(site: Site) -> None:
    for url in variants(site):
        lines = httpx2.get(url).text.splitlines()
        assert lines[0] == "#EXTM3U"
        assert lines[-1] == "#EXT-X-ENDLIST"
    report = json.loads(site.fetch(site.job["id"], "report"))
    assert report["verified_rules"] > 20


def test_site_public_playlist(site: Site) -> None:
    path = f"/v1/assets/{site.asset['id']}"
    public = site.call("GET", f"{path}/playback", 200, headers={})
    assert "/media/" in public["hls_url"]
    assert httpx2.get(public["hls_url"]).status_code == 200
    site.call("PATCH", path, 200, json={"visibility": "private"})
    try:
        assert httpx2.get(public["hls_url"]).status_code == 404
        site.call("GET", f"{path}/playback", 404, headers={})
        private = site.call("GET", f"{path}/playback", 200)
        assert "/p/" in private["hls_url"]
        assert private["expires_at"] is not None
        assert httpx2.get(private["hls_url"]).status_code == 200
        site.call("PATCH", path, 200, json={"visibility": "unlisted"})
        assert httpx2.get(public["hls_url"]).status_code == 200
        gallery = site.call("GET", "/v1/gallery", 200, headers={})["data"]
        assert site.asset["id"] not in {asset["id"] for asset in gallery}
    finally:
        site.call("PATCH", path, 200, json={"visibility": "public"})


def test_site_thumbnail(site: Site) -> None:
    playback = site.call("GET", f"/v1/assets/{site.asset['id']}/playback", 200, headers={})
    poster = httpx2.get(playback["poster_url"])
    assert poster.headers["Content-Type"] == "image/jpeg"
    assert poster.content == site.fetch(site.job["id"], "poster")


def test_site_done_or_failed(site: Site) -> None:
    assert site.call("GET", f"/v1/assets/{site.asset['id']}", 200)["state"] == "ready"
    assert heard(site, site.job["id"])[-1][1] == "succeeded"


def test_site_raw_video_deleted(site: Site, films: Films) -> None:
    wish = json.dumps({"preset": "poster", "source_policy": "delete_when_done"})
    upload = site.upload(films.tiny, on_complete=wish)
    assert site.ended(upload["job_id"])["state"] == "succeeded"
    path = f"/v1/assets/{upload['asset_id']}"
    assert site.call("GET", path, 200)["source_kept"] is False
    site.call("GET", f"{path}/source", 409)
    assert site.call("GET", f"/v1/assets/{site.asset['id']}", 200)["source_kept"] is True


def test_site_strict_policies(site: Site) -> None:
    for scope, method, path in (
        ("jobs:read", "GET", "/v1/assets"),
        ("assets:read", "DELETE", f"/v1/assets/{site.asset['id']}"),
        ("uploads:write", "POST", f"/v1/jobs/{site.job['id']}/cancel"),
    ):
        body = {"name": scope, "scopes": [scope]}
        made = site.call("POST", "/v1/api-keys", 201, json=body, headers=site.bearer)
        headers = {"Authorization": f"Bearer {made['secret']}"}
        assert site.call(method, path, 403, headers=headers)["code"] == "scope_missing"


# --- 4. a pipeline in Node.js with Kafka and ECS ----------------------------------------------


def test_pipeline_multipart_upload(site: Site, films: Films) -> None:
    assert site.upload(films.tiny)["state"] == "finished"


def test_pipeline_raw_storage(site: Site, films: Films) -> None:
    source = site.call("GET", f"/v1/assets/{site.asset['id']}/source", 200)
    assert httpx2.get(source["url"]).content == films.hd.read_bytes()
    assert source["sha256"] == hashlib.sha256(films.hd.read_bytes()).hexdigest()


def test_pipeline_metadata_row(site: Site) -> None:
    with sqlite3.connect(site.running.data / "telecine.db") as connection:
        query = "SELECT source_key, title FROM assets WHERE id = ?"
        key, title = connection.execute(query, (site.asset["id"],)).fetchone()
    connection.close()
    assert title == "A Film"
    assert (site.running.data / "objects" / "kept" / key).is_file()


def test_pipeline_upload_timestamp(site: Site) -> None:
    uploaded = datetime.fromisoformat(site.asset["uploaded_at"])
    assert abs(uploaded - datetime.fromisoformat(site.asset["created_at"])) < timedelta(minutes=1)


def test_pipeline_ffmpeg(site: Site) -> None:
    report = json.loads(site.fetch(site.job["id"], "report"))
    assert "9." in json.dumps(report["ffmpeg"])
    assert site.call("GET", "/readyz", 200, headers={})["sandbox"]["tier"] != "none"


def test_pipeline_resolutions(site: Site) -> None:
    asked = site.job["outputs"][0]["rungs"]
    assert asked == [2160, 720, 480, 240]
    assert len(variants(site)) == 3


def test_pipeline_result_storage(plain: Plain, films: Films) -> None:
    asset_id = plain.upload(films.tiny)["asset_id"]
    job = plain.submit(asset_id, {"type": "poster"}, {"type": "mp3"})
    plain.work_once()
    assert plain.outputs(job["id"]) == {}
    plain.drop(job["id"])
    assert plain.outputs(job["id"]) == {}


def test_pipeline_processed_urls(site: Site) -> None:
    assert all(output["url"] for output in site.outputs(site.job["id"]).values())
    playback = site.call("GET", f"/v1/assets/{site.asset['id']}/playback", 200)
    assert playback["hls_url"]
    assert playback["dash_url"]


def test_pipeline_available_resolutions(site: Site) -> None:
    facts = site.outputs(site.job["id"])["hls"]["facts"]["renditions"]
    sizes = {
        found["name"]: (found["width"], found["height"]) for found in facts if "width" in found
    }
    assert sizes == {"720p": (1280, 720), "480p": (854, 480), "240p": (426, 240)}
    assert all(found["peak_bps"] > 0 for found in facts)


# --- 5. an MP4-to-MP3 converter in microservices: endpoints -----------------------------------


def test_mp3_register(site: Site) -> None:
    assert site.sign_up()["session"]["current"] is True


def test_mp3_login(site: Site) -> None:
    who = site.log_in()
    assert who["access_token"].count(".") == 2
    body = {"refresh_token": who["refresh_token"]}
    fresh = site.call("POST", "/v1/sessions/refresh", 200, json=body, headers={})
    assert fresh["refresh_token"] != who["refresh_token"]


@pytest.mark.needs("curl")
def test_mp3_upload(site: Site, films: Films) -> None:
    words = ["curl", "-sS", "-X", "POST", "-F", f"file=@{films.tiny}", "-F", "preset=mp3"]
    words += ["-H", f"Authorization: Bearer {site.tokens['access_token']}"]
    url = f"{site.running.base_url}/v1/uploads/form"
    sent = subprocess.run([*words, url], capture_output=True, check=True)
    job = site.ended(json.loads(sent.stdout)["job_id"])
    assert job["state"] == "succeeded"


def test_mp3_status(site: Site) -> None:
    found = site.call("GET", f"/v1/jobs/{site.job['id']}", 200, headers=site.bearer)
    assert (found["state"], found["finished_at"] is not None) == ("succeeded", True)


def test_mp3_download(site: Site) -> None:
    output = site.outputs(site.job["id"])["mp3"]
    found = httpx2.get(output["url"])
    assert found.headers["Content-Type"] == "audio/mpeg"
    assert hashlib.sha256(found.content).hexdigest() == output["sha256"]


def test_mp3_convert(site: Site, films: Films, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp3"
    path.write_bytes(site.fetch(site.job["id"], "mp3"))
    with av.open(str(path)) as opened:
        assert opened.streams.audio[0].codec_context.name.startswith("mp3")
        assert opened.streams.audio[0].bit_rate == 128_000
    upload = site.upload(films.song, preset="mp3")
    assert site.ended(upload["job_id"])["state"] == "succeeded"


def test_mp3_jwt_checked(site: Site) -> None:
    head, body, signature = site.tokens["access_token"].split(".")
    other = "A" if signature[0] != "A" else "B"
    for forged in (f"{head}.{body}.{other}{signature[1:]}", f"{head}.{body}.", "x.y.z"):
        site.call("GET", "/v1/jobs", 401, headers={"Authorization": f"Bearer {forged}"})


def test_mp3_linked(site: Site) -> None:
    assert site.call("GET", f"/v1/jobs/{site.job['id']}", 200)["asset_id"] == site.asset["id"]
    path = f"/v1/jobs?asset_id={site.asset['id']}"
    assert site.job["id"] in {job["id"] for job in site.call("GET", path, 200)["data"]}


def test_mp3_commands(site: Site, films: Films, tmp_path: Path) -> None:
    homes = {name: str(tmp_path / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}

    def run(*words: str | Path, said: str = "") -> str:
        return subprocess.run(
            [TELECINE, *words],
            input=said,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **homes},
            timeout=120,
        ).stdout

    run("login", site.running.base_url, "--key", said=site.key)
    done = run("submit", films.tiny, "--preset", "mp3", "--watch")
    job_id = done.partition(":")[0]
    assert job_id in run("jobs")
    run("download", job_id, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "audio.mp3").stat().st_size > 1000


# --- 5: parts ---------------------------------------------------------------------------------


def test_mp3_users_table(site: Site) -> None:
    with sqlite3.connect(site.running.data / "telecine.db") as connection:
        hashes = [row[0] for row in connection.execute("SELECT password_hash FROM users")]
    connection.close()
    assert hashes
    assert all(found.startswith("$argon2id$") for found in hashes)


def test_mp3_bootstrap(plain: Plain) -> None:
    found = re.search(r"tco_[0-9a-f]+", plain.running.out.read_text())
    assert found is not None
    body = {"email": "root@example.org", "password": PASSWORD, "token": found[0]}
    first = plain.call("POST", "/v1/users", 201, json=body, headers={})
    assert first["role"] == "admin"
    body["email"] = "second@example.org"
    plain.call("POST", "/v1/users", 403, json=body, headers={})


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses on which a process and all that descend from it listen for TCP."""
    inodes = set()
    for one in tree(pid):
        for fd in Path(f"/proc/{one}/fd").iterdir():
            try:
                target = str(fd.readlink())
            except OSError:
                continue  # closed meanwhile
            if target.startswith("socket:["):
                inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in inodes:
            address, port = words[1].split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def test_mp3_one_door(site: Site) -> None:
    port = site.http.base_url.port
    assert port is not None
    assert listening(site.running.pid) == {("127.0.0.1", port)}


def test_mp3_rolling_update(plain: Plain, films: Films) -> None:
    job = plain.submit(plain.upload(films.tiny)["asset_id"], {"type": "poster"})
    assert plain.running.stop() == 0
    plain.running.start()
    assert plain.call("GET", f"/v1/jobs/{job['id']}", 200)["state"] == "queued"
    plain.drop(job["id"])


def test_mp3_secrets(site: Site) -> None:
    folder = site.running.data
    assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600
    command = Path(f"/proc/{site.running.pid}/cmdline").read_text()
    assert (folder / "secret.key").read_text().strip() not in command


def logged(site: Site) -> list[Json]:
    lines = site.running.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_mp3_logs(site: Site) -> None:
    assert site.call("GET", "/healthz", 200, headers={})["status"] == "alive"
    assert site.call("GET", "/readyz", 200, headers={})["status"] == "ready"
    site.call("GET", f"/v1/jobs/{site.job['id']}", 200)
    requests = [line for line in logged(site) if line.get("event") == "request"]
    assert all(ULID.fullmatch(line["request_id"]) for line in requests)
    assert any(line.get("job_id") == site.job["id"] for line in logged(site))
    assert any(line.get("asset_id") == site.asset["id"] for line in logged(site))


# --- 5: what it wants to improve --------------------------------------------------------------


def test_mp3_better_logs(site: Site) -> None:
    text = site.running.log.read_text()
    assert len(logged(site)) > 10
    for secret in (PASSWORD, site.key, site.tokens["access_token"], site.tokens["refresh_token"]):
        assert secret not in text


def test_mp3_tls(plain: Plain) -> None:
    port = plain.http.base_url.port
    assert port is not None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as bare,
        context.wrap_socket(bare) as wrapped,
    ):
        assert wrapped.version() in ("TLSv1.2", "TLSv1.3")


def test_mp3_real_time(site: Site) -> None:
    job = site.submit(site.asset["id"], {"type": "hls", "rungs": [240], "top": "encode"})
    path = f"/v1/jobs/{job['id']}/events"
    kinds = []
    with site.http.stream("GET", path, headers=site.by_key, timeout=120) as stream:
        kinds = [
            line.removeprefix("event: ")
            for line in stream.iter_lines()
            if line.startswith("event: ")
        ]
    assert kinds.index("playable") < kinds.index("succeeded")
    assert "progress" in kinds
