"""The result of a sweep as tables of at most 100 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evalsuite.numbers import ABSENT, decimals, gigabytes, percent, points

Row = Mapping[str, Any]

MARKS = {"worse": "▼", "better": "▲", "equivalent": "≈", "undecided": "·", None: " "}
SHORT_NAMES = {
    "ppl": "PPL", "ppl_ratio": "PPL ×", "kld_mean": "KLD", "kld_p99": "99% KLD", "kld_p999": "99.9%", "rms_dp": "RMS Δp",
    "same_top_p": "same top",
}  # fmt: skip
NAME_WIDTH, FACTS_WIDTH, TASK_WIDTH = 22, 34, 15
"""Columns that the name of a quant, the facts beside it and one task take, with the blank after each."""


def print_table(analysis: Mapping[str, Any], console: Console) -> None:
    """Print a row a quant: the reference, the quants by size, the noise floor; then what holds for all of them.

    Where nobody has a score, the row has the proxies.
    """
    if analysis["scores"]:
        _print_scores(analysis, console)
    else:
        console.print(_proxy_table(analysis))
        console.print("No scores: proxies alone. Largest first.", style="dim")
    for claim in analysis["claims"]:
        if claim["id"].startswith("verdict:") or claim["id"] in {"summary", "noise-floor"}:
            console.print(escape(claim["text"]))
    for gate in analysis["gates"]:
        if gate["passed"] is False:
            console.print(f"[bold]! {escape(gate['name'])}[/bold]: {escape(gate['detail'])}")


def _print_scores(analysis: Mapping[str, Any], console: Console) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in analysis["scores"]))
    # The mean of the tasks is the last row of a quant and the first thing to read.
    tasks = tasks[-1:] + tasks[:-1] if len(tasks) > 1 else tasks
    beside_facts = max(1, (console.width - NAME_WIDTH - FACTS_WIDTH) // TASK_WIDTH)
    alone = max(1, (console.width - NAME_WIDTH) // TASK_WIDTH)
    console.print(_table(analysis, tasks[:beside_facts], facts=True))
    for start in range(beside_facts, len(tasks), alone):
        console.print(_table(analysis, tasks[start : start + alone], facts=False))
    console.print(
        "Score and delta to the reference, in points; ▼ worse, ▲ better (Holm p < .05), ≈ equivalent, · undecided."
        " Largest first.",
        style="dim",
    )


def _proxy_table(analysis: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("quant", no_wrap=True, overflow="ellipsis", width=21)
    for heading, width in (("GB", 6), ("bpw", 5)):
        table.add_column(heading, justify="right", no_wrap=True, width=width)
    proxies = _first_proxies(analysis["proxies"])
    names = [name for name in SHORT_NAMES if any(row.get(name) is not None for row in proxies.values())]
    for name in names:
        table.add_column(SHORT_NAMES[name], justify="right", no_wrap=True, width=max(9, len(SHORT_NAMES[name])))
    for quant in analysis["quants"]:
        measured = proxies.get(quant["quant"], {})
        table.add_row(
            escape(quant["quant"]),
            gigabytes(quant["size_bytes"]),
            decimals(quant["bpw"], 3),
            *(decimals(measured.get(name), 4) for name in names),
            style="bold" if quant["is_reference"] else None,
        )
    return table


def _table(analysis: Mapping[str, Any], tasks: Sequence[str], *, facts: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("quant", no_wrap=True, overflow="ellipsis", width=21)
    for heading, width in (("GB", 6), ("bpw", 5), ("PPL", 6), ("KLD", 9)) if facts else ():
        table.add_column(heading, justify="right", no_wrap=True, width=width)
    for task in tasks:
        table.add_column(escape(task.strip("()")), justify="right", no_wrap=True, overflow="ellipsis", width=13)
    scores = {(row["quant"], row["task"]): row for row in analysis["scores"]}
    pairs = {(row["b"], row["task"]): row for row in analysis["pairs"]}
    proxies = _first_proxies(analysis["proxies"])
    for quant in analysis["quants"]:
        name = quant["quant"]
        table.add_row(
            escape(f"noise floor: {quant['replicate_of']}" if quant["replicate_of"] else name),
            *(_facts(quant, proxies.get(name, {})) if facts else ()),
            *(_cell(scores.get((name, task)), pairs.get((name, task))) for task in tasks),
            style="dim" if quant["replicate_of"] else "bold" if quant["is_reference"] else None,
        )
    return table


def _facts(quant: Row, proxy: Row) -> tuple[str, ...]:
    measured = (decimals(quant["bpw"], 3), decimals(proxy.get("ppl"), 4), decimals(proxy.get("kld_mean"), 3))
    return gigabytes(quant["size_bytes"]), *measured


def _first_proxies(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return each quant's first value of each proxy that it has: one text is enough for a glance."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = first.setdefault(row["quant"], {})
        for name, value in row.items():
            if known.get(name) is None:
                known[name] = value
    return first


def _cell(score: Row | None, pair: Row | None) -> str:
    if score is None or score["value"] is None:
        return ABSENT
    shown = percent(score["value"]).removesuffix(" %")
    if pair is None:
        return f"{shown}        "
    return f"{shown} {points(pair['delta']):>5} {MARKS[pair['verdict']]}"
