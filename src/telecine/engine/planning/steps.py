"""Pure: the work of a plan as steps, in the order in which they are best started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from telecine.engine.chapters import CHAPTERS_VTT
from telecine.engine.plan import FileOutput, Plan, Span, Step, StepKind, VideoRendition
from telecine.engine.profile import AUDIO_KINDS
from telecine.engine.timeline import Chunk


def with_steps(plan: Plan) -> Plan:
    """Add the steps, in the order in which they are best started: what makes it playable first.
    The first of two plans has none but the search (`Plan.searching`)."""
    if plan.searching:
        return replace(plan, steps=_with_inputs(plan, [Step("search", "search")]))
    steps: list[Step] = []
    whole = plan.timeline.segments
    audio_files = [file.path for file in plan.files if file.kind in AUDIO_KINDS]
    if plan.copied is not None:
        steps.append(Step("video-copy", "video-copy", (Span(plan.copied.name, 0, whole),)))
    encoded = [r for r in plan.renditions if r.mode == "encode"]
    if plan.head_segments:
        head = tuple(Span(r.name, 0, plan.head_segments) for r in encoded if r.head)
        steps.append(Step("encode-0000-head", "encode", head))
    chunks = [_chunk_step(plan, chunk, encoded) for chunk in plan.chunks] if encoded else []
    if chunks and not plan.head_segments:
        steps.append(chunks.pop(0))
    if plan.audio is not None and (plan.sounds or audio_files):
        steps.extend(_sound_steps(plan))
    if any(file.kind == "poster" for file in plan.files):
        steps.append(Step("poster", "poster", output="poster.jpg"))
    if plan.subtitles:
        files = tuple(track.input for track in plan.subtitles if track.input is not None)
        steps.append(Step("subtitles", "subtitles", inputs=files))
    steps.extend(chunks)
    if any(step.kind == "audio" for step in steps):
        steps.append(_measuring_step(steps))
    for file in plan.files:
        if file.kind == "mp4":
            steps.append(_mp4_step(file, steps, whole))
    steps.extend(_beside_steps(plan, steps))
    if plan.profile.measure and plan.samples:
        judged = {rendition.name for rendition in plan.judged}
        makers = (s for s in steps if s.kind == "encode" and judged & {*s.renditions})
        steps.append(Step("measure", "measure", needs=tuple(step.id for step in makers)))
    return replace(plan, steps=_with_inputs(plan, steps))


_OF_PICTURES: tuple[StepKind, ...] = ("encode", "search", "measure")


def _with_inputs(plan: Plan, steps: list[Step]) -> tuple[Step, ...]:
    """The steps with the files beside the source that become part of their pictures."""
    burned = plan.burned_in.input if plan.burned_in is not None else None
    if burned is not None:
        steps = [replace(s, inputs=(burned,)) if s.kind in _OF_PICTURES else s for s in steps]
    if plan.overlay is not None:
        mark = (plan.overlay.input,)
        shown = (*_OF_PICTURES, "poster")
        steps = [replace(s, inputs=s.inputs + mark) if s.kind in shown else s for s in steps]
    if plan.parts:
        steps = [replace(step, inputs=(*_films_read(plan, step), *step.inputs)) for step in steps]
    return tuple(steps)


_OF_ALL_FILMS = ("gain", "audio", "audio-others", "waveform", "subtitles")


def _films_read(plan: Plan, step: Step) -> list[str]:
    """Which of the films that are joined to the source a step reads."""
    return [
        part.input
        for part in plan.parts
        if part.input is not None
        and (
            step.kind in _OF_ALL_FILMS
            or (step.kind in ("encode", "poster") and part.first <= step.first < part.end)
        )
    ]


def _beside_steps(plan: Plan, before: Sequence[Step]) -> list[Step]:
    """What nobody waits for to play, once what it is made of is there."""

    def makers(rendition: str) -> tuple[str, ...]:
        made_by = (step for step in before if step.kind != "mp4" and rendition in step.renditions)
        return tuple(step.id for step in made_by)

    steps = [
        Step(one.kind, one.kind, output=f"{one.kind}.vtt", needs=makers(one.rendition))
        for one in plan.stills
    ]
    if plan.preview is not None:
        needs = makers(plan.preview.rendition)
        steps.append(Step("preview", "preview", output="preview.webp", needs=needs))
    if plan.waveform is not None:
        steps.append(Step("waveform", "waveform", output="waveform.json"))
    if plan.chapters:
        steps.append(Step("chapters", "chapters", output=CHAPTERS_VTT))
    return steps


def _sound_steps(plan: Plan) -> list[Step]:
    """What makes sound: first what plays by default. Where a loudness was asked for, the whole of
    every track is listened to before."""
    spans = tuple(Span(sound.name, 0, plan.timeline.segments) for sound in plan.sounds)
    gain = [] if plan.profile.loudness_lufs is None else [Step("gain", "gain")]
    needs = tuple(step.id for step in gain)
    steps = [*gain, Step("audio", "audio", spans[:1], needs=needs)]
    if spans[1:]:
        steps.append(Step("audio-others", "audio-others", spans[1:], needs=needs))
    return steps


def _measuring_step(before: Sequence[Step]) -> Step:
    """How loud each sound is that these steps make."""
    needs = tuple(step.id for step in before if step.kind in ("audio", "audio-others"))
    return Step("loudness", "loudness", needs=needs)


def _chunk_step(plan: Plan, chunk: Chunk, encoded: Sequence[VideoRendition]) -> Step:
    """All rungs of a chunk from one decode; in the first, head rungs go on where the head ended."""
    spans = []
    for rendition in encoded:
        made = plan.head_segments if rendition.head else 0
        if max(chunk.first, made) < chunk.end:
            spans.append(Span(rendition.name, max(chunk.first, made), chunk.end))
    return Step(f"encode-{chunk.index:04d}", "encode", tuple(spans))


def _mp4_step(file: FileOutput, before: Sequence[Step], whole: int) -> Step:
    needs = tuple(
        step.id
        for step in before
        if step.kind == "audio" or (file.rendition in step.renditions and step.kind != "mp4")
    )
    assert file.rendition is not None
    spans = (Span(file.rendition, 0, whole),)
    return Step(f"mp4-{file.path[:-4]}", "mp4", spans, output=file.path, needs=needs)
