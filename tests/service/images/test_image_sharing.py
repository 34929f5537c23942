"""Users share the image desk and the workers: whoever asks for much waits for it themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.waiting import until

from telecine.service.domain import TooMany
from telecine.service.image_desk import ImageDesk, Shown


@dataclass
class Easel:
    """What is painted, in its order, when it is let."""

    begun: list[str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Painting:
    name: str
    easel: Easel
    looked_s: float = 0.0

    def make(self, perhaps_there: bool) -> Shown:
        self.easel.begun.append(self.name)
        assert self.easel.go.wait(10)
        return Shown(self.name, "image/png", 1, "0" * 64, b"1")

    def keep(self, made: Sequence[tuple[Any, Shown]]) -> None:
        """Nowhere."""


@pytest.fixture
def easel() -> Iterator[Easel]:
    made = Easel()
    yield made
    made.go.set()


@pytest.fixture
def desk(easel: Easel) -> Iterator[ImageDesk]:
    made = ImageDesk(at_once=1, waiting=4, per_minute=1000)
    yield made
    easel.go.set()
    made.close()


def ask(desk: ImageDesk, easel: Easel, name: str) -> Future[Shown]:
    """A picture of the user that it is called after."""
    return desk.ask(Painting(name, easel), name.partition(" ")[0])


def test_who_asks_for_much_neither_fills_the_room_nor_has_all_turns(
    desk: ImageDesk, easel: Easel
) -> None:
    first = ask(desk, easel, "ada 0")
    until(lambda: easel.begun == ["ada 0"])
    adas = [ask(desk, easel, f"ada {n}") for n in range(1, 5)]
    with pytest.raises(TooMany):  # alone she may fill the room, and no more than that
        ask(desk, easel, "ada 5")
    bobs = [ask(desk, easel, f"bob {n}") for n in range(2)]
    for lost in adas[2:]:
        told = lost.exception(10)
        assert isinstance(told, TooMany)
        assert (told.code, told.retry_after_s) == ("images_busy", 1)
    with pytest.raises(TooMany):  # each has two places of four
        ask(desk, easel, "bob 2")
    again = ask(desk, easel, "ada 1")
    assert again is adas[0]  # who waits for what is on its way takes no place
    easel.go.set()
    for made in (first, *adas[:2], *bobs):
        made.result(10)
    assert easel.begun == ["ada 0", "ada 1", "bob 0", "ada 2", "bob 1"]
    until(lambda: not desk._making)
    ask(desk, easel, "ada 4").result(10)  # what lost its place is asked for again


def test_all_places_are_free_again_when_nothing_waits(desk: ImageDesk, easel: Easel) -> None:
    easel.go.set()
    for n in range(20):
        ask(desk, easel, f"ada {n}").result(10)
    until(lambda: not desk._making)
    easel.go.clear()
    asked = [ask(desk, easel, f"ada again {n}") for n in range(5)]
    with pytest.raises(TooMany):
        ask(desk, easel, "ada once more")
    easel.go.set()
    for made in asked:
        made.result(10)
