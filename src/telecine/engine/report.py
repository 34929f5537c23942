"""What happened, in plain words and figures: `report.json` and what is printed at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from telecine.engine.argv import audio_files
from telecine.engine.loudness import Loudness
from telecine.engine.manifests import Measured
from telecine.engine.media import AudioStream, MediaInfo, SubtitleStream, VideoStream
from telecine.engine.plan import WORK, Plan, SubtitleRendition, VideoRendition
from telecine.engine.searching import MAX_SAMPLES, MAX_TRIES, total_s
from telecine.engine.steps.encode import StepResult

State = Literal["succeeded", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class RungQuality:
    """How good a rendition is, beside the source at its own size. `searched_vmaf` is that of the
    samples encoded at `crf`, among `tries` levels; `measured_vmaf` that of the finished rendition
    at the same places. Each is None where that was not asked for."""

    target_vmaf: float | None
    crf: float
    tries: int
    searched_vmaf: float | None
    measured_vmaf: float | None


@dataclass(frozen=True, slots=True)
class SampleReport:
    """A part of the film that was looked at, in seconds, and of how much it stands for."""

    start_s: float
    end_s: float
    share: float


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Where quality was searched for or measured, and what the search cost, beside what it may
    cost at most. `cpu_s` and `wall_s` are None where nothing was searched for."""

    target_vmaf: float | None
    samples: tuple[SampleReport, ...]
    max_samples: int
    max_tries: int
    cpu_s: float | None
    wall_s: float | None


@dataclass(frozen=True, slots=True)
class RungReport:
    """One rendition as it came out. Rates are bits a second, measured over its segments."""

    name: str
    width: int
    height: int
    mode: str
    reason: str
    segments: int
    size_bytes: int
    peak_bps: int
    average_bps: int
    codec: str | None = None  # of pictures, as the plan names it
    video_range: str | None = None
    quality: RungQuality | None = None  # where it was searched for or measured


@dataclass(frozen=True, slots=True)
class DroppedReport:
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileReport:
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BesideReport:
    """Something beside the film, and from what it is made."""

    output: str
    reason: str


@dataclass(frozen=True, slots=True)
class SoundReport:
    """One rendition or file of sound as a listener has it. `loudness` is None where it was not
    measured; `before` is how loud it would be without the gain, and `gain_db` by how much it was
    raised, where a loudness was asked for."""

    name: str
    title: str | None
    language: str | None
    kind: str
    channels: int | None
    default: bool
    loudness: Loudness | None
    before: Loudness | None = None
    gain_db: float | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    id: str
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class ClipReport:
    """The part of the film that was made, to the picture, in seconds from the film's start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class FilmReport:
    """One of the films that are joined: where it stands in the whole, what it is, and what was
    changed to join it."""

    name: str
    start_s: float
    duration_s: float
    source: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ProtectionReport:
    """How what streams is encrypted; `key_id` names the key, which stands nowhere."""

    scheme: str
    key_id: str
    key_uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class SubtitleReport:
    """One track of subtitles in the playlists."""

    name: str
    title: str
    language: str | None
    default: bool
    forced: bool
    hearing_impaired: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run. Times are seconds from its start; `cpu_s` counts all children and
    this process; `time_to_first_play_s` is None where nothing streams."""

    state: State
    plan_id: str
    version: str
    ffmpeg: str
    sandbox: str
    source: tuple[str, ...]  # the input in plain words
    duration_s: float
    frame_rate: float
    playlist: str | None
    rungs: tuple[RungReport, ...]
    dropped: tuple[DroppedReport, ...]
    top_not_copied: tuple[str, ...]
    files: tuple[FileReport, ...]
    steps: tuple[StepReport, ...]
    probe_s: float
    total_s: float
    time_to_first_play_s: float | None
    cpu_s: float
    verified_rules: int
    warnings: tuple[str, ...]
    error: str | None = None
    beside: tuple[BesideReport, ...] = ()
    sounds: tuple[SoundReport, ...] = ()
    subtitles: tuple[SubtitleReport, ...] = ()
    burned_in: str | None = None  # which subtitles are part of the pictures
    clip: ClipReport | None = None
    films: tuple[FilmReport, ...] = ()  # of several that are joined
    protection: ProtectionReport | None = None
    quality: QualityReport | None = None


