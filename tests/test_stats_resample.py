"""The joint bootstrap. Laws, and the standard errors and intervals of other programs."""

import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsuite.stats.mean import clustered_se
from evalsuite.stats.resample import joint_bootstrap

RIGHT = arrays(float, (4, 12), elements=st.sampled_from([0.0, 1.0]))


def quants(seed=0, count=3, n=300):
    """Scores of quants that share much of their luck."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=n) + 0.5 * rng.normal(size=(count, n)) > -0.8).astype(float)


def test_paired_interval_agrees_with_scipy():
    """The difference of two quants has the percentile interval that scipy finds on the paired differences."""
    scores = quants()
    drawn = joint_bootstrap(scores, np.random.default_rng(1), draws=20_000).draws
    theirs = scipy.stats.bootstrap(
        (scores[0] - scores[1],), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    ours = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    assert ours == pytest.approx(tuple(theirs), abs=1 / 300)


def test_clusters_widen_as_the_clustered_standard_error_says():
    """With clusters of 1 to 9 samples the spread of the draws is the cluster-robust standard error."""
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(80), rng.integers(1, 10, 80))
    scores = (rng.normal(size=(2, 80))[:, clusters] + rng.normal(size=(2, len(clusters))) > 0).astype(float)
    drawn = joint_bootstrap(scores, rng, clusters, draws=20_000).draws
    assert drawn.std(axis=0) == pytest.approx([clustered_se(row, clusters) for row in scores], rel=0.03)
    assert drawn.std(axis=0).min() > 1.2 * clustered_se(scores[0])


@given(RIGHT, st.permutations(range(4)))
def test_every_quant_meets_the_same_samples(scores, order):
    """The order of the quants does not matter, equal quants get equal draws, and 1 − score gets 1 − draw."""
    drawn = joint_bootstrap(scores, np.random.default_rng(1), draws=20).draws
    turned = joint_bootstrap(np.vstack((scores[order], 1 - scores[0])), np.random.default_rng(1), draws=20).draws
    assert (turned[:, :4] == drawn[:, order]).all()
    assert turned[:, 4] == pytest.approx(1 - drawn[:, 0])


@given(RIGHT)
def test_clusters_of_one_are_no_clusters(scores):
    """Where every sample is its own cluster the draws are those without clusters, bit for bit."""
    alone = joint_bootstrap(scores, np.random.default_rng(1), np.arange(12), draws=20)
    assert (alone.draws == joint_bootstrap(scores, np.random.default_rng(1), draws=20).draws).all()


@given(RIGHT)
def test_draws_are_scores(scores):
    """A draw lies within [0, 1], and a quant that is always right is always drawn as right."""
    drawn = joint_bootstrap(np.vstack((scores, np.ones(12))), np.random.default_rng(1), draws=20).draws
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert (drawn[:, 4] == 1).all()


def test_only_common_samples_count():
    """A sample that one quant lacks leaves all quants, and a note says how many are left."""
    scores = quants(n=40)
    scores[1, :5] = np.nan
    with_gaps = joint_bootstrap(scores, np.random.default_rng(1), draws=50)
    without = joint_bootstrap(scores[:, 5:], np.random.default_rng(1), draws=50)
    assert (with_gaps.n, with_gaps.notes) == (35, ("35 of 40 samples are scored for all quants: only these count",))
    assert (with_gaps.draws == without.draws).all()
    assert (with_gaps.observed == without.observed).all()


def test_a_quant_without_scores_takes_nothing_from_the_others():
    """A quant that failed altogether is NaN, and the others keep all their samples."""
    scores = np.vstack((quants(n=40), np.full(40, np.nan)))
    found = joint_bootstrap(scores, np.random.default_rng(1), draws=50)
    assert found.n == 40
    assert np.isnan(found.draws).all(axis=0).tolist() == [False, False, False, True]
    assert np.isnan(found.observed).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("n", "clusters", "note"),
    [
        (9, None, "9 chunks: no interval below 10"),
        (90, np.repeat(np.arange(9), 10), "9 clusters: no interval below 10"),
        (0, None, "0 chunks: no interval below 10"),
    ],
)
def test_too_few_to_draw_from(n, clusters, note):
    """Fewer than 10 samples, chunks or clusters give no draws, and a note that says so."""
    found = joint_bootstrap(np.ones((2, n)), np.random.default_rng(1), clusters, draws=5, unit="chunk")
    assert np.isnan(found.draws).all()
    assert found.notes[-1] == note


def test_same_seed_same_bytes():
    """The same seed gives the same draws, another seed others."""
    first, again, other = (joint_bootstrap(quants(), np.random.default_rng(seed)).draws for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_memory_does_not_grow_with_the_draws():
    """20,000 draws of 2000 samples need less than a third of the 320 MB that their weights would fill."""
    scores = quants(n=2000)
    tracemalloc.start()
    joint_bootstrap(scores, np.random.default_rng(1), draws=20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
