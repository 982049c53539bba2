"""The real thing: the embedded server, a llama.cpp build when there is one, and SmolLM2."""

import asyncio
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import yaml
from gguf import GGUFReader
from toys import HURRY

from evalsuite.gguf import artifact_id, read_gguf
from evalsuite.records import Choose, Generate, Loglikelihood, Outcome, Sampling
from evalsuite.run import Progress, Silent
from evalsuite.serve import forcing
from evalsuite.serve.client import Endpoint, RefusedError
from evalsuite.serve.launch import arguments, profiles
from evalsuite.serve.llama_cpp import LlamaCpp, find_llama_cpp
from evalsuite.serve.process import ServerProcess
from evalsuite.store import Store
from evalsuite.sweep import Finished, open_sweep, run_sweep

pytestmark = pytest.mark.live
T = TypeVar("T")

TEXTS = [
    ("The capital of France is", [" Paris", " a city", " called Paris 🙂", " 巴黎", "\n"]),
    ("Once upon a time there was", [" a little girl", " an old king who had", " naïve Zoë", "  two blanks", "."]),
    ("def add(a, b):\n    return", [" a + b", " a - b\n", "\ta", " None  # ok", " [a, b]"]),
    ("Water boils at", [" 100 degrees", " 212°F", " high temperatures.", " 🔥🔥", " sea level,"]),
    ("Q: Is the sky blue?\nA:", [" Yes", " No", " Yes, it is.", " Ja", " 42"]),
    ("My name is", [" Anna", " Bond, James Bond", " Łukasz", " not important", "\u2028"]),
    ("1, 2, 3, 4,", [" 5", " 5, 6", " five", "5", " 6"]),
    ("The cat sat on the", [" mat", " roof of the house", " mats", " Mat", " mat<|im_end|>"]),
    ("Bonjour", [", comment ça va ?", " le monde", " é", " ça va", "!"]),
    ("{", ['"name": "Anna"', "}", " }", "\n  ", "🙃"]),
]
"""Fifty continuations: words, blanks, other scripts, characters of several tokens, an end token."""


def with_endpoint(
    model: Path, use: Coroutine[Any, Any, T] | Any, llama_cpp: LlamaCpp | None = None, template: Path | None = None
) -> Any:
    """Serve a model, call `use` with its endpoint, and stop the server."""
    found = llama_cpp or find_llama_cpp(Path("embedded"))

    size = model.stat().st_size

    async def serve() -> Any:
        process = ServerProcess(found.server, model.parent / "test.log")
        profile = profiles()["ci"]
        process.spawn(arguments(
            profile, model=model, host=process.host, port=0, alias=process.alias, kv_cache="f16", template=template, seed=1
        ))  # fmt: skip
        try:
            address = await process.ready(size)
            async with Endpoint(address, in_flight=5, cache_prompt=False, grace_s=60) as endpoint:
                await endpoint.read_settings()
                return await use(endpoint)
        finally:
            await process.stop()

    return asyncio.run(serve())


def test_loglikelihood_is_that_of_the_full_softmax(ladder: Path):
    """50 continuations, whichever way they are forced, lie within 1e-3 nats of the sum over the full softmax."""

    async def measure(endpoint: Endpoint) -> list[float]:
        differences = []
        for context, continuations in TEXTS:
            for continuation in continuations:
                answered = await endpoint.ask(Loglikelihood(context, continuation))
                differences.append(abs(answered.output.logprob - await softmax_sum(endpoint, context, continuation)))
        return differences

    differences = with_endpoint(ladder / "Q8_0.gguf", measure)
    assert len(differences) == 50
    assert max(differences) < 1e-3


