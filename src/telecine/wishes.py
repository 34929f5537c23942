"""Words that several commands have in common: a quality that is aimed at, what is measured, and how
what streams is encrypted. `transcode` and `plan` work with them here, `submit` sends them on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from telecine.engine.errors import UsageError
from telecine.engine.words.protection import (
    SCHEMES,
    ContentKey,
    Protection,
    make_protection,
    parse_key,
)
from telecine.engine.words.quality import MEASURES, QUALITY_RANGE, parse_quality

KEY_HELP = "the key of what is encrypted: a file of its 16 bytes, or of 32 hex digits"
MAX_KEY_FILE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What these words say; `key` is what `--key-file` holds."""

    quality: float | None
    measure: bool
    protection: Protection | None
    key: ContentKey | None


def add_quality(sub: argparse.ArgumentParser) -> None:
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


def add_protection(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--protect",
        choices=SCHEMES,
        help="encrypt what streams: aes-128 (whole segments, HLS alone) or cbcs (samples, HLS and "
        "DASH, H.264 alone), with --key-file and --key-uri",
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


def read_wishes(found: argparse.Namespace) -> Wishes:
    """What a command line says of them; a command that has not all of these words says nothing by
    the others. Raises `UsageError` (`quality_invalid`, `content_key_invalid`, `key_missing`,
    `key_without_protect`, and those of `make_protection`)."""
    quality = getattr(found, "quality", None)
    path = getattr(found, "key_file", None)
    key = None if path is None else _key(path)
    return Wishes(
        quality=None if quality is None else parse_quality(quality),
        measure=getattr(found, "measure", None) is not None,
        protection=_protection(found, key) if "protect" in found else None,
        key=key,
    )


def _key(path: Path) -> ContentKey:
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
