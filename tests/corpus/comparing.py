"""How far pictures and sounds of an output stand from those of its source."""

from __future__ import annotations

import math

import numpy as np
from tests.corpus.reading import SOUND_HZ, THUMB, Frames, Picture, Sound

COMPARED_S = 20.0
LAG_LIMIT_S = 1.2
PLAIN = 4.0  # grey levels of spread: less is noise on one grey
ALIKE = 0.85


def turn(picture: Picture, rotation: int, mirrored: bool) -> Picture:
    """`rotation` degrees clockwise, then flipped left to right; works on stacks of pictures."""
    turned: Picture = np.rot90(picture, -rotation // 90, axes=(-2, -1))
    return turned[..., ::-1] if mirrored else turned


def likeness(one: Picture, other: Picture) -> float:
    """Pearson's correlation: blind to brightness and contrast, which tone-mapping changes."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 1 else 0.0


def orientation_scores(picture: Picture, upright: Picture) -> tuple[float, float]:
    """How like `upright` the picture is as it stands, and at best in any of the 7 other ways."""
    small = picture.reshape(4, THUMB // 4, 4, THUMB // 4).mean(axis=(1, 3))
    ways = [(turns, mirrored) for mirrored in (False, True) for turns in (0, 90, 180, 270)]
    scores = [likeness(turn(small, *way), upright) for way in ways]
    return scores[0], max(scores[1:])


def picture_lag(source: Frames, output: Frames, step_s: float) -> float | None:
    """How much later the output shows the source's pictures, in seconds (its clocks compared).

    Every output frame is looked at in the middle of its `step_s`; the lag is the centre of the
    plateau of best agreement, so that it does not depend on how frame times were rounded.
    `None` where the pictures do not move enough to tell.
    """
    keep = output.times_s < output.times_s[0] + COMPARED_S
    times = output.times_s[keep] + step_s / 2
    shown = output.pictures[keep]
    if len(source.times_s) < 3 or len(times) < 3:
        return None
    lags = np.arange(-LAG_LIMIT_S, LAG_LIMIT_S + 0.0025, 0.005)
    costs = np.empty(len(lags))
    a = _normal(source.pictures)
    b = _normal(shown)
    for n, lag in enumerate(lags):
        at = times - lag
        inside = at >= source.times_s[0]
        index = np.clip(np.searchsorted(source.times_s, at, side="right") - 1, 0, len(a) - 1)
        costs[n] = np.abs(a[index] - b)[inside].mean() if inside.sum() >= 3 else np.inf
    floor = costs.min()
    ceiling = np.median(costs[np.isfinite(costs)])
    if not ceiling > 1.6 * floor:
        return None
    lowest = lags[costs <= floor * 1.01]
    middle = (lowest[0] + lowest[-1]) / 2
    beside = np.interp([middle - step_s, middle + step_s], lags, costs).min()
    best = lags[costs <= floor + 0.3 * (beside - floor)]
    if best[-1] - best[0] > 2 * step_s + 0.05:
        return None
    return float(best[0] + best[-1]) / 2


def _normal(pictures: Picture) -> Picture:
    """Without its mean and contrast: what stands where counts, not how bright it is."""
    level: Picture = pictures.mean(axis=(1, 2), keepdims=True)
    spread: Picture = pictures.std(axis=(1, 2), keepdims=True)
    return (pictures - level) / np.maximum(spread, 2.0)


def strange_pictures(
    source: Frames, output: Frames, lag_s: float, step_s: float
) -> tuple[int, int]:
    """How many of the output's pictures are not the source's of that time, and of how many.

    A picture of one grey says nothing and is not counted. Neighbours in time count as right: how a
    rate is changed decides which of two is shown.
    """
    at = output.times_s + step_s / 2 - lag_s
    keep = (at >= source.times_s[0]) & (at < min(COMPARED_S, source.times_s[-1] + step_s))
    strange = compared = 0
    for time_s, picture in zip(at[keep], output.pictures[keep], strict=True):
        middle = int(np.searchsorted(source.times_s, time_s, side="right")) - 1
        near = source.pictures[max(0, middle - 1) : middle + 2]
        if picture.std() < PLAIN or max(one.std() for one in near) < PLAIN:
            continue
        compared += 1
        strange += max(likeness(picture, one) for one in near) < ALIKE
    return strange, compared


def sound_lag(source: Sound, output: Sound) -> float | None:
    """How much later the output plays the source's sound, in seconds (its clocks compared).

    `None` where there is too little, or nothing that stands out (silence, a steady tone).
    """
    length = round(COMPARED_S * SOUND_HZ)
    a, b = source.samples[:length], output.samples[:length]
    if min(len(a), len(b)) < 0.25 * SOUND_HZ or min(a.std(), b.std()) < 3:
        return None
    size = 1 << (len(a) + len(b)).bit_length()
    product = np.fft.rfft(b - b.mean(), size) * np.conj(np.fft.rfft(a - a.mean(), size))
    curve = np.abs(np.fft.irfft(product, size)) / (a.std() * b.std() * min(len(a), len(b)))
    between = output.start_s - source.start_s
    lags = np.arange(-len(a) + 1, len(b))
    seconds = lags / SOUND_HZ + between
    near = np.abs(seconds) <= LAG_LIMIT_S
    values = np.where(near, curve[lags], 0)
    peak = int(values.argmax())
    rivals = values.copy()
    rivals[np.abs(seconds - seconds[peak]) < 0.005] = 0
    if values[peak] < 0.4 or rivals.max() > 0.95 * values[peak]:
        return None
    return float(seconds[peak])
