"""The sentences that state a finding, each with the numbers behind it. The report prints these and no others.

Rules of wording: "worse" and "better" only where Holm's correction leaves p < .05; pairs that are undecided are
counted in the same sentence; "no significant difference" is followed by the smallest difference that would have been
found; a rank correlation names its n and its interval, or says that there is none.
"""

from collections.abc import Collection, Mapping, Sequence
from math import isnan, nan
from typing import Any

import numpy as np

from evalsuite.analysis.columns import proxy_name
from evalsuite.analysis.left_out import LeftOut
from evalsuite.analysis.pairs import ALPHA, MEAN_OF_TASKS
from evalsuite.analysis.verdicts import (
    SAME,
    between_claims,
    claim,
    comparison_claims,
    left_out_claims,
    limits,
    misleading_claims,
    of_task,
    range_claims,
    verdict_claims,
)
from evalsuite.numbers import coefficient, interval, p_value, percent, points, width
from evalsuite.stats.equivalence import MARGIN
from evalsuite.stats.multiple import holm

Row = dict[str, Any]

FAMILY = "quants × tasks; the means of the tasks apart"

HEADLINES = ("kld_mean", "ppl", "ppl_ratio", "same_top_p", "size_bytes")
"""The proxies that get a sentence; the others stand in the table."""


def claim_rows(found: Row, left_out: Sequence[LeftOut], averages: Collection[str]) -> list[Row]:
    """Return the findings of an analysis: what it comes to, each quant, the noise floor, each headline proxy, and the rest.

    `averages` are tasks that are means of the others.
    """
    means = {MEAN_OF_TASKS, *averages}
    pairs, reference = found["pairs"], found["header"]["reference"]
    by_quant: dict[str, list[Row]] = {}
    for row in pairs:
        if row["kind"] == "quant":
            by_quant.setdefault(row["b"], []).append(row)
    quants = [_quant_claim(quant, rows, reference, means) for quant, rows in by_quant.items()]
    return [
        *verdict_claims(found),
        *left_out_claims(found["misleading"], left_out),
        *_summary(by_quant, reference, means),
        *quants,
        *_floor_claims(pairs, by_quant, reference),
        *_proxy_claims([row for row in found["correlations"] if row["subset"] == "all"], found["influence"]),
        *between_claims(found),
        *misleading_claims(found["misleading"]),
        *range_claims(found["range_curves"]),
        *comparison_claims(found["proxy_comparison"]),
    ]


def _summary(by_quant: Mapping[str, Sequence[Row]], reference: str, means: Collection[str]) -> list[Row]:
    verdicts = {quant: {row["verdict"] for row in rows} - {None} for quant, rows in by_quant.items()}
    judged = [found for found in verdicts.values() if found]
    tested = [row for rows in by_quant.values() for row in rows if row["verdict"]]
    if not judged:
        return []
    worse, better = (sum(verdict in found for found in judged) for verdict in ("worse", "better"))
    alike = sum(found == {"equivalent"} for found in judged)
    undecided = sum(not found & {"worse", "better"} for found in judged) - alike
    tasks = {row["task"] for row in tested}
    if tasks.intersection(means) and tasks.difference(means):
        where = "at least one task or on the mean of the tasks"
    else:
        where = "at least one task" if len(tasks) > 1 else min(tasks)
    text = (
        f"Of {_counted(len(judged), 'quant')} compared with {reference}, {worse} {_is(worse)} worse on {where}, "
        f"{better} {_is(better)} better, "
        + (f"{alike} {_is(alike)} equivalent within ±{width(MARGIN)} point on all of them, " if alike else "")
        + f"and {undecided} {_is(undecided)} undecided "
        f"({_counted(len(tested), 'comparison')}, Holm-corrected at 5 %)."
    )
    status = "undecided" if worse == better == 0 else "supported"
    lowest = min(row["p_holm"] for row in tested)
    inputs = [_pair_input(row) for row in tested]
    return [
        claim("summary", text, worse, nan, nan, "two-sided, Holm", lowest, len(judged), status, inputs, family=FAMILY)
    ]


