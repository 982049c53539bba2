"""Which quants no other quant beats by being as small and as good."""

import numpy as np

from evalsuite.stats.equivalence import BoolArray
from evalsuite.stats.mean import FloatArray

_NOISE = 1e-12


def on_front(sizes: FloatArray, values: FloatArray) -> BoolArray:
    """Tell which quants are on the Pareto front: none of their size or less is as good, strictly in one of the two.

    `sizes` has K values; `values` is … × K, larger is better (scores, or a proxy with its sign turned), such as draws × K
    of a bootstrap. Values that differ in the last bits are equal.
    """
    front = np.empty(values.shape, dtype=np.bool_)
    for k, size in enumerate(sizes):
        own = values[..., [k]]
        front[..., k] = ~((sizes < size) & (values >= own - _NOISE) | (sizes == size) & (values > own + _NOISE)).any(
            axis=-1
        )
    return front


def front_probability(sizes: FloatArray, drawn: FloatArray) -> FloatArray:
    """Return, for each of K quants, the share of bootstrap draws (draws × K values) that have it on the front."""
    return np.asarray(on_front(sizes, drawn).mean(axis=0))
