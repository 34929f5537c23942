"""Pure: several films joined into one: where each stands, and what becomes of it.

The first decides size, aspect, frame rate and colours. Each begins a segment of its own, so no
chunk and no GOP spans two films; its pictures are counted at the output's rate, and its sound is
as long as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from telecine.engine.colors import sdr_color
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.joining import fitted, part_timeline
from telecine.engine.ladder import source_size
from telecine.engine.languages import language_tag
from telecine.engine.media import AudioStream, Color, ExtraInput, MediaInfo, VideoStream
from telecine.engine.plan import (
    MAX_DURATION_S,
    AudioRendition,
    Cut,
    JoinedFilm,
    SubtitleRendition,
    Taken,
    display_of,
    lasting,
    untimed,
)
from telecine.engine.planning.clips import cut_between, cut_on_grid
from telecine.engine.planning.pictures import keyframes_s
from telecine.engine.planning.sounds import kind_of
from telecine.engine.planning.streams import (
    choose_audio,
    choose_video,
    film_span,
    sound_span,
    wants_video,
)
from telecine.engine.planning.subtitles import taken_subtitles
from telecine.engine.profile import Profile
from telecine.engine.timeline import (
    Chunk,
    Timeline,
    joined_timeline,
    make_chunks,
    pictures_in,
    sound_timeline,
)
from telecine.engine.words.clip import Clip
from telecine.engine.words.concat import film_names

REASON = "several films are joined"

JOINED_RATE = 48_000  # Hz of sound that is joined, which is always encoded


@dataclass(frozen=True, slots=True)
class Heard:
    """One of the films, and what is taken of it: every track of sound, the one that plays by
    default first."""

    input: str | None  # None: the source itself
    film: MediaInfo
    tracks: tuple[AudioStream, ...]


@dataclass(frozen=True, slots=True)
class Given(Heard):
    """One of them with the stream of its pictures."""

    video: VideoStream


H = TypeVar("H", bound=Heard)


@dataclass(frozen=True, slots=True)
class Joined:
    """All films as one. `tracks` are those of the first film that has any, as long as the whole."""

    films: tuple[Given, ...]
    parts: tuple[JoinedFilm, ...]
    timeline: Timeline
    chunks: tuple[Chunk, ...]
    tracks: tuple[AudioStream, ...]
    lead: VideoStream  # the source's, which decides what all become
    cut: Cut | None  # of a clip: `films` are then those that lie in it


@dataclass(frozen=True, slots=True)
class JoinedSound:
    """All of them as one, where there are no pictures."""

    films: tuple[Heard, ...]
    parts: tuple[JoinedFilm, ...]
    timeline: Timeline
    tracks: tuple[AudioStream, ...]
    cut: Cut | None

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """From when to when it is, on the first one's clock."""
        origin_s = self.timeline.origin_s
        return origin_s, origin_s + self.timeline.duration_s


def join_films(
    first: Given,
    inputs: Sequence[ExtraInput],
    profile: Profile,
    rate: Fraction,
    warnings: list[str],
) -> Joined:
    """Raises `InputRefused` (`film_no_picture`, `no_audio`, `too_long`) and `UsageError`
    (`input_missing`, `clip_outside`, `clip_invalid`)."""
    films = [first, *_further(inputs, profile, warnings)]
    spans = [film_span(each.film, each.video, next(iter(each.tracks), None)) for each in films]
    cut, cuts, films, spans = _clipped(profile.clip, rate, films, spans, warnings)
    timeline, edges = joined_timeline(rate, spans)
    parts: list[JoinedFilm] = []
    chunks: list[Chunk] = []
    for number, given in enumerate(films):
        first_segment, end = edges[number], edges[number + 1]
        origin_s = spans[number][0]
        own = part_timeline(timeline, first_segment, end, origin_s)
        own_chunks = make_chunks(own, keyframes_s(given.video, origin_s))
        chunks += [
            Chunk(len(chunks) + chunk.index, first_segment + chunk.first, first_segment + chunk.end)
            for chunk in own_chunks
        ]
        film, video = given.film, given.video
        parts.append(
            JoinedFilm(
                input=given.input,
                first=first_segment,
                end=end,
                origin_s=origin_s,
                end_s=spans[number][1],
                video=video.index,
                audio=given.tracks[0].index if given.tracks else None,
                deinterlace=video.field_order in ("tff", "bff"),
                tone_map=video.color.hdr,
                working_copy=not film.seekable
                and (len(own_chunks) > 1 or _enters(cuts[number]) or untimed(film)),
                color=sdr_color(first.video),
                taken=(),
                reason="",
                cut=cuts[number],
            )
        )
    heard = next((given.tracks for given in films if given.tracks), None)
    if heard is None:
        silent = replace(first.film, audio=())
        heard = choose_audio(silent, profile, warnings)  # refuses where sound was asked
    tracks = tuple(lasting(track, timeline) for track in heard)
    return Joined(tuple(films), tuple(parts), timeline, tuple(chunks), tracks, first.video, cut)


