"""The score of one quant, and the correction for many tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from evalsuite.stats.multiple import holm
from evalsuite.stats.proportion import mean_score, wilson

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


def test_wilson_frozen():
    """Wilson's interval of 8 in 10 gives the frozen limits."""
    estimate = wilson(8, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)


@given(st.integers(1, 5000), st.data())
def test_wilson_agrees_with_statsmodels(n, data):
    """Wilson's interval is that of statsmodels."""
    right = data.draw(st.integers(0, n))
    estimate = wilson(right, n)
    assert (estimate.low, estimate.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-9)


def test_no_sample_has_no_score():
    """Nothing scored is no score, with a reason, and never 0."""
    estimate = mean_score(np.array([]), binary=True)
    assert np.isnan(estimate.value)
    assert estimate.notes == ("no scored sample",)


def test_graded_scores_stay_within_their_scale():
    """The t interval of graded scores near 1 does not leave [0, 1]."""
    estimate = mean_score(np.r_[np.full(11, 1.0), 0.5], binary=False)
    assert estimate.low < estimate.value < estimate.high == 1


def test_all_right_in_clusters_keeps_a_width():
    """A perfect score over 20 clusters is as uncertain as 20 right samples are."""
    estimate = mean_score(np.ones(200), np.repeat(np.arange(20), 10), binary=True)
    assert (estimate.low, estimate.n) == (pytest.approx(wilson(20, 20).low), 200)


def test_holm_frozen():
    """Holm's correction gives the frozen values."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=10)
@given(P_VALUES)
def test_holm_agrees_with_statsmodels(p):
    """Holm's correction is that of statsmodels."""
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(P_VALUES)
def test_holm_laws(p):
    """An adjusted p is never below the raw one, never above 1, and keeps their order."""
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_a_missing_p_is_no_test():
    """NaN stays NaN and does not make the correction stricter."""
    assert holm(np.array([0.02, np.nan, 0.04])) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
