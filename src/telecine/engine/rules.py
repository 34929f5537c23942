"""Pure: the streaming rules, each a small function over what `verify` found on disk.

A rule gives what breaks it and the measured figure. Its name is stable; its docstring says what it
checks, its source which text demands that (docs/reference/rules.md is the table of all). What
cannot be read breaks one rule, the one that says it must be readable; the others judge the rest.

Sources: Apple n.n is the HLS authoring specification for Apple devices; RFC 8216 is HLS; CMAF is
ISO/IEC 23000-19; ISOBMFF is ISO/IEC 14496-12; DASH is ISO/IEC 23009-1; "plan" is this project's
promise that what was planned is what was made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise, zip_longest
from math import ceil
from typing import Literal

from telecine.engine.cmaf import Track
from telecine.engine.encoders import AAC_FRAME_SAMPLES
from telecine.engine.ladder import Size
from telecine.engine.mpd import MPD, AdaptationSet, Representation
from telecine.engine.plan import (
    COPY_AUDIO_GAP_S,
    COPY_OVERHANG_S,
    MAX_COPY_GAP_S,
    FileOutput,
    Plan,
    VideoRendition,
    display_of,
)
from telecine.engine.playlist import MediaPlaylist, MultivariantPlaylist, Variant

AV_OFFSET_S = Fraction(40, 1000)
GOP_S = 2
MAX_ENCODED_RATE = Fraction(60)
MAX_COPIED_RATE = Fraction(6006, 100)  # what a camera that means 60 really takes
ASPECT_TOLERANCE = Fraction(1, 200)
SMALLEST_EXACT_SIDE = 240  # below it even sizes alone may be off by more than the tolerance
SOUND_FILE_TOLERANCE_S = Fraction(1, 4)  # encoder delay, padding and a source's frames

_SHOWN_PROBLEMS = 3
_TAGS = ("avc1.", "hvc1.", "av01.", "mp4a.")  # parameter sets in the init segment only


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule's judgement; `figure` says what was measured, or where it is broken and how."""

    name: str
    passed: bool
    figure: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Every rule that applies to a folder."""

    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)


# --- what was found ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One fragment: a moof with its mdat. Times are ticks of the track's timescale, places are
    bytes of the segment file."""

    sequence: int
    decode_ticks: int
    end_ticks: int
    key_pts: int  # of the first sample in decode order
    first_pts: int
    last_pts: int
    samples: int
    idr: bool  # the first sample is one, by its NAL units and not only by its flag
    later_keys: int  # IDR pictures behind the first sample
    shortest_ticks: int  # between neighbouring samples as shown; 0 where there is only one
    usual_ticks: int  # the median
    longest_ticks: int
    offset: int
    key_end: int
    end: int


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """`path` is relative to DIR; there are no runs where the file cannot be read."""

    path: str
    size_bytes: int
    runs: tuple[Run, ...]
    shown_crc: int = 0  # of all presentation times, in order

    @property
    def start_ticks(self) -> int:
        return self.runs[0].decode_ticks

    @property
    def end_ticks(self) -> int:
        return self.runs[-1].end_ticks

    @property
    def duration_ticks(self) -> int:
        return self.end_ticks - self.start_ticks

    @property
    def samples(self) -> int:
        return sum(run.samples for run in self.runs)


