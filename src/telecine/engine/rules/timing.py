"""Rules on time: decode times, durations, and sound beside the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from telecine.engine.copying import COPY_OVERHANG_S, SOUND_OVERHANG_S
from telecine.engine.encoders import AAC_FRAME_SAMPLES
from telecine.engine.plan import Plan
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, SegmentFile, Stream, frame_ticks
from telecine.engine.rules.measures import placed
from telecine.engine.rules.table import Problems, rule
from telecine.engine.timeline import pictures_in

AV_OFFSET_S = Fraction(40, 1000)


@rule("decode-times", "Apple 7.3, CMAF")
def _decode_times(found: Found) -> tuple[Problems, str]:
    """Each fragment's decode time is where the one before ended, over every segment boundary."""
    problems = []
    for stream in found.streams:
        for segment, following in pairwise([*placed(stream)]):
            (_, run), (path, after) = segment, following
            if run.end_ticks != after.decode_ticks:
                off = after.decode_ticks - run.end_ticks
                problems.append(f"{path}: a decode time {off:+d} ticks off")
    return problems, f"{sum(len(stream.runs) for stream in found.streams)} fragments"


@rule("sequence-numbers", "ISOBMFF 8.8.5")
def _sequence_numbers(found: Found) -> tuple[Problems, str]:
    """Fragment sequence numbers rise."""
    problems = [
        f"{path}: fragment {after.sequence} follows {run.sequence}"
        for stream in found.streams
        for (_, run), (path, after) in pairwise(placed(stream))
        if after.sequence <= run.sequence
    ]
    return problems, f"{sum(len(stream.runs) for stream in found.streams)} fragments"


@rule("extinf", "RFC 8216 4.3.2.1")
def _extinf(found: Found) -> tuple[Problems, str]:
    """Every EXTINF is its segment's measured duration within half a tick, or the microsecond to
    which it is written."""
    problems = []
    worst = Fraction(0)
    for stream in found.streams:
        tolerance = max(Fraction(1, 2 * stream.track.timescale), Fraction(1, 1_000_000))
        for entry, segment in _entries(stream):
            measured = stream.seconds(segment.duration_ticks)
            error = abs(entry - measured)
            worst = max(worst, error)
            if error > tolerance:
                problems.append(f"{segment.path}: EXTINF {sec(entry)}, measured {sec(measured)}")
    return problems, f"off by {float(worst) * 1e6:.1f} µs at most"


def _entries(stream: Stream) -> Iterator[tuple[Fraction, SegmentFile]]:
    """(EXTINF, segment file) in playlist order, a file that is named twice each time."""
    home = f"{stream.home}/" if stream.home != "." else ""
    files = {segment.path: segment for segment in stream.segments}
    for entry in stream.playlist.segments:
        yield entry.duration_s, files[f"{home}{entry.uri}"]


@rule("playlist-duration", "Apple 8.1")
def _playlist_duration(found: Found) -> tuple[Problems, str]:
    """EXTINFs of a video rendition sum to the planned duration within one frame, those of sound to
    the measured one."""
    problems = []
    said = []
    for stream in found.streams:
        wanted = stream.end_s - stream.start_s
        if found.plan is not None and stream.video:
            wanted = found.plan.timeline.duration_s
        total = sum((entry.duration_s for entry in stream.playlist.segments), Fraction(0))
        said.append(total)
        if abs(total - wanted) > stream.seconds(frame_ticks(stream)):
            problems.append(f"{stream.home}: EXTINFs sum to {sec(total)}, not {sec(wanted)}")
    return (
        problems,
        f"{sec(min(said, default=Fraction(0)))} to {sec(max(said, default=Fraction(0)))}",
    )


def _clipped(found: Found) -> bool:
    return found.plan is not None and found.plan.cut is not None and bool(found.streams)


