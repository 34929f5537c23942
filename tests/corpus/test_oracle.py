"""The oracle finds what is wrong: ladders made by a plain FFmpeg command, spoilt in one way each.

No engine is involved: these tests say whether a "passed" of the corpus run means anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tests.corpus.comparing import orientation_scores, turn
from tests.corpus.expected import Expected
from tests.corpus.oracle import Programs, examine
from tests.corpus.reading import THUMB, Picture, decode_frames, read_timing

pytestmark = [pytest.mark.needs("ffmpeg"), pytest.mark.needs("mediainfo")]

LENGTH_S = 4
SIZE = (320, 180)


def ladder(
    ffmpeg: str,
    source: Path,
    folder: Path,
    *,
    size: tuple[int, int] = SIZE,
    picture: str = "null",
    sound: str = "anull",
    rate: int = 25,
    length_s: float = LENGTH_S,
) -> Path:
    """One rung and its sound as fragmented MP4 with playlists, by FFmpeg and by hand."""
    width, height = size
    for name, options in (
        (
            "picture",
            f"-map 0:v -vf {picture},scale={width}:{height},setsar=1 -r {rate} "
            "-c:v libx264 -preset ultrafast -bf 0 -g 25",
        ),
        ("sound", f"-map 0:a -af {sound} -c:a alac"),
    ):
        (folder / name).mkdir(parents=True)
        joined = folder / name / "all.mp4"
        argv = [ffmpeg, "-v", "error", "-nostdin", "-y", "-i", str(source), *options.split()]
        argv += ["-t", str(length_s), "-movflags", "+empty_moov+default_base_moof+frag_keyframe"]
        subprocess.run([*argv, str(joined)], check=True, stdin=subprocess.DEVNULL)
        data = joined.read_bytes()
        first = data.index(b"moof") - 4
        (folder / name / "init.mp4").write_bytes(data[:first])
        (folder / name / "0.m4s").write_bytes(data[first:])
        joined.unlink()
        (folder / name / "index.m3u8").write_text(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n"
            f'#EXT-X-MAP:URI="init.mp4"\n#EXTINF:{length_s:.3f},\n0.m4s\n#EXT-X-ENDLIST\n'
        )
    (folder / "master.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:7\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="sound/index.m3u8"\n'
        f"#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION={width}x{height},FRAME-RATE={rate}.000,"
        'AUDIO="a"\npicture/index.m3u8\n'
    )
    (folder / "manifest.mpd").write_text(f'<MPD mediaPresentationDuration="PT{length_s}S"/>')
    return folder


@dataclass(frozen=True, slots=True)
class Made:
    source: Path
    ladder: Path  # a right one
    expected: Expected
    programs: Programs
    ffmpeg: str


@pytest.fixture(scope="module")
def made(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A moving test picture with noise that swells each half second, and what is right about it."""
    source = tmp_path_factory.mktemp("oracle") / "source.mkv"
    moving = f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate=25:duration={LENGTH_S}"
    noise = f"anoisesrc=r=48000:a=0.5:seed=1:d={LENGTH_S},tremolo=f=2:d=0.9"
    argv = [ffmpeg, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", moving]
    argv += ["-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([*argv, "-c:a", "flac", str(source)], check=True, stdin=subprocess.DEVNULL)
    frames = decode_frames("ffmpeg", source, "v:0")
    at_s = 1.0
    picture = frames.pictures[int(np.searchsorted(frames.times_s, at_s + 0.001)) - 1]
    grid = np.rint(picture.reshape(4, THUMB // 4, 4, THUMB // 4).mean(axis=(1, 3)))
    expected = Expected(
        path="made",
        outcomes=("ok",),
        cause="",
        kind="video",
        stream="v:0",
        width=SIZE[0],
        height=SIZE[1],
        rotation=0,
        mirrored=False,
        rates=((25.0, 25.0),),
        durations_s=(LENGTH_S,),
        offset_s=0.0,
        audio=True,
        cover=False,
        warnings="",
        grid_at_s=at_s,
        grid=tuple(int(value) for value in grid.ravel()),
        note="",
    )
    right = ladder(ffmpeg, source, source.parent / "right")
    return Made(source, right, expected, Programs(source_ffmpeg=ffmpeg), ffmpeg)


def wrong(made: Made, folder: Path, expected: Expected | None = None) -> list[str]:
    return examine(folder, made.source, expected or made.expected, made.programs).wrong


def test_a_right_ladder_passes_and_is_measured(made: Made) -> None:
    found = examine(made.ladder, made.source, made.expected, made.programs)
    assert found.wrong == []
    assert found.figures["av_ms"].endswith("seen/seen")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        ({"picture": "rotate=PI"}, "orientation"),
        ({"picture": "hflip"}, "orientation"),
        ({"size": (180, 320), "picture": "transpose=1"}, "aspect"),
        ({"size": (320, 200)}, "aspect"),
        ({"size": (640, 360)}, "enlarges"),
        ({"rate": 30}, "rate"),
        ({"length_s": 3.8}, "duration"),
        ({"sound": "adelay=60:all=1"}, "off the picture"),
        ({"sound": "atrim=start=0.06,asetpts=PTS-STARTPTS"}, "off the picture"),
        ({"picture": "setpts=PTS+0.12/TB"}, "off the picture"),
        ({"picture": "hflip=enable='between(t,2,2.4)'"}, "strange"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_spoilt_ladder_is_found(
    made: Made, tmp_path: Path, spoil: dict[str, object], named: str
) -> None:
    folder = ladder(made.ffmpeg, made.source, tmp_path / "o", **spoil)  # type: ignore[arg-type]
    said = wrong(made, folder)
    assert any(named in one for one in said), said


def _cut_off(folder: Path) -> None:
    segment = folder / "picture" / "0.m4s"
    segment.write_bytes(segment.read_bytes()[:-2000])


def _garble(folder: Path) -> None:
    segment = folder / "picture" / "0.m4s"
    data = bytearray(segment.read_bytes())
    start = data.index(b"mdat") + 200  # past the parameter sets and the slice's header
    data[start : start + 3000] = bytes(byte ^ 0x5A for byte in data[start : start + 3000])
    segment.write_bytes(data)


def _lose_segment(folder: Path) -> None:
    (folder / "sound" / "0.m4s").unlink()


def _lose_sound(folder: Path) -> None:
    lines = (folder / "master.m3u8").read_text().splitlines()
    (folder / "master.m3u8").write_text(
        "\n".join(line for line in lines if "EXT-X-MEDIA" not in line) + "\n"
    )


def _unfinished(folder: Path) -> None:
    playlist = folder / "picture" / "index.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST\n", ""))


def _wrong_resolution(folder: Path) -> None:
    master = folder / "master.m3u8"
    master.write_text(master.read_text().replace("320x180", "322x180"))


def _wrong_extinf(folder: Path) -> None:
    playlist = folder / "picture" / "index.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXTINF:4", "#EXTINF:5"))


def _wrong_mpd(folder: Path) -> None:
    (folder / "manifest.mpd").write_text('<MPD mediaPresentationDuration="PT5S"/>')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_cut_off, "cannot be read"),
        (_garble, "picture/index.m3u8"),
        (_lose_segment, "is missing"),
        (_lose_sound, "sound"),
        (_unfinished, "not a finished VOD"),
        (_wrong_resolution, "RESOLUTION"),
        (_wrong_extinf, "EXTINF"),
        (_wrong_mpd, "manifest.mpd"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_folder_is_found(
    made: Made, tmp_path: Path, damage: Callable[[Path], None], named: str
) -> None:
    folder = shutil.copytree(made.ladder, tmp_path / "o")
    damage(folder)
    said = wrong(made, folder)
    assert any(named in one for one in said), said


def test_a_lost_fragment_is_found(made: Made) -> None:
    init = (made.ladder / "picture" / "init.mp4").read_bytes()
    data = (made.ladder / "picture" / "0.m4s").read_bytes()
    starts = [match.start() - 4 for match in re.finditer(b"moof", data)]
    assert len(read_timing(init + data).times_s) == 25 * LENGTH_S
    with pytest.raises(ValueError, match="decode time"):
        read_timing(init + data[: starts[1]] + data[starts[2] :])


def test_a_picture_that_only_stands_wrong_scores_lower() -> None:
    upright: Picture = np.array([n**1.5 for n in range(16)]).reshape(4, 4)
    large: Picture = np.repeat(np.repeat(upright, 4, axis=0), 4, axis=1)
    assert orientation_scores(large, upright)[0] == pytest.approx(1)
    for way in ((90, False), (180, False), (270, False), (0, True), (90, True)):
        score, rival = orientation_scores(turn(large, *way), upright)
        assert rival == pytest.approx(1), way
        assert score < 0.95, way


def test_brightness_does_not_count(made: Made, tmp_path: Path) -> None:
    """Tone-mapping changes the luma of every pixel; that is not a wrong picture."""
    folder = ladder(made.ffmpeg, made.source, tmp_path / "o", picture="eq=contrast=0.6")
    assert wrong(made, folder) == []


def test_audio_only_and_a_missing_picture(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.ladder, tmp_path / "o")
    heard = replace(made.expected, kind="audio", rates=(), grid_at_s=None, grid=())
    assert any("only sound" in one for one in wrong(made, folder, heard))
    (folder / "master.m3u8").write_text(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=90000\nsound/index.m3u8\n"
    )
    assert wrong(made, folder, heard) == []
    assert "no rung" in wrong(made, folder)
    shutil.rmtree(folder / "sound")
    assert any("cannot be read" in one for one in wrong(made, folder, heard))
