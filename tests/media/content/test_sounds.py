"""Tracks of sound in real films: tones of different pitch tell which track and which channel of the
source is heard where, and a program of our own for BS.1770 how loud it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import m3u8
import numpy as np
import pytest
from tests.media.bs1770 import (
    RATE,
    Samples,
    decoded,
    dominant_hz,
    integrated_lufs,
    true_peak_dbtp,
)
from tests.media.hlsdir import read_rendition, read_timing
from tests.media.running import telecine

SECONDS = 13  # three segments, the last one short
FRAME_S = 1024 / RATE
# Front left and right, centre, LFE, back left and right.
SURROUND_HZ = (300, 400, 500, 60, 700, 800)
GERMAN_HZ, FRENCH_HZ, COMMENTARY_HZ, DESCRIPTION_HZ = 1000, 1500, 2000, 2500
FRENCH_FROM_S, FRENCH_TO_S = 3, 9

Make = Callable[[list[str]], Path]


def surround(seconds: float = SECONDS) -> list[str]:
    tones = "|".join(f"0.2*sin(2*PI*{hz}*t)" for hz in SURROUND_HZ)
    return ["-f", "lavfi", "-i", f"aevalsrc={tones}:c=5.1:s=48000:d={seconds}"]


def tone(hz: int, seconds: float = SECONDS, *, start_s: float = 0) -> list[str]:
    early = ["-itsoffset", str(start_s)] if start_s else []
    return [*early, "-f", "lavfi", "-i", f"sine={hz}:r=48000:d={seconds}"]


def film(ffmpeg: str, path: Path, sounds: Sequence[list[str]], *flags: str) -> Path:
    picture = ["-f", "lavfi", "-i", f"testsrc2=s=320x180:r=25:d={SECONDS}"]
    inputs = [word for sound in (picture, *sounds) for word in sound]
    maps = [word for n in range(len(sounds) + 1) for word in ("-map", str(n))]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "0"]
    subprocess.run([ffmpeg, "-v", "error", *inputs, *maps, *video, *flags, path], check=True)
    return path


def made(source: Path, folder: Path, *words: str) -> dict[str, Any]:
    """The report of a run that succeeded: `verify` passed."""
    done = telecine("transcode", source, "-o", folder, "--rung", "180", *words, timeout_s=300)
    assert done.code == 0, done.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def tracks(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracks")
    source = film(
        ffmpeg,
        folder / "film.mkv",
        [
            surround(),
            tone(GERMAN_HZ),
            tone(FRENCH_HZ, FRENCH_TO_S - FRENCH_FROM_S, start_s=FRENCH_FROM_S),
            tone(COMMENTARY_HZ, SECONDS + 5),
            tone(DESCRIPTION_HZ),
        ],
        *("-c:a:0", "flac", "-metadata:s:a:0", "language=eng", "-metadata:s:a:0", "title=Original"),
        *("-c:a:1", "aac", "-ac:a:1", "2", "-metadata:s:a:1", "language=ger"),
        *("-c:a:2", "libopus", "-ac:a:2", "2", "-metadata:s:a:2", "language=fre"),
        *("-c:a:3", "aac", "-ac:a:3", "2", "-metadata:s:a:3", "language=eng"),
        *("-c:a:4", "ac3", "-ac:a:4", "2", "-metadata:s:a:4", "language=ger"),
        *("-disposition:a:0", "default", "-disposition:a:3", "comment"),
        *("-disposition:a:4", "visual_impaired"),
    )
    made(source, folder / "out")
    return folder / "out"


def heard(ffmpeg: str, folder: Path, uri: str, channels: int, scratch: Path) -> Samples:
    whole = scratch / "whole.mp4"
    whole.write_bytes(read_rendition(folder / uri).joined)
    return decoded(ffmpeg, whole, channels)


def members(folder: Path, group: str) -> dict[str, Any]:
    """The renditions of a group of sound, by NAME."""
    master = m3u8.load(str(folder / "master.m3u8"))
    return {str(media.name): media for media in master.media if media.group_id == group}


# --- which is which ------------------------------------------------------------------------------


def test_every_track_is_heard_under_its_language_and_name(
    ffmpeg: str, tracks: Path, tmp_path: Path
) -> None:
    group = members(tracks, "audio")
    said = {
        name: (media.language, media.default, media.characteristics)
        for name, media in group.items()
    }
    assert said == {
        "Original": ("en", "YES", None),
        "German": ("de", "NO", None),
        "French": ("fr", "NO", None),
        "English (commentary)": ("en", "NO", None),
        "German (audio description)": ("de", "NO", "public.accessibility.describes-video"),
    }
    pitches = {
        "German": GERMAN_HZ,
        "French": FRENCH_HZ,
        "English (commentary)": COMMENTARY_HZ,
        "German (audio description)": DESCRIPTION_HZ,
    }
    for name, hz in pitches.items():
        left, right = heard(ffmpeg, tracks, group[name].uri, 2, tmp_path)
        assert dominant_hz(left) == pytest.approx(hz, abs=1), name
        assert dominant_hz(right) == pytest.approx(hz, abs=1), name


def test_each_channel_of_5_1_is_in_its_place(ffmpeg: str, tracks: Path, tmp_path: Path) -> None:
    media = members(tracks, "surround")["Original"]
    assert (media.channels, media.default) == ("6", "YES")
    channels = heard(ffmpeg, tracks, media.uri, 6, tmp_path)
    assert [round(dominant_hz(channel)) for channel in channels] == list(SURROUND_HZ)


def test_stereo_of_5_1_has_left_and_right_on_their_sides(
    ffmpeg: str, tracks: Path, tmp_path: Path
) -> None:
    left, right = heard(ffmpeg, tracks, members(tracks, "audio")["Original"].uri, 2, tmp_path)
    assert (round(dominant_hz(left)), round(dominant_hz(right))) == (300, 400)


def test_groups_differ_in_uri_and_channels_alone(tracks: Path) -> None:
    stereo, both = members(tracks, "audio"), members(tracks, "surround")
    assert list(stereo) == list(both)
    for name, media in stereo.items():
        other = both[name]
        assert (media.language, media.default, media.autoselect, media.characteristics) == (
            *(other.language, other.default, other.autoselect, other.characteristics),
        )
        assert (media.uri == other.uri) == (name != "Original")


def test_stereo_of_a_loud_5_1_is_not_clipped(ffmpeg: str, tmp_path: Path) -> None:
    """Front, centre and back add up to 0.9 · (1 + 0.71 + 0.71), twice full scale."""
    loud = ["-f", "lavfi", "-i"]
    same = "|".join(["0.9*sin(2*PI*300*t)"] * 6)
    loud += [f"aevalsrc={same}:c=5.1:s=48000:d={SECONDS}"]
    source = film(ffmpeg, tmp_path / "film.mkv", [loud], "-c:a", "flac")
    made(source, tmp_path / "out", "--output", "hls", "--output", "mp3")
    for samples in (
        heard(ffmpeg, tmp_path / "out", "audio/aac/index.m3u8", 2, tmp_path),
        decoded(ffmpeg, tmp_path / "out" / "audio.mp3", 2),
    ):
        assert true_peak_dbtp(samples[:, RATE:-RATE]) <= 0
        # As loud as one that only just fits: a sine of -1 dB on both sides.
        assert integrated_lufs(samples) == pytest.approx(-1.7, abs=0.7)


# --- when ----------------------------------------------------------------------------------------


def test_all_tracks_begin_and_end_with_the_picture(tracks: Path) -> None:
    """Apple 8.3: one content, one duration; whatever lengths the source's tracks have."""
    picture = read_timing(read_rendition(tracks / "video/180p/index.m3u8"))
    end_s = max(picture.ends) / picture.timescale
    assert end_s == pytest.approx(SECONDS, abs=0.001)
    uris = {m.uri for group in ("audio", "surround") for m in members(tracks, group).values()}
    assert len(uris) == 6
    for uri in uris:
        timing = read_timing(read_rendition(tracks / uri))
        assert min(timing.shown) / timing.timescale == pytest.approx(0, abs=FRAME_S)
        assert max(timing.ends) / timing.timescale == pytest.approx(end_s, abs=FRAME_S), uri


