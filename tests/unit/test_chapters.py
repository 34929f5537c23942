"""Chapters: placed on the film's clock and clipped to it by hand, hostile titles, both files."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from telecine.engine.chapters import (
    MAX_CHAPTERS,
    MAX_TITLE,
    chapters_json,
    chapters_vtt,
    film_chapters,
)
from telecine.engine.media import Chapter


def chapters(*spans: tuple[float, float, str | None]) -> list[Chapter]:
    return [Chapter(Fraction(a), Fraction(b), title) for a, b, title in spans]


def placed(
    found: list[Chapter], origin_s: float = 0, duration_s: float = 30
) -> list[tuple[float, float, str | None]]:
    made = film_chapters(found, Fraction(origin_s), Fraction(duration_s))
    return [(float(c.start_s), float(c.end_s), c.title) for c in made]


@pytest.mark.parametrize(
    ("found", "origin_s", "expected"),
    [
        ([(0, 10, "a"), (10, 30, "b")], 0, [(0, 10, "a"), (10, 30, "b")]),
        # The film begins 1.5 s into the source's clock: the first loses what lies before.
        ([(0, 10, "a"), (10, 31.5, "b")], 1.5, [(0, 8.5, "a"), (8.5, 30, "b")]),
        ([(0, 1, "before"), (1, 40, "long")], 1, [(0, 30, "long")]),
        ([(29, 31, "cut"), (31, 40, "behind")], 0, [(29, 30, "cut")]),
        # Out of order; one that is still on when the next begins; a hole stays a hole.
        (
            [(20, 30, "c"), (0, 15, "a"), (10, 12, "b")],
            0,
            [(0, 10, "a"), (10, 12, "b"), (20, 30, "c")],
        ),
        # No end of its own: until the next, the last one until the film's end.
        ([(0, 0, "a"), (10, 0, "b")], 0, [(0, 10, "a"), (10, 30, "b")]),
        # Of several that begin together the first stays (a nested list).
        ([(0, 30, "part"), (0, 10, "a"), (10, 30, "b")], 0, [(0, 10, "part"), (10, 30, "b")]),
        # What is on where a clip begins is what is on there in the film.
        ([(0, 13, "a"), (10, 30, "b")], 12, [(0, 18, "b")]),
        ([(5, 5.0001, "blink")], 0, [(5, 5.0001, "blink")]),
        ([(30, 40, "at the end")], 0, []),
        ([(40, 0, "behind, without an end")], 0, []),
        ([], 0, []),
    ],
)
def test_chapters_lie_in_the_film_one_after_the_other(
    found: list[tuple[float, float, str | None]],
    origin_s: float,
    expected: list[tuple[float, float, str]],
) -> None:
    made = placed(chapters(*found), origin_s)
    assert [title for *_, title in made] == [title for *_, title in expected]
    for (start, end, _), (wanted_start, wanted_end, _) in zip(made, expected, strict=True):
        assert (start, end) == pytest.approx((wanted_start, wanted_end), abs=1e-9)


def test_titles_are_made_harmless_bounded_and_never_empty() -> None:
    found = chapters(
        (0, 1, "  a\nb\x00c  "), (1, 2, None), (2, 3, "\x07"), (3, 4, "x" * 5000), (4, 5, "<b>&")
    )
    titles = [title for *_, title in placed(found)]
    assert titles == ["a b c", "Chapter 2", "Chapter 3", "x" * MAX_TITLE, "<b>&"]


def test_there_is_a_most() -> None:
    many = chapters(*((n, n + 1, None) for n in range(MAX_CHAPTERS + 5)))
    assert len(placed(many, duration_s=5000)) == MAX_CHAPTERS


FILM = film_chapters(
    chapters((0, 12.5, "Opening"), (12.5, 30, '<i>The -->\nend</i> & "more"')),
    Fraction(0),
    Fraction(30),
)


def test_as_webvtt() -> None:
    assert chapters_vtt(FILM) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:12.500\nOpening\n\n"
        "00:00:12.500 --> 00:00:30.000\n"
        '&lt;i&gt;The --&gt; end&lt;/i&gt; &amp; "more"\n'
    )


def test_as_apples_json() -> None:
    assert json.loads(chapters_json(FILM)) == [
        {
            "chapter": 1,
            "start-time": 0.0,
            "duration": 12.5,
            "titles": [{"language": "und", "title": "Opening"}],
        },
        {
            "chapter": 2,
            "start-time": 12.5,
            "duration": 17.5,
            "titles": [{"language": "und", "title": '<i>The --> end</i> & "more"'}],
        },
    ]
