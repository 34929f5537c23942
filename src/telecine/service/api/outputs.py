"""What a client may ask for, as OpenAPI shows it: typed outputs, and the order around them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from telecine.engine.encoders import VIDEO_ENCODERS
from telecine.engine.images import grammar
from telecine.engine.images.formats import WRITTEN
from telecine.engine.profile import (
    AUDIO_RATE_RANGE_BPS,
    DEFAULT_EVERY_S,
    EVERY_RANGE_S,
    LOUDNESS_RANGE_LUFS,
    TopPolicy,
)
from telecine.engine.words.concat import MAX_FILMS
from telecine.engine.words.quality import QUALITY_RANGE
from telecine.engine.words.subtitles import MAX_SIDE_CARS
from telecine.engine.words.watermark import SMALLEST_SCALE, Position
from telecine.service.api.schemas import Asked
from telecine.service.domain import MAX_PRIORITY, MIN_PRIORITY, SourcePolicy
from telecine.service.image_plans import NAME
from telecine.service.orders import (
    MARK_OPACITY,
    MARK_SCALE,
    MAX_OUTPUTS,
    MAX_RUNGS,
    Order,
    make_order,
)

_RATE = f"Bits a second, {AUDIO_RATE_RANGE_BPS[0]} to {AUDIO_RATE_RANGE_BPS[1]}."


_LOUDNESS_WORDS = (
    "What the sound is brought to, such as -16 or -23 LUFS, with true peaks of at most -1 dBTP "
    "(EBU R 128). It holds for all sound of the job. Null: as loud as it is."
)


def _loudness() -> Any:
    low, high = LOUDNESS_RANGE_LUFS
    return Field(None, ge=low, le=high, description=_LOUDNESS_WORDS, examples=[-16])


class Clip(Asked):
    """A part of the film, to the picture: from the first one at or after its start to the last one
    before its end."""

    start_s: float = Field(0, ge=0, description="Seconds from where the film begins to play.")
    end_s: float | None = Field(None, gt=0, description="Null: to the end.")


class Watermark(Asked):
    """A picture over the film's."""

    asset: str = Field(description="An asset of yours: a PNG, JPEG or WebP.")
    position: Position
    opacity: float = Field(MARK_OPACITY, ge=0, le=1, description="On top of the picture's own.")
    scale: float = Field(
        MARK_SCALE,
        ge=float(SMALLEST_SCALE),
        le=1,
        description="Its share of the film's width.",
    )


def _clip() -> Any:
    return Field(
        None,
        description="The part of the film that the job is made of, all of its outputs. Null: all.",
        examples=[{"start_s": 10, "end_s": 40}],
    )


def _concat() -> Any:
    return Field(
        None,
        max_length=MAX_FILMS - 1,
        description="Films behind the asset in all outputs of the job, in this order: assets of "
        "yours. Null: none.",
    )


def _watermark() -> Any:
    return Field(None, description="Laid over the film in all outputs of the job. Null: none.")


class Protection(Asked):
    """Encryption of what streams, with a key of yours. The key is sealed before it is stored, kept
    until the job has succeeded, and never told."""

    scheme: Literal["aes-128", "cbcs"] = Field(
        description="`aes-128`: whole segments, any codec, HLS alone. `cbcs`: samples, H.264 "
        "and HEVC, HLS and DASH."
    )
    key: str = Field(
        description="32 hex digits.", json_schema_extra={"writeOnly": True, "format": "password"}
    )
    key_uri: str = Field(
        description="Where players ask for the key's 16 bytes; stands in the playlists.",
        examples=["https://keys.example.com/film"],
    )
    key_id: str | None = Field(None, description="A UUID. Null: one that follows from the key.")


_QUALITY_WORDS = (
    "The VMAF that every encoded rung of the job aims at, such as 90. It is searched for by a few "
    "short samples before anything is made, and rungs that add nothing visible are left out. "
    "Null: each codec's usual level."
)
_MEASURE_WORDS = (
    "`vmaf`: how good what was made is, at a few places, goes into the job's report. Null: nothing."
)


