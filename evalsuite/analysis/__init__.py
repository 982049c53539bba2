"""From the three tables to everything the report says. Pure: no server, no store, no file."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.analysis.between import between_rows
from evalsuite.analysis.changes import MAX_FLIPS, flip_rows, volume_correlation_rows, volume_rows
from evalsuite.analysis.choices import pareto_rows, regret_rows
from evalsuite.analysis.claims import claim_rows
from evalsuite.analysis.columns import ProxyColumn, proxy_columns
from evalsuite.analysis.contests import (
    agreement_rows,
    comparison_rows,
    leak_rows,
    provider_rows,
    size_rows,
    task_rows,
)
from evalsuite.analysis.correlations import correlation_rows, influence_rows, range_rows, subset_rows
from evalsuite.analysis.decidability import decidability_rows
from evalsuite.analysis.gates import FLOOR_KLD, gates
from evalsuite.analysis.grids import grids, kept_grids
from evalsuite.analysis.items import TaskScores, task_scores
from evalsuite.analysis.left_out import without
from evalsuite.analysis.misleading import listed, misleading_rows
from evalsuite.analysis.pairs import MEAN_OF_TASKS, pair_rows, published_rows, score_rows
from evalsuite.analysis.parts import long_context_rows, part_rows
from evalsuite.errors import SpecError
from evalsuite.stats.resample import DRAWS, joint_bootstrap
from evalsuite.tables import Tables

Row = dict[str, Any]

SCHEMA = 2


def analyse(tables: Tables, *, seed: int = 1, draws: int = DRAWS) -> dict[str, Any]:
    """Return the analysis, ready for JSON: no NaN, and the same bytes whatever the order of the rows.

    Raises SpecError where the tables contradict themselves or name no reference. `seed` and `draws` are those of the
    bootstrap.
    """
    rng = np.random.default_rng(seed)
    quants = _quant_rows(tables.quants)
    reference = _reference(quants)
    names = [row["quant"] for row in quants]
    distinct = [row["quant"] for row in quants if _is_point(row) or _is_quant_of_another(row, tables)]
    replicates = [row["quant"] for row in quants if row["replicate_of"] == reference]
    tables = replace(tables, scores=_published(tables, names), chunks=tables.chunks.sort_values(["quant", "chunk"]))
    tasks = _task_scores(tables, names)
    averages = _averages(tables)
    published, published_pairs = published_rows(tables.scores, names, distinct, reference, averages)
    scores = score_rows(tasks, names) + published
    pairs = pair_rows(tasks, _compared(quants, reference)) + published_pairs
    _check_proxies(tables.proxies, quants)
    columns = proxy_columns(tables.proxies.sort_values(["tool", "corpus", "quant"]), tables.chunks, quants)
    boards = grids(tasks, tables.scores, distinct, rng, draws)
    columns = [_drawn(column, distinct, rng, draws) for column in columns]
    sizes = {row["quant"]: float(row["size_bytes"]) for row in quants if row["size_bytes"]}
    providers = {row["quant"]: str(row["provider"]) for row in quants if row["provider"] and row["quant"] in distinct}
    equivalent = {(row["b"], row["task"]): row["equivalent"] is True for row in pairs}
    volumes = volume_rows(tasks, distinct, reference, replicates)
    correlations = correlation_rows(columns, boards, distinct, rng)
    by_task = {task.task: task for task in tasks}
    decidability = decidability_rows(boards, by_task, reference, replicates)
    checks = gates(quants, tasks, columns, scores, tables, distinct, decidability)
    left_out = [each for check in checks for each in check.removes]
    # What fails a check is shown as it was measured, and nothing is judged by it.
    judging, judged = without(columns, left_out), kept_grids(boards, by_task, left_out, rng, draws)
    misleading = misleading_rows(judging, judged, sizes)
    found: Row = {
        "schema": SCHEMA,
        "header": dict(tables.header) | {
            "reference": reference, "seed": seed, "draws": draws, "decidability": decidability,
        },
        "quants": quants,
        "tasks": [_task_row(row, tasks) for row in tables.tasks.to_dict("records")],
        "proxies": _proxy_rows(tables.proxies, quants),
        "scores": scores,
        "parts": part_rows(tables),
        **long_context_rows(tables),
        "pairs": pairs,
        "correlations": correlations + subset_rows(columns, boards, equivalent, providers),
        "range_curves": range_rows(columns, boards),
        "volume": volumes,
        "volume_correlations": volume_correlation_rows(columns, volumes, distinct),
        "misleading": misleading,
        "agreement": agreement_rows(judging, judged, rng),
        "proxy_agreement": between_rows(judging, distinct),
        "proxy_comparison": comparison_rows(judging, judged, rng),
        "size_adjusted": size_rows(judging, judged, sizes, rng),
        "providers": provider_rows(judging, judged, providers, rng),
        "leak": leak_rows(judging, distinct, providers, rng),
        "regret": regret_rows(judging, judged, sizes, rng),
        "pareto": pareto_rows(judging, judged, sizes, distinct),
        "influence": influence_rows(columns, boards),
        "task_disagreement": task_rows([grid for grid in judged if grid.task not in averages]),
        "flips": flip_rows(tasks, distinct, reference),
        "gates": [asdict(check) for check in checks],
    }  # fmt: skip
    found["claims"] = claim_rows(found, left_out, averages)
    found["misleading"], unlisted = listed(misleading)
    found["notes"] = _notes(quants, tasks, pairs, found["flips"]) + ([unlisted] if unlisted else [])
    analysis: dict[str, Any] = plain(found)
    return analysis


def analysis_json(analysis: Mapping[str, Any]) -> str:
    """Write an analysis as JSON with sorted keys and floats that read back to the same bits."""
    return json.dumps(analysis, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Turn numpy's and pandas' values into those of JSON; whatever is not a finite number becomes None."""
    if value is None or type(value) in {str, int, bool}:  # nearly all there is
        return value
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
        equal = same if same != row["quant"] else row.get("same_as")
        row["duplicate_of"] = None if row["replicate_of"] else equal
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


