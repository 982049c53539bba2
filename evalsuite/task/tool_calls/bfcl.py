"""The single-turn categories of BFCL v4: its tools as it offers them, its answers as samples.

Source: the wheel bfcl-eval 2026.3.23 (Apache-2.0), of which only the data is used. A category is the JSONL file
`BFCL_v4_<category>.json` (id, question: turns of messages, function: descriptions), its answers the file of the same name
in `possible_answer/` (id, ground_truth: wanted calls); where a call is wrong or any will do there are none.
"""

import json
from collections.abc import Mapping
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.records import Sample
from evalsuite.task.datasets import Dataset, Row
from evalsuite.task.tool_calls.ast_checker import underscored

ANSWERS = "answers_"
"""What the splits of answers are named with in front of their category."""

_LANGUAGES = {"simple_java": "Java", "simple_javascript": "JavaScript"}
_HINTS = {"Java": "Java 8 SDK", "JavaScript": "JavaScript", "Python": "Python 3"}

_OPENAI = {
    "integer": "integer", "byte": "integer", "short": "integer", "long": "integer", "Bigint": "integer",
    "number": "number", "float": "number", "double": "number",
    "boolean": "boolean", "bool": "boolean",
    "array": "array", "list": "array", "tuple": "array", "Array": "array", "ArrayList": "array", "Queue": "array",
    "Stack": "array",
    "dict": "object", "object": "object", "HashMap": "object", "Hashtable": "object",
}  # fmt: skip
"""BFCL's type names as JSON Schema's; any other is a string."""


def bfcl(dataset: Dataset, _options: Mapping[str, Any]) -> list[Sample]:
    """Make samples of BFCL's splits, each a category with its `answers_` where it has any; the stratum is the category.

    Rows of the live categories that share their functions, by the second number of their ids, are one cluster. Raises
    SpecError for a question without its answer.
    """
    samples = []
    for category, rows in dataset.splits.items():
        if category.startswith(ANSWERS):
            continue
        answers = {row["id"]: row["ground_truth"] for row in dataset.splits.get(f"{ANSWERS}{category}", ())}
        if answers and (missing := [row["id"] for row in rows if row["id"] not in answers]):
            raise SpecError(
                f"bfcl: {category}: no answer to {', '.join(missing[:5])}. Is the file of answers complete?"
            )
        samples += [_sample(row, category, answers.get(row["id"])) for row in rows]
    return samples


def openai_tool(function: Mapping[str, Any], category: str) -> dict[str, Any]:
    """Return a function as upstream offers it to a chat API: JSON Schema's types, no dots, and its hints.

    The hints are a part of BFCL's prompts, so they are worded as there. Values for Java and JavaScript are asked for as
    strings of source code.
    """
    language = _LANGUAGES.get(category, "Python")
    parameters = function["parameters"]
    properties = parameters["properties"]
    if language != "Python":
        properties = {name: _as_source_code(parameter, language) for name, parameter in properties.items()}
    return {
        "type": "function",
        "function": {
            **function,
            "name": underscored(function["name"]),
            "description": f"{function['description']} Note that the provided function is in {_HINTS[language]} syntax.",
            "parameters": {**parameters, "type": "object", "properties": _json_schemas(properties)},
        },
    }


def _sample(row: Row, category: str, wanted: Any) -> Sample:
    uncalled = "none" if "irrelevance" in category else "any"
    target = {
        "expect": uncalled if wanted is None else "calls",
        "calls": wanted or [],
        "rules": _LANGUAGES.get(category, "Python").lower(),
        "functions": row["function"],
    }
    tools = [openai_tool(function, category) for function in row["function"]]
    cluster = f"{category}-{row['id'].split('-')[1]}" if category.startswith("live_") else None
    return Sample(row["id"], tuple(row["question"][0]), target, (), cluster, category, {"tools": tools})


def _as_source_code(parameter: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Ask for a value of Java or JavaScript as a string; what the string should hold goes into the description."""
    kind = parameter["type"]
    dropped = {"Java": {"Array": "items", "ArrayList": "items"}, "JavaScript": {"array": "items", "dict": "properties"}}
    drop = dropped[language].get(kind)
    if kind == "any":
        said = f" This parameter can be of any type of {language} object in string representation."
    else:
        said = f" This is {language} {kind} type parameter in string representation."
    if drop == "items":
        inner = parameter["items"]["type"]
        said += f" The list elements are of type {inner}; they are not in string representation."
    elif drop and drop in parameter:
        schema = json.dumps(parameter[drop])
        said += f" The dictionary entries have the following schema; they are not in string representation. {schema}"
    kept = {key: value for key, value in parameter.items() if key != drop}
    return {**kept, "description": parameter["description"] + said, "type": "string"}


def _json_schemas(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _json_schema(parameter, named=True) for name, parameter in properties.items()}


def _json_schema(parameter: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
    """Return a parameter with JSON Schema's types at every depth; elements of lists have no name and no description."""
    schema = {**parameter, "type": _OPENAI.get(parameter.get("type", "any"), "string")}
    if named and parameter.get("type") == "float":
        schema |= {"format": "float", "description": f"{parameter['description']} This is a float type value."}
    if "properties" in parameter:
        schema["properties"] = _json_schemas(parameter["properties"])
    if "items" in parameter:
        schema["items"] = _json_schema(parameter["items"], named=False)
    return schema
