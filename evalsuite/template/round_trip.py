"""Round trips: a call in a conversation is rendered, cut out as a model would have to write it, and parsed by the server.

No model takes part. Where even a plain call does not come back, the trip says nothing about the values in it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations, takewhile
from typing import Any

from evalsuite.template.conversations import ASK, RESULT, call, result, schema, tool
from evalsuite.template.records import Conversation, Rendering, Trip
from evalsuite.template.server_engine import ServerEngine

RECORD = "record_value"
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|call|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "</s>",
)
"""What ends an assistant's turn in common formats, beside what the template itself ends a plain turn with."""

PREFIXES = 40
"""How many beginnings of a call are parsed, evenly spaced over its characters."""

_EMPTY_THOUGHT = re.compile(r"^\s*(<think>)?\s*</think>\s*")
_OPENERS = re.compile(r"<[^<>/\s]+>|\[[A-Z_]+\]")
"""What may open the turn of a result, and so end that of a call."""
_TAG = re.compile(r"</[^<>\s]+>|<\|[^<>|]+\|>|\[/[A-Z_]+\]")


@dataclass(frozen=True)
class Journey:
    """What is sent through: calls as (name, arguments), the tools at hand, and what the assistant says beside them."""

    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    tools: tuple[Mapping[str, Any], ...]
    content: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def _value(value: Any, of: Mapping[str, Any]) -> Journey:
    return Journey(((RECORD, {"value": value}),), (tool(RECORD, schema({"value": of})),))


_STRING, _INTEGER, _NUMBER, _BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
_NESTED: Mapping[str, Any] = {"flag": True, "none": None, "object": {}, "list": [], "rows": [{"x": 1}, {"y": "z"}]}
_PAIR = schema({"first": _STRING, "second": _INTEGER})
_OPTIONAL_FIRST = schema({"first": _STRING, "second": _INTEGER}, required=("second",))
_TWO = (tool(RECORD, schema({"value": _STRING})), tool("record_other", schema({"value": _STRING})))

PLAIN = _value("Paris", _STRING)
JOURNEYS: Mapping[str, Journey] = {
    "plain": PLAIN,
    "empty": _value("", _STRING),
    "double quotes": _value('say "hi" now', _STRING),
    "single quotes": _value("it's 'so'", _STRING),
    "backslashes": _value("C:\\new\\table", _STRING),
    "newlines": _value("one\ntwo\n\nthree", _STRING),
    "tabs": _value("one\ttwo", _STRING),
    "edge spaces": _value("  indented ", _STRING),
    "edge newlines": _value("\nindented\n", _STRING),
    "accents": _value("naïve Zürich", _STRING),
    "CJK": _value("東京の天気", _STRING),
    "emoji": _value("🦦 and 👩‍🚀", _STRING),
    "U+2028": _value("one\u2028two", _STRING),
    "NUL": _value("one\0two", _STRING),
    "markup": _value("<a href='x'>&amp;</a>", _STRING),
    "an object as a string": _value('{"k": 1}', _STRING),
    "a number as a string": _value("42", _STRING),
    "a boolean as a string": _value("true", _STRING),
    "-7": _value(-7, _INTEGER),
    "2^53+1": _value(2**53 + 1, _INTEGER),
    "2^63-1": _value(2**63 - 1, _INTEGER),
    "2^64-1": _value(2**64 - 1, _INTEGER),
    "pi": _value(3.141592653589793, _NUMBER),
    "2.0": _value(2.0, _NUMBER),
    "1e-7": _value(1e-7, _NUMBER),
    "1e22": _value(1e22, _NUMBER),
    "true": _value(True, _BOOLEAN),
    "false": _value(False, _BOOLEAN),
    "null": _value(None, {"type": ["string", "null"]}),
    "the word null": _value("null", {"type": ["string", "null"]}),
    "nested": _value(_NESTED, {"type": "object"}),
    "list": _value(["a", "b"], {"type": "array", "items": _STRING}),
    "no arguments": Journey(((RECORD, {}),), (tool(RECORD, schema({})),)),
    "optional left out": Journey(((RECORD, {"second": 7}),), (tool(RECORD, _OPTIONAL_FIRST),)),
    "optional before required": Journey(((RECORD, {"first": "a", "second": 7}),), (tool(RECORD, _OPTIONAL_FIRST),)),
    **{
        f"order {' '.join(order)}": Journey(
            ((RECORD, {name: {"first": "a", "second": 7}[name] for name in order}),), (tool(RECORD, _PAIR),)
        )
        for order in permutations(("first", "second"))
    },
    "two calls of one tool": Journey(((RECORD, {"value": "a"}), (RECORD, {"value": "b"})), _TWO),
    "two calls of two tools": Journey(((RECORD, {"value": "a"}), ("record_other", {"value": "b"})), _TWO),
    "text and call": Journey(PLAIN.calls, PLAIN.tools, content="Let me write that down."),
    "name with a dash": Journey(
        (("record-value", {"value": "a"}),), (tool("record-value", schema({"value": _STRING})),)
    ),
    "name with a dot": Journey(
        (("record.value", {"value": "a"}),), (tool("record.value", schema({"value": _STRING})),)
    ),
    "name of 64 letters": Journey((("r" * 64, {"value": "a"}),), (tool("r" * 64, schema({"value": _STRING})),)),
}
"""Every journey by its name. Those with the format's own closers are made once the format is known."""


