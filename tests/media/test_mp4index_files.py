"""Sample tables of real files against FFmpeg's own demuxer."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest

from telecine.engine.formats import mp4index

MEDIA = Path(
    os.environ.get("TELECINE_MEDIA", Path(__file__).parents[2].parent / "shared" / "media")
)

# Phone and camera files, edit lists, QuickTime, 10 bits, AV1, HEVC, VP9, raw sound, hint tracks.
FILES = (
    "video/androidx/edit_list_positive_shift.mp4",
    "video/androidx/h265_with_metadata_track.mp4",
    "video/androidx/hdr10-av1.mp4",
    "video/androidx/iibbibb_editlist_videoonly.mp4",
    "video/androidx/bbb_800x640_768kbps_30fps_vp9.mp4",
    "video/androidx/long_1080p_lowbitrate.mp4",
    "video/androidx/sample_edit_list.mp4",
    "video/androidx/sowt-with-video.mov",
    "video/androidx/trim_optimization_failure.mp4",
    "video/bbb/bbb_1080p24_30s.mp4",
    "video/mpy/bitmap.mp4",
    "video/mpy/fire2.mp4",
    "video/phpff/sample.3gp",
    "video/sb6/drone_city_1080p_12s.mp4",
    "video/streamio/file+with+data&streams=works?.mp4",
    "video/streamio/ios9.mov",
    "video/tcodec/nasa_13013.mp4",
    "bad/androidx/sample_mdat_too_long.mp4",
    "audio/autoed/alac.m4a",
)


@pytest.mark.parametrize("name", FILES)
def test_the_table_says_what_the_demuxer_finds(name: str) -> None:
    path = MEDIA / name
    if not path.exists():
        pytest.skip("the media corpus is not here")
    with path.open("rb") as file:
        moov = mp4index.read_moov(file)
    assert moov is not None
    compared = 0
    for number, track in enumerate(mp4index.read_movie(moov).tracks):
        coded = track.entries[0].kind not in ("sowt", "raw ")  # FFmpeg packs raw sound by chunk
        if track.handler not in ("vide", "soun") or not coded:
            continue
        samples = track.samples()
        sync = set(samples.sync)
        ours = [
            (*row, at in sync)
            for at, row in enumerate(
                zip(samples.dts, samples.pts, samples.sizes, samples.offsets, strict=True)
            )
        ]
        with av.open(str(path), options={"ignore_editlist": "1"}) as container:
            packets = [
                (p.dts or 0, p.pts or 0, p.size, p.pos, p.is_keyframe)
                for p in container.demux(container.streams[number])
                if p.size
            ]
        # Where a composition offset is negative, the demuxer moves all decode times down or all
        # presentation times up by it.
        pairs = list(zip(packets, ours, strict=True))
        (dts_shift,) = {theirs[0] - mine[0] for theirs, mine in pairs}
        (pts_shift,) = {theirs[1] - mine[1] for theirs, mine in pairs}
        assert pts_shift - dts_shift == max(0, *(mine[0] - mine[1] for mine in ours))
        assert [theirs[2:] for theirs in packets] == [mine[2:] for mine in ours]
        compared += len(ours)
    assert compared
