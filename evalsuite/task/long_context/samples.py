"""Sizing: the documents of the long-context task become prompts that fit, counted with the model's own tokenizer."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalsuite.errors import SpecError
from evalsuite.identity import seed_of
from evalsuite.records import Sample
from evalsuite.task.long_context.documents import KINDS, TOOLS, Document, Prose
from evalsuite.task.long_context.haystack import plain_prose, sentences
from evalsuite.task.long_context.options import LongContextOptions, read_options
from evalsuite.task.room import CountTokens

TOLERANCE = 0.01
"""A prompt falls short of its length by at most this share of it, or by one unit of filler, if that is more."""


def long_context_samples(
    options: Mapping[str, Any], count_tokens: CountTokens, n_ctx: int, haystack: str | None = None
) -> list[Sample]:
    """Make the samples of the long-context task for a context of `n_ctx` tokens; options as in `LongContextOptions`.

    Notes are hidden in `haystack`, or in plain sentences of our own where that is None. Equal arguments give equal samples.
    A prompt is one user message: the haystack, then the question. `cluster` is the haystack, `stratum` the family and the
    length. The metadata has `family`, `length` (a share, see the options), `tokens` (of the message), `depths` (one a
    wanted value), `shape` (see `Question`), and `tools` where calls are wanted.

    Of each haystack one prompt of each question is counted without filler, then the longest three or four times, then all of
    them. Raises SpecError where a haystack does not fit or a text is too short.
    """
    read = read_options(options)
    room = _room(read, count_tokens, n_ctx)
    prose = _prose(haystack, n_ctx, read.seed)
    return [
        sample
        for length in read.lengths
        for kind, (families, make) in KINDS.items()
        if set(families) & set(read.families)
        for number in range(read.haystacks)
        for sample in _samples(
            _Haystack(f"{kind}-{length:g}-{number}", length, int(length * room)),
            _asked(make(read, np.random.default_rng(seed_of(read.seed, f"{kind} {length:g}", number)), prose), read),
            count_tokens,
        )
    ]


@dataclass(frozen=True)
class _Haystack:
    name: str
    length: float
    tokens: int


def _room(options: LongContextOptions, count_tokens: CountTokens, n_ctx: int) -> int:
    """Return how many tokens a message may have at length 1."""
    room = n_ctx - options.answer_tokens - options.template_tokens
    if "tool_call" in options.families:
        room -= count_tokens([json.dumps(TOOLS, indent=4)])[0] + options.tool_template_tokens
    if room < 1:
        raise SpecError(
            f"long context: a context of {n_ctx} tokens has no room beside the answer and the template. Use a larger `ctx` "
            "or fewer answer_tokens."
        )
    return room


def _prose(haystack: str | None, n_ctx: int, seed: int) -> Prose:
    if haystack is None:
        # Sentences of at least eight words: some tokens each, so there are more than one prompt holds.
        units = plain_prose(max(n_ctx // 4, 500), np.random.default_rng(seed))
        haystack = "".join(units)
    elif not (units := sentences(haystack)):
        raise SpecError("long context: the haystack's text is empty. Give another, or none.")
    return Prose(units, set(re.findall(r"\w+", haystack.casefold())))


def _asked(document: Document, options: LongContextOptions) -> Document:
    """Keep the questions of the wanted families."""
    return replace(document, questions=tuple(each for each in document.questions if each.family in options.families))


def _samples(haystack: _Haystack, document: Document, count_tokens: CountTokens) -> Iterator[Sample]:
    prompts, tokens = _fitted(haystack, document, count_tokens)
    for question, prompt, n_tokens in zip(document.questions, prompts, tokens, strict=True):
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        yield Sample(
            f"{question.family}-{haystack.length:g}-{digest}",
            ({"role": "user", "content": prompt},),
            {"expect": "calls", "calls": question.target, "rules": "exact"} if question.tools else question.target,
            cluster=haystack.name,
            stratum=f"{question.family} {haystack.length:g}",
            metadata={
                "family": question.family, "length": haystack.length, "tokens": n_tokens, "depths": list(question.depths),
                "shape": question.shape, **({"tools": list(question.tools)} if question.tools else {}),
            },
        )  # fmt: skip


def _fitted(haystack: _Haystack, document: Document, count_tokens: CountTokens) -> tuple[list[str], list[int]]:
    """Return a prompt for each question with its tokens: so much filler that the longest comes near the wanted length."""
    counts = count_tokens(document.prompts(document.fewest))
    most, longest = max(counts), counts.index(max(counts))
    if most > haystack.tokens:
        raise SpecError(
            f"long context: {haystack.name}: {most} tokens without any filler, but {haystack.tokens} are all there is at "
            f"length {haystack.length:g}. Use a larger `ctx`, longer lengths, fewer distractors, values or words."
        )
    units = _grow(
        lambda units: count_tokens([document.prompts(units)[longest]])[0],
        document.fewest, most, document.most, haystack.tokens,
    )  # fmt: skip
    while max(counts := count_tokens(prompts := document.prompts(units))) > haystack.tokens:
        units -= 1  # another question took more tokens behind this filler than behind none
    if units == document.most and max(counts) < (1 - TOLERANCE) * haystack.tokens:
        raise SpecError(
            f"long context: {haystack.name}: the haystack's text gives {max(counts)} tokens of {haystack.tokens}. Give a "
            "longer text, or none."
        )
    return prompts, counts


def _grow(tokens_with: Callable[[int], int], units: int, tokens: int, most: int, wanted: int) -> int:
    """Return a number of units that gives at most `wanted` tokens, and nearly that; `units` gives `tokens`.

    Each step goes where a straight line through the last two counts says, within the bounds known so far.
    """
    too_many, guess = most + 1, units + 32
    while too_many - units > 1 and wanted - tokens > TOLERANCE * wanted:
        tried = min(max(guess, units + 1), too_many - 1)
        counted = tokens_with(tried)
        a_unit = max((counted - tokens) / (tried - units), 1.0)
        if counted <= wanted:
            units, tokens = tried, counted
        else:
            too_many = tried
        guess = units + int((wanted * (1 - TOLERANCE / 2) - tokens) / a_unit)
    return units
