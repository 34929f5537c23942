"""Pictures that cannot be made: tried once, by real workers, unless what was wrong has passed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.service.conftest import Clock
from tests.service.images.signed_pictures import Key, key_of, upload
from tests.service.owners import Owner, owner_of
from tests.service.pictures import animation, encoded, quarters
from tests.waiting import until

from telecine.engine.errors import InputRefused, StepFailed
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Answer, Request
from telecine.engine.tools import Tools
from telecine.service.collector import collect, inspect_orphans
from telecine.service.db.tables import derivatives
from telecine.service.image_desk import ImageDesk
from telecine.service.services import Services


class Counting(ImageWorkers):
    """Real workers, which count what they are asked to make, and fail when they are told to."""

    made = 0
    fault: Exception | None = None

    def ask(self, request: Request, *args: Any, **more: Any) -> Answer:
        self.made += request.do == "transform"
        if self.fault is not None:
            raise self.fault
        return super().ask(request, *args, **more)


@pytest.fixture
def services(services: Services, tools: Tools) -> Iterator[Services]:
    with Counting(tools, count=1, limits=ImageLimits()) as workers:
        yield dataclasses.replace(services, images=workers)
        services.image_desk.close()


@pytest.fixture
def workers(services: Services) -> Counting:
    assert isinstance(services.images, Counting)
    return services.images


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


@pytest.fixture
def key(ada: Owner) -> Key:
    return key_of(ada)


@pytest.fixture
def photo(ada: Owner) -> str:
    return upload(ada, encoded(quarters(), "PNG"))


def settle(services: Services) -> None:
    """Everything is stored, and nothing is known but what is stored."""
    until(lambda: not services.image_desk._making)
    services.image_desk.memory._kept.clear()


def told(client: TestClient, path: str) -> tuple[int, str, str]:
    answer = client.get(path)
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    return answer.status_code, found["code"], found["detail"]


def test_what_cannot_be_made_is_tried_once(
    client: TestClient, services: Services, workers: Counting, ada: Owner, key: Key, photo: str
) -> None:
    moving = upload(ada, animation(), "film.gif")
    paths = [key.path(moving, "-", "jpg"), key.path(photo, "crop:w=500,h=10", "png")]
    first = [told(client, path) for path in paths]
    assert [(status, code) for status, code, _ in first] == [
        (422, "animation_lost"),
        (422, "crop_outside"),
    ]
    assert workers.made == 2
    assert [told(client, path) for path in paths] == first  # from memory
    settle(services)
    assert [told(client, path) for path in paths] == first  # from the disk
    assert client.head(paths[0]).status_code == 422
    other = key_of(ada, "another")
    assert told(client, other.path(moving, "-", "jpg")) == first[0]
    desk = ImageDesk(at_once=1, waiting=1, per_minute=1)  # of another process
    client.app.state.services = dataclasses.replace(services, image_desk=desk)  # type: ignore[attr-defined]
    assert told(client, paths[0]) == first[0]
    desk.close()
    assert workers.made == 2
    assert inspect_orphans(services) == []


def test_a_refusal_holds_as_long_as_the_limits_and_the_programs(
    client: TestClient, services: Services, tools: Tools, workers: Counting, key: Key, photo: str
) -> None:
    path = key.path(photo, "flip")
    workers.limits = ImageLimits(pixels=400 * 300 - 1)
    for _ in range(2):
        assert told(client, path)[:2] == (422, "too_many_pixels")
        settle(services)
    assert workers.made == 1
    workers.limits = ImageLimits()
    assert client.get(path).status_code == 200
    settle(services)
    assert client.get(path).status_code == 200
    assert workers.made == 2
    outside = key.path(photo, "crop:w=500,h=10")
    assert told(client, outside)[1] == "crop_outside"
    settle(services)
    newer = dataclasses.replace(tools, version="10.0")
    client.app.state.services = dataclasses.replace(services, tools=newer)  # type: ignore[attr-defined]
    assert told(client, outside)[1] == "crop_outside"
    assert workers.made == 4
    settle(services)
    assert inspect_orphans(services) == []


def test_what_took_too_much_is_tried_again_after_ten_minutes(
    client: TestClient, services: Services, workers: Counting, clock: Clock, key: Key, photo: str
) -> None:
    path = key.path(photo, "flip")
    workers.fault = StepFailed("the picture took more than 30 s", code="image_limit")
    assert told(client, path)[:2] == (422, "image_limit")
    workers.fault = None
    settle(services)
    clock.forward(590)
    assert told(client, path) == (422, "image_limit", "the picture took more than 30 s")
    assert workers.made == 1
    settle(services)
    clock.forward(11)
    assert client.get(path).status_code == 200
    assert workers.made == 2


@pytest.mark.parametrize(
    "fault",
    [
        StepFailed("two died", code="image_worker_died"),
        StepFailed("a fault of ours", code="image_failed"),
        StepFailed("64 pictures are waiting already", code="images_busy", retryable=True),
        InputRefused("source cannot be read: Input/output error", code="source_missing"),
        MemoryError(),
        OSError(28, "No space left on device"),
    ],
    ids=repr,
)
def test_what_passes_is_not_kept(
    client: TestClient,
    services: Services,
    workers: Counting,
    key: Key,
    photo: str,
    fault: Exception,
) -> None:
    path = key.path(photo, "flip")
    workers.fault = fault
    asking = TestClient(client.app, "http://127.0.0.1:8000", raise_server_exceptions=False)
    assert asking.get(path).status_code >= 400
    settle(services)
    assert list(services.storage.keys("images/")) == []
    workers.fault = None
    assert client.get(path).status_code == 200


def test_a_picture_that_kills_two_workers_is_refused_alike_everywhere(
    client: TestClient, workers: Counting, ada: Owner, key: Key, photo: str
) -> None:
    """One died, and so did a new one that had no other picture before: that is the picture's."""
    workers.fault = StepFailed("a worker died, and so did the next", code="image_worker_died")
    assert told(client, key.path(photo))[:2] == (422, "image_worker_died")
    sent = {"files": {"file": ("a.png", encoded(quarters(), "PNG"), "image/png")}}
    assert ada.ask("POST", "/v1/uploads/form", 422, **sent)["code"] == "image_worker_died"


def test_refusals_are_bounded_and_go_with_their_picture(
    client: TestClient, services: Services, clock: Clock, ada: Owner, key: Key, photo: str
) -> None:
    def kept() -> int:
        settle(services)
        with services.database.read() as tx:
            sizes = tx.connection.execute(sa.select(derivatives.c.size_bytes)).scalars().all()
        assert len(list(services.storage.keys("images/"))) == len(sizes)
        assert all(size >= 4096 for size in sizes)  # what each takes of a disk at least
        return len(sizes)

    for width in (500, 501, 502):
        assert told(client, key.path(photo, f"crop:w={width},h=10"))[1] == "crop_outside"
        settle(services)
        clock.forward(100)
    assert kept() == 3
    bounded = services.settings.model_copy(update={"image_cache_bytes": 2 * 4096})
    collect(dataclasses.replace(services, settings=bounded), older_than_s=0)
    assert kept() == 2
    ada.ask("DELETE", f"/v1/assets/{photo}", 204)
    collect(services, older_than_s=0)
    assert kept() == 0
    assert inspect_orphans(services) == []
