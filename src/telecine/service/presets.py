"""Lists of outputs with a name: what most people want, in one word. The first are made of films and
sound, those of type `image` of pictures."""

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
        "thumbnail",
        "Of a picture: 320 × 320 as WebP, cut to what matters in it.",
        (
            {
                "type": "image",
                "ops": [{"op": "thumbnail", "w": 320, "h": 320}],
                "format": "webp",
                "name": "thumbnail",
            },
        ),
    ),
    Preset(
        "web-image",
        "Of a picture: WebP of at most 1600 × 1600, nothing is enlarged.",
        (
            {
                "type": "image",
                "ops": [{"op": "resize", "w": 1600, "h": 1600}],
                "format": "webp",
                "name": "web",
            },
        ),
    ),
    Preset(
        "responsive-images",
        "Of a picture: WebP of 320, 640, 1280 and 1920 pixels in width for `srcset`, a JPEG for "
        "old browsers, nothing is enlarged.",
        (
            *(
                {
                    "type": "image",
                    "ops": [{"op": "resize", "w": width}],
                    "format": "webp",
                    "name": f"{width}w",
                }
                for width in (320, 640, 1280, 1920)
            ),
            {
                "type": "image",
                "ops": [{"op": "resize", "w": 1280}],
                "format": "jpeg",
                "name": "fallback",
            },
        ),
    ),
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
