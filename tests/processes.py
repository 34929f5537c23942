"""What Linux tells of other processes: who lives, who descends from whom, what they take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """A living process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in _listed(Path(f"/proc/{one}/task")):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue  # ended while we looked
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def started(pid: int) -> int:
    """When, in ticks since the machine's start, which tells it from a later process of its number;
    0 when it has ended, and be it as a zombie that nobody has taken note of."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def alive(pid: int) -> bool:
    return started(pid) > 0


def family(pid: int) -> dict[int, int]:
    """Those of its tree that run, and when each started."""
    return {one: when for one in tree(pid) if (when := started(one))}


def left_of(known: Mapping[int, int]) -> list[int]:
    """Those of a family that still run."""
    return [pid for pid, when in known.items() if started(pid) == when]


def name_of(pid: int) -> str:
    """Its program's; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def words_of(pid: int) -> list[str]:
    """The words that it was started with; none when it has ended."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return os.fsdecode(line).split("\0")[:-1]


def workers_of(pid: int) -> list[int]:
    """The worker processes of a service."""
    return [one for one in tree(pid)[1:] if "worker" in words_of(one)]


def resident_bytes(pid: int) -> int:
    """None when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
