"""Pure: HLS playlists, values to text and text to values (DASH: see `mpd`).

The rules and the words are those of RFC 8216 and its second edition (draft-pantos-hls-rfc8216bis).
What is written leaves nothing to a player's guess; what is read is read strictly, as `verify`
judges by it: an error names the line. Times are exact `Fraction` seconds.

Errors are `StepFailed`: code `malformed_playlist` for text that breaks a rule, `playlist_value` for
a value that no playlist can say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, islice, pairwise
from math import ceil
from typing import Literal, TypeVar, cast

from telecine.engine.errors import StepFailed

PlaylistType = Literal["EVENT", "VOD"]
VideoRange = Literal["SDR", "HLG", "PQ"]
# The ranges that are not SDR, by their transfer as ISO/IEC 23091-2 counts.
HDR_TRANSFERS: dict[VideoRange, int] = {"PQ": 16, "HLG": 18}
MediaType = Literal["AUDIO", "SUBTITLES"]

# EXTINF and durations have microseconds: what is lost there cannot add up, see `_segment_lines`.
_PLACES = 6


# -- the values ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ByteRange:
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class Map:
    """EXT-X-MAP: where the init segment is."""

    uri: str
    byte_range: ByteRange | None = None


KeyMethod = Literal["AES-128", "SAMPLE-AES"]


@dataclass(frozen=True, slots=True)
class Key:
    """EXT-X-KEY: where the key is, in which `format` ("identity": its 16 bytes), and the `iv`, 16
    bytes."""

    method: KeyMethod
    uri: str
    iv: bytes | None = None
    format: str = "identity"


@dataclass(frozen=True, slots=True)
class Segment:
    """`keys` are those that it is encrypted with, one for each format that the key is given in."""

    duration_s: Fraction
    uri: str
    byte_range: ByteRange | None = None
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """One rendition's segments. `target_duration` is whole seconds and never changes while the
    playlist grows; `ended` is EXT-X-ENDLIST."""

    segments: tuple[Segment, ...]
    target_duration: int
    map: Map | None = None
    playlist_type: PlaylistType | None = None
    ended: bool = False
    start_offset_s: Fraction | None = None
    independent_segments: bool = True
    iframes_only: bool = False
    media_sequence: int = 0

    @property
    def version(self) -> int:
        """The lowest protocol version that has everything used here (RFC 8216, section 7)."""
        if self.map is not None:
            return 5 if self.iframes_only else 6
        if any(segment.keys for segment in self.segments):
            return 5
        ranges = any(segment.byte_range is not None for segment in self.segments)
        return 4 if ranges or self.iframes_only else 3

    @property
    def duration_s(self) -> Fraction:
        return sum((segment.duration_s for segment in self.segments), Fraction(0))


@dataclass(frozen=True, slots=True)
class Rendition:
    """EXT-X-MEDIA: an alternative of a group. `channels` is the attribute's text, "2" or "6";
    `characteristics` are identifiers such as "public.accessibility.describes-video"."""

    type: MediaType
    group_id: str
    name: str
    uri: str | None = None
    language: str | None = None
    default: bool = False
    autoselect: bool = False
    forced: bool = False
    channels: str | None = None
    characteristics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF. Bandwidths count every rendition that is played with it; `audio` and
    `subtitles` name groups. `no_closed_captions` is CLOSED-CAPTIONS=NONE, without which players
    read segments in search of captions before they start."""

    uri: str
    bandwidth_bps: int
    codecs: tuple[str, ...]
    average_bandwidth_bps: int | None = None
    resolution: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    video_range: VideoRange = "SDR"
    audio: str | None = None
    subtitles: str | None = None
    no_closed_captions: bool = True


@dataclass(frozen=True, slots=True)
class IFrameStream:
    """EXT-X-I-FRAME-STREAM-INF: a playlist of single pictures, for seeking by eye."""

    uri: str
    bandwidth_bps: int
    codecs: tuple[str, ...]
    average_bandwidth_bps: int | None = None
    resolution: tuple[int, int] | None = None
    video_range: VideoRange = "SDR"


