"""A number with its interval."""

from dataclasses import dataclass
from math import nan


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, the number of observations behind it, and what a reader must know about it.

    What is undefined is NaN and has a note that says why.
    """

    value: float
    low: float
    high: float
    n: int
    notes: tuple[str, ...] = ()


def undefined(n: int, note: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(nan, nan, nan, n, (note,))
