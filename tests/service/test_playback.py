"""Playback: who may see what, what each URL answers, and playlists that grow with their rows."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import m3u8
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.service.conftest import sign_up
from tests.service.jobs_made import add_asset, add_user
from tests.unit.formats.test_cmaf import FFMPEG_INIT, FFMPEG_SOUND_INIT
from tests.unit.sources import COMPLIANT, lasting

from telecine.engine import manifests
from telecine.engine.package import Publisher
from telecine.engine.plan import Plan
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.segments import Segment, segment_name
from telecine.engine.serial import to_plain
from telecine.service import playback
from telecine.service.api import objects
from telecine.service.db import playback as rows
from telecine.service.db import queue
from telecine.service.db.connection import Tx
from telecine.service.db.playback import PlayedJob
from telecine.service.db.tables import assets, jobs, segments, tasks
from telecine.service.domain import JobState, Visibility, new_id
from telecine.service.orders import make_order, make_tasks, new_job
from telecine.service.services import Services

PLAYER = Path(playback.__file__).with_name("player")
E2E = Path(__file__).parents[1] / "e2e"

IMMUTABLE = "max-age=31536000, immutable"
SEGMENT_BYTES = 50_000


class Stage:
    """An asset of somebody's, and a job of it whose rows and files the test makes."""

    def __init__(
        self,
        services: Services,
        user_id: str,
        *,
        visibility: Visibility = "public",
        top: str = "auto",
        wanted: tuple[Mapping[str, Any], ...] = (),
        title: str = "A film",
    ) -> None:
        self.services = services
        self.asset_id, self.job_id = new_id(), new_id()
        hls = {"type": "hls", "top": top, "rungs": [720, 480, 360, 240] if top == "encode" else []}
        order = make_order(outputs=wanted or (hls, {"type": "poster"}))
        # 30 s in one chunk, of which the top rung can be copied; or 42 s in two.
        source = lasting(42) if top == "encode" else COMPLIANT
        self.plan: Plan = make_plan(source, order.profile)
        self.task_prefix = f"tasks/{self.job_id}/{new_id()}/1-0123abcd"
        self.final_prefix = f"tasks/{self.job_id}/{new_id()}/1-89abcdef"
        self.files: dict[str, bytes] = {}  # path → what lies there
        with services.database.write() as tx:
            add_asset(
                tx, self.asset_id, user_id, state="processing", visibility=visibility, title=title
            )
            queue.submit(
                tx,
                new_job(
                    order,
                    self.plan,
                    job_id=self.job_id,
                    user_id=user_id,
                    asset_id=self.asset_id,
                    digest="known",
                ),
            )
        self.set_job(state="running")

    # --- URLs

    @property
    def api(self) -> str:
        return f"/v1/assets/{self.asset_id}/playback"

    def url(self, path: str) -> str:
        return f"/media/{self.asset_id}/{self.job_id}/{path}"

    def private(self, token: str, path: str) -> str:
        return f"/p/{token}/{self.asset_id}/{self.job_id}/{path}"

    def token(self, *, expires_in_s: int = 3600, about: str = "", purpose: str = "playback") -> str:
        with self.services.database.read() as tx:
            expires_at = int(tx.now_s()) + expires_in_s
        return self.services.signer.sign(purpose, about or self.asset_id, expires_at)

    # --- what happens

    def set_job(self, **values: Any) -> None:
        with self.services.database.write() as tx:
            tx.connection.execute(sa.update(jobs).where(jobs.c.id == self.job_id).values(**values))

    def set_asset(self, **values: Any) -> None:
        with self.services.database.write() as tx:
            tx.connection.execute(
                sa.update(assets).where(assets.c.id == self.asset_id).values(**values)
            )

    def segment(self, rendition: str, number: int) -> Segment:
        timeline = self.plan.timeline
        sound = self.plan.sound
        rate = sound.sample_rate if sound and rendition == sound.name else timeline.timescale
        start, end = (
            int(timeline.boundaries[n] * Fraction(rate, timeline.timescale))
            for n in (number, number + 1)
        )
        return Segment(number, start, end - start, SEGMENT_BYTES, 144, ((0, 9000, end - start),))

    def grow(self, **counts: int) -> None:
        """`grow(aac=3)`: the init segment and the first three are advanced. Names that begin with a
        digit come as `_480p`."""
        for name, count in counts.items():
            self.advance(name.lstrip("_"), *range(-1, count))

    def advance(self, rendition: str, *numbers: int) -> None:
        """These segments are put into storage and advanced; -1 is the init segment."""
        rows = []
        for number in numbers:
            path, data = self.bytes_at(rendition, number)
            facts = to_plain(self.segment(rendition, number)) if number >= 0 else {"sha256": "…"}
            if path in self.files:
                continue
            self.files[path] = data
            key = f"{self.task_prefix}/{path}"
            self.services.storage.put_bytes(key, data)
            rows.append(
                {"job_id": self.job_id, "rendition": rendition, "number": number,
                 "storage_key": key, "task_id": new_id(), "epoch": 1, "size_bytes": len(data),
                 "facts": facts}
            )  # fmt: skip
        with self.services.database.write() as tx:
            tx.connection.execute(sa.insert(segments), rows)

    def end_step(self, step_id: str) -> None:
        with self.services.database.write() as tx:
            tx.connection.execute(
                sa.update(tasks)
                .where(tasks.c.job_id == self.job_id, tasks.c.step_id == step_id)
                .values(state="succeeded", prefix=self.task_prefix)
            )

    def bytes_at(self, rendition: str, number: int) -> tuple[str, bytes]:
        """A segment's path, and what lies there; -1 is the init segment."""
        folder = self.plan.folder_of(rendition)
        if number < 0:
            sound = self.plan.sound is not None and rendition == self.plan.sound.name
            return f"{folder}/init.mp4", FFMPEG_SOUND_INIT if sound else FFMPEG_INIT
        path = f"{folder}/{segment_name(number)}"
        return path, hashlib.shake_128(path.encode()).digest(SEGMENT_BYTES)

    def finish(self, scratch: Path) -> None:
        """Everything is made: the engine's own playlists under another prefix, no rows."""
        names = [rendition.name for rendition in self.plan.listed]
        if self.plan.sound is not None:
            names.append(self.plan.sound.name)
        whole = self.plan.timeline.segments
        tree = scratch / self.job_id
        tree.mkdir()
        publisher = Publisher(self.plan, tree, lambda: None)
        for name in names:
            for number in range(-1, whole):
                path, data = self.bytes_at(name, number)
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_bytes(data)
        for name in names:
            for number in range(whole):
                publisher.add(name, self.segment(name, number))
        publisher.finish()
        for file in self.plan.files:
            (tree / file.path).write_bytes(b"\xff\xd8 " + file.path.encode())
        (tree / "report.json").write_text("{}")
        for made in sorted(tree.rglob("*")):
            if made.is_file():
                path = made.relative_to(tree).as_posix()
                self.files[path] = made.read_bytes()
                self.services.storage.put_bytes(f"{self.final_prefix}/{path}", self.files[path])
        with self.services.database.write() as tx:
            tx.connection.execute(sa.delete(segments).where(segments.c.job_id == self.job_id))
        self.services.storage.delete(f"{self.task_prefix}/")
        self.set_job(state="succeeded", prefix=self.final_prefix)
        poster = f"{self.final_prefix}/poster.jpg" if "poster.jpg" in self.files else None
        self.set_asset(state="ready", job_id=self.job_id, poster_key=poster)


