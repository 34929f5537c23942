"""Pictures through a running service: uploaded by API key, worked on by real workers, downloaded
and looked at with Pillow."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from PIL import Image
from tests.conftest import ROOT
from tests.processes import workers_of
from tests.service import pictures
from tests.service.conftest import PASSWORD
from tests.service.databases import fresh_database
from tests.service.pictures import BLUE, GREEN, RED, WHITE, alike, encoded, opened, pixel, quarters
from tests.service.running import Running
from tests.waiting import until

Json = dict[str, Any]

FINAL = ("succeeded", "failed", "cancelled")
MARK = (250, 200, 20)
SOON = {"TELECINE_LEASE_S": "5"}  # a worker that is killed is missed so soon


@dataclass
class Here:
    """A service with two workers, and a user of it by an API key."""

    running: Running
    http: httpx2.Client

    def ask(self, method: str, path: str, status: int, **how: Any) -> Any:
        answer = self.http.request(method, path, **how)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def upload(self, name: str, data: bytes, status: int = 201, **fields: str) -> Json:
        files = {"file": (name, data, "application/octet-stream")}
        found: Json = self.ask(
            "POST", "/v1/uploads/form", status, files=files, data=fields, timeout=120
        )
        return found

    def add(self, name: str, data: bytes) -> str:
        """An asset of these bytes; its id."""
        upload = self.upload(name, data)
        assert upload["error"] is None, upload
        return str(upload["asset_id"])

    def submit(self, asset_id: str, *outputs: Json, status: int = 202, **more: Any) -> Json:
        body = {"asset_id": asset_id, **more}
        if outputs:
            body["outputs"] = list(outputs)
        found: Json = self.ask("POST", "/v1/jobs", status, json=body)
        return found

    def ended(self, job_id: str) -> Json:
        """The job when it has ended, by asking again and again."""

        def final() -> Json | None:
            job: Json = self.ask("GET", f"/v1/jobs/{job_id}", 200)
            return job if job["state"] in FINAL else None

        return until(final, 120)

    def fetched(self, job_id: str) -> dict[str, tuple[Json, bytes]]:
        """Path → the output and its bytes, by a link that needs no key."""
        found = {}
        for output in self.ask("GET", f"/v1/jobs/{job_id}/outputs", 200)["data"]:
            answer = httpx2.get(output["url"])
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == output["content_type"]
            assert hashlib.sha256(answer.content).hexdigest() == output["sha256"]
            assert len(answer.content) == output["size_bytes"]
            found[output["path"]] = (output, answer.content)
        return found

    def made(self, asset_id: str, *outputs: Json) -> dict[str, tuple[Json, bytes]]:
        job = self.ended(self.submit(asset_id, *outputs)["id"])
        assert job["state"] == "succeeded", job
        return self.fetched(job["id"])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with (
        Running(
            tmp_path_factory.mktemp("pictures") / "data", workers=2, environment=SOON
        ) as running,
        httpx2.Client(base_url=running.base_url, timeout=60) as http,
        _user(http, "ada@example.org", running.base_url) as ada,
    ):
        yield Here(running, ada)


def _user(http: httpx2.Client, email: str, url: str) -> httpx2.Client:
    """A new user, asking by an API key from now on."""
    body = {"email": email, "password": PASSWORD}
    assert http.post("/v1/users", json=body).status_code == 201
    token = http.post("/v1/sessions", json=body).json()["access_token"]
    key = http.post(
        "/v1/api-keys",
        json={
            "name": "pictures",
            "scopes": ["assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write"],
        },
        headers={"Authorization": f"Bearer {token}"},
    ).json()["secret"]
    return httpx2.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def photo(here: Here) -> str:
    """The asset of a JPEG whose quarters have four colours."""
    return here.add("quarters.jpg", encoded(quarters(), "JPEG", quality=95))


@pytest.fixture(scope="module")
def mark(here: Here) -> str:
    return here.add("mark.png", encoded(Image.new("RGB", (40, 20), MARK), "PNG"))


def image(name: str, format: str | None, *ops: Json) -> Json:
    found: Json = {"type": "image", "ops": list(ops), "name": name}
    return found if format is None else {**found, "format": format}


# --- all that a photo shop does, in one job -------------------------------------------------------


def test_six_pieces_of_work_in_one_job(here: Here, photo: str, mark: str) -> None:
    found = here.made(
        photo,
        image("resized", "jpeg", {"op": "resize", "w": 200}),
        image("forced", "png", {"op": "resize", "w": 120, "h": 120, "fit": "fill"}),
        image("turned", "png", {"op": "rotate", "angle": 90}),
        image("converted", "webp"),
        image("converted", "gif"),
        image("converted", "avif"),
        image("converted", "tiff"),
        image("marked", "png", {"op": "watermark", "image": mark, "scale": 0.25}),
        image("thumb", "webp", {"op": "thumbnail", "w": 64, "h": 64}),
    )
    pictures_of = {path: opened(data) for path, (_, data) in found.items() if path != "report.json"}
    sizes = {path: (one.format, one.size) for path, one in pictures_of.items()}
    assert sizes == {
        "resized.jpg": ("JPEG", (200, 150)),
        "forced.png": ("PNG", (120, 120)),
        "turned.png": ("PNG", (300, 400)),
        "converted.webp": ("WEBP", (400, 300)),
        "converted.gif": ("GIF", (400, 300)),
        "converted.avif": ("AVIF", (400, 300)),
        "converted.tiff": ("TIFF", (400, 300)),
        "marked.png": ("PNG", (400, 300)),
        "thumb.webp": ("WEBP", (64, 64)),
    }
    upright = pictures.QUARTERS
    for path in ("resized.jpg", "forced.png", "converted.webp", "converted.avif", "converted.tiff"):
        pictures.same_corners(pictures_of[path], upright)
    pictures.same_corners(pictures_of["converted.gif"], upright, by=24)  # a palette
    # Clockwise: what was below on the left is above on the left.
    turned = {"top-left": BLUE, "top-right": RED, "bottom-left": WHITE, "bottom-right": GREEN}
    pictures.same_corners(pictures_of["turned.png"], turned)
    # A quarter of the width, as high as it is in proportion, at the lower right.
    marked = pictures_of["marked.png"].convert("RGB")
    for at in ((302, 252), (397, 252), (302, 297), (397, 297), (350, 275)):
        assert alike(pixel(marked, at), MARK, 6), at
    for at in ((297, 275), (350, 247)):
        assert alike(pixel(marked, at), WHITE), at

    facts = {path: output["facts"] for path, (output, _) in found.items()}
    assert {output["kind"] for output, _ in found.values()} == {"image", "report"}
    assert (facts["turned.png"]["width"], facts["turned.png"]["height"]) == (300, 400)
    report = json.loads(found["report.json"][1])
    assert [file["path"] for file in report["files"]] == [
        *("resized.jpg", "forced.png", "turned.png", "converted.webp", "converted.gif"),
        *("converted.avif", "converted.tiff", "marked.png", "thumb.webp"),
    ]


def test_a_job_of_pictures_as_its_owner_sees_it(here: Here, photo: str) -> None:
    small = image("small", "webp", {"op": "resize", "w": 100})
    expected = here.ask(
        "POST", "/v1/jobs/estimate", 200, json={"asset_id": photo, "outputs": [small]}
    )
    job = here.submit(photo, small, priority=3, metadata={"order": "17"})
    assert job["plan"] == expected["plan"]
    assert job["plan"]["type"] == "image"
    [planned] = job["plan"]["outputs"]
    assert (planned["path"], planned["width"], planned["height"]) == ("small.webp", 100, 75)
    assert planned["operations"] == "resize:w=100"
    done = here.ended(job["id"])
    assert (done["state"], done["outputs"], done["metadata"]) == (
        "succeeded",
        [small],
        {"order": "17"},
    )
    progress = done["progress"]
    assert (progress["fraction"], progress["speed"]) == (1, None)
    assert [stage["name"] for stage in progress["stages"]] == ["image", "finish"]
    size = here.fetched(job["id"])["small.webp"][0]["size_bytes"]
    assert size <= expected["outputs"][0]["max_size_bytes"]
    seen = [event["type"] for event in events(here, job["id"])]
    assert seen[0] == "queued"
    assert seen[-1] == "succeeded"
    assert seen.count("output") == 2


def events(here: Here, job_id: str) -> list[Json]:
    answer = here.http.get(f"/v1/jobs/{job_id}/events")
    found = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            found.append({"type": fields["event"], **json.loads(fields["data"])})
    return found


# --- what an upload becomes -----------------------------------------------------------------------


def test_a_photo_is_an_asset_of_its_kind(here: Here) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    exif[0x010F] = "A camera"
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)}
    data = encoded(quarters(400, 300), "JPEG", exif=exif, quality=95)
    asset_id = here.add("photo.bin", data)
    asset = here.ask("GET", f"/v1/assets/{asset_id}", 200)
    assert (asset["kind"], asset["content_type"]) == ("image", "image/jpeg")
    assert asset["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert asset["media"] is None
    assert asset["duration_s"] is None
    found = asset["image"]
    assert (found["format"], found["width"], found["height"]) == ("jpeg", 300, 400)
    assert (found["orientation"], found["gps"]) == (6, True)
    assert found["exif"]["Make"] == "A camera"
    assert asset["summary"][0] == "JPEG 300 × 400, rotated 90°"
    assert "GPS position in the file" in asset["summary"]
    assert asset_id in [one["id"] for one in here.ask("GET", "/v1/assets?kind=image", 200)["data"]]
    assert here.ask("GET", "/v1/assets?kind=video", 200)["data"] == []
    output, made = here.made(asset_id, image("upright", "jpeg"))["upright.jpg"]
    turned = {"top-left": BLUE, "top-right": RED, "bottom-left": WHITE, "bottom-right": GREEN}
    pictures.same_corners(opened(made), turned)
    assert not opened(made).getexif()  # stripped, and said
    assert "gps" in json.dumps(output["facts"])


def test_an_animation_is_a_picture_and_a_film(here: Here) -> None:
    asset_id = here.add("moving.gif", pictures.animation())
    asset = here.ask("GET", f"/v1/assets/{asset_id}", 200)
    assert asset["kind"] == "image"
    assert asset["image"]["frames"] == 3
    assert asset["media"]["video"][0]["codec"] == "gif"
    assert asset["duration_s"] == pytest.approx(0.6)
    found = here.made(
        asset_id,
        image("smaller", "webp", {"op": "resize", "w": 40}),
        image("turned", None, {"op": "rotate", "angle": 90}),
        image("first", "png", {"op": "convert", "frames": "first"}),
    )
    smaller = opened(found["smaller.webp"][1])
    assert (smaller.n_frames, smaller.size) == (3, (40, 30))  # type: ignore[attr-defined]
    durations = []
    for n, color in enumerate((RED, GREEN, BLUE)):
        smaller.seek(n)
        smaller.load()
        durations.append(smaller.info["duration"])
        pictures.same_corners(smaller, dict.fromkeys(pictures.QUARTERS, color), by=24)
    assert durations == [200, 200, 200]
    turned = opened(found["turned.gif"][1])
    assert (turned.n_frames, turned.size) == (3, (60, 80))  # type: ignore[attr-defined]
    assert found["smaller.webp"][0]["facts"]["frames"] == 3
    pictures.same_corners(opened(found["first.png"][1]), dict.fromkeys(pictures.QUARTERS, RED))
    refused = here.submit(asset_id, image("lost", "jpeg"), status=422)
    assert refused["code"] == "animation_lost"
    film = here.ended(here.submit(asset_id, {"type": "mp4"})["id"])
    assert film["state"] == "succeeded", film
    assert here.fetched(film["id"])["source.mp4"][1][4:8] == b"ftyp"


def test_an_animation_too_long_for_a_picture_is_a_film(here: Here) -> None:
    shades = [(n % 256, 255 - n % 256, n // 2) for n in range(301)]
    asset_id = here.add("long.gif", pictures.animation(shades, each_ms=20))
    refused = here.submit(asset_id, image("a", "webp"), status=422)
    assert (refused["code"], refused["output"]) == ("too_many_frames", 1)
    first = image("a", "png", {"op": "convert", "frames": "first"})
    assert opened(here.made(asset_id, first)["a.png"][1]).size == (80, 60)
    job = here.ended(here.submit(asset_id, {"type": "mp4"})["id"])
    assert job["state"] == "succeeded", job


@pytest.mark.thorough
def test_heic_is_taken(here: Here, corpus: Path) -> None:
    path = corpus / "image" / "immich" / "IMG_2682.heic"
    asset_id = here.add(path.name, path.read_bytes())
    asset = here.ask("GET", f"/v1/assets/{asset_id}", 200)
    assert (asset["kind"], asset["image"]["format"]) == ("image", "heic")
    output, made = here.made(asset_id, image("web", None, {"op": "resize", "w": 400, "h": 400}))[
        "web.jpg"
    ]
    picture = opened(made)
    assert picture.format == "JPEG"
    assert max(picture.size) == 400
    w, h = asset["image"]["width"], asset["image"]["height"]
    assert picture.size[0] / picture.size[1] == pytest.approx(w / h, rel=0.02)
    assert output["content_type"] == "image/jpeg"


def test_an_upload_that_is_made_into_something(here: Here) -> None:
    upload = here.upload("q.png", encoded(quarters(2000, 1500), "PNG"), preset="web-image")
    job = here.ended(upload["job_id"])
    assert (job["state"], job["preset"]) == ("succeeded", "web-image")
    [(_, made)] = [one for path, one in here.fetched(job["id"]).items() if path == "web.webp"]
    assert opened(made).size == (1600, 1200)
    pictures.same_corners(opened(made), pictures.QUARTERS)


def test_an_upload_says_why_its_wish_cannot_be_done(here: Here) -> None:
    png = encoded(quarters(), "PNG")
    upload = here.upload("q.png", png, preset="stream")
    assert upload["state"] == "finished"
    assert (upload["job_id"], upload["error"]["code"]) == (None, "output_not_of_source")
    missing = image("m", "png", {"op": "watermark", "image": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D"})
    upload = here.upload("q.png", png, on_complete=json.dumps({"outputs": [missing]}))
    assert (upload["job_id"], upload["error"]["code"]) == (None, "watermark_missing")


def test_a_form_that_takes_pictures_alone(here: Here) -> None:
    wish = {"content_type": "image/*", "on_complete": {"preset": "thumbnail"}}
    png = encoded(quarters(), "PNG")
    for kind, status in (("video/mp4", 403), ("image/png", 201)):
        signed = here.ask("POST", "/v1/uploads/presigned-post", 201, json=wish)
        fields = {**signed["fields"], "Content-Type": kind}
        sent = httpx2.post(signed["url"], data=fields, files={"file": ("q.png", png, kind)})
        assert sent.status_code == status, sent.text
    job = here.ended(sent.json()["job_id"])
    assert opened(here.fetched(job["id"])["thumbnail.webp"][1]).size == (300, 300)


def test_a_wrong_digest_is_told_at_once(here: Here) -> None:
    refused = here.upload("q.png", encoded(quarters(), "PNG"), 422, sha256="0" * 64)
    assert refused["code"] == "digest_mismatch"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("cut.jpg", b"\xff\xd8\xff\xe0" + bytes(200), "image_damaged"),
        (
            "svg.png",
            b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>',
            "svg_refused",
        ),
        ("text.jpg", b"this is no picture at all " * 40, "not_media"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_cause(
    here: Here, name: str, data: bytes, code: str
) -> None:
    assert here.upload(name, data, 422)["code"] == code


def test_a_bomb_is_refused_before_it_is_decoded(here: Here) -> None:
    # 20,000 × 20,000 pixels of one bit compress to nothing.
    bomb = io.BytesIO()
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    finally:
        Image.MAX_IMAGE_PIXELS = before
    refused = here.upload("bomb.png", bomb.getvalue(), 422)
    assert refused["code"] == "too_many_pixels"


# --- refusals -------------------------------------------------------------------------------------


def test_refusals_of_jobs_name_the_output(here: Here, photo: str) -> None:
    good = image("good", "webp")
    for wrong, code in (
        (image("a", "webp", {"op": "explode"}), "operation_unknown"),
        (image("a", "webp", {"op": "resize", "w": -1}), "operation_invalid"),
        (image("a", "bmp"), "format_unknown"),
        (image("a", "auto"), "format_unknown"),
        (image("a", "png", {"op": "convert", "lossless": True}), "option_not_of_format"),
        (image("a", "webp", {"op": "crop", "w": 401, "h": 10}), "crop_outside"),
        (image("good", "webp"), "output_twice"),
    ):
        refused = here.submit(photo, good, wrong, status=422)
        assert (refused["code"], refused["output"]) == (code, 2), refused
    assert here.submit(photo, good, {"type": "poster"}, status=422)["code"] == "outputs_mixed"
    assert here.submit(photo, status=422, preset="stream")["code"] == "output_not_of_source"


def test_somebody_elses_picture_is_no_watermark(here: Here, photo: str, mark: str) -> None:
    with (
        httpx2.Client(base_url=here.running.base_url, timeout=60) as anybody,
        _user(anybody, "bob@example.org", here.running.base_url) as http,
    ):
        bob = Here(here.running, http)
        mine = bob.add("q.png", encoded(quarters(), "PNG"))
        theirs = bob.submit(mine, image("m", "png", {"op": "watermark", "image": mark}), status=422)
        nobodys = bob.submit(
            mine, image("m", "png", {"op": "watermark", "image": "0" * 26}), status=422
        )
        assert theirs["code"] == nobodys["code"] == "watermark_missing"
        assert theirs["detail"].replace(mark, "") == nobodys["detail"].replace("0" * 26, "")


def test_sound_makes_no_pictures(here: Here) -> None:
    song = io.BytesIO()
    with wave.open(song, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))
    asset_id = here.add("song.wav", song.getvalue())
    assert here.ask("GET", f"/v1/assets/{asset_id}", 200)["kind"] == "audio"
    refused = here.submit(asset_id, image("a", "webp"), status=422)
    assert refused["code"] == "output_not_of_source"


# --- showing --------------------------------------------------------------------------------------


def test_a_public_picture_is_in_the_gallery_when_its_job_is_done(here: Here) -> None:
    asset_id = here.add("q.png", encoded(quarters(), "PNG"))
    here.ask("PATCH", f"/v1/assets/{asset_id}", 200, json={"visibility": "public", "title": "Q"})
    with httpx2.Client(base_url=here.running.base_url) as anybody:

        def shown() -> list[Json]:
            found = anybody.get("/v1/gallery").json()["data"]
            return [one for one in found if one["id"] == asset_id]

        assert shown() == []
        job = here.ended(
            here.submit(
                asset_id,
                image("archive", "tiff"),
                image("small", "webp", {"op": "resize", "w": 100}),
            )["id"]
        )
        assert job["state"] == "succeeded"
        [seen] = shown()
        assert seen["kind"] == "image"
        poster = anybody.get(seen["poster_url"])
        assert poster.headers["Content-Type"] == "image/webp"
        assert opened(poster.content).size == (100, 75)
        playback = anybody.get(f"/v1/assets/{asset_id}/playback").json()
        assert (playback["state"], playback["poster_url"]) == ("ready", seen["poster_url"])
        assert (playback["hls_url"], playback["file_url"]) == (None, None)
        # What else the job made is there by its name, the report is not.
        home = seen["poster_url"].rpartition("/")[0]
        assert anybody.get(f"{home}/archive.tiff").headers["Content-Type"] == "image/tiff"
        assert anybody.get(f"{home}/report.json").status_code == 404


def test_the_source_goes_when_it_shall(here: Here) -> None:
    asset_id = here.add("q.png", encoded(quarters(), "PNG"))
    job = here.submit(asset_id, image("a", "webp"), source_policy="delete_when_done")
    assert here.ended(job["id"])["state"] == "succeeded"
    assert here.ask("GET", f"/v1/assets/{asset_id}", 200)["source_kept"] is False
    assert here.submit(asset_id, image("b", "webp"), status=409)["code"] == "source_gone"
    here.ask("DELETE", f"/v1/assets/{asset_id}", 204)
    here.ask("GET", f"/v1/jobs/{job['id']}", 404)


# --- workers that die -----------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_worker_is_killed_and_every_picture_is_made_once(here: Here) -> None:
    """What takes long enough to be killed in the middle: several pictures of noise, some as
    AVIF."""
    noise = Image.effect_noise((1200, 900), 80).convert("RGB")
    asset_id = here.add("noise.jpg", encoded(noise, "JPEG", quality=90))
    outputs = [
        image(f"n{n}", "avif" if n % 2 else "webp", {"op": "resize", "w": 1100 - 40 * n})
        for n in range(8)
    ]
    quiet = here.fetched(here.ended(here.submit(asset_id, *outputs)["id"])["id"])

    job = here.submit(asset_id, *outputs)
    asked = f"/v1/jobs/{job['id']}"
    until(lambda: here.ask("GET", asked, 200)["progress"]["fraction"] >= 0.2)
    for pid in workers_of(here.running.pid):
        os.kill(pid, signal.SIGKILL)
    done = here.ended(job["id"])
    assert done["state"] == "succeeded", done
    again = here.fetched(job["id"])
    assert again.keys() == quiet.keys()
    for path in again.keys() - {"report.json"}:
        assert again[path][1] == quiet[path][1], path
    told = [event for event in events(here, job["id"]) if event["type"] == "output"]
    assert len(told) == len({event["path"] for event in told}) == 9


# --- the page -------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "howto" / "image-jobs.md"


def block(heading: str, language: str, *words: tuple[str, str]) -> str:
    """The program under a heading of the page, for this service and these files."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    found = section.split(f"```{language}\n")[1].split("```")[0]
    for word, ours in words:
        assert word in found
        found = found.replace(word, ours)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.jpg").write_bytes(encoded(quarters(1000, 750), "JPEG"))
    (tmp_path / "logo.png").write_bytes(encoded(Image.new("RGB", (40, 20), MARK), "PNG"))
    return tmp_path


