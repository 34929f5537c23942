"""Pictures by signed URL: who may see what, what is made of it, how it is kept, and what it costs.

Real workers make the pictures; Pillow reads them. URLs are signed by the documentation's words.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.conftest import PASSWORD, Clock, filling
from tests.service.films import Film, add_film
from tests.service.images.signed_pictures import Key, key_of, upload
from tests.service.owners import Owner, owner_of
from tests.service.pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    alike,
    animation,
    encoded,
    opened,
    pixel,
    quarters,
)
from tests.service.working import count
from tests.waiting import until

from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.wire import Answer, Request
from telecine.engine.tools import Tools
from telecine.service import logs
from telecine.service.api.errors import PROBLEM_JSON
from telecine.service.collector import collect, inspect_orphans
from telecine.service.db.tables import derivative_uses, derivatives
from telecine.service.image_desk import FRESH_S, ImageDesk
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.storage.local import LocalStorage
from telecine.service.storage.store import Stored


class Watched(ImageWorkers):
    """Real workers, which count what they are asked to make, and begin when they are let."""

    def __init__(self, tools: Tools, settings: Settings) -> None:
        super().__init__(tools, count=1, limits=settings.image_limits)
        self.made = 0
        self.go = threading.Event()
        self.go.set()

    def ask(self, request: Request, *args: Any, **more: Any) -> Answer:
        if request.do == "transform":
            self.made += 1
            assert self.go.wait(30)
        return super().ask(request, *args, **more)


@dataclasses.dataclass(frozen=True)
class Made:
    """What each test's installation begins with: Ada, an image key of hers, and two pictures."""

    data: Path
    headers: dict[str, str]
    user_id: str
    key: Key
    photo: str
    moving: str


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tools: Tools, empty: Path) -> Made:
    data = tmp_path_factory.mktemp("begun") / "data"
    with filling(data, tools, empty) as (client, _):
        ada = owner_of(client)
        photo = upload(ada, encoded(quarters(), "PNG"))
        moving = upload(ada, animation(), "film.gif")
        return Made(data, ada.headers, ada.user_id, key_of(ada), photo, moving)


@pytest.fixture(scope="module")
def installed(begun: Made) -> Path:
    return begun.data


@pytest.fixture
def services(services: Services, settings: Settings, tools: Tools) -> Iterator[Services]:
    watched = Watched(tools, settings)
    yield dataclasses.replace(services, images=watched)
    watched.go.set()
    services.image_desk.close()
    watched.close()


@pytest.fixture
def watched(services: Services) -> Watched:
    assert isinstance(services.images, Watched)
    return services.images


@pytest.fixture
def ada(client: TestClient, begun: Made) -> Owner:
    return Owner(client, begun.headers, begun.user_id)


@pytest.fixture
def key(begun: Made) -> Key:
    return begun.key


@pytest.fixture
def photo(begun: Made) -> str:
    """400 × 300, its quarters red and green, blue and white."""
    return begun.photo


@pytest.fixture
def moving(begun: Made) -> str:
    """80 × 60, three frames."""
    return begun.moving


def refused(client: TestClient, path: str, **more: Any) -> tuple[int, str]:
    """The status and code of an error, which no cache keeps."""
    answer = client.get(path, **more)
    assert answer.status_code >= 400, answer.headers
    assert answer.headers["content-type"] == PROBLEM_JSON
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["code"]


def stored(services: Services) -> list[str]:
    """Once what was made is stored, the keys of all pictures that are."""
    until(lambda: not services.image_desk._making)
    return sorted(services.storage.keys("images/"))


# --- what is shown --------------------------------------------------------------------------------


def test_a_url_shows_what_its_operations_make(client: TestClient, key: Key, photo: str) -> None:
    answer = client.get(key.path(photo, "resize:w=200;rotate:angle=90"))
    assert answer.status_code == 200, answer.text
    picture = opened(answer.content).convert("RGB")
    assert picture.size == (150, 200)
    # Turned clockwise: what was at the lower left is at the upper left.
    corners = [pixel(picture, at) for at in ((10, 10), (140, 10), (10, 190), (140, 190))]
    wanted = (BLUE, RED, WHITE, GREEN)
    assert all(alike(*pair) for pair in zip(corners, wanted, strict=True)), corners


