"""The tables of what the proxies are worth: agreement with the tasks, pairs they mislead on, what they cost."""

from collections.abc import Mapping, Sequence

from evalsuite.numbers import gigabytes, percent, points
from evalsuite.report.cells import (
    Cell,
    Column,
    Field,
    Row,
    Table,
    count,
    delta,
    level,
    measure,
    notes,
    number,
    p,
    proxy,
    proxy_label,
    ratio,
    rho,
    share,
    size,
    span,
    table,
    task,
    text_cell,
    verdict,
    verdict_cell,
    words,
    yes,
)
from evalsuite.report.proxy_figures import cells, subset_name

SUBSET = Field(Column("quants", number=False), lambda row: text_cell(subset_name(row["subset"])))


def correlation_table(correlations: Sequence[Row]) -> Table:
    """Return a row a proxy × task × subset with ρ and τ."""
    return table(
        "correlations", "Rank agreement of proxies and tasks",
        "How each proxy's order of the quants agrees with each task's. A proxy of damage that works has a negative"
        " coefficient, file size and same top token a positive one.",
        [_both(found) for found in cells(correlations)],
        (
            proxy(), words("tool", "tool"), task(), SUBSET, count("n", "n", "distinct quants"),
            rho("ρ", "rho", "Spearman"), span("95 % interval", "low", "high"),
            words("the interval is about", "question"), p("p of ρ", "p", "not corrected"),
            p("p, BH", "p_bh", "corrected for the whole matrix: for exploring, not for claims"),
            rho("τ", "tau", "Kendall's τ_b"), p("p of τ", "tau_p", "not corrected"),
            level("ceiling", "ceiling", "the |ρ| that noise leaves to a perfect proxy"),
            span("same quants, other samples", "low_items", "high_items"),
            span("other quants, same samples", "low_quants", "high_quants"), notes(),
        ),
    )  # fmt: skip


def range_table(curves: Sequence[Row]) -> Table:
    """Return a row a proxy × task × direction × value."""
    return table(
        "ranges", "ρ by range", "", curves,
        (
            proxy(), words("tool", "tool"), task(),
            Field(
                Column("quants", number=False),
                lambda row: text_cell("nearest" if row["direction"] == "upto" else "farthest"),
            ),
            measure("value", "limit", "the quants lie up to it, or beyond"),
            count("n", "n", "distinct quants"), rho("ρ", "rho"),
            span("95 % interval", "low", "high"), rho("τ", "tau"), level("ceiling", "ceiling"),
            verdict("reading", "reading"), notes(),
        ),
    )  # fmt: skip


def volume_table(rows: Sequence[Row]) -> Table:
    """Return a row a quant × task with what changed against the reference."""
    return table(
        "volume", "What changed against the reference", "", rows,
        (
            words("quant", "quant"), task(), count("n", "n"), count("lost", "lost", "right, now wrong"),
            count("gained", "gained", "wrong, now right"), count("moved", "moved", "wrong, now wrong otherwise"),
            share("volume", "volume", "share of samples with another answer"),
            delta("direction", "direction", "lost − gained, in points"),
            share("harm share", "harm", "lost of lost + gained; one half is change without harm"),
            span("95 % interval of it", "harm_low", "harm_high", percent),
            p("p, A/A floor", "p_above_floor", "one-sided mid-p, uncorrected: more scores change than from run to run"),
            notes(),
        ),
    )  # fmt: skip


def volume_correlation_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task × subset."""
    return table(
        "volume-correlations", "Proxies against volume and direction",
        "ρ of each proxy with how much changed, and with how much of it was for the worse.", rows,
        (
            proxy(), task(), SUBSET, count("n", "n"), rho("ρ with volume", "rho_volume"),
            span("95 % interval", "low_volume", "high_volume"), rho("ρ with direction", "rho_direction"),
            span("95 % interval", "low_direction", "high_direction"), words("the interval is about", "question"),
            notes(),
        ),
    )  # fmt: skip


def misleading_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task × pair, those that cost most first."""
    return table(
        "misleading", "Pairs of quants by proxy and task", "Sorted by the lower bound of the delta, then by GB saved.",
        rows,
        (
            words("better by the proxy", "better_by_proxy"), words("the other", "worse_by_proxy"),
            proxy(), task(), Field(Column("verdict", number=False), _pair_verdict),
            delta("delta", "delta", "score of the other − score of the one the proxy prefers, in points"),
            span("95 % interval", "low", "high", points),
            p("Holm p", "p_holm", "of proxy gap and score gap together, corrected for all pairs"),
            measure("proxy gap", "proxy_gap"), p("p of the gap", "p_proxy"),
            words("better by the task", "better_by_task"), count("n needed", "n_needed", "samples that would decide it"),
            measure("GB saved", "gb_saved", "by taking the other", 2), notes(),
        ),
    )  # fmt: skip


