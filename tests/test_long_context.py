"""The long-context task: what its prompts promise, read back by a program that sees nothing but the prompt."""

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_live import with_endpoint

from evalsuite.errors import SpecError
from evalsuite.records import Generate, Outcome, Output, Sample, Sampling
from evalsuite.serve.client import Endpoint
from evalsuite.task.long_context.documents import KINDS, TOOLS
from evalsuite.task.long_context.haystack import place, plain_prose, sentences
from evalsuite.task.long_context.options import LongContextOptions
from evalsuite.task.long_context.recall import recall
from evalsuite.task.long_context.samples import TOLERANCE, long_context_samples

FAMILIES = [family for families, _ in KINDS.values() for family in families]


def pieces(texts: Sequence[str]) -> list[int]:
    """Count as a subword vocabulary does, roughly."""
    return [len(re.findall(r"\w{1,4}|[^\w\s]|\n+", text)) for text in texts]


def thirds(texts: Sequence[str]) -> list[int]:
    """Count three characters a token, also across words: a text is less than the sum of its parts."""
    return [math.ceil(len(text) / 3) for text in texts]


def rounds(texts: Sequence[str]) -> list[int]:
    """Count words, but jump by forty: more filler may cost nothing, or a lot."""
    return [40 * math.ceil(len(text.split()) / 40) for text in texts]


NOTE = r"(?:The secret code|One of the secret codes) of the \w+ \w+ is \S+\. ?|The variable \w+ is [\w ]+\. ?"
COUNTERS = [pieces, thirds, rounds]


def novel(seed: int) -> str:
    """Write a text of somebody else's: three people, hard line breaks, quotation marks."""
    rng = np.random.default_rng(seed)
    lines = ["“Who is there?” asked Mr. Brown.", "Nobody answered!", "The rain went on and on,\nall through the night."]
    return "".join(lines[index] + (" " if index else "\n\n") for index in rng.integers(3, size=4000).tolist())


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "seed": draw(st.integers(0, 2**31 - 1)),
        "families": draw(st.lists(st.sampled_from(FAMILIES), min_size=1, max_size=4, unique=True)),
        "lengths": draw(st.lists(st.sampled_from([0.5, 0.62, 0.9, 1]), min_size=1, max_size=2, unique=True)),
        "depths": draw(st.lists(st.floats(0, 1), min_size=4, max_size=5, unique=True)),
        "haystacks": 1,
        "value": draw(st.sampled_from(["uuid", "number"])),
        "distractors": draw(st.integers(0, 2)),
        "hops": draw(st.integers(0, 3)),
        "answer_tokens": draw(st.integers(1, 300)),
    }


CASES = {
    "options": options(),
    "count": st.sampled_from(COUNTERS),
    "n_ctx": st.integers(8000, 16000),
    "haystack": st.none() | st.integers(0, 99).map(novel),
}


def text_of(sample: Sample) -> str:
    (message,) = sample.prompt
    return message["content"]


def parts(sample: Sample) -> tuple[str, str, str]:
    """Return introduction, haystack and question."""
    intro, _, rest = text_of(sample).partition("\n\n")
    return intro, *rest.rpartition("\n\n")[::2]


def given_answer(sample: Sample) -> list[str]:
    """Answer a sample by reading its prompt, knowing nothing of how it was made."""
    _, haystack, question = parts(sample)
    codes = dict(re.findall(r"The secret code of the (\w+ \w+) is (\S+)\.", haystack))
    match sample.metadata["family"]:
        case "keys" | "queries" | "tool_call":
            return [codes[key] for key in re.findall(r"the (\w+ \w+)(?=[?,]| on record)", question) if key in codes]
        case "values":
            key = re.match(r"The (\w+ \w+) has", question)[1]
            return re.findall(rf"One of the secret codes of the {key} is (\S+)\.", haystack)
        case "tracking":
            value = re.search(r"the value (\d+)", question)[1]
            have = re.findall(rf"The variable (\w+) is {value}\.", haystack)
            equal = dict(map(reversed, re.findall(r"The variable (\w+) is equal to (\w+)\.", haystack)))
            while have[-1] in equal:
                have.append(equal[have[-1]])
            return have
        case "json_lookup":
            return [json.loads(haystack)[re.search('"(.+)"', question)[1]]]
        case "common_words" | "frequent_words":
            wanted = int(re.search(r"Which (\d+) words", question)[1])
            ranked = Counter(haystack.split()).most_common(wanted + 1)
            assert ranked[wanted - 1][1] > ranked[wanted][1]
            return [word for word, _ in ranked[:wanted]]


def targets(sample: Sample) -> list[str]:
    if sample.metadata["family"] != "tool_call":
        return sample.target
    ((call,),) = ([*expected.values()] for expected in sample.target["calls"])
    return call["code"]


