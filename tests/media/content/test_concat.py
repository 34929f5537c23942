"""Films that are joined: exactly the pictures of each, at every join, and its sound with them.

Each film's pictures carry their number (`framecode`), and its sound a click at each full second of
its own clock; what is shown and heard when follows by arithmetic from how the films were made.
"""

from __future__ import annotations

import bisect
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.media.framecode import Clip, Pace, clicks, frames, make
from tests.media.hlsdir import Output, read_output
from tests.media.running import telecine

SYNC_S = Fraction(40, 1000)
CUT_S = Fraction(20, 1000)  # a click is half as long
RATE = Fraction(24000, 1001)

X264 = ("-c:v", "libx264", "-preset", "superfast", "-crf", "22", "-bf", "3")
OPEN_GOP = (*X264, "-g", "75", "-x264-params", "open-gop=1:scenecut=0:keyint=75")
MPEG2_FIELDS = ("-c:v", "mpeg2video", "-q:v", "4", "-bf", "2", "-flags", "+ildct+ilme")


@dataclass(frozen=True, slots=True)
class Part:
    """`inner` is where the film's pictures lie in 320 × 180: width, height, x, y; by arithmetic."""

    ending: str
    source: dict[str, Any]
    lasts_s: Fraction
    inner: tuple[int, int, int, int] = (320, 180, 0, 0)
    silent: bool = False
    late_s: Fraction = Fraction(0)  # how much later than its pictures its sound begins


