"""Evidence that may be looked at after every sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from evalsuite.stats.sequential import decision, e_value


def test_e_values_frozen():
    """The E-values of seven (lost, gained) are the frozen ones."""
    lost, gained = np.array([8, 6, 30, 25, 5, 1, 0]), np.array([2, 0, 12, 15, 5, 0, 0])
    assert e_value(lost, gained) == pytest.approx([1.67578, 14.4375, 6.57575, 0.44335, 0.24609, 1, 1], abs=5e-6)


@given(st.integers(0, 200))
def test_the_expected_evidence_is_one(changed):
    """Over equal quants the mean E-value of n changed samples is 1: it is a bet at fair odds."""
    lost = np.arange(changed + 1)
    assert binom.pmf(lost, changed, 0.5) @ e_value(lost, changed - lost) == pytest.approx(1)


def test_decisions():
    """Decided from tests/α on, futile when not even a clean sweep would get there, open in between."""
    lost, gained = np.array([9, 5]), np.array([0, 5])
    assert e_value(9, 0) == pytest.approx(94.96, abs=0.01)
    assert decision(lost, gained, 4).tolist() == ["decided", "futile"]
    assert decision(lost, gained, 4, tests=45).tolist() == ["open", "futile"], "E reaches 900 at 13 to 0"
    assert decision(lost, gained, 3, tests=45).tolist() == ["futile", "futile"]
    assert decision(lost, gained, 30).tolist() == ["decided", "open"]


def test_evidence_beyond_the_largest_float_decides():
    """Ten thousand losses in a row are infinite evidence and no warning."""
    assert np.isinf(e_value(10_000, 0))
    assert decision(np.array([10_000]), np.array([0]), 0).tolist() == ["decided"]
