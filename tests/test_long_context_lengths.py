"""Recall by depth and length, and the effective length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import confint_proportions_2indep

from evalsuite.analysis.lengths import _margin, balanced_mean, depth_rows, effective_rows, length_rows
from evalsuite.stats.mean import clustered_mean
from evalsuite.stats.proportion import wilson

LENGTHS = (0.25, 0.5, 0.75, 0.95)


def items(recalls: Mapping[float, Sequence[float]], family: str = "keys", quant: str = "Q4") -> pd.DataFrame:
    """Return one item a haystack with the given scores at each length."""
    rows = [
        {"quant": quant, "family": family, "length": length, "tokens": 1000 * length, "cluster": f"{length} {index}",
         "score": score, "depths": [0.5], "found": [score]}
        for length, scores in recalls.items()
        for index, score in enumerate(scores)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def shares(right: int, of: int) -> list[float]:
    return [1.0] * right + [0.0] * (of - right)


def effective(table: pd.DataFrame, **options: float) -> dict[str, Any]:
    (row,) = effective_rows(table, **options)
    return row


def test_effective_length_is_where_recall_first_falls():
    """It is the length before the first at which recall is below 85 %, however well a longer one does."""
    table = items({0.25: shares(95, 100), 0.5: shares(82, 100), 0.75: shares(70, 100), 0.95: shares(90, 100)})
    row = effective(table)
    assert (row["value"], row["tokens"], row["n"], row["recall"]) == (0.5, 500, 400, 0.95)
    assert (row["low"], row["high"]) == (0.25, 0.5)
    assert effective(table, kept=0.7)["value"] == 0.95


def test_few_haystacks_show_less_than_many():
    """Recall of 93 % after 95 % is enough with 400 haystacks, and neither shown nor refuted with 20."""
    many = effective(items({0.25: shares(380, 400), 0.5: shares(372, 400), 0.75: shares(80, 400)}))
    assert (many["low"], many["value"], many["high"]) == (0.5, 0.5, 0.5)
    few = effective(items({0.25: shares(19, 20), 0.5: shares(18, 20), 0.75: shares(16, 20)}))
    assert (few["low"], few["value"], few["high"]) == (0.25, 0.5, 0.75)


def test_the_longest_length_bounds_the_effective_one():
    """Where recall holds at every length, the row says that it may be more."""
    row = effective(items({length: shares(50, 50) for length in LENGTHS}))
    assert (row["low"], row["value"], row["high"]) == (0.95, 0.95, 0.95)
    assert row["notes"] == ["the longest length asked: it may be more"]


UNDEFINED = [
    (items({0.25: shares(0, 20), 0.5: shares(5, 20)}), "cannot be told from 0"),
    (items({0.25: shares(1, 20), 0.5: shares(5, 20)}), "cannot be told from 0"),
    (items({0.25: shares(20, 20), 0.5: [np.nan] * 20}), "no scored sample at length 0.5"),
]


@pytest.mark.parametrize(("table", "reason"), UNDEFINED)
def test_undefined_says_why(table: pd.DataFrame, reason: str):
    """Without recall at the shortest length, or without a score at some length, there is no effective length."""
    row = effective(table)
    assert (row["value"], row["low"], row["high"], row["tokens"]) == (None, None, None, None)
    assert reason in row["notes"][0]


def test_few_clusters_give_a_value_without_interval():
    """Below ten haystacks the value stands without limits, and a note says so."""
    row = effective(items({0.25: shares(9, 9), 0.5: shares(2, 9)}))
    assert (row["value"], row["low"], row["high"]) == (0.25, None, None)
    assert "no interval below 10" in row["notes"][0]


SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=10, max_size=30)


@given(st.lists(SCORES, min_size=1, max_size=4), st.floats(0.1, 1))
def test_low_value_and_high_are_in_order(scores: list[list[float]], kept: float):
    """What is shown is at most the value, what is not refuted at least; a smaller share is kept at least as long."""
    table = items(dict(zip(LENGTHS, scores, strict=False)))
    row, softer = effective(table, kept=kept), effective(table, kept=kept / 2)
    if row["value"] is not None:
        assert row["low"] <= row["value"] <= row["high"]
        assert all(softer[bound] >= row[bound] for bound in ("value", "high"))
    assert row["notes"] or row["value"] is not None


@pytest.mark.parametrize(("right", "of"), [((56, 48), (70, 80)), ((9, 3), (10, 10)), ((20, 11), (40, 30))])
def test_margin_of_wilson_intervals_is_newcombes(right: tuple[int, int], of: tuple[int, int]):
    """With all of the recall kept, the limits are Newcombe's for a difference of two shares, as statsmodels has them."""
    theirs = confint_proportions_2indep(right[0], of[0], right[1], of[1], method="newcomb", compare="diff")
    low, _, high = _margin(wilson(right[0], of[0]), wilson(right[1], of[1]), 1.0)
    assert (low, high) == pytest.approx(theirs, abs=1e-9)


