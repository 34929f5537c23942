"""Pure: a plan's exact FFmpeg command lines, as `telecine plan` prints them.

The lists come from `argv`, as `encode` gets them; a test compares them with what really runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from telecine.engine import argv
from telecine.engine.plan import WORK, Plan
from telecine.engine.tools import Tools

SCRATCH = "scratch"  # stands for a step's own working folder, whose real name is drawn by lot


def commands(
    plan: Plan, tools: Tools, source: Path, folder: Path
) -> tuple[tuple[str, list[str]], ...]:
    """(step id, argv) in the order of the plan's steps; a step may take more than one command."""
    return tuple(_commands(plan, tools.ffmpeg, source, folder))


def _commands(
    plan: Plan, ffmpeg: Path, source: Path, folder: Path
) -> Iterator[tuple[str, list[str]]]:
    scratch = folder / WORK / SCRATCH
    copy = folder / WORK / "working.mkv"
    copied = False
    for step in plan.steps:
        if step.kind == "encode":
            needs_copy = plan.reads_copy(step)
            if needs_copy and not copied:
                yield step.id, argv.working_copy(ffmpeg, plan, source, scratch / copy.name)
                copied = True
            film = copy if needs_copy else source
            yield step.id, argv.encode_chunk(ffmpeg, plan, step, film, working_copy=needs_copy)
        elif step.kind == "video-copy":
            yield step.id, argv.copy_video(ffmpeg, plan, source)
        elif step.kind == "audio":
            yield step.id, argv.audio(ffmpeg, plan, source, scratch)
        elif step.kind == "poster":
            yield step.id, argv.poster(ffmpeg, plan, source, time_s=plan.poster_time_s)
        else:
            sound = scratch / "sound.mp4" if plan.audio_rendition is not None else None
            assert step.output is not None
            video = scratch / "video.mp4"
            yield step.id, argv.join_mp4(ffmpeg, video, sound, scratch / step.output)
