"""Pairs of quants that a task decides as a proxy does, against it, or not at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsuite.analysis.columns import ProxyColumn, rankings
from evalsuite.analysis.grids import Grid
from evalsuite.stats.misleading import Verdicts, by_proxy, gap_p, judge

Row = dict[str, Any]

MAX_ROWS = 5000
"""Beyond this many rows the undecided pairs furthest from contradicting the proxy, then consistent ones, are only counted."""

UNTESTED = "proxy gap untested: the table has no chunks of text to test it on"


def misleading_rows(columns: Sequence[ProxyColumn], grids: Sequence[Grid], sizes: Mapping[str, float]) -> list[Row]:
    """Return a row for every proxy × task × pair of quants that the proxy orders, those that mislead most first.

    `delta` is the score of the quant that the proxy calls worse minus that of the one it calls better, so above 0 the
    task contradicts the proxy. Holm's correction runs over all of them.
    """
    family = [(column, grid) for column in rankings(columns) for grid in grids]
    verdicts = judge([
        by_proxy(grid.tests, column.damage(grid.quants), _gap_p(column, grid.quants)) for column, grid in family
    ])  # fmt: skip
    rows = [
        row
        for (column, grid), judged in zip(family, verdicts, strict=True)
        for row in _rows(column, grid, judged, sizes)
    ]
    rows.sort(key=_most_misleading)
    return rows


def listed(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """Return the rows that the analysis lists, and a sentence about the others where there are any."""
    if len(rows) <= MAX_ROWS:
        return list(rows), None
    return list(rows[:MAX_ROWS]), f"misleading: {MAX_ROWS:,} of {len(rows):,} pairs are listed; the claims count all"


def _gap_p(column: ProxyColumn, quants: Sequence[str]) -> Any:
    chunks = column.chunk_matrix(quants)
    return None if chunks is None else gap_p(chunks)


def _rows(column: ProxyColumn, grid: Grid, judged: Verdicts, sizes: Mapping[str, float]) -> list[Row]:
    tests = judged.pairs.tests
    damage = column.damage(grid.quants)
    rows = []
    for at, (i, j) in enumerate(zip(tests.first, tests.second, strict=True)):
        verdict = str(judged.verdict[at])
        better, worse = grid.quants[int(i)], grid.quants[int(j)]
        saved = (sizes[better] - sizes[worse]) / 1e9 if better in sizes and worse in sizes else None
        rows.append({
            **column.key, "task": grid.task, "better_by_proxy": better, "worse_by_proxy": worse,
            "better_by_task": {"misleading": worse, "consistent": better}.get(verdict),
            "proxy_gap": float(abs(damage[j] - damage[i])), "p_proxy": judged.pairs.p_proxy[at],
            "delta": tests.delta[at], "low": judged.low[at], "high": judged.high[at], "n": tests.n[at],
            "p": judged.p[at], "p_holm": judged.p_holm[at], "verdict": verdict, "n_needed": judged.n_needed[at],
            "equivalent": bool(judged.equivalent[at]), "gb_saved": saved,
            "notes": [UNTESTED] if np.isnan(judged.pairs.p_proxy[at]) else [],
        })  # fmt: skip
    return rows


def _most_misleading(row: Row) -> tuple[Any, ...]:
    order = ("misleading", "undecided", "consistent").index(row["verdict"])
    low = -np.inf if np.isnan(row["low"]) else row["low"]
    return (
        order, -low, -(row["gb_saved"] or 0), row["proxy"], row["corpus"] or "", row["task"], row["better_by_proxy"],
        row["worse_by_proxy"],
    )  # fmt: skip