def test_a_track_that_comes_late_and_ends_early_is_heard_when_it_is_in_the_source(
    ffmpeg: str, tracks: Path, tmp_path: Path
) -> None:
    samples = heard(ffmpeg, tracks, members(tracks, "audio")["French"].uri, 2, tmp_path)[0]
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    assert loud[0] / RATE == pytest.approx(FRENCH_FROM_S, abs=0.04)
    assert loud[-1] / RATE == pytest.approx(FRENCH_TO_S, abs=0.04)


# --- what cannot be copied, decoded, or is many -------------------------------------------------


def test_5_1_in_aac_is_copied(ffmpeg: str, tmp_path: Path) -> None:
    source = film(ffmpeg, tmp_path / "film.mp4", [surround()], "-c:a", "aac", "-b:a", "384k")
    report = made(source, tmp_path / "out")
    modes = {rung["name"]: rung["mode"] for rung in report["rungs"]}
    assert (modes["aac"], modes["surround"]) == ("encode", "copy")
    channels = heard(ffmpeg, tmp_path / "out", "audio/surround/index.m3u8", 6, tmp_path)
    assert [round(dominant_hz(channel)) for channel in channels] == list(SURROUND_HZ)


@pytest.mark.thorough
def test_7_1_and_5_1_side_become_5_1(ffmpeg: str, tmp_path: Path) -> None:
    """Sides stand at the back of 5.1, and the back of 7.1 with them (ITU-R BS.775)."""
    tones = "|".join(f"0.1*sin(2*PI*{hz}*t)" for hz in (*SURROUND_HZ[:4], 700, 800, 900, 1000))
    wide = ["-f", "lavfi", "-i", f"aevalsrc={tones}:c=7.1:s=48000:d={SECONDS}"]
    sides = [*surround()]
    sides[-1] = sides[-1].replace("c=5.1", "c=5.1(side)")
    source = film(ffmpeg, tmp_path / "film.mkv", [wide, sides], "-c:a", "flac")
    made(source, tmp_path / "out")
    from_wide = heard(ffmpeg, tmp_path / "out", "audio/surround/index.m3u8", 6, tmp_path)
    assert [round(dominant_hz(channel)) for channel in from_wide[:4]] == list(SURROUND_HZ[:4])
    assert {round(dominant_hz(channel)) for channel in from_wide[4:]} <= {700, 800, 900, 1000}
    from_sides = heard(ffmpeg, tmp_path / "out", "audio/surround-2/index.m3u8", 6, tmp_path)
    assert [round(dominant_hz(channel)) for channel in from_sides] == list(SURROUND_HZ)


