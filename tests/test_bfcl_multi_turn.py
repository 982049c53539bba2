"""BFCL's conversations: scripted models against the wheel's own checker, and calls that never end."""

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.errors import MachineError, SpecError
from evalsuite.records import Generate, Outcome, Output, Sample, Sampling, Scored
from evalsuite.shipped import shipped
from evalsuite.task.tasks import Task, read_task, read_task_file
from evalsuite.task.tool_calls import worlds
from evalsuite.task.tool_calls.multi_turn import MORE_FUNCTIONS, STEPS, multi_turn, score_multi_turn
from evalsuite.task.tool_calls.worlds import Simulation, WorldCall
from evalsuite.wheels import unpacked_wheel

Script = list[list[list[WorldCall]]]
"""What a scripted model calls: by turn and step."""


@pytest.fixture(scope="module")
def wheel() -> Path:
    try:
        return unpacked_wheel(str(read_task_file(shipped("tasks") / "bfcl_multi_turn").dataset.wheel))
    except MachineError as error:
        pytest.skip(f"needs bfcl-eval out of the package index: {error}")


@pytest.fixture(scope="module")
def task(wheel: Path) -> Task:
    return read_task(shipped("tasks") / "bfcl_multi_turn", data=wheel)


@pytest.fixture(scope="module")
def upstream(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The wheel's checker of conversations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BFCL_PROJECT_ROOT", str(tmp_path_factory.mktemp("bfcl")))
        patch.syspath_prepend(str(wheel))
        for name in [name for name in sys.modules if name.startswith("bfcl_eval")]:
            patch.delitem(sys.modules, name)
        from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker  # noqa: PLC0415 - on the path only here

        yield multi_turn_checker.multi_turn_checker


def call(name: str, positional: Sequence[Any], named: Any) -> dict[str, Any]:
    return {"id": "x", "function": {"name": name, "arguments": json.dumps(named)}}


def converse(sample: Sample, script: Script) -> tuple[list[Generate], tuple[Output, ...]]:
    """Let a scripted model answer; return what it was asked and its outputs."""
    dialogue, asked = multi_turn()(sample, Sampling()), []
    steps = [[*turn, []] for turn in script]  # an answer without calls ends a turn
    flat = iter([step for turn in steps for step in turn])
    try:
        (request,) = next(dialogue)
        while True:
            asked.append(request)
            calls = [call(*each) for each in next(flat)]
            outputs = (Output(Outcome.OK, "" if calls else "Done.", tool_calls=tuple(calls)),)
            (request,) = dialogue.send(outputs)
    except StopIteration as done:
        return asked, done.value


def named_only(sample: Sample) -> bool:
    """Whether every wanted call has named arguments only, as a model's calls have."""
    return not any(positional for turn in sample.target for _, positional, _ in turn)


def verdict(upstream: Any, sample: Sample, script: Script, tag: str) -> bool:
    """What the wheel's checker says; `tag` keeps its worlds, which it holds by name, apart."""
    written = [
        [
            [f"{name}({','.join(f'{key}={value!r}' for key, value in named.items())})" for name, _, named in step]
            for step in turn
        ]
        for turn in script
    ]
    truth = [
        [
            f"{name}({','.join([*map(repr, positional), *(f'{k}={v!r}' for k, v in named.items())])})"
            for name, positional, named in turn
        ]
        for turn in sample.target
    ]
    world = sample.metadata["world"]
    entry = {"id": sample.sample_id, "initial_config": world["config"], "involved_classes": world["classes"]}
    return bool(upstream(written, truth, entry, sample.stratum, tag)["valid"])


def scripts(sample: Sample, rng: np.random.Generator) -> list[Script]:
    """The wanted calls, a step each or all at once, and with one of them left out, said twice, changed or put elsewhere."""
    right: Script = [[[each] for each in turn] for turn in sample.target]
    at_once: Script = [[turn] if turn else [] for turn in sample.target]
    found = [right, at_once]
    turns = [number for number, turn in enumerate(sample.target) if turn]
    for kind in range(4):
        script = copy.deepcopy(right)
        turn = script[turns[rng.integers(len(turns))]]
        at = int(rng.integers(len(turn)))
        ((name, positional, named),) = turn[at]
        if kind == 0:
            del turn[at]
        elif kind == 1:
            turn.insert(at, turn[at])
        elif kind == 2:
            turn[at] = [(name, positional, {**named, next(iter(named), "extra"): "something else"})]
        else:
            turn.insert(at, [("no_such_function", [], {})])
        found.append(script)
    return found


def test_verdicts_are_upstreams(task: Task, upstream: Any):
    """On conversations of every category, right and spoilt, the verdict is that of the wheel's checker, replay by replay."""
    rng = np.random.default_rng(11)
    verdicts = []
    for sample in [each for each in task.samples if named_only(each)][:60]:
        for number, script in enumerate(scripts(sample, rng)):
            _, outputs = converse(sample, script)
            score = score_multi_turn(sample, outputs)
            theirs = verdict(upstream, sample, script, f"model{number}")
            assert bool(score.value) == theirs, (sample.sample_id, number, score.metrics)
            if number < 2:
                assert theirs, sample.sample_id
            verdicts.append(theirs)
    assert 0.3 < np.mean(verdicts) < 0.9


def test_every_truth_passes(task: Task):
    """The wanted calls, positional arguments and all, pass their own check in all 800 conversations."""
    for sample in task.samples:
        simulation = worlds.simulation(Path(sample.metadata["package"]))
        assert simulation.failed(sample.metadata["world"], sample.target, sample.target) is None
        assert len(sample.target) == len(sample.metadata["turns"])


def test_a_conversation_goes_as_upstreams(task: Task):
    """Results come back under their call's id, functions that were held back are offered in their turn, ids are our own."""
    sample = next(each for each in task.samples if each.stratum == "multi_turn_miss_func" and named_only(each))
    asked, outputs = converse(sample, [[[each] for each in turn] for turn in sample.target])
    assert score_multi_turn(sample, outputs).value == 1
    (turn,) = sample.metadata["held_back"]
    names = [{tool["function"]["name"] for tool in request.tools} for request in asked]
    held = {tool["function"]["name"] for tool in sample.metadata["held_back"][turn]}
    assert not held & names[0]
    assert held <= names[-1]
    history = asked[-1].prompt
    assert sum(message["content"] == MORE_FUNCTIONS for message in history) == 1
    ids = [made["id"] for message in history for made in message.get("tool_calls", ())]
    assert ids == [f"call{number:05d}" for number in range(len(ids))]
    assert [message["tool_call_id"] for message in history if message["role"] == "tool"] == ids


def test_what_cannot_be_read_ends_a_turn(task: Task):
    """A malformed call is never sent back and fails as `tool_parse_error`; a conversation without an end fails too."""
    sample = next(each for each in task.samples if each.stratum == "multi_turn_base")
    dialogue = multi_turn()(sample, Sampling())
    next(dialogue)
    broken = {"id": "x", "function": {"name": "cd", "arguments": '{"folder": '}}
    (request,) = dialogue.send((Output(Outcome.OK, "Let me see.", tool_calls=(broken,)),))
    assert [message["role"] for message in request.prompt] == ["user", "assistant", "user"]
    assert "tool_calls" not in request.prompt[1]
    score = score_multi_turn(sample, [Output(Outcome.OK, tool_calls=(broken,))] * len(sample.metadata["turns"]))
    assert (score.value, score.outcome, score.metrics["parsable"]) == (0, Outcome.TOOL_PARSE_ERROR, 0)
    _, outputs = converse(sample, [[[("pwd", [], {})]] * (STEPS + 1)])
    endless = score_multi_turn(sample, outputs)
    assert (len(outputs), endless.value, endless.metrics["ended"]) == (STEPS + 1, 0, 0)
    overflow = task.score(sample, (Output(Outcome.OVERFLOW),))
    assert isinstance(overflow, Scored)
    assert (overflow.value, overflow.outcome) == (0, Outcome.OVERFLOW)


def test_a_call_that_never_ends_is_given_up(wheel: Path, monkeypatch: pytest.MonkeyPatch):
    """A power of huge numbers is killed, and the next request has a fresh process; nothing private can be called."""
    monkeypatch.setattr(worlds, "SECONDS", 1.0)
    simulation, world = Simulation(wheel), {"classes": ["MathAPI"], "config": {}, "long_context": False}
    assert simulation.results(world, [("power", [], {"base": 9, "exponent": 10**9})]) is None
    told = simulation.results(world, [
        ("add", [], {"a": 2, "b": 3}), ("__init__", [], {}), ("eval", [], {"x": "1"}), ("add", [], {"c": 1})
    ])  # fmt: skip
    assert told is not None
    assert told[0] == '{"result": 5}'
    assert all(text.startswith("Error during execution") for text in told[1:])
    simulation.stop()


def test_worlds_are_needed(wheel: Path, tmp_path: Path):
    """Data without the worlds beside it is refused with what to give."""
    (tmp_path / "bfcl_eval").mkdir()
    (tmp_path / "bfcl_eval" / "data").symlink_to(wheel / "bfcl_eval" / "data")
    with pytest.raises(SpecError, match="Give the whole unpacked wheel"):
        read_task(shipped("tasks") / "bfcl_multi_turn", data=tmp_path)
