"""Everything the page shows, as text that is ready to print: the template computes nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import PROXY_NAMES, proxy_name
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.report.figures import Figure, forests, scatters
from evalsuite.report.numbers import ABSENT, coefficient, decimals, gigabytes, interval, p_value, percent, points, width

Row = Mapping[str, Any]

MARKS = {"worse": "▼", "better": "▲", "mixed": "◆", "undecided": "○", "supported": "●", "refuted": "✕"}
SHOWN_SAMPLES, SHOWN_CHARACTERS = 20, 600


@dataclass(frozen=True)
class Column:
    """A heading, what it means, and whether numbers stand below it."""

    text: str
    hint: str = ""
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """What is printed and what it sorts by; `tone` is worse, better, undecided or empty."""

    text: str
    sort: float | str = ""
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells below their columns; the first cell of a row names it."""

    identity: str
    heading: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Finding:
    """A claim's sentence; `label` is its verdict where it has one, else its status, and `mark` stands for the label."""

    identity: str
    text: str
    label: str
    mark: str


@dataclass(frozen=True)
class Gate:
    """A gate with its verdict as a word: `passed`, `failed` or `not judged`."""

    name: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class ChangedSample:
    """A sample that many quants got otherwise than the reference, and what each answered."""

    heading: str
    table: Table


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    facts: tuple[tuple[str, str], ...]
    provenance: tuple[str, ...]
    summary: tuple[Finding, ...]
    quants: tuple[Finding, ...]
    proxies: tuple[Finding, ...]
    gates: tuple[Gate, ...]
    forests: tuple[Figure, ...]
    scatters: tuple[Figure, ...]
    tables: tuple[Table, ...]
    samples: tuple[ChangedSample, ...]
    notes: tuple[str, ...]
    reproducibility: tuple[tuple[str, str], ...]


def build_page(analysis: Mapping[str, Any], items: pd.DataFrame) -> Page:
    """Return the page of an analysis; `items` gives the outputs of the samples that changed most."""
    header = analysis["header"]
    reference = header["reference"]
    compared = [row for row in analysis["quants"] if not row["is_reference"] and not row["replicate_of"]]
    noun = "quant" if len(compared) == 1 else "quants"
    findings = [_finding(claim) for claim in analysis["claims"]]
    return Page(
        title=f"{header.get('model') or 'Model'}: {len(compared)} {noun} against {reference}",
        facts=_facts(analysis, len(compared), noun),
        provenance=_texts(header.get("notes")),
        summary=tuple(finding for finding in findings if finding.identity in {"summary", "noise-floor"}),
        quants=tuple(finding for finding in findings if finding.identity.startswith("quant:")),
        proxies=tuple(finding for finding in findings if finding.identity.startswith("proxy:")),
        gates=tuple(_gate(row) for row in analysis["gates"]),
        forests=tuple(forests(analysis)),
        scatters=tuple(scatters(analysis)),
        tables=tuple(table for table in _tables(analysis) if table.rows),
        samples=tuple(_changed_samples(items, reference)),
        notes=tuple(analysis["notes"]),
        reproducibility=tuple((key, _written(value)) for key, value in sorted(header.items()) if key != "notes"),
    )


def _facts(analysis: Mapping[str, Any], count: int, noun: str) -> tuple[tuple[str, str], ...]:
    tasks = [f"{row['title'] or row['task']} (n = {row['n_samples']:,})" for row in analysis["tasks"]]
    texts = sorted({str(row["corpus"]) for row in analysis["proxies"] if row["corpus"] is not None})
    facts = (
        ("Reference", analysis["header"]["reference"]),
        ("Compared", f"{count} {noun}, sample by sample"),
        ("Tasks", "; ".join(tasks) or "none"),
        ("Proxies measured on", "; ".join(texts) or "no text"),
    )
    return tuple(facts)


def _finding(claim: Row) -> Finding:
    label = claim.get("verdict") or claim["status"]
    return Finding(claim["id"], claim["text"], label, MARKS[label])


def _gate(row: Row) -> Gate:
    return Gate(row["name"], {True: "passed", False: "failed", None: "not judged"}[row["passed"]], row["detail"])


def _tables(analysis: Mapping[str, Any]) -> Iterable[Table]:
    yield _score_table(analysis)
    yield _pair_table(analysis["pairs"])
    yield _quant_table(analysis["quants"])
    yield _proxy_table(analysis["proxies"])
    yield _correlation_table(analysis["correlations"])
    yield _outcome_table(analysis["scores"])


def _score_table(analysis: Mapping[str, Any]) -> Table:
    scores = {(row["quant"], row["task"]): row for row in analysis["scores"]}
    tasks = list(dict.fromkeys(row["task"] for row in analysis["scores"]))
    rows = [
        (_name(row["quant"]), *(_score(scores[row["quant"], task]) for task in tasks)) for row in analysis["quants"]
    ]
    caption = "Share of right answers (or mean of graded scores) with its 95 % interval, each quant by itself."
    columns = (_words("quant"), *(Column(task.strip("()")) for task in tasks))
    return Table("scores", "Scores", caption, columns, tuple(rows if tasks else ()))


