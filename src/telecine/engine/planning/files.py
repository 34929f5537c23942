"""Pure: the files of their own that stand beside the segments."""

from __future__ import annotations

from fractions import Fraction

from telecine.engine.ladder import Ladder
from telecine.engine.media import AudioStream
from telecine.engine.plan import FileOutput
from telecine.engine.planning.pictures import rung_for
from telecine.engine.planning.sounds import audio_files
from telecine.engine.profile import Profile, file_name


def make_files(
    profile: Profile,
    audio: AudioStream | None,
    ladder: Ladder,
    display: tuple[Fraction, Fraction],
    rate: Fraction,
    *,
    damaged: bool,
) -> tuple[FileOutput, ...]:
    files = list(audio_files(profile, audio, damaged=damaged))
    for output in profile.outputs:
        if output.kind == "mp4":
            rung = rung_for(output, ladder, display, rate)
            files.append(FileOutput("mp4", file_name(output), rung.name))
        elif output.kind == "poster":
            files.append(FileOutput("poster", file_name(output)))
    return tuple(files)