async def softmax_sum(endpoint: Endpoint, context: str, continuation: str) -> float:
    """Normalise the whole vocabulary at each token of a continuation, and sum what the token itself has.

    The sums are ours, in double precision; the server's own, in single precision, are off by 1e-4 to 2e-4 nats a token.
    The vocabulary is listed in the state in which the token was scored: after forced tokens where a grammar can force
    them all, else after a prompt. llama.cpp computes the two with other kernels, and a token may differ by a tenth of a
    nat between them, which is the machine's noise and not the method's error.
    """
    base, _ = await endpoint.tokenize(context)
    whole, _ = await endpoint.tokenize(context + continuation)
    if whole[: len(base)] != base or len(whole) == len(base):  # they merge at their border: each keeps its own tokens
        whole = base + (await endpoint.tokenize(continuation, add_special=False))[0]
    ids = whole[len(base) :]
    body = {**forcing.grammar_body(base, ids), "n_probs": endpoint.n_vocab}
    try:
        reply = await endpoint.complete(body)
    except RefusedError:
        reply = {}
    lists = [entry["top_logprobs"] for entry in reply.get("completion_probabilities", [])]
    if len(lists) != len(ids):
        printable = (await endpoint.tokenize("a"))[0][-1]
        lists = []
        for index in range(len(ids)):
            body = forcing.softmax_body([*base, *ids[:index]], printable, endpoint.n_vocab)
            lists += [entry["top_logprobs"] for entry in (await endpoint.complete(body))["completion_probabilities"]]
    total = 0.0
    for token, entries in zip(ids, lists, strict=True):
        logprobs = np.array([entry["logprob"] for entry in entries])
        own = next(entry["logprob"] for entry in entries if entry["id"] == token)
        total += own - np.logaddexp.reduce(logprobs)
    return float(total)


def test_option_probabilities_are_those_of_the_full_softmax(ladder: Path):
    """The probabilities of options, renormalised from the full softmax, are those that one request gives, within 1e-3."""
    options = (" A", " B", " C", " D")
    question = "Which of these is a fruit?\nA. hammer\nB. apple\nC. river\nD. cloud\nAnswer:"

    async def measure(endpoint: Endpoint) -> tuple[tuple[float, ...], list[float]]:
        prompt, _ = await endpoint.tokenize(question)
        ids = [(await endpoint.tokenize(question + option))[0][-1] for option in options]
        softmax = forcing.read_softmax(await endpoint.complete(forcing.softmax_body(prompt, ids[0], endpoint.n_vocab)))
        mass = sum(math.exp(softmax[token]) for token in ids)
        answered = await endpoint.ask(Choose(question, options))
        return answered.output.option_probs, [math.exp(softmax[token]) / mass for token in ids]

    got, expected = with_endpoint(ladder / "Q8_0.gguf", measure)
    assert got == pytest.approx(expected, abs=1e-3)
    assert sum(got) == pytest.approx(1, abs=1e-3)


def test_chat_and_overflow(ladder: Path):
    """A conversation is answered, its token limit is a truncation, and one that does not fit is an overflow with its sizes."""
    hello = ({"role": "user", "content": "Say hello."},)
    long = ({"role": "user", "content": "word " * 3000},)

    async def measure(endpoint: Endpoint) -> list[Any]:
        requests = [
            Generate(hello, Sampling(max_tokens=60)),
            Generate(hello, Sampling(max_tokens=2)),
            Generate(long, Sampling()),
        ]
        return [(await endpoint.ask(request)).output for request in requests]

    answered, cut, overflow = with_endpoint(ladder / "Q8_0.gguf", measure)
    assert (answered.outcome, bool(answered.text)) == (Outcome.OK, True)
    assert (cut.outcome, cut.detail, cut.completion_tokens) == (Outcome.TRUNCATED, "token limit", 2)
    assert overflow.outcome is Outcome.OVERFLOW
    assert overflow.detail.endswith("context 1024")


def test_stop_is_heard_with_a_request_in_flight(ladder: Path):
    """stop() ends the server and its socket although a request is in flight, and well within its 10 s."""

    async def use(endpoint: Endpoint) -> None:
        task = asyncio.create_task(
            endpoint.ask(Generate(({"role": "user", "content": "Tell a story."},), Sampling(max_tokens=900)))
        )
        await asyncio.sleep(0.5)
        task.cancel()

    started = time.monotonic()
    with_endpoint(ladder / "Q8_0.gguf", use)
    assert time.monotonic() - started < 60


