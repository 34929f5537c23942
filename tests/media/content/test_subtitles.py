"""Subtitles: what comes out, against other programs and against pictures that carry their number.

FFmpeg reads the finished WebVTT and the source, each by its own parsers; when a text is shown is
known by arithmetic from how the clip was made, and seen in decoded pictures where it is burnt in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from tests.media.framecode import make
from tests.media.hlsdir import read_output
from tests.thorough import thorough_but

from telecine.engine import subtitle_reader
from telecine.engine.errors import InputRefused, MediaError
from telecine.engine.planning import make_plan
from telecine.engine.probe import probe, probe_inputs
from telecine.engine.process import Access, Limits, run
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.steps.encode import run_step
from telecine.engine.steps.subtitling import MAX_TOLD_BYTES, probe_side_car
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.engine.verify import verify
from telecine.engine.words.subtitles import Burn, SideCar

RATE = 25
SIZE = (640, 360)

# Start and end as numbers of pictures: on from the first, gone at the second; the third over the
# join of two chunks at 24 s.
SHOWN = ((10, 60), (100, 101), (575, 640), (1000, 1100))


def stamp(frame: int, comma: str = ",") -> str:
    ms = frame * 1000 // RATE
    return f"00:{ms // 60000:02d}:{ms // 1000 % 60:02d}{comma}{ms % 1000:03d}"


SRT = "".join(
    f"{n}\n{stamp(start)} --> {stamp(end)}\nText <i>number</i> {n} & 1 < 2\nsecond line\n\n"
    for n, (start, end) in enumerate(SHOWN, start=1)
)
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Italic, Underline, Alignment
Style: Default,Arial,16,0,0,0,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
""" + "".join(
    f"Dialogue: 0,{stamp(start, '.')[1:-1]},{stamp(end, '.')[1:-1]},Default,,0,0,0,,"
    f"{{\\an8\\i1}}number{{\\i0}} {n}\n"
    for n, (start, end) in enumerate(SHOWN, start=1)
)


@dataclass(frozen=True, slots=True)
class Text:
    start_ms: int
    end_ms: int
    text: str


