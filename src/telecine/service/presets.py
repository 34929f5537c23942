"""Lists of outputs with a name: what most people want, in one word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PlainOutput = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preset:
    """`outputs` as a client would write them."""

    name: str
    description: str
    outputs: tuple[PlainOutput, ...]


_ALL = (
    Preset(
        "stream",
        "HLS and DASH: the full ladder that fits the source, playable while it is made, "
        "and a poster.",
        ({"type": "hls"}, {"type": "poster"}),
    ),
    Preset(
        "web-mp4",
        "One MP4 of at most 720p that every browser and phone plays, and a poster.",
        ({"type": "mp4", "size": "720p"}, {"type": "poster"}),
    ),
    Preset(
        "mp4-source",
        "One MP4 at the source's own size; a compliant picture is copied, not encoded.",
        ({"type": "mp4", "size": "source"},),
    ),
    Preset("mp3", "The sound as MP3, 192 kb/s.", ({"type": "mp3"},)),
    Preset("m4a", "The sound as AAC in M4A; the source's own AAC is copied.", ({"type": "aac"},)),
    Preset("opus", "The sound as Opus, 128 kb/s.", ({"type": "opus"},)),
    Preset("flac", "The sound without loss, as FLAC.", ({"type": "flac"},)),
    Preset("poster", "One picture from the film, as JPEG.", ({"type": "poster"},)),
    Preset(
        "everything",
        "Streaming, MP4 at 720p and at the source's size, every audio format, and a poster.",
        (
            {"type": "hls"},
            {"type": "mp4", "size": "source"},
            {"type": "mp4", "size": "720p"},
            {"type": "mp3"},
            {"type": "aac"},
            {"type": "opus"},
            {"type": "flac"},
            {"type": "poster"},
        ),
    ),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}
