"""Pure: how loud sound is, and what brings it to the loudness that was asked for.

Loudness is that of ITU-R BS.1770-4 and its range that of EBU Tech 3342, as FFmpeg's `ebur128`
measures them. Sound is raised or lowered as a whole (EBU R 128), so that what is quiet in it stays
so; only peaks that this would bring above `TRUE_PEAK_DBTP` are held down by a limiter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from telecine.engine.errors import StepFailed
from telecine.engine.serial import from_plain, to_plain

TRUE_PEAK_DBTP = -1.0  # the most that EBU R 128 permits
TOLERANCE_LU = 0.5

# What is quieter than this is left so: it is noise between a few sounds, or nearly silence.
MAX_GAIN_DB = 24.0

# AAC's peaks come out higher than they went in, by up to so much: nearer than this to the bound,
# what was encoded is listened to before it counts.
ENCODER_OVERSHOOT_DB = 3.0
FIRST_CEILING_DBTP = -1.5  # for the limiter, before it is known what the encoder adds
SETTLED_LU = 0.1
SPARE_DB = 0.3  # the next encode quantises otherwise

GAINS = "loudness.json"  # in the working folder


@dataclass(frozen=True, slots=True)
class Loudness:
    """None is silence: nothing above the gate of -70 LUFS, no peak at all."""

    integrated_lufs: float | None
    range_lu: float
    true_peak_dbtp: float | None

    def __str__(self) -> str:
        if self.integrated_lufs is None:
            return "silence"
        peak = "" if self.true_peak_dbtp is None else f", peak {self.true_peak_dbtp:.1f} dBTP"
        return f"{self.integrated_lufs:.1f} LUFS{peak}"


def on_target(heard: Loudness, target_lufs: float) -> bool:
    if heard.integrated_lufs is None or heard.true_peak_dbtp is None:
        return False
    off_lu = abs(heard.integrated_lufs - target_lufs)
    return off_lu <= TOLERANCE_LU and heard.true_peak_dbtp <= TRUE_PEAK_DBTP


@dataclass(frozen=True, slots=True)
class Gain:
    """What is done to a sound: `gain_db`, then peaks are held under `ceiling_dbtp`, if any."""

    gain_db: float
    ceiling_dbtp: float | None = None


AS_IT_IS = Gain(0.0)


@dataclass(frozen=True, slots=True)
class Level:
    """A sound by its name, as it was measured. `gain_db` is by how much it is then raised, where
    that was decided by it."""

    name: str
    loudness: Loudness
    gain_db: float | None = None


_SUMMARY = re.compile(r"\[(?:Parsed_)?ebur128@m(\d+)[^\]]*\] Summary:")
_FIGURE = re.compile(r"\s+(I|LRA|Peak):\s+(-?(?:\d+\.\d+|inf|nan)) (?:LUFS|LU|dBFS)")
_FIGURES = {"I", "LRA", "Peak"}
_GATE_LUFS = -70.0


class Summaries:
    """What the filters `ebur128@m0`, `ebur128@m1` … say at their end, by those numbers."""

    def __init__(self) -> None:
        self._figures: dict[int, dict[str, float]] = {}
        self._current: dict[str, float] = {}

    def take(self, line: str) -> None:
        """A line that FFmpeg says, of these filters or of anything else."""
        if found := _SUMMARY.search(line):
            self._current = self._figures.setdefault(int(found[1]), {})
        elif found := _FIGURE.match(line):
            self._current[found[1]] = float(found[2])

    def found(self, count: int) -> list[Loudness]:
        """The loudness of so many sounds, in their order. Raises `StepFailed` (`not_measured`)
        unless each has said all of it."""
        whole = [n for n in range(count) if self._figures.get(n, {}).keys() == _FIGURES]
        if len(whole) < count:
            raise StepFailed(f"{len(whole)} of {count} sounds were measured", code="not_measured")
        return [_loudness(**self._figures[n]) for n in whole]


def _loudness(I: float, LRA: float, Peak: float) -> Loudness:  # noqa: E741, N803  # their names
    quiet = not I > _GATE_LUFS
    return Loudness(None if quiet else I, LRA, Peak if Peak > float("-inf") else None)


def first_gain(measured: Loudness, target_lufs: float) -> Gain:
    """What brings a sound to `target_lufs`, by what it is."""
    if measured.integrated_lufs is None or measured.true_peak_dbtp is None:
        return Gain(0.0)
    gain_db = round(min(target_lufs - measured.integrated_lufs, MAX_GAIN_DB), 2)
    peak_dbtp = measured.true_peak_dbtp + gain_db
    near = peak_dbtp > TRUE_PEAK_DBTP - ENCODER_OVERSHOOT_DB
    return Gain(gain_db, FIRST_CEILING_DBTP if near else None)


def next_gain(gain: Gain, heard: Loudness, target_lufs: float) -> Gain:
    """A better one, by how the first came out of the encoder; the same where that will do."""
    assert gain.ceiling_dbtp is not None
    if heard.integrated_lufs is None or heard.true_peak_dbtp is None:
        return gain
    off_lu = round(target_lufs - heard.integrated_lufs, 2)
    if abs(off_lu) > SETTLED_LU:
        raised_db = round(min(gain.gain_db + off_lu, MAX_GAIN_DB), 2)
        gain = replace(gain, gain_db=raised_db)
    # Figures have one decimal: a tenth is what they may be off by.
    above_db = heard.true_peak_dbtp + 0.1 - TRUE_PEAK_DBTP
    if above_db > 0:
        assert gain.ceiling_dbtp is not None
        gain = replace(gain, ceiling_dbtp=round(gain.ceiling_dbtp - above_db - SPARE_DB, 2))
    return gain


def write_gains(gains: Mapping[str, Gain]) -> str:
    return json.dumps({name: to_plain(gain) for name, gain in gains.items()}, indent=1) + "\n"


def read_gains(text: str) -> dict[str, Gain]:
    """The gains that `write_gains` wrote. Raises `StepFailed` (`gains_unreadable`)."""
    try:
        return {name: from_plain(Gain, plain) for name, plain in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StepFailed(f"the gains cannot be read: {error}", code="gains_unreadable") from error
