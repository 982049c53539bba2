"""What choosing by a proxy costs: for each size that may not be exceeded, the best score less that of the quant picked."""

from dataclasses import dataclass

import numpy as np

from evalsuite.stats.mean import FloatArray, IntArray


@dataclass(frozen=True)
class Budget:
    """One limit of size: the quant the proxy picks, the quant with the best score, and their difference in score."""

    size: float
    pick: int
    best: int
    regret: float


@dataclass(frozen=True)
class Regret:
    """Mean regret over the budgets, in score units.

    The truth lies between `crossfit`, which is too low on average, and `naive`, which is too high: the best of noisy scores
    looks better than it is. `largest_fit` and `random` are the naive regrets of the largest quant that fits and of any that
    fits; `skill` is 1 − naive/random, NaN where no choice costs anything.
    """

    crossfit: float
    naive: float
    largest_fit: float
    random: float
    skill: float
    budgets: tuple[Budget, ...]


def regret(
    sizes: FloatArray,
    proxy: FloatArray,
    scores: FloatArray,
    halves: tuple[FloatArray, FloatArray] | None = None,
    limits: FloatArray | None = None,
) -> Regret:
    """Return the regret of picking the quant with the smallest proxy among those that fit.

    All have K values; `limits` are the budgets, every distinct size by default. `halves` comes from `half_scores`; without
    it there is no cross-fit. Of quants with an equal proxy the first is picked.
    """
    limits = np.unique(sizes) if limits is None else limits
    fits = [np.flatnonzero(sizes <= limit) for limit in limits]
    picks = [fit[np.argmin(proxy[fit])] for fit in fits]
    bests = [fit[np.argmax(scores[fit])] for fit in fits]
    lost = [float(scores[best] - scores[pick]) for best, pick in zip(bests, picks, strict=True)]
    naive = float(np.mean(lost))
    largest = float(np.mean([scores[fit].max() - scores[fit[np.argmax(sizes[fit])]] for fit in fits]))
    random = float(np.mean([scores[fit].max() - scores[fit].mean() for fit in fits]))
    return Regret(
        _crossfit(fits, picks, halves) if halves else np.nan, naive, largest, random,
        1 - naive / random if random > 0 else np.nan,
        tuple(Budget(float(size), int(pick), int(best), each)
              for size, pick, best, each in zip(limits, picks, bests, lost, strict=True)),
    )  # fmt: skip


def half_scores(
    scores: FloatArray, rng: np.random.Generator, clusters: IntArray | None = None, splits: int = 50
) -> tuple[FloatArray, FloatArray]:
    """Split N samples at random into halves, whole clusters together; return the mean scores of each, splits × K.

    `scores` is K × N without gaps. A split needs two samples or clusters.
    """
    codes = np.arange(scores.shape[1]) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(codes.max()) + 1
    chosen = rng.permuted(np.tile(np.arange(count) < count // 2, (splits, 1)), axis=1)[:, codes].astype(np.float64)
    total = scores.sum(axis=1)
    first, size = chosen @ scores.T, chosen.sum(axis=1, keepdims=True)
    return first / size, (total - first) / (len(codes) - size)


def _crossfit(fits: list[IntArray], picks: list[int], halves: tuple[FloatArray, FloatArray]) -> float:
    """Choose the best quant on one half and score it and the pick on the other; both ways, over splits and budgets."""
    lost = []
    for choose, use in (halves, halves[::-1]):
        for fit, pick in zip(fits, picks, strict=True):
            # Halves of few samples tie often: the mean over the best does not depend on the order of the quants.
            best = choose[:, fit] >= choose[:, fit].max(axis=1, keepdims=True) - 1e-12
            lost.append((use[:, fit] * best).sum(axis=1) / best.sum(axis=1) - use[:, pick])
    return float(np.mean(lost))
