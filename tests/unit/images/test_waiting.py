"""`engine.images.waiting`: turns and places by hand-made tables, and by counting."""

from __future__ import annotations

import random
from collections import Counter

from telecine.engine.images.waiting import WaitingRoom


def room(*names: str) -> WaitingRoom[str]:
    """Requests called by their tenant and a number: `a1` is of `a`."""
    found: WaitingRoom[str] = WaitingRoom()
    for name in names:
        assert found.put(name[0], name, 100) is None
    return found


def served(waiting: WaitingRoom[str]) -> list[str]:
    return [waiting.take() for _ in range(len(waiting))]


def test_turns_go_round_and_each_ones_own_keep_their_order() -> None:
    assert served(room("a1", "a2", "a3", "a4", "b1", "c1", "c2")) == [
        *("a1", "b1", "c1"),
        *("a2", "c2"),
        *("a3", "a4"),
    ]


def test_who_comes_later_waits_for_one_turn_of_each_other() -> None:
    waiting = room("a1", "a2", "a3", "b1", "b2", "b3")
    assert waiting.take() == "a1"
    waiting.put("c", "c1", 100)
    assert [waiting.take() for _ in range(3)] == ["b1", "a2", "c1"]


def test_one_alone_may_fill_the_room_and_gives_way_to_others() -> None:
    waiting = room("a1", "a2", "a3", "a4")
    assert not waiting.has_room("a", 4)
    assert waiting.has_room("b", 4)
    assert waiting.put("b", "b1", 4) == "a4"
    assert waiting.put("b", "b2", 4) == "a3"
    assert not waiting.has_room("b", 4)  # each has two: neither gains
    assert not waiting.has_room("a", 4)
    assert waiting.put("c", "c1", 4) in ("a2", "b2")
    assert len(waiting) == 4


def test_where_nobody_has_two_who_comes_is_refused() -> None:
    assert not room("a1", "b1", "c1").has_room("d", 3)
    assert not room().has_room("a", 0)


def test_what_is_removed_has_no_turn() -> None:
    waiting = room("a1", "a2", "b1")
    assert waiting.remove("a2")
    assert waiting.remove("b1")
    assert not waiting.remove("b1")
    waiting.put("b", "b2", 100)
    assert served(waiting) == ["a1", "b2"]
    assert len(waiting) == 0


def test_whoever_asks_most_has_no_more_than_their_share() -> None:
    """Three tenants, one of whom asks fifty times as often. Of 12 places each has its third as soon
    as it wants it, and each is served as often as the others."""
    choose = random.Random(7)
    waiting: WaitingRoom[str] = WaitingRoom()
    done: Counter[str] = Counter()
    for _ in range(3000):
        tenant = choose.choices("abc", [50, 1, 1])[0]
        for each in (tenant, "b", "c"):  # those two always want as much as they may have
            if waiting.has_room(each, 12):
                waiting.put(each, each, 12)
        assert len(waiting) <= 12
        if len(waiting) == 12:
            done[waiting.take()] += 1
    assert max(done.values()) - min(done.values()) <= 12
