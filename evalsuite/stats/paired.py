"""Two quants on the same samples: the difference of their scores, its interval, its test and its power."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest, t

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray, cluster_sums, clustered_mean, clustered_se

POWER = 0.8
MAX_SIGN_FLIPS = 16
"""Up to this many changed samples (or clusters) all sign patterns are enumerated: 2¹⁶ of them."""


@dataclass(frozen=True)
class Paired:
    """How b differs from a on the samples both have a score for.

    `delta` is score(b) − score(a), in score units (0.01 = one point). `gained` counts samples where b scored higher,
    `lost` where it scored lower. `p` is two-sided, by `test`; `p_midp` is McNemar's mid-p, NaN for another test.
    """

    delta: Estimate
    gained: int
    lost: int
    test: str
    p: float
    p_midp: float


def compare(a: FloatArray, b: FloatArray, clusters: IntArray | None = None, *, binary: bool) -> Paired:
    """Compare b with a, item by item; a sample that is NaN in either is left out.

    Right-or-wrong samples that do not depend on each other get McNemar's exact test and Tango's interval. Graded
    scores and clusters get a clustered t interval, tested by flipping the signs of the changed clusters, exactly where
    these are few.
    """
    difference, kept = differences(a, b, clusters)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    if binary and clusters is None:
        delta = tango(len(difference), gained, lost)
        return Paired(delta, gained, lost, "exact McNemar", mcnemar_exact(lost, gained), mcnemar_midp(lost, gained))
    delta, (test, p) = graded_delta(difference, kept), graded_p(difference, kept)
    return Paired(delta, gained, lost, test, p, nan)


def differences(a: FloatArray, b: FloatArray, clusters: IntArray | None) -> tuple[FloatArray, IntArray | None]:
    """Return b − a for the samples with a score in both, and the clusters of these."""
    scored = ~(np.isnan(a) | np.isnan(b))
    return b[scored] - a[scored], None if clusters is None else clusters[scored]


def mean_p(pairs: Sequence[tuple[FloatArray, IntArray | None]]) -> tuple[str, float]:
    """Return the name and the two-sided p-value of the test that the mean of several tasks' mean differences is 0.

    Each pair is what `differences` gives. Under the null a changed sample (or cluster) could as well have changed the
    other way, so its sign is flipped: exactly where few changed, else by the normal distribution with the variance of
    the flips.
    """
    sums = np.concatenate([cluster_sums(difference, clusters) / len(difference) for difference, clusters in pairs])
    changed = sums[np.abs(sums) > 1e-12]
    if len(changed) <= MAX_SIGN_FLIPS:
        return "exact sign flip", sign_flip_p(changed)
    return "sign flip", float(2 * ndtr(-abs(changed.sum()) / sqrt(changed @ changed)))


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return McNemar's exact two-sided p-value, min(1, 2·P(X ≤ min(l, g))) with X ~ Bin(l + g, ½)."""
    return float(binomtest(min(lost, gained), lost + gained).pvalue) if lost + gained else 1.0


def mcnemar_midp(lost: int, gained: int) -> float:
    """Return McNemar's two-sided mid-p (Fagerland, Lydersen & Laake 2013), less conservative than the exact p."""
    if lost == gained:
        return 1.0
    fewer, changed = min(lost, gained), lost + gained
    return float(2 * binom.cdf(fewer, changed, 0.5) - binom.pmf(fewer, changed, 0.5))


def tango(n: int, gained: int, lost: int, level: float = 0.95) -> Estimate:
    """Return (gained − lost) / n with Tango's score interval (1998), which keeps a width when nothing changed."""
    if n == 0:
        return undefined(0, "no sample scored in both")
    z = float(ndtri((1 + level) / 2))
    value = (gained - lost) / n

    def score(delta: float) -> float:
        linear = (2 * n - gained + lost) * delta - gained - lost
        nuisance = (sqrt(max(linear**2 + 8 * n * lost * delta * (1 - delta), 0)) - linear) / (4 * n)
        variance = n * (2 * nuisance + delta * (1 - delta))
        return (gained - lost - n * delta) / sqrt(max(variance, 1e-300))

    # The score falls from +∞ to −∞ over (−1, 1) and is 0 at the estimate, where both searches start.
    edge = 1 - 1e-12
    low = -1.0 if value <= -edge else float(brentq(lambda delta: score(delta) - z, -edge, value))
    high = 1.0 if value >= edge else float(brentq(lambda delta: score(delta) + z, value, edge))
    return Estimate(value, low, high, n)


def graded_delta(difference: FloatArray, clusters: IntArray | None = None) -> Estimate:
    """Return the mean difference with a clustered t interval; if nothing changed, Tango's over clusters."""
    estimate = clustered_mean(difference, clusters)
    if estimate.low == estimate.high == 0:
        unchanged = tango(len(cluster_sums(difference, clusters)), 0, 0)
        return replace(unchanged, n=estimate.n, notes=("no score changed: Tango's interval over clusters",))
    return estimate


def graded_p(difference: FloatArray, clusters: IntArray | None = None) -> tuple[str, float]:
    """Return the name and the two-sided p-value of the test that the differences have mean 0."""
    sums = cluster_sums(difference, clusters)
    changed = sums[np.abs(sums) > 1e-12]
    if len(changed) <= MAX_SIGN_FLIPS:
        return "exact sign flip", sign_flip_p(changed)
    statistic = float(difference.mean()) / clustered_se(difference, clusters)
    return "paired t" if clusters is None else "clustered t", float(2 * t.sf(abs(statistic), len(sums) - 1))


def sign_flip_p(sums: FloatArray) -> float:
    """Return the share of all sign patterns whose sum is at least as far from 0 as the one observed."""
    patterns = np.arange(2 ** len(sums))[:, np.newaxis] >> np.arange(len(sums)) & 1
    totals = np.abs((2 * patterns - 1) @ sums)
    return float(np.mean(totals >= abs(sums.sum()) - 1e-12))


def connor_n(delta: float, discordance: float, alpha: float = 0.05) -> float:
    """Return the n that finds `delta` with 80 % power when a share `discordance` of samples changes (Connor 1987)."""
    z_alpha, z_power = float(ndtri(1 - alpha / 2)), float(ndtri(POWER))
    return ((z_alpha * sqrt(discordance) + z_power * sqrt(discordance - delta**2)) / delta) ** 2


def mde(n: int, discordance: float, alpha: float = 0.05) -> float:
    """Return the smallest difference that n samples find with 80 % power, NaN if even 1 is not found.

    Connor's formula, solved for the difference. At least as many samples must change as the difference says, so a pair
    without a single changed sample still has an MDE, about 7.8 / n.
    """

    def missing(delta: float) -> float:
        return connor_n(delta, max(discordance, delta), alpha) - n

    return nan if n == 0 or missing(1.0) > 0 else float(brentq(missing, 1e-6, 1.0))


def mde_of_interval(delta: Estimate, alpha: float = 0.05) -> float:
    """Return the smallest difference found with 80 % power, (z_{1−α/2} + z_{.8})·SE, SE from the 95 % interval."""
    z_95, z_alpha, z_power = ndtri([0.975, 1 - alpha / 2, POWER])
    return float((z_alpha + z_power) * (delta.high - delta.low) / (2 * z_95))
