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
from tests.corpus.comparing import COMPARED_S, orientation_scores, picture_lag, sound_lag, turn
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
ASPECT_LIMIT = 0.005
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


def examine(folder: Path, source: Path, expected: Expected, programs: Programs) -> Findings:
    """Everything that is wrong with the ladder in `folder`, made from `source`."""
    found = Findings()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _examine(folder, source, expected, programs, Path(scratch), found)
        except (OSError, ValueError, struct.error, subprocess.TimeoutExpired) as error:
            found.wrong.append(f"output cannot be read: {error}")
    return found


def _examine(
    folder: Path,
    source: Path,
    expected: Expected,
    programs: Programs,
    scratch: Path,
    found: Findings,
) -> None:
    master = read_master(folder / "master.m3u8")
    audio = heard = None
    if master.sound_uri is not None:
        audio = join(folder, master.sound_uri, scratch / "sound.mp4")
        heard = _check_sound(audio, programs, found)
    found.check((audio is not None) == expected.audio, f"sound: {audio is not None}")
    _check_mpd(folder / "manifest.mpd", expected, found)
    if expected.kind == "audio":
        found.check(not master.pictures, "a picture where there is only sound")
        if audio is not None:
            length = audio.timing.end_s - min(audio.timing.start_s, 0.0)
            found.figures["duration_s"] = f"{length:.3f}"
            off = abs(length - expected.duration_s)
            found.check(off <= 0.06, f"duration {length:.3f} s, expected {expected.duration_s}")
        return
    if not master.pictures:
        found.wrong.append("no rung")
        return
    sizes = [min(one.size) for one in master.pictures]
    found.figures["rungs"] = "/".join(str(side) for side in reversed(sizes))
    tracks: list[Track] = []
    for number, variant in enumerate(master.pictures):
        tracks.append(join(folder, variant.uri, scratch / f"rung{number}.mp4"))
        frames = decode_frames(programs.ffmpeg, tracks[-1].file, "v:0")
        _check_rung(variant, tracks[-1], frames, expected, programs, found)
    seen = decode_frames(programs.source_ffmpeg, source, _source_stream(expected), COMPARED_S + 1)
    _check_rate(master.pictures[-1], tracks[-1], seen, expected, found)
    _check_duration(tracks, expected, found)
    _check_orientation(frames, expected, found)
    if audio is not None and heard is not None:
        _check_offset(source, seen, frames, tracks[-1], audio, heard, expected, programs, found)


def _source_stream(expected: Expected) -> str:
    """FFmpeg's own choice is the largest; a filter graph has to be told."""
    return "v:1" if "two video streams" in expected.note else "v:0"


def _check_sound(track: Track, programs: Programs, found: Findings) -> Sound | None:
    heard = decode_sound(programs.ffmpeg, track.file, "a:0")
    if heard is None:
        found.wrong.append("sound cannot be decoded")
        return None
    found.check(not heard.complaints, f"sound: {heard.complaints.splitlines()[:1]}")
    decoded_s, told_s = len(heard.samples) / SOUND_HZ, track.timing.end_s - track.timing.start_s
    found.check(abs(decoded_s - told_s) < 0.05, f"sound: {decoded_s:.3f} of {told_s:.3f} s decode")
    found.check(abs(track.extinf_s - told_s) < 0.05, f"sound: EXTINF {track.extinf_s:.3f} s")
    return heard


def _check_rung(
    variant: Variant,
    track: Track,
    frames: Frames,
    expected: Expected,
    programs: Programs,
    found: Findings,
) -> None:
    """Decodes whole; size, shape and stated resolution agree with the expected display size."""
    name = track.uri
    found.check(not frames.complaints, f"{name}: {frames.complaints.splitlines()[:1]}")
    count = len(track.timing.times_s)
    found.check(len(frames.times_s) == count, f"{name}: {len(frames.times_s)} of {count} decode")
    width, height = _display_size(programs, track.file)
    agree = (width, height) == variant.size
    found.check(agree, f"{name}: RESOLUTION {variant.size}, {width}x{height} shown")
    shape = (width / height) / (expected.width / expected.height)
    allowed = ASPECT_LIMIT + 1 / width + 1 / height
    found.check(abs(shape - 1) <= allowed, f"{name}: aspect of {width}x{height} off by {shape:.4f}")
    grown = width > expected.width or height > expected.height
    found.check(not grown, f"{name}: {width}x{height} enlarges {expected.width}x{expected.height}")
    mean_s = (track.timing.end_s - track.timing.start_s) / count
    told = track.timing.end_s - track.timing.start_s
    found.check(abs(track.extinf_s - told) <= mean_s, f"{name}: EXTINF {track.extinf_s:.3f} s")


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


def _check_rate(
    variant: Variant, top: Track, seen: Frames, expected: Expected, found: Findings
) -> None:
    """The rate is one of the right ones; a rung with uneven times has the source's own times."""
    rate = variant.rate
    found.figures["rate"] = f"{rate:.3f}"
    times = np.array(top.timing.times_s)
    gaps = np.diff(times)
    uneven = len(gaps) > 1 and gaps.max() - gaps.min() > 0.0021
    if uneven:
        found.figures["rate"] += " own times"
        both = min(len(times), len(seen.times_s))
        drift = times[:both] - seen.times_s[:both]
        found.check(float(np.ptp(drift)) <= 0.002, "uneven frame times that are not the source's")
        return
    right = any(low * 0.9995 <= rate <= high * 1.0005 for low, high in expected.rates)
    found.check(right, f"rate {rate:.3f}, expected {expected.rates}")
    if len(gaps):
        found.check(abs(gaps.mean() * rate - 1) < 0.002, f"frames {gaps.mean():.5f} s apart")


