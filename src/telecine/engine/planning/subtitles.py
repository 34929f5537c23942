"""Pure: which subtitles stand in the playlists, which in the pictures, and which are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from telecine.engine.errors import UsageError
from telecine.engine.formats.playlist import quotable
from telecine.engine.languages import language_name, language_tag
from telecine.engine.media import ExtraInput, MediaInfo, SubtitleStream, VideoStream
from telecine.engine.plan import BurnedIn, SubtitleRendition, Taken
from telecine.engine.profile import Profile

MAX_TRACKS = 32  # a player's menu; films on discs have as many
MAX_TITLE = 80


def make_subtitles(
    films: Sequence[tuple[str | None, MediaInfo, VideoStream]],
    profile: Profile,
    inputs: Sequence[ExtraInput],
    zero_s: Fraction,
    warnings: list[str],
) -> tuple[SubtitleRendition, ...]:
    """The subtitles in the playlists: those of the source that are text, then the files beside it,
    whose time 0 is `zero_s` on the source's clock. Where several films are joined those of a
    language and kind are one track, whichever films have it; each of `films` is the input of which
    it is (None: the source), and what it is."""
    if not profile.has("hls"):
        return ()
    found: dict[_Key, SubtitleRendition] = {}
    for name, film, video in films:
        said: list[str] = []
        for key, track in _keyed(_of_source(film, video, said, burnable=not profile.concat)):
            found.setdefault(key, track)
        warnings.extend(said if name is None else [f"{name}: {warning}" for warning in said])
    wanted = [*found.values(), *_side_cars(profile, inputs, zero_s, warnings)]
    if len(wanted) > MAX_TRACKS:
        warnings.append(f"{len(wanted)} tracks of subtitles: the first {MAX_TRACKS} are kept")
    made: list[SubtitleRendition] = []
    for track in wanted[:MAX_TRACKS]:
        name = _free(track.name, "-", [other.name for other in made])
        title = _free(track.title, " ", [other.title for other in made])
        default = track.default and not any(other.default for other in made)
        track = replace(track, name=name, title=title, default=default)
        made.append(replace(track, folder=f"subtitles/{name}"))
    return tuple(made)


_Key = tuple[str | None, bool, bool, bool, int]


def _keyed(tracks: Iterable[SubtitleRendition]) -> Iterator[tuple[_Key, SubtitleRendition]]:
    """Each track of a film with what it is known by in another: what it is, and as the how manieth
    of its kind it comes."""
    counts: Counter[tuple[str | None, bool, bool, bool]] = Counter()
    for track in tracks:
        kind = (track.language, track.forced, track.hearing_impaired, track.captions)
        yield (*kind, counts[kind]), track
        counts[kind] += 1


def taken_subtitles(
    film: MediaInfo, video: VideoStream, tracks: Sequence[SubtitleRendition]
) -> list[Taken]:
    """Which of a film's own streams go into the tracks of all that is joined."""
    own = dict(_keyed(_of_source(film, video, [], burnable=False)))
    whole = _keyed(track for track in tracks if track.input is None)
    return [
        Taken(track.name, stream)
        for key, track in whole
        if key in own and (stream := own[key].stream) is not None
    ]


def left_out_without_pictures(source: MediaInfo, profile: Profile) -> list[str]:
    """What is said where there is no picture to show subtitles on."""
    count = len(source.subtitles) + len(profile.subtitles)
    return [f"no video: {count} tracks of subtitles are left out"] if count else []


def _of_source(
    source: MediaInfo, video: VideoStream, warnings: list[str], *, burnable: bool
) -> Iterator[SubtitleRendition]:
    for stream in source.subtitles:
        if stream.kind == "captions" and stream.index != video.index:
            continue  # of a picture that is not in the output either
        why = _why_left_out(stream, burnable=burnable)
        if why:
            warnings.append(f"subtitles of stream {_known_as(stream)} are left out: {why}")
            continue
        yield SubtitleRendition(
            name=_name(language_tag(stream.language), stream.forced, stream.hearing_impaired),
            folder="",
            stream=stream.index,
            input=None,
            captions=stream.kind == "captions",
            language=language_tag(stream.language),
            title=_title(stream),
            default=stream.default,
            forced=stream.forced,
            hearing_impaired=stream.hearing_impaired,
            zero_s=Fraction(0),
            reason=f"{stream.codec} of stream {stream.index} as WebVTT",
        )


