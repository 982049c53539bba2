"""Makers of quants, apart and together."""

import numpy as np
import pytest

from evalsuite.stats.providers import by_provider, calibration_leak
from evalsuite.stats.rows import rho_rows

PROXY = np.array([0.01, 0.02, 0.04, 0.03, 0.06, 0.12])
SCORES = np.array([0.80, 0.79, 0.78, 0.84, 0.83, 0.81])
PROVIDERS = np.array([0, 0, 0, 1, 1, 1])


def test_by_provider_frozen():
    """Two providers of three: within −1, pooled .257143, and the sign flag is up."""
    found = by_provider(PROXY, SCORES, PROVIDERS, np.random.default_rng(0), draws=200)
    assert (found.within, found.pooled) == pytest.approx((-1, 0.257143), abs=1e-6)
    assert found.simpson
    assert found.between == pytest.approx(1)
    assert found.difference.value == pytest.approx(1.257143, abs=1e-6)


def test_small_providers_take_no_part():
    """A provider with two quants changes nothing; with one provider left there is nothing to compare."""
    rng = np.random.default_rng(0)
    with_two = by_provider(
        np.append(PROXY, [5, 6]), np.append(SCORES, [0.1, 0.9]), np.append(PROVIDERS, [2, 2]), np.random.default_rng(0)
    )
    assert with_two == by_provider(PROXY, SCORES, PROVIDERS, np.random.default_rng(0))
    alone = by_provider(PROXY, SCORES, np.array([0, 0, 0, 1, 1, 2]), rng)
    assert np.isnan([alone.pooled, alone.within, alone.between]).all()
    assert not alone.simpson
    assert alone.difference.notes == ("1 providers with 3 quants or more: two are needed",)


def test_one_order_everywhere_raises_no_flag():
    """Where pooled and within agree no flag is raised, and the interval holds their difference."""
    rng = np.random.default_rng(1)
    proxy, providers = rng.normal(size=24), np.repeat([0, 1, 2], 8)
    found = by_provider(proxy, -proxy + 0.05 * rng.normal(size=24), providers, rng, draws=500)
    assert not found.simpson
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_within_ignores_what_a_provider_adds():
    """A constant of each provider on either side changes pooled and not within."""
    rng = np.random.default_rng(2)
    proxy, scores, providers = rng.normal(size=12), rng.normal(size=12), np.repeat([0, 1, 2], 4)
    shift = np.array([0.0, 10.0, -10.0])[providers]
    one = by_provider(proxy, scores, providers, np.random.default_rng(0), draws=50)
    other = by_provider(proxy + shift, scores + shift, providers, np.random.default_rng(0), draws=50)
    assert one.within == pytest.approx(other.within)
    assert other.pooled == pytest.approx(float(rho_rows(proxy + shift, scores + shift)))


def test_leak_frozen():
    """Ln gaps (−1, −1, −1) and (1, 1, 4) give −1.5 and 1.5; indices of all providers add up to 0."""
    leaks = calibration_leak(np.exp(np.array([-1, -1, -1, 1, 1, 4.0])), np.ones(6), PROVIDERS, np.random.default_rng(0))
    assert [leak.provider for leak in leaks] == [0, 1]
    assert [leak.index.value for leak in leaks] == pytest.approx([-1.5, 1.5])
    assert (leaks[1].index.low, leaks[1].index.high) == pytest.approx((1, 2.5))
    assert (leaks[0].index.low, leaks[0].index.high) == pytest.approx((-2.5, -1))


def test_leak_needs_two_providers():
    """One provider has nobody to compare with."""
    assert calibration_leak(np.ones(3), np.ones(3), np.zeros(3, dtype=np.int64), np.random.default_rng(0)) == []
