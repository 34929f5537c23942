"""Steps that make sound, and those that measure how loud it is.

`audio` makes what plays by default, and the files of sound; `audio-others` every other rendition.
Where a loudness was asked for, `gain` decides before them by how much each sound is raised, and
leaves that in the folder. `loudness` measures what was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from telecine.engine import argv, loudness
from telecine.engine.disk import read_small, working_folder, write_whole
from telecine.engine.encoders import AAC_FRAME_SAMPLES
from telecine.engine.loudness import Gain, Level, Loudness
from telecine.engine.plan import WORK, AudioRendition, Plan
from telecine.engine.process import Limits, limits_for
from telecine.engine.segments import AudioSegments, Made, OnSegment
from telecine.engine.steps.work import MadeFile, Work, put, whole_track

# How often what comes near to the bound is listened to again: the first time shows what the limiter
# takes away and what the encoder adds, the others whether making that good was enough.
ROUNDS = 4

# Nobody waits for it, and it takes what chunks could use.
MEASURING_NICENESS = 10


def audio(work: Work, on_segment: OnSegment) -> tuple[tuple[Made, ...], tuple[MadeFile, ...]]:
    plan = work.plan
    writers = [_writer(work, sound, on_segment) for sound in plan.sounds[:1]]
    files = argv.audio_files(plan)
    with working_folder(work.folder / WORK, "audio") as scratch:
        work.ffmpeg(
            argv.audio(work.tools.ffmpeg, plan, work.films, scratch, _gains(work)),
            _sinks(writers),
            limits=_limits(plan, 1 + len(files)),
            read=work.films,
            write=scratch if files else None,
        )
        made = tuple(writer.finish() for writer in writers)
        return made, put(work, scratch, [file.path for file in files])


def audio_others(work: Work, on_segment: OnSegment) -> tuple[Made, ...]:
    plan = work.plan
    writers = [_writer(work, sound, on_segment) for sound in plan.sounds[1:]]
    work.ffmpeg(
        argv.audio_others(work.tools.ffmpeg, plan, work.films, _gains(work)),
        _sinks(writers),
        limits=_limits(plan, len(writers)),
        read=work.films,
    )
    return tuple(writer.finish() for writer in writers)


def _sinks(writers: Sequence[AudioSegments]) -> dict[int, Callable[[bytes], object]]:
    return {argv.FIRST_OUTPUT_FD + n: writer.feed for n, writer in enumerate(writers)}


def _writer(work: Work, sound: AudioRendition, on_segment: OnSegment) -> AudioSegments:
    plan = work.plan
    start = -AAC_FRAME_SAMPLES  # the encoder's priming frame stands before the first sound
    if sound.mode == "copy":
        begins_s = plan.track(sound).start_s
        assert begins_s is not None
        start = round((begins_s - plan.timeline.origin_s) * sound.sample_rate)
    return AudioSegments(
        sound.name,
        work.folder / sound.folder,
        boundaries_s=_boundaries(plan),
        sample_rate=sound.sample_rate,
        frame_samples=AAC_FRAME_SAMPLES,
        start=start,
        on_segment=on_segment,
        lock=work.lock(sound.name),
    )


def _boundaries(plan: Plan) -> list[Fraction]:
    """The picture's boundaries, so that a player fetches both together."""
    return [plan.timeline.time_s(n) for n in range(plan.timeline.segments + 1)]


# --- how loud it is ------------------------------------------------------------------------------


def _gains(work: Work) -> Mapping[str, Gain]:
    """What the step `gain` left."""
    if work.plan.profile.loudness_lufs is None:
        return argv.NO_GAINS
    return loudness.read_gains(read_small(work.folder / WORK / loudness.GAINS))


def find_gains(work: Work) -> tuple[MadeFile, ...]:
    """Decide by how much each sound is raised, by how loud it comes out of its encoder. Where that
    brings peaks near to the bound, it is listened to again until it is as it should be."""
    plan, target_lufs = work.plan, work.plan.profile.loudness_lufs
    assert target_lufs is not None
    names = argv.encoded_sounds(plan)
    before = _listen(work, dict.fromkeys(names, loudness.AS_IT_IS))
    gains = {name: loudness.first_gain(one, target_lufs) for name, one in before.items()}
    unsure = {name: gain for name, gain in gains.items() if gain.ceiling_dbtp is not None}
    for _ in range(ROUNDS):
        if not unsure:
            break
        heard = _listen(work, unsure)
        better = {n: loudness.next_gain(gains[n], one, target_lufs) for n, one in heard.items()}
        unsure = {name: gain for name, gain in better.items() if gain != gains[name]}
        gains |= better
    for name, one in before.items():
        work.levels.append(Level(name, one, gains[name].gain_db))
        if gains[name].gain_db >= loudness.MAX_GAIN_DB:
            work.warnings.append(
                f"{name}: at {one.integrated_lufs} LUFS too quiet to be brought to "
                f"{target_lufs:g}: raised by {loudness.MAX_GAIN_DB:g} dB"
            )
    text = loudness.write_gains(gains)
    write_whole(work.folder / WORK / loudness.GAINS, text)
    return (MadeFile(f"{WORK}/{loudness.GAINS}", len(text.encode())),)


def _listen(work: Work, gains: Mapping[str, Gain]) -> dict[str, Loudness]:
    """How loud each of these comes out of its encoder with its gain. They are in the order of
    `argv.encoded_sounds`."""
    plan = work.plan
    command = argv.measure_encoded(work.tools.ffmpeg, plan, work.films, gains)
    limits = _limits(plan, 2 * len(gains))
    found = _heard(work, command, len(gains), limits=limits, read=work.films)
    return dict(zip(gains, found, strict=True))


def measure(work: Work) -> None:
    """How loud each rendition and each file of sound is, as a listener has it."""
    plan = work.plan
    with working_folder(work.folder / WORK, "loudness") as scratch:
        made = {s.name: whole_track(work, s.name, scratch / f"{s.name}.mp4") for s in plan.sounds}
        made |= {file.path: work.folder / file.path for file in argv.audio_files(plan)}
        command = argv.measure_files(work.tools.ffmpeg, list(made.values()))
        limits = replace(_limits(plan, len(made)), niceness=MEASURING_NICENESS)
        found = _heard(work, command, len(made), limits=limits, read=tuple(made.values()))
    work.levels += [Level(name, one) for name, one in zip(made, found, strict=True)]
    target_lufs = plan.profile.loudness_lufs
    if target_lufs is not None:
        work.warnings += [
            f"{level.name}: {level.loudness}, wanted {target_lufs:g} LUFS and at most "
            f"{loudness.TRUE_PEAK_DBTP:g} dBTP"
            for level in work.levels
            if not loudness.on_target(level.loudness, target_lufs)
        ]


def _limits(plan: Plan, sounds: int) -> Limits:
    films = [plan.film(part) for part in plan.parts] or [plan.source]
    # Another film is another decoder.
    length_s = sum((film.duration_s for film in films), Fraction(0))
    return limits_for(0, sounds + len(films) - 1, length_s)


def _heard(
    work: Work, command: list[str], sounds: int, *, limits: Limits, read: tuple[Path, ...]
) -> list[Loudness]:
    """What FFmpeg measured of so many sounds, in their order. Raises `StepFailed`
    (`not_measured`)."""
    summaries = loudness.Summaries()
    work.ffmpeg(command, {}, limits=limits, read=read, hear=summaries.take)
    return summaries.found(sounds)
