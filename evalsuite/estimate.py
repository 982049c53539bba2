"""What a plan will cost and what it can show, before a model is served: tokens, hours, the smallest difference."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean

from evalsuite.plan import Plan
from evalsuite.records import Generate, Loglikelihood, Request
from evalsuite.run import Question
from evalsuite.stats.paired import mde
from evalsuite.store import Store
from evalsuite.task.room import PER_MESSAGE, CountTokens, prompt_text
from evalsuite.task.tasks import Task

DISCORDANCE = 0.1
"""The share of answers that are assumed to change between right and wrong; 4-bit quants change 5 to 20 %."""

_COUNTED = 24
"""How many samples of a task are counted; the others are taken to be like them."""


@dataclass(frozen=True)
class TaskCost:
    """What one task asks of each quant, and what it can show.

    `prompt_tokens` is extrapolated from some samples, `answer_tokens` is the most that may be written. `mde` is the smallest
    difference of two quants (0 to 1) that is found with 80 % power where `DISCORDANCE` of the answers change,
    `mde_family` the same at the level corrected for all comparisons of the sweep; None where no difference would be found.
    """

    task: str
    samples: int
    repeats: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    mde: float | None
    mde_family: float | None


def task_costs(plan: Plan, count_tokens: CountTokens) -> list[TaskCost]:
    """Return the cost of each planned task; conversations of several turns are counted by their first."""
    comparisons = max(1, sum(not arm.replicate for arm in plan.arms[1:]) * len(plan.tasks))
    return [
        _cost(plan, planned.task, planned.repeats, count_tokens, alpha=0.05 / comparisons) for planned in plan.tasks
    ]


def _cost(plan: Plan, task: Task, repeats: int, count_tokens: CountTokens, *, alpha: float) -> TaskCost:
    n = len(task.samples)
    chosen = task.samples[:: max(1, n // _COUNTED)]
    asked = [next(task.solve(sample, plan.sampling(sample.sample_id, 0)), ()) for sample in chosen]
    requests = [request for of_sample in asked for request in of_sample]
    scale = n * repeats / max(len(chosen), 1)
    tokens = count_tokens([_text(request) for request in requests])
    prompts = sum(tokens) + sum(PER_MESSAGE * len(each.prompt) for each in requests if not isinstance(each.prompt, str))
    answers = sum(each.sampling.max_tokens if isinstance(each, Generate) else 1 for each in requests)
    return TaskCost(
        task.name, n, repeats, round(scale * len(requests)), round(scale * prompts), round(scale * answers),
        _found(n, 0.05), _found(n, alpha),
    )  # fmt: skip


def _found(n: int, alpha: float) -> float | None:
    smallest = mde(n, DISCORDANCE, alpha)
    return None if isnan(smallest) else smallest


def _text(request: Request) -> str:
    text = prompt_text(request.prompt)
    if isinstance(request, Loglikelihood):
        return text + request.continuation
    return text + json.dumps(request.tools) if isinstance(request, Generate) and request.tools else text


def hours_left(
    plan: Plan, costs: Sequence[TaskCost], remaining: Iterable[Question], store: Store, artifact_id: str
) -> float | None:
    """Return the hours that the remaining samples of an arm will take, by the timings of answers that the store has.

    Those of the same file count where there are any, else those of all; None where a task has none at all. Scoring,
    loading and proxies come on top.
    """
    left: dict[str, int] = {}
    for question in remaining:
        left[question.task.name] = left.get(question.task.name, 0) + 1
    total_ms = 0.0
    named: Mapping[str, TaskCost] = {cost.task: cost for cost in costs}
    for planned in plan.tasks:
        if n := left.get(planned.task.name):
            timed = store.busy_ms(planned.task.task_id, artifact_id) or store.busy_ms(planned.task.task_id, None)
            if not timed:
                return None
            cost = named[planned.task.name]
            total_ms += n * cost.requests / (cost.samples * cost.repeats) * fmean(timed)
    return total_ms / plan.profile.parallel / 3.6e6
