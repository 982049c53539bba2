"""The Pareto front of size and score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsuite.stats.pareto import front_probability, on_front

FEW = arrays(np.float64, 7, elements=st.integers(0, 4).map(float))


@given(FEW, FEW)
def test_the_front_is_its_definition(sizes, values):
    """A quant is off the front exactly if one of its size or less is as good, strictly in one; the smallest best is on."""
    pairs = list(zip(sizes, values, strict=True))
    beaten = [any(s <= size and v >= value and (s < size or v > value) for s, v in pairs) for size, value in pairs]
    assert on_front(sizes, values).tolist() == [not each for each in beaten]
    assert on_front(sizes, values)[np.lexsort((sizes, -values))[0]]


def test_probability_is_the_share_of_draws():
    """Of four draws the larger quant is on the front in the one where it is better, and in none of the ties."""
    drawn = np.array([[0.7, 0.8], [0.7, 0.7], [0.7, 0.7 + 1e-15], [0.7, 0.6]])
    assert front_probability(np.array([1.0, 2.0]), drawn) == pytest.approx([1, 0.25])
