"""Text events of FFmpeg's decoders → cue text; expected texts written by hand from the format."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.formats.ass import Style, cue_text, read_styles, write_events
from telecine.engine.formats.webvtt import Cue, clean
from telecine.engine.ladder import Size

HEADER = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Italic, Underline, Alignment
Style: Default,Arial,16,0,0,0,2
Style: *Loud,Arial,16,-1,0,0,8
Style: Sign , Arial, 16, 1, 1, 1, 99
Style: Odd,Arial,16,0,0,0,x
Style: Short

[Events]
Format: Layer, Start, End, Style, Text
"""
OLD = """[V4 Styles]
Format: Name, Bold, Italic, Alignment
Style: Top,0,-1,6
Style: Middle,0,0,9
Style: Nowhere,0,0,4
"""
STYLES = read_styles(HEADER)


def test_the_styles_of_a_header() -> None:
    assert read_styles(HEADER) == {
        "Default": Style(),
        "Loud": Style(bold=True, place=8),
        "Sign": Style(bold=True, italic=True, underline=True, place=2),
        "Odd": Style(),
        "Short": Style(),
    }
    assert read_styles(OLD) == {
        "Top": Style(italic=True, place=8),
        "Middle": Style(place=4),
        "Nowhere": Style(),
    }
    assert read_styles("Style: a,b\nnonsense\n\n") == {}


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("plain", "plain"),
        (r"two\Nlines\nof\htext", "two\nlines of\u00a0text"),
        (r"{\i1}it{\i0} {\b1}bo{\b0} {\u1}un{\u0}", "<i>it</i> <b>bo</b> <u>un</u>"),
        (r"{\b700}heavy{\b400} light", "<b>heavy</b> light"),
        (r"{\b1}a{\i1}b{\b0}c", "<b>a<i>b</i></b><i>c</i>"),
        (r"{\i1}a{\i}b", "<i>a</i>b"),
        (r"{\b1\u1}a{\b\u}b", "<b><u>a</u></b>b"),
        (r"{\fad(200,200)\c&HFF00&\fs20}coloured", "coloured"),
        (r"{\bord3\blur2\iclip(0,0,1,1)\pbo5}not bold", "not bold"),
        (r"{\rLoud}x{\r}y", "<b>x</b>y"),
        (r"{\rNobody}x", "x"),
        (r"{\p1}m 0 0 l 100 0{\p0}text", "text"),
        (r"{\p1}m 0 0 l 100 0", ""),
        (r"{a comment}said", "said"),
        (r"{\i1}{\i0}", ""),
        (r"\N\N", ""),
        (r"a\N\N\Nb", "a\nb"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("1 < 2 & 3 --> 4", "1 &lt; 2 &amp; 3 --&gt; 4"),
        ("a, b, c", "a, b, c"),
        ("{unclosed", "{unclosed"),
    ],
)
def test_text_keeps_what_webvtt_has(text: str, cue: str) -> None:
    assert cue_text(f"0,0,Default,,0,0,0,,{text}", STYLES, caption=False) == (cue, "")


@pytest.mark.parametrize(
    ("style", "text", "settings"),
    [
        ("Default", "x", ""),
        ("Loud", "x", "line:0"),
        (" *Loud ", "x", "line:0"),
        ("Unknown", "x", ""),
        ("Default", r"{\an7}x", "line:0 align:left"),
        ("Default", r"{\an4}x", "line:50% align:left"),
        ("Default", r"{\an5}x", "line:50%"),
        ("Default", r"{\an6}x", "line:50% align:right"),
        ("Default", r"{\an9}x", "line:0 align:right"),
        ("Default", r"{\an1}x", "align:left"),
        ("Default", r"{\an3}x", "align:right"),
        ("Default", r"{\a6}x", "line:0"),
        ("Default", r"{\a4}x", ""),
        ("Default", r"{\an0}x", ""),
        ("Default", r"{\an12345678}x", ""),
        ("Default", r"{\an8}x{\an2}y", "line:0"),
        ("Default", r"{\an7\pos(10,10)}x", "line:0 align:left"),
    ],
)
def test_where_it_stands(style: str, text: str, settings: str) -> None:
    event = f"0,0,{style},,0,0,0,,{text}"
    assert cue_text(event, STYLES, caption=False)[1] == settings


