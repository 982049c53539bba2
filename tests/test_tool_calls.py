"""Tasks with tools: what an answer tried to call, what that earned, and how a server is asked for it."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_live import with_endpoint

from evalsuite.errors import SpecError
from evalsuite.outputs import grade, read_outputs
from evalsuite.records import Generate, Outcome, Output, Sample, Sampling, Scored
from evalsuite.serve.client import Endpoint, RefusedError
from evalsuite.serve.streaming import joined
from evalsuite.shipped import shipped
from evalsuite.task.datasets import Dataset
from evalsuite.task.tasks import Task, read_task
from evalsuite.task.tool_calls.bfcl import bfcl
from evalsuite.task.tool_calls.scenarios import scenarios

TEMPLATE = Path(__file__).parent / "templates" / "chatml_tools.jinja"


@pytest.fixture(scope="module")
def task() -> Task:
    return read_task(shipped("tasks") / "tool_scenarios")


def first(task: Task, family: str) -> Sample:
    return next(sample for sample in task.samples if sample.stratum == family)


def picked(allowed: Any) -> Any:
    """The first allowed value, at every depth."""
    value = next(value for value in allowed if value != "")
    return chosen(value)


def chosen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: picked(inner) for key, inner in value.items() if set(map(str, inner)) != {""}}
    return [chosen(item) for item in value] if isinstance(value, list) else value


def right_calls(sample: Sample) -> list[dict[str, Any]]:
    """The wanted calls as a server gives them back."""
    return [
        call(name, {key: picked(allowed) for key, allowed in wanted.items() if set(map(str, allowed)) != {""}})
        for each in sample.target["calls"]
        for name, wanted in each.items()
    ]


def call(name: str, arguments: Any) -> dict[str, Any]:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": written}}


def scored(task: Task, sample: Sample, calls: Any = (), text: str = "", outcome: Outcome = Outcome.OK) -> Scored:
    score = task.score(sample, (Output(outcome, text, tool_calls=tuple(calls)),))
    assert isinstance(score, Scored)
    return score


def test_every_scenario_can_be_solved_and_spoilt(task: Task):
    """The wanted calls earn 1 and keep to the schemas; one argument changed, a call left out or one too many earns 0."""
    for sample in task.samples:
        calls = right_calls(sample)
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in sample.metadata["tools"]}
        for schema in schemas.values():
            Draft202012Validator.check_schema(schema)
        text = "" if calls else "I cannot do that."
        score = scored(task, sample, calls, text)
        assert score.value == 1, sample.sample_id
        assert all(metric == 1 for metric in score.metrics.values()), (sample.sample_id, score.metrics)
        extra = call(next(iter(schemas)), {}) if schemas else call("f", {})
        assert scored(task, sample, [*calls, extra], text).value == 0
        if calls:
            assert scored(task, sample, calls[1:], "Done.").value == 0
            spoilt = deepcopy(calls)
            arguments = json.loads(spoilt[0]["function"]["arguments"])
            name = next(iter(arguments), "extra")
            spoilt[0]["function"]["arguments"] = json.dumps({**arguments, name: "something else"})
            assert scored(task, sample, spoilt).value == 0, sample.sample_id


def test_numbers_survive_exactly(task: Task):
    """A number as text, one that lost its last digit and `true` for 1 are wrong; 2.0 is 2."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    for wanted, given, right in [
        (9007199254740993, 9007199254740993, True), (9007199254740993, 9007199254740992, False), (2, 2.0, True),
        (1, True, False), (7, "7", False), (0.1, 0.1, True), (0.1, 0.1000001, False), (-0.5, "-0.5", False),
    ]:  # fmt: skip
        target = {"expect": "calls", "calls": [{"f": {"x": [wanted]}}], "rules": "exact"}
        sample = Sample("a", ({"role": "user", "content": ""},), target, metadata={"tools": tools})
        assert scored(task, sample, [call("f", {"x": given})]).value == right, (wanted, given)


def test_a_malformed_call_is_the_models(task: Task):
    """Arguments that are no JSON, the server's refusal to parse, and a call written as text: `tool_parse_error`, 0 points."""
    sample = first(task, "numbers")
    name = next(iter(sample.target["calls"][0]))
    for output in [
        Output(Outcome.OK, tool_calls=(call(name, '{"a": '),)),
        Output(Outcome.OK, tool_calls=(call(name, "[1]"),)),
        Output(Outcome.TOOL_PARSE_ERROR, detail="HTTP 500: does not match the expected peg-native format"),
        Output(Outcome.OK, f'<tool_call>{{"name": "{name}"'),
        Output(Outcome.OK, f"{name}(value=1)"),
    ]:
        score = task.score(sample, (output,))
        assert isinstance(score, Scored)
        assert (score.value, score.outcome) == (0, Outcome.TOOL_PARSE_ERROR)
        assert (score.metrics["parsable"], score.metrics["schema_valid"]) == (0, 0)
    prose = task.score(sample, (Output(Outcome.OK, f"I would use {name} for that."),))
    assert (prose.outcome, prose.metrics.get("parsable")) == (Outcome.OK, None)


