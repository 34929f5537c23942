"""Pure: SVG as far as it is a picture, by allow-lists of elements and attributes.

Off unless the request says otherwise. What is not in the lists is left out: scripts and handlers,
`foreignObject`, animation, links, and every reference but fragments of the file itself (`#id`) and
pictures inside it (`data:` PNG, JPEG, GIF, WebP). A style that names anything else by `url()`, an
`@` rule or an escape is left out whole. Entities are refused, so that a small file stays small; a
plain DOCTYPE is passed over and nothing is fetched for it. What is written from the tree is what
librsvg reads: it never sees the file itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from telecine.engine.errors import InputRefused
from telecine.engine.images.wire import Bytes

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_XML_SPACE = "{http://www.w3.org/XML/1998/namespace}space"

_MOST_BYTES = 16 << 20
_MOST_ELEMENTS = 50_000
_MOST_DEPTH = 100

# SVG 1.1 (Second Edition), appendix K, less what runs, moves, links or embeds documents.
_ELEMENT_NAMES = """
    svg g defs symbol use title desc switch a style
    path rect circle ellipse line polyline polygon text tspan tref textPath image
    linearGradient radialGradient stop pattern clipPath mask marker filter
    feBlend feColorMatrix feComponentTransfer feComposite feConvolveMatrix feDiffuseLighting
    feDisplacementMap feDistantLight feDropShadow feFlood feFuncA feFuncB feFuncG feFuncR
    feGaussianBlur feImage feMerge feMergeNode feMorphology feOffset fePointLight
    feSpecularLighting feSpotLight feTile feTurbulence
"""
_ATTRIBUTE_NAMES = """
    id class style transform viewBox preserveAspectRatio version width height x y x1 y1 x2 y2 dx dy
    cx cy r rx ry fx fy fr d points pathLength rotate textLength lengthAdjust startOffset method
    spacing offset gradientUnits gradientTransform spreadMethod patternUnits patternContentUnits
    patternTransform clipPathUnits maskUnits maskContentUnits markerUnits markerWidth markerHeight
    refX refY orient filterUnits primitiveUnits in in2 result mode type values tableValues slope
    intercept amplitude exponent operator k1 k2 k3 k4 order kernelMatrix divisor bias targetX
    targetY edgeMode kernelUnitLength preserveAlpha surfaceScale diffuseConstant specularConstant
    specularExponent limitingConeAngle azimuth elevation z pointsAtX pointsAtY pointsAtZ scale
    xChannelSelector yChannelSelector stdDeviation radius baseFrequency numOctaves seed stitchTiles
    systemLanguage requiredFeatures
    alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation
    color-interpolation-filters cursor direction display dominant-baseline enable-background fill
    fill-opacity fill-rule filter flood-color flood-opacity font font-family font-size
    font-size-adjust font-stretch font-style font-variant font-weight image-rendering isolation
    letter-spacing lighting-color marker marker-end marker-mid marker-start mask mask-type
    mix-blend-mode opacity overflow paint-order shape-rendering stop-color stop-opacity stroke
    stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit
    stroke-opacity stroke-width text-anchor text-decoration text-rendering unicode-bidi
    vector-effect visibility white-space word-spacing writing-mode
"""
_ELEMENTS = frozenset(_ELEMENT_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())
_HREFS = ("href", f"{{{_XLINK}}}href")
_WITH_PICTURE = ("image", "feImage")
_FRAGMENT = re.compile(r"#[^\s#]{1,200}")
_RASTER = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]+", re.IGNORECASE)
_URL = re.compile(r"url\s*\(\s*(['\"]?)(.*?)\1\s*\)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A sanitised SVG. `left_out` counts what was taken out of it: elements, references, handlers;
    not what other programs note in their files for themselves."""

    data: bytes
    left_out: int


def sanitise(data: Bytes) -> Drawing:
    """The drawing without what is not allowed.

    Raises:
        InputRefused: `svg_refused`: no XML, no SVG, entities, or too large.
    """
    if len(data) > _MOST_BYTES:
        raise _refused(f"{len(data)} bytes, at most {_MOST_BYTES} are taken")
    try:
        root = fromstring(bytes(data), forbid_entities=True, forbid_external=True)
    except DefusedXmlException:
        raise _refused("it declares entities") from None
    except (ParseError, ValueError, LookupError) as error:
        raise _refused(f"it is no well-formed XML: {error}") from None
    if root.tag != f"{{{_SVG}}}svg":
        raise _refused("its root is no <svg>")
    count = sum(1 for _ in root.iter())
    if count > _MOST_ELEMENTS:
        raise _refused(f"{count} elements, at most {_MOST_ELEMENTS} are taken")
    left_out = _clean(root, 0)
    return Drawing(tostring(root, encoding="utf-8"), left_out)


def _refused(why: str) -> InputRefused:
    return InputRefused(f"the SVG is refused: {why}", code="svg_refused")


def _clean(element: Element, depth: int) -> int:
    if depth > _MOST_DEPTH:
        raise _refused(f"elements lie more than {_MOST_DEPTH} deep in each other")
    left_out = 0
    name = _local(element)
    for key, value in list(element.attrib.items()):
        if not _allowed(name, key, value):
            del element.attrib[key]
            left_out += key in _HREFS or key in _ATTRIBUTES or key.lower().startswith("on")
    for child in list(element):
        kind = _local(child)
        if kind in _ELEMENTS and not (kind == "style" and not _style(child)):
            left_out += _clean(child, depth + 1)
        else:
            _drop(element, child)
            left_out += kind not in ("", "metadata")
    return left_out


def _local(element: Element) -> str:
    """The name of an SVG element; "" of comments and other vocabularies."""
    tag = element.tag
    prefix = f"{{{_SVG}}}"
    return tag.removeprefix(prefix) if isinstance(tag, str) and tag.startswith(prefix) else ""


def _drop(parent: Element, child: Element) -> None:
    """Without the text that follows it, which is its parent's."""
    at = list(parent).index(child)
    if child.tail:
        if at:
            parent[at - 1].tail = (parent[at - 1].tail or "") + child.tail
        else:
            parent.text = (parent.text or "") + child.tail
    parent.remove(child)


def _allowed(element: str, name: str, value: str) -> bool:
    if name in _HREFS:
        value = value.strip()
        if element == "a":
            return False
        inside = element in _WITH_PICTURE and _RASTER.fullmatch(value)
        return bool(inside or _FRAGMENT.fullmatch(value))
    if name == _XML_SPACE:
        return True
    return name in _ATTRIBUTES and _refers_inside(value, style=name == "style")


def _style(element: Element) -> bool:
    return len(element) == 0 and _refers_inside(element.text or "", style=True)


def _refers_inside(text: str, *, style: bool) -> bool:
    """Whether it refers to nothing but fragments. In styles a backslash can spell anything, and
    what begins with @ may load more."""
    if style and ("\\" in text or "@" in text):
        return False
    if all(_FRAGMENT.fullmatch(found[2]) for found in _URL.finditer(text)):
        rest = _URL.sub("", text)
        return not re.search(r"url\s*\(", rest, re.IGNORECASE)
    return False
