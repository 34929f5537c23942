"""Pure: the DASH MPD, values to text and text to values (HLS: see `playlist`).

The rules and the words are those of ISO/IEC 23009-1. Only what CMAF segments on demand need: a
static presentation of one period, whose representations have numbered segments with an exact
timeline. What is read is read strictly, as `verify` judges by it: an error names the line.

Errors are `StepFailed`: code `malformed_mpd` for text that breaks a rule, `mpd_value` for a value
that no MPD can say.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, groupby
from typing import Literal, cast
from xml.etree import ElementTree
from xml.parsers import expat

from telecine.engine.errors import StepFailed
from telecine.engine.formats.cenc import pssh

ContentType = Literal["video", "audio", "text"]

_MPD_NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
# Numbered segments with a timeline are the "live" profile, also where nothing is live.
_PROFILES = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019"
_TRANSFER_SCHEME = "urn:mpeg:mpegB:cicp:TransferCharacteristics"
_CHANNEL_SCHEME = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
# ISO/IEC 23003-3 channel configurations by the number of channels, where that decides them.
_CHANNEL_CONFIGURATIONS = {1: "1", 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "11", 8: "12"}
_MAX_SEGMENTS = 1_000_000
_PROTECTION_SCHEME = "urn:mpeg:dash:mp4protection:2011"
_CENC_NAMESPACE = "urn:mpeg:cenc:2013"
# https://www.w3.org/TR/eme-initdata-cenc/: says of any key system that the key's number stands in
# `cenc:pssh`; dash.js asks for it.
_COMMON_SYSTEM = "urn:uuid:1077efec-c0b2-4d02-ace3-3c1e52e2fb4b"


@dataclass(frozen=True, slots=True)
class SegmentTemplate:
    """Names by number, times by an exact timeline. `media` has `$Number%05d$` in it; times are in
    `timescale`. Segment i starts where segment i-1 ended, the first one at `start_ticks`."""

    timescale: int
    initialization: str
    media: str
    durations_ticks: tuple[int, ...]
    start_ticks: int = 0
    start_number: int = 1
    presentation_offset_ticks: int = 0

    def uris(self, representation: Representation) -> list[str]:
        """The URI of every segment, identifiers put in (23009-1, 5.3.9.4.4).

        Raises:
            StepFailed: (code `malformed_mpd`) the template is not one.
        """
        times = accumulate(self.durations_ticks[:-1], initial=self.start_ticks)
        return [
            _fill(self.media, representation, self.start_number + n, time)
            for n, (time, _) in enumerate(zip(times, self.durations_ticks, strict=False))
        ]

    def initialization_uri(self, representation: Representation) -> str:
        """The URI of the init segment.

        Raises:
            StepFailed: (code `malformed_mpd`) the template is not one, or counts segments.
        """
        return _fill(self.initialization, representation, None, None)


@dataclass(frozen=True, slots=True)
class Representation:
    id: str
    bandwidth_bps: int
    codecs: str
    template: SegmentTemplate
    width: int | None = None
    height: int | None = None
    frame_rate: Fraction | None = None
    sar: Fraction | None = None
    audio_sampling_rate: int | None = None  # Hz
    channels: int | None = None


# Whom a set is for, by the scheme of each (DASH-IF IOP part 7, 5.2 and the DVB profile, 4.4): the
# purposes of sound are those of the TV-Anytime classification.
Accessibility = Literal["description"]
_PURPOSE_SCHEME = "urn:tva:metadata:cs:AudioPurposeCS:2007"
_PURPOSES: dict[Accessibility, str] = {"description": "1"}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A representation that is one file beside the segments (23009-1, 5.3.9.2 without an index)."""

    id: str
    bandwidth_bps: int
    url: str


