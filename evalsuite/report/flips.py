"""The samples that changed: for the browser on the page, and whole on pages of their own beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps

from evalsuite.report.cells import Row, present

EXCERPT = 600
"""Characters of an output on the page."""
WHOLE = 6000
"""Characters of an output on the pages beside it; the export has the rest."""
PAGE_BUDGET, ROW_BUDGET, FILE_BUDGET = 800_000, 500_000, 2_000_000
"""Bytes of outputs and of samples on the page, and characters of outputs on one page beside it."""


@dataclass(frozen=True)
class Answer:
    """What one quant made of a sample."""

    quant: str
    change: str
    score: float | None
    outcome: str
    answer: str
    output: str


@dataclass(frozen=True)
class Flip:
    """A sample that changed for some quant: the reference's answer first, then those that changed."""

    task: str
    sample_id: str
    compared: int
    lost_by: tuple[str, ...]
    gained_by: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class FlipPage:
    """Samples of one task with their outputs; `name` is the file's."""

    name: str
    task: str
    flips: tuple[tuple[int, Flip], ...]


def flips(analysis: Row, items: pd.DataFrame) -> list[Flip]:
    """Return the changed samples with the answers of the reference and of the quants that changed, most changed first.

    Of a sample that was asked several times the first answer is taken.
    """
    rows = sorted(
        analysis.get("flips") or (), key=lambda row: (-row["lost"] - row["gained"], row["task"], str(row["sample_id"]))
    )
    reference = analysis["header"]["reference"]
    found = _answers(items, rows, reference)
    return [_flip(row, reference, found) for row in rows]


def flip_data(found: Sequence[Flip], pages: Sequence[FlipPage], reference: str) -> dict[str, Any] | None:
    """Return what the browser on the page reads, outputs shortened, as many as its budget has room for."""
    if not found:
        return None
    tasks = list(dict.fromkeys(flip.task for flip in found))
    quants = sorted({quant for flip in found for quant in (*flip.lost_by, *flip.gained_by)})
    where = {number: page.name for page in pages for number, _ in page.flips}
    index = {quant: number for number, quant in enumerate(quants)}
    samples: list[dict[str, Any]] = []
    spent = used = 0
    for number, flip in enumerate(found):
        sample: dict[str, Any] = {
            "task": tasks.index(flip.task), "id": flip.sample_id, "of": flip.compared,
            "lost": [index[quant] for quant in flip.lost_by], "gained": [index[quant] for quant in flip.gained_by],
        }  # fmt: skip
        if number in where:
            sample["page"] = f"{where[number]}#s{number}"
        used += _size(sample)
        if used > ROW_BUDGET:
            break
        answers = [_brief(answer, index) for answer in flip.answers]
        size = _size(answers)
        if spent + size <= PAGE_BUDGET:
            spent += size
            sample["answers"] = answers
        samples.append(sample)
    return {"reference": reference, "tasks": tasks, "quants": quants, "samples": samples, "total": len(found)}


def flip_pages(found: Sequence[Flip]) -> list[FlipPage]:
    """Return the pages beside the page: only where an output is shortened on it, or has no room there at all."""
    long = any(len(answer.output) > EXCERPT for flip in found for answer in flip.answers)
    if not long and _size([[_brief(answer, {}) for answer in flip.answers] for flip in found]) <= PAGE_BUDGET:
        return []
    pages: list[FlipPage] = []
    for number, task in enumerate(dict.fromkeys(flip.task for flip in found), 1):
        for part, numbered in enumerate(_parts([pair for pair in enumerate(found) if pair[1].task == task]), 1):
            pages.append(FlipPage(f"flips-{number}-{part}.html", task, tuple(numbered)))
    return pages


def shortened(output: str, most: int) -> str:
    """Return an output with its middle left out: the end is where a model answers."""
    if len(output) <= most:
        return output
    left_out = len(output) - most
    return f"{output[: most // 2]}\n… {left_out:,} characters left out …\n{output[-(most - most // 2) :]}"


def _parts(numbered: Sequence[tuple[int, Flip]]) -> Iterator[list[tuple[int, Flip]]]:
    part: list[tuple[int, Flip]] = []
    size = 0
    for number, flip in numbered:
        room = sum(min(len(answer.output), WHOLE) + 200 for answer in flip.answers)
        if part and size + room > FILE_BUDGET:
            yield part
            part, size = [], 0
        part.append((number, flip))
        size += room
    if part:
        yield part


def _answers(items: pd.DataFrame, rows: Sequence[Row], reference: str) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return the first item of each (task, sample, quant) that the rows name."""
    wanted = pd.DataFrame(
        [
            (row["task"], str(row["sample_id"]), quant)
            for row in rows
            for quant in (reference, *row["lost_by"], *row["gained_by"])
        ],
        columns=["task", "sample_id", "quant"],
    )
    if wanted.empty or items.empty:
        return {}
    keys = ["task", "sample_id", "quant"]
    named = items.assign(sample_id=items["sample_id"].astype(str)).merge(wanted, on=keys)
    first = named.sort_values("repeat", kind="stable").drop_duplicates(keys)
    return {
        (row["task"], row["sample_id"], row["quant"]): {str(key): value for key, value in row.items()}
        for row in first.to_dict("records")
    }


def _flip(row: Row, reference: str, found: Mapping[tuple[str, str, str], Row]) -> Flip:
    changes: Iterable[tuple[str, str]] = (
        (reference, ""),
        *((quant, "lost") for quant in row["lost_by"]),
        *((quant, "gained") for quant in row["gained_by"]),
    )
    task, sample = row["task"], str(row["sample_id"])
    answers = tuple(
        _answer(quant, change, found[task, sample, quant])
        for quant, change in changes
        if (task, sample, quant) in found
    )
    return Flip(task, sample, row["quants"], tuple(row["lost_by"]), tuple(row["gained_by"]), answers)


def _answer(quant: str, change: str, item: Row) -> Answer:
    score = item["score"] if present(item["score"]) else None
    return Answer(
        quant, change, score, *(str(item[key]) if _written(item.get(key)) else "" for key in
                                ("outcome", "answer", "output"))
    )  # fmt: skip


def _size(value: Any) -> int:
    """Return the bytes that a value takes in a script of the page."""
    return len(htmlsafe_json_dumps(value).encode("utf-8", errors="replace"))


def _written(value: Any) -> bool:
    return value is not pd.NA and present(value)


def _brief(answer: Answer, index: Mapping[str, int]) -> dict[str, Any]:
    brief: dict[str, Any] = {
        "quant": index.get(answer.quant, -1), "change": answer.change, "score": answer.score,
        "outcome": answer.outcome, "answer": shortened(answer.answer, 200), "output": shortened(answer.output, EXCERPT),
    }  # fmt: skip
    return brief
