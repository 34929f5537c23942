"""Pictures that libvips' wheel cannot read → PNGs that it can: by FFmpeg, in the sandbox.

One PNG a frame: it keeps alpha, 16 bits and an ICC profile, and libvips reads it like any other.
FFmpeg sets a picture upright (the `irot` and `imir` of a HEIC, the orientation in a JPEG XL), puts
the tiles of a HEIC together and composes the frames of an animation. How colours are coded goes
beside, in FFmpeg's words, since a PNG's reader may not know them.
"""

from __future__ import annotations

import re
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from telecine.engine.errors import InputRefused, StepFailed
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import Bytes, Source
from telecine.engine.process import Access, Cancel, Finished, Limits, run
from telecine.engine.sandbox import global_flags
from telecine.engine.tools import Tools

# Demuxers by format: each reads one file and follows no name in it. None takes patterns: the
# `_pipe` ones read a file as it comes, where `image2` would look for others like it.
_ISO = "mov,mp4,m4a,3gp,3g2,mj2"
DEMUXERS: dict[str, tuple[str, ...]] = {
    "heic": (_ISO,),
    "heic-sequence": (_ISO,),
    "avif-sequence": (_ISO,),
    "apng": ("apng",),
    "jxl": ("jpegxl_pipe", "jpegxl_anim"),
    "jp2": ("j2k_pipe",),
    "j2k": ("j2k_pipe",),
    "bmp": ("bmp_pipe",),
    "ico": ("ico",),
    "psd": ("psd_pipe",),
}
_MOVING = ("heic-sequence", "avif-sequence", "apng", "jxl")

_SINK = 3
_MIB = 1 << 20
_MAX_STREAMS = 512  # tiles: a telephone's 48 MP picture has 192


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What of a file is decoded: FFmpeg's names of the picture and of its alpha."""

    picture: str
    alpha: str | None = None


def decode(
    source: Path,
    format: str,
    tools: Tools,
    limits: ImageLimits,
    *,
    first_only: bool = False,
    still: bool = False,
    cancel: Cancel | None = None,
) -> tuple[Source, list[Bytes]]:
    """The frames of a picture in one of `DEMUXERS`, as PNGs, and what to tell a worker of them.
    `still`: an animation is of no use.

    Raises InputRefused: `too_many_pixels` and `too_many_frames` (before anything beyond them is
    decoded), `animation_lost` where it moves and should be `still` (at its second frame),
    `image_damaged` when no frame can be had; StepFailed `image_limit`, and `decoder_killed`
    (retryable) when FFmpeg was killed by nobody of ours; Interrupted.
    """
    source = source.resolve()  # in the sandbox there are neither our folder nor links
    only_first = first_only or format not in _MOVING
    chosen = _choose(source, format, tools, limits, cancel) if format in _ISO_FORMATS else None
    told = _Told(limits, 1 if only_first else 2 if still else None)
    if format == "apng" and not only_first:
        told.announced(*_apng(source)[:3])
    data = bytearray()
    finished = run(
        decode_argv(tools.ffmpeg, source, format, limits, chosen, only_first=told.frames_wanted),
        sandbox=tools.sandbox,
        limits=_limits(format, limits),
        access=Access(read=(source,)),
        sinks={_SINK: data.extend},
        cancel=cancel,
        on_line=told.line,
    )
    _see_unharmed(finished)
    pictures = pngs(data)
    if not pictures:
        _fail(finished, told, limits)
    if still and len(pictures) > 1:
        raise InputRefused(
            "the picture moves, and the format asked for holds stills: write WebP or GIF, or ask "
            "for its first frame",
            code="animation_lost",
        )
    return (
        Source(
            format="png",
            blobs=len(pictures),
            was=format,
            primaries=told.primaries,
            transfer=told.transfer,
            delays_ms=told.delays_ms(len(pictures)),
            loop=_apng(source)[3] if format == "apng" else 0,
            warnings=_warnings(finished, told),
        ),
        list(pictures),
    )


