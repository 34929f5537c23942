"""Tasks that make pictures, as workers run them: their lease, and the room that they need."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.images.signed_pictures import upload
from tests.service.owners import Owner, owner_of
from tests.service.pictures import encoded, quarters
from tests.service.working import one, working
from tests.waiting import until

from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.values import ImageLimits
from telecine.engine.process import Cancel
from telecine.engine.tools import Tools
from telecine.service import worker as worker_module
from telecine.service.collector import sweep
from telecine.service.db.tables import jobs, tasks
from telecine.service.services import Services
from telecine.service.worker import Clocks, run_worker


class Slow(ImageWorkers):
    """Real workers, before which FFmpeg decodes as slowly as a large HEIC."""

    rest_s = 0.0

    @contextmanager
    def place(self, cancel: Cancel | None = None, tenant: str = "") -> Iterator[None]:
        with super().place(cancel, tenant):
            time.sleep(self.rest_s)
            yield


@pytest.fixture
def services(services: Services, tools: Tools) -> Iterator[Services]:
    with Slow(tools, count=1, limits=ImageLimits()) as workers:
        yield dataclasses.replace(services, images=workers)


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


def bmp(shade: int) -> bytes:
    return encoded(Image.new("RGB", (40, 30), (shade, shade, shade)), "BMP")


@pytest.mark.thorough
def test_pictures_that_are_long_to_decode_keep_their_lease(ada: Owner, services: Services) -> None:
    """Five of them, each within the time in which something has to move, all together beyond it
    and beyond the lease."""
    shades = (10, 60, 110, 160, 210)
    asset_id, *marks = (upload(ada, bmp(shade), f"{shade}.bmp") for shade in shades)
    ops = [{"op": "watermark", "image": mark, "scale": 0.2} for mark in marks]
    outputs = [{"type": "image", "ops": ops, "format": "png"}]
    job = ada.submit(asset_id, outputs=outputs)
    assert isinstance(services.images, Slow)
    services.images.rest_s = 2.0
    clocks = Clocks(lease_s=2.5, heartbeat_s=0.2, look_s=0.1, quiet_s=4.5, fence_s=2.3, poll_s=0.2)

    def ended() -> bool:
        sweep(services)  # takes away what has no lease any more
        return ada.get(f"/v1/jobs/{job['id']}")["state"] in ("succeeded", "failed")

    with working(services, clocks=clocks):
        until(ended)
    row = one(
        services, sa.select(tasks).where(tasks.c.job_id == job["id"], tasks.c.kind == "image")
    )
    assert (row.state, row.epoch, row.crashes) == ("succeeded", 1, 0)


def test_no_picture_is_begun_on_a_disk_that_is_too_full(
    ada: Owner, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is larger than there is room waits, queued or begun; others go on."""
    large, small = upload(ada, encoded(quarters(), "TIFF")), upload(ada, bmp(10), "a.bmp")
    size_bytes = len(encoded(quarters(), "TIFF"))
    outputs = [{"type": "image", "format": "webp"}]
    first = ada.submit(large, outputs=[{**outputs[0], "name": "a"}, {**outputs[0], "name": "b"}])
    assert run_worker(services, "w", once=True, stop=threading.Event()) == 1  # `a`: it is begun
    second, other = ada.submit(large, outputs=outputs), ada.submit(small, outputs=outputs)
    usage = SimpleNamespace(free=2 * size_bytes - 1)
    monkeypatch.setattr(
        worker_module,
        "shutil",
        SimpleNamespace(disk_usage=lambda _: usage, rmtree=shutil.rmtree),
    )
    while run_worker(services, "w", once=True, stop=threading.Event()):
        pass

    def state(job: Any) -> str:
        return str(one(services, sa.select(jobs.c.state).where(jobs.c.id == job["id"]))[0])

    assert (state(first), state(second), state(other)) == ("running", "queued", "succeeded")
    usage.free += 1
    while run_worker(services, "w", once=True, stop=threading.Event()):
        pass
    assert (state(first), state(second)) == ("succeeded", "succeeded")