FORMATS = {
    "jpg": ("JPEG", "image/jpeg"),
    "png": ("PNG", "image/png"),
    "webp": ("WEBP", "image/webp"),
    "avif": ("AVIF", "image/avif"),
    "gif": ("GIF", "image/gif"),
    "tiff": ("TIFF", "image/tiff"),
}


def test_every_format_without_any_operation(client: TestClient, key: Key, photo: str) -> None:
    for ext, (format, content_type) in FORMATS.items():
        answer = client.get(key.path(photo, "-", ext))
        assert answer.status_code == 200, (ext, answer.text)
        picture = opened(answer.content)
        assert (picture.format, picture.size) == (format, (400, 300))
        assert answer.headers["content-type"] == content_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert "vary" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "still", "animated"),
    [
        ("image/avif,image/webp,*/*;q=0.8", "AVIF", "WEBP"),
        ("image/webp,*/*", "WEBP", "WEBP"),
        ("image/png,image/*;q=0.8", "JPEG", "GIF"),
        ("*/*", "JPEG", "GIF"),
        (None, "JPEG", "GIF"),
    ],
)
def test_auto_is_what_the_browser_accepts(
    client: TestClient,
    key: Key,
    photo: str,
    moving: str,
    accept: str | None,
    still: str,
    animated: str,
) -> None:
    sent = {b"Accept": accept.encode()} if accept is not None else {}
    client.headers.pop("accept", None)
    for asset_id, format in ((photo, still), (moving, animated)):
        for _ in range(2):  # made, then found
            answer = client.get(key.path(asset_id, "resize:w=40", "auto"), headers=sent)
            assert answer.status_code == 200, answer.text
            assert opened(answer.content).format == format
            assert "Accept" in answer.headers["vary"]
    assert opened(answer.content).n_frames == 3  # type: ignore[attr-defined]


def test_auto_shows_transparency_to_whoever_asks(client: TestClient, key: Key, photo: str) -> None:
    """A JPEG of round corners would have lost them; what `auto` cannot do of `convert` it leaves
    out."""
    path = key.path(photo, "round:radius=50;convert:quality=70", "auto")
    picture = opened(client.get(path, headers={"Accept": "*/*"}).content)
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    assert picture.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert refused(client, key.path(photo, "convert:quality=70", "png")) == (
        422,
        "option_not_of_format",
    )


def test_a_watermark_is_another_picture_of_the_same_user(
    client: TestClient, ada: Owner, key: Key, photo: str
) -> None:
    logo = upload(ada, encoded(quarters(40, 40).point(lambda _: 0), "PNG"), "black.png")
    ops = f"watermark:image={logo},position=top-left,scale=0.5"
    picture = opened(client.get(key.path(photo, ops)).content).convert("RGB")
    assert alike(pixel(picture, (50, 50)), (0, 0, 0))
    assert alike(pixel(picture, (390, 290)), WHITE)
    bob = owner_of(client, "bob@example.org")
    theirs = upload(bob, encoded(quarters(), "PNG"))
    for other in (theirs, "01KAJ9XK6B2T3W4Y5Z6A7B8C9D", "logo"):
        path = key.path(photo, f"watermark:image={other}")
        assert refused(client, path) == (404, "asset_unknown")


# --- who may --------------------------------------------------------------------------------------


