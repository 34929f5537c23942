"""Pure: what a client asks for → what the engine makes and the queue runs.

An *order* is the client's wish, checked: outputs or a preset, priority, metadata. It knows no
source yet, so an upload can carry one. With a plan it becomes a job: a task for each step, or for
each picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS
from telecine.engine.errors import UsageError
from telecine.engine.images.values import ImageInfo, ImageLimits
from telecine.engine.media import ExtraInput, MediaInfo
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import make_plan
from telecine.engine.profile import (
    AUDIO_KINDS,
    HDR_WORDS,
    Output,
    OutputKind,
    Profile,
    TopPolicy,
    make_profile,
    parse_codecs,
    parse_loudness,
    parse_output,
    parse_rung,
    with_films,
)
from telecine.engine.progress import step_span_s, step_work
from telecine.engine.report import (
    beside,
    changes,
    describe,
    films,
    quality_reason,
    subtitle_report,
)
from telecine.engine.serial import to_plain
from telecine.engine.words.clip import Clip, make_clip
from telecine.engine.words.concat import film_names
from telecine.engine.words.protection import (
    ContentKey,
    Protection,
    make_protection,
    parse_key,
)
from telecine.engine.words.quality import MEASURES, parse_quality
from telecine.engine.words.subtitles import SideCar, parse_burn, parse_side_car
from telecine.engine.words.watermark import INPUT, Watermark, make_watermark
from telecine.service.db.queue import NewJob, NewTask
from telecine.service.domain import MAX_PRIORITY, MIN_PRIORITY, Invalid, SourcePolicy
from telecine.service.image_plans import (
    ImagePlan,
    ImageWish,
    PlannedImage,
    plan_images,
    read_wishes,
    summarize_images,
)
from telecine.service.presets import PRESETS

MAX_OUTPUTS = 32
MAX_RUNGS = 16
MAX_METADATA_BYTES = 16 * 1024
IMAGE = "image"  # the type of an output that is made of a picture

# Megapixels that one processor encodes a second, x264 veryfast, decoding and scaling included: Big
# Buck Bunny 1080p24, rungs 1080 to 360, 36 s of CPU time for 3065 megapixels (DESIGN section 6).
MEGAPIXELS_A_SECOND = 85.0

# CPU seconds of any picture, and megapixels that one processor reads and writes a second: a JPEG of
# 2725 × 2225 written whole and at 800 pixels in width, libvips 8.18, one core of a 2-core machine.
IMAGE_S = 0.02
READ_MEGAPIXELS_A_SECOND = 150.0
WRITTEN_MEGAPIXELS_A_SECOND = {
    "jpeg": 100.0, "png": 26.0, "webp": 13.0, "avif": 4.2, "gif": 2.5, "tiff": 15.0,
}  # fmt: skip

# Publishing and `verify` read every segment once more. What they take is small beside encoding.
FINISH_SHARE = 0.02
FINISH_S = 0.2
DIGEST_BYTES_A_SECOND = 500e6

# What a job does about the source's SHA-256: it is known; made beside the job, which does not wait
# for it; or made before the job may succeed, because the client said what it has to be.
Digest = Literal["known", "beside", "first"]


@dataclass(frozen=True, slots=True)
class Order:
    """A checked wish. `outputs` are the typed objects, as the client reads them back; they are in
    `profile`, which is then that of a film or sound, or they are all `images`."""

    preset: str | None
    outputs: tuple[dict[str, Any], ...]
    profile: Profile
    images: tuple[ImageWish, ...]
    priority: int
    metadata: dict[str, str]
    source_policy: SourcePolicy
    key: ContentKey | None = None  # of the profile's protection; `outputs` are without it


def make_order(
    *,
    preset: str | None = None,
    outputs: Sequence[Mapping[str, Any]] | None = None,
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    source_policy: str = "keep",
) -> Order:
    """Check a wish. Raises `Invalid`: `outputs_missing`, `outputs_and_preset`, `outputs_mixed`,
    `preset_unknown`, `output_invalid`, `priority_invalid`, `metadata_invalid`,
    `source_policy_unknown`, and the engine's own: `output_unknown`, `output_twice`,
    `bitrate_invalid`, `rung_invalid`, `loudness_invalid`, `format_unknown`, those of the grammar of
    images."""
    wanted = _wanted(preset, outputs)
    pictures = _are_images(wanted)
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise Invalid(
            f"priority {priority}: from {MIN_PRIORITY} to {MAX_PRIORITY}", code="priority_invalid"
        )
    if source_policy not in get_args(SourcePolicy):
        raise Invalid(
            f"source policy {source_policy!r}: one of {', '.join(get_args(SourcePolicy))}",
            code="source_policy_unknown",
        )
    policy: SourcePolicy = source_policy  # type: ignore[assignment]  # checked against get_args
    profile, key = (Profile(()), None) if pictures else _profile(wanted)
    return Order(
        preset=preset,
        outputs=tuple(_without_key(_without_nulls(output), profile) for output in wanted),
        profile=profile,
        images=read_wishes(wanted) if pictures else (),
        priority=priority,
        metadata=_checked_metadata(metadata or {}),
        source_policy=policy,
        key=key,
    )


def write_order(order: Order) -> dict[str, Any]:
    """An order as JSON: what an upload keeps until it is complete. Raises `Invalid`
    (`protection_in_upload`): what an upload carries is kept as it was written, and given back."""
    if order.key is not None:
        raise Invalid(
            "a key is given with a job, not with an upload: submit the job once it is complete",
            code="protection_in_upload",
        )
    return {
        "preset": order.preset,
        "outputs": None if order.preset is not None else list(order.outputs),
        "priority": order.priority,
        "metadata": order.metadata,
        "source_policy": order.source_policy,
    }


def read_order(plain: Mapping[str, Any]) -> Order:
    """The order that `write_order` wrote. Raises as `make_order` does."""
    return make_order(
        preset=plain["preset"],
        outputs=plain["outputs"],
        priority=plain["priority"],
        metadata=plain["metadata"],
        source_policy=plain["source_policy"],
    )


# --- outputs --------------------------------------------------------------------------------------


def _wanted(
    preset: str | None, outputs: Sequence[Mapping[str, Any]] | None
) -> Sequence[Mapping[str, Any]]:
    if preset is not None and outputs is not None:
        raise Invalid("outputs or a preset, not both", code="outputs_and_preset")
    if preset is not None:
        if preset not in PRESETS:
            raise Invalid(
                f"no preset {preset!r}: one of {', '.join(PRESETS)}", code="preset_unknown"
            )
        return PRESETS[preset].outputs
    if not outputs:
        raise Invalid(
            "nothing is asked for: name a preset or at least one output", code="outputs_missing"
        )
    if len(outputs) > MAX_OUTPUTS:
        raise Invalid(f"{len(outputs)} outputs: at most {MAX_OUTPUTS}", code="output_invalid")
    if not all(isinstance(output, Mapping) for output in outputs):
        raise Invalid('an output is an object such as {"type": "hls"}', code="output_invalid")
    return outputs


def _are_images(wanted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether pictures are asked for. Raises `Invalid` (`outputs_mixed`) where a film is, too."""
    pictures = [output.get("type") == IMAGE for output in wanted]
    if any(pictures) and not all(pictures):
        raise Invalid(
            "images and what is made of films are asked for in one job: submit two",
            code="outputs_mixed",
        )
    return all(pictures)


