"""Playlists on disk: what is published at once, and what grows first."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.sources import lasting

from telecine.engine import package
from telecine.engine.manifests import finished_names
from telecine.engine.package import Publisher
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile
from telecine.engine.segments import INIT_NAME, Segment


def segments_of(plan: Plan, name: str) -> list[Segment]:
    """Of 1000 bytes and one keyframe each, as long as the plan has them."""
    sound = plan.sound
    timescale = plan.timeline.timescale
    if sound is not None and name == sound.name:
        timescale = sound.sample_rate
    edges = [int(plan.timeline.time_s(n) * timescale) for n in range(plan.timeline.segments + 1)]
    return [
        Segment(n, start, end - start, 1000, 1, ((0, 100, end - start),))
        for n, (start, end) in enumerate(itertools.pairwise(edges))
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != INIT_NAME
    }


def test_a_film_that_is_all_there_is_published_without_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves what a film that grew leaves."""
    monkeypatch.setattr(package, "read_init", lambda _: SimpleNamespace(codec="avc1.64001f"))
    plan = make_plan(lasting(60), make_profile())
    left = []
    for grows in (False, True):
        folder = tmp_path / str(grows)
        publisher = Publisher(plan, folder, lambda: None)
        for name in finished_names(plan):
            home = folder / plan.folder_of(name)
            home.mkdir(parents=True)
            (home / INIT_NAME).write_bytes(b"init")
            if grows:
                for segment in segments_of(plan, name):
                    publisher.add(name, segment)
            else:
                publisher.take(name, segments_of(plan, name))
        assert bool(files_of(folder)) is grows
        publisher.finish()
        left.append(files_of(folder))
    assert left[0] == left[1]
    assert left[0]["master.m3u8"].startswith(b"#EXTM3U")


def test_a_growing_playlist_stands_complete_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A player that fetched the picture's list before its last segments, and then hears that the
    sound has ended, ends with what it knows of the picture (seen in Shaka Player)."""
    monkeypatch.setattr(package, "read_init", lambda _: SimpleNamespace(codec="avc1.64001f"))
    plan = make_plan(lasting(60), make_profile())
    publisher = Publisher(plan, tmp_path, lambda: None)

    def lists() -> set[tuple[int, bool]]:
        """(segments, whether it has ended) of every growing playlist."""
        texts = [path.read_text() for path in tmp_path.rglob("growing.m3u8")]
        return {(text.count("#EXTINF"), "#EXT-X-ENDLIST" in text) for text in texts}

    whole = plan.timeline.segments
    for name in finished_names(plan):
        home = tmp_path / plan.folder_of(name)
        home.mkdir(parents=True)
        (home / INIT_NAME).write_bytes(b"init")
        for segment in segments_of(plan, name):
            publisher.add(name, segment)
        publisher.complete(name)
    assert lists() == {(whole, False)}
    again = finished_names(plan)[0]
    publisher.complete(again)
    assert lists() == {(whole, False)}, "three seconds have not passed"
    monkeypatch.setattr(package, "ENDS_AFTER_S", 0.0)
    publisher.complete(again)
    assert lists() == {(whole, True)}
    publisher.finish()
    assert lists() == {(whole, True)}