def _known_as(stream: SubtitleStream) -> str:
    words = ", ".join(filter(None, (stream.codec, stream.language)))
    return f"{stream.index} ({words})"


def _why_left_out(stream: SubtitleStream, *, burnable: bool) -> str:
    match stream.kind:
        case "bitmap":
            how = f"; --burn-subtitle {stream.index} makes them part of the film's"
            return "they are pictures, not text" + how * burnable
        case "unreadable":
            return "they cannot be decoded here"
        case _:
            return ""


def _side_cars(
    profile: Profile, inputs: Sequence[ExtraInput], zero_s: Fraction, warnings: list[str]
) -> Iterator[SubtitleRendition]:
    found = {extra.name: extra.subtitles for extra in inputs}
    for side_car in profile.subtitles:
        facts = found.get(side_car.name)
        if facts is None:
            raise UsageError(f"no file was given for {side_car.name}", code="input_missing")
        if facts.guessed:
            warnings.append(
                f"{side_car.name}: the file does not say its encoding, {facts.encoding} is guessed"
            )
        if not facts.cues:
            warnings.append(f"{side_car.name}: the file has no cue")
        yield SubtitleRendition(
            name=_name(side_car.language, side_car.forced, side_car.hearing_impaired),
            folder="",
            stream=None,
            input=side_car.name,
            captions=False,
            language=side_car.language,
            title=_named(side_car.language, side_car.forced, side_car.hearing_impaired),
            default=False,
            forced=side_car.forced,
            hearing_impaired=side_car.hearing_impaired,
            zero_s=zero_s,
            reason=f"{facts.format} of a file ({facts.encoding}) as WebVTT",
        )


def _name(language: str | None, forced: bool, hearing_impaired: bool) -> str:
    """A name that is fit for a folder: of letters, digits and hyphens alone."""
    words = [(language or "und").lower(), "forced" * forced, "sdh" * hearing_impaired]
    return "-".join(filter(None, words))


def _title(stream: SubtitleStream) -> str:
    said = quotable(stream.title or "")[:MAX_TITLE].strip()
    return said or _named(language_tag(stream.language), stream.forced, stream.hearing_impaired)


def _named(language: str | None, forced: bool, hearing_impaired: bool) -> str:
    """As players' menus call it."""
    name = language_name(language) if language is not None else "Subtitles"
    words = ", ".join(filter(None, ("forced" * forced, "SDH" * hearing_impaired)))
    return f"{name} ({words})" if words else name


def _free(wanted: str, joint: str, taken: Sequence[str]) -> str:
    """A name that no other has: two of a group may not have one NAME (RFC 8216, 4.3.4.1.1)."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}{joint}{count}"
    return name


# --- burnt in ------------------------------------------------------------------------------------


def choose_burn(
    source: MediaInfo, video: VideoStream, profile: Profile, zero_s: Fraction
) -> BurnedIn | None:
    """What becomes part of the pictures. Raises `UsageError` (`burn_unknown`) where the source and
    the files beside it have no such subtitles, or none that can be decoded."""
    burn = profile.burn
    if burn is None:
        return None
    streams = [
        stream
        for stream in source.subtitles
        if stream.kind != "unreadable"
        and (stream.kind != "captions" or stream.index == video.index)
        and burn.stream in (None, stream.index)
        and burn.language in (None, language_tag(stream.language))
    ]
    if streams:
        # Those that everyone is to see before those that are asked for one by one.
        chosen = max(streams, key=lambda stream: (stream.forced, stream.default, -stream.index))
        return BurnedIn(
            kind="bitmap" if chosen.kind == "bitmap" else "text",
            stream=chosen.index,
            input=None,
            captions=chosen.kind == "captions",
            zero_s=Fraction(0),
            reason=f"{chosen.codec} of stream {chosen.index}",
        )
    beside = [side_car for side_car in profile.subtitles if side_car.language == burn.language]
    if beside:
        return BurnedIn("text", None, beside[0].name, False, zero_s, f"the file {beside[0].name}")
    asked = burn.language if burn.stream is None else f"stream {burn.stream}"
    has = ", ".join(_known_as(stream) for stream in source.subtitles) or "none"
    raise UsageError(
        f"no subtitles to burn in: {asked} was asked for, the source has {has}",
        code="burn_unknown",
    )
