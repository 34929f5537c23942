"""The measuring tool itself: it must read what an encoder leaves, and refuse what is no frame."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media.framecode import BITS, CANVAS_H, CANVAS_W, clicks, draw, frames, make, read

RATE = Fraction(25)


def test_every_number_reads_back() -> None:
    assert all(read(draw(n)) == n for n in range(1 << BITS))
    with pytest.raises(ValueError, match="16 bits"):
        draw(1 << BITS)


def test_a_blend_of_two_frames_is_no_frame() -> None:
    dice = random.Random(1)
    for _ in range(500):
        one, other = dice.sample(range(1 << BITS), 2)
        blend = bytes((a + b) // 2 for a, b in zip(draw(one), draw(other), strict=True))
        assert read(blend) is None


def test_a_weave_of_neighbouring_fields_is_no_frame() -> None:
    """What a deinterlacer leaves that mistakes movement for a still picture, scaled as the reader
    scales it: lines of two fields averaged."""
    for n in range(2000):
        woven = bytes((a + b) // 2 for a, b in zip(draw(n), draw(n + 1), strict=True))
        assert read(woven) is None


def test_numbers_and_times_survive_a_small_strongly_compressed_picture(
    tmp_path: Path, ffmpeg: str
) -> None:
    video = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "32")
    clip = make(
        tmp_path / "a.mp4", ffmpeg=ffmpeg, rate=RATE, seconds=4, size=(128, 72), video=video
    )
    shown = frames(clip.path, ffmpeg=ffmpeg)
    assert [frame.number for frame in shown] == list(range(100))
    assert [frame.time_s for frame in shown] == [n / RATE for n in range(100)]


def test_a_lost_a_doubled_and_a_blended_frame_show(tmp_path: Path, ffmpeg: str) -> None:
    clip = make(tmp_path / "a.mp4", ffmpeg=ffmpeg, rate=RATE, seconds=2, size=(128, 72))

    def after(steps: str) -> list[int | None]:
        return [frame.number for frame in frames(clip.path, ffmpeg=ffmpeg, before=steps)]

    assert after("select='not(eq(n,7))'") == [n for n in range(50) if n != 7]
    assert after("tpad=start=1:start_mode=clone") == [0, *range(50)]
    assert None in after("tmix=frames=2")


def test_clicks_are_heard_to_the_millisecond(tmp_path: Path, ffmpeg: str) -> None:
    clip = make(tmp_path / "a.mp4", ffmpeg=ffmpeg, rate=RATE, seconds=4, size=(128, 72))
    heard = clicks(clip.path, ffmpeg=ffmpeg)
    assert len(heard) == 4
    assert all(abs(time - second) < Fraction(1, 1000) for second, time in enumerate(heard))


def test_the_canvas_is_what_the_reader_scales_to() -> None:
    assert len(draw(0)) == CANVAS_W * CANVAS_H
