"""Pure: where quality is searched for or measured, and what becomes of renditions by a search."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from telecine.engine.encoders import VIDEO_ENCODERS
from telecine.engine.ladder import DroppedRung, Size
from telecine.engine.plan import WORK, Plan, VideoRendition
from telecine.engine.searching import (
    TOLERANCE,
    VMAF_LEAST_SIDE,
    Choice,
    Choices,
    Score,
    choose_samples,
    fine_timeline,
    loads,
)


def with_quality(plan: Plan, choices: Choices | None) -> Plan:
    """Where samples are taken, and the renditions as a search chose them. Without `choices` a plan
    that aims at a quality is the first of two: it only searches (`Plan.searching`)."""
    profile = plan.profile
    if profile.quality is None and not profile.measure:
        return plan
    asked = "quality" if profile.quality is not None else "measure"
    if plan.video is None or not plan.judged:
        why = "no video" if plan.video is None else _unjudged(plan)
        return replace(plan, warnings=(*plan.warnings, f"{why}: `{asked}` has nothing to measure"))
    fine = fine_timeline(plan.timeline)
    plan = replace(plan, samples=choose_samples(fine, loads(plan.video, fine)))
    if choices is None or profile.quality is None:
        return plan
    files = {file.rendition for file in plan.files}
    dropped = _dropped(plan, choices)
    renditions = _as_chosen(plan.renditions, choices, {rung.name for rung in dropped}, files)
    return replace(plan, choices=choices, renditions=renditions, dropped=(*plan.dropped, *dropped))


def _unjudged(plan: Plan) -> str:
    small = [r.size for r in plan.listed if r.size.short_side < VMAF_LEAST_SIDE]
    if small:
        return f"{small[0]} pixels are below {VMAF_LEAST_SIDE}×{VMAF_LEAST_SIDE}"
    return "nothing is encoded in SDR"


def _dropped(plan: Plan, choices: Choices) -> list[DroppedRung]:
    """What the search found to add nothing, and with it the rungs of those sizes in HDR: they show
    the same film."""
    found = {rung.name: rung for rung in choices.dropped}
    sizes: dict[Size, DroppedRung] = {}
    for rendition in plan.renditions:
        if rendition.name in found:
            sizes.setdefault(rendition.size, found[rendition.name])
    kept = {r.size for r in plan.judged if r.listed and r.name not in found}
    for rendition in plan.renditions:
        hdr = rendition.video_range != "SDR"
        if hdr and rendition.size in sizes and rendition.size not in kept:
            reason = f"as {sizes[rendition.size].name} in SDR"
            found[rendition.name] = DroppedRung(rendition.name, reason)
    return list(found.values())


def _as_chosen(
    renditions: Sequence[VideoRendition],
    choices: Choices,
    dropped: Collection[str],
    files: Collection[str | None],
) -> tuple[VideoRendition, ...]:
    found = []
    for rendition in renditions:
        if rendition.name not in dropped:
            found.append(_chosen(rendition, choices, renditions))
        elif rendition.name in files:  # a file is joined from it
            one = _chosen(rendition, choices, renditions)
            home = f"{WORK}/video/{rendition.name}"
            found.append(replace(one, listed=False, head=False, folder=home))
    return tuple(found)


def _chosen(
    rendition: VideoRendition, choices: Choices, renditions: Sequence[VideoRendition]
) -> VideoRendition:
    if rendition.mode == "copy":
        return rendition
    if rendition.video_range != "SDR":
        said = f"VMAF is made for SDR: at the usual CRF {rendition.crf:g}"
    else:
        choice = choices.of(rendition.name) or _neighbour(rendition, choices, renditions)
        if choice is None:
            return rendition
        if choice.rendition != rendition.name:  # the source was to be copied, and is damaged
            said = f"not searched: CRF {choice.crf:g} as {choice.rendition}"
        else:
            said = choice.reason
        rendition = replace(rendition, crf=choice.crf)
    return replace(rendition, reason=f"{rendition.reason}; {said}")


def _neighbour(
    rendition: VideoRendition, choices: Choices, renditions: Sequence[VideoRendition]
) -> Choice | None:
    """The choice for the largest rung of the same codec."""
    searched = [r for r in renditions if r.codec == rendition.codec and choices.of(r.name)]
    largest = max(searched, key=lambda r: r.size.pixels, default=None)
    return None if largest is None else choices.of(largest.name)


def missed(plan: Plan, scores: Sequence[Score]) -> list[str]:
    """A warning for each rung that came out farther from what was aimed at than is promised."""
    target, choices = plan.profile.quality, plan.choices
    if target is None or choices is None:
        return []
    said = []
    for score in scores:
        choice = choices.of(score.rendition)
        if choice is not None and abs(score.vmaf - target) > TOLERANCE:
            said.append(
                f"{score.rendition}: VMAF {score.vmaf:.1f} is measured where {target:g} was aimed "
                f"at: {choice.reason}"
            )
    return said


def ladders(plan: Plan) -> list[list[VideoRendition]]:
    """Of each codec the judged rungs in the playlists, lowest first: those of them that add nothing
    to the one below are dropped. Rungs that were asked for by name stay."""
    if plan.profile.rungs:
        return []
    listed = [r for r in plan.judged if r.listed]
    found = []
    for codec in VIDEO_ENCODERS:
        own = sorted((r for r in listed if r.codec == codec), key=lambda r: r.size.pixels)
        if len(own) > 1:
            found.append(own)
    return found
