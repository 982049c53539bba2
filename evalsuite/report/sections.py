"""The sections of the page, in their order: each with its words, findings, figures and tables, or not there at all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.report import figures, proxy_figures, proxy_tables, tables
from evalsuite.report.cells import MARKS, TONES, Row, Table, ordered, task_name
from evalsuite.report.chart import Figure


@dataclass(frozen=True)
class Finding:
    """A claim's sentence; `label` is its verdict where it has one, else its status; `mark` and `tone` go with it."""

    identity: str
    text: str
    label: str
    mark: str
    tone: str


@dataclass(frozen=True)
class Key:
    """A sign of the figures with its meaning."""

    tone: str
    text: str


@dataclass(frozen=True)
class Select:
    """What a reader can choose for all figures of a section: a parameter with its values and how they read."""

    label: str
    signal: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """A heading with everything below it.

    `groups` are the figures of which one group is shown at a time, and `grouped_by` says what a group is.
    """

    identity: str
    heading: str
    lead: str
    keys: tuple[Key, ...] = ()
    selects: tuple[Select, ...] = ()
    groups: tuple[str, ...] = ()
    grouped_by: str = "Proxy"
    findings: tuple[Finding, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to show."""
        return not (self.findings or self.figures or any(table.rows for table in self.tables))


@dataclass(frozen=True)
class Outline:
    """A section before it is filled: which claims, figures and tables belong to it.

    `claims` are the words before the first colon of the claims' ids.
    """

    identity: str
    heading: str
    lead: str
    claims: tuple[str, ...]
    tables: Callable[[Row], Iterable[Table]]
    figures: Callable[[Row], Iterable[Figure]] = lambda _: ()
    keys: tuple[Key, ...] = ()
    grouped_by: str = "Proxy"


def _rows(analysis: Row, key: str) -> Sequence[Row]:
    """Return the rows of a key; none where an older analysis lacks it."""
    found: Sequence[Row] = analysis.get(key) or ()
    return found


def _by_quant(analysis: Row, key: str) -> Sequence[Row]:
    """Return the rows of a key in the order of the quants."""
    order = [row["quant"] for row in analysis["quants"]]
    return sorted(_rows(analysis, key), key=lambda row: order.index(row["quant"]))


OUTLINES = (
    Outline(
        "decidability", "What these samples can decide",
        "Before any result: how small a difference each task could have shown with the samples that were asked."
        " A task with a large MDE says little about small differences, whatever its scores are.",
        ("decidability", "omnibus", "power"),
        lambda analysis: [tables.decidability_table(_rows(analysis["header"], "decidability"))],
    ),
    Outline(
        "differences", "Differences from the reference",
        "Delta with its 95 % interval, all tasks on one scale, largest file on top. Each interval stands for itself,"
        " while verdicts are corrected for the number of comparisons: a grey one may miss zero.",
        (),
        lambda analysis: [tables.pair_table(_rows(analysis, "pairs")), tables.score_table(analysis)],
        figures.forests,
        (
            Key("worse", "▼ worse"), Key("better", "▲ better"), Key("equal", "■ equivalent"),
            Key("undecided", "● undecided"), Key("again", "◆ the reference again, with its difference as a band"),
        ),
    ),
    Outline(
        "parts", "What the scores are made of",
        "Where inside a task a quant loses: by stratum, by group, by other metrics of the same answers.",
        (),
        lambda analysis: [tables.part_table(analysis)],
    ),
    Outline(
        "lengths", "Length and depth",
        "What a quant still finds in a long prompt: the share of wanted values by how long the prompt is and where in it"
        " they stand, over all families; a darker cell found more.",
        (),
        lambda analysis: [
            tables.effective_table(_by_quant(analysis, "effective_lengths")),
            tables.length_table(_by_quant(analysis, "lengths")),
        ],
        figures.depth_maps,
        grouped_by="Quant",
    ),
    Outline(
        "against", "Proxies against tasks",
        "One point a quant. Bars are 95 % intervals, across ±1.96 standard errors where the tool gave one; the grey"
        " band is the reference, the dashed line the best fit that only falls, or only rises for size.",
        (),
        lambda _: (),
        figures.scatters,
    ),
    Outline(
        "matrix", "Which proxy follows which task",
        "Rank correlation of each proxy (rows) with the score on each task (columns) over the quants, below it the 95 %"
        " interval, or n where there is none. Colour tells which way, its strength how much; everything else stands in"
        " the cell’s tooltip and in the table.",
        ("matrix", "correlation", "correlations", "ceiling"),
        lambda analysis: [proxy_tables.correlation_table(_rows(analysis, "correlations"))],
        lambda analysis: proxy_figures.matrix(_rows(analysis, "correlations")),
    ),
    Outline(
        "ranges", "Where along the range a proxy works",
        "ρ over only the quants nearest the reference (left) or farthest from it (right), by the proxy. The ceiling (dashed)"
        " is what the noise of the samples leaves to a perfect proxy: ρ near zero below a high ceiling is the proxy’s"
        " blindness, below a low one it cannot be told.",
        ("range", "ranges", "range_curves", "zone", "near_reference"),
        lambda analysis: [proxy_tables.range_table(_rows(analysis, "range_curves"))],
        lambda analysis: proxy_figures.ranges(_rows(analysis, "range_curves")),
        (Key("better", "● works"), Key("worse", "✚ blind here"), Key("undecided", "▼ cannot tell"),
         Key("undecided", "╌ ceiling")),
    ),
    Outline(
        "volume", "Volume and direction",
        "Volume is the share of samples whose answer changed, direction how many more were lost than gained. Answers"
        " can change in great number without a loss: then lost and gained balance, and the harm share is one half."
        " On the dotted lines everything that changed was lost (above) or gained (below). A finding on changed answers"
        " is none on scores.",
        ("volume", "direction", "harm"),
        lambda analysis: [
            proxy_tables.volume_correlation_table(_rows(analysis, "volume_correlations")),
            proxy_tables.volume_table(_rows(analysis, "volume")),
        ],
        lambda analysis: proxy_figures.volumes(_rows(analysis, "volume")),
    ),
    Outline(
        "misleading", "Misleading pairs",
        "Every pair of quants that a proxy puts in an order. Misleading: the task puts it the other way round, and both"
        " the proxy’s gap and the score’s are beyond chance after correction for all pairs. Consistent: the task"
        " confirms the order. Undecided: these samples cannot tell. In the maps the quants stand in the proxy’s order,"
        " least damage first; a stronger colour is a larger difference at the least.",
        ("misleading", "pair", "pairs", "left-out"),
        lambda analysis: [proxy_tables.misleading_table(_rows(analysis, "misleading"))],
        lambda analysis: proxy_figures.verdict_maps(
            _rows(analysis, "misleading"), _rows(analysis, "proxies"), analysis["quants"]
        ),
        (Key("worse", "✕ misleading"), Key("better", "✓ consistent"), Key("equal", "≈ equivalent"),
         Key("undecided", "· undecided")),
    ),
    Outline(
        "agreement", "Pairs ordered alike",
        "How many pairs of quants a proxy orders like the task: of all pairs, many of which the task itself cannot"
        " separate, and of the separated ones alone. Half is what a coin would do.",
        ("agreement", "pa"),
        lambda analysis: [proxy_tables.agreement_table(_rows(analysis, "agreement"))],
        lambda analysis: proxy_figures.agreements(_rows(analysis, "agreement")),
        (Key("better", "● all pairs"), Key("worse", "◇ separated pairs")),
    ),
    Outline(
        "contest", "Which proxy",
        "Two proxies that put the quants in the same order cannot be told apart here. Where they do not, the difference"
        " of their |ρ| with the task, resampled over samples and quants, decides. File size is one of the contestants.",
        ("contest", "comparison", "proxy_comparison"),
        lambda analysis: [proxy_tables.contest_table(_rows(analysis, "proxy_comparison"))],
    ),
    Outline(
        "size", "At equal size",
        "Does a lower proxy mean a better score among files of one size? Scores and proxy are each fitted on the size by"
        " a monotone curve, and what is left of them is correlated.",
        ("size", "size_adjusted"),
        lambda analysis: [proxy_tables.size_table(_rows(analysis, "size_adjusted"))],
    ),
    Outline(
        "providers", "Providers",
        "A proxy can order the quants of each provider rightly and all of them together wrongly, when providers differ in"
        " what they calibrate on. The dumbbells show the mean KLD of each quant on plain text and on a task’s own text;"
        " the leak index below is the mean of ln KLD on the one minus on the other, against that of all providers.",
        ("provider", "providers", "leak"),
        lambda analysis: [
            proxy_tables.provider_table(_rows(analysis, "providers")), proxy_tables.leak_table(_rows(analysis, "leak")),
        ],
        lambda analysis: proxy_figures.leaks(
            _rows(analysis, "leak"), _rows(analysis, "proxies"), analysis["quants"]
        ),
    ),
    Outline(
        "regret", "What choosing by a proxy costs",
        "For every budget of file size: the score of the best file that fits minus the score of the one a proxy picks."
        " Its mean is given as a bracket of two estimates, one too low and one too high.",
        ("regret",),
        lambda analysis: [
            proxy_tables.regret_table(_rows(analysis, "regret")), proxy_tables.budget_table(_rows(analysis, "regret")),
        ],
        lambda analysis: proxy_figures.regrets(_rows(analysis, "regret")),
    ),
    Outline(
        "pareto", "Best for their size",
        "On the front are the files for which no file of at most their size does at least as well. The probability of"
        " being there comes from resampling the samples; it stands in the tooltips and in the table.",
        ("pareto", "front"),
        lambda analysis: [tables.front_table(_rows(analysis, "pareto"))],
        lambda analysis: proxy_figures.fronts(_rows(analysis, "pareto")),
        (Key("better", "● on the front"), Key("undecided", "■ behind the front")),
    ),
    Outline(
        "influence", "How much hangs on one quant",
        "ρ with each quant left out. A flag marks a quant without which |ρ| moves by more than .2 or ρ changes its sign.",
        ("influence",),
        lambda analysis: [
            proxy_tables.influence_table(
                sorted(_rows(analysis, "influence"), key=lambda row: (not row["flag"], -abs(row["change"] or 0)))
            )
        ],
    ),
    Outline(
        "disagreement", "Do the tasks agree with each other",
        "Rank agreement of two tasks over the quants beside the most that their noise allows: only below the lower end"
        " of that ceiling do the tasks themselves differ.",
        ("disagreement", "task_disagreement", "tasks"),
        lambda analysis: [proxy_tables.disagreement_table(_rows(analysis, "task_disagreement"))],
    ),
)  # fmt: skip

SIGNALS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "task": ("Task", task_name),
    "subset": ("Quants", proxy_figures.subset_name),
}
"""What a reader chooses by the parameters of the figures, and how the values read."""

HEADLINES = ("verdict", "summary", "noise-floor", "quant", "proxy")
"""The claims that stand before the sections, with those that no section asks for."""


def sections(analysis: Row) -> list[Section]:
    """Return the sections that have something to show."""
    filled = (_section(outline, analysis) for outline in OUTLINES)
    return [section for section in filled if not section.empty]


def findings(claims: Sequence[Row], words: Iterable[str]) -> tuple[Finding, ...]:
    """Return the claims whose id begins with one of the words."""
    wanted = set(words)
    return tuple(_finding(claim) for claim in claims if word_of(claim) in wanted)


def further(claims: Sequence[Row]) -> tuple[Finding, ...]:
    """Return the claims that neither the head of the page nor a section asks for."""
    known = {word for outline in OUTLINES for word in outline.claims} | set(HEADLINES)
    return findings(claims, {word_of(claim) for claim in claims} - known)


def word_of(claim: Row) -> str:
    """Return the word of a claim's id before its first colon."""
    return str(claim["id"]).partition(":")[0]


def _finding(claim: Row) -> Finding:
    label = str(claim.get("verdict") or claim["status"])
    return Finding(claim["id"], claim["text"], label, MARKS.get(label, "○"), TONES.get(label, label))


def _section(outline: Outline, analysis: Row) -> Section:
    drawn = tuple(outline.figures(analysis))
    return Section(
        outline.identity,
        outline.heading,
        outline.lead,
        outline.keys if drawn else (),
        tuple(_selects(drawn, analysis)),
        _groups(drawn),
        outline.grouped_by,
        findings(_rows(analysis, "claims"), outline.claims),
        drawn,
        tuple(table for table in outline.tables(analysis) if table.rows),
    )


def _groups(drawn: Sequence[Figure]) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(figure.group for figure in drawn if figure.group))
    return groups if len(groups) > 1 else ()


def _selects(drawn: Sequence[Figure], analysis: Row) -> Iterable[Select]:
    """Yield a select for each parameter that the figures have more than one value for; tasks in the page's order."""
    tasks = ordered([row["task"] for row in (*analysis["scores"], *analysis["tasks"])], MEAN_OF_TASKS)
    for signal, (label, written) in SIGNALS.items():
        values = dict.fromkeys(value for figure in drawn for value in figure.choices.get(signal, ()))
        known = [value for value in tasks if value in values]
        if len(values) > 1:
            options = dict.fromkeys([*known, *values])
            yield Select(label, signal, tuple((value, written(value)) for value in options))