@dataclass(frozen=True, slots=True)
class SessionData:
    """EXT-X-SESSION-DATA: something for the player to know, in a file or as text; one of both."""

    data_id: str  # in reverse DNS, such as "com.apple.hls.chapters"
    uri: str | None = None
    value: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    variants: tuple[Variant, ...]
    renditions: tuple[Rendition, ...] = ()
    iframe_streams: tuple[IFrameStream, ...] = ()
    independent_segments: bool = True
    session_data: tuple[SessionData, ...] = ()

    @property
    def version(self) -> int:
        """Nothing here needs more than 1 by itself; it says what the media playlists need, which
        have fragmented MP4 with EXT-X-MAP."""
        return 6


# -- figures that the specification defines -------------------------------------------------


def target_duration(durations_s: Iterable[Fraction]) -> int:
    """EXT-X-TARGETDURATION: the longest EXTINF, rounded to whole seconds; at least 1."""
    # An EXTINF may be written a microsecond above its duration, see `_segment_lines`.
    return max([1, *(_rounded(_microseconds(duration) + 1) for duration in durations_s)])


def peak_bandwidth_bps(segments: Sequence[tuple[Fraction, int]], target_duration: int) -> int:
    """The peak segment bit rate of (duration in seconds, bytes), rounded up.

    RFC 8216, 4.3.4.2: the largest rate of any run of segments that lasts between 0.5 and 1.5
    target durations. A playlist too short to have such a run has the rate of all of it.
    """
    peak = Fraction(0)
    shortest, longest = Fraction(target_duration, 2), Fraction(3 * target_duration, 2)
    for start in range(len(segments)):
        lasts, size = Fraction(0), 0
        for duration, size_bytes in islice(segments, start, None):
            lasts += duration
            size += size_bytes
            if lasts > longest:
                break
            if lasts >= shortest:
                peak = max(peak, 8 * size / lasts)
    return ceil(peak) if peak else average_bandwidth_bps(segments)


def average_bandwidth_bps(segments: Sequence[tuple[Fraction, int]]) -> int:
    """The mean bit rate of (duration in seconds, bytes), rounded up; 0 for no duration."""
    lasts = sum((duration for duration, _ in segments), Fraction(0))
    size = sum(size_bytes for _, size_bytes in segments)
    return ceil(8 * size / lasts) if lasts else 0


# -- writing --------------------------------------------------------------------------------


def _unwritable(what: str) -> StepFailed:
    return StepFailed(f"no playlist can say {what}", code="playlist_value")


def _microseconds(seconds: Fraction) -> int:
    return round(seconds * 1_000_000)


def _rounded(microseconds: int) -> int:
    """Whole seconds, a half rounded up, as players do with the EXTINF that they read."""
    return (microseconds + 500_000) // 1_000_000


def _decimal(value: Fraction, places: int) -> str:
    """A decimal number with exactly so many places, none of them lost to binary floats."""
    scaled = round(value * 10**places)
    whole, rest = divmod(abs(scaled), 10**places)
    return f"{'-' if scaled < 0 else ''}{whole}.{rest:0{places}d}"


def _short(value: Fraction) -> str:
    """A decimal number in microseconds without zeros at its end."""
    return _decimal(value, _PLACES).rstrip("0").rstrip(".")


def quotable(text: str) -> str:
    """Text of a stranger (a track's title) made fit for a quoted attribute, which has no escapes:
    double quotes become single ones, control characters spaces."""
    return "".join(c if c.isprintable() else " " for c in text).replace('"', "'").strip()


def _quoted(text: str) -> str:
    if '"' in text or _CONTROL.search(text):
        raise _unwritable(f"{text!r} in a quoted string")
    return f'"{text}"'


def _uri_line(uri: str) -> str:
    if not uri or uri.startswith("#") or " " in uri or _CONTROL.search(uri):
        raise _unwritable(f"the URI {uri!r}")
    return uri


def _attributes(*pairs: tuple[str, str | None]) -> str:
    return ",".join(f"{name}={value}" for name, value in pairs if value is not None)


def _quoted_or_none(text: str | None) -> str | None:
    return None if text is None else _quoted(text)


