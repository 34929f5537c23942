"""WebVTT: read as players read it, cleaned, cut onto segments and written.

Expected texts are written by hand from the W3C's WebVTT; `webvtt-py` is no witness here, since it
takes cue text as it stands.
"""

from __future__ import annotations

import html
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.formats import webvtt
from telecine.engine.formats.webvtt import (
    FROM_THE_START,
    Cue,
    TimestampMap,
    clean,
    clean_settings,
    cue_at,
    cut,
    is_webvtt,
    parse,
    placed,
    write,
)

FILE = """\ufeffWEBVTT - a film
Kind: captions

NOTE what is noted
is passed over

STYLE
::cue { color: red }

REGION
id:fred

1
00:01.000 --> 00:02.500 align:left line:0
<v Bob>Two
lines

00:00:03.000 --> 00:00:02.000
backwards

no times here

and 00:03.000 --> 00:04.000
a name before the times

7
00:59:59.999\t-->\t101:00:00.000
last"""


def test_a_file_is_read_as_players_read_it() -> None:
    found = parse(FILE)
    assert found.cues == (
        Cue(1000, 2500, "<v Bob>Two\nlines", "align:left line:0"),
        Cue(3_599_999, 363_600_000, "last"),
    )
    assert found.timestamp_map is None
    assert found.broken == 3


def test_cues_without_an_empty_line_between_them_are_read() -> None:
    """By "collect a WebVTT block": an arrow ends the header, and in the third line of a block, or
    the second behind another, the block. Hours may have one digit."""
    text = """WEBVTT
00:00.000 --> 0:00:01.000
first
12:00:01.000 --> 12:00:02.000
second

NOTE none
a name
00:02.000 --> 00:03.000
third

no --> times
00:03.000 --> 00:04.000
fourth"""
    found = parse(text)
    assert found.cues == (
        Cue(0, 1000, "first"),
        Cue(43_201_000, 43_202_000, "second"),
        Cue(2000, 3000, "third"),
        Cue(3000, 4000, "fourth"),
    )
    assert found.broken == 1


def test_cues_beyond_the_most_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webvtt, "MAX_CUES", 3)
    found = parse("WEBVTT\n\n" + "00:01.000 --> 00:02.000\nx\n\n" * 5)
    assert (len(found.cues), found.left) == (3, 2)


def test_a_text_that_is_too_long_is_cut_off_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webvtt, "MAX_CUE_CHARS", 3)
    times = "00:01.000 --> 00:02.000\n"
    found = parse(f"WEBVTT\n\n{times}four\n\n{times}two\n\n{times}a\nbc\n")
    assert [cue.text for cue in found.cues] == ["fou", "two", "a\nb"]
    assert found.cut == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_lines(end: str) -> None:
    text = end.join(["WEBVTT", "", "00:01.000 --> 00:02.000", "a", "b", ""])
    assert parse(text).cues == (Cue(1000, 2000, "a\nb"),)


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("WEBVTT", True),
        ("\ufeffWEBVTT\n", True),
        ("WEBVTT\tx", True),
        ("WEBVTT FILE\r\n", True),
        ("WEBVTTX", False),
        ("webvtt", False),
        ("", False),
        ("1\n00:00:01,000 --> 00:00:02,000\n", False),
    ],
)
def test_what_begins_as_webvtt(text: str, begins: bool) -> None:
    assert is_webvtt(text) is begins


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000", TimestampMap(0, 900_000)),
        ("X-TIMESTAMP-MAP=LOCAL:00:10.500,MPEGTS:0", TimestampMap(10_500, 0)),
        ("X-TIMESTAMP-MAP=LOCAL:00:10.500", None),
        ("X-TIMESTAMP-MAP=MPEGTS:1", None),
        ("Kind: captions", None),
    ],
)
def test_the_map_of_a_segment(line: str, found: TimestampMap | None) -> None:
    assert parse(f"WEBVTT\n{line}\n\n").timestamp_map == found


def test_a_map_says_what_is_added() -> None:
    # 900,000 ticks of 90 kHz are 10 s; cue time 4 s is then shown at 10 s.
    assert TimestampMap(4000, 900_000).offset_s == 6
    assert FROM_THE_START.offset_s == 0


