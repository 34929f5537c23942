"""What stands beside the film: pictures whose frame numbers are read back, peaks against numpy,
chapters against a file that says them."""

from __future__ import annotations

import itertools
import json
import re
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.media import framecode
from tests.media.framecode import Clip, Pace, make
from tests.media.running import telecine
from tests.thorough import thorough_but

from telecine import Tools, make_profile, parse_output, transcode, verify
from telecine.engine.errors import InputRefused

MEZZANINE = ("-c:v", "mpeg4", "-q:v", "2", "-g", "30")
RARE_KEYS = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-bf", "2", "-g", "120",
             "-keyint_min", "120", "-sc_threshold", "0")  # fmt: skip
UNEVEN = (Pace(0, 0, 40), Pace(300, 12_000, 50))


def number(picture: Image.Image) -> int | None:
    """The number of the frame that a picture shows, by averages of its blocks as Pillow makes
    them."""
    canvas = (framecode.CANVAS_W, framecode.CANVAS_H)
    small = picture.convert("L").resize(canvas, Image.Resampling.BOX)
    return framecode.read(small.tobytes())


def shown_at(clip: Clip, time_s: float) -> int:
    """The frame that is on at this moment of the film."""
    return max(n for n, time in enumerate(clip.times) if time <= time_s + 1e-9)