def _stream_attributes(
    stream: Variant | IFrameStream, ranges: bool
) -> list[tuple[str, str | None]]:
    average = stream.average_bandwidth_bps
    size = stream.resolution
    return [
        ("BANDWIDTH", str(stream.bandwidth_bps)),
        ("AVERAGE-BANDWIDTH", None if average is None else str(average)),
        ("CODECS", _quoted(",".join(stream.codecs)) if stream.codecs else None),
        ("RESOLUTION", None if size is None else f"{size[0]}x{size[1]}"),
        ("VIDEO-RANGE", stream.video_range if ranges and size is not None else None),
    ]


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def write_multivariant(playlist: MultivariantPlaylist) -> str:
    """The text of a multivariant playlist, in the given order: a player starts with the first
    variant.

    VIDEO-RANGE is written for all pictures or, where all are SDR, for none (Apple's authoring
    specification, 9.16).

    Raises:
        StepFailed: (code `playlist_value`) a text cannot stand in a quoted string or be a URI.
    """
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{playlist.version}"]
    if playlist.independent_segments:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    for data in playlist.session_data:
        attributes = _attributes(
            ("DATA-ID", _quoted(data.data_id)),
            ("VALUE", _quoted_or_none(data.value)),
            ("URI", None if data.uri is None else _quoted(_uri_line(data.uri))),
            ("LANGUAGE", _quoted_or_none(data.language)),
        )
        lines.append(f"#EXT-X-SESSION-DATA:{attributes}")
    for rendition in playlist.renditions:
        traits = rendition.characteristics
        attributes = _attributes(
            ("TYPE", rendition.type),
            ("GROUP-ID", _quoted(rendition.group_id)),
            ("NAME", _quoted(rendition.name)),
            ("LANGUAGE", _quoted_or_none(rendition.language)),
            ("DEFAULT", _yes(rendition.default)),
            ("AUTOSELECT", _yes(rendition.autoselect)),
            ("FORCED", "YES" if rendition.forced else None),
            ("CHARACTERISTICS", _quoted(",".join(traits)) if traits else None),
            ("CHANNELS", _quoted_or_none(rendition.channels)),
            ("URI", _quoted_or_none(rendition.uri)),
        )
        lines.append(f"#EXT-X-MEDIA:{attributes}")
    streams: list[Variant | IFrameStream] = [*playlist.variants, *playlist.iframe_streams]
    ranges = any(stream.video_range != "SDR" for stream in streams)
    for variant in playlist.variants:
        rate = variant.frame_rate
        attributes = _attributes(
            *_stream_attributes(variant, ranges),
            ("FRAME-RATE", None if rate is None else _decimal(rate, 3)),
            ("AUDIO", _quoted_or_none(variant.audio)),
            ("SUBTITLES", _quoted_or_none(variant.subtitles)),
            ("CLOSED-CAPTIONS", "NONE" if variant.no_closed_captions else None),
        )
        lines += [f"#EXT-X-STREAM-INF:{attributes}", _uri_line(variant.uri)]
    for stream in playlist.iframe_streams:
        attributes = _attributes(
            *_stream_attributes(stream, ranges), ("URI", _quoted(_uri_line(stream.uri)))
        )
        lines.append(f"#EXT-X-I-FRAME-STREAM-INF:{attributes}")
    return "\n".join(lines) + "\n"


def _range(byte_range: ByteRange) -> str:
    return f"{byte_range.length}@{byte_range.offset}"


def _key_line(key: Key) -> str:
    attributes = _attributes(
        ("METHOD", key.method),
        ("URI", _quoted(_uri_line(key.uri))),
        ("IV", None if key.iv is None else f"0x{key.iv.hex()}"),
        ("KEYFORMAT", _quoted(key.format)),
        ("KEYFORMATVERSIONS", _quoted("1")),
    )
    return f"#EXT-X-KEY:{attributes}"


