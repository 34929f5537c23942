"""Pure: the work of a plan as steps, in the order in which they are best started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from telecine.engine.plan import FileOutput, Plan, Span, Step, VideoRendition
from telecine.engine.profile import AUDIO_KINDS
from telecine.engine.timeline import Chunk


def with_steps(plan: Plan) -> Plan:
    """Add the steps, in the order in which they are best started: what makes it playable first."""
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
    if plan.audio is not None and (plan.audio_rendition or audio_files):
        sound = () if plan.audio_rendition is None else (plan.audio_rendition.name,)
        steps.append(Step("audio", "audio", tuple(Span(name, 0, whole) for name in sound)))
    if any(file.kind == "poster" for file in plan.files):
        steps.append(Step("poster", "poster", output="poster.jpg"))
    steps.extend(chunks)
    for file in plan.files:
        if file.kind == "mp4":
            steps.append(_mp4_step(file, steps, whole))
    return replace(plan, steps=tuple(steps))


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
