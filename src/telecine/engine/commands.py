"""Pure: a plan's exact FFmpeg command lines, as `telecine plan` prints them.

The lists come from `argv`, as `encode` gets them; a test compares them with what really runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from telecine.engine import argv
from telecine.engine.inputs import NO_INPUTS
from telecine.engine.loudness import AS_IT_IS, FIRST_CEILING_DBTP, Gain
from telecine.engine.plan import WORK, Plan, Step
from telecine.engine.tools import Tools
from telecine.engine.watermark_words import INPUT

SCRATCH = "scratch"  # stands for a step's own working folder, whose real name is drawn by lot


def commands(
    plan: Plan,
    tools: Tools,
    source: Path,
    folder: Path,
    inputs: Mapping[str, Path] = NO_INPUTS,
) -> tuple[tuple[str, list[str]], ...]:
    """(step id, argv) in the order of the plan's steps; a step may take more than one command.
    `inputs` says where the files beside the source lie."""
    return tuple(_commands(plan, tools.ffmpeg, source, folder, inputs.get(INPUT)))


def _commands(
    plan: Plan, ffmpeg: Path, source: Path, folder: Path, mark: Path | None
) -> Iterator[tuple[str, list[str]]]:
    scratch = folder / WORK / SCRATCH
    copy = folder / WORK / "working.mkv"
    copied = burned = False
    for step in plan.steps:
        if step.kind == "encode":
            needs_copy = plan.reads_copy(step)
            if needs_copy and not copied:
                yield step.id, argv.working_copy(ffmpeg, plan, source, scratch / copy.name)
                copied = True
            film = copy if needs_copy else source
            burn = None
            if plan.burned_in is not None and plan.burned_in.kind == "bitmap":
                burn = folder / WORK / "burn.mkv"
                if not burned:
                    yield step.id, argv.burn_copy(ffmpeg, plan, source, scratch / burn.name)
                    burned = True
            yield (
                step.id,
                argv.encode_chunk(
                    ffmpeg, plan, step, film, working_copy=needs_copy, burn=burn, mark=mark
                ),
            )
        elif step.kind == "video-copy":
            yield step.id, argv.copy_video(ffmpeg, plan, source)
        elif step.kind in ("gain", "audio", "audio-others", "loudness"):
            yield from ((step.id, line) for line in _sound(plan, step, ffmpeg, source, scratch))
        elif step.kind == "poster":
            time_s = plan.poster_time_s
            yield step.id, argv.poster(ffmpeg, plan, source, time_s=time_s, mark=mark)
        elif step.kind == "waveform":
            yield step.id, argv.waveform(ffmpeg, plan, source)
        elif step.kind == "preview":
            assert plan.preview is not None
            yield step.id, argv.preview(ffmpeg, plan.preview, scratch / "pieces.mp4")
        elif step.kind == "mp4":
            sound = scratch / "sound.mp4" if plan.sounds else None
            assert step.output is not None
            video = scratch / "video.mp4"
            yield step.id, argv.join_mp4(ffmpeg, video, sound, scratch / step.output)
        for stills in plan.stills:
            if step.kind == stills.kind:
                yield step.id, argv.stills(ffmpeg, stills, scratch / "keys.mp4")


def _sound(
    plan: Plan, step: Step, ffmpeg: Path, source: Path, scratch: Path
) -> Iterator[list[str]]:
    """Where a loudness was asked for, gains that are known only when it runs stand as 0 dB, and
    with them what is listened to again, as everything is that comes near to the bound."""
    gains: dict[str, Gain] = {}
    if plan.profile.loudness_lufs is not None:
        gains = {name: Gain(0.0, FIRST_CEILING_DBTP) for name in argv.encoded_sounds(plan)}
    if step.kind == "gain":
        yield argv.measure_encoded(ffmpeg, plan, source, dict.fromkeys(gains, AS_IT_IS))
        yield argv.measure_encoded(ffmpeg, plan, source, gains)
    elif step.kind == "audio":
        yield argv.audio(ffmpeg, plan, source, scratch, gains)
    elif step.kind == "audio-others":
        yield argv.audio_others(ffmpeg, plan, source, gains)
    else:
        tracks = [scratch / f"{sound.name}.mp4" for sound in plan.sounds]
        files = [scratch.parent.parent / file.path for file in argv.audio_files(plan)]
        yield argv.measure_files(ffmpeg, [*tracks, *files])