@dataclass(frozen=True)
class Cut:
    """How a turn is cut out of a rendering: the marker it ends at, how many of those follow, and the caller's variables."""

    marker: str
    behind: int
    kwargs: Mapping[str, Any]


def round_trips(engine: ServerEngine) -> dict[str, Trip]:
    """Send every journey through; where a plain call does not come back, only its trip is in the result."""
    cut, calibration = _calibrate(engine)
    if cut is None:
        return {"plain": calibration}
    assert calibration.written is not None  # noqa: S101 - a calibrated trip was written
    closers = list(dict.fromkeys(_TAG.findall(calibration.written)))
    names = [f"closer {closer}{where}" for closer in closers for where in ("", " on a line")]
    journeys = {**JOURNEYS, **closer_journeys(names)}
    trips = {name: _travel(engine, journey, cut) for name, journey in journeys.items()}
    trips["plain"] = calibration
    trips["streamed"] = _streamed(engine, calibration.written, cut)
    trips["prefixes"] = _prefixes(engine, calibration.written, cut)
    for name, written in _variants(calibration.written).items():
        trips[f"variant {name}"] = _parse(engine, PLAIN, written, cut)
    return trips


def closer_journeys(names: Sequence[str]) -> dict[str, Journey]:
    """Return the journeys `closer C` and `closer C on a line`: a value with the format's closer C in it."""
    journeys = {}
    for name in names:
        closer = name.removeprefix("closer ").removesuffix(" on a line")
        text = f"see\n{closer}\nthere" if name.endswith(" on a line") else f"see {closer} there"
        journeys[name] = _value(text, _STRING)
    return journeys


def calls_of(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the calls of a parsed message as (name, arguments); arguments that are no JSON stay text."""
    calls = []
    for made in message.get("tool_calls") or ():
        written = made["function"]["arguments"]
        try:
            arguments = json.loads(written) if isinstance(written, str) else written
        except ValueError:
            arguments = written
        calls.append((made["function"]["name"], arguments))
    return calls


def came_back(journey: Journey, trip: Trip) -> bool:
    """Tell whether the calls came back with their names, values and types, in their order."""
    return trip.message is not None and _exact(calls_of(trip.message)) == _exact(journey.calls)


def _exact(calls: Sequence[tuple[str, Any]]) -> str:
    return json.dumps([[name, arguments] for name, arguments in calls], sort_keys=True)


def _calibrate(engine: ServerEngine) -> tuple[Cut | None, Trip]:
    """Find how a plain call is cut out so that it comes back; without that, say what came back last."""
    last = Trip(failure="extract", reason="no end of the turn was found")
    for kwargs in ({"enable_thinking": True}, {"enable_thinking": False}):
        segment = _segment(engine, PLAIN, kwargs)
        if isinstance(segment, Trip):
            last = segment
            continue
        behind = segment[segment.index("Paris") :] if "Paris" in segment else segment
        markers = [marker for marker in (*_turn_end(engine), *ENDS, *_OPENERS.findall(behind)) if marker in segment]
        cuts = {segment.index(marker): marker for marker in reversed(markers)}
        for end, marker in sorted(cuts.items()):
            cut = Cut(marker, segment.count(marker) - 1, kwargs)
            last = _parse(engine, PLAIN, segment[:end], cut)
            if came_back(PLAIN, last):
                return cut, last
    return None, last


def _turn_end(engine: ServerEngine) -> list[str]:
    """Return what the template ends a plain answer with, and the vocabulary's end of turn."""
    answered = engine.render(
        Conversation((ASK, {"role": "assistant", "content": "It is thus."}, ASK), add_generation_prompt=False)
    )
    found = re.match(r"\s*(<[^<>]+>|\[[^\[\]]+\])", (answered.text or "").partition("It is thus.")[2])
    return [marker for marker in (found[1] if found else "", engine.props().get("eos_token", "")) if marker]


def _segment(engine: ServerEngine, journey: Journey, kwargs: Mapping[str, Any]) -> str | Trip:
    """Return what the rendering has between the assistant's opener and the first result."""
    ids = [f"call{i:05d}" for i in range(len(journey.calls))]
    turn = {
        "role": "assistant", "content": journey.content, **journey.more,
        "tool_calls": [call(arguments, name=name, id=id_) for (name, arguments), id_ in zip(journey.calls, ids, strict=True)],
    }  # fmt: skip
    results = [result(f"{RESULT} {id_}", id=id_, name=name) for (name, _), id_ in zip(journey.calls, ids, strict=True)]
    base = engine.render(Conversation((ASK,), journey.tools, kwargs=kwargs))
    full = engine.render(Conversation((ASK, turn, *results), journey.tools, kwargs=kwargs))
    for rendering in (base, full):
        if rendering.text is None:
            return Trip(failure="render", reason=rendering.message)
    assert base.text is not None and full.text is not None  # noqa: S101, PT018 - both rendered
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(base.text, full.text, strict=False)))
    opened = full.text.rfind("<", 0, shared)
    if opened > full.text.rfind(">", 0, shared):  # both go on with a tag, but not with the same one
        shared = opened
    if RESULT not in full.text[shared:]:
        return Trip(failure="extract", reason="the result is not in the rendering")
    return _EMPTY_THOUGHT.sub("", full.text[shared : full.text.index(RESULT, shared)])


