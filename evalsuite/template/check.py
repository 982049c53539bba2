"""Check one template on the engines: gather what each makes of it, and judge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from evalsuite.template.checks import CHECKS
from evalsuite.template.checks.judging import describes_tools, prints_calls
from evalsuite.template.conversations import SHAPES
from evalsuite.template.lint import advice
from evalsuite.template.python_engine import PINNED, PythonEngine
from evalsuite.template.records import (
    Case,
    Check,
    Conversation,
    Evidence,
    Finding,
    Outcome,
    Rendering,
    Template,
    Verdict,
)
from evalsuite.template.round_trip import round_trips
from evalsuite.template.server_engine import ServerEngine

_ENOUGH = 2
"""Renderings that hang or end the engine, after which no more are tried."""


def gather_python(engine: PythonEngine, template: Template) -> Evidence:
    """Return what the Python environment makes of a template."""
    renderings = _rendered(lambda conversation: engine.render(template, conversation))
    another_day = engine.render(template, SHAPES["tools"], now=PINNED + timedelta(days=40))
    first = renderings["user"]
    syntax = (
        first if "TemplateSyntaxError" in first.message or "TemplateAssertionError" in first.message else Rendering()
    )
    return Evidence(template, engine.engine, {**renderings, "another day": another_day}, loads=syntax)


def gather_server(engine: ServerEngine, template: Template) -> Evidence:
    """Return what llama-server makes of a template, and what its parser makes of the calls that it writes."""
    loads = engine.start()
    if loads.failure is not None:
        return Evidence(template, engine.engine, dict.fromkeys(SHAPES, loads), loads=loads)
    renderings = _rendered(engine.render)
    evidence = Evidence(template, engine.engine, renderings, props=engine.props())
    if not prints_calls(evidence) or renderings["call"].text is None:
        return evidence
    reply = engine.complete(SHAPES["tools"])
    said: Mapping[str, object] = {} if isinstance(reply, Rendering) else reply.get("__verbose", {})
    settings = said.get("generation_settings") or {}
    return replace(evidence, trips=round_trips(engine), dispatch=settings)  # type: ignore[arg-type]


def _rendered(render: Callable[[Conversation], Rendering]) -> dict[str, Rendering]:
    renderings: dict[str, Rendering] = {}
    ended: list[Rendering] = []
    for name, conversation in SHAPES.items():
        if len(ended) == _ENOUGH:
            renderings[name] = replace(ended[-1], message=f"not tried: it {ended[-1].message} twice before")
            continue
        renderings[name] = render(conversation)
        if renderings[name].failure in ("limit", "crash"):
            ended.append(renderings[name])
    return renderings


def findings(evidence: Evidence, checks: Sequence[Check] = CHECKS) -> tuple[Finding, ...]:
    """Judge a template by every check."""
    return tuple(_finding(check, evidence) for check in checks)


def _finding(check: Check, evidence: Evidence) -> Finding:
    cases = tuple(_applicable(check, evidence))
    verdict = _verdict(check, cases)
    return Finding(
        check, evidence.engine, verdict, cases, advice(check, evidence, cases) if verdict is Verdict.FAIL else ()
    )


def _applicable(check: Check, evidence: Evidence) -> Iterator[Case]:
    """Yield the cases of a check, or the one reason why it does not apply."""
    if evidence.loads.failure is not None and check.id not in {"M01", "M02"}:
        yield Case("load", Outcome.NOT_APPLICABLE, "the template does not load")
    elif check.needs == "tools" and not (describes_tools(evidence) or prints_calls(evidence)):
        yield Case("tools", Outcome.NOT_APPLICABLE, "the template takes no tools")
    elif check.needs == "descriptions" and not describes_tools(evidence):
        yield Case("tools", Outcome.NOT_APPLICABLE, "the template describes no tools")
    elif check.needs == "calls" and not prints_calls(evidence):
        yield Case("calls", Outcome.NOT_APPLICABLE, "the template prints no calls")
    else:
        yield from check.judge(evidence)


def _verdict(check: Check, cases: Sequence[Case]) -> Verdict:
    """Return the worst of the cases: what fails, then what could not be decided, then what passes."""
    outcomes = {case.outcome for case in cases}
    passing = {Outcome.OK, *check.accepts}
    if outcomes & ({Outcome.SILENT, Outcome.LOUD, Outcome.DECLINED} - passing):
        return Verdict.FAIL
    if Outcome.INCONCLUSIVE in outcomes:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if outcomes & passing else Verdict.NOT_APPLICABLE
