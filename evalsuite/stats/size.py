"""What a proxy says beyond the file's size."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy.stats import t

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.rank import percentile_interval
from evalsuite.stats.rows import rho_rows

MIN_QUANTS = 10
MIN_UNEXPLAINED = 0.1
"""With a smaller share of the proxy's ranks left unexplained by size, a partial correlation is noise divided by nearly 0."""


@dataclass(frozen=True)
class Partial:
    """A partial rank correlation over n quants with its two-sided p-value by t on n − 3 degrees of freedom."""

    rho: float
    p: float
    n: int
    notes: tuple[str, ...] = ()


def at_equal_size(
    sizes: FloatArray, proxy: FloatArray, scores: FloatArray, rng: np.random.Generator, draws: int = 2000
) -> Estimate:
    """Return Spearman's ρ between what size leaves unexplained of the scores and of the proxy, K quants each.

    Size is taken out by isotonic curves, scores rising and the proxy falling with it; `proxy` is larger for more damage,
    ln x where x is a KLD or a ratio. The percentile interval draws quants again and fits both curves to each draw; fixed
    residuals would give an interval that is too short.
    """
    n = len(sizes)
    if n < MIN_QUANTS:
        return undefined(n, f"n = {n}: no size adjustment below {MIN_QUANTS} quants")
    drawn = np.vstack((np.arange(n), rng.integers(n, size=(draws, n))))
    rho = rho_rows(-_residuals(sizes, -proxy, drawn), _residuals(sizes, scores, drawn))
    if np.isnan(rho[0]):
        return undefined(n, "beside size nothing is left of the proxy or of the scores")
    low, high = map(float, percentile_interval(rho[1:]))
    return Estimate(float(rho[0]), low, high, n)


def partial_at_size(sizes: FloatArray, proxy: FloatArray, scores: FloatArray) -> Partial:
    """Return the rank correlation of proxy and scores given size, refused where size leaves too little of the proxy."""
    n = len(sizes)
    if n < MIN_QUANTS:
        return Partial(nan, nan, n, (f"n = {n}: no size adjustment below {MIN_QUANTS} quants",))
    if not min(map(np.ptp, (sizes, proxy, scores))) > 0:
        return Partial(nan, nan, n, ("all sizes, proxies or scores are equal",))
    r_xy, r_xz, r_yz = (float(rho_rows(a, b)) for a, b in ((proxy, scores), (proxy, sizes), (scores, sizes)))
    if not 1 - r_xz**2 >= MIN_UNEXPLAINED:
        return Partial(nan, nan, n, (f"size leaves {1 - r_xz**2:.3f} of the proxy's ranks: no partial correlation",))
    if not abs(r_yz) < 1:
        return Partial(nan, nan, n, ("size leaves nothing of the scores' ranks: no partial correlation",))
    rho = float(np.clip(partial_rank(r_xy, r_xz, r_yz), -1, 1))
    with np.errstate(divide="ignore"):  # a perfect correlation: t is infinite and p is 0
        statistic = abs(rho) * np.sqrt((n - 3) / np.subtract(1, rho**2))
    return Partial(rho, float(2 * t.sf(statistic, n - 3)), n)


def partial_rank(r_xy: float, r_xz: float, r_yz: float) -> float:
    """Return the correlation of x and y given z, (r_xy − r_xz·r_yz)/√((1 − r_xz²)(1 − r_yz²))."""
    return (r_xy - r_xz * r_yz) / sqrt((1 - r_xz**2) * (1 - r_yz**2))


def isotonic_rows(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the rising step function closest to each row of values (… × G), max over a ≤ i of min over b ≥ i of mean a…b.

    Entries of weight 0 have no fit of their own and hold anything.
    """
    total = np.cumsum(np.concatenate((np.zeros((*values.shape[:-1], 1)), weights * values), axis=-1), axis=-1)
    weight = np.cumsum(np.concatenate((np.zeros((*values.shape[:-1], 1)), weights), axis=-1), axis=-1)
    groups = values.shape[-1]
    fit = np.full(values.shape, -np.inf)
    for a in range(groups):
        with np.errstate(divide="ignore", invalid="ignore"):
            means = (total[..., a + 1 :] - total[..., [a]]) / (weight[..., a + 1 :] - weight[..., [a]])
        means[np.isnan(means)] = np.inf
        lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        fit[..., a:] = np.maximum(fit[..., a:], lowest)
    return fit


def _residuals(sizes: FloatArray, values: FloatArray, drawn: IntArray) -> FloatArray:
    """Return values less their rising curve over size, fitted to each draw of quants (draws × K indices)."""
    distinct, group = np.unique(sizes, return_inverse=True)
    group, values = group[drawn], values[drawn]
    cell = group + np.arange(len(drawn))[:, np.newaxis] * len(distinct)
    shape = len(drawn), len(distinct)
    weights = np.bincount(cell.ravel(), minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    sums = np.bincount(cell.ravel(), values.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    fit = isotonic_rows(sums / np.maximum(weights, 1), weights)
    # A quant on the curve has no residual, whatever the last bit of a mean says.
    return np.round(values - np.take_along_axis(fit, group, axis=1), 12)