def _travel(engine: ServerEngine, journey: Journey, cut: Cut) -> Trip:
    segment = _segment(engine, journey, cut.kwargs)
    if isinstance(segment, Trip):
        return segment
    parts = segment.rsplit(cut.marker, cut.behind + 1)
    if len(parts) < cut.behind + 2:
        return Trip(failure="extract", reason=f"{cut.marker} does not end the turn")
    return _parse(engine, journey, parts[0], cut)


def _prefilled(journey: Journey, written: str, cut: Cut) -> Conversation:
    turn = {"role": "assistant", "content": written}
    return Conversation((ASK, turn), journey.tools, add_generation_prompt=False, kwargs=cut.kwargs)


def _parse(engine: ServerEngine, journey: Journey, written: str, cut: Cut) -> Trip:
    reply = engine.complete(_prefilled(journey, written, cut), continue_final_message="content", echo=True)
    if isinstance(reply, Rendering):
        return Trip(written=written, failure="parse", reason=reply.message)
    return Trip(written=written, message=reply["choices"][0]["message"])


def _streamed(engine: ServerEngine, written: str, cut: Cut) -> Trip:
    """Join the deltas of the streamed parse; a name that comes twice or an index that jumps is a failure."""
    deltas = engine.stream(_prefilled(PLAIN, written, cut), continue_final_message="content", echo=True)
    if isinstance(deltas, Rendering):
        return Trip(written=written, failure="parse", reason=deltas.message)
    content = ""
    calls: list[dict[str, dict[str, str]]] = []
    for delta in deltas:
        content += delta.get("content") or ""
        for part in delta.get("tool_calls") or ():
            function = part.get("function", {})
            if part["index"] == len(calls):
                calls.append({"function": {"name": function.get("name", ""), "arguments": ""}})
            elif part["index"] > len(calls) or function.get("name"):
                reason = (
                    f"call {part['index']} after {len(calls)} calls"
                    if part["index"] > len(calls)
                    else "the name came twice"
                )
                return Trip(written=written, failure="parse", reason=reason)
            calls[part["index"]]["function"]["arguments"] += function.get("arguments", "")
    return Trip(written=written, message={"content": content, "tool_calls": calls})


def _prefixes(engine: ServerEngine, written: str, cut: Cut) -> Trip:
    """Parse the beginnings of the call: none may be refused, and the arguments may only grow."""
    longest = ""
    for end in range(1, len(written), max(1, len(written) // PREFIXES)):
        trip = _parse(engine, PLAIN, written[:end], cut)
        if trip.message is None:
            return Trip(written=written[:end], failure="parse", reason=trip.reason)
        calls = trip.message.get("tool_calls") or []
        arguments = calls[0]["function"]["arguments"] if calls else ""
        if not arguments.startswith(longest):
            return Trip(written=written[:end], failure="parse", reason=f"{longest!r} became {arguments!r}")
        longest = arguments
    return Trip(written=written, message={"tool_calls": []})


def _variants(written: str) -> dict[str, str]:
    """Return the plain call as models have been seen to write it wrongly."""
    return {
        "indented": "\n".join(f"  {line}" for line in written.splitlines()),
        "unknown tool": written.replace(RECORD, "record_nothing"),
        "unknown parameter": written.replace("value", "worth").replace("record_worth", RECORD),
        "text behind": f"{written}\nThat is all.",
    }
