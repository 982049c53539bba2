"""Rank agreement over a handful of quants."""

from itertools import permutations
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, pearsonr, spearmanr

from evalsuite.stats.rank import (
    associations,
    bonett_wright,
    coefficients,
    correlate,
    influence,
    pearson,
    percentile_interval,
    range_curve,
    resample_quants,
    silent_zone,
    undistinguished_zone,
)
from evalsuite.stats.reliability import Measured, measure
from evalsuite.stats.resample import joint_bootstrap

TIED = arrays(float, (2, 3, 7), elements=st.integers(0, 4).map(float))


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


@settings(max_examples=30)
@given(TIED, TIED)
def test_coefficients_are_scipys(x, y):
    """Every row of one side with every row of the other, ties and all, gives what scipy gives, and NaN without a rank."""
    for method, of in (("spearman", spearmanr), ("kendall", kendalltau)):
        found = coefficients(x, y, method)
        assert found.shape == (2, 3, 3)
        for at, i, j in np.ndindex(found.shape):
            if np.ptp(x[at, i]) == 0 or np.ptp(y[at, j]) == 0:
                assert isnan(found[at, i, j])
            else:
                assert found[at, i, j] == pytest.approx(of(x[at, i], y[at, j]).statistic, abs=1e-9)


@given(arrays(float, (30, 2, 3), elements=st.sampled_from([-1.0, -0.5, 0.25, np.nan])))
def test_percentiles_are_numpys(draws):
    """The limits are numpy's quantiles of the draws that are numbers, and NaN where none is."""
    low, high = percentile_interval(draws)
    for at in np.ndindex(low.shape):
        known = draws[(slice(None), *at)]
        known = known[~np.isnan(known)]
        expected = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        assert (low[at], high[at]) == pytest.approx(tuple(expected), nan_ok=True)


def world(quants=12, tasks=2, proxies=3, draws=200, seed=1):
    """Proxies and tasks that agree a little, with draws of both."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=quants)
    x, y = (side * truth + rng.normal(size=(n, quants)) for side, n in ((1, proxies), (-1, tasks)))
    return x, y, *([each + 0.3 * rng.normal(size=(draws, quants)) for each in side] for side in (x, y))


def test_each_question_resamples_what_it_asks_about():
    """The three intervals are the percentiles of scipy's coefficient over items, over quants and over both."""
    x, y, x_draws, y_draws = world()
    found = associations(x, y, np.random.default_rng(7), proxy_draws=x_draws, task_draws=y_draws, draws=200)
    chosen = resample_quants(np.random.default_rng(7), 200, 12)
    for (i, j, method), each in found.items():
        of = spearmanr if method == "spearman" else kendalltau
        items = [of(x[i], drawn).statistic for drawn in y_draws[j]]
        both = [of(a[q], b[q]).statistic for a, b, q in zip(x_draws[i], y_draws[j], chosen, strict=True)]
        quants = [of(x[i][q], y[j][q]).statistic for q in chosen]
        limits = [np.quantile(values, [0.025, 0.975]) for values in (items, both, quants)]
        assert each.question == "both"
        assert each.items == pytest.approx(tuple(limits[0]))
        assert (each.estimate.low, each.estimate.high) == pytest.approx(tuple(limits[1]))
        expected = bonett_wright(each.estimate.value, 12) if method == "spearman" else tuple(limits[2])
        assert each.quants == pytest.approx(expected)


def test_value_and_p_are_those_of_a_single_correlation():
    """Many correlations at once have the values, p-values and n of one at a time."""
    x, y, x_draws, y_draws = world(quants=9)
    found = associations(x, y, np.random.default_rng(1), proxy_draws=x_draws, task_draws=y_draws, draws=200)
    assert len(found) == 3 * 2 * 2
    for (i, j, method), each in found.items():
        single = correlate(x[i], y[j], method)
        assert (each.estimate.value, each.p, each.estimate.n) == (single.estimate.value, single.p, 9)


def test_a_task_without_samples_is_asked_about_quants_only():
    """Without draws of a task the interval is that over other quants, and nothing is said about other samples."""
    x, y, _, _ = world()
    found = associations(x, y, np.random.default_rng(1), proxy_draws=[None] * 3, task_draws=[None] * 2, draws=50)
    for (i, j, method), each in found.items():
        assert each.question == "quants"
        assert isnan(each.items[0])
        assert (each.estimate.low, each.estimate.high) == each.quants
        if method == "spearman":
            assert each.estimate == correlate(x[i], y[j], method).estimate


