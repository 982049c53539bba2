"""Toy models, tasks and sweeps for the fake server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import yaml

from evalsuite.serve.fake import install_fake
from evalsuite.serve.serving import Patience
from evalsuite.store import Store
from evalsuite.sweep import Finished, open_sweep, run_sweep

VOCABULARY = 440
"""How many tokens the fake server's toy model has; a test compares it with what the fake says."""


def toy_gguf(
    path: Path, *, weight: float = 0.5, vocabulary: int = VOCABULARY, layers: int = 1, prefix: str = "t"
) -> Path:
    """Write a tiny but well-formed GGUF; the fake server answers by its bytes, so `weight` is what makes a quant."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("toy")
    writer.add_context_length(32768)
    writer.add_block_count(layers)
    writer.add_embedding_length(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"{prefix}{index}" for index in range(vocabulary)])
    writer.add_tensor("token_embd.weight", np.full((1, 1), weight, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclass
class Bench:
    """A sweep of toy models on the fake server, in a folder of its own."""

    folder: Path
    fake: Path
    sweep: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / "sweep.yaml"

    def write(self, **changes: Any) -> Path:
        """Write sweep.yaml with some keys changed."""
        self.sweep |= changes
        self.path.write_text(yaml.safe_dump(self.sweep), encoding="utf-8")
        return self.path

    def faults(self, plan: Mapping[str, Any]) -> None:
        """Give the fake another plan; the program itself, and so the build id, stays what it was."""
        (self.fake / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    def run(self, *, accept_changes: bool = False, patience: Patience | None = None) -> Finished:
        """Run the sweep in this process."""
        with Store(self.folder / "results") as store:
            opened = open_sweep(self.write(), store, llama_cpp=self.fake, accept_changes=accept_changes)
            return run_sweep(opened, patience=patience or HURRY)

    def items(self) -> list[tuple[Any, ...]]:
        """Return the rows of the final table."""
        with Store(self.folder / "results") as store:
            return store.items()


HURRY = Patience(wedge_s=1.0, watch_s=0.1, backoff_s=0.01)

TASKS = {
    "ends": {"solver": "loglikelihood", "scorer": "choice", "chance": 0.5, "choices": [" of the", " and not"]},
    "letters": {"solver": "choose", "scorer": "choice", "chance": 0.5, "choices": [" A", " B"]},
    "echo": {"solver": "generate", "scorer": "exact", "max_tokens": 6},
}


def write_tasks(folder: Path, size: int) -> None:
    """Write a task for each solver, with `size` samples of plain words."""
    for name, keys in TASKS.items():
        task = {"name": name, "version": 1, "data": "samples.jsonl", **keys}
        choices = task.pop("choices", [])
        (folder / name).mkdir(parents=True)
        (folder / name / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
        rows = []
        for index in range(size):
            text = f"Word {index} comes before word {index + 1}"
            prompt = [{"role": "user", "content": text}] if name == "echo" else text
            target: Any = index % 2 if choices else str(index)
            rows.append({"sample_id": f"{name}-{index}", "prompt": prompt, "target": target, "choices": choices})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / "samples.jsonl").write_text(lines, encoding="utf-8")


def make_bench(folder: Path, size: int = 4) -> Bench:
    """Lay out a bench in a folder."""
    (folder / "models").mkdir()
    for name, weight in {"ref": 0.5, "big": 0.25, "small": 0.125}.items():
        toy_gguf(folder / "models" / f"{name}.gguf", weight=weight)
    write_tasks(folder / "tasks", size)
    sweep = {
        "model": "toy", "reference": "models/ref.gguf", "quants": ["models/*.gguf"], "tasks_from": ["tasks"],
        "tasks": list(TASKS), "server": {"profile": "ci", "ctx": 512}, "out": "results",
    }  # fmt: skip
    return Bench(folder, install_fake(folder / "llama.cpp"), sweep)
