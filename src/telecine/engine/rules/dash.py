"""Rules on the MPD: it says what HLS says."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from telecine.engine.formats.mpd import AdaptationSet, Representation
from telecine.engine.formats.playlist import HDR_TRANSFERS
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, Stream
from telecine.engine.rules.measures import peak_of, rate_of
from telecine.engine.rules.table import Problems, rule


@rule("mpd-parses", "DASH 5.3.1")
def _mpd_parses(found: Found) -> tuple[Problems, str]:
    """The MPD is a static one of one period with a timeline on every representation."""
    sets = found.manifest.adaptation_sets if found.manifest is not None else ()
    return [], f"{sum(len(s.representations) for s in sets)} representations"


def _pairs(found: Found) -> Iterator[tuple[AdaptationSet, Representation, Stream]]:
    """Each representation with the stream whose init segment it names."""
    sets = found.manifest.adaptation_sets if found.manifest is not None else ()
    for adaptation in sets:
        for item in adaptation.representations:
            home = item.template.initialization.rpartition("/")[0]
            stream = next((s for s in found.streams if s.home == home), None)
            if stream is not None:
                yield adaptation, item, stream


@rule("mpd-segments", "DASH 5.3.9, DASH-IF IOP")
def _mpd_segments(found: Found) -> tuple[Problems, str]:
    """The MPD has every rendition with the very files, in the order and with the ticks that the
    segments have."""
    if found.manifest is None:
        return [], "no MPD"
    problems: list[str] = []
    for _, item, stream in _pairs(found):
        problems += _template_problems(item, stream)
    homes = {stream.home for _, _, stream in _pairs(found)}
    problems += [f"{s.home} is not in the MPD" for s in found.streams if s.home not in homes]
    return problems, f"{sum(len(stream.segments) for _, _, stream in _pairs(found))} segments"


def _template_problems(item: Representation, stream: Stream) -> Iterator[str]:
    template = item.template
    home = f"{stream.home}/" if stream.home != "." else ""
    init = stream.playlist.map.uri if stream.playlist.map is not None else ""
    if template.initialization_uri(item) != f"{home}{init}":
        yield f"{item.id}: another init segment than HLS"
    if template.uris(item) != [segment.path for segment in stream.segments]:
        yield f"{item.id}: other segment files than HLS"
    if template.timescale != stream.track.timescale:
        yield f"{item.id}: timescale {template.timescale}, coded {stream.track.timescale}"
        return
    if template.start_ticks != stream.segments[0].start_ticks:
        yield f"{item.id}: starts at {template.start_ticks}, coded {stream.segments[0].start_ticks}"
    if template.presentation_offset_ticks:
        yield f"{item.id}: shifted by {template.presentation_offset_ticks} ticks"
    for said, segment in zip(template.durations_ticks, stream.segments, strict=False):
        if said != segment.duration_ticks:
            yield f"{segment.path}: {said} ticks in the MPD, coded {segment.duration_ticks}"


@rule("mpd-attributes", "DASH 5.3.5, 5.3.7, DASH-IF IOP")
def _mpd_attributes(found: Found) -> tuple[Problems, str]:
    """Duration, codecs, sizes, rates, channels, languages and bandwidths in the MPD are the
    measured ones."""
    if found.manifest is None:
        return [], "no MPD"
    problems = []
    longest = max((s.end_s - s.start_s for s in found.streams), default=Fraction(0))
    all_readable = len(found.streams) == len(found.renditions) > 0
    if all_readable and abs(found.manifest.duration_s - longest) > Fraction(1, 1000):
        problems.append(f"lasts {sec(found.manifest.duration_s)}, measured {sec(longest)}")
    for adaptation, item, stream in _pairs(found):
        track = stream.track
        facts: list[tuple[str, object, object]] = [
            ("contentType", adaptation.content_type, "video" if stream.video else "audio"),
            ("mimeType", adaptation.mime_type, "video/mp4" if stream.video else "audio/mp4"),
            ("codecs", item.codecs, track.codec),
            ("bandwidth", item.bandwidth_bps, ceil(peak_of(stream))),
        ]
        if stream.video:
            facts += [("width", item.width, track.width), ("height", item.height, track.height)]
            hdr = track.transfer if track.transfer in HDR_TRANSFERS.values() else None
            facts.append(("transfer", adaptation.transfer, hdr))
            if found.constant:
                facts.append(("frameRate", item.frame_rate, rate_of(found, stream)))
        else:
            facts += [
                ("audioSamplingRate", item.audio_sampling_rate, track.sample_rate),
                ("channels", item.channels, track.channels),
            ]
            voice = found.voice(stream.home)
            if voice is not None:
                facts.append(("lang", adaptation.lang, voice.language))
        problems += [
            f"{item.id}: {name} {said}, measured {measured}"
            for name, said, measured in facts
            if said != measured
        ]
    return problems, f"duration {sec(found.manifest.duration_s)}"