def _segment_lines(segments: Sequence[Segment]) -> Iterator[str]:
    # Each EXTINF is the distance between two rounded moments, so rounding never adds up: the sum
    # of any number of segments is within a microsecond of the truth, and appending changes no line.
    keys: tuple[Key, ...] = ()
    moments = accumulate((segment.duration_s for segment in segments), initial=Fraction(0))
    for segment, (start, end) in zip(segments, pairwise(map(_microseconds, moments)), strict=True):
        if end <= start:
            raise _unwritable(f"a segment of {segment.duration_s} s")
        if segment.keys != keys:
            # A format that comes to an end would need METHOD=NONE, which ends them all.
            if {key.format for key in keys} - {key.format for key in segment.keys}:
                raise _unwritable("that a key has no more to do with a segment")
            yield from map(_key_line, segment.keys)
            keys = segment.keys
        yield f"#EXTINF:{_decimal(Fraction(end - start, 1_000_000), _PLACES)},"
        if segment.byte_range is not None:
            yield f"#EXT-X-BYTERANGE:{_range(segment.byte_range)}"
        yield _uri_line(segment.uri)


def write_media(playlist: MediaPlaylist) -> str:
    """The text of a media playlist.

    With more segments the text only grows at its end (before EXT-X-ENDLIST), as EVENT demands.

    Raises:
        StepFailed: (code `playlist_value`) a segment is longer than the target duration or has no
            duration, or a text cannot be a URI.
    """
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{playlist.version}",
        f"#EXT-X-TARGETDURATION:{playlist.target_duration}",
        f"#EXT-X-MEDIA-SEQUENCE:{playlist.media_sequence}",
    ]
    if playlist.playlist_type is not None:
        lines.append(f"#EXT-X-PLAYLIST-TYPE:{playlist.playlist_type}")
    if playlist.independent_segments:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    if playlist.start_offset_s is not None:
        lines.append(f"#EXT-X-START:TIME-OFFSET={_short(playlist.start_offset_s)}")
    if playlist.iframes_only:
        lines.append("#EXT-X-I-FRAMES-ONLY")
    if playlist.map is not None:
        place = playlist.map.byte_range
        attributes = _attributes(
            ("URI", _quoted(_uri_line(playlist.map.uri))),
            ("BYTERANGE", None if place is None else _quoted(_range(place))),
        )
        lines.append(f"#EXT-X-MAP:{attributes}")
    needed = target_duration(segment.duration_s for segment in playlist.segments)
    if needed > playlist.target_duration:
        raise _unwritable(f"a segment of {needed} s under a target of {playlist.target_duration} s")
    lines += _segment_lines(playlist.segments)
    if playlist.ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


# -- reading --------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]+)(,(?=.)|$)')
_INTEGER = re.compile(r"[0-9]{1,20}")
_FLOAT = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_SIGNED_FLOAT = re.compile(rf"-?{_FLOAT.pattern}")
_RESOLUTION = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_BYTE_RANGE = re.compile(r"([0-9]{1,20})(?:@([0-9]{1,20}))?")

_MULTIVARIANT_TAGS = frozenset(
    [
        "#EXT-X-MEDIA",
        "#EXT-X-STREAM-INF",
        "#EXT-X-I-FRAME-STREAM-INF",
        "#EXT-X-SESSION-DATA",
    ]
)
_MEDIA_TAGS = frozenset(
    [
        "#EXTINF",
        "#EXT-X-BYTERANGE",
        "#EXT-X-TARGETDURATION",
        "#EXT-X-MEDIA-SEQUENCE",
        "#EXT-X-PLAYLIST-TYPE",
        "#EXT-X-I-FRAMES-ONLY",
        "#EXT-X-KEY",
        "#EXT-X-MAP",
        "#EXT-X-ENDLIST",
    ]
)
# Unknown tags are to be passed over; these mean something that the values here cannot hold.
_UNSUPPORTED_TAGS = frozenset(
    [
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-DISCONTINUITY-SEQUENCE",
        "#EXT-X-SESSION-KEY",
        "#EXT-X-GAP",
        "#EXT-X-DEFINE",
        "#EXT-X-SKIP",
        "#EXT-X-PART",
    ]
)
_REPEATED_TAGS = _MULTIVARIANT_TAGS | {"#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-KEY"}


