"""Numbers and expressions at the end of a worked solution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.records import Outcome, Output, Sample
from evalsuite.task.datasets import Dataset
from evalsuite.task.mathematics import boxed, gsm8k, normal_form, read_number, score_expression, score_number

ROWS = [{"question": "2 + 2?", "answer": "2+2=<<2+2=4>>4 apples\n#### 4"}]


@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_a_written_number_is_read_back(whole: int, cents: int):
    """Separators, currency, decimals, units and any minus sign change no value."""
    for text in (
        str(whole),
        f"{whole:,}",
        f"${whole:,}",
        f"{whole} dollars",
        f"**{whole}**.",
        str(whole).replace("-", "−"),
    ):
        assert read_number(text.replace("*", "")) == whole, text
    sign = "-" if whole < 0 else ""
    assert read_number(f"{whole:,}.{cents:02}") * 100 == whole * 100 + int(f"{sign}{cents}")


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("so 3 + 4 = 7\n#### 7", "7", "stated"),
        ("#### 1,450,000", "1,450,000", "stated"),
        ("The answer is -5.", "-5", "stated"),
        ("The answer is 10 - 3 = 7", "7", "stated"),
        ("\\boxed{12}", "12", "stated"),
        ("First 10, then the answer is 4. No: the answer is 6.", "6", "stated"),
        ("We get 5, 6, and then 9 apples", "9", "last_number"),
    ],
)
def test_the_number_a_solution_ends_with(text: str, answer: str, rule: str):
    """The last statement wins, else the last number; the rule says which it was."""
    scored = score_number(Sample("1", "", answer), Output(Outcome.OK, text))
    assert (scored.value, scored.answer, scored.metrics["rule"]) == (1, answer, rule)


def test_half_a_solution_has_no_answer():
    """The last number of a solution that was cut off is no answer, but a stated one is; no number is unparsed."""
    sample = Sample("1", "", "9")
    cut = score_number(sample, Output(Outcome.TRUNCATED, "Then there are 9"))
    assert (cut.value, cut.outcome) == (0, Outcome.TRUNCATED)
    assert score_number(sample, Output(Outcome.TRUNCATED, "#### 9\nLet me")).value == 1
    assert score_number(sample, Output(Outcome.OK, "I do not know")).outcome is Outcome.UNPARSED


def test_solved_turns_come_without_calculator_marks():
    """The solutions shown hold no `<<…>>`, the target is what follows `####`, and the marks alone make the line strict."""
    (sample,) = gsm8k(Dataset({"test": ROWS, "train": ROWS}, ""), {"shots": 1})
    assert [turn["role"] for turn in sample.prompt] == ["system", "user", "assistant", "user"]
    assert sample.prompt[2]["content"] == "2+2=4 apples\n#### 4"
    assert (sample.target, score_number(sample, Output(Outcome.OK, "It is 4")).metrics["strict"]) == ("4", 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("\\frac12", "\\dfrac{1}{2}"), ("0.5", "\\frac{1}{2}"), ("x=5", "5"), ("5\\text{ cm}", "5"),
        ("\\text{Evelyn}", "Evelyn"), ("90^\\circ", "90"), ("1,000", "1000"), ("( 1, 2 )", "(1,2)"),
        ("\\left(3,\\frac{\\pi}{2}\\right)", "(3,\\frac{\\pi}{2})"), ("-\\frac{3}{4}", "-0.75"), ("10\\%", "10"),
        ("2\\sqrt3", "2\\sqrt{3}"), ("\\$18.90", "18.9"),
    ],
)  # fmt: skip
def test_equal_expressions_have_one_form(first: str, second: str):
    """What changes no value is taken off."""
    assert normal_form(first) == normal_form(second)


@pytest.mark.parametrize(
    ("first", "second"), [("(1,2)", "(2,1)"), ("\\frac{1}{2}", "\\frac{2}{1}"), ("x^2", "x"), ("1,2", "12")]
)
def test_unequal_expressions_stay_apart(first: str, second: str):
    """Order, exponents and lists are part of an answer."""
    assert normal_form(first) != normal_form(second)


def test_the_last_closed_box_counts():
    """Braces are matched, an open box is none, and without a box "answer is" counts."""
    assert boxed("\\boxed{1} then \\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert boxed("\\boxed{1} then \\boxed{2") == "1"
    sample = Sample("1", "", "\\frac{1}{2}")
    assert score_expression(sample, Output(Outcome.OK, "The answer is $0.5$")).value == 1
    assert score_expression(sample, Output(Outcome.TRUNCATED, "and so")).outcome is Outcome.TRUNCATED
