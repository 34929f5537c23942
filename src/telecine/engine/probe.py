"""file → MediaInfo. The container's word from PyAV, the truth from the first decoded pictures.

Two kinds of children, all in the sandbox: `demux` (PyAV, reads tables and packets) and FFmpeg (a
few frames of each stream, decoded by the decoder that will do the work). PyAV carries another
FFmpeg than ours: what it says is a hint, and a stream counts only when it decodes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from telecine.engine import argv
from telecine.engine.errors import InputRefused, StepFailed, UsageError
from telecine.engine.inputs import fingerprint_of, readable
from telecine.engine.media import (
    AudioStream,
    Chapter,
    Color,
    ExtraInput,
    FieldOrder,
    Fingerprint,
    FrameIndex,
    InputKind,
    Keyframe,
    Light,
    MediaInfo,
    OtherKind,
    OtherStream,
    SubtitleKind,
    SubtitleStream,
    VideoStream,
)
from telecine.engine.process import Access, Cancel, Finished, Limits, limits_for, run
from telecine.engine.profile import Profile
from telecine.engine.sandbox import MAX_PIXELS
from telecine.engine.steps.subtitling import probe_side_car
from telecine.engine.steps.watermarking import probe_picture
from telecine.engine.tools import Tools

# A refusal comes within 10 s and 1 GB, whatever the file claims: each child gets its share of both.
DEMUX_LIMITS = Limits(memory_bytes=1 << 30, cpu_s=8, wall_s=8, stall_s=None)
CHECK_WALL_S = 6.0
CHECK_FRAMES = 8
# More are reported and not decoded.
CHECKED_STREAMS = {"video": 4, "audio": 16}

# "-ss before -i" is exact in these and in no other (DESIGN section 6).
_EXACT_SEEK = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

# Formats without a stated duration: what FFmpeg says is a guess from the size and the bit rate.
_NO_DURATION = (
    *("mp3", "aac", "loas", "ac3", "eac3", "dts", "amr", "amrnb", "amrwb", "truehd", "mlp"),
    *("mpeg", "mpegts", "mpegvideo", "h264", "hevc", "m4v"),
)

_PICTURES = ("gif", "apng", "webp_anim")

# Codecs that carry interlaced pictures without saying so: measured, where the size suggests it.
_SILENT_CODECS = ("mjpeg", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "v210", "dvvideo", "ffv1")
_INTERLACED_HEIGHTS = (480, 486, 576, 1080)


def probe(source: Path, tools: Tools, *, cancel: Cancel | None = None) -> MediaInfo:
    """What `source` is. Reads the file, writes nothing.

    Raises `InputRefused` with one of: `source_missing`, `empty_file`, `not_media`,
    `format_refused`, `no_streams`, `too_many_pixels`, `no_decodable_frame`, `probe_limit`; and
    `Interrupted`.
    """
    source = readable(source)
    fingerprint = fingerprint_of(source)
    with _Checks(source, tools, cancel) as checks:
        facts = _demux(source, tools, cancel, checks.begin)
        videos, audios = _pictures(facts), _sounds(facts)
        _refuse_sizes(videos)
        looked = [(stream, seen) for stream in videos if (seen := checks.seen(stream))]
        audio = tuple(_audio_stream(stream) for stream in audios if checks.heard(stream))
    video = tuple(_video_stream(stream, *seen) for stream, seen in looked)
    data_codecs = {n: name for _, (seen, _) in looked for n, name in seen.data.items()}
    _refuse_still(facts, video)
    if videos and not video:
        raise InputRefused(
            f"no frame can be decoded: {videos[0]['codec']} video without a usable picture",
            code="no_decodable_frame",
        )
    if not video and not audio:
        raise InputRefused(
            "no audio or video stream that can be decoded"
            if any(not stream["cover"] for stream in facts["streams"])
            else "no streams in the file",
            code="no_decodable_frame" if audios else "no_streams",
        )
    warnings = _warnings(facts, videos, audios, video, audio)
    return _media_info(facts, fingerprint, video, audio, data_codecs, tuple(warnings))


def probe_inputs(
    profile: Profile, inputs: Mapping[str, Path], tools: Tools, *, cancel: Cancel | None = None
) -> tuple[ExtraInput, ...]:
    """What the files beside the source are that `profile` names, in its order; `inputs` says where
    they lie. Reads them in the sandbox, writes nothing.

    Raises `UsageError` (`input_missing`, `input_unknown`) where what is given is not what the
    profile names, `InputRefused` (`source_missing`, `empty_file`, `subtitles_unreadable`,
    `watermark_unreadable`, of further films what `probe` raises) and `Interrupted`.
    """
    wanted = profile.inputs
    for name in (*wanted, *inputs):
        if name not in inputs:
            raise UsageError(f"no file was given for {name}", code="input_missing")
        if name not in wanted:
            raise UsageError(f"nothing was asked for that needs {name}", code="input_unknown")
    return tuple(
        _extra_input(name, kind, readable(inputs[name]), tools, cancel)
        for name, kind in wanted.items()
    )


def _extra_input(
    name: str, kind: InputKind, path: Path, tools: Tools, cancel: Cancel | None
) -> ExtraInput:
    extra = ExtraInput(name, kind, fingerprint_of(path))
    if kind == "subtitles":
        return replace(extra, subtitles=probe_side_car(path, tools, cancel))
    if kind == "picture":
        return replace(extra, picture=probe_picture(path, tools, cancel))
    return replace(extra, film=_probe_film(name, path, tools, cancel))


def _probe_film(name: str, path: Path, tools: Tools, cancel: Cancel | None) -> MediaInfo:
    """A further film; a refusal says which one it is about."""
    try:
        return probe(path, tools, cancel=cancel)
    except InputRefused as refusal:
        refusal.message = f"{name}: {refusal.message}"
        raise


def _pictures(facts: dict[str, Any]) -> list[dict[str, Any]]:
    streams = [stream for stream in facts["streams"] if not stream["cover"]]
    return [s for s in streams if (s["type"] == "video" and s["codec"] is not None) or _vvc(s)]


def _sounds(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for s in facts["streams"] if s["type"] == "audio" and not s.get("empty")]


def _vvc(stream: dict[str, Any]) -> bool:
    """PyAV may not know a decoder that our FFmpeg has: the decode decides."""
    return stream["type"] == "video" and bool(stream.get("width"))


# --- the container's word ------------------------------------------------------------------------


def _demux(
    source: Path, tools: Tools, cancel: Cancel | None, on_open: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """What the reader says in the end; `on_open` hears what it says of the streams before it reads
    their tables or packets."""
    said: list[bytes] = []
    opened = False

    def listen(data: bytes) -> None:
        nonlocal opened
        said.append(data)
        if not opened and b"\n" in data:
            opened = True
            on_open(json.loads(b"".join(said).partition(b"\n")[0]))

    finished = run(
        [sys.executable, "-I", "-m", "telecine.engine.demux", str(source)],
        sandbox=tools.sandbox,
        limits=DEMUX_LIMITS,
        access=Access(read=(source,)),
        sinks={1: listen},
        cancel=cancel,
    )
    if finished.limit is not None:
        raise InputRefused(
            f"reading the container took more than its {finished.limit} limit",
            code="probe_limit",
            retryable=finished.limit == "wall",  # the machine may only have been busy
        )
    if finished.returncode != 0:
        raise _crashed("the container reader", finished)
    facts: dict[str, Any] = json.loads(b"".join(said).splitlines()[-1])
    if "error" in facts:
        raise _refusal(facts)
    if not facts["streams"]:
        raise InputRefused("no streams in the file", code="no_streams")
    return facts


def _refusal(facts: dict[str, Any]) -> InputRefused:
    """A demuxer that is not allowed answers "invalid argument", no demuxer "invalid data"."""
    if facts["kind"] == "ValueError" or facts["kind"] == "ArgumentError":
        return InputRefused(
            "not a video or audio file: a still picture, a playlist or a document",
            code="format_refused",
        )
    return InputRefused(
        "not media: no video or audio container is recognised, or it is damaged beyond reading",
        code="not_media",
    )


def _crashed(what: str, finished: Finished) -> StepFailed | InputRefused:
    if finished.signal is not None:
        # A hostile or broken file ended the reader, not the machine: that is the file's refusal.
        return InputRefused(
            f"{what} was ended by signal {finished.signal} on this file", code="not_media"
        )
    return StepFailed(f"{what} failed", code="probe_failed", log_tail=finished.log_tail)


def _too_large(facts: dict[str, Any]) -> bool:
    return bool(facts.get("width", 0) * facts.get("height", 0) > MAX_PIXELS)


def _refuse_sizes(videos: list[dict[str, Any]]) -> None:
    for facts in videos:
        if _too_large(facts):
            raise InputRefused(
                f"too many pixels: {facts['width']}×{facts['height']}, "
                f"at most {MAX_PIXELS / 1e6:.0f} million",
                code="too_many_pixels",
            )


def _refuse_still(facts: dict[str, Any], video: tuple[VideoStream, ...]) -> None:
    """Formats of pictures are video only when they move."""
    tables = [stream.index_table for stream in video]
    if facts["container"] in _PICTURES and all(t and t.frame_count == 1 for t in tables):
        raise InputRefused(
            f"not a video or audio file: a still picture ({facts['container']})",
            code="format_refused",
        )


# --- the decoder's word --------------------------------------------------------------------------

# Only lines that a filter itself says: FFmpeg indents a file's tags, which may say anything.
_FILTER = r"^\[Parsed_{}_0 @ 0x[0-9a-f]+\] "
_FRAME = re.compile(
    _FILTER.format("showinfo") + r"n: *\d+ pts: *(?P<pts>-?\d+|NOPTS) .*? "
    r"fmt:(?P<fmt>\S+) .*?sar:(?P<sar>\d+/\d+) s:(?P<w>\d+)x(?P<h>\d+) i:(?P<field>[PTB])"
)
_BASE = re.compile(_FILTER.format("showinfo") + r"config in time_base: (\d+/\d+)")
_COLOR = re.compile(
    _FILTER.format("showinfo")
    + r"color_range:([\w-]+) color_space:([\w-]+) color_primaries:([\w-]+) color_trc:([\w-]+)$"
)
# Primaries to four places, which is five of ST 2086's steps.
_MASTERING = re.compile(
    _FILTER.format("showinfo") + r" *side data - .*has_primaries:1 has_luminance:1 "
    r"r\(([\d.]+), *([\d.]+)\) g\(([\d.]+), *([\d.]+)\) b\(([\d.]+),? *([\d.]+)\) "
    r"wp\(([\d.]+), *([\d.]+)\) min_luminance=([\d.]+), max_luminance=([\d.]+)$"
)
_CONTENT = re.compile(_FILTER.format("showinfo") + r" *side data - .*MaxCLL=(\d+), MaxFALL=(\d+)$")
_HDR10_PLUS = re.compile(
    _FILTER.format("showinfo") + r" *side data - HDR Dynamic Metadata SMPTE2094-40 \(HDR10\+\):"
)
_DOLBY_VISION = re.compile(
    r"^ {4,}DOVI configuration record: version: [\d.]+, profile: (\d+), .* compatibility id: (\d+)"
)
_MATRIX = re.compile(r"^ {4,}Display Matrix: rotation of (-?[\d.]+|nan) degrees$")
_STREAM = re.compile(r"^  Stream #0:(\d+)")
# Data that FFmpeg has no name for has the four characters that the file gives it.
_DATA = re.compile(r"^  Stream #0:(\d+)[^ ]*: Data: none \(([\w ]{4}) / 0x")
_PIXELS = re.compile(r"(?i)^\[.*(picture size \d+x\d+ (is invalid|exceeds)|exceeds.*max.*pixel)")
_CLOSED = re.compile(_FILTER.format("showinfo") + r" *side data - .*[Cc]losed [Cc]aptions")
_IDET = re.compile(
    _FILTER.format("idet")
    + r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+) Undetermined: *(\d+)"
)
_HEARD = re.compile(_FILTER.format("ashowinfo") + r"n:(\d+) ")


@dataclass(slots=True)
class _Seen:
    """What the first decoded pictures showed."""

    pts: list[int]
    base: Fraction | None = None
    fmt: str = ""
    sar: Fraction = Fraction(0)
    width: int = 0
    height: int = 0
    fields: str = ""
    color: Color | None = None
    mastering: tuple[int, ...] = ()
    content: tuple[int, ...] = ()
    rotation: int = 0
    turned: bool = False
    too_large: bool = False
    captioned: bool = False
    dynamic: tuple[str, ...] = ()
    data: dict[int, str] = field(default_factory=dict)
    stream: int = -1

    def line(self, text: str, index: int) -> None:
        if stream := _STREAM.match(text):
            self.stream = int(stream[1])
            if data := _DATA.match(text):
                self.data[self.stream] = data[2].strip()
        elif (matrix := _MATRIX.match(text)) and self.stream == index and not self.pts:
            self.turned = True
            self.rotation = 0 if matrix[1] == "nan" else round(-float(matrix[1]) / 90) * 90 % 360
        elif (dolby := _DOLBY_VISION.match(text)) and self.stream == index and not self.pts:
            self._told(f"Dolby Vision {dolby[1]}.{dolby[2]}")
        elif _HDR10_PLUS.match(text):
            self._told("HDR10+")
        elif base := _BASE.match(text):
            self.base = Fraction(base[1])
        elif frame := _FRAME.match(text):
            self._frame(frame)
        elif (color := _COLOR.match(text)) and self.color is None:
            known = [None if word in ("unknown", "reserved") else word for word in color.groups()]
            self.color = Color(known[0], known[2], known[3], known[1])
        elif (light := _MASTERING.match(text)) and not self.mastering:
            self.mastering = _mastering([Fraction(number) for number in light.groups()])
        elif (light := _CONTENT.match(text)) and not self.content:
            self.content = (min(int(light[1]), 0xFFFF), min(int(light[2]), 0xFFFF))
        elif _PIXELS.match(text):
            self.too_large = True
        elif _CLOSED.match(text):
            self.captioned = True

    def _told(self, dynamic: str) -> None:
        if dynamic not in self.dynamic:
            self.dynamic = (*self.dynamic, dynamic)

    def _frame(self, frame: re.Match[str]) -> None:
        if not self.fmt:
            self.fmt = frame["fmt"]
            self.width, self.height = int(frame["w"]), int(frame["h"])
            numerator, denominator = map(int, frame["sar"].split("/"))
            self.sar = Fraction(numerator, denominator) if denominator else Fraction(0)
        self.fields += frame["field"]
        self.pts.append(0 if frame["pts"] == "NOPTS" else int(frame["pts"]))


def _mastering(said: Sequence[Fraction]) -> tuple[int, ...]:
    """What `Light.mastering` holds, from FFmpeg's words for it; empty where that cannot be so."""
    red, green, blue, white = (said[n : n + 2] for n in range(0, 8, 2))
    least, most = (round(luminance * 10_000) for luminance in said[8:])
    places = [round(place * 50_000) for place in (*green, *blue, *red, *white)]
    fits = max(places) <= 0xFFFF and least < most < 1 << 32
    return (*places, most, least) if fits else ()


