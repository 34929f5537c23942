"""START HERE: (MediaInfo, Profile) → Plan, joined from what the neighbours decide."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from telecine.engine.copying import copy_refusals, source_timeline
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.ladder import output_rate, source_size
from telecine.engine.media import AudioStream, ExtraInput, MediaInfo, VideoStream
from telecine.engine.plan import (
    MAX_DURATION_S,
    PLAN_VERSION,
    Plan,
    display_of,
    untimed,
    within,
)
from telecine.engine.planning import joins
from telecine.engine.planning.beside import with_beside
from telecine.engine.planning.clips import SOUND_REASON, Part, clip_parts, cut_on_grid, see_sound
from telecine.engine.planning.files import make_files
from telecine.engine.planning.overlays import make_overlay
from telecine.engine.planning.pictures import (
    head_segments,
    keyframes_s,
    ladder_for,
    listed_codecs,
    long_chunk_warnings,
    make_renditions,
)
from telecine.engine.planning.qualities import with_quality
from telecine.engine.planning.sounds import audio_files, cut_warnings, make_sounds
from telecine.engine.planning.steps import with_steps
from telecine.engine.planning.streams import choose_audio, choose_video, film_span, sound_span
from telecine.engine.planning.subtitles import (
    choose_burn,
    left_out_without_pictures,
    make_subtitles,
)
from telecine.engine.profile import DEFAULT_OUTPUTS, Profile
from telecine.engine.searching import Choices
from telecine.engine.timeline import SEGMENT_S, constant_timeline, make_chunks, sound_timeline

DAMAGED = "the source is damaged"


def make_plan(
    source: MediaInfo,
    profile: Profile,
    *,
    inputs: tuple[ExtraInput, ...] = (),
    choices: Choices | None = None,
    damaged: bool = False,
) -> Plan:
    """Decide everything about one source and one profile. `inputs` are the files beside the source
    that the profile names (`inputs.probe_inputs`). What is known to be `damaged` is decoded and
    encoded throughout, since a copy would hand the damage on. Where the profile aims at a quality
    and there are no `choices` yet, the plan only searches for them (`Plan.searching`).

    Raises `InputRefused` (`no_streams`, `no_video`, `no_audio`, `too_small`, `too_long`,
    `film_no_picture`) and `UsageError` (`top_not_copyable` for `--top copy` where a rule forbids
    it, `burn_unknown`, `clip_outside`, `clip_invalid`, `input_missing`).
    """
    warnings = list(source.warnings)
    if profile.protection is not None and profile.protection.scheme == "aes-128":
        warnings.append("no manifest.mpd: DASH knows no segments that are encrypted as a whole")
    video = choose_video(source, profile, warnings)
    silent = profile.concat and not source.audio  # another film may have sound
    tracks = () if silent else choose_audio(source, profile, warnings)
    if source.duration_s > MAX_DURATION_S:
        raise InputRefused(
            f"too long: {float(source.duration_s) / 3600:.1f} h, at most "
            f"{MAX_DURATION_S // 3600} h in one job",
            code="too_long",
        )
    if video is None:
        return _plan_audio_only(source, profile, tracks, warnings, inputs)
    return _plan_video(
        source, profile, video, tracks, warnings, inputs, choices=choices, damaged=damaged
    )


def encoded_instead(plan: Plan) -> Plan | None:
    """The plan to go over to when the source turns out too damaged for a copied top rung, which no
    index tells; None where nothing is copied, or where the user insists on it."""
    if plan.copied is None or plan.profile.top != "auto":
        return None
    return make_plan(
        plan.source, plan.profile, inputs=plan.inputs, choices=plan.choices, damaged=True
    )


def chosen_plan(plan: Plan, choices: Choices) -> Plan:
    """The plan to go over to when a search has ended."""
    return make_plan(
        plan.source,
        plan.profile,
        inputs=plan.inputs,
        choices=choices,
        damaged=DAMAGED in plan.copy_refusals,
    )


def _finished(plan: Plan, choices: Choices | None = None) -> Plan:
    """Add what follows from the renditions: their quality, which of them come first, what stands
    beside the film, and the work as steps."""
    plan = with_quality(plan, choices)
    plan = replace(plan, head_segments=head_segments(plan.renditions, plan.chunks))
    return with_steps(with_beside(plan))


def _plan_audio_only(
    source: MediaInfo,
    profile: Profile,
    tracks: tuple[AudioStream, ...],
    warnings: list[str],
    inputs: tuple[ExtraInput, ...],
) -> Plan:
    joined, cut = None, None
    distrust: tuple[str, ...] = ()
    if profile.concat:
        first = joins.Heard(None, source, tracks)
        joined = joins.join_sounds(first, inputs, profile, warnings)
        tracks, cut, distrust = joined.tracks, joined.cut, (joins.REASON,)
    if not tracks:
        raise InputRefused("no video or audio stream that can be decoded", code="no_streams")
    audio = tracks[0]
    origin_s, end_s = sound_span(source, audio) if joined is None else joined.span
    if profile.clip is not None and joined is None:
        cut = cut_on_grid(profile.clip, Fraction(audio.sample_rate), end_s - origin_s, warnings)
        origin_s, end_s = origin_s + cut.start_s, origin_s + cut.end_s
        tracks = tuple(within(track, origin_s, end_s) for track in tracks)
        audio, distrust = tracks[0], (SOUND_REASON,)
    sounds = make_sounds(profile, tracks, origin_s, None, distrust=distrust)
    warnings.extend(cut_warnings(tracks, sounds, end_s))
    if joined is None:
        rate = sounds[0].sample_rate if sounds else 48_000
        duration_s = end_s - origin_s
        begins = [int(n * SEGMENT_S * rate) for n in range(math.ceil(duration_s / SEGMENT_S))]
        end = max(begins[-1] + 1, round(duration_s * rate))
        timeline = sound_timeline(origin_s, rate, (*begins, end))
    else:
        timeline = joined.timeline
    if profile.has("poster") and profile.outputs != DEFAULT_OUTPUTS:  # else nobody asked for it
        warnings.append("no video: no poster")
    warnings.extend(left_out_without_pictures(source, profile))
    if profile.watermark is not None:
        warnings.append("no video: the watermark is left out")
    return _finished(
        Plan(
            version=PLAN_VERSION,
            source=source,
            inputs=inputs,
            profile=profile,
            video=None,
            audio=audio,
            deinterlace=False,
            tone_map=False,
            working_copy=False,
            timeline=timeline,
            chunks=(),
            head_segments=0,
            renditions=(),
            sounds=sounds,
            subtitles=(),
            burned_in=None,
            files=audio_files(profile, audio),
            steps=(),
            dropped=(),
            copy_refusals=(),
            warnings=tuple(warnings),
            cut=cut,
            parts=() if joined is None else joins.with_taken_sounds(joined, sounds),
        )
    )


def _plan_video(
    source: MediaInfo,
    profile: Profile,
    video: VideoStream,
    tracks: tuple[AudioStream, ...],
    warnings: list[str],
    inputs: tuple[ExtraInput, ...],
    *,
    choices: Choices | None,
    damaged: bool,
) -> Plan:
    audio = tracks[0] if tracks else None
    distrust: tuple[str, ...] = (DAMAGED,) if damaged else ()
    if damaged:
        warnings.append("the source is too damaged to be copied: it is encoded instead")
    display = display_of(video)
    own = source_size(display)
    encoder = min(listed_codecs(profile), key=lambda each: each.smallest_side)
    if own.short_side < encoder.smallest_side:
        raise InputRefused(
            f"too small: {float(display[0]):g}×{float(display[1]):g} pixels, {encoder.title} 4:2:0 "
            f"needs at least {encoder.smallest_side}×{encoder.smallest_side}",
            code="too_small",
        )
    interlaced = video.field_order in ("tff", "bff")
    mean = video.rate or video.nominal_rate or Fraction(25)
    table = video.index_table
    rate = output_rate(
        mean,
        variable=video.variable_rate,
        exact=table is None or table.usual_gap_ticks.denominator == 1,
        field_rate=interlaced,
    )
    ladder = ladder_for(profile, display, rate)
    warnings.extend(ladder.warnings)

    film_s, end_s = film_span(source, video, audio)
    burned_in = choose_burn(source, video, profile, film_s)
    refusals = distrust + ("subtitles are burnt into it",) * (burned_in is not None)
    to_encode = to_copy = Part(video, film_s, end_s)
    if profile.clip is not None and not profile.concat:
        to_encode, to_copy, why = clip_parts(profile.clip, to_encode, rate, warnings)
        refusals += why
    overlay = make_overlay(profile, inputs)
    refusals += ("a watermark is laid over it",) * (overlay is not None)
    refusals += (joins.REASON,) * (profile.concat > 0)
    refusals += copy_refusals(
        source,
        to_copy.video,
        None if audio is None else to_copy.of(audio),
        ladder,
        own,
        to_copy.origin_s,
        codecs=listed_codecs(profile),
    )
    if profile.top == "copy" and refusals:
        raise UsageError(
            "the top rung cannot be copied: " + "; ".join(refusals), code="top_not_copyable"
        )
    copied = not refusals and profile.top != "encode"
    part = to_copy if copied else to_encode
    video, origin_s, end_s = part.video, part.origin_s, part.end_s
    if part.cut is not None:
        tracks = tuple(part.of(track) for track in tracks)
        audio = tracks[0] if tracks else None
        see_sound(profile, audio)
        distrust += (SOUND_REASON,)
    if copied:
        assert video.index_table is not None
        timeline = source_timeline(video, video.index_table, rate, origin_s, end_s)
        if audio is not None and audio.end_s is not None:
            end_s = origin_s + timeline.duration_s
    else:
        timeline = constant_timeline(rate, origin_s, end_s)
    if profile.hdr and not video.color.hdr:
        warnings.append("HDR was to be kept, and the source has none")
    chunks = make_chunks(timeline, keyframes_s(video, origin_s))
    joined = None
    films: list[tuple[str | None, MediaInfo, VideoStream]] = [(None, source, video)]
    kept = profile
    if profile.concat:
        first = joins.Given(None, source, tracks, video)
        joined = joins.join_films(first, inputs, profile, rate, warnings)
        timeline, chunks, tracks = joined.timeline, joined.chunks, joined.tracks
        audio = tracks[0] if tracks else None
        origin_s = timeline.origin_s
        end_s = origin_s + timeline.duration_s
        # Where all that is joined would begin on that clock: of a clip that lies before it.
        film_s = origin_s - (joined.cut.start_s if joined.cut is not None else 0)
        films = [(given.input, given.film, given.video) for given in joined.films]
        kept = replace(profile, hdr=joins.kept_hdr(joined, profile, warnings))
        distrust += (joins.REASON,)
    renditions, without = make_renditions(ladder, kept, video, timeline, copied=copied)
    if any(rendition.mode == "encode" for rendition in renditions):
        warnings.extend(long_chunk_warnings(timeline, chunks))
    sounds = make_sounds(profile, tracks, origin_s, end_s, distrust=distrust)
    warnings.extend(cut_warnings(tracks, sounds, end_s))
    subtitles = make_subtitles(films, profile, inputs, film_s, warnings)
    return _finished(
        Plan(
            version=PLAN_VERSION,
            source=source,
            inputs=inputs,
            profile=profile,
            video=video,
            audio=audio,
            deinterlace=interlaced,
            tone_map=video.color.hdr,
            working_copy=not source.seekable
            and (len(chunks) > 1 or origin_s > film_s or untimed(source)),
            timeline=timeline,
            chunks=chunks,
            head_segments=0,  # known when it is known which rungs there are
            renditions=renditions,
            sounds=sounds,
            subtitles=subtitles,
            burned_in=burned_in,
            files=make_files(profile, audio, ladder, display, rate, damaged=damaged),
            steps=(),
            dropped=(*ladder.dropped, *without),
            copy_refusals=refusals,
            warnings=tuple(warnings),
            cut=part.cut if joined is None else joined.cut,
            overlay=overlay,
            parts=() if joined is None else joins.with_taken(joined, sounds, subtitles),
        ),
        choices,
    )
