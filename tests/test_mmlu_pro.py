"""MMLU-Pro: prompts byte by byte, and the letter that an answer states."""

import hashlib
import re

import pytest

from evalsuite.errors import SpecError
from evalsuite.records import Outcome, Output, Sample
from evalsuite.task.datasets import Dataset
from evalsuite.task.mmlu_pro import _LOCAL_HEAD, mmlu_pro, official_letter, score_letter, stated_letter

WORKED = {
    "question_id": None, "question": "How many legs has a spider?", "options": ["Six", "N/A", "Eight"], "answer": "B",
    "answer_index": 1, "cot_content": "A: Let's think step by step. Spiders are arachnids. The answer is (B).",
    "category": "biology",
}  # fmt: skip
ASKED = {
    "question_id": 7, "question": "Which is a mammal?", "options": ["Bat", "Hen"], "answer": "A", "answer_index": 0,
    "cot_content": "", "category": "biology",
}  # fmt: skip
DATA = Dataset({"test": [ASKED], "validation": [WORKED]}, "")


def _prompt(style: str, shots: int = 1) -> object:
    (sample,) = mmlu_pro(DATA, {"style": style, "shots": shots})
    return sample.prompt


def test_the_local_prompt_is_upstreams():
    """Header (with its three line ends and one more), worked example and question stand as evaluate_from_local.py puts them.

    The SHA-256 is that of cot_prompt_lib/initial_prompt.txt, 182 bytes.
    """
    head = _LOCAL_HEAD.replace("{}", "{$}")
    assert (len(head), hashlib.sha256(head.encode()).hexdigest()[:16]) == (182, "d7337806b4d84eef")
    assert _prompt("official-local") == (
        "The following are multiple choice questions (with answers) about biology. Think step by step and then finish your "
        'answer with "the answer is (X)" where X is the correct letter choice.\n\n\n\n'
        "Question:\nHow many legs has a spider?\nOptions:\nA. Six\nB. Eight\n"
        "Answer: Let's think step by step. Spiders are arachnids. The answer is (B).\n\n"
        "Question:\nWhich is a mammal?\nOptions:\nA. Bat\nB. Hen\nAnswer: Let's think step by step."
    )


def test_the_api_prompt_is_upstreams():
    """One message of a user holds header, worked example and question as evaluate_from_api.py puts them."""
    assert _prompt("official-api") == ({
        "role": "user",
        "content": "The following are multiple choice questions (with answers) about biology. Think step by step and then "
        'output the answer in the format of "The answer is (X)" at the end.\n\n'
        "Question: How many legs has a spider?\nOptions: A. Six\nB. Eight\n"
        "Answer: Let's think step by step. Spiders are arachnids. The answer is (B).\n\n"
        "Question: Which is a mammal?\nOptions: A. Bat\nB. Hen\nAnswer: Let's think step by step.\n\n",
    },)  # fmt: skip


def test_letters_end_where_the_letter_stands():
    """The form that compares letters ends at "Answer:", and its choices are the letters that the question has."""
    (sample,) = mmlu_pro(DATA, {"style": "letters", "shots": 1})
    assert str(sample.prompt).endswith("B. Eight\nAnswer: B\n\nQuestion: Which is a mammal?\nA. Bat\nB. Hen\nAnswer:")
    assert (sample.choices, sample.target) == ((" A", " B"), 0)


def test_missing_examples_are_said():
    """Fewer worked examples than the form shows is the data's fault, not a shorter prompt."""
    with pytest.raises(SpecError, match=r"2 worked examples of category 'biology' are needed and 1 are there"):
        _prompt("official-api", shots=2)


@pytest.mark.parametrize(
    ("ending", "letter", "why"),
    [
        ("The answer is (C).", "C", "as asked"),
        ("**Answer: D**", "D", "Markdown"),
        ("Final answer: $\\boxed{\\text{E}}$.", "E", "LaTeX"),
        ("\\[\\boxed{A}\\]", "A", "a box alone"),
        ("the answer is Both B and C, so the answer is (D)", "D", "the first statement names none"),
        ("The answer is (A). Wait. Actually the answer is (B).", "B", "reconsidered"),
        ("The correct answer is: **(B)** because 2 < 3", "B", "goes on after the letter"),
        ("The correct option is G, since it is longest", "G", "option for answer"),
        ("The answer is **D. 12 m/s**", "D", "letter and text"),
        ("Answer:\n\nC", "C", "on the next line"),
        ("I think it over.\n\n(C)", "C", "alone on the last line"),
        ("the answer is (c)", "C", "lower case, in brackets"),
        ("<think>The answer is (A).</think>The answer is (B).", "B", "reasoning left in the text"),
        ("so I need to compute the", None, "I is a word, and the answer was cut off"),
        ("A car travels 3 m", None, "A is a word"),
        ("The answer is A car that travels", None, "A is a word behind the statement too"),
        ("The answer is not (A)", None, "says what it is not"),
        ("The answer is (A) or (B)", None, "two at once"),
        ("The answer is (A), (B)", None, "two at once"),
        ("The answer is (K).", None, "no such option"),
        ("The best answer is I think B", None, "a sentence, not a letter"),
        ("", None, "nothing"),
    ],
)
def test_the_letter_an_answer_states(ending: str, letter: str | None, why: str):
    """Endings as models write them give the letter that they state, and none where they state none."""
    assert stated_letter(f"Let me see.\n{ending}" if ending else "", 10)[0] == letter, why


def test_a_letter_beyond_the_options_is_none():
    """A question with three options has no D."""
    assert stated_letter("The answer is (D).", 3) == (None, "none")
    assert stated_letter("The answer is (C).", 3) == ("C", "stated")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("the answer is Both B and C, so the answer is (D)", "B"),
        ("The answer is (A). Wait. The answer is (B).", "A"),
        ("so I need to compute the", "I"),
        ("Answer: C or answer: D", "D"),
        ("no letter at all", None),
    ],
)
def test_the_official_ladder_is_upstreams_with_its_faults(text: str, letter: str | None):
    """The official letter is the first statement, the last on its line, or any capital: what upstream's scripts give."""
    assert official_letter(text) == letter


def test_scores_keep_truncation_apart():
    """An answer that was cut off and states nothing is truncated, an unreadable one unparsed; both earn 0."""
    sample = Sample("1", "", "B", ("x", "y", "z", "w"))
    cut = score_letter(sample, Output(Outcome.TRUNCATED, "so we have to"))
    assert (cut.value, cut.outcome, "accuracy_completed" in cut.metrics) == (0, Outcome.TRUNCATED, False)
    assert score_letter(sample, Output(Outcome.OK, "who knows")).outcome is Outcome.UNPARSED
    late = score_letter(sample, Output(Outcome.TRUNCATED, "The answer is (B). As a check,"))
    assert (late.value, late.outcome) == (1, Outcome.OK)
    assert score_letter(sample, Output(Outcome.OK, "who knows")).metrics["official"] == 1 / 4


def test_the_stated_letter_is_never_one_that_is_not_written():
    """Whatever letter comes out stands in the text."""
    for text in ("The answer is (j)", "boxed{F}", "answer: H.", "x\nB"):
        letter, _ = stated_letter(text, 10)
        assert letter is None or re.search(letter, text, re.IGNORECASE)
