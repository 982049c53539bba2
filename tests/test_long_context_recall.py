"""Scoring of long-context answers: recall of values, and the letter of LongBench v2."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import SpecError
from evalsuite.records import Outcome, Output, Sample
from evalsuite.shipped import shipped
from evalsuite.task.long_context.longbench import PROMPT
from evalsuite.task.long_context.longbench import score_said_letter as letter
from evalsuite.task.long_context.recall import recall
from evalsuite.task.room import Room
from evalsuite.task.tasks import Task, read_task

UUID = "8c1f0a52-9d3e-4b7a-8f60-1e2d3c4b5a69"

FOUND = [
    (UUID, f"The secret code is **{UUID}**."),
    (UUID, f"`{UUID.upper()}`"),
    (UUID, UUID.replace("-", "")),
    (UUID, UUID.replace("-", "\u2011")),
    (UUID, f'{{"code":"{UUID}"}}'),
    (UUID, f"_{UUID}_"),
    (UUID, f"- {UUID}\n- 11111111-2222-4333-8444-555555555555"),
    (UUID, f"-{UUID}"),
    ("4812953", "4812953"),
    ("4812953", "It is 4,812,953."),
    ("4812953", "1234567,4812953"),
    ("4812953", "1: 4812953; 2: 7654321"),
    ("KOVUMA", "kovuma and Tilope"),
    ("KOVUMA", "KOVUMA=TILOPE"),
    ("KOVUMA", "TILOPE->KOVUMA's"),
]

NOT_FOUND = [
    (UUID, UUID[:-1]),
    (UUID, f"{UUID}0"),
    (UUID, f"{UUID}-0000"),
    (UUID, f"f-{UUID}"),
    (UUID, UUID.replace("-", " ")),
    (UUID, f"{UUID[:-1]}8"),
    (UUID, "I found the code in the text."),
    ("4812953", "48129530"),
    ("4812953", "14,812,953"),
    ("4812953", "4812953.5"),
    ("4812953", "0.4812953"),
    ("4812953", "4812 953"),
    ("4812953", "a4812953"),
    ("KOVUMA", "KOVUMATI"),
    ("KOVUMA", "kovum"),
    ("KOVUMA", "akovuma"),
]


def asks(*target: str) -> Sample:
    shape = "uuid" if "-" in target[0] else "number" if target[0].isdigit() else "word"
    return Sample("s", "", [*target], metadata={"shape": shape})


def ok(text: str) -> Output:
    return Output(Outcome.OK, text=text)


@pytest.mark.parametrize(("wanted", "text"), FOUND)
def test_a_value_is_found_however_it_is_written(wanted: str, text: str):
    """Case, hyphens, commas, quotes and emphasis do not hide a value."""
    assert recall(asks(wanted), ok(text)).value == 1


@pytest.mark.parametrize(("wanted", "text"), NOT_FOUND)
def test_what_is_not_the_whole_value_is_not_found(wanted: str, text: str):
    """A part of a value, a value inside something longer, and another value earn nothing."""
    assert recall(asks(wanted), ok(text)).value == 0


VALUES = {
    "uuid": st.uuids(version=4).map(str),
    "number": st.integers(1_000_000, 9_999_999).map(str),
    "word": st.lists(st.sampled_from(["ba", "ke", "ri", "zo", "tu"]), min_size=3, max_size=3).map("".join),
}


@given(st.sampled_from([*VALUES]), st.data(), st.sampled_from(["\n", ", ", "; ", " and ", "**, **", "`\n- `"]))
def test_recall_is_the_share_of_wanted_values(shape: str, data: st.DataObject, between: str):
    """Whatever part of the values is given, in whatever order and among whatever others, that share is the score."""
    values = data.draw(st.lists(VALUES[shape], min_size=1, max_size=8, unique=True))
    wanted = values[: data.draw(st.integers(1, len(values)))]
    told = data.draw(st.lists(st.sampled_from(values), unique=True))
    scored = recall(asks(*wanted), ok(between.join(["I found", *told, "there."])))
    assert scored.metrics["found"] == [value in told for value in wanted]
    assert scored.value == sum(value in told for value in wanted) / len(wanted)
    assert scored.metrics["precision"] == (sum(value in wanted for value in told) / len(told) if told else None)
    assert scored.outcome == (Outcome.OK if told else Outcome.UNPARSED)


def test_a_cut_answer_keeps_what_it_found():
    """An answer cut off after one of two values has half the score as truncated; with both it is whole."""
    sample = asks("1234567", "7654321")
    half = recall(sample, Output(Outcome.TRUNCATED, text="1234567\n765432"))
    assert (half.value, half.outcome) == (0.5, Outcome.TRUNCATED)
    whole = recall(sample, Output(Outcome.TRUNCATED, text="1234567\n7654321\nThese were"))
    assert (whole.value, whole.outcome) == (1, Outcome.OK)


def test_a_value_said_twice_is_one():
    """Repeating a value neither helps recall nor hurts precision, and the answer names it once."""
    scored = recall(asks("1234567", "7654321"), ok("1234567 1,234,567 1234567"))
    assert (scored.value, scored.metrics["precision"], scored.answer) == (0.5, 1.0, "1234567")


ROW = {
    "_id": "66ec0001", "domain": "Single-Document QA", "sub_domain": "Literary", "difficulty": "hard", "length": "short",
    "question": " Who left? ", "choice_A": "Ann", "choice_B": "Bob\n", "choice_C": "Cid", "choice_D": "Dee", "answer": "B",
    "context": "\nBob left.\n",
}  # fmt: skip


def in_file(folder: Path, content: Any) -> Path:
    file = folder / "data.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def longbench(file: Path, room: Room | None = None) -> Task:
    return read_task(shipped("tasks") / "longbench_v2", data=file, room=room)


def test_the_published_prompt_is_pinned():
    """The prompt is, byte for byte, the published one without examples, filled with texts without blanks at their ends."""
    assert len(PROMPT) == 262
    assert (
        hashlib.sha256(PROMPT.encode()).hexdigest()
        == "68a162252bc9ff71d5d7abca3d69bb31aac3c35f832d657a2866f2018b8a6950"
    )


def test_longbench_rows_become_samples(tmp_path: Path):
    """A row gives one message with the published prompt, the letter as target and the document as cluster."""
    rows = [ROW, {**ROW, "_id": "2", "question": "Who stayed?"}, {**ROW, "_id": "3", "context": "Ann."}]
    samples = longbench(in_file(tmp_path, rows)).samples
    first, second, other = sorted(
        samples, key=lambda sample: rows[0]["_id"] != sample.sample_id and int(sample.sample_id)
    )
    (message,) = first.prompt
    assert message == {
        "role": "user",
        "content": "Please read the following text and answer the question below.\n\n<text>\nBob left.\n</text>\n\n"
        "What is the correct answer to this question: Who left?\nChoices:\n(A) Ann\n(B) Bob\n(C) Cid\n(D) Dee\n\n"
        'Format your response as follows: "The correct answer is (insert answer here)".',
    }
    assert (first.sample_id, first.target, first.stratum) == ("66ec0001", "B", "short")
    assert first.cluster == second.cluster != other.cluster
    assert first.metadata["domain"] == "Single-Document QA"


BROKEN = [
    ("{", "not JSON"),
    ([], "holds no rows"),
    ({"rows": []}, "not the layout of longbench_v2|row 0: _id"),
    ([ROW, {key: value for key, value in ROW.items() if key != "choice_D"}], "data.json: row 1: choice_D"),
    ([{**ROW, "answer": "E"}], "data.json: row 0: answer"),
]


@pytest.mark.parametrize(("content", "said"), BROKEN)
def test_broken_longbench_data_is_told(tmp_path: Path, content: Any, said: str):
    """A file that is not LongBench v2 is refused with its name and the row."""
    with pytest.raises(SpecError, match=said):
        longbench(in_file(tmp_path, content))


def test_documents_that_do_not_fit_are_left_out_with_a_note(tmp_path: Path):
    """Documents above the room are left out for every quant, and their number is told; where none fits, that is an error."""
    file = in_file(tmp_path, [ROW, {**ROW, "_id": "2", "context": "word " * 500}])
    words = lambda texts: [len(text.split()) for text in texts]  # noqa: E731
    task = longbench(file, Room(300, words))
    assert [sample.sample_id for sample in task.samples] == ["66ec0001"]
    assert "1 samples of 2 do not fit the context" in " ".join(task.notes)
    assert len(longbench(file, Room(3000, words)).samples) == 2
    with pytest.raises(SpecError, match="no sample fits a context of 130 tokens"):
        longbench(file, Room(130, words))


LETTERS = [
    ("The correct answer is (B).", "B"),
    ("**The correct answer is (C)**", "C"),
    ("The correct answer is D", "D"),
    ("the correct answer is: (b)", "B"),
    ("First (A) looks right, but the correct answer is (B), since Bob left.", "B"),
    ("The correct answer is (B). I repeat: the correct answer is B.", "B"),
    ("(B)", "B"),
    (" B. ", "B"),
    ("The correct answer is Because nobody left", None),
    ("The correct answer is (A). No: the correct answer is (B).", None),
    ("B it is", None),
    ("A man left", None),
    ("(E)", None),
    ("Bob left.", None),
]


@pytest.mark.parametrize(("text", "answer"), LETTERS)
def test_a_letter_is_read_and_never_guessed(text: str, answer: str | None):
    """The letter after the wanted phrase, or one alone, is the answer; two, or none, are unparsed."""
    scored = letter(Sample("s", "", "B"), ok(text))
    assert scored.answer == answer
    assert scored.outcome == (Outcome.OK if answer else Outcome.UNPARSED)
    assert scored.value == (answer == "B")


def test_the_published_rule_is_a_metric_of_its_own():
    """What the published rule makes of an answer stands beside our score, also where ours reads nothing."""
    two = letter(Sample("s", "", "A"), ok("The correct answer is (A). No: The correct answer is (B)."))
    assert (two.value, two.metrics["published"]) == (0, 1)
    word = letter(Sample("s", "", "B"), ok("The correct answer is Because"))
    assert (word.value, word.metrics["published"]) == (0, 1)


def test_a_cut_letter_is_truncated():
    """A cut answer counts as truncated unless it names the right letter."""
    sample = Sample("s", "", "B")
    assert letter(sample, Output(Outcome.TRUNCATED, text="The correct answer")).outcome is Outcome.TRUNCATED
    assert letter(sample, Output(Outcome.TRUNCATED, text="The correct answer is (B), for")).value == 1
