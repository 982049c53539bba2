"""Write output/: what calibration did on which text, and what each group of tensors costs per bit saved."""  # noqa: INP001

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t, ttest_1samp

from evalsuite.analysis import analyse
from evalsuite.analysis.items import TaskScores, task_scores
from evalsuite.analysis.pairs import MEAN_OF_TASKS, pair_rows
from evalsuite.importer.read import read_files
from evalsuite.numbers import coefficient, decimals, interval, p_value, points
from evalsuite.report.chart import by, data
from evalsuite.report.publish import WIDTH, publish_study
from evalsuite.stats.estimate import Estimate
from evalsuite.stats.mean import clustered_mean, weighted_values
from evalsuite.stats.multiple import holm
from evalsuite.tables import Tables

HERE = Path(__file__).parent

RECIPES = ("Q4_0", "IQ4_NL", "Q2_K", "IQ3_S")
COMPARISONS = {"wiki for none": ("none", "wiki"), "chat for none": ("none", "chat"), "chat for wiki": ("wiki", "chat")}
"""Which calibration takes the place of which."""

TEXTS = {"wiki": "encyclopaedia", "code": "code", "task:tool_choice": "tool calls", "task:extraction": "JSON answers"}
BASE = "Q8_0"
"""The quant of which one group of tensors is made smaller."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """`kld[quant, corpus]` holds a KLD (nats) a chunk or conversation, whose mean and error are those over all tokens.

    `bits` are the bits per weight.
    """

    tables: Tables
    kld: Mapping[tuple[str, str], FloatArray]
    tasks: Sequence[TaskScores]
    bits: Mapping[str, float]

    def made_smaller(self) -> list[str]:
        """Return the quants of the second half, those of a group together, the wider first."""
        quants = self.tables.quants
        names = quants.loc[(quants["provider"] == "types") & (quants["quant"] != BASE), "quant"]
        return sorted(names, key=lambda name: (name.split("-")[0], -self.bits[name]))


def write(folder: Path) -> None:
    """Write tables/*.md and figures/*.svg into a folder."""
    measured = measured_of(read_files([HERE / "inputs"]))
    analysis = analyse(of_provider(measured.tables, "imatrix"))
    compared = pair_rows(measured.tasks, [
        (f"{recipe}-{old}", f"{recipe}-{new}", "quant") for recipe in RECIPES for old, new in COMPARISONS.values()
    ])  # fmt: skip
    damage = pair_rows(measured.tasks, [(BASE, quant, "quant") for quant in measured.made_smaller()])
    tables = {
        "imatrix": imatrix(measured), "calibration": calibration(measured), "home": home(measured),
        "scores": score_changes(compared), "agreement": agreement(analysis), "findings": findings(analysis),
        "types": types(measured, damage), "decided": decided(measured, damage),
    }  # fmt: skip
    publish_study(tables, {"calibration": calibration_chart(measured), "types": types_chart(measured)}, folder)


def measured_of(tables: Tables) -> Measured:
    """Arrange what was measured."""
    kld = {
        (str(quant), str(corpus)): weighted_values(
            *rows.sort_values("chunk")[["kld", "n_tokens"]].to_numpy(dtype=float).T
        )
        for (quant, corpus), rows in tables.chunks.groupby(["quant", "corpus"])
    }
    quants = list(tables.quants["quant"])
    planned = tables.tasks.set_index("task")["n_planned"]
    tasks = [task_scores(tables.items, task, quants, planned[task]) for task in planned.index]
    return Measured(tables, kld, tasks, dict(zip(quants, tables.quants["bpw"], strict=True)))


def of_provider(tables: Tables, provider: str) -> Tables:
    """Return the tables of one half of the study, with the reference and its repetition."""
    quants = tables.quants
    wanted = set(quants.loc[(quants["provider"] == provider) | quants["provider"].isna(), "quant"])
    kept = {
        name: frame[frame["quant"].isin(wanted)].reset_index(drop=True)
        for name in ("quants", "items", "proxies", "chunks") for frame in [getattr(tables, name)]
    }  # fmt: skip
    return replace(tables, **kept)


def log_ratio(over: FloatArray, under: FloatArray) -> Estimate:
    """Return ln of the ratio of two means over the same chunks, with a t interval by the delta method."""
    influence = over / over.mean() - under / under.mean()
    spread = float(np.std(influence, ddof=1)) / sqrt(len(influence))
    half = float(t.ppf(0.975, len(influence) - 1)) * spread
    value = log(over.mean() / under.mean())
    return Estimate(value, value - half, value + half, len(influence))


def kld_ratio(measured: Measured, recipe: str, comparison: str, corpus: str) -> Estimate:
    """Return ln of the ratio of KLDs when one calibration takes the place of another."""
    old, new = (measured.kld[f"{recipe}-{calibrated}", corpus] for calibrated in COMPARISONS[comparison])
    return log_ratio(new, old)


def ratio_text(estimate: Estimate) -> str:
    """Write a ratio of means with its interval."""
    low, value, high = (f"{exp(each):.2f}" for each in (estimate.low, estimate.value, estimate.high))
    return f"{value} [{low}, {high}]"


def imatrix(measured: Measured) -> pd.DataFrame:
    """Return a row a quant of the first half: perplexity, and the KLD on each text with the half-width of its interval."""
    ppl = measured.tables.proxies.set_index(["quant", "corpus"])["ppl"]
    rows = []
    for recipe in RECIPES:
        for calibrated in ("none", "wiki", "chat"):
            quant = f"{recipe}-{calibrated}"
            klds = {
                f"KLD, {name}": f"{decimals(mean.value, 3)} ± {decimals(mean.high - mean.value, 2)}"
                for corpus, name in TEXTS.items()
                for mean in [clustered_mean(measured.kld[quant, corpus])]
            }
            rows.append({
                "recipe": recipe, "imatrix": calibrated, "bits a weight": f"{measured.bits[quant]:.2f}",
                "PPL, encyclopaedia": decimals(ppl[quant, "wiki"], 4), **klds,
            })  # fmt: skip
    return pd.DataFrame(rows)


def calibration(measured: Measured) -> pd.DataFrame:
    """Return a row a recipe and comparison: the ratio of the KLDs on each text; below 1 the new calibration is better."""
    return pd.DataFrame([
        {"recipe": recipe, "imatrix": comparison}
        | {name: ratio_text(kld_ratio(measured, recipe, comparison, corpus)) for corpus, name in TEXTS.items()}
        for recipe in RECIPES for comparison in COMPARISONS
    ])  # fmt: skip


def home(measured: Measured) -> pd.DataFrame:
    """Return a row a recipe: what chat for wiki does to tool calls, over what it does to the encyclopaedia."""
    rows = []
    for recipe in RECIPES:
        away, at_home = (
            kld_ratio(measured, recipe, "chat for wiki", corpus) for corpus in ("wiki", "task:tool_choice")
        )
        value = at_home.value - away.value
        # Two texts, so their errors are independent.
        half = sqrt((at_home.high - at_home.value) ** 2 + (away.high - away.value) ** 2)
        rows.append({
            "recipe": recipe, "encyclopaedia": ratio_text(away), "tool calls": ratio_text(at_home),
            "tool calls over encyclopaedia": ratio_text(Estimate(value, value - half, value + half, at_home.n)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def score_changes(compared: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row a recipe and comparison: the change of the mean of the tasks, and of the tasks that a test decides."""
    names = {pair: name for name, pair in COMPARISONS.items()}
    rows = []
    for row in of_task(compared, MEAN_OF_TASKS):
        (recipe, old), (_, new) = (row[side].rsplit("-", 1) for side in ("a", "b"))
        of_pair = [each for each in compared if (each["a"], each["b"]) == (row["a"], row["b"])]
        shown = [
            f"{each['task']} {points(each['delta'])}" for each in of_pair
            if each["task"] != MEAN_OF_TASKS and each["verdict"] in {"worse", "better"}
        ]  # fmt: skip
        rows.append({
            "recipe": recipe, "imatrix": names[old, new],
            "mean of tasks, points": f"{points(row['delta'])} {interval(row['low'], row['high'])}",
            "Holm p": p_value(row["p_holm"]), "decided tasks": ", ".join(shown) or "none",
        })  # fmt: skip
    return pd.DataFrame(rows)


def of_task(rows: Iterable[Mapping[str, Any]], task: str) -> list[Mapping[str, Any]]:
    """Return the rows of one task."""
    return [row for row in rows if row["task"] == task]


def agreement(analysis: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a proxy and text: its rank correlation with the mean of the tasks over the quants of the first half."""
    rows = [
        row for row in of_task(analysis["correlations"], MEAN_OF_TASKS)
        if (row["method"], row["subset"]) == ("spearman", "all") and row["proxy"] in {"ppl", "kld_mean", "same_top_p"}
    ]  # fmt: skip
    names = {"ppl": "PPL", "kld_mean": "mean KLD", "same_top_p": "same top token"}
    return pd.DataFrame([
        {"proxy": names[row["proxy"]], "text": TEXTS.get(row["corpus"], "–"), "Spearman ρ": coefficient(row["rho"]),
         "95 % interval": f"[{coefficient(row['low'])}, {coefficient(row['high'])}]", "ceiling": coefficient(row["ceiling"]),
         "n": str(row["n"])}
        for row in rows
    ])  # fmt: skip


def findings(analysis: Mapping[str, Any]) -> pd.DataFrame:
    """Return what the analysis of the first half says of choosing by a proxy, and of a proxy near the reference."""
    shown = ("verdict", "summary", "noise-floor", "range:kld_mean", "range:ppl:")
    return pd.DataFrame([
        {"finding": row["text"], "status": row["status"]}
        for row in analysis["claims"] if row["id"].startswith(shown)
    ])  # fmt: skip


def added(measured: Measured, quant: str, corpus: str) -> FloatArray:
    """Return the KLD that a smaller group adds to that of the base, a value a chunk."""
    return measured.kld[quant, corpus] - measured.kld[BASE, corpus]


def saved(measured: Measured, quant: str) -> float:
    """Return the bits saved, a weight of the whole model."""
    return measured.bits[BASE] - measured.bits[quant]


def types(measured: Measured, damage: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row a quant of the second half: what each bit a weight that it saves costs, with its rank among all."""
    mean = {row["b"]: row for row in of_task(damage, MEAN_OF_TASKS)}
    quants = measured.made_smaller()
    cost = pd.DataFrame(
        {name: {q: added(measured, q, corpus).mean() for q in quants} for corpus, name in TEXTS.items()}
        | {"tasks": {q: -mean[q]["delta"] for q in quants}}
    )  # fmt: skip
    ranks = cost.div(pd.Series({q: saved(measured, q) for q in quants}), axis="index").rank()
    rows = []
    for quant in quants:
        bits, row = saved(measured, quant), mean[quant]
        klds = {}
        for corpus in ("wiki", "task:tool_choice"):
            each = clustered_mean(added(measured, quant, corpus) / bits)
            klds[f"KLD a bit, {TEXTS[corpus]}"] = f"{decimals(each.value, 3)} ± {decimals(each.high - each.value, 2)}"
        group, _, kind = quant.rpartition("-")
        rows.append({
            "tensors": group, "type": kind, "bits saved": f"{bits:.3f}", **klds,
            "points lost a bit": f"{points(-row['delta'] / bits)} {interval(-row['high'] / bits, -row['low'] / bits)}",
            "ranks: " + ", ".join(ranks): " ".join(f"{rank:.0f}" for rank in ranks.loc[quant]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def decided(measured: Measured, damage: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row a measure: how many of all pairs of the second half it tells apart by their cost a bit."""
    quants = measured.made_smaller()
    pairs = list(combinations(quants, 2))
    rows = []
    for corpus, name in TEXTS.items():
        costs = {quant: added(measured, quant, corpus) / saved(measured, quant) for quant in quants}
        p = np.array([ttest_1samp(costs[one] - costs[other], 0).pvalue for one, other in pairs])
        rows.append(
            {"measure": f"KLD, {name}", "pairs": str(len(pairs)), "told apart": str(int((holm(p) < 0.05).sum()))}
        )
    mean = of_task(damage, MEAN_OF_TASKS)
    told = sum(row["verdict"] in {"worse", "better"} for row in mean)
    rows.append({"measure": "mean of tasks, each quant against Q8_0", "pairs": str(len(mean)), "told apart": str(told)})
    return pd.DataFrame(rows)


def calibration_chart(measured: Measured) -> alt.FacetChart:
    """Return a panel a text: the KLD of each recipe with an imatrix, as a share of its KLD without one."""
    rows = []
    for recipe in RECIPES:
        for calibrated in ("wiki", "chat"):
            for corpus, name in TEXTS.items():
                ratio = kld_ratio(measured, recipe, f"{calibrated} for none", corpus)
                rows.append({
                    "recipe": recipe, "imatrix": calibrated, "text": name,
                    "ratio": exp(ratio.value), "low": exp(ratio.low), "high": exp(ratio.high),
                })  # fmt: skip
    base = alt.Chart(data(rows)).encode(
        x=alt.X("recipe:N", scale=alt.Scale(domain=list(RECIPES)), title=None), xOffset="imatrix:N"
    )
    ratio = alt.Y("ratio:Q", scale=alt.Scale(type="log", nice=False), title="KLD over that without an imatrix")
    looks = by("imatrix:N", ["wiki", "chat"], "imatrix from")
    return (
        alt.layer(
            base.mark_rule().encode(y=alt.Y("low:Q"), y2="high:Q", color=looks["color"]),
            base.mark_point(filled=True, size=70, opacity=1).encode(y=ratio, **looks),
        )
        .properties(width=150, height=240)
        .facet(column=alt.Column("text:N", sort=list(TEXTS.values()), title=None))
    )


def types_chart(measured: Measured) -> alt.LayerChart:
    """Return bits saved across and the KLD that is added upwards: a line a group of tensors, its types from left to right."""
    rows = []
    for quant in measured.made_smaller():
        group, _, kind = quant.rpartition("-")
        mean = clustered_mean(added(measured, quant, "wiki"))
        rows.append({
            "tensors": group, "type": kind, "bits": saved(measured, quant), "kld": mean.value, "low": mean.low,
            "high": mean.high,
        })  # fmt: skip
    base = alt.Chart(data(rows)).encode(x=alt.X("bits:Q", title="bits saved, a weight of the whole model"))
    upwards = alt.Y("kld:Q", scale=alt.Scale(type="log", nice=False), title="KLD added on the encyclopaedia, nats")
    looks = by("tensors:N", sorted({row["tensors"] for row in rows}))
    return alt.layer(
        base.mark_line(opacity=0.5).encode(y=upwards, color=looks["color"]),
        base.mark_rule().encode(y="low:Q", y2="high:Q", color=looks["color"]),
        base.mark_point(filled=True, size=80, opacity=1).encode(y=upwards, **looks),
        base.mark_text(align="left", dx=8, dy=4, fontSize=11).encode(y=upwards, text="type:N"),
    ).properties(width=WIDTH, height=380)  # fmt: skip


if __name__ == "__main__":
    write(HERE / "output")
