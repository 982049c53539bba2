"""What the answers say of length and depth: recall at each, and the length up to which a quant keeps its recall.

An item is a row with `quant, family, length, tokens, cluster, score` (NaN where unscored), and for the depths `depths` and
`found`, both as the sample and the scorer give them. A row of a result is ready for JSON: what is undefined is None, and a
note says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from math import hypot, isnan, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import MIN_CLUSTERS, FloatArray, IntArray, cluster_sums
from evalsuite.stats.proportion import mean_score, wilson

Row = dict[str, Any]

ALL = "all"
"""Stands for the mean over the families, each with the same weight."""

KEPT = 0.85
"""The share of its recall at the shortest length that a quant keeps within its effective length."""


def depth_rows(items: pd.DataFrame, grid: Sequence[float]) -> list[Row]:
    """Return the recall of single needles: a row a quant × length × depth of the grid, with interval and n.

    A needle counts at the grid's nearest depth. Where a scorer says nothing of single needles, or there was nothing to
    score, each has the sample's score. The haystacks are the clusters.
    """
    needles = _needles(items, np.sort(np.asarray(grid, float)))
    rows = []
    for (quant, length, depth), group in needles.groupby(["quant", "length", "depth"], sort=True):
        estimate = mean_score(group["score"].to_numpy(float), _codes(group["cluster"]), binary=False)
        rows.append({"quant": quant, "length": length, "depth": depth, **_plain(estimate)})
    return rows


def _needles(items: pd.DataFrame, grid: FloatArray) -> pd.DataFrame:
    scored = items[items["score"].notna()]
    rows = [
        (quant, length, float(grid[np.abs(grid - depth).argmin()]), cluster, score)
        for quant, length, cluster, whole, depths, found in zip(
            *(scored[name] for name in ("quant", "length", "cluster", "score", "depths", "found")), strict=True
        )
        for depth, score in zip(depths, found if isinstance(found, list) else [whole] * len(depths), strict=True)
    ]
    return pd.DataFrame(rows, columns=["quant", "length", "depth", "cluster", "score"])


def length_rows(items: pd.DataFrame) -> list[Row]:
    """Return the mean recall: a row a quant × family × length, and one for all families, with interval and n."""
    return [
        {"quant": quant, "family": family, "length": length, "tokens": tokens, **_plain(estimate)}
        for quant, family, of_family, _ in _families(items)
        for length, (tokens, estimate) in _by_length(of_family).items()
    ]


def effective_rows(items: pd.DataFrame, kept: float = KEPT) -> list[Row]:
    """Return the effective length: a row a quant × family, and one for all families.

    `value` is the largest length up to which, at every length, the recall is at least `kept` of that at the shortest one
    (RULER, Hsieh et al. 2024, asks for a fixed recall instead). `low` is the largest length up to which that is shown,
    `high` the largest up to which it is not refuted: at each length in turn, the interval of recall − `kept` · recall at
    the shortest (from the two 95 % intervals by MOVER, Zou & Donner 2008) is held against 0. Testing ends at the first
    length that fails, so many lengths need no correction. Lengths are shares; `tokens` is the median of the prompts at
    `value`. `recall` is that at the shortest length, `n` counts the items.
    """
    return [
        {"quant": quant, "family": family, **_effective(_by_length(of_family), kept, notes)}
        for quant, family, of_family, notes in _families(items)
    ]


def balanced_mean(scores: FloatArray, families: IntArray, clusters: IntArray) -> Estimate:
    """Return the mean over families of their mean scores, with a clustered t interval in [0, 1].

    Each item pulls the mean by (score − its family's mean) / (items of its family · families); the variance is that of
    these sums over clusters, which may reach across families. Where all scores are 0 or all are 1 each cluster counts as
    one right-or-wrong sample (Wilson). No interval below 10 clusters.
    """
    if not len(scores):
        return undefined(0, "no scored sample")
    _, family = np.unique(families, return_inverse=True)
    sizes = np.bincount(family)
    means = np.bincount(family, weights=scores) / sizes
    value, count = float(means.mean()), len(np.unique(clusters))
    if count < MIN_CLUSTERS:
        return Estimate(value, nan, nan, len(scores), (f"{count} clusters: no interval below {MIN_CLUSTERS}",))
    if scores.min() == scores.max() and value in {0.0, 1.0}:
        return replace(wilson(round(value * count), count), n=len(scores), notes=("Wilson interval over clusters",))
    pulls = cluster_sums((scores - means[family]) / (sizes[family] * len(sizes)), clusters)
    half = float(t.ppf(0.975, count - 1)) * sqrt(count / (count - 1) * float(pulls @ pulls))
    notes = () if half > 0 else ("all values of a family are equal: the interval has no width",)
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), len(scores), notes)


def _families(items: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame, tuple[str, ...]]]:
    """Return the items of each quant and family with notes, and those of all families that have a score at every length."""
    found = list[tuple[str, str, pd.DataFrame, tuple[str, ...]]]()
    for quant, of_quant in items.groupby("quant", sort=True):
        lengths = of_quant.dropna(subset=["score"]).groupby("family")["length"].nunique()
        whole = set(lengths.index[lengths == of_quant["length"].nunique()])
        lacking = sorted(set(of_quant["family"]) - whole)
        notes = (f"without {', '.join(lacking)}: no score at some length",) if lacking else ()
        if len(whole) + len(lacking) > 1:
            found.append((str(quant), ALL, of_quant[of_quant["family"].isin(whole)], notes))
        found += [(str(quant), str(family), rows, ()) for family, rows in of_quant.groupby("family", sort=True)]
    return found


def _by_length(items: pd.DataFrame) -> dict[float, tuple[float, Estimate]]:
    """Return the median number of tokens and the recall at each length, the shortest first."""
    found = {}
    for length in sorted(items["length"].unique().tolist()):
        at_length = items[items["length"] == length]
        scored = at_length[at_length["score"].notna()]
        estimate = balanced_mean(scored["score"].to_numpy(float), _codes(scored["family"]), _codes(scored["cluster"]))
        found[length] = (float(at_length["tokens"].median()), estimate)
    return found


def _effective(by_length: Mapping[float, tuple[float, Estimate]], kept: float, notes: tuple[str, ...]) -> Row:
    estimates = {length: estimate for length, (_, estimate) in by_length.items()}
    n = sum(estimate.n for estimate in estimates.values())
    row: Row = {"value": None, "low": None, "high": None, "tokens": None, "recall": None, "n": n}
    if not estimates:
        return {**row, "notes": [*notes, "no scored sample"]}
    shortest, base = next(iter(estimates.items()))
    row["recall"] = _number(base.value)
    if unknown := [length for length, estimate in estimates.items() if isnan(estimate.value)]:
        return {**row, "notes": [*notes, f"no scored sample at length {unknown[0]:g}"]}
    if base.value == 0 or base.low == 0:
        return {**row, "notes": [*notes, "the recall at the shortest length cannot be told from 0"]}
    margins = [(length, _margin(at, base, kept)) for length, at in estimates.items() if length != shortest]
    low, row["value"], high = (
        _last(shortest, [(length, margin[bound]) for length, margin in margins]) for bound in range(3)
    )
    row["tokens"] = by_length[row["value"]][0]
    without = [estimate.notes[0] for estimate in estimates.values() if isnan(estimate.low)]
    if not without:
        row["low"], row["high"] = low, high
    longest = ["the longest length asked: it may be more"] if row["value"] == max(estimates) else []
    return {**row, "notes": [*notes, *without[:1], *longest]}


def _last(shortest: float, margins: Sequence[tuple[float, float]]) -> float:
    """Return the last length before a margin is below 0, rounding aside."""
    return max([shortest, *(length for length, _ in takewhile(lambda at: at[1] >= -1e-12, margins))])


def _margin(at: Estimate, base: Estimate, kept: float) -> tuple[float, float, float]:
    """Return lower limit, value and upper limit of a recall above `kept` of another, each from a haystack of its own."""
    value = at.value - kept * base.value
    below = hypot(at.value - at.low, kept * (base.high - base.value))
    above = hypot(at.high - at.value, kept * (base.value - base.low))
    return value - below, value, value + above


def _plain(estimate: Estimate) -> Row:
    value, low, high = map(_number, (estimate.value, estimate.low, estimate.high))
    return {"value": value, "low": low, "high": high, "n": estimate.n, "notes": list(estimate.notes)}


def _number(value: float) -> float | None:
    return None if isnan(value) else value


def _codes(names: "pd.Series[Any]") -> IntArray:
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)
