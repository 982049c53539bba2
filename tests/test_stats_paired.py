"""Two quants on the same samples. Frozen figures come from the formulas' papers and from independent programs."""

from math import ceil, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar

from evalsuite.stats.mean import clustered_mean, clustered_se
from evalsuite.stats.paired import (
    compare,
    connor_n,
    graded_delta,
    graded_p,
    mcnemar_exact,
    mcnemar_midp,
    mde,
    mde_of_interval,
    mean_p,
    sign_flip_p,
    tango,
)

CHANGED = st.integers(0, 60)
SCORES = st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 1.0, np.nan])), min_size=1)


@pytest.mark.parametrize(
    ("lost", "gained", "exact", "midp"),
    [
        (8, 2, 0.1093750, 0.0654297),
        (6, 0, 0.0312500, 0.0156250),
        (30, 12, 0.0079159, 0.0054016),
        (25, 15, 0.1538599, 0.1172752),
        (5, 5, 1, 1),
        (1, 0, 1, 0.5),
        (0, 0, 1, 1),
    ],
)
def test_mcnemar_frozen(lost, gained, exact, midp):
    """Exact and mid-p McNemar give the frozen values."""
    assert (mcnemar_exact(lost, gained), mcnemar_midp(lost, gained)) == pytest.approx((exact, midp), abs=1e-7)


@given(CHANGED, CHANGED)
def test_mcnemar_agrees_with_statsmodels(lost, gained):
    """The exact p is that of statsmodels on the 2×2 table."""
    theirs = mcnemar([[10, lost], [gained, 10]], exact=True).pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(theirs)


@given(CHANGED, CHANGED)
def test_midp_lies_below_exact(lost, gained):
    """The mid-p never exceeds the exact p, and neither depends on which side is which."""
    assert mcnemar_midp(lost, gained) <= mcnemar_exact(lost, gained) + 1e-12
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)
    assert mcnemar_midp(lost, gained) == mcnemar_midp(gained, lost)


@pytest.mark.parametrize(
    ("n", "gained", "lost", "low", "high"),
    [
        (100, 12, 3, 0.01598, 0.17374),
        (500, 25, 15, -0.00501, 0.04631),
        (50, 0, 0, -0.07135, 0.07135),
        (50, 3, 0, -0.01563, 0.16217),
    ],
)
def test_tango_frozen(n, gained, lost, low, high):
    """Tango's interval gives the frozen limits, also where nothing changed."""
    estimate = tango(n, gained, lost)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 400), st.data())
def test_tango_laws(n, data):
    """The interval holds the value, stays within [−1, 1], and turns round when the quants change places."""
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    estimate, swapped = tango(n, gained, lost), tango(n, lost, gained)
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert (-swapped.value, -swapped.high, -swapped.low) == pytest.approx(
        (estimate.value, estimate.low, estimate.high), abs=1e-9
    )


@pytest.mark.parametrize(("n", "p_lost", "p_gained"), [(50, 0.08, 0.03), (200, 0.04, 0.04), (1000, 0.02, 0.01)])
def test_tango_covers(n, p_lost, p_gained):
    """Tango's 95 % interval holds the true difference in 92.5 to 98 % of 1000 simulated pairs."""
    rng = np.random.default_rng(20)
    counts = rng.multinomial(n, [p_lost, p_gained, 1 - p_lost - p_gained], size=1000)
    truth = p_gained - p_lost
    held = [(e := tango(n, int(gained), int(lost))).low <= truth <= e.high for lost, gained, _ in counts]
    assert 0.925 <= np.mean(held) <= 0.98


def test_clustered_se_frozen():
    """The cluster-robust standard error gives the frozen value, and sd/√N without clusters."""
    difference = np.array([1, 0, 0, -1, 1, 1, 0, 0, 0, 1.0])
    clusters = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 4])
    assert clustered_se(difference, clusters) == pytest.approx(0.244438, abs=1e-6)
    assert clustered_se(difference) == pytest.approx(0.213437, abs=1e-6)


def test_clustered_interval_covers_where_the_plain_one_does_not():
    """With 50 documents of 10 dependent samples the clustered interval covers 95 % and the independent one far less."""
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(50), 10)
    held = {True: 0, False: 0}
    for _ in range(400):
        values = rng.normal(size=500) + rng.normal(size=50)[clusters]
        for clustered in held:
            estimate = clustered_mean(values, clusters if clustered else None)
            held[clustered] += estimate.low <= 0 <= estimate.high
    assert held[True] / 400 >= 0.93
    assert held[False] / 400 <= 0.75


def test_few_clusters_have_no_interval():
    """Nine clusters give a mean, no interval, and a note that says why."""
    estimate = clustered_mean(np.arange(18.0), np.repeat(np.arange(9), 2))
    assert estimate.value == 8.5
    assert isnan(estimate.low)
    assert estimate.notes == ("9 clusters: no interval below 10",)


@pytest.mark.parametrize(
    ("delta", "discordance", "n"), [(0.01, 0.04, 3138), (0.01, 0.08, 6277), (0.02, 0.08, 1568), (0.05, 0.15, 469)]
)
def test_connor_frozen(delta, discordance, n):
    """Connor's formula gives the frozen numbers of samples."""
    assert ceil(connor_n(delta, discordance)) == n


