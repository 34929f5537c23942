"""The rows of pictures made for URLs, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from tests.service.databases import StoppedClock
from tests.service.jobs_made import add_asset, add_user

from telecine.service.db import accounts, attempts, derivatives, image_keys
from telecine.service.db.connection import Database
from telecine.service.db.derivatives import Derivative, Looked, Picture
from telecine.service.db.tables import assets, derivative_uses, users
from telecine.service.domain import new_id


def add_owner(database: Database) -> str:
    user_id = new_id()
    with database.write() as tx:
        add_user(tx, user_id)
    return user_id


def add_picture(database: Database, user_id: str) -> str:
    asset_id = new_id()
    with database.write() as tx:
        add_asset(
            tx, asset_id, user_id, kind="image", filename="a.png", content_type="image/png",
            source_sha256="5" * 64,
        )  # fmt: skip
    return asset_id


def made(letter: str, size_bytes: int = 10) -> Derivative:
    digest = letter * 64
    return Derivative(digest, f"images/{letter}.png", "image/png", size_bytes, "0" * 64)


def note(database: Database, one: Derivative, *asset_ids: str) -> bool:
    with database.write() as tx:
        return derivatives.note(tx, one, dict.fromkeys(asset_ids, one.digest))


def look(database: Database, key_id: str, asset_id: str, request: str) -> Looked | None:
    with database.read() as tx:
        return derivatives.look(tx, key_id, asset_id, request)


@pytest.fixture
def user_id(clocked: Database) -> str:
    return add_owner(clocked)


@pytest.fixture
def key_id(clocked: Database, user_id: str) -> str:
    with clocked.write() as tx:
        return image_keys.add_image_key(tx, user_id, "pages").id


def test_one_look_finds_what_a_key_reaches(clocked: Database, user_id: str, key_id: str) -> None:
    mine, theirs = add_picture(clocked, user_id), add_picture(clocked, add_owner(clocked))
    one = made("a")
    assert note(clocked, one, mine)
    assert note(clocked, made("b"), theirs)
    found = look(clocked, key_id, mine, one.digest)
    assert found is not None
    assert (found.user_id, found.derivative, found.stale) == (user_id, one, False)
    assert found.source == Picture(
        id=mine,
        kind="image",
        source_key=f"sources/{mine}",
        sha256="5" * 64,
        image=None,
    )
    other = look(clocked, key_id, mine, "b" * 64)
    assert other is not None
    assert (other.source, other.derivative) == (found.source, None)
    for asset_id in (theirs, "unknown"):
        beyond = look(clocked, key_id, asset_id, "b" * 64)
        assert beyond is not None
        assert (beyond.source, beyond.derivative) == (None, None)
    assert look(clocked, new_id(), mine, one.digest) is None
    with clocked.write() as tx:
        tx.connection.execute(sa.update(users).values(disabled=True))
    assert look(clocked, key_id, mine, one.digest) is None
    with clocked.write() as tx:
        tx.connection.execute(sa.update(users).values(disabled=False))
        assert not image_keys.revoke_image_key(tx, new_id(), key_id)
        assert image_keys.revoke_image_key(tx, user_id, key_id)
        assert not image_keys.revoke_image_key(tx, user_id, key_id)
    assert look(clocked, key_id, mine, one.digest) is None


def test_it_is_stale_after_an_hour(
    clocked: Database, stopped: StoppedClock, user_id: str, key_id: str
) -> None:
    asset_id, one = add_picture(clocked, user_id), made("a")
    note(clocked, one, asset_id)

    def stale() -> bool:
        found = look(clocked, key_id, asset_id, one.digest)
        assert found is not None
        return found.stale

    stopped.now_s += 3599
    assert not stale()
    stopped.now_s += 1
    assert stale()
    with clocked.write() as tx:
        derivatives.touch(tx, one.digest)
    assert not stale()


def test_noted_twice_it_is_what_was_made_last(clocked: Database, user_id: str) -> None:
    first, second = add_picture(clocked, user_id), add_picture(clocked, user_id)
    assert note(clocked, made("a", 10), first)
    assert note(clocked, made("a", 20), first, second)
    with clocked.read() as tx:
        found = derivatives.find(tx, "a" * 64)
        uses = tx.connection.execute(sa.select(derivative_uses.c.asset_id)).scalars().all()
    assert found == made("a", 20)
    assert sorted(uses) == sorted([first, second])


def test_many_may_note_the_same_at_once(clocked: Database, user_id: str) -> None:
    asset_ids = [add_picture(clocked, user_id) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        noted = [threads.submit(note, clocked, made("a"), one) for one in asset_ids * 4]
        assert all(one.result() for one in noted)
    with clocked.read() as tx:
        assert derivatives.total_bytes(tx) == 10


def test_of_a_deleted_asset_nothing_is_noted_and_all_is_removed(
    clocked: Database, user_id: str
) -> None:
    photo, logo = add_picture(clocked, user_id), add_picture(clocked, user_id)
    note(clocked, made("a"), photo)
    note(clocked, made("b"), photo, logo)
    with clocked.write() as tx:
        assert derivatives.remove_of_asset(tx, logo) == ["images/b.png"]
        tx.connection.execute(sa.delete(assets).where(assets.c.id == logo))
    assert not note(clocked, made("c"), photo, logo)
    with clocked.read() as tx:
        assert derivatives.find(tx, "a" * 64) == made("a")
        assert derivatives.find(tx, "b" * 64) is None
        assert derivatives.find(tx, "c" * 64) is None
    with clocked.write() as tx:
        accounts.delete_user(tx, user_id)
        assert derivatives.total_bytes(tx) == 0
        thrown = {one.prefix for one in attempts.discarded(tx)}
    assert thrown <= {"images/a.png", f"sources/{photo}"}


def test_what_was_not_used_for_longest_is_evicted_and_the_newest_never(
    clocked: Database, stopped: StoppedClock, user_id: str
) -> None:
    asset_id = add_picture(clocked, user_id)
    for letter in "abcd":
        note(clocked, made(letter, 10), asset_id)
        stopped.now_s += 100
    with clocked.write() as tx:
        derivatives.touch(tx, "a" * 64)
        assert derivatives.evict(tx, 40) == []
        assert derivatives.evict(tx, 25) == ["images/b.png", "images/c.png"]
        assert derivatives.evict(tx, 0) == ["images/d.png"]  # `a` was used just now
        assert derivatives.total_bytes(tx) == 10
