"""`make demo`: what it makes and what it says, in a folder of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.thorough
def test_the_demo_makes_a_clip_and_says_how_to_play_it(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "demo" / "clip"
    for name in ("master.m3u8", "manifest.mpd", "720p.mp4", "poster.jpg", "report.json"):
        assert (out / name).stat().st_size > 0
        assert name in done.stdout
    assert "python3 -m http.server 8000 --bind 127.0.0.1 --directory demo/clip" in done.stdout
    page = (out / "index.html").read_text()
    named = re.findall(r'(?:src|poster)="([^"]+)"', page)
    assert sorted(named) == ["720p.mp4", "master.m3u8", "poster.jpg"]


def test_the_demo_takes_a_file_of_ones_own(tmp_path: Path, ffmpeg: str) -> None:
    source = tmp_path / "a tone.wav"
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=3", source], check=True)
    done = demo(tmp_path, str(source))
    assert done.returncode == 0, done.stderr
    out = tmp_path / "demo" / "a tone"
    assert {"master.m3u8", "audio.m4a"} <= {path.name for path in out.iterdir()}
    assert "poster" not in (out / "index.html").read_text()


@pytest.mark.parametrize("words", [("absent.mp4",), ("not-media.mp4",)])
def test_the_demo_passes_a_refusal_on(tmp_path: Path, words: tuple[str]) -> None:
    (tmp_path / "not-media.mp4").write_text("no media\n" * 100)
    done = demo(tmp_path, *words)
    assert done.returncode in (2, 3)
    assert len(done.stderr.splitlines()) == 1
