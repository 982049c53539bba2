"""HellaSwag, ARC, PIQA, LAMBADA and BLiMP as lm-eval defines them: contexts, continuations and right answers.

Each reads the hub's layout and the plain one (`context`, `choices`, `gold`) in which some of them are passed on.
"""

import re
from collections.abc import Mapping
from typing import Any

from evalsuite.records import Sample
from evalsuite.task.datasets import Dataset


def hellaswag(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Ask how a scene goes on; the choices are endings."""
    samples = []
    for number, row in enumerate(dataset.splits["validation"]):
        if "endings" in row:
            begun = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
            context, endings, gold = _how_to(begun), [_how_to(each) for each in row["endings"]], row["label"]
            sample_id = row.get("ind", number)
        else:
            context, endings, gold, sample_id = row["context"], row["choices"], row["gold"], row.get("id", number)
        samples.append(Sample(str(sample_id), context, int(gold), tuple(f" {each}" for each in endings)))
    return samples


def _how_to(text: str) -> str:
    """Clean a text as lm-eval does: marks that WikiHow left."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def arc(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Ask a question of school science; the choices are answers, not letters.

    The plain layout pads three options to four by repeating one: what is there twice is dropped.
    """
    samples = []
    for number, row in enumerate(dataset.splits["test"]):
        if "query" in row:
            asked, sample_id = row["query"].removeprefix("Question: "), str(number)
            right, texts = row["choices"][int(row["gold"])], list(dict.fromkeys(row["choices"]))
        else:
            asked, texts, sample_id = row["question"], row["choices"]["text"], row["id"]
            right = texts[row["choices"]["label"].index(row["answerKey"])]
        choices = tuple(f" {text}" for text in texts)
        samples.append(Sample(sample_id, f"Question: {asked}\nAnswer:", texts.index(right), choices))
    return samples


def piqa(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Ask which of two ways reaches a goal of everyday life."""
    return [
        Sample(
            str(number), f"Question: {row['goal']}\nAnswer:", int(row["label"]), (f" {row['sol1']}", f" {row['sol2']}")
        )
        for number, row in enumerate(dataset.splits["validation"])
    ]


def lambada(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Ask for the last word of a passage, which must be the likeliest next text."""
    samples = []
    for number, row in enumerate(dataset.splits["test"]):
        context, word = (row["context"], row["continuation"]) if "context" in row else row["text"].rsplit(" ", 1)
        samples.append(Sample(str(number), context, 0, (f" {word.lstrip(' ')}",)))
    return samples


def blimp(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Compare two whole sentences, each behind a blank as lm-eval puts it; the cluster is the paradigm.

    Pairs of equal sentences are left out.
    """
    samples = []
    for row in dataset.splits["train"]:
        good, bad = (row["good"], row["bad"]) if "good" in row else (row["sentence_good"], row["sentence_bad"])
        paradigm = row.get("uid", row.get("UID"))
        if good != bad:
            samples.append(
                Sample(f"{paradigm}/{row.get('pair_id', row.get('pairID'))}", "", 0, (f" {good}", f" {bad}"), paradigm)
            )
    return samples