def test_a_missing_quant_leaves_only_its_pairs():
    """A proxy that lacks a quant is correlated over the others; the other proxies keep all."""
    x, y, x_draws, y_draws = world()
    x[1, 4] = np.nan
    found = associations(x, y, np.random.default_rng(1), proxy_draws=x_draws, task_draws=y_draws, draws=200)
    rest = np.delete(np.arange(12), 4)
    assert {key: each.estimate.n for key, each in found.items()} == {key: 11 if key[0] == 1 else 12 for key in found}
    assert found[1, 0, "spearman"].estimate.value == correlate(x[1, rest], y[0, rest], "spearman").estimate.value
    assert found[1, 0, "spearman"].estimate.low < found[1, 0, "spearman"].estimate.high


@pytest.mark.parametrize("n", [2, 3, 5, 7, 8, 11, 12])
def test_small_n_rules_hold_for_many(n):
    """Few quants have no interval of any question, in a matrix as one at a time; from 8 to 11 it is called wide."""
    x, y, x_draws, y_draws = world(quants=n, draws=50)
    found = associations(x, y, np.random.default_rng(1), proxy_draws=x_draws, task_draws=y_draws, draws=50)
    for each in found.values():
        assert isnan(each.estimate.low) == (n < 8)
        assert isnan(each.items[0]) == (n < 8)
        assert (f"n = {n}: a wide interval" in each.estimate.notes) == (8 <= n < 12)
        assert each.estimate.notes or n == 12


def test_draws_that_are_not_there_are_no_interval():
    """A task with too few samples to draw from falls back on the question about quants."""
    x, y, x_draws, _ = world()
    missing = [np.full((50, 12), np.nan)] * 2
    found = associations(
        x, y, np.random.default_rng(1), proxy_draws=[each[:50] for each in x_draws], task_draws=missing, draws=50
    )
    assert {each.question for each in found.values()} == {"quants"}


def test_a_perfect_and_certain_order_has_no_interval():
    """Where every draw has ρ = −1 no interval of no width is printed, but the items are said to leave no doubt."""
    x = np.arange(12.0)[np.newaxis]
    certain = [np.tile(-x[0], (50, 1))]
    found = associations(x, -x, np.random.default_rng(1), proxy_draws=[None], task_draws=certain, draws=50)
    for each in found.values():
        assert (each.estimate.value, each.items) == (-1, (-1, -1))
        assert isnan(each.estimate.low)
        assert each.estimate.notes == ("no interval at a perfect rank correlation",)


def test_associations_repeat():
    """The same seed gives the same intervals."""
    x, y, x_draws, y_draws = world()
    first, again = (
        associations(x, y, np.random.default_rng(5), proxy_draws=x_draws, task_draws=y_draws, draws=200)
        for _ in range(2)
    )
    assert repr(first) == repr(again)


def test_quants_are_drawn_within_their_provider():
    """Each provider keeps its number of quants in every draw; those with one or two are drawn as one group."""
    providers = np.array([7, 7, 7, 2, 2, 5, 3, 3, 3, 3])
    group = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    chosen = resample_quants(np.random.default_rng(1), 500, 10, providers)
    assert (group[chosen] == group).all()
    assert {tuple(np.unique(chosen[:, group == each])) for each in range(3)} == {(0, 1, 2), (3, 4, 5), (6, 7, 8, 9)}


def test_pearson_with_its_range():
    """Pearson's r is scipy's, and its range that of leaving each quant out."""
    x, y = np.random.default_rng(1).normal(size=(2, 9))
    found = pearson(x, y)
    without = [pearsonr(np.delete(x, k), np.delete(y, k)).statistic for k in range(9)]
    assert (found.value, found.low, found.high) == pytest.approx((pearsonr(x, y).statistic, min(without), max(without)))
    assert isnan(pearson(x[:3], y[:3]).value)


@settings(max_examples=50)
@given(st.permutations(range(7)))
def test_influence_is_leaving_out(y):
    """ρ without each quant is scipy's over the others; what turns the sign or changes |ρ| by more than .2 is flagged."""
    x, y = np.arange(7.0), np.array(y, float)
    found = influence(x, y)
    rho = spearmanr(x, y).statistic
    without = [spearmanr(np.delete(x, k), np.delete(y, k)).statistic for k in range(7)]
    assert found.without == pytest.approx(without)
    for flag, each in zip(found.flag, without, strict=True):
        if abs(abs(abs(each) - abs(rho)) - 0.2) > 1e-9:
            assert flag == (abs(abs(each) - abs(rho)) > 0.2 or each * rho < -1e-12)


def test_no_influence_among_five():
    """Five quants have no influence to tell of, and neither have quants without a rank."""
    found = influence(np.arange(5.0), np.arange(5.0))
    assert np.isnan(found.without).all()
    assert not found.flag.any()
    assert found.notes
    assert influence(np.arange(8.0), np.ones(8)).notes