def test_each_fault_has_its_metric(task: Task):
    """The metrics tell a missing call, a wrong tool, a wrong argument, a wrong count and a needless call apart."""
    sample = first(task, "numbers")
    calls = right_calls(sample)
    other = next(
        t["function"]["name"] for t in sample.metadata["tools"] if t["function"]["name"] != calls[0]["function"]["name"]
    )
    assert scored(task, sample, text="Fine.").metrics == {"called": 0, "call_count": 0, "tool_choice": 0}
    assert scored(task, sample, outcome=Outcome.EMPTY).outcome == Outcome.EMPTY
    wrong_tool = scored(task, sample, [call(other, {})]).metrics
    assert (wrong_tool["tool_choice"], wrong_tool["call_count"], "arguments" in wrong_tool) == (0, 1, False)
    wrong_argument = scored(task, sample, [call(calls[0]["function"]["name"], {"nothing": 1})]).metrics
    assert (wrong_argument["tool_choice"], wrong_argument["arguments"], wrong_argument["schema_valid"]) == (1, 0, 0)
    assert scored(task, sample, [*calls, *calls]).metrics["call_count"] == 0
    needless = scored(task, first(task, "abstain"), [call("f", {})])
    assert (needless.value, needless.metrics["abstention"]) == (0, 0)


def test_messages_from_anywhere_are_scored_as_a_run_would(task: Task, tmp_path: Path):
    """`score --outputs` reads OpenAI messages with `tool_calls`, and an answer cut behind a complete call counts."""
    sample = first(task, "numbers")
    rows = [
        {"sample_id": sample.sample_id, "output": {"content": None, "tool_calls": right_calls(sample)}},
        {"sample_id": sample.sample_id, "output": {"tool_calls": right_calls(sample)}, "finish_reason": "length"},
        {"sample_id": sample.sample_id, "output": "I cannot."},
    ]
    file = tmp_path / "outputs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    graded = grade(task, read_outputs(task, file), lambda: pytest.fail("no sandbox is needed"))
    assert [each.as_json()["score"] for each in graded] == [1, 1, 0]


def test_bfcl_wants_an_answer_to_each_question():
    """A file of answers that is cut names what it lacks."""
    rows = [{"id": f"simple_{n}", "question": [[]], "function": []} for n in range(2)]
    answers = [{"id": "simple_0", "ground_truth": []}]
    with pytest.raises(SpecError, match="no answer to simple_1"):
        bfcl(Dataset({"simple_python": rows, "answers_simple_python": answers}, ""), {})


def test_a_scenario_that_contradicts_itself_is_refused(tmp_path: Path):
    """A tool that is not at hand and calls without results are errors with the scenario's name."""
    tool = "tools: {s: {f: {description: d, parameters: {type: object}}}}\nscenarios:\n  family:\n"
    for entry, said in [
        ("{id: a, tools: [t], messages: [{user: hi}]}", "no set of tools named 't'"),
        ("{id: a, tools: [s], messages: [{user: hi}], calls: [{g: {}}]}", "the wanted tool 'g' is not at hand"),
        ("{id: a, tools: [s], messages: [{user: hi}, {calls: [{f: {}}]}]}", "1 calls have 0 results"),
    ]:
        (tmp_path / "words.yaml").write_text(f"{tool}    - {entry}\n", encoding="utf-8")
        with pytest.raises(SpecError, match=f"family: a: {said}"):
            scenarios({"words": "words.yaml"}, tmp_path)


def event(delta: dict[str, Any], finish: str | None = None) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]})


def test_pieces_make_a_whole():
    """Calls come in pieces, side by side, texts in between; an error in the middle is what counts."""
    name = {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}
    lines = [
        event({"role": "assistant", "content": None}), event({"content": "So"}), event({"content": ": "}),
        event({"tool_calls": [name]}), event({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}), "",
        event({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}), event({}, "tool_calls"),
        'data: {"choices": [], "usage": {"prompt_tokens": 3}}', "data: [DONE]",
    ]  # fmt: skip
    body = joined(lines)
    message = body["choices"][0]["message"]
    assert (message["content"], body["choices"][0]["finish_reason"]) == ("So: ", "tool_calls")
    assert [(c["id"], c["function"]) for c in message["tool_calls"]] == [
        ("a", {"name": "f", "arguments": '{"x": 1}'}), ("b", {"name": "g", "arguments": "{}"})
    ]  # fmt: skip
    assert body["usage"] == {"prompt_tokens": 3}
    assert joined(lines[:4])["choices"][0]["finish_reason"] is None
    assert joined([*lines[:2], 'data: {"error": {"code": 500}}']) == {"error": {"code": 500}}


@pytest.mark.live
def test_streamed_and_whole_calls_agree(ladder: Path, task: Task):
    """The same question gives the same text, calls, tokens and rendered prompt, sent whole or in pieces."""
    asked = [next(task.solve(sample, Sampling(max_tokens=60)))[0] for sample in task.samples[:5]]

    async def ask(endpoint: Endpoint) -> list[tuple[Any, Any]]:
        both = []
        for request in asked:
            assert isinstance(request, Generate)
            forced = replace(request, tool_choice="required")
            both.append([bare(await endpoint.ask(each)) for each in (forced, replace(forced, stream=True))])
        return both

    def bare(answered: Any) -> Any:
        calls = [each["function"] for each in answered.output.tool_calls]  # each has a random id
        return replace(answered.output, tool_calls=()), calls, answered.prompt_sha256

    pairs = with_endpoint(ladder / "Q8_0.gguf", ask, template=TEMPLATE)
    assert [whole for whole, _ in pairs] == [streamed for _, streamed in pairs]
    assert any(calls for (_, calls, _), _ in pairs)


@pytest.mark.live
def test_a_template_without_tools_is_told(ladder: Path, task: Task):
    """A server whose template takes no tools would answer without them: the task stops, and says what to give."""

    async def ask(endpoint: Endpoint) -> str:
        with pytest.raises(RefusedError) as refused:
            await endpoint.ask(next(task.solve(first(task, "numbers"), Sampling()))[0])
        return str(refused.value)

    assert "the chat template takes no tools" in with_endpoint(ladder / "Q8_0.gguf", ask)
