"""Write output/: what the importer says of both tables, and what the published numbers of questions can show."""  # noqa: INP001

from math import exp
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from evalsuite.analysis import analyse, analysis_json
from evalsuite.errors import SpecError
from evalsuite.importer.read import read_files
from evalsuite.numbers import width
from evalsuite.report.chart import GREY, by, data
from evalsuite.report.publish import WIDTH, publish_study
from evalsuite.stats.paired import mde
from evalsuite.tables import Tables

HERE = Path(__file__).parent
SHARES = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40)
"""Shares of questions that change between two quants, from nearly equal files to very different ones."""


def write(folder: Path) -> None:
    """Write analysis.json, refusal.txt, tables/*.md and figures/mde.svg into a folder."""
    corrected = read_files([HERE / "inputs" / "claim.csv"])
    samples = pd.read_csv(HERE / "inputs" / "samples.csv")
    tables = {"proxies": proxies(corrected), "findings": findings(corrected), "mde": assumed(samples),
              "shares": at_shares(samples)}  # fmt: skip
    publish_study(tables, {"mde": mde_chart(samples)}, folder)
    (folder / "analysis.json").write_text(analysis_json(analyse(corrected)), "utf-8")
    (folder / "refusal.txt").write_text(f"{refusal()}\n", "utf-8")


def refusal() -> str:
    """Return what the importer says of the table as it was printed."""
    try:
        read_files([HERE / "inputs" / "as_printed.csv"])
    except SpecError as error:
        return str(error)
    raise AssertionError("a table with swapped columns was read")


def findings(tables: Tables) -> pd.DataFrame:
    """Return what the importer notes on the table that holds both readings."""
    return pd.DataFrame(
        [
            {"quant": found["quant"] or "–", "column": found["column"], "rule": found["rule"], "detail": found["detail"]}
            for found in tables.header["import"]
        ]
    )  # fmt: skip


def proxies(tables: Tables) -> pd.DataFrame:
    """Return the corrected values, and the reference's perplexity if ln of the PPL ratio were the mean KLD."""
    rows = tables.proxies.sort_values("kld_mean")
    return pd.DataFrame({
        "quant": rows["quant"], "PPL": rows["ppl"].map("{:.4f}".format), "mean KLD": rows["kld_mean"].map("{:.4f}".format),
        "PPL × exp(−KLD)": [f"{ppl * exp(-kld):.2f}" for ppl, kld in zip(rows["ppl"], rows["kld_mean"], strict=True)],
    })  # fmt: skip


def assumed(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest difference each task finds at its assumed discordance, alone and as one of four tests."""
    count = len(samples)
    rows = [(task.task, task.questions, task.discordance) for task in samples.itertuples()]
    asked = int(samples["questions"].sum())
    rows.append(("all as one task", asked, float((samples["questions"] * samples["discordance"]).sum() / asked)))
    return pd.DataFrame([
        {"task": task, "questions": str(n), "assumed discordance": f"{100 * share:.1f} %",
         "MDE, points": width(mde(n, share)),
         f"MDE as one of {count} tests": width(mde(n, share, 0.05 / count)) if task in set(samples["task"]) else "–"}
        for task, n, share in rows
    ])  # fmt: skip


def at_shares(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest difference of each task (points) at other discordances."""
    columns = {f"{100 * share:.0f} %": [width(mde(n, share)) for n in samples["questions"]] for share in SHARES}
    return pd.DataFrame({"task": samples["task"], "questions": samples["questions"].astype(str)} | columns)


def mde_chart(samples: pd.DataFrame) -> alt.LayerChart:
    """Return discordance across and the smallest difference found upwards: a curve a number of questions."""
    sizes = samples.groupby("questions", sort=False)["task"].agg(", ".join)
    labels = {n: f"{tasks}: {n}" for n, tasks in sizes.items()}
    curves = [
        {"discordance": 100 * share, "mde": 100 * mde(n, share), "questions": label}
        for n, label in labels.items() for share in np.linspace(0.02, 0.4, 77)
    ]  # fmt: skip
    dots = [
        {"discordance": 100 * row.discordance, "mde": 100 * mde(row.questions, row.discordance), "task": row.task,
         "questions": labels[row.questions]}
        for row in samples.itertuples()
    ]  # fmt: skip
    across = alt.X("discordance:Q", title="questions whose outcome differs between the two quants, %")
    upwards = alt.Y("mde:Q", title="smallest difference found with 80 % power, points")
    looks = by("questions:N", list(labels.values()))
    of_dots = alt.Chart(data(dots)).encode(x=across, y=upwards)
    return alt.layer(
        alt.Chart(data(curves)).mark_line().encode(x=across, y=upwards, color=looks["color"]),
        of_dots.mark_point(filled=True, size=90, opacity=1).encode(**looks),
        of_dots.mark_text(align="left", dx=8, dy=12, fontSize=11, color=GREY).encode(text="task:N"),
    ).properties(width=WIDTH, height=340)  # fmt: skip


if __name__ == "__main__":
    write(HERE / "output")
