"""Proxies beside each other: how alike they order the quants, and which pairs they order differently."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from evalsuite.analysis.columns import DAMAGE_SIGN, ProxyColumn, proxy_name
from evalsuite.stats.rank import QUESTIONS, correlate

Row = dict[str, Any]

MIN_QUANTS = 4


def between_rows(columns: Sequence[ProxyColumn], distinct: Sequence[str]) -> list[Row]:
    """Return ρ and τ_b of every two proxies, both larger for more damage, and the pairs of quants they order differently.

    A pair counts where neither proxy ties it. `differing` names the quant that the first proxy calls better first.
    """
    rows = []
    for first, second in combinations(columns, 2):
        x, y = first.damage(distinct), second.damage(distinct)
        known = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
        if len(known) < MIN_QUANTS:
            continue
        rho, tau = (correlate(x[known], y[known], method) for method in ("spearman", "kendall"))
        ordered = [
            (i, j) if x[i] < x[j] else (j, i) for i, j in combinations(known, 2) if x[i] != x[j] and y[i] != y[j]
        ]
        differing = [[distinct[int(i)], distinct[int(j)]] for i, j in ordered if y[i] > y[j]]
        sign = DAMAGE_SIGN[first.proxy] * DAMAGE_SIGN[second.proxy]
        ends = sorted((sign * rho.estimate.low, sign * rho.estimate.high))
        rows.append({
            "first": proxy_name(first.proxy, first.corpus), "second": proxy_name(second.proxy, second.corpus),
            "first_proxy": first.key, "second_proxy": second.key, "n": len(known),
            "rho": sign * rho.estimate.value, "low": ends[0], "high": ends[1], "tau": sign * tau.estimate.value,
            "question": QUESTIONS["quants"], "pairs": len(ordered), "differing": differing,
            "notes": list(rho.estimate.notes),
        })  # fmt: skip
    return rows
