"""Scenarios of our own: conversations with tools at hand, written down briefly, as samples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.records import Message, Sample
from evalsuite.spec import read_yaml

_STRICT = ConfigDict(frozen=True, extra="forbid")


class ToolEntry(BaseModel):
    """One tool: what it does, and the JSON Schema of its arguments."""

    model_config = _STRICT
    description: str
    parameters: Mapping[str, Any]


class TurnEntry(BaseModel):
    """One turn: what somebody says, or calls with a result for each."""

    model_config = _STRICT
    user: str | None = None
    assistant: str | None = None
    calls: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    results: tuple[Any, ...] = ()


class ScenarioEntry(BaseModel):
    """One conversation, the sets of tools at hand, and the wanted calls: none where no call may be made."""

    model_config = _STRICT
    id: str
    tools: tuple[str, ...]
    messages: tuple[TurnEntry, ...]
    calls: tuple[Mapping[str, Mapping[str, Any]], ...] = ()


class ScenarioFile(BaseModel):
    """One file of scenarios: tools by set and name, scenarios by family."""

    model_config = _STRICT
    tools: Mapping[str, Mapping[str, ToolEntry]]
    scenarios: Mapping[str, tuple[ScenarioEntry, ...]]


def scenarios(options: Mapping[str, Any], folder: Traversable) -> list[Sample]:
    """Read the scenarios of `words` as samples for `score_tool_calls`, to be compared exactly; the stratum is the family.

    Raises SpecError for a file that is not of `ScenarioFile`'s form, a set of tools that is not there, a wanted call to a
    tool that is not at hand, and calls without as many results.
    """
    file = folder.joinpath(options["words"])
    read = read_yaml(file, ScenarioFile)
    return [
        _sample(family, entry, read.tools, where=f"{file}: {family}: {entry.id}")
        for family, entries in read.scenarios.items()
        for entry in entries
    ]


def _sample(family: str, entry: ScenarioEntry, sets: Mapping[str, Mapping[str, ToolEntry]], *, where: str) -> Sample:
    for name in entry.tools:
        if name not in sets:
            raise SpecError(f"{where}: no set of tools named {name!r}.{did_you_mean(name, sets)}")
    tools = {name: tool for chosen in entry.tools for name, tool in sets[chosen].items()}
    for name in (name for call in entry.calls for name in call):
        if name not in tools:
            raise SpecError(f"{where}: the wanted tool {name!r} is not at hand.{did_you_mean(name, tools)}")
    target = {"expect": "calls" if entry.calls else "none", "calls": list(entry.calls), "rules": "exact"}
    offered = [{"type": "function", "function": {"name": name, **tool.model_dump()}} for name, tool in tools.items()]
    prompt = tuple(_messages(entry.messages, where=where))
    return Sample(f"{family}-{entry.id}", prompt, target, stratum=family, metadata={"tools": offered})


def _messages(turns: Sequence[TurnEntry], *, where: str) -> Iterator[Message]:
    numbers = count(1)
    for turn in turns:
        if len(turn.calls) != len(turn.results):
            raise SpecError(f"{where}: {len(turn.calls)} calls have {len(turn.results)} results. Give each its own.")
        for role in ("user", "assistant"):
            if (text := getattr(turn, role)) is not None:
                yield {"role": role, "content": text}
        if turn.calls:
            made = [
                (f"call{next(numbers):05d}", *next(iter(call.items()))) for call in turn.calls
            ]  # Mistral wants 9 signs
            yield {"role": "assistant", "content": "", "tool_calls": [_call(*call) for call in made]}
            for (call_id, name, _), result in zip(made, turn.results, strict=True):
                content = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
                yield {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


def _call(call_id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    written = json.dumps(arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}