@dataclass(frozen=True, slots=True)
class _Line:
    """A tag with its value ("" without one), or a URI (`tag` is "")."""

    number: int
    tag: str
    value: str

    def wrong(self, what: str) -> StepFailed:
        return StepFailed(f"line {self.number}: {what}", code="malformed_playlist")

    def integer(self) -> int:
        return _integer(self, self.tag, self.value)

    def attributes(self) -> _Attributes:
        found: dict[str, str] = {}
        at = 0
        while at < len(self.value) or not found:
            match = _ATTRIBUTE.match(self.value, at)
            if match is None:
                raise self.wrong(f"{self.tag} has no attribute list at {self.value[at:]!r}")
            name, value, _ = match.groups()
            if name in found:
                raise self.wrong(f"{name} stands twice")
            found[name] = value
            at = match.end()
        return _Attributes(self, found)


def _integer(line: _Line, name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text) or int(text) >= 1 << 64:
        raise line.wrong(f"{name} is no decimal integer: {text!r}")
    return int(text)


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Attributes:
    line: _Line
    found: dict[str, str]

    def needed(self, name: str, value: _Value | None) -> _Value:
        if value is None:
            raise self.line.wrong(f"{self.line.tag} has no {name}")
        return value

    def quoted(self, name: str) -> str | None:
        text = self.found.get(name)
        if text is not None and not text.startswith('"'):
            raise self.line.wrong(f"{name} is no quoted string: {text!r}")
        return None if text is None else text[1:-1]

    def one_of(self, name: str, *allowed: str) -> str | None:
        text = self.found.get(name)
        if text is not None and text not in allowed:
            raise self.line.wrong(f"{name} is none of {', '.join(allowed)}: {text!r}")
        return text

    def integer(self, name: str) -> int | None:
        text = self.found.get(name)
        return None if text is None else _integer(self.line, name, text)

    def number(self, name: str, pattern: re.Pattern[str] = _FLOAT) -> Fraction | None:
        text = self.found.get(name)
        if text is not None and not pattern.fullmatch(text):
            raise self.line.wrong(f"{name} is no decimal number: {text!r}")
        return None if text is None else Fraction(text)

    def sixteen_bytes(self, name: str) -> bytes | None:
        text = self.found.get(name)
        match = _HEX.fullmatch(text) if text is not None else None
        if text is not None and match is None:
            raise self.line.wrong(f"{name} is no 0x and 32 hex digits: {text!r}")
        return bytes.fromhex(match[1]) if match else None

    def resolution(self) -> tuple[int, int] | None:
        text = self.found.get("RESOLUTION")
        match = _RESOLUTION.fullmatch(text) if text is not None else None
        if text is not None and match is None:
            raise self.line.wrong(f"RESOLUTION is no size: {text!r}")
        return (int(match[1]), int(match[2])) if match else None

    def listed(self, name: str) -> tuple[str, ...]:
        text = self.quoted(name)
        return tuple(text.split(",")) if text else ()

    def video_range(self) -> VideoRange:
        return cast(VideoRange, self.one_of("VIDEO-RANGE", "SDR", "HLG", "PQ") or "SDR")


def _byte_range(line: _Line, text: str, follows: int | None) -> ByteRange:
    match = _BYTE_RANGE.fullmatch(text)
    if match is None:
        raise line.wrong(f"no byte range: {text!r}")
    if match[2] is None and follows is None:
        raise line.wrong("a byte range without an offset follows no other of its resource")
    return ByteRange(int(match[1]), int(match[2]) if match[2] is not None else cast(int, follows))


def _lines(text: str, foreign: frozenset[str], other: str) -> list[_Line]:
    """The lines that mean something, once the rules for all playlists hold."""
    rows = text.split("\n")
    if rows[0].rstrip("\r") != "#EXTM3U":
        raise _Line(1, "", rows[0]).wrong("is not #EXTM3U")
    seen: set[str] = set()
    lines = []
    for number, row in enumerate(rows[1:], start=2):
        row = row.removesuffix("\r")
        if _CONTROL.search(row):
            raise _Line(number, "", row).wrong("a control character")
        if not row.strip() or (row.startswith("#") and not row.startswith("#EXT")):
            continue
        tag, _, value = row.partition(":") if row.startswith("#") else ("", "", row)
        line = _Line(number, tag, value)
        if not tag and " " in value:
            raise line.wrong(f"a URI with a space: {value!r}")
        if tag in foreign:
            raise line.wrong(f"{tag} does not belong into a {other} playlist")
        if tag in _UNSUPPORTED_TAGS:
            raise line.wrong(f"{tag} is not supported")
        if tag in seen and tag not in _REPEATED_TAGS:
            raise line.wrong(f"{tag} stands twice")
        if tag:
            seen.add(tag)
        lines.append(line)
    return lines


