"""Tables with a row a quant × task × sample × repeat, or a row a quant × text × chunk of it."""

from typing import Any

import numpy as np
import pandas as pd

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.importer.facts import checked_name, labelled
from evalsuite.importer.files import Grid, shown, text_of, verbatim
from evalsuite.importer.records import Finding, Label
from evalsuite.records import Outcome
from evalsuite.tables import CHUNK_COLUMNS

OURS = frozenset({Outcome.SERVER_DIED, Outcome.TIMEOUT, Outcome.TRANSPORT_ERROR, Outcome.NOT_RUN})
"""Outcomes that say nothing about the model: such a sample has no score."""

COLUMNS = ("task", "sample_id", "repeat", "score", "outcome", "cluster", "answer", "margin", "output")

_VERBATIM = {"answer", "output"}

_WORDS = {"true": "1", "false": "0", "none": "", "null": "", "nan": ""}


def is_items(grid: Grid) -> bool:
    """Say whether a table has a row a sample."""
    return {"quant", "sample_id", "score"} <= labelled(grid).keys()


def is_chunks(grid: Grid) -> bool:
    """Say whether a table has a row a chunk of text."""
    return {"quant", "corpus", "tool", "chunk"} <= labelled(grid).keys()


def read_chunks(grid: Grid) -> pd.DataFrame:
    """Return a table of chunks with the columns of `evalsuite.tables`, and `label` for the quant. Raises SpecError."""
    rows = _rows(grid)
    for name in ("quant", "corpus", "tool", "chunk"):
        _check_names(grid, rows, name)
    numbers = {name: _numbers(grid, rows, name) for name in CHUNK_COLUMNS[4:] if name in rows}
    if "n_tokens" in numbers:
        _refuse(
            grid,
            rows,
            "n_tokens",
            numbers["n_tokens"] < 1,
            "is no number of tokens. Correct the cell, or leave it empty.",
        )
    chunk = _numbers(grid, rows, "chunk")
    _refuse(grid, rows, "chunk", chunk % 1 != 0, "is no whole number.")
    read = rows[["corpus", "tool"]].assign(chunk=chunk.astype("int64"), **numbers, label=_labels(rows))
    return read.reindex(columns=[*CHUNK_COLUMNS[1:], "label"])


def read_items(grid: Grid) -> tuple[pd.DataFrame, list[Finding]]:
    """Return a table of items with COLUMNS and a column `label`, and what a reader should know of it.

    A table without a `task` column is one task, named after the file; without `repeat` every row is repeat 0. A row
    without a score is one that was not run, unless its outcome says more. Raises SpecError, naming the cell, for a score
    outside [0, 1], an outcome that is not known, a result of the model without a score, and a row without a name.
    """
    rows = _rows(grid)
    if "task" not in rows:
        rows["task"] = grid.file.partition(".")[0]
    for name in ("quant", "task", "sample_id"):
        _check_names(grid, rows, name)
    findings: list[Finding] = []
    score = _numbers(grid, rows, "score")
    _refuse(grid, rows, "score", (score < 0) | (score > 1), "lies outside [0, 1]. Divide percentages by 100.")
    outcome = _outcomes(grid, rows, score)
    ours = outcome.isin(list(OURS))
    for (quant, said), many in rows[ours & score.notna()].groupby([rows["quant"], outcome], sort=True):
        detail = f"{len(many)} samples with the outcome {said} have a score; a failure of ours has none."
        findings.append(Finding("score_of_a_failure", grid.file, str(quant), "score", detail))
    missing = score.isna() & ~ours
    _refuse(
        grid, rows, "score", missing, "is no score, but the outcome is a result of the model. Write what it earned."
    )
    read = pd.DataFrame({
        "task": rows["task"], "sample_id": rows["sample_id"], "repeat": _repeats(grid, rows),
        "score": score.mask(ours), "outcome": outcome,
        **{name: _texts(rows, name) for name in ("cluster", "answer")},
        "margin": _numbers(grid, rows, "margin").replace([np.inf, -np.inf], np.nan) if "margin" in rows else np.nan,
        "output": _texts(rows, "output"),
    })  # fmt: skip
    return read.assign(label=_labels(rows)), findings


