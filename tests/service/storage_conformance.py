"""What every store has to do, as checks that take an empty store and a folder to work in.

A store's own test runs them all: `@pytest.mark.parametrize("check", CHECKS)`. They speak to the
protocol alone and expect nothing of how a store keeps its bytes.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from telecine.service.storage.store import (
    AlreadyThere,
    Busy,
    Missing,
    Storage,
    TooLong,
    TooShort,
)

Check = Callable[[Storage, Path], None]
CHECKS: list[Check] = []

MIB = 1 << 20


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def whole(store: Storage, key: str) -> bytes:
    return b"".join(store.read(key))


def receive(store: Storage, key: str, data: bytes) -> None:
    store.begin(key)
    with store.writer(key, 0, len(data)) as writer:
        writer.write(data)
        writer.sync()


# --- objects --------------------------------------------------------------------------------------


@check
def bytes_come_back_as_they_were(store: Storage, folder: Path) -> None:
    for key, data in (("a", b""), ("b/c/d.m4s", b"x"), ("b/e", os.urandom(3 * MIB + 7))):
        for name, durable in ((key, True), (f"quick/{key}", False)):
            made = store.put_bytes(name, data, durable=durable)
            assert (made.key, made.size_bytes) == (name, len(data))
            assert whole(store, name) == data
            assert store.stat(name) == made


@check
def files_come_back_as_they_were(store: Storage, folder: Path) -> None:
    data = os.urandom(2 * MIB + 1)
    (folder / "made").write_bytes(data)
    made = store.put_file("x/made", folder / "made")
    assert made.size_bytes == len(data)
    assert whole(store, "x/made") == data
    assert (folder / "made").read_bytes() == data, "the file itself stays"


@check
def an_object_outlives_the_file_it_was_made_of(store: Storage, folder: Path) -> None:
    (folder / "made").write_bytes(b"film")
    store.put_file("x", folder / "made")
    (folder / "made").unlink()
    assert whole(store, "x") == b"film"


@check
def objects_never_change(store: Storage, folder: Path) -> None:
    before = store.put_bytes("x", b"first")
    (folder / "other").write_bytes(b"other")
    store.put_bytes("y", b"third")
    with pytest.raises(AlreadyThere):
        store.put_bytes("x", b"second")
    with pytest.raises(AlreadyThere):
        store.put_file("x", folder / "other")
    with pytest.raises(AlreadyThere):
        store.copy("y", "x")
    assert whole(store, "x") == b"first"
    assert store.stat("x") == before


@check
def of_many_writers_one_wins_and_is_whole(store: Storage, folder: Path) -> None:
    texts = [bytes([65 + n]) * 300_000 for n in range(8)]
    start = threading.Barrier(len(texts))

    def put(text: bytes) -> bool:
        start.wait()
        try:
            store.put_bytes("race/x", text)
        except AlreadyThere:
            return False
        return True

    with ThreadPoolExecutor(len(texts)) as pool:
        won = list(pool.map(put, texts))
    assert won.count(True) == 1
    assert whole(store, "race/x") == texts[won.index(True)]


@check
def a_copy_is_the_same_bytes_and_lives_alone(store: Storage, folder: Path) -> None:
    store.put_bytes("x", b"film")
    assert store.copy("x", "y/z").size_bytes == 4
    store.delete("x")
    assert whole(store, "y/z") == b"film"
    with pytest.raises(Missing):
        store.copy("x", "w")
    made = store.copy_all({"all/a": "y/z", "all/b": "y/z"})
    assert [(each.key, each.size_bytes) for each in made] == [("all/a", 4), ("all/b", 4)]
    assert whole(store, "all/a") == whole(store, "all/b") == b"film"
    assert store.copy_all({}) == []
    with pytest.raises(Missing):
        store.copy_all({"all/c": "x"})


@check
def etags_tell_bytes_apart(store: Storage, folder: Path) -> None:
    tags = {store.put_bytes(f"k{n}", b"%03d" % n).etag for n in range(50)}
    assert len(tags) == 50
    assert all(tag and '"' not in tag and tag.isascii() for tag in tags)


@check
def an_etag_stays(store: Storage, folder: Path) -> None:
    made = store.put_bytes("x", b"film")
    list(store.read("x"))
    store.copy("x", "y")
    assert store.stat("x").etag == made.etag


@check
def ranges_are_what_they_say(store: Storage, folder: Path) -> None:
    data = random.Random(3).randbytes(2 * MIB + 100)
    store.put_bytes("x", data)
    size = len(data)
    for start, end in ((0, 1), (5, 5), (MIB - 1, MIB + 1), (size - 1, size), (7, None)):
        assert b"".join(store.read("x", start, end)) == data[start:end]
    assert b"".join(store.read("x", size + 5, size + 9)) == b""
    assert b"".join(store.read("x", size - 3, size + 9)) == data[-3:]
    assert all(len(piece) <= MIB for piece in store.read("x"))


@check
def a_reader_that_has_begun_sees_all_of_it(store: Storage, folder: Path) -> None:
    data = os.urandom(3 * MIB)
    store.put_bytes("x", data)
    reading = store.read("x")
    first = next(reading)
    store.delete("x")
    assert first + b"".join(reading) == data


@check
def what_is_absent_is_missing(store: Storage, folder: Path) -> None:
    store.put_bytes("a/b", b"1")
    for key in ("x", "a", "a/b/c"):
        for ask in (store.stat, store.read, store.local_path):
            with pytest.raises(Missing):
                ask(key)
        with pytest.raises(Missing):
            store.fetch(key, folder / "nothing")
    assert not (folder / "nothing").exists()


@check
def an_object_can_be_had_as_a_file(store: Storage, folder: Path) -> None:
    store.put_bytes("x", b"film")
    store.fetch("x", folder / "film")
    assert (folder / "film").read_bytes() == b"film"
    here = store.local_path("x")
    assert here is None or here.read_bytes() == b"film"
    (folder / "film").unlink()
    assert whole(store, "x") == b"film"


@check
def keys_are_listed_by_prefix(store: Storage, folder: Path) -> None:
    keys = ["a/1", "a/2/3", "a.b", "ab/1", "b"]
    for key in keys:
        store.put_bytes(key, b"1")
    store.begin("a/4")  # an incoming file is no object
    assert sorted(store.keys("")) == sorted(keys)
    assert sorted(store.keys("a/")) == ["a/1", "a/2/3"]
    assert list(store.keys("a/2/")) == ["a/2/3"]
    assert list(store.keys("c/")) == []


@check
def deleting_takes_one_key_or_all_below(store: Storage, folder: Path) -> None:
    for key in ("a/1", "a/2/3", "ab/1", "b"):
        store.put_bytes(key, b"1")
    assert store.delete("b") == 1
    assert store.delete("b") == 0
    assert store.delete("a") == 0, "a key, not what lies below"
    assert store.delete("a/") == 2
    assert store.delete("a/") == 0
    assert list(store.keys("")) == ["ab/1"]
    store.put_bytes("a/1", b"2")  # and the place is free again
    assert whole(store, "a/1") == b"2"


@check
def only_keys_are_taken(store: Storage, folder: Path) -> None:
    bad = (
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        ".",
        "./a",
        "a/.",
        "a b",
        "a\\b",
        "ä",
        "a\0",
    )
    for key in (*bad, "a" * 301, "a\n"):
        with pytest.raises(ValueError, match="not a storage key"):
            store.put_bytes(key, b"1")
        with pytest.raises(ValueError, match="not a storage key"):
            store.stat(key)
        with pytest.raises(ValueError, match="not a storage key"):
            store.begin(key)
    for prefix in ("", "/", "../", "a/../", "a//"):
        with pytest.raises(ValueError, match="not a storage key"):
            store.delete(prefix)
    store.put_bytes("a/.b/..c/d..e", b"1")
    assert list(store.keys("")) == ["a/.b/..c/d..e"]


@check
def putting_and_deleting_at_once_is_safe(store: Storage, folder: Path) -> None:
    def put(n: int) -> None:
        for m in range(20):
            store.put_bytes(f"deep/er/{n}/{m}", b"1")

    def delete(n: int) -> None:
        for m in range(20):
            store.delete(f"deep/er/{n}/{m}")
        store.delete("deep/none/")

    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(put, n) for n in range(4)] + [pool.submit(delete, n) for n in range(4)]
        for task in tasks:
            task.result()


# --- incoming files -------------------------------------------------------------------------------


@check
def an_incoming_file_becomes_an_object(store: Storage, folder: Path) -> None:
    receive(store, "u", b"film")
    assert list(store.incoming()) == ["u"]
    made = store.finish("u", "assets/a/source", 4)
    assert (made.key, made.size_bytes) == ("assets/a/source", 4)
    assert whole(store, "assets/a/source") == b"film"
    assert list(store.incoming()) == []
    with pytest.raises(Missing):
        store.writer("u", 0, 4)


@check
def pieces_may_come_in_any_order(store: Storage, folder: Path) -> None:
    data = os.urandom(1000)
    store.begin("u")
    for start, end in ((700, 1000), (0, 300), (300, 700)):
        with store.writer("u", start, end) as writer:
            writer.write(data[start : start + 50])
            writer.write(data[start + 50 : end])
            assert writer.sync() == end
    store.finish("u", "x", 1000)
    assert whole(store, "x") == data


@check
def pieces_may_come_at_once(store: Storage, folder: Path) -> None:
    data = os.urandom(8 * 100_000)
    store.begin("u")

    def send(n: int) -> None:
        with store.writer("u", n * 100_000, (n + 1) * 100_000) as writer:
            for start in range(n * 100_000, (n + 1) * 100_000, 10_000):
                writer.write(data[start : start + 10_000])
            writer.sync()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    store.finish("u", "x", len(data))
    assert whole(store, "x") == data


@check
def two_writers_never_share_bytes(store: Storage, folder: Path) -> None:
    store.begin("u")
    with store.writer("u", 100, 200):
        for start, end in ((0, 101), (199, 300), (150, 160), (100, 200), (0, 1000)):
            with pytest.raises(Busy):
                store.writer("u", start, end)
        for start, end in ((0, 100), (200, 300)):
            with store.writer("u", start, end):
                pass
    with store.writer("u", 0, 1000):
        pass


@check
def no_writer_passes_its_limit(store: Storage, folder: Path) -> None:
    store.begin("u")
    with store.writer("u", 0, 10) as writer:
        writer.write(b"12345678")
        with pytest.raises(TooLong):
            writer.write(b"901")
        writer.write(b"90")
        assert writer.sync() == 10
        with pytest.raises(TooLong):
            writer.write(b"1")
    store.finish("u", "x", 10)
    assert whole(store, "x") == b"1234567890"


@check
def written_bytes_may_be_written_again(store: Storage, folder: Path) -> None:
    receive(store, "u", b"wrong film")
    store.begin("u")  # may run twice: what is there stays
    with store.writer("u", 0, 10) as writer:
        writer.write(b"right")
        writer.sync()
    store.finish("u", "x", 5)  # what lies behind was refused once, and does not count
    assert whole(store, "x") == b"right"


@check
def finishing_may_run_twice(store: Storage, folder: Path) -> None:
    receive(store, "u", b"film")
    first = store.finish("u", "x", 4)
    assert store.finish("u", "x", 4) == first
    with pytest.raises(Missing):
        store.finish("never", "y", 4)


@check
def finishing_at_once_gives_one_object(store: Storage, folder: Path) -> None:
    receive(store, "u", os.urandom(MIB))
    start = threading.Barrier(6)

    def finish(_: int) -> str:
        start.wait()
        return store.finish("u", "x", MIB).etag

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(finish, range(6)))) == 1


@check
def an_object_of_another_origin_is_not_replaced(store: Storage, folder: Path) -> None:
    store.put_bytes("x", b"mine")
    receive(store, "u", b"film")
    with pytest.raises(AlreadyThere):
        store.finish("u", "x", 4)
    assert whole(store, "x") == b"mine"
    assert list(store.incoming()) == ["u"]


@check
def what_is_not_all_there_is_not_finished(store: Storage, folder: Path) -> None:
    receive(store, "u", b"fil")
    with pytest.raises(TooShort):
        store.finish("u", "x", 4)
    with store.writer("u", 3, 4) as writer:
        writer.write(b"m")
        with pytest.raises(Busy):
            store.finish("u", "x", 4)
        writer.sync()
    assert store.finish("u", "x", 4).size_bytes == 4


@check
def nobody_writes_to_a_finished_file(store: Storage, folder: Path) -> None:
    receive(store, "u", b"film")
    made = store.finish("u", "x", 4)
    store.begin("u")  # the same name again is another file
    with store.writer("u", 0, 4) as writer:
        writer.write(b"hack")
        writer.sync()
    assert whole(store, "x") == b"film"
    assert store.stat("x") == made


@check
def abandoned_files_are_gone(store: Storage, folder: Path) -> None:
    receive(store, "u", b"film")
    store.abandon("u")
    store.abandon("u")
    assert list(store.incoming()) == []
    with pytest.raises(Missing):
        store.finish("u", "x", 4)
    store.begin("v")
    with store.writer("v", 0, 10) as writer:
        store.abandon("v")
        writer.write(b"lost")
        writer.sync()
    assert list(store.incoming()) == []
    with pytest.raises(Missing):
        store.writer("never", 0, 4)


# --- health ---------------------------------------------------------------------------------------


@check
def a_healthy_store_says_so_and_keeps_nothing(store: Storage, folder: Path) -> None:
    store.put_bytes("x", b"1")
    store.check()
    assert store.tidy(0) == 0
    assert list(store.keys("")) == ["x"]
