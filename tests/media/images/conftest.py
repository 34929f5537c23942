"""A worker for each module of tests: it takes half a second to start, and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.media.images.making import one_worker

from telecine.engine.images.pool import ImageWorkers


@pytest.fixture(scope="session")
def limits() -> dict[str, Any]:
    """A module whose worker has other limits than the usual ones has its own."""
    return {}


@pytest.fixture(scope="module")
def workers(limits: dict[str, Any]) -> Iterator[ImageWorkers]:
    """Without FFmpeg. A module whose pictures FFmpeg decodes has its own."""
    with one_worker(**limits) as workers:
        yield workers