def _quality() -> Any:
    low, high = QUALITY_RANGE
    return Field(None, ge=low, le=high, description=_QUALITY_WORDS, examples=[90])


def _measure() -> Any:
    return Field(None, description=_MEASURE_WORDS)


class SubtitleFile(Asked):
    """A file of subtitles beside the film's own: SubRip, WebVTT or ASS, in any common encoding."""

    asset: str = Field(description="Where it was uploaded: an asset of yours of kind `subtitles`.")
    language: str = Field(description="A tag of RFC 5646.", examples=["en", "pt-BR"])
    forced: bool = Field(False, description="Whether only what is foreign is translated.")
    hearing_impaired: bool = Field(False, description="Whether it tells sounds as well.")


class HlsOutput(Asked):
    """HLS and DASH from the same segments: a ladder that fits the source."""

    type: Literal["hls"]
    rungs: list[int] | None = Field(
        None,
        max_length=MAX_RUNGS,
        description="Short sides in pixels; nothing is enlarged. Null: the default ladder.",
        examples=[[1080, 720, 480]],
    )
    top: TopPolicy = Field(
        "auto",
        description="Whether the source's own picture may be the top rung: `auto` copies it where "
        "every rule allows, `copy` refuses the job where one does not, `encode` never copies.",
    )
    codecs: list[str] | None = Field(
        None,
        min_length=1,
        max_length=len(VIDEO_ENCODERS),
        description="Codecs of the ladder; a player takes the one that it can. Null: H.264, which "
        "plays everywhere. Beside others H.264 has rungs up to 720p, and a copied top.",
        json_schema_extra={
            "anyOf": [
                {"type": "array", "items": {"enum": list(VIDEO_ENCODERS)}},
                {"type": "null"},
            ]
        },
        examples=[["h264", "av1"]],
    )
    hdr: Literal["tone-map", "keep"] = Field(
        "tone-map",
        description="What becomes of an HDR source: SDR, or `keep`: ten bits of HDR10 or HLG in "
        "AV1 and HEVC, beside an SDR ladder in H.264.",
    )
    subtitles: list[SubtitleFile] | None = Field(
        None, max_length=MAX_SIDE_CARS, description="Beside those that the film has itself."
    )
    burn_subtitle: str | None = Field(
        None,
        max_length=40,
        description="Subtitles that become part of the pictures: those of a language, or of a "
        "stream by its number.",
        examples=["en", "3"],
    )
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    watermark: Watermark | None = _watermark()
    concat: list[str] | None = _concat()
    protection: Protection | None = Field(None, description="Null: nothing is encrypted.")
    quality: float | None = _quality()
    measure: Literal["vmaf"] | None = _measure()


class Mp4Output(Asked):
    """One MP4 file, H.264 and AAC, that plays while it downloads."""

    type: Literal["mp4"]
    size: str = Field(
        "source",
        pattern=r"^(source|[0-9]{2,5}p?)$",
        description="Short side such as `720p`, or `source`.",
        examples=["720p"],
    )
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    watermark: Watermark | None = _watermark()
    concat: list[str] | None = _concat()
    quality: float | None = _quality()
    measure: Literal["vmaf"] | None = _measure()


class Mp3Output(Asked):
    """The sound as MP3."""

    type: Literal["mp3"]
    bitrate_bps: int | None = Field(None, description=f"{_RATE} Null: 192000.", examples=[192_000])
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    concat: list[str] | None = _concat()


class AacOutput(Asked):
    """The sound as AAC in an M4A file; without a rate the source's own AAC is copied."""

    type: Literal["aac"]
    bitrate_bps: int | None = Field(None, description=f"{_RATE} Null: 160000, or a copy.")
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    concat: list[str] | None = _concat()


class OpusOutput(Asked):
    """The sound as Opus."""

    type: Literal["opus"]
    bitrate_bps: int | None = Field(None, description=f"{_RATE} Null: 128000.")
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    concat: list[str] | None = _concat()


class FlacOutput(Asked):
    """The sound without loss."""

    type: Literal["flac"]
    loudness_lufs: float | None = _loudness()
    clip: Clip | None = _clip()
    concat: list[str] | None = _concat()


