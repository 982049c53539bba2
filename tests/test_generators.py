"""The demo's tasks: what the generators promise, and the samples that are shipped."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from evalsuite.errors import SpecError
from evalsuite.records import Sample
from evalsuite.shipped import shipped
from evalsuite.task.generators import GENERATORS, cloze, minimal_pairs
from evalsuite.task.tasks import LONG_CONTEXT, read_task_file, task_folders

# A digest may change only together with the task's version: scores compare within a version.
SHIPPED = {
    "agreement": "cf625b600b824913",
    "categories": "cc5014f2e103a062",
    "extraction": "3bfdd5a6f13e94b3",
    "facts": "53d9f8434624ed61",
    "recall": "53ba7bd67635a0fc",
}


def make(task: str, **changes: object) -> list[Sample]:
    folder = shipped("tasks") / task
    options = yaml.safe_load((folder / "task.yaml").read_text(encoding="utf-8"))["generator"]
    return GENERATORS[options["name"]](options | changes, folder)


def words_in(folder: Path, content: object) -> Path:
    (folder / "words.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("task", SHIPPED)
def test_shipped_samples_are_pinned(task: str):
    """Every shipped task gives exactly the samples of its version, here and on every machine."""
    samples = [asdict(sample) for sample in make(task)]
    assert hashlib.sha256(json.dumps(samples, sort_keys=True).encode()).hexdigest()[:16] == SHIPPED[task]


@pytest.mark.parametrize("task", SHIPPED)
def test_samples_are_well_formed(task: str):
    """Ids are unique, choices differ, the target is among them and stands now here, now there."""
    samples = make(task)
    assert len({sample.sample_id for sample in samples}) == len(samples)
    assert all(len(set(sample.choices)) == len(sample.choices) for sample in samples)
    if samples[0].choices:
        assert {sample.target for sample in samples} == set(range(len(samples[0].choices)))


@pytest.mark.parametrize("task", SHIPPED)
def test_another_seed_asks_something_else(task: str):
    """The seed decides what is asked."""
    assert make(task, seed=99) != make(task)


def test_ids_come_from_the_content():
    """The ids of a shorter task are those of the same questions in a longer one."""
    longer = {sample.sample_id: sample.prompt for sample in make("recall", size=40)}
    assert all(longer[sample.sample_id] == sample.prompt for sample in make("recall", size=20))


def test_minimal_pairs_fill_frames(tmp_path: Path):
    """A slot takes the form its frame names, slots of one list never share an entry, and paradigms share evenly."""
    nouns = [["cat", "cats"], ["dog", "dogs"], ["cow", "cows"]]
    form = {"slots": {"a": "noun", "b": "noun"}, "frames": [["The {a[0]} of the {b[1]}", " is", " are"]]}
    folder = words_in(tmp_path, {"words": {"noun": nouns}, "paradigms": {"one": form, "two": form}})
    samples = minimal_pairs({"seed": 1, "size": 11, "words": "words.yaml"}, folder)
    assert Counter(sample.stratum for sample in samples) == {"one": 6, "two": 5}
    possible = {f"The {a[0]} of the {b[1]}" for a in nouns for b in nouns if a != b}
    assert {sample.prompt for sample in samples} == possible
    assert {sample.choices[sample.target] for sample in samples} == {" is"}


def test_minimal_pairs_say_when_words_run_out(tmp_path: Path):
    """Too few words for the size is an error that names the paradigm, not a shorter task."""
    form = {"slots": {"a": "noun"}, "frames": [["The {a}", " is", " are"]]}
    folder = words_in(tmp_path, {"words": {"noun": ["cat", "dog"]}, "paradigms": {"short": form}})
    with pytest.raises(SpecError, match=r"paradigm short: .* only 2 of 3"):
        minimal_pairs({"seed": 1, "size": 3, "words": "words.yaml"}, folder)


PLACES = {
    "place": {"prompt": "{} is in", "pairs": {"Oslo": "Norway", "Bergen": "Norway", "Rome": "Italy", "Bonn": "Germany"}}
}


def test_cloze_asks_for_the_pair(tmp_path: Path):
    """The right choice is the word's answer, the others are other answers, and the word is never among the shots."""
    options = {"seed": 1, "size": 4, "words": "words.yaml", "choices": 3, "shots": 2}
    for sample in cloze(options, words_in(tmp_path, PLACES)):
        *shots, asked = sample.prompt.split("\n")
        word = asked.removesuffix(" is in")
        assert sample.choices[sample.target] == f" {PLACES['place']['pairs'][word]}"
        assert set(sample.choices) == {" Norway", " Italy", " Germany"}
        assert len(shots) == 2
        assert not any(shot.startswith(word) for shot in shots)


def test_cloze_refuses_more_than_it_has(tmp_path: Path):
    """A size above the number of pairs is an error that says how many there are."""
    with pytest.raises(SpecError, match="there are 4 pairs"):
        cloze({"seed": 1, "size": 5, "words": "words.yaml", "choices": 3, "shots": 0}, words_in(tmp_path, PLACES))


def test_recall_has_one_answer():
    """The code asked for is told once in the prompt, for the place that the last words name."""
    for sample in make("recall"):
        question = sample.prompt.rsplit(". ", 1)[1]
        assert sample.prompt.count(f"{question} ") == 1
        assert f"{question} {sample.target}." in sample.prompt
        assert sample.stratum == f"{sample.prompt.count('The code for') - 1} codes"


def test_recall_depth_is_where_the_code_stands():
    """Depth runs from 0, the first sentence, to 1, the last one before the question."""
    for sample in make("recall"):
        sentences = sample.prompt.split(". ")[:-1]
        (found,) = [index for index, sentence in enumerate(sentences) if sentence.endswith(sample.target)]
        assert sample.metadata["depth"] == found / (len(sentences) - 1)


def test_extraction_fields_are_in_the_sentence():
    """Name and item stand in the sentence to be read, the shots have solutions that parse, and none is the question."""
    for sample in make("extraction"):
        system, *turns, asked = sample.prompt
        assert (system["role"], asked["role"], asked["content"]) == ("system", "user", sample.metadata["text"])
        assert sample.target["name"] in asked["content"]
        assert sample.target["item"] in asked["content"]
        shots = list(zip(turns[::2], turns[1::2], strict=True))
        assert len(shots) == 2
        for shot, solution in shots:
            assert (shot["role"], solution["role"]) == ("user", "assistant")
            assert json.loads(solution["content"])["item"] in shot["content"]
            assert shot["content"] != asked["content"]


def test_generators_are_all_shipped():
    """Every generator serves a shipped task."""
    files = [read_task_file(folder) for folder in task_folders().values()]
    assert {file.generator["name"] for file in files if file.generator} == {*GENERATORS, LONG_CONTEXT}