def _pair_table(pairs: Sequence[Row]) -> Table:
    columns = (
        _words("quant"),
        _words("task"),
        Column("delta", "score of the quant − score of the reference, in points"),
        Column("95 % interval"),
        _words("verdict", "worse or better where the Holm-corrected p is below .05"),
        Column("Holm p", "corrected for all comparisons of its family"),
        Column("MDE", "smallest difference found with 80 % power, in points"),
        Column("lost", "samples the reference scored higher on"),
        Column("gained", "samples the quant scored higher on"),
        Column("n", "samples with a score in both"),
        Column("unscored", "samples left out because the machine failed, not the model"),
        Column("p", "two-sided, this pair alone"),
        Column("mid-p", "McNemar's mid-p, less conservative than the exact p"),
        Column("MDE corr.", "the smallest difference found at the corrected level"),
        _words("test"),
    )
    rows = tuple(
        (
            _name(row["b"]), _task(row["task"]),
            Cell(points(row["delta"]), _key(row["delta"]), row["verdict"] or ""),
            _number(interval(row["low"], row["high"]), row["low"]),
            _verdict(row), _p(row["p_holm"]), _number(width(row["mde"]), row["mde"]),
            _count(row["lost"]), _count(row["gained"]), _count(row["n"]), _count(row["unscored"]),
            _p(row["p"]), _p(row["p_midp"]),
            _number(width(row["mde_family"]), row["mde_family"]), Cell(row["test"], row["test"]),
        )
        for row in pairs
    )  # fmt: skip
    caption = (
        "Every quant beside the reference on the samples both have a score for. Points are hundredths of the scale."
    )
    return Table("pairs", "Differences from the reference", caption, columns, rows)


def _quant_table(quants: Sequence[Row]) -> Table:
    columns = (
        _words("quant"), _words("provider"), Column("GB", "10⁹ bytes"), Column("bpw", "bits per weight"),
        _words("role"), _words("status"), _words("sha256"),
    )  # fmt: skip
    rows = tuple(
        (
            _name(row["quant"]), _text(row["provider"]), _number(gigabytes(row["size_bytes"]), row["size_bytes"]),
            _number(decimals(row["bpw"], 3), row["bpw"]), _text(_role(row)),
            _text(row["status"] if not row["reason"] else f"{row['status']}: {row['reason']}"),
            Cell((row["sha256"] or ABSENT)[:12], row["sha256"] or "", hint=row["sha256"] or ""),
        )
        for row in quants
    )  # fmt: skip
    return Table("quants", "Files", "Largest first; the hash names the file.", columns, rows)


def _role(row: Row) -> str:
    if row["is_reference"]:
        return "reference"
    if row["replicate_of"]:
        return f"second run of {row['replicate_of']}"
    return f"same file as {row['duplicate_of']}" if row["duplicate_of"] else "quant"


def _proxy_table(proxies: Sequence[Row]) -> Table:
    names = [name for name in PROXY_NAMES if any(row.get(name) is not None for row in proxies)]
    columns = (
        _words("quant"), _words("text"), _words("tool"),
        *(Column(PROXY_NAMES[name]) for name in names), Column("tokens"),
    )  # fmt: skip
    rows = tuple(
        (
            _name(row["quant"]), _text(row["corpus"]), _text(row["tool"]),
            *(Cell(_with_error(row, name), _key(row.get(name))) for name in names), _count(row.get("n_tokens")),
        )
        for row in proxies
    )  # fmt: skip
    caption = "As the tool printed them; KLD in nats. Its standard error ± ignores the dependence inside a text."
    return Table("proxies", "Proxies", caption, columns, rows)


def _correlation_table(correlations: Sequence[Row]) -> Table:
    by_cell: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in correlations:
        by_cell.setdefault((row["proxy"], row["tool"], row["corpus"], row["task"]), {})[row["method"]] = row
    columns = (
        _words("proxy"), _words("tool"), _words("task"), Column("n", "distinct quants"),
        Column("ρ", "Spearman"), Column("95 % interval", "other quants like these, on the same samples"),
        Column("p of ρ", "not corrected"), Column("τ", "Kendall's τ_b"), Column("p of τ", "not corrected"),
        _words("note"),
    )  # fmt: skip
    rows = tuple(
        (
            _name(proxy_name(rho["proxy"], rho["corpus"])), _text(rho["tool"]), _task(rho["task"]), _count(rho["n"]),
            _number(coefficient(rho["rho"]), rho["rho"]), _rho_interval(rho), _p(rho["p"]),
            _number(coefficient(tau["rho"]), tau["rho"]), _p(tau["p"]), _text("; ".join(rho["notes"])),
        )
        for rho, tau in ((cell["spearman"], cell["kendall"]) for cell in by_cell.values())
    )  # fmt: skip
    caption = (
        "How each proxy's order of the quants agrees with each task's, over all quants. A proxy of damage that works"
        " has a negative coefficient, file size and same top token a positive one."
    )
    return Table("correlations", "Rank agreement of proxies and tasks", caption, columns, rows)


