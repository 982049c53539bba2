"""What a score is made of: each stratum of a task, groups of strata, and the other metrics of the same answers."""

from collections.abc import Iterable, Iterator, Mapping
from math import nan, sqrt
from typing import Any

import numpy as np
import orjson
import pandas as pd
from scipy.special import comb

from evalsuite.analysis.lengths import depth_rows, effective_rows, length_rows
from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.proportion import mean_score
from evalsuite.tables import Tables

Row = dict[str, Any]

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The depths at which the recall of single needles is told."""


def part_rows(tables: Tables) -> list[Row]:
    """Return a row a quant × task × part: `kind` is `stratum`, `group`, `metric` or `repeats`.

    A stratum's value is the mean score of its samples, a metric's the mean over the answers that have it, each with the
    interval of `mean_score` over clusters. A group is the mean of strata by the weights that its task gives; its interval
    is normal, from the standard errors of its strata, and it is left out for a quant that lacks a stratum. Repeats of a
    sample count as one, their mean. Tasks with one stratum have none here. Where samples were repeated and every score is
    0 or 1, `pass@k` is the chance that one of k repeats is right and `pass^k` that all are, unbiased from all repeats
    (Chen et al. 2021; Yao et al. 2024).
    """
    rows: list[Row] = []
    items = tables.items[tables.items["score"].notna()] if "stratum" in tables.items else tables.items.head(0)
    weights = {row["task"]: row.get("groups") or {} for row in tables.tasks.to_dict("records")}
    for (task, quant), of_quant in items.groupby(["task", "quant"], sort=True):
        named = {"task": str(task), "quant": str(quant)}
        samples = of_quant.groupby("sample_id", sort=True)
        first = samples[["stratum", "cluster"]].first()
        cluster = first["cluster"].where(first["cluster"].notna(), first.index.to_series())
        clusters = np.asarray(pd.factorize(cluster)[0], dtype=np.int64)
        scores = samples["score"].mean().to_numpy(float)
        by_stratum = first.reset_index(drop=True).groupby("stratum", sort=True).indices
        strata = {str(name): _mean(scores[rows_of], clusters[rows_of]) for name, rows_of in by_stratum.items()}
        if len(strata) > 1:
            rows += [{**named, "kind": "stratum", "part": part, **_plain(mean)} for part, mean in strata.items()]
        for group, wanted in weights.get(str(task), {}).items():
            if wanted.keys() <= strata.keys():
                mean = _weighted([(weight, strata[stratum]) for stratum, weight in wanted.items()])
                rows.append({**named, "kind": "group", "part": group, **_plain(mean)})
        rows += [{**named, "kind": "repeats", **row} for row in _repeats(of_quant, clusters)]
        metrics = pd.DataFrame([*map(_numbers, of_quant["metrics"])], index=of_quant.index)
        for name, values in metrics.groupby(of_quant["sample_id"], sort=True).mean().items():
            mean = _mean(values.to_numpy(float), clusters)
            rows.append({**named, "kind": "metric", "part": str(name), **_plain(mean)})
    return rows


def long_context_rows(tables: Tables) -> dict[str, list[Row]]:
    """Return `depths`, `lengths` and `effective_lengths` of the tasks whose samples have a length, as `lengths` gives them."""
    found: dict[str, list[Row]] = {"depths": [], "lengths": [], "effective_lengths": []}
    if "facts" not in tables.items:
        return found
    placed = tables.items[[isinstance(facts, dict) and "length" in facts for facts in tables.items["facts"]]]
    for task, of_task in placed.groupby("task", sort=True):
        facts = pd.DataFrame([*of_task["facts"]], index=of_task.index)
        metrics = of_task["metrics"].map(lambda text: orjson.loads(text) if isinstance(text, str) else {})
        items = of_task[["quant", "cluster", "score"]].join(facts)
        items["found"] = metrics.map(lambda each: each.get("found"))
        for key, rows in (
            ("depths", depth_rows(items, GRID)),
            ("lengths", length_rows(items)),
            ("effective_lengths", effective_rows(items)),
        ):
            found[key] += [{"task": str(task), **row} for row in rows]
    return found


def _repeats(items: pd.DataFrame, clusters: IntArray) -> Iterator[Row]:
    """Yield pass@k and pass^k for each k up to the fewest repeats of a sample, where that is more than one."""
    if not items["score"].isin((0, 1)).all():
        return
    scores = items.groupby("sample_id", sort=True)["score"]
    right, repeats = scores.sum().to_numpy(float), scores.count().to_numpy(float)
    for k in range(2, int(repeats.min()) + 1):
        every = comb(repeats, k)
        yield {"part": f"pass@{k}", **_plain(_mean(1 - comb(repeats - right, k) / every, clusters))}
        yield {"part": f"pass^{k}", **_plain(_mean(comb(right, k) / every, clusters))}


def _numbers(metrics: Any) -> Mapping[str, float]:
    """Return the metrics that are single numbers between 0 and 1."""
    read = orjson.loads(metrics) if isinstance(metrics, str) else {}
    return {name: float(value) for name, value in read.items() if isinstance(value, int | float) and 0 <= value <= 1}


def _mean(values: FloatArray, clusters: IntArray) -> Estimate:
    """Return the mean of the values that are there, each of another sample."""
    there = ~np.isnan(values)
    known, codes = values[there], clusters[there]
    alone = len(np.unique(codes)) == len(codes)
    return mean_score(known, None if alone else codes, binary=bool(np.isin(known, (0, 1)).all()))


def _weighted(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    weights, means = zip(*parts, strict=True)
    total, n = sum(weights), sum(mean.n for mean in means)
    value = sum(weight * mean.value for weight, mean in zip(weights, means, strict=True)) / total
    half = sqrt(sum((w * (m.high - m.low) / 2) ** 2 for w, m in zip(weights, means, strict=True))) / total
    low, high = (nan, nan) if half != half else (max(value - half, 0.0), min(value + half, 1.0))  # noqa: PLR0124 - NaN
    return Estimate(value, low, high, n, ())


def _plain(estimate: Estimate) -> Row:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
