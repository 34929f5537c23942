"""Pure: a plan's exact FFmpeg command lines, as `telecine plan` prints them.

The lists come from `argv`, as `encode` gets them; a test compares them with what really runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from telecine.engine import argv
from telecine.engine.inputs import NO_INPUTS
from telecine.engine.joining import film_of, film_path, film_paths, working_name
from telecine.engine.loudness import AS_IT_IS, FIRST_CEILING_DBTP, Gain
from telecine.engine.plan import WORK, Plan, Step
from telecine.engine.searching import Compared, part_name, part_of, trial_name
from telecine.engine.tools import Tools
from telecine.engine.words.watermark import INPUT

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
    return tuple(_commands(plan, tools.ffmpeg, source, folder, inputs))


def _commands(
    plan: Plan, ffmpeg: Path, source: Path, folder: Path, inputs: Mapping[str, Path]
) -> Iterator[tuple[str, list[str]]]:
    scratch = folder / WORK / SCRATCH
    mark, films = inputs.get(INPUT), film_paths(plan, source, inputs)
    burn = None
    if plan.burned_in is not None and plan.burned_in.kind == "bitmap":
        burn = folder / WORK / "burn.mkv"
    copied: set[str] = set()
    burned = False
    for step in plan.steps:
        own, share = film_of(plan, step)
        if step.kind in ("encode", "search", "measure"):
            film = film_path(own, source, inputs)
            needs_copy = own.reads_copy(share) if step.kind == "encode" else own.judges_copy
            if needs_copy:
                copy = working_name(own)
                if copy not in copied:
                    yield step.id, argv.working_copy(ffmpeg, own, film, scratch / copy)
                    copied.add(copy)
                film = folder / WORK / copy
            if burn is not None and not burned:
                yield step.id, argv.burn_copy(ffmpeg, plan, source, scratch / burn.name)
                burned = True
            made_of = argv.Film(film, needs_copy, burn, None, mark)
            for line in _pictures(own, share, ffmpeg, made_of, scratch):
                yield step.id, line
        elif step.kind == "video-copy":
            yield step.id, argv.copy_video(ffmpeg, plan, source)
        elif step.kind in ("gain", "audio", "audio-others", "loudness"):
            yield from ((step.id, line) for line in _sound(plan, step, ffmpeg, films, scratch))
        elif step.kind == "poster":
            film, size = film_path(own, source, inputs), argv.poster_size(plan)
            time_s = own.poster_time_s
            yield step.id, argv.poster(ffmpeg, own, film, size=size, time_s=time_s, mark=mark)
        elif step.kind == "waveform":
            yield step.id, argv.waveform(ffmpeg, plan, films)
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


def _pictures(
    plan: Plan, step: Step, ffmpeg: Path, film: argv.Film, scratch: Path
) -> Iterator[list[str]]:
    """A chunk, or what is judged of one. Of a search the first try stands here: the levels of the
    others follow from what is measured before."""
    if step.kind == "encode":
        yield argv.encode_chunk(ffmpeg, plan, step, film)
        return
    fine = argv.fine(plan)
    usual = {r.name: r.crf for r in plan.judged}
    for sample in plan.samples:
        if step.kind == "search":
            yield argv.encode_sample(ffmpeg, fine, sample, usual, film)
            made = [
                (scratch / trial_name(sample, r.name, usual[r.name]), Compared(r.size))
                for r in plan.judged
            ]
        else:
            made = [
                (
                    scratch / part_name(sample, r.name),
                    part_of(plan.timeline, sample, r.size)[1],
                )
                for r in plan.judged
            ]
        yield argv.compare(ffmpeg, fine, sample.number, film, made)


def _sound(
    plan: Plan, step: Step, ffmpeg: Path, films: Sequence[Path], scratch: Path
) -> Iterator[list[str]]:
    """Where a loudness was asked for, gains that are known only when it runs stand as 0 dB, and
    with them what is listened to again, as everything is that comes near to the bound."""
    gains: dict[str, Gain] = {}
    if plan.profile.loudness_lufs is not None:
        gains = {name: Gain(0.0, FIRST_CEILING_DBTP) for name in argv.encoded_sounds(plan)}
    if step.kind == "gain":
        yield argv.measure_encoded(ffmpeg, plan, films, dict.fromkeys(gains, AS_IT_IS))
        yield argv.measure_encoded(ffmpeg, plan, films, gains)
    elif step.kind == "audio":
        yield argv.audio(ffmpeg, plan, films, scratch, gains)
    elif step.kind == "audio-others":
        yield argv.audio_others(ffmpeg, plan, films, gains)
    else:
        tracks = [scratch / f"{sound.name}.mp4" for sound in plan.sounds]
        files = [scratch.parent.parent / file.path for file in argv.audio_files(plan)]
        yield argv.measure_files(ffmpeg, [*tracks, *files])
