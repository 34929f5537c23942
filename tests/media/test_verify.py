"""`verify` passes what `transcode` makes, and each deliberate damage breaks the rules it should.

Every damage states *all* the rules that it breaks, worked out from what was damaged. A rule that no
damage is aimed at fails the suite: it might not be able to fail.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media import damage
from tests.media.damage import LOW, SOUND, TOP, both, edit
from tests.media.framecode import Pace, make
from tests.media.test_protection import DAMAGES as PROTECTION_DAMAGES

from telecine.engine.errors import Interrupted
from telecine.engine.formats.cmaf import Sample
from telecine.engine.process import Cancel
from telecine.engine.profile import TopPolicy, make_profile, parse_output
from telecine.engine.rules import RULES, Verification
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.engine.verify import verify
from telecine.engine.words.clip import Clip
from telecine.engine.words.subtitles import SideCar

BESIDE = ("storyboard", "thumbnails:every=4s", "preview", "waveform")
FILES = ("hls", "mp4:240p", "mp3", "aac", "opus", "flac", "poster", *BESIDE)
CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=5000
title=One
[CHAPTER]
TIMEBASE=1/1000
START=5000
END=13000
title=Two
"""
FRAME = 1000  # ticks of a frame at 24 a second: the timescale is 24 000
GOP = 48


# Over the border at 6 s, and in the last segment.
SUBTITLES = """WEBVTT

00:00:05.000 --> 00:00:07.000
over the border

00:00:12.000 --> 00:00:12.500 line:0
<i>above</i>
"""


def _made(
    folder: Path,
    source: Path,
    tools: Tools,
    top: TopPolicy,
    outputs: Sequence[str] = FILES,
    *,
    subtitles: Path | None = None,
    clip: Clip | None = None,
) -> Path:
    inputs = {} if subtitles is None else {SideCar("en", hearing_impaired=True): subtitles}
    wanted = tuple(map(parse_output, outputs))
    profile = make_profile(
        wanted, (240, 120), top, subtitles=tuple(inputs), clip=clip, measure=clip is not None
    )
    files = {side_car.name: path for side_car, path in inputs.items()}
    transcode(source, folder, profile, tools=tools, jobs=2, inputs=files)
    return folder


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str, tools: Tools) -> Path:
    """13 s at 24 frames/s, two encoded rungs, segments of 6, 6 and 1 s, two chapters, subtitles,
    and every kind of file."""
    folder = tmp_path_factory.mktemp("encoded")
    chapters = folder / "chapters.txt"
    chapters.write_text(CHAPTERS)
    clip = make(
        folder / "source.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(24),
        seconds=13,
        size=(320, 240),
        mux=("-metadata:s:a:0", "language=deu"),
    )
    named = folder / "named.mp4"
    argv = [ffmpeg, "-v", "error", "-i", str(clip.path), "-i", str(chapters), "-map", "0"]
    subprocess.run([*argv, "-map_chapters", "1", "-c", "copy", str(named)], check=True)
    side_car = folder / "film.vtt"
    side_car.write_text(SUBTITLES)
    whole = Clip(Fraction(0), None)  # a clip of all of it, so that what is asked of clips is judged
    return _made(folder / "out", named, tools, "encode", subtitles=side_car, clip=whole)


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str, tools: Tools) -> Path:
    """A copied top rung of uneven pace with keyframes 3 s apart, and one rung encoded under it."""
    folder = tmp_path_factory.mktemp("copied")
    paces = (Pace(0, 0, 40), Pace(160, 6400, 50))
    clip = make(
        folder / "source.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(24),
        seconds=Fraction(270, 24),
        size=(320, 240),
        paces=paces,
        video=("-c:v", "libx264", "-preset", "superfast", "-bf", "2", "-force_key_frames",
               "expr:gte(t,n_forced*3)"),
    )  # fmt: skip
    return _made(folder / "out", clip.path, tools, "copy", ("hls",))


def broken(found: Verification) -> set[str]:
    assert found.passed == all(rule.passed for rule in found.rules)
    assert all(rule.figure for rule in found.rules)
    return {rule.name for rule in found.rules if not rule.passed}


def figure(found: Verification, name: str) -> str:
    return next(rule.figure for rule in found.rules if rule.name == name)


# --- what is good passes -------------------------------------------------------------------------


def test_every_rule_is_judged_and_kept(encoded: Path, tools: Tools) -> None:
    found = verify(encoded, decode=True, tools=tools)
    assert broken(found) == set()
    # Clips are not joined, and those on protection have an output of their own.
    judged = [name for name in RULES if name != "joined-films" and "protection" not in name]
    assert [rule.name for rule in found.rules] == judged
    assert figure(found, "frame-count") == "312 pictures on 2 renditions"
    assert figure(found, "resolution") == "320×240, 160×120"
    assert figure(found, "gop-length") == "longest 2.000 s"
    assert figure(found, "poster") == "320×240"
    # Three times 312 pictures, a sheet, four thumbnails, and three pieces of a second's preview.
    assert figure(found, "decodes") == "11 decoded, 971 pictures"
    assert not list((encoded / ".telecine").glob("*.tmp"))


