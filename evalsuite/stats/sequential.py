"""Stopping a paired comparison as soon as it is decided, with a test that may be looked at after every sample."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from evalsuite.stats.mean import FloatArray, IntArray


def e_value(lost: FloatArray | IntArray, gained: FloatArray | IntArray) -> FloatArray:
    """Return the evidence that lost and gained samples are not equally likely, 2^(l+g)·B(l + ½, g + ½)/B(½, ½).

    The mixture of likelihood ratios over Jeffreys' prior: with probability at least 1 − α it never reaches 1/α while the
    quants are equal, however often one looks.
    """
    log = (lost + gained) * np.log(2) + betaln(np.add(lost, 0.5), np.add(gained, 0.5)) - betaln(0.5, 0.5)
    with np.errstate(over="ignore"):  # beyond the largest float the evidence is infinite for every purpose
        return np.asarray(np.exp(log))


def decision(lost: IntArray, gained: IntArray, remaining: int, tests: int = 1, alpha: float = 0.05) -> NDArray[np.str_]:
    """Say of each pair whether it is *decided*, *futile* or *open* when `remaining` samples are still to come.

    Decided: the e-value has reached tests/α, a Bonferroni bound over all planned pairs. Futile: it would not, even if all
    remaining samples went one way. A run may stop when no pair is open.
    """
    bound = tests / alpha
    best = np.maximum(e_value(lost + remaining, gained), e_value(lost, gained + remaining))
    return np.select([e_value(lost, gained) >= bound, best < bound], ["decided", "futile"], "open")