def parse_multivariant(text: str) -> MultivariantPlaylist:
    """Read a multivariant playlist.

    Raises:
        StepFailed: (code `malformed_playlist`) naming the line that breaks a rule of RFC 8216,
            4.1–4.3.4, or uses what the values here cannot hold (session keys, caption groups).
    """
    variants: list[tuple[_Line, Variant]] = []
    renditions: list[Rendition] = []
    iframe_streams = []
    session_data: list[SessionData] = []
    independent = False
    pending: _Attributes | None = None
    for line in _lines(text, _MEDIA_TAGS, "multivariant"):
        if pending is not None and line.tag:
            raise line.wrong("EXT-X-STREAM-INF is not followed by a URI")
        if not line.tag:
            if pending is None:
                raise line.wrong(f"a URI without EXT-X-STREAM-INF: {line.value!r}")
            variants.append((pending.line, _variant(pending, line.value)))
            pending = None
        elif line.tag == "#EXT-X-VERSION":
            line.integer()
        elif line.tag == "#EXT-X-INDEPENDENT-SEGMENTS":
            independent = True
        elif line.tag == "#EXT-X-MEDIA":
            renditions.append(_rendition(line.attributes(), renditions))
        elif line.tag == "#EXT-X-STREAM-INF":
            pending = line.attributes()
        elif line.tag == "#EXT-X-I-FRAME-STREAM-INF":
            iframe_streams.append(_iframe_stream(line.attributes()))
        elif line.tag == "#EXT-X-SESSION-DATA":
            session_data.append(_session_data(line.attributes(), session_data))
    if pending is not None:
        raise pending.line.wrong("EXT-X-STREAM-INF is not followed by a URI")
    groups = {(rendition.type, rendition.group_id) for rendition in renditions}
    for line, variant in variants:
        for kind, group in (("AUDIO", variant.audio), ("SUBTITLES", variant.subtitles)):
            if group is not None and (kind, group) not in groups:
                raise line.wrong(f"{kind} names the group {group!r}, which has no EXT-X-MEDIA")
        if variant.no_closed_captions != variants[0][1].no_closed_captions:
            raise line.wrong("CLOSED-CAPTIONS=NONE must stand on all variants or on none")
    return MultivariantPlaylist(
        tuple(variant for _, variant in variants),
        tuple(renditions),
        tuple(iframe_streams),
        independent,
        tuple(session_data),
    )


def _variant(attributes: _Attributes, uri: str) -> Variant:
    captions = attributes.one_of("CLOSED-CAPTIONS", "NONE")
    return Variant(
        uri=uri,
        bandwidth_bps=attributes.needed("BANDWIDTH", attributes.integer("BANDWIDTH")),
        codecs=attributes.listed("CODECS"),
        average_bandwidth_bps=attributes.integer("AVERAGE-BANDWIDTH"),
        resolution=attributes.resolution(),
        frame_rate=attributes.number("FRAME-RATE"),
        video_range=attributes.video_range(),
        audio=attributes.quoted("AUDIO"),
        subtitles=attributes.quoted("SUBTITLES"),
        no_closed_captions=captions is not None,
    )


def _iframe_stream(attributes: _Attributes) -> IFrameStream:
    return IFrameStream(
        uri=attributes.needed("URI", attributes.quoted("URI")),
        bandwidth_bps=attributes.needed("BANDWIDTH", attributes.integer("BANDWIDTH")),
        codecs=attributes.listed("CODECS"),
        average_bandwidth_bps=attributes.integer("AVERAGE-BANDWIDTH"),
        resolution=attributes.resolution(),
        video_range=attributes.video_range(),
    )


