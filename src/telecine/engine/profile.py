"""What is wanted: outputs, ladder, codecs and whether a compliant top rung may be copied.

A `Profile` says nothing about a source; `plan` joins the two. Parsing of the command line's and the
service's words (`mp4:720p`, `mp3@192k`) lives here, so that both accept exactly the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS
from telecine.engine.errors import UsageError
from telecine.engine.media import InputKind
from telecine.engine.words.clip import Clip
from telecine.engine.words.concat import check_concat, film_names
from telecine.engine.words.protection import Protection
from telecine.engine.words.subtitles import Burn, SideCar, check_side_cars
from telecine.engine.words.watermark import INPUT, Watermark

# fmt: off
OutputKind = Literal[
    "hls", "mp4", "mp3", "aac", "opus", "flac", "poster",
    "storyboard", "thumbnails", "preview", "waveform", "chapters",
]
# fmt: on
TopPolicy = Literal["auto", "copy", "encode"]

AUDIO_KINDS: tuple[OutputKind, ...] = ("mp3", "aac", "opus", "flac")

# Made of pictures that stand in a rendition's segments.
PICTURE_KINDS: tuple[OutputKind, ...] = ("storyboard", "thumbnails", "preview")
DEFAULT_EVERY_S = 10  # between thumbnails
EVERY_RANGE_S = (1, 3600)

# Bits a second where the user states none: transparent for stereo music in listening tests
# (Hydrogenaudio's public tests); FLAC is lossless and takes no rate.
AUDIO_DEFAULT_BPS: dict[OutputKind, int] = {"mp3": 192_000, "aac": 160_000, "opus": 128_000}
AUDIO_RATE_RANGE_BPS = (16_000, 512_000)

_OUTPUT = re.compile(
    r"(?P<kind>[a-z0-9]+)(?::every=(?P<every>\d{1,6})s|:(?P<size>[a-z0-9]+))?(?:@(?P<rate>\d+k?))?"
)
# From what is measured above the gate at all, to where limiting would be all that is heard.
LOUDNESS_RANGE_LUFS = (-40, -8)

_LOUDNESS = re.compile(r"-\d{1,2}(\.\d{1,2})?")
_RUNG = re.compile(r"(\d{2,5})p?")


@dataclass(frozen=True, slots=True)
class Output:
    """One wanted output. `short_side` is pixels for `mp4` (`None`: the source's own size);
    `bitrate_bps` of `None` leaves the rate to the plan, `every_s` of `None` (whole seconds from one
    of the `thumbnails` to the next) takes `DEFAULT_EVERY_S`."""

    kind: OutputKind
    short_side: int | None = None
    bitrate_bps: int | None = None
    every_s: int | None = None

    def __str__(self) -> str:
        if self.every_s is not None:
            return f"{self.kind}:every={self.every_s}s"
        if self.kind == "mp4":
            return "mp4:source" if self.short_side is None else f"mp4:{self.short_side}p"
        if self.bitrate_bps is not None:
            return f"{self.kind}@{self.bitrate_bps // 1000}k"
        return self.kind


HDR_WORDS = ("tone-map", "keep")  # what may become of HDR

DEFAULT_OUTPUTS = (Output("hls"), Output("poster"))


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything a user can ask of one run.

    `rungs` are short sides in pixels, highest first; empty means the default ladder. `codecs` are
    names of encoders in the order of their table. `hdr` keeps what is HDR so beside an SDR ladder.
    `loudness_lufs` is what all sound is brought to; None leaves it as loud as it is. `concat` is
    how many films follow the source. `quality` is the VMAF that every rung aims at; None takes each
    encoder's usual level. `measure`: VMAF of what was made goes into the report.
    """

    outputs: tuple[Output, ...] = DEFAULT_OUTPUTS
    rungs: tuple[int, ...] = ()
    top: TopPolicy = "auto"
    codecs: tuple[str, ...] = (FALLBACK.name,)
    hdr: bool = False
    loudness_lufs: float | None = None
    subtitles: tuple[SideCar, ...] = ()
    burn: Burn | None = None
    clip: Clip | None = None
    watermark: Watermark | None = None
    concat: int = 0
    protection: Protection | None = None  # of what streams
    quality: float | None = None
    measure: bool = False

    def has(self, kind: OutputKind) -> bool:
        return any(output.kind == kind for output in self.outputs)

    @property
    def inputs(self) -> dict[str, InputKind]:
        """The files beside the source that are needed, by the names that `transcode` and `run_step`
        know them by."""
        inputs: dict[str, InputKind] = {car.name: "subtitles" for car in self.subtitles}
        if self.watermark is not None:
            inputs[INPUT] = "picture"
        return inputs | dict.fromkeys(film_names(self.concat), "film")


def parse_output(text: str) -> Output:
    """`hls`, `mp4:720p`, `mp4:source`, `mp3@192k`, `aac`, `thumbnails:every=10s` … → `Output`.

    Raises `UsageError` (`output_unknown`, `bitrate_invalid`, `every_invalid`) with the words that
    are accepted.
    """
    match = _OUTPUT.fullmatch(text)
    kinds = get_args(OutputKind)
    if match is None or match["kind"] not in kinds:
        raise UsageError(
            f"unknown output {text!r}: choose from {', '.join(kinds)}, "
            "e.g. mp4:720p, mp3@192k or thumbnails:every=10s",
            code="output_unknown",
        )
    kind: OutputKind = match["kind"]  # type: ignore[assignment]  # checked against get_args
    short_side = _short_side_of(kind, match["size"], text)
    every_s = _every_of(kind, match["every"], text)
    return Output(kind, short_side, _bitrate_of(kind, match["rate"], text), every_s)


def _short_side_of(kind: OutputKind, size: str | None, text: str) -> int | None:
    if kind == "mp4" and size is not None:
        return None if size == "source" else parse_rung(size)
    if kind == "mp4" or size is not None:
        raise UsageError(
            f"output {text!r}: a size goes with mp4 and only there: mp4:720p or mp4:source",
            code="output_unknown",
        )
    return None


def _every_of(kind: OutputKind, every: str | None, text: str) -> int | None:
    if every is None:
        return None
    low, high = EVERY_RANGE_S
    if kind != "thumbnails" or not low <= int(every) <= high:
        raise UsageError(
            f"output {text!r}: every= goes with thumbnails, from {low}s to {high}s",
            code="every_invalid",
        )
    return int(every)


def _bitrate_of(kind: OutputKind, rate: str | None, text: str) -> int | None:
    if rate is None:
        return None
    low, high = AUDIO_RATE_RANGE_BPS
    bitrate_bps = int(rate[:-1]) * 1000 if rate.endswith("k") else int(rate)
    if kind not in AUDIO_DEFAULT_BPS or not low <= bitrate_bps <= high:
        raise UsageError(
            f"output {text!r}: @bitrate goes with mp3, aac and opus, "
            f"from {low // 1000}k to {high // 1000}k",
            code="bitrate_invalid",
        )
    return bitrate_bps


def parse_rung(text: str) -> int:
    """`1080` or `1080p` → 1080. Raises `UsageError` (`rung_invalid`)."""
    match = _RUNG.fullmatch(text)
    if match is None or int(match[1]) < 16 or int(match[1]) > 8192:
        raise UsageError(
            f"rung {text!r}: a short side in pixels from 16 to 8192, e.g. 1080 or 720p",
            code="rung_invalid",
        )
    return int(match[1])


def parse_loudness(text: str) -> float:
    """`-16` → -16.0 LUFS. Raises `UsageError` (`loudness_invalid`)."""
    low, high = LOUDNESS_RANGE_LUFS
    if not _LOUDNESS.fullmatch(text) or not low <= float(text) <= high:
        raise UsageError(
            f"loudness {text[:40]!r}: LUFS from {low} to {high}, such as -16 or -23",
            code="loudness_invalid",
        )
    return float(text)


def parse_codecs(text: str) -> tuple[str, ...]:
    """`av1,h264` → the codecs of a ladder, each once, in the order in which playlists list them.

    Raises `UsageError` (`codec_unknown`) with the words that are accepted.
    """
    asked = text.split(",")
    unknown = [name for name in asked if name not in VIDEO_ENCODERS]
    if unknown:
        known = ", ".join(VIDEO_ENCODERS)
        raise UsageError(
            f"unknown codec {unknown[0][:40]!r}: one or several of {known}, joined by commas",
            code="codec_unknown",
        )
    return tuple(name for name in VIDEO_ENCODERS if name in asked)


def make_profile(
    outputs: tuple[Output, ...] = (),
    rungs: tuple[int, ...] = (),
    top: TopPolicy = "auto",
    *,
    codecs: tuple[str, ...] = (FALLBACK.name,),
    hdr: bool = False,
    loudness_lufs: float | None = None,
    subtitles: tuple[SideCar, ...] = (),
    burn: Burn | None = None,
    clip: Clip | None = None,
    watermark: Watermark | None = None,
    concat: int = 0,
    protection: Protection | None = None,
    quality: float | None = None,
    measure: bool = False,
) -> Profile:
    """The profile for what was asked, without doubles; nothing asked means `DEFAULT_OUTPUTS`.

    Raises `UsageError`: `output_twice` where two outputs would write the same file,
    `subtitle_twice` where two files of subtitles are the same,
    `hdr_needs_ladders` where HDR is to be kept and either it or what stands beside it has no codec,
    `concat_too_many`, `concat_unsupported` and `quality_of_joined` where what is asked of joined
    films is not made,
    `protection_clear_file`, `protection_without_hls`, `protection_codec` where not all that is
    asked for can be protected.
    """
    wanted = tuple(dict.fromkeys(outputs)) or DEFAULT_OUTPUTS
    several = (*AUDIO_KINDS, "mp4", "thumbnails")  # of these there may be more than one
    files = [file_name(output) for output in wanted if output.kind in several]
    doubled = sorted({name for name in files if files.count(name) > 1})
    if doubled:
        raise UsageError(f"two outputs would both write {doubled[0]}", code="output_twice")
    if hdr and not (_deep(codecs) and FALLBACK.name in codecs):
        deep = " or ".join(_deep(tuple(VIDEO_ENCODERS)))
        raise UsageError(
            f"HDR is kept in {deep} beside an SDR ladder in {FALLBACK.name}: "
            f"ask for both, such as --codec {FALLBACK.name},{_deep(tuple(VIDEO_ENCODERS))[0]}",
            code="hdr_needs_ladders",
        )
    check_side_cars(subtitles)
    if protection is not None:
        _see_protected(protection, wanted, codecs)
    profile = Profile(
        wanted,
        tuple(sorted(set(rungs), reverse=True)),
        top,
        codecs=codecs,
        hdr=hdr,
        loudness_lufs=loudness_lufs,
        subtitles=subtitles,
        burn=burn,
        clip=clip,
        watermark=watermark,
        protection=protection,
        quality=quality,
        measure=measure,
    )
    return with_films(profile, concat) if concat else profile


def with_films(profile: Profile, concat: int) -> Profile:
    """The profile with so many films behind the source. Raises `UsageError` (`concat_too_many`,
    `concat_unsupported`, `quality_of_joined`)."""
    judge = profile.quality is not None or profile.measure
    check_concat(concat, burn=profile.burn is not None, judge=judge)
    return replace(profile, concat=concat)


def _see_protected(
    protection: Protection, outputs: tuple[Output, ...], codecs: tuple[str, ...]
) -> None:
    """Whether all that is asked for can be protected, or is no copy of it."""
    clear = [str(output) for output in outputs if output.kind in ("mp4", *AUDIO_KINDS)]
    if clear:
        raise UsageError(
            f"{clear[0]} would be a copy that is not encrypted: leave it out, or make it in a run "
            "of its own",
            code="protection_clear_file",
        )
    if not any(output.kind == "hls" for output in outputs):
        raise UsageError(
            "only what streams is protected: ask for hls", code="protection_without_hls"
        )
    open_ = [name for name in codecs if VIDEO_ENCODERS[name].coding.clear is None]
    if protection.scheme == "cbcs" and open_:
        able = [name for name, each in VIDEO_ENCODERS.items() if each.coding.clear is not None]
        raise UsageError(
            f"cbcs encrypts {', '.join(able)} here, not {open_[0]}: aes-128 encrypts every codec",
            code="protection_codec",
        )


def _deep(codecs: tuple[str, ...]) -> list[str]:
    """Those of them that hold more than eight bits."""
    return [name for name in codecs if max(VIDEO_ENCODERS[name].bit_depths) > 8]


def file_name(output: Output) -> str:
    """Where an output goes inside DIR; `mp4` at a rung is named after what was asked."""
    match output.kind:
        case "mp4":
            return "source.mp4" if output.short_side is None else f"{output.short_side}p.mp4"
        case "aac":
            return "audio.m4a"
        case "poster":
            return "poster.jpg"
        case "hls":
            return "master.m3u8"
        case "storyboard" | "thumbnails" | "chapters":
            return f"{output.kind}.vtt"
        case "preview":
            return "preview.webp"
        case "waveform":
            return "waveform.json"
        case other:
            return f"audio.{other}"