@settings(max_examples=25)
@given(**CASES)
def test_prompts_fit_and_are_as_long_as_said(
    options: dict[str, Any], count: Callable[[Sequence[str]], list[int]], n_ctx: int, haystack: str | None
):
    """Each prompt leaves room for template, tools and answer; the longest of a haystack is 1 % or a unit off its length."""
    read = LongContextOptions(**options)
    room = n_ctx - read.answer_tokens - read.template_tokens
    if "tool_call" in read.families:
        room -= read.tool_template_tokens + count([json.dumps(TOOLS, indent=4)])[0]
    samples = long_context_samples(options, count, n_ctx, haystack)
    assert [sample.metadata["tokens"] for sample in samples] == count([text_of(sample) for sample in samples])
    for _, group in groupby(samples, key=lambda sample: sample.cluster):
        of_one = list(group)
        wanted = of_one[0].metadata["length"] * room
        longest = max(sample.metadata["tokens"] for sample in of_one)
        unit = 160  # a sentence, an entry, or one more step of the counter that jumps
        assert wanted - max(unit, TOLERANCE * wanted) <= longest <= wanted


@settings(max_examples=25)
@given(**CASES)
def test_a_reader_of_the_prompt_finds_the_target(
    options: dict[str, Any], count: Callable[[Sequence[str]], list[int]], n_ctx: int, haystack: str | None
):
    """What the prompt says is the target, and each wanted value stands there once, or as often as a name is used."""
    for sample in long_context_samples(options, count, n_ctx, haystack):
        found, wanted = given_answer(sample), targets(sample)
        if sample.metadata["family"] in {"common_words", "frequent_words"}:
            assert set(found) == set(wanted)
            continue
        assert found == wanted
        uses = {value: len(re.findall(rf"\b{value}\b", text_of(sample), re.IGNORECASE)) for value in wanted}
        chained = sample.metadata["family"] == "tracking"
        assert uses == {value: 2 if chained and value != wanted[-1] else 1 for value in wanted}
        if "tools" not in sample.metadata:
            assert recall(sample, Output(Outcome.OK, text="\n".join(found))).value == 1


@settings(max_examples=15)
@given(**CASES)
def test_needles_stand_at_their_depth(
    options: dict[str, Any], count: Callable[[Sequence[str]], list[int]], n_ctx: int, haystack: str | None
):
    """The share of the filler before a note is its depth, up to the length of a sentence or an entry."""
    for sample in long_context_samples({**options, "distractors": 0}, count, n_ctx, haystack):
        _, body, _ = parts(sample)
        for depth, value in zip(sample.metadata["depths"], targets(sample), strict=False):
            if sample.metadata["family"] == "json_lookup":
                lines = body.splitlines()[1:-1]
                at = next(index for index, line in enumerate(lines) if value in line)
                assert at / len(lines) == pytest.approx(depth, abs=6 / len(lines))
            else:
                said = re.search(rf"The variable {value} is|of the \w+ \w+ is {value}", body)
                filler = re.sub(NOTE, "", body)
                before = len(re.sub(NOTE, "", body[: said.start()]))
                assert before / len(filler) == pytest.approx(depth, abs=250 / len(filler))


@settings(max_examples=15)
@given(**CASES)
def test_prompts_of_a_haystack_begin_alike(
    options: dict[str, Any], count: Callable[[Sequence[str]], list[int]], n_ctx: int, haystack: str | None
):
    """Prompts of one cluster differ in their last paragraph only."""
    samples = long_context_samples(options, count, n_ctx, haystack)
    before: dict[str, set[tuple[str, str]]] = {}
    for sample in samples:
        before.setdefault(sample.cluster, set()).add(parts(sample)[:2])
    assert all(len(beginnings) == 1 for beginnings in before.values())
    assert len({*map(tuple, before.values())}) == len(before)


def test_same_arguments_same_bytes():
    """Equal arguments give equal samples with an id each; another seed shares none of them."""
    made = [asdict_all(long_context_samples({"seed": seed, "haystacks": 2}, pieces, 9000)) for seed in (1, 1, 2)]
    assert made[0] == made[1]
    ids = [[sample["sample_id"] for sample in samples] for samples in map(json.loads, made)]
    assert len(set(ids[0])) == len(ids[0]) == 4 * 2 * (5 + 1 + 1 + 2 + 5 + 5 + 1 + 1)
    assert not {*ids[0]} & {*ids[2]}


def asdict_all(samples: Sequence[Sample]) -> str:
    return json.dumps([asdict(sample) for sample in samples])


def test_more_lengths_and_haystacks_leave_what_was_made():
    """Samples of one length and one haystack are among those of more."""
    few = long_context_samples({"lengths": [0.5], "haystacks": 1}, pieces, 9000)
    more = long_context_samples({"lengths": [0.3, 0.5], "haystacks": 2}, pieces, 9000)
    assert {sample.sample_id for sample in few} < {sample.sample_id for sample in more}


def test_strata_are_families_at_lengths():
    """Every family has a stratum of its own at every length."""
    samples = long_context_samples({"haystacks": 1}, pieces, 9000)
    assert {sample.stratum for sample in samples} == {f"{f} {n}" for f in FAMILIES for n in (0.25, 0.5, 0.75, 0.95)}


