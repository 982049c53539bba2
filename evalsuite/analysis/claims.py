"""The sentences that state a finding, each with the numbers behind it. The report prints these and no others.

Rules of wording: "worse" and "better" only where Holm's correction leaves p < .05; pairs that are undecided are
counted in the same sentence; "no significant difference" is followed by the smallest difference that would have been
found; a rank correlation names its n and its interval, or says that there is none.
"""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any

import numpy as np

from evalsuite.analysis.pairs import ALPHA, MEAN_OF_TASKS
from evalsuite.report.numbers import coefficient, interval, p_value, percent, points, width
from evalsuite.stats.multiple import holm

Row = dict[str, Any]

PROXY_NAMES = {
    "kld_mean": "mean KLD", "kld_median": "median KLD", "kld_p99": "99 % KLD", "kld_p999": "99.9 % KLD",
    "kld_max": "maximum KLD", "ppl": "perplexity", "ppl_ratio": "perplexity ratio", "rms_dp": "RMS Δp",
    "same_top_p": "same top token", "size_bytes": "file size",
}  # fmt: skip

HEADLINES = ("kld_mean", "ppl", "ppl_ratio", "same_top_p", "size_bytes")
"""The proxies that get a sentence; the others stand in the table."""


def claim_rows(pairs: Sequence[Row], correlations: Sequence[Row], reference: str) -> list[Row]:
    """Return the findings: one over all quants, one a quant, one about the noise floor, one a headline proxy."""
    by_quant: dict[str, list[Row]] = {}
    for row in pairs:
        if row["kind"] == "quant":
            by_quant.setdefault(row["b"], []).append(row)
    quants = [_quant_claim(quant, rows, reference) for quant, rows in by_quant.items()]
    return [
        *_summary(by_quant, reference),
        *quants,
        *_floor_claims(pairs, by_quant, reference),
        *_proxy_claims(correlations),
    ]


def proxy_name(name: str, corpus: str | None) -> str:
    """Name a proxy as a reader knows it, with its text."""
    return PROXY_NAMES[name] + (f" on {corpus}" if corpus else "")


def _summary(by_quant: Mapping[str, Sequence[Row]], reference: str) -> list[Row]:
    verdicts = {quant: {row["verdict"] for row in rows} - {None} for quant, rows in by_quant.items()}
    judged = [found for found in verdicts.values() if found]
    tested = [row for rows in by_quant.values() for row in rows if row["verdict"]]
    if not judged:
        return []
    worse, better = (sum(verdict in found for found in judged) for verdict in ("worse", "better"))
    undecided = sum(found == {"undecided"} for found in judged)
    tasks = {row["task"] for row in tested}
    where = "at least one task or on the mean of the tasks" if MEAN_OF_TASKS in tasks else f"{next(iter(tasks))}"
    text = (
        f"Of {_counted(len(judged), 'quant')} compared with {reference}, {worse} {_is(worse)} worse on {where}, "
        f"{better} {_is(better)} better, and {undecided} {_is(undecided)} undecided "
        f"({_counted(len(tested), 'comparison')}, Holm-corrected at 5 %)."
    )
    status = "undecided" if worse == better == 0 else "supported"
    lowest = min(row["p_holm"] for row in tested)
    inputs = [_pair_input(row) for row in tested]
    return [_claim("summary", text, worse, nan, nan, "two-sided, Holm", lowest, len(judged), status, inputs)]


