"""Pairs that a proxy and a task order differently: tests of all pairs at once, and the verdicts over a family."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_rel
from statsmodels.stats.proportion import proportions_ztest

from evalsuite.stats.misleading import (
    by_proxy,
    first_equal,
    gap_p,
    judge,
    limits,
    mcnemar_midps,
    pair_tests,
    sign_flip_ps,
    unpaired_tests,
)
from evalsuite.stats.paired import compare, connor_n, graded_delta, mcnemar_midp, sign_flip_p

FROZEN = np.array(
    [[int(right) for right in row] for row in ("1110110110", "1110100110", "1010100100", "1100000101")], float
)
RIGHT_OR_WRONG = arrays(np.float64, (4, 30), elements=st.sampled_from([0.0, 1.0, np.nan]))
GRADED = arrays(np.float64, (4, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan]))


@given(RIGHT_OR_WRONG)
def test_all_pairs_are_those_of_one_comparison(scores):
    """Counts, delta, mid-p and Tango's limits of every pair are those that `compare` gives for the pair alone."""
    tests = pair_tests(scores, binary=True)
    low, high = limits(tests, 0.95)
    for row, (first, second) in enumerate(zip(tests.first, tests.second, strict=True)):
        one = compare(scores[first], scores[second], binary=True)
        assert (tests.n[row], tests.lost[row], tests.gained[row]) == (one.delta.n, one.lost, one.gained)
        p = one.p_midp if one.delta.n else np.nan
        assert [tests.delta[row], tests.p[row], low[row], high[row]] == pytest.approx(
            [one.delta.value, p, one.delta.low, one.delta.high], abs=1e-9, nan_ok=True
        )


