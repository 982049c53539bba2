"""Every proxy against every task's scores: over all quants, near the reference, inside each provider, and by range."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from evalsuite.analysis.columns import DAMAGE_SIGN, NO_KEY, ProxyColumn, rankings
from evalsuite.analysis.grids import Grid
from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.omnibus import cochran_prefixes, max_t
from evalsuite.stats.rank import (
    METHODS,
    QUESTIONS,
    RankCorrelation,
    associations,
    correlate,
    influence,
    range_curve,
    silent_zone,
    undistinguished_zone,
)
from evalsuite.stats.reliability import Measured, ceiling, measure, measure_log, reliability
from evalsuite.stats.resample import Resampled

Row = dict[str, Any]

KLD_MAX_NOTE = "the maximum is one token and grows with their number: no key to rank by"
MAX_DRAWS = 1000
"""So many draws are enough to test a prefix of the quants, one after the other."""

MIN_SUBSET = 4
"""Fewer quants make no subset to correlate over."""


def correlation_rows(
    columns: Sequence[ProxyColumn],
    grids: Sequence[Grid],
    distinct: Sequence[str],
    rng: np.random.Generator,
) -> list[Row]:
    """Return Spearman's ρ and Kendall's τ_b of each proxy and each task over the `distinct` quants that have both.

    The sign is that of ρ(proxy, score) as it stands: a proxy of damage that works has a negative one, a file size that
    works a positive one.
    """
    if not columns or not grids or not distinct:
        return []
    signs = np.array([DAMAGE_SIGN[column.proxy] for column in columns])
    found = associations(
        np.array([column.damage(distinct) for column in columns]) * signs[:, np.newaxis],
        np.array([grid.means for grid in grids]), rng,
        proxy_draws=[
            None if (drawn := column.draw_matrix(distinct)) is None else drawn * sign
            for column, sign in zip(columns, signs, strict=True)
        ],
        task_draws=[grid.draws for grid in grids],
        draws=next((len(grid.draws) for grid in grids if grid.draws is not None), 2000),
    )  # fmt: skip
    of_scores = [reliability_of(grid.measured) for grid in grids]
    of_proxies = [
        None if (measured := measured_proxy(column, distinct)) is None else reliability(measured) for column in columns
    ]
    rows = [
        _row(column, grid, method, "all", found[i, j, method]) | {"ceiling": ceiling(of_scores[j], of_proxies[i]).value}
        for i, column in enumerate(columns)
        for j, grid in enumerate(grids)
        for method in METHODS
    ]
    for method in METHODS:
        _correct([row for row in rows if row["method"] == method])
    return rows


def subset_rows(
    columns: Sequence[ProxyColumn],
    grids: Sequence[Grid],
    equivalent: Mapping[tuple[str, str], bool],
    providers: Mapping[str, str],
) -> list[Row]:
    """Return the correlations near the reference and inside each provider with four quants or more, for what people rank by.

    Near the reference are the quants, in order of the proxy, that are all shown to be equivalent to it; where these are
    fewer than four, those that no test tells apart, which a note says.
    """
    rows = []
    names = list(dict.fromkeys(providers.values()))
    for column in rankings(columns):
        for grid in grids:
            damage = column.damage(grid.quants)
            zone, notes = _zone(damage, grid, equivalent)
            rows += _subset(column, grid, "near_reference", zone, notes)
            for provider in names if len(names) > 1 else []:
                inside = np.array([providers.get(quant) == provider for quant in grid.quants])
                rows += _subset(column, grid, f"provider:{provider}", np.flatnonzero(inside), [])
    return rows


def range_rows(columns: Sequence[ProxyColumn], grids: Sequence[Grid]) -> list[Row]:
    """Return ρ, τ_b and the ceiling over the quants up to, and from, each value of the proxies that people rank by."""
    rows = []
    for column in rankings(columns):
        for grid in grids:
            damage = column.damage(grid.quants)
            sign = DAMAGE_SIGN[column.proxy]
            windows = range_curve(damage, grid.measured, grid.draws, measured_proxy(column, grid.quants))
            rows += [
                {
                    **column.key, "task": grid.task, "direction": window.direction,
                    "limit": sign * window.limit, "n": window.rho.n, "quants": int((~np.isnan(damage)).sum()),
                    "rho": sign * window.rho.value, "low": min(sign * window.rho.low, sign * window.rho.high),
                    "high": max(sign * window.rho.low, sign * window.rho.high), "tau": sign * window.tau,
                    "ceiling": window.ceiling.value, "reading": window.reading, "question": QUESTIONS["items"],
                }
                for window in windows
            ]  # fmt: skip
    return rows


def influence_rows(columns: Sequence[ProxyColumn], grids: Sequence[Grid]) -> list[Row]:
    """Return ρ without each quant, for the proxies that people rank by, where six quants or more have both."""
    rows = []
    for column in rankings(columns):
        for grid in grids:
            damage = column.damage(grid.quants)
            known = np.flatnonzero(~(np.isnan(damage) | np.isnan(grid.means)))
            found = influence(damage[known] * DAMAGE_SIGN[column.proxy], grid.means[known])
            if not np.isnan(found.rho):
                rows += [
                    {
                        **column.key, "task": grid.task, "quant": grid.quants[quant], "rho": found.rho,
                        "rho_without": found.without[at], "change": abs(found.without[at]) - abs(found.rho),
                        "flag": bool(found.flag[at]), "n": len(known),
                    }
                    for at, quant in enumerate(known)
                ]  # fmt: skip
    return rows


def reliability_of(measured: Measured) -> Estimate:
    """Return the reliability of a grid's scores over the quants that have one."""
    return reliability(measured.of(np.flatnonzero(~np.isnan(measured.values))))


