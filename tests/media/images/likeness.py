"""SSIM twice: as the program computes it, in a process of its own, and in numpy from the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tests.media.images import apart

Grey = npt.NDArray[Any]  # height × width, 0 to 255


def ours(first: Grey, second: Grey) -> float:
    return apart._ask(_ours, first, second)


def _ours(first: Grey, second: Grey) -> float:
    import pyvips

    from telecine.engine.images.saving import ssim

    return ssim(*(pyvips.Image.new_from_array(each) for each in (first, second)))


def by_the_paper(first: Grey, second: Grey) -> float:
    """Wang et al. (2004): 11 × 11 Gaussian windows of σ = 1.5 that lie inside, K₁ = 0.01,
    K₂ = 0.03, L = 255."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2

    def mean(values: Grey) -> Grey:
        views = np.lib.stride_tricks.sliding_window_view(values, (11, 11))
        return np.asarray(np.einsum("ijkl,kl->ij", views, window))

    x, y = first.astype(float), second.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, covar = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mx * my + c1) * (2 * covar + c2)
    return float((above / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def luma(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """BT.601."""
    result: npt.NDArray[np.float64] = rgb[..., :3] @ np.array([0.299, 0.587, 0.114])
    return result