def alterations(key: Key, other: Key, asset_id: str) -> Iterator[str]:
    """URLs that nobody signed."""
    good = key.path(asset_id, "resize:w=100", "png", 4102444800)
    link, ops, name = good.removeprefix("/i/").split("/")
    kid, expiry, signature = link.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    last = signature[:-1] + ("w" if signature[-1] != "w" else "g")
    for one in (flipped, last, signature[:-1], signature + "=", "", "A" * 43, signature.lower()):
        yield f"/i/{kid}.{expiry}.{one}/{ops}/{name}"
    yield f"/i/{kid}.4102444801.{signature}/{ops}/{name}"
    yield f"/i/{kid}..{signature}/{ops}/{name}"
    yield f"/i/{kid}.0{expiry}.{signature}/{ops}/{name}"
    yield f"/i/{other.id}.{expiry}.{signature}/{ops}/{name}"
    yield f"/i/{kid.lower()}.{expiry}.{signature}/{ops}/{name}"
    yield f"/i/{kid}.{expiry}.{signature}/resize:w=101/{name}"
    yield f"/i/{kid}.{expiry}.{signature}/-/{name}"
    yield f"/i/{kid}.{expiry}.{signature}/{ops}/{name.replace('png', 'webp')}"
    yield f"/i/{kid}.{expiry}.{signature}/{ops}/{other.id}.png"
    yield f"/i/-/{ops}/{name}"
    yield f"/i/{kid}/{ops}/{name}"
    yield f"/i/{kid}.{expiry}.{signature}/{'resize:w=1;' * 2000}/{name}"


def test_what_is_not_signed_is_refused_and_nothing_done(
    client: TestClient, services: Services, watched: Watched, ada: Owner, key: Key, photo: str
) -> None:
    other = key_of(ada, "another")
    services.database.close()
    before = services.database.engine.pool.checkedin()  # type: ignore[attr-defined]
    for path in alterations(key, other, photo):
        assert refused(client, path) == (403, "signature_invalid"), path
    # Not even the database was asked: no connection was opened.
    assert services.database.engine.pool.checkedin() == before  # type: ignore[attr-defined]
    assert (watched.made, stored(services)) == (0, [])


def test_a_nul_is_refused_whoever_signed_it(client: TestClient, key: Key) -> None:
    """PostgreSQL would answer it with an error of ours."""
    path = key.path("01KAJ9XK6B2T3W4Y5Z6A7B8C9D\0").replace("\0", "%00")
    assert refused(client, path) == (403, "signature_invalid")


def test_percent_encoding_makes_no_difference(client: TestClient, key: Key, photo: str) -> None:
    path = key.path(photo, "resize:w=100,h=100;blur:sigma=1")
    encoded_path = path.replace(":", "%3A").replace(",", "%2c").replace(";", "%3B")
    one, other = client.get(path), client.get(encoded_path)
    assert (one.status_code, one.content) == (other.status_code, other.content)
    assert one.status_code == 200


def test_a_url_ends_when_it_says(
    client: TestClient, key: Key, photo: str, services: Services, clock: Clock
) -> None:
    with services.database.read() as tx:
        end = int(tx.now_s()) + 100
    path = key.path(photo, "resize:w=50", "png", end)
    answer = client.get(path)
    kept = re.fullmatch(r"public, max-age=(\d+)", answer.headers["cache-control"])
    assert kept is not None
    assert 90 <= int(kept[1]) <= 100
    clock.forward(50)
    time.sleep(FRESH_S)
    kept = re.fullmatch(r"public, max-age=(\d+)", client.get(path).headers["cache-control"])
    assert kept is not None
    assert int(kept[1]) <= 50
    clock.forward(51)
    time.sleep(FRESH_S)
    assert refused(client, path) == (403, "link_expired")
    far = key.path(photo, "resize:w=50", "png", end + 10**9)
    assert client.get(far).headers["cache-control"] == "public, max-age=31536000"
    assert refused(client, key.path(photo, "-", "png", 0)) == (403, "link_expired")


def test_a_key_reaches_its_own_users_assets_alone(
    client: TestClient, key: Key, photo: str, ada: Owner
) -> None:
    bob = owner_of(client, "bob@example.org")
    theirs = key_of(bob)
    ada.ask("PATCH", f"/v1/assets/{photo}", json={"visibility": "public"})

    def told(asset_id: str) -> dict[str, Any]:
        answer = client.get(theirs.path(asset_id))
        assert answer.status_code == 404
        found: dict[str, Any] = answer.json()
        return {name: value for name, value in found.items() if name != "request_id"}

    assert told(photo) == told("01KAJ9XK6B2T3W4Y5Z6A7B8C9D") == told("no-id-at-all")
    assert told(photo)["code"] == "asset_unknown"


