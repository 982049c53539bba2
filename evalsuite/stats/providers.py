"""Quants of several makers: whether a proxy orders each maker's quants, or only the makers."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from evalsuite.stats.equivalence import BoolArray
from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.rank import percentile_interval
from evalsuite.stats.rows import pearson_rows, rho_rows

MIN_PROVIDERS = 2
MIN_QUANTS = 3
"""A provider with fewer quants says nothing about the order within."""


@dataclass(frozen=True)
class ByProvider:
    """Spearman's ρ over all quants, within providers and between their means, and the interval of pooled − within.

    `simpson` says that pooling misleads: the signs of pooled and within differ, or the interval excludes 0.
    """

    pooled: float
    within: float
    between: float
    difference: Estimate
    simpson: bool


@dataclass(frozen=True)
class Leak:
    """How much better than the average provider's one provider's quants look on plain text than on the tasks' own text.

    `index` is its mean of ln KLD_plain − ln KLD_task text, less the mean of the providers' means; below 0 its calibration
    resembles the plain text.
    """

    provider: int
    index: Estimate


def by_provider(
    proxy: FloatArray, scores: FloatArray, providers: IntArray, rng: np.random.Generator, draws: int = 2000
) -> ByProvider:
    """Compare the correlation over all quants with that inside providers, K values and K integer codes.

    Only providers with at least three quants take part, and at least two of these are needed. The percentile interval
    draws quants again inside each provider.
    """
    kept = _eligible(providers)
    groups = _groups(providers[kept])
    n = int(kept.sum())
    if len(groups) < MIN_PROVIDERS:
        nothing = undefined(n, f"{len(groups)} providers with {MIN_QUANTS} quants or more: two are needed")
        return ByProvider(np.nan, np.nan, np.nan, nothing, False)
    x, y = proxy[kept], scores[kept]
    pooled, within = rho_rows(x, y), _within([x[of] for of in groups], [y[of] for of in groups])
    drawn = [of[rng.integers(len(of), size=(draws, len(of)))] for of in groups]
    quants = np.concatenate(drawn, axis=1)
    gap = rho_rows(x[quants], y[quants]) - _within([x[of] for of in drawn], [y[of] for of in drawn])
    low, high = map(float, percentile_interval(gap))
    between = rho_rows(np.array([x[of].mean() for of in groups]), np.array([y[of].mean() for of in groups]))
    notes = () if len(groups) >= 5 else ("between providers: no interval under 5 of them",)
    return ByProvider(
        float(pooled), float(within), float(between),
        Estimate(float(pooled - within), low, high, n, notes),
        bool(pooled * within < 0 or low > 0 or high < 0),
    )  # fmt: skip


def calibration_leak(
    plain: FloatArray, task_text: FloatArray, providers: IntArray, rng: np.random.Generator, draws: int = 2000
) -> list[Leak]:
    """Return the leak index of each provider with at least three quants, none if there are not two of them.

    `plain` and `task_text` are K mean KLDs above 0 on the two kinds of text. The percentile interval draws quants again
    inside each provider.
    """
    kept = _eligible(providers)
    codes, gap = providers[kept], np.log(plain[kept]) - np.log(task_text[kept])
    groups = _groups(codes)
    if len(groups) < MIN_PROVIDERS:
        return []
    means = np.array([gap[of].mean() for of in groups])
    drawn = np.stack([gap[of[rng.integers(len(of), size=(draws, len(of)))]].mean(axis=1) for of in groups])
    drawn -= drawn.mean(axis=0)
    low, high = percentile_interval(drawn.T)
    return [
        Leak(int(codes[of[0]]), Estimate(float(mean - means.mean()), float(low[p]), float(high[p]), len(of)))
        for p, (of, mean) in enumerate(zip(groups, means, strict=True))
    ]


def _eligible(providers: IntArray) -> BoolArray:
    _, code, count = np.unique(providers, return_inverse=True, return_counts=True)
    return np.asarray(count[code] >= MIN_QUANTS)


def _groups(providers: IntArray) -> list[IntArray]:
    return [np.flatnonzero(providers == code) for code in np.unique(providers)]


def _within(x: list[FloatArray], y: list[FloatArray]) -> FloatArray:
    """Return Pearson's r of the ranks within providers, each provider's values … × n_p centred apart."""
    return pearson_rows(_centred_ranks(x), _centred_ranks(y))


def _centred_ranks(values: list[FloatArray]) -> FloatArray:
    return np.concatenate([rankdata(each, axis=-1) - (each.shape[-1] + 1) / 2 for each in values], axis=-1)