def grouped(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores with families of unequal size and clusters that reach across them."""
    rng = np.random.default_rng(seed)
    families, clusters = rng.choice(3, size=150, p=[0.6, 0.3, 0.1]), rng.integers(14, size=150)
    return (rng.random(150) < 0.3 + 0.2 * families + 0.02 * clusters).astype(float), families, clusters


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_balanced_mean_is_that_of_a_regression(seed: int):
    """Mean and interval are those of the mean of family effects in statsmodels' regression with cluster-robust errors."""
    scores, families, clusters = grouped(seed)
    dummies = (families[:, np.newaxis] == np.arange(3)).astype(float)
    fit = OLS(scores, dummies).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    test = fit.t_test(np.full((1, 3), 1 / 3))
    ours = balanced_mean(scores, families, clusters)
    assert ours.value == pytest.approx(float(np.squeeze(test.effect)))
    half = 2.160368656 * float(np.squeeze(test.sd)) * np.sqrt(14 / 13)  # Student's t, 13 degrees of freedom
    assert (ours.low, ours.high) == pytest.approx((ours.value - half, ours.value + half))


def test_balanced_mean_of_one_family_is_the_clustered_mean():
    """One family alone has the interval that every other score has."""
    scores, _, clusters = grouped(4)
    ours, theirs = balanced_mean(scores, np.zeros(150, int), clusters), clustered_mean(scores, clusters)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_families_weigh_alike():
    """A family with many questions counts no more than one with few, in the row for all of them."""
    many, few = items({0.5: shares(60, 60)}), items({0.5: shares(0, 20)}, family="values")
    rows = {row["family"]: row for row in length_rows(pd.concat([many, few]))}
    assert (rows["all"]["value"], rows["keys"]["value"], rows["values"]["value"]) == (0.5, 1, 0)
    assert rows["all"]["n"] == 80


def test_a_family_that_lacks_a_length_is_left_out_of_all():
    """Where a family has no score at some length, the row for all is made of the others and names it."""
    whole = items({0.25: shares(20, 20), 0.5: shares(20, 20)})
    lacking = items({0.25: shares(20, 20), 0.5: [np.nan] * 20}, family="values")
    rows = {row["family"]: row for row in effective_rows(pd.concat([whole, lacking]))}
    assert rows["all"]["notes"][0] == "without values: no score at some length"
    assert rows["all"]["value"] == rows["keys"]["value"] == 0.5
    assert rows["values"]["value"] is None


def test_needles_count_at_their_own_depth():
    """What was found of several needles counts at the depth of each; an empty answer counts at all of them."""
    table = pd.DataFrame({
        "quant": "Q4", "family": "values", "length": 0.5, "tokens": 500, "cluster": [f"c{i}" for i in range(30)],
        "score": [2 / 3] * 20 + [0.0] * 10, "depths": [[0.1, 0.5, 0.95]] * 30,
        "found": [[1.0, 0.0, 1.0]] * 20 + [None] * 10,
    })  # fmt: skip
    rows = depth_rows(table, [0, 0.5, 1])
    assert [(row["depth"], row["n"], row["value"]) for row in rows] == [
        (0, 30, pytest.approx(2 / 3)),
        (0.5, 30, 0),
        (1, 30, pytest.approx(2 / 3)),
    ]
    assert all(row["low"] < row["value"] < row["high"] for row in (rows[0], rows[2]))


def test_unscored_items_count_nowhere():
    """A sample without a score changes neither value nor n."""
    scored = items({0.5: shares(15, 20)})
    with_unscored = pd.concat([scored, items({0.5: [np.nan] * 7})])
    assert length_rows(with_unscored) == length_rows(scored)
    assert depth_rows(with_unscored, [0.5]) == depth_rows(scored, [0.5])


def test_quants_stand_apart():
    """Each quant has its own rows."""
    table = pd.concat([items({0.5: shares(15, 20)}), items({0.5: shares(5, 20)}, quant="Q2")])
    assert [(row["quant"], row["value"]) for row in length_rows(table)] == [("Q2", 0.25), ("Q4", 0.75)]