@dataclass(frozen=True, slots=True)
class Rendition:
    """A media playlist that the multivariant playlist names, and all that it names. None is what is
    not there or cannot be read."""

    uri: str
    home: str  # its folder, relative to DIR
    listed_as: Literal["variant", "audio"]
    playlist: MediaPlaylist | None
    growing: MediaPlaylist | None
    iframes: MediaPlaylist | None
    track: Track | None
    brands: str
    protected: bool
    segments: tuple[SegmentFile, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A rendition of which everything could be read: what most rules judge."""

    home: str
    uri: str
    playlist: MediaPlaylist
    growing: MediaPlaylist | None
    iframes: MediaPlaylist | None
    track: Track
    segments: tuple[SegmentFile, ...]

    @property
    def name(self) -> str:
        return self.home.rpartition("/")[2]

    @property
    def video(self) -> bool:
        return self.track.handler == "vide"

    @property
    def runs(self) -> list[Run]:
        return [run for segment in self.segments for run in segment.runs]

    @property
    def samples(self) -> int:
        return sum(segment.samples for segment in self.segments)

    @property
    def start_s(self) -> Fraction:
        return self.seconds(self.segments[0].runs[0].first_pts)

    @property
    def end_s(self) -> Fraction:
        return self.seconds(self.segments[-1].end_ticks)

    @property
    def loads(self) -> list[tuple[int, int]]:
        """(duration in ticks, bytes) of each segment."""
        return [(segment.duration_ticks, segment.size_bytes) for segment in self.segments]

    def seconds(self, ticks: int) -> Fraction:
        return Fraction(ticks, self.track.timescale)


@dataclass(frozen=True, slots=True)
class Mp4Track:
    """A track of a progressive file; times in seconds as a viewer sees them."""

    handler: str
    codec: str
    width: int
    height: int
    samples: int
    start_s: Fraction | None  # None where the edit list is more than a shift
    end_s: Fraction | None
    data_end: int  # offset behind its last sample


@dataclass(frozen=True, slots=True)
class Mp4File:
    path: str
    size_bytes: int
    boxes: tuple[str, ...]  # kinds at the top, in order
    tracks: tuple[Mp4Track, ...]


@dataclass(frozen=True, slots=True)
class SoundFile:
    path: str
    kind: str
    duration_s: Fraction


@dataclass(frozen=True, slots=True)
class Decoded:
    """What FFmpeg made of a rendition or file: `expected` and `frames` are pictures, or for sound
    alone nothing, since only errors count there."""

    path: str
    expected: int | None
    frames: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not even be read, and the rule that this breaks."""

    rule: str
    what: str


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that `verify` read."""

    plan: Plan | None
    streaming: bool  # playlists are expected
    master: MultivariantPlaylist | None
    master_version: int | None
    manifest: MPD | None
    on_disk: tuple[str, ...]  # finished media playlists, listed or not
    renditions: tuple[Rendition, ...]
    mp4s: tuple[Mp4File, ...]
    sounds: tuple[SoundFile, ...]
    poster: Size | None
    report: dict[str, object] | None
    told: tuple[str, ...]  # warnings of the steps
    decoded: tuple[Decoded, ...] | None
    faults: tuple[Fault, ...]

    @property
    def streams(self) -> list[Stream]:
        return [
            Stream(r.home, r.uri, r.playlist, r.growing, r.iframes, r.track, r.segments)
            for r in self.renditions
            if r.playlist is not None
            and r.track is not None
            and r.segments
            and all(segment.runs for segment in r.segments)
        ]

    @property
    def pictures(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.video]

    @property
    def voices(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.video]

    def stream(self, uri: str) -> Stream | None:
        return next((stream for stream in self.streams if stream.uri == uri), None)

    def variant(self, uri: str) -> Variant | None:
        variants = self.master.variants if self.master is not None else ()
        return next((variant for variant in variants if variant.uri == uri), None)

    def planned(self, stream: Stream) -> VideoRendition | None:
        renditions = self.plan.renditions if self.plan is not None else ()
        return next((r for r in renditions if r.folder == stream.home), None)

    @property
    def constant(self) -> bool:
        """Whether every picture is shown for the same time. Without a plan: whether it is so on any
        rendition, since all have the source's times where those are kept."""
        if self.plan is not None:
            return self.plan.timeline.constant
        return any(not list(uneven(stream)) for stream in self.pictures)


def frame_ticks(stream: Stream) -> int:
    """How long most pictures, or frames of sound, are shown."""
    steps: Counter[int] = Counter()
    for run in stream.runs:
        steps[run.usual_ticks] += run.samples - 1
    step, times = steps.most_common(1)[0]
    return max(step if times else stream.segments[0].duration_ticks, 1)


def uneven(stream: Stream) -> Iterator[str]:
    """Where a frame does not follow the one before after the usual time."""
    step = frame_ticks(stream)
    before: int | None = None
    for run in stream.runs:
        if before is not None and run.first_pts - before != step:
            gap, where = run.first_pts - before, stream.seconds(before)
            yield f"{stream.home}: {gap} ticks between frames at {_s(where)}, not {step}"
        if run.samples > 1 and not run.shortest_ticks == run.longest_ticks == step:
            where, gaps = stream.seconds(run.first_pts), (run.shortest_ticks, run.longest_ticks)
            yield f"{stream.home}: {gaps[0]} to {gaps[1]} ticks from {_s(where)} on, not {step}"
        before = run.last_pts
    if before is not None and stream.segments[-1].end_ticks - before != step:
        yield f"{stream.home}: the last frame lasts {stream.segments[-1].end_ticks - before} ticks"


# --- the table -----------------------------------------------------------------------------------

Problems = Sequence[str]
Check = Callable[[Found], tuple[Problems, str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`check` gives what breaks the rule, and the figure where nothing does."""

    name: str
    source: str
    what: str
    check: Check
    applies: Callable[[Found], bool]


RULES: dict[str, Rule] = {}


def _always(_: Found) -> bool:
    return True


def _streams(found: Found) -> bool:
    return found.streaming


def _shows(found: Found) -> bool:
    return bool(found.pictures)


def _rule(
    name: str, source: str, applies: Callable[[Found], bool] = _streams
) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        what = " ".join((check.__doc__ or "").split())
        RULES[name] = Rule(name, source, what, check, applies)
        return check

    return register


def judge(found: Found) -> Verification:
    """Every rule that applies. What could not be read counts under the rule that it breaks."""
    faults: dict[str, list[str]] = {name: [] for name in RULES}
    for fault in found.faults:
        faults[fault.rule].append(fault.what)
    results = []
    for rule in RULES.values():
        unreadable = faults[rule.name]
        if unreadable or rule.applies(found):
            broken, figure = rule.check(found)
            results.append(_result(rule.name, [*unreadable, *broken], figure))
    return Verification(tuple(results))


def _result(name: str, problems: Problems, figure: str) -> RuleResult:
    if not problems:
        return RuleResult(name, True, figure)
    more = len(problems) - _SHOWN_PROBLEMS
    tail = f" and {more} more" if more > 0 else ""
    return RuleResult(name, False, "; ".join(problems[:_SHOWN_PROBLEMS]) + tail)


def _s(seconds: Fraction) -> str:
    return f"{float(seconds):.3f} s"


def _mbps(bits: Fraction | int) -> str:
    return f"{float(bits) / 1e6:.3f} Mb/s"


# --- files ---------------------------------------------------------------------------------------


@_rule("plan-readable", "plan", _always)
def _plan_readable(found: Found) -> tuple[Problems, str]:
    """A plan that lies in the folder can be read; a folder without one is judged by its playlists
    alone."""
    if found.plan is None:
        return [], "no plan: judged by the playlists alone"
    return [], f"plan {found.plan.id}"


@_rule("files-exist", "RFC 8216 6.2.1")
def _files_exist(found: Found) -> tuple[Problems, str]:
    """Every file that a playlist names is in the folder and has bytes."""
    problems = [
        f"{segment.path} is empty"
        for rendition in found.renditions
        for segment in rendition.segments
        if not segment.size_bytes
    ]
    count = sum(len(rendition.segments) for rendition in found.renditions)
    return problems, f"{count} segments of {len(found.renditions)} renditions"


@_rule("files-whole", "CMAF 7.3")
def _files_whole(found: Found) -> tuple[Problems, str]:
    """Every segment file is whole fragments of its one track to the last byte, and NAL units fill
    each picture exactly."""
    size = sum(s.size_bytes for rendition in found.renditions for s in rendition.segments)
    return [], f"{size / 1e6:.3f} MB of segments"


@_rule("listed-once", "RFC 8216 4.3.3.2")
def _listed_once(found: Found) -> tuple[Problems, str]:
    """No playlist names a segment, and the multivariant playlist no rendition, twice."""
    problems = []
    lists = [(r.uri, [s.uri for s in r.playlist.segments]) for r in found.renditions if r.playlist]
    if found.master is not None:
        named = [item.uri for item in found.master.variants]
        named += [item.uri for item in found.master.renditions if item.uri is not None]
        named += [item.uri for item in found.master.iframe_streams]
        lists.append(("the multivariant playlist", named))
    for where, uris in lists:
        doubled = [uri for uri, times in Counter(uris).items() if times > 1]
        problems += [f"{where} names {uri} twice" for uri in doubled]
    return problems, f"{sum(len(uris) for _, uris in lists)} URIs"


@_rule("playlists-parse", "RFC 8216 4.1")
def _playlists_parse(found: Found) -> tuple[Problems, str]:
    """Every playlist follows the grammar, names segments, and no EXTINF is above TARGETDURATION."""
    empty = [r.uri for r in found.renditions if r.playlist is not None and not r.playlist.segments]
    problems = [f"{uri} has no segments" for uri in empty]
    if found.master is not None and not found.master.variants:
        problems.append("the multivariant playlist has no variants")
    return problems, f"{len(found.renditions)} media playlists"


@_rule("master-lists-everything", "plan")
def _master_lists_everything(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist names every finished media playlist of the folder and every
    rendition of the plan, and nothing else."""
    if found.master is None:
        return [], "no multivariant playlist"
    listed = {rendition.uri for rendition in found.renditions}
    there = set(found.on_disk)
    problems = [f"{uri} is not listed" for uri in sorted(there - listed)]
    if found.plan is not None:
        homes = {rendition.home for rendition in found.renditions}
        planned = {rendition.folder for rendition in found.plan.listed}
        if found.plan.sound is not None:
            planned.add(found.plan.sound.folder)
        problems += [f"{home} was planned and is not listed" for home in sorted(planned - homes)]
        problems += [f"{home} is listed and not planned" for home in sorted(homes - planned)]
    return problems, f"{len(listed)} renditions"


@_rule("init-segment", "CMAF 7.3.1, Apple 1.10")
def _init_segment(found: Found) -> tuple[Problems, str]:
    """Every init segment is of brand cmfc, has one unencrypted track of the kind it is listed as,
    with its parameter sets in the sample entry (avc1, hvc1, not avc3, hev1) and square pixels."""
    problems = []
    sound_only = found.master is not None and all(
        v.resolution is None for v in found.master.variants
    )
    for r in found.renditions:
        track = r.track
        if track is None:
            continue
        handler = "vide" if r.listed_as == "variant" and not sound_only else "soun"
        if "cmfc" not in r.brands:
            problems.append(f"{r.home}: brands {r.brands!r} without cmfc")
        if track.handler != handler:
            problems.append(f"{r.home}: a track of kind {track.handler}, listed as {handler}")
        if not track.codec.startswith(_TAGS):
            problems.append(f"{r.home}: sample entry {track.codec[:4]}")
        if track.sar != 1:
            problems.append(f"{r.home}: pixels of {track.sar}")
        if r.protected:
            problems.append(f"{r.home}: says that it is encrypted")
    return problems, ", ".join(r.track.codec for r in found.renditions if r.track)


# --- pictures ------------------------------------------------------------------------------------


@_rule("idr-at-segment-start", "Apple 7.4", _shows)
def _idr_at_segment_start(found: Found) -> tuple[Problems, str]:
    """The first NAL-coded picture of every video segment is an IDR (type 5), whatever its flags
    say."""
    problems = [
        f"{segment.path} does not start with an IDR picture"
        for stream in found.pictures
        for segment in stream.segments
        if not segment.runs[0].idr
    ]
    return problems, f"{sum(len(stream.segments) for stream in found.pictures)} segments"


@dataclass(frozen=True, slots=True)
class _Gop:
    """From one IDR picture to the next, over fragments that do not start with one."""

    start_ticks: int
    end_ticks: int
    samples: int


def _gops(stream: Stream) -> list[_Gop]:
    gops: list[_Gop] = []
    for run in stream.runs:
        if run.idr or not gops:
            gops.append(_Gop(run.key_pts, run.end_ticks, run.samples))
        else:
            last = gops[-1]
            gops[-1] = _Gop(last.start_ticks, run.end_ticks, last.samples + run.samples)
    return gops


@_rule("closed-gops", "Apple 1.13, CMAF 7.5.1", _shows)
def _closed_gops(found: Found) -> tuple[Problems, str]:
    """No picture of a GOP is shown before its IDR picture, and none at or after the next one."""
    problems = []
    for stream in found.pictures:
        for run in stream.runs:
            if run.idr and run.first_pts < run.key_pts:
                when = _s(stream.seconds(run.first_pts))
                problems.append(f"{stream.home}: a picture at {when} is shown before its IDR")
        for run, following in pairwise(stream.runs):
            if following.idr and run.last_pts >= following.key_pts:
                when = _s(stream.seconds(run.last_pts))
                problems.append(f"{stream.home}: a picture at {when} is shown behind the next IDR")
    return problems, f"{sum(len(_gops(stream)) for stream in found.pictures)} GOPs"


@_rule("gop-length", "Apple 1.13", _shows)
def _gop_length(found: Found) -> tuple[Problems, str]:
    """At a constant rate every GOP but the last has round(2 s × rate) pictures; under a copied top
    rung a GOP lasts at most 3 s and one picture, the copied ones at most 10.5 s."""
    problems = []
    longest = Fraction(0)
    for stream in found.pictures:
        gops = _gops(stream)
        lengths = [stream.seconds(gop.end_ticks - gop.start_ticks) for gop in gops]
        longest = max(longest, *lengths)
        if found.constant:
            wanted = max(1, round(GOP_S * Fraction(stream.track.timescale, frame_ticks(stream))))
            problems += [
                f"{stream.home}: a GOP of {gop.samples} pictures at "
                f"{_s(stream.seconds(gop.start_ticks))}, not {wanted}"
                for n, gop in enumerate(gops)
                if (gop.samples != wanted if n + 1 < len(gops) else gop.samples > wanted)
            ]
            continue
        planned = found.planned(stream)
        most = MAX_COPY_GAP_S
        if planned is not None and planned.mode == "encode":
            gap = max(run.longest_ticks for run in stream.runs)
            most = Fraction(3 * GOP_S, 2) + stream.seconds(gap)
        problems += [
            f"{stream.home}: a GOP of {_s(length)}, at most {_s(most)}"
            for length in lengths
            if length > most
        ]
    return problems, f"longest {_s(longest)}"


@_rule("segment-boundaries", "Apple 8.22, DASH 5.3.3.2", _shows)
def _segment_boundaries(found: Found) -> tuple[Problems, str]:
    """Segments start and end at the same ticks on every video rendition, where the plan says."""
    edges = {
        stream.home: [
            *(stream.seconds(segment.start_ticks) for segment in stream.segments),
            stream.end_s,
        ]
        for stream in found.pictures
    }
    whose, wanted = next(iter(edges.items()))
    if found.plan is not None:
        timeline = found.plan.timeline
        whose = "the plan"
        wanted = [Fraction(ticks, timeline.timescale) for ticks in timeline.boundaries]
    problems = []
    for home, cuts in edges.items():
        for n, (cut, there) in enumerate(zip_longest(cuts, wanted)):
            if cut != there:
                here = "nothing" if cut is None else _s(cut)
                other = "nothing" if there is None else _s(there)
                problems.append(f"{home}: boundary {n} at {here}, {whose} has {other}")
                break
    return problems, f"{len(wanted) - 1} segments on {len(edges)} renditions"


@_rule("presentation-times", "plan")
def _presentation_times(found: Found) -> tuple[Problems, str]:
    """The presentation starts at 0 and no picture is lost or doubled: at a constant rate each
    follows the one before by one frame, else times rise and are the same on every rendition. Every
    frame of sound is as long as the others."""
    problems = []
    for stream in found.streams:
        if stream.video and stream.start_s != 0:
            problems.append(f"{stream.home}: starts at {_s(stream.start_s)}")
        exact = not stream.video or found.constant
        problems += uneven(stream) if exact else _standing(stream)
    if not found.constant:
        problems += _differing_times(found.pictures)
    count = sum(stream.samples for stream in found.streams)
    return problems, f"{count} samples, {'all' if found.constant else 'pictures not'} evenly spaced"


def _standing(stream: Stream) -> Iterator[str]:
    before: int | None = None
    for run in stream.runs:
        if before is not None and run.first_pts <= before:
            yield f"{stream.home}: {_s(stream.seconds(run.first_pts))} is shown after a later time"
        if run.samples > 1 and run.shortest_ticks == 0:
            when = _s(stream.seconds(run.first_pts))
            yield f"{stream.home}: two pictures at one time, from {when} on"
        before = run.last_pts


def _differing_times(streams: Sequence[Stream]) -> Iterator[str]:
    for stream in streams[1:]:
        for segment, first in zip(stream.segments, streams[0].segments, strict=False):
            # Where a damaged source lost pictures `frame-count` has its say.
            if segment.samples == first.samples and segment.shown_crc != first.shown_crc:
                yield f"{segment.path}: other times than {first.path}"


@_rule("frame-count", "plan", _shows)
def _frame_count(found: Found) -> tuple[Problems, str]:
    """Every video segment has as many pictures as the plan says, or without a plan as the other
    renditions have; fewer only where a step warned that the source does not decode."""
    wanted = [segment.samples for segment in found.pictures[0].segments]
    if found.plan is not None:
        wanted = list(found.plan.timeline.frames)
    problems = []
    missing = 0
    for stream in found.pictures:
        warned = any(line.startswith(f"{stream.name}: ") for line in found.told)
        for segment, count in zip(stream.segments, wanted, strict=False):
            missing += count - segment.samples
            if segment.samples != count and not (warned and segment.samples < count):
                problems.append(f"{segment.path}: {segment.samples} pictures, not {count}")
    lost = f", {missing} of them lost with the source's" if missing else ""
    return problems, f"{sum(wanted)} pictures on {len(found.pictures)} renditions{lost}"


# --- time ----------------------------------------------------------------------------------------


@_rule("decode-times", "Apple 7.3, CMAF 7.3.2")
def _decode_times(found: Found) -> tuple[Problems, str]:
    """Each fragment's decode time is where the one before ended, over every segment boundary."""
    problems = []
    for stream in found.streams:
        for segment, following in pairwise([*_placed(stream)]):
            (_, run), (path, after) = segment, following
            if run.end_ticks != after.decode_ticks:
                off = after.decode_ticks - run.end_ticks
                problems.append(f"{path}: a decode time {off:+d} ticks off")
    return problems, f"{sum(len(stream.runs) for stream in found.streams)} fragments"


def _placed(stream: Stream) -> Iterator[tuple[str, Run]]:
    for segment in stream.segments:
        for run in segment.runs:
            yield segment.path, run


@_rule("sequence-numbers", "ISOBMFF 8.8.5")
def _sequence_numbers(found: Found) -> tuple[Problems, str]:
    """Fragment sequence numbers rise."""
    problems = [
        f"{path}: fragment {after.sequence} follows {run.sequence}"
        for stream in found.streams
        for (_, run), (path, after) in pairwise(_placed(stream))
        if after.sequence <= run.sequence
    ]
    return problems, f"{sum(len(stream.runs) for stream in found.streams)} fragments"


@_rule("extinf", "RFC 8216 4.3.2.1")
def _extinf(found: Found) -> tuple[Problems, str]:
    """Every EXTINF is its segment's measured duration within half a tick, or the microsecond to
    which it is written."""
    problems = []
    worst = Fraction(0)
    for stream in found.streams:
        tolerance = max(Fraction(1, 2 * stream.track.timescale), Fraction(1, 1_000_000))
        for entry, segment in _entries(stream):
            measured = stream.seconds(segment.duration_ticks)
            error = abs(entry - measured)
            worst = max(worst, error)
            if error > tolerance:
                problems.append(f"{segment.path}: EXTINF {_s(entry)}, measured {_s(measured)}")
    return problems, f"off by {float(worst) * 1e6:.1f} µs at most"


def _entries(stream: Stream) -> Iterator[tuple[Fraction, SegmentFile]]:
    """(EXTINF, segment file) in playlist order, a file that is named twice each time."""
    home = f"{stream.home}/" if stream.home != "." else ""
    files = {segment.path: segment for segment in stream.segments}
    for entry in stream.playlist.segments:
        yield entry.duration_s, files[f"{home}{entry.uri}"]


@_rule("playlist-duration", "Apple 8.1")
def _playlist_duration(found: Found) -> tuple[Problems, str]:
    """EXTINFs of a video rendition sum to the planned duration within one frame, those of sound to
    the measured one."""
    problems = []
    said = []
    for stream in found.streams:
        wanted = stream.end_s - stream.start_s
        if found.plan is not None and stream.video:
            wanted = found.plan.timeline.duration_s
        total = sum((entry.duration_s for entry in stream.playlist.segments), Fraction(0))
        said.append(total)
        if abs(total - wanted) > stream.seconds(frame_ticks(stream)):
            problems.append(f"{stream.home}: EXTINFs sum to {_s(total)}, not {_s(wanted)}")
    return problems, f"{_s(min(said, default=Fraction(0)))} to {_s(max(said, default=Fraction(0)))}"


@_rule("target-duration", "RFC 8216 4.3.3.1, Apple 8.2")
def _target_duration(found: Found) -> tuple[Problems, str]:
    """TARGETDURATION is the same on all media playlists and as planned."""
    targets = {s.home: s.playlist.target_duration for s in found.streams}
    wanted = found.plan.timeline.target_duration_s if found.plan is not None else None
    if wanted is None:
        wanted = max(targets.values(), default=0)
    problems = [
        f"{home}: TARGETDURATION {target}, not {wanted}"
        for home, target in targets.items()
        if target != wanted
    ]
    longest = max(
        (entry.duration_s for s in found.streams for entry in s.playlist.segments),
        default=Fraction(0),
    )
    return problems, f"longest {_s(longest)}, TARGETDURATION {wanted}"


# --- sound ---------------------------------------------------------------------------------------


def _sounds_with_pictures(found: Found) -> bool:
    return bool(found.voices and found.pictures)


@dataclass(frozen=True, slots=True)
class _Span:
    """When sound is expected: it starts at `start_s` and ends between the other two."""

    start_s: Fraction
    earliest_end_s: Fraction
    latest_end_s: Fraction


def _expected_sound(found: Found, picture_end_s: Fraction) -> _Span:
    """Encoded sound is filled with silence to the picture; a copy starts and ends as the source's,
    as far out as the plan allows a copy."""
    plan = found.plan
    if plan is None or plan.sound is None or plan.audio is None:
        start = Fraction(0)
        return _Span(start, picture_end_s - COPY_AUDIO_GAP_S, picture_end_s + COPY_OVERHANG_S)
    audio, origin_s = plan.audio, plan.timeline.origin_s
    if plan.sound.mode == "encode" or audio.start_s is None or audio.end_s is None:
        # The source's tail may outlast the picture by what is not worth holding a picture for.
        tail = Fraction(0) if audio.end_s is None else audio.end_s - origin_s - picture_end_s
        overhang = min(max(tail, Fraction(0)), COPY_OVERHANG_S)
        return _Span(Fraction(0), picture_end_s, picture_end_s + overhang)
    end_s = audio.end_s - origin_s
    start_s = max(audio.start_s - origin_s, Fraction(0))
    return _Span(start_s, min(end_s, picture_end_s), max(end_s, picture_end_s))


def _source_frame_s(found: Found) -> Fraction:
    audio = found.plan.audio if found.plan is not None else None
    if audio is None:
        return Fraction(0)
    return Fraction(max(audio.frame_samples, AAC_FRAME_SAMPLES), audio.sample_rate)


@_rule("audio-span", "Apple 8.3, 8.7", _sounds_with_pictures)
def _audio_span(found: Found) -> tuple[Problems, str]:
    """Sound covers the picture: it ends within one of its frames of the picture's end, or where the
    source's own sound ends (its last frame may be cut short there and shown whole here)."""
    picture_end_s = found.pictures[0].end_s
    expected = _expected_sound(found, picture_end_s)
    problems = []
    worst = Fraction(0)
    for stream in found.voices:
        frame_s = stream.seconds(frame_ticks(stream))
        worst = max(worst, stream.end_s - picture_end_s, key=abs)
        early = expected.earliest_end_s - stream.end_s
        late = stream.end_s - expected.latest_end_s
        if early > frame_s or late > frame_s + _source_frame_s(found):
            problems.append(
                f"{stream.home}: ends at {_s(stream.end_s)}, the picture at {_s(picture_end_s)}"
            )
    return problems, f"ends {float(worst) * 1000:+.0f} ms from the picture"


@_rule("av-offset", "plan", _sounds_with_pictures)
def _av_offset(found: Found) -> tuple[Problems, str]:
    """Sound starts within 40 ms of where the source's own starts beside the picture (edit lists
    applied)."""
    picture = found.pictures[0]
    expected = _expected_sound(found, picture.end_s)
    problems = []
    worst = Fraction(0)
    for stream in found.voices:
        error = stream.start_s - picture.start_s - expected.start_s
        worst = max(worst, error, key=abs)
        if abs(error) > AV_OFFSET_S:
            problems.append(
                f"{stream.home}: starts {float(stream.start_s - picture.start_s) * 1000:+.0f} ms "
                f"from the picture, expected {float(expected.start_s) * 1000:+.0f} ms"
            )
    return problems, f"{float(worst) * 1000:+.1f} ms from the source's"


# --- multivariant playlist -----------------------------------------------------------------------


def _group(found: Found, variant: Variant) -> list[Stream]:
    """The sound renditions that a variant may be played with."""
    members = found.master.renditions if found.master is not None else ()
    uris = [m.uri for m in members if m.type == "AUDIO" and m.group_id == variant.audio]
    return [stream for stream in found.voices if stream.uri in uris]


def _played(found: Found) -> Iterator[tuple[Variant, Stream]]:
    """Each variant with its own stream, as far as that can be read."""
    for variant in found.master.variants if found.master is not None else ():
        stream = found.stream(variant.uri)
        if stream is not None:
            yield variant, stream


@_rule("codecs", "RFC 8216 4.3.4.2, Apple 9.1")
def _codecs(found: Found) -> tuple[Problems, str]:
    """CODECS of every variant and I-frame stream is what the configuration bytes of its pictures
    and sound say."""
    problems = []
    for variant, stream in _played(found):
        codecs = {stream.track.codec, *(voice.track.codec for voice in _group(found, variant))}
        if set(variant.codecs) != codecs:
            said, wanted = ",".join(variant.codecs), ",".join(sorted(codecs))
            problems.append(f"{variant.uri}: CODECS {said!r}, measured {wanted!r}")
    for item in found.master.iframe_streams if found.master is not None else ():
        owner = _owner(found, item.uri)
        if owner is not None and item.codecs != (owner.track.codec,):
            said = ",".join(item.codecs)
            problems.append(f"{item.uri}: CODECS {said!r}, measured {owner.track.codec!r}")
    return problems, "; ".join(dict.fromkeys(",".join(v.codecs) for v, _ in _played(found)))


def _owner(found: Found, uri: str) -> Stream | None:
    """The stream whose I-frame playlist this is: they share a folder."""
    home = uri.rpartition("/")[0]
    return next((stream for stream in found.pictures if stream.home == home), None)


@_rule("resolution", "RFC 8216 4.3.4.2, Apple 9.2", _shows)
def _resolution(found: Found) -> tuple[Problems, str]:
    """RESOLUTION is the init segment's size, and the planned one."""
    problems = []
    sizes = []
    for variant, stream in _played(found):
        size = (stream.track.width, stream.track.height)
        sizes.append(f"{size[0]}×{size[1]}")
        if stream.video and variant.resolution != size:
            problems.append(f"{variant.uri}: RESOLUTION {variant.resolution}, coded {size}")
        planned = found.planned(stream)
        if planned is not None and (planned.size.width, planned.size.height) != size:
            problems.append(f"{variant.uri}: coded {size}, planned {planned.size}")
    for item in found.master.iframe_streams if found.master is not None else ():
        owner = _owner(found, item.uri)
        if owner is not None and item.resolution != (owner.track.width, owner.track.height):
            problems.append(f"{item.uri}: RESOLUTION {item.resolution}")
    return problems, ", ".join(sizes)


@_rule("frame-rate", "RFC 8216 4.3.4.2, Apple 9.15", _shows)
def _frame_rate(found: Found) -> tuple[Problems, str]:
    """FRAME-RATE is the measured rate to three decimals; where that varies, it lies between the mean
    (less 1 %) and the maximum."""
    problems = []
    rates = []
    for variant, stream in _played(found):
        if not stream.video:
            continue
        rate = _rate(found, stream)
        rates.append(f"{float(rate):.3f}")
        lowest, highest = rate, rate
        if not found.constant:
            shortest = min(run.shortest_ticks for run in stream.runs if run.samples > 1)
            lowest, highest = rate * 99 / 100, Fraction(stream.track.timescale, shortest)
        off = Fraction(1, 1000)
        if variant.frame_rate is None or not lowest - off <= variant.frame_rate <= highest + off:
            said = "none" if variant.frame_rate is None else f"{float(variant.frame_rate):.3f}"
            problems.append(f"{variant.uri}: FRAME-RATE {said}, measured {float(rate):.3f}")
    return problems, ", ".join(dict.fromkeys(rates))


def _rate(found: Found, stream: Stream) -> Fraction:
    if found.constant:
        return Fraction(stream.track.timescale, frame_ticks(stream))
    ticks = sum(segment.duration_ticks for segment in stream.segments)
    return Fraction(stream.samples * stream.track.timescale, max(ticks, 1))


def peak_bps(loads: Sequence[tuple[int, int]], timescale: int, target: int) -> Fraction:
    """Peak segment bit rate of (ticks, bytes): the largest of any run of segments that lasts from
    half to one and a half target durations (RFC 8216, 4.3.4.2); of all where none does."""
    ends = list(accumulate((ticks for ticks, _ in loads), initial=0))
    sizes = list(accumulate((size for _, size in loads), initial=0))
    peak = Fraction(0)
    for first, start in enumerate(ends[:-1]):
        shortest = bisect_left(ends, start + Fraction(target * timescale, 2), first + 1)
        beyond = bisect_right(ends, start + Fraction(3 * target * timescale, 2), first + 1)
        for last in range(shortest, beyond):
            lasts = max(ends[last] - start, 1)
            peak = max(peak, Fraction(8 * (sizes[last] - sizes[first]) * timescale, lasts))
    return peak or Fraction(8 * sizes[-1] * timescale, max(ends[-1], 1))


def _peak(stream: Stream) -> Fraction:
    target = stream.playlist.target_duration
    return peak_bps(stream.loads, stream.track.timescale, target)


def _average(stream: Stream) -> Fraction:
    ticks = sum(ticks for ticks, _ in stream.loads)
    size = sum(size for _, size in stream.loads)
    return Fraction(8 * size * stream.track.timescale, max(ticks, 1))


@_rule("bandwidth", "RFC 8216 4.3.4.2, Apple 9.13")
def _bandwidth(found: Found) -> tuple[Problems, str]:
    """BANDWIDTH is the measured peak segment bit rate of the variant plus that of the largest sound
    it is played with, and not more than rounding above it."""
    problems = []
    peaks = []
    for variant, stream in _played(found):
        peak = _peak(stream) + max(map(_peak, _group(found, variant)), default=Fraction(0))
        peaks.append(_mbps(peak))
        # Each of the two may have been rounded up on its own.
        if not peak <= variant.bandwidth_bps <= ceil(peak) + 2:
            problems.append(
                f"{variant.uri}: BANDWIDTH {variant.bandwidth_bps}, measured {ceil(peak)}"
            )
    return problems, ", ".join(peaks)


@_rule("average-bandwidth", "Apple 9.14, 1.27, 1.30")
def _average_bandwidth(found: Found) -> tuple[Problems, str]:
    """AVERAGE-BANDWIDTH is within 10 % of the measured average; the figure also says how far the
    peak lies above it (it should be at most 200 %)."""
    problems = []
    figures = []
    for variant, stream in _played(found):
        group = _group(found, variant)
        average = _average(stream) + max(map(_average, group), default=Fraction(0))
        peak = _peak(stream) + max(map(_peak, group), default=Fraction(0))
        figures.append(f"{_mbps(average)} (peak {float(100 * peak / average):.0f} %)")
        said = variant.average_bandwidth_bps
        if said is None or abs(said - average) > average / 10:
            problems.append(f"{variant.uri}: AVERAGE-BANDWIDTH {said}, measured {ceil(average)}")
    return problems, ", ".join(figures)


@_rule("closed-captions", "RFC 8216 4.3.4.2")
def _closed_captions(found: Found) -> tuple[Problems, str]:
    """Every variant says CLOSED-CAPTIONS=NONE: there are none, and players need not look."""
    if found.master is None:
        return [], "no multivariant playlist"
    problems = [
        f"{v.uri} does not say so" for v in found.master.variants if not v.no_closed_captions
    ]
    return problems, f"NONE on {len(found.master.variants)} variants"


@_rule("independent-segments", "RFC 8216 4.3.5.1, Apple 9.11")
def _independent_segments(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist has EXT-X-INDEPENDENT-SEGMENTS, or every media playlist has."""
    if found.master is None or found.master.independent_segments:
        return [], "in the multivariant playlist"
    problems = [
        f"{r.uri} is without, as is the multivariant playlist"
        for r in found.renditions
        if r.playlist is not None and not r.playlist.independent_segments
    ]
    return problems, "in every media playlist"


@_rule("audio-group", "RFC 8216 4.3.4.1, Apple 2.3, 9.5")
def _audio_group(found: Found) -> tuple[Problems, str]:
    """Every video variant of a source with sound has an audio group with one DEFAULT rendition and
    URIs, and CHANNELS is what the init segment says."""
    if found.master is None:
        return [], "no multivariant playlist"
    problems = []
    sound = found.plan.sound if found.plan is not None else None
    members = [item for item in found.master.renditions if item.type == "AUDIO"]
    for variant in found.master.variants:
        group = [item for item in members if item.group_id == variant.audio]
        wanted = bool(members) or sound is not None
        if variant.resolution is not None and wanted and not group:
            problems.append(f"{variant.uri} has no audio group")
        if group and sum(item.default for item in group) != 1:
            problems.append(f"group {variant.audio} has not one DEFAULT")
    for item in members:
        stream = found.stream(item.uri) if item.uri is not None else None
        if item.uri is None:
            problems.append(f"{item.name} has no URI")
        elif stream is not None and item.channels != str(stream.track.channels):
            problems.append(f"{item.uri}: CHANNELS {item.channels}, not {stream.track.channels}")
    return problems, f"{len(members)} rendition(s)"


def _language_known(found: Found) -> bool:
    plan = found.plan
    return (
        plan is not None
        and bool(plan.listed)
        and plan.sound is not None
        and (plan.sound.language is not None)
    )


@_rule("language", "Apple 8.9", _language_known)
def _language(found: Found) -> tuple[Problems, str]:
    """LANGUAGE of the sound is the source's, where that has one."""
    wanted = found.plan.sound.language if found.plan and found.plan.sound else None
    members = found.master.renditions if found.master is not None else ()
    problems = [
        f"{item.uri}: LANGUAGE {item.language}, the source has {wanted}"
        for item in members
        if item.type == "AUDIO" and item.language != wanted
    ]
    return problems, str(wanted)


# --- media playlists -----------------------------------------------------------------------------


def _media(found: Found) -> Iterator[tuple[str, MediaPlaylist]]:
    for rendition in found.renditions:
        if rendition.playlist is not None:
            yield rendition.uri, rendition.playlist


@_rule("playlist-type", "Apple 8.6")
def _playlist_type(found: Found) -> tuple[Problems, str]:
    """Finished media playlists are of type VOD."""
    types = [(uri, media.playlist_type) for uri, media in _media(found)]
    problems = [f"{uri} is of type {kind}" for uri, kind in types if kind != "VOD"]
    return problems, f"VOD on {len(types)} playlists"


@_rule("ext-x-map", "RFC 8216 4.3.2.5, Apple 8.20")
def _ext_x_map(found: Found) -> tuple[Problems, str]:
    """Every media playlist names its init segment."""
    maps = [(uri, media.map) for uri, media in _media(found)]
    return [
        f"{uri} has no EXT-X-MAP" for uri, item in maps if item is None
    ], f"{len(maps)} playlists"


@_rule("endlist", "RFC 8216 4.3.3.4")
def _endlist(found: Found) -> tuple[Problems, str]:
    """Finished media playlists end with EXT-X-ENDLIST."""
    ends = [(uri, media.ended) for uri, media in _media(found)]
    return [f"{uri} has no EXT-X-ENDLIST" for uri, end in ends if not end], f"{len(ends)} playlists"


@_rule("ext-x-version", "RFC 8216 4.3.1.2, 7")
def _ext_x_version(found: Found) -> tuple[Problems, str]:
    """The multivariant playlist says the version that its media playlists need (one of those that
    says too little does not parse)."""
    needed = max((media.version for _, media in _media(found)), default=1)
    said = found.master_version or 1
    problems = [f"version {said}, {needed} is needed"] if said < needed else []
    return problems, f"version {said}, {needed} is needed"


# --- I-frame playlists ---------------------------------------------------------------------------


@_rule("iframe-playlists", "Apple 6.1, 6.8, 6.10, RFC 8216 4.3.3.6", _shows)
def _iframe_playlists(found: Found) -> tuple[Problems, str]:
    """Every video rendition has an I-frame playlist, listed with an upper bound of its rate: each
    byte range starts at a moof and ends behind its IDR sample, all IDR pictures are there, each
    lasts to the next."""
    problems = []
    count = 0
    listed = {item.uri: item for item in (found.master.iframe_streams if found.master else ())}
    for stream in found.pictures:
        if stream.iframes is None:
            problems.append(f"{stream.home} has no I-frame playlist")
            continue
        count += len(stream.iframes.segments)
        problems += _iframe_problems(stream, stream.iframes)
        item = next((i for uri, i in listed.items() if _owner(found, uri) == stream), None)
        if item is None:
            problems.append(f"{stream.home}: the I-frame playlist is not listed")
        elif item.bandwidth_bps < (peak := _iframe_peak(stream, stream.iframes)):
            problems.append(f"{item.uri}: BANDWIDTH {item.bandwidth_bps}, measured {ceil(peak)}")
    return problems, f"{count} pictures"


def _iframe_peak(stream: Stream, iframes: MediaPlaylist) -> Fraction:
    """The peak rate of what the I-frame playlist lists."""
    keys = [run.key_pts for run in stream.runs if run.idr]
    ends = [*keys[1:], stream.segments[-1].end_ticks]
    loads = [
        (end - start, entry.byte_range.length)
        for start, end, entry in zip(keys, ends, iframes.segments, strict=False)
        if entry.byte_range is not None
    ]
    return peak_bps(loads, stream.track.timescale, iframes.target_duration)


def _iframe_problems(stream: Stream, iframes: MediaPlaylist) -> Iterator[str]:
    if not iframes.iframes_only or not iframes.ended or iframes.map != stream.playlist.map:
        yield f"{stream.home}: not a finished I-frame playlist of the same init segment"
    home = f"{stream.home}/" if stream.home != "." else ""
    keys = [(path, run) for path, run in _placed(stream) if run.idr]
    hidden = sum(run.later_keys for run in stream.runs)
    if len(iframes.segments) != len(keys) + hidden:
        yield f"{stream.home}: {len(iframes.segments)} I-frames listed, {len(keys) + hidden} coded"
        return
    ends = [*(run.key_pts for _, run in keys[1:]), stream.segments[-1].end_ticks]
    for entry, (path, run), end in zip(iframes.segments, keys, ends, strict=False):
        place = entry.byte_range
        if f"{home}{entry.uri}" != path or place is None:
            yield f"{path}: the I-frame at {_s(stream.seconds(run.key_pts))} is not listed in order"
        elif place.offset != run.offset:
            yield f"{path}: an I-frame range starts at {place.offset}, the moof at {run.offset}"
        elif not run.key_end <= place.offset + place.length <= run.end:
            ends_at = place.offset + place.length
            yield f"{path}: an I-frame range ends at {ends_at}, the IDR at {run.key_end}"
        if abs(entry.duration_s - stream.seconds(end - run.key_pts)) > Fraction(1, 1000):
            yield f"{path}: an I-frame lasts {_s(entry.duration_s)}"


# --- growing playlists ---------------------------------------------------------------------------


def _grew(found: Found) -> bool:
    return found.plan is not None or any(r.growing is not None for r in found.renditions)


@_rule("growing-playlists", "RFC 8216 4.3.3.5, 4.3.5.2, 6.2.1", lambda f: _streams(f) and _grew(f))
def _growing_playlists(found: Found) -> tuple[Problems, str]:
    """What players joined while it grew has ended as it began: type EVENT, start at 0, ENDLIST, the
    same TARGETDURATION, init segment and segments as the finished playlist."""
    problems = []
    count = 0
    for stream in found.streams:
        growing = stream.growing
        if growing is None:
            if _must_have_grown(found, stream):
                problems.append(f"{stream.home} has no growing playlist")
            continue
        count += 1
        problems += [
            f"{stream.home}: the growing playlist {what}"
            for wrong, what in (
                (growing.playlist_type != "EVENT", f"is of type {growing.playlist_type}"),
                (not growing.ended, "has no EXT-X-ENDLIST"),
                (growing.start_offset_s != 0, "does not start at 0"),
                (
                    growing.target_duration != stream.playlist.target_duration,
                    f"has a TARGETDURATION of {growing.target_duration}",
                ),
                (growing.map != stream.playlist.map, "has another init segment"),
                (growing.segments != stream.playlist.segments, "has other segments"),
            )
            if wrong
        ]
    return problems, f"{count} playlists"


def _must_have_grown(found: Found, stream: Stream) -> bool:
    """A copied rung runs ahead and grows alone; else every rendition grows."""
    if found.plan is None:
        return False
    copied = found.plan.copied
    return not stream.video or copied is None or copied.folder == stream.home


# --- DASH ----------------------------------------------------------------------------------------


@_rule("mpd-parses", "DASH 5.2")
def _mpd_parses(found: Found) -> tuple[Problems, str]:
    """The MPD is a static one of one period with a timeline on every representation."""
    sets = found.manifest.adaptation_sets if found.manifest is not None else ()
    return [], f"{sum(len(s.representations) for s in sets)} representations"


def _pairs(found: Found) -> Iterator[tuple[AdaptationSet, Representation, Stream]]:
    """Each representation with the stream whose init segment it names."""
    sets = found.manifest.adaptation_sets if found.manifest is not None else ()
    for adaptation in sets:
        for item in adaptation.representations:
            home = item.template.initialization.rpartition("/")[0]
            stream = next((s for s in found.streams if s.home == home), None)
            if stream is not None:
                yield adaptation, item, stream


@_rule("mpd-segments", "DASH 5.3.9, DASH-IF IOP")
def _mpd_segments(found: Found) -> tuple[Problems, str]:
    """The MPD has every rendition with the very files, in the order and with the ticks that the
    segments have."""
    if found.manifest is None:
        return [], "no MPD"
    problems: list[str] = []
    for _, item, stream in _pairs(found):
        problems += _template_problems(item, stream)
    homes = {stream.home for _, _, stream in _pairs(found)}
    problems += [f"{s.home} is not in the MPD" for s in found.streams if s.home not in homes]
    return problems, f"{sum(len(stream.segments) for _, _, stream in _pairs(found))} segments"


def _template_problems(item: Representation, stream: Stream) -> Iterator[str]:
    template = item.template
    home = f"{stream.home}/" if stream.home != "." else ""
    init = stream.playlist.map.uri if stream.playlist.map is not None else ""
    if template.initialization_uri(item) != f"{home}{init}":
        yield f"{item.id}: another init segment than HLS"
    if template.uris(item) != [segment.path for segment in stream.segments]:
        yield f"{item.id}: other segment files than HLS"
    if template.timescale != stream.track.timescale:
        yield f"{item.id}: timescale {template.timescale}, coded {stream.track.timescale}"
        return
    if template.start_ticks != stream.segments[0].start_ticks:
        yield f"{item.id}: starts at {template.start_ticks}, coded {stream.segments[0].start_ticks}"
    if template.presentation_offset_ticks:
        yield f"{item.id}: shifted by {template.presentation_offset_ticks} ticks"
    for said, segment in zip(template.durations_ticks, stream.segments, strict=False):
        if said != segment.duration_ticks:
            yield f"{segment.path}: {said} ticks in the MPD, coded {segment.duration_ticks}"


@_rule("mpd-attributes", "DASH 5.3.5, 5.3.7, DASH-IF IOP")
def _mpd_attributes(found: Found) -> tuple[Problems, str]:
    """Duration, codecs, sizes, rates, channels, languages and bandwidths in the MPD are the
    measured ones."""
    if found.manifest is None:
        return [], "no MPD"
    problems = []
    longest = max((s.end_s - s.start_s for s in found.streams), default=Fraction(0))
    if found.streams and abs(found.manifest.duration_s - longest) > Fraction(1, 1000):
        problems.append(f"lasts {_s(found.manifest.duration_s)}, measured {_s(longest)}")
    language = found.plan.sound.language if found.plan and found.plan.sound else None
    for adaptation, item, stream in _pairs(found):
        track = stream.track
        facts: list[tuple[str, object, object]] = [
            ("contentType", adaptation.content_type, "video" if stream.video else "audio"),
            ("mimeType", adaptation.mime_type, "video/mp4" if stream.video else "audio/mp4"),
            ("codecs", item.codecs, track.codec),
            ("bandwidth", item.bandwidth_bps, ceil(_peak(stream))),
        ]
        if stream.video:
            facts += [("width", item.width, track.width), ("height", item.height, track.height)]
            if found.constant:
                facts.append(("frameRate", item.frame_rate, _rate(found, stream)))
        else:
            facts += [
                ("audioSamplingRate", item.audio_sampling_rate, track.sample_rate),
                ("channels", item.channels, track.channels),
            ]
            if found.plan is not None:
                facts.append(("lang", adaptation.lang, language))
        problems += [
            f"{item.id}: {name} {said}, measured {measured}"
            for name, said, measured in facts
            if said != measured
        ]
    return problems, f"duration {_s(found.manifest.duration_s)}"


# --- the ladder ----------------------------------------------------------------------------------


def _display(found: Found) -> tuple[Fraction, Fraction] | None:
    """The source's display size."""
    if found.plan is None or found.plan.video is None:
        return None
    return display_of(found.plan.video)


def _source_known(found: Found) -> bool:
    return _shows(found) and _display(found) is not None


@_rule("never-upscaled", "plan", _source_known)
def _never_upscaled(found: Found) -> tuple[Problems, str]:
    """No rendition is larger than the source's display size, rounded to even."""
    display = _display(found)
    assert display is not None
    width, height = display
    problems = [
        f"{s.home}: {s.track.width}×{s.track.height} of {float(width):g}×{float(height):g}"
        for s in found.pictures
        if not _fits(Size(s.track.width, s.track.height), display)
    ]
    return problems, f"the source is {float(width):g}×{float(height):g}"


def _fits(size: Size, display: tuple[Fraction, Fraction]) -> bool:
    """Whether a size is the source's, rounded to even, or less."""
    width, height = (max(side + 1, Fraction(2)) for side in display)
    return size.width <= width and size.height <= height


@_rule("even-sizes", "plan", _shows)
def _even_sizes(found: Found) -> tuple[Problems, str]:
    """Widths and heights are even, as 4:2:0 needs."""
    sizes = [(s.home, s.track.width, s.track.height) for s in found.pictures]
    problems = [f"{home}: {w}×{h}" for home, w, h in sizes if w % 2 or h % 2]
    return problems, ", ".join(f"{w}×{h}" for _, w, h in sizes)


@_rule("aspect", "Apple 1.33", _shows)
def _aspect(found: Found) -> tuple[Problems, str]:
    """Every rendition has the source's display aspect (without a plan: the largest one's) within
    0.5 %; below 240 lines even rounding may add a pixel."""
    largest = max(found.pictures, key=lambda s: s.track.width * s.track.height).track
    display = _display(found) or (Fraction(largest.width), Fraction(largest.height))
    problems = []
    worst = Fraction(0)
    for stream in found.pictures:
        size = Size(stream.track.width, stream.track.height)
        error = abs(Fraction(size.width, size.height) * display[1] / display[0] - 1)
        worst = max(worst, error)
        if error > ASPECT_TOLERANCE and not _only_rounded(size, display):
            problems.append(f"{stream.home}: {size} is {float(100 * error):.2f} % off")
    return problems, f"{float(100 * worst):.2f} % off at most"


def _only_rounded(size: Size, display: tuple[Fraction, Fraction]) -> bool:
    """Whether even sizes alone explain the aspect: the source's own size rounded, or one so small
    that the short side is within a pixel of the ideal."""
    if abs(size.width - display[0]) <= 1 and abs(size.height - display[1]) <= 1:
        return True
    aspect = max(display) / min(display)
    long = max(size.width, size.height)
    slack = 1 + 1 / aspect
    return size.short_side < SMALLEST_EXACT_SIDE and abs(size.short_side - long / aspect) <= slack


@_rule("frame-rate-limit", "Apple 1.19", _shows)
def _frame_rate_limit(found: Found) -> tuple[Problems, str]:
    """At most 60 pictures a second; a copy may jitter 0.1 % above."""
    problems = []
    fastest = Fraction(0)
    for stream in found.pictures:
        rate = _rate(found, stream)
        fastest = max(fastest, rate)
        limit = MAX_ENCODED_RATE if found.constant else MAX_COPIED_RATE
        if rate > limit:
            problems.append(f"{stream.home}: {float(rate):.3f} pictures a second")
    return problems, f"{float(fastest):.3f} pictures a second"


# --- files of their own --------------------------------------------------------------------------


def _has_file(kinds: Sequence[str]) -> Callable[[Found], bool]:
    def applies(found: Found) -> bool:
        if found.plan is not None:
            return any(file.kind in kinds for file in found.plan.files)
        return False

    return applies


@_rule("progressive-mp4", "plan", lambda f: bool(f.mp4s) or _has_file(["mp4"])(f))
def _progressive_mp4(found: Found) -> tuple[Problems, str]:
    """A progressive file has moov before mdat and every sample inside the file, one avc1 video
    track (and one of sound where the source has it) of the planned size, pictures and duration, and
    both start as in the stream."""
    problems = [
        f"{file.path}: {what}" for file in found.mp4s for what in _mp4_problems(found, file)
    ]
    return problems, ", ".join(f"{f.path} {f.size_bytes / 1e6:.3f} MB" for f in found.mp4s)


def _mp4_problems(found: Found, file: Mp4File) -> Iterator[str]:
    order = [kind for kind in file.boxes if kind in ("moov", "mdat")]
    if order[:1] != ["moov"] or "mdat" not in order:
        yield f"boxes {' '.join(file.boxes)}: moov is not before mdat"
    data_end = max((track.data_end for track in file.tracks), default=0)
    if data_end > file.size_bytes:
        yield f"samples end at byte {data_end} of {file.size_bytes}"
    kinds = sorted(track.handler for track in file.tracks)
    sound = found.plan.audio_rendition if found.plan is not None else None
    wanted = ["soun", "vide"] if sound is not None or found.plan is None else ["vide"]
    if kinds != wanted and not (found.plan is None and kinds == ["vide"]):
        yield f"tracks {kinds}, not {wanted}"
    for track in file.tracks:
        if track.start_s is None or track.end_s is None:
            yield f"the edit list of {track.handler} is more than a shift"
            continue
        if abs(track.start_s) > AV_OFFSET_S + (COPY_AUDIO_GAP_S if track.handler == "soun" else 0):
            yield f"{track.handler} starts at {_s(track.start_s)}"
        if track.handler == "vide":
            yield from _mp4_picture_problems(found, file, track, track.end_s)


def _mp4_picture_problems(
    found: Found, file: Mp4File, track: Mp4Track, end_s: Fraction
) -> Iterator[str]:
    if not track.codec.startswith(("avc1", "hvc1")):
        yield f"sample entry {track.codec}"
    plan = found.plan
    output = _planned_file(found, file.path)
    if plan is None or output is None or output.rendition is None:
        return
    size = plan.rendition(output.rendition).size
    if (track.width, track.height) != (size.width, size.height):
        yield f"{track.width}×{track.height}, planned {size}"
    frame_s = 1 / plan.timeline.rate
    if abs(end_s - plan.timeline.duration_s) > frame_s:
        yield f"pictures end at {_s(end_s)}, planned {_s(plan.timeline.duration_s)}"
    frames = sum(plan.timeline.frames)
    warned = any(line.startswith(f"{output.rendition}: ") for line in found.told)
    if track.samples != frames and not (warned and track.samples < frames):
        yield f"{track.samples} pictures, planned {frames}"


def _planned_file(found: Found, path: str) -> FileOutput | None:
    files = found.plan.files if found.plan is not None else ()
    return next((file for file in files if file.path == path), None)


@_rule(
    "audio-files", "plan", lambda f: bool(f.sounds) or _has_file(["mp3", "aac", "opus", "flac"])(f)
)
def _audio_files(found: Found) -> tuple[Problems, str]:
    """A file of sound is of its format and as long as the source's sound within 0.25 s."""
    problems = []
    audio = found.plan.audio if found.plan is not None else None
    for file in found.sounds:
        if audio is None or audio.start_s is None or audio.end_s is None:
            continue
        wanted = audio.end_s - audio.start_s
        if abs(file.duration_s - wanted) > SOUND_FILE_TOLERANCE_S:
            problems.append(f"{file.path} lasts {_s(file.duration_s)}, the source {_s(wanted)}")
    return problems, ", ".join(f"{file.path} {_s(file.duration_s)}" for file in found.sounds)


@_rule("poster", "plan", lambda f: f.poster is not None or _has_file(["poster"])(f))
def _poster(found: Found) -> tuple[Problems, str]:
    """The poster is a whole JPEG of the source's aspect, not larger than it."""
    size, display = found.poster, _display(found)
    if size is None:
        return [], "none"
    problems = []
    if display is not None:
        error = abs(Fraction(size.width, size.height) * display[1] / display[0] - 1)
        if not _fits(size, display):
            problems.append(f"{size} is larger than the source")
        if error > ASPECT_TOLERANCE and not _only_rounded(size, display):
            problems.append(f"{size} is {float(100 * error):.2f} % off in aspect")
    return problems, str(size)


@_rule("report", "plan", lambda f: f.report is not None)
def _report(found: Found) -> tuple[Problems, str]:
    """A report that lies in the folder is of this plan and says how the run ended."""
    report = found.report or {}
    problems = []
    state = report.get("state")
    if state not in ("succeeded", "failed", "interrupted"):
        problems.append(f"state {state!r}")
    if found.plan is not None and report.get("plan_id") != found.plan.id:
        problems.append(f"of plan {report.get('plan_id')!r}, here lies {found.plan.id}")
    return problems, f"state {state}"


@_rule("decodes", "plan", lambda f: f.decoded is not None)
def _decodes(found: Found) -> tuple[Problems, str]:
    """Every rendition and file decodes without an error, and to as many pictures as it has."""
    problems = []
    for item in found.decoded or ():
        problems += [f"{item.path}: {line}" for line in item.errors[:1]]
        if item.expected is not None and item.frames != item.expected:
            problems.append(f"{item.path}: {item.frames} pictures decoded, {item.expected} coded")
    frames = sum(item.frames for item in found.decoded or ())
    return problems, f"{len(found.decoded or ())} decoded, {frames} pictures"
