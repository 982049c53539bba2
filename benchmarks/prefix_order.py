"""What it saves to ask prompts that begin alike one after the other, with the server's prompt cache on.

    uv run python benchmarks/prefix_order.py [--model FILE] [--haystacks N]

The samples are those of `long_context` with one family, five questions to a haystack, at half of a context of 4,096
tokens, on the profile `long-context` (one slot, embedded server). They are asked without a prompt cache, with it in a
shuffled order, and with it in the order of a run. Prompt tokens are those that the server says it read; scores and
answers stand beside the times, as reused tokens are computed in other batches and may move a log-probability.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evalsuite.demo import fetch_model
from evalsuite.records import Generate, Sample, Sampling, Scored
from evalsuite.run import turn
from evalsuite.serve.client import Endpoint
from evalsuite.serve.launch import arguments, read_profile
from evalsuite.serve.llama_cpp import find_llama_cpp
from evalsuite.serve.process import ServerProcess
from evalsuite.shipped import shipped
from evalsuite.spec import ServerEntry
from evalsuite.task.room import Room
from evalsuite.task.tasks import Task, read_task

OPTIONS = {"families": ["keys"], "lengths": [0.5], "value": "number", "values": 1, "chains": 1, "hops": 1}
SAMPLING = Sampling(max_tokens=24)


def main() -> int:
    """Print a row a way of asking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF; SmolLM2-135M Q4_1 without")
    parser.add_argument("--haystacks", type=int, default=4)
    given = parser.parse_args()
    model = (given.model or fetch_model(print)).absolute()
    table = Table("way", title=model.name, title_justify="left")
    for heading in ("seconds", "prompt tokens read", "score", "answers as in the first row"):
        table.add_column(heading, justify="right")
    first: dict[str, str] = {}
    for way, cache, shuffled in (
        ("no cache", False, False), ("cache, shuffled", True, True), ("cache, a run's order", True, False),
    ):  # fmt: skip
        seconds, read, scores, answers = asyncio.run(
            asked(model, model.stat().st_size, given.haystacks, cache=cache, shuffled=shuffled)
        )
        first = first or answers
        same = sum(first[name] == answer for name, answer in answers.items())
        row = (
            f"{seconds:.1f}",
            f"{read:,}",
            f"{100 * np.mean(scores):.1f} (n = {len(scores)})",
            f"{same} of {len(answers)}",
        )
        table.add_row(way, *row)
    Console().print(table)
    return 0


async def asked(
    model: Path, n_bytes: int, haystacks: int, *, cache: bool, shuffled: bool
) -> tuple[float, int, list[float], dict[str, str]]:
    """Ask every sample once; return the seconds, the prompt tokens that the server read, the scores and the answers."""
    profile = read_profile(ServerEntry(profile="long-context", ctx=4096), Path())
    profile = profile.model_copy(update={"flags": {**profile.flags, "cache-prompt": True}})
    process = ServerProcess(find_llama_cpp(Path("embedded")).server, Path("prefix_order.log"))
    process.spawn(arguments(
        profile, model=model, host=process.host, port=0, alias=process.alias, kv_cache="f16", template=None, seed=1
    ))  # fmt: skip
    try:
        address = await process.ready(n_bytes)
        async with Endpoint(address, in_flight=1, cache_prompt=cache, grace_s=600.0) as endpoint:
            await endpoint.read_settings()
            task = await sized(endpoint, haystacks)
            samples = sorted(task.samples, key=lambda sample: turn(next(task.solve(sample, SAMPLING))))
            if shuffled:
                samples = [samples[index] for index in np.random.default_rng(1).permutation(len(samples))]
            start = time.perf_counter()
            read, scores, answers = await ask_all(endpoint, task, samples)
            return time.perf_counter() - start, read, scores, answers
    finally:
        await process.stop()
        process.log.unlink(missing_ok=True)


async def sized(endpoint: Endpoint, haystacks: int) -> Task:
    """Make the task for this server's context, counted by its tokenizer."""
    loop = asyncio.get_running_loop()

    async def counts(texts: Sequence[str]) -> list[int]:
        return [await endpoint.count_tokens(text) for text in texts]

    room = Room(endpoint.n_ctx, lambda texts: asyncio.run_coroutine_threadsafe(counts(texts), loop).result())
    options = {**OPTIONS, "haystacks": haystacks}
    return await asyncio.to_thread(read_task, shipped("tasks") / "long_context", room=room, options=options)


async def ask_all(endpoint: Endpoint, task: Task, samples: Sequence[Sample]) -> tuple[int, list[float], dict[str, str]]:
    """Ask one after the other."""
    read, scores, answers = 0, [], {}
    for sample in samples:
        (request,) = next(task.solve(sample, SAMPLING))
        assert isinstance(request, Generate)  # noqa: S101 - the task's solver generates
        answered = await endpoint.ask(request)
        read += int(answered.timings.get("prompt_n") or 0)
        score = task.score(sample, (answered.output,))
        scores.append(score.value if isinstance(score, Scored) else float("nan"))
        answers[sample.sample_id] = answered.output.text
    return read, scores, answers


if __name__ == "__main__":
    sys.exit(main())