class _Checks:
    """The first pictures and sounds of the streams, decoded while the container's tables are still
    read. Leaving it on an error ends what still runs."""

    def __init__(self, source: Path, tools: Tools, cancel: Cancel | None) -> None:
        self._source, self._tools, self._cancel = source, tools, Cancel(cancel)
        self._pool = ThreadPoolExecutor(max_workers=4)  # children run side by side
        self._seeing: dict[int, Future[tuple[_Seen, FieldOrder] | None]] = {}
        self._hearing: dict[int, Future[bool]] = {}

    def __enter__(self) -> _Checks:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel.set()
        self._pool.shutdown(cancel_futures=kind is not None)

    def begin(self, facts: dict[str, Any]) -> None:
        """All of them, but for what is refused for its size."""
        videos = _pictures(facts)
        if any(_too_large(stream) for stream in videos):
            return
        container = facts["container"]
        for each in videos[: CHECKED_STREAMS["video"]]:
            self._seeing[each["index"]] = self._pool.submit(
                _see, self._source, self._tools, each, container, self._cancel
            )
        for each in _sounds(facts)[: CHECKED_STREAMS["audio"]]:
            self._hearing[each["index"]] = self._pool.submit(
                _hear, self._source, self._tools, each, self._cancel
            )

    def seen(self, stream: dict[str, Any]) -> tuple[_Seen, FieldOrder] | None:
        """What its first pictures showed, and their fields; None for no picture, or no check."""
        future = self._seeing.get(stream["index"])
        return None if future is None else future.result()

    def heard(self, stream: dict[str, Any]) -> bool:
        """Whether it decodes."""
        future = self._hearing.get(stream["index"])
        return future is not None and future.result()


