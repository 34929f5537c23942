"""How figures are written."""

from __future__ import annotations

from fractions import Fraction


def sec(seconds: Fraction) -> str:
    return f"{float(seconds):.3f} s"


def mbps(bits: Fraction | int) -> str:
    return f"{float(bits) / 1e6:.3f} Mb/s"
