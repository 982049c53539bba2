"""The score of one quant on one task."""

from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray, clustered_mean


def wilson(right: int, n: int, level: float = 0.95) -> Estimate:
    """Return the share `right / n` with Wilson's score interval (1927)."""
    if n == 0:
        return undefined(0, "no scored sample")
    interval = binomtest(right, n).proportion_ci(level, method="wilson")
    return Estimate(right / n, float(interval.low), float(interval.high), n)


def mean_score(values: FloatArray, clusters: IntArray | None = None, *, binary: bool) -> Estimate:
    """Return the mean of scores in [0, 1]: Wilson for independent right-or-wrong samples, else a clustered t interval.

    Where all scores are 0 or all are 1 the t interval has no width; then each cluster counts as one right-or-wrong
    sample.
    """
    if binary and clusters is None:
        return wilson(int(values.sum()), len(values))
    estimate = clustered_mean(values, clusters)
    if estimate.low == estimate.high and estimate.value in {0.0, 1.0}:
        count = estimate.n if clusters is None else len(np.unique(clusters))
        return replace(
            wilson(round(estimate.value * count), count), n=estimate.n, notes=("Wilson interval over clusters",)
        )
    return replace(estimate, low=float(np.clip(estimate.low, 0, 1)), high=float(np.clip(estimate.high, 0, 1)))
