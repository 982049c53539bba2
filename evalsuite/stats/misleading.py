"""Pairs of quants that a proxy orders one way and a task the other.

First every pair is tested on each task (`pair_tests`, `unpaired_tests`) and on each proxy (`gap_p`), then `by_proxy` puts
the two together, and `judge` corrects over everything that could have been claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom, t

from evalsuite.stats.equivalence import MARGIN, BoolArray, tango_limits, tost
from evalsuite.stats.mean import MIN_CLUSTERS, FloatArray, IntArray
from evalsuite.stats.multiple import holm
from evalsuite.stats.paired import MAX_SIGN_FLIPS, POWER

MIN_CHUNKS = 16
"""Fewer chunks than this do not show that a proxy's gap is real."""


@dataclass(frozen=True)
class PairTests:
    """Pairs (first, second) of quants tested on one task; every array holds a value a pair.

    `first` and `second` are indices of quants. `delta` is score(second) − score(first) over the `n` samples both have a
    score for, NaN where there are none; `p` is its two-sided p-value. `lost` and `gained` count samples, NaN for scores
    without samples. `spread` is the mean square of a sample's difference, which decides how many samples are needed: the
    share of changed samples where these are right or wrong. `se` and `df` make the t interval and are NaN where Tango's
    interval is used; `se` is also NaN where clusters are too few for any.
    """

    first: IntArray
    second: IntArray
    n: FloatArray
    lost: FloatArray
    gained: FloatArray
    delta: FloatArray
    p: FloatArray
    spread: FloatArray
    se: FloatArray
    df: FloatArray


@dataclass(frozen=True)
class ProxyPairs:
    """The pairs of a task as a proxy orders them: it says that `first` is better than `second`.

    `p_proxy` is the one-sided p-value of that, NaN where the proxy has no chunks to test it on.
    """

    tests: PairTests
    p_proxy: FloatArray


@dataclass(frozen=True)
class Verdicts:
    """What a proxy's pairs prove on a task, a value a pair; `pairs` says which.

    `low` and `high` bound delta, each from its side, at the level of the whole family of m tests, 1 − α/m. `p` is the
    intersection–union p-value where the score contradicts the proxy, the score's own where it does not. `n_needed` is the
    number of samples that would decide an undecided pair with 80 % power, NaN where none would. `equivalent` is the TOST
    against the margin.
    """

    pairs: ProxyPairs
    low: FloatArray
    high: FloatArray
    p: FloatArray
    p_holm: FloatArray
    verdict: NDArray[np.str_]
    n_needed: FloatArray
    equivalent: BoolArray


def pair_tests(scores: FloatArray, clusters: IntArray | None = None, *, binary: bool) -> PairTests:
    """Test all pairs of K quants on a task by the rules of `paired.compare`, McNemar's mid-p in place of the exact p.

    `scores` is K × N, NaN where unscored; `clusters` N codes of dependent samples. Pairs come in the order of
    `np.triu_indices(K, 1)`.
    """
    return _binary_tests(scores) if binary and clusters is None else _graded_tests(scores, clusters)


