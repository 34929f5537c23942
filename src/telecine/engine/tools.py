"""Finds FFmpeg, checks what it can do, and says in which sandbox it will run.

FFmpeg comes from the `imageio-ffmpeg` wheel, whose build is known; another one, named by the user,
is asked for its version, encoders and filters first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from telecine.engine.encoders import AUDIO_ENCODERS, FALLBACK
from telecine.engine.errors import ToolMissing
from telecine.engine.process import Access, Limits, Sandbox, run

OLDEST_MAJOR = 7  # -enc_time_base filter and bwdif's and tpad's behaviour as the joins need them

NEEDED_ENCODERS = (FALLBACK.ffmpeg_name, *(e.ffmpeg_name for e in AUDIO_ENCODERS.values()), "mjpeg")
NEEDED_FILTERS = ("fps", "tpad", "bwdif", "scale", "zscale", "tonemap", "thumbnail", "aresample")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every step runs with. Not part of a plan: another machine has its own."""

    ffmpeg: Path
    version: str
    sandbox: Sandbox


def find_tools(ffmpeg: Path | None = None, *, allow_unsandboxed: bool = False) -> Tools:
    """The tools of this machine. `ffmpeg` names another FFmpeg than the wheel's.

    Raises `ToolMissing` (`ffmpeg_missing`, `ffmpeg_unsuitable`) and `StepFailed`
    (`sandbox_unavailable`).
    """
    sandbox = Sandbox.detect(allow_none=allow_unsandboxed)
    if ffmpeg is None:
        path = _wheel_ffmpeg()
        found = re.search(r"-v([\d.]+)$", path.name)
        return Tools(path, found[1] if found else "unknown", sandbox)
    if not ffmpeg.is_file():
        raise ToolMissing(f"no FFmpeg at {ffmpeg}", code="ffmpeg_missing")
    path = ffmpeg.resolve()
    return Tools(path, _check(path, sandbox), sandbox)


def _wheel_ffmpeg() -> Path:
    spec = find_spec("imageio_ffmpeg")
    folder = Path(spec.origin).parent / "binaries" if spec and spec.origin else None
    found = sorted(folder.glob("ffmpeg-*")) if folder else []
    if not found:
        raise ToolMissing(
            "the imageio-ffmpeg package holds no FFmpeg for this system: name one with --ffmpeg",
            code="ffmpeg_missing",
        )
    return found[0]


def _check(ffmpeg: Path, sandbox: Sandbox) -> str:
    """The version of an FFmpeg that is new enough and has what plans need."""
    said = _ask(ffmpeg, sandbox, "-version")
    found = re.search(r"ffmpeg version \D?(\d+)(\S*)", said)
    if found is None:
        raise ToolMissing(f"{ffmpeg} does not say that it is FFmpeg", code="ffmpeg_unsuitable")
    version = found[1] + found[2]
    if int(found[1]) < OLDEST_MAJOR:
        raise ToolMissing(
            f"{ffmpeg} is FFmpeg {version}: {OLDEST_MAJOR} or newer is needed",
            code="ffmpeg_unsuitable",
        )
    encoders = set(re.findall(r"^ [VA]\S+ (\S+)", _ask(ffmpeg, sandbox, "-encoders"), re.M))
    filters = set(re.findall(r"^ \S+ (\S+) ", _ask(ffmpeg, sandbox, "-filters"), re.M))
    missing = [name for name in NEEDED_ENCODERS if name not in encoders]
    missing += [name for name in NEEDED_FILTERS if name not in filters]
    if missing:
        raise ToolMissing(
            f"{ffmpeg} (FFmpeg {version}) lacks {', '.join(missing)}", code="ffmpeg_unsuitable"
        )
    return version


def _ask(ffmpeg: Path, sandbox: Sandbox, question: str) -> str:
    said: list[bytes] = []
    finished = run(
        [str(ffmpeg), "-hide_banner", question],
        sandbox=sandbox,
        limits=Limits(wall_s=10, cpu_s=10),
        access=Access(),
        sinks={1: said.append},
    )
    if finished.returncode != 0:
        raise ToolMissing(
            f"{ffmpeg} does not run",
            code="ffmpeg_unsuitable",
            log_tail=finished.log_tail,
        )
    return b"".join(said).decode(errors="replace")