@pytest.fixture
def user_id(services: Services) -> str:
    """A user who needs no password: faster than one who signs up."""
    made = new_id()
    with services.database.write() as tx:
        add_user(tx, made)
    return made


@pytest.fixture
def growing(services: Services, user_id: str) -> Stage:
    """A public film whose every rung is encoded; it can be opened."""
    stage = Stage(services, user_id, top="encode")
    stage.grow(_480p=2, _360p=2, aac=3)
    return stage


@pytest.fixture
def ready(services: Services, user_id: str, tmp_path: Path) -> Stage:
    stage = Stage(services, user_id, top="encode")
    stage.finish(tmp_path)
    return stage


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- who may see what ---------------------------------------------------------------------------

ASKERS = ("nobody", "owner", "owner's key", "key without the scope", "other", "revoked key")


def asker_headers(client: TestClient, asker: str) -> dict[str, str]:
    if asker == "nobody":
        return {}
    email = "eve@example.org" if asker == "other" else "ada@example.org"
    person = client.post("/v1/sessions", json={"email": email, "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {person['access_token']}"}
    if "key" not in asker:
        return headers
    scopes = ["jobs:read"] if asker == "key without the scope" else ["assets:read"]
    key = client.post("/v1/api-keys", json={"name": asker, "scopes": scopes}, headers=headers)
    assert key.status_code == 201, key.text
    if asker == "revoked key":
        gone = client.delete(f"/v1/api-keys/{key.json()['id']}", headers=headers)
        assert gone.status_code == 204
    return {"Authorization": f"Bearer {key.json()['secret']}"}


PASSWORD = "a long word that nobody guesses 7"

# visibility → what each asker gets, in the order of ASKERS.
MAY_ASK: dict[Visibility, tuple[int, ...]] = {
    "public": (200, 200, 200, 200, 200, 401),
    "unlisted": (200, 200, 200, 200, 200, 401),
    "private": (404, 200, 200, 403, 404, 401),
}


def test_who_may_ask_where_an_asset_plays(client: TestClient, services: Services) -> None:
    ada = sign_up(client)
    me = client.get("/v1/users/me", headers=ada["headers"]).json()["id"]
    sign_up(client, "eve@example.org")
    client.cookies.clear()
    stages = {visibility: Stage(services, me, visibility=visibility) for visibility in MAY_ASK}
    for position, asker in enumerate(ASKERS):
        headers = asker_headers(client, asker)
        got = {v: client.get(stage.api, headers=headers).status_code for v, stage in stages.items()}
        assert got == {v: row[position] for v, row in MAY_ASK.items()}, asker


@pytest.mark.parametrize(
    ("visibility", "token", "expected"),
    [
        ("public", None, 200),
        ("unlisted", None, 200),
        ("private", None, 404),
        ("private", "good", 200),
        ("public", "good", 200),
        ("private", "expired", 403),
        ("public", "expired", 403),
        ("private", "of another asset", 404),
        ("private", "of another purpose", 404),
        ("private", "with a later expiry", 404),
        ("private", "of another installation", 404),
        ("private", "empty signature", 404),
        ("private", "no expiry", 404),
        ("private", "cut short", 404),
        ("private", "not even text", 404),
        ("public", "cut short", 404),
    ],
)
@pytest.mark.parametrize("door", ["media", "embed", "state"])
def test_what_a_url_opens(
    client: TestClient,
    services: Services,
    user_id: str,
    visibility: Visibility,
    token: str | None,
    expected: int,
    door: str,
) -> None:
    stage = Stage(services, user_id, visibility=visibility)
    stage.grow(_1080p=3, aac=3)
    good = stage.token()
    expiry, _, signature = good.partition(".")
    tokens = {
        "good": good,
        "expired": stage.token(expires_in_s=-1),
        "of another asset": stage.token(about=new_id()),
        "of another purpose": stage.token(purpose="download"),
        "with a later expiry": f"{int(expiry) + 1}.{signature}",
        "of another installation": type(services.signer)(bytes(32)).sign(
            "playback", stage.asset_id, int(expiry)
        ),
        "empty signature": f"{expiry}.",
        "no expiry": f".{signature}",
        "cut short": good[:-1],
        "not even text": quote("\udcff\x00é", errors="surrogateescape"),
    }
    ends = {
        "media": f"/{stage.asset_id}/{stage.job_id}/master.m3u8",
        "embed": f"/embed/{stage.asset_id}",
        "state": f"/embed/{stage.asset_id}/state",
    }
    start = "/media" if token is None and door == "media" else ""
    start = start if token is None else f"/p/{tokens[token]}"
    assert client.get(f"{start}{ends[door]}").status_code == expected


def test_an_expired_link_says_so(client: TestClient, services: Services, user_id: str) -> None:
    stage = Stage(services, user_id, visibility="private")
    answer = client.get(stage.private(stage.token(expires_in_s=-5), "master.m3u8"))
    assert problem(answer) == (403, "link_expired")


def test_an_asset_that_turns_private_stops_playing(client: TestClient, growing: Stage) -> None:
    assert client.get(growing.url("master.m3u8")).status_code == 200
    growing.set_asset(visibility="private")
    assert problem(client.get(growing.url("master.m3u8"))) == (404, "asset_unknown")
    assert problem(client.get(growing.url("video/480p/00000.m4s"))) == (404, "asset_unknown")


def test_a_job_of_another_asset_is_unknown(
    client: TestClient, growing: Stage, services: Services, user_id: str
) -> None:
    other = Stage(services, user_id)
    answer = client.get(f"/media/{other.asset_id}/{growing.job_id}/master.m3u8")
    assert problem(answer) == (404, "media_unknown")


# --- what is answered ---------------------------------------------------------------------------


def test_a_public_film_before_while_and_after_it_grows(
    client: TestClient, services: Services, user_id: str, tmp_path: Path
) -> None:
    stage = Stage(services, user_id, top="encode")
    base = "http://127.0.0.1:8000"
    here = f"{base}/media/{stage.asset_id}/{stage.job_id}"
    before = client.get(stage.api).json()
    assert before == {
        "state": "waiting",
        "hls_url": f"{here}/master.m3u8",
        "dash_url": None,
        "file_url": None,
        "poster_url": None,
        "storyboard_url": None,
        "chapters_url": None,
        "embed_url": f"{base}/embed/{stage.asset_id}",
        "embed_html": before["embed_html"],
        "expires_at": None,
    }
    assert problem(client.get(stage.url("master.m3u8"))) == (404, "not_playable_yet")
    stage.grow(_480p=1, _360p=1, aac=1)
    assert client.get(stage.api).json() == {**before, "state": "growing"}
    stage.services.storage.put_bytes(f"{stage.task_prefix}/poster.jpg", b"\xff\xd8 early")
    stage.end_step("poster")
    assert client.get(stage.api).json()["poster_url"] == f"{here}/poster.jpg"
    assert client.get(stage.url("poster.jpg")).content == b"\xff\xd8 early"
    stage.finish(tmp_path)
    assert client.get(stage.api).json() == {
        **before,
        "state": "ready",
        "dash_url": f"{here}/manifest.mpd",
        "poster_url": f"{here}/poster.jpg",
    }
    assert client.get(stage.url("poster.jpg")).content == b"\xff\xd8 poster.jpg"


def test_the_urls_of_a_private_film_carry_a_token_for_half_a_day(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    headers = sign_up(client)["headers"]
    client.cookies.clear()
    me = client.get("/v1/users/me", headers=headers).json()["id"]
    stage = Stage(services, me, visibility="private", top="encode")
    stage.finish(tmp_path)
    first = client.get(stage.api, headers=headers).json()
    with services.database.read() as tx:
        now_s = tx.now_s()
    token = urlsplit(first["hls_url"]).path.split("/")[2]
    assert 12 * 3600 <= int(token.split(".")[0]) - now_s <= 13 * 3600
    for name in ("hls_url", "dash_url", "poster_url"):
        path = urlsplit(first[name]).path
        assert path.startswith(f"/p/{token}/{stage.asset_id}/{stage.job_id}/")
        assert client.get(path).status_code == 200
    assert first["embed_url"].endswith(f"/p/{token}/embed/{stage.asset_id}")
    assert first["expires_at"] is not None
    # Playlists name each other and their segments without a token, relative to where they are.
    master = m3u8.M3U8(client.get(urlsplit(first["hls_url"]).path).text)
    assert {str(variant.uri).split("/")[0] for variant in master.playlists} == {"video"}


def test_files_alone_play_too(
    client: TestClient, services: Services, user_id: str, tmp_path: Path
) -> None:
    stage = Stage(services, user_id, wanted=({"type": "mp3"}, {"type": "mp4", "size": "720p"}))
    assert client.get(stage.api).json()["hls_url"] is None
    assert client.get(stage.api).json()["state"] == "waiting"
    stage.finish(tmp_path)
    found = client.get(stage.api).json()
    assert (found["state"], found["hls_url"], found["dash_url"]) == ("ready", None, None)
    assert found["file_url"].endswith("/720p.mp4")
    answer = client.get(urlsplit(found["file_url"]).path, headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (206, "video/mp4")
    assert client.get(stage.url("master.m3u8")).status_code == 404


def job(state: JobState, *kinds: str, name: str = "") -> PlayedJob:
    files = "tasks/x" if state == "succeeded" else None
    return PlayedJob(name or f"{state} {kinds}", "a", state, files, frozenset(kinds), "0:t")


@pytest.mark.parametrize(
    ("newest_first", "chosen"),
    [
        ([], None),
        ([job("failed", "hls"), job("cancelled", "hls")], None),
        ([job("running", "hls"), job("succeeded", "hls")], 1),  # what is whole goes on playing
        ([job("failed", "hls"), job("succeeded", "hls")], 1),
        ([job("succeeded", "mp3"), job("running", "hls")], 1),
        ([job("succeeded", "mp3"), job("succeeded", "hls", "mp4")], 1),
        ([job("succeeded", "poster"), job("succeeded", "mp4")], 1),
        ([job("queued", "mp4"), job("succeeded", "mp3")], 1),
        ([job("succeeded", "hls", name="new"), job("succeeded", "hls", name="old")], 0),
        ([job("queued", "mp4"), job("succeeded", "poster")], 0),
    ],
)
def test_which_job_of_an_asset_plays(newest_first: list[PlayedJob], chosen: int | None) -> None:
    expected = None if chosen is None else newest_first[chosen]
    assert playback.choose_job(newest_first) == expected


def test_a_failed_film_says_so_and_ends_well_for_who_watches_it(
    client: TestClient, growing: Stage
) -> None:
    growing.set_job(state="failed")
    growing.set_asset(state="failed")
    assert client.get(growing.api).json()["state"] == "failed"
    assert client.get(growing.api).json()["hls_url"] is None
    found = m3u8.M3U8(client.get(growing.url("video/480p/growing.m3u8")).text)
    assert found.is_endlist
    assert len(found.segments) == 2
    assert client.get(growing.url("video/480p/00001.m4s")).status_code == 200


def test_a_cancelled_film_is_gone(client: TestClient, growing: Stage) -> None:
    growing.set_job(state="cancelled")
    assert problem(client.get(growing.url("master.m3u8"))) == (404, "media_unknown")


# --- playlists from rows ------------------------------------------------------------------------


def test_growing_playlists_list_what_was_advanced_up_to_the_first_hole(
    client: TestClient, growing: Stage
) -> None:
    growing.advance("480p", 2, 4)

    def listed(rendition: str) -> list[str | None]:
        folder = growing.plan.folder_of(rendition)
        found = m3u8.M3U8(client.get(growing.url(f"{folder}/growing.m3u8")).text)
        assert found.playlist_type == "event"
        assert not found.is_endlist
        assert found.segment_map[0].uri == "init.mp4"
        assert [segment.duration for segment in found.segments] == [6.0] * len(found.segments)
        return [segment.uri for segment in found.segments]

    assert listed("480p") == ["00000.m4s", "00001.m4s", "00002.m4s"]
    assert listed("aac") == ["00000.m4s", "00001.m4s", "00002.m4s"]
    growing.advance("480p", 3)
    assert listed("480p") == [f"{n:05d}.m4s" for n in range(5)]
    assert listed("480p") == [f"{n:05d}.m4s" for n in range(5)]  # and from what is kept


def test_an_encrypted_film_tells_of_its_key_from_the_first_segment_on(
    client: TestClient, services: Services, user_id: str, tmp_path: Path
) -> None:
    """What was said of a segment while the film grew holds when it is finished."""
    secret, uri = "a0b1c2d3e4f5061728394a5b6c7d8e9f", "https://keys.example.com/film"
    protection = {"scheme": "aes-128", "key": secret, "key_uri": uri}
    hls = {"type": "hls", "top": "encode", "rungs": [480, 360], "protection": protection}
    stage = Stage(services, user_id, top="encode", wanted=(hls, {"type": "poster"}))
    stage.grow(_480p=2, _360p=2, aac=3)

    def keys(path: str) -> list[tuple[str, str, str, str]]:
        text = client.get(stage.url(path)).text
        assert text.index("#EXT-X-MAP") < text.index("#EXT-X-KEY")
        assert secret not in text
        found = [(one.uri, one.key) for one in m3u8.M3U8(text).segments]
        return [(str(name), key.method, str(key.uri), str(key.iv)) for name, key in found if key]

    homes = ("video/480p", "video/360p", "audio/aac")
    told = {home: keys(f"{home}/growing.m3u8") for home in homes}
    everything = [key for home in homes for key in told[home]]
    assert [len(told[home]) for home in homes] == [2, 2, 3]
    assert {(method, where) for _, method, where, _ in everything} == {("AES-128", uri)}
    assert len({iv for *_, iv in everything}) == len(everything)
    stage.finish(tmp_path)
    for home in homes:
        finished = keys(f"{home}/index.m3u8")
        assert finished[: len(told[home])] == told[home]
    assert client.get(stage.api).json()["dash_url"] is None
    assert problem(client.get(stage.url("manifest.mpd"))) == (404, "media_unknown")


def test_the_growing_master_lists_the_head_and_then_all(client: TestClient, growing: Stage) -> None:
    def listed() -> list[str | None]:
        found = m3u8.M3U8(client.get(growing.url("master.m3u8")).text)
        assert [media.uri for media in found.media] == ["audio/aac/growing.m3u8"]
        # What FFmpeg's own init segments say: see tests/unit/formats/test_cmaf.py.
        assert {v.stream_info.codecs for v in found.playlists} == {"avc1.64000a,mp4a.40.2"}
        return [variant.uri for variant in found.playlists]

    assert listed() == ["video/480p/growing.m3u8", "video/360p/growing.m3u8"]
    growing.grow(_720p=2, _240p=2)
    assert listed() == [f"video/{n}p/growing.m3u8" for n in (720, 480, 360, 240)]


def test_a_copied_film_opens_with_three_segments_and_ends_after_its_last(
    client: TestClient, services: Services, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(services, user_id)
    whole = stage.plan.timeline.segments
    stage.grow(_1080p=3, aac=2)
    assert problem(client.get(stage.url("master.m3u8"))) == (404, "not_playable_yet")
    stage.grow(aac=3)
    master = m3u8.M3U8(client.get(stage.url("master.m3u8")).text)
    assert [variant.uri for variant in master.playlists] == ["video/1080p/growing.m3u8"]

    def ended() -> tuple[bool, bool]:
        texts = [
            client.get(stage.url(f"{folder}/growing.m3u8")).text
            for folder in ("video/1080p", "audio/aac")
        ]
        return bool(m3u8.M3U8(texts[0]).is_endlist), bool(m3u8.M3U8(texts[1]).is_endlist)

    stage.grow(_1080p=whole, aac=whole - 1)
    assert ended() == (False, False)
    stage.end_step("audio")  # so there is no further sound
    # Who had the picture's playlist before, and asks for the sound's now, must not hear that it
    # has ended: Shaka Player ends where the other one did.
    assert ended() == (False, False)
    monkeypatch.setattr(manifests, "ENDS_AFTER_S", 0.0)
    assert ended() == (True, True)
    # The encoded rungs are not shown before the end, however far they are.
    stage.grow(_480p=3)
    assert client.get(stage.url("video/480p/growing.m3u8")).status_code == 404


def test_nothing_of_another_plan_is_kept(
    client: TestClient, services: Services, user_id: str
) -> None:
    """A film found damaged goes over to a plan that encodes it."""
    stage = Stage(services, user_id)
    stage.grow(_1080p=4, aac=4)
    first = m3u8.M3U8(client.get(stage.url("master.m3u8")).text)
    assert len(first.playlists) == 1
    instead = encoded_instead(stage.plan)
    assert instead is not None
    stage.set_job(state="queued")
    with services.database.write() as tx:
        claim = queue.claim(tx, "worker")
        assert claim is not None
        assert queue.replan(tx, claim, instead.to_json(), {}, make_tasks(instead, digest="known"))
    assert client.get(stage.url("master.m3u8")).status_code == 404
    assert client.get(stage.url("video/1080p/growing.m3u8")).status_code == 404
    stage.plan, stage.files = instead, {}
    stage.task_prefix += "2"
    stage.grow(_480p=1, _360p=1, aac=1)
    second = m3u8.M3U8(client.get(stage.url("master.m3u8")).text)
    assert [v.uri for v in second.playlists] == [
        "video/480p/growing.m3u8",
        "video/360p/growing.m3u8",
    ]


def test_nothing_of_a_first_try_is_kept(client: TestClient, growing: Stage) -> None:
    assert client.get(growing.url("master.m3u8")).status_code == 200
    with growing.services.database.write() as tx:
        queue.request_cancel(tx, growing.job_id)
        assert queue.retry(tx, growing.job_id, only_failed=False)
    assert problem(client.get(growing.url("master.m3u8"))) == (404, "not_playable_yet")


def test_urls_stay_the_same_when_the_job_has_ended(
    client: TestClient, growing: Stage, tmp_path: Path
) -> None:
    paths = [
        f"{folder}/{leaf}"
        for folder in ("video/480p", "audio/aac")
        for leaf in ("init.mp4", "00000.m4s", "00001.m4s")
    ]
    before = {path: client.get(growing.url(path)).content for path in paths}
    growing.finish(tmp_path)
    assert {path: client.get(growing.url(path)).content for path in paths} == before
    assert before["video/480p/00001.m4s"] == growing.files["video/480p/00001.m4s"]
    # Who began early asks this one again, and hears that it has ended.
    grown = m3u8.M3U8(client.get(growing.url("video/480p/growing.m3u8")).text)
    assert grown.is_endlist
    assert len(grown.segments) == growing.plan.timeline.segments
    master = m3u8.M3U8(client.get(growing.url("master.m3u8")).text)
    assert [v.uri for v in master.playlists][:1] == ["video/720p/index.m3u8"]
    for path, data in growing.files.items():
        if path != "report.json":
            assert client.get(growing.url(path)).content == data, path


def test_a_film_is_ready_while_its_digest_is_counted(
    client: TestClient, growing: Stage, tmp_path: Path
) -> None:
    growing.finish(tmp_path)
    growing.set_job(state="running")
    assert client.get(growing.api).json()["state"] == "ready"
    assert "index.m3u8" in client.get(growing.url("master.m3u8")).text


def test_what_an_older_version_has_made_still_plays(client: TestClient, ready: Stage) -> None:
    plan = {**json.loads(ready.plan.to_json()), "version": 0, "of_old": True}
    ready.set_job(plan=json.dumps(plan))
    assert client.get(ready.api).json()["state"] == "ready"
    for path in ("master.m3u8", "video/480p/00000.m4s", "poster.jpg"):
        assert client.get(ready.url(path)).status_code == 200


def test_a_job_that_ends_between_two_looks_is_served_from_its_files(
    client: TestClient, growing: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL each statement sees the newest rows: the job still ran, its rows are gone."""
    growing.finish(tmp_path)
    found: list[PlayedJob | None] = []
    look = rows.find_job

    def late(tx: Tx, asset_id: str, job_id: str) -> PlayedJob | None:
        row = look(tx, asset_id, job_id)
        found.append(row)
        if len(found) > 1 or row is None:
            return row
        return PlayedJob(row.id, row.asset_id, "running", None, row.kinds, row.plan_mark)

    monkeypatch.setattr(rows, "find_job", late)
    assert client.get(growing.url("video/480p/00000.m4s")).status_code == 200
    assert len(found) == 2


# --- nothing else is served ---------------------------------------------------------------------

PARTS = st.sampled_from(
    ["..", ".", "", "video", "480p", "audio", "aac", "master.m3u8", "00000.m4s", "init.mp4",
     "growing.m3u8", ".telecine", "plan.json", "report.json", "secret.key", "tasks", "%2e%2e",
     "..%2f", "\\", "~", "00000.m4s ", "000000.m4s", "0.m4s", "٠٠٠٠٠.m4s", "-0001.m4s",
     "99999.m4s", "iframes.m3u8", "\x00", "poster.jpg"]
)  # fmt: skip
PATHS = st.lists(PARTS | st.text(max_size=12), min_size=1, max_size=8).map("/".join)


def known(stage: Stage) -> set[str]:
    """Written by hand from what the engine leaves: its report is for its owner alone."""
    names = {"master.m3u8", "manifest.mpd", "poster.jpg"}
    for folder in (*(f"video/{n}p" for n in (720, 480, 360, 240)), "audio/aac"):
        names |= {f"{folder}/{leaf}" for leaf in ("init.mp4", "growing.m3u8", "index.m3u8")}
        names |= {f"{folder}/{n:05d}.m4s" for n in range(stage.plan.timeline.segments)}
        names |= {f"{folder}/iframes.m3u8"} if folder.startswith("video") else set()
    return names


@pytest.mark.parametrize("when", ["while it grows", "when it is ready"])
def test_no_other_path_is_ever_served(
    when: str, client: TestClient, growing: Stage, tmp_path: Path
) -> None:
    if when == "when it is ready":
        growing.finish(tmp_path)
        assert known(growing) == set(growing.files) - {"report.json"}
    names = known(growing)

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(PATHS)
    @example("../" * 8 + "etc/passwd")
    @example("../../../../../../secret.key")
    @example("/etc/passwd")
    @example("video/480p/../480p/00000.m4s")
    @example("video//480p/00000.m4s")
    @example("report.json")
    @example("video/480p/00000.m4s\n")
    def check(path: str) -> None:
        url = growing.url(quote(path, safe="", errors="surrogatepass"))
        answer = client.get(url)
        assert answer.status_code in (200, 404, 422)
        # The router passes over a line's end: what it then looks for is one of the names.
        assert answer.status_code != 200 or path.removesuffix("\n") in names

    check()


def test_a_very_long_path_is_refused(client: TestClient, growing: Stage) -> None:
    assert client.get(growing.url("a" * 5000)).status_code in (404, 422)


# --- headers ------------------------------------------------------------------------------------

# path → content type, how long it is kept once the job has succeeded (public).
KINDS = {
    "master.m3u8": ("application/vnd.apple.mpegurl", "no-cache"),
    "video/480p/growing.m3u8": ("application/vnd.apple.mpegurl", "no-cache"),
    "video/480p/index.m3u8": ("application/vnd.apple.mpegurl", "max-age=3600"),
    "video/480p/iframes.m3u8": ("application/vnd.apple.mpegurl", "max-age=3600"),
    "manifest.mpd": ("application/dash+xml", "max-age=3600"),
    "video/480p/init.mp4": ("video/mp4", IMMUTABLE),
    "video/480p/00000.m4s": ("video/mp4", IMMUTABLE),
    "audio/aac/init.mp4": ("audio/mp4", IMMUTABLE),
    "audio/aac/00000.m4s": ("audio/mp4", IMMUTABLE),
    "poster.jpg": ("image/jpeg", IMMUTABLE),
}


@pytest.mark.parametrize("private", [False, True])
def test_headers_of_a_finished_film(client: TestClient, ready: Stage, private: bool) -> None:
    for path in KINDS:
        look_at_headers(client, ready, path, private=private)


def look_at_headers(client: TestClient, ready: Stage, path: str, *, private: bool) -> None:
    content_type, kept = KINDS[path]
    url = ready.private(ready.token(), path) if private else ready.url(path)
    # A page of another host asks: no cookie of ours, and it may read the answer.
    answer = client.get(url, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == f"{'private' if private else 'public'}, {kept}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["timing-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert re.fullmatch(r'"[^"]+"', answer.headers["etag"])
    assert "set-cookie" not in answer.headers
    assert answer.content == ready.files[path]
    again = client.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == answer.headers["cache-control"]
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == content_type
    if "m3u8" not in path and "mpd" not in path:
        assert head.headers["content-length"] == str(len(ready.files[path]))


@pytest.mark.parametrize(
    ("top", "kept"),
    [
        ("encode", f"public, {IMMUTABLE}"),
        # The job may yet find that the copy is damaged, and make the same names of other bytes.
        ("auto", "public, no-cache"),
        ("copy", f"public, {IMMUTABLE}"),
    ],
)
def test_how_long_segments_are_kept_while_the_job_runs(
    client: TestClient, services: Services, user_id: str, top: str, kept: str
) -> None:
    stage = Stage(services, user_id, top=top)
    top_rung = stage.plan.listed[0].name
    stage.grow(**{top_rung: 3}, _480p=3, _360p=3, aac=3)
    folder = f"video/{top_rung}"
    for path in (f"{folder}/00002.m4s", f"{folder}/init.mp4", "audio/aac/00000.m4s"):
        assert client.get(stage.url(path)).headers["cache-control"] == kept
    for path in ("master.m3u8", "audio/aac/growing.m3u8"):
        assert client.get(stage.url(path)).headers["cache-control"] == "public, no-cache"


@pytest.mark.parametrize(
    "path", ["master.m3u8", "video/480p/growing.m3u8", "video/480p/index.m3u8"]
)
def test_playlists_are_compressed_where_that_is_accepted(
    client: TestClient, ready: Stage, path: str
) -> None:
    plain = client.get(ready.url(path), headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", ready.url(path), headers={"Accept-Encoding": "gzip, br"}) as zipped:
        raw = b"".join(zipped.iter_raw())
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["content-length"] == str(len(raw))
    assert gzip.decompress(raw) == plain.content
    assert zipped.headers["etag"] != plain.headers["etag"]
    for answer in (plain, zipped):
        assert "accept-encoding" in answer.headers["vary"].lower()


def test_segments_are_not_compressed_again(client: TestClient, ready: Stage) -> None:
    answer = client.get(ready.url("video/480p/00000.m4s"), headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("GZIP", True),
        ("gzip;q=1.0", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*, gzip;q=0", False),
        ("br", False),
    ],
)
def test_who_accepts_gzip(header: str, allowed: bool) -> None:
    assert objects.accepts_gzip(header) is allowed


# From RFC 9110, section 14: (Range, status, first byte, last byte) of 1000 bytes.
RANGES = [
    (None, 200, 0, 999),
    ("bytes=0-499", 206, 0, 499),
    ("bytes=500-999", 206, 500, 999),
    ("bytes=-500", 206, 500, 999),
    ("bytes=9500-", 416, 0, 0),
    ("bytes=0-0", 206, 0, 0),
    ("bytes=-1", 206, 999, 999),
    ("bytes=900-2000", 206, 900, 999),
    ("bytes=-5000", 206, 0, 999),
    ("bytes=1000-", 416, 0, 0),
    ("bytes=-0", 416, 0, 0),
    ("BYTES = 1-2", 206, 1, 2),
    ("bytes=5-4", 200, 0, 999),
    ("bytes=0-1,5-6", 200, 0, 999),
    ("bytes=", 200, 0, 999),
    ("bytes=-", 200, 0, 999),
    ("pictures=0-1", 200, 0, 999),
    ("bytes=a-b", 200, 0, 999),
    ("bytes=0x1-2", 200, 0, 999),
    ("bytes=٣-٤", 200, 0, 999),
]


@pytest.mark.parametrize(("header", "status", "first", "last"), RANGES)
def test_which_bytes_a_range_means(header: str | None, status: int, first: int, last: int) -> None:
    wanted = objects.choose(1000, '"e"', range_header=header, if_none_match=None, if_range=None)
    assert wanted.status == status
    if status in (200, 206):
        assert (wanted.start, wanted.end) == (first, last + 1)


@pytest.mark.parametrize("when", ["while it grows", "when it is ready"])
def test_a_part_of_a_segment(client: TestClient, growing: Stage, tmp_path: Path, when: str) -> None:
    if when == "when it is ready":
        growing.finish(tmp_path)
    url, data = growing.url("video/480p/00001.m4s"), growing.files["video/480p/00001.m4s"]
    part = client.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{SEGMENT_BYTES}"
    assert part.headers["content-length"] == "100"
    assert part.headers["accept-ranges"] == "bytes"
    beyond = client.get(url, headers={"Range": f"bytes={SEGMENT_BYTES}-"})
    assert (beyond.status_code, beyond.content) == (416, b"")
    assert beyond.headers["content-range"] == f"bytes */{SEGMENT_BYTES}"
    changed = client.get(url, headers={"Range": "bytes=100-199", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, data)
    same = client.get(url, headers={"Range": "bytes=100-199", "If-Range": part.headers["etag"]})
    assert same.status_code == 206


def test_what_is_not_there_yet_is_not_kept(client: TestClient, growing: Stage) -> None:
    answer = client.get(growing.url("video/480p/00009.m4s"))
    assert problem(answer) == (404, "not_playable_yet")
    assert answer.headers["cache-control"] == "no-store"


# --- the player ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page loads, and whether anything in it would run or be styled in place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.texts: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open = tag
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.loads += [given[name] or "" for name in ("src", "href") if name in given]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def policy(answer: Any) -> dict[str, list[str]]:
    words = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in words}


def test_the_embed_page_may_be_framed_and_runs_nothing_but_its_own_files(
    client: TestClient, growing: Stage
) -> None:
    growing.set_asset(title='</title><script>alert("1")</script> & more')
    answer = client.get(f"/embed/{growing.asset_id}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert page.inline == []
    assert page.texts[0] == '</title><script>alert("1")</script> & more'
    assert "<script>" not in answer.text
    rules = policy(answer)
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == ["'self'"]
    assert rules["style-src"] == ["'self'"]
    assert rules["frame-ancestors"] == ["*"]
    assert rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert "x-frame-options" not in answer.headers
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.loads
    assert page.loads.pop(0) == "data:,"  # no icon: else browsers ask for one
    for path in page.loads:
        assert path.startswith("/player/")
        loaded = client.get(path)
        assert loaded.status_code == 200
        assert loaded.headers["x-content-type-options"] == "nosniff"


def test_no_other_page_may_be_framed(client: TestClient, growing: Stage) -> None:
    for path in (growing.api, growing.url("master.m3u8"), "/player/embed.js"):
        assert policy(client.get(path))["frame-ancestors"] == ["'none'"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/embed/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "does not exist, or it is private"),
        ("/p/{expired}/embed/{asset}", 403, "has expired"),
        ("/p/1.x/embed/{asset}", 404, "does not exist, or it is private"),
    ],
)
def test_the_embed_page_says_in_plain_words_what_is_wrong(
    client: TestClient, growing: Stage, path: str, status: int, words: str
) -> None:
    expired = growing.token(expires_in_s=-1)
    answer = client.get(path.format(expired=expired, asset=growing.asset_id))
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert any(words in text for text in Page(answer.text).texts)
    assert 'data-player="none"' in answer.text


def test_what_the_embed_page_asks(client: TestClient, growing: Stage, tmp_path: Path) -> None:
    token = growing.token()
    for start, media in (("", "/media"), (f"/p/{token}", f"/p/{token}")):
        answer = client.get(f"{start}/embed/{growing.asset_id}/state")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json() == {
            "state": "growing",
            "hls": f"{media}/{growing.asset_id}/{growing.job_id}/master.m3u8",
            "file": None,
            "poster": None,
        }
    growing.finish(tmp_path)
    assert client.get(f"/embed/{growing.asset_id}/state").json()["state"] == "ready"


def test_the_embed_snippet_is_html_that_cannot_be_broken_out_of(
    client: TestClient, growing: Stage
) -> None:
    growing.set_asset(title='x" onload="alert(1)"><script>')
    found = client.get(growing.api).json()
    frames: list[dict[str, str | None]] = []

    class Snippet(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "iframe"
            frames.append(dict(attrs))

    Snippet().feed(found["embed_html"])
    (frame,) = frames
    assert frame["src"] == found["embed_url"]
    assert frame["title"] == 'x" onload="alert(1)"><script>'
    assert "onload" not in frame


def test_the_vendored_player_is_what_npm_gave() -> None:
    lines = (PLAYER / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {"hls-1.7.4.min.js", "hls.js-LICENSE"}
    for name, expected in sums.items():
        assert hashlib.sha256((PLAYER / name).read_bytes()).hexdigest() == expected
    assert "Apache License, Version 2.0" in (PLAYER / "hls.js-LICENSE").read_text()
    assert b'"1.7.4"' in (PLAYER / "hls-1.7.4.min.js").read_bytes()
    # The browser tests install the same version by its hash: where they did, the two are the same.
    locked = json.loads((E2E / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/hls.js"]["version"] == "1.7.4"
    installed = E2E / "node_modules" / "hls.js" / "dist" / "hls.min.js"
    if installed.is_file():
        assert installed.read_bytes() == (PLAYER / "hls-1.7.4.min.js").read_bytes()


def test_only_the_players_files_are_served(client: TestClient) -> None:
    answer = client.get("/player/hls-1.7.4.min.js", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["cache-control"] == f"public, {IMMUTABLE}"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    for name in ("__init__.py", "embed.html", "SHA256SUMS", "..%2f..%2fdomain.py", "nothing"):
        assert client.get(f"/player/{name}").status_code == 404
