"""Reads subtitles with PyAV inside the sandbox and prints what they say, a line of JSON each.

Run as a program by `subtitling` and `probe` only:

    … source FILE 3,4 0    text tracks 3 and 4, captions in the pictures of track 0
    … file FILE            a file of subtitles

Each line is a list that begins with its kind:

    ["header", track, text]                      the styles of a track (ASS)
    ["cue", track, start_us, end_us, settings, text]   `end_us` null: until the next one
    ["read", time_us]                            how far the file is read, about once a second
    ["moved"]                                    it is read on, also where none of it is asked for
    ["left", track, number]                      so many cues above the limits were left out
    ["cut", track, number]                       so many cues are longer than what is told of them
    ["format", format, encoding, guessed]        of a file of subtitles

A cue's text is an event of ASS, or WebVTT's own where `settings` is a text. Times are on the file's
clock. The file is read once, whatever is asked of it.
"""

from __future__ import annotations

import heapq
import io
import json
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self

import av
from av.stream import Discard

from telecine.engine.formats.captions import caption_bytes
from telecine.engine.formats.textfile import decode, sniff
from telecine.engine.formats.webvtt import MAX_CUES, is_webvtt, parse
from telecine.engine.sandbox import DEMUXERS, MAX_STREAMS

MAX_FILE_BYTES = 8 << 20  # of a file of subtitles: a long film's has 200 kB, a typeset one 4 MB
MAX_HEADER_CHARS = 1 << 18
MAX_TEXT_CHARS = 8_000
TOLD_EVERY_S = 1.0
READ_BYTES = 1 << 18
_REORDERED = 64  # packets: more than any decoder holds back


def main(arguments: list[str]) -> None:
    kind, path, *rest = arguments
    if kind == "file":
        _file(path)
    else:
        texts, captions = ([int(n) for n in word.split(",") if n] for word in rest)
        _source(path, texts, captions)