def _see(
    source: Path, tools: Tools, facts: dict[str, Any], container: str, cancel: Cancel
) -> tuple[_Seen, FieldOrder] | None:
    """A stream's first pictures as they decode; None when none comes out of it."""
    seen = _Seen([])
    index = facts["index"]
    command = argv.decode_check(
        tools.ffmpeg, index, source, frames=CHECK_FRAMES, container=container
    )
    _ask(command, source, tools, facts, cancel, lambda line: seen.line(line, index))
    if seen.too_large and not seen.pts:
        raise InputRefused(
            f"too many pixels: at most {MAX_PIXELS / 1e6:.0f} million in a picture",
            code="too_many_pixels",
        )
    if not seen.pts or seen.width == 0 or seen.height == 0:
        return None
    return seen, _field_order(source, tools, facts, container, seen, cancel)


def _ask(
    command: list[str],
    source: Path,
    tools: Tools,
    facts: dict[str, Any],
    cancel: Cancel,
    on_line: Callable[[str], object],
) -> None:
    """Run a check; a child that fails or runs into a limit has told what it could."""
    pixels = facts.get("width", 0) * facts.get("height", 0)
    limits = limits_for(pixels, 0, Fraction(10))
    run(
        command,
        sandbox=tools.sandbox,
        limits=Limits(
            memory_bytes=limits.memory_bytes, cpu_s=30, wall_s=CHECK_WALL_S, stall_s=None
        ),
        access=Access(read=(source,)),
        cancel=cancel,
        on_line=on_line,
    )


