"""R: what of a conversation is in the prompt."""

import re

from evalsuite.template.checks.judging import between, each, judged, keeps, out_of_order, same_as
from evalsuite.template.checks.turns import answered_by, asked_once, balanced
from evalsuite.template.conversations import (
    ANSWER,
    ANSWER_2,
    ARGUMENT,
    ARGUMENT_2,
    DEVELOPER,
    REASON,
    RESULT,
    RESULT_2,
    SYSTEM,
    SYSTEM_2,
    TOOL,
    USER,
    USER_2,
)  # fmt: skip
from evalsuite.template.records import Case, Check, Evidence, Outcome

_SPACE = re.compile(r"\s+")
_LOUD, _DECLINED = Outcome.LOUD, Outcome.DECLINED
_PHANTOM = re.compile(r"\b(None|undefined)\b")


def _arguments_as_text(evidence: Evidence) -> list[Case]:
    expected = _SPACE.sub("", evidence.renderings["call"].text or "")

    def complain(text: str) -> str:
        if ARGUMENT not in text:
            return "the arguments are gone"
        return (
            ""
            if _SPACE.sub("", text) == expected
            else (
                f"arguments given as text are written otherwise than as an object: {between(text, TOOL, RESULT)[-120:]!r}"
            )
        )

    return [judged(evidence, "arguments as text", complain)]


def _no_arguments(evidence: Evidence) -> list[Case]:
    usual = len(_PHANTOM.findall(evidence.renderings["call"].text or ""))

    def complain(text: str) -> str:
        if len(_PHANTOM.findall(text)) > usual:
            return "no arguments are written as None or undefined"
        return out_of_order(text, (RESULT,))

    return [judged(evidence, shape, complain) for shape in ("arguments {}", "arguments empty text", "arguments null")]


def _nothing_said(evidence: Evidence) -> list[Case]:
    return [*same_as("call", "content null", "content absent")(evidence)]


def _two_users(evidence: Evidence) -> list[Case]:
    def users(text: str) -> str:
        return out_of_order(text, (USER, USER_2)) or _merged(between(text, f"{USER}?", "And the ferry"))

    def assistants(text: str) -> str:
        return out_of_order(text, (ANSWER, ANSWER_2)) or _merged(between(text, f"{ANSWER}.", f"Or {ANSWER_2}"))

    return [judged(evidence, "two users", users), judged(evidence, "two assistants", assistants)]


def _merged(gap: str) -> str:
    return "" if gap.strip() else "the two turns run into one"


def _reasoning(evidence: Evidence) -> list[Case]:
    if not re.search(r"reasoning|thinking", evidence.template.source):
        return [Case("reasoning in a loop", Outcome.NOT_APPLICABLE, "the template has no branch for reasoning")]
    return keeps("reasoning in a loop", REASON, RESULT)(evidence)  # type: ignore[return-value]


def _thinking(evidence: Evidence) -> list[Case]:
    on, off, unset = (evidence.renderings[name].text for name in ("thinking on", "thinking off", "user"))
    said = "has no switch" if on == off else "on" if unset == on else "off" if unset == off else "neither on nor off"
    return [
        Case(
            "thinking",
            Outcome.OK,
            f"thinking unless told otherwise: {said}",
            ("thinking on", "thinking off", "user"),
            (said,),
        )
    ]


def _quoted(text: str) -> str:
    whole = out_of_order(text, (f"Write </think> or <tool_call> before {ANSWER} here.", f"See </think> {USER_2}."))
    return "text with </think> in it is cut" if whole else ""


def _verbatim(text: str) -> str:
    return (
        "" if f'{{"tide": "{RESULT}", "high": true}}' in text else f"the result is written otherwise: {_around(text)!r}"
    )


def _around(text: str) -> str:
    at = text.find(RESULT)
    return text[max(0, at - 40) : at + 40] if at >= 0 else "it is gone"


def _issue(number: int, repository: str = "ggml-org/llama.cpp") -> str:
    return f"https://github.com/{repository}/issues/{number}"


