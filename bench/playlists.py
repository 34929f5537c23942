"""As much of HLS as the benchmark must read of anybody's output, apart from our own parser."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')


@dataclass(frozen=True, slots=True)
class Variant:
    height: int
    codec: str  # the first of CODECS
    playlist: Path
    sound: Path | None  # the media playlist of its audio group; None: its sound is in the variant


@dataclass(frozen=True, slots=True)
class Media:
    init: Path | None
    segments: tuple[Path, ...]


def attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.split(":", 1)[1])}


def read_variants(master: Path) -> tuple[Variant, ...]:
    """The variants with pictures, in the playlist's order; each once for all groups of sound."""
    folder = master.parent
    lines = [line.strip() for line in master.read_text().splitlines() if line.strip()]
    sounds: dict[str, Path] = {}
    for line in lines:
        if line.startswith("#EXT-X-MEDIA:"):
            media = attributes(line)
            if media.get("TYPE") == "AUDIO" and "URI" in media:
                sounds.setdefault(media["GROUP-ID"], folder / media["URI"])
    variants: dict[Path, Variant] = {}
    for line, uri in itertools.pairwise(lines):
        if line.startswith("#EXT-X-STREAM-INF:"):
            stream = attributes(line)
            if "RESOLUTION" in stream:
                height = int(stream["RESOLUTION"].split("x")[1])
                sound = sounds.get(stream.get("AUDIO", ""))
                codec = stream.get("CODECS", "").split(",")[0]
                playlist = folder / uri
                variants.setdefault(playlist, Variant(height, codec, playlist, sound))
    return tuple(variants.values())


def read_media(playlist: Path) -> Media:
    init = None
    segments = []
    for line in playlist.read_text().splitlines():
        if line.startswith("#EXT-X-MAP:"):
            init = playlist.parent / attributes(line)["URI"]
        elif line.strip() and not line.startswith("#"):
            segments.append(playlist.parent / line.strip())
    return Media(init, tuple(segments))


def playable(master: Path) -> bool:
    """Whether a player that is given `master` now could show and sound its first segment: the
    playlists of the first variant (and of its audio group) list an init and a first segment, and
    these files are there."""
    try:
        variants = read_variants(master)
        if not variants:
            return False
        first = variants[0]
        playlists = [first.playlist] if first.sound is None else [first.playlist, first.sound]
        return all(_started(read_media(playlist)) for playlist in playlists)
    except (OSError, KeyError, ValueError):
        return False  # not there yet, or half written


def _started(media: Media) -> bool:
    return (
        media.init is not None
        and bool(media.segments)
        and media.init.stat().st_size > 0
        and media.segments[0].stat().st_size > 0
    )
