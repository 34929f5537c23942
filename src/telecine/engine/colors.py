"""Pure: what colours a film's pictures are taken for where it does not say, as players guess it."""

from __future__ import annotations

from telecine.engine.media import Color, VideoStream

# Players take untagged pictures of this height for BT.709 and lower ones for BT.601 (Chromium's
# media/ffmpeg/ffmpeg_common.cc, Firefox's DefaultColorSpace).
_HD_LINES = 720

PRIMARIES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020", "smpte431", "smpte432")
SDR_MATRICES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "fcc", "bt2020nc")

_RGB = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr", "pal8")


def is_rgb(pix_fmt: str | None) -> bool:
    return pix_fmt is not None and pix_fmt.startswith(_RGB)


def guessed(height: int) -> str:
    """The name of all that an untagged picture of so many coded lines is taken for."""
    return "bt709" if height >= _HD_LINES else "smpte170m"


def sdr_color(video: VideoStream) -> Color:
    """What the pictures of a film are once they are made SDR of video range, every property of
    them named; HDR and RGB become BT.709.

    All curves of SDR are taken for the one that players show them by (BT.1886).
    """
    color = video.color
    if color.hdr or is_rgb(video.pix_fmt):
        return Color("tv", "bt709", "bt709", "bt709")
    matrix = color.matrix if color.matrix in SDR_MATRICES else guessed(video.height)
    primaries = color.primaries
    if primaries not in PRIMARIES:
        primaries = {"fcc": "smpte170m", "bt2020nc": "bt2020"}.get(matrix, matrix)
    transfer = "bt709" if primaries == "bt709" else "smpte170m"
    return Color("tv", primaries, transfer, matrix)