def cues(text: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each cue, by a reading of the format that is not ours."""
    blocks = text.strip().split("\n\n")
    assert blocks[0] == "WEBVTT"
    found = []
    for block in blocks[1:]:
        times, line = block.split("\n")
        edges = [sum(float(part) * 60**n for n, part in enumerate(reversed(word.split(":"))))
                 for word in times.split(" --> ")]  # fmt: skip
        found.append((edges[0], edges[1], line))
    return found


def tile(folder: Path, text: str) -> Image.Image:
    """The picture that a cue names: a file, or a rectangle of one."""
    path, _, place = text.partition("#xywh=")
    with Image.open(folder / path) as sheet:
        assert sheet.format == "JPEG"
        if not place:
            return sheet.copy()
        x, y, width, height = map(int, place.split(","))
        assert x + width <= sheet.width
        assert y + height <= sheet.height
        return sheet.crop((x, y, x + width, y + height))


def made(
    home: Path, clip: Path, tools: Tools, words: Sequence[str], rungs: tuple[int, ...] = ()
) -> Path:
    profile = make_profile(tuple(map(parse_output, words)), rungs)
    transcode(clip, home / "out", profile, tools=tools, jobs=1)
    return home / "out"


PICTURES = ("storyboard", "thumbnails:every=5s", "preview")


@pytest.fixture(
    scope="module",
    params=thorough_but(
        ["encoded", "ntsc", "alone", "copied", "under-a-copy"], "encoded", "copied"
    ),
)
def beside(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    ffmpeg: str,
    tools: Tools,
) -> tuple[str, Clip, Path]:
    """62 s of film: at even and odd rates, with a ladder and without, where the top rung is a copy
    with a key picture every 4.8 to 6 s and uneven times, and from a rung that is encoded under
    one."""
    which = str(request.param)
    home = tmp_path_factory.mktemp(which)
    rate = Fraction(30_000, 1001) if which == "ntsc" else Fraction(25)
    copied = which in ("copied", "under-a-copy")
    clip = make(
        home / ("source.mp4" if copied else "source.mkv"),
        ffmpeg=ffmpeg,
        rate=rate,
        seconds=62,
        size=(480, 360),
        video=RARE_KEYS if copied else MEZZANINE,
        paces=UNEVEN if copied else (),
    )
    words = PICTURES if which == "alone" else ("hls", *PICTURES)
    rungs = {"copied": (360,), "under-a-copy": (360, 240)}.get(which, ())
    return which, clip, made(home, clip.path, tools, words, rungs)


def plan(folder: Path) -> dict[str, Any]:
    return json.loads((folder / ".telecine/plan.json").read_text())  # type: ignore[no-any-return]


def test_each_tile_shows_the_frame_of_its_time(beside: tuple[str, Clip, Path]) -> None:
    which, clip, folder = beside
    listed = cues((folder / "storyboard.vtt").read_text())
    read = [number(tile(folder, text)) for _, _, text in listed]
    assert read == [shown_at(clip, start) for start, _, _ in listed]
    # Every 2 s (60 frames at 29.97), or as seldom as a copied film has key pictures.
    assert len(listed) >= (9 if which == "copied" else 20)
    assert len({text for _, _, text in listed}) == len(listed)


def test_each_thumbnail_shows_the_frame_of_its_time(beside: tuple[str, Clip, Path]) -> None:
    which, clip, folder = beside
    listed = cues((folder / "thumbnails.vtt").read_text())
    read = [number(tile(folder, text)) for _, _, text in listed]
    assert read == [shown_at(clip, start) for start, _, _ in listed]
    index = json.loads((folder / "thumbnails.json").read_text())
    named = [(one["start_s"], one["end_s"], one["path"]) for one in index["thumbnails"]]
    assert named == listed
    assert {tile(folder, text).size for *_, text in listed} == {(index["width"], index["height"])}
    gaps = [after - before for (before, *_), (after, *_) in itertools.pairwise(listed)]
    warned = json.loads((folder / "report.json").read_text())["warnings"]
    if which == "copied":  # keys are up to 6 s apart: more often there is nothing to show
        assert any("not every 5 s: key pictures of 360p are up to 6 s apart" in w for w in warned)
    else:
        assert not [warning for warning in warned if "thumbnails" in warning]
        assert sum(gaps) / len(gaps) == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("index", ["storyboard.vtt", "thumbnails.vtt"])
def test_the_times_cover_the_film(beside: tuple[str, Clip, Path], index: str) -> None:
    _, clip, folder = beside
    listed = cues((folder / index).read_text())
    assert listed[0][0] == 0
    assert [end for _, end, _ in listed[:-1]] == [start for start, _, _ in listed[1:]]
    last_frame_s = float(clip.times[-1])
    assert last_frame_s < listed[-1][1] <= last_frame_s + 0.1


def test_the_preview_shows_five_seconds_from_five_places(beside: tuple[str, Clip, Path]) -> None:
    _, clip, folder = beside
    found = plan(folder)
    pieces = found["preview"]["segments"]
    timeline = found["timeline"]
    starts = [timeline["boundaries"][n] / timeline["timescale"] for n in pieces]
    assert len(starts) == 5
    span = starts[-1] - starts[0]
    assert span > 0.6 * 62  # spread over the film
    expected = [
        number_at
        for start in starts
        for number_at in (shown_at(clip, start + n / 10) for n in range(10))
    ]
    read: list[int | None] = []
    with Image.open(folder / "preview.webp") as animation:
        assert animation.format == "WEBP"
        assert max(animation.size) == 320
        assert animation.info["loop"] == 0
        for frame in range(getattr(animation, "n_frames", 1)):
            animation.seek(frame)
            picture = animation.copy()
            lasts_ms = animation.info["duration"]
            read += [number(picture)] * round(lasts_ms / 100)
    assert read == expected
    assert (folder / "preview.webp").stat().st_size < 500_000


def test_all_of_it_verifies_and_decodes(beside: tuple[str, Clip, Path], tools: Tools) -> None:
    which, _, folder = beside
    found = verify(folder, decode=True, tools=tools)
    assert [rule for rule in found.rules if not rule.passed] == []
    assert {"stills-whole", "stills-cover", "preview"} <= {rule.name for rule in found.rules}
    # Without playlists nothing of the rung stays that was made for the pictures.
    assert (folder / "video").exists() == (which != "alone")
    assert not (folder / ".telecine/video").exists()


def test_without_playlists_one_small_rung_is_made_for_the_pictures(
    tmp_path: Path, ffmpeg: str
) -> None:
    clip = make(
        tmp_path / "s.mkv",
        ffmpeg=ffmpeg,
        rate=Fraction(25),
        seconds=3,
        size=(1280, 720),
        video=MEZZANINE,
    )
    done = telecine("plan", clip.path, "--json", "--output", "storyboard")
    found = json.loads(done.out)["plan"]
    assert [(r["name"], r["listed"]) for r in found["renditions"]] == [("360p", False)]
    assert found["warnings"] == []
    assert [step["id"] for step in found["steps"]] == ["encode-0000", "storyboard"]


def test_a_small_film_is_copied_for_them_where_it_may_be(
    tmp_path: Path, ffmpeg: str, tools: Tools
) -> None:
    clip = make(
        tmp_path / "s.mp4",
        ffmpeg=ffmpeg,
        rate=Fraction(25),
        seconds=12,
        size=(480, 360),
        video=RARE_KEYS,
    )
    folder = made(tmp_path, clip.path, tools, ("storyboard", "preview"))
    assert [r["mode"] for r in plan(folder)["renditions"]] == ["copy"]
    listed = cues((folder / "storyboard.vtt").read_text())
    assert [number(tile(folder, text)) for *_, text in listed] == [0, 120, 240]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".telecine", "preview.webp", "report.json", "storyboard", "storyboard.vtt")
    ]


def test_a_film_of_one_frame_has_its_pictures(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    clip = make(
        tmp_path / "s.mkv",
        ffmpeg=ffmpeg,
        rate=Fraction(25),
        seconds=Fraction(1, 25),
        video=MEZZANINE,
        audio=None,
    )
    folder = made(tmp_path, clip.path, tools, PICTURES)
    ((start, _, text),) = cues((folder / "storyboard.vtt").read_text())
    assert (start, number(tile(folder, text))) == (0, 0)
    with Image.open(folder / "preview.webp") as animation:
        assert number(animation.copy()) == 0


def test_an_interrupted_run_goes_on_and_a_finished_one_stays(
    tmp_path: Path, ffmpeg: str, tools: Tools
) -> None:
    clip = make(tmp_path / "s.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=8, video=MEZZANINE)
    folder = made(tmp_path, clip.path, tools, ("hls", *PICTURES, "waveform"))
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".tmp")
    before = {path: path.read_bytes() for path in names if "steps" not in path.parts}
    (folder / "report.json").unlink()
    (folder / "thumbnails/00000.jpg").unlink()
    (folder / ".telecine/steps/preview.json").unlink()
    assert made(tmp_path, clip.path, tools, ("hls", *PICTURES, "waveform")) == folder
    for path, data in before.items():
        assert path.read_bytes() == data or path.name in ("report.json", "lock"), path


def test_what_another_plan_left_is_replaced_with_force(
    tmp_path: Path, ffmpeg: str, tools: Tools
) -> None:
    clip = make(tmp_path / "s.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=8, video=MEZZANINE)
    folder = made(tmp_path, clip.path, tools, ("thumbnails:every=2s", "preview"))
    assert len(list((folder / "thumbnails").iterdir())) == 4
    transcode(
        clip.path,
        folder,
        make_profile((parse_output("poster"),)),
        tools=tools,
        jobs=1,
        force=True,
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".telecine", "poster.jpg", "report.json")
    ]


# --- sound ----------------------------------------------------------------------------------------

Samples = NDArray[np.int16]


def write_wav(path: Path, samples: Samples, rate: int = 48_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def sweep(seconds: float, rate: int = 48_000) -> Samples:
    """Two channels that differ: a tone that swells, and bursts of noise."""
    t = np.arange(round(seconds * rate)) / rate
    left = 30_000 * (t / seconds) * np.sin(2 * np.pi * 220 * t)
    noise = np.random.default_rng(7).integers(-20_000, 20_000, t.size)
    right = np.where((t % 1) < 0.25, noise, 0)
    return np.stack([left, right], axis=1).astype(np.int16)


def expected_peaks(samples: Samples, window: int) -> list[int]:
    """By numpy: the mean of the channels, least and greatest of each window, in 8 bits."""
    mono = samples.astype(np.float64).mean(axis=1)
    found = []
    for at in range(0, len(mono), window):
        part = mono[at : at + window]
        found += [int(part.min() / 256), int(part.max() / 256)]
    return found


def off_by(found: Sequence[int], expected: Sequence[int]) -> int:
    assert len(found) == len(expected)
    return int(np.abs(np.array(found) - np.array(expected)).max())


def test_peaks_are_those_that_numpy_finds(tmp_path: Path, tools: Tools) -> None:
    samples = sweep(10.3)
    source = write_wav(tmp_path / "s.wav", samples)
    folder = made(tmp_path, source, tools, ("waveform",))
    found = json.loads((folder / "waveform.json").read_text())
    head = {name: value for name, value in found.items() if name != "data"}
    assert head == {
        "version": 2,
        "channels": 1,
        "sample_rate": 48_000,
        "samples_per_pixel": 256,
        "bits": 8,
        "length": -(-len(samples) // 256),
    }
    # A mean of two samples may fall on either side of a step of 8 bits.
    assert off_by(found["data"], expected_peaks(samples, 256)) <= 1
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".telecine", "report.json", "waveform.json", "waveform.png")
    ]


def test_the_picture_of_the_sound_is_as_high_as_its_peaks(tmp_path: Path, tools: Tools) -> None:
    samples = sweep(10.3)
    folder = made(tmp_path, write_wav(tmp_path / "s.wav", samples), tools, ("waveform",))
    with Image.open(folder / "waveform.png") as picture:
        alpha = np.array(picture.convert("RGBA"))[:, :, 3]
    height, width = alpha.shape
    peaks = np.array(json.loads((folder / "waveform.json").read_text())["data"]).reshape(-1, 2)
    drawn = (alpha > 0).sum(axis=0)
    for x in range(0, width, 97):
        # Every peak that lies wholly or in part under this column.
        first, last = x * len(peaks) // width, max((x + 1) * len(peaks) // width, 1)
        part = peaks[first : max(last, first + 1)]
        tall = (part[:, 1].max() - part[:, 0].min()) / 256 * height
        assert abs(int(drawn[x]) - tall) <= 4


@pytest.mark.parametrize(("channels", "rate"), [(1, 48_000), (1, 44_100), (6, 48_000)])
def test_any_sound_has_peaks_of_its_own_height(
    channels: int, rate: int, tmp_path: Path, tools: Tools
) -> None:
    """The same tone on all channels: an average of any weights has its height."""
    t = np.arange(3 * rate) / rate
    tone = (24_000 * np.sin(2 * np.pi * 100 * t)).astype(np.int16)
    source = write_wav(tmp_path / "s.wav", np.stack([tone] * channels, axis=1), rate)
    folder = made(tmp_path, source, tools, ("waveform",))
    data = json.loads((folder / "waveform.json").read_text())["data"]
    assert max(data) == pytest.approx(24_000 / 256, abs=3)
    assert min(data) == pytest.approx(-24_000 / 256, abs=3)


def test_the_waveform_lies_on_the_films_clock(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    """Clicks at each full second of the picture's clock, and sound that begins 1.5 s late."""
    clip = make(
        tmp_path / "s.mkv",
        ffmpeg=ffmpeg,
        rate=Fraction(25),
        seconds=8,
        video=MEZZANINE,
        audio=("-c:a", "pcm_s16le"),
        sound="atrim=start=1.5",
    )
    folder = made(tmp_path, clip.path, tools, ("hls", "waveform"))
    found = json.loads((folder / "waveform.json").read_text())
    assert found["length"] == 8 * 48_000 / 256
    loud = np.array(found["data"]).reshape(-1, 2)[:, 1]
    silent_until = next(n for n, peak in enumerate(loud) if peak) * 256 / 48_000
    assert silent_until == pytest.approx(1.5, abs=0.011)
    clicks = [n * 256 / 48_000 for n, peak in enumerate(loud) if peak > 40]
    starts = [t for n, t in enumerate(clicks) if n == 0 or t - clicks[n - 1] > 0.1]
    assert starts == pytest.approx([2, 3, 4, 5, 6, 7], abs=0.011)


def test_a_long_sound_has_wider_stretches(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    source = tmp_path / "long.flac"
    lavfi = ("-f", "lavfi", "-i", "sine=f=50:d=600:r=8000", "-af", "volume=6")
    framecode._run([ffmpeg, "-v", "error", *lavfi, str(source)], None)
    folder = made(tmp_path, source, tools, ("waveform",))
    found = json.loads((folder / "waveform.json").read_text())
    # 600 s at 48 kHz in 20,000 pieces would be 1,440 samples each; doubled from 256 that is 2,048.
    assert (found["samples_per_pixel"], found["length"]) == (2048, 14_063)
    assert len(found["data"]) == 2 * 14_063


def test_what_the_source_lacks_is_refused(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    sound = write_wav(tmp_path / "s.wav", sweep(1))
    for word in PICTURES:
        with pytest.raises(InputRefused) as refused:
            made(tmp_path, sound, tools, (word,))
        assert refused.value.code == "no_video"
    mute = make(tmp_path / "m.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=1, audio=None)
    with pytest.raises(InputRefused) as refused:
        made(tmp_path, mute.path, tools, ("hls", "waveform"))
    assert refused.value.code == "no_audio"


# --- chapters -------------------------------------------------------------------------------------

HOSTILE = "<script>x</script> --> & \u202egnp"
METADATA = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=4000
title=Öffnung
[CHAPTER]
TIMEBASE=1/1000
START=4000
END=9000
title={hostile}
[CHAPTER]
TIMEBASE=1/1000
START=9000
END=90000
title={long}
[CHAPTER]
TIMEBASE=1/1000
START=90000
END=95000
title=behind the film
"""


@pytest.fixture(params=["mkv", "mp4"])
def chaptered(request: pytest.FixtureRequest, tmp_path: Path, ffmpeg: str) -> Path:
    """12 s of film with four chapters, written by FFmpeg."""
    clip = make(tmp_path / "plain.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=12,
                video=MEZZANINE)  # fmt: skip
    metadata = tmp_path / "chapters.txt"
    metadata.write_text(METADATA.format(hostile=HOSTILE, long="x" * 3000))
    source = tmp_path / f"source.{request.param}"
    argv = [ffmpeg, "-v", "error", "-i", str(clip.path), "-i", str(metadata), "-map", "0"]
    framecode._run([*argv, "-map_chapters", "1", "-c", "copy", str(source)], None)
    return source


def test_chapters_are_read_clipped_and_escaped(chaptered: Path, tools: Tools) -> None:
    folder = made(chaptered.parent, chaptered, tools, ("hls",))
    text = (folder / "chapters.vtt").read_text()
    listed = cues(text)
    assert [(start, end) for start, end, _ in listed] == [(0, 4), (4, 9), (9, 12)]
    assert listed[0][2] == "Öffnung"
    assert listed[1][2] == "&lt;script&gt;x&lt;/script&gt; --&gt; &amp; gnp"
    assert set(listed[2][2]) == {"x"}
    assert len(listed[2][2]) == 200
    apple = json.loads((folder / "chapters.json").read_text())
    assert [(c["chapter"], c["start-time"], c["duration"]) for c in apple] == [
        (1, 0.0, 4.0),
        (2, 4.0, 5.0),
        (3, 9.0, 3.0),
    ]
    assert apple[1]["titles"] == [{"language": "und", "title": "<script>x</script> --> & gnp"}]
    master = (folder / "master.m3u8").read_text()
    (named,) = re.findall(r"#EXT-X-SESSION-DATA:(.*)", master)
    assert named == 'DATA-ID="com.apple.hls.chapters",URI="chapters.json"'
    report = json.loads((folder / "report.json").read_text())
    assert {"output": "chapters", "reason": "3 in the film of 4: the others lie outside of it"} in (
        report["beside"]
    )


def test_chapters_alone_and_a_film_without_any(tmp_path: Path, ffmpeg: str, tools: Tools) -> None:
    clip = make(tmp_path / "s.mkv", ffmpeg=ffmpeg, rate=Fraction(25), seconds=1, video=MEZZANINE)
    done = telecine("plan", clip.path, "--json", "--output", "chapters", "--output", "mp3")
    found = json.loads(done.out)["plan"]
    assert (found["chapters"], found["renditions"]) == ([], [])
    assert found["warnings"] == ["no chapters: the file names none"]
    assert found["steps"][0]["id"] == "audio"
