"""Rank agreement between a proxy and a score over a handful of quants.

A coefficient answers one of three questions, and its interval is only as wide as the question is broad: would *other items*
show it for these quants, would *other quants* like these show it on the same items, or both?
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import atanh, factorial, isnan, nan, sqrt, tanh
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, norm, permutation_test, rankdata, spearmanr

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.reliability import Measured, ceiling, reliability
from evalsuite.stats.resample import DRAWS

Method = Literal["spearman", "kendall"]
METHODS: tuple[Method, ...] = ("spearman", "kendall")

Interval = tuple[float, float]
UNKNOWN: Interval = (nan, nan)

Direction = Literal["upto", "from"]
Reading = Literal["works", "blind here", "cannot tell"]

Question = Literal["items", "quants", "both"]
QUESTIONS: Mapping[Question, str] = {
    "items": "these quants, other samples",
    "quants": "other quants like these, same samples",
    "both": "other quants like these, other samples",
}

EXACT_UP_TO = 9
"""Largest n at which all n! pairings are enumerated."""

MIN_INTERVAL = 8
"""Fewer quants give no interval."""

MIN_WINDOW = 6
"""Fewer quants make no window of a range curve, and leave no influence to tell of."""

MIN_PROVIDER = 3
"""Providers with fewer quants are drawn as one group: one or two of a kind say nothing of others like them."""

INFLUENTIAL = 0.2
"""A quant whose absence changes |ρ| by more than this is named."""

MIN_CEILING = 0.5
"""Below this lower limit of the ceiling no window is called blind: hardly any proxy could be seen to work there."""

BLIND_SHARE = 0.6
"""Measured where a proxy works, but some of the quants are equal: with 1, up to 14 % of the windows of one length are called
blind; with .6, up to 2 %."""

WINDOW_DRAWS = 400
"""As many draws as a window's interval uses; there are many windows."""

BLOCK_CELLS = 2_000_000
"""Numbers held at once while draws are ranked."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ or Kendall's τ_b, and the two-sided p-value of no association (NaN where n allows no test).

    The interval of `estimate` answers `question`; `items` and `quants` are the 95 % intervals of the two narrower questions.
    """

    estimate: Estimate
    p: float
    question: Question = "quants"
    items: Interval = UNKNOWN
    quants: Interval = UNKNOWN


@dataclass(frozen=True)
class Influence:
    """ρ over all quants, without each of them (K), and whether that turns its sign or changes |ρ| by more than .2 (K)."""

    rho: float
    without: FloatArray
    flag: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """The quants up to, or from, a value of the proxy: what it orders there, and what any proxy could.

    `rho` has the interval over other samples ("these quants"). `reading` is `works`, `blind here` or `cannot tell`.
    """

    direction: Direction
    limit: float
    rho: Estimate
    tau: float
    ceiling: Estimate
    reading: Reading


def correlate(x: FloatArray, y: FloatArray, method: Method) -> RankCorrelation:
    """Return what n points allow one to say: nothing up to 3, τ_b alone up to 5, no interval up to 7, all from 8 on.

    The p-value is exact over all pairings up to n = 9 and scipy's above. The interval asks about other quants like
    these.
    """
    return _answered(_point(x, y, method), method, {})