_NOT_LOST = frozenset({_LOUD, _DECLINED})
_REFUSED = frozenset({_DECLINED})
CHECKS = (
    Check("R01", "A question is asked", "the user's text is there, and an answer is opened as in the history",
          "broken or swapped opener", _issue(20630), "error", answered_by),
    Check("R02", "Tools are described", "the tool's name is in the prompt", "tools lost without a system message",
          _issue(15496), "error", keeps("tools", TOOL), core=True, needs="tools"),
    Check("R03", "Tools beside a system message", "both are in the prompt", "one replaces the other", _issue(15496), "error",
          each("tools and system", complain=lambda text: out_of_order(text, (SYSTEM,)) or out_of_order(text, (TOOL,))),
          needs="descriptions"),
    Check("R04", "A call and its result", "name, argument and result are there in this order", "calls that are not printed",
          _issue(13178), "error", keeps("call, no prompt", ARGUMENT, RESULT), core=True, needs="tools"),
    Check("R05", "Arguments as text", "arguments given as JSON text are written as those given as an object, or refused",
          "the text is iterated, encoded twice or lost", _issue(19905), "error", _arguments_as_text, core=True,
          needs="calls", accepts=_REFUSED),
    Check("R06", "A call without arguments", "renders without phantom text", "None where there is nothing",
          _issue(13516), "warning", _no_arguments, needs="calls", accepts=_REFUSED),
    Check("R07", "Arguments that are no object", "an error, or nothing is lost", "an error that became a loss",
          _issue(20193), "error", each("arguments cut short", "arguments a list", "arguments a string",
          complain=lambda text: "" if ARGUMENT in text else "the arguments are gone"),
          core=True, needs="calls", accepts=_NOT_LOST),
    Check("R08", "A call without text", "null, empty and absent content render alike", "content taken for granted",
          _issue(13178), "error", _nothing_said, core=True, needs="calls"),
    Check("R09", "Text beside a call", "the text is there, before the call", "text dropped beside calls",
          _issue(13516), "error", keeps("text and call", ANSWER, ARGUMENT), core=True, needs="calls"),
    Check("R10", "Two calls at once", "both calls and both results are there in their order", "only the first call is printed",
          _issue(14038), "error", each("two calls", complain=lambda text: out_of_order(text, (ARGUMENT, ARGUMENT_2))
          or out_of_order(text, (RESULT, RESULT_2)) or out_of_order(text, (ARGUMENT, RESULT))
          or out_of_order(text, (ARGUMENT_2, RESULT_2))), core=True, needs="calls"),
    Check("R11", "Two rounds of calls", "all of them are there in their order", "loss after the first round", _issue(13178),
          "error", keeps("two rounds", ARGUMENT, RESULT, ARGUMENT_2, RESULT_2), needs="calls"),
    Check("R12", "A question after a call", "call, result, answer and question are there", "history cut away", _issue(22746),
          "error", keeps("call, answer, question", ARGUMENT, RESULT, ANSWER, USER_2), needs="calls"),
    Check("R13", "A result in parts", "text parts render as the text does", "an empty result, or a printed list",
          _issue(17376), "error", same_as("call", "result in parts"), core=True, needs="calls"),
    Check("R14", "A question in parts", "text parts render as the text does", "a printed list", _issue(17376), "error",
          same_as("user", "user in parts")),
    Check("R15", "A result without name or id", "renders, or is refused", "a name or id taken for granted", _issue(14038),
          "warning", each("result without name", "result without id", complain=lambda text: out_of_order(text, (RESULT,))),
          needs="calls", accepts=_REFUSED),
    Check("R16", "Ids of other forms", "renders, or is refused", "ids of one form taken for granted", _issue(14038), "warning",
          each("call without id", "call with long id", "call with functions id",
               complain=lambda text: out_of_order(text, (ARGUMENT, RESULT))), needs="calls", accepts=_REFUSED),
    Check("R17", "The role developer", "its text is there", "clients that write `developer` are refused", _issue(20733),
          "warning", keeps("developer", DEVELOPER, USER), core=True),
    Check("R18", "Two system messages", "both are there, or refused", "the second is dropped", _issue(20733), "warning",
          keeps("two systems", SYSTEM, SYSTEM_2, USER), core=True, accepts=_REFUSED),
    Check("R19", "A system message in the middle", "it is there, or refused", "it is dropped", _issue(20733), "warning",
          each("system in the middle", complain=lambda text: out_of_order(text, (SYSTEM_2,))), accepts=_REFUSED),
    Check("R20", "No user's turn left", "renders", "agents whose history was trimmed die",
          _issue(36432, "vllm-project/vllm"), "error", keeps("no user", ARGUMENT, RESULT), core=True, needs="calls"),
    Check("R21", "Two turns of one role", "both are there, apart, or refused", "turns that run into one", _issue(14038),
          "warning", _two_users, accepts=_REFUSED),
    Check("R22", "Turns are ended", "each turn opened is ended, each tag closed", "the model goes on in another's turn",
          _issue(13178), "error", balanced, core=True, needs="calls"),
    Check("R23", "An answer is asked for once", "one opener, at the end, only when asked for",
          "a prompt that is doubled or unconditional", _issue(17376), "error", asked_once, core=True),
    Check("R24", "Reasoning between calls", "it is kept where the template thinks", "lost reasoning",
          _issue(3325, "earendil-works/pi"), "warning", _reasoning, needs="calls"),
    Check("R25", "Reasoning and an answer", "the answer is there", "the answer replaced by its reasoning", _issue(25072),
          "error", keeps("reasoning", ANSWER, USER_2), core=True),
    Check("R26", "Thinking on, off, unset", "told, not judged", "a default that differs between engines", _issue(20833),
          "information", _thinking),
    Check("R27", "Tags quoted in text", "the text is whole", "an answer split at a quoted </think>", _issue(22786), "warning",
          each("quoted tags", complain=_quoted)),
    Check("R28", "A result in JSON", "it is written as it came", "added quotes and escapes", _issue(19520), "warning",
          each("result as JSON", complain=_verbatim), core=True, needs="calls"),
)  # fmt: skip
