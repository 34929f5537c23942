"""Golden files: what a case gave when somebody last looked at it.

`TELECINE_UPDATE_GOLDEN=1 pytest tests/unit/test_plan.py tests/unit/test_argv.py` writes them anew;
read the difference against the streaming rules before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit import sources

from telecine.engine.media import MediaInfo
from telecine.engine.profile import Profile, make_profile, parse_output
from telecine.engine.words.clip import parse_clip
from telecine.engine.words.subtitles import Burn

GOLDEN = Path(__file__).parent / "golden"

EVERYTHING = make_profile(
    tuple(
        parse_output(word)
        for word in (
            *("hls", "mp4:720p", "mp4:source", "mp3@128k", "aac", "opus", "flac", "poster"),
        )
    )
)
BESIDE = make_profile(
    tuple(
        parse_output(word)
        for word in ("hls", "storyboard", "thumbnails:every=10s", "preview", "waveform")
    )
)
FILES = make_profile((parse_output("mp4:480p"), parse_output("aac@96k"), parse_output("flac")))
DEFAULT = make_profile()
LOUD = make_profile(
    tuple(parse_output(word) for word in ("hls", "mp3", "flac")), loudness_lufs=-16.0
)

CASES: dict[str, tuple[MediaInfo, Profile]] = {
    "compliant": (sources.COMPLIANT, DEFAULT),
    "compliant-everything": (sources.COMPLIANT, EVERYTHING),
    "compliant-encoded": (sources.COMPLIANT, make_profile(top="encode")),
    "compliant-two-rungs": (sources.COMPLIANT, make_profile(rungs=(720, 360))),
    "default-keyint": (sources.DEFAULT_KEYINT, DEFAULT),
    "phone-hlg-vfr-rotated": (sources.PHONE, DEFAULT),
    "broadcast-1080i-ts": (sources.BROADCAST, DEFAULT),
    "pal-mpeg2-sar": (sources.PAL, DEFAULT),
    "film-23976-mkv": (sources.FILM, DEFAULT),
    "film-files-only": (sources.FILM, FILES),
    "uhd60-av1": (sources.UHD60, DEFAULT),
    "odd-161x121": (sources.ODD, DEFAULT),
    "surround-only": (sources.SURROUND_ONLY, DEFAULT),
    "surround-only-files": (sources.SURROUND_ONLY, make_profile((parse_output("flac"),))),
    "song-44k": (sources.SONG, DEFAULT),
    "several-streams": (sources.SEVERAL, DEFAULT),
    "several-sounds": (sources.TRACKS, DEFAULT),
    "several-sounds-loudness": (sources.TRACKS, LOUD),
    "late-sound": (sources.LATE_SOUND, DEFAULT),
    "long-sound": (sources.LONG_SOUND, DEFAULT),
    "short-sound": (sources.SHORT_SOUND, DEFAULT),
    "early-sound": (sources.EARLY_SOUND, DEFAULT),
    "no-index": (sources.NO_INDEX, DEFAULT),
    "silent": (sources.SILENT, DEFAULT),
    "beside": (sources.CHAPTERED, BESIDE),
    "beside-alone": (sources.BROADCAST, make_profile((parse_output("storyboard"),))),
    "song-waveform": (sources.SONG, make_profile((parse_output("waveform"),))),
    "codecs-under-a-copy": (sources.COMPLIANT, make_profile(codecs=("h264", "av1"))),
    "codecs-all": (sources.PAL, make_profile(codecs=("h264", "av1", "hevc"))),
    "codecs-av1-alone": (sources.BROADCAST, make_profile(codecs=("av1",))),
    "quality-searched": (sources.FILM, make_profile(quality=90.0)),
    "quality-measured": (sources.COMPLIANT, make_profile(top="encode", measure=True)),
    "burnt-text": (sources.FILM, make_profile(burn=Burn(None, 2))),
    "burnt-pictures": (sources.DISC, make_profile(burn=Burn("en", None))),
    "clip-copied": (sources.COMPLIANT, make_profile(clip=parse_clip("10-20"))),
    "clip-encoded": (
        sources.COMPLIANT,
        make_profile(EVERYTHING.outputs, clip=parse_clip("9.9-20.5")),
    ),
    "clip-song": (
        sources.SONG,
        make_profile((parse_output("hls"), parse_output("mp3")), clip=parse_clip("3-10")),
    ),
    "hdr10-kept": (sources.HDR10, make_profile(codecs=("h264", "av1", "hevc"), hdr=True)),
}


def check(name: str, text: str) -> None:
    """`text` is what the golden file `name` holds; written there instead where that is asked."""
    path = GOLDEN / name
    if os.environ.get("TELECINE_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