def _field_order(
    source: Path,
    tools: Tools,
    facts: dict[str, Any],
    container: str,
    seen: _Seen,
    cancel: Cancel,
) -> FieldOrder:
    if "T" in seen.fields:
        return "tff"
    if "B" in seen.fields:
        return "bff"
    if facts["codec"] not in _SILENT_CODECS or facts.get("height") not in _INTERLACED_HEIGHTS:
        return "progressive"
    counts = [0, 0, 0, 0]

    def listen(line: str) -> None:
        if found := _IDET.match(line):
            counts[:] = map(int, found.groups())

    command = argv.field_check(tools.ffmpeg, facts["index"], source, container=container)
    _ask(command, source, tools, facts, cancel, listen)
    top, bottom, progressive, _ = counts
    if max(top, bottom) > progressive:
        return "tff" if top >= bottom else "bff"
    return "progressive"


def _video_stream(facts: dict[str, Any], seen: _Seen, field_order: FieldOrder) -> VideoStream:
    base = Fraction(facts["time_base"])
    table = _frame_index(facts.get("index_table"))
    rotation, mirrored = _position(seen, bool(facts.get("mirrored")))
    upright = rotation in (0, 180)
    width, height = (seen.width, seen.height) if upright else (seen.height, seen.width)
    mean, variable = _rate(facts, seen, table, base, interlaced=field_order != "progressive")
    start_s = _start(facts, seen, table, base)
    end_s = _optional(facts.get("end"))
    if table is not None:
        end_s = table.end_ticks * base
    elif end_s is None and facts["duration"] is not None and start_s is not None:
        end_s = start_s + Fraction(facts["duration"])
    return VideoStream(
        index=facts["index"],
        codec=facts["codec"] or "unknown",
        codec_profile=facts["profile"],
        level=facts["level"] if facts["level"] >= 0 else None,
        pix_fmt=seen.fmt,
        bit_depth=_bit_depth(seen.fmt),
        width=width,
        height=height,
        sar=_sar(seen, facts),
        rotation=rotation,
        mirrored=mirrored,
        field_order=field_order,
        rate=mean,
        nominal_rate=_optional(facts["base_rate"]),
        variable_rate=variable,
        time_base=base,
        start_s=start_s,
        end_s=end_s,
        bitrate_bps=facts["bitrate"],
        color=seen.color or Color(),
        light=_light(seen),
        dynamic=seen.dynamic,
        captioned=seen.captioned,
        has_alpha=seen.fmt.startswith(_ALPHA_FORMATS) or bool(facts.get("alpha")),
        default=facts["default"],
        language=facts["language"],
        parameter_sets=facts["parameter_sets"],
        in_band_parameter_sets=bool(facts.get("foreign_sets")),
        open_edits=bool(facts.get("open_edits")),
        index_table=table,
    )