def _rows(grid: Grid) -> pd.DataFrame:
    """Return the rows that say anything, as texts under the names of LABELS and of the chunks' columns."""
    columns = {name: index for index, name in enumerate(grid.header) if name in CHUNK_COLUMNS} | labelled(grid)
    rows = pd.DataFrame({
        name: grid.rows[index].map(verbatim if name in _VERBATIM else text_of) for name, index in columns.items()
    }).astype(object)  # fmt: skip
    rows = rows[(rows != "").any(axis=1)]
    if rows.empty:
        raise SpecError(f"{grid.file}: holds no rows. Give a table with a header and rows.")
    return rows


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Return who each row speaks of; equal rows share one label."""
    said = rows[[name for name in Label._fields if name in rows]]
    labels: dict[tuple[str, ...], Label] = {}
    for row in said.drop_duplicates().itertuples(index=False, name=None):
        named: dict[str, Any] = dict(zip(said.columns, row, strict=True))
        labels[row] = Label(**named | {"model": named.get("model") or None})
    return pd.Series([labels[row] for row in said.itertuples(index=False, name=None)], rows.index, dtype=object)


def _check_names(grid: Grid, rows: pd.DataFrame, name: str) -> None:
    _refuse(grid, rows, name, rows[name] == "", "is empty. Name it, or take the row out.")
    for value in rows[name].unique():
        checked_name(value, f"{grid.file}: column {name!r}")


def _outcomes(grid: Grid, rows: pd.DataFrame, score: pd.Series) -> pd.Series:
    implied = pd.Series(np.where(score.isna(), Outcome.NOT_RUN.value, Outcome.OK.value), rows.index, dtype=object)
    if "outcome" not in rows:
        return implied
    known = [outcome.value for outcome in Outcome]
    for value in sorted(set(rows["outcome"]) - {*known, ""}):
        _refuse(grid, rows, "outcome", rows["outcome"] == value, f"is no outcome.{did_you_mean(value, known)}")
    return rows["outcome"].where(rows["outcome"] != "", implied)


def _repeats(grid: Grid, rows: pd.DataFrame) -> pd.Series:
    if "repeat" not in rows:
        return pd.Series(0, rows.index, dtype="int64")
    repeat = _numbers(grid, rows, "repeat").fillna(0)
    _refuse(grid, rows, "repeat", (repeat < 0) | (repeat > 1e9) | (repeat % 1 != 0), "is no number from 0.")
    return repeat.astype("int64")


def _numbers(grid: Grid, rows: pd.DataFrame, name: str) -> pd.Series:
    texts = rows[name].map(lambda text: _WORDS.get(text.casefold(), text) if len(text) < 6 else text)
    values = pd.to_numeric(texts.where(texts != ""), errors="coerce").astype(float)
    _refuse(grid, rows, name, values.isna() & (texts != ""), "is no number. Correct the cell, or leave it empty.")
    return values


def _texts(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        return pd.Series([None] * len(rows), rows.index, dtype=object)
    return rows[name].where(rows[name] != "", None)


def _refuse(grid: Grid, rows: pd.DataFrame, name: str, wrong: pd.Series, why: str) -> None:
    """Raise SpecError for the first row that is wrong."""
    if wrong.any():
        row = int(wrong.index[int(np.argmax(wrong))])
        labels = labelled(grid)
        place = grid.place(row, str(rows.loc[row, "quant"])[:60], grid.header[labels[name]] if name in labels else name)
        raise SpecError(f"{place}: {shown(str(rows.loc[row, name]))} {why}")


def one_row_a_sample(items: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Return items in order, each quant × task × sample × repeat once; equal copies are dropped.

    `items` has COLUMNS, `quant` and `file`. Raises SpecError where two rows of one sample contradict each other.
    """
    keys = ["quant", "task", "sample_id", "repeat"]
    items = items.sort_values([*keys, "file"], kind="stable", ignore_index=True)
    copied = items.duplicated(keys)
    if not copied.any():
        return items, []
    contradicting = ~items.duplicated([*keys, "score", "outcome"]) & copied
    if contradicting.any():
        row = items.loc[int(np.argmax(contradicting))]
        raise SpecError(
            f"{row['file']}: {row['quant']} × {row['task']} × {row['sample_id']} × repeat {row['repeat']} appears twice, with"
            " different results. Remove one, or number them in a column `repeat`."
        )
    findings = [
        Finding("duplicate_row", str(file), str(quant), "", f"{len(rows)} samples appear twice, with equal results.")
        for (file, quant), rows in items[copied].groupby(["file", "quant"], sort=True)
    ]
    return items[~copied].reset_index(drop=True), findings
