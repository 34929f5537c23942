"""What other programs say about an output folder, against what people wrote down of the source.

Nothing of telecine is imported. The output is read with the PyPI package `m3u8`, an FFmpeg older
than the encoder, mediainfo and a reader of timing boxes; the source is decoded with whichever
FFmpeg is given. What is right stands in tests/media/expected.tsv.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tests.corpus.comparing import (
    COMPARED_S,
    orientation_scores,
    picture_lag,
    sound_lag,
    strange_pictures,
    turn,
)
from tests.corpus.expected import Expected
from tests.corpus.reading import (
    SOUND_HZ,
    Frames,
    Sound,
    Track,
    Variant,
    decode_frames,
    decode_sound,
    join,
    read_master,
    run_program,
)

OFFSET_LIMIT_S = 0.040  # issue: A/V offset beyond 40 ms off the expected fails
SOURCE_OFFSET_SLACK_S = 0.050  # a decoder may swallow one AAC frame of priming (46 ms at 22 kHz)
ASPECT_LIMIT = 0.005
TIME_SLACK_S = 0.0021  # times in whole milliseconds, rounded twice
STRANGE_SHARE = 0.02  # of the pictures: a fade or a flash may fall between two of them
LEAD_LIMIT_S = 0.1  # sound may precede or outlast the picture this much without moving its ends


@dataclass(slots=True)
class Findings:
    """What is wrong (empty: nothing), and the figures that were measured on the way."""

    wrong: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)


@dataclass(frozen=True, slots=True)
class Programs:
    ffmpeg: str = "ffmpeg"  # reads the output: not the one that made it
    ffprobe: str = "ffprobe"
    mediainfo: str = "mediainfo"
    source_ffmpeg: str = "ffmpeg"  # reads the source: one that can decode it


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged, by whom, and what was found so far."""

    source: Path
    expected: Expected
    programs: Programs
    found: Findings

    def check(self, right: bool, what: str) -> None:
        self.found.check(right, what)


@dataclass(frozen=True, slots=True)
class _Rung:
    track: Track
    frames: Frames

    @property
    def step_s(self) -> float:
        timing = self.track.timing
        return (timing.end_s - timing.start_s) / len(timing.times_s)


def examine(folder: Path, source: Path, expected: Expected, programs: Programs) -> Findings:
    """Everything that is wrong with the ladder in `folder`, made from `source`."""
    case = _Case(source, expected, programs, Findings())
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _examine(folder, Path(scratch), case)
        except (OSError, ValueError, struct.error, subprocess.TimeoutExpired) as error:
            case.found.wrong.append(f"output cannot be read: {error}")
    return case.found


def _examine(folder: Path, scratch: Path, case: _Case) -> None:
    expected = case.expected
    master = read_master(folder / "master.m3u8")
    audio = heard = None
    if master.sound_uri is not None:
        audio = join(folder, master.sound_uri, scratch / "sound.mp4")
        heard = _check_sound(audio, case)
    case.check((audio is not None) == expected.audio, f"sound: {audio is not None}")
    _check_mpd(folder / "manifest.mpd", case)
    if expected.kind == "audio":
        case.check(not master.pictures, "a picture where there is only sound")
        if audio is not None:
            _check_duration_of_sound(audio, case)
        return
    if not master.pictures:
        case.check(False, "no rung")
        return
    sizes = [min(one.size) for one in master.pictures]
    case.found.figures["rungs"] = "/".join(str(side) for side in reversed(sizes))
    rungs: list[_Rung] = []
    for number, variant in enumerate(master.pictures):
        track = join(folder, variant.uri, scratch / f"rung{number}.mp4")
        rungs.append(_Rung(track, decode_frames(case.programs.ffmpeg, track.file, "v:0")))
        _check_rung(variant, rungs[-1], case)
    _check_duration([rung.track for rung in rungs], case)
    top = rungs[-1]
    _check_orientation(top.frames, case)
    seen = decode_frames(case.programs.source_ffmpeg, case.source, expected.stream, COMPARED_S + 1)
    if not len(seen.times_s):
        case.check(False, "oracle: the source cannot be decoded to compare it")
        return
    _check_rate(master.pictures[-1], top.track, seen, case)
    source_sound = None
    if audio is not None:
        source_sound = decode_sound(case.programs.source_ffmpeg, case.source, "a:0", COMPARED_S + 1)
    origin_s = float(seen.times_s[0])
    if source_sound is not None:
        _check_own_offset(source_sound.start_s - origin_s, case)
        origin_s = min(origin_s, source_sound.start_s)
        source_sound = replace(source_sound, start_s=source_sound.start_s - origin_s)
    upright = turn(seen.pictures, expected.rotation, expected.mirrored)
    source = Frames(seen.times_s - origin_s, upright, "")
    lag = picture_lag(source, top.frames, top.step_s)
    for rung in rungs:
        _check_pictures(source, rung, lag, case)
    if audio is not None and heard is not None and source_sound is not None:
        _check_length_of_sound(source_sound, heard, top.track, case)
        _check_offset(source, source_sound, top, audio, heard, lag, case)