def describe(info: MediaInfo) -> tuple[str, ...]:
    """The source in plain words, one sentence a fact."""
    lines = [f"{info.container.split(',')[0]}, {_duration(info.duration_s)}, {_size(info)}"]
    lines.extend(_picture(video) for video in info.video)
    lines.extend(_sound(audio) for audio in info.audio)
    lines.extend(_subtitles(track) for track in info.subtitles)
    for kind, word in (
        ("cover", "cover picture"),
        ("data", "data stream"),
        ("attachment", "attachment"),
    ):
        codecs = [other.codec for other in info.other if other.kind == kind]
        if codecs:
            named = ", ".join(sorted({codec for codec in codecs if codec != "unknown"}))
            which = f"{word}{'s' * (len(codecs) > 1)}" + (f" ({named})" if named else "")
            lines.append(f"{len(codecs)} {which}, not transcoded")
    if info.chapters:
        lines.append(f"{len(info.chapters)} chapter{'s' if len(info.chapters) > 1 else ''}")
    return tuple(lines)


def _duration(seconds: Fraction) -> str:
    hundredths = round(seconds * 100)  # before it is split: 119.999 s is 0:02:00.00
    if hundredths < 6000:
        return f"{hundredths / 100:.2f} s"
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest / 100:05.2f}"


def _size(info: MediaInfo) -> str:
    return f"{info.fingerprint.size_bytes / 1e6:.1f} MB"


def _picture(video: VideoStream) -> str:
    parts = [f"{video.codec} {video.width}×{video.height}"]
    if video.rate is not None:
        kind = "variable, mean " if video.variable_rate else ""
        parts.append(f"{kind}{float(video.rate):.3f} frames/s")
    if video.rotation:
        parts.append(f"rotated {video.rotation}°")
    if video.mirrored:
        parts.append("mirrored")
    if video.sar != 1:
        parts.append(f"pixels {video.sar.numerator}:{video.sar.denominator}")
    if video.field_order in ("tff", "bff"):
        first = "top" if video.field_order == "tff" else "bottom"
        parts.append(f"interlaced, {first} field first")
    if video.color.hdr or video.dynamic:
        curves = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
        curve = [curves[video.color.transfer or ""]] if video.color.hdr else []
        parts.append(f"HDR ({', '.join((*curve, *video.dynamic))})")
    elif video.bit_depth > 8:
        parts.append(f"{video.bit_depth} bits")
    return ", ".join(parts)


def _sound(audio: AudioStream) -> str:
    layout = audio.channel_layout or f"{audio.channels} channels"
    language = f", {audio.language}" if audio.language else ""
    return f"{audio.codec} {layout}, {audio.sample_rate / 1000:g} kHz{language}"


_SUBTITLE_KINDS = {
    "text": "",
    "bitmap": "pictures",
    "captions": "inside the pictures",
    "unreadable": "not readable here",
}


def _subtitles(track: SubtitleStream) -> str:
    deaf = "for the hard of hearing" if track.hearing_impaired else ""
    words = [track.codec, _SUBTITLE_KINDS[track.kind], track.language]
    words += ["forced" * track.forced, deaf]
    return "subtitles: " + ", ".join(filter(None, words))


def changes(plan: Plan) -> tuple[str, ...]:
    """What the output does to the source that a viewer may notice, in plain words."""
    said = []
    if plan.parts:
        said.append(f"{len(plan.parts)} films joined")
    video = None if plan.parts else plan.video  # of films that are joined each has its own
    if plan.cut is not None:
        said.append(f"cut to a clip: {plan.cut.reason}")
    if plan.overlay is not None:
        said.append(f"watermark laid over it: {plan.overlay.reason}")
    if video is not None:
        if video.rotation or video.mirrored:
            said.append("turned upright")
        if video.sar != 1:
            said.append("made square pixels")
        if plan.deinterlace:
            said.append(f"deinterlaced to {float(plan.timeline.rate):.3f} frames/s")
        if plan.tone_map:
            kept = any(r.video_range != "SDR" for r in plan.renditions)
            said.append("HDR kept, and beside it made SDR" if kept else "HDR to SDR")
            said.extend(f"{words} left out" for words in video.dynamic)
        if video.variable_rate and plan.timeline.constant:
            said.append(f"variable frame rate made constant {float(plan.timeline.rate):.3f}")
        if video.has_alpha:
            said.append("transparency dropped")
    if plan.audio is not None and plan.audio.channels > 2:
        both = any(sound.group == "surround" and sound.default for sound in plan.sounds)
        beside_it = "kept in 5.1, and beside it " if both else ""
        said.append(f"{plan.audio.channel_layout} {beside_it}mixed down to stereo")
    said.extend(_offsets(plan))
    return tuple(said)


