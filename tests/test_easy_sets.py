"""HellaSwag, ARC, PIQA, LAMBADA and BLiMP: what is asked and scored is what lm-eval asks and scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalsuite.records import Outcome, Output, Sampling
from evalsuite.task.lm_eval import load_lm_eval
from evalsuite.task.tasks import Task, read_task, task_folders

HELLASWAG = {
    "ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he",
    "ctx": "", "source_id": "a", "split": "val", "split_type": "indomain", "label": "3",
    "endings": ["is using wrap.", "is ripping [substeps] tiles.", "is holding a cube.", "starts  pulling up roofing."],
}  # fmt: skip
ARC = {
    "id": "Mercury_1", "question": "Which gas do plants take in?", "answerKey": "B",
    "choices": {"text": ["oxygen", "carbon dioxide", "helium"], "label": ["A", "B", "C"]},
}  # fmt: skip
PIQA = {"goal": "Keep bread fresh", "sol1": "Freeze it.", "sol2": "Leave it in the sun, open.", "label": 0}
LAMBADA = {"text": "He closed the door and put the key in his pocket"}
BLIMP = {
    "sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps.", "UID": "regular_plural_subject_verb_agreement_1",
    "pairID": "0", "field": "morphology", "linguistics_term": "agreement", "one_prefix_method": False,
    "two_prefix_method": False, "lexically_identical": False, "simple_LM_method": True,
}  # fmt: skip
SETS = {
    "hellaswag": ("hellaswag", "default", "validation", HELLASWAG, "acc_norm,none"),
    "arc_easy": ("arc_easy", "ARC-Easy", "test", ARC, "acc_norm,none"),
    "arc_challenge": ("arc_challenge", "ARC-Challenge", "test", ARC, "acc_norm,none"),
    "piqa": ("piqa", "default", "validation", PIQA, "acc_norm,none"),
    "lambada": ("lambada_openai", "default", "test", LAMBADA, "acc,none"),
    "blimp": (
        "blimp_regular_plural_subject_verb_agreement_1",
        "regular_plural_subject_verb_agreement_1",
        "train",
        BLIMP,
        "acc,none",
    ),
}
LOGPROBS = ((-9.0, -14.0, -7.0, -30.0), (-3.0, -30.0, -20.0, -25.0), (-40.0, -31.0, -35.0, -8.0))


def _requests(task: Task) -> list[tuple[str, str]]:
    asked = next(task.solve(task.samples[0], Sampling()))
    return [(request.prompt, request.continuation) for request in asked]


def _data(folder: Path, config: str, split: str, row: Mapping[str, Any]) -> Path:
    """Write one row in the hub's layout: a file a split, and a README that says which configuration they are."""
    for each in {split, "train", "validation"}:
        (folder / f"{each}.jsonl").write_text(json.dumps(row))
    files = [{"split": file.stem, "path": file.name} for file in sorted(folder.glob("*.jsonl"))]
    configs = yaml.safe_dump({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{configs}---\n")
    return folder


@pytest.mark.parametrize("name", SETS)
def test_requests_and_scores_are_lm_evals(name: str, tmp_path: Path):
    """Contexts, continuations and scores of a row in the hub's layout are those of lm-eval's task of that set."""
    theirs_name, config, split, row, metric = SETS[name]
    folder = _data(tmp_path, config, split, row)
    ours = read_task(task_folders()[name], data=folder)
    theirs = load_lm_eval(theirs_name, data=folder)
    assert _requests(ours) == _requests(theirs)
    for logprobs in LOGPROBS:
        for is_greedy in (True, False):
            outputs = tuple(
                Output(Outcome.OK, logprob=logprob, is_greedy=is_greedy)
                for logprob in logprobs[: max(1, len(ours.samples[0].choices))]
            )
            wanted = theirs.score(theirs.samples[0], outputs).metrics[metric]
            assert ours.score(ours.samples[0], outputs).value == pytest.approx(float(wanted))


@pytest.mark.parametrize(
    ("name", "hub", "plain"),
    [
        ("hellaswag", HELLASWAG, {
            "id": 24, "context": "Roof shingle removal: A man is sitting on a roof. He", "gold": 3,
            "choices": ["is using wrap.", "is ripping tiles.", "is holding a cube.", "starts pulling up roofing."],
        }),
        ("arc_easy", ARC | {"id": "0"}, {
            "query": "Question: Which gas do plants take in?", "gold": 1,
            "choices": ["oxygen", "carbon dioxide", "helium", "oxygen"],
        }),
        ("lambada", LAMBADA, {"context": "He closed the door and put the key in his", "continuation": "pocket"}),
        ("blimp", BLIMP, {
            "uid": "regular_plural_subject_verb_agreement_1", "pair_id": "0", "good": "The cats sleep.",
            "bad": "The cats sleeps.",
        }),
    ],
)  # fmt: skip
def test_the_plain_layout_gives_the_same_samples(name: str, hub: dict[str, Any], plain: dict[str, Any], tmp_path: Path):
    """A row in the plain layout becomes the sample that the hub's row becomes; padded choices are dropped."""
    samples = []
    for number, row in enumerate((hub, plain)):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row))
        samples.append(read_task(task_folders()[name], data=file).samples)
    assert samples[0] == samples[1]


def test_equal_sentences_are_left_out(tmp_path: Path):
    """A pair of which both sentences are the same says nothing and is no sample."""
    rows = [BLIMP, BLIMP | {"sentence_bad": "The cats sleep.", "pairID": "1"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(read_task(task_folders()["blimp"], data=tmp_path).samples) == 1