def _enters(cut: Cut | None) -> bool:
    """Whether a film is entered behind its beginning."""
    return cut is not None and cut.start_s > 0


_Span = tuple[Fraction, Fraction]


def _clipped(
    clip: Clip | None,
    rate: Fraction,
    films: list[H],
    spans: list[_Span],
    warnings: list[str],
) -> tuple[Cut | None, list[Cut | None], list[H], list[_Span]]:
    """A clip of all that is joined, to the picture of its grid: of each film what the clip has of
    it, None where that is all, the films that lie in it, and from when to when on their clocks.
    Raises `InputRefused` (`too_long`) and as `cut_on_grid` does."""
    length_s = sum((end_s - begin_s for begin_s, end_s in spans), Fraction(0))
    if length_s > MAX_DURATION_S:
        raise InputRefused(
            f"too long: {float(length_s) / 3600:.1f} h together, at most "
            f"{MAX_DURATION_S // 3600} h in one job",
            code="too_long",
        )
    if clip is None:
        return None, [None] * len(films), films, spans
    counts = [pictures_in(span, rate) for span in spans]
    cut = cut_on_grid(clip, rate, sum(counts) / rate, warnings)
    first, end = int(cut.start_s * rate), int(cut.end_s * rate)
    cuts: list[Cut | None] = []
    kept, inside, begins = [], [], 0
    for given, span, count in zip(films, spans, counts, strict=True):
        own_first, own_end = max(0, first - begins), min(end - begins, count)
        begins += count
        if own_first >= own_end:
            warnings.append(f"{given.input or 'source'} lies outside of the clip")
            continue
        whole = (own_first, own_end) == (0, count)
        kept.append(given)
        cuts.append(None if whole else cut_between(own_first / rate, own_end / rate))
        own = (span[0] + own_first / rate, span[0] + own_end / rate)
        inside.append(span if whole else own)
    return cut, cuts, kept, inside


def join_sounds(
    first: Heard, inputs: Sequence[ExtraInput], profile: Profile, warnings: list[str]
) -> JoinedSound:
    """The sound of films behind each other, of each as much as it has, on a grid of samples. Raises
    `InputRefused` (`film_no_picture` where pictures were wanted and some have them, `no_audio`,
    `too_long`) and `UsageError` (`input_missing`, `clip_outside`, `clip_invalid`)."""
    films = [first]
    for name, film in _others(inputs, profile):
        if film.video and wants_video(profile):
            raise InputRefused(
                "the source has no picture, and a film behind it has: films are joined",
                code="film_no_picture",
            )
        said = list(film.warnings)
        tracks = choose_audio(film, profile, said) if film.audio else ()
        warnings.extend(f"{name}: {warning}" for warning in said)
        films.append(Heard(name, film, tracks))
    silent = next((each for each in films if not each.tracks), None)
    if silent is not None:
        raise InputRefused(
            f"{silent.input or 'the source'} has no sound: sound alone is joined", code="no_audio"
        )
    spans = [sound_span(each.film, each.tracks[0]) for each in films]
    rate = Fraction(JOINED_RATE)
    cut, cuts, films, spans = _clipped(profile.clip, rate, films, spans, warnings)
    whole, edges = joined_timeline(rate, spans)
    timeline = sound_timeline(whole.origin_s, JOINED_RATE, whole.boundaries)
    parts = tuple(
        JoinedFilm(
            input=given.input,
            first=edges[number],
            end=edges[number + 1],
            origin_s=spans[number][0],
            end_s=spans[number][1],
            video=None,
            audio=given.tracks[0].index,
            deinterlace=False,
            tone_map=False,
            working_copy=False,
            color=Color(),
            taken=(),
            reason="",
            cut=cuts[number],
        )
        for number, given in enumerate(films)
    )
    tracks = tuple(lasting(track, timeline) for track in films[0].tracks)
    return JoinedSound(tuple(films), parts, timeline, tracks, cut)


def with_taken_sounds(
    joined: JoinedSound, sounds: Sequence[AudioRendition]
) -> tuple[JoinedFilm, ...]:
    """The parts with what each has for the renditions of sound and what becomes of it, in words."""
    parts = []
    for part, given in zip(joined.parts, joined.films, strict=True):
        said = [] if part.cut is None else [part.cut.reason]
        taken = _taken_sounds(joined.tracks, given, sounds, said)
        parts.append(
            replace(part, taken=tuple(taken), reason="; ".join(said) or "nothing is changed")
        )
    return tuple(parts)


