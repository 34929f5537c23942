"""Reads an output folder and a source with other programs than the one under test.

`m3u8` from PyPI reads the playlists, the reader of timing boxes below gives presentation times, and
an FFmpeg that is named by the caller decodes. Nothing of telecine is imported.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import m3u8
import numpy as np
import numpy.typing as npt

THUMB = 16  # pictures are compared as 16 × 16 grey ones
SOUND_HZ = 2000

Picture = npt.NDArray[np.float64]


# --- timing boxes, read by hand (ISO/IEC 14496-12 sections 8.6.6 and 8.8) -------------------------

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"edts", b"moof", b"traf", b"mvex"})


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Each box's type and payload, depth first; a container's own payload is given before them."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < header or start + size > end:
            raise ValueError(f"box {kind!r} at {start} has size {size}")
        yield kind, data[start + header : start + size]
        if kind in _CONTAINERS:
            yield from boxes(data, start + header, start + size)
        start += size


@dataclass(frozen=True, slots=True)
class Timing:
    """Presentation times of every sample in seconds, sorted, the edit list applied."""

    times_s: tuple[float, ...]
    end_s: float  # the latest time plus its sample's duration, or all durations after the first

    @property
    def start_s(self) -> float:
        return self.times_s[0]


def read_timing(data: bytes) -> Timing:
    """Timing of a joined track: one init segment and its media segments.

    Raises ValueError where decode times are not continuous or a box is broken.
    """
    timescale = media_start = 0
    expected_decode: int | None = None
    default_duration = decode = duration = 0
    stamps: list[tuple[int, int]] = []
    for kind, body in boxes(data):
        if kind == b"mdhd":
            timescale = struct.unpack_from(">I", body, 20 if body[0] else 12)[0]
        elif kind == b"elst" and struct.unpack_from(">I", body, 4)[0]:
            media_start = struct.unpack_from(
                ">q" if body[0] else ">i", body, 16 if body[0] else 12
            )[0]
        elif kind == b"trex":
            default_duration = struct.unpack_from(">I", body, 12)[0]
        elif kind == b"tfhd":
            flags = int.from_bytes(body[1:4], "big")
            place = 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
            duration = struct.unpack_from(">I", body, place)[0] if flags & 0x8 else default_duration
        elif kind == b"tfdt":
            decode = struct.unpack_from(">Q" if body[0] else ">I", body, 4)[0]
            if expected_decode is not None and decode != expected_decode:
                raise ValueError(f"decode time {decode} follows {expected_decode}")
        elif kind == b"trun":
            for step, offset in _samples(body, duration):
                stamps.append((decode + offset - media_start, step))
                decode += step
            expected_decode = decode
    if not stamps or not timescale:
        raise ValueError("no sample")
    stamps.sort()
    # Durations follow decoding order: with B-frames the one that fills the track's end may belong
    # to another picture than the last one shown.
    end = max(max(stamp + step for stamp, step in stamps), stamps[0][0] + sum(s for _, s in stamps))
    return Timing(tuple(stamp / timescale for stamp, _ in stamps), end / timescale)


def _samples(body: bytes, duration: int) -> Iterator[tuple[int, int]]:
    """Each sample's duration and composition offset in a `trun`."""
    flags = int.from_bytes(body[1:4], "big")
    count = struct.unpack_from(">I", body, 4)[0]
    place = 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    for _ in range(count):
        step, offset = duration, 0
        for flag in (0x100, 0x200, 0x400, 0x800):
            if flags & flag:
                signed = flag == 0x800 and body[0] == 1
                value = struct.unpack_from(">i" if signed else ">I", body, place)[0]
                place += 4
                if flag == 0x100:
                    step = value
                elif flag == 0x800:
                    offset = value
        yield step, offset


# --- decoding -------------------------------------------------------------------------------------


def run_program(argv: Sequence[str | Path], timeout_s: float = 300) -> tuple[bytes, str]:
    done = subprocess.run(
        [str(part) for part in argv],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )
    return done.stdout, done.stderr.decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class Frames:
    times_s: npt.NDArray[np.float64]
    pictures: Picture  # frame × THUMB × THUMB
    complaints: str


def _clock(limit_s: float | None) -> list[str]:
    """A whole track keeps its own times; a limited source starts at 0 (all its streams alike),
    because `-t` counts from 0 and a broadcast may start hours later."""
    return ["-copyts"] if limit_s is None else []


