"""FFmpeg's command lines for pictures, whole: every flag is there for a reason."""

from __future__ import annotations

from pathlib import Path

from telecine.engine.images.decoding import choose, decode_argv
from telecine.engine.images.values import ImageLimits

LIMITS = ImageLimits(pixels=1_000_000, frames=20)
ALWAYS = ["-nostdin", "-hide_banner", "-max_alloc", "1073741824", "-loglevel", "level+info"]
SCALE = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"
AT_THE_END = "-fps_mode passthrough -f image2pipe -c:v png -compression_level 0 -threads 1 pipe:3"


def argv(format: str, *said: str, has_alpha: bool = False, only_first: int | None = None) -> str:
    chosen = choose(said, format, has_alpha=has_alpha) if said else None
    got = decode_argv(
        Path("/bin/ffmpeg"), Path("/in/a b.x"), format, LIMITS, chosen, only_first=only_first
    )
    begin = ["/bin/ffmpeg", *ALWAYS, "-filter_complex_threads", "1"]
    end = AT_THE_END.split()
    assert got[: len(begin)] == begin
    assert got[-len(end) :] == end
    return " ".join(got[len(begin) : -len(end)])


def reading(demuxers: str, *pinned: str) -> str:
    flags = ["-threads 1 -protocol_whitelist file -format_whitelist", demuxers, *pinned]
    return " ".join([*flags, "-max_streams 512 -max_pixels 1315536 -i file:/in/a b.x"])


def test_a_still_picture() -> None:
    assert argv("bmp", only_first=1) == (
        f"{reading('bmp_pipe', '-f bmp_pipe')} -vf showinfo=checksum=0,{SCALE} -frames:v 1"
    )


def test_an_animation_gives_one_frame_more_than_is_allowed() -> None:
    assert argv("apng") == (
        f"{reading('apng', '-f apng')} -vf showinfo=checksum=0,{SCALE} -frames:v 21"
    )


def test_of_two_demuxers_ffmpeg_tells_which() -> None:
    assert argv("jxl").startswith(reading("jpegxl_pipe,jpegxl_anim") + " -vf")


def test_the_tiles_of_a_heic_are_put_together() -> None:
    grid = "  Stream group #0:0[0x31]: Tile Grid: hevc (x), yuvj420p(pc), 400x300 (default)"
    mov = "mov,mp4,m4a,3gp,3g2,mj2"
    assert argv("heic", grid, only_first=1) == (
        f"{reading(mov, '-f mov')} -filter_complex [0:g:0]showinfo=checksum=0,{SCALE}[out] "
        "-map [out] -frames:v 1"
    )


def test_the_alpha_of_a_heic_is_laid_over_it() -> None:
    picture = "  Stream #0:0[0x1]: Video: hevc (x), yuv420p(tv), 80x60, 1 fps, 1 tbn (default)"
    mask = "  Stream #0:1[0x2]: Video: hevc (Rext), gray(pc), 80x60, 1 fps, 1 tbr, 1 tbn"
    mov = "mov,mp4,m4a,3gp,3g2,mj2"
    assert argv("heic", picture, mask, has_alpha=True, only_first=1) == (
        f"{reading(mov, '-f mov')} -filter_complex "
        f"[0:0]showinfo=checksum=0,{SCALE},format=rgba[picture];[0:1]format=gray[alpha];"
        "[picture][alpha]alphamerge[out] -map [out] -frames:v 1"
    )