def test_a_copied_uneven_top_rung_keeps_them_too(copied: Path) -> None:
    found = verify(copied)
    assert broken(found) == set()
    assert "not evenly" in figure(found, "presentation-times")
    assert figure(found, "gop-length") == "longest 3.000 s"


@pytest.mark.parametrize("which", ["encoded", "copied"])
def test_without_a_plan_the_playlists_are_judged_alone(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = copy(request.getfixturevalue(which), tmp_path)
    shutil.rmtree(folder / ".telecine")
    found = verify(folder)
    assert broken(found) == set()
    assert figure(found, "plan-readable") == "no plan: judged by the playlists alone"


def test_files_without_a_stream_need_no_playlist(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    clip = make(tmp_path / "s.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=2, size=(64, 48))
    folder = _made(tmp_path / "out", clip.path, tools, "auto", ("mp3", "poster"))
    found = verify(folder, decode=True, tools=tools)
    assert broken(found) == set()
    assert {"audio-files", "poster", "decodes"} <= {rule.name for rule in found.rules}
    shutil.rmtree(folder / ".telecine")
    assert broken(verify(folder)) == set()


def test_sound_alone_streams(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    clip = make(tmp_path / "s.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=8, size=(64, 48))
    only = _made(tmp_path / "only", clip.path, tools, "auto", ("aac",)) / "audio.m4a"
    folder = _made(tmp_path / "out", only, tools, "auto", ("hls",))
    found = verify(folder)
    assert broken(found) == set()
    assert "idr-at-segment-start" not in {rule.name for rule in found.rules}


def test_sound_that_an_edit_list_hides_is_not_missed(
    tmp_path: Path, ffmpeg: str, tools: Tools
) -> None:
    clip = make(tmp_path / "s.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=4, size=(64, 48))
    source = _made(tmp_path / "only", clip.path, tools, "auto", ("aac",)) / "audio.m4a"
    data = source.read_bytes()
    (edit_list,), (movie,) = damage.boxes(data, b"elst"), damage.boxes(data, b"mvhd")
    (timescale,) = struct.unpack_from(">I", data, movie + 12)
    damage.put(source, edit_list + 8, "II", 3 * timescale, 1024 + 48_000)  # the last 3 s of 4
    folder = _made(tmp_path / "out", source, tools, "auto", ("hls", "mp3", "aac", "opus", "flac"))
    found = verify(folder, decode=True, tools=tools)
    assert broken(found) == set()
    lasting = re.findall(r"([\d.]+) s", figure(found, "audio-files"))
    assert len(lasting) == 4
    assert all(abs(float(seconds) - 3) < 0.1 for seconds in lasting)


# --- what is damaged does not --------------------------------------------------------------------


def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "damaged"))


@dataclass(frozen=True, slots=True)
class Damage:
    """`aim` is the rule that it is made for; `also` is all else that it breaks."""

    aim: str
    what: str
    do: Callable[[Path], object]
    also: frozenset[str] = frozenset()
    good: str = "encoded"
    decode: bool = False
    plan: bool = True


def hits(aim: str, what: str, do: Callable[[Path], object], *also: str) -> Damage:
    return Damage(aim, what, do, frozenset(also))


def _edit_plan(path: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    """Another plan; the report, which names the old one, goes."""
    plan = json.loads((path / ".telecine/plan.json").read_text())
    change(plan)
    (path / ".telecine/plan.json").write_text(json.dumps(plan))
    (path / "report.json").unlink()


def _half_source(folder: Path) -> None:
    _edit_plan(folder, lambda plan: plan["video"].update(width=160, height=120))


def _drop_picture(samples: list[Sample]) -> list[Sample]:
    """Without the largest picture of a GOP but the first; the one before is shown for longer."""
    largest = max(samples[1:], key=lambda sample: len(sample.data))
    return [sample for sample in samples if sample is not largest]


def _earlier(ticks: int) -> Callable[[list[int]], list[int]]:
    """The picture that is sent furthest ahead of being shown is shown that much earlier."""

    def change(offsets: list[int]) -> list[int]:
        furthest = max(range(1, len(offsets)), key=lambda n: offsets[n])
        return [offset - ticks * (n == furthest) for n, offset in enumerate(offsets)]

    return change


def _leading_picture(offsets: list[int]) -> list[int]:
    """The IDR picture and the next one in decode order are shown in each other's place."""
    first, second, *rest = offsets
    return [second + FRAME, first - FRAME, *rest]


def _master(pattern: str, new: str, count: int = 1) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "master.m3u8", pattern, new, count=count)


def _manifest(pattern: str, new: str, count: int = 1) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "manifest.mpd", pattern, new, count=count)


def _media(home: str, pattern: str, new: str, name: str = "index.m3u8") -> Callable[[Path], None]:
    return lambda folder: edit(folder / home / name, pattern, new)


def _longer_last(folder: Path) -> None:
    both(folder / LOW, r"EXTINF:1\.000000", "EXTINF:1.500000")


def _without_last_sound(folder: Path) -> None:
    both(folder / SOUND, r"#EXTINF:.*\n00002\.m4s\n", "")
    (folder / SOUND / "00002.m4s").unlink()


def _no_independence(folder: Path) -> None:
    for name in ("master.m3u8", *(f"{home}/index.m3u8" for home in (TOP, LOW, SOUND))):
        edit(folder / name, "#EXT-X-INDEPENDENT-SEGMENTS\n", "")


def _ordinary_iframes(folder: Path) -> None:
    playlist = folder / LOW / "iframes.m3u8"
    edit(playlist, "#EXT-X-I-FRAMES-ONLY\n", "")
    edit(playlist, "VERSION:5", "VERSION:6")


def _nal_too_long(folder: Path) -> None:
    path = folder / LOW / "00001.m4s"
    data = path.read_bytes()
    (mdat, *_) = (at for at in damage.top(data) if data[at + 4 : at + 8] == b"mdat")
    damage.put(path, mdat + 8, "I", 1 << 30)


def _hasty(folder: Path) -> None:
    """Each picture of the preview a tenth as long."""
    path = folder / "preview.webp"
    data = path.read_bytes()
    for found in re.finditer(b"ANMF", data):
        damage.put(path, found.start() + 8 + 12, "B", 10)  # the lowest of three bytes: 100 ms


def _noisy_sheet(folder: Path) -> None:
    """A Huffman code that there is not; the frame header and the end stay."""
    path = folder / "storyboard/00000.jpg"
    size = path.stat().st_size
    for place in range(size // 2, size // 2 + 400, 8):
        damage.put(path, place, "Q", 0xFEFEFEFEFEFEFEFE)


def _noise(folder: Path) -> None:
    """Into the slice of an IDR picture, behind its header: only a decoder can see it."""
    path = folder / LOW / "00001.m4s"
    at, size = damage.first_slice(path.read_bytes())
    for place in range(at + size // 2, at + size - 8, 8):
        damage.put(path, place, "Q", 0x5A17_C3F0_99E1_0B6D)


def _captions(folder: Path) -> None:
    """Where a slice was: what begins a message of closed captions (ATSC A/53 part 4)."""
    path = folder / LOW / "00001.m4s"
    at, size = damage.first_slice(path.read_bytes())
    damage.put(path, at + size // 2, "Q", int.from_bytes(b"\xb5\x00\x31GA94\x03", "big"))


def _sound_track_twice(folder: Path) -> None:
    shutil.copytree(folder / SOUND, folder / "audio/other")


def _size(home: str, **sides: int) -> Callable[[Path], None]:
    """Another coded size in the sample entry; avc1's body has it at bytes 24 and 26."""

    def do(folder: Path) -> None:
        entry = damage.init_box(folder / home, b"avc1")
        for name, side in sides.items():
            at = entry + {"width": 24, "height": 26}[name]
            damage.put(folder / home / "init.mp4", at, "H", side)

    return do


def _all_sizes_lie(folder: Path) -> None:
    """A sample entry and playlists that agree on a size which the SPS does not have."""
    _size(LOW, width=161)(folder)
    edit(folder / "master.m3u8", "160x120", "161x120", count=2)


def _timescale(home: str, factor: int) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        at = damage.init_box(folder / home, b"mdhd")
        damage.put(folder / home / "init.mp4", at + 12, "I", 24_000 * factor)

    return do


def _flac_of_an_hour(folder: Path) -> None:
    damage.put(folder / "audio.flac", 22, "I", 3600 * 48_000)


DAMAGES: tuple[Damage, ...] = (
    # files
    hits("plan-readable", "no JSON", lambda f: (f / ".telecine/plan.json").write_text("{")),
    hits("files-exist", "a segment is gone", lambda f: (f / LOW / "00001.m4s").unlink()),
    hits("files-exist", "a segment is empty", lambda f: (f / LOW / "00001.m4s").write_text("")),
    hits("files-exist", "an init segment is gone", lambda f: (f / TOP / "init.mp4").unlink()),
    hits("files-exist", "the MPD is gone", lambda f: (f / "manifest.mpd").unlink()),
    hits("files-exist", "a playlist is gone", lambda f: (f / SOUND / "index.m3u8").unlink(),
         ),
    hits("files-exist", "a name leads out", _media(LOW, "^00001.m4s", "../../../s.m4s")),
    hits("files-whole", "cut off", lambda f: damage.cut(f / LOW / "00001.m4s", 100)),
    hits("files-whole", "a NAL unit beyond its sample", _nal_too_long),
    hits("files-whole", "sound in the picture's place",
         lambda f: damage.swap(f / LOW / "00001.m4s", f / SOUND / "init.mp4"), "init-segment"),
    hits("listed-once", "a segment twice",
         lambda f: both(f / SOUND, r"(#EXTINF:.*\n00001\.m4s\n)", r"\1\1"), "playlist-duration"),
    hits("listed-once", "an I-frame playlist twice",
         _master(r"(#EXT-X-I-FRAME.*\n)", r"\1\1")),
    hits("playlists-parse", "a tag without its colon", _media(LOW, "#EXTINF:", "#EXTINF=")),
    hits("playlists-parse", "a target below a segment",
         _media(LOW, "DURATION:6", "DURATION:5")),
    hits("playlists-parse", "no segments",
         lambda f: both(f / LOW, r"^(#EXTINF|0).*\n", "", count=9)),
    hits("master-lists-everything", "a rung is missing",
         _master(r"#EXT-X-STREAM-INF:.*120.*\n.*120p.*\n", "")),
    hits("master-lists-everything", "a rendition of nobody", _sound_track_twice),
    hits("init-segment", "another brand",
         lambda f: damage.put(f / LOW / "init.mp4", 8, "4sI4s", b"isom", 0, b"isom")),
    hits("init-segment", "parameter sets in the stream", lambda f: damage.put(
        f / LOW / "init.mp4", damage.init_box(f / LOW, b"avc1") - 1, "c", b"3"),
         "codecs", "mpd-attributes"),
    hits("init-segment", "a key system", lambda f: damage.add_box(f / LOW / "init.mp4", b"pssh",
         bytes(24))),
    hits("init-segment", "pictures as sound", lambda f: [
        shutil.copy(f / LOW / name, f / SOUND / name)
        for name in ("init.mp4", "00000.m4s", "00001.m4s", "00002.m4s")],
         "extinf", "codecs", "audio-group", "mpd-attributes", "mpd-segments",
         "iframe-playlists", "bandwidth", "average-bandwidth"),
    # pictures
    hits("idr-at-segment-start", "a slice that is none",
         lambda f: damage.not_idr(f / LOW / "00001.m4s", 0), "gop-length", "iframe-playlists"),
    hits("gop-length", "an IDR is missing midway",
         lambda f: damage.not_idr(f / LOW / "00001.m4s", 1), "iframe-playlists"),
    hits("closed-gops", "a picture before its IDR",
         lambda f: damage.reoffset(f / LOW / "00001.m4s", 1, _leading_picture), "iframe-playlists"),
    hits("closed-gops", "a picture behind the next IDR",
         lambda f: damage.add_to_time(f / LOW / "00001.m4s", 2 * FRAME, slice(1, 2)),
         "decode-times", "presentation-times", "iframe-playlists"),
    hits("segment-boundaries", "a rung a frame later",
         lambda f: damage.delay(f / LOW, FRAME), "presentation-times", "mpd-segments"),
    hits("presentation-times", "a picture half a frame early",
         lambda f: damage.reoffset(f / LOW / "00001.m4s", 1, _earlier(FRAME // 2))),
    hits("frame-count", "a picture is missing",
         lambda f: damage.rewrite(f / LOW, "00001.m4s", 1, _drop_picture),
         # The moof grows by a column of durations, beyond the byte range of its I-frame.
         "presentation-times", "gop-length", "iframe-playlists"),
    # time
    hits("decode-times", "a GOP a tick late",
         lambda f: damage.add_to_time(f / LOW / "00001.m4s", 1, slice(1, 2)), "presentation-times"),
    hits("decode-times", "sound with a hole",
         lambda f: damage.add_to_time(f / SOUND / "00001.m4s", 1024), "presentation-times"),
    hits("decode-times", "two segments in each other's place",
         lambda f: damage.swap(f / TOP / "00000.m4s", f / TOP / "00001.m4s"),
         "sequence-numbers", "presentation-times", "segment-boundaries", "iframe-playlists",
         "mpd-segments", "closed-gops", "av-offset", "mpd-attributes", "bandwidth", "clip-span"),
    hits("sequence-numbers", "one twice", lambda f: damage.put(
        f / LOW / "00001.m4s", damage.boxes((f / LOW / "00001.m4s").read_bytes(), b"mfhd")[1] + 4,
        "I", 10_001)),
    hits("extinf", "a millisecond long",
         lambda f: both(f / LOW, r"EXTINF:6\.000000", "EXTINF:6.001000")),
    hits("playlist-duration", "half a second long", _longer_last, "extinf"),
    hits("target-duration", "another on one rung",
         lambda f: both(f / LOW, "DURATION:6", "DURATION:7")),
    # sound
    hits("audio-span", "the last segment is not listed", _without_last_sound,
         "mpd-segments", "mpd-attributes"),
    hits("av-offset", "sound 100 ms late",
         lambda f: damage.delay(f / SOUND, 4800), "audio-span", "mpd-segments"),
    # multivariant playlist
    hits("codecs", "another profile", _master(r'CODECS="avc1\.64', 'CODECS="avc1.4d')),
    hits("codecs", "sound not named", _master(r",mp4a\.40\.2", "")),
    hits("codecs", "another on I-frames",
         _master(r'(I-FRAME.*CODECS="avc1\.)64', r"\g<1>4d")),
    hits("resolution", "another width", _master("RESOLUTION=320x240", "RESOLUTION=322x240")),
    hits("resolution", "another on I-frames",
         _master(r"(I-FRAME.*RESOLUTION=)320", r"\g<1>322")),
    hits("resolution", "the sample entry lies", _all_sizes_lie,
         "mpd-attributes", "even-sizes"),
    hits("frame-rate", "another", _master(r"FRAME-RATE=24\.000", "FRAME-RATE=23.976")),
    hits("frame-rate", "none", _master(r",FRAME-RATE=24\.000", "")),
    hits("bandwidth", "1 % lower", lambda f: damage.scale(f / "master.m3u8", "BANDWIDTH", 0.99)),
    hits("bandwidth", "1 % higher", lambda f: damage.scale(f / "master.m3u8", "BANDWIDTH", 1.01)),
    hits("average-bandwidth", "12 % lower",
         lambda f: damage.scale(f / "master.m3u8", "AVERAGE-BANDWIDTH", 0.88)),
    hits("closed-captions", "not said", _master(",CLOSED-CAPTIONS=NONE", "", 9)),
    hits("closed-captions", "inside a picture", _captions),
    hits("independent-segments", "said nowhere", _no_independence),
    hits("audio-group", "six channels", _master('CHANNELS="2"', 'CHANNELS="6"')),
    hits("audio-group", "no default", _master("DEFAULT=YES", "DEFAULT=NO"),
         "audio-tracks", "mpd-sounds"),
    hits("audio-group", "a variant without",
         _master(',mp4a.40.2(".*),AUDIO="audio"', r"\1"),
         "bandwidth", "average-bandwidth", "audio-groups-alike"),
    hits("language", "another", _master('LANGUAGE="de"', 'LANGUAGE="fr"')),
    hits("audio-groups-alike", "a picture without its group",
         _master(',AUDIO="audio"(,SUBTITLES="subtitles",CLOSED-CAPTIONS=NONE\nvideo/120p)', r"\1"),
         "audio-group", "codecs", "bandwidth", "average-bandwidth"),
    hits("audio-tracks", "another name", _master('NAME="German"', 'NAME="Dutch"')),
    hits("audio-tracks", "for the blind", _master(
        "TYPE=AUDIO,", 'TYPE=AUDIO,CHARACTERISTICS="public.accessibility.describes-video",'),
        "mpd-sounds"),
    hits("mpd-sounds", "no main sound", lambda f: edit(
        f / "manifest.mpd", r'(contentType="audio"[^§]*?value=")main', r"\1alternate")),
    hits("loudness", "of nothing", lambda f: edit(
        f / ".telecine/steps/loudness.json", '"name": "aac"', '"name": "other"')),
    hits("quality-measured", "of nothing", lambda f: edit(
        f / ".telecine/steps/measure.json", '"rendition": "120p"', '"rendition": "other"')),
    # media playlists
    hits("playlist-type", "EVENT", _media(LOW, "TYPE:VOD", "TYPE:EVENT")),
    hits("playlist-type", "none", _media(LOW, "#EXT-X-PLAYLIST-TYPE:VOD\n", "")),
    hits("ext-x-map", "none", _media(LOW, "#EXT-X-MAP.*\n", "")),
    hits("endlist", "none", _media(LOW, "#EXT-X-ENDLIST\n", "")),
    hits("ext-x-version", "3", _master("VERSION:6", "VERSION:3")),
    hits("ext-x-version", "none", _master("#EXT-X-VERSION:6\n", "")),
    # I-frame playlists
    hits("iframe-playlists", "gone", lambda f: (f / LOW / "iframes.m3u8").unlink()),
    hits("iframe-playlists", "not listed", _master("#EXT-X-I-FRAME.*120p.*\n", "")),
    hits("iframe-playlists", "a byte late",
         _media(LOW, r"BYTERANGE:(\d+)@28", r"BYTERANGE:\1@25", "iframes.m3u8")),
    hits("iframe-playlists", "ends in the IDR",
         _media(LOW, r"BYTERANGE:\d+@28", "BYTERANGE:300@28", "iframes.m3u8")),
    hits("iframe-playlists", "one picture short",
         _media(LOW, r"#EXTINF.*\n#EXT-X-BYTERANGE.*\n00002.*\n", "", "iframes.m3u8")),
    hits("iframe-playlists", "an I-frame too long",
         _media(LOW, r"EXTINF:2\.0", "EXTINF:2.1", "iframes.m3u8")),
    hits("iframe-playlists", "of ordinary segments",
         _ordinary_iframes),
    hits("iframe-playlists", "half the rate",
         _master(r"(I-FRAME-STREAM-INF:BANDWIDTH)=(\d)", r"\1=1")),
    # growing playlists
    hits("growing-playlists", "VOD", _media(LOW, "EVENT", "VOD", "growing.m3u8")),
    hits("growing-playlists", "never ended", _media(LOW, "#EXT-X-END.*\n", "", "growing.m3u8")),
    hits("growing-playlists", "starts at its end", _media(LOW, "#EXT-X-START.*\n", "",
         "growing.m3u8")),
    hits("growing-playlists", "starts near its end", _media(LOW, "OFFSET=-[0-9]+", "OFFSET=-3",
         "growing.m3u8")),
    hits("growing-playlists", "another target", _media(LOW, "DURATION:6", "DURATION:7",
         "growing.m3u8")),
    hits("growing-playlists", "a segment less",
         _media(LOW, r"#EXTINF.*\n00002.*\n", "", "growing.m3u8")),
    hits("growing-playlists", "gone", lambda f: (f / SOUND / "growing.m3u8").unlink()),
    # DASH
    hits("mpd-parses", "cut off", _manifest("</MPD>", "")),
    hits("mpd-parses", "a template that is none", _manifest(r"\$Number", "$Nummer")),
    hits("mpd-segments", "a tick long", _manifest(r'd="(\d+)(\d)"', r'd="\g<1>1"')),
    hits("mpd-segments", "numbers from 1", _manifest('startNumber="0"', 'startNumber="1"')),
    hits("mpd-segments", "another timescale", _manifest('timescale="24000"', 'timescale="24001"')),
    hits("mpd-segments", "shifted", _manifest(' startNumber="0"',
         ' presentationTimeOffset="5" startNumber="0"')),
    hits("mpd-segments", "a rung is missing",
         _manifest(r'(?s)<Representation id="120p".*?</Representation>', "")),
    hits("mpd-attributes", "another codec", _manifest(r"avc1\.64", "avc1.4d")),
    hits("mpd-attributes", "another height", _manifest('height="240"', 'height="242"')),
    hits("mpd-attributes", "another rate", _manifest('frameRate="24"', 'frameRate="25"')),
    hits("mpd-attributes", "too little bandwidth",
         lambda f: damage.scale(f / "manifest.mpd", "bandwidth", 0.99)),
    hits("mpd-attributes", "a second short",
         _manifest('PresentationDuration="PT13', 'PresentationDuration="PT12')),
    hits("mpd-attributes", "another language", _manifest('lang="de"', 'lang="fra"')),
    hits("mpd-attributes", "44.1 kHz",
         _manifest('audioSamplingRate="48000"', 'audioSamplingRate="44100"')),
    # the ladder
    hits("never-upscaled", "the source was half as large", _half_source, "poster"),
    hits("even-sizes", "an odd width", _size(LOW, width=161), "resolution", "mpd-attributes"),
    hits("aspect", "15 % too low", _size(TOP, height=204),
         "resolution", "mpd-attributes"),
    hits("frame-rate-limit", "three times as fast", _timescale(LOW, 3),
         "frame-rate", "gop-length", "segment-boundaries", "extinf", "mpd-segments",
         "mpd-attributes", "iframe-playlists", "bandwidth", "average-bandwidth"),
    # files of their own
    hits("progressive-mp4", "cut off", lambda f: damage.cut(f / "240p.mp4", 1000)),
    hits("progressive-mp4", "index at the end", lambda f: damage.moov_last(f / "240p.mp4")),
    hits("progressive-mp4", "another rung's", lambda f: damage.put(
        f / "240p.mp4", damage.boxes((f / "240p.mp4").read_bytes(), b"avc1")[0] + 24, "H", 160)),
    hits("progressive-mp4", "gone", lambda f: (f / "240p.mp4").unlink()),
    hits("audio-files", "an hour long", _flac_of_an_hour),
    hits("audio-files", "no MP3", lambda f: (f / "audio.mp3").write_text("no sound")),
    hits("audio-files", "Opus without its end", lambda f: damage.cut(f / "audio.opus", 70_000)),
    hits("audio-files", "M4A cut off", lambda f: damage.cut(f / "audio.m4a", 1000)),
    hits("poster", "cut off", lambda f: damage.cut(f / "poster.jpg", 100)),
    hits("poster", "gone", lambda f: (f / "poster.jpg").unlink()),
    # beside the film
    hits("stills-whole", "a sheet is cut off",
         lambda f: damage.cut(f / "storyboard/00000.jpg", 100)),
    hits("stills-whole", "a thumbnail of another size",
         lambda f: shutil.copy(f / "storyboard/00000.jpg", f / "thumbnails/00001.jpg")),
    hits("stills-whole", "a thumbnail is gone", lambda f: (f / "thumbnails/00002.jpg").unlink()),
    hits("stills-whole", "another place on the sheet",
         lambda f: edit(f / "storyboard.vtt", "xywh=240,0", "xywh=241,0")),
    hits("stills-whole", "JSON of another time",
         lambda f: edit(f / "thumbnails.json", r'"start_s": 4\.0', '"start_s": 4.1')),
    hits("stills-whole", "no JSON", lambda f: (f / "thumbnails.json").write_text("{}")),
    hits("stills-whole", "no WebVTT", lambda f: edit(f / "storyboard.vtt", "WEBVTT", "WEBSRT")),
    hits("stills-cover", "a hole between two",
         lambda f: edit(f / "storyboard.vtt", "--> 00:00:04.000", "--> 00:00:03.000")),
    hits("stills-cover", "the end is missing",
         lambda f: edit(f / "storyboard.vtt", "--> 00:00:13.000", "--> 00:00:12.900")),
    hits("stills-cover", "one is missing",
         lambda f: edit(f / "storyboard.vtt", r"\n00:00:12.*\n.*\n", "")),
    hits("stills-cover", "of another stretch",
         lambda f: edit(f / "storyboard.vtt", r"00:00:02\.000", "00:00:01.000", count=2)),
    hits("preview", "cut off", lambda f: damage.cut(f / "preview.webp", 10)),
    hits("preview", "a shorter time", _hasty),
    hits("preview", "of another size",
         lambda f: _edit_plan(f, lambda plan: plan["preview"].update(
             size={"width": 300, "height": 240}))),
    hits("waveform", "a number too few", lambda f: edit(f / "waveform.json", r",-?\d+\]", "]")),
    hits("waveform", "version 1",
         lambda f: edit(f / "waveform.json", '"version":2', '"version":1')),
    hits("waveform", "the greatest first",
         lambda f: edit(f / "waveform.json", r'"data":\[-?\d+', '"data":[127')),
    hits("waveform", "no numbers", lambda f: edit(f / "waveform.json", r'\[.*\]', '["a"]')),
    hits("waveform", "no picture", lambda f: damage.cut(f / "waveform.png", 1)),
    hits("chapters", "a title with a tag",
         lambda f: edit(f / "chapters.vtt", "One", "<b>One</b>")),
    hits("chapters", "beyond the film",
         lambda f: edit(f / "chapters.vtt", r"00:00:13\.000", "00:00:14.000")),
    hits("chapters", "JSON of another time",
         lambda f: edit(f / "chapters.json", '"start-time": 5', '"start-time": 6')),
    hits("chapters", "not listed", _master("#EXT-X-SESSION-DATA.*\n", "")),
    replace(hits("decodes", "noise in a sheet", _noisy_sheet), decode=True),
    hits("report", "no state", lambda f: edit(f / "report.json", "succeeded", "done")),
    hits("report", "of another plan",
         lambda f: edit(f / "report.json", '"plan_id": ".', '"plan_id": "_')),
    hits("report", "no JSON", lambda f: (f / "report.json").write_text("[")),
    replace(hits("decodes", "noise in a slice", _noise), decode=True),
    # under a copied top rung
    replace(hits("presentation-times", "other times on one rung", lambda f: damage.reoffset(
        f / LOW / "00000.m4s", 1, _earlier(1))), good="copied"),
    replace(hits("frame-count", "a picture is missing",
                 lambda f: damage.rewrite(f / LOW, "00001.m4s", 0, _drop_picture)), good="copied"),
    replace(hits("gop-length", "4 s between IDRs",
                 lambda f: damage.not_idr(f / LOW / "00000.m4s", 1), "iframe-playlists"),
            good="copied"),
    replace(hits("frame-rate", "above the fastest", _master(r"FRAME-RATE=\d+", "FRAME-RATE=26", 2)),
            good="copied"),
    # without a plan
    replace(hits("presentation-times", "a picture half a frame early",
                 lambda f: damage.reoffset(f / LOW / "00001.m4s", 1, _earlier(FRAME // 2))),
            plan=False),
    replace(hits("frame-count", "a picture is missing",
                 lambda f: damage.rewrite(f / LOW, "00001.m4s", 1, _drop_picture),
                 "presentation-times", "gop-length", "iframe-playlists"), plan=False),
    replace(hits("segment-boundaries", "a rung a frame later",
                 lambda f: damage.delay(f / LOW, FRAME), "presentation-times", "mpd-segments"),
            plan=False),
    replace(hits("target-duration", "another on one rung",
                 lambda f: both(f / LOW, "DURATION:6", "DURATION:7")), plan=False),
    replace(hits("master-lists-everything", "a rung is missing",
                 _master(r"#EXT-X-STREAM-INF:.*120.*\n.*120p.*\n", "")), plan=False),
)  # fmt: skip


TEXT = "subtitles/en-sdh"


def _text(name: str, pattern: str, new: str, count: int = 1) -> Callable[[Path], None]:
    return lambda folder: edit(folder / TEXT / name, pattern, new, count=count)


def _sooner(folder: Path) -> None:
    """The output as one of the films that are joined, which would end after 5 s."""
    path = folder / ".telecine/plan.json"
    plan = json.loads(path.read_text())
    plan["parts"] = [
        {"input": None, "first": 0, "end": 3, "origin_s": "0", "end_s": "5", "video": 0,
         "audio": None, "deinterlace": False, "tone_map": False, "working_copy": False,
         "color": plan["video"]["color"], "taken": [], "reason": "", "cut": None}
    ]  # fmt: skip
    path.write_text(json.dumps(plan))
    (folder / "report.json").unlink()


DAMAGES += (
    # The colour box of the sample entry (10 bytes of nclx and a byte of range) is as long as a
    # clli with 7 bytes that nobody reads.
    hits(
        "hdr-light",
        "SDR that says it",
        lambda f: damage.put(
            f / LOW / "init.mp4", damage.init_box(f / LOW, b"colr") - 4, "4s", b"clli"
        ),
    ),
    hits("video-range", "HDR that is none", _master(",FRAME-RATE", ",VIDEO-RANGE=PQ,FRAME-RATE")),
    hits(
        "clip-span",
        "goes on too long",
        lambda f: _edit_plan(
            f, lambda plan: plan["profile"].update(clip={"start_s": "0", "end_s": "5"})
        ),
    ),
    hits("joined-films", "goes on too long", _sooner),
    hits("subtitle-group", "another name", _master('NAME="English', 'NAME="Anglish')),
    hits("subtitle-group", "another language", _master('LANGUAGE="en"', 'LANGUAGE="fr"')),
    hits("subtitle-group", "not for the deaf", _master("describes-music-and-sound", "x")),
    hits("subtitle-group", "on no variant", _master(',SUBTITLES="subtitles"', "")),
    hits("subtitle-group", "not in the MPD", _manifest("en-sdh/whole", "en-sdh/other")),
    hits(
        "subtitle-duration",
        "ends early",
        _text("index.m3u8", "#EXTINF.*\n00002.vtt\n", ""),
        "bandwidth",
    ),
    hits("subtitle-duration", "off the grid", _text("index.m3u8", "EXTINF:6.0", "EXTINF:5.0")),
    hits("subtitle-duration", "grows", _text("index.m3u8", "#EXT-X-ENDLIST\n", "")),
    hits(
        "subtitle-timestamps", "no map", _text("00001.vtt", "X-TIMESTAMP-MAP.*\n", ""), "bandwidth"
    ),
    hits(
        "subtitle-timestamps",
        "another start",
        _text("00001.vtt", "MPEGTS:0", "MPEGTS:900000"),
        "bandwidth",
    ),
    hits(
        "subtitle-cues", "gone from a segment", _text("00001.vtt", ".*-->.*\n.*\n", ""), "bandwidth"
    ),
    hits("subtitle-cues", "in another segment", _text("00002.vtt", "0:12.000", "0:11.000")),
    hits("subtitle-cues", "broken", _text("00002.vtt", "0:12.500", "0:62.500")),
    hits("subtitle-cues", "no WebVTT", _text("00002.vtt", "WEBVTT", "webvtt")),
    hits(
        "files-exist",
        "no subtitles",
        lambda folder: (folder / TEXT / "00001.vtt").unlink(),
        "bandwidth",
    ),
)


@pytest.mark.parametrize(
    "case", DAMAGES, ids=lambda d: f"{d.aim}-{d.what}{'' if d.plan else '-unplanned'}"
)
def test_damage_breaks_the_rules_that_it_breaks(
    case: Damage, tmp_path: Path, tools: Tools, request: pytest.FixtureRequest
) -> None:
    folder = copy(request.getfixturevalue(case.good), tmp_path)
    if not case.plan:
        shutil.rmtree(folder / ".telecine")
    case.do(folder)
    found = verify(folder, decode=case.decode, tools=tools)
    figures = {rule.name: rule.figure for rule in found.rules if not rule.passed}
    assert set(figures) == {case.aim, *case.also}, figures


def test_every_rule_has_a_damage_that_breaks_it() -> None:
    aims = {case.aim for case in DAMAGES} | {aim for aim, *_ in PROTECTION_DAMAGES}
    assert aims == set(RULES)


def test_a_picture_that_the_source_lost_is_no_fault_when_a_step_warned(
    copied: Path, tmp_path: Path
) -> None:
    folder = copy(copied, tmp_path)
    damage.rewrite(folder / LOW, "00001.m4s", 0, _drop_picture)
    step = next((folder / ".telecine/steps").glob("encode*.json"))
    edit(
        step,
        '"warnings": \\[\\]',
        '"warnings": ["120p: from 0.0 s to 11.2 s 1 of 270 pictures are missing"]',
    )
    found = verify(folder)
    assert broken(found) == set()
    assert "1 of them lost with the source's" in figure(found, "frame-count")


# --- whatever lies there -------------------------------------------------------------------------

RUINS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "noise": lambda data: bytes(n * 167 % 251 for n in range(3000)),
    "noise behind its head": lambda data: data[:60] + bytes(255 - byte for byte in data[60:]),
}


@pytest.mark.parametrize("ruin", RUINS)
def test_no_file_in_ruins_is_believed_or_raises(ruin: str, encoded: Path, tmp_path: Path) -> None:
    folder = copy(encoded, tmp_path)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    judged = [path for path in files if path.parent.name != "steps" and path.name != "lock"]
    assert len(judged) > 25
    if ruin == "noise behind its head":  # what only a decoder can see
        judged = [path for path in judged if path.suffix not in (".flac", ".mp3")]
    for path in judged:
        whole = path.read_bytes()
        path.write_bytes(RUINS[ruin](whole))
        assert broken(verify(folder)), path
        path.write_bytes(whole)
    assert broken(verify(folder)) == set()


def test_no_folder_raises(tmp_path: Path) -> None:
    assert broken(verify(tmp_path / "absent")) == {"files-exist"}
    (tmp_path / "master.m3u8").mkdir()
    (tmp_path / "manifest.mpd").symlink_to("manifest.mpd")
    assert broken(verify(tmp_path)) == {"files-exist"}


def test_cancel_ends_it(encoded: Path) -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        verify(encoded, cancel=cancel)