_ISO_FORMATS = tuple(format for format, names in DEMUXERS.items() if names == (_ISO,))


def decode_argv(
    ffmpeg: Path,
    source: Path,
    format: str,
    limits: ImageLimits,
    chosen: _Chosen | None,
    *,
    only_first: int | None,
) -> list[str]:
    """FFmpeg's command line (pure)."""
    return [
        str(ffmpeg),
        *global_flags(),
        *("-loglevel", "level+info"),  # showinfo speaks there; errors carry their mark
        *("-filter_complex_threads", "1"),  # memory: tiles are decoded at once already
        *_input(source, format, limits),
        *_filters(chosen),
        # One more than is allowed: it is noticed, and nothing is made of it.
        *("-frames:v", str(only_first or limits.frames + 1)),
        *("-fps_mode", "passthrough"),  # every frame once, at its own time
        *("-f", "image2pipe"),  # to a pipe, one after the other
        *("-c:v", "png"),  # takes RGB, palette, alpha and 16 bits as they are
        # Not compressed: on its way to the next process, then gone. Of a HEIC's 12 MP it took more
        # time to make them smaller than to decode them.
        *("-compression_level", "0"),
        *("-threads", "1"),  # an encoder of its own for each frame that is in work would hold them
        f"pipe:{_SINK}",
    ]


def _filters(chosen: _Chosen | None) -> tuple[str, ...]:
    tell = "showinfo=checksum=0"  # times and colours of each frame, on standard error
    # Only the matrix of YUV is undone, with all bits; every pixel gets its own chroma.
    convert = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"
    if chosen is None:  # there is one picture; of icons FFmpeg takes the largest
        return ("-vf", f"{tell},{convert}")
    graph = f"[{chosen.picture}]{tell},{convert}[out]"
    if chosen.alpha is not None:
        # 8 bits are what telephones write.
        graph = f"[{chosen.picture}]{tell},{convert},format=rgba[picture]"
        graph += f";[{chosen.alpha}]format=gray[alpha];[picture][alpha]alphamerge[out]"
    return ("-filter_complex", graph, "-map", "[out]")


