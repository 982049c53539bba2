"""What picking by a proxy costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.stats.regret import Budget, half_scores, regret

SIZES = np.array([10.0, 12, 15, 20])
SCORES = np.array([0.70, 0.74, 0.73, 0.78])
PROXY = np.array([0.2, 0.15, 0.1, 0.12])


def test_regret_frozen():
    """Four quants: mean .015, largest-fit .0025, random .0197917, skill .242105; each budget has its pick."""
    found = regret(SIZES, PROXY, SCORES)
    assert (found.naive, found.largest_fit, found.random, found.skill) == pytest.approx(
        (0.015, 0.0025, 0.0197917, 0.242105), abs=1e-6
    )
    assert np.isnan(found.crossfit)
    assert found.budgets[3] == Budget(20, 2, 3, pytest.approx(0.05))
    assert [budget.pick for budget in found.budgets] == [0, 1, 2, 2]


def test_budgets_can_be_given():
    """At a limit between two sizes the smaller ones compete."""
    assert [budget.best for budget in regret(SIZES, PROXY, SCORES, limits=np.array([14.0])).budgets] == [1]


@given(st.integers(0, 2**32 - 1))
def test_laws(seed):
    """Regret is never negative; the score itself costs nothing and has skill 1; size picks the largest that fits."""
    rng = np.random.default_rng(seed)
    sizes, proxy, scores = rng.permutation(8).astype(float), rng.normal(size=8), rng.normal(size=8)
    found = regret(sizes, proxy, scores)
    assert min(budget.regret for budget in found.budgets) >= 0
    perfect = regret(sizes, -scores, scores)
    assert (perfect.naive, perfect.skill) == (0, 1)
    assert regret(sizes, -sizes, scores).naive == pytest.approx(found.largest_fit)


def test_where_no_choice_costs_there_is_no_skill():
    """Equal scores: regret 0 and no skill, not skill 0 or 1."""
    assert np.isnan(regret(SIZES, PROXY, np.full(4, 0.5)).skill)


def test_halves_are_halves():
    """Both halves together give the whole; every split is another; clusters stay together; the seed decides."""
    rng = np.random.default_rng(1)
    scores = rng.random((3, 40))
    first, second = half_scores(scores, np.random.default_rng(2), splits=30)
    assert (first + second) / 2 == pytest.approx(np.tile(scores.mean(axis=1), (30, 1)))
    assert len(np.unique(first[:, 0])) > 20
    again = half_scores(scores, np.random.default_rng(2), splits=30)
    assert np.array_equal(first, again[0])
    clusters = np.repeat([0, 1], 20)
    whole = half_scores(scores, rng, clusters, splits=30)[0]
    assert set(whole[:, 0].round(9)) <= set(np.array([scores[0, :20].mean(), scores[0, 20:].mean()]).round(9))


def test_the_order_of_the_quants_does_not_matter():
    """Halves of few samples tie often, and the cross-fit is the same whichever quant comes first."""
    rng = np.random.default_rng(4)
    halves = half_scores((rng.random((6, 12)) < 0.5).astype(float), rng)
    sizes, proxy, scores, order = np.arange(6.0), rng.random(6), rng.random(6), np.arange(6)[::-1]
    one = regret(sizes, proxy, scores, halves).crossfit
    other = regret(sizes[order], proxy[order], scores[order], (halves[0][:, order], halves[1][:, order])).crossfit
    assert one == pytest.approx(other)


def test_crossfit_by_hand():
    """Halves (.6, .8) and (.7, .5), pick 0: best by the first is 1, scored −.2 on the second; best by the second is 0."""
    halves = np.array([[0.6, 0.8]]), np.array([[0.7, 0.5]])
    found = regret(np.array([1.0, 1.0]), np.array([0.1, 0.2]), np.array([0.65, 0.65]), halves)
    assert found.crossfit == pytest.approx((-0.2 + 0) / 2)