def associations(
    proxies: FloatArray,
    tasks: FloatArray,
    rng: np.random.Generator,
    *,
    proxy_draws: Sequence[FloatArray | None],
    task_draws: Sequence[FloatArray | None],
    providers: IntArray | None = None,
    draws: int = DRAWS,
) -> dict[tuple[int, int, Method], RankCorrelation]:
    """Correlate every proxy (proxies × quants) with every task (tasks × quants), with the intervals of all three questions.

    A result is found by the indices of proxy and task and by method. NaN leaves a quant out where it is missing. For each
    proxy `proxy_draws` holds the joint bootstrap over its chunks (draws × quants), for each task `task_draws` that over its
    samples; None where there is none. Quants are drawn within providers (an integer a quant), the same for all proxies and
    tasks. Intervals are percentiles, but Bonett and Wright's for ρ over other quants. The interval of the estimate asks
    about other quants *and* samples (and chunks) where the task has draws, else about other quants.
    """
    found: dict[tuple[int, int, Method], RankCorrelation] = {}
    for some_proxies, some_tasks, kept in _complete_blocks(proxies, tasks):
        x, y = _Side.of(proxies, proxy_draws, some_proxies, kept), _Side.of(tasks, task_draws, some_tasks, kept)
        chosen = resample_quants(rng, draws, len(kept), None if providers is None else providers[kept])
        for method in METHODS:
            limits = _limits(x, y, chosen, method) if len(kept) >= MIN_INTERVAL else {}
            for row, column in np.ndindex(len(some_proxies), len(some_tasks)):
                point = _point(x.observed[row], y.observed[column], method)
                here = {
                    question: (float(low[row, column]), float(high[row, column]))
                    for question, (low, high) in limits.items()
                    if question == "quants" or y.draws[column] is not None
                }
                found[int(some_proxies[row]), int(some_tasks[column]), method] = _answered(point, method, here)
    return found


def resample_quants(rng: np.random.Generator, draws: int, count: int, providers: IntArray | None = None) -> IntArray:
    """Return `count` quants drawn with replacement within their provider, by index (draws × count).

    Providers with fewer than three quants are drawn as one group.
    """
    chosen = np.empty((draws, count), np.int64)
    codes = np.zeros(count, np.int64) if providers is None else providers
    _, group, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    group[sizes[group] < MIN_PROVIDER] = -1
    for each in np.unique(group):
        members = np.flatnonzero(group == each)
        chosen[:, members] = members[rng.integers(len(members), size=(draws, len(members)))]
    return chosen


def coefficients(x: FloatArray, y: FloatArray, method: Method) -> FloatArray:
    """Return the coefficient of every row of x (… × P × K) with every row of y (… × T × K), as … × P × T.

    Ties get midranks (ρ) or τ_b. NaN where all values of one side are equal.
    """
    form = _centred_ranks if method == "spearman" else _pair_signs
    found = np.asarray(_unit(form(x)) @ np.swapaxes(_unit(form(y)), -1, -2))
    # The last bit of a division must not make a perfect order imperfect.
    return np.clip(found.round(12), -1, 1)