def decode_frames(ffmpeg: str, file: Path, stream: str, limit_s: float | None = None) -> Frames:
    """Every picture of a stream as it is stored (no rotation applied), small and grey."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        small = f"scale={THUMB}:{THUMB}:flags=area,format=gray"
        graph = f"[0:{stream}]{small},split[a][c];[c]settb=1/90000,setpts=N[b]"
        keep = ["-fps_mode", "passthrough", "-enc_time_base", "1/90000"]
        argv = [ffmpeg, "-v", "error", "-nostdin", "-y", *_clock(limit_s), "-noautorotate"]
        argv += ["-i", str(file), "-filter_complex", graph]
        limit = ["-t", str(limit_s)] if limit_s else []
        argv += ["-map", "[a]", *limit, *keep, "-f", "framecrc", "-"]
        argv += ["-map", "[b]", *limit, *keep, "-f", "rawvideo", str(raw)]
        listing, complaints = run_program(argv, 600)
        times = _framecrc_times(listing.decode())
        pixels = np.fromfile(raw, np.uint8) if raw.exists() else np.zeros(0, np.uint8)
    count = min(len(times), len(pixels) // THUMB**2)
    pictures = pixels[: count * THUMB**2].reshape(count, THUMB, THUMB).astype(np.float64)
    order = np.argsort(times[:count], kind="stable")
    return Frames(times[:count][order], pictures[order], complaints)


def _framecrc_times(listing: str) -> npt.NDArray[np.float64]:
    base = re.search(r"^#tb 0: (\d+)/(\d+)$", listing, re.M)
    scale = int(base[1]) / int(base[2]) if base else 1.0
    lines = [line.split(",") for line in listing.splitlines() if line and line[0] != "#"]
    return np.array([int(cells[2]) * scale for cells in lines])


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples at SOUND_HZ, the first at `start_s`; holes between packets are silence."""

    start_s: float
    samples: npt.NDArray[np.float64]
    complaints: str

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / SOUND_HZ


def decode_sound(
    ffmpeg: str, file: Path, stream: str, limit_s: float | None = None
) -> Sound | None:
    """A stream's sound at its own times; `None` where nothing could be decoded."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        form = f"aresample={SOUND_HZ},aformat=sample_fmts=s16:channel_layouts=mono"
        graph = f"[0:{stream}]{form},asplit[a][c];[c]asetpts=N/SR/TB[b]"
        argv = [ffmpeg, "-v", "error", "-nostdin", "-y", *_clock(limit_s), "-i", str(file)]
        argv += ["-filter_complex", graph]
        limit = ["-t", str(limit_s)] if limit_s else []
        argv += ["-map", "[a]", *limit, "-f", "framecrc", "-"]
        argv += ["-map", "[b]", *limit, "-f", "s16le", str(raw)]
        listing, complaints = run_program(argv, 600)
        pcm = np.fromfile(raw, np.int16) if raw.exists() else np.zeros(0, np.int16)
    text = listing.decode()
    times = _framecrc_times(text)
    if not len(times):
        return None
    counts = [int(line.split(",")[3]) for line in text.splitlines() if line and line[0] != "#"]
    begin = times - times.min()
    samples = np.zeros(round(begin.max() * SOUND_HZ) + max(counts))
    place = 0
    for at, count in zip(begin, counts, strict=True):
        piece = pcm[place : place + count]
        first = round(at * SOUND_HZ)
        samples[first : first + len(piece)] = piece
        place += count
    last = round(begin[-1] * SOUND_HZ) + counts[-1]
    return Sound(float(times.min()), samples[: max(last, 1)], complaints)


# --- renditions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of the multivariant playlist that has a picture."""

    uri: str
    size: tuple[int, int]
    rate: float


@dataclass(frozen=True, slots=True)
class Master:
    """The multivariant playlist: pictures from the smallest to the largest, and the sound."""

    pictures: tuple[Variant, ...]
    sound_uri: str | None


def read_master(file: Path) -> Master:
    playlist = m3u8.load(str(file))
    pictures = []
    sounds = [one.uri for one in playlist.media if one.type == "AUDIO" and one.uri]
    for variant in playlist.playlists:
        info = variant.stream_info
        if info.resolution:
            width, height = info.resolution
            pictures.append(Variant(variant.uri or "", (width, height), info.frame_rate or 0.0))
        else:
            sounds.append(variant.uri or "")
    pictures.sort(key=lambda one: one.size[0] * one.size[1])
    return Master(tuple(pictures), sounds[0] if sounds else None)


@dataclass(frozen=True, slots=True)
class Track:
    """A rendition joined to one file."""

    uri: str
    file: Path
    timing: Timing
    extinf_s: float  # sum


def join(folder: Path, uri: str, into: Path) -> Track:
    """Init segment and segments of a finished media playlist as one file.

    Raises ValueError where the playlist is not a finished VOD one or names what is not there.
    """
    playlist = m3u8.load(str(folder / uri))
    base = (folder / uri).parent
    if not playlist.is_endlist or (playlist.playlist_type or "").upper() != "VOD":
        raise ValueError(f"{uri}: not a finished VOD playlist")
    maps = {str(one.init_section.uri) for one in playlist.segments if one.init_section}
    if len(maps) != 1:
        raise ValueError(f"{uri}: {len(maps)} init segments")
    names = [*maps, *(str(one.uri) for one in playlist.segments)]
    missing = [name for name in names if not (base / name).is_file()]
    if missing:
        raise ValueError(f"{uri}: {missing[0]} is missing")
    data = b"".join((base / name).read_bytes() for name in names)
    into.write_bytes(data)
    lengths = [float(one.duration or 0) for one in playlist.segments]
    if round(max(lengths)) > float(playlist.target_duration or 0):
        raise ValueError(f"{uri}: a segment of {max(lengths)} s, target {playlist.target_duration}")
    return Track(uri, into, read_timing(data), sum(lengths))
