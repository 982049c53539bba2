"""The text that hides the notes, and the values, names and keys that nothing in it resembles."""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import yaml

from evalsuite.errors import SpecError
from evalsuite.shipped import shipped

_SENTENCE_END = re.compile(r"(?<=[.!?])[”’\"')]*\s+(?![a-z])")
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


@cache
def words() -> Any:
    """Return the task's own word lists: `adjectives`, `nouns`, and the parts of `sentences`."""
    return yaml.safe_load((shipped("tasks") / "long_context" / "words.yaml").read_text(encoding="utf-8"))


def sentences(text: str) -> list[str]:
    """Cut prose into sentences that end with what parts them: a blank, or an empty line between paragraphs.

    The line ends within a paragraph become blanks.
    """
    cut: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(paragraph.split())
        ends = [match.end() for match in _SENTENCE_END.finditer(flat)]
        found = [flat[start:end].rstrip() for start, end in zip([0, *ends], [*ends, len(flat)], strict=True)]
        found = [sentence for sentence in found if sentence]
        cut += [f"{sentence} " for sentence in found[:-1]] + [f"{sentence}\n\n" for sentence in found[-1:]]
    return cut


def plain_prose(count: int, rng: np.random.Generator) -> list[str]:
    """Write so many plain sentences of at least eight words, about six to a paragraph; each ends as `sentences` ends them."""
    parts = words()["sentences"]
    drawn = {name: rng.integers(len(entries), size=count) for name, entries in parts.items()}
    turned, last = rng.random(count) < 0.3, rng.random(count) < 1 / 6
    made = []
    for index in range(count):
        who, did, what, where, when = (
            parts[name][drawn[name][index]] for name in ("who", "did", "what", "where", "when")
        )
        text = " ".join([when, who, did, what, where] if turned[index] else [who, did, what, where, when])
        made.append(f"{text[0].upper()}{text[1:]}." + ("\n\n" if last[index] else " "))
    return made


def place(units: Sequence[str], needles: Sequence[tuple[float, str]]) -> str:
    """Join units with each needle put in at its depth: the first border that has this share of the characters before it.

    Needles at one border stand in the order of their depths, then in that given.
    """
    ends = np.cumsum([0, *map(len, units)])
    ordered = sorted(needles, key=lambda needle: needle[0])
    borders = [int(border) for border in np.searchsorted(ends, [depth * ends[-1] for depth, _ in ordered])]
    parts: list[Sequence[str]] = []
    for start, end, (_, needle) in zip([0, *borders], borders, ordered, strict=False):
        parts += [units[start:end], [needle]]
    return "".join(chain(*parts, units[borders[-1] if borders else 0 :]))


def uuids(rng: np.random.Generator, count: int) -> list[str]:
    """Draw so many UUIDs of version 4."""
    drawn = rng.bytes(16 * count)
    return [str(UUID(bytes=drawn[start : start + 16], version=4)) for start in range(0, len(drawn), 16)]


def numbers(rng: np.random.Generator, count: int, digits: int, taken: Collection[str]) -> list[str]:
    """Draw so many different numbers of so many digits, none of them among those `taken`."""
    return _distinct((str(number) for number in _integers(rng, 10 ** (digits - 1), 10**digits)), count, taken)


def made_up_words(rng: np.random.Generator, count: int, taken: Collection[str] = ()) -> list[str]:
    """Draw so many different words of three open syllables, none of them among those `taken`."""
    size = len(_SYLLABLES)
    if count > size**3 // 4:
        raise SpecError(f"long context: {count} different words: there are too few. Use a shorter length.")
    spelt = (
        _SYLLABLES[index // size**2] + _SYLLABLES[index // size % size] + _SYLLABLES[index % size]
        for index in _integers(rng, 0, size**3)
    )
    return _distinct(spelt, count, taken)


def _integers(rng: np.random.Generator, low: int, high: int) -> Iterator[int]:
    while True:
        yield from rng.integers(low, high, size=256).tolist()


def _distinct(drawn: Iterator[str], count: int, taken: Collection[str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        candidate = next(drawn)
        if candidate not in taken:
            found[candidate] = None
    return [*found]


def look_alikes(rng: np.random.Generator, asked: int, distractors: int) -> tuple[list[str], list[str]]:
    """Draw so many keys, an adjective and a noun each, and for each so many others that share a word with it.

    All are different. Raises SpecError where the word lists run out.
    """
    adjectives, nouns = words()["adjectives"], words()["nouns"]
    if asked > min(len(adjectives), len(nouns)):
        raise SpecError(f"long context: {asked} keys in one text: there are only {len(adjectives)}. Use fewer depths.")
    pairs = list(
        zip(rng.permutation(adjectives)[:asked].tolist(), rng.permutation(nouns)[:asked].tolist(), strict=True)
    )
    used = dict.fromkeys(pairs)
    others = []
    for adjective, noun in pairs:
        near = [(adjective, other) for other in nouns] + [(other, noun) for other in adjectives]
        free = [near[index] for index in rng.permutation(len(near)) if near[index] not in used][:distractors]
        if len(free) < distractors:
            raise SpecError(f"long context: distractors: the word lists give no {distractors} for each key. Use fewer.")
        used |= dict.fromkeys(free)
        others += free
    return [" ".join(pair) for pair in pairs], [" ".join(pair) for pair in others]