def _session_data(attributes: _Attributes, before: Sequence[SessionData]) -> SessionData:
    data = SessionData(
        data_id=attributes.needed("DATA-ID", attributes.quoted("DATA-ID")),
        uri=attributes.quoted("URI"),
        value=attributes.quoted("VALUE"),
        language=attributes.quoted("LANGUAGE"),
    )
    if (data.uri is None) == (data.value is None):
        raise attributes.line.wrong("EXT-X-SESSION-DATA has one of VALUE and URI")
    if any((one.data_id, one.language) == (data.data_id, data.language) for one in before):
        raise attributes.line.wrong(f"{data.data_id!r} stands twice in one language")
    return data


def _rendition(attributes: _Attributes, before: Sequence[Rendition]) -> Rendition:
    kind = attributes.needed("TYPE", attributes.one_of("TYPE", "AUDIO", "SUBTITLES"))
    rendition = Rendition(
        type=cast(MediaType, kind),
        group_id=attributes.needed("GROUP-ID", attributes.quoted("GROUP-ID")),
        name=attributes.needed("NAME", attributes.quoted("NAME")),
        uri=attributes.quoted("URI"),
        language=attributes.quoted("LANGUAGE"),
        default=attributes.one_of("DEFAULT", "YES", "NO") == "YES",
        autoselect=attributes.one_of("AUTOSELECT", "YES", "NO") == "YES",
        forced=attributes.one_of("FORCED", "YES", "NO") == "YES",
        channels=attributes.quoted("CHANNELS"),
        characteristics=attributes.listed("CHARACTERISTICS"),
    )
    line = attributes.line
    group = [r for r in before if (r.type, r.group_id) == (rendition.type, rendition.group_id)]
    if rendition.default and attributes.found.get("AUTOSELECT") == "NO":
        raise line.wrong("DEFAULT=YES with AUTOSELECT=NO")
    if any(other.name == rendition.name for other in group):
        raise line.wrong(f"NAME {rendition.name!r} stands twice in its group")
    if rendition.default and any(other.default for other in group):
        raise line.wrong("a second DEFAULT=YES in its group")
    if rendition.type == "SUBTITLES" and rendition.uri is None:
        raise line.wrong("EXT-X-MEDIA of SUBTITLES has no URI")
    if rendition.forced and rendition.type != "SUBTITLES":
        raise line.wrong("FORCED belongs to SUBTITLES")
    return rendition


@dataclass(slots=True)
class _MediaState:
    """What stands before the URI that is read next."""

    extinf: tuple[_Line, Fraction] | None = None
    byte_range: tuple[_Line, str] | None = None
    range_end: tuple[str, int] | None = None  # resource, and where its last range ended
    segments: list[Segment] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)  # the EXTINF of each segment
    keys: dict[str, Key] = field(default_factory=dict)  # by their format


def _take_segment(state: _MediaState, line: _Line) -> None:
    if state.extinf is None:
        raise line.wrong(f"a URI without EXTINF: {line.value!r}")
    extinf, duration = state.extinf
    place = None
    if state.byte_range is not None:
        range_line, text = state.byte_range
        uri, end = state.range_end or ("", 0)
        place = _byte_range(range_line, text, end if uri == line.value else None)
        state.range_end = (line.value, place.offset + place.length)
    else:
        state.range_end = None
    state.segments.append(Segment(duration, line.value, place, tuple(state.keys.values())))
    state.lines.append(extinf)
    state.extinf = state.byte_range = None


def _extinf(line: _Line) -> Fraction:
    duration, comma, _ = line.value.partition(",")
    if not comma or not _FLOAT.fullmatch(duration):
        raise line.wrong(f"EXTINF is no duration with a comma: {line.value!r}")
    return Fraction(duration)


_HEX = re.compile(r"0[xX]([0-9A-Fa-f]{32})")


def _key(line: _Line) -> Key | None:
    """None: nothing is encrypted from here on."""
    attributes = line.attributes()
    method = attributes.needed(
        "METHOD", attributes.one_of("METHOD", "NONE", "AES-128", "SAMPLE-AES")
    )
    if method == "NONE":
        return None
    return Key(
        method=cast(KeyMethod, method),
        uri=attributes.needed("URI", attributes.quoted("URI")),
        iv=attributes.sixteen_bytes("IV"),
        format=attributes.quoted("KEYFORMAT") or "identity",
    )