def _quant_claim(quant: str, rows: Sequence[Row], reference: str, means: Collection[str]) -> Row:
    tested = [row for row in rows if row["verdict"]]
    if not tested:
        text = f"{quant} has no sample in common with {reference}: nothing can be said."
        return claim(f"quant:{quant}", text, nan, nan, nan, None, nan, 0, "undecided", [])
    # The mean of the tasks leads: it is what a reader picks by.
    tested.sort(key=lambda row: (row["task"] not in means, row["p_holm"]))
    tasks = [row for row in tested if row["task"] not in means] or tested
    undecided = [row for row in tasks if row["verdict"] == "undecided"]
    alike = [row for row in tasks if row["verdict"] == "equivalent"]
    also = f" Equivalent within ±{width(MARGIN)} point on {_joined([row['task'] for row in alike])}." if alike else ""
    parts = [
        f"{verdict} than {reference} on {_joined([_decided(row) for row in found])}"
        for verdict in ("worse", "better")
        if (found := [row for row in tested if row["verdict"] == verdict])
    ]
    if not parts and len(alike) == len(tasks):
        text = (
            f"{quant} is equivalent to {reference} within ±{width(MARGIN)} point on "
            f"{_joined([_decided(row) for row in alike])} (90 % intervals inside the margin); n = {alike[0]['n']:,}."
        )
        row = _pair_claim(f"quant:{quant}", text, alike[0], alike[0]["p_holm"], "supported", tested)
        return row | {"verdict": "equivalent"}
    if not parts:
        where = tasks[0]["task"] if len(tasks) == 1 else f"any of {len(tasks)} tasks"
        mean = "Mean of tasks: " if tested[0]["task"] in means else ""
        text = (
            f"{quant} shows no significant difference from {reference} on {where}: {_power(undecided)}. "
            f"{mean}{_delta(tested[0])}, n = {tested[0]['n']:,}, Holm p {p_value(tested[0]['p_holm'])}, undecided.{also}"
        )
        return _pair_claim(f"quant:{quant}", text, tested[0], tested[0]["p_holm"], "undecided", tested) | {
            "verdict": "undecided"
        }
    decided = [row for row in tested if row["verdict"] in {"worse", "better"}]
    counts = sorted({row["n"] for row in decided})
    strength = f"n = {_range([f'{n:,}' for n in counts])}, Holm {_at_most(max(row['p_holm'] for row in decided))}"
    rest = f"{len(undecided)} of {_counted(len(tasks), 'task')} undecided" + (
        f": {_power(undecided)}" if undecided else ""
    )
    text = f"{quant} is {' and '.join(parts)}; {strength}; {rest}.{also}"
    verdicts = {row["verdict"] for row in decided}
    row = _pair_claim(f"quant:{quant}", text, decided[0], decided[0]["p_holm"], "supported", tested)
    return row | {"verdict": verdicts.pop() if len(verdicts) == 1 else "mixed"}


def _floor_claims(pairs: Sequence[Row], by_quant: Mapping[str, Sequence[Row]], reference: str) -> list[Row]:
    floors = [row for row in pairs if row["kind"] == "replicate" and row["task"] != MEAN_OF_TASKS and row["n"]]
    if not floors:
        if not any(row["lost"] is not None for rows in by_quant.values() for row in rows):
            return []  # published means: there is no run to repeat
        text = f"{reference} ran once, so how much a run differs from itself is unknown."
        return [claim("noise-floor", text, nan, nan, nan, None, nan, 0, "undecided", [])]
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


def _proxy_claims(correlations: Sequence[Row], influences: Sequence[Row]) -> list[Row]:
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
    return [_proxy_claim(found, row, float(p), influences) for (found, row), p in zip(chosen, adjusted, strict=True)]


def _proxy_claim(found: Mapping[str, Row], row: Row, p_adj: float, influences: Sequence[Row]) -> Row:
    rho, tau = found["spearman"], found["kendall"]
    name = proxy_name(row["proxy"], row["corpus"])
    where = of_task(row["task"])
    status, reading = _agreement(row, p_adj)
    coefficients = [f"Spearman ρ {coefficient(rho['rho'])}"] if not isnan(rho["rho"]) else []
    coefficients += [f"Kendall τ {coefficient(tau['rho'])}"] if not isnan(tau["rho"]) else []
    shown = limits(rho)
    tested = "no test" if isnan(p_adj) else f"Holm p {p_value(p_adj)}"
    alone = [each for each in influences if each["flag"] and all(each[key] == row[key] for key in SAME)]
    without = "".join(f"; without {each['quant']} ρ is {coefficient(each['rho_without'])}" for each in alone[:3])
    found_text = f"over all quants: {', '.join((*coefficients, shown, tested))}; {reading}{without}"
    text = f"{name[0].upper()}{name[1:]} and {where}, {found_text if coefficients else '; '.join(rho['notes'])}."
    identity = f"proxy:{row['proxy']}:{row['tool']}:{row['corpus'] or ''}"
    inputs = [{key: row[key] for key in ("proxy", "tool", "corpus", "task", "method", "subset")} for row in (rho, tau)]
    test = f"{row['method']}, {row['question']}"
    return claim(
        identity,
        text,
        row["rho"],
        row["low"],
        row["high"],
        test,
        p_adj,
        row["n"],
        status,
        inputs,
        quants=row["n"],
        family="proxies",
        question=row["question"],
    )


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
    return f"{of_task(row['task'])} ({_delta(row)})"


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
    return claim(identity, text, *numbers, status, [_pair_input(row) for row in inputs], family=FAMILY) | {
        "task": shown["task"]
    }


def _pair_input(row: Row) -> Row:
    return {key: row[key] for key in ("task", "a", "b")}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
