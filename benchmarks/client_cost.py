"""What asking costs: evalsuite, lm-eval and plain aiohttp put the same questions to the same server, in turns.

    uv run python benchmarks/client_cost.py [--server embedded|fake|DIR] [--model PATH] [--samples N] [--rounds N]

The clients run in this process, one after the other, round after round. Measured is the asking alone: from the first
question to the last stored answer, without imports, the reading of tasks, the loading of the model and the scoring.

* CPU: seconds of this process, all threads, user and system, per 1,000 requests.
* Slots busy: prompt_ms + predicted_ms of every answer, as the server times them, over slots × wall time. The fake
  server makes its timings up, so there is none of it there.
* A request is one answer of the model: a log-likelihood takes three calls (twice to tokenise), a choice among four
  letters six.
"""

import argparse
import asyncio
import gc
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import gguf
import lm_eval
import numpy as np
import orjson
import yaml
from lm_eval.models.openai_completions import LocalChatCompletion
from lm_eval.tasks import TaskManager
from rich.console import Console
from rich.table import Table

from evalsuite.demo import fetch_model
from evalsuite.plan import Plan
from evalsuite.records import Generate, Sampling
from evalsuite.run import Silent, run
from evalsuite.serve.fake import install_fake
from evalsuite.serve.launch import arguments, in_flight, read_profile
from evalsuite.serve.llama_cpp import LlamaCpp, find_llama_cpp
from evalsuite.serve.process import Address, ServerProcess
from evalsuite.spec import ServerEntry
from evalsuite.store import Store
from evalsuite.sweep import open_sweep

CHAT, LOGLIKELIHOOD, CHOOSE = "lm-eval:questions", "endings", "letters"
SERVER = ServerEntry(profile="ci")
FLOOR = "aiohttp"


@dataclass
class Asking:
    """What one client spent on its questions; `slot_ms` is how long slots worked on them, by the server's clock."""

    requests: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    slot_ms: float = 0.0
    prompt_tokens: int = 0
    written_tokens: int = 0
    _began: tuple[float, float] | None = None

    def begin(self) -> None:
        """Start the clocks, if they do not run yet."""
        self._began = self._began or (time.process_time(), time.monotonic())

    def end(self) -> None:
        """Read the clocks; the last reading counts."""
        if self._began is not None:
            self.cpu_s, self.wall_s = time.process_time() - self._began[0], time.monotonic() - self._began[1]

    def answered(self, prompt_tokens: int, written_tokens: int, timings: Mapping[str, float]) -> None:
        """Count one answer."""
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.written_tokens += written_tokens
        self.slot_ms += timings.get("prompt_ms", 0.0) + timings.get("predicted_ms", 0.0)


@dataclass(frozen=True)
class Bench:
    """A server on loopback, the questions in `folder`, and the plan that asks them of it and of a server of its own."""

    folder: Path
    llama_cpp: LlamaCpp
    plan: Plan
    address: Address

    @property
    def width(self) -> int:
        """How many requests every client keeps under way."""
        return in_flight(self.plan.profile.parallel)


