"""Pure: FFmpeg filter graphs, built from typed numbers of the plan and nothing else.

No text of a user or a file ever reaches a graph: `movie=` or `drawtext=textfile=` would read any
file that the process may read (DESIGN section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from telecine.engine.ladder import Size, source_size
from telecine.engine.media import Color
from telecine.engine.plan import Plan, display_of


def chunk_graph(
    plan: Plan,
    rungs: Sequence[tuple[Size, int]],
    end: int,
    *,
    origin_ticks: int,
    stream_index: int,
) -> str:
    """Decode → frames of this chunk → every rung.

    `rungs` are the sizes, highest first, each with its first segment; all go on to segment `end`.
    Input `[0:stream_index]`, outputs `[v0]`, `[v1]` … in that order. `origin_ticks` is presentation
    0 in the input stream's own time base.
    """
    boundaries = plan.timeline.boundaries
    first = min(start for _, start in rungs)
    sizes = [size for size, _ in rungs]
    skips = [0] * len(rungs)
    head = [f"setpts=PTS-{origin_ticks}"]
    if plan.timeline.constant:
        if plan.deinterlace:
            head.extend([deinterlace(), *turning(plan)])
        head.extend(_constant_rate(plan, boundaries[first], boundaries[end]))
        # A rung whose first segments another step makes leaves out their frames.
        frame_ticks = plan.timeline.frame_ticks
        skips = [(boundaries[start] - boundaries[first]) // frame_ticks for _, start in rungs]
    else:
        # The source's own frame times are kept: ticks are the same, only the span is cut out.
        head.append(f"trim=start_pts={boundaries[first]}:end_pts={boundaries[end]}")
        head.append(f"setpts=PTS-{boundaries[first]}")
    return f"[0:{stream_index}]" + ",".join(head) + "," + _rungs(plan, sizes, skips)


def _constant_rate(plan: Plan, start: int, end: int) -> list[str]:
    """Onto the grid k / rate, then exactly the frames [start, end) of it, counted from 0.

    `fps` has a time base of one frame, so that cutting is by whole numbers and a join cannot lose
    or double a frame; the grid is global, since presentation 0 was made 0 before.
    """
    frame_ticks = plan.timeline.frame_ticks
    rate = plan.timeline.rate
    first, last = start // frame_ticks, end // frame_ticks
    # From presentation 0 on, also where the first picture comes later: it is shown early.
    opening = ":start_time=0" if first == 0 else ""
    return [
        f"fps={rate.numerator}/{rate.denominator}{opening}",
        # A source that ends or breaks early has its last picture held: lengths stay as planned.
        "tpad=stop=-1:stop_mode=clone",
        f"trim=start_pts={first}:end_pts={last}",
        f"setpts=PTS-{first}",
    ]


def deinterlace() -> str:
    """One picture a field (Apple 1.15: 30i → 60p). Frames flagged progressive pass untouched."""
    return "bwdif=mode=send_field:parity=auto:deint=interlaced"


# (degrees clockwise, then flipped left to right) → the filters; `…_flip` flips on the way.
_UPRIGHT = {
    (90, False): ["transpose=clock"],
    (90, True): ["transpose=cclock_flip"],
    (180, False): ["hflip", "vflip"],
    (180, True): ["vflip"],
    (270, False): ["transpose=cclock"],
    (270, True): ["transpose=clock_flip"],
}


def turning(plan: Plan) -> list[str]:
    """Deinterlaced pictures → upright ones; empty where they are so, or FFmpeg turns by itself.

    FFmpeg turns before any graph, and turned fields are none to a deinterlacer: 27–29 dB against
    34 on a test picture. A flip left to right alone leaves every line where it is and stays
    FFmpeg's. Whoever puts this into a graph says `-noautorotate` before the input.
    """
    if plan.video is None or not plan.deinterlace:
        return []
    turn = _UPRIGHT.get((plan.video.rotation, plan.video.mirrored), [])
    # The display matrix has been obeyed: left on the pictures it would be written to every rung.
    return [*turn, "sidedata=mode=delete:type=DISPLAYMATRIX"] if turn else []


def picture(plan: Plan, size: Size) -> list[str]:
    """Square pixels of `size`, 8-bit 4:2:0, SDR, video range."""
    assert plan.video is not None
    chain = [
        *_stated_color(plan),
        _scale(size, plan.video.color, plan.video.pix_fmt),
        "setsar=1",
    ]
    if plan.tone_map:
        chain.extend(tone_map(plan.video.color))
    chain.append("format=yuv420p")
    return chain


# Players take untagged pictures of this height for BT.709 and lower ones for BT.601 (Chromium's
# media/ffmpeg/ffmpeg_common.cc, Firefox's DefaultColorSpace).
_HD_LINES = 720


def _stated_color(plan: Plan) -> list[str]:
    """What an untagged source is taken for, said once, so that every rung is taken for the same.

    It follows the source's coded height, which is what a player of the source itself, or of its
    copy as the top rung, goes by. No pixel is changed. Chromium believes a matrix only where
    primaries and transfer stand beside it (156, measured), so all three are said; but not below HD
    under a copied top: Media Source Extensions have Chromium take whatever is untagged for BT.709,
    and the rungs shall look like the copy there too.
    """
    video = plan.video
    assert video is not None
    color = video.color
    if color.matrix is not None or color.hdr or _is_rgb(video.pix_fmt):
        return []
    name = "bt709" if video.height >= _HD_LINES else "smpte170m"
    said = [f"colorspace={name}"]
    if name == "bt709" or plan.copied is None:
        said += [f"color_primaries={name}"] if color.primaries is None else []
        said += [f"color_trc={name}"] if color.transfer is None else []
    return ["setparams=" + ":".join(said)]


_RGB = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr", "pal8")


def _is_rgb(pix_fmt: str | None) -> bool:
    return pix_fmt is not None and pix_fmt.startswith(_RGB)


def _scale(size: Size, color: Color, pix_fmt: str | None) -> str:
    scale = f"scale={size.width}:{size.height}:flags=bicubic"
    if color.hdr:
        return scale
    if _is_rgb(pix_fmt):
        # swscale turns RGB into BT.601 unless told; HD players assume BT.709.
        return f"{scale}:out_color_matrix=bt709:out_range=tv"
    return f"{scale}:out_range=tv"


_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
_PRIMARIES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020", "smpte431", "smpte432")
_MATRICES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020nc", "bt2020c")


def tone_map(color: Color) -> list[str]:
    """PQ or HLG → BT.709 SDR: to linear light, gamut, Hable's curve, back (DESIGN section 5).

    Input properties are stated, since zscale refuses to guess and streams often omit them.
    """
    # Known words only: what a file says of itself is no text for a graph.
    transfer = color.transfer if color.transfer in _HDR_TRANSFERS else "smpte2084"
    primaries = color.primaries if color.primaries in _PRIMARIES else "bt2020"
    matrix = color.matrix if color.matrix in _MATRICES else "bt2020nc"
    source_range = "full" if color.range == "pc" else "limited"
    return [
        f"zscale=tin={transfer}:pin={primaries}:min={matrix}:rin={source_range}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=limited",
    ]


# A picture that is scaled twice comes out softer than one scaled once; a B-spline constant a touch
# above bicubic's 0.60 gives that back (0.62: VMAF within 0.15 of scaling from the source at equal
# bytes on film and camera; a third step in a row would lose 1.1–1.5).
_SECOND_STEP = "flags=bicubic:param0=0:param1=0.62"


def _rungs(plan: Plan, sizes: Sequence[Size], skips: Sequence[int]) -> str:
    """Every rung from one picture, none scaled more than twice: the lower ones come from the first
    rung that is scaled, which saves most of the work of scaling each from the source (DESIGN
    section 6). Two rungs alone are each scaled from the source. A rung leaves out the first `skips`
    frames."""
    native = _own_size(plan) == sizes[0]
    if len(sizes) == 1:
        return ",".join(picture(plan, sizes[0])) + "[v0]"
    if len(sizes) == 2 and not native:
        both = [
            f"[s{n}]{','.join([*_skip(skip), *picture(plan, size)])}[v{n}]"
            for n, (size, skip) in enumerate(zip(sizes, skips, strict=True))
        ]
        return ";".join(["split=2[s0][s1]", *both])
    top = ",".join(picture(plan, sizes[0]))
    if not native:
        return top + "," + _from_base(sizes, skips, base=0)
    label, late = _output(0, skips[0])
    scaled = _step(sizes[1], "flags=bicubic")
    if len(sizes) == 2:
        below = ",".join([*_skip(skips[1]), scaled]) + "[v1]"
    else:
        below = f"{scaled}," + _from_base(sizes, skips, base=1)
    return ";".join([f"{top},split=2[{label}][c]", *late, f"[c]{below}"])


def _from_base(sizes: Sequence[Size], skips: Sequence[int], *, base: int) -> str:
    """The base rung itself, and each lower one from it."""
    label, late = _output(base, skips[base])
    numbers = range(base + 1, len(sizes))
    labels = "".join(f"[b{n}]" for n in numbers)
    lower = [
        f"[b{n}]{','.join([*_skip(skips[n]), _step(sizes[n], _SECOND_STEP)])}[v{n}]"
        for n in numbers
    ]
    return ";".join([f"split={len(numbers) + 1}[{label}]{labels}", *late, *lower])


def _output(number: int, skip: int) -> tuple[str, list[str]]:
    """The label for output `number` of a split, and the chain from it to `v{number}` if any."""
    if not skip:
        return f"v{number}", []
    return f"k{number}", [f"[k{number}]{','.join(_skip(skip))}[v{number}]"]


def _skip(frames: int) -> list[str]:
    return [f"trim=start_pts={frames}", f"setpts=PTS-{frames}"] if frames else []


def _own_size(plan: Plan) -> Size:
    assert plan.video is not None
    return source_size(display_of(plan.video))


def _step(size: Size, flags: str) -> str:
    return f"scale={size.width}:{size.height}:{flags},setsar=1"


# Holes above 10 ms become silence, so that what follows is not early; FFmpeg's own bound of 100 ms
# lets sound slip further than the 40 ms that DESIGN section 5 allows.
FILL_HOLES = "async=1:min_hard_comp=0.01"


def stream_audio(plan: Plan, *, origin_samples: int) -> str:
    """48 kHz stereo on the timeline: holes and a late start filled with silence, padded to the
    picture's end, so that sound and picture have the same duration (Apple 8.3)."""
    chain = [
        f"asetpts=PTS-{origin_samples}",
        f"aresample=48000:{FILL_HOLES}:first_pts=0",
        "aformat=sample_fmts=fltp:channel_layouts=stereo",
    ]
    if plan.video is not None and plan.audio is not None:
        picture_s = plan.timeline.duration_s
        chain.append(f"apad=whole_dur={_seconds(picture_s)}")
        # No longer than the plan knew: some decoders go on for a while after the last packet.
        sound_s = (plan.audio.end_s or Fraction(0)) - plan.timeline.origin_s
        chain.append(f"atrim=end={_seconds(max(picture_s, sound_s))}")
    return ",".join(chain)


def _seconds(time_s: Fraction) -> str:
    return f"{float(time_s):.6f}"


def poster(plan: Plan, size: Size) -> str:
    """The most typical of the first frames found, upright and in SDR."""
    chain = ["thumbnail=n=12", *picture(plan, size)]
    if plan.deinterlace:
        chain[:0] = ["bwdif=mode=send_frame:parity=auto:deint=interlaced", *turning(plan)]
    # JPEG is full range by its standard (JFIF); the picture chain made video range.
    # And its matrix is BT.601's, whatever the film's is.
    chain[-1] = "scale=in_range=tv:out_range=pc:out_color_matrix=bt601,format=yuvj420p"
    return ",".join(chain)