@given(GRADED, st.one_of(st.none(), arrays(np.int64, 30, elements=st.integers(0, 25))))
def test_graded_pairs_are_those_of_one_comparison(scores, clusters):
    """Graded or clustered pairs get the sign-flip or t p-value and the interval that `compare` gives for one."""
    tests = pair_tests(scores, clusters, binary=False)
    low, high = limits(tests, 0.95)
    for row, (first, second) in enumerate(zip(tests.first, tests.second, strict=True)):
        one = compare(scores[first], scores[second], clusters, binary=False)
        p = one.p if one.delta.n else np.nan
        assert [tests.delta[row], tests.p[row], low[row], high[row]] == pytest.approx(
            [one.delta.value, p, one.delta.low, one.delta.high], abs=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("clusters", [None, np.arange(600) // 4])
def test_many_changed_samples_get_the_t_test(clusters):
    """With hundreds of changed samples, too, p and interval are those of one comparison."""
    scores = np.random.default_rng(5).random((3, 600)) * np.array([[1.0], [0.9], [0.95]])
    tests = pair_tests(scores, clusters, binary=False)
    low, high = limits(tests, 0.95)
    one = compare(scores[0], scores[1], clusters, binary=False)
    alone = graded_delta(scores[1] - scores[0], clusters)
    assert tests.p[0] == pytest.approx(one.p, rel=1e-9)
    assert (low[0], high[0]) == pytest.approx((alone.low, alone.high))


@given(st.integers(0, 80), st.integers(0, 80))
def test_many_midps_are_those_of_one(lost, gained):
    """The vectorised mid-p is McNemar's mid-p."""
    assert mcnemar_midps(np.array([lost]), np.array([gained]))[0] == pytest.approx(
        mcnemar_midp(lost, gained), abs=1e-12
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_many_sign_flips_are_those_of_one(seed, changed):
    """The sign-flip p-value of each row is that of the row alone, in more rows than one block holds."""
    sums = np.random.default_rng(seed).integers(-3, 4, (70, changed)).astype(float)
    assert sign_flip_ps(sums) == pytest.approx([sign_flip_p(row) for row in sums])


@given(arrays(np.float64, (2, 20), elements=st.floats(0, 1, width=16), unique=True))
def test_the_gap_is_a_paired_t_test(chunks):
    """The proxy's one-sided p is scipy's paired t test over the chunks."""
    theirs = ttest_rel(chunks[1], chunks[0], alternative="greater").pvalue
    assert gap_p(chunks)[0] == pytest.approx(theirs, nan_ok=True)


def test_the_gap_needs_sixteen_chunks():
    """Fifteen common chunks test nothing; an equal file has p ½, a constant gap p 0."""
    chunks = np.arange(17.0) + np.array([[0.0], [0.0], [1.0], [0.0]])
    chunks[3, :2] = np.nan
    assert gap_p(chunks) == pytest.approx([0.5, 0, np.nan, 0, np.nan, np.nan], nan_ok=True)


def test_unpaired_is_the_two_proportion_test():
    """Published shares are compared by the pooled two-proportion z test, as statsmodels has it, and need Connor's N."""
    tests = unpaired_tests(np.array([350 / 500, 296 / 400]), np.array([500.0, 400.0]))
    assert tests.p[0] == pytest.approx(proportions_ztest([350, 296], [500, 400])[1])
    [verdicts] = judge([by_proxy(unpaired_tests(np.array([0.7, 0.74]), np.full(2, 500.0)), np.array([0.1, 0.2]))])
    assert (verdicts.verdict[0], verdicts.n_needed[0]) == ("undecided", ceil(connor_n(0.04, 2 * 0.72 * 0.28)))


def test_unpaired_takes_stated_errors_and_lacks_nothing_silently():
    """Stated standard errors are used where both are known; without n and errors there is no p-value."""
    tests = unpaired_tests(np.array([0.70, 0.74, 0.60]), np.array([500, 500, np.nan]), np.array([0.03, 0.04, np.nan]))
    assert tests.se == pytest.approx([0.05, np.nan, np.nan], nan_ok=True)
    assert np.isnan(tests.p).tolist() == [False, True, True]


def test_verdicts_frozen():
    """Three quants, 1000 samples: one pair misleads, one is consistent, one equal pair is equivalent and undecided."""
    scores = np.zeros((3, 1000))
    scores[0, :700], scores[1, :760], scores[2, :760] = 1, 1, 1
    chunks = np.array([[0.01], [0.02], [0.005]]) * np.linspace(0.8, 1.2, 20)
    [found] = judge([by_proxy(pair_tests(scores, binary=True), chunks.mean(axis=1), gap_p(chunks))])
    named = dict(
        zip(
            zip(found.pairs.tests.first.tolist(), found.pairs.tests.second.tolist(), strict=True), range(3), strict=True
        )
    )
    misleading, consistent, equal = named[0, 1], named[2, 0], named[2, 1]
    assert found.verdict[[misleading, consistent, equal]].tolist() == ["misleading", "consistent", "undecided"]
    assert found.pairs.tests.delta[[misleading, consistent, equal]] == pytest.approx([0.06, -0.06, 0])
    assert found.equivalent[[misleading, consistent, equal]].tolist() == [False, False, True]
    assert np.isnan(found.n_needed).all(), "decided pairs need no more samples, and no number decides a delta of 0"
    assert found.low[misleading] > 0 > found.high[consistent]


def test_a_gap_without_chunks_never_misleads():
    """Without chunk data the score's own p-value is shown and the pair stays undecided."""
    scores = np.zeros((2, 1000))
    scores[1, :60] = 1
    [found] = judge([by_proxy(pair_tests(scores, binary=True), np.array([0.01, 0.02]))])
    assert found.verdict[0] == "undecided"
    assert found.p_holm[0] < 1e-9
    assert np.isnan(found.pairs.p_proxy[0])


def test_a_noisy_gap_never_misleads():
    """Where the chunks do not show which quant the proxy prefers, the score cannot contradict it."""
    scores = np.zeros((2, 1000))
    scores[1, :60] = 1
    [found] = judge([by_proxy(pair_tests(scores, binary=True), np.array([0.01, 0.02]), np.array([0.2]))])
    assert (found.p[0], found.verdict[0]) == (0.2, "undecided")


def test_sesoi_raises_the_bar():
    """A significant difference whose lower limit is below the smallest one of interest is not called misleading."""
    scores = np.zeros((2, 1000))
    scores[1, :30] = 1
    family = [by_proxy(pair_tests(scores, binary=True), np.array([0.01, 0.02]), np.array([0.0]))]
    assert judge(family)[0].verdict[0] == "misleading"
    assert judge(family, sesoi=0.025)[0].verdict[0] == "undecided"


def test_the_family_spans_proxies_and_tasks():
    """The same pair of p-value .03 is decided alone and undecided beside nine others."""
    tests = unpaired_tests(np.array([0.5, 0.5969]), np.array([250.0, 250.0]))
    pairs = by_proxy(tests, np.array([0.2, 0.1]))
    assert tests.p[0] == pytest.approx(0.03, abs=1e-3)
    assert judge([pairs])[0].verdict[0] == "consistent"
    assert {each.verdict[0] for each in judge([pairs] * 10)} == {"undecided"}
    assert judge([]) == []


@given(RIGHT_OR_WRONG, arrays(np.float64, 4, elements=st.sampled_from([0.1, 0.2, 0.3, np.nan])))
def test_turning_the_proxy_round_turns_every_pair_round(scores, proxy):
    """With the opposite proxy each pair changes sides: delta and limits change sign; ties and gaps give no pair."""
    tests = pair_tests(scores, binary=True)
    p_gap = np.full(6, 0.25)
    (one,), (other,) = judge([by_proxy(tests, proxy, p_gap)]), judge([by_proxy(tests, -proxy, p_gap)])
    assert (proxy[one.pairs.tests.first] < proxy[one.pairs.tests.second]).all()
    assert one.pairs.tests.first.tolist() == other.pairs.tests.second.tolist()
    assert one.pairs.p_proxy + other.pairs.p_proxy == pytest.approx(np.ones(len(one.p)))
    assert one.low == pytest.approx(-other.high, nan_ok=True, abs=1e-9)


def test_n_needed_is_connors():
    """An undecided pair needs Connor's N at its own delta, discordance and the family's α/m."""
    [found] = judge([by_proxy(pair_tests(FROZEN, binary=True), np.array([0.01, 0.02, 0.05, 0.04]))])
    tests = found.pairs.tests
    needed = [
        ceil(connor_n(abs(delta), spread, 0.05 / 6)) if delta else np.nan
        for delta, spread in zip(tests.delta, tests.spread, strict=True)
    ]
    assert found.n_needed.tolist() == pytest.approx(needed, nan_ok=True)


def test_equal_rows_are_found():
    """A row equal to an earlier one in every column, gaps included, points at the earlier one."""
    rows = np.array([[1, np.nan], [2, 3], [1, np.nan], [2, 4], [2, 3]])
    assert first_equal(rows).tolist() == [0, 1, 0, 3, 1]
