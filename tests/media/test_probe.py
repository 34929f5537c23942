"""Which streams count, and that foreign bytes are only ever read in the sandbox."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.media.running import telecine

from telecine.engine import probe as probing
from telecine.engine import process
from telecine.engine.tools import find_tools

BIG = "testsrc2=d=2:s=320x240:r=25"
SMALL = "testsrc=d=2:s=160x120:r=25"
TONE = "sine=d=2"


def make(ffmpeg: str, target: Path, inputs: Sequence[str], *options: str | Path) -> Path:
    argv: list[str | Path] = [ffmpeg, "-v", "error"]
    for one in inputs:
        argv += ["-f", "lavfi", "-i", one]
    subprocess.run([*argv, *options, target], check=True)
    return target


def probed(source: Path) -> dict[str, Any]:
    done = telecine("probe", source, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)  # type: ignore[no-any-return]


def planned(source: Path) -> dict[str, Any]:
    done = telecine("plan", source, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["plan"]  # type: ignore[no-any-return]


@pytest.fixture
def picture(tmp_path: Path, ffmpeg: str) -> Path:
    return make(ffmpeg, tmp_path / "cover.png", [SMALL], "-frames:v", "1")


def test_the_probe_runs_in_the_sandbox(
    tmp_path: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(ffmpeg, tmp_path / "film.mp4", [BIG, TONE])
    tools = find_tools()
    started: list[tuple[str, process.Access]] = []

    def watched(argv: Sequence[str], **how: Any) -> process.Finished:
        assert how["sandbox"] is tools.sandbox
        started.append((Path(argv[0]).name, how["access"]))
        return process.run(argv, **how)

    monkeypatch.setattr(probing, "run", watched)
    info = probing.probe(source, tools)
    assert [video.codec for video in info.video] == ["h264"]
    assert tools.sandbox.tier != "none"
    programs = [name for name, _ in started]
    assert any(name.startswith("python") for name in programs)  # PyAV, in a child
    assert any(name.startswith("ffmpeg") for name in programs)
    for _, access in started:
        assert source in access.read
        assert access.write is None


def test_pyav_is_never_loaded_where_the_plan_is_made(tmp_path: Path, ffmpeg: str) -> None:
    source = make(ffmpeg, tmp_path / "film.mp4", [BIG])
    program = (
        "import sys, telecine; from pathlib import Path;"
        "telecine.probe(Path(sys.argv[1]), telecine.find_tools());"
        "sys.exit('av' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(source)], check=True, timeout=60)


@pytest.mark.parametrize(
    ("dispositions", "size", "why"),
    [
        (("0", "0"), (320, 240), "largest"),
        (("default", "0"), (160, 120), "default"),
        (("0", "default"), (320, 240), "default"),
    ],
)
def test_the_default_or_largest_video_wins(
    dispositions: tuple[str, str], size: tuple[int, int], why: str, tmp_path: Path, ffmpeg: str
) -> None:
    source = make(
        ffmpeg, tmp_path / "two.mkv", [SMALL, BIG], "-map", "0", "-map", "1",
        "-disposition:v:0", dispositions[0], "-disposition:v:1", dispositions[1],
        "-default_mode", "passthrough",
    )  # fmt: skip
    plan = planned(source)
    assert (plan["video"]["width"], plan["video"]["height"]) == size
    (said,) = [warning for warning in plan["warnings"] if "video streams" in warning]
    assert why in said


def test_cover_art_is_no_video(tmp_path: Path, ffmpeg: str, picture: Path) -> None:
    song = make(
        ffmpeg, tmp_path / "song.mp3", [TONE], "-i", picture, "-map", "0", "-map", "1",
        "-c:v", "png", "-disposition:v:0", "attached_pic",
    )  # fmt: skip
    info = probed(song)
    assert info["video"] == []
    assert [other["kind"] for other in info["other"]] == ["cover"]
    assert [audio["codec"] for audio in info["audio"]] == ["mp3"]


def test_a_larger_cover_does_not_stand_for_the_film(tmp_path: Path, ffmpeg: str) -> None:
    cover = make(ffmpeg, tmp_path / "cover.png", ["testsrc=s=1280x960"], "-frames:v", "1")
    film = make(
        ffmpeg, tmp_path / "film.mp4", [BIG], "-i", cover, "-map", "1", "-map", "0",
        "-c:v:0", "png", "-disposition:v:0", "attached_pic", "-disposition:v:1", "0",
    )  # fmt: skip
    info = probed(film)
    assert [(video["width"], video["height"]) for video in info["video"]] == [(320, 240)]
    assert [other["kind"] for other in info["other"]] == ["cover"]


def test_attachments_and_data_are_no_video(tmp_path: Path, ffmpeg: str, picture: Path) -> None:
    film = make(
        ffmpeg, tmp_path / "film.mkv", [BIG, TONE], "-attach", picture,
        "-metadata:s:t", "mimetype=application/octet-stream",
    )  # fmt: skip
    info = probed(film)
    assert len(info["video"]) == len(info["audio"]) == 1
    assert [other["kind"] for other in info["other"]] == ["attachment"]


# 3 s of sound in packets that tell no duration. Of FLAC in AVI the eleventh, at 10 · 4608 samples
# of 16 kHz, is shorter than the others: 2.88 s to 3 s. AVI states the end of the file too late.
FLAC = ("sine=d=3:r=16000", "-c:a", "flac", "-frame_size", "4608")
# Of ADPCM in FLV the ninth stands at 8 · 4096 samples of 11.025 kHz, and the header states 3 s.
ADPCM = ("sine=d=3:r=11025", "-c:a", "adpcm_swf")


@pytest.mark.parametrize(
    ("sound", "name", "longest_s"),
    [(FLAC, "film.avi", Fraction(11 * 4608, 16000)), (ADPCM, "film.flv", Fraction(3))],
)
@pytest.mark.parametrize("ends_only", [False, True], ids=["whole", "ends-only"])
def test_a_last_packet_without_a_duration_is_no_lost_sound(
    sound: tuple[str, ...], name: str, longest_s: Fraction, ends_only: bool,
    tmp_path: Path, ffmpeg: str,
) -> None:  # fmt: skip
    source = make(ffmpeg, tmp_path / name, [BIG, sound[0]], *sound[1:])
    program = (
        "import json, sys; from telecine.engine import demux;"
        + ("demux.SCAN_BELOW_BYTES = 0;" if ends_only else "")
        + "json.dump(demux.main(sys.argv[1]), sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)], check=True, capture_output=True, timeout=60
    )
    picture, heard = json.loads(done.stdout)["streams"]
    assert 3 <= Fraction(heard["end"]) <= longest_s
    if ends_only:
        assert Fraction(picture["end"]) == 2


def test_a_wrong_length_in_the_header_hides_no_packet(tmp_path: Path, ffmpeg: str) -> None:
    whole = make(ffmpeg, tmp_path / "whole.flv", [BIG, ADPCM[0]], *ADPCM[1:])
    data = whole.read_bytes()
    at = data.index(b"duration\0") + 9  # a number of 8 bytes (FLV specification 10.1, E.5)
    assert struct.unpack_from(">d", data, at) == (3.0,)
    short = tmp_path / "short.flv"
    short.write_bytes(data[:at] + struct.pack(">d", 1.0) + data[at + 8 :])
    assert Fraction(probed(short)["audio"][0]["end_s"]) == Fraction(2972 + 372, 1000)


def test_the_only_packet_lasts_until_the_end_that_the_file_states(
    tmp_path: Path, ffmpeg: str
) -> None:
    beep = make(ffmpeg, tmp_path / "beep.flv", ["sine=d=0.05:r=11025"], "-c:a", "adpcm_swf")
    info = probed(beep)
    assert Fraction(info["audio"][0]["end_s"]) == Fraction(info["duration_s"]) == Fraction("0.05")


def with_box(data: bytes, behind: bytes, box: bytes) -> bytes:
    """An MP4 whose `moov` is its last box, with one box more behind the first one of that kind."""
    at = data.index(behind) - 4
    end = at + struct.unpack_from(">I", data, at)[0]
    grown = bytearray(data)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        size_at = data.rindex(kind, 0, at) - 4
        struct.pack_into(
            ">I", grown, size_at, struct.unpack_from(">I", grown, size_at)[0] + len(box)
        )
    return bytes(grown[:end] + box + grown[end:])


def dolby_vision(profile: int, compatible_with: int) -> bytes:
    """The box of a configuration (Dolby Vision Streams Within the ISO Base Media File Format, 3.2):
    version 1.0, 7 bits of profile, 6 of level, RPU, no enhancement layer, a base layer."""
    flags = profile << 9 | 3 << 3 | 0b101
    record = struct.pack(">BBHB", 1, 0, flags, compatible_with << 4).ljust(24, b"\0")
    return struct.pack(">I4s", 8 + len(record), b"dvcC") + record


@pytest.mark.parametrize(("profile", "compatible_with", "told"), [(5, 0, True), (8, 4, False)])
def test_dolby_vision_without_a_base_is_told(
    tmp_path: Path, ffmpeg: str, profile: int, compatible_with: int, told: bool
) -> None:
    plain = make(
        ffmpeg, tmp_path / "plain.mp4", [SMALL],
        *("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1"),
        *("-x265-params", "log-level=error"),
    )  # fmt: skip
    film = tmp_path / "film.mp4"
    film.write_bytes(with_box(plain.read_bytes(), b"hvcC", dolby_vision(profile, compatible_with)))
    found = planned(film)
    warnings = [line for line in found["warnings"] if "[dolby_vision_alone]" in line]
    assert bool(warnings) is told
    name = f"Dolby Vision {profile}.{compatible_with}"
    assert all(line.startswith(name) for line in warnings)
    assert found["source"]["video"][0]["dynamic"] == [name]
    assert any(f"HDR ({name})" in line for line in probed(film)["summary"])
