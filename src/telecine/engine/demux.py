"""Reads a container with PyAV inside the sandbox and prints what it says, as JSON on stdout.

Run as a program by `probe` only: `python -I -m telecine.engine.demux FILE`. Nothing is decoded.
It prints what the header says of the streams as a line, and then, without an end of line, the same
with what their tables or packets say; or an error alone.
What it prints is a hint from FFmpeg's demuxers as PyAV carries them; the decode decides.

Small files are read packet by packet. Large MP4s are indexed from their own sample tables, so that
a film of many gigabytes costs what its index costs; other large containers are read at their ends.
"""

from __future__ import annotations

import io
import json
import operator
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO, TypeVar

import av
from av.stream import Disposition

from telecine.engine.chapters import MAX_CHAPTERS, MAX_TITLE
from telecine.engine.errors import MediaError
from telecine.engine.formats.bmff import boxes, header
from telecine.engine.formats.cmaf import reorder_ticks
from telecine.engine.formats.containers import LONGEST_JPEG, MOTION_JPEG, is_motion_jpeg
from telecine.engine.formats.mp4index import Samples, TrackTable, read_moov, read_movie
from telecine.engine.sandbox import DEMUXERS, MAX_STREAMS

INDEX_ABOVE_BYTES = 32 << 20  # reading all packets of less costs under a tenth of a second
SCAN_BELOW_BYTES = 512 << 20  # other containers: about a second of reading …
SCAN_S = 3.0  # … and never more than this, of the ten seconds that a refusal may take
TAIL_S = 20
MAX_TOP_BOXES = 100_000  # an hour of fragmented MP4 with two boxes a fragment has 3,600
KEYFRAME_HEAD_BYTES = 4096  # enough for the SEI before the first slice of a keyframe

Json = dict[str, Any]


def main(path: str, on_open: Callable[[Json], object] = lambda _: None) -> Json:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(DEMUXERS),
        "max_streams": str(MAX_STREAMS),
    }
    try:
        opened = av.open(
            f"file:{path}", format=_demuxer(path), options=options, metadata_errors="replace"
        )
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        return {"error": str(error), "kind": type(error).__name__}
    with opened as container:
        streams = list(container.streams)
        facts: Json = {
            "container": container.format.name,
            "start": _seconds(container.start_time, Fraction(1, av.time_base)),
            "duration": _seconds(container.duration, Fraction(1, av.time_base)),
            "chapters": _chapters(container),
            "streams": [_stream(stream) for stream in streams],
        }
        on_open(facts)
        size = os.path.getsize(path)  # noqa: PTH202  # a launched program with few imports
        facts["missing_bytes"] = _missing_bytes(path, size) if "mp4" in facts["container"] else 0
        tracks = _mp4_tables(path, size)
        if tracks:
            _from_tables(facts, streams, tracks, path, size)
        elif size > SCAN_BELOW_BYTES or not _from_packets(facts, container):
            _from_ends(facts, container)
    return facts


def _seconds(ticks: int | None, base: Fraction | None) -> str | None:
    return None if ticks is None or base is None else str(ticks * base)


def _chapters(container: Any) -> list[Json]:
    """Start, end and title of each, as many and as long as anybody reads."""
    found = []
    for chapter in container.chapters()[:MAX_CHAPTERS]:
        base = Fraction(chapter["time_base"])
        title = chapter["metadata"].get("title")
        found.append(
            {
                "start": str(chapter["start"] * base),
                "end": str(chapter["end"] * base),
                "title": None if title is None else title[:MAX_TITLE],
            }
        )
    return found


def _demuxer(path: str) -> str | None:
    """What FFmpeg would not take the file for: to it a row of JPEGs is one picture."""
    with open(path, "rb") as file:  # noqa: PTH123  # a launched program with few imports
        head = file.read(3)
        if head != b"\xff\xd8\xff" or not is_motion_jpeg(head + file.read(LONGEST_JPEG)):
            return None
    return MOTION_JPEG