def test_a_revoked_key_signs_nothing_any_more_within_a_second(
    client: TestClient, ada: Owner, key: Key, photo: str
) -> None:
    other = key_of(ada)
    path = key.path(photo)
    assert client.get(path).status_code == 200
    ada.ask("DELETE", f"/v1/image-keys/{key.id}", 204)
    time.sleep(FRESH_S)
    assert refused(client, path) == (403, "signature_invalid")
    assert refused(client, key.path(photo, "resize:w=9")) == (403, "signature_invalid")
    assert client.get(other.path(photo)).status_code == 200


def test_keys_of_another_user_and_unknown_keys_are_not_there(
    client: TestClient, ada: Owner, key: Key
) -> None:
    bob = owner_of(client, "bob@example.org")
    for owner, key_id in ((bob, key.id), (ada, "01KAJ9XK6B2T3W4Y5Z6A7B8C9D")):
        answer = owner.ask("DELETE", f"/v1/image-keys/{key_id}", 404)
        assert answer["code"] == "image_key_unknown"
    assert bob.get("/v1/image-keys")["data"] == []


def test_an_image_key_is_shown_once_and_kept_nowhere(
    ada: Owner, services: Services, client: TestClient
) -> None:
    made = [ada.post("/v1/image-keys", {"name": f"key {n}"}, 201) for n in range(3)]
    assert len({one["secret"] for one in made}) == 3
    assert all(re.fullmatch(r"tci_[0-9a-f]{64}", one["secret"]) for one in made)
    listed = ada.get("/v1/image-keys", params={"limit": 3})["data"]
    assert listed == [{k: v for k, v in one.items() if k != "secret"} for one in reversed(made)]
    dump = "\n".join(
        str(tuple(row))
        for table in (sa.table("image_keys"), sa.table("users"))
        for row in rows_of(services, table)
    )
    assert all(one["secret"][4:] not in dump for one in made)
    for name in ("", "  ", "a\nb", "x" * 201):
        answer = client.post("/v1/image-keys", json={"name": name}, headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def rows_of(services: Services, table: sa.TableClause) -> Sequence[Any]:
    with services.database.read() as tx:
        return tx.connection.execute(sa.select(sa.text("*")).select_from(table)).all()


def test_no_log_holds_what_opens_a_picture(client: TestClient, ada: Owner, photo: str) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    key = key_of(ada)
    path = key.path(photo, "resize:w=30", "png", 4102444800)
    signature = path.split("/")[2].split(".")[2]
    assert client.get(path).status_code == 200
    refused(client, path.replace("w=30", "w=31"))
    for misspelt in (path.replace("/i/", "/I/"), path.replace("/i/", "/%5Ci%5C"), "/x?" + path[3:]):
        assert client.get(misspelt).status_code == 404
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    asked = [line for line in lines if line["event"] == "request" and "/i/" in line["path"]]
    assert [line["status"] for line in asked] == [200, 403]
    assert asked[0]["asset_id"] == photo
    assert f"/i/{key.id}.4102444800." in asked[0]["path"]
    assert signature not in stream.getvalue()
    assert key.secret not in stream.getvalue()


# --- one URL a picture ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ops", "canonical"),
    [
        ("resize:h=50,w=100", "resize:w=100,h=50"),
        ("resize:w=100,fit=inside", "resize:w=100"),
        ("resize:w=0100", "resize:w=100"),
        ("rotate:angle=-90", "rotate:angle=270"),
        ("blur:sigma=1.50", "blur:sigma=1.5"),
        ("background:color=#fff", "background"),
        ("watermark:text=a b", "watermark:text=a!20b"),
        ("convert", "convert"),
    ],
)
def test_operations_have_one_form(
    client: TestClient, key: Key, photo: str, ops: str, canonical: str
) -> None:
    if ops == canonical:
        assert client.get(key.path(photo, ops)).status_code == 200
        return
    answer = client.get(key.path(photo, ops).replace(" ", "%20").replace("#", "%23"))
    assert (answer.status_code, answer.json()["code"]) == (422, "ops_not_canonical")
    assert answer.json()["canonical"] == canonical
    assert client.get(key.path(photo, canonical)).status_code == 200