def unpaired_tests(scores: FloatArray, n: FloatArray, se: FloatArray | None = None) -> PairTests:
    """Test all pairs of K published scores in [0, 1] as if their n samples were not the same, by the normal distribution.

    The variance of a difference is p(1 − p)(1/n + 1/n′), p the mean score, or the sum of squares of the standard errors
    where both are known. Samples answered by both quants would make it two to three times sharper.
    """
    first, second = np.triu_indices(len(scores), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = n[first], n[second]
        mean = (weights[0] * scores[first] + weights[1] * scores[second]) / (weights[0] + weights[1])
        variance = mean * (1 - mean) * (1 / weights[0] + 1 / weights[1])
        if se is not None:
            stated = se[first] ** 2 + se[second] ** 2
            variance = np.where(stated > 0, stated, variance)
        delta = scores[second] - scores[first]
        z = np.where(delta == 0, 0, delta / np.sqrt(variance))
    unknown, smaller = np.full(len(first), np.nan), np.fmin(*weights)
    return PairTests(
        first, second, smaller, unknown, unknown, delta, np.where(np.isnan(variance), np.nan, 2 * ndtr(-np.abs(z))),
        variance * smaller, np.sqrt(variance), np.full(len(first), np.inf),
    )  # fmt: skip


def gap_p(chunks: FloatArray) -> FloatArray:
    """Return, for all pairs of K quants, the one-sided p-value that the proxy is larger for the second than for the first.

    `chunks` is K × C, the proxy chunk by chunk on the same text, larger for more damage, NaN where missing: a paired t test
    over the chunks both have. NaN below 16 of them. Pairs come in the order of `np.triu_indices(K, 1)`.
    """
    first, second = np.triu_indices(len(chunks), 1)
    difference = chunks[second] - chunks[first]
    both = ~np.isnan(difference)
    count = both.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(both, difference, 0).sum(axis=1) / count
        centred = np.where(both, difference - mean[:, np.newaxis], 0)
        statistic = mean / np.sqrt((centred**2).sum(axis=1) / (count - 1) / count)
    statistic[mean == 0] = 0  # the same file twice: no gap at all
    return np.where(count < MIN_CHUNKS, np.nan, t.sf(statistic, np.maximum(count - 1, 1)))


def by_proxy(tests: PairTests, proxy: FloatArray, p_gap: FloatArray | None = None) -> ProxyPairs:
    """Order the pairs of a task by a proxy, K values, larger for more damage; those it ties or lacks are left out.

    `p_gap` is what `gap_p` gives for the same pairs; None where the proxy has no chunks.
    """
    gap = proxy[tests.second] - proxy[tests.first]
    p_proxy = np.full(len(gap), np.nan) if p_gap is None else np.where(gap < 0, 1 - p_gap, p_gap)
    ordered = np.abs(gap) > 0
    return ProxyPairs(_take(_swapped(tests, gap < 0), ordered), p_proxy[ordered])


def judge(
    family: Sequence[ProxyPairs], *, alpha: float = 0.05, sesoi: float = 0.0, margin: float = MARGIN
) -> list[Verdicts]:
    """Say which pairs mislead, correcting by Holm over the whole family: every proxy × task × pair.

    A pair is *misleading* if the proxy's gap and the opposite difference of the scores are both significant and the lower
    limit of delta exceeds `sesoi`; *consistent* if the scores differ as the proxy says; else *undecided*. Where the
    proxy's gap could not be tested `p` is the score's, and the pair is not called misleading.
    """
    p = [_family_p(pairs) for pairs in family]
    m = max(sum(int(np.count_nonzero(~np.isnan(each))) for each in p), 1)
    adjusted = np.split(holm(np.concatenate(p)), np.cumsum([len(each) for each in p])[:-1]) if p else []
    return [
        _verdicts(pairs, each, p_holm, alpha, m, sesoi, margin)
        for pairs, each, p_holm in zip(family, p, adjusted, strict=True)
    ]


def limits(tests: PairTests, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the limits of each delta: Tango's for right-or-wrong samples, t's for others, Tango's where nothing changed."""
    if np.isnan(tests.df).all():
        return tango_limits(tests.n, tests.gained, tests.lost, level)
    half = t.ppf((1 + level) / 2, tests.df) * tests.se
    z2 = float(ndtri((1 + level) / 2)) ** 2
    # Tango's interval over C = df + 1 clusters of which none changed.
    half = np.where((tests.se == 0) & (tests.delta == 0), z2 / (tests.df + 1 + z2), half)
    return tests.delta - half, tests.delta + half


def mcnemar_midps(lost: FloatArray, gained: FloatArray) -> FloatArray:
    """Return McNemar's two-sided mid-p of each (lost, gained), 2·P(X ≤ k) − P(X = k) with X ~ Bin(l + g, ½), k = min."""
    counts, where = np.unique(np.stack((np.minimum(lost, gained), lost + gained)), axis=1, return_inverse=True)
    fewer, changed = counts
    midp = 2 * binom.cdf(fewer, changed, 0.5) - binom.pmf(fewer, changed, 0.5)
    return np.asarray(np.minimum(midp, 1)[where])


def sign_flip_ps(sums: FloatArray) -> FloatArray:
    """Return, for each row of changed clusters' sums, the share of sign patterns as far from 0 as the one observed."""
    rows, count = sums.shape
    if not rows or not count:
        return np.ones(rows)
    # A pattern and its opposite are equally far from 0, so the first sign stays.
    patterns = 1.0 - 2 * (np.arange(2 ** (count - 1))[:, np.newaxis] >> np.arange(count) & 1)
    observed = np.abs(sums.sum(axis=1)) - 1e-12
    parts = zip(np.array_split(sums, -(-rows // 64)), np.array_split(observed, -(-rows // 64)), strict=True)
    return np.concatenate([(np.abs(patterns @ some.T) >= limit).mean(axis=0) for some, limit in parts])


def first_equal(rows: FloatArray) -> IntArray:
    """Return, for each of K rows, the index of the first row equal to it in every column; NaN equals NaN.

    Rows of published values that are equal throughout are one file under two names, or one row copied.
    """
    gap = np.isnan(rows)
    equal = (rows[:, np.newaxis] == rows) | (gap[:, np.newaxis] & gap)
    return np.asarray(equal.all(axis=-1).argmax(axis=1))


def _binary_tests(scores: FloatArray) -> PairTests:
    pairs = first, second = np.triu_indices(len(scores), 1)
    right, wrong = (scores == 1).astype(np.float64), (scores == 0).astype(np.float64)
    lost_or_gained, scored = right @ wrong.T, right + wrong
    n, lost, gained = (scored @ scored.T)[pairs], lost_or_gained[pairs], lost_or_gained.T[pairs]
    with np.errstate(invalid="ignore"):
        delta, spread = (gained - lost) / n, (gained + lost) / n
    p = np.where(n > 0, mcnemar_midps(lost, gained), np.nan)
    unknown = np.full(len(first), np.nan)
    return PairTests(first, second, n, lost, gained, delta, p, spread, unknown, unknown)


def _graded_tests(scores: FloatArray, clusters: IntArray | None) -> PairTests:
    codes = np.arange(scores.shape[1]) if clusters is None else clusters
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=codes.min(initial=0) - 1))
    ordered = scores[:, order]
    rows = [_graded_row(ordered[i + 1 :] - ordered[i], starts) for i in range(len(scores) - 1)]
    columns = np.concatenate(rows, axis=1) if rows else np.empty((8, 0))
    return PairTests(*np.triu_indices(len(scores), 1), *columns)


def _graded_row(difference: FloatArray, starts: IntArray) -> FloatArray:
    """Return n, lost, gained, delta, p, spread, se and df, each a row, of quants × samples that are sorted by cluster."""
    both = ~np.isnan(difference)
    difference = np.where(both, difference, 0)
    n = both.sum(axis=1)
    sizes = np.add.reduceat(both.astype(np.float64), starts, axis=1)
    sums = np.add.reduceat(difference, starts, axis=1)
    clusters = np.count_nonzero(sizes, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = sums.sum(axis=1) / n
        centred = sums - delta[:, np.newaxis] * sizes
        se = np.sqrt(clusters / (clusters - 1) * (centred**2).sum(axis=1)) / n
        p = 2 * t.sf(np.abs(delta) / se, np.maximum(clusters - 1, 1))
    changed = np.abs(sums) > 1e-12
    for count in range(MAX_SIGN_FLIPS + 1):
        rows = np.flatnonzero(changed.sum(axis=1) == count)
        few = sums[rows][changed[rows]].reshape(len(rows), count)
        p[rows] = np.where(n[rows] > 0, sign_flip_ps(few), np.nan)
    lost, gained = (difference < 0).sum(axis=1), (difference > 0).sum(axis=1)
    spread = n * se**2 + delta**2
    return np.stack((n, lost, gained, delta, p, spread, np.where(clusters < MIN_CLUSTERS, np.nan, se), clusters - 1))


def _swapped(tests: PairTests, swap: BoolArray) -> PairTests:
    """Turn round the pairs of which `swap` is true."""
    return replace(
        tests,
        first=np.where(swap, tests.second, tests.first),
        second=np.where(swap, tests.first, tests.second),
        lost=np.where(swap, tests.gained, tests.lost),
        gained=np.where(swap, tests.lost, tests.gained),
        delta=np.where(swap, 0 - tests.delta, tests.delta),
    )


def _take(tests: PairTests, which: BoolArray) -> PairTests:
    return PairTests(*(getattr(tests, each.name)[which] for each in fields(tests)))


def _family_p(pairs: ProxyPairs) -> FloatArray:
    contradicts = (pairs.tests.delta > 0) & ~np.isnan(pairs.p_proxy)
    return np.where(contradicts, np.maximum(pairs.tests.p, pairs.p_proxy), pairs.tests.p)


def _verdicts(
    pairs: ProxyPairs, p: FloatArray, p_holm: FloatArray, alpha: float, m: int, sesoi: float, margin: float
) -> Verdicts:
    tests = pairs.tests
    low, high = limits(tests, 1 - 2 * alpha / m)
    misleading = (p_holm < alpha) & (tests.delta > 0) & (low > sesoi) & ~np.isnan(pairs.p_proxy)
    consistent = (p_holm < alpha) & (tests.delta < 0)
    verdict = np.select([misleading, consistent], ["misleading", "consistent"], "undecided")
    n_needed = np.where(verdict == "undecided", _connor(tests, alpha / m, sesoi), np.nan)
    return Verdicts(pairs, low, high, p, p_holm, verdict, n_needed, tost(*limits(tests, 0.90), margin))


def _connor(tests: PairTests, alpha: float, sesoi: float) -> FloatArray:
    """Return Connor's N (1987) for each observed difference, or for `sesoi` where that is larger."""
    delta = np.maximum(np.abs(tests.delta), sesoi)
    # As many samples must change as the difference says.
    spread = np.maximum(tests.spread, np.where(tests.spread < delta**2, delta, 0))
    z_alpha, z_power = ndtri([1 - alpha / 2, POWER])
    with np.errstate(divide="ignore", invalid="ignore"):
        n = ((z_alpha * np.sqrt(spread) + z_power * np.sqrt(np.maximum(spread - delta**2, 0))) / delta) ** 2
    return np.where(delta > 0, np.ceil(n), np.nan)