@pytest.mark.parametrize(
    ("position", "settings"),
    [
        # Of a picture of 384 × 288.
        ("38,14", "line:4% position:9% align:left"),
        ("163.5, 243", "line:84% position:42% align:left"),
        ("384,288", "line:90% position:90% align:left"),
        ("x,1", "line:0 align:left"),
    ],
)
def test_captions_stand_where_their_row_is(position: str, settings: str) -> None:
    event = rf"0,0,Default,,0,0,0,,{{\an7}}{{\pos({position})}}{{\pos(1,1)}}x"
    wanted = settings if position != "x,1" else "line:0% position:0% align:left"
    assert cue_text(event, STYLES, caption=True) == ("x", wanted)


def test_what_is_no_event_shows_nothing() -> None:
    assert cue_text("0,0,Default", STYLES, caption=False) == ("", "")


@given(
    st.lists(
        st.sampled_from(
            ["{", "}", r"\i1", r"\b1", r"\N", r"\an8", r"\p1", r"\rLoud", "(", ")", "<i>", "-->"]
        )
        | st.text(max_size=4),
        max_size=30,
    ).map("".join)
)
def test_any_event_becomes_clean_cue_text(text: str) -> None:
    cue, _ = cue_text(f"0,0,Default,,0,0,0,,{text}", STYLES, caption=False)
    assert clean(cue) == cue


# --- written for what is burnt in ----------------------------------------------------------------


def events(*cues: Cue, rate: Fraction = Fraction(24)) -> list[str]:
    text = write_events(cues, Size(1920, 1080), rate, 255)
    return [line for line in text.split("\n") if line.startswith("Dialogue")]


def test_a_file_of_its_own_names_one_font_and_one_size() -> None:
    text = write_events([], Size(1920, 1080), Fraction(24), 148)
    assert "PlayResX: 1920\nPlayResY: 1080\n" in text
    # 5 % of 1080 lines; 148 is 0x94; the edges are 5 % of each side.
    assert "Style: Default,DejaVu Sans,54,&H00949494," in text
    assert text.split("Style: Default")[1].split("\n")[0].endswith(",96,96,54")


@pytest.mark.parametrize(
    ("rate", "cue", "times"),
    [
        # From picture 1 (41.667 ms) to picture 2 (83.333 ms).
        (Fraction(24), Cue(41, 83, "x"), "0:00:00.04,0:00:00.08"),
        # 50 ms lies between pictures 1 and 2: it begins with the second.
        (Fraction(24), Cue(50, 3_600_000, "x"), "0:00:00.08,1:00:00.00"),
        (Fraction(60), Cue(16, 33, "x"), "0:00:00.01,0:00:00.03"),
        (Fraction(24_000, 1001), Cue(0, 41, "x"), "0:00:00.00,0:00:00.04"),
    ],
)
def test_a_text_is_on_from_a_picture_to_a_picture(rate: Fraction, cue: Cue, times: str) -> None:
    assert events(cue, rate=rate) == [f"Dialogue: 0,{times},Default,{{\\an2}}x"]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ("", 2),
        ("line:0", 8),
        ("line:0 align:left", 7),
        ("line:50%", 5),
        ("line:50%,center align:right", 6),
        ("line:84% position:42% align:start", 1),
        ("line:-1 align:end", 3),
        ("align:center", 2),
    ],
)
def test_a_text_stands_where_its_settings_say(settings: str, place: int) -> None:
    (line,) = events(Cue(0, 1000, "x", settings))
    assert f"{{\\an{place}}}x" in line


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<i>it</i> <b><u>bu</u></b>", r"{\i1}it{\i0} {\b1}{\u1}bu{\u0}{\b0}"),
        ("<v Bob>said</v> <c.red>red</c>", "said red"),
        ("two\nlines", r"two\Nlines"),
        (r"{\p1}drawn{\p0}", "\\{\\\u200bp1\\}drawn\\{\\\u200bp0\\}"),
        (r"a\Nb", "a\\\u200bNb"),
        ("1 &lt; 2 &amp;amp; 3", "1 < 2 &amp; 3"),
    ],
)
def test_nothing_but_our_own_tags_is_a_tag(text: str, written: str) -> None:
    (line,) = events(Cue(0, 1000, text))
    assert line.removeprefix("Dialogue: 0,0:00:00.00,0:00:01.00,Default,{\\an2}") == written