def test_what_cannot_be_made_is_refused_with_its_cause(
    client: TestClient,
    services: Services,
    ada: Owner,
    key: Key,
    photo: str,
    moving: str,
    film: Film,
) -> None:
    video = add_film(services, ada.user_id, film)
    for asset_id, ops, ext, status, code in (
        (moving, "-", "jpg", 422, "animation_lost"),
        (photo, "crop:w=500,h=10", "png", 422, "crop_outside"),
        (photo, "explode", "png", 422, "operation_unknown"),
        (photo, "resize:w=wide", "png", 422, "operation_invalid"),
        (photo, "rotate", "png", 422, "operation_invalid"),
        (photo, "-", "bmp", 422, "format_unknown"),
        (photo, "-", "jpeg", 422, "format_unknown"),
        (photo, ";".join(["flip"] * 33), "png", 422, "operations_too_many"),
        (video, "-", "jpg", 422, "not_an_image"),
        (photo, "resize:w=16000,h=16000,fit=fill", "png", 422, "result_too_large"),
    ):
        assert refused(client, key.path(asset_id, ops, ext)) == (status, code), (ops, ext)
    assert client.get(key.path(moving, "convert:frames=first", "jpg")).status_code == 200
    assert stored(services) != []


def test_limits_are_those_of_the_settings(
    client: TestClient, services: Services, settings: Settings, tools: Tools, key: Key, photo: str
) -> None:
    small = Watched(tools, settings.model_copy(update={"image_max_pixels": 400 * 300 - 1}))
    client.app.state.services = dataclasses.replace(services, images=small)  # type: ignore[attr-defined]
    with small:
        assert refused(client, key.path(photo)) == (422, "too_many_pixels")


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">
<rect width="40" height="30" fill="#c81e28"/></svg>"""


def test_drawings_are_taken_where_that_is_set(
    client: TestClient, services: Services, settings: Settings, tools: Tools, ada: Owner, key: Key
) -> None:
    sent = {"files": {"file": ("a.svg", SVG, "image/svg+xml")}}
    assert ada.ask("POST", "/v1/uploads/form", 422, **sent)["code"] == "svg_refused"
    with Watched(tools, settings.model_copy(update={"image_svg": True})) as drawing:
        client.app.state.services = dataclasses.replace(services, images=drawing)  # type: ignore[attr-defined]
        asset_id = upload(ada, SVG, "a.svg")
        picture = opened(client.get(key.path(asset_id)).content).convert("RGB")
        assert (picture.size, picture.getpixel((5, 5))) == ((40, 30), RED)
        client.app.state.services = services  # type: ignore[attr-defined]
    assert refused(client, key.path(asset_id, "flip")) == (422, "svg_refused")


# --- caching --------------------------------------------------------------------------------------


def test_what_caches_are_told(client: TestClient, key: Key, photo: str, services: Services) -> None:
    path = key.path(photo, "resize:w=100", "webp")
    first = client.get(path)
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    for memory in (True, False):
        if not memory:
            services.image_desk.memory._kept.clear()
        for tags in (etag, f'"x", W/{etag}', "*"):
            same = client.get(path, headers={"If-None-Match": tags})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["etag"] == etag
            assert same.headers["cache-control"] == first.headers["cache-control"]
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-length", "content-type", "cache-control"):
            assert head.headers[name] == first.headers[name]
        part = client.get(path, headers={"Range": "bytes=4-9"})
        assert (part.status_code, part.content) == (206, first.content[4:10])
        assert part.headers["content-range"] == f"bytes 4-9/{len(first.content)}"
        beyond = client.get(path, headers={"Range": "bytes=999999-"})
        assert (beyond.status_code, beyond.headers["cache-control"]) == (416, "no-store")


def test_a_head_alone_says_what_a_get_would(client: TestClient, key: Key, photo: str) -> None:
    path = key.path(photo, "flip")
    head = client.head(path)
    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(client.get(path).content)


def test_any_page_may_show_it(client: TestClient, key: Key, photo: str) -> None:
    headers = client.get(key.path(photo), headers={"Origin": "https://shop.example"}).headers
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers
    assert headers["cross-origin-resource-policy"] == "cross-origin"


# --- once -----------------------------------------------------------------------------------------


def test_twenty_who_ask_at_once_have_it_made_once(
    client: TestClient, services: Services, watched: Watched, key: Key, photo: str
) -> None:
    path = key.path(photo, "resize:w=120")
    watched.go.clear()
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(client.get, path) for _ in range(20)]
        until(lambda: watched.made == 1)
        time.sleep(0.2)
        watched.go.set()
        answers = [one.result() for one in asked]
    assert {one.status_code for one in answers} == {200}
    assert len({one.content for one in answers}) == 1
    assert watched.made == 1
    assert len(stored(services)) == count(services, derivatives) == 1
    services.image_desk.memory._kept.clear()
    assert client.get(path).content == answers[0].content
    assert watched.made == 1


def test_assets_with_the_same_bytes_share_what_is_made(
    client: TestClient, services: Services, watched: Watched, ada: Owner, key: Key, photo: str
) -> None:
    twin = upload(ada, encoded(quarters(), "PNG"), "the same.png")
    one = client.get(key.path(photo, "resize:w=60"))
    stored(services)
    other = client.get(key.path(twin, "resize:w=60"))
    assert one.content == other.content
    assert watched.made == count(services, derivatives) == 1
    assert count(services, derivative_uses) == 2
    # Whoever deletes theirs leaves nothing of it on the disk; the other's is made again.
    ada.ask("DELETE", f"/v1/assets/{photo}", 204)
    collect(services, older_than_s=0)
    assert stored(services) == []
    time.sleep(FRESH_S)
    assert client.get(key.path(twin, "resize:w=60")).content == one.content
    assert watched.made == 2
    # Another user who has the same picture cannot tell: theirs is their own.
    bob = owner_of(client, "bob@example.org")
    theirs = upload(bob, encoded(quarters(), "PNG"))
    assert client.get(key_of(bob).path(theirs, "resize:w=60")).content == one.content
    assert watched.made == 3


def test_what_all_wait_for_is_cancelled_by_nobody(
    client: TestClient, services: Services, watched: Watched, key: Key, photo: str
) -> None:
    path = key.path(photo, "resize:w=77")
    watched.go.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.get, path)
        until(lambda: watched.made == 1)
        (making,) = services.image_desk._making.values()
        assert not making.cancel()
        second = threads.submit(client.get, path)
        watched.go.set()
        assert first.result().content == second.result().content
    assert watched.made == 1


class SlowStorage(LocalStorage):
    """A folder on a disk that stores no picture before it is let."""

    go = threading.Event()

    def put_bytes(self, key: str, data: bytes, *, durable: bool = True) -> Stored:
        assert not key.startswith("images/") or self.go.wait(30)
        return super().put_bytes(key, data, durable=durable)


def test_who_asks_while_it_is_being_stored_gets_the_same(
    client: TestClient, services: Services, watched: Watched, key: Key, photo: str
) -> None:
    """Its row stands by then, its object does not."""
    slow = SlowStorage(services.settings.data / "objects")
    client.app.state.services = dataclasses.replace(services, storage=slow)  # type: ignore[attr-defined]
    path = key.path(photo, "resize:w=66")
    first = client.get(path)
    until(lambda: count(services, derivatives) == 1)
    services.image_desk.memory._kept.clear()
    assert client.get(path).content == first.content
    assert (watched.made, list(services.storage.keys("images/"))) == (1, [])
    slow.go.set()
    assert len(stored(services)) == count(services, derivatives) == 1
    assert inspect_orphans(services) == []


# --- bounds ---------------------------------------------------------------------------------------


def desk(client: TestClient, services: Services, **bounds: int) -> ImageDesk:
    made = ImageDesk(**{"at_once": 1, "waiting": 64, "per_minute": 1000, **bounds})
    client.app.state.services = dataclasses.replace(services, image_desk=made)  # type: ignore[attr-defined]
    return made


def test_who_comes_when_too_many_wait_is_told_to_come_back(
    client: TestClient, services: Services, watched: Watched, key: Key, photo: str
) -> None:
    bounded = desk(client, services, at_once=1, waiting=2)
    watched.go.clear()
    paths = [key.path(photo, f"resize:w={width}") for width in (10, 20, 30, 40)]
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(client.get, path) for path in paths[:3]]
        until(lambda: len(bounded._making) == 3)
        answer = client.get(paths[3])
        assert (answer.status_code, answer.json()["code"]) == (429, "images_busy")
        assert int(answer.headers["retry-after"]) >= 1
        # Whoever asks for what is on its way anyway waits with the others; all else goes on.
        asked.append(ThreadPoolExecutor(1).submit(client.get, paths[0]))
        assert client.get("/readyz").status_code == 200
        watched.go.set()
        assert {one.result().status_code for one in asked} == {200}
    until(lambda: not bounded._making)
    assert client.get(paths[3]).status_code == 200
    bounded.close()


def test_a_user_has_so_many_made_in_a_minute_whatever_keys_they_have(
    client: TestClient, services: Services, ada: Owner, key: Key, photo: str
) -> None:
    bounded = desk(client, services, per_minute=3)
    paths = [key.path(photo, f"resize:w={width}") for width in (10, 20, 30, 40)]
    assert [client.get(path).status_code for path in paths] == [200, 200, 200, 429]
    answer = client.get(paths[3])
    assert answer.json()["code"] == "images_limited"
    wait_s = int(answer.headers["retry-after"])
    assert 1 <= wait_s <= 60
    assert answer.headers["ratelimit-policy"] == '"images";q=3;w=60'
    assert answer.headers["ratelimit"] == f'"images";r=0;t={wait_s}'
    assert client.get(paths[0]).status_code == 200  # what is there costs nothing
    assert refused(client, key_of(ada).path(photo, "resize:w=50")) == (429, "images_limited")
    bob = owner_of(client, "bob@example.org")
    theirs = upload(bob, encoded(quarters(), "PNG"))
    assert client.get(key_of(bob).path(theirs, "resize:w=50")).status_code == 200
    bounded.close()


def test_the_cache_has_a_bound_and_what_was_used_least_lately_goes(
    client: TestClient, services: Services, clock: Clock, key: Key, photo: str
) -> None:
    paths = [key.path(photo, f"resize:w={width}") for width in (100, 110, 120)]
    first = []
    for path in paths:
        first.append(client.get(path).content)
        stored(services)
        clock.forward(3700)
    services.image_desk.memory._kept.clear()
    client.get(paths[0])  # so that it is the last one that was used
    room = len(first[0]) + len(first[2])
    bounded = services.settings.model_copy(update={"image_cache_bytes": room})
    small = dataclasses.replace(services, settings=bounded)
    collect(small, older_than_s=0)
    assert len(stored(services)) == count(services, derivatives) == 2
    assert inspect_orphans(services) == []
    left = sum(services.storage.stat(name).size_bytes for name in stored(services))
    assert left == room
    services.image_desk.memory._kept.clear()
    assert [client.get(path).content for path in paths] == first


def test_that_it_is_used_is_written_at_most_once_an_hour(
    client: TestClient, services: Services, clock: Clock, key: Key, photo: str
) -> None:
    def used() -> float:
        with services.database.read() as tx:
            return float(tx.connection.execute(sa.select(derivatives.c.used_at)).scalar_one())

    def ask() -> None:
        services.image_desk.memory._kept.clear()
        assert client.get(key.path(photo)).status_code == 200

    ask()
    stored(services)
    began = used()
    clock.forward(3500)
    ask()
    assert used() == began
    clock.forward(200)
    ask()
    assert used() >= began + 3600


# --- what is deleted, and what is lost ------------------------------------------------------------


def test_a_deleted_picture_is_gone_within_a_second_and_from_the_disk(
    client: TestClient, services: Services, ada: Owner, key: Key, photo: str
) -> None:
    logo = upload(ada, encoded(quarters(20, 20), "PNG"), "logo.png")
    plain, marked = key.path(photo, "flip"), key.path(photo, f"watermark:image={logo}")
    assert {client.get(path).status_code for path in (plain, marked)} == {200}
    assert len(stored(services)) == 2
    ada.ask("DELETE", f"/v1/assets/{logo}", 204)
    time.sleep(FRESH_S)
    assert refused(client, marked) == (404, "asset_unknown")
    assert client.get(plain).status_code == 200
    collect(services, older_than_s=0)
    assert len(stored(services)) == 1
    ada.ask("DELETE", f"/v1/assets/{photo}", 204)
    time.sleep(FRESH_S)
    assert refused(client, plain) == (404, "asset_unknown")
    collect(services, older_than_s=0)
    assert stored(services) == []
    assert count(services, derivatives) == count(services, derivative_uses) == 0
    assert inspect_orphans(services) == []


def test_an_asset_that_is_deleted_while_its_picture_is_made_leaves_nothing(
    client: TestClient, services: Services, watched: Watched, ada: Owner, key: Key, photo: str
) -> None:
    watched.go.clear()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(client.get, key.path(photo, "flip"))
        until(lambda: watched.made == 1)
        ada.ask("DELETE", f"/v1/assets/{photo}", 204)
        watched.go.set()
        assert asked.result().status_code in (200, 404)
    assert stored(services) == []
    assert count(services, derivatives) == 0


def test_with_a_user_go_their_pictures(
    client: TestClient, services: Services, clock: Clock, ada: Owner, key: Key, photo: str
) -> None:
    path = key.path(photo, "flip")
    assert client.get(path).status_code == 200
    assert len(stored(services)) == 1
    ada.ask("DELETE", "/v1/users/me", 204, json={"password": PASSWORD})
    time.sleep(FRESH_S)
    assert refused(client, path) == (403, "signature_invalid")
    clock.forward(120)
    collect(services, older_than_s=0)
    assert list(services.storage.keys("")) == []
    assert count(services, derivatives) == 0


def test_a_picture_whose_object_is_lost_is_made_anew(
    client: TestClient, services: Services, watched: Watched, key: Key, photo: str
) -> None:
    path = key.path(photo, "flip")
    first = client.get(path)
    torn = first.content[:-100] + bytes(100)  # as power that fails may leave a file
    for there in (None, first.content[:10], torn):
        (name,) = stored(services)
        services.storage.delete(name)
        if there is not None:
            services.storage.put_bytes(name, there)
        services.image_desk.memory._kept.clear()
        again = client.get(path)
        assert (again.status_code, again.content) == (200, first.content)
        (name,) = stored(services)
        assert b"".join(services.storage.read(name)) == first.content
    assert watched.made == 4


def test_what_is_not_looked_at_before_it_is_sent_is_made_durable(
    client: TestClient, services: Services, ada: Owner, key: Key, photo: str
) -> None:
    """A small picture is told by its bytes whenever it is read, so none waits for the disk."""
    did: dict[bool, int] = {}

    class Spy(LocalStorage):
        def put_bytes(self, key: str, data: bytes, *, durable: bool = True) -> Stored:
            did[durable] = len(data)
            return super().put_bytes(key, data, durable=durable)

    noise = upload(ada, encoded(Image.effect_noise((700, 700), 100), "PNG"))
    spied = dataclasses.replace(services, storage=Spy(services.settings.data / "objects"))
    client.app.state.services = spied  # type: ignore[attr-defined]
    for asset_id in (photo, noise):
        assert client.get(key.path(asset_id)).status_code == 200
        stored(services)
    assert did[False] <= 256 << 10 < did[True]


def test_a_large_picture_is_sent_from_the_disk(
    client: TestClient, services: Services, watched: Watched, ada: Owner, key: Key
) -> None:
    noise = upload(ada, encoded(Image.effect_noise((700, 700), 100), "PNG"))
    path = key.path(noise)
    first = client.get(path)
    assert len(first.content) > 256 << 10
    stored(services)
    assert client.get(path).content == first.content
    assert client.get(path, headers={"Range": "bytes=0-3"}).content == first.content[:4]
    same = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert same.status_code == 304
    assert watched.made == 1
    assert services.image_desk.memory.get(path) is None