def measured_proxy(column: ProxyColumn, quants: Sequence[str]) -> Measured | None:
    """Return a proxy with its error from the chunks, a KLD as its logarithm; None where it has no chunks."""
    chunks = column.chunk_matrix(quants)
    if chunks is None:
        return None
    return measure_log(chunks) if column.proxy == "kld_mean" else measure(chunks)


def _row(column: ProxyColumn, grid: Grid, method: str, subset: str, found: RankCorrelation) -> Row:
    estimate = found.estimate
    return {
        **column.key, "task": grid.task, "method": method, "subset": subset, "rho": estimate.value,
        "low": estimate.low, "high": estimate.high, "p": found.p, "p_bh": np.nan, "n": estimate.n,
        "question": QUESTIONS[found.question], "low_items": found.items[0], "high_items": found.items[1],
        "low_quants": found.quants[0], "high_quants": found.quants[1], "ceiling": np.nan,
        "damage_sign": DAMAGE_SIGN[column.proxy],
        "notes": [*estimate.notes, *([KLD_MAX_NOTE] if column.proxy in NO_KEY else [])],
    }  # fmt: skip


def _correct(rows: Sequence[Row]) -> None:
    tested = [row for row in rows if not np.isnan(row["p"])]
    if tested:
        for row, p in zip(tested, false_discovery_control([row["p"] for row in tested]), strict=True):
            row["p_bh"] = float(p)


def _subset(column: ProxyColumn, grid: Grid, subset: str, quants: Any, notes: list[str]) -> list[Row]:
    damage = column.damage(grid.quants)[quants] * DAMAGE_SIGN[column.proxy]
    both = ~(np.isnan(damage) | np.isnan(grid.means[quants]))
    if both.sum() < MIN_SUBSET:
        return []
    rows = [
        _row(column, grid, method, subset, correlate(damage[both], grid.means[quants][both], method))
        for method in METHODS
    ]
    for row in rows:
        row["notes"] += notes
    return rows


def _zone(damage: FloatArray, grid: Grid, equivalent: Mapping[tuple[str, str], bool]) -> tuple[Any, list[str]]:
    shown = np.array([equivalent.get((quant, grid.task), False) for quant in grid.quants], dtype=bool)
    zone = silent_zone(damage, shown)
    if len(zone) >= MIN_SUBSET or grid.scores is None:
        return zone, []
    known = grid.known[np.argsort(damage[grid.known], kind="stable")]
    zone = undistinguished_zone(damage[known], _prefix_test(grid, known))
    return known[zone], ["these quants are not distinguished by the samples, which is not the same as equal"]


def _prefix_test(grid: Grid, ordered: IntArray) -> Callable[[IntArray], float]:
    """Return a function from the first few of the ordered quants to the p-value of the test that they have one score."""
    if grid.binary and grid.clusters is None and grid.scores is not None:
        scores = grid.scores[ordered]
        p = cochran_prefixes(scores[:, ~np.isnan(scores).any(axis=0)])
        return lambda quants: float(p[len(quants) - 1])
    if grid.draws is None:
        return lambda _: 0.0
    draws = grid.draws[:MAX_DRAWS, ordered]
    return lambda quants: max_t(Resampled(grid.means[ordered][quants], draws[:, quants], 0, 0)).p
