"""The output folder as a whole: who owns it, what may be written there, what is left at the end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from telecine.engine.disk import open_lock, read_small, remove, sweep
from telecine.engine.errors import UsageError
from telecine.engine.filters import BURN_TEXT
from telecine.engine.joining import films_of, working_name
from telecine.engine.manifests import MANIFEST, MASTER
from telecine.engine.plan import WORK, Plan, plan_from_json

REPORT = "report.json"
PLAN = f"{WORK}/plan.json"
LOCK = f"{WORK}/lock"
STEPS = f"{WORK}/steps"


@contextmanager
def claimed(folder: Path, plan: Plan, sources: Sequence[Path], *, force: bool) -> Iterator[None]:
    """Own `folder` for this plan while the block runs; one process at a time. `sources` are all
    files that it is made of.

    Raises `UsageError`, having changed nothing: `output_unwritable`; `output_busy` when another
    process works there; `output_exists` when something stands where this plan would write that is
    not its own (with `force` that, and only that, is removed first); `output_is_source` when it
    would be one of the sources.
    """
    if (folder / WORK).is_symlink():
        raise UsageError(f"{folder / WORK} is a link: not followed", code="output_unwritable")
    made = [home for home in (folder, folder / WORK) if not home.exists()]
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        lock = open_lock(folder / LOCK)
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {error.strerror}", code="output_unwritable"
        ) from error
    with lock:
        _take(lock.fileno(), folder)
        try:
            _make_room(folder, plan, sources, force=force)
        except BaseException:
            _undo(folder, made)
            raise
        yield


def _undo(folder: Path, made: list[Path]) -> None:
    """Leave a refused folder as it was found."""
    if folder / WORK in made:
        remove(folder / WORK)
    if folder in made:
        folder.rmdir()


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another process is writing to {folder}", code="output_busy") from None


def _make_room(folder: Path, plan: Plan, sources: Sequence[Path], *, force: bool) -> None:
    targets = (*_targets(plan), *_old_targets(folder), WORK)
    places = [(folder / name).resolve() for name in targets]
    for source in sources:
        if any(source.resolve().is_relative_to(place) for place in places):
            raise UsageError(
                f"{source} lies where {folder} would be written: choose another folder",
                code="output_is_source",
            )
    earlier = earlier_plan(folder)
    if earlier == plan.id and not force:
        for home in _homes(folder, plan):
            sweep(home)
        return
    taken = [name for name in (*_targets(plan), PLAN) if os.path.lexists(folder / name)]
    if taken and not force:
        what = "another plan's output" if earlier is not None else f"{taken[0]} of someone else"
        raise UsageError(
            f"{folder} holds {what}: choose another folder, or --force to replace it",
            code="output_exists",
        )
    for name in targets:
        if name != WORK:
            remove(folder / name)
    for path in (folder / WORK).iterdir():
        if path.name != Path(LOCK).name:
            remove(path)


def start_over(folder: Path, plan: Plan, sources: Sequence[Path]) -> None:
    """Go over to another plan in a folder that is claimed: what the first one made is removed."""
    _make_room(folder, plan, sources, force=True)


def earlier_plan(folder: Path) -> str | None:
    """The id of the plan whose output lies here; "" for one that cannot be read."""
    plan = read_plan(folder)
    if plan is None:
        return "" if os.path.lexists(folder / PLAN) else None
    return plan.id


def read_plan(folder: Path) -> Plan | None:
    """The plan whose output lies here; None for none that can be read."""
    try:
        return plan_from_json(read_small(folder / PLAN))
    except (UsageError, OSError, ValueError):
        return None


def _targets(plan: Plan) -> tuple[str, ...]:
    """Everything that this plan puts into DIR, beside its working folder."""
    homes = {rendition.folder.split("/")[0] for rendition in plan.renditions if rendition.listed}
    homes |= {sound.folder.split("/")[0] for sound in plan.sounds if sound.listed}
    homes |= {track.folder.split("/")[0] for track in plan.subtitles}
    playlists = (MASTER,) * plan.hls + (MANIFEST,) * plan.dash
    # Playlists and indexes first: when all is removed, none names what is gone.
    folders = [stills.kind for stills in plan.stills]
    return (*playlists, *sorted(homes), *(file.path for file in plan.files), *folders, REPORT)


def _old_targets(folder: Path) -> tuple[str, ...]:
    """What the other plan put here, as far as it can be read; never the folder itself, nor a path
    out of it: the plan is a file that anyone may have written."""
    plan = read_plan(folder)
    names = () if plan is None else _targets(plan)
    return tuple(name for name in names if Path(name).name == name and name not in ("", ".."))


def _homes(folder: Path, plan: Plan) -> tuple[Path, ...]:
    names = [rendition.folder for rendition in plan.renditions]
    names += [sound.folder for sound in plan.sounds]
    names += [stills.kind for stills in plan.stills]
    names += [track.folder for track in plan.subtitles]
    return (folder, folder / WORK, folder / WORK / "steps", *(folder / name for name in names))


def tidy(folder: Path, plan: Plan) -> None:
    """The job is done: remove what only its steps needed."""
    copies = [Path(working_name(film)) for film, _ in films_of(plan)]
    for name in (
        *(file.name for copy in copies for file in (copy, copy.with_suffix(".lock"))),
        "burn.mkv",
        BURN_TEXT,
        "burn.lock",
        "video",
        "audio",
    ):
        remove(folder / WORK / name)
    for home in _homes(folder, plan):
        sweep(home)
