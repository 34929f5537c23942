"""Pure: the rungs of the picture, and what their encoders are told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from telecine.engine.copying import MAX_B_FRAME_OFFSET_S
from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS, VideoEncoder
from telecine.engine.ladder import (
    NEIGHBOUR_RATIO,
    DroppedRung,
    Ladder,
    Rung,
    Size,
    ceiling_bps,
    fit_short_side,
    make_ladder,
    source_size,
)
from telecine.engine.media import Color, VideoStream
from telecine.engine.plan import WORK, VideoRange, VideoRendition, display_of
from telecine.engine.profile import PICTURE_KINDS, Output, Profile
from telecine.engine.timeline import MAX_CHUNK_S, Chunk, Timeline

FALLBACK_SHORT_SIDE = 720
SMALL_SHORT_SIDE = 360

HEAD_RUNGS = 2
HEAD_SEGMENTS = 2
HEAD_SMALLEST_SHORT_SIDE = 360  # below it the first picture would not look like the film


def ladder_for(profile: Profile, display: tuple[Fraction, Fraction], rate: Fraction) -> Ladder:
    """The rungs to encode: the ladder where HLS is wanted, else just what files ask for."""
    if profile.has("hls"):
        return make_ladder(display, rate, profile.rungs)
    asked = [mp4_side(output, display) for output in profile.outputs if output.kind == "mp4"]
    if asked:
        return make_ladder(display, rate, asked)
    if any(output.kind in PICTURE_KINDS for output in profile.outputs):
        return _small_ladder(display, rate)
    return Ladder((), (), ())


def _small_ladder(display: tuple[Fraction, Fraction], rate: Fraction) -> Ladder:
    """One rung for pictures beside the film, which are made of a rendition's segments."""
    side = min(SMALL_SHORT_SIDE, source_size(display).short_side)
    (rung,) = make_ladder(display, rate, [side]).rungs
    return Ladder((replace(rung, reason="for the pictures beside the film"),), (), ())


def mp4_side(output: Output, display: tuple[Fraction, Fraction]) -> int:
    return output.short_side or source_size(display).short_side


def file_size(output: Output, display: tuple[Fraction, Fraction]) -> Size:
    side, own = mp4_side(output, display), source_size(display)
    return own if side >= own.short_side else fit_short_side(side, display)


def rung_for(
    output: Output, ladder: Ladder, display: tuple[Fraction, Fraction], rate: Fraction
) -> Rung:
    """The ladder's rung that a file is joined from, or one of its own where the ladder has none."""
    size = file_size(output, display)
    for rung in ladder.rungs:
        if rung.size == size:
            return rung
    return Rung(f"{size.short_side}p", size, ceiling_bps(size, rate), "asked as a file")


@dataclass(frozen=True, slots=True)
class CodecLadder:
    """The rungs that one codec has in the playlists, highest first, and in which range."""

    encoder: VideoEncoder
    rungs: tuple[Rung, ...]
    bit_depth: int
    video_range: VideoRange


def listed_codecs(profile: Profile) -> tuple[VideoEncoder, ...]:
    """The codecs of the playlists; what stands in files alone is of the one that plays anywhere."""
    names = profile.codecs if profile.has("hls") else (FALLBACK.name,)
    return tuple(VIDEO_ENCODERS[name] for name in names)


def kept_range(color: Color) -> VideoRange:
    """The range of an HDR source's own pictures."""
    return "PQ" if color.transfer == "smpte2084" else "HLG"


def codec_ladders(
    ladder: Ladder, profile: Profile, video: VideoStream, *, copied: bool
) -> tuple[tuple[CodecLadder, ...], tuple[DroppedRung, ...]]:
    """Each codec's rungs, and those that it does not get, with the reason."""
    display = display_of(video)
    sdr_alone = profile.hdr and video.color.hdr  # no other codec has a rung in SDR
    found = []
    dropped: list[DroppedRung] = []
    for encoder in listed_codecs(profile):
        deep = max(encoder.bit_depths)
        keeps = sdr_alone and deep > 8
        rungs = ladder.rungs
        if len(profile.codecs) > 1 and encoder is FALLBACK and not sdr_alone:
            # A rung that a file is joined from is encoded anyway.
            files = {file_size(o, display) for o in profile.outputs if o.kind == "mp4"}
            rungs = _fallback_rungs(rungs, files, copied=copied)
            dropped += [
                DroppedRung(rung.name, f"in {encoder.title} only up to 720p beside other codecs")
                for rung in ladder.rungs
                if rung not in rungs
            ]
        small = [rung for rung in rungs if rung.size.short_side < encoder.smallest_side]
        dropped += [
            DroppedRung(
                encoder.prefix + rung.name,
                f"{encoder.title} needs at least {encoder.smallest_side}×{encoder.smallest_side}",
            )
            for rung in small
        ]
        found.append(
            CodecLadder(
                encoder,
                tuple(rung for rung in rungs if rung not in small),
                deep if keeps else 8,
                kept_range(video.color) if keeps else "SDR",
            )
        )
    return tuple(found), tuple(dropped)


