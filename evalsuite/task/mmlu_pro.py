"""MMLU-Pro: its two official prompts and two of ours, and the letter that an answer states.

The wording of `official-local` and `official-api`, and the ladder of `official_letter`, are those of evaluate_from_local.py
and evaluate_from_api.py in TIGER-AI-Lab/MMLU-Pro (Apache-2.0), which the tests pin byte by byte.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.records import Message, Outcome, Output, Prompt, Sample, Scored
from evalsuite.task.datasets import Dataset, Row

LETTERS = "ABCDEFGHIJ"

_LOCAL_HEAD = (
    "The following are multiple choice questions (with answers) about {}. Think step by step and then finish your answer "
    'with "the answer is (X)" where X is the correct letter choice.\n\n\n'
)
_API_HEAD = (
    "The following are multiple choice questions (with answers) about {}. Think step by step and then output the answer in "
    'the format of "The answer is (X)" at the end.\n\n'
)
_STEPS = "Let's think step by step."


def mmlu_pro(dataset: Dataset, options: Mapping[str, Any]) -> list[Sample]:
    """Turn the questions of `test` into samples in one `style`, with the first `shots` worked examples of their category.

    `official-local` is raw text that the model goes on with, `official-api` one message of a user; `zero-shot` (a
    message, no examples) and `letters` (raw text up to the letter, one of which is chosen) are ours. Upstream leaves out
    examples until a prompt is below 2,048 tokens; here a prompt that does not fit the context is an overflow. Options
    that say "N/A" are dropped, as upstream drops them. The stratum is the category, the choices are the options, and of
    `letters` the letters.
    """
    write = STYLES[options["style"]]
    shots = int(options.get("shots", 0))
    examples: dict[str, list[Row]] = {}
    for row in dataset.splits.get("validation", ()):
        examples.setdefault(row["category"], []).append(_without_gaps(row))
    samples = []
    for row in map(_without_gaps, dataset.splits["test"]):
        shown = examples.get(row["category"], [])[:shots]
        if len(shown) < shots:
            raise SpecError(
                f"{shots} worked examples of category {row['category']!r} are needed and {len(shown)} are there: give a "
                "folder with the split `validation` too, or ask the zero-shot form of the task."
            )
        letters = tuple(f" {letter}" for letter in LETTERS[: len(row["options"])])
        choosing = options["style"] == "letters"
        samples.append(Sample(
            str(row["question_id"]), write(row, shown), row["answer_index"] if choosing else row["answer"],
            letters if choosing else tuple(row["options"]), stratum=row["category"],
        ))  # fmt: skip
    return samples


def _without_gaps(row: Row) -> Row:
    options = [option for option in row["options"] if option != "N/A"]
    return {**row, "options": options}


def _lettered(options: Sequence[str]) -> str:
    return "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=False))


def _official_local(row: Row, examples: Sequence[Row]) -> str:
    def question(shown: Row) -> str:
        return f"Question:\n{shown['question']}\nOptions:\n{_lettered(shown['options'])}"

    worked = "".join(
        f"{question(each)}{each['cot_content'].replace(f'A: {_STEPS}', f'Answer: {_STEPS}')}\n\n" for each in examples
    )
    return f"{_LOCAL_HEAD.format(row['category'])}\n{worked}{question(row)}Answer: {_STEPS}"


def _official_api(row: Row, examples: Sequence[Row]) -> tuple[Message, ...]:
    def answered(shown: Row, reasoning: str) -> str:
        return f"Question: {shown['question']}\nOptions: {_lettered(shown['options'])}Answer: {reasoning}\n\n"

    worked = "".join(answered(each, each["cot_content"].removeprefix("A: ") or _STEPS) for each in examples)
    return _asked(_API_HEAD.format(row["category"]) + worked + answered(row, _STEPS))


def _zero_shot(row: Row, _examples: Sequence[Row]) -> tuple[Message, ...]:
    return _asked(
        f"{row['question']}\n\n{_lettered(row['options'])}\nExactly one of these options is right. Work out which one, and "
        'end with a line of its own: "The answer is (X)", where X is its letter.'
    )


def _letters(row: Row, examples: Sequence[Row]) -> str:
    def question(shown: Row) -> str:
        return f"Question: {shown['question']}\n{_lettered(shown['options'])}Answer:"

    head = f"Multiple choice questions about {row['category']}, each with the letter of the right option.\n\n"
    return head + "".join(f"{question(each)} {each['answer']}\n\n" for each in examples) + question(row)


def _asked(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


STYLES: Mapping[str, Callable[[Row, Sequence[Row]], Prompt]] = {
    "official-local": _official_local, "official-api": _official_api, "zero-shot": _zero_shot, "letters": _letters,
}  # fmt: skip
"""How a question is put, by name."""


_STATED = re.compile(
    r"""
    \b(?:answer|choice|option)\s*(?:is|:)\s*:?\s*(?:definitely|therefore|probably|clearly|simply|option|choice|letter)?\s*
    | \bboxed\s*\{\s*
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What stands in front of a stated letter."""

_LETTER = re.compile(
    r"""
    (?: [(\[{]\s*([A-Za-z])\s*[)\]}]                                # (C)
      | ([A-Z])(?=\s*(?:[)\]}.,;:!?\n–—-]|$|because\b|since\b|which\b|based\b)) )  # C. where a clause ends
    (?!\s*(?:,|/|or\b|and\b)\s*[(\[]?[A-Z]\b)                       # (A) or (B) is no answer
    """,
    re.VERBOSE,
)
"""A letter that is no word: in brackets, or where a clause ends, so that "the answer is A car" states none."""


def stated_letter(text: str, count: int) -> tuple[str | None, str]:
    """Return the letter that an answer states for one of `count` options, and the rule that found it.

    The last explicit statement wins ("answer is (X)", "Answer: X", a box): what was said earlier was reconsidered. Without
    one, a letter that stands alone on the last line counts. Markdown and LaTeX are taken off first. A letter that the
    question does not have is no answer, and nothing is guessed: the rule is then `none`.
    """
    plain = _plain(text)
    known = LETTERS[:count]
    for opening in reversed(list(_STATED.finditer(plain))):
        found = _LETTER.match(plain, opening.end())
        if found:
            letter = (found[1] or found[2]).upper()
            rule = "boxed" if "boxed" in opening[0].lower() else "stated"
            return (letter, rule) if letter in known else (None, "none")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    alone = re.fullmatch(r"[(\[]?([A-Z])[)\].]?", lines[-1]) if lines else None
    return (alone[1], "alone") if alone and alone[1] in known else (None, "none")


def _plain(text: str) -> str:
    """Take off reasoning, Markdown and LaTeX that stand around a letter; a box keeps its braces."""
    text = re.split(r"</think(?:ing)?>", text)[-1]
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|rm)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[()\[\]]|\$|\*+|`+|(?<!\w)_+|_+(?!\w)|\\(?=boxed)", "", text)
    return re.sub(r"[ \t ]+", " ", text)


def official_letter(text: str) -> str | None:
    """Return the letter that upstream's ladder reads: the first "answer is X", the first "answer: X", the last lone A to J."""
    for pattern, flags in (
        (r"answer is \(?([A-J])\)?", 0),
        (r".*[aA]nswer:\s*([A-J])", 0),
        (r"\b([A-J])\b(?!.*\b[A-J]\b)", re.DOTALL),
    ):
        if found := re.search(pattern, text, flags):
            return found[1]
    return None


def score_letter(sample: Sample, output: Output) -> Scored:
    """Score the stated letter; `rule` says how it was found, `official` is upstream's score of the same text.

    Where upstream would draw a letter at random, `official` is the draw's expected value. `accuracy_completed` is there
    only for answers that were not cut off.
    """
    letter, rule = stated_letter(output.text, len(sample.choices))
    cut = output.outcome is Outcome.TRUNCATED
    right = float(letter == sample.target)
    upstream = official_letter(output.text.replace("**", ""))
    official = 1 / len(sample.choices) if upstream is None else float(upstream == sample.target)
    metrics = {"rule": rule, "official": official} | ({} if cut else {"accuracy_completed": right})
    outcome = Outcome.OK if letter else Outcome.TRUNCATED if cut else Outcome.UNPARSED
    return Scored(right, outcome, letter, metrics=metrics)
