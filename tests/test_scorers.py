"""Scorers: what an answer earns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logit

from evalsuite.records import Outcome, Output, Sample
from evalsuite.task.scorers import exact, json_fields, score_choice

LOGPROBS = st.lists(st.floats(-200, 0), min_size=2, max_size=6)


def multiple_choice(*choices: str, target: int = 0) -> Sample:
    return Sample("s", "Once upon a", target, choices)


def test_the_likeliest_choice_is_the_answer():
    """The choice with the highest log-probability is the answer, and earns 1 only where it is the target."""
    sample = multiple_choice(" time", " day", " midnight", target=1)
    assert score_choice(sample, [-3, -1, -2], by="choice").value == 1
    wrong = score_choice(sample, [-3, -2, -1], by="choice")
    assert (wrong.value, wrong.answer) == (0, " midnight")


def test_per_byte_divides_by_utf8_length():
    """Per byte, a long choice is not punished for its length; é counts two bytes."""
    sample = multiple_choice(" tea", " café noir", target=1)
    assert score_choice(sample, [-4, -9], by="choice").value == 0
    assert score_choice(sample, [-4, -9], by="choice_per_byte").value == 1
    assert score_choice(multiple_choice("é", "ea"), [-2, -2], by="choice_per_byte").value == 0.5


@pytest.mark.parametrize(("logprobs", "value"), [([-1, -1, -2], 0.5), ([-1, -1, -1], 1 / 3), ([-2, -1, -1], 0)])
def test_a_tie_is_shared(logprobs: list[float], value: float):
    """The right choice in a tie of k at the top earns 1/k; a tie of the wrong ones earns nothing."""
    assert score_choice(multiple_choice(" a", " b", " c"), logprobs, by="choice").value == pytest.approx(value)


@given(LOGPROBS, st.data())
def test_margin_is_the_log_odds_of_the_softmax(logprobs: list[float], data: st.DataObject):
    """The margin is scipy's logit of the right choice's softmax probability wherever that can be told from 0 and 1."""
    target = data.draw(st.integers(0, len(logprobs) - 1))
    sample = multiple_choice(*(f" {index}" for index in range(len(logprobs))), target=target)
    margin = score_choice(sample, logprobs, by="choice").margin
    if abs(margin) < 15:
        assert margin == pytest.approx(logit(np.exp(log_softmax(logprobs)))[target], abs=1e-6)
    else:
        assert (margin > 0) == (logprobs[target] == max(logprobs))


EXACT = [
    (" 4821", 1), ("4821.", 1), ("\n4821\n", 1), ("48211", 0), ("4821 or 4822", 0), ("", 0), ("the 4821", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), EXACT)
def test_exact(text: str, value: float):
    """Blanks and one full stop at the end are forgiven, anything else is not."""
    assert exact(Sample("s", "?", "4821"), Output(Outcome.OK, text)).value == value


def test_exact_forgives_case():
    """Upper and lower case are the same answer, and the answer is kept as the model wrote it."""
    scored = exact(Sample("s", "?", "Oslo"), Output(Outcome.OK, " OSLO."))
    assert (scored.value, scored.answer) == (1, "OSLO.")


FIELDS = {"name": "Anna", "count": 2, "item": "lamps"}
JSON = [
    ('{"name": "Anna", "count": 2, "item": "lamps"}', 1, Outcome.OK),
    (' {"item":"lamps","count":2,"name":"Anna","colour":"red"}\n', 1, Outcome.OK),
    ('{"name": "Anna", "count": "2", "item": "lamp"}', 1 / 3, Outcome.OK),
    ('{"name": "Anna", "count": 2.0}', 1 / 3, Outcome.OK),
    ("{}", 0, Outcome.OK),
    ('{"name": "Anna", "count": 2, "item": "lamps"', 0, Outcome.UNPARSED),
    ('["Anna", 2, "lamps"]', 0, Outcome.UNPARSED),
    ("Anna bought two lamps.", 0, Outcome.UNPARSED),
]


@pytest.mark.parametrize(("text", "value", "outcome"), JSON)
def test_json_fields(text: str, value: float, outcome: Outcome):
    """The score is the share of fields with the right value and type; what is no JSON object is unparsed."""
    scored = json_fields(Sample("s", "?", FIELDS), Output(Outcome.OK, text))
    assert (scored.value, scored.outcome) == (pytest.approx(value), outcome)


def test_true_is_not_one():
    """A boolean is no number, although Python's True equals 1."""
    assert json_fields(Sample("s", "?", {"count": 1}), Output(Outcome.OK, '{"count": true}')).value == 0


@pytest.mark.parametrize(
    ("scorer", "target", "whole", "part"),
    [(exact, "4821", " 4821", " 48"), (json_fields, FIELDS, JSON[0][0], '{"name": "Anna", "cou')],
)
def test_a_cut_answer_counts_when_it_is_complete(scorer, target, whole: str, part: str):
    """After the token limit, a complete answer is scored as any other, and a part of one is a truncated 0."""
    sample = Sample("s", "?", target)
    complete, cut = (scorer(sample, Output(Outcome.TRUNCATED, text)) for text in (whole, part))
    assert (complete.value, complete.outcome) == (1, Outcome.OK)
    assert (cut.value, cut.outcome) == (0, Outcome.TRUNCATED)