_ALPHA_FORMATS = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")


def _light(seen: _Seen) -> Light | None:
    hdr = seen.color is not None and seen.color.hdr
    return Light(seen.mastering, seen.content) if hdr and (seen.mastering or seen.content) else None


def _position(seen: _Seen, mirrored: bool) -> tuple[int, bool]:
    """(degrees clockwise, flipped left to right after that), as FFmpeg turns the picture.

    The angle that FFmpeg tells is that of the picture's upper edge, which a mirror turns round as
    well: a matrix that flips left to right reads as 180°, one that flips top to bottom as 0°.
    """
    if mirrored and seen.rotation in (0, 180):
        return 180 - seen.rotation, True
    # A matrix that neither turns nor mirrors does something else: such a picture is no copy's.
    return seen.rotation, mirrored or (seen.turned and seen.rotation == 0)


def _sar(seen: _Seen, facts: dict[str, Any]) -> Fraction:
    """The decoded picture's word, else the container's; turned pictures have theirs turned."""
    if seen.sar:
        return seen.sar if seen.rotation in (0, 180) else 1 / seen.sar
    return Fraction(facts["sar"]) or Fraction(1)


def _start(
    facts: dict[str, Any], seen: _Seen, table: FrameIndex | None, base: Fraction
) -> Fraction | None:
    """When the first picture that can be shown is shown."""
    if table is None:
        return seen.pts[0] * base if seen.base == base else _optional(facts["start"])
    entered_inside = bool(table.keyframes) and table.keyframes[0].frame > 0
    if entered_inside and seen.base == base:
        return seen.pts[0] * base
    return table.first_ticks * base


