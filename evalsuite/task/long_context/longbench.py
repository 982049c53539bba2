"""LongBench v2: four choices about a long document. The data is the hub's data.json, a list of rows."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsuite.errors import SpecError
from evalsuite.identity import text_sha256
from evalsuite.records import Outcome, Output, Sample, Scored
from evalsuite.task.datasets import Dataset, Row

PROMPT = """\
Please read the following text and answer the question below.

<text>
$DOC$
</text>

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Format your response as follows: "The correct answer is (insert answer here)"."""
"""The published prompt without examples: prompts/0shot.txt of THUDM/LongBench."""

_SAID = re.compile(r"the correct answer is:?\s*(?:\(([a-d])\)|([a-d])(?![^\W_]))", re.IGNORECASE)
_BARE = re.compile(r"\s*(?:\(([A-D])\)|([A-D])\b)[.\s]*")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)
    sample_id: str = Field(alias="_id")
    domain: str
    sub_domain: str
    difficulty: str
    length: str
    question: str
    choice_A: str  # noqa: N815 - the data's own names
    choice_B: str  # noqa: N815
    choice_C: str  # noqa: N815
    choice_D: str  # noqa: N815
    answer: str = Field(pattern="^[A-D]$")
    context: str


def longbench(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Make samples of LongBench v2's rows; raises SpecError that names the row.

    The target is a letter, the stratum the length that the data names (`short`, `medium`, `long`), and questions about one
    document are a cluster. The published scores come from documents with their middle cut out where they are too long;
    here those are left out, so scores compare where nothing is.
    """
    return [_sample(index, row) for index, row in enumerate(dataset.splits["train"])]


def _sample(index: int, content: Row) -> Sample:
    try:
        row = _Row.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise SpecError(f"row {index}: {key}: {first['msg']}. Give LongBench v2's data.json.") from error
    prompt = PROMPT
    # One after the other, as where the published scores come from: a place named inside a document is filled there too.
    for place, text in [("DOC", row.context), ("Q", row.question), ("C_A", row.choice_A), ("C_B", row.choice_B),
                        ("C_C", row.choice_C), ("C_D", row.choice_D)]:  # fmt: skip
        prompt = prompt.replace(f"${place}$", text.strip())
    message = {"role": "user", "content": prompt}
    return Sample(
        row.sample_id, (message,), row.answer, cluster=text_sha256(row.context)[:12], stratum=row.length,
        metadata={"domain": row.domain, "sub_domain": row.sub_domain, "difficulty": row.difficulty},
    )  # fmt: skip


def score_said_letter(sample: Sample, output: Output) -> Scored:
    """Return 1 when the letter that the answer names is the target.

    That is the letter after "The correct answer is", or one that stands alone; an answer that names two is unparsed. The
    metric `published` is the score by the published rule, which takes the first.
    """
    text = output.text.replace("*", "")
    said = {(bracketed or bare).upper() for bracketed, bare in _SAID.findall(text)}
    if not said and (alone := _BARE.fullmatch(text)):
        said = {alone[1] or alone[2]}
    answer = said.pop() if len(said) == 1 else None
    right = answer == sample.target
    cut = output.outcome is Outcome.TRUNCATED and not right
    outcome = Outcome.TRUNCATED if cut else Outcome.OK if answer else Outcome.UNPARSED
    return Scored(float(right), outcome, answer, metrics={"published": float(_published(text) == sample.target)})


def _published(text: str) -> str | None:
    found = re.search(r"The correct answer is \(([A-D])\)", text) or re.search(r"The correct answer is ([A-D])", text)
    return found[1] if found else None