def _say(*words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")


class _Track:
    """What is told of one track, within its limits."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._count = 0
        self._cut = 0

    def cue(self, start_us: int, end_us: int | None, text: str, settings: str | None) -> None:
        self._count += 1
        if self._count <= MAX_CUES:
            self._cut += len(text) > MAX_TEXT_CHARS
            _say("cue", self.number, start_us, end_us, settings, text[:MAX_TEXT_CHARS])

    def end(self, left: int = 0, cut: int = 0) -> None:
        """`left` were left out before they came here, and `cut` were shortened."""
        left += max(0, self._count - MAX_CUES)
        if left:
            _say("left", self.number, left)
        if cut + self._cut:
            _say("cut", self.number, cut + self._cut)


# --- a film --------------------------------------------------------------------------------------


def _source(path: str, texts: list[int], captions: list[int]) -> None:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(DEMUXERS),
        "max_streams": str(MAX_STREAMS),
    }
    with (
        _File(path) as file,
        av.open(
            file, options=options, metadata_errors="replace", buffer_size=READ_BYTES
        ) as container,
    ):
        readers: dict[int, _Text | _Captions] = {}
        for stream in container.streams:
            if stream.index in texts:
                readers[stream.index] = _Text(stream.codec_context, stream.index)
            elif stream.index in captions:
                readers[stream.index] = _Captions(stream.index)
            else:
                stream.discard = Discard.all  # MP4 need not even read what nobody wants
        _read(container, readers)


class _File:
    """A film that tells that it is read: between two lines of text may lie many gigabytes, of which
    no packet comes out."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115  # closed by __exit__
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        if time.monotonic() - self._told > TOLD_EVERY_S:
            self._told = time.monotonic()
            _say("moved")
            sys.stdout.flush()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _read(container: Any, readers: dict[int, Any]) -> None:
    told = time.monotonic()
    for packet in _packets(container):
        if packet.stream_index in readers:
            readers[packet.stream_index].take(packet)
        if time.monotonic() - told > TOLD_EVERY_S and packet.pts is not None:
            told = time.monotonic()
            _say("read", _microseconds(packet.pts, packet.time_base))
            sys.stdout.flush()
    for reader in readers.values():
        reader.end()


def _packets(container: Any) -> Iterator[Any]:
    """Packets until the end or the first unreadable place."""
    try:
        for packet in container.demux():
            if packet.dts is not None or packet.pts is not None:
                yield packet
    except (av.error.FFmpegError, EOFError):
        return


def _microseconds(ticks: int, base: Fraction) -> int:
    return int(ticks * base * 1_000_000 // 1)


class _Text:
    """A track of text."""

    def __init__(self, context: Any, number: int) -> None:
        self._context = context
        self._track = _Track(number)
        self._headed = False

    def take(self, packet: Any) -> None:
        if packet.pts is None or not packet.size:
            return
        start_us = _microseconds(packet.pts, packet.time_base)
        end_us = None
        if packet.duration:
            end_us = _microseconds(packet.pts + packet.duration, packet.time_base)
        if self._context.name == "webvtt":  # its settings and voices are not in what is decoded
            text = bytes(packet).decode(errors="replace")
            self._track.cue(start_us, end_us, text, _settings(packet))
            return
        for found in _decoded(self._context, packet):
            self._head()
            if self._context.name == "cc_dec":
                self._track.cue(*_caption_times(found), _event(found), None)
            else:
                self._track.cue(start_us, end_us, _event(found), None)

    def _head(self) -> None:
        """Once the decoder is open it knows its styles."""
        header = self._context.subtitle_header
        if not self._headed and header:
            self._headed = True
            _say("header", self._track.number, header.decode(errors="replace")[:MAX_HEADER_CHARS])

    def end(self) -> None:
        if self._context.name == "cc_dec":
            for found in _decoded(self._context, av.Packet()):
                self._track.cue(*_caption_times(found), _event(found), None)
        self._track.end()


def _settings(packet: Any) -> str:
    if not packet.has_sidedata("webvtt_settings"):
        return ""
    return bytes(packet.get_sidedata("webvtt_settings")).decode(errors="replace")


def _decoded(context: Any, packet: Any) -> Iterator[Any]:
    """What one packet shows. A packet that does not decode shows nothing."""
    try:
        found = context.decode2(packet)
    except (av.error.FFmpegError, ValueError):
        return
    if found is not None and found.rects:
        yield found


def _event(found: Any) -> str:
    """All that is shown at once, as one event."""
    events = [rect.ass.decode(errors="replace") for rect in found.rects if hasattr(rect, "ass")]
    first = events[0] if events else ""
    others = [event.split(",", 8)[-1] for event in events[1:]]
    return "\\N".join([first, *others])


def _caption_times(found: Any) -> tuple[int, int | None]:
    """The decoder of captions tells of a text when it goes, with its own times."""
    lasts_ms = found.end_display_time
    end_us = found.pts + lasts_ms * 1000 if 0 < lasts_ms < 1 << 31 else None
    return found.pts, end_us


# --- captions inside pictures --------------------------------------------------------------------


_SILENT_CAPTIONS = b"Scenarist_SCC V1.0\n\n00:00:00:00\t9420\n"


class _Captions:
    """Captions in the pictures of a track, put into the order in which those are shown."""

    def __init__(self, number: int) -> None:
        # A decoder knows the clock of its packets only as a stream's: here that of a file of
        # captions which says nothing, whose clock is milliseconds.
        self._silent = av.open(io.BytesIO(_SILENT_CAPTIONS), format="scc")
        self._context: Any = self._silent.streams[0].codec_context
        self._track = _Track(number)
        self._waiting: list[tuple[int, int, bytes]] = []
        self._headed = False
        self._taken = 0

    def take(self, packet: Any) -> None:
        if packet.pts is None:
            return
        data = caption_bytes(bytes(packet))
        if data:
            at_ms = _microseconds(packet.pts, packet.time_base) // 1000
            self._taken += 1
            heapq.heappush(self._waiting, (at_ms, self._taken, data))
        while len(self._waiting) > _REORDERED:
            self._decode(*heapq.heappop(self._waiting))

    def _decode(self, at_ms: int, _: int, data: bytes) -> None:
        packet = av.Packet(data)
        packet.pts = packet.dts = at_ms
        packet.time_base = Fraction(1, 1000)
        self._tell(packet)

    def _tell(self, packet: Any) -> None:
        for found in _decoded(self._context, packet):
            if not self._headed and self._context.subtitle_header:
                self._headed = True
                header = self._context.subtitle_header.decode(errors="replace")
                _say("header", self._track.number, header[:MAX_HEADER_CHARS])
            self._track.cue(*_caption_times(found), _event(found), None)

    def end(self) -> None:
        while self._waiting:
            self._decode(*heapq.heappop(self._waiting))
        self._tell(av.Packet())
        self._track.end()


# --- a file of subtitles -------------------------------------------------------------------------


def _file(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123  # a launched program with few imports
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        _say("refused", f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return
    text, encoding, guessed = decode(data)
    kind = sniff(text)
    if kind is None:
        _say("refused", "neither SubRip, WebVTT nor ASS")
        return
    _say("format", kind, encoding, guessed)
    if is_webvtt(text):
        track, found = _Track(0), parse(text)
        for cue in found.cues:
            track.cue(cue.start_ms * 1000, cue.end_ms * 1000, cue.text, cue.settings)
        track.end(found.left, found.cut)
        return
    # Without a BOM and with one kind of line end FFmpeg need not guess either.
    clean = io.BytesIO("\n".join(text.splitlines()).encode(errors="replace"))
    with av.open(clean, format=kind, metadata_errors="replace") as container:
        stream = container.streams[0]
        _read(container, {0: _Text(stream.codec_context, 0)})


if __name__ == "__main__":
    main(sys.argv[1:])
