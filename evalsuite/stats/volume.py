"""How many answers a quant changes, and how many of these for the worse."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from evalsuite.stats.equivalence import BoolArray
from evalsuite.stats.estimate import Estimate, undefined
from evalsuite.stats.mean import FloatArray


@dataclass(frozen=True)
class Volume:
    """Changes of a quant against the reference over the n samples both have a score for.

    `moved` counts wrong answers that became other wrong answers, None where answers are unknown. `volume` is the share of
    changed samples, (lost + gained + moved)/n; `direction` is (lost − gained)/n, larger for more damage; `harm` is
    lost/(lost + gained) with the exact interval (Clopper & Pearson 1934).
    """

    n: int
    lost: int
    gained: int
    moved: int | None
    volume: float
    direction: float
    harm: Estimate
    notes: tuple[str, ...] = ()


def volume(
    reference: FloatArray, quant: FloatArray, answers: tuple[NDArray[Any], NDArray[Any]] | None = None
) -> Volume:
    """Count the changes between N scores of the reference and of a quant, NaN where unscored.

    `answers` are what the reference and the quant said, any values that compare; equal ones are the same answer.
    """
    both = ~(np.isnan(reference) | np.isnan(quant))
    n, lost, gained = int(both.sum()), int((quant < reference).sum()), int((quant > reference).sum())
    notes = () if answers else ("wrong answers that became other wrong answers are not counted: no answers",)
    moved = int((both & (quant == reference) & (quant < 1) & (answers[0] != answers[1])).sum()) if answers else None
    if not n:
        return Volume(0, 0, 0, moved, np.nan, np.nan, undefined(0, "no sample scored in both"), notes)
    return Volume(
        n, lost, gained, moved, (lost + gained + (moved or 0)) / n, (lost - gained) / n, harm(lost, gained), notes
    )


def harm(lost: int, gained: int) -> Estimate:
    """Return the share of flips that lost a right answer, with the exact 95 % interval."""
    if lost + gained == 0:
        return undefined(0, "no sample changed between right and wrong")
    interval = binomtest(lost, lost + gained).proportion_ci(method="exact")
    return Estimate(lost / (lost + gained), float(interval.low), float(interval.high), lost + gained)


def above_floor(changed: BoolArray, replicate_changed: BoolArray) -> FloatArray:
    """Return the one-sided mid-p that a quant changes more samples than the reference's own second run does.

    `changed`, … × N, tells which samples a quant answers otherwise than the reference; `replicate_changed`, N, which ones
    the second run does. Only samples that one of the two changes count.
    """
    more, fewer = (changed & ~replicate_changed).sum(axis=-1), (~changed & replicate_changed).sum(axis=-1)
    return np.asarray(binom.sf(more, more + fewer, 0.5) + binom.pmf(more, more + fewer, 0.5) / 2)