def _check_duration(tracks: Sequence[Track], expected: Expected, found: Findings) -> None:
    top = tracks[-1].timing
    frame_s = max(1 / max(high for _, high in expected.rates), top.end_s / len(top.times_s))
    length = top.end_s - min(top.start_s, 0.0)
    found.figures["duration_s"] = f"{length:.3f}"
    lead = max(0.0, -(expected.offset_s or 0.0))
    right = list(expected.durations_s)
    if lead <= LEAD_LIMIT_S:
        right += [one + lead for one in expected.durations_s]
    off = min(abs(length - one) for one in right)
    found.check(off <= frame_s + 0.001, f"duration {length:.3f} s, expected {expected.durations_s}")
    for track in tracks:
        apart = abs(track.timing.end_s - top.end_s)
        found.check(apart <= 0.001, f"{track.uri}: ends {apart:.3f} s apart from the top rung")


def _check_orientation(frames: Frames, expected: Expected, found: Findings) -> None:
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
    found.figures["upright"] = f"{best:.3f}/{other:.3f}"
    found.check(best > 0.93 and best > other, f"orientation: {best:.3f} upright, {other:.3f} else")


def _check_offset(
    source: Path,
    seen: Frames,
    frames: Frames,
    top: Track,
    audio: Track,
    heard: Sound,
    expected: Expected,
    programs: Programs,
    found: Findings,
) -> None:
    """Sound against picture, by what is seen and heard, and by the times that the tracks state.

    Where both lags can be measured they decide. Where one cannot (a still picture, silence) the
    tracks' first times must stand as far apart as the source's: a silence or a held picture put
    in front to start together would look the same, so such a start at 0 is let pass.
    """
    if expected.offset_s is None:
        return
    heard_source = decode_sound(programs.source_ffmpeg, source, "a:0", COMPARED_S + 1)
    if heard_source is None or not len(seen.times_s):
        found.wrong.append("the source cannot be decoded to compare it")
        return
    step_s = (top.timing.end_s - top.timing.start_s) / len(top.timing.times_s)
    origin_s = min(float(seen.times_s[0]), heard_source.start_s)
    upright = Frames(
        seen.times_s - origin_s, turn(seen.pictures, expected.rotation, expected.mirrored), ""
    )
    heard_source = replace(heard_source, start_s=heard_source.start_s - origin_s)
    picture = picture_lag(upright, frames, step_s)
    sound = sound_lag(heard_source, heard)
    _check_length_of_sound(heard_source, heard, top, found)
    lags = ["?" if lag is None else f"{lag * 1000:+.0f}" for lag in (picture, sound)]
    found.figures["lag_ms"] = "/".join(lags)
    if picture is not None and sound is not None:
        off = sound - picture
        found.figures["av_ms"] = f"{off * 1000:+.0f} measured"
        allowed = OFFSET_LIMIT_S + (
            step_s / 2 if max(high for _, high in expected.rates) < 23 else 0
        )
        found.check(abs(off) <= allowed, f"sound is {off * 1000:+.0f} ms off the picture")
        return
    stated = audio.timing.start_s - top.timing.start_s
    off = stated - expected.offset_s
    found.figures["av_ms"] = f"{off * 1000:+.0f} stated"
    together = abs(stated) < 0.001
    found.check(abs(off) <= OFFSET_LIMIT_S or together, f"tracks start {off * 1000:+.0f} ms off")


def _check_length_of_sound(source: Sound, output: Sound, top: Track, found: Findings) -> None:
    """None of the source's sound is lost, and nothing but silence up to the end of the picture is
    added. A source is decoded to COMPARED_S and a second more; the rest is not looked at."""
    known_s = min(source.end_s, COMPARED_S)
    found.check(
        output.end_s >= known_s - 0.1, f"sound ends at {output.end_s:.3f} s, {known_s:.3f} of it"
    )
    if source.end_s < COMPARED_S:
        most_s = max(source.end_s, top.timing.end_s) + 0.1
        found.check(output.end_s <= most_s, f"sound until {output.end_s:.3f} s")


def _check_mpd(file: Path, expected: Expected, found: Findings) -> None:
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        found.wrong.append(f"manifest.mpd: {error}")
        return
    stated = root.get("mediaPresentationDuration", "")
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", stated)
    if match is None:
        found.wrong.append(f"manifest.mpd: mediaPresentationDuration {stated!r}")
        return
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    length = hours * 3600 + minutes * 60 + seconds
    slack = 0.12 + (1 / min(low for low, _ in expected.rates) if expected.rates else 0)
    off = min(abs(length - one) for one in expected.durations_s)
    found.check(off <= slack, f"manifest.mpd: {length:.3f} s, expected {expected.duration_s}")
