"""Many Tango intervals at once, and equivalence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.stats.equivalence import tango_limits, tost
from evalsuite.stats.paired import tango


@st.composite
def counts(draw):
    n = draw(st.integers(1, 3000))
    gained = draw(st.integers(0, n))
    return n, gained, draw(st.integers(0, n - gained))


@given(st.lists(counts(), min_size=1, max_size=8), st.sampled_from([0.9, 0.95, 0.9999]))
def test_many_intervals_are_those_of_one(pairs, level):
    """The bisection over arrays gives the limits that a root finder gives for one pair."""
    low, high = tango_limits(*np.array(pairs).T, level)
    for row, pair in enumerate(pairs):
        one = tango(*pair, level)
        assert (low[row], high[row]) == pytest.approx((one.low, one.high), abs=1e-9)


def test_tango_limits_frozen():
    """The 95 % limits are the frozen ones, and NaN without a sample."""
    low, high = tango_limits(np.array([100, 500, 50, 50, 0]), np.array([12, 25, 0, 3, 0]), np.array([3, 15, 0, 0, 0]))
    assert low == pytest.approx([0.01598, -0.00501, -0.07135, -0.01563, np.nan], abs=1e-5, nan_ok=True)
    assert high == pytest.approx([0.17374, 0.04631, 0.07135, 0.16217, np.nan], abs=1e-5, nan_ok=True)


def test_equivalence_needs_the_whole_interval_inside():
    """Equivalent is only what has both limits inside the margin; an unknown interval shows nothing."""
    low, high = np.array([-0.009, -0.011, -0.009, np.nan]), np.array([0.009, 0.009, 0.01, np.nan])
    assert tost(low, high).tolist() == [True, False, False, False]
    assert tost(low, high, margin=0.02).tolist() == [True, True, True, False]


def test_equivalence_of_a_difference_at_the_margin_is_claimed_at_most_at_5_percent():
    """Two quants exactly one margin apart are called equivalent in at most 5 % of 4000 runs of 2000 samples."""
    rng, runs, n = np.random.default_rng(3), 4000, 2000
    lost, gained, _ = rng.multinomial(n, [0.04, 0.02, 0.94], size=runs).T
    claimed = tost(*tango_limits(np.full(runs, n), gained, lost, 0.90), margin=0.02).mean()
    print(f"claimed {claimed:.4f}, Monte-Carlo error {np.sqrt(0.05 * 0.95 / runs):.4f}")
    assert claimed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
