"""How well scores and proxies could agree at best. Frozen values of the definitions, and laws."""

from dataclasses import replace
from math import isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import clustered_se
from evalsuite.stats.reliability import (
    Measured,
    ceiling,
    contrast_error,
    disattenuated,
    live_share,
    mean_measured,
    measure,
    measure_log,
    reliability,
    snr,
    split_half,
)

FOUR = np.array([[float(cell) for cell in row] for row in ["1110110110", "1110100110", "1010100100", "1100000101"]])
"""Quants A to D on ten samples."""

VALUES = arrays(float, (4, 15), elements=st.floats(0, 1, width=32))


def test_frozen():
    """Quants A to D give the frozen contrast error, reliability, signal-to-noise ratio and live share."""
    measured = measure(FOUR)
    assert contrast_error(measured) == pytest.approx(0.0150926, abs=1e-7)
    assert reliability(measured).value == pytest.approx(0.329218, abs=1e-6)
    assert snr(measured) == pytest.approx(2.441964, abs=1e-6)
    assert live_share(FOUR) == pytest.approx(0.6)


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(20), [1, 2, 3, 4] * 5)])
def test_contrast_error_is_that_of_the_pairs(clusters):
    """e² is the mean over all pairs of half the squared (clustered) standard error of their difference."""
    values = np.random.default_rng(1).random((5, 50))
    pairs = [clustered_se(values[i] - values[j], clusters) ** 2 / 2 for i in range(5) for j in range(i)]
    assert contrast_error(measure(values, clusters)) == pytest.approx(np.mean(pairs))


@given(VALUES, arrays(float, 15, elements=st.floats(-5, 5, width=32)))
def test_what_all_quants_share_is_no_error(values, shared):
    """Adding one and the same number to a sample of every quant changes neither the error nor the reliability."""
    there, here = measure(values), measure(values + shared)
    assert contrast_error(here) == pytest.approx(contrast_error(there), abs=1e-9)
    if np.ptp(there.values) > 1e-3:
        assert reliability(here).value == pytest.approx(reliability(there).value, abs=1e-3)


@given(VALUES, st.sets(st.integers(0, 3), min_size=2))
def test_some_quants_are_measured_as_if_alone(values, some):
    """Taking some of the quants after measuring is measuring only them."""
    chosen = np.array(sorted(some))
    after, alone = measure(values).of(chosen), measure(values[chosen])
    assert after.values == pytest.approx(alone.values)
    assert after.covariance == pytest.approx(alone.covariance)


@given(VALUES)
def test_reliability_laws(values):
    """A reliability is a share, and its limits enclose it; without a difference between the quants there is none."""
    found = reliability(measure(values))
    if isnan(found.value):
        assert np.ptp(values.mean(axis=1)) < 1e-9
        assert found.notes
    else:
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_lower_limit_frozen():
    """With e² a tenth of the variance of ten quants the limits are 1 − .1·19.0228/9 and 1 − .1·2.70039/9."""
    values = np.arange(10.0)
    found = reliability(Measured(values, np.eye(10) * 0.1 * values.var(ddof=1)))
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.788636, 0.969996), abs=1e-6)


def test_noise_beyond_the_spread_is_no_reliability():
    """Quants that vary less than their errors have reliability 0, and a note says so."""
    found = reliability(Measured(np.arange(5.0), np.eye(5) * 10))
    assert found.value == 0
    assert found.notes == ("the values vary less than their errors alone would make them",)


def test_too_few_chunks_have_no_error():
    """Seven chunks give means, and no error, reliability or ceiling."""
    measured = measure(np.random.default_rng(1).random((4, 7)))
    assert not np.isnan(measured.values).any()
    assert isnan(contrast_error(measured))
    assert reliability(measured).notes == ("the error of the values is not known: no reliability",)
    assert isnan(ceiling(reliability(measured)).value)


def test_missing_samples_leave_all_quants():
    """A sample that one quant lacks is left out for all."""
    values = np.random.default_rng(1).random((3, 30))
    gaps = values.copy()
    gaps[1, :4] = nan
    assert measure(gaps).covariance == pytest.approx(measure(values[:, 4:]).covariance)


