"""The page that plays: its files, read once. hls.js is kept here as npm gave it (`SHA256SUMS`)."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

HLS_JS = "hls-1.7.4.min.js"

_HERE = Path(__file__).parent
_PAGE = Template((_HERE / "embed.html").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    content_type: str


FILES = {
    name: File((_HERE / name).read_bytes(), content_type)
    for name, content_type in (
        (HLS_JS, "text/javascript; charset=utf-8"),
        ("embed.js", "text/javascript; charset=utf-8"),
        ("embed.css", "text/css; charset=utf-8"),
    )
}


def page(*, title: str, message: str) -> str:
    """The page as HTML. With a message it says only that; the player has nothing to play then."""
    return _PAGE.substitute(
        title=html.escape(title),
        message=html.escape(message),
        player="none" if message else "wanted",
        hls_js=HLS_JS,
    )