def sweep(folder: Path, ladder: Path, quants: list[str], **more: Any) -> Path:
    """Write a sweep of the demo suite's first samples."""
    raw = {
        "model": "SmolLM2-135M-Instruct", "reference": str(ladder / "F16.gguf"),
        "quants": [str(ladder / f"{name}.gguf") for name in quants], "server": "ci", "out": "results",
        "tasks": [{"task": "demo", "limit": 5}], "replicate_reference": False, **more,
    }  # fmt: skip
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def run(path: Path, llama_cpp: str, progress: Progress | None = None) -> tuple[Finished, list[tuple[Any, ...]]]:
    with Store(path.parent / "results") as store:
        finished = run_sweep(open_sweep(path, store, llama_cpp=Path(llama_cpp)), progress=progress, patience=HURRY)
        return finished, store.items()


def test_killed_server_changes_no_score(ladder: Path, tmp_path: Path):
    """Kill -9 of the real server in the middle of a sweep: it is restarted, and the scores are those of a quiet run."""

    class Killer(Silent):
        done = 0

        def advance(self, samples: int = 1) -> None:
            self.done += samples
            if self.done in {4, 15, 40}:
                for entry in Path("/proc").glob("[0-9]*/cmdline"):
                    if b"serve.embedded" in entry.read_bytes() and str(ladder).encode() in entry.read_bytes():
                        os.kill(int(entry.parent.name), signal.SIGKILL)

    (tmp_path / "quiet").mkdir()
    (tmp_path / "killed").mkdir()
    _, quiet = run(sweep(tmp_path / "quiet", ladder, ["Q4_0"]), "embedded")
    finished, killed = run(sweep(tmp_path / "killed", ladder, ["Q4_0"]), "embedded", Killer())
    assert finished.is_complete
    with Store(tmp_path / "killed" / "results") as store:
        assert [kind for _, kind, _, _ in store.events()].count("crash") >= 2
    differing = sum(ours[7] != theirs[7] for ours, theirs in zip(quiet, killed, strict=True))
    assert differing <= len(quiet) // 50  # F16 texts may depend on which requests were batched together


@pytest.mark.llama_cpp
def test_build_and_embedded_server_agree(ladder: Path, tmp_path: Path, llama_cpp: LlamaCpp):
    """The same sweep through a llama.cpp build and through the embedded server gives equal scores on 98 % of samples."""
    folder = str(Path(llama_cpp.server[0]).parent)
    rows = {}
    for kind in ("embedded", folder):
        place = tmp_path / ("embedded" if kind == "embedded" else "build")
        place.mkdir()
        path = sweep(place, ladder, ["Q8_0", "Q4_0"], tasks=["demo"])
        finished, rows[kind] = run(path, kind)
        assert finished.is_complete
    pairs = list(zip(rows["embedded"], rows[folder], strict=True))
    equal = sum(ours[7] == theirs[7] for ours, theirs in pairs)
    print(f"{equal} of {len(pairs)} scores are equal")
    assert equal >= 0.98 * len(pairs)


def test_ladder_is_one_model(ladder: Path):
    """Every quant of the ladder has the reference's vocabulary, template and dimensions, and fewer bits a weight."""
    facts = {path.stem: read_gguf([path]) for path in ladder.glob("*.gguf")}
    reference = facts.pop("F16")
    for name, quant in facts.items():
        assert quant.vocabulary_sha256 == reference.vocabulary_sha256, name
        assert quant.chat_template == reference.chat_template
        assert quant.dimensions == reference.dimensions
        assert quant.bpw < reference.bpw
    assert len({artifact_id([path]) for path in ladder.glob("*.gguf")}) == 4


def test_header_facts_are_those_of_the_gguf_package(ladder: Path):
    """What we read of a header, stepping over the vocabulary, is what the gguf package reads of it piece by piece."""
    path = ladder / "Q4_0.gguf"
    facts, reader = read_gguf([path]), GGUFReader(path)
    fields = reader.fields
    assert facts.n_vocab == len(fields["tokenizer.ggml.tokens"].contents())
    assert facts.chat_template == fields["tokenizer.chat_template"].contents()
    assert facts.context_length == fields["llama.context_length"].contents()
    assert facts.tensor_types == Counter(tensor.tensor_type.name for tensor in reader.tensors)
    assert facts.bpw == 8 * sum(int(t.n_bytes) for t in reader.tensors) / sum(int(t.n_elements) for t in reader.tensors)
    assert facts.size_bytes == path.stat().st_size