def _check_sound(track: Track, case: _Case) -> Sound | None:
    heard = decode_sound(case.programs.ffmpeg, track.file, "a:0")
    if heard is None:
        case.check(False, "sound cannot be decoded")
        return None
    case.check(not heard.complaints, f"sound: {heard.complaints.splitlines()[:1]}")
    decoded_s, told_s = len(heard.samples) / SOUND_HZ, track.timing.end_s - track.timing.start_s
    case.check(abs(decoded_s - told_s) < 0.05, f"sound: {decoded_s:.3f} of {told_s:.3f} s decode")
    case.check(abs(track.extinf_s - told_s) < 0.05, f"sound: EXTINF {track.extinf_s:.3f} s")
    return heard


def _check_duration_of_sound(audio: Track, case: _Case) -> None:
    length = audio.timing.end_s - min(audio.timing.start_s, 0.0)
    case.found.figures["duration_s"] = f"{length:.3f}"
    right = case.expected.durations_s
    off = min(abs(length - one) for one in right)
    case.check(off <= 0.06, f"duration {length:.3f} s, expected {right}")


def _check_rung(variant: Variant, rung: _Rung, case: _Case) -> None:
    """Decodes whole; size, shape and stated resolution agree with the expected display size."""
    name, timing, frames = rung.track.uri, rung.track.timing, rung.frames
    expected = case.expected
    case.check(not frames.complaints, f"{name}: {frames.complaints.splitlines()[:1]}")
    count = len(timing.times_s)
    case.check(len(frames.times_s) == count, f"{name}: {len(frames.times_s)} of {count} decode")
    width, height = _display_size(case.programs, rung.track.file)
    agree = (width, height) == variant.size
    case.check(agree, f"{name}: RESOLUTION {variant.size}, {width}x{height} shown")
    shape = (width / height) / (expected.width / expected.height)
    allowed = ASPECT_LIMIT + 1 / width + 1 / height
    case.check(abs(shape - 1) <= allowed, f"{name}: aspect of {width}x{height} off by {shape:.4f}")
    grown = width > expected.width or height > expected.height
    case.check(not grown, f"{name}: {width}x{height} enlarges {expected.width}x{expected.height}")
    told_s = timing.end_s - timing.start_s
    off_s = abs(rung.track.extinf_s - told_s)
    case.check(off_s <= rung.step_s, f"{name}: EXTINF {rung.track.extinf_s:.3f} s")


def _display_size(programs: Programs, file: Path) -> tuple[int, int]:
    """Size in square pixels where FFmpeg and mediainfo agree that pixels are square and upright."""
    text, _ = run_program([programs.mediainfo, "--Output=JSON", file])
    tracks = json.loads(text)["media"]["track"]
    info = next(one for one in tracks if one["@type"] == "Video")
    if float(info.get("PixelAspectRatio", 1)) != 1 or float(info.get("Rotation") or 0) != 0:
        raise ValueError(f"mediainfo: pixels {info['PixelAspectRatio']}, turned {info['Rotation']}")
    text, _ = run_program([programs.ffprobe, "-v", "error", "-show_streams", "-of", "json", file])
    stream = json.loads(text)["streams"][0]
    square = stream.get("sample_aspect_ratio", "1:1") == "1:1"
    turned = any("rotation" in one for one in stream.get("side_data_list", []))
    size = int(stream["width"]), int(stream["height"])
    if not square or turned or size != (int(info["Width"]), int(info["Height"])):
        raise ValueError(f"ffprobe: {size}, pixels square: {square}, turned: {turned}")
    return size


def _check_rate(variant: Variant, top: Track, seen: Frames, case: _Case) -> None:
    """The rate is one of the right ones, and frames stand that far apart or at the source's own
    times (a copied rung)."""
    rate, rates = variant.rate, case.expected.rates
    right = any(low * 0.9995 <= rate <= high * 1.0005 for low, high in rates)
    case.check(right, f"rate {rate:.3f}, expected {rates}")
    times = np.array(top.timing.times_s)
    both = min(len(times), len(seen.times_s))
    own = float(np.ptp(times[:both] - seen.times_s[:both])) <= TIME_SLACK_S
    case.found.figures["rate"] = f"{rate:.3f}{' own times' if own else ''}"
    if not own and len(times) > 1:
        gaps = np.diff(times)
        even = float(np.ptp(gaps)) <= TIME_SLACK_S and abs(gaps.mean() * rate - 1) < 0.002
        case.check(even, f"frames {gaps.min():.5f} to {gaps.max():.5f} s apart, rate {rate:.3f}")


