"""From the three tables to everything the report says. Pure: no server, no store, no file."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.analysis.claims import claim_rows
from evalsuite.analysis.correlations import correlation_rows, proxy_points
from evalsuite.analysis.gates import gate_rows
from evalsuite.analysis.items import TaskScores, task_scores
from evalsuite.analysis.pairs import MEAN_OF_TASKS, pair_rows, score_rows
from evalsuite.errors import SpecError
from evalsuite.tables import Tables

Row = dict[str, Any]

SCHEMA = 1

LATER = ("misleading", "proxy_comparison", "pareto", "regret")


def analyse(tables: Tables) -> dict[str, Any]:
    """Return the analysis, ready for JSON: no NaN, and the same bytes whatever the order of the rows.

    Raises SpecError where the tables contradict themselves or name no reference.
    """
    quants = _quant_rows(tables.quants)
    reference = _reference(quants)
    tasks = _task_scores(tables, [row["quant"] for row in quants])
    names = [task.task for task in tasks]
    scores = score_rows(tasks, [row["quant"] for row in quants])
    pairs = pair_rows(tasks, _compared(quants, reference))
    _check_proxies(tables.proxies, quants)
    distinct = [row["quant"] for row in quants if _is_point(row)]
    correlations = correlation_rows(
        proxy_points(tables.proxies, quants), scores, [*names, *([MEAN_OF_TASKS] if len(names) > 1 else [])], distinct
    )
    chance = {str(row["task"]): float(row["chance"]) for row in tables.tasks.to_dict("records")}
    analysis: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "header": dict(tables.header) | {"reference": reference},
            "quants": quants,
            "tasks": [_task_row(row, tasks) for row in tables.tasks.to_dict("records")],
            "proxies": _proxy_rows(tables.proxies, quants),
            "scores": scores,
            "pairs": pairs,
            "correlations": correlations,
            **{key: [] for key in LATER},
            "gates": gate_rows(
                quants, tasks, chance, scores, tables.proxies, dict(tables.header) | {"reference": reference}
            ),
            "claims": claim_rows(pairs, correlations, reference),
            "notes": _notes(quants, tasks, pairs),
        }
    )
    return analysis


def analysis_json(analysis: Mapping[str, Any]) -> str:
    """Write an analysis as JSON with sorted keys and floats that read back to the same bits."""
    return json.dumps(analysis, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Turn numpy's and pandas' values into those of JSON; whatever is not a finite number becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else None if value is pd.NA else str(value)


def _quant_rows(table: pd.DataFrame) -> list[Row]:
    """Return the reference first, then the quants by size, the replicates last; files with one hash are named."""
    twice = table["quant"][table["quant"].duplicated()]
    if len(twice):
        raise SpecError(f"quants: {twice.iloc[0]!r} appears twice. Give each file a name of its own.")
    rows = [
        {str(key): None if _absent(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]
    rows.sort(
        key=lambda row: (
            row["replicate_of"] is not None,
            not row["is_reference"],
            -(row["size_bytes"] or 0),
            row["quant"],
        )
    )
    first: dict[str, str] = {}
    for row in rows:
        same = first.setdefault(str(row["sha256"] or f"name {row['quant']}"), str(row["quant"]))
        row["duplicate_of"] = None if same == row["quant"] or row["replicate_of"] else same
    return rows


def _absent(value: Any) -> bool:
    return value is None or value == "" or value is pd.NA or value is pd.NaT or value != value  # noqa: PLR0124 - NaN


def _reference(quants: Sequence[Row]) -> str:
    names = [row["quant"] for row in quants if row["is_reference"]]
    if len(names) != 1:
        raise SpecError(
            f"quants: {len(names)} rows have is_reference set ({', '.join(names) or 'none'}). Set it for exactly one."
        )
    return str(names[0])


def _is_point(row: Row) -> bool:
    return not row["is_reference"] and row["replicate_of"] is None and row["duplicate_of"] is None


def _compared(quants: Sequence[Row], reference: str) -> list[tuple[str, str, str]]:
    """Return (a, b, kind); a file equal to the reference under another name is a replicate of it in all but name."""
    return [
        (row["replicate_of"] or reference, row["quant"], _kind(row, reference))
        for row in quants
        if not row["is_reference"]
    ]


def _kind(row: Row, reference: str) -> str:
    return "replicate" if row["replicate_of"] or row["duplicate_of"] == reference else "quant"


def _task_scores(tables: Tables, quants: Sequence[str]) -> list[TaskScores]:
    unknown = set(tables.items["task"].unique()) - set(tables.tasks["task"])
    if unknown:
        raise SpecError(f"items: task {min(unknown)!r} is not in the tasks table. Add a row for it.")
    return [
        task_scores(tables.items, str(row["task"]), quants, float(row["n_planned"]))
        for row in tables.tasks.to_dict("records")
    ]


def _task_row(row: Mapping[Any, Any], tasks: Sequence[TaskScores]) -> Row:
    scores = next(task for task in tasks if task.task == row["task"])
    return dict(row) | {
        "n_samples": scores.planned,
        "graded": not scores.binary,
        "clusters": None if scores.clusters is None else len(np.unique(scores.clusters)),
    }


def _check_proxies(proxies: pd.DataFrame, quants: Sequence[Row]) -> None:
    if proxies.empty:
        return
    unknown = set(proxies["quant"]) - {row["quant"] for row in quants}
    if unknown:
        raise SpecError(f"proxies: quant {min(unknown)!r} is not in the quants table. Add a row for it.")
    twice = proxies[proxies.duplicated(["quant", "corpus", "tool"])]
    if len(twice):
        row = twice.iloc[0]
        raise SpecError(f"proxies: {row['quant']} × {row['corpus']} × {row['tool']} appears twice. Remove one.")


def _proxy_rows(proxies: pd.DataFrame, quants: Sequence[Row]) -> list[Row]:
    place = {row["quant"]: index for index, row in enumerate(quants)}
    return sorted(
        ({str(key): value for key, value in row.items()} for row in proxies.to_dict("records")),
        key=lambda row: (str(row["tool"]), str(row["corpus"]), place[row["quant"]]),
    )


def _notes(quants: Sequence[Row], tasks: Sequence[TaskScores], pairs: Sequence[Row]) -> list[str]:
    notes = [f"{key}: not computed yet" for key in LATER]
    notes += [
        f"{row['quant']} is byte for byte {row['duplicate_of']}: it is no further point in the correlations"
        for row in quants
        if row["duplicate_of"]
    ]
    notes += [
        f"{row['quant']} {row['status']}: {row['reason'] or 'no reason given'}"
        for row in quants
        if row["status"] != "ok"
    ]
    notes += [
        f"{task.task}: samples come in {len(np.unique(task.clusters))} clusters; intervals and tests are cluster-robust"
        for task in tasks
        if task.clusters is not None
    ]
    notes += [f"{task.task}: scores are graded or averaged over repeats" for task in tasks if not task.binary]
    notes += [
        f"{row['task']}, {row['b']}: delta is {100 * row['delta']:+.2f} points on common samples and"
        f" {100 * row['delta_fail_as_zero']:+.2f} with unscored samples counted as wrong, further apart than the MDE"
        for row in pairs
        if row["task"] != MEAN_OF_TASKS and abs(row["delta_fail_as_zero"] - row["delta"]) > row["mde"]
    ]
    if len(tasks) > 1:
        notes.append(
            f"{MEAN_OF_TASKS}: every task weighs the same; its interval adds the tasks' variances, read off their own"
            " intervals (Zou & Donner 2008)"
        )
    return notes
