"""Pure: the sound in the playlists, and files of sound alone.

Every track of the source is there in stereo AAC, which everything plays; tracks of 5.1 and more are
there in 5.1 too. Tracks count from the one that plays by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from telecine.engine.copying import SOUND_OVERHANG_S, audio_copy_refusals
from telecine.engine.encoders import AAC_BITRATE_BPS, AAC_SURROUND_BITRATE_BPS
from telecine.engine.formats.playlist import quotable
from telecine.engine.languages import language_name, language_tag
from telecine.engine.media import AudioStream
from telecine.engine.plan import WORK, AudioRendition, FileOutput, SoundGroup, SoundKind
from telecine.engine.profile import AUDIO_DEFAULT_BPS, AUDIO_KINDS, Profile, file_name

SURROUND_CHANNELS = 6
MAX_TITLE = 80  # characters: what a menu can show

_NAMES: dict[SoundGroup, str] = {"stereo": "aac", "surround": "surround"}
_CHANNELS: dict[SoundGroup, int] = {"stereo": 2, "surround": SURROUND_CHANNELS}
_RATES_BPS: dict[SoundGroup, int] = {
    "stereo": AAC_BITRATE_BPS,
    "surround": AAC_SURROUND_BITRATE_BPS,
}
_KIND_WORDS: dict[SoundKind, str] = {
    "main": "",
    "commentary": "commentary",
    "description": "audio description",
}


def make_sounds(
    profile: Profile,
    tracks: Sequence[AudioStream],
    origin_s: Fraction,
    end_s: Fraction | None,
    *,
    distrust: tuple[str, ...] = (),
) -> tuple[AudioRendition, ...]:
    """The renditions of `tracks`, of which the first plays by default: its stereo first, then that
    of the others, then 5.1. `end_s` is the picture's end, None where the first track itself is what
    ends; `distrust` is why nothing may be copied."""
    if profile.loudness_lufs is not None:
        distrust = (*distrust, "its loudness is changed")
    listed = profile.has("hls")
    if not listed:
        tracks = tracks[:1] if profile.has("mp4") else ()
    titles = _titles(tracks)
    made = []
    for group in _NAMES:
        for number, track in enumerate(tracks):
            if group == "surround" and (track.channels < SURROUND_CHANNELS or not listed):
                continue
            last_s = tracks[0].end_s if end_s is None and number else end_s
            reasons = distrust + audio_copy_refusals(
                track, origin_s, last_s, surround=group == "surround"
            )
            made.append(_rendition(track, group, number, titles[number], reasons, listed=listed))
    return tuple(made)


def _rendition(
    track: AudioStream,
    group: SoundGroup,
    number: int,
    title: str,
    copy_reasons: tuple[str, ...],
    *,
    listed: bool,
) -> AudioRendition:
    copy = not copy_reasons
    name = _NAMES[group] if number == 0 else f"{_NAMES[group]}-{number + 1}"
    rate_bps = _RATES_BPS[group]
    words = {"stereo": "AAC-LC stereo", "surround": "AAC-LC 5.1"}[group]
    return AudioRendition(
        name=name,
        stream=track.index,
        group=group,
        mode="copy" if copy else "encode",
        folder=f"audio/{name}" if listed else f"{WORK}/audio/{name}",
        listed=listed,
        sample_rate=track.sample_rate if copy else 48_000,
        channels=_CHANNELS[group],
        bitrate_bps=(track.bitrate_bps or rate_bps) if copy else rate_bps,
        kind=kind_of(track),
        language=language_tag(track.language),
        title=title,
        default=number == 0,
        reason=f"{words}: copied" if copy else "encoded: " + "; ".join(copy_reasons),
    )


def cut_warnings(
    tracks: Sequence[AudioStream], sounds: Sequence[AudioRendition], end_s: Fraction
) -> list[str]:
    """A warning for each track that goes on after the film, which the first track alone makes
    longer: all renditions end together (Apple 8.3)."""
    spans = {track.index: track.end_s for track in tracks}
    late = [(s.title, spans[s.stream] or end_s) for s in sounds if s.group == "stereo"]
    return [
        f"the sound {title!r} goes on for {float(last_s - end_s):.1f} s after the film: cut there"
        for title, last_s in late
        if last_s - end_s > SOUND_OVERHANG_S
    ]


def kind_of(track: AudioStream) -> SoundKind:
    if track.described:
        return "description"
    return "commentary" if track.commentary else "main"


def _titles(tracks: Sequence[AudioStream]) -> list[str]:
    """What the file calls each track, else its language; told apart by numbers where they are the
    same, since no two of a group may have one NAME (RFC 8216, 4.3.4.1.1)."""
    titles: list[str] = []
    for number, track in enumerate(tracks, start=1):
        title = plain = _title(track) or ("Main" if number == 1 else f"Track {number}")
        count = 1
        while title in titles:
            count += 1
            title = f"{plain} {count}"
        titles.append(title)
    return titles


def _title(track: AudioStream) -> str:
    said = quotable(track.title or "")[:MAX_TITLE].strip()
    if said:
        return said
    tag, word = language_tag(track.language), _KIND_WORDS[kind_of(track)]
    name = "" if tag is None else language_name(tag)
    if name and word:
        return f"{name} ({word})"
    return name or word.capitalize()


def audio_files(
    profile: Profile, audio: AudioStream | None, *, damaged: bool = False
) -> tuple[FileOutput, ...]:
    """Files of sound alone. AAC is copied where no rate was asked and the source has it already, as
    it is and whole."""
    copyable = audio is not None and audio.codec == "aac" and audio.configured and not damaged
    whole = profile.clip is None and not profile.concat
    copyable = copyable and whole and profile.loudness_lufs is None
    return tuple(
        FileOutput(
            output.kind,
            file_name(output),
            bitrate_bps=output.bitrate_bps or AUDIO_DEFAULT_BPS.get(output.kind),
            copy=output.kind == "aac" and output.bitrate_bps is None and copyable,
        )
        for output in profile.outputs
        if output.kind in AUDIO_KINDS
    )
