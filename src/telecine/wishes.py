"""What may be wished for on a command line: `transcode` and `plan` make it here, `submit` asks a
service for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS
from telecine.engine.errors import UsageError
from telecine.engine.profile import (
    HDR_WORDS,
    Profile,
    TopPolicy,
    make_profile,
    parse_codecs,
    parse_loudness,
    parse_output,
    parse_rung,
)
from telecine.engine.words.clip import parse_clip
from telecine.engine.words.concat import film_names
from telecine.engine.words.protection import (
    SCHEMES,
    ContentKey,
    Protection,
    make_protection,
    parse_key,
)
from telecine.engine.words.quality import MEASURES, QUALITY_RANGE, parse_quality
from telecine.engine.words.subtitles import SideCar, parse_burn, parse_side_car
from telecine.engine.words.watermark import INPUT, Watermark, parse_watermark

OUTPUT_HELP = (
    "hls, mp4:720p, mp4:source, mp3, aac, opus, flac, poster, storyboard, "
    "thumbnails:every=10s, preview, waveform, chapters; sound takes a rate: "
    "mp3@192k. Repeat it for more (default: hls and poster)"
)
KEY_HELP = "the key of what is encrypted: a file of its 16 bytes, or of 32 hex digits"
MAX_KEY_FILE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a command line asks for. `inputs` are the files beside the source, by the names that the
    profile gives them; `key` is what `--key-file` holds."""

    profile: Profile
    inputs: dict[str, Path]
    key: ContentKey | None


def add_wishes(sub: argparse.ArgumentParser, output_help: str) -> None:
    """Adds every word that `read_wishes` reads."""
    sub.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="OUTPUT",
        help=output_help,
    )
    sub.add_argument(
        "--rung",
        action="append",
        default=[],
        metavar="SIDE",
        help="a rung of the ladder by its short side in pixels, such as 1080; several may follow "
        "one another (default: the ladder that fits the source)",
    )
    sub.add_argument(
        "--top",
        choices=get_args(TopPolicy),
        default="auto",
        help="copy the source's own video as the top rung, encode it, or copy it where every rule "
        "allows it (auto, the default)",
    )
    sub.add_argument(
        "--codec",
        default=FALLBACK.name,
        metavar="CODEC",
        help=f"codecs of HLS and DASH, joined by commas: {', '.join(VIDEO_ENCODERS)} "
        f"(default: {FALLBACK.name})",
    )
    sub.add_argument(
        "--hdr",
        choices=HDR_WORDS,
        default=HDR_WORDS[0],
        help="what becomes of HDR: tone-mapped to SDR (the default), or kept in ten bits in the "
        "codecs that hold them, beside a ladder in SDR",
    )
    sub.add_argument(
        "--quality",
        metavar="VMAF",
        help="encode every rung so well that its VMAF is this, such as 90 (from "
        f"{QUALITY_RANGE[0]} to {QUALITY_RANGE[1]}): found by a few short samples before anything "
        "is made; rungs that add nothing visible are left out (default: each codec's usual level)",
    )
    sub.add_argument(
        "--measure",
        choices=MEASURES,
        help="measure how good what was made is, at a few places, for report.json",
    )
    sub.add_argument(
        "--loudness",
        metavar="LUFS",
        help="bring all sound to this loudness, such as -16, with true peaks of at most -1 dBTP "
        "(EBU R 128); it is then encoded, and listened to before (default: as it is)",
    )
    sub.add_argument(
        "--subtitle",
        action="append",
        default=[],
        metavar="LANGUAGE=FILE",
        help="a file of subtitles (SubRip, WebVTT, ASS) beside the film's own, as in en=film.srt; "
        "en:forced=FILE where only what is foreign is translated, en:sdh=FILE for the hard of "
        "hearing. Repeat it for more",
    )
    sub.add_argument(
        "--burn-subtitle",
        metavar="LANGUAGE|STREAM",
        help="make subtitles part of the pictures: those of a language, or of a stream by its "
        "number",
    )
    sub.add_argument(
        "--clip",
        metavar="START-END",
        help="a part of the film, to the picture: 00:10-00:40, 10-40, 1:02:03.5- (to the end) or "
        "-30 (from the start)",
    )
    sub.add_argument(
        "--concat",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="another film behind SOURCE, which decides size and frame rate. Repeat it for more",
    )
    sub.add_argument(
        "--watermark",
        metavar="FILE:POSITION,OPACITY,SCALE",
        help="a PNG, JPEG or WebP over the film, as in logo.png:top-right,0.5,0.1: top-left, "
        "top-right, bottom-left, bottom-right or center, an opacity from 0 to 1, and its share of "
        "the film's width",
    )
    sub.add_argument(
        "--protect",
        choices=SCHEMES,
        help="encrypt what streams: aes-128 (whole segments, HLS alone) or cbcs (samples, HLS and "
        "DASH, H.264 and HEVC), with --key-file and --key-uri",
    )
    add_key_file(sub)
    sub.add_argument(
        "--key-uri", metavar="URI", help="where players ask for the key; stands in the playlists"
    )
    sub.add_argument(
        "--key-id",
        metavar="UUID",
        help="what the key is called, 32 hex digits (default: one that follows from the key)",
    )


