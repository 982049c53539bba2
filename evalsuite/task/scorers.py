"""Scorers: what one answer earned. A scorer sees only outputs that the model is answerable for."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evalsuite.records import Outcome, Output, Sample, Score, Scored

Scorer = Callable[[Sample, Output], Score]


def score_choice(sample: Sample, logprobs: Sequence[float], *, per_byte: bool) -> Scored:
    """Score the likeliest choice from each choice's log-probability (nats): 1 if it is the right one, else 0.

    With `per_byte` each is first divided by its choice's length in UTF-8 bytes. When the right choice ties with others
    at the top, the value is its share. The margin is the right choice's log-odds among the choices, in nats.
    """
    lengths = [len(choice.encode()) if per_byte else 1 for choice in sample.choices]
    scores = np.asarray(logprobs, float) / lengths
    best = np.flatnonzero(scores == scores.max())
    others = np.delete(scores, sample.target)
    return Scored(
        value=1 / len(best) if sample.target in best else 0.0,
        answer=sample.choices[int(best[0])],
        margin=float(scores[sample.target] - np.logaddexp.reduce(others)),
    )


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


SCORERS: Mapping[str, Scorer] = {"exact": exact, "json_fields": json_fields}
