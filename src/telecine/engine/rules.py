"""Pure: the streaming rules, each a small function over what `verify` found on disk.

A rule gives what breaks it and the measured figure. Its name is stable, its source is the text
that demands it; docs/reference/rules.md is the table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from telecine.engine.cmaf import Track
from telecine.engine.mpd import MPD
from telecine.engine.plan import Plan
from telecine.engine.playlist import MediaPlaylist, MultivariantPlaylist

_SHOWN_PROBLEMS = 3


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
    """One fragment: an IDR picture and what needs it, or a stretch of sound. Times are ticks of the
    track's timescale, places are bytes of the segment file."""

    sequence: int
    decode_ticks: int
    end_ticks: int
    key_pts: int  # of the first sample in decode order
    first_pts: int
    last_pts: int
    samples: int
    idr: bool  # the first sample is one, by its NAL units and not only by its flag
    later_keys: int  # sync samples behind the first
    shortest_ticks: int  # between neighbouring pictures; 0 where there is only one
    longest_ticks: int
    offset: int
    key_end: int
    end: int


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """`path` is relative to DIR; no runs where the file cannot be read."""

    path: str
    size_bytes: int
    runs: tuple[Run, ...]

    @property
    def start_ticks(self) -> int:
        return self.runs[0].decode_ticks

    @property
    def duration_ticks(self) -> int:
        return self.runs[-1].end_ticks - self.runs[0].decode_ticks