def test_a_track_that_does_not_decode_is_left_out_and_said(ffmpeg: str, tmp_path: Path) -> None:
    source = film(
        ffmpeg,
        tmp_path / "film.mkv",
        [tone(440), tone(GERMAN_HZ)],
        *("-c:a", "ac3", "-bsf:a:1", "noise=amount=1", "-metadata:s:a:1", "language=ger"),
    )
    report = made(source, tmp_path / "out")
    assert [sound["name"] for sound in report["sounds"]] == ["aac"]
    assert "audio stream 2 (ac3) does not decode" in report["warnings"]


@pytest.mark.thorough
def test_a_track_that_breaks_in_the_middle_goes_on_in_silence(ffmpeg: str, tmp_path: Path) -> None:
    whole = film(
        ffmpeg, tmp_path / "whole.mkv", [tone(440), tone(GERMAN_HZ)], "-c:a", "ac3", "-ac", "2"
    )
    source = tmp_path / "film.mkv"
    broken = r"noise=amount='if(gt(n\,150)\,1\,0)'"  # from 4.8 s on
    copied = ["-i", str(whole), "-map", "0", "-c", "copy", "-bsf:a:1", broken, str(source)]
    subprocess.run([ffmpeg, "-v", "error", *copied], check=True)
    report = made(source, tmp_path / "out")
    assert [sound["name"] for sound in report["sounds"]] == ["aac", "aac-2"]
    assert any(line.startswith("sound: damaged") for line in report["warnings"])
    samples = heard(ffmpeg, tmp_path / "out", "audio/aac-2/index.m3u8", 2, tmp_path)[0]
    assert samples.size / RATE == pytest.approx(SECONDS, abs=2 * FRAME_S)
    assert np.abs(samples[: 4 * RATE]).max() > 0.05


