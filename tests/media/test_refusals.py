"""What cannot be transcoded is refused: one clear line that names the cause, within 10 s and 1 GB,
with the right exit code, and with nothing left behind. What can be saved is made, with a warning.

Each case makes its own file, byte by byte or with FFmpeg; the cause named is the one put in.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests import pngs
from tests.media.running import Done, telecine

MOST_S = 10.0
MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Clips:
    """Sound material that the cases spoil."""

    folder: Path
    ffmpeg: str

    def made(self, name: str, *words: str | Path) -> Path:
        path = self.folder / name
        if not path.exists():
            argv = [self.ffmpeg, "-nostdin", "-loglevel", "error", *words, path]
            subprocess.run(argv, check=True, timeout=60)
        return path

    @property
    def whole(self) -> Path:
        """4 s of picture and sound; the index (moov) stands at the end."""
        return self.made(
            "whole.mp4",
            *("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=4"),
            *("-f", "lavfi", "-i", "sine=d=4"),
            *("-c:v", "libx264", "-g", "50", "-c:a", "aac", "-ac", "2"),
        )

    @property
    def index_first(self) -> Path:
        return self.made("first.mp4", "-i", self.whole, "-c", "copy", "-movflags", "+faststart")

    @property
    def sound(self) -> Path:
        return self.made("sound.m4a", "-i", self.whole, "-vn", "-c", "copy")

    @property
    def picture(self) -> Path:
        return self.made("picture.mp4", "-i", self.whole, "-an", "-c", "copy")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"), ffmpeg)


# --- the files ----------------------------------------------------------------------------------

Make = Callable[[Path, Clips], object]  # writes a file, or leaves none


def says(text: str) -> Make:
    return lambda path, _: path.write_text(text)


def holds(data: bytes) -> Make:
    return lambda path, _: path.write_bytes(data)


def zip_archive(path: Path, _: Clips) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("film.mp4", "x" * 5000)


def without_index(path: Path, clips: Clips) -> None:
    data = clips.whole.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def zeroed(path: Path, clips: Clips) -> None:
    """The index is whole and names every frame; the frames are zeros."""
    data = clips.index_first.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))


def impossible_count(path: Path, clips: Clips) -> None:
    """The sample table claims four thousand million samples."""
    data = bytearray(clips.whole.read_bytes())
    at = data.index(b"stsz") + 12
    data[at : at + 4] = b"\xff\xff\xff\xf0"
    path.write_bytes(data)


def png(width: int, height: int) -> bytes:
    return pngs.png(width, height, pngs.chunk(b"IDAT", zlib.compress(bytes(1000))))


def gif(width: int, height: int) -> bytes:
    """An animation of ten pictures in a few hundred bytes, whatever size they claim."""
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    for _ in range(10):
        data += b"!\xf9\x04\x04\x0a\0\0\0"
        data += b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    return data + b";"


def one_pixel(path: Path, clips: Clips) -> None:
    made = clips.made(
        "pixel.mp4",
        *("-f", "lavfi", "-i", "color=s=1x1:r=1:d=3"),
        *("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    )
    path.write_bytes(made.read_bytes())


def sixty_hours(path: Path, clips: Clips) -> None:
    """50 frames, the second half 60 hours after the first."""
    made = clips.made(
        "sixty.mkv",
        *("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2"),
        *("-vf", r"settb=1/1000,setpts=N*40+gte(N\,25)*216000000"),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-c:v", "libx264"),
    )
    path.write_bytes(made.read_bytes())


def subtitles_only(path: Path, clips: Clips) -> None:
    text = clips.folder / "words.srt"
    text.write_text(SUBTITLES)
    path.write_bytes(clips.made("words.mkv", "-i", text).read_bytes())


def still(path: Path, clips: Clips) -> None:
    made = clips.made("still.jpg", "-i", clips.whole, "-frames:v", "1")
    path.write_bytes(made.read_bytes())


def sound_only(path: Path, clips: Clips) -> None:
    path.write_bytes(clips.sound.read_bytes())


def picture_only(path: Path, clips: Clips) -> None:
    path.write_bytes(clips.picture.read_bytes())


def nothing(path: Path, _: Clips) -> None:
    """No such file."""


def folder(path: Path, _: Clips) -> None:
    path.mkdir()


def fifo(path: Path, _: Clips) -> None:
    os.mkfifo(path)  # to open it would wait for a writer, for ever


def link_nowhere(path: Path, _: Clips) -> None:
    path.symlink_to("nowhere.mp4")


def link_to_itself(path: Path, _: Clips) -> None:
    path.symlink_to(path.name)


def link_to_zeros(path: Path, _: Clips) -> None:
    path.symlink_to("/dev/zero")


SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nThere\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/etc/passwd\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
NOISE = bytes(n * n * 31 >> 3 & 0xFF for n in range(100_000))
SHELL = '#!/bin/sh\necho "not a film"\n' * 50


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    make: Make
    code: str
    named: str  # a word of the line that names the cause
    name: str = "film.mp4"
    options: Sequence[str] = field(default=("--rung", "240"))
    exit_code: int = 3


CASES = (
    Case("empty file", holds(b""), "empty_file", "empty"),
    Case("one byte", holds(b"\0"), "not_media", "not media"),
    Case("text", says("this is no film\n" * 100), "not_media", "not media"),
    Case("shell script", says(SHELL), "not_media", "not media"),
    Case("web page", says("<!DOCTYPE html><html>404</html>"), "not_media", "not media"),
    Case("noise", holds(NOISE), "not_media", "not media"),
    Case("zip archive", zip_archive, "not_media", "not media"),
    Case("HLS playlist", says(HLS), "not_media", "not media"),
    Case("HLS playlist by name", says(HLS), "format_refused", "playlist", name="film.m3u8"),
    Case("ffconcat script", says("ffconcat version 1.0\nfile x\n"), "format_refused", "playlist"),
    Case("SDP", says(SDP), "format_refused", "playlist"),
    Case("subtitles", says(SUBTITLES), "format_refused", "document"),
    Case("subtitles in Matroska", subtitles_only, "no_streams", "no audio or video", "film.mkv"),
    Case("MP4 without its index", without_index, "not_media", "damaged beyond reading"),
    Case("MP4 with zeros for frames", zeroed, "no_decodable_frame", "no frame can be decoded"),
    Case("MP4 with an impossible count", impossible_count, "not_media", "damaged"),
    Case("photo", still, "format_refused", "still picture", name="film.jpg"),
    Case("photo with a film's name", still, "format_refused", "still picture"),
    Case("PNG of 65536²", holds(png(65536, 65536)), "format_refused", "picture", "film.png"),
    Case("GIF of 16000²", holds(gif(16000, 16000)), "too_many_pixels", "16000×16000", "film.gif"),
    Case("video of 1×1", one_pixel, "too_small", "1×1"),
    Case("60 hours", sixty_hours, "too_long", "60.0 h", name="film.mkv"),
    Case("MP4 of sound", sound_only, "no_video", "no video", options=("--output", "mp4:source")),
    Case("MP3 of silence", picture_only, "no_audio", "no audio", options=("--output", "mp3")),
    Case("no such file", nothing, "source_missing", "No such file"),
    Case("folder", folder, "source_missing", "not a file"),
    Case("named pipe", fifo, "source_missing", "not a file"),
    Case("link to nowhere", link_nowhere, "source_missing", "No such file"),
    Case("link to itself", link_to_itself, "source_missing", "film.mp4"),
    Case("link to a device", link_to_zeros, "source_missing", "not a file"),
    Case("copy of what cannot be copied", sound_only, "no_video", "no video",
         options=("--top", "copy", "--output", "mp4:240p")),
)  # fmt: skip


def check_refused(done: Done, code: str, exit_code: int, named: str) -> None:
    assert done.code == exit_code, done.err
    assert re.fullmatch(rf"telecine: error\[{code}\]: [^\n]+\n", done.err), done.err
    assert named in done.err
    assert done.wall_s <= MOST_S
    assert done.peak_bytes <= MOST_BYTES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refusal_is_one_line_quick_and_small(case: Case, clips: Clips, tmp_path: Path) -> None:
    """And it names its cause, and leaves nothing behind."""
    source = tmp_path / case.name
    case.make(source, clips)
    before = sorted(tmp_path.rglob("*"))
    done = telecine("transcode", source, "-o", tmp_path / "out", *case.options)
    check_refused(done, case.code, case.exit_code, case.named)
    assert done.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["probe", "plan"])
@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.id)
def test_probe_and_plan_refuse_alike(
    case: Case, command: str, clips: Clips, tmp_path: Path
) -> None:
    case.make(tmp_path / case.name, clips)
    done = telecine(command, tmp_path / case.name)
    check_refused(done, case.code, case.exit_code, case.named)


def test_with_json_a_refusal_is_the_last_event(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("no film")
    done = telecine("transcode", tmp_path / "film.mp4", "-o", tmp_path / "out", "--json")
    check_refused(done, "not_media", 3, "not media")
    started, failed = map(json.loads, done.out.splitlines())
    assert started["event"] == "started"
    assert (failed["event"], failed["code"], failed["exit_code"]) == ("failed", "not_media", 3)
    assert failed["message"] in done.err


def test_copy_that_a_rule_forbids_names_the_rule(clips: Clips, tmp_path: Path) -> None:
    source = clips.made("ten.mp4", "-i", clips.whole, "-an", "-pix_fmt", "yuv422p")
    done = telecine("transcode", source, "-o", tmp_path / "out", "--top", "copy")
    check_refused(done, "top_not_copyable", 2, "4:2:0")
    assert not (tmp_path / "out").exists()


# --- folders --------------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_another_plan_is_refused_without_force(clips: Clips, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert telecine("transcode", clips.whole, "-o", out, "--output", "mp3").code == 0
    (out / "notes.txt").write_text("mine")
    before = listing(out)
    again = ("transcode", clips.whole, "-o", out, "--output", "flac")
    check_refused(telecine(*again), "output_exists", 2, "--force")
    assert listing(out) == before

    assert telecine(*again, "--force").code == 0
    after = listing(out)
    assert "audio.flac" in after
    assert "audio.mp3" not in after
    assert after["notes.txt"] == b"mine"


def test_someone_elses_files_are_not_written_over(clips: Clips, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "audio.mp3").write_text("mine")
    done = telecine("transcode", clips.whole, "-o", out, "--output", "mp3")
    check_refused(done, "output_exists", 2, "audio.mp3")
    assert listing(out) == {"audio.mp3": b"mine"}


def test_force_never_removes_the_source(clips: Clips, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(clips.whole.read_bytes())
    options = ("-o", tmp_path, "--output", "mp4:source", "--force")
    done = telecine("transcode", source, *options)
    check_refused(done, "output_is_source", 2, "source.mp4")
    assert source.read_bytes() == clips.whole.read_bytes()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/telecine"])
def test_a_folder_that_cannot_be_made_is_refused(place: str, clips: Clips, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = telecine("transcode", clips.whole, "-o", tmp_path / place, "--output", "mp3")
    check_refused(done, "output_unwritable", 2, place)


# --- FFmpeg ------------------------------------------------------------------------------------


def test_an_ffmpeg_that_is_none_is_refused(clips: Clips, tmp_path: Path) -> None:
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    run = ("transcode", clips.whole, "-o", tmp_path / "out", "--ffmpeg")
    missing = telecine(*run, tmp_path / "nowhere")
    check_refused(missing, "ffmpeg_missing", 4, "nowhere")
    other = telecine(*run, script)
    assert other.code == 4
    assert re.match(r"telecine: error\[(ffmpeg_unsuitable|sandbox_failed)\]: ", other.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.needs("ffmpeg")
def test_an_old_ffmpeg_is_refused_with_both_versions(clips: Clips, tmp_path: Path) -> None:
    installed = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout
    found = re.match(r"ffmpeg version \D?(\d+)", installed)
    if found is None or int(found[1]) >= 7:
        pytest.skip("the system's FFmpeg is not an old one")
    path = subprocess.run(["which", "ffmpeg"], capture_output=True, text=True).stdout.strip()
    done = telecine("probe", clips.whole, "--ffmpeg", path)
    check_refused(done, "ffmpeg_unsuitable", 4, "7 or newer")
    assert found[1] in done.err


def test_what_an_ffmpeg_is_built_without_is_said_when_it_is_planned(
    clips: Clips, tmp_path: Path, ffmpeg: str
) -> None:
    """The same FFmpeg, whose encoders of AV1 and of animated WebP have other names."""
    data = Path(ffmpeg).read_bytes()
    for name in (b"\0libsvtav1\0", b"\0libwebp_anim\0"):
        assert name in data
        data = data.replace(name, name[:-2] + b"X\0")
    other = tmp_path / "ffmpeg"
    other.write_bytes(data)
    other.chmod(0o755)
    words = ("--ffmpeg", other, "--codec", "h264,av1", "--output", "hls", "--output", "preview")
    lacking = "lacks libsvtav1, for AV1; libwebp_anim, for the preview\n"
    for command in (("plan", clips.whole), ("transcode", clips.whole, "-o", tmp_path / "out")):
        done = telecine(*command, *words)
        assert done.code == 4
        assert done.err.startswith("telecine: error[ffmpeg_lacks]: FFmpeg ")
        assert done.err.endswith(lacking)
    assert not (tmp_path / "out").exists()
    assert telecine("plan", clips.whole, "--ffmpeg", other).code == 0


# --- what can be saved -----------------------------------------------------------------------


def cut_short(clips: Clips) -> bytes:
    """The index is whole, of the frames 60 % are there."""
    data = clips.index_first.read_bytes()
    start = data.index(b"mdat") + 4
    return data[: start + (len(data) - start) * 6 // 10]


def scratched(clips: Clips) -> bytes:
    """A transport stream with 20 kB of zeros in its middle."""
    path = clips.made("scratched.ts", "-i", clips.whole, "-c", "copy")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    return bytes(data)


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [
        (cut_short, "cut.mp4", ["^the file is cut off: .* missing"]),
        (scratched, "scratched.ts", ["^picture from .*damaged.* missing the one before is held$"]),
    ],
    ids=["cut short", "scratched"],
)
def test_a_damaged_film_is_made_and_says_what_is_missing(
    spoil: Callable[[Clips], bytes], name: str, said: list[str], clips: Clips, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(spoil(clips))
    done = telecine("transcode", source, "-o", tmp_path / "out", "--rung", "240")
    assert done.code == 0, done.err
    warnings = re.findall(r"^telecine: warning: (.+)$", done.err, re.M)
    assert len(warnings) == len(done.err.splitlines())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["state"] == "succeeded"
    assert set(warnings) <= set(report["warnings"])
    for pattern in said:
        assert any(re.search(pattern, warning) for warning in report["warnings"]), warnings
    assert any("cut off" in warning for warning in warnings) is ("cut" in name)


@pytest.mark.thorough
def test_a_film_too_damaged_to_be_copied_is_encoded_instead(clips: Clips, tmp_path: Path) -> None:
    """30 kB of zeros in its pictures, which no index tells: it looks as if it could be copied."""
    whole = clips.made(
        "large.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=20"),
        *("-f", "lavfi", "-i", "sine=d=20"),
        *("-c:v", "libx264", "-preset", "superfast", "-crf", "23", "-g", "50"),
        *("-c:a", "aac", "-ac", "2"),
    )
    data = bytearray(whole.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 30_000] = bytes(30_000)
    source = tmp_path / "zeroed.mp4"
    source.write_bytes(data)
    run = ("transcode", source, "-o", tmp_path / "out", "--rung", "360", "--rung", "240")
    insisted = telecine(*run[:3], tmp_path / "copied", *run[4:], "--top", "copy")
    assert insisted.code == 4
    done = telecine(*run)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["state"] == "succeeded"
    assert {rung["mode"] for rung in report["rungs"] if rung["name"] != "aac"} == {"encode"}
    assert any("encoded instead" in warning for warning in report["warnings"])
    assert any("missing" in warning for warning in report["warnings"])
    assert telecine("verify", tmp_path / "out", "--decode").code == 0
    # Started again it stays with that plan and finds everything made.
    before = (tmp_path / "out" / "video" / "360p" / "00000.m4s").stat().st_mtime_ns
    again = telecine(*run)
    assert again.code == 0, again.err
    assert (tmp_path / "out" / "video" / "360p" / "00000.m4s").stat().st_mtime_ns == before
