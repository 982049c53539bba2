"""What the comparison of quants with each other starts from: one task, or the mean of all, over the distinct quants."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalsuite.analysis.items import TaskScores
from evalsuite.analysis.left_out import LeftOut
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.stats.mean import FloatArray, IntArray
from evalsuite.stats.misleading import PairTests, pair_tests, unpaired_tests
from evalsuite.stats.reliability import Measured, mean_measured, measure
from evalsuite.stats.resample import joint_bootstrap


@dataclass(frozen=True, eq=False)
class Grid:
    """Scores of K distinct quants, the reference left out, on a task.

    `means` are the mean scores (K) over the common samples, `measured` the same with their errors (unknown for published
    means), `draws` their joint bootstrap (draws × K), `tests` all pairs.
    `scores` is K × N, NaN where unscored, and `clusters` a code a sample. A task of which only the means are published has
    neither `draws` nor `scores`. The grid of the mean of the tasks holds the samples of all of them, weighted so that every
    task weighs the same.
    """

    task: str
    quants: tuple[str, ...]
    means: FloatArray
    measured: Measured
    tests: PairTests
    draws: FloatArray | None = None
    scores: FloatArray | None = None
    clusters: IntArray | None = None

    @property
    def binary(self) -> bool:
        """True when every score is 0 or 1."""
        return self.scores is not None and bool(np.isin(self.scores[~np.isnan(self.scores)], (0, 1)).all())

    @property
    def known(self) -> IntArray:
        """The quants that have a score at all, by index."""
        return np.flatnonzero(~np.isnan(self.means))

    def means_of(self, quants: Sequence[str]) -> FloatArray:
        """Return a mean score a quant; NaN for one that is not here."""
        by_quant = dict(zip(self.quants, self.means, strict=True))
        return np.array([by_quant.get(quant, np.nan) for quant in quants])


def grids(
    tasks: Sequence[TaskScores], published: pd.DataFrame, distinct: Sequence[str], rng: np.random.Generator, draws: int
) -> list[Grid]:
    """Return a grid a task, and one for the mean of the tasks where there are several with samples."""
    sampled = [_sampled(task, distinct, rng, draws) for task in tasks if task.scores.size]
    means = [_mean(sampled)] if len(sampled) > 1 else []
    return [*sampled, *means, *(_published(str(task), rows, distinct) for task, rows in published.groupby("task"))]


def kept_grids(
    boards: Sequence[Grid],
    tasks: Mapping[str, TaskScores],
    left_out: Collection[LeftOut],
    rng: np.random.Generator,
    draws: int,
) -> list[Grid]:
    """Return the grids without the tasks, and the quants on a task, that are left out; the mean is over what is left.

    A quant that is left out on one task has no mean of tasks: over fewer tasks it would not compare.
    """
    gone = {(each.task, each.quant) for each in left_out if each.task is not None}
    if not gone:
        return list(boards)
    kept = {
        grid: tuple(quant for quant in grid.quants if (grid.task, quant) not in gone)
        for grid in boards if grid.task != MEAN_OF_TASKS and (grid.task, None) not in gone
    }  # fmt: skip

    def narrowed(grid: Grid, quants: tuple[str, ...]) -> Grid:
        return grid if quants == grid.quants else _sampled(tasks[grid.task], quants, rng, draws)

    sampled = [narrowed(grid, quants) for grid, quants in kept.items() if grid.scores is not None and quants]
    common = [set(grid.quants) for grid in sampled]
    means = []
    if len(sampled) > 1 and (everywhere := set.intersection(*common)):
        quants = tuple(quant for quant in sampled[0].quants if quant in everywhere)
        means = [_mean([narrowed(grid, quants) for grid in sampled])]
    return [*sampled, *means, *(grid for grid in kept if grid.scores is None)]


def _sampled(task: TaskScores, distinct: Sequence[str], rng: np.random.Generator, draws: int) -> Grid:
    scores = np.array([task.of(quant) for quant in distinct]).reshape(len(distinct), task.scores.shape[1])
    resampled = joint_bootstrap(scores, rng, task.clusters, draws)
    return Grid(
        task.task, tuple(distinct), resampled.observed, _measured(scores, task.clusters),
        pair_tests(scores, task.clusters, binary=task.binary),
        None if np.isnan(resampled.draws).all() else resampled.draws, scores, task.clusters,
    )  # fmt: skip


def _mean(tasks: Sequence[Grid]) -> Grid:
    rows = [grid.scores for grid in tasks if grid.scores is not None]
    widths = [scores.shape[1] for scores in rows]
    weights = np.concatenate([np.full(width, sum(widths) / len(rows) / width) for width in widths])
    scores, clusters = np.concatenate(rows, axis=1) * weights, _all_clusters(tasks, widths)
    draws = [grid.draws for grid in tasks if grid.draws is not None]
    return Grid(
        MEAN_OF_TASKS, tasks[0].quants, np.mean(np.array([grid.means for grid in tasks]), axis=0),
        mean_measured([grid.measured for grid in tasks]), pair_tests(scores, clusters, binary=False),
        np.mean(draws, axis=0) if len(draws) == len(tasks) else None, scores, clusters,
    )  # fmt: skip


def _measured(scores: FloatArray, clusters: IntArray | None) -> Measured:
    """Return the means with their errors over the samples common to all quants that have any."""
    known = np.flatnonzero(~np.isnan(scores).all(axis=1))
    means, covariance = np.full(len(scores), np.nan), np.full((len(scores),) * 2, np.nan)
    if len(known):
        found = measure(scores[known], clusters)
        means[known], covariance[np.ix_(known, known)] = found.values, found.covariance  # noqa: PD011 - no frame
    return Measured(means, covariance)


def _all_clusters(tasks: Sequence[Grid], widths: Sequence[int]) -> IntArray | None:
    """Give the clusters of all tasks codes of their own; None where every sample of every task stands alone."""
    if all(grid.clusters is None for grid in tasks):
        return None
    codes, start = [], 0
    for grid, width in zip(tasks, widths, strict=True):
        own = np.arange(width) if grid.clusters is None else np.unique(grid.clusters, return_inverse=True)[1]
        codes.append(own + start)
        start += width
    return np.concatenate(codes)


def _published(task: str, rows: pd.DataFrame, distinct: Sequence[str]) -> Grid:
    by_quant = rows.set_index("quant").reindex(list(distinct))
    score, n, se = (by_quant[name].to_numpy(dtype=float) for name in ("score", "n", "se"))
    measured = Measured(score, np.full((len(score),) * 2, np.nan))
    return Grid(task, tuple(distinct), score, measured, unpaired_tests(score, n, se))
