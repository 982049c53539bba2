"""Are the quants different at all? Asked before anything is ranked."""

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import chi2

from evalsuite.stats.mean import FloatArray
from evalsuite.stats.resample import Resampled


@dataclass(frozen=True)
class Omnibus:
    """One test of the hypothesis that K quants have one score; `p` is NaN where there is nothing to test.

    `statistic` is Cochran's Q, or the largest difference between two quants in standard errors.
    """

    test: str
    statistic: float
    p: float
    quants: int
    n: int
    notes: tuple[str, ...] = ()


def cochran_q(scores: FloatArray) -> Omnibus:
    """Return Cochran's test (1950) for right-or-wrong samples that do not depend on each other, scores quants × samples.

    Q = (K − 1)(K·ΣC² − (ΣC)²) / (K·ΣR − ΣR²), C the quants' and R the samples' totals, is χ² on K − 1 degrees of freedom.
    Only samples scored for all quants count. Where no sample tells two quants apart p is 1.
    """
    common = scores[:, ~np.isnan(scores).any(axis=0)]
    quants, n = common.shape
    if quants < 2 or n == 0:
        return _nothing("Cochran's Q", quants, n)
    columns, rows = common.sum(axis=1), common.sum(axis=0)
    spread = float(quants * rows.sum() - rows @ rows)
    if spread == 0:
        return Omnibus("Cochran's Q", 0.0, 1.0, quants, n, ("no sample tells two quants apart",))
    statistic = float((quants - 1) * (quants * columns @ columns - columns.sum() ** 2) / spread)
    return Omnibus("Cochran's Q", statistic, float(chi2.sf(statistic, quants - 1)), quants, n)


def cochran_prefixes(scores: FloatArray) -> FloatArray:
    """Return the p-value of Cochran's test for the first 2, 3, … K rows of scores without gaps; NaN for the first alone.

    The same as `cochran_q` of each prefix, from running sums.
    """
    columns, rows = scores.sum(axis=1), np.cumsum(scores, axis=0)
    count = np.arange(1, len(scores) + 1)
    total, squares = np.cumsum(columns), np.cumsum(columns**2)
    spread = count * rows.sum(axis=1) - (rows**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (count - 1) * (count * squares - total**2) / spread
    p = np.where(spread == 0, 1.0, chi2.sf(np.nan_to_num(statistic), np.maximum(count - 1, 1)))
    return np.where(count < 2, nan, p)


def max_t(scores: Resampled) -> Omnibus:
    """Return the test of the largest difference between two quants, for graded or clustered samples.

    Each difference is taken in its own bootstrap standard error and compared with the largest that the joint draws show
    once every quant is centred on its own score (Westfall & Young 1993). p = (1 + #) / (B + 1).
    """
    quants, notes = len(scores.observed), scores.notes
    if quants < 2 or np.isnan(scores.draws).any():
        return _nothing("max-T", quants, scores.n, notes)
    centred = scores.draws - scores.observed
    observed, null = 0.0, np.zeros(len(centred))
    for quant in range(quants - 1):
        differences = centred[:, quant + 1 :] - centred[:, [quant]]
        errors = differences.std(axis=0)
        apart = errors > 0
        gaps = np.abs(scores.observed[quant + 1 :] - scores.observed[quant])[apart] / errors[apart]
        observed = max(observed, gaps.max(initial=0))
        np.maximum(null, (np.abs(differences[:, apart]) / errors[apart]).max(axis=1, initial=0), out=null)
    p = (1 + np.count_nonzero(null >= observed)) / (1 + len(null))
    return Omnibus("max-T", float(observed), p, quants, scores.n, notes)


def _nothing(test: str, quants: int, n: int, notes: tuple[str, ...] = ()) -> Omnibus:
    return Omnibus(test, nan, nan, quants, n, (f"{quants} quants on {n} common samples: nothing to test", *notes))
