"""Rules on HLS playlists: what they say is what the segments are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import ceil

from telecine.engine.errors import StepFailed
from telecine.engine.formats.coding import CODINGS
from telecine.engine.formats.playlist import (
    HDR_TRANSFERS,
    MediaPlaylist,
    Variant,
    VideoRange,
    average_bandwidth_bps,
    peak_bandwidth_bps,
)
from telecine.engine.ladder import Size
from telecine.engine.rules.figures import mbps, sec
from telecine.engine.rules.found import Found, Stream, TextTrack
from telecine.engine.rules.measures import average_of, peak_bps, peak_of, placed, rate_of
from telecine.engine.rules.table import Problems, rule, shows, streams


def _group(found: Found, variant: Variant) -> list[Stream] | None:
    """The sound renditions that a variant may be played with; None if one cannot be read."""
    members = found.master.renditions if found.master is not None else ()
    uris = [m.uri for m in members if m.type == "AUDIO" and m.group_id == variant.audio and m.uri]
    streams = [stream for uri in uris if (stream := found.stream(uri)) is not None]
    return streams if len(streams) == len(uris) else None


def _played(found: Found) -> Iterator[tuple[Variant, Stream, list[Stream]]]:
    """Each variant with its own stream and its sound, as far as they can be read."""
    for variant in found.master.variants if found.master is not None else ():
        stream, group = found.stream(variant.uri), _group(found, variant)
        if stream is not None and group is not None:
            yield variant, stream, group


@rule("codecs", "RFC 8216 4.3.4.2, Apple 9.1")
def _codecs(found: Found) -> tuple[Problems, str]:
    """CODECS of every variant and I-frame stream is what the configuration bytes of its pictures
    and sound say."""
    problems = []
    for variant, stream, group in _played(found):
        codecs = {stream.track.codec, *(voice.track.codec for voice in group)}
        if set(variant.codecs) != codecs:
            said, wanted = ",".join(variant.codecs), ",".join(sorted(codecs))
            problems.append(f"{variant.uri}: CODECS {said!r}, measured {wanted!r}")
    for item in found.master.iframe_streams if found.master is not None else ():
        owner = _owner(found, item.uri)
        if owner is not None and item.codecs != (owner.track.codec,):
            said = ",".join(item.codecs)
            problems.append(f"{item.uri}: CODECS {said!r}, measured {owner.track.codec!r}")
    return problems, "; ".join(dict.fromkeys(",".join(v.codecs) for v, _, _ in _played(found)))


def _owner(found: Found, uri: str) -> Stream | None:
    """The stream whose I-frame playlist this is: they share a folder."""
    home = uri.rpartition("/")[0]
    return next((stream for stream in found.pictures if stream.home == home), None)


@rule("resolution", "RFC 8216 4.3.4.2, Apple 9.2", shows)
def _resolution(found: Found) -> tuple[Problems, str]:
    """RESOLUTION is the size in the header of the pictures (SPS, sequence header), in the sample
    entry, and the planned one."""
    problems = []
    sizes = []
    for variant, stream, _ in _played(found):
        if not stream.video:
            continue
        size = Size(stream.track.width, stream.track.height)
        sizes.append(str(size))
        if variant.resolution != (size.width, size.height):
            problems.append(f"{variant.uri}: RESOLUTION {_by(variant.resolution)}, coded {size}")
        for text in _coded_otherwise(stream, size):
            problems.append(f"{stream.home}: {text}")
        planned = found.planned(stream)
        if planned is not None and planned.size != size:
            problems.append(f"{stream.home}: coded {size}, planned {planned.size}")
    for item in found.master.iframe_streams if found.master is not None else ():
        owner = _owner(found, item.uri)
        if owner is not None and item.resolution != (owner.track.width, owner.track.height):
            problems.append(f"{item.uri}: RESOLUTION {_by(item.resolution)}")
    return problems, ", ".join(sizes)


def _by(size: tuple[int, int] | None) -> str:
    return "none" if size is None else f"{size[0]}x{size[1]}"


def _coded_otherwise(stream: Stream, size: Size) -> Iterator[str]:
    """What the header of the sequence says, where that is not what the sample entry says."""
    coding = CODINGS.get(stream.track.codec[:4])
    if coding is None or not stream.track.parameter_sets:
        return
    try:
        coded = coding.size(stream.track.parameter_sets[0])
    except StepFailed as error:
        yield error.message
        return
    if coded != size:
        yield f"the pictures are coded {coded}, the sample entry says {size}"


@rule("video-range", "Apple 1.24, 9.16", shows)
def _video_range(found: Found) -> tuple[Problems, str]:
    """VIDEO-RANGE is what the transfer in the sample entry says and the planned one, on every
    variant and I-frame stream; beside HDR there is a variant in SDR."""
    problems = []
    ranges = []
    for variant, stream, _ in _played(found):
        if not stream.video:
            continue
        coded = _range_of(stream)
        ranges.append(coded)
        if variant.video_range != coded:
            problems.append(f"{variant.uri}: VIDEO-RANGE {variant.video_range}, coded {coded}")
        planned = found.planned(stream)
        if planned is not None and planned.video_range != coded:
            problems.append(f"{stream.home}: coded {coded}, planned {planned.video_range}")
    for item in found.master.iframe_streams if found.master is not None else ():
        owner = _owner(found, item.uri)
        if owner is not None and item.video_range != _range_of(owner):
            problems.append(f"{item.uri}: VIDEO-RANGE {item.video_range}")
    if ranges and "SDR" not in ranges:
        problems.append("no variant is in SDR")
    return problems, ", ".join(dict.fromkeys(ranges))


@rule("hdr-light", "ISOBMFF 12.1.6, plan", shows)
def _hdr_light(found: Found) -> tuple[Problems, str]:
    """The sample entry of HDR says the mastering display and the brightest light that the source
    says; that of SDR says none."""
    problems = []
    said = 0
    for _, stream, _ in _played(found):
        light = stream.track.light
        said += light is not None
        planned = found.planned(stream)
        if light is not None and _range_of(stream) == "SDR":
            problems.append(f"{stream.home} is SDR and says the light of HDR")
        elif found.plan is not None and planned is not None:
            wanted = found.plan.light_of(planned)
            problems += [f"{stream.home} says another light than the source"] * (light != wanted)
    return list(dict.fromkeys(problems)), f"{said} renditions say it"


def _range_of(stream: Stream) -> VideoRange:
    ranges = {transfer: name for name, transfer in HDR_TRANSFERS.items()}
    return ranges.get(stream.track.transfer or 0, "SDR")


@rule("frame-rate", "RFC 8216 4.3.4.2, Apple 9.15", shows)
def _frame_rate(found: Found) -> tuple[Problems, str]:
    """FRAME-RATE is the measured rate to three decimals; where that varies, it lies between the
    mean (less 1 %) and the maximum."""
    problems = []
    rates = []
    for variant, stream, _ in _played(found):
        if not stream.video:
            continue
        rate = rate_of(found, stream)
        rates.append(f"{float(rate):.3f}")
        lowest, highest = rate, rate
        if not found.constant:
            shortest = min(run.shortest_ticks for run in stream.runs if run.samples > 1)
            lowest, highest = rate * 99 / 100, Fraction(stream.track.timescale, shortest)
        off = Fraction(1, 1000)
        if variant.frame_rate is None or not lowest - off <= variant.frame_rate <= highest + off:
            said = "none" if variant.frame_rate is None else f"{float(variant.frame_rate):.3f}"
            problems.append(f"{variant.uri}: FRAME-RATE {said}, measured {float(rate):.3f}")
    return problems, ", ".join(dict.fromkeys(rates))


def _together(
    stream: Stream, group: Sequence[Stream], figure: Callable[[Stream], Fraction]
) -> Fraction:
    """The figure of what plays at once: a picture with its largest sound; a sound without a picture
    is itself one of its group."""
    largest = max(map(figure, group), default=Fraction(0))
    return figure(stream) + largest if stream.video else max(figure(stream), largest)


@rule("bandwidth", "RFC 8216 4.3.4.2, Apple 9.13")
def _bandwidth(found: Found) -> tuple[Problems, str]:
    """BANDWIDTH is the measured peak segment bit rate of the variant plus that of the largest sound
    and subtitles it is played with, and not more than rounding above it."""
    problems = []
    peaks = []
    for variant, stream, group in _played(found):
        peak = _together(stream, group, peak_of)
        peak += max((peak_bandwidth_bps(*_text_load(track)) for track in found.texts), default=0)
        peaks.append(mbps(peak))
        # Each of the three may have been rounded up on its own.
        if not peak <= variant.bandwidth_bps <= ceil(peak) + 3:
            problems.append(
                f"{variant.uri}: BANDWIDTH {variant.bandwidth_bps}, measured {ceil(peak)}"
            )
    return problems, ", ".join(peaks)


def _text_load(track: TextTrack) -> tuple[list[tuple[Fraction, int]], int]:
    return track.loads, track.playlist.target_duration if track.playlist is not None else 1


@rule("average-bandwidth", "Apple 9.14, 1.27, 1.30")
def _average_bandwidth(found: Found) -> tuple[Problems, str]:
    """AVERAGE-BANDWIDTH is within 10 % of the measured average; the figure also says how far the
    peak lies above it (it should be at most 200 %)."""
    problems = []
    figures = []
    for variant, stream, group in _played(found):
        average = _together(stream, group, average_of)
        average += max((average_bandwidth_bps(text.loads) for text in found.texts), default=0)
        peak = _together(stream, group, peak_of)
        figures.append(f"{mbps(average)} (peak {float(100 * peak / average):.0f} %)")
        said = variant.average_bandwidth_bps
        if said is None or abs(said - average) > average / 10:
            problems.append(f"{variant.uri}: AVERAGE-BANDWIDTH {said}, measured {ceil(average)}")
    return problems, ", ".join(figures)


@rule("closed-captions", "RFC 8216 4.3.4.2")
def _closed_captions(found: Found) -> tuple[Problems, str]:
    """Every variant says CLOSED-CAPTIONS=NONE, so that players need not look, and no picture in the
    playlists holds any."""
    if found.master is None:
        return [], "no multivariant playlist"
    problems = [
        f"{v.uri} does not say so" for v in found.master.variants if not v.no_closed_captions
    ]
    for stream in found.pictures:
        count = sum(segment.captions for segment in stream.segments)
        problems += [f"{stream.home}: {count} messages of captions in its pictures"] * bool(count)
    return problems, f"NONE on {len(found.master.variants)} variants"


@rule("independent-segments", "RFC 8216 4.3.5.1, Apple 9.11")
def _independent_segments(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist has EXT-X-INDEPENDENT-SEGMENTS, or every media playlist has."""
    if found.master is None or found.master.independent_segments:
        return [], "in the multivariant playlist"
    problems = [
        f"{r.uri} is without, as is the multivariant playlist"
        for r in found.renditions
        if r.playlist is not None and not r.playlist.independent_segments
    ]
    return problems, "in every media playlist"