PARTS = (
    Part("mp4", {"rate": RATE, "seconds": Fraction(48048, 6000), "size": (320, 180)},
         Fraction(48048, 6000)),
    # A working copy of its own; its last segment would be shorter than a GOP.
    Part("ts", {"rate": Fraction(25), "seconds": 7, "size": (320, 240), "video": OPEN_GOP},
         Fraction(7), (240, 180, 40, 0)),
    Part("mp4", {"rate": Fraction(25), "seconds": Fraction(2, 25), "size": (320, 180)},
         Fraction(2, 25)),
    Part("mkv", {"rate": RATE, "seconds": 3, "size": (640, 360), "audio": None},
         Fraction(71 * 1001, 24000), silent=True),
    Part("mp4", {"rate": Fraction(25), "seconds": 5, "size": (256, 320),
                 "paces": (Pace(0, 0, 40), Pace(50, 2400, 33)),
                 "audio": ("-c:a", "aac", "-ar", "44100", "-ac", "1")},
         Fraction(4875, 1000), (144, 180, 88, 0)),
    Part("mpg", {"rate": Fraction(50), "seconds": 4, "size": (480, 192), "fields": "tff",
                 "video": MPEG2_FIELDS, "audio": ("-c:a", "mp2", "-ar", "32000"),
                 "sound": "atrim=end=3.7", "sound_late_s": 0.5},
         Fraction(4), (320, 128, 0, 26), late_s=Fraction(1, 2)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    clips: tuple[Clip, ...]
    counts: tuple[int, ...]  # pictures of each film in the output
    folder: Path
    output: Output

    def begins(self, part: int) -> int:
        return sum(self.counts[:part])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> tuple[Clip, ...]:
    folder = tmp_path_factory.mktemp("films")
    return tuple(
        make(folder / f"film{n}.{part.ending}", ffmpeg=ffmpeg, **{"video": X264, **part.source})
        for n, part in enumerate(PARTS)
    )


def join(films: Sequence[Clip], out: Path, outputs: Sequence[str], *words: str) -> Made:
    first, *others = (film.path for film in films)
    said: list[str | Path] = ["transcode", first, "-o", out, *words]
    for other in others:
        said += ["--concat", other]
    for output in outputs:
        said += ["--output", output]
    run = telecine(*said, timeout_s=300)
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    counts = tuple(round(part.lasts_s * RATE) for part in PARTS)
    return Made(tuple(films), counts, out, read_output(out))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, films: tuple[Clip, ...]) -> Made:
    outputs = ("hls", "poster", "mp4:source", "flac", "mp3", "waveform")
    return join(films, tmp_path_factory.mktemp("concat"), outputs, "--codec", "h264,av1,hevc")


def expected(made: Made, part: int) -> list[int]:
    """By arithmetic: the last picture that has begun, of the film's own times on the output's
    grid."""
    places = [int(time_s * RATE + Fraction(1, 2)) for time_s in made.clips[part].times]
    return [bisect.bisect_right(places, k) - 1 for k in range(made.counts[part])]


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_each_film_has_its_own_pictures_from_its_first_to_its_last(
    made: Made, part: int, ffmpeg: str
) -> None:
    width, height, x, y = PARTS[part].inner
    first, count = made.begins(part), made.counts[part]
    assert len(made.output.video) == 3
    sources: list[Path | bytes] = [rung.joined for rung in made.output.video]
    for source in (*sources, made.folder / "source.mp4"):
        shown = frames(source, ffmpeg=ffmpeg, before=f"crop={width}:{height}:{x}:{y}")
        assert len(shown) == sum(made.counts)
        own = shown[first : first + count]
        assert [one.number for one in own] == expected(made, part)
        for k, one in enumerate(own, start=first):
            assert abs(one.time_s - k / RATE) < Fraction(1, 1_000_000)


def test_beside_narrower_and_wider_films_it_is_black(made: Made, ffmpeg: str) -> None:
    argv = [ffmpeg, "-v", "error", "-i", str(made.folder / "source.mp4"), "-f", "rawvideo",
            "-pix_fmt", "gray", "pipe:1"]  # fmt: skip
    pictures = subprocess.run(argv, capture_output=True, check=True, timeout=120).stdout
    for number, part in enumerate(PARTS):
        picture = pictures[(made.begins(number) + 1) * 320 * 180 :][: 320 * 180]
        width, height, x, y = part.inner
        outside = [
            picture[row * 320 + column]
            for row in range(0, 180, 7)
            for column in range(0, 320, 7)
            if not (x - 2 <= column < x + width + 2 and y - 2 <= row < y + height + 2)
        ]
        assert bool(outside) == ((width, height) != (320, 180))
        assert all(level <= 18 for level in outside)


def test_each_film_begins_a_segment(made: Made) -> None:
    begins = {Fraction(made.begins(part)) / RATE for part in range(len(PARTS))}
    for rung in made.output.video:
        starts = [Fraction(0), *accumulate(rung.extinf_s)]
        for at_s in begins:
            assert any(abs(start_s - at_s) < Fraction(1, 1000) for start_s in starts), rung.name


def test_sound_stays_with_the_pictures_of_every_film(made: Made, ffmpeg: str) -> None:
    """A click that lies on a join is not asked for: it is cut, or its own encoder faded in."""
    wanted = []
    for number, part in enumerate(PARTS):
        begins_s = Fraction(made.begins(number)) / RATE
        times_s = [part.late_s + s for s in range(int(part.lasts_s) + 1)]
        if not part.silent:
            inside = [at_s for at_s in times_s if 0 < at_s < part.lasts_s - CUT_S]
            wanted += [begins_s + at_s for at_s in inside]
    joins_s = [Fraction(made.begins(n)) / RATE for n in range(len(PARTS))]
    (audio,) = made.output.audio
    for where in (audio.joined, made.folder / "source.mp4", made.folder / "audio.flac",
                  made.folder / "audio.mp3"):  # fmt: skip
        heard = [
            at_s
            for at_s in clicks(where, ffmpeg=ffmpeg)
            if all(not -CUT_S <= at_s - join_s < Fraction(1, 5) for join_s in joins_s)
        ]
        assert len(heard) == len(wanted), where
        assert max(abs(a - b) for a, b in zip(heard, wanted, strict=True)) <= SYNC_S


def test_a_film_without_sound_is_silent(made: Made, ffmpeg: str) -> None:
    """The others hum throughout."""
    silent = next(n for n, part in enumerate(PARTS) if part.silent)
    begins_s, lasts_s = float(made.begins(silent) / RATE), float(PARTS[silent].lasts_s)

    def loudest(at_s: float, lasts_s: float) -> int:
        argv = [ffmpeg, "-v", "error", "-i", str(made.folder / "audio.flac"), "-af",
                f"atrim=start={at_s}:duration={lasts_s}", "-f", "s16le", "-ac", "1",
                "pipe:1"]  # fmt: skip
        sound = subprocess.run(argv, capture_output=True, check=True, timeout=120).stdout
        return max(abs(level) for level in memoryview(sound).cast("h"))

    assert loudest(begins_s + 0.05, lasts_s - 0.1) == 0
    assert loudest(begins_s - 0.5, 0.4) > 200
    assert loudest(begins_s + lasts_s + 0.05, 0.4) > 200


def test_report_rules_and_plan_name_the_films(made: Made) -> None:
    report = json.loads((made.folder / "report.json").read_text())
    films = report["films"]
    assert [film["name"] for film in films] == ["source", *(f"film-{n}" for n in range(2, 7))]
    for number, film in enumerate(films):
        assert film["start_s"] == pytest.approx(float(made.begins(number) / RATE), abs=0.001)
    said = " | ".join(film["reason"] for film in films)
    for word in ("320×240 made 320×180, bars at the sides", "bars above and below", "deinterlaced",
                 "25.000 frames/s made 23.976", "no sound: silence", "variable"):  # fmt: skip
        assert word in said
    assert "several films are joined" in report["top_not_copied"]
    checked = telecine("verify", made.folder, "--decode", timeout_s=120)
    assert checked.code == 0, checked.out
    assert "ok      joined-films: 6 films" in checked.out


# --- a clip of all of them -----------------------------------------------------------------------

# Pictures [240, 600) at 24000/1001: the source ends before, the second film is entered midway and
# read from a copy, the last one, of fields, ends before it is over.
CLIP, CLIP_FIRST, CLIP_END = "10.01-25", 240, 600


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory, films: tuple[Clip, ...]) -> Made:
    outputs = ("hls", "flac", "poster", "waveform")
    return join(films, tmp_path_factory.mktemp("clipped"), outputs, "--clip", CLIP)