def _input(source: Path, format: str, limits: ImageLimits) -> tuple[str, ...]:
    return (
        *("-threads", "1"),  # each tile has its decoder
        *("-protocol_whitelist", "file"),  # the source cannot make FFmpeg open a URL
        *("-format_whitelist", ",".join(DEMUXERS[format])),  # nor another file
        # What was sniffed, not what FFmpeg takes it for; of two it must tell which it is.
        *(("-f", DEMUXERS[format][0].split(",")[0]) if len(DEMUXERS[format]) == 1 else ()),
        *("-max_streams", str(_MAX_STREAMS)),
        # Of any one picture or tile, whose sides FFmpeg counts in whole blocks; `_Told` is exact.
        *("-max_pixels", str(limits.pixels * 5 // 4 + 65_536)),
        *("-i", f"file:{source}"),
    )


def _limits(format: str, limits: ImageLimits) -> Limits:
    """Address space: FFmpeg itself, a few copies of the picture at 16 bits a channel, and in a file
    of tiles a thread with its stack for each."""
    threads = _MAX_STREAMS if format in _ISO_FORMATS else 16
    return Limits(
        memory_bytes=1024 * _MIB + threads * 10 * _MIB + limits.pixels * 32,
        cpu_s=int(limits.wall_s * 4) + 1,
        wall_s=limits.wall_s,
        stall_s=None,
        file_bytes=0,
    )


# --- which picture of a HEIF file -----------------------------------------------------------------

_GRID = re.compile(r"Stream group #0:(\d+)\D.*Tile Grid: .*?, (\d+)x(\d+)")
_STREAM = re.compile(r"  Stream #0:(\d+)\D.* Video: (.*?), (\d+)x(\d+)(.*)")
# ISO/IEC 23008-12 and 23000-22: what an auxiliary picture of transparency calls itself.
_ALPHA_NAMES = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
)
_HEAD_BYTES = 1 << 20  # the boxes that tell of pictures come first


def _choose(
    source: Path, format: str, tools: Tools, limits: ImageLimits, cancel: Cancel | None
) -> _Chosen:
    """The primary picture or the track of a HEIF file, by what FFmpeg lists. Nothing is decoded."""
    lines: list[str] = []
    argv = [str(tools.ffmpeg), *global_flags(), *_input(source, format, limits)]
    run(
        argv,
        sandbox=tools.sandbox,
        limits=_limits(format, limits),
        access=Access(read=(source,)),
        cancel=cancel,
        on_line=lines.append,
    )
    with source.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return choose(lines, format, has_alpha=any(name in head for name in _ALPHA_NAMES))


def choose(lines: Sequence[str], format: str, *, has_alpha: bool) -> _Chosen:
    """The same of FFmpeg's list (pure). Raises InputRefused (`image_damaged`)."""
    grids = [match.groups() for line in lines if (match := _GRID.search(line))]
    streams = [match.groups() for line in lines if (match := _STREAM.search(line))]
    if format == "heic" and grids:
        (number, *size), *more = grids
        masks = [f"0:g:{other}" for other, *same in more if same == size]
        return _Chosen(f"0:g:{number}", masks[0] if has_alpha and masks else None)
    if format != "heic":  # a track has a clock; the stills beside it have one tick a second
        streams = [stream for stream in streams if ", 1 tbn" not in stream[4]] or streams
    if not streams:
        raise InputRefused("there is no picture in the file", code="image_damaged")
    # The first one marked as default, else the largest: the others are thumbnails and masks.
    marked = [stream for stream in streams if "(default)" in stream[4]]
    picture = (marked or sorted(streams, key=lambda s: -int(s[2]) * int(s[3])))[0]
    masks = [
        f"0:{number}"
        for number, coding, *size, _ in streams
        if number != picture[0] and size == list(picture[2:4]) and ", gray" in coding
    ]
    return _Chosen(f"0:{picture[0]}", masks[0] if has_alpha and masks else None)


# --- what FFmpeg says -----------------------------------------------------------------------------

_PTS = re.compile(r"showinfo.* n: *\d+ pts: *(-?\d+) .* duration: *(\d+) .* s:(\d+)x(\d+) ")
_BASE = re.compile(r"showinfo.* config in time_base: (\d+)/(\d+),")
_COLORS = re.compile(r"showinfo.* color_primaries:(\S+) color_trc:(\S+)")
_LISTED = re.compile(r" (?:Video|Tile Grid): .*?, (\d+)x(\d+)")
_ERROR = re.compile(r"(?:\[[^]]* @ 0x[0-9a-f]+\] )*\[(?:error|fatal)\] (.*)")
_TOO_LARGE = re.compile(r"(?:Picture size|size) (\d+)x(\d+) .*(?:max pixel|invalid)", re.IGNORECASE)


class _Told:
    """Reads along, and stops FFmpeg where it is about to do more than the limits allow."""

    def __init__(self, limits: ImageLimits, frames_wanted: int | None) -> None:
        self.frames_wanted = frames_wanted
        self.primaries = self.transfer = "unknown"
        self.errors: list[str] = []
        self._limits = limits
        self._base = Fraction(1, 1000)
        self._times: list[tuple[int, int]] = []  # of each frame: its own, and how long it stays
        self._pixels = 0

    def line(self, text: str) -> None:
        if (match := _PTS.search(text)) is not None:
            pts, duration, width, height = map(int, match.groups())
            self._times.append((pts, duration))
            self._pixels += width * height
            self._judge(width, height, len(self._times), self._pixels)
        elif (match := _BASE.search(text)) is not None:
            self._base = Fraction(int(match[1]), int(match[2]) or 1)
        elif (match := _COLORS.search(text)) is not None:
            self.primaries, self.transfer = match[1], match[2]
        elif (match := _TOO_LARGE.search(text)) is not None:
            self._judge(int(match[1]), int(match[2]))
        elif (match := _ERROR.match(text)) is not None:
            self.errors.append(match[1])
        elif (match := _LISTED.search(text)) is not None:
            self._judge(int(match[1]), int(match[2]))

    def announced(self, width: int, height: int, frames: int) -> None:
        """What the file says of itself."""
        self._judge(width, height, frames, width * height * frames)

    def _judge(self, width: int, height: int, frames: int = 1, pixels: int = 0) -> None:
        if frames > self._limits.frames:
            raise InputRefused(
                f"{frames} frames or more, at most {self._limits.frames} are taken",
                code="too_many_frames",
            )
        if max(pixels, width * height) > self._limits.pixels:
            times = f" in {frames} frames or more" if frames > 1 else ""
            raise InputRefused(
                f"{width} × {height} pixels{times}, at most {self._limits.pixels:,} are taken",
                code="too_many_pixels",
            )

    def delays_ms(self, frames: int) -> tuple[int, ...]:
        """How long each frame of an animation stays. The last one has no next one to tell."""
        if frames < 2:
            return ()
        times = self._times[:frames]
        ticks = [later[0] - this[0] for this, later in pairwise(times)]
        ticks.append(times[-1][1] or (ticks[-1] if ticks else 0))
        return tuple(max(0, round(each * self._base * 1000)) for each in ticks)


def _warnings(finished: Finished, told: _Told) -> tuple[str, ...]:
    if finished.limit is not None:
        return (f"the file was not read to its end: it takes too much ({finished.limit})",)
    if not told.errors:
        return ()
    return (
        f"the file is cut off or damaged: {told.errors[0]}; the result shows what could be read",
    )


def _see_unharmed(finished: Finished) -> None:
    """What is left of a picture whose decoder the kernel ended for want of memory is not what the
    file has: it may go better another time."""
    if finished.signal == signal.SIGKILL and finished.limit is None:
        raise StepFailed(
            "the decoder was killed from outside",
            code="decoder_killed",
            log_tail=finished.log_tail,
            retryable=True,
        )


def _fail(finished: Finished, told: _Told, limits: ImageLimits) -> None:
    if finished.limit is not None:
        what = {"wall": f"more than {limits.wall_s:g} s", "cpu": "too much CPU time"}
        raise StepFailed(
            f"decoding the picture takes {what.get(finished.limit, 'too much memory')}",
            code="image_limit",
            log_tail=finished.log_tail,
        )
    cause = told.errors[0] if told.errors else "it ends before its first pixel"
    raise InputRefused(
        f"nothing in the picture can be decoded: {cause}",
        code="image_damaged",
        log_tail=finished.log_tail,
    )


# --- bytes ----------------------------------------------------------------------------------------


def pngs(data: bytes | bytearray) -> list[memoryview]:
    """The PNGs that lie one after the other in `data`, without one that is cut off (PNG, 5.3: an
    eight-byte signature, then chunks of length, name, data and CRC up to IEND)."""
    found, begin, at = [], 0, 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += length + 12
        if name == b"IEND" and at <= len(data):
            found.append(memoryview(data)[begin:at])
            begin, at = at, at + 8
    return found


def _apng(source: Path) -> tuple[int, int, int, int]:
    """Width, height, how many frames and how often they are shown (0: for ever), by the header and
    `acTL` (PNG, Third Edition, 11.2.1 and 11.3.6.1). The decode decides; this is known at once."""
    with source.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    at = head.find(b"acTL") + 4  # there is one: by it `sniff` knows an APNG
    width, height = struct.unpack_from(">II", head, 16)
    frames, plays = struct.unpack_from(">II", head.ljust(at + 8, b"\0"), at)
    return width, height, frames, plays
