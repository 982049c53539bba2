"""Intervals of many differences at once, and the proof that a difference is too small to matter."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from evalsuite.stats.mean import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

MARGIN = 0.01
"""Differences inside ±1 point count as equivalent."""

_HALVINGS = 45


def tost(low: FloatArray, high: FloatArray, margin: float = MARGIN) -> BoolArray:
    """Tell which differences are shown to lie inside (−margin, margin): two one-sided tests at 5 % (Schuirmann 1987).

    `low` and `high` are the limits of the 90 % intervals. Where these are NaN nothing is shown.
    """
    return np.asarray((low > -margin) & (high < margin))


def tango_limits(
    n: FloatArray | IntArray, gained: FloatArray | IntArray, lost: FloatArray | IntArray, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the limits of Tango's score intervals (1998) of (gained − lost)/n, all by one bisection; NaN where n is 0."""
    counts, where = np.unique(np.stack((n, gained, lost)).astype(np.float64), axis=1, return_inverse=True)
    n, gained, lost = counts
    # The upper limit is the lower one of the quants in the other order.
    limits = _tango_low(np.tile(n, 2), np.append(gained, lost), np.append(lost, gained), float(ndtri((1 + level) / 2)))
    low, high = np.split(limits, 2)
    return low[where], -high[where]


def _tango_low(n: FloatArray, gained: FloatArray, lost: FloatArray, z: float) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.full(len(n), -1.0), (gained - lost) / n
        for _ in range(_HALVINGS):
            delta = (low + high) / 2
            linear = (2 * n - gained + lost) * delta - gained - lost
            nuisance = (np.sqrt(np.maximum(linear**2 + 8 * n * lost * delta * (1 - delta), 0)) - linear) / (4 * n)
            variance = n * (2 * nuisance + delta * (1 - delta))
            # The score falls in delta, so a score above z lies below the limit.
            below = gained - lost - n * delta > z * np.sqrt(np.maximum(variance, 0))
            low, high = np.where(below, delta, low), np.where(below, high, delta)
    return np.where(n > 0, (low + high) / 2, np.nan)
