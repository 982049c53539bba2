"""Everything the page shows, as text that is ready to print: the template computes nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalsuite.analysis.left_out import LeftOut, names
from evalsuite.report.cells import Row, Table
from evalsuite.report.sections import Finding, Section, findings, further, sections
from evalsuite.report.tables import ledger_table, outcome_table, proxy_table, quant_table


@dataclass(frozen=True)
class Gate:
    """A gate with its verdict as a word: `passed`, `failed` or `not judged`; `removes` names what a failure takes out."""

    name: str
    verdict: str
    detail: str
    removes: str


@dataclass(frozen=True)
class Page:
    """The whole report but for the samples that changed."""

    title: str
    verdict: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]
    provenance: tuple[str, ...]
    findings: tuple[tuple[str, tuple[Finding, ...]], ...]
    sections: tuple[Section, ...]
    gates: tuple[Gate, ...]
    ledger: Table
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    reproducibility: tuple[tuple[str, str], ...]


def build_page(analysis: Mapping[str, Any]) -> Page:
    """Return the page of an analysis; what the analysis lacks is not on the page."""
    analysis = named_apart(analysis)
    header = analysis["header"]
    compared = [row for row in analysis["quants"] if not row["is_reference"] and not row["replicate_of"]]
    noun = "quant" if len(compared) == 1 else "quants"
    claims = analysis["claims"]
    summary = findings(claims, {"summary", "noise-floor"})
    verdict = findings(claims, {"verdict"})
    groups = (
        ("", summary if verdict else ()),
        ("Each quant against the reference", findings(claims, {"quant"})),
        ("Cheap proxies against the tasks", findings(claims, {"proxy"})),
        ("Further findings", further(claims)),
    )
    return Page(
        title=f"{header.get('model') or 'Model'}: {len(compared)} {noun} against {header['reference']}",
        verdict=verdict or summary,
        facts=_facts(analysis, f"{len(compared)} {noun}"),
        provenance=_texts(header.get("notes")),
        findings=tuple((heading, group) for heading, group in groups if group),
        sections=tuple(sections(analysis)),
        gates=tuple(_gate(row) for row in analysis["gates"]),
        ledger=ledger_table(claims),
        tables=tuple(
            table
            for table in (
                quant_table(analysis["quants"]),
                proxy_table(analysis["proxies"]),
                outcome_table(analysis["scores"]),
            )
            if table.rows
        ),
        notes=tuple(analysis["notes"]),
        reproducibility=tuple(
            (key, _written(value)) for key, value in sorted(header.items()) if key not in {"notes", "decidability"}
        ),
    )


def named_apart(analysis: Row) -> dict[str, Any]:
    """Return the analysis with the tool in the name of each text that several tools measured."""
    tools: dict[str, set[str]] = {}
    for row in analysis["proxies"]:
        if row["corpus"] is not None:
            tools.setdefault(row["corpus"], set()).add(row["tool"])

    def named(row: Any) -> Any:
        twice = isinstance(row, Mapping) and row.get("tool") and len(tools.get(row.get("corpus") or "", ())) > 1
        return {**row, "corpus": f"{row['corpus']} ({row['tool']})"} if twice else row

    return {key: [named(row) for row in rows] if isinstance(rows, list) else rows for key, rows in analysis.items()}


def _facts(analysis: Row, compared: str) -> tuple[tuple[str, str], ...]:
    tasks = [_task(row) for row in analysis["tasks"]]
    texts = sorted({str(row["corpus"]) for row in analysis["proxies"] if row["corpus"] is not None})
    verdicts = [row["passed"] for row in analysis["gates"]]
    failed = verdicts.count(False)
    checks = f"{failed} of {len(verdicts)} failed" if failed else f"none of {len(verdicts)} failed"
    return (
        ("Reference", analysis["header"]["reference"]),
        ("Compared", compared),
        ("Tasks", "; ".join(tasks) or "none"),
        ("Proxies measured on", "; ".join(texts) or "no text"),
        ("Checks", checks),
    )


def _task(row: Row) -> str:
    title = row.get("title") or row["task"]
    return f"{title} (n = {row['n_samples']:,})" if row.get("n_samples") else str(title)


def _gate(row: Row) -> Gate:
    verdict = {True: "passed", False: "failed", None: "not judged"}[row["passed"]]
    return Gate(row["name"], verdict, row["detail"], names(LeftOut(**each) for each in row.get("removes") or ()))


def _texts(notes: Any) -> tuple[str, ...]:
    return tuple(map(str, [notes] if isinstance(notes, str) else notes or ()))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