class PosterOutput(Asked):
    """One picture from the film, as JPEG."""

    type: Literal["poster"]


class StoryboardOutput(Asked):
    """Small pictures of the whole film on sheets, for the bar of a player: JPEGs, and WebVTT that
    names the time and place of each."""

    type: Literal["storyboard"]


class ThumbnailsOutput(Asked):
    """A JPEG of the film every few seconds, with WebVTT and JSON that name the time of each."""

    type: Literal["thumbnails"]
    every_s: int | None = Field(
        None,
        ge=EVERY_RANGE_S[0],
        le=EVERY_RANGE_S[1],
        description="Seconds from one to the next, as near as key pictures allow. Null: "
        f"{DEFAULT_EVERY_S}. At most 1000 are made.",
        examples=[10],
    )


class PreviewOutput(Asked):
    """A small animation of 5 s from several places of the film, as WebP."""

    type: Literal["preview"]


class WaveformOutput(Asked):
    """The sound as a line: PNG, and peaks as JSON (audiowaveform's format, version 2)."""

    type: Literal["waveform"]


class ChaptersOutput(Asked):
    """The film's chapters as WebVTT and JSON; `hls` brings them by itself."""

    type: Literal["chapters"]


def operations_schema() -> dict[str, Any]:
    """What operations on a picture are, as a schema without definitions of its own."""
    found = grammar.json_schema()
    definitions = found["$defs"]
    return {
        "type": "array",
        "description": found["description"],
        "maxItems": found["maxItems"],
        "items": {"oneOf": list(definitions.values())},
        "contains": definitions["convert"],
        "minContains": found["minContains"],
        "maxContains": found["maxContains"],
    }


class ImageOutput(Asked):
    """A picture, made of a picture by operations in their order."""

    type: Literal["image"]
    ops: Annotated[list[dict[str, Any]], WithJsonSchema(operations_schema())] = Field(
        default_factory=list, examples=[[{"op": "resize", "w": 800}]]
    )
    format: str | None = Field(
        None,
        max_length=40,
        description="Null: the source's own where it is among these; else WebP of an animation, "
        "PNG of what is transparent, JPEG.",
        json_schema_extra={"anyOf": [{"enum": list(WRITTEN)}, {"type": "null"}]},
        examples=["webp"],
    )
    name: str | None = Field(
        None,
        pattern=f"^{NAME.pattern}$",
        description="Of the file, without its ending. Null: `image`, or `image-2` where it is the "
        "second of several outputs.",
        examples=["small"],
    )


WantedOutput = Annotated[
    HlsOutput
    | Mp4Output
    | Mp3Output
    | AacOutput
    | OpusOutput
    | FlacOutput
    | PosterOutput
    | StoryboardOutput
    | ThumbnailsOutput
    | PreviewOutput
    | WaveformOutput
    | ChaptersOutput
    | ImageOutput,
    Field(discriminator="type"),
]


class OrderAsked(Asked):
    """What is to be made, and how: a preset or a list of outputs."""

    preset: str | None = Field(None, max_length=64, examples=["stream"])
    outputs: list[WantedOutput] | None = Field(None, max_length=MAX_OUTPUTS)
    priority: int = Field(
        0,
        ge=MIN_PRIORITY,
        le=MAX_PRIORITY,
        description="Higher goes first among all that waits.",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description="Your own words, kept with the job: at most 16 KiB.",
        examples=[{"order": "17"}],
    )
    source_policy: SourcePolicy = Field(
        "keep", description="`delete_when_done`: the source goes once the job has succeeded."
    )

    def order(self) -> Order:
        """The checked order. Raises `Invalid`."""
        outputs: list[dict[str, Any]] | None = None
        if self.outputs is not None:
            outputs = [output.model_dump(exclude_none=True) for output in self.outputs]
        return make_order(
            preset=self.preset,
            outputs=outputs,
            priority=self.priority,
            metadata=self.metadata,
            source_policy=self.source_policy,
        )