def agreement_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task."""
    return table(
        "agreement", "Pairs ordered like the task", "", rows,
        (
            proxy(), task(), share("PA", "pa", "pairs the proxy orders like the scores"),
            span("95 % interval", "low", "high", percent),
            ratio("of pairs", "concordant", "pairs"),
            share("PA sig.", "pa_sig", "the same for pairs that the task separates"),
            ratio("of separated", "sig_concordant", "sig_pairs"), count("undecided", "undecided"),
            share("SPA", "spa", "soft pairwise accuracy: how alike the two sides' p-values are"),
            share("acc23", "acc23", "pairs ordered alike, ties counted (Deutsch 2023)"),
            measure("ε", "epsilon", "gap of ln proxy below which acc23 calls a tie", 2), notes(),
        ),
    )  # fmt: skip


def contest_table(rows: Sequence[Row]) -> Table:
    """Return a row a task × two proxies."""
    return table(
        "contest", "Proxy against proxy", "", rows,
        (
            _named("first"), _named("second"), task(), verdict("verdict", "verdict"), count("n", "n"),
            rho("τ between them", "tau"), rho("Δ|ρ|", "delta_abs_rho", "|ρ| of the first − |ρ| of the second"),
            span("95 % interval", "low", "high"), measure("Williams t", "williams_t"),
            p("p (Williams)", "williams_p", "on Pearson's r"), p("p (swap)", "swap_p"), notes(),
        ),
    )  # fmt: skip


def size_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task; where none has a value, a row a reason."""
    fields: tuple[Field, ...] = (
        proxy(), task(), count("n", "n"), rho("ρ at equal size", "rho", "of the residuals on file size"),
        span("95 % interval", "low", "high"), rho("partial ρ", "partial"), p("p of it", "partial_p"), notes(),
    )  # fmt: skip
    if all(row["rho"] is None and row["partial"] is None for row in rows):
        rows = list({tuple(row.get("notes") or ()): row for row in rows}.values())
        fields = (count("n", "n"), notes())
    return table("size", "At equal size", "", rows, fields)


def provider_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task."""
    return table(
        "providers", "Between and within providers", "", rows,
        (
            proxy(), task(), count("n", "n"), rho("ρ pooled", "pooled"), rho("within", "within"),
            rho("between", "between"),
            span("pooled − within, 95 %", "low", "high"),
            yes("reversal", "simpson", "◆ yes", "pooled and within disagree"), notes(),
        ),
    )  # fmt: skip


def leak_table(rows: Sequence[Row]) -> Table:
    """Return a row a provider × plain text × task's own text."""
    return table(
        "leak", "KLD on plain text and on the tasks' own text", "", rows,
        (
            words("provider", "provider"), words("plain text", "plain"), words("task's own text", "task_text"),
            count("n", "n", "quants"), rho("leak index", "index", "below 0: looks better on plain text than on the task's"),
            span("95 % interval", "low", "high"), notes(),
        ),
    )  # fmt: skip


def regret_table(rows: Sequence[Row]) -> Table:
    """Return a row a task × proxy."""
    return table(
        "regret", "Mean regret over the budgets", "", rows,
        (
            proxy(heading="pick by"), task(),
            span("regret, points", "crossfit", "naive", points,
                 "half-split and plug-in estimate; the truth lies between"),
            size("largest that fits", "largest_fit"), size("random pick", "random"),
            rho("skill", "skill", "1 − regret / regret of a random pick"), notes(),
        ),
    )  # fmt: skip


def budget_table(rows: Sequence[Row]) -> Table:
    """Return a row a task × proxy × budget."""
    steps = [{"task": row["task"], "proxy": row["proxy"], "corpus": row["corpus"]} | step
             for row in rows for step in row["budgets"] or ()]  # fmt: skip
    return table(
        "budgets", "Picks at each budget", "", steps,
        (
            number("GB", "size_bytes", gigabytes), proxy(heading="pick by"), task(), words("pick", "pick"),
            words("best", "best"), size("regret, points", "regret"),
        ),
    )  # fmt: skip


def influence_table(rows: Sequence[Row]) -> Table:
    """Return a row a proxy × task × quant left out."""
    return table(
        "influence", "ρ without each quant", "", rows,
        (
            words("without", "quant"), proxy(), task(), rho("ρ", "rho"), rho("ρ without it", "rho_without"),
            rho("change", "change"), yes("flag", "flag", "◆ yes", "|ρ| moves by more than .2, or ρ changes sign"),
            notes(),
        ),
    )  # fmt: skip


def disagreement_table(rows: Sequence[Row]) -> Table:
    """Return a row a pair of tasks."""
    return table(
        "disagreement", "Task against task", "", rows,
        (
            task("first", "first"), task("second", "second"), verdict("verdict", "verdict"), count("n", "n"),
            rho("τ", "tau"), level("ceiling", "ceiling", "what noise leaves of a perfect agreement"),
            level("its lower end", "ceiling_low"), notes(),
        ),
    )  # fmt: skip


def _both(found: Mapping[str, Row]) -> Row:
    """Return ρ's row with τ beside it; where only τ was computed, its row without a ρ."""
    rho_row, tau_row = found.get("spearman"), found.get("kendall")
    beside = {"tau": tau_row["rho"], "tau_p": tau_row["p"]} if tau_row else {}
    return {**(rho_row or {**(tau_row or {}), "rho": None, "p": None}), **beside}


def _named(key: str) -> Field:
    """Return a column of proxies that are named with their text already."""

    def named(row: Row) -> Cell:
        name, _, corpus = row[key].partition(" on ")
        return text_cell(proxy_label(name, corpus))

    return Field(Column(key, number=False), named)


def _pair_verdict(row: Row) -> Cell:
    return verdict_cell("equivalent" if row["verdict"] == "undecided" and row.get("equivalent") else row["verdict"])
