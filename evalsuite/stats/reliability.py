"""How well noisy scores and noisy proxies could agree at best: the noise ceiling.

The error of a set of means is kept as its covariance matrix (quants × quants), from which every subset of the quants gets its
own reliability. What all quants share, such as an item or a chunk that is hard for every one of them, moves no contrast
between them and counts as no error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import nan, sqrt

import numpy as np
from scipy.stats import chi2

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray, cluster_sums

MIN_RELIABILITY = 0.3
"""A correlation is corrected for noise only where the lower limit of the scores' reliability lies above this."""

MIN_UNITS = 8
"""Fewer samples, clusters or chunks give no error. An interval needs more; e² is a mean over all pairs of quants."""

SPLITS = 100


@dataclass(frozen=True)
class Measured:
    """The means of K quants (K) and the covariance of their errors (K × K, NaN where it is not known)."""

    values: FloatArray
    covariance: FloatArray

    def of(self, quants: IntArray) -> "Measured":
        """Return the same for some of the quants, by index."""
        return Measured(self.values[quants], self.covariance[np.ix_(quants, quants)])


def measure(values: FloatArray, clusters: IntArray | None = None) -> Measured:
    """Return the quants' means over the common columns of `values`, quants × samples or quants × chunks.

    Only columns without NaN count. With `clusters` (an integer a column) the covariance is cluster-robust. It is unknown
    below 8 samples, clusters or chunks.
    """
    common = ~np.isnan(values).any(axis=0)
    kept = values[:, common]
    n, unknown = kept.shape[1], np.full((len(values), len(values)), nan)
    if n == 0:
        return Measured(np.full(len(values), nan), unknown)
    means = kept.mean(axis=1)
    groups = None if clusters is None else clusters[common]
    sums = np.array([cluster_sums(row, groups) for row in kept - means[:, np.newaxis]])
    units = sums.shape[1]
    return Measured(means, units / (units - 1) * (sums @ sums.T) / n**2 if units >= MIN_UNITS else unknown)


def measure_log(chunks: FloatArray) -> Measured:
    """Return the logarithms of the quants' means over the common chunks (quants × chunks); NaN where a mean is not positive.

    The covariance is that of the influences v_kc / x_k − 1 (delta method).
    """
    plain = measure(chunks)
    means = np.where(plain.values > 0, plain.values, nan)
    return Measured(np.log(means), plain.covariance / np.outer(means, means))


def mean_measured(tasks: Sequence[Measured]) -> Measured:
    """Return the mean of several tasks without common samples, each of which weighs the same."""
    return Measured(
        np.mean([task.values for task in tasks], axis=0),
        np.sum([task.covariance for task in tasks], axis=0) / len(tasks) ** 2,
    )


def contrast_error(measured: Measured) -> float:
    """Return e², the mean over the pairs of quants of half the variance of their difference; NaN below two quants."""
    quants = len(measured.values)
    if quants < 2:
        return nan
    trace, total = float(np.trace(measured.covariance)), float(measured.covariance.sum())
    return max(trace / quants - (total - trace) / (quants * (quants - 1)), 0.0)


def reliability(measured: Measured) -> Estimate:
    """Return the share of the quants' variance that is no error, 1 − e²/Var (ddof 1), with its 95 % interval.

    The limits are 1 − e²·χ²/((K − 1)·Var) at both tails of χ² on K − 1 degrees of freedom. What is negative is given as 0.
    """
    quants = len(measured.values)
    error = contrast_error(measured)
    if np.isnan(error):
        return undefined(quants, "the error of the values is not known: no reliability")
    variance = float(measured.values.var(ddof=1))
    if variance < 1e-24:
        return undefined(quants, "all values are equal: no reliability")
    low, high = 1 - error / variance * _tails(quants - 1) / (quants - 1)
    notes = ("the values vary less than their errors alone would make them",) if error > variance else ()
    return Estimate(max(1 - error / variance, 0.0), max(float(low), 0.0), max(float(high), 0.0), quants, notes)


