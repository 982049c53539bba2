"""Answers from anywhere, scored exactly as a run would score them: no server, no store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.records import Outcome, Output, Sample, Scored, Unscored
from evalsuite.serve.outcomes import finish, split_reasoning
from evalsuite.stats.estimate import Estimate
from evalsuite.stats.proportion import mean_score
from evalsuite.task.code.grading import judge, submissions
from evalsuite.task.code.records import Judged
from evalsuite.task.datasets import read_rows
from evalsuite.task.sandbox.records import Sandbox
from evalsuite.task.tasks import Task


class _Message(BaseModel):
    """An assistant's message in OpenAI's form; what it holds besides is left alone."""

    model_config = ConfigDict(frozen=True)
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None


class _Row(BaseModel):
    """One line: a sample's id with a text, a message, or the log-probability (nats) of each of its choices."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True, extra="forbid")
    sample_id: str
    output: str | _Message | tuple[float, ...]
    finish_reason: str | None = None


@dataclass(frozen=True)
class Graded:
    """One answer with what it earned."""

    sample: Sample
    score: Scored | Unscored

    def as_json(self) -> dict[str, Any]:
        """Return the row that `score --json` prints; what left the denominator has no score and says why."""
        if isinstance(self.score, Unscored):
            return {
                "sample_id": self.sample.sample_id, "score": None, "outcome": self.score.outcome, "answer": None,
                "reason": self.score.reason,
            }  # fmt: skip
        return {
            "sample_id": self.sample.sample_id, "score": self.score.value, "outcome": self.score.outcome,
            "answer": self.score.answer, "margin": self.score.margin, "metrics": self.score.metrics,
        }  # fmt: skip


def read_outputs(task: Task, file: Path) -> list[tuple[Sample, tuple[Output, ...]]]:
    """Read JSONL of `{sample_id, output}` for the samples of a task; a sample may be answered more than once.

    `output` is a text, an OpenAI message (`content`, `tool_calls`), or for a task of choices the log-probability of each;
    `finish_reason: length` marks an answer that was cut off. Raises SpecError naming the line.
    """
    if not file.is_file():
        raise SpecError(f"--outputs: {file}: no such file.")
    samples = {sample.sample_id: sample for sample in task.samples}
    answered = []
    for number, raw in enumerate(read_rows(file), 1):
        try:
            row = _Row.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            said = ": ".join([*map(str, first["loc"]), str(first["msg"])])
            raise SpecError(f"{file}: row {number}: {said}. Keys: sample_id, output, finish_reason.") from error
        if row.sample_id not in samples:
            raise SpecError(
                f"{file}: row {number}: {task.name} has no sample {row.sample_id!r}.{did_you_mean(row.sample_id, samples)}"
                if len(samples) < 1000 else
                f"{file}: row {number}: {task.name} has no sample {row.sample_id!r}; ids are like {next(iter(samples))!r}."
            )  # fmt: skip
        sample = samples[row.sample_id]
        answered.append((sample, _outputs(row, sample, where=f"{file}: row {number}")))
    return answered


def _outputs(row: _Row, sample: Sample, *, where: str) -> tuple[Output, ...]:
    if isinstance(row.output, tuple):
        if len(row.output) != len(sample.choices):
            raise SpecError(f"{where}: {len(row.output)} log-probabilities for {len(sample.choices)} choices.")
        shares = np.exp(np.asarray(row.output) - np.logaddexp.reduce(row.output))
        return tuple(Output(Outcome.OK, logprob=logprob, option_probs=tuple(shares.tolist())) for logprob in row.output)
    message = _Message(content=row.output) if isinstance(row.output, str) else row.output
    reasoning, text = split_reasoning(message.content or "")
    calls = message.tool_calls or ()
    outcome, detail = finish(
        finish_reason=row.finish_reason, answer=text, has_call=bool(calls), total_tokens=0, n_ctx=1
    )
    return (
        Output(
            outcome, text, message.reasoning_content or reasoning, calls, finish_reason=row.finish_reason, detail=detail
        ),
    )


def grade(
    task: Task, answered: Sequence[tuple[Sample, tuple[Output, ...]]], open_place: Callable[[], Sandbox]
) -> list[Graded]:
    """Score every answer; where answers are programs a sandbox is opened, and MachineError raised when there is none."""
    held = [submissions(task.exam, sample, outputs[-1]) if task.exam else [] for sample, outputs in answered]
    verdicts: list[dict[str, Judged]] = [{} for _ in held]
    if any(held):
        place = open_place()
        judged = dict(judge({each.key(place): each for every in held for each in every}, place))
        verdicts = [{each.exam.name: judged[each.key(place)] for each in every} for every in held]
    return [
        Graded(sample, task.score(sample, outputs, of_sample))
        for (sample, outputs), of_sample in zip(answered, verdicts, strict=True)
    ]


def mean_of(graded: Sequence[Graded]) -> Estimate:
    """Return the mean score with its interval; several answers of one sample count as one, their mean."""
    values: dict[str, list[float]] = {}
    for each in graded:
        if isinstance(each.score, Scored):
            values.setdefault(each.sample.sample_id, []).append(each.score.value)
    means = np.array([np.mean(scores) for scores in values.values()])
    clusters = {each.sample.sample_id: each.sample.cluster or f"\0{each.sample.sample_id}" for each in graded}
    codes = np.unique([clusters[name] for name in values], return_inverse=True)[1] if values else None
    alone = codes is None or len(set(codes.tolist())) == len(means)
    return mean_score(means, None if alone else codes, binary=bool(np.isin(means, (0, 1)).all()))


def as_json(task: Task, graded: Sequence[Graded]) -> dict[str, Any]:
    """Return the document of `evalsuite score TASK --outputs FILE --json`; undefined numbers are null."""
    mean = {key: None if value != value else value for key, value in asdict(mean_of(graded)).items() if key != "notes"}  # noqa: PLR0124
    return {
        "task": task.name, "n": mean["n"], "score": mean["value"], "low": mean["low"], "high": mean["high"],
        "samples": [each.as_json() for each in graded],
    }  # fmt: skip
