"""Scores with their intervals, and every quant beside the reference on the same samples."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isnan, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from evalsuite.analysis.items import TaskScores
from evalsuite.stats.equivalence import MARGIN, tost
from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.misleading import unpaired_tests
from evalsuite.stats.multiple import holm
from evalsuite.stats.paired import compare, differences, mde, mde_of_interval, mean_p, tango
from evalsuite.stats.proportion import mean_score, wilson

ALPHA = 0.05
MEAN_OF_TASKS = "(mean of tasks)"

Row = dict[str, Any]


def score_rows(tasks: Sequence[TaskScores], quants: Sequence[str]) -> list[Row]:
    """Return a row for every quant × task, and one for the mean of the tasks where there are several."""
    rows = []
    for quant in quants:
        of_quant = [_score_row(task, index) for task in tasks for index in [task.quants.index(quant)]]
        if len(tasks) > 1:
            estimate = mean_of_estimates([_estimate(row, "value") for row in of_quant])
            of_quant.append(
                {"quant": quant, "task": MEAN_OF_TASKS}
                | _limits(estimate, "value")
                | {
                    "unscored": sum(row["unscored"] for row in of_quant),
                    "outcomes": _total(row["outcomes"] for row in of_quant),
                }
            )
        rows += of_quant
    return rows


def pair_rows(tasks: Sequence[TaskScores], compared: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Return a row for every (a, b, kind) × task, and one for the mean of the tasks.

    Holm's correction has two families: all quants × tasks, and the quants' means of tasks. A replicate answers another
    question and is in neither.
    """
    rows = []
    for a, b, kind in compared:
        of_pair = [{"task": task.task, "a": a, "b": b, "kind": kind} | _pair_fields(task, a, b) for task in tasks]
        rows += of_pair
        if len(tasks) > 1:
            rows.append({"task": MEAN_OF_TASKS, "a": a, "b": b, "kind": kind} | _mean_pair(of_pair, tasks))
    _correct([row for row in rows if row["kind"] == "quant" and row["task"] != MEAN_OF_TASKS])
    _correct([row for row in rows if row["kind"] == "quant" and row["task"] == MEAN_OF_TASKS])
    return [_judged({"mde_family": nan} | row | {"mde": _mde(row, ALPHA)}) for row in rows]


def published_rows(
    scores: pd.DataFrame, quants: Sequence[str], compared: Sequence[str], reference: str, averages: Collection[str] = ()
) -> tuple[list[Row], list[Row]]:
    """Return score rows and pair rows of tasks of which only the means are published, not the samples.

    Quant and reference are compared as if they had answered different samples, which takes two to three times the
    difference that their common samples would: few of these pairs can be decided. Tasks that are `averages` of the others
    are a family of Holm's correction of their own.
    """
    found, pairs = [], []
    for task, rows in scores.groupby("task"):
        by_quant = {str(row["quant"]): row for row in rows.to_dict("records")}
        found += [
            {"quant": quant, "task": str(task)} | _published_score(by_quant[quant])
            for quant in quants
            if quant in by_quant
        ]
        if reference in by_quant:
            pairs += [
                {"task": str(task), "a": reference, "b": quant, "kind": "quant"}
                | _unpaired(by_quant[reference], by_quant[quant])
                for quant in compared if quant in by_quant
            ]  # fmt: skip
    _correct([row for row in pairs if row["task"] not in averages])
    _correct([row for row in pairs if row["task"] in averages])
    return found, [_judged(row | {"mde": _mde(row, ALPHA)}) for row in pairs]


def _published_score(row: Mapping[Any, Any]) -> Row:
    n, se, notes = row["n"], row["se"], ["published: no samples to look at"]
    estimate = Estimate(row["score"], nan, nan, 0, ("no n and no error published: no interval", *notes))
    if not isnan(se):
        estimate = Estimate(row["score"], row["score"] - 1.96 * se, row["score"] + 1.96 * se, _count(n), tuple(notes))
    elif not isnan(n):
        estimate = replace(wilson(round(row["score"] * n), int(n)), value=row["score"], notes=tuple(notes))
    return _limits(estimate, "value") | {"unscored": 0, "outcomes": {}}


