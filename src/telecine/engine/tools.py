"""Finds FFmpeg, checks what it can do, and says in which sandbox it will run.

FFmpeg comes from the `imageio-ffmpeg` wheel, whose build is known; another one, named by the user,
is asked for its version, encoders and filters first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from telecine.engine.encoders import AUDIO_ENCODERS, FALLBACK, VIDEO_ENCODERS
from telecine.engine.errors import ToolMissing
from telecine.engine.process import Access, Limits, Sandbox, run

if TYPE_CHECKING:  # whoever only looks for FFmpeg plans nothing
    from telecine.engine.plan import Plan

OLDEST_MAJOR = 7  # -enc_time_base filter and bwdif's and tpad's behaviour as the joins need them

NEEDED_ENCODERS = (FALLBACK.ffmpeg_name, *(e.ffmpeg_name for e in AUDIO_ENCODERS.values()), "mjpeg")
NEEDED_FILTERS = ("fps", "tpad", "bwdif", "scale", "zscale", "tonemap", "thumbnail", "aresample")

# What some plans need: each is a library of its own, which a build of FFmpeg may be without.
_PREVIEWS, _TEXTS = "libwebp_anim", "subtitles"
SELDOM_NEEDED = (*(e.ffmpeg_name for e in VIDEO_ENCODERS.values() if e is not FALLBACK),
                 _PREVIEWS, _TEXTS)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tools:
    """What every step runs with. Not part of a plan: another machine has its own. `lacks` are those
    of `SELDOM_NEEDED` that this FFmpeg does not have."""

    ffmpeg: Path
    version: str
    sandbox: Sandbox
    lacks: frozenset[str] = frozenset()


def see_able(tools: Tools, plan: Plan) -> None:
    """Raises `ToolMissing` (`ffmpeg_lacks`) where the plan needs what this FFmpeg does not have."""
    codecs = [VIDEO_ENCODERS[r.codec] for r in plan.renditions if r.mode == "encode"]
    needed = {codec.ffmpeg_name: codec.title for codec in codecs}
    if plan.preview is not None:
        needed[_PREVIEWS] = "the preview"
    if plan.burned_in is not None and plan.burned_in.kind == "text":
        needed[_TEXTS] = "burning subtitles in"
    lacking = [f"{name}, for {what}" for name, what in needed.items() if name in tools.lacks]
    if lacking:
        raise ToolMissing(
            f"FFmpeg {tools.version} at {tools.ffmpeg} lacks {'; '.join(lacking)}",
            code="ffmpeg_lacks",
        )


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
    version, lacks = _check(path, sandbox)
    return Tools(path, version, sandbox, lacks)


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


def _check(ffmpeg: Path, sandbox: Sandbox) -> tuple[str, frozenset[str]]:
    """The version of an FFmpeg that is new enough and has what all plans need, and what it lacks of
    what some need."""
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
    return version, frozenset(SELDOM_NEEDED) - encoders - filters


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