def _check_duration(tracks: Sequence[Track], case: _Case) -> None:
    expected = case.expected
    top = tracks[-1].timing
    frame_s = max(1 / max(high for _, high in expected.rates), top.end_s / len(top.times_s))
    length = top.end_s - min(top.start_s, 0.0)
    case.found.figures["duration_s"] = f"{length:.3f}"
    lead = max(0.0, -(expected.offset_s or 0.0))
    right = list(expected.durations_s)
    if lead <= LEAD_LIMIT_S:
        right += [one + lead for one in expected.durations_s]
    off = min(abs(length - one) for one in right)
    case.check(off <= frame_s + 0.001, f"duration {length:.3f} s, expected {expected.durations_s}")
    for track in tracks:
        apart = abs(track.timing.end_s - top.end_s)
        case.check(apart <= 0.001, f"{track.uri}: ends {apart:.3f} s apart from the top rung")


def _check_orientation(frames: Frames, case: _Case) -> None:
    expected = case.expected
    if expected.grid_at_s is None or not len(frames.times_s):
        return
    upright = np.array(expected.grid, np.float64).reshape(4, 4)
    lead = max(0.0, -(expected.offset_s or 0.0))
    best, other = 0.0, 0.0
    for at in (expected.grid_at_s, expected.grid_at_s + lead):
        index = int(np.searchsorted(frames.times_s, at + 0.001, side="right")) - 1
        picture = frames.pictures[max(index, 0)]
        score, rival = orientation_scores(picture, upright)
        if score > best:
            best, other = score, rival
    case.found.figures["upright"] = f"{best:.3f}/{other:.3f}"
    case.check(best > 0.93 and best > other, f"orientation: {best:.3f} upright, {other:.3f} else")


def _check_own_offset(own_s: float, case: _Case) -> None:
    """The source's own offset as its decoder gives it is the expected one: a decoder that ignores
    an edit list would make a wrong measure."""
    right_s = case.expected.offset_s
    agree = right_s is not None and abs(own_s - right_s) <= SOURCE_OFFSET_SLACK_S
    case.check(agree, f"oracle: reads {own_s:.3f} s in the source, not {right_s}")


def _check_pictures(source: Frames, rung: _Rung, lag: float | None, case: _Case) -> None:
    """Each picture is the source's of its time. Where the lag cannot be measured they hardly move,
    and either way of starting shows the right ones."""
    lags = _lags(lag, float(source.times_s[0]), rung.track.timing.start_s)
    counts = [strange_pictures(source, rung.frames, one, rung.step_s) for one in lags]
    strange, compared = min(counts)
    limit = STRANGE_SHARE * compared
    case.check(strange <= limit, f"{rung.track.uri}: {strange} of {compared} pictures are strange")


def _check_offset(
    source: Frames,
    source_sound: Sound,
    top: _Rung,
    audio: Track,
    heard: Sound,
    lag: float | None,
    case: _Case,
) -> None:
    """Sound against picture, by what is seen and heard in the output and in the source."""
    sound = sound_lag(source_sound, heard)
    slow = max(high for _, high in case.expected.rates) < 23
    limit_s = OFFSET_LIMIT_S + (top.step_s / 2 if slow else 0)
    pictures = _lags(lag, float(source.times_s[0]), top.track.timing.start_s)
    sounds = _lags(sound, source_sound.start_s, audio.timing.start_s)
    off = min((heard - seen for heard in sounds for seen in pictures), key=abs)
    known = "/".join("told" if one is None else "seen" for one in (sound, lag))
    case.found.figures["av_ms"] = f"{off * 1000:+.0f} {known}"
    case.check(abs(off) <= limit_s, f"sound is {off * 1000:+.0f} ms off the picture ({known})")


def _lags(measured: float | None, source_start_s: float, start_s: float) -> list[float]:
    """The lag as seen or heard. Where that cannot be told (a still picture, silence): what the
    track's first time says, or none if silence or a held picture fills the time in front of it."""
    if measured is not None:
        return [measured]
    filled = start_s < 0.001 < source_start_s
    return [start_s - source_start_s] + ([0.0] if filled else [])


def _check_length_of_sound(source: Sound, output: Sound, top: Track, case: _Case) -> None:
    """None of the source's sound is lost, and nothing but silence up to the end of the picture is
    added. A source is decoded to COMPARED_S and a second more; the rest is not looked at."""
    known_s = min(source.end_s, COMPARED_S)
    case.check(
        output.end_s >= known_s - 0.1, f"sound ends at {output.end_s:.3f} s, {known_s:.3f} of it"
    )
    if source.end_s < COMPARED_S:
        most_s = max(source.end_s, top.timing.end_s) + 0.1
        case.check(output.end_s <= most_s, f"sound until {output.end_s:.3f} s")


def _check_mpd(file: Path, case: _Case) -> None:
    expected = case.expected
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        case.check(False, f"manifest.mpd: {error}")
        return
    stated = root.get("mediaPresentationDuration", "")
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", stated)
    if match is None:
        case.check(False, f"manifest.mpd: mediaPresentationDuration {stated!r}")
        return
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    length = hours * 3600 + minutes * 60 + seconds
    slack = 0.12 + (1 / min(low for low, _ in expected.rates) if expected.rates else 0)
    off = min(abs(length - one) for one in expected.durations_s)
    case.check(off <= slack, f"manifest.mpd: {length:.3f} s, expected {expected.duration_s}")