def _outcome_table(scores: Sequence[Row]) -> Table:
    shown = [row for row in scores if row["task"] != MEAN_OF_TASKS]
    names = sorted({name for row in shown for name in row["outcomes"]}, key=lambda name: (name != "ok", name))
    columns = (
        _words("quant"),
        _words("task"),
        *(Column(name.replace("_", " ")) for name in names),
    )
    rows = tuple(
        (_name(row["quant"]), _text(row["task"]), *(_count(row["outcomes"].get(name, 0)) for name in names))
        for row in shown
    )
    caption = (
        "What became of every request. Server died, timeout, transport error and not run are failures of the machine"
        " and leave the denominator; all others are results of the model."
    )
    return Table("outcomes", "Outcomes", caption, columns, rows)


def _changed_samples(items: pd.DataFrame, reference: str) -> Iterable[ChangedSample]:
    """Yield the samples on which most quants scored otherwise than the reference."""
    if items.empty:
        return
    first = items[items["repeat"] == items["repeat"].min()]
    keys = ["task", "sample_id"]
    right = first.loc[first["quant"] == reference, [*keys, "score"]]
    beside = first.merge(right, on=keys, suffixes=("", "_reference"))
    changed = beside[(beside["score"] - beside["score_reference"]).abs() > 0]
    counts = changed.groupby(keys).size().reset_index(name="changed")
    counts = counts.sort_values(["changed", *keys], ascending=[False, True, True]).head(SHOWN_SAMPLES)
    columns = (
        _words("quant"), Column("score"), _words("outcome"), _words("answer"),
        _words("output"),
    )  # fmt: skip
    for number, row in enumerate(counts.itertuples()):
        rows = first[(first["task"] == row.task) & (first["sample_id"] == row.sample_id)].sort_values("quant")
        rows = pd.concat([rows[rows["quant"] == reference], rows[rows["quant"] != reference]])
        cells = tuple(
            (
                _name(item["quant"]), _number(decimals(item["score"], 2), item["score"]), _text(item["outcome"]),
                _text(item["answer"]), _text(_excerpt(item["output"])),
            )
            for item in rows.to_dict("records")
        )  # fmt: skip
        heading = f"{row.task} × {row.sample_id}: {row.changed} changed"
        yield ChangedSample(heading, Table(f"sample-{number}", heading, "", columns, cells))


def _excerpt(output: Any) -> str | None:
    if not isinstance(output, str):
        return None
    return output if len(output) <= SHOWN_CHARACTERS else f"{output[:SHOWN_CHARACTERS]} … ({len(output):,} characters)"


def _words(text: str, hint: str = "") -> Column:
    return Column(text, hint, number=False)


def _task(task: str) -> Cell:
    return Cell(task.strip("()"), task)


def _number(text: str, value: float | None) -> Cell:
    return Cell(text, _key(value))


def _score(row: Row) -> Cell:
    if row["value"] is None:
        return Cell(ABSENT, hint="; ".join(row["notes"]))
    limits = "no interval" if row["low"] is None else f"[{_bare(row['low'])}, {_bare(row['high'])}]"
    return Cell(
        f"{percent(row['value'])} {limits}", row["value"], hint=f"n = {row['n']:,}, unscored {row['unscored']:,}"
    )


def _bare(share: float) -> str:
    return percent(share).removesuffix(" %")


def _verdict(row: Row) -> Cell:
    if row["kind"] == "replicate":
        return Cell("noise floor", "noise floor")
    verdict = row["verdict"]
    return Cell(f"{MARKS[verdict]} {verdict}", verdict, verdict) if verdict else Cell(ABSENT)


def _with_error(row: Row, name: str) -> str:
    if name == "same_top_p":
        return percent(row.get(name), 2)
    error = row.get(f"{name}_se")
    return decimals(row.get(name)) + (f" ± {decimals(error, 2)}" if error is not None else "")


def _rho_interval(row: Row) -> Cell:
    if row["low"] is None:
        return Cell(ABSENT)
    return Cell(f"[{coefficient(row['low'])}, {coefficient(row['high'])}]", row["low"])


def _name(text: str) -> Cell:
    return Cell(text, text)


def _text(value: Any) -> Cell:
    return Cell(ABSENT) if value is None or value != value else Cell(str(value), str(value))  # noqa: PLR0124 - NaN


def _count(count: float | None) -> Cell:
    return Cell(ABSENT) if count is None else Cell(f"{count:,.0f}", count)


def _p(p: float | None) -> Cell:
    return Cell(p_value(p), _key(p))


def _key(value: float | None) -> float | str:
    return "" if value is None or value != value else value  # noqa: PLR0124 - NaN


def _texts(notes: Any) -> tuple[str, ...]:
    return tuple(map(str, [notes] if isinstance(notes, str) else notes or ()))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
