"""The pure parts of verification: the table and its page, peaks, sizes, and how a rule is judged.

That each rule passes what is good and breaks by what is not is shown on real output in
tests/media/test_verify.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.formats.playlist import MediaPlaylist, Segment
from telecine.engine.formats.webvtt import Cue, File, cut
from telecine.engine.ladder import Size
from telecine.engine.rules import RULES, judge
from telecine.engine.rules.found import Fault, Found, TextSegment, TextTrack
from telecine.engine.rules.measures import fits, only_rounded, peak_bps

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rules.md"

NOTHING = Found(
    plan=None,
    streaming=False,
    master=None,
    master_version=None,
    manifest=None,
    on_disk=(),
    renditions=(),
    streams=(),
    mp4s=(),
    sounds=(),
    poster=None,
    report=None,
    told=(),
    decoded=None,
    faults=(),
)


# --- the table -----------------------------------------------------------------------------------


def test_the_page_and_the_code_have_the_same_rules() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(rule.name, rule.what, rule.source) for rule in RULES.values()]


def test_the_page_names_rules_for_what_was_asked_for() -> None:
    asked = PAGE.read_text().partition("## By what was asked for")[2]
    named = re.findall(r"`([a-z0-9-]+)`", asked.partition("|---|---|")[2])
    assert len(named) > 25
    assert set(named) <= set(RULES)


def test_every_rule_says_what_it_checks_and_who_demands_it() -> None:
    sources = (
        r"(Apple( \d+\.\d+,?)+|RFC 8216( \d+(\.\d+)*,?)+|CENC( \d+\.\d+,?)+|CMAF|ISOBMFF [\d.]+|"
    )
    sources += r"DASH( \d+(\.\d+)+,?)+|DASH-IF IOP|EBU R 128|WebVTT [\d.]+|plan)"
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z]+[a-z0-9-]*", rule.name)
        assert rule.what.endswith("."), rule.name
        assert re.fullmatch(rf"{sources}(, {sources})*", rule.source), rule.source


# --- judging -------------------------------------------------------------------------------------


def test_what_cannot_be_read_breaks_its_rule_even_where_the_rule_would_not_apply() -> None:
    assert [rule.name for rule in judge(NOTHING).rules] == ["plan-readable"]
    faults = tuple(Fault("poster", f"fault {n}") for n in range(5))
    found = judge(replace_faults(faults))
    assert [(rule.name, rule.passed) for rule in found.rules] == [
        ("plan-readable", True),
        ("poster", False),
    ]
    assert found.rules[1].figure == "fault 0; fault 1; fault 2 and 2 more"
    assert not found.passed
    assert judge(NOTHING).passed


def replace_faults(faults: tuple[Fault, ...]) -> Found:
    return replace(NOTHING, faults=faults)


# --- subtitles -----------------------------------------------------------------------------------


def misplaced(cues: list[Cue], *left_out: int, most: int = 500_000) -> list[str]:
    """What is found where these cues stand in segments of 6 s, without those of these numbers."""
    bounds = [Fraction(6 * n) for n in range(4)]
    kept = [cue for n, cue in enumerate(cues) if n not in left_out]
    parts = [
        TextSegment(f"s/{n}.vtt", 1, File(tuple(part), None, 0))
        for n, part in enumerate(cut(kept, bounds)[0])
    ]
    names = tuple(Segment(Fraction(6), f"{n}.vtt") for n in range(3))
    track = TextTrack(
        "s/index.m3u8", "s", MediaPlaylist(names, 6), tuple(parts), File(tuple(cues), None, 0)
    )
    found = replace(NOTHING, texts=(track,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("telecine.engine.rules.subtitles.MAX_WRITTEN_CUES", most)
        (judged,) = (rule for rule in judge(found).rules if rule.name == "subtitle-cues")
    return [] if judged.passed else judged.figure.split("; ")


LONG, EARLY, LATE = Cue(0, 18_000, "long"), Cue(1000, 2000, "early"), Cue(11_000, 13_000, "late")


def test_every_cue_stands_in_all_segments_in_which_it_is_shown() -> None:
    assert misplaced([LONG, EARLY, LATE]) == []
    assert misplaced([LONG, EARLY, LATE], 1) == ["s/0.vtt: the cue at 1.000 s is missing"]
    assert misplaced([LATE, LONG], 0) == [
        "s/1.vtt: the cue at 11.000 s is missing",
        "s/2.vtt: the cue at 11.000 s is missing",
    ]


def test_cues_may_be_left_out_where_there_are_too_many() -> None:
    """200 in a segment, and so many in all (docs/reference/subtitles.md)."""
    crowd = [Cue(0, 18_000, str(n)) for n in range(201)]
    assert misplaced(crowd) == []
    assert misplaced([LONG, EARLY, LATE], 0, most=5) == []
    assert len(misplaced([LONG, EARLY, LATE], 0, most=6)) == 3


# --- peaks ---------------------------------------------------------------------------------------


def brute_peak(loads: list[tuple[int, int]], timescale: int, target: int) -> Fraction:
    """RFC 8216, 4.3.4.2, word by word: every contiguous set, its duration, its bit rate."""
    rates = []
    for first in range(len(loads)):
        for last in range(first + 1, len(loads) + 1):
            seconds = Fraction(sum(ticks for ticks, _ in loads[first:last]), timescale)
            size = sum(size for _, size in loads[first:last])
            if Fraction(target, 2) <= seconds <= Fraction(3 * target, 2):
                rates.append(8 * size / seconds)
    seconds = Fraction(sum(ticks for ticks, _ in loads), timescale)
    return max(rates, default=8 * sum(size for _, size in loads) / seconds)


@given(
    st.lists(st.tuples(st.integers(1, 12_000), st.integers(0, 10**7)), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_peak_is_the_largest_of_every_set(loads: list[tuple[int, int]], target: int) -> None:
    assert peak_bps(loads, 1000, target) == brute_peak(loads, 1000, target)


def test_peak_by_hand() -> None:
    # 6 s segments of 3, 6 and 3 MB and 1 s of 2 MB: alone 8 Mb/s; with the second before the last
    # left out there is no other set of 3 to 9 s but the last two: 5 MB in 7 s.
    loads = [(6000, 3_000_000), (6000, 6_000_000), (6000, 3_000_000), (1000, 2_000_000)]
    assert peak_bps(loads, 1000, 6) == 8_000_000
    # A short last segment counts only with its neighbour: 8 MB in 7 s is more than 6 MB in 6 s.
    loads = [(6000, 3_000_000), (6000, 6_000_000), (1000, 2_000_000)]
    assert peak_bps(loads, 1000, 6) == Fraction(64_000_000, 7)
    assert peak_bps([(1000, 500)], 1000, 6) == 4000  # shorter than half a target: all of it


def test_peak_of_segments_without_duration_is_a_number() -> None:
    assert peak_bps([(0, 100), (0, 100)], 1000, 0) >= 0
    assert peak_bps([(0, 100)], 1000, 6) >= 0


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "display", "within", "rounded"),
    [
        (Size(1920, 1080), (1920, 1080), True, True),
        (Size(854, 480), (Fraction(2560, 3), 480), True, True),  # 853.33 → 854
        (Size(426, 240), (1920, 1080), True, False),  # 240 lines are exact enough by themselves
        (Size(214, 120), (1920, 1080), True, True),  # 213.33 → 214: 0.3 % off
        (Size(2, 500), (16, 4000), True, True),
        (Size(2, 2), (2, 2), True, True),
        (Size(160, 100), (320, 240), True, False),
        (Size(1922, 1080), (1920, 1080), False, False),
        (Size(1920, 1082), (1920, 1080), False, False),
    ],
)
def test_sizes_beside_the_source(
    size: Size, display: tuple[Fraction, Fraction], within: bool, rounded: bool
) -> None:
    exact = (Fraction(display[0]), Fraction(display[1]))
    assert fits(size, exact) is within
    assert only_rounded(size, exact) is rounded
