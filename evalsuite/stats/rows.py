"""Correlation coefficients row by row, for bootstrap draws and permutations."""

import numpy as np
from scipy.stats import rankdata

from evalsuite.stats.mean import FloatArray


def rho_rows(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Spearman's ρ of each row of two arrays … × n, NaN where one side is constant or lacks a value."""
    return pearson_rows(rankdata(x, axis=-1), rankdata(y, axis=-1))


def pearson_rows(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Pearson's r of each row of two arrays … × n, NaN where one side is constant or lacks a value."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))