def test_a_clip_has_the_pictures_of_the_whole_between_its_times(clipped: Made, ffmpeg: str) -> None:
    (rung,) = clipped.output.video
    shown = 0
    for part in range(1, len(PARTS)):
        width, height, x, y = PARTS[part].inner
        begins = clipped.begins(part)
        inside = range(max(CLIP_FIRST, begins), min(CLIP_END, begins + clipped.counts[part]))
        wanted = [expected(clipped, part)[k - begins] for k in inside]
        own = frames(rung.joined, ffmpeg=ffmpeg, before=f"crop={width}:{height}:{x}:{y}")
        assert len(own) == CLIP_END - CLIP_FIRST
        part_of_it = own[inside.start - CLIP_FIRST : inside.stop - CLIP_FIRST]
        assert [one.number for one in part_of_it] == wanted
        shown += len(wanted)
    assert shown == CLIP_END - CLIP_FIRST


def test_a_clip_sounds_like_the_whole_between_its_times(clipped: Made, ffmpeg: str) -> None:
    starts_s, ends_s = (Fraction(n) / RATE for n in (CLIP_FIRST, CLIP_END))
    joins_s = [starts_s, *(Fraction(clipped.begins(n)) / RATE for n in range(1, len(PARTS)))]
    wanted = []
    for number, part in enumerate(PARTS):
        if not part.silent:
            begins_s = Fraction(clipped.begins(number)) / RATE
            times_s = [part.late_s + s for s in range(int(part.lasts_s) + 1)]
            wanted += [
                begins_s + at_s - starts_s
                for at_s in times_s
                if 0 < at_s < part.lasts_s - CUT_S and starts_s < begins_s + at_s < ends_s - CUT_S
            ]
    (audio,) = clipped.output.audio
    for where in (audio.joined, clipped.folder / "audio.flac"):
        heard = [
            at_s
            for at_s in clicks(where, ffmpeg=ffmpeg)
            if all(not -CUT_S <= at_s + starts_s - join_s < Fraction(1, 5) for join_s in joins_s)
        ]
        assert len(heard) == len(wanted), where
        assert max(abs(a - b) for a, b in zip(heard, wanted, strict=True)) <= SYNC_S


def test_report_and_rules_know_the_clip_of_all(clipped: Made) -> None:
    report = json.loads((clipped.folder / "report.json").read_text())
    assert [film["name"] for film in report["films"]] == [f"film-{n}" for n in range(2, 7)]
    assert report["clip"] == {"start_s": 10.01, "end_s": 25.025}
    assert "source lies outside of the clip" in report["warnings"]
    assert report["films"][0]["reason"].startswith("2.002 s to 7.007 s of the film; ")
    checked = telecine("verify", clipped.folder, "--decode", timeout_s=120)
    assert checked.code == 0, checked.out
    assert "ok      clip-span" in checked.out
    assert "ok      joined-films: 5 films of 120, 2, 71, 117, 50 pictures" in checked.out


# --- sound alone ---------------------------------------------------------------------------------

