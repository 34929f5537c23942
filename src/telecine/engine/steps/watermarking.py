"""What a picture is that is to be laid over a film: decided by the decoder that will show it."""

from __future__ import annotations

import re
from pathlib import Path

from telecine.engine import argv
from telecine.engine.errors import InputRefused
from telecine.engine.media import PictureFile, PictureFormat
from telecine.engine.process import Access, Cancel, Limits, run
from telecine.engine.tools import Tools

MAX_SIDE = 8192

_LIMITS = Limits(memory_bytes=2 << 30, cpu_s=20, wall_s=20, stall_s=None)
_SIZE = re.compile(r"^\[Parsed_showinfo_0 @ 0x[0-9a-f]+\] n: *0 .* s:(\d+)x(\d+) ")


def sniff(head: bytes) -> PictureFormat | None:
    """The format of a picture by its first 12 bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def probe_picture(path: Path, tools: Tools, cancel: Cancel | None) -> PictureFile:
    """Reads it in the sandbox, writes nothing. Raises `InputRefused` (`watermark_unreadable`) and
    `Interrupted`."""
    with path.open("rb") as file:
        format_ = sniff(file.read(12))
    if format_ is None:
        raise _refused("it is no PNG, JPEG or WebP")
    sizes: list[tuple[int, int]] = []

    def hear(line: str) -> bool:
        if (match := _SIZE.match(line)) is not None:
            sizes.append((int(match[1]), int(match[2])))
        return False

    run(
        argv.picture_check(tools.ffmpeg, path, format_),
        sandbox=tools.sandbox,
        limits=_LIMITS,
        access=Access(read=(path,)),
        cancel=cancel,
        on_line=hear,
    )
    if not sizes or not all(1 <= side <= MAX_SIDE for side in sizes[0]):
        raise _refused(f"it does not decode to a picture of up to {MAX_SIDE} pixels a side")
    return PictureFile(format_, *sizes[0])


def _refused(why: str) -> InputRefused:
    return InputRefused(f"the watermark cannot be used: {why}", code="watermark_unreadable")
