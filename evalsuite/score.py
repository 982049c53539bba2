"""Scoring what the store holds: no server, no model; scores are separate rows, so a better scorer needs no new answers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from evalsuite.errors import MachineError
from evalsuite.identity import content_id
from evalsuite.plan import Arm, Plan
from evalsuite.records import Outcome, Output, Sample, Scored
from evalsuite.run import Progress, Question, Silent, outputs_of, questions
from evalsuite.store import PlanRow, Store
from evalsuite.task.code.grading import Submission, judge, submissions
from evalsuite.task.code.records import Judged
from evalsuite.task.sandbox.backends import open_sandbox
from evalsuite.task.sandbox.records import Sandbox

Prompts = dict[tuple[str, str, int], str]
"""The hash of the first rendered prompt by task, sample and repeat."""


def score_plan(
    plan: Plan, store: Store, open_place: Callable[[], Sandbox] = open_sandbox, progress: Progress | None = None
) -> str | None:
    """Score every planned sample from stored answers, and put plan and scores in place of the old ones.

    A sample that the machine did not finish is a row without a score, under the outcome and the reason of its failure.
    Programs are run in the sandbox that `open_place` gives; where it gives none, they have no score either, and the reason
    is returned.
    """
    verdicts, trouble = _verdicts(plan, store, open_place, progress or Silent())
    failures = store.failures()
    reasons = {row["arm"]: row["reason"] for row in store.get_meta("arms") or []}
    rows: list[PlanRow] = []
    scores: dict[str, Mapping[str, Any]] = {}
    prompts: dict[str, Prompts] = {}
    for arm in plan.arms:
        identity = (store.get_meta("identities") or {}).get(arm.name)
        artifact_id, launch = identity or ("", {})
        answers, rendered = store.answers(artifact_id), store.prompts(artifact_id)
        asked = prompts.setdefault(arm.name, {})
        for question in questions(plan, arm, artifact_id, launch):
            keys: list[str] = []
            outputs = outputs_of(plan, question, answers, keys)
            if outputs is None:
                unscored = (Outcome.NOT_RUN, reasons.get(arm.name) or "not asked yet")
                rows.append(_row(arm, question, None, *failures.get(keys[-1] if keys else "", unscored)))
                continue
            asked[question.task.name, question.sample.sample_id, question.repeat] = rendered[keys[0]]
            score = question.task.score(question.sample, outputs, verdicts.get(keys[-1]))
            if not isinstance(score, Scored):
                rows.append(_row(arm, question, None, score.outcome, score.reason))
                continue
            earned = {**asdict(score), "output": _shown(outputs)}
            score_key = content_id("score", {"answers": [answers[key][0] for key in keys], "score": orjson.dumps(
                {key: earned[key] for key in ("value", "answer", "margin")}, default=str
            ).decode()})  # fmt: skip
            scores[score_key] = earned
            rows.append(_row(arm, question, score_key, score.outcome))
    store.replace_plan(rows, scores)
    store.put_meta("other_prompts", other_prompts(prompts, plan.reference.name))
    store.put_meta("samples", {
        planned.task.name: {sample.sample_id: _facts(sample) for sample in planned.task.samples} for planned in plan.tasks
    })  # fmt: skip
    store.put_meta("tasks", [
        {
            "task": planned.task.name, "title": planned.task.title, "chance": planned.task.chance,
            "version": planned.task.version, "signature": planned.task.signature,
            "description": planned.task.description, "groups": planned.task.groups,
            "n_planned": len(planned.task.samples) * planned.repeats,
        }
        for planned in plan.tasks
    ])  # fmt: skip
    return trouble


def _facts(sample: Sample) -> dict[str, Any]:
    """Return what of a sample is told beside its scores."""
    known = {key: sample.metadata[key] for key in ("family", "length", "tokens", "depths") if key in sample.metadata}
    return {"stratum": sample.stratum, **known}


def _verdicts(
    plan: Plan, store: Store, open_place: Callable[[], Sandbox], progress: Progress
) -> tuple[dict[str, dict[str, Judged]], str | None]:
    """Return the verdicts on the program of every answer that holds one, by the key of the answer and by exam, or why not."""
    held: dict[str, list[Submission]] = {}
    for arm in plan.arms:
        identity = (store.get_meta("identities") or {}).get(arm.name)
        answers = store.answers(identity[0]) if identity else {}
        for question in questions(plan, arm, *identity) if identity else ():
            keys: list[str] = []
            if question.task.exam is not None and (outputs := outputs_of(plan, question, answers, keys)) is not None:
                held[keys[-1]] = submissions(question.task.exam, question.sample, outputs[-1])
    if not any(held.values()):
        return {}, None
    try:
        place = open_place()
    except MachineError as error:
        store.put_meta("sandbox", None)
        return {}, str(error)
    store.put_meta("sandbox", asdict(place.description))
    named = {each.key(place): each for every in held.values() for each in every}
    known = {key: Judged(**row) for key, row in store.verdicts().items()}
    missing = {key: each for key, each in named.items() if key not in known}
    progress.total(len(missing))
    progress.phase("programs", "running")
    for key, judged in judge(missing, place):
        store.put_verdict(key, asdict(judged))
        known[key] = judged
        progress.advance()
    return {answer: {each.exam.name: known[each.key(place)] for each in every} for answer, every in held.items()}, None


def other_prompts(prompts: Mapping[str, Prompts], reference: str) -> list[Mapping[str, Any]]:
    """Return `{quant, task, differing, n}` for every arm and task whose first prompts are not the reference's.

    A chat template of its own gives an arm other prompts, and then what it earns tells of the template as well. Only the
    first prompt of a sample is compared, since the later ones hold what the model said.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    for arm, asked in prompts.items():
        for key, prompt in asked.items():
            if key in prompts[reference]:
                count = counts.setdefault((arm, key[0]), [0, 0])
                count[0] += prompt != prompts[reference][key]
                count[1] += 1
    return [
        {"quant": arm, "task": task, "differing": differing, "n": n}
        for (arm, task), (differing, n) in counts.items() if differing
    ]  # fmt: skip


def _row(arm: Arm, question: Question, score_key: str | None, outcome: Outcome, reason: str = "") -> PlanRow:
    sample = question.sample
    return PlanRow(
        arm.name, question.task.name, sample.sample_id, question.repeat, sample.cluster, score_key, outcome, reason
    )


def _shown(outputs: tuple[Output, ...]) -> str:
    """Return what a reader of the report wants to see of the outputs: the text, or the numbers behind a choice."""
    last = outputs[-1]
    if last.option_probs:
        return orjson.dumps([round(p, 6) for p in last.option_probs]).decode()
    if last.logprob is not None:
        return orjson.dumps(
            [None if output.logprob is None else round(output.logprob, 6) for output in outputs]
        ).decode()
    calls = f"\n{orjson.dumps(last.tool_calls).decode()}" if last.tool_calls else ""
    return last.text + calls