# --- media playlists ------------------------------------------------------------------------------


def _media(found: Found) -> Iterator[tuple[str, MediaPlaylist]]:
    for rendition in found.renditions:
        if rendition.playlist is not None:
            yield rendition.uri, rendition.playlist


@rule("playlist-type", "Apple 8.6")
def _playlist_type(found: Found) -> tuple[Problems, str]:
    """Finished media playlists are of type VOD."""
    types = [(uri, media.playlist_type) for uri, media in _media(found)]
    problems = [f"{uri} is of type {kind}" for uri, kind in types if kind != "VOD"]
    return problems, f"VOD on {len(types)} playlists"


@rule("ext-x-map", "RFC 8216 4.3.2.5, Apple 8.20")
def _ext_x_map(found: Found) -> tuple[Problems, str]:
    """Every media playlist names its init segment."""
    maps = [(uri, media.map) for uri, media in _media(found)]
    return [
        f"{uri} has no EXT-X-MAP" for uri, item in maps if item is None
    ], f"{len(maps)} playlists"


@rule("endlist", "RFC 8216 4.3.3.4")
def _endlist(found: Found) -> tuple[Problems, str]:
    """Finished media playlists end with EXT-X-ENDLIST."""
    ends = [(uri, media.ended) for uri, media in _media(found)]
    return [f"{uri} has no EXT-X-ENDLIST" for uri, end in ends if not end], f"{len(ends)} playlists"


