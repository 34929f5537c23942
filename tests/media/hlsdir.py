"""Reads a finished output folder for the tests, with nothing of Telecine's: playlists line by
line, and of the boxes of fragmented MP4 only what tells when each sample is shown."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rendition:
    """One media playlist and the bytes that it lists."""

    name: str
    init: bytes
    segments: tuple[bytes, ...]
    extinf_s: tuple[Fraction, ...]

    @property
    def joined(self) -> bytes:
        """What a player appends to its buffer: the initialisation segment and every segment."""
        return self.init + b"".join(self.segments)


@dataclass(frozen=True, slots=True)
class Output:
    video: tuple[Rendition, ...]  # in the order of the multivariant playlist
    audio: tuple[Rendition, ...]
    frame_rate: str  # of the first variant, as written


def read_output(folder: Path) -> Output:
    """Everything that `master.m3u8` of a finished folder names."""
    text = (folder / "master.m3u8").read_text()
    lines = text.splitlines()
    streams = [lines[i + 1] for i, line in enumerate(lines) if line.startswith("#EXT-X-STREAM-INF")]
    sounds = re.findall(r'#EXT-X-MEDIA:.*TYPE=AUDIO.*URI="([^"]+)"', text)
    if not sounds and "mp4a" in text and "avc1" not in text:
        streams, sounds = [], streams
    rate = re.search(r"FRAME-RATE=([\d.]+)", text)
    return Output(
        tuple(read_rendition(folder / uri) for uri in dict.fromkeys(streams)),
        tuple(read_rendition(folder / uri) for uri in dict.fromkeys(sounds)),
        rate[1] if rate else "",
    )


def read_rendition(playlist: Path) -> Rendition:
    text = playlist.read_text()
    assert "#EXT-X-ENDLIST" in text, f"{playlist} is not finished"
    init = re.search(r'#EXT-X-MAP:URI="([^"]+)"', text)
    assert init, f"{playlist} names no initialisation segment"
    uris = [line for line in text.splitlines() if line and not line.startswith("#")]
    return Rendition(
        playlist.parent.name,
        (playlist.parent / init[1]).read_bytes(),
        tuple((playlist.parent / uri).read_bytes() for uri in uris),
        tuple(Fraction(found) for found in re.findall(r"#EXTINF:([\d.]+)", text)),
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """When the samples of one rendition are decoded and shown, in ticks of `timescale`."""

    timescale: int
    edit_ticks: int  # media time of the edit list's entry: shown from there on
    decode: tuple[int, ...]
    ends: tuple[int, ...]  # decode time plus duration of each sample
    shown: tuple[int, ...]  # in decode order, edit list applied

    def shown_s(self) -> list[Fraction]:
        """Presentation times in the order shown."""
        return [Fraction(ticks, self.timescale) for ticks in sorted(self.shown)]


def read_timing(rendition: Rendition) -> Timing:
    """Sample times by the words of ISO/IEC 14496-12: `tfdt` + durations + composition offset,
    less the `media_time` of the one edit."""
    moov = dict(_boxes(dict(_boxes(rendition.init))[b"moov"]))
    trak = dict(_boxes(moov[b"trak"]))
    mdhd = dict(_boxes(trak[b"mdia"]))[b"mdhd"]
    timescale = struct.unpack_from(">I", mdhd, 20 if mdhd[0] else 12)[0]
    edit = 0
    if b"edts" in trak:
        elst = dict(_boxes(trak[b"edts"]))[b"elst"]
        assert struct.unpack_from(">I", elst, 4)[0] == 1, "more than one edit"
        edit = (
            struct.unpack_from(">q", elst, 16)[0]
            if elst[0]
            else struct.unpack_from(">i", elst, 12)[0]
        )
    trex = struct.unpack_from(">II", dict(_boxes(moov[b"mvex"]))[b"trex"], 12)[0]
    decode: list[int] = []
    ends: list[int] = []
    shown: list[int] = []
    for segment in rendition.segments:
        for kind, body in _boxes(segment):
            if kind != b"moof":
                continue
            for at, duration, offset in _samples(dict(_boxes(body))[b"traf"], trex):
                decode.append(at)
                ends.append(at + duration)
                shown.append(at + offset - edit)
    return Timing(timescale, edit, tuple(decode), tuple(ends), tuple(shown))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1:
            size = struct.unpack_from(">Q", data, at + 8)[0]
            header = 16
        assert header <= size <= len(data) - at, f"box {kind!r} is cut off"
        yield kind, data[at + header : at + size]
        at += size


def _samples(traf: bytes, duration: int) -> Iterator[tuple[int, int, int]]:
    """(decode time, duration, composition offset) of each sample of a fragment."""
    boxes = list(_boxes(traf))
    tfhd = next(body for kind, body in boxes if kind == b"tfhd")
    flags = struct.unpack(">I", b"\0" + tfhd[1:4])[0]
    if flags & 0x8:
        duration = struct.unpack_from(">I", tfhd, 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2))[0]
    tfdt = next(body for kind, body in boxes if kind == b"tfdt")
    at = struct.unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)[0]
    for kind, trun in boxes:
        if kind != b"trun":
            continue
        flags, count = struct.unpack(">II", b"\0" + trun[1:8])
        place = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
        for _ in range(count):
            lasts, offset = duration, 0
            if flags & 0x100:
                lasts = struct.unpack_from(">I", trun, place)[0]
            place += 4 * bool(flags & 0x100) + 4 * bool(flags & 0x200) + 4 * bool(flags & 0x400)
            if flags & 0x800:
                offset = struct.unpack_from(">i" if trun[0] else ">I", trun, place)[0]
                place += 4
            yield at, lasts, offset
            at += lasts
