"""Pure: the rungs of the picture, and what their encoders are told."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from telecine.engine.copying import MAX_B_FRAME_OFFSET_S
from telecine.engine.encoders import X264
from telecine.engine.ladder import (
    Ladder,
    Rung,
    ceiling_bps,
    fit_short_side,
    make_ladder,
    source_size,
)
from telecine.engine.media import VideoStream
from telecine.engine.plan import WORK, VideoRendition, display_of
from telecine.engine.profile import Output, Profile
from telecine.engine.timeline import MAX_CHUNK_S, Chunk, Timeline

# x264's row-level VBV reads the sizes of frames still in flight: with frame threads eight runs gave
# eight outputs, with one thread one. Rungs and chunks fill the processors instead.
ENCODER_THREADS = 1

HEAD_RUNGS = 2
HEAD_SEGMENTS = 2
HEAD_SMALLEST_SHORT_SIDE = 360  # below it the first picture would not look like the film


def ladder_for(profile: Profile, display: tuple[Fraction, Fraction], rate: Fraction) -> Ladder:
    """The rungs to encode: the ladder where HLS is wanted, else just what files ask for."""
    if profile.has("hls"):
        return make_ladder(display, rate, profile.rungs)
    asked = [mp4_side(output, display) for output in profile.outputs if output.kind == "mp4"]
    if not asked:
        return Ladder((), (), ())
    return make_ladder(display, rate, asked)


def mp4_side(output: Output, display: tuple[Fraction, Fraction]) -> int:
    return output.short_side or source_size(display).short_side


def rung_for(side: int, ladder: Ladder, display: tuple[Fraction, Fraction], rate: Fraction) -> Rung:
    """The ladder's rung of this short side, or one of its own where the ladder has none."""
    own = source_size(display)
    size = own if side >= own.short_side else fit_short_side(side, display)
    for rung in ladder.rungs:
        if rung.size == size:
            return rung
    return Rung(f"{size.short_side}p", size, ceiling_bps(size, rate), "asked as a file")


def make_renditions(
    ladder: Ladder, profile: Profile, video: VideoStream, timeline: Timeline, *, copied: bool
) -> tuple[VideoRendition, ...]:
    display = display_of(video)
    listed = list(ladder.rungs) if profile.has("hls") else []
    extra: list[Rung] = []
    for output in profile.outputs:
        if output.kind == "mp4":
            rung = rung_for(mp4_side(output, display), ladder, display, timeline.rate)
            if rung not in listed and rung not in extra:
                extra.append(rung)
    rungs = sorted([*listed, *extra], key=lambda rung: rung.size.pixels, reverse=True)
    head = _head_rungs([rung for rung in rungs if rung in listed], copied=copied)
    b_frames, offset = _b_frames(video, timeline)
    renditions = []
    for rung in rungs:
        copy = copied and rung is rungs[0]
        shown = rung in listed
        renditions.append(
            VideoRendition(
                name=rung.name,
                size=rung.size,
                mode="copy" if copy else "encode",
                folder=f"video/{rung.name}" if shown else f"{WORK}/video/{rung.name}",
                listed=shown,
                head=rung.name in head,
                encoder=X264.name,
                crf=X264.crf,
                ceiling_bps=rung.ceiling_bps,
                gop_frames=timeline.gop_frames,
                b_frames=b_frames,
                threads=ENCODER_THREADS,
                edit_offset_ticks=_index_offset(video) if copy else offset,
                reason="copied: the source keeps every rule" if copy else rung.reason,
            )
        )
    return tuple(renditions)


def _head_rungs(listed: Sequence[Rung], *, copied: bool) -> frozenset[str]:
    """Which rungs are published first. A copied rung is there at once and needs no company."""
    if copied:
        return frozenset(rung.name for rung in listed[:1])
    useful = [rung for rung in listed if rung.size.short_side >= HEAD_SMALLEST_SHORT_SIDE]
    chosen = useful if len(useful) >= HEAD_RUNGS else listed
    return frozenset(rung.name for rung in chosen[-HEAD_RUNGS:])


def _index_offset(video: VideoStream) -> int:
    assert video.index_table is not None
    return video.index_table.reorder_ticks


def _b_frames(video: VideoStream, timeline: Timeline) -> tuple[int, int]:
    """(B-frames, edit-list offset in ticks) of encoded rungs. Where the source's frames lie so far
    apart that reordering would delay the stream by seconds, B-frames are left out."""
    if timeline.constant:
        return X264.b_frames, X264.reorder_frames * timeline.frame_ticks
    assert video.index_table is not None
    offset = X264.reorder_frames * video.index_table.max_gap_ticks
    if Fraction(offset, timeline.timescale) > MAX_B_FRAME_OFFSET_S:
        return 0, 0
    return X264.b_frames, offset


def head_segments(renditions: Sequence[VideoRendition], chunks: Sequence[Chunk]) -> int:
    """How far ahead the head rungs are made. What follows takes all rungs of that part with it, and
    a viewer plays on meanwhile: 12 s last until then where a second of film takes 0.6 s. A film of
    one chunk is soon done anyway and spares the second decode."""
    encoded = [r for r in renditions if r.mode == "encode"]
    if not any(r.head for r in encoded) or all(r.head for r in encoded):
        return 0
    return 1 if len(chunks) == 1 else min(HEAD_SEGMENTS, chunks[0].end)


def keyframes_s(video: VideoStream, origin_s: Fraction) -> tuple[Fraction, ...]:
    table = video.index_table
    if table is None:
        return ()
    return tuple(key.ticks * video.time_base - origin_s for key in table.keyframes)


def long_chunk_warnings(timeline: Timeline, chunks: Sequence[Chunk]) -> list[str]:
    longest_s = max(timeline.time_s(chunk.end) - timeline.time_s(chunk.first) for chunk in chunks)
    if longest_s <= 2 * MAX_CHUNK_S:
        return []
    return [f"few keyframes: up to {float(longest_s):.0f} s are encoded in one piece"]
