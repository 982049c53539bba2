"""What must hold before the numbers mean what they say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2_contingency

from evalsuite.analysis.items import TaskScores
from evalsuite.analysis.pairs import ALPHA, MEAN_OF_TASKS
from evalsuite.numbers import p_value, percent
from evalsuite.tables import Tables

Row = dict[str, Any]

MAX_UNSCORED = 0.02

RANGES = {
    "ppl": (1, np.inf), "ppl_ratio": (1e-12, np.inf), "kld_mean": (-1e-3, np.inf), "kld_median": (-1e-3, np.inf),
    "kld_p99": (-1e-3, np.inf), "kld_p999": (-1e-3, np.inf), "kld_max": (-1e-3, np.inf),
    "rms_dp": (0, 1), "same_top_p": (0, 1),
}  # fmt: skip
"""Possible values: a KLD is a little below 0 only by the 16-bit storage of the reference's logits."""


def gate_rows(
    quants: Sequence[Row],
    tasks: Sequence[TaskScores],
    chance: Mapping[str, float],
    scores: Sequence[Row],
    tables: Tables,
    reference: str,
    decidability: Sequence[Row],
) -> list[Row]:
    """Return every gate as `{name, passed, detail}`; `passed` is None where there is nothing to judge by."""
    by_task = [row for row in scores if row["task"] != MEAN_OF_TASKS]
    proxies = tables.proxies
    return [
        _gate("reference repeated (A/A)", *_replicate(quants, tables)),
        _gate("every quant complete", *_complete(quants, by_task)),
        _gate(f"unscored at most {percent(MAX_UNSCORED, 0)}", *_unscored(by_task)),
        _gate("unscored alike for all quants", *_unscored_alike(tasks)),
        _gate("same prompts as the reference", *_same_prompts(tables.header.get("other_prompts"))),
        *(
            _gate(f"above chance: {task.task}", *_above_chance(task, chance[task.task], reference, by_task))
            for task in tasks
        ),
        *(_gate(f"quants differ at all: {row['task'].strip('()')}", *_omnibus(row)) for row in decidability),
        _gate("proxies on the same text", *_same_text(proxies, quants)),
        _gate("proxy values possible", *_possible(proxies)),
    ]


def _gate(name: str, passed: bool | None, detail: str) -> Row:
    return {"name": name, "passed": passed, "detail": detail}


def _replicate(quants: Sequence[Row], tables: Tables) -> tuple[bool | None, str]:
    if tables.items.empty:
        return None, "published tables say nothing of a second run"
    names = [row["quant"] for row in quants if row["replicate_of"] is not None and row["status"] != "failed"]
    if names:
        return True, f"{_listed(names)}: the noise floor is measured"
    return (
        False,
        "the reference ran once: how much a run differs from itself is unknown (`replicate_reference: true` adds one)",
    )


def _complete(quants: Sequence[Row], scores: Sequence[Row]) -> tuple[bool, str]:
    broken = [
        f"{row['quant']} {row['status']} ({row['reason'] or 'no reason given'})"
        for row in quants
        if row["status"] != "ok"
    ]
    silent = {row["quant"] for row in scores if row["outcomes"].get("not_run")} - {
        row["quant"] for row in quants if row["status"] != "ok"
    }
    broken += [f"{quant} lacks samples" for quant in sorted(silent)]
    return not broken, _listed(broken) or "every quant answered every planned sample"


def _unscored(scores: Sequence[Row]) -> tuple[bool | None, str]:
    shares = [
        (row["unscored"] / (row["n"] + row["unscored"]), f"{row['quant']} × {row['task']}")
        for row in scores
        if row["n"] + row["unscored"]
    ]
    if not shares:
        return None, "there are no samples"
    over = [f"{name} {percent(share)}" for share, name in shares if share > MAX_UNSCORED]
    share, name = max(shares)
    return not over, _listed(over) or (f"at most {percent(share)} ({name})" if share else "every sample has a score")


