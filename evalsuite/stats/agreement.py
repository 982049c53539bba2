"""How many pairs of quants a proxy orders as a task's scores do.

Pairs come in the order of `np.triu_indices(K, 1)`, as `misleading.pair_tests` and `misleading.gap_p` give them.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from evalsuite.stats.equivalence import BoolArray
from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import FloatArray
from evalsuite.stats.misleading import PairTests
from evalsuite.stats.rank import percentile_interval

MIN_SIGNIFICANT = 5
"""With fewer pairs that the scores separate, the share of them that the proxy orders rightly says nothing."""

_NOISE = 1e-12


@dataclass(frozen=True)
class PairwiseAccuracy:
    """The share of pairs that the proxy orders as the scores do (Kocmi et al. 2021).

    A pair that either side ties is not ordered alike and counts among `tied`. Of the `separated` pairs,
    whose scores differ significantly, `concordant_significant` are ordered alike; `significant` is the share, NaN below
    five.
    """

    accuracy: Estimate
    concordant: int
    tied: int
    significant: float
    concordant_significant: int
    separated: int
    undecided: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TieAccuracy:
    """acc₂₃ (Deutsch et al. 2023): the share of pairs ordered alike or tied on both sides.

    A proxy ties a pair if its gap is at most `epsilon`. Both are NaN without a pair.
    """

    value: float
    epsilon: float
    n: int


def pairwise_accuracy(
    proxy: FloatArray,
    scores: FloatArray,
    separated: BoolArray,
    drawn: tuple[FloatArray, FloatArray] | None = None,
) -> PairwiseAccuracy:
    """Count the pairs of K quants that a proxy, larger for more damage, orders as the scores do; neither has gaps.

    `separated` tells, a value a pair, which differences of scores are significant (Holm). `drawn` holds proxies and scores
    as draws × K, quants resampled and, for the two-level interval, items and chunks too; a quant drawn twice is no pair.
    """
    alike, tied = _order(proxy, scores)
    concordant, n = int(alike.sum()), alike.size
    low, high = map(float, percentile_interval(_drawn_accuracy(*drawn))) if drawn else (np.nan, np.nan)
    separable = int(separated.sum())
    shown = separable >= MIN_SIGNIFICANT
    notes = () if shown else (f"the scores separate {separable} pairs: no share below {MIN_SIGNIFICANT}",)
    right = int((alike & separated).sum())
    return PairwiseAccuracy(
        Estimate(concordant / n if n else np.nan, low, high, n),
        concordant,
        int(tied.sum()),
        right / separable if shown else np.nan,
        right,
        separable,
        n - separable,
        notes,
    )


def tie_accuracy(proxy: FloatArray, choose: PairTests, use: PairTests, alpha: float = 0.05) -> TieAccuracy:
    """Return acc₂₃ of a proxy: ε is chosen on one half of the samples, the share counted on the other.

    `proxy` has K values, larger for more damage, ln x where gaps should count by their ratio. The tests are those of the
    two halves; scores tie where the unadjusted p-value is at least `alpha`. Pairs that one side lacks do not count.
    """
    gap = proxy[choose.second] - proxy[choose.first]
    known = ~np.isnan(gap + choose.p + use.p)
    if not known.any():
        return TieAccuracy(np.nan, np.nan, 0)
    gap, size = gap[known], np.abs(gap[known])
    chosen, used = ((tests.delta[known] < 0, ~(tests.p[known] < alpha)) for tests in (choose, use))
    candidates = np.unique(np.append(0, size))
    shares = [_acc23(gap, size <= epsilon, *chosen) for epsilon in candidates]
    epsilon = float(candidates[np.argmax(shares)])
    return TieAccuracy(_acc23(gap, size <= epsilon, *used), epsilon, len(gap))


def soft_accuracy(p_scores: FloatArray, p_proxy: FloatArray) -> float:
    """Return SPA, the mean of 1 − |p_scores − p_proxy| over all pairs (Thompson et al. 2024).

    Both are one-sided p-values of "the first quant is better": `better_p` of the scores and `misleading.gap_p` of the
    proxy's chunks. NaN if one is missing, or there is no pair.
    """
    return float((1 - np.abs(p_scores - p_proxy)).mean()) if len(p_scores) else np.nan


def better_p(tests: PairTests) -> FloatArray:
    """Return the one-sided p-value of "the first quant is better" for each pair.

    Right-or-wrong samples: the signs of the changed ones flipped, P(X ≥ lost) with X ~ Bin(lost + gained, ½). Others: half
    the two-sided p-value, on the side of delta.
    """
    if np.isnan(tests.df).all():
        return np.where(tests.n > 0, binom.sf(tests.lost - 1, tests.lost + tests.gained, 0.5), np.nan)
    half = np.where(tests.delta == 0, 0.5, tests.p / 2)
    return np.where(tests.delta > 0, 1 - half, half)


def _order(proxy: FloatArray, scores: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Tell, … × pairs, which pairs both order alike and which one of them ties."""
    first, second = np.triu_indices(scores.shape[-1], 1)
    damage, gain = proxy[..., second] - proxy[..., first], scores[..., second] - scores[..., first]
    tied = (damage == 0) | (np.abs(gain) < _NOISE)
    return ~tied & ((damage > 0) == (gain < 0)), tied


def _drawn_accuracy(proxy: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the accuracy of each draw; a quant beside itself is no pair, NaN where no pair is left."""
    first, second = np.triu_indices(scores.shape[1], 1)
    alike, tied = _order(proxy, scores)
    twice = tied & (proxy[:, first] == proxy[:, second]) & (np.abs(scores[:, first] - scores[:, second]) < _NOISE)
    with np.errstate(invalid="ignore"):
        accuracy = alike.sum(axis=1) / (~twice).sum(axis=1)
    return np.where(np.isnan(proxy + scores).any(axis=1), np.nan, accuracy)


def _acc23(gap: FloatArray, proxy_ties: BoolArray, first_better: BoolArray, score_ties: BoolArray) -> float:
    return float(np.where(proxy_ties, score_ties, ((gap > 0) == first_better) & ~score_ties).mean())
