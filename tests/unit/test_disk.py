"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from telecine.engine.disk import (
    disk_failure,
    remove,
    sweep,
    temporary_beside,
    working_folder,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    write_whole(target, "größer")
    assert target.read_bytes() == "größer".encode()
    write_whole(target, b"\0")
    assert target.read_bytes() == b"\0"
    assert names(target.parent) == ["b.txt"]


def test_a_failed_write_keeps_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "master.m3u8"
    write_whole(target, "old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["master.m3u8"]


def test_what_is_durable_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, synced = tmp_path / "small.webp", []

    def sync(fd: int) -> None:
        synced.append((os.fstat(fd).st_size, target.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    write_whole(target, b"picture", durable=True)
    assert synced == [(7, False)]
    assert target.read_bytes() == b"picture"
    write_whole(target, b"other")
    assert len(synced) == 1


def test_temporary_names_differ_and_stay_in_the_folder(tmp_path: Path) -> None:
    made = {temporary_beside(tmp_path / "x") for _ in range(20)}
    assert len(made) == 20
    assert {path.parent for path in made} == {tmp_path}


def test_a_working_folder_is_gone_afterwards_whatever_happens(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def work() -> None:
        with working_folder(tmp_path / "work", "audio") as folder:
            assert names(folder) == []
            (folder / "half").write_bytes(b"1")
            raise Broken

    with pytest.raises(Broken):
        work()
    assert names(tmp_path / "work") == []


def test_sweeping_takes_what_killed_runs_left_and_nothing_else(tmp_path: Path) -> None:
    half = temporary_beside(tmp_path / "segment.m4s")
    half.write_bytes(b"")
    folder = temporary_beside(tmp_path / "audio")
    folder.mkdir()
    (folder / "inside").write_bytes(b"")
    kept = ["segment.m4s", "notes.tmp", ".x.tmp", ".x.1234567.tmp", ".x.12345678.tmp.bak"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    deep = tmp_path / "deep"
    deep.mkdir()
    temporary_beside(deep / "x").write_bytes(b"")
    sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, "deep"])
    assert len(names(deep)) == 1  # only in the folder itself
    sweep(tmp_path / "absent")


def test_removing_follows_no_link(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(treasure)
    remove(link)
    assert not link.is_symlink()
    assert names(treasure) == ["gold"]
    remove(treasure)
    remove(treasure)  # absent is as good as removed
    assert names(tmp_path) == []


def test_what_the_disk_refuses_can_be_tried_again() -> None:
    full = disk_failure(OSError(errno.ENOSPC, "No space left on device", "/out/x"))
    assert str(full) == "the disk refused: No space left on device (/out/x)"
    assert (full.code, full.retryable, full.exit_code) == ("disk_error", True, 4)
    assert str(disk_failure(OSError("odd"))) == "the disk refused: odd"