def _stream(stream: Any) -> Json:
    context = stream.codec_context
    # Muxers of Matroska write the names of tags in capitals.
    tags = {name.lower(): text for name, text in stream.metadata.items()}
    facts: Json = {
        "index": stream.index,
        "type": stream.type,
        # The codec, not the decoder that PyAV would take for it ("libdav1d", "mp3float").
        "codec": context.codec.canonical_name if context else _data_codec(stream),
        "profile": stream.profile if stream.type in ("video", "audio") else None,
        "time_base": str(stream.time_base) if stream.time_base else None,
        "start": _seconds(stream.start_time, stream.time_base),
        "duration": _seconds(stream.duration, stream.time_base),
        "default": bool(stream.disposition & Disposition.default),
        "cover": bool(stream.disposition & Disposition.attached_pic),
        "commentary": bool(stream.disposition & Disposition.comment),
        "forced": bool(stream.disposition & Disposition.forced),
        "hearing_impaired": bool(
            stream.disposition & (Disposition.hearing_impaired | Disposition.captions)
        ),
        "described": bool(stream.disposition & Disposition.visual_impaired),
        "language": tags.get("language") if tags.get("language") != "und" else None,
        "title": tags.get("title"),
    }
    if stream.type == "video" and context:
        facts |= {
            "width": context.width,
            "height": context.height,
            "level": context.level,
            "sar": str(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1),
            "average_rate": str(stream.average_rate) if stream.average_rate else None,
            "base_rate": str(stream.base_rate) if stream.base_rate else None,
            "bitrate": context.bit_rate,
            "mirrored": _mirrored(stream),
            # WebM keeps it beside the pictures, where FFmpeg's own decoder does not look.
            "alpha": tags.get("alpha_mode") == "1",
            "parameter_sets": _parameter_sets(context.extradata) if facts["codec"] == "h264" else 0,
        }
    if stream.type == "audio" and context:
        facts |= {
            "channels": context.channels,
            "layout": context.layout.name,
            "sample_rate": context.sample_rate,
            "frame_samples": context.frame_size,
            "configured": bool(context.extradata),
            "bitrate": context.bit_rate,
        }
    return facts


def _data_codec(stream: Any) -> str | None:
    """What FFmpeg calls the data; PyAV calls an attachment by the name of its file."""
    name: str | None = stream.name if stream.type == "data" else None
    return name


def _mirrored(stream: Any) -> bool:
    """Whether the stream's display matrix mirrors; not told of codecs that MOV cannot hold.

    FFmpeg tells the angle of a matrix and PyAV nothing of it, but the `tkhd` of a MOV header that
    is written for the stream holds it whole (ISO/IEC 14496-12, 8.3.2), whatever it was read from.
    """
    written = io.BytesIO()
    try:
        with av.open(written, "w", format="mov", options={"movflags": "empty_moov"}) as header_only:
            header_only.add_stream_from_template(stream)
            header_only.start_encoding()
        moov = next(box for box in boxes(memoryview(written.getvalue())) if box.kind == "moov")
        tkhd = moov.child("trak").child("tkhd")
        a, b, _, c, d = tkhd.numbers("5i", 52 if tkhd.full()[0] == 1 else 40)
    except (av.error.FFmpegError, ValueError, StopIteration, MediaError):
        return False
    # FFmpeg tilts by other angles than right ones as they are, unmirrored.
    return bool(a * d - b * c < 0 and (a == d == 0 or b == c == 0))


# --- H.264: parameter sets and IDR pictures ---------------------------------------------------