@given(st.integers(10, 20_000), st.floats(0, 1))
def test_mde_inverts_connor(n, discordance):
    """The MDE is the difference for which Connor's formula asks for n samples, and never more than can change."""
    found = mde(n, discordance)
    assert 0 < found <= 1
    assert connor_n(found, max(discordance, found)) == pytest.approx(n, rel=1e-6)


def test_mde_has_the_power_it_states():
    """At the MDE, McNemar's mid-p test finds the difference in about 80 % of 1000 simulated pairs."""
    rng = np.random.default_rng(4)
    delta = mde(1000, 0.08)
    counts = rng.multinomial(1000, [(0.08 + delta) / 2, (0.08 - delta) / 2, 0.92], size=1000)
    found = np.mean([mcnemar_midp(int(lost), int(gained)) < 0.05 for lost, gained, _ in counts])
    assert found == pytest.approx(0.8, abs=0.04)


def test_too_few_samples_have_no_mde():
    """Where even a difference of 1 would be missed there is no MDE."""
    assert isnan(mde(3, 0.1))
    assert isnan(mde(0, 0.0))


def test_mde_of_an_interval_is_that_of_its_standard_error():
    """For a wide clustered sample the MDE is 2.80 standard errors."""
    values = np.random.default_rng(1).normal(size=5000)
    assert mde_of_interval(clustered_mean(values)) == pytest.approx(2.8016 * clustered_se(values), rel=1e-3)


@given(SCORES)
def test_swapping_the_quants_negates_everything(pairs):
    """compare(b, a) is compare(a, b) with the sign turned, the limits exchanged and the same p."""
    a, b = np.array(pairs).T
    there, back = compare(a, b, binary=True), compare(b, a, binary=True)
    assert (there.gained, there.lost, there.p) == (back.lost, back.gained, back.p)
    assert (there.delta.value, there.delta.low, there.delta.high) == pytest.approx(
        (-back.delta.value, -back.delta.high, -back.delta.low), abs=1e-9, nan_ok=True
    )


@given(SCORES, st.randoms())
def test_order_of_samples_does_not_matter(pairs, random):
    """Shuffling the samples changes nothing."""
    shuffled = list(pairs)
    random.shuffle(shuffled)
    first, second = (compare(*np.array(p).T, binary=True) for p in (pairs, shuffled))
    assert repr(first) == repr(second)


@given(SCORES)
def test_unscored_samples_leave_the_pair(pairs):
    """Only samples with a score in both are counted."""
    a, b = np.array(pairs).T
    assert compare(a, b, binary=True).delta.n == sum(not (isnan(x) or isnan(y)) for x, y in pairs)


@given(st.integers(0, 8), st.integers(0, 8))
def test_sign_flips_of_single_samples_are_mcnemar(lost, gained):
    """For right-or-wrong samples that stand alone the exact sign-flip test is McNemar's."""
    changes = np.r_[-np.ones(lost), np.ones(gained)]
    assert sign_flip_p(changes) == pytest.approx(mcnemar_exact(lost, gained))


def test_few_changed_clusters_are_tested_exactly():
    """Three changed samples among 1000 never reach significance, though a t test of them would come close."""
    difference = np.r_[np.full(3, 0.5), np.zeros(997)]
    assert graded_p(difference) == ("exact sign flip", 0.25)


def test_many_changed_samples_get_a_t_test():
    """With many graded changes the test is a paired t test, and the interval agrees with it."""
    difference = np.random.default_rng(2).normal(0.02, 0.1, 400)
    test, p = graded_p(difference)
    estimate = graded_delta(difference)
    assert test == "paired t"
    assert (p < 0.05) == (not estimate.low <= 0 <= estimate.high)


def test_no_change_still_has_a_width():
    """Graded scores without a single change get Tango's interval instead of none."""
    estimate = graded_delta(np.zeros(50))
    assert (estimate.low, estimate.high) == pytest.approx((-0.07135, 0.07135), abs=1e-5)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_mean_of_equal_tasks_is_one_pooled_test(lost, gained, lost_too, gained_too):
    """For two tasks of one size with few changes the test of their mean is McNemar's on all their samples."""
    changes = [
        np.repeat([-1.0, 1.0, 0.0], [*counts, 50 - sum(counts)]) for counts in ((lost, gained), (lost_too, gained_too))
    ]
    test, p = mean_p([(change, None) for change in changes])
    assert (test, p) == ("exact sign flip", pytest.approx(mcnemar_exact(lost + lost_too, gained + gained_too)))


def test_mean_of_many_changes_is_near_the_pooled_midp():
    """With 42 changed samples the normal form of the test gives the mid-p of the pooled samples."""
    changes = [np.repeat([-1.0, 1.0, 0.0], counts) for counts in ([20, 7, 173], [10, 5, 185])]
    test, p = mean_p([(change, None) for change in changes])
    assert (test, p) == ("sign flip", pytest.approx(mcnemar_midp(30, 12), abs=2e-4))
