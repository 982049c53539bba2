"""Which of two proxies follows the scores better."""

from dataclasses import dataclass
from math import nan, sqrt
from typing import Literal

import numpy as np
from scipy.stats import kendalltau, t

from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import FloatArray
from evalsuite.stats.rank import percentile_interval
from evalsuite.stats.rows import pearson_rows, rho_rows

Verdict = Literal["indistinguishable", "first", "second", "undecided", "too few quants"]

SAME_ORDER = 0.95
"""From this τ_b on the proxies order the quants so alike that asking which is better is idle."""
MIN_QUANTS = 8
MIN_FOR_SWAP = 12
"""With fewer quants the swap test rejects too often (10 % at n = 8)."""


@dataclass(frozen=True)
class Contest:
    """Two proxies on one task. `delta` is |ρ₁| − |ρ₂| (Spearman); what was not computed is NaN.

    The interval of `delta` decides. Williams' test compares Pearson's correlations; `swap_p` comes from exchanging the
    proxies' values quant by quant.
    """

    tau: float
    delta: Estimate
    williams_t: float
    williams_p: float
    swap_p: float
    verdict: Verdict


def contest(
    first: FloatArray,
    second: FloatArray,
    scores: FloatArray,
    drawn: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    swaps: int = 9999,
) -> Contest:
    """Compare two proxies, K values each, larger for more damage and ln x where x is a KLD or a ratio.

    `drawn` holds Spearman's ρ of either proxy with the scores in the same draws of quants and items (and chunks); without
    it there is no interval and no winner. Below 8 quants, or when τ_b between the proxies is .95 or more, nothing else
    is computed.
    """
    n = len(scores)
    tau = float(kendalltau(first, second).statistic) if n > 1 else nan
    if n < MIN_QUANTS:
        return _unfought(tau, n, "too few quants", f"n = {n}: no contest below {MIN_QUANTS} quants")
    if tau >= SAME_ORDER:
        return _unfought(tau, n, "indistinguishable", f"τ_b between the proxies is at least {SAME_ORDER}")
    if not min(map(np.ptp, (first, second, scores))) > 0:
        return _unfought(tau, n, "undecided", "all values of a proxy or all scores are equal")
    value = float(_advantage(first, second, scores))
    low, high = map(float, percentile_interval(np.abs(drawn[0]) - np.abs(drawn[1]))) if drawn else (nan, nan)
    verdict: Verdict = "first" if low > 0 else "second" if high < 0 else "undecided"
    williams_t, williams_p = williams(*_pearson(first, second, scores), n)
    swap_p = _swap_test(first, second, scores, rng, swaps) if n >= MIN_FOR_SWAP else nan
    return Contest(tau, Estimate(value, low, high, n), williams_t, williams_p, swap_p, verdict)


def williams(r12: float, r13: float, r23: float, n: int) -> tuple[float, float]:
    """Return Williams' t (1959) for two dependent correlations that share variable 1, and its two-sided p on n − 3 df.

    r12 and r13 are compared, r23 is the correlation of the two others. NaN where that is 1 or −1.
    """
    if n <= 3 or 1 - r23**2 < 1e-12:
        return nan, nan
    determinant = 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23
    variance = 2 * (n - 1) / (n - 3) * determinant + ((r12 + r13) / 2) ** 2 * (1 - r23) ** 3
    if variance <= 0:
        return nan, nan
    statistic = (r12 - r13) * sqrt((n - 1) * (1 + r23) / variance)
    return statistic, float(2 * t.sf(abs(statistic), n - 3))


def _unfought(tau: float, n: int, verdict: Verdict, note: str) -> Contest:
    return Contest(tau, Estimate(nan, nan, nan, n, (note,)), nan, nan, nan, verdict)


def _advantage(first: FloatArray, second: FloatArray, scores: FloatArray) -> FloatArray:
    return np.asarray(np.abs(rho_rows(first, scores)) - np.abs(rho_rows(second, scores)))


def _pearson(first: FloatArray, second: FloatArray, scores: FloatArray) -> tuple[float, float, float]:
    return (
        float(pearson_rows(scores, first)),
        float(pearson_rows(scores, second)),
        float(pearson_rows(first, second)),
    )


def _swap_test(
    first: FloatArray, second: FloatArray, scores: FloatArray, rng: np.random.Generator, swaps: int
) -> float:
    """Return the two-sided p-value of |ρ₁| − |ρ₂| when each quant's z-scored values change sides with probability ½."""
    first, second = ((x - x.mean()) / x.std() for x in (first, second))
    swap = rng.random((swaps, len(scores))) < 0.5
    null = _advantage(np.where(swap, second, first), np.where(swap, first, second), scores)
    observed = abs(float(_advantage(first, second, scores)))
    return float((1 + np.count_nonzero(np.abs(null) >= observed - 1e-12)) / (1 + swaps))