def _published(tables: Tables, quants: Sequence[str]) -> pd.DataFrame:
    """Return the published scores of tasks without samples; raises SpecError for an unknown quant, or a row twice."""
    scores = tables.scores
    unknown = set(scores["quant"]) - set(quants)
    if unknown:
        raise SpecError(f"scores: quant {min(unknown)!r} is not in the quants table. Add a row for it.")
    twice = scores[scores.duplicated(["quant", "task"])]
    if len(twice):
        row = twice.iloc[0]
        raise SpecError(f"scores: {row['quant']} × {row['task']} appears twice. Remove one.")
    return scores[~scores["task"].isin(set(tables.items["task"]))].sort_values(["task", "quant"])


def _drawn(column: ProxyColumn, quants: Sequence[str], rng: np.random.Generator, draws: int) -> ProxyColumn:
    """Return a column with the damage of the quants in each draw of its chunks, where all of them have any."""
    chunks = column.chunk_matrix(quants)
    if chunks is None or not chunks.size:
        return column
    values = joint_bootstrap(chunks, rng, None, draws, "chunk").draws
    return column if np.isnan(values).any() else replace(column, draws=dict(zip(quants, values.T, strict=True)))


def _averages(tables: Tables) -> set[str]:
    """Return the published columns that are a mean of the others; a task with samples is one, whatever its name."""
    if "mean_of_tasks" not in tables.tasks:
        return set()
    return set(tables.tasks.loc[tables.tasks["mean_of_tasks"] == True, "task"]) & set(tables.scores["task"])  # noqa: E712


def _is_quant_of_another(row: Row, tables: Tables) -> bool:
    """Tell whether the reference of published tables is itself measured against a file that is not in them."""
    if not (row["is_reference"] and tables.items.empty and "kld_mean" in tables.proxies):
        return False
    own = tables.proxies.loc[tables.proxies["quant"] == row["quant"], "kld_mean"].dropna()
    return len(own) > 0 and float(own.max()) > FLOOR_KLD


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
    published = set(tables.scores["task"])
    unknown = set(tables.items["task"].unique()) - set(tables.tasks["task"])
    if unknown:
        raise SpecError(f"items: task {min(unknown)!r} is not in the tasks table. Add a row for it.")
    return [
        task_scores(tables.items, str(row["task"]), quants, float(row["n_planned"]))
        for row in tables.tasks.to_dict("records")
        if row["task"] not in published
    ]


def _task_row(row: Mapping[Any, Any], tasks: Sequence[TaskScores]) -> Row:
    scores = next((task for task in tasks if task.task == row["task"]), None)
    if scores is None:
        return dict(row) | {"n_samples": None, "graded": None, "clusters": None}
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


def _notes(quants: Sequence[Row], tasks: Sequence[TaskScores], pairs: Sequence[Row], flips: Sequence[Row]) -> list[str]:
    notes = [
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
    notes += [
        f"{task}: the {MAX_FLIPS} samples that most quants changed are listed, not all"
        for task, count in Counter(row["task"] for row in flips).items()
        if count == MAX_FLIPS
    ]
    if len(tasks) > 1:
        notes.append(
            f"{MEAN_OF_TASKS}: every task weighs the same; its interval adds the tasks' variances, read off their own"
            " intervals (Zou & Donner 2008)"
        )
    return notes
