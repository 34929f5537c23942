"""Pure: the words for a quality that is aimed at, and for what is measured."""

from __future__ import annotations

import re

from telecine.engine.errors import UsageError

# VMAF: from where a picture is only just good to where it is the source's, as far as anyone sees.
QUALITY_RANGE = (50, 98)

MEASURES = ("vmaf",)  # what can be measured of finished renditions

_QUALITY = re.compile(r"\d{2}(\.\d{1,2})?")


def parse_quality(text: str) -> float:
    """`90` → 90.0, a VMAF. Raises `UsageError` (`quality_invalid`)."""
    low, high = QUALITY_RANGE
    if not (text.isascii() and _QUALITY.fullmatch(text)) or not low <= float(text) <= high:
        raise UsageError(
            f"quality {text[:40]!r}: a VMAF from {low} to {high}, such as 90",
            code="quality_invalid",
        )
    return float(text)
