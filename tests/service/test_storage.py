"""The local store: the suite of all stores, and what is its own: links, locks, durable order."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.service.storage_conformance import CHECKS, Check

from telecine.service.domain import Unavailable
from telecine.service.storage.local import LocalStorage
from telecine.service.storage.store import Busy, Missing, Storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> LocalStorage:
    return LocalStorage(folder)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_local_store_does_what_every_store_does(
    check: Check, store: Storage, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    check(store, work)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_nothing_is_copied(store: LocalStorage, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(b"x" * 1000)
    store.put_file("tasks/1/segment", tmp_path / "segment")
    store.copy("tasks/1/segment", "jobs/1/segment")
    store.fetch("jobs/1/segment", tmp_path / "fetched")
    store.begin("upload")
    incoming = next(path for path in files(folder) if path.name == "upload")
    inode = incoming.stat().st_ino
    with store.writer("upload", 0, 4) as writer:
        writer.write(b"film")
        writer.sync()
    store.finish("upload", "assets/1/source", 4)

    def inode_of(key: str) -> int:
        path = store.local_path(key)
        assert path is not None
        return path.stat().st_ino

    segment = (tmp_path / "segment").stat().st_ino
    assert inode_of("tasks/1/segment") == inode_of("jobs/1/segment") == segment
    assert (tmp_path / "fetched").stat().st_ino == segment
    assert inode_of("assets/1/source") == inode


def test_parts_that_have_not_come_take_no_space(store: LocalStorage, folder: Path) -> None:
    store.begin("upload")
    with store.writer("upload", 1 << 30, (1 << 30) + 4) as writer:
        writer.write(b"last")
        writer.sync()
    (incoming,) = files(folder)
    assert incoming.stat().st_size == (1 << 30) + 4
    assert incoming.stat().st_blocks * 512 < 1 << 20


def test_where_links_cannot_be_made_bytes_are_copied(
    store: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").write_bytes(b"film")
    link = os.link

    def across(source: Path, place: Path, **more: object) -> None:
        if tmp_path / "made" in (Path(source), Path(place)) or "got" in str(place):
            raise OSError(errno.EXDEV, "another file system")
        link(source, place)

    monkeypatch.setattr(os, "link", across)
    store.put_file("x", tmp_path / "made")
    store.fetch("x", tmp_path / "got")
    (tmp_path / "made").write_bytes(b"other")
    assert b"".join(store.read("x")) == b"film"
    assert (tmp_path / "got").read_bytes() == b"film"


def test_an_object_is_durable_before_it_has_its_name(
    store: LocalStorage, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are synced, then linked, then the folder; an incoming file's own name goes last."""
    did: list[str] = []

    def spy_link(source: Path, place: Path, **more: object) -> None:
        did.append("link")
        real_link(source, place)

    def spy_fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        did.append("sync folder" if path.is_dir() else "sync file")
        real_fsync(fd)

    real_link, real_fsync = os.link, os.fsync
    store.put_bytes("warm", b"1")
    store.begin("u")
    with store.writer("u", 0, 4) as writer:
        writer.write(b"film")
        writer.sync()
    (tmp_path / "made").write_bytes(b"film")
    monkeypatch.setattr(os, "link", spy_link)
    monkeypatch.setattr(os, "fsync", spy_fsync)

    store.put_bytes("a", b"1")
    assert did == ["sync file", "link", "sync folder"]
    did.clear()
    store.put_bytes("quick", b"1", durable=False)
    assert did == ["link"]
    did.clear()
    store.put_file("b", tmp_path / "made")
    assert did == ["sync file", "link", "sync folder"]
    did.clear()
    store.finish("u", "c", 4)
    assert did == ["sync file", "link", "sync folder", "sync folder"]
    did.clear()
    made = store.copy_all({"d": "a", "e": "b"})  # all in one, then their folder
    assert did == ["link", "link", "sync folder"]
    assert [(each.key, each.size_bytes) for each in made] == [("d", 1), ("e", 4)]
    did.clear()
    store.put_bytes("new/folder/a", b"1")  # each new folder's name is durable too
    assert did == ["sync file", "sync folder", "sync folder", "link", "sync folder"]