def _avcc(extradata: bytes | None) -> tuple[int, list[bytes]] | None:
    """(NAL length size, parameter sets) of an avcC record (ISO 14496-15, 5.3.3.1)."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        return None
    sets: list[bytes] = []
    at = 5
    for mask in (0x1F, 0xFF):
        if at >= len(extradata):
            return None
        count = extradata[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            sets.append(bytes(extradata[at + 2 : at + 2 + size]))
            at += 2 + size
    return (extradata[4] & 3) + 1, sets


def _parameter_sets(extradata: bytes | None) -> int:
    found = _avcc(extradata)
    return len(found[1]) if found else 0


class _KeyframeReader:
    """Tells IDR pictures from other sync samples, and parameter sets that differ from the header's.

    Streams that are not length-prefixed H.264 are taken as they say: `idr` is what `key` is.
    """

    def __init__(self, codec: str | None, extradata: bytes | None) -> None:
        self._avcc = _avcc(extradata) if codec == "h264" else None
        self.foreign_sets = False

    def idr(self, head: bytes) -> bool:
        if self._avcc is None:
            return True
        length, sets = self._avcc
        at = 0
        while at + length < len(head):
            size = int.from_bytes(head[at : at + length], "big")
            unit = head[at + length : at + length + size]
            if not unit:
                return False
            kind = unit[0] & 0x1F
            if kind in (7, 8) and len(unit) == size and unit not in sets:
                self.foreign_sets = True
            if kind in (1, 5):
                return kind == 5
            at += length + size
        return False


# --- the summary that both ways of reading end in ---------------------------------------------


def _index(
    pts: list[int],
    sizes: list[int],
    keys: list[tuple[int, bool]],
    last_duration: int,
    base: Fraction,
    *,
    hidden: bool,
) -> Json | None:
    """Frame times in decode order, sizes, keyframes (position, idr) → the facts of FrameIndex.

    `hidden`: the codec sends pictures that are never shown (VP8 and VP9 alternate references) in
    packets of their own, a moment before the next: they are no frames.
    """
    if not pts:
        return None
    shown = sorted(pts)
    if hidden and len(shown) > 2:
        least = _median(shown) / 8
        shown = [*(a for a, b in pairwise(shown) if b - a > least), shown[-1]]
    usual, regular = _rhythm(shown, base)
    runs = [position for position, idr in keys if idr]
    rank = {time: n for n, time in enumerate(shown)}
    return {
        "count": len(shown),
        "first": shown[0],
        # A last duration far under the rhythm is a muxer's default, not the file's word.
        "end": shown[-1] + (last_duration if last_duration > usual / 2 else round(usual)),
        "usual_gap": str(usual),
        "regular": regular,
        "max_gap": max((b - a for a, b in pairwise(shown)), default=0),
        "reorder": max((reorder_ticks(pts[a:b]) for a, b in _spans(runs, len(pts))), default=0),
        "damaged": 0,
        "keyframes": [
            [pts[a], rank.get(pts[a], 0), sum(sizes[a:b]), idr]
            for (a, b), (_, idr) in zip(_spans([k for k, _ in keys], len(pts)), keys, strict=True)
        ],
    }


def _spans(starts: list[int], end: int) -> list[tuple[int, int]]:
    return list(pairwise([*starts, end])) if starts else []


def _median(shown: list[int]) -> int:
    gaps = sorted(b - a for a, b in pairwise(shown))
    return gaps[len(gaps) // 2]


def _rhythm(shown: list[int], base: Fraction) -> tuple[Fraction, bool]:
    """(mean of the usual gaps in ticks, whether nine of ten gaps are usual or multiples of it).

    A file that lost some frames still has its rate; one whose gaps follow no beat is variable.
    Usual is what lies within a millisecond or 2 % of the median: containers' clocks are rounded.
    """
    median = _median(shown) if len(shown) > 1 else 0
    if median <= 0:
        return Fraction(0), len(shown) < 2
    slack = max(Fraction(2), Fraction(1, 1000) / base, Fraction(median, 50))
    gaps = Counter(b - a for a, b in pairwise(shown))  # a film has few different ones
    usual = {gap: n for gap, n in gaps.items() if abs(gap - median) <= slack}
    on_beat = sum(
        n for gap, n in gaps.items() if abs(gap - max(1, round(gap / median)) * median) <= slack
    )
    regular = 2 * sum(usual.values()) >= gaps.total() and 10 * on_beat >= 9 * gaps.total()
    return Fraction(sum(gap * n for gap, n in usual.items()), sum(usual.values())), regular


# --- packet by packet ------------------------------------------------------------------------


class _Video:
    def __init__(self, stream: Any) -> None:
        self.reader = _KeyframeReader(stream.codec_context.name, stream.codec_context.extradata)
        self.pts: list[int] = []
        self.sizes: list[int] = []
        self.keys: list[tuple[int, bool]] = []
        self.last_duration = 0
        self.discarded = 0
        self.corrupt = 0

    def take(self, packet: Any) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        if packet.is_discard:
            self.discarded += 1
            return
        self.corrupt += packet.size if packet.is_corrupt else 0
        if packet.is_keyframe:
            self.keys.append((len(self.pts), self.reader.idr(bytes(packet))))
        if not self.pts or time >= max(self.pts[-16:]):
            self.last_duration = packet.duration or 0
        self.pts.append(time)
        self.sizes.append(packet.size)


class _Span:
    """From when to when a stream's packets last."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = 0
        self.last_duration = 0
        self.end = 0
        self.gap = 0
        self.count = 0
        self.steps: list[int] = []  # from a packet without a duration to the next one

    def take(self, packet: Any) -> None:
        if packet.pts is None:
            return
        if self.first is None:
            self.first = packet.pts
        else:
            self.gap = max(self.gap, packet.pts - self.end)
            if not self.last_duration:
                self.steps.append(packet.pts - self.last)
        self.last, self.last_duration = packet.pts, packet.duration or 0
        self.end = max(self.end, self.last + self.last_duration)
        self.count += 1

    def end_s(self, base: Fraction, stated_end_s: Fraction | None) -> Fraction:
        """The end of the last packet.

        Some packets tell no duration (FLAC in AVI, older ALAC in Matroska, odd WMA in ASF). The
        last one then lasts as long as is usual in its stream, but not past the end that the file
        states; to that end where there is no other packet to judge by.
        """
        end_s = self.end * base
        if self.last_duration:
            return end_s
        ends_s = [] if stated_end_s is None else [stated_end_s]
        if self.steps:
            ends_s.append((self.last + sorted(self.steps)[len(self.steps) // 2]) * base)
        return min((later_s for later_s in ends_s if later_s > end_s), default=end_s)

    def facts(self, base: Fraction, stated_end_s: Fraction | None, frame_s: Fraction) -> Json:
        """Its span, and how far its frames, one behind the other, are from it: a hole, or a clock
        that drifts."""
        if self.first is None:
            return {"empty": True}
        span_s = (self.end - self.first) * base
        drift_s = _drift(span_s, self.count * frame_s, frame_s) if frame_s else Fraction(0)
        return {
            "start": str(self.first * base),
            "end": str(self.end_s(base, stated_end_s)),
            "gap": str(max(self.gap * base, drift_s)),
        }


def _stated_end_s(facts: Json) -> Fraction | None:
    """Where the file as a whole ends by its own word."""
    if facts["duration"] is None:
        return None
    return Fraction(facts["start"] or 0) + Fraction(facts["duration"])


def _packets(container: Any) -> Iterator[Any]:
    """Packets until the end or the first unreadable place: what comes before it is still a film."""
    try:
        for packet in container.demux():
            if packet.dts is not None or packet.pts is not None:
                yield packet
    except (av.error.FFmpegError, EOFError):
        return


def _from_packets(facts: Json, container: Any) -> bool:
    """Read every packet; False if that takes too long (many hours of sound, a slow disk), with
    nothing told."""
    deadline = time.monotonic() + SCAN_S
    videos = {stream.index: _Video(stream) for stream in container.streams.video}
    audios = {stream.index: _Span() for stream in container.streams.audio}
    bases = {stream.index: stream.time_base for stream in container.streams}
    for packet in _packets(container):
        number = packet.stream_index
        if number in videos:
            videos[number].take(packet)
        elif number in audios:
            audios[number].take(packet)
        if time.monotonic() > deadline:
            return False
    for number, video in videos.items():
        stream = facts["streams"][number]
        hidden = stream["codec"] in ("vp8", "vp9")
        index = _index(
            video.pts, video.sizes, video.keys, video.last_duration, bases[number], hidden=hidden
        )
        if index is not None:
            index["damaged"] = video.corrupt
        stream["index_table"] = index
        stream["open_edits"] = video.discarded > 0
        stream["foreign_sets"] = video.reader.foreign_sets
    for number, audio in audios.items():
        stream = facts["streams"][number]
        rate, samples = stream["sample_rate"], stream["frame_samples"]
        frame_s = Fraction(samples, rate) if rate else Fraction(0)
        stream |= audio.facts(bases[number], _stated_end_s(facts), frame_s)
    return True


# --- the ends of a large file ------------------------------------------------------------------


def _from_ends(facts: Json, container: Any) -> None:
    """The last packets' times: a cut-off file ends where its packets end, not where it says."""
    duration = container.duration
    if duration is None:
        return
    target = (container.start_time or 0) + duration - TAIL_S * av.time_base
    try:
        container.seek(max(0, target))
    except av.error.FFmpegError:
        return
    spans = {stream.index: _Span() for stream in container.streams}
    bases = {stream.index: stream.time_base for stream in container.streams}
    for packet in _packets(container):
        if packet.stream_index in spans:
            spans[packet.stream_index].take(packet)
    for number, span in spans.items():
        if span.first is not None:
            end_s = span.end_s(bases[number], _stated_end_s(facts))
            facts["streams"][number]["end"] = str(end_s)


# --- the sample tables of a large MP4 ------------------------------------------------------------


def _missing_bytes(path: str, size: int) -> int:
    """By how much the last top box of an MP4 claims to reach beyond the end of the file."""
    at = 0
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a launched program with few imports
            for _ in range(MAX_TOP_BOXES):
                file.seek(at)
                head = header(file.read(16))
                if head is None or at + head[2] <= at:
                    return 0
                at += head[2]
                if at >= size:
                    return at - size
    except (MediaError, OSError):
        pass
    return 0


def _mp4_tables(path: str, size: int) -> tuple[TrackTable, ...]:
    """The tracks of a large progressive MP4, in FFmpeg's stream order; none for anything else."""
    if size <= INDEX_ABOVE_BYTES:
        return ()
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a launched program with few imports
            moov = read_moov(file)
            movie = None if moov is None else read_movie(moov)
    except (MediaError, OSError):
        return ()
    return () if movie is None or movie.fragmented else movie.tracks


def _from_tables(
    facts: Json, streams: list[Any], tracks: tuple[TrackTable, ...], path: str, size: int
) -> None:
    with open(path, "rb") as file:  # noqa: PTH123  # a launched program with few imports
        for number, track in enumerate(tracks[: len(streams)]):
            stream = streams[number]
            try:
                if stream.type == "video" and track.handler == "vide":
                    facts["streams"][number] |= _video_track(track, stream, file, size)
                elif stream.type == "audio" and track.handler == "soun":
                    facts["streams"][number] |= _audio_track(track, stream)
            except MediaError:
                # A table that contradicts itself: the header's word stays, and nothing is copied.
                continue


def _video_track(track: TrackTable, stream: Any, file: BinaryIO, size: int) -> Json:
    samples = track.samples()
    shift = track.shift_ticks
    whole = _whole_samples(samples, size)
    reader = _KeyframeReader(stream.codec_context.name, stream.codec_context.extradata)

    def idr(position: int) -> bool:
        file.seek(samples.offsets[position])
        return reader.idr(file.read(min(samples.sizes[position], KEYFRAME_HEAD_BYTES)))

    offset = round(shift or 0)
    pts = [time + offset for time in samples.pts[:whole]]
    keys = [(position, idr(position)) for position in samples.sync if position < whole]
    last = max(range(whole), key=pts.__getitem__, default=0)
    following = samples.dts[last + 1] if last + 1 < len(samples.dts) else samples.end_dts
    last_duration = following - samples.dts[last] if whole else 0
    base = Fraction(1, track.timescale)
    sizes = list(samples.sizes[:whole])
    index = _index(pts, sizes, keys, last_duration, base, hidden=False)
    if index is not None:
        index["damaged"] = sum(samples.sizes[whole:])
    return {
        "index_table": index,
        "open_edits": shift is None or shift != offset or _cuts_pictures(track, pts, index),
        "foreign_sets": reader.foreign_sets,
    }


def _whole_samples(samples: Samples, size: int) -> int:
    """How many samples, from the first, lie whole inside the file."""
    ends = map(operator.add, samples.offsets, samples.sizes)
    return next((n for n, end in enumerate(ends) if end > size), len(samples.offsets))


def _cuts_pictures(track: TrackTable, pts: list[int], index: Json | None) -> bool:
    """Whether the edit list hides pictures at the start or leaves some out at the end."""
    if index is None or min(pts) < 0:
        return True
    shown = [edit for edit in track.edits if edit.media_ticks >= 0]
    if not shown or shown[0].duration_ticks == 0:
        return False
    empty = sum(edit.duration_ticks for edit in track.edits if edit.media_ticks < 0)
    end_s = Fraction(shown[0].duration_ticks + empty, track.movie_timescale)
    last_shown_s = Fraction(max(pts), track.timescale)
    return last_shown_s >= end_s


_Time = TypeVar("_Time", int, Fraction)


def _drift(lasts: _Time, frames: _Time, frame: _Time) -> _Time:
    """How far a span is from that of its frames; the last of them may be cut short."""
    return lasts - lasts if 0 <= frames - lasts < frame else abs(lasts - frames)


def _audio_track(track: TrackTable, stream: Any) -> Json:
    span = track.span()
    if not span.count:
        return {"empty": True}
    offset = track.shift_ticks or Fraction(0)
    base = Fraction(1, track.timescale)
    frame = stream.codec_context.frame_size or 0
    # A table has no holes but long frames: what exceeds a frame is one.
    excess = span.longest_step - frame
    drift = _drift(span.end_dts, frame * span.count, frame)
    return {
        "start": str((span.first_pts + offset) * base),
        "end": str((span.end_dts + offset) * base),
        "gap": str(max(0, excess, drift) * base if frame else Fraction(0)),
    }


if __name__ == "__main__":
    json.dump(main(sys.argv[1], lambda opened: print(json.dumps(opened), flush=True)), sys.stdout)
