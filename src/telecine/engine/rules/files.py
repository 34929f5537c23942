"""Rules on files: they are there, whole, and listed once."""

from __future__ import annotations

from collections import Counter

from telecine.engine.encoders import VIDEO_ENCODERS
from telecine.engine.plan import VideoRendition
from telecine.engine.rules.found import Found
from telecine.engine.rules.table import Problems, always, rule

# Parameter sets in the init segment only.
_TAGS = (*(f"{encoder.coding.entries[0]}." for encoder in VIDEO_ENCODERS.values()), "mp4a.")


@rule("plan-readable", "plan", always)
def _plan_readable(found: Found) -> tuple[Problems, str]:
    """A plan that lies in the folder can be read; a folder without one is judged by its playlists
    alone."""
    if found.plan is None:
        return [], "no plan: judged by the playlists alone"
    return [], f"plan {found.plan.id}"


@rule("files-exist", "RFC 8216 6.2.1")
def _files_exist(found: Found) -> tuple[Problems, str]:
    """Every file that a playlist names is in the folder and has bytes."""
    problems = [
        f"{segment.path} is empty"
        for rendition in found.renditions
        for segment in rendition.segments
        if not segment.size_bytes
    ]
    count = sum(len(rendition.segments) for rendition in found.renditions)
    return problems, f"{count} segments of {len(found.renditions)} renditions"


@rule("files-whole", "CMAF")
def _files_whole(found: Found) -> tuple[Problems, str]:
    """Every segment file is whole fragments of its one track to the last byte, and NAL units fill
    each picture exactly."""
    size = sum(s.size_bytes for rendition in found.renditions for s in rendition.segments)
    return [], f"{size / 1e6:.3f} MB of segments"


@rule("listed-once", "plan")
def _listed_once(found: Found) -> tuple[Problems, str]:
    """No playlist names a segment twice, and the multivariant playlist no rendition, but for a
    picture with each group of sound, and a sound in each group."""
    problems = []
    lists: list[tuple[str, list[tuple[str, str | None]]]] = [
        (r.uri, [(s.uri, None) for s in r.playlist.segments])
        for r in found.renditions
        if r.playlist is not None
    ]
    if found.master is not None:
        master = "the multivariant playlist"
        lists.append((master, [(item.uri, item.audio) for item in found.master.variants]))
        others: list[tuple[str, str | None]] = []
        others += [(r.uri, r.group_id) for r in found.master.renditions if r.uri is not None]
        others += [(item.uri, None) for item in found.master.iframe_streams]
        lists.append((master, others))
    for where, uris in lists:
        doubled = [uri for (uri, _), times in Counter(uris).items() if times > 1]
        problems += [f"{where} names {uri} twice" for uri in doubled]
    return problems, f"{sum(len(uris) for _, uris in lists)} URIs"


@rule("playlists-parse", "RFC 8216 4.1")
def _playlists_parse(found: Found) -> tuple[Problems, str]:
    """Every playlist follows the grammar, names segments, and no EXTINF is above TARGETDURATION."""
    empty = [r.uri for r in found.renditions if r.playlist is not None and not r.playlist.segments]
    problems = [f"{uri} has no segments" for uri in empty]
    if found.master is not None and not found.master.variants:
        problems.append("the multivariant playlist has no variants")
    return problems, f"{len(found.renditions)} media playlists"


@rule("master-lists-everything", "plan")
def _master_lists_everything(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist names every finished media playlist of the folder and every
    rendition of the plan, and nothing else."""
    if found.master is None:
        return [], "no multivariant playlist"
    listed = {rendition.uri for rendition in found.renditions}
    listed |= {track.uri for track in found.texts}
    there = set(found.on_disk)
    problems = [f"{uri} is not listed" for uri in sorted(there - listed)]
    if found.plan is not None:
        homes = {rendition.home for rendition in found.renditions}
        planned = {rendition.folder for rendition in found.plan.listed}
        homes |= {track.home for track in found.texts}
        planned |= {track.folder for track in found.plan.subtitles}
        planned |= {sound.folder for sound in found.plan.sounds if sound.listed}
        problems += [f"{home} was planned and is not listed" for home in sorted(planned - homes)]
        problems += [f"{home} is listed and not planned" for home in sorted(homes - planned)]
    return problems, f"{len(listed)} renditions"


@rule("init-segment", "CMAF, Apple 1.10")
def _init_segment(found: Found) -> tuple[Problems, str]:
    """Every init segment is of brand cmfc, has one track of the kind it is listed as, with its
    parameter sets in the sample entry (avc1, hvc1, not avc3, hev1) and square pixels; its coding is
    the planned one; it says that its samples are encrypted where they are, and nowhere else."""
    problems = []
    sound_only = found.master is not None and all(
        v.resolution is None for v in found.master.variants
    )
    for r in found.renditions:
        track = r.track
        if track is None:
            continue
        handler = "vide" if r.listed_as == "variant" and not sound_only else "soun"
        if "cmfc" not in r.brands:
            problems.append(f"{r.home}: brands {r.brands!r} without cmfc")
        if track.handler != handler:
            problems.append(f"{r.home}: a track of kind {track.handler}, listed as {handler}")
        if not track.codec.startswith(_TAGS):
            problems.append(f"{r.home}: sample entry {track.codec[:4]}")
        planned = found.planned_at(r.home)
        if planned is not None and not _coded_as(planned, track.codec):
            problems.append(f"{r.home}: coded as {track.codec[:4]}, planned {planned.codec}")
        if track.sar != 1:
            problems.append(f"{r.home}: pixels of {track.sar}")
        if r.protected and not r.sample_keys:
            problems.append(f"{r.home}: says that it is encrypted")
    return problems, ", ".join(r.track.codec for r in found.renditions if r.track)


def _coded_as(planned: VideoRendition, codec: str) -> bool:
    return codec[:4] in VIDEO_ENCODERS[planned.codec].coding.entries