def test_behind_a_turn_of_the_clock_a_segment_maps_its_own_start() -> None:
    # 2^33 ticks of 90 kHz are 95,443.7177 s, 26.5 h.
    assert webvtt.map_at(Fraction(95_442)) == FROM_THE_START
    later = webvtt.map_at(Fraction(95_448))
    assert later == TimestampMap(95_448_000, 95_448_000 * 90 - 2**33)
    assert later.offset_s == 0
    assert TimestampMap(95_448_000, 0).offset_s != 0
    assert TimestampMap(0, 2**33 - 90_000).offset_s == -1


def test_more_cues_than_the_limit_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webvtt, "MAX_CUES", 2)
    cue = "00:01.000 --> 00:02.000\na\n\n"
    assert len(parse("WEBVTT\n\n" + 5 * cue).cues) == 2


# --- cleaning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("<b>bold</b> <i>italic</i> <u>under</u>", "<b>bold</b> <i>italic</i> <u>under</u>"),
        ("<v.loud Mary Ann>Hi", "<v.loud Mary Ann>Hi</v>"),
        ("<c.yellow.bg_blue>x</c>", "<c.yellow.bg_blue>x</c>"),
        ("<c.a-b.ok>x</c>", "<c.ok>x</c>"),
        ("<lang en-GB>colour</lang>", "<lang en-GB>colour</lang>"),
        ("<ruby>漢<rt>kan</rt></ruby>", "<ruby>漢<rt>kan</rt></ruby>"),
        ("<rt>alone</rt>", "alone"),
        ("<b>never closed", "<b>never closed</b>"),
        ("never opened</b>", "never opened"),
        ("<b><i>crossed</b></i>", "<b><i>crossed</i></b>"),
        ("<script>alert(1)</script>", "alert(1)"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<b onclick=x>y</b>", "<b>y</b>"),
        ("<00:00:01.000>sung", "sung"),
        ("a < b & c > d", "a &lt; b &amp; c &gt; d"),
        ("&lt;b&gt; &amp;amp; &nbsp;&eacute;", "&lt;b&gt; &amp;amp; \u00a0é"),
        ("&#60;i&#62;", "&lt;i&gt;"),
        ("00:01.000 --> 00:02.000", "00:01.000 --&gt; 00:02.000"),
        ("<v a-->x", "<v a>x</v>"),
        ("one\n\n \ntwo", "one\ntwo"),
        ("a\x00b\x1bc\u202ed\ufeffe", "abcde"),
        ("a&#10;&#10;b", "a\nb"),
        ("<v \n>x</v>", "<v>x</v>"),
        ("<v a--\n-->x</v>", "<v a>x</v>"),
        ("<i>" * 20 + "deep", "<i>" * 16 + "deep" + "</i>" * 16),
    ],
)
def test_cue_text_keeps_what_webvtt_has_and_nothing_else(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


ALLOWED = re.compile(r"</?(?:b|i|u|c|v|lang|ruby|rt)(?:\.[A-Za-z0-9_]+)*(?: [^<>]*)?>|[^<>]+")
HOSTILE = st.lists(
    st.sampled_from(
        [
            *("<", ">", "-->", "</", "<b>", "</b>", "<v x>", "<i.c>", "<rt>", "<ruby>", "&"),
            *("&lt;", "&#62;", "\n", "\n\n", "\r", "a", " ", "\0", "<script>", "--", "&#45;"),
            "<v a--",
        ]
    )
    | st.text(max_size=5),
    max_size=30,
).map("".join)


def test_a_tag_without_an_end_is_looked_for_once() -> None:
    """Looked for anew from each space, its end takes twenty minutes here, and half a second in each
    cue of a hostile track."""
    assert clean("<v" + " " * 400_000) == "&lt;v"


@given(HOSTILE)
def test_nothing_but_known_tags_comes_through_and_it_stays(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "-->" not in cleaned
    assert "" not in cleaned.split("\n")[1:]
    assert "".join(ALLOWED.findall(cleaned)) == cleaned
    opened = re.findall(r"<([a-z]+)", cleaned)
    assert sorted(opened) == sorted(re.findall(r"</([a-z]+)", cleaned))


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**8), HOSTILE), max_size=5))
def test_what_is_written_is_read_again(cues: list[tuple[int, int, str]]) -> None:
    wanted = [Cue(start, start + lasts, clean(text)) for start, lasts, text in cues]
    found = parse(write(wanted, FROM_THE_START))
    assert found.timestamp_map == FROM_THE_START
    assert found.broken == 0
    assert list(found.cues) == wanted


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50))
def test_text_is_only_text(text: str) -> None:
    shown = webvtt.escaped(text)
    assert not set("<>") & set(shown)
    assert html.unescape(shown) == text


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ("align:left line:0 position:10%,line-left size:80%", None),
        ("vertical:rl line:-1,end", None),
        ("line:50.5% align:start", None),
        ("line:50.5 size:101% position:x align:middle region:fred", ""),
        ("align:left align:right", "align:right"),
        ("line", ""),
        ("<b> align:end", "align:end"),
    ],
)
def test_settings_that_are_known_are_kept(settings: str, kept: str | None) -> None:
    assert clean_settings(settings) == (settings if kept is None else kept)


