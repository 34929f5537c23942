"""Rules on what is encrypted: players are told how, and nothing else lies there in the clear."""

from __future__ import annotations

from collections.abc import Iterator

from telecine.engine.formats.cenc import PICTURE_PATTERN, WHOLE
from telecine.engine.formats.playlist import Key, MediaPlaylist
from telecine.engine.rules.found import Found, Rendition
from telecine.engine.rules.table import Problems, rule
from telecine.engine.words.protection import Protection, uri_from

_METHODS = {"aes-128": "AES-128", "cbcs": "SAMPLE-AES"}


def _protection(found: Found) -> Protection | None:
    return found.plan.profile.protection if found.plan is not None else None


def _protected(found: Found) -> bool:
    """What was planned so, or without a plan what a playlist says is so."""
    said = any(entry.keys for _, media in _media(found.renditions) for entry in media.segments)
    return found.streaming and (_protection(found) is not None or said)


def _media(renditions: tuple[Rendition, ...]) -> Iterator[tuple[Rendition, MediaPlaylist]]:
    """Every playlist that names segments: what is finished first."""
    for r in renditions:
        for media in (r.playlist, r.growing, r.iframes):
            if media is not None:
                yield r, media


@rule("protection-keys", "RFC 8216 4.3.2.4, 5.2", _protected)
def _protection_keys(found: Found) -> tuple[Problems, str]:
    """Every segment of every playlist has the planned key, by its method and URI, with an IV: of a
    whole segment one of its own, which no other segment of any rendition has, else the track's."""
    problems: list[str] = []
    owners: dict[bytes, str] = {}  # IV → its segment
    count = 0
    for r, media in _media(found.renditions):
        for entry in media.segments:
            count += 1
            where = f"{r.home}/{entry.uri}"
            problems += [f"{where}: {text}" for text in _wrong_keys(found, r, entry.keys)]
            for key in entry.keys:
                if key.method == "AES-128" and key.iv is not None:
                    owner = owners.setdefault(key.iv, where)
                    if owner != where:
                        problems.append(f"{where} has the IV of {owner}")
    return problems, f"{count} entries, {len(owners)} IVs of whole segments"


def _wrong_keys(found: Found, r: Rendition, keys: tuple[Key, ...]) -> Iterator[str]:
    if not keys:
        yield "no EXT-X-KEY"
        return
    planned = _protection(found)
    method = keys[0].method if planned is None else _METHODS[planned.scheme]
    if [key.format for key in keys] != ["identity"]:
        yield f"keys of the formats {', '.join(key.format for key in keys)}"
    for key in keys:
        if key.method != method:
            yield f"METHOD {key.method}, planned {method}"
        if planned is not None and key.uri != uri_from(planned, r.home):
            yield f"URI {key.uri!r}, planned {uri_from(planned, r.home)!r}"
        encryption = r.track.encryption if r.track is not None else None
        iv = encryption.iv if encryption is not None else key.iv
        if key.iv is None or key.iv != iv:
            yield "an IV that is not the track's"


@rule("protection-samples", "CENC 8.2, 9.6, 10.4, CMAF", _protected)
def _protection_samples(found: Found) -> tuple[Problems, str]:
    """Where samples are encrypted, the init segment says so by `cbcs` with the planned key, one
    block in ten of pictures and all of sound; every slice is from behind its header on, by the
    subsamples that the fragment tells of each sample."""
    problems = []
    samples = 0
    planned = _protection(found)
    for r in found.renditions:
        if not r.sample_keys or r.track is None:
            continue
        encryption = r.track.encryption
        if encryption is None:
            problems.append(f"{r.home}: the init segment does not say that it is encrypted")
            continue
        pattern = PICTURE_PATTERN if r.track.handler == "vide" else WHOLE
        if encryption.pattern != pattern:
            problems.append(f"{r.home}: the pattern {encryption.pattern}, wanted {pattern}")
        if planned is not None and encryption.key_id.hex() != planned.key_id:
            problems.append(f"{r.home}: the key {encryption.key_id.hex()}, not {planned.key_id}")
        for segment in r.segments:
            samples += segment.samples
            wrong = sum(run.wrongly_sealed for run in segment.runs)
            if wrong:
                problems.append(f"{segment.path}: {wrong} samples are not encrypted as they should")
    return problems, f"{samples} samples"


@rule("protection-nothing-clear", "plan", _protected)
def _protection_nothing_clear(found: Found) -> tuple[Problems, str]:
    """No segment can be read as it lies there, and no file of pictures or sound beside them holds
    the film in the clear."""
    segments = [segment for r in found.renditions for segment in r.segments]
    problems = [f"{segment.path} is not encrypted" for segment in segments if segment.lies_open]
    paths = [*(file.path for file in found.mp4s), *(file.path for file in found.sounds)]
    problems += [f"{path} is not encrypted" for path in paths]
    return problems, f"{len(segments)} segments"


@rule("protection-mpd", "DASH 5.8.4.1, CENC 11.2", _protected)
def _protection_mpd(found: Found) -> tuple[Problems, str]:
    """The MPD says of all pictures and sound by which scheme and key they are encrypted; of whole
    segments, which DASH does not know, there is none."""
    planned = _protection(found)
    if found.manifest is None:
        return [], "no MPD"
    if any(r.whole_keys for r in found.renditions):
        return ["there is an MPD of segments that are encrypted as a whole"], "an MPD"
    if planned is None:
        return [], "no plan"
    problems = []
    for adaptation in found.manifest.adaptation_sets:
        said = adaptation.protection
        if adaptation.content_type == "text":
            continue
        if said is None or (said.scheme, said.key_id.hex()) != (planned.scheme, planned.key_id):
            problems.append(f"{adaptation.content_type}: {said}, planned {planned.scheme}")
    return problems, f"{len(found.manifest.adaptation_sets)} adaptation sets"
