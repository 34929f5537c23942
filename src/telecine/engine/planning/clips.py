"""Pure: which part of the source a clip is, to the picture.

A clip's pictures fall on the grid of the whole film: it shows what the film's own ladder shows
between the same two times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from telecine.engine.copying import key_before
from telecine.engine.errors import UsageError
from telecine.engine.media import AudioStream, FrameIndex, Keyframe, VideoStream
from telecine.engine.plan import Cut, within
from telecine.engine.profile import AUDIO_KINDS, Profile
from telecine.engine.words.clip import Clip

# The most pictures that a decoder holds back before it shows one (H.264, A.3.1: MaxDpbFrames).
MAX_HELD_BACK = 16

SOUND_REASON = "the clip begins between two of its frames"


def cut_on_grid(clip: Clip, rate: Fraction, film_s: Fraction, warnings: list[str]) -> Cut:
    """The clip of a film that lasts `film_s`, in pictures (of sound alone: samples) of `rate`.

    Raises `UsageError`: `clip_outside` where the film is over before, `clip_invalid` where no
    picture begins within.
    """
    count = round(film_s * rate)
    first = math.ceil(clip.start_s * rate)
    end = count if clip.end_s is None else math.ceil(clip.end_s * rate)
    if clip.start_s >= film_s:
        raise UsageError(
            f"the clip begins at {float(clip.start_s):.3f} s, the film lasts {float(film_s):.3f} s",
            code="clip_outside",
        )
    if end > count:
        warnings.append(f"the clip ends with the film, at {float(film_s):.3f} s")
        end = count
    if end <= first:
        raise UsageError("no picture begins within the clip", code="clip_invalid")
    return cut_between(first / rate, end / rate)


def cut_between(start_s: Fraction, end_s: Fraction) -> Cut:
    return Cut(start_s, end_s, f"{float(start_s):.3f} s to {float(end_s):.3f} s of the film")


@dataclass(frozen=True, slots=True)
class Part:
    """What is made of a film, all of it or a clip, from `origin_s` to `end_s` on the source's
    clock."""

    video: VideoStream
    origin_s: Fraction
    end_s: Fraction
    cut: Cut | None = None

    def of(self, track: AudioStream) -> AudioStream:
        """What it has of a track of sound."""
        return track if self.cut is None else within(track, self.origin_s, self.end_s)


def clip_parts(
    clip: Clip, film: Part, rate: Fraction, warnings: list[str]
) -> tuple[Part, Part, tuple[str, ...]]:
    """The part of a film that is encoded for a clip, the one that is copied, and why it cannot be:
    a copy begins and ends with an IDR picture. Raises as `cut_on_grid` does."""
    cut = cut_on_grid(clip, rate, film.end_s - film.origin_s, warnings)
    encoded = Part(film.video, film.origin_s + cut.start_s, film.origin_s + cut.end_s, cut)
    table = film.video.index_table
    if table is None:
        return encoded, film, ()  # nothing without an index is copied
    first = _key_at(table, film.video, film.origin_s + clip.start_s)
    to_the_end = clip.end_s is None or film.origin_s + clip.end_s >= film.end_s
    last = None if to_the_end else _key_at(table, film.video, film.origin_s + (clip.end_s or 0))
    reasons = []
    if first is None:
        reasons.append("the clip does not begin with an IDR picture")
    elif first.frame:
        before = key_before(table, first.ticks)
        if before is None:
            return encoded, film, ()  # nor is a film that does not begin with a key picture
        if first.frame - before.frame <= MAX_HELD_BACK:
            reasons.append("the IDR picture of the clip comes too soon after another")
    if last is None and not to_the_end:
        reasons.append("the clip does not end before an IDR picture")
    if first is None or reasons:
        return encoded, film, tuple(reasons)
    return encoded, _on_keyframes(film, table, first, last), ()


def _on_keyframes(film: Part, table: FrameIndex, first: Keyframe, last: Keyframe | None) -> Part:
    """The part from one IDR picture up to another, or to the film's end."""
    video = film.video
    start_s = first.ticks * video.time_base
    end_s = film.end_s if last is None else last.ticks * video.time_base
    stop_s = end_s if video.end_s is None else min(video.end_s, end_s)
    pictures = replace(
        video, start_s=start_s, end_s=stop_s, index_table=_between(table, first, last)
    )
    cut = cut_between(start_s - film.origin_s, end_s - film.origin_s)
    return Part(pictures, start_s, end_s, cut)


def _key_at(table: FrameIndex, video: VideoStream, time_s: Fraction) -> Keyframe | None:
    """The IDR picture that is the first of all pictures at or after a time. Where they come at no
    steady rate, nobody knows what lies in between: it must begin within a tick."""
    gap_s = (table.usual_gap_ticks if table.regular else 1) * video.time_base
    keys = [key for key in table.keyframes if key.idr]
    found = next((key for key in keys if key.ticks * video.time_base >= time_s), None)
    if found is None or found.ticks * video.time_base - time_s >= gap_s:
        return None
    return found


def _between(table: FrameIndex, first: Keyframe, end: Keyframe | None) -> FrameIndex:
    """The index of the pictures from one IDR picture up to another."""
    end_ticks = table.end_ticks if end is None else end.ticks
    end_frame = table.frame_count if end is None else end.frame
    return replace(
        table,
        frame_count=end_frame - first.frame,
        first_ticks=first.ticks,
        end_ticks=end_ticks,
        keyframes=tuple(
            replace(key, frame=key.frame - first.frame)
            for key in table.keyframes
            if first.ticks <= key.ticks < end_ticks
        ),
    )


def see_sound(profile: Profile, audio: AudioStream | None) -> None:
    """Raises `UsageError` (`clip_outside`) where files of sound are asked of a clip in which there
    is none; beside pictures it is silent."""
    asked = [output.kind for output in profile.outputs if output.kind in AUDIO_KINDS]
    silent = audio is not None and audio.end_s is not None and audio.start_s == audio.end_s
    if silent and asked:
        raise UsageError(
            f"there is no sound within the clip, and {asked[0]} was asked", code="clip_outside"
        )
