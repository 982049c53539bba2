"""What must hold before the numbers mean what they say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2_contingency

from evalsuite.analysis.columns import ProxyColumn
from evalsuite.analysis.items import TaskScores
from evalsuite.analysis.left_out import LeftOut
from evalsuite.analysis.pairs import ALPHA, MEAN_OF_TASKS
from evalsuite.numbers import decimals, p_value, percent
from evalsuite.tables import Tables

Row = dict[str, Any]
Judged = tuple[bool | None, str, tuple[LeftOut, ...]]

MAX_UNSCORED = 0.02
MIN_LIVE = 0.01
MAX_PPL = 50
"""Above this a chat model's perplexity on bare text says little: smaller quants can come out below larger ones."""

FLOOR_KLD = 1e-3
"""No file differs more than this, in nats, from itself."""

MIN_TAIL = 30
"""The 99.9 % quantile of fewer tokens than this beyond it is hardly more than the maximum."""

CONTRADICTIONS = {
    "ppl_inconsistent", "several_references", "equal_proxies", "implied_parameters", "gb_gib", "sizes_differ",
    "score_of_other_items", "score_of_a_failure",
}  # fmt: skip
"""The importer's findings that say a value is wrong; the others say how a table was read, or what it put right."""

RANGES = {
    "ppl": (1, np.inf), "ppl_ratio": (1e-12, np.inf), "kld_mean": (-1e-3, np.inf), "kld_median": (-1e-3, np.inf),
    "kld_p99": (-1e-3, np.inf), "kld_p999": (-1e-3, np.inf), "kld_max": (-1e-3, np.inf),
    "rms_dp": (0, 1), "same_top_p": (0, 1),
}  # fmt: skip
"""Possible values: a KLD is a little below 0 only by the 16-bit storage of the reference's logits."""

ASCENDING = (
    ("kld_median", "kld_p99"), ("kld_p99", "kld_p999"), ("kld_p999", "kld_max"), ("kld_mean", "kld_max"),
)  # fmt: skip

OF_BASE = {"kld_mean", "kld_median", "kld_p99", "kld_p999", "rms_dp", "same_top_p"}
"""What is measured against the reference's stored logits."""


@dataclass(frozen=True)
class Gate:
    """One check: `passed` is None where there is nothing to judge by; `removes` is what is taken out."""

    name: str
    passed: bool | None
    detail: str
    removes: tuple[LeftOut, ...] = ()


def gates(
    quants: Sequence[Row],
    tasks: Sequence[TaskScores],
    columns: Sequence[ProxyColumn],
    scores: Sequence[Row],
    tables: Tables,
    distinct: Sequence[str],
    decidability: Sequence[Row],
) -> list[Gate]:
    """Return every gate. One about a quant on a task takes out that quant there: the others were asked as planned."""
    by_task = [row for row in scores if row["task"] != MEAN_OF_TASKS]
    chance = {str(row["task"]): float(row["chance"]) for row in tables.tasks.to_dict("records")}
    reference = next(str(row["quant"]) for row in quants if row["is_reference"])
    return [
        Gate("reference repeated (A/A)", *_replicate(quants, tables)),
        Gate("every quant complete", *_complete(quants, by_task)),
        Gate(f"unscored at most {percent(MAX_UNSCORED, 0)}", *_unscored(by_task, distinct)),
        Gate("unscored alike for all quants", *_unscored_alike(tasks)),
        Gate("same prompts as the reference", *_same_prompts(tables.header.get("other_prompts"), distinct)),
        *(
            Gate(f"above chance: {task.task}", *_above_chance(task, chance[task.task], reference, by_task))
            for task in tasks
        ),
        *(Gate(f"not saturated: {row['task']}", *_live(row)) for row in decidability if not isnan(row["live"])),
        *(Gate(f"quants differ at all: {row['task'].strip('()')}", *_omnibus(row)) for row in decidability),
        Gate("proxies on the same text", *_same_text(tables.proxies, quants, columns)),
        Gate("proxy values possible", *_possible(columns)),
        *(_low_perplexity(column, reference, columns) for column in columns if column.proxy == "ppl"),
        Gate("reference against itself", *_self_run(quants, reference, columns, tables)),
        Gate(f"99.9 % KLD over {MIN_TAIL} tokens of the tail", *_tails(tables.proxies, columns)),
        Gate("published values consistent", *_consistent(tables.header.get("import"))),
    ]


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