def _rate(
    facts: dict[str, Any],
    seen: _Seen,
    table: FrameIndex | None,
    base: Fraction,
    *,
    interlaced: bool,
) -> tuple[Fraction | None, bool]:
    """(mean frames a second, whether they vary): from the frames themselves where they are known,
    with the header's fraction where it says the same more exactly."""
    stated = [r for r in (_optional(facts["base_rate"]), _optional(facts["average_rate"])) if r]
    if table is None or table.frame_count < 2 or table.end_ticks <= table.first_ticks:
        average = _optional(facts["average_rate"]) or (stated[0] if stated else None)
        return average, False
    variable = not table.regular
    if variable or not table.usual_gap_ticks:
        mean = table.frame_count / ((table.end_ticks - table.first_ticks) * base)
    else:
        mean = 1 / (table.usual_gap_ticks * base)
    if interlaced and seen.base and len(seen.pts) > 1 and seen.pts[-1] > seen.pts[0]:
        # Packets may hold one field each: the decoded pictures tell how many frames there are.
        shown = (len(seen.pts) - 1) / ((seen.pts[-1] - seen.pts[0]) * seen.base)
        if mean / shown > Fraction(3, 2):
            mean = mean / 2
    if not variable:
        near = [rate for rate in stated if abs(rate / mean - 1) < Fraction(1, 200)]
        mean = near[0] if near else mean
    return mean, variable


