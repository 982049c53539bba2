"""Pairs of quants ordered alike by a proxy and a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsuite.stats.agreement import better_p, pairwise_accuracy, soft_accuracy, tie_accuracy
from evalsuite.stats.misleading import gap_p, pair_tests
from evalsuite.stats.paired import sign_flip_p

FROZEN = np.array(
    [[int(right) for right in row] for row in ("1110110110", "1110100110", "1010100100", "1100000101")], float
)
PROXY = np.array([0.01, 0.02, 0.05, 0.04])
VALUES = arrays(np.float64, 6, elements=st.integers(0, 9).map(float))
NONE = np.zeros(6, dtype=bool)


def test_pairwise_accuracy_frozen():
    """Quants A–D: 5 of 6 pairs are ordered alike, one is tied by the scores."""
    found = pairwise_accuracy(PROXY, FROZEN.mean(axis=1), NONE)
    assert (found.concordant, found.tied, found.accuracy.n) == (5, 1, 6)
    assert found.accuracy.value == pytest.approx(5 / 6)


@given(VALUES, VALUES)
def test_opposite_proxies_share_the_pairs(proxy, scores):
    """What a proxy does not order alike its opposite does, or it is tied; a monotone rescaling changes nothing."""
    separated = np.ones(15, dtype=bool)
    one, other = (pairwise_accuracy(sign * proxy, scores, separated) for sign in (1, -1))
    assert one.concordant + other.concordant + one.tied == 15
    assert one == pairwise_accuracy(np.exp(proxy), scores, separated)


def test_significant_pairs_are_counted_and_need_five():
    """Of the separated pairs the ones ordered rightly are counted; below five there is no share and a note says why."""
    proxy, scores = np.arange(4.0), np.array([0.9, 0.8, 0.6, 0.7])
    found = pairwise_accuracy(proxy, scores, np.array([True, True, True, True, False, True]))
    assert (found.concordant_significant, found.separated, found.undecided, found.significant) == (4, 5, 1, 0.8)
    few = pairwise_accuracy(proxy, scores, np.array([True, True, True, True, False, False]))
    assert np.isnan(few.significant)
    assert few.notes == ("the scores separate 4 pairs: no share below 5",)


def test_the_interval_comes_from_the_draws():
    """The limits are percentiles of the draws; a quant drawn twice is no pair, a draw without pairs or scores no draw."""
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.9, 0.7], [0.7, 0.8, 0.9], [0.9, 0.9, 0.9], [np.nan, 0.8, 0.7]])
    proxy = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    found = pairwise_accuracy(proxy[0], scores[0], NONE[:3], (proxy, scores)).accuracy
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile([1, 1, 0], [0.025, 0.975])))


def test_better_p_frozen():
    """One-sided sign-flip p of "A better than B, C, D": .5, .125, .1875; for graded scores the same by enumeration."""
    assert better_p(pair_tests(FROZEN, binary=True))[:3] == pytest.approx([0.5, 0.125, 0.1875])
    graded = better_p(pair_tests(FROZEN, binary=False))[:3]
    assert graded == pytest.approx([sign_flip_p(row - FROZEN[0]) / 2 for row in FROZEN[1:]])


@given(arrays(np.float64, (3, 25), elements=st.sampled_from([0.0, 0.5, 1.0])))
def test_better_p_takes_sides(scores):
    """The p of "first better" is below ½ where the second scores lower, and with the quants turned round it is 1 − p."""
    tests, turned = pair_tests(scores, binary=False), pair_tests(scores[::-1], binary=False)
    assert ((better_p(tests) < 0.5) <= (tests.delta < 0)).all()
    assert better_p(tests) + better_p(turned)[[2, 1, 0]] == pytest.approx(np.ones(3))


def test_soft_accuracy():
    """SPA is 1 for equal p-values, .5 where one side knows nothing, and NaN where a gap could not be tested."""
    sure = np.array([0.0, 1.0, 0.0])
    assert soft_accuracy(sure, sure) == 1
    assert soft_accuracy(sure, np.full(3, 0.5)) == 0.5
    assert soft_accuracy(sure, 1 - sure) == 0
    assert np.isnan(soft_accuracy(sure, np.array([0.0, np.nan, 0.0])))
    assert np.isnan(soft_accuracy(np.empty(0), np.empty(0)))
    chunks = np.arange(20.0) + np.array([[0.0], [50.0]])
    assert soft_accuracy(better_p(pair_tests(np.ones((2, 5)), binary=True)), gap_p(chunks)) == pytest.approx(
        0, abs=1e-9
    )


def test_tie_accuracy_frozen():
    """Four quants: ε .5 makes the proxy tie the two pairs the scores tie, and all six pairs are right on the other half."""
    scores = np.zeros((4, 80))
    scores[:2, :60], scores[2:, :20] = 1, 1
    tests = pair_tests(scores, binary=True)
    found = tie_accuracy(np.array([0.0, 0.5, 2.0, 2.4]), tests, tests)
    assert (found.value, found.epsilon, found.n) == (1, 0.5, 6)
    assert tie_accuracy(np.array([2.0, 2.4, 0.0, 0.5]), tests, tests).value == pytest.approx(1 / 3)


def test_soft_accuracy_is_mt_metrics_evals():
    """SPA of drawn scores and chunks is the .728 of mt-metrics-eval (commit 1b47eab) within its Monte-Carlo error.

    Theirs: `1 - PCE` of `compute_pairwise_p_values(scores, 200_000)` and `compute_pairwise_p_values(-chunks, 200_000)`, with
    the seeds 4 and 4 .72808, with 5 and 6 .72815. Ours takes t over the chunks instead of permutations.
    """
    rng = np.random.default_rng(2305)
    scores = (rng.random((6, 80)) < np.linspace(0.8, 0.55, 6)[:, np.newaxis]).astype(float)
    levels = np.geomspace(0.01, 0.03, 6)[[0, 2, 1, 3, 5, 4]]
    chunks = rng.gamma(4, levels[:, np.newaxis], (6, 24))
    assert soft_accuracy(better_p(pair_tests(scores, binary=True)), gap_p(chunks)) == pytest.approx(0.7281, abs=1e-3)


def test_tie_accuracy_is_mt_metrics_evals():
    """acc₂₃ and ε are those of mt-metrics-eval's `tau_optimization(-proxy, levels, TauSufficientStats.acc_23)` (0b82d96)."""
    levels = np.array([3, 2, 2, 1, 1, 0, 0, 0, 0, 3])
    proxy = np.array([1.29, 3.04, 2.76, 2.44, 1.99, 3.5, 4.03, 2.14, 3.82, 0.0])
    # 400 samples tell every two levels apart, and equal ones not at all.
    tests = pair_tests((np.arange(400) < 100 * levels[:, np.newaxis]).astype(float), binary=True)
    found = tie_accuracy(proxy, tests, tests)
    assert (found.value, found.epsilon) == pytest.approx((32 / 45, 0.45))


@given(st.integers(0, 2**32 - 1))
def test_the_chosen_epsilon_is_the_best_on_its_half(seed):
    """No ε orders or ties more pairs rightly on the half it was chosen on, whichever gap or none it is set to."""
    rng = np.random.default_rng(seed)
    proxy, scores = rng.integers(0, 6, 5).astype(float), (rng.random((5, 40)) < rng.random((5, 1))).astype(float)
    tests = pair_tests(scores, binary=True)
    best = tie_accuracy(proxy, tests, tests)
    gap, tied = proxy[tests.second] - proxy[tests.first], tests.p >= 0.05
    right = [
        np.mean(
            [
                t if abs(g) <= epsilon else not t and (g > 0) == (d < 0)
                for g, d, t in zip(gap, tests.delta, tied, strict=True)
            ]
        )
        for epsilon in (-1, 0, 1, 2, 3, 4, 5)
    ]
    assert best.value >= max(right[1:]) - 1e-12