def _quant_claim(quant: str, rows: Sequence[Row], reference: str) -> Row:
    tested = [row for row in rows if row["verdict"]]
    if not tested:
        text = f"{quant} has no sample in common with {reference}: nothing can be said."
        return _claim(f"quant:{quant}", text, nan, nan, nan, None, nan, 0, "undecided", [])
    # The mean of the tasks leads: it is what a reader picks by.
    tested.sort(key=lambda row: (row["task"] != MEAN_OF_TASKS, row["p_holm"]))
    tasks = [row for row in tested if row["task"] != MEAN_OF_TASKS]
    undecided = [row for row in tasks if row["verdict"] == "undecided"]
    parts = [
        f"{verdict} than {reference} on {_joined([_decided(row) for row in found])}"
        for verdict in ("worse", "better")
        if (found := [row for row in tested if row["verdict"] == verdict])
    ]
    if not parts:
        where = tasks[0]["task"] if len(tasks) == 1 else f"any of {len(tasks)} tasks"
        mean = "Mean of tasks: " if tested[0]["task"] == MEAN_OF_TASKS else ""
        text = (
            f"{quant} shows no significant difference from {reference} on {where}: {_power(undecided)}. "
            f"{mean}{_delta(tested[0])}, n = {tested[0]['n']:,}, Holm p {p_value(tested[0]['p_holm'])}, undecided."
        )
        return _pair_claim(f"quant:{quant}", text, tested[0], tested[0]["p_holm"], "undecided", tested) | {
            "verdict": "undecided"
        }
    decided = [row for row in tested if row["verdict"] != "undecided"]
    counts = sorted({row["n"] for row in decided})
    strength = f"n = {_range([f'{n:,}' for n in counts])}, Holm {_at_most(max(row['p_holm'] for row in decided))}"
    rest = f"{len(undecided)} of {_counted(len(tasks), 'task')} undecided" + (
        f": {_power(undecided)}" if undecided else ""
    )
    text = f"{quant} is {' and '.join(parts)}; {strength}; {rest}."
    verdicts = {row["verdict"] for row in decided}
    claim = _pair_claim(f"quant:{quant}", text, decided[0], decided[0]["p_holm"], "supported", tested)
    return claim | {"verdict": verdicts.pop() if len(verdicts) == 1 else "mixed"}


def _floor_claims(pairs: Sequence[Row], by_quant: Mapping[str, Sequence[Row]], reference: str) -> list[Row]:
    floors = [row for row in pairs if row["kind"] == "replicate" and row["task"] != MEAN_OF_TASKS and row["n"]]
    if not floors:
        if not by_quant:
            return []
        text = f"{reference} ran once, so how much a run differs from itself is unknown."
        return [_claim("noise-floor", text, nan, nan, nan, None, nan, 0, "undecided", [])]
    flips, n = sum(row["gained"] + row["lost"] for row in floors), sum(row["n"] for row in floors)
    largest = max(floors, key=lambda row: abs(row["delta"]))
    moved = (
        f"the largest difference is {width(abs(largest['delta']))} points"
        f" ({largest['task']}, 95 % {_interval(largest)})"
        if largest["delta"]
        else "no score moved"
    )
    text = f"Noise floor: run again, {largest['a']} changed {flips} of {n:,} scores ({percent(flips / n)}); {moved}."
    return [_pair_claim("noise-floor", text, largest, nan, "supported", floors)]


def _proxy_claims(correlations: Sequence[Row]) -> list[Row]:
    tasks = {row["task"] for row in correlations}
    task = MEAN_OF_TASKS if MEAN_OF_TASKS in tasks else next(iter(tasks), None)
    by_proxy: dict[tuple[int, str, str], dict[str, Row]] = {}
    for row in correlations:
        if row["task"] == task and row["proxy"] in HEADLINES:
            key = (HEADLINES.index(row["proxy"]), row["tool"], row["corpus"] or "")
            by_proxy.setdefault(key, {})[row["method"]] = row
    chosen = [
        (found, found["spearman" if found["spearman"]["n"] >= 8 else "kendall"])
        for _, found in sorted(by_proxy.items())
    ]
    adjusted = holm(np.array([row["p"] for _, row in chosen]))
    return [_proxy_claim(found, row, float(p)) for (found, row), p in zip(chosen, adjusted, strict=True)]


