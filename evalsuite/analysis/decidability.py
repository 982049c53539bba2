"""What the samples of each task can decide at all: printed before any result."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsuite.analysis.correlations import reliability_of
from evalsuite.analysis.grids import Grid
from evalsuite.analysis.items import TaskScores
from evalsuite.analysis.pairs import ALPHA
from evalsuite.stats.multiple import holm
from evalsuite.stats.omnibus import Omnibus, cochran_q, max_t
from evalsuite.stats.paired import mde
from evalsuite.stats.reliability import live_share, snr
from evalsuite.stats.resample import Resampled

Row = dict[str, Any]


def decidability_rows(
    grids: Sequence[Grid], tasks: Mapping[str, TaskScores], reference: str, replicates: Sequence[str]
) -> list[Row]:
    """Return, for each task, the smallest difference its samples find with 80 % power, and what they tell apart."""
    rows = []
    for grid in grids:
        pairs = len(grid.tests.n)
        discordance = float(np.median(grid.tests.spread)) if pairs else np.nan
        n = int(np.nanmin(grid.tests.n)) if pairs and not np.isnan(grid.tests.n).all() else 0
        power = {"mde": np.nan, "mde_family": np.nan}
        if n and not np.isnan(discordance):
            share = min(discordance, 1.0)
            power = {"mde": mde(n, share), "mde_family": mde(n, share, ALPHA / max(pairs, 1))}
        test = omnibus(grid)
        task = tasks.get(grid.task)
        rows.append({
            "task": grid.task, "n": n or None, "quants": len(grid.quants), "discordance": discordance, **power,
            "separable": int((holm(grid.tests.p) < ALPHA).sum()), "pairs": pairs,
            "live": np.nan if task is None else live_share(task.scores), "snr": snr(grid.measured),
            "reliability": reliability_of(grid.measured).value,
            "flip_rate_aa": np.nan if task is None else _flip_rate(task, reference, replicates),
            "omnibus": test.test, "omnibus_p": test.p, "notes": list(test.notes),
        })  # fmt: skip
    return rows


def omnibus(grid: Grid) -> Omnibus:
    """Test whether the quants of a grid differ at all: Cochran's Q for independent right-or-wrong samples, else max-T."""
    if grid.draws is None or grid.scores is None or not len(grid.known):
        return Omnibus("none", np.nan, np.nan, len(grid.known), 0, ("no samples to test on",))
    scores = grid.scores[grid.known]
    if grid.clusters is None and grid.binary:
        return cochran_q(scores)
    common = int((~np.isnan(scores).any(axis=0)).sum())
    return max_t(Resampled(grid.means[grid.known], grid.draws[:, grid.known], common, common))


def _flip_rate(task: TaskScores, reference: str, replicates: Sequence[str]) -> float:
    """Return the share of scores that the reference changed against itself; NaN where it ran once."""
    first = task.of(reference)
    changed = [(task.of(each) != first)[~(np.isnan(first) | np.isnan(task.of(each)))] for each in replicates]
    return float(np.mean(np.concatenate(changed))) if changed and sum(map(len, changed)) else np.nan
