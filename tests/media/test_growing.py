"""Playlists while a job runs: an outside watcher judges every state of the folder that it can see.

The same watcher stands beside a real browser in `tests/e2e/test_publish_first.py`; here nothing
depends on the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest
from tests.media import framecode
from tests.media.watcher import GROWING, MASTER, Watcher, listed
from tests.thorough import thorough_but

import telecine
from telecine import Event, Output

X264 = ("-c:v", "libx264", "-preset", "superfast", "-crf", "28")
SMALL = (480, 360)


def film(folder: Path, ffmpeg: str, seconds: int, size: tuple[int, int], *video: str) -> Path:
    clip = framecode.make(
        folder / "film.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(24),
        seconds=seconds,
        size=size,
        video=(*X264, *video),
    )
    return clip.path


def watched(
    source: Path, out: Path, seconds: int, rungs: Sequence[int], look: Callable[[Path], None]
) -> Watcher:
    """Transcode `source`; `look` sees the folder at the moment when it is said to be playable."""

    def hear(event: Event) -> None:
        if event.name == "playable":
            look(out)

    profile = telecine.make_profile((Output("hls"),), tuple(rungs))
    with Watcher(out, seconds) as watcher:
        telecine.transcode(source, out, profile, tools=telecine.find_tools(), jobs=1, on_event=hear)
    return watcher


def lengths(out: Path) -> dict[str, int]:
    """Each playlist that `master.m3u8` lists, and how many segments it lists now."""
    master = m3u8.M3U8((out / MASTER).read_text())
    return {uri: len(m3u8.M3U8((out / uri).read_text()).segments) for uri in listed(master)}


def test_a_copied_film_opens_with_segments_in_store(tmp_path: Path, ffmpeg: str) -> None:
    """A player asks again once in a target duration: a single segment would end just as it does."""
    seen: list[dict[str, int]] = []
    source = film(tmp_path, ffmpeg, 60, SMALL, "-g", "48")
    watcher = watched(
        source, tmp_path / "out", 60, (360, 240), lambda out: seen.append(lengths(out))
    )
    assert watcher.problems == []
    (opening,) = seen
    assert set(opening) == {f"video/360p/{GROWING}", f"audio/aac/{GROWING}"}
    assert min(opening.values()) >= 3


@pytest.mark.thorough
def test_an_encoded_film_opens_with_two_rungs_and_then_has_them_all(
    tmp_path: Path, ffmpeg: str
) -> None:
    seen: list[dict[str, int]] = []
    # Ten bits cannot be copied.
    source = film(tmp_path, ffmpeg, 40, (854, 480), "-pix_fmt", "yuv420p10le")
    watcher = watched(
        source, tmp_path / "out", 40, (480, 360, 240, 144), lambda out: seen.append(lengths(out))
    )
    assert watcher.problems == []
    (opening,) = seen
    assert set(opening) == {
        f"video/480p/{GROWING}",
        f"video/360p/{GROWING}",
        f"audio/aac/{GROWING}",
    }
    pictures = [
        {uri for uri in listed(version.playlist) if uri.startswith("video/")}
        for version in watcher.versions[MASTER]
    ]
    everyone = {f"video/{side}p/{GROWING}" for side in (480, 360, 240, 144)}
    assert everyone in pictures  # before the end, when the names are others


@pytest.mark.parametrize("kind", thorough_but(["copied", "encoded"], "copied"))
def test_growing_playlists_end_together(tmp_path: Path, ffmpeg: str, kind: str) -> None:
    """Shaka Player takes a film for finished when its sound is: the watcher blames such an end."""
    flags = ("-g", "48") if kind == "copied" else ("-pix_fmt", "yuv420p10le")
    source = film(tmp_path, ffmpeg, 30, SMALL, *flags)
    watcher = watched(source, tmp_path / "out", 30, (360, 240), lambda out: None)
    assert watcher.problems == []
    ends = [
        version.playlist.is_endlist
        for name, versions in watcher.versions.items()
        if name.endswith(GROWING)
        for version in versions[-1:]
    ]
    assert len(ends) >= 2
    assert all(ends)
