"""What an answer with tools at hand earned."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from evalsuite.records import Outcome, Output, Sample, Scored
from evalsuite.task.tool_calls.ast_checker import greedy_pairing, pairing_exists, underscored
from evalsuite.task.tool_calls.calls import Attempt, Call, read_attempt


def score_tool_calls(sample: Sample, output: Output) -> Scored:
    """Return 1 when exactly the wanted calls were made, or none where none is wanted; every outcome of the model is read.

    `sample.metadata["tools"]` is what was offered, in OpenAI's form. `sample.target` has `expect`: `calls`, `none` or
    `any` (at least one, whichever); `calls`: what is wanted, in the form of `ast_checker`; `rules`: how it is compared;
    and `functions`, BFCL's own descriptions, where the rules are BFCL's.

    A malformed call is a `tool_parse_error` and earns nothing, also where no call is wanted. An answer that was cut earns
    something only by complete calls.

    The metrics are 0 or 1, and left out where they do not apply:
    `called`, some call was tried where one is wanted; `parsable`, of those that tried, every call could be read;
    `schema_valid`, of those that tried, every call names a tool that was offered and its arguments keep to the schema;
    `call_count`, as many as are wanted; `tool_choice`, the names of the wanted tools and no other;
    `arguments`, of those with the wanted names as often as wanted, the arguments are right;
    `abstention`, no call was tried where none is wanted; `upstream`, what BFCL's own evaluation says, where its rules apply.
    """
    tools, target = sample.metadata["tools"], sample.target
    attempt = read_attempt(output, [tool["function"]["name"] for tool in tools])
    answer = "\n".join(f"{call.name}({call.written})" for call in attempt.calls) or output.text.strip()
    if output.outcome is Outcome.OVERFLOW:
        return Scored(0.0, output.outcome)
    right = not attempt.malformed and _right(target, attempt)
    complete = output.outcome is Outcome.OK or (output.outcome is Outcome.TRUNCATED and right and bool(attempt.calls))
    outcome = output.outcome
    if complete:
        outcome = Outcome.TOOL_PARSE_ERROR if attempt.malformed else Outcome.OK
    metrics = {**_form(attempt, tools), **_choice(target, attempt), **_upstream(target, attempt)}
    return Scored(
        float(right and complete), outcome, answer, metrics={name: float(met) for name, met in metrics.items()}
    )


def _right(target: Mapping[str, Any], attempt: Attempt) -> bool:
    if target["expect"] == "calls":
        return pairing_exists(target.get("functions", ()), attempt.calls, target["calls"], target["rules"])
    return attempt.made is (target["expect"] == "any")


def _form(attempt: Attempt, tools: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Say how well formed a call is, whichever it is."""
    if not attempt.made:
        return {}
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    valid = not attempt.malformed and all(_keeps_to(schemas, call) for call in attempt.calls)
    return {"parsable": not attempt.malformed, "schema_valid": valid}


def _keeps_to(schemas: Mapping[str, Mapping[str, Any]], call: Call) -> bool:
    if call.name not in schemas:
        return False
    return bool(Draft202012Validator(schemas[call.name]).is_valid(call.arguments))


def _choice(target: Mapping[str, Any], attempt: Attempt) -> dict[str, bool]:
    """Say whether the wanted tools were called, as often as wanted, and with the wanted arguments."""
    if target["expect"] == "none":
        return {"abstention": not attempt.made}
    if target["expect"] == "any" or (attempt.malformed and not attempt.calls):
        return {"called": attempt.made}
    wanted = Counter(underscored(name) for call in target["calls"] for name in call)
    called = Counter(call.name for call in attempt.calls)
    metrics = {
        "called": attempt.made,
        "call_count": called.total() == wanted.total(),
        "tool_choice": called.keys() == wanted.keys(),
    }
    return metrics | ({"arguments": _right(target, attempt)} if called == wanted else {})


def _upstream(target: Mapping[str, Any], attempt: Attempt) -> dict[str, bool]:
    """Give the verdict of bfcl-eval 2026.3.23, for which what it cannot parse is no call."""
    called = bool(attempt.calls) and not attempt.malformed
    if target["rules"] == "exact":
        return {}
    if target["expect"] == "calls":
        pairing = greedy_pairing(target["functions"], attempt.calls, target["calls"], target["rules"])
        return {"upstream": called and pairing}
    return {"upstream": called == (target["expect"] == "any")}
