"""Pure: what is laid over the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from telecine.engine.errors import UsageError
from telecine.engine.media import ExtraInput
from telecine.engine.plan import Overlay
from telecine.engine.profile import Profile
from telecine.engine.words.watermark import INPUT


def make_overlay(profile: Profile, inputs: Sequence[ExtraInput]) -> Overlay | None:
    """Raises `UsageError` (`input_missing`) where nobody looked at the watermark's file."""
    mark = profile.watermark
    if mark is None:
        return None
    picture = next((extra.picture for extra in inputs if extra.name == INPUT), None)
    if picture is None:
        raise UsageError(f"no file was given for {INPUT}", code="input_missing")
    reason = (
        f"{picture.format.upper()} of {picture.width}×{picture.height}, {mark.position}, "
        f"opacity {float(mark.opacity):g}, {float(mark.scale):g} of the width"
    )
    return Overlay(INPUT, picture, mark, reason)