def _unscored(scores: Sequence[Row], distinct: Sequence[str]) -> Judged:
    shares = [
        (row["unscored"] / (row["n"] + row["unscored"]), row["quant"], row["task"])
        for row in scores
        if row["n"] + row["unscored"]
    ]
    if not shares:
        return None, "there are no samples", ()
    over = [each for each in shares if each[0] > MAX_UNSCORED]
    share, quant, task = max(shares)
    told = _listed(f"{quant} × {task} {percent(share)}" for share, quant, task in over)
    return (
        not over, told or (f"at most {percent(share)} ({quant} × {task})" if share else "every sample has a score"),
        tuple(
            LeftOut(f"more than {percent(MAX_UNSCORED, 0)} of the samples have no score", task, quant)
            for _, quant, task in over if quant in distinct
        ),
    )  # fmt: skip


def _unscored_alike(tasks: Sequence[TaskScores]) -> tuple[bool, str]:
    different = []
    for task in tasks:
        scored = (~np.isnan(task.scores)).sum(axis=1)
        table = np.stack((scored, task.planned - scored))
        if table[1].any() and table[0].any():
            p = float(chi2_contingency(table, correction=False).pvalue)
            different += [f"{task.task} (χ² p {p_value(p)})"] if p < ALPHA else []
    return not different, _listed(different) or "no quant loses more samples to failures of ours than chance allows"


def _same_prompts(others: Sequence[Mapping[str, Any]] | None, distinct: Sequence[str]) -> Judged:
    if others is None:
        return None, "the tables do not say what was asked", ()
    different = [f"{row['quant']} × {row['task']} ({row['differing']} of {row['n']})" for row in others]
    return (
        not different, _listed(different) or "every quant was asked the same, byte for byte",
        tuple(
            LeftOut("it was asked other prompts than the reference", row["task"], row["quant"])
            for row in others if row["quant"] in distinct
        ),
    )  # fmt: skip


def _above_chance(task: TaskScores, chance: float, reference: str, scores: Sequence[Row]) -> Judged:
    row = next(row for row in scores if row["task"] == task.task and row["quant"] == reference)
    if np.isnan(chance) or not row["n"]:
        return None, "the task states no chance level" if row["n"] else "the reference has no score", ()
    beside = f"{reference} {percent(row['value'])}, chance {percent(chance)}, n = {row['n']}"
    if task.binary and task.clusters is None:
        p = float(binomtest(round(row["value"] * row["n"]), row["n"], chance, alternative="greater").pvalue)
        above, beside = p < ALPHA, f"{beside}, one-sided binomial p {p_value(p)}"
    elif np.isnan(row["low"]):
        return None, f"{beside}, no interval", ()
    else:
        above, beside = bool(row["low"] > chance), f"{beside}, 95 % interval from {percent(row['low'])}"
    return above, beside, () if above else (LeftOut(f"{reference} is not above chance", task.task),)


def _live(row: Row) -> Judged:
    passed = row["live"] >= MIN_LIVE
    told = f"the scores differ on {percent(row['live'])} of the samples"
    return passed, told, () if passed else (LeftOut(f"saturated: {told}", row["task"]),)


def _omnibus(row: Row) -> tuple[bool | None, str]:
    if np.isnan(row["omnibus_p"]):
        return None, "; ".join(row["notes"])
    told = f"{row['omnibus']}, p {p_value(row['omnibus_p'])}, {row['quants']} quants"
    if row["omnibus_p"] < ALPHA:
        return True, told
    return False, f"{told}: these quants cannot be ranked with these samples"


def _same_text(proxies: pd.DataFrame, quants: Sequence[Row], columns: Sequence[ProxyColumn]) -> Judged:
    """Judge by what is missing and by the counts; only unequal counts make what is there incomparable."""
    if proxies.empty:
        return None, "there are no proxies", ()
    wanted = {
        row["quant"]
        for row in quants
        if row["status"] == "ok" and row["replicate_of"] is None and not row["is_reference"]
    }
    wrong, removes = [], []
    for (tool, corpus), rows in proxies.groupby(["tool", "corpus"], dropna=False):
        text = corpus if isinstance(corpus, str) else None
        mine = [column for column in columns if (column.tool, column.corpus) == (tool, text)]
        if not mine:  # a speed, say
            continue
        where = f"{tool} on {text or 'an unnamed text'}"
        missing = sorted(wanted - set(rows["quant"]))
        wrong += [f"{where} lacks {_listed(missing)}"] if missing else []
        counted = [
            f"{noun} {_listed(f'{count:.0f}' for count in counts)}"
            for name, noun in (("n_tokens", "token counts"), ("ctx", "contexts"), ("chunks", "chunk counts"))
            if name in rows and len(counts := sorted(rows[name].dropna().unique())) > 1
        ]
        if counted:
            told = f"{where} has {' and '.join(counted)}"
            wrong.append(told)
            removes += [_left_out(told, each) for each in mine]
    return not wrong, _listed(wrong) or "every quant on every text, with equal token counts", tuple(removes)