def test_relative_error_of_a_proxy():
    """On the logarithmic scale the error is that of the influences v/x − 1, whatever the unit of the proxy."""
    chunks = np.random.default_rng(1).lognormal(size=(3, 40))
    means = chunks.mean(axis=1, keepdims=True)
    found = measure_log(1000 * chunks)
    assert found.values == pytest.approx(np.log(1000 * means[:, 0]))
    assert found.covariance == pytest.approx(measure(chunks / means - 1).covariance)


def test_no_logarithm_of_nothing():
    """A proxy of 0, such as that of the reference itself, has no logarithm and no error; the others keep theirs."""
    chunks = np.random.default_rng(1).lognormal(size=(3, 20))
    chunks[0] = 0
    found, others = measure_log(chunks), measure_log(chunks[1:])
    assert isnan(found.values[0])
    assert isnan(reliability(found).value)
    assert reliability(found.of(np.array([1, 2]))) == reliability(others)


def test_mean_of_tasks():
    """Two equal but independent tasks have half the error variance of one, and the same scores."""
    one = measure(np.random.default_rng(1).random((4, 30)))
    both = mean_measured([one, one])
    assert both.values == pytest.approx(one.values)
    assert contrast_error(both) == pytest.approx(contrast_error(one) / 2)


def test_ceiling():
    """The ceiling is the root of both reliabilities, limit by limit; an unknown noise of the proxy is named."""
    scores, proxy = Estimate(0.81, 0.49, 0.9, 12), Estimate(0.64, 0.36, 0.8, 12)
    both, alone = ceiling(scores, proxy), ceiling(scores)
    assert (both.value, both.low, both.high) == pytest.approx((0.72, 0.42, sqrt(0.72)))
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.9, 0.7, sqrt(0.9)))
    assert alone.notes == ("the proxy's own noise is unknown and taken as none",)


def test_disattenuation_has_conditions():
    """Pearson's r is corrected by both reliabilities, clipped with a note, and left alone where the scores may be noise."""
    scores, proxy = Estimate(0.81, 0.5, 0.9, 12), Estimate(0.64, 0.36, 0.8, 12)
    assert disattenuated(-0.36, scores, proxy).value == pytest.approx(-0.5)
    clipped = disattenuated(-0.9, scores, proxy)
    assert (clipped.value, len(clipped.notes)) == (-1, 1)
    for unsure in (replace(scores, low=0.3), replace(scores, low=nan)):
        assert isnan(disattenuated(-0.36, unsure, proxy).value)
    assert isnan(disattenuated(-0.36, scores, replace(proxy, value=0.0)).value)


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(100), 4)])
def test_split_half_finds_the_planted_reliability(clusters):
    """Where half of the variance between quants is error, both ways of finding the reliability say about a half.

    R = 60 worlds of 40 quants; 95 % of single reliabilities lie within ± .16, so the means within ± .06.
    """
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        noise = rng.normal(size=(40, 400)) if clusters is None else 2 * rng.normal(size=(40, 100))[:, clusters]
        values = rng.normal(size=(40, 1)) * (0.05 if clusters is None else 0.2) + noise
        found.append((reliability(measure(values, clusters)).value, split_half(values, rng, clusters, splits=20).value))
    print(np.mean(found, axis=0))
    assert np.mean(found, axis=0) == pytest.approx([0.5, 0.5], abs=0.06)


def test_split_half_needs_something_to_split():
    """Two quants, or seven samples, have no split half, nor have quants that are all equal."""
    rng = np.random.default_rng(1)
    for values in (rng.random((2, 50)), rng.random((5, 7)), np.ones((5, 50))):
        assert isnan(split_half(values, rng).value)


def test_nothing_live():
    """Where all agree the live share is 0 and there is no signal-to-noise ratio; without samples there is no share."""
    assert live_share(np.ones((3, 20))) == 0
    assert isnan(snr(measure(np.ones((3, 20)))))
    assert isnan(live_share(np.full((3, 20), nan)))
