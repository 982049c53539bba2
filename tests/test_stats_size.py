"""What a proxy says beyond the file's size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from evalsuite.stats.rows import rho_rows
from evalsuite.stats.size import at_equal_size, isotonic_rows, partial_at_size, partial_rank


def test_isotonic_frozen():
    """1 3 2 4 3.5 becomes 1 2.5 2.5 3.75 3.75."""
    assert isotonic_rows(np.array([1, 3, 2, 4, 3.5]), np.ones(5)).tolist() == [1, 2.5, 2.5, 3.75, 3.75]


@given(
    arrays(np.float64, (3, 9), elements=st.floats(-5, 5, width=16)),
    arrays(np.float64, (3, 9), elements=st.integers(0, 3).map(float)),
)
def test_isotonic_rows_are_scipys(values, weights):
    """Every row is scipy's isotonic regression of the entries that have a weight."""
    fit = isotonic_rows(values, weights)
    for row, weight, fitted in zip(values, weights, fit, strict=True):
        if (weight > 0).any():
            theirs = isotonic_regression(row[weight > 0], weights=weight[weight > 0]).x
            assert fitted[weight > 0] == pytest.approx(theirs, abs=1e-9)


def test_partial_rank_frozen():
    """The partial correlation of (−.8, −.95, .85) is .045596."""
    assert partial_rank(-0.8, -0.95, 0.85) == pytest.approx(0.045596, abs=1e-6)


def test_partial_is_the_correlation_of_rank_residuals():
    """The partial correlation is that of what a line through the size's ranks leaves of both ranks."""
    sizes, proxy, scores = np.random.default_rng(6).normal(size=(3, 16))
    ranks = [rankdata(values) for values in (sizes, proxy, scores)]
    rest = [r - np.polyval(np.polyfit(ranks[0], r, 1), ranks[0]) for r in ranks[1:]]
    assert partial_at_size(sizes, proxy, scores).rho == pytest.approx(np.corrcoef(*rest)[0, 1])


def test_partial_is_pingouins():
    """ρ and p are those of `pingouin.partial_corr(table, "x", "y", "z", method="spearman")`, version 0.7.0."""
    x = [-0.36, 1.55, 1.8, -0.61, -0.39, 0.26, -0.41, -1.56, 0.99, -2.15, -0.66, -0.89, 0.08, -1.31]
    y = [-1.33, -1.42, -0.61, 0.33, -0.4, 0.52, 0.64, 0.51, -0.33, 3.04, -0.66, -0.32, -0.03, 0.97]
    z = [0.03, 1.36, 1.22, -0.51, -0.3, -0.53, 0.57, -0.06, 0.75, -1.85, 1.57, -0.1, 0.68, -0.14]
    found = partial_at_size(np.array(z), np.array(x), np.array(y))
    assert (found.rho, found.p) == pytest.approx((-0.39339393571792375, 0.18356008366648507))


def test_partial_is_refused():
    """Nine quants, a proxy that size explains (1 − r² below .1), or scores that it explains, give no partial correlation."""
    rng = np.random.default_rng(7)
    sizes, scores = rng.normal(size=(2, 12))
    cases = {
        "no size adjustment below 10": (sizes[:9], -sizes[:9], scores[:9]),
        "of the proxy's ranks": (sizes, -sizes, scores),
        "nothing of the scores": (sizes, rng.normal(size=12), sizes),
        "are equal": (sizes, np.ones(12), scores),
    }
    for note, case in cases.items():
        found = partial_at_size(*case)
        assert np.isnan([found.rho, found.p]).all()
        assert note in found.notes[0]


def test_at_equal_size_finds_what_the_proxy_adds():
    """Where the damage beyond size shows in the proxy the residuals correlate; equal sizes are compared as such."""
    rng = np.random.default_rng(8)
    sizes, own = np.repeat(np.arange(10.0), 3), rng.normal(size=30)
    found = at_equal_size(sizes, -sizes + own, sizes - own, rng, draws=300)
    assert found.value < -0.9
    assert found.high < -0.6


def test_at_equal_size_is_undefined_with_a_reason():
    """Nine quants, or a proxy that follows size without exception, have no residual correlation."""
    rng = np.random.default_rng(9)
    assert at_equal_size(*rng.normal(size=(3, 9)), rng).notes == ("n = 9: no size adjustment below 10 quants",)
    found = at_equal_size(np.arange(12.0), -np.arange(12.0), rng.normal(size=12), rng, draws=50)
    assert found.notes == ("beside size nothing is left of the proxy or of the scores",)


@given(st.integers(0, 2**32 - 1))
def test_units_of_size_do_not_matter(seed):
    """Bytes, gigabytes or bits per weight: residuals depend on the order of the sizes only."""
    rng = np.random.default_rng(seed)
    sizes, proxy, scores = rng.integers(1, 8, 12).astype(float), *rng.normal(size=(2, 12))
    one, other = (
        at_equal_size(each, proxy, scores, np.random.default_rng(1), draws=20) for each in (sizes, np.exp(sizes))
    )
    assert repr(one) == repr(other)


def test_the_first_fit_is_to_all_quants():
    """The value is Spearman's ρ of the residuals that scipy's two isotonic fits leave."""
    rng = np.random.default_rng(10)
    sizes, proxy, scores = np.sort(rng.random(14)), rng.normal(size=14), rng.normal(size=14)
    rest = proxy - isotonic_regression(proxy, increasing=False).x, scores - isotonic_regression(scores).x
    value = at_equal_size(sizes, proxy, scores, rng, draws=20).value
    assert value == pytest.approx(float(rho_rows(*(each.round(12) for each in rest))))