def _possible(columns: Sequence[ProxyColumn]) -> Judged:
    shown = [column for column in columns if column.proxy in RANGES]
    if not shown:
        return None, "there is no perplexity and no KLD", ()
    wrong, removes = [], []
    for column in shown:
        low, high = RANGES[column.proxy]
        cells = [
            f"{quant}: {column.proxy} {value:g}" for quant, value in column.measured.items() if not low <= value <= high
        ]
        wrong += cells
        removes += [_left_out("an impossible value", column)] if cells else []
    for small, large in product(shown, shown):
        if (small.proxy, large.proxy) in ASCENDING and (small.tool, small.corpus) == (large.tool, large.corpus):
            cells = [
                f"{quant}: {small.proxy} above {large.proxy}"
                for quant, value in small.measured.items() if value > large.measured.get(quant, np.inf) + 1e-9
            ]  # fmt: skip
            wrong += cells
            removes += [_left_out("a percentile above a higher one", each) for each in (small, large) if cells]
    return not wrong, _listed(wrong) or "PPL ≥ 1, KLD ≥ 0, shares in [0, 1], percentiles in order", tuple(removes)


def _low_perplexity(column: ProxyColumn, reference: str, columns: Sequence[ProxyColumn]) -> Gate:
    name = f"perplexity below {MAX_PPL}{f': {column.corpus}' if column.corpus else ''}"
    value = column.measured.get(reference)
    if value is None:
        return Gate(name, None, f"no perplexity of {reference} is known")
    told = f"the perplexity of {reference} is {decimals(value, 4)}"
    if value < MAX_PPL:
        return Gate(name, True, told)
    of_text = (
        each for each in columns
        if each.proxy in {"ppl", "ppl_ratio"} and (each.tool, each.corpus) == (column.tool, column.corpus)
    )  # fmt: skip
    return Gate(name, False, told, tuple(_left_out(f"{told} there", each) for each in of_text))


def _self_run(quants: Sequence[Row], reference: str, columns: Sequence[ProxyColumn], tables: Tables) -> Judged:
    """Judge by the KLD of the reference's own file; published tables may hold one against a file that they lack."""
    published = "import" in tables.header
    same = [
        row["quant"] for row in quants
        if row["replicate_of"] == reference or (row["quant"] == reference and not published)
    ]  # fmt: skip
    klds = [column for column in columns if column.proxy == "kld_mean"]
    found = [(column.measured[quant], quant, column) for column in klds for quant in same if quant in column.measured]
    if not found:
        return None, "no KLD of the reference against itself is known", ()
    over = [each for each in found if each[0] >= FLOOR_KLD]
    told = [
        f"{quant} on {column.corpus or column.tool}: mean KLD {value:.3g}" for value, quant, column in over or found
    ]
    bases = {(column.tool, column.corpus) for _, _, column in over}
    why = f"{reference} differs from itself by {FLOOR_KLD:g} nats or more"
    against = [column for column in columns if column.proxy in OF_BASE and (column.tool, column.corpus) in bases]
    return not over, _listed(told), tuple(_left_out(why, column) for column in against)


def _tails(proxies: pd.DataFrame, columns: Sequence[ProxyColumn]) -> Judged:
    told, removes = [], []
    for column in columns:
        if column.proxy == "kld_p999" and "n_tokens" in proxies:
            same = (proxies["tool"] == column.tool) & (proxies["corpus"].fillna("") == (column.corpus or ""))
            tokens = proxies.loc[same & proxies["kld_p999"].notna(), "n_tokens"].min()
            if not isnan(tokens):
                said = f"{tokens / 1000:.3g} tokens lie beyond it"
                told.append(f"{column.corpus or column.tool}: {said}")
                removes += [_left_out(f"only {said}", column)] if tokens / 1000 < MIN_TAIL else []
    # A short text is no fault: the value stands, and ranks nothing.
    passed = None if removes or not told else True
    return passed, _listed(told) or "no 99.9 % KLD with a count of tokens", tuple(removes)


def _consistent(findings: Sequence[Mapping[str, Any]] | None) -> tuple[bool | None, str]:
    """Judge by the importer; which of the values that contradict each other is wrong it cannot say, so all stay."""
    if findings is None:
        return None, "nothing was read from published tables"
    wrong = [
        f"{': '.join(filter(None, (each['quant'], each['column'])))}: {each['detail'].rstrip('.')}"
        for each in findings
        if each["rule"] in CONTRADICTIONS
    ]
    return not wrong, _listed(wrong, 3) or "no value contradicts another"


def _left_out(why: str, column: ProxyColumn) -> LeftOut:
    return LeftOut(why, proxy=column.proxy, tool=column.tool, corpus=column.corpus)


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