def _fallback_rungs(
    rungs: Sequence[Rung], files: Collection[Size], *, copied: bool
) -> tuple[Rung, ...]:
    """What is left of a ladder beside smaller and cheaper ones of other codecs: rungs up to 720p
    (with all of them, H.264 and AV1 cost 1.36 times the process-per-rung ladder of H.264, so 0.95
    times: DESIGN section 6), the next above where none is near that, and a copy, which is free."""
    above = [rung for rung in rungs if rung.size.short_side > FALLBACK_SHORT_SIDE]
    below = [rung for rung in rungs if rung.size.short_side <= FALLBACK_SHORT_SIDE]
    near = bool(below) and below[0].size.short_side * NEIGHBOUR_RATIO >= FALLBACK_SHORT_SIDE
    kept = [] if near else above[-1:]
    return tuple(
        rung
        for n, rung in enumerate(rungs)
        if rung in below or rung in kept or rung.size in files or (copied and n == 0)
    )


def make_renditions(
    ladder: Ladder, profile: Profile, video: VideoStream, timeline: Timeline, *, copied: bool
) -> tuple[tuple[VideoRendition, ...], tuple[DroppedRung, ...]]:
    """The renditions by codec, and the rungs that a codec does not get."""
    ladders: tuple[CodecLadder, ...] = ()
    dropped: tuple[DroppedRung, ...] = ()
    if profile.has("hls"):
        ladders, dropped = codec_ladders(ladder, profile, video, copied=copied)
    first = next((each for each in ladders if each.rungs), None)
    head = _head_rungs(first.rungs, copied=copied) if first is not None else frozenset()
    renditions = []
    for each in _with_files(ladders, ladder, profile, video, timeline.rate):
        own = next((one for one in ladders if one.encoder is each.encoder), None)
        for rung in each.rungs:
            renditions.append(
                _rendition(
                    each,
                    rung,
                    video,
                    timeline,
                    copy=copied and each.encoder is FALLBACK and rung is each.rungs[0],
                    listed=own is not None and rung in own.rungs,
                    head=own is first and rung.name in head,
                )
            )
    return tuple(renditions), dropped


def _with_files(
    ladders: Sequence[CodecLadder],
    ladder: Ladder,
    profile: Profile,
    video: VideoStream,
    rate: Fraction,
) -> list[CodecLadder]:
    """The codecs' ladders, and in the one that plays anywhere what files need besides."""
    display = display_of(video)
    own = next((each for each in ladders if each.encoder is FALLBACK), None)
    rungs = [] if own is None else list(own.rungs)
    for output in profile.outputs:
        if output.kind == "mp4":
            rung = rung_for(output, ladder, display, rate)
            if rung not in rungs:
                rungs.append(rung)
    if not ladders and not rungs:
        rungs = list(ladder.rungs)
    rungs.sort(key=lambda rung: rung.size.pixels, reverse=True)
    whole = CodecLadder(FALLBACK, tuple(rungs), 8, "SDR")
    return [whole, *(each for each in ladders if each.encoder is not FALLBACK)]


def _rendition(
    each: CodecLadder,
    rung: Rung,
    video: VideoStream,
    timeline: Timeline,
    *,
    copy: bool,
    listed: bool,
    head: bool,
) -> VideoRendition:
    encoder = each.encoder
    name = encoder.prefix + rung.name
    b_frames, offset = _b_frames(encoder, video, timeline)
    return VideoRendition(
        name=name,
        codec=encoder.name,
        size=rung.size,
        mode="copy" if copy else "encode",
        folder=f"video/{name}" if listed else f"{WORK}/video/{name}",
        listed=listed,
        head=head,
        bit_depth=each.bit_depth,
        video_range=each.video_range,
        crf=encoder.usual_crf(rung.size.short_side),
        ceiling_bps=_ceiling_bps(encoder, rung),
        gop_frames=timeline.gop_frames,
        b_frames=b_frames,
        threads=encoder.threads,
        edit_offset_ticks=_index_offset(video) if copy else offset,
        reason="copied: the source keeps every rule" if copy else rung.reason,
    )


def _ceiling_bps(encoder: VideoEncoder, rung: Rung) -> int:
    return round(rung.ceiling_bps * encoder.ceiling_share / 10_000) * 10_000


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


def _b_frames(encoder: VideoEncoder, video: VideoStream, timeline: Timeline) -> tuple[int, int]:
    """(B-frames, edit-list offset in ticks) of encoded rungs. Where the source's frames lie so far
    apart that reordering would delay the stream by seconds, B-frames are left out."""
    if timeline.constant:
        return encoder.b_frames, encoder.reorder_frames * timeline.frame_ticks
    assert video.index_table is not None
    offset = encoder.reorder_frames * video.index_table.max_gap_ticks
    if Fraction(offset, timeline.timescale) > MAX_B_FRAME_OFFSET_S:
        return 0, 0
    return encoder.b_frames, offset


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
