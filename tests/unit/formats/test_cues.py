"""WebVTT that names times: written by hand from the specification, and hostile text."""

from __future__ import annotations

from fractions import Fraction

import pytest

from telecine.engine.errors import StepFailed
from telecine.engine.formats.cues import Cue, escaped, milliseconds, parse_cues, printed, write_cues

TEXT = """WEBVTT

00:00:00.000 --> 00:00:02.002
storyboard/00000.jpg#xywh=0,0,240,136

00:59:59.999 --> 01:00:00.000
a &lt;b&gt; c

30:00:00.000 --> 100:00:00.001
one

"""
CUES = (
    Cue(0, 2002, "storyboard/00000.jpg#xywh=0,0,240,136"),
    Cue(3_599_999, 3_600_000, "a &lt;b&gt; c"),
    Cue(108_000_000, 360_000_001, "one"),
)


def test_written_as_the_specification_has_it() -> None:
    assert write_cues(CUES) == TEXT.removesuffix("\n")
    assert write_cues(()) == "WEBVTT\n"


def test_read_as_written() -> None:
    assert parse_cues(write_cues(CUES)) == CUES
    assert parse_cues("WEBVTT\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "WEBVTT-\n",
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n",  # no text
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none\ntwo\n",
        "WEBVTT\n\n0:00:00.000 --> 00:00:01.000\none\n",
        "WEBVTT\n\n00:00:60.000 --> 00:01:01.000\none\n",
        "WEBVTT\n\n00:00:01.000 --> 00:00:01.000\none\n",  # no time
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000  line:1\none\n",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(StepFailed) as failed:
        parse_cues(text)
    assert failed.value.code == "malformed_media"


def test_a_moment_is_rounded_up_to_what_is_shown_then() -> None:
    assert milliseconds(Fraction(0)) == 0
    assert milliseconds(Fraction(2)) == 2000
    # The eighth picture at 24 a second is on from 0.333333 s: at 0.333 s the seventh still was.
    assert milliseconds(Fraction(8, 24)) == 334


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b &amp; c", "a &amp; b &amp;amp; c"),
        ("one\r\ntwo\n\nthree", "one two three"),
        ("00:00:00.000 --> 00:00:09.000\nmine", "00:00:00.000 --&gt; 00:00:09.000 mine"),
        ("\x00\x1b[31mred\x7f", "[31mred"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2028line\u2029paragraph", "line paragraph"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian needs the joiner
        ("half \ud800 pair", "half pair"),
        (" \t ", ""),
    ],
)
def test_any_text_becomes_one_harmless_line(text: str, line: str) -> None:
    assert escaped(text) == line
    assert len(printed(text)) == len(text)
