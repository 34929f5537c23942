"""Pure: FFmpeg filter graphs, built from typed numbers of the plan and nothing else.

No text of a user or a file ever reaches a graph: `movie=` or `drawtext=textfile=` would read any
file that the process may read (DESIGN section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from telecine.engine.beside import Preview, Stills
from telecine.engine.colors import PRIMARIES, guessed, is_rgb, sdr_color
from telecine.engine.joining import alone, fitted, samples
from telecine.engine.ladder import Size, even, source_size
from telecine.engine.loudness import AS_IT_IS, TRUE_PEAK_DBTP, Gain
from telecine.engine.media import AudioStream, Color
from telecine.engine.plan import (
    AudioRendition,
    JoinedFilm,
    Overlay,
    Plan,
    SoundGroup,
    VideoRange,
    display_of,
)
from telecine.engine.searching import VMAF_EVERY, Compared, model_for


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pictures that one encoder takes: in this size and range, from segment `first` on."""

    size: Size
    first: int
    video_range: VideoRange = "SDR"


def chunk_graph(
    plan: Plan, wanted: Sequence[Wanted], end: int, *, origin_ticks: int, stream_index: int
) -> str:
    """Decode → frames of this chunk → every rung of every codec, up to segment `end`.

    Input `[0:stream_index]`, outputs `[v0]`, `[v1]` … in the order of `wanted`. `origin_ticks` is
    `plan.grid_s` in the input stream's own time base. A size is scaled once for each range,
    however many encoders take it.
    """
    boundaries = plan.timeline.boundaries
    first = min(each.first for each in wanted)
    skips = [0] * len(wanted)
    head = _span(plan, first, end, origin_ticks)
    if plan.timeline.constant:
        # A rung whose first segments another step makes leaves out their frames.
        frame_ticks = plan.timeline.frame_ticks
        skips = [(boundaries[w.first] - boundaries[first]) // frame_ticks for w in wanted]
    outs = [
        _Out(n, each.size, skip, each.video_range)
        for n, (each, skip) in enumerate(zip(wanted, skips, strict=True))
    ]
    return f"[0:{stream_index}]" + ",".join(head) + "," + _by_range(plan, outs)


def _span(plan: Plan, first: int, end: int, origin_ticks: int) -> list[str]:
    """The source's pictures → exactly those of these segments, counted from 0."""
    head = [f"setpts=PTS-{origin_ticks}"]
    if plan.timeline.constant:
        if plan.deinterlace:
            head.extend([deinterlace(), *turning(plan)])
        return [*head, *_constant_rate(plan, first, end)]
    # The source's own frame times are kept: ticks are the same, only the span is cut out.
    begin_ticks, end_ticks = plan.timeline.boundaries[first], plan.timeline.boundaries[end]
    trim = f"trim=start_pts={begin_ticks}:end_pts={end_ticks}"
    return [*head, trim, f"setpts=PTS-{begin_ticks}"]


# Decoded pictures are counted, and the n-th of both sides compared: no rounded time and no edit
# list can shift them against each other.
_BY_NUMBER = "settb=expr=1/1000,setpts=N"
# Both sides are said to be of one colour, which changes no pixel: FFmpeg would convert one of them
# to the other's, where an untagged film became tagged rungs.
_AS_STORED = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"


def compare_graph(
    plan: Plan,
    compared: Sequence[Compared],
    first: int,
    *,
    origin_ticks: int,
    stream_index: int,
    first_input: int,
) -> str:
    """VMAF of encoded pictures beside the source's of segment `first`, each scaled from the source
    itself, at the size that it is compared in.

    Input `[0:stream_index]` and, from `first_input` on, an input each; outputs `[o0]`, `[o1]` …,
    which nobody needs: `libvmaf@m0`, `libvmaf@m1` … tell the scores at their end.
    """
    taps = "".join(f"[c{n}]" for n in range(len(compared)))
    head = ",".join(_span(plan, first, first + 1, origin_ticks))
    parts = [f"[0:{stream_index}]{head},split={len(compared)}{taps}"]
    for n, each in enumerate(compared):
        node = [_Out(n, each.size, 0, "SDR")]
        source = [*_picture(plan, node), *_laid(plan, node)]
        parts.append(f"[c{n}]{','.join([*source, _AS_STORED, _BY_NUMBER])}[r{n}]")
        made = [_AS_STORED]
        if each.end_ticks is not None:
            made.append("setpts=PTS-STARTPTS")
            made.append(f"trim=start_pts={each.begin_ticks}:end_pts={each.end_ticks}")
        # As a player enlarges it, where it is smaller.
        made.append(f"scale={each.size.width}:{each.size.height}:flags=bicubic")
        made += ["setsar=1", "format=yuv420p", _BY_NUMBER]
        parts.append(f"[{first_input + n}:v:0]{','.join(made)}[e{n}]")
        model = model_for(each.size)
        parts.append(
            f"[e{n}][r{n}]libvmaf@m{n}=model=version={model}"
            f":n_threads={_VMAF_THREADS}:n_subsample={VMAF_EVERY}[o{n}]"
        )
    return ";".join(parts)


_VMAF_THREADS = 4  # of each filter; the score is the same with any number


def _constant_rate(plan: Plan, first_segment: int, end_segment: int) -> list[str]:
    """Onto the grid k / rate, then exactly the frames of these segments, counted from 0.

    `fps` has a time base of one frame, so that cutting is by whole numbers and a join cannot lose
    or double a frame; the grid is global, since its own 0 was made 0 before, and that of a clip is
    the whole film's.
    """
    timeline, lead = plan.timeline, plan.lead_frames
    rate = timeline.rate
    first, last = (
        timeline.boundaries[n] // timeline.frame_ticks for n in (first_segment, end_segment)
    )
    # From the film's beginning on, also where the first picture comes later: it is shown early.
    opening = ":start_time=0" if plan.entry_s(first_segment) is None else ""
    return [
        f"fps={rate.numerator}/{rate.denominator}{opening}",
        # A source that ends or breaks early has its last picture held: lengths stay as planned.
        "tpad=stop=-1:stop_mode=clone",
        *([f"setpts=PTS-{lead}"] if lead else ()),
        *_burned_in(plan),  # before the film ends here, since texts may be told of after that
        f"trim=start_pts={first}:end_pts={last}",
        f"setpts=PTS-{first}",
    ]


# In the child's own folder, which holds this text and a font (`subtitling.burn_text`).
BURN_TEXT = "burn.ass"
BURN_ORIGIN_S = (
    10  # where the film begins in the file of pictures of text: Matroska has no time < 0
)


def _burned_in(plan: Plan) -> list[str]:
    """Subtitles onto upright pictures that count on the global grid, whichever chunk they are of.

    Text is read from a file of ours with a name of ours, so that none of it stands in the graph.
    Pictures of text are a second input; they are as wide as the film and stand at its lower edge,
    also where the film was cropped and they were not.
    """
    if plan.burned_in is None:
        return []
    assert plan.video is not None
    if plan.burned_in.kind == "text":
        # Of which shape the pictures are when they are shown, where their pixels are no squares.
        shape = source_size(display_of(plan.video))
        size = f"{shape.width}x{shape.height}"
        return [f"subtitles=filename={BURN_TEXT}:fontsdir=.:original_size={size}"]
    rate = plan.timeline.rate
    width = plan.video.width if plan.video.rotation in (0, 180) else plan.video.height
    return [
        f"null[film];[1:0]setpts=PTS-{BURN_ORIGIN_S + plan.lead_s}/TB,scale={width}:-1[text];"
        "[film][text]overlay=x=0:y=main_h-overlay_h",
        # What joins two clocks has one of its own: back to a tick a picture.
        f"settb=expr={rate.denominator}/{rate.numerator}",
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


def picture(plan: Plan, size: Size, video_range: VideoRange = "SDR") -> list[str]:
    """Square pixels of `size`, 4:2:0 in video range: 8 bits of SDR, or 10 of the source's HDR. Of a
    film that is joined to others as many of them as it fills, between bars."""
    assert plan.video is not None
    if not plan.parts:
        return _picture_of(plan, size, video_range)
    inner = fitted(display_of(plan.video), size)
    return [*_picture_of(plan, inner, video_range), *_joined(plan, inner, size, video_range)]


def _joined(plan: Plan, inner: Size, size: Size, video_range: VideoRange) -> list[str]:
    """What makes finished pictures of a film the same as those of the others: colours, bars, and
    every word that an encoder writes down of them, or chunks would have headers that differ."""
    (part,) = plan.parts
    assert plan.video is not None
    own, into = sdr_color(plan.video), part.color
    chain = []
    if video_range == "SDR" and (own.matrix, own.primaries) != (into.matrix, into.primaries):
        # One curve on both sides: how bright a picture is shown is not to change.
        chain.append(
            f"zscale=min={own.matrix}:pin={own.primaries}:tin=bt709:rin=limited"
            f":m={into.matrix}:p={into.primaries}:t=bt709:r=limited"
        )
    if inner != size:
        x, y = (size.width - inner.width) // 4 * 2, (size.height - inner.height) // 4 * 2
        chain.append(f"pad={size.width}:{size.height}:{x}:{y}:color=black")
    words = "field_mode=prog:range=tv:chroma_location=left"
    if video_range == "SDR":
        words += (
            f":colorspace={into.matrix}:color_primaries={into.primaries}:color_trc={into.transfer}"
        )
    # Nor does any keep what only its own pictures had: a display matrix, light, captions.
    return [*chain, f"setparams={words}", "sidedata=mode=delete"]


def _picture_of(plan: Plan, size: Size, video_range: VideoRange) -> list[str]:
    assert plan.video is not None
    if video_range != "SDR":
        return [
            *_stated_hdr(plan.video.color),
            f"scale={size.width}:{size.height}:flags=bicubic:out_range=tv",
            "setsar=1",
            "format=yuv420p10le",
        ]
    chain = [
        *_stated_color(plan),
        _scale(size, plan.video.color, plan.video.pix_fmt),
        "setsar=1",
    ]
    if plan.tone_map:
        chain.extend(tone_map(plan.video.color))
    chain.append("format=yuv420p")
    return chain


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
    if color.matrix is not None or color.hdr or is_rgb(video.pix_fmt):
        return []
    name = guessed(video.height)
    said = [f"colorspace={name}"]
    if name == "bt709" or plan.copied is None:
        said += [f"color_primaries={name}"] if color.primaries is None else []
        said += [f"color_trc={name}"] if color.transfer is None else []
    return ["setparams=" + ":".join(said)]


def _scale(size: Size, color: Color, pix_fmt: str | None) -> str:
    scale = f"scale={size.width}:{size.height}:flags=bicubic"
    if color.hdr:
        return scale
    if is_rgb(pix_fmt):
        # swscale turns RGB into BT.601 unless told; HD players assume BT.709.
        return f"{scale}:out_color_matrix=bt709:out_range=tv"
    return f"{scale}:out_range=tv"


_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
_MATRICES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020nc", "bt2020c")


def tone_map(color: Color) -> list[str]:
    """PQ or HLG → BT.709 SDR: to linear light, gamut, Hable's curve, back (DESIGN section 5).

    Input properties are stated, since zscale refuses to guess and streams often omit them.
    """
    transfer, primaries, matrix = _hdr_words(color)
    source_range = "full" if color.range == "pc" else "limited"
    return [
        f"zscale=tin={transfer}:pin={primaries}:min={matrix}:rin={source_range}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=limited",
        # What the curve was told of HDR's light (MaxCLL, the mastering display) x264 would write
        # into pictures that are SDR now.
        "sidedata=mode=delete",
    ]


def _hdr_words(color: Color) -> tuple[str, str, str]:
    """Transfer, primaries and matrix of an HDR source, what it leaves out taken for BT.2020's.

    Known words only: what a file says of itself is no text for a graph.
    """
    transfer = color.transfer if color.transfer in _HDR_TRANSFERS else "smpte2084"
    primaries = color.primaries if color.primaries in PRIMARIES else "bt2020"
    matrix = color.matrix if color.matrix in _MATRICES else "bt2020nc"
    return transfer, primaries, matrix


def _stated_hdr(color: Color) -> list[str]:
    """HDR that is kept says all of its colours, which encoders write down; its light is the plan's
    to say, since a chunk may begin where the source does not repeat it."""
    transfer, primaries, matrix = _hdr_words(color)
    return [
        f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}",
        "sidedata=mode=delete",
    ]


# A picture that is scaled twice comes out softer than one scaled once; a B-spline constant a touch
# above bicubic's 0.60 gives that back (0.62: VMAF within 0.15 of scaling from the source at equal
# bytes on film and camera; a third step in a row would lose 1.1–1.5).
_SECOND_STEP = "flags=bicubic:param0=0:param1=0.62"


@dataclass(frozen=True, slots=True)
class _Out:
    """Output `[v{number}]` of a graph: the pictures of this size, without the first `skip`."""

    number: int
    size: Size
    skip: int
    video_range: VideoRange


def _by_range(plan: Plan, outs: Sequence[_Out]) -> str:
    """SDR and HDR part before anything is scaled: what both could share is the source itself."""
    ranges = list(dict.fromkeys(out.video_range for out in outs))
    families = [[out for out in outs if out.video_range == each] for each in ranges]
    if len(families) == 1:
        return _rungs(plan, families[0], "")
    labels = [f"[r{n}]" for n in range(len(families))]
    marks = ["" if each == "SDR" else "h" for each in ranges]
    parts = [
        label + _rungs(plan, family, mark)
        for label, family, mark in zip(labels, families, marks, strict=True)
    ]
    return ";".join([f"split={len(families)}{''.join(labels)}", *parts])


def _rungs(plan: Plan, outs: Sequence[_Out], mark: str) -> str:
    """Every rung from one picture, none scaled more than twice: the lower ones come from the first
    rung that is scaled, which saves most of the work of scaling each from the source (DESIGN
    section 6). Two sizes alone are each scaled from the source. Labels begin with `mark`."""
    ordered = sorted(outs, key=lambda out: out.size.pixels, reverse=True)
    nodes = [list(found) for _, found in groupby(ordered, key=lambda out: out.size)]
    native = _own_size(plan) == nodes[0][0].size
    if len(nodes) == 1:
        return _deliver(plan, nodes[0], _picture(plan, nodes[0]), mark)
    if len(nodes) == 2 and not native:
        both = [
            f"[{mark}s{n}]" + _deliver(plan, node, _picture(plan, node), mark)
            for n, node in enumerate(nodes)
        ]
        return ";".join([f"split=2[{mark}s0][{mark}s1]", *both])
    top = _picture(plan, nodes[0])
    if not native:
        return _from_base(plan, nodes, top, mark)
    scaled = _step(nodes[1][0].size, "flags=bicubic")
    if len(nodes) == 2:
        below = _deliver(plan, nodes[1], [scaled], mark)
    else:
        below = _from_base(plan, nodes[1:], [scaled], mark)
    return _shared(plan, nodes[0], top, [f"[{mark}c]"], mark) + f";[{mark}c]{below}"


def _picture(plan: Plan, node: Sequence[_Out]) -> list[str]:
    return picture(plan, node[0].size, node[0].video_range)


def _laid(plan: Plan, node: Sequence[_Out]) -> list[str]:
    """What is laid over the finished pictures of one size, and over no others that are scaled from
    them: the head and the chunks after it scale in other ways, and it may not move between."""
    size, video_range = node[0].size, node[0].video_range
    # Pictures of text that are burnt in are the second input.
    text = plan.burned_in is not None and plan.burned_in.kind == "bitmap"
    label, number = f"w{node[0].number}", 2 if text else 1
    laid = overlay(plan, size, video_range, label=label, input_number=number)
    if laid:
        # What joins two clocks has one of its own: back to a tick a picture.
        laid.append(f"settb=expr={1 / plan.timeline.rate}")
    return laid


# Of the shorter side, from the edges.
MARGIN = Fraction(1, 40)


def overlay(
    plan: Plan,
    size: Size,
    video_range: VideoRange = "SDR",
    *,
    label: str = "w",
    input_number: int = 1,
) -> list[str]:
    """The watermark onto finished pictures of `size`: after tone-mapping, since it is SDR itself,
    and of each size by itself, so that it is sharp there.

    It is scaled with its colours multiplied by its opacity, else what is see-through would tint its
    edges. Its matrix is that of the pictures; FFmpeg would convert these where it is told another.
    """
    laid = plan.overlay
    if laid is None:
        return []
    width, height, x, y = mark_place(laid, size)
    matrix = _matrix(plan)
    chain = [
        "format=gbrap",
        "premultiply=inplace=1",
        f"scale={width}:{height}:flags=area",
        "unpremultiply=inplace=1",
        f"colorchannelmixer=aa={float(laid.watermark.opacity):.6f}",
    ]
    if video_range == "SDR":
        chain += [
            f"scale=out_color_matrix={matrix}:out_range=tv",
            "format=yuva420p",
            f"setparams=colorspace={matrix}",
        ]
    else:
        assert plan.video is not None
        transfer, primaries, matrix = _hdr_words(plan.video.color)
        chain += [
            # Its white is that of graphics in HDR: 203 cd/m² (ITU-R BT.2408, 2.1).
            "zscale=tin=iec61966-2-1:pin=bt709:min=gbr:rin=full:"
            f"t={transfer}:p={primaries}:m={matrix}:r=limited:npl=203",
            "format=yuva420p10le",
        ]
    deep = "yuv420" if video_range == "SDR" else "yuv420p10"
    return [
        f"null[{label}f];[{input_number}:0]{','.join(chain)}[{label}p];"
        f"[{label}f][{label}p]overlay=x={x}:y={y}:format={deep}"
    ]


def mark_place(laid: Overlay, size: Size) -> tuple[int, int, int, int]:
    """Width, height, x and y of the watermark on pictures of `size`: even, as 4:2:0 needs."""
    share = laid.watermark.scale
    width = even_at_least(size.width * share)
    height = even_at_least(width * Fraction(laid.picture.height, laid.picture.width))
    if height > size.height:
        height = size.height
        width = even_at_least(height * Fraction(laid.picture.width, laid.picture.height))
    margin = 2 * round(size.short_side * MARGIN / 2)
    right, below = size.width - width, size.height - height
    place = laid.watermark.position
    if place == "center":
        return width, height, right // 4 * 2, below // 4 * 2
    x, y = min(margin, right), min(margin, below)
    return (
        width,
        height,
        right - x if place.endswith("right") else x,
        below - y if place.startswith("bottom") else y,
    )


def even_at_least(side: Fraction) -> int:
    return max(2, even(side))


def _matrix(plan: Plan) -> str:
    """The matrix of finished pictures in SDR, as they state it."""
    assert plan.video is not None
    color = plan.parts[0].color if plan.parts else sdr_color(plan.video)
    assert color.matrix is not None
    return color.matrix


def _from_base(plan: Plan, nodes: Sequence[Sequence[_Out]], chain: Sequence[str], mark: str) -> str:
    """The base rung itself, made by `chain`, and each lower one from it."""
    labels = [f"[{mark}b{node[0].number}]" for node in nodes[1:]]
    lower = [
        label + _deliver(plan, node, [_step(node[0].size, _SECOND_STEP)], mark)
        for label, node in zip(labels, nodes[1:], strict=True)
    ]
    return ";".join([_shared(plan, nodes[0], chain, labels, mark), *lower])


def _deliver(plan: Plan, node: Sequence[_Out], chain: Sequence[str], mark: str) -> str:
    """Pictures through `chain` to the outputs of one size; what none of them wants is left out
    before it is worked on."""
    unwanted = min(out.skip for out in node)
    work = [*_skip(unwanted), *chain]
    if len(node) == 1:
        return ",".join([*work, *_laid(plan, node)]) + f"[v{node[0].number}]"
    rest = [_Out(out.number, out.size, out.skip - unwanted, out.video_range) for out in node]
    return _shared(plan, rest, work, [], mark)


def _shared(
    plan: Plan, node: Sequence[_Out], chain: Sequence[str], others: Sequence[str], mark: str
) -> str:
    """Pictures through `chain`, then to the outputs of one size and to the labels `others`."""
    laid = _laid(plan, node)
    if laid and others:
        own = f"[{mark}m{node[0].number}]"
        begin = ",".join([*chain, f"split={1 + len(others)}{own}{''.join(others)}"])
        return f"{begin};{own}{_split(node, laid, [], mark)}"
    return _split(node, [*chain, *laid], others, mark)


def _split(node: Sequence[_Out], chain: Sequence[str], others: Sequence[str], mark: str) -> str:
    late = [out for out in node if out.skip]
    own = [f"[{mark}k{out.number}]" if out.skip else f"[v{out.number}]" for out in node]
    split = f"split={len(own) + len(others)}{''.join(own)}{''.join(others)}"
    chains = [f"[{mark}k{o.number}]{','.join(_skip(o.skip))}[v{o.number}]" for o in late]
    return ";".join([",".join([*chain, split]), *chains])


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


_LAYOUTS: dict[SoundGroup, str] = {"stereo": "stereo", "surround": "5.1"}


def stream_audio(plan: Plan, sound: AudioRendition, gain: Gain = AS_IT_IS) -> str:
    """48 kHz on the timeline: holes and a late start filled with silence, padded to the picture's
    end and cut there, so that sound and picture have the same duration (Apple 8.3)."""
    return ",".join([*_on_timeline(plan, sound), *raised(gain, 48_000), *_ending(plan, sound)])


def joined_sound(plan: Plan, part: JoinedFilm, sound: AudioRendition) -> tuple[int | None, str]:
    """The sound of one of the films that are joined: its stream, None for silence; and the filters
    that make exactly as many samples of it as its pictures last, so that nothing slips at a
    join."""
    film = alone(plan, part)
    own = next((each for each in film.sounds if each.name == sound.name), None)
    if own is None:
        return None, _silence(48_000, _LAYOUTS[sound.group], samples(plan, part, 48_000))
    chain = [*_on_timeline(film, own), *_lasting(samples(plan, part, 48_000))]
    return own.stream, ",".join(chain)


def joined_file(plan: Plan, part: JoinedFilm, rate: int, channels: int) -> tuple[int | None, str]:
    """The same for a file of sound, of so many channels."""
    film = alone(plan, part)
    length = samples(plan, part, rate)
    if film.audio is None:
        return None, _silence(rate, f"{channels}c", length)
    chain = [
        f"asetpts=PTS-{round(part.origin_s * film.audio.sample_rate)}",
        *after_origin(film),
        f"aresample={rate}:{FILL_HOLES}:first_pts=0",
        f"aformat=channel_layouts={channels}c",
        *(mixed_down(film, film.audio) if channels == 2 else []),
        *_lasting(length),
    ]
    return film.audio.index, ",".join(chain)


def behind_each_other(films: int, rate: int, then: Sequence[str]) -> str:
    """So many sounds as one, then more filters. What is joined counts in microseconds: here it is
    counted in samples again."""
    joined = [f"concat=n={films}:v=0:a=1", f"asettb=expr=1/{rate}", "asetpts=N"]
    return ",".join([*joined, *then])


def _lasting(length: int) -> list[str]:
    return [f"apad=whole_len={length}", f"atrim=end_sample={length}"]


def _silence(rate: int, layout: str, length: int, samples_in: str = "fltp") -> str:
    made = f"anullsrc=sample_rate={rate}:channel_layout={layout}"
    return f"{made},aformat=sample_fmts={samples_in},atrim=end_sample={length}"


def _on_timeline(plan: Plan, sound: AudioRendition) -> list[str]:
    origin = round(plan.timeline.origin_s * plan.track(sound).sample_rate)
    return [
        f"asetpts=PTS-{origin}",
        *after_origin(plan),
        f"aresample=48000:{FILL_HOLES}:first_pts=0",
        f"aformat=sample_fmts=fltp:channel_layouts={_LAYOUTS[sound.group]}",
        *(mixed_down(plan, plan.track(sound)) if sound.group == "stereo" else []),
    ]


def mixed_down(plan: Plan, track: AudioStream) -> list[str]:
    """What is added up where several channels become two comes out above full scale (a film of the
    tests at +5.9 dBTP), where players clip it: such peaks are held down. Where a loudness is asked
    for, its own limiter does so."""
    if track.channels <= 2 or plan.profile.loudness_lufs is not None:
        return []
    return [_limiter(TRUE_PEAK_DBTP)]


def _limiter(ceiling_dbtp: float) -> str:
    # It sees peaks 5 ms before they come and is late by as much, which `latency` makes good.
    limit = 10 ** (ceiling_dbtp / 20)
    return f"alimiter=limit={limit:.6f}:level=disabled:attack=5:release=50:latency=1"


def after_origin(plan: Plan) -> list[str]:
    """A clip's sound begins at its presentation 0, to the sample."""
    return [] if plan.cut is None else ["atrim=start_pts=0"]


def part_of_sound(plan: Plan, stream: AudioStream) -> list[str]:
    """What a file has of a clip's sound, to the sample; nothing of it is made up."""
    if plan.cut is None:
        return []
    origin = round(plan.timeline.origin_s * stream.sample_rate)
    end = round((plan.film_s + plan.cut.end_s) * stream.sample_rate) - origin
    return [f"asetpts=PTS-{origin}", f"atrim=start_pts=0:end_pts={end}"]


def _ending(plan: Plan, sound: AudioRendition) -> list[str]:
    if plan.video is None and sound.default and plan.cut is None:
        return []  # it is what the timeline was made of
    film_s = end_s = plan.timeline.duration_s
    if sound.default:
        # The film's own sound is no longer than the plan knew: some decoders go on for a while
        # after the last packet.
        end_s = max(film_s, (plan.track(sound).end_s or Fraction(0)) - plan.timeline.origin_s)
    return [f"apad=whole_dur={_seconds(film_s)}", f"atrim=end={_seconds(end_s)}"]


def raised(gain: Gain, rate: int) -> list[str]:
    """Sound of `rate` Hz raised by a gain. What the limiter holds down is the true peak: that of
    the sound at four times 48 kHz (ITU-R BS.1770-4, annex 2)."""
    chain = []
    if gain.gain_db:
        chain.append(f"volume={gain.gain_db:.2f}dB:precision=float")
    if gain.ceiling_dbtp is not None:
        chain += ["aresample=192000", _limiter(gain.ceiling_dbtp), f"aresample={rate}"]
    return chain


def measured(number: int) -> str:
    """Listens to all of a sound, and says at its end how loud it was (`loudness.Summaries`)."""
    return f"ebur128@m{number}=peak=true:framelog=quiet"


def _seconds(time_s: Fraction) -> str:
    return f"{float(time_s):.6f}"


def waveform(plan: Plan, *, origin_samples: int, target: str) -> str:
    """One channel of 16 bits on the timeline, cut or padded to the film's length; of each stretch
    the least and greatest sample as text to `target`, a pipe of ours."""
    assert plan.waveform is not None
    length = round(plan.timeline.duration_s * plan.waveform.sample_rate)
    return ",".join([*_one_channel(plan, origin_samples, length), *peaks(plan, target)])


def joined_waveform(plan: Plan, part: JoinedFilm) -> tuple[int | None, str]:
    """That channel of one of the films that are joined: its stream, None for silence, and the
    filters."""
    assert plan.waveform is not None
    film, rate = alone(plan, part), plan.waveform.sample_rate
    length = samples(plan, part, rate)
    if film.audio is None:
        return None, _silence(rate, "mono", length, "s16")
    origin = round(part.origin_s * film.audio.sample_rate)
    return film.audio.index, ",".join(_one_channel(film, origin, length))


def _one_channel(plan: Plan, origin_samples: int, length: int) -> list[str]:
    assert plan.waveform is not None
    return [
        f"asetpts=PTS-{origin_samples}",
        *after_origin(plan),
        # Channels are averaged, as audiowaveform does: by itself FFmpeg lets a sum of floats grow
        # beyond full scale.
        f"aresample={plan.waveform.sample_rate}:{FILL_HOLES}:first_pts=0:rematrix_maxval=1",
        "aformat=sample_fmts=s16:channel_layouts=mono",
        *_lasting(length),
    ]


def peaks(plan: Plan, target: str) -> list[str]:
    assert plan.waveform is not None
    return [
        f"asetnsamples=n={plan.waveform.samples_per_pixel}:p=0",
        "astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=Min_level+Max_level",
        f"ametadata=mode=print:file='{target.replace(':', chr(92) + ':')}'",
    ]


# The pieces of a preview are laid so far apart that what is decoded beyond one, since pictures in
# it refer to it, cannot lie in the next; no segment is as long.
PIECE_S = 20


def preview(preview: Preview) -> str:
    """The pieces, one behind the other: of each as many pictures as it lasts."""
    each = int(preview.each_s * preview.rate)
    return ",".join(
        (
            # The picture that is on at each moment: the last one that has begun by then.
            f"fps={preview.rate}:round=up:start_time=0",
            f"select='lt(mod(n,{PIECE_S * preview.rate}),{each})'",
            f"setpts=N/({preview.rate}*TB)",
            _small(preview.size),
            "format=yuv420p",
        )
    )


def stills(stills: Stills) -> str:
    """Each picture of the input small, and together on sheets where there are several to one."""
    chain = [_small(stills.size) + ":out_range=pc:out_color_matrix=bt601", "format=yuvj420p"]
    if stills.per_picture > 1:
        chain.append(f"tile={stills.columns}x{stills.rows}:color=black")
    return ",".join(chain)


def _small(size: Size) -> str:
    """Averages: what is made so much smaller has no use for a sharper kernel's ringing."""
    return f"scale={size.width}:{size.height}:flags=area"


def poster(plan: Plan, size: Size) -> str:
    """The most typical of the first frames found, upright and in SDR."""
    chain = ["thumbnail=n=12", *picture(plan, size)]
    if plan.deinterlace:
        chain[:0] = ["bwdif=mode=send_frame:parity=auto:deint=interlaced", *turning(plan)]
    # JPEG is full range by its standard (JFIF); the picture chain made video range.
    # And its matrix is BT.601's, whatever the film's is.
    jpeg = "scale=in_range=tv:out_range=pc:out_color_matrix=bt601,format=yuvj420p"
    laid = overlay(plan, size)
    # After a seek times may be below 0, where the watermark's own begins.
    return ",".join([*chain, "setpts=N", *laid, jpeg] if laid else [*chain[:-1], jpeg])
