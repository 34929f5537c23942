"""Every output that can be asked for, made in one run, and read by another program's library."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import av
import pytest
from tests.media.running import telecine

from telecine import Verification, VerifyFailed, find_tools, make_profile, transcode, verify
from telecine.engine import transcode as transcoding

SECONDS = 14  # three segments, the last one short
OUTPUTS = (
    "hls",
    "mp4:240p",
    "mp4:source",
    "mp3@96k",
    "aac",
    "opus@64k",
    "flac",
    "poster",
)
DASH = "{urn:mpeg:dash:schema:mpd:2011}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """All outputs of a 360p clip with noise for sound, which every encoder spends its rate on."""
    home = tmp_path_factory.mktemp("outputs")
    source = home / "source.mkv"
    made = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=d={SECONDS}:s=640x360:r=25"]
    made += ["-f", "lavfi", "-i", f"anoisesrc=d={SECONDS}:a=0.1:r=48000", "-ac", "2"]
    made += ["-c:v", "mpeg4", "-q:v", "3", "-c:a", "pcm_s16le", str(source)]
    subprocess.run(made, check=True)
    words = [word for output in OUTPUTS for word in ("--output", output)]
    done = telecine(
        "transcode", source, "-o", home / "out", "--rung", "360", "--rung", "240", *words
    )
    assert done.code == 0, done.err
    return home / "out"


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())  # type: ignore[no-any-return]


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as media:
        stream = next(s for s in media.streams if s.type == kind)
        return [bytes(packet) for packet in media.demux(stream) if packet.size]


def joined(rendition: Path, target: Path) -> Path:
    """A rendition's segments as one file."""
    parts = [rendition / "init.mp4", *sorted(rendition.glob("[0-9]*.m4s"))]
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def listed(playlist: Path) -> list[str]:
    """The addresses in a media playlist, its init segment first."""
    text = playlist.read_text()
    init = re.findall(r'^#EXT-X-MAP:URI="([^"]+)"', text, re.MULTILINE)
    return init + [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("name", "codecs", "size"),
    [
        ("240p.mp4", {"h264", "aac"}, (426, 240)),
        ("source.mp4", {"h264", "aac"}, (640, 360)),
        ("audio.mp3", {"mp3"}, None),
        ("audio.m4a", {"aac"}, None),
        ("audio.opus", {"opus"}, None),
        ("audio.flac", {"flac"}, None),
    ],
)
def test_every_output_in_one_run(
    folder: Path, name: str, codecs: set[str], size: tuple[int, int] | None
) -> None:
    with av.open(str(folder / name)) as media:
        assert {"mp3" if s.name == "mp3float" else s.name for s in media.streams} == codecs
        assert media.duration is not None
        # An encoder's delay and last frame may stand out by a frame of sound at each end.
        assert abs(media.duration / av.time_base - SECONDS) < 0.1
        for video in media.streams.video:
            assert (video.width, video.height) == size
            assert sum(1 for _ in media.decode(video)) == SECONDS * 25


def test_the_poster_is_a_picture_of_the_films_size(folder: Path) -> None:
    with av.open(str(folder / "poster.jpg")) as media:
        (picture,) = media.decode(media.streams.video[0])
        assert (media.streams.video[0].name, picture.width, picture.height) == ("mjpeg", 640, 360)


def test_a_chunk_is_decoded_once_for_every_rung(folder: Path) -> None:
    source = folder.parent / "source.mkv"
    rungs = [word for side in ("360", "240", "144") for word in ("--rung", side)]
    done = telecine("plan", source, "--json", *rungs)
    commands = [c["argv"] for c in json.loads(done.out)["commands"]]
    chunks = [argv for argv in commands if "libx264" in argv]
    assert [argv.count("libx264") for argv in chunks] == [2, 3]  # two go ahead, then all
    assert all(argv.count("-i") == 1 for argv in chunks)


def test_dash_names_the_segments_of_hls(folder: Path) -> None:
    hls = set()
    for playlist in folder.glob("*/*/index.m3u8"):
        home = playlist.parent.relative_to(folder)
        hls |= {str(home / name) for name in listed(playlist)}
    dash = set()
    for template in ET.parse(folder / "manifest.mpd").iter(f"{DASH}SegmentTemplate"):
        dash.add(template.attrib["initialization"])
        count = sum(1 + int(s.get("r", 0)) for s in template.iter(f"{DASH}S"))
        start = int(template.attrib["startNumber"])
        pattern = template.attrib["media"].replace("$Number%05d$", "{:05d}")
        dash |= {pattern.format(start + n) for n in range(count)}
    assert dash == hls
    assert len(hls) == 3 * (1 + 3)  # two rungs and the sound: an init and three segments each
    assert all((folder / name).is_file() for name in hls)