@dataclass(frozen=True, slots=True)
class Rendition:
    """What the multivariant playlist names by `uri`; None is what could not be read."""

    uri: str
    home: str
    playlist: MediaPlaylist | None
    version: int | None
    growing: MediaPlaylist | None
    iframes: MediaPlaylist | None
    track: Track | None
    brands: str
    segments: tuple[SegmentFile, ...]

    @property
    def video(self) -> bool:
        return self.track is not None and self.track.handler == "vide"

    @property
    def readable(self) -> bool:
        return bool(self.segments) and all(segment.runs for segment in self.segments)

    @property
    def runs(self) -> list[Run]:
        return [run for segment in self.segments for run in segment.runs]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not even be read, and the rule that this breaks."""

    rule: str
    what: str


@dataclass(frozen=True, slots=True)
class Found:
    plan: Plan | None
    streaming: bool
    master: MultivariantPlaylist | None
    master_version: int | None
    manifest: MPD | None
    renditions: tuple[Rendition, ...]
    faults: tuple[Fault, ...]

    @property
    def pictures(self) -> list[Rendition]:
        """Video renditions whose segments can all be read."""
        return [r for r in self.renditions if r.video and r.readable]


# --- the table -----------------------------------------------------------------------------------

# What breaks the rule, and the figure where nothing does.
Outcome = tuple[Sequence[str], str]
Check = Callable[[Found], Outcome]


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    source: str
    check: Check
    applies: Callable[[Found], bool]


RULES: list[Rule] = []


def _always(_: Found) -> bool:
    return True


def _streams(found: Found) -> bool:
    return found.streaming


def _has_pictures(found: Found) -> bool:
    return bool(found.pictures)


def rule(
    name: str, source: str, applies: Callable[[Found], bool] = _streams
) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(name, source, check, applies))
        return check

    return register


def judge(rule: Rule, found: Found) -> RuleResult:
    """The result of one rule: what was found unreadable under its name counts with the rest."""
    broken, figure = rule.check(found)
    problems = [*(fault.what for fault in found.faults if fault.rule == rule.name), *broken]
    if not problems:
        return RuleResult(rule.name, True, figure)
    more = len(problems) - _SHOWN_PROBLEMS
    tail = f" and {more} more" if more > 0 else ""
    return RuleResult(rule.name, False, "; ".join(problems[:_SHOWN_PROBLEMS]) + tail)


# --- files ---------------------------------------------------------------------------------------


@rule("plan-readable", "DESIGN 5", _always)
def _plan_readable(found: Found) -> Outcome:
    if found.plan is None:
        return [], "no plan: judged by the playlists alone"
    return [], f"plan {found.plan.id}"


@rule("files-exist", "RFC 8216 4.3.4")
def _files_exist(found: Found) -> Outcome:
    count = sum(len(r.segments) + 2 for r in found.renditions)
    return [], f"{count} files"


@rule("files-whole", "CMAF 7.3.2")
def _files_whole(found: Found) -> Outcome:
    size = sum(s.size_bytes for r in found.renditions for s in r.segments)
    return [], f"{size} bytes of segments"


@rule("playlists-parse", "RFC 8216 4")
def _playlists_parse(found: Found) -> Outcome:
    empty = [r.uri for r in found.renditions if r.playlist is not None and not r.playlist.segments]
    problems = [f"{uri} has no segments" for uri in empty]
    if found.master is not None and not found.master.variants:
        problems.append("no variants")
    return problems, f"{len(found.renditions)} renditions"


@rule("init-segment", "CMAF 7.3.1")
def _init_segment(found: Found) -> Outcome:
    problems = []
    for r in found.renditions:
        if r.track is not None and "cmfc" not in r.brands:
            problems.append(f"{r.home}: brands {r.brands!r} without cmfc")
    return problems, ", ".join(r.track.codec for r in found.renditions if r.track)


# --- pictures ------------------------------------------------------------------------------------


@rule("idr-at-segment-start", "Apple 7.4", _has_pictures)
def _idr_at_segment_start(found: Found) -> Outcome:
    problems = [
        f"{segment.path} does not start with an IDR picture"
        for r in found.pictures
        for segment in r.segments
        if not segment.runs[0].idr
    ]
    return problems, f"{sum(len(r.segments) for r in found.pictures)} segments"


@rule("closed-gops", "CMAF 7.3.2.3", _has_pictures)
def _closed_gops(found: Found) -> Outcome:
    problems = []
    for r in found.pictures:
        for run in r.runs:
            if run.first_pts != run.key_pts:
                problems.append(f"{r.home}: a picture at {run.first_pts} before its IDR")
        for run, following in pairwise(r.runs):
            if run.last_pts >= following.key_pts:
                problems.append(f"{r.home}: a picture at {run.last_pts} beyond the next IDR")
    return problems, f"{sum(len(r.runs) for r in found.pictures)} GOPs"


@rule("segment-boundaries", "Apple 8.22", _has_pictures)
def _segment_boundaries(found: Found) -> Outcome:
    edges = {
        r.home: [Fraction(s.start_ticks, r.track.timescale) for s in r.segments]
        for r in found.pictures
        if r.track
    }
    first = next(iter(edges.values()))
    problems = [f"{home} is cut elsewhere" for home, cuts in edges.items() if cuts != first]
    return problems, f"{len(first)} segments on {len(edges)} rungs"


@rule("extinf", "RFC 8216 4.3.2.1")
def _extinf(found: Found) -> Outcome:
    problems = []
    worst = Fraction(0)
    for r in found.renditions:
        if r.playlist is None or r.track is None or not r.readable:
            continue
        tolerance = max(Fraction(1, 2 * r.track.timescale), Fraction(1, 1_000_000))
        for entry, segment in zip(r.playlist.segments, r.segments, strict=False):
            error = abs(entry.duration_s - Fraction(segment.duration_ticks, r.track.timescale))
            worst = max(worst, error)
            if error > tolerance:
                problems.append(f"{segment.path}: EXTINF is off by {float(error):.6f} s")
    return problems, f"off by {float(worst) * 1e6:.1f} µs at most"


@rule("decode-times", "Apple 7.3")
def _decode_times(found: Found) -> Outcome:
    problems = []
    for r in found.renditions:
        if not r.readable:
            continue
        for run, following in pairwise(r.runs):
            if run.end_ticks != following.decode_ticks:
                problems.append(
                    f"{r.home}: {run.end_ticks} is followed by {following.decode_ticks}"
                )
    return problems, "continuous"
