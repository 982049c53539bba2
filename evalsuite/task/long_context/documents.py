"""The documents of the long-context task: a haystack of any length with the questions that one reading of it answers."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from evalsuite.task.long_context.haystack import look_alikes, made_up_words, numbers, place, uuids
from evalsuite.task.long_context.options import Family, LongContextOptions

Needle = tuple[float, str]
"""A depth in [0, 1] and the sentence, or the entry, that is put in there."""

DIGITS = 7
"""Of a number that serves as a value; those at the start of a chain of variables have two fewer."""

WORD = "word"
"""The shape of a made-up word; those of values are `uuid` and `number`."""


@dataclass(frozen=True)
class Question:
    """One question about a document.

    `target` is what is wanted: values in the order of `depths`, made-up words, or a call in BFCL's possible-answer form.
    `shape` says what a value looks like. `depths` is empty where the whole document is the needle.
    """

    family: Family
    text: str
    target: Any
    shape: str
    depths: tuple[float, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Document:
    """A haystack that grows with `fewest … most` units of filler, and its questions."""

    intro: str
    body: Callable[[int], str]
    fewest: int
    most: int
    questions: tuple[Question, ...]

    def prompts(self, units: int) -> list[str]:
        """Return the haystack with each question at its end."""
        haystack = f"{self.intro}\n\n{self.body(units)}\n\n"
        return [haystack + question.text for question in self.questions]


@dataclass(frozen=True)
class Prose:
    """Text to hide notes in: sentences as `haystack.sentences` cuts them, and every word that occurs, case folded."""

    sentences: Sequence[str]
    taken: Collection[str]


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": [*parameters]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = (
    _tool(
        "register_code", "Put the secret code of an item on record.", item="Name of the item", code="The secret code"
    ),
    _tool("remove_code", "Take the secret code of an item off the record.", item="Name of the item"),
    _tool("report_loss", "Report that an item is lost.", item="Name of the item", place="Where it was last seen"),
)
"""What the tool-call family offers: one function that is wanted, and two that look like it."""


def prose(options: LongContextOptions, rng: np.random.Generator, text: Prose) -> Document:
    """Hide notes in prose that starts at a random sentence and goes on at the start where it ends."""
    start = int(rng.integers(len(text.sentences)))
    turned = [*text.sentences[start:], *text.sentences[:start]]
    keys, others = look_alikes(rng, len(options.depths) + 1, options.distractors)
    key_needles, key_questions = _keys(options, rng, text, keys[:-1], others)
    value_needles, value_question = _values_of_one_key(options, rng, text, keys[-1])
    chain_needles, chain_questions = _chains(options, rng, text)
    needles = [*key_needles, *value_needles, *chain_needles]
    return Document(
        "Below is a text with notes among its sentences. Read it with care: a question about the notes follows.",
        lambda units: place(turned[:units], needles).strip(), 0, len(turned),
        (*key_questions, value_question, *chain_questions),
    )  # fmt: skip


def _keys(
    options: LongContextOptions, rng: np.random.Generator, text: Prose, keys: Sequence[str], others: Sequence[str]
) -> tuple[list[Needle], list[Question]]:
    """Note the code of a key at each depth, and those of look-alikes anywhere; ask for one, for several, for a call."""
    values = _values(options, rng, len(keys) + len(others), text.taken)
    anywhere = rng.random(len(others)).tolist()
    needles = [
        (depth, f"The secret code of the {key} is {value}. ")
        for depth, key, value in zip([*options.depths, *anywhere], [*keys, *others], values, strict=True)
    ]
    asked = list(zip(keys, values, options.depths, strict=False))
    several = [asked[index] for index in sorted(rng.permutation(len(asked))[: options.queries].tolist())]
    named = ", ".join(f"the {key}" for key, *_ in several)
    questions = [
        Question("keys", f"What is the secret code of the {key}? Answer with the code alone.", [value],
                 options.value, (depth,))
        for key, value, depth in asked
    ]  # fmt: skip
    questions.append(Question(
        "queries", f"What are the secret codes of these: {named}? Answer with the codes alone, one a line.",
        [value for _, value, _ in several], options.value, tuple(depth for *_, depth in several),
    ))  # fmt: skip
    questions += [
        Question("tool_call", f"Put the secret code of the {key} on record by calling the function that does it.",
                 [{"register_code": {"item": [key, f"the {key}"], "code": [value]}}], options.value, (depth,), TOOLS)
        for key, value, depth in asked
    ]  # fmt: skip
    return needles, questions


def _values_of_one_key(
    options: LongContextOptions, rng: np.random.Generator, text: Prose, key: str
) -> tuple[list[Needle], Question]:
    values = _values(options, rng, options.values, text.taken)
    depths = tuple((index + 0.5) / len(values) for index in range(len(values)))
    needles = [
        (depth, f"One of the secret codes of the {key} is {value}. ")
        for depth, value in zip(depths, values, strict=True)
    ]
    asks = f"The {key} has {len(values)} secret codes. Which are they? Answer with the codes alone, one a line."
    return needles, Question("values", asks, values, options.value, depths)


def _chains(options: LongContextOptions, rng: np.random.Generator, text: Prose) -> tuple[list[Needle], list[Question]]:
    """Let variables take over one another's value; each chain starts with a value of its own and is asked for."""
    length = options.hops + 1
    names = [name.upper() for name in made_up_words(rng, options.chains * length, text.taken)]
    needles, questions = list[Needle](), []
    for index, start in enumerate(numbers(rng, options.chains, DIGITS - 2, text.taken)):
        chain = names[index * length : (index + 1) * length]
        depths = tuple(np.sort(rng.random(length)).round(4).tolist())
        told = [f"The variable {chain[0]} is {start}. "]
        told += [f"The variable {name} is equal to {before}. " for before, name in pairwise(chain)]
        needles += zip(depths, told, strict=True)
        asks = (
            f"Which {length} variables have the value {start}, be it that they take it from another? Answer with their "
            "names alone, one a line."
        )
        questions.append(Question("tracking", asks, chain, WORD, depths))
    return needles, questions


