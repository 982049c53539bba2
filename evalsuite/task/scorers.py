"""Scorers: what one answer earned. A scorer sees only outputs that the model is answerable for."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evalsuite.records import Outcome, Output, Sample, Score, Scored
from evalsuite.task.long_context.longbench import score_said_letter
from evalsuite.task.long_context.recall import recall
from evalsuite.task.mathematics import score_expression, score_number
from evalsuite.task.mmlu_pro import score_letter

Scorer = Callable[[Sample, Output], Score]


LENGTHS: Mapping[str, Callable[[str], int]] = {
    "choice": lambda _: 1,
    "choice_per_byte": lambda choice: len(choice.encode()),
    "choice_per_character": lambda choice: len(choice.removeprefix(" ")),
}
"""What a choice's log-probability is divided by, by the name of the scorer; the last is lm-eval's `acc_norm`."""


def score_choice(sample: Sample, logprobs: Sequence[float], *, by: str) -> Scored:
    """Score the likeliest choice from each choice's log-probability (nats): 1 if it is the right one, else 0.

    With `choice_per_byte` each is first divided by its choice's length in UTF-8 bytes, with `choice_per_character` by its
    letters but for the blank in front; what the other ways give stands in the metrics. When the right choice ties with
    others at the top, the value is its share. The margin is the right choice's log-odds among the choices, in nats.
    """
    scores = {name: np.asarray(logprobs, float) / [*map(length, sample.choices)] for name, length in LENGTHS.items()}
    best = {name: np.flatnonzero(each == each.max()).tolist() for name, each in scores.items()}
    others = np.delete(scores[by], sample.target)
    return Scored(
        value=_share(sample.target, best[by]),
        answer=sample.choices[best[by][0]],
        margin=float(scores[by][sample.target] - np.logaddexp.reduce(others)),
        metrics={name: _share(sample.target, each) for name, each in best.items() if name != by},
    )


def _share(target: int, best: Sequence[int]) -> float:
    return 1 / len(best) if target in best else 0.0


def score_greedy(sample: Sample, outputs: Sequence[Output]) -> Scored:
    """Score a sole continuation: 1 when each of its tokens is the likeliest one where it stands."""
    is_greedy = bool(outputs[0].is_greedy)
    return Scored(float(is_greedy), answer=sample.choices[0] if is_greedy else None)


def exact(sample: Sample, output: Output) -> Scored:
    """Return 1 when the answer is the target, blanks at the ends, case and one closing mark aside."""
    answer = output.text.strip()
    right = _plain(answer) == _plain(str(sample.target))
    cut = output.outcome is Outcome.TRUNCATED and not right
    return Scored(float(right), Outcome.TRUNCATED if cut else Outcome.OK, answer)


def _plain(text: str) -> str:
    return text.strip().removesuffix(".").casefold()


def json_fields(sample: Sample, output: Output) -> Scored:
    """Return the share of the target's fields that the answer, a JSON object, holds with the same value and type."""
    answer = output.text.strip()
    try:
        fields = json.loads(answer)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        cut = output.outcome is Outcome.TRUNCATED
        return Scored(0.0, Outcome.TRUNCATED if cut else Outcome.UNPARSED, answer)
    right = [
        key in fields and type(fields[key]) is type(wanted) and fields[key] == wanted
        for key, wanted in sample.target.items()
    ]
    return Scored(sum(right) / len(right), answer=answer)


SCORERS: Mapping[str, Scorer] = {
    "exact": exact, "json_fields": json_fields, "expression": score_expression, "letter": score_letter,
    "number": score_number, "recall": recall, "said_letter": score_said_letter,
}  # fmt: skip
