"""`evalsuite score TASK --outputs FILE`: answers from anywhere, scored as a run scores them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.cli import main

ROW = {"question_id": 7, "question": "Which is a mammal?", "options": ["Bat", "Hen"], "answer": "A", "answer_index": 0,
       "cot_content": "", "category": "biology"}  # fmt: skip


@pytest.fixture
def score(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Score rows of outputs of the zero-shot form of a small MMLU-Pro, through the command line."""

    def run(*rows: object, task: str = "mmlu_pro_zero_shot") -> tuple[int, Any, str]:
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(ROW | {"question_id": each}) + "\n" for each in range(7, 27)))
        (tmp_path / "outputs.jsonl").write_text("\n".join(map(json.dumps, rows)))
        words = ["score", task, "--outputs", str(tmp_path / "outputs.jsonl"), "--json", "--data", f"{task}={data}"]
        monkeypatch.setattr(sys, "argv", ["evalsuite", *words])
        status = main()
        said = capsys.readouterr()
        return status, json.loads(said.out) if status == 0 else None, said.err

    return run


def test_each_answer_has_score_outcome_and_answer(score: Callable[..., Any]):
    """Texts and messages are scored alike, reasoning is no answer, and each row says what was made of it."""
    status, scored, _ = score(
        {"sample_id": 7, "output": "The answer is (A)."},
        {"sample_id": "8", "output": {"role": "assistant", "content": "The answer is (B)."}},
        {"sample_id": "9", "output": "<think>The answer is (A).</think>"},
        {"sample_id": "10", "output": "Well, the", "finish_reason": "length"},
        {"sample_id": "11", "output": "no idea"},
    )
    assert (status, scored["task"], scored["n"], scored["score"]) == (0, "mmlu_pro_zero_shot", 5, 0.2)
    assert [(row["sample_id"], row["score"], row["outcome"], row["answer"]) for row in scored["samples"]] == [
        ("7", 1, "ok", "A"), ("8", 0, "ok", "B"), ("9", 0, "empty", None), ("10", 0, "truncated", None),
        ("11", 0, "unparsed", None),
    ]  # fmt: skip


def test_several_answers_of_one_sample_are_one_observation(score: Callable[..., Any]):
    """Two answers of one sample count as their mean, once."""
    _, scored, _ = score(
        *({"sample_id": "7", "output": f"The answer is ({letter})."} for letter in "AB"),
        {"sample_id": "8", "output": "The answer is (A)."},
    )
    assert (scored["n"], scored["score"], len(scored["samples"])) == (2, 0.75, 3)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"sample_id": "nine", "output": "A"}, "no sample 'nine'"),
        ({"output": "A"}, "sample_id: Field required"),
        ({"sample_id": "7", "answer": "A"}, "Keys: sample_id, output"),
        ({"sample_id": "7", "output": [-1.0]}, "1 log-probabilities for 2 choices"),
    ],
)
def test_what_cannot_be_scored_is_named(score: Callable[..., Any], row: dict[str, Any], said: str):
    """A foreign sample, a missing key or the wrong number of choices is refused with its row, exit 2."""
    status, _, error = score({"sample_id": "7", "output": "The answer is (A)."}, row)
    assert (status, "row 2" in error, said in error) == (2, True, True)
