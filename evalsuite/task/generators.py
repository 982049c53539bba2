"""Tasks of our own, most of them for the demo, by seeded generators from word lists; same seed, same samples."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from itertools import cycle, islice
from typing import Any

import numpy as np
import yaml

from evalsuite.errors import SpecError
from evalsuite.records import Sample
from evalsuite.task.tool_calls.scenarios import scenarios

Generator = Callable[[Mapping[str, Any], Traversable], list[Sample]]
"""Makes samples of a task file's `generator` mapping (seed, size, words, and keys of its own) and the task's folder."""


def minimal_pairs(options: Mapping[str, Any], folder: Traversable) -> list[Sample]:
    """Give a context and two ways to go on, one of them ungrammatical; the stratum is the paradigm.

    The words file has `words` (lists) and `paradigms`: `slots` name a list each, `frames` are triples of context, right
    and wrong continuation. Samples are spread evenly over the paradigms. Raises `SpecError` when the words run out.
    """
    rng = np.random.default_rng(options["seed"])
    data = _words(options, folder)
    samples: dict[str, Sample] = {}
    counts = _shares(options["size"], len(data["paradigms"]))
    for (paradigm, form), count in zip(data["paradigms"].items(), counts, strict=True):
        made: dict[str, Sample] = {}
        for frame in islice(cycle(form["frames"]), 50 * count):
            context, right, wrong = _fill(frame, form["slots"], data["words"], rng)
            choices, target = _shuffled((right, wrong), rng)
            sample_id = _sample_id(paradigm, context, right)
            made.setdefault(sample_id, Sample(sample_id, context, target, choices, stratum=paradigm))
            if len(made) == count:
                break
        else:
            raise SpecError(f"paradigm {paradigm}: the word lists give only {len(made)} of {count} different samples.")
        samples |= made
    return list(samples.values())


def cloze(options: Mapping[str, Any], folder: Traversable) -> list[Sample]:
    """Give a sentence to complete with one of `choices` answers.

    The words file maps a relation to a `prompt` with a place for the word, `pairs` (word: answer), and perhaps `glue`
    between prompt and answer, else a blank. `shots` solved pairs of the relation precede each prompt. The stratum
    is the relation, or the answer with `stratum: answer`. Raises `SpecError` when `size` is more than there are pairs.
    """
    rng = np.random.default_rng(options["seed"])
    samples = [
        _cloze_sample(name, relation, word, options, rng)
        for name, relation in _words(options, folder).items()
        for word in relation["pairs"]
    ]
    if options["size"] > len(samples):
        raise SpecError(
            f"{options['words']}: {options['size']} samples were asked for, but there are {len(samples)} pairs."
        )
    chosen = sorted(rng.permutation(len(samples))[: options["size"]])
    return [samples[index] for index in chosen]


def recall(options: Mapping[str, Any], folder: Traversable) -> list[Sample]:
    """Hide codes among sentences of prose and ask for one of them; the stratum is their number.

    `codes` lists how many codes a text holds, `sentences` is the number of sentences that hide them. The metadata has
    the depth at which the wanted code stands, from 0 (first sentence) to 1 (last).
    """
    rng = np.random.default_rng(options["seed"])
    words = _words(options, folder)
    samples: dict[str, Sample] = {}
    while len(samples) < options["size"]:
        count = options["codes"][len(samples) % len(options["codes"])]
        places = rng.permutation(words["places"])[:count]
        codes = rng.choice(np.arange(1000, 10000), count, replace=False).tolist()
        told = [f"The code for the {place} is {code}." for place, code in zip(places, codes, strict=True)]
        text = rng.permutation([*told, *rng.permutation(words["sentences"])[: options["sentences"]]]).tolist()
        prompt = " ".join([*text, f"The code for the {places[0]} is"])
        sample_id = _sample_id(f"codes-{count}", prompt)
        depth = text.index(told[0]) / (len(text) - 1)
        stratum = f"{count} codes"
        samples[sample_id] = Sample(sample_id, prompt, str(codes[0]), stratum=stratum, metadata={"depth": depth})
    return list(samples.values())


def extraction(options: Mapping[str, Any], folder: Traversable) -> list[Sample]:
    """Ask in a conversation for a sentence as JSON, after `shots` solved turns; the stratum is the form of the sentence."""
    rng = np.random.default_rng(options["seed"])
    words = _words(options, folder)
    samples: dict[str, Sample] = {}
    while len(samples) < options["size"]:
        form = len(samples) % len(words["sentences"])
        shown = [int(other) for other in rng.permutation(len(words["sentences"])) if other != form][: options["shots"]]
        shots = [_report(words, words["sentences"][other], rng) for other in shown]
        text, fields = _report(words, words["sentences"][form], rng)
        turns = [
            turn
            for shot, facts in shots
            for turn in ({"role": "user", "content": shot}, {"role": "assistant", "content": json.dumps(facts)})
        ]
        prompt = ({"role": "system", "content": words["system"]}, *turns, {"role": "user", "content": text})
        sample_id = _sample_id(f"form-{form + 1}", text)
        samples[sample_id] = Sample(sample_id, prompt, fields, stratum=f"form {form + 1}", metadata={"text": text})
    return list(samples.values())


GENERATORS: Mapping[str, Generator] = {
    "minimal_pairs": minimal_pairs,
    "cloze": cloze,
    "recall": recall,
    "extraction": extraction,
    "scenarios": scenarios,
}


def _words(options: Mapping[str, Any], folder: Traversable) -> Any:
    return yaml.safe_load(folder.joinpath(options["words"]).read_text(encoding="utf-8"))


def _sample_id(group: str, *content: str) -> str:
    return f"{group}-{hashlib.sha256(' '.join(content).encode()).hexdigest()[:8]}"


def _shares(size: int, groups: int) -> list[int]:
    """Split a size into whole shares that differ by one at most."""
    return [size // groups + (group < size % groups) for group in range(groups)]


def _shuffled(choices: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], int]:
    """Return choices in random order and where the first one went."""
    order = rng.permutation(len(choices)).tolist()
    return tuple(choices[index] for index in order), order.index(0)


def _fill(
    frame: Sequence[str], slots: Mapping[str, str], words: Mapping[str, Sequence[Any]], rng: np.random.Generator
) -> list[str]:
    """Fill a frame's slots, two slots of one list never with the same entry."""
    order = {kind: rng.permutation(len(words[kind])).tolist() for kind in dict.fromkeys(slots.values())}
    filled = {slot: words[kind][order[kind].pop()] for slot, kind in slots.items()}
    return [text.format(**filled) for text in frame]


