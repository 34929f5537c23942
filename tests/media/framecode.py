"""Clips whose every frame carries its number as a picture, and the reader of such frames.

A frame is drawn on a 64 × 36 canvas and enlarged without smoothing. The upper 20 rows hold 32
blocks, 8 × 5 pixels each: the 16 bits of the number in two rows of blocks, each row followed by
its negative. The lower 16 rows hold a texture that moves, so that an encoder makes P- and
B-frames. A block pair that is not clearly one black and one white is not read as a number but as
`None`: a blend of two frames, a woven field or a broken reference cannot pass for a frame.

Numbers are written as Gray code. Neighbours differ in one block pair, and no block keeps a value
for only one frame; so in an interlaced clip (each *field* is numbered) no block alternates from
field to field, which a motion-adaptive deinterlacer would take for a still picture with combing.

The sound is a faint tone with a 10 ms click at each full second of the *picture's* clock.
"""

from __future__ import annotations

import re
import subprocess
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

CANVAS_W, CANVAS_H = 64, 36
BITS = 16
_BLOCK_W, _BLOCK_H = 8, 5
_DARK, _LIGHT = 40, 210
_MIN_CONTRAST = 100  # of the 170 that were drawn; a frame mixed half and half has 0
_TEXTURE_ROWS = CANVAS_H - 4 * _BLOCK_H
_CLICK_RATE = 48000


@dataclass(frozen=True, slots=True)
class Pace:
    """From frame number `first` on, frames are shown from `start_ms`, one each `step_ms`."""

    first: int
    start_ms: int
    step_ms: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A made file and what is true of it, known without reading it.

    `times[n]` is when picture n (a frame, or a field of an interlaced clip) is shown, in seconds
    after the first one.
    """

    path: Path
    rate: Fraction  # pictures a second; for a clip of uneven pace the rate of its time stamps
    times: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """One decoded frame: its number (`None` when it cannot be read) and when it is shown."""

    number: int | None
    time_s: Fraction


def uneven_times(paces: Sequence[Pace], count: int) -> tuple[Fraction, ...]:
    """The times that `setpts_of` makes, by arithmetic."""
    times = []
    for n in range(count):
        pace = max((p for p in paces if p.first <= n), key=lambda p: p.first)
        times.append(Fraction(pace.start_ms + (n - pace.first) * pace.step_ms, 1000))
    return tuple(times)


def setpts_of(paces: Sequence[Pace]) -> str:
    """FFmpeg's expression for the same times, on a time base of 1 ms."""
    first, *rest = sorted(paces, key=lambda p: p.first)
    text = f"{first.start_ms}+N*{first.step_ms}"
    for p in rest:
        text = f"if(gte(N,{p.first}),{p.start_ms}+(N-{p.first})*{p.step_ms},{text})"
    return text


@cache
def _bit_rows(byte: int) -> bytes:
    row = b"".join(bytes([_LIGHT if byte >> (7 - i) & 1 else _DARK]) * _BLOCK_W for i in range(8))
    return row * _BLOCK_H


@cache
def _texture() -> tuple[bytes, ...]:
    """Rows of soft waves, each twice as long as the canvas so that a slice of it can move."""
    rows = []
    for y in range(_TEXTURE_ROWS):
        wave = bytes(
            60 + (abs((x * 5 + y * 3) % 64 - 32) + abs((x * 3 - y * 7) % 128 - 64)) * 3 // 2
            for x in range(128)
        )
        rows.append(wave * 2)
    return tuple(rows)


def draw(number: int) -> bytes:
    """The canvas of one picture, 8-bit grey."""
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"frame number {number} does not fit {BITS} bits")
    code = number ^ (number >> 1)
    high, low = code >> 8, code & 0xFF
    at = number % 128
    moving = b"".join(row[at : at + CANVAS_W] for row in _texture())
    return (
        _bit_rows(high) + _bit_rows(high ^ 0xFF) + _bit_rows(low) + _bit_rows(low ^ 0xFF) + moving
    )


def read(canvas: bytes) -> int | None:
    """The number on a canvas, or `None` if any of its blocks is not clearly black or white."""
    code = 0
    for half in (0, 1):
        plain = 2 * half * _BLOCK_H + _BLOCK_H // 2  # the middle row of a row of blocks
        negative = plain + _BLOCK_H
        for i in range(8):
            x = i * _BLOCK_W + _BLOCK_W // 2
            difference = canvas[plain * CANVAS_W + x] - canvas[negative * CANVAS_W + x]
            if abs(difference) < _MIN_CONTRAST:
                return None
            code = code << 1 | (difference > 0)
    number = 0
    while code:
        number ^= code
        code >>= 1
    return number