def _unscored_alike(tasks: Sequence[TaskScores]) -> tuple[bool, str]:
    different = []
    for task in tasks:
        scored = (~np.isnan(task.scores)).sum(axis=1)
        table = np.stack((scored, task.planned - scored))
        if table[1].any() and table[0].any():
            p = float(chi2_contingency(table, correction=False).pvalue)
            different += [f"{task.task} (χ² p {p_value(p)})"] if p < ALPHA else []
    return not different, _listed(different) or "no quant loses more samples to failures of ours than chance allows"


def _same_prompts(others: Sequence[Mapping[str, Any]] | None) -> tuple[bool | None, str]:
    if others is None:
        return None, "the tables do not say what was asked"
    different = [f"{row['quant']} × {row['task']} ({row['differing']} of {row['n']})" for row in others]
    return not different, _listed(different) or "every quant was asked the same, byte for byte"


def _above_chance(task: TaskScores, chance: float, reference: str, scores: Sequence[Row]) -> tuple[bool | None, str]:
    row = next(row for row in scores if row["task"] == task.task and row["quant"] == reference)
    if np.isnan(chance) or not row["n"]:
        return None, "the task states no chance level" if row["n"] else "the reference has no score"
    beside = f"{reference} {percent(row['value'])}, chance {percent(chance)}, n = {row['n']}"
    if task.binary and task.clusters is None:
        p = float(binomtest(round(row["value"] * row["n"]), row["n"], chance, alternative="greater").pvalue)
        return p < ALPHA, f"{beside}, one-sided binomial p {p_value(p)}"
    if np.isnan(row["low"]):
        return None, f"{beside}, no interval"
    return row["low"] > chance, f"{beside}, 95 % interval from {percent(row['low'])}"


def _omnibus(row: Row) -> tuple[bool | None, str]:
    if np.isnan(row["omnibus_p"]):
        return None, "; ".join(row["notes"])
    told = f"{row['omnibus']}, p {p_value(row['omnibus_p'])}, {row['quants']} quants"
    if row["omnibus_p"] < ALPHA:
        return True, told
    return False, f"{told}: these quants cannot be ranked with these samples"


def _same_text(proxies: pd.DataFrame, quants: Sequence[Row]) -> tuple[bool | None, str]:
    if proxies.empty:
        return None, "there are no proxies"
    wanted = {
        row["quant"]
        for row in quants
        if row["status"] == "ok" and row["replicate_of"] is None and not row["is_reference"]
    }
    wrong = []
    for (tool, corpus), rows in proxies.groupby(["tool", "corpus"], dropna=False):
        where = f"{tool} on {corpus if isinstance(corpus, str) else 'an unnamed text'}"
        missing = sorted(wanted - set(rows["quant"]))
        wrong += [f"{where} lacks {_listed(missing)}"] if missing else []
        counts = sorted(rows["n_tokens"].dropna().unique()) if "n_tokens" in rows else []
        wrong += [f"{where} has token counts {_listed(f'{count:.0f}' for count in counts)}"] if len(counts) > 1 else []
    return not wrong, _listed(wrong) or "every quant on every text, with equal token counts"


def _possible(proxies: pd.DataFrame) -> tuple[bool | None, str]:
    if proxies.empty:
        return None, "there are no proxies"
    wrong = [
        f"{row['quant']}: {name} {row[name]:g}"
        for row in proxies.to_dict("records")
        for name, (low, high) in RANGES.items()
        if name in row and not pd.isna(row[name]) and not low <= row[name] <= high
    ]
    wrong += [
        f"{row['quant']}: {small} above {large}"
        for row in proxies.to_dict("records")
        for small, large in (
            ("kld_median", "kld_p99"), ("kld_p99", "kld_p999"), ("kld_p999", "kld_max"), ("kld_mean", "kld_max"),
        )
        if small in row and large in row and row[small] > row[large] + 1e-9
    ]  # fmt: skip
    return not wrong, _listed(wrong) or "PPL ≥ 1, KLD ≥ 0, shares in [0, 1], percentiles in order"


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
