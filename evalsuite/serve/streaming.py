"""An answer that was sent in pieces, put together as a client would."""

from collections.abc import Iterable
from typing import Any

import orjson


def joined(lines: Iterable[str]) -> dict[str, Any]:
    """Return the body of the whole answer that the events of a streamed chat completion make up.

    Texts and the arguments of a call are put one after the other, calls in the order of their index. Without a
    `finish_reason` the stream broke off. An error that the server says in between is the whole body. Raises KeyError,
    TypeError, AttributeError or JSONDecodeError for events of another form.
    """
    texts, calls = {"content": "", "reasoning_content": ""}, dict[int, dict[str, Any]]()
    finish_reason, said = None, dict[str, Any]()
    for line in lines:
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        piece = orjson.loads(line.removeprefix("data: "))
        if "error" in piece:
            return {"error": piece["error"]}
        said |= {key: piece[key] for key in ("usage", "timings", "__verbose") if piece.get(key)}
        for choice in piece["choices"]:
            delta = choice["delta"]
            finish_reason = choice.get("finish_reason") or finish_reason
            for key in texts:
                texts[key] += delta.get(key) or ""
            for part in delta.get("tool_calls") or ():
                call = calls.setdefault(part["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
                call |= {"id": part["id"]} if part.get("id") else {}
                for key in call["function"]:
                    call["function"][key] += (part.get("function") or {}).get(key) or ""
    message = {**texts, "tool_calls": [calls[index] for index in sorted(calls)]}
    return {**said, "choices": [{"message": message, "finish_reason": finish_reason}]}
