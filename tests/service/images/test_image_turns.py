"""How many pictures a user has made within a minute: decided without a clock or a thread."""

from __future__ import annotations

import threading

from telecine.service.image_desk import Turns


def test_within_any_minute_there_are_so_many() -> None:
    turns = Turns(2)
    assert turns.take("a", 100.0) == 0
    assert turns.take("a", 130.0) == 0
    assert turns.take("a", 130.0) == 30  # the first is a minute old then
    assert turns.take("a", 159.0) == 1  # asking in vain costs nothing
    assert turns.take("a", 160.0) == 0
    assert turns.take("a", 160.0) == 30


def test_each_user_has_their_own_and_none_is_kept_who_rests() -> None:
    turns = Turns(1)
    for n in range(1000):
        assert turns.take(f"user {n}", 5.0 + n / 1000) == 0
    assert turns.take("user 7", 6.0) > 0
    assert turns.take("another", 70.0) == 0
    assert len(turns._taken) == 1


def test_a_turn_starts_no_thread() -> None:
    before = threading.active_count()
    turns = Turns(1000)
    for n in range(100):
        turns.take("a", float(n))
    assert threading.active_count() == before
