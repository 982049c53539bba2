"""What a server's reply means: the one place where outcomes are decided.

| reply | verdict |
|---|---|
| 200 with a complete answer | its outcome, by finish reason and content |
| 400 `exceed_context_size_error` | result: `overflow` |
| 500 whose text says that the output does not match the expected format | result: `tool_parse_error` |
| 503; a gateway's 429, 502, 504 | wait: the server is loading, away or busy; asked again for some minutes |
| 401, 403 | the run stops: a wrong key |
| 500 "Context size has been exceeded." | the quant stops: slots share a context, so our launch is wrong |
| 500 "Compute error." | one restart, then the quant fails: the device is lost |
| 500 "Unexpected empty grammar stack" | the grammar cannot express a token: ask token by token |
| any other 4xx | the task stops: a bug of ours or a setting that the server refuses |
| any other 5xx, 200 that is not JSON or has no answer in it | two retries with the same seed, then `transport_error` |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from evalsuite.records import Outcome

_THINKING = re.compile(
    r"^\s*(?:<(?P<tag>think|thinking|reasoning)>|\[THINK\])?(?P<reasoning>.*?)(?:</(?:think|thinking|reasoning)>|\[/THINK\])",
    re.DOTALL,
)
_OPENED = re.compile(r"^\s*(?:<(?:think|thinking|reasoning)>|\[THINK\])", re.DOTALL)


class Action(StrEnum):
    """What to do about a reply."""

    RESULT = "result"
    WAIT = "wait"
    RETRY = "retry"
    RESTART = "restart"
    FALLBACK = "fallback"
    STOP_TASK = "stop_task"
    STOP_QUANT = "stop_quant"
    STOP_RUN = "stop_run"


@dataclass(frozen=True)
class Verdict:
    """What a reply means; `body` is the parsed JSON of a 200."""

    action: Action
    outcome: Outcome
    detail: str = ""
    body: Mapping[str, Any] | None = None


def judge(status: int, content: bytes) -> Verdict:
    """Decide what a reply means from its status and body; a 200 still has to be read by `finish`."""
    body = _parsed(content)
    if status == 200:
        if body is None or "error" in body:
            return Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, f"200 without an answer: {_start(content)}")
        return Verdict(Action.RESULT, Outcome.OK, body=body)
    error = (body or {}).get("error")
    error = error if isinstance(error, dict) else {}
    kind, message = str(error.get("type", "")), str(error.get("message", "")) or _start(content)
    said = f"HTTP {status}: {message}"
    if status == 400 and kind == "exceed_context_size_error":
        tokens = f"{error.get('n_prompt_tokens')} tokens, context {error.get('n_ctx')}"
        return Verdict(Action.RESULT, Outcome.OVERFLOW, tokens)
    if status in {429, 502, 503, 504}:
        return Verdict(Action.WAIT, Outcome.NOT_RUN, said)
    if status in {401, 403}:
        return Verdict(Action.STOP_RUN, Outcome.NOT_RUN, said)
    if 400 <= status < 500:
        return Verdict(Action.STOP_TASK, Outcome.NOT_RUN, said)
    for text, action, outcome in _SERVER_ERRORS:
        if text in message:
            return Verdict(action, outcome, said)
    return Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, said)


_SERVER_ERRORS = (
    ("Context size has been exceeded", Action.STOP_QUANT, Outcome.NOT_RUN),
    ("does not match the expected", Action.RESULT, Outcome.TOOL_PARSE_ERROR),
    ("Failed to parse tool call arguments as JSON", Action.STOP_TASK, Outcome.NOT_RUN),  # we replayed a malformed call
    ("Unexpected empty grammar stack", Action.FALLBACK, Outcome.OK),
    ("Compute error", Action.RESTART, Outcome.SERVER_DIED),
)


def finish(
    *, finish_reason: str | None, answer: str, has_call: bool, total_tokens: int, n_ctx: int
) -> tuple[Outcome, str]:
    """Decide the outcome of a complete answer, and say which limit cut it.

    `answer` is the text without reasoning. The server says `length` both at the token limit and at the end of the context.
    """
    if finish_reason == "length":
        return Outcome.TRUNCATED, "context full" if total_tokens >= n_ctx else "token limit"
    if not answer.strip() and not has_call:
        return Outcome.EMPTY, "nothing but reasoning or blanks"
    return Outcome.OK, ""


def split_reasoning(text: str) -> tuple[str, str]:
    """Return (reasoning, answer) of a text whose reasoning stands in front, between tags.

    A template may open the block itself, so a closing tag alone ends a reasoning. A block that never closes is all
    reasoning: there is no answer.
    """
    if found := _THINKING.match(text):
        return found["reasoning"].strip(), text[found.end() :].lstrip("\n")
    if _OPENED.match(text):
        return _OPENED.sub("", text).strip(), ""
    return "", text


def _parsed(content: bytes) -> Mapping[str, Any] | None:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _start(content: bytes) -> str:
    return content[:200].decode("utf-8", "replace") or "an empty body"
