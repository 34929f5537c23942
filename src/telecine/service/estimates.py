"""Pure: what a plan will cost, in processor seconds and bytes, and on what that rests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from telecine.engine.chapters import CHAPTERS_VTT, chapters_json, chapters_vtt
from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS
from telecine.engine.images.grammar import conversion, parse_text
from telecine.engine.peaks import PNG_SIZE
from telecine.engine.plan import AudioRendition, FileOutput, Plan, VideoRendition, copied_load
from telecine.engine.planning import make_plan
from telecine.engine.profile import AUDIO_KINDS, OutputKind
from telecine.service.image_plans import ImagePlan, PlannedImage
from telecine.service.orders import MEGAPIXELS_A_SECOND, encoder_s, image_s

# A rung's ceiling is what its encoder may never pass; at CRF 23 film takes about half of it: Big
# Buck Bunny at 1080p took 3306 of 6000 kb/s (DESIGN section 6).
USUAL_SHARE = 0.55
FLAC_SHARE = 0.6  # of 16-bit PCM: what the FLAC project states for most music
POSTER_BYTES_A_PIXEL = 0.2
JPEG_MOST_BYTES_A_PIXEL = 2  # noise at the finest of the qualities that are used
INDEX_BYTES = 200  # of a picture in WebVTT and JSON

PLAYING = ("mp4", "poster", *AUDIO_KINDS)

BASIS = (
    f"encoder_s: {MEGAPIXELS_A_SECOND:.0f} megapixels a processor second, measured on 1080p24 film "
    "with x264 veryfast on one core of a 2-core machine; of other codecs "
    + ", ".join(
        f"{encoder.title} {encoder.cost:g} times as long"
        for encoder in VIDEO_ENCODERS.values()
        if encoder is not FALLBACK
    ),
    f"size_bytes: {USUAL_SHARE:.0%} of each encoded rung's ceiling, as film takes; copies by the "
    "source's own index; audio by its bit rate",
    "max_size_bytes: every encoded rung at its ceiling throughout",
)


# What photographs take at the qualities that are used when none is asked for: one of 2725 × 2225 at
# 800 pixels in width, rounded up.
IMAGE_HEAD_BYTES = 1_000
IMAGE_BYTES_A_PIXEL = {
    "jpeg": 0.16, "png": 2.4, "webp": 0.11, "avif": 0.1, "gif": 0.7, "tiff": 1.6,
}  # fmt: skip
IMAGE_BASIS = (
    "size_bytes: what photographs of this size take; drawings take less",
    "max_size_bytes: noise at the highest quality; metadata that is to be kept comes on top",
)

# The most that a frame takes: what libjpeg-turbo's tjBufSize() allots without subsampling, whole
# blocks of 16 × 16 included. Of all formats noise as AVIF comes nearest, 5.2 bytes a pixel.
IMAGE_MOST_HEAD_BYTES = 2048
IMAGE_MOST_BYTES_A_PIXEL = 6


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """One rendition or file. `max_size_bytes` holds whatever the film or picture."""

    name: str
    type: OutputKind | Literal["rendition", "image"]
    size_bytes: int
    max_size_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """`encoder_s` are CPU seconds of all steps: two cores take about half as many by the clock."""

    encoder_s: float
    size_bytes: int
    max_size_bytes: int
    outputs: tuple[ExpectedOutput, ...]
    basis: tuple[str, ...]


def estimate(plan: Plan | ImagePlan) -> Estimate:
    """What carrying out this plan is expected to cost."""
    if isinstance(plan, ImagePlan):
        return _estimate_images(plan)
    outputs = [ExpectedOutput(r.name, "rendition", *_picture_bytes(plan, r)) for r in plan.listed]
    for sound in plan.sounds:
        if sound.listed:
            outputs.append(ExpectedOutput(sound.name, "rendition", *_sound_bytes(plan, sound)))
    outputs += [_file(plan, file) for file in plan.files if file.kind in PLAYING]
    outputs += _beside(plan)
    steps_s = sum(encoder_s(plan, step) for step in plan.steps)
    if plan.searching:  # and then it is made, at levels that nobody knows yet
        usual = make_plan(plan.source, replace(plan.profile, quality=None), inputs=plan.inputs)
        steps_s += sum(encoder_s(usual, step) for step in usual.steps)
    return Estimate(
        encoder_s=round(steps_s, 1),
        size_bytes=sum(output.size_bytes for output in outputs),
        max_size_bytes=sum(output.max_size_bytes for output in outputs),
        outputs=tuple(outputs),
        basis=BASIS,
    )


def _estimate_images(plan: ImagePlan) -> Estimate:
    outputs = [ExpectedOutput(one.path, "image", *_image_bytes(one)) for one in plan.outputs]
    return Estimate(
        encoder_s=round(sum(image_s(plan, one) for one in plan.outputs), 1),
        size_bytes=sum(output.size_bytes for output in outputs),
        max_size_bytes=sum(output.max_size_bytes for output in outputs),
        outputs=tuple(outputs),
        basis=IMAGE_BASIS,
    )


def _image_bytes(image: PlannedImage) -> tuple[int, int]:
    """What a photograph takes, and the most that any picture of this size does without metadata."""
    convert = conversion(parse_text(image.operations))
    pixels = image.width * image.height * image.frames
    padded = (image.width + 15) * (image.height + 15) * (convert.depth // 8)
    most = image.frames * (IMAGE_MOST_HEAD_BYTES + padded * IMAGE_MOST_BYTES_A_PIXEL)
    usual = min(most, IMAGE_HEAD_BYTES + round(pixels * IMAGE_BYTES_A_PIXEL[image.format]))
    if convert.max_bytes is not None:
        return min(usual, convert.max_bytes), min(most, convert.max_bytes)
    return usual, most


def _picture_bytes(plan: Plan, rendition: VideoRendition) -> tuple[int, int]:
    if rendition.mode == "copy":
        exact = sum(size for _, size in copied_load(plan))
        return exact, exact
    most = _bytes(rendition.ceiling_bps, plan)
    return round(most * USUAL_SHARE), most


def _sound_bytes(plan: Plan, sound: AudioRendition) -> tuple[int, int]:
    size = _bytes(sound.bitrate_bps, plan)
    return size, size


def _file(plan: Plan, file: FileOutput) -> ExpectedOutput:
    if file.rendition is not None:
        parts = [_picture_bytes(plan, plan.rendition(file.rendition))]
        parts += [_sound_bytes(plan, sound) for sound in plan.sounds[:1]]
        sizes = (sum(usual for usual, _ in parts), sum(most for _, most in parts))
    elif file.kind == "poster":
        video = plan.video
        pixels = 0 if video is None else video.width * video.height
        sizes = (round(pixels * POSTER_BYTES_A_PIXEL), pixels)
    elif file.bitrate_bps is not None:
        own = plan.audio.bitrate_bps if file.copy and plan.audio is not None else None
        size = _bytes(own or file.bitrate_bps, plan)
        sizes = (size, size)
    else:
        sizes = (round(_pcm_bytes(plan, bits=16) * FLAC_SHARE), _pcm_bytes(plan, bits=24))
    return ExpectedOutput(file.path, file.kind, *sizes)


def _beside(plan: Plan) -> list[ExpectedOutput]:
    """What stands beside the film, each with all its files."""
    found = []
    for stills in plan.stills:
        pixels = len(stills.pictures) * stills.picture_size.pixels
        index = stills.count * INDEX_BYTES
        usual = round(pixels * POSTER_BYTES_A_PIXEL) + index
        most = pixels * JPEG_MOST_BYTES_A_PIXEL + index + len(stills.pictures) * IMAGE_HEAD_BYTES
        found.append(ExpectedOutput(f"{stills.kind}.vtt", stills.kind, usual, most))
    if plan.preview is not None:
        pictures = round(plan.preview.each_s * plan.preview.rate) * len(plan.preview.segments)
        pixels = pictures * plan.preview.size.pixels
        usual = round(pixels * IMAGE_BYTES_A_PIXEL["webp"])
        found.append(ExpectedOutput("preview.webp", "preview", usual, 2 * pixels))
    if plan.waveform is not None:
        numbers = 2 * plan.waveform.length
        most = numbers * 5 + PNG_SIZE.pixels // 8 + IMAGE_HEAD_BYTES  # "-128," is five signs
        usual = numbers * 3 + PNG_SIZE.pixels // 40
        found.append(ExpectedOutput("waveform.json", "waveform", usual, most))
    if plan.chapters:
        texts = chapters_vtt(plan.chapters) + chapters_json(plan.chapters)
        exact = len(texts.encode())
        found.append(ExpectedOutput(CHAPTERS_VTT, "chapters", exact, exact))
    return found


def _pcm_bytes(plan: Plan, *, bits: int) -> int:
    audio = plan.audio
    return 0 if audio is None else _bytes(audio.sample_rate * audio.channels * bits, plan)


def _bytes(bitrate_bps: int, plan: Plan) -> int:
    return round(bitrate_bps * float(plan.timeline.duration_s) / 8)