@cache
def _tails(freedom: int) -> FloatArray:
    """Return the upper and the lower 2.5 % point of χ²; range curves ask for the same few over and over."""
    return np.asarray(chi2.ppf([0.975, 0.025], freedom))


def ceiling(scores: Estimate, proxy: Estimate | None = None) -> Estimate:
    """Return √(Rel_s · Rel_x), about the |ρ| that a perfect proxy would show here; limits likewise.

    Without a reliability of the proxy its values are taken as exact, and a note says so. Observed coefficients scatter around
    the ceiling; it is no bound.
    """
    if proxy is None or np.isnan(proxy.value):
        exact = Estimate(1.0, 1.0, 1.0, scores.n, ("the proxy's own noise is unknown and taken as none",))
        return ceiling(scores, exact)
    value, low, high = (
        sqrt(of_scores * of_proxy)
        for of_scores, of_proxy in (
            (scores.value, proxy.value), (scores.low, proxy.low), (scores.high, proxy.high),
        )
    )  # fmt: skip
    return Estimate(value, low, high, scores.n, (*scores.notes, *proxy.notes))


def disattenuated(pearson: float, scores: Estimate, proxy: Estimate) -> Estimate:
    """Return Pearson's r / √(Rel_s · Rel_x), without an interval, clipped at ±1 with a note (Spearman 1904).

    Undefined unless the lower limit of the scores' reliability lies above .3. Never meant for a rank coefficient.
    """
    if not (scores.low > MIN_RELIABILITY and proxy.value > 0):
        return undefined(
            scores.n, f"the scores' reliability is not surely above {MIN_RELIABILITY}: no correction for noise"
        )
    value = pearson / sqrt(scores.value * proxy.value)
    notes = ("clipped: the correction went beyond ±1",) if abs(value) > 1 else ()
    return Estimate(min(max(value, -1.0), 1.0), nan, nan, scores.n, notes)


def split_half(
    values: FloatArray, rng: np.random.Generator, clusters: IntArray | None = None, splits: int = SPLITS
) -> Estimate:
    """Return the reliability by Spearman and Brown (1910), 2r/(1 + r), r the pooled correlation of random halves.

    A cross-check of `reliability` for values quants × samples. A cluster goes to one half as a whole.
    """
    quants = len(values)
    common = ~np.isnan(values).any(axis=0)
    kept = values[:, common]
    codes = np.arange(kept.shape[1]) if clusters is None else np.unique(clusters[common], return_inverse=True)[1]
    units = int(codes.max(initial=-1)) + 1
    if quants < 3 or units < MIN_UNITS:
        return undefined(quants, f"{quants} quants, {units} samples or clusters: no split half")
    first = (rng.random((splits, units)).argsort(axis=1) < units // 2)[:, codes].astype(np.float64)
    halves = [half @ kept.T / half.sum(axis=1, keepdims=True) for half in (first, 1 - first)]
    one, other = (half - half.mean(axis=1, keepdims=True) for half in halves)
    spread = float(np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1)).sum())
    if spread < 1e-12:
        return undefined(quants, "all values are equal: no reliability")
    r = float((one * other).sum()) / spread
    return Estimate(max(2 * r / (1 + r), 0.0), nan, nan, quants)


def snr(measured: Measured) -> float:
    """Return (max − min)/e, how far the quants' scores lie apart in contrast errors; NaN without an error above 0."""
    error = contrast_error(measured)
    return float(np.ptp(measured.values)) / sqrt(error) if error > 0 else nan


def live_share(scores: FloatArray) -> float:
    """Return the share of common samples whose score is not the same for all rows (the reference among them)."""
    common = scores[:, ~np.isnan(scores).any(axis=0)]
    return float(np.mean(np.ptp(common, axis=0) > 0)) if common.size else nan