@dataclass(frozen=True, slots=True)
class ContentProtection:
    """How samples are encrypted (23009-1, 5.8.4.1, 23001-7, 11.2): the scheme, and the number of
    the key, 16 bytes."""

    scheme: str
    key_id: bytes


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    content_type: ContentType
    mime_type: str
    representations: tuple[Representation, ...]
    lang: str | None = None
    role: str = "main"
    transfer: int | None = None  # of HDR pictures, as ISO/IEC 23091-2 counts: 16 is PQ, 18 HLG
    label: str | None = None  # what a player's menu shows
    accessibility: Accessibility | None = None
    files: tuple[TextFile, ...] = ()  # of text, instead of representations
    protection: ContentProtection | None = None


@dataclass(frozen=True, slots=True)
class MPD:
    """A static presentation of one period."""

    duration_s: Fraction
    min_buffer_s: Fraction
    adaptation_sets: tuple[AdaptationSet, ...]


_IDENTIFIER = re.compile(r"\$(?:(RepresentationID|Number|Bandwidth|Time)(?:%0([0-9])d)?)?\$")


def _fill(
    template: str, representation: Representation, number: int | None, time: int | None
) -> str:
    values = {
        "RepresentationID": representation.id,
        "Bandwidth": representation.bandwidth_bps,
        "Number": number,
        "Time": time,
    }

    def replaced(match: re.Match[str]) -> str:
        name, width = match.groups()
        if name is None:
            return "$"
        value = values[name]
        if value is None or (width and isinstance(value, str)):
            raise StepFailed(
                f"{match[0]} has no place in the template {template!r}", code="malformed_mpd"
            )
        return f"{value:0{width}d}" if width else str(value)

    if "$" in _IDENTIFIER.sub("", template):
        raise StepFailed(f"a stray $ in the template {template!r}", code="malformed_mpd")
    return _IDENTIFIER.sub(replaced, template)


# -- writing -------------------------------------------------------------------------------


def _texts(**attributes: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in attributes.items() if value is not None}