def _unpaired(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Row:
    tests = unpaired_tests(*(np.array([a[name], b[name]], dtype=float) for name in ("score", "n", "se")))
    half = 1.96 * float(tests.se[0])
    n = _count(float(tests.n[0]))
    notes: tuple[str, ...] = (
        "unpaired: the samples behind the published means would make this two to three times sharper",
    )
    if isnan(half):
        notes = (*notes, "no n and no error published: nothing to test")
    delta = float(tests.delta[0])
    return _limits(Estimate(delta, delta - half, delta + half, n, notes), "delta") | {
        "unscored": 0, "gained": None, "lost": None, "test": "unpaired z", "p": float(tests.p[0]), "p_midp": nan,
        "p_holm": nan, "delta_fail_as_zero": delta,
    }  # fmt: skip


def _count(n: float) -> int:
    return 0 if isnan(n) else int(n)


def _judged(row: Row) -> Row:
    """Add the verdict: equivalent only where the 90 % interval lies within the margin, and nothing else is shown."""
    low, high = _limits_90(row)
    equivalent = None if isnan(low) else bool(tost(np.array([low]), np.array([high]))[0])
    verdict = _verdict(row)
    if verdict == "undecided" and equivalent:
        verdict = "equivalent"
    return row | {"verdict": verdict, "equivalent": equivalent, "margin": MARGIN}


def _limits_90(row: Row) -> tuple[float, float]:
    """Return the 90 % interval of a delta: Tango's for right-or-wrong samples, else the 95 % one made narrower."""
    if row["test"] == "exact McNemar":
        estimate = tango(row["n"], row["gained"], row["lost"], level=0.90)
        return estimate.low, estimate.high
    narrower = float(ndtri(0.95) / ndtri(0.975))
    return row["delta"] - narrower * (row["delta"] - row["low"]), row["delta"] + narrower * (row["high"] - row["delta"])


def mean_of_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates; n is their sum.

    The variance of the mean is the sum of the variances over the square of their number. Each variance is read off its
    own limit, low and high apart (Zou & Donner 2008, MOVER), so a task with a skewed or a never-zero interval keeps
    it.
    """
    n = sum(estimate.n for estimate in estimates)
    values = np.array([(estimate.value, estimate.low, estimate.high) for estimate in estimates])
    if np.isnan(values[:, 0]).any():
        return undefined(n, "not every task has a score: a mean over fewer tasks would not compare")
    value, low, high = values.T
    mean = float(value.mean())
    notes = ("some task has no interval",) if np.isnan(values).any() else ()
    down, up = sqrt(float(((value - low) ** 2).sum())), sqrt(float(((high - value) ** 2).sum()))
    return Estimate(mean, mean - down / len(value), mean + up / len(value), n, notes)


def _score_row(task: TaskScores, index: int) -> Row:
    scores = task.scores[index]
    scored = ~np.isnan(scores)
    clusters = None if task.clusters is None else task.clusters[scored]
    estimate = mean_score(scores[scored], clusters, binary=task.binary)
    unscored = {"unscored": task.planned - estimate.n, "outcomes": task.outcomes[index]}
    return {"quant": task.quants[index], "task": task.task} | _limits(estimate, "value") | unscored


def _pair_fields(task: TaskScores, a: str, b: str) -> Row:
    pair = compare(task.of(a), task.of(b), task.clusters, binary=task.binary)
    n = pair.delta.n
    tested = {"p": pair.p, "p_midp": pair.p_midp} if n else {"p": nan, "p_midp": nan}
    return (
        _limits(pair.delta, "delta")
        | {"unscored": task.planned - n, "gained": pair.gained, "lost": pair.lost, "test": pair.test}
        | tested
        | {"p_holm": nan, "delta_fail_as_zero": _fail_as_zero(task, a, b)}
    )


def _mean_pair(of_pair: Sequence[Row], tasks: Sequence[TaskScores]) -> Row:
    estimate = mean_of_estimates([_estimate(row, "delta") for row in of_pair])
    test, p = "sign flip", nan
    if not isnan(estimate.value):
        a, b = of_pair[0]["a"], of_pair[0]["b"]
        test, p = mean_p([differences(task.of(a), task.of(b), task.clusters) for task in tasks])
    return _limits(estimate, "delta") | {
        "unscored": sum(row["unscored"] for row in of_pair),
        "gained": sum(row["gained"] for row in of_pair),
        "lost": sum(row["lost"] for row in of_pair),
        "test": test,
        "p": p,
        "p_midp": nan,
        "p_holm": nan,
        "delta_fail_as_zero": float(np.mean([row["delta_fail_as_zero"] for row in of_pair])),
    }


def _correct(family: Sequence[Row]) -> None:
    """Fill in what depends on how many tests there are."""
    adjusted = holm(np.array([row["p"] for row in family]))
    alpha = ALPHA / max(int(np.count_nonzero(~np.isnan(adjusted))), 1)
    for row, p in zip(family, adjusted, strict=True):
        row["p_holm"] = float(p)
        row["mde_family"] = _mde(row, alpha)


def _mde(row: Row, alpha: float) -> float:
    if row["test"] == "exact McNemar":
        return mde(row["n"], (row["gained"] + row["lost"]) / max(row["n"], 1), alpha)
    return mde_of_interval(_estimate(row, "delta"), alpha)


def _verdict(row: Row) -> str | None:
    if isnan(row["p_holm"]):
        return None
    if row["p_holm"] >= ALPHA:
        return "undecided"
    return "worse" if row["delta"] < 0 else "better"


def _fail_as_zero(task: TaskScores, a: str, b: str) -> float:
    """Return delta with every unscored sample counted as wrong."""
    first, second = task.of(a), task.of(b)
    if np.isnan(first).all() or np.isnan(second).all():
        return nan
    return float(np.nansum(second) - np.nansum(first)) / task.planned


def _limits(estimate: Estimate, name: str) -> Row:
    return {
        name: estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "notes": list(estimate.notes),
    }


def _estimate(row: Row, name: str) -> Estimate:
    return Estimate(row[name], row["low"], row["high"], row["n"])


def _total(outcomes: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in outcomes:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total
