"""The tables of the scores, the files and the proxies as they were measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.analysis.columns import PROXY_NAMES
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.numbers import ABSENT, decimals, gigabytes, percent, points
from evalsuite.report.cells import (
    Cell,
    Column,
    Field,
    Row,
    Table,
    count,
    level,
    limits,
    measure,
    notes,
    number,
    number_cell,
    p,
    ratio,
    share,
    size,
    span,
    table,
    task,
    text_cell,
    verdict_cell,
    words,
    yes,
)

SPEEDS = {"pp_tps": "prompt, tokens/s", "tg_tps": "generation, tokens/s"}


def decidability_table(rows: Sequence[Row]) -> Table:
    """Return what each task's samples can decide, before any result."""
    return table(
        "decidability", "What each task can decide", "", rows,
        (
            task(), count("n", "n", "samples"), count("quants", "quants"),
            share("discordance", "discordance", "median share of samples on which two quants differ"),
            size("MDE", "mde", "smallest difference of two quants found with 80 % power, in points"),
            size("MDE corr.", "mde_family", "the same at the level corrected for the number of pairs"),
            ratio("separable", "separable", "pairs", "pairs of quants whose difference is significant, of all pairs"),
            share("live", "live", "share of samples on which not all quants have the same score"),
            measure("SNR", "snr", "spread of the scores over their error; below 1 it is noise", 2),
            level("reliability", "reliability", "share of the spread between quants that is not noise"),
            words("test of all", "omnibus", "do the quants differ at all on this task?"), p("its p", "omnibus_p"),
            share("A/A flips", "flip_rate_aa", "scores that changed when the reference ran again"), notes(),
        ),
    )  # fmt: skip


def score_table(analysis: Mapping[str, Any]) -> Table:
    """Return a row a quant with its score on every task."""
    scores = {(row["quant"], row["task"]): row for row in analysis["scores"]}
    fields = [words("quant", "quant")]
    fields += [_score_field(name, scores) for name in dict.fromkeys(row["task"] for row in analysis["scores"])]
    caption = "Share of right answers (or mean of graded scores) with its 95 % interval, each quant by itself."
    return table("scores", "Scores", caption, analysis["quants"] if scores else (), fields)


def part_table(analysis: Mapping[str, Any]) -> Table:
    """Return a row a part of a task with its mean for each quant."""
    found = {(row["task"], row["kind"], row["part"], row["quant"]): row for row in analysis.get("parts") or ()}
    rows = [{"task": name, "kind": kind, "part": part} for name, kind, part in dict.fromkeys(key[:3] for key in found)]
    fields = [task(), words("kind", "kind"), words("part", "part")]
    fields += [_part_field(row["quant"], found) for row in analysis["quants"]]
    caption = (
        "Mean score of each stratum, of groups of strata by the weights of their source, and the means of other metrics of"
        " the same answers, each over those that have it. Intervals and n stand in the tooltips; nothing is corrected here."
    )
    return table("parts", "Parts of the tasks", caption, rows, fields)


def _part_field(quant: str, found: Mapping[tuple[str, str, str, str], Row]) -> Field:
    def cell(row: Row) -> Cell:
        part = found.get((row["task"], row["kind"], row["part"], quant))
        if part is None or part["value"] is None:
            return Cell(ABSENT)
        interval = "no interval" if part["low"] is None else limits(part["low"], part["high"], percent)
        return Cell(percent(part["value"]), _key(part["value"]), hint=f"{interval}, n = {part['n']:,}")

    return Field(Column(quant), cell)


def length_table(rows: Sequence[Row]) -> Table:
    """Return a row a quant × family × length of the long-context tasks."""
    return table(
        "lengths", "Recall by length", "Lengths are shares of the room that the served context leaves to a prompt.", rows,
        (
            words("quant", "quant"), task(), words("family", "family"), measure("length", "length"),
            measure("tokens", "tokens", "median of the prompts", 0), share("recall", "value"),
            span("95 % interval", "low", "high", percent), count("n", "n"), notes(),
        ),
    )  # fmt: skip


def effective_table(rows: Sequence[Row]) -> Table:
    """Return a row a quant × family with its effective length."""
    return table(
        "effective", "Effective length",
        "The largest length up to which the recall stays at 85 % of that at the shortest length at least.", rows,
        (
            words("quant", "quant"), task(), words("family", "family"), measure("effective length", "value"),
            span("shown – not refuted", "low", "high", decimals), measure("tokens", "tokens", "at that length", 0),
            share("recall at the shortest", "recall"), count("n", "n"), notes(),
        ),
    )  # fmt: skip


def pair_table(pairs: Sequence[Row]) -> Table:
    """Return a row a quant × task beside the reference."""
    return table(
        "pairs", "Differences from the reference",
        "Every quant beside the reference on the samples both have a score for. Points are hundredths of the scale.",
        pairs,
        (
            words("quant", "b"), task(),
            Field(
                Column("delta", "score of the quant − score of the reference, in points"),
                lambda row: Cell(points(row["delta"]), _key(row["delta"]), row["verdict"] or ""),
            ),
            span("95 % interval", "low", "high", points),
            Field(
                Column("verdict", "worse or better where the Holm-corrected p is below .05", number=False),
                lambda row: Cell("noise floor", "noise floor") if row["kind"] == "replicate"
                else verdict_cell(row["verdict"]),
            ),
            p("Holm p", "p_holm", "corrected for all comparisons of its family"),
            size("MDE", "mde", "smallest difference found with 80 % power, in points"),
            size("margin", "margin", "equivalent: the 90 % interval lies within this many points of 0"),
            count("lost", "lost", "samples the reference scored higher on"),
            count("gained", "gained", "samples the quant scored higher on"),
            count("n", "n", "samples with a score in both"),
            count("unscored", "unscored", "samples left out because the machine failed, not the model"),
            p("p", "p", "two-sided, this pair alone"),
            p("mid-p", "p_midp", "McNemar's mid-p, less conservative than the exact p"),
            size("MDE corr.", "mde_family", "the smallest difference found at the corrected level"),
            words("test", "test"),
        ),
    )  # fmt: skip


