"""What a file is: the answer of a probe, as frozen values.

Times are `Fraction` seconds on the source's own clock unless a name says `ticks` (then the unit is
the stream's `time_base`). Sizes are pixels or bytes. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

OtherKind = Literal["cover", "data", "attachment"]
# What is known of a track of subtitles by its codec: text that can be read, pictures of text, text
# inside the coded pictures of a film, or something that no decoder here reads.
SubtitleKind = Literal["text", "bitmap", "captions", "unreadable"]
InputKind = Literal["subtitles", "picture", "film"]
FieldOrder = Literal["progressive", "tff", "bff", "unknown"]


@dataclass(frozen=True, slots=True)
class Color:
    """Colour as the file states it, in FFmpeg's names; `None` where it states nothing."""

    range: str | None = None  # "tv" | "pc"
    primaries: str | None = None  # "bt709", "bt2020", "smpte170m" …
    transfer: str | None = None  # "bt709", "smpte2084" (PQ), "arib-std-b67" (HLG) …
    matrix: str | None = None  # "bt709", "bt2020nc" …

    @property
    def hdr(self) -> bool:
        """PQ or HLG: must be tone-mapped for an SDR ladder. 10 bits alone are not HDR."""
        return self.transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True, slots=True)
class Light:
    """What an HDR picture says of the display that it was mastered on, and how bright it gets.

    `mastering` is empty or ten numbers as SMPTE ST 2086 counts them: x and y of green, blue, red
    and white in 1/50000, then the most and the least luminance in 1/10000 cd/m². `content` is empty
    or MaxCLL and MaxFALL in cd/m² (CTA-861.3).
    """

    mastering: tuple[int, ...] = ()
    content: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyframe:
    """One sync sample. `ticks` is its presentation time, `frame` the number of frames shown before
    it, `size_bytes` what it and the frames up to the next keyframe weigh."""

    ticks: int
    frame: int
    size_bytes: int
    idr: bool


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The timing of every frame, boiled down: what copying a stream or choosing a rate needs.

    Read from the container's own table or from every packet, never guessed.
    """

    frame_count: int
    first_ticks: int
    end_ticks: int  # the last frame's time plus its duration
    usual_gap_ticks: Fraction  # between neighbouring frames in display order, holes left out
    regular: bool  # nine of ten gaps are usual: the rate is constant, with frames missing at most
    max_gap_ticks: int
    reorder_ticks: int  # largest (display-order time of decode position) - (its own time), ≥ 0
    keyframes: tuple[Keyframe, ...]
    damaged_bytes: int = 0  # of frames that the file does not hold whole, or marks as broken


@dataclass(frozen=True, slots=True)
class VideoStream:
    index: int  # the stream's number in the file, as FFmpeg's `0:N`
    codec: str
    codec_profile: str | None
    level: int | None
    pix_fmt: str | None
    bit_depth: int
    width: int  # as decoded and cropped, before SAR and rotation
    height: int
    sar: Fraction  # 1 where unknown
    rotation: int  # degrees clockwise that make the picture upright: 0, 90, 180, 270
    mirrored: bool  # flipped left to right, after the rotation
    field_order: FieldOrder
    rate: Fraction | None  # mean frames a second as the frames themselves say, else the header
    nominal_rate: Fraction | None  # the header's (r_frame_rate): a hint for VFR and telecine
    variable_rate: bool
    time_base: Fraction
    start_s: Fraction | None
    end_s: Fraction | None
    bitrate_bps: int | None
    color: Color = field(default_factory=Color)
    light: Light | None = None
    dynamic: tuple[str, ...] = ()  # what else tells displays of HDR: "Dolby Vision 8.4", "HDR10+"
    captioned: bool = False  # closed captions lie in its first pictures
    has_alpha: bool = False
    default: bool = False
    language: str | None = None
    parameter_sets: int = 0  # H.264: SPS + PPS in the header; 2 = one of each
    in_band_parameter_sets: bool = False  # some keyframe carries parameter sets unlike the header's
    open_edits: bool = False  # an edit list that starts inside a GOP, or has several edits
    index_table: FrameIndex | None = None


@dataclass(frozen=True, slots=True)
class AudioStream:
    index: int
    codec: str
    codec_profile: str | None  # "LC" for AAC-LC
    channels: int
    channel_layout: str
    sample_rate: int  # Hz
    start_s: Fraction | None
    end_s: Fraction | None
    bitrate_bps: int | None
    default: bool = False
    language: str | None = None
    title: str | None = None
    commentary: bool = False  # as the file marks it
    described: bool = False  # what happens is told, for the blind
    gap_s: Fraction = Fraction(0)  # the longest hole between two packets
    frame_samples: int = 0  # samples in a coded frame where constant (AAC-LC: 1024)
    configured: bool = False  # AAC: the header holds an AudioSpecificConfig (not ADTS)


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """A track of subtitles as the file marks it. `index` of `captions` is that of the pictures in
    which they lie."""

    index: int
    kind: SubtitleKind
    codec: str
    language: str | None = None
    title: str | None = None
    default: bool = False
    forced: bool = False
    hearing_impaired: bool = False


@dataclass(frozen=True, slots=True)
class OtherStream:
    """A stream that is reported and not transcoded: cover art, data, attachments."""

    index: int
    kind: OtherKind
    codec: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of the film with a name. `title` is a stranger's text, bounded in length alone."""

    start_s: Fraction
    end_s: Fraction
    title: str | None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which bytes were probed: cheap at any length, and a changed file changes it.

    `sample_sha256` covers the first and last MiB and the size.
    """

    size_bytes: int
    sample_sha256: str


@dataclass(frozen=True, slots=True)
class SubtitleFile:
    """What a file of subtitles is. `encoding` is Python's name of it."""

    format: Literal["webvtt", "ass", "srt"]
    encoding: str
    guessed: bool  # whether the encoding is only what is likely
    cues: int


PictureFormat = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class PictureFile:
    """What a file with one picture is."""

    format: PictureFormat
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source is. Made by `probe`, carried inside the plan, never made twice."""

    container: str  # FFmpeg's demuxer name, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
    fingerprint: Fingerprint
    start_s: Fraction
    duration_s: Fraction  # measured from packets where they were read, else the header's
    stated_duration_s: Fraction | None  # what the header says
    video: tuple[VideoStream, ...]
    audio: tuple[AudioStream, ...]
    other: tuple[OtherStream, ...]
    seekable: bool  # MP4/MOV/MKV/WebM: `-ss` before `-i` is exact (DESIGN section 6)
    subtitles: tuple[SubtitleStream, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtraInput:
    """A file beside the source that some steps read, by the `name` that the profile gives it
    (`Profile.inputs`): who runs such a step says where it lies. What is found in it goes into the
    field of its kind."""

    name: str
    kind: InputKind
    fingerprint: Fingerprint
    subtitles: SubtitleFile | None = None
    picture: PictureFile | None = None
    film: MediaInfo | None = None