def test_a_crash_between_link_and_unlink_loses_nothing(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.begin("u")
    with store.writer("u", 0, 4) as writer:
        writer.write(b"film")
        writer.sync()

    def die(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            store.finish("u", "x", 4)
    assert list(store.incoming()) == ["u"]
    assert b"".join(store.read("x")) == b"film"
    assert store.finish("u", "x", 4).size_bytes == 4
    assert list(store.incoming()) == []


def test_who_opens_a_file_while_it_is_finished_does_not_write_to_the_object(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer has opened the file and not locked it yet: the file becomes an object then."""
    store.begin("u")
    with store.writer("u", 0, 4) as writer:
        writer.write(b"film")
        writer.sync()
    lock = fcntl.fcntl

    def finished_first(*args: Any) -> Any:
        monkeypatch.setattr(fcntl, "fcntl", lock)
        store.finish("u", "x", 4)
        return lock(*args)

    monkeypatch.setattr(fcntl, "fcntl", finished_first)
    with pytest.raises(Missing):
        store.writer("u", 0, 4)
    assert b"".join(store.read("x")) == b"film"


HOLD = """
import sys, time
from pathlib import Path
from telecine.service.storage.local import LocalStorage
with LocalStorage(Path(sys.argv[1])).writer("u", 0, 100) as writer:
    writer.write(b"first")
    writer.sync()
    print("holding", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_lets_go(store: LocalStorage, folder: Path) -> None:
    store.begin("u")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holding\n"
            with pytest.raises(Busy):
                store.writer("u", 50, 60)
            with pytest.raises(Busy):
                store.finish("u", "x", 5)
        finally:
            holder.send_signal(signal.SIGKILL)
    with store.writer("u", 5, 10) as writer:
        writer.write(b" last")
        writer.sync()
    store.finish("u", "x", 10)
    assert b"".join(store.read("x")) == b"first last"


def test_an_object_may_be_deleted_before_its_folder_is_synced(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, place: Path, **_: object) -> None:
        real(source, place)
        store.delete("a/")  # the folder is empty then, and goes too

    monkeypatch.setattr(os, "link", link)
    store.put_bytes("a/b", b"1")
    assert list(store.keys("")) == []


def test_no_descriptor_is_left_where_there_are_no_locks(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.begin("upload")

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="No locks"):
        store.writer("upload", 0, 4)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_object_is_read_by_whatever_descriptor_there_is(store: LocalStorage) -> None:
    """A process that was started without a standard input opens its next file as number 0."""
    store.put_bytes("assets/1/source", b"film")
    kept = os.dup(0)
    os.close(0)
    try:
        pieces = store.read("assets/1/source")
        assert b"".join(pieces) == b"film"
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_half_made_objects_are_tidied_when_old(store: LocalStorage, folder: Path) -> None:
    old, new = folder / "temporary" / "old", folder / "temporary" / "new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert store.tidy(3600) == 1
    assert not old.exists()
    assert new.exists()
    assert list(store.keys("")) == []


def test_a_full_disk_is_said(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.begin("u")
    monkeypatch.setattr(os, "pwrite", full)
    with store.writer("u", 0, 10) as writer, pytest.raises(Unavailable) as caught:
        writer.write(b"1")
    assert caught.value.code == "storage_full"


def test_a_folder_that_cannot_be_written_to_is_no_healthy_store(
    store: LocalStorage, folder: Path
) -> None:
    (folder / "temporary").rmdir()
    with pytest.raises(Unavailable) as caught:
        store.check()
    assert caught.value.code == "storage_unavailable"


def test_no_empty_folders_stay(store: LocalStorage, folder: Path) -> None:
    store.put_bytes("tasks/1/2/3/segment", b"1")
    store.put_bytes("tasks/1/2/4/segment", b"1")
    store.delete("tasks/1/2/3/")
    store.delete("tasks/1/2/4/segment")
    assert list((folder / "kept").iterdir()) == []
