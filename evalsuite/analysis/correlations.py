"""Every proxy against every task's scores, over the distinct quants."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.stats.rank import Method, correlate

Row = dict[str, Any]

DAMAGE_SIGN = {
    "ppl": 1, "ppl_ratio": 1, "kld_mean": 1, "kld_median": 1, "kld_p99": 1, "kld_p999": 1, "kld_max": 1, "rms_dp": 1,
    "same_top_p": -1, "size_bytes": -1,
}  # fmt: skip
"""The proxies, and whether a larger value is to mean more damage (1) or less (−1)."""

METHODS: tuple[Method, ...] = ("spearman", "kendall")

KLD_MAX_NOTE = "the maximum is one token and grows with their number: no key to rank by"


def proxy_points(proxies: pd.DataFrame, quants: Sequence[Row]) -> dict[tuple[str, str, str | None], dict[str, float]]:
    """Return the value of each quant for each (proxy, tool, corpus); the size of the file is a proxy as well."""
    points: dict[tuple[str, str, str | None], dict[str, float]] = {}
    named = [name for name in DAMAGE_SIGN if name in proxies and name != "size_bytes"]
    for row in proxies.to_dict("records"):
        corpus = None if pd.isna(row["corpus"]) else str(row["corpus"])
        for name in named:
            if not pd.isna(row[name]):
                points.setdefault((name, str(row["tool"]), corpus), {})[str(row["quant"])] = float(row[name])
    sizes = {row["quant"]: float(row["size_bytes"]) for row in quants if not pd.isna(row["size_bytes"])}
    return points | ({("size_bytes", "size", None): sizes} if sizes else {})


def correlation_rows(
    points: Mapping[tuple[str, str, str | None], Mapping[str, float]],
    scores: Sequence[Row],
    tasks: Sequence[str],
    distinct: Sequence[str],
) -> list[Row]:
    """Return Spearman's ρ and Kendall's τ_b of each proxy and each task over the `distinct` quants that have both.

    The sign is that of ρ(proxy, score) as it stands: a proxy of damage that works has a negative one, a file size that
    works a positive one. The interval and the test ask about other quants like these, on the same samples.
    """
    by_task: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for row in scores:
        if not np.isnan(row["value"]):
            by_task[row["task"]][row["quant"]] = row["value"]
    return [
        _row(proxy, values, task, by_task[task], distinct, method)
        for proxy, values in points.items()
        for task in tasks
        for method in METHODS
    ]


def _row(
    proxy: tuple[str, str, str | None],
    values: Mapping[str, float],
    task: str,
    scores: Mapping[str, float],
    distinct: Sequence[str],
    method: Method,
) -> Row:
    name, tool, corpus = proxy
    both = [quant for quant in distinct if quant in values and quant in scores]
    # Two values that a printed table shows as one are one; 12 digits keep the last bit from making a rank.
    x, y = (np.array([float(f"{of[quant]:.12g}") for quant in both]) for of in (values, scores))
    result = correlate(x, y, method)
    return {
        "proxy": name, "tool": tool, "corpus": corpus, "task": task, "method": method, "subset": "all",
        "rho": result.estimate.value, "low": result.estimate.low, "high": result.estimate.high, "p": result.p,
        "n": result.estimate.n, "damage_sign": DAMAGE_SIGN[name], "question": "other quants like these, same samples",
        "notes": [*result.estimate.notes, *([KLD_MAX_NOTE] if name == "kld_max" else [])],
    }  # fmt: skip
