"""Weighted means as plain ones: the law that makes every test and every draw of chunks one about all tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.proxy.records import mean_se
from evalsuite.stats.mean import clustered_se, weighted_values


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 60)), min_size=2, max_size=30))
def test_weighted_values_have_the_weighted_mean_and_its_error(rows: list[tuple[float, int]]) -> None:
    """Their plain mean is numpy's weighted one, and their standard error that of the mean over all tokens."""
    values, tokens = np.array(rows).T
    found = weighted_values(values, tokens)
    assert found.mean() == pytest.approx(np.average(values, weights=tokens), abs=1e-9)
    assert clustered_se(found) == pytest.approx(mean_se(values, tokens), abs=1e-9)


def test_weights_of_what_is_missing_do_not_count() -> None:
    """A missing value stays missing, and equal weights leave every value as it is."""
    values = np.array([0.1, np.nan, 0.3, 0.7])
    found = weighted_values(values, np.array([1.0, 99.0, 3.0, 4.0]))
    assert np.isnan(found[1])
    assert np.nanmean(found) == pytest.approx((0.1 + 3 * 0.3 + 4 * 0.7) / 8)
    assert np.array_equal(weighted_values(values, np.full(4, 255.0)), values, equal_nan=True)