def _bit_depth(fmt: str) -> int:
    found = re.search(r"p?(9|10|12|14|16)(?:le|be)$", fmt)
    return int(found[1]) if found else 8


def _frame_index(plain: dict[str, Any] | None) -> FrameIndex | None:
    if plain is None:
        return None
    return FrameIndex(
        frame_count=plain["count"],
        first_ticks=plain["first"],
        end_ticks=plain["end"],
        usual_gap_ticks=Fraction(plain["usual_gap"]),
        regular=plain["regular"],
        max_gap_ticks=plain["max_gap"],
        reorder_ticks=plain["reorder"],
        keyframes=tuple(Keyframe(*key) for key in plain["keyframes"]),
        damaged_bytes=plain["damaged"],
    )


def _hear(source: Path, tools: Tools, facts: dict[str, Any], cancel: Cancel) -> bool:
    heard: list[str] = []

    def listen(line: str) -> None:
        if found := _HEARD.match(line):
            heard.append(found[1])

    _ask(
        argv.audio_check(tools.ffmpeg, facts["index"], source), source, tools, facts, cancel, listen
    )
    return bool(heard and facts["sample_rate"])


def _audio_stream(facts: dict[str, Any]) -> AudioStream:
    start_s = _optional(facts["start"])
    end_s = _optional(facts.get("end"))
    if end_s is None and start_s is not None and facts["duration"] is not None:
        end_s = start_s + Fraction(facts["duration"])
    return AudioStream(
        index=facts["index"],
        codec=facts["codec"] or "unknown",
        codec_profile=facts["profile"],
        channels=facts["channels"],
        channel_layout=facts["layout"],
        sample_rate=facts["sample_rate"],
        start_s=start_s,
        end_s=end_s,
        bitrate_bps=facts["bitrate"],
        default=facts["default"],
        language=facts["language"],
        title=facts["title"],
        commentary=facts["commentary"],
        described=facts["described"],
        gap_s=Fraction(facts.get("gap", 0)),
        frame_samples=facts["frame_samples"],
        configured=facts["configured"],
    )


# --- put together ----------------------------------------------------------------------------


def _optional(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)


def _warnings(
    facts: dict[str, Any],
    videos: list[dict[str, Any]],
    audios: list[dict[str, Any]],
    video: tuple[VideoStream, ...],
    audio: tuple[AudioStream, ...],
) -> list[str]:
    said = []
    usable = {v.index for v in video} | {a.index for a in audio}
    for kind, streams in (("video", videos), ("audio", audios)):
        most = CHECKED_STREAMS[kind]
        for stream in streams[:most]:
            if stream["index"] not in usable:
                said.append(f"{kind} stream {stream['index']} ({stream['codec']}) does not decode")
        if len(streams) > most:
            said.append(f"{len(streams)} {kind} streams: the first {most} were read")
    for stream_facts in facts["streams"]:
        if stream_facts.get("empty"):
            said.append(f"audio stream {stream_facts['index']} is empty")
    if facts.get("missing_bytes"):
        said.append(
            f"the file is cut off: {facts['missing_bytes']} bytes that it names are missing"
        )
    for picture in video:
        if picture.index_table is not None and picture.index_table.damaged_bytes:
            lost = f"{picture.index_table.damaged_bytes} bytes of the picture"
            said.append(
                f"the file is cut off: {lost} are missing"
                if facts.get("missing_bytes")
                else f"the file is damaged: {lost} are missing or broken"
            )
    return said


