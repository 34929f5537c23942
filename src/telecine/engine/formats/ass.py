"""Pure: the text events of FFmpeg's subtitle decoders → WebVTT cue text and settings.

Whatever a track is (SubRip, MOV text, ASS, CEA-608), libavcodec decodes it to one form: an event of
Advanced SubStation Alpha without its times, under a header with styles. The rules are those of
libass's and Aegisub's documentation of the format (https://aegisub.org/docs/latest/ass_tags/). Kept
is what WebVTT has: italic, bold, underlined, and where the text stands (`\\an`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from telecine.engine.formats.webvtt import Cue, escaped, without_empty_lines
from telecine.engine.ladder import Size

MAX_EVENT_CHARS = 8_000
MAX_STYLES = 1_000


@dataclass(frozen=True, slots=True)
class Style:
    """How a text looks. `place` is that of a numeric keypad: 2 below in the middle, 7 top left."""

    bold: bool = False
    italic: bool = False
    underline: bool = False
    place: int = 2

    @property
    def tags(self) -> tuple[str, ...]:
        worn = (("b", self.bold), ("i", self.italic), ("u", self.underline))
        return tuple(tag for tag, on in worn if on)


# SubStation Alpha 4 counts 1 to 3 below, adds 4 for the top and 8 for the middle.
_OLD_PLACES = {1: 1, 2: 2, 3: 3, 5: 7, 6: 8, 7: 9, 9: 4, 10: 5, 11: 6}


def read_styles(header: str) -> dict[str, Style]:
    """The styles of a header, by name; what cannot be read is not there."""
    styles: dict[str, Style] = {}
    fields: list[str] = []
    old = False
    for line in header.splitlines():
        word, _, rest = line.partition(":")
        if line.startswith("["):
            old, fields = line.strip().lower() == "[v4 styles]", []
        elif word == "Format" and not styles:
            fields = [name.strip().lower() for name in rest.split(",")]
        elif word == "Style" and len(styles) < MAX_STYLES:
            values = dict(zip(fields, (value.strip() for value in rest.split(",")), strict=False))
            if "name" in values:
                styles[values["name"].lstrip("*")] = _style(values, old=old)
    return styles


def _style(values: Mapping[str, str], *, old: bool) -> Style:
    def on(name: str) -> bool:
        return values.get(name, "0") not in ("0", "")

    said = values.get("alignment", "2")
    place = int(said) if said.isascii() and said.isdigit() and len(said) < 3 else 2
    place = _OLD_PLACES.get(place, 2) if old else place
    return Style(on("bold"), on("italic"), on("underline"), place if 1 <= place <= 9 else 2)


_BLOCK = re.compile(r"\{([^{}]*)\}")
_OVERRIDE = re.compile(
    # A number or nothing behind the name; else it is that of another tag (\\bord, \\iclip).
    r"\\(?:(?P<name>an|a|b|i|u|p)(?P<number>\d{0,5})(?![\w.-])"
    r"|r(?P<style>[^\\()]*)"
    r"|pos\(\s*(?P<x>\d{1,5})(?:\.\d*)?\s*,\s*(?P<y>\d{1,5})(?:\.\d*)?\s*\))"
)
_BREAK = re.compile(r"\\([Nnh])")
_PLAIN = Style()
_CAPTION_GRID = (384, 288)  # libavcodec's picture for CEA-608 (libavcodec/ass.h)


def cue_text(event: str, styles: Mapping[str, Style], *, caption: bool) -> tuple[str, str]:
    """An event (`ReadOrder,Layer,Style,Name,MarginL,MarginR,MarginV,Effect,Text`) as cue text and
    settings; "" where it shows no text. `caption`: of CEA-608, whose rows have their places.
    """
    parts = event[:MAX_EVENT_CHARS].split(",", 8)
    if len(parts) < 9:
        return "", ""
    base = styles.get(parts[2].strip().lstrip("*"), _PLAIN)
    reader = _Reader(styles, base)
    text = _dressed(reader.runs(parts[8]))
    settings = _SETTINGS[reader.place]
    if caption and reader.position is not None:
        settings = _caption_place(*reader.position)
    return text, settings


_SETTINGS = {
    1: "align:left",
    2: "",
    3: "align:right",
    4: "line:50% align:left",
    5: "line:50%",
    6: "line:50% align:right",
    7: "line:0 align:left",
    8: "line:0",
    9: "line:0 align:right",
}


def _caption_place(x: int, y: int) -> str:
    across, down = (
        min(max(100 * at // of, 0), 90) for at, of in zip((x, y), _CAPTION_GRID, strict=True)
    )
    return f"line:{down}% position:{across}% align:left"


class _Reader:
    """Reads a text with its override tags. The first place that is said counts for all of it."""

    def __init__(self, styles: Mapping[str, Style], base: Style) -> None:
        self._styles = styles
        self._base = base
        self._now = base
        self._drawing = False
        self._placed = False
        self.place = base.place
        self.position: tuple[int, int] | None = None

    def runs(self, text: str) -> Iterator[tuple[Style, str]]:
        at = 0
        for block in _BLOCK.finditer(text):
            yield from self._run(text[at : block.start()])
            self._obey(block[1])
            at = block.end()
        yield from self._run(text[at:])

    def _run(self, text: str) -> Iterator[tuple[Style, str]]:
        if text and not self._drawing:  # of a drawing the text is its outline
            yield self._now, _BREAK.sub(_broken, text)

    def _obey(self, block: str) -> None:
        for tag in _OVERRIDE.finditer(block):
            name, number = tag["name"], int(tag["number"]) if tag["number"] else None
            if tag["x"] is not None:
                self.position = self.position or (int(tag["x"]), int(tag["y"]))
            elif tag["style"] is not None:
                self._now = self._styles.get(tag["style"].strip(), self._base)
            elif name in ("an", "a"):
                self._place(name, number)
            elif name == "p":
                self._drawing = bool(number)
            else:
                self._wear(name, number)

    def _wear(self, name: str, number: int | None) -> None:
        match name:
            case "b":  # 1, or a weight such as 700
                bold = self._base.bold if number is None else number == 1 or number > 500
                self._now = replace(self._now, bold=bold)
            case "i":
                italic = self._base.italic if number is None else number != 0
                self._now = replace(self._now, italic=italic)
            case _:
                underline = self._base.underline if number is None else number != 0
                self._now = replace(self._now, underline=underline)

    def _place(self, name: str, number: int | None) -> None:
        place = _OLD_PLACES.get(number or 0) if name == "a" else number
        if place is not None and 1 <= place <= 9 and not self._placed:
            self.place, self._placed = place, True


def _broken(match: re.Match[str]) -> str:
    return {"N": "\n", "n": " ", "h": "\u00a0"}[match[1]]


def _dressed(runs: Iterator[tuple[Style, str]]) -> str:
    """Runs of text as cue text: tags nested, none opened twice, none around nothing."""
    pieces: list[str] = []
    worn: list[str] = []
    for style, text in runs:
        wanted = style.tags
        while any(tag not in wanted for tag in worn):
            pieces.append(f"</{worn.pop()}>")
        for tag in wanted:
            if tag not in worn:
                worn.append(tag)
                pieces.append(f"<{tag}>")
        pieces.append(escaped(text))
    pieces += [f"</{tag}>" for tag in reversed(worn)]
    text = without_empty_lines("".join(pieces))
    return text if re.sub(r"<[^>]*>|\s", "", text) else ""


# --- writing -------------------------------------------------------------------------------------

# Where a text stands, as shares of the picture's height: as large and as near its edge as
# televisions show it (EBU-TT-D, and the BBC's subtitle guidelines).
_LETTERS, _EDGE, _OUTLINE = Fraction(5, 100), Fraction(5, 100), Fraction(3, 1000)
FONT_NAME = "DejaVu Sans"
_TAGS = {"b": "\\b", "i": "\\i", "u": "\\u"}
_MARKUP = re.compile(r"<(/?)([a-z]+)[^>]*>")


def write_events(cues: Iterable[Cue], size: Size, rate: Fraction, white: int) -> str:
    """Cues as a file of ASS for pictures of `size`, each on from the first picture that is shown in
    its time to the last; `white` (0 to 255) is how bright its letters are.

    ASS counts hundredths of a second, which are shorter than any picture here, so that a picture's
    time rounded down is still its own. Cue text is clean, and the only tags are those made of it.
    """
    height = size.height
    style = (
        f"Style: Default,{FONT_NAME},{round(height * _LETTERS)},"
        f"&H00{white:02X}{white:02X}{white:02X},&H00000000,&H80000000,"
        f"0,0,0,1,{max(1, round(height * _OUTLINE))},0,2,"
        f"{round(size.width * _EDGE)},{round(size.width * _EDGE)},{round(height * _EDGE)}"
    )
    lines = [
        "[Script Info]",
        "ScriptType: v4.00+",
        f"PlayResX: {size.width}",
        f"PlayResY: {height}",
        "WrapStyle: 0",
        "",
        "[V4+ Styles]",
        "Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, Bold, Italic, "
        "Underline, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV",
        style,
        "",
        "[Events]",
        "Format: Layer, Start, End, Style, Text",
    ]
    for cue in cues:
        start, end = (_picture_time(ms, rate) for ms in (cue.start_ms, cue.end_ms))
        text = f"{{\\an{_keypad(cue.settings)}}}{_event_text(cue.text)}"
        lines.append(f"Dialogue: 0,{start},{end},Default,{text}")
    return "\n".join(lines) + "\n"


def _picture_time(milliseconds: int, rate: Fraction) -> str:
    """The time of the first picture at or after a time, in hundredths rounded down."""
    hundredths = int(ceil(Fraction(milliseconds, 1000) * rate) / rate * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"


def _keypad(settings: str) -> int:
    said = dict(word.partition(":")[::2] for word in settings.split())
    line = said.get("line", "-1").partition(",")[0]
    down = float(line[:-1]) if line.endswith("%") else (100.0 if line.startswith("-") else 0.0)
    row = 7 if down < 34 else 4 if down < 67 else 1
    align = said.get("align", "center")
    return row + {"left": 0, "start": 0, "right": 2, "end": 2}.get(align, 1)


def _event_text(text: str) -> str:
    pieces = []
    at = 0
    for tag in _MARKUP.finditer(text):
        pieces.append(_literal(text[at : tag.start()]))
        at = tag.end()
        if tag[2] in _TAGS:
            pieces.append(f"{{{_TAGS[tag[2]]}{0 if tag[1] else 1}}}")
    pieces.append(_literal(text[at:]))
    return "".join(pieces)


def _literal(text: str) -> str:
    """Cue text as nothing but text: a space of no width behind what would begin a tag."""
    text = html.unescape(text).replace("\\", "\\\u200b")
    return text.replace("{", "\\{").replace("}", "\\}").replace("\n", "\\N")
