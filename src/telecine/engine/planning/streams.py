"""Pure: which streams of the source are taken, and from when to when."""

from __future__ import annotations

import re
from fractions import Fraction

from telecine.engine.copying import SOUND_OVERHANG_S
from telecine.engine.errors import InputRefused
from telecine.engine.events import warned
from telecine.engine.media import AudioStream, MediaInfo, VideoStream
from telecine.engine.profile import AUDIO_KINDS, PICTURE_KINDS, Profile

# Pictures in IPTPQc2, with nothing that other decoders may show: what comes behind the profile says
# what the base layer is compatible with, and 0 is nothing (Dolby Vision Profiles and Levels, 3).
_NO_BASE = re.compile(r"Dolby Vision \d+\.0")


def wants_video(profile: Profile) -> bool:
    """Whether something is asked for that has pictures where the source has some."""
    return any(output.kind not in AUDIO_KINDS for output in profile.outputs)


def choose_video(source: MediaInfo, profile: Profile, warnings: list[str]) -> VideoStream | None:
    if not wants_video(profile):
        return None
    if not source.video:
        for output in profile.outputs:
            if output.kind in ("mp4", *PICTURE_KINDS):
                raise InputRefused(f"no video stream, and {output.kind} was asked", code="no_video")
        return None
    chosen = max(source.video, key=lambda v: (v.default, v.width * v.height, -v.index))
    if len(source.video) > 1:
        why = "the default" if chosen.default else "the largest"
        warnings.append(
            f"{len(source.video)} video streams: stream {chosen.index} "
            f"({chosen.width}×{chosen.height}) taken as {why}"
        )
    alone = [words for words in chosen.dynamic if _NO_BASE.fullmatch(words)]
    warnings.extend(
        warned(
            "dolby_vision_alone",
            f"{words} is meant for decoders of Dolby Vision alone, and there is none here: the "
            "colours come out wrong",
        )
        for words in alone
    )
    return chosen


def choose_audio(
    source: MediaInfo, profile: Profile, warnings: list[str]
) -> tuple[AudioStream, ...]:
    """Every track of sound, the one that plays by default first: the one that the file marks so,
    else the first that is the film's own sound."""
    if not source.audio:
        if any(output.kind in (*AUDIO_KINDS, "waveform") for output in profile.outputs):
            raise InputRefused("no audio stream, and audio was asked", code="no_audio")
        return ()
    chosen = max(
        source.audio, key=lambda a: (a.default, not (a.commentary or a.described), -a.index)
    )
    if len(source.audio) > 1:
        why = "the default" if chosen.default else "the first"
        files = [o for o in profile.outputs if o.kind in (*AUDIO_KINDS, "mp4")]
        if files:  # a file has one sound; playlists have them all
            warnings.append(
                f"{len(source.audio)} audio streams: stream {chosen.index} "
                f"({chosen.language or chosen.codec}) taken for files as {why}"
            )
    return (chosen, *(track for track in source.audio if track is not chosen))


def film_span(
    source: MediaInfo, video: VideoStream, audio: AudioStream | None
) -> tuple[Fraction, Fraction]:
    """Presentation 0 and the end, on the source's clock.

    The picture rules; sound that starts or ends well outside it is kept, and the first or last
    picture is held for it.
    """
    start_s = video.start_s if video.start_s is not None else source.start_s
    end_s = video.end_s if video.end_s is not None else source.start_s + source.duration_s
    if audio is not None and audio.start_s is not None and audio.end_s is not None:
        # What lies before 0 is an encoder's priming, which no player plays.
        first_s = max(audio.start_s, min(Fraction(0), start_s))
        if audio.end_s > first_s and start_s - first_s > SOUND_OVERHANG_S:
            start_s = first_s
        if audio.end_s - end_s > SOUND_OVERHANG_S:
            end_s = audio.end_s
    return start_s, max(end_s, start_s)


def sound_span(source: MediaInfo, audio: AudioStream) -> tuple[Fraction, Fraction]:
    """Presentation 0 and the end of a track without pictures, on the source's clock. Raises
    `InputRefused` (`no_streams`) where nothing lies between them."""
    start_s = max(audio.start_s or Fraction(0), Fraction(0))
    end_s = audio.end_s if audio.end_s is not None else start_s + source.duration_s
    if end_s <= start_s:
        raise InputRefused("the audio stream is empty", code="no_streams")
    return start_s, end_s
