"""Pure: what a command line asks for → the body of a job, field by field as the service's `orders`
reads it (docs/reference/jobs.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from telecine.engine.encoders import FALLBACK
from telecine.engine.errors import UsageError
from telecine.engine.profile import AUDIO_KINDS, Output, OutputKind, Profile
from telecine.engine.words.concat import film_names
from telecine.engine.words.protection import ContentKey
from telecine.engine.words.quality import MEASURES
from telecine.engine.words.watermark import INPUT
from telecine.wishes import Wishes, read_wishes

DEFAULT_PRESET = "stream"


@dataclass(frozen=True, slots=True)
class Order:
    """What `submit` asks a service for: `body`, and where that depends on files that have to become
    assets first, or on a key, `wishes` (an upload carries neither)."""

    body: Mapping[str, Any]
    wishes: Wishes | None = None

    def with_assets(self, assets: Mapping[str, str]) -> Mapping[str, Any]:
        """The body; `assets` are ids, by the names of `wishes.inputs`."""
        if self.wishes is None:
            return self.body
        return {**self.body, "outputs": film_outputs(self.wishes, assets)}


def read_order(found: argparse.Namespace) -> Order:
    """Raises `UsageError`: `usage` where words do not go together, and those of `read_wishes` and
    of pictures."""
    pictures = [word for word in found.output if word.partition(":")[0] == "image"]
    films = [word for word in found.output if word not in pictures]
    wished = read_wishes(found, films)
    said = _said(wished, dict.fromkeys(wished.inputs, ""))
    if found.preset is not None and (found.output or said):
        raise UsageError("--preset or what is made, not both", code="usage")
    body = {"priority": found.priority}
    if pictures:
        if films or said:
            text = f"{pictures[0][:60]} is made of a picture, the rest of a film: submit two"
            raise UsageError(text, code="usage")
        return Order({**body, "outputs": [_image_output(word) for word in pictures]})
    if not films and not said:
        return Order({**body, "preset": found.preset or DEFAULT_PRESET})
    kinds = {output.kind for output in wished.profile.outputs}
    for field in said:
        if kinds.isdisjoint(field.kinds):
            text = f"{field.word} is of {' or '.join(field.kinds)}: ask for one of them"
            raise UsageError(text, code="usage")
    if wished.inputs or wished.key is not None:
        return Order(body, wished)
    return Order({**body, "outputs": film_outputs(wished, {})})


def film_outputs(wished: Wishes, assets: Mapping[str, str]) -> list[dict[str, Any]]:
    """The outputs of a job. What holds for the whole job stands in each that can say it."""
    said = _said(wished, assets)
    return [
        plain_output(output)
        | {field.name: field.value for field in said if output.kind in field.kinds}
        for output in wished.profile.outputs
    ]


def plain_output(output: Output) -> dict[str, Any]:
    plain: dict[str, Any] = {"type": output.kind}
    if output.kind == "mp4":
        plain["size"] = "source" if output.short_side is None else f"{output.short_side}p"
    if output.bitrate_bps is not None:
        plain["bitrate_bps"] = output.bitrate_bps
    if output.every_s is not None:
        plain["every_s"] = output.every_s
    return plain


_STREAM: tuple[OutputKind, ...] = ("hls",)
_FILM: tuple[OutputKind, ...] = ("hls", "mp4")
_SOUND: tuple[OutputKind, ...] = (*_FILM, *AUDIO_KINDS)


@dataclass(frozen=True, slots=True)
class _Field:
    """A word of the command line and the field that says the same, of outputs of these kinds."""

    word: str
    name: str
    kinds: tuple[OutputKind, ...]
    value: Any


def _said(wished: Wishes, assets: Mapping[str, str]) -> list[_Field]:
    """What is asked for beside the outputs; what is as usual is not."""
    one = wished.profile
    fields = (
        _Field("--rung", "rungs", _STREAM, list(one.rungs) or None),
        _Field("--top", "top", _STREAM, one.top if one.top != Profile().top else None),
        _Field("--codec", "codecs", _STREAM, _codecs(one)),
        _Field("--hdr", "hdr", _STREAM, "keep" if one.hdr else None),
        _Field("--subtitle", "subtitles", _STREAM, _subtitles(one, assets) or None),
        _Field("--burn-subtitle", "burn_subtitle", _STREAM, _burn(one)),
        _Field("--protect", "protection", _STREAM, _protection(one, wished.key)),
        _Field("--quality", "quality", _FILM, one.quality),
        _Field("--measure", "measure", _FILM, MEASURES[0] if one.measure else None),
        _Field("--watermark", "watermark", _FILM, _watermark(one, assets)),
        _Field("--concat", "concat", _SOUND, [assets[n] for n in film_names(one.concat)] or None),
        _Field("--loudness", "loudness_lufs", _SOUND, one.loudness_lufs),
        _Field("--clip", "clip", _SOUND, _clip(one)),
    )
    return [field for field in fields if field.value is not None]


def _codecs(profile: Profile) -> list[str] | None:
    return None if profile.codecs == (FALLBACK.name,) else list(profile.codecs)


def _subtitles(profile: Profile, assets: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "asset": assets[one.name],
            "language": one.language,
            "forced": one.forced,
            "hearing_impaired": one.hearing_impaired,
        }
        for one in profile.subtitles
    ]


def _burn(profile: Profile) -> str | None:
    burn = profile.burn
    if burn is None:
        return None
    return burn.language if burn.language is not None else str(burn.stream)


def _protection(profile: Profile, key: ContentKey | None) -> dict[str, Any] | None:
    one = profile.protection
    if one is None or key is None:
        return None
    return {"scheme": one.scheme, "key": key.data.hex(), "key_uri": one.uri, "key_id": one.key_id}


def _watermark(profile: Profile, assets: Mapping[str, str]) -> dict[str, Any] | None:
    one = profile.watermark
    if one is None:
        return None
    return {
        "asset": assets[INPUT],
        "position": one.position,
        "opacity": _number(one.opacity),
        "scale": _number(one.scale),
    }


def _clip(profile: Profile) -> dict[str, Any] | None:
    clip = profile.clip
    if clip is None:
        return None
    end_s = {} if clip.end_s is None else {"end_s": _number(clip.end_s)}
    return {"start_s": _number(clip.start_s), **end_s}


def _number(value: Fraction) -> float:
    """As JSON has it: these were written with at most fifteen digits, which a double keeps."""
    return int(value) if value.denominator == 1 else float(value)


def _image_output(word: str) -> dict[str, Any]:
    """`image:small.webp:resize:w=800;rotate:angle=90`: the file's name, then operations as a URL
    has them. Raises `UsageError` (`output_unknown`, `format_unknown`, the grammar's codes)."""
    from telecine.engine.images import formats, grammar

    file, _, operations = word.partition(":")[2].partition(":")
    name, _, ending = file.rpartition(".")
    if not name:
        raise UsageError(
            f"output {word[:60]!r}: name the file, as in image:small.webp:resize:w=800",
            code="output_unknown",
        )
    ops = grammar.parse_text(operations)
    format = formats.written(ending).name
    grammar.check_format(ops, format)
    return {"type": "image", "ops": grammar.to_json(ops), "format": format, "name": name}