def _duration(seconds: Fraction) -> str:
    """xs:duration to the microsecond."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"PT{whole}.{rest:06d}".rstrip("0").rstrip(".") + "S"


def write_mpd(mpd: MPD) -> str:
    """The text of a static MPD: every representation has its own SegmentTemplate and timeline.

    Raises:
        StepFailed: (code `mpd_value`) a text has characters that XML cannot hold.
    """
    longest = max(
        (
            Fraction(duration, representation.template.timescale)
            for adaptation in mpd.adaptation_sets
            for representation in adaptation.representations
            for duration in representation.template.durations_ticks
        ),
        default=Fraction(0),
    )
    root = ElementTree.Element(
        "MPD",
        _texts(
            xmlns=_MPD_NAMESPACE,
            profiles=_PROFILES,
            type="static",
            mediaPresentationDuration=_duration(mpd.duration_s),
            maxSegmentDuration=_duration(longest),
            minBufferTime=_duration(mpd.min_buffer_s),
        ),
    )
    if any(adaptation.protection is not None for adaptation in mpd.adaptation_sets):
        root.set("xmlns:cenc", _CENC_NAMESPACE)
    period = ElementTree.SubElement(root, "Period", _texts(id="0", start="PT0S"))
    for number, adaptation in enumerate(mpd.adaptation_sets):
        _write_adaptation_set(period, number, adaptation)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]", text):
        raise StepFailed("no MPD can hold a control character", code="mpd_value")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _write_adaptation_set(
    period: ElementTree.Element, number: int, adaptation: AdaptationSet
) -> None:
    element = ElementTree.SubElement(
        period,
        "AdaptationSet",
        _texts(
            id=number,
            contentType=adaptation.content_type,
            mimeType=adaptation.mime_type,
            lang=adaptation.lang,
            segmentAlignment="true" if adaptation.representations else None,
            startWithSAP=1 if adaptation.representations else None,
        ),
    )
    if adaptation.protection is not None:
        _write_protection(element, adaptation.protection)
    if adaptation.transfer is not None:
        # Essential: a player that cannot show it must not choose it (DASH-IF IOP part 7, 5.4).
        transfer = _texts(schemeIdUri=_TRANSFER_SCHEME, value=adaptation.transfer)
        ElementTree.SubElement(element, "EssentialProperty", transfer)
    # In the order of the schema: its name, whom it is for, what it is (5.3.3.3).
    if adaptation.label is not None:
        ElementTree.SubElement(element, "Label").text = adaptation.label
    if adaptation.accessibility is not None:
        purpose = _texts(schemeIdUri=_PURPOSE_SCHEME, value=_PURPOSES[adaptation.accessibility])
        ElementTree.SubElement(element, "Accessibility", purpose)
    role = _texts(schemeIdUri="urn:mpeg:dash:role:2011", value=adaptation.role)
    ElementTree.SubElement(element, "Role", role)
    for representation in adaptation.representations:
        _write_representation(element, representation)
    for file in adaptation.files:
        words = _texts(id=file.id, bandwidth=file.bandwidth_bps)
        item = ElementTree.SubElement(element, "Representation", words)
        ElementTree.SubElement(item, "BaseURL").text = file.url


def _write_protection(parent: ElementTree.Element, protection: ContentProtection) -> None:
    words = _texts(schemeIdUri=_PROTECTION_SCHEME, value=protection.scheme)
    words["cenc:default_KID"] = str(uuid.UUID(bytes=protection.key_id))
    ElementTree.SubElement(parent, "ContentProtection", words)
    system = ElementTree.SubElement(parent, "ContentProtection", _texts(schemeIdUri=_COMMON_SYSTEM))
    head = base64.b64encode(pssh(protection.key_id)).decode()
    ElementTree.SubElement(system, "cenc:pssh").text = head


def _write_representation(parent: ElementTree.Element, representation: Representation) -> None:
    rate, sar = representation.frame_rate, representation.sar
    element = ElementTree.SubElement(
        parent,
        "Representation",
        _texts(
            id=representation.id,
            bandwidth=representation.bandwidth_bps,
            codecs=representation.codecs,
            width=representation.width,
            height=representation.height,
            frameRate=rate if rate is None else str(rate),  # "24", "24000/1001"
            sar=sar if sar is None else f"{sar.numerator}:{sar.denominator}",
            audioSamplingRate=representation.audio_sampling_rate,
        ),
    )
    configuration = _CHANNEL_CONFIGURATIONS.get(representation.channels or 0)
    if configuration is not None:
        channels = _texts(schemeIdUri=_CHANNEL_SCHEME, value=configuration)
        ElementTree.SubElement(element, "AudioChannelConfiguration", channels)
    template = representation.template
    segments = ElementTree.SubElement(
        element,
        "SegmentTemplate",
        _texts(
            timescale=template.timescale,
            presentationTimeOffset=template.presentation_offset_ticks or None,
            startNumber=template.start_number,
            initialization=template.initialization,
            media=template.media,
        ),
    )
    timeline = ElementTree.SubElement(segments, "SegmentTimeline")
    start: int | None = template.start_ticks
    for duration, run in groupby(template.durations_ticks):
        repeats = len(list(run)) - 1
        ElementTree.SubElement(timeline, "S", _texts(t=start, d=duration, r=repeats or None))
        start = None  # only the first one says where it starts


# -- reading -------------------------------------------------------------------------------


_INTEGER = re.compile(r"[0-9]{1,20}")
_DURATION = re.compile(
    r"PT(?=.)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,20}(?:\.[0-9]{1,20})?)S)?"
)


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    line: int
    children: list[_Element] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # the text inside it, in pieces

    def wrong(self, what: str) -> StepFailed:
        return StepFailed(f"line {self.line}: {self.name} {what}", code="malformed_mpd")

    def text(self, name: str) -> str:
        if name not in self.attributes:
            raise self.wrong(f"has no {name}")
        return self.attributes[name]

    def integer(self, name: str, default: int | None = None) -> int:
        text = self.attributes.get(name) if default is not None else self.text(name)
        if text is None:
            return cast(int, default)
        if not _INTEGER.fullmatch(text):
            raise self.wrong(f"has {name}={text!r}, which is no whole number")
        return int(text)

    def optional_integer(self, name: str) -> int | None:
        return self.integer(name) if name in self.attributes else None

    def ratio(self, name: str, sign: str) -> Fraction | None:
        text = self.attributes.get(name)
        if text is None:
            return None
        over, _, under = text.partition(sign)
        if not _INTEGER.fullmatch(over) or not _INTEGER.fullmatch(under or "1"):
            raise self.wrong(f"has {name}={text!r}, which is no ratio")
        if int(under or "1") == 0:
            raise self.wrong(f"has {name}={text!r}, which divides by zero")
        return Fraction(int(over), int(under or "1"))

    def seconds(self, name: str) -> Fraction:
        match = _DURATION.fullmatch(self.text(name))
        if match is None:
            raise self.wrong(f"has {name}={self.text(name)!r}, which is no duration")
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return 3600 * hours + 60 * minutes + seconds

    def only(self, *names: str) -> None:
        for child in self.children:
            if child.name not in names:
                raise child.wrong(f"is not supported inside {self.name}")

    def all(self, name: str) -> list[_Element]:
        return [child for child in self.children if child.name == name]

    def one(self, name: str) -> _Element:
        found = self.all(name)
        if len(found) != 1:
            raise self.wrong(f"has {len(found)} {name}")
        return found[0]


def _tree(text: str) -> _Element:
    """The elements with their lines. A document type is refused before anything in it is read, so
    no entity is ever expanded; namespaces other than the MPD's stay in the names."""
    document = _Element("document", {}, 0)
    path = [document]
    parser = expat.ParserCreate("UTF-8", " ")

    def start(name: str, attributes: dict[str, str]) -> None:
        element = _Element(
            name.removeprefix(f"{_MPD_NAMESPACE} "), attributes, parser.CurrentLineNumber
        )
        path[-1].children.append(element)
        path.append(element)

    def end(_name: str) -> None:
        path.pop()

    def refuse(*_declaration: object) -> None:
        line = parser.CurrentLineNumber
        raise StepFailed(f"line {line}: a document type", code="malformed_mpd")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: path[-1].words.append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(errors="replace"), True)
    except expat.ExpatError as error:
        message = expat.ErrorString(error.code)
        raise StepFailed(f"line {error.lineno}: {message}", code="malformed_mpd") from None
    return document


