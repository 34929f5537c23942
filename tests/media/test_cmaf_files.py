"""Real encoders' fragments, taken apart and written again: the same pictures at the same times."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from telecine.engine.formats import cmaf
from telecine.engine.formats.cmaf import Fragment, FragmentReader, Init

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=128x72:r=24000/1001:d=4", "-pix_fmt", "yuv420p")
SOUND = ("-f", "lavfi", "-i", "sine=r=48000:d=2", "-ac", "2")
CODECS = {
    "avc": (*PICTURES, "-c:v", "libx264", "-bf", "3", "-g", "48", "-profile:v", "high"),
    "avc-main": (*PICTURES, "-c:v", "libx264", "-profile:v", "main", "-level", "3.1", "-g", "48"),
    "hevc": (
        *(*PICTURES, "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"),
        *("-x265-params", "log-level=none:keyint=48:open-gop=0:bframes=3:scenecut=0"),
    ),
    "av1": (
        *(*PICTURES, "-c:v", "libsvtav1", "-preset", "12", "-g", "48"),
        *("-svtav1-params", "scd=0:lp=1"),
    ),
    "aac": (*SOUND, "-c:a", "aac", "-frag_duration", "1000000"),
    "aac-44100": (*SOUND, "-c:a", "aac", "-ar", "44100", "-frag_duration", "500000"),
}
FRAGMENTED = (
    "-movflags",
    "empty_moov+default_base_moof+negative_cts_offsets+frag_keyframe",
    "-f",
    "mp4",
    "-",
)


def ffmpeg(*arguments: str, cwd: Path | None = None) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=cwd).stdout


@dataclass(frozen=True, slots=True)
class Shown:
    time: Fraction
    content: bytes


def decode(data: bytes) -> list[Shown]:
    with av.open(io.BytesIO(data), "r") as container:
        return [
            Shown((frame.pts or 0) * (frame.time_base or Fraction(0)), frame.to_ndarray().tobytes())
            for frame in container.decode(container.streams[0])
            if isinstance(frame, av.VideoFrame | av.AudioFrame)
        ]


def take_apart(data: bytes) -> tuple[Init, list[Fragment]]:
    reader = FragmentReader()
    items = [item for at in range(0, len(data), 5000) for item in reader.feed(data[at : at + 5000])]
    reader.finish()
    init = items[0]
    assert isinstance(init, Init)
    return init, [item for item in items if isinstance(item, Fragment)]


@pytest.mark.parametrize("name", CODECS)
def test_rewritten_fragments_show_the_same(name: str) -> None:
    data = ffmpeg(*CODECS[name], *FRAGMENTED)
    init, fragments = take_apart(data)
    assert len(fragments) >= 2
    moments = [[sample.pts for sample in fragment.samples] for fragment in fragments]
    offset = max(map(cmaf.reorder_ticks, moments))
    assert (offset > 0) == (name in ("avc", "avc-main", "hevc"))  # B-frames are in use
    starts = [min(times) for times in moments]
    ends = [*starts[1:], max(s.pts + s.duration for s in fragments[-1].samples)]
    canonical = cmaf.write_init(init.data, edit_offset_ticks=offset)
    segments = [
        cmaf.SEGMENT_TYPE
        + cmaf.write_fragment(
            fragment.samples,
            sequence=number,
            base_ticks=start,
            end_ticks=end,
            edit_offset_ticks=offset,
        )
        for number, (fragment, start, end) in enumerate(
            zip(fragments, starts, ends, strict=True), start=1
        )
    ]
    written = canonical + b"".join(segments)

    track_read = cmaf.read_init(canonical)
    again = [item for data in segments for item in cmaf.read_segment(data, track_read)]
    assert [[sample.pts for sample in fragment.samples] for fragment in again] == moments
    shown = decode(written)
    assert [frame.content for frame in shown] == [frame.content for frame in decode(data)]
    # FFmpeg's own demuxer applies the edit list: the first picture is at 0, none is late.
    times = sorted(pts for run in moments for pts in run)
    assert [frame.time for frame in shown] == [Fraction(pts, init.track.timescale) for pts in times]


@pytest.mark.parametrize("name", CODECS)
def test_the_codec_string_is_what_ffmpeg_itself_says(name: str, tmp_path: Path) -> None:
    """FFmpeg's HLS muxer writes a multivariant playlist with CODECS of its own making."""
    arguments = [item for item in CODECS[name] if item not in ("-frag_duration", "1000000")]
    arguments = [item for item in arguments if item != "500000"]
    hls = ("-f", "hls", "-hls_segment_type", "fmp4", "-master_pl_name", "master.m3u8", "media.m3u8")
    ffmpeg(*arguments, *hls, cwd=tmp_path)
    master = (tmp_path / "master.m3u8").read_text()
    codecs = re.search(r'CODECS="([^"]*)"', master)
    assert codecs is not None
    init, _ = take_apart(ffmpeg(*CODECS[name], *FRAGMENTED))
    assert init.track.codec == codecs[1]


def test_a_keyframe_of_x264_is_an_idr_picture_and_the_others_are_not() -> None:
    init, fragments = take_apart(ffmpeg(*CODECS["avc"], *FRAGMENTED))
    for fragment in fragments:
        for at, sample in enumerate(fragment.samples):
            assert cmaf.starts_gop(sample, init.track) == sample.sync == (at == 0)


def test_the_range_of_an_i_frame_is_one_picture() -> None:
    init, fragments = take_apart(ffmpeg(*CODECS["avc"], *FRAGMENTED))
    canonical = cmaf.write_init(init.data, edit_offset_ticks=10_000)
    fragment = fragments[1]
    times = [sample.pts for sample in fragment.samples]
    segment = cmaf.SEGMENT_TYPE + cmaf.write_fragment(
        fragment.samples,
        sequence=2,
        base_ticks=min(times),
        end_ticks=max(times) + 1001,
        edit_offset_ticks=10_000,
    )
    (read,) = cmaf.read_segment(segment, cmaf.read_init(canonical))
    start, length = read.key_range
    piece = segment[start : start + length]
    assert piece[4:8] == b"moof"
    (picture,) = decode(canonical + piece)
    assert picture == decode(canonical + segment)[0]