@pytest.mark.thorough
def test_eight_languages_are_eight_members(ffmpeg: str, tmp_path: Path) -> None:
    codes = ("eng", "deu", "fra", "spa", "ita", "jpn", "por", "nld")
    named = [w for n, code in enumerate(codes) for w in (f"-metadata:s:a:{n}", f"language={code}")]
    sounds = [tone(500 + 100 * n) for n in range(len(codes))]
    source = film(ffmpeg, tmp_path / "film.mp4", sounds, "-c:a", "aac", "-ac", "2", *named)
    made(source, tmp_path / "out")
    group = members(tmp_path / "out", "audio")
    assert [media.language for media in group.values()] == [
        *("en", "de", "fr", "es", "it", "ja", "pt", "nl"),
    ]
    for n, media in enumerate(group.values()):
        samples = heard(ffmpeg, tmp_path / "out", media.uri, 2, tmp_path)
        assert dominant_hz(samples[0]) == pytest.approx(500 + 100 * n, abs=1)


def test_sound_without_a_picture_has_its_tracks_too(ffmpeg: str, tmp_path: Path) -> None:
    source = tmp_path / "sound.mka"
    command = [ffmpeg, "-v", "error", *surround(), *tone(GERMAN_HZ, SECONDS - 2), "-map", "0"]
    named = ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"]
    subprocess.run([*command, "-map", "1", "-c:a", "flac", *named, source], check=True)
    made(source, tmp_path / "out", "--output", "hls")
    master = m3u8.load(str(tmp_path / "out" / "master.m3u8"))
    assert [(v.uri, v.stream_info.audio) for v in master.playlists] == [
        ("audio/aac/index.m3u8", "audio"),
        ("audio/surround/index.m3u8", "surround"),
    ]
    assert [media.language for media in master.media] == ["en", "de", "en", "de"]
    ends_s = []
    for media in master.media:
        timing = read_timing(read_rendition(tmp_path / "out" / str(media.uri)))
        ends_s.append(max(timing.ends) / timing.timescale)
    assert ends_s == pytest.approx([SECONDS] * 4, abs=2 * FRAME_S)


# --- loudness ------------------------------------------------------------------------------------


def sines(*parts: tuple[float, float], channels: int = 2) -> Samples:
    """1 kHz at (dBFS, seconds), the same in each channel."""
    pieces = []
    for level, seconds in parts:
        t = np.arange(int(seconds * RATE)) / RATE
        pieces.append(10 ** (level / 20) * np.sin(2 * np.pi * 1000 * t))
    return np.tile(np.concatenate(pieces), (channels, 1))


@pytest.mark.thorough
def test_our_program_measures_what_the_ebu_says() -> None:
    """EBU Tech 3341, table 1: cases 1 to 6, within its 0.1 LU."""
    assert integrated_lufs(sines((-23, 20))) == pytest.approx(-23, abs=0.1)
    assert integrated_lufs(sines((-33, 20))) == pytest.approx(-33, abs=0.1)
    quiet_ends = sines((-36, 10), (-23, 60), (-36, 10))
    assert integrated_lufs(quiet_ends) == pytest.approx(-23, abs=0.1)
    silent_ends = sines((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10))
    assert integrated_lufs(silent_ends) == pytest.approx(-23, abs=0.1)
    steps = sines((-26, 20), (-20, 20.1), (-26, 20))
    assert integrated_lufs(steps) == pytest.approx(-23, abs=0.1)
    five = np.concatenate([sines((level, 20), channels=1) for level in (-28, -28, -24, -30, -30)])
    assert integrated_lufs(five) == pytest.approx(-23, abs=0.1)
    # Case 15 of the same table: a quarter of the rate, a sample 45° off each peak, is -6 dBTP.
    n = np.arange(RATE)
    between = 0.5 * np.sin(np.pi / 2 * n + np.pi / 4)
    assert true_peak_dbtp(between[np.newaxis]) == pytest.approx(-6, abs=0.2)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {sound["name"]: sound for sound in report["sounds"]}


def test_the_report_has_the_loudness_of_every_sound(
    ffmpeg: str, tracks: Path, tmp_path: Path
) -> None:
    """Copied or not; FFmpeg says a tenth of an LU."""
    report = json.loads((tracks / "report.json").read_text())
    modes = {rung["name"]: rung["mode"] for rung in report["rungs"]}
    assert modes["aac-2"] == "copy"
    sounds = by_name(report)
    assert list(sounds) == [*("aac", "aac-2", "aac-3", "aac-4", "aac-5", "surround")]
    for name, sound in sounds.items():
        uri = f"audio/{name}/index.m3u8"
        samples = heard(ffmpeg, tracks, uri, sound["channels"], tmp_path)
        said = sound["loudness"]
        assert said["integrated_lufs"] == pytest.approx(integrated_lufs(samples), abs=0.15), name
        assert said["true_peak_dbtp"] == pytest.approx(true_peak_dbtp(samples), abs=0.3), name
        assert sound["gain_db"] is None


