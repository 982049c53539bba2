"""The mean of values that may come in clusters of dependent samples."""

from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from evalsuite.stats.estimate import Estimate, undefined

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_CLUSTERS = 10
"""Fewer clusters than this give no interval: the spread between them is not known well enough."""


def cluster_sums(values: FloatArray, clusters: IntArray | None) -> FloatArray:
    """Sum the values of each cluster; without clusters every value stands alone."""
    if clusters is None:
        return values
    _, codes = np.unique(clusters, return_inverse=True)
    return np.bincount(codes, weights=values).astype(np.float64)


def weighted_values(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return values whose plain mean is the weighted mean of `values`, v + (w − 1)(v − v̄) with w the weights over their mean.

    Their spread is that of the linearised ratio (Cochran 1977, §6.4), so what resamples them or takes their standard error
    asks about the weighted mean. NaN stay NaN, and their weights do not count.
    """
    known = ~np.isnan(values)
    found = values.copy()
    if known.any():
        kept, shares = values[known], weights[known] / weights[known].mean()
        found[known] = kept + (shares - 1) * (kept - (shares * kept).mean())
    return found


def clustered_se(values: FloatArray, clusters: IntArray | None = None) -> float:
    """Return the cluster-robust standard error of the mean, √(C/(C−1) · Σ_c (Σ_{j∈c} (v_j − v̄))²) / N.

    Without clusters this is sd/√N. NaN below two clusters.
    """
    sums = cluster_sums(values - values.mean(), clusters)
    count = len(sums)
    return nan if count < 2 else sqrt(count / (count - 1) * float(sums @ sums)) / len(values)


def clustered_mean(values: FloatArray, clusters: IntArray | None = None, level: float = 0.95) -> Estimate:
    """Return the mean with a t interval on C − 1 degrees of freedom, C the number of clusters."""
    n = len(values)
    if n == 0:
        return undefined(0, "no scored sample")
    mean = float(values.mean())
    count = n if clusters is None else len(np.unique(clusters))
    if count < MIN_CLUSTERS:
        kind = "samples" if clusters is None else "clusters"
        return Estimate(mean, nan, nan, n, (f"{count} {kind}: no interval below {MIN_CLUSTERS}",))
    half = float(t.ppf((1 + level) / 2, count - 1)) * clustered_se(values, clusters)
    notes = () if half > 0 else ("all values are equal: the interval has no width",)
    return Estimate(mean, mean - half, mean + half, n, notes)