@rule("clip-span", "plan", _clipped)
def _clip_span(found: Found) -> tuple[Problems, str]:
    """A clip is as long as was asked, or as there is film, to within a picture at each end (of
    sound alone, a frame of it)."""
    plan, stream = found.plan, [*found.pictures, *found.voices][0]
    assert plan is not None
    assert plan.cut is not None
    assert plan.profile.clip is not None
    clip, end_s = plan.profile.clip, plan.cut.end_s
    frame_s = max(1 / plan.timeline.rate, stream.seconds(frame_ticks(stream)))
    span_s = stream.end_s - stream.start_s
    # It may end earlier than asked, with the film.
    wanted_s = end_s - clip.start_s
    problems = []
    if clip.end_s is not None and end_s - clip.end_s >= frame_s:
        problems.append(f"ends at {sec(end_s)} of the film, asked {sec(clip.end_s)}")
    if abs(span_s - wanted_s) > 2 * frame_s:
        problems.append(f"{stream.home}: lasts {sec(span_s)}, asked {sec(wanted_s)}")
    return problems, f"{sec(span_s)} from {sec(plan.cut.start_s)} of the film"


def _joined(found: Found) -> bool:
    return found.plan is not None and bool(found.plan.parts) and bool(found.streams)


@rule("joined-films", "plan", _joined)
def _joined_films(found: Found) -> tuple[Problems, str]:
    """Each of several films that are joined begins with a segment of its own where the one before
    ends, and has as many pictures as its length holds at the output's rate; sound alone begins so,
    to a frame of it."""
    plan = found.plan
    assert plan is not None
    if not found.pictures:
        return _joined_sounds(plan, found.voices)
    problems = []
    counts = [pictures_in((p.origin_s, p.end_s), plan.timeline.rate) for p in plan.parts]
    for stream in found.pictures:
        begins = Fraction(0)
        for part, count in zip(plan.parts, counts, strict=True):
            name, segments = part.input or "source", stream.segments[part.first : part.end]
            start_s = stream.seconds(segments[0].start_ticks) if segments else None
            if start_s != begins:
                problems.append(f"{stream.home}: {name} begins elsewhere than at {sec(begins)}")
            shown = sum(segment.samples for segment in segments)
            if shown != count:
                problems.append(f"{stream.home}: {name} has {shown} pictures, not {count}")
            begins += count / plan.timeline.rate
    return problems, f"{len(plan.parts)} films of {', '.join(map(str, counts))} pictures"


def _joined_sounds(plan: Plan, voices: Sequence[Stream]) -> tuple[Problems, str]:
    problems = []
    rate = Fraction(plan.timeline.timescale)
    counts = [pictures_in((p.origin_s, p.end_s), rate) for p in plan.parts]
    begins = list(accumulate(counts, initial=0))
    for stream in voices:
        frame_s = stream.seconds(frame_ticks(stream))
        starts_s = [stream.seconds(segment.start_ticks) for segment in stream.segments]
        for part, begin in zip(plan.parts, begins, strict=False):
            if min(abs(start_s - begin / rate) for start_s in starts_s) > frame_s:
                name = part.input or "source"
                problems.append(f"{stream.home}: {name} does not begin at {sec(begin / rate)}")
    return problems, f"{len(plan.parts)} films of {', '.join(map(str, counts))} samples"


@rule("target-duration", "RFC 8216 4.3.3.1, Apple 8.2")
def _target_duration(found: Found) -> tuple[Problems, str]:
    """TARGETDURATION is the same on all media playlists and as planned."""
    targets = {s.home: s.playlist.target_duration for s in found.streams}
    wanted = found.plan.timeline.target_duration_s if found.plan is not None else None
    if wanted is None:
        wanted = max(targets.values(), default=0)
    problems = [
        f"{home}: TARGETDURATION {target}, not {wanted}"
        for home, target in targets.items()
        if target != wanted
    ]
    longest = max(
        (entry.duration_s for s in found.streams for entry in s.playlist.segments),
        default=Fraction(0),
    )
    return problems, f"longest {sec(longest)}, TARGETDURATION {wanted}"


# --- sound ---------------------------------------------------------------------------------------


def _sounds_beside(found: Found) -> bool:
    return bool(found.voices) and _beside(found) is not None


