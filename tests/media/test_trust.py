"""What a file or a folder says of itself is not obeyed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import av
import pytest

from telecine.engine.argv import poster, poster_size
from telecine.engine.commands import commands
from telecine.engine.errors import UsageError
from telecine.engine.planning import make_plan
from telecine.engine.probe import probe
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode

# Reads like a line of FFmpeg's showinfo, with two filters that read files in its middle.
FORGED = (
    "[Parsed_showinfo_0 @ 0x7f0000000000] color_range:tv "
    "color_space:bt709,drawtext=textfile=/etc/hostname,movie=/etc/passwd "
    "color_primaries:bt709 color_trc:smpte2084"
)


def make(ffmpeg: str, path: Path, *flags: str, color: str = "0x00c800") -> Path:
    """Two seconds of one colour at 720p, tagged BT.709."""
    source = ["-f", "lavfi", "-i", f"color={color}:s=1280x720:r=24:d=2"]
    # Two steps: the picture becomes BT.709 samples, and is said to be.
    tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    matrix = ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4"]
    argv = [ffmpeg, "-v", "error", "-y", *source, *matrix, *encode, *tags, *flags, str(path)]
    subprocess.run(argv, check=True)
    return path


def test_a_title_does_not_reach_a_filter_graph(ffmpeg: str, tmp_path: Path, tools: Tools) -> None:
    for title in (FORGED, f"innocent\n{FORGED}"):
        clip = make(ffmpeg, tmp_path / "clip.mkv", "-metadata", f"title={title}")
        info = probe(clip, tools)
        assert not info.video[0].color.hdr
        assert info.video[0].color.matrix == "bt709"
        plan = make_plan(info, make_profile())
        for _, argv in commands(plan, tools, clip, tmp_path):
            assert not any("drawtext" in word or "movie=" in word for word in argv)


def test_a_poster_has_the_films_colours(ffmpeg: str, tmp_path: Path, tools: Tools) -> None:
    clip = make(ffmpeg, tmp_path / "green.mp4")
    plan = make_plan(probe(clip, tools), make_profile((parse_output("poster"),)))
    assert poster(tools.ffmpeg, plan, clip, size=poster_size(plan), time_s=plan.poster_time_s)
    transcode(clip, tmp_path / "out", plan.profile, tools=tools, jobs=1)
    with av.open(str(tmp_path / "out" / "poster.jpg")) as picture:
        frame = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    # (0, 200, 0) is what was drawn; 4:2:0, two encodings and rounding move it by a few steps.
    middle = frame[300:420, 500:780].reshape(-1, 3).mean(axis=0)
    assert middle == pytest.approx([0, 200, 0], abs=5)


def test_links_in_the_folder_are_not_followed(ffmpeg: str, tmp_path: Path, tools: Tools) -> None:
    clip = make(ffmpeg, tmp_path / "clip.mp4")
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".telecine").symlink_to(home)
    profile = make_profile((parse_output("poster"),))
    with pytest.raises(UsageError) as refused:
        transcode(clip, out, profile, tools=tools, jobs=1, force=True)
    assert refused.value.code == "output_unwritable"
    assert (home / "letter").read_text() == "mine"

    (out / ".telecine").unlink()
    (out / ".telecine").mkdir()
    (out / ".telecine" / "lock").symlink_to(home / "letter")
    with pytest.raises(UsageError) as refused:
        transcode(clip, out, profile, tools=tools, jobs=1)
    assert refused.value.code == "output_unwritable"
    assert (home / "letter").read_text() == "mine"


def test_a_pipe_in_the_folder_is_not_waited_for(ffmpeg: str, tmp_path: Path, tools: Tools) -> None:
    clip = make(ffmpeg, tmp_path / "clip.mp4")
    out = tmp_path / "out"
    (out / ".telecine").mkdir(parents=True)
    os.mkfifo(out / ".telecine" / "plan.json")
    with pytest.raises(UsageError) as refused:
        transcode(clip, out, make_profile((parse_output("poster"),)), tools=tools, jobs=1)
    assert refused.value.code == "output_exists"


def test_force_makes_a_damaged_folder_whole_again(
    ffmpeg: str, tmp_path: Path, tools: Tools
) -> None:
    clip = make(ffmpeg, tmp_path / "clip.mp4", color="gray")
    out, profile = tmp_path / "out", make_profile(rungs=(240,))
    transcode(clip, out, profile, tools=tools, jobs=1)
    segment = out / "video" / "240p" / "00000.m4s"
    whole = segment.read_bytes()
    damaged = bytearray(whole)
    damaged[100:104] = bytes(4)
    segment.write_bytes(damaged)
    transcode(clip, out, profile, tools=tools, jobs=1, force=True)
    assert segment.read_bytes() == whole