def _offsets(plan: Plan) -> list[str]:
    """How sound and picture differ in span."""
    video, audio = plan.video, plan.audio
    if video is None or audio is None or plan.parts:
        return []
    if None in (video.start_s, video.end_s, audio.start_s, audio.end_s):
        return []
    assert video.end_s is not None
    assert audio.end_s is not None
    picture_s = video.end_s
    if plan.cut is not None:  # of which the sound is already what the clip has
        picture_s = min(picture_s, plan.film_s + plan.cut.end_s)
    shorter = picture_s - audio.end_s
    if shorter > Fraction(1, 10):
        return [f"the sound is {float(shorter):.1f} s shorter than the picture: silence fills it"]
    if -shorter > Fraction(1, 10):
        return [f"the sound is {float(-shorter):.1f} s longer than the picture"]
    return []


def beside(plan: Plan) -> tuple[BesideReport, ...]:
    """What stands beside the film, each with its reason."""
    found = [BesideReport(stills.kind, stills.reason) for stills in plan.stills]
    if plan.preview is not None:
        found.append(BesideReport("preview", plan.preview.reason))
    if plan.waveform is not None:
        found.append(BesideReport("waveform", plan.waveform.reason))
    if plan.chapters:
        count, named = len(plan.chapters), len(plan.source.chapters)
        left = "" if count == named or plan.parts else f" of {named}: the others lie outside of it"
        found.append(BesideReport("chapters", f"{count} in the film{left}"))
    return tuple(found)


def films(plan: Plan) -> tuple[FilmReport, ...]:
    """The films that are joined, each with its reason."""
    timeline = plan.timeline
    return tuple(
        FilmReport(
            name=part.input or "source",
            start_s=round(float(timeline.time_s(part.first)), 3),
            duration_s=round(float(timeline.time_s(part.end) - timeline.time_s(part.first)), 3),
            source=describe(plan.film(part)),
            reason=part.reason,
        )
        for part in plan.parts
    )


def subtitle_report(track: SubtitleRendition) -> SubtitleReport:
    return SubtitleReport(
        name=track.name,
        title=track.title,
        language=track.language,
        default=track.default,
        forced=track.forced,
        hearing_impaired=track.hearing_impaired,
        reason=track.reason,
    )


def make_report(
    plan: Plan,
    *,
    state: State,
    version: str,
    ffmpeg: str,
    sandbox: str,
    results: tuple[StepResult, ...],
    measured: tuple[Measured, ...],
    probe_s: float,
    total_s: float,
    time_to_first_play_s: float | None,
    own_cpu_s: float,
    verified_rules: int = 0,
    error: str | None = None,
) -> Report:
    """Put a run together. `measured` is empty unless it reached its end."""
    warnings = list(plan.warnings)
    for result in results:
        warnings.extend(result.warnings)
    if state == "interrupted" and time_to_first_play_s is not None:
        warnings.append("interrupted: the growing playlists are valid and stop where work stopped")
    return Report(
        state=state,
        plan_id=plan.id,
        version=version,
        ffmpeg=ffmpeg,
        sandbox=sandbox,
        source=(*describe(plan.source), *changes(plan)),
        duration_s=round(float(plan.timeline.duration_s), 3),
        frame_rate=round(float(plan.timeline.rate), 3) if plan.video is not None else 0.0,
        playlist="master.m3u8" if plan.hls else None,
        rungs=_rungs(plan, measured, results),
        dropped=tuple(DroppedReport(rung.name, rung.reason) for rung in plan.dropped),
        top_not_copied=plan.copy_refusals if plan.copied is None else (),
        files=tuple(
            FileReport(file.path, file.size_bytes)
            for result in results
            for file in result.files
            if not file.path.startswith("subtitles/")  # as many as segments, which are not listed
            if not file.path.startswith(f"{WORK}/")
        ),
        steps=tuple(StepReport(r.step, r.wall_s, r.cpu_s, r.peak_rss_bytes) for r in results),
        probe_s=round(probe_s, 3),
        total_s=round(total_s, 3),
        time_to_first_play_s=(
            None if time_to_first_play_s is None else round(time_to_first_play_s, 3)
        ),
        cpu_s=round(_searched_s(plan) + sum(result.cpu_s for result in results) + own_cpu_s, 3),
        verified_rules=verified_rules,
        warnings=tuple(dict.fromkeys(warnings)),
        error=error,
        beside=beside(plan),
        sounds=_sounds(plan, results),
        clip=_clip(plan),
        films=films(plan),
        protection=protected(plan),
        subtitles=tuple(map(subtitle_report, plan.subtitles)),
        burned_in=None if plan.burned_in is None else plan.burned_in.reason,
        quality=_quality(plan),
    )


