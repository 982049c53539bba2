"""Whether quants differ at all. Frozen values and statsmodels for Cochran's Q, normal theory for max-T."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from statsmodels.stats.contingency_tables import cochrans_q

from evalsuite.stats.mean import clustered_se
from evalsuite.stats.omnibus import cochran_q, max_t
from evalsuite.stats.resample import joint_bootstrap


def test_cochran_frozen():
    """Eight samples of three quants give the frozen Q and p."""
    rows = ["110", "110", "100", "111", "010", "100", "000", "110"]
    found = cochran_q(np.array([[float(cell) for cell in row] for row in rows]).T)
    assert (found.statistic, found.p, found.quants, found.n) == (pytest.approx(7.0), pytest.approx(0.0301974), 3, 8)


@given(arrays(float, (4, 30), elements=st.sampled_from([0.0, 1.0])))
def test_cochran_agrees_with_statsmodels(scores):
    """Q and p are those of statsmodels wherever these are defined, and p is 1 where no sample tells two quants apart."""
    found = cochran_q(scores)
    if (np.ptp(scores, axis=0) == 0).all():
        assert (found.statistic, found.p) == (0, 1)
        assert found.notes
    else:
        theirs = cochrans_q(scores.T)
        assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_missing_scores_leave_cochran():
    """A sample that one quant lacks is left out for all."""
    scores = np.random.default_rng(1).integers(0, 2, (3, 40)).astype(float)
    gaps = scores.copy()
    gaps[2, :7] = np.nan
    assert cochran_q(gaps) == cochran_q(scores[:, 7:])


@pytest.mark.parametrize("shift", [0.0, 0.06, 0.12])
def test_two_quants_are_a_paired_test(shift):
    """With two quants in clusters max-T gives the p of their difference in clustered standard errors."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(60), 5)
    scores = rng.normal(size=(2, 300)) * 0.2 + rng.normal(size=(2, 60))[:, clusters] * 0.2
    scores[1] += shift - scores[1].mean() + scores[0].mean()
    found = max_t(joint_bootstrap(scores, rng, clusters, draws=10_000))
    error = clustered_se(scores[1] - scores[0], clusters)
    assert found.statistic == pytest.approx(shift / error, rel=0.03, abs=1e-9)
    assert found.p == pytest.approx(2 * norm.sf(shift / error), abs=0.02)


def test_identical_quants_are_not_apart():
    """Quants that agree on every sample have p = 1."""
    scores = np.tile(np.random.default_rng(1).integers(0, 2, 50).astype(float), (4, 1))
    assert max_t(joint_bootstrap(scores, np.random.default_rng(1), draws=100)).p == 1
    assert cochran_q(scores).p == 1


def test_one_bad_quant_among_equals_is_seen():
    """One quant of six that loses a quarter of its samples makes both tests reject."""
    rng = np.random.default_rng(1)
    scores = (rng.random((6, 200)) < 0.9).astype(float)
    scores[4] *= rng.random(200) < 0.75
    assert cochran_q(scores).p < 1e-4
    found = max_t(joint_bootstrap(scores, rng, draws=999))
    assert found.p == pytest.approx(1 / 1000)


@pytest.mark.parametrize("scores", [np.ones((1, 30)), np.full((3, 30), np.nan), np.ones((3, 0))])
def test_nothing_to_test(scores):
    """One quant, or no common sample, gives no p and a note that says why."""
    for found in (cochran_q(scores), max_t(joint_bootstrap(scores, np.random.default_rng(1), draws=20))):
        assert isnan(found.p)
        assert found.notes
