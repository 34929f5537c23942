"""Words of a file (its name, a language, a codec) must not steer the terminal they are shown on."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` as one harmless line: what does not print stands as its escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