def quant_table(quants: Sequence[Row]) -> Table:
    """Return a row a file."""
    return table(
        "quants", "Files", "Largest first; the hash names the file.", quants,
        (
            words("quant", "quant"), words("provider", "provider"),
            number("GB", "size_bytes", gigabytes, "10⁹ bytes"), measure("bpw", "bpw", "bits per weight"),
            Field(Column("role", number=False), lambda row: text_cell(_role(row))),
            Field(Column("status", number=False), lambda row: text_cell(_status(row))),
            Field(
                Column("sha256", number=False),
                lambda row: Cell((row["sha256"] or ABSENT)[:12], row["sha256"] or "", hint=row["sha256"] or ""),
            ),
        ),
    )  # fmt: skip


def proxy_table(proxies: Sequence[Row]) -> Table:
    """Return a row a quant × text × tool with every proxy that any of them has."""
    names = [name for name in (*PROXY_NAMES, *SPEEDS) if name != "size_bytes"]
    return table(
        "proxies", "Proxies", "As the tool printed them, ± one standard error; KLD in nats.", proxies,
        (
            words("quant", "quant"), words("text", "corpus"), words("tool", "tool"),
            *(_proxy_field(name) for name in names), count("tokens", "n_tokens"),
        ),
    )  # fmt: skip


def outcome_table(scores: Sequence[Row]) -> Table:
    """Return a row a quant × task with what became of its requests."""
    shown = [row for row in scores if row["task"] != MEAN_OF_TASKS and row.get("outcomes")]
    names = sorted({name for row in shown for name in row["outcomes"]}, key=lambda name: (name != "ok", name))
    caption = (
        "What became of every request. Server died, timeout, transport error and not run are failures of the machine"
        " and leave the denominator; all others are results of the model."
    )
    fields = (words("quant", "quant"), task(), *(_outcome_field(name) for name in names))
    return table("outcomes", "Outcomes", caption, shown, fields)


def ledger_table(claims: Sequence[Row]) -> Table:
    """Return a row a claim with the numbers behind its sentence."""
    return table(
        "ledger", "Claims ledger", "Every sentence above that states a finding, with the numbers it rests on.", claims,
        (
            words("id", "id"), words("claim", "text"),
            Field(
                Column("status", number=False), lambda row: verdict_cell(row["status"])
            ),
            measure("estimate", "estimate", "shares and differences on a scale of 0 to 1", 4),
            span("95 % interval", "low", "high", lambda value: decimals(value, 4)),
            p("adjusted p", "p_adj"), count("n", "n"), count("quants", "quants"), words("test", "test"),
            words("family", "family", "the comparisons that the p is corrected for"), words("question", "question"),
        ),
    )  # fmt: skip


def front_table(rows: Sequence[Row]) -> Table:
    """Return a row a quant × front."""
    return table(
        "pareto", "Membership of the fronts", "", rows,
        (
            words("quant", "quant"),
            Field(
                Column("against", number=False),
                lambda row: text_cell(PROXY_NAMES.get(row["name"], row["name"].strip("()"))),
            ),
            words("text", "corpus"), number("GB", "size_bytes", gigabytes),
            Field(Column("value"), _front_value), yes("on the front", "on_front", "● yes"),
            share("probability", "probability", "share of the resampled score tables in which it is on the front"),
        ),
    )  # fmt: skip


def _score_field(name: str, scores: Mapping[tuple[str, str], Row]) -> Field:
    return Field(Column(name.strip("()")), lambda row: _score(scores.get((row["quant"], name))))


def _score(row: Row | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell(ABSENT, hint="" if row is None else "; ".join(row.get("notes") or ()))
    interval = "no interval" if row["low"] is None else limits(row["low"], row["high"], percent)
    hint = "" if row["n"] is None else f"n = {row['n']:,}, unscored {row.get('unscored') or 0:,}"
    return Cell(f"{percent(row['value'])} {interval}", _key(row["value"]), hint=hint)


def _role(row: Row) -> str:
    if row["is_reference"]:
        return "reference"
    if row["replicate_of"]:
        return f"second run of {row['replicate_of']}"
    return f"same file as {row['duplicate_of']}" if row["duplicate_of"] else "quant"


def _status(row: Row) -> str:
    return f"{row['status']}: {row['reason']}" if row["reason"] else str(row["status"])


def _proxy_field(name: str) -> Field:
    heading = PROXY_NAMES.get(name) or SPEEDS[name]
    return Field(Column(heading), lambda row: Cell(_with_error(row, name), _key(row.get(name))))


def _with_error(row: Row, name: str) -> str:
    if name == "same_top_p":
        return percent(row.get(name), 2)
    error = row.get(f"{name}_se")
    return decimals(row.get(name)) + (f" ± {decimals(error, 2)}" if error is not None else "")


def _outcome_field(name: str) -> Field:
    return Field(
        Column(name.replace("_", " ")),
        lambda row: number_cell(f"{row['outcomes'].get(name, 0):,}", row["outcomes"].get(name, 0)),
    )


def _front_value(row: Row) -> Cell:
    text = percent(row["value"]) if row["axis"] == "score" else decimals(row["value"])
    return number_cell(text, row["value"])


def _key(value: float | None) -> float | str:
    return number_cell("", value).sort