def _take_key(state: _MediaState, line: _Line, *, mapped: bool) -> None:
    key = _key(line)
    if key is None:
        state.keys = {}
        return
    if key.method == "AES-128" and not mapped:
        raise line.wrong("EXT-X-KEY before EXT-X-MAP, which would be encrypted: not supported")
    state.keys = {**state.keys, key.format: key}


def _map(line: _Line) -> Map:
    attributes = line.attributes()
    place = attributes.quoted("BYTERANGE")
    return Map(
        attributes.needed("URI", attributes.quoted("URI")),
        None if place is None else _byte_range(line, place, 0),
    )


def parse_media(text: str) -> MediaPlaylist:
    """Read a media playlist.

    Raises:
        StepFailed: (code `malformed_playlist`) naming the line that breaks a rule of RFC 8216,
            4.1–4.3.3 (a version that is too low for what is used, an EXTINF above the target
            duration), or uses what the values here cannot hold (a second EXT-X-MAP, one that is
            encrypted, a discontinuity).
    """
    state = _MediaState()
    heads: dict[str, _Line] = {}
    for line in _lines(text, _MULTIVARIANT_TAGS, "media"):
        if not line.tag:
            _take_segment(state, line)
        elif line.tag == "#EXTINF":
            if state.extinf is not None:
                raise line.wrong("EXTINF is not followed by a URI")
            state.extinf = (line, _extinf(line))
        elif line.tag == "#EXT-X-BYTERANGE":
            if state.byte_range is not None:
                raise line.wrong("EXT-X-BYTERANGE is not followed by a URI")
            state.byte_range = (line, line.value)
        elif line.tag == "#EXT-X-KEY":
            _take_key(state, line, mapped="#EXT-X-MAP" in heads)
        else:
            if state.segments and line.tag in ("#EXT-X-MAP", "#EXT-X-MEDIA-SEQUENCE"):
                raise line.wrong(f"{line.tag} stands behind the first segment")
            heads[line.tag] = line
    for left in (state.extinf, state.byte_range):
        if left is not None:
            raise left[0].wrong(f"{left[0].tag} is not followed by a URI")
    if "#EXT-X-TARGETDURATION" not in heads:
        raise _Line(1, "", "").wrong("a media playlist without EXT-X-TARGETDURATION")

    def head(tag: str, read: Callable[[_Line], _Value]) -> _Value | None:
        return read(heads[tag]) if tag in heads else None

    playlist = MediaPlaylist(
        segments=tuple(state.segments),
        target_duration=heads["#EXT-X-TARGETDURATION"].integer(),
        map=head("#EXT-X-MAP", _map),
        playlist_type=head("#EXT-X-PLAYLIST-TYPE", _playlist_type),
        ended="#EXT-X-ENDLIST" in heads,
        start_offset_s=head("#EXT-X-START", _start_offset),
        independent_segments="#EXT-X-INDEPENDENT-SEGMENTS" in heads,
        iframes_only="#EXT-X-I-FRAMES-ONLY" in heads,
        media_sequence=head("#EXT-X-MEDIA-SEQUENCE", _Line.integer) or 0,
    )
    version = heads.get("#EXT-X-VERSION", _Line(1, "#EXT-X-VERSION", "1"))
    whole = playlist.version == 3 and all("." not in line.value for line in state.lines)
    needed = 1 if whole else playlist.version
    if version.integer() < needed:
        raise version.wrong(f"version {version.value}; what is used needs {needed}")
    for line, segment in zip(state.lines, playlist.segments, strict=True):
        if _rounded(_microseconds(segment.duration_s)) > playlist.target_duration:
            raise line.wrong(f"{line.value} is above the target of {playlist.target_duration} s")
    return playlist


def _playlist_type(line: _Line) -> PlaylistType:
    if line.value not in ("EVENT", "VOD"):
        raise line.wrong(f"EXT-X-PLAYLIST-TYPE is none of EVENT, VOD: {line.value!r}")
    return cast(PlaylistType, line.value)


def _start_offset(line: _Line) -> Fraction:
    attributes = line.attributes()
    return attributes.needed("TIME-OFFSET", attributes.number("TIME-OFFSET", _SIGNED_FLOAT))
