"""BFCL v4's conversations of several turns: the model calls functions of simulated worlds until it has no more to call.

Source: the wheel bfcl-eval 2026.3.23 (Apache-2.0), whose data and worlds are used. The way of asking is that of its
handler for chat APIs, the verdict that of its checker; where that evaluates strings that the model wrote, calls are
looked up by their names here.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.records import Generate, Message, Outcome, Output, Sample, Sampling, Scored
from evalsuite.task.datasets import Dataset, Row
from evalsuite.task.solvers import Dialogue, Solver
from evalsuite.task.tool_calls.bfcl import ANSWERS, openai_tool
from evalsuite.task.tool_calls.calls import Attempt, read_attempt
from evalsuite.task.tool_calls.simulated import MODULES
from evalsuite.task.tool_calls.worlds import WorldCall, simulation

STEPS = 20
"""After so many answers with calls in one turn a further one ends the conversation, which has failed then."""

MORE_FUNCTIONS = "I have updated some more functions you can choose from. What about now?"
"""What upstream says in the turn in which functions that were held back are offered."""

DOCS = "docs_"
"""What the splits of function descriptions are named with in front of their class of worlds."""


def bfcl_multi_turn(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Make samples of BFCL's conversations; the stratum is the category.

    The target is the calls that are wanted in each turn. The metadata has `world` (what `simulated` is asked with), `tools`,
    `turns` (the user's messages), and `held_back` (tools by the turn in which they are offered). Raises SpecError where the
    data is not that of an unpacked wheel, whose worlds are needed.
    """
    package = dataset.folder.parent.parent
    if not (package / "bfcl_eval" / "eval_checker").is_dir():
        raise SpecError(f"bfcl_multi_turn: {dataset.folder}: the worlds are not there. Give the whole unpacked wheel.")
    docs = {name: dataset.splits[f"{DOCS}{name}"] for name in MODULES}
    samples = []
    for category, rows in dataset.splits.items():
        if category.startswith((ANSWERS, DOCS)):
            continue
        answers = {row["id"]: row["ground_truth"] for row in dataset.splits[f"{ANSWERS}{category}"]}
        samples += [_sample(row, category, answers[row["id"]], docs, package) for row in rows]
    return samples


def _sample(row: Row, category: str, truth: Any, docs: Mapping[str, Sequence[Row]], package: Path) -> Sample:
    offered = {each["name"]: openai_tool(each, category) for name in row["involved_classes"] for each in docs[name]}
    held = {int(turn): [offered.pop(name) for name in names] for turn, names in row.get("missed_function", {}).items()}
    world = {
        "classes": row["involved_classes"], "config": row["initial_config"], "long_context": category.endswith("long_context")
    }  # fmt: skip
    return Sample(
        row["id"], tuple(row["question"][0]), [[_parsed(call) for call in turn] for turn in truth], stratum=category,
        metadata={
            "world": world, "tools": [*offered.values()], "turns": row["question"], "held_back": held, "package": str(package),
        },
    )  # fmt: skip


def _parsed(call: str) -> WorldCall:
    """Read a wanted call, which is written as Python; its arguments are literals."""
    found = ast.parse(call, mode="eval").body
    if not isinstance(found, ast.Call) or not isinstance(found.func, ast.Name):
        raise ValueError(f"no call: {call!r}")  # noqa: TRY004 - bad data
    named = {str(each.arg): ast.literal_eval(each.value) for each in found.keywords}
    return found.func.id, [ast.literal_eval(each) for each in found.args], named