@pytest.mark.needs("curl", "bash")
def test_the_page_by_curl(here: Here, folder: Path) -> None:
    program = block("By curl", "bash", ("http://127.0.0.1:8000", here.running.base_url))
    key = here.http.headers["Authorization"].removeprefix("Bearer ")
    ran = subprocess.run(
        ["bash", "-ec", program],
        cwd=folder,
        env={**os.environ, "KEY": key},
        capture_output=True,
        check=True,
    )
    found = {one["path"]: one for one in json.loads(ran.stdout)["data"]}
    assert set(found) == {"small.webp", "square.jpg", "report.json"}
    assert opened(httpx2.get(found["small.webp"]["url"]).content).size == (800, 600)
    assert opened(httpx2.get(found["square.jpg"]["url"]).content).size == (200, 200)


def test_the_page_in_python(here: Here, folder: Path) -> None:
    key = here.http.headers["Authorization"].removeprefix("Bearer ")
    program = block(
        "In Python", "python", ("http://127.0.0.1:8000", here.running.base_url), ("KEY", repr(key))
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert opened((folder / "made" / "small.webp").read_bytes()).size == (800, 600)
    marked = opened((folder / "made" / "marked.jpg").read_bytes()).convert("RGB")
    seen = pixel(marked, (990, 740))
    mixed = [round(0.8 * mark + 0.2 * white) for mark, white in zip(MARK, WHITE, strict=True)]
    assert alike(seen, (mixed[0], mixed[1], mixed[2]))


def test_the_page_by_command(here: Here, folder: Path) -> None:
    key = here.http.headers["Authorization"].removeprefix("Bearer ")
    home = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    telecine = str(Path(sys.executable).with_name("telecine"))
    subprocess.run(
        [telecine, "login", here.running.base_url, "--key"],
        input=key.encode(),
        env=home,
        check=True,
        capture_output=True,
    )
    words = shlex.split(block("By command", "sh"))
    ran = subprocess.run(
        [telecine, *words[1:]], cwd=folder, env=home, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    [job] = here.ask("GET", "/v1/jobs?limit=1", 200)["data"]
    assert [output["name"] for output in job["outputs"]] == ["small", "same"]
    found = here.fetched(job["id"])
    assert opened(found["small.webp"][1]).size == (800, 600)
    assert opened(found["same.avif"][1]).size == (1000, 750)


# --- another database -----------------------------------------------------------------------------


@pytest.mark.thorough
def test_on_postgresql(postgres: sa.URL, tmp_path: Path) -> None:
    with fresh_database(postgres) as url:
        text = url.render_as_string(hide_password=False)
        with (
            Running(tmp_path / "data", "--database", text, workers=1) as running,
            httpx2.Client(base_url=running.base_url, timeout=60) as http,
            _user(http, "ada@example.org", running.base_url) as ada,
        ):
            elsewhere = Here(running, ada)
            laid = elsewhere.add("mark.png", encoded(Image.new("RGB", (40, 20), MARK), "PNG"))
            moving = elsewhere.add("moving.gif", pictures.animation())
            wish = image("marked", "webp", {"op": "watermark", "image": laid, "scale": 0.5})
            marked = opened(elsewhere.made(moving, wish)["marked.webp"][1])
            assert marked.n_frames == 3  # type: ignore[attr-defined]
            assert alike(pixel(marked.convert("RGB"), (70, 55)), MARK, 24)
            kinds = [
                one["kind"] for one in elsewhere.ask("GET", "/v1/assets?kind=image", 200)["data"]
            ]
            assert kinds == ["image", "image"]