def make(
    path: Path,
    *,
    ffmpeg: str,
    rate: Fraction,
    seconds: Fraction | int,
    size: tuple[int, int] = (480, 360),
    video: Sequence[str] = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "20"),
    paces: Sequence[Pace] = (),
    fields: Literal["tff", "bff"] | None = None,
    noise: int = 0,
    audio: Sequence[str] | None = ("-c:a", "aac", "-b:a", "64k", "-ac", "2"),
    sound: str = "anull",
    sound_late_s: float = 0,
    mux: Sequence[str] = (),
) -> Clip:
    """Make a clip at `path`; the name's ending chooses the container.

    `rate` is pictures a second: of an interlaced clip (`fields`) the rate of its fields, twice
    that of its frames. With `paces` the frames get the times written there, on a clock of 1 ms.
    `noise` (0–100) is snow over the picture: an encoder then needs all the bits it may spend.
    `sound` is a filter over the sound, which begins `sound_late_s` after the clock's 0.
    """
    count = int(seconds * rate)
    if fields:
        count -= count % 2
    steps = [f"scale={size[0]}:{size[1]}:flags=neighbor", "format=yuv420p"]
    if noise:
        steps.append(f"noise=alls={noise}:allf=t:all_seed=1")
    if fields:
        order = "top" if fields == "tff" else "bottom"
        # Two pictures become the two fields of a frame; `setfield` states their order to muxers.
        steps += [f"tinterlace=interleave_{order}", f"setfield={fields}"]
    times = tuple(Fraction(n) / rate for n in range(count))
    timing = []
    if paces:
        steps += ["settb=1/1000", f"setpts='{setpts_of(paces)}'"]
        timing = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000"]
        times = uneven_times(paces, count)
    length = times[-1] + (1 / rate)
    argv = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    argv += ["-f", "rawvideo", "-pix_fmt", "gray", "-video_size", f"{CANVAS_W}x{CANVAS_H}"]
    argv += ["-framerate", str(rate), "-i", "pipe:0"]
    if audio is not None:
        click = "0.8*sin(2*PI*3000*t)*lt(t,0.01)"
        second = f"aevalsrc='0.05*sin(2*PI*300*t)+{click}':s={_CLICK_RATE}:d=1"
        both = f"{second},aloop=loop=-1:size={_CLICK_RATE},atrim=end={float(length):.6f}"
        argv += ["-itsoffset", str(sound_late_s), "-f", "lavfi", "-i", both, "-af", sound]
    argv += ["-vf", ",".join(steps), *video, *timing, *(audio or ()), *mux, str(path)]
    _run(argv, b"".join(draw(n) for n in range(count)))
    return Clip(path, rate, times)


_TIME_BASE = re.compile(r"config in time_base: (\d+)/(\d+)")
_SHOWN = re.compile(r"\bn: *\d+ pts: *(-?\d+) ")


def frames(source: Path | bytes, *, ffmpeg: str, before: str | None = None) -> list[Shown]:
    """Decode the first video stream of a file (or of its bytes): every frame, in the order shown.

    Times are FFmpeg's own presentation times, not shifted to begin at 0. `before` is a filter to
    put first (a deinterlacer). Raises `AssertionError` when FFmpeg reports any error.
    """
    steps = [before] if before else []
    steps += [f"scale={CANVAS_W}:{CANVAS_H}:flags=area", "format=gray", "showinfo=checksum=0"]
    argv = [ffmpeg, "-hide_banner", "-nostats", "-v", "info", "-copyts"]
    argv += ["-i", str(source) if isinstance(source, Path) else "pipe:0", "-map", "0:v:0"]
    argv += ["-vf", ",".join(steps), "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    pictures, log = _run(argv, None if isinstance(source, Path) else source)
    base = _TIME_BASE.search(log)
    assert base, log[-2000:]
    tick = Fraction(int(base[1]), int(base[2]))
    times = [int(found[1]) * tick for found in _SHOWN.finditer(log)]
    size = CANVAS_W * CANVAS_H
    assert len(pictures) == size * len(times), "FFmpeg wrote another number of frames than it told"
    return [Shown(read(pictures[i * size :][:size]), t) for i, t in enumerate(times)]


def clicks(source: Path | bytes, *, ffmpeg: str) -> list[Fraction]:
    """When each click of the first audio stream begins, in seconds on the file's own clock."""
    argv = [ffmpeg, "-hide_banner", "-nostats", "-v", "info", "-copyts"]
    argv += ["-i", str(source) if isinstance(source, Path) else "pipe:0", "-map", "0:a:0"]
    # The high-pass removes the tone; `ashowinfo` tells the time of the first sample.
    argv += ["-af", f"aresample={_CLICK_RATE},highpass=f=1500,ashowinfo", "-ac", "1"]
    argv += ["-c:a", "pcm_s16le", "-f", "s16le", "pipe:1"]
    sound, log = _run(argv, None if isinstance(source, Path) else source)
    first = re.search(r"pts_time:(-?[\d.]+)", log)
    assert first, log[-2000:]
    samples = array("h", sound)
    found: list[Fraction] = []
    at, loud = 0, 6000
    while at < len(samples):
        window = samples[at : at + 480]
        if max(window) > loud:
            begin = next(i for i, s in enumerate(window) if s > loud) + at
            found.append(Fraction(first[1]) + Fraction(begin, _CLICK_RATE))
            at = begin + _CLICK_RATE // 2
        else:
            at += 480
    return found


def _run(argv: Sequence[str], fed: bytes | None) -> tuple[bytes, str]:
    done = subprocess.run(argv, input=fed, capture_output=True, timeout=300, check=False)
    log = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(argv)}\n{log[-2000:]}"
    return done.stdout, log