def add_key_file(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--key-file", type=Path, metavar="FILE", help=KEY_HELP)


def read_wishes(found: argparse.Namespace, outputs: Sequence[str] | None = None) -> Wishes:
    """What a command line says; `outputs` instead of its own, where some of those are another's.

    Raises `UsageError` (`output_unknown`, `output_twice`, `bitrate_invalid`, `rung_invalid`,
    `clip_invalid`, `watermark_invalid`, `content_key_invalid`, `key_missing` …)."""
    beside = _subtitle_files(found.subtitle)
    inputs = {side_car.name: path for side_car, path in beside}
    mark = None
    if found.watermark is not None:
        mark, inputs[INPUT] = _watermark(found.watermark)
    inputs |= zip(film_names(len(found.concat)), found.concat, strict=True)
    key = read_key(found)
    profile = make_profile(
        tuple(parse_output(text) for text in (found.output if outputs is None else outputs)),
        tuple(parse_rung(text) for text in found.rung),
        found.top,
        codecs=parse_codecs(found.codec),
        hdr=found.hdr == "keep",
        loudness_lufs=None if found.loudness is None else parse_loudness(found.loudness),
        subtitles=tuple(side_car for side_car, _ in beside),
        burn=None if found.burn_subtitle is None else parse_burn(found.burn_subtitle),
        clip=None if found.clip is None else parse_clip(found.clip),
        watermark=mark,
        concat=len(found.concat),
        protection=_protection(found, key),
        quality=None if found.quality is None else parse_quality(found.quality),
        measure=found.measure is not None,
    )
    return Wishes(profile, inputs, key)


def read_key(found: argparse.Namespace) -> ContentKey | None:
    """What `--key-file` holds. Raises `UsageError` (`content_key_invalid`)."""
    path = found.key_file
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return parse_key(file.read(MAX_KEY_FILE_BYTES))
    except OSError as error:
        raise UsageError(
            f"--key-file {path}: {error.strerror or error}", code="content_key_invalid"
        ) from None


def _protection(found: argparse.Namespace, key: ContentKey | None) -> Protection | None:
    """What `--protect` and its companions say, which make sense together alone."""
    if found.protect is None:
        if key is not None or found.key_uri is not None or found.key_id is not None:
            raise UsageError(
                "--key-file, --key-uri and --key-id go with --protect", code="key_without_protect"
            )
        return None
    if key is None or found.key_uri is None:
        raise UsageError("--protect needs --key-file and --key-uri", code="key_missing")
    return make_protection(found.protect, found.key_uri, key, found.key_id)


def _watermark(word: str) -> tuple[Watermark, Path]:
    """`logo.png:top-right,0.5,0.1` → what it is, and where it lies."""
    path, colon, what = word.rpartition(":")
    if not colon or not path:
        raise UsageError(
            f"--watermark {word[:60]!r}: a file, then position, opacity and scale, "
            "such as logo.png:top-right,0.5,0.1",
            code="watermark_invalid",
        )
    return parse_watermark(what), Path(path)


def _subtitle_files(words: Sequence[str]) -> list[tuple[SideCar, Path]]:
    """`en=film.srt` → what it is, and where it lies."""
    found = []
    for word in words:
        what, equals, path = word.partition("=")
        if not equals or not path:
            raise UsageError(
                f"--subtitle {word[:60]!r}: a language and a file, such as en=film.srt",
                code="subtitle_invalid",
            )
        found.append((parse_side_car(what), Path(path)))
    return found
