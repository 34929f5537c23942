"""Drawings: what is left out of them, and that the rest is drawn."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.media.images.making import made, one_worker, photo, pixels, png

from telecine.engine.errors import InputRefused
from telecine.engine.images import svg
from telecine.engine.images.pool import ImageWorkers

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="60" height="40">'
)
RED = '<rect width="60" height="40" fill="#ff0000"/>'


def drawing(inside: str) -> bytes:
    return f"{HEAD}{inside}</svg>".encode()


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return {"svg": True}


@pytest.mark.parametrize(
    "inside",
    [
        "<script>secret()</script>",
        '<script xlink:href="secret.js"/>',
        '<rect onclick="secret()"/>',
        '<rect ONLOAD="secret()"/>',
        "<foreignObject><p xmlns='http://www.w3.org/1999/xhtml'>secret</p></foreignObject>",
        '<image href="file:///secret"/>',
        '<image xlink:href="https://secret/"/>',
        '<image href="//secret/x.png"/>',
        '<image href="secret.png"/>',
        '<image href="data:image/svg+xml;base64,secret"/>',
        '<image href="data:text/html,secret"/>',
        '<use href="other.svg#secret"/>',
        '<use href="data:image/png;base64,secret"/>',
        '<a href="https://secret/"><rect/></a>',
        '<feImage href="file:///secret"/>',
        '<rect fill="url(https://secret/#a)"/>',
        "<rect fill=\"URL( 'secret.svg#a' )\"/>",
        '<rect fill="url(secret"/>',
        '<rect style="fill:url(file:///secret)"/>',
        '<rect style="fill:u\\72l(secret)"/>',
        "<style>@import 'secret.css';</style>",
        "<style>rect { fill: url(//secret/a) }</style>",
        "<style>rect { fill: u\\rl(secret) }</style>",
        '<set attributeName="href" to="secret"/>',
        '<animate attributeName="href" values="secret"/>',
        '<iframe xmlns="http://www.w3.org/1999/xhtml" src="secret"/>',
        '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="secret"/>',
        '<rect xml:base="https://secret/"/>',
        "<!-- secret -->",
        "<?xml-stylesheet href='secret.css'?>",
    ],
)
def test_what_runs_or_reaches_out_is_left_out(inside: str) -> None:
    cleaned = svg.sanitise(drawing(RED + inside + '<circle r="3"/>'))
    assert b"secret" not in cleaned.data
    assert b"ff0000" in cleaned.data
    assert b"circle" in cleaned.data


@pytest.mark.parametrize(
    "inside",
    [
        '<defs><linearGradient id="g"><stop offset="0.5"/></linearGradient></defs>'
        '<rect fill="url(#g)"/>',
        '<use href="#g"/>',
        '<use xlink:href="#g"/>',
        '<style>rect { fill: url("#g"); stroke: red }</style>',
        '<rect style="fill: url(#g); opacity: 0.5"/>',
        '<image href="data:image/png;base64,aGVsbG8="/>',
        "<text font-family='serif'>word <tspan>more</tspan> words</text>",
        '<filter id="f"><feGaussianBlur stdDeviation="3"/></filter><rect filter="url(#f)"/>',
    ],
)
def test_what_is_a_picture_stays(inside: str) -> None:
    cleaned = svg.sanitise(drawing(inside))
    assert cleaned.left_out == 0
    for word in ("url(#g)", "#g", "data:image/png", "words", "stdDeviation", "0.5"):
        assert (word in inside.replace('"#g"', "#g")) == (
            word in cleaned.data.decode().replace('"#g"', "#g").replace("&quot;", "")
        )


def test_text_after_what_is_left_out_stays() -> None:
    cleaned = svg.sanitise(drawing("<text>one<script/>two<a/>three<script/>four</text>"))
    assert b"script" not in cleaned.data
    for word in (b"one", b"two", b"three", b"four"):
        assert word in cleaned.data


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + drawing("<text>&a;</text>"),
        b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + drawing("<text>&a;</text>"),
        b"<svg>not in the namespace</svg>",
        b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
        drawing("<g>")[:-3],
        drawing("<g>" * 200 + "</g>" * 200),
        drawing("<g/>" * 60_000),
        b"",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?>' + drawing(""),
    ],
)
def test_what_is_no_harmless_drawing_is_refused(data: bytes) -> None:
    with pytest.raises(InputRefused) as refused:
        svg.sanitise(data)
    assert refused.value.code == "svg_refused"


def test_a_plain_doctype_is_passed_over() -> None:
    doctype = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://secret/svg11.dtd">'
    assert b"secret" not in svg.sanitise(doctype + drawing(RED)).data


# --- drawn ----------------------------------------------------------------------------------------


def test_drawings_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    with one_worker() as workers, pytest.raises(InputRefused) as refused:
        made(workers, tmp_path, drawing(RED))
    assert refused.value.code == "svg_refused"


def test_a_drawing_is_drawn(workers: ImageWorkers, tmp_path: Path) -> None:
    inside = '<rect x="10" y="10" width="20" height="20" fill="#0000ff"/>'
    result = made(workers, tmp_path, drawing(inside))
    shown = pixels(result, "RGBA")
    assert shown.shape == (40, 60, 4)
    assert tuple(shown[20, 20]) == (0, 0, 255, 255)
    assert shown[5, 5, 3] == 0
    assert result.warnings == ()


def test_a_drawing_is_sharp_at_any_size(workers: ImageWorkers, tmp_path: Path) -> None:
    inside = '<rect x="0" y="0" width="30" height="40" fill="#0000ff"/>'
    result = made(workers, tmp_path, drawing(inside), "resize:w=1200,enlarge=1")
    alpha = pixels(result, "RGBA")[400, :, 3].astype(int)
    assert len(alpha) == 1200
    assert ((alpha > 2) & (alpha < 253)).sum() <= 2  # the edge is a pixel wide


def test_a_squeezed_drawing_costs_no_more_than_a_large_one(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    inside = '<rect x="0" y="0" width="3000" height="100" fill="#0000ff"/>'
    wide = drawing(inside).replace(b'width="60" height="40">', b'width="6000" height="100">')
    began = time.monotonic()
    result = made(workers, tmp_path, wide, "resize:w=10,h=16384,fit=fill")
    assert time.monotonic() - began < 10
    alpha = pixels(result, "RGBA")[..., 3]
    assert alpha.shape == (16_384, 10)
    assert alpha[:, :4].min() > 250
    assert alpha[:, 6:].max() < 5


def test_a_picture_inside_is_drawn_and_one_outside_is_not(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    inner = base64.b64encode(png(np.full((8, 8, 3), (0, 200, 0), np.uint8))).decode()
    inside = f'<image href="data:image/png;base64,{inner}" width="60" height="40" ' \
        'preserveAspectRatio="none"/>'  # fmt: skip
    assert tuple(pixels(made(workers, tmp_path, drawing(inside)))[20, 30]) == (0, 200, 0)
    outer = tmp_path / "outer.png"
    outer.write_bytes(png(photo(60, 40)))
    reaching = drawing(f'<image href="file://{outer}" width="60" height="40"/>')
    result = made(workers, tmp_path, reaching)
    assert pixels(result, "RGBA")[..., 3].max() == 0
    assert any("left out" in warning for warning in result.warnings)


def test_a_giant_drawing_is_refused(workers: ImageWorkers, tmp_path: Path) -> None:
    giant = drawing(RED).replace(b'width="60" height="40">', b'width="30000" height="30000">')
    with pytest.raises(InputRefused) as refused:
        made(workers, tmp_path, giant)
    assert refused.value.code == "too_many_pixels"


def test_drawings_of_the_corpus(workers: ImageWorkers, tmp_path: Path, corpus: Path) -> None:
    logo = made(workers, tmp_path, (corpus / "image/vips/logo.svg").read_bytes())
    assert (logo.width, logo.height, logo.warnings) == (736, 552, ())
    linked = corpus / "image/sharp/struct-image-04-t.svg"
    result = made(workers, tmp_path, linked.read_bytes())
    assert (result.width, result.height) == (480, 360)
    assert any("left out" in warning for warning in result.warnings)


def test_texts_have_their_letters(workers: ImageWorkers, tmp_path: Path) -> None:
    """In our font, since the sandbox has no other: where there is none every letter is one box."""
    text = '<rect width="60" height="40" fill="#fff"/><text x="2" y="30" font-size="16">{}</text>'
    ink = {
        letters: np.flatnonzero(
            (pixels(made(workers, tmp_path, drawing(text.format(letters))))[..., 0] < 128).any(0)
        )
        for letters in ("iii", "MMM", "   ")
    }
    assert len(ink["   "]) == 0
    assert ink["iii"].max() < 20 < 35 < ink["MMM"].max()
