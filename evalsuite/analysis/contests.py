"""Proxies against each other, against the file's size, across providers; and tasks against each other."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata

from evalsuite.analysis.columns import ProxyColumn, proxy_name, rankings
from evalsuite.analysis.correlations import reliability_of
from evalsuite.analysis.grids import Grid
from evalsuite.stats.agreement import better_p, pairwise_accuracy, soft_accuracy, tie_accuracy
from evalsuite.stats.contest import MIN_QUANTS as MIN_CONTEST
from evalsuite.stats.contest import contest
from evalsuite.stats.mean import FloatArray
from evalsuite.stats.misleading import gap_p, pair_tests
from evalsuite.stats.multiple import holm
from evalsuite.stats.providers import by_provider, calibration_leak
from evalsuite.stats.rank import resample_quants
from evalsuite.stats.reliability import ceiling
from evalsuite.stats.rows import pearson_rows
from evalsuite.stats.size import at_equal_size, partial_at_size

Row = dict[str, Any]

ALPHA = 0.05
MIN_QUANTS = 6
MAX_DRAWS = 1000
"""So many draws are enough for a share of pairs, and all pairs of each are counted."""


def comparison_rows(columns: Sequence[ProxyColumn], grids: Sequence[Grid], rng: np.random.Generator) -> list[Row]:
    """Return which of two proxies follows the scores better, for each task; the file's size is one of the contestants."""
    contestants = [*rankings(columns), *(column for column in columns if column.proxy == "size_bytes")]
    rows = []
    for grid in grids:
        redrawn = _Redrawn(grid, rng)
        for first, second in combinations(contestants, 2):
            sides = [first.scaled(grid.quants), second.scaled(grid.quants), grid.means]
            known = np.flatnonzero(~np.isnan(sides).any(axis=0))
            rho = None
            if grid.draws is not None and len(known) >= MIN_CONTEST:
                rho = redrawn.rho(first, known), redrawn.rho(second, known)
            found = contest(sides[0][known], sides[1][known], sides[2][known], rho, rng)
            rows.append({
                "task": grid.task, "first": proxy_name(first.proxy, first.corpus),
                "second": proxy_name(second.proxy, second.corpus), "tau": found.tau,
                "delta_abs_rho": found.delta.value, "low": found.delta.low, "high": found.delta.high, "n": len(known),
                "williams_t": found.williams_t, "williams_p": found.williams_p, "swap_p": found.swap_p,
                "verdict": found.verdict, "notes": list(found.delta.notes),
            })  # fmt: skip
    return rows


class _Redrawn:
    """Spearman's ρ of each proxy with a task in the same draws of quants, samples and chunks, each computed once."""

    def __init__(self, grid: Grid, rng: np.random.Generator) -> None:
        self._grid, self._rng = grid, rng
        self._drawn: dict[bytes, tuple[Any, FloatArray]] = {}  # quants, and the ranks of their scores
        self._rho: dict[tuple[ProxyColumn, bytes], FloatArray] = {}

    def rho(self, column: ProxyColumn, known: Any) -> FloatArray:
        """Return ρ in each draw over the quants `known`, by index."""
        key, grid = known.tobytes(), self._grid
        if key not in self._drawn:
            draws = 0 if grid.draws is None else len(grid.draws)
            chosen = known[resample_quants(self._rng, draws, len(known))]
            self._drawn[key] = chosen, rankdata(_redrawn(grid.means, grid.draws, chosen), axis=-1)
        if (column, key) not in self._rho:
            chosen, scores = self._drawn[key]
            proxy = _redrawn(column.damage(grid.quants), column.draw_matrix(grid.quants), chosen)
            self._rho[column, key] = pearson_rows(rankdata(proxy, axis=-1), scores)
        return self._rho[column, key]


def agreement_rows(columns: Sequence[ProxyColumn], grids: Sequence[Grid], rng: np.random.Generator) -> list[Row]:
    """Return how many pairs of quants each proxy orders as each task's scores do."""
    rows = []
    for grid in grids:
        separated, halves = holm(grid.tests.p) < ALPHA, _halves(grid, rng)
        for column in rankings(columns):
            damage = column.damage(grid.quants)
            if np.isnan(damage).any() or np.isnan(grid.means).any() or len(damage) < 2:
                continue
            redrawn = None
            if grid.draws is not None:
                chosen = resample_quants(rng, min(len(grid.draws), MAX_DRAWS), len(damage))
                drawn = column.draw_matrix(grid.quants)
                redrawn = (_redrawn(damage, drawn, chosen), _redrawn(grid.means, grid.draws, chosen))
            found = pairwise_accuracy(damage, grid.means, separated, redrawn)
            chunks = column.chunk_matrix(grid.quants)
            ties = None if halves is None else tie_accuracy(column.scaled(grid.quants), *halves)
            rows.append({
                **column.key, "task": grid.task, "pa": found.accuracy.value, "low": found.accuracy.low,
                "high": found.accuracy.high, "concordant": found.concordant, "pairs": found.accuracy.n,
                "tied": found.tied, "pa_sig": found.significant, "sig_concordant": found.concordant_significant,
                "sig_pairs": found.separated, "undecided": found.undecided,
                "spa": np.nan if chunks is None else soft_accuracy(better_p(grid.tests), gap_p(chunks)),
                "acc23": np.nan if ties is None else ties.value, "epsilon": np.nan if ties is None else ties.epsilon,
                "notes": list(found.notes),
            })  # fmt: skip
    return rows


