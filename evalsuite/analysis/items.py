"""The items table as one matrix of scores a task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalsuite.errors import SpecError
from evalsuite.stats.mean import FloatArray, IntArray


@dataclass(frozen=True)
class TaskScores:
    """One task: `scores` is quants × samples, the mean over the scored repeats, NaN where there is none.

    `clusters` is an integer a sample, or None where no two samples depend on each other. `binary` says that every
    score is 0 or 1. `outcomes` counts the answers of each quant; what was planned and never asked is counted as
    `not_run`. `planned` is the number of samples every quant should have a score for. `samples` names the columns of
    `scores`, and `answers` holds, in the same shape, a code for what was answered in the first repeat: equal answers have
    equal codes, and −1 is no answer; None where nobody's answers are known.
    """

    task: str
    quants: tuple[str, ...]
    scores: FloatArray
    clusters: IntArray | None
    binary: bool
    outcomes: tuple[dict[str, int], ...]
    planned: int
    samples: tuple[str, ...]
    answers: IntArray | None

    def of(self, quant: str) -> FloatArray:
        """Return the scores of one quant in the order of the samples."""
        row: FloatArray = self.scores[self.quants.index(quant)]
        return row


def task_scores(items: pd.DataFrame, task: str, quants: Sequence[str], planned: float) -> TaskScores:
    """Arrange the items of one task; the order of the rows does not matter.

    Raises SpecError for a row that appears twice, a quant that the quants table lacks, or a score outside [0, 1].
    """
    rows = items[items["task"] == task]
    score = rows["score"].to_numpy(dtype=float, na_value=np.nan)
    quant = pd.Index(quants).get_indexer(pd.Index(rows["quant"]))
    if (quant < 0).any():
        raise SpecError(
            f"items: quant {rows['quant'].iloc[int(np.argmin(quant))]!r} is not in the quants table. Add a row for it."
        )
    if ((score < 0) | (score > 1)).any():
        where = rows.iloc[int(np.argmax((score < 0) | (score > 1)))]
        raise SpecError(
            f"items: {where['quant']} × {task} × {where['sample_id']} has the score {where['score']}."
            " Scores lie in [0, 1]: divide percentages by 100."
        )
    sample, names = pd.factorize(rows["sample_id"].astype(str), sort=True)
    repeat = rows["repeat"].to_numpy(dtype=np.int64)
    order = np.lexsort((repeat, sample, quant))
    key = np.stack((quant, sample, repeat))[:, order]
    twice = np.flatnonzero((key[:, 1:] == key[:, :-1]).all(axis=0))
    if len(twice):
        where = rows.iloc[int(order[twice[0]])]
        raise SpecError(
            f"items: {where['quant']} × {task} × {where['sample_id']} × repeat {where['repeat']} appears twice."
            " Remove one."
        )
    scores = _item_means(key[0] * len(names) + key[1], score[order], (len(quants), len(names)))
    wanted = max(len(names), 0 if np.isnan(planned) else int(planned))
    return TaskScores(
        task,
        tuple(quants),
        scores,
        _clusters(rows["cluster"], sample, len(names)),
        binary=bool(np.isin(scores[~np.isnan(scores)], (0, 1)).all()),
        outcomes=_outcomes(rows["outcome"], quant, sample, len(quants), wanted),
        planned=wanted,
        samples=tuple(map(str, names)),
        answers=_answers(rows["answer"], key, order, (len(quants), len(names))),
    )


def _answers(answer: pd.Series, key: IntArray, order: IntArray, shape: tuple[int, int]) -> IntArray | None:
    codes, names = pd.factorize(answer.astype("string"), sort=True)
    if not len(names):
        return None
    answers = np.full(shape, -1)
    # Rows come by quant, sample and repeat: written backwards, the first repeat stands.
    answers[key[0][::-1], key[1][::-1]] = codes[order][::-1]
    return answers


def _item_means(cell: IntArray, score: FloatArray, shape: tuple[int, int]) -> FloatArray:
    scored = ~np.isnan(score)
    size = shape[0] * shape[1]
    total = np.bincount(cell[scored], weights=score[scored], minlength=size)
    count = np.bincount(cell[scored], minlength=size)
    means: FloatArray = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return means.reshape(shape)


def _clusters(cluster: pd.Series, sample: IntArray, samples: int) -> IntArray | None:
    """Return a code a sample; one without a cluster stands alone. None where every sample does."""
    code, names = pd.factorize(cluster, sort=True)
    of_sample = np.full(samples, -1)
    of_sample[sample] = code
    alone = of_sample < 0
    of_sample[alone] = len(names) + np.flatnonzero(alone)
    return of_sample if len(np.unique(of_sample)) < samples else None


def _outcomes(
    outcome: pd.Series, quant: IntArray, sample: IntArray, quants: int, planned: int
) -> tuple[dict[str, int], ...]:
    code, names = pd.factorize(outcome.astype(str), sort=True)
    counts = np.bincount(quant * len(names) + code, minlength=quants * len(names)).reshape(quants, len(names))
    asked = np.zeros((quants, planned), dtype=bool)
    asked[quant, sample] = True
    result = [{str(name): int(count) for name, count in zip(names, row, strict=True) if count} for row in counts]
    for counted, missing in zip(result, planned - asked.sum(axis=1), strict=True):
        if missing:
            counted["not_run"] = counted.get("not_run", 0) + int(missing)
    return tuple(result)
