"""Rank agreement over a handful of quants."""

from itertools import permutations
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from evalsuite.stats.rank import bonett_wright, correlate


@pytest.mark.parametrize(
    ("rho", "n", "low", "high"),
    [(-0.7, 14, -0.9099, -0.2050), (-0.95, 28, -0.9803, -0.8763), (0, 8, -0.7047, 0.7047)],
)
def test_bonett_wright_frozen(rho, n, low, high):
    """Bonett and Wright's interval gives the frozen limits."""
    assert bonett_wright(rho, n) == pytest.approx((low, high), abs=1e-4)


def test_exact_p_frozen():
    """The exact p of 123456 against 653421 is 12 of 720 pairings."""
    found = correlate(np.arange(6.0), np.array([6, 5, 3, 4, 2, 1.0]), "spearman")
    assert (found.estimate.value, found.p) == pytest.approx((-0.942857, 0.0166667), abs=1e-6)


def test_ties_frozen():
    """τ_b with ties on both sides gives the frozen value."""
    x, y = np.array([0.1, 0.1, 0.2, 0.3, 0.5]), np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    assert correlate(x, y, "kendall").estimate.value == pytest.approx(-0.888889, abs=1e-6)


@pytest.mark.parametrize("method", ["spearman", "kendall"])
@pytest.mark.parametrize("y", [(3, 1, 2, 6, 5, 4), (0, 0, 1, 0, 1, 1), (4, 4, 3, 1, 1, 0)])
def test_exact_p_is_the_share_of_all_pairings(method, y):
    """With ties or without, p is the share of the 720 pairings that scipy finds at least as strong."""
    x = np.array([1, 2, 2, 4, 5, 6.0])
    of = spearmanr if method == "spearman" else kendalltau
    observed = abs(of(x, y).statistic)
    share = np.mean([abs(of(x, each).statistic) >= observed - 1e-9 for each in permutations(y)])
    assert correlate(x, np.array(y, float), method).p == pytest.approx(share)


@given(st.permutations(range(20)))
def test_above_nine_points_scipy_gives_the_p(y):
    """With many quants the value and p are scipy's."""
    found = correlate(np.arange(20.0), np.array(y, float), "spearman")
    theirs = spearmanr(range(20), y)
    assert (found.estimate.value, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "rho", "tau", "test", "interval"),
    [
        (2, False, False, False, False),
        (3, False, False, False, False),
        (4, False, True, False, False),
        (5, False, True, False, False),
        (6, True, True, True, False),
        (7, True, True, True, False),
        (8, True, True, True, True),
        (12, True, True, True, True),
    ],
)
def test_small_n_rules(n, rho, tau, test, interval):
    """Few quants give only what few quants can support, and a note for what is missing."""
    x = np.arange(float(n))
    y = np.r_[x[1::-1], x[2:]]
    spearman, kendall = correlate(x, y, "spearman"), correlate(x, y, "kendall")
    assert isnan(spearman.estimate.value) != rho
    assert isnan(kendall.estimate.value) != tau
    assert isnan(kendall.p) != test
    assert isnan(spearman.estimate.low) != interval
    assert interval or spearman.estimate.notes


def test_wide_intervals_are_called_wide():
    """From 8 to 11 quants the interval carries a note."""
    x = np.arange(8.0)
    assert correlate(x, np.r_[x[1::-1], x[2:]], "spearman").estimate.notes == ("n = 8: a wide interval",)


def test_a_perfect_order_has_no_interval():
    """±1 is exact, and an interval of no width is not printed."""
    found = correlate(np.arange(8.0), -(np.arange(8.0) ** 3), "kendall").estimate
    assert found.value == -1
    assert isnan(correlate(np.arange(8.0), -np.arange(8.0), "spearman").estimate.low)


def test_equal_values_have_no_rank():
    """One side without a difference gives no coefficient and says so."""
    found = correlate(np.arange(8.0), np.ones(8), "spearman")
    assert isnan(found.estimate.value)
    assert isnan(found.p)
    assert found.estimate.notes == ("all values of one side are equal",)


def test_turning_one_side_round_turns_the_sign():
    """ρ(x, −y) = −ρ(x, y) with the same p."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 8))
    there, back = correlate(x, y, "spearman"), correlate(x, -y, "spearman")
    assert there.estimate.value == pytest.approx(-back.estimate.value)
    assert there.p == pytest.approx(back.p)