# --- onto the film -------------------------------------------------------------------------------


def test_times_are_rounded_down() -> None:
    # Picture 1 at 24 a second is shown from 41.6667 ms, picture 2 from 83.3333 ms.
    assert cue_at(Fraction(1, 24), Fraction(2, 24), "x") == Cue(41, 83, "x")


def test_what_lies_outside_of_the_film_is_cut_off() -> None:
    cues = [
        Cue(5000, 12_000, "late"),
        Cue(-2000, 1000, "early"),
        Cue(-3000, 0, "before"),
        Cue(10_000, 11_000, "after"),
        Cue(3000, 3000, "never"),
        Cue(4000, 5000, ""),
        Cue(5000, 12_000, "late"),
    ]
    assert placed(cues, Fraction(10)) == [Cue(0, 1000, "early"), Cue(5000, 10_000, "late")]


GRID = [Fraction(n) for n in (0, 6, 12, 18)]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "segments"),
    [
        (0, 1000, [0]),
        (5999, 6000, [0]),
        (6000, 6001, [1]),
        (5999, 6001, [0, 1]),
        (0, 18_000, [0, 1, 2]),
        (17_999, 18_000, [2]),
        (11_000, 12_500, [1, 2]),
    ],
)
def test_a_cue_stands_in_every_segment_in_which_it_is_shown(
    start_ms: int, end_ms: int, segments: list[int]
) -> None:
    cue = Cue(start_ms, end_ms, "x")
    found, left_out = cut([cue], GRID)
    assert [n for n, inside in enumerate(found) if inside] == segments
    assert all(inside in ([], [cue]) for inside in found)
    assert left_out == 0


@given(
    st.lists(st.tuples(st.integers(0, 17_999), st.integers(1, 20_000)), max_size=20),
    st.lists(st.integers(1, 40), min_size=1, max_size=10),
)
def test_cutting_is_overlapping(times: list[tuple[int, int]], lengths: list[int]) -> None:
    edges = [Fraction(sum(lengths[:n]), 7) for n in range(len(lengths) + 1)]
    cues = [Cue(start, start + lasts, "x") for start, lasts in times]
    for inside, start_s, end_s in zip(cut(cues, edges)[0], edges[:-1], edges[1:], strict=True):
        assert inside == [
            cue for cue in cues if cue.start_ms < end_s * 1000 and cue.end_ms > start_s * 1000
        ]


def test_too_many_at_once_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cues = [Cue(0, 18_000, str(n)) for n in range(5)]
    monkeypatch.setattr(webvtt, "MAX_CUES_IN_SEGMENT", 2)
    found, left_out = cut(cues, GRID)
    assert ([len(inside) for inside in found], left_out) == ([2, 2, 2], 3)
    monkeypatch.setattr(webvtt, "MAX_CUES_IN_SEGMENT", 200)
    monkeypatch.setattr(webvtt, "MAX_WRITTEN_CUES", 7)
    found, left_out = cut(cues, GRID)
    assert ([len(inside) for inside in found], left_out) == ([2, 2, 2], 3)


# --- writing -------------------------------------------------------------------------------------


def test_a_segment_as_the_specification_has_it() -> None:
    cues = [Cue(41, 3_599_999, "<i>a</i>", "line:0"), Cue(360_000_000, 360_000_001, "b\nc")]
    assert write(cues, TimestampMap(0, 900_000)) == (
        "WEBVTT\n"
        "X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n"
        "\n"
        "00:00:00.041 --> 00:59:59.999 line:0\n"
        "<i>a</i>\n"
        "\n"
        "100:00:00.000 --> 100:00:00.001\n"
        "b\nc\n"
    )
    assert write([]) == "WEBVTT\n"
    assert write([], FROM_THE_START).endswith("LOCAL:00:00:00.000\n")
