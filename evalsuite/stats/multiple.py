"""Many tests at once."""

import numpy as np

from evalsuite.stats.mean import FloatArray


def holm(p: FloatArray) -> FloatArray:
    """Return Holm's step-down adjusted p-values (1979); a NaN is no test, stays NaN and does not count."""
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
