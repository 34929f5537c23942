"""The desk of pictures in the making: made once, answered before they are stored, and stored
together."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
from tests.waiting import until

from telecine.service.domain import TooMany
from telecine.service.image_desk import ImageDesk, Memory, Remembered, Shown


@dataclass
class Disk:
    """Where the pictures of these tests go, when it is let."""

    batches: list[list[str]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False


@dataclass(frozen=True)
class Painting:
    """A picture that is made at once, of its name."""

    name: str
    disk: Disk
    looked_s: float = field(default_factory=time.monotonic)
    asked: list[bool] = field(default_factory=list)

    def make(self, perhaps_there: bool) -> Shown:
        self.asked.append(perhaps_there)
        return Shown(self.name, "image/png", 1, "0" * 64, b"1")

    def keep(self, made: Sequence[tuple[Any, Shown]]) -> None:
        assert self.disk.go.wait(10)
        self.disk.batches.append([shown.key for _, shown in made])
        if self.disk.fails:
            raise OSError("no disk")


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def desk(disk: Disk) -> Iterator[ImageDesk]:
    desk = ImageDesk(at_once=1, waiting=1, per_minute=1000)
    yield desk
    disk.go.set()
    desk.close()


def settle(desk: ImageDesk) -> None:
    until(lambda: not desk._making, 10)


def test_it_is_answered_before_it_is_stored_and_those_that_follow_are_stored_together(
    desk: ImageDesk, disk: Disk
) -> None:
    names = [f"{n}" for n in range(10)]
    for name in names:  # more than may wait: what is made waits for no worker any more
        assert desk.ask(Painting(name, disk), "key").result(10).key == name
    assert disk.batches == []
    disk.go.set()
    settle(desk)
    assert sorted(chain(*disk.batches)) == names
    assert len(disk.batches) <= 3


def test_a_disk_that_does_not_keep_up_is_told_of(desk: ImageDesk, disk: Disk) -> None:
    def ask_many() -> None:
        for n in range(100):
            desk.ask(Painting(str(n), disk), "key").result(10)

    with pytest.raises(TooMany) as told:
        ask_many()
    assert told.value.code == "images_busy"
    disk.go.set()
    settle(desk)
    desk.ask(Painting("at last", disk), "key").result(10)


def test_what_was_stored_after_it_was_looked_for_is_looked_for_again(
    desk: ImageDesk, disk: Disk
) -> None:
    disk.go.set()
    late = Painting("a", disk)
    first = Painting("a", disk)
    desk.ask(first, "key").result(10)
    settle(desk)
    desk.ask(late, "key").result(10)
    settle(desk)
    after = Painting("a", disk)
    desk.ask(after, "key").result(10)
    assert (first.asked, late.asked, after.asked) == ([False], [True], [False])


def test_what_cannot_be_stored_stops_nobody(desk: ImageDesk, disk: Disk) -> None:
    disk.fails = True
    disk.go.set()
    for name in "ab":
        desk.ask(Painting(name, disk), "key").result(10)
        settle(desk)
    assert disk.batches == [["a"], ["b"]]


def test_what_was_made_is_stored_before_the_desk_closes(disk: Disk) -> None:
    desk = ImageDesk(at_once=1, waiting=1, per_minute=1000)
    disk.go.set()
    for n in range(40):
        desk.ask(Painting(str(n), disk), "key").result(10)
    desk.close()
    desk.close()
    assert len(list(chain(*disk.batches))) == 40


def test_many_urls_of_one_tiny_picture_do_not_fill_the_memory() -> None:
    """What is measured is what Python allots for them, not what the memory says of itself."""
    memory = Memory(most_bytes=2_000_000)
    tracemalloc.start()
    try:
        for n in range(4000):
            tiny = bytes(70)
            kept = Remembered(Shown(f"images/{n}", "image/png", 70, f"{n:064}", tiny), 0.0, 0.0)
            memory.put(f"kid.{n}.{'s' * 43}/{'ü' * 500}/asset.png", kept)
        allotted, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 500_000 < allotted < 2_000_000
    assert memory.get(f"kid.3999.{'s' * 43}/{'ü' * 500}/asset.png") is not None
    assert memory.get(f"kid.0.{'s' * 43}/{'ü' * 500}/asset.png") is None