# Noise whose level goes up and down by 20 dB, with a click every second: loud parts come near to
# full scale when they are raised, as films do.
_LIVELY = (
    "aevalsrc='(0.02+0.1*pow(sin(PI*t/6)\\,8))*(2*random({a})-1)+0.7*lt(mod(t\\,1)\\,0.002)'"
    "|'(0.02+0.1*pow(sin(PI*t/6)\\,8))*(2*random({b})-1)+0.7*lt(mod(t\\,1)\\,0.002)'"
)


def lively(channels: int) -> list[str]:
    one = "(0.02+0.1*pow(sin(PI*t/6)\\,8))*(2*random({n})-1)+0.7*lt(mod(t\\,1)\\,0.002)"
    parts = "|".join(one.format(n=n) for n in range(channels))
    layout = "stereo" if channels == 2 else "5.1"
    return ["-f", "lavfi", "-i", f"aevalsrc={parts}:c={layout}:s=48000:d={SECONDS}"]


@pytest.mark.parametrize("target", [-23, pytest.param(-16, marks=pytest.mark.thorough)])
def test_all_sound_is_brought_to_the_loudness_that_was_asked_for(
    ffmpeg: str, tmp_path: Path, target: int
) -> None:
    source = film(ffmpeg, tmp_path / "film.mkv", [lively(6), tone(GERMAN_HZ)], "-c:a", "flac")
    folder = tmp_path / "out"
    words = ("--output", "hls", "--output", "mp3", "--output", "flac")
    report = made(source, folder, "--loudness", str(target), *words)
    sounds = by_name(report)
    assert list(sounds) == ["aac", "aac-2", "surround", "audio.mp3", "audio.flac"]
    assert [w for w in report["warnings"] if "LUFS" in w] == []
    for name, sound in sounds.items():
        if name.startswith("audio."):
            samples = decoded(ffmpeg, folder / name, 6 if name.endswith("flac") else 2)
        else:
            uri = f"audio/{name}/index.m3u8"
            samples = heard(ffmpeg, folder, uri, sound["channels"], tmp_path)
        assert integrated_lufs(samples) == pytest.approx(target, abs=0.5), name
        # What was measured on the way is what FFmpeg's filter of four times the rate sees.
        assert true_peak_dbtp(samples) <= -1 + 0.2, name
        assert sound["loudness"]["true_peak_dbtp"] <= -1
        assert sound["gain_db"] is not None
        assert sound["before"]["integrated_lufs"] != pytest.approx(target, abs=0.5)


@pytest.mark.thorough
def test_a_film_of_the_corpus_is_brought_to_its_loudness(
    ffmpeg: str, corpus: Path, tmp_path: Path
) -> None:
    """Big Buck Bunny in 5.1, raised by 6 dB into the limiter."""
    source = corpus / "video" / "bbb" / "bbb_1080p24_30s.mp4"
    folder = tmp_path / "out"
    sounds = by_name(made(source, folder, "--loudness", "-16"))
    for name, channels in (("aac", 2), ("surround", 6)):
        samples = heard(ffmpeg, folder, f"audio/{name}/index.m3u8", channels, tmp_path)
        assert integrated_lufs(samples) == pytest.approx(-16, abs=0.5)
        assert true_peak_dbtp(samples) <= -1 + 0.2
        assert sounds[name]["loudness"]["true_peak_dbtp"] <= -1


def test_silence_stays_silence(ffmpeg: str, tmp_path: Path) -> None:
    silence = ["-f", "lavfi", "-i", f"anullsrc=r=48000:cl=stereo:d={SECONDS}"]
    source = film(ffmpeg, tmp_path / "film.mp4", [silence], "-c:a", "aac")
    report = made(source, tmp_path / "out", "--loudness", "-16")
    (sound,) = report["sounds"]
    assert sound["loudness"]["integrated_lufs"] is None
    assert sound["gain_db"] == 0
    assert any(line.startswith("aac: silence, wanted -16 LUFS") for line in report["warnings"])