# Seconds, and how each is coded: no two of the same rate or channels.
SONGS = (
    ("wav", Fraction(33, 10), ("-ar", "44100", "-ac", "1")),
    ("flac", Fraction(5, 2), ("-ar", "96000", "-ac", "6")),
    ("m4a", Fraction(41, 10), ("-c:a", "aac", "-ar", "48000", "-ac", "2")),
)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> list[Path]:
    folder = tmp_path_factory.mktemp("songs")
    clip = make(folder / "clip.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=5, size=(64, 36))
    for ending, lasts_s, words in SONGS:
        argv = [ffmpeg, "-v", "error", "-i", str(clip.path), "-vn", "-t", str(float(lasts_s))]
        subprocess.run([*argv, *words, str(folder / f"song.{ending}")], check=True, timeout=60)
    return [folder / f"song.{ending}" for ending, *_ in SONGS]


@pytest.mark.parametrize(("start_s", "clip"), [(0, ()), (2, ("--clip", "2-8.3"))])
def test_sound_alone_is_joined_to_the_sample(
    songs: list[Path], ffmpeg: str, tmp_path: Path, start_s: int, clip: Sequence[str]
) -> None:
    """A click at each full second of its own; one at a join is cut, and not asked for."""
    first, *others = songs
    out = tmp_path / "out"
    words: list[str | Path] = ["transcode", first, "-o", out, *clip]
    for other in others:
        words += ["--concat", other]
    run = telecine(*words, "--output", "hls", "--output", "flac", timeout_s=120)
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    begins_s = list(accumulate((lasts_s for _, lasts_s, _ in SONGS), initial=Fraction(0)))
    ends_s = Fraction(83, 10) if clip else begins_s[-1]
    wanted = [
        begin_s + Fraction(second - start_s)
        for begin_s, (_, lasts_s, _) in zip(begins_s, SONGS, strict=False)
        for second in range(1, int(lasts_s) + 1)
        if start_s < begin_s + second < ends_s - CUT_S
    ]
    (audio,) = read_output(out).audio
    for where in (audio.joined, out / "audio.flac"):
        heard = [
            at_s
            for at_s in clicks(where, ffmpeg=ffmpeg)
            if all(
                not -CUT_S <= at_s + start_s - join_s < Fraction(1, 5)
                for join_s in (Fraction(start_s), *begins_s)
            )
        ]
        assert len(heard) == len(wanted), where
        assert max(abs(a - b) for a, b in zip(heard, wanted, strict=True)) <= Fraction(1, 100)
    report = json.loads((out / "report.json").read_text())
    assert report["duration_s"] == pytest.approx(float(ends_s - start_s), abs=0.03)
    assert [film["name"] for film in report["films"]] == ["source", "film-2", "film-3"]
    checked = telecine("verify", out, "--decode", timeout_s=120)
    assert checked.code == 0, checked.out
    if not clip:
        assert "joined-films: 3 films of 158400, 120000, 196800 samples" in checked.out
        plan = json.loads((out / ".telecine/plan.json").read_text())
        plan["parts"][1]["end_s"] = "2"  # as if half a second less had been planned
        (out / ".telecine/plan.json").write_text(json.dumps(plan))
        (out / "report.json").unlink()
        checked = telecine("verify", out, timeout_s=120)
        assert checked.code == 1
        assert "film-3 does not begin at 5.300 s" in checked.out


# --- tracks, subtitles, chapters -----------------------------------------------------------------


def tracks(folder: Path, ffmpeg: str, name: str, words: Sequence[str]) -> Path:
    """A film of 3 s with what `words` say beside its pictures."""
    path = folder / name
    argv = [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=3", *words,
            "-t", "3", "-map", "0", "-c:v", "libx264", "-preset", "ultrafast",
            str(path)]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return path


def tone(hertz: int) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=f={hertz}:d=3"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """A film of two languages with English subtitles, then one in English alone with subtitles in
    English and German, and with chapters."""
    folder = tmp_path_factory.mktemp("named")
    cue = "1\n00:00:01,000 --> 00:00:0{},000\n{}\n"
    for name, end, text in (("a", 2, "first"), ("b", 2, "second"), ("c", 9, "dritter")):
        (folder / f"{name}.srt").write_text(cue.format(end, text))
    (folder / "marks").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=2\ntitle=Dawn\n"
        "[CHAPTER]\nTIMEBASE=1/1\nSTART=2\nEND=3\ntitle=Noon\n"
    )
    one = tracks(folder, ffmpeg, "one.mkv", [
        *tone(500), *tone(2000), "-i", str(folder / "a.srt"), "-map", "1", "-map", "2", "-map", "3",
        "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fre",
        "-metadata:s:s:0", "language=eng",
    ])  # fmt: skip
    two = tracks(folder, ffmpeg, "two.mkv", [
        *tone(700), "-i", str(folder / "b.srt"), "-i", str(folder / "c.srt"),
        "-i", str(folder / "marks"), "-map", "1", "-map", "2", "-map", "3", "-map_metadata", "4",
        "-metadata:s:a:0", "language=eng",
        "-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=ger",
    ])  # fmt: skip
    beside = folder / "beside.srt"
    beside.write_text("1\n00:00:02,000 --> 00:00:04,000\nover the join\n")
    out = folder / "out"
    run = telecine("transcode", one, "--concat", two, "-o", out, "--output", "hls",
                   "--subtitle", f"it={beside}", timeout_s=120)  # fmt: skip
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    return out


def pitch(folder: Path, name: str, at_s: float, ffmpeg: str) -> int:
    """The tone of a rendition of sound: how often a second it goes up through 0."""
    rendition = next(a for a in read_output(folder).audio if a.name == name)
    argv = [ffmpeg, "-v", "error", "-i", "pipe:0", "-af", f"atrim=start={at_s}:duration=1",
            "-f", "s16le", "-ac", "1", "pipe:1"]  # fmt: skip
    sound = subprocess.run(
        argv, input=rendition.joined, capture_output=True, check=True, timeout=60
    ).stdout
    levels = memoryview(sound).cast("h")
    return sum(a < 0 <= b for a, b in pairwise(levels))


def test_a_track_goes_on_in_its_language_else_in_the_default_one(named: Path, ffmpeg: str) -> None:
    report = json.loads((named / "report.json").read_text())
    assert [sound["language"] for sound in report["sounds"]] == ["en", "fr"]
    first, other = (sound["name"] for sound in report["sounds"])
    assert pitch(named, first, 1, ffmpeg) == pytest.approx(500, abs=5)
    assert pitch(named, other, 1, ffmpeg) == pytest.approx(2000, abs=5)
    assert pitch(named, first, 4, ffmpeg) == pytest.approx(700, abs=5)
    assert pitch(named, other, 4, ffmpeg) == pytest.approx(700, abs=5)
    assert "no sound 'French'" in report["films"][1]["reason"]


def test_subtitles_of_a_language_go_on_at_the_times_of_each_film(named: Path) -> None:
    def whole(name: str) -> str:
        return (named / "subtitles" / name / "whole.vtt").read_text()

    english, german, italian = whole("en"), whole("de"), whole("it")
    assert "00:00:01.000 --> 00:00:02.000\nfirst" in english
    assert "00:00:04.000 --> 00:00:05.000\nsecond" in english
    assert "first" not in german
    # It ends with its film.
    assert "00:00:04.000 --> 00:00:06.000\ndritter" in german
    assert "00:00:02.000 --> 00:00:04.000\nover the join" in italian


def test_chapters_of_each_film_stand_at_its_times(named: Path) -> None:
    listed = json.loads((named / "chapters.json").read_text())
    assert [(one["start-time"], one["duration"], one["titles"][0]["title"]) for one in listed] == [
        (0, 3, "Part 1"),
        (3, 2, "Dawn"),
        (5, 1, "Noon"),
    ]
    assert telecine("verify", named).code == 0


def test_a_clip_has_the_texts_and_chapters_of_its_time(named: Path, tmp_path: Path) -> None:
    """From 1.48 s to 4.52 s: 37 pictures fewer at the start, 38 of the second film's 75."""
    one, two, beside = (named.parent / name for name in ("one.mkv", "two.mkv", "beside.srt"))
    out = tmp_path / "out"
    run = telecine("transcode", one, "--concat", two, "-o", out, "--output", "hls",
                   "--clip", "1.48-4.52", "--subtitle", f"it={beside}", timeout_s=120)  # fmt: skip
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    texts = {path.parent.name: path.read_text() for path in out.glob("subtitles/*/whole.vtt")}
    assert "00:00:00.000 --> 00:00:00.520\nfirst" in texts["en"]
    assert "00:00:02.520 --> 00:00:03.040\nsecond" in texts["en"]
    assert "00:00:02.520 --> 00:00:03.040\ndritter" in texts["de"]
    assert "00:00:00.520 --> 00:00:02.520\nover the join" in texts["it"]
    listed = json.loads((out / "chapters.json").read_text())
    assert [(one["start-time"], one["duration"], one["titles"][0]["title"]) for one in listed] == [
        (0, 1.52, "Part 1"),
        (1.52, 1.52, "Dawn"),
    ]


# --- colours -------------------------------------------------------------------------------------

RED, GREEN, BLUE = 0xC0, 0x50, 0x30
COLORS = (
    ("bt709", "bt709", "tv"),
    ("smpte170m", "smpte170m", "tv"),
    ("bt470bg", "bt470bg", "pc"),
)


def test_films_of_other_colours_look_the_same(tmp_path: Path, ffmpeg: str) -> None:
    """One RGB, written down in three ways, and an HDR film behind them: in the output the first
    three are that RGB, by what it says of itself; nothing says another thing midway."""
    films = []
    for matrix, primaries, range_ in COLORS:
        path = tmp_path / f"{matrix}.mp4"
        # Primaries are made another's in linear light, from what BT.709 shows.
        vf = (f"format=gbrp,zscale=pin=bt709:tin=bt709:p={primaries}:t=bt709:m={matrix}"
              f":r={'full' if range_ == 'pc' else 'limited'},format=yuv420p")  # fmt: skip
        argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i",
                f"color=c=0x{RED:02x}{GREEN:02x}{BLUE:02x}:s=320x180:r=25:d=1", "-vf", vf,
                "-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-color_range", range_,
                "-colorspace", matrix, "-color_primaries", primaries, "-color_trc", "bt709",
                str(path)]  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        films.append(path)
    hdr = tmp_path / "hdr.mp4"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=c=gray:s=320x180:r=25:d=1", "-vf",
            "format=gbrp,zscale=pin=bt709:tin=bt709:p=bt2020:t=smpte2084:m=bt2020nc:r=limited"
            ":npl=203,format=yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast",
            "-x265-params", "log-level=error:hdr10=1:colorprim=bt2020:transfer=smpte2084"
            ":colormatrix=bt2020nc:range=limited:max-cll=1000,400", "-tag:v", "hvc1",
            str(hdr)]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    out = tmp_path / "out"
    words = [word for film in (*films[1:], hdr) for word in ("--concat", str(film))]
    run = telecine("transcode", films[0], *words, "-o", out, "--codec", "h264,av1",
                   "--output", "hls", timeout_s=120)  # fmt: skip
    assert run.code == 0, run.out[-2000:] + run.err[-2000:]
    for rung in read_output(out).video:
        argv = [ffmpeg, "-v", "error", "-i", "pipe:0", "-vf",
                "scale=1:1:flags=area:in_color_matrix=bt709:in_range=tv", "-f", "rawvideo",
                "-pix_fmt", "rgb24", "pipe:1"]  # fmt: skip
        pixels = subprocess.run(
            argv, input=rung.joined, capture_output=True, check=True, timeout=60
        ).stdout
        shown = [tuple(pixels[n : n + 3]) for n in range(0, len(pixels), 3)]
        assert len(shown) == 100
        for number in (5, 30, 55):
            assert shown[number] == pytest.approx((RED, GREEN, BLUE), abs=4), rung.name
        grey = shown[80]
        assert max(grey) - min(grey) <= 4
        assert 40 < min(grey) < 200
    assert telecine("verify", out, "--decode").code == 0


# --- refusals ------------------------------------------------------------------------------------


def test_what_is_no_film_is_refused_and_named(tmp_path: Path, made: Made, ffmpeg: str) -> None:
    song = tmp_path / "song.mp3"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(song)]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    text = tmp_path / "text.mp4"
    text.write_text("no film at all\n" * 100)
    film, out = made.clips[0].path, tmp_path / "out"
    for words, exit_code, code in (
        ((film, "--concat", song), 3, "film_no_picture"),
        ((song, "--concat", film), 3, "film_no_picture"),
        ((film, "--concat", text), 3, "not_media"),
    ):
        run = telecine("transcode", *words, "-o", out)
        assert (run.code, f"error[{code}]" in run.err) == (exit_code, True), run.err
        assert ("film-2" in run.err) == (words[0] == film)
        assert not out.exists()
