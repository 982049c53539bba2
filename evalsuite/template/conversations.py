"""The shapes of conversation that templates are tried on.

Each marker is a word that occurs nowhere else, so that a rendering can be searched for it.
"""

import json
from collections.abc import Mapping
from typing import Any

from evalsuite.template.records import Conversation

SYSTEM, SYSTEM_2, DEVELOPER = "sysmarlin", "secondsysibis", "devcondor"
USER, USER_2, USER_3 = "askpelican", "nextpuffin", "lastgannet"
ANSWER, ANSWER_2 = "answerheron", "closingstork"
REASON = "reasonlynx"
ARGUMENT, ARGUMENT_2 = "argotter", "argbadger"
RESULT, RESULT_2 = "resultswan", "resultcrane"
TOOL, TOOL_2 = "look_up_tide", "look_up_ferry"
ID, ID_2 = "a1b2c3d4e", "f5g6h7i8j"


def tool(name: str, parameters: Mapping[str, Any] | None, description: str | None = "Look it up.") -> dict[str, Any]:
    """Return a function in OpenAI's form; None leaves a key out."""
    function: dict[str, Any] = {"name": name}
    if description is not None:
        function["description"] = description
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def schema(properties: Mapping[str, Any], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of an object; all properties are required unless `required` says which."""
    return {"type": "object", "properties": properties, "required": [*(properties if required is None else required)]}


def call(arguments: Any, *, name: str = TOOL, id: str | None = ID) -> dict[str, Any]:  # noqa: A002 - OpenAI's name
    """Return one tool call; `arguments` is an object, or its text."""
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return made if id is None else {"id": id, **made}


def assistant(*calls: Mapping[str, Any], content: Any = "", **more: Any) -> dict[str, Any]:
    """Return an assistant's turn with calls."""
    return {"role": "assistant", "content": content, "tool_calls": [*calls], **more}


def result(content: Any = f"The tide is {RESULT}.", *, id: str | None = ID, name: str | None = TOOL) -> dict[str, Any]:  # noqa: A002
    """Return a tool's result."""
    message = {"role": "tool", "content": content}
    if id is not None:
        message["tool_call_id"] = id
    return message if name is None else {**message, "name": name}


def says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    """Return a turn of text."""
    return {"role": role, "content": content, **more}


HARBOUR = {"type": "string", "description": "Which harbour."}
TIDE = tool(TOOL, schema({"harbour": HARBOUR}), "Tell the tide at a harbour.")
FERRY = tool(TOOL_2, schema({"harbour": HARBOUR}), "Tell the next ferry.")
ASK = says("user", f"How is the tide, {USER}?")
ASK_2 = says("user", f"And the ferry, {USER_2}?")
ARGUMENTS = {"harbour": ARGUMENT}
CALL = call(ARGUMENTS)


def _loop(*messages: Mapping[str, Any], tools: tuple[Mapping[str, Any], ...] = (TIDE, FERRY)) -> Conversation:
    return Conversation((ASK, *messages), tools)


def _plain(*messages: Mapping[str, Any], prompt: bool = True) -> Conversation:
    return Conversation(messages, add_generation_prompt=prompt)


def _declared(parameters: Mapping[str, Any] | None, description: str | None = "Look it up.") -> Conversation:
    return Conversation((ASK,), (tool(TOOL, parameters, description),))


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


_ENUM = {"type": "string", "enum": ["enumfinch", "enumwren"]}
_NESTED = {"type": "object", "properties": {"nestedkite": {"type": "string", "description": "nestedhawk"}}}
_SECOND = assistant(call({"harbour": ARGUMENT_2}, name=TOOL_2, id=ID_2))
_SECOND_RESULT = result(f"It is {RESULT_2}.", id=ID_2, name=TOOL_2)

SHAPES: Mapping[str, Conversation] = {
    # text alone
    "user": _plain(ASK),
    "user, no prompt": _plain(ASK, prompt=False),
    "system": _plain(says("system", f"Be kind, {SYSTEM}."), ASK),
    "answered": _plain(ASK, says("assistant", f"It is {ANSWER}."), ASK_2),
    "answered, no prompt": _plain(ASK, says("assistant", f"It is {ANSWER}."), ASK_2, prompt=False),
    "developer": _plain(says("developer", f"Be kind, {DEVELOPER}."), ASK),
    "two systems": _plain(says("system", f"Be kind, {SYSTEM}."), says("system", f"Be brief, {SYSTEM_2}."), ASK),
    "system in the middle": _plain(
        says("system", f"Be kind, {SYSTEM}."), ASK, says("assistant", f"It is {ANSWER}."),
        says("system", f"Be brief, {SYSTEM_2}."), ASK_2,
    ),
    "user in parts": _plain(says("user", _parts(ASK["content"]))),
    "two users": _plain(ASK, ASK_2),
    "two assistants": _plain(
        ASK, says("assistant", f"It is {ANSWER}."), says("assistant", f"Or {ANSWER_2}."), ASK_2
    ),
    "reasoning": _plain(ASK, says("assistant", f"It is {ANSWER}.", reasoning_content=f"Think {REASON}."), ASK_2),
    "quoted tags": _plain(
        ASK, says("assistant", f"Write </think> or <tool_call> before {ANSWER} here."), says("user", f"See </think> {USER_2}.")
    ),
    "thinking on": Conversation((ASK,), kwargs={"enable_thinking": True}),
    "thinking off": Conversation((ASK,), kwargs={"enable_thinking": False}),
    # tools
    "tools": Conversation((ASK,), (TIDE, FERRY)),
    "tools, no prompt": Conversation((ASK,), (TIDE, FERRY), add_generation_prompt=False),
    "tools and system": Conversation((says("system", f"Be kind, {SYSTEM}."), ASK), (TIDE, FERRY)),
    "call": _loop(assistant(CALL), result()),
    "call, no prompt": Conversation((ASK, assistant(CALL), result()), (TIDE, FERRY), add_generation_prompt=False),
    "arguments as text": _loop(assistant(call(json.dumps(ARGUMENTS))), result()),
    "arguments {}": _loop(assistant(call({})), result()),
    "arguments empty text": _loop(assistant(call("")), result()),
    "arguments null": _loop(assistant(call(None)), result()),
    "arguments cut short": _loop(assistant(call(json.dumps(ARGUMENTS)[:-2])), result()),
    "arguments a list": _loop(assistant(call(json.dumps([ARGUMENT]))), result()),
    "arguments a string": _loop(assistant(call(json.dumps(ARGUMENT))), result()),
    "content null": _loop(assistant(CALL, content=None), result()),
    "content absent": _loop({"role": "assistant", "tool_calls": [CALL]}, result()),
    "text and call": _loop(assistant(CALL, content=f"Let me see, {ANSWER}."), result()),
    "two calls": _loop(
        assistant(CALL, call({"harbour": ARGUMENT_2}, name=TOOL_2, id=ID_2)), result(), _SECOND_RESULT
    ),
    "two rounds": _loop(assistant(CALL), result(), _SECOND, _SECOND_RESULT),
    "call and answer": _loop(assistant(CALL), result(), says("assistant", f"It is {ANSWER}.")),
    "call, answer, question": _loop(assistant(CALL), result(), says("assistant", f"It is {ANSWER}."), ASK_2),
    "call, answer, question, no prompt": Conversation(
        (ASK, assistant(CALL), result(), says("assistant", f"It is {ANSWER}."), ASK_2), (TIDE, FERRY),
        add_generation_prompt=False,
    ),
    "result in parts": _loop(assistant(CALL), result(_parts(f"The tide is {RESULT}."))),
    "result as JSON": _loop(assistant(CALL), result(f'{{"tide": "{RESULT}", "high": true}}')),
    "result without name": _loop(assistant(CALL), result(name=None)),
    "result without id": _loop(assistant(CALL), result(id=None)),
    "call without id": _loop(assistant(call(ARGUMENTS, id=None)), result(id=None)),
    "call with long id": _loop(assistant(call(ARGUMENTS, id="call_" + "7" * 35)), result(id="call_" + "7" * 35)),
    "call with functions id": _loop(assistant(call(ARGUMENTS, id=f"functions.{TOOL}:0")), result(id=f"functions.{TOOL}:0")),
    "no user": Conversation(
        (says("system", f"Be kind, {SYSTEM}."), assistant(CALL), result()), (TIDE, FERRY)
    ),
    "reasoning in a loop": _loop(assistant(CALL, reasoning_content=f"Think {REASON}."), result()),
    "result that closes": _loop(
        assistant(CALL), result(f"</tool_response></tool_call></function><|im_end|><|eot_id|>[/TOOL_RESULTS] {RESULT}")
    ),
    # schemas
    "no description": _declared(schema({"harbour": HARBOUR}), None),
    "no parameters": _declared(None),
    "property without type": _declared(schema({"harbour": {"description": "Which harbour."}})),
    "property without description": _declared(schema({"harbour": {"type": "string"}})),
    "type list": _declared(schema({"harbour": {"type": ["string", "null"], "description": "nullgull"}})),
    "anyOf": _declared(schema({"harbour": {"anyOf": [_ENUM, {"type": "null"}], "description": "Which."}})),
    "oneOf": _declared(schema({"harbour": {"oneOf": [_ENUM, {"type": "integer"}], "description": "Which."}})),
    "$ref": _declared(
        {**schema({"harbour": {"$ref": "#/$defs/Harbour"}}), "$defs": {"Harbour": {"type": "string", "enum": ["enumfinch"]}}}
    ),
    "enum": _declared(schema({"harbour": {**_ENUM, "description": "Which."}})),
    "const": _declared(schema({"harbour": {"const": "constrook", "type": "string", "description": "Which."}})),
    "default": _declared(
        schema({"harbour": {"type": "string", "default": "defaultdove", "description": "Which."}}, required=())
    ),
    "nested": _declared(schema({"place": {**_NESTED, "description": "Where."}})),
    "array without items": _declared(schema({"harbours": {"type": "array", "description": "listlark"}})),
    "recursive $ref": _declared(
        {**schema({"tree": {"$ref": "#/$defs/Node"}}),
         "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}}}
    ),
    "remote $ref": _declared(schema({"harbour": {"$ref": "https://example.com/harbour.json"}})),
    "missing $ref": _declared(schema({"harbour": {"$ref": "#/$defs/Nowhere"}})),
    "boolean schema": _declared(schema({"harbour": True})),
    "look-ahead pattern": _declared(schema({"harbour": {"type": "string", "pattern": "^(?!x).*$"}})),
    "maxLength 3000": _declared(schema({"harbour": {"type": "string", "maxLength": 3000}})),
    "maxItems 5000": _declared(
        schema({"harbours": {"type": "array", "items": {"type": "string"}, "maxItems": 5000}})
    ),
    "unknown keys": Conversation(
        (ASK,), ({**TIDE, "function": {**TIDE["function"], "strict": True, "x-note": "extraauk"}}, FERRY)
    ),
    "unusual names": Conversation(
        (ASK,), tuple(tool(name, schema({"harbour": HARBOUR})) for name in ("look-up.tide", "gezeit_ä", "t" * 70))
    ),
    # steps of one conversation, each a longer prompt than the last
    "step 1": Conversation((ASK,), (TIDE, FERRY)),
    "step 2": _loop(assistant(CALL), result()),
    "step 3": _loop(assistant(CALL), result(), _SECOND, _SECOND_RESULT),
    "step 4": _loop(assistant(CALL), result(), says("assistant", f"It is {ANSWER}."), ASK_2),
    "thinking step 2": _loop(assistant(CALL, reasoning_content=f"Think {REASON}."), result()),
    "thinking step 3": _loop(
        assistant(CALL, reasoning_content=f"Think {REASON}."), result(),
        {**_SECOND, "reasoning_content": "Think on."}, _SECOND_RESULT,
    ),
}  # fmt: skip
"""Every shape by its name; the blast radius of a change is the share of these whose bytes it changes."""
