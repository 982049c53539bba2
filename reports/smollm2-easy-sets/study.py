"""Write output/: what each quant of the ladder keeps of five published sets, and the reference beside published figures."""  # noqa: INP001

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from evalsuite.analysis import analyse
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.importer.read import read_files
from evalsuite.numbers import ABSENT, decimals, gigabytes, p_value, percent, points
from evalsuite.report.cells import MARKS
from evalsuite.report.chart import by, data
from evalsuite.report.publish import publish_study
from evalsuite.stats.proportion import wilson

HERE = Path(__file__).parent

SETS = {
    "hellaswag": "HellaSwag", "arc_easy": "ARC-easy", "arc_challenge": "ARC-challenge", "lambada": "LAMBADA",
    "blimp": "BLiMP", MEAN_OF_TASKS: "mean",
}  # fmt: skip

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A score of the model's own weights on whole sets, in per cent; `metric` divides by the letters or does not."""

    tasks: tuple[str, ...]
    metric: str
    lm_eval: str
    card: str

    @property
    def title(self) -> str:
        """Name the set, or the sets whose mean it is."""
        return " and ".join(SETS[task] for task in self.tasks)


PUBLISHED = (
    Published(("hellaswag",), "acc_norm", "42.99", "40.9"),
    Published(("arc_easy",), "acc", "54.12", ABSENT),
    Published(("arc_challenge",), "acc_norm", "27.73", ABSENT),
    Published(("arc_easy", "arc_challenge"), "acc_norm", ABSENT, "37.3"),
)


def write(folder: Path) -> None:
    """Write tables/*.md and figures/*.svg into a folder."""
    analysis = analyse(read_files([HERE / "inputs"]))
    undivided = pd.read_csv(HERE / "inputs" / "metrics.csv").query("part == 'choice'").set_index("task")
    tables = {
        "scores": scores(analysis), "published": published(analysis, undivided), "decidable": decidable(analysis),
        "findings": findings(analysis),
    }  # fmt: skip
    publish_study(tables, {"deltas": deltas_chart(analysis)}, folder)


def scores(analysis: Row) -> pd.DataFrame:
    """Return a row a quant: size, proxies, and each score with its difference from the reference and the verdict."""
    found = {(row["quant"], row["task"]): row["value"] for row in analysis["scores"]}
    pairs = {(row["b"], row["task"]): row for row in against_reference(analysis)}
    proxies = {row["quant"]: row for row in analysis["proxies"]}
    rows = []
    for quant in analysis["quants"]:
        name = quant["quant"]
        row = {
            "quant": name, "GB": gigabytes(quant["size_bytes"]), "bits a weight": decimals(quant["bpw"], 3),
            "KLD": decimals(proxies[name]["kld_mean"], 2), "PPL": decimals(proxies[name]["ppl"], 3),
        }  # fmt: skip
        for task, title in SETS.items():
            pair = pairs.get((name, task))
            delta = "" if pair is None else f" ({points(pair['delta'])} {MARKS[pair['verdict']]})"
            row[title] = percent(found[name, task]) + delta
        rows.append(row)
    return pd.DataFrame(rows)


def against_reference(analysis: Row) -> Sequence[Row]:
    """Return the comparisons of a quant with the reference."""
    return [row for row in analysis["pairs"] if row["a"] == analysis["header"]["reference"]]


def published(analysis: Row, undivided: pd.DataFrame) -> pd.DataFrame:
    """Return a row a published figure: the reference's score in its metric, and what others print."""
    reference = analysis["header"]["reference"]
    own = {row["task"]: row for row in analysis["scores"] if row["quant"] == reference}
    rows = []
    for figure in PUBLISHED:
        estimates = []
        for task in figure.tasks:
            n = own[task]["n"]
            value = own[task]["value"]
            if figure.metric == "acc":
                value = float(undivided.loc[task, reference].removesuffix(" %")) / 100
            estimates.append(wilson(round(value * n), n))
        value = sum(each.value for each in estimates) / len(estimates)
        low = value - hypot(*(each.value - each.low for each in estimates)) / len(estimates)
        high = value + hypot(*(each.high - each.value for each in estimates)) / len(estimates)
        rows.append({
            "set": figure.title, "metric": figure.metric, "n": " + ".join(str(each.n) for each in estimates),
            "F16 here": percent(value), "95 % interval": f"{percent(low)} to {percent(high)}",
            "lm-eval, whole set": figure.lm_eval, "model card": figure.card,
        })  # fmt: skip
    return pd.DataFrame(rows)


def decidable(analysis: Row) -> pd.DataFrame:
    """Return a row a set: how small a difference it finds, and how many pairs of quants it tells apart."""
    rows = {row["task"]: row for row in analysis["header"]["decidability"]}
    return pd.DataFrame([
        {"set": title, "n": f"{row['n']:,}", "smallest difference, points": decimals(row["mde"] * 100, 2),
         "with the correction": decimals(row["mde_family"] * 100, 2), "reliability": decimals(row["reliability"], 2),
         "pairs told apart": f"{row['separable']} of {row['pairs']}", "all quants alike, p": p_value(row["omnibus_p"])}
        for task, title in SETS.items() for row in [rows[task]]
    ])  # fmt: skip


def findings(analysis: Row) -> pd.DataFrame:
    """Return what the analysis says of the quants and of choosing by a proxy."""
    shown = ("verdict", "summary", "quant:", "proxy:kld_mean", "proxy:ppl:", "proxy:size")
    return pd.DataFrame([
        {"finding": row["text"], "status": row["status"]}
        for row in analysis["claims"] if row["id"].startswith(shown)
    ])  # fmt: skip


def deltas_chart(analysis: Row) -> alt.FacetChart:
    """Return a panel a set: what each quant loses against the reference, with its interval."""
    quants = [row["quant"] for row in analysis["quants"]]
    values = data([
        {"quant": row["b"], "set": SETS[row["task"]], "verdict": row["verdict"]}
        | {side: row[side] * 100 for side in ("delta", "low", "high")}
        for row in against_reference(analysis)
    ])  # fmt: skip
    base = alt.Chart(values).encode(y=alt.Y("quant:N", sort=quants, title=None))
    looks = by("verdict:N", ["equivalent", "undecided", "worse"])
    across = alt.X("delta:Q", title="points against F16", scale=alt.Scale(nice=False))
    return (
        alt.layer(
            alt.Chart(values).mark_rule(color="#888", strokeDash=[3, 3]).encode(x=alt.datum(0)),
            base.mark_rule().encode(x="low:Q", x2="high:Q", color=looks["color"]),
            base.mark_point(filled=True, size=70, opacity=1).encode(x=across, **looks),
        )
        .properties(width=210, height=150)
        .facet(facet=alt.Facet("set:N", sort=list(SETS.values()), title=None), columns=3)
    )


if __name__ == "__main__":
    write(HERE / "output")
