"""Prompts are sized with the served model's own tokenizer, before a model is served."""

import json
from itertools import groupby
from pathlib import Path

import pytest
from test_live import with_endpoint
from toys import Bench

from evalsuite.errors import SpecError
from evalsuite.gguf import read_gguf
from evalsuite.plan import Quant
from evalsuite.records import Sampling
from evalsuite.run import turn
from evalsuite.serve.client import Endpoint
from evalsuite.serve.llama_cpp import find_llama_cpp
from evalsuite.serve.tokenizer import Tokenizer
from evalsuite.shipped import shipped
from evalsuite.store import Store
from evalsuite.sweep import open_sweep
from evalsuite.task.room import Room
from evalsuite.task.tasks import read_task

TEXTS = ["", "The capital of France is Paris.", "naïve 🙂 巴黎", "<|im_start|>user\n\nHi<|im_end|>", "a  b\t\tc" * 50]


@pytest.mark.live
def test_a_carrier_counts_as_the_model_does(ladder: Path, tmp_path: Path):
    """A file of a few weights with the model's vocabulary gives the counts of the model, special tokens and emoji included."""
    model = ladder / "Q8_0.gguf"
    quant = Quant("Q8_0", None, (model,), None, 1, read_gguf([model]), ())

    async def count(endpoint: Endpoint) -> list[int]:
        return [await endpoint.count_tokens(text) for text in TEXTS]

    with Store(tmp_path) as store:
        with Tokenizer(find_llama_cpp(Path("embedded")), store) as tokenizer:
            counts = tokenizer.count(quant, TEXTS)
        started = (tmp_path / "logs" / "tokenizer.log").stat().st_mtime_ns
        with Tokenizer(find_llama_cpp(Path("embedded")), store) as tokenizer:
            assert tokenizer.count(quant, TEXTS[::-1]) == counts[::-1]
    assert (tmp_path / "logs" / "tokenizer.log").stat().st_mtime_ns == started
    assert counts == with_endpoint(model, count)


def test_a_long_context_sweep_is_sized_once(bench: Bench):
    """Prompts fill the context that is served, a second run counts nothing, and another context is another task."""
    task = {"task": "long_context", "limit": 8}
    bench.write(tasks=[task], server={"profile": "ci", "ctx": 8192})
    assert bench.run().is_complete
    log = bench.folder / "results" / "logs" / "tokenizer.log"
    written = log.stat().st_mtime_ns
    assert bench.run().is_complete
    assert log.stat().st_mtime_ns == written
    analysis = json.loads((bench.folder / "results" / "analysis.json").read_text(encoding="utf-8"))
    assert {row["length"] for row in analysis["lengths"]} <= {0.25, 0.5, 0.75, 0.95}
    assert analysis["effective_lengths"]
    assert all(row["tokens"] <= row["length"] * 8192 for row in analysis["lengths"])
    bench.write(server={"profile": "ci", "ctx": 12288})
    with pytest.raises(SpecError, match="tasks long_context is not what it was"):
        bench.run()


def test_a_context_that_cannot_hold_a_task_is_refused(bench: Bench):
    """Prompts longer than a slot are an error before anything is served, with the context that would do."""
    rows = [{"sample_id": str(n), "prompt": "word " * 300 * n, "target": "x"} for n in range(1, 4)]
    (bench.folder / "tasks" / "echo" / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = r"echo: prompts of up to \d+ tokens do not fit a slot of 512. Set `server: {ctx: …}` to at least \d+"
    with Store(bench.folder / "results") as store, pytest.raises(SpecError, match=said):
        open_sweep(bench.write(), store, llama_cpp=bench.fake)


def test_a_context_without_room_for_the_needles_is_refused(bench: Bench):
    """The long-context task says what does not fit, and what to change."""
    bench.write(tasks=["long_context"], server={"profile": "ci", "ctx": 1024})
    with (
        Store(bench.folder / "results") as store,
        pytest.raises(SpecError, match=r"long context: .* Use a larger `ctx`"),
    ):
        open_sweep(bench.path, store, llama_cpp=bench.fake)


def test_prompts_of_a_haystack_are_asked_together():
    """In the order of a run the questions to one haystack follow each other, whatever families they are of."""
    room = Room(8192, lambda texts: [len(text) // 3 for text in texts])
    task = read_task(shipped("tasks") / "long_context", room=room, options={"haystacks": 3})
    ordered = sorted(task.samples, key=lambda sample: turn(next(task.solve(sample, Sampling()))))
    runs = [cluster for cluster, _ in groupby(sample.cluster for sample in ordered)]
    assert len(runs) == len(set(runs)) == 4 * 4 * 3
    assert [sample.cluster for sample in task.samples] != [sample.cluster for sample in ordered]