def main() -> None:
    """Measure, and print two tables."""
    args = _parser().parse_args()
    screen, load = Console(width=None if sys.stdout.isatty() else 120), [os.getloadavg()[0]]
    with TemporaryDirectory() as folder, bench(Path(folder), args.server, args.model, args.samples) as ready:
        tcp, own = ready.plan.arms[1].name, ready.plan.arms[0].name
        clients: dict[str, Callable[[], Asking]] = {
            FLOOR: lambda: asyncio.run(ask_plainly(ready)),
            "lm-eval": lambda: ask_lm_eval(ready),
            "evalsuite": lambda: asyncio.run(ask_evalsuite(ready, CHAT, tcp)),
            "evalsuite, own server": lambda: asyncio.run(ask_evalsuite(ready, CHAT, own)),
        }
        chats = in_turns(clients, args.rounds)
        others = in_turns(
            {
                "log-likelihood": lambda: asyncio.run(ask_evalsuite(ready, LOGLIKELIHOOD, tcp)),
                "choice of four letters": lambda: asyncio.run(ask_evalsuite(ready, CHOOSE, tcp)),
            },
            args.rounds,
        )
    slots = 0 if args.server == "fake" else ready.plan.profile.parallel
    load.append(os.getloadavg()[0])
    title = f"{args.samples} conversations, {ready.width} under way, {args.rounds} rounds: min / median / max"
    screen.print(table(title, chats, slots))
    screen.print(table("Other requests of evalsuite", others, slots))
    cores = os.cpu_count() or 1
    screen.print(
        f"{platform.machine()}, {cores} cores, load average {load[0]:.1f} before and {load[1]:.1f} after, "
        f"Python {platform.python_version()}, {ready.llama_cpp.version}",
        highlight=False,
    )
    if max(load) > cores:
        screen.print("Warning: more work than cores here. Wall times mean little; CPU compares within a table only.")
    if len({each.prompt_tokens for askings in chats.values() for each in askings}) > 1:
        raise SystemExit("The clients did not ask the same: their prompts differ in tokens. Nothing above counts.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="embedded", help="embedded, fake, or the folder of a llama.cpp build")
    parser.add_argument("--model", type=Path, help="a GGUF; the demo's by default")
    parser.add_argument("--samples", type=int, default=40, help="requests a round of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


@contextmanager
def bench(folder: Path, server: str, model: Path | None, samples: int) -> Iterator[Bench]:
    """Start a server on loopback TCP, which is all that lm-eval speaks, and write the questions for it."""
    if server == "fake":
        llama_cpp = find_llama_cpp(install_fake(folder / "llama.cpp"))
        path = write_toy(folder / "toy.gguf")
    else:
        llama_cpp = find_llama_cpp(Path(server))
        path = (model or fetch_model(print)).absolute()
    # The fake computes every token in Python: with one token an answer it is the clients that are measured.
    write_questions(folder / "tasks", samples, max_tokens=1 if server == "fake" else 32)
    process = ServerProcess(llama_cpp.server, folder / "server.log")
    try:
        process.spawn(arguments(
            read_profile(SERVER, folder), model=path, host="127.0.0.1", port=0, alias=process.alias, kv_cache="f16",
            template=None, seed=1,
        ))  # fmt: skip
        address = asyncio.run(process.ready(path.stat().st_size))
        os.environ["EVALSUITE_API_KEY"] = os.environ["OPENAI_API_KEY"] = address.key
        yield Bench(folder, llama_cpp, make_plan(folder, path, address, server), address)
    finally:
        asyncio.run(process.stop())


def make_plan(folder: Path, model: Path, address: Address, server: str) -> Plan:
    """Return a plan of two arms: a server of our own on its unix socket, and the one at `address`."""
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump({
        "model": "bench", "reference": str(model), "quants": [{"name": "attached", "url": address.url}],
        "replicate_reference": False, "server": SERVER.profile, "tasks_from": ["tasks"],
        "tasks": [CHAT, LOGLIKELIHOOD, CHOOSE],
    }), encoding="utf-8")  # fmt: skip
    llama_cpp = folder / "llama.cpp" if server == "fake" else Path(server)
    with Store(folder / "plan") as store:
        return open_sweep(sweep, store, llama_cpp=llama_cpp).plan


def in_turns(clients: Mapping[str, Callable[[], Asking]], rounds: int) -> dict[str, list[Asking]]:
    """Let the clients ask one after the other, round after round."""
    askings: dict[str, list[Asking]] = {name: [] for name in clients}
    for number in range(rounds):
        for name, ask in clients.items():
            # A line, not a spinner: what animates it would be counted as the client's.
            sys.stderr.write(f"round {number + 1} of {rounds}: {name}\n")
            gc.collect()
            askings[name].append(ask())
    return askings


class Watch(Silent):
    """Starts the clocks when evalsuite turns to a task, and reads them at each sample that is done."""

    def __init__(self, asking: Asking, task: str) -> None:
        self._asking, self._task = asking, task

    def phase(self, arm: str, doing: str) -> None:
        """Start when the first question is asked: the server is loaded and checked by then."""
        del arm
        if doing == self._task:
            self._asking.begin()

    def advance(self, samples: int = 1) -> None:
        """Read the clocks."""
        del samples
        self._asking.end()


async def ask_evalsuite(bench: Bench, task: str, arm: str) -> Asking:
    """Ask as `evalsuite run` does, into a store of its own; the progress bar is left out."""
    asking = Asking()
    plan = replace(
        bench.plan,
        arms=tuple(each for each in bench.plan.arms if each.name == arm),
        tasks=tuple(each for each in bench.plan.tasks if each.task.name == task),
    )
    with TemporaryDirectory(dir=bench.folder) as folder, Store(Path(folder)) as store:
        [result] = await run(plan, store, bench.llama_cpp, progress=Watch(asking, task))
        if result.status != "ok":
            raise SystemExit(f"evalsuite did not finish: {result}")
        for output, timings in store.db.execute("SELECT output, timings FROM generation"):
            said = orjson.loads(output)
            asking.answered(said["prompt_tokens"], said["completion_tokens"], orjson.loads(timings))
    return asking


class TimedChat(LocalChatCompletion):  # type: ignore[misc] # lm-eval has no types
    """lm-eval's client as it is, with clocks around the asking."""

    def __init__(self, asking: Asking, **options: Any) -> None:
        super().__init__(**options)
        self.asking = asking

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Ask, between two readings of the clocks."""
        self.asking.begin()
        answers: list[str] = super().generate_until(requests, disable_tqdm)
        self.asking.end()
        return answers

    def parse_generations(self, outputs: Mapping[str, Any], **options: Any) -> list[str]:
        """Read a reply, and count it."""
        count(self.asking, outputs)
        answers: list[str] = super().parse_generations(outputs, **options)
        return answers


def ask_lm_eval(bench: Bench) -> Asking:
    """Ask through `simple_evaluate` and `local-chat-completions`."""
    asking = Asking()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its progress bar
        lm_eval.simple_evaluate(
            TimedChat(
                asking, model="bench", base_url=f"{bench.address.url}/v1/chat/completions", num_concurrent=bench.width
            ),
            tasks=[CHAT.removeprefix("lm-eval:")],
            task_manager=TaskManager(include_path=bench.folder / "tasks", include_defaults=False),
            apply_chat_template=True,
            bootstrap_iters=0,
        )
    return asking


async def ask_plainly(bench: Bench) -> Asking:
    """Post the bodies that lm-eval posts, read the replies as JSON and keep nothing: the floor."""
    asking = Asking()
    [planned] = [each for each in bench.plan.tasks if each.task.name == CHAT]
    requests = [next(planned.task.solve(sample, Sampling()))[0] for sample in planned.task.samples]
    bodies: Iterator[dict[str, Any]] = iter([
        {
            "messages": request.prompt, "model": "bench", "max_tokens": request.sampling.max_tokens, "temperature": 0.0,
            "stop": [], "seed": 1234,
        }
        for request in requests if isinstance(request, Generate)
    ])  # fmt: skip

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            async with session.post("/v1/chat/completions", json=body) as reply:
                count(asking, await reply.json())

    key = {"Authorization": f"Bearer {bench.address.key}"}
    async with aiohttp.ClientSession(bench.address.url, headers=key, raise_for_status=True) as session:
        asking.begin()
        await asyncio.gather(*(worker(session) for _ in range(bench.width)))
        asking.end()
    return asking


def count(asking: Asking, reply: Mapping[str, Any]) -> None:
    """Count one reply of `/v1/chat/completions`."""
    asking.answered(reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"], reply["timings"])


def table(title: str, askings: Mapping[str, Sequence[Asking]], slots: int) -> Table:
    """Return a row a client; `slots` is 0 where the server's timings are not to be believed."""
    shown = Table("", title=title, title_justify="left")
    for name in ("CPU s per 1,000", "× floor", "requests per s", "slots busy %", "tokens written"):
        shown.add_column(name, justify="right")
    floor = [_cpu(each) for each in askings.get(FLOOR, ())]
    for name, runs in askings.items():
        cpu = [_cpu(each) for each in runs]
        shown.add_row(
            name, _spread(cpu, 2), f"{median(cpu) / median(floor):.1f}" if floor else "–",
            _spread([each.requests / each.wall_s for each in runs], 1),
            _spread([0.1 * each.slot_ms / slots / each.wall_s for each in runs], 1) if slots else "–",
            f"{sum(each.written_tokens for each in runs) / sum(each.requests for each in runs):.1f}",
        )  # fmt: skip
    return shown


def _cpu(asking: Asking) -> float:
    return 1000 * asking.cpu_s / asking.requests


def _spread(values: Sequence[float], digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))


