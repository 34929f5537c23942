"""Who owns the output folder, and what may be written there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.sources import COMPLIANT, SONG

from telecine.engine.errors import UsageError
from telecine.engine.output import LOCK, PLAN, claimed, tidy
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output

OURS = make_plan(COMPLIANT, make_profile())
OTHER = make_plan(COMPLIANT, make_profile((parse_output("mp4:720p"), parse_output("mp3"))))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fill(folder: Path, *paths: str) -> None:
    for name in paths:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def keep_plan(folder: Path, plan: Plan) -> None:
    fill(folder, PLAN)
    (folder / PLAN).write_text(plan.to_json())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    return path


@contextmanager
def refused(code: str, folder: Path) -> Iterator[None]:
    """Refused with this code, and everything in the folder is as before."""
    before = snapshot(folder)
    with pytest.raises(UsageError) as error:
        yield
    assert error.value.code == code
    after = snapshot(folder)
    after.pop(LOCK, None)
    before.pop(LOCK, None)
    assert after == before


def test_a_new_folder_is_made(tmp_path: Path, source: Path) -> None:
    with claimed(tmp_path / "a" / "out", OURS, (source,), force=False):
        assert (tmp_path / "a" / "out" / ".telecine").is_dir()


def test_a_folder_with_other_things_is_used_and_they_stay(tmp_path: Path, source: Path) -> None:
    fill(tmp_path / "out", "holiday.txt", "video.txt")
    with claimed(tmp_path / "out", OURS, (source,), force=True):
        pass
    assert (tmp_path / "out" / "holiday.txt").exists()
    assert (tmp_path / "out" / "video.txt").exists()


@pytest.mark.parametrize(
    "name", ["master.m3u8", "manifest.mpd", "video/x", "audio/x", "poster.jpg"]
)
def test_what_is_not_ours_is_not_overwritten(tmp_path: Path, source: Path, name: str) -> None:
    folder = tmp_path / "out"
    fill(folder, name, "beside")
    with refused("output_exists", folder), claimed(folder, OURS, (source,), force=False):
        pass
    assert not (folder / ".telecine").exists()
    with claimed(folder, OURS, (source,), force=True):
        assert not (folder / name).exists()
        assert (folder / "beside").exists()


def test_another_plans_output_is_refused_and_with_force_wholly_replaced(
    tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "out"
    keep_plan(folder, OTHER)
    fill(folder, "720p.mp4", "audio.mp3", "report.json", ".telecine/steps/audio.json", "mine")
    with refused("output_exists", folder), claimed(folder, OURS, (source,), force=False):
        pass
    with claimed(folder, OURS, (source,), force=True):
        left = set(snapshot(folder))
    assert left == {"mine", ".telecine", LOCK}


def test_the_same_plan_goes_on_where_it_stopped(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "out"
    keep_plan(folder, OURS)
    half = "video/720p/.segment-3.m4s.0123abcd.tmp"
    fill(folder, "master.m3u8", "video/720p/segment-1.m4s", half, ".telecine/steps/audio.json")
    with claimed(folder, OURS, (source,), force=False):
        assert (folder / "video/720p/segment-1.m4s").exists()
        assert (folder / ".telecine/steps/audio.json").exists()
        assert not (folder / half).exists()


def test_an_unreadable_plan_is_someone_elses(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "out"
    fill(folder, PLAN)
    with refused("output_exists", folder), claimed(folder, OURS, (source,), force=False):
        pass
    with claimed(folder, OURS, (source,), force=True):
        assert not (folder / PLAN).exists()


def test_one_process_at_a_time(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "out"
    with (
        claimed(folder, OURS, (source,), force=False),
        refused("output_busy", folder),
        claimed(folder, OURS, (source,), force=True),
    ):
        pass
    with claimed(folder, OURS, (source,), force=False):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path, source: Path) -> None:
    with refused("output_unwritable", tmp_path), claimed(source, OURS, (source,), force=True):
        pass


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["video/film.mp4", "poster.jpg", ".telecine/film.mp4"])
def test_no_source_is_ever_overwritten(tmp_path: Path, name: str, force: bool) -> None:
    folder = tmp_path / "out"
    fill(folder, name)
    with (
        refused("output_is_source", folder),
        claimed(folder, OURS, (folder / "film.mkv", folder / name), force=force),
    ):
        pass


def test_a_source_where_the_other_plan_wrote_is_safe_too(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    keep_plan(folder, OTHER)
    fill(folder, "720p.mp4")
    with (
        refused("output_is_source", folder),
        claimed(folder, OURS, (folder / "720p.mp4",), force=True),
    ):
        pass


@pytest.mark.parametrize("path", ["../treasure", "..", ".", "", "/", "a/../.."])
@pytest.mark.parametrize("field", ['"path": "720p.mp4"', '"folder": "video/720p"'])
def test_a_hostile_plan_in_the_folder_makes_nothing_else_go(
    tmp_path: Path, field: str, path: str
) -> None:
    folder = tmp_path / "home" / "out"
    fill(tmp_path, "home/treasure", "home/out/mine", "film.mp4")
    earlier = make_plan(COMPLIANT, make_profile((parse_output("hls"), parse_output("mp4:720p"))))
    text = earlier.to_json().replace(field, field.split(":")[0] + f': "{path}"')
    assert text != earlier.to_json()
    fill(folder, PLAN)
    (folder / PLAN).write_text(text)
    with claimed(folder, OURS, (tmp_path / "film.mp4",), force=True):
        assert (tmp_path / "home" / "treasure").exists()
        assert (folder / "mine").exists()


def test_tidying_leaves_the_output_and_the_record_of_it(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "out"
    keep_plan(folder, OTHER)
    fill(folder, "720p.mp4", ".telecine/steps/audio.json", "audio/aac/x")
    fill(folder, ".telecine/working.mkv", ".telecine/video/720p/s", ".telecine/audio/aac/s")
    fill(folder, ".telecine/steps/.audio.json.0123abcd.tmp")
    tidy(folder, OTHER)
    assert {name for name, data in snapshot(folder).items() if data is not None} == {
        *("720p.mp4", PLAN, ".telecine/steps/audio.json", "audio/aac/x"),
    }


def test_a_stream_of_sound_alone_has_a_home_for_it(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "out"
    fill(folder, "audio/x")
    plan = make_plan(SONG, make_profile())
    with refused("output_exists", folder), claimed(folder, plan, (source,), force=False):
        pass