def read_by_ffmpeg(ffmpeg: str, path: Path, stream: str = "0:s:0") -> list[Text]:
    """What FFmpeg takes a file for, as SubRip."""
    argv = [ffmpeg, "-v", "error", "-copyts", "-i", str(path), "-map", stream, "-f", "srt", "-"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = []
    for block in said.strip().split("\n\n"):
        _, times, *lines = block.split("\n")
        start, end = times.split(" --> ")
        found.append(Text(_ms(start), _ms(end), "\n".join(lines)))
    return found


def _ms(text: str) -> int:
    hours, minutes, seconds, thousandths = map(int, re.split("[:,]", text))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """45 s of numbered pictures with four tracks of subtitles in Matroska."""
    folder = tmp_path_factory.mktemp("subtitled")
    clip = make(folder / "clip.mp4", ffmpeg=ffmpeg, rate=Fraction(RATE), seconds=45, size=SIZE).path
    (folder / "a.srt").write_text(SRT)
    (folder / "b.ass").write_text(ASS)
    out = folder / "film.mkv"
    argv = [ffmpeg, "-v", "error", "-i", str(clip), "-i", str(folder / "a.srt")]
    argv += ["-i", str(folder / "b.ass"), "-map", "0", "-map", "1", "-map", "2", "-map", "1"]
    argv += ["-c", "copy", "-c:s:2", "webvtt", "-disposition:s", "0"]
    argv += ["-metadata:s:s:0", "language=ger", "-disposition:s:0", "default+forced"]
    argv += ["-metadata:s:s:1", "language=eng", "-metadata:s:s:1", "title=Signs"]
    argv += ["-metadata:s:s:2", "language=eng", "-disposition:s:2", "hearing_impaired"]
    subprocess.run([*argv, str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def output(film: Path, tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "out"
    profile = make_profile((parse_output("hls"),), (180,), subtitles=(SideCar("fr"),))
    (film.parent / "fr.srt").write_bytes(SRT.replace("Text", "Été").encode("cp1252"))
    inputs = {"subtitles-fr": film.parent / "fr.srt"}
    transcode(film, folder, profile, tools=tools, jobs=2, inputs=inputs)
    return folder


def wanted(words: str) -> list[Text]:
    return [
        Text(start * 1000 // RATE, end * 1000 // RATE, words.format(n=n))
        for n, (start, end) in enumerate(SHOWN, start=1)
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("de-forced", "Text <i>number</i> {n} & 1 < 2\nsecond line"),
        ("en", "{{\\an8}}<i>number</i> {n}"),
        ("en-sdh", "Text <i>number</i> {n} & 1 < 2\nsecond line"),
        ("fr", "Été <i>number</i> {n} & 1 < 2\nsecond line"),
    ],
)
def test_another_reader_finds_every_text_with_its_times_and_looks(
    output: Path, ffmpeg: str, name: str, words: str
) -> None:
    found = read_by_ffmpeg(ffmpeg, output / "subtitles" / name / "whole.vtt")
    # FFmpeg's reader of WebVTT takes no settings: where a text stands is not in what it says.
    plain = words.replace("{{\\an8}}", "")
    assert found == wanted(plain)
    if "an8" in words:
        text = (output / "subtitles" / name / "whole.vtt").read_text()
        assert len(re.findall(r"--> \S+ line:0$", text, re.MULTILINE)) == len(SHOWN)


def test_the_playlists_say_what_the_file_marks(output: Path) -> None:
    master = (output / "master.m3u8").read_text()
    media = re.findall(r"#EXT-X-MEDIA:TYPE=SUBTITLES,(.*)", master)
    deaf = (
        'CHARACTERISTICS="public.accessibility.transcribes-spoken-dialog,'
        'public.accessibility.describes-music-and-sound",'
    )
    group = 'GROUP-ID="subtitles",NAME='
    assert media == [
        f'{group}"German (forced)",LANGUAGE="de",DEFAULT=YES,AUTOSELECT=YES,FORCED=YES,'
        'URI="subtitles/de-forced/index.m3u8"',
        f'{group}"Signs",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,URI="subtitles/en/index.m3u8"',
        f'{group}"English (SDH)",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,{deaf}'
        'URI="subtitles/en-sdh/index.m3u8"',
        f'{group}"French",LANGUAGE="fr",DEFAULT=NO,AUTOSELECT=YES,URI="subtitles/fr/index.m3u8"',
    ]
    variants = re.findall(r"#EXT-X-STREAM-INF:(.*)", master)
    assert variants
    assert all('SUBTITLES="subtitles"' in variant for variant in variants)


def test_segments_are_the_pictures_and_hold_what_is_shown_in_them(output: Path) -> None:
    def lengths(path: Path) -> list[str]:
        return re.findall(r"#EXTINF:([\d.]+)", path.read_text())

    grid = lengths(output / "video/180p/index.m3u8")
    home = output / "subtitles/de-forced"
    assert lengths(home / "index.m3u8") == grid == ["6.000000"] * 7 + ["3.000000"]
    # By arithmetic: the third text, from 23 s to 25.6 s, is on both sides of 24 s.
    edges = [6000 * n for n in range(8)] + [45_000]
    for number, (start, end) in enumerate(pairwise(edges)):
        text = (home / f"{number:05d}.vtt").read_text()
        assert text.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n")
        inside = [t for t in wanted("{n}") if t.start_ms < end and t.end_ms > start]
        assert re.findall(r"</i> (\d)", text) == [t.text for t in inside]


def test_what_was_guessed_is_said(output: Path) -> None:
    warnings = json.loads((output / "report.json").read_text())["warnings"]
    assert "subtitles-fr: the file does not say its encoding, cp1252 is guessed" in warnings


def test_the_source_is_read_once_and_nobody_waited(output: Path) -> None:
    report = json.loads((output / "report.json").read_text())
    steps = [step["id"] for step in report["steps"] if step["id"].startswith("subtitles")]
    assert steps == ["subtitles"]
    assert [track["name"] for track in report["subtitles"]] == ["de-forced", "en", "en-sdh", "fr"]
    assert not report["files"]


def test_mov_text_is_read_too(film: Path, ffmpeg: str, tools: Tools, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    argv = [ffmpeg, "-v", "error", "-i", str(film), "-map", "0:v", "-map", "0:s:0"]
    subprocess.run([*argv, "-c:v", "copy", "-c:s", "mov_text", str(source)], check=True)
    transcode(source, tmp_path / "out", make_profile(rungs=(90,)), tools=tools, jobs=2)
    (home,) = (tmp_path / "out/subtitles").iterdir()
    assert read_by_ffmpeg(ffmpeg, home / "whole.vtt") == wanted(
        "Text <i>number</i> {n} & 1 < 2\nsecond line"
    )


def test_the_first_text_may_come_after_twenty_minutes(
    ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "late.srt").write_text("1\n00:20:30,000 --> 00:20:31,000\nat last\n")
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x36:rate=5:duration=1260"]
    argv += ["-i", str(tmp_path / "late.srt"), "-c:v", "libx264", "-preset", "ultrafast"]
    argv += ["-g", "10", "-map", "0", "-map", "1", "-map", "1", "-c:s", "srt"]
    subprocess.run([*argv, str(tmp_path / "film.mkv")], check=True)
    out = tmp_path / "out"
    transcode(tmp_path / "film.mkv", out, make_profile((parse_output("hls"),)), tools=tools, jobs=2)
    playlist = (out / "subtitles/und/index.m3u8").read_text()
    assert sum(map(float, re.findall(r"#EXTINF:([\d.]+)", playlist))) == pytest.approx(
        1260, abs=0.2
    )
    segments = sorted((out / "subtitles/und").glob("0*.vtt"))
    assert [s.name for s in segments if "at last" in s.read_text()] == ["00205.vtt"]
    assert segments[0].read_text().count("\n") == 2


@pytest.mark.parametrize("kind", thorough_but(["srt", "side-car"], "srt"))
def test_burnt_in_text_is_on_exactly_its_pictures_over_every_join(
    film: Path, tools: Tools, tmp_path: Path, ffmpeg: str, kind: str
) -> None:
    side_cars = () if kind == "srt" else (SideCar("it"),)
    burn = Burn(None, 2) if kind == "srt" else Burn("it", None)
    (tmp_path / "it.srt").write_text(SRT)
    profile = make_profile((parse_output("hls"),), (360, 90), subtitles=side_cars, burn=burn)
    inputs = {side_car.name: tmp_path / "it.srt" for side_car in side_cars}
    out = tmp_path / "out"
    transcode(film, out, profile, tools=tools, jobs=2, inputs=inputs)
    assert len(json.loads((out / ".telecine/plan.json").read_text())["chunks"]) > 1
    on = white_pictures(ffmpeg, out / "video/360p")
    assert on == [n for start, end in SHOWN for n in range(start, end)]
    assert not list((out / ".telecine").glob("burn.*"))


def white_pictures(ffmpeg: str, home: Path) -> list[int]:
    """The numbers of those pictures whose lower half has letters: nothing else in them is white."""
    whole = home.parent / "whole.mp4"
    whole.write_bytes(
        b"".join(p.read_bytes() for p in (home / "init.mp4", *sorted(home.glob("*.m4s"))))
    )
    argv = [ffmpeg, "-v", "error", "-i", str(whole), "-vf", "crop=iw:ih/2:0:ih/2,format=gray"]
    argv += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    size = SIZE[0] * SIZE[1] // 2
    assert len(data) == size * 45 * RATE
    return [
        n
        for n in range(45 * RATE)
        if sum(data[n * size : (n + 1) * size].count(level) for level in range(236, 256)) > 50
    ]


def test_a_letter_that_the_font_lacks_is_said(film: Path, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "ja.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n日本\n")
    profile = make_profile(
        (parse_output("mp4:90p"),), subtitles=(SideCar("ja"),), burn=Burn("ja", None)
    )
    inputs = {"subtitles-ja": tmp_path / "ja.srt"}
    report = transcode(film, tmp_path / "out", profile, tools=tools, jobs=2, inputs=inputs)
    (said,) = [line for line in report.warnings if "font" in line]
    assert "日" in said
    assert "本" in said


# --- real files ----------------------------------------------------------------------------------

REAL = {
    "video/autoed/mov_text.mp4": ["und: oop|boop"],
    "video/autoed/webvtt.mkv": ["und: oop|boop"],
    "video/androidx/sample_with_srt.mkv": ["en: This is the first subtitle."],
    "video/androidx/sample_with_ass_subtitles.mkv": ["und: <b>This is the first subtitle.</b>"],
    "video/androidx/fragmented_captions.mp4": ["und-sdh: ♪MUSIC♪"],
    "video/androidx/sample_with_pgs_subtitles.mkv": [],
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(corpus: Path, ffmpeg: str, tools: Tools, tmp_path: Path, name: str) -> None:
    profile = make_profile((parse_output("hls"),), (120,))
    report = transcode(corpus / name, tmp_path / "out", profile, tools=tools, jobs=2)
    found = []
    for home in sorted((tmp_path / "out").glob("subtitles/*")):
        lines = (home / "whole.vtt").read_text().split("\n")
        texts = [lines[n + 1] for n, line in enumerate(lines) if "-->" in line]
        found.append(f"{home.name}: {'|'.join(texts)}")
    assert found == REAL[name]
    left_out = [line for line in report.warnings if "left out" in line]
    assert bool(left_out) is (not found)
    if "captions" in name:  # shown once: not inside the pictures of the rungs too
        assert captions_inside(corpus / name, ffmpeg)
        (tmp_path / "rung.mp4").write_bytes(read_output(tmp_path / "out").video[0].joined)
        assert not captions_inside(tmp_path / "rung.mp4", ffmpeg)


def captions_inside(film: Path, ffmpeg: str) -> bool:
    argv = [ffmpeg, "-i", str(film), "-vf", "showinfo=checksum=0", "-f", "null", "-"]
    return (
        "Closed Captions" in subprocess.run(argv, capture_output=True, timeout=60).stderr.decode()
    )


# What each picture says, ATSC A/53 and CEA-608: a pop-on caption "Hi" is loaded and shown, and gone
# with picture 60; the others say nothing.
SAID = {0: "9420", 1: "94ae", 2: "9470", 3: "c8e9", 4: "942f", 60: "942c"}


def with_captions(stream: bytes, first: int) -> bytes:
    """An H.264 byte stream whose pictures from number `first` on carry captions in an SEI unit of
    their own, in front of the slice."""
    begin, made, number = b"\0\0\0\1", b"", 0
    for unit in re.split(b"\0\0\0?\1", stream)[1:]:
        if unit[0] & 0x1F in (1, 5):
            if number >= first:
                pair = bytes.fromhex("fc" + SAID.get(number - first, "8080"))
                message = b"\xb5\0\x31GA94\x03\x41\xff" + pair + b"\xff"
                made += begin + bytes([6, 4, len(message)]) + message + b"\x80"
            number += 1
        made += begin + unit
    return made


def pictures_of(film: Path, ffmpeg: str) -> list[str]:
    argv = [ffmpeg, "-v", "error", "-i", str(film), "-map", "0:v", "-f", "framemd5", "-"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
    return [line.rpartition(",")[2] for line in said.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("first", [0, 30])
def test_a_copied_rung_has_no_captions_inside(
    ffmpeg: str, tools: Tools, tmp_path: Path, first: int
) -> None:
    """They are WebVTT where the film begins with them; where they come later that is said."""
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=5"]
    argv += ["-c:v", "libx264", "-bf", "0", "-g", "48", "-keyint_min", "48", "-f", "h264", "-"]
    stream = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    (tmp_path / "in.h264").write_bytes(with_captions(stream, first))
    film, out = tmp_path / "film.mp4", tmp_path / "out"
    argv = [ffmpeg, "-v", "error", "-r", "24", "-i", str(tmp_path / "in.h264"), "-c", "copy"]
    subprocess.run([*argv, str(film)], check=True, timeout=60)
    assert captions_inside(film, ffmpeg)
    profile = make_profile((parse_output("hls"),), (180, 90), top="copy")
    report = transcode(film, out, profile, tools=tools, jobs=2)
    top, *_ = read_output(out).video
    (tmp_path / "top.mp4").write_bytes(top.joined)
    assert not captions_inside(tmp_path / "top.mp4", ffmpeg)
    assert pictures_of(tmp_path / "top.mp4", ffmpeg) == pictures_of(film, ffmpeg)
    texts = [path.read_text() for path in out.glob("subtitles/*/whole.vtt")]
    assert [("Hi" in text) for text in texts] == [True] * (first == 0)
    late = [line for line in report.warnings if line.endswith("[captions_left_out]")]
    assert len(late) == (first > 0)
    assert (out / "master.m3u8").read_text().count("CLOSED-CAPTIONS=NONE") == 2


def test_pictures_of_text_are_burnt_in(
    corpus: Path, ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    source = corpus / "video/androidx/sample_with_pgs_subtitles.mkv"
    outputs = (parse_output("mp4:source"),)
    for name, burn in (("with", Burn("en", None)), ("without", None)):
        profile = make_profile(outputs, top="encode", burn=burn)
        transcode(source, tmp_path / name, profile, tools=tools, jobs=2)
    argv = [ffmpeg, "-v", "info", "-i", str(tmp_path / "with/source.mp4")]
    argv += ["-i", str(tmp_path / "without/source.mp4"), "-filter_complex"]
    for crop, alike in (("iw:ih/6:0:ih*5/6", False), ("iw:ih/2:0:0", True)):
        graph = f"[0:v]crop={crop}[a];[1:v]crop={crop}[b];[a][b]psnr"
        said = subprocess.run([*argv, graph, "-f", "null", "-"], capture_output=True, text=True)
        psnr = float(re.search(r"average:([\d.]+|inf)", said.stderr)[1])  # type: ignore[index]
        assert (psnr > 35) is alike, (crop, psnr)


def test_reading_on_is_told_where_no_text_is(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker whose step tells nothing for a minute loses it, and between two lines of text may
    lie many gigabytes of pictures: the reader tells of each piece that it reads."""
    monkeypatch.setattr(subtitle_reader, "TOLD_EVERY_S", 0)
    subtitle_reader.main(["source", str(film), "2", ""])
    said = [json.loads(line)[0] for line in capsys.readouterr().out.splitlines()]
    assert said.count("cue") == len(SHOWN)
    assert said.count("moved") >= film.stat().st_size // subtitle_reader.READ_BYTES


# --- hostile files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"WEBVTT\n\n" + b"x" * (9 << 20), "larger than 8 MiB"),
        (b"\x00\x01\x02\x03" * 100, "neither SubRip"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n", "neither SubRip"),
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><tt/>", "neither SubRip"),
    ],
)
def test_what_is_no_subtitles_is_refused(
    tools: Tools, tmp_path: Path, data: bytes, why: str
) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InputRefused, match=why) as raised:
        probe_side_car(tmp_path / "x", tools)
    assert raised.value.code == "subtitles_unreadable"


@pytest.mark.thorough
def test_a_flood_of_cues_is_cut_short_and_said(film: Path, tools: Tools, tmp_path: Path) -> None:
    flood = "".join(
        f"{n}\n00:00:00,000 --> 00:00:45,000\n<script>alert({n})</script>\n\n"
        for n in range(60_000)
    )
    (tmp_path / "en.srt").write_text(flood)
    profile = make_profile((parse_output("hls"),), (90,), subtitles=(SideCar("en"),))
    inputs = {"subtitles-en": tmp_path / "en.srt"}
    report = transcode(film, tmp_path / "out", profile, tools=tools, jobs=2, inputs=inputs)
    home = tmp_path / "out/subtitles/en-2"
    assert all(path.stat().st_size < 100_000 for path in home.glob("0*.vtt"))
    assert not any("<script" in path.read_text() for path in home.glob("*.vtt"))
    assert [line for line in report.warnings if "10000 cues too many" in line]
    assert [line for line in report.warnings if "where too many meet" in line]
    assert verify(tmp_path / "out").passed


def test_a_text_that_is_too_long_is_cut_off_and_said(
    film: Path, tools: Tools, tmp_path: Path
) -> None:
    """8,000 characters of an event are kept, its fields among them; of a cue of WebVTT 4,000."""
    (tmp_path / "en.srt").write_text(SRT + f"5\n00:00:01,000 --> 00:00:02,000\n{'x' * 9000}\n")
    times = "00:01.000 --> 00:02.000\n"
    (tmp_path / "fr.vtt").write_text(f"WEBVTT\n\n{times}{'y' * 4001}\n\n{times}{'z' * 4000}\n")
    (tmp_path / "it.vtt").write_text(f"WEBVTT\n\n{times}{'z' * 4000}\n")
    inputs = {
        f"subtitles-{path.stem}": path for path in sorted(tmp_path.iterdir())
    }  # fmt: skip
    cars = tuple(SideCar(name.removeprefix("subtitles-")) for name in inputs)
    profile = make_profile((parse_output("hls"),), (90,), subtitles=cars)
    beside = probe_inputs(profile, inputs, tools)
    plan = make_plan(probe(film, tools), profile, inputs=beside)
    made = run_step(plan, "subtitles", film, tmp_path / "out", tools=tools, inputs=inputs)
    assert made.warnings == tuple(
        f"{title}: too long a text in 1 cues, whose end is left out [subtitles_cut]"
        for title in ("English", "French")
    )
    kept = {path.parent.name: path.read_text() for path in tmp_path.glob("out/**/whole.vtt")}
    assert 7900 < kept["en-2"].count("x") < 8000
    assert (kept["fr"].count("y"), kept["fr"].count("z")) == (4000, 4000)


def test_the_reader_is_shut_in(film: Path, tools: Tools, tmp_path: Path) -> None:
    """It reads the file that it is given and no other: here it is given another."""
    said: list[bytes] = []
    (tmp_path / "given.srt").write_text(SRT)
    argv = [sys.executable, "-I", "-m", "telecine.engine.subtitle_reader", "source", str(film)]
    finished = run(
        [*argv, "2", ""],
        sandbox=tools.sandbox,
        limits=Limits(wall_s=20),
        access=Access(read=(tmp_path / "given.srt",)),
        sinks={1: said.append},
    )
    if tools.sandbox.tier in ("bwrap", "landlock"):
        assert finished.returncode != 0
        assert not b"".join(said)


def test_a_reader_that_was_taken_over_can_say_little(film: Path, tools: Tools) -> None:
    from telecine.engine.steps.subtitling import _Listener

    for data in (b"[]\n", b'["cue",0,"x",1,null,"y"]\n', b"\xff\n", b"1\n", b'["rm","-rf"]\n'):
        with pytest.raises(MediaError) as raised:
            _Listener(lambda _: None).feed(data)
        assert raised.value.code == "subtitles_failed"
    with pytest.raises(MediaError, match="MiB"):
        _Listener(lambda _: None).feed(b" " * (MAX_TOLD_BYTES + 1))
    assert probe(film, tools).subtitles[0].forced
