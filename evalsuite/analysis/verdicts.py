"""The sentences about choosing by a proxy: what it comes to, where it misleads, and in which range it tells anything."""

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from evalsuite.analysis.columns import proxy_name
from evalsuite.analysis.left_out import LeftOut, reasons
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.numbers import coefficient, decimals, gigabytes, interval, p_value, points

Row = dict[str, Any]

SAME = ("proxy", "tool", "corpus", "task")
"""What rows about one proxy on one task have in common."""

LEADS = {"kld_mean", "kld_p999", "ppl", "size_bytes"}
"""The proxies whose agreement with each other gets a sentence. The PPL ratio orders quants as the PPL does."""

PAIRS = "proxies × tasks × pairs of quants"

SHOWN = 10
"""So many misleading pairs get a sentence each; the table has all."""


def claim(
    identity: str, text: str, estimate: float, low: float, high: float, test: str | None, p_adj: float, n: int,
    status: str, inputs: list[Row], *, quants: int | None = None, family: str | None = None, question: str | None = None,
) -> Row:  # fmt: skip
    """Return one row of the claims ledger: `family` is what p_adj is corrected over, `question` what the interval asks."""
    return {
        "id": identity, "text": text, "estimate": estimate, "low": low, "high": high, "test": test, "p_adj": p_adj,
        "n": n, "quants": quants, "family": family, "question": question, "status": status, "inputs": inputs,
    }  # fmt: skip


def of_task(task: str) -> str:
    """Name a task inside a sentence."""
    return "the mean of the tasks" if task == MEAN_OF_TASKS else task


def limits(row: Row) -> str:
    """Say of a coefficient how many quants it is over, its interval, and which question that answers."""
    if isnan(row["low"]):
        return f"n = {row['n']}: no interval"
    return (
        f"n = {row['n']}, 95 % interval of ρ [{coefficient(row['low'])}, {coefficient(row['high'])}] "
        f"for {row['question']}"
    )


def verdict_claims(found: Row) -> list[Row]:
    """Return the two sentences that answer the reader: does the proxy choose rightly, and what does choosing by it cost."""
    lead = _lead(found)
    if lead is None:
        return []
    name = proxy_name(lead["proxy"], lead["corpus"])
    rows = [row for row in found["misleading"] if _same(row, lead)]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("consistent", "misleading", "undecided")
    }
    text = (
        f"Choosing by {name}: on {of_task(lead['task'])} {counts['consistent']} of {len(rows)} pairs of quants are decided "
        f"as it says, {counts['misleading']} against it, and {counts['undecided']} are undecided."
    )
    status = "refuted" if counts["misleading"] else "supported" if counts["consistent"] else "undecided"
    share = counts["consistent"] / len(rows)
    lowest = min((row["p_holm"] for row in rows if not isnan(row["p_holm"])), default=nan)
    first = claim(
        "verdict:1",
        text,
        share,
        nan,
        nan,
        "intersection–union, Holm",
        lowest,
        len(rows),
        status,
        [_input(lead)],
        family=PAIRS,
    )
    costs = [row for row in found["regret"] if _same(row, lead)]
    return [first, *(_cost(row, name) for row in costs)]


def left_out_claims(misleading: Sequence[Row], left_out: Sequence[LeftOut]) -> list[Row]:
    """Return what the checks left out of all that compares proxies: tasks beside the verdict, proxies beside the pairs."""
    tasks, proxies = ([each for each in left_out if (each.proxy is None) == whole] for whole in (True, False))
    mean = any(row["task"] == MEAN_OF_TASKS for row in misleading)
    rest = "; the mean of the tasks is over the others there" if mean else ""
    texts = {"verdict:left-out": f"{reasons(tasks)}{rest}" if tasks else "", "left-out": reasons(proxies)}
    lead = "Left out of misleading pairs, regret, fronts and all else that compares proxies"
    return [
        claim(identity, f"{lead}: {text}.", nan, nan, nan, None, nan, 0, "undecided", []) | {"verdict": "left out"}
        for identity, text in texts.items() if text
    ]  # fmt: skip


def between_claims(found: Row) -> list[Row]:
    """Return how alike the proxies that people choose by order the quants, and that a table without scores says no more."""
    rows = [
        row for row in found["proxy_agreement"] if {row["first_proxy"]["proxy"], row["second_proxy"]["proxy"]} <= LEADS
    ]
    claims = [
        claim(
            f"matrix:{row['first']}:{row['second']}",
            f"{row['first'][0].upper()}{row['first'][1:]} and {row['second']} order {len(row['differing'])} of {row['pairs']} "
            f"pairs of quants differently, over all quants: Spearman ρ {coefficient(row['rho'])}, {limits(row)}.",
            row["rho"], row["low"], row["high"], None, nan, row["n"], "supported",
            [{key: row[key] for key in ("first", "second")}],
        )
        for row in rows
    ]  # fmt: skip
    if found["scores"]:
        return claims
    quants = len(found["quants"])
    text = (
        f"These tables hold proxies of {quants} {'quant' if quants == 1 else 'quants'} and no score of any task: they show "
        "how the proxies agree with each other and with file size, not whether one can choose by them."
    )
    return [claim("verdict:1", text, nan, nan, nan, None, nan, 0, "undecided", []), *claims]


def misleading_claims(rows: Sequence[Row]) -> list[Row]:
    """Return a sentence for each pair that a proxy orders against a task, both sides significant."""
    return [_misleading(row) for row in rows if row["verdict"] == "misleading"][:SHOWN]


