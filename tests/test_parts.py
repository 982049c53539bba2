"""What scores are made of: strata, weighted groups, further metrics, and the tables of the long-context tasks."""

import json
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evalsuite.analysis.parts import long_context_rows, part_rows
from evalsuite.shipped import shipped
from evalsuite.stats.proportion import wilson
from evalsuite.tables import Tables
from evalsuite.task.tasks import read_task_file

GROUPS = {"both": {"a": 1, "b": 3}, "missing": {"a": 1, "c": 1}}


def tables(rows: list[dict[str, Any]], groups: Any = None) -> Tables:
    items = pd.DataFrame(
        [{"quant": "q", "task": "t", "cluster": None, "metrics": "{}", "facts": None, **row} for row in rows]
    )
    return Tables(
        quants=pd.DataFrame([{"quant": "q"}]), tasks=pd.DataFrame([{"task": "t", "groups": groups}]), items=items,
        proxies=pd.DataFrame(),
    )  # fmt: skip


def row(sample: int, stratum: str, score: float, **metrics: Any) -> dict[str, Any]:
    return {"sample_id": str(sample), "stratum": stratum, "score": score, "metrics": json.dumps(metrics)}


ROWS = [row(n, "a", float(n < 6), said=1) for n in range(10)] + [row(n, "b", float(n < 12)) for n in range(10, 30)]


def found(rows: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["part"]: each for each in part_rows(tables(rows, GROUPS)) if each["kind"] == kind}


def test_strata_are_scores_of_their_own():
    """A stratum has Wilson's interval over its samples."""
    strata = found(ROWS, "stratum")
    assert {name: (part["value"], part["n"]) for name, part in strata.items()} == {"a": (0.6, 10), "b": (0.1, 20)}
    assert (strata["a"]["low"], strata["a"]["high"]) == (wilson(6, 10).low, wilson(6, 10).high)


def test_groups_are_weighted_means_of_strata():
    """A group weighs strata, not samples, with the interval of independent strata; one that lacks a stratum is not there."""
    groups = found(ROWS, "group")
    assert groups.keys() == {"both"}
    assert groups["both"]["value"] == pytest.approx((0.6 + 3 * 0.1) / 4)
    halves = [(each.high - each.low) / 2 for each in (wilson(6, 10), wilson(2, 20))]
    assert groups["both"]["high"] - groups["both"]["value"] == pytest.approx(np.hypot(halves[0], 3 * halves[1]) / 4)


def test_metrics_are_means_over_the_answers_that_have_them():
    """Flags count as 0 and 1; lists, texts, log-odds and what only some answers have do not spoil the mean."""
    rows = [row(n, "a", 0.5, called=n % 2 == 0, margin=-3.0, found=[1, 0], rule="last") for n in range(20)]
    rows += [row(20, "a", 1.0), {**row(21, "a", np.nan, called=1.0), "score": np.nan}]
    metrics = found(rows, "metric")
    assert metrics.keys() == {"called"}
    assert (metrics["called"]["value"], metrics["called"]["n"]) == (0.5, 20)


def test_repeats_of_a_sample_are_one():
    """Two repeats of each sample leave n and the interval what they are with their means."""
    once = found([row(n, "ab"[n % 2], n % 4 / 4) for n in range(40)], "stratum")
    twice = found([row(n, "ab"[n % 2], n % 4 / 4) for n in range(40) for _ in range(2)], "stratum")
    assert once == twice


def test_pass_at_k_is_the_mean_over_all_choices_of_k():
    """pass@k and pass^k are the shares of k-subsets of a sample's repeats with one and with all right, counted one by one."""
    rng = np.random.default_rng(3)
    right = rng.random((12, 5)) < np.linspace(0, 1, 12)[:, np.newaxis]
    rows = [row(n, "a", float(score)) for n, scores in enumerate(right) for score in scores]
    told = {part: each["value"] for part, each in found(rows, "repeats").items()}
    assert told.keys() == {f"pass{mark}{k}" for mark in "@^" for k in range(2, 6)}
    for k in range(2, 6):
        subsets = [[list(chosen) for chosen in combinations(scores, k)] for scores in right]
        assert told[f"pass@{k}"] == pytest.approx(np.mean([np.mean([any(each) for each in of]) for of in subsets]))
        assert told[f"pass^{k}"] == pytest.approx(np.mean([np.mean([all(each) for each in of]) for of in subsets]))
    assert not found([row(n, "a", 0.5) for n in range(9) for _ in range(3)], "repeats")  # not right or wrong
    assert not found(ROWS, "repeats")


def test_bfcl_groups_are_upstreams():
    """The groups of the bfcl task give upstream's figures: unweighted, by counts, and the mean of languages within simple."""
    task = read_task_file(shipped("tasks") / "bfcl")
    rng = np.random.default_rng(5)
    counts = {name: int(rng.integers(5, 30)) for name in task.dataset.rows}
    scores = {name: rng.random(count) for name, count in counts.items()}
    rows = [row(f"{name}{n}", name, score) for name, values in scores.items() for n, score in enumerate(values)]
    groups = {each["part"]: each["value"] for each in part_rows(tables(rows, task.groups)) if each["kind"] == "group"}
    mean = {name: float(values.mean()) for name, values in scores.items()}
    simple = np.mean([mean[f"simple_{language}"] for language in ("python", "java", "javascript")])
    assert groups["non_live"] == pytest.approx(
        np.mean([simple, mean["multiple"], mean["parallel"], mean["parallel_multiple"]])
    )
    live = ["live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"]
    assert groups["live"] == pytest.approx(
        np.average([mean[n] for n in live], weights=[task.dataset.rows[n] for n in live])
    )
    assert groups["hallucination"] == pytest.approx((mean["irrelevance"] + mean["live_irrelevance"]) / 2)


def test_long_context_tables_read_what_samples_and_answers_say():
    """Samples with a length give recall by depth and length and an effective length; tasks without give nothing."""
    rows = []
    for n in range(48):
        length, depth = (0.25, 0.95)[n % 2], (0.0, 0.5, 1.0)[n % 3]
        score = 1.0 if length == 0.25 or depth == 1.0 else 0.0
        facts = {
            "stratum": f"keys {length}",
            "family": "keys",
            "length": length,
            "tokens": 4000 * length,
            "depths": [depth],
        }
        rows.append({**row(n, facts["stratum"], score, found=[score]), "facts": facts, "cluster": f"h{n // 4}"})
    told = long_context_rows(tables(rows))
    cells = {(each["length"], each["depth"]): each["value"] for each in told["depths"]}
    assert cells == {(0.25, 0.0): 1, (0.25, 0.5): 1, (0.25, 1.0): 1, (0.95, 0.0): 0, (0.95, 0.5): 0, (0.95, 1.0): 1}
    assert [each["value"] for each in told["effective_lengths"]] == [0.25]
    assert {each["task"] for rows in told.values() for each in rows} == {"t"}
    assert long_context_rows(tables(ROWS)) == {"depths": [], "lengths": [], "effective_lengths": []}
