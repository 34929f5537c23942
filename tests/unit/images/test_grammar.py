"""What may be asked of a picture: text, JSON, canonical form, refusals, JSON Schema."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.thorough import examples
from tests.unit.images.asked import objects

from telecine.engine.errors import UsageError
from telecine.engine.images import operations as ops
from telecine.engine.images.grammar import (
    check_format,
    conversion,
    json_schema,
    parse_json,
    parse_text,
    refs,
    to_json,
    to_text,
    transparent_after,
)

# Written by hand: a text as somebody may write it, its JSON, its canonical form, the value.
GOLDEN: list[tuple[str, list[dict[str, Any]], str, ops.Operation]] = [
    (
        "resize:h=600,w=800,fit=cover",
        [{"op": "resize", "w": 800, "h": 600, "fit": "cover"}],
        "resize:w=800,h=600,fit=cover",
        ops.Resize(w=800, h=600, fit="cover"),
    ),
    (
        "resize:w=800,fit=inside,enlarge=0,dpr=1.0",
        [{"op": "resize", "w": 800}],
        "resize:w=800",
        ops.Resize(w=800),
    ),
    (
        "resize:w=10,h=20,fit=pad,background=#FFF8,position=top-left,enlarge=1,dpr=1.50",
        [
            {
                "op": "resize",
                "w": 10,
                "h": 20,
                "fit": "pad",
                "enlarge": True,
                "dpr": 1.5,
                "position": "top-left",
                "background": "ffffff88",
            }
        ],
        "resize:w=10,h=20,fit=pad,enlarge=1,dpr=1.5,position=top-left,background=ffffff88",
        ops.Resize(
            w=10,
            h=20,
            fit="pad",
            enlarge=True,
            dpr=1.5,
            position="top-left",
            background="ffffff88",
        ),
    ),
    (
        "thumbnail:w=100,h=100,crop=focal,x=0.333,y=1",
        [{"op": "thumbnail", "w": 100, "h": 100, "crop": "focal", "x": 0.333, "y": 1}],
        "thumbnail:w=100,h=100,crop=focal,x=0.333,y=1",
        ops.Thumbnail(w=100, h=100, crop="focal", x=0.333, y=1.0),
    ),
    (
        "crop:x=0,y=-0,w=5,h=6",
        [{"op": "crop", "w": 5, "h": 6, "x": 0, "y": 0}],
        "crop:w=5,h=6,x=0,y=0",
        ops.CropTo(w=5, h=6, x=0, y=0),
    ),
    (
        "rotate:angle=-90,background=transparent",
        [{"op": "rotate", "angle": 270}],
        "rotate:angle=270",
        ops.Rotate(angle=270.0),
    ),
    ("rotate:angle=360", [{"op": "rotate", "angle": 0}], "rotate:angle=0", ops.Rotate(0.0)),
    (
        "rotate:angle=-0.001,background=F80",
        [{"op": "rotate", "angle": 359.999, "background": "ff8800"}],
        "rotate:angle=359.999,background=ff8800",
        ops.Rotate(angle=359.999, background="ff8800"),
    ),
    ("flip", [{"op": "flip"}], "flip", ops.Flip()),
    ("flip:axis=both", [{"op": "flip", "axis": "both"}], "flip:axis=both", ops.Flip("both")),
    (
        "watermark:text=© Zoë 100%!2C a=b:c,opacity=0.50",
        [{"op": "watermark", "text": "© Zoë 100%, a=b:c", "opacity": 0.5}],
        # The bytes of UTF-8 by the tables of Unicode: © is C2 A9, ë is C3 AB.
        "watermark:text=!C2!A9!20Zo!C3!AB!20100!25!2C!20a!3Db!3Ac,opacity=0.5",
        ops.Watermark(text="© Zoë 100%, a=b:c", opacity=0.5),
    ),
    (
        "watermark:image=logo_1,tile=1,x=12,y=0",
        [{"op": "watermark", "image": "logo_1", "x": 12, "tile": True}],
        "watermark:image=logo_1,x=12,tile=1",
        ops.Watermark(image="logo_1", x=12, tile=True),
    ),
    ("background:color=ffffffff", [{"op": "background"}], "background", ops.Background()),
    ("background:color=0000", [{"op": "background", "color": "00000000"}],
     "background:color=00000000", ops.Background("00000000")),
    (
        "convert:keep=xmp+icc,quality=auto,depth=8,max_bytes=20000",
        [{"op": "convert", "quality": "auto", "max_bytes": 20000, "keep": ["icc", "xmp"]}],
        "convert:quality=auto,max_bytes=20000,keep=icc+xmp",
        ops.Convert(quality="auto", max_bytes=20_000, keep=("icc", "xmp")),
    ),
    (
        "convert:quality=80,progressive=0,depth=16,frames=first",
        [{"op": "convert", "quality": 80, "progressive": False, "depth": 16, "frames": "first"}],
        "convert:quality=80,progressive=0,depth=16,frames=first",
        ops.Convert(quality=80, progressive=False, depth=16, frames="first"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain", "canonical", "operation"), GOLDEN)
def test_text_json_and_canonical_form(
    text: str, plain: list[dict[str, Any]], canonical: str, operation: ops.Operation
) -> None:
    assert parse_text(text) == parse_json(plain) == (operation,)
    assert to_text([operation]) == canonical
    assert to_json([operation]) == plain
    assert parse_text(canonical) == (operation,)


def test_operations_in_their_order() -> None:
    read = parse_text("flip;blur:sigma=2;flip;convert:lossless=1")
    assert read == (ops.Flip(), ops.Blur(2.0), ops.Flip(), ops.Convert(lossless=True))
    assert to_text(read) == "flip;blur:sigma=2;flip;convert:lossless=1"
    assert parse_text("") == parse_json([]) == ()
    assert to_text(()) == ""


def test_numbers_may_be_written_as_json_may() -> None:
    assert parse_json([{"op": "resize", "w": 800.0, "dpr": 2}]) == (ops.Resize(w=800, dpr=2.0),)


# (JSON or text, code, what the message says)
REFUSED: list[tuple[Any, str, str]] = [
    ({}, "operation_invalid", "operations: must be a list"),
    ("rezise:w=1", "operation_unknown", "did you mean resize? there are resize, thumbnail, crop"),
    ("zzz", "operation_unknown", "operation 1: unknown operation 'zzz': there are resize"),
    ("flip;;flip", "operation_unknown", "operation 2: unknown operation ''"),
    ("resize:width=1", "operation_invalid",
     "operation 1 (resize): unknown field 'width': did you mean w? there are w, h, fit"),
    ("background:colour=fff", "operation_invalid", "did you mean color?"),
    ([{"op": "flip", 3: 4}], "operation_invalid", "unknown field 3: there are axis"),
    ("flip:", "operation_invalid", "operation 1: '' is not field=value"),
    ("flip:both", "operation_invalid", "operation 1: 'both' is not field=value"),
    ("blur:sigma=1,sigma=2", "operation_invalid", "'sigma' is given twice"),
    ("blur", "operation_invalid",
     "operation 1 (blur): sigma is missing: a number from 0.3 to 250 with at most 3 decimal"),
    ("blur:sigma=1e1", "operation_invalid", "not '1e1'"),
    ("blur:sigma=1.0001", "operation_invalid", "at most 3 decimal places, not 1.0001"),
    ("blur:sigma=251", "operation_invalid", "not 251"),
    ("blur:sigma=nan", "operation_invalid", "not 'nan'"),
    ([{"op": "blur", "sigma": math.nan}], "operation_invalid", "not such a number"),
    ([{"op": "blur", "sigma": math.inf}], "operation_invalid", "not such a number"),
    ([{"op": "blur", "sigma": 10**5000}], "operation_invalid", "not such a number"),
    ([{"op": "blur", "sigma": True}], "operation_invalid", "not true"),
    ([{"op": "blur", "sigma": None}], "operation_invalid", "not null"),
    ([{"op": "blur", "sigma": {}}], "operation_invalid", "not an object"),
    ([{"op": "resize", "w": True}], "operation_invalid", "whole number from 1 to 16384, not true"),
    ([{"op": "resize", "w": 1.5}], "operation_invalid", "not 1.5"),
    ([{"op": "resize", "w": "800"}], "operation_invalid", "not '800'"),
    ("resize:w=0", "operation_invalid", "not 0"),
    ("resize:w=99999999999", "operation_invalid", "not '99999999999'"),
    ("resize:w=1,enlarge=true", "operation_invalid", "enlarge must be true or false"),
    ("resize:w=1,h=1,fit=contain", "operation_invalid", "fit must be one of inside, cover"),
    ("rotate:angle=361", "operation_invalid", "angle must be a number from -360 to 360"),
    ("round:radius=a" + "b" * 50, "operation_invalid", f"not 'a{'b' * 39}'…"),
    ("background:color=fffff", "operation_invalid", "color must be a colour such as ff8800"),
    ([{"op": "background", "color": 0xFFFFFF}], "operation_invalid", "not 16777215"),
    ("watermark:image=../etc", "operation_invalid", "a name of 1 to 64 letters, digits, - and _"),
    ("watermark:text=", "operation_invalid", "1 to 200 characters on one line"),
    ("watermark:text=" + "a" * 201, "operation_invalid", "1 to 200 characters on one line"),
    ("watermark:text=a!0Ab", "operation_invalid", r"not 'a\nb'"),
    ("watermark:text=a\u2028b", "operation_invalid", r"not 'a\u2028b'"),
    ([{"op": "watermark", "text": "a\ud800"}], "operation_invalid", r"not 'a\ud800'"),
    ("watermark:text=a\ud800", "operation_invalid", "the two hexadecimal digits"),
    ("watermark:text=a!", "operation_invalid", "'text': `!` stands before the two hexadecimal"),
    ("watermark:text=!2G", "operation_invalid", "the two hexadecimal digits"),
    ("watermark:text=!C3", "operation_invalid", "byte of UTF-8"),
    ("convert:keep=icc+icc", "operation_invalid", "any of icc, exif, gps, xmp, each once"),
    ("convert:keep=", "operation_invalid", "any of icc, exif, gps, xmp, each once, not a list"),
    ([{"op": "convert", "keep": "icc"}], "operation_invalid", "each once, not 'icc'"),
    ([{"op": "convert", "keep": [["icc"]]}], "operation_invalid", "each once, not a list"),
    ("convert:depth=12", "operation_invalid", "depth must be 8 or 16, not 12"),
    ([{"op": "convert", "depth": True}], "operation_invalid", "depth must be 8 or 16, not true"),
    ("convert:quality=0", "operation_invalid", "auto, or a whole number from 1 to 100, not 0"),
    ("convert:quality=best", "operation_invalid", "auto, or a whole number from 1 to 100"),
    ("convert;flip", "convert_not_last", "operation 1 (convert)"),
    ("convert;convert", "convert_not_last", "operation 1 (convert)"),
    (";".join(["flip"] * 33), "operations_too_many", "33 operations: at most 32"),
    ([{"op": "flip"}] * 33, "operations_too_many", "33 operations: at most 32"),
    # Fields that must be together, or have no effect.
    ("resize", "operation_invalid", "needs w or h"),
    ("resize:fit=cover,w=1", "operation_invalid", "need both w and h"),
    ("resize:fit=pad,h=1", "operation_invalid", "need both w and h"),
    ("resize:w=1,position=top", "operation_invalid", "position goes with fit=cover and fit=pad"),
    ("resize:w=1,h=1,fit=cover,background=fff", "operation_invalid", "goes with fit=pad"),
    ("thumbnail:w=1,h=1,x=0.2", "operation_invalid", "x and y go with crop=focal"),
    ("crop:w=1,h=1,x=0", "operation_invalid", "x and y go together"),
    ("crop:w=1,h=1,y=0", "operation_invalid", "x and y go together"),
    ("crop:w=1,h=1,x=0,y=0,position=top", "operation_invalid", "either x and y or a position"),
    ("watermark", "operation_invalid", "needs either image or text"),
    ("watermark:image=a,text=b", "operation_invalid", "needs either image or text"),
    ("watermark:image=a,color=000", "operation_invalid", "color goes with text"),
    ("watermark:image=a,tile=1,x=-1", "operation_invalid", "gaps x and y of 0 or more"),
    ("watermark:image=a,tile=1,position=top", "operation_invalid", "no position"),
    ("convert:lossless=1,quality=80", "operation_invalid", "neither quality nor max_bytes"),
    ("convert:lossless=1,max_bytes=8000", "operation_invalid", "neither quality nor max_bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "code", "says"), REFUSED)
def test_what_cannot_be_is_refused_on_one_clear_line(asked: Any, code: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_text(asked) if isinstance(asked, str) else parse_json(asked)
    assert refused.value.code == code
    assert says in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("asked", [1, "flip", None, [1], [{}], [{"op": 3}], [["op", "flip"]]])
def test_what_is_no_list_of_objects_is_refused(asked: Any) -> None:
    with pytest.raises(UsageError) as refused:
        parse_json(asked)
    assert refused.value.code == "operation_invalid"


# --- what a format can do -------------------------------------------------------------------------

OPTIONS = {
    "quality=80": {"jpeg", "webp", "avif"},
    "quality=auto": {"jpeg", "webp", "avif"},
    "max_bytes=9000": {"jpeg", "webp", "avif"},
    "lossless=1": {"webp", "avif"},
    "depth=16": {"png", "tiff"},
    "progressive=0": {"jpeg"},
    "frames=first": {"jpeg", "png", "webp", "avif", "gif", "tiff"},
    "keep=icc": {"jpeg", "png", "webp", "avif", "tiff"},
    "keep=exif": {"jpeg", "png", "webp", "avif"},
    "keep=gps": {"jpeg", "png", "webp", "avif"},
    "keep=xmp": {"jpeg", "png", "webp", "avif", "tiff"},
    "keep=": {"jpeg", "png", "webp", "avif", "gif", "tiff"},
}


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif", "gif", "tiff"])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_format_lacks_is_refused(option: str, format: str) -> None:
    asked = parse_text("flip" if option == "keep=" else f"flip;convert:{option}")
    if format in OPTIONS[option]:
        check_format(asked, format)
    else:
        with pytest.raises(UsageError, match=f"{option.split('=')[0]}.* in {format}") as refused:
            check_format(asked, format)
        assert refused.value.code == "option_not_of_format"


def test_a_format_that_is_not_written_is_refused() -> None:
    with pytest.raises(UsageError, match="jpeg, png, webp, avif, gif, tiff") as refused:
        check_format((), "heic")
    assert refused.value.code == "format_unknown"


def test_without_convert_it_is_written_as_usual() -> None:
    assert conversion(parse_text("flip")) == ops.Convert()
    assert conversion(parse_text("flip;convert:quality=3")) == ops.Convert(quality=3)


# --- properties -----------------------------------------------------------------------------------


def read(plain: Any) -> tuple[ops.Operation, ...] | None:
    """What is asked, in either form; None where it is refused, on one line."""
    message = ""
    try:
        return parse_text(plain) if isinstance(plain, str) else parse_json(plain)
    except UsageError as error:
        message = error.message
    assert message
    assert message.isprintable()
    return None


PROPER, WILD = objects(), objects(junk=True)


@examples(times=3)
@given(st.lists(PROPER, max_size=4))
def test_parse_canonical_parse_is_the_identity(plain: list[dict[str, Any]]) -> None:
    asked = read(plain)
    if asked is None:
        return
    text = to_text(asked)
    assert parse_text(text) == asked
    assert to_text(parse_text(text)) == text
    assert parse_json(json.loads(json.dumps(to_json(asked)))) == asked
    # RFC 3986: what a segment of a path may hold without escaping.
    assert set(text) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@"
    )


def sayable(plain: Any) -> bool:
    """Whether JSON can say it: what it cannot reaches no schema."""
    try:
        said = json.dumps(plain, allow_nan=False, ensure_ascii=False)
        return bool(json.loads(said.encode()) == plain)
    except ValueError:
        return False


VALIDATOR = jsonschema_rs.Draft202012Validator(json_schema())


@examples(times=3)
@given(st.lists(PROPER | WILD, max_size=3))
def test_the_schema_accepts_what_the_parser_accepts(plain: list[dict[str, Any]]) -> None:
    if sayable(plain):
        last = all(each["op"] != "convert" for each in plain[:-1])
        assert (VALIDATOR.is_valid(plain) and last) == (read(plain) is not None)


def test_the_schema_accepts_and_refuses_the_tables() -> None:
    for _, plain, _, _ in GOLDEN:
        VALIDATOR.validate(plain)
    for asked, _, _ in REFUSED:
        if not isinstance(asked, str) and sayable(asked):
            assert not VALIDATOR.is_valid(asked), asked
    assert not VALIDATOR.is_valid([{"op": "convert"}, {"op": "convert"}])


def test_the_schema_has_one_definition_an_operation() -> None:
    schema = json_schema()
    jsonschema_rs.meta.validate(schema)
    assert list(schema["$defs"]) == list(ops.OPERATIONS)
    resize = schema["$defs"]["resize"]
    assert resize["properties"]["fit"] == {
        "description": "How the picture meets w × h.",
        "enum": ["inside", "cover", "fill", "pad"],
        "default": "inside",
    }
    assert resize["additionalProperties"] is False


@given(st.text(max_size=60) | st.text("flipresza:;,=!.0128w", max_size=60))
def test_any_text_gives_operations_or_a_refusal(text: str) -> None:
    asked = read(text)
    if asked is not None:
        assert parse_text(to_text(asked)) == asked


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["op", "w", "h", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(ANYTHING | st.lists(ANYTHING, max_size=3))
def test_any_value_gives_operations_or_a_refusal(plain: Any) -> None:
    read(plain)


def test_operations_that_mean_the_same_have_one_text() -> None:
    """Such as are made by hand from the defaults of the classes."""
    assert to_text([replace(ops.Resize(w=3), dpr=1)]) == "resize:w=3"


@pytest.mark.parametrize(
    ("alpha", "text", "after"),
    [
        (False, "", False),
        (True, "", True),
        (False, "round:radius=5", True),
        (True, "background:color=fff", False),
        (True, "background:color=ffffff80", True),
        (False, "resize:w=9,h=9,fit=pad", True),
        (False, "resize:w=9,h=9,fit=pad,background=000", False),
        (False, "resize:w=9,h=9", False),
        (False, "rotate:angle=90", False),
        (False, "rotate:angle=30", True),
        (False, "rotate:angle=30,background=000000ff", False),
        (False, "round:radius=5;background", False),
    ],
)
def test_whether_a_result_can_be_transparent(alpha: bool, text: str, after: bool) -> None:
    assert transparent_after(alpha, parse_text(text)) is after


def test_the_pictures_that_operations_name() -> None:
    text = "watermark:image=b;blur:sigma=1;watermark:image=a;watermark:image=b;watermark:text=c"
    assert refs(parse_text(text)) == ("b", "a")