def _cloze_sample(
    name: str, relation: Mapping[str, Any], word: str, options: Mapping[str, Any], rng: np.random.Generator
) -> Sample:
    pairs, glue = relation["pairs"], relation.get("glue", " ")
    right = pairs[word]
    wrong = [answer for answer in dict.fromkeys(pairs.values()) if answer != right]
    others = [wrong[index] for index in rng.permutation(len(wrong))[: options["choices"] - 1]]
    choices, target = _shuffled([f"{glue}{answer}" for answer in (right, *others)], rng)
    shots = [other for other in rng.permutation([*pairs]) if other != word][: options["shots"]]
    solved = "".join(f"{relation['prompt'].format(shot)}{glue}{pairs[shot]}\n" for shot in shots)
    prompt = solved + relation["prompt"].format(word)
    return Sample(
        f"{name}-{word.replace(' ', '-')}",
        prompt,
        target,
        choices,
        stratum=right if options.get("stratum") == "answer" else name,
    )


def _report(words: Mapping[str, Any], sentence: str, rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """Return a sentence with its facts."""
    name, item, count = (str(rng.choice([*words[kind]])) for kind in ("names", "items", "counts"))
    text = sentence.format(name=name, item=item, count=count)
    return text, {"name": name, "count": words["counts"][count], "item": item}