def test_a_given_text_is_the_filler():
    """The notes hide in the sentences of the given text, joined to paragraphs as they were, and in nothing else."""
    text = novel(7)
    (sample,) = long_context_samples({"families": ["values"], "lengths": [1], "haystacks": 1}, pieces, 5000, text)
    filler = re.sub(NOTE, "", parts(sample)[1]).strip()
    assert len(filler) > 9000
    assert filler in 2 * "".join(sentences(text))


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_own_sentences_are_cut_where_they_end(count: int, seed: int):
    """Plain sentences, joined and cut again, are the same sentences."""
    made = plain_prose(count, np.random.default_rng(seed))
    cut = sentences("".join(made))
    assert cut[:-1] == made[:-1]
    assert cut[-1].strip() == made[-1].strip()
    assert min(len(sentence.split()) for sentence in made) >= 8


@given(
    st.lists(st.text("ab ", min_size=1, max_size=9)), st.lists(st.tuples(st.floats(0, 1), st.text("XY", min_size=1)))
)
def test_placing_keeps_units_and_order(units: list[str], needles: list[tuple[float, str]]):
    """Needles stand in the order of their depths, each at the first border that deep, and the units stay as they are."""
    placed = place(units, needles)
    assert re.sub("[XY]", "", placed) == "".join(units)
    assert re.sub("[ab ]", "", placed) == "".join(text for _, text in sorted(needles, key=lambda needle: needle[0]))
    total, borders = len("".join(units)), np.cumsum([0, *map(len, units)])
    for depth, text in needles:
        alone = place(units, [(depth, text)]).index(text)
        assert alone == min(border for border in borders if border >= depth * total)


WRONG = [
    ({"distractor": 1}, "Did you mean 'distractors'"),
    ({"families": ["needles"]}, "families"),
    ({"lengths": [0.0]}, "lengths"),
    ({"lengths": [0.5, 0.5]}, "twice"),
    ({"depths": [0.5], "queries": 2}, "queries"),
    ({"word_times": 2, "rare_times": 2}, "word_times"),
    ({"distractors": 99}, "distractors"),
    ({"depths": [index / 50 for index in range(50)]}, "depths"),
    ({"answer_tokens": 8800}, "no room"),
    ({"lengths": [0.01]}, "longer lengths"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_impossible_options_are_told(changes: Mapping[str, Any], said: str):
    """What cannot be made is refused with the option that stands in the way."""
    with pytest.raises(SpecError, match=said):
        long_context_samples({"haystacks": 1, **changes}, pieces, 9000)


@pytest.mark.parametrize(("text", "said"), [("", "empty"), (" \n\n ", "empty"), ("Too short. By far.", "longer text")])
def test_a_short_text_is_told(text: str, said: str):
    """A text that cannot fill the context is refused; it is never repeated."""
    with pytest.raises(SpecError, match=said):
        long_context_samples({"haystacks": 1}, pieces, 9000, text)


def test_counting_is_cheap():
    """Each haystack of 13 questions is counted twice for each question, and its longest prompt a few times between."""
    asked = []

    def counted(texts: Sequence[str]) -> list[int]:
        asked.append(len(texts))
        return pieces(texts)

    long_context_samples({"lengths": [0.95], "haystacks": 10, "families": ["keys", "tool_call"]}, counted, 32768)
    of_tools, *rest = asked
    assert of_tools == 1
    assert sum(rest) <= 10 * (2 * 10 + 5)


@pytest.mark.live
def test_a_real_server_takes_the_longest_prompt(ladder: Path):
    """Sized with the server's own tokenizer, the longest prompt is answered; the template adds at most what was set aside."""
    options = {
        "families": ["keys", "json_lookup"], "lengths": [1], "depths": [0.5], "queries": 1, "distractors": 1,
        "value": "number", "haystacks": 1, "answer_tokens": 24,
    }  # fmt: skip

    async def ask(endpoint: Endpoint) -> list[tuple[Sample, Output]]:
        loop = asyncio.get_running_loop()

        async def tokens(texts: Sequence[str]) -> list[int]:
            counted = [await endpoint.tokenize(text, add_special=False) for text in texts]
            return [len(ids) for ids, _ in counted]

        def count(texts: Sequence[str]) -> list[int]:
            return asyncio.run_coroutine_threadsafe(tokens(texts), loop).result()

        samples = await asyncio.to_thread(long_context_samples, options, count, endpoint.n_ctx)
        sampling = Sampling(max_tokens=24)
        return [(sample, (await endpoint.ask(Generate(sample.prompt, sampling))).output) for sample in samples]

    for sample, output in with_endpoint(ladder / "Q8_0.gguf", ask):
        assert output.outcome in {Outcome.OK, Outcome.TRUNCATED}
        assert 0 <= output.prompt_tokens - sample.metadata["tokens"] <= 128