def test_windows_of_a_range_curve():
    """Windows hold the quants up to, then from, each value that leaves six, equal values together, with scipy's ρ and τ."""
    rng = np.random.default_rng(1)
    x = np.array([5, 1, 2, 2, 3, 9, 7, 7, 6, 4.0])
    scores = rng.integers(0, 2, (10, 12)).astype(float)
    drawn = joint_bootstrap(scores, rng, draws=300)
    assert len(np.unique(drawn.draws[0])) < 10  # ties among the scores too
    curve = range_curve(x, measure(scores), drawn.draws)
    assert [(window.direction, window.limit, window.rho.n) for window in curve] == [
        ("upto", 5, 6), ("upto", 6, 7), ("upto", 7, 9), ("upto", 9, 10),
        ("from", 4, 6), ("from", 3, 7), ("from", 2, 9), ("from", 1, 10),
    ]  # fmt: skip
    for window in curve:
        inside = x <= window.limit if window.direction == "upto" else x >= window.limit
        here, there = x[inside], scores.mean(axis=1)[inside]
        items = [spearmanr(here, row[inside]).statistic for row in drawn.draws]
        assert (window.rho.value, window.tau) == pytest.approx(
            (spearmanr(here, there).statistic, kendalltau(here, there).statistic)
        )
        assert (window.rho.low, window.rho.high) == pytest.approx(tuple(np.quantile(items, [0.025, 0.975])))


def precise(values, error):
    """Scores with independent errors of this size, and draws of them."""
    values = np.asarray(values, float)
    drawn = values + error * np.random.default_rng(1).normal(size=(500, len(values)))
    return Measured(values, np.eye(len(values)) * error**2), drawn


@pytest.mark.parametrize(
    ("scores", "error", "reading"),
    [
        ([8, 7, 6, 5, 4, 3, 2, 1], 0.3, "works"),
        ([1, 2, 3, 4, 5, 6, 7, 8], 0.3, "blind here"),
        ([4, 8, 1, 6, 2, 7, 3, 5], 0.3, "blind here"),
        ([4, 8, 1, 6, 2, 7, 3, 5], 3.0, "cannot tell"),
        ([8, 7, 6, 5, 4, 3, 2, 1], 9.0, "cannot tell"),
    ],
)
def test_readings(scores, error, reading):
    """A proxy works, or is blind where the scores could show it; where they are mostly noise nothing can be told."""
    measured, drawn = precise(scores, error)
    full = range_curve(np.arange(8.0), measured, drawn)[2]
    assert (full.rho.n, full.reading) == (8, reading)
    if reading == "cannot tell":
        assert full.ceiling.low < 0.5


def test_no_samples_no_reading():
    """Without samples a window has ρ and τ, but neither interval nor ceiling, and cannot tell."""
    window = range_curve(np.arange(6.0), Measured(-np.arange(6.0), np.full((6, 6), np.nan)))[0]
    assert (window.rho.value, window.tau, window.reading) == (-1, -1, "cannot tell")
    assert isnan(window.rho.low)
    assert isnan(window.ceiling.value)
    assert window.ceiling.notes


def test_a_noisy_proxy_lowers_the_ceiling():
    """The proxy's own error lowers the ceiling of every window."""
    measured, drawn = precise([8, 7, 6, 5, 4, 3, 2, 1], 0.3)
    x = np.arange(8.0)
    noisy = range_curve(x, measured, drawn, Measured(x, np.eye(8)))
    for exact, with_error in zip(range_curve(x, measured, drawn), noisy, strict=True):
        assert with_error.ceiling.value < exact.ceiling.value


@given(arrays(float, 8, elements=st.integers(0, 5).map(float)), arrays(bool, 8))
def test_silent_zone_laws(x, equivalent):
    """All in the zone are equivalent, no quant outside has a smaller proxy, and the next value would break it."""
    zone = silent_zone(x, equivalent)
    outside = np.setdiff1d(np.arange(8), zone)
    assert equivalent[zone].all()
    if len(outside):
        assert x[zone].max(initial=-1) < x[outside].min()
        assert not equivalent[x == x[outside].min()].all()


def test_undistinguished_zone_is_the_largest_prefix():
    """The zone is the largest prefix that the test lets pass, even if it rejects a smaller one, and the least one else."""
    x = np.array([3, 1, 2, 5, 4.0])
    p = {2: 0.5, 3: 0.01, 4: 0.2, 5: 0.001}
    assert undistinguished_zone(x, lambda quants: p[len(quants)]).tolist() == [0, 1, 2, 4]
    assert undistinguished_zone(x, lambda _: 0.0).tolist() == [1]
    assert undistinguished_zone(x[:0], lambda _: 0.0).tolist() == []