def test_a_progressive_mp4_is_made_of_the_ladders_segments(folder: Path, tmp_path: Path) -> None:
    film = folder / "240p.mp4"
    data = film.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart
    rung = joined(folder / "video" / "240p", tmp_path / "rung.mp4")
    assert packets(film, "video") == packets(rung, "video")
    sound = joined(folder / "audio" / "aac", tmp_path / "sound.mp4")
    assert packets(film, "audio") == packets(sound, "audio")


@pytest.mark.parametrize(
    ("name", "asked_bps", "within"),
    [("audio.mp3", 96_000, 0.03), ("audio.opus", 64_000, 0.3)],  # opus varies with the sound
)
def test_sound_has_the_bitrate_that_was_asked_for(
    folder: Path, name: str, asked_bps: int, within: float
) -> None:
    measured = (folder / name).stat().st_size * 8 / SECONDS
    assert measured == pytest.approx(asked_bps, rel=within)


def test_flac_is_the_sound_of_the_source_to_the_sample(folder: Path) -> None:
    def samples(path: Path) -> bytes:
        with av.open(str(path)) as media:
            resample = av.AudioResampler(format="s16", layout="stereo", rate=48_000)
            frames = [f for frame in media.decode(audio=0) for f in resample.resample(frame)]
            return b"".join(f.to_ndarray().tobytes() for f in frames)

    assert samples(folder / "audio.flac") == samples(folder.parent / "source.mkv")


def test_the_report_says_it_all(folder: Path, report: dict[str, Any]) -> None:
    assert report["state"] == "succeeded"
    assert any("mpeg4 640×360" in line for line in report["source"])
    rungs = {rung["name"]: rung for rung in report["rungs"]}
    assert {"360p", "240p"} < set(rungs)
    for name, rung in rungs.items():
        kind = "video" if name.endswith("p") else "audio"
        files = list((folder / kind / name).glob("*.m4s"))
        size = sum(file.stat().st_size for file in files)
        assert (rung["segments"], rung["size_bytes"]) == (len(files), size)
        assert rung["reason"]
        assert rung["average_bps"] == pytest.approx(size * 8 / SECONDS, rel=0.01)
        assert rung["peak_bps"] >= rung["average_bps"]
    assert {"240p.mp4", "source.mp4", "poster.jpg"} < {file["path"] for file in report["files"]}
    for file in report["files"]:
        assert file["size_bytes"] == (folder / file["path"]).stat().st_size
    assert 0 < report["time_to_first_play_s"] <= report["total_s"]
    assert report["cpu_s"] > sum(step["cpu_s"] for step in report["steps"]) > 0
    assert report["warnings"] == []


def test_a_rung_above_the_source_is_dropped_with_its_reason(folder: Path) -> None:
    source = folder.parent / "source.mkv"
    done = telecine("plan", source, "--json", "--rung", "1080", "--rung", "240")
    plan = json.loads(done.out)["plan"]
    assert [r["name"] for r in plan["renditions"]] == ["360p", "240p"]
    assert any("1080" in warning for warning in plan["warnings"])


def test_sound_alone_gives_hls_of_sound(tmp_path: Path, ffmpeg: str) -> None:
    source = tmp_path / "tone.flac"
    made = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"sine=d={SECONDS}", "-ac", "1"]
    subprocess.run([*made, str(source)], check=True)
    done = telecine("transcode", source, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    master = (tmp_path / "out" / "master.m3u8").read_text()
    (variant,) = re.findall(r"#EXT-X-STREAM-INF:(.*)\n(.*)", master)
    assert 'CODECS="mp4a.40.2"' in variant[0]
    assert "RESOLUTION" not in variant[0]
    assert not (tmp_path / "out" / "video").exists()
    sound = joined((tmp_path / "out" / variant[1]).parent, tmp_path / "sound.mp4")
    with av.open(str(sound)) as media:
        played_s = sum(f.samples / f.sample_rate for f in media.decode(audio=0))
    assert abs(played_s - SECONDS) < 0.1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["time_to_first_play_s"] is not None


def test_a_job_that_does_not_pass_has_failed(
    tmp_path: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "tone.flac"
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=4", source], check=True)
    out = tmp_path / "out"

    def damaged_meanwhile(folder: Path, **how: Any) -> Verification:
        master = (folder / "master.m3u8").read_text()
        (folder / "master.m3u8").write_text(re.sub(r":BANDWIDTH=\d+", ":BANDWIDTH=1000", master))
        return verify(folder, **how)

    monkeypatch.setattr(transcoding, "verify", damaged_meanwhile)
    tools = find_tools(allow_unsandboxed=True)
    with pytest.raises(VerifyFailed, match="bandwidth"):
        transcode(source, out, make_profile(), tools=tools, jobs=1)
    report = json.loads((out / "report.json").read_text())
    assert report["state"] == "failed"
    assert "bandwidth" in report["error"]