def size_rows(
    columns: Sequence[ProxyColumn], grids: Sequence[Grid], sizes: Mapping[str, float], rng: np.random.Generator
) -> list[Row]:
    """Return what each proxy says of each task's scores beyond the file's size."""
    rows = []
    for column, grid in ((column, grid) for column in rankings(columns) for grid in grids):
        size = np.array([sizes.get(quant, np.nan) for quant in grid.quants])
        damage = column.scaled(grid.quants)
        known = ~(np.isnan(size) | np.isnan(damage) | np.isnan(grid.means))
        arrays = size[known], damage[known], grid.means[known]
        residual, partial = at_equal_size(*arrays, rng), partial_at_size(*arrays)
        rows.append({
            **column.key, "task": grid.task, "rho": residual.value, "low": residual.low, "high": residual.high,
            "partial": partial.rho, "partial_p": partial.p, "n": int(known.sum()),
            "notes": list(dict.fromkeys((*residual.notes, *partial.notes))),
        })  # fmt: skip
    return rows


def provider_rows(
    columns: Sequence[ProxyColumn], grids: Sequence[Grid], providers: Mapping[str, str], rng: np.random.Generator
) -> list[Row]:
    """Return the correlation over all quants beside that inside providers, where two have three quants or more."""
    rows = []
    for column, grid in ((column, grid) for column in rankings(columns) for grid in grids):
        damage = column.damage(grid.quants)
        known = [
            at for at, quant in enumerate(grid.quants)
            if quant in providers and not np.isnan(damage[at]) and not np.isnan(grid.means[at])
        ]  # fmt: skip
        codes = np.unique([providers[grid.quants[at]] for at in known], return_inverse=True)[1]
        found = by_provider(damage[known], grid.means[known], codes, rng)
        if not np.isnan(found.pooled):
            rows.append({
                **column.key, "task": grid.task, "pooled": found.pooled, "within": found.within,
                "between": found.between, "low": found.difference.low, "high": found.difference.high,
                "simpson": found.simpson, "n": found.difference.n, "notes": list(found.difference.notes),
            })  # fmt: skip
    return rows


def leak_rows(
    columns: Sequence[ProxyColumn], distinct: Sequence[str], providers: Mapping[str, str], rng: np.random.Generator
) -> list[Row]:
    """Return, for every plain text and every task's own text, how much better each provider looks on the plain one."""
    klds = [column for column in columns if column.proxy == "kld_mean"]
    tasks = [column for column in klds if str(column.corpus).startswith("task:")]
    rows = []
    for plain, task in ((plain, task) for plain in klds if plain not in tasks for task in tasks):
        values = [plain.damage(distinct), task.damage(distinct)]
        known = [at for at, quant in enumerate(distinct) if quant in providers and min(v[at] for v in values) > 0]
        names, codes = np.unique([providers[distinct[at]] for at in known], return_inverse=True)
        rows += [
            {
                "provider": str(names[leak.provider]), "plain": plain.corpus, "task_text": task.corpus,
                "index": leak.index.value, "low": leak.index.low, "high": leak.index.high, "n": leak.index.n,
            }
            for leak in calibration_leak(values[0][known], values[1][known], codes, rng)
        ]  # fmt: skip
    return rows


def task_rows(grids: Sequence[Grid]) -> list[Row]:
    """Return how alike two tasks order the quants, beside how alike their noise would let them."""
    rows = []
    sampled = [grid for grid in grids if not grid.task.startswith("(")]
    for first, second in combinations(sampled, 2):
        others = second.means_of(first.quants)
        known = ~(np.isnan(first.means) | np.isnan(others))
        if known.sum() < MIN_QUANTS:
            continue
        tau = float(kendalltau(first.means[known], others[known]).statistic)
        best = ceiling(reliability_of(first.measured), reliability_of(second.measured))
        verdict = "cannot tell" if np.isnan(best.low) or best.low < 0.5 else "differ" if tau < best.low else "agree"
        rows.append({
            "first": first.task, "second": second.task, "tau": tau, "ceiling": best.value, "ceiling_low": best.low,
            "n": int(known.sum()), "verdict": verdict,
        })  # fmt: skip
    return rows


def _redrawn(values: FloatArray, draws: FloatArray | None, chosen: Any) -> FloatArray:
    """Return the values of the quants chosen in each draw, drawn themselves where there are draws."""
    return values[chosen] if draws is None else np.take_along_axis(draws[: len(chosen)], chosen, axis=1)


def _halves(grid: Grid, rng: np.random.Generator) -> Any:
    if grid.scores is None or grid.scores.shape[1] < 2:
        return None
    codes = (
        np.arange(grid.scores.shape[1]) if grid.clusters is None else np.unique(grid.clusters, return_inverse=True)[1]
    )
    first = rng.permutation(int(codes.max()) + 1)[codes] % 2 == 0
    return tuple(
        pair_tests(grid.scores[:, half], None if grid.clusters is None else grid.clusters[half], binary=grid.binary)
        for half in (first, ~first)
    )