@rule("ext-x-version", "RFC 8216 4.3.1.2, 7")
def _ext_x_version(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist says the version that its media playlists need (one of those that
    says too little does not parse)."""
    needed = max((media.version for _, media in _media(found)), default=1)
    said = found.master_version or 1
    problems = [f"version {said}, {needed} is needed"] if said < needed else []
    return problems, f"version {said}, {needed} is needed"


# --- I-frame playlists ----------------------------------------------------------------------------


@rule("iframe-playlists", "Apple 6.1, 6.8, 6.10, RFC 8216 4.3.3.6", shows)
def _iframe_playlists(found: Found) -> tuple[Problems, str]:
    """Every video rendition has an I-frame playlist, listed with an upper bound of its rate: each
    byte range starts at a moof and ends behind its IDR sample, all IDR pictures are there, each
    lasts to the next."""
    problems = []
    count = 0
    listed = {item.uri: item for item in (found.master.iframe_streams if found.master else ())}
    for stream in found.pictures:
        if stream.iframes is None:
            problems.append(f"{stream.home} has no I-frame playlist")
            continue
        count += len(stream.iframes.segments)
        problems += _iframe_problems(stream, stream.iframes)
        item = next((i for uri, i in listed.items() if _owner(found, uri) == stream), None)
        if item is None:
            problems.append(f"{stream.home}: the I-frame playlist is not listed")
        elif item.bandwidth_bps < (peak := _iframe_peak(stream, stream.iframes)):
            problems.append(f"{item.uri}: BANDWIDTH {item.bandwidth_bps}, measured {ceil(peak)}")
    return problems, f"{count} pictures"


def _iframe_peak(stream: Stream, iframes: MediaPlaylist) -> Fraction:
    """The peak rate of what the I-frame playlist lists."""
    keys = [run.key_pts for run in stream.runs if run.idr]
    ends = [*keys[1:], stream.segments[-1].end_ticks]
    loads = [
        (end - start, entry.byte_range.length)
        for start, end, entry in zip(keys, ends, iframes.segments, strict=False)
        if entry.byte_range is not None
    ]
    return peak_bps(loads, stream.track.timescale, iframes.target_duration)


def _iframe_problems(stream: Stream, iframes: MediaPlaylist) -> Iterator[str]:
    if not iframes.iframes_only or not iframes.ended or iframes.map != stream.playlist.map:
        yield f"{stream.home}: not a finished I-frame playlist of the same init segment"
    home = f"{stream.home}/" if stream.home != "." else ""
    keys = [(path, run) for path, run in placed(stream) if run.idr]
    hidden = sum(run.later_keys for run in stream.runs)
    if len(iframes.segments) != len(keys) + hidden:
        yield f"{stream.home}: {len(iframes.segments)} I-frames listed, {len(keys) + hidden} coded"
        return
    ends = [*(run.key_pts for _, run in keys[1:]), stream.segments[-1].end_ticks]
    for entry, (path, run), end in zip(iframes.segments, keys, ends, strict=False):
        place = entry.byte_range
        if f"{home}{entry.uri}" != path or place is None:
            when = sec(stream.seconds(run.key_pts))
            yield f"{path}: the I-frame at {when} is not listed in order"
        elif place.offset != run.offset:
            yield f"{path}: an I-frame range starts at {place.offset}, the moof at {run.offset}"
        elif not run.key_end <= place.offset + place.length <= run.end:
            ends_at = place.offset + place.length
            yield f"{path}: an I-frame range ends at {ends_at}, the IDR at {run.key_end}"
        if abs(entry.duration_s - stream.seconds(end - run.key_pts)) > Fraction(1, 1000):
            yield f"{path}: an I-frame lasts {sec(entry.duration_s)}"


# --- growing playlists ----------------------------------------------------------------------------


def _grew(found: Found) -> bool:
    return found.plan is not None or any(r.growing is not None for r in found.renditions)


@rule("growing-playlists", "RFC 8216 4.3.3.5, 4.3.5.2, 6.2.1", lambda f: streams(f) and _grew(f))
def _growing_playlists(found: Found) -> tuple[Problems, str]:
    """What players joined while it grew has ended as it began: type EVENT, start at 0, ENDLIST, the
    same TARGETDURATION, init segment and segments as the finished playlist."""
    problems = []
    count = 0
    for stream in found.streams:
        growing = stream.growing
        if growing is None:
            if _must_have_grown(found, stream):
                problems.append(f"{stream.home} has no growing playlist")
            continue
        count += 1
        problems += [
            f"{stream.home}: the growing playlist {what}"
            for wrong, what in (
                (growing.playlist_type != "EVENT", f"is of type {growing.playlist_type}"),
                (not growing.ended, "has no EXT-X-ENDLIST"),
                (not _starts_at_0(growing), "does not start at 0"),
                (
                    growing.target_duration != stream.playlist.target_duration,
                    f"has a TARGETDURATION of {growing.target_duration}",
                ),
                (growing.map != stream.playlist.map, "has another init segment"),
                (growing.segments != stream.playlist.segments, "has other segments"),
            )
            if wrong
        ]
    return problems, f"{count} playlists"


def _starts_at_0(growing: MediaPlaylist) -> bool:
    """At 0, or further from the end than its beginning, which means the same (RFC 8216 4.3.5.2)."""
    offset_s = growing.start_offset_s
    return offset_s is not None and (offset_s == 0 or -offset_s >= growing.duration_s)


def _must_have_grown(found: Found, stream: Stream) -> bool:
    """What plays by default grows; a copied rung runs ahead and grows alone."""
    if found.plan is None:
        return False
    if not stream.video:
        return found.plan.sound is not None and found.plan.sound.folder == stream.home
    copied = found.plan.copied
    return copied is None or copied.folder == stream.home
