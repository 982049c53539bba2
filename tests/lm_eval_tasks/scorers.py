"""Functions for task files: a shuffle, and scorers that go wrong on purpose."""

import random

from datasets import Dataset


def shuffled(dataset):
    rows = list(dataset)
    random.shuffle(rows)
    return Dataset.from_list(rows)


def fails_on_maybe(doc, results):
    if "maybe" in results[0]:
        raise KeyError("maybe")
    return {"right": float(doc["capital"] in results[0])}


def percent(doc, results):
    return {"right": 100.0 * (doc["capital"] in results[0]), "share": 0.25}