def multi_turn(*, max_tokens: int | None = None) -> Solver:
    """Let the model call until it has nothing more to call in a turn, then go on with the next.

    An answer whose calls cannot be read ends its turn and is not sent back. The outputs are those of every step.
    """

    def solve(sample: Sample, sampling: Sampling) -> Dialogue:
        tokens = sampling.max_tokens if max_tokens is None else min(max_tokens, sampling.max_tokens)
        bounded = replace(sampling, max_tokens=tokens)
        metadata = sample.metadata
        worlds = simulation(Path(metadata["package"]))
        tools, history = list(metadata["tools"]), list[Message]()
        outputs, made, dead = list[Output](), list[WorldCall](), set[int]()
        for turn, messages in enumerate(metadata["turns"]):
            if turn in metadata["held_back"]:
                tools += metadata["held_back"][turn]
                messages = [{"role": "user", "content": MORE_FUNCTIONS}]  # noqa: PLW2901 - that turn has none of its own
            history += messages
            for step in range(STEPS + 1):
                (output,) = yield (Generate(tuple(history), bounded, tools=tuple(tools), tool_choice="auto"),)
                outputs.append(output)
                calls = _calls(output, tools)
                if output.outcome is Outcome.OVERFLOW or (calls and step == STEPS):
                    return tuple(outputs)
                if not calls:
                    history.append({"role": "assistant", "content": output.text})
                    break
                history.append(_said(output, calls, len(made)))
                for call in calls:
                    made.append(call)
                    known = [each for number, each in enumerate(made) if number not in dead]
                    results = worlds.results(metadata["world"], known)
                    if results is None:
                        dead.add(len(made) - 1)
                    result = "Error during execution: it took too long" if results is None else results[-1]
                    history.append({"role": "tool", "tool_call_id": _call_id(len(made) - 1), "content": result})
        return tuple(outputs)

    return solve


def score_multi_turn(sample: Sample, outputs: Sequence[Output]) -> Scored:
    """Return 1 when every turn passes by BFCL's rules; the metrics say how far a conversation came, and why it failed.

    `turns_passed` is the share of turns before the first that fails, `parsable` whether every call could be read, `ended`
    whether the last turn was reached and ended before too many steps.
    """
    metadata = sample.metadata
    offered = [*metadata["tools"], *(tool for held in metadata["held_back"].values() for tool in held)]
    turns: list[list[WorldCall]] = [[]]
    ended = 0
    for output in outputs:
        if calls := _calls(output, offered):
            turns[-1] += calls
        elif output.outcome is not Outcome.OVERFLOW:
            ended += 1
            turns.append([])
    parsable = not any(_attempt(output, offered).malformed for output in outputs)
    failed: tuple[int, str] | None = (ended, "not ended")
    if ended == len(metadata["turns"]):
        failed = simulation(Path(metadata["package"])).failed(metadata["world"], turns[:ended], sample.target)
    passed = len(metadata["turns"]) if failed is None else failed[0]
    metrics = {
        "turns_passed": passed / len(metadata["turns"]), "parsable": float(parsable),
        "ended": float(ended == len(metadata["turns"])), "reason": None if failed is None else failed[1],
    }  # fmt: skip
    outcome = Outcome.OK
    if failed is not None:
        cut = [each.outcome for each in outputs if each.outcome in {Outcome.OVERFLOW, Outcome.TRUNCATED}]
        outcome = Outcome.TOOL_PARSE_ERROR if not parsable else cut[-1] if cut else Outcome.OK
    answer = "\n".join(f"{name}({json.dumps(named)})" for turn in turns for name, _, named in turn)
    return Scored(float(failed is None), outcome, answer, metrics=metrics)


def _attempt(output: Output, tools: Sequence[Mapping[str, Any]]) -> Attempt:
    return read_attempt(output, [tool["function"]["name"] for tool in tools])


def _calls(output: Output, tools: Sequence[Mapping[str, Any]]) -> list[WorldCall]:
    """Return the calls of an answer; none where one of them cannot be read."""
    attempt = _attempt(output, tools)
    return [] if attempt.malformed else [(call.name, [], call.arguments or {}) for call in attempt.calls]


def _said(output: Output, calls: Sequence[WorldCall], before: int) -> Message:
    """Return an answer as it goes into the history, its calls numbered: a server's ids are random."""
    made = [
        {
            "id": _call_id(before + number),
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(named)},
        }
        for number, (name, _, named) in enumerate(calls)
    ]
    return {"role": "assistant", "content": output.text, "tool_calls": made}


def _call_id(number: int) -> str:
    return f"call{number:05d}"  # Mistral's templates want nine signs