def parse_mpd(text: str) -> MPD:
    """Read a static MPD of one period whose representations each have a SegmentTemplate with a
    SegmentTimeline.

    Raises:
        StepFailed: (code `malformed_mpd`) naming the line: no well-formed XML, a document
            type, a missing or wrong attribute, a hole in a timeline, or an element that the values
            here cannot hold.
    """
    root = _tree(text).one("MPD")
    if root.attributes.get("type", "static") != "static":
        raise root.wrong("is not static")
    root.only("Period")
    period = root.one("Period")
    period.only("AdaptationSet")
    return MPD(
        duration_s=root.seconds("mediaPresentationDuration"),
        min_buffer_s=root.seconds("minBufferTime"),
        adaptation_sets=tuple(_parse_adaptation_set(item) for item in period.children),
    )


def _parse_adaptation_set(element: _Element) -> AdaptationSet:
    element.only(
        *("ContentProtection", "EssentialProperty", "Accessibility", "Role", "Label"),
        "Representation",
    )
    content_type = element.text("contentType")
    if content_type not in ("video", "audio", "text"):
        raise element.wrong(f"has contentType={content_type!r}")
    items = [(item, bool(item.all("BaseURL"))) for item in element.all("Representation")]
    return AdaptationSet(
        content_type=cast(ContentType, content_type),
        mime_type=element.text("mimeType"),
        lang=element.attributes.get("lang"),
        role=element.one("Role").text("value"),
        transfer=next(map(_parse_transfer, element.all("EssentialProperty")), None),
        label=next(("".join(label.words) for label in element.all("Label")), None),
        accessibility=next(map(_parse_accessibility, element.all("Accessibility")), None),
        representations=tuple(_parse_representation(r) for r, file in items if not file),
        files=tuple(_parse_file(r) for r, file in items if file),
        protection=_parse_protection(element),
    )