def _beside(found: Found) -> Stream | None:
    """What sound has to go with: the picture, or without one the sound that plays by default, where
    there are others."""
    if found.pictures:
        return found.pictures[0]
    if len(found.voices) < 2 or found.plan is None or found.plan.sound is None:
        return None
    home = found.plan.sound.folder
    return next((stream for stream in found.voices if stream.home == home), None)


@dataclass(frozen=True, slots=True)
class _Span:
    """When sound is expected: it starts at `start_s` and ends between the other two."""

    start_s: Fraction
    earliest_end_s: Fraction
    latest_end_s: Fraction


def _expected_sound(found: Found, stream: Stream, film_end_s: Fraction) -> _Span:
    """Encoded sound is filled with silence to the picture; a copy starts and ends as the source's,
    as far out as the plan allows a copy."""
    plan, voice = found.plan, found.voice(stream.home)
    if plan is None or voice is None:
        start = Fraction(0)
        return _Span(start, film_end_s - SOUND_OVERHANG_S, film_end_s + COPY_OVERHANG_S)
    track, origin_s = plan.track(voice), plan.timeline.origin_s
    if voice.mode == "encode" or track.start_s is None or track.end_s is None:
        # The tail of the film's own sound may outlast the picture by what is not worth holding a
        # picture for; that of others is cut.
        tail = Fraction(0)
        if voice.default and track.end_s is not None:
            tail = track.end_s - origin_s - film_end_s
        overhang = min(max(tail, Fraction(0)), COPY_OVERHANG_S)
        return _Span(Fraction(0), film_end_s, film_end_s + overhang)
    end_s = track.end_s - origin_s
    start_s = max(track.start_s - origin_s, Fraction(0))
    return _Span(start_s, min(end_s, film_end_s), max(end_s, film_end_s))


def _source_frame_s(found: Found, stream: Stream) -> Fraction:
    voice = found.voice(stream.home)
    if found.plan is None or voice is None:
        return Fraction(0)
    track = found.plan.track(voice)
    return Fraction(max(track.frame_samples, AAC_FRAME_SAMPLES), track.sample_rate)


@rule("audio-span", "Apple 8.3, 8.7", _sounds_beside)
def _audio_span(found: Found) -> tuple[Problems, str]:
    """Every sound covers the picture: it ends within one of its frames of the picture's end, or
    where the source's own sound ends (its last frame may be cut short there and shown whole here).
    Without a picture all end where that ends which plays by default."""
    film = _beside(found)
    assert film is not None
    problems = []
    worst = Fraction(0)
    for stream in found.voices:
        expected = _expected_sound(found, stream, film.end_s)
        frame_s = stream.seconds(frame_ticks(stream))
        worst = max(worst, stream.end_s - film.end_s, key=abs)
        early = expected.earliest_end_s - stream.end_s
        late = stream.end_s - expected.latest_end_s
        if early > frame_s or late > frame_s + _source_frame_s(found, stream):
            problems.append(
                f"{stream.home}: ends at {sec(stream.end_s)}, the picture at {sec(film.end_s)}"
            )
    return problems, f"ends {float(worst) * 1000:+.0f} ms from the picture"


@rule("av-offset", "plan", _sounds_beside)
def _av_offset(found: Found) -> tuple[Problems, str]:
    """Every sound starts within 40 ms of where the source's own starts beside the picture (edit
    lists applied)."""
    picture = _beside(found)
    assert picture is not None
    problems = []
    worst = Fraction(0)
    for stream in found.voices:
        expected = _expected_sound(found, stream, picture.end_s)
        error = stream.start_s - picture.start_s - expected.start_s
        worst = max(worst, error, key=abs)
        if abs(error) > AV_OFFSET_S:
            problems.append(
                f"{stream.home}: starts {float(stream.start_s - picture.start_s) * 1000:+.0f} ms "
                f"from the picture, expected {float(expected.start_s) * 1000:+.0f} ms"
            )
    return problems, f"{float(worst) * 1000:+.1f} ms from the source's"