def _profile(wanted: Sequence[Mapping[str, Any]]) -> tuple[Profile, ContentKey | None]:
    """What is asked for, and the key that it is to be encrypted with."""
    streams = [output for output in wanted if output.get("type") == "hls"]
    if len(streams) > 1:
        raise Invalid("two outputs would both write master.m3u8", code="output_twice")
    try:
        outputs = tuple(_output(plain) for plain in wanted)
        loudness_lufs = _loudness(wanted)
        protection, key = _protection(wanted)
        if streams:
            profile = _streaming(outputs, streams[0], loudness_lufs, protection)
        else:
            profile = make_profile(outputs, loudness_lufs=loudness_lufs)
        mark = _watermark(wanted)
        mark_alone = None if mark is None else mark[0]
        profile = replace(
            profile,
            clip=_clip(wanted),
            watermark=mark_alone,
            quality=_quality(wanted),
            measure=_measure(wanted),
        )
        films = _concat(wanted)
        return (with_films(profile, len(films)) if films else profile), key
    except UsageError as error:
        raise Invalid(error.message, code=error.code) from error


def _output(plain: Mapping[str, Any]) -> Output:
    kind = str(plain.get("type"))
    if kind not in get_args(OutputKind):
        known = ", ".join((*get_args(OutputKind), IMAGE))
        raise Invalid(f"unknown output type {kind[:40]!r}: one of {known}", code="output_unknown")
    fields = _FIELDS.get(kind, frozenset())
    unknown = sorted(set(plain) - fields - {"type"})
    if unknown:
        raise Invalid(
            f"output {kind}: no field {str(unknown[0])[:40]!r}; it has "
            f"{', '.join(('type', *sorted(fields)))}",
            code="output_invalid",
        )
    if kind == "mp4":
        size = _field(plain, "size", str, "source")
        return Output("mp4", None if size == "source" else parse_rung(size))
    if kind == "thumbnails":
        every_s = _field(plain, "every_s", int, None)
        return parse_output(kind if every_s is None else f"{kind}:every={every_s}s")
    rate = _field(plain, "bitrate_bps", int, None)
    return parse_output(kind if rate is None else f"{kind}@{rate}")


