"""Rules on the ladder: sizes, aspect and rate beside the source's."""

from __future__ import annotations

from fractions import Fraction

from telecine.engine.ladder import Size
from telecine.engine.rules.found import Found
from telecine.engine.rules.measures import display_size, fits, only_rounded, rate_of
from telecine.engine.rules.table import Problems, rule, shows

MAX_ENCODED_RATE = Fraction(60)
MAX_COPIED_RATE = Fraction(6006, 100)  # what a camera that means 60 really takes
ASPECT_TOLERANCE = Fraction(1, 200)


def _source_known(found: Found) -> bool:
    return shows(found) and display_size(found) is not None


@rule("never-upscaled", "plan", _source_known)
def _never_upscaled(found: Found) -> tuple[Problems, str]:
    """No rendition is larger than the source's display size, rounded to even."""
    display = display_size(found)
    assert display is not None
    width, height = display
    problems = [
        f"{s.home}: {s.track.width}×{s.track.height} of {float(width):g}×{float(height):g}"
        for s in found.pictures
        if not fits(Size(s.track.width, s.track.height), display)
    ]
    return problems, f"the source is {float(width):g}×{float(height):g}"


@rule("even-sizes", "plan", shows)
def _even_sizes(found: Found) -> tuple[Problems, str]:
    """Widths and heights are even, as 4:2:0 needs."""
    sizes = [(s.home, s.track.width, s.track.height) for s in found.pictures]
    problems = [f"{home}: {w}×{h}" for home, w, h in sizes if w % 2 or h % 2]
    return problems, ", ".join(f"{w}×{h}" for _, w, h in sizes)


@rule("aspect", "Apple 1.33", shows)
def _aspect(found: Found) -> tuple[Problems, str]:
    """Every rendition has the source's display aspect (without a plan: the largest one's) within
    0.5 %; below 240 lines even rounding may add a pixel."""
    largest = max(found.pictures, key=lambda s: s.track.width * s.track.height).track
    display = display_size(found) or (Fraction(largest.width), Fraction(largest.height))
    problems = []
    worst = Fraction(0)
    for stream in found.pictures:
        size = Size(stream.track.width, stream.track.height)
        error = abs(Fraction(size.width, size.height) * display[1] / display[0] - 1)
        worst = max(worst, error)
        if error > ASPECT_TOLERANCE and not only_rounded(size, display):
            problems.append(f"{stream.home}: {size} is {float(100 * error):.2f} % off")
    return problems, f"{float(100 * worst):.2f} % off at most"


@rule("frame-rate-limit", "Apple 1.19", shows)
def _frame_rate_limit(found: Found) -> tuple[Problems, str]:
    """At most 60 pictures a second; a copy may jitter 0.1 % above."""
    problems = []
    fastest = Fraction(0)
    for stream in found.pictures:
        rate = rate_of(found, stream)
        fastest = max(fastest, rate)
        limit = MAX_ENCODED_RATE if found.constant else MAX_COPIED_RATE
        if rate > limit:
            problems.append(f"{stream.home}: {float(rate):.3f} pictures a second")
    return problems, f"{float(fastest):.3f} pictures a second"
