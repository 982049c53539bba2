"""Changed answers, and which of them hurt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalsuite.stats.volume import above_floor, harm, volume

FROZEN = np.array(
    [[int(right) for right in row] for row in ("1110110110", "1110100110", "1010100100", "1100000101")], float
)
SCORES = arrays(np.float64, 20, elements=st.sampled_from([0.0, 1.0, np.nan]))


def test_volume_frozen():
    """B, C, D against A: V .1/.3/.5, D .1/.3/.3, harm share 1/1/.8."""
    found = [volume(FROZEN[0], quant) for quant in FROZEN[1:]]
    assert [each.volume for each in found] == pytest.approx([0.1, 0.3, 0.5])
    assert [each.direction for each in found] == pytest.approx([0.1, 0.3, 0.3])
    assert [each.harm.value for each in found] == pytest.approx([1, 1, 0.8])


def test_harm_frozen():
    """8 of 10 has the exact interval [.4439, .9748]; without a flip there is none."""
    assert (harm(8, 2).low, harm(8, 2).high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert np.isnan(harm(0, 0).value)
    assert harm(0, 0).notes == ("no sample changed between right and wrong",)


def test_wrong_answers_that_move_count_where_answers_are_known():
    """Of three answers wrong in both, one differs: volume counts it, direction does not; without answers it is unknown."""
    reference, quant = np.array([1.0, 0, 0, 0, 1]), np.array([0.0, 0, 0, 0, 1])
    answers = np.array(["A", "B", "C", None, "A"], dtype=object), np.array(["B", "B", "D", None, "a"], dtype=object)
    found = volume(reference, quant, answers)
    assert (found.lost, found.gained, found.moved, found.volume, found.direction) == (1, 0, 1, 0.4, 0.2)
    without = volume(reference, quant)
    assert (without.moved, without.volume) == (None, 0.2)
    assert without.notes


@given(SCORES, SCORES)
def test_volume_bounds_direction(reference, quant):
    """|D| ≤ V ≤ 1, and with quant and reference exchanged lost is gained and D changes its sign."""
    one, other = volume(reference, quant), volume(quant, reference)
    assert (one.lost, one.gained, one.n) == (other.gained, other.lost, other.n)
    if one.n:
        assert abs(one.direction) <= one.volume <= 1
        assert one.direction == -other.direction
    else:
        assert np.isnan([one.volume, one.direction]).all()


def test_above_floor_is_a_one_sided_midp():
    """5 samples only the quant changes against 1 only the rerun does: P(X > 5) + P(X = 5)/2 of 6 = .0625."""
    changed = np.array([True] * 5 + [False] * 4 + [True])
    rerun = np.array([False] * 5 + [True] + [False] * 3 + [True])
    assert above_floor(changed, rerun) == pytest.approx((1 + 6 / 2) / 64)
    assert above_floor(np.stack((changed, rerun)), rerun) == pytest.approx([0.0625, 0.5])