_FIELDS: dict[str, frozenset[str]] = {
    "hls": frozenset(
        {"rungs", "top", "codecs", "hdr", "subtitles", "burn_subtitle", "loudness_lufs"}
        | {"clip", "watermark", "concat", "protection", "quality", "measure"}
    ),
    "mp4": frozenset(
        {"size", "loudness_lufs", "clip", "watermark", "concat", "quality", "measure"}
    ),
    "thumbnails": frozenset({"every_s"}),
    **{kind: frozenset({"bitrate_bps", "loudness_lufs", "clip", "concat"}) for kind in AUDIO_KINDS},
    "flac": frozenset({"loudness_lufs", "clip", "concat"}),
}


def _whole(
    wanted: Sequence[Mapping[str, Any]], name: str, fields: Mapping[str, tuple[type, ...]]
) -> Mapping[str, Any] | None:
    """An object that holds for the whole job: whichever output says it says it for all."""
    said = [plain[name] for plain in wanted if plain.get(name) is not None]
    for one in said:
        known = isinstance(one, Mapping) and one.keys() <= fields.keys()
        if not known or any(type(value) not in fields[field] for field, value in one.items()):
            raise Invalid(f"{name}: an object of {', '.join(fields)}", code="output_invalid")
    if any(one != said[0] for one in said):
        raise Invalid(f"a job has one {name}: submit two", code="output_invalid")
    return said[0] if said else None


_NUMBER = (int, float)


def _clip(wanted: Sequence[Mapping[str, Any]]) -> Clip | None:
    """The part of the film that all outputs are made of."""
    said = _whole(wanted, "clip", {"start_s": _NUMBER, "end_s": (*_NUMBER, type(None))})
    if said is None:
        return None
    end = said.get("end_s")
    return make_clip(
        _exact(said.get("start_s", 0)),
        None if end is None else _exact(end),
    )


_MARK_FIELDS = {"asset": (str,), "position": (str,), "opacity": _NUMBER, "scale": _NUMBER}
MARK_OPACITY = 1.0
MARK_SCALE = 0.1


