"""What was found about chat templates, as JSON values and as tables in the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalsuite.template.compare import Change
from evalsuite.template.conversations import SHAPES
from evalsuite.template.examine import Compared, Examined
from evalsuite.template.records import Case, Check, Conversation, Finding, Outcome, Verdict

_COLOURS = {
    Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow", Verdict.NOT_APPLICABLE: "dim",
    Change.REGRESSED: "bold red", Change.MASKED: "red", Change.FIXED: "green", Change.SAME: "yellow", Change.NO_OP: "dim",
    Change.INCONCLUSIVE: "yellow",
}  # fmt: skip


_LINES = 8
"""Lines of a diff that the terminal shows."""


def examined_json(examined: Examined) -> dict[str, Any]:
    """Return a template's findings as plain values; `conversation` is the smallest one that shows the first failing case."""
    return {
        "template": _named(examined), "broken": sorted({finding.check.id for finding in examined.broken}),
        "findings": [
            {**_check(finding.check), "engine": vars(finding.engine), "verdict": finding.verdict, "advice": finding.advice,
             "cases": [_case(case) for case in finding.cases], "conversation": _smallest(finding.cases)}
            for finding in examined.findings
        ],
    }  # fmt: skip


def compared_json(compared: Compared) -> dict[str, Any]:
    """Return a comparison as plain values."""
    return {
        "before": compared.before.name, "after": compared.after.name, "change": compared.change,
        "engines": [
            {"engine": vars(each.engine), "change": each.change, "reason": each.reason,
             "beside": [{"id": beside.check.id, "change": beside.change} for beside in each.beside],
             "blast_radius": {"changed": len(each.diffs), "of": each.n_shapes}, "diffs": dict(each.diffs),
             "checks": [
                 {**_check(check.check), "change": check.change, "cases": [
                     {"change": case.change, "unmasked": case.unmasked,
                      "before": _case(case.before), "after": _case(case.after)}
                     for case in check.cases]}
                 for check in each.checks]}
            for each in compared.engines
        ],
    }  # fmt: skip


def print_examined(examined: Examined, console: Console, *, whole: bool) -> None:
    """Print what fails or could not be decided, and how much passes; with `whole`, every check."""
    console.print(Text(f"\n{examined.template.name}", style="bold"))
    for engine in dict.fromkeys(finding.engine for finding in examined.findings):
        found = [finding for finding in examined.findings if finding.engine == engine]
        shown = [f for f in found if whole or f.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)]
        counts = ", ".join(f"{sum(f.verdict is verdict for f in found)} {verdict}" for verdict in Verdict)
        console.print(Text(f"{engine.name} ({engine.build}): {counts}"))
        table = Table(show_header=False, box=None, padding=(0, 1))
        for finding in shown:
            table.add_row(finding.check.id, Text(finding.verdict, style=_COLOURS[finding.verdict]), _told(finding))
        console.print(table)
    broken = sorted({finding.check.id for finding in examined.broken})
    console.print(
        Text(f"the template breaks {', '.join(broken)}" if broken else "no error of the template's own was found")
    )


def print_compared(compared: Compared, console: Console) -> None:
    """Print what changed on each engine, and the verdict."""
    console.print(Text(f"\n{compared.before.name} → {compared.after.name}", style="bold"))
    for each in compared.engines:
        console.print(
            Text(f"{each.engine.name} ({each.engine.build}): {each.change}, {each.reason}", style=_COLOURS[each.change])
        )
        console.print(Text(f"  {len(each.diffs)} of {each.n_shapes} conversations render otherwise"))
        for beside in each.beside:
            console.print(
                Text(f"  beside the target: {beside.check.id} {beside.change}", style=_COLOURS[beside.change])
            )
        table = Table(show_header=False, box=None, padding=(0, 1))
        for check in each.checks:
            if check.change in (Change.NO_OP, Change.INCONCLUSIVE):
                continue
            for case in check.cases:
                if case.change is check.change:
                    name = case.after.name or case.before.name
                    said = f"{check.check.title}, {name}: {_was(case.before)} → {_was(case.after)}"
                    table.add_row(check.check.id, Text(case.change, style=_COLOURS[case.change]), Text(said))
        console.print(table)
        for shape, diff in each.diffs.items():
            lines = diff.splitlines()[2:]
            more = f"\n  … {len(lines) - _LINES} more lines; --json has them all" if len(lines) > _LINES else ""
            console.print(Text(f"{shape}\n" + "\n".join(lines[:_LINES]) + more, style="dim"))
    console.print(Text(f"verdict: {compared.change}", style=_COLOURS[compared.change]))


def _told(finding: Finding) -> Text:
    lines = [finding.check.title]
    for case in finding.cases:
        passes = case.outcome in (Outcome.OK, Outcome.NOT_APPLICABLE, *finding.check.accepts)
        if not passes or (case.detail and finding.check.severity == "information"):
            whose = " [the engine's doing]" if case.blame == "engine" and not passes else ""
            lines.append(f"  {case.name}: {_short(case.detail)}{whose}")
    return Text("\n".join([*lines, *(f"  → {text}" for text in finding.advice)]))


def _was(case: Case) -> str:
    return f"{case.outcome} ({_short(case.detail)})" if case.detail else str(case.outcome)


def _short(text: str) -> str:
    """Return the first line of a message that says something, and the last one."""
    lines = [line for line in text.strip().splitlines() if line.strip("- ")]
    return lines[0][:160] if len(lines) < 2 else f"{lines[0][:110]} … {lines[-1][:110]}"


def _named(examined: Examined) -> Mapping[str, Any]:
    return {"name": examined.template.name, "where": examined.template.metadata.get("where")}


def _check(check: Check) -> dict[str, Any]:
    return {name: getattr(check, name) for name in ("id", "title", "property", "catches", "known", "severity", "core")}


def _case(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in ("name", "outcome", "detail", "shapes", "blame", "line")}


def _smallest(cases: tuple[Case, ...]) -> Mapping[str, Any] | None:
    for case in _failing_first(cases):
        if case.shapes and case.shapes[-1] in SHAPES:
            shape: Conversation = SHAPES[case.shapes[-1]]
            return {
                "messages": shape.messages,
                "tools": shape.tools,
                "add_generation_prompt": shape.add_generation_prompt,
            }
    return None


def _failing_first(cases: tuple[Case, ...]) -> Iterator[Case]:
    yield from sorted(cases, key=lambda case: case.outcome is Outcome.OK)