def json_lookup(options: LongContextOptions, rng: np.random.Generator, _text: Prose) -> Document:
    """Write one JSON object, an entry a line, whose asked keys have look-alikes that differ in four digits."""
    keys = uuids(rng, len(options.depths))
    others = [
        f"{key[:9]}{digits:04x}{key[13:]}" for key in keys for digits in _other_groups(rng, key, options.distractors)
    ]
    values = _values(options, rng, len(keys) + len(others), ())
    depths = [*options.depths, *rng.random(len(others)).tolist()]
    needles = [(depth, _entry(key, value)) for depth, key, value in zip(depths, [*keys, *others], values, strict=True)]
    seeds = rng.integers(2**32, size=2)

    def body(units: int) -> str:
        of_keys, of_values = map(np.random.default_rng, seeds)
        filler = zip(uuids(of_keys, units), _values(options, of_values, units, values), strict=True)
        entries = place([_entry(key, value) for key, value in filler], needles)
        return "{\n" + entries.removesuffix(",\n") + "\n}"

    questions = tuple(
        Question("json_lookup", f'What is the value of the key "{key}"? Answer with the value alone.', [value],
                 options.value, (depth,))
        for key, value, depth in zip(keys, values, options.depths, strict=False)
    )  # fmt: skip
    return Document("Below is a JSON object. A question about it follows.", body, 0, _MANY, questions)


def _other_groups(rng: np.random.Generator, key: str, count: int) -> list[int]:
    """Draw so many different groups of four hexadecimal digits that are not the second group of a UUID."""
    own = int(key[9:13], 16)
    return [(own + step) % 2**16 for step in (1 + rng.permutation(2**16 - 1)[:count]).tolist()]


def _entry(key: str, value: str) -> str:
    return f'"{key}": "{value}",\n'


def common_words(options: LongContextOptions, rng: np.random.Generator, _text: Prose) -> Document:
    """List made-up words, a few of which stand there more often than all others; the filler is the others."""
    seed = int(rng.integers(2**32))
    wanted = made_up_words(np.random.default_rng(seed), options.words)

    def body(units: int) -> str:
        # The words of a longer list begin with those of a shorter one, so the wanted ones are always the same.
        listed = made_up_words(np.random.default_rng(seed), options.words + units)
        return _mixed(listed, [options.word_times] * options.words + [options.rare_times] * units, seed)

    asks = f"Which {options.words} words stand most often in the list? Answer with the words alone, one a line."
    return Document(_WORD_LIST, body, 1, _MANY, (Question("common_words", asks, wanted, WORD),))


def frequent_words(options: LongContextOptions, rng: np.random.Generator, _text: Prose) -> Document:
    """List made-up words whose number falls with a power of their rank; the filler is the number of the first."""
    seed = int(rng.integers(2**32))
    wanted = made_up_words(np.random.default_rng(seed), options.top)
    # From here on the last wanted word stands there at least once more often than the next.
    fewest = math.ceil(1 / (options.top**-options.zipf - (options.top + 1) ** -options.zipf))

    def body(units: int) -> str:
        times = np.ceil(units * np.arange(1, units + 1) ** -options.zipf).astype(int).tolist()
        return _mixed(made_up_words(np.random.default_rng(seed), units), times, seed)

    asks = f"Which {options.top} words stand most often in the list? Answer with the words alone, one a line."
    return Document(_WORD_LIST, body, fewest, _MANY, (Question("frequent_words", asks, wanted, WORD),))


_WORD_LIST = (
    "Below is a list of made-up words, some of which stand there more often than others. A question about it follows."
)

_MANY = 2**31
"""More units of filler than any context holds."""


def _mixed(listed: Sequence[str], times: Sequence[int], seed: int) -> str:
    slots = np.repeat(np.arange(len(listed)), times)
    return " ".join(listed[index] for index in np.random.default_rng([seed, 1]).permutation(slots).tolist())


def _values(options: LongContextOptions, rng: np.random.Generator, count: int, taken: Collection[str]) -> list[str]:
    return uuids(rng, count) if options.value == "uuid" else numbers(rng, count, DIGITS, taken)


KINDS: Mapping[str, tuple[tuple[Family, ...], Callable[[LongContextOptions, np.random.Generator, Prose], Document]]] = {
    "prose": (("keys", "values", "queries", "tracking", "tool_call"), prose),
    "json": (("json_lookup",), json_lookup),
    "common": (("common_words",), common_words),
    "frequent": (("frequent_words",), frequent_words),
}
"""The kinds of document by name, with the families that are asked of each."""