def range_claims(rows: Sequence[Row]) -> list[Row]:
    """Return what each proxy tells of the mean of the tasks (or the only task) among the quants nearest the reference."""
    tasks = {row["task"] for row in rows}
    nearest: dict[tuple[str, str, str | None], Row] = {}
    for row in rows:
        shown = (row["task"] == MEAN_OF_TASKS or len(tasks) == 1) and row["n"] < row["quants"]
        if shown and row["direction"] == "upto":
            key = (row["proxy"], row["tool"], row["corpus"])
            nearest[key] = min(nearest.get(key, row), row, key=lambda each: each["n"])
    return [_range(row) for row in nearest.values()]


def comparison_claims(rows: Sequence[Row]) -> list[Row]:
    """Return a sentence for each pair of proxies of which one is shown to follow the scores more closely."""
    return [
        claim(
            f"contest:{row['task']}:{row['first']}:{row['second']}",
            f"{_winner(row)[0]} follows {of_task(row['task'])} more closely than {_winner(row)[1]} over all quants: |ρ|"
            f" differs by {coefficient(abs(row['delta_abs_rho']))} [{coefficient(row['low'])}, {coefficient(row['high'])}] for"
            f" other quants like these, other samples; n = {row['n']}.",
            row["delta_abs_rho"], row["low"], row["high"], "two-level bootstrap", nan, row["n"], "supported",
            [{key: row[key] for key in ("task", "first", "second")}],
        )
        for row in rows if row["verdict"] in {"first", "second"}
    ]  # fmt: skip


def _input(row: Row) -> Row:
    return {key: row[key] for key in SAME}


def _winner(row: Row) -> tuple[str, str]:
    names = row["first"], row["second"]
    return names if row["verdict"] == "first" else names[::-1]


def _lead(found: Row) -> Row | None:
    """Return the proxy and task that the report is headed by: what people choose by first, on all tasks together."""
    rows = found["misleading"]
    tasks = {row["task"] for row in rows}
    task = MEAN_OF_TASKS if MEAN_OF_TASKS in tasks else min(tasks, default=None)
    preferred = ("kld_mean", "ppl", "ppl_ratio")
    rows = sorted(
        (row for row in rows if row["task"] == task),
        key=lambda row: (
            preferred.index(row["proxy"]) if row["proxy"] in preferred else len(preferred), row["tool"],
            row["corpus"] or "",
        ),
    )  # fmt: skip
    return rows[0] if rows else None


def _same(row: Row, lead: Row) -> bool:
    return all(row[key] == lead[key] for key in SAME)


def _cost(row: Row, name: str) -> Row:
    bracket = sorted((row["crossfit"], row["naive"])) if not isnan(row["crossfit"]) else [nan, row["naive"]]
    cost = (
        f"at most {points(row['naive'])}"
        if isnan(bracket[0])
        else f"between {points(bracket[0])} and {points(bracket[1])}"
    )
    text = (
        f"Over {len(row['budgets'])} limits of file size, picking the lowest {name} that fits costs {cost} points of "
        f"{of_task(row['task'])} against the best that fits; the largest file that fits {points(row['largest_fit'])}, a "
        f"random one {points(row['random'])} (n = {row['n']} quants, cross-fitted and plain)."
    )
    return claim(
        "verdict:2", text, row["naive"], bracket[0], bracket[1], None, nan, row["n"], "supported", [_input(row)]
    )


def _misleading(row: Row) -> Row:
    better, worse = row["better_by_proxy"], row["worse_by_proxy"]
    name = proxy_name(row["proxy"], row["corpus"])
    saved = f"; it is {gigabytes(1e9 * row['gb_saved'])} GB smaller" if (row["gb_saved"] or 0) > 0 else ""
    text = (
        f"{name[0].upper()}{name[1:]} misleads: {better} has the lower damage by {decimals(row['proxy_gap'], 3)}, yet {worse} "
        f"is better than {better} on {of_task(row['task'])} by {points(row['delta'])} points "
        f"{interval(row['low'], row['high'])} at the level of the whole family, n = {row['n']:.0f}, Holm p "
        f"{p_value(row['p_holm'])}{saved}."
    )
    identity = f"misleading:{row['proxy']}:{row['tool']}:{row['corpus'] or ''}:{row['task']}:{better}:{worse}"
    return claim(
        identity, text, row["delta"], row["low"], row["high"], "intersection–union, Holm", row["p_holm"], int(row["n"]),
        "supported", [_input(row) | {key: row[key] for key in ("better_by_proxy", "worse_by_proxy")}], family=PAIRS,
    )  # fmt: skip


def _range(row: Row) -> Row:
    name = proxy_name(row["proxy"], row["corpus"])
    readings = {
        "works": "it orders them as the tasks do",
        "blind here": "it is blind in this range, where the samples could have shown an order",
        "cannot tell": "cannot tell, since the samples could hardly show an order here",
    }
    noise = "" if isnan(row["ceiling"]) else f", noise ceiling {coefficient(row['ceiling']).removeprefix('+')}"
    text = (
        f"{name[0].upper()}{name[1:]} among the {row['n']} quants nearest the reference by it, on {of_task(row['task'])}: "
        f"Spearman ρ {coefficient(row['rho'])}, {limits(row)}{noise}: {readings[row['reading']]}."
    )
    status = {"works": "supported", "blind here": "refuted", "cannot tell": "undecided"}[row["reading"]]
    identity = f"range:{row['proxy']}:{row['tool']}:{row['corpus'] or ''}"
    return claim(
        identity, text, row["rho"], row["low"], row["high"], None, nan, row["n"], status, [_input(row)],
        quants=row["n"], question=row["question"],
    )  # fmt: skip