def _others(inputs: Sequence[ExtraInput], profile: Profile) -> Iterator[tuple[str, MediaInfo]]:
    given = {extra.name: extra for extra in inputs if extra.kind == "film"}
    for name in film_names(profile.concat):
        film = given[name].film if name in given else None
        if film is None:
            raise UsageError(f"no file was given for {name}", code="input_missing")
        yield name, film


def _further(
    inputs: Sequence[ExtraInput], profile: Profile, warnings: list[str]
) -> Iterator[Given]:
    for name, film in _others(inputs, profile):
        said = list(film.warnings)
        video = choose_video(film, profile, said) if film.video else None
        if video is None:
            raise InputRefused(f"{name} has no picture: films are joined", code="film_no_picture")
        tracks = choose_audio(film, profile, said) if film.audio else ()
        warnings.extend(f"{name}: {warning}" for warning in said)
        yield Given(name, film, tracks, video)


def kept_hdr(joined: Joined, profile: Profile, warnings: list[str]) -> bool:
    """Whether HDR is kept where that is asked: where all films have the same, since what joined
    pictures say of their colours and their light is one for all."""
    said = {(given.video.color, given.video.light) for given in joined.films}
    if not profile.hdr or len(said) == 1:
        return profile.hdr
    warnings.append("HDR was to be kept, and the films that are joined differ in it: made SDR")
    return False


def with_taken(
    joined: Joined, sounds: Sequence[AudioRendition], subtitles: Sequence[SubtitleRendition]
) -> tuple[JoinedFilm, ...]:
    """The parts with what each has for the renditions of sound and subtitles, and with what becomes
    of it, in words."""
    parts = []
    for part, given in zip(joined.parts, joined.films, strict=True):
        instead: list[str] = []
        taken = _taken_sounds(joined.tracks, given, sounds, instead)
        taken += taken_subtitles(given.film, given.video, subtitles)
        reasons = [*_changes(joined, given, part), *instead]
        if joined.tracks and not given.tracks:
            reasons.append("no sound: silence")
        parts.append(
            replace(part, taken=tuple(taken), reason="; ".join(reasons) or "nothing is changed")
        )
    return tuple(parts)


def _taken_sounds(
    tracks: Sequence[AudioStream],
    given: Heard,
    sounds: Sequence[AudioRendition],
    instead: list[str],
) -> list[Taken]:
    """Into a track goes the film's own of that language and kind, else the one that it plays by
    default, which is better than silence."""
    known = [_known_as(track) for track in tracks]
    taken = []
    for sound in sounds:
        number = next(n for n, track in enumerate(tracks) if track.index == sound.stream)
        same = [track for track in given.tracks if _known_as(track) == known[number]]
        nth = known[:number].count(known[number])
        if same:
            taken.append(Taken(sound.name, same[min(nth, len(same) - 1)].index))
        elif given.tracks:
            taken.append(Taken(sound.name, given.tracks[0].index))
            # A default track of no language is the film's own sound, whatever it is.
            told = number or (known[0][0] and language_tag(given.tracks[0].language))
            if told and sound.group == "stereo":
                instead.append(f"no sound {sound.title!r}: the one that plays by default")
    used = {one.stream for one in taken}
    left = [f"{t.index} ({t.language or t.codec})" for t in given.tracks if t.index not in used]
    if left and any(sound.listed for sound in sounds):  # files have one sound anyway
        instead.append(f"sound of stream {', '.join(left)} left out")
    return taken


def _known_as(track: AudioStream) -> tuple[str | None, str]:
    return language_tag(track.language), kind_of(track)


def _changes(joined: Joined, given: Given, part: JoinedFilm) -> list[str]:
    """What a viewer may notice, in words."""
    lead, video, rate = joined.lead, given.video, joined.timeline.rate
    said = [] if part.cut is None else [part.cut.reason]
    frame, display = source_size(display_of(lead)), display_of(video)
    own = source_size(display)
    if own != frame:
        inner = fitted(display, frame)
        bars = ""
        if inner.height < frame.height:
            bars = ", bars above and below"
        elif inner.width < frame.width:
            bars = ", bars at the sides"
        said.append(f"{own} made {frame}{bars}")
    if video.rotation or video.mirrored:
        said.append("turned upright")
    if part.deinterlace:
        said.append("deinterlaced")
    if video.variable_rate:
        said.append(f"variable frame rate made constant {float(rate):.3f}")
    elif video.rate is not None and abs(video.rate * (1 + part.deinterlace) / rate - 1) > _DRIFT:
        said.append(f"{float(video.rate):.3f} frames/s made {float(rate):.3f}")
    if part.tone_map:
        said.append("HDR to SDR")
    elif sdr_color(video) != part.color:
        said.append(f"{sdr_color(video).matrix} made {part.color.matrix}")
    return said


# A rate that is taken for a standard one is none that is changed (`ladder.output_rate`).
_DRIFT = Fraction(1, 250)