_PROTECTED = {
    "aes-128": "every segment of pictures and sound as a whole; init segments, subtitles and "
    "pictures beside the film are not",
    "cbcs": "the slices of pictures, one block in ten, and all sound; headers, subtitles and "
    "pictures beside the film are not",
}


def protected(plan: Plan) -> ProtectionReport | None:
    """How what streams is encrypted, if it is."""
    one = plan.profile.protection
    if one is None:
        return None
    return ProtectionReport(one.scheme, one.key_id, one.uri, _PROTECTED[one.scheme])


def _clip(plan: Plan) -> ClipReport | None:
    if plan.cut is None:
        return None
    return ClipReport(round(float(plan.cut.start_s), 3), round(float(plan.cut.end_s), 3))


def _sounds(plan: Plan, results: Sequence[StepResult]) -> tuple[SoundReport, ...]:
    """How loud everything is that can be heard."""
    after = {level.name: level for r in results if r.step == "loudness" for level in r.levels}
    before = {level.name: level for r in results if r.step == "gain" for level in r.levels}
    said = [
        SoundReport(s.name, s.title, s.language, s.kind, s.channels, s.default, None)
        for s in plan.sounds
    ]
    said += [
        SoundReport(file.path, None, None, "main", None, default=False, loudness=None)
        for file in audio_files(plan)
    ]
    for n, sound in enumerate(said):
        if sound.name in after:
            said[n] = replace(said[n], loudness=after[sound.name].loudness)
        if (source := before.get(sound.name)) is not None:
            said[n] = replace(said[n], before=source.loudness, gain_db=source.gain_db)
    return tuple(said)


def _searched_s(plan: Plan) -> float:
    return 0.0 if plan.choices is None else plan.choices.cpu_s


def quality_reason(plan: Plan) -> str:
    """What is done at the plan's samples, in plain words."""
    samples = f"{len(plan.samples)} samples, {total_s(plan.samples):.1f} s of film"
    if plan.searching:
        return (
            f"VMAF {plan.profile.quality:g} is searched for first, each rung encoded at most "
            f"{MAX_TRIES} times, in {samples}"
        )
    if plan.choices is not None:
        return f"VMAF {plan.choices.target:g} was searched for in {samples}"
    return f"VMAF is measured in {samples}"


def _quality(plan: Plan) -> QualityReport | None:
    if not plan.samples:
        return None
    found = plan.choices
    return QualityReport(
        target_vmaf=plan.profile.quality,
        samples=tuple(
            SampleReport(
                round(float(sample.start_s), 3),
                round(float(sample.end_s), 3),
                round(float(sample.share), 4),
            )
            for sample in plan.samples
        ),
        max_samples=MAX_SAMPLES,
        max_tries=MAX_TRIES,
        cpu_s=None if found is None else found.cpu_s,
        wall_s=None if found is None else found.wall_s,
    )


def _rung_quality(
    plan: Plan, rendition: VideoRendition, scores: Mapping[str, float]
) -> RungQuality | None:
    choice = None if plan.choices is None else plan.choices.of(rendition.name)
    score = scores.get(rendition.name)
    if rendition.mode == "copy" or (choice is None and score is None):
        return None
    return RungQuality(
        target_vmaf=None if choice is None else plan.profile.quality,
        crf=rendition.crf,
        tries=0 if choice is None else len(choice.tries),
        searched_vmaf=None if choice is None else choice.vmaf,
        measured_vmaf=score,
    )


def _rungs(
    plan: Plan, measured: tuple[Measured, ...], results: Sequence[StepResult]
) -> tuple[RungReport, ...]:
    figures = {one.name: one for one in measured}
    scores = {score.rendition: score.vmaf for result in results for score in result.scores}
    nothing = Measured("", 0, 0, 0, 0)
    rungs = []
    for rendition in plan.renditions:
        one = figures.get(rendition.name, nothing)
        size = rendition.size
        rungs.append(
            RungReport(
                rendition.name,
                size.width,
                size.height,
                rendition.mode,
                rendition.reason,
                one.segments,
                one.size_bytes,
                one.peak_bps,
                one.average_bps,
                rendition.codec,
                rendition.video_range,
                _rung_quality(plan, rendition, scores),
            )
        )
    for sound in plan.sounds:
        one = figures.get(sound.name, nothing)
        rungs.append(
            RungReport(
                sound.name,
                0,
                0,
                sound.mode,
                sound.reason,
                one.segments,
                one.size_bytes,
                one.peak_bps,
                one.average_bps,
            )
        )
    return tuple(rungs)