def write_questions(folder: Path, samples: int, *, max_tokens: int) -> None:
    """Write the questions: a conversation task for lm-eval and evalsuite alike, and two tasks of evalsuite's own."""
    asked = [f"What is {7 * index % 89} plus {index % 61}? Explain how to add the two." for index in range(samples)]
    folder.mkdir()
    lines(folder / "questions.jsonl", [{"question": question, "answer": "a sum"} for question in asked])
    write_yaml(folder / "questions.yaml", {
        "task": "questions", "dataset_path": "json", "dataset_kwargs": {"data_files": str(folder / "questions.jsonl")},
        "test_split": "train", "output_type": "generate_until", "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}", "metadata": {"version": 1},
        "generation_kwargs": {"until": [], "max_gen_toks": max_tokens, "temperature": 0.0, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    })  # fmt: skip
    for name, solver, choices in (
        (LOGLIKELIHOOD, "loglikelihood", [" The sum is even.", " The sum is odd."]),
        (CHOOSE, "choose", [" A", " B", " C", " D"]),
    ):
        (folder / name).mkdir()
        task = {"name": name, "version": 1, "solver": solver, "scorer": "choice", "data": "samples.jsonl"}
        write_yaml(folder / name / "task.yaml", task)
        rows = [
            {"sample_id": str(index), "prompt": question, "target": 0, "choices": choices}
            for index, question in enumerate(asked)
        ]
        lines(folder / name / "samples.jsonl", rows)


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file."""
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def write_toy(path: Path) -> Path:
    """Write a GGUF with the vocabulary size of the fake server; what else is in it does not matter to the fake."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32768)
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{index}" for index in range(440)])
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    main()
