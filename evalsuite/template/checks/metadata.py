"""M: is there a template, does it load, does the server use it, and does it see in it what is there."""

from evalsuite.template.checks.judging import describes_tools, judged, prints_calls
from evalsuite.template.conversations import ARGUMENT, ARGUMENT_2, SYSTEM, TOOL
from evalsuite.template.records import Case, Check, Evidence, Outcome

_CAPS = {
    "supports_tools": ("tools", (TOOL,)), "supports_tool_calls": ("call", (ARGUMENT,)),
    "supports_parallel_tool_calls": ("two calls", (ARGUMENT, ARGUMENT_2)), "supports_system_role": ("system", (SYSTEM,)),
}  # fmt: skip


def _present(evidence: Evidence) -> list[Case]:
    source = evidence.template.source
    wrong = (
        "the template is empty"
        if not source.strip()
        else "it never reads `messages`"
        if "messages" not in source
        else ""
    )
    return [_case("source", wrong, wrong)]


def _loads(evidence: Evidence) -> list[Case]:
    found = evidence.loads
    if found.failure is None:
        return [Case("load", Outcome.OK, seen=("loads",))]
    return [Case("load", Outcome.LOUD, found.message, seen=(found.message,), line=found.line)]


def _served(evidence: Evidence) -> list[Case]:
    if not evidence.props:
        return [Case("as served", Outcome.NOT_APPLICABLE, "only a server can use another template")]
    served = str(evidence.props.get("chat_template", ""))
    lines, theirs = evidence.template.source.splitlines(), served.splitlines()
    kept = set(lines) & set(theirs)
    if 2 * len(kept) < len(set(lines)):
        return [_case("as served", f"the server uses another template: {served[:80]!r}", "another")]
    changed = len(set(theirs) - kept)  # known faults of some templates are mended by the server itself
    return [
        Case(
            "as served", Outcome.OK, f"the server mends {changed} lines of it" if changed else "", seen=(str(changed),)
        )
    ]


def _caps_seen(evidence: Evidence) -> list[Case]:
    caps = evidence.props.get("chat_template_caps")
    if not caps:
        return [Case("caps", Outcome.NOT_APPLICABLE, "only llama-server probes a template")]
    wrong = ""
    if not (caps.get("supports_string_content") or caps.get("supports_typed_content")):
        wrong = "the server thinks that it prints no content of any kind"
    elif describes_tools(evidence) and not (caps.get("supports_tools") or caps.get("supports_tool_calls")):
        wrong = "the server thinks that it takes no tools, but it does"
    return [_case("caps", wrong, str(sorted(caps.items())))]


def _caps_true(evidence: Evidence) -> list[Case]:
    caps = evidence.props.get("chat_template_caps")
    if not caps:
        return [Case("caps", Outcome.NOT_APPLICABLE, "only llama-server probes a template")]
    cases = []
    for cap, (shape, words) in _CAPS.items():
        text = evidence.renderings[shape].text
        if text is None or cap not in caps:
            continue
        seen = all(word in text for word in words)
        said = "true" if caps[cap] else "false"
        wrong = "" if seen == bool(caps[cap]) else f"{cap} is {said}, the rendering says otherwise"
        cases.append(_case(cap, wrong, f"{said} {seen}", shape))
    return cases


def _dispatch(evidence: Evidence) -> list[Case]:
    triggers = [str(each.get("value", "")) for each in evidence.dispatch.get("grammar_triggers") or ()]
    words = [word for word in triggers if word.strip() and not set(word) & set("\\^$*+?")]
    if not words or not prints_calls(evidence):
        return [Case("parser", Outcome.NOT_APPLICABLE, "the server names no word that begins a call")]
    form = evidence.dispatch.get("chat_format", "")

    def complain(text: str) -> str:
        return (
            ""
            if any(word.strip() in text for word in words)
            else (f"the parser ({form}) waits for {' or '.join(map(repr, words))}, which the template does not write")
        )

    return [judged(evidence, "call", complain)]


def _case(name: str, wrong: str, seen: str, *shapes: str) -> Case:
    return Case(name, Outcome.SILENT if wrong else Outcome.OK, wrong, shapes, (seen,))


CHECKS = (
    Check("M01", "There is a template", "the source reads the messages", "missing or foreign template",
          "https://github.com/ggml-org/llama.cpp/pull/17707", "error", _present, core=True),
    Check("M02", "The template loads", "the engine compiles it, within limits", "syntax that an engine lacks",
          "https://github.com/ggml-org/llama.cpp/pull/15186", "error", _loads),
    Check("M03", "The server uses this template", "/props gives the same text", "silent fallback to ChatML",
          "https://github.com/ggml-org/llama.cpp/pull/14939", "error", _served, core=True),
    Check("M04", "The server finds out what it can do", "text is printed, and tools are seen where it takes them",
          "the probe of the server failed", "https://github.com/ggml-org/llama.cpp/issues/28786", "error", _caps_seen,
          core=True),
    Check("M05", "What the server finds out is so", "each capability agrees with a rendering", "a wrong probe",
          "https://github.com/ggml-org/llama.cpp/issues/27754", "warning", _caps_true),
    Check("M06", "The server's parser is for this format", "the word that begins a call is one that the template writes",
          "a parser chosen by a substring of the source", "https://github.com/ggml-org/llama.cpp/issues/19474", "error",
          _dispatch, core=True, needs="calls"),
)  # fmt: skip