def _watermark(wanted: Sequence[Mapping[str, Any]]) -> tuple[Watermark, str] | None:
    """What is laid over the film, with the id of the asset that it is."""
    said = _whole(wanted, "watermark", _MARK_FIELDS)
    if said is None:
        return None
    if not {"asset", "position"} <= said.keys():
        raise Invalid(
            'watermark: an object such as {"asset": "…", "position": "top-right"}',
            code="output_invalid",
        )
    numbers = [
        _exact(said.get(name, default))
        for name, default in (("opacity", MARK_OPACITY), ("scale", MARK_SCALE))
    ]
    return make_watermark(said["position"], *numbers), said["asset"]


def _concat(wanted: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The assets of the films that follow the source in all outputs of the job."""
    said = [plain["concat"] for plain in wanted if plain.get("concat")]
    for ids in said:
        if not isinstance(ids, list) or not all(type(one) is str for one in ids):
            raise Invalid("concat: a list of assets", code="output_invalid")
    if any(ids != said[0] for ids in said):
        raise Invalid("a job has one concat: submit two", code="output_invalid")
    return said[0] if said else ()


def _exact(number: float) -> Fraction:
    """The decimal number that was written."""
    if not abs(number) <= 1_000_000:  # nor what is no number
        raise Invalid("clip, watermark: a number is out of range", code="output_invalid")
    return Fraction(str(number))


def _loudness(wanted: Sequence[Mapping[str, Any]]) -> float | None:
    """What all sound of the job is brought to: whichever output says it says it for all."""
    said = [plain["loudness_lufs"] for plain in wanted if plain.get("loudness_lufs") is not None]
    if any(type(lufs) not in (int, float) for lufs in said):
        raise Invalid("loudness_lufs is a number such as -16", code="output_invalid")
    if len(set(said)) > 1:
        raise Invalid(
            "all sound of a job is brought to one loudness_lufs: submit two", code="output_invalid"
        )
    return None if not said else parse_loudness(f"{said[0]:g}")


def _quality(wanted: Sequence[Mapping[str, Any]]) -> float | None:
    """The VMAF that every rung of the job aims at: whichever output says it says it for all."""
    said = [plain["quality"] for plain in wanted if plain.get("quality") is not None]
    if any(type(vmaf) not in (int, float) for vmaf in said):
        raise Invalid("quality is a number such as 90", code="output_invalid")
    if len(set(said)) > 1:
        raise Invalid("all rungs of a job aim at one quality: submit two", code="output_invalid")
    return None if not said else parse_quality(f"{said[0]:g}")


def _measure(wanted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the quality of what was made is measured, for one output and so for all."""
    said = [plain["measure"] for plain in wanted if plain.get("measure") is not None]
    if any(one not in MEASURES for one in said):
        raise Invalid(f"measure is one of {', '.join(MEASURES)}", code="output_invalid")
    return bool(said)


def _streaming(
    outputs: tuple[Output, ...],
    plain: Mapping[str, Any],
    loudness_lufs: float | None,
    protection: Protection | None,
) -> Profile:
    """The profile of a job with this `hls` output among its own."""
    rungs = _field(plain, "rungs", list, [])
    if len(rungs) > MAX_RUNGS or any(type(rung) is not int for rung in rungs):
        raise Invalid(
            f"rungs: at most {MAX_RUNGS} short sides in pixels, such as [1080, 720]",
            code="output_invalid",
        )
    top = _field(plain, "top", str, "auto")
    if top not in get_args(TopPolicy):
        raise Invalid(
            f"top {top[:40]!r}: one of {', '.join(get_args(TopPolicy))}", code="output_invalid"
        )
    codecs = _field(plain, "codecs", list, [FALLBACK.name])
    if not codecs or len(codecs) > len(VIDEO_ENCODERS) or any(type(c) is not str for c in codecs):
        raise Invalid(
            f'codecs: one or several of {", ".join(VIDEO_ENCODERS)}, such as ["{FALLBACK.name}"]',
            code="output_invalid",
        )
    hdr = _field(plain, "hdr", str, HDR_WORDS[0])
    if hdr not in HDR_WORDS:
        raise Invalid(f"hdr {hdr[:40]!r}: one of {', '.join(HDR_WORDS)}", code="output_invalid")
    burn = _field(plain, "burn_subtitle", str, None)
    return make_profile(
        outputs,
        tuple(parse_rung(str(rung)) for rung in rungs),
        top,
        codecs=parse_codecs(",".join(codecs)),
        hdr=hdr == "keep",
        loudness_lufs=loudness_lufs,
        subtitles=tuple(side_car for side_car, _ in _side_cars(plain)),
        burn=None if burn is None else parse_burn(burn),
        protection=protection,
    )


_PROTECTION_FIELDS = {"scheme", "key", "key_uri", "key_id"}


def _protection(
    wanted: Sequence[Mapping[str, Any]],
) -> tuple[Protection | None, ContentKey | None]:
    """How the `hls` output is to be encrypted, with which key. Raises `UsageError`."""
    said = [plain["protection"] for plain in wanted if plain.get("protection") is not None]
    if not said:
        return None, None
    (one, *_) = said
    known = isinstance(one, Mapping) and {"scheme", "key", "key_uri"} <= one.keys()
    if (
        not known
        or not one.keys() <= _PROTECTION_FIELDS
        or not all(
            isinstance(value, str) or (name == "key_id" and value is None)
            for name, value in one.items()
        )
    ):
        raise Invalid(
            "protection: an object of scheme, key, key_uri and key_id", code="output_invalid"
        )
    key = parse_key(one["key"].encode(errors="replace"))
    return make_protection(one["scheme"], one["key_uri"], key, one.get("key_id")), key


def _without_key(plain: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """An output as it is stored and told: the key is not part of it, its id is."""
    if plain.get("protection") is None or profile.protection is None:
        return plain
    one = profile.protection
    said = {"scheme": one.scheme, "key_id": one.key_id, "key_uri": one.uri}
    return {**plain, "protection": said}


_SIDE_CAR_FIELDS = {"asset": str, "language": str, "forced": bool, "hearing_impaired": bool}


def _side_cars(plain: Mapping[str, Any]) -> list[tuple[SideCar, str]]:
    """The files of subtitles that an `hls` output names, each with the id of its asset."""
    found = []
    for item in _field(plain, "subtitles", list, []):
        known = isinstance(item, Mapping) and {"asset", "language"} <= item.keys()
        known = known and all(type(item[f]) is _SIDE_CAR_FIELDS.get(f) for f in item)
        if not known or ":" in item["language"]:  # what the command says behind it has its field
            raise Invalid(
                'subtitles: objects such as {"asset": "…", "language": "en"}, with forced or '
                "hearing_impaired where they are so",
                code="output_invalid",
            )
        side_car = replace(
            parse_side_car(item["language"]),
            forced=item.get("forced", False),
            hearing_impaired=item.get("hearing_impaired", False),
        )
        found.append((side_car, item["asset"]))
    return found


def input_assets(outputs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The assets that a checked order reads beside its source: name of the input → id."""
    mark, films = _watermark(outputs), _concat(outputs)
    return (
        {
            side_car.name: asset_id
            for output in outputs
            if output["type"] == "hls"
            for side_car, asset_id in _side_cars(output)
        }
        | ({} if mark is None else {INPUT: mark[1]})
        | dict(zip(film_names(len(films)), films, strict=True))
    )


def _field(plain: Mapping[str, Any], name: str, kind: type, missing: Any) -> Any:
    """A field of this type; `missing` where it is absent or null."""
    value = plain.get(name)
    if value is None:
        return missing
    if type(value) is not kind:  # exactly: True is an int to Python, not to JSON
        words = {str: "text", int: "a whole number", list: "a list"}
        raise Invalid(f"output {plain['type']}: {name} is {words[kind]}", code="output_invalid")
    return value


def _without_nulls(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if value is not None}


def _checked_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    if any(not (isinstance(key, str) and isinstance(metadata[key], str)) for key in metadata):
        raise Invalid('metadata: text by text, such as {"order": "17"}', code="metadata_invalid")
    try:
        size_bytes = len(json.dumps(dict(metadata), ensure_ascii=False).encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON lets through
        raise Invalid("metadata: text that is no Unicode", code="metadata_invalid") from None
    if size_bytes > MAX_METADATA_BYTES:
        raise Invalid(
            f"metadata of {size_bytes} bytes: at most {MAX_METADATA_BYTES}",
            code="metadata_invalid",
        )
    return dict(metadata)


# --- jobs -----------------------------------------------------------------------------------------


def choose_digest(known: str | None, expected: str | None) -> Digest:
    """What a job does about the SHA-256 of a source: the one that was made of it, if any, and the
    one that the client announced."""
    if known is not None:
        return "known"
    return "beside" if expected is None else "first"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a source: as a film or sound, as a picture, as a file of subtitles; an
    animation is both of the first."""

    media: MediaInfo | None
    image: ImageInfo | None
    is_subtitles: bool = False


def plan_order(
    order: Order, source: Found, limits: ImageLimits, inputs: tuple[ExtraInput, ...] = ()
) -> Plan | ImagePlan:
    """How to carry this order out; `inputs` are the files that it reads beside the source. Raises
    `Invalid` (`output_not_of_source`), and what `make_plan` or `plan_images` raises where the
    source does not fit what is wanted."""
    if source.is_subtitles:
        raise Invalid(
            "a file of subtitles goes with a film: name it there, in `subtitles` of `hls`",
            code="output_not_of_source",
        )
    if order.images:
        if source.image is None:
            raise Invalid(
                "image outputs are made of pictures, and this is a film or sound: `poster` makes a "
                "picture of a film",
                code="output_not_of_source",
            )
        return plan_images(source.image, order.images, limits)
    if source.media is None:
        kinds = ", ".join(dict.fromkeys(output.kind for output in order.profile.outputs))
        raise Invalid(
            f"{kinds}: made of films and sound, and this is a picture: ask for image outputs",
            code="output_not_of_source",
        )
    return make_plan(source.media, order.profile, inputs=inputs)


def new_job(
    order: Order,
    plan: Plan | ImagePlan,
    *,
    job_id: str,
    user_id: str,
    asset_id: str,
    digest: Digest = "beside",
) -> NewJob:
    """The job that carries out this order by this plan, ready for `queue.submit`."""
    return NewJob(
        id=job_id,
        user_id=user_id,
        asset_id=asset_id,
        priority=order.priority,
        preset=order.preset,
        outputs=list(order.outputs),
        metadata=dict(order.metadata),
        source_policy=order.source_policy,
        plan=plan.to_json(),
        plan_summary=summarize(plan),
        tasks=make_tasks(plan, digest=digest),
    )


def make_tasks(plan: Plan | ImagePlan, *, digest: Digest = "beside") -> tuple[NewTask, ...]:
    """A task for each step in the plan's order, then `finish`, which needs them all, and last the
    source's digest: nobody waits for it, so that finished files do not either. Where it has to come
    `first`, `finish` needs it too. Of pictures the digest is always known."""
    if isinstance(plan, ImagePlan):
        return _image_tasks(plan)
    positions = {step.id: n for n, step in enumerate(plan.steps)}
    # A single worker copies the picture whole before the sound begins. The other way round a film
    # plays later still (10 min of 1080p: the copy takes 8 s, the sound 14), and what comes second
    # is made some forty times as fast as it plays: nobody waits for it again.
    opening = {step.id for step in plan.opening} if plan.hls else set()
    tasks = [
        NewTask(
            kind="step",
            step_id=step.id,
            opening=step.id in opening,
            weight_s=encoder_s(plan, step),
            needs=tuple(positions[need] for need in step.needs),
        )
        for step in plan.steps
    ]
    finish_s = FINISH_S + FINISH_SHARE * sum(task.weight_s for task in tasks)
    digest_s = plan.source.fingerprint.size_bytes / DIGEST_BYTES_A_SECOND
    if digest == "first":
        tasks.append(NewTask("digest", None, False, digest_s, ()))
    tasks.append(NewTask("finish", None, False, finish_s, tuple(range(len(tasks)))))
    if digest == "beside":
        tasks.append(NewTask("digest", None, False, digest_s, ()))
    return tuple(tasks)


def _image_tasks(plan: ImagePlan) -> tuple[NewTask, ...]:
    made = [NewTask("image", one.path, False, image_s(plan, one), ()) for one in plan.outputs]
    return (*made, NewTask("finish", None, False, FINISH_S, tuple(range(len(made)))))


def image_s(plan: ImagePlan, image: PlannedImage) -> float:
    """CPU seconds that a picture is expected to take."""
    read = plan.source.width * plan.source.height * image.frames / 1e6
    written = image.width * image.height * image.frames / 1e6
    work_s = read / READ_MEGAPIXELS_A_SECOND + written / WRITTEN_MEGAPIXELS_A_SECOND[image.format]
    return round(IMAGE_S + work_s, 4)


def encoder_s(plan: Plan, step: Step) -> float:
    """CPU seconds that a step is expected to take."""
    return round(step_work(plan, step) / MEGAPIXELS_A_SECOND, 4)


def summarize(plan: Plan | ImagePlan) -> dict[str, Any]:
    """What a reader of a job needs of its plan, as JSON: far smaller than a film's plan, which
    names every keyframe. `steps` tells what progress in each means."""
    if isinstance(plan, ImagePlan):
        return summarize_images(plan)
    return {
        "duration_s": round(float(plan.timeline.duration_s), 3),
        "frame_rate": round(float(plan.timeline.rate), 3) if plan.video is not None else None,
        "segments": plan.timeline.segments,
        "chunks": len(plan.chunks),
        "source": list(describe(plan.source)),
        "changes": [*changes(plan), *_films(plan)],
        "rungs": [
            {
                "name": r.name,
                "kind": "video",
                "codec": r.codec,
                "video_range": r.video_range,
                "width": r.size.width,
                "height": r.size.height,
                "mode": r.mode,
                "max_bitrate_bps": None if r.mode == "copy" else r.ceiling_bps,
                "listed": r.listed,
                "reason": r.reason,
            }
            for r in plan.renditions
        ]
        + [
            {
                "name": s.name,
                "kind": "audio",
                "codec": None,
                "video_range": None,
                "width": None,
                "height": None,
                "mode": s.mode,
                "max_bitrate_bps": s.bitrate_bps,
                "listed": s.listed,
                "reason": s.reason,
            }
            for s in plan.sounds
        ],
        "dropped": [{"name": rung.name, "reason": rung.reason} for rung in plan.dropped],
        "top_not_copied": list(plan.copy_refusals) if plan.copied is None else [],
        "subtitles": [to_plain(subtitle_report(track)) for track in plan.subtitles],
        "burned_in": None if plan.burned_in is None else plan.burned_in.reason,
        "quality": quality_reason(plan) if plan.samples else None,
        "files": [{"type": file.kind, "path": file.path} for file in plan.files],
        "beside": [{"output": one.output, "reason": one.reason} for one in beside(plan)],
        "warnings": list(plan.warnings),
        "steps": {step.id: _step_summary(plan, step) for step in plan.steps},
    }


def _films(plan: Plan) -> list[str]:
    """Of joined films what becomes of each."""
    return [f"{film.name} from {film.start_s:g} s on: {film.reason}" for film in films(plan)]


def _step_summary(plan: Plan, step: Step) -> dict[str, Any]:
    """`made` are [begin, end) of each rendition in seconds from the step's own start."""
    start_s = plan.timeline.time_s(step.first)
    made = {
        span.rendition: [
            round(float(plan.timeline.time_s(edge) - start_s), 3) for edge in (span.first, span.end)
        ]
        for span in (() if step.kind == "mp4" else step.spans)
    }
    return {"stage": step.kind, "span_s": round(step_span_s(plan, step), 3), "made": made}