def _media_info(
    facts: dict[str, Any],
    fingerprint: Fingerprint,
    video: tuple[VideoStream, ...],
    audio: tuple[AudioStream, ...],
    data_codecs: Mapping[int, str],
    warnings: tuple[str, ...],
) -> MediaInfo:
    stated_s = None if facts["container"] in _NO_DURATION else _optional(facts["duration"])
    start_s = _optional(facts["start"]) or Fraction(0)
    spans = [(v.start_s, v.end_s) for v in video] + [(a.start_s, a.end_s) for a in audio]
    starts = [start for start, _ in spans if start is not None]
    ends = [end for _, end in spans if end is not None]
    if starts and ends:
        start_s = min(starts)
        duration_s = max(ends) - start_s
    else:
        duration_s = stated_s or Fraction(0)
    if stated_s is not None and stated_s - duration_s > max(Fraction(1), duration_s / 20):
        warnings = (
            *warnings,
            f"the file says {float(stated_s):.1f} s and holds {float(duration_s):.1f} s: "
            "the rest is missing",
        )
    return MediaInfo(
        container=facts["container"],
        fingerprint=fingerprint,
        start_s=start_s,
        duration_s=duration_s,
        stated_duration_s=stated_s,
        video=video,
        audio=audio,
        subtitles=(*_subtitles(facts), *_captions(video)),
        other=_others(facts, data_codecs),
        seekable=facts["container"] in _EXACT_SEEK,
        chapters=tuple(_chapter(each) for each in facts["chapters"]),
        warnings=warnings,
    )


def _chapter(facts: dict[str, Any]) -> Chapter:
    return Chapter(Fraction(facts["start"]), Fraction(facts["end"]), facts["title"])


# By libavcodec's names. What it decodes to text, and what to pictures; there is no decoder for
# teletext in the packaged FFmpeg, nor for TTML anywhere, and XSUB fits into no other container.
_TEXT_CODECS = (
    *("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text", "eia_608", "microdvd", "mpl2"),
    *("jacosub", "sami", "realtext", "stl", "subviewer", "subviewer1", "pjs", "vplayer"),
)
_BITMAP_CODECS = ("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle")
# Pictures whose user data the captions are read from (`captions`).
_CAPTIONED_CODECS = ("h264", "hevc", "mpeg2video")


def _subtitles(facts: dict[str, Any]) -> list[SubtitleStream]:
    found = []
    for stream in facts["streams"]:
        if stream["type"] != "subtitle":
            continue
        codec = stream["codec"] or "unknown"
        kind: SubtitleKind = "bitmap" if codec in _BITMAP_CODECS else "unreadable"
        found.append(
            SubtitleStream(
                index=stream["index"],
                kind="text" if codec in _TEXT_CODECS else kind,
                codec=codec,
                language=stream["language"],
                title=stream["title"],
                default=stream["default"],
                forced=stream["forced"],
                hearing_impaired=stream["hearing_impaired"],
            )
        )
    return found


def _captions(video: tuple[VideoStream, ...]) -> Iterator[SubtitleStream]:
    """Closed captions, which are for those who do not hear (47 CFR 79.1)."""
    for picture in video:
        if picture.captioned and picture.codec in _CAPTIONED_CODECS:
            yield SubtitleStream(picture.index, "captions", "eia_608", hearing_impaired=True)


_OTHER_KINDS: dict[str, OtherKind] = {
    "cover": "cover",
    "data": "data",
    "attachment": "attachment",
}


def _others(facts: dict[str, Any], data_codecs: Mapping[int, str]) -> tuple[OtherStream, ...]:
    others = []
    for stream in facts["streams"]:
        kind = _OTHER_KINDS.get("cover" if stream["cover"] else stream["type"])
        if kind is not None:
            index = stream["index"]
            codec = stream["codec"] or data_codecs.get(index, "unknown")
            others.append(OtherStream(index, kind, codec, stream["language"]))
    return tuple(others)
