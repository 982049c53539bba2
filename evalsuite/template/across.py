"""X: do two engines make the same of a template, and if not, why."""

import json
from collections.abc import Mapping
from typing import Any

from evalsuite.records import Message
from evalsuite.template.checks.judging import failed, told
from evalsuite.template.checks.schemas import LIMITS
from evalsuite.template.conversations import SHAPES
from evalsuite.template.python_engine import PythonEngine
from evalsuite.template.records import Case, Check, Conversation, Engine, Evidence, Finding, Outcome, Verdict
from evalsuite.template.server_engine import PINS

_KEPT = {"preserve_thinking": True, "clear_thinking": False, "truncate_history_thinking": False, "drop_thinking": False}
"""What llama-server gives to every template beside `enable_thinking`."""

X01 = Check(
    "X01", "Engines agree", "the same bytes, or other ones by what the server adds and puts in order beforehand",
    "a construct that one engine takes otherwise", "https://github.com/ggml-org/llama.cpp/pull/18462", "warning",
    lambda _: (), core=True,
)  # fmt: skip


def across(python: PythonEngine, ours: Evidence, server: Evidence) -> Finding:
    """Compare what both made of every shape; a difference is put down to defaults, to normalising, or to the engines."""
    engine = Engine("both", f"{ours.engine.build}; {server.engine.build}")
    if ours.loads.failure is not None or server.loads.failure is not None:
        reason = Case("load", Outcome.NOT_APPLICABLE, "the template does not load on both")
        return Finding(X01, engine, Verdict.NOT_APPLICABLE, (reason,))
    cases = tuple(_agree(python, ours, server, shape) for shape in SHAPES)
    failed = any(case.outcome is Outcome.SILENT for case in cases)
    return Finding(X01, engine, Verdict.FAIL if failed else Verdict.PASS, cases)


def _agree(python: PythonEngine, ours: Evidence, server: Evidence, shape: str) -> Case:
    there = server.renderings[shape]
    if _same(ours.renderings[shape].text, there.text):
        return Case(shape, Outcome.OK, shapes=(shape,), seen=(told(there),))
    caps = server.props.get("chat_template_caps", {})
    for why, conversation in (("defaults", SHAPES[shape]), ("normalising", server_form(SHAPES[shape], caps))):
        for thinks in (True, False):
            kwargs = {**_KEPT, **PINS, "enable_thinking": thinks, **conversation.kwargs}
            again = python.render(
                ours.template,
                Conversation(conversation.messages, conversation.tools, conversation.add_generation_prompt, kwargs),
            )
            if _same(again.text, there.text):
                return Case(shape, Outcome.OK, f"differ by the server's {why}", (shape,), (told(there), why))
    if SHAPES[shape].messages[-1]["role"] == "assistant":
        return Case(shape, Outcome.NOT_APPLICABLE, "the server goes on with a last answer", (shape,), (told(there),))
    if there.failure is not None and (shape in LIMITS or failed(there, shape).blame == "engine"):
        return Case(shape, Outcome.OK, "the server refuses it before the template is asked", (shape,), (told(there),))
    what = " and ".join(
        f"{engine} {'renders' if made.text is not None else 'fails'}"
        for engine, made in (("transformers", ours.renderings[shape]), ("llama-server", there))
    )
    detail = "both render, otherwise" if None not in (ours.renderings[shape].text, there.text) else what
    return Case(shape, Outcome.SILENT, detail, (shape,), (told(there), "engines"), blame="engine")


def _same(one: str | None, other: str | None) -> bool:
    """Tell whether two renderings are equal; two failures are."""
    return one == other


def server_form(conversation: Conversation, caps: Mapping[str, Any]) -> Conversation:
    """Return a conversation as llama-server gives it to a template (0.5): parts joined, arguments decoded, tools in order.

    Not covered: system messages merged into the next where a template knows no such role.
    """
    messages = tuple(_message(message, caps) for message in conversation.messages)
    return Conversation(
        messages,
        tuple(_tool(tool) for tool in conversation.tools),
        conversation.add_generation_prompt,
        conversation.kwargs,
    )


def _message(message: Message, caps: Mapping[str, Any]) -> Message:
    content = message.get("content")
    if isinstance(content, list) and caps.get("supports_string_content", True):
        content = "\n".join(part["text"] for part in content)
    made = {
        **message,
        "role": "system" if message["role"] == "developer" else message["role"],
        "content": content or "",
    }
    if "tool_calls" in message:
        made["tool_calls"] = [
            _call(call, objects=bool(caps.get("supports_object_arguments"))) for call in message["tool_calls"]
        ]
    return made


def _call(call: Mapping[str, Any], *, objects: bool) -> Mapping[str, Any]:
    arguments = call["function"]["arguments"]
    if isinstance(arguments, str) and objects:
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return call
    elif not isinstance(arguments, str) and not objects:
        arguments = json.dumps(arguments, separators=(",", ":"))
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool["function"]
    kept = {
        "name": function["name"],
        "description": function.get("description", ""),
        "parameters": function.get("parameters", {}),
    }
    return {"type": "function", "function": kept}