def _parse_protection(element: _Element) -> ContentProtection | None:
    """What stands there for certain systems is passed over: it says the same once more."""
    found = [
        item
        for item in element.all("ContentProtection")
        if item.text("schemeIdUri") == _PROTECTION_SCHEME
    ]
    if not found:
        return None
    number = found[0].text(f"{_CENC_NAMESPACE} default_KID").replace("-", "")
    if not re.fullmatch("[0-9A-Fa-f]{32}", number):
        raise found[0].wrong("has a default_KID that is no UUID")
    return ContentProtection(found[0].text("value"), bytes.fromhex(number))


def _parse_file(element: _Element) -> TextFile:
    element.only("BaseURL")
    url = "".join(element.one("BaseURL").words).strip()
    return TextFile(element.text("id"), element.integer("bandwidth"), url)


def _parse_transfer(element: _Element) -> int:
    if element.text("schemeIdUri") != _TRANSFER_SCHEME:
        raise element.wrong("is none that is known")
    return element.integer("value")


def _parse_accessibility(element: _Element) -> Accessibility:
    known = {(_PURPOSE_SCHEME, value): name for name, value in _PURPOSES.items()}
    said = (element.text("schemeIdUri"), element.text("value"))
    if said not in known:
        raise element.wrong("is of an unknown purpose")
    return known[said]


def _parse_representation(element: _Element) -> Representation:
    element.only("AudioChannelConfiguration", "SegmentTemplate")
    channels = None
    for configuration in element.all("AudioChannelConfiguration"):
        value = configuration.text("value")
        counts = [count for count, name in _CHANNEL_CONFIGURATIONS.items() if name == value]
        if configuration.text("schemeIdUri") != _CHANNEL_SCHEME or not counts:
            raise configuration.wrong("is not of ISO/IEC 23003-3")
        channels = counts[0]
    return Representation(
        id=element.text("id"),
        bandwidth_bps=element.integer("bandwidth"),
        codecs=element.text("codecs"),
        template=_parse_template(element.one("SegmentTemplate")),
        width=element.optional_integer("width"),
        height=element.optional_integer("height"),
        frame_rate=element.ratio("frameRate", "/"),
        sar=element.ratio("sar", ":"),
        audio_sampling_rate=element.optional_integer("audioSamplingRate"),
        channels=channels,
    )


def _parse_template(element: _Element) -> SegmentTemplate:
    element.only("SegmentTimeline")
    timeline = element.one("SegmentTimeline")
    timeline.only("S")
    timescale = element.integer("timescale", 1)
    if timescale == 0:
        raise element.wrong("has a timescale of 0")
    durations: list[int] = []
    first = time = timeline.children[0].integer("t", 0) if timeline.children else 0
    for item in timeline.children:
        if item.integer("t", time) != time:
            raise item.wrong(f"starts at {item.text('t')}, the one before ended at {time}")
        duration, repeats = item.integer("d"), item.integer("r", 0)
        if duration == 0:
            raise item.wrong("is of no duration")
        if len(durations) + repeats >= _MAX_SEGMENTS:
            raise item.wrong(f"makes more than {_MAX_SEGMENTS} segments")
        durations += [duration] * (repeats + 1)
        time += duration * (repeats + 1)
    return SegmentTemplate(
        timescale=timescale,
        initialization=element.text("initialization"),
        media=element.text("media"),
        durations_ticks=tuple(durations),
        start_ticks=first,
        start_number=element.integer("startNumber", 1),
        presentation_offset_ticks=element.integer("presentationTimeOffset", 0),
    )
