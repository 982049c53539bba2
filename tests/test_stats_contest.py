"""Two proxies against each other."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from evalsuite.stats.contest import contest, williams
from evalsuite.stats.rows import pearson_rows, rho_rows


def quants(n=14, seed=1):
    rng = np.random.default_rng(seed)
    damage = rng.normal(size=n)
    return damage + 0.1 * rng.normal(size=n), damage + 2.0 * rng.normal(size=n), -damage


@pytest.mark.parametrize(
    ("r12", "r13", "r23", "n", "statistic", "p"),
    [(-0.8, -0.5, 0.7, 20, -2.65062, 0.016819), (0.9, 0.8, 0.95, 12, 2.37652, 0.041464)],
)
def test_williams_frozen(r12, r13, r23, n, statistic, p):
    """Williams' t and its p-value are the frozen ones."""
    assert williams(r12, r13, r23, n) == pytest.approx((statistic, p), abs=1e-5)


@pytest.mark.parametrize(
    ("r12", "r13", "r23", "n", "p"), [(-0.62, -0.41, 0.77, 17, 0.1594786399), (0.35, 0.52, 0.2, 30, 0.4156397694)]
)
def test_williams_is_mt_metrics_evals(r12, r13, r23, n, p):
    """The two-sided p is that of mt-metrics-eval's `WilliamsTest(r12, r13, r23, n, one_sided=False)` (commit 0b82d96)."""
    assert williams(r12, r13, r23, n)[1] == pytest.approx(p, abs=1e-9)


def test_williams_undefined():
    """Proxies that correlate perfectly, or three quants, allow no Williams test."""
    assert np.isnan(williams(0.8, 0.8, 1.0, 20)).all()
    assert np.isnan(williams(0.8, 0.5, 0.3, 3)).all()


def test_coefficients_of_rows():
    """Row by row ρ and r are scipy's, ties included, and NaN for a constant row."""
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5, (2, 20, 9)).astype(float)
    assert rho_rows(x, y) == pytest.approx([spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)])
    assert pearson_rows(x, y) == pytest.approx([pearsonr(a, b).statistic for a, b in zip(x, y, strict=True)])
    assert np.isnan(rho_rows(np.ones((1, 9)), y[:1]))


def test_indistinguishable_proxies_are_not_compared():
    """With τ_b of .95 or more between the proxies nothing else is computed."""
    x = np.arange(12.0)
    found = contest(x, np.exp(x), -x, None, np.random.default_rng(0))
    assert (found.verdict, found.tau) == ("indistinguishable", pytest.approx(1))
    assert np.isnan([found.delta.value, found.williams_p, found.swap_p]).all()


def test_few_quants_have_a_tau_only():
    """Seven quants get τ between the proxies and no contest; eleven no swap test."""
    first, second, scores = quants(7)
    found = contest(first, second, scores, None, np.random.default_rng(0))
    assert found.verdict == "too few quants"
    assert -1 <= found.tau <= 1
    assert np.isnan(found.delta.value)
    assert np.isnan(contest(*quants(11), None, np.random.default_rng(0)).swap_p)


def test_the_better_proxy_wins_with_the_sides_turned():
    """The proxy that follows the damage wins on either side, and without draws nobody does."""
    first, second, scores = quants(30)
    chosen = np.random.default_rng(3).integers(30, size=(500, 30))
    drawn = rho_rows(first[chosen], scores[chosen]), rho_rows(second[chosen], scores[chosen])
    found = contest(first, second, scores, drawn, np.random.default_rng(0), swaps=999)
    turned = contest(second, first, scores, drawn[::-1], np.random.default_rng(0), swaps=999)
    assert (found.verdict, turned.verdict) == ("first", "second")
    assert (found.delta.low, found.delta.value) == pytest.approx((-turned.delta.high, -turned.delta.value))
    assert found.williams_t == pytest.approx(-turned.williams_t)
    assert max(found.williams_p, found.swap_p) < 0.01
    assert contest(first, second, scores, None, np.random.default_rng(0), swaps=9).verdict == "undecided"


def test_williams_and_swaps_reject_equal_proxies_rarely():
    """Two equally good proxies of 14 quants: Williams (reference .030) and swaps (.057) reject in at most 5 % of R = 300.

    Both are compared with their reference rate and three Monte-Carlo errors.
    """
    rng, runs = np.random.default_rng(4), 300
    rejected = np.zeros(2)
    for _ in range(runs):
        damage, *own = rng.normal(size=(3, 14))
        first, second = (np.sqrt(0.6) * damage + np.sqrt(0.4) * each for each in own)
        found = contest(first, second, -damage, None, rng, swaps=199)
        rejected += np.array([found.williams_p < 0.05, found.swap_p <= 0.05])
    rates, allowed = rejected / runs, np.array([0.05, 0.057])
    errors = np.sqrt(allowed * (1 - allowed) / runs)
    print(f"Williams {rates[0]:.3f}, swaps {rates[1]:.3f}, Monte-Carlo error {errors.max():.3f}")
    assert (rates <= allowed + 3 * errors).all()


def test_same_seed_same_bytes():
    """Two contests from the same seed are equal."""
    one, other = (contest(*quants(), None, np.random.default_rng(5), swaps=99) for _ in range(2))
    assert repr(one) == repr(other)
