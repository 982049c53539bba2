"""What an answer tried to call."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from evalsuite.records import Outcome, Output

_MARKS = re.compile(
    r"""<\|?/?(?:tool_calls?|toolcall|function_?calls?|function|invoke|python_tag|message_tool_call)\b  # in tags
    | \[TOOL_CALLS?\] | <｜tool▁call  # Mistral, DeepSeek
    | <\|(?:channel|start)\|>[^<]*\bto=functions  # Harmony""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Call:
    """One call; `arguments` is None where they are no JSON object, `written` is their text."""

    name: str
    arguments: Mapping[str, Any] | None
    written: str


@dataclass(frozen=True)
class Attempt:
    """What an answer tried to call; `malformed` where a part of it could not be read as a call."""

    calls: tuple[Call, ...]
    malformed: bool

    @property
    def made(self) -> bool:
        """Whether any call was tried at all."""
        return bool(self.calls) or self.malformed


def read_attempt(output: Output, offered: Collection[str]) -> Attempt:
    """Read what an answer tried to call, given the names of the tools that it was offered.

    A call is malformed in three ways: its arguments are no JSON object; the server could not parse the answer and said so;
    the text of the answer looks like a call, and the server found none in it. Reasoning is not looked at.
    """
    calls = tuple(_call(call) for call in output.tool_calls)
    malformed = (
        output.outcome is Outcome.TOOL_PARSE_ERROR
        or any(call.arguments is None for call in calls)
        or (not calls and looks_like_a_call(output.text, offered))
    )
    return Attempt(calls, malformed)


def looks_like_a_call(text: str, offered: Collection[str]) -> bool:
    """Say whether a text was meant as a call.

    It was if it holds a mark that templates put around calls, a JSON value that names an offered tool as its `name`,
    `function` or `tool`, or if it starts as a call in code does: `tool(` or `[tool(`. Prose that mentions a tool is prose.
    """
    if _MARKS.search(text):
        return True
    names = "|".join(re.escape(name) for name in offered)
    as_json = rf'"(?:name|function|tool|tool_name|function_name)"\s*:\s*"(?:{names})"'
    as_code = rf"\s*(?:```\w*\s*)?\[?\s*(?:{names})\("
    return bool(names) and bool(re.search(as_json, text) or re.match(as_code, text))


def _call(call: Mapping[str, Any]) -> Call:
    function = call.get("function") or {}
    written = str(function.get("arguments") or "")
    try:
        arguments = json.loads(written)
    except (ValueError, RecursionError):
        arguments = None
    return Call(str(function.get("name") or ""), arguments if isinstance(arguments, dict) else None, written)
