"""Rank agreement between a proxy and a score over a handful of quants."""

from dataclasses import dataclass
from functools import lru_cache
from math import atanh, factorial, nan, sqrt, tanh
from typing import Literal

import numpy as np
from scipy.stats import kendalltau, norm, permutation_test, rankdata, spearmanr

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray

Method = Literal["spearman", "kendall"]

EXACT_UP_TO = 9
"""Largest n at which all n! pairings are enumerated."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ or Kendall's τ_b, and the two-sided p-value of no association (NaN where n allows no test)."""

    estimate: Estimate
    p: float


def correlate(x: FloatArray, y: FloatArray, method: Method) -> RankCorrelation:
    """Return what n points allow one to say: nothing up to 3, τ_b alone up to 5, no interval up to 7, all from 8 on.

    The p-value is exact over all pairings up to n = 9 and scipy's above. The interval asks about other quants like
    these.
    """
    n = len(x)
    if n <= 3:
        return RankCorrelation(undefined(n, f"n = {n}: too few quants for a rank correlation"), nan)
    if n <= 5 and method == "spearman":
        return RankCorrelation(undefined(n, f"n = {n}: below 6 quants only Kendall's τ_b is given"), nan)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(undefined(n, "all values of one side are equal"), nan)
    value, p = _scipy(x, y, method)
    low, high, notes = _interval(value, n, method)
    if n <= 5:
        return RankCorrelation(Estimate(value, low, high, n, (*notes, f"n = {n}: no test below 6 quants")), nan)
    if n <= EXACT_UP_TO:
        p = _exact_p(x, y, value, method)
    return RankCorrelation(Estimate(value, low, high, n, notes), p)


def bonett_wright(rho: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of Spearman's ρ, tanh(atanh ρ ± z·√((1 + ρ²/2)/(n − 3))) (Bonett & Wright 2000)."""
    half = float(norm.ppf((1 + level) / 2)) * sqrt((1 + rho**2 / 2) / (n - 3))
    return tanh(atanh(rho) - half), tanh(atanh(rho) + half)


def _interval(value: float, n: int, method: Method) -> tuple[float, float, tuple[str, ...]]:
    if n < 8:
        return nan, nan, (f"n = {n}: no interval below 8 quants",)
    if method == "kendall":
        return nan, nan, ("the interval is given with Spearman's ρ",)
    if abs(value) == 1:
        return nan, nan, ("no interval at a perfect rank correlation",)
    return *bonett_wright(value, n), (f"n = {n}: a wide interval",) if n < 12 else ()


def _scipy(x: FloatArray, y: FloatArray, method: Method) -> tuple[float, float]:
    result = spearmanr(x, y) if method == "spearman" else kendalltau(x, y)
    value = float(result.statistic)
    # The last bit of a division must not make a perfect order imperfect.
    return round(value) if abs(abs(value) - 1) < 1e-12 else value, float(result.pvalue)


def _exact_p(x: FloatArray, y: FloatArray, value: float, method: Method) -> float:
    # Only the ties shape the null distribution, so nearly all proxies and tasks of a sweep share one.
    null = _null(tuple(np.sort(rankdata(x))), tuple(np.sort(rankdata(y))), method)
    # The observed pairing is one of those enumerated; the slack keeps it in when the sums differ in the last bit.
    return float(np.mean(np.abs(null) >= abs(value) - 1e-9))


@lru_cache(maxsize=64)
def _null(x: tuple[float, ...], y: tuple[float, ...], method: Method) -> FloatArray:
    """Return the coefficient at every pairing of two vectors of ranks."""
    statistic = _vectorised_rho if method == "spearman" else _vectorised_tau
    result = permutation_test(
        (np.array(x),),
        lambda permuted, axis: statistic(np.moveaxis(permuted, axis, -1), np.array(y)),
        permutation_type="pairings",
        n_resamples=factorial(len(x)),
        vectorized=True,
        batch=20_000,
    )
    return np.asarray(result.null_distribution)


def _vectorised_rho(x: FloatArray, y: FloatArray) -> FloatArray:
    centred = y - y.mean()
    return np.asarray((x @ centred) / (len(y) * x.std(axis=-1) * y.std()))


def _vectorised_tau(x: FloatArray, y: FloatArray) -> FloatArray:
    first, second = np.triu_indices(len(y), 1)
    signs_x, signs_y = np.sign(x[..., first] - x[..., second]), np.sign(y[first] - y[second])
    return np.asarray((signs_x @ signs_y) / np.sqrt((signs_x**2).sum(axis=-1) * (signs_y**2).sum()))