def percentile_interval(draws: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper percentile over the first axis of those draws that are not NaN; NaN where all are."""
    ordered = np.sort(draws, axis=0)
    last = np.count_nonzero(~np.isnan(draws), axis=0) - 1
    low, high = (_at(ordered, last * share) for share in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def bonett_wright(rho: float, n: int, level: float = 0.95) -> Interval:
    """Return the interval of Spearman's ρ, tanh(atanh ρ ± z·√((1 + ρ²/2)/(n − 3))) (Bonett & Wright 2000).

    Unknown at a perfect order, where the formula has no width.
    """
    if abs(rho) == 1:
        return UNKNOWN
    half = float(norm.ppf((1 + level) / 2)) * sqrt((1 + rho**2 / 2) / (n - 3))
    return tanh(atanh(rho) - half), tanh(atanh(rho) + half)


def pearson(x: FloatArray, y: FloatArray) -> Estimate:
    """Return Pearson's r, with its range when each point is left out in turn in place of an interval."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return undefined(n, "fewer than 4 quants, or all values of one side are equal: no Pearson correlation")
    rest = _all_but_one(n)
    without = (_unit(_centred(x[rest])) * _unit(_centred(y[rest]))).sum(axis=1)
    value = float((_unit(_centred(x)) * _unit(_centred(y))).sum())
    return Estimate(
        value, float(np.nanmin(without)), float(np.nanmax(without)), n, ("the range is that of leaving out each quant",)
    )


def influence(x: FloatArray, y: FloatArray) -> Influence:
    """Return Spearman's ρ without each quant; flagged where that changes |ρ| by more than .2 or turns its sign.

    Nothing below 6 quants, or where a value is missing.
    """
    n = len(x)
    if n < MIN_WINDOW:
        unknown = np.full(n, nan)
        return Influence(nan, unknown, unknown > 0, (f"n = {n}: no influence below {MIN_WINDOW} quants",))
    rest = _all_but_one(n)
    rho = float(coefficients(x[np.newaxis], y[np.newaxis], "spearman")[0, 0])
    without = coefficients(x[rest][:, np.newaxis], y[rest][:, np.newaxis], "spearman")[:, 0, 0]
    flag = (np.abs(np.abs(without) - abs(rho)) > INFLUENTIAL) | (without * rho < 0)
    return Influence(rho, without, flag, ("one side has equal or missing values",) if isnan(rho) else ())


def range_curve(
    x: FloatArray, scores: Measured, draws: FloatArray | None = None, proxy: Measured | None = None
) -> list[Window]:
    """Return ρ, τ_b and the ceiling over the quants with proxy ≤ x*, for every x* that leaves 6 of them, then with proxy ≥ x*.

    x (K) is larger for more damage, so a proxy that works has ρ < 0. `draws` (draws × K) is the joint bootstrap of the
    scores, `proxy` the proxy with its error, on a logarithmic scale where the error is relative. The interval asks about
    other samples for these very quants: windows are too small to ask about other quants.

    A window *works* where the whole interval lies below 0. The proxy is *blind here* where the interval reaches 0 and keeps
    clear of −.6 times the lower limit of the ceiling, and that limit is at least .5: other samples would not show more than
    a part of what a perfect proxy surely would. Everything else *cannot tell*, a low ceiling before all.
    """
    known = np.flatnonzero(~(np.isnan(x) | np.isnan(scores.values)))
    directions: tuple[tuple[Direction, int], ...] = (("upto", 1), ("from", -1))
    windows: list[Window] = []
    for direction, sign in directions:
        ordered = known[np.argsort(sign * x[known], kind="stable")]
        # Quants with one value of the proxy come in together.
        ends = np.flatnonzero(np.append(np.diff(x[ordered]) != 0, True)) + 1
        rhos = _prefix_rhos(x[ordered], scores.values[np.newaxis, ordered])[0]
        limits = np.full((2, len(ordered)), nan)
        if draws is not None:
            limits = np.stack(percentile_interval(_prefix_rhos(x[ordered], draws[:WINDOW_DRAWS, ordered])))
        for end in ends[ends >= MIN_WINDOW]:
            quants = ordered[:end]
            low, high = map(float, limits[:, end - 1])
            rho = Estimate(float(rhos[end - 1]), low, high, len(quants))
            tau = float(coefficients(x[np.newaxis, quants], scores.values[np.newaxis, quants], "kendall")[0, 0])
            best = ceiling(reliability(scores.of(quants)), None if proxy is None else reliability(proxy.of(quants)))
            windows.append(Window(direction, float(x[quants[-1]]), rho, tau, best, _reading(rho, best)))
    return windows


def silent_zone(x: FloatArray, equivalent: NDArray[np.bool_]) -> IntArray:
    """Return the quants, by index, of the largest prefix in order of the proxy x in which every one is equivalent.

    `equivalent` holds the verdicts against the reference (TOST). Quants with one value of the proxy come in together.
    """
    failed = x[~equivalent]
    return np.flatnonzero(x < failed.min(initial=np.inf))


def undistinguished_zone(x: FloatArray, p_of: Callable[[IntArray], float], alpha: float = 0.05) -> IntArray:
    """Return the quants of the largest prefix in order of the proxy x that an omnibus test does not tell apart.

    `p_of` gives the p of the test over some quants (by index). The zone is a statement about the samples as well: it grows as
    they get fewer.
    """
    zone = np.flatnonzero(x == x.min()) if len(x) else np.empty(0, np.int64)
    for limit in np.unique(x):
        prefix = np.flatnonzero(x <= limit)
        if len(prefix) > 1 and p_of(prefix) >= alpha:
            zone = prefix
    return zone


@dataclass(frozen=True)
class _Side:
    """Some proxies, or some tasks, of the same quants: observed (S × K), and the draws of each (B × K, or None)."""

    observed: FloatArray
    draws: list[FloatArray | None]

    @classmethod
    def of(cls, values: FloatArray, draws: Sequence[FloatArray | None], some: IntArray, quants: IntArray) -> "_Side":
        chosen = [draws[each] for each in some]
        return cls(values[np.ix_(some, quants)], [None if each is None else each[:, quants] for each in chosen])

    def at(self, rows: slice) -> FloatArray:
        """Return those draws as B × S × K, what has none as observed."""
        count = rows.stop - rows.start
        return np.stack(
            [
                np.broadcast_to(row, (count, len(row))) if each is None else each[rows]
                for row, each in zip(self.observed, self.draws, strict=True)
            ],
            axis=1,
        )


def _complete_blocks(proxies: FloatArray, tasks: FloatArray) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Yield proxies and tasks that have their values for the same quants, with these quants, all by index."""
    (x_masks, x_of), (y_masks, y_of) = (
        np.unique(~np.isnan(side), axis=0, return_inverse=True) for side in (proxies, tasks)
    )
    for i, x_mask in enumerate(x_masks):
        for j, y_mask in enumerate(y_masks):
            yield np.flatnonzero(x_of == i), np.flatnonzero(y_of == j), np.flatnonzero(x_mask & y_mask)


def _limits(x: _Side, y: _Side, chosen: IntArray, method: Method) -> dict[Question, tuple[FloatArray, FloatArray]]:
    """Return for each question the lower and upper limits, proxies × tasks."""
    count = len(chosen)
    cells = chosen.shape[1] * (1 if method == "spearman" else chosen.shape[1] // 2)
    rows = max(1, BLOCK_CELLS // (cells * (len(x.observed) + len(y.observed))))
    blocks = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
    # Bonett and Wright's interval serves ρ over other quants.
    questions: list[Question] = ["items", "both"] if method == "spearman" else ["items", "quants", "both"]
    return {
        question: percentile_interval(
            np.concatenate([_drawn(x, y, chosen, method, question, block) for block in blocks])
        )
        for question in questions
    }


def _drawn(x: _Side, y: _Side, chosen: IntArray, method: Method, question: Question, rows: slice) -> FloatArray:
    xs = x.at(rows) if question == "both" else x.observed[np.newaxis]
    ys = y.at(rows) if question != "quants" else y.observed[np.newaxis]
    if question != "items":
        quants = chosen[rows, np.newaxis]
        xs, ys = (np.take_along_axis(side, quants, axis=-1) for side in (xs, ys))
    return coefficients(xs, ys, method)


def _answered(point: RankCorrelation, method: Method, limits: Mapping[Question, Interval]) -> RankCorrelation:
    """Add the intervals that n allows; the broadest question that has one is the estimate's."""
    value, n = point.estimate.value, point.estimate.n
    if isnan(value) or n < MIN_INTERVAL:
        return point
    quants = bonett_wright(value, n) if method == "spearman" else limits.get("quants", UNKNOWN)
    both = limits.get("both", UNKNOWN)
    question: Question = "quants" if isnan(both[0]) else "both"
    low, high = quants if isnan(both[0]) else both
    if low == high or isnan(low):
        low, high = UNKNOWN
        perfect = "no interval at a perfect rank correlation"
        note = perfect if abs(value) == 1 or method == "spearman" else "the interval is given with Spearman's ρ"
    else:
        note = f"n = {n}: a wide interval" if n < 12 else ""
    notes = (*point.estimate.notes, *filter(None, [note]))
    return RankCorrelation(
        replace(point.estimate, low=low, high=high, notes=notes),
        point.p,
        question,
        limits.get("items", UNKNOWN),
        quants,
    )


def _point(x: FloatArray, y: FloatArray, method: Method) -> RankCorrelation:
    """Return the coefficient and its p, without an interval."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    n = len(x)
    if n <= 3:
        return RankCorrelation(undefined(n, f"n = {n}: too few quants for a rank correlation"), nan)
    if n <= 5 and method == "spearman":
        return RankCorrelation(undefined(n, f"n = {n}: below 6 quants only Kendall's τ_b is given"), nan)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(undefined(n, "all values of one side are equal"), nan)
    value, p = _scipy(x, y, method)
    notes = (f"n = {n}: no interval below {MIN_INTERVAL} quants",) if n < MIN_INTERVAL else ()
    if n <= 5:
        return RankCorrelation(Estimate(value, nan, nan, n, (*notes, f"n = {n}: no test below 6 quants")), nan)
    return RankCorrelation(
        Estimate(value, nan, nan, n, notes), _exact_p(x, y, value, method) if n <= EXACT_UP_TO else p
    )


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
    result = permutation_test(
        (np.array(x),),
        lambda permuted, axis: coefficients(np.moveaxis(permuted, axis, -1), np.array([y]), method)[..., 0],
        permutation_type="pairings",
        n_resamples=factorial(len(x)),
        vectorized=True,
        batch=20_000,
    )
    return np.asarray(result.null_distribution)


def _prefix_rhos(x: FloatArray, rows: FloatArray) -> FloatArray:
    """Return ρ of x (K, sorted) with every row (R × K) over the first quant, the first two, and so on (R × K).

    Half the sum of the signs of a value's differences from the others is its midrank less their mean, so that one more
    quant is one more summand.
    """
    within = np.triu(np.ones((len(x), len(x))))  # quants that come in × prefixes that hold them
    ranks = rankdata(x)
    xs = (ranks[:, np.newaxis] - np.cumsum(ranks) / np.arange(1, len(x) + 1)) * within
    ys = np.cumsum(np.sign(rows[:, :, np.newaxis] - rows[:, np.newaxis, :]), axis=-1) * within
    lengths = np.sqrt((xs**2).sum(axis=0) * (ys**2).sum(axis=1))
    found = np.einsum("im,rim->rm", xs, ys) / np.where(lengths > 0, lengths, nan)
    # As in `coefficients`.
    return np.asarray(np.clip(found.round(12), -1, 1))


def _reading(rho: Estimate, best: Estimate) -> Reading:
    if rho.high < 0:
        return "works"
    blind = rho.high >= 0 and best.low >= MIN_CEILING and rho.low > -BLIND_SHARE * best.low
    return "blind here" if blind else "cannot tell"


def _centred(values: FloatArray) -> FloatArray:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _centred_ranks(values: FloatArray) -> FloatArray:
    return _centred(np.asarray(rankdata(values, axis=-1)))


def _pair_signs(values: FloatArray) -> FloatArray:
    first, second = np.triu_indices(values.shape[-1], 1)
    return np.asarray(np.sign(values[..., first] - values[..., second]))


def _unit(values: FloatArray) -> FloatArray:
    """Scale to length 1 along the last axis; what has no length becomes NaN."""
    length = np.sqrt(np.einsum("...k,...k->...", values, values))
    return np.asarray(values / np.where(length > 0, length, nan)[..., np.newaxis])


def _all_but_one(n: int) -> IntArray:
    return np.array([np.delete(np.arange(n), each) for each in range(n)])


def _at(ordered: FloatArray, position: FloatArray) -> FloatArray:
    """Interpolate linearly between the rows of `ordered` at a position a column; a negative one gives NaN."""
    below = np.floor(np.maximum(position, 0)).astype(np.int64)
    first = np.take_along_axis(ordered, below[np.newaxis], axis=0)[0]
    second = np.take_along_axis(ordered, np.minimum(below + 1, len(ordered) - 1)[np.newaxis], axis=0)[0]
    fraction = position - below
    return np.where(position < 0, nan, np.where(fraction > 0, first + (second - first) * fraction, first))
