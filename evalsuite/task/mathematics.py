"""Mathematics with one right answer: GSM8K's numbers and MATH's expressions, read from the end of a worked solution."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.records import Outcome, Output, Sample, Scored
from evalsuite.task.datasets import Dataset

_ASK = 'Solve the problem step by step, then end with a line "#### N", where N is the answer as a number.'


def gsm8k(dataset: Dataset, options: Mapping[str, Any]) -> list[Sample]:
    """Turn GSM8K's test problems into conversations with the first `shots` problems of `train` as solved turns.

    The calculator marks (`<<16-3=13>>`) are taken out of the shown solutions. The target is the number as GSM8K writes it.
    """
    shots = int(options.get("shots", 0))
    shown = dataset.splits.get("train", ())[:shots]
    if len(shown) < shots:
        raise SpecError(
            f"{shots} solved problems are needed and the split `train` has {len(shown)}: give a folder with both splits."
        )
    turns = [
        turn
        for row in shown
        for turn in (
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": re.sub(r"<<[^<>]*>>", "", row["answer"])},
        )
    ]
    system = {"role": "system", "content": _ASK}
    return [
        Sample(str(number), (system, *turns, {"role": "user", "content": row["question"]}), _gold(row["answer"]))
        for number, row in enumerate(dataset.splits["test"])
    ]


def _gold(answer: str) -> str:
    return answer.rsplit("####", 1)[1].strip()


def math_500(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Turn MATH problems (problem, answer, subject, level, unique_id) into conversations; the stratum is subject and level."""
    ask = "Solve the problem step by step, then give the final answer alone in \\boxed{}."
    return [
        Sample(
            str(row.get("unique_id", number)),
            ({"role": "system", "content": ask}, {"role": "user", "content": row["problem"]}),
            row["answer"] if "answer" in row else boxed(row["solution"]),
            stratum=f"{row.get('subject', row.get('type', ''))} {row.get('level', '')}".strip() or None,
        )
        for number, row in enumerate(dataset.splits["test"])
    ]


_GAP = "[, \\u00a0\\u202f]"
"""What stands between thousands: a comma or a blank of any kind."""

_NUMBER = re.compile(rf"[-+]?(?:\d{{1,3}}(?:{_GAP}\d{{3}})+(?!\d)|\d+)?(?:\.\d+)?(?:\s*/\s*\d+)?(?:[eE][-+]?\d+)?")
_STATEMENT = re.compile(r"(?:####|\banswer(?:\s+is|\s*:)|\\boxed\s*\{)(?=([^\n]*))", re.IGNORECASE)


def read_number(text: str) -> Fraction | None:
    """Return a number as people write it, exactly: `1,450,000`, `−3.50`, `$1 234`, `3/4`, `2e3`, `50%`; None for all else.

    A comma separates thousands only; a sign is a minus of any kind; units and currency marks are left aside.
    """
    text = re.sub(r"\\(?:text|mathrm|,|!|;|\$|%)|[$€£¥%°{}\\]|\b[a-zA-Z]+\b\.?", " ", text.replace("−", "-")).strip(
        " .:*_\n"
    )
    if not text or not re.fullmatch(_NUMBER, text):
        return None
    text = re.sub(rf"(?<=\d){_GAP}(?=\d{{3}})", "", text).replace(" ", "")
    whole, _, below = text.partition("/")
    try:
        return Fraction(whole) / Fraction(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def stated_number(text: str) -> tuple[str | None, str]:
    """Return the number that a solution ends with, as written, and the rule that found it.

    The last of "#### N", "answer is N" and a box counts (`stated`); without one, the last number of the text
    (`last_number`), as is usual for this set; `none` where there is no number.
    """
    plain = re.sub(r"\*+|`+", "", re.split(r"</think(?:ing)?>", text)[-1].replace("−", "-"))
    for statement in reversed(_STATEMENT.findall(plain)):
        if found := _numbers(statement.rsplit("=", 1)[-1]):  # "the answer is 10 - 3 = 7" states 7
            return found[0], "stated"
    numbers = _numbers(plain)
    return (numbers[-1], "last_number") if numbers else (None, "none")


def _numbers(text: str) -> list[str]:
    return [found[0] for found in _NUMBER.finditer(text) if re.search(r"\d", found[0])]


def score_number(sample: Sample, output: Output) -> Scored:
    """Score the number that a solution states, compared exactly; `strict` counts a line "#### N" only."""
    written, rule = stated_number(output.text)
    wanted = read_number(str(sample.target))
    right = float(written is not None and wanted is not None and read_number(written) == wanted)
    marked = re.findall(r"####\s*(\S[^\n]*)", output.text)
    strict = float(bool(marked) and wanted is not None and read_number(marked[-1]) == wanted)
    cut = output.outcome is Outcome.TRUNCATED
    if cut and rule != "stated":  # the last number of half a solution is no answer
        return Scored(0.0, Outcome.TRUNCATED, written, metrics={"rule": rule, "strict": strict})
    outcome = Outcome.OK if written else Outcome.UNPARSED
    return Scored(right, outcome, written, metrics={"rule": rule, "strict": strict})


def boxed(text: str) -> str | None:
    """Return what stands in the last box of a LaTeX text, braces matched; None without a closed box."""
    for opening in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*", text))):
        if not text[opening.end() :].startswith("{"):
            continue
        depth = 0
        for place in range(opening.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[opening.end() + 1 : place].strip()
    return None


def normal_form(expression: str) -> str:
    """Return a LaTeX expression without what changes no value: blanks, sizes of brackets, units, a final point.

    Equal forms are equal values; unequal forms may still be equal values, since nothing is computed but plain fractions.
    """
    text = expression.strip().rstrip(".").replace("−", "-")
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\s*\{\s*([^{}]*)\}", _worded, text)
    text = re.sub(
        r"\\(?:left|right|big|Big|displaystyle|,|!|;|:|quad| )|\\\$|\$|\\%|%|\^\s*\{?\\circ\}?|\\degree", "", text
    )
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\w)\s*(\w)(?!\w)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"^[a-zA-Z](?:\([a-zA-Z]\))?=(?=.)", "", text)  # x = 5 says 5
    text = re.sub(r"^\\frac\{(-?\d+)\}\{(-?\d+)\}$", r"\1/\2", text)
    text = re.sub(r"^-\\frac\{(\d+)\}\{(\d+)\}$", r"-\1/\2", text)
    number = None if re.search(r"[a-zA-Z\\{}]", text) else read_number(text)
    return str(number) if number is not None else text


def _worded(found: re.Match[str]) -> str:
    """Keep a word that is the answer, drop one that follows a number as its unit."""
    before = found.string[: found.start()].strip()
    return "" if before and before[-1].isdigit() else found[1]


def score_expression(sample: Sample, output: Output) -> Scored:
    """Score the last box of a solution by normal form; without a box, what follows the last "answer is"."""
    answer = boxed(output.text)
    if answer is None:
        said = re.findall(r"answer\s+is:?\s*\$?([^\n$]+)", output.text, re.IGNORECASE)
        answer = said[-1].strip() if said else None
    cut = output.outcome is Outcome.TRUNCATED
    if answer is None:
        return Scored(0.0, Outcome.TRUNCATED if cut else Outcome.UNPARSED)
    return Scored(float(normal_form(answer) == normal_form(str(sample.target))), answer=answer)
