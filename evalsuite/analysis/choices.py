"""What choosing a quant by a proxy would have cost, and which quants nothing beats at their size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsuite.analysis.columns import DAMAGE_SIGN, NO_KEY, ProxyColumn, rankings
from evalsuite.analysis.grids import Grid
from evalsuite.stats.mean import FloatArray
from evalsuite.stats.pareto import front_probability, on_front
from evalsuite.stats.regret import half_scores, regret

Row = dict[str, Any]

MIN_QUANTS = 4
"""With fewer quants there is hardly a choice to regret."""


def regret_rows(
    columns: Sequence[ProxyColumn], grids: Sequence[Grid], sizes: Mapping[str, float], rng: np.random.Generator
) -> list[Row]:
    """Return the mean regret over size budgets of picking by each proxy, for each task, over the quants that have all."""
    rows = []
    for grid in grids:
        halves, samples = _halves(grid, rng)
        for column in rankings(columns):
            damage = column.damage(grid.quants)
            size = np.array([sizes.get(quant, np.nan) for quant in grid.quants])
            known = np.flatnonzero(~(np.isnan(damage) | np.isnan(size) | np.isnan(grid.means)))
            if len(known) >= MIN_QUANTS:
                both = None if halves is None else (halves[0][:, known], halves[1][:, known])
                found = regret(size[known], damage[known], grid.means[known], both)
                names = [grid.quants[k] for k in known]
                rows.append({
                    "task": grid.task, **column.key, "n": len(known), "samples": samples,
                    "crossfit": found.crossfit, "naive": found.naive, "largest_fit": found.largest_fit,
                    "random": found.random, "skill": found.skill,
                    "budgets": [
                        {"size_bytes": each.size, "pick": names[each.pick], "best": names[each.best],
                         "regret": each.regret}
                        for each in found.budgets
                    ],
                })  # fmt: skip
    return rows


def pareto_rows(
    columns: Sequence[ProxyColumn],
    grids: Sequence[Grid],
    sizes: Mapping[str, float],
    quants: Sequence[str],
) -> list[Row]:
    """Return, for each proxy to rank by and each task, which quants are on the front of size and value, and how surely.

    The probability is the share of draws that have the quant on the front; null where nothing can be drawn.
    """
    rows = []
    for column in columns:
        if column.proxy not in {"size_bytes", *NO_KEY}:
            values = column.draw_matrix(quants)
            rows += _front(
                "proxy", column.proxy, column.corpus, quants, sizes, -column.damage(quants),
                None if values is None else -values, -DAMAGE_SIGN[column.proxy],
            )  # fmt: skip
    for grid in grids:
        rows += _front("score", grid.task, None, grid.quants, sizes, grid.means, grid.draws, 1)
    return rows


def _halves(grid: Grid, rng: np.random.Generator) -> tuple[tuple[FloatArray, FloatArray] | None, int | None]:
    """Return the mean scores of random halves of the common samples, and how many these are."""
    if grid.scores is None:
        return None, None
    common = ~np.isnan(grid.scores).any(axis=0)
    clusters = None if grid.clusters is None else grid.clusters[common]
    units = int(common.sum()) if clusters is None else len(np.unique(clusters))
    return (None if units < 2 else half_scores(grid.scores[:, common], rng, clusters)), int(common.sum())


def _front(
    axis: str, name: str, corpus: str | None, quants: Sequence[str], sizes: Mapping[str, float], value: FloatArray,
    drawn: FloatArray | None, sign: int,
) -> list[Row]:  # fmt: skip
    size = np.array([sizes.get(quant, np.nan) for quant in quants])
    known = np.flatnonzero(~np.isnan(value) & ~np.isnan(size))
    if len(known) < 2:
        return []
    front = on_front(size[known], value[known])
    probability = np.full(len(known), np.nan)
    if drawn is not None and not np.isnan(drawn[:, known]).any():
        probability = front_probability(size[known], drawn[:, known])
    return [
        {
            "axis": axis, "name": name, "corpus": corpus, "quant": quants[int(k)], "size_bytes": size[k],
            "value": sign * value[k], "on_front": bool(front[at]), "probability": probability[at],
        }
        for at, k in enumerate(known)
    ]  # fmt: skip