def _proxy_claim(found: Mapping[str, Row], row: Row, p_adj: float) -> Row:
    rho, tau = found["spearman"], found["kendall"]
    name = proxy_name(row["proxy"], row["corpus"])
    where = "the mean of the tasks" if row["task"] == MEAN_OF_TASKS else row["task"]
    status, reading = _agreement(row, p_adj)
    coefficients = [f"Spearman ρ {coefficient(rho['rho'])}"] if not isnan(rho["rho"]) else []
    coefficients += [f"Kendall τ {coefficient(tau['rho'])}"] if not isnan(tau["rho"]) else []
    limits = (
        f"n = {row['n']}: no interval"
        if isnan(row["low"])
        else f"n = {row['n']}, 95 % interval of ρ [{coefficient(row['low'])}, {coefficient(row['high'])}]"
    )
    tested = "no test" if isnan(p_adj) else f"Holm p {p_value(p_adj)}"
    found_text = f"over all quants: {', '.join((*coefficients, limits, tested))}; {reading}"
    text = f"{name[0].upper()}{name[1:]} and {where}, {found_text if coefficients else '; '.join(rho['notes'])}."
    identity = f"proxy:{row['proxy']}:{row['tool']}:{row['corpus'] or ''}"
    inputs = [{key: row[key] for key in ("proxy", "tool", "corpus", "task", "method", "subset")} for row in (rho, tau)]
    test = f"{row['method']}, {row['question']}"
    return _claim(identity, text, row["rho"], row["low"], row["high"], test, p_adj, row["n"], status, inputs)


def _agreement(row: Row, p_adj: float) -> tuple[str, str]:
    if isnan(p_adj) or p_adj >= ALPHA:
        return "undecided", "these quants cannot tell whether it ranks them as the tasks do"
    if row["rho"] * row["damage_sign"] < 0:
        return "supported", "it ranks these quants much as the tasks do"
    return "refuted", "it ranks these quants against the tasks"


def _power(undecided: Sequence[Row]) -> str:
    """Say what the undecided pairs would have missed."""
    found = sorted({width(row["mde_family"]) for row in undecided if not isnan(row["mde_family"])}, key=float)
    alone = sorted({width(row["mde"]) for row in undecided if not isnan(row["mde"])}, key=float)
    if not alone:
        return "with so few samples no difference at all could be found with 80 % power"
    smallest = f"the smallest difference found with 80 % power is {_range(alone)} points"
    return smallest if found == alone or not found else f"{smallest}, {_range(found)} with the correction"


def _range(sizes: Sequence[str]) -> str:
    return sizes[0] if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"


def _decided(row: Row) -> str:
    return f"{'the mean of the tasks' if row['task'] == MEAN_OF_TASKS else row['task']} ({_delta(row)})"


def _delta(row: Row) -> str:
    return f"{points(row['delta'])} points {_interval(row)}"


def _at_most(p: float) -> str:
    return f"p {p_value(p)}" if p < 0.0001 else f"p ≤ {p_value(p)}"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _interval(row: Row) -> str:
    return interval(*(None if isnan(limit) else limit for limit in (row["low"], row["high"])))


def _pair_claim(identity: str, text: str, shown: Row, p_adj: float, status: str, inputs: Sequence[Row]) -> Row:
    numbers = (shown["delta"], shown["low"], shown["high"], shown["test"], p_adj, shown["n"])
    return _claim(identity, text, *numbers, status, [_pair_input(row) for row in inputs]) | {"task": shown["task"]}


def _pair_input(row: Row) -> Row:
    return {key: row[key] for key in ("task", "a", "b")}


def _claim(
    identity: str,
    text: str,
    estimate: float,
    low: float,
    high: float,
    test: str | None,
    p_adj: float,
    n: int,
    status: str,
    inputs: list[Row],
) -> Row:
    return {
        "id": identity, "text": text, "estimate": estimate, "low": low, "high": high, "test": test, "p_adj": p_adj,
        "n": n, "status": status, "inputs": inputs,
    }  # fmt: skip


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
