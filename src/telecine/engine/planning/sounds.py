"""Pure: the sound in the playlists, and files of sound alone."""

from __future__ import annotations

from telecine.engine.encoders import AAC_BITRATE_BPS
from telecine.engine.media import AudioStream
from telecine.engine.plan import WORK, AudioRendition, FileOutput
from telecine.engine.profile import AUDIO_DEFAULT_BPS, AUDIO_KINDS, Profile, file_name


def audio_rendition(
    audio: AudioStream, copy_reasons: tuple[str, ...], *, listed: bool
) -> AudioRendition:
    copy = not copy_reasons
    return AudioRendition(
        name="aac",
        mode="copy" if copy else "encode",
        folder="audio/aac" if listed else f"{WORK}/audio/aac",
        listed=listed,
        sample_rate=audio.sample_rate if copy else 48_000,
        channels=2,
        bitrate_bps=(audio.bitrate_bps or AAC_BITRATE_BPS) if copy else AAC_BITRATE_BPS,
        language=audio.language,
        reason="AAC-LC stereo: copied" if copy else "encoded: " + "; ".join(copy_reasons),
    )


def audio_files(
    profile: Profile, audio: AudioStream | None, *, damaged: bool = False
) -> tuple[FileOutput, ...]:
    """Files of sound alone. AAC is copied where no rate was asked and the source has it already."""
    copyable = audio is not None and audio.codec == "aac" and audio.configured and not damaged
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
