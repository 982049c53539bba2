"""What lm-eval writes with `--log_samples`: `MODEL/samples_TASK_TIME.jsonl`, a JSON object a document and filter.

Format as of lm-eval 0.4.13 (`evaluator.py`, `loggers/evaluation_tracker.py`): `doc_id`, `doc_hash`, `filter`, `metrics`
(the names of the metrics, each of which is a key of its own), `resps`, `filtered_resps`. Earlier versions lack `metrics`.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.errors import SpecError
from evalsuite.importer.facts import checked_name
from evalsuite.importer.files import read_json_lines, shown
from evalsuite.importer.records import Finding, Label
from evalsuite.records import Outcome

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<time>\d{4}-\d\d-\d\dT[\d.-]+))?\.jsonl")
_NO_MATCH = ([""], ["[invalid]"], [None])
"""What lm-eval's filters give where they find nothing."""

_NOT_METRICS = frozenset({
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
})  # fmt: skip


def is_log(path: Path) -> bool:
    """Say whether a file is a log of samples, by its name."""
    return _NAME.fullmatch(path.name) is not None


def read_logs(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the items of lm-eval's logs with a column `label`, and what a reader should know of them.

    The task is in the file's name; the quant is the last part of the folders' names that keeps logs of one task apart. Of
    several filters the first is read, and of several metrics the first that lies in [0, 1] for every document. Sample ids
    are lm-eval's `doc_id`. Raises SpecError for a line that is none of lm-eval's, for a log without such a metric, for two
    logs of one task in one folder, and where one `doc_id` stands for different documents.
    """
    findings: list[Finding] = []
    documents: dict[tuple[str, str], str] = {}
    judged: dict[str, tuple[str, str]] = {}
    frames = []
    for quant, task, path in sorted(zip(_quants(paths), map(_task, paths), paths, strict=True)):
        samples, chosen = _first_filter(path, read_json_lines(path, _told(path)), quant, findings)
        _check_documents(path, task, samples, documents)
        metric = _metric(path, samples)
        if judged.setdefault(task, (metric, chosen)) != (metric, chosen):
            raise SpecError(
                f"{_told(path)}: {task} would be judged by {metric} after {chosen}, and by {' after '.join(judged[task])} in"
                " other logs. Compare logs of one version of the task."
            )
        findings.append(Finding("metric", _told(path), quant, metric, f"is the score of {task}."))
        rows = pd.DataFrame([_row(sample, metric) for sample in samples])
        label = pd.Series([Label(quant)] * len(rows), dtype=object)
        frames.append(rows.assign(task=checked_name(task, _told(path)), label=label, file=_told(path)))
    return pd.concat(frames, ignore_index=True), findings


def _task(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return match["task"] if match else path.stem


def _told(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.name}"


def _quants(paths: Sequence[Path]) -> list[str]:
    """Return the name of the quant of each log: the last part of its folder that keeps logs of one task apart."""
    folders = [path.resolve().parent for path in paths]
    first: dict[tuple[Path, str], Path] = {}
    for path, folder in zip(paths, folders, strict=True):
        other = first.setdefault((folder, _task(path)), path)
        if other != path:
            raise SpecError(
                f"{folder}: {other.name} and {path.name} are logs of one task. If one is a run again, take the older away; if"
                " they are two quants, give each a folder named after it."
            )
    for depth in range(min(len(folder.parts) for folder in folders)):
        names = [folder.parts[-1 - depth] for folder in folders]
        if len({(name, _task(path)) for name, path in zip(names, paths, strict=True)}) == len(paths):
            return _short(names)
    raise SpecError("lm-eval's logs: their folders do not tell the quants apart. Name a folder after each quant.")


def _short(names: Sequence[str]) -> list[str]:
    """Return names without lm-eval's `MAKER__` before them and `.gguf` behind, where they stay apart."""
    short = [checked_name(name.rpartition("__")[2].removesuffix(".gguf") or name, "lm-eval's folder") for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)


def _first_filter(
    path: Path, samples: list[dict[str, Any]], quant: str, findings: list[Finding]
) -> tuple[list[dict[str, Any]], str]:
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample.get("doc_id"), int | str):
            raise SpecError(
                f"{_told(path)}:{number}: has no doc_id, so it is no log of lm-eval's. Give a table of items."
            )
    if not samples:
        raise SpecError(f"{_told(path)}: holds no samples. Take it out.")
    filters = list(dict.fromkeys(str(sample.get("filter", "none")) for sample in samples))
    if len(filters) > 1:
        detail = f"{filters[0]} is read; left out: {', '.join(filters[1:])}."
        findings.append(Finding("first_filter", _told(path), quant, "filter", detail))
    return [sample for sample in samples if str(sample.get("filter", "none")) == filters[0]], filters[0]


def _check_documents(
    path: Path, task: str, samples: Sequence[Mapping[str, Any]], documents: dict[tuple[str, str], str]
) -> None:
    for sample in samples:
        told = str(sample.get("doc_hash", ""))
        if documents.setdefault((task, str(sample["doc_id"])), told) != told:
            raise SpecError(
                f"{_told(path)}: doc_id {shown(str(sample['doc_id']))} is another document than in the other logs of {task}."
                " Compare logs of one version of the task."
            )


def _metric(path: Path, samples: Sequence[Mapping[str, Any]]) -> str:
    said = samples[0].get("metrics")
    names = [str(name) for name in (said if isinstance(said, list) else samples[0].keys() - _NOT_METRICS)]
    for name in names if said else sorted(names):
        values = [_value(sample.get(name)) for sample in samples]
        if all(value is not None and not value < 0 and not value > 1 for value in values):
            return name
    raise SpecError(
        f"{_told(path)}: no metric lies between 0 and 1 for every document. Metrics: {', '.join(names[:12]) or 'none'}."
    )


def _value(value: Any) -> float | None:
    return float(value) if isinstance(value, float) or value in (0, 1) else None


def _row(sample: Mapping[str, Any], metric: str) -> dict[str, Any]:
    score, responses, output = float(sample[metric]), sample.get("filtered_resps"), None
    match sample.get("resps"):
        case [[str(text)]]:
            output = text
    outcome = Outcome.OK if isfinite(score) else Outcome.NOT_RUN
    if isfinite(score) and responses in _NO_MATCH:
        outcome, responses = Outcome.UNPARSED, None
    return {
        "sample_id": str(sample["doc_id"]), "repeat": 0, "score": score if isfinite(score) else np.nan,
        "outcome": outcome.value, "cluster": None, "margin": np.nan, "output": output,
        "answer": _answer(responses, metric, has_unconditional="acc_mutual_info" in sample),
    }  # fmt: skip


def _answer(responses: Any, metric: str, *, has_unconditional: bool) -> str | None:
    """Return the text that the filter found, or the number of the choice that `acc` judges: the likeliest.

    Behind the choices' log-probabilities may stand those of the choices without a question.
    """
    match responses:
        case [str(text)]:
            return text
        case [_, _, *_] if metric == "acc":
            try:
                choices = responses[: len(responses) // 2] if has_unconditional else responses
                return str(int(np.argmax([float(loglikelihood) for loglikelihood, _ in choices])))
            except (TypeError, ValueError):
                return None
    return None
