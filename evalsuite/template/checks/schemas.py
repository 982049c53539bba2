"""G: what of a tool's schema is in the prompt, and what the server's grammar makes of it."""

import json

from evalsuite.template.checks.judging import each, judged, keeps
from evalsuite.template.conversations import TOOL, TOOL_2
from evalsuite.template.records import Case, Check, Evidence, Judge, Outcome

_UNUSUAL = ("look-up.tide", "gezeit_ä", "t" * 70)
LIMITS = (
    "recursive $ref", "remote $ref", "missing $ref", "boolean schema", "look-ahead pattern", "maxLength 3000", "maxItems 5000"
)  # fmt: skip


def _all(*pairs: tuple[str, tuple[str, ...]]) -> Judge:
    return lambda evidence: [case for shape, words in pairs for case in keeps(shape, *words)(evidence)]


def _limits(evidence: Evidence) -> list[Case]:
    """Accept an error of a schema; a server that ends or hangs is none."""
    cases = []
    for shape in LIMITS:
        case = judged(evidence, shape, lambda text: "" if TOOL in text else "the tool is gone")
        told = evidence.renderings[shape].failure in ("error", "declined")
        cases.append(Case(shape, Outcome.OK, f"refused: {case.detail}", (shape,), case.seen) if told else case)
    return cases


def _order(evidence: Evidence) -> list[Case]:
    text = evidence.renderings["unknown keys"].text or ""
    dropped = [key for key in ("strict", "extraauk") if key not in text]
    told = f"left out: {', '.join(dropped)}" if dropped else "all keys are kept"
    case = keeps("unknown keys", TOOL, TOOL_2)(evidence)[0]
    return [case if case.detail else Case("unknown keys", Outcome.OK, told, ("unknown keys",), (told,))]


def _long_integers(evidence: Evidence) -> list[Case]:
    grammar = str(evidence.dispatch.get("grammar", ""))
    if not grammar:
        return [Case("grammar", Outcome.NOT_APPLICABLE, "only the server writes a grammar")]
    short = "[0-9]{0,15}" in grammar and "integer" in grammar
    detail = "the grammar allows integers of 16 digits, so longer ones cannot be generated" if short else ""
    return [Case("grammar", Outcome.SILENT if short else Outcome.OK, detail, seen=(str(short),), blame="engine")]


def _names(text: str) -> str:
    missing = [name for name in _UNUSUAL if name not in text and json.dumps(name) not in text]
    return f"{missing[0][:20]} is not in the prompt as it is" if missing else ""


def _issue(number: int) -> str:
    return f"https://github.com/ggml-org/llama.cpp/issues/{number}"


CHECKS = (
    Check("G01", "A tool without description or parameters", "the tool is described", "a key taken for granted",
          "https://github.com/jundot/omlx/issues/1876", "error", _all(("no description", (TOOL,)), ("no parameters", (TOOL,))),
          needs="descriptions"),
    Check("G02", "A parameter without type or description", "it is described", "a key taken for granted", _issue(21347),
          "error", _all(("property without type", ("harbour",)), ("property without description", ("harbour",))),
          core=True, needs="descriptions"),
    Check("G03", "A parameter that may be null", "it is described", "a list of types taken for one", _issue(21347), "error",
          keeps("type list", "nullgull"), core=True, needs="descriptions"),
    Check("G04", "anyOf and oneOf", "what is inside is described", "only known keys are printed", _issue(21347), "warning",
          _all(("anyOf", ("enumfinch",)), ("oneOf", ("enumfinch",))), core=True, needs="descriptions"),
    Check("G05", "$ref", "what it refers to is described", "only known keys are printed", _issue(20867), "warning",
          keeps("$ref", "enumfinch"), needs="descriptions"),
    Check("G06", "enum, const, default, nested, arrays", "all of it is described", "only known keys are printed",
          _issue(21347), "warning", _all(("enum", ("enumfinch", "enumwren")), ("const", ("constrook",)),
          ("default", ("defaultdove",)), ("nested", ("nestedkite",)), ("array without items", ("listlark",))),
          core=True, needs="descriptions"),
    Check("G07", "Schemas at their limits", "accepted, or refused with an error", "a server that ends or hangs", _issue(25746),
          "warning", _limits, core=True, needs="descriptions"),
    Check("G08", "Keys beyond the standard", "the order of the tools is kept; what is left out is told", "drift",
          _issue(19520), "information", _order, needs="descriptions"),
    Check("G10", "Integers of 18 digits", "the grammar allows them", "digits that cannot be generated", _issue(20193),
          "warning", _long_integers, needs="calls"),
    Check("G11", "Unusual names of tools", "they are described as they are", "names that are mangled", _issue(14038),
          "warning", each("unusual names", complain=_names),
          needs="descriptions"),
)  # fmt: skip
