"""What changed against the reference: how much, in which direction, and on which samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evalsuite.analysis.columns import ProxyColumn, rankings
from evalsuite.analysis.items import TaskScores
from evalsuite.stats.rank import QUESTIONS, correlate
from evalsuite.stats.volume import above_floor, volume

Row = dict[str, Any]

MAX_FLIPS = 500
"""So many samples a task are listed, those that most quants changed first."""


_CLUSTERED = "samples in clusters: no test against the A/A floor"


def volume_rows(
    tasks: Sequence[TaskScores], quants: Sequence[str], reference: str, replicates: Sequence[str]
) -> list[Row]:
    """Return how many answers each quant changed on each task, and how many of these for the worse.

    `p_above_floor` is the one-sided mid-p, uncorrected, that it changes more scores than the reference's own second run does;
    NaN without one, and where samples depend on each other, since it counts single samples.
    """
    rows = []
    for task in tasks:
        base = task.quants.index(reference)
        for quant in quants:
            at = task.quants.index(quant)
            answers = None if task.answers is None else (task.answers[base], task.answers[at])
            found = volume(task.scores[base], task.scores[at], answers)
            clustered = [_CLUSTERED] if replicates and task.clusters is not None else []
            rows.append({
                "task": task.task, "quant": quant, "n": found.n, "lost": found.lost, "gained": found.gained,
                "moved": found.moved, "volume": found.volume, "direction": found.direction, "harm": found.harm.value,
                "harm_low": found.harm.low, "harm_high": found.harm.high,
                "p_above_floor": _above_floor(task, quant, reference, replicates[0]) if replicates else np.nan,
                "notes": [*found.notes, *found.harm.notes, *clustered],
            })  # fmt: skip
    return rows


def _above_floor(task: TaskScores, quant: str, reference: str, replicate: str) -> float:
    """Return the p-value over the samples that all three runs have a score for: what the machine failed at is no change."""
    if task.clusters is not None:
        return np.nan
    first, again, other = task.of(reference), task.of(replicate), task.of(quant)
    scored = ~np.isnan(first + again + other)
    return float(above_floor((other != first)[scored], (again != first)[scored])) if scored.any() else np.nan


def volume_correlation_rows(
    columns: Sequence[ProxyColumn], volumes: Sequence[Row], distinct: Sequence[str]
) -> list[Row]:
    """Return Spearman's ρ of each proxy with how much changed and with how much of it for the worse, task by task.

    A proxy may follow the first and not the second: it then tells that answers move, not that they get worse.
    """
    rows = []
    for task in dict.fromkeys(row["task"] for row in volumes):
        of_task = {row["quant"]: row for row in volumes if row["task"] == task}
        for column in rankings(columns):
            damage = column.damage(distinct)
            known = [at for at, quant in enumerate(distinct) if of_task[quant]["n"] and not np.isnan(damage[at])]
            found = {
                name: correlate(damage[known], np.array([of_task[distinct[at]][name] for at in known]), "spearman")
                for name in ("volume", "direction")
            }
            rows.append({**column.key, "task": task, "subset": "all", "n": len(known)} | {
                f"{end}{name}": value
                for name, each in found.items()
                for end, value in (
                    ("rho_", each.estimate.value), ("low_", each.estimate.low), ("high_", each.estimate.high),
                )
            } | {"question": QUESTIONS["quants"]})  # fmt: skip
    return rows


def flip_rows(tasks: Sequence[TaskScores], quants: Sequence[str], reference: str) -> list[Row]:
    """Return the samples that some quant got otherwise than the reference, those that most quants changed first."""
    rows: list[Row] = []
    for task in tasks:
        scores = np.stack([task.of(quant) for quant in quants]) if quants else np.empty((0, len(task.samples)))
        difference = scores - task.of(reference)
        lost, gained = difference < 0, difference > 0
        changed = (lost | gained).sum(axis=0)
        order = np.lexsort((np.arange(len(changed)), -lost.sum(axis=0), -changed))
        rows += [
            {
                "task": task.task, "sample_id": task.samples[sample], "lost": int(lost[:, sample].sum()),
                "gained": int(gained[:, sample].sum()), "quants": len(quants),
                "lost_by": [quant for quant, flag in zip(quants, lost[:, sample], strict=True) if flag],
                "gained_by": [quant for quant, flag in zip(quants, gained[:, sample], strict=True) if flag],
            }
            for sample in order[:MAX_FLIPS] if changed[sample]
        ]  # fmt: skip
    return rows
